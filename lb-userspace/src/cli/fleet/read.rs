//! What a node's metrics say of it.

use std::collections::{BTreeMap, BTreeSet};

use serde::Serialize;

/// What is compared and shown of a node.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub(super) struct NodeFacts {
    /// `node.name`.
    pub node: String,
    /// Version of siplb.
    pub version: String,
    /// Seconds since the start.
    pub uptime_s: u64,
    /// `null` without `announce` in its configuration.
    pub announced: Option<bool>,
    /// How many configurations have been in force.
    pub generation: u64,
    /// Equal on nodes whose configurations decide alike.
    pub config_hash: String,
    /// Equal on nodes whose lookup tables are the same; health is in it.
    pub table_hash: String,
    /// Id of the secret that signs.
    pub signing_key: String,
    /// Ids of the others that are accepted.
    pub accepted_keys: BTreeSet<String>,
    /// Backends that are active.
    pub backends_usable: u64,
    /// All backends.
    pub backends: u64,
    /// Calls that went on in the last second.
    pub cps: u64,
}

impl NodeFacts {
    /// Reads metrics in Prometheus' text format.
    ///
    /// # Errors
    /// When they are not those of siplb.
    pub fn read(text: &str) -> Result<Self, String> {
        let mut facts = Self::default();
        let mut is_siplb = false;
        let mut is_active = BTreeMap::new();
        for sample in text.lines().filter_map(Sample::read) {
            let label = |name: &str| sample.label(name).to_owned();
            // Negative ones and fractions are none of ours.
            let number = sample.value as u64;
            match sample.name {
                "siplb_build_info" => facts.version = label("version"),
                "siplb_config_info" => {
                    is_siplb = true;
                    facts.node = label("node");
                    facts.config_hash = label("config_hash");
                    facts.table_hash = label("table_hash");
                }
                "siplb_key_info" if sample.label("role") == "signing" => {
                    facts.signing_key = label("id");
                }
                "siplb_key_info" => drop(facts.accepted_keys.insert(label("id"))),
                "siplb_uptime_seconds" => facts.uptime_s = number,
                "siplb_announced" => facts.announced = Some(number > 0),
                "siplb_config_generation" => facts.generation = number,
                "siplb_calls_per_second" if sample.label("limit") == "node" => facts.cps = number,
                "siplb_backend_state" => {
                    let backend = (label("pool"), label("backend"));
                    let is_this = sample.label("state") == "active" && number > 0;
                    *is_active.entry(backend).or_insert(false) |= is_this;
                }
                _ => {}
            }
        }
        if !is_siplb {
            return Err("answers, but not as siplb does; is this its metrics.listen?".to_owned());
        }
        facts.backends = is_active.len() as u64;
        facts.backends_usable = is_active.values().filter(|active| **active).count() as u64;
        Ok(facts)
    }

    /// True when it accepts what is signed with this secret.
    pub fn accepts(&self, key: &str) -> bool {
        self.signing_key == key || self.accepted_keys.contains(key)
    }
}

/// A line of the text format.
struct Sample<'a> {
    name: &'a str,
    labels: Vec<(&'a str, String)>,
    value: f64,
}

impl<'a> Sample<'a> {
    /// `None` for comments, for what is not of siplb and for what is no sample.
    fn read(line: &'a str) -> Option<Self> {
        if !line.starts_with("siplb_") {
            return None;
        }
        let name_end = line.find(['{', ' '])?;
        let (name, mut rest) = line.split_at(name_end);
        let mut labels = Vec::new();
        if let Some(inside) = rest.strip_prefix('{') {
            rest = inside;
            loop {
                if let Some(after) = rest.strip_prefix('}') {
                    rest = after;
                    break;
                }
                let (label, after) = rest.split_once("=\"")?;
                let (value, after) = unquoted(after)?;
                labels.push((label, value));
                rest = after.strip_prefix(',').unwrap_or(after);
            }
        }
        // A time may follow.
        let value = rest.split_ascii_whitespace().next()?.parse().ok()?;
        Some(Self {
            name,
            labels,
            value,
        })
    }

    /// Empty when there is none.
    fn label(&self, name: &str) -> &str {
        let label = self.labels.iter().find(|(label, _)| *label == name);
        label.map_or("", |(_, value)| value)
    }
}

/// What stands before the closing quote, and what behind it.
fn unquoted(text: &str) -> Option<(String, &str)> {
    let mut value = String::new();
    let mut letters = text.char_indices();
    while let Some((at, letter)) = letters.next() {
        match letter {
            '"' => return Some((value, &text[at + 1..])),
            '\\' => value.push(match letters.next()?.1 {
                'n' => '\n',
                other => other,
            }),
            letter => value.push(letter),
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn samples() {
        let read = |line| {
            let sample = Sample::read(line)?;
            let labels = sample.labels.into_iter();
            let labels = labels.map(|(name, value)| format!("{name}={value}"));
            Some((sample.name, labels.collect::<Vec<_>>(), sample.value))
        };
        let text = |labels: &[&str]| labels.iter().map(|l| (*l).to_owned()).collect::<Vec<_>>();
        assert_eq!(read("siplb_a 1"), Some(("siplb_a", vec![], 1.0)));
        assert_eq!(
            read(r#"siplb_a{x="1",y="a\"b\\c\nd}, e"} 2.5 1700000000"#),
            Some(("siplb_a", text(&["x=1", "y=a\"b\\c\nd}, e"]), 2.5))
        );
        assert_eq!(read("siplb_a{} +Inf").unwrap().2, f64::INFINITY);
        for nothing in [
            "",
            "# HELP siplb_a A.",
            "other 1",
            "siplb_a",
            "siplb_a{x=\"1\"}",
            "siplb_a{x=\"1} 2",
            "siplb_a{x=1} 2",
            "siplb_a{x=\"1\\",
            "siplb_a x",
        ] {
            assert!(read(nothing).is_none(), "{nothing}");
        }
    }
}
