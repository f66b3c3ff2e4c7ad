//! What becomes of a request.

use std::net::SocketAddr;

use super::{
    Action, Datagram, Edits, Listener, ListenerIndex, Outcome, Reading, Scratch, Table, Verdict,
    client_address::{Told, announce},
    distribute::Remembered,
    next_hop::{FarEnd, NextHop, UriChange},
    outbound::Target,
    own_contact::OwnContact,
    own_routes::{Lead, OwnRoutes, RouteError},
    reading::Ahead,
    refusal::Refusal,
    registration, reply,
    rewrite::Rewrite,
    stamp::Stamp,
    topology::{self, HiddenRequest},
};
use crate::{
    config::Registration,
    nat::{self, Alias, Examined, Facts, Fix, Notes},
    sip::{Fault, MAX_HEADER_FIELDS, Message, Method, Span, StartLine, Via},
    token::{
        ContactOf, ContactToken, FlowKind, FlowToken, Signer, TransactionId, TransactionParts,
    },
    validate::{self, Findings, Mode, Reason},
};

/// Most header fields of a request that goes on. We add up to seven. Its responses bring back Via and Record-Route, with
/// those of every further proxy and the server's own: the rest of what is read is room for them.
const MAX_FIELDS: usize = MAX_HEADER_FIELDS - 16;

/// A request that is being decided on.
pub(super) struct Request<'a> {
    pub table: &'a Table,
    pub listener: &'a Listener,
    pub listener_index: ListenerIndex,
    pub bytes: &'a [u8],
    pub message: &'a Message,
    /// Where it came from; an IPv4 address is never mapped.
    pub source: SocketAddr,
    pub method: Method,
    pub method_name: Span,
    pub uri: Span,
    /// The secret that it is written with: the one that its transaction began under.
    pub signer: Signer,
    /// What was worked out when it was read.
    pub ahead: Ahead,
}

/// What leads a request.
pub(super) enum Way<'a> {
    /// A flow token, an alias, a Contact of ours, or an address.
    Led(NextHop),
    /// A name, to addresses that this listener reaches.
    Named(Target<'a>, ListenerIndex),
    /// Nothing yet: a pool has to pick a backend.
    ToPool,
}

/// Decides on what has been read and is a request.
pub(super) fn decide(
    table: &Table,
    listener: &Listener,
    datagram: &Datagram<'_>,
    reading: &Reading,
    scratch: &mut Scratch,
) -> Verdict {
    let StartLine::Request { method, name, uri } = reading.message.start_line else {
        return Verdict::without_sending(Outcome::NotSip);
    };
    let mut request = Request::of_line(
        table,
        listener,
        datagram,
        &reading.message,
        method,
        name,
        uri,
    );
    request.ahead = reading.ahead;
    request.decide(scratch)
}

/// What a transaction is told by whose request has this message, Request-URI and top Via.
pub(super) fn transaction_parts<'a>(
    bytes: &'a [u8],
    message: &Message,
    uri: Span,
    via: &Via,
) -> TransactionParts<'a> {
    let text = |span: Option<Span>| span.map_or(&[][..], |span| span.of(bytes));
    TransactionParts {
        branch: text(via.branch),
        sent_by_host: via.host.of(bytes),
        sent_by_port: via.effective_port(),
        call_id: text(message.call_id.map(|field| field.value)),
        cseq: message.cseq_number().unwrap_or(0),
        from_tag: text(message.from_tag()),
        request_uri: uri.of(bytes),
    }
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
        Some(Self::of_line(
            table, listener, datagram, message, method, name, uri,
        ))
    }

    /// A request with this method, its name and Request-URI.
    #[inline(always)]
    fn of_line(
        table: &'a Table,
        listener: &'a Listener,
        datagram: &Datagram<'a>,
        message: &'a Message,
        method: Method,
        method_name: Span,
        uri: Span,
    ) -> Self {
        Self {
            table,
            listener,
            listener_index: datagram.listener,
            bytes: datagram.payload,
            message,
            source: datagram.source,
            method,
            method_name,
            uri,
            signer: Signer::Current,
            ahead: Ahead::default(),
        }
    }

    fn decide(mut self, scratch: &mut Scratch) -> Verdict {
        let Some(via) = self.message.via else {
            let outcome = match self.method {
                Method::Ack => Outcome::MalformedAck,
                _ => Outcome::Unanswerable,
            };
            return Verdict::without_sending(outcome);
        };
        if via.rport.is_none() && self.answers_come_back(&via) {
            return Verdict::without_sending(Outcome::ForgedSource);
        }
        if self.message.fault.is_none() && self.acks_own_reply(&via) {
            return Verdict::without_sending(Outcome::OwnReplyAcked);
        }
        let transaction = self.recall(&via, &mut scratch.memory, scratch.now_ns);
        if let Some(seen) = &mut scratch.seen {
            seen.transaction = Some(transaction);
        }
        let mut routes = OwnRoutes::default();
        let mut findings = Findings::default();
        let way = match self.validate(&mut findings, scratch) {
            Ok(()) => self.way(&mut routes),
            Err(refusal) => Err(refusal),
        };
        let mut next_hop = way.and_then(|way| self.next_hop(way, transaction, scratch));
        let mut told = Told::default();
        if let Ok(known) = &next_hop
            && let Err(refusal) = self.tell(known, &mut told)
        {
            next_hop = Err(refusal);
        }
        let from_client = self.is_from_client(&next_hop);
        let mut nat = match from_client {
            true => self.examine(&mut scratch.nat),
            false => None,
        };
        let force_rport = nat.as_ref().is_some_and(Examined::forces_rport);
        let mut stamp = Stamp::empty(self.source);
        stamp.set_up(self.bytes, &via, self.source, force_rport);
        let sent = match &next_hop {
            Ok(next_hop) => {
                let mut rewrite = Rewrite::new(&self, next_hop, &routes, &findings, &told);
                let (edits, hidden) = (&mut scratch.edits, &mut scratch.hidden);
                self.hide(next_hop, &stamp, &routes, &mut rewrite, hidden, edits)
                    .and_then(|()| {
                        self.forward(transaction, &stamp, next_hop, rewrite, nat.as_mut(), edits)
                    })
                    .map(|fits| fits.then_some(next_hop))
            }
            Err(refusal) => Err(*refusal),
        };
        let mut verdict = match sent {
            Ok(Some(next_hop)) => {
                self.remember(transaction, &mut scratch.memory, scratch.now_ns);
                Verdict {
                    outcome: next_hop.outcome,
                    action: Action::Forward {
                        to: next_hop.to,
                        from: next_hop.from,
                        backend: next_hop.backend,
                        initial_invite: self.opens_call(),
                        wants_answer: self.method != Method::Ack,
                    },
                    nat: nat::Decision::default(),
                }
            }
            Ok(None) => Verdict::without_sending(Outcome::NoRoomForEdits),
            Err(refusal) => self.refuse(transaction, &stamp, refusal, &mut scratch.reply),
        };
        if let Some(nat) = nat {
            verdict.nat = nat.decision;
            let is_sent = !matches!(verdict.action, Action::Drop);
            verdict.nat.fixed.set_if(Fix::Rport, force_rport && is_sent);
        }
        verdict
    }

    /// Where a request goes that has found its way.
    fn next_hop(
        &self,
        way: Way<'_>,
        transaction: TransactionId,
        scratch: &mut Scratch,
    ) -> Result<NextHop, Refusal> {
        let next_hop = match way {
            Way::ToPool => {
                let known = self.remembered(transaction, scratch);
                return self.distribute(known);
            }
            Way::Led(next_hop) => next_hop,
            Way::Named(target, from) => {
                let to = self.resolve(target, from, transaction, scratch)?;
                self.to_outside(to, from)?
            }
        };
        if self.method == Method::Ack {
            self.remembered(transaction, scratch).is_answered();
        }
        match self.opens_call() {
            true => self.admit(next_hop, self.remembered(transaction, scratch)),
            false => Ok(next_hop),
        }
    }

    fn remembered<'m>(
        &self,
        transaction: TransactionId,
        scratch: &'m mut Scratch,
    ) -> Remembered<'m> {
        Remembered::new(self, transaction, &mut scratch.memory, scratch.now_ns)
    }

    /// True when responses would go to one of our listeners, without `rport`: to the port of sent-by (RFC 3261 §18.2.2).
    fn answers_come_back(&self, via: &Via) -> bool {
        let target = SocketAddr::new(self.source.ip(), via.effective_port());
        self.table.is_listener(target)
    }

    fn is_from_client(&self, next_hop: &Result<NextHop, Refusal>) -> bool {
        match next_hop {
            Ok(next_hop) => next_hop.from_client,
            Err(_) => !self.table.is_inside(self.source.ip()),
        }
    }

    /// True when the request is one of a client, in which a NAT is looked for.
    pub fn comes_from_client(&self) -> bool {
        match self.way(&mut OwnRoutes::default()) {
            Ok(Way::Led(next_hop)) => next_hop.from_client,
            Ok(Way::Named(..)) => false,
            Ok(Way::ToPool) => true,
            Err(_) => !self.table.is_inside(self.source.ip()),
        }
    }

    /// Looks at the request as its listener wants it.
    ///
    /// What comes from inside is not looked at: validation keeps the outside from the backends, and a call that is up
    /// should not end for a header field that one of them forgot.
    fn validate(&self, findings: &mut Findings, scratch: &mut Scratch) -> Result<(), Refusal> {
        let Some(validate) = self.listener.validate else {
            return Ok(());
        };
        if self.message.fault.is_some() || self.table.is_inside(self.source.ip()) {
            return Ok(());
        }
        *findings = validate::scan(self.bytes, self.message, validate.checks);
        scratch.invalid = findings.reason;
        match findings.reason {
            Some(reason) if validate.mode == Mode::Reply || reason == Reason::ForgedMark => {
                Err(Refusal::of_reason(reason))
            }
            _ => Ok(()),
        }
    }

    /// Looks for a NAT between the client and us, if that is wanted.
    fn examine<'b>(&'b self, notes: &'b mut Notes) -> Option<Examined<'b>> {
        let method = self.method_name.of(self.bytes);
        let source = self.source.ip();
        let policy = self.table.nat_policy(self.listener_index, method, source);
        let facts = Facts {
            bytes: self.bytes,
            message: self.message,
            source: self.source,
            private: &self.table.private,
        };
        (!policy.detect.is_empty()).then(|| nat::examine(policy, facts, notes))
    }

    /// An ACK to a reply of ours has the To tag that we gave, whichever of our nodes that was.
    fn acks_own_reply(&self, via: &Via) -> bool {
        self.method == Method::Ack
            && self.message.to_tag().is_some_and(|tag| {
                let transaction = self.transaction(via);
                self.table
                    .keys
                    .is_own_to_tag(&transaction, tag.of(self.bytes))
            })
    }

    /// `routes` has nothing taken yet.
    fn way(&self, routes: &mut OwnRoutes) -> Result<Way<'a>, Refusal> {
        if let Some(fault) = self.message.fault {
            return Err(Refusal::of_fault(fault));
        }
        if self.message.fields > MAX_FIELDS {
            return Err(Refusal::of_fault(Fault::TooManyHeaderFields));
        }
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
        // RFC 3261 §20.29: it is not for ACK and CANCEL, which have to reach whoever got their INVITE.
        if self.message.proxy_require && !matches!(self.method, Method::Ack | Method::Cancel) {
            return Err(Refusal::EXTENSION);
        }
        routes
            .take(self.table, self.bytes, self.message, self.source)
            .map_err(|error| match error {
                RouteError::Malformed => Refusal::of_fault(Fault::Route),
                RouteError::BadToken => Refusal::BAD_TOKEN,
            })?;
        let pinhole = routes.listener.unwrap_or(self.listener_index);
        Ok(Way::Led(match routes.lead {
            Some(Lead::ToClient(token)) => NextHop {
                began_inside: token.kind != FlowKind::FromClient,
                ..self.to_client(token.client, self.source, pinhole)
            },
            Some(Lead::Across(first, second)) => NextHop {
                from_client: true,
                began_inside: second.kind != FlowKind::FromClient,
                ..self.to_client(second.client, first.backend, pinhole)
            },
            Some(Lead::ToBackend(token)) => {
                let contact = self.hidden_contact().map(|(contact, _)| contact);
                self.to_backend(token.backend, contact)
            }
            Some(Lead::Outside) => return self.way_out(routes),
            None if self.is_ping(routes) => return Err(Refusal::OPTIONS),
            None if self.table.is_inside(self.source.ip()) => return self.way_out(routes),
            None => match self.hidden_contact() {
                // Its MAC says that a backend gave it to somebody outside.
                Some((contact, token)) => self.to_backend(token.address, Some(contact)),
                None => return Ok(Way::ToPool),
            },
        }))
    }

    /// The backend whose Contact the Request-URI was before the outside got to see it.
    fn hidden_contact(&self) -> Option<(OwnContact, ContactToken)> {
        let contact = OwnContact::find(self.table, self.bytes, self.uri, ContactOf::Backend)?;
        let token = contact.read(self.table, self.bytes)?;
        Some((contact, token))
    }

    fn to_backend(&self, backend: SocketAddr, contact: Option<OwnContact>) -> NextHop {
        NextHop {
            outcome: Outcome::RequestToBackend,
            to: backend,
            from: self.listener_index,
            backend: self.table.backend_at(backend),
            far_end: FarEnd::Sender,
            flow_backend: backend,
            request_uri: contact.map_or(UriChange::None, UriChange::Restore),
            from_client: true,
            began_inside: false,
        }
    }

    /// From a backend to a client. An alias in the Request-URI has been followed or is not needed any more: the client
    /// gets back what it wrote.
    pub fn to_client(
        &self,
        client: SocketAddr,
        backend: SocketAddr,
        from: ListenerIndex,
    ) -> NextHop {
        let own = |alias: &Alias| {
            let token = alias.token.of(self.bytes);
            self.table.keys.read_flow_token(token).is_some()
        };
        let alias = Alias::find(self.bytes, self.uri).filter(own);
        NextHop {
            outcome: Outcome::RequestToClient,
            to: client,
            from,
            backend: None,
            far_end: FarEnd::Client(client),
            flow_backend: backend,
            request_uri: alias.map_or(UriChange::None, |alias| UriChange::Remove(alias.parameter)),
            from_client: false,
            began_inside: false,
        }
    }

    /// Hides the inside from the outside, where that is wanted; what goes along is in `hidden` then.
    ///
    /// # Errors
    /// A refusal, when there is too much of it.
    fn hide<'b>(
        &self,
        next_hop: &NextHop,
        stamp: &Stamp,
        routes: &OwnRoutes,
        rewrite: &mut Rewrite<'b>,
        hidden: &'b mut HiddenRequest,
        edits: &mut Edits,
    ) -> Result<(), Refusal> {
        // Across two clients too: who began the dialog gets its own Call-ID back.
        rewrite.reveals = next_hop.from_client && !next_hop.began_inside;
        let hides = self.table.hides;
        // What the far end knows the dialog by stays, whatever the configuration has become since.
        let hides_call_id = routes.dialog.map_or(hides, |dialog| dialog.is_hidden);
        let shows_all = next_hop.from_client || !(hides || hides_call_id);
        if shows_all || self.table.is_inside(next_hop.to.ip()) {
            return Ok(());
        }
        let call_id = (next_hop.began_inside && hides_call_id).then(|| {
            let signer = routes.dialog.map_or(self.signer, |dialog| dialog.signer);
            self.table.keys_of(signer)
        });
        if !hides {
            return topology::hide_call_id(self.table, self.bytes, self.message, call_id, edits)
                .map_err(|_| Refusal::TOO_MUCH_TO_HIDE);
        }
        let from = rewrite.leaves_from;
        hidden.clear();
        topology::hide_request(self, from, stamp, call_id, hidden, edits)
            .map_err(|_| Refusal::TOO_MUCH_TO_HIDE)?;
        rewrite.hidden = Some(hidden);
        Ok(())
    }

    /// Writes the edits. False when there is no room for them.
    ///
    /// # Errors
    /// A refusal, when a registration cannot be made one that leads back.
    fn forward(
        &self,
        transaction: TransactionId,
        stamp: &Stamp,
        next_hop: &NextHop,
        mut rewrite: Rewrite<'_>,
        mut nat: Option<&mut Examined<'_>>,
        edits: &mut Edits,
    ) -> Result<bool, Refusal> {
        let outside_dialog = self.message.to_tag().is_none();
        if outside_dialog && self.method.creates_dialog() {
            rewrite.record_route = Some(next_hop.flow(stamp.target));
        }
        if self.method == Method::Register && next_hop.from_client {
            self.register(stamp, next_hop, &mut rewrite, nat.as_deref_mut(), edits)?;
        }
        let here = self.listener.address;
        let announced = announce(self.table, self.source, here, next_hop.to, edits);
        let mended = match nat {
            Some(nat) => nat.fix(self.keys(), next_hop.to, edits),
            None => Ok(()),
        };
        let edited = announced
            .and(mended)
            .and_then(|()| rewrite.request(transaction, stamp, edits));
        Ok(edited.is_ok())
    }

    /// Makes a registration one that leads back to the client, as its pool wants it.
    fn register(
        &self,
        stamp: &Stamp,
        next_hop: &NextHop,
        rewrite: &mut Rewrite<'_>,
        nat: Option<&mut Examined<'_>>,
        edits: &mut Edits,
    ) -> Result<(), Refusal> {
        let registration = next_hop.backend.map_or(Registration::Off, |backend| {
            self.table.registration(backend)
        });
        match registration {
            Registration::Off => {}
            Registration::Path { supported_path } => {
                rewrite.path = Some(FlowToken {
                    kind: FlowKind::Registration,
                    ..next_hop.flow(stamp.target)
                });
                rewrite.path_is_outbound = registration::wants_outbound(self);
                rewrite.supported_path = supported_path && !registration::supports_path(self);
            }
            Registration::Contact => {
                registration::replace_contacts(self, stamp.target, edits)
                    .map_err(|_| Refusal::CONTACT)?;
            }
        }
        if let Some(nat) = nat {
            rewrite.natted = nat.limits_expiry();
            if registration == Registration::Contact {
                nat.keep_contacts();
            }
        }
        Ok(())
    }

    /// Answers with the refusal, unless the request is an ACK.
    fn refuse(
        &self,
        transaction: TransactionId,
        stamp: &Stamp,
        refusal: Refusal,
        reply: &mut Vec<u8>,
    ) -> Verdict {
        let Some(status) = refusal.status else {
            return Verdict::without_sending(refusal.outcome);
        };
        if self.method == Method::Ack {
            return Verdict::without_sending(match refusal.outcome {
                _ if self.message.fault.is_some() => Outcome::MalformedAck,
                Outcome::InvalidRequest => Outcome::InvalidAck,
                _ => Outcome::AckNotRouted,
            });
        }
        let to_tag = self.keys().to_tag(transaction);
        reply::write(self, status, stamp, &to_tag, reply);
        Verdict {
            outcome: refusal.outcome,
            action: Action::Reply { to: stamp.target },
            nat: nat::Decision::default(),
        }
    }

    pub fn transaction(&self, via: &Via) -> TransactionParts<'_> {
        transaction_parts(self.bytes, self.message, self.uri, via)
    }
}
