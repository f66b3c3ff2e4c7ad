//! `cargo xtask fuzz`: fuzz targets, built with the stable compiler and run side by side.

mod seeds;

use std::{
    collections::VecDeque,
    fs::{self, File},
    path::PathBuf,
    process::{Child, Command, Stdio},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail};

use crate::{
    cmd,
    setup::{self, Parts},
};

const HELP: &str = "\
Builds the fuzz targets in lb-userspace/fuzz and runs them.

Usage: cargo xtask fuzz [TARGET...] [--seconds N | --runs N] [--jobs N] [--max-len N] [-- FLAGS OF LIBFUZZER]

  TARGET       parse, forward, edit; all of them by default
  --seconds N  how long each runs; 20 by default
  --runs N     how many inputs each tries instead
  --jobs N     how many run at a time; by default one a core
  --max-len N  longest input in bytes; 2000 by default
  -- ...       for libFuzzer; `-use_counters=0 -entropic=0 -reduce_inputs=0` doubles the speed of long runs, where what
               the counters of loops would teach has been learnt

They start from the messages in lb-userspace/tests/data, those that SIPLB_CORPUS names or that lie beside the checkout at
../shared/corpus, and what earlier runs found worth keeping (lb-userspace/fuzz/corpus). An input that breaks an assertion is
written to lb-userspace/fuzz/artifacts/TARGET, and how to try it again is printed.

No nightly compiler and no cargo-fuzz are needed: the compiler's coverage pass is asked for by flags, and the address
sanitizer, which is not there on stable, would find nothing, since the code under test has no unsafe. `cargo fuzz run TARGET`
works too.
";

/// Where they lie.
const FOLDER: &str = "lb-userspace/fuzz";
/// All of them.
const TARGETS: [&str; 3] = ["parse", "forward", "edit"];

/// What libFuzzer needs to see: edges taken, as counters. The operands of comparisons would cost half of the speed, and
/// the dictionary knows what is compared with.
const COVERAGE: [&str; 5] = [
    "-Cpasses=sancov-module",
    "-Cllvm-args=-sanitizer-coverage-level=3",
    "-Cllvm-args=-sanitizer-coverage-inline-8bit-counters",
    "-Cllvm-args=-sanitizer-coverage-pc-table",
    "--cfg=fuzzing",
];

/// What to run, and for how long.
#[derive(Debug, PartialEq, Eq)]
pub struct Options {
    targets: Vec<String>,
    limit: Limit,
    jobs: usize,
    max_len: usize,
    flags: Vec<String>,
}

/// When a target has done enough.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Limit {
    Seconds(u64),
    Runs(u64),
}

impl Default for Options {
    fn default() -> Self {
        Self {
            targets: TARGETS.map(str::to_owned).to_vec(),
            limit: Limit::Seconds(20),
            jobs: thread::available_parallelism().map_or(1, usize::from),
            max_len: 2000,
            flags: Vec::new(),
        }
    }
}

impl Options {
    /// A short run that tries the same inputs every time: what it finds, it finds again.
    pub fn of_test() -> Self {
        Self {
            limit: Limit::Runs(200_000),
            flags: vec!["-seed=1".to_owned()],
            ..Self::default()
        }
    }

    fn parse(arguments: &[String]) -> Result<Self> {
        let mut options = Self::default();
        let mut targets = Vec::new();
        let mut arguments = arguments.iter();
        while let Some(argument) = arguments.next() {
            if argument == "--" {
                options.flags = arguments.by_ref().cloned().collect();
                break;
            }
            let mut number = || -> Result<u64> {
                arguments
                    .next()
                    .and_then(|number| number.parse().ok())
                    .ok_or_else(|| {
                        cmd::Usage(format!("{argument} needs a number\n\n{HELP}")).into()
                    })
            };
            match argument.as_str() {
                "--seconds" => options.limit = Limit::Seconds(number()?),
                "--runs" => options.limit = Limit::Runs(number()?),
                "--jobs" => options.jobs = number()?.max(1) as usize,
                "--max-len" => options.max_len = number()?.max(1) as usize,
                target if TARGETS.contains(&target) => targets.push(target.to_owned()),
                other => return Err(cmd::unknown_argument(other, HELP)),
            }
        }
        if !targets.is_empty() {
            options.targets = targets;
        }
        Ok(options)
    }
}

pub fn main(arguments: &[String]) -> Result<()> {
    if cmd::wants_help(arguments, HELP) {
        return Ok(());
    }
    let options = Options::parse(arguments)?;
    setup::ensure(Parts::FUZZ)?;
    run(&options)
}

/// Builds all targets and runs those that are wanted, also after one has found something.
///
/// # Errors
///
/// When a target does not compile, or finds something; what it found has been printed then.
pub fn run(options: &Options) -> Result<()> {
    cmd::step("fuzz targets");
    build()?;
    let limit = match options.limit {
        Limit::Seconds(seconds) => format!("{seconds} s each"),
        Limit::Runs(runs) => format!("{runs} inputs each"),
    };
    println!(
        "  {}, {limit}, {} at a time",
        options.targets.join(", "),
        options.jobs
    );
    let mut waiting: VecDeque<_> = options.targets.iter().collect();
    let mut running = Vec::new();
    let mut failed = Vec::new();
    while !waiting.is_empty() || !running.is_empty() {
        while running.len() < options.jobs
            && let Some(target) = waiting.pop_front()
        {
            running.push(Run::start(target, options)?);
        }
        // A process has no event to wait for that the standard library knows of.
        thread::sleep(Duration::from_millis(50));
        let mut still = Vec::new();
        for mut run in running {
            match run
                .process
                .try_wait()
                .context("waiting for a fuzz target")?
            {
                None => still.push(run),
                Some(status) if status.success() => run.report(),
                Some(_) => failed.push(run.report_finding()),
            }
        }
        running = still;
    }
    if !failed.is_empty() {
        bail!("fuzz targets found something: {}", failed.join(", "));
    }
    Ok(())
}

fn target_folder() -> PathBuf {
    cmd::target().join("fuzz")
}

/// The machine that we are on: with `--target`, the flags below leave build scripts and macros alone.
fn triple() -> String {
    format!("{}-unknown-linux-gnu", std::env::consts::ARCH)
}

fn build() -> Result<()> {
    cmd::run(&mut cargo("build"))
}

/// cargo for the fuzz targets: `build` or `clippy`.
pub fn cargo(subcommand: &str) -> Command {
    let mut command = cmd::cargo();
    command
        .env_remove("CARGO_ENCODED_RUSTFLAGS")
        .env("RUSTFLAGS", COVERAGE.join(" "))
        .args([subcommand, "--release", "--manifest-path"])
        .arg(format!("{FOLDER}/Cargo.toml"))
        .args(["--target", &triple(), "--target-dir"])
        .arg(target_folder());
    command
}

/// A target at work.
struct Run {
    target: String,
    process: Child,
    command: String,
    log: PathBuf,
    started: Instant,
}

impl Run {
    fn start(target: &str, options: &Options) -> Result<Self> {
        let folder = cmd::root().join(FOLDER);
        let found = folder.join("corpus").join(target);
        let artifacts = folder.join("artifacts").join(target);
        let seeds = target_folder().join("seeds").join(target);
        for folder in [&found, &artifacts] {
            fs::create_dir_all(folder).with_context(|| format!("creating {}", folder.display()))?;
        }
        seeds::write(target, &seeds)?;

        let log = target_folder().join(format!("{target}.log"));
        let file = File::create(&log).with_context(|| format!("creating {}", log.display()))?;
        let program = target_folder().join(triple()).join("release").join(target);
        let mut command = Command::new(&program);
        command.args([&found, &seeds]);
        command.arg(format!("-dict={}", folder.join("sip.dict").display()));
        command.arg(format!("-artifact_prefix={}/", artifacts.display()));
        command.arg(format!("-max_len={}", options.max_len));
        command.arg(match options.limit {
            Limit::Seconds(seconds) => format!("-max_total_time={seconds}"),
            Limit::Runs(runs) => format!("-runs={runs}"),
        });
        // No datagram costs a millisecond: ten seconds are a loop without end, on the slowest of machines.
        command.args(["-timeout=10", "-rss_limit_mb=2048", "-print_final_stats=1"]);
        command.args(&options.flags);
        command
            .stdin(Stdio::null())
            .stdout(file.try_clone().context("sharing the log")?)
            .stderr(file);
        let process = command
            .spawn()
            .with_context(|| format!("starting {}", program.display()))?;
        Ok(Self {
            target: target.to_owned(),
            process,
            command: program.display().to_string(),
            log,
            started: Instant::now(),
        })
    }

    fn report(&self) {
        let log = fs::read_to_string(&self.log).unwrap_or_default();
        let runs = statistic(&log, "stat::number_of_executed_units:").unwrap_or_default();
        let kept = statistic(&log, "stat::new_units_added:").unwrap_or_default();
        println!(
            "  {}: {runs} inputs in {}, {kept} of them new ways through the code, no finding",
            self.target,
            cmd::seconds(self.started.elapsed())
        );
    }

    /// Prints what the target said at its end, and returns its name.
    fn report_finding(&self) -> String {
        let log = String::from_utf8_lossy(&fs::read(&self.log).unwrap_or_default()).into_owned();
        println!(
            "  {}: FOUND SOMETHING; all of it in {}",
            self.target,
            self.log.display()
        );
        for line in last_words(&log) {
            println!("    {line}");
        }
        if let Some(artifact) = log
            .lines()
            .find_map(|line| line.split_once("Test unit written to "))
        {
            println!("  again: {} {}", self.command, artifact.1);
        }
        self.target.clone()
    }
}

/// A number that libFuzzer prints at its end.
fn statistic(log: &str, name: &str) -> Option<u64> {
    log.lines()
        .rev()
        .find_map(|line| line.strip_prefix(name))
        .and_then(|number| number.trim().parse().ok())
}

/// From the panic on, without libFuzzer's own reports.
fn last_words(log: &str) -> Vec<&str> {
    let start = log
        .lines()
        .position(|line| line.contains("panicked at") || line.contains("ERROR: libFuzzer"))
        .unwrap_or_default();
    log.lines()
        .skip(start)
        .take_while(|line| !line.starts_with("stack backtrace") && !line.starts_with("note:"))
        .take(60)
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(arguments: &[&str]) -> Result<Options> {
        let arguments: Vec<String> = arguments.iter().map(ToString::to_string).collect();
        Options::parse(&arguments)
    }

    #[test]
    fn arguments_name_targets_and_limits() {
        let options = parse(&[
            "edit",
            "--runs",
            "7",
            "--jobs",
            "3",
            "--",
            "-close_fd_mask=3",
        ])
        .expect("valid");
        assert_eq!(options.targets, ["edit"]);
        assert_eq!(options.flags, ["-close_fd_mask=3"]);
        assert_eq!((options.limit, options.jobs), (Limit::Runs(7), 3));
        assert_eq!(parse(&[]).expect("valid").targets, TARGETS);
        for wrong in [&["edits"][..], &["--runs"], &["--seconds", "x"]] {
            assert!(parse(wrong).is_err(), "{wrong:?}");
        }
    }

    #[test]
    fn what_was_found_is_cut_out_of_the_log() {
        let log = "INFO: seed\n#1 NEW\nthread 'x' panicked at a.rs:1:\nfault: 1, slow 2\nstack backtrace:\n  0: f\n\
                   stat::number_of_executed_units: 12\n";
        assert_eq!(
            last_words(log),
            ["thread 'x' panicked at a.rs:1:", "fault: 1, slow 2"]
        );
        assert_eq!(statistic(log, "stat::number_of_executed_units:"), Some(12));
        assert_eq!(statistic(log, "stat::slowest_unit_time_sec:"), None);
    }
}
