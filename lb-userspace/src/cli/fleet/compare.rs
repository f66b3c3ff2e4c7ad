//! What nodes of a fleet should have in common, and what it means when they do not.

use std::{collections::HashMap, hash::Hash};

use super::{address::Address, read::NodeFacts};

/// What [`compare`] finds.
pub(super) struct Comparison {
    /// For each node the names of what differs.
    pub differs: Vec<Vec<&'static str>>,
    /// What differs and what that means.
    pub differences: Vec<String>,
}

/// A node that answered.
struct Known<'a> {
    place: usize,
    name: String,
    facts: &'a NodeFacts,
}

/// Compares each node with what most of them have; where as many have one thing as another, with the first one named.
pub(super) fn compare(addresses: &[Address], answers: &[Result<NodeFacts, String>]) -> Comparison {
    let answered = addresses.iter().zip(answers).enumerate();
    let known = answered.filter_map(|(place, (address, answer))| {
        let facts = answer.as_ref().ok()?;
        let is_only = answers
            .iter()
            .flatten()
            .filter(|other| other.node == facts.node)
            .count()
            == 1;
        let name = match is_only {
            true => facts.node.clone(),
            false => format!("{} ({address})", facts.node),
        };
        Some(Known { place, name, facts })
    });
    let known = known.collect::<Vec<_>>();
    let mut found = Comparison {
        differs: vec![Vec::new(); addresses.len()],
        differences: Vec::new(),
    };
    for (address, answer) in addresses.iter().zip(answers) {
        if let Err(reason) = answer {
            found.differences.push(format!("{address}: {reason}"));
        }
    }
    found.names(&known);
    found.versions(&known);
    found.announced(&known);
    found.configurations(&known);
    found.keys(&known);
    found.tables(&known);
    found
}

/// What most nodes have; of things that as many have, what the first node with one of them has.
fn most<'a, T: Eq + Hash>(known: &'a [Known<'_>], of: impl Fn(&'a NodeFacts) -> T) -> Option<T> {
    let mut counts = HashMap::new();
    for node in known {
        *counts.entry(of(node.facts)).or_insert(0) += 1;
    }
    let best = counts.values().copied().max()?;
    let mut values = known.iter().map(|node| of(node.facts));
    values.find(|value| counts.get(value) == Some(&best))
}

impl Comparison {
    /// Notes a difference of a node, and says what it means.
    fn note(&mut self, node: &Known<'_>, what: &'static str, meaning: String) {
        if !self.differs[node.place].contains(&what) {
            self.differs[node.place].push(what);
        }
        self.differences.push(format!("{} {meaning}", node.name));
    }

    fn names(&mut self, known: &[Known<'_>]) {
        for (place, node) in known.iter().enumerate() {
            let name = &node.facts.node;
            if known[..place].iter().any(|other| other.facts.node == *name) {
                let meaning = "has the name of another node; give each its own node.name, or its address twice was a mistake";
                self.note(node, "node", meaning.to_owned());
            }
        }
    }

    fn versions(&mut self, known: &[Known<'_>]) {
        let Some(most) = most(known, |facts| facts.version.as_str()) else {
            return;
        };
        for node in known.iter().filter(|node| node.facts.version != most) {
            let meaning = format!(
                "runs siplb {}, the others {most}: what they decide may differ until all run the same",
                node.facts.version
            );
            self.note(node, "version", meaning);
        }
    }

    fn announced(&mut self, known: &[Known<'_>]) {
        let Some(most) = most(known, |facts| facts.announced) else {
            return;
        };
        for node in known.iter().filter(|node| node.facts.announced != most) {
            let meaning = match node.facts.announced {
                Some(true) => "is announced, the others are not: it gets all traffic",
                Some(false) => {
                    "is not announced: it gets no traffic; `siplb status` there says why"
                }
                None => {
                    "has no `announce` in its configuration: siplb does not tell the network whether it serves"
                }
            };
            self.note(node, "announced", meaning.to_owned());
        }
    }

    fn configurations(&mut self, known: &[Known<'_>]) {
        let Some(most) = most(known, |facts| facts.config_hash.as_str()) else {
            return;
        };
        for node in known.iter().filter(|node| node.facts.config_hash != most) {
            let meaning = "has another configuration: it may route, limit and rewrite messages otherwise; compare the \
                           files, and `siplb reload` where one is not in force yet";
            self.note(node, "config_hash", meaning.to_owned());
        }
    }

    fn keys(&mut self, known: &[Known<'_>]) {
        let of = |facts: &NodeFacts| (facts.signing_key.clone(), facts.accepted_keys.clone());
        let Some(most) = most(known, of) else {
            return;
        };
        let Some(others) = known.iter().find(|node| of(node.facts) == most) else {
            return;
        };
        for node in known.iter().filter(|node| of(node.facts) != most) {
            let (its, theirs) = (node.facts, others.facts);
            let accepts = its.accepts(&theirs.signing_key);
            let is_accepted = theirs.accepts(&its.signing_key);
            let meaning = match (accepts, is_accepted) {
                (false, false) => {
                    "has another secret: it refuses the tokens of the others, and they refuse its; calls that move \
                     between them break"
                }
                (false, true) => {
                    "does not accept the secret that the others sign with: it refuses their tokens; make it its \
                     previous_secret_file and reload"
                }
                (true, false) => {
                    "signs with a secret that the others do not accept: they refuse its tokens; make it their \
                     previous_secret_file and reload"
                }
                (true, true) => {
                    "has other secrets beside, but accepts what the others sign and they what it signs: a change of \
                     secrets that is not finished"
                }
            };
            self.note(node, "keys", meaning.to_owned());
        }
    }

    /// Last: other configurations and secrets make other tables.
    fn tables(&mut self, known: &[Known<'_>]) {
        let of = |facts: &NodeFacts| (facts.backends_usable, facts.backends);
        if let Some(most) = most(known, of) {
            for node in known.iter().filter(|node| of(node.facts) != most) {
                let meaning = format!(
                    "has {} of {} backends active, the others {} of {}: it thinks otherwise of them, or somebody \
                     drained one there alone; compare `siplb backends`",
                    node.facts.backends_usable, node.facts.backends, most.0, most.1
                );
                self.note(node, "backends", meaning);
            }
        }
        let Some(most) = most(known, |facts| facts.table_hash.as_str()) else {
            return;
        };
        for node in known.iter().filter(|node| node.facts.table_hash != most) {
            let differs = &self.differs[node.place];
            let because = |what: &&str| matches!(*what, "config_hash" | "keys" | "backends");
            let meaning = match differs.iter().find(|what| because(what)) {
                Some(_) => {
                    "has another lookup table, for that reason: new calls meet other backends there"
                }
                None => {
                    "has another lookup table: new calls meet other backends there; which backends are active, their \
                     weights while they start slowly, and distribution_secret_file are in it"
                }
            };
            self.note(node, "table_hash", meaning.to_owned());
        }
    }
}
