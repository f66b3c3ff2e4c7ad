//! The snapshot that workers look destinations up in, built from facts without any I/O.

use std::{
    collections::{BTreeSet, HashMap},
    net::{IpAddr, Ipv6Addr},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

use prefix_trie::PrefixMap;

use super::{
    Miss,
    facts::{Freshness, Level, Link, Neighbour, Route, RouteKind},
};
use crate::frame::NextHop;

/// Most gateways that are kept fresh without being used: a bound on the work of one round.
const MAX_GATEWAYS: usize = 4096;

/// A snapshot of the ways to all destinations. Never changes; [`super::Watcher`] publishes the next one.
#[derive(Debug, Default)]
pub struct NextHops {
    generation: u64,
    routes: Arc<Routes>,
    neighbours: Arc<Neighbours>,
}

impl NextHops {
    pub(super) fn new(generation: u64, routes: Arc<Routes>, neighbours: Arc<Neighbours>) -> Self {
        Self {
            generation,
            routes,
            neighbours,
        }
    }

    /// Counts the snapshots since the start of the watcher.
    pub fn generation(&self) -> u64 {
        self.generation
    }

    /// The way to `destination`, as the kernel would choose it for a packet without marks or other special traits.
    ///
    /// Costs one longest prefix match and one hash table read for a route with one way; never allocates or locks. Of
    /// a multipath route the way depends on the destination alone, unless a gateway does not answer.
    ///
    /// # Errors
    ///
    /// [`Miss`] says why the kernel has to send instead.
    pub fn lookup(&self, destination: IpAddr) -> Result<NextHop, Miss> {
        let destination = destination.to_canonical();
        if !is_routable(destination) {
            return Err(Miss::NoRoute);
        }
        let ways = match self.routes.find(destination) {
            None | Some(Choice::Refuse | Choice::Throw) => return Err(Miss::NoRoute),
            Some(Choice::Local) => return Err(Miss::Local),
            Some(Choice::Ways(ways)) => ways,
        };
        let first = if ways.len() == 1 {
            0
        } else {
            pick(ways, spread(destination))
        };
        for way in ways[first..].iter().chain(&ways[..first]) {
            let Some(egress) = way.egress else {
                return Err(Miss::OtherInterface);
            };
            if let Some(neighbour) = self
                .neighbours
                .get(way.link, way.gateway.unwrap_or(destination))
            {
                return Ok(NextHop {
                    port: egress.port,
                    destination_mac: neighbour.mac,
                    source_mac: egress.mac,
                    vlan: egress.vlan,
                    mtu: way.mtu,
                });
            }
        }
        Err(Miss::NoNeighbour)
    }

    pub(super) fn routes(&self) -> &Arc<Routes> {
        &self.routes
    }

    pub(super) fn neighbours(&self) -> &Arc<Neighbours> {
        &self.neighbours
    }

    /// Neighbours that should be asked for their MAC address now, as interface index and IP address: of `wanted`
    /// destinations and of all gateways those that are missing or stale, of all others those that are stale and were
    /// looked up since the last call.
    pub(super) fn wants_asking(&self, wanted: &[IpAddr]) -> BTreeSet<(u32, IpAddr)> {
        let mut ask = BTreeSet::new();
        let mut ask_unless_fresh = |link, address| {
            let fresh = self
                .neighbours
                .entry(link, address)
                .is_some_and(|known| known.freshness == Freshness::Fresh);
            if !fresh {
                ask.insert((link, address));
            }
        };
        for destination in wanted
            .iter()
            .map(IpAddr::to_canonical)
            .filter(|address| is_routable(*address))
        {
            if let Some(Choice::Ways(ways)) = self.routes.find(destination) {
                for way in ways.iter().filter(|way| way.egress.is_some()) {
                    ask_unless_fresh(way.link, way.gateway.unwrap_or(destination));
                }
            }
        }
        for (link, gateway) in &self.routes.gateways {
            ask_unless_fresh(*link, *gateway);
        }
        for ((link, address), known) in &self.neighbours.known {
            let used = known.used.swap(false, Ordering::Relaxed);
            if used && known.freshness == Freshness::Stale {
                ask.insert((*link, Ipv6Addr::from(*address).to_canonical()));
            }
        }
        ask
    }
}

/// False for what no next hop can be given for: "this host", multicast, broadcast, and link-local IPv6 addresses,
/// which say nothing without their link.
fn is_routable(destination: IpAddr) -> bool {
    match destination {
        IpAddr::V4(address) => {
            !address.is_unspecified() && !address.is_multicast() && !address.is_broadcast()
        }
        IpAddr::V6(address) => {
            !address.is_unspecified() && !address.is_multicast() && !address.is_unicast_link_local()
        }
    }
}

/// Links and routes.
#[derive(Debug, Default)]
pub(super) struct Routes {
    ipv4: [PrefixMap<(u32, u8), u32>; Level::COUNT],
    ipv6: [PrefixMap<(u128, u8), u32>; Level::COUNT],
    /// What the tries index: far fewer than routes, since most routes share a gateway.
    choices: Vec<Choice>,
    /// Gateways behind our interfaces.
    gateways: BTreeSet<(u32, IpAddr)>,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
enum Choice {
    Local,
    Refuse,
    Throw,
    /// Never empty.
    Ways(Box<[ResolvedWay]>),
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct ResolvedWay {
    link: u32,
    gateway: Option<IpAddr>,
    weight: u32,
    egress: Option<Egress>,
    mtu: u16,
}

/// An interface of ours, or a VLAN device on one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct Egress {
    port: u8,
    mac: [u8; 6],
    vlan: Option<u16>,
}

impl Routes {
    /// Builds the tables. `interfaces` are ours, in the order of [`NextHop::port`]; no more than 256 count.
    pub(super) fn new(interfaces: &[String], links: &[Link], routes: Vec<Route>) -> Self {
        let links: HashMap<u32, &Link> = links.iter().map(|link| (link.index, link)).collect();
        let mut best: HashMap<(usize, IpAddr, u8), Route> = HashMap::with_capacity(routes.len());
        for route in routes {
            let family_bits = if route.network.is_ipv4() { 32 } else { 128 };
            if route.prefix_len > family_bits {
                continue;
            }
            let key = (route.level as usize, route.network, route.prefix_len);
            // On a tie the first stays: the kernel lists routes in the order in which it would use them.
            match best.get(&key) {
                Some(known) if known.rank <= route.rank => {}
                _ => {
                    best.insert(key, route);
                }
            }
        }
        let mut built = Self::default();
        let mut indexes: HashMap<Choice, u32> = HashMap::new();
        for ((level, network, prefix_len), route) in best {
            let choice = resolve(&route, interfaces, &links);
            if let Choice::Ways(ways) = &choice {
                built.note_gateways(ways);
            }
            let index = *indexes.entry(choice).or_insert_with_key(|choice| {
                built.choices.push(choice.clone());
                (built.choices.len() - 1) as u32
            });
            match network {
                IpAddr::V4(network) => {
                    built.ipv4[level].insert((network.to_bits(), prefix_len), index)
                }
                IpAddr::V6(network) => {
                    built.ipv6[level].insert((network.to_bits(), prefix_len), index)
                }
            };
        }
        built
    }

    fn note_gateways(&mut self, ways: &[ResolvedWay]) {
        for way in ways {
            if let (Some(gateway), Some(_)) = (way.gateway, way.egress)
                && self.gateways.len() < MAX_GATEWAYS
            {
                self.gateways.insert((way.link, gateway));
            }
        }
    }

    /// The choice of the first table that has one, as the kernel's rules go through them.
    fn find(&self, destination: IpAddr) -> Option<&Choice> {
        for level in 0..Level::COUNT {
            let found = match destination {
                IpAddr::V4(address) => self.ipv4[level]
                    .get_lpm(&(address.to_bits(), 32))
                    .map(|(_, index)| index),
                IpAddr::V6(address) => self.ipv6[level]
                    .get_lpm(&(address.to_bits(), 128))
                    .map(|(_, index)| index),
            };
            match found.and_then(|index| self.choices.get(*index as usize)) {
                None | Some(Choice::Throw) => {}
                choice => return choice,
            }
        }
        None
    }
}

fn resolve(route: &Route, interfaces: &[String], links: &HashMap<u32, &Link>) -> Choice {
    let (ways, route_mtu) = match &route.kind {
        RouteKind::Local => return Choice::Local,
        RouteKind::Refuse => return Choice::Refuse,
        RouteKind::Throw => return Choice::Throw,
        RouteKind::Unicast { ways, mtu } => (ways, *mtu),
    };
    let ways = ways.iter().map(|way| {
        let link = links.get(&way.link);
        let link_mtu = link.map_or(0, |link| {
            if route.network.is_ipv4() {
                link.mtu
            } else {
                link.mtu_ipv6
            }
        });
        let mtu = route_mtu.unwrap_or(link_mtu).min(link_mtu);
        ResolvedWay {
            link: way.link,
            gateway: way.gateway,
            weight: way.weight.max(1),
            egress: link
                .filter(|_| !way.encapsulated)
                .and_then(|link| egress(link, interfaces, links)),
            mtu: u16::try_from(mtu).unwrap_or(u16::MAX),
        }
    });
    Choice::Ways(ways.collect())
}

fn egress(link: &Link, interfaces: &[String], links: &HashMap<u32, &Link>) -> Option<Egress> {
    let port = |name: &String| {
        let position = interfaces.iter().position(|interface| interface == name)?;
        u8::try_from(position).ok()
    };
    let mac = link.mac?;
    if let Some(port) = port(&link.name) {
        return Some(Egress {
            port,
            mac,
            vlan: None,
        });
    }
    let (below, id) = link.vlan?;
    let port = port(&links.get(&below)?.name)?;
    Some(Egress {
        port,
        mac,
        vlan: Some(id),
    })
}

/// A number that depends on the destination alone, evenly spread over 32 bits (the mixer of SplitMix64).
fn spread(destination: IpAddr) -> u32 {
    let bits = match destination {
        IpAddr::V4(address) => u64::from(address.to_bits()),
        IpAddr::V6(address) => {
            let bits = address.to_bits();
            (bits as u64) ^ ((bits >> 64) as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15)
        }
    };
    let mixed = (bits ^ (bits >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    (mixed >> 32) as u32
}

/// Index of the way that `random` falls on, by weight.
fn pick(ways: &[ResolvedWay], random: u32) -> usize {
    let total: u64 = ways.iter().map(|way| u64::from(way.weight)).sum();
    let mut left = (u64::from(random) * total) >> 32;
    for (index, way) in ways.iter().enumerate() {
        match left.checked_sub(u64::from(way.weight)) {
            None => return index,
            Some(rest) => left = rest,
        }
    }
    0
}

/// Neighbours with a usable MAC address.
#[derive(Debug, Default)]
pub(super) struct Neighbours {
    known: HashMap<(u32, u128), Known>,
}

#[derive(Debug)]
struct Known {
    mac: [u8; 6],
    freshness: Freshness,
    /// Somebody sent to it since the last round of questions. The kernel does not see what AF_XDP sends, so it would
    /// never check a stale entry by itself.
    used: AtomicBool,
}

impl Neighbours {
    /// Builds the table, taking over from `previous` which neighbours are in use.
    pub(super) fn new(neighbours: &[Neighbour], previous: &Self) -> Self {
        let known = neighbours.iter().map(|neighbour| {
            let key = key(neighbour.link, neighbour.address);
            let used = previous
                .known
                .get(&key)
                .is_some_and(|known| known.used.load(Ordering::Relaxed));
            (
                key,
                Known {
                    mac: neighbour.mac,
                    freshness: neighbour.freshness,
                    used: AtomicBool::new(used),
                },
            )
        });
        Self {
            known: known.collect(),
        }
    }

    fn entry(&self, link: u32, address: IpAddr) -> Option<&Known> {
        self.known.get(&key(link, address))
    }

    fn get(&self, link: u32, address: IpAddr) -> Option<&Known> {
        let known = self.entry(link, address)?;
        // Read first: the line stays shared between the workers' caches as long as nothing changes.
        if !known.used.load(Ordering::Relaxed) {
            known.used.store(true, Ordering::Relaxed);
        }
        Some(known)
    }
}

fn key(link: u32, address: IpAddr) -> (u32, u128) {
    let address = match address {
        IpAddr::V4(address) => address.to_ipv6_mapped(),
        IpAddr::V6(address) => address,
    };
    (link, address.to_bits())
}

#[cfg(test)]
mod tests;
