//! The command line's end of the control socket.

use std::{
    fmt,
    io::{self, Write},
    os::unix::net::UnixStream,
    path::{Path, PathBuf},
    sync::mpsc,
    thread,
    time::Duration,
};

use serde_json::Value;

use super::{Request, timed::Timed};

/// How long the node may take, for connecting and for answering.
const PATIENCE: Duration = Duration::from_secs(5);
/// Longest answer, in bytes.
const LONGEST_ANSWER: usize = 16 << 20;

/// Why a request came to nothing.
#[derive(Debug)]
pub enum CallError {
    /// Nobody listens at the socket.
    NotRunning(PathBuf),
    /// The socket could not be used.
    Io(PathBuf, io::Error),
    /// What came back is not an answer.
    Garbage(PathBuf),
    /// The node refused.
    Refused(String),
}

impl fmt::Display for CallError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotRunning(path) => write!(
                f,
                "{}: nobody answers; is siplb running, and with this control.socket?",
                path.display()
            ),
            Self::Io(path, error) if error.kind() == io::ErrorKind::PermissionDenied => write!(
                f,
                "{}: {error}; run this as the user that siplb runs as",
                path.display()
            ),
            Self::Io(path, error) if error.kind() == io::ErrorKind::TimedOut => write!(
                f,
                "{}: no answer within {} s; the process hangs or is stopped",
                path.display(),
                PATIENCE.as_secs()
            ),
            Self::Io(path, error) => write!(f, "{}: {error}", path.display()),
            Self::Garbage(path) => write!(
                f,
                "{}: the answer makes no sense; is this siplb's control.socket?",
                path.display()
            ),
            Self::Refused(reason) => f.write_str(reason),
        }
    }
}

impl std::error::Error for CallError {}

/// Sends a request to the node that listens at `path` and returns its answer, an object with `"ok": true`.
///
/// # Errors
/// When nobody listens, the node does not answer within five seconds for each step, or refuses.
pub fn call(path: &Path, request: &Request) -> Result<Value, CallError> {
    open(path, request).map(|(answer, _)| answer)
}

/// The same for a request that is answered by one line after the other.
///
/// # Errors
/// As for [`call`].
pub fn open(path: &Path, request: &Request) -> Result<(Value, Stream), CallError> {
    let io = |error: io::Error| match error.kind() {
        io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused => {
            CallError::NotRunning(path.to_owned())
        }
        _ => CallError::Io(path.to_owned(), error),
    };
    let garbage = || CallError::Garbage(path.to_owned());

    let stream = connect(path, PATIENCE).map_err(io)?;
    let mut timed = Timed::new(&stream, PATIENCE);
    let mut line = serde_json::to_vec(request).map_err(|error| io(error.into()))?;
    line.push(b'\n');
    match timed.write_all(&line) {
        // Sent away before it was asked: the reason is there to be read.
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => {}
        result => result.map_err(io)?,
    }
    let mut pending = Vec::new();
    let answer = match timed.read_line(&mut pending, LONGEST_ANSWER) {
        Ok(Some(answer)) => answer,
        Ok(None) => return Err(garbage()),
        Err(error)
            if matches!(
                error.kind(),
                io::ErrorKind::FileTooLarge | io::ErrorKind::UnexpectedEof
            ) =>
        {
            return Err(garbage());
        }
        Err(error) => return Err(io(error)),
    };
    let answer: Value = serde_json::from_slice(&answer).map_err(|_| garbage())?;
    match answer.get("ok").and_then(Value::as_bool) {
        Some(true) => Ok((answer, Stream { stream, pending })),
        Some(false) => Err(CallError::Refused(
            answer
                .get("error")
                .and_then(Value::as_str)
                .unwrap_or("refused without a reason")
                .to_owned(),
        )),
        None => Err(garbage()),
    }
}

/// What comes after the answer, line by line.
#[derive(Debug)]
pub struct Stream {
    stream: UnixStream,
    /// Read already.
    pending: Vec<u8>,
}

/// What a look at a [`Stream`] brings.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Next {
    /// A line, without its end.
    Line(Vec<u8>),
    /// Nothing has come in the time.
    Nothing,
    /// Nothing comes any more.
    End,
}

impl Stream {
    /// The next line, if it comes within this time.
    ///
    /// # Errors
    /// Those of the socket.
    pub fn next_line(&mut self, within: Duration) -> io::Result<Next> {
        match Timed::new(&self.stream, within).read_line(&mut self.pending, LONGEST_ANSWER) {
            Ok(Some(line)) => Ok(Next::Line(line)),
            Ok(None) => Ok(Next::End),
            Err(error) => match error.kind() {
                io::ErrorKind::TimedOut => Ok(Next::Nothing),
                io::ErrorKind::UnexpectedEof | io::ErrorKind::ConnectionReset => Ok(Next::End),
                _ => Err(error),
            },
        }
    }
}

/// Connects, but not for ever: the queue of a process that hangs may be full.
pub(super) fn connect(path: &Path, within: Duration) -> io::Result<UnixStream> {
    let (sender, receiver) = mpsc::channel();
    let path = path.to_owned();
    // The standard library cannot give up on connecting. Where it takes too long the thread is left behind.
    thread::Builder::new()
        .name("connect".into())
        .spawn(move || drop(sender.send(UnixStream::connect(path))))?;
    receiver
        .recv_timeout(within)
        .unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()))
}
