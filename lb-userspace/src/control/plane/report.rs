//! What `siplb backends` shows.

use std::{
    collections::{BTreeMap, HashMap, HashSet},
    time::{Duration, SystemTime},
};

use serde::{Deserialize, Serialize};

use super::{Inner, Plane};
use crate::{
    balance::{BackendIndex, SLOTS, health::Reason},
    config::ClientAddress,
    control::probes::{Report, Target},
    forward::proxy_header_of_our_own,
};

/// The answer to `backends`, besides `"ok": true`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct BackendsReport {
    /// In the order of the configuration.
    pub pools: Vec<PoolReport>,
    /// In the order of the configuration.
    pub backends: Vec<BackendReport>,
}

/// A pool.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct PoolReport {
    /// Its name.
    pub name: String,
    /// How it picks.
    pub strategy: String,
    /// All backends look dead, so all are used.
    pub panic: bool,
    /// A number that is equal on nodes whose tables send every key to the same backend; null when nobody takes calls.
    pub table_hash: Option<String>,
}

/// A backend.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct BackendReport {
    /// Its number in this process.
    pub index: u16,
    /// Its name.
    pub name: String,
    /// Name of its pool.
    pub pool: String,
    /// `IP:PORT`.
    pub address: String,
    /// As configured.
    pub weight: u16,
    /// As configured.
    pub priority: u16,
    /// `active`, `draining`, `unhealthy` or `disabled`: what it may get.
    pub state: String,
    /// What the operator wants, when he does: `draining` or `disabled`.
    pub operator: Option<String>,
    /// What the probes say: `healthy`, `draining` or `unhealthy`; null where there are no probes.
    pub health: Option<String>,
    /// Why the probes last said something else.
    pub reason: Option<String>,
    /// Seconds in this state; null since the start.
    pub since_s: Option<u64>,
    /// The part of its weight that it gets, below 1 while it starts slowly.
    pub ramp: f64,
    /// The weight that it takes calls by: 0 while it takes none.
    pub weight_in_force: f64,
    /// Slots of the lookup table of its pool that it has.
    pub slots: u32,
    /// The same as a share.
    pub share_percent: f64,
    /// Status of the last answer to a probe.
    pub last_status: Option<u16>,
    /// Shortest, mean and 99th percentile of the time to an answer, in milliseconds.
    pub latency_ms: Option<[f64; 3]>,
    /// Probes sent, and those of them that failed.
    pub probes: [u64; 2],
    /// Requests that it got and responses that came from it.
    pub requests: u64,
    /// Responses that came from it.
    pub responses: u64,
    /// Transactions and calls in set-up that are pinned to it.
    pub pins: u64,
    /// Calls that it may get in a second; null without a limit.
    pub cps: Option<u32>,
    /// How often the probes said something else, by the kind of the reason.
    pub health_changes: BTreeMap<String, u64>,
}

impl Inner {
    /// Whom to probe, and how.
    pub(super) fn targets(&self) -> Vec<Target> {
        let pools = self.config.pools.iter();
        let targets = pools
            .filter_map(|pool| Some((pool, pool.health?)))
            .flat_map(|(pool, health)| {
                pool.backends.iter().filter_map(move |backend| {
                    let (index, entry) = self.roster.find(backend)?;
                    Some(Target {
                        index,
                        name: entry.name.clone(),
                        address: entry.address,
                        health,
                        prefix: match pool.client_address {
                            ClientAddress::ProxyProtocol(version) => {
                                proxy_header_of_our_own(version)
                            }
                            _ => b"",
                        },
                    })
                })
            });
        targets.collect()
    }
}

impl Plane {
    /// How all backends are.
    pub fn backends(&self) -> BackendsReport {
        let probes = self
            .prober
            .get()
            .map_or_else(Vec::new, |prober| prober.reports());
        let probes = probes
            .into_iter()
            .map(|report| (report.index, report))
            .collect::<HashMap<_, _>>();
        let inner = self.lock();
        let table = self.table.load_full();
        let now = SystemTime::now();
        let mut report = BackendsReport::default();
        for (config, pool) in inner.config.pools.iter().zip(&table.pools) {
            report.pools.push(PoolReport {
                name: pool.name.clone(),
                strategy: config.strategy.name().to_owned(),
                panic: pool.is_panicking,
                table_hash: pool
                    .table
                    .as_ref()
                    .map(|table| format!("{:016x}", table.fingerprint())),
            });
            let shares = pool
                .table
                .as_ref()
                .map(|table| table.shares(pool.backends.len()));
            let usable = pool.usable().map(|backend| backend.index);
            let usable = usable.collect::<HashSet<_>>();
            for (position, backend) in pool.backends.iter().enumerate() {
                let takes_calls = usable.contains(&backend.index);
                let slots = shares.as_ref().map_or(0, |shares| shares[position]);
                let traffic = self.stats.backend_traffic(backend.index);
                let mut one = BackendReport {
                    index: backend.index.0,
                    name: backend.name.clone(),
                    pool: pool.name.clone(),
                    address: backend.address.to_string(),
                    weight: backend.weight,
                    priority: backend.priority,
                    state: backend.state.name().to_owned(),
                    operator: inner
                        .wishes
                        .get(&backend.name)
                        .map(|wish| wish.name().to_owned()),
                    since_s: since(&inner, backend.index, now),
                    ramp: backend.ramp,
                    weight_in_force: match takes_calls {
                        true => f64::from(backend.weight) * backend.ramp,
                        false => 0.0,
                    },
                    slots,
                    share_percent: 100.0 * f64::from(slots) / SLOTS as f64,
                    requests: traffic.requests,
                    responses: traffic.responses,
                    pins: self.stats.backend_pins(backend.index),
                    cps: config
                        .backends
                        .get(position)
                        .and_then(|backend| backend.cps),
                    health_changes: inner.changes.get(&backend.index).map_or_else(
                        BTreeMap::new,
                        |changes| {
                            let changes = changes.iter();
                            changes
                                .map(|(kind, count)| ((*kind).to_owned(), *count))
                                .collect()
                        },
                    ),
                    ..BackendReport::default()
                };
                if let Some(probes) = probes.get(&backend.index) {
                    one.take_probes(probes);
                }
                report.backends.push(one);
            }
        }
        report
    }
}

fn since(inner: &Inner, index: BackendIndex, now: SystemTime) -> Option<u64> {
    let changed = inner.since.get(&index)?;
    Some(now.duration_since(*changed).map_or(0, |age| age.as_secs()))
}

impl BackendReport {
    fn take_probes(&mut self, report: &Report) {
        let ms = |time: Duration| time.as_secs_f64() * 1e3;
        self.health = Some(report.state.name().to_owned());
        self.reason = (report.reason != Reason::Start).then(|| report.reason.to_string());
        self.last_status = report.last_status;
        self.latency_ms = report
            .latency
            .map(|latency| [ms(latency.min), ms(latency.mean), ms(latency.p99)]);
        self.probes = [report.probes, report.probes_failed];
    }
}
