//! A node that only tests know, and what the screen makes of it.

mod keys;
mod model;
mod screens;

use std::{
    path::PathBuf,
    sync::{Arc, Mutex},
    time::{Duration, Instant, UNIX_EPOCH},
};

use jiff::tz::TimeZone;
use serde_json::{Value, json};

use super::{
    app::{App, Effect},
    ask::{Asker, NODE_LIMIT, Node, Sample, Watched},
    series::Span,
    view::Look,
};
use crate::{
    control::{
        Request,
        announce::AnnounceStatus,
        plane::{BackendReport, BackendsReport, LimitReport, PoolReport},
        status::{Frames, SocketStatus, Status, WorkerStatus},
    },
    stats::{BackendCounts, Snapshot, Value as Count, Worker, WorkerInfo, sources},
};

/// 2026-03-01 12:00:00 UTC.
const NOON: u64 = 1_772_366_400;

/// What there is to know about a node.
#[derive(Clone, Debug)]
struct World {
    /// Seconds since 1970.
    now_s: u64,
    /// When the process began.
    started_s: u64,
    /// The same time on the other clock, at noon.
    noon: Instant,
    /// `None`: it does not answer.
    status: Option<Status>,
    backends: Vec<BackendReport>,
    /// Limits, and calls that came in each second; what is above the limit was refused.
    limits: Vec<(&'static str, Option<u32>)>,
    offered: fn(u64) -> u32,
    /// By name, kind and number.
    outcomes: Vec<(&'static str, &'static str, u64)>,
    counters: Vec<(&'static str, u64)>,
    /// Why it refuses every change.
    refusal: Option<&'static str>,
    /// Requests that would change something.
    changes: Vec<Request>,
}

/// The node and its files.
#[derive(Clone, Debug)]
struct Fake(Arc<Mutex<World>>);

impl Fake {
    fn new() -> Self {
        let frames = Frames {
            total: 8192,
            free: 4096,
            fill: 4090,
            rx: 6,
            tx: 0,
        };
        let worker = |queue: u32| WorkerStatus {
            cpu: queue as usize,
            queue,
            heartbeat_age_ms: Some(3),
            sockets: vec![SocketStatus {
                interface: "eth0".into(),
                attach: "native".into(),
                copy: "zero-copy".into(),
                gate_open: true,
            }],
            frames: Some(frames),
        };
        let status = Status {
            version: "0.1.0".into(),
            pid: 4711,
            node: "edge-lon-1".into(),
            uptime_s: 11_520,
            mode: "af-xdp".into(),
            config_hash: "1e46a231ed6a8438".into(),
            generation: 3,
            announce: Some(AnnounceStatus {
                announced: true,
                since_s: 11_519,
                device: Some("lo".into()),
                vips: vec!["203.0.113.10".into()],
                ..AnnounceStatus::default()
            }),
            workers: vec![worker(0), worker(1)],
            ..Status::default()
        };
        let backend = |number: u16, weight: u16, share_percent: f64| BackendReport {
            index: number,
            name: format!("sw{number}"),
            pool: "switches".into(),
            address: format!("10.0.0.{}:5060", 10 + number),
            weight,
            state: "active".into(),
            health: Some("healthy".into()),
            ramp: 1.0,
            share_percent,
            last_status: Some(200),
            latency_ms: Some([0.1, 0.3, 0.9]),
            pins: 12,
            ..BackendReport::default()
        };
        Self(Arc::new(Mutex::new(World {
            now_s: NOON,
            started_s: NOON - 11_520,
            noon: Instant::now(),
            status: Some(status),
            backends: vec![
                backend(1, 2, 50.0),
                backend(2, 1, 25.0),
                backend(3, 1, 25.0),
            ],
            limits: vec![
                (NODE_LIMIT, Some(100)),
                ("source 198.51.100.0/24", Some(500)),
            ],
            offered: |_| 80,
            outcomes: vec![("request_to_pool", "forward", 0)],
            counters: vec![
                ("rx_af_xdp", 0),
                ("tx_af_xdp", 0),
                ("frames_in_fill", 4090),
                ("frames_in_rx", 6),
                ("frames_in_tx", 0),
                ("frames_free", 4096),
                ("frames_total", 8192),
            ],
            refusal: None,
            changes: Vec::new(),
        })))
    }

    fn change<T>(&self, change: impl FnOnce(&mut World) -> T) -> T {
        change(&mut self.0.lock().expect("no test panics inside"))
    }

    fn asker(&self, span: Span) -> Asker<Self> {
        let watched = Watched::new(NODE_LIMIT, span);
        Asker::new(self.clone(), || unreachable!("see `sample`"), watched)
    }

    /// What is asked at the world's time.
    fn sample(&self, asker: &mut Asker<Self>) -> Sample {
        let time_s = self.change(|world| world.now_s);
        Sample {
            time_s,
            answers: asker.answers(time_s),
            counters: self.change(|world| world.counted()),
            run_ns: self.change(|world| {
                // A tenth of the time.
                let ran = (world.now_s - world.started_s) * 100_000_000;
                vec![Some(ran), None]
            }),
        }
    }
}

impl World {
    fn split(&self, second: u64, cps: Option<u32>) -> [u32; 2] {
        let offered = (self.offered)(second);
        let accepted = cps.map_or(offered, |cps| offered.min(cps));
        [accepted, offered - accepted]
    }

    /// As a node tells its past.
    fn limit(&self, name: &str, cps: Option<u32>, step_s: u64, count: u64) -> LimitReport {
        let sum = |seconds: std::ops::Range<u64>| {
            seconds.fold([0_u64; 2], |sum, second| {
                let point = self.split(second, cps);
                [0, 1].map(|part| sum[part] + u64::from(point[part]))
            })
        };
        let most = |seconds: std::ops::Range<u64>| {
            seconds.fold([0; 2], |most: [u32; 2], second| {
                let point = self.split(second, cps);
                [0, 1].map(|part| most[part].max(point[part]))
            })
        };
        let [accepted, breached] = sum(self.started_s..self.now_s);
        let end = self.now_s / step_s;
        let first = end
            .saturating_sub(count)
            .max(self.started_s.div_ceil(step_s));
        let steps = (first..end).map(|step| step * step_s..(step + 1) * step_s);
        LimitReport {
            name: name.into(),
            cps,
            accepted,
            breached,
            first_s: first * step_s,
            step_s,
            points: steps
                .clone()
                .map(|seconds| sum(seconds).map(|calls| calls as u32))
                .collect(),
            peaks: match step_s {
                1 => Vec::new(),
                _ => steps.map(most).collect(),
            },
        }
    }

    fn counted(&self) -> sources::Sample {
        let value = |name: &str, kind: &str, value| Count {
            name: name.into(),
            kind: kind.into(),
            value,
        };
        let backend = |name: &str, requests| BackendCounts {
            name: name.into(),
            requests,
            invites: requests / 4,
            ..BackendCounts::default()
        };
        let up_s = self.now_s - self.started_s;
        let worker = |queue: u32| Worker {
            info: WorkerInfo {
                cpu: queue as usize,
                queue,
                data_path: "eth0 native zero-copy".into(),
            },
            counters: self
                .counters
                .iter()
                .map(|(name, number)| value(name, "counter", *number))
                .collect(),
            outcomes: self
                .outcomes
                .iter()
                .map(|(name, kind, number)| {
                    // All of it by the first worker.
                    value(name, kind, if queue == 0 { *number } else { 0 })
                })
                .collect(),
            backends: self
                .backends
                .iter()
                .map(|report| {
                    let per_s = if queue == 0 { 20 } else { 0 };
                    backend(&report.name, u64::from(report.weight) * per_s * up_s)
                })
                .collect(),
            messages: Vec::new(),
            histograms: Vec::new(),
        };
        sources::Sample {
            taken: self.noon + Duration::from_secs(self.now_s.saturating_sub(NOON)),
            interfaces: Vec::new(),
            workers: Ok(Snapshot {
                pid: self.status.as_ref().map_or(4711, |status| status.pid),
                running: self.status.is_some(),
                started: UNIX_EPOCH + Duration::from_secs(self.started_s),
                alive: UNIX_EPOCH + Duration::from_secs(self.now_s),
                interfaces: Vec::new(),
                workers: vec![worker(0), worker(1)],
            }),
        }
    }
}

impl Node for Fake {
    fn call(&self, request: &Request) -> Result<Value, String> {
        self.change(|world| {
            let Some(status) = &world.status else {
                return Err("nobody answers".to_owned());
            };
            let argument = |name: &str| request.arguments.get(name).and_then(Value::as_str);
            match request.command.as_str() {
                "status" => Ok(serde_json::to_value(status).expect("JSON")),
                "backends" => {
                    let pool = PoolReport {
                        name: "switches".into(),
                        strategy: "hash-call-id".into(),
                        panic: false,
                        table_hash: Some("0".into()),
                    };
                    let report = BackendsReport {
                        pools: vec![pool],
                        backends: world.backends.clone(),
                    };
                    Ok(serde_json::to_value(report).expect("JSON"))
                }
                "cps" => {
                    let step_s = match argument("span") {
                        Some("minutes") => 60,
                        _ => 1,
                    };
                    let count = request.arguments["count"].as_u64().expect("a number");
                    let only = argument("limit");
                    let wanted = world.limits.iter();
                    let wanted = wanted.filter(|(name, _)| only.is_none_or(|only| only == *name));
                    let limits = wanted.map(|(name, cps)| world.limit(name, *cps, step_s, count));
                    Ok(json!({ "limits": limits.collect::<Vec<_>>() }))
                }
                _ => {
                    world.changes.push(request.clone());
                    if let Some(refusal) = world.refusal {
                        return Err(refusal.to_owned());
                    }
                    let name = argument("backend").expect("a backend");
                    let mut backends = world.backends.iter_mut();
                    let backend = backends.find(|backend| backend.name == name);
                    let backend = backend.ok_or("there is no such backend")?;
                    (backend.operator, backend.state) = match request.command.as_str() {
                        "drain" => (Some("draining".into()), "draining".into()),
                        "disable" => (Some("disabled".into()), "disabled".into()),
                        _ => (None, "active".into()),
                    };
                    Ok(json!({ "backend": backend }))
                }
            }
        })
    }
}

/// A screen with a node behind it.
struct Desk {
    node: Fake,
    asker: Asker<Fake>,
    app: App,
}

impl Desk {
    fn new(node: &Fake, span: Span) -> Self {
        Self {
            asker: node.asker(span),
            node: node.clone(),
            app: App::new(NODE_LIMIT, span),
        }
    }

    /// Goes on by some seconds, and asks at the end of each.
    fn pass(&mut self, seconds: u64) {
        for _ in 0..seconds {
            self.node.change(|world| world.now_s += 1);
            self.look();
        }
    }

    fn look(&mut self) {
        let sample = self.node.sample(&mut self.asker);
        self.app.take(sample);
    }

    /// Does what the loop does for a key.
    fn key(&mut self, key: impl Into<crossterm::event::KeyEvent>) -> Option<Effect> {
        let effect = self.app.key(key.into());
        match &effect {
            Some(Effect::Do(change)) => {
                let answer = self.asker.change(change.command, &change.backend);
                self.app.answered(change, answer);
                self.look();
            }
            Some(Effect::Watch(watched)) => {
                self.asker.watch(watched.clone());
                self.look();
            }
            _ => {}
        }
        effect
    }

    /// The screen as text.
    fn screen(&self, width: u16, height: u16) -> String {
        super::snapshot(&self.app, &look(), width, height)
    }
}

fn look() -> Look {
    Look {
        colour: true,
        ascii: false,
        zone: TimeZone::UTC,
        every_problem: false,
    }
}

/// The screen that is expected, a file beside this one. A screen that was changed on purpose is written by
/// `SIPLB_WRITE_SCREENS=1 cargo test -p lb-userspace --lib top::`, and looked at before it is committed.
fn check_screen(name: &str, screen: &str) {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR"))
        .join("src/cli/top/tests/screens")
        .join(format!("{name}.txt"));
    if std::env::var_os("SIPLB_WRITE_SCREENS").is_some() {
        std::fs::write(&path, screen).expect("a folder that can be written");
    }
    let expected = std::fs::read_to_string(&path).unwrap_or_default();
    assert!(
        screen == expected,
        "{name} is\n{screen}\nand should be\n{expected}"
    );
}
