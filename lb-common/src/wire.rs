//! What the programs of the benchmark on the wire (`lb-ebpf/src/wire.rs`) and the benchmark agree on.

use crate::checksum::{fold, sum, swap};

/// Name of the program that makes frames.
pub const GENERATE: &str = "generate";
/// Name of the program that counts and drops them.
pub const SINK: &str = "sink";
/// Name of the array with the one [`Settings`].
pub const SETTINGS: &str = "SETTINGS";
/// Name of the array of [`Template`]s.
pub const TEMPLATES: &str = "TEMPLATES";
/// Name of the per-CPU array of the sink's two counters: frames, bytes.
pub const RECEIVED: &str = "RECEIVED";
/// Name of the array of arrival times: nanoseconds of the monotonic clock, by the last bits of the stamp.
pub const ARRIVALS: &str = "ARRIVALS";

/// Messages that take turns, at most.
pub const MAX_TEMPLATES: u32 = 8;
/// Bytes of a frame, at most.
pub const MAX_FRAME: usize = 1536;
/// Places in a frame that are stamped, at most.
pub const MAX_STAMPS: usize = 16;
/// Bytes of a stamp: the number of the call as hexadecimal digits.
pub const STAMP_LEN: usize = 8;
/// Entries of [`ARRIVALS`]; a power of two.
pub const ARRIVALS_LEN: u32 = 1 << 16;

/// What the generator is to do.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default)]
pub struct Settings {
    /// Index of the interface that frames leave by.
    pub interface: u32,
    /// How many templates there are.
    pub templates: u32,
    /// Number of the next frame.
    pub next: u64,
    /// 1 when the sink notes arrival times.
    pub notes_arrivals: u64,
}

/// A frame, and where the number of its call stands in it.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct Template {
    /// Length of the frame.
    pub len: u32,
    /// The sum ([`crate::checksum`]) of pseudo header and datagram with 0 in place of checksum and stamps.
    pub sum: u32,
    /// Offset of the UDP checksum.
    pub checksum_at: u32,
    /// Stamps at offsets that are even, and at others.
    pub stamps: [u32; 2],
    /// Offsets of the stamps; 0 where there is none.
    pub stamp_at: [u32; MAX_STAMPS],
    /// The frame.
    pub bytes: [u8; MAX_FRAME],
}

/// The stamp of a number: lower case hexadecimal digits, the most significant first.
#[inline(always)]
pub fn stamp(number: u32) -> [u8; STAMP_LEN] {
    let mut digits = [0; STAMP_LEN];
    let mut place = 0;
    while place < STAMP_LEN {
        let nibble = (number >> (28 - 4 * place)) as u8 & 15;
        digits[place] = nibble + if nibble < 10 { b'0' } else { b'a' - 10 };
        place += 1;
    }
    digits
}

/// The number of a stamp; garbage for what is none.
#[inline(always)]
pub fn number(stamp: [u8; STAMP_LEN]) -> u32 {
    let mut number = 0;
    let mut place = 0;
    while place < STAMP_LEN {
        let digit = stamp[place];
        let nibble = (digit & 15) + if digit & 0x40 != 0 { 9 } else { 0 };
        number = number << 4 | (nibble & 15) as u32;
        place += 1;
    }
    number
}

/// The UDP checksum of a template with this stamp.
#[inline(always)]
pub fn checksum(template_sum: u32, stamps: [u32; 2], stamp: [u8; STAMP_LEN]) -> u16 {
    let even = sum(&stamp);
    let odd = u32::from(swap(even as u16));
    // No more than 15 of each, so nothing overflows.
    let total = (template_sum & 0xffff) + (stamps[0] & 15) * even + (stamps[1] & 15) * odd;
    match !fold(total) {
        // 0 would say that there is none (RFC 768).
        0 => 0xffff,
        checksum => checksum,
    }
}

#[cfg(feature = "user")]
#[allow(unsafe_code)]
mod pod {
    // SAFETY: `repr(C)` integers without padding: two of 32 bits, two of 64; every bit pattern is a value.
    unsafe impl aya::Pod for super::Settings {}
    // SAFETY: `repr(C)`, integers of 32 bits and bytes whose number is a multiple of four: no padding.
    unsafe impl aya::Pod for super::Template {}
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stamp_can_be_read() {
        assert_eq!(&stamp(0x1234_abcd), b"1234abcd");
        for value in [0, 9, 10, 0xffff_ffff, 0x90ab_cdef] {
            assert_eq!(number(stamp(value)), value);
        }
    }

    #[test]
    fn the_checksum_is_that_of_the_stamped_datagram() {
        // Stamps at an even and at two odd offsets, and 0 where they go.
        let mut datagram = [7; 60];
        let places = [4, 21, 41];
        for place in places {
            datagram[place..][..STAMP_LEN].fill(0);
        }
        let template_sum = sum(&datagram);
        for value in [0, 1, 0xfedc_ba98] {
            for place in places {
                datagram[place..][..STAMP_LEN].copy_from_slice(&stamp(value));
            }
            let whole = !(sum(&datagram) as u16);
            assert_eq!(checksum(template_sum, [1, 2], stamp(value)), whole);
        }
    }
}
