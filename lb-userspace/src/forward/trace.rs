//! What a decision rests on, for `siplb explain`: read by the functions that [`super::forward`] itself uses, after it has
//! decided and apart from it. It decides nothing, and unlike the decision it allocates.

use std::net::SocketAddr;

use super::{
    Datagram, Outcome, Table,
    own_contact::OwnContact,
    own_routes::OwnRoutes,
    request::Request,
    response::{cseq_method, is_own, target, transaction_of},
};
use crate::{
    balance::{BackendIndex, Strategy, Turns},
    nat::{self, Fixes, Indicators, Policy},
    sip::{self, Message, NameAddr, Span, Uri},
    token::{ContactOf, ContactToken, FlowToken},
};

/// Most Route values that are looked at.
const MAX_ROUTE_VALUES: usize = 64;

/// What [`super::forward`] saw in a datagram.
#[derive(Clone, Debug, Default)]
pub struct Trace {
    /// The message; `None` when the datagram is none.
    pub message: Option<Message>,
    /// The source is the address of a backend, at whatever port, or in a trusted network.
    pub from_inside: bool,
    /// Route values of a request in their order, as far as they are looked at.
    pub routes: Vec<RouteValue>,
    /// A Contact of ours in the Request-URI: its token, and what that says when it is valid.
    pub contact: Option<(Span, Option<ContactToken>)>,
    /// How a pool and a backend were looked for, when nothing else said where a request goes.
    pub choice: Option<Choice>,
    /// What was looked for of a NAT; `None` for what a client did not send, or what never got that far.
    pub nat: Option<NatTrace>,
    /// What decides about a response.
    pub response: Option<ResponseTrace>,
}

/// What was looked for of a NAT between a client and us.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NatTrace {
    /// What was looked for, and what is done when it is found.
    pub policy: Policy,
    /// The route rule whose policy it is, by its place in [`Table::routes`]; `None` for that of the listener.
    pub rule: Option<usize>,
    /// The indicators that match, looked for or not.
    pub present: Indicators,
}

/// One Route value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RouteValue {
    /// The whole value.
    pub value: Span,
    /// Whose it is.
    pub owner: RouteOwner,
    /// It was for us and is taken out.
    pub taken: bool,
}

/// Whose a Route value is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RouteOwner {
    /// It cannot be read.
    Malformed,
    /// Not ours: its host and port are not those of a listener.
    Other,
    /// Ours, without a user part: it leads nowhere.
    OursWithoutToken,
    /// Ours, and the user part is no flow token that any of our keys made.
    OursBadToken,
    /// Ours, with a flow token that is valid.
    Ours(FlowToken),
}

/// How a request without flow token met its backend, or why it met none.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Choice {
    /// The first route rule that matches, by its place in [`Table::routes`].
    pub rule: Option<usize>,
    /// The pool of that rule, by its place in [`Table::pools`].
    pub pool: Option<usize>,
    /// How the pool picks for that rule.
    pub strategy: Option<Strategy>,
    /// What it picks by; `None` where it goes by turns or by the list.
    pub key: Option<Vec<u8>>,
    /// The slot of the pool's lookup table that the key belongs to.
    pub slot: Option<usize>,
    /// The backend that the slot belongs to.
    pub backend: Option<BackendIndex>,
}

/// What decides about a response.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ResponseTrace {
    /// sent-by of the top Via is the listener that the response arrived at.
    pub own_via: bool,
    /// There is a MAC in the top Via.
    pub has_mac: bool,
    /// Where the next Via leads; `None` when there is no next Via or it names no address.
    pub target: Option<SocketAddr>,
    /// The MAC holds for that address.
    pub mac_holds: bool,
}

impl Trace {
    /// Looks at a datagram that [`super::forward`] gave this outcome.
    pub fn new(table: &Table, datagram: &Datagram<'_>, outcome: Outcome) -> Self {
        let source = datagram.source;
        let source = SocketAddr::new(source.ip().to_canonical(), source.port());
        let datagram = Datagram {
            source,
            ..*datagram
        };
        let mut trace = Self {
            from_inside: table.is_inside(source.ip()),
            ..Self::default()
        };
        let listener = table.listeners.get(usize::from(datagram.listener.0));
        let (Some(listener), Ok(message)) = (listener, sip::read(datagram.payload)) else {
            return trace;
        };
        match Request::new(table, listener, &datagram, &message) {
            Some(request) => {
                trace.request(&request, outcome);
                if message.via.is_some()
                    && outcome != Outcome::OwnReplyAcked
                    && request.comes_from_client()
                {
                    let method = request.method_name.of(datagram.payload);
                    trace.nat = Some(nat_trace(table, &datagram, &message, method));
                }
            }
            None => {
                let bytes = datagram.payload;
                trace.response = message.via.map(|via| {
                    let mac = via.mac.map_or(&[][..], |mac| mac.of(bytes));
                    let target = target(table, bytes, &message, &via);
                    let transaction = transaction_of(bytes, &via);
                    ResponseTrace {
                        own_via: is_own(listener, bytes, &via),
                        has_mac: via.mac.is_some(),
                        target,
                        mac_holds: target.is_some_and(|target| {
                            table.keys.verify_via_mac(transaction, mac, target)
                        }),
                    }
                });
                let method = cseq_method(bytes, &message);
                trace.nat = method
                    .filter(|_| outcome == Outcome::Response && !trace.from_inside)
                    .map(|method| nat_trace(table, &datagram, &message, method));
            }
        }
        trace.message = Some(message);
        trace
    }

    fn request(&mut self, request: &Request<'_>, outcome: Outcome) {
        let mut own = OwnRoutes::default();
        let (bytes, uri) = (request.bytes, request.uri);
        self.contact = [ContactOf::Client, ContactOf::Backend]
            .into_iter()
            .find_map(|of| OwnContact::find(request.table, bytes, uri, of))
            .map(|contact| (contact.token, contact.read(request.table, bytes)));
        let taken = own.take(
            request.table,
            request.bytes,
            request.message,
            request.source,
        );
        self.routes = route_values(request);
        if taken.is_ok() {
            for route in &mut self.routes {
                let at = route.value.start();
                let removals = own.removals.iter().flatten();
                route.taken = removals
                    .into_iter()
                    .any(|removal| (removal.start()..removal.end()).contains(&at));
            }
        }
        let looked_for = match outcome {
            Outcome::RequestToPool
            | Outcome::NoRouteRule
            | Outcome::NoUsableBackend
            | Outcome::CpsBreached
            | Outcome::CpsBreachedSilently => true,
            Outcome::ForgedClientAddress => {
                taken.is_ok() && own.lead.is_none() && !self.from_inside
            }
            // Any of several reasons; this one is left when no other holds.
            Outcome::AckNotRouted => {
                taken.is_ok()
                    && own.lead.is_none()
                    && !self.from_inside
                    && request
                        .message
                        .max_forwards
                        .is_none_or(|hops| hops.value > 0)
            }
            _ => false,
        };
        self.choice = looked_for.then(|| choose(request));
    }
}

/// The policy that holds for a client's message, and what a policy that selects everything would find.
fn nat_trace(table: &Table, datagram: &Datagram<'_>, message: &Message, method: &[u8]) -> NatTrace {
    let source = datagram.source.ip();
    let rule = table.nat_rule(datagram.listener, method, source);
    let everything = Policy {
        detect: Indicators::ALL,
        fix: Fixes::NONE,
        max_expires: None,
    };
    let facts = nat::Facts {
        bytes: datagram.payload,
        message,
        source: datagram.source,
        private: &table.private,
    };
    NatTrace {
        policy: table.nat_policy(datagram.listener, method, source),
        rule: rule.map(|(place, _)| place),
        present: nat::examine(everything, facts, &mut nat::Notes::default())
            .decision
            .matched,
    }
}

/// The same look-ups as those of the decision, one by one, for a worker that remembers nothing.
fn choose(request: &Request<'_>) -> Choice {
    let rule = request.rule();
    let pool = rule.and_then(|(_, rule)| Some((rule.pool, request.table.pools.get(rule.pool)?)));
    let strategy = rule
        .zip(pool)
        .map(|((_, rule), (_, pool))| rule.strategy.unwrap_or(pool.strategy));
    let key = strategy.and_then(|strategy| request.key(strategy));
    let slot = pool.and_then(|(_, pool)| pool.slot(key.as_ref()?));
    let backend = pool.and_then(|(place, pool)| match (slot, strategy) {
        (Some(slot), _) => pool.at(slot),
        (None, Some(Strategy::First)) => pool.first(),
        _ => pool.next(place, &mut Turns::default()),
    });
    Choice {
        rule: rule.map(|(place, _)| place),
        pool: pool.map(|(place, _)| place),
        strategy,
        key: key.map(|key| key.to_vec()),
        slot,
        backend: backend.map(|backend| backend.index),
    }
}

fn route_values(request: &Request<'_>) -> Vec<RouteValue> {
    let (table, bytes) = (request.table, request.bytes);
    let mut values = Vec::new();
    for field in request.message.routes.iter().flatten() {
        let mut rest = Some(field.value);
        while let Some(span) = rest.filter(|_| values.len() < MAX_ROUTE_VALUES) {
            let Some(value) = NameAddr::parse(bytes, span) else {
                values.push(RouteValue {
                    value: span,
                    owner: RouteOwner::Malformed,
                    taken: false,
                });
                return values;
            };
            let own = Uri::parse(bytes, value.uri).filter(|uri| table.is_own(bytes, uri));
            let owner = own.map_or(RouteOwner::Other, |uri| {
                match uri.user.filter(|user| !user.is_empty()) {
                    None => RouteOwner::OursWithoutToken,
                    Some(user) => match table.read_flow_token(user.of(bytes)) {
                        None => RouteOwner::OursBadToken,
                        Some(token) => RouteOwner::Ours(token),
                    },
                }
            });
            values.push(RouteValue {
                value: value.value,
                owner,
                taken: false,
            });
            rest = value.next.map(|next| Span::new(next, field.value.end()));
        }
    }
    values
}
