//! A piece of a datagram that knows where it stands, and how it comes apart.

/// A piece of the datagram and where it stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Text<'a> {
    pub at: usize,
    pub bytes: &'a [u8],
}

impl<'a> Text<'a> {
    pub fn end(self) -> usize {
        self.at + self.bytes.len()
    }

    /// What comes after the first `count` bytes.
    pub fn from(self, count: usize) -> Self {
        Self {
            at: self.at + count,
            bytes: &self.bytes[count..],
        }
    }

    /// What comes before an offset in the datagram.
    pub fn until(self, offset: usize) -> Self {
        Self {
            bytes: &self.bytes[..offset - self.at],
            ..self
        }
    }

    pub fn leading_lws(self) -> usize {
        self.bytes.iter().take_while(|byte| is_lws(**byte)).count()
    }

    pub fn trimmed(self) -> Self {
        self.from(self.leading_lws()).trimmed_end(is_lws)
    }

    pub fn trimmed_end(self, is_blank: fn(u8) -> bool) -> Self {
        let blanks = self
            .bytes
            .iter()
            .rev()
            .take_while(|byte| is_blank(**byte))
            .count();
        self.until(self.end() - blanks)
    }

    /// What comes before and after the first `separator`.
    pub fn split_once(self, separator: u8) -> Option<(Self, Self)> {
        let at = self.bytes.iter().position(|byte| *byte == separator)?;
        Some((self.until(self.at + at), self.from(at + 1)))
    }

    /// The pieces between separators that stand outside quoted strings and angle brackets.
    pub fn split(self, separator: u8) -> Vec<Self> {
        let mut pieces = Vec::new();
        let mut quotes = Quotes::default();
        let mut in_brackets = false;
        let mut rest = self;
        for (index, byte) in self.bytes.iter().enumerate() {
            if in_brackets {
                in_brackets = *byte != b'>';
            } else if !quotes.covers(*byte) {
                in_brackets = *byte == b'<';
                if *byte == separator {
                    pieces.push(rest.until(self.at + index));
                    rest = self.from(index + 1);
                }
            }
        }
        pieces.push(rest);
        pieces
    }
}

/// Follows quoted strings through a text (RFC 3261 §25.1): a backslash takes the next octet with it.
#[derive(Default)]
pub struct Quotes {
    inside: bool,
    pub escaped: bool,
}

impl Quotes {
    /// True for the bytes of a quoted string, its quotes included.
    pub fn covers(&mut self, byte: u8) -> bool {
        if !self.inside {
            self.inside = byte == b'"';
            return self.inside;
        }
        if self.escaped {
            self.escaped = false;
        } else if byte == b'\\' {
            self.escaped = true;
        } else if byte == b'"' {
            self.inside = false;
        }
        true
    }
}

/// The first line without its line end (CRLF, or LF alone as old devices send it), and what follows.
pub fn first_line(text: Text<'_>) -> (Text<'_>, Text<'_>) {
    let end = text
        .bytes
        .iter()
        .position(|byte| *byte == b'\n')
        .map_or(text.bytes.len(), |at| at + 1);
    (without_line_end(text.until(text.at + end)), text.from(end))
}

pub fn without_line_end(text: Text<'_>) -> Text<'_> {
    let bytes = text.bytes;
    let content = bytes
        .strip_suffix(b"\r\n")
        .or_else(|| bytes.strip_suffix(b"\n"))
        .unwrap_or(bytes);
    Text {
        bytes: content,
        ..text
    }
}

pub fn is_line_end(byte: u8) -> bool {
    byte == b'\r' || byte == b'\n'
}

pub fn is_blank(byte: u8) -> bool {
    byte == b' ' || byte == b'\t'
}

pub fn is_lws(byte: u8) -> bool {
    is_blank(byte) || is_line_end(byte)
}

pub fn is_token(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"-.!%*_+`'~".contains(&byte)
}

pub fn is_whole_token(text: Text<'_>) -> bool {
    !text.bytes.is_empty() && text.bytes.iter().all(|byte| is_token(*byte))
}
