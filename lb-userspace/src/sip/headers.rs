//! Header lines: where each header field is (RFC 3261 §7.3).

use super::{
    Fault, Span,
    chars::{is_token, trim},
};

/// Most header fields that a message may have; what is beyond is not looked at.
pub const MAX_HEADER_FIELDS: usize = 256;

/// The header fields that routing needs to tell apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Name {
    /// `Via`, `v`.
    Via,
    /// `Route`.
    Route,
    /// `From`, `f`.
    From,
    /// `To`, `t`.
    To,
    /// `Call-ID`, `i`.
    CallId,
    /// `CSeq`.
    Cseq,
    /// `Max-Forwards`.
    MaxForwards,
    /// `Contact`, `m`.
    Contact,
    /// `Content-Type`, `c`.
    ContentType,
    /// `Content-Length`, `l`.
    ContentLength,
    /// Any other.
    Other,
}

impl Name {
    /// Reads a name in any case, long or compact (RFC 3261 §7.3.1, §7.3.3).
    pub fn from_text(name: &[u8]) -> Self {
        let Some(first) = name.first() else {
            return Self::Other;
        };
        // Length and first letter leave one candidate at most.
        let (candidate, long): (Self, &[u8]) = match (name.len(), first | 0x20) {
            (1, b'v') => return Self::Via,
            (1, b'f') => return Self::From,
            (1, b't') => return Self::To,
            (1, b'i') => return Self::CallId,
            (1, b'm') => return Self::Contact,
            (1, b'c') => return Self::ContentType,
            (1, b'l') => return Self::ContentLength,
            (2, b't') => (Self::To, b"To"),
            (3, b'v') => (Self::Via, b"Via"),
            (4, b'f') => (Self::From, b"From"),
            (4, b'c') => (Self::Cseq, b"CSeq"),
            (5, b'r') => (Self::Route, b"Route"),
            // Two names of seven letters: the second one tells them apart.
            (7, b'c') if name[1] | 0x20 == b'o' => (Self::Contact, b"Contact"),
            (7, b'c') => (Self::CallId, b"Call-ID"),
            (12, b'c') => (Self::ContentType, b"Content-Type"),
            (12, b'm') => (Self::MaxForwards, b"Max-Forwards"),
            (14, b'c') => (Self::ContentLength, b"Content-Length"),
            _ => return Self::Other,
        };
        if name.eq_ignore_ascii_case(long) {
            candidate
        } else {
            Self::Other
        }
    }
}

/// One header field with its continuation lines.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HeaderField {
    /// Which one.
    pub name: Name,
    /// From the first letter of the name to after the last line end.
    pub line: Span,
    /// The value without blanks around it; folds inside are as they came.
    pub value: Span,
}

/// Iterator over the header fields of a message, in order. An item is a fault when the line is no header field; going
/// on after it is possible.
#[derive(Clone, Debug)]
pub struct Lines<'a> {
    bytes: &'a [u8],
    position: usize,
    fields: usize,
    body: Option<usize>,
}

impl<'a> Lines<'a> {
    /// Starts at `position`, the first byte after the start line.
    pub fn new(bytes: &'a [u8], position: usize) -> Self {
        Self {
            bytes,
            position,
            fields: 0,
            body: None,
        }
    }

    /// Offset after the empty line, once the iterator has come to it.
    pub fn body(&self) -> Option<usize> {
        self.body
    }
}

impl Iterator for Lines<'_> {
    type Item = Result<HeaderField, Fault>;

    fn next(&mut self) -> Option<Self::Item> {
        let bytes = self.bytes;
        let start = self.position;
        match *bytes.get(start..)? {
            [] => return None,
            [b'\n', ..] => {
                self.body = Some(start + 1);
                self.position = bytes.len();
                return None;
            }
            [b'\r', b'\n', ..] => {
                self.body = Some(start + 2);
                self.position = bytes.len();
                return None;
            }
            _ => {}
        }
        if self.fields == MAX_HEADER_FIELDS {
            self.position = bytes.len();
            return Some(Err(Fault::TooManyHeaderFields));
        }
        self.fields += 1;

        let mut end = line_end(bytes, start);
        let mut bare_cr = end.bare_cr;
        while matches!(bytes.get(end.next), Some(b' ' | b'\t')) {
            end = line_end(bytes, end.next);
            bare_cr |= end.bare_cr;
        }
        self.position = end.next;
        if bare_cr {
            return Some(Err(Fault::BareCr));
        }

        let name_len = bytes[start..end.content]
            .iter()
            .position(|byte| !is_token(*byte))
            .unwrap_or(0);
        let mut colon = start + name_len;
        while matches!(bytes.get(colon), Some(b' ' | b'\t')) {
            colon += 1;
        }
        if name_len == 0 || colon >= end.content || bytes[colon] != b':' {
            return Some(Err(Fault::HeaderField));
        }
        let (value_start, value_end) = trim(bytes, colon + 1, end.content);
        Some(Ok(HeaderField {
            name: Name::from_text(&bytes[start..start + name_len]),
            line: Span::new(start, end.next),
            value: Span::new(value_start, value_end),
        }))
    }
}

/// Where a line ends.
#[derive(Clone, Copy)]
pub(super) struct LineEnd {
    /// After the last byte of its content.
    pub content: usize,
    /// First byte of the next line; the end of the datagram when no line end came.
    pub next: usize,
    /// True when a CR without LF was passed.
    pub bare_cr: bool,
}

/// Finds the end of the line that `start` is in: CRLF, or LF alone as old devices send it.
pub(super) fn line_end(bytes: &[u8], start: usize) -> LineEnd {
    let mut bare_cr = false;
    let mut position = start;
    while let Some(found) = memchr::memchr2(b'\r', b'\n', &bytes[position..]) {
        let at = position + found;
        if bytes[at] == b'\n' {
            return LineEnd {
                content: at,
                next: at + 1,
                bare_cr,
            };
        }
        if bytes.get(at + 1) == Some(&b'\n') {
            return LineEnd {
                content: at,
                next: at + 2,
                bare_cr,
            };
        }
        bare_cr = true;
        position = at + 1;
    }
    LineEnd {
        content: bytes.len(),
        next: bytes.len(),
        bare_cr,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Name, value, or fault of every line, and what follows the empty line.
    fn check(text: &str, want: &[Result<(Name, &str), Fault>], want_body: Option<&str>) {
        let bytes = text.as_bytes();
        let mut lines = Lines::new(bytes, 0);
        let got: Vec<_> = lines
            .by_ref()
            .map(|line| {
                line.map(|field| {
                    (
                        field.name,
                        std::str::from_utf8(field.value.of(bytes)).unwrap(),
                    )
                })
            })
            .collect();
        assert_eq!(got, want, "{text:?}");
        assert_eq!(
            lines.body().map(|body| &text[body..]),
            want_body,
            "{text:?}"
        );
    }

    #[test]
    fn lines() {
        check(
            "Via: a\r\nTO :b\r\n\r\nbody",
            &[Ok((Name::Via, "a")), Ok((Name::To, "b"))],
            Some("body"),
        );
        check(
            "v:a\nf:b\n\nbody",
            &[Ok((Name::Via, "a")), Ok((Name::From, "b"))],
            Some("body"),
        );
        check(
            "CSEQ\t:\r\n 7\r\n\tINVITE \r\nx: \r\n\r\n",
            &[Ok((Name::Cseq, "7\r\n\tINVITE")), Ok((Name::Other, ""))],
            Some(""),
        );
        check("Call-ID: a", &[Ok((Name::CallId, "a"))], None);
        check("Call-ID: a\r\n", &[Ok((Name::CallId, "a"))], None);
        check("", &[], None);
        check("\r\n", &[], Some(""));
    }

    #[test]
    fn broken_lines_do_not_end_the_scan() {
        check(
            "no colon\r\n: no name\r\n folded\r\nTo: b\r\n\r\n",
            &[
                Err(Fault::HeaderField),
                Err(Fault::HeaderField),
                Ok((Name::To, "b")),
            ],
            Some(""),
        );
        check(
            "x: a\rVia: b\r\nTo: b\r\r\n\r\n",
            &[Err(Fault::BareCr), Err(Fault::BareCr)],
            Some(""),
        );
        check("To: b\r", &[Err(Fault::BareCr)], None);
        check(" folded: a\r\n\r\n", &[Err(Fault::HeaderField)], Some(""));
    }

    #[test]
    fn names_in_any_case_long_and_compact() {
        for (text, want) in [
            ("Via", Name::Via),
            ("VIA", Name::Via),
            ("V", Name::Via),
            ("route", Name::Route),
            ("from", Name::From),
            ("F", Name::From),
            ("tO", Name::To),
            ("t", Name::To),
            ("call-id", Name::CallId),
            ("I", Name::CallId),
            ("cseq", Name::Cseq),
            ("MAX-FORWARDS", Name::MaxForwards),
            ("content-length", Name::ContentLength),
            ("L", Name::ContentLength),
            ("Vib", Name::Other),
            ("Contact", Name::Contact),
            ("M", Name::Contact),
            ("content-type", Name::ContentType),
            ("c", Name::ContentType),
            ("Contacs", Name::Other),
            ("Record-Route", Name::Other),
            ("x", Name::Other),
            ("", Name::Other),
        ] {
            assert_eq!(Name::from_text(text.as_bytes()), want, "{text}");
        }
    }

    #[test]
    fn the_number_of_header_fields_is_limited() {
        let text = "a: b\r\n".repeat(MAX_HEADER_FIELDS + 10) + "\r\n";
        let lines: Vec<_> = Lines::new(text.as_bytes(), 0).collect();
        assert_eq!(lines.len(), MAX_HEADER_FIELDS + 1);
        assert_eq!(lines[MAX_HEADER_FIELDS], Err(Fault::TooManyHeaderFields));
    }
}
