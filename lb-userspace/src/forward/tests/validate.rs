//! Listeners that validate: what is refused, what is marked, and what is left alone.

use std::sync::{Arc, LazyLock};

use super::edge::*;
use crate::{
    forward::{Outcome, Table},
    token::Keys,
    validate::{Check, Checks, MARK, MAX_MARKS, Mode, Reason, Validate},
};

/// The INVITE of the other tests with a body that is what it says.
const GOOD: &str = "INVITE sip:bob@example.com SIP/2.0\r\n\
    Via: SIP/2.0/UDP 192.168.1.5:5060;branch=z9hG4bK776asdhds;rport\r\n\
    Max-Forwards: 70\r\n\
    To: Bob <sip:bob@example.com>\r\n\
    From: Alice <sip:alice@example.com>;tag=1928301774\r\n\
    Call-ID: a84b4c76e66710@192.168.1.5\r\n\
    CSeq: 314159 INVITE\r\n\
    Contact: <sip:alice@192.168.1.5>\r\n\
    Content-Type: application/sdp\r\n\
    Content-Length: 61\r\n\
    \r\n\
    v=0\no=- 1 1 IN IP4 192.168.1.5\ns=-\nc=IN IP4 192.168.1.5\nt=0 0";

/// An edge whose listeners validate so.
fn edge(mode: Mode, checks: Checks) -> Edge {
    static PLAIN: LazyLock<Arc<Table>> = LazyLock::new(|| Edge::new().table);
    let keys = Keys::new(SECRET.as_bytes(), None);
    let listeners = PLAIN.listeners.iter().cloned();
    let listeners =
        listeners.map(|listener| listener.with_validate(Some(Validate { mode, checks })));
    let pools = vec![
        pool("four", 0, &BACKENDS, &keys),
        pool("six", 3, &[BACKEND6], &keys),
    ];
    let routes = vec![rule("", Some(1), 1), rule("", None, 0)];
    let table = Table::from_parts(keys, listeners.collect(), pools, routes);
    let mut edge = Edge::new();
    edge.table = Arc::new(table);
    edge
}

fn without_marks(text: &str) -> String {
    let lines = text.split_inclusive('\n');
    lines.filter(|line| !line.starts_with(MARK)).collect()
}

#[test]
fn what_is_well_formed_goes_on_as_without_validation() {
    let (_, body) = GOOD.split_once("\r\n\r\n").unwrap();
    assert_eq!(body.len(), 61);
    for source in [CLIENT, CLIENT6] {
        let plain = Edge::new().send(source, GOOD);
        for mode in [Mode::Reply, Mode::Header] {
            let mut edge = edge(mode, Checks::ALL);
            let sent = edge.send(source, GOOD).expect(Outcome::RequestToPool);
            assert_eq!(edge.scratch.invalid, None);
            assert_eq!((sent.text(), sent.to), (plain.text(), plain.to));
        }
    }
}

#[test]
fn reply_names_the_reason_and_is_silent_to_an_ack() {
    let bad = GOOD.replace("c=IN IP4 192.168.1.5", "c=IN IP4 192.168.1.");
    let mut replies = edge(Mode::Reply, Checks::ALL);
    for source in [CLIENT, CLIENT6] {
        let sent = replies
            .send(source, bad.replace("Length: 61", "Length: 60"))
            .expect(Outcome::InvalidRequest)
            .expect_to(source);
        assert_eq!(sent.start_line(), "SIP/2.0 400 Invalid c= in SDP");
        assert_eq!(replies.scratch.invalid, Some(Reason::InvalidSdpConnection));
    }
    let no_hops = GOOD.replace("Max-Forwards: 70\r\n", "");
    let sent = replies
        .send(CLIENT, &no_hops)
        .expect(Outcome::InvalidRequest);
    assert_eq!(
        sent.start_line(),
        "SIP/2.0 400 Missing Max-Forwards header field"
    );

    // Any node swallows the ACK to that reply; any other ACK that fails is dropped.
    let ack = no_hops.replace("INVITE", "ACK");
    let ours = ack.replace("Bob <sip:bob@example.com>", &sent.header("To"));
    let mut other = edge(Mode::Reply, Checks::ALL);
    other.send(CLIENT, ours).expect(Outcome::OwnReplyAcked);
    assert_eq!(other.scratch.invalid, None);
    other.send(CLIENT, ack).expect(Outcome::InvalidAck);
    assert_eq!(other.scratch.invalid, Some(Reason::MissingMaxForwards));

    let mut without = edge(Mode::Reply, Checks::from_iter([Check::Sdp, Check::Headers]));
    without
        .send(CLIENT, &no_hops)
        .expect(Outcome::RequestToPool);
    assert_eq!(without.scratch.invalid, None);
}

#[test]
fn header_adds_one_header_field_and_changes_nothing_else() {
    let mut plain = edge(Mode::Header, Checks::default());
    let mut marks = edge(Mode::Header, Checks::ALL);
    for (from, to, reason) in [
        ("Max-Forwards: 70\r\n", "", Reason::MissingMaxForwards),
        ("Contact: ", "Other: ", Reason::MissingContact),
        (
            "sip:bob@example.com SIP",
            "sip:bob@exa_mple.com SIP",
            Reason::InvalidRequestUriHost,
        ),
        ("Contact: ", "Date: now\r\nContact: ", Reason::InvalidDate),
        // Odd pieces in front and in the middle.
        ("INVITE sip", "\nINVITE sip", Reason::MissingMaxForwards),
    ] {
        let mut text = GOOD.replacen(from, to, 1);
        if reason == Reason::MissingMaxForwards {
            text = text.replace("Max-Forwards: 70\r\n", "");
        }
        for method in ["INVITE", "ACK", "OPTIONS"] {
            let text = text.replace("INVITE", method);
            for source in [CLIENT, CLIENT6] {
                let sent = marks.send(source, &text);
                if method != "INVITE" && reason == Reason::MissingContact {
                    sent.expect(Outcome::RequestToPool);
                    continue;
                }
                assert_eq!(marks.scratch.invalid, Some(reason), "{text}");
                let sent = sent.expect(Outcome::RequestToPool);
                assert_eq!(sent.headers(MARK), [reason.name()], "{}", sent.text());
                assert_eq!(sent.bytes.len() % 2, text.len() % 2);
                // Behind our own Via and Record-Route, in front of what was there.
                let at = sent.text().find(MARK).unwrap();
                let was_first = sent.text().find("Via: SIP/2.0/UDP 192.168.1.5").unwrap();
                assert!(sent.text().find("lbm=").unwrap() < at && at < was_first);
                let unmarked = plain.send(source, &text).expect(Outcome::RequestToPool);
                assert_eq!(without_marks(&sent.text()), unmarked.text());
            }
        }
    }
}

/// What stands in our name is what we say.
#[test]
fn marks_from_outside_are_taken_out() {
    let forged = format!("{MARK}: forged\r\n");
    let odd = "x-validate-fail : forged\r\n odd\n".to_owned();
    for mark in [&forged, &odd] {
        for (at, count) in [
            ("Via: SIP", 1),
            ("Contact:", 2),
            ("Via: SIP", MAX_MARKS),
            ("\r\nv=0", 1),
        ] {
            let marked = GOOD.replacen(at, &format!("{}{at}", mark.repeat(count)), 1);
            for mode in [Mode::Reply, Mode::Header] {
                let sent = edge(mode, Checks::ALL)
                    .send(CLIENT, &marked)
                    .expect(Outcome::RequestToPool);
                let unmarked = edge(mode, Checks::ALL).send(CLIENT, GOOD);
                assert_eq!(sent.headers(MARK), Vec::<String>::new());
                assert_eq!(sent.bytes.len() % 2, marked.len() % 2);
                // But for the pad that keeps the parity.
                let unpadded =
                    |text: String| text.replace(";lb\r\n", "\r\n").replace("s:  ", "s: ");
                assert_eq!(unpadded(sent.text()), unpadded(unmarked.text()));
            }
            let bad = marked.replace("Contact: <sip", "Contact: <");
            let mut marks = edge(Mode::Header, Checks::ALL);
            let sent = marks.send(CLIENT, bad).expect(Outcome::RequestToPool);
            assert_eq!(sent.headers(MARK), [Reason::InvalidContactUri.name()]);
        }
    }
    let many = GOOD.replacen(
        "Contact:",
        &format!("{}Contact:", forged.repeat(MAX_MARKS + 1)),
        1,
    );
    for mode in [Mode::Reply, Mode::Header] {
        let mut edge = edge(mode, Checks::default());
        let sent = edge.send(CLIENT, &many).expect(Outcome::InvalidRequest);
        assert_eq!(
            sent.start_line(),
            "SIP/2.0 400 Forged X-Validate-Fail header field"
        );
        assert_eq!(edge.scratch.invalid, Some(Reason::ForgedMark));
    }
    // A listener that does not validate says nothing and takes nothing out.
    let sent = Edge::new()
        .send(CLIENT, many)
        .expect(Outcome::RequestToPool);
    assert_eq!(sent.headers(MARK).len(), MAX_MARKS + 1);
}

#[test]
fn backends_and_responses_are_left_alone() {
    let mut replies = edge(Mode::Reply, Checks::ALL);
    let request = replies.send(CLIENT, GOOD).expect(Outcome::RequestToPool);
    let answer = response(&request, "200 OK", "9").replace("CSeq", "Date: now\r\nCSeq");
    replies.send(BACKENDS[0], answer).expect(Outcome::Response);
    assert_eq!(replies.scratch.invalid, None);

    let route = request.header("Record-Route");
    let bye = GOOD
        .replace("INVITE", "BYE")
        .replace(
            "Max-Forwards: 70\r\n",
            &format!("Route: {route}\r\n{MARK}: mine\r\n"),
        )
        .replace("Bob <sip:bob@example.com>", "<sip:bob@example.com>;tag=9");
    let sent = replies
        .send(BACKENDS[0], &bye)
        .expect(Outcome::RequestToClient);
    assert_eq!(sent.headers(MARK), ["mine"]);
    replies.send(CLIENT, &bye).expect(Outcome::InvalidRequest);
}

/// Faults are refused before, by their own names, whatever the mode.
#[test]
fn faults_stay_what_they_are() {
    let faulty = GOOD.replace("Call-ID: ", "Other: ");
    for mode in [Mode::Reply, Mode::Header] {
        let mut edge = edge(mode, Checks::ALL);
        edge.send(CLIENT, &faulty).expect(Outcome::MissingCallId);
        assert_eq!(edge.scratch.invalid, None);
    }
}
