//! A report for people.

use std::time::Duration;

use super::super::output::{Align, Grid, Terminal, grouped, span};
use crate::stats::report::{Accounting, Count, Counts, Process, Report, WorkerReport};

/// After so many seconds without a sign of life a running process is said to hang.
pub(in crate::cli) const SILENT_S: u64 = 5;
/// Counters of what was lost in this host, or by a bug.
pub(in crate::cli) const LOST: [&str; 8] = [
    "tx_ring_full",
    "tx_no_chunk",
    "handover_full",
    "kernel_send_error",
    "xsk_rx_dropped",
    "xsk_rx_ring_full",
    "xsk_rx_invalid",
    "xsk_tx_invalid",
];
/// Blanks before the names of counters.
const INDENT: &str = "  ";

/// The whole report, for a terminal's width.
pub(super) fn text(report: &Report, terminal: &Terminal, all: bool) -> String {
    let mut text = head(report, terminal);
    if let Some(accounting) = &report.accounting {
        text += &format!("{}\n", sum(accounting, terminal));
    }
    for interface in &report.interfaces {
        if let Some(error) = &interface.error {
            let error = format!("no counters of XDP on {}: {error}", interface.name);
            text += &format!("{}\n", terminal.red(&error));
        }
    }
    text += &workers(report, terminal);
    // The long part comes last: a small terminal may have no room for all of it.
    text += &backends(report, terminal, all);
    text += &counters(report, terminal, all);
    text
}

/// A report that replaces the one before on a terminal: no more lines than it has, each cleared to its end.
pub(in crate::cli) fn frame(text: &str, terminal: &Terminal, first: bool) -> String {
    let Some(height) = terminal.height else {
        return if first {
            text.to_owned()
        } else {
            format!("\n{text}")
        };
    };
    let lines = text.lines().collect::<Vec<_>>();
    // The last line stays empty: a line end there would scroll.
    let room = height.saturating_sub(1).max(1);
    let shown = if lines.len() > room {
        room - 1
    } else {
        lines.len()
    };
    let mut frame = String::from(if first { "\x1b[2J\x1b[H" } else { "\x1b[H" });
    for line in &lines[..shown] {
        frame.push_str(&clipped(line, terminal.width));
        frame.push_str("\x1b[K\n");
    }
    if shown < lines.len() {
        frame += &format!("... {} more lines\x1b[K\n", lines.len() - shown);
    }
    frame.push_str("\x1b[J");
    frame
}

/// The first `width` characters of a line, not counting escape sequences for colours: a line that went on in the next
/// would shift all that follow.
fn clipped(line: &str, width: usize) -> String {
    let mut clipped = String::with_capacity(line.len());
    let mut shown = 0;
    let mut in_escape = false;
    for c in line.chars() {
        if c == '\x1b' {
            in_escape = true;
        }
        if in_escape || shown < width {
            clipped.push(c);
        }
        if !in_escape {
            shown += 1;
        } else if c == 'm' {
            in_escape = false;
        }
    }
    clipped
}

fn head(report: &Report, terminal: &Terminal) -> String {
    match &report.process {
        Some(process) => format!("{}\n", state(process, terminal)),
        None => String::new(),
    }
}

fn state(process: &Process, terminal: &Terminal) -> String {
    let Process {
        pid,
        running,
        silent_s,
        up_s,
        ..
    } = *process;
    let time = |seconds| span(Duration::from_secs(seconds));
    if !running {
        let gone = terminal.red(&format!("pid {pid} is not running"));
        return format!(
            "{gone}; its counters stand still since {} ago, after {}",
            time(silent_s),
            time(up_s)
        );
    }
    let pid = terminal.bold(&format!("pid {pid}"));
    if silent_s >= SILENT_S {
        let hangs = terminal.red("gives no sign of life");
        return format!("{pid} runs but {hangs} since {}", time(silent_s));
    }
    format!("{pid}, up {}", time(up_s + silent_s))
}

fn workers(report: &Report, terminal: &Terminal) -> String {
    if report.workers.is_empty() {
        return String::new();
    }
    let mut grid = Grid::new(&[Align::Right, Align::Right, Align::Left]);
    grid.row(["queue", "cpu", "data path"]);
    for worker in &report.workers {
        grid.row([
            worker.queue.to_string(),
            worker.cpu.to_string(),
            worker.data_path.clone(),
        ]);
    }
    format!("\n{}\n{}", terminal.bold("Workers"), grid.render(INDENT))
}

/// Counters of XDP programs and workers, with a column for each CPU.
fn counters(report: &Report, terminal: &Terminal, all: bool) -> String {
    let cpus = cpus(report, all);
    let sections = sections(report, &cpus, all);
    let rows = || sections.iter().flat_map(|section| &section.rows);
    if rows().next().is_none() {
        return String::new();
    }

    let names = rows().map(|row| INDENT.len() + row.name.chars().count());
    let titles = sections.iter().map(|section| section.title.chars().count());
    let name_width = names.chain(titles).max().unwrap_or(0);
    let rates = rows().any(|row| row.rate.is_some());
    let cell =
        |values: &mut dyn Iterator<Item = &str>| values.map(|value| value.len()).max().unwrap_or(0);
    let cpu_width = cell(&mut rows().flat_map(|row| row.cpus.iter().map(String::as_str)))
        .max(cell(&mut sections.iter().flat_map(|section| {
            section.labels.iter().map(String::as_str)
        })))
        .max("cpu 0".len());
    let total_width = cell(&mut rows().map(|row| row.total.as_str())).max("total".len());
    let rate_width = cell(&mut rows().filter_map(|row| row.rate.as_deref())).max("per s".len());

    // As many CPUs side by side as there is room for; the others below.
    let sums = 2 + total_width + if rates { 2 + rate_width } else { 0 };
    let room = terminal.width.saturating_sub(name_width + sums) / (2 + cpu_width);
    let mut text = String::new();
    for group in groups(cpus.len(), room) {
        let line =
            |name: &str, cells: &mut dyn Iterator<Item = &str>, total: &str, rate: Option<&str>| {
                let mut line = format!("{name:<name_width$}");
                for cell in cells {
                    line += &format!("  {cell:>cpu_width$}");
                }
                line += &format!("  {total:>total_width$}");
                if rates {
                    line += &format!("  {:>rate_width$}", rate.unwrap_or_default());
                }
                line.trim_end().to_owned()
            };
        let head = cpus[group.clone()]
            .iter()
            .map(|cpu| format!("cpu {cpu}"))
            .collect::<Vec<_>>();
        let head = line(
            "",
            &mut head.iter().map(String::as_str),
            "total",
            rates.then_some("per s"),
        );
        text += &format!("\n{}\n", terminal.bold(&head));
        for section in &sections {
            let mut labels = section
                .labels
                .get(group.clone())
                .unwrap_or_default()
                .iter()
                .map(String::as_str);
            text += &format!(
                "{}\n",
                terminal.bold(&line(&section.title, &mut labels, "", None))
            );
            for row in &section.rows {
                let mut cells = row.cpus[group.clone()].iter().map(String::as_str);
                let name = format!("{INDENT}{}", row.name);
                let line = line(&name, &mut cells, &row.total, row.rate.as_deref());
                text += &if row.is_bad {
                    terminal.red(&line)
                } else {
                    line
                };
                text.push('\n');
            }
        }
    }
    text
}

/// Ranges of at most `room` (but at least one) of `count`.
fn groups(count: usize, room: usize) -> impl Iterator<Item = std::ops::Range<usize>> {
    let room = room.max(1);
    // Without any CPU there is still a table, of sums.
    (0..count.max(1))
        .step_by(room)
        .map(move |start| start..(start + room).min(count))
}

/// The CPUs that have something to show.
fn cpus(report: &Report, all: bool) -> Vec<usize> {
    let xdp = report
        .interfaces
        .iter()
        .flat_map(|interface| &interface.cpus);
    let xdp = xdp
        .filter(|cpu| all || cpu.counters.0.iter().any(|count| count.value > 0))
        .map(|cpu| cpu.cpu);
    let mut cpus = xdp
        .chain(report.workers.iter().map(|worker| worker.cpu))
        .collect::<Vec<_>>();
    cpus.sort_unstable();
    cpus.dedup();
    cpus
}

struct Section {
    title: String,
    /// Above each CPU, if any.
    labels: Vec<String>,
    rows: Vec<Row>,
}

struct Row {
    name: String,
    cpus: Vec<String>,
    total: String,
    rate: Option<String>,
    /// Something was lost or refused.
    is_bad: bool,
}

fn sections(report: &Report, cpus: &[usize], all: bool) -> Vec<Section> {
    let mut sections = Vec::new();
    for interface in report
        .interfaces
        .iter()
        .filter(|interface| interface.error.is_none())
    {
        sections.push(Section {
            title: format!("XDP {}", interface.name),
            labels: Vec::new(),
            rows: rows(&interface.total, all, |name| {
                let on = |cpu: usize| interface.cpus.iter().find(|report| report.cpu == cpu);
                cpus.iter()
                    .map(|&cpu| on(cpu).map(|report| report.counters.get(name)))
                    .collect()
            }),
        });
    }
    let on_cpu = |cpu: usize| {
        report
            .workers
            .iter()
            .filter(move |worker| worker.cpu == cpu)
    };
    let queues = |&cpu: &usize| {
        let queues = on_cpu(cpu)
            .map(|worker| worker.queue.to_string())
            .collect::<Vec<_>>();
        match queues.is_empty() {
            true => String::new(),
            false => format!("queue {}", queues.join(",")),
        }
    };
    let sum = |counts: &dyn Fn(&WorkerReport) -> u64, cpu: usize| {
        on_cpu(cpu)
            .next()
            .map(|_| on_cpu(cpu).map(counts).sum::<u64>())
    };
    sections.push(Section {
        title: "Workers".into(),
        labels: cpus.iter().map(queues).collect(),
        rows: rows(&report.total.counters, all, |name| {
            cpus.iter()
                .map(|&cpu| sum(&|worker| worker.counters.get(name), cpu))
                .collect()
        }),
    });
    for kind in ["forward", "reply", "drop", "absorb"] {
        let of_kind = report
            .total
            .outcomes
            .0
            .iter()
            .filter(|count| count.kind == kind);
        let of_kind = Counts(of_kind.cloned().collect());
        sections.push(Section {
            title: format!("Outcomes: {kind}"),
            labels: Vec::new(),
            rows: rows(&of_kind, all, |name| {
                cpus.iter()
                    .map(|&cpu| sum(&|worker| worker.outcomes.get(name), cpu))
                    .collect()
            }),
        });
    }
    sections.retain(|section| !section.rows.is_empty());
    sections
}

fn rows(total: &Counts, all: bool, of_cpus: impl Fn(&str) -> Vec<Option<u64>>) -> Vec<Row> {
    let counts = total.0.iter().filter(|count| all || count.value > 0);
    let rows = counts.map(|count| Row {
        name: count.name.clone(),
        cpus: of_cpus(&count.name)
            .into_iter()
            .map(|value| value.map_or(String::new(), grouped))
            .collect(),
        total: grouped(count.value),
        rate: count.rate.map(per_second),
        is_bad: is_bad(count),
    });
    rows.collect()
}

fn is_bad(count: &Count) -> bool {
    count.value > 0 && (count.kind == "drop" || LOST.contains(&count.name.as_str()))
}

/// Whole numbers, but below ten a tenth more, so that a rare thing is not "0".
pub(in crate::cli) fn per_second(rate: f64) -> String {
    match rate {
        rate if rate > 0.0 && rate < 10.0 => format!("{rate:.1}"),
        rate => grouped(rate.round() as u64),
    }
}

fn backends(report: &Report, terminal: &Terminal, all: bool) -> String {
    let rates = report
        .backends
        .iter()
        .any(|backend| backend.requests_per_s.is_some());
    let mut grid = Grid::new(&[
        Align::Left,
        Align::Right,
        Align::Right,
        Align::Right,
        Align::Right,
        Align::Right,
    ]);
    let columns = |cells: [String; 6]| {
        let [
            name,
            requests,
            requests_per_s,
            invites,
            invites_per_s,
            share,
        ] = cells;
        match rates {
            true => vec![
                name,
                requests,
                requests_per_s,
                invites,
                invites_per_s,
                share,
            ],
            false => vec![name, requests, invites, share],
        }
    };
    grid.row(columns(
        ["backend", "requests", "per s", "INVITEs", "per s", "share"].map(str::to_owned),
    ));
    let shown = report
        .backends
        .iter()
        .filter(|backend| all || backend.requests > 0);
    let mut any = false;
    for backend in shown {
        any = true;
        let rate = |rate: Option<f64>| rate.map_or(String::new(), per_second);
        grid.row(columns([
            backend.name.clone(),
            grouped(backend.requests),
            rate(backend.requests_per_s),
            grouped(backend.invites),
            rate(backend.invites_per_s),
            format!("{:.1} %", backend.share_percent),
        ]));
    }
    if !any {
        return String::new();
    }
    format!("\n{}\n{}", terminal.bold("Backends"), grid.render(INDENT))
}

fn sum(accounting: &Accounting, terminal: &Terminal) -> String {
    let Accounting {
        steered,
        steered_after,
        received,
        dropped,
        difference,
        adds_up,
    } = *accounting;
    let arrived = format!(
        "received {} + dropped at the sockets {}",
        grouped(received),
        grouped(dropped)
    );
    if adds_up {
        // Whatever was steered while the workers' counters were read is left out.
        let steered = grouped(received + dropped);
        return format!("steered {steered} = {arrived}: adds up");
    }
    let off = grouped(difference.unsigned_abs());
    let (steered, off, why) = if difference > 0 {
        let why = "on their way while traffic flows, lost if it stays";
        (steered, format!("{off} missing"), why)
    } else {
        let why = "more arrived than was steered: counters of different processes, or a bug";
        (steered_after, format!("{off} too many"), why)
    };
    let sum = format!("steered {} != {arrived}", grouped(steered));
    format!("{sum}: {}\n{INDENT}({why})", terminal.red(&off))
}

#[cfg(test)]
mod tests;
