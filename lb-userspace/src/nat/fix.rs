//! What is changed in a message from behind a NAT.

use std::net::{IpAddr, SocketAddr};

use super::{Examined, Fix, Fixes, addresses::Kind, alias::ALIAS, contacts::Contact};
use crate::{
    forward::{Edits, EditsFull, Text},
    sip::{
        HeaderField, MAX_SDP_ADDRESSES, Message, Sdp, SdpAddress, SdpLine, Span,
        find_uri_parameter, parse_ip, parse_number,
    },
    token::{FLOW_TOKEN_MAX, FlowToken, Keys},
};

/// Fixes that change what the client wrote, besides its Via.
const OF_TEXT: Fixes = Fixes::of(&[Fix::Contact, Fix::ContactAlias, Fix::Sdp]);

/// Most edits that fixes need: three for each Contact and one for each address in SDP, and lengths.
pub const MAX_NAT_EDITS: usize =
    3 * super::MAX_CONTACTS + MAX_SDP_ADDRESSES + crate::sip::MAX_BODY_PARTS + 1;

/// Length of an IPv6 address in brackets with a port at the most, and a bit.
const SOURCE_LEN: usize = 54;

/// The source as text, written once: `address:port` with the brackets of an IPv6 address.
struct SourceText {
    text: [u8; SOURCE_LEN],
    len: usize,
    ip_end: usize,
    is_ipv6: bool,
    port: u16,
}

impl SourceText {
    fn new(source: SocketAddr) -> Self {
        let mut text = Text::<SOURCE_LEN>::new();
        if source.is_ipv6() {
            text.put(b"[");
        }
        text.put_ip(source.ip());
        let ip_end = text.len();
        if source.is_ipv6() {
            text.put(b"]");
        }
        text.put_port(source.port());
        let mut bytes = [0; SOURCE_LEN];
        let len = text.write(&mut bytes);
        Self {
            text: bytes,
            len,
            ip_end,
            is_ipv6: source.is_ipv6(),
            port: source.port(),
        }
    }

    fn ip(&self) -> &[u8] {
        &self.text[usize::from(self.is_ipv6)..self.ip_end]
    }

    fn ip_len(&self) -> usize {
        self.ip_end - usize::from(self.is_ipv6)
    }
}

impl Examined<'_> {
    /// Writes the edits of the fixes that are due, but for `rport`, and notes which of them changed something.
    /// `backend` is where the message goes.
    ///
    /// # Errors
    ///
    /// [`EditsFull`] when there is no room for them.
    pub(crate) fn fix(
        &mut self,
        keys: &Keys,
        backend: SocketAddr,
        edits: &mut Edits,
    ) -> Result<(), EditsFull> {
        if !self.wanted.intersects(OF_TEXT) {
            return Ok(());
        }
        let source = SourceText::new(self.facts.source);
        if self.wanted.contains(Fix::Contact) {
            self.fix_contacts(&source, edits)?;
        }
        if self.wanted.contains(Fix::ContactAlias) {
            self.add_aliases(keys, backend, edits)?;
        }
        if self.wanted.contains(Fix::Sdp) {
            self.fix_sdp(&source, edits)?;
        }
        Ok(())
    }

    fn fix_contacts(&mut self, source: &SourceText, edits: &mut Edits) -> Result<(), EditsFull> {
        let bytes = self.facts.bytes;
        let mut changed = false;
        for contact in self.contacts().as_slice() {
            if !contact.is_source(source.port) {
                let (start, end) = (contact.host_start, contact.host_port_end);
                let removed = end - start;
                edits.push_start(start.into(), removed.into(), &source.text, source.len)?;
                changed = true;
            }
            // Without brackets there are no URI parameters.
            if !contact.is_bare
                && let Some(maddr) = contact.parameter(bytes, b"maddr")
            {
                edits.push(maddr.start(), maddr.len(), b"")?;
                changed = true;
            }
        }
        self.decision.fixed.set_if(Fix::Contact, changed);
        Ok(())
    }

    fn add_aliases(
        &mut self,
        keys: &Keys,
        backend: SocketAddr,
        edits: &mut Edits,
    ) -> Result<(), EditsFull> {
        let client = self.facts.source;
        let mut token = [0; FLOW_TOKEN_MAX];
        let mut token_len = 0;
        for contact in self.contacts().as_slice() {
            if contact.is_source(client.port()) {
                continue;
            }
            if token_len == 0 {
                token_len = keys.write_flow_token(&FlowToken::new(client, backend), &mut token);
            }
            if contact.is_bare {
                edits.push(contact.uri.start(), 0, b"<")?;
            }
            edits.push(contact.host_port_end.into(), 0, ALIAS)?;
            edits.append(&token[..token_len])?;
            if contact.is_bare {
                if contact.uri.end() != usize::from(contact.host_port_end) {
                    edits.push(contact.uri.end(), 0, b"")?;
                }
                edits.append(b">")?;
            }
        }
        self.decision.fixed.set_if(Fix::ContactAlias, token_len > 0);
        Ok(())
    }

    fn fix_sdp(&mut self, source: &SourceText, edits: &mut Edits) -> Result<(), EditsFull> {
        let bytes = self.facts.bytes;
        let content_length = self.facts.message.content_length;
        let (sdp, kinds) = self.sdp();
        // Half of a session description would be worse than none.
        if sdp.is_beyond_limits {
            return Ok(());
        }
        let must_change = |place: usize, address: &SdpAddress| {
            must_change(bytes, address, kinds[place % MAX_SDP_ADDRESSES], source)
        };
        let changed = set_addresses(bytes, sdp, content_length, source, must_change, edits)?;
        self.decision.fixed.set_if(Fix::Sdp, changed);
        Ok(())
    }
}

/// Gives each `o=` of a session description for which `must_change` holds this address, which is one of ours; lengths follow.
/// A description beyond the limits of what is read is left as it is.
///
/// # Errors
///
/// [`EditsFull`] when there is no room for it.
pub(crate) fn set_origins(
    bytes: &[u8],
    message: &Message,
    address: IpAddr,
    must_change: impl Fn(IpAddr) -> bool,
    edits: &mut Edits,
) -> Result<(), EditsFull> {
    let (Some(content_type), Some(body)) = (message.content_type, message.body) else {
        return Ok(());
    };
    let sdp = Sdp::read(bytes, content_type.value, body);
    if sdp.is_beyond_limits {
        return Ok(());
    }
    let source = SourceText::new(SocketAddr::new(address, 0));
    let must_change = |_: usize, address: &SdpAddress| {
        matches!(address.line, SdpLine::Origin)
            && parse_ip(address.text.of(bytes)).is_some_and(&must_change)
    };
    let length = message.content_length;
    set_addresses(bytes, &sdp, length, &source, must_change, edits)?;
    Ok(())
}

/// Replaces the addresses for which `must_change` holds, given their place; true when there is one.
fn set_addresses(
    bytes: &[u8],
    sdp: &Sdp,
    content_length: Option<HeaderField>,
    source: &SourceText,
    must_change: impl Fn(usize, &SdpAddress) -> bool,
    edits: &mut Edits,
) -> Result<bool, EditsFull> {
    let mut changed = false;
    let mut growth = 0;
    let (mut description, mut of_part) = (0, 0);
    for (place, address) in sdp.addresses().iter().enumerate() {
        if !must_change(place, address) {
            continue;
        }
        if address.description != description {
            growth += grow_part(bytes, sdp, description, of_part, edits)?;
            (description, of_part) = (address.description, 0);
        }
        of_part += set_address(address, source, edits)?;
        changed = true;
    }
    growth += grow_part(bytes, sdp, description, of_part, edits)?;
    if let Some(length) = content_length {
        grow(bytes, length.value, growth, edits)?;
    }
    Ok(changed)
}

impl Contact {
    fn is_source(&self, port: u16) -> bool {
        self.kind.is(Kind::SOURCE) && self.port == port
    }

    fn parameter(&self, bytes: &[u8], name: &[u8]) -> Option<Span> {
        let start = usize::from(self.host_port_end);
        find_uri_parameter(bytes, start, self.uri.end(), name).map(|found| found.whole)
    }
}

/// A held stream stays held, and a multicast group has no other address.
fn must_change(bytes: &[u8], address: &SdpAddress, kind: Kind, source: &SourceText) -> bool {
    if kind.is(Kind::SOURCE) {
        // As we write it, but as an address of the other family.
        return address.is_ipv6 != source.is_ipv6 && address.text.of(bytes) == source.ip();
    }
    match address.line {
        SdpLine::Origin => true,
        _ if kind.is_name() => !is_hold_name(address.text.of(bytes)),
        _ => kind.is_media_target(),
    }
}

/// A name below `.invalid` means hold where there is no 0.0.0.0 (RFC 6157 §5.1).
fn is_hold_name(name: &[u8]) -> bool {
    const INVALID: &[u8] = b"invalid";
    let tail = name.len().checked_sub(INVALID.len());
    tail.is_some_and(|tail| {
        name[tail..].eq_ignore_ascii_case(INVALID) && (tail == 0 || name[tail - 1] == b'.')
    })
}

/// Replaces an address, and the digit of its family when that is another; returns how many bytes longer it gets.
fn set_address(
    address: &SdpAddress,
    source: &SourceText,
    edits: &mut Edits,
) -> Result<isize, EditsFull> {
    let (start, end) = (address.text.start(), address.text.end());
    match (address.is_ipv6, source.is_ipv6) {
        (false, false) => edits.push_start(start, end - start, &source.text, source.ip_end)?,
        (true, true) => edits.push(start, end - start, source.ip())?,
        (_, is_ipv6) => {
            let family = address.family();
            edits.push(family, end - family, if is_ipv6 { b"6 " } else { b"4 " })?;
            edits.append(source.ip())?;
        }
    }
    Ok(source.ip_len() as isize - (end - start) as isize)
}

/// Adds to the length that a part may have of its own, and returns how many bytes longer the body gets.
fn grow_part(
    bytes: &[u8],
    sdp: &Sdp,
    description: u8,
    by: isize,
    edits: &mut Edits,
) -> Result<isize, EditsFull> {
    match sdp.part_lengths.get(usize::from(description)) {
        Some(Some(length)) => Ok(by + grow(bytes, *length, by, edits)?),
        _ => Ok(by),
    }
}

/// Adds to the number at `digits`; returns how many bytes longer that gets.
fn grow(bytes: &[u8], digits: Span, by: isize, edits: &mut Edits) -> Result<isize, EditsFull> {
    if by == 0 {
        return Ok(0);
    }
    let Some(number) = parse_number(digits.of(bytes), u32::from(u16::MAX)) else {
        return Ok(0);
    };
    // What comes out of range was no length of this part before; a body of more than 65,535 bytes cannot be sent at all.
    let Ok(number) = u16::try_from(number as isize + by) else {
        return Ok(0);
    };
    let mut text = Text::<8>::new();
    text.put_number(number);
    edits.push(digits.start(), digits.len(), text.as_slice())?;
    Ok(text.len() as isize - digits.len() as isize)
}
