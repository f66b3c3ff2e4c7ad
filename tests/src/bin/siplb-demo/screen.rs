//! The picture that is shown every second.

use std::{
    collections::VecDeque, fmt::Write as _, io::Write as _, net::SocketAddr, time::Duration,
};

use crate::measure::{Sample, WorkerRow};

const BAR: usize = 40;
const HISTORY: usize = 30;
const CLEAR: &str = "\x1b[H\x1b[2J";
const BOLD: &str = "\x1b[1m";
const DIM: &str = "\x1b[2m";
const GREEN: &str = "\x1b[32m";
const RED: &str = "\x1b[31m";
const CYAN: &str = "\x1b[36m";
const PLAIN: &str = "\x1b[0m";
const RULE: &str = "──────────────────────────────────────────────────────────────────────────────";

/// Shows samples: a whole screen on a terminal, else a line each.
pub struct Screen {
    terminal: bool,
    duration: Duration,
    vip: SocketAddr,
    backends: Vec<String>,
    weights: Vec<u16>,
    note: Option<String>,
    previous: Option<Previous>,
    rates: VecDeque<u64>,
}

struct Previous {
    at: Duration,
    created: u64,
    received: u64,
    of_workers: Vec<u64>,
}

impl Screen {
    /// `backends` in the order of `weights`; `note` is shown below the picture.
    pub fn new(
        terminal: bool,
        duration: Duration,
        vip: SocketAddr,
        backends: Vec<String>,
        weights: &[u16],
        note: Option<String>,
    ) -> Self {
        Self {
            terminal,
            duration,
            vip,
            backends,
            weights: weights.to_vec(),
            note,
            previous: None,
            rates: VecDeque::new(),
        }
    }

    /// Shows a sample.
    pub fn show(&mut self, sample: &Sample) {
        let previous = self.previous.take();
        let begin = Previous {
            at: Duration::ZERO,
            created: 0,
            received: 0,
            of_workers: Vec::new(),
        };
        let previous = previous.unwrap_or(begin);
        let rate = |now: u64, before: u64| {
            let seconds = sample
                .at
                .saturating_sub(previous.at)
                .as_secs_f64()
                .max(0.001);
            (now.saturating_sub(before) as f64 / seconds).round() as u64
        };
        let calls_per_second = rate(sample.calls.created, previous.created);
        let messages_per_second = rate(sample.totals.received(), previous.received);
        let of_workers: Vec<u64> = sample
            .workers
            .iter()
            .map(|worker| worker.received.iter().sum())
            .collect();
        let worker_rates = of_workers.iter().enumerate().map(|(index, received)| {
            rate(
                *received,
                previous.of_workers.get(index).copied().unwrap_or(0),
            )
        });
        let worker_rates: Vec<u64> = worker_rates.collect();
        self.rates.push_back(calls_per_second);
        if self.rates.len() > HISTORY {
            self.rates.pop_front();
        }
        let text = match self.terminal {
            true => self.picture(sample, calls_per_second, messages_per_second, &worker_rates),
            false => self.line(sample, calls_per_second),
        };
        // Nobody looks any more if this fails.
        let _ = std::io::stdout().write_all(text.as_bytes());
        let _ = std::io::stdout().flush();
        self.previous = Some(Previous {
            at: sample.at,
            created: sample.calls.created,
            received: sample.totals.received(),
            of_workers,
        });
    }

    fn line(&self, sample: &Sample, calls_per_second: u64) -> String {
        let mut text = format!(
            "{:>3} s  {:>6} calls  {calls_per_second:>5}/s  {:>4} in progress  {} failed ",
            sample.at.as_secs(),
            sample.calls.created,
            sample.calls.current,
            sample.calls.failed
        );
        for (name, _, share) in self.shares(sample) {
            let _ = write!(text, "  {name} {:.1} %", share * 100.0);
        }
        for worker in &sample.workers {
            let received: u64 = worker.received.iter().sum();
            let _ = write!(text, "  CPU {}: ", worker.cpu);
            let _ = match worker.steered {
                Some(steered) => write!(text, "{steered} steered, {received} received"),
                None => write!(text, "{received} received"),
            };
        }
        text.push('\n');
        text
    }

    fn picture(
        &self,
        sample: &Sample,
        calls_per_second: u64,
        messages_per_second: u64,
        worker_rates: &[u64],
    ) -> String {
        let calls = &sample.calls;
        let bad = |number: u64| if number == 0 { GREEN } else { RED };
        let mut text = String::from(CLEAR);
        // Writing to a string does not fail.
        let _ = writeln!(
            text,
            "\n  {BOLD}siplb{PLAIN}  {} → {} SIP servers{:>42}",
            self.vip,
            self.backends.len(),
            format!(
                "{} of {}",
                clock(sample.at.min(self.duration)),
                clock(self.duration)
            ),
        );
        let _ = writeln!(text, "  {DIM}{RULE}{PLAIN}");
        let _ = writeln!(
            text,
            "  calls     {BOLD}{:>9}{PLAIN} placed   {:>9} ended well   {:>6} in progress   {}{}{PLAIN} failed",
            grouped(calls.created),
            grouped(calls.successful),
            grouped(calls.current),
            bad(calls.failed),
            grouped(calls.failed)
        );
        let _ = writeln!(
            text,
            "  rate      {BOLD}{CYAN}{:>9}{PLAIN} calls/s  {CYAN}{}{PLAIN}",
            grouped(calls_per_second),
            sparkline(&self.rates)
        );
        let _ = writeln!(
            text,
            "  messages  {:>9} in       {:>9} out          {:>6}/s            {}{}{PLAIN} retransmitted",
            grouped(sample.totals.received()),
            grouped(sample.totals.sent()),
            grouped(messages_per_second),
            bad(calls.retransmissions),
            grouped(calls.retransmissions)
        );
        let _ = writeln!(text, "\n  {DIM}server  weight  share of calls{PLAIN}");
        for ((name, count, share), weight) in self.shares(sample).into_iter().zip(&self.weights) {
            let _ = writeln!(
                text,
                "  {name:<6} {weight:>6}  {GREEN}{}{PLAIN} {:>5.1} %  {:>9}",
                bar(share),
                share * 100.0,
                grouped(count)
            );
        }
        let _ = writeln!(
            text,
            "\n  {DIM}CPU  queue  XDP steered  AF_XDP in  kernel in    AF_XDP out  kernel out  messages/s{PLAIN}"
        );
        for (worker, rate) in sample.workers.iter().zip(worker_rates) {
            text.push_str(&row(worker, *rate));
        }
        let paths: std::collections::BTreeSet<&str> = sample
            .workers
            .iter()
            .map(|worker| worker.data_path.as_str())
            .collect();
        let paths: Vec<&str> = paths.into_iter().collect();
        let _ = writeln!(text, "\n  {DIM}data path: {}{PLAIN}", paths.join("; "));
        if let Some(note) = &self.note {
            let _ = writeln!(text, "  {note}");
        }
        text
    }

    /// Name, initial INVITEs and share of each backend.
    fn shares(&self, sample: &Sample) -> Vec<(&str, u64, f64)> {
        let count = |name: &String| {
            sample
                .totals
                .backends
                .get(name)
                .map_or(0, |(_, invites)| *invites)
        };
        let total: u64 = self.backends.iter().map(count).sum();
        let shares = self.backends.iter().map(|name| {
            let count = count(name);
            (name.as_str(), count, count as f64 / total.max(1) as f64)
        });
        shares.collect()
    }
}

fn row(worker: &WorkerRow, rate: u64) -> String {
    let [from_af_xdp, from_kernel] = worker.received;
    let [to_af_xdp, to_kernel] = worker.sent;
    format!(
        "  {:>3}  {:>5}  {:>11}  {:>9}  {:>9}    {:>10}  {:>10}  {BOLD}{:>10}{PLAIN}\n",
        worker.cpu,
        worker.queue,
        worker.steered.map_or("-".into(), grouped),
        grouped(from_af_xdp),
        grouped(from_kernel),
        grouped(to_af_xdp),
        grouped(to_kernel),
        grouped(rate)
    )
}

fn clock(duration: Duration) -> String {
    let seconds = duration.as_secs();
    format!("{:02}:{:02}", seconds / 60, seconds % 60)
}

/// `1234567` as `1,234,567`.
fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::new();
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

fn bar(share: f64) -> String {
    const EIGHTHS: [char; 8] = [' ', '▏', '▎', '▍', '▌', '▋', '▊', '▉'];
    let eighths = (share.clamp(0.0, 1.0) * (BAR * 8) as f64).round() as usize;
    let mut text = "█".repeat(eighths / 8);
    if !eighths.is_multiple_of(8) {
        text.push(EIGHTHS[eighths % 8]);
    }
    let missing = BAR - text.chars().count();
    text + &" ".repeat(missing)
}

fn sparkline(rates: &VecDeque<u64>) -> String {
    const LEVELS: [char; 8] = ['▁', '▂', '▃', '▄', '▅', '▆', '▇', '█'];
    let highest = rates.iter().copied().max().unwrap_or(0).max(1);
    rates
        .iter()
        .map(|rate| LEVELS[(rate * 7 / highest) as usize])
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_grouped() {
        for (number, expected) in [
            (0, "0"),
            (999, "999"),
            (1000, "1,000"),
            (1_234_567, "1,234,567"),
        ] {
            assert_eq!(grouped(number), expected);
        }
    }

    #[test]
    fn a_bar_is_always_as_wide() {
        for share in [0.0, 0.001, 0.25, 0.3333, 0.5, 0.999, 1.0, 7.0] {
            assert_eq!(bar(share).chars().count(), BAR, "{share}");
        }
        assert_eq!(bar(0.5).trim_end(), "█".repeat(BAR / 2));
    }
}
