//! One core, one queue, one loop.
//!
//! A turn takes a batch of frames from each AF_XDP socket, what other workers hand over ([`crate::sharing`]), and a batch of
//! datagrams from each kernel socket, puts every one through [`Reading::read`] and [`decide()`], and sends what it says. Without work it
//! sleeps in `poll`. Tables are looked at anew between batches; nothing in a turn allocates, locks or logs, and time is
//! read once.

mod recent_ways;
mod sweep;
mod waiting;
mod way_out;

use std::{
    hash::{BuildHasher, RandomState},
    os::fd::AsFd,
    sync::{
        Arc,
        atomic::{AtomicU8, AtomicU64, Ordering},
    },
    time::Duration,
};

use arc_swap::{ArcSwap, Cache};
use crossbeam_utils::CachePadded;
use lb_common::prefetch::prefetch_all;

use self::{sweep::Sweep, way_out::WayOut};
use crate::{
    afxdp::{BATCH, Receiver, Sender, TxPool, program::Gates},
    control::{next_hops::NextHops, resolver::Asker},
    forward::{
        Action, Datagram, ListenerIndex, Memory, Outcome, Reading, Scratch, Table, Verdict, decide,
    },
    frame::{Arrival, Ends, Message, Useless},
    kernel_socket::KernelSocket,
    names::Names,
    sharing::{Handover, Side},
    stats::{Counter, Histogram, WorkerStats},
    sys::{
        memory::use_huge_pages,
        mmsg::ReceiveBatch,
        net::{PollSet, wait_readable},
        thread::monotonic_ns,
    },
    tap::{Look, TapSide, Way},
};

/// Frames that are read before the first of them is decided on.
const GROUP: usize = 8;
/// Longest sleep. Well below `datapath.stale_after`, since a sleeping worker does not beat.
const IDLE: Duration = Duration::from_millis(40);
/// Turns with AF_XDP traffic after which the kernel sockets are looked at without asking `poll` first.
const TURNS_PER_KERNEL_LOOK: u32 = 8;
/// How often levels and the sockets' own counters are written to the statistics.
const GAUGES_EVERY_NS: u64 = 100_000_000;
/// Turns without work after which a worker that has to stop is done.
const QUIET_TURNS: u32 = 2;
/// The same while datagrams wait for the name servers.
const IDLE_WITH_WAITING: Duration = Duration::from_millis(1);
/// Longest time that a worker which has to stop goes on emptying its queues.
const DRAIN_NS: u64 = 1_000_000_000;

/// What the control plane tells a worker, and what the worker tells it.
#[derive(Debug, Default)]
pub struct Shared {
    order: AtomicU8,
    heartbeat_ns: CachePadded<AtomicU64>,
}

impl Shared {
    /// Tells the worker to handle what has arrived and then to end. Its gates are closed before.
    pub fn stop(&self) {
        self.order.store(1, Ordering::Release);
    }

    /// When the worker last began a turn, on the clock of [`monotonic_ns`]; 0 before the first.
    pub fn heartbeat_ns(&self) -> u64 {
        self.heartbeat_ns.load(Ordering::Relaxed)
    }

    fn must_stop(&self) -> bool {
        self.order.load(Ordering::Acquire) != 0
    }
}

/// The receiving half of an AF_XDP socket, and the gate before it.
pub struct Port {
    /// Rings.
    pub receiver: Receiver,
    /// Gates of the interface.
    pub gates: Gates,
    /// The queue that the socket is bound to.
    pub queue: u32,
}

/// What AF_XDP sends from; absent in `mode: socket`.
pub struct Transmit {
    /// Chunks to send from.
    pub pool: TxPool,
    /// One an interface, in the order of `datapath.interfaces`; `None` where this worker has no queue.
    pub senders: Vec<Option<Sender>>,
    /// Ways to destinations.
    pub next_hops: Arc<ArcSwap<NextHops>>,
}

/// What is known of names, and who finds out more.
pub struct NameService {
    /// Answers so far.
    pub names: Arc<ArcSwap<Names>>,
    /// Where to ask.
    pub asker: Asker,
}

/// Everything that one worker owns.
pub struct Worker {
    /// What to forward by.
    pub table: Arc<ArcSwap<Table>>,
    /// Receiving halves; none in `mode: socket`.
    pub ports: Vec<Port>,
    /// Sending side; none in `mode: socket`.
    pub transmit: Option<Transmit>,
    /// One a listener, in the order of the table.
    pub sockets: Vec<KernelSocket>,
    /// Counters.
    pub stats: WorkerStats,
    /// Heartbeat and orders.
    pub shared: Arc<Shared>,
    /// How old a heartbeat may be before the gate counts as closed.
    pub stale_after: Duration,
    /// How many transactions and calls it remembers.
    pub pins: usize,
    /// Where requests to names go.
    pub names: NameService,
    /// Who looks at what crosses it.
    pub(crate) tap: TapSide,
    /// The other workers, where they share frames.
    pub sharing: Option<Side>,
}

/// Counters of one batch, written to the statistics at its end.
#[derive(Default)]
struct Arrived {
    frames: u64,
    bytes: u64,
    handed: u64,
    lost: u64,
}

impl Worker {
    /// Opens the gates, works until told to stop, empties the queues, and returns.
    pub fn run(self) {
        let Self {
            table,
            mut ports,
            transmit,
            sockets,
            stats,
            shared,
            stale_after,
            pins,
            names,
            tap,
            mut sharing,
        } = self;
        let mut tables = Cache::new(table);
        let mut poll = PollSet::default();
        for port in &ports {
            poll.push(port.receiver.as_fd());
        }
        for socket in &sockets {
            poll.push(socket.as_fd());
        }
        let first_socket = ports.len();
        let wake = first_socket + sockets.len();
        if let Some(sharing) = &sharing {
            poll.push(sharing.wake_fd());
        }
        let mut incoming = ReceiveBatch::default();
        let mut scratch = Scratch::new();
        scratch.memory = Memory::new(pins).with_key(random_key());
        // Without huge pages, as before Linux 6.1, looking up a pin takes a little longer.
        let _ = use_huge_pages(&scratch.memory.pins.memory());
        let mut sweep = Sweep::new(stats.backends());
        let mut way_out = WayOut::new(transmit, sockets, stats, names.asker, tap);
        let mut names = Cache::new(names.names);

        let beat = |ports: &[Port], now: u64| {
            shared.heartbeat_ns.store(now, Ordering::Relaxed);
            for port in ports {
                port.gates.beat(port.queue, now);
            }
        };
        beat(&ports, monotonic_ns());
        for port in &ports {
            port.gates.open(port.queue, stale_after);
        }

        let mut turn = 0u32;
        // When the turn before began, if it found datagrams: then it ended where this one begins.
        let mut batch_began = None;
        let mut quiet = 0;
        let mut stop_by = None;
        let mut gauges_at = 0;
        loop {
            let now = monotonic_ns();
            beat(&ports, now);
            let mut busy = 0;
            if let Some(began) = batch_began.take() {
                busy = now - began;
                way_out.stats.add(Counter::BusyNs, busy);
                way_out.stats.observe(Histogram::BatchDuration, busy);
            }
            if let Some(sharing) = &mut sharing {
                sharing.begin(now, busy);
            }
            if stop_by.is_none() && shared.must_stop() {
                stop_by = Some(now + DRAIN_NS);
            }
            let table: &Table = tables.load();
            scratch.now_ns = now;
            way_out.begin();

            let mut work = 0;
            let newest = names.load();
            let has_new_names = !Arc::ptr_eq(newest, &scratch.names);
            if has_new_names {
                scratch.names = Arc::clone(newest);
            }
            if has_new_names || way_out.waiting.is_due(now) {
                work += retry_waiting(table, &mut scratch, &mut way_out);
            }
            work += match &mut sharing {
                None => drain_rx_rings(&mut ports, None, table, &mut scratch, &mut way_out).0,
                Some(sharing) => {
                    drain_with_others(&mut ports, sharing, table, &mut scratch, &mut way_out)
                }
            };
            turn = turn.wrapping_add(1);
            if work == 0 || turn.is_multiple_of(TURNS_PER_KERNEL_LOOK) {
                for listener in 0..way_out.sockets.len() {
                    if work == 0 && !poll.is_ready(first_socket + listener) {
                        continue;
                    }
                    work += drain_kernel_socket(
                        listener,
                        table,
                        &mut incoming,
                        &mut scratch,
                        &mut way_out,
                    );
                }
            }
            way_out.flush();
            if let Some(sharing) = &mut sharing {
                sharing.end();
            }
            // At the end of a turn: what is in an RX ring now is a backlog.
            if now >= gauges_at {
                way_out.write_gauges(&mut ports);
                gauges_at = now + GAUGES_EVERY_NS;
            }
            sweep.turn(&mut scratch.memory.pins, now, &way_out.stats);
            way_out.stats.add(
                if work == 0 {
                    Counter::PollIdle
                } else {
                    Counter::Batches
                },
                1,
            );

            if work > 0 {
                way_out.stats.observe(Histogram::BatchSize, work as u64);
                batch_began = Some(now);
                quiet = 0;
                if stop_by.is_none_or(|limit| now < limit) {
                    continue;
                }
            }
            if let Some(limit) = stop_by {
                quiet += 1;
                if now >= limit {
                    break;
                }
                if quiet > QUIET_TURNS {
                    let Some(sharing) = &mut sharing else { break };
                    // What others still hand over is handled as well.
                    sharing.hands_no_more();
                    if sharing.may_end() {
                        break;
                    }
                }
            }
            let patience = match () {
                () if stop_by.is_some() => Duration::from_millis(2),
                () if !way_out.waiting.is_empty() => IDLE_WITH_WAITING,
                () => IDLE,
            };
            if let Some(sharing) = &mut sharing
                && !sharing.may_sleep()
            {
                poll.clear_ready();
                continue;
            }
            // An error here (no memory) leaves nothing ready, and the next turn tries again.
            if wait_readable(&mut poll, patience).is_err() {
                poll.clear_ready();
            }
            if let Some(sharing) = &mut sharing {
                sharing.awake(poll.is_ready(wake));
            }
        }
        let given_up = way_out.waiting.give_up();
        way_out.stats.outcomes(Outcome::AwaitsName, given_up);
        way_out.write_gauges(&mut ports);
    }
}

/// A key that nobody knows: the standard library's, which the system makes anew for every process.
fn random_key() -> [u8; 16] {
    let mut key = [0; 16];
    for half in key.as_chunks_mut::<8>().0 {
        *half = RandomState::new().hash_one(0).to_le_bytes();
    }
    key
}

/// Decides anew on what waits for the name servers, and returns the number of datagrams.
fn retry_waiting(table: &Table, scratch: &mut Scratch, way_out: &mut WayOut) -> usize {
    let mut waiting = std::mem::take(&mut way_out.waiting);
    let mut count = 0;
    let given_up = waiting.retry(scratch.now_ns, |datagram| {
        count += 1;
        let mut reading = Reading::EMPTY;
        reading.read(table, datagram, &scratch.memory);
        let verdict = decide(table, datagram, &mut reading, scratch);
        let waits = verdict.action == Action::AwaitName;
        if waits {
            way_out.count(table, &verdict, datagram, scratch);
            return true;
        }
        if way_out.tap.is_on() {
            let look = Look {
                table,
                datagram,
                message: &reading.message,
                verdict: &verdict,
                scratch,
                way: Way::Waited,
                is_spoilt: false,
            };
            way_out.tap.offer(&look, &way_out.stats);
        }
        send_verdict_by_kernel(table, datagram, &verdict, scratch, way_out);
        false
    });
    way_out.waiting = waiting;
    way_out.stats.outcomes(Outcome::AwaitsName, given_up);
    count
}

/// What a frame has for us; `None` when it has nothing, which has been counted then.
#[inline(always)]
fn arrival<'a>(frame: &'a [u8], table: &Table, stats: &WorkerStats) -> Option<Arrival<'a>> {
    let useless = match Arrival::of_frame(frame, &table.listeners) {
        Ok(arrival) => return Some(arrival),
        Err(useless) => useless,
    };
    let counter = match useless {
        // For no listener: between the map of VIPs and the table of a reload.
        Useless::NotOurs => Counter::FrameNotOurs,
        Useless::Broken => Counter::FrameBroken,
    };
    stats.add(counter, 1);
    None
}

/// Handles one batch of each RX ring, hands over what others take of it, and handles what others have handed over. Returns the
/// number of frames.
fn drain_with_others(
    ports: &mut [Port],
    sharing: &mut Side,
    table: &Table,
    scratch: &mut Scratch,
    way_out: &mut WayOut,
) -> usize {
    let active = sharing.is_active().then_some(&mut *sharing);
    let (own, has_backlog) = drain_rx_rings(ports, active, table, scratch, way_out);
    sharing.send_off(has_backlog);
    let mut taken = 0;
    while let Some(parcel) = sharing.take() {
        for bytes in parcel.frames() {
            taken += 1;
            // Again: the other one reads only as much as it takes to find the call.
            if let Some(arrival) = arrival(bytes, table, &way_out.stats) {
                let mut reading = Reading::EMPTY;
                reading.read(table, &arrival.datagram, &scratch.memory);
                handle(&arrival, &mut reading, table, scratch, way_out);
            }
        }
        sharing.handled(parcel);
    }
    if taken > 0 {
        way_out.stats.add(Counter::TakenOver, taken as u64);
    }
    sharing.found(own + taken, has_backlog);
    own + taken
}

/// Handles one batch of each RX ring, and returns the number of frames, and whether more wait.
fn drain_rx_rings(
    ports: &mut [Port],
    mut sharing: Option<&mut Side>,
    table: &Table,
    scratch: &mut Scratch,
    way_out: &mut WayOut,
) -> (usize, bool) {
    let mut frames = 0;
    let mut has_backlog = false;
    for port in ports {
        let count = drain_rx_ring(port, sharing.as_deref_mut(), table, scratch, way_out);
        frames += count;
        has_backlog |= count == BATCH;
    }
    (frames, has_backlog)
}

/// Handles one batch of an RX ring and returns the number of frames.
///
/// A few are read before the first of them is decided on: meanwhile what it needs comes into the cache, and the code of each
/// step is in the first-level cache when the next frame needs it.
fn drain_rx_ring(
    port: &mut Port,
    mut sharing: Option<&mut Side>,
    table: &Table,
    scratch: &mut Scratch,
    way_out: &mut WayOut,
) -> usize {
    let count = port.receiver.receive();
    if count == 0 {
        return 0;
    }
    let mut arrived = Arrived::default();
    let mut readings = [const { Reading::EMPTY }; GROUP];
    let mut arrivals = [const { None::<Arrival<'_>> }; GROUP];
    for first in (0..count).step_by(GROUP) {
        let positions = first..count.min(first + GROUP);
        for (position, (reading, place)) in positions
            .clone()
            .zip(readings.iter_mut().zip(&mut arrivals))
        {
            let bytes = port.receiver.frame(position);
            // In copy mode, and without DDIO, another core or the device wrote it: it is in memory or in that core's cache. Half
            // of it now and half later: a core waits when it is asked for more lines than it can have under way.
            let coming = match position + 1 < count {
                true => port.receiver.frame(position + 1),
                false => &[],
            };
            let (begin, end) = coming.split_at(coming.len() / 2);
            prefetch_all(begin);
            arrived.frames += 1;
            arrived.bytes += bytes.len() as u64;
            let mut next = arrival(bytes, table, &way_out.stats);
            if let (Some(arrival), Some(sharing)) = (&next, &mut sharing) {
                match sharing.hand_over(bytes, arrival.datagram.payload) {
                    Handover::Stays => {}
                    Handover::Gone => {
                        arrived.handed += 1;
                        next = None;
                    }
                    Handover::Lost => {
                        arrived.lost += 1;
                        next = None;
                    }
                }
            }
            *place = next;
            if let Some(next) = place {
                reading.read(table, &next.datagram, &scratch.memory);
            }
            prefetch_all(end);
        }
        for (arrival, reading) in arrivals[..positions.len()].iter().zip(&mut readings) {
            if let Some(arrival) = arrival {
                handle(arrival, reading, table, scratch, way_out);
            }
        }
    }
    if port.receiver.recycle() {
        way_out.stats.add(Counter::FillWakeup, 1);
    }
    way_out.stats.add(Counter::RxAfXdp, arrived.frames);
    way_out.stats.add(Counter::RxAfXdpBytes, arrived.bytes);
    if sharing.is_some() {
        way_out.stats.add(Counter::HandedOver, arrived.handed);
        way_out.stats.add(Counter::HandoverFull, arrived.lost);
    }
    count
}

/// Decides on a datagram that came by AF_XDP and was read, and sends what is to be sent.
fn handle(
    arrival: &Arrival<'_>,
    reading: &mut Reading,
    table: &Table,
    scratch: &mut Scratch,
    way_out: &mut WayOut,
) {
    let datagram = &arrival.datagram;
    let verdict = decide(table, datagram, reading, scratch);
    way_out.count(table, &verdict, datagram, scratch);
    if way_out.tap.is_on() {
        // See below.
        let needs_checksum = matches!(verdict.action, Action::Reply { .. } | Action::AwaitName);
        let look = Look {
            table,
            datagram,
            message: &reading.message,
            verdict: &verdict,
            scratch,
            way: Way::AfXdp,
            is_spoilt: needs_checksum && !arrival.checksum_is_right(),
        };
        way_out.tap.offer(&look, &way_out.stats);
    }
    match verdict.action {
        Action::Forward { to, from, .. } => {
            let leaves_from = table.listeners.get(usize::from(from.0));
            let leaving = Ends {
                source: leaves_from.map_or(arrival.destination, |listener| listener.address),
                destination: to,
            };
            let message = Message::Edited {
                payload: datagram.payload,
                edits: &scratch.edits,
            };
            way_out.send(from, leaving, message, Some(arrival));
        }
        Action::Reply { .. } if !arrival.checksum_is_right() => {
            // A new message would get a right checksum whatever it was made from.
            way_out.stats.add(Counter::BadUdpChecksum, 1);
        }
        Action::Reply { to } => {
            let leaving = Ends {
                source: arrival.destination,
                destination: to,
            };
            let message = Message::New(&scratch.reply);
            way_out.send(datagram.listener, leaving, message, None);
        }
        Action::AwaitName if !arrival.checksum_is_right() => {
            // As for a reply: it leaves with a checksum of the kernel's.
            way_out.stats.add(Counter::BadUdpChecksum, 1);
            way_out.stats.outcome(Outcome::AwaitsName);
        }
        Action::AwaitName => way_out.wait(datagram, scratch.now_ns),
        Action::Drop | Action::Absorb => {}
    }
}

/// Handles one batch of a kernel socket and returns the number of datagrams. They leave by the kernel as well.
fn drain_kernel_socket(
    listener: usize,
    table: &Table,
    incoming: &mut ReceiveBatch,
    scratch: &mut Scratch,
    way_out: &mut WayOut,
) -> usize {
    let count = way_out.sockets[listener].receive(incoming, &way_out.stats);
    way_out.stats.add(Counter::RxKernel, count as u64);
    let index = ListenerIndex(listener as u16);
    for position in 0..count {
        let Some((payload, source)) = incoming.datagram(position) else {
            continue;
        };
        way_out
            .stats
            .add(Counter::RxKernelBytes, payload.len() as u64);
        let datagram = Datagram {
            payload,
            source,
            listener: index,
        };
        let mut reading = Reading::EMPTY;
        reading.read(table, &datagram, &scratch.memory);
        let verdict = decide(table, &datagram, &mut reading, scratch);
        if way_out.tap.is_on() {
            let look = Look {
                table,
                datagram: &datagram,
                message: &reading.message,
                verdict: &verdict,
                scratch,
                way: Way::Kernel,
                is_spoilt: false,
            };
            way_out.tap.offer(&look, &way_out.stats);
        }
        send_verdict_by_kernel(table, &datagram, &verdict, scratch, way_out);
    }
    count
}

/// Counts what was decided on a datagram, and does it with the kernel's help.
fn send_verdict_by_kernel(
    table: &Table,
    datagram: &Datagram<'_>,
    verdict: &Verdict,
    scratch: &Scratch,
    way_out: &mut WayOut,
) {
    way_out.count(table, verdict, datagram, scratch);
    match verdict.action {
        Action::Forward { to, from, .. } => {
            let message = Message::Edited {
                payload: datagram.payload,
                edits: &scratch.edits,
            };
            way_out.send_by_kernel(from, to, &message);
        }
        Action::Reply { to } => {
            way_out.send_by_kernel(datagram.listener, to, &Message::New(&scratch.reply));
        }
        Action::AwaitName => way_out.wait(datagram, scratch.now_ns),
        Action::Drop | Action::Absorb => {}
    }
}
