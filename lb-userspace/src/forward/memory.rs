//! What a worker remembers from one datagram to the next. Hints, all of them, and of fixed size: whatever is missing here,
//! a request still goes where the table says.

use std::{hash::Hasher, net::IpAddr};

use siphasher::sip::SipHasher13;

use super::attempts::Suspects;
use crate::balance::{Key, Pins, Turns};

/// Sources that refusals are counted for, at most. A power of two.
const SOURCES: usize = 1024;
/// Over which time they are counted.
const PUSHING_NS: u64 = 10_000_000_000;
/// Pins of a memory that nobody gave another size.
const DEFAULT_PINS: usize = 1024;

/// Room for a key of usual length: hashing it in one piece costs half of hashing the pieces.
const GATHERED: usize = 192;

/// The same hash of a key that is longer.
#[cold]
fn long_hash(mut hasher: SipHasher13, key: &Key<'_>) -> u64 {
    key.write(|piece| hasher.write(piece));
    hasher.finish()
}

/// What a worker remembers.
#[derive(Debug)]
pub struct Memory {
    /// Where transactions and calls went.
    pub pins: Pins,
    /// Whose turn it is.
    pub(super) turns: Turns,
    sources: Box<[Refused; SOURCES]>,
    /// Finds the places of calls and sources.
    key: [u8; 16],
    /// Addresses outside that did not answer lately.
    pub(super) suspects: Suspects,
}

/// How often a source was refused lately.
#[derive(Clone, Copy, Debug)]
struct Refused {
    source: u64,
    since_ns: u64,
    calls: u32,
}

impl Memory {
    /// With room for this many pins, 16 bytes each, and a key that everybody knows.
    pub fn new(pins: usize) -> Self {
        const NOBODY: Refused = Refused {
            source: 0,
            since_ns: 0,
            calls: 0,
        };
        Self {
            pins: Pins::new(pins),
            turns: Turns::default(),
            sources: Box::new([NOBODY; SOURCES]),
            suspects: Suspects::default(),
            key: [0; 16],
        }
    }

    /// The same with a secret key, so that nobody outside can choose which places are used. It belongs to the memory and not to the
    /// fleet: what is remembered outlives the fleet's secret.
    pub fn with_key(self, key: [u8; 16]) -> Self {
        Self { key, ..self }
    }

    pub(super) fn hash(&self, key: &Key<'_>) -> u64 {
        let hasher = SipHasher13::new_with_key(&self.key);
        let mut gathered = [0; GATHERED];
        let mut len = 0;
        let mut fits = true;
        key.write(|piece| {
            match gathered.get_mut(len..len + piece.len()) {
                Some(room) => room.copy_from_slice(piece),
                None => fits = false,
            }
            len += piece.len();
        });
        match fits {
            true => hasher.hash(&gathered[..len]),
            false => long_hash(hasher, key),
        }
    }

    /// Counts a call of a source that is refused; `key` is a keyed hash of its address. True when it has been refused more than
    /// `most` times within ten seconds, or did so in the ten seconds before and has not stopped since: it gets no answer
    /// any more.
    ///
    /// Two sources that share a place count as new ones whenever they take turns.
    pub(super) fn must_be_silent(&mut self, key: u64, most: u32, now_ns: u64) -> bool {
        if most == 0 {
            return false;
        }
        let place = &mut self.sources[key as usize % SOURCES];
        let age = now_ns.saturating_sub(place.since_ns);
        if place.source != key || age >= PUSHING_NS {
            let goes_on = place.source == key && place.calls > most && age < 2 * PUSHING_NS;
            *place = Refused {
                source: key,
                since_ns: now_ns,
                calls: if goes_on { most } else { 0 },
            };
        }
        place.calls = place.calls.saturating_add(1);
        place.calls > most
    }
}

impl Default for Memory {
    fn default() -> Self {
        Self::new(DEFAULT_PINS)
    }
}

/// The bytes that a source is recognised by: those of an IPv6 address stand for its network of 64 bits, of which one host has
/// all addresses.
pub(super) fn source_bytes(address: IpAddr) -> [u8; 8] {
    match address {
        IpAddr::V4(address) => {
            let [a, b, c, d] = address.octets();
            [4, 0, 0, 0, a, b, c, d]
        }
        IpAddr::V6(address) => {
            let octets = address.octets();
            let mut network = [0; 8];
            network.copy_from_slice(&octets[..8]);
            network
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: u64 = 1_000_000_000;

    #[test]
    fn who_keeps_pushing_gets_no_answer() {
        let mut memory = Memory::default();
        let start = 100 * SECOND;
        let mut silent = |key, seconds| memory.must_be_silent(key, 3, start + seconds * SECOND);
        assert!(![0, 1, 2].map(|at| silent(7, at)).contains(&true));
        assert!(silent(7, 3));
        assert!(!silent(8, 3), "another source");
        assert!(silent(7, 9));
        assert!(silent(7, 11), "it went on all the time");
        assert!(silent(7, 20));
        assert!(!silent(7, 45), "it has stopped");
        assert!(!silent(7, 46));
    }

    #[test]
    fn refusals_now_and_then_are_answered() {
        let mut memory = Memory::default();
        assert!((0..100).all(|nth| !memory.must_be_silent(7, 3, nth * 4 * SECOND)));
        assert!(
            (0..100).all(|_| !memory.must_be_silent(7, 0, 5)),
            "never with 0"
        );
    }

    #[test]
    fn ipv6_sources_count_by_network() {
        let bytes = |text: &str| source_bytes(text.parse().unwrap());
        assert_eq!(bytes("2001:db8:1:2::7"), bytes("2001:db8:1:2:3::8"));
        assert_ne!(bytes("2001:db8:1:2::7"), bytes("2001:db8:1:3::7"));
        assert_ne!(bytes("192.0.2.1"), bytes("192.0.2.2"));
    }
}
