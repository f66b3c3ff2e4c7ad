//! `siplb backends`, and what the operator does to one: `drain`, `undrain`, `disable`, `enable`, `reload`.

use std::{
    thread,
    time::{Duration, Instant},
};

use clap::Args;

use super::{
    Failure, Running,
    output::{Align, Grid, Output, Terminal, grouped, span},
    read_answer,
};
use crate::control::{
    Request,
    plane::{BackendReport, BackendsReport, Reloaded},
};

/// How often a node is asked whether a backend is drained: as often as its workers count.
const ASK_EVERY: Duration = Duration::from_secs(1);
/// A worker counts all its pins within this time, so that a count before it may be of before the drain.
const COUNTED_WITHIN: Duration = Duration::from_secs(4);

#[derive(Debug, Args)]
pub(super) struct ListArgs {
    #[command(flatten)]
    running: Running,
}

#[derive(Debug, Args)]
pub(super) struct WishArgs {
    /// Name of the backend
    backend: String,
    #[command(flatten)]
    running: Running,
}

#[derive(Debug, Args)]
pub(super) struct DrainArgs {
    #[command(flatten)]
    wish: WishArgs,
    /// Return only when no transaction or call in set-up is pinned to it
    #[arg(long)]
    wait: bool,
    /// With --wait: give up after this many seconds, with exit status 1
    #[arg(long, value_name = "SECONDS", default_value_t = 600, requires = "wait")]
    timeout: u64,
}

#[derive(Debug, Args)]
pub(super) struct ReloadArgs {
    #[command(flatten)]
    running: Running,
}

pub(super) fn list(arguments: &ListArgs, output: &Output) -> Result<(), Failure> {
    let answer = arguments.running.call(&Request::new("backends"))?;
    if arguments.running.json {
        return output.json(&answer, false);
    }
    output.text(&text(&read_answer(answer)?, &output.terminal()))
}

pub(super) fn wish(command: &str, arguments: &WishArgs, output: &Output) -> Result<(), Failure> {
    let answer = ask(command, arguments)?;
    say(answer, arguments, output)
}

fn ask(command: &str, arguments: &WishArgs) -> Result<serde_json::Value, Failure> {
    let request = Request::new(command).with("backend", arguments.backend.as_str());
    arguments.running.call(&request)
}

fn say(answer: serde_json::Value, arguments: &WishArgs, output: &Output) -> Result<(), Failure> {
    if arguments.running.json {
        return output.json(&answer, false);
    }
    output.text(&format!("{}\n", said(&read_backend(answer)?)))
}

/// How a backend is after a command.
pub(super) fn said(report: &BackendReport) -> String {
    let pinned = match report.pins {
        0 => String::new(),
        pins => format!(
            ", {} transactions and calls in set-up pinned to it",
            grouped(pins)
        ),
    };
    format!("{}: {}{pinned}", report.name, state(report))
}

pub(super) fn read_backend(mut answer: serde_json::Value) -> Result<BackendReport, Failure> {
    read_answer(answer["backend"].take())
}

pub(super) fn drain(arguments: &DrainArgs, output: &Output) -> Result<(), Failure> {
    let began = Instant::now();
    let mut answer = ask("drain", &arguments.wish)?;
    if arguments.wait {
        let deadline = began + Duration::from_secs(arguments.timeout);
        let mut said = None;
        loop {
            thread::sleep(ASK_EVERY);
            // To drain what is draining changes nothing.
            answer = ask("drain", &arguments.wish)?;
            let pins = read_backend(answer.clone())?.pins;
            if pins == 0 && began.elapsed() > COUNTED_WITHIN {
                break;
            }
            if said != Some(pins) {
                eprintln!("{}: {} pinned", arguments.wish.backend, grouped(pins));
                said = Some(pins);
            }
            if Instant::now() > deadline {
                return Err(Failure::Failed(format!(
                    "{}: {} transactions and calls in set-up are pinned to it after {}; it is still draining",
                    arguments.wish.backend,
                    grouped(pins),
                    span(began.elapsed())
                )));
            }
        }
    }
    say(answer, &arguments.wish, output)
}

pub(super) fn reload(arguments: &ReloadArgs, output: &Output) -> Result<(), Failure> {
    let answer = arguments.running.call(&Request::new("reload"))?;
    if arguments.running.json {
        return output.json(&answer, false);
    }
    let reloaded: Reloaded = read_answer(answer)?;
    let mut text = format!(
        "configuration {}, generation {}: in force\n",
        reloaded.config_hash, reloaded.generation
    );
    for change in &reloaded.changes {
        text += &format!("  {change}\n");
    }
    if reloaded.changes.is_empty() {
        text += "  nothing changed\n";
    }
    output.text(&text)
}

fn text(report: &BackendsReport, terminal: &Terminal) -> String {
    let mut text = String::new();
    for pool in &report.pools {
        if !text.is_empty() {
            text.push('\n');
        }
        text += &format!("{} ({})\n", terminal.bold(&pool.name), pool.strategy);
        if pool.panic {
            let what = "all backends look dead, so all are used";
            text += &format!("  {}\n", terminal.red(what));
        }
        let backends = report
            .backends
            .iter()
            .filter(|backend| backend.pool == pool.name);
        let backends = backends.collect::<Vec<_>>();
        text += &grid(&backends).render("  ");
        for backend in backends {
            if let (Some(reason), true) = (&backend.reason, backend.state != "active") {
                text += &format!("  {}: {reason}\n", backend.name);
            }
        }
    }
    text
}

fn grid(backends: &[&BackendReport]) -> Grid {
    use Align::{Left, Right};
    let mut grid = Grid::new(&[
        Left, Left, Left, Right, Right, Right, Right, Right, Right, Right, Right,
    ]);
    grid.row([
        "backend",
        "address",
        "state",
        "since",
        "prio",
        "weight",
        "share",
        "requests",
        "pinned",
        "probe",
        "ms min/mean/p99",
    ]);
    for backend in backends {
        let weight = match backend.ramp < 1.0 {
            true => format!("{} x {:.1}", backend.weight, backend.ramp),
            false => backend.weight.to_string(),
        };
        let since = backend.since_s.map_or("start".to_owned(), |seconds| {
            span(Duration::from_secs(seconds))
        });
        let latency = backend
            .latency_ms
            .map_or("-".to_owned(), |[min, mean, p99]| {
                format!("{min:.1} / {mean:.1} / {p99:.1}")
            });
        grid.row([
            backend.name.clone(),
            backend.address.clone(),
            state(backend),
            since,
            backend.priority.to_string(),
            weight,
            format!("{:.1} %", backend.share_percent),
            grouped(backend.requests),
            grouped(backend.pins),
            backend
                .last_status
                .map_or("-".to_owned(), |status| status.to_string()),
            latency,
        ]);
    }
    grid
}

/// What it may get, and who says so.
fn state(backend: &BackendReport) -> String {
    match (&backend.operator, backend.health.as_deref()) {
        (Some(operator), Some(health)) if health != "healthy" => {
            format!("{operator} by the operator, {health}")
        }
        (Some(operator), _) => format!("{operator} by the operator"),
        (None, _) => backend.state.clone(),
    }
}
