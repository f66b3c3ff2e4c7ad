//! What an operator does to a pool with calls running: servers die, come back, are drained and stopped; configurations
//! change; calls are limited.

use std::{thread, time::Duration};

use lb_userspace::{
    balance::Strategy,
    control::{
        Request,
        plane::{BackendReport, BackendsReport, LimitReport},
    },
};
use serde_json::json;
use siplb_lab::{
    Family, Lab, Shape, Siplb, alone, can_run,
    siplb::{DataPath, Options},
    sipp::{Plan, Scenario, Sipp},
    until,
};

const SERVERS: usize = 3;
const RATE: u32 = 300;
/// A minute of calls.
const CALLS: u64 = 60 * RATE as u64;
const SETTLE: Duration = Duration::from_secs(20);

fn options() -> Options {
    Options {
        families: vec![Family::V4],
        pool: "health: { interval: 1s, timeout: 500ms, fall: 2, rise: 2, slow_start: 3s }".into(),
        ..Options::new(DataPath::Native)
    }
}

fn server(lab: &Lab, number: usize, start: u32) -> Sipp {
    let plan = Plan::server(Scenario::new("uas_pool"), lab.server(Family::V4, number));
    let name = format!("server{number}-{start}");
    Sipp::start(lab, &lab.servers, &name, &plan).expect("a server")
}

fn backends(siplb: &Siplb) -> Vec<BackendReport> {
    let answer = siplb.command(&Request::new("backends")).expect("an answer");
    let report: BackendsReport = serde_json::from_value(answer).expect("backends");
    report.backends
}

fn await_state(siplb: &Siplb, name: &str, state: &str) {
    let is_there = || {
        let backend = backends(siplb)
            .into_iter()
            .find(|backend| backend.name == name);
        backend.filter(|backend| backend.state == state)
    };
    let found = until(&format!("{name} to be {state}"), SETTLE, is_there);
    found.unwrap_or_else(|error| panic!("{error}: {:#?}", backends(siplb)));
}

/// The share of new calls that the configuration file would move, as `siplb check --against-running` has it.
fn moved_percent(siplb: &Siplb) -> f64 {
    let file = siplb.configuration().to_str().expect("a path");
    let arguments = ["check", "--config", file, "--against-running", "--json"];
    let json = siplb.client().cli(&arguments).expect("an answer");
    let json: serde_json::Value = serde_json::from_str(&json).expect("JSON");
    json["against_running"]["pools"][0]["moved_percent"]
        .as_f64()
        .expect("a number")
}

/// One server is killed and comes back, another is drained and stopped, the configuration changes twenty times: no
/// call is lost, neither of those that are up nor of those in set-up.
#[test]
fn a_minute_in_the_life_of_a_pool() {
    if !can_run() {
        return;
    }
    let _alone = alone();
    let lab = Lab::new(Shape::TwoArmed, 2).expect("a lab");
    let mut siplb = Siplb::start(&lab, &options()).expect("siplb");
    let mut servers: Vec<Sipp> = (0..SERVERS).map(|number| server(&lab, number, 0)).collect();
    for number in 1..=SERVERS {
        await_state(&siplb, &format!("sip{number}"), "active");
    }
    let local = (lab.client_address(Family::V4), 5061).into();
    let mut plan = Plan::caller(
        Scenario::new("uac_bye"),
        local,
        lab.vip(Family::V4),
        CALLS,
        RATE,
    );
    plan.pause_ms = 4000;
    let mut caller = Sipp::start(&lab, &lab.client, "caller", &plan.on_cpu(1)).expect("a caller");
    let created = |caller: &Sipp, calls: u64| {
        let begun = || {
            caller
                .statistics()
                .ok()
                .filter(|books| books.created >= calls)
        };
        until("calls", Duration::from_secs(60), begun).expect("calls");
    };

    let mut reloads = 0;
    let mut reload = |siplb: &Siplb| {
        reloads += 1;
        let weights = vec![1 + reloads % 3, 1, 2];
        siplb
            .rewrite(
                &lab,
                &Options {
                    weights,
                    ..options()
                },
            )
            .expect("a configuration");
        let would_move = moved_percent(siplb);
        let answer = siplb.command(&Request::new("reload")).expect("a reload");
        assert_eq!(answer["generation"], json!(1 + reloads), "{answer}");
        let moves = answer["changes"]
            .as_array()
            .is_some_and(|changes| !changes.is_empty());
        // Of the lowest of four weights to the highest: from a fifth of the slots to half of them, when all are active.
        let possible = if moves { 0.0..=60.0 } else { 0.0..=0.0 };
        assert!(
            possible.contains(&would_move),
            "{would_move} % for {answer}"
        );
    };
    let mut drained = None;
    for step in 1..=20u64 {
        created(&caller, step * CALLS / 21);
        reload(&siplb);
        match step {
            4 => {
                let siplb = siplb.client();
                drained = Some(thread::spawn(move || {
                    siplb.cli(&["drain", "sip3", "--wait"])
                }));
            }
            7 => {
                servers[0].process().kill();
                await_state(&siplb, "sip1", "unhealthy");
            }
            14 => {
                servers[0] = server(&lab, 0, 1);
                await_state(&siplb, "sip1", "active");
            }
            _ => {}
        }
    }
    let drained = drained
        .expect("a drain")
        .join()
        .expect("a thread that ends");
    let said = drained.expect("a drained backend");
    assert!(said.starts_with("sip3: draining by the operator"), "{said}");
    // Calls that are up last four seconds; they were set up half a minute ago.
    servers[2].stop().expect("an end");

    let calls = caller.finish(Duration::from_secs(60)).expect("calls");
    println!("{calls:?}\n{:#?}", backends(&siplb));
    let outcome = (calls.successful, calls.failed);
    assert_eq!(outcome, (CALLS, 0), "{calls:?}\n{}", caller.errors());
    // An invalid configuration changes nothing, and neither does one that would need a restart.
    std::fs::write(siplb.configuration(), "node: { nmae: x }").expect("a file");
    let refused = siplb
        .command(&Request::new("reload"))
        .expect_err("a refusal");
    assert!(
        format!("{refused:#}").contains(":1:9: node.nmae"),
        "{refused:#}"
    );
    let other = Options {
        data_path: DataPath::Socket,
        ..options()
    };
    siplb.rewrite(&lab, &other).expect("a configuration");
    let refused = siplb
        .command(&Request::new("reload"))
        .expect_err("a refusal");
    assert!(
        format!("{refused:#}").contains("datapath changed, which needs a restart"),
        "{refused:#}"
    );
    assert_eq!(siplb.status().expect("status").generation, 21);

    for server in &mut servers[..2] {
        server.stop().expect("an end");
    }
    siplb.stop().expect("an ordinary end");
}

/// Four callers offer 250 calls a second for ten seconds where 100 are allowed.
fn check_cps(workers: u32) {
    if !can_run() {
        return;
    }
    let _alone = alone();
    let lab = Lab::new(Shape::TwoArmed, workers).expect("a lab");
    let options = Options {
        data_path: DataPath::Socket,
        families: vec![Family::V4],
        rest: "limits: { cps: 100, on_breach: 480, silence_after: 0 }\n".into(),
        ..Options::new(DataPath::Socket)
    };
    let mut siplb = Siplb::start(&lab, &options).expect("siplb");
    let mut servers: Vec<Sipp> = (0..SERVERS).map(|number| server(&lab, number, 0)).collect();
    let mut callers: Vec<Sipp> = [70, 60, 60, 60]
        .into_iter()
        .zip(0..)
        .map(|(rate, number)| {
            let local = (lab.client_address(Family::V4), 5061 + number).into();
            let calls = 10 * u64::from(rate);
            let plan = Plan::caller(
                Scenario::new("uac_limited"),
                local,
                lab.vip(Family::V4),
                calls,
                rate,
            );
            Sipp::start(&lab, &lab.client, &format!("caller{number}"), &plan).expect("a caller")
        })
        .collect();
    for caller in &mut callers {
        let calls = caller.finish(Duration::from_secs(40)).expect("calls");
        assert_eq!(calls.failed, 0, "{calls:?}\n{}", caller.errors());
    }
    let limit = || -> Option<LimitReport> {
        let request = Request::new("cps").with("count", 30);
        let mut answer = siplb.command(&request).ok()?;
        let limits: Vec<LimitReport> = serde_json::from_value(answer["limits"].take()).ok()?;
        let node = limits.into_iter().find(|limit| limit.name == "node")?;
        // The last second is over when it is in the history.
        let sum: u64 = node
            .points
            .iter()
            .map(|[accepted, _]| u64::from(*accepted))
            .sum();
        (sum == node.accepted).then_some(node)
    };
    let limit = until("the last second to be over", SETTLE, limit).expect("a limit");
    println!("{workers} workers: {limit:?}");
    assert_eq!(limit.accepted + limit.breached, 2500, "{limit:?}");
    let busy = limit.points.iter().filter(|[_, breached]| *breached > 0);
    let busy = busy.map(|[accepted, _]| *accepted).collect::<Vec<_>>();
    assert!(busy.iter().all(|accepted| *accepted <= 100), "{limit:?}");
    // The first and the last second are parts of one.
    let whole = &busy[1..busy.len() - 1];
    let mean = whole.iter().sum::<u32>() as f64 / whole.len() as f64;
    assert!(mean > 95.0, "{mean}: {limit:?}");
    let totals = siplb.settled("all to be decided", |totals| {
        totals.received() == totals.decided()
    });
    let totals = totals.expect("counters that add up");
    assert!(
        totals.outcome("cps_breached") >= limit.breached,
        "{totals:#?}"
    );
    for server in &mut servers {
        server.stop().expect("an end");
    }
    siplb.stop().expect("an ordinary end");
}

#[test]
fn calls_above_the_limit_are_refused_by_two_workers() {
    check_cps(2);
}

#[test]
fn calls_above_the_limit_are_refused_by_four_workers() {
    check_cps(4);
}

/// Under every strategy CANCEL and the ACK to a refusal follow their INVITE, through real sockets; turns are taken by whole
/// calls.
#[test]
fn transactions_stay_together_under_every_strategy() {
    if !can_run() {
        return;
    }
    let lab = Lab::new(Shape::TwoArmed, 1).expect("a lab");
    for strategy in Strategy::ALL {
        let options = Options {
            families: vec![Family::V4],
            weights: vec![3, 1, 2],
            pool: format!("strategy: {}", strategy.name()),
            ..Options::new(DataPath::Native)
        };
        let mut siplb = Siplb::start(&lab, &options).expect("siplb");
        for (caller, server) in [("uac_cancel", "uas_cancel"), ("uac_reject", "uas_reject")] {
            let created = play(&lab, strategy, caller, server);
            assert_eq!(created.iter().sum::<u64>(), 60, "{strategy:?}: {created:?}");
            match strategy {
                Strategy::WeightedRoundRobin | Strategy::HashAuthUsername => {
                    assert_eq!(created, [30, 10, 20], "{strategy:?}");
                }
                Strategy::First => assert_eq!(created, [60, 0, 0]),
                _ => {}
            }
        }
        siplb.stop().expect("an ordinary end");
    }
}

/// Sixty calls, after which every server has got all of its own and nothing else; how many each got.
fn play(lab: &Lab, strategy: Strategy, caller: &str, server: &str) -> Vec<u64> {
    let name = |what: &str| format!("{}-{what}", strategy.name());
    let scenario = |name: &str| Scenario::new(name).with("STATUS", 486);
    let mut servers: Vec<Sipp> = (0..SERVERS)
        .map(|number| {
            let plan = Plan::server(scenario(server), lab.server(Family::V4, number));
            Sipp::start(
                lab,
                &lab.servers,
                &name(&format!("{server}{number}")),
                &plan,
            )
            .expect("a server")
        })
        .collect();
    let local = (lab.client_address(Family::V4), 5061).into();
    let plan = Plan::caller(scenario(caller), local, lab.vip(Family::V4), 60, 60);
    let mut calls = Sipp::start(lab, &lab.client, &name(caller), &plan).expect("a caller");
    let books = calls.finish(Duration::from_secs(30)).expect("calls");
    let outcome = (books.successful, books.failed);
    assert_eq!(outcome, (60, 0), "{strategy:?}\n{}", calls.errors());
    let created = servers.iter_mut().map(|server| {
        let books = server.stop().expect("an end");
        assert_eq!(
            (books.failed, books.out_of_call),
            (0, 0),
            "{strategy:?}: {books:?}"
        );
        books.created
    });
    created.collect()
}
