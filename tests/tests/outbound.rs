//! Calls of the platform to a carrier by way of the VIP, which is the one address that the carrier sees.

use std::{
    collections::BTreeSet,
    net::{IpAddr, Ipv4Addr, SocketAddr},
    time::Duration,
};

use siplb_lab::{
    Family, Host, Lab, Shape, Siplb, can_run, can_run_with,
    capture::{Capture, Datagram},
    dns::{Dns, Zone},
    leak,
    siplb::{DataPath, Options},
    sipp::{Plan, Scenario, Sipp},
};

const CALLS: u64 = 5;
const TIMEOUT: Duration = Duration::from_secs(60);
/// The network of the platform.
const INNER: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 0);
/// Where the platform has its media, which siplb has nothing to do with.
const MEDIA: IpAddr = IpAddr::V4(Ipv4Addr::new(203, 0, 113, 77));
/// An address of the carrier where nobody answers, not even the kernel.
const DEAD: IpAddr = IpAddr::V4(Ipv4Addr::new(198, 51, 100, 3));
/// The number that is called.
const NUMBER: &str = "1234";

#[test]
fn to_an_address_over_native_af_xdp() {
    to_an_address(DataPath::Native);
}

#[test]
fn to_an_address_over_kernel_sockets() {
    to_an_address(DataPath::Socket);
}

fn to_an_address(data_path: DataPath) {
    if !can_run() {
        return;
    }
    for topology in ["keep", "hide"] {
        let played = outgoing(topology, data_path, |carrier| carrier.to_string(), None);
        assert_eq!(played.retransmissions, 0);
    }
}

/// The better one of the carrier's two servers is dead: the call is set up by the other.
#[test]
fn to_a_name_over_native_af_xdp() {
    to_a_name(DataPath::Native);
}

#[test]
fn to_a_name_over_kernel_sockets() {
    to_a_name(DataPath::Socket);
}

fn to_a_name(data_path: DataPath) {
    if !can_run_with(&["dnsmasq"]) {
        return;
    }
    let zone = Zone::new("carrier.test")
        .sip_over_udp(10, 10)
        .server(1, 0, "first", 5060)
        .server(2, 0, "second", 5060)
        .address("first", DEAD)
        .address("second", [198, 51, 100, 2].into());
    let name = |_| "carrier.test".to_string();
    let played = outgoing("keep", data_path, name, Some(&zone));
    assert!(played.retransmissions > 0);
    let dead: Vec<&Datagram> = played
        .datagrams
        .iter()
        .filter(|datagram| datagram.destination.ip() == DEAD)
        .collect();
    assert!(!dead.is_empty());
    for datagram in dead {
        assert!(datagram.payload.starts_with(b"INVITE "), "{datagram:?}");
    }
}

/// The carrier calls, and the platform answers; the rest of the dialog comes from either side.
#[test]
fn nothing_leaks_into_calls_of_the_carrier() {
    if !can_run() {
        return;
    }
    for data_path in [DataPath::Native, DataPath::Socket] {
        for (caller, server) in [
            ("uac_reinvite", "uas_reinvite"),
            ("uac_peer_bye", "uas_peer_bye"),
        ] {
            let site = Site::raise("hide", data_path, None);
            let carrier = site.carrier();
            let plan = Plan::caller(Scenario::new(caller), carrier, site.vip, CALLS, 5);
            let platform = site.lab.server(Family::V4, 0);
            let server = platform_plan(Plan::server(Scenario::new(server), platform));
            let played = site.play(plan, server);
            no_inner_address(&played.datagrams);
        }
    }
}

#[test]
fn nothing_leaks_into_calls_to_the_carrier() {
    if !can_run() {
        return;
    }
    for data_path in [DataPath::Native, DataPath::Socket] {
        let played = outgoing("hide", data_path, |carrier| carrier.to_string(), None);
        no_inner_address(&played.datagrams);
    }
}

/// The search itself works: without hiding, there is something to find.
#[test]
fn addresses_are_seen_where_they_are_not_hidden() {
    if !can_run() {
        return;
    }
    let played = outgoing(
        "keep",
        DataPath::Socket,
        |carrier| carrier.to_string(),
        None,
    );
    let leaks = leaks(&played.datagrams);
    assert!(
        leaks
            .iter()
            .any(|leak| leak.starts_with("as text: Contact")),
        "{leaks:#?}"
    );
}

/// Calls of the platform to the carrier, who sends a re-INVITE; the BYE comes from the platform in some, from the
/// carrier in the others.
fn outgoing(
    topology: &str,
    data_path: DataPath,
    target: impl Fn(SocketAddr) -> String,
    zone: Option<&Zone>,
) -> Played {
    let mut all = Played::default();
    for (caller, server) in [
        ("platform_peer_reinvite", "uas_peer_reinvite"),
        ("platform_peer_reinvite_bye", "uas_peer_bye"),
    ] {
        let site = Site::raise(topology, data_path, zone);
        let platform = site.lab.server(Family::V4, 0);
        let scenario = Scenario::new(caller)
            .with("TARGET", format!("{NUMBER}@{}", target(site.carrier())))
            .with("HOST", platform.ip().to_string());
        let plan = platform_plan(Plan::caller(scenario, platform, site.vip, CALLS, 5));
        let server = Plan::server(Scenario::new(server), site.carrier());
        let played = site.play(plan, server);
        all.datagrams.extend(played.datagrams);
        all.retransmissions += played.retransmissions;
    }
    all
}

/// An outer address where siplb does not promise to hide an inner one: where the media are. Call-ID and From have those that
/// SIPp puts there.
fn platform_plan(plan: Plan) -> Plan {
    Plan {
        media: Some(MEDIA),
        ..plan
    }
}

fn no_inner_address(datagrams: &[Datagram]) {
    let leaks = leaks(datagrams);
    let some = &leaks[..leaks.len().min(8)];
    assert!(leaks.is_empty(), "{} leaks: {some:#?}", leaks.len());
}

fn leaks(datagrams: &[Datagram]) -> Vec<String> {
    let leaks = datagrams.iter().flat_map(|datagram| {
        let payload = &datagram.payload;
        let message = String::from_utf8_lossy(payload);
        leak::addresses(payload, INNER)
            .into_iter()
            .map(move |leak| format!("{leak}, in {message}"))
    });
    leaks.collect()
}

/// What came of the calls.
#[derive(Default)]
struct Played {
    retransmissions: u64,
    /// Everything that left the edge towards the carrier.
    datagrams: Vec<Datagram>,
}

/// The platform behind siplb, and the carrier in front of it. The lab is last: what runs in it ends first.
struct Site {
    siplb: Siplb,
    dns: Option<Dns>,
    vip: SocketAddr,
    lab: Lab,
}

impl Site {
    fn raise(topology: &str, data_path: DataPath, zone: Option<&Zone>) -> Self {
        let lab = Lab::new(Shape::TwoArmed, 1).expect("a lab");
        lab.client
            .ip(&format!("address add {DEAD}/24 dev eth0"))
            .expect("an address");
        // SIPp wants to have the address that it writes into its SDP.
        lab.servers
            .ip(&format!("address add {MEDIA}/32 dev lo"))
            .expect("an address");
        for command in [
            "add table ip carrier",
            "add chain ip carrier in { type filter hook input priority filter ; }",
            &format!("add rule ip carrier in ip daddr {DEAD} drop"),
        ] {
            lab.client.run("nft", command).expect("a rule");
        }
        let name_server = SocketAddr::new(lab.server(Family::V4, 3).ip(), 53);
        let dns = zone
            .map(|zone| Dns::start(&lab, &lab.servers, name_server, zone).expect("a name server"));
        let options = Options {
            families: vec![Family::V4],
            weights: vec![1],
            rest: format!(
                "outbound: {{ trusted: [10.0.0.0/24], topology: {topology}, name_servers: [\"{name_server}\"] }}\n"
            ),
            ..Options::new(data_path)
        };
        let siplb = Siplb::start(&lab, &options).expect("siplb");
        Self {
            siplb,
            dns,
            vip: lab.vip(Family::V4),
            lab,
        }
    }

    fn carrier(&self) -> SocketAddr {
        SocketAddr::new(self.lab.client_address(Family::V4), 5060)
    }

    fn host_of(&self, address: SocketAddr) -> &Host {
        if address == self.carrier() {
            &self.lab.client
        } else {
            &self.lab.servers
        }
    }

    /// All calls go well, and the carrier sees no other address than the VIP.
    fn play(mut self, caller: Plan, server: Plan) -> Played {
        let lab = &self.lab;
        let capture = Capture::start(lab, &lab.client, "eth0").expect("a capture");
        let [mut server, mut caller] =
            [("server", server), ("caller", caller)].map(|(name, plan)| {
                let host = self.host_of(plan.local);
                Sipp::start(lab, host, name, &plan.logging()).expect("SIPp")
            });
        let books = caller.finish(TIMEOUT).expect("calls");
        let outcome = (books.successful, books.failed);
        assert_eq!(
            outcome,
            (CALLS, 0),
            "{books:#?}\n{}\n{}",
            caller.errors(),
            server.errors()
        );
        server.stop().expect("an end");
        let mut datagrams = capture.datagrams().expect("datagrams");
        let own = [self.carrier().ip(), DEAD];
        datagrams.retain(|datagram| !own.contains(&datagram.source.ip()));
        let sources: BTreeSet<SocketAddr> =
            datagrams.iter().map(|datagram| datagram.source).collect();
        assert_eq!(sources, BTreeSet::from([self.vip]));
        if let Some(dns) = &self.dns {
            let asked = dns.queries();
            assert!(
                asked.contains(&"NAPTR carrier.test".to_string()),
                "{asked:?}"
            );
        }
        self.siplb.stop().expect("an ordinary end");
        Played {
            retransmissions: books.retransmissions,
            datagrams,
        }
    }
}
