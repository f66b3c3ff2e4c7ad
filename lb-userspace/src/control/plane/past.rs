//! What each limit accepted and refused, as `siplb cps` shows it.

use std::{sync::Arc, time::Duration};

use serde::{Deserialize, Serialize};

use super::{Plane, Roster};
use crate::{
    config::{Config, RouteConfig},
    limit::{CallLimits, History, HistoryPoint, Limit, Span},
};

/// Most limits whose past is kept: up to one and a half megabytes each.
const MAX_PASTS: usize = 256;

/// The past of every limit, by its name.
#[derive(Debug, Default)]
pub(super) struct Past(Vec<(String, History)>);

/// A limit and what it counted.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct LimitReport {
    /// `node`, `source NETWORK`, `rule ...` or `backend NAME`.
    pub name: String,
    /// Calls that it allows in a second; null without a limit.
    pub cps: Option<u32>,
    /// Calls that went on since the start.
    pub accepted: u64,
    /// Calls that it refused since the start; for a backend those that went to its next best instead.
    pub breached: u64,
    /// When the first of the points is, in seconds since 1970.
    pub first_s: u64,
    /// Seconds between two points: 1 or 60, or a multiple where points are merged.
    pub step_s: u64,
    /// Accepted and refused, oldest first.
    pub points: Vec<[u32; 2]>,
    /// The most that was accepted, and refused, in one second of each point; empty where a point is a second.
    pub peaks: Vec<[u32; 2]>,
}

/// Which part of the past is wanted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PastQuery {
    /// How finely.
    pub span: Span,
    /// How many points, at the most.
    pub count: usize,
    /// How many seconds or minutes make a point.
    pub merge: u64,
    /// The name of the only limit that is wanted.
    pub limit: Option<String>,
}

/// Everything that is counted, under its name: the node first.
fn limits<'a>(
    config: &Config,
    calls: &'a CallLimits,
    roster: &'a Roster,
) -> Vec<(String, Arc<Limit>)> {
    let mut limits = vec![("node".to_owned(), Arc::clone(&calls.node))];
    for (network, limit) in calls.sources() {
        limits.push((format!("source {network}"), Arc::clone(limit)));
    }
    for rule in &config.routes {
        if let Some(limit) = calls.of_rule(rule) {
            limits.push((format!("rule {}", rule_name(config, rule)), limit));
        }
    }
    for backend in config.pools.iter().flat_map(|pool| &pool.backends) {
        if let (Some(_), Some((_, entry))) = (backend.cps, roster.find(backend)) {
            limits.push((format!("backend {}", entry.name), Arc::clone(&entry.limit)));
        }
    }
    limits
}

/// By what it looks at, since its number changes when others come before it.
fn rule_name(config: &Config, rule: &RouteConfig) -> String {
    let method = rule.method.as_deref().unwrap_or("any request");
    let listener = rule.listener.map_or(String::new(), |index| {
        format!(" to {}", config.listeners[index].name)
    });
    let pool = &config.pools[rule.pool].name;
    format!("{method}{listener}{} -> {pool}", rule.conditions())
}

impl Past {
    /// Notes where all counters stand now, since 1970: at the end of a second, or a little later.
    pub fn note(&mut self, config: &Config, calls: &CallLimits, roster: &Roster, now: Duration) {
        for (name, limit) in limits(config, calls, roster) {
            let (accepted, breached) = (limit.accepted(), limit.breached());
            let place = match self.0.iter().position(|(other, _)| *other == name) {
                Some(place) => place,
                None if self.0.len() < MAX_PASTS => {
                    self.0.push((name, History::default()));
                    self.0.len() - 1
                }
                None => continue,
            };
            self.0[place].1.note_at(now, accepted, breached);
        }
    }
}

impl Plane {
    /// What the limits counted, with the newest points of their past.
    pub fn cps(&self, query: &PastQuery) -> Vec<LimitReport> {
        let inner = self.lock();
        let limits = limits(&inner.config, &inner.calls, &inner.roster).into_iter();
        let wanted =
            limits.filter(|(name, _)| query.limit.as_ref().is_none_or(|only| only == name));
        let reports = wanted.map(|(name, limit)| {
            let history = inner.past.0.iter().find(|(other, _)| *other == name);
            let points = history
                .map(|(_, history)| history.newest(query.span, query.count, query.merge))
                .unwrap_or_default();
            let pairs = |points: &[HistoryPoint]| {
                let points = points.iter();
                points
                    .map(|point| [point.accepted, point.breached])
                    .collect()
            };
            LimitReport {
                name,
                cps: limit.cps(),
                accepted: limit.accepted(),
                breached: limit.breached(),
                first_s: points.first_s,
                step_s: query.merge.max(1).saturating_mul(match query.span {
                    Span::Seconds => 1,
                    Span::Minutes => 60,
                }),
                points: pairs(&points.sums),
                peaks: match points.step_s {
                    0 | 1 => Vec::new(),
                    _ => pairs(&points.peaks),
                },
            }
        });
        reports.collect()
    }
}
