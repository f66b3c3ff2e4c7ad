//! `siplb stats`: what XDP program and workers have counted, without asking the process.

mod report;
mod view;

use std::{
    fs,
    path::{Path, PathBuf},
    thread,
    time::{Duration, Instant},
};

use clap::Args;

use self::report::{InterfaceCounts, Report, Sample};
use super::{Failure, OptionalConfig, output::Output};
use crate::{
    afxdp::program,
    config::{Config, Datapath, Stats},
    stats::{Interface, Snapshot, StatsReader},
};

#[derive(Debug, Args)]
pub(super) struct StatsArgs {
    #[command(flatten)]
    config: OptionalConfig,
    /// Workers' counters [default: that of the configuration, else /run/siplb/stats]
    #[arg(long, value_name = "FILE")]
    stats_file: Option<PathBuf>,
    /// Directory with the XDP program's maps [default: what the workers' counters name, else the configuration]
    #[arg(long, value_name = "DIR")]
    pin_path: Option<PathBuf>,
    /// Show again every so many seconds, with rates [default: 1]
    #[arg(long, short, value_name = "SECONDS", num_args = 0..=1, default_missing_value = "1", value_parser = interval)]
    pub(super) watch: Option<f64>,
    /// Show counters that are 0, too
    #[arg(long, short)]
    all: bool,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

pub(super) fn stats(arguments: &StatsArgs, output: &Output) -> Result<(), Failure> {
    let sources = Sources::new(arguments, arguments.config.load()?);
    match arguments.watch {
        None => once(&sources, arguments, output),
        Some(seconds) => watch(
            &sources,
            Duration::from_secs_f64(seconds),
            arguments,
            output,
        ),
    }
}

fn once(sources: &Sources, arguments: &StatsArgs, output: &Output) -> Result<(), Failure> {
    let sample = sources.sample();
    let report = Report::new(&sample, None);
    if arguments.json {
        output.json(&report, false)?;
    } else {
        output.text(&view::text(&report, &output.terminal(), arguments.all))?;
    }
    // The XDP program's side is worth showing even when this is missing, but it is a failure.
    match sample.workers {
        Ok(_) => Ok(()),
        Err(error) => Err(Failure::Failed(error)),
    }
}

/// Until it is interrupted. A node that is just being restarted is no reason to stop.
fn watch(
    sources: &Sources,
    every: Duration,
    arguments: &StatsArgs,
    output: &Output,
) -> Result<(), Failure> {
    let mut before = None;
    let mut next = Instant::now();
    loop {
        let sample = sources.sample();
        let report = Report::new(&sample, before.as_ref());
        if arguments.json {
            output.json(&report, true)?;
        } else {
            let terminal = super::output::Terminal::of_this_process();
            let text = view::text(&report, &terminal, arguments.all);
            output.text(&view::frame(&text, &terminal, before.is_none()))?;
        }
        before = Some(sample);
        next += every;
        match next.checked_duration_since(Instant::now()) {
            Some(pause) => thread::sleep(pause),
            // Stopped for a while (^Z): do not catch up.
            None => next = Instant::now(),
        }
    }
}

/// Where counters are.
struct Sources {
    workers: PathBuf,
    /// `None`: what the workers' counters name, else `fallback`.
    pin_path: Option<PathBuf>,
    fallback: Option<PathBuf>,
}

impl Sources {
    fn new(arguments: &StatsArgs, config: Option<Config>) -> Self {
        let (stats, pins) = config.map_or((None, None), |config| {
            (Some(config.stats.file), Some(config.datapath.pin_path))
        });
        Self {
            workers: arguments
                .stats_file
                .clone()
                .or(stats)
                .unwrap_or_else(|| Stats::DEFAULT_FILE.into()),
            pin_path: arguments.pin_path.clone(),
            fallback: pins.or_else(|| only_directory(Datapath::DEFAULT_PIN_PARENT.as_ref())),
        }
    }

    /// Reads the XDP programs' counters before and after those of the workers: what arrived must be in between.
    fn sample(&self) -> Sample {
        let read = |interface: &Interface| {
            program::read_counters(&interface.pin_dir).map_err(|error| format!("{error:#}"))
        };
        let reader = StatsReader::open(&self.workers).map_err(|error| error.to_string());
        let snapshot = || {
            let reader = reader.as_ref().map_err(String::clone)?;
            reader.snapshot().map_err(|error| error.to_string())
        };
        let interfaces = self.interfaces(snapshot().ok().as_ref());
        let before = interfaces.iter().map(read).collect::<Vec<_>>();
        let workers = snapshot();
        let taken = Instant::now();
        let interfaces = interfaces.into_iter().zip(before);
        let interfaces = interfaces.map(|(interface, counters)| InterfaceCounts {
            counters_after: counters.clone().and_then(|_| read(&interface)),
            counters,
            interface,
        });
        Sample {
            taken,
            interfaces: interfaces.collect(),
            workers,
        }
    }

    fn interfaces(&self, snapshot: Option<&Snapshot>) -> Vec<Interface> {
        let named = snapshot.map_or(&[][..], |snapshot| &snapshot.interfaces);
        match (&self.pin_path, &self.fallback) {
            (Some(path), _) => pinned(path, named),
            (None, Some(path)) if named.is_empty() => pinned(path, named),
            _ => named.to_vec(),
        }
    }
}

/// The interfaces with pins below `pin_path`, with what the workers' counters say about them.
fn pinned(pin_path: &Path, named: &[Interface]) -> Vec<Interface> {
    let names = fs::read_dir(pin_path).into_iter().flatten().flatten();
    let names = names.filter_map(|entry| entry.file_name().into_string().ok());
    let interfaces = names.map(|name| {
        let pin_dir = program::pin_dir(pin_path, &name);
        let known = named.iter().find(|interface| interface.pin_dir == pin_dir);
        known.cloned().unwrap_or(Interface {
            name,
            pin_dir,
            steered_at_start: 0,
        })
    });
    let mut interfaces = interfaces
        .filter(|interface| interface.pin_dir.is_dir())
        .collect::<Vec<_>>();
    interfaces.sort_by(|a, b| a.name.cmp(&b.name));
    interfaces
}

/// The only directory in another, which is the only node's on this host.
fn only_directory(parent: &Path) -> Option<PathBuf> {
    let mut directories = fs::read_dir(parent)
        .ok()?
        .flatten()
        .map(|entry| entry.path())
        .filter(|path| path.is_dir());
    let only = directories.next()?;
    directories.next().is_none().then_some(only)
}

fn interval(text: &str) -> Result<f64, String> {
    match text.parse() {
        Ok(seconds) if (0.1..=86_400.0).contains(&seconds) => Ok(seconds),
        _ => Err("write a number of seconds from 0.1 to 86400".to_owned()),
    }
}
