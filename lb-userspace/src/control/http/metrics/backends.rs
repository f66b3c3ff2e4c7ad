//! Pools and backends: states, weights, and what they got and answered.

use super::encoder::Encoder;
use crate::{
    control::plane::{BackendReport, BackendsReport},
    stats::BackendCounts,
};

/// All states of a backend ([`crate::balance::State`]).
const STATES: [&str; 4] = ["active", "draining", "unhealthy", "disabled"];

/// `counts` are those of all workers together, by [`BackendReport::index`].
pub(super) fn write(out: &mut Encoder, report: &BackendsReport, counts: &[BackendCounts]) {
    let mut panic = out.gauge(
        "siplb_pool_panic",
        "1 while all backends of a pool look dead, so that all are used.",
    );
    for pool in &report.pools {
        panic.sample(&[("pool", &pool.name)], pool.panic);
    }
    states(out, report);
    probes(out, report);
    let counted = report.backends.iter();
    let counted =
        counted.filter_map(|backend| Some((backend, counts.get(usize::from(backend.index))?)));
    traffic(out, &counted.collect::<Vec<_>>());
}

fn labels(backend: &BackendReport) -> [(&'static str, &str); 2] {
    [("pool", &backend.pool), ("backend", &backend.name)]
}

/// The same and one more.
fn with<'a>(
    backend: &'a BackendReport,
    name: &'static str,
    value: &'a str,
) -> [(&'static str, &'a str); 3] {
    let [pool, backend] = labels(backend);
    [pool, backend, (name, value)]
}

fn states(out: &mut Encoder, report: &BackendsReport) {
    let mut states = out.gauge(
        "siplb_backend_state",
        "1 for the state that a backend is in, 0 for the others.",
    );
    for backend in &report.backends {
        for state in STATES {
            states.sample(&with(backend, "state", state), backend.state == state);
        }
    }
    let mut weights = out.gauge(
        "siplb_backend_weight",
        "Weight that a backend takes calls by; 0 while it takes none, less than configured while it starts slowly.",
    );
    for backend in &report.backends {
        weights.sample(&labels(backend), backend.weight_in_force);
    }
    let mut shares = out.gauge(
        "siplb_backend_share_ratio",
        "Part of the lookup table of its pool that a backend has.",
    );
    for backend in &report.backends {
        shares.sample(&labels(backend), backend.share_percent / 100.0);
    }
    let mut changes = out.counter(
        "siplb_backend_health_changes",
        "How often probes and traffic changed what is thought of a backend, by the kind of reason.",
    );
    for backend in &report.backends {
        for (reason, count) in &backend.health_changes {
            changes.sample(&with(backend, "reason", reason), *count);
        }
    }
}

fn probes(out: &mut Encoder, report: &BackendsReport) {
    let mut probes = out.counter("siplb_backend_probes", "Probes that were sent.");
    let probed = || {
        report
            .backends
            .iter()
            .filter(|backend| backend.health.is_some())
    };
    for backend in probed() {
        probes.sample(&labels(backend), backend.probes[0]);
    }
    let mut failures = out.counter("siplb_backend_probe_failures", "Probes that failed.");
    for backend in probed() {
        failures.sample(&labels(backend), backend.probes[1]);
    }
}

fn traffic(out: &mut Encoder, backends: &[(&BackendReport, &BackendCounts)]) {
    let mut requests = out.counter("siplb_backend_requests", "Requests that a backend got.");
    for (backend, counts) in backends {
        requests.sample(&labels(backend), counts.requests);
    }
    let mut calls = out.counter(
        "siplb_backend_calls",
        "INVITEs without To tag that a backend got, retransmissions included.",
    );
    for (backend, counts) in backends {
        calls.sample(&labels(backend), counts.invites);
    }
    let mut responses = out.counter(
        "siplb_backend_responses",
        "Responses that came from a backend, by class.",
    );
    for (backend, counts) in backends {
        for class in &counts.classes {
            responses.sample(&with(backend, "class", &class.name), class.value);
        }
    }
    let mut pins = out.gauge(
        "siplb_backend_pins",
        "Transactions and calls in set-up that are pinned to a backend.",
    );
    for (backend, counts) in backends {
        pins.sample(&labels(backend), counts.pins);
    }
    let mut times = out.histogram(
        "siplb_backend_first_response_seconds",
        "Time until the first response of a backend to an INVITE, of a sample: one at a time is timed for each backend.",
    );
    for (backend, counts) in backends {
        times.distribution(&labels(backend), &counts.first_response, 1e9);
    }
}
