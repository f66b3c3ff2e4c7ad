//! The header of the PROXY protocol, which says in front of a datagram where it came from and where it went (HAProxy's
//! `proxy-protocol.txt`).

use std::net::{IpAddr, SocketAddr};

use super::text::Text;
use crate::config::ProxyVersion;

/// Begins every header of version 2: no text, and no start of a SIP message.
pub const PROXY_SIGNATURE: [u8; 12] = *b"\r\n\r\n\0\r\nQUIT\n";

/// Version 2, and the datagram is not the sender's own.
const PROXY: u8 = 0x21;
/// AF_INET with DGRAM, AF_INET6 with DGRAM.
const UDP4: u8 = 0x12;
const UDP6: u8 = 0x22;

/// What stands in front of a datagram of our own, in which there is no client: LOCAL in version 2, UNKNOWN in version 1.
pub const fn proxy_header_of_our_own(version: ProxyVersion) -> &'static [u8] {
    match version {
        ProxyVersion::V1 => b"PROXY UNKNOWN\r\n",
        ProxyVersion::V2 => b"\r\n\r\n\0\r\nQUIT\n\x20\0\0\0",
    }
}

/// A datagram without the header that was put in front of it, of either version.
pub fn without_proxy_header(datagram: &[u8]) -> &[u8] {
    if datagram.starts_with(&PROXY_SIGNATURE) {
        let len = datagram.get(PROXY_SIGNATURE.len() + 2..);
        let len = len.and_then(<[u8]>::first_chunk);
        let len = len.map_or(0, |len| usize::from(u16::from_be_bytes(*len)));
        return datagram
            .get(PROXY_SIGNATURE.len() + 4 + len..)
            .unwrap_or_default();
    }
    if datagram.starts_with(b"PROXY ") {
        let end = memchr::memchr(b'\n', datagram);
        return end.map_or(datagram, |end| &datagram[end + 1..]);
    }
    datagram
}

/// A header.
pub(super) struct Header(Text<112>);

impl Header {
    /// Says that a datagram from `source` came to `destination`.
    pub fn new(version: ProxyVersion, source: SocketAddr, destination: SocketAddr) -> Self {
        let mut header = Self(Text::new());
        if source.is_ipv4() != destination.is_ipv4() {
            // Nothing that arrives is of two families.
            header.0.put(proxy_header_of_our_own(version));
            return header;
        }
        match version {
            ProxyVersion::V1 => header.put_text(source, destination),
            ProxyVersion::V2 => header.put_binary(source, destination),
        }
        header
    }

    pub fn as_slice(&self) -> &[u8] {
        self.0.as_slice()
    }

    /// 28 bytes with IPv4 addresses, 52 with IPv6.
    fn put_binary(&mut self, source: SocketAddr, destination: SocketAddr) {
        let text = &mut self.0;
        let (family, len) = match source {
            SocketAddr::V4(_) => (UDP4, 12),
            SocketAddr::V6(_) => (UDP6, 36),
        };
        text.put(&PROXY_SIGNATURE);
        text.put(&[PROXY, family, 0, len]);
        for address in [source, destination] {
            match address.ip() {
                IpAddr::V4(ip) => text.put(&ip.octets()),
                IpAddr::V6(ip) => text.put(&ip.octets()),
            }
        }
        for address in [source, destination] {
            text.put(&address.port().to_be_bytes());
        }
    }

    /// At most 104 bytes. There is no name for UDP in this version, and what reads it in front of datagrams wants that of TCP.
    fn put_text(&mut self, source: SocketAddr, destination: SocketAddr) {
        let text = &mut self.0;
        text.put(match source {
            SocketAddr::V4(_) => b"PROXY TCP4 ",
            SocketAddr::V6(_) => b"PROXY TCP6 ",
        });
        for address in [source, destination] {
            text.put_ip(address.ip());
            text.put(b" ");
        }
        text.put_number(source.port());
        text.put(b" ");
        text.put_number(destination.port());
        text.put(b"\r\n");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn header(version: ProxyVersion, source: &str, destination: &str) -> Vec<u8> {
        let [source, destination] = [source, destination].map(|text| text.parse().unwrap());
        Header::new(version, source, destination)
            .as_slice()
            .to_vec()
    }

    #[test]
    fn a_datagram_without_its_header() {
        for version in [ProxyVersion::V1, ProxyVersion::V2] {
            for (source, destination) in [
                ("198.51.100.7:40000", "203.0.113.10:5060"),
                ("[2001:db8:1::7]:40000", "[2001:db8::10]:5060"),
            ] {
                let mut datagram = header(version, source, destination);
                datagram.extend(b"BYE");
                assert_eq!(without_proxy_header(&datagram), b"BYE");
            }
        }
        for plain in [&b"BYE sip:a SIP/2.0\r\n"[..], b"", b"PROXY ", b"\r\n\r\n"] {
            assert_eq!(without_proxy_header(plain), plain);
        }
        assert_eq!(without_proxy_header(&PROXY_SIGNATURE), b"");
    }

    #[test]
    fn version_2() {
        let four = header(ProxyVersion::V2, "198.51.100.7:40000", "203.0.113.10:5060");
        assert_eq!(
            four,
            b"\r\n\r\n\0\r\nQUIT\n\x21\x12\0\x0c\xc6\x33\x64\x07\xcb\0\x71\x0a\x9c\x40\x13\xc4"
        );
        let six = header(
            ProxyVersion::V2,
            "[2001:db8:1::7]:40000",
            "[2001:db8::10]:5060",
        );
        assert_eq!(
            six,
            b"\r\n\r\n\0\r\nQUIT\n\x21\x22\0\x24\
              \x20\x01\x0d\xb8\0\x01\0\0\0\0\0\0\0\0\0\x07\x20\x01\x0d\xb8\0\0\0\0\0\0\0\0\0\0\0\x10\x9c\x40\x13\xc4"
        );
        assert_eq!((four.len(), six.len()), (28, 52));
        assert!(proxy_header_of_our_own(ProxyVersion::V2).starts_with(&PROXY_SIGNATURE));
        assert_eq!(
            proxy_header_of_our_own(ProxyVersion::V2)[12..],
            [0x20, 0, 0, 0]
        );
    }

    #[test]
    fn version_1() {
        assert_eq!(
            header(ProxyVersion::V1, "198.51.100.7:40000", "203.0.113.10:5060"),
            b"PROXY TCP4 198.51.100.7 203.0.113.10 40000 5060\r\n"
        );
        let long = "[1111:2222:3333:4444:5555:6666:7777:8888]:65535";
        let text = header(ProxyVersion::V1, long, long);
        let ip = "1111:2222:3333:4444:5555:6666:7777:8888";
        let want = format!("PROXY TCP6 {ip} {ip} 65535 65535\r\n");
        assert_eq!((text.len(), text), (want.len(), want.into_bytes()));
    }

    #[test]
    fn two_families_name_nobody() {
        for version in [ProxyVersion::V1, ProxyVersion::V2] {
            let mixed = header(version, "198.51.100.7:40000", "[2001:db8::10]:5060");
            assert_eq!(mixed, proxy_header_of_our_own(version));
        }
    }
}
