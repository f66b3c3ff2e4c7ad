//! The sending side of a worker: by AF_XDP where it can, else by the kernel, and what is counted on the way.

use std::{net::SocketAddr, sync::Arc};

use super::{Port, Transmit, recent_ways::RecentWays, waiting::Waiting};
use crate::{
    afxdp::{Sender, TxPool},
    balance::BackendIndex,
    control::{
        next_hops::{Miss, NextHops},
        resolver::Asker,
    },
    forward::{
        Action, Datagram, ListenerIndex, MessageClass, Outcome, Scratch, Seen, Table, Verdict,
    },
    frame::{self, Arrival, Ends, Message},
    kernel_socket::KernelSocket,
    stats::{Counter, Direction, Side, WorkerStats},
    sys::thread::monotonic_ns,
    tap::TapSide,
};
use arc_swap::{ArcSwap, Cache};

fn side(is_inside: bool) -> Side {
    match is_inside {
        true => Side::Backend,
        false => Side::Client,
    }
}

/// Whether what goes there goes to the inside, besides what goes to a known backend.
fn to_inside(table: &Table, outcome: Outcome, to: SocketAddr) -> bool {
    match outcome {
        Outcome::RequestToPool | Outcome::RequestToBackend => true,
        _ => table.is_inside(to.ip()),
    }
}

/// What counts that there is no way.
fn counter_of(miss: Miss) -> Counter {
    match miss {
        Miss::NoRoute => Counter::NextHopNoRoute,
        Miss::NoNeighbour => Counter::NextHopNoNeighbour,
        Miss::OtherInterface => Counter::NextHopOtherInterface,
        Miss::Local => Counter::NextHopLocal,
    }
}

/// The status of a response that we made: its first line is ours.
fn status_of(reply: &[u8]) -> Option<u16> {
    let digits: &[u8; 3] = reply.strip_prefix(b"SIP/2.0 ")?.first_chunk()?;
    Some(digits.iter().fold(0, |status, digit| {
        10 * status + u16::from(digit.wrapping_sub(b'0'))
    }))
}

/// The sending side of a worker.
pub(super) struct WayOut {
    pool: Option<TxPool>,
    senders: Vec<Option<Sender>>,
    next_hops: Option<Cache<Arc<ArcSwap<NextHops>>, Arc<NextHops>>>,
    /// Of the snapshot with this generation.
    recent_ways: RecentWays,
    generation: u64,
    pub sockets: Vec<KernelSocket>,
    pub stats: WorkerStats,
    identification: u16,
    asker: Asker,
    /// What waits for the name servers.
    pub waiting: Waiting,
    /// Who looks.
    pub tap: TapSide,
}

impl WayOut {
    pub fn new(
        transmit: Option<Transmit>,
        sockets: Vec<KernelSocket>,
        stats: WorkerStats,
        asker: Asker,
        tap: TapSide,
    ) -> Self {
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
            recent_ways: RecentWays::new(),
            generation: 0,
            sockets,
            stats,
            identification,
            asker,
            waiting: Waiting::default(),
            tap,
        }
    }

    /// Looks for a new snapshot of the next hops, and for those who look.
    pub fn begin(&mut self) {
        self.tap.begin();
        if let Some(next_hops) = &mut self.next_hops {
            let generation = next_hops.load().generation();
            if generation != self.generation {
                self.generation = generation;
                self.recent_ways.forget();
            }
        }
    }

    /// Counts a verdict, and has a name asked for that it needs.
    pub fn count(
        &self,
        table: &Table,
        verdict: &Verdict,
        datagram: &Datagram<'_>,
        scratch: &Scratch,
    ) {
        if let Some(question) = &scratch.question {
            // What cannot be asked now is asked when it comes again.
            let _ = self.asker.ask_owned(question);
        }
        if verdict.action == Action::AwaitName {
            // It is counted when it is decided on.
            return;
        }
        self.stats.outcome(verdict.outcome);
        self.stats.nat(verdict.nat);
        if let Some(reason) = scratch.invalid {
            self.stats.invalid(reason);
        }
        let from_backend = match verdict.outcome {
            Outcome::Response => table.backend_at(datagram.source),
            _ => None,
        };
        if let Some(seen) = &scratch.seen {
            self.count_message(table, verdict, datagram, scratch, seen, from_backend);
            if let Some(backend) = from_backend {
                self.stats.backend_response(backend, seen, scratch.now_ns);
            }
        }
        if let Action::Forward {
            backend: Some(backend),
            initial_invite,
            wants_answer,
            ..
        } = verdict.action
        {
            self.stats.backend_request(backend, wants_answer);
            if let (true, Some(seen)) = (initial_invite, &scratch.seen) {
                self.stats.backend_invite(backend, seen, scratch.now_ns);
            }
        }
    }

    /// Counts a message by direction, method and class, and the reply to it.
    fn count_message(
        &self,
        table: &Table,
        verdict: &Verdict,
        datagram: &Datagram<'_>,
        scratch: &Scratch,
        seen: &Seen,
        from_backend: Option<BackendIndex>,
    ) {
        let is_inside = match verdict.outcome {
            // Where these come from is what makes them what they are.
            Outcome::RequestToPool => false,
            Outcome::RequestOutbound => true,
            _ => from_backend.is_some() || table.is_inside(datagram.source.ip().to_canonical()),
        };
        let from = Some(side(is_inside));
        let to = match verdict.action {
            Action::Forward { backend, to, .. } => Some(side(
                backend.is_some() || to_inside(table, verdict.outcome, to),
            )),
            _ => None,
        };
        let Seen { method, class, .. } = *seen;
        self.stats.message(Direction { from, to }, method, class);
        if let Action::Reply { .. } = verdict.action
            && let Some(status) = status_of(&scratch.reply)
        {
            let made = Direction {
                from: None,
                to: from,
            };
            self.stats
                .message(made, method, MessageClass::of_status(status));
        }
    }

    /// Keeps a datagram until the name servers have answered.
    pub fn wait(&mut self, datagram: &Datagram<'_>, now_ns: u64) {
        if !self.waiting.keep(datagram, now_ns) {
            self.stats.outcome(Outcome::AwaitsName);
        }
    }

    /// Sends by AF_XDP where it can, else by the kernel. `arrival` is what the message was made from, if it arrived.
    pub fn send(
        &mut self,
        listener: ListenerIndex,
        ends: Ends,
        message: Message<'_>,
        arrival: Option<&Arrival<'_>>,
    ) {
        if self.send_by_af_xdp(&ends, &message, arrival).is_none() {
            self.send_by_kernel(listener, ends.destination, &message);
        }
    }

    /// `None`: the kernel has to do it, and the reason has been counted.
    fn send_by_af_xdp(
        &mut self,
        ends: &Ends,
        message: &Message<'_>,
        arrival: Option<&Arrival<'_>>,
    ) -> Option<()> {
        if ends.source.is_ipv4() != ends.destination.is_ipv4() {
            // The configuration keeps families apart; a forged token cannot pass its MAC. The kernel refuses and counts.
            return None;
        }
        let destination = ends.destination.ip();
        // By reference: a way is written in small pieces, and to move it in wide ones would wait for the store buffer.
        let hop = match self.recent_ways.get(destination) {
            Some(hop) => hop,
            None => match self.next_hops.as_mut()?.load().lookup(destination) {
                Ok(hop) => self.recent_ways.keep(destination, hop),
                Err(miss) => {
                    self.stats.add(counter_of(miss), 1);
                    return None;
                }
            },
        };
        let is_ipv4 = ends.source.is_ipv4();
        if frame::packet_len(is_ipv4, message.len()) > usize::from(hop.mtu) {
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
        self.identification = self.identification.wrapping_add(1);
        let memory = pool.memory(&mut chunk);
        let written = frame::write(memory, hop, ends, message, arrival, self.identification);
        let Some(frame_len) = written else {
            // The way's MTU is larger than a chunk of ours.
            pool.give_back(chunk);
            self.stats.add(Counter::LargerThanMtu, 1);
            return None;
        };
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

    pub fn send_by_kernel(
        &mut self,
        listener: ListenerIndex,
        to: SocketAddr,
        message: &Message<'_>,
    ) {
        if let Some(socket) = self.sockets.get_mut(usize::from(listener.0)) {
            socket.send(to, message.len(), &self.stats, |memory| {
                message.write(memory)
            });
        }
    }

    /// Makes everything that was queued in this turn leave.
    pub fn flush(&mut self) {
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
    pub fn write_gauges(&mut self, ports: &mut [Port]) {
        // The snapshot notes which neighbours are in use when they are looked up.
        self.recent_ways.forget();
        self.tap.write_gauges(&self.stats);
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
