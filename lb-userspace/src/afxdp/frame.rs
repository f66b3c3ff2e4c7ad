//! Ethernet, IP and UDP headers of what we send, and its UDP checksum.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use lb_common::{checksum, decode::Udp};

use crate::control::next_hops::NextHop;

const ETHERTYPE_IPV4: [u8; 2] = [0x08, 0x00];
const ETHERTYPE_IPV6: [u8; 2] = [0x86, 0xdd];
const ETHERTYPE_VLAN: [u8; 2] = [0x81, 0x00];
const IPV4_HEADER_BYTES: usize = 20;
const IPV6_HEADER_BYTES: usize = 40;
const UDP_HEADER_BYTES: usize = 8;
/// IANA protocol number of UDP.
const UDP: u8 = 17;
/// As the kernel's own datagrams have it (`net.ipv4.ip_default_ttl`).
const TTL: u8 = 64;

/// Where a datagram comes from and goes to. Both ends are of one family.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ends {
    /// Source: one of our listeners.
    pub source: SocketAddr,
    /// Destination.
    pub destination: SocketAddr,
}

/// Bytes of an IP packet with a UDP payload of `payload_len` bytes: what has to fit the MTU.
pub fn packet_len(is_ipv4: bool, payload_len: usize) -> usize {
    let ip = if is_ipv4 {
        IPV4_HEADER_BYTES
    } else {
        IPV6_HEADER_BYTES
    };
    ip + UDP_HEADER_BYTES + payload_len
}

/// Bytes before the UDP payload in a frame for `hop`.
pub fn headers_len(hop: &NextHop, is_ipv4: bool) -> usize {
    let ethernet = if hop.vlan.is_some() { 18 } else { 14 };
    ethernet + packet_len(is_ipv4, 0)
}

/// Writes the headers to the start of `frame`, which is as long as headers and payload together.
///
/// `identification` is the IPv4 one: a router on the way may have to fragment (don't-fragment is not set, since an ICMP
/// "too big" might be delivered to another node of the anycast group).
///
/// # Panics
///
/// When the frame is shorter than its headers, or longer than an IP packet can be: the caller compared it with the MTU.
pub fn write_headers(
    frame: &mut [u8],
    hop: &NextHop,
    ends: &Ends,
    udp_checksum: u16,
    identification: u16,
) {
    let is_ipv4 = ends.source.is_ipv4();
    let (headers, payload) = frame.split_at_mut(headers_len(hop, is_ipv4));
    let packet_len =
        u16::try_from(packet_len(is_ipv4, payload.len())).expect("compared with the MTU before");
    headers[0..6].copy_from_slice(&hop.destination_mac);
    headers[6..12].copy_from_slice(&hop.source_mac);
    let mut at = 12;
    if let Some(vlan) = hop.vlan {
        headers[at..at + 2].copy_from_slice(&ETHERTYPE_VLAN);
        headers[at + 2..at + 4].copy_from_slice(&vlan.to_be_bytes());
        at += 4;
    }
    headers[at..at + 2].copy_from_slice(if is_ipv4 {
        &ETHERTYPE_IPV4
    } else {
        &ETHERTYPE_IPV6
    });
    let (ip, udp) = headers[at + 2..].split_at_mut(if is_ipv4 {
        IPV4_HEADER_BYTES
    } else {
        IPV6_HEADER_BYTES
    });
    match (ends.source.ip(), ends.destination.ip()) {
        (IpAddr::V4(source), IpAddr::V4(destination)) => {
            ip.fill(0);
            ip[0] = 0x45;
            ip[2..4].copy_from_slice(&packet_len.to_be_bytes());
            ip[4..6].copy_from_slice(&identification.to_be_bytes());
            ip[8] = TTL;
            ip[9] = UDP;
            ip[12..16].copy_from_slice(&source.octets());
            ip[16..20].copy_from_slice(&destination.octets());
            let sum = !checksum::fold(checksum::sum(ip));
            ip[10..12].copy_from_slice(&sum.to_be_bytes());
        }
        (IpAddr::V6(source), IpAddr::V6(destination)) => {
            ip[0..4].copy_from_slice(&[0x60, 0, 0, 0]);
            ip[4..6].copy_from_slice(&(packet_len - IPV6_HEADER_BYTES as u16).to_be_bytes());
            ip[6] = UDP;
            ip[7] = TTL;
            ip[8..24].copy_from_slice(&source.octets());
            ip[24..40].copy_from_slice(&destination.octets());
        }
        (IpAddr::V4(_), IpAddr::V6(_)) | (IpAddr::V6(_), IpAddr::V4(_)) => {
            unreachable!("ends are of one family")
        }
    }
    udp[0..2].copy_from_slice(&ends.source.port().to_be_bytes());
    udp[2..4].copy_from_slice(&ends.destination.port().to_be_bytes());
    udp[4..6].copy_from_slice(&((UDP_HEADER_BYTES + payload.len()) as u16).to_be_bytes());
    udp[6..8].copy_from_slice(&udp_checksum.to_be_bytes());
}

/// One's complement sum of everything but the payload that the UDP checksum covers: pseudo header (RFC 768, RFC 8200
/// §8.1) and UDP header.
fn header_sum(ends: &Ends, payload_len: usize) -> u16 {
    let udp_len = (UDP_HEADER_BYTES + payload_len) as u16;
    let addresses = match (ends.source.ip(), ends.destination.ip()) {
        (IpAddr::V4(source), IpAddr::V4(destination)) => {
            checksum::pseudo_header(&source.octets(), &destination.octets(), UDP, udp_len)
        }
        (IpAddr::V6(source), IpAddr::V6(destination)) => {
            checksum::pseudo_header(&source.octets(), &destination.octets(), UDP, udp_len)
        }
        (IpAddr::V4(_), IpAddr::V6(_)) | (IpAddr::V6(_), IpAddr::V4(_)) => {
            unreachable!("ends are of one family")
        }
    };
    let ports = u32::from(ends.source.port()) + u32::from(ends.destination.port());
    checksum::fold(addresses + ports + u32::from(udp_len))
}

/// A computed checksum of 0 is sent as all ones: 0 means "none" (RFC 768).
fn as_sent(checksum: u16) -> u16 {
    if checksum == 0 { 0xffff } else { checksum }
}

/// UDP checksum of a payload that we made.
pub fn new_checksum(ends: &Ends, payload: &[u8]) -> u16 {
    let sum = checksum::add(
        header_sum(ends, payload.len()),
        checksum::fold(checksum::sum(payload)),
    );
    as_sent(!sum)
}

/// UDP checksum of a payload that arrived and was changed (RFC 1624): a checksum that was wrong stays wrong, and the
/// "none" of IPv4 stays.
///
/// `difference` is the sum of the payload as it leaves less the sum of it as it came ([`crate::forward::Edits`]).
pub fn updated_checksum(
    arrival: &Udp,
    arrived: &Ends,
    leaving: &Ends,
    leaving_len: usize,
    difference: u16,
) -> u16 {
    if arrival.udp_checksum == 0 {
        return 0;
    }
    let headers = checksum::sub(
        header_sum(leaving, leaving_len),
        header_sum(arrived, arrival.payload_len),
    );
    as_sent(checksum::update(
        arrival.udp_checksum,
        checksum::add(headers, difference),
    ))
}

/// Whether the UDP checksum of a datagram that arrived is right, or absent as IPv4 allows.
pub fn checksum_is_right(arrival: &Udp, arrived: &Ends, payload: &[u8]) -> bool {
    arrival.udp_checksum == 0 || new_checksum(arrived, payload) == as_sent(arrival.udp_checksum)
}

/// Source and destination of a datagram that arrived.
pub fn ends(arrival: &Udp) -> Ends {
    let address = |octets: [u8; 16], port| {
        let ip = if arrival.is_ipv6 {
            IpAddr::V6(Ipv6Addr::from(octets))
        } else {
            let [.., a, b, c, d] = octets;
            IpAddr::V4(Ipv4Addr::new(a, b, c, d))
        };
        SocketAddr::new(ip, port)
    };
    Ends {
        source: address(arrival.source, arrival.source_port),
        destination: address(arrival.destination, arrival.destination_port),
    }
}

#[cfg(test)]
mod tests {
    use lb_common::decode::{Decoded, decode};
    use proptest::prelude::*;

    use super::*;

    fn hop(vlan: Option<u16>) -> NextHop {
        NextHop {
            port: 0,
            destination_mac: [2, 0, 0, 0, 0, 1],
            source_mac: [2, 0, 0, 0, 0, 2],
            vlan,
            mtu: 1500,
        }
    }

    fn frame(hop: &NextHop, ends: &Ends, payload: &[u8]) -> Vec<u8> {
        let headers = headers_len(hop, ends.source.is_ipv4());
        let mut frame = vec![0xaa; headers + payload.len()];
        frame[headers..].copy_from_slice(payload);
        write_headers(&mut frame, hop, ends, new_checksum(ends, payload), 7);
        frame
    }

    fn some_ends(is_ipv4: bool) -> Ends {
        let (source, destination) = if is_ipv4 {
            ("203.0.113.10:5060", "198.51.100.7:5066")
        } else {
            ("[2001:db8::10]:5060", "[2001:db8:1::7]:5066")
        };
        Ends {
            source: source.parse().unwrap(),
            destination: destination.parse().unwrap(),
        }
    }

    #[test]
    fn the_decoder_reads_what_is_written() {
        for is_ipv4 in [true, false] {
            for vlan in [None, Some(42)] {
                let written = some_ends(is_ipv4);
                let bytes = frame(&hop(vlan), &written, b"OPTIONS sip:x SIP/2.0\r\n");
                // The decoder also verifies the IPv4 header checksum.
                let Decoded::Udp(udp) = decode(bytes.as_slice()) else {
                    panic!("{vlan:?} {is_ipv4}")
                };
                assert_eq!(ends(&udp), written);
                assert_eq!(udp.vlan, vlan);
                let payload = &bytes[udp.payload_offset..][..udp.payload_len];
                assert_eq!(payload, b"OPTIONS sip:x SIP/2.0\r\n");
                assert!(checksum_is_right(&udp, &written, payload));
                assert!(!checksum_is_right(
                    &udp,
                    &written,
                    b"OPTIONS sip:y SIP/2.0\r\n"
                ));
            }
        }
    }

    proptest! {
        #[test]
        fn an_updated_checksum_is_as_right_as_the_old_one(
            is_ipv4: bool,
            old in proptest::collection::vec(any::<u8>(), 0..300),
            new in proptest::collection::vec(any::<u8>(), 0..300),
            flipped in 1u16..,
        ) {
            let arrived = some_ends(is_ipv4);
            let leaving = Ends { source: arrived.destination, destination: arrived.source };
            let bytes = frame(&hop(None), &arrived, &old);
            let Decoded::Udp(mut udp) = decode(bytes.as_slice()) else { panic!() };
            let difference = checksum::sub(
                checksum::fold(checksum::sum(&new)),
                checksum::fold(checksum::sum(&old)),
            );
            let right = new_checksum(&leaving, &new);
            prop_assert_eq!(updated_checksum(&udp, &arrived, &leaving, new.len(), difference), right);

            udp.udp_checksum ^= flipped;
            // 0 is "none": it stays.
            prop_assume!(udp.udp_checksum != 0);
            prop_assert_ne!(updated_checksum(&udp, &arrived, &leaving, new.len(), difference), right);
            udp.udp_checksum = 0;
            prop_assert_eq!(updated_checksum(&udp, &arrived, &leaving, new.len(), difference), 0);
        }
    }
}
