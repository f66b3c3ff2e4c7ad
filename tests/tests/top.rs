//! `siplb top` over a node with calls: its numbers are SIPp's, and an operator can work with it.

use std::{path::Path, process::Command, time::Duration};

use lb_userspace::control::{
    Request,
    plane::{BackendsReport, LimitReport},
};
use rustix::process::Signal;
use siplb_lab::{
    Family, Lab, Shape, Siplb, Terminal, alone, can_run_with,
    siplb::{DataPath, Options, binary},
    sipp::{Plan, Scenario, Sipp},
    until,
};

const SERVERS: usize = 3;
const LIMIT: u32 = 100;
/// Calls a second of each caller; together 250.
const RATES: [u32; 2] = [130, 120];
const SECONDS: u64 = 30;
const SETTLE: Duration = Duration::from_secs(20);

fn options() -> Options {
    Options {
        families: vec![Family::V4],
        pool: "health: { interval: 1s, timeout: 500ms, fall: 2, rise: 2, slow_start: 1s }".into(),
        rest: format!("limits: {{ cps: {LIMIT}, on_breach: 480, silence_after: 0 }}\n"),
        ..Options::new(DataPath::Native)
    }
}

fn server(lab: &Lab, number: usize, start: u32) -> Sipp {
    let plan = Plan::server(Scenario::new("uas_pool"), lab.server(Family::V4, number));
    let name = format!("server{number}-{start}");
    Sipp::start(lab, &lab.servers, &name, &plan).expect("a server")
}

fn callers(lab: &Lab) -> Vec<Sipp> {
    let callers = RATES.into_iter().zip(0..).map(|(rate, number)| {
        let local = (lab.client_address(Family::V4), 5061 + number).into();
        let plan = Plan::caller(
            Scenario::new("uac_limited"),
            local,
            lab.vip(Family::V4),
            SECONDS * u64::from(rate),
            rate,
        );
        let name = format!("caller{number}");
        Sipp::start(lab, &lab.client, &name, &plan.on_cpu(1)).expect("a caller")
    });
    callers.collect()
}

fn path(path: &Path) -> &str {
    path.to_str().expect("a path")
}

/// The screen, in a terminal of its own.
fn screen(siplb: &Siplb, columns: u16, lines: u16) -> Terminal {
    let mut command = Command::new(binary().expect("a program"));
    command
        .args(["top", "--span", "1m", "--socket"])
        .arg(siplb.control())
        .arg("--stats-file")
        .arg(siplb.statistics_file());
    Terminal::start(&command, columns, lines).expect("a terminal")
}

fn state(siplb: &Siplb, name: &str) -> String {
    let answer = siplb.command(&Request::new("backends")).expect("an answer");
    let report: BackendsReport = serde_json::from_value(answer).expect("backends");
    let mut backends = report.backends.into_iter();
    let backend = backends.find(|backend| backend.name == name);
    backend.expect("a backend").state
}

/// `siplb cps --json` once the last second of calls is over: the limit of the node.
fn cps(siplb: &Siplb) -> LimitReport {
    let client = siplb.client();
    let told = || {
        let json = client.cli(&["cps", "--json", "--points", "120"]).ok()?;
        let mut answer: serde_json::Value = serde_json::from_str(&json).ok()?;
        let limits: Vec<LimitReport> = serde_json::from_value(answer["limits"].take()).ok()?;
        let node = limits.into_iter().find(|limit| limit.name == "node")?;
        let points = node.points.iter();
        let told: u64 = points.map(|point| u64::from(point[0] + point[1])).sum();
        (told == node.accepted + node.breached).then_some(node)
    };
    until("the last second to be over", SETTLE, told).expect("calls per second")
}

/// Calls that all callers had begun at a time, by their books: between two lines they begin evenly.
fn offered_until(callers: &[Sipp], time_s: u64) -> f64 {
    let of_one = |caller: &Sipp| {
        let books = caller.created_by_time().expect("books");
        let after = books.iter().position(|(time, _)| *time > time_s as f64);
        match after {
            Some(0) => 0.0,
            None => books.last().map_or(0.0, |last| last.1 as f64),
            Some(after) => {
                let [before, after] = [books[after - 1], books[after]];
                let part = (time_s as f64 - before.0) / (after.0 - before.0);
                before.1 as f64 + part * (after.1 - before.1) as f64
            }
        }
    };
    callers.iter().map(of_one).sum()
}

/// At the end of each second the graph has as many calls as SIPp had begun by then, give or take a second in which either of
/// them was kept waiting for a CPU, and a percent of all.
fn assert_in_time(node: &LimitReport, callers: &[Sipp]) {
    let all = (node.accepted + node.breached) as f64;
    let (mut told, mut furthest) = (0.0, 0.0_f64);
    for (second, [accepted, breached]) in (node.first_s..).zip(&node.points) {
        told += f64::from(accepted + breached);
        let least = offered_until(callers, second) - 0.01 * all;
        let most = offered_until(callers, second + 2) + 0.01 * all;
        assert!(
            (least..=most).contains(&told),
            "{told} calls at the end of {second}, by SIPp {least} to {most}: {node:?}"
        );
        furthest = furthest.max((told - offered_until(callers, second + 1)).abs());
    }
    println!("at most {furthest:.1} calls of {all} from SIPp's books at the end of a second");
}

fn assert_within_a_percent(what: &str, ours: f64, theirs: f64) {
    println!("{what}: {ours:.1} here, {theirs:.1} by SIPp");
    let difference = (ours - theirs).abs() / theirs;
    assert!(difference <= 0.01, "{what}: {ours} here, {theirs} by SIPp");
}

/// The number behind a word.
fn number(text: &str, word: &str) -> f64 {
    let rest = text.split(word).nth(1);
    let rest = rest.unwrap_or_else(|| panic!("{word:?} in\n{text}"));
    let number = rest.split_whitespace().next().unwrap_or_default();
    let number = number.replace(',', "").parse();
    number.unwrap_or_else(|error| panic!("{word:?}: {error} in\n{text}"))
}

#[test]
fn an_operator_sees_what_sipp_does_and_acts_on_it() {
    if !can_run_with(&["setsid"]) {
        return;
    }
    let _alone = alone();
    let lab = Lab::new(Shape::TwoArmed, 2).expect("a lab");
    let mut siplb = Siplb::start(&lab, &options()).expect("siplb");
    let mut servers: Vec<Sipp> = (0..SERVERS).map(|number| server(&lab, number, 0)).collect();
    let mut screen = screen(&siplb, 80, 24);
    screen
        .until("all backends to be active", |text| {
            text.matches("A active").count() == SERVERS
        })
        .expect("backends");
    let mut callers = callers(&lab);
    screen
        .shows("calls/s refused by limit node (100)")
        .expect("a problem");

    // A server dies and comes back.
    servers[1].process().kill();
    let text = screen.shows("! sip2 unhealthy for").expect("a problem");
    println!("{text}");
    screen.shows("sip2 U unhealthy").expect("a state");
    servers[1] = server(&lab, 1, 1);
    screen.shows("sip2 A active").expect("a state");

    // The third is drained and taken back: asked first, done on yes.
    screen.keys("jjd").expect("keys");
    let question = "Drain sip3 (10.0.0.13:5060)?";
    screen.shows(question).expect("a question");
    assert_eq!(state(&siplb, "sip3"), "active");
    screen.keys("n").expect("keys");
    screen
        .until("no question", |text| !text.contains(question))
        .expect("no question");
    assert_eq!(state(&siplb, "sip3"), "active");
    screen.keys("d").expect("keys");
    screen.shows(question).expect("a question");
    screen.keys("y").expect("keys");
    screen
        .shows("sip3: draining by the operator")
        .expect("an answer");
    assert_eq!(state(&siplb, "sip3"), "draining");
    screen.shows("sip3 D draining").expect("a state");
    screen.keys("u").expect("keys");
    screen.shows("Undrain sip3").expect("a question");
    screen.keys("y").expect("keys");
    screen.shows("sip3 A active").expect("a state");
    assert_eq!(state(&siplb, "sip3"), "active");

    // Another size.
    screen.resize(120, 40).expect("a size");
    screen
        .until("forty lines", |text| {
            let last = text.lines().nth(39).unwrap_or_default();
            last.contains("sip3: active") && text.contains("data path")
        })
        .expect("a larger screen");
    screen.resize(50, 10).expect("a size");
    screen
        .shows("too small: 50x10, at least 60x15")
        .expect("words");
    screen.resize(80, 24).expect("a size");
    screen
        .until("24 lines", |text| {
            let last = text.lines().nth(23).unwrap_or_default();
            !last.is_empty() && text.contains("Limit node: 100 calls/s")
        })
        .expect("a smaller screen");

    // Every call is on the screen, as it is in SIPp's books.
    let mut created = 0;
    for caller in &mut callers {
        // Calls that the dead server had may have failed; they were counted when they began.
        let books = caller.finish(Duration::from_secs(90)).expect("calls");
        created += books.created;
    }
    let refused = callers.iter().map(|caller| caller.responses(480));
    let refused = refused.sum::<anyhow::Result<u64>>().expect("counts");
    let node = cps(&siplb);
    let all = (node.accepted + node.breached) as f64;
    assert_within_a_percent("calls", all, created as f64);
    assert_within_a_percent("refused calls", node.breached as f64, refused as f64);
    let accepted = (created - refused) as f64;
    assert_within_a_percent("accepted calls", node.accepted as f64, accepted);
    assert_in_time(&node, &callers);

    let arguments = [
        "top",
        "--once",
        "--span",
        "1m",
        "--width",
        "120",
        "--stats-file",
    ];
    let arguments = arguments.into_iter().chain([path(siplb.statistics_file())]);
    let arguments = arguments.collect::<Vec<_>>();
    let once = siplb.client().cli(&arguments).expect("a snapshot");
    println!("{once}");
    let [calls, breached] = [number(&once, "  calls "), number(&once, "  refused ")];
    assert_eq!(
        [calls, breached],
        [node.accepted, node.breached].map(|calls| calls as f64)
    );
    // Two and a half times as many were offered.
    assert!(number(&once, "  most ") >= 0.9 * f64::from(LIMIT));
    assert!(once.lines().all(|line| line.chars().count() <= 120));
    assert!(!once.contains('\x1b'), "escape sequences");

    // Without a terminal there is no screen.
    let refused = siplb.client().cli(&["top"]).expect_err("a refusal");
    let refused = format!("{refused:#}");
    assert!(
        refused.contains("standard output is not a terminal"),
        "{refused}"
    );
    assert!(refused.contains("siplb top --once"), "{refused}");

    // The node goes away and comes back.
    siplb.process().kill();
    screen.shows("node does not answer since").expect("words");
    screen.shows("is not running").expect("a reason");
    screen.keys("d").expect("keys");
    screen.shows("the node does not answer").expect("words");
    siplb.start_again(&lab).expect("siplb");
    screen
        .until("the node", |text| {
            text.contains("calls 0  refused 0") && !text.contains("does not answer since")
        })
        .expect("the node again");
    screen.signal(Signal::TERM);
    assert!(screen.finish().expect("an end").success());

    let mut screen = self::screen(&siplb, 80, 24);
    screen.shows("q quit").expect("a screen");
    screen.keys("\x03").expect("keys");
    assert!(screen.finish().expect("an end").success());

    for server in &mut servers {
        server.stop().expect("an end");
    }
    siplb.stop().expect("an ordinary end");
}
