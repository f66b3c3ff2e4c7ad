//! A host of a lab: a named network namespace.

use std::{fs::File, path::PathBuf, process::Command};

use anyhow::{Context, Result, bail};
use rustix::{
    process::{Pid, Signal, kill_process},
    thread::{LinkNameSpaceType, move_into_link_name_space},
};

use crate::wait::until;

/// Where iproute2 keeps named namespaces.
const NAMESPACES: &str = "/run/netns";

/// A named network namespace, deleted with everything in it when dropped.
///
/// Only the network is separate. The mount namespace stays that of the caller, so that programs in the host see the
/// same `/sys/fs/bpf`; `ip netns exec` would mount another `/sys`. Use `nsenter --net=/run/netns/NAME` by hand.
#[derive(Debug)]
pub struct Host {
    namespace: String,
    kept: bool,
}

impl Host {
    /// Makes a namespace with a loopback interface that is up.
    ///
    /// # Errors
    ///
    /// When `ip` fails: no privilege, or the name is taken.
    pub fn new(namespace: &str) -> Result<Self> {
        run(Command::new("ip").args(["netns", "add", namespace]))?;
        let host = Self {
            namespace: namespace.into(),
            kept: false,
        };
        // Duplicate address detection would keep even link-local addresses from being used for a second or two.
        host.sysctl("ipv6/conf/default/accept_dad", "0")?;
        host.ip("link set lo up")?;
        Ok(host)
    }

    /// The name of the namespace.
    pub fn namespace(&self) -> &str {
        &self.namespace
    }

    /// Runs a closure on a thread inside the namespace: sockets that it opens and programs that it starts belong to
    /// this host.
    ///
    /// # Errors
    ///
    /// When the namespace cannot be entered.
    ///
    /// # Panics
    ///
    /// When the closure does.
    pub fn enter<T: Send>(&self, inside: impl FnOnce() -> T + Send) -> Result<T> {
        let path = PathBuf::from(NAMESPACES).join(&self.namespace);
        let file = File::open(&path).with_context(|| format!("cannot open {path:?}"))?;
        let result = std::thread::scope(|scope| {
            let thread = scope.spawn(|| {
                let network = Some(LinkNameSpaceType::Network);
                move_into_link_name_space(std::os::fd::AsFd::as_fd(&file), network)?;
                Ok::<T, rustix::io::Errno>(inside())
            });
            thread.join()
        });
        match result {
            Ok(result) => result.with_context(|| format!("cannot enter {path:?}")),
            Err(panic) => std::panic::resume_unwind(panic),
        }
    }

    /// Runs `ip` with these arguments, separated by spaces, in this host.
    ///
    /// # Errors
    ///
    /// When `ip` fails.
    pub fn ip(&self, arguments: &str) -> Result<String> {
        self.run("ip", arguments)
    }

    /// Runs a program to its end in this host; the arguments are separated by spaces.
    ///
    /// # Errors
    ///
    /// When it cannot be started or fails; the message has what it printed.
    pub fn run(&self, program: &str, arguments: &str) -> Result<String> {
        let mut command = Command::new(program);
        command.args(arguments.split_whitespace());
        self.enter(|| run(&mut command))?
    }

    /// Sets a value below `/proc/sys/net`.
    ///
    /// # Errors
    ///
    /// When there is no such setting.
    pub fn sysctl(&self, name: &str, value: &str) -> Result<()> {
        let path = PathBuf::from("/proc/sys/net").join(name);
        self.enter(|| std::fs::write(&path, value))?
            .with_context(|| format!("cannot set {path:?} to {value}"))
    }

    /// Leaves the namespace behind when dropped.
    pub fn keep(&mut self) {
        self.kept = true;
    }
}

impl Drop for Host {
    fn drop(&mut self) {
        if !self.kept
            && let Err(error) = remove(&self.namespace)
        {
            eprintln!("lab: {error:#}");
        }
    }
}

/// Names of all namespaces.
pub(crate) fn namespaces() -> Vec<String> {
    let entries = std::fs::read_dir(NAMESPACES)
        .into_iter()
        .flatten()
        .flatten();
    entries
        .filter_map(|entry| entry.file_name().into_string().ok())
        .collect()
}

/// Kills what runs in a namespace and deletes it.
pub(crate) fn remove(namespace: &str) -> Result<()> {
    for process in processes(namespace)? {
        let _ = kill_process(process, Signal::KILL);
    }
    let gone = || processes(namespace).ok().filter(Vec::is_empty).map(|_| ());
    until(
        &format!("end of the programs in {namespace}"),
        std::time::Duration::from_secs(5),
        gone,
    )?;
    run(Command::new("ip").args(["netns", "delete", namespace])).map(drop)
}

fn processes(namespace: &str) -> Result<Vec<Pid>> {
    let output = run(Command::new("ip").args(["netns", "pids", namespace]))?;
    let ids = output.split_whitespace().filter_map(|id| id.parse().ok());
    // A thread of this process that is just leaving `enter` is not to be taken for a program of the host.
    let own = std::process::id().cast_signed();
    Ok(ids
        .filter(|id| *id != own)
        .filter_map(Pid::from_raw)
        .collect())
}

/// Runs a command to its end and returns what it printed.
pub(crate) fn run(command: &mut Command) -> Result<String> {
    let output = command
        .output()
        .with_context(|| format!("cannot start {command:?}"))?;
    if !output.status.success() {
        bail!(
            "{command:?}: {}: {}{}",
            output.status,
            String::from_utf8_lossy(&output.stderr),
            String::from_utf8_lossy(&output.stdout)
        );
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}
