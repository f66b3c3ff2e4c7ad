//! What backends are told of a client's address, and by what.

use super::edge::*;
use crate::{
    forward::{Outcome, client_address::MAX_FORGED},
    token::{FLOW_TOKEN_MAX, FlowToken, Keys},
    validate::MARK,
};

const FIELDS: &str = "{ ip: X-Orig-IP, port: X-Orig-Port, transport: X-Orig-Proto }";
const NAMES: [&str; 3] = ["X-Orig-IP", "X-Orig-Port", "X-Orig-Proto"];
/// Shorter by one byte, so that the blanks fall otherwise.
const OTHER_FIELDS: &str = "{ ip: x-ip, port: x-port_, transport: x-proto }";
const OTHER_NAMES: [&str; 3] = ["X-IP", "X-Port_", "X-Proto"];
/// The header for [`CLIENT`] at [`VIP`].
const HEADER: &[u8] =
    b"\r\n\r\n\0\r\nQUIT\n\x21\x12\0\x0c\xc6\x33\x64\x07\xcb\0\x71\x0a\x9c\x40\x13\xc4";
/// The header for [`CLIENT6`] at [`VIP6`].
const HEADER6: &[u8] = b"\r\n\r\n\0\r\nQUIT\n\x21\x22\0\x24\
    \x20\x01\x0d\xb8\0\x01\0\0\0\0\0\0\0\0\0\x07\x20\x01\x0d\xb8\0\0\0\0\0\0\0\0\0\0\0\x10\x9c\x40\x13\xc4";

/// An edge whose pools for IPv4 and IPv6 are told so; calls from 198.51.100.8 go to a pool that is not.
fn edge(told: &str) -> Edge {
    edge_with(told, "")
}

fn edge_with(told: &str, listener: &str) -> Edge {
    Edge::with_config(&format!(
        "
node: {{ name: a }}
listeners: [ {{ name: four, address: 203.0.113.10{listener} }}, {{ name: six, address: '2001:db8::10'{listener} }} ]
pools:
  - {{ name: x, client_address: {told}, backends: [ {{ name: x1, address: '10.0.0.11:5060' }} ] }}
  - {{ name: y, client_address: {told}, backends: [ {{ name: y1, address: '[2001:db8:2::11]:5060' }} ] }}
  - {{ name: z, backends: [ {{ name: z1, address: '10.0.0.13:5080' }} ] }}
routes: [ {{ listener: six, pool: y }}, {{ source: [198.51.100.8/32], pool: z }}, {{ pool: x }} ]
"
    ))
}

/// A request in the dialog that `invite` has opened, by its Record-Route.
fn in_dialog(method: &str, invite: &Sent) -> String {
    request(method)
        .replace(
            "<sip:bob@example.com>\r\n",
            "<sip:bob@example.com>;tag=9\r\n",
        )
        .replace(
            "CSeq:",
            &format!("Route: {}\r\nCSeq:", invite.header("Record-Route")),
        )
}

/// A Route header field that leads from `client` to `backend`.
fn route(client: &str, backend: &str) -> String {
    let flow = FlowToken::new(address(client), address(backend));
    let mut text = [0; FLOW_TOKEN_MAX];
    let len = Keys::new(SECRET.as_bytes(), None).write_flow_token(&flow, &mut text);
    let token = str::from_utf8(&text[..len]).unwrap();
    format!("Route: <sip:{token}@203.0.113.10;lr>\r\n")
}

fn values(sent: &Sent, names: [&str; 3]) -> [Vec<String>; 3] {
    names.map(|name| sent.headers(name))
}

/// Without what was put in, whatever blanks keep the parity.
fn without(text: &str, names: [&str; 3]) -> String {
    let is_told = |line: &&str| {
        let name = line.split(':').next().unwrap_or_default();
        names.iter().any(|told| told.eq_ignore_ascii_case(name))
    };
    let lines = text.split_inclusive('\n').filter(|line| !is_told(line));
    lines
        .collect::<String>()
        .replace(";lb\r\n", "\r\n")
        .replace("Forwards:  ", "Forwards: ")
}

#[test]
fn header_fields_of_requests_from_outside() {
    for (told, names) in [(FIELDS, NAMES), (OTHER_FIELDS, OTHER_NAMES)] {
        for (source, ip, port) in [
            (CLIENT, "198.51.100.7", "40000"),
            ("198.51.100.77:999", "198.51.100.77", "999"),
            (CLIENT6, "2001:db8:1::7", "40000"),
            ("[::ffff:198.51.100.7]:65535", "198.51.100.7", "65535"),
        ] {
            let source = source.replace("[::ffff:198.51.100.7]", "198.51.100.7");
            let want = [ip, port, "udp"].map(|value| vec![value.to_owned()]);
            let (mut edge, mut plain) = (edge(told), edge("off"));
            for text in [INVITE.to_owned(), format!("\n{INVITE}"), request("OPTIONS")] {
                let sent = edge.send(&source, &text).expect(Outcome::RequestToPool);
                assert_eq!(values(&sent, names), want, "{}", sent.text());
                assert_eq!(sent.bytes.len() % 2, text.len() % 2);
                let same = plain.send(&source, &text);
                assert_eq!(without(&sent.text(), names), without(&same.text(), names));
                assert_eq!(sent.to, same.to);
                // Behind our own Via, in front of what was there.
                let at = |what: &str| sent.text().to_lowercase().find(what).unwrap();
                let told_at = at(&format!("\n{}:", names[0].to_lowercase()));
                assert!(at("lbm=") < told_at && told_at < at("192.168.1.5:5060"));
            }
            let invite = edge.send(&source, INVITE);
            let bye = edge.send(&source, in_dialog("BYE", &invite));
            let bye = bye.expect(Outcome::RequestToBackend);
            assert_eq!(values(&bye, names), want, "{}", bye.text());
        }
    }
}

#[test]
fn each_name_can_be_left_out() {
    let sent = edge("{ port: X-Port }").send(CLIENT, INVITE);
    assert_eq!(sent.headers("X-Port"), ["40000"]);
    let plain = edge("off").send(CLIENT, INVITE);
    let more = "X-Port:  40000\r\n".len();
    assert_eq!(sent.bytes.len(), plain.bytes.len() + more);
}

#[test]
fn header_fields_are_for_requests_to_the_backends_of_the_pool_alone() {
    let mut edge = edge(FIELDS);
    let none = NAMES.map(|_| Vec::<String>::new());
    // Another pool.
    let other = edge.send(OTHER_CLIENT, INVITE).expect_to(BACKENDS[2]);
    assert_eq!(values(&other, NAMES), none);
    // From a backend to a client, which keeps what the backend wrote, and the response to that.
    let invite = edge.send(CLIENT, INVITE).expect_to(BACKENDS[0]);
    let bye = in_dialog("BYE", &invite).replace("CSeq:", "X-Orig-IP: mine\r\nCSeq:");
    let bye = edge.send(BACKENDS[0], bye).expect(Outcome::RequestToClient);
    assert_eq!(
        values(&bye, NAMES),
        [vec!["mine".to_owned()], vec![], vec![]]
    );
    let ok = edge
        .send(CLIENT, response(&bye, "200 OK", "9"))
        .expect(Outcome::Response);
    assert_eq!(values(&ok.expect_to(BACKENDS[0]), NAMES), none);
    // The response of a backend.
    let ok = edge
        .send(BACKENDS[0], response(&invite, "200 OK", "9"))
        .expect(Outcome::Response);
    assert_eq!(values(&ok, NAMES), none);
    // Between backends: one of them is the client of the other's dialog.
    let more = "X-Orig-IP: mine\r\n".to_owned() + &route(CLIENT_AT_BACKEND, BACKENDS[0]);
    let text = request("MESSAGE").replace("CSeq:", &(more + "CSeq:"));
    let sent = edge
        .send(CLIENT_AT_BACKEND, text)
        .expect(Outcome::RequestToBackend);
    assert_eq!(values(&sent, NAMES)[0], ["mine"]);
}

/// A client at the address of a backend.
const CLIENT_AT_BACKEND: &str = "10.0.0.13:7000";

#[test]
fn what_a_sender_says_of_his_address_is_taken_out() {
    let want = ["198.51.100.7", "40000", "udp"].map(|value| vec![value.to_owned()]);
    let plain = edge(FIELDS).send(CLIENT, INVITE);
    for forged in [
        "X-Orig-IP: 192.0.2.66\r\n",
        "x-orig-ip : 192.0.2.66\n",
        "X-ORIG-PORT:\r\n 1\r\n\t2\r\n",
        "X-Orig-Proto:tls\r\n",
        "X-Orig-IP: a\r\nX-Orig-IP: b\r\nX-Orig-Port: 1\r\nX-Orig-Proto: tcp\r\n",
    ] {
        for place in ["Via: SIP", "Contact:", "\r\nv=0"] {
            for lead in ["", "\n"] {
                let text =
                    lead.to_owned() + &INVITE.replacen(place, &format!("{forged}{place}"), 1);
                let sent = edge(FIELDS)
                    .send(CLIENT, &text)
                    .expect(Outcome::RequestToPool);
                assert_eq!(values(&sent, NAMES), want, "{}", sent.text());
                assert_eq!(sent.bytes.len() % 2, text.len() % 2);
                assert_eq!(without(&sent.text(), NAMES), without(&plain.text(), NAMES));
            }
        }
    }
    // Names that only look like ours, and our names at a pool that is told nothing.
    let text = INVITE.replacen("Contact:", "X-Orig-IP2: a\r\nX-Orig: b\r\nContact:", 1);
    let sent = edge(FIELDS).send(CLIENT, text);
    assert_eq!(
        (sent.headers("X-Orig-IP2"), sent.headers("X-Orig")),
        (vec!["a".into()], vec!["b".into()])
    );
    let text = INVITE.replacen("Contact:", "X-Orig-IP: a\r\nContact:", 1);
    assert_eq!(edge("off").send(CLIENT, text).headers("X-Orig-IP"), ["a"]);
}

#[test]
fn more_than_can_be_taken_out_is_refused() {
    let forged = |count: usize| "X-Orig-IP: 1\r\n".repeat(count) + "CSeq:";
    let with = |count: usize| INVITE.replace("CSeq:", &forged(count));
    let mut edge = edge(FIELDS);
    edge.send(CLIENT, with(MAX_FORGED))
        .expect(Outcome::RequestToPool);
    for source in [CLIENT, CLIENT6] {
        let refused = edge
            .send(source, with(MAX_FORGED + 1))
            .expect(Outcome::ForgedClientAddress);
        assert_eq!(
            refused.start_line(),
            "SIP/2.0 400 Forged client address header field"
        );
    }
    let invite = edge.send(CLIENT, INVITE);
    let bye = in_dialog("BYE", &invite).replace("CSeq:", &forged(MAX_FORGED + 1));
    edge.send(CLIENT, &bye).expect(Outcome::ForgedClientAddress);
    edge.send(BACKENDS[0], bye).expect(Outcome::RequestToClient);
    edge.send(OTHER_CLIENT, with(MAX_FORGED + 1))
        .expect(Outcome::RequestToPool);
    let mut edge = self::edge(FIELDS);
    edge.send(CLIENT, with(MAX_FORGED + 1).replace("INVITE", "ACK"))
        .expect(Outcome::AckNotRouted);
}

/// All that is ever put in and taken out at once.
#[test]
fn everything_at_once_fits() {
    let name = |letter: &str| format!("X-{}", letter.repeat(61));
    let told = format!(
        "{{ ip: {}, port: {}, transport: {} }}",
        name("i"),
        name("p"),
        name("t")
    );
    let listener = ", validate: header, nat: { detect: [received, contact-private, sdp-private], fix: [rport, contact, sdp] }";
    let contacts =
        "m: <sip:a@10.0.0.1;maddr=10.0.0.2>,<sip:a@10.0.0.1;maddr=10.0.0.2>\r\n".repeat(4);
    let body = "v=0\no=- 1 1 IN IP4 10.0.0.1\ns=-\nc=IN IP4 10.0.0.1\nt=0 0\n".to_owned()
        + &"m=audio 1 RTP/AVP 0\nc=IN IP4 10.0.0.1\n".repeat(14);
    let more = "Route: <sip:203.0.113.10;lr>\r\n".repeat(4)
        + &format!("{MARK}: x\r\n").repeat(4)
        + &format!("{}: x\r\n", name("p")).repeat(4)
        + &contacts;
    let text = "\r\n".to_owned()
        + &INVITE
            .replace("Contact: <sip:alice@192.168.1.5>\r\n", &more)
            .replace(
                "Content-Length: 4",
                &format!("Content-Length: {}", body.len()),
            )
            .replace("\r\n\r\nv=0\n", &format!("\r\n\r\n{body}"));
    for source in [CLIENT, CLIENT6] {
        let sent = edge_with(&told, listener)
            .send(source, &text)
            .expect(Outcome::RequestToPool);
        assert_eq!(sent.headers(&name("p")), ["40000"]);
        assert_eq!(sent.headers("Route").len(), 0);
        assert_eq!(sent.bytes.len() % 2, text.len() % 2);
    }
}

#[test]
fn the_proxy_protocol_is_in_front_of_every_datagram_to_a_backend() {
    for (source, backend, header) in [(CLIENT, BACKENDS[0], HEADER), (CLIENT6, BACKEND6, HEADER6)] {
        let (mut edge, mut plain) = (edge("proxy-protocol"), edge("off"));
        let mut check = |source: &str, text: &str, outcome| {
            let sent = edge.send(source, text).expect(outcome);
            let same = plain.send(source, text).expect(outcome);
            let (front, rest) = sent.bytes.split_at(header.len());
            assert_eq!(front, header);
            assert_eq!((rest, sent.to), (&same.bytes[..], address(backend)));
            same
        };
        let invite = check(source, INVITE, Outcome::RequestToPool);
        check(source, &format!("\r\n\n{INVITE}"), Outcome::RequestToPool);
        check(
            source,
            &in_dialog("ACK", &invite),
            Outcome::RequestToBackend,
        );
        check(
            source,
            &in_dialog("BYE", &invite),
            Outcome::RequestToBackend,
        );
        // To the client nothing is put in front.
        let mut edge = self::edge("proxy-protocol");
        let ok = edge
            .send(backend, response(&invite, "200 OK", "9"))
            .expect(Outcome::Response);
        assert!(ok.bytes.starts_with(b"SIP/2.0 200"));
        let bye = edge
            .send(backend, in_dialog("BYE", &invite))
            .expect(Outcome::RequestToClient);
        assert!(bye.bytes.starts_with(b"BYE "));
        check(source, &response(&bye, "200 OK", "9"), Outcome::Response);
        check(
            source,
            &("\r\n".to_owned() + &response(&bye, "200 OK", "9")),
            Outcome::Response,
        );
    }
}

#[test]
fn other_backends_and_other_ports_get_no_proxy_protocol() {
    let mut edge = edge("proxy-protocol");
    let sent = edge.send(OTHER_CLIENT, INVITE).expect_to(BACKENDS[2]);
    assert!(sent.bytes.starts_with(b"INVITE "));
    // The same host at another port is somebody else, of whom the configuration says nothing.
    let route = route(CLIENT, "10.0.0.11:5070");
    let text = request("MESSAGE").replace("CSeq:", &(route + "CSeq:"));
    let sent = edge.send(CLIENT, text).expect_to("10.0.0.11:5070");
    assert!(sent.bytes.starts_with(b"MESSAGE "));
}

/// The receiver expects it on each datagram.
#[test]
fn between_backends_the_proxy_protocol_names_the_backend() {
    let mut edge = edge("proxy-protocol");
    let route = route(CLIENT_AT_BACKEND, BACKENDS[0]);
    let text = request("MESSAGE").replace("CSeq:", &(route + "CSeq:"));
    let sent = edge.send(CLIENT_AT_BACKEND, text).expect_to(BACKENDS[0]);
    assert_eq!(sent.bytes[..16], HEADER[..16]);
    assert_eq!(sent.bytes[16..20], [10, 0, 0, 13]);
}

#[test]
fn version_1_is_a_line_of_whatever_length() {
    for (source, line) in [
        (
            CLIENT,
            "PROXY TCP4 198.51.100.7 203.0.113.10 40000 5060\r\n",
        ),
        (
            "198.51.100.77:40000",
            "PROXY TCP4 198.51.100.77 203.0.113.10 40000 5060\r\n",
        ),
        (
            CLIENT6,
            "PROXY TCP6 2001:db8:1::7 2001:db8::10 40000 5060\r\n",
        ),
        (
            "[2001:db8:1::7]:4000",
            "PROXY TCP6 2001:db8:1::7 2001:db8::10 4000 5060\r\n",
        ),
    ] {
        let mut edge = edge("proxy-protocol-v1");
        let sent = edge.send(source, INVITE).expect(Outcome::RequestToPool);
        let (first, rest) = sent.bytes.split_at(line.len());
        assert_eq!(String::from_utf8_lossy(first), line);
        let plain = self::edge("off").send(source, INVITE).text();
        assert_eq!(
            without(&String::from_utf8_lossy(rest), NAMES),
            without(&plain, NAMES)
        );
        // What is odd about the line is made up for in the message.
        assert_eq!(sent.bytes.len() % 2, INVITE.len() % 2);
    }
}

/// Nobody outside can write in front of a message what a backend would read as ours.
#[test]
fn a_header_from_outside_is_no_sip() {
    for header in [
        HEADER,
        b"PROXY TCP4 192.0.2.1 192.0.2.2 1 2\r\n",
        b"PROXY UNKNOWN\r\n",
    ] {
        for told in ["off", "proxy-protocol", "proxy-protocol-v1"] {
            for lead in [&b""[..], b"\r\n"] {
                let sent = edge(told).send(CLIENT, [lead, header, INVITE.as_bytes()].concat());
                assert_eq!(sent.bytes, b"", "{:?}", sent.verdict);
            }
        }
    }
}
