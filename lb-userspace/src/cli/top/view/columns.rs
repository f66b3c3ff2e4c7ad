//! Rows in columns: the most important ones where there is no room for all.

use ratatui::{
    buffer::Buffer,
    layout::Rect,
    style::{Modifier, Style},
};

use super::clipped;
use crate::cli::output::Align;

/// Blanks between columns.
const GAP: usize = 1;

/// A column with a cell for each row.
#[derive(Debug)]
pub(super) struct Column {
    title: &'static str,
    align: Align,
    /// The lowest stay longest.
    rank: u8,
    /// A column that takes what is left, when that is at least so much; its cells are cut.
    rest: Option<usize>,
    cells: Vec<(String, Style)>,
}

impl Column {
    /// Text from the left.
    pub(super) fn left(title: &'static str, rank: u8) -> Self {
        Self {
            title,
            align: Align::Left,
            rank,
            rest: None,
            cells: Vec::new(),
        }
    }

    /// Numbers.
    pub(super) fn right(title: &'static str, rank: u8) -> Self {
        Self {
            align: Align::Right,
            ..Self::left(title, rank)
        }
    }

    /// Takes what the others leave, if it is `least` or more.
    pub(super) fn rest(title: &'static str, least: usize) -> Self {
        Self {
            rest: Some(least),
            ..Self::left(title, u8::MAX)
        }
    }

    /// The same with these cells.
    pub(super) fn with<S: Into<String>>(mut self, cells: impl Iterator<Item = (S, Style)>) -> Self {
        self.cells = cells.map(|(text, style)| (text.into(), style)).collect();
        self
    }

    fn width(&self) -> usize {
        let cells = self.cells.iter().map(|(text, _)| text.chars().count());
        cells.chain([self.title.chars().count()]).max().unwrap_or(0)
    }
}

/// Rows from `first` on below the titles of their columns; `marked` is one of all rows.
pub(super) fn draw(
    columns: Vec<Column>,
    first: usize,
    marked: Option<(usize, Style)>,
    area: Rect,
    buffer: &mut Buffer,
) {
    let width = usize::from(area.width);
    let columns = fitting(columns, width);
    let mut x = area.x;
    for (column, room) in columns {
        let mut put = |row: u16, text: &str, style: Style| {
            if row < area.height {
                let text = clipped(text, room);
                let text = match column.align {
                    Align::Left => format!("{text:<room$}"),
                    Align::Right => format!("{text:>room$}"),
                };
                buffer.set_string(x, area.y + row, text, style);
            }
        };
        put(0, column.title, Style::new().add_modifier(Modifier::DIM));
        let cells = column.cells.iter().skip(first);
        for (row, (text, style)) in (1..area.height).zip(cells) {
            put(row, text, *style);
        }
        x += (room + GAP) as u16;
    }
    if let Some((marked, style)) = marked
        && let Some(row) = marked.checked_sub(first)
        && row + 1 < usize::from(area.height)
    {
        let line = Rect::new(area.x, area.y + 1 + row as u16, area.width, 1);
        buffer.set_style(line, style);
    }
}

/// The columns that there is room for, each with its width.
fn fitting(mut columns: Vec<Column>, width: usize) -> Vec<(Column, usize)> {
    let fixed = |columns: &[Column]| {
        let fixed = columns.iter().filter(|column| column.rest.is_none());
        fixed.map(|column| column.width() + GAP).sum::<usize>()
    };
    while fixed(&columns) > width + GAP {
        let of_one_width = columns.iter().enumerate();
        let of_one_width = of_one_width.filter(|(_, column)| column.rest.is_none());
        let last_one = of_one_width.clone().count() == 1;
        match of_one_width.max_by_key(|(_, column)| column.rank) {
            Some((place, _)) if !last_one => drop(columns.remove(place)),
            _ => break,
        }
    }
    let left = width.saturating_sub(fixed(&columns));
    let columns = columns.into_iter().filter_map(|column| match column.rest {
        None => {
            let room = column.width().min(width);
            Some((column, room))
        }
        Some(least) => (left >= least.min(column.width())).then_some((column, left)),
    });
    columns.collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn column(title: &'static str, rank: u8, cell: &str) -> Column {
        Column::left(title, rank).with(std::iter::once((cell, Style::new())))
    }

    fn titles(width: usize) -> Vec<(&'static str, usize)> {
        let columns = vec![
            column("name", 0, "sw1"),
            column("address", 2, "10.0.0.11:5060"),
            column("state", 1, "active"),
            Column::rest("why", 10).with(std::iter::once(("a long reason", Style::new()))),
        ];
        let columns = fitting(columns, width);
        let columns = columns
            .into_iter()
            .map(|(column, room)| (column.title, room));
        columns.collect()
    }

    #[test]
    fn the_most_important_columns_stay() {
        let all = [("name", 4), ("address", 14), ("state", 6)];
        assert_eq!(titles(60)[..3], all);
        assert_eq!(titles(60)[3], ("why", 60 - 27));
        assert_eq!(titles(26), all);
        assert_eq!(titles(25), [("name", 4), ("state", 6), ("why", 13)]);
        assert_eq!(titles(11), [("name", 4), ("state", 6)]);
        assert_eq!(titles(10), [("name", 4)]);
        assert_eq!(titles(2), [("name", 2)]);
    }
}
