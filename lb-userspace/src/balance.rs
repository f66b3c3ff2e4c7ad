//! Pools, backends and the lookup table: which backend a key belongs to.
//!
//! Tables are computed from the configuration, the fleet secret and the states of the backends, so all nodes of an
//! anycast group that share them choose alike. No clock, no random number; what a worker remembers ([`Pins`], [`Turns`]) is
//! its own and handed in, and [`health`] is told what happens and when.

pub mod health;
mod lookup_table;
mod pins;
mod roster;
mod strategy;

pub use lookup_table::{Candidate, LookupTable, SLOTS};
pub use pins::{Lifetime, Of, Pinned, Pins};
pub use roster::{Entry, Roster, RosterFull};
pub use strategy::{Key, Strategy};

use std::{net::SocketAddr, sync::Arc};

use crate::limit::Limit;

/// Index of a backend: the same one as long as the process runs, also when the configuration changes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct BackendIndex(pub u16);

/// What a backend may get.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum State {
    /// Everything.
    #[default]
    Active,
    /// What belongs to a dialog or a transaction that it has already; no new calls.
    Draining,
    /// Found out not to answer: the same, without the transactions that can still go elsewhere.
    Unhealthy,
    /// Switched off by the operator: nothing but what a flow token names.
    Disabled,
}

impl State {
    /// The name in output.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Active => "active",
            Self::Draining => "draining",
            Self::Unhealthy => "unhealthy",
            Self::Disabled => "disabled",
        }
    }

    /// True when it may get messages of transactions that it has.
    pub const fn keeps_transactions(self) -> bool {
        matches!(self, Self::Active | Self::Draining)
    }
}

/// A SIP server that calls are sent to.
#[derive(Clone, Debug)]
pub struct Backend {
    /// The same one as long as the process runs.
    pub index: BackendIndex,
    /// Unique name.
    pub name: String,
    /// Where it listens.
    pub address: SocketAddr,
    /// Share relative to the others of its priority; 0 takes no new calls.
    pub weight: u16,
    /// The lowest one that has a usable backend takes all calls of the pool.
    pub priority: u16,
    /// What it may get.
    pub state: State,
    /// The part of its weight that it gets while it starts slowly, above 0 and up to 1.
    pub ramp: f64,
    /// How many calls it may get in a second, and how many it got.
    pub limit: Option<Arc<Limit>>,
}

impl Backend {
    /// An active backend of full weight and without a limit.
    pub fn new(
        index: BackendIndex,
        name: impl Into<String>,
        address: SocketAddr,
        weight: u16,
    ) -> Self {
        Self {
            index,
            name: name.into(),
            address,
            weight,
            priority: 0,
            state: State::Active,
            ramp: 1.0,
            limit: None,
        }
    }
}

/// Backends that share calls.
#[derive(Debug)]
pub struct Pool {
    /// Unique name.
    pub name: String,
    /// How a backend is picked, where the route rule does not say.
    pub strategy: Strategy,
    /// In the order of the configuration.
    pub backends: Vec<Backend>,
    /// Which of [`Pool::backends`] each slot belongs to; `None` when no backend takes calls.
    pub table: Option<LookupTable>,
    /// True when all backends look dead and are used all the same.
    pub is_panicking: bool,
    /// Positions of those that take calls now, in the order of the list.
    usable: Vec<u16>,
}

/// Whose turn it is, for each pool of a worker.
#[derive(Clone, Debug)]
pub struct Turns(Box<[Turn]>);

#[derive(Clone, Copy, Debug, Default)]
struct Turn {
    /// The backend that got the last call, and how many it got in a row.
    backend: Option<BackendIndex>,
    calls: u32,
}

/// Most pools that turns are kept for.
const MAX_POOLS: usize = crate::config::MAX_BACKENDS;

impl Default for Turns {
    fn default() -> Self {
        Self(vec![Turn::default(); MAX_POOLS].into_boxed_slice())
    }
}

/// Slots that are tried for another backend before all are looked at in turn.
const TRIES: usize = 32;
/// Distance of one such slot to the next: odd, so that it comes by all of them.
const STRIDE: usize = 0x9e37;

impl Pool {
    /// Builds the pool and its lookup table. `key` is the fleet's subkey for balancing.
    ///
    /// The table is shared by the active backends with a weight that have the lowest priority of them. When there is none,
    /// the unhealthy ones take their place: what looks dead from here may be alive, and is better than nobody.
    pub fn new(name: String, strategy: Strategy, backends: Vec<Backend>, key: [u8; 16]) -> Self {
        let best_of = |state: State| {
            let of_state = backends
                .iter()
                .enumerate()
                .filter(|(_, backend)| backend.state == state && backend.weight > 0);
            let lowest = of_state.clone().map(|(_, backend)| backend.priority).min();
            of_state
                .filter(|(_, backend)| Some(backend.priority) == lowest)
                .map(|(position, _)| {
                    u16::try_from(position).expect("at most 65,536 backends in a pool")
                })
                .collect::<Vec<_>>()
        };
        let active = best_of(State::Active);
        let is_panicking = active.is_empty();
        let usable = match is_panicking {
            true => best_of(State::Unhealthy),
            false => active,
        };
        let candidates = usable.iter().map(|position| {
            let backend = &backends[usize::from(*position)];
            let weight = f64::from(backend.weight) * backend.ramp;
            Candidate::new(*position, &backend.name, backend.address, weight)
        });
        let table = LookupTable::new(key, candidates);
        Self {
            name,
            strategy,
            is_panicking: is_panicking && !usable.is_empty(),
            backends,
            table,
            usable,
        }
    }

    /// The backends that take calls now, in the order of the list.
    pub fn usable(&self) -> impl Iterator<Item = &Backend> {
        let positions = self.usable.iter();
        positions.filter_map(|position| self.backends.get(usize::from(*position)))
    }

    /// The slot of a key, or `None` when no backend takes calls. It is on its way into the cache then.
    #[inline]
    pub fn slot(&self, key: &Key<'_>) -> Option<usize> {
        Some(self.table.as_ref()?.slot(key))
    }

    /// The backend that a slot belongs to, or `None` when no backend takes calls.
    pub fn at(&self, slot: usize) -> Option<&Backend> {
        self.backends.get(self.table.as_ref()?.backend(slot))
    }

    /// The first of those that take calls.
    pub fn first(&self) -> Option<&Backend> {
        self.usable().next()
    }

    /// The backend whose turn it is: each gets as many calls in a row as its weight says, then the next one. `place` is that
    /// of the pool in the table.
    pub fn next(&self, place: usize, turns: &mut Turns) -> Option<&Backend> {
        let Some(turn) = turns.0.get_mut(place) else {
            return self.first();
        };
        let last = self
            .usable()
            .position(|backend| Some(backend.index) == turn.backend);
        let share = |backend: &Backend| (f64::from(backend.weight) * backend.ramp).ceil() as u32;
        let (backend, calls) = match last {
            Some(last) => {
                let mut after = self.usable().skip(last);
                let current = after.next()?;
                match turn.calls < share(current) {
                    true => (current, turn.calls + 1),
                    false => (after.next().or_else(|| self.first())?, 1),
                }
            }
            None => (self.first()?, 1),
        };
        *turn = Turn {
            backend: Some(backend.index),
            calls,
        };
        Some(backend)
    }

    /// The next best backend for a slot that `fits`, after the one that the slot belongs to did not.
    ///
    /// It is the owner of another slot, so that what one backend cannot take is shared by the others by their weights, and
    /// goes to the same one on every node.
    pub fn next_best(&self, slot: usize, fits: impl Fn(&Backend) -> bool) -> Option<&Backend> {
        let others = (1..=TRIES).filter_map(|nth| self.at(slot + nth * STRIDE));
        others.chain(self.usable()).find(|backend| fits(backend))
    }
}

#[cfg(test)]
mod tests;
