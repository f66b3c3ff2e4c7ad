//! Whether this node tells the network that it serves the VIPs, and telling it.
//!
//! Routing daemons announce an address while it is there: siplb puts the VIPs on a device (`announce.device`) while it can serve,
//! and takes them off when it cannot. They are put there for a few seconds at a time, again and again, so that the kernel
//! takes them off itself when the process is gone, however it went. What is on its way to the node by then is still served:
//! a local route for each VIP stays as long as the process.
//!
//! [`Facts`] and what follows from them are pure; [`Announcer`] is the thread that looks and acts.

mod network;

use std::{
    net::IpAddr,
    path::Path,
    process::{Command, Stdio},
    sync::{
        Arc, Condvar, Mutex, MutexGuard,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    thread::JoinHandle,
    time::{Duration, Instant},
};

use anyhow::{Context, Result};
use serde::{Deserialize, Serialize};

use self::network::Addresses;
use super::{
    events::{Kind, Severity},
    plane::Plane,
};
use crate::{config::Announce, forward::Table};

/// How often it is looked whether the node can serve.
const LOOK_EVERY: Duration = Duration::from_millis(100);
/// How often the addresses are put there anew.
const RENEW_EVERY: Duration = Duration::from_secs(1);
/// How long a hook may take.
const HOOK_TIMEOUT: Duration = Duration::from_secs(10);

/// What decides.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Facts {
    /// Workers that have died or are silent.
    pub dead_workers: usize,
    /// Required pools without a backend that takes calls.
    pub empty_pools: Vec<String>,
    /// The node is leaving.
    pub is_leaving: bool,
}

impl Facts {
    /// Why the node must not be announced, in words; `None` when it may be.
    pub fn reason(&self) -> Option<String> {
        let mut reasons = Vec::new();
        if self.is_leaving {
            reasons.push("the node is leaving".to_owned());
        }
        if self.dead_workers > 0 {
            reasons.push(format!("{} of the workers do not work", self.dead_workers));
        }
        for pool in &self.empty_pools {
            reasons.push(format!("pool {pool} has no backend that takes calls"));
        }
        (!reasons.is_empty()).then(|| reasons.join("; "))
    }

    /// Looks at a table: a pool in panic has nobody who is known to answer.
    fn of_table(table: &Table, required: &[usize]) -> Vec<String> {
        let pools = required.iter().filter_map(|place| table.pools.get(*place));
        pools
            .filter(|pool| pool.is_panicking || pool.usable().next().is_none())
            .map(|pool| pool.name.clone())
            .collect()
    }
}

/// What is told of it, in `siplb status`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct AnnounceStatus {
    /// The node is announced, or may be by whoever asks.
    pub announced: bool,
    /// Why it is not; `null` when it is.
    pub reason: Option<String>,
    /// Seconds since that began.
    pub since_s: u64,
    /// Where the VIPs are put; `null` when somebody else announces them.
    pub device: Option<String>,
    /// The VIPs.
    pub vips: Vec<String>,
}

/// What the announcer and the rest of the node tell each other.
#[derive(Debug)]
struct Shared {
    dead_workers: AtomicUsize,
    is_leaving: AtomicBool,
    is_over: AtomicBool,
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Debug)]
struct State {
    announced: bool,
    reason: Option<String>,
    since: Instant,
}

/// The thread that looks and acts.
#[derive(Debug)]
pub struct Announcer {
    shared: Arc<Shared>,
    device: Option<String>,
    vips: Vec<IpAddr>,
    thread: Option<JoinHandle<()>>,
}

impl Announcer {
    /// Starts to look at a node whose workers run. The VIPs are those of the listeners.
    ///
    /// # Errors
    ///
    /// When there is no such device, or no thread or socket for it.
    pub fn start(
        config: Announce,
        vips: Vec<IpAddr>,
        node: String,
        plane: Arc<Plane>,
    ) -> Result<Self> {
        let addresses = match &config.device {
            Some(device) => Some(Addresses::open(device, vips.clone()).context("announce.device")?),
            None => None,
        };
        let shared = Arc::new(Shared {
            dead_workers: AtomicUsize::new(0),
            is_leaving: AtomicBool::new(false),
            is_over: AtomicBool::new(false),
            state: Mutex::new(State {
                announced: false,
                reason: Some("the node is starting".to_owned()),
                since: Instant::now(),
            }),
            changed: Condvar::new(),
        });
        let device = config.device.clone();
        let list = vips.clone();
        let looker = Looker {
            shared: Arc::clone(&shared),
            config,
            vips,
            node,
            plane,
            addresses,
            renewed: None,
        };
        let thread = std::thread::Builder::new()
            .name("announcer".into())
            .spawn(move || looker.run())?;
        Ok(Self {
            shared,
            device,
            vips: list,
            thread: Some(thread),
        })
    }

    /// How many workers have died or are silent.
    pub fn set_dead_workers(&self, count: usize) {
        self.shared.dead_workers.store(count, Ordering::Relaxed);
    }

    /// Withdraws the node for good, and returns when the network has been told as far as it can be told here.
    pub fn leave(&self) {
        self.shared.is_leaving.store(true, Ordering::Release);
        let mut state = self.shared.lock();
        // The hook may take its time, but not for ever.
        let deadline = Instant::now() + HOOK_TIMEOUT + LOOK_EVERY;
        while state.announced && Instant::now() < deadline {
            let waited = self.shared.changed.wait_timeout(state, LOOK_EVERY);
            state = waited.unwrap_or_else(|error| error.into_inner()).0;
        }
    }

    /// What is told of it.
    pub fn status(&self) -> AnnounceStatus {
        let state = self.shared.lock();
        AnnounceStatus {
            announced: state.announced,
            reason: state.reason.clone(),
            since_s: state.since.elapsed().as_secs(),
            device: self.device.clone(),
            vips: self.vips.iter().map(ToString::to_string).collect(),
        }
    }
}

impl Drop for Announcer {
    fn drop(&mut self) {
        self.shared.is_over.store(true, Ordering::Release);
        self.shared.changed.notify_all();
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(|error| error.into_inner())
    }
}

/// The thread's own.
struct Looker {
    shared: Arc<Shared>,
    config: Announce,
    vips: Vec<IpAddr>,
    node: String,
    plane: Arc<Plane>,
    addresses: Option<Addresses>,
    renewed: Option<Instant>,
}

impl Looker {
    fn run(mut self) {
        while !self.shared.is_over.load(Ordering::Acquire) {
            self.look();
            let state = self.shared.lock();
            drop(self.shared.changed.wait_timeout(state, LOOK_EVERY));
        }
        if self.shared.lock().announced {
            self.withdraw("the node has stopped");
        }
        if let Some(addresses) = &mut self.addresses {
            addresses.close();
        }
    }

    fn look(&mut self) {
        let table = self.plane.table().load_full();
        let facts = Facts {
            dead_workers: self.shared.dead_workers.load(Ordering::Relaxed),
            empty_pools: Facts::of_table(&table, &self.config.required),
            is_leaving: self.shared.is_leaving.load(Ordering::Acquire),
        };
        let announced = self.shared.lock().announced;
        match (announced, facts.reason()) {
            (false, None) => self.announce(),
            (true, Some(reason)) => self.withdraw(&reason),
            (true, None) => self.renew(),
            (false, Some(reason)) => self.shared.lock().reason = Some(reason),
        }
    }

    fn announce(&mut self) {
        self.renewed = None;
        self.renew();
        // A hook may take longer than the addresses last.
        self.call_hook("announce", "", Self::renew);
        let events = self.plane.events();
        events.note(Kind::Announced, Severity::Info, self.list(), "announced");
        self.note(true, None);
    }

    fn withdraw(&mut self, reason: &str) {
        if let Some(addresses) = &mut self.addresses {
            addresses.withdraw();
        }
        self.call_hook("withdraw", reason, |_| ());
        let text = format!("withdrawn: {reason}");
        let events = self.plane.events();
        events.note(Kind::Withdrawn, Severity::Warn, self.list(), text);
        self.note(false, Some(reason.to_owned()));
    }

    /// Puts the addresses there for some more seconds.
    fn renew(&mut self) {
        let is_due = self.renewed.is_none_or(|at| at.elapsed() >= RENEW_EVERY);
        if let Some(addresses) = self.addresses.as_mut().filter(|_| is_due) {
            addresses.announce();
            self.renewed = Some(Instant::now());
        }
    }

    fn note(&self, announced: bool, reason: Option<String>) {
        *self.shared.lock() = State {
            announced,
            reason,
            since: Instant::now(),
        };
        self.shared.changed.notify_all();
    }

    fn list(&self) -> String {
        let vips = self.vips.iter().map(ToString::to_string);
        vips.collect::<Vec<_>>().join(", ")
    }

    /// Runs `announce.hook` and waits for it, and does something `meanwhile`. What goes wrong is logged: the next change
    /// calls it again.
    fn call_hook(&mut self, what: &str, reason: &str, mut meanwhile: impl FnMut(&mut Self)) {
        let Some(hook) = self.config.hook.clone() else {
            return;
        };
        let (node, vips) = (self.node.clone(), self.list());
        if let Err(error) = run_hook(&hook, what, reason, &node, &vips, || meanwhile(self)) {
            log::error!("announce.hook {} {what}: {error:#}", hook.display());
        }
    }
}

fn run_hook(
    hook: &Path,
    what: &str,
    reason: &str,
    node: &str,
    vips: &str,
    mut meanwhile: impl FnMut(),
) -> Result<()> {
    let mut child = Command::new(hook)
        .arg(what)
        .env("SIPLB_NODE", node)
        .env("SIPLB_VIPS", vips)
        .env("SIPLB_REASON", reason)
        .stdin(Stdio::null())
        .spawn()
        .context("cannot be started")?;
    let deadline = Instant::now() + HOOK_TIMEOUT;
    loop {
        match child.try_wait()? {
            Some(status) if status.success() => return Ok(()),
            Some(status) => anyhow::bail!("{status}"),
            None if Instant::now() >= deadline => {
                child.kill()?;
                child.wait()?;
                anyhow::bail!("killed after {} s", HOOK_TIMEOUT.as_secs());
            }
            None => {
                meanwhile();
                std::thread::sleep(Duration::from_millis(10));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_node_is_announced_when_nothing_speaks_against_it() {
        assert_eq!(Facts::default().reason(), None);
        let facts = Facts {
            dead_workers: 1,
            empty_pools: vec!["switches".into()],
            is_leaving: true,
        };
        assert_eq!(
            facts.reason().unwrap(),
            "the node is leaving; 1 of the workers do not work; pool switches has no backend that takes calls"
        );
    }

    #[test]
    fn a_hook_is_told_what_why_and_where() {
        let dir = std::env::temp_dir().join(format!("siplb-hook-{}", std::process::id()));
        std::fs::create_dir_all(&dir).unwrap();
        let (hook, said) = (dir.join("hook"), dir.join("said"));
        let script = format!(
            "#!/bin/sh\necho \"$1 $SIPLB_NODE $SIPLB_VIPS $SIPLB_REASON\" >> {}\n[ \"$1\" = announce ]\n",
            said.display()
        );
        std::fs::write(&hook, script).unwrap();
        let mode = std::os::unix::fs::PermissionsExt::from_mode(0o755);
        std::fs::set_permissions(&hook, mode).unwrap();
        let run = |what, reason| run_hook(&hook, what, reason, "edge-1", "203.0.113.10", || ());
        run("announce", "").unwrap();
        let refused = run("withdraw", "it leaves");
        assert_eq!(refused.unwrap_err().to_string(), "exit status: 1");
        let said = std::fs::read_to_string(said).unwrap();
        assert_eq!(
            said,
            "announce edge-1 203.0.113.10 \nwithdraw edge-1 203.0.113.10 it leaves\n"
        );
        assert!(run_hook(&dir.join("none"), "announce", "", "", "", || ()).is_err());

        // It ends when it is told: that something was done meanwhile.
        let go_on = dir.join("go-on");
        let script = format!(
            "#!/bin/sh\nwhile [ ! -e {} ]; do :; done\n",
            go_on.display()
        );
        std::fs::write(&hook, script).unwrap();
        let touch = || drop(std::fs::write(&go_on, ""));
        run_hook(&hook, "announce", "", "", "", touch).unwrap();
        std::fs::remove_dir_all(&dir).unwrap();
    }
}
