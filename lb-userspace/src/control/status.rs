//! What a running node says about itself: the answer to the command `status`.
//!
//! Fields are only ever added, and all of them may be missing: command line and node need not be of one version.

use serde::{Deserialize, Serialize};

use super::{announce::AnnounceStatus, plane::Reloads, resolver};
use crate::token::Keys;

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
    /// When that was, in seconds since 1970.
    pub started_s: u64,
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
    /// Ids of the secrets that are in force: the one that signs, then the one that is accepted as well.
    pub keys: Vec<KeyStatus>,
    /// Reloads since the start.
    pub reloads: Reloads,
    /// What was asked of the name servers for outbound calls.
    pub names: NamesStatus,
    /// Whether the network is told that the node serves; `null` without `announce` in the configuration.
    pub announce: Option<AnnounceStatus>,
    /// In the order of the workers.
    pub workers: Vec<WorkerStatus>,
}

/// A secret.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct KeyStatus {
    /// Equal on nodes that share the secret, and says nothing about it ([`crate::token::KeyId`]).
    pub id: String,
    /// `signing`, or `accepted` for the one that only verifies.
    pub role: String,
}

/// What was asked of the name servers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct NamesStatus {
    /// Questions whose answer has addresses.
    pub answered: u64,
    /// Questions that the DNS has nothing for.
    pub not_found: u64,
    /// Questions that no name server answered.
    pub failed: u64,
    /// Questions that there was no room for.
    pub refused: u64,
    /// Names that are known now.
    pub known: u64,
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

impl KeyStatus {
    /// Those of keys.
    pub fn of(keys: &Keys) -> Vec<Self> {
        let (current, previous) = keys.ids();
        let keys = [(Some(current), "signing"), (previous, "accepted")].into_iter();
        let keys = keys.filter_map(|(id, role)| {
            Some(Self {
                id: id?.to_string(),
                role: role.to_owned(),
            })
        });
        keys.collect()
    }
}

impl From<resolver::Stats> for NamesStatus {
    fn from(stats: resolver::Stats) -> Self {
        Self {
            answered: stats.answered,
            not_found: stats.not_found,
            failed: stats.failed,
            refused: stats.refused_full,
            known: stats.names,
        }
    }
}
