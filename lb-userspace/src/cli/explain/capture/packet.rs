//! From a captured packet to the UDP datagram in it: link layers, IP, fragments.

use std::{
    borrow::Cow,
    collections::HashMap,
    net::{IpAddr, SocketAddr},
};

use etherparse::{
    EtherType, IpFragOffset, IpNumber, Ipv6ExtensionSlice, LaxSlicedPacket, LinuxSllProtocolType,
    LinuxSllSlice, NetSlice, SlicedPacket, TransportSlice, UdpSlice, defrag::IpDefragBuf,
};

/// Link types of captures (tcpdump.org/linktypes.html), as far as SIP is met on them.
const NULL: u32 = 0;
const ETHERNET: u32 = 1;
const RAW: [u32; 5] = [12, 14, 101, 228, 229];
const LOOP: u32 = 108;
const LINUX_SLL: u32 = 113;
const LINUX_SLL2: u32 = 276;
/// Length of the cooked header of version 2.
const SLL2_LEN: usize = 20;

const PPPOE_SESSION: EtherType = EtherType(0x8864);
/// Length of a PPPoE header, and the protocols of PPP behind it.
const PPPOE_LEN: usize = 6;
const PPP_IP: [[u8; 2]; 2] = [[0x00, 0x21], [0x00, 0x57]];

/// Most IP headers in each other.
const MAX_TUNNELS: usize = 3;
/// Most datagrams that wait for fragments; the one that waits longest gives way.
const MAX_OPEN: usize = 256;

/// A UDP datagram.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Udp<'a> {
    pub source: SocketAddr,
    pub destination: SocketAddr,
    pub payload: Cow<'a, [u8]>,
}

/// What a packet is.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Seen<'a> {
    Udp(Udp<'a>),
    /// A piece of a datagram that is not whole yet, or never will be.
    Fragment,
    /// UDP, or a fragment, whose bytes are not all in the capture, or whose lengths contradict each other.
    Broken,
    /// Not IP, or not UDP.
    Other,
    /// A link type that is not read.
    UnknownLink,
}

/// Puts fragments together.
#[derive(Default)]
pub(super) struct Fragments {
    open: HashMap<FragmentKey, Pending>,
    seen: u64,
    /// Fragments of datagrams that were given up.
    lost: u64,
}

/// Fragments with the same of all belong together: source, destination, identification, protocol.
type FragmentKey = (IpAddr, IpAddr, u32, u8);

struct Pending {
    buffer: IpDefragBuf,
    since: u64,
    fragments: u64,
}

impl Fragments {
    /// Fragments of datagrams that never were whole.
    pub(super) fn lost(&self) -> u64 {
        let open = self.open.values().map(|pending| pending.fragments);
        self.lost + open.sum::<u64>()
    }

    /// Finds the UDP datagram in a packet.
    pub(super) fn read<'a>(&mut self, link: u32, bytes: &'a [u8]) -> Seen<'a> {
        let ip = match link {
            ETHERNET => LaxSlicedPacket::from_ethernet(bytes)
                .ok()
                .and_then(|packet| packet.ether_payload())
                .and_then(|payload| ip_of(payload.ether_type, payload.payload)),
            LINUX_SLL => LinuxSllSlice::from_slice(bytes).ok().and_then(|packet| {
                match packet.protocol_type() {
                    LinuxSllProtocolType::EtherType(kind) => ip_of(kind, packet.payload_slice()),
                    _ => None,
                }
            }),
            LINUX_SLL2 => bytes.split_at_checked(SLL2_LEN).and_then(|(head, rest)| {
                ip_of(EtherType(u16::from_be_bytes([head[0], head[1]])), rest)
            }),
            NULL | LOOP => bytes.get(4..),
            raw if RAW.contains(&raw) => Some(bytes),
            _ => return Seen::UnknownLink,
        };
        match ip {
            Some(ip) => self.ip(ip, 0),
            None => Seen::Other,
        }
    }

    fn ip<'a>(&mut self, bytes: &'a [u8], depth: usize) -> Seen<'a> {
        let Ok(packet) = SlicedPacket::from_ip(bytes) else {
            return broken_or_other(bytes);
        };
        let Some((source, destination)) = ends(&packet) else {
            return Seen::Other;
        };
        if packet.is_ip_payload_fragmented() {
            return self.fragment(&packet, source, destination);
        }
        match (&packet.transport, packet.ip_payload()) {
            (Some(TransportSlice::Udp(udp)), _) => Seen::Udp(Udp {
                source: SocketAddr::new(source, udp.source_port()),
                destination: SocketAddr::new(destination, udp.destination_port()),
                payload: Cow::Borrowed(udp.payload()),
            }),
            (None, Some(inner))
                if depth < MAX_TUNNELS
                    && matches!(inner.ip_number, IpNumber::IPV4 | IpNumber::IPV6) =>
            {
                self.ip(inner.payload, depth + 1)
            }
            _ => Seen::Other,
        }
    }

    fn fragment<'a>(
        &mut self,
        packet: &SlicedPacket<'a>,
        source: IpAddr,
        destination: IpAddr,
    ) -> Seen<'a> {
        let (Some((identification, offset, more)), Some(payload)) =
            (place(packet), packet.ip_payload())
        else {
            return Seen::Broken;
        };
        if payload.ip_number != IpNumber::UDP {
            return Seen::Other;
        }
        self.seen += 1;
        let key = (source, destination, identification, payload.ip_number.0);
        if !self.open.contains_key(&key) && self.open.len() >= MAX_OPEN {
            self.give_up_the_oldest();
        }
        let pending = self.open.entry(key).or_insert_with(|| Pending {
            buffer: IpDefragBuf::new(payload.ip_number, Vec::new(), Vec::new()),
            since: self.seen,
            fragments: 0,
        });
        pending.fragments += 1;
        let added = pending.buffer.add(offset, more, payload.payload);
        if added.is_ok() && !pending.buffer.is_complete() {
            return Seen::Fragment;
        }
        let Some(pending) = self.open.remove(&key) else {
            return Seen::Fragment;
        };
        let (datagram, _) = pending.buffer.take_bufs();
        match UdpSlice::from_slice(&datagram) {
            Ok(udp) if added.is_ok() => Seen::Udp(Udp {
                source: SocketAddr::new(source, udp.source_port()),
                destination: SocketAddr::new(destination, udp.destination_port()),
                payload: Cow::Owned(udp.payload().to_vec()),
            }),
            _ => {
                self.lost += pending.fragments;
                Seen::Fragment
            }
        }
    }

    fn give_up_the_oldest(&mut self) {
        let oldest = self.open.iter().min_by_key(|(_, pending)| pending.since);
        if let Some(key) = oldest.map(|(key, _)| *key)
            && let Some(pending) = self.open.remove(&key)
        {
            self.lost += pending.fragments;
        }
    }
}

/// The IP packet behind a link layer, also within PPPoE.
fn ip_of(kind: EtherType, payload: &[u8]) -> Option<&[u8]> {
    match kind {
        EtherType::IPV4 | EtherType::IPV6 => Some(payload),
        PPPOE_SESSION => {
            let (protocol, ip) = payload.get(PPPOE_LEN..)?.split_first_chunk::<2>()?;
            PPP_IP.contains(protocol).then_some(ip)
        }
        _ => None,
    }
}

fn ends(packet: &SlicedPacket<'_>) -> Option<(IpAddr, IpAddr)> {
    match packet.net.as_ref()? {
        NetSlice::Ipv4(ip) => {
            let header = ip.header();
            Some((
                header.source_addr().into(),
                header.destination_addr().into(),
            ))
        }
        NetSlice::Ipv6(ip) => {
            let header = ip.header();
            Some((
                header.source_addr().into(),
                header.destination_addr().into(),
            ))
        }
        NetSlice::Arp(_) => None,
    }
}

/// Identification, offset, and whether more follow.
fn place(packet: &SlicedPacket<'_>) -> Option<(u32, IpFragOffset, bool)> {
    match packet.net.as_ref()? {
        NetSlice::Ipv4(ip) => {
            let header = ip.header();
            Some((
                header.identification().into(),
                header.fragments_offset(),
                header.more_fragments(),
            ))
        }
        NetSlice::Ipv6(ip) => ip.extensions().clone().into_iter().find_map(|extension| {
            let Ipv6ExtensionSlice::Fragment(fragment) = extension else {
                return None;
            };
            Some((
                fragment.identification(),
                fragment.fragment_offset(),
                fragment.more_fragments(),
            ))
        }),
        NetSlice::Arp(_) => None,
    }
}

/// For what cannot be read strictly: whether it would have been for us.
fn broken_or_other(bytes: &[u8]) -> Seen<'_> {
    let packet = LaxSlicedPacket::from_ip(bytes).ok();
    let protocol = packet.and_then(|packet| Some(packet.ip_payload()?.ip_number));
    match protocol {
        Some(IpNumber::UDP) => Seen::Broken,
        _ => Seen::Other,
    }
}

#[cfg(test)]
mod tests {
    use etherparse::{IpFragOffset, Ipv4Header, PacketBuilder, ip_number};

    use super::*;

    const CLIENT: ([u8; 4], u16) = ([198, 51, 100, 7], 40000);
    const VIP: ([u8; 4], u16) = ([203, 0, 113, 10], 5060);

    /// An IPv4 packet with this text.
    fn ip(text: &[u8]) -> Vec<u8> {
        let builder = PacketBuilder::ipv4(CLIENT.0, VIP.0, 64).udp(CLIENT.1, VIP.1);
        let mut bytes = Vec::new();
        builder.write(&mut bytes, text).unwrap();
        bytes
    }

    #[track_caller]
    fn check(link: u32, head: &[u8], tail: &[u8]) {
        let packet = [head, &ip(b"hello"), tail].concat();
        let seen = Fragments::default().read(link, &packet);
        let wanted = Udp {
            source: CLIENT.into(),
            destination: VIP.into(),
            payload: Cow::Borrowed(&b"hello"[..]),
        };
        assert_eq!(seen, Seen::Udp(wanted));
        // Whatever is missing at the end, it is no datagram, and never a panic.
        for len in 0..head.len() + ip(b"hello").len() {
            let seen = Fragments::default().read(link, &packet[..len]);
            assert!(!matches!(seen, Seen::Udp(_)), "{len}: {seen:?}");
        }
    }

    #[test]
    fn link_layers() {
        let ethernet = |rest: &[u8]| [&[2; 12][..], rest].concat();
        check(101, b"", b"");
        check(228, b"", b"padding");
        check(0, &[2, 0, 0, 0], b"");
        check(1, &ethernet(&[8, 0]), &[0; 20]);
        check(1, &ethernet(&[0x81, 0, 0, 7, 8, 0]), b"");
        check(1, &ethernet(&[0x88, 0xa8, 0, 7, 0x81, 0, 0, 8, 8, 0]), b"");
        check(
            1,
            &ethernet(&[0x88, 0x64, 0x11, 0, 0, 1, 0, 35, 0, 0x21]),
            b"",
        );
        check(113, &[0, 0, 0, 1, 0, 6, 2, 2, 2, 2, 2, 2, 0, 0, 8, 0], b"");
        let sll2 = [8, 0, 0, 0, 0, 0, 0, 1, 0, 1, 0, 6, 2, 2, 2, 2, 2, 2, 0, 0];
        check(276, &sll2, b"");
        let outer = Ipv4Header::new(33, 64, ip_number::IPV4, [10, 0, 0, 1], [10, 0, 0, 2]);
        check(101, &outer.unwrap().to_bytes(), b"");
        let packet = ip(b"hello");
        assert_eq!(Fragments::default().read(9999, &packet), Seen::UnknownLink);
    }

    /// Pieces of an IPv4 packet, `len` bytes of its payload each.
    fn pieces(packet: &[u8], identification: u16, len: usize) -> Vec<Vec<u8>> {
        let (header, payload) = Ipv4Header::from_slice(packet).unwrap();
        let count = payload.len().div_ceil(len);
        let pieces = payload.chunks(len).enumerate().map(|(index, piece)| {
            let mut header = header.clone();
            header.identification = identification;
            header.dont_fragment = false;
            header.more_fragments = index + 1 < count;
            header.fragment_offset = IpFragOffset::try_new((index * len / 8) as u16).unwrap();
            header.set_payload_len(piece.len()).unwrap();
            header.header_checksum = header.calc_header_checksum();
            [&header.to_bytes(), piece].concat()
        });
        pieces.collect()
    }

    #[test]
    fn fragments_are_put_together_in_any_order() {
        let text = (0..200).collect::<Vec<u8>>();
        let mut fragments = Fragments::default();
        let mut list = pieces(&ip(&text), 7, 64);
        assert_eq!(list.len(), 4);
        list.swap(0, 2);
        for piece in &list[..3] {
            assert_eq!(fragments.read(101, piece), Seen::Fragment);
        }
        let Seen::Udp(udp) = fragments.read(101, &list[3]) else {
            panic!("the datagram is not whole");
        };
        assert_eq!(udp.payload, text);
        assert_eq!(fragments.lost(), 0);
        // Others with another number do not mix, and those that stay alone are counted.
        for number in 0..300 {
            let piece = &pieces(&ip(&text), number, 64)[0];
            assert_eq!(fragments.read(101, piece), Seen::Fragment);
        }
        assert_eq!(fragments.lost(), 300);
        assert!(fragments.open.len() <= MAX_OPEN);
    }
}
