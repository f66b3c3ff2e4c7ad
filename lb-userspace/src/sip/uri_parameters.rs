//! Parameters of a SIP URI (RFC 3261 §19.1.1).

use super::{Span, find_either};

/// Most parameters of one URI that are looked at.
const MAX_PARAMETERS: usize = 64;

/// `;name[=value]` in a URI.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct UriParameter {
    /// From the semicolon to after the value.
    pub whole: Span,
    /// Value; empty when there is none.
    pub value: Span,
}

/// The first parameter of that name (any case) in a URI; `start..end` is what follows host and port.
pub(crate) fn find_uri_parameter(
    bytes: &[u8],
    start: usize,
    end: usize,
    name: &[u8],
) -> Option<UriParameter> {
    let mut position = start;
    for _ in 0..MAX_PARAMETERS {
        // Behind a `?` are header fields.
        if position >= end || bytes.get(position) != Some(&b';') {
            return None;
        }
        let text = position + 1;
        let next = find_either(bytes, text, end, b';', b'?');
        let value = match bytes.get(text..next)?.split_at_checked(name.len()) {
            Some((found, [])) if found.eq_ignore_ascii_case(name) => next,
            Some((found, [b'=', ..])) if found.eq_ignore_ascii_case(name) => text + name.len() + 1,
            _ => {
                position = next;
                continue;
            }
        };
        return Some(UriParameter {
            whole: Span::new(position, next),
            value: Span::new(value, next),
        });
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parameters_of_a_uri() {
        for (text, want) in [
            ("", None),
            (";lba", Some((";lba", ""))),
            (";lba=", Some((";lba=", ""))),
            (";lba=x", Some((";lba=x", "x"))),
            (";LBA=x;lba=y", Some((";LBA=x", "x"))),
            (";transport=udp;lba=x=y;ob?lba=z", Some((";lba=x=y", "x=y"))),
            (";;lba=x", Some((";lba=x", "x"))),
            (";lb=x", None),
            (";lbax=x", None),
            (";xlba=x", None),
            (";x?;lba=x", None),
            ("?a=b;lba=x", None),
        ] {
            // What stands behind the end is not looked at.
            let bytes = format!("{text};lba=no");
            let found = find_uri_parameter(bytes.as_bytes(), 0, text.len(), b"lba");
            let text = |span: Span| std::str::from_utf8(span.of(bytes.as_bytes())).unwrap();
            let found = found.map(|found| (text(found.whole), text(found.value)));
            assert_eq!(found, want, "{bytes}");
        }
        let many = ";x".repeat(MAX_PARAMETERS) + ";lba=x";
        assert_eq!(
            find_uri_parameter(many.as_bytes(), 0, many.len(), b"lba"),
            None
        );
        assert!(find_uri_parameter(many.as_bytes(), 2, many.len(), b"lba").is_some());
    }
}
