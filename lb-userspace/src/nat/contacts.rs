//! The Contacts of a message (RFC 3261 §20.10).

use super::{
    Facts,
    addresses::{Addresses, Kind},
};
use crate::sip::{NameAddr, Span, Uri};

/// Most Contact values that are looked at, of all Contact header fields together.
pub const MAX_CONTACTS: usize = 8;

/// A Contact whose URI is `sip:` or `sips:`.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Contact {
    /// URI without angle brackets.
    pub uri: Span,
    /// Offset of the host.
    pub host_start: u16,
    /// Offset after host and port: where URI parameters begin.
    pub host_port_end: u16,
    /// Port, or the default of the scheme.
    pub port: u16,
    /// True without angle brackets: what follows the URI belongs to the header field.
    pub is_bare: bool,
    /// What the host is.
    pub kind: Kind,
}

/// The Contacts of a message, in order.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Contacts {
    values: [Contact; MAX_CONTACTS],
    len: usize,
    /// True when there are more than are looked at.
    pub is_beyond_limits: bool,
}

impl Contacts {
    /// Reads all values of all Contact header fields. `*`, other schemes and what cannot be read are left out; after a
    /// value that cannot be read the rest of its header field is as well.
    pub fn read(&mut self, facts: &Facts<'_>, addresses: &mut Addresses) {
        self.len = 0;
        self.is_beyond_limits = false;
        let mut seen = 0;
        for field in facts.message.contacts.iter().map_while(Option::as_ref) {
            let mut span = field.value;
            loop {
                if seen == MAX_CONTACTS {
                    self.is_beyond_limits = true;
                    return;
                }
                seen += 1;
                let Some((value, next)) = read_value(facts.bytes, span) else {
                    break;
                };
                if let Some((uri, text)) = value {
                    self.values[self.len] = Contact {
                        uri: text,
                        host_start: uri.host.start() as u16,
                        host_port_end: uri.host_port_end as u16,
                        port: uri.effective_port(),
                        is_bare: text.start() == span.start(),
                        kind: addresses.kind(facts, uri.host),
                    };
                    self.len += 1;
                }
                match next {
                    Some(next) => span = Span::new(next, field.value.end()),
                    None => break,
                }
            }
        }
    }

    /// What was found.
    pub fn as_slice(&self) -> &[Contact] {
        &self.values[..self.len]
    }
}

/// A URI and its text, when there is one of the schemes `sip:` and `sips:`, and the offset of the next value.
type Value = (Option<(Uri, Span)>, Option<usize>);

/// The first value in `span`, if it can be read.
#[inline(always)]
fn read_value(bytes: &[u8], span: Span) -> Option<Value> {
    let Some(usual) = Uri::parse_usual_in_brackets(bytes, span) else {
        return read_unusual_value(bytes, span);
    };
    let next = match usual.1.end() + 1 == span.end() {
        true => None,
        false => NameAddr::parse_after_uri(bytes, span, usual.1)?.next,
    };
    Some((Some(usual), next))
}

#[inline(never)]
fn read_unusual_value(bytes: &[u8], span: Span) -> Option<Value> {
    let value = NameAddr::parse(bytes, span)?;
    let uri = Uri::parse(bytes, value.uri);
    Some((uri.map(|uri| (uri, value.uri)), value.next))
}
