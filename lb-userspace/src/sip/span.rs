//! A piece of a datagram.

/// Place of a piece of a datagram, as offsets from its first byte. A UDP payload is shorter than 65,536 bytes, so 16
/// bits reach everywhere, and both offsets are one number: it is kept and copied in one piece.
#[derive(Clone, Copy, Default, PartialEq, Eq)]
pub struct Span(u32);

impl Span {
    /// No bytes.
    pub(crate) const EMPTY: Self = Self(0);

    /// Bytes `start..end`. [`super::read`] refuses longer datagrams, so the offsets fit; beyond that they are cut.
    #[inline(always)]
    pub(crate) fn new(start: usize, end: usize) -> Self {
        debug_assert!(start <= end && end <= usize::from(u16::MAX));
        Self(u32::from(start as u16) | (end as u32) << 16)
    }

    /// Offset of the first byte.
    #[inline(always)]
    pub fn start(self) -> usize {
        usize::from(self.0 as u16)
    }

    /// Offset after the last byte.
    #[inline(always)]
    pub fn end(self) -> usize {
        (self.0 >> 16) as usize
    }

    /// Number of bytes.
    #[inline(always)]
    pub fn len(self) -> usize {
        self.end().saturating_sub(self.start())
    }

    /// True when there is no byte in it.
    #[inline(always)]
    pub fn is_empty(self) -> bool {
        self.start() >= self.end()
    }

    /// The bytes in `datagram`, which must be the one that the span was made from; otherwise what is there, or nothing.
    #[inline(always)]
    pub fn of(self, datagram: &[u8]) -> &[u8] {
        datagram.get(self.start()..self.end()).unwrap_or_default()
    }
}

impl std::fmt::Debug for Span {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}..{}", self.start(), self.end())
    }
}
