//! Programs that run in a lab.

use std::{
    fs::File,
    os::unix::process::{CommandExt, ExitStatusExt},
    path::{Path, PathBuf},
    process::{Child, Command, ExitStatus, Stdio},
    time::Duration,
};

use anyhow::{Context, Result};
use rustix::process::{Pid, Signal, kill_process};

use crate::{host::Host, wait::until};

/// How long a program gets to stop after being told to, before it is killed.
const STOP_TIMEOUT: Duration = Duration::from_secs(10);

/// A program in a host of the lab, killed when dropped.
#[derive(Debug)]
pub struct Process {
    name: String,
    child: Child,
    output: PathBuf,
    status: Option<ExitStatus>,
    kept: bool,
}

impl Process {
    /// Starts `command` in `host`; what it prints goes to the file `NAME.out` in `dir`.
    ///
    /// The program gets a process group of its own: a Ctrl-C in the terminal reaches the lab's owner alone, who then
    /// stops the others in order.
    ///
    /// # Errors
    ///
    /// When the file cannot be written or the program not started.
    pub fn spawn(host: &Host, dir: &Path, name: &str, mut command: Command) -> Result<Self> {
        let output = dir.join(format!("{name}.out"));
        let file = File::create(&output).with_context(|| format!("cannot write {output:?}"))?;
        command
            .stdin(Stdio::null())
            .stdout(file.try_clone()?)
            .stderr(file)
            .process_group(0);
        let child = host
            .enter(|| command.spawn())?
            .with_context(|| format!("cannot start {name}: {command:?}"))?;
        Ok(Self {
            name: name.into(),
            child,
            output,
            status: None,
            kept: false,
        })
    }

    /// Process id.
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// What it was called at [`Self::spawn`].
    pub fn name(&self) -> &str {
        &self.name
    }

    /// What it has printed so far.
    pub fn output(&self) -> String {
        std::fs::read_to_string(&self.output)
            .unwrap_or_else(|error| format!("(cannot read {:?}: {error})", self.output))
    }

    /// Whether it still runs.
    pub fn is_running(&mut self) -> bool {
        self.poll().is_none()
    }

    /// Sends a signal; nothing happens when the program is gone.
    pub fn signal(&mut self, signal: Signal) {
        // Not reaped yet, so the id cannot have gone to another process.
        if self.poll().is_none()
            && let Some(pid) = Pid::from_raw(self.child.id().cast_signed())
        {
            let _ = kill_process(pid, signal);
        }
    }

    /// Waits for its end.
    ///
    /// # Errors
    ///
    /// After `timeout`; the program runs on.
    pub fn wait(&mut self, timeout: Duration) -> Result<ExitStatus> {
        let what = format!("end of {} ({})", self.name, self.child.id());
        until(&what, timeout, || self.poll())
    }

    /// Sends SIGTERM and waits; kills it if that does not help.
    ///
    /// # Errors
    ///
    /// When it had to be killed.
    pub fn stop(&mut self) -> Result<ExitStatus> {
        self.signal(Signal::TERM);
        let stopped = self.wait(STOP_TIMEOUT);
        if stopped.is_err() {
            self.kill();
        }
        stopped
    }

    /// Kills it (SIGKILL) and waits until it is gone.
    pub fn kill(&mut self) {
        self.signal(Signal::KILL);
        if let Ok(status) = self.child.wait() {
            self.status = Some(status);
        }
    }

    /// Lets it live on when dropped.
    pub fn keep(&mut self) {
        self.kept = true;
    }

    fn poll(&mut self) -> Option<ExitStatus> {
        if self.status.is_none() {
            // An error would mean that it was reaped elsewhere: it is gone.
            self.status = self
                .child
                .try_wait()
                .unwrap_or_else(|_| Some(ExitStatus::from_raw(0)));
        }
        self.status
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        if !self.kept {
            self.kill();
        }
    }
}
