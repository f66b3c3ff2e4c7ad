//! Is a request well-formed beyond what routing needs? Named reasons for what is not.
//!
//! The parser in `sip` refuses what cannot be routed or answered safely, always. What is here looks further, at the
//! request of the operator: a second scan over the header fields, the URIs in them and the SDP body. The reasons are
//! those of OpenSIPS' `sipmsg_validate` and what RFC 4475 shows besides. Pure: bytes in, a [`Reason`] out; takes no
//! memory, and its time grows with the length of the datagram alone.

mod addresses;
mod cursor;
mod fields;
mod reason;
mod scan;
mod sdp;
#[cfg(test)]
mod tests;
mod uri;
mod values;

pub use reason::Reason;
pub use scan::{Findings, MAX_MARKS, scan};

/// Header field that tells a backend why a request is not well-formed.
pub const MARK: &str = "X-Validate-Fail";

/// True for the name of a header field, long or compact, that has a meaning here, and for [`MARK`].
pub(crate) fn is_known(name: &[u8]) -> bool {
    fields::Kind::of(name) != fields::Kind::Other
}

/// What a listener validates and what becomes of a request that fails.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Validate {
    /// What becomes of it.
    pub mode: Mode,
    /// What is looked at.
    pub checks: Checks,
}

/// What becomes of a request that fails.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Mode {
    /// `reply`: 400 with the reason; an ACK is dropped.
    Reply,
    /// `header`: it goes on with a header field [`MARK`] that names the reason.
    Header,
}

impl Mode {
    /// The name in the configuration.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Reply => "reply",
            Self::Header => "header",
        }
    }
}

/// A group of reasons that can be chosen.
#[repr(u8)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Check {
    /// `request-uri`: flag `r` of `sipmsg_validate`.
    RequestUri,
    /// `from`: flag `f`.
    From,
    /// `to`: flag `t`.
    To,
    /// `contact`: flag `c`.
    Contact,
    /// `max-forwards`: what flag `m` switches off.
    MaxForwards,
    /// `headers`: flag `h`, and that Path is for REGISTER.
    Headers,
    /// `body`: Content-Length and Content-Type.
    Body,
    /// `sdp`: flag `s`.
    Sdp,
}

impl Check {
    /// All of them, in the order of the documentation.
    pub const ALL: [Self; 8] = [
        Self::RequestUri,
        Self::From,
        Self::To,
        Self::Contact,
        Self::MaxForwards,
        Self::Headers,
        Self::Body,
        Self::Sdp,
    ];

    /// The name in the configuration.
    pub const fn name(self) -> &'static str {
        match self {
            Self::RequestUri => "request-uri",
            Self::From => "from",
            Self::To => "to",
            Self::Contact => "contact",
            Self::MaxForwards => "max-forwards",
            Self::Headers => "headers",
            Self::Body => "body",
            Self::Sdp => "sdp",
        }
    }
}

/// A set of [`Check`]s.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Checks(u8);

impl Checks {
    /// All checks.
    pub const ALL: Self = Self(u8::MAX);

    /// True when the check is in the set.
    pub const fn has(self, check: Check) -> bool {
        self.0 & 1 << check as u8 != 0
    }

    /// The checks in the set, in the order of [`Check::ALL`].
    pub fn iter(self) -> impl Iterator<Item = Check> {
        Check::ALL.into_iter().filter(move |check| self.has(*check))
    }
}

impl FromIterator<Check> for Checks {
    fn from_iter<T: IntoIterator<Item = Check>>(checks: T) -> Self {
        Self(
            checks
                .into_iter()
                .fold(0, |set, check| set | 1 << check as u8),
        )
    }
}
