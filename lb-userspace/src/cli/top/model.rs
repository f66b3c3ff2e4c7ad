//! What is shown, made from what was asked: no terminal, no sockets, no clock.

use std::{
    sync::Arc,
    time::{Duration, Instant, SystemTime},
};

use super::{
    super::stats::view::LOST,
    ask::{Answers, NODE_LIMIT, Sample},
    problems::{self, Problem},
    series::Past,
};
use crate::{
    control::{
        plane::{BackendReport, LimitReport, PoolReport},
        status::{Status, WorkerStatus},
    },
    stats::{
        Worker,
        report::{self, Counts, Report},
        sources,
    },
};

/// Rates are over at least this time.
const SHORTEST: Duration = Duration::from_millis(450);
/// Replies that are no refusals.
const WANTED_REPLIES: [&str; 3] = ["keepalive_crlf", "keepalive_stun", "options_answered"];

/// Everything that can be shown.
#[derive(Clone, Debug, Default)]
pub(super) struct Picture {
    /// When it was asked, in seconds since 1970; 0 before the first time.
    pub(super) time_s: u64,
    /// The last that the node said of itself; stays when it does not answer any more.
    pub(super) status: Option<Status>,
    /// The node does not answer.
    pub(super) silence: Option<Silence>,
    pub(super) pools: Vec<PoolReport>,
    pub(super) backends: Vec<BackendRow>,
    pub(super) limits: Vec<LimitRow>,
    /// Name of the limit whose past this is.
    pub(super) limit: String,
    /// Behind a pointer, so that a picture is cheap to keep while time goes on.
    pub(super) past: Arc<Past>,
    /// Accepted and refused calls of the node in the newest second.
    pub(super) newest: Option<[u32; 2]>,
    /// The most urgent one first.
    pub(super) drops: Vec<DropRow>,
    pub(super) queues: Vec<QueueRow>,
    /// The most urgent one first.
    pub(super) problems: Vec<Problem>,
}

/// Since when a node does not answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Silence {
    /// Seconds since 1970.
    pub(super) since_s: u64,
    /// Why.
    pub(super) error: String,
}

/// A backend.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct BackendRow {
    pub(super) report: BackendReport,
    pub(super) requests_per_s: Option<f64>,
    /// Initial INVITEs, retransmissions included.
    pub(super) invites_per_s: Option<f64>,
}

/// A limit on calls per second.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct LimitRow {
    pub(super) name: String,
    /// Calls that it allows in a second.
    pub(super) cps: Option<u32>,
    pub(super) accepted: u64,
    pub(super) breached: u64,
    /// Refused since the last time, a second.
    pub(super) breached_per_s: f64,
}

/// Why datagrams are not sent on.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct DropRow {
    pub(super) name: String,
    pub(super) kind: DropKind,
    pub(super) per_s: Option<f64>,
    pub(super) total: u64,
}

/// Who does not send them on, and how.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum DropKind {
    /// A worker refuses with a status code.
    Reply,
    /// A worker drops.
    Drop,
    /// The XDP program drops.
    Xdp,
    /// This host had no room, or there is a bug.
    Lost,
}

impl DropKind {
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Reply => "reply",
            Self::Drop => "drop",
            Self::Xdp => "xdp",
            Self::Lost => "lost",
        }
    }
}

/// A worker and its queue.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct QueueRow {
    pub(super) queue: u32,
    pub(super) cpu: usize,
    pub(super) received_per_s: Option<f64>,
    pub(super) sent_per_s: Option<f64>,
    /// The part of the time that the worker's thread ran, in percent.
    pub(super) busy_percent: Option<f64>,
    /// Frames in the fill ring, in RX, in TX, free, and all of them.
    pub(super) frames: Option<[u64; 5]>,
    pub(super) heartbeat_age_ms: Option<u64>,
    pub(super) gate: Gate,
    pub(super) data_path: String,
}

/// Whether the XDP program steers to a worker.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Gate {
    /// Nobody says so.
    #[default]
    Unknown,
    /// There is none: the kernel's sockets.
    None,
    /// All of them are open.
    Open,
    /// One at least is closed.
    Closed,
}

/// Makes a picture of each sample; knows the one before, for rates.
#[derive(Debug, Default)]
pub(super) struct Model {
    pub(super) picture: Picture,
    before: Option<Before>,
}

/// What rates are made from.
#[derive(Debug)]
struct Before {
    time_s: u64,
    counters: sources::Sample,
    run_ns: Vec<Option<u64>>,
    /// Of the process that answered, and what its limits had refused.
    pid: Option<u32>,
    limits: Vec<LimitRow>,
}

impl Model {
    /// Takes what was asked.
    pub(super) fn take(&mut self, sample: Sample) {
        let Sample {
            time_s,
            answers,
            counters,
            run_ns,
        } = sample;
        let before = self.before.take();
        let report = Report::new(&counters, before.as_ref().map(|before| &before.counters));
        let picture = &mut self.picture;
        let last_s = std::mem::replace(&mut picture.time_s, time_s);
        match answers {
            Ok(answers) => {
                picture.silence = None;
                picture.take_answers(answers, before.as_ref());
            }
            Err(error) => {
                let silence = picture.silence.get_or_insert_with(|| Silence {
                    // It answered the last time, if there was one.
                    since_s: if last_s > 0 { last_s } else { time_s },
                    error: String::new(),
                });
                silence.error = error;
                picture.newest = None;
                for limit in &mut picture.limits {
                    limit.breached_per_s = 0.0;
                }
            }
        }
        picture.rate_backends(&report);
        picture.drops = drops(&report);
        let status = picture
            .status
            .as_ref()
            .filter(|_| picture.silence.is_none());
        let statuses = status.map_or(&[][..], |status| &status.workers);
        picture.queues = queues(statuses, &counters, &run_ns, before.as_ref());
        picture.problems = problems::of(picture, &report);
        let pid = status.map(|status| status.pid);
        self.before = match before {
            // Asked for once more, out of turn: rates over so short a time would jump.
            Some(before) if before.is_recent(&counters, pid) => Some(before),
            _ => Some(Before {
                time_s,
                counters,
                run_ns,
                pid,
                limits: picture.limits.clone(),
            }),
        };
    }
}

impl Picture {
    fn take_answers(&mut self, answers: Answers, before: Option<&Before>) {
        let Answers {
            status,
            backends,
            limits,
            minutes,
            newest,
            watched,
        } = answers;
        if self.limit != watched {
            self.limit = watched;
            self.past = Arc::default();
        }
        let past = Arc::make_mut(&mut self.past);
        if let Some(limit) = limits.iter().find(|limit| limit.name == self.limit) {
            past.seconds.merge(limit.first_s, &limit.points, &[]);
        }
        if let Some(limit) = minutes {
            past.minutes
                .merge(limit.first_s, &limit.points, &limit.peaks);
        }
        self.newest = newest;
        let same_process = before.is_some_and(|before| before.pid == Some(status.pid));
        let time = before.map(|before| self.time_s.saturating_sub(before.time_s).max(1));
        let time = time.filter(|_| same_process);
        let limits = limits.into_iter().map(|limit| {
            let before = before.and_then(|before| {
                let mut rows = before.limits.iter();
                rows.find(|row| row.name == limit.name)
            });
            limit_row(limit, before.zip(time))
        });
        self.limits = limits.collect();
        self.status = Some(status);
        self.pools = backends.pools;
        let backends = backends.backends.into_iter().map(|report| BackendRow {
            report,
            ..BackendRow::default()
        });
        self.backends = backends.collect();
    }

    fn rate_backends(&mut self, report: &Report) {
        for row in &mut self.backends {
            // With another address since a reload a backend is there twice.
            let counted = report.backends.iter();
            let counted = || {
                counted
                    .clone()
                    .filter(|counted| counted.name == row.report.name)
            };
            let sum = |rates: &dyn Fn(&report::BackendReport) -> Option<f64>| {
                let rates = counted().filter_map(rates).collect::<Vec<_>>();
                (!rates.is_empty()).then(|| rates.iter().sum())
            };
            let requests_per_s = sum(&|counted| counted.requests_per_s);
            let invites_per_s = sum(&|counted| counted.invites_per_s);
            (row.requests_per_s, row.invites_per_s) = (requests_per_s, invites_per_s);
        }
    }

    /// The limit that is watched.
    pub(super) fn watched(&self) -> Option<&LimitRow> {
        self.limits.iter().find(|limit| limit.name == self.limit)
    }

    /// Accepted and refused calls of the watched limit in the newest second.
    pub(super) fn newest_of_watched(&self) -> Option<[u32; 2]> {
        let is_now = self.silence.is_none() && self.past.seconds.newest_s()? + 1 >= self.end_s();
        let newest = self.past.seconds.last().filter(|_| is_now)?;
        Some(newest.sum)
    }

    /// The limit of the node.
    pub(super) fn node_limit(&self) -> Option<&LimitRow> {
        self.limits.iter().find(|limit| limit.name == NODE_LIMIT)
    }

    /// Where a graph ends: with the newest second that is over, and a second later when the node has said nothing of that yet.
    pub(super) fn end_s(&self) -> u64 {
        let newest = self.past.seconds.newest_s();
        let told = newest.map_or(0, |newest| newest + 1);
        told.max(self.time_s.saturating_sub(1))
    }
}

fn limit_row(limit: LimitReport, before: Option<(&LimitRow, u64)>) -> LimitRow {
    let breached_per_s = before.map_or(0.0, |(before, seconds)| {
        limit.breached.saturating_sub(before.breached) as f64 / seconds as f64
    });
    LimitRow {
        name: limit.name,
        cps: limit.cps,
        accepted: limit.accepted,
        breached: limit.breached,
        breached_per_s,
    }
}

/// What is not sent on: by rate, then by total.
fn drops(report: &Report) -> Vec<DropRow> {
    let mut rows: Vec<DropRow> = Vec::new();
    let mut add = |counts: &Counts, kind: DropKind, wanted: &dyn Fn(&report::Count) -> bool| {
        for count in counts
            .0
            .iter()
            .filter(|count| count.value > 0 && wanted(count))
        {
            // Several interfaces have the same reasons.
            let same = |row: &&mut DropRow| row.kind == kind && row.name == count.name;
            match rows.iter_mut().find(same) {
                Some(row) => {
                    row.total += count.value;
                    row.per_s = row.per_s.zip(count.rate).map(|(a, b)| a + b);
                }
                None => rows.push(DropRow {
                    name: count.name.clone(),
                    kind,
                    per_s: count.rate,
                    total: count.value,
                }),
            }
        }
    };
    let outcomes = &report.total.outcomes;
    add(outcomes, DropKind::Drop, &|count| count.kind == "drop");
    add(outcomes, DropKind::Reply, &|count| {
        count.kind == "reply" && !WANTED_REPLIES.contains(&count.name.as_str())
    });
    add(&report.total.counters, DropKind::Lost, &|count| {
        LOST.contains(&count.name.as_str())
    });
    for interface in &report.interfaces {
        add(&interface.total, DropKind::Xdp, &|count| {
            count.kind == "drop"
        });
    }
    rows.sort_by(|a, b| {
        let rate = |row: &DropRow| row.per_s.unwrap_or(0.0);
        rate(b).total_cmp(&rate(a)).then(b.total.cmp(&a.total))
    });
    rows
}

fn queues(
    statuses: &[WorkerStatus],
    counters: &sources::Sample,
    run_ns: &[Option<u64>],
    before: Option<&Before>,
) -> Vec<QueueRow> {
    let snapshot = counters.workers.as_ref().ok();
    let workers = snapshot.map_or(&[][..], |snapshot| &snapshot.workers);
    let rows = (0..statuses.len().max(workers.len())).map(|place| {
        let mut row = QueueRow::default();
        if let Some((snapshot, worker)) = snapshot.zip(workers.get(place)) {
            let before = before.and_then(|before| before.worker(place, snapshot.started));
            let time = before.map(|(worker, run_ns, then)| {
                let seconds = counters.taken.duration_since(then).as_secs_f64();
                (worker, run_ns, seconds)
            });
            let run_ns = run_ns.get(place).copied().flatten();
            row.take_counts(worker, run_ns, time.filter(|(.., seconds)| *seconds > 0.0));
        }
        if let Some(status) = statuses.get(place) {
            row.take_status(status);
        }
        row
    });
    rows.collect()
}

impl Before {
    /// Whether it is of the same process and a moment ago.
    fn is_recent(&self, counters: &sources::Sample, pid: Option<u32>) -> bool {
        let time = counters.taken.duration_since(self.counters.taken);
        let is_same = self.pid == pid && self.counters.workers.is_ok() == counters.workers.is_ok();
        is_same && time < SHORTEST
    }

    /// A worker of the process that began at `started`: rates across a restart mean nothing.
    fn worker(&self, place: usize, started: SystemTime) -> Option<(&Worker, Option<u64>, Instant)> {
        let snapshot = self.counters.workers.as_ref().ok()?;
        let worker = snapshot.workers.get(place)?;
        let run_ns = self.run_ns.get(place).copied().flatten();
        (snapshot.started == started).then_some((worker, run_ns, self.counters.taken))
    }
}

impl QueueRow {
    fn take_counts(
        &mut self,
        worker: &Worker,
        run_ns: Option<u64>,
        before: Option<(&Worker, Option<u64>, f64)>,
    ) {
        self.queue = worker.info.queue;
        self.cpu = worker.info.cpu;
        self.data_path.clone_from(&worker.info.data_path);
        let frames = [
            "frames_in_fill",
            "frames_in_rx",
            "frames_in_tx",
            "frames_free",
            "frames_total",
        ];
        let frames = frames.map(|name| worker.counter(name));
        self.frames = (frames[4] > 0).then_some(frames);
        let Some((before, run_ns_before, seconds)) = before else {
            return;
        };
        let rate = |names: [&str; 2]| {
            let sum = |worker: &Worker| names.iter().map(|name| worker.counter(name)).sum::<u64>();
            let grown = sum(worker).checked_sub(sum(before))?;
            Some(grown as f64 / seconds)
        };
        self.received_per_s = rate(["rx_af_xdp", "rx_kernel"]);
        self.sent_per_s = rate(["tx_af_xdp", "tx_kernel"]);
        self.busy_percent = run_ns.zip(run_ns_before).and_then(|(now, before)| {
            let ran = now.checked_sub(before)?;
            Some((100.0 * ran as f64 / 1e9 / seconds).min(100.0))
        });
    }

    fn take_status(&mut self, status: &WorkerStatus) {
        self.queue = status.queue;
        self.cpu = status.cpu;
        self.heartbeat_age_ms = status.heartbeat_age_ms;
        let sockets = &status.sockets;
        self.gate = match sockets.iter().all(|socket| socket.gate_open) {
            _ if sockets.is_empty() => Gate::None,
            true => Gate::Open,
            false => Gate::Closed,
        };
    }
}
