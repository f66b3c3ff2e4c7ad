//! Two readings take turns, as in a worker: what one held before leaves no trace.

use super::edge::{CLIENT, Edge, INVITE, address, request};
use crate::forward::{Action, Datagram, ListenerIndex, Reading, Scratch, Verdict, decide, forward};

fn datagrams() -> Vec<Vec<u8>> {
    let texts = [
        INVITE.to_owned(),
        INVITE.replace("a84b4c76e66710", "another-call"),
        format!("\r\n{INVITE}"),
        request("ACK").replace(
            "To: Bob <sip:bob@example.com>",
            "To: <sip:bob@example.com>;tag=b",
        ),
        request("OPTIONS"),
        INVITE.replace("CSeq", "X"),
        INVITE.replace("Via", "X"),
        "\r\n\r\n".to_owned(),
        "SIP/2.0 200 OK\r\nVia: SIP/2.0/UDP 203.0.113.10;branch=z9hG4bKx\r\n\r\n".to_owned(),
        "jaK".to_owned(),
        "nobody speaks SIP here\r\n\r\n".to_owned(),
        "\0\0\0\0".to_owned(),
        String::new(),
    ];
    texts.map(String::into_bytes).to_vec()
}

fn datagram(payload: &[u8]) -> Datagram<'_> {
    Datagram {
        payload,
        source: address(CLIENT),
        listener: ListenerIndex(0),
    }
}

/// The verdict and what goes with it.
fn all(verdict: Verdict, scratch: &Scratch) -> String {
    let edits = scratch.edits.iter().collect::<Vec<_>>();
    format!(
        "{verdict:?} {edits:?} {:?} {:?}",
        scratch.reply, scratch.seen
    )
}

#[test]
fn nothing_is_left_of_what_was_read_before() {
    let payloads = datagrams();
    let mut edge = Edge::new();
    for before in &payloads {
        for payload in &payloads {
            let mut reading = Reading::EMPTY;
            reading.read(&edge.table, &datagram(before), &edge.scratch.memory);
            decide(
                &edge.table,
                &datagram(before),
                &mut reading,
                &mut edge.scratch,
            );
            reading.read(&edge.table, &datagram(payload), &edge.scratch.memory);
            let scratch = &mut edge.scratch;
            let verdict = decide(&edge.table, &datagram(payload), &mut reading, scratch);
            let got = all(verdict, scratch);
            let verdict = forward(&edge.table, &datagram(payload), scratch);
            assert_eq!(got, all(verdict, scratch), "{}", payload.escape_ascii());
        }
    }
}

#[test]
fn the_next_one_may_be_read_before_this_one_is_decided_on() {
    let payloads = datagrams();
    let (mut edge, mut alone) = (Edge::new(), Edge::new());
    let mut readings = [const { Reading::EMPTY }; 2];
    readings[0].read(&edge.table, &datagram(&payloads[0]), &edge.scratch.memory);
    for (nth, payload) in payloads.iter().enumerate() {
        if let Some(next) = payloads.get(nth + 1) {
            readings[(nth + 1) % 2].read(&edge.table, &datagram(next), &edge.scratch.memory);
        }
        let reading = &mut readings[nth % 2];
        let verdict = decide(&edge.table, &datagram(payload), reading, &mut edge.scratch);
        let want = forward(&alone.table, &datagram(payload), &mut alone.scratch);
        let want = all(want, &alone.scratch);
        assert_eq!(
            all(verdict, &edge.scratch),
            want,
            "{}",
            payload.escape_ascii()
        );
    }
}

/// The slot is looked up ahead in the table of the last rule's pool, whichever rule it is that matches then.
#[test]
fn what_is_looked_up_ahead_changes_no_choice() {
    let strategies = [
        "hash-call-id",
        "hash-from-uri",
        "weighted-round-robin",
        "first",
    ];
    let backends = "{ name: a, address: '10.0.0.1:5060' }, { name: b, address: '10.0.0.2:5060' }, { name: c, address: '10.0.0.3:5060' }";
    for [of_rule, of_last] in strategies
        .iter()
        .flat_map(|one| strategies.map(|other| [one, other]))
    {
        let config = format!(
            "node: {{ name: t }}\n\
             listeners: [ {{ name: public, address: 203.0.113.10 }} ]\n\
             pools:\n\
             - {{ name: one, strategy: {of_rule}, backends: [ {backends} ] }}\n\
             - {{ name: last, strategy: {of_last}, backends: [ {} ] }}\n\
             routes: [ {{ request_uri_user: bob, pool: one }}, {{ pool: last }} ]\n",
            backends
                .replace("10.0.0", "10.0.1")
                .replace("name: ", "name: last-"),
        );
        let (mut ahead, mut late) = (Edge::with_config(&config), Edge::with_config(&config));
        for number in 0..40 {
            let user = ["bob", "carol"][number % 2];
            let invite = INVITE
                .replace("a84b4c76e66710", &format!("call{number}"))
                .replace("776asdhds", &format!("b{number}"))
                .replace("alice@", &format!("alice{number}@"))
                .replace("INVITE sip:bob@", &format!("INVITE sip:{user}@"));
            let datagram = datagram(invite.as_bytes());
            let got = forward(&ahead.table, &datagram, &mut ahead.scratch).action;
            // Not read before, so nothing is known ahead.
            let mut reading = Reading::EMPTY;
            let want = decide(&late.table, &datagram, &mut reading, &mut late.scratch).action;
            assert!(matches!(want, Action::Forward { .. }), "{want:?}");
            assert_eq!(got, want, "{config}{invite}");
        }
    }
}
