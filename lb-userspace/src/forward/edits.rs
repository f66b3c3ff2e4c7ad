//! Changes to a payload, gathered, put in order and applied in one pass.

use lb_common::checksum;

/// Most edits of one message: Via, Max-Forwards, Route, the Request-URI, marks and what tells a client's address need 19 at most; the
/// rest is for Contact and SDP.
const MAX_EDITS: usize = 19 + crate::nat::MAX_NAT_EDITS;
/// Room for all text that is inserted into one message: 400 bytes for Via and Record-Route, 300 for what tells a
/// client's address, 70 for each Contact, 41 for each
/// address in SDP, and a few for lengths.
const ARENA_LEN: usize = 4096;

/// An edit, or the text of one, did not fit any more, or touched bytes that another edit removes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EditsFull;

/// Edits of one payload. Of fixed size: never allocates.
///
/// They are gathered in any order, since header fields come in any order; [`Edits::finish`] puts them in the order of
/// the payload once, and only then they can be applied.
#[derive(Clone, Debug)]
pub struct Edits {
    edits: [Edit; MAX_EDITS],
    len: usize,
    arena: [u8; ARENA_LEN],
    arena_len: usize,
}

/// Replace `removed` bytes at `offset` by a piece of the arena.
#[derive(Clone, Copy, Debug, Default)]
struct Edit {
    offset: u32,
    removed: u32,
    text_start: u16,
    text_end: u16,
}

impl Edit {
    fn offset(self) -> usize {
        self.offset as usize
    }

    /// Where it belongs: at one place what inserts comes before what removes.
    #[inline(always)]
    fn order(self) -> u64 {
        u64::from(self.offset) << 1 | u64::from(self.removed > 0)
    }

    /// Offset of the first byte after what is removed.
    fn end(self) -> usize {
        self.offset as usize + self.removed as usize
    }
}

impl Default for Edits {
    fn default() -> Self {
        Self::new()
    }
}

impl Edits {
    /// No edits.
    pub const fn new() -> Self {
        const NONE: Edit = Edit {
            offset: 0,
            removed: 0,
            text_start: 0,
            text_end: 0,
        };
        Self {
            edits: [NONE; MAX_EDITS],
            len: 0,
            arena: [0; ARENA_LEN],
            arena_len: 0,
        }
    }

    /// Forgets all edits.
    pub fn clear(&mut self) {
        self.len = 0;
        self.arena_len = 0;
    }

    /// Adds an edit: replace `removed` bytes at `offset` of the payload by `inserted`. Of two edits at one place without
    /// removal the one that came first stands first, and both before one with removal.
    ///
    /// # Errors
    ///
    /// [`EditsFull`] when there is no room for it. The edits are then of no use until they are cleared.
    pub fn push(
        &mut self,
        offset: usize,
        removed: usize,
        inserted: &[u8],
    ) -> Result<(), EditsFull> {
        let slot = self.edits.get_mut(self.len).ok_or(EditsFull)?;
        let text_start = self.arena_len as u16;
        *slot = Edit {
            offset: u32::try_from(offset).map_err(|_| EditsFull)?,
            removed: u32::try_from(removed).map_err(|_| EditsFull)?,
            text_start,
            text_end: text_start,
        };
        self.len += 1;
        // What is written in place, or only removes.
        if inserted.is_empty() {
            return Ok(());
        }
        self.append(inserted)
    }

    /// Lets `write` add to the text of the last edit in place, and takes as much as it says it wrote, at most `N` bytes.
    ///
    /// # Errors
    ///
    /// [`EditsFull`] when there is no room for `N` bytes, or no edit.
    #[inline(always)]
    pub(super) fn write<const N: usize>(
        &mut self,
        write: impl FnOnce(&mut [u8; N]) -> usize,
    ) -> Result<(), EditsFull> {
        let edit = self.edits[..self.len].last_mut().ok_or(EditsFull)?;
        let room = self.arena.get_mut(self.arena_len..).ok_or(EditsFull)?;
        let len = write(room.first_chunk_mut::<N>().ok_or(EditsFull)?);
        self.arena_len += len.min(N);
        edit.text_end = self.arena_len as u16;
        Ok(())
    }

    /// The same as [`Edits::push`] with the first `len` bytes of `inserted`, all of which are copied: that is faster.
    ///
    /// # Errors
    ///
    /// [`EditsFull`] when there is no room for it or for `N` bytes.
    #[inline(always)]
    pub(crate) fn push_start<const N: usize>(
        &mut self,
        offset: usize,
        removed: usize,
        inserted: &[u8; N],
        len: usize,
    ) -> Result<(), EditsFull> {
        let slot = self.edits.get_mut(self.len).ok_or(EditsFull)?;
        let room = self.arena.get_mut(self.arena_len..).ok_or(EditsFull)?;
        *room.first_chunk_mut::<N>().ok_or(EditsFull)? = *inserted;
        let end = self.arena_len + len.min(N);
        *slot = Edit {
            offset: u32::try_from(offset).map_err(|_| EditsFull)?,
            removed: u32::try_from(removed).map_err(|_| EditsFull)?,
            text_start: self.arena_len as u16,
            text_end: end as u16,
        };
        self.len += 1;
        self.arena_len = end;
        Ok(())
    }

    /// Puts the edits in the order of the payload. Nothing is added after it.
    ///
    /// # Errors
    ///
    /// [`EditsFull`] when one touches bytes that another one removes. The edits are then of no use until they are
    /// cleared.
    pub fn finish(&mut self) -> Result<(), EditsFull> {
        let edits = &mut self.edits[..self.len];
        // Few, and nearly in order: insertion wins, and keeps what came first at one place first.
        for sorted in 1..edits.len() {
            let edit = edits[sorted];
            let mut at = sorted;
            while at > 0 && edits[at - 1].order() > edit.order() {
                edits[at] = edits[at - 1];
                at -= 1;
            }
            edits[at] = edit;
        }
        match edits
            .windows(2)
            .all(|pair| pair[0].end() <= pair[1].offset())
        {
            true => Ok(()),
            false => Err(EditsFull),
        }
    }

    /// True when the edits together change the length by an odd number.
    pub fn is_odd(&self) -> bool {
        let removed = self
            .as_slice()
            .iter()
            .fold(0, |sum, edit| sum ^ edit.removed);
        (self.arena_len ^ removed as usize) % 2 == 1
    }

    /// Adds to the text of the last edit.
    ///
    /// # Errors
    ///
    /// [`EditsFull`] when there is no room for it, or no edit.
    pub fn append(&mut self, inserted: &[u8]) -> Result<(), EditsFull> {
        let edit = self.edits[..self.len].last_mut().ok_or(EditsFull)?;
        let end = self.arena_len + inserted.len();
        self.arena
            .get_mut(self.arena_len..end)
            .ok_or(EditsFull)?
            .copy_from_slice(inserted);
        self.arena_len = end;
        edit.text_end = end as u16;
        Ok(())
    }

    /// True when nothing changes.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// The edits in order: offset in the payload, number of bytes removed there, text put in their place.
    pub fn iter(&self) -> impl Iterator<Item = (usize, usize, &[u8])> {
        self.as_slice()
            .iter()
            .map(|edit| (edit.offset(), edit.removed as usize, self.text(*edit)))
    }

    /// Length of the payload after the edits.
    pub fn output_len(&self, input_len: usize) -> usize {
        let removed: usize = self
            .as_slice()
            .iter()
            .map(|edit| edit.removed as usize)
            .sum();
        (input_len + self.arena_len).saturating_sub(removed)
    }

    /// Writes `input` with the edits applied to the start of `output` and returns the length. `None` when `output` is too
    /// small or the edits are not of this input.
    pub fn apply(&self, input: &[u8], output: &mut [u8]) -> Option<usize> {
        let mut taken = 0;
        let mut written = 0;
        for edit in self.as_slice() {
            let kept = input.get(taken..edit.offset())?;
            written = put(kept, output, written)?;
            written = self.put_text(*edit, output, written)?;
            taken = edit.end();
        }
        put(input.get(taken..)?, output, written)
    }

    /// Writes the text of an edit to `at`, and returns where it ends; `None` when there is no room.
    ///
    /// What is behind a short text may be overwritten: then it is copied by a few wide moves, without a look at its length.
    #[inline(always)]
    fn put_text(&self, edit: Edit, output: &mut [u8], at: usize) -> Option<usize> {
        /// Most texts are no longer.
        const SHORT: usize = 64;
        let start = usize::from(edit.text_start);
        let len = usize::from(edit.text_end) - start;
        let from = self.arena.get(start..)?.first_chunk::<SHORT>();
        let to = output.get_mut(at..)?.first_chunk_mut::<SHORT>();
        match (from, to) {
            (Some(from), Some(to)) if len <= SHORT => {
                *to = *from;
                Some(at + len)
            }
            _ => put(self.text(edit), output, at),
        }
    }

    /// One's complement sum of the output minus that of the input, each counted from an even offset (RFC 1624).
    ///
    /// Only edits and the bytes that an odd shift turns around are read; after an even shift bytes count as they did. The
    /// edits must be of this input: bytes beyond it count as absent.
    pub fn checksum_difference(&self, input: &[u8]) -> u16 {
        let mut difference = Difference(0);
        let mut taken = 0;
        let mut written = 0;
        for edit in self.as_slice() {
            let offset = edit.offset().min(input.len());
            difference.turn(input, taken, offset, written);
            written += offset.saturating_sub(taken);
            let text = self.text(*edit);
            if edit.removed > 0 {
                let removed = input.get(offset..edit.end()).unwrap_or_default();
                difference.minus(sum(removed), offset);
            }
            difference.plus(sum(text), written);
            written += text.len();
            taken = edit.end();
        }
        difference.turn(input, taken, input.len(), written);
        difference.fold()
    }

    fn as_slice(&self) -> &[Edit] {
        &self.edits[..self.len]
    }

    fn text(&self, edit: Edit) -> &[u8] {
        &self.arena[usize::from(edit.text_start)..usize::from(edit.text_end)]
    }
}

/// Writes `bytes` to `at` and returns where they end; `None` when there is no room.
#[inline(always)]
fn put(bytes: &[u8], output: &mut [u8], at: usize) -> Option<usize> {
    let end = at + bytes.len();
    output.get_mut(at..end)?.copy_from_slice(bytes);
    Some(end)
}

/// A one's complement sum of 64-bit words, bytes in little-endian order. Such a sum is one of 16-bit words as well, turned
/// around (RFC 1071 §2 (B) and (C)).
struct Difference(u64);

impl Difference {
    /// Adds the sum of bytes whose first one comes to stand at `offset`. At an odd one all bytes change their place in a
    /// word, as a rotation by eight bits does.
    #[inline(always)]
    fn plus(&mut self, sum: u64, offset: usize) {
        self.0 = add(self.0, sum.rotate_left(8 * (offset as u32 % 2)));
    }

    /// Takes away the sum of bytes whose first one stood at `offset`.
    #[inline(always)]
    fn minus(&mut self, sum: u64, offset: usize) {
        self.plus(!sum, offset);
    }

    /// What `input[start..end]` changes by coming to stand at `to`: nothing unless the shift is odd.
    #[inline(always)]
    fn turn(&mut self, input: &[u8], start: usize, end: usize, to: usize) {
        if start % 2 != to % 2 && start < end {
            let sum = sum(input.get(start..end).unwrap_or_default());
            self.minus(sum, start);
            self.plus(sum, to);
        }
    }

    fn fold(self) -> u16 {
        let sum = (self.0 & 0xffff_ffff) + (self.0 >> 32);
        let sum = (sum & 0xffff_ffff) + (sum >> 32);
        checksum::fold((sum as u32 & 0xffff) + (sum as u32 >> 16)).swap_bytes()
    }
}

/// One's complement addition.
#[inline(always)]
fn add(a: u64, b: u64) -> u64 {
    let (sum, carry) = a.overflowing_add(b);
    // At most 2^64 - 2 is left after an overflow, so that the carry fits.
    sum + u64::from(carry)
}

/// One's complement sum of 64-bit words in little-endian order, the last one filled up with zeros.
#[inline(always)]
fn sum(bytes: &[u8]) -> u64 {
    let (words, rest) = bytes.as_chunks::<8>();
    let mut total = 0;
    for word in words {
        total = add(total, u64::from_le_bytes(*word));
    }
    let len = rest.len();
    // Two loads that overlap read each length from two to eight.
    let last = match (
        bytes.last_chunk::<8>(),
        rest.first_chunk(),
        rest.last_chunk(),
    ) {
        _ if len == 0 => 0,
        (Some(last), _, _) => u64::from_le_bytes(*last) >> (64 - 8 * len),
        (None, Some(first), Some(last)) => {
            let (first, last) = (u32::from_le_bytes(*first), u32::from_le_bytes(*last));
            u64::from(first) | u64::from(last) << (8 * len - 32)
        }
        _ => rest
            .iter()
            .rev()
            .fold(0, |word, byte| word << 8 | u64::from(*byte)),
    };
    add(total, last)
}

#[cfg(test)]
mod tests {
    use proptest::{collection::vec, prelude::*};

    use super::*;

    /// The slow, obvious way: build the output piece by piece.
    fn naive(input: &[u8], edits: &[Wanted]) -> Vec<u8> {
        let mut output = input.to_vec();
        for (offset, removed, inserted) in edits.iter().rev() {
            output.splice(*offset..offset + removed, inserted.iter().copied());
        }
        output
    }

    fn check(input: &[u8], wanted: &[Wanted]) {
        let mut edits = Edits::new();
        for (offset, removed, inserted) in wanted {
            edits.push(*offset, *removed, inserted).unwrap();
        }
        edits.finish().unwrap();
        assert_eq!(
            edits.is_odd(),
            (naive(input, wanted).len() + input.len()) % 2 == 1
        );
        let want = naive(input, wanted);
        assert_eq!(edits.output_len(input.len()), want.len());
        let mut output = vec![0; want.len()];
        assert_eq!(edits.apply(input, &mut output), Some(want.len()));
        assert_eq!(output, want);
        if !want.is_empty() {
            assert_eq!(edits.apply(input, &mut output[..want.len() - 1]), None);
        }
        let sum = |bytes: &[u8]| checksum::fold(checksum::sum(bytes));
        let got = checksum::add(sum(input), edits.checksum_difference(input));
        // In one's complement 0 and 0xffff are the same number.
        assert_eq!(got % 0xffff, sum(&want) % 0xffff, "{input:?} {wanted:?}");
    }

    #[test]
    fn edits_by_hand() {
        check(b"abcdef", &[]);
        check(b"abcdef", &[(0, 0, b"x".to_vec())]);
        check(b"abcdef", &[(6, 0, b"xyz".to_vec())]);
        check(
            b"abcdef",
            &[
                (1, 1, vec![]),
                (2, 3, b"Y".to_vec()),
                (5, 0, b"odd".to_vec()),
            ],
        );
        check(b"abcdef", &[(0, 6, vec![])]);
        check(b"", &[(0, 0, b"x".to_vec())]);
    }

    #[test]
    fn what_does_not_fit_is_refused() {
        let mut edits = Edits::new();
        assert_eq!(edits.append(b"x"), Err(EditsFull));
        for offset in 0..MAX_EDITS {
            edits.push(offset, 1, b"").unwrap();
        }
        assert_eq!(edits.push(MAX_EDITS, 0, b""), Err(EditsFull));
        edits.clear();
        assert!(edits.is_empty());
        edits.push(5, 2, &[b'x'; ARENA_LEN]).unwrap();
        assert_eq!(edits.append(b"x"), Err(EditsFull));
        edits.push(7, 0, b"").unwrap();
        assert_eq!(edits.finish(), Ok(()));
        edits.push(6, 0, b"").unwrap();
        assert_eq!(edits.finish(), Err(EditsFull));
    }

    #[test]
    fn edits_come_in_any_order() {
        let mut edits = Edits::new();
        for (offset, removed, text) in [
            (4, 1, "4"),
            (0, 0, "a"),
            (2, 1, "2"),
            (0, 0, "b"),
            (6, 0, "c"),
        ] {
            edits.push(offset, removed, text.as_bytes()).unwrap();
        }
        edits.finish().unwrap();
        let mut output = [0; 16];
        let len = edits.apply(b"012345", &mut output).unwrap();
        assert_eq!(&output[..len], b"ab012345c");
    }

    #[test]
    fn what_inserts_comes_before_what_removes() {
        let mut edits = Edits::new();
        for (offset, removed, text) in [(2, 3, "-"), (2, 0, "a"), (2, 0, "b"), (5, 0, "c")] {
            edits.push(offset, removed, text.as_bytes()).unwrap();
        }
        edits.finish().unwrap();
        let mut output = [0; 16];
        let len = edits.apply(b"012345", &mut output).unwrap();
        assert_eq!(&output[..len], b"01ab-c5");
    }

    #[test]
    fn edits_of_another_input_do_no_harm() {
        let mut edits = Edits::new();
        edits.push(10, 5, b"abc").unwrap();
        let mut output = [0; 64];
        assert_eq!(edits.apply(b"short", &mut output), None);
        edits.checksum_difference(b"short");
        edits.checksum_difference(b"twelve bytes");
        assert_eq!(edits.output_len(1), 0);
    }

    /// Offset, bytes removed, text inserted.
    type Wanted = (usize, usize, Vec<u8>);

    /// Edits as gaps, removals and texts, cut to the input.
    fn edits_strategy() -> impl Strategy<Value = (Vec<u8>, Vec<Wanted>)> {
        let edit = (0usize..40, 0usize..20, vec(any::<u8>(), 0..30));
        (vec(any::<u8>(), 0..400), vec(edit, 0..12)).prop_map(|(input, pieces)| {
            let mut edits = Vec::new();
            let mut position = 0;
            for (gap, removed, text) in pieces {
                let offset = (position + gap).min(input.len());
                let removed = removed.min(input.len() - offset);
                position = offset + removed;
                edits.push((offset, removed, text));
            }
            (input, edits)
        })
    }

    proptest! {
        #[test]
        fn applying_and_summing_agree_with_the_slow_way((input, edits) in edits_strategy()) {
            check(&input, &edits);
        }
    }
}
