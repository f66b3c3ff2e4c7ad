//! What a trace says is what the decision did.

use super::edge::*;
use crate::forward::{Action, Datagram, ListenerIndex, Outcome, RouteOwner, Trace};

/// A trace of `text`, and what became of it.
fn trace(edge: &mut Edge, source: &str, text: &str) -> (Trace, Sent) {
    let sent = edge.send(source, text);
    let datagram = Datagram {
        payload: text.as_bytes(),
        source: address(source),
        listener: ListenerIndex(u16::from(address(source).is_ipv6())),
    };
    let trace = Trace::new(&edge.table, &datagram, sent.verdict.outcome);
    (trace, sent)
}

#[test]
fn the_choice_is_the_one_that_was_made() {
    let mut edge = Edge::new();
    for call in 0..100 {
        let text = INVITE.replace("a84b4c", &call.to_string());
        let (trace, sent) = trace(&mut edge, CLIENT, &text);
        let choice = trace.choice.unwrap();
        let Action::Forward { backend, .. } = sent.verdict.action else {
            panic!("{}", sent.text());
        };
        assert_eq!((choice.rule, choice.pool), (Some(1), Some(0)));
        assert_eq!(choice.backend, backend);
        let table = edge.table.pools[0].table.as_ref().unwrap();
        let position = table.backend(choice.slot.unwrap());
        assert_eq!(
            Some(edge.table.pools[0].backends[position].index),
            choice.backend
        );
    }
}

#[test]
fn a_choice_that_failed_says_where_it_stopped() {
    let keys = crate::token::Keys::new(SECRET.as_bytes(), None);
    let pools = || vec![pool("empty", 0, &[], &keys)];
    let mut none = Edge::with_pools(keys.clone(), pools(), vec![rule("INVITE", None, 0)]);
    for (text, outcome, wanted) in [
        (request("INVITE"), Outcome::NoUsableBackend, Some(0)),
        (request("ACK"), Outcome::AckNotRouted, Some(0)),
        (request("MESSAGE"), Outcome::NoRouteRule, None),
    ] {
        let (trace, sent) = trace(&mut none, CLIENT, &text);
        assert_eq!(sent.verdict.outcome, outcome);
        let choice = trace.choice.unwrap();
        assert_eq!((choice.rule, choice.pool), (wanted, wanted));
        assert_eq!((choice.slot, choice.backend), (None, None));
    }
    // No choice where something else decided.
    for (source, text) in [
        (CLIENT, INVITE.replace("s: 70", "s: 0")),
        (BACKENDS[0], INVITE.to_owned()),
        (CLIENT, INVITE.replace("CSeq: 3", "CSeq: x")),
    ] {
        let (trace, _) = trace(&mut Edge::new(), source, &text);
        assert_eq!(trace.choice, None, "{text}");
        assert_eq!(trace.from_inside, source != CLIENT);
    }
}

#[test]
fn each_route_value_has_an_owner() {
    let mut edge = Edge::new();
    let invite = edge.send(CLIENT, INVITE);
    let ours = invite.header("Record-Route");
    let forged = ours.replace("<sip:", "<sip:A");
    let routes = |routes: &str| {
        INVITE
            .replace(
                "Bob <sip:bob@example.com>",
                "Bob <sip:bob@example.com>;tag=b",
            )
            .replace("Contact:", &format!("Route: {routes}\r\nContact:"))
    };
    let text = routes(&format!("{ours}, <sip:other.example.com;lr>"));
    let (trace_, sent) = trace(&mut edge, CLIENT, &text);
    assert_eq!(sent.verdict.outcome, Outcome::RequestToBackend);
    assert_eq!(trace_.choice, None);
    let [first, second] = trace_.routes[..] else {
        panic!("{:?}", trace_.routes);
    };
    let RouteOwner::Ours(token) = first.owner else {
        panic!("{first:?}");
    };
    assert_eq!((token.client, token.backend), (address(CLIENT), invite.to));
    assert_eq!((first.taken, second.taken), (true, false));
    assert_eq!(second.owner, RouteOwner::Other);
    assert_eq!(
        second.value.of(text.as_bytes()),
        b"<sip:other.example.com;lr>"
    );
    for (route, owner) in [
        (forged.as_str(), RouteOwner::OursBadToken),
        ("<sip:203.0.113.10;lr>", RouteOwner::OursWithoutToken),
        ("<sip:203.0.113.10", RouteOwner::Malformed),
    ] {
        let (trace, _) = trace(&mut edge, CLIENT, &routes(route));
        assert_eq!(trace.routes[0].owner, owner, "{route}");
    }
}

#[test]
fn what_is_wrong_with_a_response_is_told_apart() {
    let mut edge = Edge::new();
    let invite = edge.send(CLIENT, INVITE);
    let good = response(&invite, "200 OK", "x");
    let source = invite.to.to_string();
    let moved = good.replace("198.51.100.7", "198.51.100.8");
    let foreign = good.replacen("203.0.113.10", "203.0.113.99", 1);
    for (text, outcome, own, holds) in [
        (&good, Outcome::Response, true, true),
        (&moved, Outcome::ResponseBadMac, true, false),
        (&foreign, Outcome::ResponseNotOurs, false, true),
    ] {
        let (trace, sent) = trace(&mut edge, &source, text);
        assert_eq!(sent.verdict.outcome, outcome);
        let response = trace.response.unwrap();
        assert_eq!((response.own_via, response.mac_holds), (own, holds));
        assert!(response.has_mac && response.target.is_some());
    }
    let (trace, _) = trace(&mut edge, CLIENT, "hello");
    assert!(trace.message.is_none() && trace.response.is_none());
}
