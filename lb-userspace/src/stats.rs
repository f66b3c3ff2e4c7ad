//! Statistics in a file of shared memory: workers count, anybody reads.
//!
//! Each worker has a block of its own that nobody else writes, so counting is a load and a store: no lock, no atomic
//! read-modify-write, no cache line shared between workers. The names are in the file beside the numbers, so a
//! `siplb stats` of another version reads it too, and it stays when the process hangs or is gone.

mod counter;
mod file;
mod histogram;
mod layout;
mod messages;
mod reader;
pub(crate) mod report;
pub(crate) mod sources;
mod stopwatch;

pub use counter::{Counter, CounterKind};
pub use file::{BackendTraffic, NoRoomForBackends, StatsFile, WorkerStats};
pub use histogram::{FIRST_RESPONSE_BOUNDS, Histogram};
pub use layout::{InterfaceInfo, WorkerInfo};
pub use messages::{Direction, Side};
pub use reader::{
    BackendCounts, Distribution, Interface, MessageCount, Snapshot, StatsError, StatsReader, Value,
    Worker,
};
