//! From the outside back to the inside.

use std::net::SocketAddr;

use memchr::memmem;

use super::{CALL_ID, CALL_ID_OF_OTHER, HIDDEN_CALL_ID, ROUTES, ROUTES_NAME, VIAS};
use crate::{
    forward::{Edits, EditsFull, Table, own_contact::values},
    sip::{Lines, Message, Span, Uri, Via, fields_named, find_uri_parameter},
    token::{Hidden, HiddenText, Signer},
};

/// The Vias that our Via has in it.
pub(in crate::forward) struct HiddenVias {
    text: HiddenText,
    /// Where the topmost of them leads.
    pub target: SocketAddr,
}

impl HiddenVias {
    /// Reads them; `None` when there are none, or they are not ours.
    pub fn read(table: &Table, bytes: &[u8], our_via: Span) -> Option<Self> {
        let value = our_via.of(bytes);
        let start = memmem::find(value, VIAS)? + VIAS.len();
        let rest = &value[start..];
        let end = rest.iter().position(|byte| !is_base64url(*byte));
        let token = &rest[..end.unwrap_or(rest.len())];
        let text = table.keys.read_hidden(Hidden::Vias, token)?;
        let target = {
            let bytes = text.as_slice();
            // It may be folded.
            let field = Lines::new(bytes, 0).flatten().next()?;
            let via = Via::parse(bytes, field.value)?;
            via.response_target(bytes)?
        };
        Some(Self { text, target })
    }

    /// The header fields, each with its line end.
    pub fn as_slice(&self) -> &[u8] {
        self.text.as_slice()
    }
}

fn is_base64url(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_')
}

/// What our Via says of a Call-ID that was hidden under the secret `of`, when it is signed with `via`.
pub(in crate::forward) fn call_id_mark(of: Signer, via: Signer) -> &'static [u8] {
    match of == via {
        true => CALL_ID,
        false => CALL_ID_OF_OTHER,
    }
}

/// The secret that the request's Call-ID was hidden under, when our Via, signed with `via`, says that it was.
pub(in crate::forward) fn hidden_call_id(
    bytes: &[u8],
    our_via: Span,
    via: Signer,
) -> Option<Signer> {
    let says = |mark| memmem::find(our_via.of(bytes), mark).is_some();
    match () {
        () if says(CALL_ID) => Some(via),
        () if says(CALL_ID_OF_OTHER) => Some(via.other()),
        () => None,
    }
}

/// Gives a response from the outside back what its request had: Record-Routes and Call-ID.
pub(in crate::forward) fn reveal_response(
    table: &Table,
    bytes: &[u8],
    message: &Message,
    edits: &mut Edits,
) -> Result<(), EditsFull> {
    reveal_call_id(table, bytes, message, edits)?;
    // Most have none.
    if memmem::find(bytes, ROUTES).is_none() {
        return Ok(());
    }
    const NAMES: [&[u8]; 1] = [b"Record-Route"];
    for field in fields_named(bytes, message.headers, &NAMES) {
        for value in values(bytes, field.value).flatten() {
            let Some(uri) = Uri::parse(bytes, value.uri).filter(|uri| table.is_own(bytes, uri))
            else {
                continue;
            };
            let (start, end) = (uri.host_port_end, value.uri.end());
            let Some(found) = find_uri_parameter(bytes, start, end, ROUTES_NAME) else {
                continue;
            };
            if let Some(routes) = table
                .keys
                .read_hidden(Hidden::Routes, found.value.of(bytes))
            {
                edits.push(found.whole.start(), found.whole.len(), b"")?;
                edits.push(value.value.end(), 0, b", ")?;
                edits.append(routes.as_slice())?;
            }
        }
    }
    Ok(())
}

/// Gives a message from the outside its Call-ID back, if it is a hidden one; the secret that it was hidden under.
pub(in crate::forward) fn reveal_call_id(
    table: &Table,
    bytes: &[u8],
    message: &Message,
    edits: &mut Edits,
) -> Result<Option<Signer>, EditsFull> {
    let Some(call_id) = message.call_id.map(|field| field.value) else {
        return Ok(None);
    };
    let hidden = call_id.of(bytes).strip_prefix(HIDDEN_CALL_ID);
    match hidden.and_then(|hidden| table.keys.read_signed_hidden(Hidden::CallId, hidden)) {
        Some((text, signer)) => {
            edits.push(call_id.start(), call_id.len(), text.as_slice())?;
            Ok(Some(signer))
        }
        None => Ok(None),
    }
}

impl Table {
    /// What the inside calls a call whose Call-ID was hidden from the outside; `None` when it was not.
    pub fn inner_call_id(&self, call_id: &[u8]) -> Option<HiddenText> {
        let hidden = call_id.strip_prefix(HIDDEN_CALL_ID)?;
        self.keys.read_hidden(Hidden::CallId, hidden)
    }
}
