//! Another configuration, whole or not at all.

use std::sync::Arc;

use anyhow::{Result, bail};
use serde::{Deserialize, Serialize};

use super::{Inner, Plane, config_hash};
use crate::{
    balance::{BackendIndex, Roster},
    config::{self, Config},
    control::events::{Kind, Severity},
};

/// What a reload has done.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Reloaded {
    /// How many configurations have been in force, this one included.
    pub generation: u64,
    /// Equal on nodes whose configurations decide alike.
    pub config_hash: String,
    /// What is different, in words; empty when nothing is.
    pub changes: Vec<String>,
}

/// Reloads since the start.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Reloads {
    /// Done, also those that changed nothing.
    pub done: u64,
    /// Refused: the file was not valid, or asked for a restart.
    pub refused: u64,
}

impl Plane {
    /// Reads the configuration file again and puts it into force between two batches of every worker.
    ///
    /// Health, states, counters and history of what is still there go on. What was pinned stays pinned.
    ///
    /// # Errors
    /// When the file is not valid, or asks for what only a restart can give. The running configuration goes on then.
    pub fn reload(&self) -> Result<Reloaded> {
        let result = self.try_reload();
        let mut inner = self.lock();
        match &result {
            Ok(_) => inner.reloads.done += 1,
            Err(error) => {
                inner.reloads.refused += 1;
                let running = config_hash(&inner.config);
                let text = format!("goes on, the file was refused: {error:#}");
                self.events
                    .note(Kind::ReloadRefused, Severity::Error, running, text);
            }
        }
        drop(inner);
        result
    }

    fn try_reload(&self) -> Result<Reloaded> {
        let Some(path) = &self.path else {
            bail!("this node was not started from a configuration file");
        };
        let config = config::load(path).map_err(|error| anyhow::anyhow!("{error}"))?;
        self.put_into_force(config)
    }

    /// Puts a configuration into force.
    ///
    /// # Errors
    /// As for [`Plane::reload`].
    pub fn put_into_force(&self, config: Config) -> Result<Reloaded> {
        let (reloaded, names, targets) = {
            let mut inner = self.lock();
            let stuck = needs_restart(&inner.config, &config);
            if !stuck.is_empty() {
                bail!(
                    "{} changed, which needs a restart; nothing was applied",
                    stuck.join(", ")
                );
            }
            let changes = changes(&inner.config, &config);
            let mut roster = inner.roster.clone();
            if roster.update(&config).is_err() {
                bail!(
                    "more than {} backends since the start, those of the past included; restart to forget them",
                    Roster::MAX
                );
            }
            let calls = Arc::new(inner.calls.updated(&config));
            (inner.roster, inner.calls) = (roster, calls);
            inner.config = Arc::new(config);
            inner.generation += 1;
            let targets = inner.targets();
            let Inner {
                wishes,
                roster,
                health,
                ..
            } = &mut *inner;
            wishes.forget_others(roster);
            // Who is not probed any more is healthy.
            let probed = targets
                .iter()
                .map(|target| target.index)
                .collect::<Vec<_>>();
            health.retain(|index, _| probed.contains(index));
            for index in 0..inner.roster.entries().len() {
                inner.settle(BackendIndex(index as u16));
            }
            self.publish(&mut inner);
            let reloaded = Reloaded {
                generation: inner.generation,
                config_hash: config_hash(&inner.config),
                changes,
            };
            let names = inner
                .roster
                .entries()
                .iter()
                .map(|entry| entry.name.clone());
            (reloaded, names.collect::<Vec<_>>(), targets)
        };
        if self.stats.name_backends(&names).is_err() {
            log::warn!(
                "the statistics have no room for all backends that came since the start; those that came last are not \
                 counted until a restart"
            );
        }
        if let Some(prober) = self.prober.get() {
            prober.set_targets(targets);
        }
        self.tell_prober_who_is_disabled();
        if let Some(watcher) = &self.watcher {
            let config = self.config();
            let backends = config.pools.iter().flat_map(|pool| &pool.backends);
            watcher.keep_fresh(backends.map(|backend| backend.address.ip()).collect());
        }
        let name_servers = &self.config().outbound.name_servers;
        if let Err(error) = self.resolver.set_name_servers(name_servers) {
            log::warn!("the name servers stay as they were: {error:#}");
        }
        if let Some(hep) = self.hep.get()
            && let Err(error) = hep.apply(&self.config())
        {
            log::error!("{error:#}; HEP goes on as before");
        }
        let changes = match reloaded.changes.as_slice() {
            [] => "nothing changed".to_owned(),
            changes => changes.join("; "),
        };
        let text = format!("in force, generation {}: {changes}", reloaded.generation);
        self.events
            .note(Kind::Reload, Severity::Info, &reloaded.config_hash, text);
        Ok(reloaded)
    }
}

/// What of a configuration only a restart can change, by the names of the keys.
pub fn needs_restart(before: &Config, after: &Config) -> Vec<&'static str> {
    let addresses = |config: &Config| {
        let listeners = config.listeners.iter();
        listeners
            .map(|listener| listener.address)
            .collect::<Vec<_>>()
    };
    let checks = [
        ("node.name", before.node.name == after.node.name),
        ("node.address", before.node.address == after.node.address),
        ("datapath", before.datapath == after.datapath),
        (
            "addresses of listeners",
            addresses(before) == addresses(after),
        ),
        ("announce", before.announce == after.announce),
        ("control", before.control == after.control),
        ("stats", before.stats == after.stats),
        ("metrics", before.metrics == after.metrics),
    ];
    let changed = checks.into_iter().filter(|(_, is_same)| !is_same);
    changed.map(|(name, _)| name).collect()
}

/// What is different, in words.
fn changes(before: &Config, after: &Config) -> Vec<String> {
    let mut changes = Vec::new();
    let backends = |config: &Config| {
        let pools = config.pools.iter();
        pools
            .flat_map(|pool| {
                pool.backends
                    .iter()
                    .map(|backend| (pool.name.clone(), backend.clone()))
            })
            .collect::<Vec<_>>()
    };
    let (old, new) = (backends(before), backends(after));
    for (pool, backend) in &new {
        match old.iter().find(|(_, other)| other.name == backend.name) {
            None => changes.push(format!("backend {} added to {pool}", backend.name)),
            Some((was_in, other)) if was_in != pool || other != backend => {
                changes.push(format!("backend {} changed", backend.name));
            }
            Some(_) => {}
        }
    }
    for (pool, backend) in &old {
        if !new.iter().any(|(_, other)| other.name == backend.name) {
            changes.push(format!("backend {} removed from {pool}", backend.name));
        }
    }
    let mut note = |what: &str, is_same: bool| {
        if !is_same {
            changes.push(format!("{what} changed"));
        }
    };
    let pools = |config: &Config| {
        let pools = config.pools.iter();
        pools
            .map(|pool| {
                let told = pool.client_address.clone();
                let registration = pool.registration;
                (
                    pool.name.clone(),
                    pool.strategy,
                    pool.health,
                    told,
                    registration,
                )
            })
            .collect::<Vec<_>>()
    };
    note("pools", pools(before) == pools(after));
    note("listeners", before.listeners == after.listeners);
    note("routes", before.routes == after.routes);
    note("nat", before.nat == after.nat);
    note("limits", before.limits == after.limits);
    note("outbound", before.outbound == after.outbound);
    note("hep", before.hep == after.hep);
    note("secrets", before.keys.is_same(&after.keys));
    changes
}
