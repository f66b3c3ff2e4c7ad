//! Text on a terminal or elsewhere: columns, numbers, colours.

use std::{
    cell::Cell,
    io::{self, IsTerminal, Write},
    time::Duration,
};

use super::Failure;

/// Where text goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Terminal {
    /// Columns.
    pub(super) width: usize,
    /// Lines; `None` when it is not a terminal.
    pub(super) height: Option<usize>,
    /// Whether escape sequences for colours are wanted.
    pub(super) colour: bool,
}

impl Terminal {
    /// Width where there is no terminal to ask.
    const WIDTH: usize = 80;

    /// Standard output. `COLUMNS` tells the width where it is no terminal; `NO_COLOR` switches colours off
    /// (no-color.org).
    pub(super) fn of_this_process() -> Self {
        let columns = std::env::var("COLUMNS")
            .ok()
            .and_then(|text| text.parse().ok());
        let is_terminal = io::stdout().is_terminal();
        let size = is_terminal
            .then(|| terminal_size::terminal_size_of(io::stdout()))
            .flatten();
        Self {
            width: size
                .map(|(width, _)| usize::from(width.0))
                .or(columns)
                .filter(|&width| width > 0)
                .unwrap_or(Self::WIDTH),
            height: size.map(|(_, height)| usize::from(height.0)),
            colour: is_terminal && Self::wants_colour(),
        }
    }

    /// Standard error, for remarks.
    pub(super) fn of_stderr() -> Self {
        Self {
            width: Self::WIDTH,
            height: None,
            colour: io::stderr().is_terminal() && Self::wants_colour(),
        }
    }

    fn wants_colour() -> bool {
        std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty())
            && std::env::var_os("TERM").is_none_or(|term| term != "dumb")
    }

    /// Text that stands out.
    pub(super) fn bold(&self, text: &str) -> String {
        self.escape("1", text)
    }

    /// Text that is wrong.
    pub(super) fn red(&self, text: &str) -> String {
        self.escape("31", text)
    }

    /// Text that is new.
    pub(super) fn green(&self, text: &str) -> String {
        self.escape("32", text)
    }

    fn escape(&self, code: &str, text: &str) -> String {
        if self.colour {
            format!("\x1b[{code}m{text}\x1b[0m")
        } else {
            text.to_owned()
        }
    }
}

/// Standard output, which may be closed by whoever reads it.
#[derive(Debug)]
pub(super) struct Output {
    terminal: Terminal,
    closed: Cell<bool>,
}

impl Output {
    pub(super) fn new(terminal: Terminal) -> Self {
        Self {
            terminal,
            closed: Cell::new(false),
        }
    }

    pub(super) fn terminal(&self) -> Terminal {
        self.terminal
    }

    /// Whether the last writing failed because nobody reads any more.
    pub(super) fn is_closed(&self) -> bool {
        self.closed.get()
    }

    pub(super) fn text(&self, text: &str) -> Result<(), Failure> {
        let mut stdout = io::stdout().lock();
        let result = stdout
            .write_all(text.as_bytes())
            .and_then(|()| stdout.flush());
        result.map_err(|error| {
            self.closed.set(error.kind() == io::ErrorKind::BrokenPipe);
            Failure::Failed(format!("standard output: {error}"))
        })
    }

    /// JSON for people when it is asked for once, on one line when it comes again and again.
    pub(super) fn json(
        &self,
        value: &impl serde::Serialize,
        one_line: bool,
    ) -> Result<(), Failure> {
        let text = if one_line {
            serde_json::to_string(value)
        } else {
            serde_json::to_string_pretty(value)
        };
        let text = text.map_err(|error| Failure::Failed(error.to_string()))?;
        self.text(&format!("{text}\n"))
    }
}

/// Which side of a column its cells keep to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Align {
    Left,
    Right,
}

/// Cells in aligned columns, two blanks apart.
#[derive(Debug)]
pub(super) struct Grid {
    columns: Vec<Align>,
    rows: Vec<Vec<String>>,
}

impl Grid {
    pub(super) fn new(columns: &[Align]) -> Self {
        Self {
            columns: columns.to_vec(),
            rows: Vec::new(),
        }
    }

    pub(super) fn row<S: Into<String>>(&mut self, cells: impl IntoIterator<Item = S>) {
        self.rows.push(cells.into_iter().map(Into::into).collect());
    }

    /// All rows, each behind `indent` and with a line end; no blanks at the end of lines.
    pub(super) fn render(&self, indent: &str) -> String {
        let widths = (0..self.columns.len()).map(|column| {
            let cells = self.rows.iter().filter_map(|row| row.get(column));
            cells.map(|cell| cell.chars().count()).max().unwrap_or(0)
        });
        let widths = widths.collect::<Vec<_>>();
        let mut text = String::new();
        for row in &self.rows {
            let cells = row.iter().zip(&self.columns).zip(&widths);
            let cells = cells.map(|((cell, align), &width)| match align {
                Align::Left => format!("{cell:<width$}"),
                Align::Right => format!("{cell:>width$}"),
            });
            let line = format!("{indent}{}", cells.collect::<Vec<_>>().join("  "));
            text.push_str(line.trim_end());
            text.push('\n');
        }
        text
    }
}

/// `1234567` as `1,234,567`.
pub(super) fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::with_capacity(digits.len() + digits.len() / 3);
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// `1 message`, `1,234 messages`.
pub(super) fn messages(number: u64) -> String {
    match number {
        1 => "1 message".to_owned(),
        number => format!("{} messages", grouped(number)),
    }
}

/// Part of a whole in percent, one decimal; empty when there is no whole.
pub(super) fn percent(part: u64, whole: u64) -> String {
    if whole == 0 {
        return String::new();
    }
    format!("{:.1} %", 100.0 * part as f64 / whole as f64)
}

/// A time span in its two largest units: `3 min 5 s`.
pub(super) fn span(span: Duration) -> String {
    let seconds = span.as_secs();
    let (days, hours, minutes) = (seconds / 86_400, seconds / 3600 % 24, seconds / 60 % 60);
    match (days, hours, minutes) {
        (0, 0, 0) => format!("{seconds} s"),
        (0, 0, _) => format!("{minutes} min {} s", seconds % 60),
        (0, _, _) => format!("{hours} h {minutes} min"),
        _ => format!("{days} d {hours} h"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_grouped() {
        let cases = [
            (0, "0"),
            (999, "999"),
            (1_000, "1,000"),
            (65_536, "65,536"),
            (1_234_567, "1,234,567"),
            (u64::MAX, "18,446,744,073,709,551,615"),
        ];
        for (number, text) in cases {
            assert_eq!(grouped(number), text);
        }
    }

    #[test]
    fn spans_have_two_units() {
        let cases = [
            (0, "0 s"),
            (59, "59 s"),
            (60, "1 min 0 s"),
            (3_599, "59 min 59 s"),
            (3_600, "1 h 0 min"),
            (90_061, "1 d 1 h"),
        ];
        for (seconds, text) in cases {
            assert_eq!(span(Duration::from_secs(seconds)), text);
        }
    }

    #[test]
    fn columns_are_aligned() {
        let mut grid = Grid::new(&[Align::Left, Align::Right, Align::Left]);
        grid.row(["backend", "slots", ""]);
        grid.row(["sw1", "1,234", "x"]);
        assert_eq!(grid.render("  "), "  backend  slots\n  sw1      1,234  x\n");
    }

    #[test]
    fn colours_only_where_they_are_wanted() {
        let mut terminal = Terminal {
            width: 80,
            height: None,
            colour: false,
        };
        assert_eq!(terminal.red("x"), "x");
        terminal.colour = true;
        assert_eq!(terminal.red("x"), "\x1b[31mx\x1b[0m");
    }
}
