//! What holds for every datagram, however broken. [`Edge::send`] asserts the bound on replies and that checksums follow
//! from the edits, for each one sent here.

use proptest::{collection::vec, prelude::*, sample::select};

use super::edge::*;
use crate::forward::Outcome;

/// Messages to cut and to mutate: with everything that is looked at in it.
fn seeds() -> Vec<String> {
    let mut edge = Edge::new();
    let invite = edge.send(CLIENT, INVITE);
    let route = invite.header("Record-Route");
    let bye = request("BYE")
        .replace(
            "Bob <sip:bob@example.com>",
            "\"B, \\\"b\" <sip:bob@example.com;x=y>;tag=b",
        )
        .replace(
            "Contact:",
            &format!("Route: {route} , <sip:a;lr>;x\r\n , \"c\" <sip:b>\r\nContact:"),
        );
    let folded = INVITE
        .replace("Via: ", "v  :\r\n ")
        .replace(";rport", "\r\n ; rport = ")
        .replace('\r', "");
    vec![
        INVITE.to_owned(),
        bye,
        folded,
        request("OPTIONS").replace("sip:bob@example.com SIP", "sip:203.0.113.10 SIP"),
        INVITE.replace("Max-Forwards: 70", "Max-Forwards: 0"),
        response(&invite, "200 OK", "x"),
        response(&invite, "200 OK", "x").replacen("\r\nVia: ", ", ", 1),
        "\0\x01\0\x08!\x12\u{24}B0123456789abcdefghi".to_owned(),
    ]
}

#[test]
fn every_length_of_every_message_is_survived() {
    let mut edge = Edge::new();
    for seed in seeds() {
        for length in 0..=seed.len() {
            let sent = edge.send(CLIENT, &seed.as_bytes()[..length]);
            // A request that says how long its body is goes on whole or not at all.
            if seed.starts_with("INVITE") && length < seed.len() {
                assert!(
                    !matches!(sent.verdict.action, crate::forward::Action::Forward { .. }),
                    "{length}: {seed}"
                );
            }
        }
    }
}

/// As long as a datagram can be, in the field that costs most to read and to answer.
#[test]
fn the_longest_datagrams_are_survived() {
    let mut edge = Edge::new();
    for (from, piece) in [
        (
            "Via:",
            "Via: SIP/2.0/UDP 192.168.1.5;branch=z9hG4bKa\r\n".repeat(200),
        ),
        ("Contact:", "a: b\r\n".repeat(20_000)),
        ("v=0", "\0".repeat(70_000)),
        (";rport", ";x=\"\\\"\"".repeat(9_000)),
        (";rport", ", SIP/2.0/UDP a".repeat(6_000)),
        ("Alice", "\"\"".repeat(40_000)),
        ("a84b", "a".repeat(70_000)),
        (
            "Contact:",
            format!("Route: {}", "<sip:203.0.113.10;lr>,".repeat(5_000)),
        ),
        ("Contact:", format!("Route: {}", "\r\n ".repeat(30_000))),
        ("sip:bob", "s".repeat(70_000)),
        ("70", "0".repeat(70_000)),
    ] {
        for hops in ["70", "0"] {
            let text = INVITE.replace("Max-Forwards: 70", &format!("Max-Forwards: {hops}"));
            let text = text.replacen(from, &format!("{piece}{from}"), 1);
            let length = text.len().min(65_507);
            edge.send(CLIENT, &text.as_bytes()[..length]);
            // Cut where the body begins, so that the head is whole.
            let head = text.find("\r\n\r\n").unwrap().min(65_503) + 4;
            edge.send(CLIENT, &text.as_bytes()[..head]);
        }
    }
    // A whole message of the largest size is answered and forwarded as any other.
    for (hops, outcome) in [
        ("70", Outcome::RequestToPool),
        ("0", Outcome::MaxForwardsExceeded),
    ] {
        let text = INVITE.replace("Max-Forwards: 70", &format!("Max-Forwards: {hops}"));
        let room = 65_507 - text.len();
        let via = format!(";x={}", "y".repeat(room - 3));
        edge.send(CLIENT, text.replace(";rport", &format!("{via};rport")))
            .expect(outcome);
    }
}

/// Pieces that matter to a parser, to be put anywhere.
const PIECES: [&str; 24] = [
    "\r\n",
    "\n",
    "\r",
    "\r\n\r\n",
    "\r\n ",
    " ",
    "\t",
    ",",
    ";",
    ":",
    "\"",
    "<",
    ">",
    "=",
    "@",
    "[",
    "]",
    "\\",
    "\0",
    "Via: ",
    "\r\nRoute: <sip:203.0.113.10;lr>",
    ";rport",
    ";received=1",
    "99999999999",
];

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2_000))]

    #[test]
    fn mutated_messages_are_survived(
        seed in select(seeds()),
        changes in vec((any::<prop::sample::Index>(), 0usize..4, 0usize..4, select(&PIECES[..]), any::<u8>()), 1..6),
        source in select(&[CLIENT, CLIENT6, BACKENDS[0], "203.0.113.10:5060"][..]),
    ) {
        let mut bytes = seed.into_bytes();
        for (at, kind, removed, piece, byte) in changes {
            let at = at.index(bytes.len() + 1);
            let removed = at..(at + removed).min(bytes.len());
            match kind {
                0 => drop(bytes.splice(removed, piece.bytes())),
                1 => drop(bytes.splice(removed, [byte])),
                2 => drop(bytes.splice(removed, [])),
                _ => {
                    let end = (at + 40).min(bytes.len());
                    let copy = bytes[at..end].to_vec();
                    bytes.splice(at..at, copy);
                }
            }
        }
        let (mut one, mut other) = (Edge::new(), Edge::other_node());
        let sent = one.send(source, &bytes);
        let again = other.send(source, &bytes);
        prop_assert_eq!(sent.verdict, again.verdict);
        prop_assert_eq!(sent.bytes, again.bytes);
    }

    #[test]
    fn random_bytes_are_survived(bytes in vec(any::<u8>(), 0..200)) {
        Edge::new().send(CLIENT, bytes);
    }

    #[test]
    fn random_text_after_a_start_line_is_survived(text in "[ -~\r\n\t]{0,200}", via in "[ -~\t]{0,60}") {
        let mut edge = Edge::new();
        edge.send(CLIENT, format!("INVITE sip:a SIP/2.0\r\n{text}"));
        edge.send(CLIENT, format!("SIP/2.0 200 OK\r\nVia: {via}\r\n{text}\r\n\r\n"));
        edge.send(CLIENT, INVITE.replacen("SIP/2.0/UDP 192.168.1.5:5060", &via, 1));
        edge.send(CLIENT, INVITE.replacen("<sip:bob@example.com>", &via, 1));
        edge.send(CLIENT, INVITE.replace("Contact:", &format!("Route: {via}\r\nContact:")));
    }

    /// The server sends back what it got, and the client gets it: whatever its Via looks like.
    #[test]
    fn a_response_to_a_forwarded_request_reaches_the_client(
        host in "192\\.168\\.1\\.[1-9]|198\\.51\\.100\\.7|[a-z]{1,12}\\.example|\\[2001:db8::[0-9a-f]{1,4}\\]",
        port in proptest::option::of(1u16..),
        parameters in vec(
            "(x|ttl|maddr|alias|keep|oc)(=([a-zA-Z0-9.]{0,9}|\"[ -!#-\\[\\]-~]{0,9}\"))?",
            0..4
        ),
        rport in select(&["", ";rport", ";rport=", ";RPORT=1", " ; rport = 99"][..]),
        received in select(&["", ";received=1.2.3.4", ";received", ";Received=host"][..]),
        swap: bool,
        more in select(&["", ", SIP/2.0/UDP 9.9.9.9;rport=1;received=9.9.9.9", "\r\nv: SIP/2.0/UDP 9.9.9.9", ",", ";"][..]),
        source_port in 1u16..,
    ) {
        let port_text = port.map(|port| format!(":{port}")).unwrap_or_default();
        let parameters: String = parameters.iter().map(|parameter| format!(";{parameter}")).collect();
        let both = if swap { [received, rport] } else { [rport, received] }.concat();
        let via = format!("SIP/2.0/UDP {host}{port_text};branch=z9hG4bKx{both}{parameters}{more}");
        let source = format!("198.51.100.7:{source_port}");
        let text = INVITE.replace("SIP/2.0/UDP 192.168.1.5:5060;branch=z9hG4bK776asdhds;rport", &via);
        let mut edge = Edge::new();
        let sent = edge.send(&source, &text).expect(Outcome::RequestToPool);
        prop_assert_eq!(sent.bytes.len() % 2, text.len() % 2);
        let answer = response(&sent, "183 Session Progress", "x");
        let back = edge.send(BACKENDS[0], &answer).expect(Outcome::Response);
        let want_port = if rport.is_empty() { port.unwrap_or(5060) } else { source_port };
        prop_assert_eq!(back.to, address(&format!("198.51.100.7:{want_port}")));
        prop_assert_eq!(back.bytes.len() % 2, answer.len() % 2);
    }
}
