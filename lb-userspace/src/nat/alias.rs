//! The parameter that [`Fix::ContactAlias`](super::Fix::ContactAlias) adds to a Contact, found again in a Request-URI.

use crate::sip::{Span, Uri, find_uri_parameter};

/// Before the flow token in a Contact.
pub(super) const ALIAS: &[u8] = b";lba=";
/// Name of the parameter.
const NAME: &[u8] = b"lba";

/// An alias in a URI. Whether it is ours is for the flow token's MAC to say.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Alias {
    /// The whole parameter with its semicolon.
    pub parameter: Span,
    /// The flow token.
    pub token: Span,
}

impl Alias {
    /// The first alias of the URI at `uri`: ours goes right behind host and port, before anything that a client may have
    /// put there itself.
    pub fn find(bytes: &[u8], uri: Span) -> Option<Self> {
        let start = Uri::parse(bytes, uri)?.host_port_end;
        let found = find_uri_parameter(bytes, start, uri.end(), NAME)?;
        Some(Self {
            parameter: found.whole,
            token: found.value,
        })
    }
}
