//! What everybody has counted, and whether it agrees.

use std::time::Duration;

use anyhow::Result;
use siplb_lab::{
    Siplb,
    siplb::Totals,
    sipp::{Sipp, Statistics, Traffic},
};

/// Everybody whose books are read.
pub struct Parties<'a> {
    /// In the middle.
    pub siplb: &'a Siplb,
    /// They place calls.
    pub callers: Vec<Sipp>,
    /// They take calls.
    pub servers: Vec<Sipp>,
}

/// All books at one time.
pub struct Sample {
    /// Since the first call.
    pub at: Duration,
    /// Callers' books.
    pub calls: Statistics,
    /// siplb's own.
    pub totals: Totals,
    /// A row for each of siplb's workers.
    pub workers: Vec<WorkerRow>,
}

/// One worker and its receive queue.
#[derive(Clone, Debug)]
pub struct WorkerRow {
    /// CPU that it is pinned to.
    pub cpu: usize,
    /// Receive queue.
    pub queue: u32,
    /// How its datagrams come in, in words.
    pub data_path: String,
    /// Frames that XDP has steered to it; `None` without XDP.
    pub steered: Option<u64>,
    /// Datagrams that it has received, over AF_XDP and over the kernel.
    pub received: [u64; 2],
    /// Datagrams that it has sent, over AF_XDP and over the kernel.
    pub sent: [u64; 2],
}

impl Sample {
    /// Reads all books.
    ///
    /// # Errors
    ///
    /// When siplb's cannot be read.
    pub fn take(parties: &Parties<'_>, at: Duration) -> Result<Self> {
        // SIPp writes its first line after a second.
        let calls: Vec<Statistics> = parties
            .callers
            .iter()
            .filter_map(|caller| caller.statistics().ok())
            .collect();
        let snapshot = parties.siplb.statistics()?;
        let xdp = parties.siplb.xdp().ok();
        let workers = snapshot.workers.iter().map(|worker| WorkerRow {
            cpu: worker.info.cpu,
            queue: worker.info.queue,
            data_path: worker.info.data_path.clone(),
            steered: xdp
                .as_ref()
                .map(|xdp| xdp.of_queue(worker.info.queue, "steered")),
            received: ["rx_af_xdp", "rx_kernel"].map(|name| worker.counter(name)),
            sent: ["tx_af_xdp", "tx_kernel"].map(|name| worker.counter(name)),
        });
        Ok(Self {
            at,
            calls: Statistics::sum(&calls),
            workers: workers.collect(),
            totals: Totals::of(&snapshot),
        })
    }
}

impl Parties<'_> {
    /// Whether a caller is not done yet.
    pub fn are_calling(&mut self) -> bool {
        self.callers
            .iter_mut()
            .any(|caller| caller.process().is_running())
    }

    /// Prints what everybody has counted in the end, and returns whether it adds up.
    ///
    /// # Errors
    ///
    /// When books cannot be read.
    pub fn summary(&mut self, queues: u32) -> Result<bool> {
        let callers: Vec<Statistics> =
            collect(&mut self.callers, |caller| caller.finish(Duration::ZERO))?;
        let caller_traffic = Traffic::sum(collect(&mut self.callers, |caller| caller.traffic())?);
        // Servers write their books every second: wait for the line that has everything.
        let siplb = self
            .siplb
            .settled("all datagrams to be counted", |totals| {
                totals.received() == totals.decided() && totals.frames().0 == totals.frames().1
            })?;
        let served = self.settled_servers(&siplb)?;
        let calls = Statistics::sum(&callers);
        let server_calls: u64 = served.iter().map(|(books, _)| books.created).sum();
        let server_traffic = Traffic::sum(served.iter().map(|(_, traffic)| *traffic));
        let invites: u64 = siplb.backends.values().map(|(_, invites)| invites).sum();

        println!("\nSummary");
        let mut sums = Sums { good: true };
        sums.line(
            "calls placed, answered and ended",
            calls.created,
            "succeeded",
            calls.successful,
        );
        sums.line(
            "calls placed by the callers",
            calls.created,
            "taken by the servers",
            server_calls,
        );
        sums.line(
            "INVITEs sent by the callers",
            caller_traffic.invites,
            "handed out by siplb",
            invites,
        );
        for ((name, (_, invites)), (_, traffic)) in siplb.backends.iter().zip(&served) {
            sums.line(
                &format!("INVITEs to {name} by siplb"),
                *invites,
                "received there",
                traffic.invites,
            );
        }
        let sent = caller_traffic.sent + server_traffic.sent;
        sums.line(
            "messages sent by SIPp",
            sent,
            "received by siplb",
            siplb.received(),
        );
        let received = caller_traffic.received + server_traffic.received;
        sums.line(
            "messages sent by siplb",
            siplb.sent(),
            "received by SIPp",
            received,
        );
        if siplb.counter("rx_af_xdp") > 0 {
            let xdp = self.siplb.xdp()?;
            let workers = self.siplb.statistics()?.workers;
            for worker in workers.iter().filter(|worker| worker.info.queue < queues) {
                let queue = worker.info.queue;
                sums.line(
                    &format!("queue {queue}: steered by XDP"),
                    xdp.of_queue(queue, "steered"),
                    "received by its worker",
                    worker.counter("rx_af_xdp"),
                );
            }
            let (accounted, total) = siplb.frames();
            sums.line("frames of memory in all", total, "accounted for", accounted);
        }
        println!(
            "  {} retransmissions, {} calls failed{}",
            calls.retransmissions,
            calls.failed,
            match sums.good {
                true => "; everything adds up",
                false => "; NOT everything adds up",
            }
        );
        Ok(sums.good && calls.failed == 0)
    }

    /// The servers' books once they have as many messages as siplb has handed them, or as they are after seconds.
    fn settled_servers(&mut self, siplb: &Totals) -> Result<Vec<(Statistics, Traffic)>> {
        let requests: u64 = siplb.backends.values().map(|(requests, _)| requests).sum();
        let servers = &self.servers;
        let read = || -> Result<Vec<(Statistics, Traffic)>> {
            servers
                .iter()
                .map(|server| Ok((server.statistics()?, server.traffic()?)))
                .collect()
        };
        let complete = siplb_lab::until("the servers' books", Duration::from_secs(3), || {
            let books = read().ok()?;
            let received: u64 = books.iter().map(|(_, traffic)| traffic.received).sum();
            let idle = books.iter().all(|(books, _)| books.current == 0);
            (received >= requests && idle).then_some(books)
        });
        complete.or_else(|_| read())
    }
}

fn collect<T>(sipps: &mut [Sipp], read: impl Fn(&mut Sipp) -> Result<T>) -> Result<Vec<T>> {
    sipps.iter_mut().map(read).collect()
}

struct Sums {
    good: bool,
}

impl Sums {
    fn line(&mut self, what: &str, left: u64, other: &str, right: u64) {
        let mark = if left == right { "=" } else { "≠" };
        self.good &= left == right;
        println!("  {what:<34} {left:>9}  {mark} {right:>9}  {other}");
    }
}
