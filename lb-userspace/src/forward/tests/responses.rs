//! Responses: back to where the request came from, and nowhere else.

use super::edge::*;
use crate::{forward::Outcome, token::Keys};

const CLIENT_VIA: &str = "SIP/2.0/UDP 192.168.1.5:5060;branch=z9hG4bK776asdhds;rport";

#[test]
fn a_response_comes_back_as_the_client_sent_its_via() {
    let mut edge = Edge::new();
    let invite = edge.send(CLIENT, INVITE);
    let answer = response(&invite, "200 OK", "x");
    let sent = Edge::new().send(&invite.to.to_string(), &answer);
    let sent = sent.expect(Outcome::Response).expect_to(CLIENT);
    // Our Via is gone, all else is as the server wrote it.
    let own = format!("Via: {}\r\n", invite.header("Via"));
    assert_eq!(sent.text(), answer.replace(&own, ""));
    assert_eq!(sent.bytes.len() % 2, answer.len() % 2);
}

/// Ways to write a Via, and where a response to a client at 198.51.100.7:40000 goes.
#[test]
fn whatever_the_client_wrote_the_response_reaches_it() {
    for (via, target) in [
        ("SIP/2.0/UDP 192.168.1.5:5060;branch=z9hG4bKa;rport", CLIENT),
        ("SIP/2.0/UDP 192.168.1.5;rport;branch=z9hG4bKa", CLIENT),
        (
            "SIP/2.0/UDP 192.168.1.5:5070;branch=z9hG4bKa",
            "198.51.100.7:5070",
        ),
        (
            "SIP/2.0/UDP 198.51.100.7;branch=z9hG4bKa",
            "198.51.100.7:5060",
        ),
        ("SIP/2.0/UDP phone.example.com", "198.51.100.7:5060"),
        ("SIP/2.0/UDP phone.example.com:40000;branch=1", CLIENT),
        (
            "SIP/2.0/UDP 203.0.113.66;received=203.0.113.66;rport=53",
            CLIENT,
        ),
        (
            "SIP/2.0/UDP 203.0.113.66;received=203.0.113.66",
            "198.51.100.7:5060",
        ),
        (
            "SIP/2.0/UDP 198.51.100.7;received=203.0.113.66",
            "198.51.100.7:5060",
        ),
        (
            "SIP/2.0/UDP 198.51.100.7;maddr=203.0.113.66;ttl=1;branch=z9hG4bKa",
            "198.51.100.7:5060",
        ),
        (
            "SIP / 2.0 / UDP\r\n  192.168.1.5 : 5070 ; branch = z9hG4bKa ; rport = ",
            CLIENT,
        ),
        (
            "SIP/2.0/UDP [2001:db8::66]:5070;branch=z9hG4bKa",
            "198.51.100.7:5070",
        ),
        (
            "SIP/2.0/TCP 192.168.1.5;branch=z9hG4bKa;x=\"a;rport, b\"",
            "198.51.100.7:5060",
        ),
        (
            "SIP/2.0/UDP a;branch=z9hG4bKa;rport, SIP/2.0/UDP 203.0.113.66;branch=z9hG4bKb",
            CLIENT,
        ),
        (
            "SIP/2.0/UDP a;rport,SIP/2.0/UDP 203.0.113.66\r\nVia: SIP/2.0/UDP 203.0.113.67",
            CLIENT,
        ),
    ] {
        let mut edge = Edge::new();
        let invite = edge
            .send(CLIENT, INVITE.replace(CLIENT_VIA, via))
            .expect(Outcome::RequestToPool);
        let answer = response(&invite, "180 Ringing", "x");
        let sent = edge
            .send(BACKENDS[0], &answer)
            .expect(Outcome::Response)
            .expect_to(target);
        assert_eq!(sent.headers("Via"), invite.headers("Via")[1..], "{via}");
    }
}

#[test]
fn vias_joined_or_written_anew_by_a_server_are_understood() {
    let mut edge = Edge::new();
    let invite = edge.send(CLIENT, INVITE);
    let answer = response(&invite, "200 OK", "x");
    let own = invite.header("Via");
    let client = invite.headers("Via")[1].clone();
    let own_line = format!("Via: {own}\r\n");
    for text in [
        answer.replace(&format!("{own}\r\nVia: "), &format!("{own}, ")),
        answer.replace(&format!("{own}\r\nVia: "), &format!("{own} ,\r\n\t")),
        answer.replace("Via: ", "v:"),
        answer.replace(&own_line, &format!("VIA :\r\n {own} \r\n")),
        answer.replace(&own, &own.to_ascii_uppercase()),
        answer.replace(&own, &format!("{own};received=203.0.113.10;rport=5060")),
        answer.replace("\r\n", "\n"),
        answer
            .replace(&format!("{own_line}Via: {client}\r\n"), "")
            .replace("\r\n\r\n", &format!("\r\n{own_line}Via: {client}\r\n\r\n")),
        answer.replace(
            &client,
            &client.replace(";", " ; ").replace("UDP ", "udp  "),
        ),
    ] {
        let sent = edge
            .send(BACKENDS[0], &text)
            .expect(Outcome::Response)
            .expect_to(CLIENT);
        let vias: Vec<_> = [sent.headers("Via"), sent.headers("v")].concat();
        assert_eq!(vias.len(), 1, "{}", sent.text());
        assert!(vias[0].contains("z9hG4bK776asdhds"), "{}", sent.text());
    }
}

#[test]
fn responses_over_ipv6() {
    let mut edge = Edge::new();
    let invite = edge.send(CLIENT6, INVITE);
    let answer = response(&invite, "200 OK", "x");
    edge.send(BACKEND6, &answer)
        .expect(Outcome::Response)
        .expect_to(CLIENT6);
    let longer = answer.replace("[2001:db8::10]", "[2001:DB8:0:0::10]");
    edge.send(BACKEND6, longer)
        .expect(Outcome::Response)
        .expect_to(CLIENT6);
}

#[test]
fn nobody_bounces_packets_off_us() {
    let mut edge = Edge::new();
    let invite = edge.send(CLIENT, INVITE);
    let answer = response(&invite, "200 OK", "x");
    let own = invite.header("Via");
    let id = &own.split("z9hG4bK").nth(1).unwrap()[..16];
    let mac = &own.split("lbm=").nth(1).unwrap()[..16];
    for (from, to, want) in [
        // The client's Via leads elsewhere.
        (
            "received=198.51.100.7",
            "received=203.0.113.66",
            Outcome::ResponseBadMac,
        ),
        ("rport=40000", "rport=53", Outcome::ResponseBadMac),
        (";received=198.51.100.7", "", Outcome::ResponseBadMac),
        ("rport=40000", "rport=0", Outcome::ResponseBadMac),
        (
            "received=198.51.100.7",
            "received=a.example.com",
            Outcome::ResponseBadMac,
        ),
        // Our Via is not as we wrote it.
        (id, "0123456789abcdef", Outcome::ResponseBadMac),
        (mac, "0123456789abcdef", Outcome::ResponseBadMac),
        (";lbm=", ";lbn=", Outcome::ResponseBadMac),
        (mac, "", Outcome::ResponseBadMac),
        (
            &format!(";lbm={}", &mac[..1]),
            ";lbm=",
            Outcome::ResponseBadMac,
        ),
        (&format!("z9hG4bK{id}"), id, Outcome::ResponseBadMac),
        (&format!("branch=z9hG4bK{id}"), "x", Outcome::ResponseBadMac),
        (
            "203.0.113.10:5060",
            "203.0.113.11:5060",
            Outcome::ResponseNotOurs,
        ),
        (
            "203.0.113.10:5060",
            "203.0.113.10:5061",
            Outcome::ResponseNotOurs,
        ),
        (
            "203.0.113.10:5060",
            "edge.example.com",
            Outcome::ResponseNotOurs,
        ),
        (&format!("Via: {own}\r\n"), "", Outcome::ResponseNotOurs),
        (
            &format!("Via: {}\r\n", invite.headers("Via")[1]),
            "",
            Outcome::ResponseNoSecondVia,
        ),
        // Broken ones.
        (
            "Content-Length: 0",
            "Content-Length: 1",
            Outcome::MalformedResponse,
        ),
        (
            "Content-Length: 0",
            "Content-Length: x",
            Outcome::MalformedResponse,
        ),
        (
            "Content-Length: 0",
            "Content-Length",
            Outcome::MalformedResponse,
        ),
        ("\r\n\r\n", "\r\n", Outcome::MalformedResponse),
        ("SIP/2.0/UDP 203", "203", Outcome::MalformedResponse),
        ("SIP/2.0/UDP 192", "192", Outcome::MalformedResponse),
        ("SIP/2.0 200", "SIP/2.0 2000", Outcome::NotSip),
    ] {
        let text = answer.replacen(from, to, 1);
        assert_ne!(text, answer, "{from}");
        let sent = Edge::new().send(BACKENDS[0], text).expect(want);
        assert!(sent.bytes.is_empty());
    }
    let stranger = Edge::with_keys(Keys::new(b"another secret", None)).send(BACKENDS[0], &answer);
    stranger.expect(Outcome::ResponseBadMac);
    let rotated = Keys::new(b"another secret", Some(SECRET.as_bytes()));
    Edge::with_keys(rotated)
        .send(BACKENDS[0], &answer)
        .expect(Outcome::Response);
}

#[test]
fn our_own_reply_is_not_forwarded_when_it_comes_back() {
    let mut edge = Edge::new();
    let reply = edge.send(
        CLIENT,
        INVITE.replace("Max-Forwards: 70", "Max-Forwards: 0"),
    );
    edge.send(CLIENT, &reply.bytes)
        .expect(Outcome::ResponseNotOurs);
}
