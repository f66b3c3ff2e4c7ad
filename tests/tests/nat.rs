//! Calls of a phone behind a real NAT (nftables masquerade, with ports of its own choice): mended so that they work, and
//! to the bytes as they should be.

use std::{net::SocketAddr, time::Duration};

use siplb_lab::{
    Family, Lab, Shape, Siplb, can_run,
    capture::{Capture, Checksum},
    siplb::{DataPath, Options, Totals},
    sipp::{Message, Plan, Scenario, Sipp, Statistics},
};

const CALLS: u64 = 50;
/// What the phone believes to be.
const PHONE: &str = "192.168.1.2";
/// What everybody else sees.
const VISIBLE: &str = "198.51.100.2";

#[test]
fn contact_and_sdp_over_native_af_xdp() {
    contact_and_sdp(DataPath::Native);
}

#[test]
fn contact_and_sdp_over_kernel_sockets() {
    contact_and_sdp(DataPath::Socket);
}

#[test]
fn an_alias_over_native_af_xdp() {
    alias(DataPath::Native);
}

#[test]
fn an_alias_over_kernel_sockets() {
    alias(DataPath::Socket);
}

/// Without `rport` in the phone's Via, no response would find it: its router knows another port.
#[test]
fn without_fixes_no_call_works() {
    if !can_run() {
        return;
    }
    let played = play(
        "{ detect: [received] }",
        "uas_peer_bye",
        DataPath::Socket,
        1,
    );
    assert_eq!(played.calls.successful, 0, "{:?}", played.calls);
    let totals = played.totals;
    assert!(totals.counter("nat_received") > 0, "{totals:#?}");
    assert_eq!(totals.counter("nat_fix_rport"), 0, "{totals:#?}");
}

fn contact_and_sdp(data_path: DataPath) {
    if !can_run() {
        return;
    }
    let policy = "{ detect: [received, contact-private, sdp-private], fix: [rport, contact, sdp] }";
    let played = play(policy, "uas_peer_bye", data_path, CALLS);
    played.all_succeed();
    let phone = source(&played.at_server);
    let mut with_sdp = 0;
    for message in played.at_server.iter().filter(|message| !message.sent) {
        let text = &message.text;
        if let Some(contact) = message.field("Contact") {
            assert_eq!(contact, format!("<sip:caller@{phone}>"), "{text}");
        }
        let (_, body) = text.split_once("\r\n\r\n").expect(text);
        if body.contains("v=0") {
            with_sdp += 1;
            assert!(!body.contains(PHONE), "{text}");
            assert_eq!(
                body.matches(&format!(" IN IP4 {VISIBLE}\r\n")).count(),
                1,
                "{text}"
            );
            assert!(body.contains(&format!("c=IN IP4 {VISIBLE}\r\n")), "{text}");
            // SIPp's log ends each message with a line end.
            let length: usize = message
                .field("Content-Length")
                .expect(text)
                .parse()
                .expect(text);
            assert!(
                (length..=length + 2).contains(&body.len()),
                "{length} of {}: {text}",
                body.len()
            );
        }
    }
    // The INVITE, and the 200 to the server's INVITE.
    assert_eq!(with_sdp, 2 * CALLS);

    let totals = played.totals;
    let invites_and_200s = 2 * CALLS;
    for (counter, wanted) in [
        // INVITE, ACK, 200 to INVITE; and not the 200 to BYE, which has no Contact.
        ("nat_matched", 3 * CALLS),
        ("nat_received", 2 * CALLS),
        ("nat_contact_private", invites_and_200s),
        ("nat_sdp_private", invites_and_200s),
        ("nat_via_port", 0),
        ("nat_fix_rport", 2 * CALLS),
        ("nat_fix_contact", invites_and_200s),
        ("nat_fix_sdp", invites_and_200s),
        ("nat_fix_contact_alias", 0),
        ("nat_beyond_limits", 0),
    ] {
        assert_eq!(totals.counter(counter), wanted, "{counter}: {totals:#?}");
    }
}

fn alias(data_path: DataPath) {
    if !can_run() {
        return;
    }
    let policy = "{ detect: [received, contact-private], fix: [rport, contact-alias] }";
    let played = play(policy, "uas_peer_bye_routeless", data_path, CALLS);
    played.all_succeed();
    let invites = played
        .at_server
        .iter()
        .filter(|message| message.sent && message.kind() == "INVITE");
    assert_eq!(invites.count() as u64, CALLS);
    for message in &played.at_server {
        let text = &message.text;
        assert_eq!(message.field("Route"), None, "{text}");
        if message.sent && matches!(message.kind().as_str(), "INVITE" | "BYE") {
            let phone = format!("sip:caller@{PHONE}:5061;lba=");
            let uri = text.split(' ').nth(1).expect(text);
            assert!(uri.starts_with(&phone), "{text}");
        }
        if !message.sent && message.kind() == "INVITE" {
            assert!(
                message
                    .field("Contact")
                    .expect(text)
                    .starts_with(&format!("<sip:caller@{PHONE}:5061;lba="))
            );
            assert!(text.contains(&format!("c=IN IP4 {PHONE}\r\n")), "{text}");
        }
    }
    // The phone gets back what it wrote.
    let mut requests = 0;
    for message in played.at_phone.iter().filter(|message| !message.sent) {
        if !message.text.starts_with("SIP/2.0") {
            requests += 1;
            let start = format!("{} sip:caller@{PHONE}:5061 SIP/2.0\r\n", message.kind());
            assert!(message.text.starts_with(&start), "{}", message.text);
        }
    }
    assert_eq!(requests, 3 * CALLS, "INVITE, ACK and BYE");
    let totals = played.totals;
    assert_eq!(
        totals.counter("nat_fix_contact_alias"),
        2 * CALLS,
        "{totals:#?}"
    );
    assert_eq!(totals.counter("nat_fix_contact"), 0, "{totals:#?}");
    assert_eq!(
        totals.outcome("request_to_client"),
        3 * CALLS,
        "{totals:#?}"
    );
}

/// What came of the calls.
struct Played {
    calls: Statistics,
    errors: String,
    at_phone: Vec<Message>,
    at_server: Vec<Message>,
    totals: Totals,
}

impl Played {
    fn all_succeed(&self) {
        let calls = &self.calls;
        assert_eq!(
            (calls.successful, calls.failed, calls.retransmissions),
            (CALLS, 0, 0),
            "{calls:#?}\n{}",
            self.errors
        );
    }
}

/// The phone's address and port as everybody else sees it: stamped into its Via. It has one socket, so it has one port.
fn source(at_server: &[Message]) -> SocketAddr {
    let invite = at_server
        .iter()
        .find(|message| !message.sent)
        .expect("an INVITE");
    let via = invite.fields("Via").nth(1).expect(&invite.text);
    let value = |name: &str| {
        let value = via
            .split(name)
            .nth(1)
            .and_then(|rest| rest.split(';').next());
        value.expect(via)
    };
    let address = SocketAddr::new(
        value("received=").parse().expect(via),
        value("rport=").parse().expect(via),
    );
    assert_eq!(address.ip().to_string(), VISIBLE);
    assert!((40_000..50_000).contains(&address.port()), "{via}");
    address
}

/// Plays calls of the phone, whose server sends a re-INVITE and the BYE.
fn play(policy: &str, server: &str, data_path: DataPath, calls: u64) -> Played {
    let lab = Lab::new(Shape::Home, 1).expect("a lab");
    let options = Options {
        families: vec![Family::V4],
        weights: vec![1],
        nat: policy.into(),
        ..Options::new(data_path)
    };
    let mut siplb = Siplb::start(&lab, &options).expect("siplb");
    let capture = Capture::start(&lab, &lab.servers, "eth0").expect("a capture");
    let router = lab.router.as_ref().expect("a router");
    let capture_outside = Capture::start(&lab, router, "edge").expect("a capture");

    let plan = Plan::server(Scenario::new(server), lab.server(Family::V4, 0)).logging();
    let mut server = Sipp::start(&lab, &lab.servers, "server", &plan).expect("a server");
    let local = (lab.client_address(Family::V4), 5061).into();
    let scenario = Scenario::new("uac_peer_bye");
    let plan = Plan::caller(scenario, local, lab.vip(Family::V4), calls, 25).logging();
    let mut phone = Sipp::start(&lab, &lab.client, "phone", &plan).expect("a phone");
    let statistics = phone.finish(Duration::from_secs(60)).expect("calls");
    let errors = format!("{}\n{}", phone.errors(), server.errors());
    server.stop().expect("an end");

    let vip = lab.vip(Family::V4).ip().to_string();
    for capture in [capture, capture_outside] {
        let packets = capture.stop().expect("packets");
        let ours = packets.iter().filter(|packet| packet.source == vip);
        assert!(ours.clone().count() as u64 >= calls);
        for packet in ours {
            assert_eq!(packet.ip_checksum, Some(Checksum::Good), "{packet:?}");
            assert_eq!(packet.udp_checksum, Some(Checksum::Good), "{packet:?}");
            assert!(packet.is_sip && !packet.malformed, "{packet:?}");
        }
    }
    let totals = siplb
        .settled("all datagrams to be decided", |totals| {
            totals.received() == totals.decided()
        })
        .expect("counters that add up");
    siplb.stop().expect("an ordinary end");
    Played {
        calls: statistics,
        errors,
        at_phone: phone.messages().expect("messages"),
        at_server: server.messages().expect("messages"),
        totals,
    }
}
