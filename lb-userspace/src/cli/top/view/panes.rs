//! Backends, drops and queues.

use ratatui::{
    buffer::Buffer,
    layout::Rect,
    style::{Color, Style},
};

use super::{
    BAD, GOOD, MARKED, NOTE, PANE_HEAD, TITLE,
    columns::{self, Column},
    rule,
};
use crate::cli::{
    output::grouped,
    stats::view::per_second,
    top::{
        app::{App, Pane},
        model::{BackendRow, DropKind, DropRow, Gate, QueueRow},
    },
};

const PLAIN: Style = Style::new();
/// Heartbeats older than this are told as a problem as well.
const SILENT_WORKER_MS: u64 = 1000;

/// The backends, the marked one standing out.
pub(super) fn backends(app: &App, area: Rect, buffer: &mut Buffer) {
    let picture = app.picture();
    let rows = &picture.backends;
    let marked = app.marked();
    let shown = usize::from(area.height.saturating_sub(PANE_HEAD));
    // The marked one in the middle, as far as there are rows.
    let first = marked.unwrap_or(0).saturating_sub(shown / 2);
    let first = first.min(rows.len().saturating_sub(shown));
    let is_chosen = app.pane == Pane::Backends;
    let title = match picture.silence {
        None => "Backends",
        Some(_) => "Backends, as they were",
    };
    let area = head(title, rows.len(), first, is_chosen, area, buffer);

    let has_pools = picture.pools.len() > 1;
    let cells = |text: fn(&BackendRow) -> (String, Style)| rows.iter().map(text);
    let mut all = vec![
        Column::left("name", 0).with(cells(|row| (row.report.name.clone(), TITLE))),
        Column::left("state", 1).with(cells(state)),
        Column::left("address", 7).with(cells(|row| (row.report.address.clone(), PLAIN))),
        Column::right("share", 2).with(cells(share)),
        Column::right("req/s", 3).with(cells(|row| (rate(row.requests_per_s), PLAIN))),
        Column::right("INVITE/s", 4).with(cells(|row| (rate(row.invites_per_s), PLAIN))),
        Column::right("pins", 6).with(cells(|row| (grouped(row.report.pins), PLAIN))),
        Column::right("since", 5).with(cells(since)),
        Column::right("weight", 10).with(cells(weight)),
        Column::right("prio", 11).with(cells(|row| (row.report.priority.to_string(), PLAIN))),
        Column::right("probe ms", 9).with(cells(latency)),
        Column::rest("reason", 10).with(cells(|row| (reason(row), PLAIN))),
    ];
    if has_pools {
        let pool = Column::left("pool", 8).with(cells(|row| (row.report.pool.clone(), PLAIN)));
        all.insert(3, pool);
    }
    let marked = marked.filter(|_| is_chosen).map(|marked| (marked, MARKED));
    columns::draw(all, first, marked, area, buffer);
    if picture.silence.is_some() {
        // No colour says how they are now.
        buffer.set_style(area, Style::new().fg(Color::DarkGray));
    }
}

/// Why datagrams are not sent on.
pub(super) fn drops(app: &App, area: Rect, buffer: &mut Buffer) {
    let rows = &app.picture().drops;
    let first = app.drops_scroll.min(rows.len().saturating_sub(1));
    let is_chosen = app.pane == Pane::Drops;
    let title = "Drops and refusals";
    let area = head(title, rows.len(), first, is_chosen, area, buffer);
    let style = |row: &DropRow| match (row.per_s, row.kind) {
        (Some(rate), DropKind::Lost) if rate > 0.0 => BAD,
        (Some(rate), _) if rate > 0.0 => NOTE,
        _ => PLAIN,
    };
    let all = vec![
        Column::left("", 2).with(rows.iter().map(|row| (row.kind.name(), PLAIN))),
        Column::left("reason", 0).with(rows.iter().map(|row| (row.name.as_str(), style(row)))),
        Column::right("per s", 1).with(rows.iter().map(|row| (rate(row.per_s), style(row)))),
        Column::right("total", 3).with(rows.iter().map(|row| (grouped(row.total), PLAIN))),
    ];
    columns::draw(all, first, None, area, buffer);
}

/// Workers and their queues.
pub(super) fn queues(app: &App, area: Rect, buffer: &mut Buffer) {
    let rows = &app.picture().queues;
    let first = app.queues_scroll.min(rows.len().saturating_sub(1));
    let is_chosen = app.pane == Pane::Queues;
    let area = head("Queues", rows.len(), first, is_chosen, area, buffer);
    let cells = |text: fn(&QueueRow) -> (String, Style)| rows.iter().map(text);
    let all = vec![
        Column::right("q", 0).with(cells(|row| (row.queue.to_string(), TITLE))),
        Column::right("cpu", 4).with(cells(|row| (row.cpu.to_string(), PLAIN))),
        Column::right("in/s", 1).with(cells(|row| (rate(row.received_per_s), PLAIN))),
        Column::right("out/s", 7).with(cells(|row| (rate(row.sent_per_s), PLAIN))),
        Column::right("busy", 3).with(cells(busy)),
        Column::right("fill", 6).with(cells(|row| frames(row, 0))),
        Column::right("rx", 6).with(cells(|row| frames(row, 1))),
        Column::right("tx", 6).with(cells(|row| frames(row, 2))),
        Column::right("free", 5).with(cells(|row| frames(row, 3))),
        Column::left("gate", 2).with(cells(gate)),
        Column::right("beat", 3).with(cells(heartbeat)),
        Column::rest("data path", 10).with(cells(|row| (row.data_path.clone(), PLAIN))),
    ];
    columns::draw(all, first, None, area, buffer);
}

/// The rule with the title and which rows are shown; returns where they are.
fn head(
    title: &str,
    rows: usize,
    first: usize,
    is_chosen: bool,
    area: Rect,
    buffer: &mut Buffer,
) -> Rect {
    let shown = usize::from(area.height.saturating_sub(PANE_HEAD));
    let which = match rows {
        0 => "none".to_owned(),
        rows if first == 0 && rows <= shown => String::new(),
        rows => format!("{}-{} of {rows}", first + 1, (first + shown).min(rows)),
    };
    rule(title, &which, is_chosen, area, buffer);
    Rect {
        y: area.y + 1,
        height: area.height.saturating_sub(1),
        ..area
    }
}

fn rate(rate: Option<f64>) -> String {
    rate.map_or("-".to_owned(), per_second)
}

/// A letter for those who see no colours, and the word.
fn state(row: &BackendRow) -> (String, Style) {
    let state = row.report.state.as_str();
    let (letter, style) = match state {
        "active" => ('A', GOOD),
        "draining" => ('D', NOTE),
        "unhealthy" => ('U', BAD),
        "disabled" => ('X', Style::new().fg(Color::Magenta)),
        _ => ('?', PLAIN),
    };
    (format!("{letter} {state}"), style)
}

fn share(row: &BackendRow) -> (String, Style) {
    (format!("{:.1}%", row.report.share_percent), PLAIN)
}

/// In one unit: there is room for no more.
fn since(row: &BackendRow) -> (String, Style) {
    let text = match row.report.since_s {
        None => "start".to_owned(),
        Some(s) if s < 60 => format!("{s} s"),
        Some(s) if s < 3600 => format!("{} min", s / 60),
        Some(s) if s < 86_400 => format!("{} h", s / 3600),
        Some(s) => format!("{} d", s / 86_400),
    };
    (text, PLAIN)
}

fn weight(row: &BackendRow) -> (String, Style) {
    let report = &row.report;
    let text = match report.ramp < 1.0 {
        true => format!("{}x{:.1}", report.weight, report.ramp),
        false => report.weight.to_string(),
    };
    (text, PLAIN)
}

fn latency(row: &BackendRow) -> (String, Style) {
    let mean = row.report.latency_ms.map(|[_, mean, _]| mean);
    (
        mean.map_or("-".to_owned(), |mean| format!("{mean:.1}")),
        PLAIN,
    )
}

fn reason(row: &BackendRow) -> String {
    let report = &row.report;
    let health = report
        .health
        .as_deref()
        .filter(|health| *health != "healthy");
    match (&report.operator, health, &report.reason) {
        (Some(_), Some(health), Some(reason)) => format!("operator; {health}: {reason}"),
        (Some(_), ..) => "operator".to_owned(),
        (None, _, Some(reason)) => reason.clone(),
        (None, ..) => String::new(),
    }
}

fn busy(row: &QueueRow) -> (String, Style) {
    let text = row
        .busy_percent
        .map_or("-".to_owned(), |busy| format!("{busy:.0}%"));
    let style = match row.busy_percent {
        Some(busy) if busy >= 90.0 => BAD,
        _ => PLAIN,
    };
    (text, style)
}

fn frames(row: &QueueRow, place: usize) -> (String, Style) {
    let Some(frames) = row.frames else {
        return ("-".to_owned(), PLAIN);
    };
    // Nothing to receive into, or nothing to send with.
    let is_short = frames[place] == 0 && matches!(place, 0 | 3);
    (grouped(frames[place]), if is_short { BAD } else { PLAIN })
}

fn gate(row: &QueueRow) -> (String, Style) {
    let (text, style) = match row.gate {
        Gate::Unknown => ("-", PLAIN),
        Gate::None => ("none", PLAIN),
        Gate::Open => ("open", GOOD),
        Gate::Closed => ("closed", BAD),
    };
    (text.to_owned(), style)
}

fn heartbeat(row: &QueueRow) -> (String, Style) {
    match row.heartbeat_age_ms {
        None => ("-".to_owned(), PLAIN),
        Some(ms) if ms < SILENT_WORKER_MS => (format!("{ms}ms"), PLAIN),
        Some(ms) => (format!("{}s", ms / 1000), BAD),
    }
}
