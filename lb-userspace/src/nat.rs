//! Far-end NAT: finds out that a client is behind one ([`examine`]), and mends what it wrote about itself
//! (`Examined::fix`).
//!
//! Pure: message, source and policy in, [`Decision`] and edits out. The names are those of the configuration, the
//! counters and the README. Indicators are combined by "or": one that matches is enough.

mod addresses;
mod alias;
mod contacts;
mod detect;
mod fix;
mod private;
#[cfg(test)]
mod tests;

pub use alias::Alias;
pub use contacts::MAX_CONTACTS;
pub use detect::{Examined, Facts, Notes, examine};
pub use fix::MAX_NAT_EDITS;
pub(crate) use fix::set_origins;
pub use private::PrivateNetworks;

use std::fmt;

/// Makes an enum of names and the set of its values.
macro_rules! names_and_set {
    (
        $(#[$name_doc:meta])* $name:ident, $(#[$set_doc:meta])* $set:ident($bits:ty):
        $($(#[doc = $doc:literal])+ $variant:ident $text:literal,)+
    ) => {
        $(#[$name_doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        #[repr(u8)]
        pub enum $name {
            $($(#[doc = $doc])+ $variant,)+
        }

        impl $name {
            /// All of them.
            pub const ALL: [Self; [$(Self::$variant),+].len()] = [$(Self::$variant),+];

            /// The name in configuration and output.
            pub const fn name(self) -> &'static str {
                match self {
                    $(Self::$variant => $text,)+
                }
            }

            /// The one of that name.
            pub fn from_name(name: &str) -> Option<Self> {
                Self::ALL.into_iter().find(|one| one.name() == name)
            }
        }

        $(#[$set_doc])*
        #[derive(Clone, Copy, Default, PartialEq, Eq, Hash)]
        pub struct $set($bits);

        impl $set {
            /// None of them.
            pub const NONE: Self = Self(0);
            /// All of them.
            pub const ALL: Self = Self((1 << $name::ALL.len()) - 1);

            /// The set of these.
            pub const fn of(members: &[$name]) -> Self {
                let mut set = Self::NONE;
                let mut index = 0;
                while index < members.len() {
                    set = set.with(members[index]);
                    index += 1;
                }
                set
            }

            /// The set with one more.
            pub const fn with(self, one: $name) -> Self {
                Self(self.0 | 1 << one as u8)
            }

            /// Adds one if `condition` holds.
            pub(crate) fn set_if(&mut self, one: $name, condition: bool) {
                self.0 |= <$bits>::from(condition) << one as u8;
            }

            /// True when `one` is in it.
            pub const fn contains(self, one: $name) -> bool {
                self.0 & 1 << one as u8 != 0
            }

            /// True when there is one in both.
            pub const fn intersects(self, other: Self) -> bool {
                self.0 & other.0 != 0
            }

            /// Those that are in both.
            pub const fn and(self, other: Self) -> Self {
                Self(self.0 & other.0)
            }

            /// True when there is none in it.
            pub const fn is_empty(self) -> bool {
                self.0 == 0
            }

            /// Those in it, in the order of the documentation.
            pub fn iter(self) -> impl Iterator<Item = $name> + Clone {
                $name::ALL.into_iter().filter(move |one| self.contains(*one))
            }

            /// Their names.
            pub fn names(self) -> impl Iterator<Item = &'static str> + Clone {
                self.iter().map($name::name)
            }
        }

        impl fmt::Debug for $set {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.debug_set().entries(self.names()).finish()
            }
        }
    };
}

names_and_set! {
    /// A sign that a client is behind a NAT. The first seven mean what they mean in OpenSIPS' `nathelper`.
    Indicator,
    /// A set of indicators.
    Indicators(u16):
    /// The host of a Contact is a private IPv4 address.
    ContactPrivate "contact-private",
    /// The top Via names another address than the source, or has a `received` already.
    Received "received",
    /// Sent-by of the top Via is a private IPv4 address.
    ViaPrivate "via-private",
    /// The first `c=` of a session description is a private IPv4 address.
    SdpPrivate "sdp-private",
    /// The port of the top Via is not the source port.
    ViaPort "via-port",
    /// The host of a Contact is not the source address.
    ContactAddress "contact-address",
    /// The port of a Contact is not the source port.
    ContactPort "contact-port",
    /// The source address itself is private.
    SourcePrivate "source-private",
    /// A `c=` at session level is not the source address.
    SdpAddress "sdp-address",
    /// Source, sent-by of the top Via, a Contact or the first `c=` is a unique local or link-local IPv6 address.
    Ipv6Local "ipv6-local",
}

names_and_set! {
    /// What is done about a client behind a NAT.
    Fix,
    /// A set of fixes.
    Fixes(u8):
    /// Responses go to the source port, as if the top Via had asked for it (RFC 3581).
    Rport "rport",
    /// Host and port of every Contact become the source, `maddr` goes.
    Contact "contact",
    /// Every Contact gets a signed parameter that says where the client is really reached.
    ContactAlias "contact-alias",
    /// The addresses in `o=` and `c=` become the source address.
    Sdp "sdp",
}

/// What to look for, and what to do when any of it is found.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Policy {
    /// Any of these means that the client is behind a NAT.
    pub detect: Indicators,
    /// What is done then.
    pub fix: Fixes,
    /// Seconds for which a registration is granted at the most, as far as the client is told: so that it comes again
    /// before its pinhole closes. The registrar keeps its own.
    pub max_expires: Option<u32>,
}

/// What was found in one message, and what was changed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Decision {
    /// The indicators that matched, of those that the policy selects.
    pub matched: Indicators,
    /// The fixes that changed something.
    pub fixed: Fixes,
    /// True when the message has more Contacts or SDP than is looked at. An SDP beyond the limits is left as it is.
    pub beyond_limits: bool,
}

impl Decision {
    /// True when the client is behind a NAT, as far as the policy can tell.
    pub fn is_natted(&self) -> bool {
        !self.matched.is_empty()
    }
}
