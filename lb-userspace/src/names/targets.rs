//! Servers for a name, and the order in which a request tries them (RFC 2782).

use std::net::{IpAddr, SocketAddr};

use siphasher::sip::SipHasher13;

/// A server.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Target {
    /// Where it listens.
    pub address: SocketAddr,
    /// Priority of its SRV record; lower ones are tried first. 0 without an SRV record.
    pub priority: u16,
    /// Share among those of the same priority, in [`Targets::WEIGHT_UNIT`]s: the weight of the SRV record, divided
    /// among the addresses of its name, so that a name does not get more calls by having more addresses.
    pub weight: u32,
}

/// Servers for a name, at most [`Targets::MAX`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Targets {
    /// By priority, then address, so that the order of the records in the DNS (which name servers rotate) does not
    /// matter.
    list: Box<[Target]>,
}

impl Targets {
    /// How many servers are kept.
    pub const MAX: usize = 16;
    /// What weight 1 of an SRV record is. Whole for up to eight addresses of one name.
    pub const WEIGHT_UNIT: u32 = 840;

    /// An address that comes twice is one target: of the better priority, and with the weight of both if they are equal.
    /// Of more than [`Self::MAX`], the last ones in order are left out.
    pub fn new(targets: impl IntoIterator<Item = Target>) -> Self {
        let mut all = targets.into_iter().collect::<Vec<_>>();
        all.sort_unstable_by_key(|target| (target.priority, target.address));
        let mut list: Vec<Target> = Vec::with_capacity(Self::MAX + 1);
        for target in all {
            match list.iter_mut().find(|kept| kept.address == target.address) {
                Some(kept) if kept.priority == target.priority => {
                    kept.weight = kept.weight.saturating_add(target.weight);
                }
                Some(_) => {}
                None => list.push(target),
            }
            if list.len() > Self::MAX {
                list.pop();
                break;
            }
        }
        Self { list: list.into() }
    }

    /// All of them, by priority and address.
    pub fn as_slice(&self) -> &[Target] {
        &self.list
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.list.len()
    }

    /// True when there are none.
    pub fn is_empty(&self) -> bool {
        self.list.is_empty()
    }

    /// The server to try first (0), second, and so on; `None` when there are no more.
    ///
    /// The lowest priority comes first, and within one priority the chance to be next is proportional to the weight
    /// (RFC 2782). `seed` is a keyed hash of the transaction: a retransmission, a CANCEL and another node with the same
    /// answer get the same order. When a server comes or goes, the others keep their order, so that nodes whose
    /// answers differ for a moment send few calls different ways. Does not allocate.
    pub fn nth(&self, seed: u64, nth: usize) -> Option<SocketAddr> {
        let priority = self.list.get(nth)?.priority;
        let start = self.list.partition_point(|t| t.priority < priority);
        let end = self.list.partition_point(|t| t.priority <= priority);
        let group = &self.list[start..end];
        let mut times = [0.0; Self::MAX];
        for (time, target) in times.iter_mut().zip(group) {
            *time = arrival(seed, target);
        }
        let rank = |at: usize| {
            let earlier = |&other: &usize| (times[other], other) < (times[at], at);
            (0..group.len()).filter(earlier).count()
        };
        let found = (0..group.len()).find(|&at| rank(at) == nth - start)?;
        Some(group[found].address)
    }
}

/// When a target arrives in an exponential race: sorted by that, each place is drawn with a chance proportional to the
/// weight among those that are left.
fn arrival(seed: u64, target: &Target) -> f64 {
    let mut identity = [0; 18];
    match target.address.ip() {
        IpAddr::V4(ip) => identity[..16].copy_from_slice(&ip.to_ipv6_mapped().octets()),
        IpAddr::V6(ip) => identity[..16].copy_from_slice(&ip.octets()),
    }
    identity[16..].copy_from_slice(&target.address.port().to_be_bytes());
    let hash = SipHasher13::new_with_keys(seed, 0).hash(&identity);
    // 52 bits and a half: exact in a double, never 0, never 1.
    let u = ((hash >> 12) as f64 + 0.5) * (1.0 / (1u64 << 52) as f64);
    // "Very small weights" (RFC 2782) is what a weight of 0 gets beside others: rarely first. All with 0 are equal.
    // `libm` computes the same bits on every machine; the C library's logarithm need not.
    -libm::log(u) / f64::from(target.weight.max(1))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;

    fn target(number: u8, priority: u16, weight: u16) -> Target {
        Target {
            address: SocketAddr::from(([192, 0, 2, number], 5060)),
            priority,
            weight: u32::from(weight) * Targets::WEIGHT_UNIT,
        }
    }

    fn order(targets: &Targets, seed: u64) -> Vec<u8> {
        (0..targets.len())
            .map(|nth| match targets.nth(seed, nth).unwrap().ip() {
                IpAddr::V4(ip) => ip.octets()[3],
                IpAddr::V6(_) => unreachable!(),
            })
            .collect()
    }

    /// Shares of 100,000 seeds in which each of the numbers has the place. Seeds are small and alike on purpose.
    fn shares(targets: &Targets, place: usize) -> [f64; 8] {
        let mut counts = [0u32; 8];
        for seed in 0..100_000 {
            counts[usize::from(order(targets, seed)[place])] += 1;
        }
        counts.map(|count| f64::from(count) / 100_000.0)
    }

    fn check(shares: [f64; 8], wanted: &[f64]) {
        for (number, wanted) in wanted.iter().enumerate() {
            let share = shares[number];
            assert!((share - wanted).abs() < 0.01, "{number}: {share}, {wanted}");
        }
    }

    #[test]
    fn within_a_priority_the_chance_is_proportional_to_the_weight() {
        let targets = Targets::new([target(0, 1, 10), target(1, 1, 30), target(2, 1, 60)]);
        check(shares(&targets, 0), &[0.1, 0.3, 0.6]);
        // Without replacement: 1 is second after 0 (0.1 * 3/9) or after 2 (0.6 * 3/4).
        check(
            shares(&targets, 1),
            &[
                0.3 / 7.0 + 0.6 / 4.0,
                0.1 / 3.0 + 0.45,
                0.1 * 2.0 / 3.0 + 0.3 * 6.0 / 7.0,
            ],
        );
    }

    #[test]
    fn equal_weights_and_no_weights_share_equally() {
        for weight in [0, 1, u16::MAX] {
            let targets = Targets::new((0..5).map(|number| target(number, 0, weight)));
            for place in [0, 4] {
                check(shares(&targets, place), &[0.2; 5]);
            }
        }
    }

    #[test]
    fn a_weight_of_zero_is_rarely_first_but_not_never() {
        let targets = Targets::new([target(0, 0, 0), target(1, 0, 1), target(2, 0, 1)]);
        let shares = shares(&targets, 0);
        check(shares, &[0.0, 0.5, 0.5]);
        assert!(shares[0] > 0.0);
    }

    #[test]
    fn a_better_priority_comes_first_whatever_the_weights() {
        let targets = Targets::new([
            target(0, 20, 1000),
            target(1, 10, 0),
            target(2, 10, 1),
            target(3, 30, 9),
        ]);
        for seed in 0..1000 {
            let order = order(&targets, seed);
            assert!(
                matches!(order[..], [1, 2, 0, 3] | [2, 1, 0, 3]),
                "{order:?}"
            );
        }
    }

    #[test]
    fn the_order_of_the_records_does_not_matter() {
        let all = (0..6).map(|number| target(number, u16::from(number) % 2, u16::from(number)));
        let targets = Targets::new(all.clone());
        let reversed = Targets::new(all.rev());
        assert_eq!(targets, reversed);
        for seed in 0..1000 {
            assert_eq!(order(&targets, seed), order(&reversed, seed));
        }
    }

    #[test]
    fn a_server_that_goes_leaves_the_order_of_the_others() {
        let all = (0..6).map(|number| target(number, 0, u16::from(number)));
        let with = Targets::new(all.clone());
        let without = Targets::new(all.filter(|t| *t != target(3, 0, 3)));
        for seed in 0..1000 {
            let mut expected = order(&with, seed);
            expected.retain(|&number| number != 3);
            assert_eq!(order(&without, seed), expected);
        }
    }

    #[test]
    fn an_address_that_comes_twice_is_one_target() {
        let targets = Targets::new([
            target(1, 2, 5),
            target(2, 1, 5),
            target(1, 1, 5),
            target(1, 1, 7),
        ]);
        assert_eq!(targets.as_slice(), [target(1, 1, 12), target(2, 1, 5)]);
    }

    #[test]
    fn no_more_than_sixteen_and_those_of_the_best_priority() {
        let targets = Targets::new((0..=255).rev().map(|n| target(n, u16::from(n), 1)));
        let kept = (0..16).map(|n| target(n, u16::from(n), 1));
        assert_eq!(targets.as_slice(), kept.collect::<Vec<_>>());
        assert_eq!(targets.nth(1, 16), None);
        assert_eq!(targets.nth(1, usize::MAX), None);
        assert_eq!(Targets::new([]).nth(1, 0), None);
    }

    /// The orders were computed by another program (Python, its own SipHash and logarithm). If they change, nodes of two
    /// versions send a retransmission elsewhere during an upgrade.
    #[test]
    fn golden_vectors() {
        let address = |text: &str| text.parse().unwrap();
        let all = [
            ("192.0.2.1:5060", 10, 5),
            ("192.0.2.2:5060", 10, 3),
            ("192.0.2.2:5061", 10, 0),
            ("192.0.2.3:5060", 10, 2),
            ("192.0.2.9:5080", 20, 0),
            ("192.0.2.7:5080", 20, 0),
        ]
        .map(|(text, priority, weight)| Target {
            address: address(text),
            priority,
            weight: weight * Targets::WEIGHT_UNIT,
        });
        let targets = Targets::new(all);
        for (seed, expected) in [
            (0x0, [0, 3, 1, 2, 5, 4]),
            (0x1, [0, 1, 3, 2, 5, 4]),
            (0x2, [1, 0, 3, 2, 5, 4]),
            (0x3, [0, 1, 3, 2, 4, 5]),
            (0x2a, [1, 0, 3, 2, 4, 5]),
            (0x123456789abcdef, [1, 0, 3, 2, 5, 4]),
            (0x8000000000000000, [0, 3, 1, 2, 4, 5]),
            (0xffffffffffffffff, [0, 3, 1, 2, 5, 4]),
        ] {
            let order = (0..6).map(|nth| targets.nth(seed, nth).unwrap());
            let expected = expected.map(|index: usize| all[index].address);
            assert_eq!(order.collect::<Vec<_>>(), expected, "{seed:x}");
        }
    }

    proptest! {
        #[test]
        fn each_target_comes_exactly_once(
            records in prop::collection::vec((0u8..32, 0u16..4, any::<u16>()), 0..40),
            seed: u64,
        ) {
            let targets = Targets::new(records.iter().map(|&(n, priority, weight)| target(n, priority, weight)));
            let order = order(&targets, seed);
            let all = targets.as_slice().iter().map(|t| t.address).collect::<BTreeSet<_>>();
            prop_assert_eq!(all.len(), targets.len());
            prop_assert_eq!(order.iter().collect::<BTreeSet<_>>().len(), targets.len());
            prop_assert_eq!(targets.nth(seed, targets.len()), None);
            let priorities = order.iter().map(|n| {
                targets.as_slice().iter().find(|t| t.address == target(*n, 0, 0).address).unwrap().priority
            });
            prop_assert!(priorities.is_sorted());
        }
    }
}
