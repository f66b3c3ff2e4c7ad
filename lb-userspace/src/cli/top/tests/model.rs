//! What is made of answers and counters.

use super::{
    super::{
        model::{DropKind, Gate},
        problems::Severity,
    },
    *,
};

fn problems(desk: &Desk) -> Vec<String> {
    let problems = desk.app.model.picture.problems.iter();
    problems.map(|problem| problem.text.clone()).collect()
}

#[test]
fn rates_are_those_of_the_last_interval() {
    let node = Fake::new();
    let mut desk = Desk::new(&node, Span::Minute);
    desk.look();
    let picture = &desk.app.model.picture;
    assert_eq!(picture.backends[0].requests_per_s, None);
    assert_eq!(picture.queues[0].received_per_s, None);
    assert_eq!(picture.queues[0].busy_percent, None);
    for (passed, received) in [(1, 1000), (2, 5000)] {
        node.change(|world| {
            world.now_s += passed;
            world.counters[0].1 += received;
            world.outcomes.push(("not_sip", "drop", 0));
            world.outcomes.last_mut().unwrap().2 += 30 * passed;
        });
        desk.look();
        let picture = &desk.app.model.picture;
        let rate = received as f64 / passed as f64;
        assert_eq!(picture.queues[0].received_per_s, Some(rate));
        assert_eq!(picture.queues[0].sent_per_s, Some(0.0));
        assert_eq!(picture.queues[0].busy_percent.map(f64::round), Some(10.0));
        assert_eq!(picture.queues[1].busy_percent, None);
        assert_eq!(picture.backends[0].requests_per_s, Some(40.0));
        assert_eq!(picture.backends[0].invites_per_s, Some(10.0));
    }
}

#[test]
fn a_restart_of_the_node_is_no_rate_and_leaves_the_past() {
    let node = Fake::new();
    let mut desk = Desk::new(&node, Span::Minute);
    desk.pass(5);
    node.change(|world| world.status = None);
    desk.pass(3);
    node.change(|world| {
        world.started_s = world.now_s;
        world.counters[0].1 = 7;
        world.status = Fake::new().change(|world| world.status.take());
        world.status.as_mut().unwrap().pid = 4712;
    });
    desk.pass(1);
    let picture = &desk.app.model.picture;
    assert_eq!(picture.silence, None);
    assert_eq!(picture.backends[0].requests_per_s, None);
    assert_eq!(picture.queues[0].received_per_s, None);
    desk.pass(1);
    let picture = &desk.app.model.picture;
    assert_eq!(picture.backends[0].requests_per_s, Some(40.0));

    // Ten seconds: five with calls, three that nobody knows, two with calls.
    let columns = picture.past.columns(Span::Minute, 60, picture.end_s());
    let known = columns.values.iter().rev().take(10).map(Option::is_some);
    let known = known.collect::<Vec<_>>();
    assert_eq!(known[..2], [true; 2]);
    assert_eq!(known[2..5], [false; 3]);
    assert_eq!(known[5..], [true; 5]);
}

#[test]
fn silence_begins_when_it_last_answered() {
    let node = Fake::new();
    let mut desk = Desk::new(&node, Span::Minute);
    desk.pass(2);
    node.change(|world| world.status = None);
    desk.pass(4);
    let picture = &desk.app.model.picture;
    let silence = picture.silence.as_ref().expect("silence");
    assert_eq!((silence.since_s, picture.time_s), (NOON + 2, NOON + 6));
    assert_eq!(picture.newest, None);
    // What it said before stays.
    assert_eq!(picture.backends.len(), 3);
    assert_eq!(picture.queues[0].gate, Gate::Unknown);
    assert_eq!(problems(&desk), ["pid 4711 is not running"]);
}

#[test]
fn the_graph_agrees_with_what_was_offered() {
    let node = Fake::new();
    node.change(|world| world.offered = |second| if second == NOON - 30 { 950 } else { 40 });
    for span in Span::ALL {
        let mut desk = Desk::new(&node, span);
        desk.look();
        let picture = &desk.app.model.picture;
        assert_eq!(picture.newest, Some([40, 0]), "{span:?}");
        let columns = picture.past.columns(span, 66, picture.end_s());
        assert_eq!(columns.most, [100.0, 850.0], "{span:?}");
        if span == Span::Day {
            // The node has three hours and twelve minutes to tell.
            let seconds = 11_520.0;
            assert_eq!(columns.mean, [40.0 + 60.0 / seconds, 850.0 / seconds]);
        }
    }
}

#[test]
fn another_limit_has_another_past() {
    let node = Fake::new();
    node.change(|world| world.offered = |_| 300);
    let mut desk = Desk::new(&node, Span::Minute);
    desk.pass(2);
    assert_eq!(desk.app.model.picture.newest_of_watched(), Some([100, 200]));
    desk.asker
        .watch(Watched::new("source 198.51.100.0/24", Span::Minute));
    desk.pass(1);
    let picture = &desk.app.model.picture;
    assert_eq!(picture.newest_of_watched(), Some([300, 0]));
    let columns = picture.past.columns(Span::Minute, 60, picture.end_s());
    assert!(
        columns
            .values
            .iter()
            .all(|value| *value == Some([300.0, 0.0]))
    );
    // The node's own numbers go on.
    assert_eq!(picture.newest, Some([100, 200]));
}

#[test]
fn drops_are_sorted_by_rate_then_by_total_and_wanted_replies_are_none() {
    let node = Fake::new();
    node.change(|world| {
        world.outcomes = vec![
            ("not_sip", "drop", 5_000),
            ("options_answered", "reply", 9_000),
            ("cps_breached", "reply", 10),
            ("own_reply_acked", "absorb", 10),
            ("response_bad_mac", "drop", 20),
            ("empty", "drop", 0),
        ];
        world.counters.push(("xsk_rx_dropped", 3));
    });
    let mut desk = Desk::new(&node, Span::Minute);
    desk.look();
    node.change(|world| {
        world.outcomes[2].2 += 150;
        world.outcomes[4].2 += 10;
    });
    desk.pass(1);
    let drops = &desk.app.model.picture.drops;
    let rows = drops
        .iter()
        .map(|row| (row.name.as_str(), row.kind, row.per_s, row.total));
    assert_eq!(
        rows.collect::<Vec<_>>(),
        [
            ("cps_breached", DropKind::Reply, Some(150.0), 160),
            ("response_bad_mac", DropKind::Drop, Some(10.0), 30),
            ("not_sip", DropKind::Drop, Some(0.0), 5_000),
            // Of both workers.
            ("xsk_rx_dropped", DropKind::Lost, Some(0.0), 6),
        ]
    );
}

#[test]
fn everything_that_is_wrong_is_said_the_worst_first() {
    let node = Fake::new();
    let mut desk = Desk::new(&node, Span::Minute);
    desk.pass(2);
    assert!(problems(&desk).is_empty(), "{:?}", problems(&desk));
    node.change(|world| {
        world.offered = |_| 250;
        let status = world.status.as_mut().unwrap();
        let announce = status.announce.as_mut().unwrap();
        announce.announced = false;
        announce.reason = Some("1 of the workers do not work".into());
        announce.since_s = 4;
        status.workers[1].sockets[0].gate_open = false;
        status.workers[1].heartbeat_age_ms = Some(4200);
        world.backends[0].state = "draining".into();
        world.backends[0].operator = Some("draining".into());
        world.backends[0].since_s = Some(7200);
        world.backends[1].state = "unhealthy".into();
        world.backends[1].health = Some("unhealthy".into());
        world.backends[1].reason = Some("no answer to 3 probes in a row".into());
        world.backends[1].since_s = Some(12);
        world.counters.push(("tx_ring_full", 1));
    });
    desk.pass(1);
    node.change(|world| world.counters.last_mut().unwrap().1 += 50);
    desk.pass(1);
    assert_eq!(
        problems(&desk),
        [
            "not announced for 4 s: 1 of the workers do not work",
            "queue 1: the gate on eth0 is closed; datagrams go through the kernel",
            "queue 1: worker silent for 4200 ms",
            "sw2 unhealthy for 12 s: no answer to 3 probes in a row",
            "150 calls/s refused by limit node (100)",
            "tx_ring_full 100/s: lost in this host",
            "sw1 draining for 2 h 0 min, by the operator",
        ]
    );
    let problems = &desk.app.model.picture.problems;
    assert_eq!(problems.last().unwrap().severity, Severity::Note);
}

#[test]
fn the_limit_that_refuses_is_named() {
    let node = Fake::new();
    node.change(|world| {
        world.offered = |_| 90;
        // What the source's limit refuses the node refuses as well.
        world.limits = vec![(NODE_LIMIT, Some(60)), ("source 198.51.100.0/24", Some(60))];
    });
    let mut desk = Desk::new(&node, Span::Minute);
    desk.pass(3);
    assert_eq!(
        problems(&desk),
        ["30 calls/s refused by limit source 198.51.100.0/24 (60)"]
    );
}
