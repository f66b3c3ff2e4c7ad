//! Session descriptions (RFC 8866), as far as a proxy and a media relay have to read them.
//!
//! Of the order of lines only that of `v=`, `o=`, `s=`, `t=` and `m=` is looked at: the other lines are out of place in
//! the field often enough, and nobody is led astray by it.

use super::{
    cursor::is_u32,
    reason::Reason::{
        self, IncompleteSdp, InvalidSdpConnection, InvalidSdpLine, InvalidSdpMedia,
        InvalidSdpOrigin, InvalidSdpTime, InvalidSdpVersion, MissingSdpConnection, SdpOutOfOrder,
    },
    uri::is_host,
};
use crate::sip::parse_ip;

/// Reads a body of type `application/sdp` and returns the first thing found wrong.
pub(super) fn check(body: &[u8]) -> Result<(), Reason> {
    let mut session = Session::default();
    let mut rest = trim_line_ends(body);
    while !rest.is_empty() {
        let end = memchr::memchr(b'\n', rest).unwrap_or(rest.len());
        let line = &rest[..end];
        rest = rest.get(end + 1..).unwrap_or_default();
        session.line(line.strip_suffix(b"\r").unwrap_or(line))?;
    }
    session.finish()
}

/// The line ends after the last line. Some devices add empty lines.
fn trim_line_ends(mut body: &[u8]) -> &[u8] {
    while let [rest @ .., b'\r' | b'\n'] = body {
        body = rest;
    }
    body
}

/// How far a description was read.
#[derive(Default)]
struct Session {
    /// Number of lines so far.
    lines: usize,
    origin: bool,
    name: bool,
    time: bool,
    version: bool,
    /// What was missing when the line came that should have followed it, or came again.
    out_of_order: bool,
    /// True for a `c=` before the first `m=`.
    connection: bool,
    /// The stream that is being read.
    stream: Option<Stream>,
}

struct Stream {
    /// False for port 0: a stream that is refused needs no address.
    wanted: bool,
    connection: bool,
}

impl Session {
    fn line(&mut self, line: &[u8]) -> Result<(), Reason> {
        let [kind @ b'a'..=b'z', b'=', value @ ..] = line else {
            return Err(InvalidSdpLine);
        };
        self.lines += 1;
        match kind {
            b'v' => {
                self.out_of_order |= self.lines != 1;
                self.version = true;
                is(value == b"0", InvalidSdpVersion)
            }
            b'o' => {
                self.out_of_order |= self.origin || self.name || self.time || self.in_stream();
                self.origin = true;
                is(is_origin(value), InvalidSdpOrigin)
            }
            b's' => {
                self.out_of_order |= self.name || self.time || self.in_stream();
                self.name = true;
                Ok(())
            }
            b't' => {
                self.out_of_order |= self.in_stream();
                self.time = true;
                is(is_time(value), InvalidSdpTime)
            }
            b'c' => {
                match &mut self.stream {
                    Some(stream) => stream.connection = true,
                    None => self.connection = true,
                }
                is(is_connection(value), InvalidSdpConnection)
            }
            b'm' => {
                self.end_stream()?;
                let wanted = read_media(value).ok_or(InvalidSdpMedia)?;
                self.stream = Some(Stream {
                    wanted,
                    connection: false,
                });
                Ok(())
            }
            _ => Ok(()),
        }
    }

    fn in_stream(&self) -> bool {
        self.stream.is_some()
    }

    /// A stream needs an address of its own or that of the session (RFC 8866 §5.7).
    fn end_stream(&mut self) -> Result<(), Reason> {
        let without = self
            .stream
            .as_ref()
            .is_some_and(|stream| stream.wanted && !stream.connection && !self.connection);
        is(!without, MissingSdpConnection)
    }

    fn finish(mut self) -> Result<(), Reason> {
        self.end_stream()?;
        is(
            self.version && self.origin && self.name && self.time,
            IncompleteSdp,
        )?;
        is(!self.out_of_order, SdpOutOfOrder)
    }
}

fn is(right: bool, reason: Reason) -> Result<(), Reason> {
    right.then_some(()).ok_or(reason)
}

fn words(value: &[u8]) -> impl DoubleEndedIterator<Item = &[u8]> {
    value
        .split(|byte| *byte == b' ')
        .filter(|word| !word.is_empty())
}

/// `username id version network family address`. A user name with blanks is not allowed, and seen; a user name that is
/// missing is not.
fn is_origin(value: &[u8]) -> bool {
    let mut words = words(value).rev();
    let (address, family, network) = (words.next(), words.next(), words.next());
    let numbers = [words.next(), words.next()];
    network == Some(b"IN")
        && address.is_some_and(|address| is_address(address, family))
        && numbers
            .iter()
            .all(|number| number.is_some_and(|number| number.iter().all(u8::is_ascii_digit)))
        && words.next().is_some()
}

/// `network family address[/ttl][/count]`
fn is_connection(value: &[u8]) -> bool {
    let mut words = words(value);
    let (network, family, address) = (words.next(), words.next(), words.next());
    let mut parts = address.unwrap_or_default().split(|byte| *byte == b'/');
    let address = parts.next().unwrap_or_default();
    network == Some(b"IN")
        && is_address(address, family)
        && parts.all(is_u32)
        && words.next().is_none()
}

/// An address of the family, or a host name.
fn is_address(address: &[u8], family: Option<&[u8]>) -> bool {
    let ip = parse_ip(address);
    let bracketed = address.first() == Some(&b'[');
    match family {
        Some(b"IP4") => ip.map_or(is_host(address), |ip| ip.is_ipv4()),
        Some(b"IP6") => ip.map_or(is_host(address), |ip| ip.is_ipv6() && !bracketed),
        _ => false,
    }
}

/// `start stop`
fn is_time(value: &[u8]) -> bool {
    let mut words = words(value);
    let is_number = |word: Option<&[u8]>| {
        word.is_some_and(|word| !word.is_empty() && word.iter().all(u8::is_ascii_digit))
    };
    is_number(words.next()) && is_number(words.next()) && words.next().is_none()
}

/// `media port[/count] protocol format...`; whether the port is another than 0.
fn read_media(value: &[u8]) -> Option<bool> {
    let mut words = words(value);
    words.next()?;
    let mut parts = words.next()?.split(|byte| *byte == b'/');
    let port = parts.next().filter(|port| is_u32(port))?;
    let port = port.iter().try_fold(0u16, |port, digit| {
        port.checked_mul(10)?.checked_add(u16::from(digit & 0xf))
    })?;
    parts.all(is_u32).then_some(())?;
    words.next()?;
    words.next()?;
    Some(port != 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    const SDP: &str = "v=0\r\no=alice 2890844526 2890844526 IN IP4 192.0.2.1\r\ns=-\r\nc=IN IP4 192.0.2.1\r\n\
        t=0 0\r\nm=audio 49170 RTP/AVP 0 8\r\na=rtpmap:0 PCMU/8000\r\nm=video 51372/2 RTP/AVP 99\r\nc=IN IP6 2001:db8::1\r\n";

    #[track_caller]
    fn check(from: &str, to: &str, want: Option<Reason>) {
        assert!(SDP.contains(from), "{from}");
        let text = SDP.replacen(from, to, 1);
        assert_eq!(super::check(text.as_bytes()).err(), want, "{text}");
        let bare = text.replace('\r', "");
        assert_eq!(super::check(bare.as_bytes()).err(), want, "{bare}");
    }

    #[test]
    fn accepted() {
        for (from, to) in [
            ("v=0", "v=0"),
            (
                "c=IN IP6 2001:db8::1\r\n",
                "c=IN IP6 ff15::101/3\r\n\r\n\r\n",
            ),
            ("c=IN IP6 2001:db8::1\r\n", "c=IN IP6 host6.example.com"),
            ("c=IN IP4 192.0.2.1", "c=IN IP4 224.2.1.1/127/3"),
            ("c=IN IP4 192.0.2.1", "c=IN IP4 0.0.0.0"),
            ("c=IN IP6 2001:db8::1\r\n", ""),
            ("s=-", "s="),
            ("s=-", "s=a session\r\ni=info\r\nb=AS:64\r\nu=http://a"),
            (
                "t=0 0",
                "t=2873397496 2873404696\r\nr=604800 3600 0 90000\r\nt=0 0",
            ),
            ("o=alice ", "o=Alice in Chains "),
            ("192.0.2.1\r\ns", "host.example.com\r\ns"),
            ("RTP/AVP 0 8", "UDP/TLS/RTP/SAVPF 111 103"),
            // Out of the order of RFC 8866 §5, but harmless.
            ("t=0 0\r\n", "a=sendrecv\r\nt=0 0\r\nb=AS:1\r\n"),
        ] {
            check(from, to, None);
        }
        // A session without streams (RFC 3264 §5), and a stream that is refused.
        let (session, _) = SDP.split_once("m=").unwrap();
        assert_eq!(super::check(session.as_bytes()), Ok(()));
        let refused = SDP
            .replace("c=IN IP4 192.0.2.1\r\n", "")
            .replace("49170", "0");
        assert_eq!(super::check(refused.as_bytes()), Ok(()));
    }

    #[test]
    fn refused() {
        for (from, to, want) in [
            ("s=-\r\n", "s=-\r\n\r\n", InvalidSdpLine),
            ("s=-", "s", InvalidSdpLine),
            ("s=-", "S=-", InvalidSdpLine),
            ("s=-", " s=-", InvalidSdpLine),
            ("v=0", "v=1", InvalidSdpVersion),
            ("v=0", "v=", InvalidSdpVersion),
            ("o=alice ", "o=", InvalidSdpOrigin),
            ("2890844526 IN", "x IN", InvalidSdpOrigin),
            ("IN IP4 192.0.2.1\r\ns", "IN IP4\r\ns", InvalidSdpOrigin),
            (
                "IN IP4 192.0.2.1\r\ns",
                "IN IP5 192.0.2.1\r\ns",
                InvalidSdpOrigin,
            ),
            (
                "IN IP4 192.0.2.1\r\ns",
                "UN IP4 192.0.2.1\r\ns",
                InvalidSdpOrigin,
            ),
            (
                "IN IP4 192.0.2.1\r\ns",
                "IN IP6 192.0.2.1\r\ns",
                InvalidSdpOrigin,
            ),
            ("c=IN IP4 192.0.2.1", "c=IN IP4", InvalidSdpConnection),
            (
                "c=IN IP4 192.0.2.1",
                "c=IN IP4 192.0.2.1 x",
                InvalidSdpConnection,
            ),
            (
                "c=IN IP4 192.0.2.1",
                "c=IN IP4 192.0.2.256",
                InvalidSdpConnection,
            ),
            (
                "c=IN IP4 192.0.2.1",
                "c=IN IP4 192.0.2.1/x",
                InvalidSdpConnection,
            ),
            (
                "c=IN IP4 192.0.2.1",
                "c=IN IP4 2001:db8::1",
                InvalidSdpConnection,
            ),
            (
                "c=IN IP6 2001:db8::1",
                "c=IN IP6 192.0.2.1",
                InvalidSdpConnection,
            ),
            (
                "c=IN IP6 2001:db8::1",
                "c=IN IP6 [2001:db8::1]",
                InvalidSdpConnection,
            ),
            ("t=0 0", "t=0", InvalidSdpTime),
            ("t=0 0", "t=0 0 0", InvalidSdpTime),
            ("t=0 0", "t=0 x", InvalidSdpTime),
            ("m=audio 49170", "m=audio", InvalidSdpMedia),
            ("m=audio 49170", "m=audio 65536", InvalidSdpMedia),
            ("m=audio 49170", "m=audio -1", InvalidSdpMedia),
            ("m=audio 49170", "m=audio 49170/", InvalidSdpMedia),
            ("RTP/AVP 0 8", "RTP/AVP", InvalidSdpMedia),
            ("v=0\r\n", "", IncompleteSdp),
            (
                "o=alice 2890844526 2890844526 IN IP4 192.0.2.1\r\n",
                "",
                IncompleteSdp,
            ),
            ("s=-\r\n", "", IncompleteSdp),
            ("t=0 0\r\n", "", IncompleteSdp),
            ("v=0\r\n", "a=x\r\nv=0\r\n", SdpOutOfOrder),
            ("s=-\r\n", "s=-\r\ns=-\r\n", SdpOutOfOrder),
            ("s=-\r\n", "s=-\r\nv=0\r\n", SdpOutOfOrder),
            ("s=-\r\n", "t=0 0\r\ns=-\r\n", SdpOutOfOrder),
            (
                "s=-\r\n",
                "s=-\r\no=- 1 1 IN IP4 192.0.2.1\r\n",
                SdpOutOfOrder,
            ),
            ("a=rtpmap", "t=0 0\r\na=rtpmap", SdpOutOfOrder),
            ("c=IN IP4 192.0.2.1\r\n", "", MissingSdpConnection),
        ] {
            check(from, to, Some(want));
        }
        let last = SDP
            .replace("c=IN IP4 192.0.2.1\r\n", "")
            .replace("c=IN IP6 2001:db8::1\r\n", "");
        let last = last.replace("49170", "0");
        assert_eq!(super::check(last.as_bytes()), Err(MissingSdpConnection));
        assert_eq!(super::check(b""), Err(IncompleteSdp));
    }
}
