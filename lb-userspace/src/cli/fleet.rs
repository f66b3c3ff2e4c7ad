//! `siplb fleet`: whether the nodes of a fleet are alike, by their metrics.

mod address;
mod compare;
mod read;
mod scrape;
mod view;

#[cfg(test)]
mod tests;

use std::{
    fs::File,
    io::Read,
    path::{Path, PathBuf},
    thread,
    time::{Duration, Instant},
};

use clap::Args;
use serde::Serialize;

use self::{address::Address, compare::Comparison, read::NodeFacts};
use super::{
    Failure,
    output::{Output, Terminal},
    stats::{frame, interval},
};

/// Most nodes that are asked.
const MAX_NODES: usize = 256;
/// Longest list of addresses, in bytes.
const LONGEST_LIST: u64 = 64 << 10;
/// How long a node may take for its whole answer.
const PATIENCE: Duration = Duration::from_secs(2);

#[derive(Debug, Args)]
pub(super) struct FleetArgs {
    /// Where nodes tell their metrics: HOST:PORT, or http://HOST:PORT/metrics
    #[arg(value_name = "ADDRESS")]
    pub(super) addresses: Vec<Address>,
    /// File with more addresses, one a line; what stands behind # does not count
    #[arg(long, short, value_name = "LIST")]
    file: Option<PathBuf>,
    /// Ask again every so many seconds [default: 2]
    // With `=`, or an address behind it would be taken for the seconds.
    #[arg(long, short, value_name = "SECONDS", num_args = 0..=1, require_equals = true, default_missing_value = "2", value_parser = interval)]
    pub(super) watch: Option<f64>,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

/// What `--json` prints. Fields are only ever added.
#[derive(Debug, Serialize)]
struct FleetReport {
    /// Whether all nodes answer and are alike.
    agree: bool,
    /// In the order in which they were named.
    nodes: Vec<NodeReport>,
    /// What differs and what that means, in sentences.
    differences: Vec<String>,
}

/// A node.
#[derive(Debug, Serialize)]
struct NodeReport {
    /// Where it was asked.
    address: String,
    /// Why there is no answer; `null` when there is.
    error: Option<String>,
    /// `null` when there is no answer.
    #[serde(flatten)]
    facts: Option<NodeFacts>,
    /// The names of what differs from most nodes: `version`, `announced`, `config_hash`, `table_hash`, `keys`, `backends`.
    differs: Vec<&'static str>,
}

pub(super) fn fleet(arguments: &FleetArgs, output: &Output) -> Result<(), Failure> {
    let addresses = addresses(arguments)?;
    let Some(seconds) = arguments.watch else {
        let report = look(&addresses)?;
        match arguments.json {
            true => output.json(&report, false)?,
            false => output.text(&view::text(&report, &output.terminal()))?,
        }
        return verdict(&report);
    };
    let every = Duration::from_secs_f64(seconds);
    let mut is_first = true;
    loop {
        let begun = Instant::now();
        let report = look(&addresses)?;
        if arguments.json {
            output.json(&report, true)?;
        } else {
            let terminal = Terminal::of_this_process();
            let text = view::text(&report, &terminal);
            output.text(&frame(&text, &terminal, is_first))?;
        }
        is_first = false;
        thread::sleep(every.saturating_sub(begun.elapsed()));
    }
}

fn look(addresses: &[Address]) -> Result<FleetReport, Failure> {
    let answers = scrape::all(addresses, PATIENCE)?;
    let answers = answers
        .into_iter()
        .map(|answer| answer.and_then(|text| NodeFacts::read(&text)));
    Ok(FleetReport::new(addresses, answers.collect()))
}

impl FleetReport {
    fn new(addresses: &[Address], answers: Vec<Result<NodeFacts, String>>) -> Self {
        let Comparison {
            differs,
            differences,
        } = compare::compare(addresses, &answers);
        let nodes = addresses.iter().zip(answers).zip(differs);
        let nodes = nodes.map(|((address, answer), differs)| NodeReport {
            address: address.to_string(),
            error: answer.as_ref().err().cloned(),
            facts: answer.ok(),
            differs,
        });
        let nodes = nodes.collect::<Vec<_>>();
        let is_alike = |node: &NodeReport| node.error.is_none() && node.differs.is_empty();
        Self {
            agree: nodes.iter().all(is_alike),
            nodes,
            differences,
        }
    }
}

/// What the exit status says, in words.
fn verdict(report: &FleetReport) -> Result<(), Failure> {
    if report.agree {
        return Ok(());
    }
    let of = report.nodes.len();
    let nodes = report.nodes.iter();
    let silent = nodes.clone().filter(|node| node.error.is_some()).count();
    let differ = nodes.filter(|node| !node.differs.is_empty()).count();
    let parts = [(silent, "without an answer"), (differ, "different")];
    let parts = parts.into_iter().filter(|(count, _)| *count > 0);
    let parts = parts.map(|(count, what)| format!("{count} {what}"));
    let parts = parts.collect::<Vec<_>>().join(", ");
    Err(Failure::Failed(format!("of {of} nodes: {parts}")))
}

fn addresses(arguments: &FleetArgs) -> Result<Vec<Address>, Failure> {
    let mut addresses = arguments.addresses.clone();
    if let Some(path) = &arguments.file {
        addresses.extend(listed(path)?);
    }
    for (place, address) in addresses.iter().enumerate() {
        if addresses[..place].contains(address) {
            return Err(Failure::Usage(format!(
                "{address} is named twice; name each node once"
            )));
        }
    }
    match addresses.len() {
        0 => Err(Failure::Usage(
            "no nodes to ask; write the metrics.listen of each, such as 192.0.2.11:9464, or name a file with --file"
                .to_owned(),
        )),
        1..=MAX_NODES => Ok(addresses),
        many => Err(Failure::Usage(format!(
            "{many} nodes; at most {MAX_NODES} can be asked"
        ))),
    }
}

/// The addresses of a list.
fn listed(path: &Path) -> Result<Vec<Address>, Failure> {
    let name = path.display();
    let cannot = |error: std::io::Error| Failure::Usage(format!("{name}: cannot be read: {error}"));
    let mut text = String::new();
    File::open(path)
        .map_err(cannot)?
        .take(LONGEST_LIST + 1)
        .read_to_string(&mut text)
        .map_err(cannot)?;
    if text.len() as u64 > LONGEST_LIST {
        return Err(Failure::Usage(format!(
            "{name}: is longer than {LONGEST_LIST} bytes; name a list of addresses"
        )));
    }
    let mut addresses = Vec::new();
    for (number, line) in (1..).zip(text.lines()) {
        let line = line.split('#').next().unwrap_or_default().trim();
        if !line.is_empty() {
            let address = line.parse();
            addresses.push(
                address.map_err(|error| Failure::Usage(format!("{name}:{number}: {error}")))?,
            );
        }
    }
    Ok(addresses)
}
