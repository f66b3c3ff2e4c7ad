//! Pools, backends and the lookup table: which backend a key belongs to.
//!
//! Everything here is computed from the configuration and the fleet secret, so all nodes of an anycast group that
//! share them choose alike. No clock, no random number, no state.

mod lookup_table;

pub use lookup_table::{LookupTable, SLOTS};

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
    /// Which of [`Pool::backends`] each slot belongs to; `None` when no backend takes calls.
    pub table: Option<LookupTable>,
}

impl Pool {
    /// Builds the pool and its lookup table from all backends with a weight. `key` is the fleet's subkey for balancing.
    pub fn new(name: String, backends: Vec<Backend>, key: [u8; 16]) -> Self {
        let table = LookupTable::new(key, &backends);
        Self {
            name,
            backends,
            table,
        }
    }

    /// Returns the backend that `key` (a Call-ID, trimmed) belongs to, or `None` when no backend takes calls.
    ///
    /// Costs one keyed hash and one table read; never allocates.
    pub fn pick(&self, key: &[u8]) -> Option<&Backend> {
        let table = self.table.as_ref()?;
        self.backends.get(table.backend(table.slot(key)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const KEY: [u8; 16] = *b"0123456789abcdef";

    fn backend(index: u16, weight: u16) -> Backend {
        Backend {
            index: BackendIndex(index),
            name: format!("sw{index}"),
            address: SocketAddr::from(([10, 0, 0, index as u8], 5060)),
            weight,
        }
    }

    #[test]
    fn a_call_id_always_meets_the_same_backend() {
        let pool = Pool::new(
            "switches".into(),
            (1..=5).map(|n| backend(n, n)).collect(),
            KEY,
        );
        let again = Pool::new(
            "switches".into(),
            (1..=5).rev().map(|n| backend(n, n)).collect(),
            KEY,
        );
        for call in 0..1_000 {
            let call_id = format!("{call}@192.0.2.1");
            assert_eq!(
                pool.pick(call_id.as_bytes()).unwrap().index,
                again.pick(call_id.as_bytes()).unwrap().index,
                "{call_id}"
            );
        }
    }

    #[test]
    fn nobody_is_picked_when_no_backend_takes_calls() {
        assert!(Pool::new("none".into(), vec![], KEY).pick(b"x").is_none());
        assert!(
            Pool::new("zero".into(), vec![backend(1, 0)], KEY)
                .pick(b"x")
                .is_none()
        );
    }
}
