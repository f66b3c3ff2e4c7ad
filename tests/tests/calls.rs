//! Thousands of calls by real SIPp, and books that agree: callers', servers', XDP program's and workers'.

use std::time::{Duration, Instant};

use siplb_lab::{
    Family, Lab, Shape, Siplb, alone, can_run,
    lab::cpus,
    siplb::{DataPath, Options, Totals},
    sipp::{Plan, Scenario, Sipp, Statistics, Traffic},
};

const QUEUES: u32 = 2;
const CALLERS: u16 = 2;
const SERVERS: usize = 3;
const CALLS: u64 = 5000;
const CALLS_PER_SECOND: u32 = 250;
/// INVITE, 180, 200, ACK, BYE, 200.
const MESSAGES_PER_CALL: u64 = 6;

#[test]
fn over_native_af_xdp() {
    check(Shape::TwoArmed, Family::V4, DataPath::Native);
}

#[test]
fn over_native_af_xdp_and_ipv6() {
    check(Shape::TwoArmed, Family::V6, DataPath::Native);
}

#[test]
fn over_native_af_xdp_with_one_interface() {
    check(Shape::OneArmed, Family::V4, DataPath::Native);
}

#[test]
fn over_native_af_xdp_with_one_interface_and_ipv6() {
    check(Shape::OneArmed, Family::V6, DataPath::Native);
}

#[test]
fn over_kernel_sockets() {
    check(Shape::TwoArmed, Family::V4, DataPath::Socket);
}

#[test]
fn over_kernel_sockets_and_ipv6() {
    check(Shape::TwoArmed, Family::V6, DataPath::Socket);
}

fn check(shape: Shape, family: Family, data_path: DataPath) {
    if !can_run() {
        return;
    }
    let _alone = alone();
    let lab = Lab::new(shape, QUEUES).expect("a lab");
    let options = Options {
        families: vec![family],
        ..Options::new(data_path)
    };
    let mut siplb = Siplb::start(&lab, &options).expect("siplb");
    let (callers, servers) = play(&lab, family);

    let invites: Vec<u64> = servers.iter().map(|(books, _)| books.created).collect();
    let caller_traffic = Traffic::sum(callers.iter().map(|(_, traffic)| *traffic));
    let server_traffic = Traffic::sum(servers.iter().map(|(_, traffic)| *traffic));
    let messages = CALLS * MESSAGES_PER_CALL;
    assert_eq!(caller_traffic.sent + server_traffic.sent, messages);
    assert_eq!(caller_traffic.received + server_traffic.received, messages);

    let totals = siplb
        .settled("all messages to be in the counters", |totals| {
            totals.received() == messages
                && totals.sent() == messages
                && totals.frames().0 == totals.frames().1
        })
        .expect("counters that add up");
    assert_eq!(totals.decided(), messages, "{totals:#?}");
    assert_eq!(
        totals.classes,
        [("forward".to_string(), messages)].into(),
        "{totals:#?}"
    );
    for (number, count) in invites.iter().enumerate() {
        let backend = options.backend(family, number);
        assert_eq!(
            totals.backends[&backend].1, *count,
            "{backend}: {totals:#?}"
        );
        // Of 5,000 a third, with a standard deviation of 33.
        assert!(
            (1500..=1833).contains(count),
            "{backend} has {count} of {CALLS} calls"
        );
    }
    match data_path {
        DataPath::Socket => assert_eq!(totals.counter("rx_kernel"), messages),
        _ => check_af_xdp(&lab, &siplb, &totals),
    }
    siplb.stop().expect("an ordinary end");
}

type Books = Vec<(Statistics, Traffic)>;

/// Plays all calls; returns the books of callers and servers.
fn play(lab: &Lab, family: Family) -> (Books, Books) {
    let mut servers: Vec<Sipp> = (0..SERVERS)
        .map(|number| {
            let plan =
                Plan::server(Scenario::new("uas_bye"), lab.server(family, number)).on_cpu(number);
            Sipp::start(lab, &lab.servers, &format!("server{number}"), &plan).expect("a server")
        })
        .collect();
    let begin = Instant::now();
    let mut callers: Vec<Sipp> = (0..CALLERS)
        .map(|number| {
            let local = (lab.client_address(family), 5061 + number).into();
            let (calls, rate) = (
                CALLS / u64::from(CALLERS),
                CALLS_PER_SECOND / u32::from(CALLERS),
            );
            let plan = Plan::caller(
                Scenario::new("uac_bye"),
                local,
                lab.vip(family),
                calls,
                rate,
            );
            let plan = plan.on_cpu(usize::from(number));
            Sipp::start(lab, &lab.client, &format!("caller{number}"), &plan).expect("a caller")
        })
        .collect();
    let books =
        |sipps: &mut Vec<Sipp>, end: fn(&mut Sipp) -> anyhow::Result<Statistics>| -> Books {
            let all = sipps.iter_mut().map(|sipp| {
                let books = end(sipp).expect("books");
                assert_eq!(
                    (books.failed, books.retransmissions, books.out_of_call),
                    (0, 0, 0),
                    "{books:?}\n{}",
                    sipp.errors()
                );
                (books, sipp.traffic().expect("traffic"))
            });
            all.collect()
        };
    let callers = books(&mut callers, |caller| {
        caller.finish(Duration::from_secs(60))
    });
    let took = begin.elapsed();
    let servers = books(&mut servers, Sipp::stop);
    for party in [&callers, &servers] {
        let sum = Statistics::sum(party.iter().map(|(books, _)| books));
        assert_eq!(
            (sum.created, sum.successful, sum.current),
            (CALLS, CALLS, 0)
        );
    }
    let expected = Duration::from_secs(CALLS / u64::from(CALLS_PER_SECOND));
    assert!(
        took < expected * 5 / 4,
        "{CALLS} calls took {took:?} instead of {expected:?}"
    );
    (callers, servers)
}

fn check_af_xdp(lab: &Lab, siplb: &Siplb, totals: &Totals) {
    let xdp = siplb.xdp().expect("counters of the XDP program");
    let workers = siplb.statistics().expect("statistics").workers;
    assert_eq!(workers.len(), QUEUES as usize);
    for worker in &workers {
        let queue = worker.info.queue;
        let received = worker.counter("rx_af_xdp");
        assert_eq!(
            xdp.of_queue(queue, "steered"),
            received,
            "queue {queue}: {xdp:#?}"
        );
        assert!(
            received > 0 || cpus() < QUEUES as usize,
            "queue {queue} was not used: {xdp:#?}"
        );
        for lost in [
            "xsk_rx_dropped",
            "xsk_rx_ring_full",
            "xsk_rx_invalid",
            "xsk_tx_invalid",
        ] {
            assert_eq!(worker.counter(lost), 0, "{lost}");
        }
    }
    assert_eq!(totals.counter("rx_kernel"), 0, "{totals:#?}");
    // The first responses wait for nobody: until the client's MAC address is known the kernel sends them.
    assert!(totals.counter("tx_kernel") < 100, "{totals:#?}");

    let status = siplb.status().expect("status");
    assert_eq!(status.mode, "af-xdp");
    for worker in &status.workers {
        assert_eq!(worker.sockets.len(), lab.interfaces.len());
        for socket in &worker.sockets {
            assert_eq!(
                (socket.attach.as_str(), socket.copy.as_str()),
                ("native", "copy")
            );
            assert!(socket.gate_open, "{socket:?}");
        }
        let frames = worker.frames.expect("frames");
        assert_eq!(
            frames.free + frames.fill + frames.rx + frames.tx,
            frames.total
        );
    }
}
