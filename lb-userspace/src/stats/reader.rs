//! The reading side, which trusts nothing in the file.
//!
//! It reads a copy rather than mapping the file: a file that somebody cuts short must be an error, not a SIGBUS.

#[cfg(test)]
mod tests;

use std::{
    fmt,
    fs::File,
    io::{self, Read},
    path::{Path, PathBuf},
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use super::layout::{self, InterfaceInfo, MessageNames, Names, WorkerInfo};

/// Why statistics could not be read.
#[derive(Debug)]
pub enum StatsError {
    /// The file could not be read.
    Io(PathBuf, io::Error),
    /// It is not a statistics file, or not a whole one.
    Invalid(PathBuf, &'static str),
    /// Another version of siplb wrote it, with another meaning.
    Version(PathBuf, u64),
}

impl fmt::Display for StatsError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Io(path, error) if error.kind() == io::ErrorKind::NotFound => write!(
                f,
                "{}: no such file; is siplb running, and with this stats.file?",
                path.display()
            ),
            Self::Io(path, error) => write!(f, "{}: cannot be read: {error}", path.display()),
            Self::Invalid(path, what) => {
                write!(f, "{}: not a statistics file: {what}", path.display())
            }
            Self::Version(path, version) => write!(
                f,
                "{}: version {version} of the format, but this siplb reads version {}; use the siplb that wrote it",
                path.display(),
                layout::VERSION
            ),
        }
    }
}

impl std::error::Error for StatsError {}

/// A statistics file, by its path: after a restart it reads that of the new process.
#[derive(Clone, Debug)]
pub struct StatsReader {
    path: PathBuf,
}

/// All numbers of a file, read at one time. Numbers of a running process that belong together may still be a few
/// datagrams apart.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Snapshot {
    /// The process that writes, or wrote, the file.
    pub pid: u32,
    /// Whether it still runs.
    pub running: bool,
    /// When it made the file.
    pub started: SystemTime,
    /// When it last said that it lives.
    pub alive: SystemTime,
    /// XDP programs that steer to the workers.
    pub interfaces: Vec<Interface>,
    /// In the order of the workers.
    pub workers: Vec<Worker>,
}

/// Where the XDP program of an interface counts.
pub type Interface = InterfaceInfo;

/// What one worker counted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Worker {
    /// Who it is.
    pub info: WorkerInfo,
    /// Counters and gauges in the order of the file.
    pub counters: Vec<Value>,
    /// What became of datagrams, in the order of the file.
    pub outcomes: Vec<Value>,
    /// Messages, those that there were.
    pub messages: Vec<MessageCount>,
    /// Distributions, in the order of the file.
    pub histograms: Vec<Distribution>,
    /// In the order of the file.
    pub backends: Vec<BackendCounts>,
}

/// A number under its name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Value {
    /// As the writer called it.
    pub name: String,
    /// What kind it is: `counter` or `gauge`; for outcomes `forward`, `reply`, `drop` or `absorb`.
    pub kind: String,
    /// The number.
    pub value: u64,
}

/// Messages of one kind.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MessageCount {
    /// `client` or `backend`; `siplb` for what the node made.
    pub from: String,
    /// `client` or `backend`; `nobody` for what went no further.
    pub to: String,
    /// The method, of a response the one in CSeq; `other` for those that are not counted by name.
    pub method: String,
    /// `request`, or the class of a response: `2xx`.
    pub class: String,
    /// How many.
    pub value: u64,
}

/// How large values were.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Distribution {
    /// As the writer called it.
    pub name: String,
    /// Upper bounds, each included.
    pub bounds: Vec<u64>,
    /// How many values are above the bound before and not above this one; one more for what is above all of them.
    pub counts: Vec<u64>,
    /// Of all values.
    pub sum: u64,
}

impl Distribution {
    /// How many values there were.
    pub fn count(&self) -> u64 {
        self.counts.iter().sum()
    }

    /// Adds another one with the same bounds.
    pub fn add(&mut self, other: &Self) {
        if self.counts.is_empty() {
            self.clone_from(other);
            return;
        }
        for (mine, more) in self.counts.iter_mut().zip(&other.counts) {
            *mine = mine.wrapping_add(*more);
        }
        self.sum = self.sum.wrapping_add(other.sum);
    }
}

/// What a backend got.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct BackendCounts {
    /// Its name.
    pub name: String,
    /// Requests.
    pub requests: u64,
    /// Initial INVITEs among them, retransmissions included.
    pub invites: u64,
    /// Responses that came from it.
    pub responses: u64,
    /// Transactions and calls in set-up that are pinned to it: a level, a few seconds old at most.
    pub pins: u64,
    /// Requests that want an answer: all but ACK.
    pub answerable: u64,
    /// Its responses by class, in the order of the file.
    pub classes: Vec<Value>,
    /// Time until its first response to an INVITE, in nanoseconds, of those that were timed.
    pub first_response: Distribution,
}

impl Worker {
    /// A counter by its name; 0 when the writer does not know it.
    pub fn counter(&self, name: &str) -> u64 {
        self.counters
            .iter()
            .find(|value| value.name == name)
            .map_or(0, |value| value.value)
    }
}

impl StatsReader {
    /// Reads a file once, to see whether it is one.
    ///
    /// # Errors
    /// When it cannot be read or is not a whole statistics file.
    pub fn open(path: &Path) -> Result<Self, StatsError> {
        let reader = Self {
            path: path.to_owned(),
        };
        reader.snapshot()?;
        Ok(reader)
    }

    /// Reads all numbers.
    ///
    /// # Errors
    /// When the file cannot be read (any more) or is not a whole statistics file.
    pub fn snapshot(&self) -> Result<Snapshot, StatsError> {
        let io = |error| StatsError::Io(self.path.clone(), error);
        let mut bytes = Vec::new();
        File::open(&self.path)
            .map_err(io)?
            .take(layout::MAX_FILE as u64 + 1)
            .read_to_end(&mut bytes)
            .map_err(io)?;
        parse(&bytes).map_err(|problem| match problem {
            Problem::Invalid(what) => StatsError::Invalid(self.path.clone(), what),
            Problem::Version(version) => StatsError::Version(self.path.clone(), version),
        })
    }
}

#[derive(Debug, PartialEq, Eq)]
enum Problem {
    Invalid(&'static str),
    Version(u64),
}

fn parse(bytes: &[u8]) -> Result<Snapshot, Problem> {
    let invalid = Problem::Invalid;
    let (words, rest) = bytes.as_chunks::<8>();
    let word = |index: usize| words.get(index).map(|bytes| u64::from_ne_bytes(*bytes));
    let header = |index: usize| word(index).ok_or(invalid("it is too short"));
    let size =
        |index: usize| header(index).map(|value| usize::try_from(value).unwrap_or(usize::MAX));

    if header(layout::WORD_MAGIC)? != layout::MAGIC {
        return Err(invalid("it begins with something else"));
    }
    match header(layout::WORD_VERSION)? {
        layout::VERSION => {}
        other => return Err(Problem::Version(other)),
    }
    if words.len() < layout::HEADER_WORDS || bytes.len() > layout::MAX_FILE || !rest.is_empty() {
        return Err(invalid("its length is impossible"));
    }
    if size(layout::WORD_FILE_LEN)? != bytes.len() {
        return Err(invalid("it is not whole"));
    }

    let names_offset = size(layout::WORD_NAMES_OFFSET)?;
    let names = names_offset
        .checked_add(size(layout::WORD_NAMES_LEN)?)
        .and_then(|end| bytes.get(names_offset..end))
        .ok_or(invalid("its names are outside of it"))?;
    let names: Names =
        serde_json::from_slice(names).map_err(|_| invalid("its names are garbled"))?;

    let blocks = (
        size(layout::WORD_BLOCKS_OFFSET)?,
        size(layout::WORD_BLOCK_LEN)?,
        size(layout::WORD_BLOCKS)?,
    );
    let blocks = blocks
        .1
        .checked_mul(blocks.2)
        .and_then(|len| len.checked_add(blocks.0))
        .filter(|&end| end == bytes.len())
        .map(|_| blocks)
        .ok_or(invalid("its blocks are outside of it"))?;
    let (offset, len, count) = blocks;
    if offset % 8 != 0
        || len % 8 != 0
        || count != names.workers.len()
        || len / 8 < names.block_words()
    {
        return Err(invalid("its blocks do not fit its names"));
    }

    let pid = u32::try_from(header(layout::WORD_PID)?)
        .map_err(|_| invalid("its process id is impossible"))?;
    let process_start = header(layout::WORD_PROCESS_START)?;
    let time = |index| header(index).map(|ns| UNIX_EPOCH + Duration::from_nanos(ns));
    let workers = names.workers.iter().enumerate().map(|(index, info)| {
        let first = (offset + index * len) / 8;
        worker(info, &names, &words[first..first + len / 8])
    });
    Ok(Snapshot {
        pid,
        running: process_start_is(pid, process_start),
        started: time(layout::WORD_CREATED)?,
        alive: time(layout::WORD_ALIVE)?,
        workers: workers.collect(),
        interfaces: names.interfaces.clone(),
    })
}

/// `words` are as many as [`Names::block_words`], at least.
fn worker(info: &WorkerInfo, names: &Names, words: &[[u8; 8]]) -> Worker {
    let mut words = words.iter().map(|bytes| u64::from_ne_bytes(*bytes));
    let mut next = || words.next().unwrap_or_default();
    let counters = names.counters.iter().map(|name| Value {
        name: name.clone(),
        kind: if names.gauges.contains(name) {
            "gauge".to_owned()
        } else {
            "counter".to_owned()
        },
        value: next(),
    });
    let counters = counters.collect();
    let outcomes = names.outcomes.iter().map(|name| Value {
        name: name.clone(),
        kind: names.classes.get(name).cloned().unwrap_or_default(),
        value: next(),
    });
    let outcomes = outcomes.collect();
    let messages = messages(&names.messages, &mut next);
    let histograms = names.histograms.iter();
    let histograms =
        histograms.map(|histogram| distribution(&histogram.name, &histogram.bounds, &mut next));
    let histograms = histograms.collect();
    let backends = names.backends.iter().map(|name| BackendCounts {
        name: name.clone(),
        requests: next(),
        invites: next(),
        responses: next(),
        pins: next(),
        answerable: next(),
        classes: names
            .response_classes
            .iter()
            .map(|class| Value {
                name: class.clone(),
                kind: "counter".to_owned(),
                value: next(),
            })
            .collect(),
        first_response: distribution("first_response_ns", &names.first_response_bounds, &mut next),
    });
    Worker {
        info: info.clone(),
        counters,
        outcomes,
        messages,
        histograms,
        backends: backends.collect(),
    }
}

fn messages(names: &MessageNames, next: &mut impl FnMut() -> u64) -> Vec<MessageCount> {
    let mut messages = Vec::new();
    for [from, to] in &names.directions {
        for method in &names.methods {
            for class in &names.classes {
                let value = next();
                if value > 0 {
                    messages.push(MessageCount {
                        from: from.clone(),
                        to: to.clone(),
                        method: method.clone(),
                        class: class.clone(),
                        value,
                    });
                }
            }
        }
    }
    messages
}

fn distribution(name: &str, bounds: &[u64], next: &mut impl FnMut() -> u64) -> Distribution {
    Distribution {
        name: name.to_owned(),
        bounds: bounds.to_vec(),
        counts: (0..=bounds.len()).map(|_| next()).collect(),
        sum: next(),
    }
}

fn process_start_is(pid: u32, start: u64) -> bool {
    process_start(pid).is_some_and(|now| now == start)
}

/// When a process started, in clock ticks after boot; with its id that names a process for good. `None` when there
/// is no such process, or only what is left of it.
pub(super) fn process_start(pid: u32) -> Option<u64> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The second field is a name in brackets, which may itself have blanks and brackets: proc(5).
    let mut fields = stat.rsplit_once(')')?.1.split_ascii_whitespace();
    let state = fields.next()?;
    if matches!(state, "Z" | "X") {
        return None;
    }
    fields.nth(18)?.parse().ok()
}
