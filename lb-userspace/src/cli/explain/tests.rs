//! What `--json` says of real messages, against what an independent reader found in them.

mod client_address;
mod validate;

use std::{collections::HashMap, fs, path::PathBuf};

use serde_json::Value;

use super::*;
use crate::config;

const CONFIG: &str = "
node: { name: a }
listeners: [ { name: four, address: 203.0.113.10, nat: { detect: [received, sdp-private, contact-port], fix: [sdp] } } ]
pools: [ { name: x, backends: [ { name: x1, address: '10.0.0.2:5060' } ] } ]
";

pub(super) fn edge() -> Edge {
    let config = config::parse(CONFIG, "t.yaml").unwrap();
    Edge {
        table: Table::new(&config),
        config,
        notes: vec![],
    }
}

/// `SIPLB_CORPUS`, or the folder beside the checkout.
fn corpus() -> Option<PathBuf> {
    let named = std::env::var_os("SIPLB_CORPUS").map(PathBuf::from);
    let beside = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../shared/corpus");
    named.or_else(|| beside.is_dir().then_some(beside))
}

/// The columns of `expected.tsv` and the fields of `parse` that must say the same.
const COLUMNS: [(&str, &str); 10] = [
    ("kind", "kind"),
    ("call_id", "call_id"),
    ("cseq", "cseq"),
    ("via_host", "via_host"),
    ("via_port", "via_port"),
    ("from_uri", "from_uri"),
    ("to_uri", "to_uri"),
    ("request_uri", "request_uri"),
    ("max_forwards", "max_forwards"),
    ("method_or_status", "method"),
];

/// What the table writes for a value: octets beyond printable ASCII as `\xNN`, `-` for none.
fn written(value: &Value) -> String {
    match value {
        Value::Null => "-".to_owned(),
        Value::String(text) => {
            let escaped = text.bytes().map(|byte| match byte {
                b'\\' => "\\\\".to_owned(),
                b' '..=b'~' => char::from(byte).to_string(),
                _ => format!("\\x{byte:02x}"),
            });
            escaped.collect()
        }
        other => other.to_string(),
    }
}

#[test]
fn valid_messages_are_read_as_an_independent_reader_reads_them() {
    let Some(folder) = corpus() else {
        eprintln!("skipped: no corpus; SIPLB_CORPUS may name one");
        return;
    };
    let edge = edge();
    let mut scratch = Scratch::new();
    let table = fs::read_to_string(folder.join("expected.tsv")).unwrap();
    let mut lines = table.lines().map(|line| line.split('\t'));
    let names = lines.next().unwrap().collect::<Vec<_>>();
    let mut rows = 0;
    let mut differences = Vec::new();
    for line in lines {
        let row = names.iter().copied().zip(line).collect::<HashMap<_, _>>();
        let bytes = fs::read(folder.join(row["file"])).unwrap();
        let from = "198.51.100.7:40000".parse().unwrap();
        let explanation = Explanation::new(&edge, &bytes, from, ListenerIndex(0), &mut scratch);
        nat_is_what_was_decided(&explanation);
        people_can_read_it(&edge, &explanation, &bytes, &scratch);
        if row["valid"] != "yes" {
            continue;
        }
        rows += 1;
        let json = serde_json::to_value(&explanation).unwrap();
        for (column, field) in COLUMNS {
            let field = match (column, row["kind"]) {
                ("method_or_status", "response") => "status",
                _ => field,
            };
            let found = written(&json["parse"][field]);
            let wanted = match column {
                // A number has no leading zeros.
                "max_forwards" if row[column] != "-" => {
                    row[column].parse::<u8>().unwrap().to_string()
                }
                _ => row[column].to_owned(),
            };
            if found != wanted {
                differences.push(format!("{}: {field} is {found}, not {wanted}", row["file"]));
            }
        }
        if json["parse"]["valid"] != true {
            differences.push(format!("{}: {}", row["file"], json["parse"]["error"]));
        }
    }
    assert!(rows > 500, "{rows}");
    assert!(differences.is_empty(), "{}", differences.join("\n"));
}

/// What the trace finds of those that are looked for is what the decision found.
#[track_caller]
fn nat_is_what_was_decided(explanation: &Explanation) {
    let found = match explanation.trace.nat {
        Some(nat) => nat.present.and(nat.policy.detect).names().collect(),
        None => vec![],
    };
    assert_eq!(explanation.nat.matched, found);
}

/// Whatever a message holds, what is printed is safe to print, and says how it ended.
#[track_caller]
fn people_can_read_it(edge: &Edge, explanation: &Explanation, bytes: &[u8], scratch: &Scratch) {
    let terminal = Terminal {
        width: 80,
        height: None,
        colour: false,
    };
    let text = text::text(edge, explanation, bytes, scratch, &terminal);
    let mut letters = text.chars();
    let bad = letters.find(|letter| letter.is_control() && *letter != '\n');
    assert_eq!(bad, None, "{text}");
    assert!(text.contains(&format!("\n  counted as  {}\n", explanation.reason)));
}
