//! `listeners[].ping_replies`.

use super::*;

#[test]
fn what_is_answered() {
    for (text, want) in [
        ("", PingReplies::ForUs),
        (", ping_replies: for-us", PingReplies::ForUs),
        (", ping_replies: all", PingReplies::All),
        (", ping_replies: off", PingReplies::Off),
    ] {
        let text = GOOD.replace("203.0.113.10", &format!("203.0.113.10{text}"));
        assert_eq!(parse(&text, "f").unwrap().listeners[0].ping_replies, want);
    }
}

#[test]
fn mistakes() {
    for (text, shown) in [("none", "\"none\""), ("true", "true"), ("[all]", "a list")] {
        check(
            "203.0.113.10",
            &format!("203.0.113.10, ping_replies: {text}"),
            &[&format!(
                "f:4:58: listeners[0].ping_replies: {shown} is not known; write for-us, all or off"
            )],
        );
    }
}
