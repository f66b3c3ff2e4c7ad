//! The decision: datagram and table in, [`Verdict`] and edits out. Opens no socket, reads no clock, allocates nothing.

mod edits;
mod outcome;
mod table;

pub use edits::{Edits, EditsFull};
pub use outcome::{Outcome, OutcomeClass};
pub use table::{ListenerIndex, Table};

use std::net::SocketAddr;

use crate::balance::BackendIndex;

/// One UDP datagram as it arrived.
#[derive(Clone, Copy, Debug)]
pub struct Datagram<'a> {
    /// UDP payload, Ethernet padding already cut off.
    pub payload: &'a [u8],
    /// Where it came from.
    pub source: SocketAddr,
    /// The listener (VIP and port) that it was sent to.
    pub listener: ListenerIndex,
}

/// What [`forward`] writes besides its verdict; one a worker, reused for every datagram.
#[derive(Debug)]
pub struct Scratch {
    /// Changes to make to the payload when the verdict is [`Action::Forward`].
    pub edits: Edits,
    /// The message to send when the verdict is [`Action::Reply`].
    pub reply: Vec<u8>,
}

/// What becomes of a datagram, and why.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Verdict {
    /// The one name under which this is counted and explained.
    pub outcome: Outcome,
    /// What to do.
    pub action: Action,
}

/// What to do with a datagram. Whatever is sent leaves from the listener that the datagram arrived at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    /// Send the payload with [`Scratch::edits`] applied.
    Forward {
        /// Next hop on the SIP level.
        to: SocketAddr,
        /// The backend that was chosen or that the flow token names, when the request goes to one.
        backend: Option<BackendIndex>,
        /// An INVITE without To tag (a call set-up; retransmissions look the same).
        initial_invite: bool,
    },
    /// Send [`Scratch::reply`] back to the source of the datagram.
    Reply,
    /// Send nothing: the datagram is not wanted.
    Drop,
    /// Send nothing: the datagram was for us and is dealt with (ACK to our own reply).
    Absorb,
}
