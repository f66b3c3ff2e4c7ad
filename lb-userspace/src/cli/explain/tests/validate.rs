//! What is said of a request that is not well-formed.

use super::*;
use crate::cli::output::Terminal;

const REGISTER: &str = "REGISTER sip:example.com SIP/2.0\r\n\
    Via: SIP/2.0/UDP 192.168.1.5:5060;branch=z9hG4bK776asdhds;rport\r\n\
    Max-Forwards: 70\r\n\
    From: <sip:alice@example.com>;tag=1\r\n\
    To: <sip:alice@example.com>\r\n\
    Call-ID: 1\r\n\
    CSeq: 1 REGISTER\r\n\
    Contact: *\r\n\
    \r\n";

#[test]
fn the_reason_is_named() {
    for (mode, verdict, first) in [
        ("off", "forward", None),
        (
            "header",
            "forward",
            Some("+ X-Validate-Fail:  invalid_star_contact"),
        ),
        (
            "reply",
            "reply",
            Some("SIP/2.0 400 Contact * not allowed here"),
        ),
    ] {
        let validate = format!("203.0.113.10, validate: {mode}");
        let config = config::parse(&CONFIG.replace("203.0.113.10", &validate), "t.yaml").unwrap();
        let edge = Edge {
            table: Table::new(&config),
            config,
            notes: vec![],
        };
        let terminal = Terminal {
            width: 80,
            height: None,
            colour: false,
        };
        let mut scratch = Scratch::new();
        let from = "198.51.100.7:40000".parse().unwrap();
        let payload = REGISTER.as_bytes();
        let explanation = Explanation::new(&edge, payload, from, ListenerIndex(0), &mut scratch);
        let text = super::super::text::text(&edge, &explanation, payload, &scratch, &terminal);
        let json = serde_json::to_value(&explanation).unwrap();
        assert_eq!(json["verdict"], verdict);
        let Some(first) = first else {
            assert_eq!(json["validate"], Value::Null);
            assert!(!text.contains("not well-formed"), "{text}");
            continue;
        };
        assert_eq!(json["validate"]["reason"], "invalid_star_contact");
        assert!(
            text.contains("not well-formed  invalid_star_contact\n"),
            "{text}"
        );
        assert!(text.contains(first), "{text}");
    }
}
