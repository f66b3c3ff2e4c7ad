//! The demo: real calls by SIPp through siplb, over native XDP and AF_XDP, in a lab of network namespaces.

mod measure;
mod screen;

use std::{
    io::IsTerminal,
    process::ExitCode,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail};
use clap::Parser;
use siplb_lab::{
    Family, Lab, Shape, Siplb,
    lab::remove_kept_labs,
    siplb::{DataPath, Options, binary},
    sipp::{Plan, Scenario, Sipp},
    which,
};

use measure::{Parties, Sample};
use screen::Screen;

const WEIGHTS: [u16; 3] = [2, 1, 1];
const QUEUES: u32 = 2;
/// What one SIPp can do with room to spare; from there on more of them share the work.
const CALLS_PER_SECOND_OF_A_CALLER: u32 = 600;
/// How long the last calls may take after the last was placed.
const GRACE: Duration = Duration::from_secs(15);
/// After how much of a second SIPp has surely written its books of that second.
const BOOKS_DELAY: Duration = Duration::from_millis(300);
const CALL_LENGTH_MS: u32 = 200;

/// Send real SIPp calls through siplb, in a lab of network namespaces on this machine.
///
/// The lab is a caller's host, an edge host that runs siplb, and a host with three SIP servers of weights 2, 1 and 1,
/// joined by veth pairs with two queues each. Everything is removed at the end.
#[derive(Parser)]
#[command(name = "siplb-demo")]
struct Arguments {
    /// How long to place calls
    #[arg(long, default_value_t = 30, value_parser = clap::value_parser!(u32).range(1..=86_400))]
    seconds: u32,
    /// Calls per second
    #[arg(long, default_value_t = 250, value_parser = clap::value_parser!(u32).range(1..=20_000))]
    rate: u32,
    /// Use the kernel's sockets instead of AF_XDP
    #[arg(long)]
    socket: bool,
    /// Leave the lab running and say how to poke at it
    #[arg(long)]
    keep: bool,
    /// Remove the labs that --keep has left, and do nothing else
    #[arg(long)]
    remove: bool,
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let outcome = match arguments.remove {
        true => remove(),
        false => demo(&arguments),
    };
    match outcome {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("siplb-demo: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn remove() -> Result<bool> {
    check_host()?;
    println!("{} hosts removed", remove_kept_labs());
    Ok(true)
}

/// Returns whether everything added up.
fn demo(arguments: &Arguments) -> Result<bool> {
    check_host()?;
    binary()?;
    let interrupted = Arc::new(AtomicBool::new(false));
    for signal in [signal_hook::consts::SIGINT, signal_hook::consts::SIGTERM] {
        signal_hook::flag::register(signal, interrupted.clone())?;
    }
    println!(
        "Raising the lab: a caller's host, the edge, a host with {} SIP servers",
        WEIGHTS.len()
    );
    let mut lab = Lab::new(Shape::TwoArmed, QUEUES)?;
    let data_path = match arguments.socket {
        true => DataPath::Socket,
        false => DataPath::Auto,
    };
    let options = Options {
        families: vec![Family::V4],
        weights: WEIGHTS.to_vec(),
        ..Options::new(data_path)
    };
    println!("Starting siplb and the SIP servers");
    let mut siplb = Siplb::start(&lab, &options)?;
    let status = siplb.status()?;
    let note = status.mode_reason.map(|reason| {
        format!("AF_XDP cannot be used here, so it is the kernel's sockets: {reason}")
    });
    if let Some(note) = &note {
        println!("{note}");
    }
    let servers = start_servers(&lab)?;
    let callers = start_callers(&lab, arguments)?;
    let mut parties = Parties {
        siplb: &siplb,
        callers,
        servers,
    };
    let names = (0..WEIGHTS.len())
        .map(|number| options.backend(Family::V4, number))
        .collect();
    let mut screen = Screen::new(
        std::io::stdout().is_terminal(),
        Duration::from_secs(arguments.seconds.into()),
        lab.vip(Family::V4),
        names,
        &WEIGHTS,
        note,
    );
    watch(&mut parties, &mut screen, arguments, &interrupted)?;
    if interrupted.load(Ordering::Relaxed) {
        println!("Interrupted: removing the lab");
        return Ok(false);
    }
    let good = parties.summary(QUEUES)?;
    if arguments.keep {
        // Callers are done; servers and siplb go on without us.
        for server in &mut parties.servers {
            server.process().keep();
        }
        drop(parties);
        print_ways_to_poke(&lab, &siplb)?;
        siplb.process().keep();
        lab.keep()?;
    } else {
        drop(parties);
        siplb.stop()?;
        drop(lab);
        println!("The lab is removed.");
    }
    Ok(good)
}

fn check_host() -> Result<()> {
    if !rustix::process::geteuid().is_root() {
        bail!("the lab needs root for its network namespaces; run it with sudo");
    }
    for (tool, package) in [
        ("ip", "iproute2"),
        ("ss", "iproute2"),
        ("ethtool", "ethtool"),
        ("sipp", "sip-tester"),
        ("taskset", "util-linux"),
    ] {
        if which(tool).is_none() {
            bail!("{tool} is not installed; on Debian: apt-get install {package}");
        }
    }
    Ok(())
}

fn start_servers(lab: &Lab) -> Result<Vec<Sipp>> {
    let servers = (0..WEIGHTS.len()).map(|number| {
        let plan = Plan::server(Scenario::new("uas_bye"), lab.server(Family::V4, number));
        Sipp::start(
            lab,
            &lab.servers,
            &format!("server{}", number + 1),
            &plan.on_cpu(number),
        )
    });
    servers.collect()
}

fn start_callers(lab: &Lab, arguments: &Arguments) -> Result<Vec<Sipp>> {
    let count = arguments
        .rate
        .div_ceil(CALLS_PER_SECOND_OF_A_CALLER)
        .max(QUEUES)
        .min(arguments.rate);
    let callers = (0..count).map(|number| {
        // The first ones take what does not divide evenly.
        let rate = arguments.rate / count + u32::from(number < arguments.rate % count);
        let calls = u64::from(rate) * u64::from(arguments.seconds);
        let port = 5061 + number as u16;
        let local = (lab.client_address(Family::V4), port).into();
        let mut plan = Plan::caller(
            Scenario::new("uac_bye"),
            local,
            lab.vip(Family::V4),
            calls,
            rate,
        );
        plan.pause_ms = CALL_LENGTH_MS;
        let plan = plan.on_cpu(number as usize);
        Sipp::start(lab, &lab.client, &format!("caller{}", number + 1), &plan)
    });
    callers.collect()
}

/// Shows a picture every second until all calls are over.
fn watch(
    parties: &mut Parties<'_>,
    screen: &mut Screen,
    arguments: &Arguments,
    interrupted: &AtomicBool,
) -> Result<()> {
    // SIPp writes its books every second: look shortly after it has.
    let begin = Instant::now() + BOOKS_DELAY;
    let latest_end = Duration::from_secs(arguments.seconds.into()) + GRACE;
    let mut seconds = 0;
    loop {
        seconds += 1;
        let next = begin + Duration::from_secs(seconds);
        while Instant::now() < next && !interrupted.load(Ordering::Relaxed) {
            std::thread::sleep(
                Duration::from_millis(20).min(next.saturating_duration_since(Instant::now())),
            );
        }
        if interrupted.load(Ordering::Relaxed) {
            return Ok(());
        }
        let sample = Sample::take(parties, begin.elapsed()).context("cannot read the counters")?;
        screen.show(&sample);
        if !parties.are_calling() {
            return Ok(());
        }
        if begin.elapsed() > latest_end {
            bail!(
                "calls are not over {} s after the last one was placed",
                GRACE.as_secs()
            );
        }
    }
}

fn print_ways_to_poke(lab: &Lab, siplb: &Siplb) -> Result<()> {
    let program = binary()?.canonicalize()?;
    let program = program.display();
    let configuration = siplb.configuration().display();
    let dir = lab.dir().display();
    let demo = std::env::current_exe()?;
    let [client, edge] = [&lab.client, &lab.edge]
        .map(|host| format!("nsenter --net=/run/netns/{}", host.namespace()));
    let (vip, caller) = (lab.vip(Family::V4), lab.client_address(Family::V4));
    println!(
        "
The lab is still there, without callers. Ways to poke at it:

  the live screen            {program} top --config {configuration}
  counters, every second     {program} stats --config {configuration} --watch
  what siplb says of itself  {program} status --config {configuration}
  50 more calls              {client} sipp -sf {dir}/uac_bye.xml -i {caller} -p 5070 -d 200 -r 10 -m 50 {vip}
  messages at the caller     {client} tshark -i eth0 -Y sip
  routes and neighbours      {edge} ip neighbour
  a shell on the edge        {edge} bash
  what everybody has logged  {dir}
  remove it                  {} --remove",
        demo.display()
    );
    Ok(())
}
