//! Every datagram that leaves has the right checksums, in the eyes of tshark at the far ends and of the kernels there.

use std::time::Duration;

use siplb_lab::{
    Family, Lab, Shape, Siplb, can_run,
    capture::{Capture, Checksum},
    message::{Peer, request, respond},
    siplb::{DataPath, Options},
    sipp::{Plan, Scenario, Sipp},
};

const CALLS: u64 = 200;
const TIMEOUT: Duration = Duration::from_secs(5);

#[test]
fn over_native_af_xdp() {
    check(Shape::TwoArmed, DataPath::Native);
}

#[test]
fn over_native_af_xdp_with_one_interface() {
    check(Shape::OneArmed, DataPath::Native);
}

#[test]
fn over_kernel_sockets() {
    check(Shape::TwoArmed, DataPath::Socket);
}

fn check(shape: Shape, data_path: DataPath) {
    if !can_run() {
        return;
    }
    let lab = Lab::new(shape, 2).expect("a lab");
    let mut siplb = Siplb::start(&lab, &Options::new(data_path)).expect("siplb");
    for family in [Family::V4, Family::V6] {
        let captures = [&lab.client, &lab.servers]
            .map(|host| Capture::start(&lab, host, "eth0").expect("a capture"));
        calls(&lab, family);
        of_every_length(&lab, family);
        let vip = lab.vip(family).ip().to_string();
        for capture in captures {
            let packets = capture.stop().expect("packets");
            let ours: Vec<_> = packets
                .iter()
                .filter(|packet| packet.source == vip)
                .collect();
            assert!(
                ours.len() as u64 > 2 * CALLS,
                "only {} packets from us",
                ours.len()
            );
            for packet in ours {
                let expected_ip = (family == Family::V4).then_some(Checksum::Good);
                assert_eq!(packet.ip_checksum, expected_ip, "{packet:?}");
                assert!(
                    matches!(packet.udp_checksum, None | Some(Checksum::Good)),
                    "{packet:?}"
                );
            }
        }
    }
    for host in [&lab.client, &lab.servers] {
        for file in ["snmp", "snmp6"] {
            assert_eq!(checksum_errors(host, file), 0, "{}", host.namespace());
        }
    }
    siplb.stop().expect("an ordinary end");
}

fn calls(lab: &Lab, family: Family) {
    let mut servers: Vec<Sipp> = (0..3)
        .map(|number| {
            let plan = Plan::server(Scenario::new("uas_peer_bye"), lab.server(family, number));
            Sipp::start(
                lab,
                &lab.servers,
                &format!("{family:?}-server{number}"),
                &plan,
            )
            .expect("a server")
        })
        .collect();
    let local = (lab.client_address(family), 5061).into();
    let plan = Plan::caller(
        Scenario::new("uac_peer_bye"),
        local,
        lab.vip(family),
        CALLS,
        100,
    );
    let mut caller =
        Sipp::start(lab, &lab.client, &format!("{family:?}-caller"), &plan).expect("a caller");
    let calls = caller.finish(Duration::from_secs(30)).expect("calls");
    assert_eq!(
        (calls.successful, calls.failed),
        (CALLS, 0),
        "{}",
        caller.errors()
    );
    for server in &mut servers {
        server.stop().expect("an end");
    }
}

/// Odd and even lengths, and header fields of ours that begin at odd and even places.
fn of_every_length(lab: &Lab, family: Family) {
    let vip = lab.vip(family);
    let caller =
        Peer::bind(&lab.client, (lab.client_address(family), 5061).into()).expect("a caller");
    let servers: Vec<Peer> = (0..3)
        .map(|number| Peer::bind(&lab.servers, lab.server(family, number)).expect("a server"))
        .collect();
    let from = caller.address().expect("an address");
    for number in 0..24 {
        let call_id = format!("length-{}", "x".repeat(number));
        let body = "y".repeat(number / 2);
        caller
            .send(request("INVITE", from, vip, &call_id, "", &body), vip)
            .expect("sent");
        // One of them gets it; the others are only looked at.
        let (server, invite) = siplb_lab::until("the INVITE to arrive", TIMEOUT, || {
            servers.iter().find_map(|server| {
                let (invite, _) = server.receive(Duration::from_millis(1)).ok()??;
                Some((server, String::from_utf8_lossy(&invite).into_owned()))
            })
        })
        .expect("the INVITE");
        assert!(invite.ends_with(&format!("\r\n\r\n{body}")), "{invite}");
        server
            .send(respond(&invite, "486 Busy Here"), vip)
            .expect("sent");
        let (response, _) = caller.expect(TIMEOUT).expect("a response");
        assert!(response.starts_with("SIP/2.0 486 "), "{response}");
    }
}

/// How many datagrams the kernel of a host has dropped because of their checksum.
fn checksum_errors(host: &siplb_lab::Host, file: &str) -> u64 {
    let text = host.enter(|| std::fs::read_to_string(format!("/proc/thread-self/net/{file}")));
    let text = text.expect("inside").expect("counters of the kernel");
    let mut errors = 0;
    match file {
        // `Name value` on each line.
        "snmp6" => {
            for line in text
                .lines()
                .filter(|line| line.starts_with("Udp6InCsumErrors"))
            {
                errors += line
                    .split_whitespace()
                    .nth(1)
                    .and_then(|value| value.parse::<u64>().ok())
                    .unwrap_or(0);
            }
        }
        // A line of names, then a line of values.
        _ => {
            let lines: Vec<&str> = text
                .lines()
                .filter(|line| line.starts_with("Udp: "))
                .collect();
            let columns = lines[0].split_whitespace().zip(lines[1].split_whitespace());
            for (_, value) in columns.filter(|(name, _)| *name == "InCsumErrors") {
                errors += value.parse::<u64>().expect("a number");
            }
        }
    }
    errors
}
