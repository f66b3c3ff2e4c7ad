//! Rules that send requests without a flow token to pools.

use std::sync::Arc;

use ipnet::IpNet;

use super::ListenerIndex;
use crate::{balance::Strategy, limit::Limit, nat::Policy};

/// A rule that sends requests without a flow token to a pool; the first that matches wins. All that it names must match.
#[derive(Clone, Debug)]
pub struct RouteRule {
    /// Only this method, when set. Compared byte for byte (RFC 3261 §7.1: methods are case-sensitive).
    pub method: Option<Vec<u8>>,
    /// Only this listener, when set.
    pub listener: Option<ListenerIndex>,
    /// Only from these networks, when there are any.
    pub source: Vec<IpNet>,
    /// Only requests with these texts, when set.
    pub texts: Option<Box<Texts>>,
    /// Index into [`super::Table::pools`].
    pub pool: usize,
    /// Takes the place of the pool's, when set.
    pub strategy: Option<Strategy>,
    /// Takes the place of the listener's NAT policy, when set. Only for rules without `texts`.
    pub nat: Option<Policy>,
    /// How many calls it sends on in a second.
    pub limit: Option<Arc<Limit>>,
}

/// What a rule wants to find in a request besides its method.
#[derive(Clone, Debug, Default)]
pub struct Texts {
    /// What the user of the Request-URI begins with.
    pub request_uri_user: Option<Vec<u8>>,
    /// Host of the Request-URI.
    pub request_uri_domain: Option<Vec<u8>>,
    /// Host of the URI in From.
    pub from_domain: Option<Vec<u8>>,
    /// Host of the URI in To.
    pub to_domain: Option<Vec<u8>>,
    /// What User-Agent begins with.
    pub user_agent: Option<Vec<u8>>,
}

/// A text of a request that rules look at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum TextKind {
    RequestUriUser,
    RequestUriDomain,
    FromDomain,
    ToDomain,
    UserAgent,
}

impl TextKind {
    /// The cheapest to read first.
    pub const ALL: [Self; 5] = [
        Self::RequestUriUser,
        Self::RequestUriDomain,
        Self::FromDomain,
        Self::ToDomain,
        Self::UserAgent,
    ];
}

impl Texts {
    /// What the rule wants this text to be, or to begin with.
    pub(super) fn wanted(&self, kind: TextKind) -> Option<&[u8]> {
        let wanted = match kind {
            TextKind::RequestUriUser => &self.request_uri_user,
            TextKind::RequestUriDomain => &self.request_uri_domain,
            TextKind::FromDomain => &self.from_domain,
            TextKind::ToDomain => &self.to_domain,
            TextKind::UserAgent => &self.user_agent,
        };
        wanted.as_deref()
    }
}

impl RouteRule {
    /// The rule that sends everything to a pool.
    pub fn everything_to(pool: usize) -> Self {
        Self {
            method: None,
            listener: None,
            source: Vec::new(),
            texts: None,
            pool,
            strategy: None,
            nat: None,
            limit: None,
        }
    }
}
