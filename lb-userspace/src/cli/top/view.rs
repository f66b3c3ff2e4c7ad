//! State in, cells out: the same for a terminal, for `--once` and for tests.

mod columns;
mod dialog;
mod graph;
mod head;
mod panes;

use jiff::{Timestamp, tz::TimeZone};
use ratatui::{
    buffer::Buffer,
    layout::Rect,
    style::{Color, Modifier, Style},
    text::{Line, Span as Text},
    widgets::Widget,
};

use super::app::{App, Pane};

/// The least that has room for something useful.
pub(super) const SMALLEST: (u16, u16) = (60, 15);
/// Lines of a pane besides its rows: title and names of columns.
const PANE_HEAD: u16 = 2;
/// Width from which drops and queues stand side by side.
const SIDE_BY_SIDE: u16 = 80;
/// Rows of a graph that are enough, and rows of one where there is room.
const USUAL_PLOT: u16 = 10;
const MOST_PLOT: u16 = 16;
/// Lines for problems on a terminal.
const MOST_PROBLEMS: u16 = 5;
/// Rows of drops that there is room for even when there are fewer: the graphs do not jump when one more comes.
const USUAL_DROPS: usize = 4;

/// How it is to look.
#[derive(Clone, Debug)]
pub(super) struct Look {
    /// Without it nothing is told by colour alone.
    pub(super) colour: bool,
    /// Nothing but ASCII.
    pub(super) ascii: bool,
    /// For times of day.
    pub(super) zone: TimeZone,
    /// A line for every problem: there is no later look.
    pub(super) every_problem: bool,
}

const TITLE: Style = Style::new().add_modifier(Modifier::BOLD);
const BAD: Style = Style::new().fg(Color::Red).add_modifier(Modifier::BOLD);
const NOTE: Style = Style::new().fg(Color::Yellow);
const GOOD: Style = Style::new().fg(Color::Green);
const RULE: Style = Style::new().fg(Color::Blue);
const MARKED: Style = Style::new().add_modifier(Modifier::REVERSED);

/// Draws everything.
pub(super) fn draw(app: &App, look: &Look, buffer: &mut Buffer) {
    let area = buffer.area;
    if area.width < SMALLEST.0 || area.height < SMALLEST.1 {
        too_small(buffer);
    } else {
        draw_panes(app, look, buffer);
        dialog::draw(app, buffer);
    }
    for cell in &mut buffer.content {
        if !look.colour {
            let style = cell.style();
            cell.set_style(style.fg(Color::Reset).bg(Color::Reset));
        }
        if look.ascii && !cell.symbol().is_ascii() {
            let plain = ascii(cell.symbol());
            cell.set_char(plain);
        }
    }
}

/// Lines that are needed for all rows at this width.
pub(super) fn full_height(app: &App, width: u16) -> u16 {
    let problems = problem_lines(app, u16::MAX);
    let panes = Needs::of(app);
    let below = match width >= SIDE_BY_SIDE {
        true => panes.drops.max(panes.queues),
        false => panes.drops.saturating_add(panes.queues),
    };
    let fixed = 2 + 3 + USUAL_PLOT + 1;
    [problems, panes.backends, below]
        .into_iter()
        .fold(fixed, u16::saturating_add)
}

fn too_small(buffer: &mut Buffer) {
    let area = buffer.area;
    let text = format!(
        "too small: {}x{}, at least {}x{}",
        area.width, area.height, SMALLEST.0, SMALLEST.1
    );
    let middle = area.y + area.height / 2;
    if area.height > 0 {
        let line = Rect::new(area.x, middle, area.width, 1);
        Line::from(text).centered().render(line, buffer);
    }
}

/// Lines for problems: one also when there is none.
fn problem_lines(app: &App, most: u16) -> u16 {
    let problems = app.picture().problems.len();
    u16::try_from(problems).unwrap_or(u16::MAX).clamp(1, most)
}

/// Lines that each pane has something for.
struct Needs {
    backends: u16,
    drops: u16,
    queues: u16,
}

impl Needs {
    fn of(app: &App) -> Self {
        let picture = app.picture();
        let lines = |rows: usize| u16::try_from(rows.max(1)).unwrap_or(u16::MAX - 8) + PANE_HEAD;
        Self {
            backends: lines(picture.backends.len()),
            drops: lines(picture.drops.len().max(USUAL_DROPS)),
            queues: lines(picture.queues.len()),
        }
    }
}

fn draw_panes(app: &App, look: &Look, buffer: &mut Buffer) {
    let Rect {
        x,
        y,
        width,
        height,
    } = buffer.area;
    let rows = |from: u16, count: u16| Rect::new(x, y + from, width, count);
    // Two lines and the problems; the graphs' rule, title and times; the keys.
    let problems = match look.every_problem {
        true => problem_lines(app, (height - SMALLEST.1).max(1)),
        // Their number says nothing, so that the rest stays where it is.
        false => (1 + height.saturating_sub(24) / 8).min(MOST_PROBLEMS),
    };
    let fixed = 2 + problems + 3 + 1;
    let needs = Needs::of(app);
    let is_side_by_side = width >= SIDE_BY_SIDE && height >= 20;
    let below = match is_side_by_side {
        true => needs.drops.max(needs.queues),
        false => needs.drops.saturating_add(needs.queues),
    };
    // A third for the graphs, and what the panes do not need.
    let spare = (height - fixed).saturating_sub(needs.backends.saturating_add(below));
    let third = ((height - 6) / 3).min(USUAL_PLOT);
    let plot = third.max(spare).clamp(3, MOST_PLOT);

    head::draw(app, look, rows(0, 2 + problems), buffer);
    let graphs = rows(2 + problems, 3 + plot);
    graph::draw(app, look, graphs, buffer);
    let rest = rows(graphs.bottom() - y, height - fixed - plot);
    if is_side_by_side {
        let (top, bottom) = share(rest.height, needs.backends, below, app.pane);
        let above = Rect::new(x, rest.y, width, top);
        panes::backends(app, above, buffer);
        // Queues have more columns.
        let left = (width * 9 / 20).max(38);
        let below = Rect::new(x, rest.y + top, left, bottom);
        panes::drops(app, below, buffer);
        let below = Rect::new(x + left + 1, rest.y + top, width - left - 1, bottom);
        panes::queues(app, below, buffer);
    } else {
        match app.pane {
            Pane::Backends => panes::backends(app, rest, buffer),
            Pane::Drops => panes::drops(app, rest, buffer),
            Pane::Queues => panes::queues(app, rest, buffer),
        }
    }
    head::keys(app, rows(height - 1, 1), buffer);
}

/// Lines of the backends' pane and of those below it: what each needs, and where that is too much, most for the pane that
/// the operator is in.
fn share(all: u16, backends: u16, below: u16, pane: Pane) -> (u16, u16) {
    let least = PANE_HEAD + 2;
    let top = if backends.saturating_add(below) <= all {
        // The rest stays empty at the end.
        backends
    } else if pane == Pane::Backends {
        backends.min(all.saturating_sub(least.min(below)))
    } else {
        let wanted = all.saturating_sub(below);
        wanted.max(least.min(backends))
    };
    (top, all - top)
}

/// `── Title ───────── right ──`
fn rule(title: &str, right: &str, is_chosen: bool, area: Rect, buffer: &mut Buffer) {
    let width = usize::from(area.width);
    let mark = if is_chosen { "▶" } else { " " };
    let style = if is_chosen {
        TITLE.add_modifier(Modifier::REVERSED)
    } else {
        TITLE
    };
    let right = match right {
        "" => String::new(),
        right => format!(" {right} ─"),
    };
    let room = width.saturating_sub(right.chars().count() + 6);
    let title = clipped(title, room);
    let used = 1 + 2 + title.chars().count() + right.chars().count();
    let line = Line::from(vec![
        Text::styled("─", RULE),
        Text::styled(format!("{mark}{title} "), style),
        Text::styled("─".repeat(width.saturating_sub(used)), RULE),
        Text::styled(right, RULE),
    ]);
    line.render(Rect { height: 1, ..area }, buffer);
}

/// At most `room` characters, and a mark where some are missing.
fn clipped(text: &str, room: usize) -> String {
    if text.chars().count() <= room {
        return text.to_owned();
    }
    let kept = text.chars().take(room.saturating_sub(1));
    kept.chain((room > 0).then_some('…')).collect()
}

/// Pieces, as many from the first one on as there is room for, `gap` blanks apart.
fn fitting<'a>(pieces: Vec<Text<'a>>, gap: usize, room: usize) -> Vec<Text<'a>> {
    let mut line = Vec::new();
    let mut used = 0;
    for piece in pieces.into_iter().filter(|piece| !piece.content.is_empty()) {
        let before = if line.is_empty() { 0 } else { gap };
        let width = piece.width();
        if used + before + width > room {
            break;
        }
        line.push(Text::raw(" ".repeat(before)));
        line.push(piece);
        used += before + width;
    }
    line
}

/// A time of day, or a date, as `strftime` has it.
fn time_of_day(time_s: u64, format: &str, look: &Look) -> String {
    let time = Timestamp::from_second(i64::try_from(time_s).unwrap_or(0)).unwrap_or_default();
    time.to_zoned(look.zone.clone())
        .strftime(format)
        .to_string()
}

/// What stands for a character where there is nothing but ASCII.
fn ascii(symbol: &str) -> char {
    let Some(c) = symbol.chars().next() else {
        return ' ';
    };
    match c {
        '─' => '-',
        '│' => '|',
        '┌' | '┐' | '└' | '┘' | '┤' | '├' | '┼' => '+',
        '▶' => '>',
        '…' => '~',
        '\u{2800}'..='\u{28ff}' => graph::ascii(c),
        _ => '?',
    }
}
