//! The first route rule that matches, compared with trying one after the other.

use std::net::IpAddr;

use ipnet::IpNet;
use proptest::{collection::vec, option, prelude::*, sample::select};

use super::edge::{Edge, SECRET, pool};
use crate::{
    forward::{Datagram, ListenerIndex, RouteRule, Texts, request::Request},
    nat::Policy,
    sip::{self, Uri, parse_ip},
    token::Keys,
};

const METHODS: [&str; 6] = ["INVITE", "ACK", "CANCEL", "BYE", "REGISTER", "invite"];
const NETWORKS: [&str; 9] = [
    "0.0.0.0/0",
    "10.0.0.0/8",
    "10.1.0.0/16",
    "10.1.2.3/9",
    "10.1.2.3/32",
    "::/0",
    "::ffff:10.1.2.3/128",
    "2001:db8::/32",
    "2001:db8::1/128",
];
const SOURCES: [&str; 7] = [
    "10.1.2.3",
    "10.1.9.9",
    "10.200.0.1",
    "192.0.2.1",
    "2001:db8::1",
    "2001:db8:1::",
    "::ffff:10.1.2.3",
];
const BEGINNINGS: [&str; 8] = ["", "+", "+4", "+44", "+4420", "+49", "b", "Bob"];
const USERS: [&str; 7] = ["+44", "+442079", "+45", "4", "bob", "Bob:secret", "%2b44"];
/// One in several spellings, and some that differ in a letter.
const DOMAINS: [&str; 13] = [
    "example.com",
    "Example.COM",
    "example.net",
    "sip.example.com",
    "sip.Example.net",
    "a",
    "A",
    "192.0.2.1",
    "192.0.2.01",
    "[2001:db8::1]",
    "[2001:DB8:0::1]",
    "2001:db8::1",
    "[2001:db8::2]",
];
const AGENTS: [&str; 4] = ["", "Y", "Yealink SIP-T4", "yealink"];

fn one<T: Clone + std::fmt::Debug + 'static>(of: &[T]) -> impl Strategy<Value = T> + use<T> {
    select(of.to_vec())
}

/// Most rules ask for few things, or no list would have two that match.
fn asked<T: Clone + std::fmt::Debug + 'static>(
    of: &[T],
) -> impl Strategy<Value = Option<T>> + use<T> {
    option::weighted(0.25, one(of))
}

fn texts() -> impl Strategy<Value = Option<Box<Texts>>> {
    let bytes = |text: Option<&str>| text.map(|text| text.as_bytes().to_vec());
    let texts = (
        asked(&BEGINNINGS),
        asked(&DOMAINS),
        asked(&DOMAINS),
        asked(&DOMAINS),
        asked(&AGENTS),
    );
    let texts = texts.prop_map(move |(user, domain, from, to, agent)| {
        Box::new(Texts {
            request_uri_user: bytes(user),
            request_uri_domain: bytes(domain),
            from_domain: bytes(from),
            to_domain: bytes(to),
            user_agent: bytes(agent),
        })
    });
    option::weighted(0.9, texts)
}

fn rule() -> impl Strategy<Value = RouteRule> {
    let source = prop_oneof![3 => Just(Vec::new()), 1 => vec(one(&NETWORKS), 1..3)];
    let rule = (
        asked(&METHODS),
        asked(&[0, 1, 3]),
        source,
        texts(),
        any::<bool>(),
    );
    rule.prop_map(|(method, listener, source, texts, has_nat)| RouteRule {
        method: method.map(|method| method.as_bytes().to_vec()),
        listener: listener.map(ListenerIndex),
        source: source
            .iter()
            .map(|network| network.parse().unwrap())
            .collect(),
        nat: (has_nat && texts.is_none()).then(Policy::default),
        texts,
        ..RouteRule::everything_to(0)
    })
}

/// Rules none of which matches, since they want an agent besides that nobody is, and some that may.
fn rules() -> impl Strategy<Value = Vec<RouteRule>> {
    let never = |mut rule: RouteRule| {
        rule.texts.get_or_insert_default().user_agent = Some(b"Z".to_vec());
        rule.nat = None;
        rule
    };
    let many = prop_oneof![Just(0..1), Just(50..70), Just(120..140)];
    let never = many.prop_flat_map(move |many| vec(rule().prop_map(never), many));
    (never, vec(rule(), 0..8)).prop_map(|(never, rules)| [never, rules].concat())
}

/// A URI of each kind that there is, and some that are none.
fn uri() -> impl Strategy<Value = String> {
    prop_oneof![
        8 => (one(&USERS), one(&DOMAINS)).prop_map(|(user, host)| format!("sip:{user}@{host}")),
        2 => one(&DOMAINS).prop_map(|host| format!("sip:{host};lr")),
        1 => one(&DOMAINS).prop_map(|host| format!("sips:@{host}:5061?a=b")),
        1 => Just("tel:+442079".to_owned()),
        1 => Just("sip:+44@".to_owned()),
    ]
}

fn message() -> impl Strategy<Value = String> {
    let agents = vec(one(&["Yealink SIP-T46U", "yealink", "x", ""]), 0..3);
    let parts = (one(&METHODS), uri(), uri(), uri(), agents);
    parts.prop_map(|(method, uri, from, to, agents)| {
        let agents = agents.iter().map(|agent| format!("user-AGENT : {agent}\r\n"));
        format!(
            "{method} {uri} SIP/2.0\r\nVia: SIP/2.0/UDP 192.0.2.9;branch=z9hG4bK1\r\nFrom: <{from}>;tag=1\r\n{}\
             To: <{to}>\r\nCall-ID: 1\r\nCSeq: 1 {method}\r\n\r\n",
            agents.collect::<String>()
        )
    })
}

/// Each rule in turn, all that it asks for.
fn tried_one_after_the_other(request: &Request<'_>, rules: &[RouteRule]) -> Option<usize> {
    let bytes = request.bytes;
    let method = match request.method_name.of(bytes) {
        b"ACK" | b"CANCEL" => b"INVITE",
        method => method,
    };
    let uri = |span: Option<sip::Span>| Uri::parse(bytes, span?);
    let is_host = |wanted: &Option<Vec<u8>>, span| {
        wanted.as_ref().is_none_or(|wanted| {
            uri(span).is_some_and(|uri| is_same_host(uri.host.of(bytes), wanted))
        })
    };
    let begins = |wanted: &Option<Vec<u8>>, text: Option<&[u8]>| {
        wanted
            .as_ref()
            .is_none_or(|wanted| text.is_some_and(|text| text.starts_with(wanted)))
    };
    let user = uri(Some(request.uri)).and_then(|uri| uri.user);
    let agent = sip::fields_named(bytes, request.message.headers, &[b"User-Agent"]).next();
    rules.iter().position(|rule| {
        rule.listener
            .is_none_or(|only| only == request.listener_index)
            && rule.method.as_deref().is_none_or(|only| only == method)
            && is_in(request.source.ip(), &rule.source)
            && rule.texts.as_deref().is_none_or(|texts| {
                begins(&texts.request_uri_user, user.map(|user| user.of(bytes)))
                    && begins(&texts.user_agent, agent.map(|agent| agent.value.of(bytes)))
                    && is_host(&texts.request_uri_domain, Some(request.uri))
                    && is_host(&texts.from_domain, request.message.from_uri())
                    && is_host(&texts.to_domain, request.message.to_uri())
            })
    })
}

fn is_in(source: IpAddr, networks: &[IpNet]) -> bool {
    networks.is_empty() || networks.iter().any(|network| network.contains(&source))
}

fn is_same_host(host: &[u8], wanted: &[u8]) -> bool {
    host.eq_ignore_ascii_case(wanted)
        || parse_ip(host).is_some_and(|address| parse_ip(wanted) == Some(address))
}

proptest! {
    #[test]
    fn the_first_rule_that_matches(
        rules in rules(),
        messages in vec((message(), one(&SOURCES), one(&[0, 1, 2, 3])), 1..8),
    ) {
        let keys = Keys::new(SECRET.as_bytes(), None);
        let pools = vec![pool("four", 0, &["10.0.0.11:5060"], &keys)];
        let edge = Edge::with_pools(keys, pools, rules.clone());
        let without_texts = rules.iter().map(|rule| match rule.texts {
            None => rule.clone(),
            // Never there.
            Some(_) => RouteRule {
                listener: Some(ListenerIndex(u16::MAX)),
                ..rule.clone()
            },
        });
        let without_texts = without_texts.collect::<Vec<_>>();
        for (text, source, listener) in &messages {
            let datagram = Datagram {
                payload: text.as_bytes(),
                source: (source.parse::<IpAddr>().unwrap(), 5060).into(),
                listener: ListenerIndex(*listener),
            };
            let message = sip::read(datagram.payload).unwrap();
            let listener = &edge.table.listeners[0];
            let request = Request::new(&edge.table, listener, &datagram, &message).unwrap();
            let expected = tried_one_after_the_other(&request, &rules);
            prop_assert_eq!(request.rule().map(|(place, _)| place), expected, "{}", text);

            let expected = tried_one_after_the_other(&request, &without_texts);
            let expected = expected.filter(|place| rules[*place].nat.is_some());
            let method = request.method_name.of(request.bytes);
            let found = edge.table.nat_rule(datagram.listener, method, datagram.source.ip());
            prop_assert_eq!(found.map(|(place, _)| place), expected, "{}", text);
        }
    }
}
