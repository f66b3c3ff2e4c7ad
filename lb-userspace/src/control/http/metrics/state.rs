//! The node itself: version, configuration, secrets, workers' health, limits.

use std::collections::HashSet;

use super::encoder::Encoder;
use crate::control::{
    plane::LimitReport,
    status::{Status, WorkerStatus},
};

pub(super) fn write(out: &mut Encoder, status: &Status, limits: &[LimitReport]) {
    node(out, status);
    configuration(out, status);
    names(out, status);
    workers(out, &status.workers);
    self::limits(out, limits);
}

fn node(out: &mut Encoder, status: &Status) {
    out.info("siplb_build", "Version of siplb.")
        .sample(&[("version", &status.version)], true);
    out.gauge(
        "siplb_start_time_seconds",
        "When the process began, since 1970.",
    )
    .sample(&[], status.started_s);
    out.gauge("siplb_uptime_seconds", "Since the process began.")
        .sample(&[], status.uptime_s);
    if let Some(announce) = &status.announce {
        out.gauge(
            "siplb_announced",
            "1 while the network is told that this node serves; only with `announce` in the configuration.",
        )
        .sample(&[], announce.announced);
    }
}

fn configuration(out: &mut Encoder, status: &Status) {
    let labels = [
        ("node", status.node.as_str()),
        ("config_hash", &status.config_hash),
        ("table_hash", &status.table_hash),
        ("mode", &status.mode),
    ];
    out.info(
        "siplb_config",
        "Configuration in force; hashes are equal on nodes that decide alike, health is in table_hash.",
    )
    .sample(&labels, true);
    out.gauge(
        "siplb_config_generation",
        "Configurations that have been in force, this one included.",
    )
    .sample(&[], status.generation);
    let mut reloads = out.counter("siplb_reloads", "Reloads that were done and refused.");
    reloads.sample(&[("result", "done")], status.reloads.done);
    reloads.sample(&[("result", "refused")], status.reloads.refused);
    let mut keys = out.info(
        "siplb_key",
        "Secrets in force by an id that says nothing about them; equal on nodes that share them.",
    );
    for key in &status.keys {
        keys.sample(&[("id", &key.id), ("role", &key.role)], true);
    }
}

fn names(out: &mut Encoder, status: &Status) {
    let names = &status.names;
    let mut questions = out.counter(
        "siplb_name_questions",
        "Names of outbound calls that the name servers were asked for, by what became of it.",
    );
    for (result, count) in [
        ("answered", names.answered),
        ("not_found", names.not_found),
        ("failed", names.failed),
        ("refused", names.refused),
    ] {
        questions.sample(&[("result", result)], count);
    }
    out.gauge("siplb_names_known", "Names that an answer is known for.")
        .sample(&[], names.known);
}

fn workers(out: &mut Encoder, workers: &[WorkerStatus]) {
    let mut age = out.gauge(
        "siplb_worker_heartbeat_age_seconds",
        "Since the worker last said that it runs.",
    );
    for worker in workers {
        if let Some(ms) = worker.heartbeat_age_ms {
            let (queue, cpu) = (worker.queue.to_string(), worker.cpu.to_string());
            age.sample(&[("queue", &queue), ("cpu", &cpu)], ms as f64 / 1e3);
        }
    }
    let mut gates = out.gauge(
        "siplb_gate_open",
        "1 while the XDP program steers to the worker of the queue.",
    );
    for worker in workers {
        let queue = worker.queue.to_string();
        for socket in &worker.sockets {
            let labels = [
                ("interface", socket.interface.as_str()),
                ("queue", &queue),
                ("attach", &socket.attach),
                ("copy", &socket.copy),
            ];
            gates.sample(&labels, socket.gate_open);
        }
    }
}

fn limits(out: &mut Encoder, limits: &[LimitReport]) {
    // Two rules that look at the same things have one name; the second one never matches.
    let mut seen = HashSet::new();
    let limits = limits.iter().filter(|limit| seen.insert(&limit.name));
    let limits = limits.collect::<Vec<_>>();
    let mut allowed = out.gauge(
        "siplb_limit_calls_per_second",
        "Calls that a limit allows in a second.",
    );
    for limit in &limits {
        if let Some(cps) = limit.cps {
            allowed.sample(&[("limit", &limit.name)], cps);
        }
    }
    let mut accepted = out.counter("siplb_calls_accepted", "Calls that a limit let pass.");
    for limit in &limits {
        accepted.sample(&[("limit", &limit.name)], limit.accepted);
    }
    let mut breached = out.counter(
        "siplb_calls_breached",
        "Calls above a limit; those above a backend's went to its next best.",
    );
    for limit in &limits {
        breached.sample(&[("limit", &limit.name)], limit.breached);
    }
    let mut rate = out.gauge(
        "siplb_calls_per_second",
        "Calls that a limit let pass in the last whole second.",
    );
    for limit in &limits {
        let newest = limit.points.last().map_or(0, |[accepted, _]| *accepted);
        rate.sample(&[("limit", &limit.name)], newest);
    }
}
