//! The control plane of a running node: which backends are used, by health and by the operator's word, which configuration is in
//! force, and what the limits have counted. Whatever changes, workers get a whole new [`Table`].
//!
//! One thread takes what the prober finds, and notes once a second where the counters stand. Commands of the operator
//! are carried out in the thread that brings them, and are in force when it gets its answer.

mod past;
mod reload;
mod report;
mod wishes;

pub use past::{LimitReport, PastQuery};
pub use reload::{Reloaded, Reloads, needs_restart};
pub use report::{BackendReport, BackendsReport, PoolReport};
pub use wishes::Wish;

use std::{
    collections::{BTreeMap, HashMap},
    path::PathBuf,
    sync::{
        Arc, Mutex, MutexGuard, OnceLock, PoisonError,
        mpsc::{self, RecvTimeoutError},
    },
    thread::{self, JoinHandle},
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use anyhow::{Context, Result};
use arc_swap::ArcSwap;

use self::{past::Past, wishes::Wishes};
use super::{
    events::{Events, Kind, Severity},
    hep::HepSender,
    next_hops::Watcher,
    probes::Prober,
    resolver::Resolver,
};
use crate::{
    balance::{
        BackendIndex, Roster, State,
        health::{Change, HealthState},
    },
    config::Config,
    forward::Table,
    limit::CallLimits,
    stats::{BackendTraffic, StatsFile},
};

/// What a running node decides by, and who changes it.
pub struct Plane {
    inner: Mutex<Inner>,
    /// What workers read.
    table: Arc<ArcSwap<Table>>,
    stats: Arc<StatsFile>,
    events: Arc<Events>,
    /// The file that the configuration came from; without it nothing can be reloaded.
    path: Option<PathBuf>,
    prober: OnceLock<Prober>,
    watcher: Option<Arc<Watcher>>,
    resolver: Arc<Resolver>,
    hep: OnceLock<Arc<HepSender>>,
}

struct Inner {
    config: Arc<Config>,
    /// How many configurations have been in force, this one included.
    generation: u64,
    roster: Roster,
    calls: Arc<CallLimits>,
    wishes: Wishes,
    /// What the prober found; a backend that is not here is healthy.
    health: HashMap<BackendIndex, (HealthState, f64)>,
    /// When the state of a backend last changed.
    since: HashMap<BackendIndex, SystemTime>,
    /// How often the health of a backend changed, by the kind of the reason.
    changes: HashMap<BackendIndex, BTreeMap<&'static str, u64>>,
    /// Reloads that were done, and those that were refused.
    reloads: Reloads,
    past: Past,
    /// The traffic of each backend when it was last looked at, by index.
    traffic: Vec<BackendTraffic>,
}

/// What the thread of the plane is told.
enum Event {
    Health(BackendIndex, Change),
    Stop,
}

/// The thread of a plane. Stops it, and the prober, when dropped.
pub struct PlaneThread {
    events: mpsc::Sender<Event>,
    thread: Option<JoinHandle<()>>,
}

impl Plane {
    /// The plane of a configuration that was just read from `path`. Workers read the table that it returns with
    /// [`Plane::table`].
    ///
    /// # Errors
    /// When `control.state_file` is there and cannot be read.
    pub fn new(
        config: Config,
        path: Option<PathBuf>,
        stats: Arc<StatsFile>,
        watcher: Option<Arc<Watcher>>,
        resolver: Arc<Resolver>,
    ) -> Result<Arc<Self>> {
        let mut wishes = Wishes::open(config.control.state_file.clone())?;
        let mut roster = Roster::new(&config);
        wishes.forget_others(&roster);
        let calls = Arc::new(CallLimits::new(&config));
        let events = Arc::new(Events::default());
        for (name, wish) in wishes.iter() {
            if let Some(entry) = roster.by_name(name).and_then(|index| roster.get_mut(index)) {
                entry.state = effective(Some(wish), HealthState::Healthy);
                let text = format!("{}, as before the restart", wish.name());
                events.note(Kind::BackendOperator, Severity::Warn, name, text);
            }
        }
        let table = Table::with_state(&config, &roster, &calls);
        Ok(Arc::new(Self {
            inner: Mutex::new(Inner {
                config: Arc::new(config),
                generation: 1,
                roster,
                calls,
                wishes,
                health: HashMap::new(),
                since: HashMap::new(),
                changes: HashMap::new(),
                reloads: Reloads::default(),
                past: Past::default(),
                traffic: Vec::new(),
            }),
            table: Arc::new(ArcSwap::from_pointee(table)),
            stats,
            events,
            path,
            prober: OnceLock::new(),
            watcher,
            resolver,
            hep: OnceLock::new(),
        }))
    }

    /// Who is told of another `hep` section after a reload.
    pub fn set_hep(&self, hep: Arc<HepSender>) {
        // There is one for each plane.
        let _ = self.hep.set(hep);
    }

    /// Where the newest table always is.
    pub fn table(&self) -> Arc<ArcSwap<Table>> {
        Arc::clone(&self.table)
    }

    /// What changed lately.
    pub fn events(&self) -> &Arc<Events> {
        &self.events
    }

    /// The configuration that is in force.
    pub fn config(&self) -> Arc<Config> {
        Arc::clone(&self.lock().config)
    }

    /// Names of all backends, in the order of [`BackendIndex`].
    pub fn backend_names(&self) -> Vec<String> {
        let inner = self.lock();
        let entries = inner.roster.entries().iter();
        entries.map(|entry| entry.name.clone()).collect()
    }

    /// How many configurations have been in force, and a number that is equal on nodes whose configurations decide alike.
    pub fn generation(&self) -> (u64, String) {
        let inner = self.lock();
        (inner.generation, config_hash(&inner.config))
    }

    /// How reloads went.
    pub fn reloads(&self) -> Reloads {
        self.lock().reloads
    }

    /// What was asked of the name servers.
    pub fn resolver(&self) -> super::resolver::Stats {
        self.resolver.stats()
    }

    /// Starts probing, and the thread that acts on it.
    ///
    /// # Errors
    /// When there is no thread or no socket to be had.
    pub fn start(self: &Arc<Self>) -> Result<PlaneThread> {
        let (events, inbox) = mpsc::channel();
        let (node_address, targets) = {
            let inner = self.lock();
            (inner.config.node.address, inner.targets())
        };
        let report = {
            let events = events.clone();
            // The thread may be gone already when everything stops.
            move |index, change: &Change| drop(events.send(Event::Health(index, *change)))
        };
        let prober = Prober::start(node_address, targets, report).context("starting the prober")?;
        let _ = self.prober.set(prober);
        self.tell_prober_who_is_disabled();
        let plane = Arc::clone(self);
        let thread = thread::Builder::new()
            .name("control-plane".into())
            .spawn(move || plane.run(&inbox))?;
        Ok(PlaneThread {
            events,
            thread: Some(thread),
        })
    }

    fn run(&self, inbox: &mpsc::Receiver<Event>) {
        let since_1970 = || {
            SystemTime::now()
                .duration_since(UNIX_EPOCH)
                .unwrap_or_default()
        };
        // The second that is noted next, when it is over.
        let mut second = since_1970().as_secs();
        loop {
            let now = since_1970();
            // The clock may have been put back.
            second = second.min(now.as_secs());
            // To its end, and a little further.
            let end = Duration::from_secs(second + 1) + Duration::from_millis(2);
            let patience = end.saturating_sub(now);
            if patience.is_zero() {
                self.every_second();
                second = now.as_secs();
                continue;
            }
            match inbox.recv_timeout(patience) {
                Ok(Event::Health(index, change)) => {
                    let mut inner = self.lock();
                    inner.take_health(index, &change, &self.events);
                    // More of them come together when a network is lost.
                    while let Ok(Event::Health(index, change)) = inbox.try_recv() {
                        inner.take_health(index, &change, &self.events);
                    }
                    self.publish(&mut inner);
                }
                Ok(Event::Stop) | Err(RecvTimeoutError::Disconnected) => return,
                // The second is over.
                Err(RecvTimeoutError::Timeout) => {}
            }
        }
    }

    fn every_second(&self) {
        let traffic = {
            let mut inner = self.lock();
            inner.note_past();
            inner.note_traffic(&self.stats)
        };
        if let Some(prober) = self.prober.get() {
            prober.traffic(traffic);
        }
    }

    /// Builds the table anew from what is known, and hands it to the workers.
    fn publish(&self, inner: &mut Inner) {
        let before = self.table.load_full();
        let table = Table::with_state(&inner.config, &inner.roster, &inner.calls);
        for pool in &table.pools {
            let was = before.pools.iter().find(|other| other.name == pool.name);
            let was_panicking = was.is_some_and(|pool| pool.is_panicking);
            if pool.is_panicking && !was_panicking {
                self.events.note(
                    Kind::PoolPanic,
                    Severity::Error,
                    &pool.name,
                    "all backends look dead, so all are used",
                );
            } else if was_panicking && !pool.is_panicking {
                self.events.note(
                    Kind::PoolRecovered,
                    Severity::Warn,
                    &pool.name,
                    "there are usable backends again",
                );
            }
        }
        self.table.store(Arc::new(table));
    }

    /// Has a backend do what the operator wants, from now on: `None` for what its health says.
    ///
    /// # Errors
    /// When there is no such backend, or `control.state_file` cannot be written.
    pub fn wish(&self, name: &str, wish: Option<Wish>) -> Result<BackendReport> {
        let index = {
            let mut inner = self.lock();
            let Some(index) = inner.roster.by_name(name) else {
                let names = inner
                    .roster
                    .entries()
                    .iter()
                    .filter(|entry| entry.is_configured);
                let names = names.map(|entry| entry.name.as_str()).collect::<Vec<_>>();
                anyhow::bail!(
                    "there is no backend {name:?}; there are {}",
                    names.join(", ")
                );
            };
            let before = inner.wishes.get(name);
            if before != wish {
                inner.wishes.set(name, wish)?;
                let words = |wish: Option<Wish>| wish.map_or("as its health says", Wish::name);
                let text = format!("{} -> {}, by the operator", words(before), words(wish));
                self.events
                    .note(Kind::BackendOperator, Severity::Warn, name, text);
                inner.settle(index);
                self.publish(&mut inner);
            }
            index
        };
        self.tell_prober_who_is_disabled();
        let report = self.backends();
        let found = report
            .backends
            .into_iter()
            .find(|report| report.index == index.0);
        found.context("the backend is gone")
    }

    fn tell_prober_who_is_disabled(&self) {
        let Some(prober) = self.prober.get() else {
            return;
        };
        let wishes = {
            let inner = self.lock();
            let configured = inner.config.pools.iter().flat_map(|pool| &pool.backends);
            let wishes = configured.filter_map(|backend| {
                let (index, entry) = inner.roster.find(backend)?;
                Some((index, inner.wishes.get(&entry.name) != Some(Wish::Disabled)))
            });
            wishes.collect::<Vec<_>>()
        };
        for (index, is_enabled) in wishes {
            prober.set_enabled(index, is_enabled);
        }
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        // What is in it is whole between any two statements.
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Inner {
    fn take_health(&mut self, index: BackendIndex, change: &Change, events: &Events) {
        let (was, _) = self
            .health
            .get(&index)
            .copied()
            .unwrap_or((HealthState::Healthy, 1.0));
        self.health.insert(index, (change.to, change.ramp));
        if was != change.to {
            let changes = self.changes.entry(index).or_default();
            *changes.entry(change.reason.kind()).or_default() += 1;
        }
        if was != change.to
            && let Some(entry) = self.roster.get_mut(index)
        {
            let severity = match change.to {
                HealthState::Healthy => Severity::Info,
                _ => Severity::Warn,
            };
            let text = format!(
                "{} -> {}: {} ({})",
                was.name(),
                change.to.name(),
                change.reason,
                entry.address
            );
            events.note(Kind::BackendHealth, severity, &entry.name, text);
        }
        self.settle(index);
    }

    /// Gives a backend the state that follows from what is known.
    fn settle(&mut self, index: BackendIndex) {
        let (health, ramp) = self
            .health
            .get(&index)
            .copied()
            .unwrap_or((HealthState::Healthy, 1.0));
        let Some(entry) = self.roster.get_mut(index) else {
            return;
        };
        let state = effective(self.wishes.get(&entry.name), health);
        if entry.state != state {
            self.since.insert(index, SystemTime::now());
        }
        (entry.state, entry.ramp) = (state, ramp);
    }

    /// Requests that each backend has to answer and responses that came from it since the last time.
    fn note_traffic(&mut self, stats: &StatsFile) -> Vec<(BackendIndex, u64, u64)> {
        let backends = self.roster.entries().len();
        self.traffic.resize(backends, BackendTraffic::default());
        let traffic = self.traffic.iter_mut().zip(0..).map(|(before, index)| {
            let now = stats.backend_traffic(BackendIndex(index));
            let requests = now.answerable - before.answerable;
            let responses = now.responses - before.responses;
            *before = now;
            (BackendIndex(index), requests, responses)
        });
        traffic.collect()
    }

    fn note_past(&mut self) {
        let config = Arc::clone(&self.config);
        let now = SystemTime::now().duration_since(UNIX_EPOCH);
        let now = now.unwrap_or_default();
        self.past.note(&config, &self.calls, &self.roster, now);
    }
}

impl Drop for PlaneThread {
    fn drop(&mut self) {
        let _ = self.events.send(Event::Stop);
        if let Some(thread) = self.thread.take() {
            // A panic in the thread has been printed already.
            let _ = thread.join();
        }
    }
}

/// What a backend may get, by what the operator wants and what probes say.
fn effective(wish: Option<Wish>, health: HealthState) -> State {
    match (wish, health) {
        (Some(Wish::Disabled), _) | (Some(Wish::Draining), HealthState::Unhealthy) => {
            State::Disabled
        }
        (Some(Wish::Draining), _) | (None, HealthState::Draining) => State::Draining,
        (None, HealthState::Healthy) => State::Active,
        (None, HealthState::Unhealthy) => State::Unhealthy,
    }
}

/// Equal on nodes whose configurations decide alike: what is the node's own is left out.
fn config_hash(config: &Config) -> String {
    use std::hash::Hasher;
    let mut hasher = siphasher::sip::SipHasher13::new();
    let Config {
        listeners,
        pools,
        routes,
        nat,
        limits,
        outbound,
        ..
    } = config;
    hasher
        .write(format!("{listeners:?}{pools:?}{routes:?}{nat:?}{limits:?}{outbound:?}").as_bytes());
    format!("{:016x}", hasher.finish())
}
