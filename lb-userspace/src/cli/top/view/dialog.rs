//! What lies over the screen: help, the choice of a limit, questions, refusals.

use ratatui::{
    buffer::Buffer,
    layout::Rect,
    style::Style,
    text::{Line, Text},
    widgets::{Block, Clear, Widget},
};

use super::{
    BAD, MARKED, NOTE, RULE, TITLE,
    columns::{self, Column},
};
use crate::cli::{
    output::grouped,
    top::app::{App, Dialog, HELP},
};

/// Columns of a dialog with sentences.
const WIDTH: u16 = 56;

pub(super) fn draw(app: &App, buffer: &mut Buffer) {
    match &app.dialog {
        None => {}
        Some(Dialog::Help(scroll)) => help(*scroll, buffer),
        Some(Dialog::Limits(place)) => limits(app, *place, buffer),
        Some(Dialog::Confirm(change)) => {
            let (title, consequence) = change.question(app.picture());
            sentences(&title, &consequence, "y yes   n no", NOTE, buffer);
        }
        Some(Dialog::Refused(text)) => {
            sentences("The node did not do it", text, "Enter close", BAD, buffer);
        }
    }
}

/// An empty box in the middle, and what is inside.
fn frame(
    title: &str,
    keys: &str,
    width: u16,
    height: u16,
    style: Style,
    buffer: &mut Buffer,
) -> Rect {
    let area = buffer.area;
    let (width, height) = ((width + 4).min(area.width), (height + 2).min(area.height));
    let place = Rect::new(
        area.x + (area.width - width) / 2,
        // High enough to leave the backends in sight.
        area.y + (area.height - height) / 3,
        width,
        height,
    );
    Clear.render(place, buffer);
    let block = Block::bordered()
        .border_style(style)
        .title_top(Line::styled(format!(" {title} "), TITLE))
        .title_bottom(Line::styled(format!(" {keys} "), TITLE).right_aligned());
    let inside = block.inner(place);
    block.render(place, buffer);
    Rect {
        x: inside.x + 1,
        width: inside.width.saturating_sub(2),
        ..inside
    }
}

fn sentences(title: &str, text: &str, keys: &str, style: Style, buffer: &mut Buffer) {
    let width = WIDTH
        .max(title.chars().count() as u16 + 2)
        .min(buffer.area.width - 4);
    let text = Text::from(wrapped(text, width.into()));
    let height = u16::try_from(text.height()).unwrap_or(u16::MAX - 2);
    let place = frame(title, keys, width, height, style, buffer);
    text.render(place, buffer);
}

/// Lines that end between words; longer words are cut.
fn wrapped(text: &str, width: usize) -> String {
    let mut lines = vec![String::new()];
    for word in text.split_whitespace() {
        let word = word.chars().collect::<Vec<_>>();
        for part in word.chunks(width.max(1)) {
            let part = part.iter().collect::<String>();
            let line = lines.last_mut().expect("one from the start");
            let used = line.chars().count();
            if used > 0 && used + 1 + part.chars().count() > width {
                lines.push(part);
            } else {
                if used > 0 {
                    line.push(' ');
                }
                line.push_str(&part);
            }
        }
    }
    lines.join("\n")
}

fn help(scroll: usize, buffer: &mut Buffer) {
    let lines = HELP.lines().count();
    let place = frame(
        "Help",
        "j k scroll   Esc close",
        52,
        lines as u16,
        RULE,
        buffer,
    );
    let scroll = scroll.min(lines.saturating_sub(place.height.into()));
    let shown = HELP.lines().skip(scroll).collect::<Vec<_>>().join("\n");
    Text::from(shown).render(place, buffer);
}

fn limits(app: &App, marked: usize, buffer: &mut Buffer) {
    let rows = &app.picture().limits;
    let names = rows.iter().map(|row| row.name.chars().count());
    let width = names.max().unwrap_or(0).clamp(20, 60) as u16 + 36;
    let height = u16::try_from(rows.len() + 1).unwrap_or(u16::MAX - 2);
    let place = frame(
        "Limits",
        "Enter watch   Esc close",
        width,
        height,
        RULE,
        buffer,
    );
    let plain = Style::new();
    let cps = |cps: Option<u32>| cps.map_or("-".to_owned(), |cps| grouped(cps.into()));
    let all = vec![
        Column::left("limit", 0).with(rows.iter().map(|row| (row.name.as_str(), TITLE))),
        Column::right("calls/s", 1).with(rows.iter().map(|row| (cps(row.cps), plain))),
        Column::right("accepted", 3).with(rows.iter().map(|row| (grouped(row.accepted), plain))),
        Column::right("refused", 2).with(rows.iter().map(|row| (grouped(row.breached), plain))),
    ];
    let shown = usize::from(place.height.saturating_sub(1));
    let first = marked.saturating_sub(shown / 2);
    let first = first.min(rows.len().saturating_sub(shown));
    columns::draw(all, first, Some((marked, MARKED)), place, buffer);
}
