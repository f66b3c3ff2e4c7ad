//! Which of the addresses of a name a request goes to, and when its retransmission goes to the next one.
//!
//! A stateless proxy hears of no timeout (RFC 3263 §4.3): what it sees is that the same request comes again. The order of the
//! addresses follows from the transaction, so that a retransmission and a CANCEL find the same one on any node; how often
//! it came, and who did not answer lately, a worker remembers as a hint.

use std::{
    hash::Hasher,
    net::{IpAddr, SocketAddr},
};

use siphasher::sip::SipHasher13;

use super::Memory;
use crate::{
    balance::{Lifetime, Of, Pinned},
    names::Targets,
    token::TransactionId,
};

/// How often a request goes to one address. The first retransmission (500 ms, RFC 3261 §17.1.1.2) still does: it may be the
/// answer that was lost, and two servers with one call ring twice. The second one comes after 1.5 s.
const SENDS: u8 = 2;
/// How long an address that did not answer is left to others.
const SUSPECT_NS: u64 = 30_000_000_000;
/// Addresses that are remembered as such. A power of two.
const SUSPECTS: usize = 64;
/// Turns the key of a transaction into that of its attempts.
pub(super) const ATTEMPTS: u64 = 0x4174_7465_6d70_7473;

/// Addresses that did not answer lately.
#[derive(Debug)]
pub(super) struct Suspects([(u64, u64); SUSPECTS]);

impl Default for Suspects {
    fn default() -> Self {
        Self([(0, 0); SUSPECTS])
    }
}

impl Suspects {
    fn contains(&self, address: SocketAddr, now_ns: u64) -> bool {
        let key = key_of(address);
        let (suspect, until_ns) = self.0[key as usize % SUSPECTS];
        suspect == key && now_ns < until_ns
    }

    fn add(&mut self, address: SocketAddr, now_ns: u64) {
        let key = key_of(address);
        self.0[key as usize % SUSPECTS] = (key, now_ns.saturating_add(SUSPECT_NS));
    }

    fn remove(&mut self, address: SocketAddr) {
        let key = key_of(address);
        let place = &mut self.0[key as usize % SUSPECTS];
        if place.0 == key {
            *place = (0, 0);
        }
    }
}

/// Who can choose these addresses can at worst have one of them forgotten.
fn key_of(address: SocketAddr) -> u64 {
    let mut hasher = SipHasher13::new();
    match address.ip() {
        IpAddr::V4(address) => hasher.write(&address.octets()),
        IpAddr::V6(address) => hasher.write(&address.octets()),
    }
    hasher.write_u16(address.port());
    hasher.finish() | 1
}

/// How far a request has come, as a pin keeps it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Attempt {
    /// Which address, in the order of the transaction.
    nth: u8,
    /// How often it was sent there; [`ANSWERED`] when something came back.
    sends: u8,
}

const ANSWERED: u8 = u8::MAX;

impl Attempt {
    fn pinned(self) -> Pinned {
        Pinned::Tried(u16::from_be_bytes([self.nth, self.sends]))
    }

    fn of(pinned: Option<Pinned>) -> Option<Self> {
        match pinned {
            Some(Pinned::Tried(value)) => {
                let [nth, sends] = value.to_be_bytes();
                Some(Self { nth, sends })
            }
            _ => None,
        }
    }
}

impl Memory {
    /// The address that a request goes to this time. `follows` says that it belongs to an INVITE that went before it: CANCEL
    /// and ACK are no retransmissions.
    pub(super) fn attempt(
        &mut self,
        targets: &Targets,
        transaction: TransactionId,
        follows: bool,
        now_ns: u64,
    ) -> Option<SocketAddr> {
        let seed = transaction.number();
        let key = seed ^ ATTEMPTS;
        let before = Attempt::of(self.pins.get(key, now_ns));
        let attempt = match before {
            Some(attempt) if follows || attempt.sends == ANSWERED => attempt,
            Some(attempt) if attempt.sends < SENDS => Attempt {
                sends: attempt.sends + 1,
                ..attempt
            },
            Some(Attempt { nth, .. }) => {
                if let Some(silent) = targets.nth(seed, usize::from(nth)) {
                    self.suspects.add(silent, now_ns);
                }
                self.first_attempt(targets, seed, usize::from(nth) + 1, now_ns)
            }
            None => self.first_attempt(targets, seed, 0, now_ns),
        };
        // Of an INVITE that went through another node there is nothing to remember, its secret least of all.
        let is_strange = follows && before.is_none();
        if before != Some(attempt) && !is_strange {
            self.remember(key, attempt, now_ns);
        }
        targets
            .nth(seed, usize::from(attempt.nth))
            .or_else(|| targets.nth(seed, 0))
    }

    /// Something came back from `address`, to a request of this transaction.
    pub(super) fn is_heard(
        &mut self,
        transaction: TransactionId,
        address: SocketAddr,
        now_ns: u64,
    ) {
        let key = transaction.number() ^ ATTEMPTS;
        if let Some(attempt) = Attempt::of(self.pins.get(key, now_ns)) {
            self.suspects.remove(address);
            let answered = Attempt {
                sends: ANSWERED,
                ..attempt
            };
            self.remember(key, answered, now_ns);
        }
    }

    fn remember(&mut self, key: u64, attempt: Attempt, now_ns: u64) {
        let pinned = attempt.pinned();
        self.pins
            .put(key, Of::Invite, pinned, Lifetime::Ringing, now_ns);
    }

    /// The first address from the one at `start` on, round about, that nobody complains of; that one itself when there is none.
    fn first_attempt(&self, targets: &Targets, seed: u64, start: usize, now_ns: u64) -> Attempt {
        let count = targets.len().max(1);
        let places = (0..count).map(|step| (start + step) % count);
        let good = places.clone().find(|&place| {
            let address = targets.nth(seed, place);
            address.is_some_and(|address| !self.suspects.contains(address, now_ns))
        });
        Attempt {
            nth: good.unwrap_or(start % count) as u8,
            sends: 1,
        }
    }
}
