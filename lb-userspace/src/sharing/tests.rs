//! Workers without sockets: what is handed to whom, in which order, and that nothing is lost.

use std::{
    collections::HashMap,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering::SeqCst},
    },
    thread,
    time::{Duration, Instant},
};

use rustix::event::{PollFd, PollFlags, poll};

use super::{Exchange, Handover, Side, governor::INTERVAL_NS};
use crate::afxdp::BATCH;

const STALE_AFTER: Duration = Duration::from_millis(250);
/// A batch of a worker that is full: an interval has twenty of them.
const BATCH_NS: u64 = INTERVAL_NS / 20;
const CALLS: usize = 500;

fn payload(call: usize, number: u64) -> Vec<u8> {
    format!("BYE sip:x SIP/2.0\r\nCall-ID: {call}\r\nX-Number: {number}\r\n\r\n").into_bytes()
}

/// Which call a payload is of, and which of it.
fn read(payload: &[u8]) -> (usize, u64) {
    let text = std::str::from_utf8(payload).expect("text");
    let values: Vec<&str> = text
        .lines()
        .filter_map(|line| Some(line.split_once(": ")?.1))
        .collect();
    let number = |at: usize| values[at].parse::<u64>().expect("a number");
    (number(0) as usize, number(1))
}

/// What workers of a test have in common.
#[derive(Debug, Default)]
struct World {
    now_ns: AtomicU64,
    /// How many payloads have been handled.
    handled: AtomicU64,
}

/// A payload that was handled: by time, call and number.
type Handled = (u64, usize, u64);

/// The loop of a worker.
struct Bench {
    side: Side,
    world: Arc<World>,
    /// Frames of the turn before.
    found: usize,
    handled: Vec<Handled>,
    gone: usize,
    lost: usize,
}

impl Bench {
    fn new(exchange: &Arc<Exchange>, worker: usize, world: &Arc<World>) -> Self {
        let mut bench = Self {
            side: exchange.side(worker),
            world: Arc::clone(world),
            found: 0,
            handled: Vec::new(),
            gone: 0,
            lost: 0,
        };
        bench.turn(&[]);
        bench
    }

    /// Handles these from the RX ring and what others have handed over.
    fn turn(&mut self, batch: &[(usize, u64)]) {
        self.handle(batch);
        self.side.end();
    }

    /// Without saying that all has been sent.
    fn handle(&mut self, batch: &[(usize, u64)]) {
        let now_ns = self.world.now_ns.load(SeqCst) + 1;
        self.side
            .begin(now_ns, self.found as u64 * BATCH_NS / BATCH as u64);
        for &(call, number) in batch {
            let payload = payload(call, number);
            let handover = match self.side.is_active() {
                true => self.side.hand_over(&payload, &payload),
                false => Handover::Stays,
            };
            match handover {
                Handover::Stays => self.note(call, number),
                Handover::Gone => self.gone += 1,
                Handover::Lost => self.lost += 1,
            }
        }
        let has_backlog = batch.len() == BATCH;
        self.side.send_off(has_backlog);
        let mut taken = 0;
        while let Some(parcel) = self.side.take() {
            taken += parcel.len();
            for frame in parcel.frames() {
                let (call, number) = read(frame);
                self.note(call, number);
            }
            self.side.handled(parcel);
        }
        self.found = batch.len() + taken;
        self.side.found(self.found, has_backlog);
    }

    fn note(&mut self, call: usize, number: u64) {
        let at = self.world.handled.fetch_add(1, SeqCst);
        self.handled.push((at, call, number));
    }
}

/// Payloads of many calls, in turns.
#[derive(Default)]
struct Source(HashMap<usize, u64>, usize);

impl Source {
    fn batch(&mut self, len: usize) -> Vec<(usize, u64)> {
        let next = (0..len).map(|_| {
            self.1 = (self.1 + 1) % CALLS;
            let number = self.0.entry(self.1).or_default();
            *number += 1;
            (self.1, *number)
        });
        next.collect()
    }

    fn made(&self) -> u64 {
        self.0.values().sum()
    }
}

/// Fails unless the payloads of each call were handled in order. Returns how many there were.
fn assert_order(workers: &[&Bench]) -> u64 {
    let mut all: Vec<Handled> = workers
        .iter()
        .flat_map(|bench| bench.handled.iter().copied())
        .collect();
    all.sort_unstable();
    let mut last = HashMap::<usize, u64>::new();
    for (at, call, number) in &all {
        let before = last.insert(*call, *number).unwrap_or(0);
        assert!(
            before < *number,
            "call {call}: {number} after {before}, as {at}"
        );
    }
    all.len() as u64
}

/// Two workers and what the first one gets.
struct Pair {
    world: Arc<World>,
    full: Bench,
    idle: Bench,
    source: Source,
}

impl Pair {
    fn new() -> Self {
        let world = Arc::<World>::default();
        let exchange = Exchange::new(2, STALE_AFTER).expect("an exchange");
        Self {
            full: Bench::new(&exchange, 0, &world),
            idle: Bench::new(&exchange, 1, &world),
            world,
            source: Source::default(),
        }
    }

    fn pass(&self, ns: u64) {
        self.world.now_ns.fetch_add(ns, SeqCst);
    }

    /// So many turns of the first one with full batches, each followed by one of the second.
    fn flood(&mut self, turns: usize) {
        for _ in 0..turns {
            self.pass(BATCH_NS);
            self.full.turn(&self.source.batch(BATCH));
            self.idle.turn(&[]);
        }
    }

    /// The same with what it can take.
    fn trickle(&mut self, turns: usize) {
        for _ in 0..turns {
            self.pass(BATCH_NS);
            self.full.turn(&self.source.batch(4));
            self.pass(BATCH_NS);
            self.full.turn(&[]);
            self.idle.turn(&[]);
        }
    }

    fn assert_all_handled(&self) {
        let handled = assert_order(&[&self.full, &self.idle]);
        assert_eq!((handled, self.full.lost), (self.source.made(), 0));
        assert_eq!(self.idle.handled.len(), self.full.gone);
    }
}

#[test]
fn who_is_not_full_hands_nothing_over() {
    let mut pair = Pair::new();
    pair.trickle(1000);
    // A burst that an RX ring takes.
    pair.flood(30);
    pair.trickle(1000);
    assert!(!pair.full.side.is_active());
    assert_eq!(pair.full.gone, 0);
    pair.assert_all_handled();
}

#[test]
fn who_is_full_hands_calls_over_until_it_is_not() {
    let mut pair = Pair::new();
    pair.flood(200);
    assert!(pair.full.side.is_active());
    let gone = pair.full.gone;
    assert!(gone > 1000, "{gone}");
    pair.trickle(50);
    assert!(pair.full.gone > gone, "it goes on for a while");
    pair.trickle(20_000);
    assert!(!pair.full.side.is_active());
    let gone = pair.full.gone;
    pair.trickle(100);
    assert_eq!(pair.full.gone, gone);
    pair.assert_all_handled();
}

#[test]
fn what_has_no_call_stays() {
    let mut pair = Pair::new();
    pair.flood(400);
    for keepalive in [
        &b"\r\n\r\n"[..],
        b"",
        b"\0\x01\0\0",
        b"BYE sip:x SIP/2.0\r\n\r\n",
    ] {
        let handover = pair.full.side.hand_over(keepalive, keepalive);
        assert_eq!(handover, Handover::Stays);
    }
}

#[test]
fn a_worker_that_ends_gets_nothing_more() {
    let mut pair = Pair::new();
    pair.flood(200);
    assert!(pair.full.side.is_active());
    let Pair {
        world,
        mut full,
        idle,
        mut source,
    } = pair;
    let handled = idle.handled.len();
    assert_eq!(handled, full.gone);
    drop(idle);
    for _ in 0..100 {
        world.now_ns.fetch_add(BATCH_NS, SeqCst);
        full.turn(&source.batch(BATCH));
    }
    assert!(!full.side.is_active());
    let gone = full.gone;
    for _ in 0..100 {
        world.now_ns.fetch_add(BATCH_NS, SeqCst);
        full.turn(&source.batch(BATCH));
    }
    assert_eq!(full.gone, gone, "still full, but there is nobody");
}

#[test]
fn a_worker_that_hangs_gets_nothing_more() {
    let mut pair = Pair::new();
    pair.flood(200);
    let turns = STALE_AFTER.as_nanos() as u64 / BATCH_NS + 100;
    for _ in 0..turns {
        pair.pass(BATCH_NS);
        pair.full.turn(&pair.source.batch(BATCH));
    }
    assert!(!pair.full.side.is_active());
    let gone = pair.full.gone;
    pair.flood(10);
    assert_eq!(pair.full.gone, gone);
}

#[test]
fn what_a_full_inbox_does_not_take_is_lost_rather_than_handled_too_early() {
    let mut pair = Pair::new();
    pair.flood(200);
    // The other one says that it lives, but gets to nothing.
    for _ in 0..2000 {
        pair.pass(BATCH_NS);
        pair.full.turn(&pair.source.batch(BATCH));
        pair.idle.side.begin(pair.world.now_ns.load(SeqCst), 0);
    }
    assert!(pair.full.lost > 0);
    // It gets to what it has.
    pair.flood(500);
    let (gone, lost) = (pair.full.gone, pair.full.lost);
    pair.flood(1000);
    assert!(pair.full.gone > gone, "there is room again");
    assert_eq!(pair.full.lost, lost);
    pair.trickle(100);
    let handled = assert_order(&[&pair.full, &pair.idle]);
    assert_eq!(handled + lost as u64, pair.source.made());
}

#[test]
fn calls_do_not_come_back_before_they_are_sent() {
    let mut pair = Pair::new();
    pair.flood(200);
    // It handles everything at once, but its TX ring is slow.
    for _ in 0..10_000 {
        pair.pass(BATCH_NS);
        pair.full.turn(&pair.source.batch(8));
        pair.pass(BATCH_NS);
        pair.idle.handle(&[]);
        pair.full.turn(&[]);
    }
    assert!(pair.full.side.is_active());
    let stayed = pair.full.handled.len();
    pair.full.turn(&pair.source.batch(CALLS));
    let stayed = pair.full.handled.len() - stayed;
    assert!(stayed < CALLS, "{stayed}");
    pair.idle.turn(&[]);
    pair.trickle(1000);
    assert!(!pair.full.side.is_active());
    pair.assert_all_handled();
}

#[test]
fn nobody_ends_before_all_that_was_handed_over_is_handled() {
    let mut pair = Pair::new();
    pair.flood(200);
    pair.idle.side.hands_no_more();
    pair.full.turn(&pair.source.batch(BATCH));
    assert!(!pair.idle.side.may_end(), "the other one still hands over");
    pair.full.side.hands_no_more();
    assert!(pair.full.side.may_end());
    assert!(!pair.idle.side.may_end(), "something is left");
    pair.idle.turn(&[]);
    assert!(pair.idle.side.may_end());
    pair.assert_all_handled();
}

#[test]
fn who_sleeps_is_woken() {
    let mut pair = Pair::new();
    pair.flood(200);
    let is_woken = |side: &Side| {
        let mut fds = [PollFd::from_borrowed_fd(side.wake_fd(), PollFlags::IN)];
        let nothing = rustix::event::Timespec {
            tv_sec: 0,
            tv_nsec: 0,
        };
        poll(&mut fds, Some(&nothing)).expect("poll") == 1
    };
    // Nobody writes to who is awake.
    assert!(!is_woken(&pair.idle.side));
    assert!(pair.idle.side.may_sleep());
    pair.full.turn(&pair.source.batch(BATCH));
    assert!(is_woken(&pair.idle.side));
    pair.idle.side.awake(true);
    assert!(!is_woken(&pair.idle.side));
    assert!(!pair.idle.side.may_sleep(), "something is there");
    pair.idle.turn(&[]);
    assert!(pair.idle.side.may_sleep());
}

/// Three threads, of which the first gets everything and is full now and then, so that calls go back and forth between all
/// of them.
#[test]
fn order_is_kept_between_threads() {
    let world = Arc::<World>::default();
    // The clock runs as it likes, whoever gets a processor.
    let exchange = Exchange::new(3, Duration::MAX).expect("an exchange");
    let mut full = Bench::new(&exchange, 0, &world);
    let is_over = AtomicBool::new(false);
    let mut source = Source::default();
    let others: Vec<Bench> = thread::scope(|scope| {
        let others = [1, 2].map(|worker| {
            let (exchange, world, is_over) = (&exchange, &world, &is_over);
            scope.spawn(move || {
                let mut bench = Bench::new(exchange, worker, world);
                bench.side.hands_no_more();
                while !(is_over.load(SeqCst) && bench.side.may_end()) {
                    let before = bench.handled.len();
                    bench.turn(&[]);
                    if bench.handled.len() == before && bench.side.may_sleep() {
                        bench.side.awake(false);
                        thread::yield_now();
                    }
                }
                bench
            })
        });
        let enough = Instant::now() + Duration::from_secs(2);
        let mut switches = 0;
        let mut was_active = false;
        while Instant::now() < enough {
            for _ in 0..200 {
                world.now_ns.fetch_add(BATCH_NS, SeqCst);
                full.turn(&source.batch(BATCH));
            }
            for _ in 0..2000 {
                world.now_ns.fetch_add(4 * BATCH_NS, SeqCst);
                full.turn(&source.batch(1));
                full.turn(&[]);
                switches += usize::from(was_active != full.side.is_active());
                was_active = full.side.is_active();
            }
        }
        full.side.hands_no_more();
        is_over.store(true, SeqCst);
        assert!(switches > 1, "{switches}");
        others
            .into_iter()
            .map(|other| other.join().expect("no panic"))
            .collect()
    });
    let handled = assert_order(&[&full, &others[0], &others[1]]);
    assert_eq!(handled + full.lost as u64, source.made());
    assert!(others.iter().all(|other| !other.handled.is_empty()));
}
