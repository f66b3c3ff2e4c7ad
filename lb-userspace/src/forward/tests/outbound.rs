//! Requests that backends and trusted hosts send to the outside.

use std::{net::SocketAddr, sync::Arc};

use super::edge::{CLIENT, Edge, Sent, address, response};
use crate::{
    forward::{Action, Outcome},
    names::{Answer, Found, Names, OwnedQuestion, Question, Target, Targets},
};

const BACKEND: &str = "10.0.0.11:5060";
const TRUSTED: &str = "10.9.0.7:5070";
const CARRIER: &str = "192.0.2.50:5060";
const SECOND: u64 = 1_000_000_000;

fn edge() -> Edge {
    Edge::configured(
        "
node: { name: a }
listeners: [ { name: public, address: 203.0.113.10 }, { name: six, address: '2001:db8::10' } ]
pools:
  - { name: switches, backends: [ { name: s1, address: '10.0.0.11:5060' }, { name: s2, address: '10.0.0.12:5060' } ] }
  - { name: six, backends: [ { name: s6, address: '[2001:db8:2::11]:5060' } ] }
routes: [ { listener: six, pool: six }, { pool: switches } ]
outbound: { trusted: [10.9.0.0/24] }
",
    )
}

/// A request of a server, with these lines before Max-Forwards.
fn request(method: &str, uri: &str, lines: &str) -> String {
    format!(
        "{method} {uri} SIP/2.0\r\n\
         Via: SIP/2.0/UDP 10.0.0.11:5060;branch=z9hG4bKo1\r\n\
         {lines}Max-Forwards: 60\r\n\
         From: <sip:bob@example.com>;tag=2\r\n\
         To: <sip:123@carrier.test>\r\n\
         Call-ID: o1\r\n\
         CSeq: 1 {method}\r\n\
         Contact: <sip:bob@10.0.0.11>\r\n\
         Content-Length: 0\r\n\
         \r\n"
    )
}

fn question(host: &str, port: Option<u16>, transport_given: bool) -> OwnedQuestion {
    let question = Question {
        host: host.as_bytes(),
        port,
        transport_given,
        ipv6: false,
    };
    OwnedQuestion::new(&question).unwrap()
}

/// Names with one answer, found at 0.
fn names(question: &OwnedQuestion, addresses: &[&str]) -> Arc<Names> {
    let mut names = Names::default();
    let targets = addresses.iter().zip(0..).map(|(text, priority)| Target {
        address: address(text),
        priority,
        weight: 1,
    });
    let answer = Answer::Targets(Targets::new(targets));
    names.put(question, Found::new(answer, 60), 0);
    Arc::new(names)
}

#[test]
fn an_address_is_sent_to_from_the_vip() {
    for (uri, lines, to) in [
        ("sip:123@192.0.2.50", "", CARRIER),
        (
            "sip:123@192.0.2.50:5080;transport=UDP",
            "",
            "192.0.2.50:5080",
        ),
        ("sip:123@x.test;maddr=192.0.2.50", "", CARRIER),
        (
            "sip:123@x.test",
            "Route: <sip:192.0.2.51:5070;lr>, <sip:192.0.2.52;lr>\r\n",
            "192.0.2.51:5070",
        ),
        (
            "sip:123@x.test",
            "Route: <sip:203.0.113.10;lr>\r\nRoute: <sip:192.0.2.51;lr>\r\n",
            "192.0.2.51:5060",
        ),
        (
            "tel:123",
            "Route: <sip:203.0.113.10;lr>,<sip:192.0.2.51;lr>\r\n",
            "192.0.2.51:5060",
        ),
    ] {
        for source in [BACKEND, TRUSTED] {
            let sent = edge()
                .send(source, request("INVITE", uri, lines))
                .expect(Outcome::RequestOutbound)
                .expect_to(to);
            assert_eq!(sent.start_line(), format!("INVITE {uri} SIP/2.0"));
            assert!(
                !sent
                    .headers("Route")
                    .iter()
                    .any(|route| route.contains("203.0.113.10"))
            );
            assert!(
                sent.header("Via")
                    .starts_with("SIP/2.0/UDP 203.0.113.10:5060;")
            );
            assert!(
                sent.header("Record-Route")
                    .contains("@203.0.113.10:5060;lr")
            );
        }
    }
    let sent = edge().send(
        "[2001:db8:2::11]:5060",
        request("OPTIONS", "sip:[2001:db8:9::1]", ""),
    );
    sent.expect(Outcome::RequestOutbound)
        .expect_to("[2001:db8:9::1]:5060");
}

#[test]
fn nobody_outside_is_served() {
    for lines in [
        "",
        "Route: <sip:192.0.2.51;lr>\r\n",
        "Route: <sip:203.0.113.10;lr>,<sip:192.0.2.51;lr>\r\n",
    ] {
        for source in [CLIENT, CARRIER, "10.8.0.7:5060", "10.9.1.7:5060"] {
            let sent = edge()
                .send(source, request("INVITE", "sip:123@192.0.2.50", lines))
                .expect(Outcome::RequestToPool);
            assert!([BACKEND, "10.0.0.12:5060"].map(address).contains(&sent.to));
        }
    }
}

#[test]
fn some_things_are_sent_to_nobody() {
    let outcome = |uri: &str| {
        let sent = edge().send(BACKEND, request("INVITE", uri, ""));
        let ack = edge().send(BACKEND, request("ACK", uri, ""));
        ack.expect(Outcome::AckNotRouted);
        (sent.verdict.outcome, sent.start_line())
    };
    for (uri, want, line) in [
        (
            "sips:123@192.0.2.50",
            Outcome::UriSchemeNotSupported,
            "416 Unsupported URI Scheme",
        ),
        (
            "tel:123",
            Outcome::UriSchemeNotSupported,
            "416 Unsupported URI Scheme",
        ),
        (
            "sip:123@192.0.2.50;transport=tcp",
            Outcome::NextHopTransport,
            "502 Next hop wants another transport",
        ),
        (
            "sip:123@[2001:db8:9::1]",
            Outcome::NextHopOtherFamily,
            "502 Next hop of another IP version",
        ),
        (
            "sip:123@127.0.0.1",
            Outcome::NextHopNotAllowed,
            "403 Next hop not allowed",
        ),
        (
            "sip:123@0.0.0.0",
            Outcome::NextHopNotAllowed,
            "403 Next hop not allowed",
        ),
        (
            "sip:123@224.0.1.75",
            Outcome::NextHopNotAllowed,
            "403 Next hop not allowed",
        ),
        (
            "sip:123@255.255.255.255",
            Outcome::NextHopNotAllowed,
            "403 Next hop not allowed",
        ),
        (
            "sip:123@x.test;maddr=203.0.113.10",
            Outcome::NextHopNotAllowed,
            "403 Next hop not allowed",
        ),
        (
            "sip:123@203.0.113.10",
            Outcome::FromBackendWithoutToken,
            "403 No token in Route or Request-URI",
        ),
    ] {
        assert_eq!(outcome(uri), (want, format!("SIP/2.0 {line}")), "{uri}");
    }
}

#[test]
fn a_trusted_host_that_calls_us_is_distributed() {
    edge()
        .send(TRUSTED, request("INVITE", "sip:123@203.0.113.10", ""))
        .expect(Outcome::RequestToPool);
}

/// The Route of a dialog that the request creates, as the other side and the backend send it.
fn route(sent: &Sent) -> String {
    format!("Route: {}\r\n", sent.header("Record-Route"))
}

#[test]
fn the_dialog_comes_back_and_goes_where_its_other_end_says() {
    let mut edge = edge();
    let sent = edge.send(BACKEND, request("INVITE", "sip:123@192.0.2.50", ""));
    let answer = response(&sent, "200 OK", "c");
    edge.send(CARRIER, answer)
        .expect(Outcome::Response)
        .expect_to(BACKEND);
    let in_dialog = |method: &str, uri: &str, lines: &str| {
        request(method, uri, lines)
            .replace("<sip:123@carrier.test>", "<sip:123@carrier.test>;tag=c")
    };
    let route = route(&sent);
    // From the carrier to the backend, from whichever of its addresses.
    for source in [CARRIER, "192.0.2.99:5060"] {
        edge.send(source, in_dialog("BYE", "sip:bob@10.0.0.11", &route))
            .expect(Outcome::RequestToBackend)
            .expect_to(BACKEND);
    }
    // From the backend to the Contact that the carrier gave, or to the proxy that recorded its route.
    edge.send(BACKEND, in_dialog("BYE", "sip:123@192.0.2.60:5066", &route))
        .expect(Outcome::RequestOutbound)
        .expect_to("192.0.2.60:5066");
    let with_proxy = format!("{route}Route: <sip:192.0.2.61;lr>\r\n");
    let sent = edge
        .send(BACKEND, in_dialog("ACK", "sip:123@10.66.0.1", &with_proxy))
        .expect(Outcome::RequestOutbound)
        .expect_to("192.0.2.61:5060");
    assert_eq!(sent.headers("Route"), ["<sip:192.0.2.61;lr>"]);
}

#[test]
fn a_token_of_an_outbound_dialog_is_no_way_to_anywhere() {
    let mut edge = edge();
    let outbound = edge.send(BACKEND, request("INVITE", "sip:123@192.0.2.50", ""));
    let inbound = edge.send(CLIENT, request("INVITE", "sip:123@example.com", ""));
    let routes = [route(&outbound), route(&inbound)];
    for first in &routes {
        for second in [
            "",
            &routes[0],
            &routes[1],
            "Route: <sip:198.51.100.99;lr>\r\n",
        ] {
            let lines = format!("{first}{second}");
            for to in ["<sip:123@carrier.test>", "<sip:123@carrier.test>;tag=x"] {
                let attack = request("INVITE", "sip:123@198.51.100.99", &lines)
                    .replace("<sip:123@carrier.test>", to);
                let sent = edge.send("198.51.100.200:5060", attack);
                let known = [
                    BACKEND,
                    "10.0.0.12:5060",
                    CARRIER,
                    CLIENT,
                    "198.51.100.7:5060",
                ];
                assert!(
                    known.map(address).contains(&sent.to),
                    "{} to {}",
                    sent.text(),
                    sent.to
                );
            }
        }
    }
}

#[test]
fn a_backend_that_is_none_any_more_reaches_whom_it_called_and_nobody_else() {
    let sent = edge().send(BACKEND, request("INVITE", "sip:123@192.0.2.50", ""));
    let route = route(&sent);
    let mut without = Edge::configured(
        "
node: { name: a }
listeners: [ { name: public, address: 203.0.113.10 } ]
pools: [ { name: switches, backends: [ { name: s2, address: '10.0.0.12:5060' } ] } ]
",
    );
    for uri in ["sip:123@192.0.2.60", "sip:123@elsewhere.test"] {
        without
            .send(BACKEND, request("BYE", uri, &route))
            .expect(Outcome::RequestToClient)
            .expect_to(CARRIER);
    }
}

#[test]
fn a_name_is_asked_for_and_then_sent_to() {
    for (uri, lines, asked) in [
        (
            "sip:123@Carrier.Test",
            "",
            question("carrier.test", None, false),
        ),
        (
            "sip:123@carrier.test:5080",
            "",
            question("carrier.test", Some(5080), false),
        ),
        (
            "sip:123@carrier.test;transport=udp",
            "",
            question("carrier.test", None, true),
        ),
        (
            "sip:123@192.0.2.1",
            "Route: <sip:carrier.test;lr>\r\n",
            question("carrier.test", None, false),
        ),
        (
            "sip:123@192.0.2.1;maddr=carrier.test",
            "",
            question("carrier.test", None, false),
        ),
    ] {
        let mut edge = edge();
        let sent = edge.send(BACKEND, request("INVITE", uri, lines));
        assert_eq!(sent.verdict.action, Action::AwaitName, "{uri}");
        assert_eq!(edge.scratch.question, Some(asked));
        edge.scratch.names = names(&asked, &[CARRIER]);
        edge.send(BACKEND, request("INVITE", uri, lines))
            .expect(Outcome::RequestOutbound)
            .expect_to(CARRIER);
        assert_eq!(edge.scratch.question, None);
        // The answer gets old: it is used, and asked for again.
        edge.scratch.now_ns = 61 * SECOND;
        edge.send(BACKEND, request("INVITE", uri, lines))
            .expect_to(CARRIER);
        assert_eq!(edge.scratch.question, Some(asked));
    }
}

#[test]
fn a_name_without_an_answer_is_refused() {
    for (answer, outcome, line) in [
        (
            Answer::NotFound,
            Outcome::NameNotFound,
            "SIP/2.0 502 Next hop not found",
        ),
        (
            Answer::Failed,
            Outcome::NameNotResolved,
            "SIP/2.0 504 Name servers do not answer",
        ),
    ] {
        let mut edge = edge();
        let mut names = Names::default();
        let question = question("carrier.test", None, false);
        names.put(&question, Found::new(answer, 60), 0);
        edge.scratch.names = Arc::new(names);
        let invite = request("INVITE", "sip:123@carrier.test", "");
        let sent = edge.send(BACKEND, invite).expect(outcome);
        assert_eq!(sent.start_line(), line);
    }
    // That is no name, and nobody has to be asked.
    edge()
        .send(BACKEND, request("INVITE", "sip:123@a..b", ""))
        .expect(Outcome::NameNotFound);
    // A name that leads to us, or to nobody.
    for to in ["203.0.113.10:5060", "127.0.0.1:5060"] {
        let mut edge = edge();
        edge.scratch.names = names(&question("carrier.test", None, false), &[to]);
        edge.send(BACKEND, request("INVITE", "sip:123@carrier.test", ""))
            .expect(Outcome::NextHopNotAllowed);
    }
}

const THREE: [&str; 3] = ["192.0.2.51:5060", "192.0.2.52:5060", "192.0.2.53:5060"];

fn with_three() -> Edge {
    let mut edge = edge();
    edge.scratch.names = names(&question("carrier.test", None, false), &THREE);
    edge
}

fn call(number: usize, method: &str) -> String {
    request(method, "sip:123@carrier.test", "").replace("z9hG4bKo1", &format!("z9hG4bK{number}"))
}

fn to(edge: &mut Edge, number: usize, method: &str) -> SocketAddr {
    let sent = edge.send(BACKEND, call(number, method));
    sent.expect(Outcome::RequestOutbound).to
}

#[test]
fn a_retransmission_goes_to_the_next_address_when_nothing_is_heard() {
    let mut edge = with_three();
    let [first, second, third] = THREE.map(address);
    let mut times = Vec::new();
    for at in [0, 500, 1500, 3500, 7500, 15_500, 31_500] {
        edge.scratch.now_ns = at * 1_000_000;
        times.push(to(&mut edge, 1, "INVITE"));
    }
    assert_eq!(times, [first, first, second, second, third, third, first]);
    // CANCEL and ACK go where the last one went.
    assert_eq!(to(&mut edge, 1, "CANCEL"), first);
    assert_eq!(to(&mut edge, 1, "ACK"), first);
}

#[test]
fn who_has_answered_keeps_the_transaction() {
    let mut edge = with_three();
    let sent = edge.send(BACKEND, call(1, "INVITE")).expect_to(THREE[0]);
    edge.send(THREE[0], response(&sent, "100 Trying", "x"))
        .expect(Outcome::Response);
    for _ in 0..10 {
        assert_eq!(to(&mut edge, 1, "INVITE"), address(THREE[0]));
    }
}

#[test]
fn who_did_not_answer_is_left_to_others_for_a_while() {
    let mut edge = with_three();
    for _ in 0..3 {
        to(&mut edge, 1, "INVITE");
    }
    // Another call does not wait for it to find that out again, and its CANCEL follows.
    let sent = edge.send(BACKEND, call(2, "INVITE")).expect_to(THREE[1]);
    assert_eq!(to(&mut edge, 2, "CANCEL"), address(THREE[1]));
    edge.send(THREE[1], response(&sent, "200 OK", "x"))
        .expect(Outcome::Response);
    edge.scratch.now_ns = 31 * SECOND;
    assert_eq!(to(&mut edge, 3, "INVITE"), address(THREE[0]), "tried again");
    // All of them silent: the first one, rather than nobody.
    let mut edge = with_three();
    for number in 1..=3 {
        for _ in 0..3 {
            to(&mut edge, number, "INVITE");
        }
    }
    assert_eq!(to(&mut edge, 9, "INVITE"), address(THREE[0]));
}

#[test]
fn another_node_finds_the_same_address() {
    let question = question("carrier.test", None, false);
    let equal = |edge: &mut Edge| {
        let mut names = Names::default();
        let targets = THREE.iter().map(|text| Target {
            address: address(text),
            priority: 1,
            weight: 100,
        });
        names.put(
            &question,
            Found::new(Answer::Targets(Targets::new(targets)), 60),
            0,
        );
        edge.scratch.names = Arc::new(names);
    };
    let (mut one, mut other) = (edge(), edge());
    equal(&mut one);
    equal(&mut other);
    let mut counts = [0; 3];
    for number in 0..300 {
        let got = to(&mut one, number, "INVITE");
        assert_eq!(to(&mut other, number, "CANCEL"), got);
        counts[THREE.map(address).iter().position(|to| *to == got).unwrap()] += 1;
    }
    assert!(
        counts.iter().all(|count| (60..140).contains(count)),
        "{counts:?}"
    );
}
