//! Requests, one for each reason.

use std::collections::HashSet;

use proptest::{collection::vec, prelude::*, sample::Index};

use super::{
    Check, Checks, Findings, MARK, MAX_MARKS,
    Reason::{self, *},
    scan,
};
use crate::sip;

/// A request that has one of everything.
const GOOD: &str = "INVITE sip:bob@example.com;transport=udp SIP/2.0\r\n\
    Via: SIP/2.0/UDP 192.0.2.1:5060;branch=z9hG4bKa;rport\r\n\
    Via: SIP/2.0/UDP a.example.com;branch=1, SIP/2.0/TCP [2001:db8::1]:5060;branch=2\r\n\
    Route: <sip:192.0.2.9;lr>\r\n\
    Record-Route: <sip:192.0.2.8;lr>,\r\n <sip:192.0.2.7;lr>;x\r\n\
    Max-Forwards: 70\r\n\
    From: \"Alice\" <sip:alice@example.com>;tag=1\r\n\
    To: Bob of B <sip:bob@example.com>\r\n\
    Call-ID: a84b4c76e66710@192.0.2.1\r\n\
    CSeq: 314159 INVITE\r\n\
    Contact: <sip:alice@192.0.2.1;ob?x=y>;q=0.5;expires=60\r\n\
    Expires: 60\r\n\
    Allow: INVITE, ACK, CANCEL\r\n\
    Supported: 100rel, timer\r\n\
    Require: \r\n timer\r\n\
    Accept: application/sdp, text/*\r\n\
    Accept-Encoding:\r\n\
    Accept-Language: da, en-gb;q=0.8\r\n\
    Authorization: Digest username=\"a\", realm=\"b\", nonce=\"c\", uri=\"sip:b\", response=\"d\"\r\n\
    Call-Info: <http://192.0.2.1/a.jpg> ;purpose=icon\r\n\
    Content-Disposition: session;handling=optional\r\n\
    Date: Sat, 13 Nov 2010 23:29:00 GMT\r\n\
    Diversion: \"B\" <sip:b@example.com>;reason=no-answer, <tel:+1>\r\n\
    Event: presence;id=1\r\n\
    Allow-Events: presence, dialog\r\n\
    Min-SE: 90\r\n\
    P-Asserted-Identity: <sip:alice@example.com>, <tel:+12015550123>\r\n\
    P-Preferred-Identity: <sip:alice@example.com>\r\n\
    Priority: urgent\r\n\
    Privacy: id;critical\r\n\
    Refer-To: <sip:c@example.com?Replaces=1%40x>\r\n\
    Referred-By: <sip:b@example.com>;cid=\"1@x\"\r\n\
    Remote-Party-ID: <sip:alice@example.com>;party=calling\r\n\
    Reply-To: <sip:alice@example.com>\r\n\
    Session-Expires: 1800;refresher=uac\r\n\
    Subject:\r\n\
    Timestamp: 54.3\r\n\
    User-Agent: a phone\r\n\
    Content-Type: application/sdp\r\n\
    Content-Length: 63\r\n\
    \r\n\
    v=0\r\no=- 1 1 IN IP4 192.0.2.1\r\ns=-\r\nt=0 0\r\nc=IN IP4 192.0.2.1\r\n";

fn read(text: &str, checks: Checks) -> Findings {
    let message = sip::read(text.as_bytes()).unwrap();
    assert_eq!(message.fault, None, "{text}");
    scan(text.as_bytes(), &message, checks)
}

#[test]
fn a_request_with_one_of_everything_is_well_formed() {
    let (_, body) = GOOD.split_once("\r\n\r\n").unwrap();
    assert_eq!(body.len(), 63);
    assert_eq!(read(GOOD, Checks::ALL), Findings::default());
    assert_eq!(
        read(
            &GOOD.replace('\r', "").replace("Length: 63", "Length: 58"),
            Checks::ALL
        ),
        Findings::default()
    );
}

/// What is changed in [`GOOD`], and what is to be found then.
#[rustfmt::skip]
const CASES: &[(&str, &str, Reason)] = &[
    ("sip:bob@example.com;transport", "sip:bob@example.com:x;transport", InvalidRequestUri),
    ("sip:bob@example.com;transport", "sip:bo|b@example.com;transport", InvalidRequestUriUser),
    ("sip:bob@example.com;transport", "sip:bob@exam_ple.com;transport", InvalidRequestUriHost),
    ("transport=udp SIP", "transport=udp?Route=%3Csip:a%3E SIP", RequestUriWithHeaders),
    ("<sip:alice@example.com>;tag", "<sip:alice@example.com;;>;tag", InvalidFromUri),
    ("<sip:alice@example.com>;tag", "<sip:alice@example.com?a=b>;tag", InvalidFromUri),
    ("<sip:alice@example.com>;tag", "<sip:al%ice@example.com>;tag", InvalidFromUser),
    ("<sip:alice@example.com>;tag", "<sip:alice@-example.com>;tag", InvalidFromHost),
    ("B <sip:bob@example.com>", "B <sip:bob@example.com:0>", InvalidToUri),
    ("B <sip:bob@example.com>", "B <sip:@example.com>", InvalidToUser),
    ("B <sip:bob@example.com>", "B <sip:bob@>", InvalidToHost),
    ("Contact: ", "X-Contact: ", MissingContact),
    ("Contact: <sip:alice@192.0.2.1;ob?x=y>;q=0.5;expires=60", "Contact: *", InvalidStarContact),
    ("Contact: ", "Contact: \"", InvalidContact),
    ("<sip:alice@192.0.2.1;ob", "<sip:alice@192.0.2.1:66666;ob", InvalidContactUri),
    ("Contact: ", "Contact: <sip:ok>, <http:>, ", InvalidContactUri),
    ("q=0.5", "q=5", InvalidContactParameter),
    ("expires=60", "expires=280297596632815", InvalidContactParameter),
    ("Max-Forwards: ", "Other: ", MissingMaxForwards),
    ("[2001:db8::1]:5060", "[2001:db8::1]:x", InvalidVia),
    ("Via: SIP/2.0/UDP 192.0.2.1", "Via: SIP/2.1/UDP 192.0.2.1", InvalidVia),
    ("Route: <sip:192.0.2.9;lr>", "Route: sip:192.0.2.9;lr", InvalidRoute),
    ("<sip:192.0.2.7;lr>", "<sip:192.0.2.777;lr>", InvalidRecordRoute),
    ("Subject:", "Path: <sip:192.0.2.7;lr>", PathOutsideRegister),
    ("Bob of B", "Bob @ B", InvalidDisplayName),
    ("Contact: ", "Contact: a \"b\" ", InvalidDisplayName),
    ("<sip:bob@example.com>", "< sip:bob@example.com>", InvalidAddrSpec),
    ("<sip:alice@192.0.2.1;ob?x=y>;q=0.5", "sip:alice@192.0.2.1?Route=%3Csip:a%3E", InvalidAddrSpec),
    ("a84b4c76e66710@", "a84b4c76e66710 @", InvalidCallId),
    ("Type: application/sdp", "Type: application", InvalidContentType),
    ("Disposition: session", "Disposition: ", InvalidContentDisposition),
    ("Refer-To: <sip:c@example.com?Replaces=1%40x>", "r: <sip:c@example.com?Replaces>", InvalidReferTo),
    ("Refer-To: ", "Refer-To: <sip:a>, ", InvalidReferTo),
    ("Referred-By: <sip:b@example.com>", "b: <sip:b@exa mple.com>", InvalidReferredBy),
    ("Reply-To: <sip:alice@example.com>", "Reply-To: alice", InvalidReplyTo),
    ("Remote-Party-ID: ", "Remote-Party-ID: \"", InvalidRemotePartyId),
    ("<sip:alice@example.com>, <tel:+12015550123>", "<sip:alice@example.com>, <sip:a>", InvalidIdentity),
    ("Asserted-Identity: <sip", "Asserted-Identity: <http", InvalidIdentity),
    ("P-Preferred-Identity: ", "P-Preferred-Identity: <sip:b>\r\nP-Preferred-Identity: ", InvalidIdentity),
    ("<tel:+1>", "<tel:>", InvalidDiversion),
    ("\r\nExpires: 60", "\r\nExpires: 10000000000000000000000000000000000000000", InvalidExpires),
    ("Subject:", "Min-Expires: -1", InvalidExpires),
    ("Session-Expires: 1800", "x: soon", InvalidSessionTimer),
    ("Min-SE: 90", "Min-SE: 90 s", InvalidSessionTimer),
    ("23:29:00 GMT", "23:29:00 EST", InvalidDate),
    ("54.3", "54,3", InvalidTimestamp),
    ("100rel, timer", "100rel; timer", InvalidOptionTags),
    ("Require: \r\n timer", "Require: \r\n ", InvalidOptionTags),
    ("INVITE, ACK, CANCEL", "INVITE, ACK,, CANCEL", InvalidAllow),
    ("application/sdp, text/*", "application/sdp, text", InvalidAccept),
    ("da, en-gb", "da en-gb", InvalidAccept),
    ("Event: presence", "o: ;presence", InvalidEvent),
    ("presence, dialog", "presence, ", InvalidEvent),
    ("id;critical", "id;;critical", InvalidPrivacy),
    ("<http://192.0.2.1/a.jpg>", "http://192.0.2.1/a.jpg", InvalidCallInfo),
    (", response=\"d\"", "", InvalidAuthorization),
    ("a phone", "", EmptyHeaderField),
    ("Subject:", "Expires: 1", DuplicateHeaderField),
    ("Subject:", "c: application/sdp", DuplicateHeaderField),
    ("Length: 63", "Length: 62", ContentLengthDiffers),
    ("Content-Type: ", "Other: ", MissingContentType),
    ("v=0\r\no=", "v 0\r\no=", InvalidSdpLine),
    ("v=0\r\no=", "v=1\r\no=", InvalidSdpVersion),
    ("o=- 1 1 ", "o=- 1 x ", InvalidSdpOrigin),
    ("c=IN IP4 192.0.2.1", "c=IN IP4 192.0.2.", InvalidSdpConnection),
    ("t=0 0", "t=0.0", InvalidSdpTime),
    ("c=IN IP4 192.0.2.1", "m=audio 4000 RTP/A", InvalidSdpMedia),
    ("\r\nt=0 0", "\r\na=0 0", IncompleteSdp),
    ("s=-\r\nt=0 0", "t=0 0\r\ns=-", SdpOutOfOrder),
    ("c=IN IP4 192.0.2.1", "m=audio 4 RTP/AVP 0", MissingSdpConnection),
];

/// Puts a case into [`GOOD`]; Content-Length keeps telling the length of the body.
fn changed(from: &str, to: &str) -> String {
    assert!(GOOD.contains(from), "{from}");
    let text = GOOD.replacen(from, to, 1);
    let (_, body) = text.split_once("\r\n\r\n").unwrap();
    let length = format!("Length: {}\r\n", body.len());
    text.replace("Length: 63\r\n", &length)
}

#[test]
fn every_reason_is_found_by_its_check_alone() {
    for (from, to, want) in CASES {
        let text = changed(from, to);
        assert_eq!(read(&text, Checks::ALL).reason, Some(*want), "{text}");
        let check = want.check().unwrap();
        assert_eq!(
            read(&text, Checks::from_iter([check])).reason,
            Some(*want),
            "{text}"
        );
        let others = Check::ALL.into_iter().filter(|other| *other != check);
        assert_eq!(read(&text, others.collect()).reason, None, "{text}");
    }
    let found = CASES.iter().map(|(_, _, reason)| *reason);
    let found = found
        .chain([InvalidPath, ForgedMark])
        .collect::<HashSet<_>>();
    for reason in Reason::ALL {
        assert!(found.contains(&reason), "no case for {reason:?}");
    }
}

#[test]
fn path_and_star_are_for_register() {
    let register = GOOD.replace("INVITE", "REGISTER");
    let path = |value: &str| register.replace("Subject:", &format!("Path: {value}"));
    assert_eq!(read(&path("<sip:a;lr>"), Checks::ALL).reason, None);
    assert_eq!(
        read(&path("<sip:a;lr"), Checks::ALL).reason,
        Some(InvalidPath)
    );
    let contact = "Contact: <sip:alice@192.0.2.1;ob?x=y>;q=0.5;expires=60\r\n";
    for (contacts, expires, want) in [
        ("Contact: *\r\n", "0", None),
        ("m:*\r\n", "000", None),
        // Asks for the bindings.
        ("", "60", None),
        ("Contact: *\r\n", "60", Some(InvalidStarContact)),
        (
            "Contact: *\r\nContact: <sip:a@b>\r\n",
            "0",
            Some(InvalidStarContact),
        ),
        (
            "Contact: *\r\nContact: *\r\n",
            "0",
            Some(InvalidStarContact),
        ),
    ] {
        let text = register
            .replace(contact, contacts)
            .replace("\r\nExpires: 60", &format!("\r\nExpires: {expires}"));
        assert_eq!(read(&text, Checks::ALL).reason, want, "{text}");
    }
    let no_expires = register
        .replace(contact, "Contact: *\r\n")
        .replace("\r\nExpires: 60", "");
    assert_eq!(
        read(&no_expires, Checks::ALL).reason,
        Some(InvalidStarContact)
    );
}

#[test]
fn what_some_methods_need() {
    for (method, want) in [
        ("INVITE", Some(MissingContact)),
        ("SUBSCRIBE", Some(MissingContact)),
        ("REFER", Some(MissingContact)),
        ("UPDATE", Some(MissingContact)),
        ("REGISTER", None),
        ("BYE", None),
        ("update", None),
    ] {
        let text = GOOD
            .replace("INVITE", method)
            .replace("Contact: ", "Other: ");
        assert_eq!(read(&text, Checks::ALL).reason, want, "{method}");
    }
    // The length and type of a CANCEL's body are of no interest.
    let cancel = GOOD.replace("INVITE", "CANCEL");
    let cancel = cancel
        .replace("Content-Type: ", "Other: ")
        .replace("Length: 63", "Length: 62");
    assert_eq!(read(&cancel, Checks::ALL).reason, None);
}

#[test]
fn bodies_of_other_types_and_empty_ones_are_no_sdp() {
    for (from, to) in [
        (
            "application/sdp\r\nContent-Length",
            "text/plain\r\nContent-Length",
        ),
        ("Length: 63", "Length: 0"),
    ] {
        let text = GOOD.replace(from, to).replace("v=0", "no!");
        assert_eq!(
            read(&text, Checks::from_iter([Check::Sdp])).reason,
            None,
            "{text}"
        );
    }
}

#[test]
fn the_first_finding_is_kept_and_marks_are_found_behind_it() {
    let mark = format!("{MARK}: x\r\n");
    let text = changed("Subject:\r\n", &mark)
        .replace("54.3", "54,3")
        .replace("a phone", "");
    let findings = read(&text, Checks::ALL);
    assert_eq!(findings.reason, Some(InvalidTimestamp));
    let found = findings
        .marks
        .iter()
        .flatten()
        .map(|line| line.of(text.as_bytes()));
    assert_eq!(found.collect::<Vec<_>>(), [mark.as_bytes()]);

    for (count, want) in [(MAX_MARKS, None), (MAX_MARKS + 1, Some(ForgedMark))] {
        let text = changed("Subject:\r\n", &mark.replace('X', "x").repeat(count));
        let findings = read(&text, Checks::default());
        assert_eq!(findings.marks.iter().flatten().count(), MAX_MARKS);
        assert_eq!(findings.reason, want);
    }
}

#[test]
fn responses_are_not_looked_at() {
    let text = GOOD.replacen(
        "INVITE sip:bob@example.com;transport=udp SIP/2.0",
        "SIP/2.0 200 OK",
        1,
    );
    let text = text
        .replace("Via:", "v:")
        .replace("Max-Forwards", "Other")
        .replace("54.3", "x");
    assert_eq!(read(&text, Checks::ALL), Findings::default());
}

/// Long lists and values that end too early: time must grow with the length alone.
#[test]
fn the_longest_datagrams_are_read_once() {
    let room = usize::from(u16::MAX) - GOOD.len() - 16;
    for (name, piece) in [
        ("Contact", "<a:b>,"),
        ("Contact", "\"<"),
        ("Contact", "\"\\"),
        ("Route", "<sip:a>,"),
        ("Route", "<"),
        ("Via", "SIP/2.0/UDP a,"),
        ("Accept", "a/b,"),
        ("Authorization", "Digest a=b,"),
        ("Privacy", "a;"),
        ("P-Asserted-Identity", ";"),
        ("Call-Info", "<a:b>;a=\"\","),
        ("Event", "a;"),
        ("Diversion", " \r\n "),
    ] {
        let value = piece.repeat(room / piece.len());
        let text = GOOD.replacen("Subject:", &format!("{name}: {value}"), 1);
        let message = sip::read(text.as_bytes()).unwrap();
        // The fastest of some: the machine may be busy.
        let times = (0..5).map(|_| {
            let started = std::time::Instant::now();
            scan(text.as_bytes(), &message, Checks::ALL);
            started.elapsed()
        });
        let fastest = times.min().unwrap();
        assert!(fastest.as_millis() < 20, "{name} {piece}: {fastest:?}");
    }
}

proptest! {
    /// Whatever is changed, nothing breaks, and what is found is found by the check that claims it.
    #[test]
    fn findings_belong_to_their_checks(
        changes in vec((any::<Index>(), any::<u8>()), 0..6),
        checks in 0u8..=255,
    ) {
        let mut bytes = GOOD.as_bytes().to_vec();
        for (index, byte) in changes {
            let at = index.index(bytes.len());
            bytes[at] = byte;
        }
        let checks = Check::ALL.into_iter().filter(|check| checks & 1 << *check as u8 != 0);
        let checks = checks.collect::<Checks>();
        if let Ok(message) = sip::read(&bytes)
            && let Some(reason) = scan(&bytes, &message, checks).reason
        {
            prop_assert!(reason.check().is_none_or(|check| checks.has(check)));
        }
    }
}
