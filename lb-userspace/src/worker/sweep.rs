//! Looking through the pins, a little in each turn: a call never waits for it.

use crate::{balance::Pins, stats::WorkerStats};

/// In which time all pins of a table of usual size are looked through.
const PASS_NS: u64 = 1_600_000_000;
/// How long a worker looks at one pin, at least: of a large table only so much is worth its memory bandwidth. Sixteen million take
/// eight seconds.
const LEAST_NS_A_PIN: u64 = 500;
/// Fewer pins than this are not worth a call.
const LEAST: u64 = 256;
/// What a worker that slept makes up for at most.
const MOST_NS: u64 = 40_000_000;

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
        let elapsed = now_ns.saturating_sub(self.since_ns).min(MOST_NS);
        let ns_a_pin = (PASS_NS / pins.capacity() as u64).max(LEAST_NS_A_PIN);
        if elapsed < LEAST * ns_a_pin {
            return;
        }
        self.since_ns = now_ns;
        if pins.sweep((elapsed / ns_a_pin) as usize, now_ns, &mut self.counts) {
            stats.backend_pins(&self.counts);
            self.counts.fill(0);
        }
    }
}
