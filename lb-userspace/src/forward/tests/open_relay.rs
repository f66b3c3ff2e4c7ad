//! Whatever the outside sends, it reaches a pool, the two ends of a token that it was given, or itself. Nobody else.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::SocketAddr,
};

use super::edge::{SECRET, address};
use crate::{
    forward::{Action, Datagram, ListenerIndex, Outcome, Scratch, Table, Verdict, forward},
    sip,
    token::{
        CONTACT_TOKEN_MAX, ContactOf, ContactToken, FLOW_TOKEN_MAX, FlowKind, FlowToken,
        HIDDEN_MAX, Hidden, HiddenText, Keys, TransactionParts,
    },
};

const VIP: &str = "203.0.113.10:5060";
const POOL: [&str; 3] = ["10.0.0.11:5060", "10.0.0.12:5060", "10.0.0.13:5080"];
/// The ends of the tokens, which nothing else leads to.
const TOKEN_CLIENT: &str = "198.51.100.200:40000";
const TOKEN_BACKEND: &str = "10.0.0.99:5070";
const CONTACT_CLIENT: &str = "198.51.100.201:40001";
const CONTACT_BACKEND: &str = "10.0.0.98:5071";
const ALIAS_CLIENT: &str = "198.51.100.202:40002";
/// Who sends: clients, another one, a neighbour of a backend, and another port of the VIP.
const SOURCES: [&str; 5] = [
    "198.51.100.7:40000",
    "198.51.100.8:5060",
    "192.0.2.66:5060",
    "10.0.0.14:5060",
    "203.0.113.10:5070",
];
const CONFIGURATIONS: [(&str, &str); 5] = [
    ("path", ""),
    ("contact", ""),
    ("off", ""),
    (
        "path",
        "outbound: { topology: hide, trusted: [10.8.0.0/24] }",
    ),
    (
        "contact",
        "outbound: { trusted: [10.8.0.0/24, '2001:db8:9::/48'] }",
    ),
];
const METHODS: [&str; 10] = [
    "INVITE",
    "REGISTER",
    "OPTIONS",
    "BYE",
    "ACK",
    "CANCEL",
    "MESSAGE",
    "SUBSCRIBE",
    "REFER",
    "FOO",
];
const KINDS: [FlowKind; 4] = [
    FlowKind::Registration,
    FlowKind::FromClient,
    FlowKind::Outbound,
    FlowKind::ToClient,
];

/// xorshift64: any sequence will do, as long as it is always the same.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    fn pick<'a, T>(&mut self, all: &'a [T]) -> &'a T {
        &all[(self.next() >> 16) as usize % all.len()]
    }
}

/// A piece of a request, and whom it may lead to.
#[derive(Clone)]
struct Piece {
    text: String,
    /// Ends of the whole tokens in it.
    ends: Vec<SocketAddr>,
}

impl Piece {
    fn new(text: impl Into<String>, ends: &[&str]) -> Self {
        Self {
            text: text.into(),
            ends: ends.iter().map(|end| address(end)).collect(),
        }
    }

    fn nowhere(text: impl Into<String>) -> Self {
        Self::new(text, &[])
    }
}

struct Scene {
    table: Table,
    scratch: Scratch,
    routes: Vec<Piece>,
    uris: Vec<Piece>,
}

fn table(registration: &str, rest: &str, secret: &str) -> Table {
    let text = format!(
        "
node: {{ name: a }}
listeners:
  - {{ name: public, address: 203.0.113.10, nat: {{ detect: [received], fix: [rport, contact-alias] }} }}
pools:
  - name: switches
    registration: {registration}
    backends: [ {{ name: s1, address: '{}' }}, {{ name: s2, address: '{}' }}, {{ name: s3, address: '{}' }} ]
routes: [ {{ method: FOO, pool: switches, source: [198.51.100.7] }}, {{ method: INVITE, pool: switches }},
          {{ method: REGISTER, pool: switches }}, {{ method: BYE, pool: switches }}, {{ method: MESSAGE, pool: switches }},
          {{ method: SUBSCRIBE, pool: switches }}, {{ method: REFER, pool: switches }} ]
{rest}
",
        POOL[0], POOL[1], POOL[2]
    );
    let mut config =
        crate::config::parse(&text, "t.yaml").unwrap_or_else(|error| panic!("{error}"));
    config.keys = Keys::new(secret.as_bytes(), None);
    Table::new(&config)
}

fn flow(table: &Table, kind: FlowKind, client: &str, backend: &str) -> String {
    let token = FlowToken {
        kind,
        ..FlowToken::new(address(client), address(backend))
    };
    let mut text = [0; FLOW_TOKEN_MAX];
    let len = table.keys.write_flow_token(&token, &mut text);
    String::from_utf8(text[..len].to_vec()).unwrap()
}

fn contact(table: &Table, of: ContactOf, end: &str) -> String {
    let token = ContactToken::new(of, address(end), b"192.168.1.5:5062;ob").unwrap();
    let mut text = [0; CONTACT_TOKEN_MAX];
    let len = table.keys.write_contact_token(&token, &mut text);
    String::from_utf8(text[..len].to_vec()).unwrap()
}

/// The text with another character at this place.
fn tampered(text: &str, at: usize) -> String {
    let mut bytes = text.as_bytes().to_vec();
    let at = at % bytes.len();
    // Hexadecimal digits are read in any case.
    bytes[at] = match bytes[at] {
        b'B' | b'b' => b'0',
        _ => b'B',
    };
    String::from_utf8(bytes).unwrap()
}

/// Whatever may stand in Route.
fn routes(table: &Table, other: &Table) -> Vec<Piece> {
    let ours = |user: &str| format!("<sip:{user}203.0.113.10:5060;lr>");
    let mut routes = vec![
        Piece::nowhere(""),
        Piece::nowhere(ours("")),
        Piece::nowhere(format!("{}, {}", ours(""), ours(""))),
        Piece::nowhere(ours("nonsense@")),
        Piece::nowhere("<sip:192.0.2.99:5060;lr>"),
        Piece::nowhere("<sip:evil.test;lr>"),
        Piece::nowhere("<sip:10.0.0.50:5060;lr>"),
        Piece::nowhere(format!("{}, <sip:192.0.2.99;lr>", ours(""))),
        Piece::nowhere(format!("{}, <sip:evil.test;lr>", ours(""))),
        Piece::nowhere("<sip:203.0.113.10:5060;lr;maddr=192.0.2.99>"),
        Piece::nowhere("<sip:x@evil.test;maddr=203.0.113.10;lr>"),
        Piece::nowhere("<sip:203.0.113.10:5060;lr;transport=tcp>"),
    ];
    for kind in KINDS {
        let token = flow(table, kind, TOKEN_CLIENT, TOKEN_BACKEND);
        let ends = [TOKEN_CLIENT, TOKEN_BACKEND];
        let valid = ours(&format!("{token}@"));
        let again = ours(&format!(
            "{}@",
            flow(table, FlowKind::FromClient, TOKEN_CLIENT, TOKEN_BACKEND)
        ));
        routes.extend([
            Piece::new(valid.clone(), &ends),
            Piece::new(format!("{valid}, {again}"), &ends),
            Piece::new(format!("{again}, {valid}"), &ends),
            Piece::new(format!("{}, {valid}", ours("")), &ends),
            Piece::new(format!("{valid}, <sip:192.0.2.99;lr>"), &ends),
            Piece::new(format!("{valid}, <sip:evil.test;lr>"), &ends),
            Piece::new(valid.replace(";lr", ";lr;maddr=192.0.2.99"), &ends),
            // It is not ours to look behind somebody else's.
            Piece::nowhere(format!("<sip:192.0.2.99;lr>, {valid}")),
            Piece::nowhere(valid.replace("203.0.113.10", "192.0.2.99")),
            Piece::nowhere(valid.replace(":5060", ":5070")),
            Piece::nowhere(ours(&format!(
                "{}@",
                flow(other, kind, TOKEN_CLIENT, TOKEN_BACKEND)
            ))),
            // One that leads back to us.
            Piece::nowhere(ours(&format!("{}@", flow(table, kind, TOKEN_CLIENT, VIP)))),
        ]);
        // The last character has no bit that is not signed.
        for at in [0, 3, 9, 17, token.len() - 1] {
            routes.push(Piece::nowhere(ours(&format!("{}@", tampered(&token, at)))));
        }
        routes.push(Piece::nowhere(ours(&format!("{}@", &token[4..]))));
    }
    // A contact token is no flow token.
    let stranger = contact(table, ContactOf::Backend, CONTACT_BACKEND);
    routes.push(Piece::nowhere(ours(&format!("{stranger}@"))));
    routes
}

/// Whatever may be the Request-URI.
fn uris(table: &Table, other: &Table) -> Vec<Piece> {
    let mut uris = [
        "sip:203.0.113.10",
        "sip:203.0.113.10:5060",
        "sip:alice@203.0.113.10:5060",
        "sip:alice@203.0.113.10:5070",
        "sip:alice@192.0.2.99",
        "sip:alice@evil.test",
        "sip:alice@evil.test:5080;transport=udp",
        "sip:alice@10.0.0.11:5060",
        "sip:alice@10.0.0.50:5060",
        "sip:alice@[2001:db8:9::1]",
        "tel:+4912345",
        "sips:alice@192.0.2.99",
        "sip:alice@203.0.113.10;maddr=192.0.2.99",
        "sip:alice@192.0.2.99;transport=tcp",
        "sip:alice@203.0.113.10;lbr=x;lbi=y",
    ]
    .map(Piece::nowhere)
    .to_vec();
    let backend = contact(table, ContactOf::Backend, CONTACT_BACKEND);
    let client = contact(table, ContactOf::Client, CONTACT_CLIENT);
    let uri = |name: &str, token: &str| format!("sip:alice@203.0.113.10:5060;{name}={token}");
    uris.extend([
        Piece::new(uri("lbi", &backend), &[CONTACT_BACKEND]),
        Piece::new(
            format!("{};maddr=192.0.2.99", uri("lbi", &backend)),
            &[CONTACT_BACKEND],
        ),
        // A client's is for the inside alone.
        Piece::nowhere(uri("lbr", &client)),
        Piece::nowhere(uri("lbi", &client)),
        Piece::nowhere(uri("lbr", &backend)),
        // What a client registers must not lead it back to the inside's own Contact.
        Piece::nowhere(uri("lbi", &backend).replace("203.0.113.10", "192.0.2.99")),
        Piece::nowhere(uri("lbi", &backend).replace(":5060", ":5070")),
        Piece::nowhere(uri(
            "lbi",
            &contact(other, ContactOf::Backend, CONTACT_BACKEND),
        )),
        Piece::nowhere(uri("lbi", &contact(table, ContactOf::Backend, VIP))),
    ]);
    for at in [0, 2, 5, 11, backend.len() - 1] {
        uris.push(Piece::nowhere(uri("lbi", &tampered(&backend, at))));
        uris.push(Piece::nowhere(uri("lbr", &tampered(&client, at))));
    }
    let alias = flow(table, FlowKind::FromClient, ALIAS_CLIENT, TOKEN_BACKEND);
    for token in [alias.clone(), tampered(&alias, 7)] {
        uris.push(Piece::nowhere(format!(
            "sip:alice@192.168.1.5:5062;lba={token}"
        )));
        uris.push(Piece::nowhere(uri("lba", &token)));
        uris.push(Piece::nowhere(uri("lbi", &token)));
    }
    uris
}

impl Scene {
    fn new(registration: &str, rest: &str) -> Self {
        let table = table(registration, rest, SECRET);
        let other = self::table(registration, rest, "somebody else's secret");
        Self {
            routes: routes(&table, &other),
            uris: uris(&table, &other),
            scratch: Scratch::new(),
            table,
        }
    }

    fn send(&mut self, source: &str, text: &str) -> Verdict {
        let datagram = Datagram {
            payload: text.as_bytes(),
            source: address(source),
            listener: ListenerIndex(0),
        };
        forward(&self.table, &datagram, &mut self.scratch)
    }
}

/// Where it went, by the word for who that is; panics when nobody may be sent to that address.
fn destination(verdict: &Verdict, source: &str, ends: &[SocketAddr], text: &str) -> String {
    let outcome = verdict.outcome.name();
    match verdict.action {
        Action::Forward { to, .. } => {
            let is_pool = POOL.map(address).contains(&to);
            let is_end = ends.contains(&to);
            let allowed = match verdict.outcome {
                Outcome::RequestToPool => is_pool,
                Outcome::RequestToBackend | Outcome::RequestToClient | Outcome::Response => is_end,
                _ => false,
            };
            assert!(allowed, "{outcome} to {to}, from {source}\n{text}");
            format!(
                "{outcome} to {}",
                if is_pool {
                    "a pool"
                } else {
                    "the end of a token"
                }
            )
        }
        Action::Reply { to } => {
            assert_eq!(to.ip(), address(source).ip(), "a reply to {to}\n{text}");
            format!("{outcome} to its sender")
        }
        Action::Drop | Action::Absorb => outcome.to_owned(),
        Action::AwaitName => panic!("asks for a name, from {source}\n{text}"),
    }
}

fn request(random: &mut Random, method: &str, uri: &str, route: &str, source: &str) -> String {
    let other_sent_by = "203.0.113.10:5060".to_owned();
    let sent_by = random
        .pick(&[
            source.to_owned(),
            "192.0.2.99:5080".to_owned(),
            "phone.test".to_owned(),
            other_sent_by,
        ])
        .clone();
    let rport = random.pick(&[
        "",
        ";rport",
        ";rport=9",
        ";received=192.0.2.99",
        ";maddr=192.0.2.99",
    ]);
    let to_tag = random.pick(&["", ";tag=b"]);
    let route = match route {
        "" => String::new(),
        route => match random.next() % 2 {
            0 => format!("Route: {route}\r\n"),
            _ => route
                .split(", ")
                .map(|value| format!("Route: {value}\r\n"))
                .collect(),
        },
    };
    let number = random.next();
    format!(
        "{method} {uri} SIP/2.0\r\n\
         Via: SIP/2.0/UDP {sent_by}{rport};branch=z9hG4bK{number:x}\r\n\
         {route}Max-Forwards: 70\r\n\
         From: <sip:a@evil.test>;tag=a\r\n\
         To: <sip:b@192.0.2.99>{to_tag}\r\n\
         Call-ID: {number}\r\n\
         CSeq: 1 {method}\r\n\
         Contact: <sip:a@192.0.2.99:5060>\r\n\
         Content-Length: 0\r\n\
         \r\n"
    )
}

#[test]
fn requests_of_the_outside_reach_nobody_but_pools_and_ends_of_tokens() {
    let mut random = Random(0x9e37_79b9_7f4a_7c15);
    let mut counts = BTreeMap::<_, usize>::new();
    let mut reached = BTreeSet::new();
    for (registration, rest) in CONFIGURATIONS {
        let mut scene = Scene::new(registration, rest);
        let (routes, uris) = (scene.routes.clone(), scene.uris.clone());
        // Every Route with every Request-URI, twice; what else there is varies with them.
        for _ in 0..2 {
            for route in &routes {
                for uri in &uris {
                    let method = *random.pick(&METHODS);
                    let source = SOURCES[(random.next() >> 20) as usize % SOURCES.len()];
                    let text = request(&mut random, method, &uri.text, &route.text, source);
                    let verdict = scene.send(source, &text);
                    let ends = [&route.ends[..], &uri.ends].concat();
                    let way = destination(&verdict, source, &ends, &text);
                    if let Action::Forward { to, .. } = verdict.action {
                        reached.insert(to);
                    }
                    *counts.entry(way).or_default() += 1;
                }
            }
        }
    }
    println!("requests: {} {counts:#?}", counts.values().sum::<usize>());
    assert!(counts.values().sum::<usize>() >= 10_000);
    for way in [
        "request_to_pool to a pool",
        "request_to_backend to the end of a token",
        "request_to_client to the end of a token",
        "bad_flow_token to its sender",
        "options_answered to its sender",
        "no_route_rule to its sender",
        "ack_not_routed",
        "forged_source",
    ] {
        assert!(counts.contains_key(way), "none {way}: {counts:#?}");
    }
    let mut wanted = POOL.map(address).to_vec();
    wanted.extend([TOKEN_CLIENT, TOKEN_BACKEND, CONTACT_BACKEND].map(address));
    assert_eq!(reached, wanted.into_iter().collect());
}

#[test]
fn responses_of_the_outside_reach_only_whom_their_mac_names() {
    let mut random = Random(0x2545_f491_4f6c_dd1d);
    let mut counts = BTreeMap::<_, usize>::new();
    for (registration, rest) in CONFIGURATIONS {
        let mut scene = Scene::new(registration, rest);
        for (vias, ends) in vias(&scene.table) {
            for source in SOURCES {
                for _ in 0..12 {
                    let status = random.pick(&["100 Trying", "200 OK", "302 Moved", "487 Gone"]);
                    let method = random.pick(&METHODS);
                    let number = random.next();
                    let text = format!(
                        "SIP/2.0 {status}\r\n{vias}From: <sip:a@b>;tag=a\r\nTo: <sip:c@d>;tag=b\r\n\
                         Call-ID: {number}\r\nCSeq: 1 {method}\r\nContact: <sip:a@192.0.2.99>\r\n\
                         Content-Length: 0\r\n\r\n"
                    );
                    let verdict = scene.send(source, &text);
                    let way = destination(&verdict, source, &ends, &text);
                    assert_eq!(
                        matches!(verdict.action, Action::Forward { .. }),
                        !ends.is_empty(),
                        "{way}\n{text}"
                    );
                    *counts.entry(way).or_default() += 1;
                }
            }
        }
    }
    println!("responses: {} {counts:#?}", counts.values().sum::<usize>());
    for way in [
        "response to the end of a token",
        "response_bad_mac",
        "response_not_ours",
        "response_no_second_via",
    ] {
        assert!(counts.contains_key(way), "none {way}: {counts:#?}");
    }
}

/// Via header fields, and whom they lead to.
fn vias(table: &Table) -> Vec<(String, Vec<SocketAddr>)> {
    let parts = |call_id| TransactionParts {
        branch: b"z9hG4bKx",
        sent_by_host: b"h",
        sent_by_port: 5060,
        call_id,
        cseq: 1,
        from_tag: b"f",
        request_uri: b"sip:u",
    };
    let transaction = table.keys.transaction_id(&parts(b"c"));
    let other = table.keys.transaction_id(&parts(b"d"));
    let text = |bytes: [u8; 16]| String::from_utf8(bytes.to_vec()).unwrap();
    let id = text(transaction.to_text());
    let mac_of = |target| text(table.keys.via_mac(transaction, address(target)));
    let mac = mac_of(TOKEN_CLIENT);
    let other_mac = text(table.keys.via_mac(other, address(TOKEN_CLIENT)));
    let ours = |host: &str, id: &str, mac: &str, more: &str| {
        format!("Via: SIP/2.0/UDP {host};branch=z9hG4bK{id};lbm={mac}{more}\r\n")
    };
    let client = format!("Via: SIP/2.0/UDP {TOKEN_CLIENT};branch=z9hG4bKy\r\n");
    let victim = "Via: SIP/2.0/UDP 192.0.2.99:5099;branch=z9hG4bKy\r\n";
    let hidden = |target: &str| {
        let mut text = HiddenText::EMPTY;
        let line = format!("Via: SIP/2.0/UDP {target};branch=z9hG4bKy\r\n");
        text.put(line.as_bytes()).unwrap();
        let mut token = [0; HIDDEN_MAX];
        let len = table.keys.write_hidden(Hidden::Vias, &text, &mut token);
        String::from_utf8(token[..len].to_vec()).unwrap()
    };
    let end = || vec![address(TOKEN_CLIENT)];
    let mut all = vec![
        (ours(VIP, &id, &mac, "") + &client, end()),
        (ours(VIP, &id, &mac, "") + &client + victim, end()),
        (
            ours(VIP, &id, &mac, &format!(";lbvi={}", hidden(TOKEN_CLIENT))),
            end(),
        ),
        // What is below decides, not what is in it.
        (
            ours(
                VIP,
                &id,
                &mac,
                &format!(";lbvi={}", hidden("192.0.2.99:5099")),
            ) + &client,
            end(),
        ),
        (
            ours(
                VIP,
                &id,
                &mac,
                &format!(";lbvi={}", hidden("192.0.2.99:5099")),
            ),
            vec![],
        ),
        (
            ours(
                VIP,
                &id,
                &mac,
                &format!(";lbvi={}", tampered(&hidden(TOKEN_CLIENT), 9)),
            ),
            vec![],
        ),
        (
            ours(VIP, &id, &mac, &format!(";lbvi={}", hidden(TOKEN_CLIENT))) + victim,
            vec![],
        ),
        (ours(VIP, &id, &mac, ""), vec![]),
        (ours(VIP, &id, &mac, "") + victim, vec![]),
        (ours(VIP, &id, &mac, "") + victim + &client, vec![]),
        (ours(VIP, &id, &other_mac, "") + &client, vec![]),
        (
            ours(VIP, &text(other.to_text()), &mac, "") + &client,
            vec![],
        ),
        (ours("203.0.113.10:5070", &id, &mac, "") + &client, vec![]),
        (ours("192.0.2.99:5060", &id, &mac, "") + &client, vec![]),
        (client.clone(), vec![]),
        (client.clone() + &ours(VIP, &id, &mac, ""), vec![]),
        // A MAC that somebody got for us ourselves.
        (
            ours(VIP, &id, &mac_of(VIP), "")
                + &format!("Via: SIP/2.0/UDP {VIP};branch=z9hG4bKy\r\n"),
            vec![],
        ),
    ];
    for more in [
        ";rport=5099",
        ";received=192.0.2.99",
        ";received=192.0.2.99;rport=5099",
    ] {
        let changed = client.replace(";branch", &format!("{more};branch"));
        all.push((ours(VIP, &id, &mac, "") + &changed, vec![]));
    }
    for at in [0, 7, 15] {
        all.push((ours(VIP, &id, &tampered(&mac, at), "") + &client, vec![]));
        all.push((ours(VIP, &tampered(&id, at), &mac, "") + &client, vec![]));
    }
    all
}

/// The test would see an open relay: of the inside the same requests are served.
#[test]
fn the_same_requests_of_the_inside_go_elsewhere() {
    let mut random = Random(7);
    let mut scene = Scene::new("path", "");
    let mut outcomes = BTreeSet::new();
    for uri in scene.uris.clone() {
        let text = request(&mut random, "INVITE", &uri.text, "", POOL[0]);
        assert!(sip::read(text.as_bytes()).is_ok());
        outcomes.insert(scene.send(POOL[0], &text).outcome.name());
    }
    for outcome in ["request_outbound", "request_to_client", "awaits_name"] {
        assert!(outcomes.contains(outcome), "{outcomes:?}");
    }
}
