//! Calls per second: who may open how many, and what is known of that afterwards.
//!
//! A [`Limit`] is shared by all workers without a lock. It is exact: in no second, wherever it begins, more calls are
//! accepted than it allows, whichever workers accept them. A call is counted once; who finds out that a request opens a
//! new one is `forward`.

mod calls;
mod history;

pub use calls::CallLimits;
pub use history::{History, HistoryPoint, Points, Span};

use std::sync::atomic::{
    AtomicU64,
    Ordering::{AcqRel, Acquire, Relaxed},
};

/// The window over which calls are counted, in nanoseconds.
pub const WINDOW_NS: u64 = 1_000_000_000;
/// Highest limit. A limit takes eight bytes for each call that it allows in a second.
pub const MAX_CPS: u32 = 1_000_000;
/// How often a worker tries again when others are accepting calls at the same time.
const TRIES: usize = 64;

/// A number of calls that may be opened in a second, and how many have been.
///
/// The times of the last calls that were accepted stand in a ring with as many places as calls are allowed: a call is
/// accepted when the place that it would take is free or its call is a second old.
#[derive(Debug)]
pub struct Limit {
    /// Empty when there is no limit: calls are counted only.
    ring: Box<[AtomicU64]>,
    /// Calls accepted by the ring; the next one takes place `head % ring.len()`.
    head: AtomicU64,
    accepted: AtomicU64,
    breached: AtomicU64,
}

/// What is in a place of the ring: the time of a call in nanoseconds, and in the lowest bit whether it was taken in a
/// round of an odd number. A worker that finds the bit of its own round knows that another one was faster, and that
/// the head is about to move.
#[derive(Clone, Copy, PartialEq, Eq)]
struct Place(u64);

impl Place {
    /// Nothing was ever accepted here: as if in the round before the first.
    const FREE: Self = Self(1);

    fn new(time_ns: u64, round: u64) -> Self {
        // Never 0 as a time, so that it cannot be mistaken for a free place.
        Self(time_ns.max(1) << 1 | round & 1)
    }

    fn is_of(self, round: u64) -> bool {
        self.0 & 1 == round & 1
    }

    fn is_free_at(self, now_ns: u64) -> bool {
        self == Self::FREE || (self.0 >> 1) + WINDOW_NS <= now_ns
    }
}

impl Limit {
    /// Allows `cps` calls in a second, at most [`MAX_CPS`]; any number with `None`.
    pub fn new(cps: Option<u32>) -> Self {
        let places = cps.map_or(0, |cps| cps.min(MAX_CPS));
        Self {
            ring: (0..places).map(|_| AtomicU64::new(Place::FREE.0)).collect(),
            head: AtomicU64::new(0),
            accepted: AtomicU64::new(0),
            breached: AtomicU64::new(0),
        }
    }

    /// The same counts with another number of calls: what was accepted within the last second still counts.
    ///
    /// What workers accept while this runs is not carried over, so they get the new one as soon as it is made.
    pub fn with_cps(&self, cps: Option<u32>) -> Self {
        let other = Self::new(cps);
        other.accepted.store(self.accepted(), Relaxed);
        other.breached.store(self.breached(), Relaxed);
        let mut times = self
            .ring
            .iter()
            .map(|place| Place(place.load(Acquire)))
            .filter(|place| *place != Place::FREE)
            .map(|place| place.0 >> 1)
            .collect::<Vec<_>>();
        times.sort_unstable();
        let newest = times.len().saturating_sub(other.ring.len());
        for (place, time) in other.ring.iter().zip(&times[newest..]) {
            place.store(Place::new(*time, 0).0, Relaxed);
        }
        other.head.store((times.len() - newest) as u64, Relaxed);
        other
    }

    /// How many calls are allowed in a second; `None` without a limit.
    pub fn cps(&self) -> Option<u32> {
        (!self.ring.is_empty()).then_some(self.ring.len() as u32)
    }

    /// True when a call at `now_ns` would be accepted. Another worker may take its place before [`Limit::take`] does.
    ///
    /// `now_ns` is of a clock that never goes back, the same one for all workers.
    #[inline]
    pub fn has_room(&self, now_ns: u64) -> bool {
        if self.ring.is_empty() {
            return true;
        }
        let head = self.head.load(Acquire);
        let place = Place(self.place(head).load(Acquire));
        // Of this round: another worker has just taken it, so there may be room behind it.
        place.is_of(self.round(head)) || place.is_free_at(now_ns)
    }

    /// Takes a place for a call at `now_ns`; false when there is none.
    #[inline]
    pub fn take(&self, now_ns: u64) -> bool {
        if self.ring.is_empty() {
            return true;
        }
        for _ in 0..TRIES {
            let head = self.head.load(Acquire);
            let round = self.round(head);
            let slot = self.place(head);
            let place = Place(slot.load(Acquire));
            if !place.is_of(round) {
                if !place.is_free_at(now_ns) {
                    return false;
                }
                let taken = Place::new(now_ns, round).0;
                if slot
                    .compare_exchange(place.0, taken, AcqRel, Acquire)
                    .is_ok()
                {
                    // Whoever looks next may have moved it already.
                    let _ = self.head.compare_exchange(head, head + 1, AcqRel, Relaxed);
                    return true;
                }
            }
            // Somebody else's call: help it along and look at the next place.
            let _ = self.head.compare_exchange(head, head + 1, AcqRel, Relaxed);
        }
        // Sixty-four others were faster: that many calls at once are no time for one more.
        false
    }

    /// Counts a call that went on.
    #[inline]
    pub fn count_accepted(&self) {
        self.accepted.fetch_add(1, Relaxed);
    }

    /// Counts a call that did not go on because of this limit.
    #[inline]
    pub fn count_breached(&self) {
        self.breached.fetch_add(1, Relaxed);
    }

    /// Calls that went on since the start.
    pub fn accepted(&self) -> u64 {
        self.accepted.load(Relaxed)
    }

    /// Calls that did not go on because of this limit, since the start.
    pub fn breached(&self) -> u64 {
        self.breached.load(Relaxed)
    }

    fn place(&self, head: u64) -> &AtomicU64 {
        &self.ring[(head % self.ring.len() as u64) as usize]
    }

    fn round(&self, head: u64) -> u64 {
        head / self.ring.len() as u64
    }
}

#[cfg(test)]
mod tests {
    use std::{collections::VecDeque, thread};

    use proptest::prelude::*;

    use super::*;

    const MS: u64 = 1_000_000;

    #[test]
    fn as_many_as_allowed_in_any_second() {
        let limit = Limit::new(Some(3));
        let start = 5_000 * MS;
        for (after_ms, accepted) in [
            (0, true),
            (1, true),
            (500, true),
            (500, false),
            (999, false),
            (1000, true),
            (1000, false),
            (1001, true),
            (1499, false),
            (1500, true),
            (1999, false),
            (9000, true),
            (9000, true),
            (9000, true),
            (9000, false),
        ] {
            let now = start + after_ms * MS;
            assert_eq!(limit.has_room(now), accepted, "{after_ms}");
            assert_eq!(limit.take(now), accepted, "{after_ms}");
        }
    }

    #[test]
    fn without_a_limit_everything_goes() {
        let limit = Limit::new(None);
        assert_eq!(limit.cps(), None);
        assert!((0..10_000).all(|_| limit.has_room(1) && limit.take(1)));
    }

    #[test]
    fn a_call_at_the_start_of_time_counts() {
        let limit = Limit::new(Some(1));
        assert!(limit.take(0));
        assert!(!limit.take(0));
        assert!(limit.take(WINDOW_NS + 1));
    }

    #[test]
    fn another_number_keeps_what_was_accepted() {
        let limit = Limit::new(Some(4));
        let now = 7 * WINDOW_NS;
        for call in 0..4 {
            assert!(limit.take(now + call * 100 * MS));
            limit.count_accepted();
        }
        limit.count_breached();
        let more = limit.with_cps(Some(6));
        assert_eq!((more.accepted(), more.breached()), (4, 1));
        assert!(more.take(now + 400 * MS));
        assert!(more.take(now + 400 * MS));
        assert!(!more.take(now + 400 * MS));
        assert!(more.take(now + 1000 * MS));
        let fewer = limit.with_cps(Some(2));
        assert!(
            !fewer.take(now + 1100 * MS),
            "those at 200 and 300 ms count"
        );
        assert!(fewer.take(now + 1200 * MS));
        assert!(limit.with_cps(None).take(now));
        assert_eq!(limit.with_cps(None).with_cps(Some(9)).cps(), Some(9));
    }

    proptest! {
        #[test]
        fn like_a_list_of_all_calls(
            cps in 1u32..20,
            gaps in proptest::collection::vec(prop_oneof![Just(0), 0u64..5, 0u64..400], 1..400),
        ) {
            let limit = Limit::new(Some(cps));
            let mut accepted = VecDeque::new();
            let mut now = WINDOW_NS;
            for gap in gaps {
                now += gap * MS;
                while accepted.front().is_some_and(|time| time + WINDOW_NS <= now) {
                    accepted.pop_front();
                }
                let wanted = accepted.len() < cps as usize;
                prop_assert_eq!(limit.take(now), wanted);
                if wanted {
                    accepted.push_back(now);
                }
            }
        }
    }

    /// Another worker has written its call, and was interrupted before it moved the head.
    #[test]
    fn a_call_that_is_half_taken_is_neither_taken_twice_nor_in_the_way() {
        let now = 30 * WINDOW_NS;
        for calls_before in [0, 1, 2, 5] {
            let limit = Limit::new(Some(2));
            for call in 0..calls_before {
                assert!(limit.take(now - (calls_before - call) * WINDOW_NS / 2 - WINDOW_NS / 2));
            }
            let head = limit.head.load(Acquire);
            let half_taken = Place::new(now, limit.round(head)).0;
            limit.place(head).store(half_taken, Relaxed);
            assert!(limit.has_room(now));
            assert!(limit.take(now), "there is a place behind it");
            assert!(!limit.take(now), "and no other");
            assert_eq!(limit.head.load(Acquire), head + 2);
        }
    }

    /// With time standing still the places run out; the threads together get each of them once.
    #[test]
    fn threads_do_not_take_more_than_there_is() {
        for cps in [1, 2, 3, 100, 1000] {
            let limit = Limit::new(Some(cps));
            for second in 1..40 {
                let now = second * WINDOW_NS;
                let taken = thread::scope(|scope| {
                    let threads = (0..4)
                        .map(|_| scope.spawn(|| (0..2 * cps).filter(|_| limit.take(now)).count()));
                    let threads = threads.collect::<Vec<_>>();
                    threads
                        .into_iter()
                        .map(|thread| thread.join().expect("a thread that ends"))
                        .sum::<usize>()
                });
                assert_eq!(taken, cps as usize, "{second}");
            }
        }
    }
}
