//! Via (RFC 3261 §20.42, RFC 3581).

use std::net::SocketAddr;

use super::{
    Span,
    chars::{is_token, parse_ip, parse_port, read_port, skip_lws, skip_while, trim},
    name_addr::{RawParameter, find_value_end},
    uri::parse_host,
};

/// A Via parameter with a meaning for us.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Parameter {
    /// The name.
    pub name: Span,
    /// The value, when there is a `=`; may be empty.
    pub value: Option<Span>,
}

/// One Via value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Via {
    /// The whole value, without blanks around it and without the comma after it.
    pub value: Span,
    /// Host of sent-by; an IPv6 reference with its brackets.
    pub host: Span,
    /// Port of sent-by, when written.
    pub port: Option<u16>,
    /// Offset after sent-by: where the first parameter goes.
    pub sent_by_end: usize,
    /// Value of `branch`.
    pub branch: Option<Span>,
    /// `received`.
    pub received: Option<Parameter>,
    /// `rport` (RFC 3581).
    pub rport: Option<Parameter>,
    /// Value of `lbm`, the MAC of our own Via.
    pub mac: Option<Span>,
    /// Value of the first `maddr`.
    pub maddr: Option<Span>,
    /// Where the next value of a comma-joined list starts.
    pub next: Option<usize>,
}

impl Via {
    /// Reads the first value in `span`; `None` when it cannot be read or has a parameter of ours twice.
    #[inline]
    pub fn parse(bytes: &[u8], span: Span) -> Option<Self> {
        let (start, end) = trim(bytes, span.start(), span.end());
        let position = skip_protocol(bytes, start, end)?;
        let host = parse_host(bytes, position, end)?;
        let mut via = Self {
            value: Span::new(start, host.end()),
            host,
            port: None,
            sent_by_end: host.end(),
            branch: None,
            received: None,
            rport: None,
            mac: None,
            maddr: None,
            next: None,
        };
        let colon = skip_lws(bytes, host.end(), end);
        if colon < end && bytes[colon] == b':' {
            let digits = skip_lws(bytes, colon + 1, end);
            let (port, after) = read_port(bytes, digits, end)?;
            via.sent_by_end = after;
            via.port = Some(port);
        }
        let value_end = via.read_parameters(bytes, end)?;
        via.value = Span::new(start, value_end);
        Some(via)
    }

    /// Reads `;name[=value]...` up to the end or a comma, and returns where the last of them ends.
    #[inline(always)]
    fn read_parameters(&mut self, bytes: &[u8], end: usize) -> Option<usize> {
        let mut value_end = self.sent_by_end;
        loop {
            // Our own and most others' parameters have no blanks around them, and come as they are spelled here.
            if let Some(after) = self.read_usual_parameter(bytes, value_end, end) {
                value_end = after;
                continue;
            }
            let position = skip_lws(bytes, value_end, end);
            if position >= end {
                return Some(value_end);
            }
            match bytes[position] {
                b',' => {
                    let next = skip_lws(bytes, position + 1, end);
                    self.next = (next < end).then_some(next);
                    return Some(value_end);
                }
                b';' => {}
                _ => return None,
            }
            let parameter = RawParameter::parse(bytes, position, end)?;
            value_end = parameter.end;
            self.keep(bytes, parameter)?;
        }
    }

    /// Reads `;branch=`, `;lbm=`, `;received=` with a value that is a token or the like, or `;rport` with or without
    /// one, when it was not there before and another parameter or the end follows. Returns the offset after it.
    #[inline(always)]
    fn read_usual_parameter(&mut self, bytes: &[u8], start: usize, end: usize) -> Option<usize> {
        const BRANCH: u64 = u64::from_le_bytes(*b";branch=");
        const RECEIVED: u64 = u64::from_le_bytes(*b";receive");
        const RPORT: u64 = u64::from_le_bytes(*b";rport\0\0");
        const MAC: u64 = u64::from_le_bytes(*b";lbm=\0\0\0");
        let text = bytes.get(start..)?.first_chunk::<10>()?;
        let word = u64::from_le_bytes(*text.first_chunk()?);
        let name_len = if word == BRANCH && self.branch.is_none() {
            6
        } else if word & 0xffff_ffff_ffff == RPORT && self.rport.is_none() {
            5
        } else if word & 0xff_ffff_ffff == MAC && self.mac.is_none() {
            3
        } else if word == RECEIVED && text[8..] == *b"d=" && self.received.is_none() {
            8
        } else {
            return None;
        };
        let name = Span::new(start + 1, start + 1 + name_len);
        let mut after = name.end();
        let mut value = None;
        if after < end && bytes[after] == b'=' {
            let value_start = after + 1;
            after = find_value_end(bytes, value_start, end);
            value = Some(Span::new(value_start, after));
            if after == value_start {
                return None;
            }
        }
        // What else may stand here is for the slow way to say.
        if after > end
            || (value.is_none() && name_len != 5)
            || (after < end && bytes[after] != b';')
        {
            return None;
        }
        match name_len {
            8 => self.received = Some(Parameter { name, value }),
            6 => self.branch = value,
            5 => self.rport = Some(Parameter { name, value }),
            _ => self.mac = value,
        }
        Some(after)
    }

    /// Notes a parameter that matters; `None` when it was there before (RFC 3261 §7.3.1 forbids it, and the two hops
    /// that read it might take different ones).
    fn keep(&mut self, bytes: &[u8], parameter: RawParameter) -> Option<()> {
        let name = parameter.name.of(bytes);
        let kept = Parameter {
            name: parameter.name,
            value: parameter.value,
        };
        let before = match name.len() {
            3 if name.eq_ignore_ascii_case(b"lbm") => self.mac.replace(parameter.value?).is_some(),
            5 if name.eq_ignore_ascii_case(b"rport") => self.rport.replace(kept).is_some(),
            5 if name.eq_ignore_ascii_case(b"maddr") => {
                self.maddr = self.maddr.or(parameter.value);
                false
            }
            6 if name.eq_ignore_ascii_case(b"branch") => {
                self.branch.replace(parameter.value?).is_some()
            }
            8 if name.eq_ignore_ascii_case(b"received") => self.received.replace(kept).is_some(),
            _ => false,
        };
        (!before).then_some(())
    }

    /// Port of sent-by or the default (RFC 3261 §18.2.2).
    pub fn effective_port(&self) -> u16 {
        self.port.unwrap_or(5060)
    }

    /// Where a response goes that has this Via on top: `received`, else sent-by; `rport`, else the port of sent-by, else
    /// 5060 (RFC 3261 §18.2.2, RFC 3581 §4). `maddr` is not followed: it would let anybody point responses at anybody.
    ///
    /// `None` when the host is a name, or a value cannot be read: we fill both in for requests that pass us.
    pub fn response_target(&self, bytes: &[u8]) -> Option<SocketAddr> {
        let host = match self.received.and_then(|received| received.value) {
            Some(received) => received,
            None => self.host,
        };
        let port = match self.rport.and_then(|rport| rport.value) {
            Some(rport) => parse_port(rport.of(bytes))?,
            None => self.effective_port(),
        };
        Some(SocketAddr::new(parse_ip(host.of(bytes))?, port))
    }
}

/// Skips `SIP/2.0/transport` and the blanks after it. Blanks may surround the slashes.
fn skip_protocol(bytes: &[u8], start: usize, end: usize) -> Option<usize> {
    const USUAL: &[u8] = b"SIP/2.0/UDP ";
    let text = bytes.get(start..end)?;
    if text.starts_with(USUAL) {
        return Some(skip_lws(bytes, start + USUAL.len(), end));
    }
    let mut position = start;
    for part in 0..3 {
        let part_end = skip_while(bytes, position, end, is_token);
        let name = &bytes[position..part_end];
        if name.is_empty() || (part == 0 && !name.eq_ignore_ascii_case(b"SIP")) {
            return None;
        }
        position = skip_lws(bytes, part_end, end);
        if part < 2 {
            if bytes.get(position..end)?.first() != Some(&b'/') {
                return None;
            }
            position = skip_lws(bytes, position + 1, end);
        } else if position == part_end {
            return None;
        }
    }
    Some(position)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Option<Via> {
        Via::parse(text.as_bytes(), Span::new(0, text.len()))
    }

    fn text_of(text: &str, span: Option<Span>) -> Option<&str> {
        span.map(|span| std::str::from_utf8(span.of(text.as_bytes())).unwrap())
    }

    #[test]
    fn sent_by_and_branch() {
        for (text, host, port, branch) in [
            ("SIP/2.0/UDP 192.0.2.1", "192.0.2.1", None, None),
            (
                "SIP/2.0/UDP 192.0.2.1:5080;branch=z9hG4bKa",
                "192.0.2.1",
                Some(5080),
                Some("z9hG4bKa"),
            ),
            (
                "sip/2.0/udp a.example.com ; BRANCH = b ; x",
                "a.example.com",
                None,
                Some("b"),
            ),
            (
                "SIP/2.0/UDP [2001:db8::1]:5060;branch=b",
                "[2001:db8::1]",
                Some(5060),
                Some("b"),
            ),
            (
                "SIP / 2.0 \r\n / TCP\r\n  host : 5070 ;branch=b",
                "host",
                Some(5070),
                Some("b"),
            ),
            (
                "SIP/2.0/UDP\t under_score;branch=b;",
                "under_score",
                None,
                Some("b"),
            ),
            (
                "SIP/2.0/UDP h;x=\"a;branch=no, \\\" \";branch=b",
                "h",
                None,
                Some("b"),
            ),
        ] {
            let via = parse(text).unwrap_or_else(|| panic!("{text:?}"));
            assert_eq!(text_of(text, Some(via.host)), Some(host), "{text:?}");
            assert_eq!(via.port, port, "{text:?}");
            assert_eq!(text_of(text, via.branch), branch, "{text:?}");
            assert_eq!(via.next, None, "{text:?}");
        }
    }

    #[test]
    fn unreadable() {
        for text in [
            "",
            "SIP/2.0/UDP",
            "SIP/2.0/UDP ",
            "SIP/2.0 192.0.2.1",
            "SIP/2.0/UDP/ 192.0.2.1",
            "HTTP/1.1/TCP 192.0.2.1",
            "SIP/2.0/UDP ;branch=b",
            "SIP/2.0/UDP h:;branch=b",
            "SIP/2.0/UDP h:0;branch=b",
            "SIP/2.0/UDP h:65536;branch=b",
            "SIP/2.0/UDP h:x;branch=b",
            "SIP/2.0/UDP [2001:db8::1;branch=b",
            "SIP/2.0/UDP h x;branch=b",
            "SIP/2.0/UDP h;branch=b;branch=c",
            "SIP/2.0/UDP h;received=a;Received=b",
            "SIP/2.0/UDP h;rport;rport",
            "SIP/2.0/UDP h;lbm=a;lbm=a",
            "SIP/2.0/UDP h;branch",
            "SIP/2.0/UDP h;x=\"open",
            "SIP/2.0/UDP h;x=<",
            ",SIP/2.0/UDP h",
            "SIP/2.0/UDP h;;branch=b",
            "SIP/2.0/UDP h;branch=b;;",
            "SIP/2.0/UDP h;branch=b;,SIP/2.0/UDP i",
        ] {
            assert_eq!(parse(text), None, "{text:?}");
        }
    }

    #[test]
    fn lists() {
        let text = "SIP/2.0/UDP a;branch=1 ,\r\n SIP/2.0/UDP b;branch=2";
        let via = parse(text).unwrap();
        assert_eq!(
            text_of(text, Some(via.value)),
            Some("SIP/2.0/UDP a;branch=1")
        );
        assert_eq!(&text[via.next.unwrap()..], "SIP/2.0/UDP b;branch=2");
        assert_eq!(parse("SIP/2.0/UDP a;branch=1,").unwrap().next, None);
    }

    #[test]
    fn response_targets() {
        for (text, want) in [
            ("SIP/2.0/UDP 192.0.2.1", Some("192.0.2.1:5060")),
            ("SIP/2.0/UDP 192.0.2.1:5080", Some("192.0.2.1:5080")),
            ("SIP/2.0/UDP 192.0.2.1:5080;rport", Some("192.0.2.1:5080")),
            (
                "SIP/2.0/UDP 192.0.2.1:5080;rport=7;received=198.51.100.1",
                Some("198.51.100.1:7"),
            ),
            (
                "SIP/2.0/UDP host;received=198.51.100.1",
                Some("198.51.100.1:5060"),
            ),
            (
                "SIP/2.0/UDP host;received=2001:db8::1;rport=7",
                Some("[2001:db8::1]:7"),
            ),
            ("SIP/2.0/UDP [2001:db8::2]:5070", Some("[2001:db8::2]:5070")),
            (
                "SIP/2.0/UDP 192.0.2.1;maddr=198.51.100.9",
                Some("192.0.2.1:5060"),
            ),
            ("SIP/2.0/UDP host", None),
            ("SIP/2.0/UDP 192.0.2.1;received=host", None),
            ("SIP/2.0/UDP 192.0.2.1;received=", None),
            ("SIP/2.0/UDP 192.0.2.1;rport=0", None),
            ("SIP/2.0/UDP 192.0.2.1;rport=99999", None),
        ] {
            let want = want.map(|target| target.parse::<SocketAddr>().unwrap());
            assert_eq!(
                parse(text).unwrap().response_target(text.as_bytes()),
                want,
                "{text}"
            );
        }
    }
}
