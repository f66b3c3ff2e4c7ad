//! One message as it came and as it left, and what was decided in between.

use std::net::{Ipv4Addr, SocketAddr};

use crate::{
    balance::BackendIndex,
    forward::{Edits, ListenerIndex, Outcome},
    nat,
    validate::Reason,
};

/// Most bytes that are copied of a message: the larger size of a UMEM chunk. The record says how many there were.
pub const MESSAGE_MAX: usize = 4096;

/// How a datagram came in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Way {
    /// By AF_XDP.
    AfXdp,
    /// By a socket of the kernel.
    Kernel,
    /// It has waited in the worker for the name servers. How it came was recorded then.
    Waited,
}

impl Way {
    /// The name in output.
    pub const fn name(self) -> &'static str {
        match self {
            Self::AfXdp => "af-xdp",
            Self::Kernel => "kernel",
            Self::Waited => "waited",
        }
    }
}

/// A datagram that left.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sent {
    /// The listener that it left from.
    pub from: SocketAddr,
    /// Where it went.
    pub to: SocketAddr,
    /// Bytes that it had.
    pub len: usize,
    kept: usize,
}

/// A record on its way between worker and reader: only the pointer moves.
pub(super) type Slot = Box<Record>;

/// One decision of a worker. Made once, filled again and again.
#[derive(Clone, Debug)]
pub struct Record {
    /// When the worker began the batch, on the clock of [`crate::sys::thread::monotonic_ns`].
    pub at_ns: u64,
    /// Which worker.
    pub worker: usize,
    /// How it came in.
    pub way: Way,
    /// Where it came from.
    pub source: SocketAddr,
    /// The listener that it came to.
    pub listener: ListenerIndex,
    /// Address of that listener.
    pub destination: SocketAddr,
    /// The backend that it came from.
    pub source_backend: Option<BackendIndex>,
    /// What became of it.
    pub outcome: Outcome,
    /// Why it is not well-formed, if that was looked at.
    pub invalid: Option<Reason>,
    /// What was found out about a NAT.
    pub nat: nat::Decision,
    /// What was sent.
    pub sent: Option<Sent>,
    /// The backend that it was sent to.
    pub backend: Option<BackendIndex>,
    /// A reply was not sent because the checksum of the request was wrong.
    pub is_spoilt: bool,
    /// Equal for all messages of a call, whatever its Call-ID looks like on either side; 0 without a Call-ID.
    pub call: u64,
    /// Bytes that it had when it came.
    pub received_len: usize,
    received_kept: usize,
    /// As it came, then as it left.
    bytes: Box<[[u8; MESSAGE_MAX]; 2]>,
}

impl Record {
    pub(super) fn new() -> Self {
        let nowhere = SocketAddr::from((Ipv4Addr::UNSPECIFIED, 0));
        let bytes = vec![[0; MESSAGE_MAX]; 2].into_boxed_slice();
        Self {
            at_ns: 0,
            worker: 0,
            way: Way::AfXdp,
            source: nowhere,
            listener: ListenerIndex(0),
            destination: nowhere,
            source_backend: None,
            outcome: Outcome::Empty,
            invalid: None,
            nat: nat::Decision::default(),
            sent: None,
            backend: None,
            is_spoilt: false,
            call: 0,
            received_len: 0,
            received_kept: 0,
            bytes: bytes.try_into().expect("two messages"),
        }
    }

    /// The datagram as it came, as far as it was copied.
    pub fn received(&self) -> &[u8] {
        &self.bytes[0][..self.received_kept]
    }

    /// The datagram as it left, as far as it was copied.
    pub fn sent_bytes(&self) -> &[u8] {
        match self.sent {
            Some(sent) => &self.bytes[1][..sent.kept],
            None => &[],
        }
    }

    pub(super) fn put_received(&mut self, payload: &[u8]) {
        self.received_len = payload.len();
        self.received_kept = payload.len().min(MESSAGE_MAX);
        self.bytes[0][..self.received_kept].copy_from_slice(&payload[..self.received_kept]);
    }

    /// What was forwarded: the payload with its edits.
    pub(super) fn put_edited(
        &mut self,
        from: SocketAddr,
        to: SocketAddr,
        payload: &[u8],
        edits: &Edits,
    ) {
        let room = &mut self.bytes[1];
        let mut kept = 0;
        let mut put = |bytes: &[u8]| {
            let fits = bytes.len().min(room.len() - kept);
            room[kept..kept + fits].copy_from_slice(&bytes[..fits]);
            kept += fits;
        };
        let mut taken = 0;
        for (offset, removed, inserted) in edits.iter() {
            put(payload.get(taken..offset).unwrap_or_default());
            put(inserted);
            taken = offset + removed;
        }
        put(payload.get(taken..).unwrap_or_default());
        self.sent = Some(Sent {
            from,
            to,
            len: edits.output_len(payload.len()),
            kept,
        });
    }

    /// What was sent that we have made ourselves.
    pub(super) fn put_reply(&mut self, from: SocketAddr, to: SocketAddr, reply: &[u8]) {
        let kept = reply.len().min(MESSAGE_MAX);
        self.bytes[1][..kept].copy_from_slice(&reply[..kept]);
        self.sent = Some(Sent {
            from,
            to,
            len: reply.len(),
            kept,
        });
    }
}
