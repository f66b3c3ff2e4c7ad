//! Messages that are treated otherwise than the table of the corpus would have it, each with its reason.

use super::{
    edge::Treatment::{self, *},
    folder,
};

/// What becomes of a request that is valid and not forwarded, or not valid and forwarded.
pub fn request(file: &str) -> Option<Treatment> {
    find(REQUESTS, file)
}

/// What becomes of a response that is valid and not forwarded, or not valid and forwarded.
pub fn response(file: &str) -> Option<Treatment> {
    find(RESPONSES, file)
}

/// True for a fact that is read otherwise.
pub fn fact(file: &str, column: &str) -> bool {
    FACTS.contains(&(file, column))
}

/// True for a request that the slow reader of NAT fixes does not follow.
pub fn mended(file: &str) -> bool {
    MENDED.contains(&file)
}

fn find(list: &[(&str, Treatment)], file: &str) -> Option<Treatment> {
    list.iter()
        .find(|(name, _)| *name == file)
        .map(|(_, treatment)| *treatment)
}

#[test]
fn every_exception_is_for_a_message() {
    let messages = folder::all();
    let has_rest = folder::outside().is_some();
    let treatments = REQUESTS.iter().chain(RESPONSES).map(|(file, _)| file);
    for file in treatments
        .chain(FACTS.iter().map(|(file, _)| file))
        .chain(MENDED)
    {
        let is_there = messages.iter().any(|message| message.file == *file);
        assert!(is_there || !has_rest, "{file}");
    }
}

/// But for the first two, in every case a liberal reading that the RFC lets us have, and that leaves the bytes as they are.
const REQUESTS: &[(&str, Treatment)] = &[
    // RFC 4475 §3.3.5: valid, and asks proxies for extensions that nobody has.
    ("rfc4475/bext01.sip", Refused(420)),
    // RFC 4475 §3.3.11: valid, and may go no further.
    ("rfc4475/zeromf.sip", Refused(200)),
    // RFC 4475 §3.1.2.12: Date not in GMT; an element that has no use for Date should not refuse it.
    ("rfc4475/baddate.sip", Forwarded),
    // RFC 4475 §3.1.2.14: blanks around the URI of To may be ignored.
    ("rfc4475/badaspec.sip", Forwarded),
    // RFC 4475 §3.1.2.11 and §3.1.2.13: header fields in a URI that nothing is routed by; what is in them is not acted on.
    ("rfc4475/escruri.sip", Forwarded),
    ("rfc4475/regbadct.sip", Forwarded),
    // RFC 5118 §4.2: the host of the Request-URI is not used to route, so it need not be readable (RFC 3261 §16.3).
    ("rfc5118/ipv6-bad.sip", Forwarded),
    // A fold in the middle of the Call-ID: it is compared as a whole and passed on.
    ("fixture/osip-sip79.sip", Forwarded),
    // Two display names before the URI of From: URI and tag can be told all the same.
    ("fuzz/osip-sip-malformed9.sip", Forwarded),
    // The version in Via's protocol is any token by the grammar (RFC 3261 §25.1, protocol-version).
    ("protos/c07-0000532.sip", Forwarded),
    ("protos/c07-0000551.sip", Forwarded),
    ("protos/c07-0000553.sip", Forwarded),
    ("protos/c07-0000554.sip", Forwarded),
    ("protos/c07-0000561.sip", Forwarded),
    // A line that ends with LF alone, as old devices write it, ends.
    ("fuzz/fuzz-2006-06-26-2594-f00327.sip", Forwarded),
    ("protos/c07-0002422.sip", Forwarded),
    ("protos/c07-0002425.sip", Forwarded),
];

const RESPONSES: &[(&str, Treatment)] = &[
    // From is broken. A response is routed by its Vias, and nobody could be told (RFC 3261 §16.7).
    ("crafted/suricata-sdp-f00002.sip", Forwarded),
];

const MENDED: &[&str] = &[
    // Contacts that are no URI: the fixes leave alone what cannot be read.
    "protos/c07-0001178.sip",
    "protos/c07-0001195.sip",
    "protos/c07-0001236.sip",
];

const FACTS: &[(&str, &str)] = &[
    // Two tags in To, by a defect of the SIPp scenario. We read neither, for two readers might take different ones.
    ("real/ipv6frag-f00026.sip", "to_uri"),
];
