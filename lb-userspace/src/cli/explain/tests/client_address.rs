//! What is shown of what a backend is told.

use super::*;
use crate::cli::output::Terminal;

const REGISTER: &str = "REGISTER sip:example.com SIP/2.0\r\n\
    Via: SIP/2.0/UDP 192.168.1.5:5060;branch=z9hG4bK776asdhds;rport\r\n\
    Max-Forwards: 70\r\n\
    From: <sip:alice@example.com>;tag=1\r\n\
    To: <sip:alice@example.com>\r\n\
    Call-ID: 1\r\n\
    CSeq: 1 REGISTER\r\n\
    \r\n";

/// Text and JSON of a request from `from`.
fn explained(told: &str, text: &str, from: &str) -> (String, Value) {
    let config = CONFIG.replace("name: x,", &format!("name: x, client_address: {told},"));
    let config = config::parse(&config, "t.yaml").unwrap();
    let edge = Edge {
        table: Table::new(&config),
        config,
        notes: vec![],
    };
    let mut scratch = Scratch::new();
    let from = from.parse().unwrap();
    let explanation =
        Explanation::new(&edge, text.as_bytes(), from, ListenerIndex(0), &mut scratch);
    let terminal = Terminal {
        width: 80,
        height: None,
        colour: false,
    };
    let shown = text::text(&edge, &explanation, text.as_bytes(), &scratch, &terminal);
    (shown, serde_json::to_value(&explanation).unwrap())
}

#[test]
fn the_proxy_protocol_is_legible_and_in_the_datagram() {
    let (text, json) = explained("proxy-protocol", REGISTER, "198.51.100.7:40000");
    let wanted = "
Changes (- as it came, + as it is sent)
  + PROXY protocol version 2, 28 bytes: UDP from 198.51.100.7:40000 to 203.0.113.10:5060
  +   0d0a 0d0a 000d 0a51 5549 540a 2112 000c
  +   c633 6407 cb00 710a 9c40 13c4
    REGISTER sip:example.com SIP/2.0
  + Via: SIP/2.0/UDP 203.0.113.10:5060;branch=";
    assert!(text.contains(wanted), "{text}");
    let sent = json["datagram"].as_str().unwrap();
    assert!(
        sent.starts_with("DQoNCgANClFVSVQKIRIADMYzZAfLAHEKnEATxFJFR0lTVEVS"),
        "{sent}"
    );

    // Bytes before the start line go, those of the header come.
    let (text, _) = explained(
        "proxy-protocol",
        &format!("\r\n{REGISTER}"),
        "198.51.100.7:40000",
    );
    assert!(
        text.contains("9c40 13c4\n  - (empty line)\n    REGISTER sip:"),
        "{text}"
    );
    let (text, _) = explained("proxy-protocol-v1", REGISTER, "198.51.100.7:40000");
    assert!(
        text.contains("\n  + PROXY TCP4 198.51.100.7 203.0.113.10 40000 5060\n    REGISTER sip:"),
        "{text}"
    );
}

#[test]
fn header_fields_and_who_forges_them() {
    let told = "{ ip: X-IP, port: X-Port }";
    let (text, _) = explained(told, REGISTER, "198.51.100.7:40000");
    assert!(
        text.contains("\n  + X-IP: 198.51.100.7\n  + X-Port:  40000\n"),
        "{text}"
    );
    let forged = REGISTER.replace("CSeq", &("X-IP: 1\r\n".repeat(5) + "CSeq"));
    let (text, json) = explained(told, &forged, "198.51.100.7:40000");
    assert_eq!(json["reason"], "forged_client_address");
    assert_eq!(json["route"]["pool"], "x");
    assert!(
        text.contains("\n  look at     somebody forges where he comes from"),
        "{text}"
    );
}
