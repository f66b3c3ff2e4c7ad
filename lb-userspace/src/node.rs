//! A running node: puts the parts together in the order that loses nothing, watches them, and takes them apart again.
//!
//! Start: XDP programs attached with closed gates, sockets bound, fill rings filled, sockets put into the map, workers
//! running, each opens its gates. Stop: gates closed, so that the kernel sockets get what still comes; workers empty
//! their queues; sockets closed; programs detached.

mod datapath;
mod privileges;

use std::{
    net::SocketAddr,
    path::PathBuf,
    sync::{
        Arc,
        mpsc::{self, RecvTimeoutError},
    },
    thread::{self, JoinHandle},
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use anyhow::{Context, Result, bail};
use signal_hook::{
    consts::{SIGHUP, SIGINT, SIGTERM},
    iterator::Signals,
};

use self::datapath::{DataPath, Plan};
use crate::{
    config::{Config, ShareLoad},
    control::{
        self, Request,
        announce::Announcer,
        client,
        commands::carry_out,
        events::{Kind, Severity},
        hep::HepSender,
        http::{self, pages::Pages},
        next_hops::Watcher,
        plane::{Plane, PlaneThread},
        resolver::Resolver,
        status::{Frames, KeyStatus, SocketStatus, Status, WorkerStatus},
    },
    sharing::Exchange,
    stats::{StatsFile, StatsReader, WorkerInfo, sources::Sources},
    sys::thread::{allowed_cpus, harden_process, keep_to_cpus, monotonic_ns, pin_to_cpu},
    tap::Taps,
    worker::{NameService, Shared, Worker},
};

/// How often the watchdog looks at the heartbeats.
const WATCH_EVERY: Duration = Duration::from_millis(50);

/// What the command line adds to the configuration.
#[derive(Clone, Debug, Default)]
pub struct RunOptions {
    /// The file that the configuration was read from, to be read again on a reload.
    pub config_file: Option<PathBuf>,
}

/// Runs until it is told to stop by SIGTERM or SIGINT.
///
/// # Errors
///
/// When the node cannot start, with what is missing and how to mend it, or when all workers have died.
pub fn run(config: Config, options: RunOptions) -> Result<()> {
    if config.node.secret_file.is_none() {
        bail!(
            "node.secret_file is missing: all nodes of the fleet sign with the same secret; make one with \
             `umask 077; head -c 32 /dev/urandom > /etc/siplb/secret` and copy it to every node"
        );
    }
    if let Ok(answer) = client::call(&config.control.socket, &Request::new("status")) {
        bail!(
            "control.socket {}: a node runs already (process {}); stop it, or give this one its own node.name, \
             control.socket, stats.file and datapath.pin_path",
            config.control.socket.display(),
            answer["pid"]
        );
    }
    harden_process().context("hardening the process")?;
    // Signals are taken over before anything has to be taken apart again.
    let (orders, inbox) = mpsc::channel();
    let leave = orders.clone();
    let mut signals = Signals::new([SIGTERM, SIGINT, SIGHUP]).context("signal handlers")?;
    let signal_handle = signals.handle();
    let signal_thread = thread::Builder::new()
        .name("signals".into())
        .spawn(move || {
            for signal in signals.forever() {
                if orders.send(Order::Signal(signal)).is_err() {
                    break;
                }
            }
        })?;

    let result = Node::start(config, options, leave).and_then(|mut node| {
        let watched = node.watch(&inbox).and_then(|()| node.leave(&inbox));
        node.stop().and(watched)
    });
    signal_handle.close();
    let _ = signal_thread.join();
    result
}

/// What the thread that watches is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Order {
    Signal(i32),
    /// By the command line.
    Leave,
}

impl Order {
    /// Why the node stops, when this says so.
    fn name_of_end(self) -> Option<&'static str> {
        match self {
            Self::Signal(SIGHUP) => None,
            Self::Signal(SIGINT) => Some("SIGINT"),
            Self::Signal(_) => Some("SIGTERM"),
            Self::Leave => Some("`siplb leave`"),
        }
    }
}

/// Keeps all other threads off the CPUs of workers, as long as there are more: where one runs, the messages of a few
/// milliseconds wait.
fn leave_cpus_to_workers(workers: &[WorkerInfo]) {
    let is_free = |cpu: &usize| workers.iter().all(|worker| worker.cpu != *cpu);
    let kept = allowed_cpus().and_then(|cpus| {
        let free = cpus.into_iter().filter(is_free).collect::<Vec<_>>();
        match free.is_empty() {
            true => Ok(()),
            false => keep_to_cpus(&free),
        }
    });
    if let Err(error) = kept {
        log::warn!("other threads may run on the CPUs of workers: {error}");
    }
}

/// A worker as the control plane sees it.
struct Running {
    shared: Arc<Shared>,
    /// `None` once its end has been noticed.
    thread: Option<JoinHandle<()>>,
    cpu: usize,
    /// The watchdog closed its gates.
    stalled: bool,
}

struct Node {
    config: Arc<Config>,
    data_path: Arc<DataPath>,
    workers: Vec<Running>,
    stats: Arc<StatsFile>,
    control: Option<control::server::Server>,
    http: Option<http::Server>,
    watcher: Option<Arc<Watcher>>,
    plane: Arc<Plane>,
    plane_thread: Option<PlaneThread>,
    announcer: Option<Arc<Announcer>>,
    taps: Arc<Taps>,
    hep: Option<Arc<HepSender>>,
}

impl Node {
    fn start(config: Config, options: RunOptions, leave: mpsc::Sender<Order>) -> Result<Self> {
        let started = Instant::now();
        let configured = config.pools.iter().flat_map(|pool| &pool.backends);
        let backends: Vec<_> = configured
            .clone()
            .map(|backend| backend.name.clone())
            .collect();
        let backend_addresses = configured.map(|backend| backend.address.ip()).collect();

        // First, since nothing has to be taken apart again when somebody else has it.
        let http = config.metrics.listen.map(http::bind).transpose()?;
        let Plan {
            data_path,
            parts,
            interfaces,
        } = datapath::open(&config)?;
        let infos: Vec<_> = data_path.worker_infos();
        let stats =
            StatsFile::create_with_interfaces(&config.stats.file, &infos, &backends, &interfaces)?;
        let stats = Arc::new(stats);

        // Threads inherit what is left, and where they may run.
        privileges::drop_unneeded();
        leave_cpus_to_workers(&infos);
        let watcher = match &data_path.reason_for_socket {
            None => Some(Arc::new(Watcher::start(
                &config.datapath.interfaces,
                backend_addresses,
            )?)),
            Some(_) => None,
        };
        let resolver = Arc::new(start_resolver(&config.outbound.name_servers)?);
        let plane = Plane::new(
            config.clone(),
            options.config_file,
            Arc::clone(&stats),
            watcher.clone(),
            Arc::clone(&resolver),
        )?;

        let config = Arc::new(config);
        let data_path = Arc::new(data_path);
        let mut node = Self {
            config,
            data_path,
            workers: Vec::new(),
            stats,
            control: None,
            http: None,
            watcher,
            plane,
            plane_thread: None,
            announcer: None,
            taps: Arc::new(Taps::new(infos.len())),
            hep: None,
        };
        let exchange = node.exchange()?;
        for (index, part) in parts.into_iter().enumerate() {
            let shared = Arc::new(Shared::default());
            let cpu = infos[index].cpu;
            let worker = Worker {
                table: node.plane.table(),
                ports: part.ports,
                transmit: part.transmit.map(|transmit| {
                    transmit.with_next_hops(
                        node.watcher.as_ref().expect("AF_XDP has a watcher").table(),
                    )
                }),
                sockets: part.sockets,
                stats: node.stats.worker(index),
                shared: Arc::clone(&shared),
                stale_after: node.config.datapath.stale_after,
                pins: node.config.datapath.pins as usize,
                names: NameService {
                    names: resolver.names(),
                    asker: resolver.asker(),
                },
                tap: node.taps.side(index),
                sharing: exchange.as_ref().map(|exchange| exchange.side(index)),
            };
            let thread = thread::Builder::new()
                .name(format!("worker-{index}"))
                .spawn(move || {
                    if let Err(error) = pin_to_cpu(cpu) {
                        log::warn!(
                            "worker {index} runs on any CPU: pinning it to CPU {cpu}: {error}"
                        );
                    }
                    worker.run();
                })?;
            node.workers.push(Running {
                shared,
                thread: Some(thread),
                cpu,
                stalled: false,
            });
        }
        // Ready means that every worker has begun.
        for worker in &node.workers {
            while worker.shared.heartbeat_ns() == 0
                && worker
                    .thread
                    .as_ref()
                    .is_some_and(|thread| !thread.is_finished())
            {
                thread::yield_now();
            }
        }

        let hep = Arc::new(HepSender::new(Arc::clone(&node.taps), node.plane.table()));
        hep.apply(&node.config)?;
        node.plane.set_hep(Arc::clone(&hep));
        node.hep = Some(hep);
        node.plane_thread = Some(node.plane.start()?);
        node.announcer = node.start_announcer()?;
        let handler: Arc<control::server::Handler> = Arc::new(node.handler(started, leave));
        let socket = &node.config.control.socket;
        node.control = Some(control::server::serve(socket, Arc::clone(&handler))?);
        if let Some(listener) = http {
            let pages = Pages {
                commands: handler,
                counters: Sources {
                    workers: node.config.stats.file.clone(),
                    pin_path: None,
                    fallback: None,
                },
            };
            let answerer = move |question: &_| pages.answer(question);
            node.http = Some(http::serve(listener, Arc::new(answerer))?);
        }
        node.log_ready();
        Ok(node)
    }

    /// Where workers share frames: nowhere when there is one, when they have none, or when it is switched off.
    fn exchange(&self) -> Result<Option<Arc<Exchange>>> {
        let datapath = &self.config.datapath;
        let workers = self.data_path.worker_infos().len();
        if workers < 2
            || datapath.share_load == ShareLoad::Off
            || self.data_path.reason_for_socket.is_some()
        {
            return Ok(None);
        }
        Exchange::new(workers, datapath.stale_after).map(Some)
    }

    fn start_announcer(&self) -> Result<Option<Arc<Announcer>>> {
        let Some(announce) = self.config.announce.clone() else {
            return Ok(None);
        };
        let listeners = self.config.listeners.iter();
        let mut vips: Vec<_> = listeners.map(|listener| listener.address.ip()).collect();
        vips.sort();
        vips.dedup();
        let name = self.config.node.name.clone();
        let announcer = Announcer::start(announce, vips, name, Arc::clone(&self.plane))?;
        Ok(Some(Arc::new(announcer)))
    }

    fn log_ready(&self) {
        if let Some(reason) = &self.data_path.reason_for_socket {
            log::warn!(
                "data path: kernel sockets, {} workers ({reason})",
                self.workers.len()
            );
        }
        for interface in &self.data_path.interfaces {
            let mode = interface.mode.name();
            log::info!(
                "interface {}: XDP {mode}, {} queues",
                interface.name,
                interface.queues.len()
            );
            if let Some(reason) = &interface.fallback_reason {
                log::warn!("interface {}: not native: {reason}", interface.name);
            }
        }
        for (index, info) in self.data_path.worker_infos().iter().enumerate() {
            log::info!(
                "worker {index}: CPU {}, queue {}, {}",
                info.cpu,
                info.queue,
                info.data_path
            );
        }
        for listener in &self.config.listeners {
            log::info!("listener {}: {}", listener.name, listener.address);
        }
        if let Some(listen) = self.config.metrics.listen {
            log::info!("metrics: http://{listen}/metrics");
        }
        self.note(Kind::Start, Severity::Info, "ready");
    }

    /// Answers requests on the control socket.
    fn handler(
        &self,
        started: Instant,
        leave: mpsc::Sender<Order>,
    ) -> impl Fn(&Request) -> control::server::Answer + Send + Sync + 'static {
        let data_path = Arc::clone(&self.data_path);
        let plane = Arc::clone(&self.plane);
        let taps = Arc::clone(&self.taps);
        let announcer = self.announcer.clone();
        let shared: Vec<_> = self
            .workers
            .iter()
            .map(|worker| Arc::clone(&worker.shared))
            .collect();
        let started_at = SystemTime::now().checked_sub(started.elapsed());
        let started_s = started_at
            .and_then(|at| at.duration_since(UNIX_EPOCH).ok())
            .map_or(0, |time| time.as_secs());
        move |request| {
            if request.command == "trace" {
                return control::trace::start(&plane, &taps, request);
            }
            let status = || {
                let config = plane.config();
                let (generation, config_hash) = plane.generation();
                Status {
                    version: env!("CARGO_PKG_VERSION").to_owned(),
                    pid: std::process::id(),
                    node: config.node.name.clone(),
                    uptime_s: started.elapsed().as_secs(),
                    started_s,
                    mode: if data_path.reason_for_socket.is_some() {
                        "socket"
                    } else {
                        "af-xdp"
                    }
                    .to_owned(),
                    mode_reason: data_path.reason_for_socket.clone(),
                    table_hash: format!("{:016x}", plane.table().load().fingerprint()),
                    config_hash,
                    generation,
                    keys: KeyStatus::of(&config.keys),
                    reloads: plane.reloads(),
                    names: plane.resolver().into(),
                    announce: announcer.as_ref().map(|announcer| announcer.status()),
                    workers: worker_statuses(&data_path, &shared, &config),
                }
            };
            let leave = || {
                // Nobody listens when it is about to end anyway.
                let _ = leave.send(Order::Leave);
            };
            carry_out(&plane, request, status, leave).into()
        }
    }

    /// Notes what happens to the node as a whole.
    fn note(&self, kind: Kind, severity: Severity, text: &str) {
        let name = &self.config.node.name;
        self.plane.events().note(kind, severity, name, text);
    }

    /// Watches the workers until a signal says stop.
    fn watch(&mut self, inbox: &mpsc::Receiver<Order>) -> Result<()> {
        loop {
            match inbox.recv_timeout(WATCH_EVERY) {
                Ok(order) => match order.name_of_end() {
                    Some(name) => {
                        self.note(Kind::Stop, Severity::Info, &format!("stopping: {name}"));
                        return Ok(());
                    }
                    // In a thread of its own: a table of a thousand backends takes longer than a heartbeat may.
                    None => {
                        let plane = Arc::clone(&self.plane);
                        let reload = move || {
                            // What is wrong has been noted.
                            drop(plane.reload());
                        };
                        thread::Builder::new().name("reload".into()).spawn(reload)?;
                    }
                },
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => bail!("the signal thread is gone"),
            }
            self.look_at_workers()?;
        }
    }

    /// Withdraws the node and goes on with what still comes, until the network has heard of it.
    fn leave(&mut self, inbox: &mpsc::Receiver<Order>) -> Result<()> {
        let (Some(announcer), Some(announce)) = (&self.announcer, &self.config.announce) else {
            return Ok(());
        };
        announcer.leave();
        let until = Instant::now() + announce.grace;
        log::info!(
            "going on with what still comes for {} s",
            announce.grace.as_secs()
        );
        while Instant::now() < until {
            if let Ok(order) = inbox.recv_timeout(WATCH_EVERY)
                && matches!(order, Order::Signal(SIGTERM | SIGINT))
            {
                log::warn!("told twice: stopping at once");
                break;
            }
            self.look_at_workers()?;
        }
        Ok(())
    }

    fn look_at_workers(&mut self) -> Result<()> {
        self.stats.alive();
        let now = monotonic_ns();
        for index in 0..self.workers.len() {
            self.watch_worker(index, now);
        }
        let is_dead = |worker: &&Running| worker.stalled || worker.thread.is_none();
        let dead = self.workers.iter().filter(is_dead).count();
        if let Some(announcer) = &self.announcer {
            announcer.set_dead_workers(dead);
        }
        if self.workers.iter().all(|worker| worker.thread.is_none()) {
            bail!("all workers have died; the kernel answers for them now");
        }
        Ok(())
    }

    fn watch_worker(&mut self, index: usize, now: u64) {
        let stale_after = self.config.datapath.stale_after;
        let worker = &mut self.workers[index];
        if worker.thread.as_ref().is_some_and(JoinHandle::is_finished) {
            self.data_path.close_gates(index);
            let _ = worker.thread.take().map(JoinHandle::join);
            self.plane.events().note(
                Kind::WorkerDied,
                Severity::Error,
                index,
                "has died; its queue goes to the other workers by the kernel",
            );
            return;
        }
        if worker.thread.is_none() {
            return;
        }
        let age = Duration::from_nanos(now.saturating_sub(worker.shared.heartbeat_ns()));
        if age > stale_after && !worker.stalled {
            worker.stalled = true;
            self.data_path.close_gates(index);
            let text = format!(
                "has been silent for {} ms: gates closed, its queue goes to the kernel (CPU {})",
                age.as_millis(),
                worker.cpu
            );
            let events = self.plane.events();
            events.note(Kind::WorkerStalled, Severity::Error, index, text);
        } else if age <= stale_after && worker.stalled {
            worker.stalled = false;
            self.data_path.open_gates(index, stale_after);
            self.plane.events().note(
                Kind::WorkerBack,
                Severity::Warn,
                index,
                "is back: gates open",
            );
        }
    }

    /// Takes everything apart: gates first.
    fn stop(mut self) -> Result<()> {
        for index in 0..self.workers.len() {
            self.data_path.close_gates(index);
        }
        for worker in &self.workers {
            worker.shared.stop();
        }
        let mut died = 0;
        for worker in &mut self.workers {
            if let Some(thread) = worker.thread.take() {
                died += usize::from(thread.join().is_err());
            }
        }
        // The handler holds the data path too.
        self.control.take();
        self.http.take();
        self.announcer.take();
        if let Some(hep) = self.hep.take() {
            hep.stop();
        }
        self.plane_thread.take();
        self.watcher.take();
        self.data_path.detach();
        log::info!("node {} stopped", self.config.node.name);
        anyhow::ensure!(died == 0, "{died} workers died while stopping");
        Ok(())
    }
}

/// Starts to ask these name servers, or those of the machine.
fn start_resolver(name_servers: &[SocketAddr]) -> Result<Resolver> {
    match Resolver::start(name_servers) {
        Err(error) if name_servers.is_empty() => {
            // What resolv.conf(5) says of a machine that names none.
            log::warn!("{error:#}; asking 127.0.0.1 for the names of outbound calls");
            Resolver::start(&[SocketAddr::from(([127, 0, 0, 1], 53))])
        }
        started => started,
    }
    .context("outbound.name_servers")
}

fn worker_statuses(
    data_path: &DataPath,
    shared: &[Arc<Shared>],
    config: &Config,
) -> Vec<WorkerStatus> {
    let now = monotonic_ns();
    let snapshot = StatsReader::open(&config.stats.file)
        .and_then(|reader| reader.snapshot())
        .ok();
    let frames = |index: usize| {
        let worker = snapshot.as_ref()?.workers.get(index)?;
        let value = |name: &str| {
            worker
                .counters
                .iter()
                .find(|counter| counter.name == name)
                .map_or(0, |counter| counter.value)
        };
        Some(Frames {
            total: value("frames_total"),
            free: value("frames_free"),
            fill: value("frames_in_fill"),
            rx: value("frames_in_rx"),
            tx: value("frames_in_tx"),
        })
        .filter(|frames| frames.total > 0)
    };
    data_path
        .worker_infos()
        .iter()
        .zip(shared)
        .enumerate()
        .map(|(index, (info, shared))| WorkerStatus {
            cpu: info.cpu,
            queue: info.queue,
            heartbeat_age_ms: Some(now.saturating_sub(shared.heartbeat_ns()) / 1_000_000),
            sockets: data_path
                .interfaces
                .iter()
                .filter_map(|interface| {
                    let queue = interface.queues.get(index)?;
                    Some(SocketStatus {
                        interface: interface.name.clone(),
                        attach: interface.mode.name().to_owned(),
                        copy: queue.copy_name().to_owned(),
                        gate_open: interface.gates.is_open(index as u32),
                    })
                })
                .collect(),
            frames: frames(index),
        })
        .collect()
}
