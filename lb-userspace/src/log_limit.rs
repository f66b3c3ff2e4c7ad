//! Log lines of what can happen again and again: the first ones of an interval, then how many there were.

use std::{
    fmt,
    sync::{Mutex, PoisonError},
    time::{Duration, Instant},
};

use log::Level;

/// Lines of an interval that are written.
const MOST: u32 = 3;
/// How long an interval is.
const INTERVAL: Duration = Duration::from_secs(60);

/// For lines of one kind: three a minute at the most. What was left out is said with the first line after that minute.
#[derive(Debug, Default)]
pub struct LogLimit(Mutex<State>);

#[derive(Debug, Default)]
struct State {
    /// When the first line of the interval was written.
    since: Option<Instant>,
    lines: u32,
    left_out: u64,
}

impl LogLimit {
    /// Nothing written yet.
    pub const fn new() -> Self {
        Self(Mutex::new(State {
            since: None,
            lines: 0,
            left_out: 0,
        }))
    }

    /// Writes a line, unless there were too many.
    pub fn log(&self, level: Level, line: fmt::Arguments<'_>) {
        let Some(left_out) = self.take(Instant::now()) else {
            return;
        };
        match left_out {
            0 => log::log!(level, "{line}"),
            // The number comes with the next one that is like them.
            left_out => log::log!(level, "{line} (and {left_out} more like this before)"),
        }
    }

    /// `None` when the line has to be left out; else how many were left out before it.
    fn take(&self, now: Instant) -> Option<u64> {
        let mut state = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let is_over = state
            .since
            .is_none_or(|since| now.duration_since(since) >= INTERVAL);
        if is_over {
            (state.since, state.lines) = (Some(now), 0);
        }
        if state.lines >= MOST {
            state.left_out += 1;
            return None;
        }
        state.lines += 1;
        Some(std::mem::take(&mut state.left_out))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_ones_are_written_and_the_rest_is_counted() {
        let limit = LogLimit::new();
        let start = Instant::now();
        let take = |seconds| limit.take(start + Duration::from_secs(seconds));
        assert_eq!([0, 1, 2].map(take), [Some(0); 3]);
        assert_eq!([3, 4, 59].map(take), [None; 3]);
        assert_eq!([60, 61].map(take), [Some(3), Some(0)]);
        assert_eq!(take(1000), Some(0), "nothing was left out");
    }
}
