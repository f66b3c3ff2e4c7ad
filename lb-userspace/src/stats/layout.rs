//! Where what is in the file.
//!
//! ```text
//! word  0  magic            1  version         2  length of the file      3  process id
//!       4  start of the process, in clock ticks after boot (proc(5), starttime)
//!       5  creation of the file                6  last sign of life       both in ns since 1970
//!       7  offset of the names                 8  their length
//!       9  offset of the first block          10  length of a block      11  number of blocks
//! names    JSON: workers, interfaces, counters, outcomes, messages, histograms, backends
//! blocks   one a worker: counters, outcomes, messages, histograms, backends; then nothing up to the next 128 bytes
//! ```
//!
//! There is room for two sets of names, one of them in use, each filled up with blanks to the same length: when backends come
//! and go, the other one is written and word 7 changes.
//!
//! Messages are a word for each direction, method and class, the class changing fastest. A histogram is a word for each bound, one for
//! what is above, and the sum. A backend is requests, initial INVITEs, responses, pins, requests that want an answer, responses
//! by class, and a histogram of the time until the first response.
//!
//! Offsets and lengths are in bytes, words in the machine's own order: the file does not leave the machine.

use std::{collections::BTreeMap, path::PathBuf};

use serde::{Deserialize, Serialize};

use super::histogram;

/// First word of the file: `siplbsts`.
pub(super) const MAGIC: u64 = u64::from_ne_bytes(*b"siplbsts");
/// Second word. Raise it when the meaning of the words changes; new names do not need it.
pub(super) const VERSION: u64 = 3;
/// Longest file that is read, in bytes. 64 workers with 20 backends need 2 MiB, 256 with 1,024 of them 120 MiB.
pub(super) const MAX_FILE: usize = 256 << 20;
/// Blocks begin at multiples of this, in bytes: a cache line and the one that the CPU fetches along with it.
pub(super) const BLOCK_ALIGN: usize = 128;

pub(super) const WORD_MAGIC: usize = 0;
pub(super) const WORD_VERSION: usize = 1;
pub(super) const WORD_FILE_LEN: usize = 2;
pub(super) const WORD_PID: usize = 3;
pub(super) const WORD_PROCESS_START: usize = 4;
pub(super) const WORD_CREATED: usize = 5;
pub(super) const WORD_ALIVE: usize = 6;
pub(super) const WORD_NAMES_OFFSET: usize = 7;
pub(super) const WORD_NAMES_LEN: usize = 8;
pub(super) const WORD_BLOCKS_OFFSET: usize = 9;
pub(super) const WORD_BLOCK_LEN: usize = 10;
pub(super) const WORD_BLOCKS: usize = 11;
pub(super) const HEADER_WORDS: usize = 16;

/// Who a worker is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct WorkerInfo {
    /// The CPU that it is pinned to.
    pub cpu: usize,
    /// Its receive queue; its number in `mode: socket`.
    pub queue: u32,
    /// How its datagrams really come in, in words: `eth0 native copy`.
    pub data_path: String,
}

/// Where the XDP program of an interface counts.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct InterfaceInfo {
    /// Name of the interface.
    pub name: String,
    /// Directory of the pinned maps.
    pub pin_dir: PathBuf,
    /// What `steered` stood at, over all queues and CPUs, when this file was made: the maps outlive the process, the
    /// counters of its workers do not.
    pub steered_at_start: u64,
}

/// The names in the file.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Names {
    pub(super) workers: Vec<WorkerInfo>,
    pub(super) interfaces: Vec<InterfaceInfo>,
    pub(super) counters: Vec<String>,
    pub(super) outcomes: Vec<String>,
    /// Forward, reply, drop or absorb for each outcome.
    pub(super) classes: BTreeMap<String, String>,
    /// Those of `counters` that are levels.
    pub(super) gauges: Vec<String>,
    pub(super) messages: MessageNames,
    pub(super) histograms: Vec<HistogramNames>,
    /// Classes of a backend's responses.
    pub(super) response_classes: Vec<String>,
    /// Bounds of a backend's time until the first response, in nanoseconds.
    pub(super) first_response_bounds: Vec<u64>,
    /// At most as many as there was room for when the file was made.
    pub(super) backends: Vec<String>,
}

/// What messages are counted by.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct MessageNames {
    /// From and to.
    pub(super) directions: Vec<[String; 2]>,
    pub(super) methods: Vec<String>,
    pub(super) classes: Vec<String>,
}

/// A histogram of a worker.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct HistogramNames {
    pub(super) name: String,
    pub(super) bounds: Vec<u64>,
}

/// Words of a backend before its responses by class: requests, initial INVITEs, responses, pins, requests that want an answer.
const BACKEND_START: usize = 5;

impl MessageNames {
    /// Words that they take. What a hostile file says is no more than can be.
    fn words(&self) -> usize {
        let columns = self.methods.len().saturating_mul(self.classes.len());
        self.directions.len().saturating_mul(columns)
    }
}

impl Names {
    /// Words of a backend.
    pub(super) fn backend_words(&self) -> usize {
        let histogram = histogram::words(&self.first_response_bounds);
        BACKEND_START + self.response_classes.len() + histogram
    }

    /// Words of a block that have a meaning.
    pub(super) fn block_words(&self) -> usize {
        let histograms = self.histograms.iter();
        let histograms = histograms.map(|histogram| histogram::words(&histogram.bounds));
        let backends = self.backend_words().saturating_mul(self.backends.len());
        (self.counters.len() + self.outcomes.len())
            .saturating_add(self.messages.words())
            .saturating_add(histograms.sum())
            .saturating_add(backends)
    }
}
