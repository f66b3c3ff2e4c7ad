//! `cargo xtask test`: everything that must hold before a change lands.

use std::{fs, process::Command, time::Instant};

use anyhow::{Result, bail};

use crate::{
    bench, build, check, cmd, fuzz,
    setup::{self, Parts},
};

const HELP: &str = "\
Sets up, builds, checks, and runs all tests: unit and property tests, the simulation of a fleet, the XDP program in
the kernel, labs with real SIPp in network namespaces, each fuzz target with 200,000 inputs, and the instructions for
each kind of message against the recorded ones.

Usage: cargo xtask test [--no-check] [--no-counts] [--no-labs] [--no-fuzz] [-- ARGUMENTS OF THE TESTS]

  --no-check   leave out format, lints, documentation and house rules
  --no-counts  leave out the instructions for each kind of message; `cargo xtask bench --compare` counts them alone
  --no-labs    leave out what needs root: the XDP program in the kernel, and the labs
  --no-fuzz    leave out the fuzz targets; `cargo xtask fuzz` runs them longer
  -- ...       for the test programs, as in `cargo test -- ...`: a part of a test's name, --nocapture; implies
               --no-check, --no-counts and --no-fuzz

Tests that need root run through sudo when you are not root. Without sudo they are left out, loudly; with CI=true
that is a failure.
";

/// The test program among those of `tests/` that needs no root; its tests are in a module `simulated`.
const SIMULATION: &str = "simulation";

/// What to run.
#[derive(Debug, Default, PartialEq, Eq)]
struct Options {
    no_check: bool,
    no_counts: bool,
    no_labs: bool,
    no_fuzz: bool,
    harness: Vec<String>,
}

impl Options {
    fn parse(arguments: &[String]) -> Result<Options> {
        let mut options = Options::default();
        let mut arguments = arguments.iter();
        while let Some(argument) = arguments.next() {
            match argument.as_str() {
                "--no-check" => options.no_check = true,
                "--no-counts" => options.no_counts = true,
                "--no-labs" => options.no_labs = true,
                "--no-fuzz" => options.no_fuzz = true,
                "--" => {
                    options.harness = arguments.by_ref().cloned().collect();
                    options.no_check |= !options.harness.is_empty();
                    options.no_counts |= !options.harness.is_empty();
                    options.no_fuzz |= !options.harness.is_empty();
                }
                other => return Err(cmd::unknown_argument(other, HELP)),
            }
        }
        Ok(options)
    }
}

/// How tests that need root get it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Privilege {
    Root,
    Sudo,
    Missing,
}

pub fn main(arguments: &[String]) -> Result<()> {
    if cmd::wants_help(arguments, HELP) {
        return Ok(());
    }
    let options = Options::parse(arguments)?;
    let started = Instant::now();
    let compiler = setup::ensure(Parts {
        check: !options.no_check,
        bench: !options.no_counts,
        labs: !options.no_labs,
        fuzz: !options.no_check || !options.no_fuzz,
    })?;
    build::xdp_program(&compiler)?;
    if !options.no_check {
        check::run(&compiler)?;
    }

    cmd::step("unit and property tests, and the simulation of a fleet");
    let targets = ["--lib", "--bins", "--test", "parsers", "--test", SIMULATION];
    cmd::run(&mut cargo_test(&options, &targets, &[]))?;
    if options.harness.is_empty() {
        cmd::run(cmd::cargo().args(["test", "--workspace", "--doc"]))?;
    }

    // Before the labs: what has become slow is known in minutes.
    if !options.no_counts {
        bench::compare()?;
    }
    if !options.no_fuzz {
        fuzz::run(&fuzz::Options::of_test())?;
    }

    let privilege = privilege();
    if options.no_labs {
        left_out("--no-labs was given");
    } else if privilege == Privilege::Missing {
        left_out("we are not root and there is no sudo");
        if cmd::is_ci() {
            bail!("CI must run every test: run it as root");
        }
    } else {
        // The labs run the siplb that users run.
        build::user_space()?;
        cmd::step("the XDP program in the kernel, and labs");
        // One at a time: they measure, and share the cores. The simulation has run.
        let harness = ["--test-threads=1", "--skip", "simulated::"];
        let mut labs = cargo_test(&options, &["--test", "*"], &harness);
        labs.env("SIPLB_BIN", cmd::target().join("release/siplb"));
        if privilege == Privilege::Sudo {
            // The test programs alone run as root: what cargo writes stays the user's.
            labs.args([
                "--config",
                "target.'cfg(all())'.runner = ['sudo', '--preserve-env']",
            ]);
        }
        cmd::run(&mut labs)?;
    }
    println!("\nall passed in {}", cmd::seconds(started.elapsed()));
    Ok(())
}

/// `cargo test` over the whole workspace, so that every call shares what the first one compiled.
fn cargo_test(options: &Options, targets: &[&str], harness: &[&str]) -> Command {
    let mut command = cmd::cargo();
    command
        .args(["test", "--workspace", "--no-fail-fast"])
        .args(targets);
    if !harness.is_empty() || !options.harness.is_empty() {
        command.arg("--").args(harness).args(&options.harness);
    }
    command
}

fn privilege() -> Privilege {
    if cmd::is_root() {
        Privilege::Root
    } else if cmd::find_program("sudo").is_some() {
        Privilege::Sudo
    } else {
        Privilege::Missing
    }
}

/// Says which tests do not run: a run that skips must not look like one that passed.
fn left_out(why: &str) {
    let mut names: Vec<String> = fs::read_dir(cmd::root().join("tests/tests"))
        .into_iter()
        .flatten()
        .filter_map(|entry| entry.ok()?.file_name().into_string().ok())
        .filter_map(|name| name.strip_suffix(".rs").map(str::to_owned))
        .filter(|name| name != SIMULATION)
        .collect();
    names.sort();
    let line = "!".repeat(100);
    println!(
        "\n{line}\n!! NOT RUN: {}\n!! because {why}\n{line}",
        names.join(", ")
    );
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(arguments: &[&str]) -> Result<Options> {
        Options::parse(
            &arguments
                .iter()
                .map(ToString::to_string)
                .collect::<Vec<_>>(),
        )
    }

    #[test]
    fn arguments_of_the_tests_leave_the_checks_out() {
        let options = parse(&["--no-labs", "--", "forward", "--nocapture"]).expect("valid");
        assert_eq!(options.harness, ["forward", "--nocapture"]);
        assert!(options.no_check && options.no_counts && options.no_labs && options.no_fuzz);
        assert_eq!(parse(&[]).expect("valid"), Options::default());
        assert!(parse(&["forward"]).is_err());
    }
}
