//! The two graphs: calls per second, and those that were refused.

use ratatui::{
    buffer::Buffer,
    layout::Rect,
    style::{Color, Style},
    symbols::Marker,
    text::{Line, Span as Text},
    widgets::{
        Widget,
        canvas::{Canvas, Points},
    },
};

use super::{BAD, Look, NOTE, RULE, TITLE, fitting, rule, time_of_day};
use crate::cli::{
    output::grouped,
    top::{
        app::App,
        series::{Columns, Span},
    },
};

/// Columns of numbers and the line beside them.
const AXIS: u16 = 6;
/// Dots of braille in a cell.
const DOTS: (u16, u16) = (2, 4);

/// Which of the two.
#[derive(Clone, Copy)]
enum Kind {
    Accepted = 0,
    Breached = 1,
}

impl Kind {
    fn name(self) -> &'static str {
        match self {
            Self::Accepted => "CPS",
            Self::Breached => "CPS breach",
        }
    }

    fn colour(self) -> Color {
        match self {
            Self::Accepted => Color::Green,
            Self::Breached => Color::Red,
        }
    }
}

/// Rule, titles, graphs and times.
pub(super) fn draw(app: &App, look: &Look, area: Rect, buffer: &mut Buffer) {
    let picture = app.picture();
    let title = match (picture.watched(), picture.status.is_some()) {
        (Some(limit), _) => match limit.cps {
            Some(cps) => format!("Limit {}: {} calls/s", limit.name, grouped(cps.into())),
            None => format!("Calls of {}, without a limit", limit.name),
        },
        (None, true) => format!("Limit {} is not there: l chooses another", picture.limit),
        (None, false) => "Calls".to_owned(),
    };
    let paused = if app.is_paused() { "PAUSED " } else { "" };
    let right = format!("{paused}{}", app.span.name());
    rule(&title, &right, false, area, buffer);

    let half = (area.width - 1) / 2;
    let plot_width = half - AXIS;
    let columns = picture
        .past
        .columns(app.span, usize::from(plot_width * DOTS.0), picture.end_s());
    let limit = picture.watched().and_then(|limit| limit.cps);
    let newest = picture.newest_of_watched();
    for (kind, x) in [
        (Kind::Accepted, area.x),
        (Kind::Breached, area.x + half + 1),
    ] {
        let place = Rect::new(x, area.y + 1, half, area.height - 1);
        let title = fitting(titles(kind, &columns, newest), 2, place.width.into());
        Line::from(title).render(Rect { height: 1, ..place }, buffer);
        one(kind, &columns, limit, app.span, look, place, buffer);
    }
}

fn one(
    kind: Kind,
    columns: &Columns,
    limit: Option<u32>,
    span: Span,
    look: &Look,
    area: Rect,
    buffer: &mut Buffer,
) {
    let part = kind as usize;
    let plot = Rect::new(
        area.x + AXIS,
        area.y + 1,
        area.width - AXIS,
        area.height - 2,
    );
    let values = columns
        .values
        .iter()
        .map(|value| value.map(|value| value[part]));
    let values = values.collect::<Vec<_>>();
    let limit = limit.filter(|_| matches!(kind, Kind::Accepted));
    let parts = if plot.height >= 9 { 4 } else { 2 };
    let top = top(columns.most[part], limit, parts);
    axis(plot, top, parts, buffer);
    curve(kind.colour(), &values, limit, top, plot, buffer);
    times(columns, span, look, plot, buffer);
}

/// The name, and numbers that the graph cannot tell exactly.
fn titles(kind: Kind, columns: &Columns, newest: Option<[u32; 2]>) -> Vec<Text<'static>> {
    let part = kind as usize;
    let number = |number: f64| match number {
        number if number > 0.0 && number < 100.0 => format!("{number:.1}"),
        number => grouped(number.round() as u64),
    };
    let now = newest.map_or("-".to_owned(), |newest| grouped(newest[part].into()));
    let most = grouped(columns.most[part].ceil() as u64);
    let style = match (kind, columns.most[part] > 0.0) {
        (Kind::Breached, true) => BAD,
        _ => TITLE,
    };
    vec![
        Text::styled(format!("{} {now}", kind.name()), style),
        Text::raw(format!("mean {}", number(columns.mean[part]))),
        Text::raw(format!("most {most}")),
    ]
}

/// The highest number of the axis: one that `parts` divides well, not below what there is. The limit is on the graph unless
/// that would make what there is too small to read.
fn top(most: f64, limit: Option<u32>, parts: u32) -> f64 {
    let mut highest = most;
    if let Some(limit) = limit.map(f64::from)
        && limit <= 4.0 * most.max(1.0)
    {
        highest = highest.max(limit);
    }
    if limit.is_some() {
        // Room above a line at the limit.
        highest *= 1.001;
    }
    let parts = f64::from(parts);
    let mut power = 1.0;
    loop {
        let steps = [1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 8.0].map(|factor| factor * power);
        if let Some(step) = steps.into_iter().find(|step| step * parts >= highest) {
            return step * parts;
        }
        power *= 10.0;
    }
}

/// Numbers at the left, and a line.
fn axis(plot: Rect, top: f64, parts: u32, buffer: &mut Buffer) {
    let x = plot.x - AXIS;
    for row in 0..plot.height {
        buffer.set_string(plot.x - 1, plot.y + row, "│", RULE);
    }
    let last = f64::from(plot.height - 1);
    for part in 0..=parts {
        let share = f64::from(part) / f64::from(parts);
        let row = ((1.0 - share) * last).round() as u16;
        let label = format!("{:>5}", short(share * top));
        buffer.set_string(x, plot.y + row, label, Style::new());
        buffer.set_string(plot.x - 1, plot.y + row, "┤", RULE);
    }
}

/// A number in at most five characters.
fn short(number: f64) -> String {
    match number {
        n if n < 10_000.0 => grouped(n.round() as u64),
        n if n < 100_000.0 => format!("{:.1}k", n / 1e3),
        n if n < 1e6 => format!("{:.0}k", n / 1e3),
        n if n < 1e8 => format!("{:.1}M", n / 1e6),
        n => format!("{:.0}M", n / 1e6),
    }
}

/// A bar of dots for each column; a lowest dot where there was nothing, and none where nothing is known.
fn curve(
    colour: Color,
    values: &[Option<f64>],
    limit: Option<u32>,
    top: f64,
    plot: Rect,
    buffer: &mut Buffer,
) {
    let dots = [plot.width * DOTS.0, plot.height * DOTS.1].map(f64::from);
    // Whatever is not 0 is at least one dot above the line of 0.
    let height = |value: f64| match value {
        value if value <= 0.0 => 1.0,
        value => 1.0 + ((value / top) * (dots[1] - 1.0)).ceil().max(1.0),
    };
    let mut bars = Vec::new();
    for (x, value) in values.iter().enumerate() {
        let Some(value) = value else { continue };
        let high = height(*value).min(dots[1]) as u32;
        bars.extend((0..high).map(|y| (x as f64, f64::from(y))));
    }
    let line = limit.map(f64::from).filter(|limit| *limit <= top);
    let line = line.map(|limit| {
        let y = height(limit).min(dots[1]) - 1.0;
        // Every other dot, so that it is no bar.
        let xs = (0..plot.width * DOTS.0).step_by(2);
        xs.map(|x| (f64::from(x), y)).collect::<Vec<_>>()
    });
    Canvas::default()
        .marker(Marker::Braille)
        .x_bounds([0.0, dots[0] - 1.0])
        .y_bounds([0.0, dots[1] - 1.0])
        .paint(|canvas| {
            canvas.draw(&Points::new(&bars, colour));
            if let Some(line) = &line {
                canvas.draw(&Points::new(line, NOTE.fg.unwrap_or(Color::Yellow)));
            }
        })
        .render(plot, buffer);
}

/// When the graph begins and ends, and times between where there is room.
fn times(columns: &Columns, span: Span, look: &Look, plot: Rect, buffer: &mut Buffer) {
    let format = match span {
        Span::Minute | Span::TenMinutes => "%H:%M:%S",
        Span::Hour | Span::Day => "%H:%M",
        Span::Month => "%d %b",
    };
    let y = plot.bottom();
    buffer.set_string(plot.x - 1, y, "└", RULE);
    buffer.set_string(plot.x, y, "─".repeat(plot.width.into()), RULE);
    let width = time_of_day(0, format, look).chars().count() as u16;
    let count = ((plot.width + 4) / (width + 4)).clamp(2, 6);
    for place in 0..count {
        let part = f64::from(place) / f64::from(count - 1);
        let length_s = columns.to_s - columns.from_s;
        let time_s = columns.from_s + (part * length_s as f64).round() as u64;
        let text = time_of_day(time_s, format, look);
        let middle = part * f64::from(plot.width);
        let x = (middle - part * f64::from(width)).round() as u16;
        buffer.set_string(plot.x + x, y, text, Style::reset());
    }
}

/// What stands for a cell of braille: the higher the bar in it, the more ink; a dash where there is a limit alone.
pub(super) fn ascii(braille: char) -> char {
    // Dots of a row from the lowest one up, see the Unicode block "Braille Patterns".
    const ROWS: [u32; 4] = [0xc0, 0x24, 0x12, 0x09];
    let dots = braille as u32 & 0xff;
    let highest = ROWS.iter().rposition(|row| dots & row != 0);
    match highest {
        None => ' ',
        Some(_) if dots & ROWS[0] == 0 => '-',
        Some(0) => '.',
        Some(1) => ':',
        Some(2) => '|',
        Some(_) => '#',
    }
}
