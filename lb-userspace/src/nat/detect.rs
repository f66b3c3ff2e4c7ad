//! What is found out about a message.

use std::net::{IpAddr, SocketAddr};

use super::{
    Decision, Fix, Fixes, Indicator, Indicators, Policy, PrivateNetworks, contacts::Contacts,
    private::is_ipv6_local,
};
use crate::sip::{Message, Sdp, SdpAddress, SdpLine, StartLine, parse_ip};

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

/// A message that was looked at, with what a fix needs to know so that nothing is read twice.
#[derive(Clone, Debug)]
pub struct Examined<'a> {
    pub(super) facts: Facts<'a>,
    /// The fixes of the policy; none when no indicator matched.
    pub(super) wanted: Fixes,
    pub(super) contacts: Option<Contacts>,
    pub(super) sdp: Option<Sdp>,
    /// What was found, and what has been changed so far.
    pub decision: Decision,
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
pub fn examine(policy: Policy, facts: Facts<'_>) -> Examined<'_> {
    let detect = policy.detect;
    let mut examined = Examined {
        facts,
        wanted: Fixes::NONE,
        contacts: None,
        sdp: None,
        decision: Decision::default(),
    };
    let mut found = Indicators::NONE;
    if detect.intersects(OF_SOURCE) {
        let source = facts.source.ip();
        found.set_if(Indicator::SourcePrivate, facts.private.contains(source));
        found.set_if(Indicator::Ipv6Local, is_ipv6_local(source));
    }
    if detect.intersects(OF_VIA) && matches!(facts.message.start_line, StartLine::Request { .. }) {
        via(&facts, &mut found);
    }
    if detect.intersects(OF_CONTACT) {
        for contact in examined.contacts().as_slice() {
            found.set_if(Indicator::ContactPrivate, contact.is_private);
            found.set_if(Indicator::ContactAddress, !contact.is_source_address);
            found.set_if(Indicator::ContactPort, contact.port != facts.source.port());
            found.set_if(Indicator::Ipv6Local, contact.is_ipv6_local);
        }
    }
    if detect.intersects(OF_SDP) {
        session(&facts, examined.sdp().addresses(), &mut found);
    }
    examined.decision.matched = found.and(detect);
    if examined.decision.is_natted() {
        examined.wanted = policy.fix;
    }
    examined
}

fn via(facts: &Facts<'_>, found: &mut Indicators) {
    let Some(via) = &facts.message.via else {
        return;
    };
    let address = |host: &[u8]| parse_ip(host).map(|address| address.to_canonical());
    let host = address(via.host.of(facts.bytes));
    let named = match via.maddr {
        Some(maddr) => address(maddr.of(facts.bytes)),
        None => host,
    };
    let source = facts.source;
    found.set_if(
        Indicator::Received,
        via.received.is_some() || named != Some(source.ip()),
    );
    found.set_if(
        Indicator::ViaPrivate,
        host.is_some_and(|host| facts.private.contains(host)),
    );
    found.set_if(Indicator::ViaPort, via.effective_port() != source.port());
    found.set_if(Indicator::Ipv6Local, host.is_some_and(is_ipv6_local));
}

fn session(facts: &Facts<'_>, addresses: &[SdpAddress], found: &mut Indicators) {
    let mut passed = None;
    for address in addresses {
        if address.line == SdpLine::Origin {
            continue;
        }
        let is_first = passed != Some(address.description);
        passed = Some(address.description);
        let of_session = address.line == SdpLine::Session;
        if !is_first && !of_session {
            continue;
        }
        let Some(ip) = media_address(address.text.of(facts.bytes)) else {
            continue;
        };
        found.set_if(
            Indicator::SdpPrivate,
            is_first && facts.private.contains(ip),
        );
        found.set_if(Indicator::Ipv6Local, is_first && is_ipv6_local(ip));
        found.set_if(Indicator::SdpAddress, of_session && ip != facts.source.ip());
    }
}

/// Where media is wanted: not for a name, a held stream (RFC 3264 §8.4) and a multicast group.
fn media_address(text: &[u8]) -> Option<IpAddr> {
    parse_ip(text)
        .map(|ip| ip.to_canonical())
        .filter(|ip| !ip.is_unspecified() && !ip.is_multicast())
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
        let Self {
            facts,
            contacts,
            decision,
            ..
        } = self;
        contacts.get_or_insert_with(|| {
            let contacts = Contacts::read(facts);
            decision.beyond_limits |= contacts.is_beyond_limits;
            contacts
        })
    }

    pub(super) fn sdp(&mut self) -> &Sdp {
        let Self {
            facts,
            sdp,
            decision,
            ..
        } = self;
        sdp.get_or_insert_with(|| {
            let message = facts.message;
            let sdp = match (message.content_type, message.body) {
                (Some(content_type), Some(body)) => {
                    Sdp::read(facts.bytes, content_type.value, body)
                }
                _ => Sdp::default(),
            };
            decision.beyond_limits |= sdp.is_beyond_limits;
            sdp
        })
    }
}
