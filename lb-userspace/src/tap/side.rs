//! The side of a worker: nothing here waits, locks or takes memory.

use std::sync::{Arc, atomic::Ordering::Relaxed};

use arc_swap::{ArcSwap, Cache};

use super::{HepCounts, Purpose, Record, Tap, TapList, Way, filter::Seen};
use crate::{
    forward::{Action, Datagram, Outcome, Scratch, Table, Verdict},
    sip::Message,
    stats::{Counter, WorkerStats},
};

/// What a worker knows of those who look.
pub(crate) struct TapSide {
    list: Cache<Arc<ArcSwap<TapList>>, Arc<TapList>>,
    is_on: bool,
    worker: usize,
    hep_counts: Arc<[HepCounts]>,
}

/// One decision, to be looked at.
pub(crate) struct Look<'a> {
    pub table: &'a Table,
    pub datagram: &'a Datagram<'a>,
    /// What was read of the datagram.
    pub message: &'a Message,
    pub verdict: &'a Verdict,
    pub scratch: &'a Scratch,
    pub way: Way,
    /// A reply is not sent, for the checksum of the datagram is wrong.
    pub is_spoilt: bool,
}

impl TapSide {
    pub(super) fn new(
        list: Arc<ArcSwap<TapList>>,
        worker: usize,
        hep_counts: Arc<[HepCounts]>,
    ) -> Self {
        Self {
            list: Cache::new(list),
            is_on: false,
            worker,
            hep_counts,
        }
    }

    /// Looks who looks; to be called once a batch. One relaxed load while nothing changes.
    pub fn begin(&mut self) {
        self.is_on = !self.list.load().is_empty();
    }

    /// Whether anybody does.
    #[inline(always)]
    pub fn is_on(&self) -> bool {
        self.is_on
    }

    /// Writes what the thread of HEP has counted for this worker.
    pub fn write_gauges(&self, stats: &WorkerStats) {
        if let Some(counts) = self.hep_counts.get(self.worker) {
            stats.set(Counter::HepSent, counts.sent.load(Relaxed));
            stats.set(Counter::HepSendError, counts.send_errors.load(Relaxed));
        }
    }

    /// Copies a message for each one who wants it.
    #[cold]
    #[inline(never)]
    pub fn offer(&mut self, look: &Look<'_>, stats: &WorkerStats) {
        if is_keepalive(look.verdict.outcome) {
            return;
        }
        let call_id = look
            .message
            .call_id
            .map(|field| field.value.of(look.datagram.payload));
        let inner = call_id.and_then(|call_id| look.table.inner_call_id(call_id));
        let seen = Seen {
            payload: look.datagram.payload,
            message: look.message,
            source: look.datagram.source,
            outcome: look.verdict.outcome,
            reply: &look.scratch.reply,
            call_id: inner.as_ref().map(|text| text.as_slice()).or(call_id),
        };
        for tap in self.list.load().iter() {
            tap.offer(&seen, look, self.worker, stats);
        }
    }
}

/// Keepalives are no messages of any call.
fn is_keepalive(outcome: Outcome) -> bool {
    matches!(
        outcome,
        Outcome::KeepaliveCrlf
            | Outcome::KeepaliveStun
            | Outcome::Empty
            | Outcome::Nuls
            | Outcome::LineEnds
    )
}

impl Tap {
    fn offer(&self, seen: &Seen<'_>, look: &Look<'_>, worker: usize, stats: &WorkerStats) {
        let Some(call) = self.wants(seen) else { return };
        let Some(queue) = self.queues.get(worker) else {
            return;
        };
        let [copied, dropped] = match self.purpose {
            Purpose::Trace => [Counter::TraceCopied, Counter::TraceDropped],
            Purpose::Hep => [Counter::HepCopied, Counter::HepDropped],
        };
        if !self.budget.take(look.scratch.now_ns) {
            queue.limited.fetch_add(1, Relaxed);
            stats.add(Counter::TraceLimited, 1);
            return;
        }
        let Some(mut record) = queue.free.pop() else {
            queue.dropped.fetch_add(1, Relaxed);
            stats.add(dropped, 1);
            return;
        };
        fill(&mut record, look, worker, call);
        // There is a place for every record.
        match queue.full.push(record) {
            Ok(()) => stats.add(copied, 1),
            Err(record) => drop(queue.free.push(record)),
        }
    }

    /// The hash of the call of a message that is wanted.
    fn wants(&self, seen: &Seen<'_>) -> Option<u64> {
        let call = seen.call_id.map_or(0, |call_id| self.calls.hash(call_id));
        if self.filter.matches(seen) {
            if call != 0 && self.filter.follows_calls() {
                self.calls.remember(call);
            }
            return Some(call);
        }
        (call != 0 && self.filter.follows_calls() && self.calls.knows(call)).then_some(call)
    }
}

fn fill(record: &mut Record, look: &Look<'_>, worker: usize, call: u64) {
    let &Look {
        table,
        datagram,
        verdict,
        scratch,
        ..
    } = look;
    let listener = |index: crate::forward::ListenerIndex| {
        let listener = table.listeners.get(usize::from(index.0));
        listener.map(|listener| listener.address)
    };
    record.at_ns = scratch.now_ns;
    record.worker = worker;
    record.way = look.way;
    record.source = datagram.source;
    record.listener = datagram.listener;
    if let Some(address) = listener(datagram.listener) {
        record.destination = address;
    }
    record.source_backend = table.backend_at(datagram.source);
    record.outcome = verdict.outcome;
    record.invalid = scratch.invalid;
    record.nat = verdict.nat;
    record.is_spoilt = look.is_spoilt;
    record.call = call;
    record.sent = None;
    record.backend = None;
    record.put_received(datagram.payload);
    match verdict.action {
        Action::Forward {
            to, from, backend, ..
        } => {
            let from = listener(from).unwrap_or(record.destination);
            record.backend = backend.or_else(|| table.backend_at(to));
            record.put_edited(from, to, datagram.payload, &scratch.edits);
        }
        Action::Reply { to } if !look.is_spoilt => {
            record.backend = table.backend_at(to);
            record.put_reply(record.destination, to, &scratch.reply);
        }
        Action::Reply { .. } | Action::AwaitName | Action::Drop | Action::Absorb => {}
    }
}
