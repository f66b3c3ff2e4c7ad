//! Pools, backends and the lookup table.

use std::net::SocketAddr;

/// Index of a backend among all backends of all pools, in the order of the configuration.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct BackendIndex(pub u16);

/// A SIP server that calls are sent to.
#[derive(Clone, Debug)]
pub struct Backend {
    /// Index over all pools.
    pub index: BackendIndex,
    /// Unique name.
    pub name: String,
    /// Where it listens.
    pub address: SocketAddr,
    /// Share relative to the others of its priority; 0 takes no new calls.
    pub weight: u16,
}

/// Backends that share calls.
#[derive(Debug)]
pub struct Pool {
    /// Unique name.
    pub name: String,
    /// In the order of the configuration.
    pub backends: Vec<Backend>,
}
