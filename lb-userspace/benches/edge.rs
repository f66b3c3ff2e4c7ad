//! An edge, and the messages that the benches send through it.
//!
//! Requests that open something are files in `messages/`. What carries our header fields (responses, requests inside a
//! dialog) is made here from what the edge sent on, as the other end would make it.

use std::{hint::black_box, net::SocketAddr};

use lb_userspace::{
    config,
    forward::{Action, Datagram, ListenerIndex, Outcome, Reading, Scratch, Table, decide, forward},
    frame::{self, Arrival, Ends, Message, NextHop},
    token::Keys,
};

/// The public side of a NAT router with phones behind it.
const CLIENT: &str = "198.51.100.7:40962";
/// A carrier without NAT before it.
const CARRIER: &str = "10.20.30.41:5060";
/// Calls under way at a time in `calls`: their messages do not fit the first-level cache.
pub const CALLS: usize = 64;

/// Where all messages go.
const VIP: &str = "203.0.113.10:5060";
/// The way that everything takes.
const WAY: NextHop = NextHop {
    port: 0,
    destination_mac: [2, 0, 0, 0, 0, 1],
    source_mac: [2, 0, 0, 0, 0, 2],
    vlan: None,
    mtu: 1500,
};

/// A listener that forwards and does no more.
const PLAIN: &str = "
listeners: [ { name: public, address: 203.0.113.10 } ]";
/// A listener that looks for everything and mends everything.
const MENDING: &str = "
listeners:
  - name: public
    address: 203.0.113.10
    nat:
      detect: [contact-private, received, via-private, sdp-private, via-port, contact-address, contact-port,
               source-private, sdp-address, ipv6-local]
      fix: [rport, contact, sdp]";
const REST: &str = "
node: { name: bench }
pools:
  - name: switches
    backends:
      - { name: sw1, address: '10.0.0.11:5060' }
      - { name: sw2, address: '10.0.0.12:5060' }
      - { name: sw3, address: '10.0.0.13:5060' }
";

/// Kinds of rules that do not match the INVITE, one after the other.
const RULES: [fn(usize) -> String; 6] = [
    |number| format!("request_uri_user: '9{number:05}'"),
    |number| format!("source: [192.0.2.{number}, '10.{number}.0.0/16']"),
    |number| format!("request_uri_domain: pbx{number}.example.com"),
    |number| format!("from_domain: 192.0.2.{number}"),
    |number| format!("method: SUBSCRIBE, to_domain: pbx{number}.example.com"),
    |number| format!("user_agent: Yealink SIP-T{number}"),
];

const INVITE: &str = include_str!("messages/invite.sip");
const INVITE_SHORT: &str = include_str!("messages/invite-short.sip");
const INVITE_LONG: &str = include_str!("messages/invite-long.sip");
const REGISTER: &str = include_str!("messages/register.sip");
const OPTIONS: &str = include_str!("messages/options.sip");
/// From a phone on a desk: Linphone with video, answering a challenge.
const INVITE_LINPHONE: &str = include_str!("../tests/data/corpus/real/sip-isa-f00007.sip");
/// From a mobile operator: REGISTER of a VoLTE phone as its session border controller sends it on.
const REGISTER_VOLTE: &str = include_str!("../tests/data/corpus/fixture/ims-reg-register-auth.sip");
/// A binding request without attributes: magic cookie and a transaction id (RFC 8489 §5).
const STUN: &[u8] = b"\x00\x01\x00\x00\x21\x12\xa4\x42siplb/bench1";
/// What a server says of itself in a 200.
const SERVER_ANSWER: &str = "Contact: <sip:442079460123@10.0.0.11:5060>\r\n\
    Allow: INVITE, ACK, CANCEL, OPTIONS, BYE, REFER, SUBSCRIBE, NOTIFY, INFO, UPDATE\r\n\
    Supported: replaces, timer\r\n\
    Server: Switch 18.9.2\r\n\
    Content-Type: application/sdp\r\n\
";
const SERVER_SDP: &str = "v=0\r\n\
    o=- 1773306847 1773306848 IN IP4 203.0.113.40\r\n\
    s=Switch 18.9.2\r\n\
    c=IN IP4 203.0.113.40\r\n\
    t=0 0\r\n\
    m=audio 17432 RTP/AVP 8 101\r\n\
    a=rtpmap:8 PCMA/8000\r\n\
    a=rtpmap:101 telephone-event/8000\r\n\
    a=fmtp:101 0-16\r\n\
    a=ptime:20\r\n\
    a=sendrecv\r\n";
/// What a phone behind NAT says of itself in a 200.
const PHONE_ANSWER: &str = "Contact: <sip:2001@192.168.1.23:5062>\r\n\
    Content-Type: application/sdp\r\n\
    Allow: INVITE, INFO, PRACK, ACK, BYE, CANCEL, OPTIONS, NOTIFY, REFER, UPDATE\r\n\
    User-Agent: Yealink SIP-T46U 108.86.0.20\r\n\
";
const PHONE_SDP: &str = "v=0\r\n\
    o=- 20017 20018 IN IP4 192.168.1.23\r\n\
    s=-\r\n\
    c=IN IP4 192.168.1.23\r\n\
    t=0 0\r\n\
    m=audio 11796 RTP/AVP 8 101\r\n\
    a=rtpmap:8 PCMA/8000\r\n\
    a=rtpmap:101 telephone-event/8000\r\n\
    a=fmtp:101 0-15\r\n\
    a=ptime:20\r\n\
    a=sendrecv\r\n";

/// A datagram and what must become of it.
pub struct Case {
    /// Name in the tables.
    pub name: &'static str,
    /// UDP payload.
    pub bytes: Vec<u8>,
    /// The same with headers before it.
    pub frame: Vec<u8>,
    /// Where it comes from.
    pub source: SocketAddr,
    /// A bench of anything else would measure a mistake.
    pub outcome: Outcome,
}

impl Case {
    fn new(name: &'static str, bytes: impl Into<Vec<u8>>, source: &str, outcome: Outcome) -> Self {
        let ends = Ends {
            source: source.parse().expect("an address"),
            destination: VIP.parse().expect("an address"),
        };
        let bytes = bytes.into();
        let mut memory = vec![0; 4096];
        let message = Message::New(&bytes);
        let written = frame::write(&mut memory, &WAY, &ends, &message, None, 0);
        memory.truncate(written.expect("room"));
        Self {
            name,
            bytes,
            frame: memory,
            source: ends.source,
            outcome,
        }
    }

    /// False for keepalives, which are told apart before the parser.
    pub fn is_sip(&self) -> bool {
        !matches!(
            self.outcome,
            Outcome::KeepaliveCrlf | Outcome::KeepaliveStun
        )
    }
}

/// A node with one listener and three backends.
pub struct Edge {
    table: Table,
    scratch: Scratch,
    /// What is sent, as long as a UMEM chunk of a worker or longer.
    frame: Vec<u8>,
}

impl Edge {
    /// A node that leaves NAT alone.
    pub fn plain() -> Self {
        Self::new(PLAIN)
    }

    /// A node with all indicators of far-end NAT on, and with the fixes `rport`, `contact` and `sdp`.
    pub fn mending() -> Self {
        Self::new(MENDING)
    }

    /// Nodes with route rules before the one that takes everything, and the INVITE that goes by all of them: one for another
    /// method, ten and a hundred for numbers that are called, and a hundred of all kinds.
    pub fn ruled() -> [(Self, Case); 4] {
        let by_method: [fn(usize) -> String; 1] = [|_| "method: REGISTER".to_owned()];
        let by_user = [RULES[0]];
        let edges = [
            ("invite-2-rules", 1, &by_method[..]),
            ("invite-10-rules", 10, &by_user[..]),
            ("invite-100-rules", 100, &by_user[..]),
            ("invite-100-mixed-rules", 100, &RULES[..]),
        ];
        edges.map(|(name, count, kinds)| {
            let rules = kinds.iter().cycle().zip(0..count).map(|(kind, number)| {
                let wants = kind(number);
                format!("  - {{ {wants}, pool: switches }}\n")
            });
            let rules = rules.collect::<String>();
            let mut edge = Self::new(&format!(
                "routes:\n{rules}  - {{ pool: switches }}\n{PLAIN}"
            ));
            let case = Case::new(name, INVITE, CLIENT, Outcome::RequestToPool);
            edge.send(&case);
            (edge, case)
        })
    }

    fn new(listeners: &str) -> Self {
        let config = config::parse(&format!("{listeners}{REST}"), "bench.yaml");
        let mut config = config.expect("a valid configuration");
        config.keys = Keys::new(b"the secret of the benches", None);
        Self {
            table: Table::new(&config),
            scratch: Scratch::new(),
            frame: vec![0; 4096],
        }
    }

    /// What a worker does for a datagram between headers in and headers out: decide, write what is sent, and the
    /// difference of the checksum. Returns the outcome, the length sent and the difference.
    #[inline]
    pub fn handle(&mut self, case: &Case) -> (Outcome, usize, u16) {
        let datagram = Datagram {
            payload: black_box(&case.bytes),
            source: case.source,
            listener: ListenerIndex(0),
        };
        let verdict = forward(&self.table, &datagram, &mut self.scratch);
        let (written, difference) = match verdict.action {
            Action::Forward { .. } => {
                let edits = &self.scratch.edits;
                let written = edits.apply(datagram.payload, &mut self.frame);
                (written, edits.checksum_difference(datagram.payload))
            }
            Action::Reply { .. } => {
                let reply = &self.scratch.reply;
                self.frame[..reply.len()].copy_from_slice(reply);
                (Some(reply.len()), 0)
            }
            Action::Drop | Action::Absorb | Action::AwaitName => (Some(0), 0),
        };
        (verdict.outcome, written.unwrap_or(0), difference)
    }

    /// What a worker does for a frame between rings: read the headers, decide, and write what is sent with its headers. Returns
    /// the outcome and the length sent.
    #[inline]
    pub fn handle_frame(&mut self, case: &Case) -> (Outcome, usize) {
        let arrival = Arrival::of_frame(black_box(&case.frame), &self.table.listeners);
        let arrival = arrival.expect("a frame for the listener");
        let mut reading = Reading::EMPTY;
        reading.read(&self.table, &arrival.datagram, &self.scratch.memory);
        let verdict = decide(
            &self.table,
            &arrival.datagram,
            &mut reading,
            &mut self.scratch,
        );
        let (to, message, made_from) = match verdict.action {
            Action::Forward { to, .. } => {
                let message = Message::Edited {
                    payload: arrival.datagram.payload,
                    edits: &self.scratch.edits,
                };
                (to, message, Some(&arrival))
            }
            Action::Reply { to } => (to, Message::New(&self.scratch.reply), None),
            Action::Drop | Action::Absorb | Action::AwaitName => return (verdict.outcome, 0),
        };
        let leaving = Ends {
            source: arrival.destination,
            destination: to,
        };
        let memory = &mut self.frame;
        let written = frame::write(memory, black_box(&WAY), &leaving, &message, made_from, 1);
        (verdict.outcome, written.unwrap_or(0))
    }

    /// Handles a datagram that must be sent on, and returns its text and where it goes.
    fn send(&mut self, case: &Case) -> (String, SocketAddr) {
        let (outcome, written, _) = self.handle(case);
        assert_eq!(outcome, case.outcome, "{}", case.name);
        let datagram = Datagram {
            payload: &case.bytes,
            source: case.source,
            listener: ListenerIndex(0),
        };
        let Action::Forward { to, .. } = forward(&self.table, &datagram, &mut self.scratch).action
        else {
            panic!("{} is not sent on", case.name);
        };
        let text = String::from_utf8(self.frame[..written].to_vec()).expect("text");
        (text, to)
    }

    /// All messages of the benches; each is handled once, and its outcome is what it must be.
    pub fn cases(&mut self) -> Vec<Case> {
        let (pool, options) = (Outcome::RequestToPool, Outcome::OptionsAnswered);
        let mut cases = self.call(INVITE);
        cases.extend([
            Case::new("invite-short", INVITE_SHORT, CLIENT, pool),
            Case::new("invite-long", INVITE_LONG, CARRIER, pool),
            Case::new("register", REGISTER, CLIENT, pool),
            Case::new("invite-linphone", INVITE_LINPHONE, CLIENT, pool),
            Case::new("register-volte", REGISTER_VOLTE, CARRIER, pool),
            Case::new("options", OPTIONS, CLIENT, options),
            Case::new("crlf", "\r\n\r\n", CLIENT, Outcome::KeepaliveCrlf),
            Case::new("stun", STUN, CLIENT, Outcome::KeepaliveStun),
        ]);
        for case in &cases {
            let (outcome, written, _) = self.handle(case);
            assert_eq!(outcome, case.outcome, "{}", case.name);
            assert_ne!(written, 0, "{}", case.name);
        }
        cases
    }

    /// The messages of a call that this INVITE opens, both legs of each: what a server answers, what the phone sends in
    /// the dialog, and a re-INVITE by the server with the phone's answer.
    pub fn call(&mut self, invite: &str) -> Vec<Case> {
        let invite = Case::new("invite", invite, CLIENT, Outcome::RequestToPool);
        let (at_server, server) = self.send(&invite);
        let server = server.to_string();
        let to_tag = ";tag=as5c1d7e20";
        let ok = answer(&at_server, to_tag, SERVER_ANSWER, SERVER_SDP);
        let ok = Case::new("ok-to-client", ok, &server, Outcome::Response);

        let route = fields(&at_server, "Record-Route").replace("Record-Route", "Route");
        let in_dialog = |method: &str, sequence: u32| {
            let number = invite_number(&at_server);
            format!(
                "{method} sip:442079460123@10.0.0.11:5060 SIP/2.0\r\n\
                 Via: SIP/2.0/UDP 192.168.1.23:5062;branch=z9hG4bK{number}{sequence};rport\r\n\
                 {route}Max-Forwards: 70\r\n{}{}{to_tag}\r\n{}CSeq: {sequence} {method}\r\n\
                 Contact: <sip:2001@192.168.1.23:5062>\r\n\
                 User-Agent: Yealink SIP-T46U 108.86.0.20\r\nContent-Length: 0\r\n\r\n",
                fields(&at_server, "From"),
                fields(&at_server, "To").trim_end(),
                fields(&at_server, "Call-ID"),
            )
        };
        let to_backend = Outcome::RequestToBackend;
        let ack = Case::new("ack", in_dialog("ACK", 1), CLIENT, to_backend);
        let bye = Case::new("bye", in_dialog("BYE", 2), CLIENT, to_backend);

        // The server's side of the dialog: its From is the call's To.
        let swapped = |text: String, from: &str, to: &str| text.replacen(from, to, 1);
        let reinvite = format!(
            "INVITE sip:2001@192.168.1.23:5062 SIP/2.0\r\n\
             Via: SIP/2.0/UDP {server};branch=z9hG4bK5e1f0c2a;rport\r\n{route}Max-Forwards: 70\r\n\
             {}{to_tag}\r\n{}{}CSeq: 102 INVITE\r\n{SERVER_ANSWER}{}",
            swapped(fields(&at_server, "To"), "To", "From").trim_end(),
            swapped(fields(&at_server, "From"), "From", "To"),
            fields(&at_server, "Call-ID"),
            with_length(SERVER_SDP),
        );
        let to_client = Outcome::RequestToClient;
        let reinvite = Case::new("reinvite-to-client", reinvite, &server, to_client);
        let (at_phone, _) = self.send(&reinvite);
        let ok_back = answer(&at_phone, "", PHONE_ANSWER, PHONE_SDP);
        let ok_back = Case::new("ok-from-client", ok_back, CLIENT, Outcome::Response);
        vec![invite, ok, ack, reinvite, ok_back, bye]
    }

    /// The messages of `count` calls, which have Call-IDs, tags and branches of their own. The calls take turns, each a
    /// step ahead of the one before: no two datagrams in a row are alike, as a worker sees them.
    pub fn calls(&mut self, count: usize) -> Vec<Case> {
        let number = |first: usize, step: usize, at: usize| (first + step * at).to_string();
        let calls = (0..count).map(|at| {
            let invite = INVITE
                .replace("1395206713", &number(1_395_206_713, 7919, at))
                .replace("164829440", &number(164_829_440, 104_729, at))
                .replace("2049815673", &number(2_049_815_673, 611_953, at));
            let mut call = self.call(&invite);
            let steps = call.len();
            call.rotate_left(at % steps);
            call.into_iter()
        });
        let mut calls = calls.collect::<Vec<_>>();
        let mut mixed = Vec::new();
        loop {
            let step = calls
                .iter_mut()
                .filter_map(Iterator::next)
                .collect::<Vec<_>>();
            if step.is_empty() {
                return mixed;
            }
            mixed.extend(step);
        }
    }
}

/// A 200 to a request: what must come back, then what the server says of itself.
fn answer(request: &str, to_tag: &str, head: &str, body: &str) -> String {
    format!(
        "SIP/2.0 200 OK\r\n{}{}{}{}{to_tag}\r\n{}{}{head}{}",
        fields(request, "Via"),
        fields(request, "Record-Route"),
        fields(request, "From"),
        fields(request, "To").trim_end(),
        fields(request, "Call-ID"),
        fields(request, "CSeq"),
        with_length(body),
    )
}

/// The end of a message with a body.
fn with_length(body: &str) -> String {
    format!("Content-Length: {}\r\n\r\n{body}", body.len())
}

/// The lines of all header fields with this name.
fn fields(message: &str, name: &str) -> String {
    let head = message.split("\r\n\r\n").next().unwrap_or_default();
    head.split_inclusive("\r\n")
        .filter(|line| {
            line.strip_prefix(name)
                .is_some_and(|rest| rest.starts_with(':'))
        })
        .collect()
}

/// The digits of the Call-ID: something that differs between calls.
fn invite_number(message: &str) -> String {
    fields(message, "Call-ID")
        .chars()
        .filter(char::is_ascii_digit)
        .take(10)
        .collect()
}
