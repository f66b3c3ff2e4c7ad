//! Validation: what is valid passes all checks, what is not is refused, and a mark is all that `header` changes.

use lb_userspace::validate::{MARK, Reason};

use super::{
    edge::{CLIENTS, Edge, Treatment, address},
    folder::{self, Kind, Valid},
};

/// Valid by the rules of the corpus, which are those of RFC 3261 that need no judgement, and not well-formed all the
/// same: the first reason.
#[rustfmt::skip]
const NOT_WELL_FORMED: &[(&str, Reason)] = &[
    // RFC 3261 §16.3 has a proxy take a request without Max-Forwards, and RFC 4475 §3.4.1 hopes for it; OpenSIPS refuses it.
    ("real/sip-call-rtp-g711-f00001.sip", Reason::MissingMaxForwards),
    ("real/sip-call-rtp-g711-f00517.sip", Reason::MissingMaxForwards),
    ("real/sip-call-rtp-g711-f02964.sip", Reason::MissingMaxForwards),
    ("real/sip-isa-f00006.sip", Reason::MissingMaxForwards),
    ("real/sip-wireshark-f00001.sip", Reason::MissingMaxForwards),
    ("real/sip-wireshark-f00003.sip", Reason::MissingMaxForwards),
    ("real/sipwise-incoming-shared-line-c00-m001.sip", Reason::MissingMaxForwards),
    ("real/sipwise-incoming-shared-line-c01-m001.sip", Reason::MissingMaxForwards),
    ("fixture/kamailio-message03.sip", Reason::MissingMaxForwards),
    ("fixture/kamailio-msbye.sip", Reason::MissingMaxForwards),
    ("fixture/kamailio-register.sip", Reason::MissingMaxForwards),
    ("fixture/kamailio-register02.sip", Reason::MissingMaxForwards),
    ("fixture/kamailio-register03.sip", Reason::MissingMaxForwards),
    ("fixture/kamailio-route.sip", Reason::MissingMaxForwards),
    ("fixture/pj-sip-auth-digest.sip", Reason::MissingMaxForwards),
    ("fixture/pj-sip-replaces-refer.sip", Reason::MissingMaxForwards),
    // RFC 2543 had no need of Contact, nor of Max-Forwards.
    ("rfc4475/inv2543.sip", Reason::MissingContact),
    // UPDATE without Contact, by a SIPp scenario (RFC 3311 §4 has it mandatory).
    ("real/ipv6frag-f00012.sip", Reason::MissingContact),
    ("real/ipv6frag-f00013.sip", Reason::MissingContact),
    ("real/ipv6frag-f00022.sip", Reason::MissingContact),
    ("real/ipv6frag-f00023.sip", Reason::MissingContact),
    // `o=` with an IPv6 address in brackets, by the same scenario.
    ("real/ipv6frag-f00002.sip", Reason::InvalidSdpOrigin),
    // `o=` with two IPv4 addresses in a row.
    ("real/sipwise-mix-c01-m001.sip", Reason::InvalidSdpOrigin),
    // `tel:+4311130@host`: a telephone number has no host.
    ("real/sipwise-invite-redirect-tel-uri-c00-m004.sip", Reason::InvalidToUri),
    // `sip:@127.0.0.1`: an `@` wants a user before it.
    ("crafted/metasploit-sip-invite-spoof-f00001.sip", Reason::InvalidRequestUriUser),
    // `<bear@iptel.org>`: no scheme.
    ("fixture/kamailio-register04.sip", Reason::InvalidToUri),
    // Digest without user name.
    ("fixture/kamailio-pingtel.sip", Reason::InvalidAuthorization),
    // RFC 3261 §18.3 lets octets follow the body; OpenSIPS does not.
    ("rfc4475/dblreq.sip", Reason::ContentLengthDiffers),
    ("rfc5118/ipv4-mapped-ipv6.sip", Reason::ContentLengthDiffers),
    ("rfc5118/mult-ip-in-sdp.sip", Reason::ContentLengthDiffers),
    ("fixture/kamailio-dns.sip", Reason::ContentLengthDiffers),
    ("fixture/kamailio-invite02.sip", Reason::ContentLengthDiffers),
    ("fixture/kamailio-invite03.sip", Reason::ContentLengthDiffers),
    ("fixture/kamailio-invite04.sip", Reason::ContentLengthDiffers),
];

#[test]
fn a_mark_is_all_that_changes() {
    let [mut plain, mut marks] = ["", ", validate: header"].map(Edge::new);
    let mut wrong = Vec::new();
    let mut marked = 0;
    for message in folder::all() {
        let file = &message.file;
        for client in CLIENTS.map(address) {
            let without = plain.send(client, &message.bytes);
            let with = marks.send(client, &message.bytes);
            assert_eq!(with.outcome, without.outcome, "{file}");
            assert_eq!((with.to, with.treatment), (without.to, without.treatment));
            if without.treatment != Treatment::Forwarded {
                assert_eq!(with.bytes, without.bytes, "{file}");
                continue;
            }
            let (reason, unmarked) = take_mark(&with.bytes);
            assert_eq!(unmarked, without.bytes, "{file}");
            marked += usize::from(reason.is_some());
            let exception = NOT_WELL_FORMED.iter().find(|(name, _)| name == file);
            let wanted = exception.map(|(_, reason)| *reason);
            if (message.valid() == Valid::Yes || wanted.is_some()) && reason != wanted {
                wrong.push(format!("{file}: {reason:?}, not {wanted:?}"));
            }
        }
    }
    wrong.dedup();
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    println!("{marked} messages are marked, from two clients each");
}

#[test]
fn what_is_not_valid_is_refused() {
    let mut edge = Edge::new(", validate: reply");
    let mut wrong = Vec::new();
    let mut refused = 0;
    for message in folder::all() {
        if message.kind() == Some(Kind::Response) || message.valid() != Valid::No {
            continue;
        }
        let sent = edge.send(address(CLIENTS[0]), &message.bytes);
        match sent.treatment {
            Treatment::Forwarded => wrong.push(message.file),
            _ => refused += 1,
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    println!("{refused} messages that are not valid are refused or dropped");
}

#[test]
fn every_exception_is_for_a_message() {
    let messages = folder::all();
    let has_rest = folder::outside().is_some();
    for (file, _) in NOT_WELL_FORMED {
        let is_there = messages.iter().any(|message| message.file == *file);
        assert!(is_there || !has_rest, "{file}");
    }
}

/// The reason in the header field that we added, and the bytes without it.
fn take_mark(bytes: &[u8]) -> (Option<Reason>, Vec<u8>) {
    let start = format!("\r\n{MARK}:");
    let at = bytes
        .windows(start.len())
        .position(|window| window == start.as_bytes());
    let Some(at) = at else {
        return (None, bytes.to_vec());
    };
    let value = at + start.len();
    let len = bytes[value..]
        .windows(2)
        .position(|window| window == b"\r\n");
    let end = value + len.expect("a line end");
    let name = bytes[value..end].trim_ascii();
    let reason = Reason::ALL
        .into_iter()
        .find(|reason| reason.name().as_bytes() == name);
    let rest = [&bytes[..at], &bytes[end..]].concat();
    (Some(reason.expect("a reason")), rest)
}
