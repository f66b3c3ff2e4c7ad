//! The IPv6 torture messages of RFC 5118, as far as they are in the corpus. The archive of the RFC has LF line ends and
//! no right Content-Length; the forms here have CRLF, and `-clfix` the right number.

use lb_userspace::sip;

use super::{
    rfc::{forwarded, message, refused},
    slow,
};

/// §4.2: no brackets around the address in the Request-URI. An element that needs the URI answers 400. Where the
/// request goes does not depend on it, so it goes on as it is (RFC 3261 §16.3 step 1 asks for well-formed what the
/// proxy uses).
#[test]
fn ipv6_bad() {
    forwarded("rfc5118/ipv6-bad");
    forwarded("rfc5118-lf/ipv6-bad-lf");
}

/// §4.4: a port behind the brackets.
#[test]
fn port_unambiguous() {
    forwarded("rfc5118/port-unambiguous");
    forwarded("rfc5118-lf/port-unambiguous-lf");
}

/// §4.5: `received` in brackets, which the grammar does not have: to be accepted. What the client wrote there is
/// replaced by where it came from.
#[test]
fn via_received_param_with_delim() {
    for name in [
        "rfc5118/via-received-param-with-delim",
        "rfc5118-lf/via-received-param-with-delim-lf",
    ] {
        for sent in forwarded(name) {
            let left = slow::read(&sent.bytes);
            let client = slow::SlowVia::read(&left.named("via").nth(1).expect("a Via").value);
            assert!(
                !client
                    .parameter("received")
                    .expect("received")
                    .contains('[')
            );
        }
    }
}

/// §4.6: IPv6 addresses in SDP. With the Content-Length of the RFC, which says more than there is, it is no message
/// (RFC 3261 §18.3: 400).
#[test]
fn ipv6_in_sdp() {
    forwarded("rfc5118/ipv6-in-sdp-clfix");
    refused("rfc5118/ipv6-in-sdp", 400);
    refused("rfc5118-lf/ipv6-in-sdp-lf", 400);
}

/// §4.8: IPv4 and IPv6 in SDP. The wire form has a Content-Length that is too small: what is behind it is left alone
/// (RFC 3261 §18.3) and not cut off either. With LF it is too large.
#[test]
fn mult_ip_in_sdp() {
    forwarded("rfc5118/mult-ip-in-sdp-clfix");
    forwarded("rfc5118/mult-ip-in-sdp");
    refused("rfc5118-lf/mult-ip-in-sdp-lf", 400);
}

/// §4.9: an IPv4 address mapped into IPv6, in Via and in SDP.
#[test]
fn ipv4_mapped_ipv6() {
    forwarded("rfc5118/ipv4-mapped-ipv6-clfix");
    forwarded("rfc5118/ipv4-mapped-ipv6");
    forwarded("rfc5118-lf/ipv4-mapped-ipv6-lf");
}

/// §4.10: an IPv4 part behind two colons. The archive lacks the empty line.
#[test]
fn ipv6_correct_abnf_2_colons() {
    let name = "rfc5118/ipv6-correct-abnf-2-colons";
    forwarded(name);
    let bytes = message(name);
    let read = sip::read(&bytes).expect("SIP");
    let to = read.to_uri().expect("a URI of To");
    assert_eq!(to.of(&bytes), b"sip:user@[2001:db8::192.0.2.1]");
    refused("rfc5118-lf/ipv6-correct-abnf-2-colons-lf", 400);
}
