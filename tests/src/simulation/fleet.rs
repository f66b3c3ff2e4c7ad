//! The nodes, and the configurations that they get one after another.

use std::{
    collections::HashMap,
    net::SocketAddr,
    sync::{Arc, Mutex},
};

use lb_userspace::{
    balance::{Roster, State, Strategy},
    config,
    forward::{
        Action, Datagram, ListenerIndex, Memory, Outcome, OutcomeClass, Scratch, Table, forward,
    },
    limit::CallLimits,
    names::Names,
    token::Keys,
};

use super::random::Random;

pub const VIP: &str = "203.0.113.10:5060";
/// Backends of the pool by number from 1.
pub const SWITCHES: [&str; 4] = [
    "10.0.0.11:5060",
    "10.0.0.12:5060",
    "10.0.0.13:5080",
    "10.0.0.14:5060",
];
/// One that knows Path and one that does not.
pub const REGISTRARS: [&str; 2] = ["10.0.0.21:5060", "10.0.0.22:5060"];

/// How the configuration changes while calls are under way.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Change {
    Nothing,
    Drain,
    Add,
    Remove,
    Rotate,
    Hide,
}

impl Change {
    pub const ALL: [Self; 6] = [
        Self::Nothing,
        Self::Drain,
        Self::Add,
        Self::Remove,
        Self::Rotate,
        Self::Hide,
    ];
}

/// What is the same in all generations.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Base {
    /// Place in [`Strategy::ALL`].
    strategy: usize,
    pub fixes_contact: bool,
    pub hides: bool,
}

impl Base {
    pub const COUNT: u64 = 32;

    pub fn of_seed(seed: u64) -> Self {
        let number = seed % Self::COUNT;
        Self {
            strategy: (number % 8) as usize,
            fixes_contact: (number / 8) % 2 == 1,
            hides: number / 16 == 1,
        }
    }

    pub fn strategy(&self) -> Strategy {
        Strategy::ALL[self.strategy]
    }
}

/// A configuration and secret, the same for all nodes that have it.
#[derive(Clone, Debug)]
pub struct Generation {
    pub text: String,
    /// Which secret signs.
    pub signer: usize,
    previous: Option<usize>,
    drained: Option<usize>,
    /// Numbers of the backends in the pool.
    switches: Vec<usize>,
    pub hides: bool,
    /// The same in two generations whose tables pick alike.
    pub picks: (usize, usize),
}

impl Generation {
    fn new(base: Base, switches: &[(usize, u16)], hides: bool) -> Self {
        let fix = if base.fixes_contact {
            "rport, contact"
        } else {
            "rport"
        };
        let topology = if hides { "hide" } else { "keep" };
        let backends = switches.iter().map(|&(number, weight)| {
            let address = SWITCHES[number - 1];
            format!("      - {{ name: s{number}, address: '{address}', weight: {weight} }}\n")
        });
        let text = format!(
            "node: {{ name: edge }}
listeners:
  - {{ name: public, address: 203.0.113.10, nat: {{ detect: [received, contact-private], fix: [{fix}] }} }}
pools:
  - name: switches
    strategy: {}
    backends:
{}  - {{ name: registrars, registration: path, backends: [ {{ name: r1, address: '{}' }} ] }}
  - {{ name: plain, registration: contact, backends: [ {{ name: r2, address: '{}' }} ] }}
routes:
  - {{ method: REGISTER, from_domain: plain.example, pool: plain }}
  - {{ method: REGISTER, pool: registrars }}
  - {{ pool: switches }}
outbound: {{ trusted: [10.0.0.0/24], topology: {topology} }}
",
            base.strategy().name(),
            backends.collect::<String>(),
            REGISTRARS[0],
            REGISTRARS[1],
        );
        Self {
            text,
            signer: 0,
            previous: None,
            drained: None,
            switches: switches.iter().map(|(number, _)| *number).collect(),
            hides,
            picks: (0, 0),
        }
    }

    /// All of a change, in order; the documented steps where it is one of the secret.
    pub fn all(base: Base, change: Change) -> Vec<Self> {
        const USUAL: [(usize, u16); 3] = [(1, 1), (2, 1), (3, 1)];
        let first = Self::new(base, &USUAL, base.hides && change != Change::Hide);
        let with = |change: &dyn Fn(&mut Self)| {
            let mut next = first.clone();
            next.picks.0 = 1;
            change(&mut next);
            next
        };
        let hides = first.hides;
        let rest = match change {
            Change::Nothing => vec![],
            Change::Drain => vec![with(&|next| next.drained = Some(2))],
            Change::Add => {
                let backends = [(1, 1), (2, 1), (3, 1), (4, 2)];
                let added = Self::new(base, &backends, hides);
                vec![with(&|next| {
                    next.text = added.text.clone();
                    next.switches = added.switches.clone();
                })]
            }
            Change::Remove => {
                let left = Self::new(base, &[(1, 3), (3, 1)], hides);
                vec![with(&|next| {
                    next.text = left.text.clone();
                    next.switches = left.switches.clone();
                })]
            }
            Change::Rotate => {
                let steps = [(0, Some(1)), (1, Some(0)), (1, None)];
                let step = |(signer, previous)| {
                    with(&|next| {
                        (next.signer, next.previous) = (signer, previous);
                        next.picks = (0, signer);
                    })
                };
                steps.map(step).to_vec()
            }
            Change::Hide => {
                let hidden = Self::new(base, &USUAL, true);
                vec![with(&|next| {
                    next.text = hidden.text.clone();
                    next.hides = true;
                    next.picks = (0, 0);
                })]
            }
        };
        std::iter::once(first).chain(rest).collect()
    }

    /// Those that may get messages of transactions that they have.
    pub fn keeps(&self, address: SocketAddr) -> bool {
        let mut numbers = self.switches.iter();
        numbers.any(|number| SWITCHES[number - 1].parse() == Ok(address))
    }

    /// Those that take new calls.
    pub fn takes_calls(&self, address: SocketAddr) -> bool {
        let drained = self.drained.map(|number| SWITCHES[number - 1].parse());
        self.keeps(address) && drained != Some(Ok(address))
    }

    /// The same lines with the backends in another order, where that must not matter.
    fn shuffled(&self, base: Base, order: u64) -> String {
        if order == 0
            || matches!(
                base.strategy(),
                Strategy::First | Strategy::WeightedRoundRobin
            )
        {
            return self.text.clone();
        }
        let is_backend = |line: &&str| line.starts_with("      - { name: s");
        let mut backends = self.text.lines().filter(is_backend).collect::<Vec<_>>();
        Random::new(order).shuffle(&mut backends);
        let mut backends = backends.into_iter();
        let lines = self.text.lines().map(|line| match is_backend(&line) {
            true => backends.next().unwrap_or_default(),
            false => line,
        });
        lines.map(|line| format!("{line}\n")).collect()
    }
}

/// Two tables for each generation, of nodes that read the configuration themselves.
pub type Tables = Arc<Vec<[Arc<Table>; 2]>>;

/// Tables that were built before: filling one takes longer than all the calls of a seed.
#[derive(Debug, Default)]
pub struct Built(Mutex<HashMap<(Base, Change), Tables>>);

impl Built {
    pub fn get(&self, base: Base, change: Change) -> Tables {
        let mut built = self.0.lock().unwrap_or_else(|error| error.into_inner());
        let tables = built.entry((base, change));
        Arc::clone(tables.or_insert_with(|| {
            let generations = Generation::all(base, change);
            let chains = [0, 1].map(|order| chain(base, &generations, order));
            let [one, other] = chains;
            Arc::new(one.into_iter().zip(other).map(|(a, b)| [a, b]).collect())
        }))
    }
}

/// The tables that a node has one after another.
fn chain(base: Base, generations: &[Generation], order: u64) -> Vec<Arc<Table>> {
    let mut roster = Roster::default();
    let tables = generations.iter().map(|generation| {
        let text = generation.shuffled(base, order);
        let mut config =
            config::parse(&text, "node.yaml").unwrap_or_else(|error| panic!("{error}\n{text}"));
        config.keys = keys(generation.signer, generation.previous);
        roster.update(&config).expect("few backends");
        if let Some(number) = generation.drained {
            let index = roster.by_name(&format!("s{number}"));
            let entry = index.and_then(|index| roster.get_mut(index));
            entry.expect("in the configuration").state = State::Draining;
        }
        let limits = Arc::new(CallLimits::new(&config));
        Arc::new(Table::with_state(&config, &roster, &limits))
    });
    tables.collect()
}

fn keys(signer: usize, previous: Option<usize>) -> Keys {
    let secret = |number: usize| format!("secret number {number} of the fleet");
    let previous = previous.map(secret);
    let previous = previous.as_ref().map(|secret| secret.as_bytes());
    Keys::new(secret(signer).as_bytes(), previous)
}

/// A table of a node that was given another secret than the fleet.
pub fn table_of_another_secret(base: Base) -> Arc<Table> {
    let generations = Generation::all(base, Change::Nothing);
    let mut config = config::parse(&generations[0].text, "node.yaml").expect("valid");
    config.keys = keys(7, None);
    Arc::new(Table::new(&config))
}

/// A node while it runs.
#[derive(Debug)]
pub struct Node {
    /// Another number after every restart.
    pub life: u64,
    pub generation: usize,
    /// Which of the two tables it has made.
    order: usize,
    scratch: Scratch,
    pub names: Arc<Names>,
}

/// What a node does with a datagram.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Handled {
    pub outcome: Outcome,
    /// Where to and what, when anything is sent.
    pub sent: Option<(SocketAddr, Vec<u8>)>,
    /// The name that it waits for.
    pub question: Option<lb_userspace::names::OwnedQuestion>,
}

impl Handled {
    /// As a node would that has a branch of its own.
    pub fn change_branch(&mut self) {
        if let Some((_, bytes)) = &mut self.sent {
            let text = String::from_utf8_lossy(bytes);
            *bytes = text.replacen("z9hG4bK", "z9hG4bK1", 1).into_bytes();
        }
    }

    /// To another backend.
    pub fn go_elsewhere(&mut self) {
        if let Some((to, _)) = &mut self.sent {
            let is_first = SWITCHES[0].parse() == Ok(*to);
            let other = SWITCHES[if is_first { 2 } else { 0 }];
            *to = other.parse().expect("address");
        }
    }
}

impl Node {
    pub fn new(life: u64, generation: usize) -> Self {
        let mut scratch = Scratch::new();
        scratch.memory = Memory::new(512);
        Self {
            life,
            generation,
            order: (life % 2) as usize,
            scratch,
            names: Arc::default(),
        }
    }

    pub fn table(&self, tables: &Tables) -> Arc<Table> {
        Arc::clone(&tables[self.generation][self.order])
    }

    /// The one that another node has.
    pub fn other_table(&self, tables: &Tables) -> Arc<Table> {
        Arc::clone(&tables[self.generation][1 - self.order])
    }

    pub fn handle(
        &mut self,
        table: &Table,
        source: SocketAddr,
        bytes: &[u8],
        now_ns: u64,
    ) -> Handled {
        self.scratch.names = Arc::clone(&self.names);
        decide(table, source, bytes, now_ns, &mut self.scratch)
    }
}

/// One that knows nothing but its configuration.
#[derive(Debug, Default)]
pub struct Stranger(Scratch);

impl Stranger {
    pub fn handle(
        &mut self,
        table: &Table,
        names: &Arc<Names>,
        source: SocketAddr,
        bytes: &[u8],
        now_ns: u64,
    ) -> Handled {
        self.0.memory = Memory::new(16);
        self.0.names = Arc::clone(names);
        decide(table, source, bytes, now_ns, &mut self.0)
    }
}

fn decide(
    table: &Table,
    source: SocketAddr,
    bytes: &[u8],
    now_ns: u64,
    scratch: &mut Scratch,
) -> Handled {
    scratch.now_ns = now_ns;
    let datagram = Datagram {
        payload: bytes,
        source,
        listener: ListenerIndex(0),
    };
    let verdict = forward(table, &datagram, scratch);
    let sent = match verdict.action {
        Action::Forward { to, .. } => {
            let mut output = vec![0; scratch.edits.output_len(bytes.len())];
            scratch.edits.apply(bytes, &mut output);
            Some((to, output))
        }
        Action::Reply { to } => Some((to, scratch.reply.clone())),
        Action::AwaitName | Action::Drop | Action::Absorb => None,
    };
    let is_sent = matches!(
        verdict.outcome.class(),
        OutcomeClass::Forward | OutcomeClass::Reply
    );
    assert_eq!(sent.is_some(), is_sent, "{:?}", verdict.outcome);
    Handled {
        outcome: verdict.outcome,
        sent,
        question: scratch.question,
    }
}
