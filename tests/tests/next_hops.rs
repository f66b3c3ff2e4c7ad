//! Next hops against a real kernel: every change of routes, neighbours and links shows in the snapshot.

use std::{net::IpAddr, time::Duration};

use lb_userspace::control::next_hops::{Miss, NextHops, Watcher};
use siplb_lab::{Host, can_run};

const TIMEOUT: Duration = Duration::from_secs(10);

/// Two hosts, two wires between them: `left` at 10.0.1.0/24 and `right` at 10.0.2.0/24 on our side.
struct Net {
    us: Host,
    peer: Host,
    watcher: Watcher,
}

impl Net {
    fn new(name: &str, keep_fresh: &[&str]) -> Self {
        let namespace = |host| format!("siplb-{}-{name}-{host}", std::process::id());
        let us = Host::new(&namespace("us")).expect("a host");
        let peer = Host::new(&namespace("peer")).expect("a host");
        for (number, wire) in [(1, "left"), (2, "right")] {
            let peer_name = peer.namespace();
            us.ip(&format!(
                "link add {wire} type veth peer name {wire} netns {peer_name}"
            ))
            .expect("a wire");
            for (host, last) in [(&us, 1), (&peer, 2)] {
                host.ip(&format!(
                    "link set {wire} address 02:00:00:00:0{last}:0{number} up"
                ))
                .expect("up");
                host.ip(&format!("address add 10.0.{number}.{last}/24 dev {wire}"))
                    .expect("an address");
                host.ip(&format!(
                    "address add 2001:db8:{number}::{last}/64 dev {wire} nodad"
                ))
                .expect("an address");
            }
        }
        let interfaces = ["left", "right"].map(String::from);
        let keep_fresh = keep_fresh.iter().map(|address| ip(address)).collect();
        let watcher = us
            .enter(|| Watcher::start(&interfaces, keep_fresh))
            .expect("inside")
            .expect("a watcher");
        Self { us, peer, watcher }
    }

    /// Runs `ip` on our side.
    fn ip(&self, arguments: &str) {
        self.us.ip(arguments).expect(arguments);
    }

    /// Waits until a destination goes by this port to the peer's MAC address there, or misses in this way.
    fn expect(&self, destination: &str, expected: Result<u8, Miss>) {
        let destination = ip(destination);
        let mut last = None;
        let came = self.watcher.wait_for(TIMEOUT, |table| {
            let found = port_to_peer(table, destination);
            last = Some(table.lookup(destination));
            found == expected
        });
        let neighbours = self.us.ip("neighbour");
        assert!(
            came,
            "{destination}: {last:?} instead of {expected:?}; {neighbours:?}"
        );
    }
}

fn ip(text: &str) -> IpAddr {
    text.parse().expect("an address")
}

fn port_to_peer(table: &NextHops, destination: IpAddr) -> Result<u8, Miss> {
    let hop = table.lookup(destination)?;
    assert_eq!(
        hop.destination_mac,
        [2, 0, 0, 0, 2, hop.port + 1],
        "{destination}"
    );
    assert_eq!(
        hop.source_mac,
        [2, 0, 0, 0, 1, hop.port + 1],
        "{destination}"
    );
    Ok(hop.port)
}

#[test]
fn routes_come_and_go() {
    if !can_run() {
        return;
    }
    let net = Net::new("routes", &[]);
    net.expect("192.0.2.1", Err(Miss::NoRoute));
    net.expect("10.0.1.1", Err(Miss::Local));
    net.expect("2001:db8:1::1", Err(Miss::Local));
    // Gateways are asked for their MAC address without waiting for traffic.
    net.ip("route add default via 10.0.1.2");
    net.expect("192.0.2.1", Ok(0));
    net.ip("route add 192.0.2.0/24 via 10.0.2.2");
    net.expect("192.0.2.1", Ok(1));
    net.ip("route add blackhole 192.0.2.1/32");
    net.expect("192.0.2.1", Err(Miss::NoRoute));
    net.expect("192.0.2.2", Ok(1));
    net.ip("route delete blackhole 192.0.2.1/32");
    net.ip("route replace 192.0.2.0/24 via 10.0.1.2");
    net.expect("192.0.2.2", Ok(0));
    net.ip("route add default via 2001:db8:2::2");
    net.expect("2001:db8:ffff::1", Ok(1));
    net.ip("route delete default via 2001:db8:2::2");
    net.expect("2001:db8:ffff::1", Err(Miss::NoRoute));
    // The kernel does not announce the routes that go with an address or a link.
    net.ip("address delete 10.0.1.1/24 dev left");
    net.expect("198.51.100.1", Err(Miss::NoRoute));
    net.expect("192.0.2.2", Err(Miss::NoRoute));
    net.ip("route add 203.0.113.0/24 via 10.0.2.2");
    net.expect("203.0.113.1", Ok(1));
    net.ip("link set right down");
    net.expect("203.0.113.1", Err(Miss::NoRoute));
}

#[test]
fn a_route_over_two_gateways_uses_both_and_survives_the_loss_of_one() {
    if !can_run() {
        return;
    }
    let net = Net::new("multipath", &[]);
    net.ip("route add 192.0.2.0/24 nexthop via 10.0.1.2 nexthop via 10.0.2.2");
    net.ip("route add 2001:db8:f::/64 nexthop via 2001:db8:1::2 nexthop via 2001:db8:2::2");
    let ports = |table: &NextHops, prefix: &str| {
        let destinations = (1..=64).map(|number| ip(&format!("{prefix}{number}")));
        let ports = destinations.map(|destination| port_to_peer(table, destination));
        ports.collect::<std::collections::HashSet<_>>()
    };
    for prefix in ["192.0.2.", "2001:db8:f::"] {
        let both = [Ok(0), Ok(1)].into();
        assert!(
            net.watcher
                .wait_for(TIMEOUT, |table| ports(table, prefix) == both),
            "{prefix}"
        );
    }
    net.ip("link set left down");
    for prefix in ["192.0.2.", "2001:db8:f::"] {
        let one = [Ok(1)].into();
        assert!(
            net.watcher
                .wait_for(TIMEOUT, |table| ports(table, prefix) == one),
            "{prefix}"
        );
    }
}

#[test]
fn the_mtu_of_a_route_and_of_a_link_show() {
    if !can_run() {
        return;
    }
    let net = Net::new("mtu", &["10.0.1.2", "2001:db8:2::2"]);
    let expect = |destination: &str, mtu: u16| {
        let is_so = |table: &NextHops| table.lookup(ip(destination)).map(|hop| hop.mtu) == Ok(mtu);
        assert!(net.watcher.wait_for(TIMEOUT, is_so), "{destination} {mtu}");
    };
    expect("10.0.1.2", 1500);
    net.ip("route add 10.0.1.2/32 dev left mtu 1400");
    expect("10.0.1.2", 1400);
    net.ip("link set left mtu 1300");
    expect("10.0.1.2", 1300);
    expect("2001:db8:2::2", 1500);
    net.ip("link set right mtu 1280");
    expect("2001:db8:2::2", 1280);
}

#[test]
fn neighbours_are_seen_to_change_and_vanish() {
    if !can_run() {
        return;
    }
    let net = Net::new("neighbours", &[]);
    net.expect("10.0.1.2", Err(Miss::NoNeighbour));
    net.ip("neighbour add 10.0.1.2 lladdr 02:00:00:00:02:01 dev left nud permanent");
    net.expect("10.0.1.2", Ok(0));
    net.ip("neighbour delete 10.0.1.2 dev left");
    net.expect("10.0.1.2", Err(Miss::NoNeighbour));
    // A stale one is good enough until it turns out to be wrong.
    net.ip("neighbour add 2001:db8:2::2 lladdr 02:00:00:00:02:02 dev right nud stale");
    net.expect("2001:db8:2::2", Ok(1));
}

#[test]
fn backends_are_resolved_without_traffic_and_asked_again_when_stale() {
    if !can_run() {
        return;
    }
    let net = Net::new("fresh", &["10.0.1.2", "2001:db8:1::2"]);
    net.expect("10.0.1.2", Ok(0));
    net.expect("2001:db8:1::2", Ok(0));
    // The peer moves to another MAC address without telling anybody, and the entry is stale: the kernel alone would
    // never find out, because it sees no traffic.
    net.peer
        .sysctl("ipv4/conf/left/arp_notify", "0")
        .expect("a setting");
    net.peer
        .ip("link set left address 02:00:00:00:0f:01")
        .expect("a new address");
    net.ip("neighbour replace 10.0.1.2 lladdr 02:00:00:00:02:01 dev left nud stale");
    net.us
        .sysctl("ipv4/neigh/left/delay_first_probe_time", "1")
        .expect("a setting");
    let moved = |table: &NextHops| {
        table.lookup(ip("10.0.1.2")).map(|hop| hop.destination_mac) == Ok([2, 0, 0, 0, 15, 1])
    };
    // Up to 3 s until the next round, 1 s of delay, then the kernel's probes: unicast three times, then broadcast.
    assert!(
        net.watcher.wait_for(TIMEOUT, moved),
        "{:?}",
        net.us.ip("neighbour")
    );
}

#[test]
fn a_stale_neighbour_in_use_is_checked() {
    if !can_run() {
        return;
    }
    let net = Net::new("used", &[]);
    net.us
        .sysctl("ipv4/neigh/left/delay_first_probe_time", "1")
        .expect("a setting");
    net.ip("neighbour add 10.0.2.2 lladdr 02:00:00:00:0f:0f dev right nud stale");
    net.ip("neighbour add 10.0.1.2 lladdr 02:00:00:00:0f:0f dev left nud stale");
    let mac = |table: &NextHops, destination: &str| {
        table.lookup(ip(destination)).map(|hop| hop.destination_mac)
    };
    let wrong = Ok([2, 0, 0, 0, 15, 15]);
    // The second to come: with it both are there.
    let known = |table: &NextHops| mac(table, "10.0.1.2") == wrong;
    assert!(net.watcher.wait_for(TIMEOUT, known));
    // Looking at one of them is what makes the difference: its wrong MAC address is found out and forgotten, and the
    // kernel socket will resolve it with the next datagram.
    let found_out = |table: &NextHops| mac(table, "10.0.1.2") == Err(Miss::NoNeighbour);
    assert!(
        net.watcher.wait_for(TIMEOUT, found_out),
        "{:?}",
        net.us.ip("neighbour")
    );
    let table = net.watcher.table();
    assert_eq!(mac(&table.load(), "10.0.2.2"), wrong);
}

#[test]
fn an_interface_that_does_not_exist_is_named() {
    if !can_run() {
        return;
    }
    let net = Net::new("missing", &[]);
    let start = || Watcher::start(&["left".into(), "up".into()], Vec::new());
    let error = net
        .us
        .enter(start)
        .expect("inside")
        .expect_err("no such interface");
    assert!(error.to_string().contains("\"up\""), "{error}");
}
