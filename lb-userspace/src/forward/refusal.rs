//! Why a request does not go on, and what its sender is told.

use super::{Outcome, reply::Status};
use crate::{sip::Fault, validate::Reason};

/// Why a request does not go on.
#[derive(Clone, Copy)]
pub(super) struct Refusal {
    pub outcome: Outcome,
    /// `None` for no answer.
    pub status: Option<Status>,
}

impl Refusal {
    pub const OPTIONS: Self = Self {
        outcome: Outcome::OptionsAnswered,
        status: Some(Status::new(b"200", "OK")),
    };
    pub const MAX_FORWARDS: Self = Self {
        outcome: Outcome::MaxForwardsExceeded,
        status: Some(Status::new(b"483", "Too Many Hops")),
    };
    pub const EXTENSION: Self = Self {
        outcome: Outcome::ExtensionNotSupported,
        status: Some(Status::BAD_EXTENSION),
    };
    pub const BAD_TOKEN: Self = Self {
        outcome: Outcome::BadFlowToken,
        status: Some(Status::new(b"403", "Flow token not valid")),
    };
    pub const FROM_BACKEND: Self = Self {
        outcome: Outcome::FromBackendWithoutToken,
        status: Some(Status::new(b"403", "No token in Route or Request-URI")),
    };
    pub const CONTACT: Self = Self {
        outcome: Outcome::ContactNotReplaced,
        status: Some(Status::new(b"400", "Contact cannot be replaced")),
    };
    pub const TOO_MUCH_TO_HIDE: Self = Self {
        outcome: Outcome::TooMuchToHide,
        status: Some(Status::new(b"500", "Too much to hide")),
    };
    pub const URI_SCHEME: Self = Self {
        outcome: Outcome::UriSchemeNotSupported,
        status: Some(Status::new(b"416", "Unsupported URI Scheme")),
    };
    pub const TRANSPORT: Self = Self {
        outcome: Outcome::NextHopTransport,
        status: Some(Status::new(b"502", "Next hop wants another transport")),
    };
    pub const OTHER_FAMILY: Self = Self {
        outcome: Outcome::NextHopOtherFamily,
        status: Some(Status::new(b"502", "Next hop of another IP version")),
    };
    pub const NAME_NOT_FOUND: Self = Self {
        outcome: Outcome::NameNotFound,
        status: Some(Status::new(b"502", "Next hop not found")),
    };
    pub const NAME_NOT_RESOLVED: Self = Self {
        outcome: Outcome::NameNotResolved,
        status: Some(Status::new(b"504", "Name servers do not answer")),
    };
    /// Not yet one: the request waits.
    pub const AWAITS_NAME: Self = Self {
        outcome: Outcome::AwaitsName,
        status: None,
    };
    pub const NEXT_HOP: Self = Self {
        outcome: Outcome::NextHopNotAllowed,
        status: Some(Status::new(b"403", "Next hop not allowed")),
    };
    pub const NO_RULE: Self = Self {
        outcome: Outcome::NoRouteRule,
        status: Some(Status::new(b"404", "Not Found")),
    };
    pub const NO_BACKEND: Self = Self {
        outcome: Outcome::NoUsableBackend,
        status: Some(Status::new(b"503", "Service Unavailable")),
    };

    pub const FORGED_CLIENT_ADDRESS: Self = Self {
        outcome: Outcome::ForgedClientAddress,
        status: Some(Status::new(b"400", "Forged client address header field")),
    };

    /// A call above a limit that gets no answer.
    pub const SILENCE: Self = Self {
        outcome: Outcome::CpsBreachedSilently,
        status: None,
    };

    /// A call above a limit, answered with a status and with Retry-After where that is not 0.
    pub fn of_breach(status: u16, retry_after_s: u32) -> Self {
        Self {
            outcome: Outcome::CpsBreached,
            status: Some(Status::of_breach(status, retry_after_s)),
        }
    }

    pub fn of_reason(reason: Reason) -> Self {
        Self {
            outcome: Outcome::InvalidRequest,
            status: Some(Status::new(b"400", reason.phrase())),
        }
    }

    pub fn of_fault(fault: Fault) -> Self {
        let code = if fault == Fault::Version {
            b"505"
        } else {
            b"400"
        };
        Self {
            outcome: Outcome::of_fault(fault),
            status: Some(Status::new(code, fault.reason())),
        }
    }
}
