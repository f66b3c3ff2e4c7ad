//! `siplb explain`: what becomes of a datagram, and why. Runs the very `forward` that a worker runs.

mod capture;
pub(super) mod diff;
mod facts;
mod hints;
mod nat;
pub(super) mod printable;
mod proxy_header;
#[cfg(test)]
mod tests;
mod text;

use std::{
    fs::File,
    io::{self, IsTerminal, Read},
    net::SocketAddr,
    path::{Path, PathBuf},
};

use clap::Args;

use self::facts::Explanation;
use super::{
    Failure,
    output::{Output, Terminal},
};
use crate::{
    config::{self, Config, DEFAULT_PATH},
    forward::{ListenerIndex, Scratch, Table},
};

/// Longest UDP payload over IPv4. Over IPv6 it is 20 bytes more, which no sender uses for SIP.
const MAX_DATAGRAM: usize = 65_507;

#[derive(Debug, Args)]
pub(super) struct ExplainArgs {
    /// Configuration file
    #[arg(long, short, value_name = "FILE", default_value = DEFAULT_PATH)]
    config: PathBuf,
    /// Where the datagram came from
    #[arg(long, value_name = "IP:PORT", value_parser = address, required_unless_present = "pcap")]
    from: Option<SocketAddr>,
    /// The listener that it was sent to [default: the first one of the family of --from]
    #[arg(long, value_name = "IP:PORT", value_parser = address)]
    to: Option<SocketAddr>,
    /// Print JSON; with --pcap one line for each datagram
    #[arg(long)]
    json: bool,
    /// Explain every SIP datagram of a capture (pcap or pcapng, `-` for standard input), one line each
    #[arg(long, value_name = "FILE", conflicts_with_all = ["from", "message"])]
    pcap: Option<PathBuf>,
    /// File with one raw datagram [default: -, standard input]
    #[arg(value_name = "MESSAGE-FILE")]
    message: Option<PathBuf>,
}

pub(super) fn explain(arguments: &ExplainArgs, output: &Output) -> Result<(), Failure> {
    let edge = Edge::load(&arguments.config)?;
    // The text for one datagram begins with them, so that they come along into a ticket.
    if arguments.json || arguments.pcap.is_some() {
        for note in &edge.notes {
            eprintln!("{}", Terminal::of_stderr().red(&format!("Note: {note}")));
        }
    }
    let from = match (&arguments.pcap, arguments.from) {
        (Some(file), _) => return capture::explain(&edge, file, arguments, output),
        (None, Some(from)) => from,
        (None, None) => return Err(Failure::Usage("siplb: --from is missing".to_owned())),
    };
    let listener = edge.listener(from, arguments.to)?;
    let file = arguments.message.as_deref().unwrap_or(Path::new("-"));
    let payload = read_message(file)?;
    let mut scratch = Scratch::new();
    let explanation = Explanation::new(&edge, &payload, from, listener, &mut scratch);
    if arguments.json {
        output.json(&explanation, false)
    } else {
        output.text(&text::text(
            &edge,
            &explanation,
            &payload,
            &scratch,
            &output.terminal(),
        ))
    }
}

/// `IP:PORT`.
fn address(text: &str) -> Result<SocketAddr, String> {
    let address = text
        .parse::<SocketAddr>()
        .map_err(|_| "write IP:PORT, such as 198.51.100.7:5060 or [2001:db8::7]:5060".to_owned())?;
    Ok(SocketAddr::new(address.ip().to_canonical(), address.port()))
}

/// A node as its configuration describes it.
struct Edge {
    config: Config,
    table: Table,
    /// What keeps this from being what a node does.
    notes: Vec<String>,
}

impl Edge {
    /// Reads the configuration, with the secret when that can be read.
    fn load(path: &Path) -> Result<Self, Failure> {
        const WITHOUT: &str = "this runs with an empty secret: no token and no MAC of a node is valid here, those shown are \
                               none of a node's, and calls may meet other backends";
        let mut notes = Vec::new();
        let config = match config::load(path) {
            Ok(config) => config,
            Err(error) => {
                // Whatever else is wrong, this finds as well.
                let config = config::load_without_secrets(path)?;
                notes.push(format!("the secret cannot be read, so {WITHOUT}\n{error}"));
                config
            }
        };
        if config.node.secret_file.is_none() {
            notes.push(format!("node.secret_file is missing, so {WITHOUT}"));
        }
        Ok(Self {
            table: Table::new(&config),
            config,
            notes,
        })
    }

    /// The listener that a datagram meets.
    fn listener(&self, from: SocketAddr, to: Option<SocketAddr>) -> Result<ListenerIndex, Failure> {
        let fits = |address: SocketAddr| match to {
            Some(to) => address == to,
            None => address.is_ipv4() == from.is_ipv4(),
        };
        let mut listeners = self.config.listeners.iter();
        let found = listeners.position(|listener| fits(listener.address));
        let problem = match (found, to) {
            (Some(_), Some(to)) if to.is_ipv4() != from.is_ipv4() => {
                format!("--from {from} and --to {to} are not of one family")
            }
            (Some(index), _) => {
                return Ok(ListenerIndex(index as u16));
            }
            (None, Some(to)) => format!("--to {to}: no listener has this address and port"),
            (None, None) => format!("--from {from}: no listener has its family"),
        };
        let listeners = self.config.listeners.iter();
        let listeners = listeners
            .map(|listener| format!("{} ({})", listener.address, listener.name))
            .collect::<Vec<_>>();
        Err(Failure::Usage(format!(
            "siplb: {problem}; listeners: {}",
            listeners.join(", ")
        )))
    }
}

/// Reads one datagram.
fn read_message(path: &Path) -> Result<Vec<u8>, Failure> {
    let (name, mut source): (_, Box<dyn Read>) = if path == Path::new("-") {
        let stdin = io::stdin();
        if stdin.is_terminal() {
            eprintln!("reading a datagram from standard input; end it with Ctrl-D");
        }
        ("standard input".to_owned(), Box::new(stdin))
    } else {
        let name = path.display().to_string();
        let file = File::open(path).map_err(|error| Failure::Failed(format!("{name}: {error}")))?;
        (name, Box::new(file))
    };
    let mut bytes = Vec::new();
    let limit = MAX_DATAGRAM as u64 + 1;
    source
        .by_ref()
        .take(limit)
        .read_to_end(&mut bytes)
        .map_err(|error| Failure::Failed(format!("{name}: {error}")))?;
    if bytes.len() > MAX_DATAGRAM {
        return Err(Failure::Failed(format!(
            "{name}: is longer than {MAX_DATAGRAM} bytes, which is as much as a UDP datagram holds; give one datagram"
        )));
    }
    Ok(bytes)
}
