//! What a limit accepted and refused, second by second and minute by minute.

use std::{collections::VecDeque, time::Duration};

/// Seconds that are kept: a day.
const SECONDS: usize = 24 * 60 * 60;
/// Minutes that are kept: a month.
const MINUTES: usize = 31 * 24 * 60;
/// A note that comes so long after its second, or later, says something of the next one as well.
const LATE: Duration = Duration::from_millis(20);
/// Longest time without a note that calls are spread over: behind it the clock was set, or the host slept.
const LONGEST_GAP_S: u64 = 60;

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

/// The past of one limit. Grows to one and a half megabytes in a month, and then no more.
#[derive(Debug, Default)]
pub struct History {
    seconds: Ring<HistoryPoint>,
    minutes: Ring<Minute>,
    /// What the counters stood at last, or at the end of the second that was noted last, as far as is known.
    before: (u64, u64),
    /// When they were read last, since 1970, and where they stood.
    read: Option<(Duration, (u64, u64))>,
    /// The minute that is not over yet.
    minute: Minute,
}

/// What is told of the past: neighbouring points, oldest first.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Points {
    /// When the first begins, in seconds since 1970.
    pub first_s: u64,
    /// Seconds from one to the next.
    pub step_s: u64,
    /// Calls in the whole of each point.
    pub sums: Vec<HistoryPoint>,
    /// The most in one second of each point, each number by itself.
    pub peaks: Vec<HistoryPoint>,
}

/// A minute: its calls, and the most in one of its seconds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Minute {
    sum: HistoryPoint,
    peak: HistoryPoint,
}

/// What happened in two spans of time together.
trait Join {
    fn join(&mut self, other: Self);
}

impl Join for HistoryPoint {
    fn join(&mut self, other: Self) {
        self.accepted = self.accepted.saturating_add(other.accepted);
        self.breached = self.breached.saturating_add(other.breached);
    }
}

impl Join for Minute {
    fn join(&mut self, other: Self) {
        self.sum.join(other.sum);
        self.peak = self.peak.max(other.peak);
    }
}

impl HistoryPoint {
    /// The larger one of each number.
    fn max(self, other: Self) -> Self {
        Self {
            accepted: self.accepted.max(other.accepted),
            breached: self.breached.max(other.breached),
        }
    }
}

/// The newest points, as many as there is room for.
#[derive(Debug, Default)]
struct Ring<T> {
    points: VecDeque<T>,
    /// Number of the second or minute, since 1970, of the newest.
    newest: u64,
}

impl<T: Join + Copy + Default> Ring<T> {
    /// Adds the point of `time`. What lies between it and the one before had no calls; a time that was there already
    /// gets more of them.
    fn push(&mut self, time: u64, point: T, room: usize) {
        if let Some(newest) = self.points.back_mut()
            && time <= self.newest
        {
            newest.join(point);
            return;
        }
        let gap = match self.points.is_empty() {
            true => 0,
            false => ((time - self.newest - 1) as usize).min(room),
        };
        for point in std::iter::repeat_n(T::default(), gap).chain([point]) {
            if self.points.len() == room {
                self.points.pop_front();
            }
            self.points.push_back(point);
        }
        self.newest = time;
    }

    /// See [`History::newest`]. `unit_s` is the length of a point here in seconds.
    fn newest(
        &self,
        count: usize,
        merge: u64,
        unit_s: u64,
        minute: impl Fn(&T) -> Minute,
    ) -> Points {
        let merge = merge.max(1);
        let step_s = unit_s.saturating_mul(merge);
        let Some(oldest) = (self.newest + 1).checked_sub(self.points.len() as u64) else {
            return Points::default();
        };
        if self.points.is_empty() || count == 0 {
            let first_s = (self.newest + 1) / merge * step_s;
            return Points {
                first_s,
                step_s,
                ..Points::default()
            };
        }
        let wanted = (self.newest / merge).saturating_sub(count as u64 - 1);
        let first = wanted.max(oldest / merge);
        let skipped = (first * merge).saturating_sub(oldest) as usize;
        let mut groups = vec![Minute::default(); (self.newest / merge - first + 1) as usize];
        let times = oldest + skipped as u64..;
        for (time, point) in times.zip(self.points.iter().skip(skipped)) {
            groups[(time / merge - first) as usize].join(minute(point));
        }
        Points {
            first_s: first * step_s,
            step_s,
            sums: groups.iter().map(|group| group.sum).collect(),
            peaks: groups.iter().map(|group| group.peak).collect(),
        }
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

    /// Notes where the counters stand at a time since 1970, for the second that ended last before it.
    ///
    /// On a host that is too busy that may be late. What was counted since the last note is spread evenly over the time between the two
    /// then, so that no second gets what belongs to the next.
    pub fn note_at(&mut self, now: Duration, accepted: u64, breached: u64) {
        let second = now.as_secs().saturating_sub(1);
        let newest = self.seconds.newest;
        let is_late =
            second > newest + 1 || Duration::from_nanos(now.subsec_nanos().into()) >= LATE;
        let read = self.read.replace((now, (accepted, breached)));
        let Some((then, was)) = read.filter(|(then, _)| {
            is_late && *then < now && second > newest && second - newest <= LONGEST_GAP_S
        }) else {
            self.note(second, accepted, breached);
            return;
        };
        for second in newest + 1..=second {
            let past = Duration::from_secs(second + 1).saturating_sub(then);
            let part = past.as_secs_f64() / (now - then).as_secs_f64();
            let then_and = |was: u64, is: u64| was + (is.saturating_sub(was) as f64 * part) as u64;
            self.note(second, then_and(was.0, accepted), then_and(was.1, breached));
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
        self.minute.join(Minute {
            sum: point,
            peak: point,
        });
    }

    /// The newest `count` points, oldest first, each of `merge` seconds or minutes (0 counts as 1) that begin at a multiple of it. The
    /// last one may not be over. A minute that is not over is not among them.
    pub fn newest(&self, span: Span, count: usize, merge: u64) -> Points {
        match span {
            Span::Seconds => {
                let minute = |point: &HistoryPoint| Minute {
                    sum: *point,
                    peak: *point,
                };
                self.seconds.newest(count, merge, 1, minute)
            }
            Span::Minutes => self.minutes.newest(count, merge, 60, |minute| *minute),
        }
    }

    /// The most that was accepted and refused in one second of the newest `count`.
    pub fn peak(&self, count: usize) -> HistoryPoint {
        let newest = self.seconds.points.iter().rev().take(count);
        newest.fold(HistoryPoint::default(), |peak, point| peak.max(*point))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn point(accepted: u32, breached: u32) -> HistoryPoint {
        HistoryPoint { accepted, breached }
    }

    fn sums(history: &History, span: Span, count: usize) -> (u64, Vec<HistoryPoint>) {
        let points = history.newest(span, count, 1);
        (points.first_s, points.sums)
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
            sums(&history, Span::Seconds, 2),
            (1_000_138, vec![point(2, 1); 2])
        );
        assert_eq!(sums(&history, Span::Seconds, 1000).1.len(), 140);
        let (first, minutes) = sums(&history, Span::Minutes, 10);
        assert_eq!(first, 999_960);
        assert_eq!(minutes, [point(40, 20), point(120, 60)]);
        assert_eq!(history.peak(60), point(2, 1));
    }

    #[test]
    fn a_peak_of_one_second_stays_in_whatever_is_merged() {
        let mut history = History::default();
        let mut total = 0;
        // 1,200,000 begins a minute, and ten of them; the peak is in the seventh minute.
        for second in 1_200_000..1_201_260u64 {
            total += if second == 1_200_400 { 500 } else { 5 };
            history.note(second, total, 0);
        }
        let points = history.newest(Span::Minutes, 2, 10);
        assert_eq!((points.first_s, points.step_s), (1_200_000, 600));
        // The minute that is not over is not told.
        assert_eq!(points.sums, [point(3495, 0), point(3000, 0)]);
        assert_eq!(points.peaks, [point(500, 0), point(5, 0)]);
        let points = history.newest(Span::Seconds, 9, 600);
        assert_eq!(points.sums, [point(3495, 0), point(3000, 0), point(300, 0)]);
        assert_eq!(points.peaks, [point(500, 0), point(5, 0), point(5, 0)]);
        let newest = history.newest(Span::Seconds, 1, 600);
        assert_eq!(
            (newest.first_s, newest.sums),
            (1_201_200, vec![point(300, 0)])
        );
        assert!(history.newest(Span::Seconds, 0, 1).sums.is_empty());
        assert!(
            History::default()
                .newest(Span::Minutes, 9, 0)
                .sums
                .is_empty()
        );
    }

    #[test]
    fn who_notes_late_does_not_put_the_next_second_into_this_one() {
        let mut history = History::default();
        // 100 calls a second, noted at these milliseconds.
        let notes = [
            1_002u64, 2_002, 3_002, 4_640, 5_003, 6_001, 9_300, 10_002, 11_002,
        ];
        for ms in notes {
            history.note_at(Duration::from_millis(ms), ms / 10, 0);
        }
        let (first, seconds) = sums(&history, Span::Seconds, 20);
        assert_eq!((first, seconds.len()), (0, 11));
        let accepted = seconds.iter().map(|point| point.accepted);
        assert!(
            accepted.clone().all(|count| (99..=101).contains(&count)),
            "{seconds:?}"
        );
        assert_eq!(accepted.sum::<u32>(), 1_100, "nothing is lost");
        // Nor when the clock jumps, forth or back.
        for ms in [900_000_002u64, 5_002, 6_002] {
            history.note_at(Duration::from_millis(ms), 1_200, 0);
        }
        let (_, seconds) = sums(&history, Span::Seconds, usize::MAX);
        let sum = seconds.iter().map(|point| point.accepted).sum::<u32>();
        assert_eq!(sum, 100, "the jump took the place of a day of seconds");
    }

    #[test]
    fn merged_points_say_the_same_as_adding_up() {
        let mut history = History::default();
        for second in 0..200u64 {
            history.note(1_000_003 + second, second * (second + 1) / 2, second);
        }
        let (first_s, seconds) = sums(&history, Span::Seconds, 200);
        for merge in 1..40u64 {
            for count in [1, 2, 7, 300] {
                let points = history.newest(Span::Seconds, count, merge);
                let mut expected = std::collections::BTreeMap::<u64, (u32, u32)>::new();
                for (time, second) in (first_s..).zip(&seconds) {
                    let group = expected.entry(time / merge * merge).or_default();
                    group.0 += second.accepted;
                    group.1 = group.1.max(second.accepted);
                }
                let told = points.sums.iter().zip(&points.peaks).zip(0..);
                let told = told.map(|((sum, peak), place)| {
                    let time = points.first_s + place * points.step_s;
                    (time, (sum.accepted, peak.accepted))
                });
                let mut expected = expected.into_iter().rev().take(count).collect::<Vec<_>>();
                expected.reverse();
                assert_eq!(told.collect::<Vec<_>>(), expected, "{merge} {count}");
            }
        }
    }

    #[test]
    fn a_gap_had_no_calls_and_a_clock_that_goes_back_adds() {
        let mut history = History::default();
        history.note(100, 1, 0);
        history.note(103, 5, 2);
        history.note(102, 6, 2);
        let want = [point(1, 0), point(0, 0), point(0, 0), point(5, 2)];
        assert_eq!(sums(&history, Span::Seconds, 9), (100, want.to_vec()));
        // A jump of years does not take years.
        history.note(4_000_000_000, 7, 2);
        let (first, points) = sums(&history, Span::Seconds, usize::MAX);
        assert_eq!(
            (first, points.len()),
            (4_000_000_001 - SECONDS as u64, SECONDS)
        );
        assert_eq!(points.last(), Some(&point(1, 0)));
    }
}
