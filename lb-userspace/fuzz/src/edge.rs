//! An edge, and what must hold for every datagram that it gets.

use std::{net::SocketAddr, rc::Rc, sync::Arc};

use lb_userspace::{
    checksum, config,
    forward::{Action, Datagram, Memory, PROXY_SIGNATURE, Scratch, Table, Trace, Verdict, forward},
    names::{Answer, Found, Names, OwnedQuestion, Question, Target, Targets},
    token::Keys,
};

const SECRET: &[u8] = b"the secret of the fuzzers";

/// Addresses that datagrams come from: clients, backends, and our own.
const SOURCES: [&str; 16] = [
    "198.51.100.7:40000",
    "10.0.0.11:5060",
    "[2001:db8:1::7]:40000",
    "[2001:db8:2::11]:5060",
    "10.0.0.12:39999",
    "[::ffff:198.51.100.8]:5060",
    "203.0.113.10:5060",
    "192.168.1.5:5060",
    "10.0.0.99:5070",
    "10.0.0.7:5062",
    "192.0.2.50:5060",
    "[2001:db8:3::7]:5060",
    "198.51.100.7:40001",
    "203.0.113.10:5070",
    "10.0.0.13:5080",
    "192.0.2.51:5070",
];

/// Names that the edge knows, and where they are over IPv4 and IPv6.
pub const NAMES: [(&str, [&str; 2]); 5] = [
    ("example.com", ["192.0.2.50", "2001:db8:9::1"]),
    ("carrier.test", ["192.0.2.51", "2001:db8:9::2"]),
    // Names that lead to somebody who gets nothing, and to a backend.
    ("us.test", ["203.0.113.10", "2001:db8::10"]),
    ("self.test", ["127.0.0.1", "::1"]),
    ("sw1.test", ["10.0.0.11", "2001:db8:2::11"]),
];

/// The source that a byte of the input chooses.
pub fn source(choice: u8) -> SocketAddr {
    let source = SOURCES[usize::from(choice) % SOURCES.len()];
    source.parse().expect("an address")
}

/// What is in front of the pools and routes of every configuration.
const HEAD: &str = "
node: { name: fuzz }
pools:
  - name: four
    backends:
      - { name: sw1, address: 10.0.0.11:5060, weight: 2 }
      - { name: sw2, address: 10.0.0.12:5060 }
      - { name: sw3, address: 10.0.0.13:5080 }
  - name: six
    backends: [ { name: sw6, address: '[2001:db8:2::11]:5060' } ]
";

/// Listeners and routes of the configurations that the input chooses from. There are 16, so that `0` to `9` of ASCII choose
/// the first ten, and `:` to `?` the others.
const CONFIGURATIONS: [&str; 16] = [
    "
listeners:
  - name: four
    address: 203.0.113.10
    nat: { detect: [ contact-address, contact-port, sdp-private ], fix: [ contact-alias, sdp ] }
    validate: header
  - { name: six, address: '2001:db8::10', validate: header }
routes: [ { listener: six, pool: six, nat: { detect: [ received ], fix: [ contact-alias ] } }, { pool: four } ]
",
    "
listeners:
  - { name: four, address: 203.0.113.10, validate: reply }
  - { name: six, address: '2001:db8::10', validate: { mode: reply, checks: [ from, to, contact, headers ] } }
routes: [ { listener: six, pool: six }, { pool: four } ]
",
    "
listeners:
  - { name: four, address: 203.0.113.10, validate: { mode: header, checks: [ body, sdp, headers, contact ] } }
  - { name: six, address: '2001:db8::10', nat: { detect: [ via-port ], fix: [ rport ] } }
routes: [ { method: INVITE, listener: four, pool: four, nat: { detect: [ source-private, received ], fix: [ rport, sdp ] } },
          { listener: six, pool: six }, { pool: four } ]
",
    "
listeners:
  - name: four
    address: 203.0.113.10
    nat: { detect: [ contact-private, sdp-private ], fix: [ rport, contact-alias, sdp ] }
  - { name: six, address: '2001:db8::10', nat: { detect: [ via-port ], fix: [ rport ] } }
routes: [ { method: INVITE, listener: four, pool: four, nat: { detect: [ source-private, received ], fix: [ rport, sdp ] } },
          { listener: six, pool: six }, { pool: four } ]
",
    "
listeners:
  - { name: four, address: 203.0.113.10, validate: header, nat: { detect: [ received ], fix: [ contact, sdp ] } }
  - { name: six, address: '2001:db8::10', validate: header, nat: { detect: [ received ], fix: [ contact-alias ] } }
routes: [ { method: REGISTER, listener: four, pool: four }, { listener: six, pool: six }, { pool: four } ]
",
    // One backend where turns are taken: each look at a datagram would find another one's turn.
    "
listeners:
  - { name: four, address: 203.0.113.10 }
  - { name: six, address: '2001:db8::10' }
routes: [ { listener: six, pool: six, strategy: hash-auth-username }, { user_agent: Yea, pool: four, strategy: hash-to-uri },
          { from_domain: example.com, request_uri_user: bob, pool: four, strategy: random },
          { source: [ 198.51.100.0/25 ], to_domain: 10.0.0.1, pool: four, strategy: first },
          { pool: four, strategy: hash-request-uri, user_only: true } ]
",
    "
listeners: [ { name: four, address: 203.0.113.10 }, { name: six, address: '2001:db8::10' } ]
routes: [ { listener: six, pool: six }, { pool: four } ]
",
    "
listeners: [ { name: four, address: 203.0.113.10, port: 5061 }, { name: six, address: '2001:db8::10', port: 5 } ]
routes: [ { method: INVITE, listener: six, pool: six }, { method: OPTIONS, listener: six, pool: six }, { method: INVITE, listener: four, pool: four } ]
",
    "
nat: { private: [ 198.51.100.0/25 ] }
listeners:
  - name: four
    address: 203.0.113.10
    nat: { detect: [ received, contact-private, via-private, sdp-private, via-port, contact-address, contact-port,
                     source-private, sdp-address, ipv6-local ], fix: [ rport, contact, sdp ] }
  - name: six
    address: '2001:db8::10'
    nat: { detect: [ received, contact-address, ipv6-local, sdp-address ], fix: [ contact, sdp ] }
routes: [ { listener: six, pool: six }, { pool: four } ]
",
    "
# told: { ip: X-Orig-IP, port: x-ports }
listeners:
  - { name: four, address: 203.0.113.10, ping_replies: all, nat: { detect: [ received ], fix: [ contact, sdp ] } }
  - { name: six, address: '2001:db8::10', ping_replies: off, validate: header }
routes: [ { listener: six, pool: six }, { pool: four } ]
",
    "
# told: proxy-protocol
listeners:
  - { name: four, address: 203.0.113.10, nat: { detect: [ received ], fix: [ rport, contact-alias, sdp ] } }
  - { name: six, address: '2001:db8::10' }
routes: [ { listener: six, pool: six }, { pool: four } ]
",
    "
# registration: contact
listeners:
  - { name: four, address: 203.0.113.10, nat: { detect: [ received, contact-private ], fix: [ rport, sdp ], max_expires: 60s } }
  - { name: six, address: '2001:db8::10', nat: { detect: [ received ], fix: [ contact ], max_expires: 60s } }
routes: [ { listener: six, pool: six }, { pool: four } ]
",
    "
listeners:
  - { name: four, address: 203.0.113.10, nat: { detect: [ received ], max_expires: 60s } }
  - { name: six, address: '2001:db8::10' }
routes: [ { listener: six, pool: six }, { pool: four } ]
outbound: { trusted: [ 192.168.1.0/24, '2001:db8:3::/48' ] }
",
    "
listeners:
  - { name: four, address: 203.0.113.10, nat: { detect: [ received ], max_expires: 60s } }
  - { name: six, address: '2001:db8::10' }
routes: [ { listener: six, pool: six }, { pool: four } ]
outbound: { topology: hide, trusted: [ 10.0.0.0/24, '2001:db8:2::/64' ] }
",
    "
listeners:
  - { name: four, address: 203.0.113.10 }
  - { name: six, address: '2001:db8::10', port: 5070 }
  - { name: second, address: 203.0.113.11, port: 5062 }
routes: [ { listener: six, pool: six }, { pool: four } ]
outbound: { trusted: [ 192.168.1.0/24 ] }
",
    "
# registration: contact
# told: { ip: X-Orig-IP, port: x-ports }
listeners:
  - { name: four, address: 203.0.113.10, validate: header, nat: { detect: [ received ], fix: [ rport ], max_expires: 60s } }
  - { name: six, address: '2001:db8::10', nat: { detect: [ via-port ], fix: [ sdp ] } }
  - { name: second, address: 203.0.113.11, port: 5062 }
routes: [ { listener: six, pool: six }, { pool: four } ]
outbound: { topology: hide, trusted: [ 192.168.1.0/24, 10.0.0.0/24 ] }
",
];

/// What both pools of a configuration are told of the client's address: it stands behind `# told: `.
fn told(text: &str) -> Option<&str> {
    text.lines().find_map(|line| line.strip_prefix("# told: "))
}

/// The setting of both pools of a configuration that stands behind `# NAME: `.
fn registration(text: &str) -> &str {
    let mut lines = text.lines();
    let found = lines.find_map(|line| line.strip_prefix("# registration: "));
    found.unwrap_or("path")
}

/// What the edge knows of names: with and without port and transport.
fn names() -> Names {
    let mut names = Names::default();
    for (host, addresses) in NAMES {
        for (address, ipv6) in addresses.into_iter().zip([false, true]) {
            let ip = address.parse().expect("an address");
            for (port, transport_given) in [
                (None, false),
                (None, true),
                (Some(5060), false),
                (Some(5080), false),
            ] {
                let target = Target {
                    address: SocketAddr::new(ip, port.unwrap_or(5060)),
                    priority: 0,
                    weight: 1,
                };
                let answer = Answer::Targets(Targets::new([target]));
                put(&mut names, host, port, transport_given, ipv6, answer);
            }
        }
    }
    put(
        &mut names,
        "gone.test",
        None,
        false,
        false,
        Answer::NotFound,
    );
    put(&mut names, "dead.test", None, false, false, Answer::Failed);
    names
}

fn put(
    names: &mut Names,
    host: &str,
    port: Option<u16>,
    transport_given: bool,
    ipv6: bool,
    answer: Answer,
) {
    let question = Question {
        host: host.as_bytes(),
        port,
        transport_given,
        ipv6,
    };
    let question = OwnedQuestion::new(&question).expect("a name");
    names.put(&question, Found::new(answer, 60), 0);
}

/// A node with several configurations. All memory is taken once, as in a worker.
pub struct Edge {
    tables: Vec<Rc<Table>>,
    scratch: Scratch,
    /// Used for every second look at a datagram, so that it holds something else than `scratch`.
    other: Scratch,
}

/// A datagram on its way, and what became of it.
pub struct Sent<'a> {
    pub table: Rc<Table>,
    pub datagram: Datagram<'a>,
    pub verdict: Verdict,
    /// The configuration mends NAT.
    pub mends: bool,
    /// The configuration marks what it finds not valid.
    pub marks: bool,
    /// The configuration tells backends the client's address in header fields.
    pub tells: bool,
    /// The configuration has registrations lead back by Contacts of ours.
    pub replaces_contacts: bool,
    /// The configuration limits what phones are told of their expiry.
    pub limits_expiry: bool,
    /// The configuration hides the inside from the outside.
    pub hides: bool,
    /// A PROXY protocol header that stands in front of what is sent; empty for none.
    pub front: Vec<u8>,
    /// What is sent, without that; empty for nothing.
    pub bytes: Vec<u8>,
}

impl Default for Edge {
    fn default() -> Self {
        let table = |text: &str| {
            let head = match told(text) {
                Some(told) => HEAD.replace(
                    "    backends:",
                    &format!("    client_address: {told}\n    backends:"),
                ),
                None => HEAD.to_owned(),
            };
            let registration = registration(text);
            let head = head.replace(
                "    backends:",
                &format!("    registration: {registration}\n    backends:"),
            );
            let mut config = config::parse(&format!("{head}{text}"), "fuzz.yaml")
                .unwrap_or_else(|error| panic!("{error}"));
            config.keys = Keys::new(SECRET, None);
            Rc::new(Table::new(&config))
        };
        Self {
            tables: CONFIGURATIONS.iter().map(|text| table(text)).collect(),
            scratch: forgetful(),
            other: forgetful(),
        }
    }
}

/// With little to forget, since it is done for every datagram.
fn forgetful() -> Scratch {
    let mut scratch = Scratch::new();
    scratch.memory = Memory::new(0);
    scratch.names = Arc::new(names());
    scratch
}

impl Edge {
    /// The configuration that a byte of the input chooses.
    pub fn table(&self, choice: u8) -> &Table {
        &self.tables[usize::from(choice) % self.tables.len()]
    }

    /// Sends a datagram through the edge and checks what must hold for any.
    pub fn send<'a>(&mut self, choice: u8, datagram: Datagram<'a>) -> Sent<'a> {
        let Self {
            tables,
            scratch,
            other,
        } = self;
        let table = tables[usize::from(choice) % tables.len()].clone();
        // The other one has not seen every datagram.
        scratch.memory.pins.clear();
        other.memory.pins.clear();
        let room = scratch.reply.capacity();
        let verdict = forward(&table, &datagram, scratch);
        assert_eq!(scratch.reply.capacity(), room, "a reply took memory");
        let asks = scratch.question.is_some();
        assert_eq!(asks, verdict.action == Action::AwaitName, "the name");
        // Both cost as much as all the rest, and find nothing that depends on single bytes.
        let look_twice = datagram.payload.len().is_multiple_of(8);
        let mut bytes = match verdict.action {
            Action::Forward { .. } => edited(scratch, datagram.payload),
            Action::Reply { .. } => scratch.reply.clone(),
            Action::Drop | Action::Absorb | Action::AwaitName => Vec::new(),
        };
        if look_twice {
            // Nothing of an earlier datagram may show.
            assert_eq!(
                forward(&table, &datagram, other),
                verdict,
                "not the same again"
            );
            let again = match verdict.action {
                Action::Forward { .. } => edited(other, datagram.payload),
                _ => other.reply.clone(),
            };
            assert!(again == bytes, "not the same bytes again");
            // What explains a decision survives whatever the decision survives.
            drop(Trace::new(&table, &datagram, verdict.outcome));
        }
        let text = CONFIGURATIONS[usize::from(choice) % tables.len()];
        let front = match bytes.starts_with(&PROXY_SIGNATURE) {
            // The family's nibble says how long it is.
            true => bytes
                .drain(..if bytes[13] == 0x12 { 28 } else { 52 })
                .collect(),
            false => Vec::new(),
        };
        let sent = Sent {
            table,
            datagram,
            verdict,
            mends: text.contains("fix:"),
            marks: text.contains("header"),
            replaces_contacts: registration(text) == "contact",
            limits_expiry: text.contains("max_expires"),
            hides: text.contains("topology: hide"),
            tells: told(text).is_some_and(|told| told.starts_with('{')),
            front,
            bytes,
        };
        let is_announced = told(text) == Some("proxy-protocol");
        sent.check_front(is_announced);
        sent.check_class();
        sent
    }
}

impl std::fmt::Debug for Sent<'_> {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(
            formatter,
            "{:?} from {} at listener {}\n{}\n--- sent\n{}",
            self.verdict,
            self.datagram.source,
            self.datagram.listener.0,
            self.datagram.payload.escape_ascii(),
            self.bytes.escape_ascii()
        )
    }
}

/// The payload with the edits, whose checksum follows from them.
fn edited(scratch: &Scratch, payload: &[u8]) -> Vec<u8> {
    let edits = &scratch.edits;
    let mut output = vec![0; edits.output_len(payload.len())];
    assert_eq!(edits.apply(payload, &mut output), Some(output.len()));
    let sum = checksum::add(full_sum(payload), edits.checksum_difference(payload));
    // In one's complement 0 and 0xffff are the same number.
    assert_eq!(sum % 0xffff, full_sum(&output) % 0xffff, "{edits:?}");
    output
}

/// The Internet checksum's sum, word by word (RFC 1071).
pub fn full_sum(bytes: &[u8]) -> u16 {
    let words = bytes
        .chunks(2)
        .map(|pair| u64::from(pair[0]) << 8 | pair.get(1).map_or(0, |byte| u64::from(*byte)));
    let mut sum = words.sum::<u64>();
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    sum as u16
}
