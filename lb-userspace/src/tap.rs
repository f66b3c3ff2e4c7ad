//! Copies of what crosses the workers, for those who want to look: `siplb trace` and HEP. tcpdump sees nothing of what AF_XDP
//! takes and sends.
//!
//! A [`Tap`] has a [`Filter`] and, for each worker, a queue of records that were made when it was opened: a worker takes an
//! empty record, fills it and hands it over, without a lock and without taking memory. When there is none left the message is not
//! copied, and counted. Nobody's call waits for it.
//!
//! While there is no tap a worker reads one pointer a batch (`TapSide::begin`) and tests one bit a message. A tap costs its
//! worker the filter, and for a message that it wants one copy as it came and one as it leaves.

mod budget;
mod calls;
mod filter;
mod reader;
mod record;
mod side;
#[cfg(test)]
mod tests;

pub use filter::{Criteria, Filter};
pub use reader::{Lost, TapReader};
pub use record::{MESSAGE_MAX, Record, Way};
pub(crate) use side::{Look, TapSide};

use std::{
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    thread,
    time::{Duration, Instant},
};

use arc_swap::ArcSwap;
use crossbeam_queue::ArrayQueue;
use crossbeam_utils::CachePadded;

use self::{budget::Budget, calls::Calls, record::Slot};

/// Most taps at a time besides the one of HEP.
pub const MAX_TRACES: usize = 4;
/// Records of each worker for a trace, two messages of [`MESSAGE_MAX`] bytes each; it is emptied every 20 ms.
const TRACE_RECORDS: usize = 256;
/// The same for HEP, which may want everything.
const HEP_RECORDS: usize = 1024;
/// Longest time that closing a tap waits for the workers to let go of it: one that sleeps wakes up sooner.
const LET_GO: Duration = Duration::from_secs(2);

/// Who looks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Purpose {
    /// `siplb trace`.
    Trace,
    /// The HEP collector.
    Hep,
}

/// Somebody who looks: what is wanted, and where workers put it.
#[derive(Debug)]
pub struct Tap {
    purpose: Purpose,
    filter: Filter,
    calls: Calls,
    budget: Budget,
    /// One a worker.
    queues: Box<[Queue]>,
}

/// What one worker hands to one tap.
#[derive(Debug)]
struct Queue {
    /// Records to fill.
    free: ArrayQueue<Slot>,
    /// Records to look at.
    full: ArrayQueue<Slot>,
    /// Messages that found no record to fill.
    dropped: CachePadded<AtomicU64>,
    /// Messages beyond the limit.
    limited: AtomicU64,
}

impl Queue {
    fn new(records: usize) -> Self {
        let free = ArrayQueue::new(records);
        for _ in 0..records {
            // There is room for all of them.
            let _ = free.push(Box::new(Record::new()));
        }
        Self {
            free,
            full: ArrayQueue::new(records),
            dropped: CachePadded::default(),
            limited: AtomicU64::new(0),
        }
    }
}

/// Those who look now.
type TapList = Vec<Arc<Tap>>;

/// What the thread of HEP has done with the records of a worker, to be shown among that worker's counters.
#[derive(Debug, Default)]
pub struct HepCounts {
    sent: AtomicU64,
    send_errors: AtomicU64,
}

impl HepCounts {
    /// Counts a message that was sent to the collector, or could not be.
    pub fn add(&self, is_sent: bool) {
        let counter = if is_sent {
            &self.sent
        } else {
            &self.send_errors
        };
        counter.fetch_add(1, Relaxed);
    }
}

/// All taps of a node.
#[derive(Debug)]
pub struct Taps {
    list: Arc<ArcSwap<TapList>>,
    /// Held while the list changes.
    changing: Mutex<()>,
    hep_counts: Arc<[HepCounts]>,
}

/// There are as many taps as there may be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TooManyTaps;

impl Taps {
    /// None yet, of a node with so many workers.
    pub fn new(workers: usize) -> Self {
        Self {
            list: Arc::default(),
            changing: Mutex::new(()),
            hep_counts: (0..workers).map(|_| HepCounts::default()).collect(),
        }
    }

    /// The side of a worker.
    pub(crate) fn side(&self, worker: usize) -> TapSide {
        TapSide::new(Arc::clone(&self.list), worker, Arc::clone(&self.hep_counts))
    }

    /// What HEP has done with the records of each worker.
    pub fn hep_counts(&self) -> &[HepCounts] {
        &self.hep_counts
    }

    /// Has workers copy what `filter` wants, at most `per_second` messages (0: all of them), until what is returned is dropped.
    ///
    /// # Errors
    /// [`TooManyTaps`], of this purpose.
    pub fn open(
        self: &Arc<Self>,
        purpose: Purpose,
        filter: Filter,
        per_second: u32,
    ) -> Result<TapReader, TooManyTaps> {
        let (most, records) = match purpose {
            Purpose::Trace => (MAX_TRACES, TRACE_RECORDS),
            Purpose::Hep => (1, HEP_RECORDS),
        };
        let _changing = self.changing.lock().unwrap_or_else(PoisonError::into_inner);
        let list = self.list.load_full();
        if list.iter().filter(|tap| tap.purpose == purpose).count() >= most {
            return Err(TooManyTaps);
        }
        let queues = self.hep_counts.iter().map(|_| Queue::new(records));
        let tap = Arc::new(Tap {
            purpose,
            filter,
            calls: Calls::new(),
            budget: Budget::new(per_second),
            queues: queues.collect(),
        });
        let mut more = TapList::clone(&list);
        more.push(Arc::clone(&tap));
        self.list.store(Arc::new(more));
        Ok(TapReader::new(Arc::clone(self), tap))
    }

    fn close(&self, tap: &Arc<Tap>) {
        let changing = self.changing.lock().unwrap_or_else(PoisonError::into_inner);
        let mut rest = TapList::clone(&self.list.load());
        rest.retain(|other| !Arc::ptr_eq(other, tap));
        let old = self.list.swap(Arc::new(rest));
        drop(changing);
        // A worker that is the last to hold it would give the memory back in its own time.
        let limit = Instant::now() + LET_GO;
        while Arc::strong_count(&old) > 1 && Instant::now() < limit {
            thread::sleep(Duration::from_millis(5));
        }
    }
}
