//! Requests that are forwarded: what is changed and what is not.

use super::edge::*;
use crate::{
    forward::{Action, Outcome},
    sip,
    token::Keys,
};

#[test]
fn an_invite_is_changed_at_three_places_and_nowhere_else() {
    let mut edge = Edge::new();
    let sent = edge.send(CLIENT, INVITE).expect(Outcome::RequestToPool);
    let Action::Forward {
        to,
        backend,
        initial_invite,
        ..
    } = sent.verdict.action
    else {
        unreachable!()
    };
    assert!(initial_invite);
    assert_eq!(to, address(BACKENDS[usize::from(backend.unwrap().0)]));

    let text = sent.text();
    let (first, rest) = text.split_once("\r\n").unwrap();
    let (via, rest) = rest.split_once("\r\n").unwrap();
    let (record_route, rest) = rest.split_once("\r\n").unwrap();
    assert_eq!(first, "INVITE sip:bob@example.com SIP/2.0");
    let branch = via
        .strip_prefix("Via: SIP/2.0/UDP 203.0.113.10:5060;branch=z9hG4bK")
        .unwrap();
    let (id, mac) = branch.trim_end_matches(";lb").split_once(";lbm=").unwrap();
    assert!(id.len() == 16 && mac.len() == 16, "{via}");
    let token = record_route
        .strip_prefix("Record-Route: <sip:")
        .and_then(|rest| rest.strip_suffix('>'))
        .and_then(|rest| rest.split_once("@203.0.113.10:5060;lr"));
    assert_eq!(token.unwrap().0.len(), 28, "{record_route}");
    let want = INVITE
        .split_once("\r\n")
        .unwrap()
        .1
        .replace(";rport\r\n", ";rport=40000;received=198.51.100.7\r\n")
        .replace("Max-Forwards: 70", "Max-Forwards: 69");
    assert_eq!(rest.replace(";lb\r\n", "\r\n"), want);
}

#[test]
fn the_same_over_ipv6() {
    let sent = Edge::new()
        .send(CLIENT6, INVITE)
        .expect(Outcome::RequestToPool)
        .expect_to(BACKEND6);
    assert!(
        sent.header("Via")
            .starts_with("SIP/2.0/UDP [2001:db8::10]:5060;branch=z9hG4bK")
    );
    assert!(
        sent.header("Record-Route")
            .contains("@[2001:db8::10]:5060;lr")
    );
    let via = &sent.headers("Via")[1];
    assert!(via.contains(";rport=40000;received=2001:db8:1::7"), "{via}");
}

#[test]
fn an_ipv4_source_mapped_into_ipv6_is_ipv4() {
    let mut edge = Edge::new();
    let plain = edge.send(CLIENT, INVITE);
    let datagram = crate::forward::Datagram {
        payload: INVITE.as_bytes(),
        source: address("[::ffff:198.51.100.7]:40000"),
        listener: crate::forward::ListenerIndex(0),
    };
    let verdict = crate::forward::forward(&edge.table, &datagram, &mut edge.scratch);
    assert_eq!(verdict, plain.verdict);
    let mut output = vec![0; plain.bytes.len()];
    edge.scratch
        .edits
        .apply(INVITE.as_bytes(), &mut output)
        .unwrap();
    assert_eq!(output, plain.bytes);
}

#[test]
fn max_forwards() {
    for (line, want) in [
        ("Max-Forwards: 70\r\n", "69"),
        ("Max-Forwards: 10\r\n", "09"),
        ("Max-Forwards: 100\r\n", "099"),
        ("Max-Forwards: 1\r\n", "0"),
        ("max-forwards:0068\r\n", "0067"),
        ("Max-Forwards: 255\r\n", "254"),
        ("", "70"),
    ] {
        let text = INVITE.replace("Max-Forwards: 70\r\n", line);
        let sent = Edge::new()
            .send(CLIENT, text)
            .expect(Outcome::RequestToPool);
        assert_eq!(sent.headers("Max-Forwards"), [want], "{line}");
    }
}

#[test]
fn only_requests_that_create_a_dialog_are_record_routed() {
    for (method, want) in [
        ("INVITE", 1),
        ("SUBSCRIBE", 1),
        ("REFER", 1),
        ("REGISTER", 0),
        ("OPTIONS", 0),
        ("MESSAGE", 0),
        ("CANCEL", 0),
        ("PUBLISH", 0),
        ("invite", 0),
    ] {
        let sent = Edge::new()
            .send(CLIENT, request(method))
            .expect(Outcome::RequestToPool);
        assert_eq!(sent.headers("Record-Route").len(), want, "{method}");
        let in_dialog =
            request(method).replace("Bob <sip:bob@example.com>", "<sip:bob@example.com>;tag=x");
        let sent = Edge::new()
            .send(CLIENT, in_dialog)
            .expect(Outcome::RequestToPool);
        assert_eq!(sent.headers("Record-Route").len(), 0, "{method}");
        assert!(!matches!(
            sent.verdict.action,
            Action::Forward {
                initial_invite: true,
                ..
            }
        ));
    }
}

#[test]
fn our_via_is_on_top_however_the_message_is_written() {
    for text in [
        INVITE.replace("\r\n", "\n"),
        format!("\r\n\r\n{INVITE}"),
        format!("\n{INVITE}"),
        INVITE.replace("Via:", "v  :"),
        INVITE.replace("Via: SIP/2.0/UDP ", "Via:\r\n SIP / 2.0 / UDP\r\n\t"),
        // The only Via comes last.
        INVITE
            .replace(
                "Via: SIP/2.0/UDP 192.168.1.5:5060;branch=z9hG4bK776asdhds;rport\r\n",
                "",
            )
            .replace(
                "\r\n\r\n",
                "\r\nVia: SIP/2.0/UDP 192.168.1.5;branch=z9hG4bK7;rport\r\n\r\n",
            ),
        // Two values in one field, and a third in another.
        INVITE.replace(
            ";rport\r\n",
            ";rport, SIP/2.0/UDP a;branch=z9hG4bKb\r\nVia: SIP/2.0/UDP c\r\n",
        ),
    ] {
        let sent = Edge::new()
            .send(CLIENT, &text)
            .expect(Outcome::RequestToPool);
        let out = sent.text();
        assert!(
            out.starts_with("INVITE sip:bob@example.com SIP/2.0"),
            "{out}"
        );
        let second = out.lines().nth(1).unwrap();
        assert!(
            second.starts_with("Via: SIP/2.0/UDP 203.0.113.10:5060;branch="),
            "{out}"
        );
        assert_eq!(
            out.matches("rport=40000;received=198.51.100.7").count(),
            1,
            "{out}"
        );
        assert!(out.ends_with("v=0\n"), "{out}");
    }
}

#[test]
fn what_follows_the_body_is_left_alone() {
    let text = format!("{INVITE}more than Content-Length says");
    let sent = Edge::new()
        .send(CLIENT, text)
        .expect(Outcome::RequestToPool);
    assert!(sent.text().ends_with("v=0\nmore than Content-Length says"));
}

#[test]
fn any_uri_scheme_is_forwarded() {
    for uri in [
        "sips:bob@example.com",
        "tel:+441234567",
        "urn:service:sos",
        "soap.beep://192.0.2.103:3002",
    ] {
        let text = INVITE.replace("sip:bob@example.com SIP", &format!("{uri} SIP"));
        Edge::new()
            .send(CLIENT, text)
            .expect(Outcome::RequestToPool);
    }
}

/// The output keeps its parity from the last edit on, for all ways in which text of odd length comes and goes.
#[test]
fn insertions_are_even_together() {
    let mut edge = Edge::new();
    let own = [
        "",
        "<sip:203.0.113.10;lr>",
        "<sip:203.0.113.10:5060;lr>,<sip:x;lr>",
        "<sip:203.0.113.10;lr> , <sip:x>",
    ];
    let vias = [
        "192.168.1.5",
        "192.168.1.5;rport",
        "192.168.1.5;rport=",
        "198.51.100.7",
        "h;received=1",
        "h;received=12;rport=1",
    ];
    let mut odd = 0;
    for leading in ["", "\n", "\r\n"] {
        for via in vias {
            for route in own {
                for hops in ["", "Max-Forwards: 7\r\n"] {
                    for source in ["198.51.100.7:5", "198.51.100.7:50"] {
                        let route = if route.is_empty() {
                            String::new()
                        } else {
                            format!("Route: {route}\r\n")
                        };
                        let text = leading.to_owned()
                            + &INVITE
                                .replace("192.168.1.5:5060", via)
                                .replace(";rport\r\n", "\r\n")
                                .replace("Max-Forwards: 70\r\n", &(route + hops));
                        let sent = edge.send(source, &text).expect(Outcome::RequestToPool);
                        assert_eq!(
                            sent.bytes.len() % 2,
                            text.len() % 2,
                            "{text}\n{}",
                            sent.text()
                        );
                        // Our own fields are even each, so that a response that loses one is even too.
                        for name in ["Via", "Record-Route"] {
                            assert_eq!((name.len() + 4 + sent.header(name).len()) % 2, 0);
                        }
                        odd += usize::from(sent.text().contains("Max-Forwards:  "));
                    }
                }
            }
        }
    }
    assert!(odd > 0, "no case needed the blank before Max-Forwards");
}

#[test]
fn the_first_rule_that_matches_decides() {
    let keys = Keys::new(SECRET.as_bytes(), None);
    let pools = vec![
        pool("registrars", 0, &BACKENDS[..1], &keys),
        pool("switches", 1, &BACKENDS[1..2], &keys),
        pool("rest", 2, &BACKENDS[2..], &keys),
    ];
    let routes = vec![
        rule("REGISTER", None, 0),
        rule("INVITE", Some(0), 1),
        rule("INVITE", None, 9),
        rule("", Some(1), 2),
    ];
    let mut edge = Edge::with_pools(keys, pools, routes);
    edge.send(CLIENT, request("REGISTER"))
        .expect(Outcome::RequestToPool)
        .expect_to(BACKENDS[0]);
    // CANCEL and ACK are where their INVITE is.
    for method in ["INVITE", "CANCEL", "ACK"] {
        edge.send(CLIENT, request(method))
            .expect(Outcome::RequestToPool)
            .expect_to(BACKENDS[1]);
    }
    edge.send(CLIENT, request("register"))
        .expect(Outcome::NoRouteRule);
    edge.send(CLIENT, request("MESSAGE"))
        .expect(Outcome::NoRouteRule);
    // A rule to a pool that is not there.
    edge.send(CLIENT6, request("INVITE"))
        .expect(Outcome::NoUsableBackend);
}

#[test]
fn a_transaction_keeps_its_branch_and_others_have_another() {
    let mut edge = Edge::new();
    let mut branch = |text: String| {
        let via = edge.send(CLIENT, text).header("Via");
        via.split(";lb").next().unwrap().to_owned()
    };
    let invite = branch(INVITE.into());
    let tagged = |text: String| {
        text.replace(
            "Bob <sip:bob@example.com>",
            "<sip:bob@example.com>;tag=a6c85cf",
        )
    };
    let same = [
        INVITE.to_owned(),
        request("CANCEL").replace("Content-Type: application/sdp\r\n", ""),
        tagged(request("ACK")),
        INVITE.replace("Max-Forwards: 70", "Max-Forwards: 60"),
        INVITE.replace("v=0", "v=1"),
        INVITE.replace("Contact:", "Authorization: x\r\nContact:"),
        tagged(INVITE.into()),
    ];
    for text in same {
        assert_eq!(branch(text.clone()), invite, "{text}");
    }
    let other = [
        INVITE.replace("776asdhds", "776asdhdt"),
        INVITE.replace("314159", "314160"),
        INVITE.replace("1928301774", "1928301775"),
        INVITE.replace("Call-ID: a", "Call-ID: b"),
        INVITE.replace("sip:bob@example.com SIP", "sip:bob@192.0.2.1 SIP"),
        INVITE.replace("192.168.1.5:5060", "192.168.1.6:5060"),
        INVITE.replace("192.168.1.5:5060", "192.168.1.5:5061"),
    ];
    for text in other {
        assert_ne!(branch(text.clone()), invite, "{text}");
    }
}

#[test]
fn a_retransmission_from_elsewhere_keeps_its_branch() {
    let mut edge = Edge::new();
    let branch =
        |sent: super::edge::Sent| sent.header("Via").split(";lbm").next().unwrap().to_owned();
    let first = branch(edge.send(CLIENT, INVITE));
    assert_eq!(branch(edge.send("198.51.100.99:1", INVITE)), first);
}

#[test]
fn nodes_agree_to_the_byte() {
    let (mut one, mut other) = (Edge::new(), Edge::other_node());
    for method in ["INVITE", "REGISTER", "OPTIONS", "ACK"] {
        let (a, b) = (
            one.send(CLIENT, request(method)),
            other.send(CLIENT, request(method)),
        );
        assert_eq!(a.verdict, b.verdict);
        assert_eq!(a.bytes, b.bytes);
    }
}

#[test]
fn what_goes_on_has_few_enough_header_fields_to_be_read_again() {
    // As much as we ever add: Via, Record-Route and Max-Forwards; a fourth one is for validation.
    let bare = INVITE.replace("Max-Forwards: 70\r\n", "");
    let fields = bare.lines().take_while(|line| !line.is_empty()).count() - 1;
    let with = |count: usize| bare.replace("To: ", &("x: y\r\n".repeat(count - fields) + "To: "));
    let mut edge = Edge::new();
    for count in [8, 239, 240] {
        let sent = edge
            .send(CLIENT, with(count))
            .expect(Outcome::RequestToPool);
        let read = sip::read(&sent.bytes).unwrap();
        assert_eq!((read.fields, read.fault), (count + 3, None));
        // A server says a dozen things about itself, and two proxies behind us have been there as well.
        let vias = "Via: SIP/2.0/UDP h\r\nRecord-Route: <sip:h;lr>\r\n".repeat(2);
        let answer = sent.text().replacen(
            "INVITE sip:bob@example.com SIP/2.0\r\n",
            "SIP/2.0 200 OK\r\n",
            1,
        );
        let answer = answer.replace("To: ", &format!("{vias}{}To: ", "a: b\r\n".repeat(8)));
        edge.send(BACKENDS[0], answer).expect(Outcome::Response);
    }
    for count in [241, 255, 256, 257] {
        edge.send(CLIENT, with(count))
            .expect(Outcome::TooManyHeaderFields);
    }
    let ack = with(241).replace("INVITE", "ACK");
    edge.send(CLIENT, ack).expect(Outcome::AckNotRouted);
}
