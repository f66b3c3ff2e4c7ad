//! The Internet checksum (RFC 1071) and its incremental update (RFC 1624).
//!
//! A *sum* is the one's complement sum of 16-bit big-endian words, before the final complement, folded into 16 bits. In
//! one's complement 0x0000 and 0xffff are both zero; [`sum`] gives 0x0000 for all-zero bytes only.

/// The sum of `bytes`, folded. An odd last byte counts as the high half of a word (RFC 1071 §4.1), so sums of pieces
/// that start at an odd offset must be turned by [`swap`] before they are added.
#[inline]
pub fn sum(bytes: &[u8]) -> u32 {
    // The sum does not depend on byte order but for a final swap (RFC 1071 §2 (B)), and words of any width may be
    // added as long as the carries come back (§2 (C)). 2^32 additions of 32 bits fit: a datagram has at most 2^14.
    let (words, rest) = bytes.as_chunks::<4>();
    let mut total: u64 = words
        .iter()
        .map(|word| u64::from(u32::from_ne_bytes(*word)))
        .sum();
    let mut last = [0u8; 4];
    for (to, from) in last.iter_mut().zip(rest) {
        *to = *from;
    }
    total += u64::from(u32::from_ne_bytes(last));
    total = (total & 0xffff_ffff) + (total >> 32);
    total = (total & 0xffff_ffff) + (total >> 32);
    // The high half of `total` is zero now, so `as` loses nothing.
    u32::from(u16::from_be(fold(
        (total as u32 & 0xffff) + (total as u32 >> 16),
    )))
}

/// Adds the carries of a 32-bit partial sum back in.
#[inline]
pub const fn fold(sum: u32) -> u16 {
    let sum = (sum & 0xffff) + (sum >> 16);
    // At most 0xffff + 0xffff went in, so after the second addition nothing is left above 16 bits.
    ((sum & 0xffff) + (sum >> 16)) as u16
}

/// One's complement addition.
#[inline]
pub const fn add(a: u16, b: u16) -> u16 {
    fold(a as u32 + b as u32)
}

/// One's complement subtraction: `a` plus the complement of `b`.
#[inline]
pub const fn sub(a: u16, b: u16) -> u16 {
    add(a, !b)
}

/// A sum whose bytes began at an odd offset, as it counts at an even one (RFC 1071 §2 (B)).
#[inline]
pub const fn swap(sum: u16) -> u16 {
    sum.swap_bytes()
}

/// A header's checksum field after the covered bytes' sum changed by `difference` (RFC 1624 §3, equation 3:
/// HC' = ~(~HC + ~m + m'), where `difference` is ~m + m').
#[inline]
pub const fn update(checksum: u16, difference: u16) -> u16 {
    !add(!checksum, difference)
}

/// The sum of the pseudo-header that UDP's checksum covers (RFC 768; RFC 8200 §8.1): addresses, protocol and the UDP
/// length. Both addresses are in network order, 4 or 16 bytes each.
#[inline]
pub fn pseudo_header(source: &[u8], destination: &[u8], protocol: u8, length: u16) -> u32 {
    u32::from(fold(
        sum(source) + sum(destination) + u32::from(protocol) + u32::from(length),
    ))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn naive(bytes: &[u8]) -> u16 {
        let mut total = 0u16;
        for pair in bytes.chunks(2) {
            let word = u16::from_be_bytes([pair[0], *pair.get(1).unwrap_or(&0)]);
            let (sum, carry) = total.overflowing_add(word);
            total = sum + u16::from(carry);
        }
        total
    }

    #[test]
    fn the_example_of_rfc_1071_adds_up() {
        // RFC 1071 §3: 0001 f203 f4f5 f6f7 sums to ddf2.
        let bytes = [0x00, 0x01, 0xf2, 0x03, 0xf4, 0xf5, 0xf6, 0xf7];
        assert_eq!(sum(&bytes), 0xddf2);
    }

    #[test]
    fn the_examples_of_rfc_1624_update_to_its_result() {
        // RFC 1624 §4: HC 0xdd2f, a field changes from 0x5555 to 0x3285: HC' is 0x0000, not 0xffff.
        assert_eq!(update(0xdd2f, sub(0x3285, 0x5555)), 0x0000);
    }

    #[test]
    fn ends_of_the_range_do_not_overflow() {
        assert_eq!(fold(u32::MAX), 0xffff);
        assert_eq!(add(0xffff, 0xffff), 0xffff);
        assert_eq!(sum(&[]), 0);
        assert_eq!(sum(&[0xff; 65_535]), u32::from(naive(&[0xff; 65_535])));
    }

    proptest! {
        #[test]
        fn agrees_with_a_sum_word_by_word(bytes in proptest::collection::vec(any::<u8>(), 0..2048)) {
            prop_assert_eq!(sum(&bytes), u32::from(naive(&bytes)));
        }

        #[test]
        fn pieces_add_up_at_any_split(bytes in proptest::collection::vec(any::<u8>(), 1..200), at in any::<prop::sample::Index>()) {
            let (head, tail) = bytes.split_at(at.index(bytes.len()));
            let tail_sum = fold(sum(tail));
            let tail_sum = if head.len() % 2 == 1 { swap(tail_sum) } else { tail_sum };
            prop_assert_eq!(add(fold(sum(head)), tail_sum) % 0xffff, naive(&bytes) % 0xffff);
        }

        #[test]
        fn an_update_equals_summing_anew(
            bytes in proptest::collection::vec(any::<u8>(), 2..200),
            word in any::<[u8; 2]>(),
            at in any::<prop::sample::Index>(),
        ) {
            let checksum = !fold(sum(&bytes));
            let at = at.index(bytes.len() / 2) * 2;
            let mut changed = bytes.clone();
            changed[at..at + 2].copy_from_slice(&word);
            let difference = sub(fold(sum(&word)), fold(sum(&bytes[at..at + 2])));
            // The two zeros of one's complement are the same number.
            prop_assert_eq!(update(checksum, difference) % 0xffff, !fold(sum(&changed)) % 0xffff);
        }
    }
}
