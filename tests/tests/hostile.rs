//! What nobody should send: counted under its name, nothing sent to anybody, and calls go on.

use std::{net::SocketAddr, time::Duration};

use lb_common::xdp::{XdpOutcome, XdpVerdict};
use siplb_lab::{
    Family, Lab, Shape, Siplb, can_run,
    frame::{Wire, udp},
    message::{Peer, ping, request, respond},
    siplb::{DataPath, Options, Totals},
};

const TIMEOUT: Duration = Duration::from_secs(5);

#[test]
fn over_native_af_xdp() {
    check(DataPath::Native);
}

#[test]
fn over_kernel_sockets() {
    check(DataPath::Socket);
}

fn check(data_path: DataPath) {
    if !can_run() {
        return;
    }
    let lab = Lab::new(Shape::TwoArmed, 2).expect("a lab");
    let mut options = Options::new(data_path);
    options.weights = vec![1];
    let mut siplb = Siplb::start(&lab, &options).expect("siplb");
    for family in [Family::V4, Family::V6] {
        let scene = Scene::new(&lab, &siplb, family);
        scene.forged_messages();
        scene.random_bytes();
        scene.messages_cut_short();
        if data_path == DataPath::Native {
            scene.frames_cut_short();
        }
        scene.a_call_goes_through("after");
    }
    siplb.stop().expect("an ordinary end");
}

struct Scene<'a> {
    lab: &'a Lab,
    siplb: &'a Siplb,
    vip: SocketAddr,
    /// Sends what it should not.
    attacker: Peer,
    /// Should never get anything.
    victim: Peer,
    server: Peer,
    family: Family,
}

impl<'a> Scene<'a> {
    fn new(lab: &'a Lab, siplb: &'a Siplb, family: Family) -> Self {
        let client = |port| (lab.client_address(family), port).into();
        Self {
            lab,
            siplb,
            vip: lab.vip(family),
            attacker: Peer::bind(&lab.client, client(5061)).expect("a client"),
            victim: Peer::bind(&lab.client, client(5062)).expect("a client"),
            server: Peer::bind(&lab.servers, lab.server(family, 0)).expect("a server"),
            family,
        }
    }

    fn attacker_address(&self) -> SocketAddr {
        self.attacker.address().expect("an address")
    }

    /// Sends an INVITE and answers it; returns the INVITE as the server got it.
    fn a_call_goes_through(&self, call_id: &str) -> String {
        let from = self.attacker_address();
        let invite = request(
            "INVITE",
            from,
            self.vip,
            &format!("{call_id}-{:?}", self.family),
            "",
            "",
        );
        self.attacker.send(&invite, self.vip).expect("sent");
        let (received, _) = self.server.expect(TIMEOUT).expect("the INVITE");
        self.server
            .send(respond(&received, "200 OK"), self.vip)
            .expect("sent");
        let (response, _) = self.attacker.expect(TIMEOUT).expect("the response");
        assert!(response.starts_with("SIP/2.0 200 "), "{response}");
        received
    }

    /// An OPTIONS for the VIP is answered: whatever was sent before it has been dealt with, and its effects are here.
    fn ping(&self, call_id: &str) {
        let from = self.attacker_address();
        self.attacker
            .send(ping(from, self.vip, call_id), self.vip)
            .expect("sent");
        let (response, _) = self.attacker.expect(TIMEOUT).expect("an answer to OPTIONS");
        assert!(
            response.starts_with("SIP/2.0 200 ") && response.contains(call_id),
            "{response}"
        );
    }

    fn nothing_arrives(&self, what: &str) {
        for peer in [&self.attacker, &self.victim, &self.server] {
            let received = peer.receive(Duration::from_millis(20)).expect("a socket");
            let text = received.map(|(bytes, _)| String::from_utf8_lossy(&bytes).into_owned());
            assert_eq!(text, None, "{what}");
        }
    }

    fn totals(&self) -> Totals {
        let settled = self.siplb.settled("datagrams to be decided", |totals| {
            totals.received() == totals.decided()
        });
        settled.expect("counters that add up")
    }

    fn forged_messages(&self) {
        let invite = self.a_call_goes_through("first");
        let response = respond(&invite, "200 OK");
        let victim = self.victim.address().expect("an address").to_string();
        let from = self.attacker_address();
        let vias: Vec<&str> = lines_of(&invite, "Via").collect();
        let record_route = lines_of(&invite, "Record-Route")
            .next()
            .expect("a Record-Route");
        let own_route = record_route.split_once(": ").map_or("", |(_, value)| value);
        let bye = |route: &str| {
            request(
                "BYE",
                from,
                self.vip,
                "forged",
                &format!("Route: {route}\r\n"),
                "",
            )
            .replacen(
                "tag=caller\r\nTo: ",
                "tag=caller\r\nTo: <sip:x@y>;tag=server\r\nX: ",
                1,
            )
        };
        let cases: Vec<(&Peer, String, &str, Option<&str>)> = vec![
            // Bounce a response off us at somebody who has not asked for it.
            (
                &self.server,
                response.replace(
                    vias[1],
                    &format!("Via: SIP/2.0/UDP {victim};branch=z9hG4bK-x"),
                ),
                "response_bad_mac",
                None,
            ),
            (
                &self.server,
                response.replace(vias[0], &with_other_character(vias[0], "lbm=")),
                "response_bad_mac",
                None,
            ),
            (
                &self.server,
                response.replace(&format!("{}\r\n", vias[1]), ""),
                "response_no_second_via",
                None,
            ),
            (
                &self.server,
                response.replace(&format!("{}\r\n", vias[0]), ""),
                "response_not_ours",
                None,
            ),
            (
                &self.attacker,
                response.replace(&format!("{}\r\n", vias[0]), ""),
                "response_not_ours",
                None,
            ),
            // Reach a server of the attacker's choice.
            (
                &self.attacker,
                bye(&with_other_character(own_route, "sip:")),
                "bad_flow_token",
                Some("403"),
            ),
            (
                &self.attacker,
                bye(&format!("<sip:AAAA@{};lr>", self.vip)),
                "bad_flow_token",
                Some("403"),
            ),
        ];
        for (number, (sender, message, outcome, reply)) in cases.into_iter().enumerate() {
            let what = format!("{number} {outcome} {:?}", self.family);
            let before = self.totals();
            sender.send(&message, self.vip).expect("sent");
            if let Some(status) = reply {
                let (response, _) = self
                    .attacker
                    .expect(TIMEOUT)
                    .unwrap_or_else(|error| panic!("{what}: {error:#}"));
                assert!(
                    response.starts_with(&format!("SIP/2.0 {status} ")),
                    "{what}: {response}"
                );
            }
            let counted = |totals: &Totals| {
                totals.received() > before.received() && totals.received() == totals.decided()
            };
            let after = self.siplb.settled(&what, counted).expect("a count");
            assert_eq!(
                after.outcome(outcome),
                before.outcome(outcome) + 1,
                "{what}: {message}\n{after:#?}"
            );
            self.nothing_arrives(&what);
        }
    }

    fn random_bytes(&self) {
        let mut state = 0x9e37_79b9_7f4a_7c15_u64 ^ u64::from(self.vip.port());
        let mut random = || {
            // xorshift64: any sequence will do, as long as a failure can be repeated.
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            state
        };
        let before = self.totals();
        let count = 500;
        for number in 0..count {
            let length = (random() % 1400) as usize;
            let bytes: Vec<u8> = (0..length).map(|_| (random() >> 24) as u8).collect();
            self.attacker.send(&bytes, self.vip).expect("sent");
            if number % 50 == 49 {
                self.ping(&format!("random-{number}-{:?}", self.family));
            }
        }
        self.nothing_arrives("random bytes");
        let after = self.totals();
        assert_eq!(after.received() - before.received(), count + count / 50);
        let dropped = |totals: &Totals| totals.classes.get("drop").copied().unwrap_or(0);
        assert_eq!(dropped(&after) - dropped(&before), count, "{after:#?}");
    }

    /// Every beginning of an INVITE, in a datagram that is whole as such.
    fn messages_cut_short(&self) {
        let invite = request(
            "INVITE",
            self.attacker_address(),
            self.vip,
            "cut",
            "Route: <sip:x>\r\n",
            "body",
        );
        let before = self.totals();
        for length in 0..invite.len() {
            self.attacker
                .send(&invite[..length], self.vip)
                .expect("sent");
            if length % 32 == 31 {
                self.drain(&format!("cut-{length}-{:?}", self.family));
            }
        }
        self.drain(&format!("cut-{:?}", self.family));
        let after = self.totals();
        let pings = invite.len() as u64 / 32 + 1;
        assert_eq!(
            after.received() - before.received(),
            invite.len() as u64 + pings
        );
        assert_eq!(
            after.classes.get("forward"),
            before.classes.get("forward"),
            "{after:#?}"
        );
        self.nothing_arrives("messages cut short");
    }

    /// Reads everything up to the answer to an OPTIONS; refusals may have come before.
    fn drain(&self, call_id: &str) {
        self.attacker
            .send(ping(self.attacker_address(), self.vip, call_id), self.vip)
            .expect("sent");
        loop {
            let (response, _) = self.attacker.expect(TIMEOUT).expect("an answer to OPTIONS");
            if response.contains(call_id) {
                assert!(response.starts_with("SIP/2.0 200 "), "{response}");
                return;
            }
            assert!(response.starts_with("SIP/2.0 4"), "{response}");
        }
    }

    /// Every beginning of a frame, whose lengths then promise more than there is.
    fn frames_cut_short(&self) {
        let wire = Wire::open(&self.lab.client, "eth0").expect("a wire");
        let edge = Wire::open(&self.lab.edge, "outside").expect("a wire");
        let from = self.attacker_address();
        let message = request("INVITE", from, self.vip, "frame", "", "");
        let ends = (
            (wire.mac().expect("a MAC"), from),
            (edge.mac().expect("a MAC"), self.vip),
        );
        let frame = udp(ends.0, ends.1, message.as_bytes());
        let before = (self.totals(), self.siplb.xdp().expect("counters"));
        let verdicts = |xdp: &siplb_lab::siplb::Xdp, verdict: XdpVerdict| {
            let outcomes = XdpOutcome::ALL
                .into_iter()
                .filter(move |outcome| outcome.verdict() == verdict);
            outcomes
                .map(|outcome| xdp.total(outcome.name()))
                .sum::<u64>()
        };
        // Shorter than its Ethernet header the kernel takes no frame from us.
        for length in 14..frame.len() {
            wire.send(&frame[..length]).expect("sent");
        }
        self.ping(&format!("frames-{:?}", self.family));
        self.nothing_arrives("frames cut short");
        let after = (self.totals(), self.siplb.xdp().expect("counters"));
        let steered = |xdp: &siplb_lab::siplb::Xdp| xdp.total("steered");
        assert_eq!(
            steered(&after.1) - steered(&before.1),
            1,
            "the OPTIONS alone: {:#?}",
            after.1
        );
        assert_eq!(
            after.0.received() - before.0.received(),
            1,
            "{:#?}",
            after.0
        );
        let dropped = verdicts(&after.1, XdpVerdict::Drop) - verdicts(&before.1, XdpVerdict::Drop);
        // From the UDP header on it can be told that they are for the VIP.
        assert!(
            dropped >= message.len() as u64,
            "{dropped} dropped: {:#?}",
            after.1
        );

        // The same frame, whole and with padding, is a good one.
        wire.send(&[frame.as_slice(), &[0x55; 9]].concat())
            .expect("sent");
        let (received, _) = self.server.expect(TIMEOUT).expect("the INVITE");
        assert!(
            received.ends_with("Content-Length: 0\r\n\r\n"),
            "{received}"
        );
    }
}

fn lines_of<'a>(message: &'a str, name: &'a str) -> impl Iterator<Item = &'a str> {
    message
        .split("\r\n")
        .filter(move |line| line.split(':').next() == Some(name))
}

/// Replaces the fourth character after `mark` by another one of the same kind.
fn with_other_character(text: &str, mark: &str) -> String {
    let position = text.find(mark).expect("the mark") + mark.len() + 3;
    let other = match text.as_bytes()[position] {
        b'a' => "b",
        _ => "a",
    };
    format!("{}{other}{}", &text[..position], &text[position + 1..])
}
