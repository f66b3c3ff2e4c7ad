//! SIP and SIPS URIs as far as "is this ours?" needs them (RFC 3261 §19.1).

use super::{
    Span,
    block::{Block, find},
    chars::{read_port, skip_while},
};

/// User, host and port of a `sip:` or `sips:` URI. Parameters and headers are not looked at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Uri {
    /// True for `sips:`.
    pub secure: bool,
    /// User part with password, when there is an `@`.
    pub user: Option<Span>,
    /// Host; an IPv6 reference with its brackets.
    pub host: Span,
    /// Port, when written.
    pub port: Option<u16>,
    /// Offset after host and port: where parameters begin.
    pub host_port_end: usize,
}

impl Uri {
    /// Reads the URI at `span`; `None` for other schemes and for what cannot be read.
    pub fn parse(bytes: &[u8], span: Span) -> Option<Self> {
        let (start, end) = (span.start(), span.end());
        let text = span.of(bytes);
        let (secure, mut position) = match text.first_chunk() {
            Some(b"sip:") if text.len() > 4 => (false, start + 4),
            _ => skip_scheme(text, start)?,
        };
        // `@` is only allowed unescaped at the end of the user part.
        let at = find(bytes, position, end, |block| block.is(b'@').bits());
        let user = (at < end).then(|| {
            let user = Span::new(position, at);
            position = at + 1;
            user
        });
        let host = parse_host(bytes, position, end)?;
        let mut after = host.end();
        let mut port = None;
        if after < end && bytes[after] == b':' {
            let (number, digits_end) = read_port(bytes, after + 1, end)?;
            (port, after) = (Some(number), digits_end);
        }
        if after < end && !matches!(bytes[after], b';' | b'?') {
            return None;
        }
        Some(Self {
            secure,
            user,
            host,
            port,
            host_port_end: after,
        })
    }

    /// The URI that `span` begins with in angle brackets, and its text without them, in the form `<sip:user@host:port...>`
    /// that most have; `None` for every other one, right or wrong.
    #[inline(always)]
    pub(crate) fn parse_usual_in_brackets(bytes: &[u8], span: Span) -> Option<(Self, Span)> {
        let (start, end) = (span.start(), span.end());
        if bytes.get(start..)?.first_chunk() != Some(b"<sip:") {
            return None;
        }
        let user = start + b"<sip:".len();
        let at = find(bytes, user, end, |block| {
            block.is(b'@').or(block.is(b'>')).bits()
        });
        if at >= end || bytes[at] != b'@' {
            return None;
        }
        let host = Span::new(at + 1, find(bytes, at + 1, end, ends_host));
        let mut after = host.end();
        let mut port = None;
        if bytes.get(after) == Some(&b':') {
            let (number, digits_end) = read_port(bytes, after + 1, end)?;
            (port, after) = (Some(number), digits_end);
        }
        let uri = Self {
            secure: false,
            user: Some(Span::new(user, at)),
            host,
            port,
            host_port_end: after,
        };
        let close = match bytes.get(after)? {
            b'>' => after,
            b';' => find(bytes, after, end, |block| block.is(b'>').bits()),
            _ => return None,
        };
        // No blank is part of a URI.
        (!host.is_empty() && close < end && bytes[close - 1] > b' ')
            .then(|| (uri, Span::new(start + 1, close)))
    }

    /// The port, or the default of the scheme (RFC 3261 §19.1.2).
    pub fn effective_port(&self) -> u16 {
        self.port.unwrap_or(if self.secure { 5061 } else { 5060 })
    }
}

/// Passes `sip:` or `sips:` in any case, when something follows: which of them it is, and the offset after it.
#[cold]
fn skip_scheme(text: &[u8], start: usize) -> Option<(bool, usize)> {
    match text.get(..5)? {
        [s, i, p, b':', _] if [*s, *i, *p].eq_ignore_ascii_case(b"sip") => Some((false, start + 4)),
        scheme if scheme.eq_ignore_ascii_case(b"sips:") => Some((true, start + 5)),
        _ => None,
    }
}

/// Reads a host name, an IPv4 address or an IPv6 reference at `start`; `None` when there is none.
#[inline(always)]
pub(super) fn parse_host(bytes: &[u8], start: usize, end: usize) -> Option<Span> {
    let after = if bytes.get(start..end)?.first() == Some(&b'[') {
        let close = skip_while(bytes, start + 1, end, |byte| {
            byte.is_ascii_hexdigit() || matches!(byte, b':' | b'.')
        });
        if close == start + 1 || close >= end || bytes[close] != b']' {
            return None;
        }
        close + 1
    } else {
        find(bytes, start, end, ends_host)
    };
    (after > start).then(|| Span::new(start, after))
}

/// What is in no host name or IPv4 address. The underscore is not in the grammar of host names, but is in the names of
/// many hosts.
#[inline(always)]
fn ends_host(block: Block) -> u32 {
    let letters = block.lower().within(b'a', b'z');
    let digits_and_marks = block.within(b'0', b'9').or(block.within(b'-', b'.'));
    !letters.or(digits_and_marks).or(block.is(b'_')).bits() & 0xffff
}

#[cfg(test)]
mod tests {
    use super::*;

    /// User, host and port in one text.
    fn check(text: &str, want: Option<&str>) {
        let bytes = text.as_bytes();
        let got = Uri::parse(bytes, Span::new(0, bytes.len())).map(|uri| {
            format!(
                "{:?} {} {:?} {}",
                uri.user
                    .map(|user| String::from_utf8_lossy(user.of(bytes)).into_owned()),
                String::from_utf8_lossy(uri.host.of(bytes)),
                uri.port,
                uri.effective_port(),
            )
        });
        assert_eq!(got.as_deref(), want, "{text}");
    }

    #[test]
    fn uris() {
        check("sip:192.0.2.1", Some("None 192.0.2.1 None 5060"));
        check(
            "SIP:bob@Example.com:5080;lr?x=y",
            Some(r#"Some("bob") Example.com Some(5080) 5080"#),
        );
        check(
            "sips:bob:pw@[2001:db8::1]",
            Some(r#"Some("bob:pw") [2001:db8::1] None 5061"#),
        );
        check("sip:@127.0.0.1", Some(r#"Some("") 127.0.0.1 None 5060"#));
        check(
            "sip:a;b=c?d@host",
            Some(r#"Some("a;b=c?d") host None 5060"#),
        );
        check(
            "sip:[2001:db8::1]:5061;x",
            Some("None [2001:db8::1] Some(5061) 5061"),
        );
        for text in [
            "",
            "sip",
            "sip:",
            "sip:@",
            "tel:+4412",
            "sip:bob@",
            "sip:[::1",
            "sip:[]",
            "sip:host:",
            "sip:host:0",
            "sip:host:65536",
            "sip:host:5060x",
            "sip:ho st",
            "sip:a@b@c",
            "sip:host/path",
            "sips:",
        ] {
            check(text, None);
        }
    }

    #[test]
    fn nothing_after_the_span_is_read() {
        let bytes = b"<sip:192.0.2.1>:5080";
        let uri = Uri::parse(bytes, Span::new(1, 14)).unwrap();
        assert_eq!((uri.host.of(bytes), uri.port), (&b"192.0.2.1"[..], None));
    }
}
