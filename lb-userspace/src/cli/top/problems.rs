//! What is wrong, in words: the line that is read first.

use std::time::Duration;

use super::{
    super::{
        output::{grouped, span},
        stats::view::{SILENT_S, per_second},
        status,
    },
    ask::NODE_LIMIT,
    model::{BackendRow, DropKind, LimitRow, Picture},
};
use crate::stats::report::{Process, Report};

/// Silence of a worker that is told, in milliseconds: much more than its queue may be without it.
const SILENT_WORKER_MS: u64 = 1000;

/// Something that an operator should know.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Problem {
    pub(super) severity: Severity,
    pub(super) text: String,
}

/// How bad it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Severity {
    /// Calls or datagrams are lost or refused, or the node is not whole.
    Bad,
    /// Not as usual, and somebody may have wanted it.
    Note,
}

/// All that is wrong with a node, the worst first.
pub(super) fn of(picture: &Picture, report: &Report) -> Vec<Problem> {
    let mut problems = Vec::new();
    let mut add = |severity, text: String| problems.push(Problem { severity, text });
    use Severity::{Bad, Note};

    let process = report.process.as_ref();
    if let Some(silence) = &picture.silence {
        add(Bad, no_answer(&silence.error, process));
    }
    if picture.silence.is_none() {
        let status = picture.status.as_ref();
        if let Some(announce) = status.and_then(|status| status.announce.as_ref())
            && let Some(reason) = &announce.reason
        {
            let since = time(announce.since_s);
            add(Bad, format!("not announced for {since}: {reason}"));
        }
        for pool in &picture.pools {
            if pool.panic {
                let text = "all backends look dead, so all are used";
                add(Bad, format!("pool {}: {text}", pool.name));
            } else if pool.table_hash.is_none() {
                add(Bad, format!("pool {}: no backend takes calls", pool.name));
            }
        }
        for worker in status.map_or(&[][..], |status| &status.workers) {
            for problem in status::problems(worker) {
                add(Bad, problem);
            }
            if let Some(ms) = worker.heartbeat_age_ms.filter(|ms| *ms >= SILENT_WORKER_MS) {
                let text = format!("queue {}: worker silent for {ms} ms", worker.queue);
                add(Bad, text);
            }
        }
        for backend in &picture.backends {
            if let Some((severity, text)) = backend_problem(backend) {
                add(severity, text);
            }
        }
        if let Some(text) = breach(picture) {
            add(Bad, text);
        }
        if let Some(status) = status
            && let Some(reason) = &status.mode_reason
        {
            add(Note, format!("{}, because {reason}", status.mode));
        }
    }
    for drop in &picture.drops {
        let rate = drop.per_s.unwrap_or(0.0);
        let is_urgent = drop.kind == DropKind::Lost || drop.name == "no_usable_backend";
        if rate > 0.0 && is_urgent {
            let what = match drop.kind {
                DropKind::Lost => "lost in this host",
                _ => "calls refused with 503",
            };
            let name = &drop.name;
            add(Bad, format!("{name} {}/s: {what}", per_second(rate)));
        }
    }
    if let Some(error) = &report.error {
        add(Note, format!("no counters of the workers: {error}"));
    }
    for interface in &report.interfaces {
        if let Some(error) = &interface.error {
            let name = &interface.name;
            add(Note, format!("no counters of XDP on {name}: {error}"));
        }
    }
    // A stable sort: the order above is the one that they are looked at in.
    problems.sort_by_key(|problem| problem.severity);
    problems
}

fn time(seconds: u64) -> String {
    span(Duration::from_secs(seconds))
}

/// Why a node does not answer, by what its counters say of the process.
fn no_answer(error: &str, process: Option<&Process>) -> String {
    match process {
        Some(process) if !process.running => format!("pid {} is not running", process.pid),
        Some(process) if process.silent_s >= SILENT_S => format!(
            "pid {} runs but gives no sign of life for {}",
            process.pid,
            time(process.silent_s)
        ),
        _ => error.to_owned(),
    }
}

fn backend_problem(backend: &BackendRow) -> Option<(Severity, String)> {
    let report = &backend.report;
    let since = report
        .since_s
        .map_or("since the start".to_owned(), |seconds| {
            format!("for {}", time(seconds))
        });
    let (severity, why) = match (&report.operator, report.state.as_str()) {
        (_, "active") => return None,
        (Some(_), _) => (Severity::Note, ", by the operator".to_owned()),
        (None, state) => {
            let severity = match state {
                "unhealthy" => Severity::Bad,
                _ => Severity::Note,
            };
            let reason = report.reason.as_deref().map(|reason| format!(": {reason}"));
            (severity, reason.unwrap_or_default())
        }
    };
    let text = format!("{} {} {since}{why}", report.name, report.state);
    Some((severity, text))
}

/// That calls are refused now, and by which limits.
fn breach(picture: &Picture) -> Option<String> {
    let breached = picture.newest.map_or(0, |[_, breached]| breached);
    if breached == 0 {
        return None;
    }
    // What a limit refuses the node refuses as well; what a backend's refuses mostly goes to another one.
    let others = picture.limits.iter().filter(|limit| {
        limit.breached_per_s > 0.0
            && limit.name != NODE_LIMIT
            && !limit.name.starts_with("backend ")
    });
    let others = others.collect::<Vec<_>>();
    let by_others = others.iter().map(|limit| limit.breached_per_s).sum::<f64>();
    let node = picture.node_limit();
    let by_node = node.map_or(0.0, |node| node.breached_per_s - by_others);
    let mut named = others;
    if let Some(node) = node.filter(|node| node.cps.is_some())
        && (by_node >= 0.5 || named.is_empty())
    {
        named.insert(0, node);
    }
    let named = named.into_iter().map(limit_text).collect::<Vec<_>>();
    let calls = grouped(breached.into());
    Some(match named.is_empty() {
        true => format!("{calls} calls/s refused by limits of backends"),
        false => format!("{calls} calls/s refused by limit {}", named.join(", ")),
    })
}

fn limit_text(limit: &LimitRow) -> String {
    match limit.cps {
        Some(cps) => format!("{} ({})", limit.name, grouped(cps.into())),
        None => limit.name.clone(),
    }
}
