//! Probes: OPTIONS to every backend, by the clock, from one thread that never waits for any of them.
//!
//! Each backend has a connected UDP socket of its own, so that an ICMP port unreachable from its host is heard of at
//! once. Probes leave from the node's unicast address, never from the VIP: that is on `lo` of every node of the anycast
//! group, and an answer to it could arrive at another one. A backend must answer to the address and port that the probe
//! came from, and from those that it went to; anything else is silence.
//!
//! Owned here: when to probe, sockets, what is an answer. Left to others: what answers mean
//! ([`crate::balance::health`]), and what becomes of the calls.

mod backend;
mod message;

use std::{
    collections::BTreeMap,
    fs::File,
    io::Read,
    net::{IpAddr, SocketAddr},
    os::fd::OwnedFd,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    thread::JoinHandle,
    time::Duration,
};

use anyhow::{Context, Result};
use rustix::event::{EventfdFlags, Timespec, epoll, eventfd};

use self::{
    backend::{Backend, Environment},
    message::Ids,
};
use crate::{
    balance::{
        BackendIndex,
        health::{Change, HealthState, Latency, ProbeResult, Reason},
    },
    config::HealthConfig,
    sys::thread::monotonic_ns,
};

/// Marks the event of being woken; backends have 16 bits.
const WOKEN: u64 = u64::MAX;
/// Events taken in one turn; what is beyond is there in the next one.
const EVENTS: usize = 256;

/// A backend to probe.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Target {
    /// Unique among the targets.
    pub index: BackendIndex,
    /// For the log.
    pub name: String,
    /// Where probes go.
    pub address: SocketAddr,
    /// How often, and what counts.
    pub health: HealthConfig,
    /// What stands in front of a probe.
    pub prefix: &'static [u8],
}

/// What probes and traffic have said about a backend so far.
#[derive(Clone, Debug, PartialEq)]
pub struct Report {
    /// That of the [`Target`].
    pub index: BackendIndex,
    /// That of the [`Target`].
    pub name: String,
    /// That of the [`Target`].
    pub address: SocketAddr,
    /// False when the operator wants no probes; the rest is then what was last known.
    pub enabled: bool,
    /// The present state.
    pub state: HealthState,
    /// For how long.
    pub since: Duration,
    /// Why; its text is for people.
    pub reason: Reason,
    /// What became of the last probe; `None` before the first.
    pub last_result: Option<ProbeResult>,
    /// Status code of the last answer.
    pub last_status: Option<u16>,
    /// Latency of the answers of the last five to ten minutes.
    pub latency: Option<Latency>,
    /// Part of its weight that the backend gets, 0.1 to 1.0.
    pub ramp: f64,
    /// Probes that have a result.
    pub probes: u64,
    /// How many of them failed.
    pub probes_failed: u64,
}

/// Probes backends until dropped.
pub struct Prober {
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
}

struct Shared {
    round: Mutex<Round>,
    wake: OwnedFd,
}

/// Everything that the thread and its owner both reach. Whoever holds it never waits for anything.
struct Round {
    backends: BTreeMap<BackendIndex, Backend>,
    /// Not reported yet.
    changes: Vec<(BackendIndex, Change)>,
    /// Probes so far.
    sequence: u64,
    stopping: bool,
}

impl Prober {
    /// Starts to probe; the first probes are spread over one interval.
    ///
    /// `node_address` is where probes come from. Without one, and for backends of the other family, the kernel chooses
    /// the address of the interface that the route to the backend leaves by.
    ///
    /// `report` is called from the prober's thread, in order, for every change of state and every step of a slow start.
    /// Probes wait while it runs. It may call everything here but must not drop the prober.
    ///
    /// # Errors
    ///
    /// When the thread, or the two descriptors that it waits by, cannot be made. A backend that cannot be reached is no
    /// error.
    pub fn start(
        node_address: Option<IpAddr>,
        targets: Vec<Target>,
        report: impl Fn(BackendIndex, &Change) + Send + 'static,
    ) -> Result<Self> {
        let mut key = [0; 16];
        File::open("/dev/urandom")
            .and_then(|mut file| file.read_exact(&mut key))
            .context("cannot read /dev/urandom for the branches of probes")?;
        let wake = eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)
            .context("cannot make an eventfd for probes")?;
        let epoll = epoll::create(epoll::CreateFlags::CLOEXEC)
            .context("cannot make an epoll descriptor for probes")?;
        let woken = epoll::EventData::new_u64(WOKEN);
        epoll::add(&epoll, &wake, woken, epoll::EventFlags::IN)
            .context("cannot wait for an eventfd")?;
        let mut round = Round {
            backends: BTreeMap::new(),
            changes: Vec::new(),
            sequence: 0,
            stopping: false,
        };
        round.set_targets(targets, monotonic_ns());
        let shared = Arc::new(Shared {
            round: Mutex::new(round),
            wake,
        });
        let environment = Environment {
            node_address,
            ids: Ids::new(key),
            epoll,
        };
        let thread = std::thread::Builder::new()
            .name("probes".into())
            .spawn({
                let shared = Arc::clone(&shared);
                move || run(&shared, &environment, report)
            })
            .context("cannot start the thread that probes backends")?;
        Ok(Self {
            shared,
            thread: Some(thread),
        })
    }

    /// Probes these backends from now on.
    ///
    /// One that has the index and the address of a former one keeps its health and follows the new numbers. With
    /// another address it is another server: its health starts anew, which is reported when the former was not healthy
    /// with all of its weight. New ones get their first probe within an interval.
    pub fn set_targets(&self, targets: Vec<Target>) {
        self.change(|round, now_ns| round.set_targets(targets, now_ns));
    }

    /// Stops to probe a backend, or goes on. While disabled it keeps the state that it had, and traffic says nothing.
    pub fn set_enabled(&self, index: BackendIndex, enabled: bool) {
        self.change(|round, now_ns| {
            if let Some(backend) = round.backends.get_mut(&index) {
                backend.set_enabled(enabled, now_ns);
            }
        });
    }

    /// Says for each backend how many requests that have to be answered went to it since the last call, and how many
    /// messages came from it; see [`crate::balance::health::Health::traffic`]. One with two zeros matters as well: it
    /// is still silent.
    pub fn traffic(&self, counts: Vec<(BackendIndex, u64, u64)>) {
        self.change(|round, now_ns| {
            for (index, requests, messages) in counts {
                let backend = round.backends.get_mut(&index);
                let change = backend.and_then(|it| it.traffic(requests, messages, now_ns));
                round.changes.extend(change.map(|change| (index, change)));
            }
        });
    }

    /// What is known about each backend now, in order of their indices.
    pub fn reports(&self) -> Vec<Report> {
        let round = self.shared.lock();
        let now_ns = monotonic_ns();
        round
            .backends
            .values()
            .map(|backend| backend.report(now_ns))
            .collect()
    }

    fn change(&self, how: impl FnOnce(&mut Round, u64)) {
        how(&mut self.shared.lock(), monotonic_ns());
        self.shared.wake();
    }
}

impl Drop for Prober {
    fn drop(&mut self) {
        self.change(|round, _| round.stopping = true);
        if let Some(thread) = self.thread.take() {
            // A panic in the thread has been printed already.
            let _ = thread.join();
        }
    }
}

impl std::fmt::Debug for Prober {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Prober")
            .field("backends", &self.shared.lock().backends.len())
            .finish_non_exhaustive()
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, Round> {
        self.round.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn wake(&self) {
        // Fails only when the thread has been woken 2^64 - 2 times and not looked once.
        let _ = rustix::io::write(&self.wake, &1u64.to_ne_bytes());
    }

    fn woken(&self) {
        let _ = rustix::io::read(&self.wake, &mut [0; 8]);
    }
}

impl Round {
    fn set_targets(&mut self, targets: Vec<Target>, now_ns: u64) {
        let mut former = std::mem::take(&mut self.backends);
        let count = u32::try_from(targets.len()).unwrap_or(u32::MAX);
        for (position, target) in (0..).zip(targets) {
            let index = target.index;
            let backend = match former.remove(&index) {
                Some(mut backend) if backend.is_at(target.address) => {
                    backend.update(target, now_ns);
                    backend
                }
                other => {
                    let change = other.as_ref().and_then(Backend::replaced);
                    self.changes.extend(change.map(|change| (index, change)));
                    let enabled = other.is_none_or(|other| other.enabled());
                    let delay = target.health.interval / count * position;
                    Backend::new(target, enabled, delay, now_ns)
                }
            };
            self.backends.insert(index, backend);
        }
    }

    /// Does what is due and returns when to come back.
    fn advance(&mut self, environment: &Environment, ready: &[BackendIndex]) -> Option<u64> {
        for index in ready {
            let backend = self.backends.get_mut(index);
            let change = backend.and_then(Backend::receive);
            self.changes.extend(change.map(|change| (*index, change)));
        }
        let now_ns = monotonic_ns();
        for backend in self.backends.values_mut() {
            backend.advance(environment, &mut self.sequence, now_ns, |index, change| {
                self.changes.push((index, change));
            });
        }
        self.backends.values().filter_map(Backend::next_ns).min()
    }
}

/// The prober's thread.
fn run(shared: &Shared, environment: &Environment, report: impl Fn(BackendIndex, &Change)) {
    let mut events = Vec::with_capacity(EVENTS);
    let mut ready = Vec::with_capacity(EVENTS);
    loop {
        let (next_ns, changes) = {
            let mut round = shared.lock();
            if round.stopping {
                return;
            }
            let next_ns = round.advance(environment, &ready);
            (next_ns, std::mem::take(&mut round.changes))
        };
        // Unlocked, so that it may look at the reports.
        for (index, change) in &changes {
            report(*index, change);
        }
        let timeout = next_ns.map(|next_ns| until(next_ns, monotonic_ns()));
        events.clear();
        // The only error is a signal that came in between, and then there are no events.
        let _ = epoll::wait(
            &environment.epoll,
            rustix::buffer::spare_capacity(&mut events),
            timeout.as_ref(),
        );
        ready.clear();
        for event in &events {
            match u16::try_from(event.data.u64()) {
                Ok(index) => ready.push(BackendIndex(index)),
                Err(_) => shared.woken(),
            }
        }
    }
}

fn until(then_ns: u64, now_ns: u64) -> Timespec {
    let left = Duration::from_nanos(then_ns.saturating_sub(now_ns));
    Timespec {
        tv_sec: left.as_secs() as i64,
        tv_nsec: i64::from(left.subsec_nanos()),
    }
}

#[cfg(test)]
mod tests;
