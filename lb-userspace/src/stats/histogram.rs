//! Distributions: how many values are at most as large as each of a few bounds, and their sum.
//!
//! Bounds follow each other as 1, 2, 5, 10, so that a value is known to within a factor of 2.5, and a worker finds the place
//! of one with four comparisons.

/// A distribution that workers write.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Histogram {
    /// Time from the begin of a turn that found datagrams to its end, in nanoseconds: what a datagram spends in a worker at
    /// the most.
    BatchDuration,
    /// Datagrams of such a turn.
    BatchSize,
}

const US: u64 = 1_000;
const MS: u64 = 1_000_000;
const S: u64 = 1_000_000_000;

/// Time until the first response of a backend to an INVITE, in nanoseconds.
pub const FIRST_RESPONSE_BOUNDS: [u64; 14] = [
    MS / 2,
    MS,
    2 * MS,
    5 * MS,
    10 * MS,
    20 * MS,
    50 * MS,
    100 * MS,
    200 * MS,
    500 * MS,
    S,
    2 * S,
    5 * S,
    10 * S,
];

impl Histogram {
    /// All of them, in the order of the file.
    pub const ALL: [Self; 2] = [Self::BatchDuration, Self::BatchSize];

    /// The name in statistics; its unit, where it has one, is at the end.
    pub const fn name(self) -> &'static str {
        match self {
            Self::BatchDuration => "batch_duration_ns",
            Self::BatchSize => "batch_size",
        }
    }

    /// Upper bounds, each included, without the last one, which is infinite.
    pub const fn bounds(self) -> &'static [u64] {
        match self {
            Self::BatchDuration => &[
                US,
                2 * US,
                5 * US,
                10 * US,
                20 * US,
                50 * US,
                100 * US,
                200 * US,
                500 * US,
                MS,
                2 * MS,
                5 * MS,
                10 * MS,
                20 * MS,
                50 * MS,
                100 * MS,
            ],
            Self::BatchSize => &[1, 2, 5, 10, 20, 50, 100, 200, 500, 1000],
        }
    }

    /// The first of its words among those of all histograms.
    pub(super) const fn start(self) -> usize {
        match self {
            Self::BatchDuration => 0,
            Self::BatchSize => words(Self::BatchDuration.bounds()),
        }
    }
}

/// Words of a histogram: one a bound, one for what is above all of them, and the sum.
pub(super) const fn words(bounds: &[u64]) -> usize {
    bounds.len() + 2
}

/// Words of all histograms of a worker.
pub(super) const ALL_WORDS: usize =
    Histogram::BatchSize.start() + words(Histogram::BatchSize.bounds());

/// Which word counts a value: that of the first bound that it is not above.
#[inline]
pub(super) fn bucket(bounds: &[u64], value: u64) -> usize {
    bounds.partition_point(|bound| *bound < value)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bounds_belong_to_their_bucket() {
        for bounds in [
            &FIRST_RESPONSE_BOUNDS[..],
            Histogram::BatchDuration.bounds(),
            Histogram::BatchSize.bounds(),
        ] {
            assert!(bounds.is_sorted());
            assert_eq!(bucket(bounds, 0), 0);
            for (place, bound) in bounds.iter().enumerate() {
                assert_eq!(bucket(bounds, *bound), place);
                assert_eq!(bucket(bounds, bound + 1), place + 1);
            }
            assert_eq!(bucket(bounds, u64::MAX), words(bounds) - 2);
        }
    }

    #[test]
    fn histograms_stand_behind_each_other() {
        let mut next = 0;
        for histogram in Histogram::ALL {
            assert_eq!(histogram.start(), next);
            next += words(histogram.bounds());
        }
        assert_eq!(next, ALL_WORDS);
    }
}
