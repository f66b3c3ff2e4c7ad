//! What a worker remembers of transactions and calls in set-up: a hint, of fixed size.
//!
//! A pin keeps together what the strategy alone cannot: retransmissions, CANCEL and ACK with their INVITE under strategies
//! that do not choose by a hash, and any of them while the lookup table changes. A pin that is missing (another
//! node, a restart, a flood that took its place) sends the message where the lookup table does.

use std::ops::Range;

use lb_common::prefetch::prefetch;

use super::BackendIndex;

/// Pins that share a cache line: a key has these places and no others.
const WAYS: usize = 4;
/// A tick of the clock that pins age by, as a power of two of nanoseconds: 67 ms. 32 bits of them are nine years.
const TICK_SHIFT: u32 = 26;
/// How long a transaction may be silent before it is over: 64 times T1, and some (RFC 3261 §17).
const TRANSACTION_TICKS: u32 = ticks(33);
/// The same for an INVITE that has no final response yet: Timer C, which proxies give up at, and some (§16.6 item 11).
const RINGING_TICKS: u32 = ticks(200);
/// Bytes of a huge page (x86-64, and aarch64 with pages of 4096 bytes).
const HUGE_PAGE: usize = 2 << 20;
/// The sets in one.
const HUGE_PAGE_SETS: usize = HUGE_PAGE / size_of::<Set>();
/// Least pins that a table has.
const MIN_PINS: usize = 64;

const fn ticks(seconds: u64) -> u32 {
    ((seconds * 1_000_000_000) >> TICK_SHIFT) as u32
}

/// What was decided.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pinned {
    /// It goes to this backend.
    Backend(BackendIndex),
    /// It is refused; the number says why, to whoever put it there.
    Refused(u16),
    /// It goes to one of several addresses; the number says which, to whoever put it there.
    Tried(u16),
}

/// What a pin is of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Of {
    /// A transaction that is no INVITE, or a call in set-up: whoever waits for a backend to be drained waits for it.
    Something,
    /// The INVITE of a call that has a pin itself, and is waited for by that.
    Invite,
}

/// How long a pin lasts when nothing more is heard.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Lifetime {
    /// As long as a transaction may be silent: 33 s.
    Transaction,
    /// As long as a call may ring: 200 s.
    Ringing,
}

/// A bounded table of pins by 64-bit keys, which must be keyed hashes: nobody outside can choose who shares a place.
#[derive(Debug)]
pub struct Pins {
    /// With room to begin at a huge page.
    memory: Box<[Set]>,
    /// Where in it the sets begin.
    first: usize,
    /// How many sets there are, a power of two.
    sets: usize,
    /// Next set that [`Pins::sweep`] looks at.
    swept: usize,
}

#[derive(Clone, Copy, Debug)]
#[repr(align(64))]
struct Set([Pin; WAYS]);

#[derive(Clone, Copy, Debug)]
struct Pin {
    /// 0 when there is none.
    key: u64,
    /// When it is over, in ticks.
    until: u32,
    /// Backend, or what the number of another [`Pinned`] is.
    value: u16,
    kind: Kind,
    is_counted: bool,
}

/// Which [`Pinned`] a pin is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Backend,
    Refused,
    Tried,
}

impl Pin {
    const NONE: Self = Self {
        key: 0,
        until: 0,
        value: 0,
        kind: Kind::Backend,
        is_counted: false,
    };

    fn pinned(&self) -> Pinned {
        match self.kind {
            Kind::Backend => Pinned::Backend(BackendIndex(self.value)),
            Kind::Refused => Pinned::Refused(self.value),
            Kind::Tried => Pinned::Tried(self.value),
        }
    }
}

fn tick(now_ns: u64) -> u32 {
    (now_ns >> TICK_SHIFT) as u32
}

impl Lifetime {
    fn ticks(self) -> u32 {
        match self {
            Self::Transaction => TRANSACTION_TICKS,
            Self::Ringing => RINGING_TICKS,
        }
    }
}

impl Pins {
    /// Takes all memory that it will ever need: 16 bytes a pin, for `pins` of them or up to twice as many.
    pub fn new(pins: usize) -> Self {
        let sets = pins.max(MIN_PINS).div_ceil(WAYS).next_power_of_two();
        let spare = match sets >= HUGE_PAGE_SETS {
            true => HUGE_PAGE_SETS,
            false => 0,
        };
        let memory = vec![Set([Pin::NONE; WAYS]); sets + spare].into_boxed_slice();
        let first = memory.as_ptr().align_offset(HUGE_PAGE);
        Self {
            first: first.min(spare),
            memory,
            sets,
            swept: 0,
        }
    }

    /// Room for this many.
    pub fn capacity(&self) -> usize {
        self.sets * WAYS
    }

    /// Where it is. A large one begins at the border of a huge page and is a whole number of them.
    pub fn memory(&self) -> Range<*const u8> {
        let Range { start, end } = self.memory[self.places()].as_ptr_range();
        start.cast()..end.cast()
    }

    /// The sets in the memory.
    fn places(&self) -> Range<usize> {
        self.first..self.first + self.sets
    }

    /// Forgets everything.
    pub fn clear(&mut self) {
        self.memory.fill(Set([Pin::NONE; WAYS]));
        self.swept = 0;
    }

    /// Loads the places of a key that will be asked for soon. They are in no cache: a table is larger than all of them, and
    /// keys are spread all over it.
    #[inline]
    pub fn prefetch(&self, key: u64) {
        prefetch(&self.memory[self.index(key)]);
    }

    /// What was decided for this key, if it is not over.
    #[inline]
    pub fn get(&mut self, key: u64, now_ns: u64) -> Option<Pinned> {
        let now = tick(now_ns);
        let pin = self.find(key)?;
        (pin.until >= now).then(|| pin.pinned())
    }

    /// Decides for a key. Where all its places are taken, the pin goes that is over first.
    #[inline]
    pub fn put(&mut self, key: u64, of: Of, pinned: Pinned, lifetime: Lifetime, now_ns: u64) {
        let (value, kind) = match pinned {
            Pinned::Backend(backend) => (backend.0, Kind::Backend),
            Pinned::Refused(reason) => (reason, Kind::Refused),
            Pinned::Tried(which) => (which, Kind::Tried),
        };
        let pin = Pin {
            key: nonzero(key),
            until: tick(now_ns).saturating_add(lifetime.ticks()),
            value,
            kind,
            is_counted: of == Of::Something,
        };
        let Set(ways) = self.set(key);
        let place = match ways.iter().position(|way| way.key == pin.key) {
            Some(same) => same,
            // An empty one has been over since the beginning.
            None => {
                let mut oldest = 0;
                for way in 1..WAYS {
                    if ways[way].until < ways[oldest].until {
                        oldest = way;
                    }
                }
                oldest
            }
        };
        ways[place] = pin;
    }

    /// Gives a pin that is there another lifetime, from now on.
    #[inline]
    pub fn touch(&mut self, key: u64, lifetime: Lifetime, now_ns: u64) {
        let until = tick(now_ns).saturating_add(lifetime.ticks());
        if let Some(pin) = self.find(key) {
            pin.until = until;
        }
    }

    /// Looks at up to `pins` more of the table, takes out what is over, and counts what leads to a backend in
    /// `counts`, by [`BackendIndex`]. True when the end of the table was reached: the counts are of all of it then, and
    /// the next call begins anew.
    pub fn sweep(&mut self, pins: usize, now_ns: u64, counts: &mut [u32]) -> bool {
        let now = tick(now_ns);
        let end = (self.swept + pins.div_ceil(WAYS)).min(self.sets);
        for Set(ways) in &mut self.memory[self.first..][self.swept..end] {
            for pin in ways {
                if pin.key != 0 && pin.until < now {
                    *pin = Pin::NONE;
                }
                if pin.key != 0
                    && pin.is_counted
                    && let Pinned::Backend(backend) = pin.pinned()
                    && let Some(count) = counts.get_mut(usize::from(backend.0))
                {
                    *count += 1;
                }
            }
        }
        let is_done = end == self.sets;
        self.swept = if is_done { 0 } else { end };
        is_done
    }

    #[inline]
    fn index(&self, key: u64) -> usize {
        // A power of two, so the mask is the remainder.
        self.first + (key as usize & (self.sets - 1))
    }

    #[inline]
    fn set(&mut self, key: u64) -> &mut Set {
        let index = self.index(key);
        &mut self.memory[index]
    }

    #[inline]
    fn find(&mut self, key: u64) -> Option<&mut Pin> {
        let wanted = nonzero(key);
        self.set(key).0.iter_mut().find(|pin| pin.key == wanted)
    }
}

/// 0 means that there is no pin.
fn nonzero(key: u64) -> u64 {
    key | u64::from(key == 0) << 63
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use proptest::prelude::*;

    use super::*;

    const SECOND: u64 = 1_000_000_000;

    fn to(backend: u16) -> Pinned {
        Pinned::Backend(BackendIndex(backend))
    }

    #[test]
    fn a_pin_holds_for_its_lifetime() {
        let mut pins = Pins::new(64);
        let start = 1_000 * SECOND;
        assert_eq!(pins.get(7, start), None);
        pins.put(7, Of::Something, to(1), Lifetime::Transaction, start);
        pins.put(
            0,
            Of::Something,
            Pinned::Refused(3),
            Lifetime::Ringing,
            start,
        );
        assert_eq!(pins.get(7, start + 32 * SECOND), Some(to(1)));
        assert_eq!(pins.get(7, start + 34 * SECOND), None);
        assert_eq!(pins.get(0, start + 199 * SECOND), Some(Pinned::Refused(3)));
        assert_eq!(pins.get(0, start + 201 * SECOND), None);
        // It is over, but still there.
        pins.touch(7, Lifetime::Transaction, start + 40 * SECOND);
        assert_eq!(pins.get(7, start + 60 * SECOND), Some(to(1)));
        pins.touch(8, Lifetime::Transaction, start);
        assert_eq!(pins.get(8, start), None);
        pins.put(7, Of::Something, to(2), Lifetime::Transaction, start);
        assert_eq!(pins.get(7, start), Some(to(2)));
    }

    #[test]
    fn a_large_table_is_made_of_huge_pages() {
        for (pins, is_aligned) in [(64, false), (1 << 18, true), ((1 << 20) + 1, true)] {
            let table = Pins::new(pins);
            let Range { start, end } = table.memory();
            assert_eq!(
                end.addr() - start.addr(),
                table.capacity() * size_of::<Pin>()
            );
            assert!(table.capacity() >= pins);
            if is_aligned {
                assert_eq!((start.addr() % HUGE_PAGE, end.addr() % HUGE_PAGE), (0, 0));
            }
        }
    }

    #[test]
    fn a_full_set_loses_the_pin_that_is_over_first() {
        let mut pins = Pins::new(64);
        let sets = (pins.capacity() / WAYS) as u64;
        for nth in 1..=5 {
            pins.put(
                nth * sets,
                Of::Something,
                to(nth as u16),
                Lifetime::Transaction,
                nth * SECOND,
            );
            // The first is needed again.
            pins.touch(sets, Lifetime::Transaction, nth * SECOND);
        }
        let left = (1..=5).filter(|nth| pins.get(nth * sets, 5 * SECOND).is_some());
        assert_eq!(left.collect::<Vec<_>>(), [1, 3, 4, 5]);
    }

    #[test]
    fn a_sweep_counts_backends_and_takes_out_what_is_over() {
        let mut pins = Pins::new(256);
        for key in 0..40 {
            pins.put(
                key * 7,
                Of::Something,
                to((key % 2) as u16),
                Lifetime::Transaction,
                key * SECOND,
            );
        }
        pins.put(
            1_000_003,
            Of::Something,
            Pinned::Refused(0),
            Lifetime::Ringing,
            0,
        );
        pins.put(1_000_033, Of::Invite, to(0), Lifetime::Ringing, 40 * SECOND);
        let mut turns = 0;
        let mut counts = [0; 2];
        while !pins.sweep(16, 50 * SECOND, &mut counts) {
            turns += 1;
        }
        assert_eq!(turns, 256 / 16 - 1);
        // Those from second 18 on.
        assert_eq!(counts, [11, 11]);
        let mut again = [0; 1];
        assert!(pins.sweep(usize::MAX / 2, 50 * SECOND, &mut again));
        assert_eq!(again, [11], "and another one is not asked for");
    }

    proptest! {
        /// With room for all, the table is a map.
        #[test]
        fn like_a_map(steps in proptest::collection::vec((0u64..12, 0u16..4, 0u64..4), 0..60)) {
            let mut pins = Pins::new(4096);
            let mut map = HashMap::new();
            let mut now = SECOND;
            for (key, backend, seconds) in steps {
                // Never an odd number of seconds: the one at which a pin ends would be a matter of ticks.
                now += 2 * seconds * SECOND;
                // One a set.
                let key = key << 32 | key;
                let want = map.get(&key).filter(|(_, until)| *until > now).map(|(backend, _)| to(*backend));
                prop_assert_eq!(pins.get(key, now), want);
                pins.put(key, Of::Something, to(backend), Lifetime::Transaction, now);
                map.insert(key, (backend, now + 33 * SECOND));
            }
        }
    }
}
