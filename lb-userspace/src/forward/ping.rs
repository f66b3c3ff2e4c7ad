//! Which OPTIONS the edge answers itself, as peers send them to see whether it lives.

use super::{own_routes::OwnRoutes, request::Request};
use crate::{
    config::PingReplies,
    sip::{Method, Span, Uri},
};

impl Request<'_> {
    /// True for an OPTIONS that is answered here rather than sent on. No flow token leads it, and what is left of its Route
    /// values must not take it elsewhere.
    pub fn is_ping(&self, routes: &OwnRoutes) -> bool {
        if self.method != Method::Options || routes.foreign.is_some() {
            return false;
        }
        match self.listener.ping_replies {
            PingReplies::Off => false,
            PingReplies::ForUs => self.is_for_us(),
            PingReplies::All => self.is_for_us() || self.is_from_outside_a_dialog(),
        }
    }

    /// The Request-URI is a listener without a user (RFC 3261 §11.2).
    fn is_for_us(&self) -> bool {
        Uri::parse(self.bytes, self.uri).is_some_and(|uri| {
            uri.user.is_none_or(Span::is_empty) && self.table.is_own(self.bytes, &uri)
        })
    }

    /// In a dialog it asks after the other end; the inside asks after who it names, by an alias say.
    fn is_from_outside_a_dialog(&self) -> bool {
        self.message.to_tag().is_none() && !self.table.is_inside(self.source.ip())
    }
}
