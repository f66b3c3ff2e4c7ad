//! Addresses of the platform that a carrier must not see, in whatever way they are written.

use std::net::Ipv4Addr;

/// Shorter words are no tokens.
const SHORTEST_TOKEN: usize = 8;

/// Where a datagram has an address whose first three bytes are those of `network`, the last from 1 to 254; each with
/// how it was written.
///
/// Looks for it as text, as hexadecimal digits and as four bytes; and for all of these inside of everything that could
/// be base64 or base64url, from whichever digit on.
pub fn addresses(payload: &[u8], network: Ipv4Addr) -> Vec<String> {
    let mut found = written(payload, network);
    let is_digit = |byte: &u8| value(*byte).is_some();
    for word in payload.split(|byte| !is_digit(byte)) {
        if word.len() < SHORTEST_TOKEN {
            continue;
        }
        let decoded = (0..4).flat_map(|from| written(&decode(&word[from..]), network));
        let token = String::from_utf8_lossy(word);
        found.extend(decoded.map(|how| format!("in the token {token}: {how}")));
    }
    found
}

fn written(bytes: &[u8], network: Ipv4Addr) -> Vec<String> {
    let [a, b, c, _] = network.octets();
    let mut found = Vec::new();
    let text = String::from_utf8_lossy(bytes);
    for (pattern, how) in [
        (format!("{a}.{b}.{c}."), "as text"),
        (format!("{a}-{b}-{c}-"), "as text with hyphens"),
        (format!("{a:02x}{b:02x}{c:02x}"), "as hexadecimal digits"),
        (format!("{a:02X}{b:02X}{c:02X}"), "as hexadecimal digits"),
    ] {
        for (start, _) in text.match_indices(&pattern) {
            // 110.0.0.1 is another network.
            if !text[..start].ends_with(|before: char| before.is_ascii_digit() || before == '.') {
                found.push(format!("{how}: {}", line_at(&text, start)));
            }
        }
    }
    let has_address = bytes
        .windows(4)
        .any(|bytes| bytes[..3] == [a, b, c] && (1..255).contains(&bytes[3]));
    if has_address {
        found.push("as bytes".into());
    }
    found
}

fn line_at(text: &str, position: usize) -> &str {
    let start = text[..position].rfind('\n').map_or(0, |before| before + 1);
    text[start..].lines().next().unwrap_or_default()
}

/// The value of a digit of base64 or base64url.
fn value(byte: u8) -> Option<u8> {
    Some(match byte {
        b'A'..=b'Z' => byte - b'A',
        b'a'..=b'z' => byte - b'a' + 26,
        b'0'..=b'9' => byte - b'0' + 52,
        b'+' | b'-' => 62,
        b'/' | b'_' => 63,
        _ => return None,
    })
}

fn decode(digits: &[u8]) -> Vec<u8> {
    let values = digits.iter().filter_map(|byte| value(*byte));
    let mut bytes = Vec::new();
    let (mut bits, mut count) = (0_u32, 0);
    for value in values {
        bits = bits << 6 | u32::from(value);
        count += 6;
        if count >= 8 {
            count -= 8;
            // The rest of it are bits that have been taken already.
            bytes.push((bits >> count) as u8);
        }
    }
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_found_however_they_are_written() {
        let network = Ipv4Addr::new(10, 0, 0, 0);
        for (payload, wanted) in [
            (&b"Via: SIP/2.0/UDP 10.0.0.12:5060\r\n"[..], 1),
            (b"Via: SIP/2.0/UDP 110.0.0.12:5060\r\n", 0),
            (b"Via: SIP/2.0/UDP 198.51.100.2;received=10.0.0.12\r\n", 1),
            (b"Call-ID: 1@host-10-0-0-12.example\r\n", 1),
            (b"<sip:0a00000c13c4@203.0.113.10>", 1),
            (b"<sip:\x0a\x00\x00\x0c@203.0.113.10>", 1),
            // 1, 10, 0, 0, 12, 19, 196
            (b"<sip:AQoAAAwTxA@203.0.113.10>", 1),
            // 1, 1, 10, 0, 0, 12, 19, 196, behind a digit of its own
            (b"<sip:xAQEKAAAME8Q@203.0.113.10>", 1),
            // ('10.0.0.12', 5060)
            (b"<sip:KCcxMC4wLjAuMTInLCA1MDYwKQ@203.0.113.10>", 1),
            // 1, 10, 0, 1, 12, 19, 196
            (b"<sip:AQoAAQwTxA@203.0.113.10>", 0),
        ] {
            let found = addresses(payload, network);
            assert_eq!(
                found.len(),
                wanted,
                "{:?}: {found:?}",
                String::from_utf8_lossy(payload)
            );
        }
    }
}
