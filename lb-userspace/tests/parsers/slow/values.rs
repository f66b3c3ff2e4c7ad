//! Values of header fields: Via, name-addr and addr-spec, URI, parameters.

use super::text::{Quotes, Text, is_lws, is_whole_token};

#[derive(Debug)]
pub struct Via<'a> {
    pub host: Text<'a>,
    pub port: Option<u16>,
    /// Offset after sent-by.
    pub sent_by_end: usize,
    pub branch: Option<Text<'a>>,
    pub mac: Option<Text<'a>>,
    /// `None`: not there. `Some(None)`: without a value.
    pub received: Option<Option<Text<'a>>>,
    pub rport: Option<Option<Text<'a>>>,
    /// Offset of the next value in the same header field.
    pub next: Option<usize>,
}

#[derive(Debug)]
pub struct NameAddr<'a> {
    pub uri: Text<'a>,
    pub tag: Option<Text<'a>>,
    /// Offset of the next value in the same header field.
    pub next: Option<usize>,
}

#[derive(Debug)]
pub struct Uri<'a> {
    pub secure: bool,
    pub user: Option<Text<'a>>,
    pub host: Text<'a>,
    pub port: Option<u16>,
}

/// Digits and nothing else, up to `max`.
pub fn number(text: Text<'_>, max: u64) -> Option<u64> {
    if text.bytes.is_empty() || !text.bytes.iter().all(u8::is_ascii_digit) {
        return None;
    }
    let significant = String::from_utf8_lossy(text.bytes);
    let significant = significant.trim_start_matches('0');
    match significant.len() {
        0 => Some(0),
        1..=18 => significant.parse().ok().filter(|number| *number <= max),
        _ => None,
    }
}

fn port(text: Text<'_>) -> Option<u16> {
    number(text, 65_535)
        .filter(|port| *port > 0)
        .map(|port| port as u16)
}

/// The first value of a Via field (RFC 3261 §20.42).
pub fn via(field: Text<'_>) -> Option<Via<'_>> {
    let list = List::of(field);
    let mut parts = list.first.split(b';').into_iter();
    let first = parts.next()?;
    let (name, rest) = first.split_once(b'/')?;
    let (version, rest) = rest.split_once(b'/')?;
    if !name.trimmed().bytes.eq_ignore_ascii_case(b"SIP") || !is_whole_token(version.trimmed()) {
        return None;
    }
    let rest = rest.trimmed();
    let blank = rest.bytes.iter().position(|byte| is_lws(*byte))?;
    if !is_whole_token(rest.until(rest.at + blank)) {
        return None;
    }
    let (host, port, sent_by_end) = host_and_port(rest.from(blank).trimmed())?;
    let parameters = parameters(parts, list.is_last)?;
    let value_of = |name: &[u8]| only(&parameters, name);
    Some(Via {
        host,
        port,
        sent_by_end,
        // These two say nothing without a value.
        branch: value_of(b"branch")?.map_or(Some(None), |value| value.map(Some))?,
        mac: value_of(b"lbm")?.map_or(Some(None), |value| value.map(Some))?,
        received: value_of(b"received")?,
        rport: value_of(b"rport")?,
        next: list.next,
    })
}

/// `host [COLON port]` to the end of the text, and where the last of it ends.
fn host_and_port(text: Text<'_>) -> Option<(Text<'_>, Option<u16>, usize)> {
    let host = host(text)?;
    let rest = text.from(host.bytes.len()).trimmed();
    match rest.bytes.first() {
        None => Some((host, None, host.end())),
        Some(b':') => {
            let digits = rest.from(1).trimmed();
            Some((host, Some(port(digits)?), digits.end()))
        }
        Some(_) => None,
    }
}

/// The host that a text begins with: a name, an IPv4 address or an IPv6 reference. Names may have underscores.
fn host(text: Text<'_>) -> Option<Text<'_>> {
    if text.bytes.first() == Some(&b'[') {
        let close = text.bytes.iter().position(|byte| *byte == b']')?;
        let inner = &text.bytes[1..close];
        let is_ipv6 = |byte: &u8| byte.is_ascii_hexdigit() || b":.".contains(byte);
        return (!inner.is_empty() && inner.iter().all(is_ipv6))
            .then(|| text.until(text.at + close + 1));
    }
    let is_host = |byte: &u8| byte.is_ascii_alphanumeric() || b"-._".contains(byte);
    let len = text.bytes.iter().take_while(|byte| is_host(byte)).count();
    (len > 0).then(|| text.until(text.at + len))
}

/// The first value of a From, To, Route or Contact field (RFC 3261 §20.10: with brackets or without).
pub fn name_addr(field: Text<'_>) -> Option<NameAddr<'_>> {
    let list = List::of(field);
    let mut parts = list.first.split(b';').into_iter();
    let address = parts.next()?.trimmed();
    let uri = match find_bracket(address) {
        // What stands before the bracket is a display name, and nobody is strict about those.
        Some(open) => {
            let inner = address.from(open + 1);
            let close = inner.bytes.iter().position(|byte| *byte == b'>')?;
            if close + 1 != inner.bytes.len() {
                return None;
            }
            inner.until(inner.at + close).trimmed()
        }
        None if address.bytes.contains(&b'"') || address.bytes.contains(&b'>') => return None,
        None => address,
    };
    if uri.bytes.is_empty() {
        return None;
    }
    let parameters = parameters(parts, list.is_last)?;
    let tag = match only(&parameters, b"tag")? {
        None => None,
        Some(value) => Some(value?),
    };
    Some(NameAddr {
        uri,
        tag,
        next: list.next,
    })
}

/// Offset in the text of the first `<` outside quoted strings.
fn find_bracket(text: Text<'_>) -> Option<usize> {
    let mut quotes = Quotes::default();
    text.bytes
        .iter()
        .position(|byte| !quotes.covers(*byte) && *byte == b'<')
}

/// A `sip:` or `sips:` URI up to its parameters (RFC 3261 §19.1.1).
pub fn uri(text: Text<'_>) -> Option<Uri<'_>> {
    let (scheme, rest) = text.split_once(b':')?;
    let secure = match scheme.bytes.to_ascii_lowercase().as_slice() {
        b"sip" => false,
        b"sips" => true,
        _ => return None,
    };
    let (user, rest) = match rest.split_once(b'@') {
        Some((user, rest)) => (Some(user), rest),
        None => (None, rest),
    };
    let end = rest
        .bytes
        .iter()
        .position(|byte| b";?".contains(byte))
        .unwrap_or(rest.bytes.len());
    let rest = rest.until(rest.at + end);
    let host = host(rest)?;
    let after = rest.from(host.bytes.len());
    let port = match after.bytes.first() {
        None => None,
        Some(b':') => Some(port(after.from(1))?),
        Some(_) => return None,
    };
    Some(Uri {
        secure,
        user,
        host,
        port,
    })
}

/// `name [EQUAL value]` of each; `None` when one of them is something else.
fn parameters<'a>(
    parts: impl Iterator<Item = Text<'a>>,
    is_last: bool,
) -> Option<Vec<(Text<'a>, Option<Text<'a>>)>> {
    let mut parts = parts.map(Text::trimmed).collect::<Vec<_>>();
    // Some devices end a field with a semicolon.
    if is_last && parts.last().is_some_and(|last| last.bytes.is_empty()) {
        parts.pop();
    }
    parts.into_iter().map(parameter).collect()
}

fn parameter(text: Text<'_>) -> Option<(Text<'_>, Option<Text<'_>>)> {
    let Some((name, value)) = text.split_once(b'=') else {
        return is_whole_token(text).then_some((text, None));
    };
    let (name, value) = (name.trimmed_end(is_lws), value.trimmed());
    let is_value = if value.bytes.first() == Some(&b'"') {
        is_whole_quoted_string(value)
    } else {
        // More than `token / host`, and it may be empty.
        !value
            .bytes
            .iter()
            .any(|byte| is_lws(*byte) || b"\"<>".contains(byte))
    };
    (is_whole_token(name) && is_value).then_some((name, Some(value)))
}

/// The value of the parameter of this name, which may not be there twice. Outer `None`: it is.
fn only<'a>(
    parameters: &[(Text<'a>, Option<Text<'a>>)],
    wanted: &[u8],
) -> Option<Option<Option<Text<'a>>>> {
    let mut found = parameters
        .iter()
        .filter(|(name, _)| name.bytes.eq_ignore_ascii_case(wanted));
    let first = found.next().map(|(_, value)| *value);
    found.next().is_none().then_some(first)
}

fn is_whole_quoted_string(text: Text<'_>) -> bool {
    let mut quotes = Quotes::default();
    let closed_at = text.bytes.iter().skip(1).position(|byte| {
        let escaped = std::mem::take(&mut quotes.escaped);
        quotes.escaped = !escaped && *byte == b'\\';
        !escaped && *byte == b'"'
    });
    text.bytes.first() == Some(&b'"') && closed_at.is_some_and(|at| at + 2 == text.bytes.len())
}

/// The first element of a comma-joined list, and what follows it.
struct List<'a> {
    first: Text<'a>,
    next: Option<usize>,
    /// True when there is no comma after the first one.
    is_last: bool,
}

impl<'a> List<'a> {
    fn of(field: Text<'a>) -> Self {
        let field = field.trimmed();
        let elements = field.split(b',');
        // A comma at the very end joins nothing.
        let next = match elements.as_slice() {
            [_] => None,
            [_, second] if second.trimmed().bytes.is_empty() => None,
            [_, second, ..] => Some(second.at + second.leading_lws()),
            [] => None,
        };
        Self {
            first: elements[0],
            next,
            is_last: elements.len() == 1,
        }
    }
}
