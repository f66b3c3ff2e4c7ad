//! The first lines: which node, how many calls, what is wrong; and the last one: keys.

use std::time::Duration;

use ratatui::{
    buffer::Buffer,
    layout::Rect,
    text::{Line, Span as Text},
    widgets::Widget,
};

use super::{BAD, GOOD, Look, MARKED, NOTE, TITLE, clipped, fitting, time_of_day};
use crate::cli::{
    output::{grouped, span},
    top::{
        app::App,
        model::Picture,
        problems::{Problem, Severity},
    },
};

pub(super) fn draw(app: &App, look: &Look, area: Rect, buffer: &mut Buffer) {
    let picture = app.picture();
    let line = |row: u16| Rect {
        y: area.y + row,
        height: 1,
        ..area
    };
    let clock = clock(app, look);
    let room = usize::from(area.width).saturating_sub(clock.chars().count() + 2);
    Line::from(fitting(identity(picture), 2, room)).render(line(0), buffer);
    Line::from(clock).right_aligned().render(line(0), buffer);
    let width = usize::from(area.width);
    match &picture.silence {
        Some(silence) => {
            let since = time_of_day(silence.since_s, "%H:%M:%S", look);
            let text = format!(" node does not answer since {since}, retrying ");
            let style = BAD.patch(MARKED);
            Line::styled(clipped(&text, width), style).render(line(1), buffer);
        }
        None => Line::from(fitting(numbers(picture), 2, width)).render(line(1), buffer),
    }
    for (row, problem) in problems(picture, area.height - 2, width)
        .into_iter()
        .enumerate()
    {
        problem.render(line(2 + row as u16), buffer);
    }
}

fn clock(app: &App, look: &Look) -> String {
    let picture = app.picture();
    if picture.time_s == 0 {
        return String::new();
    }
    let now = time_of_day(picture.time_s, "%H:%M:%S %Z", look);
    match app.is_paused() {
        true => format!("PAUSED at {now}"),
        false => now,
    }
}

fn identity(picture: &Picture) -> Vec<Text<'static>> {
    let Some(status) = &picture.status else {
        return vec![Text::styled("siplb", TITLE)];
    };
    let uptime = span(Duration::from_secs(status.uptime_s));
    vec![
        Text::styled(status.node.clone(), TITLE),
        Text::raw(format!("siplb {}", status.version)),
        Text::raw(format!("up {uptime}")),
        Text::raw(status.mode.clone()),
        Text::raw(format!("generation {}", status.generation)),
        Text::raw(format!("pid {}", status.pid)),
        Text::raw(format!("configuration {}", status.config_hash)),
    ]
}

fn numbers(picture: &Picture) -> Vec<Text<'static>> {
    let Some(status) = &picture.status else {
        return vec![Text::raw("asking the node")];
    };
    let number = |number: Option<u32>| number.map_or("-".to_owned(), |n| grouped(n.into()));
    let newest = picture.newest;
    let breached = newest.map(|[_, breached]| breached);
    let breach_style = if breached.unwrap_or(0) > 0 {
        BAD
    } else {
        TITLE
    };
    let [accepted, refused] = picture
        .node_limit()
        .map_or([0; 2], |node| [node.accepted, node.breached]);
    let accepted_now = number(newest.map(|[accepted, _]| accepted));
    let announced = match &status.announce {
        None => Text::raw("announce not configured"),
        Some(announce) if announce.reason.is_none() => {
            let how = announce.device.as_ref();
            let how = how.map_or(String::new(), |device| format!(" on {device}"));
            Text::styled(format!("announced{how}"), GOOD)
        }
        Some(_) => Text::styled("NOT ANNOUNCED", BAD),
    };
    vec![
        Text::styled(format!("CPS {accepted_now}"), TITLE),
        Text::styled(format!("breach {}", number(breached)), breach_style),
        Text::raw(format!("calls {}", grouped(accepted))),
        Text::raw(format!("refused {}", grouped(refused))),
        announced,
    ]
}

/// As many as there are lines; the last line says how many more there are.
fn problems(picture: &Picture, lines: u16, width: usize) -> Vec<Line<'static>> {
    let problems = &picture.problems;
    if picture.time_s == 0 {
        return Vec::new();
    }
    if problems.is_empty() {
        return vec![Line::styled("nothing is wrong", GOOD)];
    }
    let more = problems.len().saturating_sub(lines.into());
    let shown = &problems[..problems.len() - more];
    let lines = shown.iter().enumerate().map(|(place, problem)| {
        let Problem { severity, text } = problem;
        let (mark, style) = match severity {
            Severity::Bad => ("!", BAD),
            Severity::Note => ("-", NOTE),
        };
        let tail = match more {
            more if more > 0 && place + 1 == shown.len() => format!(" (+{more} more)"),
            _ => String::new(),
        };
        let room = width.saturating_sub(2 + tail.chars().count());
        Line::styled(format!("{mark} {}{tail}", clipped(text, room)), style)
    });
    lines.collect()
}

/// A message, or else what the keys do.
pub(super) fn keys(app: &App, area: Rect, buffer: &mut Buffer) {
    let width = usize::from(area.width);
    if let Some(message) = &app.message {
        let style = if message.is_bad { BAD } else { GOOD };
        Line::styled(clipped(&message.text, width), style).render(area, buffer);
        return;
    }
    let keys = [
        ("q", "quit"),
        ("?", "help"),
        ("Tab", "pane"),
        ("d u", "drain"),
        ("x e", "disable"),
        ("s", "span"),
        ("l", "limit"),
        ("p", "pause"),
        ("j k", "mark"),
    ];
    let mut line = Vec::new();
    let mut used = 0;
    for (key, what) in keys {
        let width_of_one = key.len() + what.len() + 3;
        if used + width_of_one > width + 2 {
            break;
        }
        used += width_of_one;
        line.push(Text::styled(key, TITLE));
        line.push(Text::raw(format!(" {what}  ")));
    }
    Line::from(line).render(area, buffer);
}
