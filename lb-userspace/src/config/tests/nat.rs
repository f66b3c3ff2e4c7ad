//! What is said about NAT policies.

use super::*;
use crate::nat::{Fix, Fixes, Indicator, Indicators, Policy};

#[test]
fn nat_policies() {
    let nat = |text: &str| GOOD.replace("203.0.113.10 }", &format!("203.0.113.10, nat: {text} }}"));
    let config = parse(
        &nat("{ detect: [received, sdp-private], fix: [rport, sdp] }").replace(
            "{ pool: switches }",
            "{ pool: switches, nat: { detect: [ipv6-local] } }\nnat: { private: [192.0.0.0/24, 'fd00::/8'] }",
        ),
        "f",
    )
    .unwrap();
    assert_eq!(
        config.listeners[0].nat,
        Policy {
            detect: Indicators::of(&[Indicator::Received, Indicator::SdpPrivate]),
            fix: Fixes::of(&[Fix::Rport, Fix::Sdp]),
            ..Policy::default()
        }
    );
    assert_eq!(
        config.routes[0].nat,
        Some(Policy {
            detect: Indicators::of(&[Indicator::Ipv6Local]),
            fix: Fixes::NONE,
            ..Policy::default()
        })
    );
    let private = ["192.0.0.0/24", "fd00::/8"].map(|text| text.parse().unwrap());
    assert_eq!(config.nat.private, private);
    // A rule can switch it off.
    let off = GOOD.replace(
        "{ pool: switches }",
        "{ pool: switches, nat: { detect: [] } }",
    );
    let off = parse(&off, "f").unwrap();
    assert_eq!(off.routes[0].nat, Some(Policy::default()));
    assert_eq!(off.listeners[0].nat, Policy::default());

    for (text, problem) in [
        (
            "{ detect: [recieved] }",
            "4:60: listeners[0].nat.detect[0]: \"recieved\" is not an indicator; did you mean received?",
        ),
        (
            "{ detect: [received, private-contact] }",
            "4:70: listeners[0].nat.detect[1]: \"private-contact\" is not an indicator; did you mean contact-private?",
        ),
        (
            "{ detect: [CONTACT_PORT] }",
            "4:60: listeners[0].nat.detect[0]: \"CONTACT_PORT\" is not an indicator; did you mean contact-port?",
        ),
        (
            "{ detect: [received], fix: [everything] }",
            "4:77: listeners[0].nat.fix[0]: \"everything\" is not a fix; write rport, contact, contact-alias or sdp",
        ),
        (
            "{ detect: [19] }",
            "4:60: listeners[0].nat.detect[0]: 19 is not an indicator; write its name",
        ),
        (
            "{ detect: [received, received] }",
            "4:70: listeners[0].nat.detect[1]: \"received\" is in the list already; remove it",
        ),
        (
            "{ fix: [sdp] }",
            "4:56: listeners[0].nat.fix: needs something in detect beside it, which tells that a client is behind a \
             NAT, such as \"detect: [received]\"",
        ),
        (
            "{ detect: [received], fix: [contact, contact-alias] }",
            "4:76: listeners[0].nat.fix: contact and contact-alias do not go together; contact throws away what \
             contact-alias keeps",
        ),
        (
            "{}",
            "4:49: listeners[0].nat: is empty; write detect and, where needed, fix",
        ),
        (
            "{ detect: [received], fixes: [sdp] }",
            "4:71: listeners[0].nat.fixes: this key is not known; did you mean fix?",
        ),
    ] {
        check_text(&nat(text), &[&format!("f:{problem}")]);
    }
    for (network, column) in [("10.0.0.1/8", 18), ("10.0.0.0", 18), ("fd00::/129", 18)] {
        check(
            "control: {}",
            &format!("nat: {{ private: ['{network}'] }}"),
            &[&format!(
                "f:11:{column}: nat.private[0]: \"{network}\" is not a network; write one such as 192.0.0.0/24 or \
                 \"fd00::/8\", with no bits set beyond the prefix"
            )],
        );
    }
}
