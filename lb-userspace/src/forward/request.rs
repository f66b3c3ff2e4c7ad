//! What becomes of a request.

use std::net::SocketAddr;

use super::{
    Action, Datagram, Listener, ListenerIndex, Outcome, RouteRule, Scratch, Table, Verdict,
    own_routes::{Lead, OwnRoutes, RouteError},
    reply::{self, Status},
    rewrite::{self, Rewrite},
    stamp::Stamp,
};
use crate::{
    balance::BackendIndex,
    sip::{Fault, MAX_ROUTE_FIELDS, Message, Method, Span, StartLine, Uri, Via},
    token::{FlowToken, TransactionParts},
};

/// A request that is being decided on.
pub(super) struct Request<'a> {
    pub table: &'a Table,
    pub listener: &'a Listener,
    listener_index: ListenerIndex,
    pub bytes: &'a [u8],
    pub message: &'a Message,
    /// Where it came from; an IPv4 address is never mapped.
    pub source: SocketAddr,
    pub method: Method,
    method_name: Span,
    uri: Span,
}

/// Where a request goes.
struct NextHop {
    outcome: Outcome,
    to: SocketAddr,
    backend: Option<BackendIndex>,
    /// The ends of the dialog, should the request create one.
    flow: FlowToken,
    /// Route values of ours to take out.
    removals: [Option<Span>; MAX_ROUTE_FIELDS],
}

/// Why a request does not go on.
struct Refusal {
    outcome: Outcome,
    status: Status,
}

/// Decides on a request; `None` when the message is a response.
pub(super) fn decide(
    table: &Table,
    listener: &Listener,
    datagram: &Datagram<'_>,
    message: &Message,
    scratch: &mut Scratch,
) -> Option<Verdict> {
    Some(Request::new(table, listener, datagram, message)?.decide(scratch))
}

impl<'a> Request<'a> {
    /// `None` when the message is a response.
    pub fn new(
        table: &'a Table,
        listener: &'a Listener,
        datagram: &Datagram<'a>,
        message: &'a Message,
    ) -> Option<Self> {
        let StartLine::Request { method, name, uri } = message.start_line else {
            return None;
        };
        Some(Self {
            table,
            listener,
            listener_index: datagram.listener,
            bytes: datagram.payload,
            message,
            source: datagram.source,
            method,
            method_name: name,
            uri,
        })
    }

    fn decide(&self, scratch: &mut Scratch) -> Verdict {
        let Some(via) = self.message.via else {
            let outcome = match self.method {
                Method::Ack => Outcome::MalformedAck,
                _ => Outcome::Unanswerable,
            };
            return Verdict::without_sending(outcome);
        };
        let stamp = Stamp::new(self.bytes, &via, self.source);
        if let Some(fault) = self.message.fault {
            return self.refuse(&via, &stamp, Refusal::of_fault(fault), scratch);
        }
        // An ACK to a reply of ours has the To tag that we gave, whichever of our nodes that was.
        if self.method == Method::Ack
            && let Some(tag) = self.message.to_tag()
            && self
                .table
                .keys
                .is_own_to_tag(&self.transaction(&via), tag.of(self.bytes))
        {
            return Verdict::without_sending(Outcome::OwnReplyAcked);
        }
        match self.next_hop(&stamp) {
            Ok(next_hop) => self.forward(&via, stamp, &next_hop, scratch),
            Err(refusal) => self.refuse(&via, &stamp, refusal, scratch),
        }
    }

    fn next_hop(&self, stamp: &Stamp) -> Result<NextHop, Refusal> {
        if self
            .message
            .max_forwards
            .is_some_and(|hops| hops.value == 0)
        {
            return Err(match self.method {
                // RFC 3261 §11: an OPTIONS that may go no further is answered by who has it.
                Method::Options => Refusal::OPTIONS,
                _ => Refusal::MAX_FORWARDS,
            });
        }
        let routes = OwnRoutes::take(self.table, self.bytes, self.message, self.source).map_err(
            |error| match error {
                RouteError::Malformed => Refusal::of_fault(Fault::Route),
                RouteError::BadToken => Refusal::BAD_TOKEN,
            },
        )?;
        match routes.lead {
            Some(lead) => Ok(self.follow(lead, &routes, stamp)),
            None if self.is_options_for_us(&routes) => Err(Refusal::OPTIONS),
            None if self.table.is_backend(self.source.ip()) => Err(Refusal::FROM_BACKEND),
            None => self.distribute(&routes, stamp),
        }
    }

    fn follow(&self, lead: Lead, routes: &OwnRoutes, stamp: &Stamp) -> NextHop {
        let removals = routes.removals;
        let to_client = |client, backend| NextHop {
            outcome: Outcome::RequestToClient,
            to: client,
            backend: None,
            flow: FlowToken { client, backend },
            removals,
        };
        match lead {
            Lead::ToClient(token) => to_client(token.client, self.source),
            Lead::Across(first, second) => to_client(second.client, first.backend),
            Lead::ToBackend(token) => NextHop {
                outcome: Outcome::RequestToBackend,
                to: token.backend,
                backend: self.table.backend_at(token.backend),
                flow: FlowToken {
                    client: stamp.target,
                    backend: token.backend,
                },
                removals,
            },
        }
    }

    /// An OPTIONS whose Request-URI is a listener without a user (RFC 3261 §11.2), and which no Route takes elsewhere.
    fn is_options_for_us(&self, routes: &OwnRoutes) -> bool {
        self.method == Method::Options
            && !routes.foreign
            && Uri::parse(self.bytes, self.uri).is_some_and(|uri| {
                uri.user.is_none_or(Span::is_empty) && self.table.is_own(self.bytes, &uri)
            })
    }

    /// The first route rule that matches, and its place in [`Table::routes`].
    pub fn rule(&self) -> Option<(usize, &'a RouteRule)> {
        // A CANCEL and the ACK to a non-2xx response must go where their INVITE went (RFC 3261 §9.1, §17.1.1.3), so
        // rules see them as the INVITE that they belong to.
        let method: &[u8] = match self.method {
            Method::Ack | Method::Cancel => b"INVITE",
            _ => self.method_name.of(self.bytes),
        };
        let mut rules = self.table.routes.iter().enumerate();
        rules.find(|(_, rule)| rule.matches(self.listener_index, method))
    }

    /// What a pool picks a backend by: the Call-ID.
    pub fn key(&self) -> &'a [u8] {
        let call_id = self.message.call_id;
        call_id.map_or(&[][..], |field| field.value.of(self.bytes))
    }

    /// The backend that the pool of the first rule that matches gives the key to.
    fn distribute(&self, routes: &OwnRoutes, stamp: &Stamp) -> Result<NextHop, Refusal> {
        let (_, rule) = self.rule().ok_or(Refusal::NO_RULE)?;
        let pool = self.table.pools.get(rule.pool);
        let backend = pool
            .and_then(|pool| pool.pick(self.key()))
            .ok_or(Refusal::NO_BACKEND)?;
        Ok(NextHop {
            outcome: Outcome::RequestToPool,
            to: backend.address,
            backend: Some(backend.index),
            flow: FlowToken {
                client: stamp.target,
                backend: backend.address,
            },
            removals: routes.removals,
        })
    }

    fn forward(
        &self,
        via: &Via,
        stamp: Stamp,
        next_hop: &NextHop,
        scratch: &mut Scratch,
    ) -> Verdict {
        let outside_dialog = self.message.to_tag().is_none();
        let rewrite = Rewrite {
            request: self,
            transaction: self.table.keys.transaction_id(&self.transaction(via)),
            removals: next_hop.removals,
            record_route: (outside_dialog && self.method.creates_dialog()).then_some(next_hop.flow),
        };
        match rewrite::request(&rewrite, stamp, &mut scratch.edits) {
            Ok(()) => Verdict {
                outcome: next_hop.outcome,
                action: Action::Forward {
                    to: next_hop.to,
                    backend: next_hop.backend,
                    initial_invite: outside_dialog && self.method == Method::Invite,
                },
            },
            Err(_) => Verdict::without_sending(Outcome::NoRoomForEdits),
        }
    }

    /// Answers with the refusal, unless the request is an ACK.
    fn refuse(&self, via: &Via, stamp: &Stamp, refusal: Refusal, scratch: &mut Scratch) -> Verdict {
        if self.method == Method::Ack {
            return Verdict::without_sending(match self.message.fault {
                Some(_) => Outcome::MalformedAck,
                None => Outcome::AckNotRouted,
            });
        }
        let transaction = self.table.keys.transaction_id(&self.transaction(via));
        let to_tag = self.table.keys.to_tag(transaction);
        reply::write(self, refusal.status, stamp, &to_tag, &mut scratch.reply);
        Verdict {
            outcome: refusal.outcome,
            action: Action::Reply { to: stamp.target },
        }
    }

    fn transaction(&self, via: &Via) -> TransactionParts<'_> {
        let text = |span: Option<Span>| span.map_or(&[][..], |span| span.of(self.bytes));
        TransactionParts {
            branch: text(via.branch),
            sent_by_host: via.host.of(self.bytes),
            sent_by_port: via.effective_port(),
            call_id: text(self.message.call_id.map(|field| field.value)),
            cseq: self.message.cseq_number().unwrap_or(0),
            from_tag: text(self.message.from_tag()),
            request_uri: self.uri.of(self.bytes),
        }
    }
}

impl Refusal {
    const OPTIONS: Self = Self {
        outcome: Outcome::OptionsAnswered,
        status: Status::new(b"200", "OK"),
    };
    const MAX_FORWARDS: Self = Self {
        outcome: Outcome::MaxForwardsExceeded,
        status: Status::new(b"483", "Too Many Hops"),
    };
    const BAD_TOKEN: Self = Self {
        outcome: Outcome::BadFlowToken,
        status: Status::new(b"403", "Flow token not valid"),
    };
    const FROM_BACKEND: Self = Self {
        outcome: Outcome::FromBackendWithoutToken,
        status: Status::new(b"403", "No flow token in Route"),
    };
    const NO_RULE: Self = Self {
        outcome: Outcome::NoRouteRule,
        status: Status::new(b"404", "Not Found"),
    };
    const NO_BACKEND: Self = Self {
        outcome: Outcome::NoUsableBackend,
        status: Status::new(b"503", "Service Unavailable"),
    };

    fn of_fault(fault: Fault) -> Self {
        let code = if fault == Fault::Version {
            b"505"
        } else {
            b"400"
        };
        Self {
            outcome: Outcome::of_fault(fault),
            status: Status::new(code, fault.reason()),
        }
    }
}
