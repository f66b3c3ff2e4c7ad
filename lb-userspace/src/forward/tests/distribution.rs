//! Strategies, rules, what a worker remembers, and limits on calls.

use std::{collections::HashMap, sync::Arc};

use proptest::{prelude::*, strategy::Strategy as AnyStrategy};

use super::edge::*;
use crate::{
    balance::{BackendIndex, Roster, State, Strategy},
    config::{self, Config},
    forward::{Action, Datagram, ListenerIndex, Outcome, Scratch, Table, Trace},
    limit::CallLimits,
    token::Keys,
};

const SECOND: u64 = 1_000_000_000;

/// An edge with four backends, 10.0.0.1 to 10.0.0.4, whose states can change.
struct Node {
    config: Config,
    roster: Roster,
    calls: Arc<CallLimits>,
    edge: Edge,
}

impl Node {
    /// `pool` stands in the pool, `rest` at the end of the configuration.
    fn new(pool: &str, rest: &str) -> Self {
        let weights = "{ name: b1, address: '10.0.0.1:5060', weight: 2 }, { name: b2, address: '10.0.0.2:5060' },
            { name: b3, address: '10.0.0.3:5060' }, { name: b4, address: '10.0.0.4:5060', weight: 3 }";
        Self::with_backends(pool, weights, rest)
    }

    fn with_backends(pool: &str, backends: &str, rest: &str) -> Self {
        let text = format!(
            "node: {{ name: a }}
listeners: [ {{ name: p, address: 203.0.113.10 }}, {{ name: q, address: 203.0.113.11 }} ]
pools: [ {{ name: switches, {pool} backends: [ {backends} ] }},
         {{ name: other, backends: [ {{ name: o1, address: '10.0.1.1:5060' }} ] }} ]
{rest}"
        );
        let text = match rest.contains("routes:") {
            true => text,
            false => text + "\nroutes: [ { pool: switches } ]\n",
        };
        let mut config =
            config::parse(&text, "t.yaml").unwrap_or_else(|error| panic!("{error}\n{text}"));
        config.keys = Keys::new(SECRET.as_bytes(), None);
        let roster = Roster::new(&config);
        let calls = Arc::new(CallLimits::new(&config));
        let table = Table::with_state(&config, &roster, &calls);
        let mut edge = Edge::with_table(Arc::new(table));
        edge.scratch.now_ns = 1_000 * SECOND;
        Self {
            config,
            roster,
            calls,
            edge,
        }
    }

    fn set(&mut self, name: &str, state: State) {
        let index = self.roster.by_name(name).expect("a backend");
        self.roster.get_mut(index).expect("a backend").state = state;
        let table = Table::with_state(&self.config, &self.roster, &self.calls);
        self.edge.table = Arc::new(table);
    }

    fn later(&mut self, ns: u64) {
        self.edge.scratch.now_ns += ns;
    }

    /// The number of the backend that a request goes to: the last one of its address.
    #[track_caller]
    fn backend(&mut self, request: &str) -> u8 {
        let sent = self
            .edge
            .send(CLIENT, request)
            .expect(Outcome::RequestToPool);
        last_octet(sent.to)
    }

    fn choice_key(&mut self, request: &str) -> Option<String> {
        let datagram = Datagram {
            payload: request.as_bytes(),
            source: address(CLIENT),
            listener: ListenerIndex(0),
        };
        let trace = Trace::new(&self.edge.table, &datagram, Outcome::RequestToPool);
        let key = trace.choice.expect("a choice").key;
        key.map(|key| String::from_utf8(key).expect("text"))
    }
}

fn last_octet(address: std::net::SocketAddr) -> u8 {
    match address.ip() {
        std::net::IpAddr::V4(address) => address.octets()[3],
        std::net::IpAddr::V6(_) => panic!("{address}"),
    }
}

/// The INVITE of another call.
fn call(number: u32) -> String {
    INVITE
        .replace("a84b4c76e66710", &format!("call{number}"))
        .replace("776asdhds", &format!("b{number}"))
}

/// The request with another method in the same transaction, as CANCEL and ACK to a non-2xx response are.
fn with_method(invite: &str, method: &str) -> String {
    invite.replace("INVITE", method)
}

/// The INVITE again with credentials: the next number in CSeq, another branch.
fn with_credentials(invite: &str, username: &str) -> String {
    invite
        .replace("314159 INVITE", "314160 INVITE")
        .replace("z9hG4bK", "z9hG4bKnext")
        .replace(
            "Contact:",
            &format!(
                "Proxy-Authorization: Digest username=\"{username}\", realm=\"r\"\r\nContact:"
            ),
        )
}

#[test]
fn what_each_strategy_picks_by() {
    let invite = INVITE
        .replace(
            "INVITE sip:bob@example.com ",
            "INVITE sip:Bob@Example.com:5070;x=y ",
        )
        .replace("<sip:bob@example.com>", "<sips:bob@example.com:5061>");
    for (pool, want) in [
        (
            "strategy: hash-call-id,",
            Some("a84b4c76e66710@192.168.1.5"),
        ),
        ("strategy: hash-from-uri,", Some("alice@example.com")),
        ("strategy: hash-from-uri, user_only: true,", Some("alice")),
        ("strategy: hash-to-uri,", Some("bob@example.com")),
        ("strategy: hash-request-uri,", Some("Bob@example.com:5070")),
        ("strategy: hash-request-uri, user_only: true,", Some("Bob")),
        ("strategy: weighted-round-robin,", None),
        ("strategy: hash-auth-username,", None),
        (
            "strategy: random,",
            Some("a84b4c76e66710@192.168.1.5 and 1928301774"),
        ),
        ("strategy: first,", None),
    ] {
        let mut node = Node::new(pool, "");
        assert_eq!(node.choice_key(&invite).as_deref(), want, "{pool}");
        node.backend(&invite);
    }
    let mut node = Node::new("strategy: hash-auth-username,", "");
    let text = with_credentials(INVITE, "carol");
    assert_eq!(node.choice_key(&text).as_deref(), Some("carol"));
    let both = text.replace(
        "Contact:",
        "Authorization: Digest username=dave\r\nContact:",
    );
    assert_eq!(
        node.choice_key(&both).as_deref(),
        Some("carol"),
        "the proxy's first"
    );
    let other = both.replace("Proxy-Authorization", "X-Authorization");
    assert_eq!(node.choice_key(&other).as_deref(), Some("dave"));

    let mut node = Node::new("strategy: hash-request-uri, user_only: true,", "");
    let tel = INVITE.replace("sip:bob@example.com SIP", "tel:+4412345 SIP");
    assert_eq!(node.choice_key(&tel).as_deref(), Some("tel:+4412345"));
    let nobody = INVITE.replace("sip:bob@example.com SIP", "sip:Example.com SIP");
    assert_eq!(node.choice_key(&nobody).as_deref(), Some("@example.com"));
}

/// By weights 5:3:2, within one percent of 100,000 calls.
#[test]
fn hashes_share_by_weight() {
    let backends = "{ name: b1, address: '10.0.0.1:5060', weight: 5 }, { name: b2, address: '10.0.0.2:5060', weight: 3 },
        { name: b3, address: '10.0.0.3:5060', weight: 2 }";
    for strategy in Strategy::ALL {
        if matches!(strategy, Strategy::WeightedRoundRobin | Strategy::First) {
            continue;
        }
        let mut node =
            Node::with_backends(&format!("strategy: {},", strategy.name()), backends, "");
        let mut calls = [0u32; 3];
        const CALLS: u32 = 100_000;
        for number in 0..CALLS {
            let text = with_credentials(&call(number), &format!("user{number}"))
                .replace("sip:bob@", &format!("sip:b{number}@"))
                .replace("sip:alice@", &format!("sip:a{number}@"));
            calls[usize::from(node.backend(&text)) - 1] += 1;
        }
        for (calls, weight) in calls.into_iter().zip([5, 3, 2]) {
            let off = f64::from(calls) / f64::from(CALLS) - f64::from(weight) / 10.0;
            assert!(off.abs() < 0.01, "{}: {off} off", strategy.name());
        }
    }
}

#[test]
fn turns_are_taken_by_calls_not_by_messages() {
    let mut node = Node::new("strategy: weighted-round-robin,", "");
    let mut got = Vec::new();
    for number in 0..14 {
        let invite = call(number);
        let first = node.backend(&invite);
        got.push(first);
        for other in [
            invite.clone(),
            with_method(&invite, "CANCEL"),
            with_method(&invite, "ACK"),
            with_credentials(&invite, "carol"),
            with_method(&with_credentials(&invite, "carol"), "ACK"),
        ] {
            assert_eq!(node.backend(&other), first, "{other}");
        }
    }
    assert_eq!(got, [1, 1, 2, 3, 4, 4, 4, 1, 1, 2, 3, 4, 4, 4]);
    // Requests that are no calls take turns as well, and their retransmissions do not.
    let options = with_method(&call(100), "OPTIONS");
    assert_eq!([node.backend(&options), node.backend(&options)], [1, 1]);
    assert_eq!(node.backend(&with_method(&call(101), "MESSAGE")), 1);
    assert_eq!(node.backend(&with_method(&call(102), "MESSAGE")), 2);
}

#[test]
fn credentials_move_a_call_and_nothing_of_it_is_left_behind() {
    let mut node = Node::new("strategy: hash-auth-username,", "");
    let mut moved = 0;
    for number in 0..50 {
        let invite = call(number);
        let challenged_by = node.backend(&invite);
        let answer = with_credentials(&invite, &format!("user{number}"));
        let final_one = node.backend(&answer);
        moved += usize::from(final_one != challenged_by);
        // Neither has credentials.
        let bare = answer.replace("Proxy-Authorization", "X-None");
        assert_eq!(node.backend(&with_method(&bare, "CANCEL")), final_one);
        assert_eq!(node.backend(&with_method(&bare, "ACK")), final_one);
        assert_eq!(
            node.backend(&with_method(&invite, "ACK")),
            challenged_by,
            "a late one"
        );
        assert_eq!(node.backend(&answer), final_one);
        // The same user on another call, at another node.
        let again = with_credentials(&call(1000 + number), &format!("user{number}"));
        let mut other = Node::new("strategy: hash-auth-username,", "");
        assert_eq!(other.backend(&again), final_one);
    }
    assert!((10..50).contains(&moved), "{moved}");
}

#[test]
fn first_and_priorities_fail_over_and_back() {
    let backends = "{ name: b1, address: '10.0.0.1:5060', priority: 1 }, { name: b2, address: '10.0.0.2:5060' },
        { name: b3, address: '10.0.0.3:5060' }, { name: b4, address: '10.0.0.4:5060', priority: 1, weight: 0 }";
    let mut node = Node::with_backends("strategy: first,", backends, "");
    let mut number = 0;
    let mut next = |node: &mut Node| {
        number += 1;
        node.backend(&call(number))
    };
    assert_eq!(next(&mut node), 2);
    node.set("b2", State::Unhealthy);
    assert_eq!(next(&mut node), 3);
    node.set("b3", State::Draining);
    assert_eq!(next(&mut node), 1);
    node.set("b1", State::Disabled);
    assert_eq!(next(&mut node), 2, "what looks dead is better than nobody");
    node.set("b2", State::Disabled);
    let sent = node.edge.send(CLIENT, call(100));
    sent.expect(Outcome::NoUsableBackend);
    for name in ["b3", "b2", "b1"] {
        node.set(name, State::Active);
    }
    assert_eq!(next(&mut node), 2, "and back");
}

#[test]
fn a_call_in_set_up_leaves_a_dead_backend_and_no_other() {
    for strategy in Strategy::ALL {
        let mut node = Node::new(&format!("strategy: {},", strategy.name()), "");
        let invite = call(7);
        let first = node.backend(&invite);
        let name = format!("b{first}");
        node.set(&name, State::Draining);
        assert_eq!(node.backend(&invite), first, "draining keeps what it has");
        assert_eq!(node.backend(&with_method(&invite, "CANCEL")), first);
        node.set(&name, State::Unhealthy);
        let second = node.backend(&invite);
        assert_ne!(second, first, "{}", strategy.name());
        node.set(&name, State::Active);
        for method in ["INVITE", "CANCEL", "ACK"] {
            let text = with_method(&invite, method);
            assert_eq!(node.backend(&text), second, "{} {method}", strategy.name());
        }
    }
}

#[test]
fn rules_look_at_all_that_they_name() {
    let rest = "routes:
  - { source: [198.51.100.7], method: MESSAGE, pool: other }
  - { request_uri_user: '+44', pool: other }
  - { request_uri_domain: a.Example, from_domain: '2001:db8::1', pool: other }
  - { to_domain: t.example, listener: p, pool: other }
  - { user_agent: 'Yealink SIP', pool: other }
  - { pool: switches, strategy: first }";
    let mut node = Node::new("", rest);
    let mut goes_to_other = |source: &str, text: &str| {
        // They look like one transaction, which would stay together.
        node.edge.scratch = Scratch::new();
        let sent = node.edge.send(source, text).expect(Outcome::RequestToPool);
        sent.to.to_string().starts_with("10.0.1.")
    };
    let replaced = |from: &str, to: &str| {
        assert!(INVITE.contains(from), "{from}");
        INVITE.replacen(from, to, 1)
    };
    assert!(!goes_to_other(CLIENT, INVITE));
    assert!(goes_to_other(CLIENT, &with_method(INVITE, "MESSAGE")));
    assert!(!goes_to_other(
        OTHER_CLIENT,
        &with_method(INVITE, "MESSAGE")
    ));
    assert!(goes_to_other(CLIENT, &replaced("sip:bob@", "sip:+4420@")));
    assert!(!goes_to_other(CLIENT, &replaced("sip:bob@", "sip:+4520@")));
    assert!(!goes_to_other(
        CLIENT,
        &replaced("sip:bob@example.com", "tel:+4420")
    ));
    let domain = replaced("bob@example.com", "bob@A.EXAMPLE:5080");
    assert!(!goes_to_other(CLIENT, &domain));
    let both = domain.replace("alice@example.com>", "alice@[2001:DB8::0:1]>");
    assert!(goes_to_other(CLIENT, &both));
    assert!(goes_to_other(
        CLIENT,
        &replaced("<sip:bob@example.com>", "<sip:x@t.example>")
    ));
    assert!(goes_to_other(
        CLIENT,
        &replaced("Contact:", "USER-AGENT : Yealink SIP-T46\r\nContact:")
    ));
    assert!(!goes_to_other(
        CLIENT,
        &replaced("Contact:", "User-Agent: Yealink\r\nContact:")
    ));
    // CANCEL and ACK follow.
    assert!(goes_to_other(CLIENT, &with_method(&both, "CANCEL")));
}

/// Sends a call and returns what becomes of it.
fn outcome(node: &mut Node, source: &str, text: &str) -> Outcome {
    node.edge.send(source, text).verdict.outcome
}

#[test]
fn calls_above_the_limit_are_refused_and_counted_once() {
    let mut node = Node::new("", "limits: { cps: 2, on_breach: 480, retry_after: 5s }");
    use Outcome::{CpsBreached as No, RequestToPool as Yes};
    let counts = |node: &Node| (node.calls.node.accepted(), node.calls.node.breached());
    for (number, want) in [
        (1, Yes),
        (2, Yes),
        (3, No),
        (3, No),
        (1, Yes),
        (4, No),
        (2, Yes),
    ] {
        assert_eq!(outcome(&mut node, CLIENT, &call(number)), want, "{number}");
    }
    assert_eq!(counts(&node), (2, 2), "retransmissions are not counted");
    let refused = node.edge.send(CLIENT, call(3)).expect(No);
    assert_eq!(refused.start_line(), "SIP/2.0 480 Call Rate Exceeded");
    let seconds: u32 = refused.header("Retry-After").parse().unwrap();
    assert!((5..=10).contains(&seconds), "{seconds}");
    assert_eq!(node.edge.send(CLIENT, call(3)).text(), refused.text());

    // What belongs to a call that was accepted, and what is no call, passes.
    for text in [
        with_credentials(&call(1), "carol"),
        with_method(&call(1), "CANCEL"),
        with_method(&call(9), "MESSAGE"),
        with_method(&call(9), "REGISTER"),
    ] {
        assert_eq!(outcome(&mut node, CLIENT, &text), Yes, "{text}");
    }
    assert_eq!(counts(&node), (2, 2));
    // The ACK to our refusal is swallowed, and the same caller may try again later.
    let to = refused.header("To");
    let ack = with_method(&call(3), "ACK").replace("Bob <sip:bob@example.com>", &to);
    assert_eq!(outcome(&mut node, CLIENT, &ack), Outcome::OwnReplyAcked);
    node.later(SECOND);
    assert_eq!(
        outcome(&mut node, CLIENT, &call(3)),
        No,
        "this transaction is refused"
    );
    let again = call(3).replace("314159 INVITE", "314160 INVITE");
    assert_eq!(outcome(&mut node, CLIENT, &again), Yes);
    assert_eq!(counts(&node), (3, 2));
}

/// A Call-ID that is used again and again is no way around a limit.
#[test]
fn answers_to_challenges_are_free_and_no_more() {
    let rest = "limits: { cps: 2, silence_after: 0 }";
    let mut node = Node::new("", rest);
    use Outcome::{CpsBreached as No, RequestToPool as Yes};
    let nth = |number: u32| call(1).replace("z9hG4bK", &format!("z9hG4bK{number}x"));
    let mut got = Vec::new();
    for number in 0..8 {
        got.push(outcome(&mut node, CLIENT, &nth(number)));
        // Each retransmission meets the same.
        assert_eq!(outcome(&mut node, CLIENT, &nth(number)), got[got.len() - 1]);
    }
    assert_eq!(got, [Yes, Yes, Yes, Yes, Yes, No, No, No]);
    assert_eq!(
        (node.calls.node.accepted(), node.calls.node.breached()),
        (2, 3)
    );
    // The same for what a flow token leads.
    let mut node = Node::new("", rest);
    let route = node.edge.send(CLIENT, call(9)).header("Record-Route");
    let led = |number: u32| nth(number).replace("Contact:", &format!("Route: {route}\r\nContact:"));
    let got = (0..7).map(|number| outcome(&mut node, CLIENT, &led(number)));
    let got = got.collect::<Vec<_>>();
    assert_eq!(got[..4], [Outcome::RequestToBackend; 4]);
    assert_eq!(got[4..], [No; 3]);
}

#[test]
fn no_sliding_second_has_more_calls_than_allowed() {
    let mut node = Node::new("", "limits: { cps: 100, silence_after: 0 }");
    let mut accepted = Vec::new();
    for number in 0..2_500u32 {
        node.later(4_000_000);
        match outcome(&mut node, CLIENT, &call(number)) {
            Outcome::RequestToPool => accepted.push(node.edge.scratch.now_ns),
            other => assert_eq!(other, Outcome::CpsBreached),
        }
    }
    for window in accepted.windows(101) {
        assert!(window[100] - window[0] >= SECOND);
    }
    assert!(accepted.len() > 990, "{} in ten seconds", accepted.len());
}

#[test]
fn all_limits_hold_and_each_counts() {
    let rest = "limits: { cps: 10, silence_after: 0, sources: [ { network: 198.51.100.7, cps: 1 } ] }
routes: [ { method: INVITE, from_domain: example.com, pool: switches, cps: 3 }, { pool: switches } ]";
    let mut node = Node::new("", rest);
    use Outcome::{CpsBreached as No, RequestToPool as Yes};
    assert_eq!(outcome(&mut node, CLIENT, &call(1)), Yes);
    assert_eq!(outcome(&mut node, CLIENT, &call(2)), No, "of the source");
    for (number, want) in [(3, Yes), (4, Yes), (5, No)] {
        assert_eq!(
            outcome(&mut node, OTHER_CLIENT, &call(number)),
            want,
            "of the rule"
        );
    }
    let elsewhere = |number| call(number).replace("alice@example.com", "alice@example.net");
    for number in 10..17 {
        assert_eq!(outcome(&mut node, OTHER_CLIENT, &elsewhere(number)), Yes);
    }
    assert_eq!(
        outcome(&mut node, OTHER_CLIENT, &elsewhere(17)),
        No,
        "of the node"
    );
    let source = node.calls.of_source(address(CLIENT).ip()).unwrap();
    assert_eq!((source.accepted(), source.breached()), (1, 1));
    let rule = node.calls.of_rule(&node.config.routes[0]).unwrap();
    assert_eq!((rule.accepted(), rule.breached()), (3, 1));
    assert_eq!(
        (node.calls.node.accepted(), node.calls.node.breached()),
        (10, 3)
    );
}

#[test]
fn a_backend_that_has_its_fill_leaves_the_call_to_the_next_best() {
    for strategy in Strategy::ALL {
        let backends = "{ name: b1, address: '10.0.0.1:5060', cps: 2 }, { name: b2, address: '10.0.0.2:5060', cps: 3 },
            { name: b3, address: '10.0.0.3:5060', cps: 1 }, { name: b4, address: '10.0.0.4:5060', cps: 2 }";
        let pool = format!("strategy: {},", strategy.name());
        let mut node = Node::with_backends(&pool, backends, "");
        let mut calls = HashMap::<u8, u32>::new();
        for number in 0..8 {
            let first = node.backend(&call(number));
            *calls.entry(first).or_default() += 1;
            assert_eq!(node.backend(&with_method(&call(number), "CANCEL")), first);
            if strategy != Strategy::HashAuthUsername {
                let answer = with_credentials(&call(number), "carol");
                assert_eq!(node.backend(&answer), first, "{}", strategy.name());
            }
        }
        let want = [(1, 2), (2, 3), (3, 1), (4, 2)];
        assert_eq!(calls, HashMap::from(want), "{}", strategy.name());
        assert_eq!(outcome(&mut node, CLIENT, &call(100)), Outcome::CpsBreached);
        assert_eq!(outcome(&mut node, CLIENT, &call(100)), Outcome::CpsBreached);
        assert_eq!(node.calls.node.breached(), 1);
    }
}

#[test]
fn who_keeps_pushing_gets_no_answer() {
    let mut node = Node::new("", "limits: { cps: 1, silence_after: 2 }");
    use Outcome::{CpsBreached, CpsBreachedSilently};
    outcome(&mut node, OTHER_CLIENT, &call(0));
    let mut got = Vec::new();
    for number in 1..6 {
        got.push(outcome(&mut node, CLIENT, &call(number)));
    }
    let want = [
        CpsBreached,
        CpsBreached,
        CpsBreachedSilently,
        CpsBreachedSilently,
        CpsBreachedSilently,
    ];
    assert_eq!(got, want);
    assert_eq!(
        outcome(&mut node, OTHER_CLIENT, &call(6)),
        CpsBreached,
        "another one"
    );
    assert_eq!(
        outcome(&mut node, CLIENT, &call(1)),
        CpsBreached,
        "as it was"
    );
    let mut silent = Node::new("", "limits: { cps: 1, on_breach: silence }");
    outcome(&mut silent, CLIENT, &call(0));
    assert_eq!(outcome(&mut silent, CLIENT, &call(1)), CpsBreachedSilently);
}

/// What a drain waits for: calls in set-up, and no longer than it takes.
#[test]
fn calls_are_in_set_up_until_they_are_acknowledged() {
    let mut node = Node::new("", "");
    let pins = |node: &mut Node| {
        let now_ns = node.edge.scratch.now_ns;
        let mut counts = [0; 8];
        let pins = &mut node.edge.scratch.memory.pins;
        assert!(pins.sweep(usize::MAX / 2, now_ns, &mut counts));
        counts.iter().sum::<u32>()
    };
    let invites = [1, 2, 3].map(|number| node.edge.send(CLIENT, call(number)));
    node.later(SECOND);
    assert_eq!(
        pins(&mut node),
        3,
        "one each, whatever it takes to remember a call"
    );
    // A refusal of the first is acknowledged, and so is the answer to the second, by its flow token.
    node.edge.send(CLIENT, with_method(&call(1), "ACK"));
    let route = invites[1].header("Record-Route");
    let ack = with_method(&call(2), "ACK")
        .replace("z9hG4bK", "z9hG4bKack")
        .replace(
            "Bob <sip:bob@example.com>",
            "Bob <sip:bob@example.com>;tag=b",
        )
        .replace("Contact:", &format!("Route: {route}\r\nContact:"));
    node.edge
        .send(CLIENT, ack)
        .expect(Outcome::RequestToBackend);
    node.later(34 * SECOND);
    assert_eq!(pins(&mut node), 1, "the third still rings");
    node.later(170 * SECOND);
    assert_eq!(pins(&mut node), 0);
}

/// One thing that happens.
#[derive(Clone, Copy, Debug)]
enum Step {
    /// A message of a call: 0 INVITE, 1 CANCEL, 2 ACK to a non-2xx, 3 INVITE with credentials, 4 CANCEL of that.
    Message {
        call: u32,
        which: usize,
    },
    /// A backend gets another state, of those in which it keeps its transactions.
    State {
        backend: usize,
        drains: bool,
    },
    Time {
        ms: u64,
    },
}

fn step() -> impl AnyStrategy<Value = Step> {
    prop_oneof![
        6 => (0u32..6, 0usize..5).prop_map(|(call, which)| Step::Message { call, which }),
        2 => (0usize..4, any::<bool>()).prop_map(|(backend, drains)| Step::State { backend, drains }),
        1 => (0u64..3_000).prop_map(|ms| Step::Time { ms }),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// Whatever the table does meanwhile, all of a transaction meets one backend as long as that one keeps its transactions.
    #[test]
    fn a_transaction_stays_together(
        which in 0usize..8,
        steps in proptest::collection::vec(step(), 1..60),
    ) {
        let strategy = Strategy::ALL[which];
        let mut node = Node::new(&format!("strategy: {},", strategy.name()), "");
        // Where each transaction went, by call and whether it has credentials.
        let mut homes = HashMap::<(u32, bool), u8>::new();
        for step in steps {
            match step {
                Step::Time { ms } => node.later(ms * 1_000_000),
                Step::State { backend, drains } => {
                    let state = if drains { State::Draining } else { State::Active };
                    node.set(&format!("b{}", backend + 1), state);
                }
                Step::Message { call: number, which } => {
                    let invite = call(number);
                    let answer = with_credentials(&invite, &format!("user{number}"));
                    let bare = answer.replace("Proxy-Authorization", "X-None");
                    let (text, answers) = match which {
                        0 => (invite, false),
                        1 => (with_method(&invite, "CANCEL"), false),
                        2 => (with_method(&invite, "ACK"), false),
                        3 => (answer, true),
                        _ => (with_method(&bare, "CANCEL"), true),
                    };
                    let opens = matches!(which, 0 | 3);
                    let home = homes.get(&(number, answers)).copied();
                    if !opens && home.is_none() {
                        // Nothing to follow.
                        continue;
                    }
                    let sent = node.edge.send(CLIENT, &text);
                    let Action::Forward { to, .. } = sent.verdict.action else {
                        // All backends drain.
                        prop_assert_eq!(home, None);
                        continue;
                    };
                    let went = last_octet(to);
                    prop_assert_eq!(*homes.entry((number, answers)).or_insert(went), went);
                }
            }
        }
    }
}

/// Else one could reach by a rule for INVITE what a rule for REGISTER leads elsewhere.
#[test]
fn a_pin_does_not_lead_around_the_rules() {
    let rest = "routes: [ { method: REGISTER, pool: other }, { listener: q, pool: other }, { pool: switches } ]";
    let mut node = Node::new("", rest);
    node.backend(&call(1));
    let mut goes_to = |text: &str, listener| {
        let datagram = Datagram {
            payload: text.as_bytes(),
            source: address(CLIENT),
            listener: ListenerIndex(listener),
        };
        let Node { edge, .. } = &mut node;
        let verdict = crate::forward::forward(&edge.table, &datagram, &mut edge.scratch);
        let Action::Forward { to, .. } = verdict.action else {
            panic!("{verdict:?}");
        };
        to.to_string()
    };
    let home = goes_to(&call(1), 0);
    assert_eq!(
        goes_to(&with_method(&call(1), "REGISTER"), 0),
        "10.0.1.1:5060"
    );
    assert_eq!(
        goes_to(&call(1), 1),
        "10.0.1.1:5060",
        "it is another call there"
    );
    // As after a change of the rules.
    assert_eq!(goes_to(&call(2), 1), "10.0.1.1:5060");
    assert_eq!(
        goes_to(&with_method(&call(2), "CANCEL"), 0),
        "10.0.1.1:5060"
    );
    assert!(home.starts_with("10.0.0."));
}

#[test]
fn a_pin_of_a_backend_that_is_gone_leads_nowhere() {
    let mut node = Node::new("strategy: weighted-round-robin,", "");
    let invite = call(1);
    assert_eq!(node.backend(&invite), 1);
    // Taken out of the configuration; its index stays its own.
    node.config.pools[0].backends.remove(0);
    node.roster.update(&node.config).unwrap();
    node.edge.table = Arc::new(Table::with_state(&node.config, &node.roster, &node.calls));
    assert_eq!(
        node.edge
            .table
            .backend(BackendIndex(0))
            .map(|b| b.name.as_str()),
        None
    );
    assert_ne!(node.backend(&invite), 1);
}
