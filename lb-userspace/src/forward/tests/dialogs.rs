//! Requests inside a dialog follow the flow token, on any node, from either side.

use super::edge::*;
use crate::{forward::Outcome, token::Keys};

/// A set-up call: its backend, and the Record-Route that both ends keep as their route set (RFC 3261 §12.1).
struct Call {
    backend: String,
    route: String,
}

fn call(from: &str) -> Call {
    let invite = Edge::new()
        .send(from, INVITE)
        .expect(Outcome::RequestToPool);
    Call {
        backend: invite.to.to_string(),
        route: invite.header("Record-Route"),
    }
}

/// A request in the dialog with these Route header fields, a line each.
fn in_dialog(method: &str, routes: &[&str]) -> String {
    let routes: String = routes
        .iter()
        .map(|route| format!("Route: {route}\r\n"))
        .collect();
    request(method)
        .replace("Bob <sip:bob@example.com>", "<sip:bob@example.com>;tag=b")
        .replace("Contact:", &format!("{routes}Contact:"))
}

/// A node whose pool has other backends by now.
fn changed_edge() -> Edge {
    let keys = Keys::new(SECRET.as_bytes(), None);
    let pools = vec![pool("other", 0, &["10.0.0.99:5060"], &keys)];
    Edge::with_pools(keys, pools, vec![rule("", None, 0)])
}

#[test]
fn both_sides_follow_the_token_on_any_node() {
    let call = call(CLIENT);
    for mut edge in [Edge::new(), changed_edge()] {
        for method in ["INVITE", "BYE", "ACK", "PRACK", "UPDATE", "INFO"] {
            let text = in_dialog(method, &[&call.route]);
            let sent = edge
                .send(CLIENT, &text)
                .expect(Outcome::RequestToBackend)
                .expect_to(&call.backend);
            assert!(sent.headers("Route").is_empty());
            assert!(sent.headers("Record-Route").is_empty());
            let sent = edge
                .send(&call.backend, &text)
                .expect(Outcome::RequestToClient)
                .expect_to(CLIENT);
            assert!(sent.headers("Route").is_empty());
            // From elsewhere: a moved client to the backend, another backend to the client.
            edge.send(OTHER_CLIENT, &text)
                .expect(Outcome::RequestToBackend)
                .expect_to(&call.backend);
        }
    }
    let text = in_dialog("BYE", &[&call.route]);
    Edge::new()
        .send("10.0.0.12:7777", &text)
        .expect(Outcome::RequestToClient)
        .expect_to(CLIENT);
    // With the pool changed that address is nobody's, and the backend of the token still is a backend.
    changed_edge()
        .send("10.0.0.99:7777", &text)
        .expect(Outcome::RequestToClient)
        .expect_to(CLIENT);
}

#[test]
fn a_client_at_the_address_of_a_backend_is_told_from_it_by_the_port() {
    let keys = Keys::new(SECRET.as_bytes(), None);
    let flow = crate::token::FlowToken::new(address("10.0.0.12:5070"), address(BACKENDS[0]));
    let mut text = [0; crate::token::FLOW_TOKEN_MAX];
    let len = keys.write_flow_token(&flow, &mut text);
    let route = format!(
        "<sip:{}@203.0.113.10;lr>",
        std::str::from_utf8(&text[..len]).unwrap()
    );
    let bye = in_dialog("BYE", &[&route]);
    Edge::new()
        .send("10.0.0.12:5070", &bye)
        .expect(Outcome::RequestToBackend)
        .expect_to(BACKENDS[0]);
    Edge::new()
        .send(BACKENDS[0], &bye)
        .expect(Outcome::RequestToClient)
        .expect_to("10.0.0.12:5070");
}

#[test]
fn the_backend_that_a_token_names_is_counted() {
    let call = call(CLIENT);
    let sent = Edge::new().send(CLIENT, in_dialog("BYE", &[&call.route]));
    let crate::forward::Action::Forward { backend, .. } = sent.verdict.action else {
        unreachable!()
    };
    assert_eq!(BACKENDS[usize::from(backend.unwrap().0)], call.backend);
}

#[test]
fn responses_inside_a_dialog_come_back_too() {
    let call = call(CLIENT);
    let mut edge = Edge::new();
    let bye = in_dialog("BYE", &[&call.route])
        .replace("192.168.1.5:5060", &call.backend)
        .replace(";rport", "");
    let sent = edge
        .send(&call.backend, bye)
        .expect(Outcome::RequestToClient);
    let answer = response(&sent, "200 OK", "x");
    edge.send(CLIENT, answer)
        .expect(Outcome::Response)
        .expect_to(&call.backend);
}

#[test]
fn ipv6_dialogs() {
    let call = call(CLIENT6);
    let text = in_dialog("BYE", &[&call.route]);
    Edge::new()
        .send(CLIENT6, &text)
        .expect(Outcome::RequestToBackend)
        .expect_to(BACKEND6);
    Edge::new()
        .send(BACKEND6, &text)
        .expect(Outcome::RequestToClient)
        .expect_to(CLIENT6);
}

/// Ways to write Route, and what is left of it.
#[test]
fn only_our_value_is_taken_off() {
    let call = call(CLIENT);
    let own = &call.route;
    let (scheme, rest) = own.split_at(5);
    let shouted = format!(
        "\"a, <b>\" {}{rest} ;x=\"y,z\"",
        scheme.to_ascii_uppercase()
    );
    for (routes, left) in [
        (vec![own.clone()], vec![]),
        (vec![own.clone(), "<sip:a;lr>".into()], vec!["<sip:a;lr>"]),
        (vec![format!("{own},<sip:a;lr>")], vec!["<sip:a;lr>"]),
        (
            vec![format!("{own} , \r\n <sip:a;lr>, <sip:b;lr>")],
            vec!["<sip:a;lr>, <sip:b;lr>"],
        ),
        (vec![format!("{own},")], vec![]),
        (vec![shouted, "<sip:a;lr>".into()], vec!["<sip:a;lr>"]),
        (vec!["<sip:203.0.113.10;lr>".into(), own.clone()], vec![]),
        (
            vec![format!("<sip:203.0.113.10;lr>, {own}, <sip:a;lr>")],
            vec!["<sip:a;lr>"],
        ),
    ] {
        let routes: Vec<&str> = routes.iter().map(String::as_str).collect();
        let text = in_dialog("BYE", &routes);
        let sent = Edge::new()
            .send(CLIENT, &text)
            .expect(Outcome::RequestToBackend)
            .expect_to(&call.backend);
        assert_eq!(sent.headers("Route"), left, "{routes:?}");
        assert_eq!(sent.bytes.len() % 2, text.len() % 2);
        assert!(
            sent.text()
                .contains("\r\nContact: <sip:alice@192.168.1.5>\r\n")
        );
    }
}

#[test]
fn a_route_of_ours_without_token_leads_nowhere() {
    for (route, left) in [
        ("<sip:203.0.113.10;lr>", vec![]),
        ("<sip:203.0.113.10:5060;lr>, <sip:a;lr>", vec!["<sip:a;lr>"]),
        ("sip:203.0.113.10", vec![]),
        ("<sip:203.0.113.11;lr>", vec!["<sip:203.0.113.11;lr>"]),
        (
            "<sip:203.0.113.10:5070;lr>",
            vec!["<sip:203.0.113.10:5070;lr>"],
        ),
        ("<sip:a@example.com;lr>", vec!["<sip:a@example.com;lr>"]),
    ] {
        let text = INVITE.replace("Contact:", &format!("Route: {route}\r\nContact:"));
        let sent = Edge::new()
            .send(CLIENT, text)
            .expect(Outcome::RequestToPool);
        assert_eq!(sent.headers("Route"), left, "{route}");
    }
}

/// A call that crossed us twice: in from one client, out to another, and no other Record-Route in between.
#[test]
fn a_call_that_crossed_us_twice_goes_through_at_once() {
    let first = call(CLIENT);
    let second = call(OTHER_CLIENT);
    // What the second client sees on top is the second crossing; the first client sees it the other way round.
    for (source, routes, to) in [
        (CLIENT, [&first.route, &second.route], "198.51.100.8:40000"),
        (OTHER_CLIENT, [&second.route, &first.route], CLIENT),
    ] {
        let to = if to.starts_with("198.51.100.8") {
            OTHER_CLIENT
        } else {
            to
        };
        let [a, b] = routes;
        for text in [
            in_dialog("BYE", &[a, b]),
            in_dialog("BYE", &[&format!("{a}, {b}")]),
        ] {
            let sent = Edge::new()
                .send(source, text)
                .expect(Outcome::RequestToClient)
                .expect_to(to);
            assert!(sent.headers("Route").is_empty());
        }
        // A server that sees both sends to the first one's client, who takes it from there.
        let text = in_dialog("BYE", &[a, b, "<sip:x;lr>"]);
        let sent = Edge::new()
            .send(BACKENDS[0], text)
            .expect(Outcome::RequestToClient);
        assert_eq!(sent.headers("Route"), [b.as_str(), "<sip:x;lr>"]);
        // Outside a dialog the backend decides.
        let initial = in_dialog("INVITE", &[a, b]).replace(";tag=b", "");
        let sent = Edge::new()
            .send(source, initial)
            .expect(Outcome::RequestToBackend);
        assert_eq!(sent.headers("Route"), [b.as_str()]);
        // The second token is verified like the first.
        let forged = in_dialog("BYE", &[a, "<sip:forged@203.0.113.10;lr>"]);
        Edge::new()
            .send(source, forged)
            .expect(Outcome::BadFlowToken);
    }
}

#[test]
fn a_dialog_created_along_a_token_is_pinned_to_its_ends() {
    let call = call(CLIENT);
    let refer = in_dialog("SUBSCRIBE", &[&call.route]).replace(";tag=b", "");
    let sent = Edge::new()
        .send("10.0.0.12:5060", &refer)
        .expect(Outcome::RequestToClient)
        .expect_to(CLIENT);
    let route = sent.header("Record-Route");
    let notify = in_dialog("NOTIFY", &[&route]);
    Edge::new()
        .send(CLIENT, notify)
        .expect(Outcome::RequestToBackend)
        .expect_to("10.0.0.12:5060");
    let sent = Edge::new()
        .send(OTHER_CLIENT, &refer)
        .expect(Outcome::RequestToBackend)
        .expect_to(&call.backend);
    let notify = in_dialog("NOTIFY", &[&sent.header("Record-Route")]);
    Edge::new()
        .send(&call.backend, notify)
        .expect(Outcome::RequestToClient)
        .expect_to("198.51.100.8:5060");
}

#[test]
fn forged_tokens_are_refused() {
    let call = call(CLIENT);
    let token = call
        .route
        .split(['<', '@'])
        .nth(1)
        .unwrap()
        .strip_prefix("sip:")
        .unwrap();
    let mut forged: Vec<String> = (0..token.len())
        .map(|at| {
            let other = if token.as_bytes()[at] == b'A' {
                "B"
            } else {
                "A"
            };
            call.route.replace(
                token,
                &format!("{}{other}{}", &token[..at], &token[at + 1..]),
            )
        })
        .collect();
    forged.push(call.route.replace(token, "bob"));
    forged.push(call.route.replace(token, &token[..24]));
    forged.push(call.route.replace(token, &format!("{token}AAAA")));
    forged.push(call.route.replace(token, &format!("{token}:pw")));
    for route in &forged {
        Edge::new()
            .send(CLIENT, in_dialog("BYE", &[route]))
            .expect(Outcome::BadFlowToken);
        Edge::new()
            .send(&call.backend, in_dialog("BYE", &[route]))
            .expect(Outcome::BadFlowToken);
        Edge::new()
            .send(CLIENT, in_dialog("ACK", &[route]))
            .expect(Outcome::AckNotRouted);
    }
    let stranger = Keys::new(b"another secret", None);
    Edge::with_keys(stranger)
        .send(CLIENT, in_dialog("BYE", &[&call.route]))
        .expect(Outcome::BadFlowToken);
    let rotated = Keys::new(b"another secret", Some(SECRET.as_bytes()));
    let sent = Edge::with_keys(rotated).send(CLIENT, in_dialog("BYE", &[&call.route]));
    sent.expect(Outcome::RequestToBackend)
        .expect_to(&call.backend);
}

/// A client without `rport` is reached where it says it listens, at the address that it sends from.
#[test]
fn the_token_leads_where_responses_go() {
    let invite = INVITE.replace(";rport", "");
    let sent = Edge::new().send(CLIENT, invite);
    let bye = in_dialog("BYE", &[&sent.header("Record-Route")]);
    let sent = Edge::new()
        .send(&sent.to.to_string(), bye)
        .expect(Outcome::RequestToClient);
    sent.expect_to("198.51.100.7:5060");
}
