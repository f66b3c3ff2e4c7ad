//! All of a trunk meets one queue: the worker of it, when it is full, hands calls to the other one, in order, and nothing is
//! lost.
//!
//! The lab cannot keep a worker busy for long, as what makes messages needs a processor too. So the node is stopped, its RX ring is
//! filled, and it goes on: for as long as it takes to empty the ring its worker is as full as any.

use std::{
    collections::BTreeMap,
    io::{BufRead, BufReader, Write},
    os::unix::net::UnixStream,
    time::{Duration, Instant},
};

use lb_userspace::sys::thread::pin_to_cpu;
use nix::sys::socket::{setsockopt, sockopt::RcvBufForce};
use rustix::process::Signal;
use siplb_lab::{
    Family, Lab, Shape, Siplb, alone, can_run,
    message::{Peer, ping, request},
    siplb::{DataPath, Options, Totals},
    sipp::{Plan, Scenario, Sipp},
    until,
};

/// Frames that wait in the ring, and how many are sent into it.
const RING: u32 = 8192;
const BURST: usize = 8000;
/// How often it is tried.
const MOST_BURSTS: u32 = 20;
/// Calls that take turns in it.
const CALLS: usize = 200;
const TIMEOUT: Duration = Duration::from_secs(10);
/// How long the last messages are on their way from the node to the server.
const ON_ITS_WAY: Duration = Duration::from_millis(200);
/// One of so many may get lost on the wires of the lab, whose rings are short, when the machine has other things to do.
const LOSSES: u64 = 50;
/// Room for what a server gets at once, as the kernel counts it.
const SERVER_BUFFER: usize = 64 << 20;

struct Trunk {
    lab: Lab,
    siplb: Siplb,
    /// One address and port, and so one queue.
    carrier: Peer,
    server: Peer,
    /// How many have been sent before.
    sent: usize,
    /// They are for the node itself, which answers.
    are_pings: bool,
}

impl Trunk {
    fn new(share_load: &str) -> Self {
        let lab = Lab::new(Shape::TwoArmed, 2).expect("a lab");
        let options = Options {
            families: vec![Family::V4],
            weights: vec![1],
            // It is stopped for longer than a worker may usually be silent.
            more_data_path: format!(
                ", ring: {RING}, chunks: {}, stale_after: 10s, share_load: {share_load}",
                3 * RING
            ),
            ..Options::new(DataPath::Native)
        };
        let siplb = Siplb::start(&lab, &options).expect("siplb");
        let carrier = (lab.client_address(Family::V4), 5070).into();
        let carrier = Peer::bind(&lab.client, carrier).expect("a socket");
        let server = Peer::bind(&lab.servers, lab.server(Family::V4, 0)).expect("a socket");
        setsockopt(server.socket(), RcvBufForce, &SERVER_BUFFER).expect("a buffer");
        let mut trunk = Self {
            lab,
            siplb,
            carrier,
            server,
            sent: 0,
            are_pings: false,
        };
        // The next hop is known from now on.
        trunk.send(1);
        trunk.server.expect(TIMEOUT).expect("the first message");
        trunk
    }

    /// Sends messages of all calls in turns. They have the number of their call and their own one in CSeq.
    fn send(&mut self, count: usize) {
        let (carrier, vip) = (
            self.carrier.address().expect("an address"),
            self.lab.vip(Family::V4),
        );
        let (peer, first, are_pings) = (&self.carrier, self.sent, self.are_pings);
        // The queue is that of the processor.
        let send = || {
            pin_to_cpu(0).expect("CPU 0");
            for number in first..first + count {
                let call = format!("call-{}@trunk", number % CALLS);
                let message = match are_pings {
                    true => ping(carrier, vip, &call),
                    false => request("MESSAGE", carrier, vip, &call, "", ""),
                };
                let message = message.replace("CSeq: 1 ", &format!("CSeq: {} ", number + 1));
                peer.send(message, vip).expect("sent");
            }
        };
        std::thread::scope(|scope| scope.spawn(send).join().expect("no panic"));
        self.sent += count;
    }

    /// Fills the RX ring of a node that stands still, and lets it go on.
    fn burst(&mut self) {
        self.siplb.process().signal(Signal::STOP);
        self.send(BURST);
        self.siplb.process().signal(Signal::CONT);
    }

    /// What the server has got since it was last asked, by call, in that order. To be asked when all has been sent.
    fn received(&self) -> BTreeMap<String, Vec<u32>> {
        let mut calls = BTreeMap::<String, Vec<u32>>::new();
        while let Some((message, _)) = self.server.receive(ON_ITS_WAY).expect("a socket") {
            let message = String::from_utf8(message).expect("text");
            let value = |name: &str| {
                let lines = message.lines();
                let value = lines.filter_map(|line| line.strip_prefix(name)).next();
                value.expect("a header field").to_owned()
            };
            let sequence = value("CSeq: ");
            let sequence = sequence.split(' ').next().expect("a number");
            let call = calls.entry(value("Call-ID: ")).or_default();
            call.push(sequence.parse().expect("a number"));
        }
        calls
    }

    fn of_worker(&self, worker: usize, counter: &str) -> u64 {
        let snapshot = self.siplb.statistics().expect("statistics");
        let counters = &snapshot.workers[worker].counters;
        let found = counters.iter().find(|one| one.name == counter);
        found.expect("a counter").value
    }

    fn decided_by(&self, worker: usize) -> u64 {
        let snapshot = self.siplb.statistics().expect("statistics");
        let outcomes = snapshot.workers[worker].outcomes.iter();
        outcomes.map(|outcome| outcome.value).sum()
    }

    /// What the first worker has handed to the second one, when all has been sent and the books agree.
    fn handed_over(&self) -> u64 {
        let sent = self.sent as u64;
        let totals = self.siplb.settled("all to be sent", |totals| {
            let came = self.siplb.xdp().map_or(0, |xdp| xdp.total("steered"));
            came >= sent - sent / LOSSES
                && totals.received() == came
                && totals.decided() == came
                && totals.counter("tx_af_xdp") == came
                && totals.counter("handed_over") == totals.counter("taken_over")
        });
        let totals = totals.expect("books that agree");
        let came = totals.received();
        assert_eq!(totals.counter("handover_full"), 0, "{totals:#?}");
        assert_eq!(self.of_worker(0, "rx_af_xdp"), came, "one queue");
        assert_eq!(self.of_worker(1, "handed_over"), 0);
        let handed = self.of_worker(0, "handed_over");
        assert_eq!(self.of_worker(1, "taken_over"), handed);
        assert_eq!(self.of_worker(1, "tx_af_xdp"), handed);
        assert_eq!(self.decided_by(1), handed);
        assert_eq!(self.decided_by(0), came - handed);
        handed
    }

    /// Fails unless the server has got nearly so many, and of each call in order.
    fn assert_order(&self, sent: usize) {
        let calls = self.received();
        for (call, numbers) in &calls {
            assert!(numbers.is_sorted(), "{call}: {numbers:?}");
        }
        let count = calls.values().map(Vec::len).sum::<usize>();
        assert!(count >= sent - sent / LOSSES as usize, "{count}");
    }
}

#[test]
fn the_other_worker_takes_a_part_and_order_is_kept() {
    if !can_run() {
        return;
    }
    let _alone = alone();
    let mut trunk = Trunk::new("auto");
    assert_eq!(trunk.handed_over(), 0);
    // A trace sees each message once, whoever has handled it.
    let trace = UnixStream::connect(trunk.siplb.client().control()).expect("a socket");
    (&trace)
        .write_all(b"{\"command\":\"trace\"}\n")
        .expect("a request");
    let mut answer = String::new();
    let mut lines = BufReader::new(&trace);
    lines.read_line(&mut answer).expect("an answer");
    assert!(answer.contains("\"ok\":true"), "{answer}");

    // A machine that has other things to do may not let the other worker be idle in time.
    let (mut before, mut parts) = (0, 0);
    for _ in 0..MOST_BURSTS {
        trunk.burst();
        let handed = trunk.handed_over();
        trunk.assert_order(BURST);
        parts += u32::from(handed > before);
        before = handed;
        if parts == 3 {
            break;
        }
    }
    assert_eq!(parts, 3, "bursts of which it took a part");
    let seen = |name| trunk.of_worker(0, name) + trunk.of_worker(1, name);
    let traced = seen("trace_copied") + seen("trace_dropped") + seen("trace_limited");
    assert_eq!(traced, seen("rx_af_xdp") - 1);
    drop(trace);

    // When it is calm the calls come back, and then nothing is handed over.
    let calm = Instant::now() + TIMEOUT;
    loop {
        let before = trunk.of_worker(0, "handed_over");
        trunk.send(CALLS);
        if trunk.handed_over() == before {
            break;
        }
        assert!(Instant::now() < calm, "still handing over");
    }
    trunk.siplb.stop().expect("an ordinary end");
}

#[test]
fn calls_of_others_notice_nothing() {
    if !can_run() {
        return;
    }
    let _alone = alone();
    let mut trunk = Trunk::new("auto");
    trunk.are_pings = true;
    let address = trunk.lab.server(Family::V4, 0);
    drop(std::mem::replace(
        &mut trunk.server,
        Peer::bind(&trunk.lab.servers, (address.ip(), 5099).into()).expect("a socket"),
    ));
    let plan = Plan::server(Scenario::new("uas_bye"), address);
    let mut server = Sipp::start(&trunk.lab, &trunk.lab.servers, "server", &plan).expect("SIPp");
    let local = (trunk.lab.client_address(Family::V4), 5061).into();
    let vip = trunk.lab.vip(Family::V4);
    // Through the same queue.
    let plan = Plan::caller(Scenario::new("uac_bye"), local, vip, 400, 100).on_cpu(0);
    let mut caller = Sipp::start(&trunk.lab, &trunk.lab.client, "caller", &plan).expect("SIPp");
    let mut bursts = 0;
    let created = |caller: &Sipp| caller.statistics().map_or(0, |books| books.created);
    while created(&caller) < 400 {
        let wanted = created(&caller) + 50;
        until("calls", TIMEOUT, || {
            (created(&caller) >= wanted.min(400)).then_some(())
        })
        .expect("calls");
        trunk.burst();
        bursts += 1;
    }
    let calls = caller.finish(Duration::from_secs(40)).expect("calls");
    let outcome = (calls.successful, calls.failed);
    assert_eq!(outcome, (400, 0), "{calls:?}\n{}", caller.errors());
    server.stop().expect("an end");
    assert!(bursts > 2, "{bursts}");
    let handed = trunk.of_worker(0, "handed_over");
    assert!(handed > 0);
    trunk.siplb.stop().expect("an ordinary end");
    assert_eq!(trunk.of_worker(0, "handover_full"), 0);
    assert_eq!(
        trunk.of_worker(0, "handed_over"),
        trunk.of_worker(1, "taken_over")
    );
}

#[test]
fn a_node_that_ends_meanwhile_handles_all_first() {
    if !can_run() {
        return;
    }
    let _alone = alone();
    let mut trunk = Trunk::new("auto");
    trunk.burst();
    let mut bursts = 1;
    // Reading the counters takes less than emptying the ring.
    until("calls to be handed over", TIMEOUT, || {
        let is_over = trunk.of_worker(0, "rx_af_xdp") >= (trunk.sent - BURST / 2) as u64;
        if is_over && bursts < MOST_BURSTS {
            trunk.burst();
            bursts += 1;
        }
        (trunk.of_worker(0, "handed_over") > 0).then_some(())
    })
    .expect("handed over");
    trunk.siplb.process().signal(Signal::TERM);
    trunk.siplb.await_end(TIMEOUT).expect("books that agree");
    assert_eq!(
        trunk.of_worker(0, "handed_over"),
        trunk.of_worker(1, "taken_over")
    );
    let totals = Totals::of(&trunk.siplb.statistics().expect("statistics"));
    assert_eq!(totals.sent(), totals.received(), "{totals:#?}");
    assert_eq!(totals.counter("handover_full"), 0, "{totals:#?}");
    trunk.assert_order(trunk.sent - 1);
}

#[test]
fn nothing_is_handed_over_when_it_is_off() {
    if !can_run() {
        return;
    }
    let _alone = alone();
    let mut trunk = Trunk::new("off");
    trunk.burst();
    assert_eq!(trunk.handed_over(), 0);
    trunk.siplb.stop().expect("an ordinary end");
}
