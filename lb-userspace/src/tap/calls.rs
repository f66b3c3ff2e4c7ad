//! Calls that a filter has matched once, so that the rest of them is shown as well.

use std::{
    hash::{BuildHasher, RandomState},
    sync::atomic::{AtomicU64, Ordering::Relaxed},
};

use siphasher::sip::SipHasher13;

/// Calls that are remembered, about. Further ones take the places of others.
const PLACES: usize = 4096;
/// Places that a call can be in.
const WAYS: usize = 4;

/// Hashes of Call-IDs, shared by all workers: a call whose messages come in by several queues is remembered by all of them. Reads
/// and writes are relaxed, for nothing else follows from them.
#[derive(Debug)]
pub(super) struct Calls {
    places: Box<[AtomicU64]>,
    /// Nobody outside can choose which place a call takes.
    key: (u64, u64),
}

impl Calls {
    pub fn new() -> Self {
        let random = || RandomState::new().hash_one(0);
        Self {
            places: (0..PLACES).map(|_| AtomicU64::new(0)).collect(),
            key: (random(), random()),
        }
    }

    /// What a Call-ID is known by; never 0.
    pub fn hash(&self, call_id: &[u8]) -> u64 {
        SipHasher13::new_with_keys(self.key.0, self.key.1)
            .hash(call_id)
            .max(1)
    }

    pub fn knows(&self, hash: u64) -> bool {
        self.places_of(hash)
            .iter()
            .any(|place| place.load(Relaxed) == hash)
    }

    pub fn remember(&self, hash: u64) {
        let places = self.places_of(hash);
        if self.knows(hash) {
            return;
        }
        let free = places.iter().find(|place| place.load(Relaxed) == 0);
        let place = free.unwrap_or(&places[(hash >> 32) as usize % WAYS]);
        place.store(hash, Relaxed);
    }

    fn places_of(&self, hash: u64) -> &[AtomicU64] {
        let first = hash as usize % (PLACES / WAYS) * WAYS;
        &self.places[first..first + WAYS]
    }
}
