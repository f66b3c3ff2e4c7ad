//! Messages that do not fit a packet, before or after we have added our header fields, arrive whole.

use std::{net::SocketAddr, time::Duration};

use siplb_lab::{
    Family, Lab, Shape, Siplb, can_run,
    message::{Peer, request, respond},
    siplb::{DataPath, Options, Totals},
    until,
};

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
    let mut options = Options::new(data_path);
    options.weights = vec![1];
    let mut siplb = Siplb::start(&lab, &options).expect("siplb");
    for family in [Family::V4, Family::V6] {
        check_family(&lab, &siplb, family);
    }
    let totals = siplb
        .settled("counters", |totals| totals.received() == totals.decided())
        .expect("counters");
    if data_path == DataPath::Native {
        // Of each family came in as fragments: the INVITE of 8 kB, the response to it, and the response to the one
        // that had outgrown the MTU. The latter came in over AF_XDP and had to leave through the kernel.
        assert_eq!(totals.counter("rx_kernel"), 2 * 3, "{totals:#?}");
        assert_eq!(totals.counter("larger_than_mtu"), 2, "{totals:#?}");
        let fragments = siplb.xdp().expect("XDP counters").total("fragment");
        assert!(fragments >= 2 * (6 + 6 + 2), "{fragments} fragments");
    }
    siplb.stop().expect("an ordinary end");
}

fn check_family(lab: &Lab, siplb: &Siplb, family: Family) {
    let vip = lab.vip(family);
    let caller =
        Peer::bind(&lab.client, (lab.client_address(family), 5061).into()).expect("a caller");
    let server = Peer::bind(&lab.servers, lab.server(family, 0)).expect("a server");
    let from = caller.address().expect("an address");
    let headers = match family {
        Family::V4 => 20 + 8,
        Family::V6 => 40 + 8,
    };
    over_af_xdp_if_at_all(siplb, &caller, &server, vip);
    for (name, length) in [
        ("small", 600),
        ("outgrows", 1480 - headers),
        ("fragments", 8000),
    ] {
        let call_id = format!("{name}-{family:?}");
        let sent = invite_of_length(from, vip, &call_id, length);
        caller.send(&sent, vip).expect("sent");
        let (received, source) = server
            .expect(TIMEOUT)
            .unwrap_or_else(|error| panic!("{call_id}: {error:#}"));
        assert_eq!(source, vip);
        if name == "outgrows" {
            assert!(
                received.len() + headers > 1500,
                "{} does not outgrow the MTU",
                received.len()
            );
        }
        assert_eq!(body_of(&received), body_of(&sent), "{call_id}");
        // Every line is still there; Max-Forwards has changed its value.
        for line in sent
            .split("\r\n")
            .filter(|line| !line.starts_with("Max-Forwards"))
        {
            assert!(
                received.contains(line),
                "{call_id}: {line:?} is missing in {received}"
            );
        }
        // And back: a response as large, from which our Via is taken.
        let back = respond(&received, "200 OK").replace(
            "Content-Length: 0\r\n\r\n",
            &format!(
                "Content-Length: {}\r\n\r\n{}",
                body_of(&sent).len(),
                body_of(&sent)
            ),
        );
        server.send(&back, vip).expect("sent");
        let (response, source) = caller
            .expect(TIMEOUT)
            .unwrap_or_else(|error| panic!("{call_id}: {error:#}"));
        assert_eq!(source, vip);
        assert_eq!(body_of(&response), body_of(&sent), "{call_id}");
        assert_eq!(response.matches("\r\nVia:").count(), 1, "{response}");
    }
    siplb.status().expect("still there");
}

/// Sends small messages until they go both ways over AF_XDP: the MAC addresses are known then.
fn over_af_xdp_if_at_all(siplb: &Siplb, caller: &Peer, server: &Peer, vip: SocketAddr) {
    let from = caller.address().expect("an address");
    let counter = |name: &str| Totals::of(&siplb.statistics().expect("statistics")).counter(name);
    until("small messages to go over AF_XDP", TIMEOUT, || {
        let before = counter("tx_af_xdp");
        caller
            .send(request("INVITE", from, vip, "first", "", ""), vip)
            .expect("sent");
        let (invite, _) = server.expect(TIMEOUT).expect("the INVITE");
        server.send(respond(&invite, "200 OK"), vip).expect("sent");
        caller.expect(TIMEOUT).expect("the response");
        // What came in is counted before anything leaves.
        let is_socket = counter("rx_af_xdp") == 0;
        (is_socket || counter("tx_af_xdp") >= before + 2).then_some(())
    })
    .expect("AF_XDP");
}

fn invite_of_length(from: SocketAddr, vip: SocketAddr, call_id: &str, length: usize) -> String {
    let of_body = |body_length: usize| {
        let body: String = (0..body_length)
            .map(|index| char::from(b'a' + (index % 26) as u8))
            .collect();
        request("INVITE", from, vip, call_id, "", &body)
    };
    // The number of digits of Content-Length depends on the body: approach it.
    let mut body_length = length;
    while of_body(body_length).len() > length {
        body_length -= 1;
    }
    let invite = of_body(body_length);
    assert!(length - invite.len() <= 1);
    invite
}

fn body_of(message: &str) -> &str {
    message.split_once("\r\n\r\n").map_or("", |(_, body)| body)
}
