//! The time programs: what criterion measured, read from the files that it leaves.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context, Result};

use super::{scratch, table::Table};
use crate::cmd;

/// Runs a time program and puts its medians into the table.
pub fn run(mut command: Command, filter: Option<&str>, table: &mut Table) -> Result<()> {
    let folder = scratch("criterion")?;
    command.env("CRITERION_HOME", &folder);
    command.args(["--", "--noplot"]).args(filter);
    cmd::run(&mut command)?;
    // GROUP/NAME/new/{benchmark,estimates}.json
    for group in subfolders(&folder)? {
        for bench in subfolders(&group)? {
            let new = bench.join("new");
            if new.exists() {
                read(&new, table).with_context(|| format!("reading {}", new.display()))?;
            }
        }
    }
    Ok(())
}

fn subfolders(folder: &Path) -> Result<Vec<PathBuf>> {
    let mut folders = Vec::new();
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        if path.is_dir() {
            folders.push(path);
        }
    }
    Ok(folders)
}

fn read(folder: &Path, table: &mut Table) -> Result<()> {
    let about = fs::read_to_string(folder.join("benchmark.json"))?;
    let estimates = fs::read_to_string(folder.join("estimates.json"))?;
    let (name, messages, bytes) =
        about_bench(&about).context("benchmark.json is not as expected")?;
    let nanoseconds = median(&estimates).context("estimates.json is not as expected")?;
    table.time(&name, messages, bytes, nanoseconds);
    Ok(())
}

/// Name, messages and bytes of one iteration.
fn about_bench(json: &str) -> Option<(String, u64, u64)> {
    let name = after(json, "\"full_id\":\"")?.split('"').next()?;
    let number = |key| {
        let digits = after(json, key)?;
        let end = digits.find(|letter: char| !letter.is_ascii_digit())?;
        digits[..end].parse().ok()
    };
    Some((
        name.to_owned(),
        number("\"elements\":")?,
        number("\"bytes\":")?,
    ))
}

/// The median of one iteration, in nanoseconds.
fn median(json: &str) -> Option<f64> {
    let median = after(json, "\"median\":")?;
    let value = after(median, "\"point_estimate\":")?;
    value.split([',', '}']).next()?.parse().ok()
}

fn after<'a>(text: &'a str, key: &str) -> Option<&'a str> {
    text.split_once(key).map(|(_, rest)| rest)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_criterion_leaves_is_understood() {
        let about = r#"{"group_id":"parse","function_id":"ack","throughput":{"ElementsAndBytes":
            {"elements":2,"bytes":765}},"full_id":"parse/ack","directory_name":"parse/ack"}"#;
        assert_eq!(about_bench(about), Some(("parse/ack".to_owned(), 2, 765)));
        let estimates = r#"{"mean":{"confidence_interval":{"lower_bound":1.0},"point_estimate":2.0},
            "median":{"confidence_interval":{"lower_bound":3.0},"point_estimate":4.25,"standard_error":5.0}}"#;
        assert_eq!(median(estimates), Some(4.25));
        assert_eq!(median("{}"), None);
    }
}
