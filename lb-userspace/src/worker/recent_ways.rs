//! The ways that a worker looked up lately: most of what it sends goes to a few backends.

use std::net::IpAddr;

use crate::{forward::spread, frame::NextHop};

/// As a power of two: how many destinations are kept.
const PLACE_BITS: u32 = 8;

/// Ways by destination. A destination has one place, which it may lose to another one: then its way is looked up again.
///
/// A look at it costs a dozen instructions, where a longest prefix match and a hash table cost hundreds.
pub(super) struct RecentWays {
    places: Box<[Place; 1 << PLACE_BITS]>,
    /// What was kept before the last [`RecentWays::forget`] has another one.
    epoch: u32,
}

#[derive(Clone, Copy)]
struct Place {
    destination: IpAddr,
    epoch: u32,
    hop: NextHop,
}

impl RecentWays {
    pub fn new() -> Self {
        const NOWHERE: Place = Place {
            destination: IpAddr::V4(std::net::Ipv4Addr::UNSPECIFIED),
            epoch: 0,
            hop: NextHop {
                port: 0,
                destination_mac: [0; 6],
                source_mac: [0; 6],
                vlan: None,
                mtu: 0,
            },
        };
        Self {
            places: Box::new([NOWHERE; 1 << PLACE_BITS]),
            epoch: 1,
        }
    }

    /// The way to `destination`, if it is kept.
    #[inline]
    pub fn get(&self, destination: IpAddr) -> Option<&NextHop> {
        let place = &self.places[index(destination)];
        (place.epoch == self.epoch && place.destination == destination).then_some(&place.hop)
    }

    /// Keeps the way to `destination`.
    pub fn keep(&mut self, destination: IpAddr, hop: NextHop) -> &NextHop {
        let place = &mut self.places[index(destination)];
        *place = Place {
            destination,
            epoch: self.epoch,
            hop,
        };
        &place.hop
    }

    /// Forgets all ways.
    pub fn forget(&mut self) {
        self.epoch = self.epoch.wrapping_add(1);
    }
}

/// The place of a destination. Whoever chooses addresses that share one makes us look their ways up each time, as without
/// this table.
#[inline]
fn index(destination: IpAddr) -> usize {
    (spread(destination) >> (u64::BITS - PLACE_BITS)) as usize
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hop(mtu: u16) -> NextHop {
        NextHop {
            port: 1,
            destination_mac: [2, 0, 0, 0, 0, 1],
            source_mac: [2, 0, 0, 0, 0, 2],
            vlan: Some(7),
            mtu,
        }
    }

    #[test]
    fn a_way_is_kept_until_it_is_forgotten() {
        let mut ways = RecentWays::new();
        let addresses = ["0.0.0.0", "198.51.100.7", "2001:db8::7", "::"];
        let addresses = addresses.map(|text| text.parse::<IpAddr>().unwrap());
        for address in addresses {
            assert_eq!(ways.get(address), None);
            ways.keep(address, hop(1500));
            assert_eq!(ways.get(address), Some(&hop(1500)));
            ways.keep(address, hop(1400));
            assert_eq!(ways.get(address), Some(&hop(1400)));
        }
        ways.forget();
        assert!(addresses.iter().all(|address| ways.get(*address).is_none()));
    }

    #[test]
    fn one_that_shares_the_place_takes_it() {
        let mut ways = RecentWays::new();
        let address = |nth: u32| IpAddr::from(nth.to_be_bytes());
        let all = 0..4 << PLACE_BITS;
        for nth in all.clone() {
            ways.keep(address(nth), hop(nth as u16));
        }
        let kept = all.filter_map(|nth| Some((nth, ways.get(address(nth))?)));
        let kept = kept.collect::<Vec<_>>();
        assert!(kept.len() > 1 << (PLACE_BITS - 1), "{}", kept.len());
        assert!(kept.iter().all(|(nth, way)| way.mtu == *nth as u16));
    }
}
