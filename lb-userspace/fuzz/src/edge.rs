//! An edge, and what must hold for every datagram that it gets.

use std::{net::SocketAddr, rc::Rc};

use lb_userspace::{
    checksum, config,
    forward::{
        Action, Datagram, Outcome, OutcomeClass, REPLY_GROWTH, Scratch, Table, Trace, Verdict,
        forward,
    },
    sip::{self, Message, Name, StartLine, Via},
    token::{Keys, MAGIC_COOKIE},
};

const SECRET: &[u8] = b"the secret of the fuzzers";

/// Addresses that datagrams come from: clients, backends, and our own.
pub const SOURCES: [&str; 8] = [
    "198.51.100.7:40000",
    "10.0.0.11:5060",
    "[2001:db8:1::7]:40000",
    "[2001:db8:2::11]:5060",
    "10.0.0.12:39999",
    "[::ffff:198.51.100.8]:5060",
    "203.0.113.10:5060",
    "192.168.1.5:5060",
];

/// What is in front of the pools and routes of every configuration.
const HEAD: &str = "
node: { name: fuzz }
pools:
  - name: four
    backends:
      - { name: sw1, address: 10.0.0.11:5060, weight: 2 }
      - { name: sw2, address: 10.0.0.12:5060 }
      - { name: sw3, address: 10.0.0.13:5080 }
  - name: six
    backends: [ { name: sw6, address: '[2001:db8:2::11]:5060' } ]
";

/// Listeners and routes of the configurations that the input chooses from.
const CONFIGURATIONS: [&str; 2] = [
    "
listeners: [ { name: four, address: 203.0.113.10 }, { name: six, address: '2001:db8::10' } ]
routes: [ { listener: six, pool: six }, { pool: four } ]
",
    "
listeners: [ { name: four, address: 203.0.113.10, port: 5061 }, { name: six, address: '2001:db8::10', port: 5 } ]
routes: [ { method: INVITE, listener: six, pool: six }, { method: OPTIONS, listener: six, pool: six }, { method: INVITE, listener: four, pool: four } ]
",
];

/// A node with several configurations. All memory is taken once, as in a worker.
pub struct Edge {
    tables: Vec<Rc<Table>>,
    scratch: Scratch,
    /// Used for every second look at a datagram, so that it holds something else than `scratch`.
    other: Scratch,
}

/// A datagram on its way, and what became of it.
pub struct Sent<'a> {
    pub table: Rc<Table>,
    pub datagram: Datagram<'a>,
    pub verdict: Verdict,
    /// What is sent; empty for nothing.
    pub bytes: Vec<u8>,
}

impl Default for Edge {
    fn default() -> Self {
        let table = |text: &str| {
            let mut config = config::parse(&format!("{HEAD}{text}"), "fuzz.yaml")
                .unwrap_or_else(|error| panic!("{error}"));
            config.keys = Keys::new(SECRET, None);
            Rc::new(Table::new(&config))
        };
        Self {
            tables: CONFIGURATIONS.iter().map(|text| table(text)).collect(),
            scratch: Scratch::new(),
            other: Scratch::new(),
        }
    }
}

impl Edge {
    /// The configuration that a byte of the input chooses.
    pub fn table(&self, choice: u8) -> &Table {
        &self.tables[usize::from(choice) % self.tables.len()]
    }

    /// Sends a datagram through the edge and checks what must hold for any.
    pub fn send<'a>(&mut self, choice: u8, datagram: Datagram<'a>) -> Sent<'a> {
        let Self {
            tables,
            scratch,
            other,
        } = self;
        let table = tables[usize::from(choice) % tables.len()].clone();
        let room = scratch.reply.capacity();
        let verdict = forward(&table, &datagram, scratch);
        assert_eq!(scratch.reply.capacity(), room, "a reply took memory");
        // Both cost as much as all the rest, and find nothing that depends on single bytes.
        let look_twice = datagram.payload.len().is_multiple_of(8);
        let bytes = match verdict.action {
            Action::Forward { .. } => edited(scratch, datagram.payload),
            Action::Reply { .. } => scratch.reply.clone(),
            Action::Drop | Action::Absorb => Vec::new(),
        };
        if look_twice {
            // Nothing of an earlier datagram may show.
            assert_eq!(
                forward(&table, &datagram, other),
                verdict,
                "not the same again"
            );
            let again = match verdict.action {
                Action::Forward { .. } => edited(other, datagram.payload),
                _ => other.reply.clone(),
            };
            assert!(again == bytes, "not the same bytes again");
            // What explains a decision survives whatever the decision survives.
            drop(Trace::new(&table, &datagram, verdict.outcome));
        }
        let sent = Sent {
            table,
            datagram,
            verdict,
            bytes,
        };
        sent.check_class();
        sent
    }
}

impl Sent<'_> {
    fn check_class(&self) {
        let class = match self.verdict.action {
            Action::Forward { to, .. } => {
                self.check_forwarded(to);
                OutcomeClass::Forward
            }
            Action::Reply { to } => {
                self.check_reply(to);
                OutcomeClass::Reply
            }
            Action::Drop => OutcomeClass::Drop,
            Action::Absorb => OutcomeClass::Absorb,
        };
        assert_eq!(self.verdict.outcome.class(), class);
        assert_ne!(self.verdict.outcome, Outcome::NoRoomForEdits);
    }

    /// What is sent on says the same as what came, but for what a proxy has to change (RFC 3261 §16.6, §16.7).
    fn check_forwarded(&self, to: SocketAddr) {
        let payload = self.datagram.payload;
        let before = read(payload);
        let after = read(&self.bytes);
        assert_eq!(before.fault, None, "{self:?}");
        let is_sound = match after.start_line {
            StartLine::Request { .. } => after.fault.is_none(),
            // The third Via is the second one now, and is looked at for the first time.
            StartLine::Response { .. } => matches!(after.fault, None | Some(sip::Fault::Via)),
        };
        assert!(
            is_sound,
            "{:?}
{self:?}",
            after.fault
        );
        self.same(&before, &after);
        match before.start_line {
            StartLine::Request { .. } => self.check_request(&before, &after, to),
            StartLine::Response { .. } => {
                let next = before.next_via.expect("nowhere to go without it");
                assert_eq!(next.response_target(payload), Some(to), "{self:?}");
                let top = after.via.expect("no fault");
                assert_eq!(
                    next.value.of(payload),
                    top.value.of(&self.bytes),
                    "{self:?}"
                );
            }
        }
    }

    /// Facts that no hop changes.
    fn same(&self, before: &Message, after: &Message) {
        let facts = |message: &Message, bytes: &[u8]| {
            let line = match message.start_line {
                StartLine::Request { name, uri, .. } => {
                    [name.of(bytes), b" ", uri.of(bytes)].concat()
                }
                StartLine::Response { status } => status.to_string().into_bytes(),
            };
            let parts = [
                message.call_id.map(|field| field.value),
                message.cseq.map(|field| field.value),
                message.from_uri(),
                message.to_uri(),
                message.from_tag(),
                message.to_tag(),
                message.body,
            ];
            (
                line,
                parts.map(|span| span.map(|span| span.of(bytes).to_vec())),
            )
        };
        let payload = self.datagram.payload;
        assert!(
            facts(before, payload) == facts(after, &self.bytes),
            "other facts\n{self:?}"
        );
    }

    fn check_request(&self, before: &Message, after: &Message, to: SocketAddr) {
        let (payload, bytes) = (self.datagram.payload, &self.bytes[..]);
        // What follows the edits keeps its place in the 16-bit sums.
        let growth = bytes.len() + payload.len();
        assert!(growth.is_multiple_of(2), "parity\n{self:?}");
        let hops = before.max_forwards.map_or(71, |hops| hops.value);
        assert_eq!(
            after.max_forwards.map(|hops| hops.value),
            hops.checked_sub(1),
            "{self:?}"
        );

        let ours = after.via.expect("no fault");
        let listener = self.table.listeners[usize::from(self.datagram.listener.0)].address;
        assert_eq!(ours.response_target(bytes), Some(listener), "{self:?}");
        let theirs = self.vias().nth(1).flatten().expect("the sender's");
        let came = before.via.expect("no fault");
        assert_eq!(theirs.host.of(bytes), came.host.of(payload), "{self:?}");
        let target = theirs
            .response_target(bytes)
            .expect("we wrote where that is");
        assert_eq!(
            target.ip(),
            self.datagram.source.ip().to_canonical(),
            "{self:?}"
        );
        let branch = ours.branch.map_or(&[][..], |branch| branch.of(bytes));
        let transaction = branch.strip_prefix(MAGIC_COOKIE).unwrap_or_default();
        let mac = ours.mac.map_or(&[][..], |mac| mac.of(bytes));
        assert!(
            self.table.keys.verify_via_mac(transaction, mac, target),
            "{self:?}"
        );

        // Without a token nobody reaches anything but a pool, and the tokens are those that placeholders stand for.
        let is_backend = self.table.backends().any(|backend| backend.address == to);
        let is_token_end = crate::placeholders::token_ends().any(|end| end == to);
        let allowed = match self.verdict.outcome {
            Outcome::RequestToPool => is_backend,
            _ => is_token_end,
        };
        assert!(allowed, "an open relay to {to}\n{self:?}");
    }

    /// The first value of each Via field of what is sent.
    fn vias(&self) -> impl Iterator<Item = Option<Via>> {
        fields(&self.bytes)
            .filter(|field| field.name == Name::Via)
            .map(|field| Via::parse(&self.bytes, field.value))
    }

    fn check_reply(&self, to: SocketAddr) {
        let (payload, bytes) = (self.datagram.payload, &self.bytes[..]);
        assert_eq!(to.ip(), self.datagram.source.ip().to_canonical());
        assert!(
            bytes.len() <= payload.len() + REPLY_GROWTH,
            "too long\n{self:?}"
        );
        assert!(!bytes.is_empty());
        let Ok(request) = sip::read(payload) else {
            // CRLF or STUN.
            return assert!(!bytes.starts_with(b"SIP"), "{self:?}");
        };
        let reply = read(bytes);
        let StartLine::Response { status } = reply.start_line else {
            panic!("a request in reply\n{self:?}");
        };
        assert_eq!(
            status == 200,
            self.verdict.outcome == Outcome::OptionsAnswered
        );
        let top = reply.via.expect("it was addressed by that");
        assert_eq!(top.response_target(bytes), Some(to), "{self:?}");
        if request.fault.is_some() {
            return;
        }
        // Further Vias of a request are not read, but copied.
        assert!(
            matches!(reply.fault, None | Some(sip::Fault::Via)),
            "{:?}\n{self:?}",
            reply.fault
        );
        let parts = |message: &Message, bytes: &[u8]| {
            [
                message.call_id.map(|field| field.value),
                message.cseq.map(|field| field.value),
                message.from_tag(),
                message.to_uri(),
            ]
            .map(|span| span.map(|span| span.of(bytes).to_vec()))
        };
        assert!(
            parts(&request, payload) == parts(&reply, bytes),
            "other facts\n{self:?}"
        );
        assert!(reply.to_tag().is_some(), "{self:?}");
    }

    /// What a server would answer to a request that was sent to it: its Vias, From, To, Call-ID and CSeq.
    pub fn response(&self) -> Option<Vec<u8>> {
        let is_request =
            |message: &Message| matches!(message.start_line, StartLine::Request { .. });
        sip::read(&self.bytes).ok().filter(is_request)?;
        let mut response = b"SIP/2.0 183 Session Progress\r\n".to_vec();
        for field in fields(&self.bytes) {
            if matches!(
                field.name,
                Name::Via | Name::From | Name::To | Name::CallId | Name::Cseq
            ) {
                response.extend_from_slice(field.line.of(&self.bytes));
            }
        }
        response.extend_from_slice(b"\r\n");
        Some(response)
    }

    /// Where a response to what was sent on has to go.
    pub fn client(&self) -> Option<SocketAddr> {
        self.vias().nth(1)??.response_target(&self.bytes)
    }
}

impl std::fmt::Debug for Sent<'_> {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(
            formatter,
            "{:?} from {} at listener {}\n{}\n--- sent\n{}",
            self.verdict,
            self.datagram.source,
            self.datagram.listener.0,
            self.datagram.payload.escape_ascii(),
            self.bytes.escape_ascii()
        )
    }
}

fn read(bytes: &[u8]) -> Message {
    sip::read(bytes).unwrap_or_else(|_| panic!("not SIP: {}", bytes.escape_ascii()))
}

fn fields(bytes: &[u8]) -> impl Iterator<Item = sip::HeaderField> {
    let headers = sip::read(bytes).map_or(bytes.len(), |message| message.headers);
    sip::Lines::new(bytes, headers).flatten()
}

/// The payload with the edits, whose checksum follows from them.
fn edited(scratch: &Scratch, payload: &[u8]) -> Vec<u8> {
    let edits = &scratch.edits;
    let mut output = vec![0; edits.output_len(payload.len())];
    assert_eq!(edits.apply(payload, &mut output), Some(output.len()));
    let sum = checksum::add(full_sum(payload), edits.checksum_difference(payload));
    // In one's complement 0 and 0xffff are the same number.
    assert_eq!(sum % 0xffff, full_sum(&output) % 0xffff, "{edits:?}");
    output
}

/// The Internet checksum's sum, word by word (RFC 1071).
pub fn full_sum(bytes: &[u8]) -> u16 {
    let words = bytes
        .chunks(2)
        .map(|pair| u64::from(pair[0]) << 8 | pair.get(1).map_or(0, |byte| u64::from(*byte)));
    let mut sum = words.sum::<u64>();
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    sum as u16
}
