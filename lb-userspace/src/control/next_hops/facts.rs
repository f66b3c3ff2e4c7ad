//! What netlink says about links, routes and neighbours, reduced to what a next hop needs.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use netlink_packet_route::{
    AddressFamily,
    link::{
        AfSpecInet6, AfSpecUnspec, InfoData, InfoKind, InfoVlan, LinkAttribute, LinkInfo,
        LinkLayerType, LinkMessage, VlanProtocol,
    },
    neighbour::{NeighbourAddress, NeighbourAttribute, NeighbourMessage, NeighbourState},
    route::{
        RouteAddress, RouteAttribute, RouteFlags, RouteMessage, RouteMetric, RouteNextHop,
        RouteNextHopFlags, RoutePreference, RouteType, RouteVia,
    },
    rule::{RuleAction, RuleAttribute, RuleMessage},
};

/// Routing tables in the order in which the kernel's default rules consult them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Level {
    /// Table 255: the host's own addresses and broadcasts.
    Local,
    /// Table 254: where routes usually are.
    Main,
    /// Table 253, usually empty.
    Default,
}

impl Level {
    /// How many there are.
    pub const COUNT: usize = 3;

    fn from_table(table: u32) -> Option<Self> {
        match table {
            255 => Some(Self::Local),
            254 => Some(Self::Main),
            253 => Some(Self::Default),
            _ => None,
        }
    }
}

/// A network device.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Link {
    /// Interface index.
    pub index: u32,
    /// Interface name.
    pub name: String,
    /// MAC address; `None` when frames of this device have no Ethernet header.
    pub mac: Option<[u8; 6]>,
    /// Largest IPv4 packet, in bytes.
    pub mtu: u32,
    /// Largest IPv6 packet, in bytes: a router advertisement can make it smaller than `mtu`.
    pub mtu_ipv6: u32,
    /// Index of the device below and VLAN id, for a VLAN device with 802.1Q tags.
    pub vlan: Option<(u32, u16)>,
}

impl Link {
    /// Reads an RTM_NEWLINK message.
    pub fn parse(message: &LinkMessage) -> Option<Self> {
        let mut name = None;
        let mut address = None;
        let (mut mtu, mut mtu_ipv6) = (None, None);
        let (mut below, mut below_is_elsewhere) = (None, false);
        let (mut is_vlan, mut vlan_id, mut tagged_8021q) = (false, None, true);
        for attribute in &message.attributes {
            match attribute {
                LinkAttribute::IfName(value) => name = Some(value.clone()),
                LinkAttribute::Address(value) => {
                    address = <[u8; 6]>::try_from(value.as_slice()).ok()
                }
                LinkAttribute::Mtu(value) => mtu = Some(*value),
                LinkAttribute::Link(value) => below = Some(*value),
                LinkAttribute::LinkNetNsId(_) => below_is_elsewhere = true,
                LinkAttribute::AfSpecUnspec(specs) => mtu_ipv6 = ipv6_mtu(specs).or(mtu_ipv6),
                LinkAttribute::LinkInfo(infos) => {
                    for info in infos {
                        match info {
                            LinkInfo::Kind(InfoKind::Vlan) => is_vlan = true,
                            LinkInfo::Data(InfoData::Vlan(data)) => {
                                for item in data {
                                    match item {
                                        InfoVlan::Id(id) => vlan_id = Some(*id),
                                        InfoVlan::Protocol(protocol) => {
                                            tagged_8021q = *protocol == VlanProtocol::Ieee8021Q;
                                        }
                                        _ => {}
                                    }
                                }
                            }
                            _ => {}
                        }
                    }
                }
                _ => {}
            }
        }
        let ethernet = message.header.link_layer_type == LinkLayerType::Ether;
        let mtu = mtu.unwrap_or(0);
        Some(Self {
            index: message.header.index,
            name: name?,
            mac: address.filter(|_| ethernet),
            mtu,
            mtu_ipv6: mtu_ipv6.filter(|value| *value > 0).unwrap_or(mtu).min(mtu),
            vlan: match (below, vlan_id) {
                (Some(below), Some(id)) if is_vlan && tagged_8021q && !below_is_elsewhere => {
                    Some((below, id))
                }
                _ => None,
            },
        })
    }
}

fn ipv6_mtu(specs: &[AfSpecUnspec]) -> Option<u32> {
    specs
        .iter()
        .filter_map(|spec| match spec {
            AfSpecUnspec::Inet6(items) => Some(items),
            _ => None,
        })
        .flatten()
        .find_map(|item| match item {
            AfSpecInet6::DevConf(conf) => u32::try_from(conf.mtu6).ok(),
            _ => None,
        })
}

/// One way out of a route.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Way {
    /// Index of the output interface.
    pub link: u32,
    /// Router to hand the packet to; `None` when the destination itself is on the link.
    pub gateway: Option<IpAddr>,
    /// Share among the ways of a multipath route, at least 1.
    pub weight: u32,
    /// The packet has to be encapsulated (tunnel, MPLS, segment routing): only the kernel does that.
    pub encapsulated: bool,
}

/// What a route does with a packet.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum RouteKind {
    /// It is for this host.
    Local,
    /// It goes out by one of these, never empty, and no packet larger than `mtu` if that is set.
    Unicast {
        /// The ways, in the kernel's order.
        ways: Vec<Way>,
        /// The route's own MTU in bytes.
        mtu: Option<u32>,
    },
    /// It goes nowhere: blackhole, unreachable, prohibit, broadcast, multicast.
    Refuse,
    /// The next table decides.
    Throw,
}

/// A route.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Route {
    /// Its table.
    pub level: Level,
    /// Destination network.
    pub network: IpAddr,
    /// Prefix length in bits.
    pub prefix_len: u8,
    /// Lower wins among routes to the same network: metric, then router preference (RFC 4191).
    pub rank: (u32, u8),
    /// What it does.
    pub kind: RouteKind,
}

impl Route {
    /// Reads an RTM_NEWROUTE message. `None` for routes that say nothing about an ordinary packet to a destination:
    /// other tables, other families, routes for one type of service or one source network, cached routes.
    pub fn parse(message: &RouteMessage) -> Option<Self> {
        let header = &message.header;
        let unspecified = match header.address_family {
            AddressFamily::Inet => IpAddr::V4(Ipv4Addr::UNSPECIFIED),
            AddressFamily::Inet6 => IpAddr::V6(Ipv6Addr::UNSPECIFIED),
            _ => return None,
        };
        if header.tos != 0
            || header.source_prefix_length != 0
            || header.flags.contains(RouteFlags::Cloned)
        {
            return None;
        }
        let mut table = u32::from(header.table);
        let mut network = unspecified;
        let (mut metric, mut preference) = (0, 1);
        let mut mtu = None;
        let mut single = OneWay::default();
        let mut multipath: Option<&[RouteNextHop]> = None;
        for attribute in &message.attributes {
            match attribute {
                RouteAttribute::Table(value) => table = *value,
                RouteAttribute::Destination(value) => network = address(value)?,
                RouteAttribute::Priority(value) => metric = *value,
                RouteAttribute::Preference(value) => {
                    preference = match value {
                        RoutePreference::High => 0,
                        RoutePreference::Low => 2,
                        _ => 1,
                    }
                }
                RouteAttribute::Metrics(metrics) => {
                    mtu = metrics.iter().find_map(|metric| match metric {
                        RouteMetric::Mtu(value) if *value > 0 => Some(*value),
                        _ => None,
                    });
                }
                RouteAttribute::MultiPath(next_hops) => multipath = Some(next_hops),
                other => single.read(other),
            }
        }
        let level = Level::from_table(table)?;
        let kind = match header.kind {
            RouteType::Unicast => {
                let ways: Vec<Way> = match multipath {
                    Some(next_hops) => next_hops.iter().filter_map(parse_next_hop).collect(),
                    None if header.flags.contains(RouteFlags::Dead) => Vec::new(),
                    None => single.finish(1).into_iter().collect(),
                };
                // Every way is dead: the kernel goes on to the next best route, and so do we.
                if ways.is_empty() {
                    return None;
                }
                RouteKind::Unicast { ways, mtu }
            }
            RouteType::Local | RouteType::Anycast => RouteKind::Local,
            RouteType::Throw => RouteKind::Throw,
            _ => RouteKind::Refuse,
        };
        Some(Self {
            level,
            network,
            prefix_len: header.destination_prefix_length,
            rank: (metric, preference),
            kind,
        })
    }
}

/// The attributes of one way, which stand in the route itself or in each part of a multipath route.
#[derive(Default)]
struct OneWay {
    link: Option<u32>,
    gateway: Option<IpAddr>,
    encapsulated: bool,
}

impl OneWay {
    fn read(&mut self, attribute: &RouteAttribute) {
        match attribute {
            RouteAttribute::Oif(value) => self.link = Some(*value),
            RouteAttribute::Gateway(value) => self.gateway = address(value),
            RouteAttribute::Via(RouteVia::Inet(value)) => self.gateway = Some(IpAddr::V4(*value)),
            RouteAttribute::Via(RouteVia::Inet6(value)) => self.gateway = Some(IpAddr::V6(*value)),
            RouteAttribute::Via(_) | RouteAttribute::EncapType(_) | RouteAttribute::Encap(_) => {
                self.encapsulated = true;
            }
            _ => {}
        }
    }

    fn finish(self, weight: u32) -> Option<Way> {
        Some(Way {
            link: self.link?,
            gateway: self.gateway,
            weight,
            encapsulated: self.encapsulated,
        })
    }
}

fn parse_next_hop(next_hop: &RouteNextHop) -> Option<Way> {
    if next_hop.flags.contains(RouteNextHopFlags::Dead) {
        return None;
    }
    let mut way = OneWay {
        link: Some(next_hop.interface_index),
        ..OneWay::default()
    };
    for attribute in &next_hop.attributes {
        way.read(attribute);
    }
    // The field holds the weight minus one.
    way.finish(u32::from(next_hop.hops) + 1)
}

fn address(address: &RouteAddress) -> Option<IpAddr> {
    match address {
        RouteAddress::Inet(address) => Some(IpAddr::V4(*address)),
        RouteAddress::Inet6(address) => Some(IpAddr::V6(*address)),
        _ => None,
    }
}

/// How far a neighbour's MAC address can be trusted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Freshness {
    /// Confirmed, being confirmed, or set by hand: nothing to do.
    Fresh,
    /// Usable, but nobody has checked for a while.
    Stale,
}

/// A neighbour whose MAC address is known.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Neighbour {
    /// Interface that it is reached by.
    pub link: u32,
    /// Its IP address.
    pub address: IpAddr,
    /// Its MAC address.
    pub mac: [u8; 6],
    /// Whether it wants to be asked again.
    pub freshness: Freshness,
}

impl Neighbour {
    /// Reads an RTM_NEWNEIGH message; `None` when it has no MAC address that can be used.
    pub fn parse(message: &NeighbourMessage) -> Option<Self> {
        let freshness = match message.header.state {
            NeighbourState::Reachable
            | NeighbourState::Delay
            | NeighbourState::Probe
            | NeighbourState::Noarp
            | NeighbourState::Permanent => Freshness::Fresh,
            NeighbourState::Stale => Freshness::Stale,
            _ => return None,
        };
        let (mut ip, mut mac) = (None, None);
        for attribute in &message.attributes {
            match attribute {
                NeighbourAttribute::Destination(NeighbourAddress::Inet(value)) => {
                    ip = Some(IpAddr::V4(*value))
                }
                NeighbourAttribute::Destination(NeighbourAddress::Inet6(value)) => {
                    ip = Some(IpAddr::V6(*value))
                }
                NeighbourAttribute::LinkLayerAddress(value) => {
                    mac = <[u8; 6]>::try_from(value.as_slice()).ok()
                }
                _ => {}
            }
        }
        Some(Self {
            link: message.header.ifindex,
            address: ip?,
            mac: mac.filter(|mac| *mac != [0; 6])?,
            freshness,
        })
    }
}

/// True for the policy rules that every host has: consult table local, main or default, whatever the packet.
pub fn is_usual_rule(message: &RuleMessage) -> bool {
    let mut table = u32::from(message.header.table);
    let mut selective =
        message.header.dst_len != 0 || message.header.src_len != 0 || message.header.tos != 0;
    for attribute in &message.attributes {
        match attribute {
            RuleAttribute::Table(value) => table = *value,
            // -1: nothing is suppressed.
            RuleAttribute::SuppressPrefixLen(u32::MAX)
            | RuleAttribute::SuppressIfGroup(u32::MAX) => {}
            RuleAttribute::Priority(_) | RuleAttribute::Protocol(_) => {}
            _ => selective = true,
        }
    }
    !selective && message.header.action == RuleAction::ToTable && Level::from_table(table).is_some()
}

#[cfg(test)]
mod tests {
    use netlink_packet_route::{neighbour::NeighbourHeader, route::RouteHeader};

    use super::*;

    fn route_message(kind: RouteType, attributes: Vec<RouteAttribute>) -> RouteMessage {
        let mut message = RouteMessage::default();
        message.header = RouteHeader {
            address_family: AddressFamily::Inet,
            destination_prefix_length: 24,
            table: RouteHeader::RT_TABLE_MAIN,
            kind,
            ..RouteHeader::default()
        };
        message.attributes = attributes;
        message
    }

    fn v4(text: &str) -> Ipv4Addr {
        text.parse().expect("an address")
    }

    #[test]
    fn a_route_is_read_with_its_gateway_metric_and_mtu() {
        let route = Route::parse(&route_message(
            RouteType::Unicast,
            vec![
                RouteAttribute::Destination(RouteAddress::Inet(v4("10.1.0.0"))),
                RouteAttribute::Gateway(RouteAddress::Inet(v4("192.0.2.1"))),
                RouteAttribute::Oif(7),
                RouteAttribute::Priority(100),
                RouteAttribute::Metrics(vec![RouteMetric::Mtu(1400)]),
            ],
        ));
        let way = Way {
            link: 7,
            gateway: Some(v4("192.0.2.1").into()),
            weight: 1,
            encapsulated: false,
        };
        assert_eq!(
            route,
            Some(Route {
                level: Level::Main,
                network: v4("10.1.0.0").into(),
                prefix_len: 24,
                rank: (100, 1),
                kind: RouteKind::Unicast {
                    ways: vec![way],
                    mtu: Some(1400)
                },
            })
        );
    }

    #[test]
    fn an_ipv4_route_can_have_an_ipv6_gateway() {
        let gateway: Ipv6Addr = "fe80::1".parse().expect("an address");
        let route = Route::parse(&route_message(
            RouteType::Unicast,
            vec![
                RouteAttribute::Oif(7),
                RouteAttribute::Via(RouteVia::Inet6(gateway)),
            ],
        ));
        let Some(Route {
            kind: RouteKind::Unicast { ways, .. },
            ..
        }) = route
        else {
            panic!("{route:?}")
        };
        assert_eq!(ways[0].gateway, Some(IpAddr::V6(gateway)));
    }

    #[test]
    fn dead_ways_and_weights_of_a_multipath_route_are_read() {
        let way = |link, hops, flags| {
            let mut next_hop = RouteNextHop::default();
            next_hop.interface_index = link;
            next_hop.hops = hops;
            next_hop.flags = flags;
            next_hop
        };
        let next_hops = vec![
            way(1, 0, RouteNextHopFlags::empty()),
            way(2, 0, RouteNextHopFlags::Dead),
            way(3, 4, RouteNextHopFlags::Onlink),
        ];
        let route = Route::parse(&route_message(
            RouteType::Unicast,
            vec![RouteAttribute::MultiPath(next_hops)],
        ));
        let Some(Route {
            kind: RouteKind::Unicast { ways, .. },
            ..
        }) = route
        else {
            panic!("{route:?}")
        };
        assert_eq!(
            ways.iter()
                .map(|way| (way.link, way.weight))
                .collect::<Vec<_>>(),
            [(1, 1), (3, 5)]
        );
    }

    #[test]
    fn routes_that_do_not_speak_for_every_packet_are_left_out() {
        let plain = || route_message(RouteType::Unicast, vec![RouteAttribute::Oif(1)]);
        assert!(Route::parse(&plain()).is_some());
        let change = |change: fn(&mut RouteMessage)| {
            let mut message = plain();
            change(&mut message);
            Route::parse(&message)
        };
        assert_eq!(change(|message| message.header.tos = 16), None);
        assert_eq!(
            change(|message| message.header.source_prefix_length = 64),
            None
        );
        assert_eq!(
            change(|message| message.header.flags |= RouteFlags::Cloned),
            None
        );
        assert_eq!(
            change(|message| message.header.flags |= RouteFlags::Dead),
            None
        );
        assert_eq!(
            change(|message| message.attributes.push(RouteAttribute::Table(1000))),
            None
        );
        assert_eq!(
            change(|message| message.header.address_family = AddressFamily::Mpls),
            None
        );
    }

    #[test]
    fn a_neighbour_counts_in_the_states_that_have_a_usable_mac() {
        let check = |state, mac: &[u8], expected: Option<Freshness>| {
            let mut message = NeighbourMessage::default();
            message.header = NeighbourHeader {
                family: AddressFamily::Inet,
                ifindex: 3,
                state,
                ..Default::default()
            };
            message.attributes = vec![
                NeighbourAttribute::Destination(NeighbourAddress::Inet(v4("192.0.2.1"))),
                NeighbourAttribute::LinkLayerAddress(mac.to_vec()),
            ];
            let parsed = Neighbour::parse(&message);
            assert_eq!(
                parsed.map(|neighbour| neighbour.freshness),
                expected,
                "{state:?} {mac:?}"
            );
        };
        let mac = [2, 0, 0, 0, 0, 1];
        for state in [
            NeighbourState::Reachable,
            NeighbourState::Delay,
            NeighbourState::Probe,
            NeighbourState::Permanent,
            NeighbourState::Noarp,
        ] {
            check(state, &mac, Some(Freshness::Fresh));
        }
        check(NeighbourState::Stale, &mac, Some(Freshness::Stale));
        for state in [
            NeighbourState::None,
            NeighbourState::Incomplete,
            NeighbourState::Failed,
            NeighbourState::Other(3),
        ] {
            check(state, &mac, None);
        }
        check(NeighbourState::Reachable, &[0; 6], None);
        check(NeighbourState::Reachable, &[1; 20], None);
    }

    #[test]
    fn rules_other_than_the_usual_three_are_noticed() {
        let check = |table: u8, attributes: Vec<RuleAttribute>, usual: bool| {
            let mut message = RuleMessage::default();
            message.header.table = table;
            message.header.action = RuleAction::ToTable;
            message.attributes = attributes;
            assert_eq!(is_usual_rule(&message), usual, "{message:?}");
        };
        check(
            255,
            vec![
                RuleAttribute::Table(255),
                RuleAttribute::SuppressPrefixLen(u32::MAX),
            ],
            true,
        );
        check(
            254,
            vec![RuleAttribute::Table(254), RuleAttribute::Priority(32766)],
            true,
        );
        check(253, vec![], true);
        check(100, vec![RuleAttribute::Table(100)], false);
        check(254, vec![RuleAttribute::FwMark(1)], false);
        check(254, vec![RuleAttribute::SuppressPrefixLen(0)], false);
    }
}
