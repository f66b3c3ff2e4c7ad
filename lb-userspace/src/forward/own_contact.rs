//! URIs of ours in place of somebody's Contact: `<sip:USER@VIP:PORT;NAME=TOKEN>`.

use super::{Edits, EditsFull, Listener, ListenerIndex, Table};
use crate::{
    sip::{Lines, Message, Name, NameAddr, Span, Uri, find_uri_parameter},
    token::{CONTACT_TOKEN_MAX, ContactOf, ContactToken, Keys},
};

/// Most Contacts of one message that give way to ours, or come back.
pub(super) const MAX_CONTACTS: usize = 8;

impl ContactOf {
    /// The name of the URI parameter that has the token: one for registrars, one for the outside.
    fn parameter(self) -> &'static [u8] {
        match self {
            Self::Client => b"lbr",
            Self::Backend => b"lbi",
        }
    }
}

/// A URI that stands for somebody's Contact. Whether it is ours is for the token's MAC to say.
#[derive(Clone, Copy, Debug)]
pub(super) struct OwnContact {
    /// The listener that it names.
    pub listener: ListenerIndex,
    /// What stands behind the user part.
    pub rest: Span,
    /// The contact token.
    pub token: Span,
    of: ContactOf,
}

impl OwnContact {
    /// Looks at the URI at `uri`.
    #[inline]
    pub fn find(table: &Table, bytes: &[u8], uri: Span, of: ContactOf) -> Option<Self> {
        // Most have no parameters.
        memchr::memchr(b';', uri.of(bytes))?;
        Self::find_among_parameters(table, bytes, uri, of)
    }

    #[inline(never)]
    fn find_among_parameters(
        table: &Table,
        bytes: &[u8],
        uri: Span,
        of: ContactOf,
    ) -> Option<Self> {
        let read = Uri::parse(bytes, uri)?;
        let (start, end) = (read.host_port_end, uri.end());
        let token = find_uri_parameter(bytes, start, end, of.parameter())?;
        Some(Self {
            listener: table.own_listener(bytes, &read)?,
            rest: Span::new(read.host.start(), uri.end()),
            token: token.value,
            of,
        })
    }

    /// What the token says, when it is one of ours that does not lead back to us.
    pub fn read(&self, table: &Table, bytes: &[u8]) -> Option<ContactToken> {
        let token = table.keys.read_contact_token(self.token.of(bytes))?;
        (token.of == self.of && !table.is_listener(token.address)).then_some(token)
    }
}

/// Replaces the URI of a Contact behind its user part.
pub(super) fn replace(
    keys: &Keys,
    listener: &Listener,
    value: &NameAddr,
    rest: Span,
    token: &ContactToken,
    edits: &mut Edits,
) -> Result<(), EditsFull> {
    // Without brackets what follows the URI belongs to the header field.
    let is_bare = value.uri.start() == value.value.start();
    if is_bare {
        edits.push(value.uri.start(), 0, b"<")?;
    }
    let host_port = listener.template.host_port.as_slice();
    edits.push(rest.start(), rest.len(), host_port)?;
    for piece in [b";", token.of.parameter(), b"="] {
        edits.append(piece)?;
    }
    edits.write::<CONTACT_TOKEN_MAX>(|room| keys.write_contact_token(token, room))?;
    match is_bare {
        true => edits.append(b">"),
        false => Ok(()),
    }
}

/// The values of all Contact header fields. What cannot be read is an error, and ends its header field.
pub(super) fn contacts<'a>(
    bytes: &'a [u8],
    message: &Message,
) -> impl Iterator<Item = Result<NameAddr, Unreadable>> + 'a {
    contact_fields(bytes, message).flat_map(|field| values(bytes, field))
}

/// The values of all Contact header fields as they stand there.
pub(super) fn contact_fields<'a>(
    bytes: &'a [u8],
    message: &Message,
) -> impl Iterator<Item = Span> + 'a {
    let fields = Lines::new(bytes, message.headers).flatten();
    fields
        .filter(|field| field.name == Name::Contact)
        .map(|field| field.value)
}

/// A value that cannot be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Unreadable;

/// The values of a comma-joined list of name-addr, in order.
pub(super) fn values(
    bytes: &[u8],
    field: Span,
) -> impl Iterator<Item = Result<NameAddr, Unreadable>> {
    let mut next = Some(field.start());
    std::iter::from_fn(move || {
        let start = next.take()?;
        let value = NameAddr::parse(bytes, Span::new(start, field.end()));
        next = value.as_ref().and_then(|value| value.next);
        Some(value.ok_or(Unreadable))
    })
}
