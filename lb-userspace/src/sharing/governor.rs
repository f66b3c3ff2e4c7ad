//! When to hand over, and how much.
//!
//! Every few milliseconds a worker looks at how it did. It is *full* when it worked without a pause and found full batches, so more
//! waits than it can take. Then it gives a step of its buckets to the idlest of the others, and again the next time, until it is not full
//! any more or nobody has room. It takes a step back when the other one gets too much, and, slowly, when it would have time for all
//! of it itself: reckoned from what a frame cost when the worker was full, since with small batches each frame costs more.

/// How often it is decided anew. Some twenty batches of a worker that is full; an RX ring of the default length is then half full.
pub(super) const INTERVAL_NS: u64 = 3_000_000;
/// Buckets that move at a time: a sixteenth.
const STEP: usize = super::BUCKETS / 16;
/// Permille of the time that a worker works from which it is full, if there is a backlog too.
const BUSY: u32 = 950;
/// Intervals in a row that a worker is full before it hands over: one can be a burst, which the RX ring is for.
const FULL_FOR: u32 = 2;
/// A worker gets its first buckets up to this load, and more up to the next one. Above the last one it gets less.
const IDLE: u32 = 500;
const ROOM: u32 = 850;
const TOO_MUCH: u32 = 950;
/// Intervals in a row that are too much before a step is taken back from a worker.
const TOO_MUCH_FOR: u32 = 2;
/// Permille of what this worker can do up to which it would handle all itself.
const CALM: u64 = 700;
/// How long it is calm before a step is taken back, so that all is back in about two seconds. Time, since a worker that sleeps looks
/// less often.
const CALM_FOR_NS: u64 = 100_000_000;
/// Intervals in which a worker gets no more after something was taken back from it.
const REST_FOR: u32 = 33;

/// What a worker did in an interval.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Did {
    /// How long it was.
    pub elapsed_ns: u64,
    /// Of that, in turns that found datagrams.
    pub busy_ns: u64,
    /// Turns that found datagrams.
    pub turns: u32,
    /// Of these, the ones that found a full batch.
    pub full_turns: u32,
    /// Frames from its RX rings and from others.
    pub frames: u64,
    /// Of these, the ones that it handed over.
    pub handed: u64,
}

impl Did {
    pub fn load(&self) -> u32 {
        (self.busy_ns.min(self.elapsed_ns) * 1000 / self.elapsed_ns.max(1)) as u32
    }

    fn is_full(&self) -> bool {
        self.load() >= BUSY && 2 * self.full_turns >= self.turns.max(1)
    }
}

/// Another worker.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Peer {
    /// How busy it is; `None` when it is gone.
    pub load: Option<u32>,
    /// Buckets of ours that it has.
    pub buckets: usize,
    /// Its inbox was full in this interval.
    pub was_full: bool,
}

/// What to change.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Step {
    /// Gives so many buckets to a worker.
    Give(usize, usize),
    /// Takes so many back from it.
    TakeBack(usize, usize),
}

/// What one worker remembers for its decisions.
#[derive(Debug)]
pub(super) struct Governor {
    me: usize,
    full_for: u32,
    calm_for_ns: u64,
    /// What a frame costs this worker when it is full and hands nothing over.
    frame_ns: u64,
    others: Box<[Other]>,
}

#[derive(Clone, Copy, Debug, Default)]
struct Other {
    too_much_for: u32,
    rest_for: u32,
}

impl Governor {
    pub fn new(me: usize, workers: usize) -> Self {
        Self {
            me,
            full_for: 0,
            calm_for_ns: 0,
            frame_ns: 0,
            others: vec![Other::default(); workers].into_boxed_slice(),
        }
    }

    /// What to change after an interval. `peer` tells of a worker. What comes first is more urgent, and the rest is for the next
    /// interval.
    pub fn decide(&mut self, did: &Did, peer: impl Fn(usize) -> Peer) -> Option<Step> {
        self.full_for = if did.is_full() { self.full_for + 1 } else { 0 };
        if self.full_for > 0 && did.handed == 0 && did.frames > 0 {
            self.frame_ns = did.busy_ns / did.frames;
        }
        let all_ns = did.frames * self.frame_ns;
        let is_calm = all_ns * 1000 <= did.elapsed_ns * CALM && self.full_for == 0;
        self.calm_for_ns = match is_calm {
            true => self.calm_for_ns + did.elapsed_ns,
            false => 0,
        };

        let others = (0..self.others.len()).filter(|worker| *worker != self.me);
        let mut idlest: Option<(u32, usize)> = None;
        let mut most: Option<(usize, usize)> = None;
        let mut back = None;
        for worker in others {
            let Peer {
                load,
                buckets,
                was_full,
            } = peer(worker);
            let other = &mut self.others[worker];
            other.rest_for = other.rest_for.saturating_sub(1);
            let Some(load) = load else {
                if buckets > 0 {
                    back.get_or_insert(Step::TakeBack(worker, buckets));
                }
                continue;
            };
            let is_too_much = buckets > 0 && (was_full || load > TOO_MUCH);
            other.too_much_for = match is_too_much {
                true => other.too_much_for + 1,
                false => 0,
            };
            if was_full && buckets > 0 || other.too_much_for >= TOO_MUCH_FOR {
                if back.is_none() {
                    back = Some(Step::TakeBack(worker, STEP));
                    other.too_much_for = 0;
                    other.rest_for = REST_FOR;
                }
                continue;
            }
            let has_room = load <= if buckets > 0 { ROOM } else { IDLE };
            if has_room && other.rest_for == 0 && idlest.is_none_or(|(least, _)| load < least) {
                idlest = Some((load, worker));
            }
            if buckets > 0 && most.is_none_or(|(count, _)| buckets > count) {
                most = Some((buckets, worker));
            }
        }
        if back.is_some() {
            return back;
        }
        if self.full_for >= FULL_FOR {
            return idlest.map(|(_, worker)| Step::Give(worker, STEP));
        }
        if self.calm_for_ns >= CALM_FOR_NS {
            self.calm_for_ns = 0;
            return most.map(|(_, worker)| Step::TakeBack(worker, STEP));
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const FULL: Did = Did {
        elapsed_ns: INTERVAL_NS,
        busy_ns: INTERVAL_NS,
        turns: 20,
        full_turns: 20,
        frames: 1000,
        handed: 0,
    };

    fn peers<const N: usize>(
        loads: [Option<u32>; N],
        buckets: [usize; N],
    ) -> impl Fn(usize) -> Peer {
        move |worker| Peer {
            load: loads[worker],
            buckets: buckets[worker],
            was_full: false,
        }
    }

    #[test]
    fn a_burst_changes_nothing() {
        let mut governor = Governor::new(0, 2);
        let idle = peers([None, Some(0)], [256, 0]);
        for _ in 0..100 {
            assert_eq!(governor.decide(&FULL, &idle), None);
            let busy = Did {
                full_turns: 5,
                ..FULL
            };
            assert_eq!(governor.decide(&busy, &idle), None);
        }
    }

    #[test]
    fn a_full_worker_gives_to_the_idlest() {
        let mut governor = Governor::new(1, 4);
        let all = peers([Some(200), None, Some(100), Some(0)], [0, 256, 0, 0]);
        assert_eq!(governor.decide(&FULL, &all), None);
        assert_eq!(governor.decide(&FULL, &all), Some(Step::Give(3, STEP)));
        let all = peers([Some(200), None, Some(100), None], [0, 256, 0, 0]);
        assert_eq!(governor.decide(&FULL, &all), Some(Step::Give(2, STEP)));
    }

    #[test]
    fn who_is_not_idle_gets_nothing_and_who_has_some_gets_more() {
        let mut governor = Governor::new(0, 2);
        for (load, buckets, wanted) in [
            (IDLE, 0, Some(Step::Give(1, STEP))),
            (IDLE + 1, 0, None),
            (ROOM, 16, Some(Step::Give(1, STEP))),
            (ROOM + 1, 16, None),
        ] {
            governor.full_for = FULL_FOR;
            let peer = peers([None, Some(load)], [256 - buckets, buckets]);
            assert_eq!(governor.decide(&FULL, peer), wanted, "{load} {buckets}");
        }
    }

    #[test]
    fn who_is_gone_has_all_taken_back_and_who_has_too_much_some() {
        let mut governor = Governor::new(0, 3);
        let gone = peers([None, None, Some(0)], [160, 48, 48]);
        assert_eq!(governor.decide(&FULL, gone), Some(Step::TakeBack(1, 48)));
        let full = peers([None, Some(TOO_MUCH + 1), Some(TOO_MUCH)], [160, 48, 48]);
        assert_eq!(governor.decide(&FULL, &full), None);
        assert_eq!(governor.decide(&FULL, &full), Some(Step::TakeBack(1, STEP)));
        // It rests, also when it is idle.
        let idle = peers([None, Some(0), Some(ROOM + 1)], [160, 48, 48]);
        for _ in 1..REST_FOR {
            assert_eq!(governor.decide(&FULL, &idle), None);
        }
        assert_eq!(governor.decide(&FULL, &idle), Some(Step::Give(1, STEP)));
    }

    #[test]
    fn a_full_inbox_has_some_taken_back_at_once() {
        let mut governor = Governor::new(0, 2);
        let peer = |_| Peer {
            load: Some(0),
            buckets: 16,
            was_full: true,
        };
        assert_eq!(governor.decide(&FULL, peer), Some(Step::TakeBack(1, STEP)));
    }

    #[test]
    fn calm_takes_back_slowly_and_only_what_fits() {
        let mut governor = Governor::new(0, 2);
        let peer = peers([None, Some(300)], [128, 128]);
        governor.decide(&FULL, &peer);
        // A frame costs a thousandth of the interval. Small batches: always busy, whatever comes.
        let some = |frames: u64| Did {
            full_turns: 0,
            frames,
            handed: frames / 2,
            ..FULL
        };
        let intervals = CALM_FOR_NS.div_ceil(INTERVAL_NS);
        for _ in 0..10 * intervals {
            assert_eq!(governor.decide(&some(CALM + 2), &peer), None);
        }
        for _ in 1..intervals {
            assert_eq!(governor.decide(&some(CALM), &peer), None);
        }
        assert_eq!(
            governor.decide(&some(CALM), &peer),
            Some(Step::TakeBack(1, STEP))
        );
        assert_eq!(governor.decide(&some(CALM), &peer), None);
    }
}
