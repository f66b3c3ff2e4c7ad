//! `cargo xtask bench`: how long one core takes for a message, and how many instructions.

mod criterion;
mod guard;
mod instructions;
mod machine;
mod table;
mod wire;

use std::{path::PathBuf, process::Command};

use anyhow::{Result, bail};

use crate::{
    build, cmd,
    profile::{self, Flag, Training},
    setup::{self, Parts},
};
use machine::Load;
use table::Table;

const HELP: &str = "\
Measures the parser and the decision, message by message, and prints one table: nanoseconds (criterion's median),
messages and megabytes a second on one core, and instructions (callgrind), which do not depend on what else the
machine does.

Usage: cargo xtask bench [FILTER] [--counts] [--peers] [--runs N] [--save NAME]
       cargo xtask bench --compare|--record    holds instructions against the recorded ones, or records them
       cargo xtask bench wire [ARGUMENTS]      what a core forwards in a lab; see `cargo xtask bench wire --help`

  FILTER       only benches whose name has this in it: forward, parse/invite, ok-
  --counts     instructions alone: seconds instead of minutes, and the same on a busy machine
  --peers      the same messages through other SIP parsers written in Rust, too (downloads and compiles them)
  --runs N     measure the time N times and take the least of the medians, for machines that are never quiet
  --save NAME  also write the table to lb-userspace/benches/record/NAME.md, with machine, compiler and commit
  --compare    count instructions, and fail when a bench takes more than lb-userspace/benches/record/instructions.txt
               says, or less (part of `cargo xtask test`)
  --record     count instructions and write that file: what is meant to be slower, or has become faster

Compiled in release. Times are taken with a profile of what messages do, as siplb has one (see `cargo xtask build --help`);
other parsers and instructions go without.
";

/// Times from a machine where others use more than this share of a processor are not worth much.
const WORTH_WARNING: f64 = 0.05;

/// What to measure.
#[derive(Debug, PartialEq, Eq)]
struct Options {
    filter: Option<String>,
    counts: bool,
    peers: bool,
    runs: u32,
    save: Option<String>,
    guard: Option<Guard>,
}

/// What the instructions of all benches are for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Guard {
    Compare,
    Record,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            filter: None,
            counts: false,
            peers: false,
            runs: 1,
            save: None,
            guard: None,
        }
    }
}

impl Options {
    fn parse(arguments: &[String]) -> Result<Options> {
        let mut options = Options::default();
        let mut arguments = arguments.iter();
        while let Some(argument) = arguments.next() {
            let mut value = |what: &str| match arguments.next() {
                Some(value) => Ok(value.clone()),
                None => Err(cmd::Usage(format!("{argument} wants {what}\n\n{HELP}"))),
            };
            match argument.as_str() {
                "--counts" => options.counts = true,
                "--peers" => options.peers = true,
                "--compare" => options.guard = Some(Guard::Compare),
                "--record" => options.guard = Some(Guard::Record),
                "--runs" => match value("a number")?.parse() {
                    Ok(runs @ 1..) => options.runs = runs,
                    _ => bail!(cmd::Usage(format!(
                        "--runs wants a number from 1\n\n{HELP}"
                    ))),
                },
                "--save" => {
                    let name = value("a name")?;
                    let plain =
                        |letter: char| letter.is_ascii_alphanumeric() || "-_.".contains(letter);
                    if name.is_empty() || !name.chars().all(plain) {
                        bail!(cmd::Usage(format!(
                            "{name:?} is no name for a file\n\n{HELP}"
                        )));
                    }
                    options.save = Some(name);
                }
                filter if !filter.starts_with('-') && options.filter.is_none() => {
                    options.filter = Some(filter.to_owned());
                }
                other => return Err(cmd::unknown_argument(other, HELP)),
            }
        }
        // The record is of all benches of ours, counted once.
        let alone = Options {
            counts: options.counts,
            guard: options.guard,
            ..Options::default()
        };
        if options.guard.is_some() && options != alone {
            bail!(cmd::Usage(format!(
                "--compare and --record take no filter and no other option\n\n{HELP}"
            )));
        }
        Ok(options)
    }

    /// As one would type it, for the record.
    fn command(&self) -> String {
        let mut words = vec!["cargo xtask bench".to_owned()];
        words.extend(self.filter.clone());
        words.extend(self.counts.then(|| "--counts".to_owned()));
        words.extend(self.peers.then(|| "--peers".to_owned()));
        words.extend((self.runs > 1).then(|| format!("--runs {}", self.runs)));
        words.extend(self.save.iter().map(|name| format!("--save {name}")));
        words.join(" ")
    }
}

pub fn main(arguments: &[String]) -> Result<()> {
    if let Some((first, rest)) = arguments.split_first()
        && first == "wire"
    {
        return wire::main(rest);
    }
    if cmd::wants_help(arguments, HELP) {
        return Ok(());
    }
    let options = Options::parse(arguments)?;
    let compiler = setup::ensure(Parts::BENCH)?;
    if options.peers {
        // They are compiled with all of lb-userspace.
        build::xdp_program(&compiler)?;
    }
    match options.guard {
        Some(Guard::Compare) => compare(),
        Some(Guard::Record) => guard::record(&count(&[Crate::OURS], None)?),
        None => measure(&options),
    }
}

/// Counts the instructions of all benches and holds them against the record.
///
/// # Errors
///
/// When they are not as recorded; which ones has been printed then.
pub fn compare() -> Result<()> {
    guard::compare(&count(&[Crate::OURS], None)?)
}

/// Measures what was asked for and prints the table.
fn measure(options: &Options) -> Result<()> {
    let mut crates = vec![Crate::OURS];
    crates.extend(options.peers.then_some(Crate::PEERS));
    // Counted first: the rows come in the order of the count programs.
    let mut table = count(&crates, options.filter.as_deref())?;
    let mut noise = None;
    if !options.counts {
        cmd::step("benches: time");
        let profile = profile_of_time()?;
        for bench in &crates {
            cmd::run(bench.timed(profile.as_ref())?.arg("--no-run"))?;
        }
        warn_if_busy()?;
        let load = Load::start()?;
        for bench in &crates {
            cmd::step(&format!("time: {}", bench.title));
            for _ in 0..options.runs {
                let command = bench.timed(profile.as_ref())?;
                criterion::run(command, options.filter.as_deref(), &mut table)?;
            }
        }
        let others = load.of_others()?;
        noise = Some(others);
        if others > WORTH_WARNING {
            warn(others);
        }
    }
    if table.is_empty() {
        bail!(
            "no bench has {:?} in its name",
            options.filter.as_deref().unwrap_or_default()
        );
    }
    let text = table.text();
    println!("\n{text}");
    if let Some(name) = &options.save {
        let path = machine::save(name, &options.command(), noise, &text)?;
        println!("written to {}", path.display());
    }
    Ok(())
}

/// The profile that our time program is compiled with, as siplb is with its own.
fn profile_of_time() -> Result<Option<Flag>> {
    let cargo = || Crate::OURS.cargo(Crate::OURS.time);
    profile::ensure(&Training {
        name: Crate::OURS.time,
        compile: &|| {
            let mut command = cargo();
            command.arg("--no-run");
            command
        },
        run: &|| {
            let mut command = cargo();
            command.args(["--", "--profile-time", "1"]);
            command
        },
    })
}

/// Compiles the count programs and has callgrind count.
fn count(crates: &[Crate], filter: Option<&str>) -> Result<Table> {
    cmd::step("benches: instructions");
    for bench in crates {
        cmd::run(bench.cargo(bench.count).arg("--no-run"))?;
    }
    let mut table = Table::default();
    for bench in crates {
        cmd::step(&format!("instructions: {}", bench.title));
        instructions::run(bench, filter, &mut table)?;
    }
    Ok(table)
}

/// A crate with two bench programs: one for criterion, one for callgrind.
pub struct Crate {
    title: &'static str,
    manifest: &'static str,
    /// What `count` is compiled with.
    count_features: &'static [&'static str],
    time: &'static str,
    count: &'static str,
}

impl Crate {
    const OURS: Crate = Crate {
        title: "siplb",
        manifest: "lb-userspace/Cargo.toml",
        // What touches the kernel is not counted, and takes minutes to compile.
        count_features: &["--no-default-features"],
        time: "core",
        count: "count",
    };
    /// Outside the workspace, so that nobody's build pays for it.
    const PEERS: Crate = Crate {
        title: "other parsers",
        manifest: "lb-userspace/benches/peers/Cargo.toml",
        count_features: &[],
        time: "peers",
        count: "peers_count",
    };

    /// `cargo bench` for one program. Both share the target folder: what they need alike is compiled once.
    fn cargo(&self, program: &str) -> Command {
        let mut command = cmd::cargo();
        command
            .args(["bench", "--locked", "--manifest-path", self.manifest])
            .args(["--target-dir", "target", "--bench", program]);
        if program == self.count {
            command.args(self.count_features);
        }
        command
    }

    /// `cargo bench` for the time program, ours with its profile.
    fn timed(&self, profile: Option<&Flag>) -> Result<Command> {
        let mut command = self.cargo(self.time);
        if let Some(profile) = profile
            && self.manifest == Self::OURS.manifest
        {
            profile.apply(&mut command)?;
        }
        Ok(command)
    }
}

/// Where the programs leave what they measured; emptied before each run.
fn scratch(name: &str) -> Result<PathBuf> {
    let folder = cmd::target().join("bench").join(name);
    if folder.exists() {
        std::fs::remove_dir_all(&folder)?;
    }
    std::fs::create_dir_all(&folder)?;
    Ok(folder)
}

/// Says so when others use the machine now.
fn warn_if_busy() -> Result<()> {
    let others = Load::of_others_now()?;
    if others > WORTH_WARNING {
        warn(others);
    }
    Ok(())
}

fn warn(others: f64) {
    let line = "!".repeat(100);
    println!(
        "\n{line}\n!! THE MACHINE IS BUSY: other programs use {:.0} % of a processor. Instruction counts hold, times do \
         not.\n{line}",
        others * 100.0
    );
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(words: &str) -> Result<Options> {
        let words = words.split_whitespace().map(ToOwned::to_owned);
        Options::parse(&words.collect::<Vec<_>>())
    }

    #[test]
    fn the_record_says_what_was_typed() {
        for words in [
            "",
            "parse/invite",
            "--counts",
            "ok- --peers --runs 3 --save a-1.2",
        ] {
            let options = parse(words).expect("valid");
            assert_eq!(
                options.command(),
                format!("cargo xtask bench {words}").trim_end()
            );
        }
    }

    #[test]
    fn the_guard_is_alone() {
        let guard = |words| parse(words).expect("valid").guard;
        assert_eq!(guard("--counts --record"), Some(Guard::Record));
        assert_eq!(guard("--compare"), Some(Guard::Compare));
        assert_eq!(guard("--counts"), None);
    }

    #[test]
    fn wrong_arguments() {
        for words in [
            "a b",
            "--runs",
            "--runs 0",
            "--runs x",
            "--save",
            "--save ../x",
            "--other",
            "--record forward",
            "--compare --save x",
            "--compare --runs 2",
        ] {
            assert!(parse(words).is_err(), "{words}");
        }
    }
}
