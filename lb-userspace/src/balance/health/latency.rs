//! How long the answers to probes took, lately.

use std::time::Duration;

use hdrhistogram::Histogram;

/// How often the histogram that is written to changes: what is shown covers the last five to ten minutes.
const TURN_NS: u64 = 5 * 60 * 1_000_000_000;
/// Shortest and longest latency that is told apart, in microseconds. Probes time out after 30 s at most.
const SHORTEST_US: u64 = 1;
const LONGEST_US: u64 = 60_000_000;
/// Significant digits: a value is off by less than one per cent.
const DIGITS: u8 = 2;

/// Latency of the probes answered in the last five to ten minutes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Latency {
    /// The shortest.
    pub min: Duration,
    /// The mean.
    pub mean: Duration,
    /// 99 of 100 are not longer, to two significant digits.
    pub p99: Duration,
}

/// Two histograms that take turns, so that what is old fades.
///
/// They grow with the longest latency seen, up to 5 KiB each. Beyond 65,535 equal latencies in one turn a counter
/// stands still.
#[derive(Clone, Debug)]
pub(super) struct Latencies {
    current: Histogram<u16>,
    previous: Histogram<u16>,
    turned_ns: u64,
}

impl Latencies {
    pub fn new(now_ns: u64) -> Self {
        let empty = Histogram::new(DIGITS).expect("up to five digits are possible");
        Self {
            current: empty.clone(),
            previous: empty,
            turned_ns: now_ns,
        }
    }

    pub fn record(&mut self, latency: Duration, now_ns: u64) {
        self.forget_old(now_ns);
        let microseconds = u64::try_from(latency.as_micros()).unwrap_or(u64::MAX);
        self.current
            .record(microseconds.clamp(SHORTEST_US, LONGEST_US))
            .expect("the histogram grows up to the longest latency");
    }

    /// Lets the histograms take turns when it is time to.
    pub fn forget_old(&mut self, now_ns: u64) {
        let turns = now_ns.saturating_sub(self.turned_ns) / TURN_NS;
        if turns == 0 {
            return;
        }
        std::mem::swap(&mut self.current, &mut self.previous);
        self.current.reset();
        if turns > 1 {
            self.previous.reset();
        }
        self.turned_ns += turns * TURN_NS;
    }

    /// `None` when no probe was answered lately.
    pub fn summary(&self) -> Option<Latency> {
        let mut all = self.current.clone();
        all.add(&self.previous)
            .expect("the histogram grows up to the longest latency");
        (!all.is_empty()).then(|| Latency {
            min: Duration::from_micros(all.min()),
            mean: Duration::from_nanos((all.mean() * 1_000.0) as u64),
            p99: Duration::from_micros(all.value_at_quantile(0.99)),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Within the precision of the histogram.
    fn assert_near(value: Duration, milliseconds: f64) {
        let value = value.as_secs_f64() * 1_000.0;
        assert!(
            (value - milliseconds).abs() <= milliseconds / 100.0,
            "{value} ms is not near {milliseconds} ms"
        );
    }

    #[test]
    fn the_summary_has_the_shortest_the_mean_and_the_99th_percentile() {
        let mut latencies = Latencies::new(0);
        assert_eq!(latencies.summary(), None);
        for milliseconds in 1..=100 {
            latencies.record(Duration::from_millis(milliseconds), 0);
        }
        let summary = latencies.summary().unwrap();
        assert_near(summary.min, 1.0);
        assert_near(summary.mean, 50.5);
        assert_near(summary.p99, 99.0);
    }

    #[test]
    fn latencies_out_of_range_count_as_the_ends_of_it() {
        let mut latencies = Latencies::new(0);
        latencies.record(Duration::ZERO, 0);
        assert_eq!(
            latencies.summary().unwrap().p99,
            Duration::from_micros(SHORTEST_US)
        );
        latencies.record(Duration::MAX, 0);
        assert_near(latencies.summary().unwrap().p99, 60_000.0);
    }

    #[test]
    fn old_latencies_fade_after_five_to_ten_minutes() {
        let mut latencies = Latencies::new(0);
        latencies.record(Duration::from_millis(500), TURN_NS - 1);
        latencies.record(Duration::from_millis(1), TURN_NS);
        assert_near(latencies.summary().unwrap().p99, 500.0);
        latencies.forget_old(2 * TURN_NS - 1);
        assert_near(latencies.summary().unwrap().p99, 500.0);
        latencies.forget_old(2 * TURN_NS);
        assert_near(latencies.summary().unwrap().p99, 1.0);
        latencies.record(Duration::from_millis(2), 2 * TURN_NS);
        latencies.forget_old(9 * TURN_NS);
        assert_eq!(latencies.summary(), None, "both turns are long over");
    }
}
