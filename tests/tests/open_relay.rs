//! Thousands of requests and responses that want to be sent on to somebody: what leaves the edge goes to a backend, to who
//! asked, or to whom a token of ours names, and nowhere else.

use std::{collections::BTreeMap, net::SocketAddr, time::Duration};

use lb_userspace::token::{
    CONTACT_TOKEN_MAX, ContactOf, ContactToken, FLOW_TOKEN_MAX, FlowKind, FlowToken, Keys,
};
use siplb_lab::{
    Family, Lab, Shape, Siplb, can_run,
    capture::{Capture, Datagram},
    message::{Peer, ping, request},
    siplb::{DataPath, Options},
};

const TIMEOUT: Duration = Duration::from_secs(5);
/// Of each family.
const DATAGRAMS: usize = 5_000;
/// Sent before the edge has to have dealt with them.
const BATCH: usize = 40;

#[test]
fn over_native_af_xdp() {
    check(
        DataPath::Native,
        "outbound: { trusted: [10.77.0.0/16] }\n",
        "registration: contact",
    );
}

#[test]
fn over_kernel_sockets() {
    check(
        DataPath::Socket,
        "outbound: { trusted: [10.77.0.0/16], topology: hide }\n",
        "registration: path",
    );
}

fn check(data_path: DataPath, rest: &str, pool: &str) {
    if !can_run() {
        return;
    }
    let lab = Lab::new(Shape::TwoArmed, 2).expect("a lab");
    let mut options = Options::new(data_path);
    // The other servers are strangers.
    options.weights = vec![1; 2];
    options.rest = rest.into();
    options.pool = pool.into();
    let mut siplb = Siplb::start(&lab, &options).expect("siplb");
    for family in [Family::V4, Family::V6] {
        // The far ends of the edge's wires: what AF_XDP sends, its own ends do not see.
        let captures = [&lab.client, &lab.servers]
            .map(|host| Capture::start(&lab, host, "eth0").expect("a capture"));
        let scene = Scene::new(&lab, family);
        let before = received(&siplb);
        let sent = scene.send_all();
        let after = received(&siplb);
        assert!(after - before >= sent, "{before} and {after}, {sent} sent");
        let captured = captures.map(|capture| capture.datagrams().expect("datagrams"));
        scene.look_at(captured.into_iter().flatten());
        scene.the_inside_is_served();
    }
    siplb.stop().expect("an ordinary end");
}

/// How many datagrams siplb has got, when it has dealt with all of them.
fn received(siplb: &Siplb) -> u64 {
    let settled = siplb.settled("datagrams to be decided", |totals| {
        totals.received() == totals.decided()
    });
    settled.expect("counters that add up").received()
}

struct Scene {
    family: Family,
    vip: SocketAddr,
    attackers: [Peer; 2],
    victim: Peer,
    backend: Peer,
    backends: [SocketAddr; 2],
    /// Who should get nothing: at the clients' and at the servers'.
    strangers: [SocketAddr; 2],
    /// The client that the tokens name.
    client: SocketAddr,
    keys: Keys,
}

/// Something to put into a request, and whether a token in it leads to the client.
struct Piece {
    text: String,
    leads: bool,
}

impl Scene {
    fn new(lab: &Lab, family: Family) -> Self {
        let at_client = |port| SocketAddr::new(lab.client_address(family), port);
        let secret = std::fs::read(lab.dir().join("secret")).expect("the secret");
        let backend = lab.server(family, 0);
        Self {
            family,
            vip: lab.vip(family),
            attackers: [5061, 5062]
                .map(|port| Peer::bind(&lab.client, at_client(port)).expect("an attacker")),
            victim: Peer::bind(&lab.client, at_client(5099)).expect("a victim"),
            backend: Peer::bind(&lab.servers, backend).expect("a backend"),
            backends: [backend, lab.server(family, 1)],
            strangers: [at_client(5099), lab.server(family, 3)],
            client: at_client(40_000),
            keys: Keys::new(&secret, None),
        }
    }

    fn flow(&self, keys: &Keys, kind: FlowKind) -> String {
        let token = FlowToken {
            kind,
            ..FlowToken::new(self.client, self.backends[0])
        };
        let mut text = [0; FLOW_TOKEN_MAX];
        let len = keys.write_flow_token(&token, &mut text);
        String::from_utf8_lossy(&text[..len]).into_owned()
    }

    fn contact(&self, of: ContactOf, address: SocketAddr) -> String {
        let token = ContactToken::new(of, address, b"192.168.1.5:5062").expect("short");
        let mut text = [0; CONTACT_TOKEN_MAX];
        let len = self.keys.write_contact_token(&token, &mut text);
        String::from_utf8_lossy(&text[..len]).into_owned()
    }

    fn routes(&self) -> Vec<Piece> {
        let vip = self.vip;
        let other = Keys::new(b"not the secret of this edge", None);
        let ours = |user: &str| format!("<sip:{user}{vip};lr>");
        let mut routes = vec![String::new(), ours(""), ours("AAAA@")];
        for stranger in self.strangers {
            routes.extend([
                format!("<sip:{stranger};lr>"),
                format!("{}, <sip:{stranger};lr>", ours("")),
                format!("<sip:{vip};lr;maddr={}>", stranger.ip()),
            ]);
        }
        let mut leading = Vec::new();
        let kinds = [
            FlowKind::Registration,
            FlowKind::FromClient,
            FlowKind::Outbound,
            FlowKind::ToClient,
        ];
        for kind in kinds {
            let token = self.flow(&self.keys, kind);
            let valid = ours(&format!("{token}@"));
            routes.push(valid.clone());
            routes.push(ours(&format!("{}@", self.flow(&other, kind))));
            routes.push(ours(&format!("{}@", other_character(&token, 5))));
            routes.push(ours(&format!(
                "{}@",
                other_character(&token, token.len() - 1)
            )));
            for stranger in self.strangers {
                routes.push(format!("{valid}, <sip:{stranger};lr>"));
                routes.push(format!("<sip:{stranger};lr>, {valid}"));
            }
            leading.push(format!("{valid}, {valid}"));
        }
        let piece = |leads| move |text| Piece { text, leads };
        let routes = routes.into_iter().map(piece(false));
        routes.chain(leading.into_iter().map(piece(true))).collect()
    }

    fn uris(&self) -> Vec<String> {
        let vip = self.vip;
        let backend = self.contact(ContactOf::Backend, self.backends[0]);
        let client = self.contact(ContactOf::Client, self.client);
        let mut uris = vec![
            format!("sip:{vip}"),
            format!("sip:a@{vip}"),
            "sip:a@evil.test".into(),
            "tel:+123".into(),
            format!("sip:a@{vip};lbi={backend}"),
            format!("sip:a@{vip};lbi={}", other_character(&backend, 9)),
            format!("sip:a@{vip};lbr={client}"),
            format!("sip:a@{vip};lbi={client}"),
            format!(
                "sip:a@192.168.1.5;lba={}",
                self.flow(&self.keys, FlowKind::FromClient)
            ),
        ];
        for stranger in self.strangers {
            uris.extend([
                format!("sip:a@{stranger}"),
                format!("sips:a@{stranger}"),
                format!("sip:a@{vip};maddr={}", stranger.ip()),
                format!("sip:a@{stranger};transport=udp"),
            ]);
        }
        uris
    }

    /// A response that wants to go to a stranger.
    fn response(&self, number: usize, random: u64) -> String {
        let stranger = self.strangers[number % 2];
        let (vip, id) = (self.vip, format!("{random:016x}"));
        let via = match number % 4 {
            0 => format!("Via: SIP/2.0/UDP {vip};branch=z9hG4bK{id};lbm={id}\r\n"),
            1 => {
                format!("Via: SIP/2.0/UDP {vip};branch=z9hG4bK{id};lbm={id};lbvi={id}{id}{id}\r\n")
            }
            2 => format!("Via: SIP/2.0/UDP {vip};branch=z9hG4bK\r\n"),
            _ => String::new(),
        };
        format!(
            "SIP/2.0 200 OK\r\n{via}Via: SIP/2.0/UDP {stranger};branch=z9hG4bKx\r\nFrom: <sip:a@b>;tag=1\r\n\
             To: <sip:c@d>;tag=2\r\nCall-ID: response-{number}\r\nCSeq: 1 INVITE\r\nContent-Length: 0\r\n\r\n"
        )
    }

    /// Sends everything and returns how much that was.
    fn send_all(&self) -> u64 {
        let (routes, uris) = (self.routes(), self.uris());
        let methods = [
            "INVITE",
            "REGISTER",
            "OPTIONS",
            "BYE",
            "ACK",
            "CANCEL",
            "MESSAGE",
            "SUBSCRIBE",
            "REFER",
            "FOO",
        ];
        let mut state = 0x9e37_79b9_7f4a_7c15_u64;
        let mut random = || {
            // xorshift64: any sequence will do, as long as a failure can be repeated.
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            state >> 11
        };
        let mut pings = 0;
        for number in 0..DATAGRAMS {
            let attacker = &self.attackers[number % 2];
            let from = attacker.address().expect("an address");
            // All pairs come by and by.
            let route = &routes[number % routes.len()];
            let uri = &uris[number / routes.len() % uris.len()];
            let method = methods[random() as usize % methods.len()];
            let text = match number % 10 {
                9 => self.response(number, random()),
                _ => {
                    let call_id = match route.leads {
                        true => format!("two-{number}"),
                        false => format!("none-{number}"),
                    };
                    let lines = match route.text.as_str() {
                        "" => String::new(),
                        route => format!("Route: {route}\r\n"),
                    };
                    let text = request(method, from, self.vip, &call_id, &lines, "");
                    let start = format!("{method} sip:service@{} ", self.vip);
                    let text = text.replacen(&start, &format!("{method} {uri} "), 1);
                    let to = format!("To: <sip:service@{}>", self.vip);
                    match random() % 2 {
                        0 => text,
                        _ => text.replacen(&to, &format!("{to};tag=x"), 1),
                    }
                }
            };
            attacker.send(&text, self.vip).expect("sent");
            if number % BATCH == BATCH - 1 {
                pings += 1;
                self.drain(&format!("ping-{number}"));
            }
        }
        (DATAGRAMS + pings) as u64
    }

    /// Waits until what was sent has been dealt with.
    fn drain(&self, call_id: &str) {
        for attacker in &self.attackers[..1] {
            let from = attacker.address().expect("an address");
            attacker
                .send(ping(from, self.vip, call_id), self.vip)
                .expect("sent");
            loop {
                let (response, _) = attacker.expect(TIMEOUT).expect("an answer to OPTIONS");
                if response.contains(call_id) {
                    break;
                }
            }
        }
        while let Ok(Some(_)) = self.attackers[1].receive(Duration::from_millis(1)) {}
    }

    fn look_at(&self, captured: impl Iterator<Item = Datagram>) {
        let attackers = [0, 1].map(|number: usize| self.attackers[number].address().expect("its"));
        let mut counts = BTreeMap::<_, usize>::new();
        for datagram in captured.filter(|datagram| datagram.source.ip() == self.vip.ip()) {
            let text = String::from_utf8_lossy(&datagram.payload).into_owned();
            let to = datagram.destination;
            let whom = match to {
                _ if self.backends.contains(&to) => "a backend",
                _ if attackers.contains(&to) && text.starts_with("SIP/2.0 ") => "who asked",
                _ if to == self.client && text.contains("\r\nCall-ID: two-") => "a token's client",
                _ => panic!("sent to {to}:\n{text}"),
            };
            *counts.entry(whom).or_default() += 1;
        }
        println!("{:?}: {counts:?}", self.family);
        for whom in ["a backend", "who asked", "a token's client"] {
            assert!(counts.contains_key(whom), "nothing to {whom}: {counts:?}");
        }
    }

    /// There is a way to the stranger, for those who may use it.
    fn the_inside_is_served(&self) {
        let from = self.backends[0];
        let text = request("INVITE", from, self.vip, "inside", "", "");
        let start = format!("INVITE sip:service@{} ", self.vip);
        let text = text.replacen(&start, &format!("INVITE sip:a@{} ", self.strangers[0]), 1);
        self.backend.send(text, self.vip).expect("sent");
        let (received, from) = self.victim.expect(TIMEOUT).expect("the INVITE");
        assert!(received.starts_with("INVITE sip:a@"), "{received}");
        assert_eq!(from, self.vip);
    }
}

/// The text with another character at this place.
fn other_character(text: &str, at: usize) -> String {
    let other = match text.as_bytes()[at] {
        b'B' => "C",
        _ => "B",
    };
    format!("{}{other}{}", &text[..at], &text[at + 1..])
}
