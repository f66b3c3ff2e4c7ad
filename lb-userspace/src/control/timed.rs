//! Lines over a stream, before a deadline.

use std::{
    io::{self, Read, Write},
    os::unix::net::UnixStream,
    time::{Duration, Instant},
};

/// A stream whose reads and writes all end by one deadline, however slowly the other side goes on.
pub(super) struct Timed<'a> {
    stream: &'a UnixStream,
    deadline: Instant,
}

impl<'a> Timed<'a> {
    pub(super) fn new(stream: &'a UnixStream, within: Duration) -> Self {
        Self {
            stream,
            deadline: Instant::now() + within,
        }
    }

    /// Time left, or the error of a deadline that is over.
    fn left(&self) -> io::Result<Option<Duration>> {
        let left = self.deadline.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Err(io::ErrorKind::TimedOut.into());
        }
        Ok(Some(left))
    }

    /// Reads up to the next line end and returns what stands before it; `None` at the end of the stream.
    ///
    /// `pending` is what was read before, and holds afterwards what was read too much.
    ///
    /// # Errors
    /// `FileTooLarge` for a line longer than `longest`, `UnexpectedEof` for one without an end, and those of the
    /// stream, such as `TimedOut`.
    pub(super) fn read_line(
        &mut self,
        pending: &mut Vec<u8>,
        longest: usize,
    ) -> io::Result<Option<Vec<u8>>> {
        let mut searched = 0;
        loop {
            if let Some(at) = memchr::memchr(b'\n', &pending[searched..]) {
                let rest = pending.split_off(searched + at + 1);
                let mut line = std::mem::replace(pending, rest);
                line.pop();
                if line.len() > longest {
                    return Err(io::ErrorKind::FileTooLarge.into());
                }
                return Ok(Some(line));
            }
            if pending.len() > longest {
                return Err(io::ErrorKind::FileTooLarge.into());
            }
            searched = pending.len();
            let mut chunk = [0; 4096];
            match self.read(&mut chunk)? {
                0 if pending.is_empty() => return Ok(None),
                0 => return Err(io::ErrorKind::UnexpectedEof.into()),
                read => pending.extend_from_slice(&chunk[..read]),
            }
        }
    }
}

impl Read for Timed<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        loop {
            self.stream.set_read_timeout(self.left()?)?;
            match self.stream.read(buffer) {
                // The next turn sees whether the time is over.
                Err(error) if is_try_again(&error) => {}
                result => return result,
            }
        }
    }
}

impl Write for Timed<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        loop {
            self.stream.set_write_timeout(self.left()?)?;
            match self.stream.write(bytes) {
                Err(error) if is_try_again(&error) => {}
                result => return result,
            }
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

fn is_try_again(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted | io::ErrorKind::TimedOut
    )
}
