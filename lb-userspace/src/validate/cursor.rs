//! Reading a header value from left to right.

/// A value and how far it was read: `position` never passes the end, and no method moves it back.
#[derive(Clone, Debug)]
pub(super) struct Cursor<'a> {
    bytes: &'a [u8],
    position: usize,
}

impl<'a> Cursor<'a> {
    pub fn new(bytes: &'a [u8]) -> Self {
        Self { bytes, position: 0 }
    }

    /// What was not read yet.
    pub fn rest(&self) -> &'a [u8] {
        &self.bytes[self.position..]
    }

    pub fn at_end(&self) -> bool {
        self.position == self.bytes.len()
    }

    pub fn peek(&self) -> Option<u8> {
        self.rest().first().copied()
    }

    /// Takes this byte when it is the next one.
    pub fn eat(&mut self, byte: u8) -> bool {
        let next = self.peek() == Some(byte);
        self.position += usize::from(next);
        next
    }

    /// Takes this byte, which must be the next one.
    pub fn expect(&mut self, byte: u8) -> Option<()> {
        self.eat(byte).then_some(())
    }

    /// Takes bytes as long as they are wanted; maybe none.
    pub fn take_while(&mut self, wanted: impl Fn(u8) -> bool) -> &'a [u8] {
        let rest = self.rest();
        let len = rest
            .iter()
            .position(|byte| !wanted(*byte))
            .unwrap_or(rest.len());
        self.position += len;
        &rest[..len]
    }

    /// Takes linear white space with folds; true when there was some.
    pub fn lws(&mut self) -> bool {
        !self.take_while(is_lws).is_empty()
    }

    /// Takes a `token`.
    pub fn token(&mut self) -> Option<&'a [u8]> {
        let token = self.take_while(is_token);
        (!token.is_empty()).then_some(token)
    }

    /// Takes decimal digits.
    pub fn digits(&mut self) -> Option<&'a [u8]> {
        let digits = self.take_while(|byte| byte.is_ascii_digit());
        (!digits.is_empty()).then_some(digits)
    }

    /// Takes a `quoted-string`, its quotes included.
    pub fn quoted(&mut self) -> Option<&'a [u8]> {
        let start = self.position;
        self.expect(b'"')?;
        loop {
            self.take_while(|byte| !matches!(byte, b'"' | b'\\'));
            if self.eat(b'"') {
                return Some(&self.bytes[start..self.position]);
            }
            self.expect(b'\\')?;
            // It takes the next octet with it, whatever that is.
            self.peek()?;
            self.position += 1;
        }
    }

    /// Takes `name[=value]`. A value may have more characters than a `token` or `host`, as in the field they do.
    pub fn parameter(&mut self) -> Option<(&'a [u8], Option<&'a [u8]>)> {
        let name = self.token()?;
        self.lws();
        if !self.eat(b'=') {
            return Some((name, None));
        }
        self.lws();
        let value = match self.peek()? {
            b'"' => self.quoted()?,
            _ => self.take_while(|byte| {
                !is_lws(byte) && !matches!(byte, b';' | b',' | b'"' | b'<' | b'>')
            }),
        };
        (!value.is_empty()).then_some((name, Some(value)))
    }

    /// Takes `;name[=value]` as often as it comes and shows each to `see`. A semicolon with nothing after it is left at
    /// the end of a value by some devices and means nothing.
    pub fn parameters(
        &mut self,
        mut see: impl FnMut(&[u8], Option<&[u8]>) -> Option<()>,
    ) -> Option<()> {
        loop {
            self.lws();
            if !self.eat(b';') {
                return Some(());
            }
            self.lws();
            if self.at_end() {
                return Some(());
            }
            let (name, value) = self.parameter()?;
            see(name, value)?;
        }
    }
}

pub(super) fn is_lws(byte: u8) -> bool {
    matches!(byte, b' ' | b'\t' | b'\r' | b'\n')
}

pub(super) fn is_token(byte: u8) -> bool {
    byte.is_ascii_alphanumeric()
        || matches!(
            byte,
            b'-' | b'.' | b'!' | b'%' | b'*' | b'_' | b'+' | b'`' | b'\'' | b'~'
        )
}

/// The bytes without linear white space on either side.
pub(super) fn trim(mut bytes: &[u8]) -> &[u8] {
    while let [first, rest @ ..] = bytes
        && is_lws(*first)
    {
        bytes = rest;
    }
    while let [rest @ .., last] = bytes
        && is_lws(*last)
    {
        bytes = rest;
    }
    bytes
}

/// True for digits whose number fits 32 bits, as delta-seconds do (RFC 3261 §20.19).
pub(super) fn is_u32(digits: &[u8]) -> bool {
    !digits.is_empty()
        && digits
            .iter()
            .try_fold(0u32, |number, digit| {
                let digit = digit.is_ascii_digit().then_some(u32::from(digit & 0xf))?;
                number.checked_mul(10)?.checked_add(digit)
            })
            .is_some()
}
