//! One core, one queue, one loop.
//!
//! A turn takes a batch of frames from each AF_XDP socket and a batch of datagrams from each kernel socket, puts every
//! one through [`forward`], and sends what it says. Without work it sleeps in `poll`. Tables are looked at anew between
//! batches; nothing in a turn allocates, locks or logs, and time is read once.

use std::{
    net::SocketAddr,
    os::fd::AsFd,
    sync::{
        Arc,
        atomic::{AtomicU8, AtomicU64, Ordering},
    },
    time::Duration,
};

use arc_swap::{ArcSwap, Cache};
use crossbeam_utils::CachePadded;
use lb_common::decode::{Decoded, Udp, decode};

use crate::{
    afxdp::{Receiver, Sender, TxPool, frame, program::Gates},
    control::next_hops::{Miss, NextHop, NextHops},
    forward::{
        Action, Datagram, Edits, Listener, ListenerIndex, Memory, Outcome, Scratch, Table, Verdict,
        forward,
    },
    kernel_socket::KernelSocket,
    stats::{Counter, WorkerStats},
    sys::{
        mmsg::ReceiveBatch,
        net::{PollSet, wait_readable},
        thread::monotonic_ns,
    },
};

/// Longest sleep. Well below `datapath.stale_after`, since a sleeping worker does not beat.
const IDLE: Duration = Duration::from_millis(40);
/// Turns with AF_XDP traffic after which the kernel sockets are looked at without asking `poll` first.
const TURNS_PER_KERNEL_LOOK: u32 = 8;
/// How often levels and the sockets' own counters are written to the statistics.
const GAUGES_EVERY_NS: u64 = 100_000_000;
/// Parts in which the pins are looked through, one each time that levels are written: all of them within two seconds.
const SWEEP_PARTS: usize = 16;
/// Turns without work after which a worker that has to stop is done.
const QUIET_TURNS: u32 = 2;
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
}

/// Counters of one batch, written to the statistics at its end.
#[derive(Default)]
struct Arrived {
    frames: u64,
    bytes: u64,
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
        let mut incoming = ReceiveBatch::default();
        let mut scratch = Scratch::new();
        scratch.memory = Memory::new(pins);
        let mut pin_counts = vec![0; stats.backends()];
        let mut way_out = WayOut::new(transmit, sockets, stats);

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
        let mut quiet = 0;
        let mut stop_by = None;
        let mut gauges_at = 0;
        loop {
            let now = monotonic_ns();
            beat(&ports, now);
            if stop_by.is_none() && shared.must_stop() {
                stop_by = Some(now + DRAIN_NS);
            }
            let table: &Table = tables.load();
            scratch.now_ns = now;
            way_out.begin();

            let mut work = 0;
            for port in &mut ports {
                work += drain_rx_ring(port, table, &mut scratch, &mut way_out);
            }
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
            // At the end of a turn: what is in an RX ring now is a backlog.
            if now >= gauges_at {
                way_out.write_gauges(&mut ports);
                gauges_at = now + GAUGES_EVERY_NS;
                let pins = &mut scratch.memory.pins;
                if pins.sweep(pins.capacity() / SWEEP_PARTS, now, &mut pin_counts) {
                    way_out.stats.backend_pins(&pin_counts);
                    pin_counts.fill(0);
                }
            }
            way_out.stats.add(
                if work == 0 {
                    Counter::PollIdle
                } else {
                    Counter::Batches
                },
                1,
            );

            if work > 0 {
                quiet = 0;
                if stop_by.is_none_or(|limit| now < limit) {
                    continue;
                }
            }
            if let Some(limit) = stop_by {
                quiet += 1;
                if quiet > QUIET_TURNS || now >= limit {
                    break;
                }
            }
            let patience = if stop_by.is_some() {
                Duration::from_millis(2)
            } else {
                IDLE
            };
            // An error here (no memory) leaves nothing ready, and the next turn tries again.
            if wait_readable(&mut poll, patience).is_err() {
                poll.clear_ready();
            }
        }
        way_out.write_gauges(&mut ports);
    }
}

/// Handles one batch of an RX ring and returns the number of frames.
fn drain_rx_ring(
    port: &mut Port,
    table: &Table,
    scratch: &mut Scratch,
    way_out: &mut WayOut,
) -> usize {
    let count = port.receiver.receive();
    if count == 0 {
        return 0;
    }
    let mut arrived = Arrived::default();
    for position in 0..count {
        let bytes = port.receiver.frame(position);
        arrived.frames += 1;
        arrived.bytes += bytes.len() as u64;
        match decode(bytes) {
            Decoded::Udp(udp) => handle_frame(bytes, &udp, table, scratch, way_out),
            Decoded::NotOurs(_) => way_out.stats.add(Counter::FrameNotOurs, 1),
            Decoded::Broken(_) => way_out.stats.add(Counter::FrameBroken, 1),
        }
    }
    if port.receiver.recycle() {
        way_out.stats.add(Counter::FillWakeup, 1);
    }
    way_out.stats.add(Counter::RxAfXdp, arrived.frames);
    way_out.stats.add(Counter::RxAfXdpBytes, arrived.bytes);
    count
}

fn handle_frame(
    bytes: &[u8],
    udp: &Udp,
    table: &Table,
    scratch: &mut Scratch,
    way_out: &mut WayOut,
) {
    let ends = frame::ends(udp);
    let payload = &bytes[udp.payload_offset..][..udp.payload_len];
    let Some(listener) = find_listener(&table.listeners, ends.destination) else {
        // Between the map of VIPs and the table of a reload.
        way_out.stats.add(Counter::FrameNotOurs, 1);
        return;
    };
    let datagram = Datagram {
        payload,
        source: ends.source,
        listener,
    };
    let verdict = forward(table, &datagram, scratch);
    way_out.count(&verdict, scratch);
    way_out.count_response(table, &verdict, &datagram);
    match verdict.action {
        Action::Forward {
            to,
            backend,
            initial_invite,
            wants_answer,
        } => {
            way_out.count_backend(backend, initial_invite, wants_answer);
            let leaving = frame::Ends {
                source: ends.destination,
                destination: to,
            };
            let message = Message::Edited {
                payload,
                edits: &scratch.edits,
            };
            way_out.send(listener, leaving, message, Some((udp, &ends)));
        }
        Action::Reply { .. } if !frame::checksum_is_right(udp, &ends, payload) => {
            // A new message would get a right checksum whatever it was made from.
            way_out.stats.add(Counter::BadUdpChecksum, 1);
        }
        Action::Reply { to } => {
            let leaving = frame::Ends {
                source: ends.destination,
                destination: to,
            };
            way_out.send(listener, leaving, Message::New(&scratch.reply), None);
        }
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
        let verdict = forward(table, &datagram, scratch);
        way_out.count(&verdict, scratch);
        way_out.count_response(table, &verdict, &datagram);
        match verdict.action {
            Action::Forward {
                to,
                backend,
                initial_invite,
                wants_answer,
            } => {
                way_out.count_backend(backend, initial_invite, wants_answer);
                way_out.send_by_kernel(
                    index,
                    to,
                    &Message::Edited {
                        payload,
                        edits: &scratch.edits,
                    },
                );
            }
            Action::Reply { to } => {
                way_out.send_by_kernel(index, to, &Message::New(&scratch.reply))
            }
            Action::Drop | Action::Absorb => {}
        }
    }
    count
}

/// The listener that a datagram was sent to. There are few: a scan is faster than a hash.
fn find_listener(listeners: &[Listener], destination: SocketAddr) -> Option<ListenerIndex> {
    let index = listeners
        .iter()
        .position(|listener| listener.address == destination)?;
    Some(ListenerIndex(index as u16))
}

/// What is to be sent.
enum Message<'a> {
    /// What arrived, changed.
    Edited { payload: &'a [u8], edits: &'a Edits },
    /// Made by us.
    New(&'a [u8]),
}

impl Message<'_> {
    fn len(&self) -> usize {
        match self {
            Self::Edited { payload, edits } => edits.output_len(payload.len()),
            Self::New(bytes) => bytes.len(),
        }
    }

    /// Writes the message to the start of `memory`; `None` when there is not enough of it.
    fn write(&self, memory: &mut [u8]) -> Option<usize> {
        match self {
            Self::Edited { payload, edits } => edits.apply(payload, memory),
            Self::New(bytes) => {
                memory.get_mut(..bytes.len())?.copy_from_slice(bytes);
                Some(bytes.len())
            }
        }
    }
}

/// The sending side of a worker.
struct WayOut {
    pool: Option<TxPool>,
    senders: Vec<Option<Sender>>,
    next_hops: Option<Cache<Arc<ArcSwap<NextHops>>, Arc<NextHops>>>,
    sockets: Vec<KernelSocket>,
    stats: WorkerStats,
    identification: u16,
}

impl WayOut {
    fn new(transmit: Option<Transmit>, sockets: Vec<KernelSocket>, stats: WorkerStats) -> Self {
        let (pool, senders, next_hops) = match transmit {
            Some(transmit) => (
                Some(transmit.pool),
                transmit.senders,
                Some(Cache::new(transmit.next_hops)),
            ),
            None => (None, Vec::new(), None),
        };
        // Workers start apart from each other, so that what two of them send to one host has different numbers for longer.
        let identification = monotonic_ns() as u16;
        Self {
            pool,
            senders,
            next_hops,
            sockets,
            stats,
            identification,
        }
    }

    /// Looks for a new snapshot of the next hops.
    fn begin(&mut self) {
        if let Some(next_hops) = &mut self.next_hops {
            next_hops.load();
        }
    }

    fn count(&self, verdict: &Verdict, scratch: &Scratch) {
        self.stats.outcome(verdict.outcome);
        self.stats.nat(verdict.nat);
        if let Some(reason) = scratch.invalid {
            self.stats.invalid(reason);
        }
    }

    fn count_response(&self, table: &Table, verdict: &Verdict, datagram: &Datagram<'_>) {
        if verdict.outcome == Outcome::Response
            && let Some(backend) = table.backend_at(datagram.source)
        {
            self.stats.backend_response(backend);
        }
    }

    fn count_backend(
        &self,
        backend: Option<crate::balance::BackendIndex>,
        initial_invite: bool,
        wants_answer: bool,
    ) {
        if let Some(backend) = backend {
            self.stats.backend_request(backend, wants_answer);
            if initial_invite {
                self.stats.backend_invite(backend);
            }
        }
    }

    /// Sends by AF_XDP where it can, else by the kernel. `arrival` is what the message was made from, if it arrived.
    fn send(
        &mut self,
        listener: ListenerIndex,
        ends: frame::Ends,
        message: Message<'_>,
        arrival: Option<(&Udp, &frame::Ends)>,
    ) {
        if self.send_by_af_xdp(&ends, &message, arrival).is_none() {
            self.send_by_kernel(listener, ends.destination, &message);
        }
    }

    /// `None`: the kernel has to do it, and the reason has been counted.
    fn send_by_af_xdp(
        &mut self,
        ends: &frame::Ends,
        message: &Message<'_>,
        arrival: Option<(&Udp, &frame::Ends)>,
    ) -> Option<()> {
        let hop = self.next_hop(ends)?;
        let is_ipv4 = ends.source.is_ipv4();
        let message_len = message.len();
        if frame::packet_len(is_ipv4, message_len) > usize::from(hop.mtu) {
            self.stats.add(Counter::LargerThanMtu, 1);
            return None;
        }
        let Some(sender) = self
            .senders
            .get_mut(usize::from(hop.port))
            .and_then(Option::as_mut)
        else {
            self.stats.add(Counter::NextHopOtherInterface, 1);
            return None;
        };
        let pool = self.pool.as_mut()?;
        let Some(mut chunk) = pool.take() else {
            self.stats.add(Counter::TxNoChunk, 1);
            return None;
        };
        let headers_len = frame::headers_len(&hop, is_ipv4);
        let memory = pool.memory(&mut chunk);
        let Some(written) = memory
            .get_mut(headers_len..)
            .and_then(|memory| message.write(memory))
        else {
            // The way's MTU is larger than a chunk of ours.
            pool.give_back(chunk);
            self.stats.add(Counter::LargerThanMtu, 1);
            return None;
        };
        let frame_len = headers_len + written;
        let checksum = match (message, arrival) {
            (Message::Edited { payload, edits }, Some((udp, arrived))) => {
                let difference = edits.checksum_difference(payload);
                frame::updated_checksum(udp, arrived, ends, written, difference)
            }
            _ => frame::new_checksum(ends, &memory[headers_len..frame_len]),
        };
        self.identification = self.identification.wrapping_add(1);
        frame::write_headers(
            &mut memory[..frame_len],
            &hop,
            ends,
            checksum,
            self.identification,
        );
        pool.set_len(&mut chunk, frame_len);
        match sender.enqueue(chunk) {
            Ok(()) => {
                self.stats.add(Counter::TxAfXdpBytes, frame_len as u64);
                Some(())
            }
            Err(chunk) => {
                pool.give_back(chunk);
                self.stats.add(Counter::TxRingFull, 1);
                // Lost as on a full wire; the kernel would queue it behind the same device.
                Some(())
            }
        }
    }

    fn next_hop(&mut self, ends: &frame::Ends) -> Option<NextHop> {
        if ends.source.is_ipv4() != ends.destination.is_ipv4() {
            // The configuration keeps families apart; a forged token cannot pass its MAC. The kernel refuses and counts.
            return None;
        }
        let counter = match self
            .next_hops
            .as_mut()?
            .load()
            .lookup(ends.destination.ip())
        {
            Ok(hop) => return Some(hop),
            Err(Miss::NoRoute) => Counter::NextHopNoRoute,
            Err(Miss::NoNeighbour) => Counter::NextHopNoNeighbour,
            Err(Miss::OtherInterface) => Counter::NextHopOtherInterface,
            Err(Miss::Local) => Counter::NextHopLocal,
        };
        self.stats.add(counter, 1);
        None
    }

    fn send_by_kernel(&mut self, listener: ListenerIndex, to: SocketAddr, message: &Message<'_>) {
        if let Some(socket) = self.sockets.get_mut(usize::from(listener.0)) {
            socket.send(to, message.len(), &self.stats, |memory| {
                message.write(memory)
            });
        }
    }

    /// Makes everything that was queued in this turn leave.
    fn flush(&mut self) {
        if let Some(pool) = &mut self.pool {
            for sender in self.senders.iter_mut().flatten() {
                let flushed = sender.flush(pool);
                self.stats.add(Counter::TxAfXdp, flushed.queued);
                self.stats.add(Counter::TxRingFull, flushed.ring_full);
                self.stats.add(Counter::TxKick, flushed.kicks);
                self.stats.add(Counter::TxKickAgain, flushed.again);
            }
        }
        for socket in &mut self.sockets {
            socket.flush(&self.stats);
        }
    }

    /// Writes where the chunks are, and what the sockets themselves count.
    fn write_gauges(&mut self, ports: &mut [Port]) {
        let Some(pool) = &mut self.pool else { return };
        let (mut fill, mut rx) = (0, 0);
        let mut sums = [0u64; 6];
        for port in ports {
            let chunks = port.receiver.chunks();
            fill += u64::from(chunks.0);
            rx += u64::from(chunks.1);
            if let Ok(statistics) = port.receiver.statistics() {
                let values = [
                    statistics.rx_dropped(),
                    statistics.rx_ring_full(),
                    statistics.rx_fill_ring_empty_descs(),
                    statistics.tx_ring_empty_descs(),
                    statistics.rx_invalid_descs(),
                    statistics.tx_invalid_descs(),
                ];
                sums.iter_mut()
                    .zip(values)
                    .for_each(|(sum, value)| *sum += value);
            }
        }
        let tx: u64 = self
            .senders
            .iter()
            .flatten()
            .map(|sender| u64::from(sender.chunks()))
            .sum();
        let levels = [
            (Counter::FramesTotal, u64::from(pool.total())),
            (Counter::FramesFree, pool.free() as u64),
            (Counter::FramesInFill, fill),
            (Counter::FramesInRx, rx),
            (Counter::FramesInTx, tx),
            (Counter::XskRxDropped, sums[0]),
            (Counter::XskRxRingFull, sums[1]),
            (Counter::XskFillRingEmpty, sums[2]),
            (Counter::XskTxRingEmpty, sums[3]),
            (Counter::XskRxInvalid, sums[4]),
            (Counter::XskTxInvalid, sums[5]),
        ];
        for (counter, value) in levels {
            self.stats.set(counter, value);
        }
    }
}
