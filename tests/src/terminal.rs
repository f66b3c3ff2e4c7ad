//! A terminal without a window, for programs that draw.

use std::{
    fs::File,
    io::{Read, Write},
    num::NonZeroU16,
    os::unix::process::ExitStatusExt,
    process::{Child, Command, ExitStatus, Stdio},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use anyhow::{Context, Result, bail, ensure};
use rustix::{
    process::{Pid, Signal, kill_process},
    pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt},
    termios::{Winsize, tcsetwinsize},
};

use crate::wait::until;

/// How long a program may take to show something, and to end.
const PATIENCE: Duration = Duration::from_secs(20);

/// A program with a terminal of its own; killed when this is dropped.
pub struct Terminal {
    child: Child,
    master: File,
    screen: Arc<Mutex<vt100::Parser>>,
    status: Option<ExitStatus>,
}

impl Terminal {
    /// Starts a program with a terminal of that many columns and lines.
    ///
    /// # Errors
    ///
    /// When there is no terminal to be had, or the program cannot be started.
    pub fn start(program: &Command, columns: u16, lines: u16) -> Result<Self> {
        let master = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY)?;
        grantpt(&master)?;
        unlockpt(&master)?;
        let name = ptsname(&master, Vec::new())?;
        let slave = name.to_str().context("a name of a terminal")?;
        let slave = File::options().read(true).write(true).open(slave)?;
        let master = File::from(master);
        set_size(&master, columns, lines)?;
        // It has to be the controlling terminal, or /dev/tty would be ours.
        let mut command = Command::new("setsid");
        command.arg("--ctty").arg(program.get_program());
        command.args(program.get_args());
        for (name, value) in program.get_envs() {
            command.env(name, value.unwrap_or_default());
        }
        command
            .env("TERM", "xterm-256color")
            .stdin(slave.try_clone()?)
            .stdout(slave.try_clone()?)
            .stderr(Stdio::from(slave));
        let child = command
            .spawn()
            .with_context(|| format!("cannot start {command:?}"))?;
        let parser = vt100::Parser::new(size(lines)?, size(columns)?, 0);
        let screen = Arc::new(Mutex::new(parser));
        let mut reader = master.try_clone()?;
        let shared = Arc::clone(&screen);
        std::thread::spawn(move || {
            let mut bytes = [0; 4096];
            // An error is the end: nobody has the terminal open any more.
            while let Ok(len) = reader.read(&mut bytes) {
                if len == 0 {
                    return;
                }
                lock(&shared).process(&bytes[..len]);
            }
        });
        Ok(Self {
            child,
            master,
            screen,
            status: None,
        })
    }

    /// Types keys.
    ///
    /// # Errors
    ///
    /// When the terminal is gone.
    pub fn keys(&mut self, keys: &str) -> Result<()> {
        Ok(self.master.write_all(keys.as_bytes())?)
    }

    /// Gives it another size; the program is told by SIGWINCH.
    ///
    /// # Errors
    ///
    /// When the terminal is gone.
    pub fn resize(&mut self, columns: u16, lines: u16) -> Result<()> {
        // What is drawn for the new size must not meet the old one.
        let mut screen = lock(&self.screen);
        screen.screen_mut().set_size(size(lines)?, size(columns)?);
        set_size(&self.master, columns, lines)
    }

    /// What is on it.
    pub fn text(&self) -> String {
        lock(&self.screen).screen().contents()
    }

    /// Whether it is as a program that draws leaves it: the usual screen, and a cursor.
    pub fn is_restored(&self) -> bool {
        let screen = lock(&self.screen);
        !screen.screen().alternate_screen() && !screen.screen().hide_cursor()
    }

    /// Waits until it shows these words; returns all that it shows.
    ///
    /// # Errors
    ///
    /// When it does not within seconds; the message has what it shows.
    pub fn shows(&mut self, words: &str) -> Result<String> {
        self.until(words, |text| text.contains(words))
    }

    /// Waits until what it shows satisfies `condition`.
    ///
    /// # Errors
    ///
    /// As [`Self::shows`].
    pub fn until(&mut self, what: &str, condition: impl Fn(&str) -> bool) -> Result<String> {
        let found = until(what, PATIENCE, || {
            let text = self.text();
            condition(&text).then_some(text)
        });
        match found {
            Ok(text) => Ok(text),
            Err(error) => bail!("{error:#}; it shows\n{}", self.text()),
        }
    }

    /// Sends a signal to the program.
    pub fn signal(&mut self, signal: Signal) {
        if self.poll().is_none()
            && let Some(pid) = Pid::from_raw(self.child.id().cast_signed())
        {
            let _ = kill_process(pid, signal);
        }
    }

    /// Waits for the end of the program.
    ///
    /// # Errors
    ///
    /// When it does not end within seconds, or leaves the terminal as no shell could use it.
    pub fn finish(&mut self) -> Result<ExitStatus> {
        let status = until("the end of the program", PATIENCE, || self.poll())?;
        let restored = || self.is_restored().then_some(());
        let restored = until("a terminal as before", PATIENCE, restored);
        ensure!(restored.is_ok(), "it shows\n{}", self.text());
        Ok(status)
    }

    fn poll(&mut self) -> Option<ExitStatus> {
        if self.status.is_none() {
            self.status = self
                .child
                .try_wait()
                .unwrap_or_else(|_| Some(ExitStatus::from_raw(0)));
        }
        self.status
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        if self.poll().is_none() {
            let _ = self.child.kill();
            let _ = self.child.wait();
        }
    }
}

fn size(number: u16) -> Result<NonZeroU16> {
    NonZeroU16::new(number).context("a terminal without a line or a column")
}

fn set_size(master: &File, columns: u16, lines: u16) -> Result<()> {
    let size = Winsize {
        ws_row: lines,
        ws_col: columns,
        ws_xpixel: 0,
        ws_ypixel: 0,
    };
    Ok(tcsetwinsize(master, size)?)
}

fn lock(screen: &Mutex<vt100::Parser>) -> MutexGuard<'_, vt100::Parser> {
    screen.lock().unwrap_or_else(PoisonError::into_inner)
}
