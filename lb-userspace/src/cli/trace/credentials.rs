//! Messages without what clients prove with who they are.

use crate::cli::explain::diff::{HIDDEN, name};

/// What stands in place of a value.
const INSTEAD: &[u8] = b": (not shown)\r\n";

/// The same message, without the values of Authorization and Proxy-Authorization in its header fields.
pub(super) fn without(message: &[u8]) -> Vec<u8> {
    let mut shown = Vec::with_capacity(message.len());
    let mut rest = message;
    let mut is_hidden = false;
    while !rest.is_empty() {
        let end = memchr::memchr(b'\n', rest).map_or(rest.len(), |end| end + 1);
        let (line, after) = rest.split_at(end);
        if line == b"\r\n" || line == b"\n" {
            // The body, or an empty line before the start line.
            is_hidden = false;
            let is_body = !shown.iter().all(|byte| matches!(byte, b'\r' | b'\n'));
            shown.extend_from_slice(if is_body { rest } else { line });
            if is_body {
                break;
            }
            rest = after;
            continue;
        }
        let is_fold = matches!(line.first(), Some(b' ' | b'\t'));
        if !is_fold {
            let field = name(line);
            is_hidden = line.contains(&b':')
                && HIDDEN
                    .iter()
                    .any(|hidden| field.eq_ignore_ascii_case(hidden));
            if is_hidden {
                shown.extend_from_slice(field);
                shown.extend_from_slice(INSTEAD);
            }
        }
        if !is_hidden {
            shown.extend_from_slice(line);
        }
        rest = after;
    }
    shown
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_go_and_everything_else_stays() {
        for (message, wanted) in [
            (
                "a\r\nb: 1\r\n\r\nAuthorization: x",
                "a\r\nb: 1\r\n\r\nAuthorization: x",
            ),
            (
                "\r\na\r\nAUTHORIZATION : Digest x=1,\r\n response=\"x\"\r\nb: 1\r\n  2\r\n\r\n",
                "\r\na\r\nAUTHORIZATION: (not shown)\r\nb: 1\r\n  2\r\n\r\n",
            ),
            (
                "a\nproxy-authorization:x\nAuthorization: y",
                "a\nproxy-authorization: (not shown)\r\nAuthorization: (not shown)\r\n",
            ),
            ("Authorization", "Authorization"),
            ("", ""),
        ] {
            let shown = without(message.as_bytes());
            assert_eq!(String::from_utf8_lossy(&shown), wanted);
        }
    }
}
