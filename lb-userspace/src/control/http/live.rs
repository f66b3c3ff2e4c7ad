//! What the page shows, in one small answer a second: what the commands say, only the points and events that are new, and of the
//! counters those that the page has a place for.

use std::{
    collections::BTreeMap,
    time::{SystemTime, UNIX_EPOCH},
};

use lb_common::xdp::{MAX_QUEUES, XdpOutcome, XdpVerdict, counter_index};
use serde::Serialize;
use serde_json::{Value, json};

use super::pages::Pages;
use crate::{
    control::Request,
    stats::{Worker, sources::Sample},
};

/// Replies that refuse nothing.
const NOT_REFUSED: [&str; 3] = ["keepalive_crlf", "keepalive_stun", "options_answered"];
/// Datagrams that a worker or the kernel lost: these counters, and who lost them.
const LOST: [(&str, &str); 9] = [
    ("xsk_rx_dropped", "socket"),
    ("xsk_rx_ring_full", "socket"),
    ("xsk_rx_invalid", "socket"),
    ("xsk_tx_invalid", "socket"),
    ("tx_ring_full", "worker"),
    ("tx_no_chunk", "worker"),
    ("handover_full", "worker"),
    ("frame_broken", "worker"),
    ("kernel_send_error", "kernel"),
];

/// Why datagrams were dropped or refused, and how many.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
struct Loss {
    /// `dropped`, or `refused`: answered with an error.
    what: &'static str,
    /// Who did it: `XDP`, `socket`, `worker`, `kernel`.
    by: &'static str,
    /// The name of the counter.
    name: String,
    /// Since the start; of the XDP program since it was loaded.
    count: u64,
}

/// A worker.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
struct Queue {
    cpu: usize,
    queue: u32,
    data_path: String,
    /// Datagrams that came in.
    received: u64,
    /// Datagrams that went out.
    sent: u64,
    /// Datagrams that were lost here, whether or not their sender was meant to get an answer.
    lost: u64,
}

/// The answer to a request with the arguments of `cps` and `events`. A limit that is not there is left out: it may just have been
/// taken out of the configuration.
pub(super) fn live(pages: &Pages, request: &Request) -> Value {
    let ask = |command: &str, arguments: &[&str]| {
        let mut question = Request::new(command);
        for name in arguments {
            if let Some(value) = request.arguments.get(*name) {
                question = question.with(name, value.clone());
            }
        }
        pages.ask(&question)
    };
    let now = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default();
    let mut status = ask("status", &[]);
    if let Some(status) = status.as_object_mut() {
        status.remove("ok");
    }
    let mut backends = ask("backends", &[]);
    let mut cps = ask("cps", &["span", "merge", "count", "limit"]);
    let mut events = ask("events", &["after"]);
    let sample = pages.counters.sample();
    let workers = sample
        .workers
        .as_ref()
        .map(|snapshot| &snapshot.workers[..]);
    let workers = workers.unwrap_or_default();
    json!({
        "ok": true,
        "time_ms": u64::try_from(now.as_millis()).unwrap_or(u64::MAX),
        "status": status,
        "pools": backends["pools"].take(),
        "backends": backends["backends"].take(),
        "limits": list(cps["limits"].take()),
        "events": list(events["events"].take()),
        "losses": losses(&sample, workers),
        "queues": workers.iter().map(queue).collect::<Vec<_>>(),
    })
}

/// What is refused has no list.
fn list(value: Value) -> Value {
    match value {
        Value::Array(_) => value,
        _ => json!([]),
    }
}

fn queue(worker: &Worker) -> Queue {
    let sum = |names: &[&str]| names.iter().map(|name| worker.counter(name)).sum();
    let lost = LOST.map(|(name, _)| name);
    Queue {
        cpu: worker.info.cpu,
        queue: worker.info.queue,
        data_path: worker.info.data_path.clone(),
        received: sum(&["rx_af_xdp", "rx_kernel"]),
        sent: sum(&["tx_af_xdp", "tx_kernel"]),
        lost: sum(&lost),
    }
}

/// Those that happened, in the order of the way of a packet.
fn losses(sample: &Sample, workers: &[Worker]) -> Vec<Loss> {
    let mut losses = Vec::new();
    let mut note = |what, by, name: &str, count| {
        if count > 0 {
            losses.push(Loss {
                what,
                by,
                name: name.to_owned(),
                count,
            });
        }
    };
    for outcome in XdpOutcome::ALL {
        if matches!(outcome.verdict(), XdpVerdict::Drop) {
            let counters = sample.interfaces.iter();
            let counters = counters.filter_map(|interface| interface.counters.as_ref().ok());
            let of_queues = counters.flat_map(|counters| {
                (0..MAX_QUEUES)
                    .filter_map(|queue| counters.get(counter_index(queue, outcome) as usize))
            });
            let count = of_queues.flatten().sum::<u64>();
            note("dropped", "XDP", outcome.name(), count);
        }
    }
    for (name, by) in LOST {
        let count = workers.iter().map(|worker| worker.counter(name)).sum();
        note("dropped", by, name, count);
    }
    let mut outcomes = BTreeMap::<(&str, &str), u64>::new();
    for outcome in workers.iter().flat_map(|worker| &worker.outcomes) {
        let what = match outcome.kind.as_str() {
            "drop" => "dropped",
            "reply" if !NOT_REFUSED.contains(&outcome.name.as_str()) => "refused",
            _ => continue,
        };
        *outcomes.entry((what, &outcome.name)).or_default() += outcome.value;
    }
    for ((what, name), count) in outcomes {
        let what = if what == "refused" {
            "refused"
        } else {
            "dropped"
        };
        note(what, "worker", name, count);
    }
    losses
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{forward::Outcome, stats::Counter};

    #[test]
    fn the_names_are_those_of_counters_and_outcomes() {
        for (name, _) in LOST {
            assert!(
                Counter::ALL.iter().any(|counter| counter.name() == name),
                "{name}"
            );
        }
        for name in NOT_REFUSED {
            assert!(
                Outcome::ALL.iter().any(|outcome| outcome.name() == name),
                "{name}"
            );
        }
    }
}
