//! What a running node says about itself: the answer to the command `status`.
//!
//! Fields are only ever added, and all of them may be missing: command line and node need not be of one version.

use serde::{Deserialize, Serialize};

use super::announce::AnnounceStatus;

/// The answer to `status`, besides `"ok": true`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Status {
    /// Version of siplb.
    pub version: String,
    /// Process id.
    pub pid: u32,
    /// `node.name`.
    pub node: String,
    /// Seconds since the start.
    pub uptime_s: u64,
    /// How datagrams come in as a whole: `af-xdp` or `socket`.
    pub mode: String,
    /// Why it is not what the configuration would have preferred, when it is not.
    pub mode_reason: Option<String>,
    /// [`crate::forward::Table::fingerprint`] of the table in use, in hexadecimal: health is in it.
    pub table_hash: String,
    /// Equal on nodes whose configurations decide alike.
    pub config_hash: String,
    /// How many configurations have been in force, this one included.
    pub generation: u64,
    /// Whether the network is told that the node serves; `null` without `announce` in the configuration.
    pub announce: Option<AnnounceStatus>,
    /// In the order of the workers.
    pub workers: Vec<WorkerStatus>,
}

/// A worker.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct WorkerStatus {
    /// The CPU that it is pinned to.
    pub cpu: usize,
    /// Its receive queue; its number in `mode: socket`.
    pub queue: u32,
    /// Milliseconds since it last said that it runs.
    pub heartbeat_age_ms: Option<u64>,
    /// Its sockets, one an interface; none in `mode: socket`.
    pub sockets: Vec<SocketStatus>,
    /// Where the chunks of its UMEM are.
    pub frames: Option<Frames>,
}

/// An AF_XDP socket.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct SocketStatus {
    /// Name of the interface.
    pub interface: String,
    /// `native` or `generic`.
    pub attach: String,
    /// `zero-copy` or `copy`, as the kernel says.
    pub copy: String,
    /// Whether the XDP program steers to it.
    pub gate_open: bool,
}

/// Where the chunks of a UMEM are.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Frames {
    /// All of them.
    pub total: u64,
    /// Used by nobody.
    pub free: u64,
    /// The kernel may receive into them.
    pub fill: u64,
    /// Received, waiting for or held by the worker.
    pub rx: u64,
    /// On a TX or completion ring.
    pub tx: u64,
}
