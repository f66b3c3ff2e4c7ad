//! Registrations (RFC 3261 §10): what leads calls back to the phone, and how long the phone is told that it lasts.
//!
//! Towards the registrar a REGISTER gets a Path of ours (RFC 3327), or its Contacts give way to ours. Towards the phone the
//! response gets its own Contact back, and the expiry that its NAT allows.

use std::net::SocketAddr;

use memchr::memmem;

use super::{
    Edits, EditsFull, Table,
    own_contact::{self, MAX_CONTACTS, OwnContact, contact_fields, contacts},
    request::Request,
};
use crate::{
    sip::{Lines, Message, Name, NameAddr, Span, Uri, fields_named, parse_number},
    token::{ContactOf, ContactToken},
};

/// Most Contacts of one response whose expiry is looked at.
const MAX_GRANTED: usize = 24;
/// The parameter of our Via that says that the client of a REGISTER is behind a NAT. Of even length.
pub(super) const NATTED: &[u8] = b";lbn";

/// Contacts that cannot be replaced: unreadable, too many or too long.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct NotReplaceable;

/// Replaces every `sip:` Contact of a REGISTER by one of ours that leads to `client`; other schemes and `*` stay.
///
/// # Errors
/// When one cannot be replaced: to register half of them would lose calls without a word.
pub(super) fn replace_contacts(
    request: &Request<'_>,
    client: SocketAddr,
    edits: &mut Edits,
) -> Result<(), NotReplaceable> {
    let bytes = request.bytes;
    for (number, value) in contacts(bytes, request.message).enumerate() {
        let value = value.map_err(|_| NotReplaceable)?;
        if number >= MAX_CONTACTS {
            return Err(NotReplaceable);
        }
        let Some(uri) = Uri::parse(bytes, value.uri).filter(|uri| !uri.secure) else {
            continue;
        };
        let rest = Span::new(uri.host.start(), value.uri.end());
        let token = ContactToken::new(ContactOf::Client, client, rest.of(bytes));
        let token = token.ok_or(NotReplaceable)?;
        own_contact::replace(
            request.keys(),
            request.listener,
            &value,
            rest,
            &token,
            edits,
        )
        .map_err(|EditsFull| NotReplaceable)?;
    }
    Ok(())
}

/// True when the Path should say that we keep the flow open (RFC 5626 §5.1): the phone asks for it, and no other proxy
/// stands between it and us.
pub(super) fn wants_outbound(request: &Request<'_>) -> bool {
    let (bytes, message) = (request.bytes, request.message);
    let has_reg_id = contact_fields(bytes, message)
        .any(|field| memmem::find(field.of(bytes), b"reg-id=").is_some());
    let vias = Lines::new(bytes, message.headers).flatten();
    let mut vias = vias.filter(|field| field.name == Name::Via);
    has_reg_id && message.via.is_some_and(|via| via.next.is_none()) && vias.nth(1).is_none()
}

/// True when Supported has the option tag `path` (RFC 3327 §5.1).
pub(super) fn supports_path(request: &Request<'_>) -> bool {
    const NAMES: [&[u8]; 2] = [b"Supported", b"k"];
    let bytes = request.bytes;
    let mut fields = fields_named(bytes, request.message.headers, &NAMES);
    fields.any(|field| {
        let mut tags = field.value.of(bytes).split(|byte| *byte == b',');
        tags.any(|tag| tag.trim_ascii().eq_ignore_ascii_case(b"path"))
    })
}

/// What becomes of a response to a REGISTER on its way to who sent that, at `client`.
pub(super) struct Granted<'a> {
    pub table: &'a Table,
    pub bytes: &'a [u8],
    pub message: &'a Message,
    pub client: SocketAddr,
    /// Whose registration it is: a phone's, or one of a backend with somebody outside.
    pub of: ContactOf,
    /// Seconds that the phone may be told at the most.
    pub max_expires: Option<u32>,
}

impl Granted<'_> {
    /// Gives the client its own Contacts back, and tells it how long its registration lasts.
    ///
    /// Contacts of others stay as they are: through us they can be called.
    pub fn mend(&self, edits: &mut Edits) -> Result<(), EditsFull> {
        let mut granted = 0;
        let mut restored = 0;
        // Its own come first, should there be more than there is room for.
        for own in [true, false] {
            for value in contacts(self.bytes, self.message).flatten() {
                let contact = self.own_contact(&value);
                if contact.is_some() != own {
                    continue;
                }
                if let Some((rest, token)) = contact.filter(|_| restored < MAX_CONTACTS) {
                    edits.push(rest.start(), rest.len(), token.rest())?;
                    restored += 1;
                }
                if granted < MAX_GRANTED
                    && let Some(expires) = value.parameter(self.bytes, b"expires")
                {
                    granted += 1;
                    self.clamp(expires, edits)?;
                }
            }
        }
        if self.max_expires.is_some() {
            let names: [&[u8]; 1] = [b"Expires"];
            let expires = fields_named(self.bytes, self.message.headers, &names).next();
            if let Some(expires) = expires {
                self.clamp(expires.value, edits)?;
            }
        }
        Ok(())
    }

    /// The client's own Contact in place of which ours stands, with what stands behind the user part.
    fn own_contact(&self, value: &NameAddr) -> Option<(Span, ContactToken)> {
        let contact = OwnContact::find(self.table, self.bytes, value.uri, self.of)?;
        let token = contact.read(self.table, self.bytes)?;
        (token.address == self.client).then_some((contact.rest, token))
    }

    /// Lowers a number of seconds to what the phone may be told.
    fn clamp(&self, seconds: Span, edits: &mut Edits) -> Result<(), EditsFull> {
        let Some(most) = self.max_expires else {
            return Ok(());
        };
        let digits = seconds.of(self.bytes);
        let is_number = !digits.is_empty() && digits.iter().all(u8::is_ascii_digit);
        // Digits that make no number are of one that is too large for it.
        if !is_number || parse_number(digits, u32::MAX).is_some_and(|granted| granted <= most) {
            return Ok(());
        }
        let mut text = [0; 10];
        edits.push(seconds.start(), seconds.len(), decimal(most, &mut text))
    }
}

/// A response to a REGISTER whose client was found to be behind a NAT: our Via says so.
pub(super) fn is_natted(bytes: &[u8], our_via: Span) -> bool {
    memmem::find(our_via.of(bytes), NATTED).is_some()
}

fn decimal(mut number: u32, text: &mut [u8; 10]) -> &[u8] {
    let mut start = text.len();
    loop {
        start -= 1;
        text[start] = b'0' + (number % 10) as u8;
        number /= 10;
        if number == 0 {
            return &text[start..];
        }
    }
}
