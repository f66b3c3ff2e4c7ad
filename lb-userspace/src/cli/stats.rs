//! `siplb stats`: what XDP program and workers have counted, without asking the process.

pub(super) mod view;

pub(super) use self::view::frame;

use std::{
    path::PathBuf,
    thread,
    time::{Duration, Instant},
};

use clap::Args;

use super::{Failure, OptionalConfig, output::Output};
use crate::{
    config::{Config, Datapath, Stats},
    stats::{
        report::Report,
        sources::{Sources, only_directory},
    },
};

#[derive(Debug, Args)]
pub(super) struct StatsArgs {
    #[command(flatten)]
    config: OptionalConfig,
    #[command(flatten)]
    files: CounterFiles,
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

/// Where counters are, as the operator says it.
#[derive(Debug, Args)]
pub(super) struct CounterFiles {
    /// Workers' counters [default: that of the configuration, else /run/siplb/stats]
    #[arg(long, value_name = "FILE")]
    stats_file: Option<PathBuf>,
    /// Directory with the XDP program's maps [default: what the workers' counters name, else the configuration]
    #[arg(long, value_name = "DIR")]
    pin_path: Option<PathBuf>,
}

pub(super) fn stats(arguments: &StatsArgs, output: &Output) -> Result<(), Failure> {
    let config = arguments.config.load()?;
    let sources = arguments.files.sources(config.as_ref());
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

impl CounterFiles {
    /// By the arguments, else the configuration, else where they usually are.
    pub(super) fn sources(&self, config: Option<&Config>) -> Sources {
        let (stats, pins) = config.map_or((None, None), |config| {
            let pins = config.datapath.pin_path.clone();
            (Some(config.stats.file.clone()), Some(pins))
        });
        Sources {
            workers: self
                .stats_file
                .clone()
                .or(stats)
                .unwrap_or_else(|| Stats::DEFAULT_FILE.into()),
            pin_path: self.pin_path.clone(),
            fallback: pins.or_else(|| only_directory(Datapath::DEFAULT_PIN_PARENT.as_ref())),
        }
    }
}

pub(super) fn interval(text: &str) -> Result<f64, String> {
    match text.parse() {
        Ok(seconds) if (0.1..=86_400.0).contains(&seconds) => Ok(seconds),
        _ => Err("write a number of seconds from 0.1 to 86400".to_owned()),
    }
}
