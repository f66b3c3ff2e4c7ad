//! What the agents talk about: whole calls, registrations, subscriptions, one step after another.

use std::net::SocketAddr;

use super::{
    agent::{Heard, Key, of_invite, response_to},
    message::{Message, tag_of, uri_of},
    model::Expect,
    scenario::{End, Ending, Step},
    world::{Event, World},
};

const SECOND: u64 = 1_000_000;

type Check = Result<(), String>;

impl World {
    /// Goes on with the next step.
    pub fn step(&mut self, scenario: usize) -> Check {
        let it = &mut self.scenarios[scenario];
        if it.is_over {
            return Ok(());
        }
        match it.steps.pop_front() {
            None => self.end(scenario),
            Some(Step::Open(method, expires)) => self.open(scenario, method, expires),
            Some(Step::InDialog { by_callee, method }) => {
                self.in_dialog(scenario, by_callee, method)
            }
            Some(Step::CallPhone) => self.call_phone(scenario),
        }
        Ok(())
    }

    fn end(&mut self, scenario: usize) {
        let it = &mut self.scenarios[scenario];
        if it.is_over {
            return;
        }
        it.is_over = true;
        self.last_end = self.now;
        if let Some(parent) = it.parent {
            self.next_step(parent);
        }
    }

    /// It ends before its last step.
    pub fn give_up(&mut self, scenario: usize) {
        self.given_up += u64::from(!self.scenarios[scenario].is_over);
        self.end(scenario);
    }

    fn next_step(&mut self, scenario: usize) {
        self.scenarios[scenario].current = None;
        let slow = self.random.percent(15);
        let after = match slow {
            true => self.random.range(5 * SECOND, 30 * SECOND),
            false => self.random.range(SECOND / 10, 3 * SECOND),
        };
        self.at(after, Event::Step { scenario });
    }

    /// The step that waits for this transaction is done.
    fn done(&mut self, serial: usize) {
        let scenario = self.model.transactions[serial].scenario;
        if self.scenarios[scenario].current == Some(serial) {
            self.next_step(scenario);
        }
    }

    fn via(&mut self, agent: usize, from: SocketAddr) -> String {
        let number = self.random.next();
        let agent = &self.agents[agent];
        let place = agent.addresses.iter().position(|address| *address == from);
        let local = agent.local[place.unwrap_or(0)];
        let rport = if agent.rport { ";rport" } else { "" };
        format!("SIP/2.0/UDP {local};branch=z9hG4bK{number:x}{rport}")
    }

    fn open(&mut self, scenario: usize, method: &'static str, expires: Option<u32>) {
        let it = &mut self.scenarios[scenario];
        it.cseq += 1;
        let (caller, from) = (it.caller, it.from);
        let via = self.via(caller, from);
        let serial = self.model.transactions.len();
        let it = &self.scenarios[scenario];
        let agent = &self.agents[caller];
        let mut fields = vec![("Via", via)];
        fields.extend(it.routes.iter().map(|route| ("Route", route.clone())));
        fields.extend([
            ("Max-Forwards", "70".to_owned()),
            ("From", format!("<{}>;tag=a{scenario}", it.from_uri)),
            ("To", format!("<{}>", it.to_uri)),
            ("Call-ID", it.call_id.clone()),
            ("CSeq", format!("{} {method}", it.cseq)),
            ("X-Serial", serial.to_string()),
        ]);
        if !matches!(method, "OPTIONS" | "MESSAGE") {
            fields.push(("Contact", format!("<{}>", agent.contact(from))));
        }
        if let Some(expires) = expires {
            fields.push(("Expires", expires.to_string()));
        }
        if it.credentials {
            let value = format!("Digest username=\"{}\", realm=\"r\"", agent.user);
            fields.push(("Proxy-Authorization", value));
        }
        let (uri, expect) = (it.uri.clone(), it.expect);
        let message = self.finish(method, &uri, caller, from, fields);
        self.model
            .open(scenario, caller, from, message.clone(), expect, None);
        self.scenarios[scenario].current = Some(serial);
        self.agents[caller].request(&message, from);
    }

    /// Adds what all requests have at their end.
    fn finish(
        &self,
        method: &str,
        uri: &str,
        agent: usize,
        from: SocketAddr,
        mut fields: Vec<(&str, String)>,
    ) -> Message {
        let body = match method {
            "INVITE" => session(from),
            _ => String::new(),
        };
        if self.agents[agent].is_inside() {
            fields.push(("User-Agent", format!("switch at {}", from.ip())));
        }
        if !body.is_empty() {
            fields.push(("Content-Type", "application/sdp".to_owned()));
        }
        fields.push(("Content-Length", body.len().to_string()));
        let fields = fields.into_iter();
        Message {
            start: format!("{method} {uri} SIP/2.0"),
            fields: fields
                .map(|(name, value)| (name.to_owned(), value))
                .collect(),
            body,
        }
    }

    fn in_dialog(&mut self, scenario: usize, by_callee: bool, method: &'static str) {
        let it = &mut self.scenarios[scenario];
        let callee = it.callee.and_then(|callee| it.callee_ends.get_mut(&callee));
        let (Some(caller), Some(callee)) = (&mut it.caller_end, callee) else {
            return self.give_up(scenario);
        };
        let (own, peer) = match by_callee {
            true => (callee, caller.agent),
            false => (caller, callee.agent),
        };
        own.cseq += 1;
        let end = own.clone();
        let serial = self.model.transactions.len();
        let message = self.of_end(&end, method, end.cseq, serial);
        let expect = Expect::Agent(peer);
        self.model
            .open(scenario, end.agent, end.from, message.clone(), expect, None);
        self.scenarios[scenario].current = Some(serial);
        self.agents[end.agent].request(&message, end.from);
    }

    /// A request in a dialog (RFC 3261 §12.2.1.1); all routers are loose ones.
    fn of_end(&mut self, end: &End, method: &str, cseq: u32, serial: usize) -> Message {
        let mut fields = vec![("Via", self.via(end.agent, end.from))];
        fields.extend(end.routes.iter().map(|route| ("Route", route.clone())));
        fields.extend([
            ("Max-Forwards", "70".to_owned()),
            ("From", end.local.clone()),
            ("To", end.remote.clone()),
            ("Call-ID", end.call_id.clone()),
            ("CSeq", format!("{cseq} {method}")),
            ("X-Serial", serial.to_string()),
        ]);
        if matches!(method, "INVITE" | "SUBSCRIBE" | "NOTIFY" | "UPDATE") {
            let contact = self.agents[end.agent].contact(end.from);
            fields.push(("Contact", format!("<{contact}>")));
        }
        self.finish(method, &end.target, end.agent, end.from, fields)
    }

    /// What an agent has to say.
    pub fn heard(&mut self, agent: usize, heard: Heard) -> Check {
        match heard {
            Heard::Request { key, at, message } => self.requested(agent, key, at, message),
            Heard::Cancel { key } => {
                let after = self.random.below(SECOND / 2);
                let status = "487 Request Terminated".to_owned();
                self.at(after, Event::Respond { agent, key, status });
                Ok(())
            }
            Heard::Ack { message } => {
                let ack = message.serial().unwrap_or_default();
                if let Some(invite) = self.model.transactions[ack].ack_of {
                    self.agents[agent].acked(invite);
                    self.done(invite);
                }
                Ok(())
            }
            Heard::Response { serial, message } => self.responded(serial, &message),
            Heard::AnswerAgain { message } => {
                let serial = message.serial().unwrap_or_default();
                self.acknowledge(serial, &message);
                Ok(())
            }
            Heard::TimedOut {
                serial,
                method,
                sends,
            } => {
                let scenario = self.model.transactions[serial].scenario;
                if method != "CANCEL" {
                    let is_explained = self.model.explains_timeout(serial, &method, sends);
                    self.give_up(scenario);
                    return explained(is_explained, || {
                        format!("transaction {serial}: no response to {method}, sent {sends} times")
                    });
                }
                let is_explained = self.model.explains_timeout(serial, &method, sends);
                let is_over = self.scenarios[scenario].is_over;
                explained(is_explained || is_over, || {
                    format!("transaction {serial}: no response to CANCEL, sent {sends} times")
                })
            }
            Heard::NotAcked { serial, sends } => {
                let scenario = self.model.transactions[serial].scenario;
                let is_over = self.scenarios[scenario].is_over;
                let is_explained = self.model.explains_no_ack(serial, sends);
                if self.scenarios[scenario].current == Some(serial) {
                    self.give_up(scenario);
                }
                explained(is_over || is_explained, || {
                    format!("transaction {serial}: no ACK to a response sent {sends} times")
                })
            }
        }
    }

    fn requested(&mut self, agent: usize, key: Key, at: SocketAddr, message: Message) -> Check {
        let serial = message.serial().unwrap_or_default();
        let scenario = self.model.transactions[serial].scenario;
        let is_in_dialog = !tag_of(message.field("To")).is_empty();
        let method = message.method().to_owned();
        self.requests
            .insert((agent, key.clone()), (at, message.clone()));
        let respond = |world: &mut Self, after, status: &str| {
            let (key, status) = (key.clone(), status.to_owned());
            world.at(after, Event::Respond { agent, key, status });
        };
        if is_in_dialog {
            self.is_of_dialog(scenario, agent, &message)?;
            let after = self.random.below(SECOND / 5);
            respond(self, after, "200 OK");
            return Ok(());
        }
        let it = &mut self.scenarios[scenario];
        if method == "REGISTER" {
            let paths = message.values("Path");
            it.binding = (message.field("Expires") != "0")
                .then(|| (uri_of(message.field("Contact")), paths));
        }
        if method == "INVITE" && it.challenge && message.field("Proxy-Authorization").is_empty() {
            respond(self, 0, "407 Proxy Authentication Required");
            return Ok(());
        }
        if matches!(method.as_str(), "INVITE" | "SUBSCRIBE") {
            if it.callee_ends.contains_key(&agent) {
                // RFC 3261 §8.2.2.2.
                respond(self, 0, "482 Loop Detected");
                return Ok(());
            }
            let end = End {
                agent,
                from: at,
                cseq: 100,
                call_id: message.field("Call-ID").to_owned(),
                local: format!("{};tag=b{agent}", message.field("To")),
                remote: message.field("From").to_owned(),
                routes: message.values("Record-Route"),
                target: uri_of(message.field("Contact")),
            };
            it.callee_ends.insert(agent, end);
        }
        if method != "INVITE" {
            respond(self, 0, "200 OK");
            return Ok(());
        }
        let ending = it.ending;
        respond(self, 0, "180 Ringing");
        let ring = self.random.below(4 * SECOND);
        match ending {
            Ending::Answered => respond(self, ring, "200 OK"),
            Ending::Refused => respond(self, ring, "486 Busy Here"),
            Ending::Cancelled => respond(self, 60 * SECOND, "480 Temporarily Unavailable"),
        }
        Ok(())
    }

    /// Call-ID and tags are those of the dialog that the agent has.
    fn is_of_dialog(&self, scenario: usize, agent: usize, message: &Message) -> Check {
        let it = &self.scenarios[scenario];
        let caller = it.caller_end.as_ref().filter(|end| end.agent == agent);
        let Some(end) = caller.or(it.callee_ends.get(&agent)) else {
            return Err("is for a dialog that the agent does not have".to_owned());
        };
        let is_it = message.field("Call-ID") == end.call_id
            && tag_of(message.field("From")) == tag_of(&end.remote)
            && tag_of(message.field("To")) == tag_of(&end.local);
        explained(is_it, || {
            format!(
                "is of no dialog of the agent: {} is not {}",
                message.field("Call-ID"),
                end.call_id
            )
        })
    }

    /// Sends the response that an agent has thought of.
    pub fn respond(&mut self, agent: usize, key: &Key, status: &str) {
        let Some((at, request)) = self.requests.get(&(agent, key.clone())) else {
            return;
        };
        let mut more = Vec::new();
        let method = request.method();
        let contact = self.agents[agent].contact(*at);
        match method {
            "REGISTER" => {
                for contact in request.all("Contact") {
                    let expires = request.field("Expires");
                    more.push(("Contact", format!("{contact};expires={expires}")));
                }
            }
            "INVITE" | "SUBSCRIBE" => more.push(("Contact", format!("<{contact}>"))),
            _ => {}
        }
        if self.agents[agent].is_inside() {
            more.push(("Server", format!("switch at {}", at.ip())));
        }
        let body = match (method, status) {
            ("INVITE", "200 OK") => {
                more.push(("Content-Type", "application/sdp".to_owned()));
                session(*at)
            }
            _ => String::new(),
        };
        let text = response_to(request, status, &format!("b{agent}"), &more, &body);
        let is_final = !status.starts_with('1');
        self.agents[agent].respond(key, text, is_final);
    }

    fn responded(&mut self, serial: usize, message: &Message) -> Check {
        let scenario = self.model.transactions[serial].scenario;
        let status = message.status().unwrap_or_default();
        let method = self.model.transactions[serial].request.method().to_owned();
        let is_split = self.model.transactions[serial].is_split;
        if message.method() == "CANCEL" {
            let is_fine = status == 200 || is_split;
            return explained(is_fine, || {
                format!("CANCEL of {serial} is answered {status}")
            });
        }
        let opens = self.model.transactions[serial].opens_dialog_or_none();
        if status < 200 {
            let it = &mut self.scenarios[scenario];
            if opens && it.ending == Ending::Cancelled && !it.has_cancelled {
                it.has_cancelled = true;
                let after = self.random.below(2 * SECOND);
                self.at(after, Event::Cancel { serial });
            }
            return Ok(());
        }
        if self.scenarios[scenario].is_over {
            if method == "INVITE" && status < 300 {
                self.acknowledge(serial, message);
            }
            return Ok(());
        }
        let it = &mut self.scenarios[scenario];
        let expected = match (method.as_str(), it.ending) {
            ("INVITE", _) if opens && it.challenge && !it.credentials => 407,
            ("INVITE", Ending::Refused) if opens => 486,
            ("INVITE", Ending::Cancelled) if opens => 487,
            _ => 200,
        };
        if status != expected {
            let cancel_lost = status == 480 && self.model.explains_timeout(serial, "CANCEL", 11);
            self.give_up(scenario);
            return explained(is_split || cancel_lost, || {
                format!("transaction {serial} is answered {status}")
            });
        }
        match (method.as_str(), status) {
            (_, 407) => {
                it.credentials = true;
                it.steps.push_front(Step::Open("INVITE", None));
                self.done(serial);
            }
            ("INVITE" | "SUBSCRIBE", 200) if opens => {
                self.established(scenario, serial, message);
                match method.as_str() {
                    "INVITE" => self.acknowledge(serial, message),
                    _ => self.done(serial),
                }
            }
            ("INVITE", 200) => self.acknowledge(serial, message),
            ("REGISTER", 200) => {
                self.done(serial);
                return self.is_own_contact(serial, message);
            }
            _ => self.done(serial),
        }
        Ok(())
    }

    /// A phone behind a registrar without Path sees its own Contacts.
    fn is_own_contact(&self, serial: usize, message: &Message) -> Check {
        let transaction = &self.model.transactions[serial];
        let sent = uri_of(transaction.request.field("Contact"));
        let got = uri_of(message.field("Contact"));
        let is_plain = transaction.request.uri().contains("plain");
        let may_differ = self.model.base.fixes_contact && !is_plain;
        explained(may_differ || sent == got, || {
            format!("the phone sees {got} in place of its Contact")
        })
    }

    /// The caller has a dialog (RFC 3261 §12.1.2).
    fn established(&mut self, scenario: usize, serial: usize, message: &Message) {
        let it = &mut self.scenarios[scenario];
        let request = &self.model.transactions[serial].request;
        let mut routes = message.values("Record-Route");
        routes.reverse();
        it.callee = tag_of(message.field("To"))
            .trim_start_matches('b')
            .parse()
            .ok();
        it.caller_end = Some(End {
            agent: it.caller,
            from: it.from,
            cseq: it.cseq,
            call_id: it.call_id.clone(),
            local: request.field("From").to_owned(),
            remote: message.field("To").to_owned(),
            routes,
            target: uri_of(message.field("Contact")),
        });
    }

    /// The ACK to a 2xx, each time that it comes (RFC 3261 §13.2.2.4).
    fn acknowledge(&mut self, serial: usize, message: &Message) {
        let transaction = &self.model.transactions[serial];
        let (scenario, agent, from) = (transaction.scenario, transaction.sender, transaction.from);
        let request = &transaction.request;
        let place = (serial, tag_of(message.field("To")));
        if let Some(ack) = self.scenarios[scenario].acks.get(&place) {
            let text = ack.write();
            return self.agents[agent].send(from, text);
        }
        let number = request.field("CSeq").split(' ').next();
        let cseq = number.and_then(|number| number.parse().ok()).unwrap_or(0);
        let mut routes = message.values("Record-Route");
        routes.reverse();
        if !transaction.opens_dialog_or_none() {
            routes = request.values("Route");
        }
        let end = End {
            agent,
            from,
            cseq,
            call_id: request.field("Call-ID").to_owned(),
            local: request.field("From").to_owned(),
            remote: message.field("To").to_owned(),
            routes,
            target: uri_of(message.field("Contact")),
        };
        let peer: Option<usize> = match transaction.expect {
            Expect::Agent(peer) => Some(peer),
            _ => place.1.trim_start_matches('b').parse().ok(),
        };
        let ack_serial = self.model.transactions.len();
        let ack = self.of_end(&end, "ACK", cseq, ack_serial);
        let expect = Expect::Agent(peer.unwrap_or_default());
        self.model
            .open(scenario, agent, from, ack.clone(), expect, Some(serial));
        let text = ack.write();
        self.scenarios[scenario].acks.insert(place, ack);
        self.agents[agent].send(from, text);
    }

    pub fn cancel(&mut self, serial: usize) {
        let transaction = &self.model.transactions[serial];
        let scenario = &self.scenarios[transaction.scenario];
        if scenario.is_over || scenario.current != Some(serial) {
            return;
        }
        let cancel = of_invite(&transaction.request.write(), "CANCEL");
        let (agent, from) = (transaction.sender, transaction.from);
        self.agents[agent].request(&cancel, from);
    }
}

fn explained(is: bool, what: impl FnOnce() -> String) -> Check {
    match is {
        true => Ok(()),
        false => Err(what()),
    }
}

fn session(from: SocketAddr) -> String {
    let ip = from.ip();
    format!(
        "v=0\r\no=- 1 1 IN IP4 {ip}\r\ns=-\r\nc=IN IP4 {ip}\r\nt=0 0\r\nm=audio 4000 RTP/AVP 0\r\n"
    )
}
