//! The form of From, To and Route values: `"name" <URI>;parameters` or `URI;parameters` (RFC 3261 §20, §25.1).

use super::{
    Span,
    block::{Block, find},
    chars::{is_token, skip_lws, skip_quoted, skip_while, trim},
};

/// Most header parameters of one value that are looked at by name.
const MAX_PARAMETERS: usize = 64;

/// One value of From, To or Route.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NameAddr {
    /// The whole value, without blanks around it and without the comma after it.
    pub value: Span,
    /// The URI, without angle brackets.
    pub uri: Span,
    /// Value of the header parameter `tag`; may be empty, which old devices mean as no tag.
    pub tag: Option<Span>,
    /// Where the next value of a comma-joined list starts.
    pub next: Option<usize>,
}

impl NameAddr {
    /// Reads the first value in `span`; `None` when there is no URI, a quote or bracket stays open, a parameter cannot
    /// be read or there are two tags.
    #[inline]
    pub fn parse(bytes: &[u8], span: Span) -> Option<Self> {
        let (start, end) = trim(bytes, span.start(), span.end());
        let (uri, after) = match find_open_bracket(bytes, start, end)? {
            Some(open) => {
                let close = find(bytes, open + 1, end, |block| block.is(b'>').bits());
                if close >= end {
                    return None;
                }
                (trim(bytes, open + 1, close), close + 1)
            }
            // Without brackets a parameter belongs to the header field, not to the URI (RFC 3261 §20).
            None => {
                let after = skip_while(bytes, start, end, |byte| {
                    !matches!(byte, b';' | b',' | b'"' | b'>')
                });
                (trim(bytes, start, after), after)
            }
        };
        if uri.0 == uri.1 {
            return None;
        }
        let mut value = Self {
            value: Span::new(start, after),
            uri: Span::new(uri.0, uri.1),
            tag: None,
            next: None,
        };
        if after < end {
            let value_end = value.read_parameters(bytes, after, end)?;
            value.value = Span::new(start, value_end);
        }
        Some(value)
    }

    /// URI and tag of a value `[name] <URI>[;tag=TAG]` that is all of `start..end`, as most From and To are; `None` for
    /// every other one, right or wrong.
    #[inline(always)]
    pub(super) fn read_usual(bytes: &[u8], span: Span) -> Option<(Span, Option<Span>)> {
        let (start, end) = (span.start(), span.end());
        let open = match bytes.get(start)? {
            b'<' => start,
            b'"' => {
                let close = find(bytes, start + 1, end, |block| {
                    block.is(b'"').or(block.is(b'\\')).bits()
                });
                if bytes.get(close) != Some(&b'"') {
                    return None;
                }
                close + 1 + usize::from(bytes.get(close + 1) == Some(&b' '))
            }
            _ => find(bytes, start, end, opens_or_ends),
        };
        let close = find(bytes, open, end, |block| block.is(b'>').bits());
        let is_uri = |byte: Option<&u8>| byte.is_some_and(|byte| *byte > b' ');
        if close >= end
            || close < open + 2
            || bytes.get(open) != Some(&b'<')
            || !is_uri(bytes.get(open + 1))
            || !is_uri(bytes.get(close - 1))
        {
            return None;
        }
        let uri = Span::new(open + 1, close);
        let after = close + 1;
        if after == end {
            return Some((uri, None));
        }
        let tag = after + b";tag=".len();
        if bytes.get(after..tag)? != b";tag=" || tag >= end {
            return None;
        }
        (find_value_end(bytes, tag, end) == end).then(|| (uri, Some(Span::new(tag, end))))
    }

    /// The value of the first header parameter of that name (any case), such as `expires` of a Contact; quotes belong to it.
    pub(crate) fn parameter(&self, bytes: &[u8], name: &[u8]) -> Option<Span> {
        let end = self.value.end();
        let after_uri = skip_lws(bytes, self.uri.end(), end);
        let is_bracket = bytes.get(after_uri..end)?.first() == Some(&b'>');
        let mut position = after_uri + usize::from(is_bracket);
        for _ in 0..MAX_PARAMETERS {
            position = skip_lws(bytes, position, end);
            if bytes.get(position..end)?.first() != Some(&b';') {
                return None;
            }
            let parameter = RawParameter::parse(bytes, position, end)?;
            if parameter.name.of(bytes).eq_ignore_ascii_case(name) {
                return parameter.value;
            }
            position = parameter.end;
        }
        None
    }

    /// Reads `;name[=value]...` up to the end or a comma, and returns where the last of them ends.
    fn read_parameters(&mut self, bytes: &[u8], start: usize, end: usize) -> Option<usize> {
        let mut value_end = trim(bytes, self.value.start(), start).1;
        let mut position = start;
        loop {
            position = skip_lws(bytes, position, end);
            match bytes.get(position..end)?.first() {
                None => return Some(value_end),
                Some(b',') => {
                    let next = skip_lws(bytes, position + 1, end);
                    // A comma with nothing after it joins nothing.
                    self.next = (next < end).then_some(next);
                    return Some(value_end);
                }
                Some(b';') => {}
                Some(_) => return None,
            }
            let parameter = RawParameter::parse(bytes, position, end)?;
            if parameter.name.of(bytes).eq_ignore_ascii_case(b"tag") {
                let tag = parameter.value?;
                if self.tag.replace(tag).is_some() {
                    return None;
                }
            }
            position = parameter.end;
            value_end = parameter.end;
        }
    }
}

/// Offset of the `<` in `start..end`, past a quoted display name. `None` for an open quote, `Some(None)` for no bracket.
#[inline(always)]
fn find_open_bracket(bytes: &[u8], start: usize, end: usize) -> Option<Option<usize>> {
    let mut position = start;
    // As most Contacts begin.
    if bytes.get(start) == Some(&b'<') && start < end {
        return Some(Some(start));
    }
    loop {
        // A comma ends a value without brackets, so the bracket of the next value is not found.
        position = find(bytes, position, end, opens_or_ends);
        match bytes.get(position..end)?.first() {
            Some(b'<') => return Some(Some(position)),
            Some(b'"') => position = skip_quoted(bytes, position, end)?,
            _ => return Some(None),
        }
    }
}

/// `;name[=value]`, the form of all parameters.
#[derive(Clone, Copy, Debug)]
pub(super) struct RawParameter {
    /// Name; empty for a semicolon with nothing after it, which some devices leave at the end of a value.
    pub name: Span,
    /// Value, when there is a `=`; a quoted string with its quotes. May be empty.
    pub value: Option<Span>,
    /// After the last byte of the parameter.
    pub end: usize,
}

impl RawParameter {
    /// Reads the parameter whose semicolon is at `start`. Stops before blanks, `;`, `,` or the end.
    #[inline(always)]
    pub fn parse(bytes: &[u8], start: usize, end: usize) -> Option<Self> {
        let name_start = skip_lws(bytes, start + 1, end);
        let name_end = skip_while(bytes, name_start, end, is_token);
        if name_end == name_start {
            return (name_start == end).then(|| Self {
                name: Span::new(start + 1, start + 1),
                value: None,
                end: start + 1,
            });
        }
        let name = Span::new(name_start, name_end);
        let equals = skip_lws(bytes, name_end, end);
        if bytes.get(equals..end)?.first() != Some(&b'=') {
            return Some(Self {
                name,
                value: None,
                end: name_end,
            });
        }
        let value_start = skip_lws(bytes, equals + 1, end);
        let value_end = if bytes.get(value_start..end)?.first() == Some(&b'"') {
            skip_quoted(bytes, value_start, end)?
        } else {
            find_value_end(bytes, value_start, end)
        };
        // After `name=` alone the blanks skipped in search of a value are not part of it.
        let (value_start, value_end) = if value_end == value_start {
            (equals + 1, equals + 1)
        } else {
            (value_start, value_end)
        };
        Some(Self {
            name,
            value: Some(Span::new(value_start, value_end)),
            end: value_end,
        })
    }
}

/// What ends a display name without quotes: `<`, or `"`, `;` and `,`, with which it is none.
#[inline(always)]
fn opens_or_ends(block: Block) -> u32 {
    let quote_or_comma = block.is(b'"').or(block.is(b','));
    quote_or_comma.or(block.within(b';', b'<')).bits()
}

/// Where a value ends that is not quoted: at `;`, `,`, `"`, `<`, `>`, blanks and line ends, or at `end`.
#[inline(always)]
pub(super) fn find_value_end(bytes: &[u8], start: usize, end: usize) -> usize {
    // A few more characters, which are rare in values, make it fewer comparisons.
    let at = find(bytes, start, end, |block| {
        let low = block.within(0, b'"').or(block.is(b','));
        low.or(block.within(b';', b'>')).bits()
    });
    match bytes.get(at) {
        Some(b';' | b',' | b'"' | b'<' | b'>' | b' ' | b'\t'..=b'\r') => at,
        _ if at >= end => end,
        _ => find(bytes, at, end, ends_value),
    }
}

fn ends_value(block: Block) -> u32 {
    let separators = block
        .within(b';', b'<')
        .or(block.is(b'>'))
        .or(block.is(b','));
    let quote_or_space = block.is(b'"').or(block.is(b' '));
    separators
        .or(quote_or_space)
        .or(block.within(b'\t', b'\r'))
        .bits()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// URI, tag and the rest after a comma; `None` for a fault.
    fn check(text: &str, want: Option<(&str, Option<&str>, Option<&str>)>) {
        let bytes = text.as_bytes();
        let text_of = |span: Span| std::str::from_utf8(span.of(bytes)).unwrap();
        let got = NameAddr::parse(bytes, Span::new(0, bytes.len())).map(|value| {
            (
                text_of(value.uri),
                value.tag.map(text_of),
                value.next.map(|next| &text[next..]),
            )
        });
        assert_eq!(got, want, "{text:?}");
    }

    #[test]
    fn values() {
        check("<sip:a@b>", Some(("sip:a@b", None, None)));
        check(
            "<sip:a@b;tag=inner>",
            Some(("sip:a@b;tag=inner", None, None)),
        );
        check(
            "<sip:a@b;tag=inner>;tag=outer",
            Some(("sip:a@b;tag=inner", Some("outer"), None)),
        );
        check("sip:a@b;tag=x", Some(("sip:a@b", Some("x"), None)));
        check("sip:a@b ; TAG = x ; y", Some(("sip:a@b", Some("x"), None)));
        check(
            r#""a <sip:evil>;tag=1" <sip:a@b> ;tag=2"#,
            Some(("sip:a@b", Some("2"), None)),
        );
        check(
            r#""a \" <" <sip:a@b>;tag=2"#,
            Some(("sip:a@b", Some("2"), None)),
        );
        check(
            "A. Person <sip:a@b>;p=\"x;tag=no\";tag=2",
            Some(("sip:a@b", Some("2"), None)),
        );
        check(
            "<sip:a@b>\r\n ;\r\n tag\t=\r\n  x",
            Some(("sip:a@b", Some("x"), None)),
        );
        check("<sip:a@b>;", Some(("sip:a@b", None, None)));
        check("<sip:a@b>;tag=", Some(("sip:a@b", Some(""), None)));
        check("<sip:a@b>;tag= ;x", Some(("sip:a@b", Some(""), None)));
        check("<tel:+44>;tag=x", Some(("tel:+44", Some("x"), None)));
    }

    #[test]
    fn faults() {
        for text in [
            "",
            "<>",
            "< >",
            ";tag=x",
            "<sip:a@b",
            r#""open <sip:a@b>;tag=x"#,
            "<sip:a@b>;tag=\"open",
            "<sip:a@b> x",
            "<sip:a@b>;tag=x;tag=y",
            "<sip:a@b>;tag",
            "<sip:a@b>;tag=;tag=x",
            "<sip:a@b>;;tag=x",
            "<sip:a@b>;=x",
            "\"a\" sip:a@b",
        ] {
            check(text, None);
        }
    }

    #[test]
    fn lists() {
        check(
            "<sip:a;lr>, <sip:b;lr>",
            Some(("sip:a;lr", None, Some("<sip:b;lr>"))),
        );
        check(
            "<sip:a,b;lr> ,\r\n <sip:b;lr>",
            Some(("sip:a,b;lr", None, Some("<sip:b;lr>"))),
        );
        check(
            "\"x, y\" <sip:a>;p=1,<sip:b>",
            Some(("sip:a", None, Some("<sip:b>"))),
        );
        check("sip:a, <sip:b>", Some(("sip:a", None, Some("<sip:b>"))));
        check("<sip:a>,", Some(("sip:a", None, None)));
        check(",<sip:a>", None);
    }

    #[test]
    fn the_value_ends_with_its_last_parameter() {
        let bytes = b" <sip:a>;lr ; x=y  , <sip:b>";
        let value = NameAddr::parse(bytes, Span::new(0, bytes.len())).unwrap();
        assert_eq!(value.value.of(bytes), b"<sip:a>;lr ; x=y");
    }
}
