//! `siplb leave`: the node withdraws, goes on for its grace period, and ends. `siplb exabgp`: what ExaBGP is told.

use std::{
    io::{Read, Write},
    sync::mpsc::{self, RecvTimeoutError},
    thread,
    time::{Duration, Instant},
};

use clap::Args;

use super::{Failure, Running, output::Output, read_answer};
use crate::control::{Request, announce::AnnounceStatus, status::Status};

/// How often the node is looked at.
const LOOK_EVERY: Duration = Duration::from_millis(200);
/// How much longer than its grace period a node may take to end.
const PATIENCE: Duration = Duration::from_secs(30);

#[derive(Debug, Args)]
pub(super) struct LeaveArgs {
    #[command(flatten)]
    running: Running,
    /// Return at once instead of when the node has ended
    #[arg(long)]
    no_wait: bool,
}

pub(super) fn leave(arguments: &LeaveArgs, output: &Output) -> Result<(), Failure> {
    let answer = arguments.running.call(&Request::new("leave"))?;
    let grace = Duration::from_secs(answer["grace_s"].as_u64().unwrap_or(0));
    if arguments.running.json {
        output.json(&answer, false)?;
    } else {
        let grace = grace.as_secs();
        output.text(&format!(
            "withdrawing; the node goes on with what still comes for {grace} s, and ends\n"
        ))?;
    }
    if arguments.no_wait {
        return Ok(());
    }
    let deadline = Instant::now() + grace + PATIENCE;
    while arguments.running.call(&Request::new("status")).is_ok() {
        if Instant::now() > deadline {
            let text = format!(
                "the node still runs {} s after its grace period",
                PATIENCE.as_secs()
            );
            return Err(Failure::Failed(text));
        }
        thread::sleep(LOOK_EVERY);
    }
    match arguments.running.json {
        true => Ok(()),
        false => output.text("it has ended\n"),
    }
}

#[derive(Debug, Args)]
pub(super) struct ExabgpArgs {
    #[command(flatten)]
    running: Running,
    /// Next hop of the routes
    #[arg(long, value_name = "IP", default_value = "self")]
    next_hop: String,
    /// What else ExaBGP is to say of the routes, such as "med 50"
    #[arg(long, value_name = "TEXT")]
    attributes: Option<String>,
}

/// Says on standard output what ExaBGP's process API wants to hear, whenever it changes, until standard input is closed.
pub(super) fn exabgp(arguments: &ExabgpArgs) -> Result<(), Failure> {
    let (closed, is_closed) = mpsc::channel::<()>();
    thread::spawn(move || {
        // ExaBGP answers each line, and closes when it ends.
        let mut answers = [0; 256];
        while std::io::stdin().read(&mut answers).is_ok_and(|len| len > 0) {}
        drop(closed);
    });
    let mut said = Vec::new();
    loop {
        let announced = vips_of(arguments);
        let lines = changes(arguments, &said, &announced);
        if !lines.is_empty() {
            let mut stdout = std::io::stdout().lock();
            // Nobody reads any more: so there is nobody to tell.
            if stdout
                .write_all(lines.as_bytes())
                .and_then(|()| stdout.flush())
                .is_err()
            {
                return Ok(());
            }
            said = announced;
        }
        match is_closed.recv_timeout(LOOK_EVERY) {
            Err(RecvTimeoutError::Timeout) => {}
            _ => return Ok(()),
        }
    }
}

/// The VIPs that are to be announced: none when the node does not answer.
fn vips_of(arguments: &ExabgpArgs) -> Vec<String> {
    let answer = arguments.running.call(&Request::new("status"));
    let status = answer.and_then(read_answer::<Status>);
    let announce = status.ok().and_then(|status| status.announce);
    match announce {
        Some(AnnounceStatus {
            announced: true,
            vips,
            ..
        }) => vips,
        _ => Vec::new(),
    }
}

fn changes(arguments: &ExabgpArgs, before: &[String], after: &[String]) -> String {
    let ExabgpArgs {
        next_hop,
        attributes,
        ..
    } = arguments;
    let route = |vip: &str| {
        let bits = if vip.contains(':') { 128 } else { 32 };
        format!("route {vip}/{bits} next-hop {next_hop}")
    };
    let mut lines = String::new();
    for vip in before.iter().filter(|vip| !after.contains(vip)) {
        lines += &format!("withdraw {}\n", route(vip));
    }
    for vip in after.iter().filter(|vip| !before.contains(vip)) {
        let attributes = attributes.as_deref().unwrap_or_default();
        let line = format!("announce {} {attributes}", route(vip));
        lines += &format!("{}\n", line.trim_end());
    }
    lines
}
