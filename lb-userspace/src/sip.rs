//! SIP messages: bytes in, facts out (RFC 3261).
//!
//! [`read`] scans a datagram once, forward, over borrowed bytes and without allocation, and notes the place of what
//! routing needs. What is wrong with a message is noted as a [`Fault`] and the scan goes on, so that a refusal can
//! still be addressed. Nothing here decides what becomes of a message; `forward` does.

mod block;
mod call_id;
mod chars;
mod fault;
mod headers;
mod message;
mod method;
mod name_addr;
mod sdp;
mod span;
mod start_line;
mod uri;
mod uri_parameters;
mod via;

pub use call_id::find_call_id;
pub use fault::Fault;
pub use headers::{HeaderField, Lines, MAX_HEADER_FIELDS, Name};
pub use message::{
    MAX_CONTACT_FIELDS, MAX_FORWARDS_DIGITS, MAX_ROUTE_FIELDS, MaxForwards, Message, NotSip, read,
    read_into,
};
pub use method::Method;
pub use name_addr::NameAddr;
pub use sdp::{MAX_BODY_PARTS, MAX_SDP_ADDRESSES, MAX_SDP_LINES, Sdp, SdpAddress, SdpLine};
pub use span::Span;
pub use start_line::StartLine;
pub use uri::Uri;
pub use via::{Parameter, Via};

pub(crate) use chars::{
    find_either, is_token, parse_ip, parse_number, skip_lws, skip_quoted, skip_while,
};
pub(crate) use headers::fields_named;
pub(crate) use uri_parameters::find_uri_parameter;
