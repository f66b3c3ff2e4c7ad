//! Character classes of RFC 3261 §25.1 and the small scanners that all parsers here share.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use super::block::find;

/// Which octets a `token` consists of, so that a test is one load.
const TOKEN: [bool; 256] = {
    let mut token = [false; 256];
    let mut octet = 0;
    while octet < 256 {
        let byte = octet as u8;
        token[octet] = byte.is_ascii_alphanumeric()
            || matches!(
                byte,
                b'-' | b'.' | b'!' | b'%' | b'*' | b'_' | b'+' | b'`' | b'\'' | b'~'
            );
        octet += 1;
    }
    token
};

/// True for the characters of a `token`.
#[inline(always)]
pub(crate) fn is_token(byte: u8) -> bool {
    TOKEN[usize::from(byte)]
}

/// True for linear white space. Line ends count: a header value only contains those of folds (RFC 3261 §7.3.1).
#[inline(always)]
pub(crate) fn is_lws(byte: u8) -> bool {
    matches!(byte, b' ' | b'\t' | b'\r' | b'\n')
}

/// Offset of the first byte in `start..end` for which `keep` is false, or `end`.
#[inline(always)]
pub(crate) fn skip_while(
    bytes: &[u8],
    start: usize,
    end: usize,
    keep: impl Fn(u8) -> bool,
) -> usize {
    let region = bytes.get(start..end).unwrap_or_default();
    match region.iter().position(|byte| !keep(*byte)) {
        Some(length) => start + length,
        None => start + region.len(),
    }
}

/// Offset of the first of two octets in `start..end`, or `end`.
#[inline(always)]
pub(crate) fn find_either(bytes: &[u8], start: usize, end: usize, one: u8, other: u8) -> usize {
    find(bytes, start, end, |block| {
        block.is(one).or(block.is(other)).bits()
    })
}

/// Offset after the linear white space at `start`.
#[inline(always)]
pub(crate) fn skip_lws(bytes: &[u8], start: usize, end: usize) -> usize {
    // Mostly there is none.
    match bytes.get(start) {
        Some(b'!'..) => start,
        _ => skip_some_lws(bytes, start, end),
    }
}

#[inline(never)]
fn skip_some_lws(bytes: &[u8], start: usize, end: usize) -> usize {
    skip_while(bytes, start, end, is_lws)
}

/// `start..end` without linear white space on either side.
#[inline(always)]
pub(crate) fn trim(bytes: &[u8], start: usize, end: usize) -> (usize, usize) {
    // Mostly one blank in front and none at the end.
    let one = usize::from(start < end && bytes.get(start) == Some(&b' '));
    let start = skip_lws(bytes, start + one, end);
    if start < end && bytes[end - 1] <= b' ' {
        return (start, trim_end(bytes, start, end));
    }
    (start, end)
}

#[inline(never)]
fn trim_end(bytes: &[u8], start: usize, end: usize) -> usize {
    let mut end = end;
    while end > start && is_lws(bytes[end - 1]) {
        end -= 1;
    }
    end
}

/// Offset after the quoted string whose opening quote is at `start`; `None` when it is not closed before `end`.
#[inline]
pub(crate) fn skip_quoted(bytes: &[u8], start: usize, end: usize) -> Option<usize> {
    let mut position = start + 1;
    loop {
        position = find(bytes, position, end, |block| {
            block.is(b'"').or(block.is(b'\\')).bits()
        });
        match bytes.get(position..end)?.first()? {
            b'"' => return Some(position + 1),
            // A backslash takes the next octet with it, whatever it is.
            _ => position += 2,
        }
    }
}

/// Reads decimal digits only; `None` for none, for another character, and beyond `max`.
#[inline(always)]
pub(crate) fn parse_number(digits: &[u8], max: u32) -> Option<u32> {
    /// As many digits as fit into 32 bits whatever they are.
    const SAFE: usize = 9;
    if digits.len() > SAFE {
        return parse_long_number(digits, max);
    }
    let mut number = 0;
    let mut is_other = false;
    for digit in digits {
        let digit = u32::from(digit.wrapping_sub(b'0'));
        is_other |= digit > 9;
        number = number * 10 + (digit & 15);
    }
    (!is_other && !digits.is_empty() && number <= max).then_some(number)
}

#[inline(never)]
fn parse_long_number(digits: &[u8], max: u32) -> Option<u32> {
    let mut number: u64 = 0;
    for digit in digits {
        if !digit.is_ascii_digit() {
            return None;
        }
        number = number * 10 + u64::from(digit - b'0');
        if number > u64::from(max) {
            return None;
        }
    }
    Some(number as u32)
}

/// Reads the digits at `start` as a port, and returns it with the offset after them; `None` when that is no port.
#[inline(always)]
pub(crate) fn read_port(bytes: &[u8], start: usize, end: usize) -> Option<(u16, usize)> {
    if let Some(text) = bytes.get(start..).and_then(|rest| rest.first_chunk())
        && let (number @ 1..=0xffff, len @ 1..8) = read_digits(u64::from_le_bytes(*text))
        && start + len <= end
    {
        return Some((number as u16, start + len));
    }
    read_unusual_port(bytes, start, end)
}

/// The number that the first bytes of `text` are, the lowest one first, and how many they are.
#[inline(always)]
fn read_digits(text: u64) -> (u64, usize) {
    const EACH: u64 = 0x0101_0101_0101_0101;
    let digits = text ^ (EACH * 0x30);
    // The highest bit of each byte that is more than nine.
    let others = (((digits & (EACH * 0x7f)) + EACH * 0x76) | digits) & (EACH * 0x80);
    let len = others.trailing_zeros() / 8;
    // Zeros in front of them up to eight digits, then two, four and eight together.
    let ones = digits.unbounded_shl(64 - 8 * len);
    let twos = ones * 10 + (ones >> 8);
    let (even, odd) = (twos & 0xff_0000_00ff, twos >> 16 & 0xff_0000_00ff);
    let even = even.wrapping_mul(100 + (1_000_000 << 32));
    let odd = odd.wrapping_mul(1 + (10_000 << 32));
    (even.wrapping_add(odd) >> 32, len as usize)
}

#[inline(never)]
fn read_unusual_port(bytes: &[u8], start: usize, end: usize) -> Option<(u16, usize)> {
    let after = skip_while(bytes, start, end, |byte| byte.is_ascii_digit());
    Some((parse_port(bytes.get(start..after)?)?, after))
}

/// Reads a port, 1 to 65535.
#[inline(always)]
pub(crate) fn parse_port(digits: &[u8]) -> Option<u16> {
    match parse_number(digits, u32::from(u16::MAX)) {
        Some(port @ 1..) => Some(port as u16),
        _ => None,
    }
}

/// Reads an IPv4 address or an IPv6 address with or without brackets; `None` for a name.
pub(crate) fn parse_ip(host: &[u8]) -> Option<IpAddr> {
    if let Some(ipv4) = parse_ipv4(host) {
        return Some(IpAddr::V4(ipv4));
    }
    let inner = match host {
        [b'[', inner @ .., b']'] => inner,
        _ => host,
    };
    // Names have no colon: skip the costly attempt.
    memchr::memchr(b':', inner)?;
    let text = std::str::from_utf8(inner).ok()?;
    text.parse::<Ipv6Addr>().ok().map(IpAddr::V6)
}

/// Four numbers without leading zeros, as `Ipv4Addr`'s own parser takes them, at a fraction of its cost.
fn parse_ipv4(host: &[u8]) -> Option<Ipv4Addr> {
    if !(7..=15).contains(&host.len()) {
        return None;
    }
    let (a, rest) = parse_octet(host)?;
    let (b, rest) = parse_octet(rest.strip_prefix(b".")?)?;
    let (c, rest) = parse_octet(rest.strip_prefix(b".")?)?;
    let (d, rest) = parse_octet(rest.strip_prefix(b".")?)?;
    rest.is_empty().then(|| Ipv4Addr::new(a, b, c, d))
}

/// A number up to 255 without leading zeros, and what follows its at most three digits.
#[inline(always)]
fn parse_octet(text: &[u8]) -> Option<(u8, &[u8])> {
    let digit = |byte: &u8| Some(byte.wrapping_sub(b'0')).filter(|digit| *digit < 10);
    let [first, rest @ ..] = text else {
        return None;
    };
    let first = digit(first)?;
    let Some(second) = rest.first().and_then(digit) else {
        return Some((first, rest));
    };
    if first == 0 {
        return None;
    }
    let two = first * 10 + second;
    let rest = &rest[1..];
    match rest.first().and_then(digit) {
        None => Some((two, rest)),
        Some(third) => {
            let three = two.checked_mul(10)?.checked_add(third)?;
            Some((three, &rest[1..]))
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn addresses() {
        for (host, want) in [
            ("192.0.2.1", Some("192.0.2.1")),
            ("255.255.255.255", Some("255.255.255.255")),
            ("0.0.0.0", Some("0.0.0.0")),
            ("[2001:db8::1]", Some("2001:db8::1")),
            ("2001:DB8::1", Some("2001:db8::1")),
            ("::ffff:192.0.2.1", Some("::ffff:192.0.2.1")),
            ("192.0.2.01", None),
            ("192.0.2.256", None),
            ("192.0.2", None),
            ("192.0.2.1.", None),
            ("192.0.2..1", None),
            ("1.2.3.4.5", None),
            ("example.com", None),
            ("[2001:db8::1", None),
            ("[192.0.2.1]", None),
            ("", None),
        ] {
            let want = want.map(|text| text.parse::<IpAddr>().unwrap());
            assert_eq!(parse_ip(host.as_bytes()), want, "{host}");
        }
    }

    #[test]
    fn quoted_strings() {
        for (text, want) in [
            (r#""a" b"#, Some(3)),
            (r#""a\"b" c"#, Some(6)),
            (r#""a\\" c"#, Some(5)),
            (r#""""#, Some(2)),
            (r#""a"#, None),
            (r#""a\""#, None),
            (r#""a\"#, None),
            (r#"""#, None),
        ] {
            assert_eq!(skip_quoted(text.as_bytes(), 0, text.len()), want, "{text}");
        }
    }

    #[test]
    fn numbers_and_ports() {
        for (text, number, port) in [
            ("0", Some(0), None),
            ("5060", Some(5060), Some(5060)),
            ("0005060", Some(5060), Some(5060)),
            ("65535", Some(65535), Some(65535)),
            ("65536", Some(65536), None),
            ("4294967295", Some(u32::MAX), None),
            ("4294967296", None, None),
            ("99999999999999999999999999", None, None),
            ("", None, None),
            ("-1", None, None),
            ("5x", None, None),
        ] {
            assert_eq!(parse_number(text.as_bytes(), u32::MAX), number, "{text}");
            assert_eq!(parse_port(text.as_bytes()), port, "{text}");
        }
    }

    proptest! {
        #[test]
        fn ports_are_read_as_the_slow_way_reads_them(text in "[0-9]{0,9}[0-9:/a\u{7f}\u{e9}\u{ff}]{0,8}", cut in 0usize..9) {
            let bytes = text.as_bytes();
            let end = bytes.len().saturating_sub(cut);
            prop_assert_eq!(read_port(bytes, 0, end), read_unusual_port(bytes, 0, end));
        }

        #[test]
        fn ipv4_is_read_as_the_standard_library_reads_it(text in "[0-9]{0,3}(\\.[0-9]{0,4}){2,4}") {
            prop_assert_eq!(parse_ipv4(text.as_bytes()), text.parse::<Ipv4Addr>().ok());
        }
    }
}
