//! The first line.

use lb_userspace::sip::Fault;

use super::{
    control_characters,
    text::{Text, is_blank, is_token},
    values::number,
};

#[derive(Debug, PartialEq, Eq)]
pub enum StartLine<'a> {
    Request { method: Text<'a>, uri: Text<'a> },
    Response { status: u16 },
}

/// Request line or status line (RFC 3261 §7.1, §7.2), and what is wrong with a request line.
pub fn read(line: Text<'_>) -> Option<(StartLine<'_>, Vec<Fault>)> {
    if is_version(line.bytes) {
        let faults = if control_characters(line).is_empty() {
            vec![]
        } else {
            vec![Fault::RequestLine]
        };
        return status_line(line).map(|line| (line, faults));
    }
    // A method to begin with, and at the end, whatever blanks follow it, a version: somebody speaks SIP.
    let mut faults = Vec::new();
    let trimmed = line.trimmed_end(|byte| is_blank(byte) || matches!(byte, b'\r' | 0x0c));
    if trimmed != line || !control_characters(line).is_empty() {
        faults.push(Fault::RequestLine);
    }
    let last_blank = trimmed.bytes.iter().rposition(|byte| is_blank(*byte))?;
    let version = trimmed.from(last_blank + 1);
    if !is_version(version.bytes) {
        return None;
    }
    let method_len = line.bytes.iter().position(|byte| !is_token(*byte))?;
    if method_len == 0 {
        return None;
    }
    let method = line.until(line.at + method_len);
    if line.bytes[method_len] != b' ' || line.bytes[last_blank] != b' ' || method_len == last_blank
    {
        faults.push(Fault::RequestLine);
    }
    let uri = if method_len < last_blank {
        line.until(line.at + last_blank).from(method_len + 1)
    } else {
        line.until(line.at + method_len).from(method_len)
    };
    if !is_any_uri(uri) {
        faults.push(Fault::RequestUri);
    }
    if !version.bytes.eq_ignore_ascii_case(b"SIP/2.0") {
        faults.push(Fault::Version);
    }
    Some((StartLine::Request { method, uri }, faults))
}

fn is_version(text: &[u8]) -> bool {
    text.len() >= 4 && text[..4].eq_ignore_ascii_case(b"SIP/")
}

/// `SIP/2.0 SP 3DIGIT SP reason`; the second blank may be missing when there is no reason.
fn status_line(line: Text<'_>) -> Option<StartLine<'_>> {
    let text = line.bytes;
    if text.len() < 11 || !text[..8].eq_ignore_ascii_case(b"SIP/2.0 ") {
        return None;
    }
    if text.len() > 11 && text[11] != b' ' {
        return None;
    }
    let status = number(line.from(8).until(line.at + 11), 999)?;
    (100..700).contains(&status).then_some(StartLine::Response {
        status: status as u16,
    })
}

/// A scheme, a colon and something: nothing else is said of URIs of unknown schemes. Octets beyond ASCII pass.
fn is_any_uri(uri: Text<'_>) -> bool {
    let Some((scheme, rest)) = uri.split_once(b':') else {
        return false;
    };
    let is_forbidden = |byte: u8| byte <= b' ' || b"<>\"\x7f".contains(&byte);
    !scheme.bytes.is_empty()
        && scheme.bytes[0].is_ascii_alphabetic()
        && scheme
            .bytes
            .iter()
            .all(|byte| byte.is_ascii_alphanumeric() || b"+-.".contains(byte))
        && !rest.bytes.is_empty()
        && !rest.bytes.iter().any(|byte| is_forbidden(*byte))
}
