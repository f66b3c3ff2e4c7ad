//! The edits of a request that is forwarded.

use super::{
    Edits, EditsFull, Listener,
    client_address::Told,
    listener::{PATH, RECORD_ROUTE, VIA_MAC},
    next_hop::{NextHop, UriChange},
    own_routes::OwnRoutes,
    registration::NATTED,
    request::Request,
    stamp::Stamp,
    text::Text,
    topology::{HiddenRequest, ROUTES, VIAS, call_id_mark, reveal_call_id},
};
use crate::{
    sip::{MaxForwards, Span},
    token::{
        FLOW_TOKEN_MAX, FlowToken, HEX_LEN, HIDDEN_MAX, Hidden, HiddenText, Signer, TransactionId,
    },
    validate::{Findings, MARK, Reason},
};

/// What changes in a request besides Max-Forwards and what the client's Via says about its source.
pub(super) struct Rewrite<'a> {
    request: &'a Request<'a>,
    /// The listener that the request leaves from.
    pub leaves_from: &'a Listener,
    request_uri: &'a UriChange,
    /// Route values of ours among them, which are taken out.
    routes: &'a OwnRoutes,
    /// What validation has to say to the backend, and what was said in its name.
    findings: &'a Findings,
    /// What the backend is told of the client's address, and what was said in our name.
    told: &'a Told<'a>,
    /// The ends of a dialog that the request may create; `None` for no Record-Route.
    pub record_route: Option<FlowToken>,
    /// The ends of a registration; `None` for no Path.
    pub path: Option<FlowToken>,
    /// The Path says that we keep the flow open.
    pub path_is_outbound: bool,
    /// The registrar is told that the client supports a Path.
    pub supported_path: bool,
    /// The client is behind a NAT, which the response to its REGISTER should know.
    pub natted: bool,
    /// It goes to the inside, which gets back what was hidden from the outside.
    pub reveals: bool,
    /// What is hidden from the outside, and goes along in our Via and Record-Route.
    pub hidden: Option<&'a HiddenRequest>,
}

impl<'a> Rewrite<'a> {
    /// Without Record-Route and Path.
    pub fn new(
        request: &'a Request<'a>,
        next_hop: &'a NextHop,
        routes: &'a OwnRoutes,
        findings: &'a Findings,
        told: &'a Told<'a>,
    ) -> Self {
        let listeners = &request.table.listeners;
        Self {
            request,
            leaves_from: listeners
                .get(usize::from(next_hop.from.0))
                .unwrap_or(request.listener),
            request_uri: &next_hop.request_uri,
            routes,
            findings,
            told,
            record_route: None,
            path: None,
            path_is_outbound: false,
            supported_path: false,
            natted: false,
            reveals: false,
            hidden: None,
        }
    }

    /// Pieces to take out.
    fn removals(&self) -> impl Iterator<Item = Span> {
        let (routes, marks) = (&self.routes.removals, &self.findings.marks);
        let forged = &self.told.forged;
        // Mostly there are none, which the first ones say.
        let any = routes[0].is_some() || marks[0].is_some() || forged[0].is_some();
        any.then(|| routes.iter().chain(marks).chain(forged).flatten().copied())
            .into_iter()
            .flatten()
    }

    /// Writes all edits of a request (RFC 3261 §16.6).
    ///
    /// Via, Record-Route and a Max-Forwards that was missing go right behind the start line: there they are on top for
    /// certain, whatever the order of the header fields. So do the finding of validation and the client's address. Together the edits have an even
    /// length, so that what follows them keeps its place in the 16-bit sums: each inserted field is even by itself, and
    /// what is odd about the rest (addresses in the client's Via, a Route value taken out) gets a pad in the client's Via
    /// when that changes anyway, and else a blank before the number of Max-Forwards.
    pub fn request(
        &self,
        transaction: TransactionId,
        stamp: &Stamp,
        edits: &mut Edits,
    ) -> Result<(), EditsFull> {
        let message = self.request.message;
        self.change_request_uri(edits)?;
        let hidden_call_id = match self.reveals {
            true => reveal_call_id(self.request.table, self.request.bytes, message, edits)?,
            false => None,
        };
        let inner_routes = self.inner_routes();
        let route_len = inner_routes.as_ref().map_or(0, |routes| {
            ROUTE.len() + routes.as_slice().len() + b"\r\n".len()
        });
        // Hidden Vias have been stamped before.
        let stamps = self.hidden.is_none();
        // What is in the edits already changes Contact, SDP and the like.
        let mut odd = edits.is_odd()
            ^ (stamps && stamp.is_odd())
            ^ (message.leading % 2 == 1)
            ^ (route_len % 2 == 1);
        for removal in self.removals() {
            odd ^= removal.len() % 2 == 1;
        }
        let pads = stamps && odd && stamp.takes_pad();
        let blank: &[u8] = if odd && !pads { b" " } else { b"" };

        if message.leading > 0 {
            edits.push(0, message.leading, b"")?;
        }
        edits.push(message.headers, 0, b"")?;
        self.put_via(transaction, stamp, hidden_call_id, edits)?;
        if let Some(flow) = &self.record_route {
            let end = &self.leaves_from.template.record_route_end;
            let inner = self.hidden.map(|hidden| &hidden.routes);
            let inner = inner.filter(|routes| !routes.is_empty());
            self.put_route(RECORD_ROUTE, flow, end, inner, edits)?;
        }
        if let Some(routes) = &inner_routes {
            edits.append(ROUTE)?;
            edits.append(routes.as_slice())?;
            edits.append(b"\r\n")?;
        }
        if let Some(flow) = &self.path {
            let template = &self.leaves_from.template;
            let end = match self.path_is_outbound {
                true => &template.outbound_path_end,
                false => &template.record_route_end,
            };
            self.put_route(PATH, flow, end, None, edits)?;
        }
        if self.supported_path {
            edits.append(SUPPORTED_PATH)?;
        }
        if let Some(reason) = self.findings.reason {
            put_mark(reason, edits)?;
        }
        self.told.put(self.request.source, edits)?;
        match message.max_forwards {
            Some(max_forwards) => {
                let mut hops = [0; MAX_DIGITS + 1];
                let text = one_less(self.request.bytes, max_forwards, blank, &mut hops);
                edits.push(max_forwards.digits.start(), max_forwards.digits.len(), text)?;
            }
            None => {
                // RFC 3261 §16.6 step 3: 70 when there was none.
                edits.append(b"Max-Forwards: ")?;
                edits.append(blank)?;
                edits.append(b"70\r\n")?;
            }
        }
        if stamps {
            stamp.put(pads, edits)?;
        }
        for removal in self.removals() {
            edits.push(removal.start(), removal.len(), b"")?;
        }
        edits.finish()
    }

    /// Our Via: transaction id in the branch, and the MAC that lets a response pass to `stamp.target` only.
    fn put_via(
        &self,
        transaction: TransactionId,
        stamp: &Stamp,
        hidden_call_id: Option<Signer>,
        edits: &mut Edits,
    ) -> Result<(), EditsFull> {
        let keys = self.request.keys();
        let mac = keys.via_mac(transaction, stamp.target);
        let transaction = transaction.to_text();
        let template = &self.leaves_from.template;
        let natted = if self.natted { NATTED } else { b"" };
        let via_end = match (self.hidden, hidden_call_id) {
            (None, None) => template.via_end,
            _ => b"",
        };
        edits.write::<{ VIA_ROOM }>(|room| {
            let mut len = template.via.write(room);
            for part in [&transaction[..], VIA_MAC, &mac, natted, via_end] {
                room[len..len + part.len()].copy_from_slice(part);
                len += part.len();
            }
            len
        })?;
        if let Some(signer) = hidden_call_id {
            edits.append(call_id_mark(signer, self.request.signer))?;
        }
        if let Some(hidden) = self.hidden {
            edits.append(VIAS)?;
            edits
                .write::<HIDDEN_MAX>(|room| keys.write_hidden(Hidden::Vias, &hidden.vias, room))?;
        }
        match via_end {
            b"" => edits.append(template.via_end),
            _ => Ok(()),
        }
    }

    /// The Routes that the inside wants to see, which its Record-Routes became.
    fn inner_routes(&self) -> Option<HiddenText> {
        let hidden = self.routes.hidden.filter(|_| self.reveals)?;
        let Request { table, bytes, .. } = self.request;
        table.keys.read_hidden(Hidden::Routes, hidden.of(bytes))
    }

    /// A Record-Route or Path. `inner` are Record-Routes below it that the outside may not read.
    fn put_route(
        &self,
        name: &[u8],
        flow: &FlowToken,
        end: &Text<72>,
        inner: Option<&HiddenText>,
        edits: &mut Edits,
    ) -> Result<(), EditsFull> {
        let keys = self.request.keys();
        edits.append(name)?;
        edits.write::<FLOW_TOKEN_MAX>(|room| keys.write_flow_token(flow, room))?;
        let Some(inner) = inner else {
            return edits.write::<72>(|room| end.write(room));
        };
        let end = end.as_slice();
        let (parameters, close) = end.split_at(end.len().saturating_sub(b">\r\n".len()));
        edits.append(parameters)?;
        edits.append(ROUTES)?;
        edits.write::<HIDDEN_MAX>(|room| keys.write_hidden(Hidden::Routes, inner, room))?;
        edits.append(close)
    }

    /// Takes an alias out, or gives the client back what it wrote.
    fn change_request_uri(&self, edits: &mut Edits) -> Result<(), EditsFull> {
        match *self.request_uri {
            UriChange::None => Ok(()),
            UriChange::Remove(alias) => edits.push(alias.start(), alias.len(), b""),
            UriChange::Restore(contact) => {
                let Request { table, bytes, .. } = self.request;
                let token = contact.read(table, bytes).ok_or(EditsFull)?;
                edits.push(contact.rest.start(), contact.rest.len(), token.rest())
            }
        }
    }
}

/// What routes of the inside begin with.
const ROUTE: &[u8] = b"Route: ";

/// Without it many registrars refuse a Path (RFC 3327 §5.3). The second blank makes it even.
const SUPPORTED_PATH: &[u8] = b"Supported:  path\r\n";

/// Most bytes of our Via.
const VIA_ROOM: usize = 96 + 2 * HEX_LEN + VIA_MAC.len() + NATTED.len() + 8;

/// Names the reason why the request is not well-formed, in an even number of bytes.
fn put_mark(reason: Reason, edits: &mut Edits) -> Result<(), EditsFull> {
    const END: &[u8] = b"\r\n";
    let name = reason.name().as_bytes();
    edits.append(MARK.as_bytes())?;
    let blanks = match (MARK.len() + name.len()) % 2 {
        0 => b": ".as_slice(),
        _ => b":  ",
    };
    edits.append(blanks)?;
    edits.append(name)?;
    edits.append(END)
}

/// As many digits as Max-Forwards may have.
const MAX_DIGITS: usize = crate::sip::MAX_FORWARDS_DIGITS;

/// The number less one in as many digits as before, after `blank`. The number is not 0.
fn one_less<'a>(
    bytes: &[u8],
    max_forwards: MaxForwards,
    blank: &[u8],
    text: &'a mut [u8; MAX_DIGITS + 1],
) -> &'a [u8] {
    let digits = max_forwards.digits.of(bytes);
    let len = blank.len() + digits.len();
    text[..blank.len()].copy_from_slice(blank);
    text[blank.len()..len].copy_from_slice(digits);
    for digit in text[blank.len()..len].iter_mut().rev() {
        if *digit > b'0' {
            *digit -= 1;
            break;
        }
        *digit = b'9';
    }
    &text[..len]
}
