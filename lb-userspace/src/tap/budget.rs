//! So many a second, over all workers.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

const SECOND_NS: u64 = 1_000_000_000;
/// How often a worker tries again when another one has begun the second.
const TRIES: usize = 4;

/// Counts in whole seconds: what is over at the end of one is not carried on.
#[derive(Debug)]
pub(super) struct Budget {
    /// 0 for no limit.
    per_second: u32,
    /// The second in the upper half, how many it has had in the lower.
    spent: AtomicU64,
}

impl Budget {
    pub fn new(per_second: u32) -> Self {
        Self {
            per_second,
            spent: AtomicU64::new(0),
        }
    }

    /// Whether one more is within the limit.
    pub fn take(&self, now_ns: u64) -> bool {
        if self.per_second == 0 {
            return true;
        }
        let second = (now_ns / SECOND_NS) as u32;
        for _ in 0..TRIES {
            let spent = self.spent.load(Relaxed);
            // Workers read their clocks once a batch: one that is behind counts in the second that the others are in.
            if second.wrapping_sub((spent >> 32) as u32) as i32 > 0 {
                let begun = u64::from(second) << 32 | 1;
                if self
                    .spent
                    .compare_exchange(spent, begun, Relaxed, Relaxed)
                    .is_ok()
                {
                    return true;
                }
                continue;
            }
            // First a look, so that the count stays far from the upper half.
            return (spent as u32) < self.per_second
                && (self.spent.fetch_add(1, Relaxed) as u32) < self.per_second;
        }
        false
    }
}
