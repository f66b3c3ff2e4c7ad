//! The Contacts of a message (RFC 3261 §20.10).

use super::{Facts, private::is_ipv6_local};
use crate::sip::{NameAddr, Span, Uri, parse_ip};

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
    /// True when the host is the source address; a name never is.
    pub is_source_address: bool,
    /// True when the host is a private address.
    pub is_private: bool,
    /// True when the host is a local IPv6 address.
    pub is_ipv6_local: bool,
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
    pub fn read(facts: &Facts<'_>) -> Self {
        let mut contacts = Self::default();
        let mut seen = 0;
        for field in facts.message.contacts.iter().flatten() {
            let mut next = Some(field.value.start());
            while let Some(start) = next {
                if seen == MAX_CONTACTS {
                    contacts.is_beyond_limits = true;
                    return contacts;
                }
                seen += 1;
                let span = Span::new(start, field.value.end());
                let Some(value) = NameAddr::parse(facts.bytes, span) else {
                    break;
                };
                if let Some(contact) = Contact::read(facts, &value) {
                    contacts.values[contacts.len] = contact;
                    contacts.len += 1;
                }
                next = value.next;
            }
        }
        contacts
    }

    pub fn as_slice(&self) -> &[Contact] {
        &self.values[..self.len]
    }
}

impl Contact {
    fn read(facts: &Facts<'_>, value: &NameAddr) -> Option<Self> {
        let uri = Uri::parse(facts.bytes, value.uri)?;
        let address = parse_ip(uri.host.of(facts.bytes)).map(|address| address.to_canonical());
        Some(Self {
            uri: value.uri,
            host_start: uri.host.start() as u16,
            host_port_end: host_port_end(facts.bytes, &uri) as u16,
            port: uri.effective_port(),
            is_bare: value.uri.start() == value.value.start(),
            is_source_address: address == Some(facts.source.ip()),
            is_private: address.is_some_and(|address| facts.private.contains(address)),
            is_ipv6_local: address.is_some_and(is_ipv6_local),
        })
    }
}

/// Offset after host and port.
pub(super) fn host_port_end(bytes: &[u8], uri: &Uri) -> usize {
    let host_end = uri.host.end();
    if uri.port.is_none() {
        return host_end;
    }
    let digits = bytes.get(host_end + 1..).unwrap_or_default();
    let length = digits.iter().position(|byte| !byte.is_ascii_digit());
    host_end + 1 + length.unwrap_or(digits.len())
}
