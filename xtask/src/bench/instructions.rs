//! The count programs under callgrind.

use std::fs;

use anyhow::{Context, Result, bail};

use super::{Crate, scratch, table::Table};

/// Counts inside of the program's functions of this name alone, and starts a new file after each call of one.
const CALLGRIND: [&str; 6] = [
    "valgrind",
    "--quiet",
    "--tool=callgrind",
    "--toggle-collect=*measured*",
    "--dump-after=*measured_parse*",
    "--dump-after=*measured_forward*",
];

/// Runs the count program of a crate under callgrind and puts the instructions into the table.
///
/// The program prints a line for each call that callgrind left a file for, in the same order.
pub fn run(bench: &Crate, filter: Option<&str>, table: &mut Table) -> Result<()> {
    let folder = scratch(&format!("callgrind/{}", bench.count))?;
    let mut runner = CALLGRIND.map(|word| format!("'{word}'")).to_vec();
    runner.push(format!("'--callgrind-out-file={}/part'", folder.display()));
    let mut command = bench.cargo(bench.count);
    command
        .args([
            "--config",
            &format!("target.'cfg(all())'.runner = [{}]", runner.join(", ")),
        ])
        .arg("--")
        .args(filter);
    let output = command.output().context("starting cargo")?;
    if !output.status.success() {
        bail!(
            "the count program of {} failed under callgrind:\n{}",
            bench.title,
            String::from_utf8_lossy(&output.stderr)
        );
    }
    let lines = String::from_utf8_lossy(&output.stdout);
    for (part, line) in (1..).zip(lines.lines()) {
        let path = folder.join(format!("part.{part}"));
        let text =
            fs::read_to_string(&path).with_context(|| format!("reading {}", path.display()))?;
        let total = total(&text).with_context(|| format!("{} has no total", path.display()))?;
        let [name, messages, bytes] = line.split(' ').collect::<Vec<_>>()[..] else {
            bail!("the count program printed {line:?}");
        };
        table.instructions(name, messages.parse()?, bytes.parse()?, total);
    }
    println!("  for callgrind_annotate: {}", folder.display());
    Ok(())
}

fn total(callgrind: &str) -> Option<u64> {
    let line = callgrind
        .lines()
        .find_map(|line| line.strip_prefix("totals: "))?;
    line.trim().parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_total_is_found() {
        assert_eq!(
            total("version: 1\nevents: Ir\nfn=(1) a\n7 9\n\ntotals: 8683\n"),
            Some(8683)
        );
        assert_eq!(total("events: Ir\n"), None);
    }
}
