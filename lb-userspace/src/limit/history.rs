//! What a limit accepted and refused, second by second and minute by minute.

use std::collections::VecDeque;

/// Seconds that are kept: a day.
const SECONDS: usize = 24 * 60 * 60;
/// Minutes that are kept: a month.
const MINUTES: usize = 31 * 24 * 60;

/// Calls that were accepted and refused in a second or a minute.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct HistoryPoint {
    /// Calls that went on.
    pub accepted: u32,
    /// Calls that the limit refused.
    pub breached: u32,
}

/// How finely the past is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Span {
    /// By seconds, a day back.
    Seconds,
    /// By minutes, a month back.
    Minutes,
}

/// The past of one limit. Grows to a megabyte in a month, and then no more.
#[derive(Debug, Default)]
pub struct History {
    seconds: Ring,
    minutes: Ring,
    /// What the counters stood at last.
    before: (u64, u64),
    /// The minute that is not over yet.
    minute: HistoryPoint,
}

/// The newest points, as many as there is room for.
#[derive(Debug, Default)]
struct Ring {
    points: VecDeque<HistoryPoint>,
    /// Number of the second or minute, since 1970, of the newest.
    newest: u64,
}

impl Ring {
    /// Adds the point of `time`. What lies between it and the one before had no calls; a time that was there already
    /// gets more of them.
    fn push(&mut self, time: u64, point: HistoryPoint, room: usize) {
        if let Some(newest) = self.points.back_mut()
            && time <= self.newest
        {
            newest.add(point);
            return;
        }
        let gap = match self.points.is_empty() {
            true => 0,
            false => ((time - self.newest - 1) as usize).min(room),
        };
        for point in std::iter::repeat_n(HistoryPoint::default(), gap).chain([point]) {
            if self.points.len() == room {
                self.points.pop_front();
            }
            self.points.push_back(point);
        }
        self.newest = time;
    }
}

impl HistoryPoint {
    fn add(&mut self, other: Self) {
        self.accepted = self.accepted.saturating_add(other.accepted);
        self.breached = self.breached.saturating_add(other.breached);
    }
}

impl History {
    /// A past that begins where the counters stand: what they counted before is not of any second.
    pub fn starting_at(accepted: u64, breached: u64) -> Self {
        Self {
            before: (accepted, breached),
            ..Self::default()
        }
    }

    /// Notes where the counters stand at the end of the second `time_s` (since 1970).
    pub fn note(&mut self, time_s: u64, accepted: u64, breached: u64) {
        let grown =
            |now: u64, before: u64| u32::try_from(now.saturating_sub(before)).unwrap_or(u32::MAX);
        let point = HistoryPoint {
            accepted: grown(accepted, self.before.0),
            breached: grown(breached, self.before.1),
        };
        self.before = (accepted, breached);
        let last = self.seconds.newest;
        let is_first = self.seconds.points.is_empty();
        self.seconds.push(time_s, point, SECONDS);
        if !is_first && time_s / 60 > last / 60 {
            self.minutes
                .push(last / 60, std::mem::take(&mut self.minute), MINUTES);
        }
        self.minute.add(point);
    }

    /// The newest `count` points, oldest first, and the time of the first of them in seconds since 1970. A minute
    /// that is not over is not among them.
    pub fn newest(&self, span: Span, count: usize) -> (u64, Vec<HistoryPoint>) {
        let (ring, unit) = match span {
            Span::Seconds => (&self.seconds, 1),
            Span::Minutes => (&self.minutes, 60),
        };
        let count = count.min(ring.points.len());
        let points = ring.points.iter().skip(ring.points.len() - count).copied();
        let first = (ring.newest + 1).saturating_sub(count as u64);
        (first * unit, points.collect())
    }

    /// The most that was accepted and refused in one second of the newest `count`.
    pub fn peak(&self, count: usize) -> HistoryPoint {
        let newest = self.seconds.points.iter().rev().take(count);
        newest.fold(HistoryPoint::default(), |peak, point| HistoryPoint {
            accepted: peak.accepted.max(point.accepted),
            breached: peak.breached.max(point.breached),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn point(accepted: u32, breached: u32) -> HistoryPoint {
        HistoryPoint { accepted, breached }
    }

    #[test]
    fn seconds_and_minutes() {
        let mut history = History::starting_at(10, 0);
        // 1,000,020 begins a minute.
        for second in 1_000_000..1_000_140u64 {
            let since = second - 1_000_000 + 1;
            history.note(second, 10 + 2 * since, since);
        }
        assert_eq!(
            history.newest(Span::Seconds, 2),
            (1_000_138, vec![point(2, 1); 2])
        );
        assert_eq!(history.newest(Span::Seconds, 1000).1.len(), 140);
        let (first, minutes) = history.newest(Span::Minutes, 10);
        assert_eq!(first, 999_960);
        assert_eq!(minutes, [point(40, 20), point(120, 60)]);
        assert_eq!(history.peak(60), point(2, 1));
    }

    #[test]
    fn a_gap_had_no_calls_and_a_clock_that_goes_back_adds() {
        let mut history = History::default();
        history.note(100, 1, 0);
        history.note(103, 5, 2);
        history.note(102, 6, 2);
        let want = [point(1, 0), point(0, 0), point(0, 0), point(5, 2)];
        assert_eq!(history.newest(Span::Seconds, 9), (100, want.to_vec()));
        // A jump of years does not take years.
        history.note(4_000_000_000, 7, 2);
        let (first, points) = history.newest(Span::Seconds, usize::MAX);
        assert_eq!(
            (first, points.len()),
            (4_000_000_001 - SECONDS as u64, SECONDS)
        );
        assert_eq!(points.last(), Some(&point(1, 0)));
    }
}
