//! Hiding the inside from the outside, and undoing it (`outbound.topology: hide`).
//!
//! Nothing is remembered: what the inside wrote goes along, encrypted, in what is ours, and any node puts it back.
//!
//! | from the inside | goes along in | comes back |
//! |---|---|---|
//! | Vias of a request | `lbvi` of our Via | in the response |
//! | Record-Routes of a request | `lbrr` of our Record-Route | in the response; as Routes in requests of the dialog |
//! | Record-Routes of a response | `lbrr` of our Record-Route | as Routes in requests of the dialog |
//! | Contacts | a Contact of ours with `lbi` | in the Request-URI of requests |
//! | Call-ID of what began inside, when an inner address is in it | itself | in all that comes back |
//!
//! Other header fields and `o=` of a session description keep what they say, but for addresses of the inside: those become
//! the VIP.

mod hide;
mod literals;
mod reveal;

pub(super) use hide::{HiddenRequest, hide_call_id, hide_request, hide_response};
pub(super) use reveal::{
    HiddenVias, call_id_mark, hidden_call_id, reveal_call_id, reveal_response,
};

/// The parameter of our Via that has the Vias below it. Of even length.
pub(super) const VIAS: &[u8] = b";lbvi=";
/// The parameter of our Record-Route that has those below it. Of even length.
pub(super) const ROUTES: &[u8] = b";lbrr=";
/// Name of that parameter.
pub(super) const ROUTES_NAME: &[u8] = b"lbrr";
/// The parameter of our Via that says that the request's Call-ID was a hidden one, under the secret that has signed this Via. Of
/// even length.
const CALL_ID: &[u8] = b";lbx";
/// The same under the other secret.
const CALL_ID_OF_OTHER: &[u8] = b";lby";
/// What a hidden Call-ID begins with.
const HIDDEN_CALL_ID: &[u8] = b"lbc.";
