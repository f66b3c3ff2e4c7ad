//! Requests of backends and trusted networks that no flow token leads: to where Route or Request-URI say (RFC 3261 §16.6,
//! RFC 3263), from the VIP.

use std::net::{IpAddr, SocketAddr};

use super::{
    ListenerIndex, Outcome, Scratch,
    next_hop::{FarEnd, NextHop, UriChange},
    own_contact::OwnContact,
    own_routes::OwnRoutes,
    refusal::Refusal,
    request::{Request, Way},
};
use crate::{
    names::{Answer, Lookup, OwnedQuestion, Question},
    nat::Alias,
    sip::{Fault, Method, Span, Uri, find_uri_parameter, parse_ip},
    token::{ContactOf, TransactionId},
};

/// Where a URI leads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Target<'a> {
    Address(SocketAddr),
    Name {
        host: &'a [u8],
        port: Option<u16>,
        /// The URI says `transport=udp`.
        transport_given: bool,
    },
}

impl<'a> Request<'a> {
    /// Where a request goes that comes from inside.
    ///
    /// An alias or a Contact of ours in the Request-URI leads to its client. What else is for us has no way out: a backend
    /// would get it back; what a trusted host sends us is distributed.
    pub fn way_out(&self, routes: &OwnRoutes) -> Result<Way<'a>, Refusal> {
        let leaves_from = routes.listener.unwrap_or(self.listener_index);
        let uri = match routes.foreign {
            Some(route) => route,
            None => {
                if let Some(client) = self.client_of_request_uri(leaves_from)? {
                    return Ok(Way::Led(client));
                }
                let uri = Uri::parse(self.bytes, self.uri);
                let is_own = uri.is_some_and(|uri| self.table.is_own(self.bytes, &uri));
                if is_own && !self.table.is_backend(self.source.ip()) {
                    return Ok(Way::ToPool);
                }
                if is_own {
                    return Err(Refusal::FROM_BACKEND);
                }
                self.uri
            }
        };
        Ok(match self.target(uri)? {
            Target::Address(to) => Way::Led(self.to_outside(to, leaves_from)?),
            target @ Target::Name { .. } => Way::Named(target, leaves_from),
        })
    }

    /// The client whose Contact the Request-URI is, when we have put an alias or a Contact of our own there.
    fn client_of_request_uri(&self, from: ListenerIndex) -> Result<Option<NextHop>, Refusal> {
        let began_inside = self.message.to_tag().is_none();
        let contact = OwnContact::find(self.table, self.bytes, self.uri, ContactOf::Client);
        if let Some(contact) = contact {
            let token = contact.read(self.table, self.bytes);
            let client = token.ok_or(Refusal::BAD_TOKEN)?.address;
            return Ok(Some(NextHop {
                // The pinhole was punched to the listener that our Contact names.
                from: contact.listener,
                request_uri: UriChange::Restore(contact),
                // The Contact in a registration is nobody's in a dialog: an ACK to it is that of the INVITE that was refused.
                began_inside: began_inside || self.method == Method::Ack,
                ..self.to_client(client, self.source, from)
            }));
        }
        let Some(alias) = Alias::find(self.bytes, self.uri) else {
            return Ok(None);
        };
        let token = self.table.read_flow_token(alias.token.of(self.bytes));
        let client = token.ok_or(Refusal::BAD_TOKEN)?.client;
        Ok(Some(NextHop {
            began_inside,
            ..self.to_client(client, self.source, from)
        }))
    }

    /// What a URI says about where a request to it goes, as far as UDP goes.
    fn target(&self, uri: Span) -> Result<Target<'a>, Refusal> {
        let bytes = self.bytes;
        let Some(read) = Uri::parse(bytes, uri) else {
            let scheme = uri.of(bytes).get(..4).unwrap_or_default();
            return Err(match scheme.eq_ignore_ascii_case(b"sip:") {
                true => Refusal::of_fault(Fault::RequestUri),
                false => Refusal::URI_SCHEME,
            });
        };
        // RFC 5630: nothing but TLS will do.
        if read.secure {
            return Err(Refusal::URI_SCHEME);
        }
        let parameter = |name| {
            let found = find_uri_parameter(bytes, read.host_port_end, uri.end(), name)?;
            Some(found.value.of(bytes)).filter(|value| !value.is_empty())
        };
        let transport = parameter(b"transport");
        if transport.is_some_and(|transport| !transport.eq_ignore_ascii_case(b"udp")) {
            return Err(Refusal::TRANSPORT);
        }
        let host = parameter(b"maddr").unwrap_or(read.host.of(bytes));
        Ok(match parse_ip(host) {
            Some(address) => Target::Address(SocketAddr::new(address, read.effective_port())),
            None => Target::Name {
                host,
                port: read.port,
                transport_given: transport.is_some(),
            },
        })
    }

    /// The address that a name stands for this time.
    ///
    /// # Errors
    /// A refusal; that the request has to wait is one of them, with the question in `scratch`.
    pub fn resolve(
        &self,
        target: Target<'_>,
        from: ListenerIndex,
        transaction: TransactionId,
        scratch: &mut Scratch,
    ) -> Result<SocketAddr, Refusal> {
        let (host, port, transport_given) = match target {
            Target::Address(address) => return Ok(address),
            Target::Name {
                host,
                port,
                transport_given,
            } => (host, port, transport_given),
        };
        let leaves_from = self.table.listeners.get(usize::from(from.0));
        let question = Question {
            host,
            port,
            transport_given,
            ipv6: leaves_from.is_some_and(|listener| listener.address.is_ipv6()),
        };
        let now_ns = scratch.now_ns;
        let targets = match scratch.names.look_up(&question, now_ns) {
            Lookup::Unknown => {
                scratch.question = OwnedQuestion::new(&question);
                return Err(Refusal::AWAITS_NAME);
            }
            Lookup::Known { answer, refresh } => {
                if refresh {
                    scratch.question = OwnedQuestion::new(&question);
                }
                match answer {
                    Answer::Targets(targets) => targets,
                    Answer::NotFound => return Err(Refusal::NAME_NOT_FOUND),
                    Answer::Failed => return Err(Refusal::NAME_NOT_RESOLVED),
                }
            }
        };
        let follows = matches!(self.method, Method::Ack | Method::Cancel);
        let to = scratch
            .memory
            .attempt(targets, transaction, follows, now_ns);
        to.ok_or(Refusal::NAME_NOT_FOUND)
    }

    /// To an address outside, unless nothing may be sent there.
    pub fn to_outside(&self, to: SocketAddr, from: ListenerIndex) -> Result<NextHop, Refusal> {
        let leaves_from = self.table.listeners.get(usize::from(from.0));
        let leaves_from = leaves_from.map_or(self.listener.address, |listener| listener.address);
        if to.is_ipv4() != leaves_from.is_ipv4() {
            return Err(Refusal::OTHER_FAMILY);
        }
        if self.table.is_listener(to) || !is_sent_to(to, leaves_from.ip()) {
            return Err(Refusal::NEXT_HOP);
        }
        Ok(NextHop {
            outcome: Outcome::RequestOutbound,
            to,
            from,
            backend: self.table.backend_at(to),
            far_end: FarEnd::Called,
            flow_backend: self.source,
            request_uri: UriChange::None,
            from_client: false,
            began_inside: true,
        })
    }
}

/// True for what a host on a network can have: nobody talks us into sending to ourselves or to everybody.
fn is_sent_to(to: SocketAddr, from: IpAddr) -> bool {
    let is_host = match to.ip() {
        IpAddr::V4(address) => {
            !(address.is_unspecified() || address.is_multicast() || address.is_broadcast())
                && address.octets()[0] != 0
        }
        IpAddr::V6(address) => {
            !(address.is_unspecified() || address.is_multicast() || address.is_unicast_link_local())
        }
    };
    // A VIP on loopback is one for trying things out.
    is_host && to.port() != 0 && (!to.ip().is_loopback() || from.is_loopback())
}
