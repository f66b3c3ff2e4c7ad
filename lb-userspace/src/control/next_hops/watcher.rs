//! The thread that keeps the snapshot current.

use std::{
    io::{self, PipeReader, PipeWriter},
    net::IpAddr,
    sync::{Arc, Condvar, Mutex, PoisonError},
    thread::JoinHandle,
    time::{Duration, Instant},
};

use anyhow::{Context, bail};
use arc_swap::ArcSwap;
use rustix::event::{PollFd, PollFlags, Timespec, poll};

use super::{
    netlink::{Events, Requests},
    table::{Neighbours, NextHops, Routes},
};
use crate::log_limit::LogLimit;

/// Changes come in bursts (a link that goes up, a routing daemon that starts): wait this long for more.
const GATHER: Duration = Duration::from_millis(5);
/// At most one part in `1 + REST_FACTOR` of a core goes into dumping, however large the tables and fast the changes.
const REST_FACTOR: u32 = 4;
/// Pause after a dump that failed.
const RETRY: Duration = Duration::from_secs(1);
/// How often neighbours in use are looked after. Shorter than the kernel's 5 s between "stale and used" and "probe".
const KEEP_FRESH_INTERVAL: Duration = Duration::from_secs(3);
/// Questions asked in one round: a bound on the ARP and neighbour discovery traffic that a round can cause.
const MAX_QUESTIONS: usize = 4096;

/// Keeps a [`NextHops`] snapshot current until dropped.
pub struct Watcher {
    shared: Arc<Shared>,
    /// Closed by dropping it, which wakes the thread.
    stop: Option<PipeWriter>,
    thread: Option<JoinHandle<()>>,
}

struct Shared {
    /// Whose next hops are resolved without waiting for traffic.
    keep_fresh: Mutex<Vec<IpAddr>>,
    table: Arc<ArcSwap<NextHops>>,
    published: Mutex<u64>,
    changed: Condvar,
}

impl Watcher {
    /// Reads routes and neighbours of the network namespace of the calling thread and starts to follow them.
    /// The first snapshot is there when this returns.
    ///
    /// `interfaces` are the names of our interfaces, in the order of [`crate::frame::NextHop::port`]. They may come and go.
    /// The neighbours on the way to `keep_fresh` (the backends) and all gateways behind our interfaces are resolved
    /// without waiting for traffic.
    ///
    /// # Errors
    ///
    /// When netlink does not work, or an interface does not exist.
    pub fn start(interfaces: &[String], keep_fresh: Vec<IpAddr>) -> anyhow::Result<Self> {
        if interfaces.len() > 256 {
            bail!("{} interfaces; at most 256 are possible", interfaces.len());
        }
        // Subscribe before the first dump: what changes in between is then dumped again, not missed.
        let events =
            Events::open().context("cannot subscribe to changes of routes and neighbours")?;
        let requests = Requests::open().context("cannot open a netlink socket")?;
        let shared = Arc::new(Shared {
            keep_fresh: Mutex::new(keep_fresh),
            table: Arc::new(ArcSwap::default()),
            published: Mutex::new(0),
            changed: Condvar::new(),
        });
        let mut mirror = Mirror {
            interfaces: interfaces.to_vec(),
            requests,
            shared: shared.clone(),
            routes: Pace::default(),
            neighbours: Pace::default(),
            may_ask: true,
        };
        mirror.check_host()?;
        mirror
            .read_neighbours()
            .context("cannot read the kernel's neighbours")?;
        mirror
            .read_routes()
            .context("cannot read the kernel's routes")?;
        let (wake, stop) = io::pipe().context("cannot make a pipe")?;
        let thread = std::thread::Builder::new()
            .name("next-hops".into())
            .spawn(move || mirror.run(events, &wake))
            .context("cannot start the thread that follows routes and neighbours")?;
        Ok(Self {
            shared,
            stop: Some(stop),
            thread: Some(thread),
        })
    }

    /// Resolves the neighbours on the way to these addresses from now on, within a few seconds, and no longer the others.
    pub fn keep_fresh(&self, addresses: Vec<IpAddr>) {
        *self.shared.keep_fresh() = addresses;
    }

    /// Where the newest snapshot always is.
    pub fn table(&self) -> Arc<ArcSwap<NextHops>> {
        self.shared.table.clone()
    }

    /// Waits until a snapshot satisfies `condition`; false when none did within `timeout`.
    pub fn wait_for(
        &self,
        timeout: Duration,
        mut condition: impl FnMut(&NextHops) -> bool,
    ) -> bool {
        let deadline = Instant::now() + timeout;
        let mut published = self
            .shared
            .published
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        loop {
            if condition(&self.shared.table.load()) {
                return true;
            }
            let Some(left) = deadline.checked_duration_since(Instant::now()) else {
                return false;
            };
            let woken = self.shared.changed.wait_timeout(published, left);
            published = woken.unwrap_or_else(PoisonError::into_inner).0;
        }
    }
}

impl Drop for Watcher {
    fn drop(&mut self) {
        self.stop = None;
        if let Some(thread) = self.thread.take() {
            // A panic in the thread has been printed already; the last snapshot stays valid.
            let _ = thread.join();
        }
    }
}

impl std::fmt::Debug for Watcher {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let generation = self.shared.table.load().generation();
        formatter
            .debug_struct("Watcher")
            .field("generation", &generation)
            .finish_non_exhaustive()
    }
}

impl Shared {
    fn keep_fresh(&self) -> std::sync::MutexGuard<'_, Vec<IpAddr>> {
        self.keep_fresh
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }

    fn publish(&self, routes: Arc<Routes>, neighbours: Arc<Neighbours>) {
        let mut published = self
            .published
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        *published += 1;
        self.table
            .store(Arc::new(NextHops::new(*published, routes, neighbours)));
        self.changed.notify_all();
    }
}

/// When to read a part of the tables again.
#[derive(Debug, Default)]
struct Pace {
    changed_at: Option<Instant>,
    not_before: Option<Instant>,
}

impl Pace {
    fn note_change(&mut self, now: Instant) {
        self.changed_at.get_or_insert(now);
    }

    /// When to read, if there is something to read.
    fn due(&self) -> Option<Instant> {
        let gathered = self.changed_at? + GATHER;
        Some(
            self.not_before
                .map_or(gathered, |not_before| gathered.max(not_before)),
        )
    }

    /// Accounts for a read that began at `began` and is over now.
    fn done(&mut self, began: Instant, now: Instant) {
        self.changed_at = None;
        self.not_before = Some(now + (now - began) * REST_FACTOR);
    }

    fn failed(&mut self, now: Instant) {
        self.note_change(now);
        self.not_before = Some(now + RETRY);
    }
}

struct Mirror {
    interfaces: Vec<String>,
    requests: Requests,
    shared: Arc<Shared>,
    routes: Pace,
    neighbours: Pace,
    /// False once the kernel has refused for want of CAP_NET_ADMIN.
    may_ask: bool,
}

impl Mirror {
    fn check_host(&mut self) -> anyhow::Result<()> {
        let links = self
            .requests
            .links()
            .context("cannot read the kernel's links")?;
        for interface in &self.interfaces {
            if !links.iter().any(|link| link.name == *interface) {
                bail!("there is no interface {interface:?}; `ip link` lists those that there are");
            }
        }
        // A kernel without policy routing does not know the request: no rules then.
        let unusual_rules = self.requests.unusual_rules().unwrap_or(0);
        if unusual_rules > 0 {
            log::warn!(
                "{unusual_rules} policy rules beyond local, main and default are not followed by AF_XDP: \
                 next hops come from these three tables alone (`ip rule` shows them)"
            );
        }
        Ok(())
    }

    fn run(mut self, mut events: Events, wake: &PipeReader) {
        let mut look_after = Instant::now();
        loop {
            let now = Instant::now();
            if now >= look_after {
                self.ask_neighbours();
                look_after = now + KEEP_FRESH_INTERVAL;
            }
            if self.neighbours.due().is_some_and(|due| due <= now) {
                report("neighbours", self.read_neighbours());
            }
            if self.routes.due().is_some_and(|due| due <= now) {
                report("routes", self.read_routes());
                // A new route may lead over a gateway that nobody has asked for yet.
                self.ask_neighbours();
            }
            let next = [Some(look_after), self.neighbours.due(), self.routes.due()]
                .into_iter()
                .flatten()
                .min();
            let mut files = [
                PollFd::new(&events, PollFlags::IN),
                PollFd::new(wake, PollFlags::IN | PollFlags::HUP),
            ];
            let timeout = next.map(|next| timespec(next.saturating_duration_since(Instant::now())));
            // The result says nothing that the flags do not say: on an error (a signal) both are empty.
            let polled = poll(&mut files, timeout.as_ref());
            if polled.is_ok() && !files[1].revents().is_empty() {
                return;
            }
            let now = Instant::now();
            match events.read() {
                Ok(changes) => {
                    if changes.routes {
                        self.routes.note_change(now);
                    }
                    if changes.neighbours {
                        self.neighbours.note_change(now);
                    }
                }
                // Not seen in practice. Read everything from time to time instead.
                Err(error) => {
                    TROUBLE.log(
                        log::Level::Warn,
                        format_args!("cannot read changes of routes and neighbours: {error}"),
                    );
                    self.routes.failed(now);
                    self.neighbours.failed(now);
                    std::thread::park_timeout(RETRY);
                }
            }
        }
    }

    fn read_routes(&mut self) -> io::Result<()> {
        let began = Instant::now();
        let read = self
            .requests
            .links()
            .and_then(|links| Ok((links, self.requests.routes()?)));
        let (links, routes, outcome) = match read {
            Ok((links, routes)) => (links, routes, Ok(())),
            // With a part of the routes packets would take wrong ways; without any they all go through the kernel.
            Err(error) if error.kind() == io::ErrorKind::OutOfMemory => {
                (Vec::new(), Vec::new(), Err(error))
            }
            Err(error) => {
                self.routes.failed(Instant::now());
                return Err(error);
            }
        };
        let routes = Routes::new(&self.interfaces, &links, routes);
        let neighbours = self.shared.table.load().neighbours().clone();
        self.shared.publish(Arc::new(routes), neighbours);
        self.routes.done(began, Instant::now());
        outcome
    }

    fn read_neighbours(&mut self) -> io::Result<()> {
        let began = Instant::now();
        let (neighbours, outcome) = match self.requests.neighbours() {
            Ok(neighbours) => (neighbours, Ok(())),
            Err(error) if error.kind() == io::ErrorKind::OutOfMemory => (Vec::new(), Err(error)),
            Err(error) => {
                self.neighbours.failed(Instant::now());
                return Err(error);
            }
        };
        let current = self.shared.table.load();
        let neighbours = Neighbours::new(&neighbours, current.neighbours());
        self.shared
            .publish(current.routes().clone(), Arc::new(neighbours));
        self.neighbours.done(began, Instant::now());
        outcome
    }

    fn ask_neighbours(&mut self) {
        if !self.may_ask {
            return;
        }
        let questions = self
            .shared
            .table
            .load()
            .wants_asking(&self.shared.keep_fresh());
        for (link, address) in questions.into_iter().take(MAX_QUESTIONS) {
            match self.requests.ask(link, address) {
                Ok(()) => {}
                Err(error) if error.kind() == io::ErrorKind::PermissionDenied => {
                    log::warn!(
                        "cannot keep neighbours fresh without CAP_NET_ADMIN: traffic to a neighbour that the kernel \
                         has forgotten goes through the kernel socket until it is known again"
                    );
                    self.may_ask = false;
                    return;
                }
                // The interface is down or gone: the change is on its way as an event.
                Err(error) => log::debug!("cannot ask for the MAC address of {address}: {error}"),
            }
        }
    }
}

fn report(what: &str, outcome: io::Result<()>) {
    if let Err(error) = outcome {
        TROUBLE.log(
            log::Level::Warn,
            format_args!("cannot read the kernel's {what}: {error}"),
        );
    }
}

/// What goes wrong with netlink is tried again soon, and goes wrong again.
static TROUBLE: LogLimit = LogLimit::new();

fn timespec(duration: Duration) -> Timespec {
    Timespec {
        tv_sec: duration.as_secs() as i64,
        tv_nsec: i64::from(duration.subsec_nanos()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn changes_are_gathered_and_reads_leave_time_between_them() {
        let start = Instant::now();
        let at = |ms| start + Duration::from_millis(ms);
        let mut pace = Pace::default();
        assert_eq!(pace.due(), None);
        pace.note_change(at(0));
        pace.note_change(at(4));
        assert_eq!(pace.due(), Some(at(5)), "the first change counts");
        pace.done(at(5), at(55));
        assert_eq!(pace.due(), None);
        pace.note_change(at(60));
        assert_eq!(
            pace.due(),
            Some(at(255)),
            "50 ms of reading buy 200 ms of rest"
        );
        pace.note_change(at(300));
        assert_eq!(pace.due(), Some(at(255)));
        pace.failed(at(300));
        assert_eq!(pace.due(), Some(at(1300)));
    }
}
