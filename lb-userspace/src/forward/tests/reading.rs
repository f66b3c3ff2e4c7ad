//! Two readings take turns, as in a worker: what one held before leaves no trace.

use super::edge::{CLIENT, Edge, INVITE, address, request};
use crate::forward::{Datagram, ListenerIndex, Reading, Scratch, Verdict, decide, forward};

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
