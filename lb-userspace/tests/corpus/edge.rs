//! An edge to send messages through.

use std::net::SocketAddr;

use lb_userspace::{
    checksum, config,
    forward::{Action, Datagram, ListenerIndex, Outcome, REPLY_GROWTH, Scratch, Table, forward},
    sip,
};

pub const VIPS: [&str; 2] = ["192.0.2.250:5060", "[2001:db8:250::1]:5060"];
/// Addresses that no message of the corpus has, so that nothing in it comes from a backend or is meant for us.
pub const BACKENDS: [&str; 2] = ["198.18.250.1:5060", "[2001:db8:250::11]:5060"];
pub const CLIENTS: [&str; 2] = ["198.51.100.77:40001", "[2001:db8:51::7]:40001"];

/// A node with a listener and a pool of one backend for each family.
pub struct Edge {
    table: Table,
    scratch: Scratch,
}

/// What came of a datagram.
pub struct Sent {
    pub outcome: Outcome,
    pub treatment: Treatment,
    /// Where to.
    pub to: Option<SocketAddr>,
    /// What is sent; empty for nothing.
    pub bytes: Vec<u8>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Treatment {
    Forwarded,
    /// Answered with this status.
    Refused(u16),
    /// Nothing is sent to anybody.
    Dropped,
    /// Answered, and not with a SIP response: a keepalive.
    Kept,
}

impl Edge {
    /// `settings` are added to both listeners.
    pub fn new(settings: &str) -> Self {
        let [v4, v6] = VIPS.map(|vip| vip.rsplit_once(':').expect("a port").0);
        let text = format!(
            "node: {{ name: edge }}
listeners:
  - {{ name: four, address: '{v4}', port: 5060{settings} }}
  - {{ name: six, address: '{}', port: 5060{settings} }}
pools:
  - {{ name: four, backends: [ {{ name: f1, address: '{}' }} ] }}
  - {{ name: six, backends: [ {{ name: s1, address: '{}' }} ] }}
routes:
  - {{ listener: six, pool: six }}
  - {{ pool: four }}
",
            v6.trim_matches(['[', ']']),
            BACKENDS[0],
            BACKENDS[1]
        );
        let config = config::parse(&text, "corpus.yaml").unwrap_or_else(|error| panic!("{error}"));
        Self {
            table: Table::new(&config),
            scratch: Scratch::new(),
        }
    }

    /// Sends bytes from `source` to the listener of its family, and checks what holds for any datagram.
    pub fn send(&mut self, source: SocketAddr, payload: &[u8]) -> Sent {
        let datagram = Datagram {
            payload,
            source,
            listener: ListenerIndex(u16::from(source.is_ipv6())),
        };
        let verdict = forward(&self.table, &datagram, &mut self.scratch);
        let (treatment, to, bytes) = match verdict.action {
            Action::Forward { to, .. } => (Treatment::Forwarded, Some(to), self.edited(payload)),
            Action::Reply { to } => {
                let reply = self.scratch.reply.clone();
                assert_eq!(to.ip(), source.ip());
                assert!(reply.len() <= payload.len() + REPLY_GROWTH);
                (treatment_of_reply(&reply), Some(to), reply)
            }
            Action::Drop | Action::Absorb | Action::AwaitName => (Treatment::Dropped, None, vec![]),
        };
        Sent {
            outcome: verdict.outcome,
            treatment,
            to,
            bytes,
        }
    }

    /// What validation found in the last message.
    pub fn invalid(&self) -> Option<&'static str> {
        self.scratch.invalid.map(|reason| reason.name())
    }

    fn edited(&self, payload: &[u8]) -> Vec<u8> {
        let edits = &self.scratch.edits;
        let mut output = vec![0; edits.output_len(payload.len())];
        assert_eq!(edits.apply(payload, &mut output), Some(output.len()));
        let sum = |bytes: &[u8]| checksum::fold(checksum::sum(bytes));
        let got = checksum::add(sum(payload), edits.checksum_difference(payload));
        assert_eq!(got % 0xffff, sum(&output) % 0xffff);
        // What went on can be read by who gets it.
        assert!(sip::read(&output).is_ok_and(|message| message.fault.is_none()));
        output
    }
}

fn treatment_of_reply(reply: &[u8]) -> Treatment {
    let status = reply
        .strip_prefix(b"SIP/2.0 ")
        .and_then(|rest| std::str::from_utf8(rest.get(..3)?).ok()?.parse().ok());
    status.map_or(Treatment::Kept, Treatment::Refused)
}

impl Sent {
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.bytes).into_owned()
    }
}

pub fn address(text: &str) -> SocketAddr {
    text.parse().expect("an address and a port")
}
