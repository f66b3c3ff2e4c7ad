//! The benchmark on the wire: siplb, a bare forwarder and Kamailio in the same lab, one after the other, several rounds.

mod bare;
mod bpf;
mod contenders;
mod measure;
mod messages;
mod report;
mod xdp;

use std::{path::PathBuf, process::ExitCode, time::Duration};

use anyhow::{Context, Result, ensure};
use clap::{Args, Parser, Subcommand};
use siplb_lab::{Lab, Shape, alone, can_run, lab::cpus};

use contenders::Contender;
use measure::{Flood, Sinks};
use messages::{Ends, Kind};
use report::Report;

/// Where frames are made, and where they arrive at the edge: the kernel receives on the processor that sends.
const DRIVER_CPU: usize = 0;
/// Datagrams a second that one processor sends evenly by a socket, with room to spare.
const MOST_BY_A_SOCKET: f64 = 250_000.0;
/// Where the contender runs, and with it what it sends, the sinks included.
const WORKER_CPU: usize = 1;

/// Send as many SIP messages as one core can take through siplb, a bare AF_XDP forwarder and Kamailio, in a lab of
/// network namespaces.
///
/// A generator in the kernel (BPF_PROG_RUN with live frames) makes messages of which each belongs to a call of its own,
/// on one processor; what is measured runs on another, with one receive queue, and programs at the far ends count what
/// comes out and drop it. What reads from the kernel's sockets gets as much as it can take, from a socket, instead.
#[derive(Parser)]
#[command(name = "siplb-wire")]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Measure
    Run(RunArgs),
    /// Be the bare forwarder (for the benchmark itself)
    #[command(hide = true)]
    Bare(bare::BareArgs),
}

#[derive(Args)]
struct RunArgs {
    /// The programs of generator and sink
    #[arg(long, hide = true)]
    object: PathBuf,
    /// How often each contender has its turn; medians are reported
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..=100))]
    rounds: u32,
    /// Seconds that each is measured for, with each kind of messages
    #[arg(long, default_value_t = 2, value_parser = clap::value_parser!(u64).range(1..=60))]
    seconds: u64,
    /// Contenders: plain, bare, full, watched, socket, kamailio; and of --growth and --trunk
    #[arg(long, value_delimiter = ',')]
    only: Vec<String>,
    /// Kinds of messages: invite, options, ok, calls
    #[arg(long, value_delimiter = ',')]
    kinds: Vec<String>,
    /// Also how the cost grows with pins, backends, rules and the size of the INVITE
    #[arg(long)]
    growth: bool,
    /// Also what two workers make of one trunk, which meets one of them, with handing over and without
    #[arg(long)]
    trunk: bool,
    /// Datagrams a second at which it is measured how long messages take, in place of half of what each contender can do
    #[arg(long, value_name = "RATE", value_parser = clap::value_parser!(u32).range(1000..=300_000))]
    at: Option<u32>,
    /// Leave out how long messages take at half of the load
    #[arg(long)]
    no_latency: bool,
    /// Write all figures here, as JSON
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    /// Draw the rates into this file, as SVG
    #[arg(long, value_name = "FILE")]
    svg: Option<PathBuf>,
}

fn main() -> ExitCode {
    let outcome = match Arguments::parse().command {
        Command::Run(arguments) => run(&arguments),
        Command::Bare(arguments) => bare::run(&arguments),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("siplb-wire: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(arguments: &RunArgs) -> Result<()> {
    ensure!(can_run(), "the lab takes root");
    ensure!(
        cpus() > WORKER_CPU,
        "two processors are needed: one makes messages, one is measured"
    );
    let contenders = chosen(arguments)?;
    let kinds: Vec<Kind> = Kind::ALL
        .into_iter()
        .filter(|kind| {
            arguments.kinds.is_empty() || arguments.kinds.iter().any(|name| name == kind.name())
        })
        .collect();
    ensure!(!kinds.is_empty(), "no kind of messages is called so");
    let _alone = alone();
    let mut labs: Vec<Lab> = Vec::new();
    for queues in [1, 2] {
        if contenders.iter().any(|one| one.queues == queues) {
            let lab = Lab::new(Shape::TwoArmed, queues)?;
            lab.edge.sysctl("ipv4/ip_forward", "1")?;
            labs.push(lab);
        }
    }
    let lab_of = |queues| labs.iter().find(|lab| lab.queues == queues);
    let mut report = Report::default();
    for round in 1..=arguments.rounds {
        for contender in &contenders {
            eprintln!("round {round} of {}: {}", arguments.rounds, contender.name);
            let lab = lab_of(contender.queues).context("no lab")?;
            turn(arguments, lab, contender, &kinds, &mut report)
                .with_context(|| contender.name.clone())?;
        }
    }
    if arguments.only.is_empty()
        && let Some(lab) = lab_of(1)
    {
        eprintln!("XDP program");
        report.xdp = xdp::measure(lab, &Ends::of(lab)?, arguments.rounds)?;
    }
    print!("{}", report.text());
    if let Some(path) = &arguments.json {
        std::fs::write(path, report.json()?).with_context(|| format!("cannot write {path:?}"))?;
    }
    if let Some(path) = &arguments.svg {
        std::fs::write(path, report.svg()).with_context(|| format!("cannot write {path:?}"))?;
    }
    Ok(())
}

fn chosen(arguments: &RunArgs) -> Result<Vec<Contender>> {
    let mut contenders = Contender::all();
    if arguments.growth || !arguments.only.is_empty() {
        contenders.extend(Contender::growth());
    }
    if arguments.trunk || !arguments.only.is_empty() {
        contenders.extend(Contender::trunk());
    }
    for name in &arguments.only {
        let names: Vec<&str> = contenders.iter().map(|one| one.name.as_str()).collect();
        ensure!(
            names.contains(&name.as_str()),
            "there is no contender {name:?}; there are {}",
            names.join(", ")
        );
    }
    let wanted = |contender: &Contender| {
        arguments.only.is_empty() || arguments.only.contains(&contender.name)
    };
    contenders.retain(|contender| {
        let is_there = contender.is_there();
        if !is_there {
            eprintln!("{} is left out: it is not installed", contender.name);
        }
        is_there && wanted(contender)
    });
    Ok(contenders)
}

/// One contender, all kinds of messages.
fn turn(
    arguments: &RunArgs,
    lab: &Lab,
    contender: &Contender,
    kinds: &[Kind],
    report: &mut Report,
) -> Result<()> {
    let window = Duration::from_secs(arguments.seconds);
    let mut ends = Ends::of(lab)?;
    ends.invite_bytes = contender.invite_bytes;
    let is_bare = matches!(contender.what, contenders::What::Bare);
    let mut running = contender.start(lab, &ends)?;
    let process = running.process().id();
    for &kind in kinds {
        // These need no answer through what is measured.
        let is_plain = matches!(kind, Kind::Invite | Kind::Options);
        let rate = if contender.takes_a_flood() {
            let templates = match report.templates(kind) {
                // Nobody answers through the bare forwarder: it gets what went through siplb.
                Some(templates) if is_bare && !is_plain => templates,
                None if is_bare && !is_plain => continue,
                _ => ends.templates(lab, kind)?,
            };
            let sinks = Sinks::attach(&arguments.object, lab)?;
            let flood = Flood {
                templates: &templates,
                warm_up: contender.warm_up,
            };
            let rate = measure::flood(&arguments.object, lab, process, &sinks, flood, window)?;
            report.keep(kind, templates);
            rate
        } else if is_plain {
            let sinks = Sinks::attach(&arguments.object, lab)?;
            let message = match kind {
                Kind::Invite => ends.invite(),
                _ => ends.options(),
            };
            measure::climb(lab, &ends, process, &sinks, &message, window)?
        } else {
            continue;
        };
        eprintln!(
            "  {:<8} {:>9.0} a second of {:>9.0}, {:.0} + {:.0} ns",
            kind.name(),
            rate.per_second,
            rate.offered,
            rate.user_ns,
            rate.system_ns
        );
        report.add(&contender.name, kind, rate);
        if kind == Kind::Invite && !arguments.no_latency {
            let message = ends.invite();
            let mut sinks = Sinks::attach(&arguments.object, lab)?;
            let half = match arguments.at {
                Some(at) => f64::from(at),
                None => (rate.per_second / 2.0).min(MOST_BY_A_SOCKET),
            };
            let latency =
                measure::latency(lab, &ends, process, &mut sinks, &message, half, window)?;
            eprintln!(
                "  {:.0} a second of {:.0}: {:.1} µs, {:.1}, {:.1} (50, 99, 99.9 %)",
                latency.rate, latency.offered, latency.p50, latency.p99, latency.p999
            );
            report.add_latency(&contender.name, latency);
        }
    }
    running.stop()
}
