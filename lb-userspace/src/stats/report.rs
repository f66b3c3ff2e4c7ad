//! What was counted, put together: for JSON as it is, and for people by `siplb stats`.

use std::{
    collections::BTreeMap,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use lb_common::xdp::{MAX_QUEUES, XdpOutcome, XdpVerdict, counter_index};
use serde::{Serialize, Serializer};

use super::{
    BackendCounts, Snapshot, Value, Worker,
    sources::{InterfaceCounts, Sample},
};

/// What `siplb stats --json` prints and `/api/stats` answers. Fields are only ever added.
#[derive(Debug, Serialize)]
pub(crate) struct Report {
    /// `null` without [`Report::error`].
    pub(crate) process: Option<Process>,
    /// Why there is nothing of the workers.
    pub(crate) error: Option<String>,
    pub(crate) interfaces: Vec<InterfaceReport>,
    pub(crate) workers: Vec<WorkerReport>,
    /// Sums over all workers.
    pub(crate) total: Total,
    /// Messages by where they came from and went to, method and class, over all workers; those that there were.
    pub(crate) messages: Vec<MessageReport>,
    pub(crate) backends: Vec<BackendReport>,
    /// `null` when XDP counters or workers' counters are missing.
    pub(crate) accounting: Option<Accounting>,
}

#[derive(Debug, Serialize)]
pub(crate) struct Process {
    pub(crate) pid: u32,
    pub(crate) running: bool,
    /// Seconds since 1970.
    pub(crate) started: u64,
    /// Seconds since the process last said that it lives.
    pub(crate) silent_s: u64,
    /// Seconds from its start to then.
    pub(crate) up_s: u64,
}

#[derive(Debug, Serialize)]
pub(crate) struct InterfaceReport {
    pub(crate) name: String,
    pub(crate) pin_dir: String,
    /// Why there are no counters.
    pub(crate) error: Option<String>,
    pub(crate) cpus: Vec<CpuReport>,
    /// By receive queue, those that saw frames.
    pub(crate) queues: Vec<QueueReport>,
    pub(crate) total: Counts,
    pub(crate) steered_at_start: u64,
}

#[derive(Debug, Serialize)]
pub(crate) struct CpuReport {
    pub(crate) cpu: usize,
    pub(crate) counters: Counts,
}

#[derive(Debug, Serialize)]
pub(crate) struct QueueReport {
    pub(crate) queue: u32,
    pub(crate) counters: Counts,
}

#[derive(Debug, Serialize)]
pub(crate) struct WorkerReport {
    pub(crate) cpu: usize,
    pub(crate) queue: u32,
    pub(crate) data_path: String,
    pub(crate) counters: Counts,
    pub(crate) outcomes: Counts,
}

#[derive(Debug, Default, Serialize)]
pub(crate) struct Total {
    pub(crate) counters: Counts,
    pub(crate) outcomes: Counts,
}

/// Messages of one kind.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub(crate) struct MessageReport {
    /// `client`, `backend` or `siplb`.
    pub(crate) from: String,
    /// `client`, `backend` or `nobody`.
    pub(crate) to: String,
    /// `other` for methods that are not counted by name.
    pub(crate) method: String,
    /// `request`, or `1xx` to `6xx`.
    pub(crate) class: String,
    pub(crate) count: u64,
}

#[derive(Debug, Serialize)]
pub(crate) struct BackendReport {
    pub(crate) name: String,
    pub(crate) requests: u64,
    /// Initial INVITEs among them, retransmissions included.
    pub(crate) invites: u64,
    /// Of the initial INVITEs of all backends.
    pub(crate) share_percent: f64,
    pub(crate) responses: u64,
    /// The same by class: `1xx` to `6xx`.
    pub(crate) responses_by_class: Counts,
    /// Transactions and calls in set-up that are pinned to it.
    pub(crate) pins: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) requests_per_s: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) invites_per_s: Option<f64>,
}

/// Whether all that XDP steered arrived or is known to be lost.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(crate) struct Accounting {
    /// By XDP programs to sockets, since the start of the process and before the workers' counters were read.
    pub(crate) steered: u64,
    /// The same, after they were read.
    pub(crate) steered_after: u64,
    /// By workers from RX rings.
    pub(crate) received: u64,
    /// By the kernel at the sockets: RX ring full, or no chunk to receive into.
    pub(crate) dropped: u64,
    /// What is missing; negative when more arrived than was steered. What was steered while the workers' counters were
    /// read may have arrived or not.
    pub(crate) difference: i64,
    pub(crate) adds_up: bool,
}

/// Numbers under their names, in the order of their owner.
#[derive(Debug, Default, PartialEq)]
pub(crate) struct Counts(pub(crate) Vec<Count>);

#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Count {
    pub(crate) name: String,
    /// See [`Value::kind`]; for XDP `redirect`, `pass` or `drop`.
    pub(crate) kind: String,
    pub(crate) value: u64,
    /// A second, since the last time; sums only.
    pub(crate) rate: Option<f64>,
}

/// As an object: `{"steered": 12}`; with rates `{"steered": 12, "steered_per_s": 3.0}`.
impl Serialize for Counts {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        use serde::ser::SerializeMap;

        let mut map = serializer.serialize_map(None)?;
        for count in &self.0 {
            map.serialize_entry(&count.name, &count.value)?;
            if let Some(rate) = count.rate {
                map.serialize_entry(&format!("{}_per_s", count.name), &rate)?;
            }
        }
        map.end()
    }
}

impl Counts {
    pub(crate) fn get(&self, name: &str) -> u64 {
        let count = self.0.iter().find(|count| count.name == name);
        count.map_or(0, |count| count.value)
    }

    fn of(values: &[Value]) -> Self {
        Self(
            values
                .iter()
                .map(|value| Count::new(&value.name, &value.kind, value.value))
                .collect(),
        )
    }

    /// Adds number by number; what is new comes last.
    fn add(&mut self, other: &Self) {
        for count in &other.0 {
            match self.0.iter_mut().find(|mine| mine.name == count.name) {
                Some(mine) => mine.value = mine.value.wrapping_add(count.value),
                None => self.0.push(count.clone()),
            }
        }
    }

    fn with_rates(mut self, before: Option<(&Self, Duration)>) -> Self {
        if let Some((before, time)) = before {
            for count in &mut self.0 {
                count.rate = rate(before.get(&count.name), count.value, time)
                    .filter(|_| count.kind != "gauge");
            }
        }
        self
    }
}

impl Count {
    fn new(name: &str, kind: &str, value: u64) -> Self {
        Self {
            name: name.to_owned(),
            kind: kind.to_owned(),
            value,
            rate: None,
        }
    }
}

/// A second; `None` when the counter started anew or no time has passed.
fn rate(before: u64, now: u64, time: Duration) -> Option<f64> {
    let difference = now.checked_sub(before)?;
    let rate = difference as f64 / time.as_secs_f64();
    // Tenths are enough, and more would pretend precision.
    rate.is_finite().then(|| (10.0 * rate).round() / 10.0)
}

impl Report {
    /// `before` is what was read last, for rates.
    pub(crate) fn new(sample: &Sample, before: Option<&Sample>) -> Self {
        Self::at(sample, before, SystemTime::now())
    }

    pub(crate) fn at(sample: &Sample, before: Option<&Sample>, now: SystemTime) -> Self {
        let time = before.map(|before| sample.taken.duration_since(before.taken));
        let interfaces = sample.interfaces.iter().map(|interface| {
            let before = before.and_then(|before| {
                before
                    .interfaces
                    .iter()
                    .find(|b| b.interface == interface.interface)
            });
            interface_report(interface, before.zip(time))
        });
        let interfaces = interfaces.collect::<Vec<_>>();
        let snapshot = sample.workers.as_ref().ok();
        // Rates across a restart mean nothing.
        let before = before
            .and_then(|before| before.workers.as_ref().ok())
            .filter(|before| snapshot.is_some_and(|now| now.started == before.started))
            .zip(time);
        let workers = snapshot.map_or(&[][..], |snapshot| &snapshot.workers);
        let total = total(workers);
        let total_before = before.map(|(before, time)| (self::total(&before.workers), time));
        let total_before = total_before.as_ref();
        Self {
            process: snapshot.map(|snapshot| process(snapshot, now)),
            error: sample.workers.as_ref().err().cloned(),
            accounting: snapshot.and_then(|_| accounting(&sample.interfaces, &total.counters)),
            interfaces,
            workers: workers.iter().map(worker_report).collect(),
            total: Total {
                counters: total
                    .counters
                    .with_rates(total_before.map(|(before, time)| (&before.counters, *time))),
                outcomes: total
                    .outcomes
                    .with_rates(total_before.map(|(before, time)| (&before.outcomes, *time))),
            },
            messages: messages(workers),
            backends: backends(
                workers,
                before.map(|(before, time)| (&before.workers[..], time)),
            ),
        }
    }
}

fn process(snapshot: &Snapshot, now: SystemTime) -> Process {
    let seconds =
        |from: SystemTime, to: SystemTime| to.duration_since(from).unwrap_or_default().as_secs();
    Process {
        pid: snapshot.pid,
        running: snapshot.running,
        started: seconds(UNIX_EPOCH, snapshot.started),
        silent_s: seconds(snapshot.alive, now),
        up_s: seconds(snapshot.started, snapshot.alive),
    }
}

fn interface_report(
    counts: &InterfaceCounts,
    before: Option<(&InterfaceCounts, Duration)>,
) -> InterfaceReport {
    let empty = Vec::new();
    let counters = counts.counters.as_ref().unwrap_or(&empty);
    let cpus = counters.first().map_or(0, Vec::len);
    let cpus = (0..cpus).map(|cpu| CpuReport {
        cpu,
        counters: xdp_counts(
            counters,
            |queue_cpus| queue_cpus.get(cpu).copied().unwrap_or(0),
            0..MAX_QUEUES,
        ),
    });
    let over_cpus = |cpus: &[u64]| cpus.iter().sum::<u64>();
    let queues = (0..MAX_QUEUES).map(|queue| QueueReport {
        queue,
        counters: xdp_counts(counters, over_cpus, queue..queue + 1),
    });
    let total = |counters: &[Vec<u64>]| xdp_counts(counters, over_cpus, 0..MAX_QUEUES);
    let before =
        before.and_then(|(before, time)| Some((total(before.counters.as_ref().ok()?), time)));
    InterfaceReport {
        name: counts.interface.name.clone(),
        pin_dir: counts.interface.pin_dir.display().to_string(),
        error: counts.counters.as_ref().err().cloned(),
        cpus: cpus.collect(),
        queues: queues
            .filter(|queue| queue.counters.0.iter().any(|count| count.value > 0))
            .collect(),
        total: total(counters).with_rates(before.as_ref().map(|(before, time)| (before, *time))),
        steered_at_start: counts.interface.steered_at_start,
    }
}

/// Sums over some queues of what `of_cpus` makes of the CPUs' numbers.
fn xdp_counts(
    counters: &[Vec<u64>],
    of_cpus: impl Fn(&[u64]) -> u64,
    queues: std::ops::Range<u32>,
) -> Counts {
    let counts = XdpOutcome::ALL.into_iter().map(|outcome| {
        let kind = match outcome.verdict() {
            XdpVerdict::Redirect => "redirect",
            XdpVerdict::Pass => "pass",
            XdpVerdict::Drop => "drop",
        };
        let value = queues.clone().map(|queue| {
            let cpus = counters.get(counter_index(queue, outcome) as usize);
            cpus.map_or(0, |cpus| of_cpus(cpus))
        });
        Count::new(outcome.name(), kind, value.sum())
    });
    Counts(counts.collect())
}

fn worker_report(worker: &Worker) -> WorkerReport {
    WorkerReport {
        cpu: worker.info.cpu,
        queue: worker.info.queue,
        data_path: worker.info.data_path.clone(),
        counters: Counts::of(&worker.counters),
        outcomes: Counts::of(&worker.outcomes),
    }
}

fn total(workers: &[Worker]) -> Total {
    let mut total = Total::default();
    for worker in workers {
        total.counters.add(&Counts::of(&worker.counters));
        total.outcomes.add(&Counts::of(&worker.outcomes));
    }
    total
}

fn backends(workers: &[Worker], before: Option<(&[Worker], Duration)>) -> Vec<BackendReport> {
    let now = backend_sums(workers);
    let before = before.map(|(before, time)| (backend_sums(before), time));
    let all_invites = now.iter().map(|backend| backend.invites).sum::<u64>();
    let reports = now.into_iter().enumerate().map(|(position, backend)| {
        let rates = before.as_ref().map(|(before, time)| {
            let before = before.get(position).cloned().unwrap_or_default();
            (
                rate(before.requests, backend.requests, *time),
                rate(before.invites, backend.invites, *time),
            )
        });
        BackendReport {
            share_percent: match all_invites {
                0 => 0.0,
                all => (1000.0 * backend.invites as f64 / all as f64).round() / 10.0,
            },
            name: backend.name,
            requests: backend.requests,
            invites: backend.invites,
            responses: backend.responses,
            responses_by_class: Counts::of(&backend.classes),
            pins: backend.pins,
            requests_per_s: rates.and_then(|rates| rates.0),
            invites_per_s: rates.and_then(|rates| rates.1),
        }
    });
    reports.collect()
}

/// Sums over workers by position, which is the same for all workers of a file.
pub(crate) fn backend_sums(workers: &[Worker]) -> Vec<BackendCounts> {
    let mut workers = workers.iter();
    let mut sums = workers
        .next()
        .map_or_else(Vec::new, |first| first.backends.clone());
    for worker in workers {
        for (sum, backend) in sums.iter_mut().zip(&worker.backends) {
            sum.requests += backend.requests;
            sum.invites += backend.invites;
            sum.responses += backend.responses;
            sum.pins += backend.pins;
            sum.answerable += backend.answerable;
            for (sum, class) in sum.classes.iter_mut().zip(&backend.classes) {
                sum.value += class.value;
            }
            sum.first_response.add(&backend.first_response);
        }
    }
    sums
}

/// Sums over workers of messages of the same kind.
pub(crate) fn messages(workers: &[Worker]) -> Vec<MessageReport> {
    let mut sums = BTreeMap::new();
    for message in workers.iter().flat_map(|worker| &worker.messages) {
        let kind = (&message.from, &message.to, &message.method, &message.class);
        *sums.entry(kind).or_insert(0) += message.value;
    }
    let reports = sums
        .into_iter()
        .map(|((from, to, method, class), count)| MessageReport {
            from: from.clone(),
            to: to.clone(),
            method: method.clone(),
            class: class.clone(),
            count,
        });
    reports.collect()
}

fn accounting(interfaces: &[InterfaceCounts], workers: &Counts) -> Option<Accounting> {
    let sum_of_steered = |counters: fn(&InterfaceCounts) -> &Result<Vec<Vec<u64>>, String>| {
        let steered = interfaces.iter().map(|interface| {
            let over_cpus = |cpus: &[u64]| cpus.iter().sum();
            let total = xdp_counts(counters(interface).as_ref().ok()?, over_cpus, 0..MAX_QUEUES);
            let steered = total.get(XdpOutcome::Steered.name());
            // Where maps were made anew since, they began at 0.
            let since_start = steered.checked_sub(interface.interface.steered_at_start);
            Some(since_start.unwrap_or(steered))
        });
        steered.sum::<Option<u64>>()
    };
    if interfaces.is_empty() {
        return None;
    }
    let steered = sum_of_steered(|interface| &interface.counters)?;
    let steered_after = sum_of_steered(|interface| &interface.counters_after)?;
    let received = workers.get("rx_af_xdp");
    // Every frame that finds the fill ring empty is among `xsk_rx_dropped` (__xsk_rcv in net/xdp/xsk.c).
    let dropped = workers.get("xsk_rx_dropped") + workers.get("xsk_rx_ring_full");
    let arrived = received.saturating_add(dropped);
    let difference = match arrived {
        arrived if arrived < steered => i64::try_from(steered - arrived).unwrap_or(i64::MAX),
        arrived if arrived > steered_after => {
            i64::try_from(arrived - steered_after).map_or(i64::MIN, |over| -over)
        }
        _ => 0,
    };
    Some(Accounting {
        steered,
        steered_after,
        received,
        dropped,
        difference,
        adds_up: difference == 0,
    })
}
