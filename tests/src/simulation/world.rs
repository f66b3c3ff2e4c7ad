//! The clock, the network and the fleet: what happens next.

use std::{
    cmp::Reverse,
    collections::{BinaryHeap, HashMap, VecDeque},
    fmt::Write,
    net::{IpAddr, SocketAddr},
    sync::Arc,
};

use lb_userspace::{
    forward::{Outcome, Table},
    names::{Answer, Found, Names, Target, Targets},
};

use super::{
    Sabotage,
    agent::{Agent, Key, Kind, Output, Timer},
    fleet::{Base, table_of_another_secret},
    fleet::{Built, Change, Generation, Handled, Node, REGISTRARS, SWITCHES, Stranger, Tables},
    message::Message,
    model::{By, Model, shows_nothing},
    random::Random,
    scenario::Scenario,
};

const SECOND: u64 = 1_000_000;
/// Events that a failure is told with.
const LOG: usize = 40;
/// The clock of the nodes is somewhere when the simulation begins.
const BEGIN_NS: u64 = 1_000_000_000_000;

/// Something that happens.
#[derive(Debug)]
pub enum Event {
    AtVip {
        source: SocketAddr,
        bytes: Vec<u8>,
        /// The life of the node that waited for a name.
        waits: Option<u64>,
    },
    AtAgent {
        to: SocketAddr,
        bytes: Vec<u8>,
        /// It left a node that hides the inside, and came from there.
        is_hidden: bool,
    },
    Timer {
        agent: usize,
        timer: Timer,
    },
    Step {
        scenario: usize,
    },
    Respond {
        agent: usize,
        key: Key,
        status: String,
    },
    Cancel {
        serial: usize,
    },
    /// All nodes get this generation, one after another.
    Begin {
        generation: usize,
    },
    Reload {
        life: u64,
        generation: usize,
    },
    Restart,
    Add,
    Remove,
}

/// How bad the network of a seed is.
#[derive(Clone, Copy, Debug)]
struct Network {
    loss_percent: u64,
    duplicate_percent: u64,
    /// Datagrams take up to this long, so they overtake each other.
    delay: u64,
    /// How often a datagram meets another node than the one before from there.
    move_percent: u64,
}

/// Everything there is.
#[derive(Debug)]
pub struct World {
    pub now: u64,
    pub random: Random,
    pub agents: Vec<Agent>,
    pub scenarios: Vec<Scenario>,
    pub model: Model,
    /// What is being answered.
    pub requests: HashMap<(usize, Key), (SocketAddr, Message)>,
    /// When a scenario ended last.
    pub last_end: u64,
    queue: BinaryHeap<Reverse<(u64, u64)>>,
    events: HashMap<u64, Event>,
    next_event: u64,
    network: Network,
    change: Change,
    generations: Vec<Generation>,
    /// The newest one that nodes get.
    target: usize,
    /// When the last node got it.
    target_since: u64,
    tables: Tables,
    nodes: Vec<Node>,
    next_life: u64,
    /// Which node a source meets.
    routes: HashMap<SocketAddr, u64>,
    stranger: Stranger,
    sabotage: Option<Sabotage>,
    wrong_table: Option<Arc<Table>>,
    log: VecDeque<String>,
    offending: Vec<u8>,
    pub datagrams: u64,
    pub compared: u64,
    pub given_up: u64,
}

type Check = Result<(), String>;

impl World {
    pub fn new(seed: u64, built: &Built, sabotage: Option<Sabotage>) -> Self {
        let mut random = Random::new(seed);
        let base = Base::of_seed(seed);
        let change = random.pick(&Change::ALL);
        let generations = Generation::all(base, change);
        let network = Network {
            loss_percent: if random.percent(30) {
                0
            } else {
                random.below(21)
            },
            duplicate_percent: random.pick(&[0, 1, 10]),
            delay: random.pick(&[5_000, 50_000, 300_000]),
            move_percent: random.pick(&[0, 0, 10, 50, 100]),
        };
        let mut model = Model::new(base);
        model.hides_later = change == Change::Hide;
        let mut world = Self {
            now: 0,
            agents: agents(&mut random),
            scenarios: Vec::new(),
            model,
            requests: HashMap::new(),
            last_end: 0,
            queue: BinaryHeap::new(),
            events: HashMap::new(),
            next_event: 0,
            network,
            change,
            generations,
            target: 0,
            target_since: 0,
            tables: built.get(base, change),
            nodes: Vec::new(),
            next_life: 0,
            routes: HashMap::new(),
            stranger: Stranger::default(),
            sabotage,
            wrong_table: (sabotage == Some(Sabotage::AnotherSecret))
                .then(|| table_of_another_secret(base)),
            log: VecDeque::new(),
            offending: Vec::new(),
            datagrams: 0,
            compared: 0,
            given_up: 0,
            random,
        };
        let nodes = match sabotage {
            Some(_) => 2,
            None => world.random.range(1, 5),
        };
        for _ in 0..nodes {
            world.add_node();
        }
        world.plan();
        world
    }

    fn plan(&mut self) {
        for _ in 0..self.random.range(4, 12) {
            self.add_scenario(60 * SECOND);
        }
        if self.generations.len() > 1 {
            let after = self.random.range(SECOND, 30 * SECOND);
            self.at(after, Event::Begin { generation: 1 });
        }
        for _ in 0..self.random.below(4) {
            let after = self.random.below(90 * SECOND);
            let event = match self.random.below(3) {
                0 => Event::Restart,
                1 => Event::Add,
                _ => Event::Remove,
            };
            self.at(after, event);
        }
    }

    fn add_node(&mut self) {
        let life = self.next_life;
        self.next_life += 1;
        self.nodes.push(Node::new(life, self.target));
    }

    /// Something will happen after this time.
    pub fn at(&mut self, after: u64, event: Event) {
        self.next_event += 1;
        self.events.insert(self.next_event, event);
        self.queue
            .push(Reverse((self.now + after, self.next_event)));
    }

    /// Until nothing happens any more.
    pub fn run(&mut self) -> Check {
        while let Some(Reverse((now, event))) = self.queue.pop() {
            self.now = now;
            let event = self.events.remove(&event).expect("queued once");
            self.happen(event)?;
            self.drain()?;
        }
        match self.scenarios.iter().position(|scenario| !scenario.is_over) {
            Some(number) => Err(format!(
                "scenario {number} does not end: {:?}",
                self.scenarios[number]
            )),
            None => Ok(()),
        }
    }

    fn happen(&mut self, event: Event) -> Check {
        match event {
            Event::AtVip {
                source,
                bytes,
                waits,
            } => self.at_vip(source, bytes, waits),
            Event::AtAgent {
                to,
                bytes,
                is_hidden,
            } => self.at_agent(to, bytes, is_hidden),
            Event::Timer { agent, timer } => {
                self.agents[agent].time_out(timer);
                Ok(())
            }
            Event::Step { scenario } => self.step(scenario),
            Event::Respond { agent, key, status } => {
                self.respond(agent, &key, &status);
                Ok(())
            }
            Event::Cancel { serial } => {
                self.cancel(serial);
                Ok(())
            }
            event => {
                self.of_fleet(event);
                Ok(())
            }
        }
    }

    fn of_fleet(&mut self, event: Event) {
        let place = self.random.below(self.nodes.len() as u64) as usize;
        self.note(|| format!("{event:?} (node {place})"));
        match event {
            Event::Begin { generation } => self.begin(generation),
            Event::Reload { life, generation } => {
                let node = self.nodes.iter_mut().find(|node| node.life == life);
                if let Some(node) = node {
                    node.generation = generation;
                }
            }
            Event::Restart if self.sabotage.is_none() => {
                self.nodes.remove(place);
                self.add_node();
            }
            Event::Remove if self.nodes.len() > 1 && self.sabotage.is_none() => {
                self.nodes.remove(place);
            }
            Event::Add if self.nodes.len() < 4 && self.sabotage.is_none() => self.add_node(),
            _ => {}
        }
    }

    /// Each step on all nodes before the next one; the last one of a secret when nothing of the old one is left.
    fn begin(&mut self, generation: usize) {
        const ROLLING: u64 = 5 * SECOND;
        if self.change == Change::Rotate && generation == 3 {
            let begun = self
                .scenarios
                .iter()
                .filter(|it| it.started <= self.target_since);
            let is_left = begun.clone().any(|it| !it.is_over);
            if is_left || self.now < self.last_end.max(self.target_since) + 100 * SECOND {
                return self.at(5 * SECOND, Event::Begin { generation });
            }
            self.add_scenario(10 * SECOND);
        }
        self.target = generation;
        let lives = self.nodes.iter().map(|node| node.life).collect::<Vec<_>>();
        for life in lives {
            let after = self.random.below(ROLLING);
            self.at(after, Event::Reload { life, generation });
        }
        self.target_since = self.now + ROLLING;
        if generation + 1 < self.generations.len() {
            let after = self
                .random
                .range(ROLLING + 35 * SECOND, ROLLING + 40 * SECOND);
            let generation = generation + 1;
            self.at(after, Event::Begin { generation });
            self.add_scenario(after);
            self.add_scenario(after + 10 * SECOND);
        }
    }

    /// The outputs of all agents, and what comes of them.
    fn drain(&mut self) -> Check {
        for agent in 0..self.agents.len() {
            while !self.agents[agent].outputs.is_empty() {
                for output in std::mem::take(&mut self.agents[agent].outputs) {
                    match output {
                        Output::Send { from, text } => self.send_to_vip(from, text),
                        Output::Wait { after, timer } => {
                            self.at(after, Event::Timer { agent, timer });
                        }
                        Output::Heard(heard) => self.heard(agent, heard)?,
                    }
                }
            }
        }
        match self.agents.iter().all(|agent| agent.outputs.is_empty()) {
            true => Ok(()),
            false => self.drain(),
        }
    }

    fn send_to_vip(&mut self, source: SocketAddr, text: String) {
        let message = Message::read(text.as_bytes()).expect("ours");
        self.model.answers(&message);
        for after in self.ways(&message) {
            let bytes = text.clone().into_bytes();
            let event = Event::AtVip {
                source,
                bytes,
                waits: None,
            };
            self.at(after, event);
        }
    }

    /// How long each copy takes that arrives.
    fn ways(&mut self, message: &Message) -> Vec<u64> {
        if self.random.percent(self.network.loss_percent) {
            self.model.lost(message);
            let (now, start) = (self.now, &message.start);
            let line = format!("{:>10} lost: {start} ({:?})", now / 1000, message.serial());
            self.log(line);
            return Vec::new();
        }
        let copies = match self.random.percent(self.network.duplicate_percent) {
            true => 2,
            false => 1,
        };
        let delay = self.network.delay;
        (0..copies).map(|_| self.random.below(delay)).collect()
    }

    /// The node that a datagram from there meets.
    fn node_for(&mut self, source: SocketAddr, waits: Option<u64>) -> usize {
        let place_of = |nodes: &[Node], life| nodes.iter().position(|node| node.life == life);
        if let Some(place) = waits.and_then(|life| place_of(&self.nodes, life)) {
            return place;
        }
        let before = self.routes.get(&source).copied();
        let before = before.and_then(|life| place_of(&self.nodes, life));
        let moves = self.random.percent(self.network.move_percent);
        match before {
            Some(place) if !moves => place,
            _ => {
                let place = self.random.below(self.nodes.len() as u64) as usize;
                self.routes.insert(source, self.nodes[place].life);
                place
            }
        }
    }

    fn at_vip(&mut self, source: SocketAddr, bytes: Vec<u8>, waits: Option<u64>) -> Check {
        let place = self.node_for(source, waits);
        let now_ns = BEGIN_NS + self.now * 1000;
        let message = Message::read(&bytes).expect("ours");
        self.offending = bytes.clone();
        let table = self.table_of(place);
        let node = &mut self.nodes[place];
        let (life, number) = (node.life, node.generation);
        let mut handled = node.handle(&table, source, &bytes, now_ns);
        self.datagrams += 1;
        self.note(|| {
            let to = handled.sent.as_ref().map(|(to, _)| *to);
            let (start, serial) = (&message.start, message.serial());
            format!(
                "node {life} (generation {number}): {source} -> {to:?} {:?}: {start} ({}, {serial:?})",
                handled.outcome,
                message.field("CSeq")
            )
        });
        if handled.outcome == Outcome::AwaitsName {
            return self.wait_for_name(place, source, bytes, &handled);
        }
        if self.sabotage == Some(Sabotage::BranchOfNode) && life == 1 {
            handled.change_branch();
        }
        let generation = &self.generations[number];
        let by = By {
            now: self.now,
            life,
            generation: number,
            is: generation,
        };
        let is_compared = self.sabotage.is_none_or(Sabotage::is_seen_by_other_nodes);
        if is_compared && self.model.is_same_everywhere(&message, by) {
            let node = &self.nodes[place];
            let other = node.other_table(&self.tables);
            let there = self
                .stranger
                .handle(&other, &node.names, source, &bytes, now_ns);
            self.compared += 1;
            if there != handled {
                return Err(format!(
                    "another node does otherwise:\n{}\nand here\n{}",
                    show(&there),
                    show(&handled)
                ));
            }
        }
        let is_hidden = generation.hides && is_of_inside(source.ip());
        if self.sabotage == Some(Sabotage::CancelElsewhere) && message.method() == "CANCEL" {
            handled.go_elsewhere();
        }
        let checked = self.model.handled(by, &self.agents, &message, &handled);
        checked.map_err(|what| format!("{what}\n{}", show(&handled)))?;
        if let Some((to, bytes)) = handled.sent {
            for after in self.ways(&message) {
                let bytes = bytes.clone();
                let event = Event::AtAgent {
                    to,
                    bytes,
                    is_hidden,
                };
                self.at(after, event);
            }
        }
        Ok(())
    }

    fn table_of(&self, place: usize) -> Arc<Table> {
        let node = &self.nodes[place];
        match &self.wrong_table {
            Some(table) if node.life == 1 => Arc::clone(table),
            _ => node.table(&self.tables),
        }
    }

    /// The name servers answer after a while, and the datagram is decided on again.
    fn wait_for_name(
        &mut self,
        place: usize,
        source: SocketAddr,
        bytes: Vec<u8>,
        handled: &Handled,
    ) -> Check {
        let question = handled.question.ok_or("waits for no name")?;
        let addresses = ["192.0.2.51:5060", "192.0.2.52:5060"];
        let targets = addresses.iter().map(|text| Target {
            address: text.parse().expect("address"),
            priority: 0,
            weight: 1,
        });
        let mut names = Names::default();
        let answer = Answer::Targets(Targets::new(targets));
        names.put(
            &question,
            Found::new(answer, 3600),
            BEGIN_NS + self.now * 1000,
        );
        let node = &mut self.nodes[place];
        node.names = Arc::new(names);
        let waits = Some(node.life);
        let after = self.random.below(SECOND / 5);
        self.at(
            after,
            Event::AtVip {
                source,
                bytes,
                waits,
            },
        );
        Ok(())
    }

    fn at_agent(&mut self, to: SocketAddr, bytes: Vec<u8>, is_hidden: bool) -> Check {
        self.offending = bytes;
        let message = Message::read(&self.offending).ok_or("cannot be read")?;
        let receiver = self
            .agents
            .iter()
            .position(|agent| agent.addresses.contains(&to));
        let receiver = receiver.ok_or_else(|| format!("goes to {to}, who has no part in this"))?;
        let agent = &self.agents[receiver];
        self.model.received(&self.agents, receiver, to, &message)?;
        if is_hidden && !agent.is_inside() && self.began_in_this_generation(&message) {
            shows_nothing(&message)?;
        }
        self.note(|| format!("at {to}: {}", message.start));
        self.agents[receiver].receive(to, message);
        Ok(())
    }

    /// What began while some nodes did not hide the inside is known outside as it was then.
    fn began_in_this_generation(&self, message: &Message) -> bool {
        let transaction = message
            .serial()
            .map(|serial| &self.model.transactions[serial]);
        let started = transaction.map(|it| self.scenarios[it.scenario].started);
        !self.model.hides_later || started.is_none_or(|started| started > self.target_since)
    }

    fn note(&mut self, what: impl FnOnce() -> String) {
        let line = format!("{:>10} {}", self.now / 1000, what());
        self.log(line);
    }

    fn log(&mut self, line: String) {
        if self.log.len() == LOG {
            self.log.pop_front();
        }
        self.log.push_back(line);
    }

    /// All that helps to understand a failure.
    pub fn report(&self, seed: u64, what: &str) -> String {
        let mut text = format!("seed {seed}: {what}\n\n");
        let _ = writeln!(
            text,
            "{:?}, {:?}, generation {}\n",
            self.change, self.network, self.target
        );
        text += &self.generations[self.target].text;
        text += "\nLast events, in milliseconds:\n";
        for line in &self.log {
            let _ = writeln!(text, "{line}");
        }
        let datagram = String::from_utf8_lossy(&self.offending);
        let _ = writeln!(text, "\nThe datagram:\n{datagram}");
        text
    }
}

fn show(handled: &Handled) -> String {
    let sent = handled.sent.as_ref();
    let sent = sent.map(|(to, bytes)| format!("to {to}\n{}", String::from_utf8_lossy(bytes)));
    format!("{:?} {}", handled.outcome, sent.unwrap_or_default())
}

fn is_of_inside(address: IpAddr) -> bool {
    address.to_string().starts_with("10.0.0.")
}

/// Phones 0 and 1 behind a NAT, phone 2 without one, switches 3 to 6, registrars 7 and 8, the carrier 9.
fn agents(random: &mut Random) -> Vec<Agent> {
    let mut agents = vec![
        Agent::new(Kind::Phone, "alice", &["198.51.100.7:40001"]),
        Agent::new(Kind::Phone, "carol", &["198.51.100.7:40002"]),
        Agent::new(Kind::Phone, "dave", &["198.51.100.30:5060"]),
    ];
    for (number, local) in ["192.168.1.5:5060", "192.168.1.6:5062"].iter().enumerate() {
        agents[number].local = vec![local.parse().expect("address")];
    }
    agents[0].rport = true;
    agents[2].rport = random.percent(50);
    agents.extend(SWITCHES.map(|address| Agent::new(Kind::Switch, "bob", &[address])));
    agents.extend(REGISTRARS.map(|address| Agent::new(Kind::Registrar, "bob", &[address])));
    let carrier = ["192.0.2.50:5060", "192.0.2.51:5060", "192.0.2.52:5060"];
    agents.push(Agent::new(Kind::Carrier, "carrier", &carrier));
    agents
}
