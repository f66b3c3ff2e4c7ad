//! Messages that others wrote or recorded, through a running siplb: what leaves is what should, every checksum is right,
//! and tshark finds nothing malformed that was not so before.

use std::{
    net::SocketAddr,
    thread,
    time::{Duration, Instant},
};

use siplb_lab::{
    Family, Lab, Shape, Siplb, can_run,
    capture::{Capture, Checksum, Packet},
    message::Peer,
    siplb::{DataPath, Options, Totals},
};

// The same readers as in the tests of the library, which use all of them.
#[allow(dead_code)]
#[path = "../../lb-userspace/tests/corpus/compare.rs"]
mod compare;
#[allow(dead_code)]
#[path = "../../lb-userspace/tests/corpus/folder.rs"]
mod folder;
#[allow(dead_code)]
#[path = "../../lb-userspace/tests/corpus/mend.rs"]
mod mend;
#[allow(dead_code)]
#[path = "../../lb-userspace/tests/corpus/slow.rs"]
mod slow;

const TIMEOUT: Duration = Duration::from_secs(5);
/// What fits a UDP datagram over IPv4; over IPv6 a little more does.
const MAX_PAYLOAD: usize = 65_507;

/// Every indicator and every fix for far-end NAT: everybody in the corpus is then behind one.
const MEND: &str = "{ detect: [contact-private, received, via-private, sdp-private, via-port, contact-address, contact-port, \
                    source-private, sdp-address, ipv6-local], fix: [rport, contact, sdp] }";

#[test]
fn over_native_af_xdp() {
    check(DataPath::Native, "");
}

#[test]
fn over_native_af_xdp_mended() {
    check(DataPath::Native, MEND);
}

#[test]
fn over_kernel_sockets() {
    check(DataPath::Socket, "");
}

fn check(data_path: DataPath, nat: &str) {
    if !can_run() {
        return;
    }
    // One queue, so that what leaves has the order of what came.
    let lab = Lab::new(Shape::TwoArmed, 1).expect("a lab");
    let mut options = Options::new(data_path);
    options.weights = vec![1];
    options.nat = nat.to_owned();
    let mut siplb = Siplb::start(&lab, &options).expect("siplb");
    let messages = folder::all();
    for family in [Family::V4, Family::V6] {
        let captures = [&lab.client, &lab.servers]
            .map(|host| Capture::start(&lab, host, "eth0").expect("a capture"));
        let mut scene = Scene::new(&lab, &siplb, family);
        scene.is_mended = !nat.is_empty();
        scene.messages(&messages);
        scene.responses(&messages);
        let [client, servers] = captures.map(|capture| capture.stop().expect("packets"));
        scene.look_at(&messages, &client, &servers);
    }
    let totals = siplb
        .settled("counters", |totals| totals.received() == totals.decided())
        .expect("counters");
    let class = |name: &str| totals.classes.get(name).copied().unwrap_or(0);
    let sent = totals.counter("tx_af_xdp") + totals.counter("tx_kernel");
    let lost = totals.counter("kernel_send_error");
    assert_eq!(
        sent + lost,
        class("forward") + class("reply"),
        "{totals:#?}"
    );
    if data_path == DataPath::Native {
        assert!(totals.counter("tx_af_xdp") > sent * 3 / 4, "{totals:#?}");
        // Those that came in fragments.
        assert!(totals.counter("tx_kernel") > 0, "{totals:#?}");
    }
    for fix in ["nat_fix_rport", "nat_fix_contact", "nat_fix_sdp"] {
        assert_eq!(
            totals.counter(fix) > 0,
            !nat.is_empty(),
            "{fix}: {totals:#?}"
        );
    }
    siplb.status().expect("still there");
    siplb.stop().expect("an ordinary end");
}

struct Scene<'a> {
    siplb: &'a Siplb,
    family: Family,
    vip: SocketAddr,
    client: Peer,
    client_address: SocketAddr,
    server: Peer,
    server_address: SocketAddr,
    totals: Totals,
    /// Contacts and bodies are changed; how is for the tests of the library to say.
    is_mended: bool,
    /// Numbers of the messages that went to the server, in order.
    forwarded: Vec<usize>,
    /// Numbers of the messages that were answered, in order.
    answered: Vec<usize>,
    /// Names of the responses that went to the client, in order.
    responses: Vec<String>,
}

impl<'a> Scene<'a> {
    fn new(lab: &Lab, siplb: &'a Siplb, family: Family) -> Self {
        let client_address = (lab.client_address(family), 5060).into();
        let server_address = lab.server(family, 0);
        Self {
            siplb,
            family,
            vip: lab.vip(family),
            client: Peer::bind(&lab.client, client_address).expect("a client"),
            client_address,
            server: Peer::bind(&lab.servers, server_address).expect("a server"),
            server_address,
            totals: Totals::of(&siplb.statistics().expect("statistics")),
            is_mended: false,
            forwarded: vec![],
            answered: vec![],
            responses: vec![],
        }
    }

    /// Sends every message from the client, one at a time.
    fn messages(&mut self, messages: &[folder::Message]) {
        for (number, message) in messages.iter().enumerate() {
            self.client.send(&message.bytes, self.vip).expect("sent");
            match self.decided(&message.file) {
                "forward" => self.expect_at_server(number, message),
                "reply" => self.answered.push(number),
                _ => {}
            }
        }
    }

    /// Waits until the one datagram that was sent has been decided on, and says how.
    fn decided(&mut self, what: &str) -> &'static str {
        let before = std::mem::take(&mut self.totals);
        let deadline = Instant::now() + TIMEOUT;
        loop {
            let totals = Totals::of(&self.siplb.statistics().expect("statistics"));
            if totals.received() > before.received() && totals.received() == totals.decided() {
                assert_eq!(totals.received(), before.received() + 1, "{what}");
                let grown = ["forward", "reply", "drop", "absorb"]
                    .into_iter()
                    .find(|class| totals.classes.get(*class) != before.classes.get(*class));
                self.totals = totals;
                return grown.expect("a decision");
            }
            assert!(
                Instant::now() < deadline,
                "{what}: not decided: {totals:#?}"
            );
            thread::sleep(Duration::from_micros(200));
        }
    }

    fn expect_at_server(&mut self, number: usize, message: &folder::Message) {
        // What our header fields make too large for any datagram would be lost, and rightly so.
        assert!(message.bytes.len() + 512 <= MAX_PAYLOAD, "{}", message.file);
        let received = self.server.receive(TIMEOUT).expect("a socket");
        let (bytes, source) = received.unwrap_or_else(|| panic!("{} is lost", message.file));
        assert_eq!(source, self.vip, "{}", message.file);
        if !self.is_mended {
            let whole = compare::request(&message.bytes, &bytes, self.client_address, self.vip);
            assert_eq!(whole, Ok(()), "{}", message.file);
        }
        self.forwarded.push(number);
    }

    /// Has the server give every response that is valid to a request with the Via that the response has. `rport` makes
    /// it come back to our socket.
    fn responses(&mut self, messages: &[folder::Message]) {
        while self
            .client
            .receive(Duration::from_millis(50))
            .expect("a socket")
            .is_some()
        {}
        for message in messages {
            if message.kind() != Some(folder::Kind::Response)
                || message.valid() != folder::Valid::Yes
            {
                continue;
            }
            let response = slow::read(&message.bytes);
            let via = response.top_via().expect("a Via");
            let is_symmetric = slow::SlowVia::read(via)
                .parameters
                .iter()
                .any(|(name, _)| name == "rport");
            let rport: &[u8] = if is_symmetric { b"" } else { b";rport" };
            let request = [
                b"OPTIONS sip:user@192.0.2.1 SIP/2.0\r\nVia: ",
                via,
                rport,
                b"\r\nMax-Forwards: 70\r\nFrom: <sip:a@192.0.2.1>;tag=a\r\nTo: <sip:b@192.0.2.1>\r\nCall-ID: a\r\n\
                  CSeq: 1 OPTIONS\r\n\r\n",
            ];
            self.client.send(request.concat(), self.vip).expect("sent");
            let (request, _) = self
                .server
                .receive(TIMEOUT)
                .expect("a socket")
                .unwrap_or_else(|| panic!("{}: no request", message.file));
            let request = slow::read(&request);
            let mut vias = request.named("via").map(|field| field.raw);
            let (ours, stamped) = (vias.next().expect("our Via"), vias.next().expect("a Via"));
            let stamped = stamped.strip_prefix(b"Via: ").expect("the Via of above");
            let stamped = stamped.strip_suffix(b"\r\n").expect("a line");

            let (head, tail) = message
                .bytes
                .split_at(response.leading.len() + response.start_line.len());
            let at = tail.windows(via.len()).position(|window| window == via);
            let at = at.expect("the Via");
            let tail = [&tail[..at], stamped, &tail[at + via.len()..]].concat();
            self.server
                .send([head, ours, &tail].concat(), self.vip)
                .expect("sent");
            let (received, source) = self
                .client
                .receive(TIMEOUT)
                .expect("a socket")
                .unwrap_or_else(|| panic!("{} is lost", message.file));
            assert_eq!(source, self.vip);
            assert!(
                received == [head, &tail].concat(),
                "{}: {}",
                message.file,
                String::from_utf8_lossy(&received)
            );
            self.responses.push(message.file.clone());
        }
    }

    /// What tshark says about all that, at both far ends.
    fn look_at(&self, messages: &[folder::Message], client: &[Packet], servers: &[Packet]) {
        let from_us = self.vip.ip().to_string();
        let checksum = (self.family == Family::V4).then_some(Checksum::Good);
        for packet in client.iter().chain(servers) {
            if packet.source == from_us {
                assert_eq!(packet.ip_checksum, checksum, "{packet:?}");
                // None in a fragment that is not the last.
                assert!(
                    matches!(packet.udp_checksum, None | Some(Checksum::Good)),
                    "{packet:?}"
                );
            }
        }
        let sent = datagrams(client, self.client_address);
        let forwarded = datagrams(servers, self.vip);
        let answered = datagrams(client, self.vip);
        let given = datagrams(servers, self.server_address);
        let responses = self.responses.len();
        assert_eq!(sent.len(), messages.len() + responses);
        assert_eq!(forwarded.len(), self.forwarded.len() + responses);
        assert_eq!(answered.len(), self.answered.len() + responses);
        assert_eq!(given.len(), responses);

        let mut findings = vec![];
        let mut as_before = vec![];
        let mut compare = |name: &str, before: &Packet, after: &Packet| {
            if after.malformed && before.malformed {
                as_before.push(name.to_owned());
            } else if after.malformed {
                findings.push(format!("{name} has become malformed"));
            }
            if before.is_sip && !after.is_sip {
                findings.push(format!("{name} is no SIP any more"));
            }
        };
        for (number, packet) in self.forwarded.iter().zip(&forwarded) {
            compare(&messages[*number].file, sent[*number], packet);
        }
        for (number, packet) in self.answered.iter().zip(&answered) {
            compare(&messages[*number].file, sent[*number], packet);
            assert!(packet.is_sip || !sent[*number].is_sip, "{packet:?}");
        }
        let back = &answered[self.answered.len()..];
        for ((name, before), after) in self.responses.iter().zip(&given).zip(back) {
            compare(name, before, after);
        }
        println!(
            "{:?}: {} messages, {} forwarded, {} answered, {responses} responses brought back; malformed as they were: {as_before:?}",
            self.family,
            messages.len(),
            self.forwarded.len(),
            self.answered.len(),
        );
        assert!(findings.is_empty(), "{findings:#?}");
    }
}

/// The datagrams of a source in order; a fragment that is not the last has no checksum of its own.
fn datagrams(packets: &[Packet], source: SocketAddr) -> Vec<&Packet> {
    let source = source.ip().to_string();
    packets
        .iter()
        .filter(|packet| packet.source == source && packet.udp_checksum.is_some())
        .collect()
}
