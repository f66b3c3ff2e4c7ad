//! What is found out about a message.

use std::net::SocketAddr;

use super::{
    Decision, Fix, Fixes, Indicator, Indicators, Policy, PrivateNetworks,
    addresses::{Addresses, Kind},
    contacts::Contacts,
    private::is_ipv6_local,
};
use crate::sip::{MAX_SDP_ADDRESSES, Message, Sdp, SdpAddress, SdpLine, StartLine};

/// What the decision is made from.
#[derive(Clone, Copy, Debug)]
pub struct Facts<'a> {
    /// The datagram.
    pub bytes: &'a [u8],
    /// What was read from it.
    pub message: &'a Message,
    /// Where it came from; an IPv4 address is never mapped.
    pub source: SocketAddr,
    /// Which addresses are private.
    pub private: &'a PrivateNetworks,
}

/// Room for what is read from a message. It is large: one is used for one message after the other.
#[derive(Clone, Debug, Default)]
pub struct Notes {
    addresses: Addresses,
    pub(super) contacts: Contacts,
    pub(super) sdp: Sdp,
    /// What each address in `sdp` is.
    pub(super) sdp_kinds: [Kind; MAX_SDP_ADDRESSES],
    pub(super) has_contacts: bool,
    pub(super) has_sdp: bool,
}

/// A message that was looked at, with what a fix needs to know so that nothing is read twice.
#[derive(Debug)]
pub struct Examined<'a> {
    pub(super) facts: Facts<'a>,
    pub(super) notes: &'a mut Notes,
    /// The fixes of the policy; none when no indicator matched.
    pub(super) wanted: Fixes,
    /// What was found, and what has been changed so far.
    pub decision: Decision,
    /// The policy limits how long a registration lasts.
    limits_expiry: bool,
}

impl Examined<'_> {
    /// True when the client is behind a NAT and the policy limits for how long it may register.
    pub(crate) fn limits_expiry(&self) -> bool {
        self.limits_expiry && self.decision.is_natted()
    }

    /// Leaves the Contacts to somebody else.
    pub(crate) fn keep_contacts(&mut self) {
        self.wanted = self.wanted.and(Fixes::of(&[Fix::Rport, Fix::Sdp]));
    }
}

/// Indicators that need the client's own Via. A response does not have it: its top Via is ours, the ones below belong to
/// who sent the request.
const OF_VIA: Indicators = Indicators::of(&[
    Indicator::Received,
    Indicator::ViaPrivate,
    Indicator::ViaPort,
    Indicator::Ipv6Local,
]);
const OF_CONTACT: Indicators = Indicators::of(&[
    Indicator::ContactPrivate,
    Indicator::ContactAddress,
    Indicator::ContactPort,
    Indicator::Ipv6Local,
]);
const OF_SDP: Indicators = Indicators::of(&[
    Indicator::SdpPrivate,
    Indicator::SdpAddress,
    Indicator::Ipv6Local,
]);
const OF_SOURCE: Indicators = Indicators::of(&[Indicator::SourcePrivate, Indicator::Ipv6Local]);

/// Looks for the indicators that `policy` selects, and only for what they need.
pub fn examine<'a>(policy: Policy, facts: Facts<'a>, notes: &'a mut Notes) -> Examined<'a> {
    let detect = policy.detect;
    notes.addresses = Addresses::NONE;
    (notes.has_contacts, notes.has_sdp) = (false, false);
    let mut found = Indicators::NONE;
    let mut beyond_limits = false;
    if detect.intersects(OF_SOURCE) {
        let source = facts.source.ip();
        found.set_if(Indicator::SourcePrivate, facts.private.contains(source));
        found.set_if(Indicator::Ipv6Local, is_ipv6_local(source));
    }
    if detect.intersects(OF_VIA) && matches!(facts.message.start_line, StartLine::Request { .. }) {
        via(&facts, &mut notes.addresses, &mut found);
    }
    if detect.intersects(OF_CONTACT) {
        let contacts = notes.contacts(&facts);
        for contact in contacts.as_slice() {
            let kind = contact.kind;
            found.set_if(Indicator::ContactPrivate, kind.is(Kind::PRIVATE));
            found.set_if(Indicator::ContactAddress, !kind.is(Kind::SOURCE));
            found.set_if(Indicator::ContactPort, contact.port != facts.source.port());
            found.set_if(Indicator::Ipv6Local, kind.is(Kind::IPV6_LOCAL));
        }
        beyond_limits |= contacts.is_beyond_limits;
    }
    if detect.intersects(OF_SDP) {
        let (sdp, kinds) = notes.sdp(&facts);
        session(sdp.addresses(), kinds, &mut found);
        beyond_limits |= sdp.is_beyond_limits;
    }
    let decision = Decision {
        matched: found.and(detect),
        fixed: Fixes::NONE,
        beyond_limits,
    };
    let wanted = if decision.is_natted() {
        policy.fix
    } else {
        Fixes::NONE
    };
    Examined {
        facts,
        notes,
        wanted,
        decision,
        limits_expiry: policy.max_expires.is_some(),
    }
}

#[inline(always)]
fn via(facts: &Facts<'_>, addresses: &mut Addresses, found: &mut Indicators) {
    let Some(via) = &facts.message.via else {
        return;
    };
    let host = addresses.kind(facts, via.host);
    let named = match via.maddr {
        Some(maddr) => addresses.kind(facts, maddr),
        None => host,
    };
    found.set_if(
        Indicator::Received,
        via.received.is_some() || !named.is(Kind::SOURCE),
    );
    found.set_if(Indicator::ViaPrivate, host.is(Kind::PRIVATE));
    found.set_if(
        Indicator::ViaPort,
        via.effective_port() != facts.source.port(),
    );
    found.set_if(Indicator::Ipv6Local, host.is(Kind::IPV6_LOCAL));
}

#[inline(always)]
fn session(addresses: &[SdpAddress], kinds: &[Kind], found: &mut Indicators) {
    let mut passed = None;
    for (address, kind) in addresses.iter().zip(kinds) {
        if address.line == SdpLine::Origin {
            continue;
        }
        let is_first = passed.replace(address.description) != Some(address.description);
        let of_session = address.line == SdpLine::Session;
        if !kind.is_media_target() {
            continue;
        }
        found.set_if(Indicator::SdpPrivate, is_first && kind.is(Kind::PRIVATE));
        found.set_if(Indicator::Ipv6Local, is_first && kind.is(Kind::IPV6_LOCAL));
        found.set_if(Indicator::SdpAddress, of_session && !kind.is(Kind::SOURCE));
    }
}

impl Examined<'_> {
    /// True when responses are to go to the source port although the top Via does not ask for it.
    pub fn forces_rport(&self) -> bool {
        self.wanted.contains(Fix::Rport)
            && self
                .facts
                .message
                .via
                .is_some_and(|via| via.rport.is_none())
    }

    pub(super) fn contacts(&mut self) -> &Contacts {
        let contacts = self.notes.contacts(&self.facts);
        self.decision.beyond_limits |= contacts.is_beyond_limits;
        contacts
    }

    /// The session descriptions, and what each address in them is.
    pub(super) fn sdp(&mut self) -> (&Sdp, &[Kind]) {
        let (sdp, kinds) = self.notes.sdp(&self.facts);
        self.decision.beyond_limits |= sdp.is_beyond_limits;
        (sdp, kinds)
    }
}

impl Notes {
    #[inline(always)]
    fn contacts(&mut self, facts: &Facts<'_>) -> &Contacts {
        if !self.has_contacts {
            self.has_contacts = true;
            self.contacts.read(facts, &mut self.addresses);
        }
        &self.contacts
    }

    #[inline(always)]
    fn sdp(&mut self, facts: &Facts<'_>) -> (&Sdp, &[Kind]) {
        if !self.has_sdp {
            self.has_sdp = true;
            self.read_sdp(facts);
        }
        (&self.sdp, &self.sdp_kinds)
    }

    fn read_sdp(&mut self, facts: &Facts<'_>) {
        let message = facts.message;
        match (message.content_type, message.body) {
            (Some(content_type), Some(body)) => {
                self.sdp.read_again(facts.bytes, content_type.value, body);
            }
            _ => self.sdp.clear(),
        }
        for (index, address) in self.sdp.addresses().iter().enumerate() {
            self.sdp_kinds[index % MAX_SDP_ADDRESSES] = self.addresses.kind(facts, address.text);
        }
    }
}
