//! The first line: request line or status line (RFC 3261 §7.1, §7.2).

use super::{
    Fault, Method, Span,
    block::find,
    chars::{is_token, skip_while},
    message::NotSip,
};

/// The first line of a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StartLine {
    /// `method SP Request-URI SP SIP-Version`.
    Request {
        /// The method as far as we tell methods apart.
        method: Method,
        /// The method's name.
        name: Span,
        /// The Request-URI.
        uri: Span,
    },
    /// `SIP-Version SP status SP reason`.
    Response {
        /// 100 to 699.
        status: u16,
    },
}

/// Reads the line `start..end` (line end excluded) and what is wrong with it.
///
/// # Errors
///
/// [`NotSip`] when the line neither begins nor ends with a SIP version: then nobody speaks SIP here, and nothing is
/// owed. Also for a status line that cannot be read, since a response is never answered.
pub(super) fn parse(
    bytes: &[u8],
    start: usize,
    end: usize,
) -> Result<(StartLine, Option<Fault>), NotSip> {
    let line = &bytes[start..end];
    if let Some(usual) = parse_usual_request_line(bytes, start, end) {
        return Ok((usual, None));
    }
    if is_version_like(line) {
        return parse_status_line(line).map(|line| (line, None));
    }
    // The version is what follows the last blank, so that blanks inside a Request-URI are found to be its fault. Blanks
    // after the version are a fault, but not a reason to stay silent.
    let trimmed = line.trim_ascii_end();
    let version_at = memchr::memrchr2(b' ', b'\t', trimmed).ok_or(NotSip)? + 1;
    let version = &trimmed[version_at..];
    if !is_version_like(version) {
        return Err(NotSip);
    }
    let method_len = line
        .iter()
        .position(|byte| !is_token(*byte))
        .ok_or(NotSip)?;
    if method_len == 0 {
        return Err(NotSip);
    }
    let uri_start = method_len + 1;
    let uri_end = version_at - 1;
    let uri = line.get(uri_start..uri_end).unwrap_or_default();
    let fault = if trimmed.len() != line.len()
        || line[method_len] != b' '
        || trimmed[uri_end] != b' '
        || uri_start > uri_end
    {
        Some(Fault::RequestLine)
    } else if !is_uri_text(uri) {
        Some(Fault::RequestUri)
    } else if !version.eq_ignore_ascii_case(b"SIP/2.0") {
        Some(Fault::Version)
    } else {
        None
    };
    let name = Span::new(start, start + method_len);
    let uri = if uri.is_empty() {
        Span::new(start + method_len, start + method_len)
    } else {
        Span::new(start + uri_start, start + uri_end)
    };
    let method = Method::from_name(name.of(bytes));
    Ok((StartLine::Request { method, name, uri }, fault))
}

/// A request line without a fault, with a `sip:` or `sips:` URI: the same as below for these, at a fraction of the cost.
#[inline(always)]
fn parse_usual_request_line(bytes: &[u8], start: usize, end: usize) -> Option<StartLine> {
    const VERSION: &[u8; 8] = b" SIP/2.0";
    let uri_end = end.checked_sub(VERSION.len())?;
    let name_end = skip_while(bytes, start, end.min(start + 16), is_token);
    let uri_start = name_end + 1;
    let scheme = bytes.get(uri_start..uri_end)?.first_chunk::<5>()?;
    let is_usual = bytes.get(uri_end..end)? == VERSION
        && bytes[name_end] == b' '
        && name_end > start
        && (scheme.starts_with(b"sip:") || (scheme == b"sips:" && uri_start + 5 < uri_end));
    let bad = find(bytes, uri_start, uri_end, |block| {
        let delimiters = block.is(b'<').or(block.is(b'>')).or(block.is(b'"'));
        delimiters
            .or(block.within(0, b' '))
            .or(block.is(0x7f))
            .bits()
    });
    if !is_usual || bad < uri_end {
        return None;
    }
    let name = Span::new(start, name_end);
    Some(StartLine::Request {
        method: Method::from_name(name.of(bytes)),
        name,
        uri: Span::new(uri_start, uri_end),
    })
}

/// `SIP/` in any case (RFC 3261 §7.1 compares the version without case).
fn is_version_like(text: &[u8]) -> bool {
    text.get(..4)
        .is_some_and(|start| start.eq_ignore_ascii_case(b"SIP/"))
}

fn parse_status_line(line: &[u8]) -> Result<StartLine, NotSip> {
    let version = line.get(..8).ok_or(NotSip)?;
    if !version.eq_ignore_ascii_case(b"SIP/2.0 ") {
        return Err(NotSip);
    }
    // The blank after the status is owed even before an empty reason, but not everybody sends it.
    let (digits, after) = match &line[8..] {
        [a, b, c] => ([*a, *b, *c], b' '),
        [a, b, c, after, ..] => ([*a, *b, *c], *after),
        _ => return Err(NotSip),
    };
    if after != b' '
        || !(b'1'..=b'6').contains(&digits[0])
        || !digits.iter().all(u8::is_ascii_digit)
    {
        return Err(NotSip);
    }
    let status = digits
        .iter()
        .fold(0, |status, digit| status * 10 + u16::from(digit - b'0'));
    Ok(StartLine::Response { status })
}

/// A scheme, a colon, something, and neither blanks, controls nor the characters that delimit URIs in text. Octets
/// beyond ASCII pass: they are not in the grammar, but in the field.
fn is_uri_text(uri: &[u8]) -> bool {
    let Some(colon) = memchr::memchr(b':', uri) else {
        return false;
    };
    let scheme = &uri[..colon];
    colon + 1 < uri.len()
        && scheme.first().is_some_and(u8::is_ascii_alphabetic)
        && scheme
            .iter()
            .all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'+' | b'-' | b'.'))
        && uri[colon..]
            .iter()
            .all(|byte| *byte > b' ' && !matches!(byte, b'<' | b'>' | b'"' | 0x7f))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn request_lines() {
        use Fault::{RequestLine, RequestUri, Version};
        for (line, want) in [
            ("INVITE sip:bob@example.com SIP/2.0", Ok(None)),
            ("INVITE sip:bob@example.com sip/2.0", Ok(None)),
            ("NEWMETHOD tel:+441234 SIP/2.0", Ok(None)),
            ("INVITE soap.beep://192.0.2.103:3002 SIP/2.0", Ok(None)),
            ("INVITE  sip:bob@example.com SIP/2.0", Ok(Some(RequestUri))),
            ("INVITE sip:bob@example.com  SIP/2.0", Ok(Some(RequestUri))),
            ("INVITE sip:bob@example.com SIP/2.0 ", Ok(Some(RequestLine))),
            ("INVITE\tsip:bob@example.com SIP/2.0", Ok(Some(RequestLine))),
            ("INVITE sip:bob@example.com\tSIP/2.0", Ok(Some(RequestLine))),
            ("INVITE SIP/2.0", Ok(Some(RequestLine))),
            ("INVITE  SIP/2.0", Ok(Some(RequestUri))),
            ("INVITE <sip:bob@example.com> SIP/2.0", Ok(Some(RequestUri))),
            (
                "INVITE sip:bob@example.com; lr SIP/2.0",
                Ok(Some(RequestUri)),
            ),
            ("INVITE bob SIP/2.0", Ok(Some(RequestUri))),
            ("INVITE sip: SIP/2.0", Ok(Some(RequestUri))),
            ("INVITE sip:bob@example.com SIP/7.0", Ok(Some(Version))),
            ("INVITE sip:bob@example.com SIP/2", Ok(Some(Version))),
            ("GET / HTTP/1.1", Err(NotSip)),
            ("INVITE sip:bob@example.com", Err(NotSip)),
            ("(INVITE) sip:bob@example.com SIP/2.0", Err(NotSip)),
            (" SIP/2.0", Err(NotSip)),
            ("", Err(NotSip)),
        ] {
            let got = parse(line.as_bytes(), 0, line.len()).map(|(_, fault)| fault);
            assert_eq!(got, want, "{line:?}");
        }
    }

    #[test]
    fn a_request_line_gives_method_and_uri() {
        let bytes = b"xxINVITE sip:bob@example.com SIP/2.0";
        let (line, _) = parse(bytes, 2, bytes.len()).unwrap();
        let StartLine::Request { method, name, uri } = line else {
            panic!("{line:?}");
        };
        assert_eq!(method, Method::Invite);
        assert_eq!(name.of(bytes), b"INVITE");
        assert_eq!(uri.of(bytes), b"sip:bob@example.com");
    }

    #[test]
    fn status_lines() {
        for (line, want) in [
            ("SIP/2.0 200 OK", Some(200)),
            ("SIP/2.0 200 ", Some(200)),
            ("SIP/2.0 200", Some(200)),
            ("sip/2.0 699 x", Some(699)),
            ("SIP/2.0 099 x", None),
            ("SIP/2.0 700 x", None),
            ("SIP/2.0 4294967301 better not break", None),
            ("SIP/2.0  200 OK", None),
            ("SIP/2.0 20", None),
            ("SIP/3.0 200 OK", None),
            ("SIP/", None),
        ] {
            let got = parse(line.as_bytes(), 0, line.len())
                .ok()
                .map(|(line, _)| line);
            let want = want.map(|status| StartLine::Response { status });
            assert_eq!(got, want, "{line:?}");
        }
    }
}
