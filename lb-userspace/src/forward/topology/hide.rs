//! From the inside to the outside.

use std::net::SocketAddr;

use super::literals;
use crate::{
    forward::{
        Edits, EditsFull, Listener, Table,
        own_contact::{self, MAX_CONTACTS, contact_fields, values},
        request::Request,
        response::cseq_method,
        stamp::Stamp,
    },
    nat,
    sip::{HeaderField, Lines, Message, Name, Span, StartLine, Uri, parse_ip},
    token::{ContactOf, ContactToken, HIDDEN_MAX, Hidden, HiddenText, Keys},
};

/// What goes along in header fields of ours.
#[derive(Debug)]
pub(in crate::forward) struct HiddenRequest {
    /// The Vias below ours, as header fields.
    pub vias: HiddenText,
    /// The Record-Routes below ours, in order, joined by commas.
    pub routes: HiddenText,
}

impl HiddenRequest {
    /// Nothing yet.
    pub const EMPTY: Self = Self {
        vias: HiddenText::EMPTY,
        routes: HiddenText::EMPTY,
    };

    /// Forgets all.
    pub fn clear(&mut self) {
        self.vias.clear();
        self.routes.clear();
    }
}

/// Takes out of a request what says where the inside is, and puts into `hidden` what has to come back. `stamp` is what
/// would have been written into its top Via; `call_id_keys` hide the Call-ID, when the inside made it.
pub(in crate::forward) fn hide_request(
    request: &Request<'_>,
    leaves_from: &Listener,
    stamp: &Stamp,
    call_id_keys: Option<&Keys>,
    hidden: &mut HiddenRequest,
    edits: &mut Edits,
) -> Result<(), EditsFull> {
    let (bytes, message) = (request.bytes, request.message);
    let veil = Veil {
        table: request.table,
        keys: request.keys(),
        call_id_keys,
        listener: leaves_from,
        bytes,
        message,
        inside: request.source,
    };
    for field in Lines::new(bytes, message.headers).flatten() {
        match kind(bytes, &field) {
            Kind::Via => {
                put_via(bytes, &field, stamp, &mut hidden.vias).ok_or(EditsFull)?;
                edits.push(field.line.start(), field.line.len(), b"")?;
            }
            Kind::RecordRoute => {
                let routes = &mut hidden.routes;
                if !routes.is_empty() {
                    routes.put(b", ").ok_or(EditsFull)?;
                }
                routes.put(field.value.of(bytes)).ok_or(EditsFull)?;
                edits.push(field.line.start(), field.line.len(), b"")?;
            }
            // It would lead the registrar around us.
            Kind::Path => edits.push(field.line.start(), field.line.len(), b"")?,
            Kind::CallId => veil.hide_call_id(edits)?,
            Kind::Text | Kind::End => veil.replace_addresses(field.value, edits)?,
            Kind::Contact | Kind::Kept => {}
        }
    }
    veil.hide_contacts(edits)?;
    veil.hide_origins(edits)
}

/// Takes out of a response what says where the inside is, which is at `inside`. `call_id_keys` hide the
/// Call-ID, when the request came with a hidden one.
pub(in crate::forward) fn hide_response(
    table: &Table,
    listener: &Listener,
    bytes: &[u8],
    message: &Message,
    inside: SocketAddr,
    call_id_keys: Option<&Keys>,
    edits: &mut Edits,
) -> Result<(), EditsFull> {
    let veil = Veil {
        table,
        keys: &table.keys,
        call_id_keys,
        listener,
        bytes,
        message,
        inside,
    };
    for field in Lines::new(bytes, message.headers).flatten() {
        match kind(bytes, &field) {
            Kind::Text | Kind::Path => veil.replace_addresses(field.value, edits)?,
            Kind::CallId => veil.hide_call_id(edits)?,
            // These are the client's own.
            Kind::Via | Kind::End => {}
            Kind::RecordRoute | Kind::Contact | Kind::Kept => {}
        }
    }
    veil.hide_record_routes(edits)?;
    veil.hide_origins(edits)?;
    // What a registrar lists are phones.
    match cseq_method(bytes, message) {
        Some(b"REGISTER") => Ok(()),
        _ => veil.hide_contacts(edits),
    }
}

/// What is done about a header field.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Via,
    RecordRoute,
    Path,
    Contact,
    CallId,
    /// From and To.
    End,
    /// Others that may say anything.
    Text,
    /// What cannot be changed, or is of the outside.
    Kept,
}

fn kind(bytes: &[u8], field: &HeaderField) -> Kind {
    match field.name {
        Name::Via => Kind::Via,
        Name::Contact => Kind::Contact,
        Name::CallId => Kind::CallId,
        Name::From | Name::To => Kind::End,
        Name::Route | Name::Cseq | Name::MaxForwards | Name::ProxyRequire => Kind::Kept,
        Name::ContentType | Name::ContentLength => Kind::Kept,
        Name::Other => {
            let line = field.line.of(bytes);
            let begins = |name: &[u8]| {
                line.get(..name.len())
                    .is_some_and(|start| start.eq_ignore_ascii_case(name))
            };
            let ends = |len: usize| matches!(line.get(len), Some(b':' | b' ' | b'\t'));
            let is = |name: &[u8]| begins(name) && ends(name.len());
            match () {
                () if is(b"Record-Route") => Kind::RecordRoute,
                () if is(b"Path") => Kind::Path,
                // A digest covers what it says.
                () if is(b"Authorization") || begins(b"Proxy-Auth") || begins(b"WWW-Auth") => {
                    Kind::Kept
                }
                () => Kind::Text,
            }
        }
    }
}

/// Adds a Via header field as it would have been sent.
fn put_via(bytes: &[u8], field: &HeaderField, stamp: &Stamp, vias: &mut HiddenText) -> Option<()> {
    let mut position = field.line.start();
    let inside = field.line.start()..=field.value.end();
    let edits = stamp.edits().iter();
    for edit in edits.filter(|edit| inside.contains(&edit.offset)) {
        vias.put(&bytes[position..edit.offset])?;
        for piece in stamp.text(edit) {
            vias.put(piece)?;
        }
        position = edit.offset + edit.removed;
    }
    vias.put(&bytes[position..field.value.end()])?;
    vias.put(b"\r\n")
}

/// Hides the Call-ID with these keys when an address of the inside is in it. Alone it is what a dialog needs that began when the inside
/// was hidden, on a node that does not hide it any more, or not yet.
pub(in crate::forward) fn hide_call_id(
    table: &Table,
    bytes: &[u8],
    message: &Message,
    keys: Option<&Keys>,
    edits: &mut Edits,
) -> Result<(), EditsFull> {
    let call_id = message.call_id.map(|field| field.value);
    let (Some(call_id), Some(keys)) = (call_id, keys) else {
        return Ok(());
    };
    if !literals::has_inside(table, bytes, call_id) {
        return Ok(());
    }
    let mut text = HiddenText::EMPTY;
    text.put(call_id.of(bytes)).ok_or(EditsFull)?;
    edits.push(call_id.start(), call_id.len(), super::HIDDEN_CALL_ID)?;
    edits.write::<HIDDEN_MAX>(|room| keys.write_hidden(Hidden::CallId, &text, room))
}

struct Veil<'a> {
    table: &'a Table,
    /// What is hidden is written with these.
    keys: &'a Keys,
    /// And the Call-ID with these: the same for all of a dialog. `None` for one of the outside, which stays.
    call_id_keys: Option<&'a Keys>,
    listener: &'a Listener,
    bytes: &'a [u8],
    message: &'a Message,
    /// Where who sent the message is reached.
    inside: SocketAddr,
}

impl Veil<'_> {
    fn replace_addresses(&self, text: Span, edits: &mut Edits) -> Result<(), EditsFull> {
        let by = self.listener.address.ip();
        literals::replace(self.table, self.bytes, text, by, edits)
    }

    fn hide_call_id(&self, edits: &mut Edits) -> Result<(), EditsFull> {
        hide_call_id(
            self.table,
            self.bytes,
            self.message,
            self.call_id_keys,
            edits,
        )
    }

    /// Contacts whose host is an address of the inside, or a name, which may be one of the inside as well; but for those of a
    /// redirection, which are of others.
    fn hide_contacts(&self, edits: &mut Edits) -> Result<(), EditsFull> {
        let redirects = matches!(
            self.message.start_line,
            StartLine::Response { status: 300..=399 }
        );
        let fields = contact_fields(self.bytes, self.message);
        let contacts = fields.flat_map(|field| values(self.bytes, field));
        let mut hidden = 0;
        for value in contacts {
            let value = value.map_err(|_| EditsFull)?;
            let Some(uri) = Uri::parse(self.bytes, value.uri) else {
                continue;
            };
            let is_inside = match parse_ip(uri.host.of(self.bytes)) {
                Some(address) => self.table.is_inside(address.to_canonical()),
                None => !redirects,
            };
            if !is_inside {
                continue;
            }
            hidden += 1;
            if hidden > MAX_CONTACTS {
                return Err(EditsFull);
            }
            let rest = Span::new(uri.host.start(), value.uri.end());
            let token = ContactToken::new(ContactOf::Backend, self.inside, rest.of(self.bytes));
            let token = token.ok_or(EditsFull)?;
            own_contact::replace(self.keys, self.listener, &value, rest, &token, edits)?;
        }
        Ok(())
    }

    /// `o=` of a session description names who wrote it, and nobody sends anything there. Where media go is for the servers
    /// to say.
    fn hide_origins(&self, edits: &mut Edits) -> Result<(), EditsFull> {
        let is_inside = |address| self.table.is_inside(address);
        let by = self.listener.address.ip();
        nat::set_origins(self.bytes, self.message, by, is_inside, edits)
    }

    /// The Record-Routes of a response from the top down to ours, which gets them; in the order in which requests from the
    /// outside will pass them. Without one of ours they lead nowhere and are taken out.
    fn hide_record_routes(&self, edits: &mut Edits) -> Result<(), EditsFull> {
        let (bytes, table) = (self.bytes, self.table);
        let mut inner = [Span::EMPTY; MAX_CONTACTS];
        let mut count = 0;
        for field in Lines::new(bytes, self.message.headers).flatten() {
            if kind(bytes, &field) != Kind::RecordRoute {
                continue;
            }
            let start = field.value.start();
            for value in values(bytes, field.value) {
                let value = value.map_err(|_| EditsFull)?;
                let uri = Uri::parse(bytes, value.uri);
                if uri.is_some_and(|uri| table.is_own(bytes, &uri)) {
                    let before = value.value.start() - start;
                    if before > 0 {
                        edits.push(start, before, b"")?;
                    }
                    return self.give_routes(&inner[..count], value.uri.end(), edits);
                }
                *inner.get_mut(count).ok_or(EditsFull)? = value.value;
                count += 1;
            }
            edits.push(field.line.start(), field.line.len(), b"")?;
        }
        Ok(())
    }

    /// Adds to our Record-Route, whose URI ends there, what stood above it.
    fn give_routes(&self, inner: &[Span], at: usize, edits: &mut Edits) -> Result<(), EditsFull> {
        if inner.is_empty() {
            return Ok(());
        }
        let mut text = HiddenText::EMPTY;
        for (number, value) in inner.iter().rev().enumerate() {
            if number > 0 {
                text.put(b", ").ok_or(EditsFull)?;
            }
            text.put(value.of(self.bytes)).ok_or(EditsFull)?;
        }
        edits.push(at, 0, super::ROUTES)?;
        edits.write::<HIDDEN_MAX>(|room| self.keys.write_hidden(Hidden::Routes, &text, room))
    }
}
