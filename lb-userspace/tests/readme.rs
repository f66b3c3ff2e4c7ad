//! The README knows every counter, every outcome and every key of the configuration.

use std::{fs, path::Path};

use lb_common::xdp::XdpOutcome;
use lb_userspace::{
    forward::Outcome,
    nat::{Fix, Indicator},
    stats::Counter,
    validate::{Check, Reason},
};

fn readme() -> String {
    fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("../README.md")).unwrap()
}

/// The words in backquotes between two headings.
fn names<'a>(readme: &'a str, from: &str, to: &str) -> Vec<&'a str> {
    let start = readme.find(from).unwrap_or_else(|| panic!("no {from:?}"));
    let rest = &readme[start..];
    let end = rest[from.len()..]
        .find(to)
        .unwrap_or_else(|| panic!("no {to:?} after {from:?}"));
    rest[..from.len() + end]
        .split('`')
        .skip(1)
        .step_by(2)
        .collect()
}

#[track_caller]
fn check(known: &[&str], documented: &[&str]) {
    for name in known {
        assert!(
            documented.contains(name),
            "the README does not mention {name}"
        );
    }
    for name in documented {
        assert!(
            known.contains(name),
            "the README mentions {name}, which does not exist"
        );
    }
}

#[test]
fn xdp_counters() {
    let known = XdpOutcome::ALL.map(XdpOutcome::name);
    check(
        &known,
        &names(&readme(), "**XDP program**, one", "**Workers**"),
    );
}

#[test]
fn worker_counters() {
    // Those of bytes are one remark.
    let known = Counter::ALL.map(Counter::name);
    let known = known
        .into_iter()
        .filter(|name| !name.ends_with("_bytes"))
        .collect::<Vec<_>>();
    let readme = readme();
    let mut documented = names(&readme, "**Workers**\n", "**Outcomes**");
    documented.retain(|&name| name != "_bytes");
    check(&known, &documented);
}

#[test]
fn reasons_of_validation() {
    let known = Reason::ALL.map(Reason::name);
    let readme = readme();
    let table = readme
        .split("| reason | check |")
        .nth(1)
        .unwrap()
        .split("\n\n")
        .next()
        .unwrap();
    let rows = table.lines().filter(|line| line.starts_with("| `"));
    let mut documented = Vec::new();
    for row in rows {
        let cells = row.split('|').map(str::trim).collect::<Vec<_>>();
        for name in cells[1].split(", ").map(|name| name.trim_matches('`')) {
            documented.push(name);
            let reason = Reason::ALL.into_iter().find(|reason| reason.name() == name);
            let check = reason.map(|reason| reason.check().map_or("always", Check::name));
            assert_eq!(check, Some(cells[2].trim_matches('`')), "{name}");
        }
    }
    check(&known, &documented);
    for counter in Counter::ALL.map(Counter::name) {
        assert!(!known.contains(&counter), "{counter} is counted twice");
    }
}

#[test]
fn outcomes() {
    let known = Outcome::ALL.map(Outcome::name);
    check(
        &known,
        &names(&readme(), "**Outcomes**, one", "`siplb stats --all`"),
    );
}

/// What `siplb check` says to an unknown key is the list of known ones.
#[test]
fn configuration_keys() {
    let readme = readme();
    let table = readme.split("## Configuration").nth(1).unwrap();
    let table = table.split("### ").next().unwrap();
    let keys = table.lines().filter(|line| line.starts_with("| `"));
    let keys = keys
        .map(|line| line.split('|').nth(1).unwrap())
        .collect::<Vec<_>>()
        .join("\n");
    for (section, text) in [
        ("node", "node: { unknown_key: 1 }"),
        ("datapath", "datapath: { unknown_key: 1 }"),
        ("listeners[]", "listeners: [ { unknown_key: 1 } ]"),
        (
            "listeners[].validate",
            "listeners: [ { validate: { unknown_key: 1 } } ]",
        ),
        ("pools[]", "pools: [ { unknown_key: 1 } ]"),
        (
            "pools[].client_address",
            "pools: [ { client_address: { unknown_key: 1 } } ]",
        ),
        (
            "pools[].backends[]",
            "pools: [ { backends: [ { unknown_key: 1 } ] } ]",
        ),
        (
            "routes[]",
            "listeners: [ { name: l, address: 192.0.2.1 } ]\npools: [ { name: p } ]\nroutes: [ { unknown_key: 1 } ]",
        ),
        (
            "listeners[].nat",
            "listeners: [ { nat: { unknown_key: 1 } } ]",
        ),
        (
            "pools[].health",
            "pools: [ { health: { unknown_key: 1 } } ]",
        ),
        ("limits", "limits: { unknown_key: 1 }"),
        (
            "limits.sources[]",
            "limits: { sources: [ { unknown_key: 1 } ] }",
        ),
        ("nat", "nat: { unknown_key: 1 }"),
        ("control", "control: { unknown_key: 1 }"),
        ("stats", "stats: { unknown_key: 1 }"),
        (
            "hep",
            "listeners: [ { name: l, address: 192.0.2.1 } ]\npools: [ { name: p } ]\nhep: { unknown_key: 1 }",
        ),
    ] {
        let error = lb_userspace::config::parse(text, "f").unwrap_err();
        let problem = error
            .problems()
            .iter()
            .find(|problem| problem.path.ends_with("unknown_key"));
        let problem = problem.unwrap_or_else(|| panic!("nothing about the key in\n{error}"));
        let known = problem.what.split("write ").nth(1).unwrap();
        let lines = keys
            .lines()
            .filter(|line| line.trim().starts_with(&format!("`{section}.")));
        let documented = lines.collect::<Vec<_>>().join(" ");
        for key in known.split(", ").flat_map(|keys| keys.split(" or ")) {
            // A pool's backends, the limits of networks and a NAT policy have lines of their own.
            let found = documented.contains(&format!("`{section}.{key}`"))
                || documented.contains(&format!(", `{key}`"))
                || documented.contains(&format!("`{section}.{key}."))
                || ["backends", "sources"].contains(&key);
            assert!(found, "the README has no {section}.{key}");
        }
    }
}

/// The tables of indicators and fixes have a line for each, in the order of the code.
#[test]
fn indicators_and_fixes() {
    let readme = readme();
    let rows = |from: &str, to: &str| {
        let text = readme
            .split(from)
            .nth(1)
            .unwrap_or_else(|| panic!("no {from:?}"));
        let rows = text.split(to).next().unwrap().lines();
        rows.filter_map(|line| Some(line.strip_prefix("| `")?.split_once('`')?.0.to_owned()))
            .collect::<Vec<_>>()
    };
    let indicators = rows("| indicator | matches when |", "| fix | what it does |");
    assert_eq!(indicators, Indicator::ALL.map(Indicator::name));
    let fixes = rows("| fix | what it does |", "###");
    assert_eq!(fixes, Fix::ALL.map(Fix::name));
}
