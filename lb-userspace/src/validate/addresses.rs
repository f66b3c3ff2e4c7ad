//! Values that hold a URI, with or without angle brackets.

use super::{
    cursor::{Cursor, is_lws, is_token, is_u32, trim},
    reason::Reason,
    uri::{self, UriFault},
};
use crate::sip::{NameAddr, Span};

/// The parts of a `name-addr` or `addr-spec` with parameters.
#[derive(Clone, Copy, Debug)]
pub(super) struct Address<'a> {
    /// Before the bracket, maybe with blanks around it.
    display: &'a [u8],
    in_brackets: bool,
    /// True for blanks between a bracket and the URI.
    blanks: bool,
    pub uri: &'a [u8],
    /// `;name[=value]...`, maybe with blanks around it.
    parameters: &'a [u8],
}

impl<'a> Address<'a> {
    fn of(bytes: &'a [u8], parsed: &NameAddr) -> Self {
        let before = &bytes[parsed.value.start()..parsed.uri.start()];
        let after = &bytes[parsed.uri.end()..parsed.value.end().max(parsed.uri.end())];
        let uri = parsed.uri.of(bytes);
        let open = memchr::memrchr(b'<', before);
        match (open, memchr::memchr(b'>', after)) {
            (Some(open), Some(close)) => Self {
                display: &before[..open],
                in_brackets: true,
                blanks: open + 1 < before.len() || close > 0,
                uri,
                parameters: &after[close + 1..],
            },
            _ => Self {
                display: b"",
                in_brackets: false,
                blanks: false,
                uri,
                parameters: after,
            },
        }
    }

    /// What the grammar has against it besides the URI (RFC 3261 §20, §25.1).
    pub fn form(&self) -> Option<Reason> {
        if self.blanks || !self.in_brackets && self.uri.contains(&b'?') {
            return Some(Reason::InvalidAddrSpec);
        }
        (!is_display_name(self.display)).then_some(Reason::InvalidDisplayName)
    }

    /// True when `expires` and `q` are numbers in their range.
    pub fn has_contact_parameters(&self) -> bool {
        let see = |name: &[u8], value: Option<&[u8]>| {
            let fits = match name {
                _ if name.eq_ignore_ascii_case(b"expires") => value.is_some_and(is_u32),
                _ if name.eq_ignore_ascii_case(b"q") => value.is_some_and(is_qvalue),
                _ => true,
            };
            fits.then_some(())
        };
        Cursor::new(self.parameters).parameters(see).is_some()
    }
}

/// The values of a comma-joined list; `None` for one that cannot be read, which is the last.
pub(super) struct Addresses<'a> {
    bytes: &'a [u8],
    rest: Option<Span>,
}

impl<'a> Addresses<'a> {
    pub fn of(bytes: &'a [u8], value: Span) -> Self {
        Self {
            bytes,
            rest: Some(value),
        }
    }

    /// True when there are values, all of them can be read, and this holds for each.
    pub fn all(bytes: &'a [u8], value: Span, holds: impl Fn(&Address<'a>) -> bool) -> bool {
        Self::of(bytes, value).all(|address| address.is_some_and(|address| holds(&address)))
    }
}

impl<'a> Iterator for Addresses<'a> {
    type Item = Option<Address<'a>>;

    fn next(&mut self) -> Option<Self::Item> {
        let span = self.rest.take()?;
        let Some(parsed) = NameAddr::parse(self.bytes, span) else {
            return Some(None);
        };
        self.rest = parsed.next.map(|next| Span::new(next, span.end()));
        Some(Some(Address::of(self.bytes, &parsed)))
    }
}

/// True when the URI can be read and the host is one. What characters a user part has is not looked at: only where a
/// request goes, where it comes from and whom it is for have reasons of their own for that.
pub(super) fn is_uri(address: &Address<'_>) -> bool {
    matches!(
        uri::check(address.uri),
        Ok(()) | Err(UriFault::User | UriFault::Headers)
    )
}

/// The same, and in brackets, as Route, Record-Route and Path have it.
pub(super) fn is_route(address: &Address<'_>) -> bool {
    address.in_brackets && is_uri(address)
}

/// Nothing, tokens with blanks between them, or one quoted string.
fn is_display_name(display: &[u8]) -> bool {
    let display = trim(display);
    let mut cursor = Cursor::new(display);
    match display.first() {
        Some(b'"') => cursor.quoted().is_some() && cursor.at_end(),
        _ => display.iter().all(|byte| is_token(*byte) || is_lws(*byte)),
    }
}

/// `0[.ddd]` or `1[.000]`
fn is_qvalue(value: &[u8]) -> bool {
    match value {
        b"0" | b"1" => true,
        [b'0', b'.', digits @ ..] => digits.len() <= 3 && digits.iter().all(u8::is_ascii_digit),
        [b'1', b'.', zeros @ ..] => zeros.len() <= 3 && zeros.iter().all(|digit| *digit == b'0'),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn forms() {
        for (text, want) in [
            ("sip:a@b", None),
            ("<sip:a@b>;x", None),
            ("Alice B.~<sip:a@b>", None),
            ("\"A \\\" \u{fc} <\" <sip:a@b> ;x", None),
            ("<sip:a@b?c=d>", None),
            ("sip:a@b?c=d", Some(Reason::InvalidAddrSpec)),
            ("< sip:a@b>", Some(Reason::InvalidAddrSpec)),
            ("<sip:a@b >", Some(Reason::InvalidAddrSpec)),
            ("a@b <sip:a@b>", Some(Reason::InvalidDisplayName)),
            ("\u{fc} <sip:a@b>", Some(Reason::InvalidDisplayName)),
            ("\"a\" b <sip:a@b>", Some(Reason::InvalidDisplayName)),
            ("a \"b\" <sip:a@b>", Some(Reason::InvalidDisplayName)),
        ] {
            let bytes = text.as_bytes();
            let address = Addresses::of(bytes, Span::new(0, bytes.len()))
                .next()
                .flatten();
            assert_eq!(address.unwrap().form(), want, "{text}");
        }
    }

    #[test]
    fn lists_and_parameters() {
        for (text, count, fits) in [
            (
                "<sip:a@b>;q=0.5;expires=4294967295, sip:c@d;q=1.000 ,<tel:1>;Q=0",
                3,
                true,
            ),
            ("<sip:a@b>;q=1.001", 1, false),
            ("<sip:a@b>;q=.5", 1, false),
            ("<sip:a@b>;q=0.5555", 1, false),
            ("<sip:a@b>;q", 1, false),
            ("<sip:a@b>;expires=4294967296", 1, false),
            ("<sip:a@b>;expires=\"1\"", 1, false),
            ("<sip:a@b>;expires=1;", 1, true),
        ] {
            let bytes = text.as_bytes();
            let all = Addresses::of(bytes, Span::new(0, bytes.len()))
                .collect::<Option<Vec<_>>>()
                .unwrap();
            assert_eq!(all.len(), count, "{text}");
            assert_eq!(
                all.iter().all(Address::has_contact_parameters),
                fits,
                "{text}"
            );
        }
        let broken = b"<sip:a@b>, <sip:c";
        let all = Addresses::of(broken, Span::new(0, broken.len())).collect::<Vec<_>>();
        assert!(matches!(all[..], [Some(_), None]));
    }
}
