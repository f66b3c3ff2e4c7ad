//! `siplb status`: what the running node says about itself.

use std::time::Duration;

use clap::Args;

use super::{
    Failure, Running,
    output::{Align, Grid, Output, Terminal, grouped, span},
    read_answer,
};
use crate::control::{
    Request,
    announce::AnnounceStatus,
    status::{Frames, Status, WorkerStatus},
};

#[derive(Debug, Args)]
pub(super) struct StatusArgs {
    #[command(flatten)]
    running: Running,
}

pub(super) fn status(arguments: &StatusArgs, output: &Output) -> Result<(), Failure> {
    let answer = arguments.running.call(&Request::new("status"))?;
    if arguments.running.json {
        return output.json(&answer, false);
    }
    output.text(&text(&read_answer(answer)?, &output.terminal()))
}

fn text(status: &Status, terminal: &Terminal) -> String {
    let uptime = span(Duration::from_secs(status.uptime_s));
    let mut text = format!(
        "{}, siplb {}, pid {}, up {uptime}\n",
        terminal.bold(&status.node),
        status.version,
        status.pid
    );
    text += &match &status.mode_reason {
        Some(reason) => format!("{}, because {reason}\n", status.mode),
        None => format!("{}\n", status.mode),
    };
    if !status.table_hash.is_empty() {
        text += &format!("table hash {}\n", status.table_hash);
        text += &format!(
            "configuration {}, generation {}\n",
            status.config_hash, status.generation
        );
    }
    for key in &status.keys {
        text += &format!("secret {} ({})\n", key.id, key.role);
    }
    if let Some(announce) = &status.announce {
        text += &announced(announce, terminal);
    }
    text.push('\n');
    text += &workers(&status.workers).render("");
    let frames = frames(&status.workers);
    if !frames.is_empty() {
        text.push('\n');
        text += &frames;
    }
    for worker in &status.workers {
        for problem in problems(worker) {
            text += &format!("{}\n", terminal.red(&problem));
        }
    }
    text
}

/// Whether the network is told that the node serves.
fn announced(announce: &AnnounceStatus, terminal: &Terminal) -> String {
    let vips = announce.vips.join(", ");
    let since = span(Duration::from_secs(announce.since_s));
    let how = match &announce.device {
        Some(device) => format!(" on {device}"),
        None => String::new(),
    };
    match &announce.reason {
        None => format!("announced: {vips}{how}, for {since}\n"),
        Some(reason) => {
            let text = format!("not announced for {since}: {reason}");
            format!("{}\n", terminal.red(&text))
        }
    }
}

fn workers(workers: &[WorkerStatus]) -> Grid {
    let mut grid = Grid::new(&[
        Align::Right,
        Align::Right,
        Align::Left,
        Align::Left,
        Align::Left,
        Align::Left,
        Align::Right,
    ]);
    grid.row([
        "queue",
        "cpu",
        "interface",
        "XDP",
        "AF_XDP",
        "gate",
        "heartbeat",
    ]);
    for worker in workers {
        let heartbeat = worker
            .heartbeat_age_ms
            .map_or(String::new(), |ms| format!("{ms} ms ago"));
        let start = [worker.queue.to_string(), worker.cpu.to_string()];
        if worker.sockets.is_empty() {
            let cells = start
                .clone()
                .into_iter()
                .chain(["kernel socket", "", "", ""].map(str::to_owned));
            grid.row(cells.chain([heartbeat.clone()]));
        }
        for socket in &worker.sockets {
            let gate = if socket.gate_open { "open" } else { "closed" };
            let cells = [&socket.interface, &socket.attach, &socket.copy, gate].map(str::to_owned);
            grid.row(
                start
                    .clone()
                    .into_iter()
                    .chain(cells)
                    .chain([heartbeat.clone()]),
            );
        }
    }
    grid
}

fn frames(workers: &[WorkerStatus]) -> String {
    let mut grid = Grid::new(&[Align::Right; 6]);
    grid.row(["queue", "chunks", "free", "fill", "rx", "tx"]);
    let mut any = false;
    for worker in workers {
        if let Some(frames) = worker.frames {
            any = true;
            let numbers = [frames.total, frames.free, frames.fill, frames.rx, frames.tx];
            grid.row(
                [worker.queue.to_string()]
                    .into_iter()
                    .chain(numbers.map(grouped)),
            );
        }
    }
    if any { grid.render("") } else { String::new() }
}

/// What is wrong with a worker.
pub(super) fn problems(worker: &WorkerStatus) -> Vec<String> {
    let mut problems = Vec::new();
    if let Some(Frames {
        total,
        free,
        fill,
        rx,
        tx,
    }) = worker.frames
        && free + fill + rx + tx != total
    {
        problems.push(format!(
            "queue {}: {} of {} chunks are accounted for",
            worker.queue,
            grouped(free + fill + rx + tx),
            grouped(total)
        ));
    }
    for socket in worker.sockets.iter().filter(|socket| !socket.gate_open) {
        problems.push(format!(
            "queue {}: the gate on {} is closed; datagrams go through the kernel",
            worker.queue, socket.interface
        ));
    }
    problems
}
