use super::{super::facts::Way, *};

const OUT: u32 = 2;
const BACK: u32 = 3;
const TUNNEL: u32 = 4;
const VLAN: u32 = 5;
const FOREIGN_VLAN: u32 = 6;
const FOREIGN: u32 = 7;

fn ip(text: &str) -> IpAddr {
    text.parse().expect("an address")
}

fn mac(last: u8) -> [u8; 6] {
    [2, 0, 0, 0, 0, last]
}

fn link(index: u32, name: &str) -> Link {
    Link {
        index,
        name: name.into(),
        mac: Some(mac(index as u8)),
        mtu: 1500,
        mtu_ipv6: 1500,
        vlan: None,
    }
}

fn links() -> Vec<Link> {
    vec![
        link(OUT, "out"),
        Link {
            mtu: 9000,
            mtu_ipv6: 1280,
            ..link(BACK, "back")
        },
        Link {
            mac: None,
            ..link(TUNNEL, "tunnel")
        },
        Link {
            vlan: Some((OUT, 42)),
            mtu: 1496,
            ..link(VLAN, "out.42")
        },
        Link {
            vlan: Some((FOREIGN, 42)),
            ..link(FOREIGN_VLAN, "foreign.42")
        },
        link(FOREIGN, "foreign"),
    ]
}

fn way(link: u32, gateway: Option<&str>) -> Way {
    Way {
        link,
        gateway: gateway.map(ip),
        weight: 1,
        encapsulated: false,
    }
}

fn unicast(ways: &[Way]) -> RouteKind {
    RouteKind::Unicast {
        ways: ways.to_vec(),
        mtu: None,
    }
}

fn route(network: &str, kind: RouteKind) -> Route {
    let (network, prefix_len) = network.split_once('/').expect("network/length");
    Route {
        level: Level::Main,
        network: ip(network),
        prefix_len: prefix_len.parse().expect("a length"),
        rank: (0, 1),
        kind,
    }
}

fn neighbour(link: u32, address: &str, last: u8) -> Neighbour {
    Neighbour {
        link,
        address: ip(address),
        mac: mac(last),
        freshness: Freshness::Fresh,
    }
}

fn stale(link: u32, address: &str, last: u8) -> Neighbour {
    Neighbour {
        freshness: Freshness::Stale,
        ..neighbour(link, address, last)
    }
}

fn table(routes: Vec<Route>, neighbours: &[Neighbour]) -> NextHops {
    let interfaces = ["out", "back", "tunnel"].map(String::from);
    let routes = Routes::new(&interfaces, &links(), routes);
    NextHops::new(
        1,
        Arc::new(routes),
        Arc::new(Neighbours::new(neighbours, &Neighbours::default())),
    )
}

/// The last byte of the destination MAC, or why there is none.
fn found(table: &NextHops, destination: &str) -> Result<u8, Miss> {
    table
        .lookup(ip(destination))
        .map(|hop| hop.destination_mac[5])
}

#[test]
fn the_longest_prefix_wins_in_both_families() {
    let table = table(
        vec![
            route("0.0.0.0/0", unicast(&[way(OUT, Some("192.0.2.1"))])),
            route("10.0.0.0/8", unicast(&[way(BACK, Some("198.51.100.1"))])),
            route("10.1.2.0/24", unicast(&[way(BACK, None)])),
            route("10.1.2.3/32", unicast(&[way(OUT, Some("192.0.2.9"))])),
            route("::/0", unicast(&[way(OUT, Some("fe80::1"))])),
            route("2001:db8:1::/48", unicast(&[way(BACK, None)])),
        ],
        &[
            neighbour(OUT, "192.0.2.1", 1),
            neighbour(BACK, "198.51.100.1", 2),
            neighbour(BACK, "10.1.2.4", 3),
            neighbour(OUT, "192.0.2.9", 4),
            neighbour(OUT, "fe80::1", 5),
            neighbour(BACK, "2001:db8:1::7", 6),
        ],
    );
    for (destination, expected) in [
        ("203.0.113.1", Ok(1)),
        ("10.200.0.1", Ok(2)),
        ("10.1.2.4", Ok(3)),
        ("10.1.2.3", Ok(4)),
        ("10.1.2.5", Err(Miss::NoNeighbour)),
        ("2001:db8:2::1", Ok(5)),
        ("2001:db8:1::7", Ok(6)),
        ("2001:db8:1::8", Err(Miss::NoNeighbour)),
        ("::ffff:10.1.2.3", Ok(4)),
    ] {
        assert_eq!(found(&table, destination), expected, "{destination}");
    }
}

#[test]
fn every_field_comes_from_the_right_place() {
    let table = table(
        vec![route("10.0.0.0/24", unicast(&[way(BACK, None)]))],
        &[
            neighbour(BACK, "10.0.0.1", 9),
            neighbour(OUT, "10.0.0.1", 8),
        ],
    );
    let expected = NextHop {
        port: 1,
        destination_mac: mac(9),
        source_mac: mac(BACK as u8),
        vlan: None,
        mtu: 9000,
    };
    assert_eq!(table.lookup(ip("10.0.0.1")), Ok(expected));
}

#[test]
fn what_cannot_be_sent_to_has_a_name() {
    let local = Route {
        level: Level::Local,
        ..route("192.0.2.10/32", RouteKind::Local)
    };
    let loopback = Route {
        level: Level::Local,
        ..route("127.0.0.0/8", RouteKind::Local)
    };
    let broadcast = Route {
        level: Level::Local,
        ..route("192.0.2.255/32", RouteKind::Refuse)
    };
    let encapsulated = Way {
        encapsulated: true,
        ..way(OUT, None)
    };
    let table = table(
        vec![
            local,
            loopback,
            broadcast,
            route("192.0.2.0/24", unicast(&[way(OUT, None)])),
            // Table local goes first, however long the prefix in table main.
            route("127.0.0.5/32", unicast(&[way(OUT, None)])),
            route("10.1.0.0/16", RouteKind::Refuse),
            route("10.2.0.0/16", unicast(&[way(FOREIGN, None)])),
            route("10.3.0.0/16", unicast(&[way(99, None)])),
            route("10.4.0.0/16", unicast(&[way(TUNNEL, None)])),
            route("10.5.0.0/16", unicast(&[encapsulated])),
            route("fe80::/64", unicast(&[way(OUT, None)])),
        ],
        &[
            neighbour(OUT, "fe80::7", 1),
            neighbour(OUT, "192.0.2.255", 2),
            neighbour(TUNNEL, "10.4.0.1", 3),
        ],
    );
    for (destination, expected) in [
        ("192.0.2.10", Miss::Local),
        ("127.0.0.5", Miss::Local),
        ("192.0.2.255", Miss::NoRoute),
        ("192.0.2.11", Miss::NoNeighbour),
        ("10.1.0.1", Miss::NoRoute),
        ("10.2.0.1", Miss::OtherInterface),
        ("10.3.0.1", Miss::OtherInterface),
        ("10.4.0.1", Miss::OtherInterface),
        ("10.5.0.1", Miss::OtherInterface),
        ("8.8.8.8", Miss::NoRoute),
        ("0.0.0.0", Miss::NoRoute),
        ("255.255.255.255", Miss::NoRoute),
        ("224.0.0.1", Miss::NoRoute),
        ("ff02::1", Miss::NoRoute),
        ("fe80::7", Miss::NoRoute),
        ("::", Miss::NoRoute),
        ("2001:db8::1", Miss::NoRoute),
    ] {
        assert_eq!(
            table.lookup(ip(destination)),
            Err(expected),
            "{destination}"
        );
    }
}

#[test]
fn a_throw_route_and_an_unmatched_table_leave_it_to_the_next_table() {
    let default = |network, gateway| Route {
        level: Level::Default,
        ..route(network, unicast(&[way(OUT, Some(gateway))]))
    };
    let table = table(
        vec![
            route("10.1.0.0/16", RouteKind::Throw),
            default("10.0.0.0/8", "192.0.2.1"),
            default("0.0.0.0/0", "192.0.2.2"),
        ],
        &[
            neighbour(OUT, "192.0.2.1", 1),
            neighbour(OUT, "192.0.2.2", 2),
        ],
    );
    assert_eq!(found(&table, "10.1.0.1"), Ok(1));
    assert_eq!(found(&table, "11.0.0.1"), Ok(2));
}

#[test]
fn the_lowest_metric_wins_and_on_a_tie_the_first() {
    let with_rank = |rank, gateway| Route {
        rank,
        ..route("0.0.0.0/0", unicast(&[way(OUT, Some(gateway))]))
    };
    let neighbours = [
        neighbour(OUT, "192.0.2.1", 1),
        neighbour(OUT, "192.0.2.2", 2),
        neighbour(OUT, "192.0.2.3", 3),
    ];
    for (ranks, expected) in [
        ([(100, 1), (50, 1), (200, 1)], 2),
        ([(100, 1), (100, 1), (100, 1)], 1),
        ([(100, 1), (100, 0), (100, 2)], 2),
        ([(300, 1), (200, 1), (200, 1)], 2),
    ] {
        let routes = vec![
            with_rank(ranks[0], "192.0.2.1"),
            with_rank(ranks[1], "192.0.2.2"),
            with_rank(ranks[2], "192.0.2.3"),
        ];
        assert_eq!(
            found(&table(routes, &neighbours), "8.8.8.8"),
            Ok(expected),
            "{ranks:?}"
        );
    }
}

#[test]
fn multipath_spreads_by_weight_and_always_alike() {
    let heavy = Way {
        weight: 3,
        ..way(BACK, Some("198.51.100.1"))
    };
    let routes = || {
        vec![route(
            "10.0.0.0/8",
            unicast(&[way(OUT, Some("192.0.2.1")), heavy.clone()]),
        )]
    };
    let neighbours = [
        neighbour(OUT, "192.0.2.1", 1),
        neighbour(BACK, "198.51.100.1", 2),
    ];
    let (table, again) = (table(routes(), &neighbours), table(routes(), &neighbours));
    let mut light_count = 0;
    for number in 0..4000_u32 {
        let destination = IpAddr::from((0x0a00_0000 + number).to_be_bytes());
        let hop = table.lookup(destination);
        assert_eq!(hop, again.lookup(destination));
        light_count += u32::from(hop.map(|hop| hop.destination_mac[5]) == Ok(1));
    }
    // 1000 expected; six standard deviations are about 164.
    assert!((836..=1164).contains(&light_count), "{light_count} of 4000");
}

#[test]
fn multipath_passes_over_a_gateway_that_does_not_answer() {
    let ways = [way(OUT, Some("192.0.2.1")), way(BACK, Some("198.51.100.1"))];
    let one = table(
        vec![route("10.0.0.0/8", unicast(&ways))],
        &[neighbour(BACK, "198.51.100.1", 2)],
    );
    let none = table(vec![route("10.0.0.0/8", unicast(&ways))], &[]);
    for number in 0..64 {
        let destination = format!("10.0.0.{number}");
        assert_eq!(found(&one, &destination), Ok(2));
        assert_eq!(found(&none, &destination), Err(Miss::NoNeighbour));
    }
}

#[test]
fn a_vlan_device_on_one_of_our_interfaces_is_its_port_with_a_tag() {
    let table = table(
        vec![
            route("10.1.0.0/16", unicast(&[way(VLAN, None)])),
            route("10.2.0.0/16", unicast(&[way(FOREIGN_VLAN, None)])),
        ],
        &[
            neighbour(VLAN, "10.1.0.1", 9),
            neighbour(FOREIGN_VLAN, "10.2.0.1", 8),
        ],
    );
    let expected = NextHop {
        port: 0,
        destination_mac: mac(9),
        source_mac: mac(VLAN as u8),
        vlan: Some(42),
        mtu: 1496,
    };
    assert_eq!(table.lookup(ip("10.1.0.1")), Ok(expected));
    assert_eq!(table.lookup(ip("10.2.0.1")), Err(Miss::OtherInterface));
}

#[test]
fn the_smaller_of_route_mtu_and_link_mtu_counts() {
    let with_mtu = |network, link, mtu| {
        route(
            network,
            RouteKind::Unicast {
                ways: vec![way(link, None)],
                mtu,
            },
        )
    };
    let table = table(
        vec![
            with_mtu("10.1.0.0/16", BACK, None),
            with_mtu("10.2.0.0/16", BACK, Some(1400)),
            with_mtu("10.3.0.0/16", OUT, Some(9000)),
            with_mtu("2001:db8:1::/48", BACK, None),
            with_mtu("2001:db8:2::/48", BACK, Some(1400)),
        ],
        &[
            neighbour(BACK, "10.1.0.1", 1),
            neighbour(BACK, "10.2.0.1", 1),
            neighbour(OUT, "10.3.0.1", 1),
            neighbour(BACK, "2001:db8:1::1", 1),
            neighbour(BACK, "2001:db8:2::1", 1),
        ],
    );
    for (destination, expected) in [
        ("10.1.0.1", 9000),
        ("10.2.0.1", 1400),
        ("10.3.0.1", 1500),
        ("2001:db8:1::1", 1280),
        ("2001:db8:2::1", 1280),
    ] {
        assert_eq!(
            table.lookup(ip(destination)).map(|hop| hop.mtu),
            Ok(expected),
            "{destination}"
        );
    }
}

#[test]
fn an_ipv4_destination_can_be_behind_an_ipv6_gateway() {
    let table = table(
        vec![route("10.0.0.0/8", unicast(&[way(OUT, Some("fe80::1"))]))],
        &[neighbour(OUT, "fe80::1", 7)],
    );
    assert_eq!(found(&table, "10.0.0.1"), Ok(7));
}

#[test]
fn wanted_destinations_and_gateways_are_asked_when_missing_or_stale() {
    let table = table(
        vec![
            route(
                "0.0.0.0/0",
                unicast(&[way(OUT, Some("192.0.2.1")), way(OUT, Some("192.0.2.2"))]),
            ),
            route("10.0.0.0/24", unicast(&[way(BACK, None)])),
            route("10.9.0.0/24", unicast(&[way(FOREIGN, Some("172.16.0.1"))])),
        ],
        &[
            stale(OUT, "192.0.2.1", 1),
            neighbour(OUT, "192.0.2.2", 2),
            neighbour(BACK, "10.0.0.1", 3),
            stale(BACK, "10.0.0.2", 4),
            stale(BACK, "10.0.0.77", 5),
        ],
    );
    let wanted = [
        "10.0.0.1", "10.0.0.2", "10.0.0.3", "10.9.0.1", "8.8.8.8", "ff02::1",
    ]
    .map(ip);
    let expected = [(OUT, "192.0.2.1"), (BACK, "10.0.0.2"), (BACK, "10.0.0.3")];
    assert_eq!(
        table.wants_asking(&wanted),
        expected.map(|(link, address)| (link, ip(address))).into()
    );
}

#[test]
fn a_stale_neighbour_is_asked_once_for_each_round_in_which_it_was_used() {
    let neighbours = [
        stale(BACK, "10.0.0.1", 1),
        stale(BACK, "10.0.0.2", 2),
        stale(BACK, "2001:db8::1", 3),
    ];
    let table = table(
        vec![
            route("10.0.0.0/24", unicast(&[way(BACK, None)])),
            route("2001:db8::/64", unicast(&[way(BACK, None)])),
        ],
        &neighbours,
    );
    assert_eq!(table.wants_asking(&[]), BTreeSet::new());
    assert_eq!(found(&table, "10.0.0.2"), Ok(2));
    assert_eq!(found(&table, "2001:db8::1"), Ok(3));
    // A rebuild in between does not lose it.
    let rebuilt = Neighbours::new(&neighbours, table.neighbours());
    let table = NextHops::new(2, table.routes().clone(), Arc::new(rebuilt));
    let expected = [(BACK, ip("10.0.0.2")), (BACK, ip("2001:db8::1"))];
    assert_eq!(table.wants_asking(&[]), expected.into());
    assert_eq!(table.wants_asking(&[]), BTreeSet::new());
}
