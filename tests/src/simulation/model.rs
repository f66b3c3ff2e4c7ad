//! What a correct path delivers: the ledger of all transactions, and what must be true of each datagram.
//!
//! A transaction is recognised by a header field of the test's own, which no proxy touches, so nothing here depends on branches,
//! tokens or hashes.

use std::{
    collections::{HashMap, HashSet},
    net::SocketAddr,
};

use lb_userspace::{balance::Strategy, forward::OutcomeClass};

use super::{
    agent::{Agent, Kind},
    fleet::{Base, Generation, Handled, VIP},
    message::{Message, parameter, tag_of},
};

/// Who a request is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Expect {
    Agent(usize),
    /// A backend of the pool of switches.
    Pool,
    /// The node that gets it.
    Edge,
}

/// What became of a request on a node.
#[derive(Clone, Debug)]
struct Seen {
    branch: String,
    to: SocketAddr,
    generation: usize,
    /// When the node last handled a message of the transaction.
    at: u64,
}

impl Seen {
    /// README, "Pins": those of a transaction that has been answered hold for 33 s.
    fn is_sure(&self, now: u64) -> bool {
        now < self.at + 32_500_000
    }

    /// What may have been forgotten is not remembered any longer for that.
    fn touch(&mut self, now: u64) {
        if self.is_sure(now) {
            self.at = now;
        }
    }
}

/// One transaction; CANCEL, and ACK to what is not 2xx, belong to that of their INVITE.
#[derive(Debug)]
pub struct Transaction {
    pub scenario: usize,
    pub sender: usize,
    /// Where it is sent from, as the network sees it.
    pub from: SocketAddr,
    pub request: Message,
    pub expect: Expect,
    /// The INVITE that was answered with 2xx, when this is the ACK.
    pub ack_of: Option<usize>,
    /// By the life of a node.
    seen: HashMap<u64, Seen>,
    /// By who signs.
    branches: HashMap<usize, String>,
    /// By what tables pick by.
    picks: HashMap<(usize, usize), SocketAddr>,
    first: Option<(SocketAddr, String)>,
    /// It went two ways, as is documented for what happened.
    pub is_split: bool,
    losses: [u32; 3],
    /// Start lines of the responses that were sent.
    answers: HashSet<String>,
}

impl Transaction {
    pub fn opens_dialog_or_none(&self) -> bool {
        tag_of(self.request.field("To")).is_empty()
    }
}

/// A node that has handled something.
#[derive(Clone, Copy, Debug)]
pub struct By<'a> {
    pub now: u64,
    pub life: u64,
    pub generation: usize,
    pub is: &'a Generation,
}

/// All transactions.
#[derive(Debug)]
pub struct Model {
    pub base: Base,
    pub transactions: Vec<Transaction>,
    /// Where INVITEs of a scenario went, by the life of the node.
    calls: HashMap<(usize, u64), Seen>,
    /// Hiding is among what changes.
    pub hides_later: bool,
}

type Check = Result<(), String>;

fn check(holds: bool, what: impl FnOnce() -> String) -> Check {
    match holds {
        true => Ok(()),
        false => Err(what()),
    }
}

impl Model {
    pub fn new(base: Base) -> Self {
        Self {
            base,
            transactions: Vec::new(),
            calls: HashMap::new(),
            hides_later: false,
        }
    }

    pub fn open(
        &mut self,
        scenario: usize,
        sender: usize,
        from: SocketAddr,
        request: Message,
        expect: Expect,
        ack_of: Option<usize>,
    ) {
        self.transactions.push(Transaction {
            scenario,
            sender,
            from,
            request,
            expect,
            ack_of,
            seen: HashMap::new(),
            branches: HashMap::new(),
            picks: HashMap::new(),
            first: None,
            is_split: false,
            losses: [0; 3],
            answers: HashSet::new(),
        });
    }

    /// The transaction that a message of an agent, or of a node, belongs to.
    fn of(&self, message: &Message) -> Result<usize, String> {
        let serial = message.serial();
        let serial = serial.filter(|serial| *serial < self.transactions.len());
        serial.ok_or_else(|| "belongs to no transaction".to_owned())
    }

    /// An agent sends this response.
    pub fn answers(&mut self, message: &Message) {
        if let Some(serial) = message.serial()
            && message.status().is_some()
        {
            self.transactions[serial]
                .answers
                .insert(message.start.clone());
        }
    }

    /// The network lost a datagram.
    pub fn lost(&mut self, message: &Message) {
        let Some(serial) = message.serial() else {
            return;
        };
        let class = match (message.method(), message.status()) {
            ("CANCEL", _) => 1,
            ("ACK", _) => 2,
            ("INVITE", Some(200..)) => 2,
            _ => 0,
        };
        let serial = self.transactions[serial].ack_of.unwrap_or(serial);
        self.transactions[serial].losses[class] += 1;
    }

    /// Whether losses explain that a request had no final response: each time that it was sent needs one. What was sent last may still be
    /// on its way.
    pub fn explains_timeout(&self, serial: usize, method: &str, sends: u32) -> bool {
        let transaction = &self.transactions[serial];
        let losses = match method {
            "CANCEL" => transaction.losses[1],
            _ => transaction.losses[0] + transaction.losses[2],
        };
        transaction.is_split || losses + 1 >= sends
    }

    /// The same for a final response that had no ACK.
    pub fn explains_no_ack(&self, serial: usize, sends: u32) -> bool {
        let transaction = &self.transactions[serial];
        transaction.is_split || transaction.losses[2] + 1 >= sends
    }

    /// True when another node, of the same configuration and without any memory, must do the same to the byte. Not so for requests of
    /// which this one remembers how an earlier configuration had them, those that a strategy distributes which is best
    /// effort across nodes, and those to a name with several addresses, where attempts are remembered.
    pub fn is_same_everywhere(&self, message: &Message, by: By<'_>) -> bool {
        let Some(serial) = message.serial() else {
            return true;
        };
        if message.status().is_some() {
            return true;
        }
        let transaction = &self.transactions[serial];
        let is_old =
            |seen: Option<&Seen>| seen.is_some_and(|seen| seen.generation != by.generation);
        if is_old(transaction.seen.get(&by.life)) {
            return false;
        }
        if !transaction.opens_dialog_or_none() {
            return true;
        }
        let call = self.calls.get(&(transaction.scenario, by.life));
        match transaction.expect {
            Expect::Pool => self.is_exact(message) && !is_old(call),
            _ => !message.uri().contains("carrier.test"),
        }
    }

    /// README, "Distribution".
    fn is_exact(&self, message: &Message) -> bool {
        let strategy = self.base.strategy();
        let has_credentials = !message.field("Proxy-Authorization").is_empty();
        strategy.is_exact_across_nodes()
            || (strategy == Strategy::HashAuthUsername && has_credentials)
    }

    /// A node has handled a message.
    pub fn handled(
        &mut self,
        by: By<'_>,
        agents: &[Agent],
        message: &Message,
        handled: &Handled,
    ) -> Check {
        let serial = self.of(message)?;
        let transaction = &self.transactions[serial];
        let outcome = handled.outcome;
        if transaction.expect == Expect::Edge {
            let is_reply = outcome.class() == OutcomeClass::Reply;
            let to = handled.sent.as_ref().map(|(to, _)| *to);
            return check(is_reply && to == Some(transaction.from), || {
                format!("is to be answered: {outcome:?}")
            });
        }
        let Some((to, bytes)) = &handled.sent else {
            return Err(format!("goes nowhere: {outcome:?}"));
        };
        check(outcome.class() == OutcomeClass::Forward, || {
            format!("is answered: {outcome:?}")
        })?;
        if message.status().is_some() {
            let seen = self.transactions[serial].seen.get_mut(&by.life);
            seen.into_iter().for_each(|seen| seen.touch(by.now));
            let transaction = &self.transactions[serial];
            return check(*to == transaction.from, || {
                format!("goes to {to}, its request came from {}", transaction.from)
            });
        }
        let sent = Message::read(bytes).ok_or("cannot be read when sent")?;
        self.is_of_one_transaction(by, serial, message, *to, sent.branch())?;
        match self.transactions[serial].expect {
            Expect::Agent(agent) => check(agents[agent].addresses.contains(to), || {
                format!("goes to {to}, which is not {}", agents[agent].user)
            }),
            _ => Ok(()),
        }
    }

    /// Retransmissions, CANCEL and ACK are of the transaction of their request: the same branch, the same server.
    fn is_of_one_transaction(
        &mut self,
        by: By<'_>,
        serial: usize,
        message: &Message,
        to: SocketAddr,
        branch: String,
    ) -> Check {
        let is_exact = self.is_exact(message);
        let transaction = &mut self.transactions[serial];
        let seen = transaction.seen.get(&by.life).cloned();
        let is_as_seen = seen.as_ref().is_some_and(|seen| seen.branch == branch);
        let is_sure = seen.as_ref().is_some_and(|seen| seen.is_sure(by.now));
        if !is_as_seen {
            let branches = transaction.branches.entry(by.is.signer);
            let expected = match &seen {
                Some(seen) if is_sure => &seen.branch,
                _ => branches.or_insert_with(|| branch.clone()),
            };
            check(*expected == branch, || {
                format!("has branch {branch}, and had {expected}")
            })?;
        }
        let follows = matches!(message.method(), "ACK" | "CANCEL");
        let is_invite = transaction.request.method() == "INVITE";
        if transaction.expect == Expect::Pool {
            let is_pinned = is_invite || !is_exact;
            let keeps = |seen: &Seen| by.is.keeps(seen.to);
            let pinned = seen.as_ref().filter(|seen| is_pinned && keeps(seen));
            let call = self.calls.get(&(transaction.scenario, by.life));
            let call = call.filter(|call| keeps(call) && !follows);
            let is_call = call.is_some_and(|call| call.to == to);
            if let Some(pinned) = pinned.filter(|pinned| is_sure || pinned.to == to) {
                check(pinned.to == to, || {
                    format!("goes to {to}, and went to {} from here", pinned.to)
                })?;
            } else if !is_call {
                check(by.is.takes_calls(to), || format!("goes to {to}"))?;
                if is_exact {
                    let picked = *transaction.picks.entry(by.is.picks).or_insert(to);
                    check(picked == to, || {
                        format!("goes to {to}, and to {picked} from others")
                    })?;
                }
            }
        }
        let first = transaction.first.get_or_insert((to, branch.clone()));
        let moved = first.0 != to && transaction.expect == Expect::Pool;
        transaction.is_split |= moved || first.1 != branch;
        if !follows {
            // A call that is remembered goes on as an earlier configuration had it.
            let call = self.calls.get(&(transaction.scenario, by.life));
            let call = call.filter(|call| call.to == to);
            let before = call.or(seen.as_ref());
            let generation = before.map_or(by.generation, |before| before.generation);
            let now = Seen {
                branch,
                to,
                generation,
                at: by.now,
            };
            if is_invite || !is_exact {
                self.calls
                    .insert((transaction.scenario, by.life), now.clone());
            }
            transaction.seen.insert(by.life, now);
        } else if let Some(seen) = transaction.seen.get_mut(&by.life) {
            seen.touch(by.now);
        }
        Ok(())
    }

    /// An agent gets a message at one of its addresses.
    pub fn received(
        &self,
        agents: &[Agent],
        receiver: usize,
        at: SocketAddr,
        message: &Message,
    ) -> Check {
        let agent = &agents[receiver];
        let Some(serial) = message.serial() else {
            // The edge's own answers.
            return check(message.status() == Some(200), || {
                "nobody sent it".to_owned()
            });
        };
        let transaction = &self.transactions[serial];
        if message.status().is_some() {
            check(transaction.sender == receiver, || {
                format!("comes to {}, who has not asked", agent.user)
            })?;
            return self.is_answer(transaction, message);
        }
        match transaction.expect {
            Expect::Agent(expected) => {
                check(expected == receiver, || format!("comes to {}", agent.user))?
            }
            _ => check(agent.kind == Kind::Switch, || {
                format!("comes to {}", agent.user)
            })?,
        }
        self.is_request(transaction, agent, at, message)
    }

    fn is_answer(&self, transaction: &Transaction, message: &Message) -> Check {
        let request = &transaction.request;
        check(transaction.answers.contains(&message.start), || {
            format!("nobody has said {}", message.start)
        })?;
        let vias = message.values("Via");
        check(vias.len() == 1, || format!("has {} Vias", vias.len()))?;
        is_via(&request.values("Via")[0], &vias[0], transaction.from)?;
        same(
            "Call-ID",
            request.field("Call-ID"),
            message.field("Call-ID"),
        )?;
        let ends = [tag_of(request.field("From")), tag_of(message.field("From"))];
        same("tag of From", &ends[0], &ends[1])?;
        let number = |message: &Message| {
            let cseq = message.field("CSeq").split_whitespace().next();
            cseq.unwrap_or_default().to_owned()
        };
        same("CSeq", &number(request), &number(message))
    }

    fn is_request(
        &self,
        transaction: &Transaction,
        agent: &Agent,
        at: SocketAddr,
        message: &Message,
    ) -> Check {
        let request = &transaction.request;
        let goes_out = !agent.is_inside();
        let vias = message.values("Via");
        let ours = vias.first().map(String::as_str).unwrap_or_default();
        check(ours.starts_with(&format!("SIP/2.0/UDP {VIP};")), || {
            format!("has {ours} on top")
        })?;
        match vias.len() {
            2 => is_via(&request.values("Via")[0], &vias[1], transaction.from)?,
            1 if goes_out && (self.base.hides || self.hides_later) => {}
            other => return Err(format!("has {other} Vias")),
        }
        check(message.all("Route").next().is_none(), || {
            "has a Route".to_owned()
        })?;
        same("Max-Forwards", "69", message.field("Max-Forwards"))?;
        let is_led = !transaction.opens_dialog_or_none() || agent.kind == Kind::Phone;
        let own = agent.contact(at);
        let mended = format!("sip:{}@{at}", agent.user);
        let may_be_mended = agent.kind == Kind::Phone && self.base.fixes_contact;
        match message.uri() {
            uri if is_led && (uri == own || (may_be_mended && uri == mended)) => {}
            uri if !is_led && uri == request.uri() => {}
            uri => return Err(format!("has Request-URI {uri}")),
        }
        let hides = self.base.hides || self.hides_later;
        if !hides {
            for name in ["From", "To", "Call-ID", "User-Agent"] {
                if message.method() == request.method() {
                    same(name, request.field(name), message.field(name))?;
                }
            }
            if message.method() == request.method() {
                same("body", &request.body, &message.body)?;
            }
        }
        same(
            "tag of From",
            &tag_of(request.field("From")),
            &tag_of(message.field("From")),
        )
    }
}

fn same(what: &str, expected: &str, got: &str) -> Check {
    check(expected == got, || {
        format!("{what} is {got:?}, not {expected:?}")
    })
}

/// A Via as it was sent, but for what RFC 3261 §18.2.1 and RFC 3581 have us put there, and our padding.
fn is_via(sent: &str, got: &str, from: SocketAddr) -> Check {
    let kept = |via: &str| {
        let parts = via.split(';').filter(|part| {
            !part.starts_with("received=") && !part.starts_with("rport") && *part != "lb"
        });
        parts.collect::<Vec<_>>().join(";")
    };
    same("Via", &kept(sent), &kept(got))?;
    let received = parameter(got, "received");
    let is_there = received.is_empty() || received == from.ip().to_string();
    check(is_there, || format!("received is {received}, not {from}"))?;
    let rport = parameter(got, "rport");
    let is_port = rport.is_empty() || rport == from.port().to_string();
    check(is_port, || format!("rport is {rport}, not {from}"))
}

/// Nothing of the inside is in what an agent outside gets, but in what is left as it is: `c=`, and From, To and Call-ID of the outside.
pub fn shows_nothing(message: &Message) -> Check {
    let is_response = message.status().is_some();
    for (name, value) in &message.fields {
        let is_left = is_response && matches!(name.as_str(), "From" | "To" | "Call-ID" | "Via");
        check(is_left || !value.contains("10.0.0."), || {
            format!("shows {name}: {value}")
        })?;
    }
    let mut lines = message.body.lines();
    let shown = lines.find(|line| !line.starts_with("c=") && line.contains("10.0.0."));
    check(shown.is_none(), || format!("shows {shown:?}"))
}
