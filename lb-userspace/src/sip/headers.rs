//! Header lines: where each header field is (RFC 3261 §7.3).

use super::{
    Fault, Span,
    block::{BLOCK, Block, LineEnd, LinesAhead},
    chars::{is_token, skip_while, trim},
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
    /// `Proxy-Require`.
    ProxyRequire,
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
            (13, b'p') => (Self::ProxyRequire, b"Proxy-Require"),
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
    lines: LinesAhead<'a>,
    /// Start of the next line.
    position: usize,
    fields: usize,
    body: Option<usize>,
}

impl<'a> Lines<'a> {
    /// Starts at `position`, the first byte after the start line.
    #[inline(always)]
    pub fn new(bytes: &'a [u8], position: usize) -> Self {
        Self {
            bytes,
            lines: LinesAhead::new(bytes, position, false),
            position,
            fields: 0,
            body: None,
        }
    }

    /// Starts at `position`, the first byte of the start line.
    #[inline(always)]
    pub(super) fn of_message(bytes: &'a [u8], position: usize) -> Self {
        Self {
            lines: LinesAhead::new(bytes, position, true),
            ..Self::new(bytes, position)
        }
    }

    /// Takes the first line, which is no header field: where its content ends, and whether control characters are in it.
    #[inline(always)]
    pub(super) fn start_line(&mut self) -> (usize, bool) {
        let line = self.lines.next();
        let content = &self.bytes[self.position..line.content];
        self.position = line.next;
        (
            line.content,
            line.strange && control_fault(content).is_some(),
        )
    }

    /// Offset of the next line.
    pub(super) fn position(&self) -> usize {
        self.position
    }

    /// Header lines so far, broken ones and the one beyond the limit included.
    pub(super) fn fields(&self) -> usize {
        self.fields
    }

    /// Offset after the empty line, once the iterator has come to it.
    pub fn body(&self) -> Option<usize> {
        self.body
    }

    /// The next line with those that continue it, or what is wrong with it.
    #[inline(always)]
    pub(super) fn next_line(&mut self) -> Option<Result<Line, Fault>> {
        let start = self.position;
        let end = self.lines.next();
        if end.content <= start {
            self.end(end);
            return None;
        }
        self.position = end.next;
        self.fields += 1;
        let line = Line {
            start,
            content: end.content,
            next: end.next,
        };
        if end.strange || self.fields > MAX_HEADER_FIELDS {
            return Some(self.strange_line(line));
        }
        Some(Ok(line))
    }

    #[cold]
    fn strange_line(&mut self, line: Line) -> Result<Line, Fault> {
        if self.fields > MAX_HEADER_FIELDS {
            self.position = self.bytes.len();
            return Err(Fault::TooManyHeaderFields);
        }
        match control_fault(&self.bytes[line.start..line.content]) {
            Some(fault) => Err(fault),
            None => Ok(line),
        }
    }

    /// Ends the iteration at the empty line, or where there is no line any more.
    #[inline(never)]
    fn end(&mut self, line: LineEnd) {
        if line.content == self.position && line.next > line.content {
            self.body = Some(line.next);
        }
        self.position = self.bytes.len();
    }
}

/// A header line with those that continue it (RFC 3261 §7.3.1).
#[derive(Clone, Copy, Debug)]
pub(super) struct Line {
    start: usize,
    /// After the last byte of its content.
    content: usize,
    /// Start of the next one.
    next: usize,
}

impl Line {
    /// Name, and the offset after the colon; `None` when the line is no header field.
    #[inline(always)]
    pub fn name(self, bytes: &[u8]) -> Option<(Name, usize)> {
        read_name(bytes, self.start, self.content)
    }

    /// The header field whose name and colon end at `after_colon`.
    #[inline(always)]
    pub fn field(self, bytes: &[u8], name: Name, after_colon: usize) -> HeaderField {
        let (value_start, value_end) = trim(bytes, after_colon, self.content);
        HeaderField {
            name,
            line: Span::new(self.start, self.next),
            value: Span::new(value_start, value_end),
        }
    }
}

impl Iterator for Lines<'_> {
    type Item = Result<HeaderField, Fault>;

    fn next(&mut self) -> Option<Self::Item> {
        let line = match self.next_line()? {
            Ok(line) => line,
            Err(fault) => return Some(Err(fault)),
        };
        Some(match line.name(self.bytes) {
            Some((name, after_colon)) => Ok(line.field(self.bytes, name, after_colon)),
            None => Err(Fault::HeaderField),
        })
    }
}

/// What is wrong with the control characters in a header field, if anything is: line ends are those of folds here, and
/// a quoted pair may stand for any but them (RFC 3261 §25.1).
#[cold]
fn control_fault(line: &[u8]) -> Option<Fault> {
    let mut quoted = false;
    let mut escaped = false;
    for (at, byte) in line.iter().enumerate() {
        match byte {
            b'\r' if line.get(at + 1) != Some(&b'\n') => return Some(Fault::BareCr),
            b'\r' | b'\n' | b'\t' => {}
            0..0x20 if !escaped => return Some(Fault::ControlCharacter),
            b'"' if !escaped => quoted = !quoted,
            _ => {}
        }
        escaped = quoted && !escaped && *byte == b'\\';
    }
    None
}

/// The first eight bytes of a name with its colon, in lower case, and which bits of them count.
const fn word(name: &[u8]) -> (u64, u64) {
    let mut value = 0;
    let mut mask = 0;
    let mut at = 0;
    while at < name.len() {
        value |= (name[at] as u64 | 0x20) << (8 * at);
        mask |= 0xff << (8 * at);
        at += 1;
    }
    (value, mask)
}

/// Reads the name of the header field at `start..end`, and where its value begins; `None` when there is no name or no
/// colon.
///
/// The usual spellings are told by their first eight bytes, whose bit 5 is set: that turns letters into lower case, and
/// apart from letters only control characters into something else. A line with these is refused before it comes here.
#[inline(always)]
fn read_name(bytes: &[u8], start: usize, end: usize) -> Option<(Name, usize)> {
    const LOWER: u64 = 0x2020_2020_2020_2020;
    /// Name, and its first eight bytes and the rest of them.
    macro_rules! known {
        ($block:ident: $($name:ident $first:literal $(+ $rest:literal)?),*) => {{
            let halves = $block.as_chunks::<8>().0;
            let first = u64::from_le_bytes(halves[0]) | LOWER;
            #[allow(unused_variables, reason = "most names end within the first eight bytes")]
            let second = u64::from_le_bytes(halves[1]) | LOWER;
            $({
                const FIRST: (u64, u64) = word($first);
                if first & FIRST.1 == FIRST.0 $(&& {
                    const SECOND: (u64, u64) = word($rest);
                    second & SECOND.1 == SECOND.0
                })? {
                    return Some((Name::$name, start + $first.len() $(+ $rest.len())?));
                }
            })*
        }};
    }
    let Some(block) = bytes
        .get(start..)
        .and_then(|rest| rest.first_chunk::<BLOCK>())
    else {
        return read_any_name(bytes, start, end);
    };
    // One branch for the letter, so that few names are compared.
    match block[0] | 0x20 {
        b'v' => known!(block: Via b"via:", Via b"v:"),
        b'f' => known!(block: From b"from:", From b"f:"),
        b't' => known!(block: To b"to:", To b"t:"),
        b'c' => known!(block: CallId b"call-id:", Cseq b"cseq:", Contact b"contact:",
            ContentLength b"content-" + b"length:", ContentType b"content-" + b"type:", ContentType b"c:"),
        b'm' => known!(block: MaxForwards b"max-forw" + b"ards:", Contact b"m:"),
        b'r' => known!(block: Route b"route:"),
        b'p' => known!(block: ProxyRequire b"proxy-re" + b"quire:"),
        b'i' => known!(block: CallId b"i:"),
        b'l' => known!(block: ContentLength b"l:"),
        _ => {}
    }
    let letters = Block::load(block);
    let colon = letters.is(b':').bits().trailing_zeros();
    let plain = letters
        .lower()
        .within(b'a', b'z')
        .or(letters.is(b'-'))
        .bits();
    let name = (1u32 << (colon & 31)) - 1;
    // All of the name are letters and hyphens, so it lies in this line; and it is none of the above.
    if colon < BLOCK as u32 && colon > 0 && plain & name == name {
        return Some((Name::Other, start + colon as usize + 1));
    }
    read_any_name(bytes, start, end)
}

/// Reads a name in whatever spelling: with blanks before the colon, of other characters, long, or close to the end.
#[inline(never)]
fn read_any_name(bytes: &[u8], start: usize, end: usize) -> Option<(Name, usize)> {
    let name_end = skip_while(bytes, start, end, is_token);
    let colon = skip_while(bytes, name_end, end, |byte| matches!(byte, b' ' | b'\t'));
    if name_end == start || colon >= end || bytes[colon] != b':' {
        return None;
    }
    Some((Name::from_text(&bytes[start..name_end]), colon + 1))
}

/// The header fields with one of these names (any case), none of which may be one that [`Name`] knows.
pub(crate) fn fields_named<'a>(
    bytes: &'a [u8],
    headers: usize,
    names: &'a [&'a [u8]],
) -> impl Iterator<Item = HeaderField> + 'a {
    let fields = Lines::new(bytes, headers).flatten();
    fields.filter(move |field| {
        let line = field.line.of(bytes);
        let is_named = |name: &&[u8]| {
            line.get(..name.len())
                .is_some_and(|start| start.eq_ignore_ascii_case(name))
                && line[name.len()..].trim_ascii_start().first() == Some(&b':')
        };
        field.name == Name::Other && names.iter().any(is_named)
    })
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
        check("To: b\0\r\n\r\n", &[Err(Fault::ControlCharacter)], Some(""));
        check(
            "To: b\x07c\n\r\n",
            &[Err(Fault::ControlCharacter)],
            Some(""),
        );
        check(
            "To: \"\0\" <a:b>\n\n",
            &[Err(Fault::ControlCharacter)],
            Some(""),
        );
        check("Call\rID: b\r\n\r\n", &[Err(Fault::BareCr)], Some(""));
        check(
            "To\x1a b\r\n\r\n                ",
            &[Err(Fault::ControlCharacter)],
            Some("                "),
        );
    }

    #[test]
    fn a_quoted_pair_may_be_a_control_character() {
        check(
            "To: \"a\\\0\\\x07\\\\\" <a:b>\r\n\r\n",
            &[Ok((Name::To, "\"a\\\0\\\x07\\\\\" <a:b>"))],
            Some(""),
        );
        check(
            "To: \"\\\\\0\" <a:b>\n\n",
            &[Err(Fault::ControlCharacter)],
            Some(""),
        );
        check(
            "To: \\\0 <a:b>\n\n",
            &[Err(Fault::ControlCharacter)],
            Some(""),
        );
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
            ("proxy-require", Name::ProxyRequire),
            ("Proxy-Requirf", Name::Other),
            ("Proxy-Authorization", Name::Other),
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
            // Blanks before the colon and the end of the datagram take the way of rare spellings.
            for line in [
                format!("{text}: a value that is longer than a block\r\n\r\n"),
                format!("{text} : a value that is longer than a block\r\n\r\n"),
                format!("{text}:\n"),
            ] {
                let field = Lines::new(line.as_bytes(), 0).next().unwrap();
                let want = if text.is_empty() {
                    Err(Fault::HeaderField)
                } else {
                    Ok(want)
                };
                assert_eq!(field.map(|field| field.name), want, "{line:?}");
            }
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
