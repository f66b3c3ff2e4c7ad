//! Nothing that we send comes back to us: neither by a forged source nor by a signed one.

use super::edge::*;
use crate::{
    forward::Outcome,
    token::{FLOW_TOKEN_MAX, FlowToken, Keys, TransactionParts},
};

/// Another port of the VIP, where a SIP server on the same host may live.
const BESIDE_US: &str = "203.0.113.10:5070";

/// A valid token with these ends.
fn token(client: &str, backend: &str) -> String {
    let flow = FlowToken::new(address(client), address(backend));
    let mut text = [0; FLOW_TOKEN_MAX];
    let len = Keys::new(SECRET.as_bytes(), None).write_flow_token(&flow, &mut text);
    String::from_utf8(text[..len].to_vec()).unwrap()
}

fn in_dialog(method: &str, tokens: &[&str]) -> String {
    let routes = tokens
        .iter()
        .map(|token| format!("Route: <sip:{token}@203.0.113.10;lr>\r\n"))
        .collect::<String>();
    request(method)
        .replace("Bob <sip:bob@example.com>", "<sip:bob@example.com>;tag=b")
        .replace("Contact:", &format!("{routes}Contact:"))
}

#[test]
fn a_datagram_from_our_own_address_is_dropped_whatever_it_is() {
    let invite = Edge::new().send(CLIENT, INVITE);
    let bye = in_dialog("BYE", &[&token(CLIENT, BACKENDS[0])]);
    let stun = [&b"\0\x01\0\0\x21\x12\xa4\x42"[..], &[7; 12]].concat();
    for datagram in [
        INVITE.as_bytes(),
        request("ACK").as_bytes(),
        response(&invite, "200 OK", "x").as_bytes(),
        bye.as_bytes(),
        &stun,
        b"\r\n\r\n",
        b"\0",
        b"",
        b"x",
    ] {
        for source in [VIP, VIP6, "[::ffff:203.0.113.10]:5060"] {
            Edge::new()
                .send(source, datagram)
                .expect(Outcome::ForgedSource);
        }
        let beside = Edge::new().send(BESIDE_US, datagram);
        assert_ne!(beside.verdict.outcome, Outcome::ForgedSource);
    }
}

#[test]
fn responses_do_not_go_to_us_by_the_port_of_sent_by() {
    let from = |source: &str, via: &str, text: String| {
        let text = text.replace("192.168.1.5:5060;branch=z9hG4bK776asdhds;rport", via);
        Edge::new().send(source, text).verdict.outcome
    };
    let hops_zero = || INVITE.replace("Max-Forwards: 70", "Max-Forwards: 0");
    for (via, outcome) in [
        ("h", Outcome::ForgedSource),
        ("h:5060", Outcome::ForgedSource),
        ("h;received=192.0.2.1", Outcome::ForgedSource),
        ("h:5070", Outcome::RequestToPool),
        ("h;rport", Outcome::RequestToPool),
        ("h:5060;rport=5060", Outcome::RequestToPool),
    ] {
        let text = [request("INVITE"), request("BYE"), hops_zero()];
        let got = text.map(|text| from(BESIDE_US, via, text));
        let refused = match outcome {
            Outcome::ForgedSource => outcome,
            _ => Outcome::MaxForwardsExceeded,
        };
        assert_eq!(got, [outcome, outcome, refused], "{via}");
        // From others it is their own port.
        let got = from(CLIENT, via, request("INVITE"));
        assert_eq!(got, Outcome::RequestToPool, "{via}");
    }
}

#[test]
fn a_token_that_leads_to_us_is_not_followed() {
    let good = token(CLIENT, BACKENDS[0]);
    for (client, backend) in [(VIP, BACKENDS[0]), (VIP6, BACKENDS[0]), (CLIENT, VIP)] {
        let bad = token(client, backend);
        for routes in [&[bad.as_str()][..], &[&good, &bad]] {
            for source in [CLIENT, OTHER_CLIENT] {
                let sent = Edge::new().send(source, in_dialog("BYE", routes));
                assert_eq!(sent.verdict.outcome, Outcome::BadFlowToken);
                Edge::new()
                    .send(source, in_dialog("ACK", routes))
                    .expect(Outcome::AckNotRouted);
            }
        }
        Edge::new()
            .send(BACKENDS[0], in_dialog("BYE", &[&bad]))
            .expect(Outcome::BadFlowToken);
        let alias = format!("sip:alice@192.168.1.5;lba={bad} SIP");
        let to_alias = request("BYE").replace("sip:bob@example.com SIP", &alias);
        Edge::new()
            .send(BACKENDS[0], to_alias)
            .expect(Outcome::BadFlowToken);
    }
    let beside = in_dialog("BYE", &[&token(BESIDE_US, BACKENDS[0])]);
    Edge::new()
        .send(BACKENDS[0], beside)
        .expect(Outcome::RequestToClient)
        .expect_to(BESIDE_US);
}

/// A node does not sign such a Via, but may have before it got this listener.
#[test]
fn a_via_that_leads_to_us_is_not_followed() {
    let keys = Keys::new(SECRET.as_bytes(), None);
    let transaction = keys.transaction_id(&TransactionParts {
        branch: b"z9hG4bKa",
        sent_by_host: b"h",
        sent_by_port: 5060,
        call_id: b"x",
        cseq: 1,
        from_tag: b"y",
        request_uri: b"sip:b",
    });
    let branch = transaction.to_text();
    let arrive = |target: &str| {
        let mac = keys.via_mac(transaction, address(target));
        let text = format!(
            "SIP/2.0 200 OK\r\nVia: SIP/2.0/UDP {VIP};branch=z9hG4bK{};lbm={}\r\nVia: SIP/2.0/UDP {target}\r\n\
             From: <sip:a>;tag=y\r\nTo: <sip:b>;tag=z\r\nCall-ID: x\r\nCSeq: 1 INVITE\r\nContent-Length: 0\r\n\r\n",
            String::from_utf8_lossy(&branch),
            String::from_utf8_lossy(&mac),
        );
        Edge::new().send(BACKENDS[0], text).verdict.outcome
    };
    assert_eq!(arrive(CLIENT), Outcome::Response);
    assert_eq!(arrive(BESIDE_US), Outcome::Response);
    for ours in [VIP, VIP6] {
        assert_eq!(arrive(ours), Outcome::ResponseBadMac, "{ours}");
    }
}
