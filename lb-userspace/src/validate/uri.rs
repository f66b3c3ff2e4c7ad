//! URIs, character by character (RFC 3261 §19.1 and §25.1, RFC 3966).

use super::cursor::Cursor;
use crate::sip::parse_ip;

/// What is wrong with a URI.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum UriFault {
    /// Its parts cannot be told apart, or a character is in a part that cannot have it.
    Syntax,
    /// The user part is empty or has a character that must be escaped.
    User,
    /// The host is no host name and no address.
    Host,
    /// Nothing but that it has header fields (`?name=value`), which not every place allows.
    Headers,
}

/// True for `sip:` and `sips:`.
pub(super) fn is_sip(uri: &[u8]) -> bool {
    matches!(scheme(uri), Some(scheme) if scheme.eq_ignore_ascii_case(b"sip") || scheme.eq_ignore_ascii_case(b"sips"))
}

/// True for `tel:`.
pub(super) fn is_tel(uri: &[u8]) -> bool {
    scheme(uri).is_some_and(|scheme| scheme.eq_ignore_ascii_case(b"tel"))
}

fn scheme(uri: &[u8]) -> Option<&[u8]> {
    let colon = memchr::memchr(b':', uri)?;
    Some(&uri[..colon])
}

/// Reads a URI of any scheme to its end and returns the first thing found wrong.
pub(super) fn check(uri: &[u8]) -> Result<(), UriFault> {
    let scheme = scheme(uri).ok_or(UriFault::Syntax)?;
    let rest = &uri[scheme.len() + 1..];
    if is_sip(uri) {
        return check_sip(rest);
    }
    let is_scheme = scheme.first().is_some_and(u8::is_ascii_alphabetic)
        && scheme
            .iter()
            .all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'+' | b'-' | b'.'));
    let is_rest = match is_tel(uri) {
        true => is_subscriber(rest),
        false => !rest.is_empty() && is_made_of(rest, is_uric),
    };
    (is_scheme && is_rest).then_some(()).ok_or(UriFault::Syntax)
}

/// `[user[:password]@]host[:port][;parameters][?headers]`
fn check_sip(rest: &[u8]) -> Result<(), UriFault> {
    let mut cursor = Cursor::new(rest);
    // `@` is only allowed unescaped at the end of the user part.
    if memchr::memchr(b'@', rest).is_some() {
        let user = cursor.take_while(|byte| byte != b'@');
        cursor.eat(b'@');
        if !is_user(user) {
            return Err(UriFault::User);
        }
    }
    let from_host = cursor.rest();
    if cursor.eat(b'[') {
        cursor.take_while(|byte| byte != b']');
        cursor.eat(b']');
    } else {
        cursor.take_while(|byte| !matches!(byte, b':' | b';' | b'?'));
    }
    let host = &from_host[..from_host.len() - cursor.rest().len()];
    if !is_host(host) {
        return Err(UriFault::Host);
    }
    read_tail(&mut cursor).ok_or(UriFault::Syntax)?;
    match cursor.rest() {
        [] => Ok(()),
        [b'?', headers @ ..] if are_headers(headers) => Err(UriFault::Headers),
        _ => Err(UriFault::Syntax),
    }
}

/// `[:port]*(;name[=value])`
fn read_tail(cursor: &mut Cursor<'_>) -> Option<()> {
    if cursor.eat(b':') {
        let digits = cursor.digits()?;
        let port = digits.iter().try_fold(0u16, |port, digit| {
            port.checked_mul(10)?.checked_add(u16::from(digit & 0xf))
        });
        port.filter(|port| *port != 0)?;
    }
    while cursor.eat(b';') {
        let parameter = cursor.take_while(|byte| !matches!(byte, b';' | b'?'));
        let mut parts = parameter.splitn(2, |byte| *byte == b'=');
        let mut is_part = |required: bool| match parts.next() {
            Some(part) => !part.is_empty() && is_made_of(part, is_param),
            None => !required,
        };
        (is_part(true) && is_part(false)).then_some(())?;
    }
    Some(())
}

/// `user[:password]`
fn is_user(user: &[u8]) -> bool {
    let mut parts = user.splitn(2, |byte| *byte == b':');
    let name = parts.next().unwrap_or_default();
    !name.is_empty()
        && is_made_of(name, |byte| {
            is_unreserved(byte)
                || matches!(byte, b'&' | b'=' | b'+' | b'$' | b',' | b';' | b'?' | b'/')
        })
        && parts.next().is_none_or(|password| {
            is_made_of(password, |byte| {
                is_unreserved(byte) || matches!(byte, b'&' | b'=' | b'+' | b'$' | b',')
            })
        })
}

/// `name=value*(&name=value)`; a value may be empty.
fn are_headers(headers: &[u8]) -> bool {
    let is_char = |byte| {
        is_unreserved(byte) || matches!(byte, b'[' | b']' | b'/' | b'?' | b':' | b'+' | b'$')
    };
    headers.split(|byte| *byte == b'&').all(|header| {
        let equals = memchr::memchr(b'=', header);
        equals.is_some_and(|equals| {
            equals > 0
                && is_made_of(&header[..equals], is_char)
                && is_made_of(&header[equals + 1..], is_char)
        })
    })
}

/// `global-number / local-number` with parameters (RFC 3966). Letters of local numbers are hexadecimal digits.
fn is_subscriber(rest: &[u8]) -> bool {
    let mut cursor = Cursor::new(rest);
    cursor.eat(b'+');
    let number = cursor.take_while(|byte| {
        byte.is_ascii_hexdigit() || matches!(byte, b'*' | b'#' | b'-' | b'.' | b'(' | b')')
    });
    !number.is_empty()
        && (cursor.at_end() || cursor.peek() == Some(b';'))
        && read_tail(&mut cursor).is_some()
        && cursor.at_end()
}

/// A host name, an IPv4 address, or an IPv6 address in brackets.
///
/// Stricter than what routing takes: no underscore, no empty label, no label that begins or ends with a hyphen, and what
/// ends in a number must be an IPv4 address.
pub(super) fn is_host(host: &[u8]) -> bool {
    if host.first() == Some(&b'[') {
        return parse_ip(host).is_some();
    }
    let name = host.strip_suffix(b".").unwrap_or(host);
    let labels = || name.split(|byte| *byte == b'.');
    let are_labels = labels().all(|label| {
        label
            .iter()
            .all(|byte| byte.is_ascii_alphanumeric() || *byte == b'-')
            && label.first().is_some_and(u8::is_ascii_alphanumeric)
            && label.last().is_some_and(u8::is_ascii_alphanumeric)
    });
    let ends_in_number = labels()
        .next_back()
        .is_some_and(|label| label.iter().all(u8::is_ascii_digit));
    are_labels && (!ends_in_number || is_ipv4(host))
}

/// Four numbers up to 255. Leading zeros are in the grammar.
fn is_ipv4(host: &[u8]) -> bool {
    let labels = || host.split(|byte| *byte == b'.');
    labels().count() == 4
        && labels().all(|label| {
            (1..=3).contains(&label.len())
                && label.iter().all(u8::is_ascii_digit)
                && label
                    .iter()
                    .fold(0, |number, digit| number * 10 + u32::from(digit & 0xf))
                    <= 255
        })
}

/// True when every byte is wanted or an escape of two hexadecimal digits.
fn is_made_of(bytes: &[u8], wanted: impl Fn(u8) -> bool) -> bool {
    let mut rest = bytes;
    loop {
        rest = match rest {
            [] => return true,
            [b'%', a, b, rest @ ..] if a.is_ascii_hexdigit() && b.is_ascii_hexdigit() => rest,
            [byte, rest @ ..] if *byte != b'%' && wanted(*byte) => rest,
            _ => return false,
        }
    }
}

fn is_unreserved(byte: u8) -> bool {
    byte.is_ascii_alphanumeric()
        || matches!(
            byte,
            b'-' | b'_' | b'.' | b'!' | b'~' | b'*' | b'\'' | b'(' | b')'
        )
}

/// Of URI parameters.
fn is_param(byte: u8) -> bool {
    is_unreserved(byte) || matches!(byte, b'[' | b']' | b'/' | b':' | b'&' | b'+' | b'$')
}

/// Of other schemes.
fn is_uric(byte: u8) -> bool {
    is_param(byte) || matches!(byte, b';' | b'?' | b'@' | b'=' | b',' | b'#')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn uris() {
        use UriFault::{Headers, Host, Syntax, User};
        for (uri, want) in [
            ("sip:bob@example.com", Ok(())),
            ("SIPS:bob:pass@example.com.:5061;transport=tls;lr", Ok(())),
            ("sip:192.0.2.1", Ok(())),
            ("sip:192.0.02.001:5060", Ok(())),
            ("sip:[2001:db8::1]:5060", Ok(())),
            (
                "sip:+1(555)010;phone-context=+1@gw1.example;user=phone",
                Ok(()),
            ),
            ("sip:null-%00-null@example.com", Ok(())),
            ("sip:a;b=c?d@example.com", Ok(())),
            ("sip:x@a-1.b", Ok(())),
            ("sip:x@h;maddr=[2001:db8::1];p", Ok(())),
            ("sip:h?a=b&c=", Err(Headers)),
            ("tel:+1-201-555-0123;ext=1", Ok(())),
            ("tel:*21#", Ok(())),
            ("tel:911;phone-context=example.com", Ok(())),
            ("urn:service:sos.fire", Ok(())),
            ("soap.beep://192.0.2.103:3002", Ok(())),
            ("http://example.com/a?b=c#d", Ok(())),
            ("", Err(Syntax)),
            ("bob", Err(Syntax)),
            (":x", Err(Syntax)),
            ("1a:x", Err(Syntax)),
            ("mailto:", Err(Syntax)),
            ("mailto:a b", Err(Syntax)),
            ("tel:", Err(Syntax)),
            ("tel:+", Err(Syntax)),
            ("tel:+1 2", Err(Syntax)),
            ("tel:bob", Err(Syntax)),
            ("tel:+1;", Err(Syntax)),
            ("tel:+1:5060", Err(Syntax)),
            ("sip:", Err(Host)),
            ("sip:bob@", Err(Host)),
            ("sip:@example.com", Err(User)),
            ("sip:bo b@example.com", Err(User)),
            ("sip:bo#b@example.com", Err(User)),
            ("sip:bo%4@example.com", Err(User)),
            ("sip:bo%4gb@example.com", Err(User)),
            ("sip:b\u{f6}b@example.com", Err(User)),
            ("sip:bob:p;w@example.com", Err(User)),
            ("sip:a@b@c", Err(Host)),
            ("sip:x@-a.b", Err(Host)),
            ("sip:x@a-.b", Err(Host)),
            ("sip:x@a..b", Err(Host)),
            ("sip:x@.a", Err(Host)),
            ("sip:x@a_b", Err(Host)),
            ("sip:x@192.0.2", Err(Host)),
            ("sip:x@192.0.2.256", Err(Host)),
            ("sip:x@192.0.2.0001", Err(Host)),
            ("sip:x@192.0.2.1.", Err(Host)),
            ("sip:x@h/p", Err(Host)),
            ("sip:x@[2001:db8::1", Err(Host)),
            ("sip:x@[2001:db8:::1]", Err(Host)),
            ("sip:x@[192.0.2.1]", Err(Host)),
            ("sip:2001:db8::10", Err(Host)),
            ("sip:x@h:", Err(Syntax)),
            ("sip:x@h:0", Err(Syntax)),
            ("sip:x@h:65536", Err(Syntax)),
            ("sip:x@h:5060x", Err(Syntax)),
            ("sip:x@[2001:db8::1]x", Err(Syntax)),
            ("sip:x@h;", Err(Syntax)),
            ("sip:x@h;;lr", Err(Syntax)),
            ("sip:x@h;a=", Err(Syntax)),
            ("sip:x@h;a=b=c", Err(Syntax)),
            ("sip:x@h;a=%", Err(Syntax)),
            ("sip:x@h; lr", Err(Syntax)),
            ("sip:x@h?", Err(Syntax)),
            ("sip:x@h?a", Err(Syntax)),
            ("sip:x@h?a=b&", Err(Syntax)),
            ("sip:x@h?=b", Err(Syntax)),
        ] {
            assert_eq!(check(uri.as_bytes()), want, "{uri}");
        }
    }
}
