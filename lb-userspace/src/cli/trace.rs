//! `siplb trace`: what crosses the running node, message by message.

mod credentials;
mod ladder;
mod pcap;

use std::{
    path::PathBuf,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    time::{Duration, Instant},
};

use clap::Args;
use ipnet::IpNet;
use signal_hook::{
    consts::{SIGINT, SIGTERM},
    flag,
};

use self::{ladder::Ladder, pcap::Pcap};
use super::{
    Failure, Running,
    output::{Output, Terminal, grouped, messages},
};
use crate::{
    config::parse_duration,
    control::{
        Request,
        client::{Next, Stream},
        trace::{DEFAULT_LIMIT, Line, Traced},
    },
};

/// How often it is looked whether the user wants it to end.
const LOOK_EVERY: Duration = Duration::from_millis(200);

#[derive(Debug, Args)]
pub(super) struct TraceArgs {
    /// Only calls whose Call-ID contains this (upper and lower case differ)
    #[arg(long, value_name = "TEXT")]
    call_id: Option<String>,
    /// Only calls with this user in From: alice, or alice@example.com
    #[arg(long, value_name = "USER")]
    from: Option<String>,
    /// Only calls with this user in To
    #[arg(long, value_name = "USER")]
    to: Option<String>,
    /// Only calls with a message that came from this address or network
    #[arg(long, value_name = "NETWORK", value_parser = network)]
    source: Option<IpNet>,
    /// Only from the first error of a call on: dropped, refused by siplb, or a response from 400 to 699
    #[arg(long)]
    errors: bool,
    /// End after so many messages
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    count: Option<u64>,
    /// End after this time: 30s, 5m, 1h
    #[arg(long, value_name = "TIME", value_parser = duration)]
    duration: Option<Duration>,
    /// Messages that the workers may copy in a second
    #[arg(long, value_name = "N", default_value_t = DEFAULT_LIMIT, value_parser = clap::value_parser!(u32).range(1..))]
    limit: u32,
    /// Show each message, with what changed in it
    #[arg(long)]
    full: bool,
    /// Show the values of Authorization and Proxy-Authorization
    #[arg(long)]
    credentials: bool,
    /// Write a capture file (pcap, raw IP) with what came and what left, credentials included; `-` for standard output. IP and
    /// UDP headers are made from the addresses: they are not those of the wire
    #[arg(long, value_name = "FILE", conflicts_with_all = ["json", "full", "credentials"])]
    pcap: Option<PathBuf>,
    #[command(flatten)]
    running: Running,
}

pub(super) fn trace(arguments: &TraceArgs, output: &Output) -> Result<(), Failure> {
    let ended = Arc::new(AtomicBool::new(false));
    for signal in [SIGINT, SIGTERM] {
        // The second one ends it at once, should the output hang.
        flag::register_conditional_shutdown(signal, 1, Arc::clone(&ended))?;
        flag::register(signal, Arc::clone(&ended))?;
    }
    let mut stream = arguments.running.stream(&arguments.request())?;
    let mut sink = arguments.sink(output)?;
    let mut counts = Counts::default();
    let result = show(arguments, &ended, &mut stream, &mut sink, &mut counts);
    let result = result.and_then(|end| sink.flush().map(|()| end));
    match result {
        // Whoever reads the capture has seen enough.
        Err(_) if matches!(&sink, Sink::Pcap(pcap) if pcap.is_closed()) => return Ok(()),
        Err(error) => return Err(error),
        Ok(_) if arguments.pcap.is_some() => {
            let left_out = grouped(counts.lost);
            eprintln!("{}, {left_out} left out", messages(counts.shown));
        }
        Ok(_) => {}
    }
    match result {
        Ok(End::Node) => Err(Failure::Failed("the node has ended the trace".to_owned())),
        _ => Ok(()),
    }
}

/// Who has ended a trace.
#[derive(Clone, Copy)]
enum End {
    User,
    Node,
}

#[derive(Default)]
struct Counts {
    shown: u64,
    lost: u64,
}

/// Shows what comes until somebody ends it.
fn show(
    arguments: &TraceArgs,
    ended: &AtomicBool,
    stream: &mut Stream,
    sink: &mut Sink<'_>,
    counts: &mut Counts,
) -> Result<End, Failure> {
    let until = arguments.duration.map(|duration| Instant::now() + duration);
    let left = |now: Instant| {
        until.map_or(LOOK_EVERY, |until| {
            until.saturating_duration_since(now).min(LOOK_EVERY)
        })
    };
    let mut flushed = Instant::now();
    loop {
        let now = Instant::now();
        if now.duration_since(flushed) >= LOOK_EVERY {
            sink.flush()?;
            flushed = now;
        }
        let wait = left(now);
        if ended.load(Relaxed) || wait.is_zero() || arguments.count == Some(counts.shown) {
            return Ok(End::User);
        }
        let line = match stream.next_line(wait)? {
            Next::Line(line) => line,
            Next::Nothing => continue,
            Next::End => return Ok(End::Node),
        };
        match serde_json::from_slice(&line) {
            Ok(Line::Message(message)) => {
                counts.shown += 1;
                sink.message(*message, arguments.credentials)?;
            }
            Ok(Line::Lost {
                queue_full,
                limited,
            }) => {
                let before = std::mem::replace(&mut counts.lost, queue_full + limited);
                let more = counts.lost.saturating_sub(before);
                sink.lost(queue_full, limited, more)?;
            }
            // A newer node may say more.
            Err(_) => {}
        }
    }
}

impl TraceArgs {
    fn request(&self) -> Request {
        let mut request = Request::new("trace")
            .with("errors", self.errors)
            .with("limit", self.limit);
        let source = self.source.map(|network| network.to_string());
        for (name, value) in [
            ("call_id", &self.call_id),
            ("from", &self.from),
            ("to", &self.to),
            ("source", &source),
        ] {
            if let Some(value) = value {
                request = request.with(name, value.as_str());
            }
        }
        request
    }

    fn sink<'a>(&self, output: &'a Output) -> Result<Sink<'a>, Failure> {
        Ok(match &self.pcap {
            Some(path) => Sink::Pcap(Pcap::create(path)?),
            None if self.running.json => Sink::Json(output),
            None => Sink::Text(Ladder::new(output.terminal(), self.full), output),
        })
    }
}

/// Where messages go.
enum Sink<'a> {
    Text(Ladder, &'a Output),
    Json(&'a Output),
    Pcap(Pcap),
}

impl Sink<'_> {
    fn message(&mut self, mut message: Traced, with_credentials: bool) -> Result<(), Failure> {
        if !with_credentials && !matches!(self, Self::Pcap(_)) {
            message.received = credentials::without(&message.received);
            message.sent = credentials::without(&message.sent);
        }
        match self {
            Self::Text(ladder, output) => output.text(&ladder.message(&message)),
            Self::Json(output) => output.json(&Line::Message(Box::new(message)), true),
            Self::Pcap(pcap) => pcap.message(&message),
        }
    }

    /// Says that `more` messages are missing here.
    fn lost(&mut self, queue_full: u64, limited: u64, more: u64) -> Result<(), Failure> {
        let line = Line::Lost {
            queue_full,
            limited,
        };
        match self {
            Self::Text(ladder, output) => output.text(&ladder.gap(more)),
            Self::Json(output) => output.json(&line, true),
            Self::Pcap(_) => {
                let text = format!("{} missing in the capture", messages(more));
                eprintln!("{}", Terminal::of_stderr().red(&text));
                Ok(())
            }
        }
    }

    fn flush(&mut self) -> Result<(), Failure> {
        match self {
            Self::Pcap(pcap) => pcap.flush(),
            Self::Text(..) | Self::Json(_) => Ok(()),
        }
    }
}

/// A network, or the one that an address is.
fn network(text: &str) -> Result<IpNet, String> {
    let address = text.parse().map(|address: std::net::IpAddr| address.into());
    address.or_else(|_| text.parse()).map_err(|_| {
        "write an address or a network, such as 198.51.100.7 or 198.51.100.0/24".to_owned()
    })
}

fn duration(text: &str) -> Result<Duration, String> {
    parse_duration(text)
        .filter(|duration| !duration.is_zero())
        .ok_or_else(|| "write a number and a unit, such as 30s or 5m".to_owned())
}
