//! The first half of [`super::forward`]: what can be said of a datagram without deciding anything.

use super::{Datagram, Memory, Table, request::transaction_parts};
use crate::{
    balance::Key,
    sip::{self, Message, Method, StartLine},
    token::TransactionId,
};

/// A datagram as it was read. A worker reads the next one before it decides on this one: meanwhile what the next one needs comes into
/// the cache.
#[derive(Debug)]
pub struct Reading {
    /// What was read; of no use when the datagram is no SIP message.
    pub message: Message,
    is_sip: bool,
    is_tried: bool,
    pub(super) ahead: Ahead,
}

/// What of a request was worked out ahead, since it says where to look.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Ahead {
    /// The id of its transaction under the current secret.
    pub transaction: Option<TransactionId>,
    /// Where its call is remembered.
    pub call: Option<u64>,
    /// The slot of its Call-ID, in the lookup table of whichever pool.
    pub slot: Option<usize>,
}

impl Reading {
    /// Nothing read yet.
    pub const EMPTY: Self = Self {
        message: Message::EMPTY,
        is_sip: false,
        is_tried: false,
        ahead: Ahead {
            transaction: None,
            call: None,
            slot: None,
        },
    };

    /// Reads a datagram, and asks for what the table and the memory will be asked about it. Whatever was read before is forgotten.
    #[inline]
    pub fn read(&mut self, table: &Table, datagram: &Datagram<'_>, memory: &Memory) {
        let bytes = datagram.payload;
        self.ahead = Ahead::default();
        self.message = Message::EMPTY;
        (self.is_sip, self.is_tried) = (false, false);
        // What keeps a pinhole open begins with something else; a message with empty lines in front is read when it is decided on.
        if !matches!(bytes.first(), Some(b'!'..)) || !self.finish(bytes) {
            return;
        }
        let message = &self.message;
        let (StartLine::Request { method, uri, .. }, Some(via)) =
            (message.start_line, &message.via)
        else {
            return;
        };
        let parts = transaction_parts(bytes, message, uri, via);
        let transaction = table.keys.transaction_id(&parts);
        memory.pins.prefetch(transaction.number());
        self.ahead.transaction = Some(transaction);
        let opens_call = method == Method::Invite && message.to_tag().is_none();
        if opens_call {
            self.ahead.slot = table.slot_ahead(parts.call_id);
        }
        if opens_call || method == Method::Ack {
            let call = memory.hash(&Key::Call {
                call_id: parts.call_id,
                from_tag: parts.from_tag,
            });
            memory.pins.prefetch(call);
            self.ahead.call = Some(call);
        }
    }

    /// Reads the message if that was not done yet. False when it is none.
    #[inline(always)]
    pub(super) fn finish(&mut self, bytes: &[u8]) -> bool {
        if !self.is_tried {
            self.is_tried = true;
            self.is_sip = sip::read_into(bytes, &mut self.message).is_ok();
        }
        self.is_sip
    }
}
