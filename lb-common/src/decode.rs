//! The frame decoder of both sides: Ethernet, at most one VLAN tag, IPv4 or IPv6, UDP.
//!
//! It gives one of three answers: a UDP datagram ([`Udp`]), something that is the kernel's business ([`NotOurs`]), or a
//! datagram that contradicts itself ([`Broken`]). Which address is a VIP is the caller's knowledge. Lengths come from
//! the IP and UDP headers, so the padding of short Ethernet frames is never taken for payload.
//!
//! Bytes are read through [`Bytes`], whose bounds check is the one that the BPF verifier wants to see; a slice does the
//! same with its own.

use core::mem::offset_of;

use network_types::{
    eth::{EthHdr, EtherType},
    ip::{IpProto, Ipv4Hdr, Ipv6Hdr},
    udp::UdpHdr,
    vlan::VlanHdr,
};

/// A frame that can be read at an offset.
pub trait Bytes {
    /// The `N` bytes from `offset` on, or `None` when the frame ends before them.
    fn load<const N: usize>(&self, offset: usize) -> Option<[u8; N]>;

    /// Length of the frame in bytes, as received: trailing padding included.
    fn len(&self) -> usize;

    /// Whether the frame has no byte at all.
    #[inline(always)]
    fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

impl Bytes for [u8] {
    #[inline(always)]
    fn load<const N: usize>(&self, offset: usize) -> Option<[u8; N]> {
        self.get(offset..)?.first_chunk().copied()
    }

    #[inline(always)]
    fn len(&self) -> usize {
        <[u8]>::len(self)
    }
}

/// What a frame is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Decoded {
    /// A whole UDP datagram with sound lengths.
    Udp(Udp),
    /// Nothing that this program handles.
    NotOurs(NotOurs),
    /// UDP, or near enough, but it contradicts itself.
    Broken(Broken),
}

/// A UDP datagram in a frame. Offsets are from the first byte of the frame; ports are in host order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Udp {
    /// Tag control information (priority, DEI, VLAN id) of the tag, if there is one.
    pub vlan: Option<u16>,
    /// Source address, IPv4 mapped into IPv6 (RFC 4291 §2.5.5.2).
    pub source: [u8; 16],
    /// Destination address, IPv4 mapped into IPv6.
    pub destination: [u8; 16],
    /// Whether the IP header is one of IPv6.
    pub is_ipv6: bool,
    /// Source port, never 0.
    pub source_port: u16,
    /// Destination port.
    pub destination_port: u16,
    /// Where the IP header starts.
    pub l3_offset: usize,
    /// Where the UDP header starts, behind IPv4 options if there are any.
    pub udp_offset: usize,
    /// Where the payload starts.
    pub payload_offset: usize,
    /// Length of the payload by the UDP header; `payload_offset + payload_len` is within the frame.
    pub payload_len: usize,
    /// Type of service or traffic class: DSCP and ECN.
    pub traffic_class: u8,
    /// The UDP checksum as received; 0 (not computed) with IPv4 only.
    pub udp_checksum: u16,
}

/// Why a frame is the kernel's business.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NotOurs {
    /// Neither IPv4 nor IPv6: ARP, LLDP, an 802.3 length.
    EtherType,
    /// More than one VLAN tag, or a service tag (802.1ad).
    QinQ,
    /// Not UDP: TCP, ICMP, OSPF.
    Protocol,
    /// A fragment of an IPv4 or IPv6 datagram, the first one too: the kernel reassembles.
    Fragment,
    /// IPv6 extension headers other than the fragment header.
    ExtensionHeader,
    /// A source that may not appear on a wire (RFC 1122 §3.2.1.3, RFC 4291 §2.5): unspecified, loopback, multicast,
    /// broadcast, reserved, IPv4-mapped, or the same as the destination. The kernel has the rules for these.
    MartianSource,
}

/// A datagram that contradicts itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Broken {
    /// What is wrong.
    pub fault: Fault,
    /// Where it was sent to; `None` when it is cut or wrong before the ports.
    pub destination: Option<Endpoint>,
}

/// An address and a UDP port, as [`Udp::destination`] and [`Udp::destination_port`] have them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Endpoint {
    /// Address, IPv4 mapped into IPv6.
    pub address: [u8; 16],
    /// UDP port in host order.
    pub port: u16,
}

/// What is wrong with a [`Broken`] datagram.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// The frame ends inside the Ethernet header.
    TruncatedEthernet,
    /// The frame ends inside the VLAN tag.
    TruncatedVlan,
    /// The frame ends inside the IP header.
    TruncatedIp,
    /// The frame is shorter than the IP header says.
    Truncated,
    /// The version in the IP header is not the one that the EtherType promises.
    IpVersion,
    /// An IPv4 header length below 20 bytes.
    IpHeaderLength,
    /// An IP length that leaves no room for a UDP header.
    IpTotalLength,
    /// The checksum of the IPv4 header is wrong.
    IpChecksum,
    /// A UDP length below 8, or beyond the end of the IP packet.
    UdpLength,
    /// Source port 0: nobody to answer to (RFC 768 allows it for datagrams that want no answer).
    SourcePortZero,
    /// No UDP checksum over IPv6 (RFC 8200 §8.1 forbids it).
    UdpChecksumMissing,
}

/// EtherTypes as they are on the wire; network-types keeps them in the host's memory order.
const IPV4: u16 = u16::from_be(EtherType::Ipv4 as u16);
const IPV6: u16 = u16::from_be(EtherType::Ipv6 as u16);
const VLAN: u16 = u16::from_be(EtherType::Ieee8021q as u16);
const SERVICE_VLAN: u16 = u16::from_be(EtherType::Ieee8021ad as u16);

const UDP: u8 = IpProto::Udp as u8;

/// First twelve bytes of an IPv4-mapped address.
const MAPPED: [u8; 12] = [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff];

/// Decodes one Ethernet frame.
///
/// Never reads beyond the frame, never loops over more than the ten words of IPv4 options.
#[inline(always)]
pub fn decode<B: Bytes + ?Sized>(frame: &B) -> Decoded {
    let Some(ethernet) = frame.load::<{ EthHdr::LEN }>(0) else {
        return broken(Fault::TruncatedEthernet, None);
    };
    let mut ether_type = be16(&ethernet, offset_of!(EthHdr, ether_type));
    let mut vlan = None;
    if ether_type == VLAN {
        let Some(tag) = frame.load::<{ VlanHdr::LEN }>(EthHdr::LEN) else {
            return broken(Fault::TruncatedVlan, None);
        };
        vlan = Some(be16(&tag, offset_of!(VlanHdr, tci)));
        ether_type = be16(&tag, offset_of!(VlanHdr, ether_type));
        if ether_type == VLAN {
            return Decoded::NotOurs(NotOurs::QinQ);
        }
    }
    match ether_type {
        IPV4 => decode_ipv4(frame, vlan),
        IPV6 => decode_ipv6(frame, vlan),
        SERVICE_VLAN => Decoded::NotOurs(NotOurs::QinQ),
        _ => Decoded::NotOurs(NotOurs::EtherType),
    }
}

/// The part of the IP header that the UDP layer needs.
struct Ip {
    vlan: Option<u16>,
    source: [u8; 16],
    destination: [u8; 16],
    is_ipv6: bool,
    l3_offset: usize,
    udp_offset: usize,
    /// Bytes from the UDP header to the end of the IP packet, by the IP header.
    udp_room: usize,
    traffic_class: u8,
    /// What the IP header alone shows to be wrong.
    fault: Option<Fault>,
}

#[inline(always)]
fn decode_ipv4<B: Bytes + ?Sized>(frame: &B, vlan: Option<u16>) -> Decoded {
    let l3_offset = l3_offset(vlan);
    let Some(header) = frame.load::<{ Ipv4Hdr::LEN }>(l3_offset) else {
        return broken(Fault::TruncatedIp, None);
    };
    let version_and_length = header[offset_of!(Ipv4Hdr, vihl)];
    if version_and_length >> 4 != 4 {
        return broken(Fault::IpVersion, None);
    }
    if header[offset_of!(Ipv4Hdr, proto)] != UDP {
        return Decoded::NotOurs(NotOurs::Protocol);
    }
    // Flags are three bits (reserved, don't fragment, more fragments), the offset is thirteen (RFC 791 §3.1).
    if be16(&header, offset_of!(Ipv4Hdr, frags)) & 0x3fff != 0 {
        return Decoded::NotOurs(NotOurs::Fragment);
    }
    let header_len = usize::from(version_and_length & 0x0f) * 4;
    if header_len < Ipv4Hdr::LEN {
        return broken(Fault::IpHeaderLength, None);
    }
    let source: [u8; 4] = part(&header, offset_of!(Ipv4Hdr, src_addr));
    let destination: [u8; 4] = part(&header, offset_of!(Ipv4Hdr, dst_addr));
    if is_martian_ipv4(source) || source == destination {
        return Decoded::NotOurs(NotOurs::MartianSource);
    }
    // A sum that comes out as all ones does so in either byte order (RFC 1071 §2 (B)), so the words stay as they are.
    let mut sum = 0;
    let mut word = 0;
    while word < Ipv4Hdr::LEN {
        sum += ne16(&header, word);
        word += 2;
    }
    let mut option = Ipv4Hdr::LEN;
    while option < header_len {
        let Some(words) = frame.load::<4>(l3_offset + option) else {
            return broken(Fault::TruncatedIp, None);
        };
        sum += ne16(&words, 0) + ne16(&words, 2);
        option += 4;
    }
    let fault = if crate::checksum::fold(sum) == 0xffff {
        None
    } else {
        Some(Fault::IpChecksum)
    };
    let total_len = usize::from(be16(&header, offset_of!(Ipv4Hdr, tot_len)));
    decode_udp(
        frame,
        Ip {
            vlan,
            source: map_ipv4(source),
            destination: map_ipv4(destination),
            is_ipv6: false,
            l3_offset,
            udp_offset: l3_offset + header_len,
            udp_room: total_len.saturating_sub(header_len),
            traffic_class: header[offset_of!(Ipv4Hdr, tos)],
            fault,
        },
    )
}

#[inline(always)]
fn decode_ipv6<B: Bytes + ?Sized>(frame: &B, vlan: Option<u16>) -> Decoded {
    let l3_offset = l3_offset(vlan);
    let Some(header) = frame.load::<{ Ipv6Hdr::LEN }>(l3_offset) else {
        return broken(Fault::TruncatedIp, None);
    };
    let [first, second] = part(&header, 0);
    if first >> 4 != 6 {
        return broken(Fault::IpVersion, None);
    }
    const FRAGMENT: u8 = IpProto::Ipv6Frag as u8;
    // RFC 8200 §4.1, RFC 7045 §2; "no next header" carries nothing and is left to the kernel like the others.
    const HOP_BY_HOP: u8 = IpProto::HopOpt as u8;
    const ROUTING: u8 = IpProto::Ipv6Route as u8;
    const ESP: u8 = IpProto::Esp as u8;
    const AUTHENTICATION: u8 = IpProto::Ah as u8;
    const NONE: u8 = IpProto::Ipv6NoNxt as u8;
    const DESTINATION: u8 = IpProto::Ipv6Opts as u8;
    const MOBILITY: u8 = IpProto::MobilityHeader as u8;
    const HIP: u8 = IpProto::Hip as u8;
    const SHIM6: u8 = IpProto::Shim6 as u8;
    match header[offset_of!(Ipv6Hdr, next_hdr)] {
        UDP => {}
        FRAGMENT => return Decoded::NotOurs(NotOurs::Fragment),
        HOP_BY_HOP | ROUTING | ESP | AUTHENTICATION | NONE | DESTINATION | MOBILITY | HIP
        | SHIM6 => return Decoded::NotOurs(NotOurs::ExtensionHeader),
        _ => return Decoded::NotOurs(NotOurs::Protocol),
    }
    let source: [u8; 16] = part(&header, offset_of!(Ipv6Hdr, src_addr));
    let destination: [u8; 16] = part(&header, offset_of!(Ipv6Hdr, dst_addr));
    // A mapped destination on the wire would read as a VIP of IPv4.
    if is_martian_ipv6(source) || is_mapped(destination) || source == destination {
        return Decoded::NotOurs(NotOurs::MartianSource);
    }
    decode_udp(
        frame,
        Ip {
            vlan,
            source,
            destination,
            is_ipv6: true,
            l3_offset,
            udp_offset: l3_offset + Ipv6Hdr::LEN,
            // 0 would be a jumbogram (RFC 2675), which needs a hop-by-hop header and has left above.
            udp_room: usize::from(be16(&header, offset_of!(Ipv6Hdr, payload_len))),
            traffic_class: (first << 4) | (second >> 4),
            fault: None,
        },
    )
}

#[inline(always)]
fn decode_udp<B: Bytes + ?Sized>(frame: &B, ip: Ip) -> Decoded {
    // The ports come first, so that a broken datagram can be told from one of somebody else. Bytes behind the end of
    // the IP packet are padding, not ports.
    const PORTS_LEN: usize = 4;
    let ports = if ip.udp_room >= PORTS_LEN {
        frame.load::<PORTS_LEN>(ip.udp_offset)
    } else {
        None
    };
    let Some(ports) = ports else {
        let fault = if ip.udp_room < UdpHdr::LEN {
            Fault::IpTotalLength
        } else {
            Fault::Truncated
        };
        return broken(fault, None);
    };
    let source_port = be16(&ports, offset_of!(UdpHdr, src));
    let destination_port = be16(&ports, offset_of!(UdpHdr, dst));
    let to = Some(Endpoint {
        address: ip.destination,
        port: destination_port,
    });
    if let Some(fault) = ip.fault {
        return broken(fault, to);
    }
    if ip.udp_room < UdpHdr::LEN {
        return broken(Fault::IpTotalLength, to);
    }
    if frame.len() < ip.udp_offset + ip.udp_room {
        return broken(Fault::Truncated, to);
    }
    let Some(rest) = frame.load::<{ UdpHdr::LEN - PORTS_LEN }>(ip.udp_offset + PORTS_LEN) else {
        return broken(Fault::Truncated, to);
    };
    let udp_len = usize::from(be16(&rest, offset_of!(UdpHdr, len) - PORTS_LEN));
    let udp_checksum = be16(&rest, offset_of!(UdpHdr, check) - PORTS_LEN);
    if udp_len < UdpHdr::LEN || udp_len > ip.udp_room {
        return broken(Fault::UdpLength, to);
    }
    if source_port == 0 {
        return broken(Fault::SourcePortZero, to);
    }
    if ip.is_ipv6 && udp_checksum == 0 {
        return broken(Fault::UdpChecksumMissing, to);
    }
    Decoded::Udp(Udp {
        vlan: ip.vlan,
        source: ip.source,
        destination: ip.destination,
        is_ipv6: ip.is_ipv6,
        source_port,
        destination_port,
        l3_offset: ip.l3_offset,
        udp_offset: ip.udp_offset,
        payload_offset: ip.udp_offset + UdpHdr::LEN,
        payload_len: udp_len - UdpHdr::LEN,
        traffic_class: ip.traffic_class,
        udp_checksum,
    })
}

/// An IPv4 address mapped into IPv6 (RFC 4291 §2.5.5.2).
#[inline(always)]
pub const fn map_ipv4(address: [u8; 4]) -> [u8; 16] {
    let [a, b, c, d] = address;
    [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff, a, b, c, d]
}

#[inline(always)]
fn l3_offset(vlan: Option<u16>) -> usize {
    match vlan {
        Some(_) => EthHdr::LEN + VlanHdr::LEN,
        None => EthHdr::LEN,
    }
}

#[inline(always)]
fn broken(fault: Fault, destination: Option<Endpoint>) -> Decoded {
    Decoded::Broken(Broken { fault, destination })
}

/// 0/8, 127/8, multicast, reserved and broadcast (RFC 1122 §3.2.1.3, RFC 1812 §5.3.7).
#[inline(always)]
fn is_martian_ipv4(source: [u8; 4]) -> bool {
    source[0] == 0 || source[0] == 127 || source[0] >= 224
}

/// Unspecified, loopback, multicast and IPv4-mapped (RFC 4291 §2.5.2, §2.5.3, §2.7).
#[inline(always)]
fn is_martian_ipv6(source: [u8; 16]) -> bool {
    let low = u128::from_be_bytes(source);
    low <= 1 || source[0] == 0xff || is_mapped(source)
}

#[inline(always)]
fn is_mapped(address: [u8; 16]) -> bool {
    part::<16, 12>(&address, 0) == MAPPED
}

/// The `M` bytes of a header from `at` on. `at` is a constant at every call, so the bound is checked by the compiler.
#[inline(always)]
fn part<const N: usize, const M: usize>(header: &[u8; N], at: usize) -> [u8; M] {
    let mut bytes = [0; M];
    let mut index = 0;
    while index < M {
        bytes[index] = header[at + index];
        index += 1;
    }
    bytes
}

/// The big-endian 16-bit field of a header at `at`.
#[inline(always)]
fn be16<const N: usize>(header: &[u8; N], at: usize) -> u16 {
    u16::from_be_bytes(part(header, at))
}

/// The 16-bit field of a header at `at` in the byte order of this machine, for a sum.
#[inline(always)]
fn ne16<const N: usize>(header: &[u8; N], at: usize) -> u32 {
    u32::from(u16::from_ne_bytes(part(header, at)))
}

#[cfg(test)]
#[path = "decode/tests.rs"]
mod tests;
