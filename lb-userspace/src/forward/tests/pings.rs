//! OPTIONS that are answered at the edge, by what the listener says.

use super::edge::*;
use crate::forward::Outcome;

/// An edge whose listener answers these.
fn edge(ping_replies: &str) -> Edge {
    Edge::with_config(&format!(
        "
node: {{ name: a }}
listeners: [ {{ name: four, address: 203.0.113.10{ping_replies} }} ]
pools: [ {{ name: x, backends: [ {{ name: x1, address: '10.0.0.11:5060' }} ] }} ]
"
    ))
}

const FOR_US: &str = "sip:203.0.113.10";
const FOR_BOB: &str = "sip:bob@example.com";

fn options(uri: &str) -> String {
    request("OPTIONS").replace("sip:bob@example.com SIP", &format!("{uri} SIP"))
}

#[test]
fn who_is_answered() {
    use Outcome::{AwaitsName, FromBackendWithoutToken, OptionsAnswered, RequestToPool};
    for (ping_replies, source, for_us, for_bob) in [
        ("", CLIENT, OptionsAnswered, RequestToPool),
        (
            ", ping_replies: for-us",
            CLIENT,
            OptionsAnswered,
            RequestToPool,
        ),
        (
            ", ping_replies: all",
            CLIENT,
            OptionsAnswered,
            OptionsAnswered,
        ),
        (", ping_replies: off", CLIENT, RequestToPool, RequestToPool),
        // A backend at whatever port.
        ("", "10.0.0.11:9", OptionsAnswered, AwaitsName),
        (
            ", ping_replies: all",
            BACKENDS[0],
            OptionsAnswered,
            AwaitsName,
        ),
        (
            ", ping_replies: off",
            BACKENDS[0],
            FromBackendWithoutToken,
            AwaitsName,
        ),
    ] {
        for (uri, outcome) in [(FOR_US, for_us), (FOR_BOB, for_bob)] {
            let sent = edge(ping_replies)
                .send(source, options(uri))
                .expect(outcome);
            let is_ok = sent.start_line() == "SIP/2.0 200 OK";
            assert_eq!(
                is_ok,
                outcome == OptionsAnswered,
                "{ping_replies} {source} {uri}"
            );
        }
    }
}

#[test]
fn whatever_the_request_uri() {
    for uri in [
        "tel:+441234567",
        "sip:example.com",
        "sips:x@[2001:db8::1]",
        "urn:service:sos",
    ] {
        edge(", ping_replies: all")
            .send(CLIENT, options(uri))
            .expect(Outcome::OptionsAnswered);
    }
}

#[test]
fn max_forwards_0_is_answered_always() {
    for ping_replies in ["off", "for-us", "all"] {
        let text = options(FOR_BOB).replace("Forwards: 70", "Forwards: 0");
        edge(&format!(", ping_replies: {ping_replies}"))
            .send(CLIENT, text)
            .expect(Outcome::OptionsAnswered);
    }
}

#[test]
fn what_is_for_somebody_else_is_not_answered() {
    let mut all = edge(", ping_replies: all");
    let token = all
        .send(CLIENT, INVITE)
        .expect(Outcome::RequestToPool)
        .header("Record-Route");
    let routed =
        |route: &str| options(FOR_BOB).replace("CSeq:", &format!("Route: {route}\r\nCSeq:"));
    let in_dialog = |text: String| {
        text.replace(
            "<sip:bob@example.com>\r\n",
            "<sip:bob@example.com>;tag=9\r\n",
        )
    };

    all.send(CLIENT, routed("<sip:192.0.2.1;lr>"))
        .expect(Outcome::RequestToPool);
    all.send(CLIENT, routed(&token))
        .expect(Outcome::RequestToBackend);
    all.send(CLIENT, in_dialog(routed(&token)))
        .expect(Outcome::RequestToBackend);
    all.send(CLIENT, in_dialog(options(FOR_BOB)))
        .expect(Outcome::RequestToPool);
    all.send(BACKENDS[0], routed(&token))
        .expect(Outcome::RequestToClient);
    // A configured outbound proxy leads nowhere by itself.
    all.send(CLIENT, routed("<sip:203.0.113.10;lr>"))
        .expect(Outcome::OptionsAnswered);
    for method in ["INVITE", "REGISTER", "MESSAGE", "options"] {
        all.send(CLIENT, request(method))
            .expect(Outcome::RequestToPool);
    }
}
