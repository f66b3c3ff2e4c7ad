//! One VIP on many nodes: they come, go and die with calls running, and nothing is lost.

use std::{
    path::Path,
    process::Command,
    thread,
    time::{Duration, Instant},
};

use rustix::process::Signal;
use siplb_lab::{
    Family, alone,
    baresip::{Account, Baresip},
    can_run_with,
    fleet::Fleet,
    kamailio::{self, Kamailio, PathUse},
    message::{Peer, request, respond},
    siplb::{DataPath, Options, Totals},
    sipp::{Plan, Scenario, Sipp, Statistics},
    until,
};

const FAMILIES: [Family; 2] = [Family::V4, Family::V6];
const SERVERS: usize = 3;
/// Shortest and longest call in the long test, in milliseconds.
const LENGTHS: [u32; 2] = [5000, 20_000];
/// Of calls in the long test.
const SECONDS: u32 = 60;
/// New calls a second in the long test, of each of the two callers.
const RATE: u32 = 150;
/// From the loss of a node's power until the router sends nothing there any more: BFD takes three tenths of a second,
/// the rest is for a busy machine.
const WITHDRAWN: Duration = Duration::from_millis(1000);
/// The same from the end of siplb alone: the VIP is on `lo` for three seconds at a time.
const EXPIRED: Duration = Duration::from_secs(4);
const CALL: Duration = Duration::from_secs(20);

#[test]
fn calls_reach_the_servers_through_every_edge() {
    if !can_run_with(&["bird"]) {
        return;
    }
    let _alone = alone();
    let mut fleet = Fleet::raise(3, &Options::new(DataPath::Native)).expect("a fleet");
    const CALLS: u64 = 100;
    let lengths = [100, 1000];
    let mut servers = FAMILIES.map(|family| servers(&fleet, family, lengths));
    let plans = FAMILIES.map(|family| {
        ["caller", "server"].map(|ends| Plan {
            rate: 50,
            calls: Some(CALLS),
            ..caller(&fleet, family, ends, lengths)
        })
    });
    let mut callers = Vec::new();
    for (number, plan) in plans.as_flattened().iter().enumerate() {
        let name = format!("caller{number}");
        let caller = Sipp::start(&fleet.lab, &fleet.callers, &name, plan);
        callers.push(caller.expect("a caller"));
    }
    for caller in &mut callers {
        let books = caller.finish(Duration::from_secs(60)).expect("calls");
        let outcome = (books.successful, books.failed);
        assert_eq!(outcome, (CALLS, 0), "{books:?}\n{}", caller.errors());
    }
    for servers in &mut servers {
        let books = stop(servers);
        assert_eq!((books.created, books.failed), (2 * CALLS, 0), "{books:?}");
    }
    for edge in 0..fleet.count() {
        for family in ["v4", "v6"] {
            let calls = invites(&fleet, edge, family);
            println!("{calls} calls by edge {edge} over {family}");
            assert!(calls > CALLS / 10, "{calls} by edge {edge}");
        }
    }
    fleet.stop().expect("an ordinary end");
}

/// What becomes of an edge.
#[derive(Clone, Copy, Debug)]
enum Event {
    /// siplb and BIRD are killed.
    Crash(usize),
    /// siplb alone is killed, and BIRD lives on.
    Die(usize),
    /// No power.
    PowerOff(usize),
    /// It withdraws, and ends after the grace period.
    Leave(usize),
    /// Everything on it is started, as at boot.
    Start(usize),
    /// There is another one.
    Add,
}

/// At which second of the calls, and which edges serve then.
const EVENTS: [(u64, Event, &[usize]); 13] = [
    (6, Event::Crash(1), &[0, 2]),
    (11, Event::Start(1), &[0, 1, 2]),
    (16, Event::Leave(2), &[0, 1]),
    (21, Event::Start(2), &[0, 1, 2]),
    (26, Event::PowerOff(0), &[1, 2]),
    (31, Event::Start(0), &[0, 1, 2]),
    (36, Event::Add, &[0, 1, 2, 3]),
    (40, Event::Die(3), &[0, 1, 2]),
    (45, Event::PowerOff(1), &[0, 2]),
    (47, Event::Crash(2), &[0]),
    (50, Event::Start(1), &[0, 1]),
    (53, Event::Start(3), &[0, 1, 3]),
    (57, Event::Leave(0), &[1, 3]),
];

/// Does it to the edge; how long the router took to learn of it.
fn happen(fleet: &mut Fleet, event: Event, serving: &[usize]) -> Duration {
    let begin = Instant::now();
    match event {
        Event::Crash(edge) => fleet.crash(edge),
        Event::Die(edge) => fleet.kill_siplb(edge),
        Event::PowerOff(edge) => fleet.power_off(edge).expect("no power"),
        Event::Start(edge) => fleet.start(edge).expect("an edge"),
        Event::Add => assert_eq!(fleet.add().expect("an edge"), fleet.count() - 1),
        Event::Leave(edge) => return fleet.leave(edge).expect("an ordinary end"),
    }
    fleet.await_next_hops(serving).expect("next hops");
    begin.elapsed()
}

#[test]
fn a_minute_in_the_life_of_a_fleet() {
    if !can_run_with(&["bird"]) {
        return;
    }
    let _alone = alone();
    let options = Options {
        families: vec![Family::V4],
        ..Options::new(DataPath::Native)
    };
    let mut fleet = Fleet::raise(3, &options).expect("a fleet");
    let mut servers = servers(&fleet, Family::V4, LENGTHS);
    let wanted = u64::from(SECONDS * RATE);
    let mut callers = ["caller", "server"].map(|ends| {
        let plan = Plan {
            rate: RATE,
            calls: Some(wanted),
            ..caller(&fleet, Family::V4, ends, LENGTHS)
        };
        let name = format!("{ends}-ends");
        Sipp::start(&fleet.lab, &fleet.callers, &name, &plan).expect("a caller")
    });

    let start = Instant::now();
    let mut report = String::new();
    for (second, event, serving) in EVENTS {
        let due = start + Duration::from_secs(second);
        thread::sleep(due.saturating_duration_since(Instant::now()));
        let taken = happen(&mut fleet, event, serving);
        report += &format!("{second:>3} s {event:?}: {taken:.2?}\n");
        let limit = match event {
            Event::Start(_) | Event::Add => continue,
            Event::Die(_) => EXPIRED,
            Event::Crash(_) | Event::PowerOff(_) | Event::Leave(_) => WITHDRAWN,
        };
        assert!(taken < limit, "{report}{}", fleet.route_changes());
    }
    let books = callers
        .each_mut()
        .map(|caller| caller.finish(Duration::from_secs(120)).expect("calls"));
    let served = stop(&mut servers);
    for edge in 0..fleet.count() {
        report += &format!(
            "edge {edge}: {} INVITEs since its last start\n",
            invites(&fleet, edge, "")
        );
    }
    println!("{report}{books:#?}\nservers: {served:#?}");
    for (caller, books) in callers.iter().zip(&books) {
        let outcome = (books.successful, books.failed);
        assert_eq!(outcome, (wanted, 0), "{}", caller.errors());
    }
    let errors: String = servers.iter().map(Sipp::errors).collect();
    // One that is created for a request other than an INVITE is a call that is on the wrong server.
    let outcome = (served.created, served.successful, served.failed);
    assert_eq!(outcome, (2 * wanted, 2 * wanted, 0), "{errors}");
    fleet.stop().expect("an ordinary end");
}

/// The node whose only server is silent takes itself out, and comes back with the server.
#[test]
fn a_node_without_a_server_withdraws() {
    if !can_run_with(&["bird"]) {
        return;
    }
    let _alone = alone();
    let (fall, interval) = (2, Duration::from_secs(1));
    let options = Options {
        families: vec![Family::V4],
        weights: vec![1],
        pool: format!(
            "health: {{ interval: 1s, timeout: 500ms, fall: {fall}, rise: 1, slow_start: 0s }}"
        ),
        ..Options::new(DataPath::Native)
    };
    let mut fleet = Fleet::raise(0, &options).expect("a fleet");
    let scenario = with_lengths(Scenario::new("uas_fleet"), [100, 1000]);
    let plan = Plan::server(scenario, fleet.lab.server(Family::V4, 0));
    let mut server = Sipp::start(&fleet.lab, &fleet.lab.servers, "server", &plan).expect("one");
    fleet.add().expect("an edge");
    fleet.await_next_hops(&[0]).expect("an edge");

    // It says nothing: a process that is gone would be known by ICMP at once.
    server.process().signal(Signal::STOP);
    let stopped = Instant::now();
    fleet.await_next_hops(&[]).expect("no edge");
    let taken = stopped.elapsed();
    println!("withdrawn after {taken:.2?}");
    assert!(
        taken <= fall * interval + Duration::from_secs(1),
        "{taken:?}"
    );
    let status = fleet.siplb(0).status().expect("a status");
    let reason = status.announce.and_then(|announce| announce.reason);
    let words = "pool switches-v4 has no backend that takes calls";
    assert_eq!(reason.as_deref(), Some(words));

    server.process().signal(Signal::CONT);
    fleet.await_next_hops(&[0]).expect("the edge again");
    println!("back after {:.2?}", stopped.elapsed() - taken);
    fleet.stop().expect("an ordinary end");
}

/// Where ExaBGP is the routing daemon it hears from `siplb exabgp` what to say.
#[test]
fn exabgp_says_what_the_node_says() {
    if !can_run_with(&["bird", "exabgp"]) {
        return;
    }
    let _alone = alone();
    let mut fleet = Fleet::raise(1, &Options::new(DataPath::Native)).expect("a fleet");
    fleet.use_exabgp().expect("ExaBGP");
    fleet.await_next_hops(&[0]).expect("announced");
    println!("{:?} to withdraw", fleet.leave(0).expect("an end"));
    fleet.start(0).expect("siplb again");
    fleet.await_next_hops(&[0]).expect("announced again");
    fleet.kill_siplb(0);
    let begin = Instant::now();
    fleet.await_next_hops(&[]).expect("withdrawn");
    println!("{:?} after it was killed", begin.elapsed());
}

/// The way to the callers is narrower than the wires of the edges. ICMP errors would tell only one node of it, if any:
/// routers send them to the VIP. Over IPv4 routers may cut what we send; over IPv6, where they may not, the edges' routes
/// say how much fits. Fragments of one datagram all meet the same edge.
#[test]
fn large_messages_pass_a_narrow_path() {
    if !can_run_with(&["bird"]) {
        return;
    }
    let _alone = alone();
    let options = Options {
        weights: vec![1],
        ..Options::new(DataPath::Native)
    };
    let mut fleet = Fleet::raise(3, &options).expect("a fleet");
    let narrow = "link set {} mtu 1280";
    fleet
        .callers
        .ip(&narrow.replace("{}", "eth0"))
        .expect("MTU");
    fleet
        .core
        .ip(&narrow.replace("{}", "callers"))
        .expect("MTU");
    for edge in 0..fleet.count() {
        let router = "2001:db8:2::1";
        let route = format!("-6 route change default via {router} mtu 1280");
        fleet.host(edge).ip(&route).expect("a route");
    }
    for family in FAMILIES {
        let vip = fleet.lab.vip(family);
        let server = fleet.lab.server(family, 0);
        let server = Peer::bind(&fleet.lab.servers, server).expect("a server");
        for port in 0..12u16 {
            let from = (fleet.callers_address(family), 5061 + port).into();
            let caller = Peer::bind(&fleet.callers, from).expect("a caller");
            let call_id = format!("narrow-{family:?}-{port}");
            // Each fills a packet of the edges, or takes some.
            let length = [1250, 1400, 4000][usize::from(port % 3)];
            let sent = request("INVITE", from, vip, &call_id, "", &"x".repeat(length));
            caller.send(&sent, vip).expect("sent");
            let (invite, _) = server.expect(CALL).expect(&call_id);
            assert!(invite.ends_with(&"x".repeat(length)), "{invite}");
            let status = format!("200 OK\r\nSubject: {}", "y".repeat(length - 500));
            let response = respond(&invite, &status);
            // More than once, as servers do: a busy node takes a moment to learn of the route.
            let received = until(&call_id, CALL, || {
                server.send(&response, vip).expect("sent");
                caller.receive(Duration::from_millis(500)).expect("a peer")
            });
            let (received, _) = received.expect("the response");
            let received = String::from_utf8_lossy(&received).into_owned();
            assert!(received.contains(&"y".repeat(length - 500)), "{received}");
        }
    }
    // Responses of the calls over IPv6 that are beyond 1,280 bytes and came in whole. Over IPv4 the router cuts.
    let edges = 0..fleet.count();
    let cut = edges.map(|edge| totals(&fleet, edge).counter("larger_than_mtu"));
    assert!(cut.sum::<u64>() >= 4);
    fleet.stop().expect("an ordinary end");
}

/// The router at home forgets silent flows after seconds: that the phone is reached means that its keepalives are
/// answered by whatever edge gets them, and that every edge knows the way to it, not the one alone that it registered
/// through.
#[test]
fn a_phone_behind_a_nat_stays_reachable() {
    if !can_run_with(&["bird", "kamailio", "kamcmd", "baresip"]) {
        return;
    }
    let _alone = alone();
    let options = Options {
        families: vec![Family::V4],
        weights: vec![1],
        nat: "{ detect: [received], fix: [rport] }".into(),
        pool: "registration: path".into(),
        rest: "outbound: { trusted: [10.0.0.0/24] }\n".into(),
        ..Options::new(DataPath::Native)
    };
    let mut fleet = Fleet::raise(3, &options).expect("a fleet");
    fleet.lab.forget_flows_after(4).expect("timeouts");
    let registrar = kamailio::Options {
        flow_timer: Some(2),
        ..kamailio::Options::new(PathUse::Lenient)
    };
    let lab = &fleet.lab;
    let server = lab.server(Family::V4, 0);
    let registrar =
        Kamailio::start(lab, &lab.servers, "registrar", server, &registrar).expect("Kamailio");
    let account = Account {
        keepalives: true,
        ..Account::new("alice", lab.vip(Family::V4))
    };
    let address = lab.client_address(Family::V4);
    let mut alice = Baresip::start(lab, &lab.client, address, &account).expect("a phone");
    alice.await_registered().expect("a registration");
    let requests = |fleet: &Fleet, edge| {
        let totals = totals(fleet, edge);
        totals
            .backends
            .values()
            .map(|(requests, _)| requests)
            .sum::<u64>()
    };
    let edges = 0..fleet.count();
    let first = until("the edge of the registration", CALL, || {
        edges.clone().find(|edge| requests(&fleet, *edge) > 0)
    });
    let first = first.expect("an edge");
    let [second, third] = [1, 2].map(|step| (first + step) % 3);
    calls_from_the_platform(&fleet, "before", &mut alice);

    let steps: [(&str, Event, &[usize]); 6] = [
        ("crash", Event::Crash(first), &[second, third]),
        ("leave", Event::Leave(second), &[third]),
        ("start", Event::Start(first), &[first, third]),
        ("power", Event::PowerOff(third), &[first]),
        ("start2", Event::Start(second), &[first, second]),
        ("die", Event::Die(first), &[second]),
    ];
    for (name, event, serving) in steps {
        let taken = happen(&mut fleet, event, serving);
        println!("{event:?}: {taken:.2?}");
        calls_from_the_platform(&fleet, name, &mut alice);
    }
    let again = alice.has_told("REGISTER_OK").expect("a phone");
    assert!(!again, "it has registered anew");
    let bindings = registrar.bindings().expect("bindings");
    assert_eq!(bindings.len(), 1, "{bindings:#?}");
    fleet.stop().expect("an ordinary end");
}

/// What the lab does not run: at least it is understood by those who are to run it.
#[test]
fn the_file_for_frr_is_valid() {
    if !can_run_with(&["vtysh"]) {
        return;
    }
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../scripts/frr-edge.conf");
    let output = Command::new("vtysh").args(["-C", "-f"]).arg(path).output();
    let output = output.expect("vtysh");
    assert!(output.status.success(), "{output:?}");
}

/// Two calls: in one the platform hangs up, in the other the phone.
fn calls_from_the_platform(fleet: &Fleet, step: &str, alice: &mut Baresip) {
    for scenario in ["platform_bye", "platform_peer_bye"] {
        let lab = &fleet.lab;
        let [registrar, local] = [0, 1].map(|number| lab.server(Family::V4, number));
        let target = format!("alice@{}", kamailio::DOMAIN);
        let plan = Plan::caller(
            Scenario::new(scenario)
                .with("TARGET", target)
                .with("HOST", "platform.test"),
            local,
            registrar,
            1,
            1,
        );
        let name = format!("{scenario}-{step}");
        let mut call = Sipp::start(lab, &lab.servers, &name, &plan).expect("a caller");
        alice.await_established().expect(&name);
        if scenario == "platform_bye" {
            alice.await_closed().expect(&name);
        } else {
            alice.hang_up().expect(&name);
        }
        let books = call.finish(CALL).expect("a call");
        assert_eq!(books.successful, 1, "{name}: {books:#?}\n{}", call.errors());
    }
}

fn servers(fleet: &Fleet, family: Family, lengths: [u32; 2]) -> Vec<Sipp> {
    let lab = &fleet.lab;
    (0..SERVERS)
        .map(|number| {
            let scenario = with_lengths(Scenario::new("uas_fleet"), lengths);
            let plan = Plan::server(scenario, lab.server(family, number));
            let name = format!("server{number}-{family:?}");
            Sipp::start(lab, &lab.servers, &name, &plan).expect("a server")
        })
        .collect()
}

/// Calls of which `ends` says who ends them, each from a port of its own: the router spreads by ports.
fn caller(fleet: &Fleet, family: Family, ends: &str, lengths: [u32; 2]) -> Plan {
    // SIPp wants one for itself; the calls have others.
    let port = if ends == "caller" { 5061 } else { 5062 };
    let local = (fleet.callers_address(family), port).into();
    let scenario = with_lengths(Scenario::new("uac_fleet"), lengths).with("ENDS", ends);
    let plan = Plan::caller(scenario, local, fleet.lab.vip(family), 0, 0);
    Plan {
        own_ports: true,
        ..plan.on_cpu(1)
    }
}

fn with_lengths(scenario: Scenario, [shortest, longest]: [u32; 2]) -> Scenario {
    scenario.with("SHORTEST", shortest).with("LONGEST", longest)
}

/// Ends servers when their calls are over; what they have in their books, together.
fn stop(servers: &mut [Sipp]) -> Statistics {
    let books = servers.iter_mut().map(|server| {
        let over = || server.statistics().ok().filter(|books| books.current == 0);
        // One that goes on is seen in the books.
        let _ = until("the end of all calls", CALL, over);
        server.stop().expect("an end")
    });
    Statistics::sum(&books.collect::<Vec<_>>())
}

fn totals(fleet: &Fleet, edge: usize) -> Totals {
    Totals::of(&fleet.siplb(edge).statistics().expect("statistics"))
}

/// How many INVITEs of new calls an edge has sent, since siplb was started there, to servers whose name ends so.
fn invites(fleet: &Fleet, edge: usize, family: &str) -> u64 {
    let totals = totals(fleet, edge);
    let backends = totals.backends.iter();
    let backends = backends.filter(|(name, _)| name.ends_with(family));
    backends.map(|(_, (_, invites))| invites).sum()
}
