//! What was measured, as one table.

use std::{collections::BTreeMap, fmt::Write};

/// Benches by name, in the order in which they came.
#[derive(Default)]
pub struct Table {
    rows: Vec<(String, Row)>,
}

#[derive(Clone, Copy, Default)]
struct Row {
    messages: u64,
    bytes: u64,
    nanoseconds: Option<f64>,
    instructions: Option<u64>,
}

impl Table {
    /// Notes the time of one iteration; the least of several runs counts.
    pub fn time(&mut self, name: &str, messages: u64, bytes: u64, nanoseconds: f64) {
        let row = self.row(name, messages, bytes);
        row.nanoseconds = Some(
            row.nanoseconds
                .map_or(nanoseconds, |old| old.min(nanoseconds)),
        );
    }

    /// Notes the instructions of one iteration.
    pub fn instructions(&mut self, name: &str, messages: u64, bytes: u64, instructions: u64) {
        self.row(name, messages, bytes).instructions = Some(instructions);
    }

    /// True when nothing was measured.
    pub fn is_empty(&self) -> bool {
        self.rows.is_empty()
    }

    /// The instructions for one message, by bench.
    pub fn counts(&self) -> BTreeMap<String, u64> {
        let counted = self.rows.iter().filter_map(|(name, row)| {
            let count = row.instructions? / row.messages.max(1);
            Some((name.clone(), count))
        });
        counted.collect()
    }

    fn row(&mut self, name: &str, messages: u64, bytes: u64) -> &mut Row {
        let at = match self.rows.iter().position(|(other, _)| other == name) {
            Some(at) => at,
            None => {
                let row = Row {
                    messages,
                    bytes,
                    ..Row::default()
                };
                self.rows.push((name.to_owned(), row));
                self.rows.len() - 1
            }
        };
        &mut self.rows[at].1
    }

    /// The table as text that is also Markdown: benches of a group together, each figure for one message.
    pub fn text(&self) -> String {
        let mut lines = vec![
            ["bench", "bytes", "ns", "messages/s", "MB/s", "instructions"].map(ToOwned::to_owned),
        ];
        let mut groups: Vec<&str> = Vec::new();
        let mut by_group: BTreeMap<usize, Vec<[String; 6]>> = BTreeMap::new();
        for (name, row) in &self.rows {
            let group = name.split('/').next().unwrap_or_default();
            let at = groups
                .iter()
                .position(|other| *other == group)
                .unwrap_or_else(|| {
                    groups.push(group);
                    groups.len() - 1
                });
            by_group.entry(at).or_default().push(row.cells(name));
        }
        lines.extend(by_group.into_values().flatten());
        let widths: [usize; 6] = std::array::from_fn(|column| {
            lines
                .iter()
                .map(|line| line[column].len())
                .max()
                .unwrap_or(0)
        });
        let mut text = String::new();
        for (number, line) in lines.iter().enumerate() {
            let _ = write!(text, "| {:<1$} |", line[0], widths[0]);
            for (cell, width) in line.iter().zip(widths).skip(1) {
                let _ = write!(text, " {cell:>width$} |");
            }
            text.push('\n');
            if number == 0 {
                let _ = write!(text, "|{:-<1$}|", "", widths[0] + 2);
                for width in &widths[1..] {
                    let _ = write!(text, "{:->1$}:|", "", width + 1);
                }
                text.push('\n');
            }
        }
        text
    }
}

impl Row {
    fn cells(&self, name: &str) -> [String; 6] {
        let messages = self.messages.max(1);
        let absent = || "-".to_owned();
        let each = self.nanoseconds.map(|all| all / messages as f64);
        let bytes = self.bytes as f64 / messages as f64;
        [
            name.to_owned(),
            (self.bytes / messages).to_string(),
            each.map_or_else(absent, |each| {
                if each < 100.0 {
                    format!("{each:.1}")
                } else {
                    format!("{each:.0}")
                }
            }),
            each.map_or_else(absent, |each| grouped((1e9 / each) as u64)),
            each.map_or_else(absent, |each| format!("{:.0}", bytes * 1e3 / each)),
            self.instructions
                .map_or_else(absent, |all| grouped(all / messages)),
        ]
    }
}

/// `1234567` as `1,234,567`.
fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::new();
    for (at, digit) in digits.char_indices() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn figures_are_for_one_message_and_of_the_best_run() {
        let mut table = Table::default();
        table.time("parse/ack", 1, 400, 250.0);
        table.time("calls/forward", 4, 4000, 2000.0);
        table.time("parse/bye", 1, 5, 12.34);
        table.time("parse/ack", 1, 400, 200.0);
        table.time("parse/ack", 1, 400, 300.0);
        table.instructions("parse/ack", 1, 400, 1234);
        table.instructions("calls/forward", 4, 4000, 4_000_008);
        let text = table.text();
        let rows = text
            .lines()
            .map(|line| line.split('|').map(str::trim).collect::<Vec<_>>());
        let rows = rows.collect::<Vec<_>>();
        assert_eq!(
            rows[2][1..7],
            ["parse/ack", "400", "200", "5,000,000", "2000", "1,234"]
        );
        assert_eq!(
            rows[3][1..7],
            ["parse/bye", "5", "12.3", "81,037,277", "405", "-"]
        );
        assert_eq!(
            rows[4][1..7],
            [
                "calls/forward",
                "1000",
                "500",
                "2,000,000",
                "2000",
                "1,000,002"
            ]
        );
        let width = text.lines().next().map(str::len);
        assert!(text.lines().all(|line| Some(line.len()) == width), "{text}");
    }
}
