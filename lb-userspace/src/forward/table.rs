//! Everything that [`super::forward`] knows besides the datagram: built by the control plane, published whole.

use std::net::{IpAddr, SocketAddr};

use crate::{balance::Pool, config::Config, token::Keys};

/// Index of a listener in [`Table::listeners`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ListenerIndex(pub u16);

/// A VIP and port that messages arrive at and leave from.
#[derive(Clone, Debug)]
pub struct Listener {
    /// Name in the configuration.
    pub name: String,
    /// VIP and port.
    pub address: SocketAddr,
}

/// A rule that sends requests without a flow token to a pool; the first that matches wins.
#[derive(Clone, Debug)]
pub struct RouteRule {
    /// Only this method, when set. Compared byte for byte (RFC 3261 §7.1: methods are case-sensitive).
    pub method: Option<Vec<u8>>,
    /// Only this listener, when set.
    pub listener: Option<ListenerIndex>,
    /// Index into [`Table::pools`].
    pub pool: usize,
}

/// Configuration as the hot path reads it.
#[derive(Debug)]
pub struct Table {
    /// Fleet keys.
    pub keys: Keys,
    /// In the order of the configuration; [`ListenerIndex`] counts here.
    pub listeners: Vec<Listener>,
    /// In the order of the configuration.
    pub pools: Vec<Pool>,
    /// In the order of the configuration.
    pub routes: Vec<RouteRule>,
    /// Addresses of all backends, sorted: who is asked "is this a backend?" (any port).
    pub backend_addresses: Vec<IpAddr>,
}

impl Table {
    /// Builds the table for a configuration with all backends usable.
    pub fn new(config: &Config) -> Self {
        let _ = config;
        unreachable!("written with `config` and `balance`")
    }
}
