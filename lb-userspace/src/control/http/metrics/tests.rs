//! Whole pages of metrics, from a node as it could be.

use std::{
    collections::{BTreeMap, HashSet},
    sync::Arc,
};

use lb_common::xdp::{COUNTERS_LEN, XdpOutcome, counter_index};
use serde_json::{Value, json};

use super::*;
use crate::{
    balance::BackendIndex,
    forward::{CountedMethod, MessageClass, Outcome, Seen},
    stats::{
        Counter, Direction, Histogram, InterfaceInfo, Side, StatsFile, StatsReader, WorkerInfo,
        sources::{InterfaceCounts, Sources},
    },
    token::TransactionId,
};

/// What the control plane says.
fn answers(command: &str) -> Value {
    match command {
        "status" => json!({
            "ok": true, "version": "1.2.3", "node": "edge-1", "uptime_s": 60, "started_s": 1_700_000_000,
            "mode": "af-xdp", "config_hash": "c0", "table_hash": "7a", "generation": 3,
            "keys": [{ "id": "0a0b0c0d", "role": "signing" }, { "id": "01020304", "role": "accepted" }],
            "reloads": { "done": 2, "refused": 1 },
            "announce": { "announced": true },
            "workers": [
                { "cpu": 2, "queue": 0, "heartbeat_age_ms": 15,
                  "sockets": [{ "interface": "eth0", "attach": "native", "copy": "copy", "gate_open": true }] },
                { "cpu": 3, "queue": 1, "heartbeat_age_ms": null, "sockets": [] },
            ],
        }),
        "backends" => json!({
            "ok": true,
            "pools": [{ "name": "switches", "panic": false }],
            "backends": [
                // The second one of the statistics: the first is of the past.
                { "index": 1, "name": "sw1", "pool": "switches", "state": "draining", "weight_in_force": 0.0,
                  "health": "healthy", "probes": [9, 2], "health_changes": { "no_answer": 1, "recovered": 1 } },
                { "index": 2, "name": "sw2", "pool": "switches", "state": "active", "weight_in_force": 1.5,
                  "share_percent": 100.0 },
            ],
        }),
        "cps" => json!({
            "ok": true,
            "limits": [
                { "name": "node", "cps": 100, "accepted": 7, "breached": 3, "points": [[4, 1]] },
                { "name": "rule INVITE, User-Agent begins with \"x\\\"", "accepted": 1, "points": [] },
                { "name": "rule INVITE, User-Agent begins with \"x\\\"", "accepted": 0, "points": [] },
            ],
        }),
        other => panic!("{other}"),
    }
}

fn facts(name: &str) -> Facts {
    let path = std::env::temp_dir().join(format!("siplb-metrics-{name}-{}", std::process::id()));
    let workers = [0, 1].map(|queue| WorkerInfo {
        cpu: 2 + queue as usize,
        queue,
        data_path: "eth0 native copy".into(),
    });
    let backends = ["gone", "sw1", "sw2"].map(str::to_owned);
    let stats = StatsFile::create(&path, &workers, &backends).unwrap();
    let (first, second) = (stats.worker(0), stats.worker(1));
    for worker in [&first, &second] {
        worker.outcome(Outcome::RequestToPool);
        worker.add(Counter::RxAfXdp, 10);
        worker.set(Counter::FramesTotal, 64);
        worker.set(Counter::FramesFree, 60);
    }
    first.add(Counter::BusyNs, 1_500_000_000);
    first.observe(Histogram::BatchSize, 3);
    first.observe(Histogram::BatchDuration, 1_500);
    let inward = Direction {
        from: Some(Side::Client),
        to: Some(Side::Backend),
    };
    let outward = Direction {
        from: Some(Side::Backend),
        to: Some(Side::Client),
    };
    first.message(inward, CountedMethod::Invite, MessageClass::Request);
    second.message(inward, CountedMethod::Invite, MessageClass::Request);
    second.message(outward, CountedMethod::Invite, MessageClass::Success);
    let seen = Seen {
        method: CountedMethod::Invite,
        class: MessageClass::Request,
        transaction: TransactionId::from_text(b"0123456789abcdef"),
    };
    first.backend_request(BackendIndex(2), true);
    first.backend_invite(BackendIndex(2), &seen, 0);
    let response = Seen {
        class: MessageClass::Provisional,
        ..seen
    };
    second.backend_response(BackendIndex(2), &response, 3_000_000);

    let mut counters = vec![vec![0; 4]; COUNTERS_LEN as usize];
    counters[counter_index(1, XdpOutcome::Steered) as usize][3] = 10;
    let snapshot = StatsReader::open(&path).unwrap().snapshot().unwrap();
    std::fs::remove_file(&path).unwrap();
    let read = |command: &str| answers(command);
    Facts {
        status: super::read(read("status")).unwrap(),
        backends: super::read(read("backends")).unwrap(),
        limits: super::read(read("cps")["limits"].take()).unwrap(),
        sample: Sample {
            taken: std::time::Instant::now(),
            interfaces: vec![InterfaceCounts {
                interface: InterfaceInfo {
                    name: "eth0".into(),
                    pin_dir: "/sys/fs/bpf/siplb/edge-1/eth0/v1".into(),
                    steered_at_start: 0,
                },
                counters: Ok(counters.clone()),
                counters_after: Ok(counters),
            }],
            workers: Ok(snapshot),
        },
    }
}

/// Series with their values, after a look at whether the text is one that a scraper takes.
fn series(text: &str) -> BTreeMap<String, String> {
    let mut series = BTreeMap::new();
    let mut families = HashSet::new();
    let mut family = String::new();
    for line in text.lines() {
        if let Some(rest) = line.strip_prefix("# HELP ") {
            let (name, help) = rest.split_once(' ').unwrap();
            assert!(help.ends_with('.'), "{line}");
            assert!(families.insert(name.to_owned()), "{name} comes twice");
            family = name.to_owned();
        } else if line.starts_with("# TYPE ") || line.starts_with("# UNIT ") {
            assert_eq!(line.split(' ').nth(2), Some(family.as_str()), "{line}");
        } else if line != "# EOF" {
            let (name, value) = line.rsplit_once(' ').unwrap();
            assert!(name.starts_with(&family), "{line} in {family}");
            value.parse::<f64>().unwrap();
            let before = series.insert(name.to_owned(), value.to_owned());
            assert_eq!(before, None, "{name} comes twice");
        }
    }
    series
}

#[test]
fn numbers_are_under_their_names() {
    let text = facts("numbers").encode(Format::Text);
    let series = series(&text);
    for (name, value) in [
        ("siplb_build_info{version=\"1.2.3\"}", "1"),
        (
            "siplb_config_info{node=\"edge-1\",config_hash=\"c0\",table_hash=\"7a\",mode=\"af-xdp\"}",
            "1",
        ),
        ("siplb_key_info{id=\"01020304\",role=\"accepted\"}", "1"),
        ("siplb_start_time_seconds", "1700000000"),
        ("siplb_announced", "1"),
        ("siplb_config_generation", "3"),
        ("siplb_reloads_total{result=\"refused\"}", "1"),
        (
            "siplb_worker_heartbeat_age_seconds{queue=\"0\",cpu=\"2\"}",
            "0.015",
        ),
        ("siplb_limit_calls_per_second{limit=\"node\"}", "100"),
        ("siplb_calls_accepted_total{limit=\"node\"}", "7"),
        ("siplb_calls_breached_total{limit=\"node\"}", "3"),
        ("siplb_calls_per_second{limit=\"node\"}", "4"),
        (
            "siplb_calls_accepted_total{limit=\"rule INVITE, User-Agent begins with \\\"x\\\\\\\"\"}",
            "1",
        ),
        (
            "siplb_backend_state{pool=\"switches\",backend=\"sw1\",state=\"draining\"}",
            "1",
        ),
        (
            "siplb_backend_state{pool=\"switches\",backend=\"sw1\",state=\"active\"}",
            "0",
        ),
        (
            "siplb_backend_weight{pool=\"switches\",backend=\"sw2\"}",
            "1.5",
        ),
        (
            "siplb_backend_share_ratio{pool=\"switches\",backend=\"sw2\"}",
            "1",
        ),
        (
            "siplb_backend_probe_failures_total{pool=\"switches\",backend=\"sw1\"}",
            "2",
        ),
        (
            "siplb_backend_health_changes_total{pool=\"switches\",backend=\"sw1\",reason=\"no_answer\"}",
            "1",
        ),
        (
            "siplb_backend_requests_total{pool=\"switches\",backend=\"sw1\"}",
            "0",
        ),
        (
            "siplb_backend_requests_total{pool=\"switches\",backend=\"sw2\"}",
            "1",
        ),
        (
            "siplb_backend_calls_total{pool=\"switches\",backend=\"sw2\"}",
            "1",
        ),
        (
            "siplb_backend_responses_total{pool=\"switches\",backend=\"sw2\",class=\"1xx\"}",
            "1",
        ),
        (
            "siplb_backend_first_response_seconds_bucket{pool=\"switches\",backend=\"sw2\",le=\"0.002\"}",
            "0",
        ),
        (
            "siplb_backend_first_response_seconds_bucket{pool=\"switches\",backend=\"sw2\",le=\"0.005\"}",
            "1",
        ),
        (
            "siplb_backend_first_response_seconds_sum{pool=\"switches\",backend=\"sw2\"}",
            "0.003",
        ),
        (
            "siplb_requests_total{from=\"client\",to=\"backend\",method=\"INVITE\"}",
            "2",
        ),
        (
            "siplb_responses_total{from=\"backend\",to=\"client\",method=\"INVITE\",class=\"2xx\"}",
            "1",
        ),
        (
            "siplb_outcomes_total{kind=\"forward\",outcome=\"request_to_pool\"}",
            "2",
        ),
        (
            "siplb_outcomes_total{kind=\"drop\",outcome=\"not_sip\"}",
            "0",
        ),
        (
            "siplb_received_datagrams_total{queue=\"1\",cpu=\"3\",path=\"af_xdp\"}",
            "10",
        ),
        (
            "siplb_worker_busy_seconds_total{queue=\"0\",cpu=\"2\"}",
            "1.5",
        ),
        (
            "siplb_batch_duration_seconds_bucket{queue=\"0\",cpu=\"2\",le=\"0.000002\"}",
            "1",
        ),
        ("siplb_batch_datagrams_sum{queue=\"0\",cpu=\"2\"}", "3"),
        (
            "siplb_umem_chunks{queue=\"0\",cpu=\"2\",place=\"free\"}",
            "60",
        ),
        (
            "siplb_gate_open{interface=\"eth0\",queue=\"0\",attach=\"native\",copy=\"copy\"}",
            "1",
        ),
        (
            "siplb_xdp_packets_total{interface=\"eth0\",queue=\"1\",cpu=\"3\",outcome=\"steered\",verdict=\"redirect\"}",
            "10",
        ),
    ] {
        assert_eq!(
            series.get(name).map(String::as_str),
            Some(value),
            "{name}\n{text}"
        );
    }
    assert!(!text.contains("gone"), "a backend of the past is shown");
}

#[test]
fn both_formats_say_the_same() {
    let facts = facts("formats");
    let (text, open) = (
        facts.encode(Format::Text),
        facts.encode(Format::OpenMetrics),
    );
    assert_eq!(series(&text), series(&open));
    assert!(open.ends_with("\n# EOF\n"));
}

#[test]
fn half_of_the_metrics_is_a_failure() {
    let commands = |request: &Request| answers(&request.command).into();
    let mut pages = Pages {
        commands: Arc::new(commands),
        counters: Sources {
            workers: "/nonexistent/stats".into(),
            pin_path: None,
            fallback: None,
        },
    };
    let answer = super::answer(&pages, &Question::default());
    assert_eq!(answer.status, StatusCode::SERVICE_UNAVAILABLE);
    pages.commands = Arc::new(|_: &Request| json!({ "ok": false, "error": "not today" }).into());
    let answer = super::answer(&pages, &Question::default());
    assert_eq!(answer.status, StatusCode::SERVICE_UNAVAILABLE);
    assert_eq!(answer.bytes, b"not today\n");
}
