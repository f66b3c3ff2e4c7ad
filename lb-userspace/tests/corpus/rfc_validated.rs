//! The messages of the RFCs at a listener with `validate: reply`.

use super::{
    edge::{CLIENTS, Edge, Treatment, address},
    folder,
};

/// Those that go on without validation and are answered with 400 with it, and the reason. All others are treated alike.
const REFUSED: &[(&str, &str)] = &[
    // RFC 4475 §3.1.2.14: 400 is reasonable.
    ("rfc4475/badaspec.sip", "invalid_addr_spec"),
    // RFC 4475 §3.1.2.12: an element may refuse it; who validates wants to.
    ("rfc4475/baddate.sip", "invalid_date"),
    // RFC 4475 §3.1.1.8: octets follow the body.
    ("rfc4475/dblreq.sip", "content_length_differs"),
    // RFC 4475 §3.1.2.11: 400.
    ("rfc4475/escruri.sip", "request_uri_with_headers"),
    // RFC 4475 §3.4.1: RFC 2543 syntax should be accepted, but an INVITE without Contact makes no dialog any more
    // (RFC 3261 §8.1.1.8).
    ("rfc4475/inv2543.sip", "missing_contact"),
    // RFC 4475 §3.1.2.13: 400.
    ("rfc4475/regbadct.sip", "invalid_addr_spec"),
    // RFC 5118 §4.2: 400.
    ("rfc5118-lf/ipv6-bad-lf.sip", "invalid_request_uri_host"),
    // The Content-Length of the RFC is that of the form with LF; octets follow.
    ("rfc5118/ipv4-mapped-ipv6.sip", "content_length_differs"),
    ("rfc5118/ipv6-bad.sip", "invalid_request_uri_host"),
    ("rfc5118/mult-ip-in-sdp.sip", "content_length_differs"),
];

#[test]
fn messages_of_the_rfcs() {
    let (mut off, mut on) = (Edge::new(""), Edge::new(", validate: reply"));
    let client = address(CLIENTS[0]);
    let mut refused = Vec::new();
    for message in folder::load(&folder::own()) {
        if !message.category().starts_with("rfc") {
            continue;
        }
        let before = off.send(client, &message.bytes);
        let after = on.send(client, &message.bytes);
        match on.invalid() {
            Some(reason) => {
                assert_eq!(before.treatment, Treatment::Forwarded, "{}", message.file);
                assert_eq!(after.treatment, Treatment::Refused(400), "{}", message.file);
                refused.push((message.file, reason));
            }
            None => {
                assert_eq!(after.treatment, before.treatment, "{}", message.file);
                assert_eq!(after.bytes, before.bytes, "{}", message.file);
            }
        }
    }
    let refused = refused
        .iter()
        .map(|(file, reason)| (file.as_str(), *reason));
    assert_eq!(refused.collect::<Vec<_>>(), REFUSED);
}
