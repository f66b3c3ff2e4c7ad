//! Route values that are ours: taken off, and where their flow tokens lead (RFC 3261 §16.4).

use std::net::SocketAddr;

use super::{ListenerIndex, Table, topology::ROUTES_NAME};
use crate::{
    sip::{MAX_ROUTE_FIELDS, Message, NameAddr, Span, Uri, find_uri_parameter},
    token::{FlowKind, FlowToken, Signer},
};

/// Most Route values of ours that are taken off one request; further ones stay and are for who gets it next.
const MAX_OWN_ROUTES: usize = 8;

/// What the Route header fields say.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct OwnRoutes {
    /// Bytes to take out, ascending; one piece a header field at the most. None is left out: without the first there is
    /// no other.
    pub removals: [Option<Span>; MAX_ROUTE_FIELDS],
    /// Where the tokens lead.
    pub lead: Option<Lead>,
    /// The listener that the last one names which was taken.
    pub listener: Option<ListenerIndex>,
    /// The URI of the Route value that is left on top, when that is not ours.
    pub foreign: Option<Span>,
    /// What the first one has in it of the Record-Routes of the inside.
    pub hidden: Option<Span>,
    /// How the dialog began, when the token that leads is one of a dialog.
    pub dialog: Option<Beginning>,
}

/// How a dialog began.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Beginning {
    /// The secret.
    pub signer: Signer,
    /// The inside was hidden, with the Call-ID if it needed that: it stays so.
    pub is_hidden: bool,
}

/// Where a valid flow token leads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Lead {
    /// From a backend to the token's client.
    ToClient(FlowToken),
    /// To the token's backend.
    ToBackend(FlowToken),
    /// To the backend of the first token and, since the second one is ours as well, as if it had come back from there:
    /// to the client of the second.
    Across(FlowToken, FlowToken),
    /// From a backend, in a dialog with somebody who needs no flow: Route and Request-URI lead it on.
    Outside,
}

/// Why Route values cannot be followed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum RouteError {
    /// The top Route, or the one after ours, cannot be read.
    Malformed,
    /// It is ours, and its user part is no flow token of ours or leads back to us.
    BadToken,
}

impl OwnRoutes {
    /// Takes our Route values from the top, as far as they are for us.
    ///
    /// A value of ours without user part, as clients with a configured outbound proxy send it, is taken off and leads
    /// nowhere. A second token counts only in a dialog (To tag): outside of one, what becomes of a request that has
    /// reached a backend is for the backend to say.
    #[inline]
    pub fn take(
        &mut self,
        table: &Table,
        bytes: &[u8],
        message: &Message,
        source: SocketAddr,
    ) -> Result<(), RouteError> {
        match message.routes[0] {
            Some(_) => self.take_some(table, bytes, message, source),
            None => Ok(()),
        }
    }

    #[inline(never)]
    fn take_some(
        &mut self,
        table: &Table,
        bytes: &[u8],
        message: &Message,
        source: SocketAddr,
    ) -> Result<(), RouteError> {
        let in_dialog = message.to_tag().is_some();
        let mut taken = 0;
        for (index, field) in message.routes.iter().flatten().enumerate() {
            let mut position = field.value.start();
            let mut rest = Some(position);
            while let Some(start) = rest {
                let span = Span::new(start, field.value.end());
                let value = NameAddr::parse(bytes, span).ok_or(RouteError::Malformed)?;
                position = start;
                let own = Uri::parse(bytes, value.uri)
                    .and_then(|uri| Some((uri, table.own_listener(bytes, &uri)?)));
                match own {
                    Some((uri, listener))
                        if taken < MAX_OWN_ROUTES && !self.is_final(in_dialog) =>
                    {
                        self.follow(table, bytes, source, uri)?;
                        self.listener = Some(listener);
                        let (start, end) = (uri.host_port_end, value.uri.end());
                        if self.hidden.is_none() && start < end {
                            let hidden = find_uri_parameter(bytes, start, end, ROUTES_NAME);
                            self.hidden = hidden.map(|hidden| hidden.value);
                        }
                        taken += 1;
                    }
                    own => {
                        self.foreign = own.is_none().then_some(value.uri);
                        break;
                    }
                }
                rest = value.next;
            }
            let removed = match rest {
                // All values are taken: so is the header field.
                None => field.line,
                Some(_) => Span::new(field.value.start(), position),
            };
            if !removed.is_empty() {
                self.removals[index] = Some(removed);
            }
            if rest.is_some() {
                break;
            }
        }
        Ok(())
    }

    /// True when no further value may be taken.
    fn is_final(&self, in_dialog: bool) -> bool {
        match self.lead {
            None => false,
            Some(Lead::ToBackend(_)) => !in_dialog,
            Some(Lead::ToClient(_) | Lead::Across(..) | Lead::Outside) => true,
        }
    }

    fn follow(
        &mut self,
        table: &Table,
        bytes: &[u8],
        source: SocketAddr,
        uri: Uri,
    ) -> Result<(), RouteError> {
        let Some(user) = uri.user.filter(|user| !user.is_empty()) else {
            return Ok(());
        };
        let (token, signer) = table
            .read_signed_flow_token(user.of(bytes))
            .ok_or(RouteError::BadToken)?;
        self.dialog = (token.kind != FlowKind::Registration).then(|| Beginning {
            signer,
            is_hidden: FlowToken::is_sealed(user.of(bytes)),
        });
        self.lead = Some(match self.lead {
            Some(Lead::ToBackend(first)) => Lead::Across(first, token),
            _ if comes_from_backend(table, source, &token) => match token.kind {
                // Who is none of the inside any more reaches whom it called, and nobody else.
                FlowKind::Outbound if table.is_inside(source.ip()) => Lead::Outside,
                _ => Lead::ToClient(token),
            },
            _ => Lead::ToBackend(token),
        });
        Ok(())
    }
}

/// Which side of the token a request comes from. The exact ends decide first: a client may live at a backend's address
/// and a backend may have been taken out of the pools while its calls go on.
fn comes_from_backend(table: &Table, source: SocketAddr, token: &FlowToken) -> bool {
    source == token.backend || (source != token.client && table.is_inside(source.ip()))
}
