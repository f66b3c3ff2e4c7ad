//! The instructions that each bench takes, recorded, and what was counted held against that.
//!
//! Times of a shared machine say nothing about a change of a few per cent; instructions do. The benches have no random
//! keys, and valgrind shows every program much the same processor, so a binary takes the same number on every run, and on
//! every machine with AVX2 and the same libc. What is left are binaries of another compiler, and another libc.

use std::{collections::BTreeMap, fmt::Write, fs};

use anyhow::{Context, Result, bail, ensure};

use super::{machine, table::Table};
use crate::cmd;

/// Beside the tables that `--save` writes, which end in `.md`.
const PATH: &str = "lb-userspace/benches/record/instructions.txt";
/// What renews it.
const RENEW: &str = "cargo xtask bench --record";
/// Of 100. With the copying and searching of a libc that does without AVX2, no bench takes 3 % more, and what the compiler
/// takes into a function changes single ones by up to 4 %, whatever was changed elsewhere. A smaller change is found when
/// enough of them have added up.
const TOLERANCE: u64 = 5;
/// What never counts: so much does that libc make of the shortest benches.
const SLACK: u64 = 32;

/// Instructions for one message by the name of the bench, and what they were counted with.
#[derive(Debug, PartialEq, Eq)]
struct Record {
    conditions: String,
    counts: BTreeMap<String, u64>,
}

/// Writes what was counted to the record.
pub fn record(table: &Table) -> Result<()> {
    let record = Record {
        conditions: machine::conditions(),
        counts: table.counts(),
    };
    let path = cmd::root().join(PATH);
    fs::write(&path, record.text()).with_context(|| format!("writing {PATH}"))?;
    println!("written to {PATH}");
    Ok(())
}

/// Holds what was counted against the record.
///
/// # Errors
///
/// When a bench takes more or less than the tolerance allows, or is in one of the two alone. Where compiler, processor or
/// libc are not those of the record, that is only said, unless in CI.
pub fn compare(table: &Table) -> Result<()> {
    let text =
        fs::read_to_string(cmd::root().join(PATH)).with_context(|| format!("reading {PATH}"))?;
    let record = Record::parse(&text)?;
    let now = table.counts();
    let faults = faults(&record.counts, &now);
    if faults.is_empty() {
        println!(
            "instructions: {} benches are as recorded, {TOLERANCE} % more or less",
            now.len()
        );
        return Ok(());
    }
    println!("\nnot as recorded in {PATH}, which allows {TOLERANCE} % more or less:");
    for fault in &faults {
        println!("  {fault}");
    }
    let mut advice = format!(
        "{} of {} benches do not take the instructions that are recorded. Where that is meant, a gain too, which would \
         be lost again unnoticed, renew the record: `{RENEW}`",
        faults.len(),
        now.len().max(record.counts.len())
    );
    let conditions = machine::conditions();
    if conditions != record.conditions {
        let _ = write!(
            advice,
            "\nThe record was made with {}; this is {conditions}",
            record.conditions
        );
        if !cmd::is_ci() {
            println!("\n!! {advice}\n!! That may be all of it, so it is a failure in CI only.");
            return Ok(());
        }
    }
    bail!(advice);
}

/// One line for each bench that is not as recorded.
fn faults(recorded: &BTreeMap<String, u64>, now: &BTreeMap<String, u64>) -> Vec<String> {
    let mut faults = Vec::new();
    let width = now.keys().map(String::len).max().unwrap_or(0);
    for (name, &now) in now {
        let Some(&before) = recorded.get(name) else {
            faults.push(format!("{name:<width$}  {now:>7} now, not recorded"));
            continue;
        };
        let difference = now.abs_diff(before);
        if difference > SLACK && difference * 100 > before * TOLERANCE {
            let percent = difference as f64 / before as f64 * 100.0;
            let what = if now > before { "more" } else { "less" };
            faults.push(format!(
                "{name:<width$}  {before:>7} recorded, {now:>7} now: {percent:.2} % {what}"
            ));
        }
    }
    for (name, before) in recorded {
        if !now.contains_key(name) {
            faults.push(format!(
                "{name:<width$}  {before:>7} recorded, and no such bench"
            ));
        }
    }
    faults
}

impl Record {
    fn text(&self) -> String {
        let mut text = format!(
            "# Instructions for one message by bench: `cargo xtask test` compares, `{RENEW}` renews.\n# {}\n",
            self.conditions
        );
        for (name, count) in &self.counts {
            // Of a fixed width: a new bench with a long name changes no other line.
            let _ = writeln!(text, "{name:<32} {count:>7}");
        }
        text
    }

    fn parse(text: &str) -> Result<Self> {
        let mut conditions = None;
        let mut counts = BTreeMap::new();
        for (number, line) in (1..).zip(text.lines()) {
            if let Some(comment) = line.strip_prefix("# ") {
                conditions = Some(comment.to_owned());
                continue;
            }
            let (name, count) = line
                .split_once(' ')
                .and_then(|(name, count)| Some((name, count.trim().parse::<u64>().ok()?)))
                .with_context(|| format!("{PATH}:{number}: not a bench and its instructions"))?;
            ensure!(count > 0, "{PATH}:{number}: nothing takes no instructions");
            let before = counts.insert(name.to_owned(), count);
            ensure!(before.is_none(), "{PATH}:{number}: {name} is there twice");
        }
        Ok(Self {
            conditions: conditions.unwrap_or_default(),
            counts,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn counts(all: &[(&str, u64)]) -> BTreeMap<String, u64> {
        let all = all.iter().map(|(name, count)| ((*name).to_owned(), *count));
        all.collect()
    }

    #[test]
    fn what_is_written_is_read() {
        let record = Record {
            conditions: "rustc 1.95.0 (59807616e 2026-04-14), x86_64, glibc 2.36".to_owned(),
            counts: counts(&[("forward/invite", 8029), ("nat/ack", 1), ("calls/nat", 99)]),
        };
        let text = record.text();
        assert_eq!(Record::parse(&text).expect("valid"), record, "{text}");
        let lines = text.lines().skip(2).collect::<Vec<_>>();
        assert!(lines.is_sorted(), "{text}");
        for wrong in ["a", "a b", "a 0", "a 1\na 1", "\n"] {
            assert!(Record::parse(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn more_less_new_and_gone_are_faults() {
        let recorded = counts(&[
            ("as", 8000),
            ("gone", 5),
            ("less", 8000),
            ("more", 8000),
            ("short", 300),
            ("nearly", 8000),
        ]);
        let now = counts(&[
            ("as", 8000),
            ("less", 7500),
            ("more", 8401),
            ("nearly", 8400),
            ("new", 7),
            ("short", 332),
        ]);
        assert_eq!(
            faults(&recorded, &now),
            [
                "less       8000 recorded,    7500 now: 6.25 % less",
                "more       8000 recorded,    8401 now: 5.01 % more",
                "new           7 now, not recorded",
                "gone          5 recorded, and no such bench",
            ]
        );
    }
}
