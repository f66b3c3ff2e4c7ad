//! Where a request goes, and what follows from that for its edits.

use std::net::SocketAddr;

use super::{ListenerIndex, Outcome, own_contact::OwnContact};
use crate::{
    balance::BackendIndex,
    sip::Span,
    token::{FlowKind, FlowToken},
};

/// Where a request goes.
pub(super) struct NextHop {
    pub outcome: Outcome,
    pub to: SocketAddr,
    /// The listener that it leaves from: for a client the one that it punched its pinhole to.
    pub from: ListenerIndex,
    pub backend: Option<BackendIndex>,
    /// The end of the dialog, should the request create one, that is not the backend.
    pub far_end: FarEnd,
    /// The backend of that dialog.
    pub flow_backend: SocketAddr,
    /// What becomes of the Request-URI.
    pub request_uri: UriChange,
    /// True when a client sent it, as opposed to a backend.
    pub from_client: bool,
    /// True when what it belongs to began inside.
    pub began_inside: bool,
}

/// The end of a dialog that is not the backend.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum FarEnd {
    /// Who sent the request.
    Sender,
    /// This client, wherever its Contact says that it is.
    Client(SocketAddr),
    /// Whoever the Route and Request-URI of later requests lead to.
    Called,
}

/// A change to the Request-URI.
#[derive(Clone, Copy, Debug)]
pub(super) enum UriChange {
    None,
    /// An alias of ours is taken out.
    Remove(Span),
    /// What a Contact of ours has in place of somebody's own gives way to that.
    Restore(OwnContact),
}

impl NextHop {
    /// A request without flow token, to a backend that its pool picked.
    pub fn to_pool(index: BackendIndex, address: SocketAddr, from: ListenerIndex) -> Self {
        Self {
            outcome: Outcome::RequestToPool,
            to: address,
            from,
            backend: Some(index),
            far_end: FarEnd::Sender,
            flow_backend: address,
            request_uri: UriChange::None,
            from_client: true,
            began_inside: false,
        }
    }

    /// The flow of a dialog that the request creates; `sender` is where its responses go.
    pub fn flow(&self, sender: SocketAddr) -> FlowToken {
        let (client, kind) = match self.far_end {
            FarEnd::Sender => (sender, FlowKind::FromClient),
            FarEnd::Client(client) if self.from_client => (client, FlowKind::FromClient),
            FarEnd::Client(client) => (client, FlowKind::ToClient),
            FarEnd::Called => (self.to, FlowKind::Outbound),
        };
        FlowToken {
            client,
            backend: self.flow_backend,
            kind,
        }
    }
}
