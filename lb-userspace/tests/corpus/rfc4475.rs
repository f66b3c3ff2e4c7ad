//! The torture messages of RFC 4475 by the names and in the order that the RFC has, with what a stateless proxy owes
//! them. The RFC's own words are about elements of all kinds.

use lb_userspace::sip::{self, Method};

use super::{
    edge::{Edge, Treatment, VIPS, address},
    rfc::{comes_back, dropped, forwarded, message, never_comes_back, refused},
    slow,
    way_back::WayBack,
};

fn message_of(name: &str) -> Vec<u8> {
    message(&format!("rfc4475/{name}"))
}

/// §3.1.1.1: all elements should treat it as well formed. Folding, blanks before colons and inside Via, compact forms.
#[test]
fn wsinv() {
    for sent in forwarded("rfc4475/wsinv") {
        let left = slow::read(&sent.bytes);
        // 0068 becomes 67, in whatever form.
        let hops = left.named("max-forwards").next().expect("Max-Forwards");
        assert!(hops.value.ends_with(b"67"), "{}", sent.text());
    }
}

/// §3.1.1.2: well formed. The method is an unknown one: forwarded like any.
#[test]
fn intmeth() {
    forwarded("rfc4475/intmeth");
}

/// §3.1.1.3: well formed. Escapes are not decoded.
#[test]
fn esc01() {
    forwarded("rfc4475/esc01");
}

/// §3.1.1.4: well formed. An escaped NUL is a part of the user's name and ends nothing.
#[test]
fn escnull() {
    forwarded("rfc4475/escnull");
}

/// §3.1.1.5: well formed. `RE%47IST%45R` is not REGISTER and `C%6Fntact` is not Contact: names have no escapes.
#[test]
fn esc02() {
    forwarded("rfc4475/esc02");
    let bytes = message_of("esc02");
    let read = sip::read(&bytes).expect("SIP");
    assert_eq!(read.method(), Some(Method::from_name(b"NEWMETHOD")));
    assert_ne!(read.method(), Some(Method::from_name(b"REGISTER")));
    let contacts = read.contacts.iter().flatten().count();
    let slow = slow::read(&bytes);
    assert_eq!(contacts, slow.named("contact").count());
}

/// §3.1.1.6: well formed. No blank between the display name and `<`.
#[test]
fn lwsdisp() {
    forwarded("rfc4475/lwsdisp");
    let bytes = message_of("lwsdisp");
    let read = sip::read(&bytes).expect("SIP");
    let uri = read.from_uri().expect("a URI");
    assert_eq!(uri.of(&bytes), b"sip:caller@example.com");
}

/// §3.1.1.7: well formed. Long values, and 34 Via values that stay in order.
#[test]
fn longreq() {
    for sent in forwarded("rfc4475/longreq") {
        assert_eq!(slow::read(&sent.bytes).named("via").count(), 35);
    }
}

/// §3.1.1.8: well formed. Content-Length ends the request, and the one that follows is not acted on (RFC 3261 §18.3).
#[test]
fn dblreq() {
    for sent in forwarded("rfc4475/dblreq") {
        assert_eq!(slow::read(&sent.bytes).named("via").count(), 2);
    }
    let bytes = message_of("dblreq");
    let read = sip::read(&bytes).expect("SIP");
    assert_eq!(read.method(), Some(Method::Register));
    assert!(read.body.expect("a body").is_empty());
}

/// §3.1.1.9: well formed. The user part has a semicolon and an escaped `@`: the host comes after the other one.
#[test]
fn semiuri() {
    forwarded("rfc4475/semiuri");
}

/// §3.1.1.10: well formed. Transports in Via, known and unknown.
#[test]
fn transports() {
    forwarded("rfc4475/transports");
}

/// §3.1.1.11: well formed. A multipart body with binary parts and NUL octets.
#[test]
fn mpart01() {
    forwarded("rfc4475/mpart01");
}

/// §3.1.1.12: well formed. A reason phrase in UTF-8 is passed on as it is (RFC 3261 §7.2).
#[test]
fn unreason() {
    comes_back("rfc4475/unreason");
}

/// §3.1.1.13: well formed. A status line without reason phrase.
#[test]
fn noreason() {
    comes_back("rfc4475/noreason");
}

/// §3.1.2.1: should be answered with 400, but a Via that cannot be read does not say to whom, and it is what a response
/// would have to carry (RFC 3261 §8.2.6.2): dropped.
#[test]
fn badinv01() {
    dropped("rfc4475/badinv01");
}

/// §3.1.2.2: a Content-Length beyond the datagram is answered with 400.
#[test]
fn clerr() {
    refused("rfc4475/clerr", 400);
}

/// §3.1.2.3: a negative Content-Length is answered with an error.
#[test]
fn ncl() {
    refused("rfc4475/ncl", 400);
}

/// §3.1.2.4: a request with scalars out of range is answered with 400. Max-Forwards is one that proxies count with.
#[test]
fn scalar02() {
    refused("rfc4475/scalar02", 400);
}

/// §3.1.2.5: a response with scalars out of range is discarded.
#[test]
fn scalarlg() {
    never_comes_back("rfc4475/scalarlg");
}

/// §3.1.2.6: a quote that stays open is answered with 400.
#[test]
fn quotbal() {
    refused("rfc4475/quotbal", 400);
}

/// §3.1.2.7: angle brackets around the Request-URI are answered with 400.
#[test]
fn ltgtruri() {
    refused("rfc4475/ltgtruri", 400);
}

/// §3.1.2.8: a blank inside the Request-URI is answered with 400.
#[test]
fn lwsruri() {
    refused("rfc4475/lwsruri", 400);
}

/// §3.1.2.9: more than one blank in the start line may be refused.
#[test]
fn lwsstart() {
    refused("rfc4475/lwsstart", 400);
}

/// §3.1.2.10: a blank after the start line may be refused.
#[test]
fn trws() {
    refused("rfc4475/trws", 400);
}

/// §3.1.2.11: header fields in the Request-URI. 400 is what validation says; without it they are left alone: the Route in
/// them leads nobody.
#[test]
fn escruri() {
    for sent in forwarded("rfc4475/escruri") {
        assert_eq!(slow::read(&sent.bytes).named("route").count(), 0);
    }
}

/// §3.1.2.12: Date is in another zone. An element should not refuse it for a header field that it has no use for.
#[test]
fn baddate() {
    forwarded("rfc4475/baddate");
}

/// §3.1.2.13: a Contact with header fields and without the brackets that they need: the registrar's to refuse, or
/// validation's.
#[test]
fn regbadct() {
    forwarded("rfc4475/regbadct");
}

/// §3.1.2.14: blanks inside the angle brackets of To. 400 is reasonable, and so is to ignore them: a proxy that has no
/// use for To passes them on.
#[test]
fn badaspec() {
    forwarded("rfc4475/badaspec");
}

/// §3.1.2.15: a display name with characters that would have to be quoted: 400 is always reasonable. The RFC's archive
/// lacks the empty line; with it the name alone is at fault.
#[test]
fn baddn() {
    refused("rfc4475/baddn", 400);
    refused("rfc4475/baddn-crlf", 400);
}

/// §3.1.2.16: version 7.0, in the start line and in Via, is answered with 505.
#[test]
fn badvers() {
    refused("rfc4475/badvers", 505);
}

/// §3.1.2.17: CSeq names another method than the start line: 400.
#[test]
fn mismatch01() {
    refused("rfc4475/mismatch01", 400);
}

/// §3.1.2.18: CSeq names another method, and the one of the start line is unknown. 501 is for elements that care for
/// the method; a proxy answers 400.
#[test]
fn mismatch02() {
    refused("rfc4475/mismatch02", 400);
}

/// §3.1.2.19: a response code beyond all numbers is dropped.
#[test]
fn bigcode() {
    never_comes_back("rfc4475/bigcode");
}

/// §3.2.1: the branch is the magic cookie and nothing else. A proxy may compare as RFC 2543 had it: our branch comes
/// from more than theirs, so two such requests do not become one transaction.
#[test]
fn badbranch() {
    let branch = |sent: &[u8]| {
        let read = slow::read(sent);
        let top = read.top_via().expect("a Via").to_vec();
        let via = slow::SlowVia::read(&top);
        via.parameter("branch").expect("a branch").to_owned()
    };
    let first = forwarded("rfc4475/badbranch").swap_remove(0);
    let other = String::from_utf8(message_of("badbranch")).expect("text");
    let other = other.replace("badbranch.", "another.");
    let second = Edge::new("").send(address(super::edge::CLIENTS[0]), other.as_bytes());
    assert_eq!(second.treatment, Treatment::Forwarded);
    assert_ne!(branch(&first.bytes), branch(&second.bytes));
}

/// §3.3.1: without From, To and Call-ID: 400. What is missing is not made up.
#[test]
fn insuf() {
    for sent in refused("rfc4475/insuf", 400) {
        let reply = slow::read(&sent.bytes);
        assert_eq!(reply.named("from").count(), 0, "{}", sent.text());
        assert_eq!(reply.named("call-id").count(), 0, "{}", sent.text());
    }
}

/// §3.3.2: a scheme that nobody knows; see `novelsc`.
#[test]
fn unkscm() {
    forwarded("rfc4475/unkscm");
}

/// §3.3.3: a scheme that nobody knows. RFC 3261 §16.3 step 2 has a proxy answer 416 when it cannot use the URI; we send
/// to the pool whatever the URI (§16.5: the target set is ours to choose), and the server there says whether it can. A
/// list of schemes would keep emergency calls (`urn:service:sos`, RFC 5031) from servers that know more of them.
#[test]
fn novelsc() {
    forwarded("rfc4475/novelsc");
}

/// §3.3.4: schemes that nobody knows in From, To and Contact are none of a proxy's business.
#[test]
fn unksm2() {
    forwarded("rfc4475/unksm2");
}

/// §3.3.5: a proxy answers 420 to an extension in Proxy-Require that it does not know (RFC 3261 §16.3 step 5), and says
/// which. What is in Require alone is for the server.
#[test]
fn bext01() {
    for sent in refused("rfc4475/bext01", 420) {
        let reply = slow::read(&sent.bytes);
        let unsupported = reply.named("unsupported").next().expect("what is not");
        assert_eq!(
            unsupported.value,
            b"noProxiesSupportThis, norDoAnyProxiesSupportThis"
        );
    }
}

/// §3.3.6: a body of a type that nobody knows is for the server.
#[test]
fn invut() {
    forwarded("rfc4475/invut");
}

/// §3.3.7: an authorization scheme that nobody knows is for the registrar.
#[test]
fn regaut01() {
    forwarded("rfc4475/regaut01");
}

/// §3.3.8: header fields that there must be one of, repeated with other values: 400.
#[test]
fn multi01() {
    refused("rfc4475/multi01", 400);
}

/// §3.3.9: two Content-Length header fields that differ: 400.
#[test]
fn mcl01() {
    refused("rfc4475/mcl01", 400);
}

/// §3.3.10: whoever sent the request of this response lives at a broadcast address. The proxy of the top Via must not
/// send it there: only a Via that our MAC vouches for is followed. Below that one it is not ours to read.
#[test]
fn bcast() {
    comes_back("rfc4475/bcast");

    let bytes = message_of("bcast");
    let mut edge = Edge::new("");
    let way_back = WayBack::new(&mut edge, &bytes).expect("a way back");
    let arriving = String::from_utf8(way_back.arriving).expect("text");
    let as_our_own = arriving.replace("Via: SIP/2.0/UDP 192.0.2.198;branch=z9hG4bK1324923\r\n", "");
    assert_ne!(arriving, as_our_own);
    let sent = edge.send(address(VIPS[0]), as_our_own.as_bytes());
    assert_eq!(sent.treatment, Treatment::Dropped, "{:?}", sent.to);
}

/// §3.3.11: Max-Forwards is 0. An OPTIONS is answered in the place of whoever it is for (RFC 3261 §11); anything else
/// with 483.
#[test]
fn zeromf() {
    refused("rfc4475/zeromf", 200);
    let text = String::from_utf8(message_of("zeromf")).expect("text");
    let other = text.replace("OPTIONS", "MESSAGE");
    let sent = Edge::new("").send(address(super::edge::CLIENTS[0]), other.as_bytes());
    assert_eq!(sent.treatment, Treatment::Refused(483), "{}", sent.text());
}

/// §3.3.12: an unknown parameter of a Contact without brackets belongs to the header field, and is for the registrar.
#[test]
fn cparam01() {
    forwarded("rfc4475/cparam01");
}

/// §3.3.13: an unknown parameter of the Contact URI is for the registrar.
#[test]
fn cparam02() {
    forwarded("rfc4475/cparam02");
}

/// §3.3.14: an escaped Route inside the Contact URI is not a Route.
#[test]
fn regescrt() {
    forwarded("rfc4475/regescrt");
}

/// §3.3.15: an Accept that no answer to the offer can meet is for the server (406).
#[test]
fn sdp01() {
    forwarded("rfc4475/sdp01");
}

/// §3.4.1: RFC 2543 syntax, no branch, no tag, no Max-Forwards: should be accepted. It gets a Max-Forwards.
#[test]
fn inv2543() {
    for sent in forwarded("rfc4475/inv2543") {
        let left = slow::read(&sent.bytes);
        assert_eq!(left.named("max-forwards").count(), 1);
    }
}
