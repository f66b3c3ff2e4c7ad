//! What was measured, in the middle of all rounds: as a table, as JSON, as a picture.

use std::{collections::BTreeMap, fmt::Write};

use anyhow::Result;
use lb_common::wire::Template;
use serde::Serialize;

use crate::{
    measure::{Latency, Rate},
    messages::Kind,
};

/// Who the others are compared with.
const BARE: &str = "bare";

/// All figures of a run.
#[derive(Default)]
pub struct Report {
    /// In the order in which they had their first turn.
    names: Vec<String>,
    rates: BTreeMap<(String, &'static str), Vec<Rate>>,
    latencies: BTreeMap<String, Vec<Latency>>,
    templates: BTreeMap<&'static str, Vec<Template>>,
    /// Nanoseconds that the XDP program takes for a frame, by outcome.
    pub xdp: Vec<(&'static str, u32)>,
}

/// A contender and a kind of messages, in JSON.
#[derive(Serialize)]
struct Row<'a> {
    contender: &'a str,
    messages: &'static str,
    /// The round in the middle.
    median: Rate,
    /// The slowest and the fastest round.
    least_per_second: f64,
    most_per_second: f64,
    /// Part of what the bare forwarder did.
    of_bare: Option<f64>,
    rounds: &'a [Rate],
}

/// What JSON has.
#[derive(Serialize)]
struct Json<'a> {
    rates: Vec<Row<'a>>,
    latencies_us: BTreeMap<&'a str, Latency>,
    xdp_ns: BTreeMap<&'static str, u32>,
}

impl Report {
    /// Notes a rate.
    pub fn add(&mut self, contender: &str, kind: Kind, rate: Rate) {
        if !self.names.iter().any(|name| name == contender) {
            self.names.push(contender.to_owned());
        }
        let key = (contender.to_owned(), kind.name());
        self.rates.entry(key).or_default().push(rate);
    }

    /// Notes how long messages took.
    pub fn add_latency(&mut self, contender: &str, latency: Latency) {
        let all = self.latencies.entry(contender.to_owned()).or_default();
        all.push(latency);
    }

    /// Keeps the frames of a kind for those who cannot make their own.
    pub fn keep(&mut self, kind: Kind, templates: Vec<Template>) {
        self.templates.insert(kind.name(), templates);
    }

    /// The frames that were kept last.
    pub fn templates(&self, kind: Kind) -> Option<Vec<Template>> {
        self.templates.get(kind.name()).cloned()
    }

    fn rates(&self, contender: &str, kind: Kind) -> Option<&[Rate]> {
        let key = (contender.to_owned(), kind.name());
        self.rates.get(&key).map(Vec::as_slice)
    }

    fn median(&self, contender: &str, kind: Kind) -> Option<Rate> {
        let mut rates = self.rates(contender, kind)?.to_vec();
        rates.sort_by(|one, other| one.per_second.total_cmp(&other.per_second));
        rates.get(rates.len() / 2).copied()
    }

    fn of_bare(&self, contender: &str, kind: Kind) -> Option<f64> {
        let bare = self.median(BARE, kind)?.per_second;
        Some(self.median(contender, kind)?.per_second / bare)
    }

    fn latency(&self, contender: &str) -> Option<Latency> {
        let mut latencies = self.latencies.get(contender)?.clone();
        latencies.sort_by(|one, other| one.p99.total_cmp(&other.p99));
        latencies.get(latencies.len() / 2).copied()
    }

    fn rows(&self) -> Vec<Row<'_>> {
        let mut rows = Vec::new();
        for kind in Kind::ALL {
            for name in &self.names {
                let (Some(rounds), Some(median)) =
                    (self.rates(name, kind), self.median(name, kind))
                else {
                    continue;
                };
                let rates = rounds.iter().map(|rate| rate.per_second);
                rows.push(Row {
                    contender: name,
                    messages: kind.name(),
                    median,
                    least_per_second: rates.clone().fold(f64::INFINITY, f64::min),
                    most_per_second: rates.fold(0.0, f64::max),
                    of_bare: self.of_bare(name, kind),
                    rounds,
                });
            }
        }
        rows
    }

    /// Tables for people.
    pub fn text(&self) -> String {
        let mut text = String::new();
        // Writing to a string does not fail.
        let _ = writeln!(
            text,
            "\n{:<14} {:<8} {:>10} {:>21} {:>8} {:>8} {:>8}\n{:<14} {:<8} {:>10} {:>21} {:>8} {:>8} {:>8}",
            "",
            "messages",
            "a second",
            "slowest .. fastest",
            "of bare",
            "user ns",
            "sys ns",
            "-".repeat(14),
            "-".repeat(8),
            "-".repeat(10),
            "-".repeat(21),
            "-".repeat(8),
            "-".repeat(8),
            "-".repeat(8),
        );
        for row in self.rows() {
            let of_bare = row
                .of_bare
                .map_or(String::new(), |part| format!("{part:.2}"));
            let _ = writeln!(
                text,
                "{:<14} {:<8} {:>10} {:>21} {:>8} {:>8.0} {:>8.0}",
                row.contender,
                row.messages,
                thousands(row.median.per_second),
                format!(
                    "{} .. {}",
                    thousands(row.least_per_second),
                    thousands(row.most_per_second)
                ),
                of_bare,
                row.median.user_ns,
                row.median.system_ns,
            );
        }
        if !self.latencies.is_empty() {
            let _ = writeln!(
                text,
                "\n{:<14} {:>10} {:>10} {:>8} {:>8} {:>8} {:>8}",
                "INVITE, µs", "a second", "of", "50 %", "99 %", "99.9 %", "lost %"
            );
        }
        for name in &self.names {
            let Some(latency) = self.latency(name) else {
                continue;
            };
            let _ = writeln!(
                text,
                "{:<14} {:>10} {:>10} {:>8.1} {:>8.1} {:>8.1} {:>8.2}",
                name,
                thousands(latency.rate),
                thousands(latency.offered),
                latency.p50,
                latency.p99,
                latency.p999,
                latency.lost * 100.0,
            );
        }
        if !self.xdp.is_empty() {
            text.push_str("\nXDP program     ns a frame\n");
        }
        for (outcome, ns) in &self.xdp {
            let _ = writeln!(text, "{outcome:<14} {ns:>11}");
        }
        text
    }

    /// All figures for programs.
    ///
    /// # Errors
    ///
    /// None that is known: numbers can be written.
    pub fn json(&self) -> Result<String> {
        let latencies = self.names.iter();
        let latencies = latencies.filter_map(|name| Some((name.as_str(), self.latency(name)?)));
        let json = Json {
            rates: self.rows(),
            latencies_us: latencies.collect(),
            xdp_ns: self.xdp.iter().copied().collect(),
        };
        Ok(serde_json::to_string_pretty(&json)? + "\n")
    }

    /// The rates as bars.
    pub fn svg(&self) -> String {
        const BAR: f64 = 18.0;
        const LEFT: f64 = 190.0;
        const WIDTH: f64 = 560.0;
        let rows = self.rows();
        let most = rows
            .iter()
            .map(|row| row.most_per_second)
            .fold(1.0, f64::max);
        let height = 30.0 + BAR * rows.len() as f64;
        let mut svg = format!(
            "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"900\" height=\"{height}\" font-family=\"sans-serif\" \
             font-size=\"12\">\n<title>Messages a second on one core</title>\n\
             <rect width=\"100%\" height=\"100%\" fill=\"#fff\"/>\n"
        );
        for (number, row) in rows.iter().enumerate() {
            let top = 15.0 + BAR * number as f64;
            let x = |rate: f64| LEFT + WIDTH * rate / most;
            let colour = if row.contender == BARE {
                "#999"
            } else {
                "#2a6fb0"
            };
            let _ = writeln!(
                svg,
                "<text x=\"{:.0}\" y=\"{:.0}\" text-anchor=\"end\">{} {}</text>\
                 <rect x=\"{LEFT}\" y=\"{:.0}\" width=\"{:.1}\" height=\"12\" fill=\"{colour}\"/>\
                 <line x1=\"{:.1}\" x2=\"{:.1}\" y1=\"{:.0}\" y2=\"{:.0}\" stroke=\"#000\"/>\
                 <text x=\"{:.1}\" y=\"{:.0}\">{}</text>",
                LEFT - 6.0,
                top + 10.0,
                row.contender,
                row.messages,
                top,
                x(row.median.per_second) - LEFT,
                x(row.least_per_second),
                x(row.most_per_second),
                top + 6.0,
                top + 6.0,
                x(row.most_per_second) + 6.0,
                top + 10.0,
                thousands(row.median.per_second),
            );
        }
        svg + "</svg>\n"
    }
}

/// A number with commas.
fn thousands(number: f64) -> String {
    let digits = format!("{number:.0}");
    let mut text = String::new();
    for (place, digit) in digits.chars().enumerate() {
        if place > 0 && (digits.len() - place).is_multiple_of(3) {
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
    fn the_middle_of_the_rounds_counts() {
        let mut report = Report::default();
        let rate = |per_second| Rate {
            per_second,
            ..Rate::default()
        };
        for (contender, rates) in [
            ("plain", [90.0, 10.0, 80.0]),
            ("bare", [100.0, 200.0, 50.0]),
        ] {
            for per_second in rates {
                report.add(contender, Kind::Invite, rate(per_second));
            }
        }
        let rows = report.rows();
        assert_eq!(rows[0].median.per_second, 80.0);
        assert_eq!(rows[0].of_bare, Some(0.8));
        assert_eq!(
            (rows[0].least_per_second, rows[0].most_per_second),
            (10.0, 90.0)
        );
        assert_eq!(thousands(1_234_567.4), "1,234,567");
        assert_eq!(thousands(123.0), "123");
    }
}
