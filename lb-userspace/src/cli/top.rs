//! `siplb top`: the live screen.
//!
//! [`ask`] asks the node and reads its counters, [`model`] makes a picture of that, [`app`] takes keys, [`view`] draws, and [`screen`]
//! is the loop around them. Only `ask` and `screen` do I/O.

mod app;
mod ask;
mod model;
mod problems;
mod screen;
mod series;
mod view;

use std::{io::IsTerminal, thread, time::Duration};

use clap::Args;
use jiff::tz::TimeZone;
use ratatui::{buffer::Buffer, layout::Rect};

use self::{
    app::App,
    ask::{Asker, NODE_LIMIT, RunningNode, Watched},
    series::Span,
    view::Look,
};
use super::{
    ControlSocket, Failure, OptionalConfig,
    output::{Output, Terminal},
    stats::CounterFiles,
};

#[derive(Debug, Args)]
pub(super) struct TopArgs {
    #[command(flatten)]
    config: OptionalConfig,
    #[command(flatten)]
    socket: ControlSocket,
    #[command(flatten)]
    files: CounterFiles,
    /// Ask every so many seconds, from 0.5
    #[arg(long, value_name = "SECONDS", default_value = "1", value_parser = interval)]
    interval: Duration,
    /// How far back the graphs look
    #[arg(long, value_enum, default_value_t)]
    span: Span,
    /// The limit that the graphs are of, by its name in `siplb cps`
    #[arg(long, value_name = "NAME", default_value = NODE_LIMIT)]
    limit: String,
    /// Nothing but ASCII characters
    #[arg(long)]
    ascii: bool,
    /// Print one snapshot as text and end; rates are those of one interval
    #[arg(long)]
    once: bool,
    /// Columns of the snapshot [default: those of the terminal, COLUMNS, else 80]
    #[arg(long, value_name = "COLUMNS", requires = "once", value_parser = clap::value_parser!(u16).range(i64::from(view::SMALLEST.0)..=500))]
    width: Option<u16>,
    /// Lines of the snapshot [default: as many as it needs]
    #[arg(long, value_name = "LINES", requires = "once", value_parser = clap::value_parser!(u16).range(i64::from(view::SMALLEST.1)..=500))]
    height: Option<u16>,
}

pub(super) fn top(arguments: &TopArgs, output: &Output) -> Result<(), Failure> {
    let is_terminal = std::io::stdout().is_terminal();
    if !is_terminal && !arguments.once {
        return Err(Failure::Usage(
            "standard output is not a terminal; `siplb top --once` prints a snapshot as text"
                .to_owned(),
        ));
    }
    let config = arguments.config.load()?;
    let sources = arguments.files.sources(config.as_ref());
    let node = RunningNode(arguments.socket.path(config.as_ref()));
    let watched = Watched::new(&arguments.limit, arguments.span);
    let asker = Asker::new(node, move || sources.sample(), watched);
    let app = App::new(&arguments.limit, arguments.span);
    let terminal = output.terminal();
    let look = Look {
        colour: terminal.colour && !arguments.once,
        ascii: arguments.ascii,
        zone: TimeZone::system(),
        every_problem: arguments.once && arguments.height.is_none(),
    };
    match arguments.once {
        true => once(arguments, app, asker, &look, output),
        false => screen::run(app, asker, arguments.interval, &look),
    }
}

/// Two samples, so that there are rates, and what the screen would show.
fn once(
    arguments: &TopArgs,
    mut app: App,
    mut asker: Asker<RunningNode>,
    look: &Look,
    output: &Output,
) -> Result<(), Failure> {
    app.take(asker.sample());
    if app.model.picture.silence.is_none() {
        thread::sleep(arguments.interval);
        app.take(asker.sample());
    }
    let picture = &app.model.picture;
    if picture.silence.is_none() && picture.watched().is_none() {
        let names = picture.limits.iter().map(|limit| limit.name.as_str());
        return Err(Failure::Usage(format!(
            "there is no limit {:?}; there are: {}",
            arguments.limit,
            names.collect::<Vec<_>>().join(", ")
        )));
    }
    let width = arguments.width.unwrap_or_else(|| width(&output.terminal()));
    let height = arguments
        .height
        .unwrap_or_else(|| view::full_height(&app, width).min(500));
    output.text(&snapshot(&app, look, width, height))?;
    // What is there is worth showing, but it is a failure.
    match &app.model.picture.silence {
        None => Ok(()),
        Some(silence) => Err(Failure::Failed(silence.error.clone())),
    }
}

fn width(terminal: &Terminal) -> u16 {
    u16::try_from(terminal.width)
        .unwrap_or(u16::MAX)
        .clamp(view::SMALLEST.0, 500)
}

/// The screen as lines of text.
fn snapshot(app: &App, look: &Look, width: u16, height: u16) -> String {
    let mut buffer = Buffer::empty(Rect::new(0, 0, width, height));
    view::draw(app, look, &mut buffer);
    let mut text = String::new();
    for line in buffer.content.chunks(width.into()) {
        let line = line.iter().map(|cell| cell.symbol()).collect::<String>();
        text.push_str(line.trim_end());
        text.push('\n');
    }
    text
}

fn interval(text: &str) -> Result<Duration, String> {
    match text.parse() {
        Ok(seconds) if (0.5..=3600.0).contains(&seconds) => Ok(Duration::from_secs_f64(seconds)),
        _ => Err("write a number of seconds from 0.5 to 3600".to_owned()),
    }
}

#[cfg(test)]
mod tests;
