//! The decision: datagram and table in, [`Verdict`] and edits out. Opens no socket, reads no clock, allocates nothing.

mod address_filter;
mod attempts;
mod client_address;
mod distribute;
mod edits;
mod keepalive;
mod listener;
mod memory;
mod next_hop;
mod outbound;
mod outcome;
mod own_contact;
mod own_routes;
mod ping;
mod proxy_protocol;
mod reading;
mod refusal;
mod registration;
mod reply;
mod request;
mod response;
mod rewrite;
mod rotation;
mod route_rule;
mod rule_index;
mod seen;
mod stamp;
mod stun;
mod table;
#[cfg(test)]
mod tests;
mod text;
mod topology;
mod trace;

#[cfg(feature = "node")]
pub(crate) use address_filter::spread;
pub use edits::{Edits, EditsFull};
pub use listener::{Listener, ListenerIndex};
pub use memory::Memory;
pub use outcome::{Outcome, OutcomeClass};
pub use proxy_protocol::{PROXY_SIGNATURE, proxy_header_of_our_own, without_proxy_header};
pub use reading::Reading;
pub use reply::REPLY_GROWTH;
pub use route_rule::{RouteRule, Texts};
pub use seen::{CountedMethod, MessageClass, Seen};
pub use table::Table;
pub(crate) use text::Text;
pub use trace::{Choice, NatTrace, ResponseTrace, RouteOwner, RouteValue, Trace};

use std::{net::SocketAddr, sync::Arc};

use crate::{
    balance::BackendIndex,
    names::{Names, OwnedQuestion},
    nat,
    sip::StartLine,
    validate::Reason,
};

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
    /// Why the request is not well-formed, when its listener validates: refused for it or marked, see the verdict.
    pub invalid: Option<Reason>,
    /// What the message is; `None` when the datagram is none of SIP.
    pub seen: Option<Seen>,
    /// What the worker remembers. Nothing depends on its being there but which backend a request meets when the strategy
    /// or the table does not say.
    pub memory: Memory,
    /// The time, in nanoseconds on a clock that never goes back and is the same for all workers. The worker sets it
    /// once a batch.
    pub now_ns: u64,
    /// What is known of names that requests go to. The worker sets it once a batch.
    pub names: Arc<Names>,
    /// A name that should be asked for: now, when the verdict is [`Action::AwaitName`], or again.
    pub question: Option<OwnedQuestion>,
    /// What was read to find a NAT.
    nat: nat::Notes,
    /// What goes along hidden.
    hidden: topology::HiddenRequest,
}

impl Scratch {
    /// Takes the memory that the largest reply needs, so that none is taken later.
    pub fn new() -> Self {
        Self {
            edits: Edits::new(),
            reply: Vec::with_capacity(usize::from(u16::MAX) + REPLY_GROWTH),
            invalid: None,
            seen: None,
            memory: Memory::default(),
            now_ns: 0,
            names: Arc::default(),
            question: None,
            nat: nat::Notes::default(),
            hidden: topology::HiddenRequest::EMPTY,
        }
    }

    fn clear(&mut self) {
        self.question = None;
        self.edits.clear();
        self.reply.clear();
        self.invalid = None;
        self.seen = None;
    }
}

impl Default for Scratch {
    fn default() -> Self {
        Self::new()
    }
}

/// What becomes of a datagram, and why.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Verdict {
    /// The one name under which this is counted and explained.
    pub outcome: Outcome,
    /// What to do.
    pub action: Action,
    /// What was found out and done about a NAT between us and the sender.
    pub nat: nat::Decision,
}

/// What to do with a datagram.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    /// Send the payload with [`Scratch::edits`] applied.
    Forward {
        /// Next hop on the SIP level.
        to: SocketAddr,
        /// The listener that it leaves from: mostly the one that the datagram arrived at.
        from: ListenerIndex,
        /// The backend that was chosen or that the flow token names, when the request goes to one.
        backend: Option<BackendIndex>,
        /// An INVITE without To tag (a call set-up; retransmissions look the same).
        initial_invite: bool,
        /// A request that its receiver has to answer: any but an ACK.
        wants_answer: bool,
    },
    /// Send [`Scratch::reply`] back to the address that the datagram came from, from the listener that it arrived at.
    Reply {
        /// That address. The port is the source port, but for a SIP request whose top Via has no `rport`: its reply goes
        /// to the port of sent-by (RFC 3261 §18.2.2), where a client that sends from another port listens.
        to: SocketAddr,
    },
    /// Send nothing yet: ask for [`Scratch::question`], and decide again when the answer is there.
    AwaitName,
    /// Send nothing: the datagram is not wanted.
    Drop,
    /// Send nothing: the datagram was for us and is dealt with (ACK to our own reply).
    Absorb,
}

impl Verdict {
    /// The verdict of an outcome that sends nothing.
    fn without_sending(outcome: Outcome) -> Self {
        let action = match (outcome, outcome.class()) {
            (Outcome::AwaitsName, _) => Action::AwaitName,
            (_, OutcomeClass::Absorb) => Action::Absorb,
            _ => Action::Drop,
        };
        Self {
            outcome,
            action,
            nat: nat::Decision::default(),
        }
    }
}

/// Decides what becomes of a datagram, and writes to `scratch` what goes with it.
///
/// The answer depends on the datagram, the table, the time and what the worker remembers, and the last two matter for limits
/// on calls and for strategies that go by turns alone: else nodes with the same secret and configuration agree to the
/// byte. Costs one scan of the header fields and a few keyed hashes; never allocates.
pub fn forward(table: &Table, datagram: &Datagram<'_>, scratch: &mut Scratch) -> Verdict {
    let mut reading = Reading::EMPTY;
    reading.read(table, datagram, &scratch.memory);
    decide(table, datagram, &mut reading, scratch)
}

/// The second half of [`forward`], for a datagram that `reading` has just read with this table.
#[inline]
pub fn decide(
    table: &Table,
    datagram: &Datagram<'_>,
    reading: &mut Reading,
    scratch: &mut Scratch,
) -> Verdict {
    scratch.clear();
    let source = SocketAddr::new(datagram.source.ip().to_canonical(), datagram.source.port());
    let datagram = Datagram {
        source,
        ..*datagram
    };
    let Some(listener) = table.listeners.get(usize::from(datagram.listener.0)) else {
        return Verdict::without_sending(Outcome::UnknownListener);
    };
    if table.is_listener(source) {
        return Verdict::without_sending(Outcome::ForgedSource);
    }
    if let Some(outcome) = keepalive::answer(datagram.payload, source, &mut scratch.reply) {
        return match outcome.class() {
            OutcomeClass::Reply => Verdict {
                outcome,
                action: Action::Reply { to: source },
                nat: nat::Decision::default(),
            },
            _ => Verdict::without_sending(outcome),
        };
    }
    if !reading.finish(datagram.payload) {
        return Verdict::without_sending(Outcome::NotSip);
    }
    let message = &reading.message;
    scratch.seen = Some(Seen::of(message, datagram.payload));
    match message.start_line {
        StartLine::Request { .. } => request::decide(table, listener, &datagram, reading, scratch),
        StartLine::Response { .. } => {
            response::decide(table, listener, &datagram, message, scratch)
        }
    }
}
