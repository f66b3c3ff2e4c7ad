//! Far-end NAT from datagram to datagram: who is looked at, what is mended, and how an alias leads back.

use std::{
    fs,
    path::PathBuf,
    sync::{Arc, LazyLock},
};

use proptest::{prelude::*, sample::select};

use super::edge::*;
use crate::{
    forward::{Action, Outcome, RouteRule, Table},
    nat::{Fix, Fixes, Indicator, Indicators, Policy},
    sip,
};

const SDP: &str = "v=0\r\no=- 1 2 IN IP4 192.168.1.5\r\ns=-\r\nc=IN IP4 192.168.1.5\r\nt=0 0\r\n\
    m=audio 4000 RTP/AVP 0\r\n";

fn policy(detect: &[Indicator], fix: &[Fix]) -> Policy {
    Policy {
        detect: Indicators::of(detect),
        fix: Fixes::of(fix),
        ..Policy::default()
    }
}

/// An edge that finds a NAT before every client with a private Contact.
fn edge(fix: &[Fix]) -> Edge {
    Edge::with_nat(policy(&[Indicator::ContactPrivate], fix), vec![])
}

/// The INVITE of the other tests, with a session description and without `rport`.
fn invite() -> String {
    INVITE
        .replace(";rport", "")
        .replace("Length: 4", &format!("Length: {}", SDP.len()))
        .replace("v=0\n", SDP)
}

fn matched(sent: &Sent) -> Vec<&'static str> {
    sent.verdict.nat.matched.names().collect()
}

fn fixed(sent: &Sent) -> Vec<&'static str> {
    sent.verdict.nat.fixed.names().collect()
}

#[test]
fn a_request_is_mended() {
    let sent = edge(&[Fix::Rport, Fix::Contact, Fix::Sdp])
        .send(CLIENT, invite())
        .expect(Outcome::RequestToPool);
    assert_eq!(matched(&sent), ["contact-private"]);
    assert_eq!(fixed(&sent), ["rport", "contact", "sdp"]);
    assert_eq!(sent.header("Contact"), "<sip:alice@198.51.100.7:40000>");
    let via = &sent.headers("Via")[1];
    assert!(
        via.contains("192.168.1.5:5060;rport=40000;received=198.51.100.7"),
        "{via}"
    );
    let text = sent.text();
    let (_, body) = text.split_once("\r\n\r\n").unwrap();
    assert_eq!(body, SDP.replace("192.168.1.5", "198.51.100.7"));
    assert_eq!(sent.header("Content-Length"), body.len().to_string());
}

#[test]
fn nothing_is_done_where_nothing_matches() {
    let all = [Fix::Rport, Fix::Contact, Fix::Sdp];
    let public = invite().replace("alice@192.168.1.5", "alice@phone.example.com");
    for (policy, message) in [
        (policy(&[Indicator::ContactPrivate], &all), public.clone()),
        (Policy::default(), invite()),
        (policy(&[Indicator::ContactPrivate], &[]), invite()),
    ] {
        let sent = Edge::with_nat(policy, vec![]).send(CLIENT, &message);
        let plain = Edge::new().send(CLIENT, &message);
        assert_eq!(sent.text(), plain.text());
        assert_eq!(sent.verdict.nat.fixed, Fixes::NONE);
        assert_eq!(
            sent.verdict.nat.is_natted(),
            message != public && policy != Policy::default()
        );
    }
}

/// So that the parameters which a response has to bring back are the only difference.
#[test]
fn responses_come_back_to_the_source_port() {
    let mut edge = edge(&[Fix::Rport]);
    let sent = edge.send(CLIENT, invite());
    let backend = sent.to.to_string();
    edge.send(&backend, response(&sent, "200 OK", "x"))
        .expect(Outcome::Response)
        .expect_to(CLIENT);
    let token = sent.header("Record-Route");
    edge.send(
        &backend,
        request("BYE").replace("Max-", &format!("Route: {token}\r\nMax-")),
    )
    .expect(Outcome::RequestToClient)
    .expect_to(CLIENT);
    // Without the fix both go where the Via says.
    let mut plain = Edge::new();
    let sent = plain.send(CLIENT, invite());
    plain
        .send(&backend, response(&sent, "200 OK", "x"))
        .expect_to("198.51.100.7:5060");
}

#[test]
fn our_own_replies_go_to_the_source_port() {
    for (message, outcome) in [
        (
            invite().replace(": 70", ": 0"),
            Outcome::MaxForwardsExceeded,
        ),
        (
            invite().replace("INVITE sip", "INFO sip"),
            Outcome::CseqMethodMismatch,
        ),
    ] {
        let sent = edge(&[Fix::Rport, Fix::Contact])
            .send(CLIENT, &message)
            .expect(outcome)
            .expect_to(CLIENT);
        assert_eq!(fixed(&sent), ["rport"]);
        let via = sent.header("Via");
        assert!(
            via.contains(":5060;rport=40000;received=198.51.100.7;"),
            "{via}"
        );
        Edge::new()
            .send(CLIENT, &message)
            .expect_to("198.51.100.7:5060");
    }
    // Nothing is sent to an ACK.
    let ack = request("ACK").replace(": 70", ": 0").replace(";rport", "");
    let sent = edge(&[Fix::Rport]).send(CLIENT, ack);
    assert_eq!(fixed(&sent.expect(Outcome::AckNotRouted)), [""; 0]);
}

/// The least request that can be answered, and the longest additions that there are.
#[test]
fn a_reply_with_a_forced_rport_stays_within_its_bound() {
    let mut edge = Edge::with_nat(policy(&[Indicator::Received], &[Fix::Rport]), vec![]);
    let source = "[1111:2222:3333:4444:5555:6666:7777:8888]:65535";
    for start in ["A a: SIP/2.0", "A a: SIP/9.0"] {
        for end in ["\r\n", "\n"] {
            for last in ["", "\n", "\n\n"] {
                let text = [start, "v:SIP/2.0/UDP h", "f:a:", "t:a:", "i:i", "CSeq:1 A"].join(end);
                let sent = edge.send(source, text + last);
                assert!(
                    sent.text().contains(";rport=65535;received=1111:"),
                    "{}",
                    sent.text()
                );
                assert_eq!(sent.to, address(source));
            }
        }
    }
}

#[test]
fn responses_of_clients_are_mended() {
    let mut edge = edge(&[Fix::Rport, Fix::Contact, Fix::Sdp]);
    let invite_out = edge.send(CLIENT, invite());
    let route = invite_out.header("Record-Route");
    let backend = invite_out.to.to_string();
    let again = invite()
        .replace(";branch", ";rport;branch")
        .replace("Max-", &format!("Route: {route}\r\nMax-"));
    let to_phone = edge.send(&backend, again).expect(Outcome::RequestToClient);
    assert_eq!(matched(&to_phone), [""; 0], "a backend is not looked at");
    let answer = response(&to_phone, "200 OK", "x").replace(
        "Content-Length: 0\r\n\r\n",
        &format!(
            "Contact: <sip:alice@192.168.1.5>\r\nContent-Type: application/sdp\r\nContent-Length: {}\r\n\r\n{SDP}",
            SDP.len()
        ),
    );
    let sent = edge
        .send(CLIENT, &answer)
        .expect(Outcome::Response)
        .expect_to(&backend);
    assert_eq!(sent.bytes.len() % 2, answer.len() % 2);
    assert_eq!(sent.header("Contact"), "<sip:alice@198.51.100.7:40000>");
    assert!(
        sent.text()
            .ends_with(&SDP.replace("192.168.1.5", "198.51.100.7"))
    );
    assert_eq!(fixed(&sent), ["contact", "sdp"]);
    // The same from a backend's address is nobody behind a NAT.
    let sent = edge.send("10.0.0.12:9", &answer).expect(Outcome::Response);
    assert_eq!(sent.header("Contact"), "<sip:alice@192.168.1.5>");
    assert_eq!(matched(&sent), [""; 0]);
    // And one that is not sent on is not mended.
    let sent = edge.send(CLIENT, answer.replace("z9hG4bK", "z9hG4bKx"));
    assert_eq!(matched(&sent.expect(Outcome::ResponseBadMac)), [""; 0]);
}

#[test]
fn a_route_rule_takes_the_place_of_the_listener() {
    let of_rule = |method: &str, nat| RouteRule {
        nat: Some(nat),
        ..rule(method, Some(0), 0)
    };
    let mut edge = Edge::with_nat(
        policy(&[Indicator::ContactPrivate], &[Fix::Contact]),
        vec![
            of_rule("INVITE", policy(&[Indicator::ViaPort], &[])),
            of_rule("MESSAGE", Policy::default()),
            rule("INFO", None, 0),
        ],
    );
    let route = edge.send(CLIENT, invite()).header("Record-Route");
    for (method, want) in [
        ("INVITE", vec!["via-port"]),
        ("ACK", vec!["via-port"]),
        ("CANCEL", vec!["via-port"]),
        ("MESSAGE", vec![]),
        ("INFO", vec!["contact-private"]),
        ("BYE", vec!["contact-private"]),
    ] {
        let message = request(method);
        let in_dialog = message
            .replace("Max-", &format!("Route: {route}\r\nMax-"))
            .replace("Bob <sip:bob@example.com>", "<sip:bob@example.com>;tag=b");
        for (message, outcome) in [
            (message, Outcome::RequestToPool),
            (in_dialog, Outcome::RequestToBackend),
        ] {
            let sent = edge.send(CLIENT, message).expect(outcome);
            assert_eq!(matched(&sent), want, "{method}");
            let mended = sent.header("Contact").contains("198.51.100.7");
            assert_eq!(mended, want == ["contact-private"], "{method}");
        }
        // A response by the method in its CSeq.
        let to_phone = edge
            .send(
                BACKENDS[0],
                request(method).replace("Max-", &format!("Route: {route}\r\nMax-")),
            )
            .expect(Outcome::RequestToClient);
        let answer = response(&to_phone, "200 OK", "x")
            .replace("Content-L", "Contact: <sip:a@10.1.1.1>\r\nContent-L");
        let sent = edge.send(CLIENT, answer).expect(Outcome::Response);
        let want: &[&str] = match want[..] {
            ["contact-private"] => &["contact-private"],
            _ => &[],
        };
        assert_eq!(matched(&sent), want, "{method}");
    }
    // The rules are of the other listener.
    let sent = edge.send(CLIENT6, invite());
    assert_eq!(matched(&sent), ["contact-private"]);
}

/// The Request-URI that a server makes of a Contact.
fn uri_of(contact: &str) -> String {
    contact
        .trim_start_matches(|byte| byte != '<')
        .trim_matches(['<', '>'])
        .to_owned()
}

fn to_uri(method: &str, uri: &str) -> String {
    request(method).replacen("sip:bob@example.com SIP", &format!("{uri} SIP"), 1)
}

#[test]
fn an_alias_leads_back_to_the_client() {
    for (client, backend) in [(CLIENT, BACKENDS[1]), (CLIENT6, BACKEND6)] {
        let mut edge = edge(&[Fix::ContactAlias]);
        let sent = edge.send(client, invite());
        assert_eq!(fixed(&sent), ["contact-alias"]);
        let uri = uri_of(&sent.header("Contact"));
        assert!(uri.starts_with("sip:alice@192.168.1.5;lba="), "{uri}");
        // Any node, any backend, and without Route.
        let mut other = Edge::with_nat(Policy::default(), vec![]);
        for (method, in_dialog) in [("BYE", true), ("INVITE", false), ("OPTIONS", false)] {
            let mut message = to_uri(method, &uri);
            if in_dialog {
                message = message.replace("Bob <sip:bob@example.com>", "<sip:b@c>;tag=b");
            }
            let sent = other
                .send(backend, message)
                .expect(Outcome::RequestToClient)
                .expect_to(client);
            let start = format!("{method} sip:alice@192.168.1.5 SIP/2.0");
            assert_eq!(sent.start_line(), start);
            // The response goes the way back.
            other
                .send(client, response(&sent, "200 OK", "x"))
                .expect(Outcome::Response)
                .expect_to(backend);
            if method == "INVITE" {
                // And what follows in the dialog has a token.
                let route = format!("Route: {}\r\nMax-", sent.header("Record-Route"));
                let bye = request("BYE").replace("Max-", &route);
                other
                    .send(client, bye)
                    .expect(Outcome::RequestToBackend)
                    .expect_to(backend);
            }
        }
    }
}

#[test]
fn an_alias_of_a_response_leads_back_to_the_client() {
    let mut edge = edge(&[Fix::ContactAlias]);
    let route = edge.send(CLIENT, invite()).header("Record-Route");
    let message = request("INVITE").replace("Max-", &format!("Route: {route}\r\nMax-"));
    let to_phone = edge.send(BACKENDS[2], message);
    let answer = response(&to_phone, "200 OK", "x")
        .replace("Content-L", "m: sip:a@10.1.1.1;expires=60\r\nContent-L");
    let contact = edge.send(CLIENT, answer).header("m");
    let (uri, parameters) = contact.split_once('>').unwrap();
    assert_eq!(parameters, ";expires=60");
    let sent = edge
        .send(BACKENDS[2], to_uri("BYE", &uri_of(uri)))
        .expect(Outcome::RequestToClient)
        .expect_to(CLIENT);
    assert_eq!(sent.start_line(), "BYE sip:a@10.1.1.1 SIP/2.0");
}

#[test]
fn a_client_that_is_reached_by_route_gets_its_own_contact_back() {
    let mut edge = edge(&[Fix::ContactAlias]);
    let sent = edge.send(CLIENT, invite().replace("1.5>", "1.5:5062;ob>"));
    let route = format!("Route: {}\r\nMax-", sent.header("Record-Route"));
    let uri = uri_of(&sent.header("Contact"));
    let bye = |uri: &str| to_uri("BYE", uri).replace("Max-", &route);
    let got = edge
        .send(BACKENDS[0], bye(&uri))
        .expect(Outcome::RequestToClient);
    assert_eq!(
        got.start_line(),
        "BYE sip:alice@192.168.1.5:5062;ob SIP/2.0"
    );
    // The token decides; what is no alias of ours stays.
    let other = uri.replace(";lba=", ";lba=X");
    let got = edge
        .send(BACKENDS[0], bye(&other))
        .expect(Outcome::RequestToClient)
        .expect_to("198.51.100.7:5060");
    assert_eq!(got.start_line(), format!("BYE {other} SIP/2.0"));
}

#[test]
fn an_alias_opens_nothing_to_others() {
    let mut edge = edge(&[Fix::ContactAlias]);
    let uri = uri_of(&edge.send(CLIENT, invite()).header("Contact"));
    // From the outside it is a Request-URI like any other.
    for source in [CLIENT, OTHER_CLIENT, "203.0.113.10:5070"] {
        let sent = edge
            .send(source, to_uri("INVITE", &uri))
            .expect(Outcome::RequestToPool);
        assert_eq!(sent.start_line(), format!("INVITE {uri} SIP/2.0"));
    }
    // From a backend only with the right MAC.
    let (start, token) = uri.split_once(";lba=").unwrap();
    for token in [
        "",
        &token[1..],
        &token.to_lowercase(),
        &format!("{token}AAAA"),
        "x",
    ] {
        let uri = format!("{start};lba={token}");
        edge.send(BACKENDS[0], to_uri("BYE", &uri))
            .expect(Outcome::BadFlowToken);
        edge.send(BACKENDS[0], to_uri("ACK", &uri))
            .expect(Outcome::AckNotRouted);
    }
    // Without it the Request-URI is one like any other.
    edge.send(BACKENDS[0], to_uri("BYE", start))
        .expect(Outcome::RequestOutbound)
        .expect_to("192.168.1.5:5060");
    // Another proxy comes first.
    let routed = to_uri("BYE", &uri).replace("Max-", "Route: <sip:192.0.2.9;lr>\r\nMax-");
    edge.send(BACKENDS[0], routed)
        .expect(Outcome::RequestOutbound)
        .expect_to("192.0.2.9:5060");
}

/// A message that says what a phone behind a NAT says, in one of many ways to write it.
fn messages() -> impl Strategy<Value = (String, String)> {
    // What is written of the phone, and what the edge makes of it.
    let contact = select(
        &[
            ("Contact: <sip:a@192.168.1.5>\r\n", "Contact: <sip:a@@>\r\n"),
            (
                "m:sip:a@192.168.1.5:5062;expires=9\r\n",
                "m:sip:a@@;expires=9\r\n",
            ),
            (
                "Contact: \"a, <b>\" <sip:10.0.0.1;maddr=h;ob>;q=1,\r\n <sips:h>\r\n",
                "Contact: \"a, <b>\" <sip:@;ob>;q=1,\r\n <sips:@>\r\n",
            ),
            (
                "Contact: <sip:a@10.0.0.1>\nContact : <tel:1>, <sip:[fe80::1]:1>\n",
                "Contact: <sip:a@@>\nContact : <tel:1>, <sip:@>\n",
            ),
        ][..],
    );
    let sdp = select(
        &[
            ("c=IN IP4 10.0.0.1\r\n", "c=IN #\r\n"),
            (
                "o=- 1 2 IN IP6 fe80::1\r\ns=x\r\nc=IN IP4 10.0.0.1\r\n",
                "o=- 1 2 IN #\r\ns=x\r\nc=IN #\r\n",
            ),
            (
                "c=IN IP4 10.0.0.1\nm=x\nc=IN IP4 0.0.0.0\nm=y\nc=IN IP6 fe80::1\n",
                "c=IN #\nm=x\nc=IN IP4 0.0.0.0\nm=y\nc=IN #\n",
            ),
            ("s=x\r\n", "s=x\r\n"),
        ][..],
    );
    let source = select(
        &[
            CLIENT,
            CLIENT6,
            "[1111:2222:3333:4444:5555:6666:7777:8888]:65535",
        ][..],
    );
    let fill = "[a-z]{1,90}";
    let order = select(&["vct", "tvc", "ctv", "cvt", "tcv", "vtc"][..]);
    (contact, sdp, source, fill, order, any::<bool>()).prop_map(|(contact, sdp, source, fill, order, leading)| {
        let message = |contact: &str, sdp: &str, via: &str| {
            let body = format!("v=0\r\n{sdp}{fill}");
            let mut head = String::new();
            for field in order.chars() {
                head += &match field {
                    'v' => format!("Via: SIP/2.0/UDP 192.168.1.5:5060{via};branch=z9hG4bKx\r\n"),
                    'c' => contact.to_owned(),
                    _ => format!("Content-Type: application/sdp\r\nl: {}\r\n", body.len()),
                };
            }
            format!(
                "INVITE sip:b@c SIP/2.0\r\n{head}Max-Forwards: 70\r\nFrom: <sip:a@b>;tag=1\r\nTo: <sip:b@c>\r\n\
                 Call-ID: {fill}\r\nCSeq: 1 INVITE\r\n\r\n{body}"
            )
        };
        let source_address = address(source);
        let ip = source_address.ip();
        let family = if ip.is_ipv6() { "IP6" } else { "IP4" };
        let want = message(
            &contact.1.replace("@>", &format!("{source}>")).replace("@;", &format!("{source};")),
            &sdp.1.replace('#', &format!("{family} {ip}")),
            &format!(";rport={};received={ip}", source_address.port()),
        )
        .replace("@@", "@");
        let leading = if leading { "\r\n" } else { "" };
        (format!("{source}|{leading}{}", message(contact.0, sdp.0, "")), want)
    })
}

/// An edge that mends everything, and one that would see what is left to mend. Filling their lookup tables takes a while.
fn mending_edges() -> [Edge; 2] {
    static TABLES: LazyLock<[Arc<Table>; 2]> = LazyLock::new(|| {
        let by_contact_and_sdp = [
            Indicator::ContactPrivate,
            Indicator::SdpPrivate,
            Indicator::ContactAddress,
            Indicator::Ipv6Local,
        ];
        [
            policy(
                &[Indicator::Received],
                &[Fix::Rport, Fix::Contact, Fix::Sdp],
            ),
            policy(&by_contact_and_sdp, &[Fix::Contact, Fix::Sdp]),
        ]
        .map(|policy| Edge::with_nat(policy, vec![]).table)
    });
    TABLES.clone().map(Edge::with_table)
}

/// What a proxy adds or counts down, taken away.
fn without_our_own(text: &str) -> String {
    let mut lines = text.split_inclusive("\r\n").collect::<Vec<_>>();
    lines.retain(|line| !line.contains(VIP) && !line.contains(VIP6));
    lines
        .concat()
        .replace("Max-Forwards: 69", "Max-Forwards: 70")
        .replace("Max-Forwards:  69", "Max-Forwards: 70")
        .replace(";lb;", ";")
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2_000))]

    #[test]
    fn all_fixes_change_what_they_are_for_and_nothing_else((message, want) in messages()) {
        let (source, message) = message.split_once('|').unwrap();
        let [mut edge, mut second] = mending_edges();
        let sent = edge.send(source, message).expect(Outcome::RequestToPool);
        prop_assert_eq!(without_our_own(&sent.text()), &want[..]);
        prop_assert_eq!(sent.bytes.len() % 2, message.len() % 2, "an even change keeps the sums of the rest");
        let read = sip::read(&sent.bytes).unwrap();
        prop_assert_eq!(read.fault, None);
        prop_assert_eq!(read.body.unwrap().end(), sent.bytes.len());
        // Mended, it is not mended again.
        let again = second.send(source, &sent.bytes);
        prop_assert_eq!(again.verdict.nat.fixed, Fixes::NONE);
        prop_assert!(again.verdict.nat.matched.is_empty(), "{:?}", again.verdict.nat);
    }
}

fn corpus() -> Option<PathBuf> {
    let beside = concat!(env!("CARGO_MANIFEST_DIR"), "/../../shared/corpus");
    let folder = std::env::var_os("SIPLB_CORPUS").map_or_else(|| beside.into(), PathBuf::from);
    folder.join("nat.tsv").is_file().then_some(folder)
}

/// Captured requests with what an independent reader found out about their source, Via and Contact.
#[test]
fn real_requests_are_judged_as_captured() {
    let Some(folder) = corpus() else {
        eprintln!("skipped: no corpus; SIPLB_CORPUS may name one");
        return;
    };
    let table = fs::read_to_string(folder.join("nat.tsv")).unwrap();
    let mut lines = table.lines();
    let names: Vec<_> = lines.next().unwrap().split('\t').collect();
    let indicators = [
        Indicator::Received,
        Indicator::ViaPort,
        Indicator::ContactPrivate,
        Indicator::SourcePrivate,
        Indicator::Ipv6Local,
    ];
    let mut edge = Edge::with_nat(policy(&indicators, &[]), vec![]);
    let mut judged = 0;
    for line in lines {
        let row: Vec<_> = line.split('\t').collect();
        let column = |name: &str| row[names.iter().position(|other| *other == name).unwrap()];
        let bytes = fs::read(folder.join(column("file"))).unwrap();
        let source = match column("src_ip") {
            ip if ip.contains(':') => format!("[{ip}]:{}", column("src_port")),
            ip => format!("{ip}:{}", column("src_port")),
        };
        let sent = edge.send(&source, &bytes);
        if !matches!(sent.verdict.action, Action::Forward { .. }) {
            continue;
        }
        judged += 1;
        let nat = sent.verdict.nat.matched;
        let file = column("file");
        let differs = column("via_differs_from_source");
        // A Via may have been stamped before it was captured.
        let stamped = sip::read(&bytes).unwrap().via.unwrap().received.is_some();
        let address = matches!(differs, "addr" | "addr+port" | "name") || stamped;
        assert_eq!(nat.contains(Indicator::Received), address, "{file}");
        if differs != "name" {
            let port = matches!(differs, "port" | "addr+port");
            assert_eq!(nat.contains(Indicator::ViaPort), port, "{file}");
        }
        // The table does not count loopback as private, but local IPv6 addresses.
        let is_ipv6 = |host: &str| host.contains(':');
        let private = |host: &str, flag: &str| {
            !is_ipv6(host) && (host.starts_with("127.") || column(flag) == "yes")
        };
        let (source, contact) = (column("src_ip"), column("contact_host"));
        let contact_private = private(contact, "contact_private");
        assert_eq!(
            nat.contains(Indicator::ContactPrivate),
            contact_private,
            "{file}"
        );
        let source_private = private(source, "src_private");
        assert_eq!(
            nat.contains(Indicator::SourcePrivate),
            source_private,
            "{file}"
        );
        if is_ipv6(source) {
            let local = column("src_private") == "yes" || column("contact_private") == "yes";
            assert_eq!(nat.contains(Indicator::Ipv6Local), local, "{file}");
        }
    }
    assert!(judged > 0);
    eprintln!("{judged} requests judged");
}
