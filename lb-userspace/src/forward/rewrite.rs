//! The edits of a request that is forwarded.

use super::{
    Edits, EditsFull,
    request::Request,
    stamp::Stamp,
    table::{RECORD_ROUTE, VIA_MAC},
};
use crate::{
    sip::{MAX_ROUTE_FIELDS, MaxForwards, Span},
    token::{FLOW_TOKEN_MAX, FlowToken, HEX_LEN, TransactionId},
    validate::{Findings, MARK, Reason},
};

/// What changes in a request besides Max-Forwards and what the client's Via says about its source.
pub(super) struct Rewrite<'a> {
    pub request: &'a Request<'a>,
    /// Goes into our Via.
    pub transaction: TransactionId,
    /// Route values of ours, which are taken out.
    pub removals: [Option<Span>; MAX_ROUTE_FIELDS],
    /// What validation has to say to the backend, and what was said in its name.
    pub findings: Findings,
    /// The ends of a dialog that the request may create; `None` for no Record-Route.
    pub record_route: Option<FlowToken>,
}

/// Writes all edits of a request (RFC 3261 §16.6).
///
/// Via, Record-Route and a Max-Forwards that was missing go right behind the start line: there they are on top for
/// certain, whatever the order of the header fields. So does the finding of validation. Together the edits have an even length, so that what follows them
/// keeps its place in the 16-bit sums: each inserted field is even by itself, and what is odd about the rest (addresses
/// in the client's Via, a Route value taken out) gets a pad in the client's Via when that changes anyway, and else a
/// blank before the number of Max-Forwards.
pub(super) fn request(
    rewrite: &Rewrite<'_>,
    mut stamp: Stamp,
    edits: &mut Edits,
) -> Result<(), EditsFull> {
    let message = rewrite.request.message;
    let taken_out = || {
        let marks = rewrite.findings.marks.iter();
        rewrite.removals.iter().chain(marks).flatten()
    };
    // What is in the edits already changes Contact, SDP and the like.
    let mut odd = edits.is_odd() ^ stamp.is_odd() ^ (message.leading % 2 == 1);
    for removal in taken_out() {
        odd ^= removal.len() % 2 == 1;
    }
    let blank: &[u8] = if odd && !stamp.pad() { b" " } else { b"" };

    if message.leading > 0 {
        edits.push(0, message.leading, b"")?;
    }
    edits.push(message.headers, 0, b"")?;
    put_via(rewrite, &stamp, edits)?;
    if let Some(flow) = &rewrite.record_route {
        put_record_route(rewrite, flow, edits)?;
    }
    if let Some(reason) = rewrite.findings.reason {
        put_mark(reason, edits)?;
    }
    match message.max_forwards {
        Some(max_forwards) => {
            let mut hops = [0; MAX_DIGITS + 1];
            let text = one_less(rewrite.request.bytes, max_forwards, blank, &mut hops);
            edits.push(max_forwards.digits.start(), max_forwards.digits.len(), text)?;
        }
        None => {
            // RFC 3261 §16.6 step 3: 70 when there was none.
            edits.append(b"Max-Forwards: ")?;
            edits.append(blank)?;
            edits.append(b"70\r\n")?;
        }
    }
    for edit in stamp.edits() {
        edits.push(edit.offset, edit.removed, edit.text.as_slice())?;
    }
    for removal in taken_out() {
        edits.push(removal.start(), removal.len(), b"")?;
    }
    edits.finish()
}

/// Our Via: transaction id in the branch, and the MAC that lets a response pass to `stamp.target` only.
fn put_via(rewrite: &Rewrite<'_>, stamp: &Stamp, edits: &mut Edits) -> Result<(), EditsFull> {
    let Request {
        table, listener, ..
    } = rewrite.request;
    let mac = table.keys.via_mac(rewrite.transaction, stamp.target);
    let transaction = rewrite.transaction.to_text();
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

/// Most bytes of our Via.
const VIA_ROOM: usize = 96 + 2 * HEX_LEN + VIA_MAC.len() + 8;

fn put_record_route(
    rewrite: &Rewrite<'_>,
    flow: &FlowToken,
    edits: &mut Edits,
) -> Result<(), EditsFull> {
    let Request {
        table, listener, ..
    } = rewrite.request;
    edits.append(RECORD_ROUTE)?;
    edits.write::<FLOW_TOKEN_MAX>(|room| table.keys.write_flow_token(flow, room))?;
    edits.write::<72>(|room| listener.template.record_route_end.write(room))
}

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
