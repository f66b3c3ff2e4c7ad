//! The program under test, in the edge host.

use std::{
    collections::BTreeMap,
    fmt::Write,
    fs,
    io::Write as _,
    os::unix::fs::OpenOptionsExt,
    path::{Path, PathBuf},
    process::{Command, ExitStatus},
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail, ensure};
use lb_common::xdp::{MAX_QUEUES, XdpOutcome, counter_index};
use lb_userspace::{
    afxdp::program::{pin_dir, read_counters},
    control::{Request, client, status::Status},
    stats::{Snapshot, StatsReader},
};

use crate::{
    host::Host,
    lab::{Family, Lab},
    process::Process,
    wait::until,
};

const START_TIMEOUT: Duration = Duration::from_secs(20);
const SETTLE_TIMEOUT: Duration = Duration::from_secs(5);
/// How old levels in the statistics can be.
const BOOKS_AGE: Duration = Duration::from_millis(500);

/// What the node is called, unless there are two.
const NODE: &str = "edge";
/// What it signs with, unless that is changed.
const SECRET: &str = "a secret of the lab, thirty-two.";

/// How siplb gets its datagrams.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DataPath {
    /// AF_XDP with the XDP program in the driver, or it does not start.
    Native,
    /// AF_XDP if it works.
    Auto,
    /// The kernel's sockets.
    Socket,
}

/// What to write into the configuration.
#[derive(Clone, Debug)]
pub struct Options {
    /// Name of the node.
    pub node: String,
    /// What is in its secret file.
    pub secret: String,
    /// What is in the file of the previous secret, when there is one.
    pub previous_secret: Option<String>,
    /// How it gets its datagrams.
    pub data_path: DataPath,
    /// More of `datapath`, such as `, cpus: [1]`.
    pub more_data_path: String,
    /// Listeners: one for each, with a pool of its own.
    pub families: Vec<Family>,
    /// Weight of each backend, which are the lab's first servers. Its name is `sip1`, with more than one family
    /// `sip1-v4`.
    pub weights: Vec<u16>,
    /// `nat` of every listener, as it stands in the configuration; none when empty.
    pub nat: String,
    /// More of every pool, a line or more as they stand in the configuration, such as `health: {}`.
    pub pool: String,
    /// More of every backend, such as `, cps: 5`.
    pub backend: String,
    /// Backends of the last pool that take no calls and that nobody is, besides the others.
    pub idle_backends: usize,
    /// Rules before those that send each listener's requests to its pool, as they stand in the configuration.
    pub rules_before: Vec<String>,
    /// More at the end of the configuration.
    pub rest: String,
    /// What it logs, as `RUST_LOG` has it; as usual when empty, and when it is started again.
    pub log: String,
}

impl Options {
    /// Three backends of one weight, listeners of both families.
    pub fn new(data_path: DataPath) -> Self {
        Self {
            node: NODE.into(),
            secret: SECRET.into(),
            previous_secret: None,
            data_path,
            more_data_path: String::new(),
            families: vec![Family::V4, Family::V6],
            weights: vec![1; 3],
            nat: String::new(),
            pool: String::new(),
            backend: String::new(),
            idle_backends: 0,
            rules_before: Vec::new(),
            rest: String::new(),
            log: String::new(),
        }
    }

    /// Name of a backend; `number` counts from 0.
    pub fn backend(&self, family: Family, number: usize) -> String {
        match self.families.len() {
            1 => format!("sip{}", number + 1),
            _ => format!("sip{}-{}", number + 1, name_of(family)),
        }
    }

    /// Writes configuration and secrets.
    fn put_down(&self, lab: &Lab, files: &Files) -> Result<()> {
        write_secret(&files.secret, &self.secret)?;
        if let Some(secret) = &self.previous_secret {
            write_secret(&files.previous_secret, secret)?;
        }
        fs::write(&files.configuration, self.write(lab, files))
            .with_context(|| format!("cannot write {:?}", files.configuration))
    }

    fn write(&self, lab: &Lab, files: &Files) -> String {
        let previous = match self.previous_secret {
            Some(_) => format!(", previous_secret_file: {:?}", files.previous_secret),
            None => String::new(),
        };
        let mut text = format!(
            "node: {{ name: {}, secret_file: {:?}{previous} }}\n",
            self.node, files.secret
        );
        let interfaces = lab.interfaces.join(", ");
        let pins = &files.pins;
        let more = &self.more_data_path;
        // Writing to a string does not fail.
        let _ = match self.data_path {
            DataPath::Native => writeln!(
                text,
                "datapath: {{ mode: af-xdp, xdp: native, interfaces: [{interfaces}], pin_path: {pins:?}{more} }}"
            ),
            DataPath::Auto => writeln!(
                text,
                "datapath: {{ mode: auto, interfaces: [{interfaces}], pin_path: {pins:?}{more} }}"
            ),
            DataPath::Socket => writeln!(
                text,
                "datapath: {{ mode: socket, workers: {}{more} }}",
                lab.queues
            ),
        };
        text.push_str("listeners:\n");
        for family in &self.families {
            let (name, vip) = (name_of(*family), lab.vip(*family));
            let nat = match self.nat.as_str() {
                "" => String::new(),
                nat => format!(", nat: {nat}"),
            };
            let _ = writeln!(
                text,
                "  - {{ name: public-{name}, address: {:?}, port: {}{nat} }}",
                vip.ip().to_string(),
                vip.port()
            );
        }
        text.push_str("pools:\n");
        for family in &self.families {
            let _ = writeln!(text, "  - name: switches-{}", name_of(*family));
            for line in self.pool.lines() {
                let _ = writeln!(text, "    {line}");
            }
            text.push_str("    backends:\n");
            for (number, weight) in self.weights.iter().enumerate() {
                let name = self.backend(*family, number);
                let address = lab.server(*family, number).to_string();
                let _ = writeln!(
                    text,
                    "      - {{ name: {name}, address: {address:?}, weight: {weight}{} }}",
                    self.backend
                );
            }
        }
        for number in 0..self.idle_backends {
            let (third, last) = (1 + number / 250, 1 + number % 250);
            let _ = writeln!(
                text,
                "      - {{ name: idle{number}, address: \"10.1.{third}.{last}:5060\", weight: 0 }}"
            );
        }
        text.push_str("routes:\n");
        for rule in &self.rules_before {
            let _ = writeln!(text, "  - {rule}");
        }
        for family in &self.families {
            let name = name_of(*family);
            let _ = writeln!(
                text,
                "  - {{ listener: public-{name}, pool: switches-{name} }}"
            );
        }
        let _ = writeln!(text, "control: {{ socket: {:?} }}", files.control);
        let _ = writeln!(text, "stats: {{ file: {:?} }}", files.statistics);
        text.push_str(&self.rest);
        text
    }
}

fn name_of(family: Family) -> &'static str {
    match family {
        Family::V4 => "v4",
        Family::V6 => "v6",
    }
}

#[derive(Clone, Debug)]
struct Files {
    configuration: PathBuf,
    secret: PathBuf,
    previous_secret: PathBuf,
    control: PathBuf,
    statistics: PathBuf,
    pins: PathBuf,
}

/// A running siplb.
#[derive(Debug)]
pub struct Siplb {
    process: Process,
    node: String,
    files: Files,
    interfaces: Vec<String>,
    starts: u32,
}

impl Siplb {
    /// Writes the configuration and starts siplb in the lab's edge; it is ready when this returns.
    ///
    /// # Errors
    ///
    /// When it ends, or does not answer on its control socket within seconds; the message has what it printed.
    pub fn start(lab: &Lab, options: &Options) -> Result<Self> {
        Self::start_in(lab, &lab.edge, options, lab.pin_dir())
    }

    /// Starts siplb in another host, with a directory of its own for its pins; its interfaces are called as the edge's.
    ///
    /// # Errors
    ///
    /// As [`Self::start`].
    pub fn start_in(lab: &Lab, host: &Host, options: &Options, pins: PathBuf) -> Result<Self> {
        let dir = lab.dir();
        let node = options.node.as_str();
        let own = |name: &str| match node {
            NODE => dir.join(name),
            other => dir.join(format!("{other}-{name}")),
        };
        let files = Files {
            configuration: own("siplb.yaml"),
            secret: dir.join("secret"),
            previous_secret: dir.join("previous-secret"),
            control: own("control.sock"),
            statistics: own("stats"),
            pins,
        };
        options.put_down(lab, &files)?;
        let mut siplb = Self {
            process: spawn(lab, host, node, &files, 0, &options.log)?,
            node: node.into(),
            files,
            interfaces: lab.interfaces.clone(),
            starts: 1,
        };
        siplb.await_ready()?;
        Ok(siplb)
    }

    /// Starts it again with the same configuration, after it was killed or stopped.
    ///
    /// # Errors
    ///
    /// As [`Self::start`].
    pub fn start_again(&mut self, lab: &Lab) -> Result<()> {
        self.start_again_in(lab, &lab.edge)
    }

    /// As [`Self::start_again`], in the host that it was started in by [`Self::start_in`].
    ///
    /// # Errors
    ///
    /// As [`Self::start`].
    pub fn start_again_in(&mut self, lab: &Lab, host: &Host) -> Result<()> {
        self.process = spawn(lab, host, &self.node, &self.files, self.starts, "")?;
        self.starts += 1;
        self.await_ready()
    }

    /// The program itself.
    pub fn process(&mut self) -> &mut Process {
        &mut self.process
    }

    /// The configuration file.
    pub fn configuration(&self) -> &Path {
        &self.files.configuration
    }

    /// The control socket.
    pub fn control(&self) -> &Path {
        &self.files.control
    }

    /// Where its workers count.
    pub fn statistics_file(&self) -> &Path {
        &self.files.statistics
    }

    /// Where the XDP program's maps are pinned.
    pub fn pins(&self) -> &Path {
        &self.files.pins
    }

    /// Sends it a command by its control socket.
    ///
    /// # Errors
    ///
    /// When it does not answer or refuses.
    pub fn command(&self, request: &Request) -> Result<serde_json::Value> {
        Ok(client::call(&self.files.control, request)?)
    }

    /// The command line, for this node.
    pub fn client(&self) -> Client {
        Client {
            control: self.files.control.clone(),
        }
    }

    /// Writes another configuration and the secrets that belong to it, which it is not told of.
    ///
    /// # Errors
    ///
    /// When a file cannot be written.
    pub fn rewrite(&self, lab: &Lab, options: &Options) -> Result<()> {
        options.put_down(lab, &self.files)
    }

    /// What it says about itself.
    ///
    /// # Errors
    ///
    /// When it does not answer.
    pub fn status(&self) -> Result<Status> {
        let answer = client::call(&self.files.control, &Request::new("status"))?;
        Ok(serde_json::from_value(answer)?)
    }

    /// What its workers have counted; works as well when it is gone.
    ///
    /// # Errors
    ///
    /// When the file cannot be read.
    pub fn statistics(&self) -> Result<Snapshot> {
        Ok(StatsReader::open(&self.files.statistics)?.snapshot()?)
    }

    /// What the XDP programs have counted; works as well when siplb is gone.
    ///
    /// # Errors
    ///
    /// When the maps cannot be read.
    pub fn xdp(&self) -> Result<Xdp> {
        let mut counts = BTreeMap::new();
        for interface in &self.interfaces {
            let counters = read_counters(&pin_dir(&self.files.pins, interface))?;
            for queue in 0..MAX_QUEUES {
                for outcome in XdpOutcome::ALL {
                    let cpus = counters.get(counter_index(queue, outcome) as usize);
                    let sum: u64 = cpus.into_iter().flatten().sum();
                    if sum > 0 {
                        counts.insert((interface.clone(), queue, outcome.name()), sum);
                    }
                }
            }
        }
        Ok(Xdp { counts })
    }

    /// Waits until the numbers satisfy `condition`, which takes a moment after the last datagram; returns them.
    ///
    /// # Errors
    ///
    /// When they do not within seconds; the message has the numbers.
    pub fn settled(&self, what: &str, condition: impl Fn(&Totals) -> bool) -> Result<Totals> {
        let mut last = Totals::of(&self.statistics()?);
        let settled = until(what, SETTLE_TIMEOUT, || {
            last = Totals::of(&self.statistics().ok()?);
            condition(&last).then_some(())
        });
        match settled {
            Ok(()) => Ok(last),
            Err(error) => bail!("{error:#}: {last:#?}"),
        }
    }

    /// Stops it in the ordinary way (SIGTERM), after a look at its books: every datagram that came in has been decided
    /// on, and every frame of its memory is somewhere.
    ///
    /// # Errors
    ///
    /// When its books are wrong, or when it does not end within seconds or not with status 0; the message has what it printed.
    pub fn stop(&mut self) -> Result<()> {
        // Levels are written a few times a second: the books have to be right, and stay so until they are fresh.
        let fresh = Instant::now() + BOOKS_AGE;
        self.settled(
            "datagrams to be decided and frames to be accounted for",
            |totals| {
                let (accounted, total) = totals.frames();
                totals.received() == totals.decided()
                    && accounted == total
                    && Instant::now() > fresh
            },
        )?;
        let status = self.process.stop()?;
        self.check_end(status)
    }

    /// Waits until it ends by itself, and looks at its books as [`Self::stop`] does.
    ///
    /// # Errors
    ///
    /// As [`Self::stop`].
    pub fn await_end(&mut self, timeout: Duration) -> Result<()> {
        let status = self.process.wait(timeout)?;
        self.check_end(status)?;
        let totals = Totals::of(&self.statistics()?);
        ensure!(
            totals.received() == totals.decided() && totals.frames().0 == totals.frames().1,
            "datagrams or frames are lost: {totals:#?}"
        );
        Ok(())
    }

    fn check_end(&self, status: ExitStatus) -> Result<()> {
        ensure!(
            status.success(),
            "siplb: {status}\n{}",
            self.process.output()
        );
        Ok(())
    }

    fn await_ready(&mut self) -> Result<()> {
        let id = self.process.id();
        let ready = until("siplb to be ready", START_TIMEOUT, || {
            if !self.process.is_running() {
                return Some(false);
            }
            self.status()
                .is_ok_and(|status| status.pid == id)
                .then_some(true)
        });
        match ready {
            Ok(true) => Ok(()),
            Ok(false) => bail!("siplb has ended:\n{}", self.process.output()),
            Err(error) => bail!("{error:#}\n{}", self.process.output()),
        }
    }
}

/// The command line of a node, for any thread.
#[derive(Clone, Debug)]
pub struct Client {
    control: PathBuf,
}

impl Client {
    /// The node's control socket.
    pub fn control(&self) -> &Path {
        &self.control
    }

    /// The command with this node's control socket, not run yet.
    ///
    /// # Errors
    ///
    /// When there is no binary.
    pub fn command(&self, arguments: &[&str]) -> Result<Command> {
        let mut command = Command::new(binary()?);
        command.args(arguments).arg("--socket").arg(&self.control);
        Ok(command)
    }

    /// Runs it with this node's control socket.
    ///
    /// # Errors
    ///
    /// When it cannot be started, or does not end with status 0; the message has what it printed.
    pub fn cli(&self, arguments: &[&str]) -> Result<String> {
        let output = self.command(arguments)?.output()?;
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        let errors = String::from_utf8_lossy(&output.stderr);
        ensure!(
            output.status.success(),
            "siplb {arguments:?}: {text}{errors}"
        );
        Ok(text)
    }
}

/// Where the program under test is: `SIPLB_BIN`, else beside this program, else the release build.
///
/// # Errors
///
/// When there is none.
pub fn binary() -> Result<PathBuf> {
    if let Some(path) = std::env::var_os("SIPLB_BIN") {
        return Ok(path.into());
    }
    let beside = std::env::current_exe()
        .ok()
        .map(|path| path.with_file_name("siplb"));
    let release = Path::new(env!("CARGO_MANIFEST_DIR")).join("../target/release/siplb");
    let found = beside
        .into_iter()
        .chain([release])
        .find(|path| path.is_file());
    found.context("siplb is not built; run `cargo xtask build`")
}

fn spawn(
    lab: &Lab,
    host: &Host,
    node: &str,
    files: &Files,
    starts: u32,
    log: &str,
) -> Result<Process> {
    let mut command = Command::new(binary()?);
    command.args(["run", "--config"]).arg(&files.configuration);
    if !log.is_empty() {
        command.env("RUST_LOG", log);
    }
    let node = match node {
        NODE => "siplb".to_string(),
        other => format!("siplb-{other}"),
    };
    let name = match starts {
        0 => node,
        again => format!("{node}-{again}"),
    };
    lab.spawn(host, &name, command)
}

fn write_secret(path: &Path, secret: &str) -> Result<()> {
    let mut options = fs::OpenOptions::new();
    options.write(true).create(true).truncate(true).mode(0o600);
    let mut file = options
        .open(path)
        .with_context(|| format!("cannot write {path:?}"))?;
    file.write_all(secret.as_bytes())?;
    Ok(())
}

/// Counters of the XDP programs, over all CPUs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Xdp {
    /// By interface, queue and name of the outcome; those that are 0 are missing.
    pub counts: BTreeMap<(String, u32, &'static str), u64>,
}

impl Xdp {
    /// One outcome over all interfaces and queues.
    pub fn total(&self, outcome: &str) -> u64 {
        self.sum(|_, name| name == outcome)
    }

    /// One outcome of one queue over all interfaces.
    pub fn of_queue(&self, queue: u32, outcome: &str) -> u64 {
        self.sum(|number, name| number == queue && name == outcome)
    }

    fn sum(&self, wanted: impl Fn(u32, &str) -> bool) -> u64 {
        let counts = self.counts.iter();
        counts
            .filter(|((_, queue, name), _)| wanted(*queue, name))
            .map(|(_, count)| count)
            .sum()
    }
}

/// What all workers have counted, together.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Totals {
    /// Counters and gauges by name.
    pub counters: BTreeMap<String, u64>,
    /// What became of datagrams, by name; those that are 0 are missing.
    pub outcomes: BTreeMap<String, u64>,
    /// The same by class: `forward`, `reply`, `drop`, `absorb`.
    pub classes: BTreeMap<String, u64>,
    /// Requests and initial INVITEs by backend.
    pub backends: BTreeMap<String, (u64, u64)>,
}

impl Totals {
    /// Adds up a snapshot.
    pub fn of(snapshot: &Snapshot) -> Self {
        let mut totals = Self::default();
        for worker in &snapshot.workers {
            for counter in &worker.counters {
                *totals.counters.entry(counter.name.clone()).or_default() += counter.value;
            }
            for outcome in worker.outcomes.iter().filter(|outcome| outcome.value > 0) {
                *totals.outcomes.entry(outcome.name.clone()).or_default() += outcome.value;
                *totals.classes.entry(outcome.kind.clone()).or_default() += outcome.value;
            }
            for backend in &worker.backends {
                let entry = totals.backends.entry(backend.name.clone()).or_default();
                entry.0 += backend.requests;
                entry.1 += backend.invites;
            }
        }
        totals
    }

    /// A counter by its name; 0 when there is none.
    pub fn counter(&self, name: &str) -> u64 {
        self.counters.get(name).copied().unwrap_or(0)
    }

    /// An outcome by its name; 0 when there is none.
    pub fn outcome(&self, name: &str) -> u64 {
        self.outcomes.get(name).copied().unwrap_or(0)
    }

    /// Datagrams that came in.
    pub fn received(&self) -> u64 {
        self.counter("rx_af_xdp") + self.counter("rx_kernel")
    }

    /// Datagrams that went out.
    pub fn sent(&self) -> u64 {
        self.counter("tx_af_xdp") + self.counter("tx_kernel")
    }

    /// Everything that became of datagrams.
    pub fn decided(&self) -> u64 {
        self.outcomes.values().sum()
    }

    /// Chunks that are somewhere, and chunks that there are: the same, or frames were lost.
    pub fn frames(&self) -> (u64, u64) {
        let places = [
            "frames_free",
            "frames_in_fill",
            "frames_in_rx",
            "frames_in_tx",
        ];
        let accounted = places.iter().map(|place| self.counter(place)).sum();
        (accounted, self.counter("frames_total"))
    }
}
