//! The side of those who look.

use std::sync::{Arc, atomic::Ordering::Relaxed};

use super::{Record, Tap, Taps, record::Slot};

/// How old a record is when it is handed over. Workers put their records into queues of their own; by then those of other
/// workers with earlier times are there as well.
const SETTLED_NS: u64 = 10_000_000;

/// Messages that were not copied, since the tap was opened.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Lost {
    /// The queue was full: who looks is too slow.
    pub queue_full: u64,
    /// There were more in a second than the tap may have.
    pub limited: u64,
}

/// An open tap. Dropping it closes the tap.
#[derive(Debug)]
pub struct TapReader {
    taps: Arc<Taps>,
    tap: Arc<Tap>,
    /// Records that are not handed over yet.
    held: Vec<Slot>,
}

impl TapReader {
    pub(super) fn new(taps: Arc<Taps>, tap: Arc<Tap>) -> Self {
        Self {
            taps,
            tap,
            held: Vec::new(),
        }
    }

    /// Hands over what was copied up to 10 ms before `now_ns`, in the order of time; with `u64::MAX` everything.
    ///
    /// # Errors
    /// The first one of `each`; what comes after it is handed over the next time.
    pub fn drain<E>(
        &mut self,
        now_ns: u64,
        mut each: impl FnMut(&Record) -> Result<(), E>,
    ) -> Result<(), E> {
        for queue in &self.tap.queues {
            // As many as there are, and not what workers put in meanwhile.
            for _ in 0..queue.full.len() {
                self.held.extend(queue.full.pop());
            }
        }
        // Stable: what a worker did in one batch stays in its order.
        self.held.sort_by_key(|record| record.at_ns);
        let is_settled = |record: &Slot| record.at_ns.saturating_add(SETTLED_NS) <= now_ns;
        let settled = self.held.partition_point(is_settled);
        let mut result = Ok(());
        let mut done = 0;
        for record in &self.held[..settled] {
            result = each(record);
            done += 1;
            if result.is_err() {
                break;
            }
        }
        for record in self.held.drain(..done) {
            if let Some(queue) = self.tap.queues.get(record.worker) {
                // It came from there.
                let _ = queue.free.push(record);
            }
        }
        result
    }

    /// What was not copied.
    pub fn lost(&self) -> Lost {
        let mut lost = Lost::default();
        for queue in &self.tap.queues {
            lost.queue_full += queue.dropped.load(Relaxed);
            lost.limited += queue.limited.load(Relaxed);
        }
        lost
    }
}

impl Drop for TapReader {
    fn drop(&mut self) {
        self.taps.close(&self.tap);
    }
}
