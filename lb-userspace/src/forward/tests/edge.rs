//! An edge to send datagrams through, and the messages that tests send.

use std::{
    net::SocketAddr,
    sync::{Arc, LazyLock},
};

use crate::{
    balance::{Backend, BackendIndex, Pool, Strategy},
    checksum,
    forward::{
        Action, Datagram, Listener, ListenerIndex, Outcome, OutcomeClass, REPLY_GROWTH, RouteRule,
        Scratch, Table, Verdict, forward,
    },
    nat::Policy,
    token::Keys,
};

pub const SECRET: &str = "the secret of the fleet";
pub const VIP: &str = "203.0.113.10:5060";
pub const CLIENT: &str = "198.51.100.7:40000";
pub const OTHER_CLIENT: &str = "198.51.100.8:5060";
pub const BACKENDS: [&str; 3] = ["10.0.0.11:5060", "10.0.0.12:5060", "10.0.0.13:5080"];
pub const VIP6: &str = "[2001:db8::10]:5060";
pub const CLIENT6: &str = "[2001:db8:1::7]:40000";
pub const BACKEND6: &str = "[2001:db8:2::11]:5060";

/// A call set-up as phones send it; `rport` asks for the source.
pub const INVITE: &str = "INVITE sip:bob@example.com SIP/2.0\r\n\
    Via: SIP/2.0/UDP 192.168.1.5:5060;branch=z9hG4bK776asdhds;rport\r\n\
    Max-Forwards: 70\r\n\
    To: Bob <sip:bob@example.com>\r\n\
    From: Alice <sip:alice@example.com>;tag=1928301774\r\n\
    Call-ID: a84b4c76e66710@192.168.1.5\r\n\
    CSeq: 314159 INVITE\r\n\
    Contact: <sip:alice@192.168.1.5>\r\n\
    Content-Type: application/sdp\r\n\
    Content-Length: 4\r\n\
    \r\n\
    v=0\n";

/// The INVITE above with another method.
pub fn request(method: &str) -> String {
    INVITE.replace("INVITE", method)
}

pub fn address(text: &str) -> SocketAddr {
    text.parse().unwrap()
}

pub fn pool(name: &str, first_index: u16, backends: &[&str], keys: &Keys) -> Pool {
    let backends = backends.iter().zip(first_index..).map(|(backend, index)| {
        Backend::new(
            BackendIndex(index),
            format!("sw{index}"),
            address(backend),
            1,
        )
    });
    let key = keys.distribution_key();
    Pool::new(name.into(), Strategy::HashCallId, backends.collect(), key)
}

/// A route rule for these methods (all when empty) and listener.
pub fn rule(method: &str, listener: Option<u16>, pool: usize) -> RouteRule {
    RouteRule {
        method: (!method.is_empty()).then(|| method.as_bytes().to_vec()),
        listener: listener.map(ListenerIndex),
        ..RouteRule::everything_to(pool)
    }
}

/// A node.
pub struct Edge {
    pub table: Arc<Table>,
    pub scratch: Scratch,
}

fn fleet_table() -> Arc<Table> {
    Edge::with_keys(Keys::new(SECRET.as_bytes(), None)).table
}

/// What came of a datagram.
pub struct Sent {
    pub verdict: Verdict,
    /// Where to; the source for a reply.
    pub to: SocketAddr,
    /// What is sent; empty for nothing.
    pub bytes: Vec<u8>,
}

impl Edge {
    /// Listener 0 for IPv4 and listener 1 for IPv6, each with a pool of its own.
    pub fn new() -> Self {
        static TABLE: LazyLock<Arc<Table>> = LazyLock::new(fleet_table);
        Self::with_table(TABLE.clone())
    }

    /// Another node of the same fleet: it made its table itself.
    pub fn other_node() -> Self {
        static TABLE: LazyLock<Arc<Table>> = LazyLock::new(fleet_table);
        Self::with_table(TABLE.clone())
    }

    /// An edge with this configuration.
    pub fn configured(text: &str) -> Self {
        let mut config = crate::config::parse(text, "edge.yaml").unwrap();
        config.keys = Keys::new(SECRET.as_bytes(), None);
        Self::with_table(Arc::new(Table::new(&config)))
    }

    pub fn with_table(table: Arc<Table>) -> Self {
        Self {
            table,
            scratch: Scratch::new(),
        }
    }

    /// An edge as a configuration describes it.
    pub fn with_config(text: &str) -> Self {
        let mut config = crate::config::parse(text, "t.yaml").unwrap_or_else(|e| panic!("{e}"));
        config.keys = Keys::new(SECRET.as_bytes(), None);
        Self::with_table(Arc::new(Table::new(&config)))
    }

    pub fn with_keys(keys: Keys) -> Self {
        let pools = vec![
            pool("four", 0, &BACKENDS, &keys),
            pool("six", 3, &[BACKEND6], &keys),
        ];
        Self::with_pools(keys, pools, vec![rule("", Some(1), 1), rule("", None, 0)])
    }

    pub fn with_pools(keys: Keys, pools: Vec<Pool>, routes: Vec<RouteRule>) -> Self {
        Self::with_all(keys, pools, routes, Policy::default())
    }

    /// An edge whose listeners have this NAT policy, with more rules before the others.
    pub fn with_nat(policy: Policy, mut routes: Vec<RouteRule>) -> Self {
        let keys = Keys::new(SECRET.as_bytes(), None);
        let pools = vec![
            pool("four", 0, &BACKENDS, &keys),
            pool("six", 3, &[BACKEND6], &keys),
        ];
        routes.extend([rule("", Some(1), 1), rule("", None, 0)]);
        Self::with_all(keys, pools, routes, policy)
    }

    fn with_all(keys: Keys, pools: Vec<Pool>, routes: Vec<RouteRule>, nat: Policy) -> Self {
        let listeners = vec![
            Listener::new("four".into(), address(VIP)).with_nat(nat),
            Listener::new("six".into(), address(VIP6)).with_nat(nat),
        ];
        Self::with_table(Arc::new(Table::from_parts(keys, listeners, pools, routes)))
    }

    /// Sends bytes from `source` to the listener of its family, and checks what must hold for any datagram.
    pub fn send(&mut self, source: &str, payload: impl AsRef<[u8]>) -> Sent {
        let source = address(source);
        let payload = payload.as_ref();
        let datagram = Datagram {
            payload,
            source,
            listener: ListenerIndex(u16::from(source.is_ipv6())),
        };
        let room = self.scratch.reply.capacity();
        let verdict = forward(&self.table, &datagram, &mut self.scratch);
        assert_eq!(self.scratch.reply.capacity(), room, "a reply took memory");
        let (class, to, bytes) = match verdict.action {
            Action::Forward { to, .. } => (OutcomeClass::Forward, to, self.edited(payload)),
            Action::Reply { to } => {
                assert_eq!(to.ip(), source.ip().to_canonical());
                let reply = self.scratch.reply.clone();
                assert!(!reply.is_empty());
                assert!(
                    reply.len() <= payload.len() + REPLY_GROWTH,
                    "{}",
                    reply.len()
                );
                (OutcomeClass::Reply, to, reply)
            }
            Action::Drop | Action::AwaitName => (OutcomeClass::Drop, source, vec![]),
            Action::Absorb => (OutcomeClass::Absorb, source, vec![]),
        };
        assert_eq!(verdict.outcome.class(), class, "{:?}", verdict.outcome);
        let is_sent = matches!(class, OutcomeClass::Forward | OutcomeClass::Reply);
        assert!(!is_sent || ![VIP, VIP6].map(address).contains(&to), "to us");
        Sent { verdict, to, bytes }
    }

    /// The payload with the edits, whose checksum follows from them.
    fn edited(&self, payload: &[u8]) -> Vec<u8> {
        let edits = &self.scratch.edits;
        let mut output = vec![0; edits.output_len(payload.len())];
        assert_eq!(edits.apply(payload, &mut output), Some(output.len()));
        let sum = |bytes: &[u8]| checksum::fold(checksum::sum(bytes));
        let got = checksum::add(sum(payload), edits.checksum_difference(payload));
        assert_eq!(got % 0xffff, sum(&output) % 0xffff);
        output
    }
}

impl Sent {
    #[track_caller]
    pub fn expect(self, outcome: Outcome) -> Self {
        assert_eq!(self.verdict.outcome, outcome, "{}", self.text());
        self
    }

    #[track_caller]
    pub fn expect_to(self, to: &str) -> Self {
        assert_eq!(self.to, address(to), "{}", self.text());
        self
    }

    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.bytes).into_owned()
    }

    pub fn start_line(&self) -> String {
        self.text().lines().next().unwrap_or_default().to_owned()
    }

    /// Values of all header fields of this name, unfolded.
    pub fn headers(&self, name: &str) -> Vec<String> {
        headers(&self.text(), name)
    }

    /// Value of the first header field of this name.
    #[track_caller]
    pub fn header(&self, name: &str) -> String {
        self.headers(name)
            .first()
            .cloned()
            .unwrap_or_else(|| panic!("no {name} in {}", self.text()))
    }
}

/// Values of all header fields of this name: the slow and obvious reader.
pub fn headers(message: &str, name: &str) -> Vec<String> {
    let text = message.replace("\r\n", "\n").replace("\n ", " ");
    let head = text
        .trim_start_matches('\n')
        .split("\n\n")
        .next()
        .unwrap_or_default()
        .to_owned();
    head.lines()
        .skip(1)
        .filter_map(|line| line.split_once(':'))
        .filter(|(found, _)| found.trim().eq_ignore_ascii_case(name))
        .map(|(_, value)| value.trim().to_owned())
        .collect()
}

/// What a server answers: a response with the Vias, From, To, Call-ID, CSeq and Record-Route of a request.
pub fn response(request: &Sent, status: &str, to_tag: &str) -> String {
    let mut text = format!("SIP/2.0 {status}\r\n");
    for name in ["Via", "v", "Record-Route", "From", "To", "Call-ID", "CSeq"] {
        for value in request.headers(name) {
            let tag = match name {
                "To" if !value.contains(";tag=") => format!(";tag={to_tag}"),
                _ => String::new(),
            };
            text += &format!("{name}: {value}{tag}\r\n");
        }
    }
    text + "Content-Length: 0\r\n\r\n"
}
