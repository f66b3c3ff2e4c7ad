//! What we answer ourselves, what we never answer, and what we swallow.

use super::edge::*;
use crate::{
    forward::{Action, Datagram, ListenerIndex, Outcome, forward},
    sip,
    token::Keys,
};

#[test]
fn a_refusal_has_what_a_response_must_have() {
    let sent = Edge::new().send(
        CLIENT,
        INVITE.replace("Max-Forwards: 70", "Max-Forwards: 0"),
    );
    let text = sent
        .expect(Outcome::MaxForwardsExceeded)
        .expect_to(CLIENT)
        .text();
    let tag = text
        .split("To: Bob <sip:bob@example.com>;tag=")
        .nth(1)
        .unwrap()[..16]
        .to_owned();
    assert_eq!(
        text,
        format!(
            "SIP/2.0 483 Too Many Hops\r\n\
            Via: SIP/2.0/UDP 192.168.1.5:5060;branch=z9hG4bK776asdhds;rport=40000;received=198.51.100.7\r\n\
            From: Alice <sip:alice@example.com>;tag=1928301774\r\n\
            To: Bob <sip:bob@example.com>;tag={tag}\r\n\
            Call-ID: a84b4c76e66710@192.168.1.5\r\n\
            CSeq: 314159 INVITE\r\n\
            Content-Length: 0\r\n\
            \r\n"
        )
    );
}

#[test]
fn what_a_proxy_has_to_know_is_refused_by_name() {
    let asking = |method: &str| {
        request(method)
            .replace("Contact:", "Proxy-Require: a, b\r\nRequire: c\r\nContact:")
            .replace(
                "Content-Type:",
                "proxy-require :\r\n  d\r\nProxy-Require:\r\nContent-Type:",
            )
    };
    let invite = Edge::new().send(CLIENT, INVITE);
    let in_dialog = format!("Route: {}\r\nContact:", invite.header("Record-Route"));
    for method in ["INVITE", "OPTIONS", "BYE", "REGISTER", "x"] {
        for (source, text) in [
            (CLIENT, asking(method)),
            (BACKENDS[0], asking(method)),
            (CLIENT, asking(method).replace("Contact:", &in_dialog)),
        ] {
            let sent = Edge::new()
                .send(source, text)
                .expect(Outcome::ExtensionNotSupported)
                .expect_to(source);
            assert_eq!(sent.start_line(), "SIP/2.0 420 Bad Extension");
            let text = sent.text();
            let (_, end) = text
                .split_once(&format!("CSeq: 314159 {method}\r\n"))
                .unwrap();
            let wanted = "Unsupported: a, b\r\nUnsupported: d\r\nContent-Length: 0\r\n\r\n";
            assert_eq!(end, wanted);
        }
    }
    // RFC 3261 §20.29: not for these. An ACK is never answered, and a CANCEL has to follow its INVITE.
    for method in ["ACK", "CANCEL"] {
        let sent = Edge::new()
            .send(CLIENT, asking(method))
            .expect(Outcome::RequestToPool);
        assert_eq!(sent.header("Proxy-Require"), "a, b");
    }
    // Whoever may hand a request no further does not hand it to an extension either (RFC 3261 §16.3).
    Edge::new()
        .send(
            CLIENT,
            asking("INVITE").replace("Max-Forwards: 70", "Max-Forwards: 0"),
        )
        .expect(Outcome::MaxForwardsExceeded);
    // A list without a tag asks for nothing.
    Edge::new()
        .send(
            CLIENT,
            INVITE.replace("Contact:", "Proxy-Require: ,\r\nContact:"),
        )
        .expect(Outcome::RequestToPool);
}

#[test]
fn a_long_list_of_extensions_does_not_make_a_reply_longer_than_others() {
    for list in ["a,".repeat(30_000), "\r\nproxy-require:x".repeat(200)] {
        for line_end in ["\r\n", "\n"] {
            let text = request("OPTIONS")
                .replace("Contact:", &format!("Proxy-Require:{list}\r\nContact:"))
                .replace("\r\n", line_end);
            let sent = Edge::new()
                .send(CLIENT, &text)
                .expect(Outcome::ExtensionNotSupported);
            assert!(sent.bytes.len() < text.len());
        }
    }
}

#[test]
fn without_rport_a_reply_goes_to_the_port_of_sent_by() {
    for (via, port) in [
        ("192.168.1.5:5062", 5062),
        ("192.168.1.5", 5060),
        ("phone.example.com:5070", 5070),
    ] {
        let text = INVITE
            .replace("Max-Forwards: 70", "Max-Forwards: 0")
            .replace("192.168.1.5:5060;", &format!("{via};"))
            .replace(";rport", "");
        Edge::new()
            .send(CLIENT, text)
            .expect(Outcome::MaxForwardsExceeded)
            .expect_to(&format!("198.51.100.7:{port}"));
    }
}

#[test]
fn all_vias_come_back_in_their_order() {
    let text = INVITE
        .replace(
            ";rport\r\n",
            ";received=203.0.113.66;rport=1, SIP/2.0/UDP b;branch=2\r\nv:SIP/2.0/UDP c\r\n",
        )
        .replace("Max-Forwards: 70", "Max-Forwards: 0")
        .replace("Call-ID:", "VIA : SIP/2.0/UDP d\r\ni:");
    let sent = Edge::new()
        .send(CLIENT, text)
        .expect(Outcome::MaxForwardsExceeded);
    let lines: Vec<_> = sent.text().lines().map(str::to_owned).collect();
    assert_eq!(
        lines[1..4],
        [
            "Via: SIP/2.0/UDP 192.168.1.5:5060;branch=z9hG4bK776asdhds;received=198.51.100.7;rport=40000, SIP/2.0/UDP b;branch=2",
            "v:SIP/2.0/UDP c",
            "VIA : SIP/2.0/UDP d",
        ]
    );
    assert_eq!(lines[6], "i: a84b4c76e66710@192.168.1.5");
}

#[test]
fn what_is_left_over_at_the_end_of_to_does_not_come_before_the_tag() {
    for to in [
        "sip:bob@example.com ; ",
        "sip:bob@example.com,",
        "sip:bob@example.com;\r\n ",
    ] {
        let text = request("OPTIONS")
            .replace("Max-Forwards: 70", "Max-Forwards: 0")
            .replace("Bob <sip:bob@example.com>", to);
        let sent = Edge::new()
            .send(CLIENT, text)
            .expect(Outcome::OptionsAnswered);
        let to = sent.header("To");
        assert!(to.starts_with("sip:bob@example.com;tag="), "{to}");
        assert!(sip::read(&sent.bytes).unwrap().to_tag().is_some());
    }
}

#[test]
fn a_to_tag_that_is_there_stays() {
    let text = INVITE
        .replace("Max-Forwards: 70", "Max-Forwards: 0")
        .replace("Bob <sip:bob@example.com>", "<sip:bob@example.com>;tag=x");
    let sent = Edge::new()
        .send(CLIENT, &text)
        .expect(Outcome::MaxForwardsExceeded);
    assert_eq!(sent.header("To"), "<sip:bob@example.com>;tag=x");
    // An empty one is none, and gets a value where it stands.
    let sent = Edge::new()
        .send(CLIENT, text.replace(";tag=x", ";tag=;y"))
        .expect(Outcome::MaxForwardsExceeded);
    let to = sent.header("To");
    let tag = to
        .strip_prefix("<sip:bob@example.com>;tag=")
        .and_then(|rest| rest.strip_suffix(";y"));
    assert_eq!(tag.map(str::len), Some(16), "{to}");
}

/// Each fault with the outcome it is counted as and the first line that answers it.
#[test]
fn faults_are_named() {
    for (from, to, outcome, line) in [
        (
            "SIP/2.0\r\n",
            "SIP/7.0\r\n",
            Outcome::VersionNotSupported,
            "505 SIP Version Not Supported",
        ),
        (
            "SIP/2.0\r\n",
            "SIP/2.0 \r\n",
            Outcome::BadRequestLine,
            "400 Malformed request line",
        ),
        (
            "sip:bob@example.com SIP",
            "<sip:bob> SIP",
            Outcome::BadRequestUri,
            "400 Malformed Request-URI",
        ),
        (
            "Contact: ",
            "Contact",
            Outcome::BadHeaderField,
            "400 Malformed header field",
        ),
        (
            "Contact: ",
            "Contact: \r",
            Outcome::BareCr,
            "400 Bare CR in a header field",
        ),
        (
            "\r\n\r\nv=0\n",
            "\r\n",
            Outcome::NoEmptyLine,
            "400 No empty line after the header fields",
        ),
        (
            "From: ",
            "X: ",
            Outcome::MissingFrom,
            "400 Missing From header field",
        ),
        (
            "To: ",
            "X: ",
            Outcome::MissingTo,
            "400 Missing To header field",
        ),
        (
            "Call-ID: ",
            "X: ",
            Outcome::MissingCallId,
            "400 Missing Call-ID header field",
        ),
        (
            "CSeq: ",
            "X: ",
            Outcome::MissingCseq,
            "400 Missing CSeq header field",
        ),
        (
            "Contact: ",
            "To: x\r\nContact: ",
            Outcome::RepeatedHeaderField,
            "400 Repeated single header field",
        ),
        (
            "Alice",
            "\"Alice",
            Outcome::BadFrom,
            "400 Malformed From header field",
        ),
        (
            "Bob <sip:bob@example.com>",
            "<",
            Outcome::BadTo,
            "400 Malformed To header field",
        ),
        (
            "a84b4c76e66710@192.168.1.5",
            "",
            Outcome::BadCallId,
            "400 Malformed Call-ID header field",
        ),
        (
            "314159",
            "x",
            Outcome::BadCseq,
            "400 Malformed CSeq header field",
        ),
        (
            "314159 INVITE",
            "1 BYE",
            Outcome::CseqMethodMismatch,
            "400 CSeq method differs from the request",
        ),
        (
            "70",
            "256",
            Outcome::BadMaxForwards,
            "400 Malformed Max-Forwards header field",
        ),
        (
            "Contact:",
            "Route: <sip:\r\nContact:",
            Outcome::BadRoute,
            "400 Malformed Route header field",
        ),
        (
            "Length: 4",
            "Length: x",
            Outcome::BadContentLength,
            "400 Malformed Content-Length header field",
        ),
        (
            "Length: 4",
            "Length: 5",
            Outcome::BodyTooShort,
            "400 Content-Length exceeds the datagram",
        ),
        (
            "Contact: ",
            &"a: b\r\n".repeat(300),
            Outcome::TooManyHeaderFields,
            "400 Too many header fields",
        ),
    ] {
        let text = INVITE.replacen(from, to, 1);
        assert_ne!(text, INVITE);
        let sent = Edge::new()
            .send(CLIENT, &text)
            .expect(outcome)
            .expect_to(CLIENT);
        assert_eq!(sent.start_line(), format!("SIP/2.0 {line}"), "{text}");
        assert!(
            sent.header("Via")
                .contains("branch=z9hG4bK776asdhds;rport=40000;received=198.51.100.7")
        );
        let ack = text
            .replacen("INVITE", "ACK", 1)
            .replace("314159 INVITE", "314159 ACK");
        let outcome = if outcome == Outcome::BadRoute {
            Outcome::AckNotRouted
        } else {
            Outcome::MalformedAck
        };
        Edge::new().send(CLIENT, ack).expect(outcome);
    }
}

#[test]
fn without_a_via_nobody_is_answered() {
    for via in [
        "",
        "Via: \r\n",
        "Via: SIP/2.0/UDP\r\n",
        "Via: SIP/2.0/UDP a;branch=1;branch=2\r\n",
    ] {
        let own = "Via: SIP/2.0/UDP 192.168.1.5:5060;branch=z9hG4bK776asdhds;rport\r\n";
        Edge::new()
            .send(CLIENT, INVITE.replace(own, via))
            .expect(Outcome::Unanswerable);
        Edge::new()
            .send(CLIENT, request("ACK").replace(own, via))
            .expect(Outcome::MalformedAck);
    }
}

#[test]
fn refusals_other_than_for_faults() {
    let keys = || Keys::new(SECRET.as_bytes(), None);
    let mut no_rule = Edge::with_pools(keys(), vec![], vec![]);
    let mut no_backend = Edge::with_pools(
        keys(),
        vec![pool("x", 0, &[], &keys())],
        vec![rule("", None, 0)],
    );
    let to_us = |method: &str| request(method).replace("bob@example.com SIP", "203.0.113.10 SIP");
    let backend = Edge::new()
        .send(BACKENDS[0], to_us("INVITE"))
        .expect(Outcome::FromBackendWithoutToken);
    assert_eq!(
        backend.start_line(),
        "SIP/2.0 403 No token in Route or Request-URI"
    );
    // At whatever port.
    Edge::new()
        .send("10.0.0.11:9", to_us("INVITE"))
        .expect(Outcome::FromBackendWithoutToken);
    let none = no_rule.send(CLIENT, INVITE).expect(Outcome::NoRouteRule);
    assert_eq!(none.start_line(), "SIP/2.0 404 Not Found");
    let none = no_backend
        .send(CLIENT, INVITE)
        .expect(Outcome::NoUsableBackend);
    assert_eq!(none.start_line(), "SIP/2.0 503 Service Unavailable");
    let forged = INVITE.replace(
        "Contact:",
        "Route: <sip:forged@203.0.113.10;lr>\r\nContact:",
    );
    let forged = Edge::new()
        .send(CLIENT, forged)
        .expect(Outcome::BadFlowToken);
    assert_eq!(forged.start_line(), "SIP/2.0 403 Flow token not valid");
    for (edge, source) in [
        (&mut no_rule, CLIENT),
        (&mut no_backend, CLIENT),
        (&mut Edge::new(), BACKENDS[0]),
    ] {
        edge.send(source, to_us("ACK"))
            .expect(Outcome::AckNotRouted);
    }
    let tired = request("ACK").replace("Max-Forwards: 70", "Max-Forwards: 0");
    Edge::new()
        .send(CLIENT, tired)
        .expect(Outcome::AckNotRouted);
}

#[test]
fn an_options_for_us_is_answered() {
    for (uri, hops, outcome) in [
        ("sip:203.0.113.10", "70", Outcome::OptionsAnswered),
        (
            "sip:203.0.113.10:5060;transport=udp",
            "70",
            Outcome::OptionsAnswered,
        ),
        ("sip:[2001:db8:0::10]", "70", Outcome::OptionsAnswered),
        ("sip:@203.0.113.10", "70", Outcome::OptionsAnswered),
        ("sip:203.0.113.10:5070", "70", Outcome::RequestToPool),
        ("sip:203.0.113.11", "70", Outcome::RequestToPool),
        ("sip:bob@203.0.113.10", "70", Outcome::RequestToPool),
        ("sip:example.com", "70", Outcome::RequestToPool),
        ("tel:+44", "70", Outcome::RequestToPool),
        ("sip:bob@example.com", "0", Outcome::OptionsAnswered),
        ("sip:bob@example.com", "00", Outcome::OptionsAnswered),
    ] {
        let text = request("OPTIONS")
            .replace("sip:bob@example.com SIP", &format!("{uri} SIP"))
            .replace("Max-Forwards: 70", &format!("Max-Forwards: {hops}"));
        let sent = Edge::new().send(CLIENT, &text).expect(outcome);
        if outcome == Outcome::OptionsAnswered {
            assert_eq!(sent.start_line(), "SIP/2.0 200 OK");
            // A backend may look whether we live as well.
            Edge::new().send(BACKENDS[0], &text).expect(outcome);
            let routed = text.replace("Contact:", "Route: <sip:203.0.113.10;lr>\r\nContact:");
            Edge::new().send(CLIENT, routed).expect(outcome);
        }
    }
    let elsewhere = request("OPTIONS")
        .replace("sip:bob@example.com SIP", "sip:203.0.113.10 SIP")
        .replace("Contact:", "Route: <sip:192.0.2.1;lr>\r\nContact:");
    Edge::new()
        .send(CLIENT, elsewhere)
        .expect(Outcome::RequestToPool);
}

#[test]
fn the_ack_to_a_reply_of_ours_is_swallowed_by_any_node() {
    let old = || Keys::new(b"old secret", None);
    let rotated = || Keys::new(SECRET.as_bytes(), Some(b"old secret"));
    for (refuser, swallower) in [
        (Edge::new(), Edge::new()),
        (Edge::with_keys(old()), Edge::with_keys(rotated())),
        (Edge::with_keys(rotated()), Edge::new()),
    ] {
        for branch in ["z9hG4bK776asdhds", "1"] {
            let (mut refuser, mut swallower) = (
                Edge::with_pools(refuser.table.keys.clone(), vec![], vec![]),
                Edge::with_keys(swallower.table.keys.clone()),
            );
            let invite = INVITE.replace("z9hG4bK776asdhds", branch);
            let refused = refuser.send(CLIENT, &invite).expect(Outcome::NoRouteRule);
            let ack = invite
                .replacen("INVITE", "ACK", 1)
                .replace("314159 INVITE", "314159 ACK")
                .replace("Max-Forwards: 70", "Max-Forwards: 0")
                .replace("Bob <sip:bob@example.com>", &refused.header("To"));
            swallower.send(CLIENT, &ack).expect(Outcome::OwnReplyAcked);
            // Not that of another transaction, and nothing but an ACK.
            for (from, to) in [
                ("314159 ACK", "314160 ACK"),
                ("1928301774", "2"),
                ("Call-ID: a", "Call-ID: b"),
            ] {
                let other = ack
                    .replace(from, to)
                    .replace("Max-Forwards: 0", "Max-Forwards: 9");
                swallower.send(CLIENT, other).expect(Outcome::RequestToPool);
            }
            swallower
                .send(
                    CLIENT,
                    ack.replace("ACK", "BYE")
                        .replace("Max-Forwards: 0", "Max-Forwards: 9"),
                )
                .expect(Outcome::RequestToPool);
        }
    }
}

#[test]
fn keepalives_are_answered_to_their_source() {
    let sent = Edge::new()
        .send(CLIENT, b"\r\n\r\n")
        .expect(Outcome::KeepaliveCrlf);
    assert_eq!(sent.bytes, b"\r\n");
    let mut stun = vec![0, 1, 0, 0, 0x21, 0x12, 0xa4, 0x42];
    stun.extend([7; 12]);
    let sent = Edge::new()
        .send(CLIENT, &stun)
        .expect(Outcome::KeepaliveStun);
    assert_eq!(sent.bytes.len(), 32);
    let sent = Edge::new()
        .send("[::ffff:198.51.100.7]:40000", &stun)
        .expect(Outcome::KeepaliveStun);
    assert_eq!(sent.bytes.len(), 32);
}

#[test]
fn an_unknown_listener_drops() {
    let mut edge = Edge::new();
    let datagram = Datagram {
        payload: INVITE.as_bytes(),
        source: address(CLIENT),
        listener: ListenerIndex(2),
    };
    let verdict = forward(&edge.table, &datagram, &mut edge.scratch);
    assert_eq!(
        (verdict.outcome, verdict.action),
        (Outcome::UnknownListener, Action::Drop)
    );
}
