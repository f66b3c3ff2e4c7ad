//! Whatever arrives, from whomever: see `edge.rs` for what is asserted.
//!
//! The input is a byte each for configuration, source and listener, and the datagram, with placeholders for what is
//! signed (`placeholders.rs`). A request that is sent on is answered, and the answer has to come back to its
//! client; so has a request to a Contact that got an alias.

#![no_main]

use std::{cell::RefCell, net::SocketAddr};

use lb_fuzz::{
    edge::{self, Edge},
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
    let source = edge::source(*source);
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
        let Action::Forward { to, from, .. } = sent.verdict.action else {
            return;
        };
        if let (Some(response), Some(client)) = (sent.response(), sent.client()) {
            let answer = Datagram {
                payload: &response,
                source: to,
                listener: from,
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
            sent.check_brought_back(&back);
            sent.check_granted(&response, &back);
        }
        if let Some((request, uri)) = sent.call_back() {
            let request = Datagram {
                payload: &request,
                source: to,
                ..datagram
            };
            let back = edge.send(*configuration, request);
            // A Contact of ours leads where responses go, an alias where the request came from.
            let client = match request.payload.windows(5).any(|part| part == b";lbr=") {
                true => sent.client().expect("it was sent on"),
                false => SocketAddr::new(source.ip().to_canonical(), source.port()),
            };
            assert!(
                matches!(back.verdict.action, Action::Forward { to, .. } if to == client),
                "{back:?}\nafter\n{sent:?}"
            );
            assert_eq!(
                back.request_uri(),
                Some(&uri[..]),
                "{back:?}\nafter\n{sent:?}"
            );
        }
    });
});
