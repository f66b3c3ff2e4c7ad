//! The edits of a request that is forwarded.

use super::{
    Edits, EditsFull,
    client_address::Told,
    own_routes::OwnRoutes,
    request::Request,
    stamp::Stamp,
    table::{RECORD_ROUTE, VIA_MAC},
};
use crate::{
    sip::{MaxForwards, Span},
    token::{FLOW_TOKEN_MAX, FlowToken, HEX_LEN, TransactionId},
    validate::{Findings, MARK, Reason},
};

/// What changes in a request besides Max-Forwards and what the client's Via says about its source.
pub(super) struct Rewrite<'a> {
    request: &'a Request<'a>,
    /// Route values of ours among them, which are taken out.
    routes: &'a OwnRoutes,
    /// What validation has to say to the backend, and what was said in its name.
    findings: &'a Findings,
    /// What the backend is told of the client's address, and what was said in our name.
    told: &'a Told<'a>,
    /// The ends of a dialog that the request may create; `None` for no Record-Route.
    pub record_route: Option<FlowToken>,
}

impl<'a> Rewrite<'a> {
    /// Without a Record-Route.
    pub fn new(
        request: &'a Request<'a>,
        routes: &'a OwnRoutes,
        findings: &'a Findings,
        told: &'a Told<'a>,
    ) -> Self {
        Self {
            request,
            routes,
            findings,
            told,
            record_route: None,
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
        mut stamp: Stamp,
        edits: &mut Edits,
    ) -> Result<(), EditsFull> {
        let message = self.request.message;
        // What is in the edits already changes Contact, SDP and the like.
        let mut odd = edits.is_odd() ^ stamp.is_odd() ^ (message.leading % 2 == 1);
        for removal in self.removals() {
            odd ^= removal.len() % 2 == 1;
        }
        let blank: &[u8] = if odd && !stamp.pad() { b" " } else { b"" };

        if message.leading > 0 {
            edits.push(0, message.leading, b"")?;
        }
        edits.push(message.headers, 0, b"")?;
        self.put_via(transaction, &stamp, edits)?;
        if let Some(flow) = &self.record_route {
            self.put_record_route(flow, edits)?;
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
        stamp.put(edits)?;
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
        edits: &mut Edits,
    ) -> Result<(), EditsFull> {
        let Request {
            table, listener, ..
        } = self.request;
        let mac = table.keys.via_mac(transaction, stamp.target);
        let transaction = transaction.to_text();
        let template = &listener.template;
        edits.write::<{ VIA_ROOM }>(|room| {
            let mut len = template.via.write(room);
            for part in [&transaction[..], VIA_MAC, &mac, template.via_end] {
                room[len..len + part.len()].copy_from_slice(part);
                len += part.len();
            }
            len
        })
    }

    fn put_record_route(&self, flow: &FlowToken, edits: &mut Edits) -> Result<(), EditsFull> {
        let Request {
            table, listener, ..
        } = self.request;
        edits.append(RECORD_ROUTE)?;
        edits.write::<FLOW_TOKEN_MAX>(|room| table.keys.write_flow_token(flow, room))?;
        edits.write::<72>(|room| listener.template.record_route_end.write(room))
    }
}

/// Most bytes of our Via.
const VIA_ROOM: usize = 96 + 2 * HEX_LEN + VIA_MAC.len() + 8;

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
