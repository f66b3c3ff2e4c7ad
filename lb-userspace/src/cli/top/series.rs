//! The past of a limit, kept by second and by minute, and what a graph shows of it.
//!
//! Points are kept under their own time, so that what the node said before it was restarted stays, and the time while it was
//! away is a gap and not a zero.

use std::collections::VecDeque;

/// How far back a graph looks.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub(in crate::cli) enum Span {
    /// A minute, by seconds
    #[value(name = "1m")]
    Minute,
    /// Ten minutes, by seconds
    #[default]
    #[value(name = "10m")]
    TenMinutes,
    /// An hour, by seconds
    #[value(name = "1h")]
    Hour,
    /// A day, by minutes
    #[value(name = "1d")]
    Day,
    /// A month, by minutes
    #[value(name = "31d")]
    Month,
}

impl Span {
    pub(super) const ALL: [Self; 5] = [
        Self::Minute,
        Self::TenMinutes,
        Self::Hour,
        Self::Day,
        Self::Month,
    ];

    pub(super) fn seconds(self) -> u64 {
        match self {
            Self::Minute => 60,
            Self::TenMinutes => 600,
            Self::Hour => 3600,
            Self::Day => 24 * 3600,
            Self::Month => 31 * 24 * 3600,
        }
    }

    /// Whether it is told by minutes.
    pub(super) fn is_by_minutes(self) -> bool {
        matches!(self, Self::Day | Self::Month)
    }

    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Minute => "1 min",
            Self::TenMinutes => "10 min",
            Self::Hour => "1 h",
            Self::Day => "1 day",
            Self::Month => "31 days",
        }
    }

    /// The next one, round and round.
    pub(super) fn next(self, step: isize) -> Self {
        let place = Self::ALL.iter().position(|span| *span == self);
        let place = place.unwrap_or(0).cast_signed() + step;
        Self::ALL[place.rem_euclid(Self::ALL.len().cast_signed()) as usize]
    }
}

/// Accepted and refused calls of a second or a minute.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(super) struct Point {
    /// All of them.
    pub(super) sum: [u32; 2],
    /// The most in one second of it.
    pub(super) most: [f64; 2],
}

/// Points one after the other, `step_s` seconds each, with gaps.
#[derive(Clone, Debug)]
pub(super) struct Series {
    step_s: u64,
    room: usize,
    /// Number of the oldest, counted in steps since 1970.
    first: u64,
    points: VecDeque<Option<Point>>,
}

impl Series {
    /// Seconds that are kept: an hour.
    pub(super) const SECONDS: usize = 3600;
    /// Minutes that are kept: a month.
    pub(super) const MINUTES: usize = 31 * 24 * 60;

    pub(super) fn seconds() -> Self {
        Self::new(1, Self::SECONDS)
    }

    pub(super) fn minutes() -> Self {
        Self::new(60, Self::MINUTES)
    }

    fn new(step_s: u64, room: usize) -> Self {
        Self {
            step_s,
            room,
            first: 0,
            points: VecDeque::new(),
        }
    }

    /// When the newest point begins, in seconds since 1970.
    pub(super) fn newest_s(&self) -> Option<u64> {
        let last = (self.points.len() as u64).checked_sub(1)?;
        Some((self.first + last) * self.step_s)
    }

    pub(super) fn last(&self) -> Option<Point> {
        self.points.back().copied().flatten()
    }

    /// Puts points where they belong; `first_s` is when the first of them begins. `peaks` may be missing: a node of an older
    /// version knows the mean of a minute alone.
    pub(super) fn merge(&mut self, first_s: u64, points: &[[u32; 2]], peaks: &[[u32; 2]]) {
        let first = first_s / self.step_s;
        for (place, sum) in points.iter().enumerate() {
            let most = match peaks.get(place) {
                Some(peak) => peak.map(f64::from),
                None => sum.map(|calls| f64::from(calls) / self.step_s as f64),
            };
            self.put(first + place as u64, Point { sum: *sum, most });
        }
    }

    fn put(&mut self, time: u64, point: Point) {
        let room = self.room as u64;
        let end = self.first + self.points.len() as u64;
        // The first one, or a clock that jumped further than is kept, either way: there is nothing to join.
        if self.points.is_empty() || time >= end + room || time + room < end {
            self.points.clear();
            self.first = time;
        }
        while time < self.first {
            self.points.push_front(None);
            self.first -= 1;
        }
        while self.first + (self.points.len() as u64) <= time {
            self.points.push_back(None);
        }
        let place = (time - self.first) as usize;
        self.points[place] = Some(point);
        while self.points.len() > self.room {
            self.points.pop_front();
            self.first += 1;
        }
    }

    /// Points that begin at `from_s` or later, each with its time.
    fn since(&self, from_s: u64) -> impl Iterator<Item = (u64, Point)> {
        let skipped = from_s.div_ceil(self.step_s).saturating_sub(self.first);
        let skipped = usize::try_from(skipped).unwrap_or(usize::MAX);
        let points = self.points.iter().enumerate().skip(skipped);
        points.filter_map(|(place, point)| {
            let time_s = (self.first + place as u64) * self.step_s;
            point.map(|point| (time_s, point))
        })
    }
}

/// What a graph shows: the most calls in one second for each of its columns, so that no peak is lost where many points share
/// a column.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Columns {
    /// Accepted and refused, oldest first; `None` where nothing is known.
    pub(super) values: Vec<Option<[f64; 2]>>,
    /// When the first column begins and when the last one ends, in seconds since 1970.
    pub(super) from_s: u64,
    pub(super) to_s: u64,
    /// A second of accepted and refused calls, over all that is shown.
    pub(super) mean: [f64; 2],
    /// The most in one second of all that is shown.
    pub(super) most: [f64; 2],
}

/// Seconds and minutes of a limit.
#[derive(Clone, Debug)]
pub(super) struct Past {
    pub(super) seconds: Series,
    pub(super) minutes: Series,
}

impl Default for Past {
    fn default() -> Self {
        Self {
            seconds: Series::seconds(),
            minutes: Series::minutes(),
        }
    }
}

impl Past {
    /// The last `span` before `end_s` in `count` columns. Columns begin at whole multiples of their length: a peak stays in
    /// its column while time goes on, and the graph does not flicker. So it may show a little more than the span.
    pub(super) fn columns(&self, span: Span, count: usize, end_s: u64) -> Columns {
        let step_s = if span.is_by_minutes() { 60 } else { 1 };
        let count = (count as u64).max(1);
        let points = span.seconds() / step_s;
        // Either several points share a column or a point has several columns.
        let per_column = points.div_ceil(count);
        let columns_each = (count / points).max(1);
        let length_s = per_column * step_s;
        let to_s = end_s.div_ceil(length_s) * length_s;
        let groups = count.div_ceil(columns_each);
        let from_s = to_s.saturating_sub(groups * length_s);
        let groups = ((to_s - from_s) / length_s) as usize;

        let mut most_of = vec![None::<[f64; 2]>; groups];
        let (mut sum, mut known_s) = ([0_u64; 2], 0_u64);
        let mut add = |time_s: u64, seconds: u64, point: Point| {
            let group = ((time_s - from_s) / length_s) as usize;
            let Some(most) = most_of.get_mut(group) else {
                return;
            };
            let before = most.unwrap_or_default();
            *most = Some([0, 1].map(|part| before[part].max(point.most[part])));
            for (sum, calls) in sum.iter_mut().zip(point.sum) {
                *sum += u64::from(calls);
            }
            known_s += seconds;
        };
        let mut seconds_from_s = from_s;
        if span.is_by_minutes() {
            for (time_s, point) in self.minutes.since(from_s) {
                add(time_s, 60, point);
            }
            // The minute that is not over yet.
            if let Some(newest_s) = self.minutes.newest_s() {
                seconds_from_s = from_s.max(newest_s + 60);
            }
        }
        for (time_s, point) in self.seconds.since(seconds_from_s) {
            add(time_s, 1, point);
        }
        let values = most_of
            .iter()
            .flat_map(|most| std::iter::repeat_n(*most, columns_each as usize));
        let values = values.collect::<Vec<_>>();
        let surplus = values.len().saturating_sub(count as usize);
        let known = most_of.iter().flatten();
        Columns {
            values: values[surplus..].to_vec(),
            from_s,
            to_s,
            mean: sum.map(|calls| calls as f64 / known_s.max(1) as f64),
            most: known.fold([0.0; 2], |most, value| {
                [0, 1].map(|part| f64::max(most[part], value[part]))
            }),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Seconds with as many accepted calls, and one refused in each.
    fn seconds(first_s: u64, accepted: &[u32]) -> Past {
        let mut past = Past::default();
        let points = accepted.iter().map(|calls| [*calls, 1]);
        past.seconds
            .merge(first_s, &points.collect::<Vec<_>>(), &[]);
        past
    }

    fn accepted(columns: &Columns) -> Vec<Option<f64>> {
        let values = columns.values.iter();
        values.map(|value| value.map(|value| value[0])).collect()
    }

    #[test]
    fn a_peak_of_one_second_is_seen_in_every_width_and_span() {
        let mut calls = vec![10; 3600];
        calls[3500] = 900;
        let past = seconds(1_800_000_000, &calls);
        let end_s = 1_800_000_000 + 3600;
        for span in [Span::TenMinutes, Span::Hour, Span::Day, Span::Month] {
            for width in [1, 2, 33, 66, 199, 700, 4000] {
                let columns = past.columns(span, width, end_s);
                assert_eq!(columns.values.len(), width, "{span:?}");
                let high = accepted(&columns)
                    .iter()
                    .filter(|value| **value == Some(900.0))
                    .count();
                let each = (width as u64 * if span.is_by_minutes() { 60 } else { 1 }
                    / span.seconds())
                .max(1);
                assert_eq!(high, each as usize, "{span:?} {width}");
                assert_eq!(columns.most, [900.0, 1.0]);
            }
        }
    }

    #[test]
    fn a_column_keeps_its_points_while_time_goes_on() {
        let calls = (0..1200).map(|second| second % 97).collect::<Vec<_>>();
        let past = seconds(6_000, &calls);
        let now = past.columns(Span::TenMinutes, 66, 7_000);
        assert_eq!((now.to_s - now.from_s) / 66, 10);
        for later in 1..10 {
            let then = past.columns(Span::TenMinutes, 66, 7_000 + later);
            assert_eq!(then.values[..65], now.values[1..], "{later}");
        }
        assert_eq!(past.columns(Span::TenMinutes, 66, 7_010).to_s, 7_010);
    }

    #[test]
    fn what_is_not_known_is_no_zero() {
        let mut past = seconds(600, &[5, 0, 5]);
        // Away for two seconds, and then another process.
        past.seconds.merge(605, &[[7, 0]], &[]);
        let columns = past.columns(Span::Minute, 60, 606);
        assert_eq!((columns.from_s, columns.to_s), (546, 606));
        assert_eq!(
            accepted(&columns)[53..],
            [None, Some(5.0), Some(0.0), Some(5.0), None, None, Some(7.0)]
        );
        assert_eq!(columns.mean, [17.0 / 4.0, 3.0 / 4.0]);
    }

    #[test]
    fn a_second_that_is_told_again_counts_once() {
        let mut past = seconds(600, &[1, 2, 3]);
        past.seconds.merge(601, &[[2, 0], [4, 0], [5, 0]], &[]);
        let columns = past.columns(Span::Minute, 60, 604);
        assert_eq!(
            accepted(&columns)[56..],
            [Some(1.0), Some(2.0), Some(4.0), Some(5.0)]
        );
    }

    #[test]
    fn minutes_show_their_busiest_second_and_the_mean_of_them_all() {
        let mut past = Past::default();
        let start = 1_800_000_000;
        past.minutes
            .merge(start, &[[600, 60], [1200, 0]], &[[100, 20], [25, 0]]);
        past.seconds.merge(start + 100, &[[3, 0]; 30], &[]);
        let columns = past.columns(Span::Day, 1440, start + 130);
        assert_eq!(
            accepted(&columns)[1437..],
            [Some(100.0), Some(25.0), Some(3.0)]
        );
        // Two minutes, and the ten seconds that belong to neither.
        assert_eq!(columns.mean[0], (600.0 + 1200.0 + 10.0 * 3.0) / 130.0);
        assert_eq!(columns.most, [100.0, 20.0]);

        // A node that knows no peaks.
        let mut past = Past::default();
        past.minutes.merge(start, &[[600, 60]], &[]);
        let columns = past.columns(Span::Day, 1440, start + 60);
        assert_eq!(columns.most, [10.0, 1.0]);
    }

    #[test]
    fn wide_graphs_give_every_second_the_same_width() {
        let past = seconds(600, &[1, 2]);
        let columns = past.columns(Span::Minute, 190, 602);
        assert_eq!(columns.values.len(), 190);
        let known = columns.values.iter().flatten().map(|value| value[0]);
        assert_eq!(known.collect::<Vec<_>>(), [1.0, 1.0, 1.0, 2.0, 2.0, 2.0]);
    }

    #[test]
    fn no_more_is_kept_than_there_is_room_for() {
        let mut series = Series::new(1, 3);
        series.merge(10, &[[1, 0], [2, 0], [3, 0], [4, 0]], &[]);
        assert_eq!(series.newest_s(), Some(13));
        assert_eq!(series.since(0).count(), 3);
        // A clock that jumps by years, and back.
        for time in [4_000_000_000, 100] {
            series.merge(time, &[[9, 0]], &[]);
            let all = series.since(0).collect::<Vec<_>>();
            assert_eq!(all.len(), 1);
            assert_eq!((all[0].0, series.newest_s()), (time, Some(time)));
        }
    }

    #[test]
    fn spans_go_round() {
        let mut span = Span::Minute;
        for _ in 0..5 {
            span = span.next(1);
        }
        assert_eq!(span, Span::Minute);
        assert_eq!(span.next(-1), Span::Month);
    }
}
