//! How long backends take to answer: a sample of the INVITEs that they get.
//!
//! One INVITE of each backend is timed at a time, on the whole node: its answer may come to another worker. Once it is answered, or
//! given up, the next one is. So a backend that answers within a millisecond is timed up to a thousand times a second, and one
//! that answers nobody never.

use std::sync::atomic::{
    AtomicU64,
    Ordering::{Acquire, Relaxed, Release},
};

use crossbeam_utils::CachePadded;

use crate::{balance::BackendIndex, token::TransactionId};

/// When an INVITE is given up: its client has, too (64 times T1, RFC 3261 §17.1.1.2).
const GIVEN_UP_NS: u64 = 32_000_000_000;

/// A stopwatch for each backend, shared by the workers.
#[derive(Debug)]
pub(super) struct Stopwatches(Box<[CachePadded<Stopwatch>]>);

/// Two workers may start one at the same time; then it has the transaction of one of them and the time of either, which are the
/// same to within a batch.
#[derive(Debug, Default)]
struct Stopwatch {
    /// Of the INVITE that is timed; 0 for none.
    transaction: AtomicU64,
    started_ns: AtomicU64,
}

impl Stopwatches {
    /// For so many backends.
    pub fn new(backends: usize) -> Self {
        Self((0..backends).map(|_| CachePadded::default()).collect())
    }

    /// An INVITE was sent to a backend. It is timed if none is.
    #[inline]
    pub fn start(&self, backend: BackendIndex, transaction: TransactionId, now_ns: u64) {
        let Some(watch) = self.0.get(usize::from(backend.0)) else {
            return;
        };
        let is_running = watch.transaction.load(Relaxed) != 0;
        if is_running && now_ns.saturating_sub(watch.started_ns.load(Relaxed)) < GIVEN_UP_NS {
            return;
        }
        watch.started_ns.store(now_ns, Relaxed);
        watch.transaction.store(transaction.number(), Release);
    }

    /// A response came from a backend: how long after the INVITE, in nanoseconds, if that is the one that is timed.
    #[inline]
    pub fn stop(
        &self,
        backend: BackendIndex,
        transaction: TransactionId,
        now_ns: u64,
    ) -> Option<u64> {
        let watch = self.0.get(usize::from(backend.0))?;
        let number = transaction.number();
        if number == 0 || watch.transaction.load(Acquire) != number {
            return None;
        }
        let started_ns = watch.started_ns.load(Relaxed);
        watch.transaction.store(0, Relaxed);
        Some(now_ns.saturating_sub(started_ns))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const BACKEND: BackendIndex = BackendIndex(1);

    fn id(number: u8) -> TransactionId {
        TransactionId::from_text(format!("{number:016x}").as_bytes()).unwrap()
    }

    #[test]
    fn the_first_response_to_the_invite_that_is_timed_counts() {
        let watches = Stopwatches::new(2);
        assert_eq!(watches.stop(BACKEND, id(1), 5), None);
        watches.start(BACKEND, id(1), 10);
        watches.start(BACKEND, id(2), 20);
        // A retransmission.
        watches.start(BACKEND, id(1), 30);
        assert_eq!(watches.stop(BACKEND, id(2), 40), None, "is not timed");
        assert_eq!(
            watches.stop(BackendIndex(0), id(1), 45),
            None,
            "another backend"
        );
        assert_eq!(watches.stop(BACKEND, id(1), 50), Some(40));
        assert_eq!(
            watches.stop(BACKEND, id(1), 60),
            None,
            "the second response"
        );
        watches.start(BACKEND, id(3), 70);
        assert_eq!(watches.stop(BACKEND, id(3), 71), Some(1));
    }

    #[test]
    fn an_invite_without_an_answer_is_given_up() {
        let watches = Stopwatches::new(2);
        watches.start(BACKEND, id(1), 10);
        watches.start(BACKEND, id(2), GIVEN_UP_NS + 9);
        assert_eq!(watches.stop(BACKEND, id(2), GIVEN_UP_NS + 9), None);
        watches.start(BACKEND, id(2), GIVEN_UP_NS + 10);
        assert_eq!(watches.stop(BACKEND, id(2), GIVEN_UP_NS + 12), Some(2));
    }

    #[test]
    fn backends_that_there_is_no_room_for_are_not_timed() {
        let watches = Stopwatches::new(1);
        watches.start(BACKEND, id(1), 10);
        assert_eq!(watches.stop(BACKEND, id(1), 20), None);
    }
}
