use std::{
    cell::RefCell,
    collections::HashMap,
    pin::pin,
    task::{Context, Poll, Waker},
};

use super::*;
use crate::names::Question;

/// Records by `TYPE name`. What is not listed is absent for 100 s.
#[derive(Default)]
struct Zone {
    replies: HashMap<String, Entry>,
    asked: std::sync::Mutex<Vec<String>>,
}

#[derive(Clone)]
enum Entry {
    Naptr(Reply<Naptr>),
    Srv(Reply<Srv>),
    Addresses(Reply<IpAddr>),
    Failed,
}

impl Zone {
    fn new(lines: &[&str]) -> Self {
        let mut zone = Self::default();
        for line in lines {
            zone.add(line);
        }
        zone
    }

    /// `name ttl TYPE data...`, `name ttl TYPE -` for no record, `name TYPE failed`.
    fn add(&mut self, line: &str) {
        let words = line.split(' ').collect::<Vec<_>>();
        if let [name, kind, "failed"] = words[..] {
            self.replies.insert(format!("{kind} {name}"), Entry::Failed);
            return;
        }
        let (name, ttl_s, kind) = (words[0], words[1].parse().unwrap(), words[2]);
        let number = |at: usize| words[at].parse::<u16>().unwrap();
        let key = format!("{kind} {name}");
        let slot = self.replies.entry(key);
        if words[3] == "-" {
            let ttl_s = Some(ttl_s);
            slot.or_insert(match kind {
                "NAPTR" => Entry::Naptr(Reply::Absent { ttl_s }),
                "SRV" => Entry::Srv(Reply::Absent { ttl_s }),
                _ => Entry::Addresses(Reply::Absent { ttl_s }),
            });
            return;
        }
        match kind {
            "NAPTR" => {
                let naptr = Naptr {
                    order: number(3),
                    preference: number(4),
                    flags: words[5].into(),
                    services: words[6].into(),
                    replacement: words[7].into(),
                };
                match slot.or_insert(Entry::Naptr(nothing())) {
                    Entry::Naptr(reply) => push(reply, naptr, ttl_s),
                    _ => unreachable!(),
                }
            }
            "SRV" => {
                let srv = Srv {
                    priority: number(3),
                    weight: number(4),
                    port: number(5),
                    target: words[6].into(),
                };
                match slot.or_insert(Entry::Srv(nothing())) {
                    Entry::Srv(reply) => push(reply, srv, ttl_s),
                    _ => unreachable!(),
                }
            }
            "A" | "AAAA" => match slot.or_insert(Entry::Addresses(nothing())) {
                Entry::Addresses(reply) => push(reply, words[3].parse().unwrap(), ttl_s),
                _ => unreachable!(),
            },
            _ => panic!("{line}"),
        }
    }

    fn reply(&self, kind: &str, name: &str) -> Option<Entry> {
        let key = format!("{kind} {name}");
        self.asked.lock().unwrap().push(key.clone());
        self.replies.get(&key).cloned()
    }
}

fn nothing<R>() -> Reply<R> {
    Reply::Records {
        records: Vec::new(),
        ttl_s: u32::MAX,
    }
}

fn push<R>(reply: &mut Reply<R>, record: R, record_ttl_s: u32) {
    match reply {
        Reply::Records { records, ttl_s } => {
            records.push(record);
            *ttl_s = record_ttl_s.min(*ttl_s);
        }
        _ => unreachable!(),
    }
}

const ABSENT: Option<u32> = Some(100);

impl Dns for Zone {
    async fn naptr(&self, name: &str) -> Reply<Naptr> {
        match self.reply("NAPTR", name) {
            Some(Entry::Naptr(reply)) => reply,
            Some(_) => Reply::Failed,
            None => Reply::Absent { ttl_s: ABSENT },
        }
    }

    async fn srv(&self, name: &str) -> Reply<Srv> {
        match self.reply("SRV", name) {
            Some(Entry::Srv(reply)) => reply,
            Some(_) => Reply::Failed,
            None => Reply::Absent { ttl_s: ABSENT },
        }
    }

    async fn addresses(&self, names: &[String], ipv6: bool) -> Vec<Reply<IpAddr>> {
        let kind = if ipv6 { "AAAA" } else { "A" };
        let reply = |name: &String| match self.reply(kind, name) {
            Some(Entry::Addresses(reply)) => reply,
            Some(_) => Reply::Failed,
            None => Reply::Absent { ttl_s: ABSENT },
        };
        names.iter().map(reply).collect()
    }
}

const PLAIN: Question<'static> = Question {
    host: b"example.com",
    port: None,
    transport_given: false,
    ipv6: false,
};
const WITH_TRANSPORT: Question<'static> = Question {
    transport_given: true,
    ..PLAIN
};
const WITH_PORT: Question<'static> = Question {
    port: Some(5080),
    ..PLAIN
};

thread_local! {
    static ASKED: RefCell<Vec<String>> = const { RefCell::new(Vec::new()) };
}

fn find_in(zone: &Zone, question: Question<'_>) -> Found {
    let question = OwnedQuestion::new(&question).unwrap();
    let found = match pin!(find(zone, &question)).poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(found) => found,
        Poll::Pending => unreachable!("a zone in memory never waits"),
    };
    let asked = std::mem::take(&mut *zone.asked.lock().unwrap());
    ASKED.set(asked);
    found
}

/// What was found as a line: `priority address ...` or the kind of answer, and the time to live; then what was asked.
fn check(lines: &[&str], question: Question<'_>, expected: &str, asked: &[&str]) {
    let found = find_in(&Zone::new(lines), question);
    let text = match &found.answer {
        Answer::Targets(targets) => targets
            .as_slice()
            .iter()
            .map(|target| format!("{} {}, ", target.priority, target.address))
            .collect(),
        other => format!("{other:?}, "),
    };
    assert_eq!(format!("{text}{} s", found.ttl_s), expected, "{lines:?}");
    ASKED.with_borrow(|was| assert_eq!(was, asked, "{lines:?}"));
}

const SRV_OF_PLAIN: &str = "SRV _sip._udp.example.com";

#[test]
fn a_port_means_addresses_alone() {
    let zone = [
        "example.com 60 A 192.0.2.1",
        "example.com 50 A 192.0.2.2",
        "example.com 60 AAAA 2001:db8::1",
        "_sip._udp.example.com 60 SRV 1 1 5070 example.com",
    ];
    let expected = "0 192.0.2.1:5080, 0 192.0.2.2:5080, 50 s";
    check(&zone, WITH_PORT, expected, &["A example.com"]);
    let ipv6 = Question {
        ipv6: true,
        ..WITH_PORT
    };
    check(
        &zone,
        ipv6,
        "0 [2001:db8::1]:5080, 60 s",
        &["AAAA example.com"],
    );
    check(&[], WITH_PORT, "NotFound, 100 s", &["A example.com"]);
}

#[test]
fn a_transport_means_srv_and_then_addresses() {
    let zone = [
        "example.com 60 NAPTR 1 1 s SIP+D2U other.example",
        "_sip._udp.example.com 70 SRV 1 1 5070 b.example",
        "_sip._udp.example.com 70 SRV 2 1 5071 a.example",
        "a.example 65 A 192.0.2.1",
        "b.example 90 A 192.0.2.2",
        "example.com 60 A 192.0.2.9",
    ];
    check(
        &zone,
        WITH_TRANSPORT,
        "1 192.0.2.2:5070, 2 192.0.2.1:5071, 65 s",
        &[SRV_OF_PLAIN, "A a.example", "A b.example"],
    );
    check(
        &zone[5..],
        WITH_TRANSPORT,
        "0 192.0.2.9:5060, 60 s",
        &[SRV_OF_PLAIN, "A example.com"],
    );
}

#[test]
fn naptr_records_go_by_order_then_preference_and_only_those_for_udp() {
    let zone = [
        "example.com 600 NAPTR 1 1 s SIP+D2T _sip._tcp.example.com",
        "example.com 600 NAPTR 1 1 s SIPS+D2T _sips._tcp.example.com",
        "example.com 600 NAPTR 1 2 u SIP+D2U regexp.example",
        "example.com 600 NAPTR 3 1 s SIP+D2U third.example",
        "example.com 600 NAPTR 2 9 s SIP+D2U second.example",
        "example.com 600 NAPTR 2 1 S sip+d2u first.example",
        "second.example 300 SRV 0 0 5070 a.example",
        "third.example 300 SRV 0 0 5071 a.example",
        "a.example 300 A 192.0.2.1",
    ];
    check(
        &zone,
        PLAIN,
        "0 192.0.2.1:5070, 100 s",
        &[
            "NAPTR example.com",
            "SRV first.example",
            "SRV second.example",
            "A a.example",
        ],
    );
}

#[test]
fn without_a_usable_naptr_record_srv_records_are_asked_for() {
    let srv = "_sip._udp.example.com 60 SRV 0 0 5070 a.example";
    let address = "a.example 60 A 192.0.2.1";
    let expected = "0 192.0.2.1:5070, 60 s";
    let end = [SRV_OF_PLAIN, "A a.example"];
    check(
        &[srv, address],
        PLAIN,
        expected,
        &["NAPTR example.com", end[0], end[1]],
    );
    let tcp = "example.com 600 NAPTR 1 1 s SIP+D2T _sip._tcp.example.com";
    check(
        &[tcp, srv, address],
        PLAIN,
        expected,
        &["NAPTR example.com", end[0], end[1]],
    );
    for leads_nowhere in ["x.example 200 SRV 0 0 5060 .", "x.example 200 SRV -"] {
        let naptr = "example.com 600 NAPTR 1 1 s SIP+D2U x.example";
        check(
            &[naptr, leads_nowhere, srv, address],
            PLAIN,
            expected,
            &["NAPTR example.com", "SRV x.example", end[0], end[1]],
        );
    }
}

#[test]
fn without_any_record_but_an_address_it_is_port_5060() {
    check(
        &["example.com 60 A 192.0.2.1"],
        PLAIN,
        "0 192.0.2.1:5060, 60 s",
        &["NAPTR example.com", SRV_OF_PLAIN, "A example.com"],
    );
}

#[test]
fn what_is_absent_counts_for_the_time_to_live() {
    check(
        &[
            "example.com 20 NAPTR -",
            "_sip._udp.example.com 40 SRV -",
            "example.com 60 A 192.0.2.1",
        ],
        PLAIN,
        "0 192.0.2.1:5060, 20 s",
        &["NAPTR example.com", SRV_OF_PLAIN, "A example.com"],
    );
    check(
        &["example.com 4000 A -"],
        WITH_PORT,
        "NotFound, 300 s",
        &["A example.com"],
    );
    let mut zone = Zone::default();
    zone.replies.insert(
        "A example.com".into(),
        Entry::Addresses(Reply::Absent { ttl_s: None }),
    );
    assert_eq!(
        find_in(&zone, WITH_PORT),
        Found::new(Answer::NotFound, 30),
        "no SOA"
    );
}

#[test]
fn an_srv_target_of_a_dot_says_that_there_is_no_service() {
    check(
        &[
            "_sip._udp.example.com 60 SRV 0 0 0 .",
            "example.com 60 A 192.0.2.1",
        ],
        WITH_TRANSPORT,
        "NotFound, 60 s",
        &[SRV_OF_PLAIN],
    );
}

#[test]
fn srv_targets_without_an_address_are_left_out() {
    let records = [
        "_sip._udp.example.com 90 SRV 1 1 5070 none.example",
        "_sip._udp.example.com 90 SRV 2 1 5071 b.example",
        "example.com 90 A 192.0.2.9",
    ];
    let asked = [SRV_OF_PLAIN, "A b.example", "A none.example"];
    let found = [&records[..], &["b.example 80 A 192.0.2.2"]].concat();
    check(&found, WITH_TRANSPORT, "2 192.0.2.2:5071, 80 s", &asked);
    // And there is no way on to the address of the host itself.
    check(&records, WITH_TRANSPORT, "NotFound, 90 s", &asked);
}

#[test]
fn a_failure_is_not_taken_for_absent() {
    let naptr = "NAPTR example.com";
    for (lines, question, asked) in [
        (
            vec![
                "example.com NAPTR failed",
                "_sip._udp.example.com 60 SRV 0 0 5060 example.com",
            ],
            PLAIN,
            vec![naptr],
        ),
        (
            vec!["_sip._udp.example.com SRV failed"],
            PLAIN,
            vec![naptr, SRV_OF_PLAIN],
        ),
        (
            vec!["example.com A failed"],
            WITH_PORT,
            vec!["A example.com"],
        ),
        (
            vec![
                "example.com 60 NAPTR 1 1 s SIP+D2U x.example",
                "x.example SRV failed",
                "_sip._udp.example.com 60 SRV 0 0 5060 example.com",
            ],
            PLAIN,
            vec![naptr, "SRV x.example"],
        ),
        (
            vec![
                "_sip._udp.example.com 60 SRV 0 0 5060 a.example",
                "a.example A failed",
            ],
            WITH_TRANSPORT,
            vec![SRV_OF_PLAIN, "A a.example"],
        ),
    ] {
        let zone = [&["example.com 60 A 192.0.2.1"], &lines[..]].concat();
        let zone = match question == WITH_PORT {
            true => &zone[1..],
            false => &zone[..],
        };
        check(zone, question, "Failed, 2 s", &asked);
    }
}

#[test]
fn of_several_those_that_can_be_found_are_enough_but_not_for_long() {
    check(
        &[
            "example.com 60 NAPTR 1 1 s SIP+D2U x.example",
            "example.com 60 NAPTR 2 1 s SIP+D2U y.example",
            "x.example SRV failed",
            "y.example 60 SRV 1 0 5060 a.example",
            "y.example 60 SRV 2 0 5060 b.example",
            "a.example A failed",
            "b.example 60 A 192.0.2.2",
        ],
        PLAIN,
        "2 192.0.2.2:5060, 2 s",
        &[
            "NAPTR example.com",
            "SRV x.example",
            "SRV y.example",
            "A a.example",
            "A b.example",
        ],
    );
}

#[test]
fn the_addresses_of_a_name_share_its_weight() {
    let zone = Zone::new(&[
        "_sip._udp.example.com 60 SRV 1 10 5060 a.example",
        "_sip._udp.example.com 60 SRV 1 30 5060 B.example",
        "a.example 60 A 192.0.2.1",
        "b.example 60 A 192.0.2.2",
        "b.example 60 A 192.0.2.3",
        "b.example 60 A 192.0.2.4",
    ]);
    let Answer::Targets(targets) = find_in(&zone, WITH_TRANSPORT).answer else {
        panic!("there are targets");
    };
    let weights = targets.as_slice().iter().map(|target| target.weight);
    let expected = [10; 4].map(|weight| weight * Targets::WEIGHT_UNIT);
    assert_eq!(weights.collect::<Vec<_>>(), expected);
}

#[test]
fn addresses_that_no_single_host_has_are_left_out() {
    check(
        &[
            "example.com 60 A 0.0.0.0",
            "example.com 60 A 224.0.1.75",
            "example.com 60 A 255.255.255.255",
        ],
        WITH_PORT,
        "NotFound, 60 s",
        &["A example.com"],
    );
    check(
        &[
            "example.com 60 AAAA ::",
            "example.com 60 AAAA ff02::1",
            "example.com 60 AAAA fe80::1",
            "example.com 60 AAAA ::ffff:192.0.2.1",
            "example.com 60 AAAA 2001:db8::1",
        ],
        Question {
            ipv6: true,
            ..WITH_PORT
        },
        "0 [2001:db8::1]:5080, 60 s",
        &["AAAA example.com"],
    );
}

#[test]
fn more_records_than_are_of_use_do_no_harm() {
    let mut zone = Zone::default();
    // The better ones come last.
    for number in (0..100).rev() {
        zone.add(&format!(
            "example.com 60 NAPTR {number} 1 s SIP+D2U n{number}"
        ));
        zone.add(&format!("n99 60 SRV {number} 1 5060 t{number}"));
        zone.add(&format!(
            "_sip._udp.example.com 60 SRV {number} 1 5060 t{number}"
        ));
        for address in 0..100 {
            zone.add(&format!("t{number} 60 A 192.0.{number}.{address}"));
        }
    }
    let Answer::Targets(targets) = find_in(&zone, PLAIN).answer else {
        panic!("there are targets");
    };
    ASKED.with_borrow(|asked| {
        let count = |kind: &str| asked.iter().filter(|key| key.starts_with(kind)).count();
        assert_eq!([count("NAPTR"), count("SRV"), count("A ")], [1, 8 + 1, 16]);
    });
    let addresses = targets
        .as_slice()
        .iter()
        .map(|target| target.address.to_string());
    let expected = (0..16).map(|n| format!("192.0.{}.{}:5060", n / 8, n % 8));
    assert_eq!(addresses.collect::<Vec<_>>(), expected.collect::<Vec<_>>());
}

#[test]
fn a_host_too_long_for_a_service_prefix_has_addresses_at_most() {
    let host = ["a".repeat(63).as_str(); 4].join(".")[..MAX_NAME_LEN - 2].to_owned();
    let address = format!("{host} 60 A 192.0.2.1");
    let question = Question {
        host: host.as_bytes(),
        ..WITH_TRANSPORT
    };
    let asked = format!("A {host}");
    check(&[&address], question, "0 192.0.2.1:5060, 60 s", &[&asked]);
}
