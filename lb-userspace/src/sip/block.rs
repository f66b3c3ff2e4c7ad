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

/// Offset of the first byte in `start..end` that is in the set, or `end`.
#[inline(always)]
pub(super) fn find(bytes: &[u8], start: usize, end: usize, set: impl Fn(Block) -> u32) -> usize {
    let mut position = start;
    while position < end {
        let Some(block) = bytes.get(position..).and_then(|rest| rest.first_chunk()) else {
            return find_in_tail(bytes, position, end, set);
        };
        let found = set(Block::load(block));
        if found != 0 {
            return (position + found.trailing_zeros() as usize).min(end);
        }
        position += BLOCK;
    }
    end
}

/// The same at the end of a datagram, with zeros behind it. One search in a hundred comes here.
#[cold]
#[inline(never)]
fn find_in_tail(bytes: &[u8], start: usize, end: usize, set: impl Fn(Block) -> u32) -> usize {
    let rest = bytes.get(start..).unwrap_or_default();
    let mut block = [0; BLOCK];
    for (to, from) in block.iter_mut().zip(rest) {
        *to = *from;
    }
    let found = set(Block::load(&block)).trailing_zeros() as usize;
    if found < rest.len() {
        return (start + found).min(end);
    }
    end
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

/// Header fields found at a time: a message of the usual size has no more.
pub(super) const AHEAD: usize = 32;

/// The lines of a datagram up to and with the first empty one, with those that continue them (RFC 3261 §7.3.1). They are
/// found some at a time: what looks for line ends and what reads the lines keep out of each other's registers.
#[derive(Clone, Debug)]
pub(super) struct LinesAhead<'a> {
    bytes: &'a [u8],
    scan: Scan,
    table: [PackedLine; AHEAD],
    /// Lines in the table.
    found: usize,
    /// The next of them.
    next: usize,
}

/// How far the search for line ends has come.
#[derive(Clone, Copy, Debug)]
struct Scan {
    /// Offset of the window that is being looked at.
    base: usize,
    /// Its bytes that were not passed yet.
    ahead: u64,
    /// Start of the first line that is not in the table.
    start: usize,
    /// Start of the start line, which no line continues.
    start_line: usize,
    /// [`STRANGE`] when something was in the line so far.
    strange: u32,
    /// Lines in the table.
    found: usize,
}

/// A [`LineEnd`] in one word: 16 bits for where the content ends, 2 for the length of the line end, one for strangeness.
#[derive(Clone, Copy, Debug)]
struct PackedLine(u32);

const STRANGE: u32 = 1 << 18;

impl PackedLine {
    #[inline(always)]
    fn new(content: usize, end_len: usize, strange: u32) -> Self {
        Self(content as u32 | (end_len as u32) << 16 | strange)
    }

    #[inline(always)]
    fn unpack(self) -> LineEnd {
        let content = (self.0 & 0xffff) as usize;
        LineEnd {
            content,
            next: content + (self.0 >> 16 & 3) as usize,
            strange: self.0 & STRANGE != 0,
        }
    }
}

/// Bytes looked at together: sixty-four that lines can end in, and two that say how.
const WINDOW: usize = 66;

impl<'a> LinesAhead<'a> {
    /// Starts at `position`, at a start line or after it. What is behind the largest payload of a datagram is not looked
    /// at.
    #[inline(always)]
    pub fn new(bytes: &'a [u8], position: usize, has_start_line: bool) -> Self {
        let bytes = &bytes[..bytes.len().min(usize::from(u16::MAX))];
        Self {
            bytes,
            scan: Scan {
                base: position,
                ahead: u64::MAX,
                start: position,
                start_line: if has_start_line { position } else { usize::MAX },
                strange: 0,
                found: 0,
            },
            table: const { [PackedLine(0); AHEAD] },
            found: 0,
            next: 0,
        }
    }

    /// The end of the next line. After the last one it is that of a line without content and line end, again and again.
    #[inline(always)]
    pub fn next(&mut self) -> LineEnd {
        if self.next == self.found {
            self.find();
        }
        let line = self.table[self.next % AHEAD].unpack();
        self.next += 1;
        line
    }

    /// Fills the table anew.
    #[inline(never)]
    fn find(&mut self) {
        let mut scan = self.scan;
        scan.found = 0;
        let is_done = loop {
            let rest = self.bytes.get(scan.base..).unwrap_or_default();
            let Some(window) = rest.first_chunk::<WINDOW>() else {
                break false;
            };
            if scan.take(window, &mut self.table) {
                break true;
            }
        };
        if !is_done {
            scan = self.find_in_tail(scan);
        }
        self.scan = scan;
        (self.found, self.next) = (scan.found, 0);
    }

    /// The rest of [`LinesAhead::find`] where no whole window is left.
    #[inline(never)]
    fn find_in_tail(&mut self, mut scan: Scan) -> Scan {
        let len = self.bytes.len();
        while scan.base < len {
            let rest = &self.bytes[scan.base..];
            let mut window = [b'x'; WINDOW];
            window[..rest.len()].copy_from_slice(rest);
            if scan.take(&window, &mut self.table) {
                return scan;
            }
        }
        self.table[scan.found % AHEAD] = PackedLine::new(len, 0, scan.strange);
        Scan {
            base: len,
            start: len,
            found: scan.found + 1,
            strange: 0,
            ..scan
        }
    }
}

impl Scan {
    /// Takes the lines that end in the first sixty-four bytes of `window`: CRLF ends a line, or LF alone as old devices
    /// send it. True when no more are wanted.
    #[inline(always)]
    fn take(&mut self, window: &[u8; WINDOW], table: &mut [PackedLine; AHEAD]) -> bool {
        let mut controls = window_controls(window) & self.ahead;
        while controls != 0 {
            let bit = (controls.trailing_zeros() & 63) as usize;
            controls &= controls - 1;
            let at = self.base + bit;
            let end_len = if u16::from_le_bytes([window[bit], window[bit + 1]]) == CRLF {
                // The LF as well; that of a CR at the end of the sixty-four bytes is passed over later.
                controls &= controls.wrapping_sub(1);
                2
            } else if at < self.start {
                continue;
            } else if window[bit] == b'\n' {
                1
            } else {
                self.strange = STRANGE;
                continue;
            };
            let start = self.start;
            self.start = at + end_len;
            // What the next line begins with says whether it is one. Most begin with a letter.
            let next = window[bit + end_len];
            if next <= b' ' && self.goes_on(next, start, at) {
                continue;
            }
            table[self.found % AHEAD] = PackedLine::new(at, end_len, self.strange);
            self.found += 1;
            self.strange = 0;
            if start == at || self.found == AHEAD {
                self.ahead = controls;
                return true;
            }
        }
        self.base += 64;
        self.ahead = u64::MAX;
        false
    }

    /// True when the line that begins with `next` continues the one of `start..at`.
    #[inline(always)]
    fn goes_on(&mut self, next: u8, start: usize, at: usize) -> bool {
        let goes_on = matches!(next, b' ' | b'\t') && start != at && start != self.start_line;
        if goes_on {
            // The line ends in it are control characters like others.
            self.strange = STRANGE;
        }
        goes_on
    }
}

/// One bit for each control character among the first sixty-four bytes.
#[inline(always)]
fn window_controls(window: &[u8; WINDOW]) -> u64 {
    let (blocks, _) = window.as_chunks::<BLOCK>();
    let bits =
        |index: usize| u64::from(Block::load(&blocks[index]).controls().bits()) << (BLOCK * index);
    bits(0) | bits(1) | bits(2) | bits(3)
}

const CRLF: u16 = u16::from_le_bytes(*b"\r\n");

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

        /// With so many lines that the table is filled more than once, and with line ends across windows.
        #[test]
        fn lines_ahead_are_those_of_the_slow_way(
            bytes in vec(
                prop_oneof![
                    40 => Just(&b"x"[..]), 6 => Just(&b"\r\n"[..]), 6 => Just(&b"\n"[..]), 1 => Just(&b"\r"[..]), 2 => Just(&b"\r\n "[..]),
                    1 => Just(&b"\n\t"[..]), 1 => Just(&b"\t"[..]), 1 => Just(&b"\0"[..]),
                ],
                0..700,
            ),
            position in 0usize..70,
            has_start_line: bool,
        ) {
            let bytes = bytes.concat();
            let mut start = position.min(bytes.len());
            let mut lines = LinesAhead::new(&bytes, start, has_start_line);
            let mut may_go_on = !has_start_line;
            loop {
                let (mut content, mut next) = slow_line(&bytes, start);
                while may_go_on && content > start && next > content && matches!(bytes.get(next), Some(b' ' | b'\t')) {
                    (content, next) = slow_line(&bytes, next);
                }
                may_go_on = true;
                let strange = bytes[start..content].iter().any(|byte| *byte < 0x20);
                prop_assert_eq!(lines.next(), LineEnd { content, next, strange });
                if content == start {
                    break;
                }
                start = next;
            }
        }
    }

    /// Where the content of the line at `start` ends, and where the next one starts.
    fn slow_line(bytes: &[u8], start: usize) -> (usize, usize) {
        match bytes[start..].iter().position(|byte| *byte == b'\n') {
            None => (bytes.len(), bytes.len()),
            Some(len) => {
                let end = start + len;
                (
                    end - usize::from(len > 0 && bytes[end - 1] == b'\r'),
                    end + 1,
                )
            }
        }
    }
}
