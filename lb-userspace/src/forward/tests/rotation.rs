//! The secret is changed in the documented steps, with calls in set-up and calls that are up.

use std::{collections::BTreeMap, sync::Arc};

use proptest::{collection::vec, prelude::*, sample::select, strategy::Strategy as AnyStrategy};

use super::edge::{CLIENT, Edge, INVITE, OTHER_CLIENT, Sent, address, response};
use crate::{
    balance::Strategy,
    config,
    forward::{Action, Outcome, Table},
    names::{Answer, Found, Names, OwnedQuestion, Question, Target, Targets},
    token::Keys,
};

const SECOND: u64 = 1_000_000_000;
const BACKEND: &str = "10.0.0.11:5060";
const CARRIER: &str = "192.0.2.50:5060";

/// Secrets by number: the one that signs, and the one that verifies as well.
type Step = (u32, Option<u32>);

/// From secret 0 to secret 1.
const STEPS: [Step; 4] = [(0, None), (0, Some(1)), (1, Some(0)), (1, None)];

fn secret(number: u32) -> String {
    format!("secret number {number} of the fleet")
}

fn keys((current, previous): Step) -> Keys {
    let previous = previous.map(secret);
    let previous = previous.as_ref().map(|secret| secret.as_bytes());
    Keys::new(secret(current).as_bytes(), previous)
}

/// A node that is told of other secrets.
struct Node {
    text: String,
    edge: Edge,
}

impl Node {
    /// With secret 0. `pool` stands in the pool, `rest` at the end of the configuration.
    fn new(pool: &str, rest: &str) -> Self {
        let text = format!(
            "node: {{ name: a }}
listeners: [ {{ name: p, address: 203.0.113.10 }} ]
pools:
  - name: switches
    {pool}
    backends:
      - {{ name: s1, address: '10.0.0.11:5060' }}
      - {{ name: s2, address: '10.0.0.12:5060' }}
      - {{ name: s3, address: '10.0.0.13:5060' }}
outbound: {{ trusted: [10.0.0.0/24]{rest}
"
        );
        let mut edge = Edge::with_table(table(&text, keys(STEPS[0])));
        edge.scratch.now_ns = 1_000 * SECOND;
        Self { text, edge }
    }

    /// Another node of the fleet, at another step.
    fn other(&self, step: Step) -> Self {
        let mut other = Self {
            text: self.text.clone(),
            edge: Edge::with_table(Arc::clone(&self.edge.table)),
        };
        other.reload(step);
        other
    }

    fn reload(&mut self, step: Step) {
        self.edge.table = table(&self.text, keys(step));
    }

    fn send(&mut self, source: &str, text: impl AsRef<[u8]>) -> Sent {
        self.edge.send(source, text)
    }
}

fn table(text: &str, keys: Keys) -> Arc<Table> {
    let mut config =
        config::parse(text, "t.yaml").unwrap_or_else(|error| panic!("{error}\n{text}"));
    config.keys = keys;
    Arc::new(Table::new(&config))
}

/// The INVITE of a call with another method: with the same branch, so that it is of the same transaction.
fn of_call(number: usize, method: &str) -> String {
    INVITE
        .replace("INVITE", method)
        .replace("a84b4c76e66710", &format!("call{number}"))
        .replace("776asdhds", &format!("b{number}"))
}

/// A request in the dialog of a call, towards the backend or the client.
fn in_dialog(number: usize, method: &str, route: &str) -> String {
    of_call(number, method)
        .replace("z9hG4bK", "z9hG4bKdialog")
        .replace("Bob <sip:bob@example.com>", "<sip:bob@example.com>;tag=b")
        .replace("Contact:", &format!("Route: {route}\r\nContact:"))
}

/// A call as those who take part in it see it.
#[derive(Clone, Debug)]
struct Call {
    number: usize,
    /// The INVITE as it was forwarded.
    bytes: Vec<u8>,
    via: String,
    backend: String,
    route: String,
    ringing: String,
}

impl Call {
    fn begin(node: &mut Node, number: usize) -> Self {
        let sent = node
            .send(CLIENT, of_call(number, "INVITE"))
            .expect(Outcome::RequestToPool);
        Self {
            number,
            via: sent.header("Via"),
            backend: sent.to.to_string(),
            route: sent.header("Record-Route"),
            ringing: response(&sent, "180 Ringing", "b"),
            bytes: sent.bytes,
        }
    }

    /// What the INVITE's server takes for part of its transaction.
    #[track_caller]
    fn goes_on(&self, node: &mut Node, method: &str) {
        let sent = node
            .send(CLIENT, of_call(self.number, method))
            .expect(Outcome::RequestToPool)
            .expect_to(&self.backend);
        assert_eq!(sent.header("Via"), self.via, "{method}");
        if method == "INVITE" {
            assert_eq!(sent.bytes, self.bytes, "{}", sent.text());
        }
        let answer = response(&sent, "200 OK", "b");
        node.send(&self.backend, answer).expect_to(CLIENT);
    }

    /// Responses to the INVITE and requests in its dialog find their way.
    #[track_caller]
    fn is_up(&self, node: &mut Node) {
        node.send(&self.backend, &self.ringing)
            .expect(Outcome::Response)
            .expect_to(CLIENT);
        for method in ["ACK", "BYE", "INVITE"] {
            let text = in_dialog(self.number, method, &self.route);
            node.send(CLIENT, &text)
                .expect(Outcome::RequestToBackend)
                .expect_to(&self.backend);
            node.send(&self.backend, &text)
                .expect(Outcome::RequestToClient)
                .expect_to(CLIENT);
        }
    }
}

#[test]
fn a_call_in_set_up_outlives_every_step() {
    for strategy in Strategy::ALL {
        let pool = format!("strategy: {}", strategy.name());
        for steps in STEPS.windows(2) {
            let mut node = Node::new(&pool, " }");
            node.reload(steps[0]);
            // One for each order in which things may come.
            let orders = [["INVITE", "CANCEL", "ACK"], ["CANCEL", "ACK", "INVITE"]];
            for (call, methods) in orders.into_iter().enumerate() {
                node.reload(steps[0]);
                let begun = Call::begin(&mut node, call);
                node.reload(steps[1]);
                for method in methods {
                    begun.goes_on(&mut node, method);
                }
                begun.is_up(&mut node);
                // Also by a node that has not heard of it.
                begun.is_up(&mut node.other(steps[1]));
            }
        }
    }
}

/// Who has one node alone need not tell it of the new secret before.
#[test]
fn a_call_in_set_up_outlives_a_change_in_one_step() {
    let mut node = Node::new("", " }");
    let calls = (0..20).map(|number| Call::begin(&mut node, number));
    let calls = calls.collect::<Vec<_>>();
    node.reload((1, Some(0)));
    for call in &calls {
        for method in ["CANCEL", "ACK", "INVITE"] {
            call.goes_on(&mut node, method);
        }
    }
    // And back again.
    node.reload(STEPS[1]);
    for call in &calls {
        call.goes_on(&mut node, "ACK");
    }
}

#[test]
fn new_calls_begin_under_the_new_secret() {
    let mut node = Node::new("", " }");
    node.reload(STEPS[2]);
    let call = Call::begin(&mut node, 1);
    let mut after = node.other(STEPS[3]);
    call.is_up(&mut after);
    after
        .send(CLIENT, of_call(1, "INVITE"))
        .expect(Outcome::RequestToPool);
    call.goes_on(&mut after, "CANCEL");
}

/// As long as a transaction may last: then its id is of no more use.
#[test]
fn transactions_are_remembered_as_long_as_they_last() {
    let mut node = Node::new("", " }");
    let call = Call::begin(&mut node, 1);
    node.reload(STEPS[2]);
    node.edge.scratch.now_ns += 199 * SECOND;
    call.goes_on(&mut node, "CANCEL");
    node.edge.scratch.now_ns += 201 * SECOND;
    let sent = node.send(CLIENT, of_call(1, "INVITE"));
    assert_ne!(sent.header("Via"), call.via);
}

/// Neither pinned by a strategy nor calls: while there are two secrets these are remembered as well.
#[test]
fn other_transactions_are_kept_while_there_are_two_secrets() {
    let mut node = Node::new("", " }");
    node.reload(STEPS[1]);
    let call = Call::begin(&mut node, 1);
    let requests = [
        (CLIENT, of_call(2, "MESSAGE")),
        (CLIENT, of_call(3, "REGISTER")),
        (CLIENT, in_dialog(1, "INVITE", &call.route)),
        (call.backend.as_str(), in_dialog(1, "UPDATE", &call.route)),
        (
            BACKEND,
            of_call(4, "OPTIONS").replace("bob@example.com SIP", "192.0.2.50 SIP"),
        ),
    ];
    let first = requests.clone().map(|(from, text)| node.send(from, text));
    node.reload(STEPS[2]);
    for ((from, text), first) in requests.into_iter().zip(first) {
        let again = node.send(from, &text);
        // Which backend a retransmission meets is for the lookup table to say.
        assert_eq!(again.header("Via"), first.header("Via"), "{text}");
        if text.contains("Route:") {
            assert_eq!(again.text(), first.text());
        }
    }
    let mut cancel = |method: &str| {
        let text = in_dialog(1, "INVITE", &call.route).replace("INVITE", method);
        node.send(CLIENT, text).header("Via")
    };
    assert_eq!(cancel("CANCEL"), cancel("INVITE"));
}

#[test]
fn the_answer_to_a_challenge_meets_the_server_that_asked() {
    for strategy in ["hash-call-id", "weighted-round-robin", "random"] {
        let mut node = Node::new(&format!("strategy: {strategy}"), " }");
        let calls = (0..20).map(|number| Call::begin(&mut node, number));
        let calls = calls.collect::<Vec<_>>();
        node.reload(STEPS[2]);
        for call in calls {
            let again = of_call(call.number, "INVITE")
                .replace("314159", "314160")
                .replace("z9hG4bK", "z9hG4bKnext");
            node.send(CLIENT, again).expect_to(&call.backend);
        }
    }
}

#[test]
fn a_refused_call_gets_the_same_answer_again() {
    let limits = " }\nlimits: { cps: 1, on_breach: 480, retry_after: 30s }";
    let mut node = Node::new("", limits);
    node.reload(STEPS[1]);
    Call::begin(&mut node, 1);
    let refused = node
        .send(CLIENT, of_call(2, "INVITE"))
        .expect(Outcome::CpsBreached);
    node.reload(STEPS[2]);
    let again = node.send(CLIENT, of_call(2, "INVITE"));
    assert_eq!(again.text(), refused.text());
    let ack = of_call(2, "ACK").replace(
        "To: Bob <sip:bob@example.com>",
        &format!("To: {}", refused.header("To")),
    );
    for step in [STEPS[1], STEPS[2]] {
        node.other(step)
            .send(CLIENT, &ack)
            .expect(Outcome::OwnReplyAcked);
    }
}

fn three_addresses() -> Arc<Names> {
    let question = Question {
        host: b"carrier.test",
        port: None,
        transport_given: false,
        ipv6: false,
    };
    let targets = (1..=3).map(|number: u16| Target {
        address: address(&format!("192.0.2.5{number}:5060")),
        priority: 0,
        weight: 1,
    });
    let answer = Answer::Targets(Targets::new(targets));
    let mut names = Names::default();
    let question = OwnedQuestion::new(&question).unwrap();
    names.put(&question, Found::new(answer, 600), 0);
    Arc::new(names)
}

/// The order of the addresses follows from the transaction.
#[test]
fn requests_to_names_stay_with_their_address() {
    let mut node = Node::new("", " }");
    node.edge.scratch.now_ns = SECOND;
    node.edge.scratch.names = three_addresses();
    let text = |number, method| {
        of_call(number, method).replace("bob@example.com SIP", "123@carrier.test SIP")
    };
    for (number, method) in (0..40).map(|number| (number, ["INVITE", "OPTIONS"][number % 2])) {
        node.reload(STEPS[1]);
        let first = node.send(BACKEND, text(number, method));
        let first = first.expect(Outcome::RequestOutbound);
        node.reload(STEPS[2]);
        let again = node.send(BACKEND, text(number, method));
        assert_eq!((again.to, again.text()), (first.to, first.text()));
        if method == "INVITE" {
            for method in ["CANCEL", "ACK"] {
                let follows = node.send(BACKEND, text(number, method));
                assert_eq!(follows.to, first.to);
                assert_eq!(follows.header("Via"), first.header("Via"));
            }
        }
        // It has been there twice.
        let next = node.send(BACKEND, text(number, method));
        assert_ne!(next.to, first.to);
        assert_eq!(next.header("Via"), first.header("Via"));
    }
}

/// A CANCEL whose INVITE met another node says nothing about the secret that this was signed with.
#[test]
fn a_cancel_alone_does_not_begin_a_transaction() {
    let mut node = Node::new("", " }");
    node.edge.scratch.names = three_addresses();
    let mut other = node.other(STEPS[2]);
    other.edge.scratch.names = three_addresses();
    let text = |method| of_call(1, method).replace("bob@example.com SIP", "123@carrier.test SIP");
    let invite = other.send(BACKEND, text("INVITE"));
    node.reload(STEPS[1]);
    node.send(BACKEND, text("CANCEL"))
        .expect(Outcome::RequestOutbound);
    node.reload(STEPS[2]);
    let ack = node.send(BACKEND, text("ACK"));
    assert_eq!(ack.header("Via"), invite.header("Via"));
}

/// A request of the inside, whose Call-ID is hidden.
fn from_inside(method: &str, uri: &str, route: &str) -> String {
    let route = match route {
        "" => String::new(),
        route => format!("Route: {route}\r\n"),
    };
    let to_tag = if route.is_empty() { "" } else { ";tag=c" };
    format!(
        "{method} {uri} SIP/2.0\r\nVia: SIP/2.0/UDP {BACKEND};branch=z9hG4bKi{}\r\n{route}\
         Max-Forwards: 60\r\nFrom: <sip:bob@10.0.0.11>;tag=b\r\nTo: <sip:123@carrier.test>{to_tag}\r\n\
         Call-ID: i1@10.0.0.11\r\nCSeq: 1 {method}\r\nContact: <sip:bob@10.0.0.11>\r\nContent-Length: 0\r\n\r\n",
        route.len()
    )
}

/// The outside knows a dialog by the Call-ID that we gave it, which comes of the secret.
#[test]
fn a_dialog_keeps_its_hidden_call_id() {
    for before in [STEPS[0], STEPS[1]] {
        let mut node = Node::new("", ", topology: hide }");
        node.reload(before);
        let invite = from_inside("INVITE", "sip:123@192.0.2.50", "");
        let sent = node.send(BACKEND, &invite).expect_to(CARRIER);
        let call_id = sent.header("Call-ID");
        assert!(call_id.starts_with("lbc."), "{call_id}");
        let answer = response(&sent, "200 OK", "c");
        let route = sent.header("Record-Route");
        let bye = of_call(1, "BYE")
            .replace(
                "sip:bob@example.com SIP",
                &format!("{} SIP", sent.header("Contact").trim_matches(['<', '>'])),
            )
            .replace("call1@192.168.1.5", &call_id)
            .replace("Contact:", &format!("Route: {route}\r\nContact:"))
            .replace("Bob <sip:bob@example.com>", "<sip:b>;tag=b");

        let in_set_up = [("INVITE", ""), ("CANCEL", ""), ("ACK", "")];
        let up = [("ACK", route.as_str()), ("BYE", &route), ("INVITE", &route)];
        node.reload(STEPS[2]);
        for (method, route) in in_set_up.into_iter().chain(up) {
            let text = from_inside(method, "sip:123@192.0.2.50", route);
            let sent = node.send(BACKEND, text).expect_to(CARRIER);
            assert_eq!(sent.header("Call-ID"), call_id, "{method} {route}");
        }
        let mut others = [STEPS[1], STEPS[2]].map(|step| node.other(step));
        for other in [&mut node].into_iter().chain(&mut others) {
            let got = other.send(CARRIER, &answer).expect(Outcome::Response);
            assert_eq!(got.header("Call-ID"), "i1@10.0.0.11");
            // What is up needs nobody's memory, in either direction and whoever has the answer.
            for method in ["ACK", "BYE", "INVITE"] {
                let text = from_inside(method, "sip:123@192.0.2.50", &route);
                let sent = other.send(BACKEND, text).expect_to(CARRIER);
                assert_eq!(sent.header("Call-ID"), call_id, "{method}");
            }
            let got = other.send(CARRIER, &bye).expect_to(BACKEND);
            assert_eq!(got.header("Call-ID"), "i1@10.0.0.11");
            for step in [STEPS[1], STEPS[2]] {
                let back = other
                    .other(step)
                    .send(BACKEND, response(&got, "200 OK", "b"));
                let back = back.expect(Outcome::Response).expect_to(CARRIER);
                assert_eq!(back.header("Call-ID"), call_id);
            }
        }
    }
}

#[test]
fn a_call_to_a_phone_that_registered_before_has_one_hidden_call_id() {
    let mut node = Node::new("", ", topology: hide }");
    let path = node.send(CLIENT, of_call(1, "REGISTER")).header("Path");
    node.reload(STEPS[2]);
    let call = |method: &str, tag: &str| {
        from_inside(method, "sip:alice@192.168.1.5", "")
            .replace("Max-Forwards", &format!("Route: {path}\r\nMax-Forwards"))
            .replace(
                "<sip:123@carrier.test>",
                &format!("<sip:123@carrier.test>{tag}"),
            )
    };
    let sent = node.send(BACKEND, call("INVITE", "")).expect_to(CLIENT);
    let call_id = sent.header("Call-ID");
    let ack = node.send(BACKEND, call("ACK", ";tag=x")).expect_to(CLIENT);
    assert_eq!(ack.header("Call-ID"), call_id);
    let bye = from_inside("BYE", "sip:alice@192.168.1.5", &sent.header("Record-Route"));
    let bye = node.send(BACKEND, bye).expect_to(CLIENT);
    assert_eq!(bye.header("Call-ID"), call_id);
}

#[test]
fn registrations_lead_to_the_phone_until_the_old_secret_is_dropped() {
    let mut node = Node::new("registration: contact", " }");
    let sent = node.send(CLIENT, of_call(1, "REGISTER"));
    let contact = sent.header("Contact");
    let uri = contact.trim_matches(['<', '>']);
    let invite = from_inside("INVITE", uri, "");
    for (step, outcome) in STEPS.into_iter().zip([
        Outcome::RequestToClient,
        Outcome::RequestToClient,
        Outcome::RequestToClient,
        Outcome::BadFlowToken,
    ]) {
        node.other(step).send(BACKEND, &invite).expect(outcome);
    }
    // The registrar gets to see a second Contact.
    let refreshed = |step| {
        let text = of_call(1, "REGISTER").replace("314159", "314160");
        node.other(step).send(CLIENT, text).header("Contact")
    };
    assert_eq!(refreshed(STEPS[1]), contact);
    assert_ne!(refreshed(STEPS[2]), contact);
}

#[test]
fn lookup_tables_change_with_the_secret_or_not_at_all() {
    let text = Node::new("", " }").text;
    let fingerprints = |keys: fn(Step) -> Keys| {
        STEPS.map(|step| {
            table(&text, keys(step)).pools[0]
                .table
                .as_ref()
                .unwrap()
                .fingerprint()
        })
    };
    let [first, second, third, last] = fingerprints(keys);
    assert_eq!((first, third), (second, last));
    assert_ne!(second, third);
    // With a secret of their own, which may be the first one.
    let kept = fingerprints(|step| keys(step).with_distribution_secret(secret(0).as_bytes()));
    assert_eq!(kept, [first; 4]);
}

/// What happens next.
#[derive(Clone, Copy, Debug)]
enum Event {
    /// The next step of a rotation; what began under a secret that is dropped is over by then.
    Step,
    Begin,
    /// A message of the call at this place, round about.
    Message(usize, &'static str),
    /// A request that is no call, and its retransmissions.
    Other,
    Retransmission(usize),
    Wait(u64),
}

fn event() -> impl AnyStrategy<Value = Event> {
    const METHODS: [&str; 4] = ["INVITE", "CANCEL", "ACK", "dialog"];
    prop_oneof![
        2 => Just(Event::Step),
        3 => Just(Event::Begin),
        8 => (0usize..8, select(&METHODS[..])).prop_map(|(call, method)| Event::Message(call, method)),
        2 => Just(Event::Other),
        3 => (0usize..8).prop_map(Event::Retransmission),
        1 => (1u64..4).prop_map(Event::Wait),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(60))]

    /// However the steps fall into calls, every message is taken for what it is.
    #[test]
    fn no_call_is_lost(events in vec(event(), 1..60), strategy in select(&Strategy::ALL[..])) {
        let mut node = Node::new(&format!("strategy: {}", strategy.name()), " }");
        let (mut at, mut next) = (0, 0);
        let step_of = |at: usize| {
            let (current, previous) = STEPS[at % 3];
            let base = (at / 3) as u32;
            (base + current, previous.map(|number| base + number))
        };
        let mut calls: BTreeMap<usize, (u32, Call)> = BTreeMap::new();
        let mut others: BTreeMap<usize, (u32, String)> = BTreeMap::new();
        for event in events {
            next += 1;
            let (current, previous) = step_of(at);
            match event {
                Event::Step => {
                    at += 1;
                    let (signs, verifies) = step_of(at);
                    let kept = |secret: u32| secret == signs || verifies == Some(secret);
                    calls.retain(|_, (secret, _)| kept(*secret));
                    others.retain(|_, (secret, _)| kept(*secret));
                    node.reload(step_of(at));
                }
                Event::Begin => {
                    let call = Call::begin(&mut node, next);
                    calls.insert(next, (current, call));
                }
                Event::Message(place, method) => {
                    let Some((_, call)) = calls.values().nth(place % calls.len().max(1)) else { continue };
                    match method {
                        "dialog" => call.is_up(&mut node),
                        method => call.goes_on(&mut node, method),
                    }
                }
                // One that began before there were two secrets is not remembered.
                Event::Other if previous.is_none() => {}
                Event::Other => {
                    let sent = node.send(OTHER_CLIENT, of_call(next, "MESSAGE"));
                    others.insert(next, (current, sent.header("Via")));
                }
                Event::Retransmission(place) => {
                    let Some((number, (_, via))) = others.iter().nth(place % others.len().max(1)) else { continue };
                    let sent = node.send(OTHER_CLIENT, of_call(*number, "MESSAGE"));
                    let is_sent = matches!(sent.verdict.action, Action::Forward { .. });
                    prop_assert!(is_sent);
                    prop_assert_eq!(&sent.header("Via"), via);
                }
                Event::Wait(seconds) => {
                    node.edge.scratch.now_ns += seconds * SECOND / 10;
                }
            }
        }
    }
}
