//! `siplb check --against-running`: what a configuration would change at the running node.

use std::net::SocketAddr;

use serde::Serialize;

use crate::{
    balance::{Backend, BackendIndex, Pool, Roster, SLOTS, State, Strategy},
    cli::{
        Failure,
        output::{Align, Grid, grouped, percent},
    },
    config::Config,
    control::plane::{BackendReport, BackendsReport, PoolReport},
    forward::Table,
    limit::CallLimits,
};

/// All of it. Fields are only ever added.
#[derive(Debug, Serialize)]
pub(super) struct Against {
    /// Pools that are here or there, those of the configuration first.
    pub pools: Vec<PoolMove>,
}

/// What would become of a pool.
#[derive(Debug, Serialize)]
pub(super) struct PoolMove {
    pub name: String,
    /// `null` where the pool is new.
    pub strategy_before: Option<String>,
    /// `null` where the pool goes.
    pub strategy_after: Option<String>,
    /// Slots of the lookup table whose backend changes: the share of new calls that would meet another one.
    pub moved_slots: u32,
    pub moved_percent: f64,
    pub backends: Vec<BackendMove>,
}

/// What would become of a backend's share.
#[derive(Debug, Serialize)]
pub(super) struct BackendMove {
    pub name: String,
    pub address: String,
    /// `active`, `draining`, `unhealthy` or `disabled` as it is now; `null` for a new one.
    pub state: Option<String>,
    pub slots_before: u32,
    pub slots_after: u32,
}

/// The states that have names.
const STATES: [State; 4] = [
    State::Active,
    State::Draining,
    State::Unhealthy,
    State::Disabled,
];

impl Against {
    /// Compares a configuration with what the running node says of its backends. What it knows of their health holds for
    /// both sides.
    pub fn new(config: &Config, running: &BackendsReport) -> Result<Self, Failure> {
        let key = config.keys.distribution_key();
        let mut roster = Roster::new(config);
        for report in &running.backends {
            let index = roster.by_name(&report.name);
            if let Some(entry) = index.and_then(|index| roster.get_mut(index))
                && entry.address.to_string() == report.address
            {
                (entry.state, entry.ramp) = (state(report), report.ramp);
            }
        }
        let table = Table::with_state(config, &roster, &CallLimits::new(config).into());
        let mut pools = Vec::new();
        for after in &table.pools {
            let before = running.pools.iter().find(|pool| pool.name == after.name);
            let before = before
                .map(|report| rebuilt(report, running, key))
                .transpose()?;
            pools.push(PoolMove::new(before.as_ref(), Some(after), running));
        }
        for report in &running.pools {
            if !table.pools.iter().any(|pool| pool.name == report.name) {
                let before = rebuilt(report, running, key)?;
                pools.push(PoolMove::new(Some(&before), None, running));
            }
        }
        Ok(Self { pools })
    }

    pub fn text(&self, heading: &str) -> String {
        let mut text = heading.to_owned();
        for pool in &self.pools {
            text += &format!("  {}\n", pool.headline());
            if pool.moved_slots == 0 {
                continue;
            }
            let mut grid = Grid::new(&[
                Align::Left,
                Align::Left,
                Align::Right,
                Align::Right,
                Align::Right,
            ]);
            grid.row(["backend", "state", "share now", "then", "slots"]);
            for backend in &pool.backends {
                let share = |slots: u32| percent(slots.into(), SLOTS as u64);
                let more = i64::from(backend.slots_after) - i64::from(backend.slots_before);
                let sign = if more < 0 { "-" } else { "+" };
                grid.row([
                    backend.name.clone(),
                    backend.state.clone().unwrap_or_else(|| "new".to_owned()),
                    share(backend.slots_before),
                    share(backend.slots_after),
                    format!("{sign}{}", grouped(more.unsigned_abs())),
                ]);
            }
            text += &grid.render("    ");
        }
        text + "  Calls that are up or in set-up stay where they are.\n"
    }
}

fn state(report: &BackendReport) -> State {
    let named = STATES
        .into_iter()
        .find(|state| state.name() == report.state);
    named.unwrap_or_default()
}

/// The table of the running node, built here from what it says.
fn rebuilt(report: &PoolReport, running: &BackendsReport, key: [u8; 16]) -> Result<Pool, Failure> {
    let nonsense = |what: &str| Failure::Failed(format!("the answer makes no sense: {what}"));
    let of_pool = running
        .backends
        .iter()
        .filter(|backend| backend.pool == report.name);
    let backends = of_pool.map(|backend| {
        let address: SocketAddr = backend
            .address
            .parse()
            .map_err(|_| nonsense(&backend.address))?;
        Ok(Backend {
            priority: backend.priority,
            state: state(backend),
            ramp: backend.ramp,
            ..Backend::new(
                BackendIndex(backend.index),
                backend.name.clone(),
                address,
                backend.weight,
            )
        })
    });
    let backends = backends.collect::<Result<Vec<_>, Failure>>()?;
    let pool = Pool::new(report.name.clone(), Strategy::default(), backends, key);
    let hash = pool
        .table
        .as_ref()
        .map(|table| format!("{:016x}", table.fingerprint()));
    if hash != report.table_hash {
        return Err(Failure::Failed(format!(
            "pool {}: the running node has another lookup table than its backends make with this secret; is \
             node.secret_file the one that it was started with?",
            report.name
        )));
    }
    Ok(pool)
}

impl PoolMove {
    fn new(before: Option<&Pool>, after: Option<&Pool>, running: &BackendsReport) -> Self {
        let name = before
            .or(after)
            .map_or(String::new(), |pool| pool.name.clone());
        let owner = |pool: Option<&Pool>, slot: usize| {
            let backend = pool?.at(slot)?;
            Some((backend.name.clone(), backend.address))
        };
        let mut moved_slots = 0;
        for slot in 0..SLOTS {
            moved_slots += u32::from(owner(before, slot) != owner(after, slot));
        }
        let shares = |pool: Option<&Pool>| {
            let pool = pool?;
            Some(pool.table.as_ref()?.shares(pool.backends.len()))
        };
        let (old, new) = (shares(before), shares(after));
        let slots = |pool: Option<&Pool>, shares: &Option<Vec<u32>>, backend: &Backend| {
            let same =
                |other: &Backend| other.name == backend.name && other.address == backend.address;
            let place = pool.and_then(|pool| pool.backends.iter().position(same));
            place
                .zip(shares.as_ref())
                .map_or(0, |(place, shares)| shares[place])
        };
        let here = after.map_or(&[][..], |pool| &pool.backends);
        let there = before.map_or(&[][..], |pool| &pool.backends);
        let gone = there.iter().filter(|backend| {
            !here
                .iter()
                .any(|other| other.name == backend.name && other.address == backend.address)
        });
        let backends = here.iter().chain(gone).map(|backend| {
            let report = running.backends.iter().find(|report| {
                report.name == backend.name && report.address == backend.address.to_string()
            });
            BackendMove {
                name: backend.name.clone(),
                address: backend.address.to_string(),
                state: report.map(|report| report.state.clone()),
                slots_before: slots(before, &old, backend),
                slots_after: slots(after, &new, backend),
            }
        });
        let report = running.pools.iter().find(|pool| pool.name == name);
        Self {
            strategy_before: report.map(|pool| pool.strategy.clone()),
            strategy_after: after.map(|pool| pool.strategy.name().to_owned()),
            moved_slots,
            moved_percent: 100.0 * f64::from(moved_slots) / SLOTS as f64,
            backends: backends.collect(),
            name,
        }
    }

    fn headline(&self) -> String {
        let name = &self.name;
        match (&self.strategy_before, &self.strategy_after) {
            (None, _) => format!("pool {name}: new"),
            (_, None) => format!("pool {name}: goes"),
            (Some(before), Some(after)) if before != after => {
                format!("pool {name}: {before} becomes {after}, so that new calls are picked anew")
            }
            _ if self.moved_slots == 0 => format!("pool {name}: no call moves"),
            _ => format!("pool {name}: {:.1} % of new calls move", self.moved_percent),
        }
    }
}
