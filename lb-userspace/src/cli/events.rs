//! `siplb events`: what changed on the running node, and when.

use std::{thread, time::Duration};

use clap::Args;

use super::{
    Failure, Running,
    output::{Output, Terminal},
    read_answer,
};
use crate::control::{
    Request,
    events::{Event, Severity},
};

/// How often a node is asked for new ones.
const ASK_EVERY: Duration = Duration::from_millis(500);

#[derive(Debug, Args)]
pub(super) struct EventsArgs {
    /// Go on with those to come, also when the node is started again
    #[arg(long, short)]
    watch: bool,
    /// How many of the newest; a node keeps 1000
    #[arg(long, short = 'n', value_name = "N", default_value_t = 20)]
    count: u64,
    #[command(flatten)]
    running: Running,
}

pub(super) fn events(arguments: &EventsArgs, output: &Output) -> Result<(), Failure> {
    let request = Request::new("events").with("count", arguments.count);
    let mut answer = arguments.running.call(&request)?;
    if !arguments.watch {
        if arguments.running.json {
            return output.json(&answer, false);
        }
        let events: Vec<Event> = read_answer(answer["events"].take())?;
        return output.text(&text(&events, &output.terminal()));
    }
    let mut last = 0;
    let mut is_silent = false;
    loop {
        let events: Vec<Event> = read_answer(answer["events"].take())?;
        last = events.last().map_or(last, |event| event.id);
        if arguments.running.json {
            for event in &events {
                output.json(event, true)?;
            }
        } else {
            output.text(&text(&events, &output.terminal()))?;
        }
        answer = loop {
            thread::sleep(ASK_EVERY);
            match arguments
                .running
                .call(&Request::new("events").with("after", last))
            {
                Ok(answer) => {
                    is_silent = false;
                    break answer;
                }
                // It may be just being restarted.
                Err(Failure::Failed(reason)) if !is_silent => {
                    is_silent = true;
                    eprintln!("siplb: {reason}");
                }
                Err(Failure::Failed(_)) => {}
                Err(usage) => return Err(usage),
            }
        };
    }
}

/// A line for each.
fn text(events: &[Event], terminal: &Terminal) -> String {
    let lines = events.iter().map(|event| {
        let what = format!(
            "{:<16}  {}: {}",
            event.kind.name(),
            event.subject,
            event.text
        );
        let what = match event.severity {
            Severity::Info => what,
            Severity::Warn => terminal.bold(&what),
            Severity::Error => terminal.red(&what),
        };
        format!("{}  {what}\n", time(event.time_ms))
    });
    lines.collect()
}

/// In UTC, as in the log.
fn time(ms: u64) -> String {
    let ms = i64::try_from(ms).unwrap_or(i64::MAX);
    match jiff::Timestamp::from_millisecond(ms) {
        Ok(time) => format!("{time:.3}"),
        Err(_) => format!("{ms} ms"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::control::events::Kind;

    #[test]
    fn an_event_is_a_line() {
        let event = Event {
            id: 1,
            time_ms: 1_795_000_000_123,
            kind: Kind::BackendHealth,
            severity: Severity::Warn,
            subject: "sw1".into(),
            text: "healthy -> unhealthy: no answer".into(),
        };
        let terminal = Terminal {
            width: 80,
            height: None,
            colour: false,
        };
        assert_eq!(
            text(&[event], &terminal),
            "2026-11-18T11:06:40.123Z  backend_health    sw1: healthy -> unhealthy: no answer\n"
        );
    }
}
