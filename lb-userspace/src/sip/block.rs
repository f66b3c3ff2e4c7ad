//! Sixteen bytes at a time: the searches that the scan of a message consists of.
//!
//! `wide` makes these one instruction each where the CPU has SIMD registers (SSE2 on x86-64, NEON on aarch64), and plain
//! code elsewhere.

use wide::u8x16;

/// Bytes in a [`Block`].
pub(super) const BLOCK: usize = 16;

/// Sixteen bytes.
#[derive(Clone, Copy)]
pub(super) struct Block(u8x16);

/// Which of sixteen bytes are in a set: ones or zeros in each.
#[derive(Clone, Copy)]
pub(super) struct Matches(u8x16);

impl Block {
    /// Loads the bytes in their order.
    #[inline(always)]
    pub fn load(bytes: &[u8; BLOCK]) -> Self {
        Self(u8x16::new(*bytes))
    }

    /// The bytes that are `byte`.
    #[inline(always)]
    pub fn is(self, byte: u8) -> Matches {
        Matches(self.0.simd_eq(u8x16::splat(byte)))
    }

    /// The bytes from `low` to `high`, both included.
    #[inline(always)]
    pub fn within(self, low: u8, high: u8) -> Matches {
        let above_low = self.0 - u8x16::splat(low);
        Matches(above_low.min(u8x16::splat(high - low)).simd_eq(above_low))
    }

    /// The control characters: NUL to US.
    #[inline(always)]
    pub fn controls(self) -> Matches {
        Matches(self.0.min(u8x16::splat(0x1f)).simd_eq(self.0))
    }

    /// The bytes with bit 5 set: letters in lower case.
    #[inline(always)]
    pub fn lower(self) -> Self {
        Self(self.0 | u8x16::splat(0x20))
    }
}

impl Matches {
    /// Those of either.
    #[inline(always)]
    pub fn or(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    /// Bit n for byte n.
    #[inline(always)]
    pub fn bits(self) -> u32 {
        self.0.to_bitmask()
    }
}

/// Up to sixteen bytes from `position`, zeros behind the last one, and how many there are.
#[inline(always)]
fn block_at(bytes: &[u8], position: usize) -> (Block, usize) {
    let rest = bytes.get(position..).unwrap_or_default();
    match rest.first_chunk::<BLOCK>() {
        Some(block) => (Block::load(block), BLOCK),
        None => last_block(rest),
    }
}

/// The end of a datagram. Not inlined: one message in a hundred scans comes here.
#[cold]
#[inline(never)]
fn last_block(rest: &[u8]) -> (Block, usize) {
    let mut block = [0; BLOCK];
    for (to, from) in block.iter_mut().zip(rest) {
        *to = *from;
    }
    (Block::load(&block), rest.len())
}

/// Offset of the first byte in `start..end` that is in the set, or `end`.
#[inline(always)]
pub(super) fn find(bytes: &[u8], start: usize, end: usize, set: impl Fn(Block) -> u32) -> usize {
    let mut position = start;
    while position < end {
        let (block, len) = block_at(bytes, position);
        let found = set(block).trailing_zeros() as usize;
        if found < len {
            return (position + found).min(end);
        }
        if len < BLOCK {
            break;
        }
        position += BLOCK;
    }
    end
}

/// The lines of a datagram, by its control characters, which are found sixty-four bytes at a time.
#[derive(Clone, Debug)]
pub(super) struct LineEnds<'a> {
    bytes: &'a [u8],
    /// Offset of bit 0.
    base: usize,
    /// Control characters that were not passed yet.
    controls: u64,
}

/// Where a line ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct LineEnd {
    /// After the last byte of its content.
    pub content: usize,
    /// First byte of the next line; the end of the datagram when no line end came.
    pub next: usize,
    /// True when there are control characters in it, tabs among them.
    pub strange: bool,
}

impl<'a> LineEnds<'a> {
    /// Starts at `position`.
    #[inline(always)]
    pub fn new(bytes: &'a [u8], position: usize) -> Self {
        Self {
            bytes,
            base: position,
            controls: control_bits(bytes, position),
        }
    }

    /// The end of the line that begins at `start`, the start or the end of the line before: CRLF, or LF alone as old
    /// devices send it.
    #[inline(always)]
    pub fn next(&mut self, start: usize) -> LineEnd {
        let mut strange = false;
        loop {
            while self.controls != 0 {
                let at = self.base + self.controls.trailing_zeros() as usize;
                self.controls &= self.controls - 1;
                if let Some([b'\r', b'\n']) =
                    self.bytes.get(at..).and_then(|rest| rest.first_chunk())
                {
                    // The LF as well; that of a CR at the end of the sixty-four bytes is passed over later.
                    self.controls &= self.controls.wrapping_sub(1);
                    return LineEnd {
                        content: at,
                        next: at + 2,
                        strange,
                    };
                }
                if at >= start {
                    if self.bytes[at] == b'\n' {
                        return LineEnd {
                            content: at,
                            next: at + 1,
                            strange,
                        };
                    }
                    strange = true;
                }
            }
            self.base += 64;
            if self.base >= self.bytes.len() {
                return self.last_line(strange);
            }
            self.controls = control_bits(self.bytes, self.base);
        }
    }

    #[cold]
    fn last_line(&mut self, strange: bool) -> LineEnd {
        self.base = self.bytes.len();
        LineEnd {
            content: self.bytes.len(),
            next: self.bytes.len(),
            strange,
        }
    }
}

/// Bit n for a control character at `position + n`.
#[inline(always)]
fn control_bits(bytes: &[u8], position: usize) -> u64 {
    let rest = bytes.get(position..).unwrap_or_default();
    let Some(blocks) = rest.first_chunk::<64>() else {
        return last_control_bits(rest);
    };
    let bits = |index: usize| {
        let block = Block::load(&blocks.as_chunks::<BLOCK>().0[index]);
        u64::from(block.controls().bits()) << (BLOCK * index)
    };
    bits(0) | bits(1) | bits(2) | bits(3)
}

/// The same for the end of the datagram.
#[inline(never)]
fn last_control_bits(rest: &[u8]) -> u64 {
    let mut bits = 0;
    for index in 0..rest.len().div_ceil(BLOCK) {
        let (block, len) = block_at(rest, BLOCK * index);
        let there = (1u32 << len) - 1;
        bits |= u64::from(block.controls().bits() & there) << (BLOCK * index);
    }
    bits
}

#[cfg(test)]
mod tests {
    use proptest::{collection::vec, prelude::*};

    use super::*;

    proptest! {
        #[test]
        fn found_as_the_slow_way_finds_it(
            bytes in vec(prop_oneof![Just(b'x'), Just(b';'), Just(0u8), any::<u8>()], 0..100),
            start in 0usize..110,
            len in 0usize..110,
        ) {
            let end = (start + len).min(bytes.len());
            let slow = |keep: &dyn Fn(u8) -> bool| {
                (start..end).find(|at| keep(bytes[*at])).unwrap_or(end)
            };
            prop_assert_eq!(find(&bytes, start, end, |block| block.is(b';').bits()), slow(&|byte| byte == b';'));
            prop_assert_eq!(find(&bytes, start, end, |block| block.is(0).bits()), slow(&|byte| byte == 0));
            let within = |block: Block| block.within(b' ', b'~').bits();
            prop_assert_eq!(find(&bytes, start, end, within), slow(&|byte| (b' '..=b'~').contains(&byte)));
            let letters = |block: Block| block.lower().within(b'a', b'f').or(block.is(0xff)).bits();
            prop_assert_eq!(
                find(&bytes, start, end, letters),
                slow(&|byte| (b'a'..=b'f').contains(&(byte | 0x20)) || byte == 0xff)
            );
        }

        #[test]
        fn lines_end_where_the_slow_way_ends_them(
            bytes in vec(
                prop_oneof![
                    8 => Just(b'x'), 2 => Just(b'\n'), 2 => Just(b'\r'), 1 => Just(b'\t'), 1 => Just(0u8),
                ],
                0..400,
            ),
            start in 0usize..70,
        ) {
            let mut start = start.min(bytes.len());
            let mut ends = LineEnds::new(&bytes, start);
            loop {
                let got = ends.next(start);
                let end = bytes[start..].iter().position(|byte| *byte == b'\n').map(|len| start + len);
                let content = match end {
                    Some(end) if end > start && bytes[end - 1] == b'\r' => end - 1,
                    Some(end) => end,
                    None => bytes.len(),
                };
                let want = LineEnd {
                    content,
                    next: end.map_or(bytes.len(), |end| end + 1),
                    strange: bytes[start..content].iter().any(|byte| *byte < 0x20),
                };
                prop_assert_eq!(got, want);
                if end.is_none() {
                    break;
                }
                start = want.next;
            }
        }
    }
}
