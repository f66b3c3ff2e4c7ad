//! The writing side.

use std::{
    cell::Cell,
    marker::PhantomData,
    path::Path,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{
            AtomicBool,
            Ordering::{Relaxed, Release},
        },
    },
    time::{SystemTime, UNIX_EPOCH},
};

use anyhow::Context;

use super::{
    Counter, CounterKind, Direction, Histogram,
    histogram::{self, FIRST_RESPONSE_BOUNDS},
    layout::{self, HistogramNames, InterfaceInfo, MessageNames, Names, WorkerInfo},
    messages, reader,
    stopwatch::Stopwatches,
};
use crate::{
    balance::BackendIndex,
    forward::{CountedMethod, MessageClass, Outcome, OutcomeClass, Seen},
    nat,
    sys::mmap::SharedWords,
    validate::Reason,
};

/// The statistics of this process, at a path where others find them.
#[derive(Debug)]
pub struct StatsFile {
    shared: Arc<SharedWords>,
    blocks: usize,
    block_words: usize,
    /// Room for this many.
    backends: usize,
    /// Bytes of one set of names; two stand behind each other after the header.
    names_len: usize,
    names: Mutex<Names>,
    taken: Vec<AtomicBool>,
    stopwatches: Arc<Stopwatches>,
}

/// What a backend got and what came from it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct BackendTraffic {
    /// Requests that it got.
    pub requests: u64,
    /// Of these, those that want an answer: all but ACK.
    pub answerable: u64,
    /// Responses that came from it.
    pub responses: u64,
}

/// More backends than the file has room for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NoRoomForBackends;

/// Room for backends that come later.
const MORE_BACKENDS: usize = 64;
/// Bytes of a backend's name in the names: 63 letters, quotes and a comma.
const NAME_LEN: usize = 66;

impl StatsFile {
    /// Makes the file anew, readable for everyone, all numbers 0. One that was there stays as it is for those who
    /// have it open.
    ///
    /// `backends` are the names of all backends, in the order of [`BackendIndex`].
    ///
    /// # Errors
    /// When the file cannot be written.
    pub fn create(
        path: &Path,
        workers: &[WorkerInfo],
        backends: &[String],
    ) -> anyhow::Result<StatsFile> {
        Self::create_with_interfaces(path, workers, backends, &[])
    }

    /// As [`StatsFile::create`], and says which XDP programs steer to these workers.
    ///
    /// # Errors
    /// When the file cannot be written.
    pub fn create_with_interfaces(
        path: &Path,
        workers: &[WorkerInfo],
        backends: &[String],
        interfaces: &[InterfaceInfo],
    ) -> anyhow::Result<StatsFile> {
        let names = names(workers, backends, interfaces);
        let mut json = serde_json::to_vec(&names)?;
        let per_align = layout::BLOCK_ALIGN / 8;
        let room = 2 * backends.len() + MORE_BACKENDS;
        let more_words = names.backend_words() * (room - backends.len());
        let block_words = (names.block_words() + more_words).next_multiple_of(per_align);
        let names_len = (json.len() + NAME_LEN * room).next_multiple_of(8);
        json.resize(names_len, b' ');
        let blocks = (layout::HEADER_WORDS + 2 * names_len / 8).next_multiple_of(per_align);
        let mut words = vec![0; blocks + block_words * workers.len()];

        let pid = std::process::id();
        let now = unix_ns();
        words[layout::WORD_MAGIC] = layout::MAGIC;
        words[layout::WORD_VERSION] = layout::VERSION;
        words[layout::WORD_FILE_LEN] = 8 * words.len() as u64;
        words[layout::WORD_PID] = u64::from(pid);
        words[layout::WORD_PROCESS_START] = reader::process_start(pid).unwrap_or_default();
        words[layout::WORD_CREATED] = now;
        words[layout::WORD_ALIVE] = now;
        words[layout::WORD_NAMES_OFFSET] = 8 * layout::HEADER_WORDS as u64;
        words[layout::WORD_NAMES_LEN] = names_len as u64;
        words[layout::WORD_BLOCKS_OFFSET] = 8 * blocks as u64;
        words[layout::WORD_BLOCK_LEN] = 8 * block_words as u64;
        words[layout::WORD_BLOCKS] = workers.len() as u64;
        for (word, bytes) in words[layout::HEADER_WORDS..]
            .iter_mut()
            .zip(json.as_chunks().0)
        {
            *word = u64::from_ne_bytes(*bytes);
        }

        let shared = SharedWords::create(path, &words)
            .with_context(|| format!("stats.file {} cannot be made", path.display()))?;
        Ok(Self {
            shared: Arc::new(shared),
            blocks,
            block_words,
            backends: room,
            names_len,
            names: Mutex::new(names),
            taken: workers.iter().map(|_| AtomicBool::new(false)).collect(),
            stopwatches: Arc::new(Stopwatches::new(room)),
        })
    }

    /// The counters of a worker, for that worker alone.
    ///
    /// # Panics
    /// When there is no such worker, or when it was asked for before: two writers of one block would lose counts.
    pub fn worker(&self, index: usize) -> WorkerStats {
        assert!(
            !self.taken[index].swap(true, Relaxed),
            "worker {index} has its counters already"
        );
        WorkerStats {
            shared: Arc::clone(&self.shared),
            block: self.blocks + index * self.block_words,
            backends: self.backends,
            stopwatches: Arc::clone(&self.stopwatches),
            one_thread: PhantomData,
        }
    }

    /// Gives the backends these names, in the order of [`BackendIndex`]: new ones come behind those that are there.
    ///
    /// # Errors
    /// [`NoRoomForBackends`]; those that there is room for are named, and the rest is not counted.
    pub fn name_backends(&self, backends: &[String]) -> Result<(), NoRoomForBackends> {
        let mut names = self.names.lock().unwrap_or_else(PoisonError::into_inner);
        names.backends = backends.iter().take(self.backends).cloned().collect();
        let json = serde_json::to_vec(&*names).map_err(|_| NoRoomForBackends)?;
        if json.len() > self.names_len {
            return Err(NoRoomForBackends);
        }
        let words = self.shared.words();
        let first = 8 * layout::HEADER_WORDS as u64;
        let offset = match words[layout::WORD_NAMES_OFFSET].load(Relaxed) {
            used if used == first => first + self.names_len as u64,
            _ => first,
        };
        let mut padded = json;
        padded.resize(self.names_len, b' ');
        let place = &words[(offset / 8) as usize..];
        for (word, bytes) in place.iter().zip(padded.as_chunks().0) {
            word.store(u64::from_ne_bytes(*bytes), Relaxed);
        }
        words[layout::WORD_NAMES_OFFSET].store(offset, Release);
        match backends.len() <= self.backends {
            true => Ok(()),
            false => Err(NoRoomForBackends),
        }
    }

    /// What a backend got and what came from it, of all workers together; 0 for one that there is no room for.
    pub fn backend_traffic(&self, backend: BackendIndex) -> BackendTraffic {
        let sum = |which| {
            let workers = 0..self.taken.len();
            workers
                .filter_map(|worker| self.backend_word(worker, backend, which))
                .sum()
        };
        BackendTraffic {
            requests: sum(REQUESTS),
            answerable: sum(ANSWERABLE),
            responses: sum(RESPONSES),
        }
    }

    /// Pins that lead to a backend, of all workers together, as they counted them last.
    pub fn backend_pins(&self, backend: BackendIndex) -> u64 {
        let workers = 0..self.taken.len();
        workers
            .filter_map(|worker| self.backend_word(worker, backend, PINS))
            .sum()
    }

    fn backend_word(&self, worker: usize, backend: BackendIndex, which: usize) -> Option<u64> {
        let place = backend_place(backend, which, self.backends)?;
        let word = &self.shared.words()[self.blocks + worker * self.block_words + place];
        Some(word.load(Relaxed))
    }

    /// Notes that the process lives. To be called every second or so by the control plane, so that a reader can tell
    /// since when numbers stand still.
    pub fn alive(&self) {
        self.shared.words()[layout::WORD_ALIVE].store(unix_ns(), Relaxed);
    }
}

/// The counters of one worker. It can move to the worker's thread, but not be shared.
#[derive(Debug)]
pub struct WorkerStats {
    shared: Arc<SharedWords>,
    /// First word of the block.
    block: usize,
    backends: usize,
    stopwatches: Arc<Stopwatches>,
    /// `Cell` is not `Sync`: a load and a store count right with one writer only.
    one_thread: PhantomData<Cell<()>>,
}

/// Reasons are counters like the others, behind them.
const REASONS: usize = Counter::ALL.len();
const OUTCOMES: usize = REASONS + Reason::ALL.len();
const MESSAGES: usize = OUTCOMES + Outcome::ALL.len();
const HISTOGRAMS: usize = MESSAGES + messages::WORDS;
const BACKENDS: usize = HISTOGRAMS + histogram::ALL_WORDS;

/// Words of a backend.
const REQUESTS: usize = 0;
const INVITES: usize = 1;
const RESPONSES: usize = 2;
const PINS: usize = 3;
const ANSWERABLE: usize = 4;
const CLASSES: usize = 5;
/// All but requests.
const RESPONSE_CLASSES: usize = MessageClass::ALL.len() - 1;
const FIRST_RESPONSE: usize = CLASSES + RESPONSE_CLASSES;
const BACKEND_WORDS: usize = FIRST_RESPONSE + histogram::words(&FIRST_RESPONSE_BOUNDS);

/// Where a word of a backend is in a block that has room for `room` of them.
fn backend_place(backend: BackendIndex, which: usize, room: usize) -> Option<usize> {
    let backend = usize::from(backend.0);
    (backend < room).then_some(BACKENDS + BACKEND_WORDS * backend + which)
}

impl WorkerStats {
    /// Adds to a counter.
    #[inline]
    pub fn add(&self, counter: Counter, number: u64) {
        self.add_at(counter as usize, number);
    }

    /// Sets a gauge, or a counter that somebody else counts.
    #[inline]
    pub fn set(&self, counter: Counter, number: u64) {
        self.shared.words()[self.block + counter as usize].store(number, Relaxed);
    }

    /// Counts what became of a datagram.
    #[inline]
    pub fn outcome(&self, outcome: Outcome) {
        self.add_at(OUTCOMES + outcome as usize, 1);
    }

    /// Counts what became of several datagrams.
    pub fn outcomes(&self, outcome: Outcome, count: u64) {
        self.add_at(OUTCOMES + outcome as usize, count);
    }

    /// Counts why a request is not well-formed, besides its outcome.
    #[inline]
    pub fn invalid(&self, reason: Reason) {
        self.add_at(REASONS + reason as usize, 1);
    }

    /// Counts what was found out and done about a NAT.
    #[inline]
    pub fn nat(&self, decision: nat::Decision) {
        if decision != nat::Decision::default() {
            self.nat_names(decision);
        }
    }

    fn nat_names(&self, decision: nat::Decision) {
        self.add(Counter::NatMatched, u64::from(decision.is_natted()));
        self.add(Counter::NatBeyondLimits, u64::from(decision.beyond_limits));
        for indicator in decision.matched.iter() {
            self.add(Counter::of_indicator(indicator), 1);
        }
        for fix in decision.fixed.iter() {
            self.add(Counter::of_fix(fix), 1);
        }
    }

    /// Counts a request that a backend gets, and whether it has to answer it. Backends that are not in the file are not
    /// counted.
    #[inline]
    pub fn backend_request(&self, backend: BackendIndex, wants_answer: bool) {
        self.add_at_backend(backend, REQUESTS);
        if wants_answer {
            self.add_at_backend(backend, ANSWERABLE);
        }
    }

    /// Counts an initial INVITE that a backend gets, besides [`WorkerStats::backend_request`], and may time the answer.
    #[inline]
    pub fn backend_invite(&self, backend: BackendIndex, seen: &Seen, now_ns: u64) {
        self.add_at_backend(backend, INVITES);
        if let Some(transaction) = seen.transaction {
            self.stopwatches.start(backend, transaction, now_ns);
        }
    }

    /// Counts a response that came from a backend, and how long it took if that is timed.
    #[inline]
    pub fn backend_response(&self, backend: BackendIndex, seen: &Seen, now_ns: u64) {
        self.add_at_backend(backend, RESPONSES);
        // The first class is that of requests.
        if let Some(class) = (seen.class as usize).checked_sub(1) {
            self.add_at_backend(backend, CLASSES + class);
        }
        let time_ns = seen
            .transaction
            .and_then(|transaction| self.stopwatches.stop(backend, transaction, now_ns));
        if let Some(time_ns) = time_ns
            && let Some(place) = backend_place(backend, FIRST_RESPONSE, self.backends)
        {
            self.observe_at(place, &FIRST_RESPONSE_BOUNDS, time_ns);
        }
    }

    /// Counts a message by where it came from and went to, method and class.
    #[inline]
    pub fn message(&self, direction: Direction, method: CountedMethod, class: MessageClass) {
        if let Some(place) = messages::place(direction, method, class) {
            self.add_at(MESSAGES + place, 1);
        }
    }

    /// Counts a value of a distribution.
    #[inline]
    pub fn observe(&self, histogram: Histogram, value: u64) {
        self.observe_at(HISTOGRAMS + histogram.start(), histogram.bounds(), value);
    }

    /// Says how many pins lead to each backend, by [`BackendIndex`].
    pub fn backend_pins(&self, pins: &[u32]) {
        for (index, pins) in (0..).zip(pins) {
            match backend_place(BackendIndex(index), PINS, self.backends) {
                Some(place) => {
                    self.shared.words()[self.block + place].store(u64::from(*pins), Relaxed);
                }
                None => return,
            }
        }
    }

    /// Room for this many backends.
    pub fn backends(&self) -> usize {
        self.backends
    }

    #[inline]
    fn add_at_backend(&self, backend: BackendIndex, which: usize) {
        if let Some(place) = backend_place(backend, which, self.backends) {
            self.add_at(place, 1);
        }
    }

    #[inline]
    fn observe_at(&self, start: usize, bounds: &[u64], value: u64) {
        self.add_at(start + histogram::bucket(bounds, value), 1);
        self.add_at(start + bounds.len() + 1, value);
    }

    #[inline]
    fn add_at(&self, place: usize, number: u64) {
        let word = &self.shared.words()[self.block + place];
        word.store(word.load(Relaxed).wrapping_add(number), Relaxed);
    }
}

fn names(workers: &[WorkerInfo], backends: &[String], interfaces: &[InterfaceInfo]) -> Names {
    let class = |outcome: Outcome| match outcome.class() {
        OutcomeClass::Forward => "forward",
        OutcomeClass::Reply => "reply",
        OutcomeClass::Drop => "drop",
        OutcomeClass::Absorb => "absorb",
    };
    let gauges = Counter::ALL
        .into_iter()
        .filter(|counter| counter.kind() == CounterKind::Gauge);
    Names {
        workers: workers.to_vec(),
        interfaces: interfaces.to_vec(),
        counters: Counter::ALL
            .into_iter()
            .map(Counter::name)
            .chain(Reason::ALL.map(Reason::name))
            .map(str::to_owned)
            .collect(),
        outcomes: Outcome::ALL
            .into_iter()
            .map(|outcome| outcome.name().to_owned())
            .collect(),
        classes: Outcome::ALL
            .into_iter()
            .map(|outcome| (outcome.name().to_owned(), class(outcome).to_owned()))
            .collect(),
        gauges: gauges.map(|counter| counter.name().to_owned()).collect(),
        messages: message_names(),
        histograms: Histogram::ALL
            .iter()
            .map(|histogram| HistogramNames {
                name: histogram.name().to_owned(),
                bounds: histogram.bounds().to_vec(),
            })
            .collect(),
        response_classes: MessageClass::ALL[1..]
            .iter()
            .map(|class| class.name().to_owned())
            .collect(),
        first_response_bounds: FIRST_RESPONSE_BOUNDS.to_vec(),
        backends: backends.to_vec(),
    }
}

fn message_names() -> MessageNames {
    let directions = Direction::ALL
        .iter()
        .map(|direction| [direction.from_name(), direction.to_name()].map(str::to_owned));
    MessageNames {
        directions: directions.collect(),
        methods: CountedMethod::ALL
            .map(|method| method.name().to_owned())
            .to_vec(),
        classes: MessageClass::ALL
            .map(|class| class.name().to_owned())
            .to_vec(),
    }
}

fn unix_ns() -> u64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH);
    // Until the year 2554.
    now.map_or(0, |now| now.as_nanos() as u64)
}
