//! The secret changes while transactions are on their way.
//!
//! What begins under one secret is finished under it: a server knows CANCEL, the ACK to a refusal and retransmissions by the branch
//! that it has seen. Which transactions have begun a worker remembers, as a hint. The decision is the same as ever; only the keys
//! that it writes with are those from before, so a retransmission is the same to the byte.

use super::{Memory, Table, attempts::ATTEMPTS, request::Request};
use crate::{
    balance::{Lifetime, Of, Pinned},
    sip::{Method, Via},
    token::{Keys, Signer, TransactionId},
};

/// Turns the key of a transaction into the one that says that it has begun. No low bit, so that both lie in one cache line.
const BEGUN: u64 = 1 << 62;

impl Memory {
    fn has_begun(&mut self, transaction: TransactionId, now_ns: u64) -> bool {
        let key = transaction.number();
        [key, key ^ BEGUN, key ^ ATTEMPTS]
            .into_iter()
            .any(|key| self.pins.get(key, now_ns).is_some())
    }

    fn begins(&mut self, transaction: TransactionId, lifetime: Lifetime, now_ns: u64) {
        let key = transaction.number() ^ BEGUN;
        self.pins
            .put(key, Of::Invite, Pinned::Tried(0), lifetime, now_ns);
    }
}

impl Table {
    /// The keys with that secret signing.
    pub(super) fn keys_of(&self, signer: Signer) -> &Keys {
        match (signer, &self.swapped_keys) {
            (Signer::Previous, Some(keys)) => keys,
            _ => &self.keys,
        }
    }
}

impl Request<'_> {
    /// The id of the request's transaction. Where that has begun under the previous secret, the request goes on with it.
    ///
    /// Costs one more keyed hash, and a look into memory, while there are two secrets.
    pub fn recall(&mut self, via: &Via, memory: &mut Memory, now_ns: u64) -> TransactionId {
        let parts = self.transaction(via);
        let keys = &self.table.keys;
        match keys.previous_transaction_id(&parts) {
            Some(before) if memory.has_begun(before, now_ns) => {
                self.signer = Signer::Previous;
                before
            }
            _ => self
                .ahead
                .transaction
                .unwrap_or_else(|| keys.transaction_id(&parts)),
        }
    }

    /// Remembers a transaction that goes on, while there are two secrets: those of calls are remembered anyway.
    pub fn remember(&self, transaction: TransactionId, memory: &mut Memory, now_ns: u64) {
        if self.table.swapped_keys.is_none() || self.opens_call() {
            return;
        }
        let lifetime = match self.method {
            Method::Ack | Method::Cancel => return,
            Method::Invite => Lifetime::Ringing,
            _ => Lifetime::Transaction,
        };
        memory.begins(transaction, lifetime, now_ns);
    }

    /// The keys that the request is written with.
    pub fn keys(&self) -> &Keys {
        self.table.keys_of(self.signer)
    }
}
