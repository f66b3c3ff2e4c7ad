//! The side of a worker: nothing here waits, locks or takes memory.

use std::{
    hash::{BuildHasher, Hasher, RandomState},
    os::fd::BorrowedFd,
    sync::Arc,
};

use siphasher::sip::SipHasher13;

use super::{
    BUCKETS, Exchange, Parcel,
    buckets::{Buckets, Way},
    exchange::FULL,
    governor::{Did, Governor, INTERVAL_NS, Peer, Step},
    parcel::PARCEL_FRAMES,
};
use crate::sip::find_call_id;

/// Frames of others that are handled in a turn, as many as a batch of an RX ring.
const TAKE: usize = PARCEL_FRAMES;
/// Parcels that wait for a worker from which on the next ones are filled up before they go: it is behind, and fewer of them say
/// less often what two cores have to tell each other.
const BEHIND: usize = 4;

/// What becomes of a frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Handover {
    /// The worker handles it itself.
    Stays,
    /// Another one has it.
    Gone,
    /// It is lost: whoever has its call has no room for it, and here it would overtake others.
    Lost,
}

/// What a worker knows of others, and others of it.
#[derive(Debug)]
pub struct Side {
    exchange: Arc<Exchange>,
    me: usize,
    key: [u8; 16],
    buckets: Buckets,
    governor: Governor,
    /// By worker.
    towards: Box<[Towards]>,
    turn: u32,
    is_active: bool,
    may_hand: bool,
    /// Taken from the inbox, for the next turn.
    held: Option<Box<Parcel>>,
    /// Frames of others that were taken in this turn.
    taken: usize,
    interval_ends_ns: u64,
    interval_began_ns: u64,
    did: Did,
}

/// What goes to another worker.
#[derive(Debug, Default)]
struct Towards {
    /// The parcel that is being filled.
    parcel: Option<Box<Parcel>>,
    /// Its number, or that of the last one.
    number: u64,
    /// The last parcel of this worker that was taken in this turn, if there was one.
    taken: Option<u64>,
    is_gone: bool,
    was_full: bool,
}

impl Side {
    pub(super) fn new(exchange: Arc<Exchange>, me: usize) -> Self {
        let workers = exchange.workers();
        assert!(me < workers, "worker {me} of {workers}");
        // Nobody outside can choose Call-IDs that share a bucket.
        let mut key = [0; 16];
        for half in key.as_chunks_mut::<8>().0 {
            *half = RandomState::new().hash_one(me).to_le_bytes();
        }
        Self {
            exchange,
            me,
            key,
            buckets: Buckets::new(me),
            governor: Governor::new(me, workers),
            towards: (0..workers).map(|_| Towards::default()).collect(),
            turn: 0,
            is_active: false,
            may_hand: true,
            held: None,
            taken: 0,
            interval_ends_ns: 0,
            interval_began_ns: 0,
            did: Did::default(),
        }
    }

    /// What wakes the worker when another one hands something to it.
    pub fn wake_fd(&self) -> BorrowedFd<'_> {
        self.exchange.wake_fd(self.me)
    }

    /// Begins a turn. `busy_ns` is how long the one before took, if it found datagrams.
    #[inline]
    pub fn begin(&mut self, now_ns: u64, busy_ns: u64) {
        self.exchange.beat(self.me, now_ns);
        self.turn = self.turn.wrapping_add(1);
        self.taken = 0;
        self.did.busy_ns += busy_ns;
        if now_ns >= self.interval_ends_ns {
            self.end_interval(now_ns);
        }
    }

    /// Whether frames have to be asked about.
    #[inline]
    pub fn is_active(&self) -> bool {
        self.is_active
    }

    /// Notes what came out of the RX rings and the inbox in this turn, and whether more waits in an RX ring.
    #[inline]
    pub fn found(&mut self, frames: usize, has_backlog: bool) {
        self.did.frames += frames as u64;
        self.did.turns += u32::from(frames > 0);
        self.did.full_turns += u32::from(has_backlog);
    }

    #[cold]
    #[inline(never)]
    fn end_interval(&mut self, now_ns: u64) {
        self.did.elapsed_ns = now_ns - self.interval_began_ns;
        if self.interval_ends_ns == 0 {
            // The first turn: others may hand something over from now on.
            self.did = Did::default();
            self.exchange.set_open(self.me, true);
        }
        let load = self.did.load();
        if self.may_hand {
            self.decide(now_ns);
        }
        // Whoever hands over is full, however much it got rid of: it takes nothing.
        let load = if self.is_active { FULL } else { load };
        self.exchange.set_load(self.me, load);
        self.did = Did::default();
        self.interval_began_ns = now_ns;
        self.interval_ends_ns = now_ns + INTERVAL_NS;
    }

    fn decide(&mut self, now_ns: u64) {
        let (exchange, towards, buckets) = (&self.exchange, &mut self.towards, &mut self.buckets);
        if self.is_active {
            for (worker, towards) in towards.iter_mut().enumerate() {
                towards.is_gone = exchange.load(worker, now_ns).is_none();
                if towards.is_gone
                    && let Some(parcel) = towards.parcel.take()
                {
                    // For it, if it comes back.
                    exchange.post(worker, parcel);
                }
            }
        }
        let step = self.governor.decide(&self.did, |worker| Peer {
            load: exchange.load(worker, now_ns),
            buckets: if self.is_active {
                buckets.of(worker)
            } else {
                0
            },
            was_full: towards[worker].was_full,
        });
        towards.iter_mut().for_each(|other| other.was_full = false);
        match step {
            Some(Step::Give(to, count)) => {
                towards[to].is_gone = false;
                buckets.move_some(self.me, to, count);
                self.is_active = true;
            }
            Some(Step::TakeBack(from, count)) => buckets.move_some(from, self.me, count),
            None => {}
        }
        if self.is_active && buckets.away() == 0 && self.has_settled() {
            self.buckets.settle(self.turn);
            self.is_active = false;
        }
    }

    /// Whether all is sent that was handed over.
    fn has_settled(&self) -> bool {
        let others = self.towards.iter().enumerate();
        others.into_iter().all(|(worker, towards)| {
            towards.parcel.is_none()
                && (towards.is_gone || self.exchange.done(worker, self.me) >= towards.number)
        })
    }

    /// Hands a frame over, or says that it is this worker's.
    #[inline]
    pub fn hand_over(&mut self, frame: &[u8], payload: &[u8]) -> Handover {
        let Some(call_id) = find_call_id(payload) else {
            return Handover::Stays;
        };
        let mut hasher = SipHasher13::new_with_key(&self.key);
        hasher.write(call_id);
        let bucket = hasher.finish() as usize % BUCKETS;
        let (exchange, me, towards) = (&self.exchange, self.me, &self.towards);
        let is_sent = |worker: usize, number: u64| {
            towards[worker].is_gone || exchange.done(worker, me) >= number
        };
        let to = match self.buckets.way(bucket, self.turn, is_sent) {
            Way::Here => {
                self.buckets.stayed(bucket, self.turn);
                return Handover::Stays;
            }
            Way::To(worker) => worker,
        };
        if self.put(to, frame) {
            self.buckets.went(bucket, to, self.towards[to].number);
            self.did.handed += 1;
            return Handover::Gone;
        }
        self.towards[to].was_full = true;
        let (exchange, towards) = (&self.exchange, &self.towards);
        let may_stay = self.buckets.may_stay(bucket, |worker, number| {
            towards[worker].is_gone || exchange.done(worker, me) >= number
        });
        match may_stay {
            true => {
                self.buckets.stayed(bucket, self.turn);
                Handover::Stays
            }
            false => Handover::Lost,
        }
    }

    /// Copies a frame into a parcel for a worker; false when there is no room.
    #[inline]
    fn put(&mut self, to: usize, frame: &[u8]) -> bool {
        let towards = &mut self.towards[to];
        if let Some(parcel) = &mut towards.parcel {
            if parcel.push(frame) {
                return true;
            }
            if let Some(parcel) = towards.parcel.take() {
                self.exchange.post(to, parcel);
            }
        }
        let Some(mut parcel) = self.exchange.take_empty(to) else {
            return false;
        };
        parcel.begin(self.me, towards.number + 1);
        if !parcel.push(frame) {
            // No frame is that long.
            self.exchange.return_empty(to, parcel);
            return false;
        }
        towards.number += 1;
        towards.parcel = Some(parcel);
        true
    }

    /// Sends parcels off: all of them, or with a backlog only those that others are not behind with.
    #[inline]
    pub fn send_off(&mut self, has_backlog: bool) {
        if !self.is_active {
            return;
        }
        for (to, towards) in self.towards.iter_mut().enumerate() {
            if towards.parcel.is_none() || has_backlog && self.exchange.waiting(to) >= BEHIND {
                continue;
            }
            if let Some(parcel) = towards.parcel.take() {
                self.exchange.post(to, parcel);
            }
        }
    }

    /// The next parcel of another worker, unless that would be too much for this turn. [`Side::handled`] takes it back.
    #[inline]
    pub fn take(&mut self) -> Option<Box<Parcel>> {
        let parcel = match self.held.take() {
            Some(parcel) => parcel,
            None => self.exchange.receive(self.me)?,
        };
        if self.taken > 0 && self.taken + parcel.len() > TAKE {
            self.held = Some(parcel);
            return None;
        }
        self.taken += parcel.len();
        Some(parcel)
    }

    /// All frames of the parcel have been handled.
    pub fn handled(&mut self, parcel: Box<Parcel>) {
        self.towards[parcel.from].taken = Some(parcel.number);
        self.exchange.return_empty(self.me, parcel);
    }

    /// Ends a turn, when all that was handled in it has been sent.
    #[inline]
    pub fn end(&mut self) {
        if self.taken == 0 {
            return;
        }
        for (worker, towards) in self.towards.iter_mut().enumerate() {
            if let Some(number) = towards.taken.take() {
                self.exchange.set_done(self.me, worker, number);
            }
        }
    }

    /// To be asked before the worker sleeps: false when another one has handed something to it.
    pub fn may_sleep(&mut self) -> bool {
        self.held.is_none() && self.exchange.may_sleep(self.me)
    }

    /// To be said after it; `was_woken` when [`Side::wake_fd`] was readable.
    pub fn awake(&mut self, was_woken: bool) {
        self.exchange.awake(self.me, was_woken);
    }

    /// The worker has nothing more to hand over, and will not.
    pub fn hands_no_more(&mut self) {
        if self.may_hand {
            self.send_off(false);
            self.may_hand = false;
            self.is_active = false;
            self.exchange.hands_no_more();
        }
    }

    /// Whether nothing can be handed to it any more, and nothing is left.
    pub fn may_end(&mut self) -> bool {
        if !self.exchange.is_over() {
            return false;
        }
        if self.held.is_none() {
            self.held = self.exchange.receive(self.me);
        }
        self.held.is_none()
    }
}

impl Drop for Side {
    /// Also when the worker panics: the others neither wait for it nor hand anything to it.
    fn drop(&mut self) {
        self.hands_no_more();
        self.exchange.set_open(self.me, false);
    }
}
