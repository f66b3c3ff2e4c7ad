//! Frames as a worker reads them and as it writes them: Ethernet, IP and UDP headers, and the UDP checksum.

mod arrival;

use std::net::{IpAddr, SocketAddr};

use lb_common::checksum;

pub use self::arrival::{Arrival, Useless};
use crate::forward::Edits;

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

/// The way to a destination: everything that an Ethernet header needs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct NextHop {
    /// Index into the interfaces of the node.
    pub port: u8,
    /// MAC address of the neighbour: the destination itself or the gateway to it.
    pub destination_mac: [u8; 6],
    /// MAC address of our interface, or of the VLAN device on it.
    pub source_mac: [u8; 6],
    /// VLAN id (IEEE 802.1Q, priority 0) when the route leaves by a VLAN device.
    pub vlan: Option<u16>,
    /// Largest IP packet that fits this way, in bytes: the route's MTU or the link's, whichever is smaller.
    pub mtu: u16,
}

/// What is to be sent.
#[derive(Clone, Copy, Debug)]
pub enum Message<'a> {
    /// What arrived, changed.
    Edited {
        /// As it arrived.
        payload: &'a [u8],
        /// The changes.
        edits: &'a Edits,
    },
    /// Made by us.
    New(&'a [u8]),
}

impl Message<'_> {
    /// Bytes as it leaves.
    pub fn len(&self) -> usize {
        match self {
            Self::Edited { payload, edits } => edits.output_len(payload.len()),
            Self::New(bytes) => bytes.len(),
        }
    }

    /// True when nothing would be left of it.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Writes the message to the start of `memory`; `None` when there is not enough of it.
    pub fn write(&self, memory: &mut [u8]) -> Option<usize> {
        match self {
            Self::Edited { payload, edits } => edits.apply(payload, memory),
            Self::New(bytes) => {
                memory.get_mut(..bytes.len())?.copy_from_slice(bytes);
                Some(bytes.len())
            }
        }
    }
}

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

/// Writes a whole frame to the start of `memory` and returns its length; `None` when there is not enough of it.
///
/// `arrival` is what the message was made from, if it arrived: then its checksum is carried on, and a wrong one stays wrong.
/// `identification` is as for [`write_headers`].
///
/// # Panics
///
/// When the message is longer than an IP packet can be: the caller compared it with the MTU.
#[inline]
pub fn write(
    memory: &mut [u8],
    hop: &NextHop,
    ends: &Ends,
    message: &Message<'_>,
    arrival: Option<&Arrival<'_>>,
    identification: u16,
) -> Option<usize> {
    let headers_len = headers_len(hop, ends.source.is_ipv4());
    let written = message.write(memory.get_mut(headers_len..)?)?;
    let frame = &mut memory[..headers_len + written];
    let checksum = match (message, arrival) {
        (Message::Edited { payload, edits }, Some(arrival)) => {
            arrival.updated_checksum(ends, written, edits.checksum_difference(payload))
        }
        _ => new_checksum(ends, &frame[headers_len..]),
    };
    write_headers(frame, hop, ends, checksum, identification);
    Some(frame.len())
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

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::forward::{Listener, ListenerIndex};

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

    fn listeners(ends: &Ends) -> [Listener; 2] {
        let mut other = ends.destination;
        other.set_port(other.port() + 1);
        [other, ends.destination].map(|address| Listener::new("public".into(), address))
    }

    #[test]
    fn what_is_written_arrives() {
        for is_ipv4 in [true, false] {
            for vlan in [None, Some(42)] {
                let ends = some_ends(is_ipv4);
                let listeners = listeners(&ends);
                let payload = b"OPTIONS sip:x SIP/2.0\r\n";
                // The decoder also verifies the IPv4 header checksum.
                let mut bytes = frame(&hop(vlan), &ends, payload);
                let arrival = Arrival::of_frame(&bytes, &listeners).unwrap();
                assert_eq!(arrival.ends(), ends);
                assert_eq!(arrival.datagram.listener, ListenerIndex(1));
                assert_eq!(arrival.datagram.payload, payload);
                assert!(arrival.checksum_is_right());
                *bytes.last_mut().unwrap() ^= 1;
                let arrival = Arrival::of_frame(&bytes, &listeners).unwrap();
                assert!(!arrival.checksum_is_right());
            }
        }
    }

    #[test]
    fn what_is_for_nobody_here_is_useless() {
        for is_ipv4 in [true, false] {
            let ends = some_ends(is_ipv4);
            let bytes = frame(&hop(None), &ends, b"x");
            let elsewhere = Ends {
                source: ends.source,
                destination: ends.source,
            };
            let of = |bytes: &[u8], ends: &Ends| Arrival::of_frame(bytes, &listeners(ends)).err();
            assert_eq!(of(&bytes, &elsewhere), Some(Useless::NotOurs));
            assert_eq!(of(&bytes, &some_ends(!is_ipv4)), Some(Useless::NotOurs));
            assert_eq!(of(&bytes[..bytes.len() - 1], &ends), Some(Useless::Broken));
            assert_eq!(of(&bytes[..13], &ends), Some(Useless::Broken));
            assert_eq!(of(&bytes, &ends), None);
        }
        // Four bytes in a listener of IPv6 are not an address of IPv4, whatever its first ones are.
        let ends = some_ends(true);
        let mapped = "[::ffff:198.51.100.7]:5066".parse().unwrap();
        let bytes = frame(&hop(None), &ends, b"x");
        let listeners = [Listener::new("mapped".into(), mapped)];
        assert_eq!(
            Arrival::of_frame(&bytes, &listeners).err(),
            Some(Useless::NotOurs)
        );
    }

    #[test]
    fn a_frame_needs_room_for_all_of_it() {
        let ends = some_ends(true);
        let message = Message::New(b"SIP/2.0 200 OK\r\n\r\n");
        let mut memory = vec![0xaa; 14 + 20 + 8 + message.len()];
        for room in 0..memory.len() {
            let written = write(&mut memory[..room], &hop(None), &ends, &message, None, 7);
            assert_eq!(written, None, "{room}");
        }
        assert_eq!(
            write(&mut memory, &hop(None), &ends, &message, None, 7),
            Some(memory.len())
        );
        let listeners = listeners(&ends);
        let arrival = Arrival::of_frame(&memory, &listeners).unwrap();
        assert!(arrival.checksum_is_right());
        assert_eq!(arrival.datagram.payload, b"SIP/2.0 200 OK\r\n\r\n");
    }

    #[test]
    fn what_was_changed_on_the_way_keeps_a_right_checksum_and_a_wrong_one() {
        for is_ipv4 in [true, false] {
            let arrived = some_ends(is_ipv4);
            let leaving = Ends {
                source: arrived.destination,
                destination: arrived.source,
            };
            let (to_us, from_us) = (listeners(&arrived), listeners(&leaving));
            let mut bytes = frame(&hop(None), &arrived, b"OPTIONS sip:x SIP/2.0\r\n");
            let mut edits = Edits::new();
            edits.push(8, 5, b"sip:somebody@else").unwrap();
            edits.finish().unwrap();
            for is_right in [true, false] {
                let arrival = Arrival::of_frame(&bytes, &to_us).unwrap();
                let message = Message::Edited {
                    payload: arrival.datagram.payload,
                    edits: &edits,
                };
                let mut memory = vec![0xaa; 200];
                let hop = hop(Some(42));
                let written = write(&mut memory, &hop, &leaving, &message, Some(&arrival), 7);
                let left = Arrival::of_frame(&memory[..written.unwrap()], &from_us).unwrap();
                assert_eq!(left.ends(), leaving);
                let start = b"OPTIONS sip:somebody@else SIP/2.0";
                assert_eq!(left.datagram.payload.get(..start.len()), Some(&start[..]));
                assert_eq!(left.checksum_is_right(), is_right, "{is_ipv4}");
                *bytes.last_mut().unwrap() ^= 1;
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
            let listeners = listeners(&arrived);
            let mut arrival = Arrival::of_frame(&bytes, &listeners).unwrap();
            let difference = checksum::sub(
                checksum::fold(checksum::sum(&new)),
                checksum::fold(checksum::sum(&old)),
            );
            let right = new_checksum(&leaving, &new);
            prop_assert_eq!(arrival.updated_checksum(&leaving, new.len(), difference), right);

            arrival.udp_checksum ^= flipped;
            // 0 is "none": it stays.
            prop_assume!(arrival.udp_checksum != 0);
            prop_assert_ne!(arrival.updated_checksum(&leaving, new.len(), difference), right);
            arrival.udp_checksum = 0;
            prop_assert_eq!(arrival.updated_checksum(&leaving, new.len(), difference), 0);
        }
    }
}
