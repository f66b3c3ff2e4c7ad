//! What people see.

use std::time::{Instant, UNIX_EPOCH};

use lb_common::xdp::{COUNTERS_LEN, XdpOutcome, counter_index};

use super::*;
use crate::stats::{
    BackendCounts, Interface, Snapshot, Value, Worker, WorkerInfo,
    sources::{InterfaceCounts, Sample},
};

/// Two CPUs, two queues, one interface; `received` and `steered` per queue.
fn sample(taken: Instant, cpus: usize, received: u64, steered: u64) -> Sample {
    let mut counters = vec![vec![0; cpus]; COUNTERS_LEN as usize];
    for queue in 0..cpus {
        counters[counter_index(queue as u32, XdpOutcome::Steered) as usize][queue] = steered;
    }
    counters[counter_index(0, XdpOutcome::NotVip) as usize][1] = 7;
    let value = |name: &str, kind: &str, value| Value {
        name: name.into(),
        kind: kind.into(),
        value,
    };
    let workers = (0..cpus).map(|queue| Worker {
        info: WorkerInfo {
            cpu: queue,
            queue: queue as u32,
            data_path: "eth0 native copy".into(),
        },
        counters: vec![
            value("rx_af_xdp", "counter", received),
            value("tx_ring_full", "counter", 0),
            value("xsk_rx_dropped", "counter", if queue == 0 { 2 } else { 0 }),
            value("frames_free", "gauge", 4096),
        ],
        outcomes: vec![
            value("request_to_pool", "forward", received / 2),
            value("not_sip", "drop", 1),
        ],
        messages: vec![],
        histograms: vec![],
        backends: vec![
            BackendCounts {
                name: "sw1".into(),
                requests: received,
                invites: received / 10 * 3,
                ..BackendCounts::default()
            },
            BackendCounts {
                name: "sw2".into(),
                requests: 0,
                invites: 0,
                ..BackendCounts::default()
            },
            BackendCounts {
                name: "sw3".into(),
                requests: received / 2,
                invites: received / 10,
                ..BackendCounts::default()
            },
        ],
    });
    Sample {
        taken,
        workers: Ok(Snapshot {
            pid: 4711,
            running: true,
            started: UNIX_EPOCH + Duration::from_secs(1000),
            alive: UNIX_EPOCH + Duration::from_secs(1200),
            interfaces: vec![],
            workers: workers.collect(),
        }),
        interfaces: vec![InterfaceCounts {
            interface: Interface {
                name: "eth0".into(),
                pin_dir: "/pins/eth0/v1".into(),
                steered_at_start: 100,
            },
            counters_after: Ok(counters.clone()),
            counters: Ok(counters),
        }],
    }
}

fn terminal(width: usize) -> Terminal {
    Terminal {
        width,
        height: None,
        colour: false,
    }
}

fn shown(sample: &Sample, before: Option<&Sample>, width: usize) -> String {
    let now = UNIX_EPOCH + Duration::from_secs(1201);
    text(&Report::at(sample, before, now), &terminal(width), false)
}

#[test]
fn once() {
    let sample = sample(Instant::now(), 2, 12_000, 12_051);
    assert_eq!(
        shown(&sample, None, 80),
        "\
pid 4711, up 3 min 21 s
steered 24,002 = received 24,000 + dropped at the sockets 2: adds up

Workers
  queue  cpu  data path
      0    0  eth0 native copy
      1    1  eth0 native copy

Backends
  backend  requests  INVITEs   share
  sw1        24,000    7,200  75.0 %
  sw3        12,000    2,400  25.0 %

                     cpu 0    cpu 1   total
XDP eth0
  steered           12,051   12,051  24,102
  not_vip                0        7       7
Workers            queue 0  queue 1
  rx_af_xdp         12,000   12,000  24,000
  xsk_rx_dropped         2        0       2
  frames_free        4,096    4,096   8,192
Outcomes: forward
  request_to_pool    6,000    6,000  12,000
Outcomes: drop
  not_sip                1        1       2
"
    );
}

#[test]
fn rates_when_watching() {
    let start = Instant::now();
    let before = sample(start, 2, 12_000, 12_051);
    let after = sample(start + Duration::from_secs(2), 2, 13_000, 13_001);
    let text = shown(&after, Some(&before), 80);
    for line in [
        "steered 25,902 != received 26,000 + dropped at the sockets 2: 100 too many",
        "  (more arrived than was steered: counters of different processes, or a bug)",
        "  backend  requests  per s  INVITEs  per s   share",
        "  sw1        26,000  1,000    7,800    300  75.0 %",
        "                     cpu 0    cpu 1   total  per s",
        "  steered           13,001   13,001  26,002    950",
        "  rx_af_xdp         13,000   13,000  26,000  1,000",
        // A level has no rate, and what stands still has the rate 0.
        "  frames_free        4,096    4,096   8,192",
        "  not_sip                1        1       2      0",
    ] {
        assert!(
            text.lines().any(|shown| shown == line),
            "{line:?} is not in\n{text}"
        );
    }
}

#[test]
fn a_restart_has_no_rates() {
    let start = Instant::now();
    let before = sample(start, 2, 12_000, 12_051);
    let mut after = sample(start + Duration::from_secs(2), 2, 13_000, 13_001);
    after.workers.as_mut().unwrap().started += Duration::from_secs(100);
    let text = shown(&after, Some(&before), 80);
    assert!(
        text.contains("  rx_af_xdp         13,000   13,000  26,000\n"),
        "{text}"
    );
}

#[test]
fn cpus_that_do_not_fit_come_below() {
    let sample = sample(Instant::now(), 5, 12_000, 12_051);
    let text = shown(&sample, None, 50);
    let heads = text
        .lines()
        .filter(|line| line.contains("cpu ") && line.contains("total"))
        .collect::<Vec<_>>();
    assert_eq!(
        heads,
        [
            "                     cpu 0    cpu 1   total",
            "                     cpu 2    cpu 3   total",
            "                     cpu 4   total",
        ]
    );
    let counters = text.split("cpu 0").nth(1).unwrap();
    assert!(counters.lines().all(|line| line.len() <= 50), "{text}");
    assert_eq!(counters.matches("60,000").count(), 3, "{text}");
    // However narrow, every CPU is shown.
    assert_eq!(shown(&sample, None, 1).matches("cpu 4").count(), 1);
}

#[test]
fn the_dead_and_the_silent_are_told_apart() {
    let mut sample = sample(Instant::now(), 2, 12_000, 12_051);
    let first_line = |sample: &Sample, now: u64| {
        let now = UNIX_EPOCH + Duration::from_secs(now);
        let text = text(&Report::at(sample, None, now), &terminal(80), false);
        text.lines().next().unwrap().to_owned()
    };
    assert_eq!(first_line(&sample, 1204), "pid 4711, up 3 min 24 s");
    assert_eq!(
        first_line(&sample, 1230),
        "pid 4711 runs but gives no sign of life since 30 s"
    );
    sample.workers.as_mut().unwrap().running = false;
    assert_eq!(
        first_line(&sample, 1230),
        "pid 4711 is not running; its counters stand still since 30 s ago, after 3 min 20 s"
    );
}

#[test]
fn what_is_missing_is_said() {
    let mut sample = sample(Instant::now(), 2, 12_000, 12_051);
    sample.interfaces[0].counters = Err("Operation not permitted".into());
    let text = shown(&sample, None, 80);
    assert!(
        text.contains("\nno counters of XDP on eth0: Operation not permitted\n"),
        "{text}"
    );
    assert!(!text.contains("steered"), "{text}");
    sample.workers = Err("no such file".into());
    assert_eq!(
        shown(&sample, None, 80),
        "no counters of XDP on eth0: Operation not permitted\n"
    );
}

#[test]
fn missing_frames_are_said() {
    let sample = sample(Instant::now(), 2, 12_000, 12_056);
    let text = shown(&sample, None, 80);
    let lines = "steered 24,012 != received 24,000 + dropped at the sockets 2: 10 missing\n  \
                 (on their way while traffic flows, lost if it stays)\n";
    assert!(text.contains(lines), "{text}");
}

#[test]
fn json() {
    let start = Instant::now();
    let before = sample(start, 2, 12_000, 12_051);
    let after = sample(start + Duration::from_secs(2), 2, 13_000, 13_051);
    let now = UNIX_EPOCH + Duration::from_secs(1201);
    let report = Report::at(&after, Some(&before), now);
    let json = serde_json::to_value(&report).unwrap();
    for (pointer, value) in [
        ("/process/pid", "4711"),
        ("/process/running", "true"),
        ("/process/up_s", "200"),
        ("/error", "null"),
        ("/interfaces/0/cpus/1/counters/steered", "13051"),
        ("/interfaces/0/queues/1/counters/steered", "13051"),
        ("/interfaces/0/total/steered", "26102"),
        ("/interfaces/0/total/steered_per_s", "1000.0"),
        ("/workers/1/counters/rx_af_xdp", "13000"),
        ("/workers/0/outcomes/not_sip", "1"),
        ("/total/counters/rx_af_xdp_per_s", "1000.0"),
        ("/total/outcomes/request_to_pool", "13000"),
        ("/backends/0/invites", "7800"),
        ("/backends/0/invites_per_s", "300.0"),
        ("/backends/0/share_percent", "75.0"),
        ("/accounting/steered", "26002"),
        ("/accounting/received", "26000"),
        ("/accounting/dropped", "2"),
        ("/accounting/adds_up", "true"),
    ] {
        let found = json
            .pointer(pointer)
            .unwrap_or_else(|| panic!("no {pointer} in {json:#}"));
        assert_eq!(found.to_string(), value, "{pointer}");
    }
    assert!(json.pointer("/total/counters/frames_free_per_s").is_none());
}

#[test]
fn a_frame_fits_the_terminal() {
    let small = Terminal {
        width: 10,
        height: Some(4),
        colour: false,
    };
    let text = "\x1b[1m0123456789abc\x1b[0m\nb\nc\nd\n";
    assert_eq!(
        frame(text, &small, false),
        "\x1b[H\x1b[1m0123456789\x1b[0m\x1b[K\nb\x1b[K\n... 2 more lines\x1b[K\n\x1b[J"
    );
    assert_eq!(
        frame("a\nb\n", &small, true),
        "\x1b[2J\x1b[Ha\x1b[K\nb\x1b[K\n\x1b[J"
    );
    assert_eq!(frame("a\n", &terminal(80), false), "\na\n");
}

#[test]
fn what_is_steered_while_reading_may_have_arrived_or_not() {
    let mut sample = sample(Instant::now(), 2, 12_000, 12_040);
    let first_queue = counter_index(0, XdpOutcome::Steered) as usize;
    // 23,980 before and 24,010 after the workers' counters were read, which say 24,002.
    let after = sample.interfaces[0].counters_after.as_mut().unwrap();
    after[first_queue][1] += 30;
    let text = shown(&sample, None, 80);
    let line = "\nsteered 24,002 = received 24,000 + dropped at the sockets 2: adds up\n";
    assert!(text.contains(line), "{text}");

    // One that was steered before is missing after all.
    sample.interfaces[0].counters.as_mut().unwrap()[first_queue][1] += 23;
    let text = shown(&sample, None, 80);
    let line = "\nsteered 24,003 != received 24,000 + dropped at the sockets 2: 1 missing\n";
    assert!(text.contains(line), "{text}");
}
