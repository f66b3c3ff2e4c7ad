//! What was counted, put together: for JSON as it is, for people by `view`.

use std::{
    collections::BTreeMap,
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use lb_common::xdp::{MAX_QUEUES, XdpOutcome, XdpVerdict, counter_index};
use serde::{Serialize, Serializer};

use crate::stats::{Interface, Snapshot, Value, Worker};

/// Everything that was read at one time.
#[derive(Debug)]
pub(super) struct Sample {
    pub(super) taken: Instant,
    pub(super) interfaces: Vec<InterfaceCounts>,
    pub(super) workers: Result<Snapshot, String>,
}

/// What the XDP program of an interface counted: by counter and CPU.
#[derive(Debug)]
pub(super) struct InterfaceCounts {
    pub(super) interface: Interface,
    pub(super) counters: Result<Vec<Vec<u64>>, String>,
    /// Once more, after the workers' counters were read.
    pub(super) counters_after: Result<Vec<Vec<u64>>, String>,
}

/// What `--json` prints. Fields are only ever added.
#[derive(Debug, Serialize)]
pub(super) struct Report {
    /// `null` without [`Report::error`].
    pub(super) process: Option<Process>,
    /// Why there is nothing of the workers.
    pub(super) error: Option<String>,
    pub(super) interfaces: Vec<InterfaceReport>,
    pub(super) workers: Vec<WorkerReport>,
    /// Sums over all workers.
    pub(super) total: Total,
    pub(super) backends: Vec<BackendReport>,
    /// `null` when XDP counters or workers' counters are missing.
    pub(super) accounting: Option<Accounting>,
}

#[derive(Debug, Serialize)]
pub(super) struct Process {
    pub(super) pid: u32,
    pub(super) running: bool,
    /// Seconds since 1970.
    pub(super) started: u64,
    /// Seconds since the process last said that it lives.
    pub(super) silent_s: u64,
    /// Seconds from its start to then.
    pub(super) up_s: u64,
}

#[derive(Debug, Serialize)]
pub(super) struct InterfaceReport {
    pub(super) name: String,
    pub(super) pin_dir: String,
    /// Why there are no counters.
    pub(super) error: Option<String>,
    pub(super) cpus: Vec<CpuReport>,
    /// By receive queue, those that saw frames.
    pub(super) queues: Vec<QueueReport>,
    pub(super) total: Counts,
    pub(super) steered_at_start: u64,
}

#[derive(Debug, Serialize)]
pub(super) struct CpuReport {
    pub(super) cpu: usize,
    pub(super) counters: Counts,
}

#[derive(Debug, Serialize)]
pub(super) struct QueueReport {
    pub(super) queue: u32,
    pub(super) counters: Counts,
}

#[derive(Debug, Serialize)]
pub(super) struct WorkerReport {
    pub(super) cpu: usize,
    pub(super) queue: u32,
    pub(super) data_path: String,
    pub(super) counters: Counts,
    pub(super) outcomes: Counts,
}

#[derive(Debug, Default, Serialize)]
pub(super) struct Total {
    pub(super) counters: Counts,
    pub(super) outcomes: Counts,
}

#[derive(Debug, Serialize)]
pub(super) struct BackendReport {
    pub(super) name: String,
    pub(super) requests: u64,
    /// Initial INVITEs among them, retransmissions included.
    pub(super) invites: u64,
    /// Of the initial INVITEs of all backends.
    pub(super) share_percent: f64,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) requests_per_s: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) invites_per_s: Option<f64>,
}

/// Whether all that XDP steered arrived or is known to be lost.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(super) struct Accounting {
    /// By XDP programs to sockets, since the start of the process and before the workers' counters were read.
    pub(super) steered: u64,
    /// The same, after they were read.
    pub(super) steered_after: u64,
    /// By workers from RX rings.
    pub(super) received: u64,
    /// By the kernel at the sockets: RX ring full, or no chunk to receive into.
    pub(super) dropped: u64,
    /// What is missing; negative when more arrived than was steered. What was steered while the workers' counters were
    /// read may have arrived or not.
    pub(super) difference: i64,
    pub(super) adds_up: bool,
}

/// Numbers under their names, in the order of their owner.
#[derive(Debug, Default, PartialEq)]
pub(super) struct Counts(pub(super) Vec<Count>);

#[derive(Clone, Debug, PartialEq)]
pub(super) struct Count {
    pub(super) name: String,
    /// See [`Value::kind`]; for XDP `redirect`, `pass` or `drop`.
    pub(super) kind: String,
    pub(super) value: u64,
    /// A second, since the last time; sums only.
    pub(super) rate: Option<f64>,
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
    pub(super) fn get(&self, name: &str) -> u64 {
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
    pub(super) fn new(sample: &Sample, before: Option<&Sample>) -> Self {
        Self::at(sample, before, SystemTime::now())
    }

    pub(super) fn at(sample: &Sample, before: Option<&Sample>, now: SystemTime) -> Self {
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
    /// Requests and INVITEs by position, which is the same for all workers of a file.
    fn sums(workers: &[Worker]) -> BTreeMap<usize, (u64, u64)> {
        let mut sums = BTreeMap::<usize, (u64, u64)>::new();
        for worker in workers {
            for (position, backend) in worker.backends.iter().enumerate() {
                let sum = sums.entry(position).or_default();
                sum.0 += backend.requests;
                sum.1 += backend.invites;
            }
        }
        sums
    }
    let Some(first) = workers.first() else {
        return Vec::new();
    };
    let now = sums(workers);
    let before = before.map(|(before, time)| (sums(before), time));
    let all_invites = now.values().map(|(_, invites)| invites).sum::<u64>();
    let reports =
        first
            .backends
            .iter()
            .zip(&now)
            .map(|(backend, (position, &(requests, invites)))| {
                let rates = before.as_ref().map(|(before, time)| {
                    let before = before.get(position).copied().unwrap_or_default();
                    (
                        rate(before.0, requests, *time),
                        rate(before.1, invites, *time),
                    )
                });
                BackendReport {
                    name: backend.name.clone(),
                    requests,
                    invites,
                    share_percent: match all_invites {
                        0 => 0.0,
                        all => (1000.0 * invites as f64 / all as f64).round() / 10.0,
                    },
                    requests_per_s: rates.and_then(|rates| rates.0),
                    invites_per_s: rates.and_then(|rates| rates.1),
                }
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
