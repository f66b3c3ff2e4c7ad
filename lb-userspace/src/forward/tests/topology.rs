//! Hiding the inside: nothing of it leaves, and everything comes back.

use super::edge::{Edge, Sent, address, response};
use crate::{
    forward::Outcome,
    token::{FLOW_TOKEN_MAX, FlowKind, FlowToken},
};

const BACKEND: &str = "10.0.0.11:5060";
const PROXY: &str = "10.0.0.12:5060";
const CARRIER: &str = "192.0.2.50:5060";
const PHONE: &str = "198.51.100.7:40000";

fn configured(topology: &str) -> Edge {
    Edge::configured(&format!(
        "
node: {{ name: a }}
listeners: [ {{ name: public, address: 203.0.113.10 }} ]
pools:
  - {{ name: switches, backends: [ {{ name: s1, address: '{BACKEND}' }}, {{ name: s2, address: '{PROXY}', weight: 0 }} ] }}
outbound: {{ trusted: [10.0.0.0/24], topology: {topology} }}
"
    ))
}

fn edge() -> Edge {
    configured("hide")
}

/// A message whose lines end as SIP wants.
fn message(lines: &str) -> String {
    lines
        .trim_start()
        .replace("\r\n", "\n")
        .replace('\n', "\r\n")
        .replace("\r\n\r\n\r\n", "\r\n\r\n")
}

/// What a backend behind a proxy of its own sends.
fn inside(method: &str, uri: &str, to: &str, route: &str) -> String {
    message(&format!(
        "{method} {uri} SIP/2.0
Via: SIP/2.0/UDP 10.0.0.12;branch=z9hG4bKp1;rport, SIP/2.0/UDP 10.0.0.77:5070;branch=z9hG4bKq1
v: SIP/2.0/UDP host.lan;branch=z9hG4bKr1
{route}Max-Forwards: 60
Record-Route: <sip:10.0.0.12;lr;x=1>
Record-Route: <sip:10.0.0.13;lr>, <sip:10.0.0.14;lr>
From: \"Bob\" <sip:bob@10.0.0.77:5070>;tag=b
To: <sip:123@carrier.test>{to}
Call-ID: c1@10.0.0.77
CSeq: 1 {method}
Contact: <sip:bob@10.0.0.77:5070;ob>;+x=1
P-Asserted-Identity: <sip:bob@10.0.0.77>
User-Agent: pbx at 10.0.0.77
Content-Length: 0

"
    ))
}

/// Fails when an address of the inside, or a name of it, stands in what left.
#[track_caller]
fn expect_nothing_of_the_inside(sent: &Sent) {
    let text = sent.text();
    for part in text.split(|c: char| !(c.is_ascii_alphanumeric() || "-_.".contains(c))) {
        assert!(
            !part.contains("10.0.0.") && !part.contains("host.lan"),
            "{text}"
        );
        if let Ok(bytes) =
            base64::Engine::decode(&base64::engine::general_purpose::URL_SAFE_NO_PAD, part)
        {
            assert!(
                !bytes.windows(3).any(|window| window == [10, 0, 0]),
                "{part} in {text}"
            );
            assert!(
                !bytes.windows(7).any(|window| window == b"10.0.0."),
                "{part} in {text}"
            );
        }
    }
}

/// The far end's answer with its own Contact.
fn answer(request: &Sent, status: &str) -> String {
    response(request, status, "c").replace(
        "Content-Length",
        "Contact: <sip:123@192.0.2.60>\r\nContent-Length",
    )
}

#[test]
fn an_outbound_call_shows_nothing_of_the_inside_and_all_comes_back() {
    let mut edge = edge();
    let invite = inside("INVITE", "sip:123@192.0.2.50", "", "");
    let sent = edge
        .send(PROXY, &invite)
        .expect(Outcome::RequestOutbound)
        .expect_to(CARRIER);
    expect_nothing_of_the_inside(&sent);
    assert_eq!(sent.headers("Via").len() + sent.headers("v").len(), 1);
    assert_eq!(sent.headers("Record-Route").len(), 1);
    assert_eq!(
        sent.header("From"),
        "\"Bob\" <sip:bob@203.0.113.10:5070>;tag=b"
    );
    assert_eq!(sent.header("User-Agent"), "pbx at 203.0.113.10");
    assert!(sent.header("Contact").ends_with(">;+x=1"));
    // A retransmission and a CANCEL are the same transaction, on another node as well.
    let again = configured("hide").send(PROXY, &invite);
    assert_eq!(again.text(), sent.text());
    let cancel = edge.send(PROXY, inside("CANCEL", "sip:123@192.0.2.50", "", ""));
    assert_eq!(cancel.header("Via"), sent.header("Via"));
    assert_eq!(cancel.header("Call-ID"), sent.header("Call-ID"));

    // The response, on a node that does not hide any more.
    let got = configured("keep")
        .send(CARRIER, answer(&sent, "200 OK"))
        .expect(Outcome::Response)
        .expect_to(PROXY);
    assert_eq!(
        got.headers("Via"),
        [
            "SIP/2.0/UDP 10.0.0.12;branch=z9hG4bKp1;rport=5060;received=10.0.0.12, SIP/2.0/UDP 10.0.0.77:5070;branch=z9hG4bKq1"
        ]
    );
    assert_eq!(got.headers("v"), ["SIP/2.0/UDP host.lan;branch=z9hG4bKr1"]);
    let routes = got.header("Record-Route");
    let (ours, inner) = routes.split_once(", ").unwrap();
    assert_eq!(
        inner,
        "<sip:10.0.0.12;lr;x=1>, <sip:10.0.0.13;lr>, <sip:10.0.0.14;lr>"
    );
    assert!(
        ours.contains("@203.0.113.10:5060;lr") && !ours.contains("lbrr"),
        "{ours}"
    );
    assert_eq!(got.header("Call-ID"), "c1@10.0.0.77");

    // What the far end sends in the dialog.
    let bye = message(&format!(
        "BYE {} SIP/2.0
Via: SIP/2.0/UDP 192.0.2.60;branch=z9hG4bKb1
Route: {}
Max-Forwards: 70
From: {};tag=c
To: {}
Call-ID: {}
CSeq: 9 BYE
Content-Length: 0

",
        sent.header("Contact").split(['<', '>']).nth(1).unwrap(),
        sent.header("Record-Route"),
        sent.header("To"),
        sent.header("From"),
        sent.header("Call-ID"),
    ));
    let got = edge
        .send("192.0.2.60:5060", &bye)
        .expect(Outcome::RequestToBackend)
        .expect_to(PROXY);
    assert_eq!(got.start_line(), "BYE sip:bob@10.0.0.77:5070;ob SIP/2.0");
    assert_eq!(
        got.headers("Route"),
        ["<sip:10.0.0.12;lr;x=1>, <sip:10.0.0.13;lr>, <sip:10.0.0.14;lr>"]
    );
    assert_eq!(got.header("Call-ID"), "c1@10.0.0.77");
    let back = edge
        .send(PROXY, response(&got, "200 OK", "b"))
        .expect(Outcome::Response)
        .expect_to("192.0.2.60:5060");
    assert_eq!(back.header("Call-ID"), sent.header("Call-ID"));
    expect_nothing_of_the_inside(&back);

    // And what the inside sends in it.
    let route = format!("Route: {ours}\r\n");
    let ack = inside("ACK", "sip:123@192.0.2.60", ";tag=c", &route);
    let got = edge
        .send(PROXY, &ack)
        .expect(Outcome::RequestOutbound)
        .expect_to("192.0.2.60:5060");
    expect_nothing_of_the_inside(&got);
    assert_eq!(got.header("Call-ID"), sent.header("Call-ID"));
}

/// A phone's request, whose private address is one of the inside as well.
fn phone(method: &str, uri: &str, lines: &str) -> String {
    message(&format!(
        "{method} {uri} SIP/2.0
Via: SIP/2.0/UDP 10.0.0.5:5062;branch=z9hG4bKf1;rport
{lines}Max-Forwards: 70
From: <sip:alice@example.com>;tag=a
To: <sip:bob@example.com>
Call-ID: f1@10.0.0.5
CSeq: 1 {method}
Contact: <sip:alice@10.0.0.5:5062>
Content-Length: 0

"
    ))
}

#[test]
fn a_call_from_outside_learns_nothing_and_keeps_what_is_its_own() {
    let mut edge = edge();
    let sent = edge
        .send(PHONE, phone("INVITE", "sip:bob@example.com", ""))
        .expect(Outcome::RequestToPool);
    assert_eq!(sent.header("Contact"), "<sip:alice@10.0.0.5:5062>");
    let ours = sent.header("Record-Route");
    let ringing = response(&sent, "180 Ringing", "b")
        .replace(
            "Record-Route:",
            "Record-Route: <sip:10.0.0.14;lr>\r\nRecord-Route: <sip:10.0.0.13;lr>, ",
        )
        .replace(
            "Content-Length",
            "Contact: <sip:bob@10.0.0.77>\r\nServer: x/1 (10.0.0.77)\r\nContent-Length",
        );
    let got = edge
        .send(BACKEND, &ringing)
        .expect(Outcome::Response)
        .expect_to(PHONE);
    // The phone's own Via and Call-ID come back as they were.
    assert!(got.header("Via").starts_with("SIP/2.0/UDP 10.0.0.5:5062;"));
    assert_eq!(got.header("Call-ID"), "f1@10.0.0.5");
    assert_eq!(got.headers("Record-Route").len(), 1);
    let route = got.header("Record-Route");
    assert!(
        route.starts_with(ours.split('>').next().unwrap()),
        "{route}"
    );
    for name in ["Record-Route", "Contact", "Server"] {
        assert!(!got.header(name).contains("10.0.0."), "{}", got.text());
    }
    let contact = got
        .header("Contact")
        .split(['<', '>'])
        .nth(1)
        .unwrap()
        .to_owned();
    let ack = phone("ACK", &contact, &format!("Route: {route}\r\n"))
        .replace("<sip:bob@example.com>", "<sip:bob@example.com>;tag=b");
    let got = edge
        .send(PHONE, ack)
        .expect(Outcome::RequestToBackend)
        .expect_to(BACKEND);
    assert_eq!(got.start_line(), "ACK sip:bob@10.0.0.77 SIP/2.0");
    // From our side inward.
    assert_eq!(
        got.headers("Route"),
        ["<sip:10.0.0.13;lr>, <sip:10.0.0.14;lr>"]
    );

    // A request of the backend in that dialog: the Call-ID is the phone's.
    let bye = inside(
        "BYE",
        "sip:alice@10.0.0.5:5062",
        ";tag=a",
        &format!("Route: {ours}\r\n"),
    )
    .replace("c1@10.0.0.77", "f1@10.0.0.5");
    let got = edge
        .send(BACKEND, bye)
        .expect(Outcome::RequestToClient)
        .expect_to(PHONE);
    assert_eq!(got.header("Call-ID"), "f1@10.0.0.5");
}

#[test]
fn a_hidden_contact_leads_back_without_a_route() {
    // As a carrier calls a number that the backend has registered there.
    let mut edge = edge();
    let sent = edge
        .send(BACKEND, inside("REGISTER", "sip:192.0.2.50", "", ""))
        .expect(Outcome::RequestOutbound);
    expect_nothing_of_the_inside(&sent);
    let contact = sent.header("Contact");
    let granted = response(&sent, "200 OK", "c").replace(
        "Content-Length",
        &format!("Contact: {contact};expires=600\r\nContent-Length"),
    );
    let got = edge.send(CARRIER, granted).expect(Outcome::Response);
    assert_eq!(
        got.header("Contact"),
        "<sip:bob@10.0.0.77:5070;ob>;+x=1;expires=600"
    );

    let uri = contact.split(['<', '>']).nth(1).unwrap().to_owned();
    let call = phone("INVITE", &uri, "");
    let got = configured("keep")
        .send(CARRIER, &call)
        .expect(Outcome::RequestToBackend)
        .expect_to(BACKEND);
    assert_eq!(got.start_line(), "INVITE sip:bob@10.0.0.77:5070;ob SIP/2.0");
    // Only as we made it.
    let forged = call.replace(";lbi=", ";lbi=A");
    edge.send(CARRIER, forged).expect(Outcome::RequestToPool);
    // And only for what it was made: a registered phone is not called that way.
    let renamed = call.replace(";lbi=", ";lbr=");
    edge.send(CARRIER, renamed).expect(Outcome::RequestToPool);
}

#[test]
fn a_phone_that_registered_is_called_without_a_trace_of_the_inside() {
    let mut edge = edge();
    let sent = edge.send(PHONE, phone("REGISTER", "sip:example.com", ""));
    let path = sent.header("Path");
    let route = format!("Route: {path}\r\n");
    let call = inside("INVITE", "sip:alice@10.0.0.5:5062", "", &route);
    let got = edge
        .send(BACKEND, &call)
        .expect(Outcome::RequestToClient)
        .expect_to(PHONE);
    // The Request-URI is what the phone wrote.
    let without = got.text().replace("sip:alice@10.0.0.5:5062", "");
    assert!(!without.contains("10.0.0."), "{without}");
    // The ACK to a refusal has a To tag and the same Route.
    let ack = inside("ACK", "sip:alice@10.0.0.5:5062", ";tag=x", &route);
    let ack = edge.send(BACKEND, ack).expect(Outcome::RequestToClient);
    assert_eq!(ack.header("Call-ID"), got.header("Call-ID"));
    assert_eq!(ack.header("Via"), got.header("Via"));
}

#[test]
fn what_stays_inside_is_not_hidden() {
    let sent = edge()
        .send(BACKEND, inside("INVITE", "sip:x@10.0.0.99", "", ""))
        .expect(Outcome::RequestOutbound)
        .expect_to("10.0.0.99:5060");
    assert_eq!(sent.header("Call-ID"), "c1@10.0.0.77");
    assert_eq!(sent.headers("Record-Route").len(), 3);
}

#[test]
fn more_than_can_be_hidden_is_refused() {
    let many =
        "Via: SIP/2.0/UDP 10.0.0.99:5060;branch=z9hG4bKaaaaaaaaaaaaaaaaaaaaaaaaa\r\n".repeat(20);
    let invite = inside("INVITE", "sip:123@192.0.2.50", "", &many);
    let sent = edge().send(BACKEND, invite).expect(Outcome::TooMuchToHide);
    assert_eq!(sent.start_line(), "SIP/2.0 500 Too much to hide");
    let mut edge = edge();
    let sent = edge.send(PHONE, phone("INVITE", "sip:bob@example.com", ""));
    let contacts = "Contact: <sip:a@10.0.0.1>\r\n".repeat(9);
    let answer = response(&sent, "200 OK", "b")
        .replace("Content-Length", &format!("{contacts}Content-Length"));
    edge.send(BACKEND, answer)
        .expect(Outcome::ResponseTooMuchToHide);
}

#[test]
fn redirections_and_lists_of_phones_are_of_others() {
    let mut edge = edge();
    let sent = edge.send(PHONE, phone("INVITE", "sip:bob@example.com", ""));
    let moved = response(&sent, "302 Moved", "b").replace(
        "Content-Length",
        "Contact: <sip:bob@elsewhere.test>, <sip:bob@10.0.0.77>\r\nContent-Length",
    );
    let got = edge.send(BACKEND, moved).expect(Outcome::Response);
    let contact = got.header("Contact");
    assert!(
        contact.starts_with("<sip:bob@elsewhere.test>, <sip:bob@203.0.113.10:5060;lbi="),
        "{contact}"
    );
    let sent = edge.send(PHONE, phone("REGISTER", "sip:example.com", ""));
    let granted = response(&sent, "200 OK", "b").replace(
        "Content-Length",
        "Contact: <sip:alice@10.0.0.5:5062>\r\nContent-Length",
    );
    let got = edge.send(BACKEND, granted).expect(Outcome::Response);
    assert_eq!(got.header("Contact"), "<sip:alice@10.0.0.5:5062>");
}

#[test]
fn who_wrote_a_session_description_is_hidden_and_where_media_go_is_not() {
    let sdp = "v=0\r\no=bob 1 1 IN IP4 10.0.0.77\r\ns=-\r\nc=IN IP4 10.0.0.78\r\nt=0 0\r\n";
    let invite = inside("INVITE", "sip:123@192.0.2.50", "", "").replace(
        "Content-Length: 0\r\n\r\n",
        &format!(
            "Content-Type: application/sdp\r\nContent-Length: {}\r\n\r\n{sdp}",
            sdp.len()
        ),
    );
    let sent = edge().send(PROXY, invite).expect(Outcome::RequestOutbound);
    let body = sent.text().split_once("\r\n\r\n").unwrap().1.to_owned();
    assert_eq!(body, sdp.replace("10.0.0.77", "203.0.113.10"));
    assert_eq!(sent.header("Content-Length"), body.len().to_string());
}

/// Two clients whose dialog crossed us twice: each sees its own Call-ID, and none that the inside made.
#[test]
fn from_client_to_client_a_hidden_call_id_comes_back_to_who_made_it_alone() {
    let hidden = edge()
        .send(PROXY, inside("INVITE", "sip:123@192.0.2.50", "", ""))
        .header("Call-ID");
    for (kind, call_id) in [
        (FlowKind::FromClient, "c1@10.0.0.77"),
        (FlowKind::ToClient, hidden.as_str()),
    ] {
        let mut edge = edge();
        let token = |kind, client| {
            let flow = FlowToken {
                kind,
                ..FlowToken::new(address(client), address(BACKEND))
            };
            let mut text = [0; FLOW_TOKEN_MAX];
            let len = edge.table.keys.write_flow_token(&flow, &mut text);
            String::from_utf8(text[..len].to_vec()).unwrap()
        };
        let (first, second) = (token(FlowKind::ToClient, CARRIER), token(kind, PHONE));
        let bye = message(&format!(
            "BYE sip:alice@198.51.100.7 SIP/2.0
Via: SIP/2.0/UDP 192.0.2.50;branch=z9hG4bKb1
Route: <sip:{first}@203.0.113.10;lr>, <sip:{second}@203.0.113.10;lr>
Max-Forwards: 70
From: <sip:123@carrier.test>;tag=c
To: <sip:alice@example.com>;tag=a
Call-ID: {hidden}
CSeq: 9 BYE
Content-Length: 0

"
        ));
        let sent = edge
            .send(CARRIER, bye)
            .expect(Outcome::RequestToClient)
            .expect_to(PHONE);
        assert_eq!(sent.header("Call-ID"), call_id);
        let back = edge
            .send(PHONE, response(&sent, "200 OK", "a"))
            .expect(Outcome::Response)
            .expect_to(CARRIER);
        assert_eq!(back.header("Call-ID"), hidden);
    }
}

#[test]
fn tokens_are_sealed() {
    let mut edge = edge();
    let sent = edge.send(PHONE, phone("INVITE", "sip:bob@example.com", ""));
    let route = sent.header("Record-Route");
    let token = &route["<sip:".len()..route.find('@').unwrap()];
    assert_eq!(token.len(), 40);
    let flow = edge.table.keys.read_flow_token(token.as_bytes()).unwrap();
    assert_eq!(
        (flow.client, flow.backend),
        (address(PHONE), address(BACKEND))
    );
    // A node that does not hide reads it, and makes plain ones.
    let mut plain = configured("keep");
    assert_eq!(
        plain.table.keys.read_flow_token(token.as_bytes()),
        Some(flow)
    );
    let sent = plain.send(PHONE, phone("INVITE", "sip:bob@example.com", ""));
    assert_eq!(
        sent.header("Record-Route").find('@'),
        Some("<sip:".len() + 28)
    );
}

#[test]
fn a_name_that_only_begins_like_a_hidden_one_is_another() {
    let lines =
        "Record-Route-Count: 3\r\nPathology: none\r\nPath : <sip:10.0.0.12;lr>\r\nMax-Forwards";
    let register = inside("REGISTER", "sip:192.0.2.50", "", "").replacen("Max-Forwards", lines, 1);
    let sent = edge()
        .send(BACKEND, register)
        .expect(Outcome::RequestOutbound);
    assert_eq!(sent.headers("Record-Route-Count"), ["3"]);
    assert_eq!(sent.headers("Pathology"), ["none"]);
    assert!(sent.headers("Path").is_empty(), "{}", sent.text());
}

#[test]
fn a_folded_via_of_the_inside_comes_back() {
    for fold in ["\r\n ", "\r\n\t  ", "\n "] {
        let folded = |text: &str| text.replace("10.0.0.12;", &format!("10.0.0.12:5066{fold};"));
        let request = folded(&inside("OPTIONS", "sip:123@192.0.2.50", "", ""));
        let mut edge = edge();
        let sent = edge.send(PROXY, request).expect(Outcome::RequestOutbound);
        let got = edge
            .send(CARRIER, response(&sent, "200 OK", "c"))
            .expect(Outcome::Response)
            .expect_to(PROXY);
        assert!(
            got.text().contains(&format!(
                "10.0.0.12:5066{fold};branch=z9hG4bKp1;rport=5060;"
            )),
            "{}",
            got.text()
        );
    }
}

/// Its To tag is that of the refusal: it is of no dialog, and has no Route that would say where the call began.
#[test]
fn the_ack_of_a_refused_call_to_a_registered_phone_hides_its_call_id() {
    let mut edge = Edge::configured(&format!(
        "
node: {{ name: a }}
listeners: [ {{ name: public, address: 203.0.113.10 }} ]
pools: [ {{ name: p, registration: contact, backends: [ {{ name: s1, address: '{BACKEND}' }} ] }} ]
outbound: {{ trusted: [10.0.0.0/24], topology: hide }}
"
    ));
    let register = edge.send(PHONE, phone("REGISTER", "sip:example.com", ""));
    let contact = register.header("Contact");
    let uri = contact.split(['<', '>']).nth(1).unwrap();
    let invite = edge
        .send(PROXY, inside("INVITE", uri, "", ""))
        .expect(Outcome::RequestToClient)
        .expect_to(PHONE);
    let ack = edge
        .send(PROXY, inside("ACK", uri, ";tag=a", ""))
        .expect(Outcome::RequestToClient)
        .expect_to(PHONE);
    assert_eq!(ack.header("Via"), invite.header("Via"));
    assert_eq!(ack.header("Call-ID"), invite.header("Call-ID"));
    assert!(!ack.header("Call-ID").contains("10.0.0."), "{}", ack.text());
}

/// What the far end knows a dialog by does not change under way, on whichever node and in whichever direction.
#[test]
fn a_dialog_keeps_its_call_id_when_the_inside_is_hidden_later_or_no_more() {
    for (begun, later) in [("keep", "hide"), ("hide", "keep")] {
        let mut node = configured(later);
        let invite = inside("INVITE", "sip:123@192.0.2.50", "", "");
        let sent = configured(begun).send(PROXY, invite);
        let call_id = sent.header("Call-ID");
        let got = node.send(CARRIER, answer(&sent, "200 OK"));
        assert_eq!(got.header("Call-ID"), "c1@10.0.0.77");
        let ours = got.header("Record-Route");
        let ours = ours.split(", ").next().unwrap();
        let route = format!("Route: {ours}\r\n");
        for method in ["ACK", "INFO"] {
            let sent = node
                .send(
                    PROXY,
                    inside(method, "sip:123@192.0.2.60", ";tag=c", &route),
                )
                .expect(Outcome::RequestOutbound);
            assert_eq!(sent.header("Call-ID"), call_id, "{begun} {method}");
        }
        let bye = format!(
            "BYE sip:bob@10.0.0.77:5070 SIP/2.0\r\nVia: SIP/2.0/UDP 192.0.2.50;branch=z9hG4bKb1\r\n\
             Route: {}\r\nFrom: <sip:123@carrier.test>;tag=c\r\nTo: <sip:bob@x>;tag=b\r\n\
             Call-ID: {call_id}\r\nCSeq: 9 BYE\r\n\r\n",
            sent.header("Record-Route")
        );
        let got = node.send(CARRIER, bye).expect(Outcome::RequestToBackend);
        assert_eq!(got.header("Call-ID"), "c1@10.0.0.77");
        let back = node
            .send(PROXY, response(&got, "200 OK", "b"))
            .expect_to(CARRIER);
        assert_eq!(back.header("Call-ID"), call_id, "{begun}");
    }
}
