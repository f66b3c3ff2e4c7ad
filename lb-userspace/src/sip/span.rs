//! A piece of a datagram.

/// Place of a piece of a datagram, as offsets from its first byte. A UDP payload is shorter than 65,536 bytes, so 16
/// bits reach everywhere.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Span {
    start: u16,
    end: u16,
}

impl Span {
    /// Bytes `start..end`. [`super::read`] refuses longer datagrams, so the offsets fit; beyond that they are cut.
    pub(crate) fn new(start: usize, end: usize) -> Self {
        debug_assert!(start <= end && end <= usize::from(u16::MAX));
        Self {
            start: start as u16,
            end: end as u16,
        }
    }

    /// Offset of the first byte.
    pub fn start(self) -> usize {
        usize::from(self.start)
    }

    /// Offset after the last byte.
    pub fn end(self) -> usize {
        usize::from(self.end)
    }

    /// Number of bytes.
    pub fn len(self) -> usize {
        self.end().saturating_sub(self.start())
    }

    /// True when there is no byte in it.
    pub fn is_empty(self) -> bool {
        self.start >= self.end
    }

    /// The bytes in `datagram`, which must be the one that the span was made from; otherwise what is there, or nothing.
    pub fn of(self, datagram: &[u8]) -> &[u8] {
        datagram.get(self.start()..self.end()).unwrap_or_default()
    }
}
