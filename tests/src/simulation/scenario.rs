//! Who calls whom for what: the scenarios that the script has the agents go through.

use std::{
    collections::{HashMap, VecDeque},
    net::SocketAddr,
};

use super::{
    agent::Kind,
    fleet::VIP,
    message::Message,
    model::Expect,
    world::{Event, World},
};

/// How the INVITE of a call ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ending {
    Answered,
    Cancelled,
    Refused,
}

/// One exchange of a scenario.
#[derive(Clone, Copy, Debug)]
pub enum Step {
    /// Outside of a dialog, by the caller. Seconds in Expires, when it has one.
    Open(&'static str, Option<u32>),
    InDialog {
        by_callee: bool,
        method: &'static str,
    },
    /// Somebody inside calls the phone that has registered.
    CallPhone,
}

/// What one side of a dialog keeps of it (RFC 3261 §12).
#[derive(Clone, Debug)]
pub struct End {
    pub agent: usize,
    pub from: SocketAddr,
    pub cseq: u32,
    pub call_id: String,
    pub local: String,
    pub remote: String,
    pub routes: Vec<String>,
    pub target: String,
}

/// A call, or whatever else somebody wants.
#[derive(Debug)]
pub struct Scenario {
    pub caller: usize,
    /// Where it calls from, as the network sees it.
    pub from: SocketAddr,
    pub expect: Expect,
    pub uri: String,
    pub routes: Vec<String>,
    pub from_uri: String,
    pub to_uri: String,
    pub call_id: String,
    pub steps: VecDeque<Step>,
    pub ending: Ending,
    /// The first INVITE is answered 407.
    pub challenge: bool,
    pub parent: Option<usize>,
    pub started: u64,
    pub is_over: bool,
    pub cseq: u32,
    pub credentials: bool,
    /// The transaction that the step waits for.
    pub current: Option<usize>,
    /// Contact and Path as the registrar has them.
    pub binding: Option<(String, Vec<String>)>,
    pub has_cancelled: bool,
    pub caller_end: Option<End>,
    pub callee_ends: HashMap<usize, End>,
    pub callee: Option<usize>,
    pub acks: HashMap<(usize, String), Message>,
}

impl Scenario {
    pub fn new(caller: usize, from: SocketAddr, expect: Expect, steps: Vec<Step>) -> Self {
        Self {
            caller,
            from,
            expect,
            uri: String::new(),
            routes: Vec::new(),
            from_uri: String::new(),
            to_uri: String::new(),
            call_id: String::new(),
            steps: steps.into(),
            ending: Ending::Answered,
            challenge: false,
            parent: None,
            started: 0,
            is_over: false,
            cseq: 0,
            credentials: false,
            current: None,
            binding: None,
            has_cancelled: false,
            caller_end: None,
            callee_ends: HashMap::new(),
            callee: None,
            acks: HashMap::new(),
        }
    }
}

impl World {
    fn call_steps(&mut self) -> Vec<Step> {
        let mut steps = vec![Step::Open("INVITE", None)];
        for _ in 0..self.random.below(4) {
            steps.push(Step::InDialog {
                by_callee: self.random.percent(50),
                method: self.random.pick(&["INVITE", "INFO", "UPDATE", "INVITE"]),
            });
        }
        steps.push(Step::InDialog {
            by_callee: self.random.percent(50),
            method: "BYE",
        });
        steps
    }

    /// One of all that there are, beginning within this time.
    pub fn add_scenario(&mut self, within: u64) {
        let phone = self.random.below(3) as usize;
        let from = self.agents[phone].addresses[0];
        let kind = self.random.below(12);
        let mut scenario = match kind {
            0..=4 => {
                let steps = self.call_steps();
                Scenario::new(phone, from, Expect::Pool, steps)
            }
            5 | 6 => {
                let registrar = self.random.range(7, 9) as usize;
                let register = |expires| Step::Open("REGISTER", Some(expires));
                let mut steps = vec![register(3600), Step::CallPhone, register(3600)];
                if self.random.percent(30) {
                    steps.push(Step::CallPhone);
                }
                steps.push(register(0));
                Scenario::new(phone, from, Expect::Agent(registrar), steps)
            }
            7 | 8 => {
                let switch = self.random.range(3, 6) as usize;
                let from = self.agents[switch].addresses[0];
                let steps = self.call_steps();
                Scenario::new(switch, from, Expect::Agent(9), steps)
            }
            9 => {
                let steps = vec![
                    Step::Open("SUBSCRIBE", Some(600)),
                    in_dialog(true, "NOTIFY"),
                    in_dialog(false, "SUBSCRIBE"),
                    in_dialog(true, "NOTIFY"),
                ];
                Scenario::new(phone, from, Expect::Pool, steps)
            }
            _ => {
                let method = self.random.pick(&["OPTIONS", "MESSAGE"]);
                let steps = vec![Step::Open(method, None)];
                let to_edge = method == "OPTIONS" && self.random.percent(30);
                let expect = if to_edge { Expect::Edge } else { Expect::Pool };
                Scenario::new(phone, from, expect, steps)
            }
        };
        self.address(&mut scenario);
        let after = self.random.below(within + 1);
        self.start(scenario, after);
    }

    /// Who is called, by whom.
    fn address(&mut self, scenario: &mut Scenario) {
        let user = self.agents[scenario.caller].user.clone();
        let number = self.random.below(50);
        scenario.from_uri = format!("sip:{user}@example.com");
        scenario.to_uri = format!("sip:{number}@example.com");
        scenario.uri = scenario.to_uri.clone();
        match scenario.expect {
            Expect::Edge => scenario.uri = format!("sip:{VIP}"),
            Expect::Agent(7) => scenario.uri = "sip:example.com".to_owned(),
            Expect::Agent(8) => {
                scenario.from_uri = format!("sip:{user}@plain.example");
                scenario.uri = "sip:plain.example".to_owned();
            }
            Expect::Agent(_) => {
                let host = self.random.pick(&["192.0.2.50", "carrier.test"]);
                scenario.uri = format!("sip:{number}@{host}");
                scenario.from_uri = format!("sip:{user}@{}", scenario.from.ip());
            }
            Expect::Pool => {}
        }
        if matches!(scenario.expect, Expect::Agent(7 | 8)) {
            scenario.to_uri = scenario.from_uri.clone();
        }
    }

    /// Begins with a scenario after this time.
    pub fn start(&mut self, mut scenario: Scenario, after: u64) {
        let number = self.scenarios.len();
        let agent = &self.agents[scenario.caller];
        let host = agent.local[0].ip();
        // With an address in it or without.
        scenario.call_id = match self.random.percent(70) {
            true => format!("call{number}@{host}"),
            false => format!("call{number}"),
        };
        scenario.started = self.now + after;
        if matches!(scenario.steps[0], Step::Open("INVITE", _)) {
            let kind = self.agents[scenario.caller].kind;
            scenario.challenge = kind == Kind::Phone && self.random.percent(30);
            scenario.ending = match self.random.below(10) {
                0 | 1 => Ending::Cancelled,
                2 => Ending::Refused,
                _ => Ending::Answered,
            };
            if scenario.ending != Ending::Answered {
                scenario.steps.truncate(1);
            }
        }
        self.scenarios.push(scenario);
        self.at(after, Event::Step { scenario: number });
    }

    /// Somebody inside calls the phone that has registered.
    pub fn call_phone(&mut self, scenario: usize) {
        let it = &self.scenarios[scenario];
        let Some((contact, path)) = it.binding.clone() else {
            return self.give_up(scenario);
        };
        let registrar = it.expect;
        let (phone, to_uri) = (it.caller, it.to_uri.clone());
        let Expect::Agent(registrar) = registrar else {
            return self.give_up(scenario);
        };
        // A switch that shares the location table, or the registrar.
        let caller = match self.random.percent(50) {
            true => self.random.range(3, 6) as usize,
            false => registrar,
        };
        let steps = self.call_steps();
        let from = self.agents[caller].addresses[0];
        let mut call = Scenario::new(caller, from, Expect::Agent(phone), steps);
        call.uri = contact;
        call.routes = path;
        call.parent = Some(scenario);
        call.from_uri = format!("sip:bob@{}", from.ip());
        call.to_uri = to_uri;
        self.start(call, 0);
    }
}

fn in_dialog(by_callee: bool, method: &'static str) -> Step {
    Step::InDialog { by_callee, method }
}
