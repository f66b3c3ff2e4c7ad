//! What each indicator matches, in tables.

use super::*;
use crate::sip;

/// What all indicators together find.
fn found(message: &str, source: &str, more_private: &[&str]) -> Indicators {
    let bytes = message.as_bytes();
    let read = sip::read(bytes).unwrap();
    assert_eq!(read.fault, None, "{message}");
    let private = PrivateNetworks::new(
        more_private
            .iter()
            .map(|text| text.parse().unwrap())
            .collect(),
    );
    let facts = Facts {
        bytes,
        message: &read,
        source: source.parse().unwrap(),
        private: &private,
    };
    let policy = |detect| Policy {
        detect,
        fix: Fixes::NONE,
        ..Policy::default()
    };
    let mut notes = used_notes();
    let all = examine(policy(Indicators::ALL), facts, &mut notes)
        .decision
        .matched;
    // Each by itself finds the same.
    for one in Indicator::ALL {
        let alone = examine(policy(Indicators::of(&[one])), facts, &mut notes);
        assert_eq!(
            alone.decision.matched,
            all.and(Indicators::of(&[one])),
            "{} in {message}",
            one.name()
        );
        assert!(
            !alone.notes.has_contacts
                || one.name().contains("contact")
                || one == Indicator::Ipv6Local
        );
        assert!(!alone.notes.has_sdp || one.name().contains("sdp") || one == Indicator::Ipv6Local);
    }
    assert!(
        examine(policy(Indicators::NONE), facts, &mut notes)
            .decision
            .matched
            .is_empty()
    );
    all
}

/// Whether `indicator` matches each message.
#[track_caller]
fn check(indicator: Indicator, source: &str, cases: impl IntoIterator<Item = (String, bool)>) {
    for (message, want) in cases {
        let found = found(&message, source, &["203.0.113.0/24", "fd00:1::/32"]);
        assert_eq!(
            found.contains(indicator),
            want,
            "{}: {found:?} in {message}",
            indicator.name()
        );
    }
}

#[test]
fn contact_private() {
    check(
        Indicator::ContactPrivate,
        SOURCE,
        [
            ("<sip:a@192.168.1.5>", true),
            ("<sip:a@198.51.100.7>", false),
            ("<sip:a@203.0.113.9>", true),
            ("<sip:a@phone.example.com>", false),
            ("<sip:192.168.1.5@example.com>", false),
            ("<sip:a@[fe80::1]>", false),
            ("<sip:a@[fd00:1::5]>", true),
            ("<sip:a@[::ffff:10.0.0.1]>", true),
            ("<sip:a@0.0.0.0>", false),
            ("*", false),
            ("<tel:+4412345>", false),
            ("<tel:+4412345>, sip:a@10.0.0.1;expires=60", true),
            ("\"<sip:a@10.0.0.1>\" <sip:a@192.0.2.1>", false),
            ("<sip:a@192.0.2.1>, \"x, y\" <sip:a@10.0.0.1>", true),
            ("<sip:a@192.0.2.1>, <broken, <sip:a@10.0.0.1>", false),
        ]
        .map(|(contact, want)| (with_contact(contact), want)),
    );
    check(
        Indicator::ContactPrivate,
        SOURCE,
        [
            ("", false),
            ("Contact:\r\n", false),
            (
                "Contact: <sip:a@192.0.2.1>\r\nm: <sip:a@10.0.0.1>\r\n",
                true,
            ),
            ("m: broken\r\nCONTACT :\r\n <sip:a@10.0.0.1>\r\n", true),
        ]
        .map(|(contacts, want)| (with_contacts(contacts), want)),
    );
}

/// The Via of the source itself, with and without what it may leave out.
#[test]
fn received() {
    check(
        Indicator::Received,
        SOURCE,
        [
            ("198.51.100.7", false),
            ("198.51.100.7:5060;rport", false),
            ("192.168.1.5", true),
            ("192.0.2.1:40000", true),
            ("phone.example.com", true),
            ("198.51.100.7;received=198.51.100.7", true),
            ("198.51.100.7;received", true),
            ("198.51.100.7;maddr=192.0.2.1", true),
            ("192.0.2.1;MADDR=198.51.100.7", false),
            ("198.51.100.7;maddr=host", true),
            ("198.51.100.7;maddr", false),
            (
                "198.51.100.7, SIP/2.0/UDP 192.168.1.5;received=1.2.3.4",
                false,
            ),
        ]
        .map(|(via, want)| (with_via(via), want)),
    );
    check(
        Indicator::Received,
        SOURCE6,
        [
            ("[2001:db8:1::7]", false),
            ("[2001:0DB8:1:0::7]:5060", false),
            ("[2001:db8:1::8]", true),
            ("[2001:db8:1::8];maddr=2001:db8:1::7", false),
            ("[::ffff:198.51.100.7]", true),
        ]
        .map(|(via, want)| (with_via(via), want)),
    );
    let mapped = with_via("[::ffff:198.51.100.7]");
    check(Indicator::Received, SOURCE, [(mapped, false)]);
}

#[test]
fn via_private() {
    check(
        Indicator::ViaPrivate,
        SOURCE,
        [
            ("10.1.2.3", true),
            ("100.64.0.1:5060", true),
            ("203.0.113.1", true),
            ("198.51.100.7", false),
            ("localhost", false),
            ("[fe80::1]", false),
            ("[fd00:1::1]", true),
            ("192.0.2.1;received=10.0.0.1", false),
            ("192.0.2.1, SIP/2.0/UDP 10.0.0.1", false),
        ]
        .map(|(via, want)| (with_via(via), want)),
    );
}

#[test]
fn via_port() {
    let cases = [
        ("192.168.1.5", true),
        ("host:40000", false),
        ("host:5060;rport=40000", true),
    ];
    check(
        Indicator::ViaPort,
        SOURCE,
        cases.map(|(via, want)| (with_via(via), want)),
    );
    let cases = [
        ("192.168.1.5", false),
        ("host:5060", false),
        ("host:5061", true),
    ];
    check(
        Indicator::ViaPort,
        "198.51.100.7:5060",
        cases.map(|(via, want)| (with_via(via), want)),
    );
}

#[test]
fn sdp_private() {
    check(
        Indicator::SdpPrivate,
        SOURCE,
        [
            ("c=IN IP4 192.168.1.5", true),
            ("c=IN IP4 203.0.113.5", true),
            ("c=IN IP4 198.51.100.7", false),
            ("c=IN IP4 phone.example.com", false),
            ("c=IN IP6 fd00:1::1", true),
            ("c=IN IP6 fe80::1", false),
            ("o=- 1 1 IN IP4 10.0.0.1", false),
            // No session address: the first one counts wherever it is.
            ("m=audio 1 RTP/AVP 0\r\nc=IN IP4 10.0.0.1", true),
            (
                "c=IN IP4 192.0.2.1\r\nm=audio 1 RTP/AVP 0\r\nc=IN IP4 10.0.0.1",
                false,
            ),
            // A held stream ends it.
            ("c=IN IP4 0.0.0.0", false),
            (
                "c=IN IP4 0.0.0.0\r\nm=audio 1 RTP/AVP 0\r\nc=IN IP4 10.0.0.1",
                false,
            ),
            ("s=-", false),
        ]
        .map(|(body, want)| (with_sdp(body), want)),
    );
    let body = "v=0\r\nc=IN IP4 10.0.0.1\r\n";
    let multipart = format!(
        "--b\r\nContent-Type: application/isup\r\n\r\nx\r\n--b\r\nContent-Type: application/sdp\r\n\r\n{body}--b--\r\n"
    );
    let of = |content_type: &str, body: &str| {
        request("198.51.100.7", "", &format!("{content_type}\r\n"), body)
    };
    check(
        Indicator::SdpPrivate,
        SOURCE,
        [
            (of("Content-Type: application/sdp", body), true),
            (of("c:application/SDP", body), true),
            (of("Content-Type: text/plain", body), false),
            (of("X: y", body), false),
            (
                of("Content-Type: multipart/mixed; boundary=\"b\"", &multipart),
                true,
            ),
            (
                of("Content-Type: multipart/mixed; boundary=c", &multipart),
                false,
            ),
            (of("Content-Type: application/sdp", ""), false),
        ],
    );
}

#[test]
fn contact_address() {
    check(
        Indicator::ContactAddress,
        SOURCE,
        [
            ("<sip:a@198.51.100.7>", false),
            ("<sip:a@198.51.100.7:9;transport=tcp>", false),
            ("<sip:a@192.168.1.5>", true),
            ("<sip:a@198.51.100.7>, <sip:b@192.0.2.1>", true),
            ("<sip:a@phone.example.com>", true),
            ("<sip:a@[::ffff:198.51.100.7]>", false),
            ("*", false),
            ("<mailto:a@b>", false),
        ]
        .map(|(contact, want)| (with_contact(contact), want)),
    );
    check(
        Indicator::ContactAddress,
        SOURCE,
        [(with_contacts(""), false)],
    );
    check(
        Indicator::ContactAddress,
        SOURCE6,
        [
            ("<sip:a@[2001:DB8:1:0::7]>", false),
            ("<sip:a@[2001:db8:1::8]>", true),
        ]
        .map(|(contact, want)| (with_contact(contact), want)),
    );
}

#[test]
fn contact_port() {
    check(
        Indicator::ContactPort,
        SOURCE,
        [
            ("<sip:a@h:40000>", false),
            ("<sips:a@h:40000>", false),
            ("<sip:a@h>", true),
            ("<sip:a@h:40000>, <sip:a@h:40001>", true),
            ("*", false),
        ]
        .map(|(contact, want)| (with_contact(contact), want)),
    );
    check(Indicator::ContactPort, SOURCE, [(with_contacts(""), false)]);
    for (source, contact) in [
        ("198.51.100.7:5060", "<sip:a@h>"),
        ("198.51.100.7:5061", "sips:a@h"),
    ] {
        check(
            Indicator::ContactPort,
            source,
            [(with_contact(contact), false)],
        );
    }
}

#[test]
fn source_private() {
    for (source, want) in [
        (SOURCE, false),
        ("10.0.0.1:5060", true),
        ("203.0.113.1:5060", true),
        ("[fd00:1::1]:5060", true),
        ("[fe80::1]:5060", false),
    ] {
        check(Indicator::SourcePrivate, source, [(with_via("h"), want)]);
    }
}

#[test]
fn sdp_address() {
    check(
        Indicator::SdpAddress,
        SOURCE,
        [
            ("c=IN IP4 198.51.100.7", false),
            ("c=IN IP4 192.0.2.1", true),
            ("c=IN IP6 2001:db8::1", true),
            ("c=IN IP6 ::ffff:198.51.100.7", false),
            ("c=IN IP4 phone.example.com", false),
            ("c=IN IP4 0.0.0.0", false),
            ("c=IN IP6 ::", false),
            ("c=IN IP4 224.2.1.1/127", false),
            ("o=- 1 1 IN IP4 192.0.2.1", false),
            // That of one media is not looked at.
            ("m=audio 1 RTP/AVP 0\r\nc=IN IP4 192.0.2.1", false),
        ]
        .map(|(body, want)| (with_sdp(body), want)),
    );
}

#[test]
fn ipv6_local() {
    for (source, want) in [
        (SOURCE6, false),
        ("[fe80::1]:5060", true),
        ("[fc00::1]:5060", true),
    ] {
        check(Indicator::Ipv6Local, source, [(with_via("h"), want)]);
    }
    check(
        Indicator::Ipv6Local,
        SOURCE6,
        [
            (with_via("[fd00:2::1]"), true),
            (with_via("[2001:db8::1]"), false),
            (with_contact("<sip:a@[fe80::1]>"), true),
            (with_contact("<sip:a@192.0.2.1>, <sip:a@[fe80::1]>"), true),
            (with_contact("<sip:a@[2001:db8::1]>"), false),
            (with_sdp("c=IN IP6 fe80::1"), true),
            (with_sdp("m=audio 1 RTP/AVP 0\r\nc=IN IP6 fd12::1"), true),
            (
                with_sdp("c=IN IP6 2001:db8::1\r\nm=audio 1 RTP/AVP 0\r\nc=IN IP6 fd12::1"),
                false,
            ),
            (with_sdp("o=- 1 1 IN IP6 fe80::1"), false),
        ],
    );
}

/// The Vias of a response are not its sender's.
#[test]
fn a_response_is_judged_without_its_vias() {
    let response = with_contact("<sip:a@10.0.0.1>")
        .replace("INVITE sip:bob@example.com SIP/2.0", "SIP/2.0 200 OK")
        .replace("UDP 198.51.100.7:40000", "UDP [fe80::1];received=10.0.0.2");
    assert_eq!(
        found(&response, SOURCE, &[]),
        Indicators::of(&[
            Indicator::ContactPrivate,
            Indicator::ContactAddress,
            Indicator::ContactPort
        ])
    );
}

#[test]
fn limits_are_noted() {
    let natted = "<sip:a@10.0.0.1>";
    for (count, beyond) in [(MAX_CONTACTS, false), (MAX_CONTACTS + 1, true)] {
        let contacts = vec!["<sip:a@192.0.2.1>"; count - 1].join(", ");
        let message = with_contact(&format!("{contacts}, {natted}"));
        let read = sip::read(message.as_bytes()).unwrap();
        let facts = Facts {
            bytes: message.as_bytes(),
            message: &read,
            source: SOURCE.parse().unwrap(),
            private: &PrivateNetworks::default(),
        };
        let policy = Policy {
            detect: Indicators::of(&[Indicator::ContactPrivate]),
            fix: Fixes::NONE,
            ..Policy::default()
        };
        let decision = examine(policy, facts, &mut used_notes()).decision;
        assert_eq!(
            (decision.beyond_limits, decision.is_natted()),
            (beyond, !beyond)
        );
    }
}

/// The address that was read last is the source of one message and not of the other.
#[test]
fn what_an_address_is_ends_with_its_message() {
    let mut notes = Notes::default();
    let message = with_contact("<sip:a@198.51.100.7:40000>");
    let read = sip::read(message.as_bytes()).unwrap();
    for (source, elsewhere) in [
        (SOURCE, false),
        ("203.0.113.9:40000", true),
        (SOURCE, false),
    ] {
        let facts = Facts {
            bytes: message.as_bytes(),
            message: &read,
            source: source.parse().unwrap(),
            private: &PrivateNetworks::default(),
        };
        let policy = Policy {
            detect: Indicators::of(&[Indicator::ContactAddress]),
            fix: Fixes::NONE,
            ..Policy::default()
        };
        let decision = examine(policy, facts, &mut notes).decision;
        assert_eq!(decision.is_natted(), elsewhere, "{source}");
    }
}

/// Texts that differ are read each for itself, whatever was read before.
#[test]
fn addresses_that_begin_alike() {
    for (text, private) in [
        ("10.0.0.1", true),
        ("10.0.0.1\0", false),
        ("10.0.0.1\0\0", false),
        ("10.0.0", false),
        ("10.0.0.11", true),
        ("10.0.0.111x", false),
        ("1.10.0.0", false),
    ] {
        let connection = format!("c=IN IP4 {text}\r\nt=0 0\r\na=sendrecv");
        let message = with_sdp(&connection).replace("198.51.100.7:40000", "10.0.0.1");
        let found = found(&message, SOURCE, &[]);
        assert_eq!(found.contains(Indicator::SdpPrivate), private, "{text:?}");
    }
}
