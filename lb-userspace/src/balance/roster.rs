//! Who is known as which backend, and in which state: outlives every change of the configuration.

use std::{net::SocketAddr, sync::Arc};

use super::{BackendIndex, State};
use crate::{
    config::{BackendConfig, Config, MAX_BACKENDS},
    limit::Limit,
};

/// All backends that there are or were since the process began. A backend that comes back is the one it was: it is
/// recognised by its name and address.
#[derive(Clone, Debug, Default)]
pub struct Roster {
    entries: Vec<Entry>,
}

/// A backend.
#[derive(Clone, Debug)]
pub struct Entry {
    /// Unique name.
    pub name: String,
    /// Where it listens.
    pub address: SocketAddr,
    /// What it may get.
    pub state: State,
    /// The part of its weight that it gets while it starts slowly, above 0 and up to 1.
    pub ramp: f64,
    /// Its calls, and how many it may get in a second.
    pub limit: Arc<Limit>,
    /// It is in the configuration.
    pub is_configured: bool,
}

/// There are too many backends that were taken out of the configuration since the process began.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RosterFull;

impl Roster {
    /// Most backends that it has, those of the past included.
    pub const MAX: usize = 4 * MAX_BACKENDS;

    /// The backends of a configuration, all of them active.
    pub fn new(config: &Config) -> Self {
        let mut roster = Self::default();
        // A configuration has a quarter of them at most.
        let _ = roster.update(config);
        roster
    }

    /// Takes in the backends of a configuration. Those that were there keep index, state and counts.
    ///
    /// # Errors
    /// [`RosterFull`]; nothing has changed then.
    pub fn update(&mut self, config: &Config) -> Result<(), RosterFull> {
        let mut entries = self.entries.clone();
        for entry in &mut entries {
            entry.is_configured = false;
        }
        for backend in config.pools.iter().flat_map(|pool| &pool.backends) {
            match entries.iter_mut().find(|entry| entry.is(backend)) {
                Some(entry) => {
                    entry.is_configured = true;
                    if entry.limit.cps() != backend.cps {
                        entry.limit = Arc::new(entry.limit.with_cps(backend.cps));
                    }
                }
                None => entries.push(Entry {
                    name: backend.name.clone(),
                    address: backend.address,
                    state: State::Active,
                    ramp: 1.0,
                    limit: Arc::new(Limit::new(backend.cps)),
                    is_configured: true,
                }),
            }
        }
        if entries.len() > Self::MAX {
            return Err(RosterFull);
        }
        self.entries = entries;
        Ok(())
    }

    /// Index and entry of a backend of the configuration that was taken in last.
    pub fn find(&self, backend: &BackendConfig) -> Option<(BackendIndex, &Entry)> {
        let place = self.entries.iter().position(|entry| entry.is(backend))?;
        Some((BackendIndex(place as u16), &self.entries[place]))
    }

    /// All of them, in the order of their index.
    pub fn entries(&self) -> &[Entry] {
        &self.entries
    }

    /// The entry of an index.
    pub fn get_mut(&mut self, index: BackendIndex) -> Option<&mut Entry> {
        self.entries.get_mut(usize::from(index.0))
    }

    /// The configured backend of that name.
    pub fn by_name(&self, name: &str) -> Option<BackendIndex> {
        let place = self
            .entries
            .iter()
            .position(|entry| entry.is_configured && entry.name == name)?;
        Some(BackendIndex(place as u16))
    }
}

impl Entry {
    fn is(&self, backend: &BackendConfig) -> bool {
        self.name == backend.name && self.address == backend.address
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config;

    fn config(backends: &str) -> Config {
        let text = format!(
            "node: {{ name: a }}
listeners: [ {{ name: p, address: 203.0.113.10 }} ]
pools: [ {{ name: x, backends: [ {backends} ] }} ]"
        );
        config::parse(&text, "t.yaml").unwrap_or_else(|error| panic!("{error}"))
    }

    #[test]
    fn a_backend_stays_who_it_was() {
        const ONE: &str = "{ name: one, address: '10.0.0.1:5060', cps: 5 }";
        const TWO: &str = "{ name: two, address: '10.0.0.2:5060' }";
        let mut roster = Roster::new(&config(&format!("{ONE}, {TWO}")));
        let two = roster.by_name("two").expect("two");
        roster.get_mut(two).expect("two").state = State::Draining;
        roster.entries()[1].limit.count_accepted();

        let moved = "{ name: one, address: '10.0.0.9:5060' }";
        roster
            .update(&config(&format!("{TWO}, {moved}")))
            .expect("room");
        assert_eq!(roster.by_name("two"), Some(two));
        assert_eq!(roster.entries()[1].state, State::Draining);
        assert_eq!(roster.entries()[1].limit.accepted(), 1);
        assert_eq!(
            roster.by_name("one"),
            Some(BackendIndex(2)),
            "another address, another one"
        );
        assert!(!roster.entries()[0].is_configured);

        roster
            .update(&config("{ name: one, address: '10.0.0.1:5060', cps: 7 }"))
            .expect("room");
        assert_eq!(roster.by_name("one"), Some(BackendIndex(0)));
        assert_eq!(roster.entries()[0].limit.cps(), Some(7));
        assert_eq!(roster.by_name("two"), None);
    }
}
