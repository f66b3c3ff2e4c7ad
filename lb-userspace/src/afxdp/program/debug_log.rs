//! The debug log of the XDP program, as records of the `log` crate. Off unless the configuration asks for it.

use std::{
    io::{self, Write},
    os::unix::net::UnixStream,
    thread::JoinHandle,
};

use anyhow::{Context, Result};
use aya::Ebpf;
use aya_log::EbpfLogger;
use rustix::{
    event::{PollFd, PollFlags, poll},
    io::Errno,
};

/// A thread that hands on what the XDP program logs; stops when this is dropped.
#[derive(Debug)]
pub(super) struct DebugLog {
    stop: UnixStream,
    thread: Option<JoinHandle<()>>,
}

impl DebugLog {
    pub(super) fn start(ebpf: &mut Ebpf, interface: &str) -> Result<Self> {
        let mut logger =
            EbpfLogger::init(ebpf).context("opening the debug log of the XDP program")?;
        let (stop, stopped) = UnixStream::pair()?;
        let thread = std::thread::Builder::new()
            .name(format!("xdp-log-{interface}"))
            .spawn(move || {
                let result = relay(&mut logger, &stopped);
                if let Err(error) = result {
                    log::error!("the debug log of the XDP program ends: {error}");
                }
            })
            .context("starting the thread of the XDP program's debug log")?;
        Ok(Self {
            stop,
            thread: Some(thread),
        })
    }
}

/// Hands on records until `stopped` can be read.
fn relay(logger: &mut EbpfLogger<&'static dyn log::Log>, stopped: &UnixStream) -> io::Result<()> {
    loop {
        let mut polled = [
            PollFd::new(&*logger, PollFlags::IN),
            PollFd::new(stopped, PollFlags::IN),
        ];
        match poll(&mut polled, None) {
            Ok(_) | Err(Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
        let stop = !polled[1].revents().is_empty();
        logger.flush();
        if stop {
            return Ok(());
        }
    }
}

impl Drop for DebugLog {
    fn drop(&mut self) {
        // The thread wakes up on the byte; if it is gone already there is nobody to tell.
        let _ = self.stop.write_all(&[0]);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}
