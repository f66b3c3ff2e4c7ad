use super::*;

const PLAIN: Terminal = Terminal {
    width: 80,
    height: None,
    colour: false,
};
const CLIENT: &str = "198.51.100.7:40000";
const VIP: &str = "203.0.113.10:5060";
const BACKEND: &str = "10.0.0.11:5060";

fn address(text: &str) -> Option<SocketAddr> {
    Some(text.parse().unwrap())
}

/// A request that arrived and was not decided on.
fn request(method: &str, call: &str) -> Traced {
    let text = format!("{method} sip:bob@example.com SIP/2.0\r\nMax-Forwards: 70\r\n\r\n");
    Traced {
        time: "2026-09-21T14:13:20.000123456Z".to_owned(),
        way: "af-xdp".to_owned(),
        call: Some(call.to_owned()),
        source: address(CLIENT),
        destination: address(VIP),
        kind: Some("request".to_owned()),
        method: Some(method.to_owned()),
        cseq: Some(format!("1 {method}")),
        call_id: Some(format!("{call}@x")),
        from_uri: Some("sip:alice@example.com".to_owned()),
        to_uri: Some("sip:bob@example.com".to_owned()),
        received_len: text.len(),
        received: text.into_bytes(),
        ..Traced::default()
    }
}

/// The same, sent to a backend.
fn forwarded(method: &str, call: &str) -> Traced {
    let sent = format!("{method} sip:bob@example.com SIP/2.0\r\nMax-Forwards: 69\r\n\r\n");
    Traced {
        verdict: "forward".to_owned(),
        outcome: "request_to_pool".to_owned(),
        sent_from: address(VIP),
        sent_to: address(BACKEND),
        backend: Some("sw1".to_owned()),
        sent_len: sent.len(),
        sent: sent.into_bytes(),
        ..request(method, call)
    }
}

/// A response of the backend to the client.
fn response(status: u16, call: &str) -> Traced {
    Traced {
        kind: Some("response".to_owned()),
        method: None,
        status: Some(status),
        source: address(BACKEND),
        source_backend: Some("sw1".to_owned()),
        sent_to: address(CLIENT),
        backend: None,
        ..forwarded("INVITE", call)
    }
}

fn refused(method: &str, call: &str) -> Traced {
    Traced {
        verdict: "reply".to_owned(),
        outcome: "no_route_rule".to_owned(),
        sent_from: address(VIP),
        sent_to: address(CLIENT),
        sent_status: Some(404),
        sent: b"SIP/2.0 404 Not Found\r\n\r\n".to_vec(),
        ..request(method, call)
    }
}

#[test]
fn interleaved_calls_stay_readable() {
    let mut ladder = Ladder::new(PLAIN, false);
    let dropped = Traced {
        verdict: "drop".to_owned(),
        outcome: "ack_not_routed".to_owned(),
        ..request("ACK", "b")
    };
    let messages = [
        forwarded("INVITE", "a"),
        refused("SUBSCRIBE", "b"),
        response(180, "a"),
        dropped,
        response(487, "a"),
    ];
    let text: String = messages
        .iter()
        .map(|message| ladder.message(message))
        .collect();
    assert_eq!(
        text,
        "2026-09-21 (UTC)
   1  sip:alice@example.com to sip:bob@example.com, Call-ID a@x
   1  14:13:20.000123  198.51.100.7:40000 --INVITE---------> 203.0.113.10:5060 --INVITE---------> 10.0.0.11:5060 sw1
   2  sip:alice@example.com to sip:bob@example.com, Call-ID b@x
   2  14:13:20.000123  198.51.100.7:40000 --SUBSCRIBE------> 203.0.113.10:5060
   2  14:13:20.000123  198.51.100.7:40000 <--404 SUBSCRIBE-- 203.0.113.10:5060  no_route_rule
   1  14:13:20.000123  198.51.100.7:40000 <--180 INVITE----- 203.0.113.10:5060 <--180 INVITE----- 10.0.0.11:5060 sw1
   2  14:13:20.000123  198.51.100.7:40000 --ACK------------> 203.0.113.10:5060  ack_not_routed
   1  14:13:20.000123  198.51.100.7:40000 <--487 INVITE----- 203.0.113.10:5060 <--487 INVITE----- 10.0.0.11:5060 sw1
"
    );
}

#[test]
fn a_request_of_a_backend_goes_to_the_left() {
    let message = Traced {
        source: address(BACKEND),
        source_backend: Some("sw1".to_owned()),
        sent_to: address(CLIENT),
        backend: None,
        ..forwarded("BYE", "a")
    };
    let text = Ladder::new(PLAIN, false).message(&message);
    let line = text.lines().last().unwrap();
    assert_eq!(
        &line[23..],
        "198.51.100.7:40000 <--BYE------------ 203.0.113.10:5060 <--BYE------------ 10.0.0.11:5060 sw1"
    );
    let refused = Traced {
        source: address(BACKEND),
        source_backend: Some("sw1".to_owned()),
        sent_to: address(BACKEND),
        backend: Some("sw1".to_owned()),
        ..refused("BYE", "a")
    };
    let text = Ladder::new(PLAIN, false).message(&refused);
    let arrows: Vec<_> = text.lines().skip(2).map(|line| line[22..].trim()).collect();
    assert_eq!(
        arrows,
        [
            "203.0.113.10:5060 <--BYE------------ 10.0.0.11:5060 sw1",
            "203.0.113.10:5060 --404 BYE--------> 10.0.0.11:5060 sw1  no_route_rule",
        ]
    );
}

#[test]
fn whole_messages_show_what_changed() {
    let text = Ladder::new(PLAIN, true).message(&forwarded("INVITE", "a"));
    assert!(
        text.ends_with(
            "sw1\n    INVITE sip:bob@example.com SIP/2.0\n  - Max-Forwards: 70\n  + Max-Forwards: 69\n    (empty line)\n\n"
        ),
        "{text}"
    );
    let text = Ladder::new(PLAIN, true).message(&refused("INVITE", "a"));
    assert!(
        text.ends_with("    (the reply)\n    SIP/2.0 404 Not Found\n    (empty line)\n\n"),
        "{text}"
    );
}

#[test]
fn a_terminal_is_not_talked_to_by_strangers() {
    let mut message = forwarded("INVITE", "a");
    message.from_uri = Some("sip:\u{1b}[31m@x".to_owned());
    message.method = Some("\u{1b}c".to_owned());
    let text = Ladder::new(PLAIN, true).message(&message);
    assert!(!text.contains('\u{1b}'), "{text}");
}

#[test]
fn a_message_that_waited_has_one_leg() {
    let mut message = forwarded("INVITE", "a");
    message.way = "waited".to_owned();
    let text = Ladder::new(PLAIN, false).message(&message);
    let line = text.lines().last().unwrap();
    assert_eq!(line.matches("INVITE").count(), 1, "{line}");
    assert!(line.ends_with("after waiting for a name"), "{line}");
}

#[test]
fn numbers_of_calls_are_bounded() {
    let mut calls = Calls::default();
    assert_eq!(calls.number("first"), (1, true));
    for call in 0..MAX_CALLS {
        calls.number(&call.to_string());
    }
    assert_eq!(calls.numbers.len(), MAX_CALLS);
    let again = calls.number("first");
    assert_eq!(again, (MAX_CALLS as u64 + 2, true));
}
