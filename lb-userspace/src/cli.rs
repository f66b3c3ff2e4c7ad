//! The command line: arguments in, text or JSON out.
//!
//! Exit status: 0 done, 1 it did not work, 2 wrong usage or an invalid configuration.

mod backends;
mod check;
mod cps;
mod events;
mod explain;
mod fleet;
mod leave;
mod output;
mod stats;
mod status;
mod top;
mod trace;

use std::{path::PathBuf, process::ExitCode};

use clap::{Args, Parser, Subcommand};

use self::output::{Output, Terminal};
use crate::{
    config::{self, Config, ConfigError, Control, DEFAULT_PATH},
    control::{Request, client},
    node::{self, RunOptions},
};

/// Anycast load balancer for SIP over UDP
#[derive(Debug, Parser)]
#[command(
    name = "siplb",
    version,
    max_term_width = 100,
    after_help = "\
Examples:
  siplb check                         what /etc/siplb/siplb.yaml means, or all that is wrong with it
  siplb run --config edge.yaml        run this node until it gets SIGTERM or SIGINT
  siplb status                        how the running node receives, queue by queue
  siplb top                           the live screen: calls per second, backends, drops, queues
  siplb stats --watch                 counters and rates, every second
  siplb explain --from 198.51.100.7:40000 invite.sip
                                      what becomes of a datagram, and why
  siplb trace --from alice            what crosses the running node: calls of alice
  siplb backends                      how the backends are, and who gets how much
  siplb drain sw1 --wait              no new calls to sw1; returns when it has none in set-up
  siplb reload                        the configuration file as it is now, whole or not at all
  siplb cps                           calls per second, accepted and refused
  siplb events --watch                what changed and when, and what changes from now on
  siplb leave                         withdraw the VIP, go on for the grace period, end
  siplb fleet edge1:9464 edge2:9464   whether all nodes are alike, and what differs

Exit status: 0 done, 1 it did not work, 2 wrong usage or an invalid configuration.
NO_COLOR switches colours off; RUST_LOG sets what `run` logs (error, warn, info, debug)."
)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run this node until it gets SIGTERM or SIGINT
    #[command(after_help = "\
Examples:
  siplb run
  RUST_LOG=debug siplb run --config edge.yaml")]
    Run {
        /// Configuration file
        #[arg(long, short, value_name = "FILE", default_value = DEFAULT_PATH)]
        config: PathBuf,
    },
    /// Check the configuration and say what it means
    #[command(
        long_about = "Check the configuration and say what it means

Reads the secret files as well, so it needs the same permissions as `run`. Reports all mistakes it can find \
at once, each with line and column. Nodes that print the same table hash send calls to the same backends.",
        after_help = "\
Examples:
  siplb check --config edge.yaml
  siplb check --against-running       which share of new calls would move, and to whom
  siplb check --json | jq -r .table_hash"
    )]
    Check(check::CheckArgs),
    /// Say what would become of a datagram, and why
    #[command(
        long_about = "Say what would become of a datagram, and why

Reads one raw SIP datagram from a file or standard input and runs the decision that a worker runs, with this \
configuration and secret: what was read, which NAT indicators match, what the Route header fields say, which rule, pool, \
key, slot and backend, the outcome by the name of its counter, and each line that changes. With --pcap it does so for every \
SIP datagram of a capture, one line each. Nothing is sent, and the running node is not asked. The secret is needed for \
tokens and backends to be those of the fleet, so it needs the same permissions as `run`.",
        override_usage = "siplb explain [OPTIONS] --from <IP:PORT> [MESSAGE-FILE]
       siplb explain [OPTIONS] --pcap <FILE>",
        after_help = "\
Examples:
  siplb explain --from 198.51.100.7:40000 invite.sip
  siplb explain --from 10.0.0.11:5060 --to 203.0.113.10:5060 < response.sip
  siplb explain --config edge.yaml --from [2001:db8::7]:5060 invite.sip
  siplb explain --from 198.51.100.7:40000 --json invite.sip | jq -r .route.backend
  siplb explain --from 198.51.100.7:40000 --json invite.sip | jq -r .datagram | base64 -d
  siplb explain --pcap edge.pcap             every SIP datagram in it, one line each
  siplb explain --pcap edge.pcap --json | jq -r .reason | sort | uniq -c

Exit status: 0 explained, whatever becomes of the datagram; 1 it could not be read; 2 wrong usage or an \
invalid configuration."
    )]
    Explain(explain::ExplainArgs),
    /// Show what XDP program and workers have counted, by CPU
    #[command(
        long_about = "Show what XDP program and workers have counted, by CPU

Reads the workers' shared memory file and the pinned maps of the XDP program; the process is not asked and \
may hang or be gone. Counters that are 0 are left out. XDP counters need root (CAP_BPF).",
        after_help = "\
Examples:
  siplb stats                         once
  siplb stats --watch                 every second, with rates
  siplb stats --watch 5 --all         every five seconds, counters that are 0 as well
  siplb stats --json | jq .backends   for programs; with --watch one line each time"
    )]
    Stats(stats::StatsArgs),
    /// Show calls per second, backends, drops and queues of the running node, live
    #[command(
        long_about = "Show calls per second, backends, drops and queues of the running node, live

The third line says what is wrong. Keys: ? lists them. Backends are drained, disabled and taken back from here, each after a \
question. Asks the node by its control socket and reads the workers' counters, so it needs the same permissions as `run`; workers do nothing \
more for it. A node that does not answer is tried again until it does; its past stays on the screen.",
        after_help = "\
Examples:
  siplb top
  siplb top --span 1h --limit 'source 198.51.100.0/24'
  siplb top --once > ticket.txt       a snapshot as text; works without a terminal
  siplb top --once --span 1d --width 160

Exit status: 0 left with q or by SIGTERM; with --once 1 if the node does not answer. For programs: status, backends, cps and stats \
with --json."
    )]
    Top(top::TopArgs),
    /// Ask the running node how it receives, queue by queue
    #[command(after_help = "\
Examples:
  siplb status
  siplb status --json | jq '.workers[].sockets[].copy'")]
    Status(status::StatusArgs),
    /// Show how the backends are, and who gets how much
    #[command(after_help = "\
Examples:
  siplb backends
  siplb backends --json | jq -r '.backends[] | select(.state != \"active\").name'")]
    Backends(backends::ListArgs),
    /// Give a backend no new calls; those that it has go on
    #[command(
        long_about = "Give a backend no new calls; those that it has go on

Calls in set-up and dialogs stay with it. That survives a reload, and a restart where control.state_file is set. With --wait \
it returns when no transaction or call in set-up is pinned to the backend any more: from then on it gets nothing but what belongs to \
established dialogs.",
        after_help = "\
Examples:
  siplb drain sw1
  siplb drain sw1 --wait && ssh sw1 systemctl stop switch"
    )]
    Drain(backends::DrainArgs),
    /// Take back `drain` or `disable`
    Undrain(backends::WishArgs),
    /// Give a backend nothing but what belongs to established dialogs, and no probes
    Disable(backends::WishArgs),
    /// Take back `disable` or `drain`
    Enable(backends::WishArgs),
    /// Put the configuration file as it is now into force, whole or not at all
    #[command(
        long_about = "Put the configuration file as it is now into force, whole or not at all

The running node reads the file that it was started with again. Nothing is lost: health, states, counters, history and pins go on. \
What only a restart can change (node, datapath, addresses of listeners, announce, control, stats, metrics) is refused, and so is a file with mistakes. SIGHUP does the \
same.",
        after_help = "\
Examples:
  siplb check && siplb reload
  siplb check --against-running && siplb reload"
    )]
    Reload(backends::ReloadArgs),
    /// Show what crosses the running node, message by message
    #[command(
        long_about = "Show what crosses the running node, message by message

tcpdump sees nothing of what AF_XDP takes and sends, so the workers show it: each message as it came and as it left, with what became \
of it. One line is one message; the number in front says which call it belongs to. What did not go on has the name of its outcome, as \
`siplb stats` counts it. All filters that are given must hold of one message; from then on the rest of its call is shown as well. \
Keepalives and siplb's own probes are not shown.

No call waits for a trace: what the node cannot hand over in time is left out, and the trace says so (trace_dropped and trace_limited in \
`siplb stats`). Who may open the control socket may trace, and sees everything that crosses the node: numbers, addresses, texts. The values \
of Authorization and Proxy-Authorization are not shown without --credentials; a --pcap has the bytes as they are. Messages are copied up \
to 4,096 bytes. Times are UTC, those of the batch that a message came in.",
        after_help = "\
Examples:
  siplb trace                                  everything
  siplb trace --from alice --full              calls of alice, with every message and what changed in it
  siplb trace --errors --duration 1m           calls from the first error on
  siplb trace --source 198.51.100.0/24 --pcap calls.pcap
  siplb trace --pcap - | tshark -r -           or: sngrep -I calls.pcap
  siplb trace --count 100 --json | jq -r .outcome | sort | uniq -c

Exit status: 0 ended by Ctrl-C, --count or --duration; 1 no node, or it has ended; 2 wrong usage."
    )]
    Trace(trace::TraceArgs),
    /// Show calls per second, accepted and refused, total and per limit
    #[command(after_help = "\
Examples:
  siplb cps                           the last minute, second by second
  siplb cps --minutes --points 1440   the last day
  siplb cps --minutes --points 744 --merge 60 --limit node
                                      the last month by the hour
  siplb cps --json | jq '.limits[0].points'")]
    Cps(cps::CpsArgs),
    /// Show what changed on the running node, and when
    #[command(
        long_about = "Show what changed on the running node, and when

Health of backends with the reason, drains and the like by the operator, reloads and why one was refused, announced or withdrawn and why, workers that are silent or back. The node keeps the last 1000 in memory; the log has all of them.",
        after_help = "\
Examples:
  siplb events
  siplb events --watch
  siplb events --count 1000 --json | jq -r '.events[] | select(.kind == \"backend_health\").text'
  siplb events --watch --json         one line for each"
    )]
    Events(events::EventsArgs),
    /// Ask all nodes for their metrics, and say whether they are alike
    #[command(
        long_about = "Ask all nodes for their metrics, and say whether they are alike

Nodes of a fleet decide alike when they share configuration, secrets and what they think of the backends. Asks each node at its \
metrics.listen, all at once, and marks with ! what differs from most of them; below the table it says what that means. Needs no \
configuration and no privileges.",
        after_help = "\
Examples:
  siplb fleet 192.0.2.11:9464 192.0.2.12:9464
  siplb fleet --file /etc/siplb/fleet --watch=5
  siplb fleet --file fleet --json | jq -r '.differences[]'

Exit status: 0 all nodes answer and agree; 1 one does not answer or differs; 2 wrong usage."
    )]
    Fleet(fleet::FleetArgs),
    /// Withdraw the VIP, go on with what still comes, and end the running node
    #[command(
        long_about = "Withdraw the VIP, go on with what still comes, and end the running node

The node withdraws first (see `announce` in the configuration), forwards what is still on its way to it for announce.grace, and ends. \
Dialogs go on through the other nodes. SIGTERM does the same. Returns when the node has ended.",
        after_help = "\
Examples:
  siplb leave
  siplb leave --no-wait"
    )]
    Leave(leave::LeaveArgs),
    /// Tell ExaBGP whether to announce the VIPs, as a process of its API
    #[command(
        long_about = "Tell ExaBGP whether to announce the VIPs, as a process of its API

Writes `announce route` and `withdraw route` lines whenever the running node begins or ceases to serve, until its standard input is \
closed. A node that does not answer is withdrawn. The configuration needs an `announce` section; it may be empty.",
        after_help = "\
Example, in ExaBGP's configuration:
  process siplb { run /usr/bin/siplb exabgp; encoder text; }"
    )]
    Exabgp(leave::ExabgpArgs),
}

/// How to reach the running node.
#[derive(Debug, Args)]
struct Running {
    #[command(flatten)]
    config: OptionalConfig,
    #[command(flatten)]
    socket: ControlSocket,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

impl Running {
    fn call(&self, request: &Request) -> Result<serde_json::Value, Failure> {
        client::call(&self.control_socket()?, request)
            .map_err(|error| Failure::Failed(error.to_string()))
    }

    /// For a request that is answered by one line after the other.
    fn stream(&self, request: &Request) -> Result<client::Stream, Failure> {
        let (_, stream) = client::open(&self.control_socket()?, request)
            .map_err(|error| Failure::Failed(error.to_string()))?;
        Ok(stream)
    }

    fn control_socket(&self) -> Result<PathBuf, Failure> {
        Ok(match &self.socket.socket {
            Some(socket) => socket.clone(),
            None => self.socket.path(self.config.load()?.as_ref()),
        })
    }
}

/// Where the running node listens.
#[derive(Debug, Args)]
struct ControlSocket {
    /// Control socket [default: that of the configuration, else /run/siplb/control.sock]
    #[arg(long, value_name = "FILE")]
    socket: Option<PathBuf>,
}

impl ControlSocket {
    fn path(&self, config: Option<&Config>) -> PathBuf {
        match (&self.socket, config) {
            (Some(socket), _) => socket.clone(),
            (None, Some(config)) => config.control.socket.clone(),
            (None, None) => Control::DEFAULT_SOCKET.into(),
        }
    }
}

/// An answer of the running node in its own type.
fn read_answer<T: serde::de::DeserializeOwned>(answer: serde_json::Value) -> Result<T, Failure> {
    serde_json::from_value(answer)
        .map_err(|error| Failure::Failed(format!("the answer makes no sense: {error}")))
}

/// Where the configuration is, for commands that can do without.
#[derive(Debug, Args)]
struct OptionalConfig {
    /// Configuration file, for the paths in it [default: /etc/siplb/siplb.yaml if it is there]
    #[arg(long, short, value_name = "FILE")]
    config: Option<PathBuf>,
}

impl OptionalConfig {
    /// The configuration that was named, or the usual one if it is there and can be understood.
    fn load(&self) -> Result<Option<Config>, Failure> {
        match &self.config {
            Some(path) => Ok(Some(config::load_without_secrets(path)?)),
            None => Ok(config::load_without_secrets(DEFAULT_PATH.as_ref()).ok()),
        }
    }
}

/// Why a command did not do what it should.
#[derive(Debug)]
enum Failure {
    /// Exit status 2: nothing was tried.
    Usage(String),
    /// Exit status 1.
    Failed(String),
}

impl From<ConfigError> for Failure {
    fn from(error: ConfigError) -> Self {
        Self::Usage(error.to_string())
    }
}

impl From<anyhow::Error> for Failure {
    fn from(error: anyhow::Error) -> Self {
        Self::Failed(format!("{error:#}"))
    }
}

impl From<std::io::Error> for Failure {
    fn from(error: std::io::Error) -> Self {
        Self::Failed(error.to_string())
    }
}

/// Does what the command line of this process says.
pub fn main() -> ExitCode {
    // Prints help (exit status 0) or what is wrong with the usage (2) by itself.
    let cli = Cli::parse();
    let output = Output::new(Terminal::of_this_process());
    match dispatch(cli.command, &output) {
        Ok(()) => ExitCode::SUCCESS,
        // Whoever read the output has seen enough: `siplb stats | head`.
        Err(_) if output.is_closed() => ExitCode::SUCCESS,
        Err(Failure::Usage(message)) => {
            eprintln!("{message}");
            ExitCode::from(2)
        }
        Err(Failure::Failed(message)) => {
            eprintln!("siplb: {message}");
            ExitCode::FAILURE
        }
    }
}

fn dispatch(command: Command, output: &Output) -> Result<(), Failure> {
    match command {
        Command::Run { config } => run(&config),
        Command::Check(arguments) => check::check(&arguments, output),
        Command::Explain(arguments) => explain::explain(&arguments, output),
        Command::Stats(arguments) => stats::stats(&arguments, output),
        Command::Top(arguments) => top::top(&arguments, output),
        Command::Status(arguments) => status::status(&arguments, output),
        Command::Backends(arguments) => backends::list(&arguments, output),
        Command::Drain(arguments) => backends::drain(&arguments, output),
        Command::Undrain(arguments) => backends::wish("undrain", &arguments, output),
        Command::Disable(arguments) => backends::wish("disable", &arguments, output),
        Command::Enable(arguments) => backends::wish("enable", &arguments, output),
        Command::Reload(arguments) => backends::reload(&arguments, output),
        Command::Trace(arguments) => trace::trace(&arguments, output),
        Command::Cps(arguments) => cps::cps(&arguments, output),
        Command::Events(arguments) => events::events(&arguments, output),
        Command::Fleet(arguments) => fleet::fleet(&arguments, output),
        Command::Leave(arguments) => leave::leave(&arguments, output),
        Command::Exabgp(arguments) => leave::exabgp(&arguments),
    }
}

fn run(path: &std::path::Path) -> Result<(), Failure> {
    env_logger::Builder::from_env(env_logger::Env::default().default_filter_or("info")).init();
    let config = config::load(path)?;
    if config.node.secret_file.is_none() {
        return Err(Failure::Usage(format!(
            "{}: node.secret_file: is missing, and no node can run without; make one with: (umask 077; head -c 32 \
             /dev/urandom > FILE), copy it to all nodes and write its path",
            path.display()
        )));
    }
    let config_file = std::path::absolute(path)?;
    Ok(node::run(
        config,
        RunOptions {
            config_file: Some(config_file),
        },
    )?)
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn arguments_fit_together() {
        Cli::command().debug_assert();
    }

    #[test]
    fn an_address_behind_watch_is_an_address() {
        let fleet = |arguments: &[&str]| {
            let arguments = ["siplb", "fleet"].iter().chain(arguments);
            match Cli::try_parse_from(arguments).unwrap().command {
                Command::Fleet(fleet) => (fleet.watch, fleet.addresses.len()),
                other => panic!("{other:?}"),
            }
        };
        assert_eq!(fleet(&["--watch", "edge1:9464"]), (Some(2.0), 1));
        assert_eq!(
            fleet(&["--watch=5", "edge1:9464", "edge2:9464"]),
            (Some(5.0), 2)
        );
        assert_eq!(fleet(&["edge1:9464"]), (None, 1));
        for wrong in [&["nonsense"][..], &["--watch=0", "edge1:9464"]] {
            let arguments = ["siplb", "fleet"].iter().chain(wrong);
            let error = Cli::try_parse_from(arguments).unwrap_err();
            assert_eq!(error.exit_code(), 2, "{wrong:?}");
        }
    }

    #[test]
    fn the_watch_interval_can_be_left_out() {
        let watch = |arguments: &[&str]| {
            let arguments = ["siplb", "stats"].iter().chain(arguments);
            match Cli::try_parse_from(arguments).unwrap().command {
                Command::Stats(stats) => stats.watch,
                other => panic!("{other:?}"),
            }
        };
        assert_eq!(watch(&[]), None);
        assert_eq!(watch(&["--watch"]), Some(1.0));
        assert_eq!(watch(&["--watch", "2.5", "--json"]), Some(2.5));
        for wrong in ["0", "-1", "nan", "x", "1e9"] {
            let arguments = ["siplb", "stats", &format!("--watch={wrong}")];
            let error = Cli::try_parse_from(arguments).unwrap_err();
            assert_eq!(error.exit_code(), 2, "{wrong}");
        }
    }
}
