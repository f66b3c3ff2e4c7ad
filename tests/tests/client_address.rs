//! What a server is told of the client's address, as it arrives there: to the byte, in both directions of a dialog, with
//! right checksums.

use std::{net::SocketAddr, time::Duration};

use siplb_lab::{
    Family, Lab, Shape, Siplb, can_run,
    capture::{Capture, Checksum},
    message::{Peer, request, respond},
    siplb::{DataPath, Options},
};

const TIMEOUT: Duration = Duration::from_secs(5);
const SIGNATURE: &[u8] = b"\r\n\r\n\0\r\nQUIT\n";
/// Lengths of bodies: odd and even, one that outgrows the MTU by what is put in front, one of several fragments.
const BODIES: [usize; 6] = [0, 1, 2, 333, 1050, 4001];

#[test]
fn header_fields_over_native_af_xdp() {
    header_fields(DataPath::Native);
}

#[test]
fn header_fields_over_kernel_sockets() {
    header_fields(DataPath::Socket);
}

#[test]
fn the_proxy_protocol_over_native_af_xdp() {
    proxy_protocol(DataPath::Native, "proxy-protocol", binary);
}

#[test]
fn the_proxy_protocol_over_kernel_sockets() {
    proxy_protocol(DataPath::Socket, "proxy-protocol", binary);
}

#[test]
fn the_proxy_protocol_as_text_over_native_af_xdp() {
    proxy_protocol(DataPath::Native, "proxy-protocol-v1", line);
}

/// A server that expects the header on each datagram understands probes as well.
#[test]
fn probes_begin_with_the_local_form() {
    if !can_run() {
        return;
    }
    let lab = Lab::new(Shape::TwoArmed, 1).expect("a lab");
    let server = Peer::bind(&lab.servers, lab.server(Family::V4, 0)).expect("a server");
    let options = Options {
        families: vec![Family::V4],
        weights: vec![1],
        pool: "client_address: proxy-protocol\nhealth: { interval: 1s, rise: 1, fall: 1 }".into(),
        ..Options::new(DataPath::Socket)
    };
    let mut siplb = Siplb::start(&lab, &options).expect("siplb");
    let local = [SIGNATURE, b"\x20\0\0\0"].concat();
    for _ in 0..2 {
        let (probe, from) = server.receive(TIMEOUT).expect("a socket").expect("a probe");
        let text = probe.strip_prefix(&local[..]).expect("the LOCAL form");
        let text = String::from_utf8(text.to_vec()).expect("text");
        assert!(text.starts_with("OPTIONS sip:"), "{text}");
        server.send(respond(&text, "200 OK"), from).expect("sent");
    }
    let backends = siplb.client().cli(&["backends"]).expect("backends");
    assert!(
        backends.contains("active") && backends.contains("  200  "),
        "{backends}"
    );
    siplb.stop().expect("an ordinary end");
}

/// The header that a server must find in front of what `source` sent to `vip`.
fn binary(source: SocketAddr, vip: SocketAddr) -> Vec<u8> {
    let mut header = SIGNATURE.to_vec();
    header.extend(match source {
        SocketAddr::V4(_) => [0x21, 0x12, 0, 12],
        SocketAddr::V6(_) => [0x21, 0x22, 0, 36],
    });
    for end in [source, vip] {
        match end {
            SocketAddr::V4(end) => header.extend(end.ip().octets()),
            SocketAddr::V6(end) => header.extend(end.ip().octets()),
        }
    }
    for end in [source, vip] {
        header.extend(end.port().to_be_bytes());
    }
    header
}

fn line(source: SocketAddr, vip: SocketAddr) -> Vec<u8> {
    let family = if source.is_ipv4() { "TCP4" } else { "TCP6" };
    let (ip, vip_ip) = (source.ip(), vip.ip());
    format!(
        "PROXY {family} {ip} {vip_ip} {} {}\r\n",
        source.port(),
        vip.port()
    )
    .into_bytes()
}

fn proxy_protocol(data_path: DataPath, told: &str, header: fn(SocketAddr, SocketAddr) -> Vec<u8>) {
    check(data_path, told, |datagram, caller, vip, _| {
        let header = header(caller, vip);
        let text = datagram.strip_prefix(&header[..]);
        text.unwrap_or_else(|| panic!("{}", datagram.escape_ascii()))
            .to_vec()
    });
}

fn header_fields(data_path: DataPath) {
    let told = "{ ip: X-Orig-IP, port: X-Orig-Port, transport: X-Orig-Proto }";
    check(data_path, told, |datagram, caller, _, is_request| {
        let text = String::from_utf8_lossy(datagram);
        for (name, value) in [
            ("X-Orig-IP", caller.ip().to_string()),
            ("X-Orig-Port", caller.port().to_string()),
            ("X-Orig-Proto", "udp".to_owned()),
        ] {
            let lines = text
                .split("\r\n")
                .filter_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
            let values = lines.map(str::trim).collect::<Vec<_>>();
            let wanted = if is_request {
                vec![value.as_str()]
            } else {
                vec![]
            };
            assert_eq!(values, wanted, "{name} in {text}");
        }
        datagram.to_vec()
    });
}

/// Plays calls of both families. `read` looks at a datagram that the server got from the caller by the VIP, and returns the
/// message in it; it is told whether that is a request.
fn check(
    data_path: DataPath,
    told: &str,
    read: impl Fn(&[u8], SocketAddr, SocketAddr, bool) -> Vec<u8>,
) {
    if !can_run() {
        return;
    }
    let lab = Lab::new(Shape::TwoArmed, 2).expect("a lab");
    let options = Options {
        weights: vec![1],
        pool: format!("client_address: {told}"),
        ..Options::new(data_path)
    };
    let mut siplb = Siplb::start(&lab, &options).expect("siplb");
    let capture = Capture::start(&lab, &lab.servers, "eth0").expect("a capture");
    for family in [Family::V4, Family::V6] {
        let vip = lab.vip(family);
        let caller = (lab.client_address(family), 5061).into();
        let caller = Peer::bind(&lab.client, caller).expect("a caller");
        let server = Peer::bind(&lab.servers, lab.server(family, 0)).expect("a server");
        for (number, body) in BODIES.into_iter().enumerate() {
            let call = format!("{family:?}-{number}");
            play(&caller, &server, vip, &call, &"x".repeat(body), &read);
        }
    }
    let packets = capture.stop().expect("packets");
    let vips = [Family::V4, Family::V6].map(|family| lab.vip(family).ip().to_string());
    let ours = packets
        .iter()
        .filter(|packet| vips.contains(&packet.source));
    // INVITE and the 200 to BYE, at least.
    assert!(ours.clone().count() >= 2 * 2 * BODIES.len(), "{packets:#?}");
    for packet in ours {
        assert!(
            matches!(packet.ip_checksum, None | Some(Checksum::Good)),
            "{packet:?}"
        );
        assert!(
            matches!(packet.udp_checksum, None | Some(Checksum::Good)),
            "{packet:?}"
        );
    }
    let totals = siplb
        .settled("all datagrams to be decided", |totals| {
            totals.received() == totals.decided()
        })
        .expect("counters that add up");
    if data_path == DataPath::Native {
        // All but the first ones of a neighbour and those of more than a packet.
        assert!(totals.counter("tx_af_xdp") >= 20, "{totals:#?}");
        assert!(totals.counter("larger_than_mtu") >= 2, "{totals:#?}");
    }
    siplb.stop().expect("an ordinary end");
}

/// An INVITE, its 200, and a BYE of the server.
fn play(
    caller: &Peer,
    server: &Peer,
    vip: SocketAddr,
    call: &str,
    body: &str,
    read: &impl Fn(&[u8], SocketAddr, SocketAddr, bool) -> Vec<u8>,
) {
    let from = caller.address().expect("an address");
    let at_server = |is_request: bool| {
        let received = server.receive(TIMEOUT).expect("a socket");
        let (datagram, source) = received.unwrap_or_else(|| panic!("{call}: nothing came"));
        assert_eq!(source, vip);
        String::from_utf8(read(&datagram, from, vip, is_request)).expect("text")
    };
    let forged = "x-orig-ip: 192.0.2.66\r\n";
    let invite = request("INVITE", from, vip, call, forged, body);
    caller.send(&invite, vip).expect("sent");
    let arrived = at_server(true);
    assert!(arrived.starts_with("INVITE sip:"), "{arrived}");
    assert!(arrived.ends_with(&format!("\r\n\r\n{body}")), "{arrived}");

    server.send(respond(&arrived, "200 OK"), vip).expect("sent");
    let (ok, _) = caller.expect(TIMEOUT).expect("a response");
    assert!(ok.starts_with("SIP/2.0 200 OK\r\n"), "{ok}");
    assert_eq!(ok.matches("\r\nVia:").count(), 1, "{ok}");
    assert!(!ok.contains("Orig"), "{ok}");

    let route = arrived
        .split("\r\n")
        .find_map(|line| line.strip_prefix("Record-Route: "));
    let route = format!("Route: {}\r\n", route.expect(&arrived));
    let local = server.address().expect("an address");
    let bye = request("BYE", local, vip, call, &route, "").replace(
        &format!("To: <sip:service@{vip}>"),
        &format!("To: <sip:service@{vip}>;tag=caller"),
    );
    server.send(bye, vip).expect("sent");
    let (bye, _) = caller.expect(TIMEOUT).expect("the BYE");
    assert!(bye.starts_with("BYE sip:"), "{bye}");
    caller
        .send(
            respond(&bye, "200 OK").replace(";tag=caller;tag=server", ";tag=caller"),
            vip,
        )
        .expect("sent");
    let ok = at_server(false);
    assert!(ok.starts_with("SIP/2.0 200 OK\r\n"), "{ok}");
    assert_eq!(ok.matches("\r\nVia:").count(), 1, "{ok}");
}
