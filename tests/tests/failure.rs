//! siplb dies, hangs and comes back under load: traffic moves to the kernel and back, and nothing is a black hole.

use std::{
    io::ErrorKind,
    net::UdpSocket,
    time::{Duration, Instant},
};

use rustix::process::Signal;
use siplb_lab::{
    Family, Lab, Shape, Siplb, alone, can_run,
    message::{Peer, ping, request, respond},
    siplb::{DataPath, Options},
    sipp::{Plan, Scenario, Sipp},
    until,
};

const TIMEOUT: Duration = Duration::from_secs(5);

#[test]
fn a_killed_process_leaves_no_black_hole_and_a_restarted_one_goes_on() {
    if !can_run() {
        return;
    }
    let _alone = alone();
    let lab = Lab::new(Shape::TwoArmed, 2).expect("a lab");
    // The load alone would use up what the kernel allows of ICMP errors.
    lab.edge
        .sysctl("ipv4/icmp_ratelimit", "0")
        .expect("a setting");
    let mut siplb = Siplb::start(&lab, &Options::new(DataPath::Native)).expect("siplb");
    let mut servers: Vec<Sipp> = (0..3)
        .map(|number| {
            let plan = Plan::server(lasting("uas_fleet"), lab.server(Family::V4, number));
            Sipp::start(&lab, &lab.servers, &format!("server{number}"), &plan).expect("a server")
        })
        .collect();
    let local = (lab.client_address(Family::V4), 5061).into();
    let scenario = lasting("uac_fleet").with("ENDS", "caller");
    let plan = Plan::caller(scenario, local, lab.vip(Family::V4), 2000, 200);
    let mut caller = Sipp::start(&lab, &lab.client, "caller", &plan).expect("a caller");
    let under_load = |calls: u64| {
        until("calls to be in progress", TIMEOUT, || {
            caller
                .statistics()
                .ok()
                .filter(|books| books.created >= calls)
        })
    };
    under_load(400).expect("load");

    siplb.process().kill();
    let took = until_the_kernel_answers(&lab);
    assert!(
        took < Duration::from_secs(1),
        "the kernel got nothing for {took:?}"
    );
    siplb.start_again(&lab).expect("siplb again");
    under_load(800).expect("load");

    let calls = caller.finish(Duration::from_secs(40)).expect("calls");
    let outcome = (calls.successful, calls.failed);
    assert_eq!(outcome, (2000, 0), "{calls:?}\n{}", caller.errors());
    assert!(
        calls.retransmissions > 0,
        "the load went on while siplb was dead"
    );
    for server in &mut servers {
        server.stop().expect("an end");
    }
    let totals = siplb.settled("frames to be accounted for", |totals| {
        totals.frames().0 == totals.frames().1
    });
    assert!(totals.expect("frames").counter("rx_af_xdp") > 0);
    siplb.stop().expect("an ordinary end");
}

/// Calls that are in progress when siplb dies, and end when it is back. Both ends answer again when an answer was lost,
/// as RFC 3261 17.2 wants it: a BYE comes again for the one that was on its way back when siplb was killed.
fn lasting(scenario: &str) -> Scenario {
    Scenario::new(scenario)
        .with("SHORTEST", 2000)
        .with("LONGEST", 4000)
}

/// Sends datagrams to the VIP until the edge's kernel says that nobody listens there: then it has them.
fn until_the_kernel_answers(lab: &Lab) -> Duration {
    let begin = Instant::now();
    let socket = lab.client.enter(|| -> std::io::Result<UdpSocket> {
        let socket = UdpSocket::bind((lab.client_address(Family::V4), 0))?;
        socket.connect(lab.vip(Family::V4))?;
        socket.set_read_timeout(Some(Duration::from_millis(10)))?;
        Ok(socket)
    });
    let socket = socket.expect("inside").expect("a socket");
    let refused = |error: std::io::Error| error.kind() == ErrorKind::ConnectionRefused;
    until("the kernel to answer", TIMEOUT, || {
        let sent = socket.send(b"\r\n\r\n").is_err_and(refused);
        let received = socket.recv(&mut [0; 64]).is_err_and(refused);
        (sent || received).then_some(())
    })
    .expect("an ICMP error");
    begin.elapsed()
}

#[test]
fn a_stopped_process_has_its_gates_closed_and_loses_nothing() {
    if !can_run() {
        return;
    }
    let _alone = alone();
    let lab = Lab::new(Shape::TwoArmed, 2).expect("a lab");
    let mut siplb = Siplb::start(&lab, &Options::new(DataPath::Native)).expect("siplb");
    let vip = lab.vip(Family::V4);
    let client =
        Peer::bind(&lab.client, (lab.client_address(Family::V4), 5061).into()).expect("a client");
    let from = client.address().expect("an address");
    let ask = |call_id: &str| client.send(ping(from, vip, call_id), vip).expect("sent");
    let answered = |call_id: &str| {
        let (response, _) = client.expect(TIMEOUT).expect("an answer");
        assert!(response.contains(call_id), "{response}");
    };
    ask("running");
    answered("running");

    siplb.process().signal(Signal::STOP);
    // What arrives before the heartbeat is too old waits in the RX ring.
    let mut sent = 0;
    until("the gates to close", TIMEOUT, || {
        sent += 1;
        ask(&format!("stopped-{sent}"));
        (siplb.xdp().expect("counters").total("gate_stale") > 0).then_some(())
    })
    .expect("a closed gate");
    let closed = siplb.xdp().expect("counters");
    for _ in 0..10 {
        sent += 1;
        ask(&format!("stopped-{sent}"));
    }
    let stale = |siplb: &Siplb| siplb.xdp().expect("counters").total("gate_stale");
    until("all of them to pass to the kernel", TIMEOUT, || {
        (stale(&siplb) == closed.total("gate_stale") + 10).then_some(())
    })
    .expect("frames that pass");
    assert_eq!(
        siplb.xdp().expect("counters").total("steered"),
        closed.total("steered")
    );

    siplb.process().signal(Signal::CONT);
    // Some waited in the ring and some in the kernel's socket, so the order is open.
    let mut answers = std::collections::BTreeSet::new();
    while answers.len() < sent {
        let (response, _) = client.expect(TIMEOUT).expect("an answer");
        let call_id = response
            .lines()
            .find_map(|line| line.strip_prefix("Call-ID: "));
        answers.insert(call_id.expect("a Call-ID").to_string());
    }
    until("the gates to open", TIMEOUT, || {
        ask("again");
        answered("again");
        let steered = siplb.xdp().expect("counters").total("steered");
        (steered > closed.total("steered")).then_some(())
    })
    .expect("an open gate");
    siplb.stop().expect("an ordinary end");
}

#[test]
fn an_ordinary_stop_gives_the_port_back_and_loses_nothing_in_flight() {
    if !can_run() {
        return;
    }
    let _alone = alone();
    let lab = Lab::new(Shape::TwoArmed, 2).expect("a lab");
    let options = Options::new(DataPath::Native);
    let mut siplb = Siplb::start(&lab, &options).expect("siplb");
    let vip = lab.vip(Family::V4);
    let client =
        Peer::bind(&lab.client, (lab.client_address(Family::V4), 5061).into()).expect("a client");
    let servers: Vec<Peer> = (0..3)
        .map(|number| Peer::bind(&lab.servers, lab.server(Family::V4, number)).expect("a server"))
        .collect();
    let from = client.address().expect("an address");
    client
        .send(request("INVITE", from, vip, "over-a-restart", "", ""), vip)
        .expect("sent");
    let (server, invite) = until("the INVITE", TIMEOUT, || {
        servers.iter().find_map(|server| {
            let (invite, _) = server.receive(Duration::from_millis(5)).ok()??;
            Some((server, String::from_utf8_lossy(&invite).into_owned()))
        })
    })
    .expect("the INVITE");
    siplb.stop().expect("an ordinary end");
    assert!(
        !siplb.pins().join("outside").exists(),
        "pins are left in {:?}",
        siplb.pins()
    );
    until_the_kernel_answers(&lab);
    siplb.start_again(&lab).expect("siplb again");
    // The response finds its way through a process that has never seen the request.
    server.send(respond(&invite, "200 OK"), vip).expect("sent");
    let (response, _) = client.expect(TIMEOUT).expect("the response");
    assert!(response.starts_with("SIP/2.0 200 "), "{response}");
    siplb.stop().expect("an ordinary end");
}
