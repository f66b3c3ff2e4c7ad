//! Weighted rendezvous over a table of slots: a key hashes to a slot, the slot belongs to the backend with the best
//! score there.
//!
//! A score depends on the slot and on that one backend alone. So losing a backend moves only its own slots, a changed
//! weight moves only the difference, and the order of the list does not matter.

use std::{hash::Hasher, net::SocketAddr};

use lb_common::prefetch::prefetch;
use siphasher::sip::SipHasher13;

use super::Key;

/// Slots in a table. With 1,024 backends of equal weight each still has 64 of them.
pub const SLOTS: usize = 1 << 16;

/// Which backend of a pool each slot belongs to.
#[derive(Clone)]
pub struct LookupTable {
    /// Positions in the pool's list of backends.
    slots: Box<[u16; SLOTS]>,
    /// Finds the slot of a key.
    keys: SipHasher13,
    fingerprint: u64,
}

impl LookupTable {
    /// Gives each slot to the candidate with the best score, or returns `None` when there is none.
    ///
    /// `key` is secret, so that nobody outside can find Call-IDs that all meet the same backend.
    pub fn new<'a>(
        key: [u8; 16],
        candidates: impl IntoIterator<Item = Candidate<'a>>,
    ) -> Option<Self> {
        let identity = subkey(key, b"backend identity");
        let mut candidates = candidates
            .into_iter()
            .map(|candidate| Racer {
                position: candidate.position,
                identity: identity
                    .hash(format!("{}\0{}", candidate.name, candidate.address).as_bytes()),
                weight: candidate.weight,
                // A little lower than it could be, to cover the rounding of a logarithm.
                bound: (1.0 - 1e-12) / candidate.weight,
            })
            .collect::<Vec<_>>();
        // The heaviest first: it finds good scores early, which spares the others their logarithm. Ties of score go
        // to the first, so the order must come from the candidates themselves.
        candidates.sort_by(|a, b| {
            b.weight
                .total_cmp(&a.weight)
                .then(a.identity.cmp(&b.identity))
        });
        if candidates.is_empty() {
            return None;
        }

        let mut winners = SipHasher13::new();
        let mut slots: Box<[u16; SLOTS]> = Box::new([0; SLOTS]);
        for (slot, place) in slots.iter_mut().enumerate() {
            let winner = best(slot as u64, &candidates);
            *place = winner.position;
            winners.write(&winner.identity.to_le_bytes());
        }
        Some(Self {
            slots,
            keys: subkey(key, b"slot of a key"),
            fingerprint: winners.finish(),
        })
    }

    /// Returns the slot that a key belongs to, less than [`SLOTS`].
    #[inline]
    pub fn slot(&self, key: &Key<'_>) -> usize {
        let hash = match key {
            // In one piece, which is faster.
            Key::Text(text) => self.keys.hash(text),
            key => {
                let mut hasher = self.keys;
                key.write(|piece| hasher.write(piece));
                hasher.finish()
            }
        };
        let slot = hash as usize % SLOTS;
        prefetch(&self.slots[slot]);
        slot
    }

    /// Returns the position, in the pool's list, of the backend that a slot belongs to. Slots repeat after [`SLOTS`].
    #[inline]
    pub fn backend(&self, slot: usize) -> usize {
        usize::from(self.slots[slot % SLOTS])
    }

    /// Counts the slots of each backend; `backends` is the length of the pool's list.
    pub fn shares(&self, backends: usize) -> Vec<u32> {
        let mut shares = vec![0; backends];
        for &position in self.slots.iter() {
            shares[usize::from(position)] += 1;
        }
        shares
    }

    /// A number that is equal on two nodes exactly when their tables send every key to the same backend (but for a
    /// chance of 2^-64): it covers secret, names, addresses and weights, not the order of the list.
    pub fn fingerprint(&self) -> u64 {
        self.fingerprint
    }
}

/// The key stays out of logs.
impl std::fmt::Debug for LookupTable {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "LookupTable({:016x})", self.fingerprint)
    }
}

/// A backend that gets a share of the slots.
#[derive(Clone, Copy, Debug)]
pub struct Candidate<'a> {
    position: u16,
    name: &'a str,
    address: SocketAddr,
    weight: f64,
}

impl<'a> Candidate<'a> {
    /// The backend at this position of a pool's list, which is recognised by its name and address. `weight` is more than 0.
    pub fn new(position: u16, name: &'a str, address: SocketAddr, weight: f64) -> Self {
        debug_assert!(weight > 0.0);
        Self {
            position,
            name,
            address,
            weight,
        }
    }
}

/// A candidate as the race for a slot needs it.
struct Racer {
    position: u16,
    /// Keyed hash of name and address: secret, so what is drawn from it is.
    identity: u64,
    weight: f64,
    /// See [`best`].
    bound: f64,
}

/// The candidate with the lowest `-ln(u) / weight`, where `u` in (0, 1) is drawn for slot and identity. That is an
/// exponential race: each wins with a probability proportional to its weight.
fn best(slot: u64, candidates: &[Racer]) -> &Racer {
    let mut best = &candidates[0];
    let mut lowest = f64::INFINITY;
    for candidate in candidates {
        // 52 bits and a half: exact in a double, never 0, never 1.
        let u = ((draw(candidate.identity, slot) >> 12) as f64 + 0.5) * (1.0 / (1u64 << 52) as f64);
        // -ln(u) is never below 1 - u, so most candidates lose without a logarithm.
        if (1.0 - u) * candidate.bound > lowest {
            continue;
        }
        // `libm` computes the same bits on every machine; the C library's logarithm need not.
        let score = -libm::log(u) / candidate.weight;
        if score < lowest {
            lowest = score;
            best = candidate;
        }
    }
    best
}

/// Number `slot` of the random sequence that begins at `seed`: SplitMix64 (Steele, Lea and Flood, "Fast splittable
/// pseudorandom number generators", 2014). A table needs one for each slot and backend, and this takes a tenth of the
/// time of a SipHash; the seeds are secret and far apart, so nobody outside can tell the difference.
fn draw(seed: u64, slot: u64) -> u64 {
    let z = seed.wrapping_add((slot + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15));
    let z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

/// A hasher for one purpose, so that no value made for one can stand in for another.
fn subkey(key: [u8; 16], purpose: &[u8]) -> SipHasher13 {
    let hasher = SipHasher13::new_with_key(&key);
    let half = |number: u8| hasher.hash(&[purpose, &[number]].concat());
    SipHasher13::new_with_keys(half(0), half(1))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;
    use crate::balance::{Backend, BackendIndex};

    const KEY: [u8; 16] = *b"0123456789abcdef";

    fn backends(weights: &[u16]) -> Vec<Backend> {
        weights
            .iter()
            .enumerate()
            .map(|(n, &weight)| {
                let address = SocketAddr::from(([10, 0, (n >> 8) as u8, n as u8], 5060));
                Backend::new(BackendIndex(n as u16), format!("sw{n}"), address, weight)
            })
            .collect()
    }

    fn table_of(key: [u8; 16], backends: &[Backend]) -> LookupTable {
        let weighty = backends
            .iter()
            .enumerate()
            .filter(|(_, backend)| backend.weight > 0);
        let candidates = weighty.map(|(position, backend)| {
            let weight = f64::from(backend.weight);
            Candidate::new(position as u16, &backend.name, backend.address, weight)
        });
        LookupTable::new(key, candidates).unwrap()
    }

    fn table(backends: &[Backend]) -> LookupTable {
        table_of(KEY, backends)
    }

    /// Who owns each slot, by name.
    fn owners(backends: &[Backend]) -> Vec<String> {
        let table = table(backends);
        (0..SLOTS)
            .map(|slot| backends[table.backend(slot)].name.clone())
            .collect()
    }

    #[test]
    fn keys_are_shared_by_weight() {
        let list = backends(&[5, 3, 2]);
        let table = table(&list);
        let mut calls = [0u32; 3];
        for call in 0..100_000 {
            let call_id = format!("{call:x}-call@192.0.2.7");
            calls[table.backend(table.slot(&Key::Text(call_id.as_bytes())))] += 1;
        }
        for (backend, calls) in list.iter().zip(calls) {
            let wanted = f64::from(backend.weight) / 10.0;
            let share = f64::from(calls) / 100_000.0;
            assert!(
                (share - wanted).abs() < 0.01,
                "{}: {share} of the calls, not {wanted}",
                backend.name
            );
        }
    }

    #[test]
    fn weight_zero_takes_no_slot_and_changes_nothing_for_the_others() {
        let with = backends(&[3, 0, 2]);
        let without = [with[0].clone(), with[2].clone()];
        assert_eq!(table(&with).shares(3)[1], 0);
        assert_eq!(owners(&with), owners(&without));
        assert_eq!(table(&with).fingerprint(), table(&without).fingerprint());
    }

    #[test]
    fn a_lost_backend_gives_away_its_own_slots_alone_and_by_weight() {
        let weights = [1, 2, 3, 4, 5, 6, 7, 8, 9, 10];
        let before = backends(&weights);
        let mut after = before.clone();
        let lost = after.remove(4);
        let mut inherited = BTreeMap::<String, u32>::new();
        let mut moved = 0;
        for (slot, (was, is)) in owners(&before).into_iter().zip(owners(&after)).enumerate() {
            if was == lost.name {
                *inherited.entry(is).or_default() += 1;
                moved += 1;
            } else {
                assert_eq!(
                    was, is,
                    "slot {slot} moved although its backend is still there"
                );
            }
        }
        assert!((f64::from(moved) / SLOTS as f64 - 5.0 / 55.0).abs() < 0.01);
        for heir in &after {
            let wanted = f64::from(heir.weight) / 50.0;
            let share = f64::from(inherited[&heir.name]) / f64::from(moved);
            assert!(
                (share - wanted).abs() < 0.02,
                "{} inherited {share}, not {wanted}",
                heir.name
            );
        }
    }

    #[test]
    fn a_changed_weight_moves_the_difference_alone() {
        let before = backends(&[4, 4, 4]);
        let mut after = before.clone();
        after[1].weight = 8;
        let mut moved = 0;
        for (was, is) in owners(&before).into_iter().zip(owners(&after)) {
            if was != is {
                assert_eq!(
                    is, "sw1",
                    "a slot moved between backends whose weight stayed"
                );
                moved += 1;
            }
        }
        // From 4 of 12 to 8 of 16: one slot in six.
        assert!(
            (f64::from(moved) / SLOTS as f64 - 1.0 / 6.0).abs() < 0.01,
            "{moved}"
        );
    }

    #[test]
    fn the_order_of_the_list_does_not_matter() {
        let list = backends(&[1, 7, 7, 2, 60_000, 3]);
        let reversed = list.iter().rev().cloned().collect::<Vec<_>>();
        assert_eq!(owners(&list), owners(&reversed));
        assert_eq!(table(&list).fingerprint(), table(&reversed).fingerprint());
    }

    #[test]
    fn secret_name_address_and_weight_all_change_the_fingerprint() {
        let list = backends(&[1, 1]);
        let fingerprint = table(&list).fingerprint();
        let changed = |change: fn(&mut Backend)| {
            let mut list = list.clone();
            change(&mut list[1]);
            table(&list).fingerprint()
        };
        assert_ne!(changed(|b| b.name = "sw9".into()), fingerprint);
        assert_ne!(changed(|b| b.address.set_port(5061)), fingerprint);
        assert_ne!(changed(|b| b.weight = 2), fingerprint);
        assert_ne!(table_of([1; 16], &list).fingerprint(), fingerprint);
    }

    /// The values were computed by another program (Python, its own SipHash and logarithm). If they change, nodes of
    /// two versions no longer agree and calls move during an upgrade.
    #[test]
    fn golden_vectors() {
        let list = backends(&[5, 3, 2]);
        let table = table(&list);
        let call_ids: [(&[u8], usize, usize); 4] = [
            (b"", 20802, 1),
            (b"a84b4c76e66710@pc33.atlanta.example.com", 39574, 0),
            (b"f81d4fae-7dec-11d0-a765-00a0c91e6bf6@192.0.2.1", 14528, 2),
            (b"\xff\x00\r\n", 53351, 0),
        ];
        for (call_id, slot, backend) in call_ids {
            assert_eq!(
                (
                    table.slot(&Key::Text(call_id)),
                    table.backend(table.slot(&Key::Text(call_id)))
                ),
                (slot, backend),
                "{}",
                call_id.escape_ascii()
            );
        }
        assert_eq!(table.shares(3), [32781, 19654, 13101]);
        assert_eq!(
            (0..32).map(|slot| table.backend(slot)).collect::<Vec<_>>(),
            [
                0, 0, 0, 0, 2, 1, 0, 1, 1, 2, 0, 1, 0, 1, 0, 1, 1, 0, 1, 1, 0, 0, 1, 1, 0, 0, 1, 2,
                1, 0, 0, 2
            ]
        );
    }

    #[test]
    fn keys_in_pieces_hash_as_their_text() {
        let table = table(&backends(&[1]));
        let uri = Key::Uri {
            user: b"bob",
            host: b"Example.com",
            port: Some(5080),
        };
        assert_eq!(
            table.slot(&uri),
            table.slot(&Key::Text(b"bob@example.com:5080"))
        );
        assert_eq!(table.slot(&uri), table.slot(&Key::Text(&uri.to_vec())));
    }

    /// Straight from the definition: every backend gets its logarithm, the lowest wins.
    fn naive_owner(list: &[Backend], slot: u64) -> String {
        let purpose = |purpose: &[u8]| {
            let half = |n: u8| naive_siphash13(KEY, &[purpose, &[n]].concat()).to_le_bytes();
            let mut key = [0; 16];
            key[..8].copy_from_slice(&half(0));
            key[8..].copy_from_slice(&half(1));
            key
        };
        let score = |backend: &Backend| {
            let identity = naive_siphash13(
                purpose(b"backend identity"),
                format!("{}\0{}", backend.name, backend.address).as_bytes(),
            );
            let mut state = identity.wrapping_add(slot.wrapping_mul(0x9e37_79b9_7f4a_7c15));
            let hash = naive_splitmix64(&mut state);
            -(((hash >> 12) as f64 + 0.5) / 2f64.powi(52)).ln() / f64::from(backend.weight)
        };
        list.iter()
            .filter(|backend| backend.weight > 0)
            .min_by(|a, b| score(a).total_cmp(&score(b)))
            .unwrap()
            .name
            .clone()
    }

    /// The generator of the paper, a step at a time.
    fn naive_splitmix64(state: &mut u64) -> u64 {
        *state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = *state;
        z ^= z >> 30;
        z = z.wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z ^= z >> 27;
        z = z.wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^= z >> 31;
        z
    }

    #[test]
    fn draws_are_those_of_splitmix64() {
        // The values that the authors' own code gives for the seed 1234567.
        let wanted = [
            6457827717110365317,
            3203168211198807973,
            9817491932198370423,
            4593380528125082431,
        ];
        for (slot, number) in wanted.into_iter().enumerate() {
            assert_eq!(draw(1_234_567, slot as u64), number);
        }
    }

    /// SipHash-1-3 as its authors describe it.
    fn naive_siphash13(key: [u8; 16], input: &[u8]) -> u64 {
        let word = |bytes: &[u8]| u64::from_le_bytes(bytes.try_into().unwrap());
        let (k0, k1) = (word(&key[..8]), word(&key[8..]));
        let mut v = [
            k0 ^ 0x736f_6d65_7073_6575,
            k1 ^ 0x646f_7261_6e64_6f6d,
            k0 ^ 0x6c79_6765_6e65_7261,
            k1 ^ 0x7465_6462_7974_6573,
        ];
        let round = |v: &mut [u64; 4]| {
            v[0] = v[0].wrapping_add(v[1]);
            v[1] = v[1].rotate_left(13) ^ v[0];
            v[0] = v[0].rotate_left(32);
            v[2] = v[2].wrapping_add(v[3]);
            v[3] = v[3].rotate_left(16) ^ v[2];
            v[0] = v[0].wrapping_add(v[3]);
            v[3] = v[3].rotate_left(21) ^ v[0];
            v[2] = v[2].wrapping_add(v[1]);
            v[1] = v[1].rotate_left(17) ^ v[2];
            v[2] = v[2].rotate_left(32);
        };
        let mut padded = input.to_vec();
        padded.resize(input.len() / 8 * 8 + 7, 0);
        padded.push(input.len() as u8);
        for block in padded.chunks(8) {
            v[3] ^= word(block);
            round(&mut v);
            v[0] ^= word(block);
        }
        v[2] ^= 0xff;
        for _ in 0..3 {
            round(&mut v);
        }
        v[0] ^ v[1] ^ v[2] ^ v[3]
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(16))]
        #[test]
        fn agrees_with_the_naive_version(
            weights in prop::collection::vec(prop_oneof![0u16..5, any::<u16>()], 1..20),
            slots in prop::collection::vec(0..SLOTS, 50),
        ) {
            let list = backends(&weights);
            prop_assume!(weights.iter().any(|&weight| weight > 0));
            let table = table(&list);
            for slot in slots {
                prop_assert_eq!(&list[table.backend(slot)].name, &naive_owner(&list, slot as u64));
            }
        }
    }
}
