//! What is to say about a datagram, as `--json` prints it.

use std::net::SocketAddr;

use base64::{Engine, engine::general_purpose::STANDARD};
use serde::Serialize;

use super::{Edge, nat, printable::unfolded};
use crate::{
    balance::{Backend, BackendIndex, Strategy},
    forward::{
        Action, Datagram, ListenerIndex, Outcome, RouteOwner, RouteValue, Scratch, Trace, Verdict,
        forward,
    },
    sip::{HeaderField, Lines, Message, Name, NameAddr, Span, StartLine},
};

/// All of it. Fields are only ever added.
#[derive(Debug, Serialize)]
pub(super) struct Explanation {
    pub from: String,
    pub to: String,
    pub listener: String,
    pub parse: Parse,
    pub nat: Nat,
    pub route_headers: Vec<RouteHeader>,
    pub route: Route,
    /// What the worker does: `forward`, `reply`, `drop` or `absorb`.
    pub verdict: &'static str,
    /// Name of the outcome, which is that of its counter.
    pub reason: &'static str,
    pub meaning: &'static str,
    /// Why the listener finds it not well-formed, when it validates.
    pub validate: Option<Invalid>,
    pub next_hop: Option<String>,
    /// What would be sent, in base64.
    pub datagram: Option<String>,
    /// What keeps this from being what a node does.
    pub notes: Vec<String>,
    #[serde(skip)]
    pub source: SocketAddr,
    #[serde(skip)]
    pub outcome: Outcome,
    #[serde(skip)]
    pub sent: Option<Vec<u8>>,
    /// The name whose addresses the request waits for, when it does.
    pub awaits_name: Option<String>,
    #[serde(skip)]
    pub trace: Trace,
}

/// What was read of the message.
#[derive(Debug, Default, Serialize)]
pub(super) struct Parse {
    /// Nothing is wrong with it.
    pub valid: bool,
    pub error: Option<&'static str>,
    /// `request` or `response`.
    pub kind: Option<&'static str>,
    pub method: Option<String>,
    pub status: Option<u16>,
    pub request_uri: Option<String>,
    pub call_id: Option<String>,
    pub cseq: Option<String>,
    pub from_uri: Option<String>,
    pub to_uri: Option<String>,
    /// Without brackets.
    pub via_host: Option<String>,
    pub via_port: Option<u16>,
    pub max_forwards: Option<u8>,
}

/// What validation found.
#[derive(Debug, Serialize)]
pub(super) struct Invalid {
    /// Name of the reason, which is that of its counter.
    pub reason: &'static str,
    pub meaning: &'static str,
}

/// Far-end NAT.
#[derive(Debug, Default, Serialize)]
pub(super) struct Nat {
    /// Names of the indicators that were looked for and found.
    pub matched: Vec<&'static str>,
    /// Names of the fixes that changed something.
    pub fixed: Vec<&'static str>,
    pub natted: bool,
    /// Names of the indicators that the policy looks for, and of the fixes that it selects.
    pub detect: Vec<&'static str>,
    pub fix: Vec<&'static str>,
    /// Names of the indicators that would match if they were looked for.
    pub not_looked_for: Vec<&'static str>,
}

/// One value of Route.
#[derive(Debug, Serialize)]
pub(super) struct RouteHeader {
    pub value: String,
    /// `token`, `no-token`, `bad-token` for ours, `other` or `malformed`.
    pub owner: &'static str,
    pub client: Option<String>,
    pub backend: Option<String>,
    /// It was for us and is taken out.
    pub taken: bool,
}

/// How the backend was found. All but the backend is null when a flow token named it.
#[derive(Debug, Default, Serialize)]
pub(super) struct Route {
    /// Counted from 1 in the order of the configuration.
    pub rule: Option<usize>,
    pub pool: Option<String>,
    pub strategy: Option<&'static str>,
    pub key: Option<String>,
    pub slot: Option<usize>,
    pub backend: Option<String>,
    pub backend_address: Option<String>,
}

impl Explanation {
    /// Decides on a datagram as a worker does, and says what that rests on.
    pub(super) fn new(
        edge: &Edge,
        payload: &[u8],
        from: SocketAddr,
        listener: ListenerIndex,
        scratch: &mut Scratch,
    ) -> Self {
        let datagram = Datagram {
            payload,
            source: from,
            listener,
        };
        let verdict = forward(&edge.table, &datagram, scratch);
        let trace = Trace::new(&edge.table, &datagram, verdict.outcome);
        let (name, next_hop) = match verdict.action {
            Action::Forward { to, .. } => ("forward", Some(to)),
            Action::Reply { to } => ("reply", Some(to)),
            Action::Drop => ("drop", None),
            Action::Absorb => ("absorb", None),
            // It goes on as soon as the name servers have said where to.
            Action::AwaitName => ("forward", None),
        };
        let sent = sent(&verdict, payload, scratch);
        let here = &edge.table.listeners[usize::from(listener.0)];
        Self {
            from: from.to_string(),
            to: here.address.to_string(),
            listener: here.name.clone(),
            parse: Parse::new(payload, trace.message.as_ref()),
            nat: Nat::new(&verdict, &trace),
            route_headers: trace
                .routes
                .iter()
                .map(|route| RouteHeader::new(payload, route))
                .collect(),
            route: Route::new(edge, &verdict, &trace),
            verdict: name,
            reason: verdict.outcome.name(),
            meaning: verdict.outcome.meaning(),
            validate: scratch.invalid.map(|reason| Invalid {
                reason: reason.name(),
                meaning: reason.meaning(),
            }),
            next_hop: next_hop.map(|address| address.to_string()),
            datagram: sent.as_ref().map(|bytes| STANDARD.encode(bytes)),
            notes: edge.notes.clone(),
            source: from,
            outcome: verdict.outcome,
            awaits_name: match verdict.action {
                Action::AwaitName => scratch.question.map(|name| name.to_string()),
                _ => None,
            },
            sent,
            trace,
        }
    }
}

/// The bytes that would leave.
fn sent(verdict: &Verdict, payload: &[u8], scratch: &Scratch) -> Option<Vec<u8>> {
    match verdict.action {
        Action::Forward { .. } => {
            let mut bytes = vec![0; scratch.edits.output_len(payload.len())];
            scratch.edits.apply(payload, &mut bytes)?;
            Some(bytes)
        }
        Action::Reply { .. } => Some(scratch.reply.clone()),
        Action::Drop | Action::Absorb | Action::AwaitName => None,
    }
}

/// Text for JSON: what is no UTF-8 is replaced.
fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

impl Parse {
    pub(super) fn new(payload: &[u8], message: Option<&Message>) -> Self {
        let Some(message) = message else {
            return Self {
                error: Some("Not a SIP message"),
                ..Self::default()
            };
        };
        let at = |span: Span| text(span.of(payload));
        let unfolded = |span: Span| text(&unfolded(span.of(payload)));
        let (kind, method, status, request_uri) = match message.start_line {
            StartLine::Request { name, uri, .. } => {
                ("request", Some(at(name)), None, Some(at(uri)))
            }
            StartLine::Response { status } => ("response", None, Some(status), None),
        };
        Self {
            valid: message.fault.is_none(),
            error: message.fault.map(|fault| fault.reason()),
            kind: Some(kind),
            method,
            status,
            request_uri,
            call_id: message.call_id.map(|field| unfolded(field.value)),
            cseq: message.cseq.map(|field| unfolded(field.value)),
            from_uri: uri(payload, message.from_uri(), message.from).map(at),
            to_uri: uri(payload, message.to_uri(), message.to).map(at),
            via_host: message.via.map(|via| {
                let host = at(via.host);
                host.trim_matches(['[', ']']).to_owned()
            }),
            via_port: message.via.and_then(|via| via.port),
            max_forwards: match message.max_forwards {
                Some(hops) => Some(hops.value),
                None => max_forwards_of_response(payload, message),
            },
        }
    }
}

/// The URI of From or To; also of one that is faulty behind its URI, which does not keep a response from its way.
fn uri(payload: &[u8], read: Option<Span>, field: Option<HeaderField>) -> Option<Span> {
    read.or_else(|| {
        let value = field?.value;
        let end = value.start() + memchr::memchr(b'>', value.of(payload))? + 1;
        Some(NameAddr::parse(payload, Span::new(value.start(), end))?.uri)
    })
}

/// Nobody routes by the Max-Forwards of a response, so it is not noted when a message is read.
fn max_forwards_of_response(payload: &[u8], message: &Message) -> Option<u8> {
    if message.method().is_some() {
        return None;
    }
    let mut fields = Lines::new(payload, message.headers).flatten();
    let field = fields.find(|field| field.name == Name::MaxForwards)?;
    str::from_utf8(field.value.of(payload)).ok()?.parse().ok()
}

impl Nat {
    fn new(verdict: &Verdict, trace: &Trace) -> Self {
        let policy = trace.nat.map(|nat| nat.policy).unwrap_or_default();
        Self {
            matched: verdict.nat.matched.names().collect(),
            fixed: verdict.nat.fixed.names().collect(),
            natted: verdict.nat.is_natted(),
            detect: policy.detect.names().collect(),
            fix: policy.fix.names().collect(),
            not_looked_for: trace.nat.map(nat::others).unwrap_or_default(),
        }
    }
}

impl RouteHeader {
    fn new(payload: &[u8], route: &RouteValue) -> Self {
        let (owner, token) = match route.owner {
            RouteOwner::Malformed => ("malformed", None),
            RouteOwner::Other => ("other", None),
            RouteOwner::OursWithoutToken => ("no-token", None),
            RouteOwner::OursBadToken => ("bad-token", None),
            RouteOwner::Ours(token) => ("token", Some(token)),
        };
        Self {
            value: text(&unfolded(route.value.of(payload))),
            owner,
            client: token.map(|token| token.client.to_string()),
            backend: token.map(|token| token.backend.to_string()),
            taken: route.taken,
        }
    }
}

impl Route {
    fn new(edge: &Edge, verdict: &Verdict, trace: &Trace) -> Self {
        let choice = trace.choice.as_ref();
        let index = match (verdict.action, choice) {
            (Action::Forward { backend, .. }, _) => backend,
            (_, Some(choice)) => choice.backend,
            _ => None,
        };
        let backend = index.and_then(|index| edge.backend(index));
        let pool = choice.and_then(|choice| edge.config.pools.get(choice.pool?));
        let strategy = choice.and_then(|choice| choice.strategy);
        let key = choice.and_then(|choice| choice.key.as_deref());
        Self {
            rule: choice.and_then(|choice| Some(choice.rule? + 1)),
            pool: pool.map(|pool| pool.name.clone()),
            strategy: strategy.map(Strategy::name),
            key: key.map(text),
            slot: choice.and_then(|choice| choice.slot),
            backend: backend.map(|backend| backend.name.clone()),
            backend_address: backend.map(|backend| backend.address.to_string()),
        }
    }
}

impl Edge {
    /// A backend of any pool.
    pub(super) fn backend(&self, index: BackendIndex) -> Option<&Backend> {
        self.table.backend(index)
    }
}
