//! Looking through the pins, a little in each turn: a call never waits for it.

use crate::{balance::Pins, stats::WorkerStats};

/// In which time all pins of a table of usual size are looked through.
const PASS_NS: u64 = 1_600_000_000;
/// How long a worker takes for one pin at least: of a large table only so much is worth its memory bandwidth. Sixteen million take
/// eight seconds.
const LEAST_NS_A_PIN: u64 = 500;
/// Fewer pins than this are not worth a turn, unless there are no more.
const LEAST: u64 = 256;
/// Most pins in a turn, whatever a worker that slept has missed: a fifth of a millisecond's work.
const MOST: u64 = 80_000;

/// How far it is, and what was counted.
pub(super) struct Sweep {
    counts: Vec<u32>,
    since_ns: u64,
}

impl Sweep {
    /// For this many backends.
    pub fn new(backends: usize) -> Self {
        Self {
            counts: vec![0; backends],
            since_ns: 0,
        }
    }

    /// Looks at as many pins as are due, and writes how many lead to each backend whenever it has seen all.
    #[inline]
    pub fn turn(&mut self, pins: &mut Pins, now_ns: u64, stats: &WorkerStats) {
        if self.is_pass_over(pins, now_ns) {
            stats.backend_pins(&self.counts);
            self.counts.fill(0);
        }
    }

    #[inline]
    fn is_pass_over(&mut self, pins: &mut Pins, now_ns: u64) -> bool {
        let capacity = pins.capacity() as u64;
        let ns_a_pin = (PASS_NS / capacity).max(LEAST_NS_A_PIN);
        let due = now_ns.saturating_sub(self.since_ns) / ns_a_pin;
        if due < LEAST.min(capacity) {
            return false;
        }
        self.since_ns = now_ns;
        pins.sweep(due.min(MOST) as usize, now_ns, &mut self.counts)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: u64 = 1_000_000_000;

    /// Seconds that a pass takes, in turns of this length.
    fn seconds_a_pass(pins: usize, turn_ns: u64) -> f64 {
        let mut pins = Pins::new(pins);
        let mut sweep = Sweep::new(1);
        let start = 1_000 * SECOND;
        sweep.since_ns = start;
        let turns = (1..).map(|turn| start + turn * turn_ns);
        let over = turns.filter(|now| sweep.is_pass_over(&mut pins, *now));
        let (mut count, mut last) = (0, start);
        for end in over.take_while(|now| *now < start + 60 * SECOND).take(3) {
            (count, last) = (count + 1, end);
        }
        (last - start) as f64 / SECOND as f64 / f64::from(count)
    }

    #[test]
    fn every_table_is_looked_through_in_time() {
        // The smallest one, the default, a million; a worker under load, and one that sleeps.
        for pins in [64, 1_000, 1 << 18, 1 << 20] {
            for turn_ns in [50_000, 40_000_000] {
                let seconds = seconds_a_pass(pins, turn_ns);
                assert!((1.0..2.0).contains(&seconds), "{pins} {turn_ns}: {seconds}");
            }
        }
        let seconds = seconds_a_pass(1 << 24, 1_000_000);
        assert!((8.0..9.0).contains(&seconds), "{seconds}");
    }
}
