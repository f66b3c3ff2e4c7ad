//! Whatever arrives, from whomever: see `edge.rs` for what is asserted.
//!
//! The input is a byte each for configuration, source and listener, and the datagram, with placeholders for what is
//! signed (`placeholders.rs`). A request that is sent on is answered, and the answer has to come back to its client.

#![no_main]

use std::cell::RefCell;

use lb_fuzz::{
    edge::{Edge, SOURCES},
    placeholders,
};
use lb_userspace::forward::{Action, Datagram, ListenerIndex, Outcome};
use libfuzzer_sys::fuzz_target;

thread_local! {
    static EDGE: RefCell<Edge> = RefCell::default();
}

fuzz_target!(|input: &[u8]| {
    let [configuration, source, listener, payload @ ..] = input else {
        return;
    };
    let source = SOURCES[usize::from(*source) % SOURCES.len()]
        .parse::<std::net::SocketAddr>()
        .expect("an address");
    let listener = match listener % 4 {
        // Mostly that of its family.
        0 | 1 => u16::from(source.is_ipv6()),
        2 => u16::from(!source.is_ipv6()),
        _ => 2,
    };
    EDGE.with_borrow_mut(|edge| {
        let datagram = Datagram {
            payload,
            source,
            listener: ListenerIndex(listener),
        };
        let payload = placeholders::expand(edge.table(*configuration), &datagram);
        let datagram = Datagram {
            payload: &payload,
            ..datagram
        };
        let sent = edge.send(*configuration, datagram);
        let Action::Forward { to, .. } = sent.verdict.action else {
            return;
        };
        let (Some(response), Some(client)) = (sent.response(), sent.client()) else {
            return;
        };
        let answer = Datagram {
            payload: &response,
            source: to,
            ..datagram
        };
        let back = edge.send(*configuration, answer);
        assert_eq!(
            back.verdict.outcome,
            Outcome::Response,
            "{back:?}\nto\n{sent:?}"
        );
        assert!(
            matches!(back.verdict.action, Action::Forward { to, .. } if to == client),
            "{back:?}\nto\n{sent:?}"
        );
    });
});
