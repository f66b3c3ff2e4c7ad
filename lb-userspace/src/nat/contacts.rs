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
            let mut next = Some(field.value.start());
            while let Some(start) = next {
                if seen == MAX_CONTACTS {
                    self.is_beyond_limits = true;
                    return;
                }
                seen += 1;
                let span = Span::new(start, field.value.end());
                let read = match Uri::parse_usual_in_brackets(facts.bytes, span) {
                    Some((uri, text)) if text.end() + 1 == span.end() => {
                        self.add(facts, addresses, &uri, text, false);
                        break;
                    }
                    _ => self.read_unusual(facts, addresses, span),
                };
                match read {
                    Some(value) => next = value.next,
                    None => break,
                }
            }
        }
    }

    /// Reads a value that has parameters or is followed by another one, or is written in another way than most.
    #[inline(never)]
    fn read_unusual(
        &mut self,
        facts: &Facts<'_>,
        addresses: &mut Addresses,
        span: Span,
    ) -> Option<NameAddr> {
        let value = NameAddr::parse(facts.bytes, span)?;
        if let Some(uri) = Uri::parse(facts.bytes, value.uri) {
            let is_bare = value.uri.start() == value.value.start();
            self.add(facts, addresses, &uri, value.uri, is_bare);
        }
        Some(value)
    }

    #[inline(always)]
    fn add(
        &mut self,
        facts: &Facts<'_>,
        addresses: &mut Addresses,
        uri: &Uri,
        text: Span,
        is_bare: bool,
    ) {
        if let Some(place) = self.values.get_mut(self.len) {
            *place = Contact {
                uri: text,
                host_start: uri.host.start() as u16,
                host_port_end: uri.host_port_end as u16,
                port: uri.effective_port(),
                is_bare,
                kind: addresses.kind(facts, uri.host),
            };
            self.len += 1;
        }
    }

    /// What was found.
    pub fn as_slice(&self) -> &[Contact] {
        &self.values[..self.len]
    }
}
