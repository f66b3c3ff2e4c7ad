//! REGISTER, its responses, and the calls that come of it.

use super::edge::{CLIENT, Edge, OTHER_CLIENT, address, headers, response};
use crate::{
    forward::Outcome,
    token::{FlowKind, FlowToken},
};

const REGISTRAR: &str = "10.0.0.21:5060";
const OTHER_REGISTRAR: &str = "10.0.0.22:5060";
const SWITCH: &str = "10.0.0.11:5060";

const REGISTER: &str = "REGISTER sip:example.com SIP/2.0\r\n\
    Via: SIP/2.0/UDP 192.168.1.5:5062;branch=z9hG4bKr1;rport\r\n\
    Max-Forwards: 70\r\n\
    From: <sip:alice@example.com>;tag=1\r\n\
    To: <sip:alice@example.com>\r\n\
    Call-ID: r1@192.168.1.5\r\n\
    CSeq: 1 REGISTER\r\n\
    Contact: <sip:alice@192.168.1.5:5062;ob>;expires=3600\r\n\
    Expires: 3600\r\n\
    Content-Length: 0\r\n\
    \r\n";

fn edge(registration: &str) -> Edge {
    Edge::configured(&format!(
        "
node: {{ name: a }}
listeners:
  - name: public
    address: 203.0.113.10
    nat: {{ detect: [received], fix: [contact], max_expires: 60s }}
  - {{ name: inside, address: 203.0.113.11 }}
pools:
  - name: registrars
    {registration}
    backends: [ {{ name: r1, address: '{REGISTRAR}' }}, {{ name: r2, address: '{OTHER_REGISTRAR}', weight: 0 }} ]
  - {{ name: switches, backends: [ {{ name: s1, address: '{SWITCH}' }} ] }}
routes: [ {{ method: REGISTER, pool: registrars }}, {{ pool: switches }} ]
"
    ))
}

fn path_edge() -> Edge {
    edge("strategy: hash-call-id")
}

fn contact_edge() -> Edge {
    edge("registration: contact")
}

/// The same REGISTER with these Contact lines.
fn with_contacts(lines: &str) -> String {
    REGISTER.replace(
        "Contact: <sip:alice@192.168.1.5:5062;ob>;expires=3600\r\n",
        lines,
    )
}

/// The URI in angle brackets.
fn uri(value: &str) -> String {
    value.split(['<', '>']).nth(1).unwrap().to_owned()
}

/// What a platform sends to a registered phone: through `route`, if there is one.
fn invite(request_uri: &str, route: Option<&str>) -> String {
    let route = route.map_or(String::new(), |route| format!("Route: {route}\r\n"));
    format!(
        "INVITE {request_uri} SIP/2.0\r\n\
         Via: SIP/2.0/UDP 10.0.0.21;branch=z9hG4bKi1\r\n\
         {route}Max-Forwards: 60\r\n\
         From: <sip:bob@example.com>;tag=2\r\n\
         To: <sip:alice@example.com>\r\n\
         Call-ID: i1\r\n\
         CSeq: 1 INVITE\r\n\
         Contact: <sip:bob@10.0.0.21>\r\n\
         Content-Length: 0\r\n\
         \r\n"
    )
}

/// A registrar's answer, with these lines.
fn granted(register: &super::edge::Sent, status: &str, lines: &str) -> String {
    response(register, status, "r").replace("Content-Length", &format!("{lines}Content-Length"))
}

#[test]
fn a_path_leads_back_to_the_phone_on_any_node() {
    let sent = path_edge()
        .send(CLIENT, REGISTER)
        .expect(Outcome::RequestToPool)
        .expect_to(REGISTRAR);
    let path = sent.header("Path");
    assert!(
        path.ends_with("@203.0.113.10:5060;lr>") || path.ends_with(";lr;lb>"),
        "{path}"
    );
    assert_eq!(sent.headers("Supported"), ["path"]);
    // Path is what leads: a fix of the NAT policy may still change the Contact.
    assert_eq!(
        sent.header("Contact"),
        "<sip:alice@198.51.100.7:40000;ob>;expires=3600"
    );
    // From the registrar, from another one, and from a switch that shares its location table.
    for source in [REGISTRAR, OTHER_REGISTRAR, SWITCH, "10.0.0.11:40000"] {
        let call = invite("sip:alice@192.168.1.5:5062;ob", Some(&path));
        let got = path_edge()
            .send(source, call)
            .expect(Outcome::RequestToClient)
            .expect_to(CLIENT);
        assert_eq!(
            got.start_line(),
            "INVITE sip:alice@192.168.1.5:5062;ob SIP/2.0"
        );
        assert!(got.headers("Route").is_empty());
        assert!(got.header("Record-Route").contains("@203.0.113.10:5060"));
    }
    // From anybody else it leads to the registrar, which is what a Service-Route is for.
    path_edge()
        .send(OTHER_CLIENT, invite("sip:carol@192.0.2.66", Some(&path)))
        .expect(Outcome::RequestToBackend)
        .expect_to(REGISTRAR);
}

#[test]
fn a_call_leaves_from_the_listener_that_the_pinhole_was_punched_to() {
    let path = path_edge().send(CLIENT, REGISTER).header("Path");
    let call = invite("sip:alice@192.168.1.5:5062", Some(&path));
    let mut edge = path_edge();
    let datagram = crate::forward::Datagram {
        payload: call.as_bytes(),
        source: address(REGISTRAR),
        listener: crate::forward::ListenerIndex(1),
    };
    let verdict = crate::forward::forward(&edge.table, &datagram, &mut edge.scratch);
    let crate::forward::Action::Forward { to, from, .. } = verdict.action else {
        panic!("{verdict:?}");
    };
    assert_eq!((to, from.0), (address(CLIENT), 0));
    let mut output = vec![0; edge.scratch.edits.output_len(call.len())];
    edge.scratch.edits.apply(call.as_bytes(), &mut output);
    let sent = String::from_utf8(output).unwrap();
    let vias = headers(&sent, "Via");
    assert!(
        vias[0].starts_with("SIP/2.0/UDP 203.0.113.10:5060;"),
        "{sent}"
    );
}

#[test]
fn supported_path_is_added_where_it_is_wanted_and_not_there() {
    for line in ["Supported: outbound, path\r\n", "k:gruu,PATH\r\n"] {
        let register = REGISTER.replace("Expires: 3600\r\n", line);
        let sent = path_edge().send(CLIENT, register);
        assert_eq!(
            sent.text().matches("Supported:").count(),
            line.matches("Supported").count()
        );
    }
    let register = REGISTER.replace("Expires: 3600\r\n", "Supported: outbound, pathology\r\n");
    let sent = path_edge().send(CLIENT, register);
    assert_eq!(sent.headers("Supported"), ["path", "outbound, pathology"]);
    let mut without = edge("registration: { mode: path, supported_path: false }");
    let sent = without.send(CLIENT, REGISTER);
    assert!(sent.headers("Supported").is_empty());
    assert_eq!(sent.headers("Path").len(), 1);
}

#[test]
fn a_path_comes_before_those_of_others_and_says_when_it_keeps_the_flow() {
    let other = "Path: <sip:192.0.2.1;lr>\r\nExpires";
    let sent = path_edge().send(CLIENT, REGISTER.replace("Expires", other));
    assert_eq!(sent.headers("Path")[1], "<sip:192.0.2.1;lr>");
    let with_reg_id = REGISTER.replace(";expires=", ";reg-id=1;expires=");
    let sent = path_edge().send(CLIENT, &with_reg_id);
    assert!(
        uri(&sent.header("Path")).contains(";lr;ob"),
        "{}",
        sent.text()
    );
    // Somebody else is nearer to the phone.
    let via = "Max-Forwards: 70\r\nVia: SIP/2.0/UDP 10.9.9.9;branch=z9hG4bKx";
    let sent = path_edge().send(CLIENT, with_reg_id.replace("Max-Forwards: 70", via));
    assert!(!sent.header("Path").contains(";ob"));
    assert!(
        !path_edge()
            .send(CLIENT, REGISTER)
            .header("Path")
            .contains(";ob")
    );
}

#[test]
fn a_contact_of_ours_leads_back_to_the_phone_on_any_node() {
    let sent = contact_edge()
        .send(CLIENT, REGISTER)
        .expect(Outcome::RequestToPool);
    assert!(sent.headers("Path").is_empty());
    let contact = sent.header("Contact");
    let (contact_uri, rest) = (uri(&contact), contact.split('>').nth(1).unwrap());
    assert!(
        contact_uri.starts_with("sip:alice@203.0.113.10:5060;lbr="),
        "{contact}"
    );
    assert_eq!(rest, ";expires=3600");
    // A refresh is the same binding to the registrar.
    let again = REGISTER
        .replace("CSeq: 1", "CSeq: 2")
        .replace("z9hG4bKr1", "z9hG4bKr2");
    assert_eq!(
        contact_edge().send(CLIENT, again).header("Contact"),
        contact
    );
    for source in [REGISTRAR, OTHER_REGISTRAR, SWITCH] {
        for route in [None, Some("<sip:203.0.113.10;lr>")] {
            let got = contact_edge()
                .send(source, invite(&contact_uri, route))
                .expect(Outcome::RequestToClient)
                .expect_to(CLIENT);
            assert_eq!(
                got.start_line(),
                "INVITE sip:alice@192.168.1.5:5062;ob SIP/2.0"
            );
        }
    }
    // From the outside it is a Request-URI like any other.
    contact_edge()
        .send(OTHER_CLIENT, invite(&contact_uri, None))
        .expect(Outcome::RequestToPool)
        .expect_to(SWITCH);
    // And only as we signed it.
    let (start, token) = contact_uri.split_once(";lbr=").unwrap();
    for token in [
        "",
        &token[4..],
        &token.to_lowercase(),
        &format!("{token}AAAA"),
    ] {
        contact_edge()
            .send(REGISTRAR, invite(&format!("{start};lbr={token}"), None))
            .expect(Outcome::BadFlowToken);
    }
}

#[test]
fn the_phone_gets_its_own_contact_back() {
    let mut edge = contact_edge();
    let other = edge
        .send(OTHER_CLIENT, REGISTER.replace("5062;ob", "9"))
        .header("Contact");
    let sent = edge.send(CLIENT, REGISTER);
    let contact = sent.header("Contact");
    let answer = granted(
        &sent,
        "200 OK",
        &format!("Contact: {other}, {contact};q=0.5\r\nm: <sip:alice@192.0.2.77>;expires=10\r\n"),
    );
    let got = edge
        .send(REGISTRAR, answer)
        .expect(Outcome::Response)
        .expect_to(CLIENT);
    let other = other.replace("=3600", "=60");
    assert_eq!(
        got.header("Contact"),
        format!("{other}, <sip:alice@192.168.1.5:5062;ob>;expires=60;q=0.5")
    );
    assert_eq!(got.header("m"), "<sip:alice@192.0.2.77>;expires=10");
    // A 302 or a refusal brings it back as well.
    let answer = granted(&sent, "302 Moved", &format!("Contact: {contact}\r\n"));
    let got = edge.send(REGISTRAR, answer);
    assert_eq!(
        got.header("Contact"),
        "<sip:alice@192.168.1.5:5062;ob>;expires=3600"
    );
}

#[test]
fn every_way_to_write_a_contact_is_replaced_and_comes_back() {
    for (line, back) in [
        ("Contact: <sip:alice@192.168.1.5>", None),
        ("m:<sip:192.168.1.5:5070>;q=1", None),
        (
            "Contact: \"A <b>, c\" <sip:a@host.example;x=y?h=1>;+sip.instance=\"<urn:x>\"",
            None,
        ),
        (
            "Contact: SIP:a@[fe80::1]:1;transport=tcp",
            Some("<SIP:a@[fe80::1]:1>;transport=tcp"),
        ),
        (
            "Contact: sip:a@192.168.1.5;expires=5",
            Some("<sip:a@192.168.1.5>;expires=5"),
        ),
        (
            "Contact: <sip:a@h1>, sip:b@h2;q=1,\r\n <sip:c@h3>",
            Some("<sip:a@h1>, <sip:b@h2>;q=1, <sip:c@h3>"),
        ),
    ] {
        let mut edge = contact_edge();
        let sent = edge
            .send(CLIENT, with_contacts(&format!("{line}\r\n")))
            .expect(Outcome::RequestToPool);
        let name = line.split(':').next().unwrap();
        let replaced = sent.header(name);
        for host in ["192.168.1.5", "host.example", "fe80", "@h1", "@h2", "@h3"] {
            assert!(!replaced.contains(host), "{replaced}");
        }
        let answer = granted(&sent, "200 OK", &format!("Contact: {replaced}\r\n"));
        let got = edge.send(REGISTRAR, answer).header("Contact");
        let want = line.split_once(':').unwrap().1.trim().replace("\r\n", "");
        assert_eq!(got, back.unwrap_or(&want), "{line}");
    }
}

#[test]
fn what_is_no_sip_contact_stays() {
    for line in [
        "Contact: *",
        "Contact: <tel:+4912345>, <mailto:a@example.com>",
        "Contact: <sips:a@192.168.1.5>",
    ] {
        let sent = contact_edge().send(CLIENT, with_contacts(&format!("{line}\r\n")));
        assert_eq!(format!("Contact: {}", sent.header("Contact")), line);
    }
}

#[test]
fn contacts_that_cannot_be_replaced_are_refused() {
    let long = "x".repeat(200);
    let nine = ["<sip:a@192.168.1.5>"; 9].join(",");
    for line in [
        format!("Contact: <sip:a@192.168.1.5;{long}>"),
        format!("Contact: {nine}"),
        "Contact: <sip:a@192.168.1.5".to_owned(),
        // They would come back in a request line.
        "Contact: <sip:a@192.168.1.5?x=1 2>".to_owned(),
        "Contact: <sip:a@192.168.1.5;x=\t1>".to_owned(),
        "Contact: <sip:a@192.168.1.5;x=\r\n y>".to_owned(),
        "Contact: \"a".to_owned(),
        // In a request line it would end the URI.
        "Contact: <sip:a@192.168.1.5;x=a b>".to_owned(),
        "Contact: <sip:a@192.168.1.5;x=a\r\n b>".to_owned(),
        "Contact: <sip:a@192.168.1.5;x=<b>".to_owned(),
    ] {
        let sent = contact_edge()
            .send(CLIENT, with_contacts(&format!("{line}\r\n")))
            .expect(Outcome::ContactNotReplaced);
        assert_eq!(sent.start_line(), "SIP/2.0 400 Contact cannot be replaced");
    }
    // Eight of nearly that length are not too many.
    let eight = vec![format!("<sip:a@192.168.1.5;{}>", "x".repeat(180)); 8].join(",");
    let sent = contact_edge()
        .send(CLIENT, with_contacts(&format!("Contact: {eight}\r\n")))
        .expect(Outcome::RequestToPool);
    assert_eq!(sent.header("Contact").matches(";lbr=").count(), 8);
}

#[test]
fn a_phone_behind_a_nat_is_told_to_come_again_soon() {
    let expiry = |lines: &str, status: &str| {
        let mut edge = path_edge();
        let sent = edge.send(CLIENT, REGISTER);
        assert!(sent.header("Via").contains(";lbn"));
        let got = edge
            .send(REGISTRAR, granted(&sent, status, lines))
            .expect(Outcome::Response);
        let text = got.text();
        let lines = text.lines().filter(|line| {
            let line = line.to_ascii_lowercase();
            line.contains("expires")
        });
        lines.collect::<Vec<_>>().join("|")
    };
    for (lines, want) in [
        (
            "Contact: <sip:a@b>;expires=3600\r\n",
            "Contact: <sip:a@b>;expires=60",
        ),
        (
            "Contact: <sip:a@b>;expires=60\r\n",
            "Contact: <sip:a@b>;expires=60",
        ),
        (
            "Contact: <sip:a@b>;expires=59\r\n",
            "Contact: <sip:a@b>;expires=59",
        ),
        (
            "Contact: <sip:a@b>;expires=0\r\n",
            "Contact: <sip:a@b>;expires=0",
        ),
        (
            "Contact: <sip:a@b;expires=9999>;q=1;EXPIRES = 99999999999999\r\n",
            "Contact: <sip:a@b;expires=9999>;q=1;EXPIRES = 60",
        ),
        ("Expires: 7200\r\nContact: <sip:a@b>\r\n", "Expires: 60"),
        (
            "Contact: <sip:a@b>;expires=never\r\n",
            "Contact: <sip:a@b>;expires=never",
        ),
        (
            "Contact: sip:a@b;expires=61, sip:c@d;expires=62\r\n",
            "Contact: sip:a@b;expires=60, sip:c@d;expires=60",
        ),
    ] {
        assert_eq!(expiry(lines, "200 OK"), want);
    }
    // The registrar's word to the phone about what it asks for.
    assert_eq!(
        expiry("Min-Expires: 300\r\n", "423 Interval Too Brief"),
        "Min-Expires: 300"
    );
    let refused = "Contact: <sip:a@b>;expires=3600\r\n";
    assert_eq!(expiry(refused, "401 Unauthorized"), refused.trim());
}

#[test]
fn many_contacts_of_others_do_not_keep_the_phone_from_its_own() {
    let mut edge = contact_edge();
    let sent = edge.send(CLIENT, REGISTER);
    let mut contacts = vec!["<sip:x@192.0.2.1>;expires=3600".to_owned(); 40];
    contacts.push(sent.header("Contact"));
    let answer = granted(
        &sent,
        "200 OK",
        &format!("Contact: {}\r\n", contacts.join(",")),
    );
    let got = edge.send(REGISTRAR, answer).expect(Outcome::Response);
    let contacts = got.header("Contact");
    assert!(
        contacts.ends_with("<sip:alice@192.168.1.5:5062;ob>;expires=60"),
        "{contacts}"
    );
}

#[test]
fn who_is_not_behind_a_nat_keeps_what_the_registrar_grants() {
    let mut edge = path_edge();
    let register = REGISTER.replace("192.168.1.5:5062;branch", "198.51.100.7:40000;branch");
    let sent = edge.send(CLIENT, register);
    assert!(!sent.header("Via").contains(";lbn"));
    let answer = granted(&sent, "200 OK", "Contact: <sip:a@b>;expires=3600\r\n");
    let got = edge.send(REGISTRAR, answer);
    assert_eq!(got.header("Contact"), "<sip:a@b>;expires=3600");
}

#[test]
fn a_registration_that_is_switched_off_is_forwarded_as_it_is() {
    let sent = edge("registration: off").send(CLIENT, REGISTER);
    assert!(sent.headers("Path").is_empty() && sent.headers("Supported").is_empty());
    // A request of a backend is no registration with us.
    let register = REGISTER.replace("sip:example.com SIP", "sip:192.0.2.9 SIP");
    let sent = path_edge()
        .send(SWITCH, register)
        .expect(Outcome::RequestOutbound);
    assert!(sent.headers("Path").is_empty());
}

#[test]
fn a_token_names_the_client_where_responses_reach_it() {
    // Without rport that is the port of sent-by.
    let register = REGISTER.replace(";rport", "");
    let edge = path_edge();
    let path = path_edge().send(CLIENT, register).header("Path");
    let token = uri(&path)["sip:".len()..]
        .split('@')
        .next()
        .unwrap()
        .to_owned();
    let want = FlowToken {
        kind: FlowKind::Registration,
        ..FlowToken::new(address("198.51.100.7:5062"), address(REGISTRAR))
    };
    assert_eq!(
        edge.table.keys.read_flow_token(token.as_bytes()),
        Some(want)
    );
}
