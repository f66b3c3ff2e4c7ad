//! A node without sockets: datagrams in, records out.

use std::{convert::Infallible, path::PathBuf};

use super::*;
use crate::{
    forward::{Action, Datagram, ListenerIndex, Outcome, Reading, Scratch, Table, Verdict, decide},
    stats::{Counter, StatsFile, StatsReader, WorkerInfo, WorkerStats},
    token::Keys,
};

const CLIENT: &str = "198.51.100.7:40000";
const BACKEND: &str = "10.0.0.11:5060";
const SECOND: u64 = 1_000_000_000;

const INVITE: &str = "INVITE sip:bob@example.com SIP/2.0\r\n\
    Via: SIP/2.0/UDP 192.168.1.5:5060;branch=z9hG4bK776asdhds;rport\r\n\
    Max-Forwards: 70\r\n\
    To: Bob <sip:bob@example.com>\r\n\
    From: Alice <sip:alice;x=1@example.com>;tag=1928301774\r\n\
    Call-ID: a84b4c76e66710@192.168.1.5\r\n\
    CSeq: 314159 INVITE\r\n\
    Content-Length: 0\r\n\
    \r\n";

struct Node {
    table: Table,
    taps: Arc<Taps>,
    sides: Vec<TapSide>,
    stats: Vec<WorkerStats>,
    scratch: Scratch,
    file: PathBuf,
}

impl Node {
    fn new(name: &str) -> Self {
        Self::configured(name, "keep")
    }

    fn configured(name: &str, topology: &str) -> Self {
        let text = format!(
            "
node: {{ name: a }}
listeners: [ {{ name: public, address: 203.0.113.10 }} ]
pools:
  - {{ name: switches, backends: [ {{ name: s1, address: '{BACKEND}' }} ] }}
routes: [ {{ method: INVITE, pool: switches }}, {{ method: BYE, pool: switches }} ]
outbound: {{ topology: {topology} }}
"
        );
        let mut config = crate::config::parse(&text, "t").unwrap_or_else(|error| panic!("{error}"));
        config.keys = Keys::new(b"the secret of the fleet", None);
        let worker = |queue| WorkerInfo {
            cpu: 0,
            queue,
            data_path: "test".into(),
        };
        let file = std::env::temp_dir().join(format!("siplb-tap-{name}-{}", std::process::id()));
        let stats = StatsFile::create(&file, &[worker(0), worker(1)], &["s1".into()]).unwrap();
        let taps = Arc::new(Taps::new(2));
        Self {
            table: Table::new(&config),
            sides: vec![taps.side(0), taps.side(1)],
            stats: vec![stats.worker(0), stats.worker(1)],
            taps,
            scratch: Scratch::new(),
            file,
        }
    }

    fn trace(&self, criteria: &Criteria) -> TapReader {
        let filter = Filter::new(criteria).unwrap();
        self.taps.open(Purpose::Trace, filter, 0).unwrap()
    }

    /// What a worker does with a datagram.
    fn send(&mut self, worker: usize, source: &str, payload: &str) -> Verdict {
        let datagram = Datagram {
            payload: payload.as_bytes(),
            source: source.parse().unwrap(),
            listener: ListenerIndex(0),
        };
        let mut reading = Reading::EMPTY;
        reading.read(&self.table, &datagram, &self.scratch.memory);
        let verdict = decide(&self.table, &datagram, &mut reading, &mut self.scratch);
        let side = &mut self.sides[worker];
        side.begin();
        if side.is_on() {
            let look = Look {
                table: &self.table,
                datagram: &datagram,
                message: &reading.message,
                verdict: &verdict,
                scratch: &self.scratch,
                way: Way::AfXdp,
                is_spoilt: false,
            };
            side.offer(&look, &self.stats[worker]);
        }
        verdict
    }

    /// What is sent for this.
    fn sent(&self, payload: &str) -> String {
        let edits = &self.scratch.edits;
        let mut bytes = vec![0; edits.output_len(payload.len())];
        edits.apply(payload.as_bytes(), &mut bytes).unwrap();
        String::from_utf8(bytes).unwrap()
    }

    fn counter(&self, counter: Counter) -> u64 {
        let snapshot = StatsReader::open(&self.file).unwrap().snapshot().unwrap();
        let counters = snapshot.workers.iter().flat_map(|worker| &worker.counters);
        let named = counters.filter(|found| found.name == counter.name());
        named.map(|found| found.value).sum()
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.file);
    }
}

/// Start line and source of everything that is there.
fn drain(reader: &mut TapReader) -> Vec<(String, String)> {
    let mut found = Vec::new();
    let Ok(()) = reader.drain(u64::MAX, |record| {
        let text = String::from_utf8_lossy(record.received()).into_owned();
        let line = text.lines().next().unwrap_or_default().to_owned();
        found.push((line, record.source.to_string()));
        Ok::<_, Infallible>(())
    });
    found
}

fn response(status: u16) -> String {
    // Its Vias are not those that we sent, which does not matter to who looks.
    let (_, rest) = INVITE.split_once("\r\n").unwrap();
    format!("SIP/2.0 {status} X\r\n{rest}")
}

#[test]
fn nobody_looks_until_a_tap_is_open_and_when_it_is_closed() {
    let mut node = Node::new("idle");
    node.send(0, CLIENT, INVITE);
    assert!(!node.sides[0].is_on());
    let mut reader = node.trace(&Criteria::default());
    node.send(0, CLIENT, INVITE);
    assert!(node.sides[0].is_on());
    assert_eq!(drain(&mut reader).len(), 1);
    // As workers do: one sees it with its next batch, the other one has not looked at all.
    let mut side = node.sides.remove(0);
    let worker = thread::spawn(move || {
        while side.is_on() {
            side.begin();
            thread::yield_now();
        }
    });
    drop(reader);
    worker.join().unwrap();
    assert!(node.taps.list.load().is_empty());
}

#[test]
fn a_record_is_the_message_as_it_came_and_as_it_left() {
    let mut node = Node::new("record");
    let mut reader = node.trace(&Criteria::default());
    node.scratch.now_ns = 7;
    let verdict = node.send(1, CLIENT, INVITE);
    let sent = node.sent(INVITE);
    let refused = INVITE.replace("INVITE", "PUBLISH");
    node.send(1, CLIENT, &refused);
    let reply = String::from_utf8(node.scratch.reply.clone()).unwrap();
    let mut records = Vec::new();
    let Ok(()) = reader.drain(u64::MAX, |record| {
        records.push(record.clone());
        Ok::<_, Infallible>(())
    });
    let [forwarded, answered] = &records[..] else {
        panic!("{}", records.len())
    };
    assert_eq!(forwarded.received(), INVITE.as_bytes());
    assert_eq!(forwarded.sent_bytes(), sent.as_bytes());
    assert_eq!((forwarded.at_ns, forwarded.worker), (7, 1));
    assert_eq!(forwarded.outcome, Outcome::RequestToPool);
    let Action::Forward { to, backend, .. } = verdict.action else {
        panic!("{verdict:?}")
    };
    let ends = forwarded.sent.unwrap();
    assert_eq!((ends.to, forwarded.backend), (to, backend));
    assert_eq!((ends.from, ends.len), (forwarded.destination, sent.len()));
    assert_eq!(forwarded.destination, "203.0.113.10:5060".parse().unwrap());
    assert_eq!(answered.sent_bytes(), reply.as_bytes());
    assert_eq!(answered.sent.unwrap().to, CLIENT.parse().unwrap());
    assert_eq!(answered.outcome, Outcome::NoRouteRule);
    assert_eq!(node.counter(Counter::TraceCopied), 2);
}

#[test]
fn what_is_larger_than_a_chunk_is_cut_and_says_so() {
    let mut node = Node::new("cut");
    let mut reader = node.trace(&Criteria::default());
    let body = "x".repeat(6000);
    let large = INVITE.replace("Length: 0\r\n\r\n", &format!("Length: 6000\r\n\r\n{body}"));
    node.send(0, CLIENT, &large);
    let sent = node.sent(&large);
    let Ok(()) = reader.drain(u64::MAX, |record| {
        assert_eq!(record.received_len, large.len());
        assert_eq!(record.received(), &large.as_bytes()[..MESSAGE_MAX]);
        assert_eq!(record.sent.unwrap().len, sent.len());
        assert_eq!(record.sent_bytes(), &sent.as_bytes()[..MESSAGE_MAX]);
        Ok::<_, Infallible>(())
    });
}

/// Which of the messages are wanted, each alone.
#[track_caller]
fn check(criteria: &Criteria, wanted: &[&str]) {
    let number = INVITE
        .replace("<sip:bob@", "<tel:+4930;phone-context=")
        .replace(
            "Alice <sip:alice;x=1@example.com>",
            "sip:+15550100:pw@EXAMPLE.net",
        );
    let messages = [
        ("invite", CLIENT, INVITE.to_owned()),
        ("numbers", "192.0.2.1:5060", number),
        ("error", BACKEND, response(486)),
        ("ok", BACKEND, response(200)),
        ("refused", CLIENT, INVITE.replace("INVITE", "PUBLISH")),
        ("garbage", CLIENT, "hello".to_owned()),
        ("keepalive", CLIENT, "\r\n\r\n".to_owned()),
    ];
    for (name, source, message) in messages {
        let mut node = Node::new(&format!("filter-{name}-{:?}", thread::current().id()));
        let mut reader = node.trace(criteria);
        node.send(0, source, &message);
        let shown = !drain(&mut reader).is_empty();
        // Nobody holds the tap then, which closing it would wait for.
        node.sides.clear();
        assert_eq!(shown, wanted.contains(&name), "{name} by {criteria:?}");
    }
}

#[test]
fn filters_look_at_one_message() {
    let with = |change: &dyn Fn(&mut Criteria)| {
        let mut criteria = Criteria::default();
        change(&mut criteria);
        criteria
    };
    let some = |text: &str| Some(text.to_owned());
    check(
        &Criteria::default(),
        &["invite", "numbers", "error", "ok", "refused", "garbage"],
    );
    let all_of_alice = ["invite", "error", "ok", "refused"];
    check(&with(&|c| c.from = some("alice")), &all_of_alice);
    check(
        &with(&|c| c.from = some("sip:alice@EXAMPLE.com")),
        &all_of_alice,
    );
    check(&with(&|c| c.from = some("alice@example.net")), &[]);
    check(&with(&|c| c.from = some("Alice")), &[]);
    check(&with(&|c| c.from = some("+15550100")), &["numbers"]);
    check(
        &with(&|c| c.from = some("+15550100@example.net")),
        &["numbers"],
    );
    check(&with(&|c| c.to = some("+4930")), &["numbers"]);
    check(&with(&|c| c.to = some("tel:+4930")), &["numbers"]);
    check(&with(&|c| c.to = some("+4930@example.com")), &[]);
    let all = ["invite", "numbers", "error", "ok", "refused"];
    check(&with(&|c| c.call_id = some("c76e66710@192")), &all);
    check(&with(&|c| c.call_id = some("A84B")), &[]);
    let of_client = with(&|c| c.source = "198.51.100.0/24".parse().ok());
    check(&of_client, &["invite", "refused", "garbage"]);
    // The responses here have no Via of ours, so that they are dropped.
    let errors = ["error", "ok", "refused", "garbage"];
    check(&with(&|c| c.errors = true), &errors);
    let both = with(&|c| {
        c.errors = true;
        c.source = "198.51.100.7/32".parse().ok();
    });
    check(&both, &["refused", "garbage"]);
}

#[test]
fn filters_that_make_no_sense_are_refused() {
    for (from, problem) in [
        ("", "from is empty; leave it out to see everybody"),
        (
            "@example.com",
            "from \"@example.com\" is no user; write one such as alice or alice@example.com",
        ),
        (
            "alice@",
            "from \"alice@\" is no user; write one such as alice or alice@example.com",
        ),
    ] {
        let criteria = Criteria {
            from: Some(from.to_owned()),
            ..Criteria::default()
        };
        assert_eq!(Filter::new(&criteria).unwrap_err(), problem);
    }
    let criteria = Criteria {
        call_id: Some("x".repeat(257)),
        ..Criteria::default()
    };
    assert!(Filter::new(&criteria).is_err());
}

#[test]
fn the_rest_of_a_call_is_shown_by_all_workers() {
    let mut node = Node::new("call");
    let mut reader = node.trace(&Criteria {
        errors: true,
        ..Criteria::default()
    });
    let other = INVITE.replace("a84b", "b84b");
    node.send(0, CLIENT, INVITE);
    assert!(drain(&mut reader).is_empty(), "no error yet");
    node.send(0, BACKEND, &response(486));
    node.send(1, CLIENT, &INVITE.replace("INVITE", "ACK"));
    node.send(1, CLIENT, &other);
    let lines: Vec<_> = drain(&mut reader)
        .into_iter()
        .map(|(line, _)| line)
        .collect();
    assert_eq!(lines, ["SIP/2.0 486 X", "ACK sip:bob@example.com SIP/2.0"]);
}

#[test]
fn calls_that_are_remembered_are_bounded() {
    let calls = Calls::new();
    let hash = |number: u32| calls.hash(&number.to_be_bytes());
    for number in 0..100_000 {
        calls.remember(hash(number));
        assert!(calls.knows(hash(number)), "{number}");
    }
    let known = (0..100_000).filter(|number| calls.knows(hash(*number)));
    assert!((3000..=4096).contains(&known.count()));
}

#[test]
fn a_call_whose_call_id_is_hidden_is_one_call() {
    let mut node = Node::configured("hidden", "hide");
    let mut reader = node.trace(&Criteria {
        from: Some("bob".to_owned()),
        ..Criteria::default()
    });
    let outbound = INVITE
        .replace("sip:bob@example.com SIP", "sip:123@192.0.2.50 SIP")
        .replace("sip:alice;x=1@example.com", "sip:bob@10.0.0.11")
        .replace("192.168.1.5", "10.0.0.11");
    let verdict = node.send(0, BACKEND, &outbound);
    assert_eq!(verdict.outcome, Outcome::RequestOutbound);
    let sent = node.sent(&outbound);
    let hidden = sent.split("Call-ID: ").nth(1).unwrap();
    let (hidden, _) = hidden.split_once("\r\n").unwrap();
    assert!(!hidden.contains("10.0.0.11"), "{sent}");
    // The far end sends something of that call that has another From.
    let bye = INVITE
        .replace("INVITE", "BYE")
        .replace("a84b4c76e66710@192.168.1.5", hidden);
    node.send(1, "192.0.2.50:5060", &bye);
    let mut calls = Vec::new();
    let Ok(()) = reader.drain(u64::MAX, |record| {
        calls.push(record.call);
        Ok::<_, Infallible>(())
    });
    assert_eq!(calls.len(), 2);
    assert_eq!(calls[0], calls[1]);
}

#[test]
fn a_full_queue_drops_copies_and_counts_them() {
    let mut node = Node::new("full");
    let mut slow = node.trace(&Criteria::default());
    for _ in 0..TRACE_RECORDS + 10 {
        node.send(0, CLIENT, INVITE);
    }
    let lost = Lost {
        queue_full: 10,
        limited: 0,
    };
    assert_eq!(slow.lost(), lost);
    assert_eq!(node.counter(Counter::TraceDropped), 10);
    assert_eq!(node.counter(Counter::TraceCopied), TRACE_RECORDS as u64);
    // The other worker has a queue of its own.
    node.send(1, CLIENT, INVITE);
    assert_eq!(slow.lost(), lost);
    assert_eq!(drain(&mut slow).len(), TRACE_RECORDS + 1);
    for _ in 0..TRACE_RECORDS {
        node.send(0, CLIENT, INVITE);
    }
    assert_eq!(slow.lost(), lost, "records come back");
}

#[test]
fn a_client_that_fails_half_way_gets_the_rest_later() {
    let mut node = Node::new("half");
    let mut reader = node.trace(&Criteria::default());
    for _ in 0..3 {
        node.send(0, CLIENT, INVITE);
    }
    let mut shown = 0;
    let failed = reader.drain(u64::MAX, |_| {
        shown += 1;
        if shown == 2 { Err("full") } else { Ok(()) }
    });
    assert_eq!((failed, shown), (Err("full"), 2));
    assert_eq!(drain(&mut reader).len(), 1);
}

#[test]
fn no_more_than_the_limit_in_a_second() {
    let mut node = Node::new("limit");
    let filter = Filter::new(&Criteria::default()).unwrap();
    let mut reader = node.taps.open(Purpose::Trace, filter, 5).unwrap();
    let mut burst = |node: &mut Node, now_ns| {
        node.scratch.now_ns = now_ns;
        for number in 0..8 {
            node.send(number % 2, CLIENT, INVITE);
        }
        drain(&mut reader).len()
    };
    assert_eq!(burst(&mut node, 10 * SECOND), 5);
    assert_eq!(burst(&mut node, 10 * SECOND + 1), 0);
    assert_eq!(burst(&mut node, 11 * SECOND), 5);
    // A worker whose batch began a moment before.
    assert_eq!(burst(&mut node, 11 * SECOND - 1), 0);
    assert_eq!(node.counter(Counter::TraceLimited), 3 + 8 + 3 + 8);
}

#[test]
fn records_come_in_the_order_of_time_when_others_had_time_to_come() {
    let mut node = Node::new("order");
    let mut reader = node.trace(&Criteria::default());
    for (worker, now_ns) in [(0, 5), (0, 300_000_000), (1, 2), (1, 100_000_000)] {
        node.scratch.now_ns = now_ns;
        node.send(worker, CLIENT, INVITE);
    }
    let mut times = Vec::new();
    let mut look = |now_ns| {
        let Ok(()) = reader.drain(now_ns, |record| {
            times.push(record.at_ns);
            Ok::<_, Infallible>(())
        });
        times.clone()
    };
    assert_eq!(look(11_000_000), [2, 5]);
    assert_eq!(look(300_000_000), [2, 5, 100_000_000]);
    assert_eq!(look(u64::MAX), [2, 5, 100_000_000, 300_000_000]);
}

#[test]
fn a_sample_is_one_of_whole_calls_and_the_same_on_every_node() {
    let keys = Keys::new(b"the secret of the fleet", None);
    let sampled = |name: &str, sample: f64| {
        let mut node = Node::new(name);
        let filter = Filter::sample(sample, keys.sample_key());
        let mut reader = node.taps.open(Purpose::Hep, filter, 0).unwrap();
        let calls = (0..1000).filter(|number| {
            let call = format!("c{number}@");
            node.send(0, CLIENT, &INVITE.replace("a84b4c76e66710@", &call));
            node.send(
                1,
                CLIENT,
                &INVITE
                    .replace("a84b4c76e66710@", &call)
                    .replace("INVITE", "BYE"),
            );
            let shown = drain(&mut reader).len();
            assert!(shown == 0 || shown == 2, "half a call");
            shown == 2
        });
        let calls = calls.collect::<Vec<_>>();
        node.sides.clear();
        calls
    };
    let quarter = sampled("sample-1", 0.25);
    assert!((200..300).contains(&quarter.len()), "{}", quarter.len());
    assert_eq!(quarter, sampled("sample-2", 0.25), "another node");
    let half = sampled("sample-3", 0.5);
    assert!(quarter.iter().all(|call| half.contains(call)));
    assert_eq!(sampled("sample-4", 1.0).len(), 1000);
}

#[test]
fn there_are_few_traces_at_a_time_and_hep_beside_them() {
    let node = Node::new("many");
    let traces: Vec<_> = (0..MAX_TRACES)
        .map(|_| node.trace(&Criteria::default()))
        .collect();
    let open = |purpose| {
        let filter = Filter::new(&Criteria::default()).unwrap();
        node.taps.open(purpose, filter, 0)
    };
    assert_eq!(open(Purpose::Trace).err(), Some(TooManyTaps));
    let hep = open(Purpose::Hep).unwrap();
    assert_eq!(open(Purpose::Hep).err(), Some(TooManyTaps));
    drop(traces);
    assert!(open(Purpose::Trace).is_ok());
    drop(hep);
    assert!(open(Purpose::Hep).is_ok());
}
