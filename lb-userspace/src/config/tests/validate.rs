//! `listeners[].validate`.

use super::*;
use crate::validate::{Check, Checks, Mode};

#[track_caller]
fn meaning(text: &str) -> Option<Validate> {
    let text = GOOD.replace("203.0.113.10", &format!("203.0.113.10{text}"));
    parse(&text, "f")
        .unwrap_or_else(|error| panic!("{error}"))
        .listeners[0]
        .validate
}

#[test]
fn a_word_or_a_mapping() {
    let sdp_and_to = Checks::from_iter([Check::Sdp, Check::To]);
    for (text, mode, checks) in [
        ("reply", Mode::Reply, Checks::ALL),
        ("header", Mode::Header, Checks::ALL),
        ("{ mode: header }", Mode::Header, Checks::ALL),
        (
            "{ mode: reply, checks: [sdp, to] }",
            Mode::Reply,
            sdp_and_to,
        ),
    ] {
        let want = Some(Validate { mode, checks });
        assert_eq!(meaning(&format!(", validate: {text}")), want, "{text}");
    }
    for text in [
        "",
        ", validate: off",
        ", validate: { mode: off, checks: [sdp] }",
    ] {
        assert_eq!(meaning(text), None, "{text}");
    }
    assert_eq!(
        sdp_and_to.iter().collect::<Vec<_>>(),
        [Check::To, Check::Sdp]
    );
}

#[test]
fn mistakes() {
    for (text, column, problem) in [
        (
            "on",
            54,
            ": \"on\" is not known; write off, reply or header",
        ),
        (
            "false",
            54,
            ": false is not known; write off, reply or header",
        ),
        (
            "[reply]",
            54,
            ": a list is not known; write off, reply or header",
        ),
        (
            "{ checks: [sdp] }",
            54,
            ".mode: is missing; write off, reply or header",
        ),
        (
            "{ mode: 400 }",
            62,
            ".mode: 400 is not known; write off, reply or header",
        ),
        (
            "{ mode: reply, check: [sdp] }",
            69,
            ".check: this key is not known; did you mean checks?",
        ),
        (
            "{ mode: reply, checks: [] }",
            77,
            ".checks: is empty; name a check, leave it out for all of them, or write \"mode: off\"",
        ),
        (
            "{ mode: reply, checks: [sdp, r] }",
            83,
            ".checks[1]: \"r\" is not a check; write request-uri, from, to, contact, max-forwards, headers, body or \
             sdp",
        ),
        (
            "{ mode: reply, checks: [sdp, sdp] }",
            83,
            ".checks[1]: \"sdp\" is in the list already; remove it",
        ),
    ] {
        check(
            "203.0.113.10",
            &format!("203.0.113.10, validate: {text}"),
            &[&format!("f:4:{column}: listeners[0].validate{problem}")],
        );
    }
}
