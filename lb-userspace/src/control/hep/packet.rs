//! HEP version 3 (Homer Encapsulation Protocol): chunks of vendor, type, length and value behind a header.

use std::net::SocketAddr;

/// Begins every packet.
const MAGIC: &[u8] = b"HEP3";
/// Bytes of a chunk's vendor, type and length.
const CHUNK_HEADER_LEN: usize = 6;

/// IP family: AF_INET, AF_INET6 of Linux.
const FAMILY_IPV4: u8 = 2;
const FAMILY_IPV6: u8 = 10;
/// IP protocol number of UDP.
const UDP: u8 = 17;
/// Protocol type of SIP.
const SIP: u8 = 1;

/// Types of chunks that no vendor has for himself.
#[derive(Clone, Copy)]
#[repr(u16)]
enum Type {
    IpFamily = 1,
    IpProtocol = 2,
    SourceIpv4 = 3,
    DestinationIpv4 = 4,
    SourceIpv6 = 5,
    DestinationIpv6 = 6,
    SourcePort = 7,
    DestinationPort = 8,
    Seconds = 9,
    Microseconds = 10,
    Protocol = 11,
    CaptureId = 12,
    AuthenticationKey = 14,
    Payload = 15,
    CorrelationId = 17,
}

/// A datagram as a collector gets to know it.
pub(super) struct Packet<'a> {
    pub source: SocketAddr,
    pub destination: SocketAddr,
    /// Since 1970.
    pub time_ns: u64,
    pub capture_id: u32,
    pub password: Option<&'a [u8]>,
    /// The Call-ID; empty for none.
    pub correlation_id: &'a [u8],
    pub payload: &'a [u8],
}

impl Packet<'_> {
    /// Writes the packet in place of what is in `to`. Addresses are of one family, as those of a datagram are, and all of it fits
    /// into a datagram, as what workers copy does.
    pub fn write(&self, to: &mut Vec<u8>) {
        to.clear();
        to.extend_from_slice(MAGIC);
        to.extend_from_slice(&[0; 2]);
        let mut chunk = |kind: Type, value: &[u8]| {
            let len = (CHUNK_HEADER_LEN + value.len()) as u16;
            to.extend_from_slice(&0u16.to_be_bytes());
            to.extend_from_slice(&(kind as u16).to_be_bytes());
            to.extend_from_slice(&len.to_be_bytes());
            to.extend_from_slice(value);
        };
        match (self.source, self.destination) {
            (SocketAddr::V4(source), SocketAddr::V4(destination)) => {
                chunk(Type::IpFamily, &[FAMILY_IPV4]);
                chunk(Type::SourceIpv4, &source.ip().octets());
                chunk(Type::DestinationIpv4, &destination.ip().octets());
            }
            (source, destination) => {
                let octets = |address: SocketAddr| match address {
                    SocketAddr::V4(address) => address.ip().to_ipv6_mapped().octets(),
                    SocketAddr::V6(address) => address.ip().octets(),
                };
                chunk(Type::IpFamily, &[FAMILY_IPV6]);
                chunk(Type::SourceIpv6, &octets(source));
                chunk(Type::DestinationIpv6, &octets(destination));
            }
        }
        chunk(Type::IpProtocol, &[UDP]);
        chunk(Type::SourcePort, &self.source.port().to_be_bytes());
        chunk(
            Type::DestinationPort,
            &self.destination.port().to_be_bytes(),
        );
        let seconds = (self.time_ns / 1_000_000_000) as u32;
        let microseconds = (self.time_ns % 1_000_000_000 / 1_000) as u32;
        chunk(Type::Seconds, &seconds.to_be_bytes());
        chunk(Type::Microseconds, &microseconds.to_be_bytes());
        chunk(Type::Protocol, &[SIP]);
        chunk(Type::CaptureId, &self.capture_id.to_be_bytes());
        if let Some(password) = self.password {
            chunk(Type::AuthenticationKey, password);
        }
        if !self.correlation_id.is_empty() {
            chunk(Type::CorrelationId, self.correlation_id);
        }
        chunk(Type::Payload, self.payload);
        let len = to.len() as u16;
        to[MAGIC.len()..MAGIC.len() + 2].copy_from_slice(&len.to_be_bytes());
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    /// The chunks of a packet by type, read from the description of the protocol and not from the code above.
    fn decode(packet: &[u8]) -> BTreeMap<u16, Vec<u8>> {
        let word = |at: usize| usize::from(u16::from_be_bytes([packet[at], packet[at + 1]]));
        assert_eq!(&packet[..4], b"HEP3");
        assert_eq!(
            word(4),
            packet.len(),
            "the length counts the header as well"
        );
        let mut chunks = BTreeMap::new();
        let mut at = 6;
        while at < packet.len() {
            let (vendor, kind, len) = (word(at), word(at + 2), word(at + 4));
            assert_eq!(vendor, 0);
            let value = packet[at + 6..at + len].to_vec();
            assert!(chunks.insert(kind as u16, value).is_none(), "{kind} twice");
            at += len;
        }
        chunks
    }

    fn packet<'a>(source: &str, destination: &str, password: Option<&'a [u8]>) -> Packet<'a> {
        Packet {
            source: source.parse().unwrap(),
            destination: destination.parse().unwrap(),
            time_ns: 1_790_000_000_123_456_789,
            capture_id: 2001,
            password,
            correlation_id: b"a84b4c76e66710@x",
            payload: b"OPTIONS sip:a SIP/2.0\r\n\r\n",
        }
    }

    #[test]
    fn an_ipv4_packet_has_all_chunks() {
        let mut bytes = b"what was before".to_vec();
        packet("198.51.100.7:40000", "203.0.113.10:5060", Some(b"secret")).write(&mut bytes);
        let wanted = BTreeMap::from([
            (1, vec![2]),
            (2, vec![17]),
            (3, vec![198, 51, 100, 7]),
            (4, vec![203, 0, 113, 10]),
            (7, vec![0x9c, 0x40]),
            (8, vec![0x13, 0xc4]),
            (9, 1_790_000_000u32.to_be_bytes().to_vec()),
            (10, 123_456u32.to_be_bytes().to_vec()),
            (11, vec![1]),
            (12, vec![0, 0, 0x07, 0xd1]),
            (14, b"secret".to_vec()),
            (15, b"OPTIONS sip:a SIP/2.0\r\n\r\n".to_vec()),
            (17, b"a84b4c76e66710@x".to_vec()),
        ]);
        assert_eq!(decode(&bytes), wanted);
    }

    #[test]
    fn an_ipv6_packet_has_the_other_addresses_and_no_password() {
        let mut bytes = Vec::new();
        let mut packet = packet("[2001:db8::7]:40000", "[2001:db8::10]:5060", None);
        packet.correlation_id = b"";
        packet.write(&mut bytes);
        let chunks = decode(&bytes);
        assert_eq!(chunks[&1], [10]);
        assert_eq!(chunks[&5][..4], [0x20, 0x01, 0x0d, 0xb8]);
        assert_eq!((chunks[&5][15], chunks[&6][15]), (0x07, 0x10));
        for missing in [3, 4, 14, 17] {
            assert!(!chunks.contains_key(&missing), "{missing}");
        }
    }
}
