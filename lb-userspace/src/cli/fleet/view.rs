//! A fleet for people.

use std::time::Duration;

use super::{FleetReport, NodeReport, read::NodeFacts};
use crate::cli::output::{Align, Grid, Terminal, grouped, span};

pub(super) fn text(report: &FleetReport, terminal: &Terminal) -> String {
    use Align::{Left, Right};
    let mut grid = Grid::new(&[
        Left, Left, Right, Left, Right, Left, Left, Left, Right, Right,
    ]);
    grid.row([
        "node",
        "version",
        "up",
        "announced",
        "generation",
        "configuration",
        "table",
        "secrets",
        "backends",
        "cps",
    ]);
    // A reason is longer than any column, so it goes behind the table's own lines.
    let mut silent = Vec::new();
    for node in &report.nodes {
        match &node.facts {
            Some(facts) => grid.row(cells(node, facts)),
            None => silent.push(node),
        }
    }
    let mut text = match silent.len() < report.nodes.len() {
        true => grid.render(""),
        false => String::new(),
    };
    for node in silent {
        let reason = node.error.as_deref().unwrap_or_default();
        text += &format!("{}  ! {reason}\n", node.address);
    }
    text.push('\n');
    if report.agree {
        let nodes = match report.nodes.len() {
            1 => "the node answers; name more than one to compare them".to_owned(),
            nodes => format!("all {nodes} nodes agree"),
        };
        return text + &format!("{nodes}\n");
    }
    // What did not answer has been said.
    let nodes = report.nodes.iter();
    let answered = nodes.filter(|node| node.error.is_some()).count();
    for difference in &report.differences[answered..] {
        text += &format!("{}\n", terminal.red(difference));
    }
    text
}

fn cells(node: &NodeReport, facts: &NodeFacts) -> [String; 10] {
    let marked = |what: &str, text: String| match node.differs.contains(&what) {
        true => format!("{text} !"),
        false => text,
    };
    let announced = match facts.announced {
        Some(true) => "yes",
        Some(false) => "no",
        None => "-",
    };
    let mut secrets = facts.signing_key.clone();
    for key in &facts.accepted_keys {
        secrets += &format!(" +{key}");
    }
    [
        marked("node", facts.node.clone()),
        marked("version", facts.version.clone()),
        span(Duration::from_secs(facts.uptime_s)),
        marked("announced", announced.to_owned()),
        facts.generation.to_string(),
        marked("config_hash", facts.config_hash.clone()),
        marked("table_hash", facts.table_hash.clone()),
        marked("keys", secrets),
        marked(
            "backends",
            format!("{}/{}", facts.backends_usable, facts.backends),
        ),
        grouped(facts.cps),
    ]
}
