//! The programs that labs are made of, without siplb between them: when one of these fails, look at the machine first.

use std::{net::SocketAddr, time::Duration};

use siplb_lab::{
    Family, Lab, Shape,
    baresip::{Account, Baresip},
    can_run, can_run_with,
    capture::Capture,
    dns::{Dns, Zone},
    kamailio::{self, Kamailio, PathUse},
    message::Peer,
    sipp::{Plan, Scenario, Sipp},
};

const SOON: Duration = Duration::from_secs(2);
/// For what must not come.
const MOMENT: Duration = Duration::from_millis(300);

/// Two phones, a registrar, and calls from one to the other and from the platform, all of them neighbours.
#[test]
fn phones_register_with_digest_and_call_each_other() {
    if !can_run_with(&["kamailio", "kamcmd", "baresip"]) {
        return;
    }
    let lab = Lab::new(Shape::TwoArmed, 1).expect("a lab");
    let address = |number| lab.server(Family::V4, number);
    let options = kamailio::Options {
        min_expires: Some(60),
        ..kamailio::Options::new(PathUse::Lenient)
    };
    let mut registrar =
        Kamailio::start(&lab, &lab.servers, "registrar", address(0), &options).expect("Kamailio");
    let phone = |user: &str, number: usize| {
        let account = Account {
            expires: 10,
            ..Account::new(user, address(0))
        };
        let ip = address(number).ip();
        let mut phone = Baresip::start(&lab, &lab.servers, ip, &account).expect("a phone");
        phone.await_registered().expect("a registration");
        phone
    };
    let (mut alice, mut bob) = (phone("alice", 1), phone("bob", 2));
    let bindings = registrar.bindings().expect("bindings");
    let mut users: Vec<&str> = bindings
        .iter()
        .map(|binding| binding.user.as_str())
        .collect();
    users.sort_unstable();
    assert_eq!(users, ["alice", "bob"], "{bindings:#?}");
    // It asked for 10 and was told 423 with 60.
    assert!(
        bindings.iter().all(|binding| binding.expires > 50),
        "{bindings:#?}"
    );

    for alice_ends in [true, false] {
        alice.dial("sip:bob@home.test").expect("a call");
        alice.await_established().expect("a call");
        bob.await_established().expect("a call");
        let (first, second) = if alice_ends {
            (&mut alice, &mut bob)
        } else {
            (&mut bob, &mut alice)
        };
        first.hang_up().expect("an end");
        second.await_closed().expect("an end");
    }
    let call = Scenario::new("platform_bye")
        .with("TARGET", "alice@home.test")
        .with("HOST", "platform.test");
    let plan = Plan::caller(call, address(3), address(0), 1, 1);
    let mut platform = Sipp::start(&lab, &lab.servers, "platform", &plan).expect("a caller");
    alice.await_established().expect("a call");
    alice.await_closed().expect("an end");
    let books = platform.finish(10 * SOON).expect("a call");
    assert_eq!(books.successful, 1, "{}", platform.errors());

    alice.unregister().expect("an end");
    let only_bob = |bindings: &[kamailio::Binding]| bindings.len() == 1;
    let left = registrar
        .await_bindings("alice to be gone", only_bob)
        .expect("bindings");
    assert_eq!(left[0].user, "bob");
    bob.stop().expect("an ordinary end");
    registrar
        .await_bindings("bob to be gone", <[_]>::is_empty)
        .expect("bindings");
    registrar.stop().expect("an ordinary end");
}

#[test]
fn the_router_at_home_forgets_a_silent_flow() {
    if !can_run() {
        return;
    }
    let lab = Lab::new(Shape::Home, 1).expect("a lab");
    let timeout = 2;
    lab.forget_flows_after(timeout).expect("timeouts");
    let outside = SocketAddr::from(([198, 51, 100, 1], 7000));
    let outside = Peer::bind(&lab.edge, outside).expect("a socket");
    let to = outside.address().expect("an address");
    let phones = [
        (&lab.client, lab.client_address(Family::V4)),
        (lab.neighbour(), lab.neighbour_address()),
    ];
    let phones =
        phones.map(|(host, ip)| Peer::bind(host, SocketAddr::new(ip, 5060)).expect("a socket"));
    let pinholes = phones.each_ref().map(|phone| {
        phone.send("hello", to).expect("a datagram");
        outside.expect(SOON).expect("a datagram").1
    });
    assert!(
        pinholes
            .iter()
            .all(|pinhole| pinhole.ip() == lab.visible_address(Family::V4))
    );
    assert_ne!(pinholes[0], pinholes[1]);

    let comes_in = |number: usize, wait| {
        outside.send("knock", pinholes[number]).expect("a datagram");
        phones[number].receive(wait).expect("a socket").is_some()
    };
    // Half the time at a time, five times over: what keeps a flow alive is a datagram in either direction.
    for _ in 0..5 {
        std::thread::sleep(Duration::from_millis(500 * u64::from(timeout)));
        assert!(comes_in(0, SOON));
    }
    assert!(!comes_in(1, MOMENT), "the neighbour was silent");
    std::thread::sleep(Duration::from_millis(1000 * u64::from(timeout) + 100));
    let capture = Capture::start(&lab, &lab.edge, "outside").expect("a capture");
    assert!(!comes_in(0, MOMENT), "silent at last");
    let seen = capture.datagrams().expect("datagrams");
    assert_eq!(seen.len(), 1, "{seen:?}");
    assert_eq!(
        (seen[0].source, seen[0].destination, &seen[0].payload[..]),
        (to, pinholes[0], &b"knock"[..])
    );
    phones[0].send("again", to).expect("a datagram");
    outside.expect(SOON).expect("a datagram");
}

/// Raw queries: what is in the answers is for the resolver's own tests.
#[test]
fn a_carrier_has_names() {
    if !can_run_with(&["dnsmasq"]) {
        return;
    }
    let lab = Lab::new(Shape::TwoArmed, 1).expect("a lab");
    let zone = Zone::new("carrier.test")
        .sip_over_udp(10, 20)
        .server(1, 0, "first", 5060)
        .server(2, 0, "second", 5070)
        .address("first", [198, 51, 100, 3].into())
        .address("second", [198, 51, 100, 2].into());
    let address = SocketAddr::new(lab.server(Family::V4, 3).ip(), 53);
    let mut dns = Dns::start(&lab, &lab.servers, address, &zone).expect("a name server");
    let asker = Peer::bind(&lab.edge, SocketAddr::from(([10, 0, 0, 1], 0))).expect("a socket");
    for (name, kind, answers, parts) in [
        ("carrier.test", 35, 1, vec![&b"\x07SIP+D2U\0"[..]]),
        (
            "_sip._udp.carrier.test",
            33,
            2,
            vec![
                &[0, 1, 0, 0, 0x13, 0xc4, 5, b'f'][..],
                &[0, 2, 0, 0, 0x13, 0xce, 6, b's'],
            ],
        ),
        ("first.carrier.test", 1, 1, vec![&[198, 51, 100, 3]]),
        ("second.carrier.test", 1, 1, vec![&[198, 51, 100, 2]]),
        ("third.carrier.test", 1, 0, vec![]),
        ("elsewhere.test", 1, 0, vec![]),
    ] {
        asker.send(query(name, kind), address).expect("a query");
        let (answer, _) = asker.receive(SOON).expect("a socket").expect("an answer");
        assert_eq!(answer[6..8], [0, answers], "{name}: {answer:?}");
        for part in parts {
            assert!(
                answer.windows(part.len()).any(|bytes| bytes == part),
                "{name}: {answer:?}"
            );
        }
    }
    assert_eq!(
        dns.queries()[..2],
        ["NAPTR carrier.test", "SRV _sip._udp.carrier.test"]
    );
    dns.process().stop().expect("an ordinary end");
}

fn query(name: &str, kind: u8) -> Vec<u8> {
    // Id, recursion desired, one question.
    let mut query = vec![0, 7, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0];
    for label in name.split('.') {
        query.push(label.len() as u8);
        query.extend_from_slice(label.as_bytes());
    }
    query.extend_from_slice(&[0, 0, kind, 0, 1]);
    query
}
