//! What is to be known about the addresses in a message. A phone writes one address into Via, Contact and SDP: what was
//! read last is kept, so that the same text is not read again.

use std::net::IpAddr;

use super::{Facts, private::is_ipv6_local};
use crate::sip::{Span, parse_ip};

/// What a host or an address in SDP is: a set of the constants.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Kind(u8);

impl Kind {
    /// A name, or nothing that can be read.
    const NAME: Self = Self(1);
    /// The source address.
    pub const SOURCE: Self = Self(1 << 1);
    /// A private address.
    pub const PRIVATE: Self = Self(1 << 2);
    /// A local IPv6 address.
    pub const IPV6_LOCAL: Self = Self(1 << 3);
    /// No address that media is sent to: unspecified, which is a held stream (RFC 3264 §8.4), or a multicast group.
    pub const NO_TARGET: Self = Self(1 << 4);

    /// What `address`, which is not mapped, is to these facts.
    #[inline]
    pub fn of(facts: &Facts<'_>, address: IpAddr) -> Self {
        let is_source = address == facts.source.ip();
        let is_target = !address.is_unspecified() && !address.is_multicast();
        let mut kind = Self(0);
        kind.set_if(Self::SOURCE, is_source);
        kind.set_if(Self::PRIVATE, facts.private.contains(address));
        kind.set_if(Self::IPV6_LOCAL, is_ipv6_local(address));
        kind.set_if(Self::NO_TARGET, !is_target);
        kind
    }

    #[inline(always)]
    fn set_if(&mut self, other: Self, condition: bool) {
        self.0 |= if condition { other.0 } else { 0 };
    }

    /// True for a name.
    #[inline(always)]
    pub fn is_name(self) -> bool {
        self.is(Self::NAME)
    }

    /// True when it is one of `other`.
    #[inline(always)]
    pub fn is(self, other: Self) -> bool {
        self.0 & other.0 != 0
    }

    /// True when media is sent there: an address, and none of [`Kind::NO_TARGET`].
    #[inline(always)]
    pub fn is_media_target(self) -> bool {
        self.0 & (Self::NAME.0 | Self::NO_TARGET.0) == 0
    }
}

impl Default for Addresses {
    fn default() -> Self {
        Self::NONE
    }
}

/// Reads addresses, and keeps the last one.
#[derive(Clone, Copy, Debug)]
pub(super) struct Addresses {
    /// Its text and, in the highest byte, how long that is.
    text: u128,
    /// What it is.
    kind: Kind,
}

impl Addresses {
    /// Nothing was read, and the empty text is a name.
    pub const NONE: Self = Self {
        text: 0,
        kind: Kind::NAME,
    };

    /// What the text at `span` is.
    #[inline(always)]
    pub fn kind(&mut self, facts: &Facts<'_>, span: Span) -> Kind {
        let rest = facts.bytes.get(span.start()..).unwrap_or_default();
        let len = span.len();
        let (Some(chunk), Some(mask)) = (rest.first_chunk::<16>(), MASKS.get(len)) else {
            return read(facts, span);
        };
        let text = u128::from_le_bytes(*chunk) & mask | (len as u128) << 120;
        if text != self.text {
            let kind = read(facts, span);
            *self = Self { text, kind };
        }
        self.kind
    }
}

/// Ones for the first bytes of a text, by its length: an IPv4 address has at most fifteen.
const MASKS: [u128; 16] = {
    let mut masks = [0; 16];
    let mut len = 1;
    while len < masks.len() {
        masks[len] = masks[len - 1] << 8 | 0xff;
        len += 1;
    }
    masks
};

#[inline(never)]
fn read(facts: &Facts<'_>, span: Span) -> Kind {
    match parse_ip(span.of(facts.bytes)) {
        Some(IpAddr::V4(address)) => Kind::of(facts, IpAddr::V4(address)),
        Some(address) => Kind::of(facts, address.to_canonical()),
        None => Kind::NAME,
    }
}
