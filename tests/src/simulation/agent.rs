//! A phone, server or carrier with the transactions of RFC 3261 §17: branch and method match, timers A, B, E, F, G and H run.
//! What the messages are about is for the script.

use std::{collections::HashMap, net::SocketAddr};

use super::message::Message;

/// RFC 3261 §17.1.1.1, in microseconds.
pub const T1: u64 = 500_000;
const T2: u64 = 4_000_000;
/// How long a request is tried (timers B, F), or a final response (H).
pub const TRIED: u64 = 64 * T1;

/// What an agent is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    Phone,
    Switch,
    Registrar,
    Carrier,
}

/// By branch and method; a server's by sent-by as well.
pub type Key = (String, String);

/// When it is asked again.
#[derive(Clone, Debug)]
pub enum Timer {
    /// A and E.
    Request(Key),
    /// B and F.
    RequestOver(Key),
    /// G.
    Response(Key),
    /// H.
    ResponseOver(Key),
}

/// What comes out of an agent.
#[derive(Debug)]
pub enum Output {
    /// To the VIP.
    Send { from: SocketAddr, text: String },
    /// Ask again after this time.
    Wait { after: u64, timer: Timer },
    /// For the script.
    Heard(Heard),
}

/// What an agent has to say to the script.
#[derive(Debug)]
pub enum Heard {
    /// One that opens a transaction.
    Request {
        key: Key,
        at: SocketAddr,
        message: Message,
    },
    /// To an INVITE of which no final response has been sent.
    Cancel { key: Key },
    /// For a 2xx.
    Ack { message: Message },
    /// A provisional one, or the first final one.
    Response { serial: usize, message: Message },
    /// A 2xx to an INVITE, again.
    AnswerAgain { message: Message },
    /// No final response within [`TRIED`].
    TimedOut {
        serial: usize,
        method: String,
        sends: u32,
    },
    /// No ACK within [`TRIED`].
    NotAcked { serial: usize, sends: u32 },
}

#[derive(Debug)]
struct Client {
    text: String,
    serial: usize,
    from: SocketAddr,
    sends: u32,
    interval: u64,
    is_proceeding: bool,
    /// The ACK, once there was a final response other than 2xx.
    ack: Option<String>,
    is_over: bool,
}

#[derive(Debug)]
struct Server {
    serial: usize,
    at: SocketAddr,
    response: Option<String>,
    sends: u32,
    interval: u64,
    is_final: bool,
    is_acked: bool,
}

/// A party of a call.
#[derive(Debug)]
pub struct Agent {
    pub kind: Kind,
    pub user: String,
    /// Where the network reaches it; behind a NAT the outer address.
    pub addresses: Vec<SocketAddr>,
    /// What it takes for its address.
    pub local: Vec<SocketAddr>,
    /// Whether its Vias ask for `rport`.
    pub rport: bool,
    pub outputs: Vec<Output>,
    clients: HashMap<Key, Client>,
    servers: HashMap<Key, Server>,
}

impl Agent {
    pub fn new(kind: Kind, user: &str, addresses: &[&str]) -> Self {
        let addresses = addresses.iter().map(|text| text.parse().expect("address"));
        let addresses: Vec<SocketAddr> = addresses.collect();
        Self {
            kind,
            user: user.to_owned(),
            local: addresses.clone(),
            addresses,
            rport: false,
            outputs: Vec::new(),
            clients: HashMap::new(),
            servers: HashMap::new(),
        }
    }

    pub fn is_inside(&self) -> bool {
        matches!(self.kind, Kind::Switch | Kind::Registrar)
    }

    /// Its Contact where it was reached at this one of its addresses.
    pub fn contact(&self, at: SocketAddr) -> String {
        let place = self.addresses.iter().position(|address| *address == at);
        let local = self.local[place.unwrap_or(0)];
        format!("sip:{}@{local}", self.user)
    }

    /// Sends a request and sees it through.
    pub fn request(&mut self, message: &Message, from: SocketAddr) {
        let key = (message.branch(), message.method().to_owned());
        let client = Client {
            text: message.write(),
            serial: message.serial().expect("ours"),
            from,
            sends: 1,
            interval: T1,
            is_proceeding: false,
            ack: None,
            is_over: false,
        };
        self.send(from, client.text.clone());
        self.wait(T1, Timer::Request(key.clone()));
        self.wait(TRIED, Timer::RequestOver(key.clone()));
        self.clients.insert(key, client);
    }

    /// Sends once.
    pub fn send(&mut self, from: SocketAddr, text: String) {
        self.outputs.push(Output::Send { from, text });
    }

    fn wait(&mut self, after: u64, timer: Timer) {
        self.outputs.push(Output::Wait { after, timer });
    }

    fn heard(&mut self, heard: Heard) {
        self.outputs.push(Output::Heard(heard));
    }

    /// Answers a request; a final response to an INVITE is sent until its ACK comes.
    pub fn respond(&mut self, key: &Key, text: String, is_final: bool) {
        let Some(server) = self.servers.get_mut(key) else {
            return;
        };
        if server.is_final {
            return;
        }
        server.response = Some(text.clone());
        server.is_final = is_final;
        server.sends = 1;
        server.interval = T1;
        let at = server.at;
        self.send(at, text);
        if is_final && key.1 == "INVITE" {
            self.wait(T1, Timer::Response(key.clone()));
            self.wait(TRIED, Timer::ResponseOver(key.clone()));
        }
    }

    /// The ACK to a 2xx has come.
    pub fn acked(&mut self, serial: usize) {
        let servers = self.servers.values_mut();
        for server in servers.filter(|server| server.serial == serial && server.is_final) {
            server.is_acked = true;
        }
    }

    pub fn receive(&mut self, at: SocketAddr, message: Message) {
        match message.status() {
            Some(status) => self.receive_response(status, message),
            None => self.receive_request(at, message),
        }
    }

    fn receive_response(&mut self, status: u16, message: Message) {
        let key = (message.branch(), message.method().to_owned());
        let is_answer = key.1 == "INVITE" && (200..300).contains(&status);
        let Some(client) = self.clients.get_mut(&key) else {
            return;
        };
        if client.is_over || client.ack.is_some() {
            let (from, ack) = (client.from, client.ack.clone());
            match ack {
                Some(ack) if status >= 300 => self.send(from, ack),
                _ if is_answer => self.heard(Heard::AnswerAgain { message }),
                _ => {}
            }
            return;
        }
        if status < 200 {
            client.is_proceeding = true;
            let serial = client.serial;
            self.heard(Heard::Response { serial, message });
            return;
        }
        client.is_over = true;
        let serial = client.serial;
        if key.1 == "INVITE" && !is_answer {
            let ack = ack_of(&client.text, message.field("To"));
            let from = client.from;
            client.ack = Some(ack.clone());
            self.send(from, ack);
        }
        self.heard(Heard::Response { serial, message });
    }

    fn receive_request(&mut self, at: SocketAddr, message: Message) {
        let method = message.method().to_owned();
        let vias = message.values("Via");
        let sent_by = vias.first().and_then(|via| via.split([' ', ';']).nth(1));
        let branch = format!("{} {}", message.branch(), sent_by.unwrap_or_default());
        if method == "ACK" {
            match self.servers.get_mut(&(branch, "INVITE".to_owned())) {
                Some(server) => server.is_acked = true,
                None => self.heard(Heard::Ack { message }),
            }
            return;
        }
        let key = (branch.clone(), method.clone());
        if let Some(server) = self.servers.get_mut(&key) {
            let (at, response) = (server.at, server.response.clone());
            if let Some(response) = response.filter(|_| !server.is_acked) {
                self.send(at, response);
            }
            return;
        }
        let server = Server {
            serial: message.serial().unwrap_or_default(),
            at,
            response: None,
            sends: 0,
            interval: T1,
            is_final: false,
            is_acked: false,
        };
        self.servers.insert(key.clone(), server);
        if method != "CANCEL" {
            self.heard(Heard::Request { key, at, message });
            return;
        }
        let invite = (branch, "INVITE".to_owned());
        let status = match self.servers.contains_key(&invite) {
            true => "200 OK",
            false => "481 No Such Transaction",
        };
        self.respond(&key, response_to(&message, status, "cancel", &[], ""), true);
        if self
            .servers
            .get(&invite)
            .is_some_and(|invite| !invite.is_final)
        {
            self.heard(Heard::Cancel { key: invite });
        }
    }

    pub fn time_out(&mut self, timer: Timer) {
        match timer {
            Timer::Request(key) => {
                let is_invite = key.1 == "INVITE";
                let Some(client) = self.clients.get_mut(&key) else {
                    return;
                };
                if client.is_over || (is_invite && client.is_proceeding) {
                    return;
                }
                client.sends += 1;
                client.interval = match is_invite {
                    true => client.interval * 2,
                    false => (client.interval * 2).min(T2),
                };
                let (from, text, interval) = (client.from, client.text.clone(), client.interval);
                self.send(from, text);
                self.wait(interval, Timer::Request(key));
            }
            Timer::RequestOver(key) => {
                let Some(client) = self.clients.get_mut(&key) else {
                    return;
                };
                if client.is_over || (key.1 == "INVITE" && client.is_proceeding) {
                    return;
                }
                client.is_over = true;
                let (serial, sends) = (client.serial, client.sends);
                let method = key.1;
                self.heard(Heard::TimedOut {
                    serial,
                    method,
                    sends,
                });
            }
            Timer::Response(key) => {
                let Some(server) = self.servers.get_mut(&key) else {
                    return;
                };
                if server.is_acked {
                    return;
                }
                server.sends += 1;
                server.interval = (server.interval * 2).min(T2);
                let (at, interval) = (server.at, server.interval);
                let text = server.response.clone().unwrap_or_default();
                self.send(at, text);
                self.wait(interval, Timer::Response(key));
            }
            Timer::ResponseOver(key) => {
                let Some(server) = self.servers.get_mut(&key) else {
                    return;
                };
                if !server.is_acked {
                    server.is_acked = true;
                    let (serial, sends) = (server.serial, server.sends);
                    self.heard(Heard::NotAcked { serial, sends });
                }
            }
        }
    }
}

/// RFC 3261 §17.1.1.3.
fn ack_of(invite: &str, to: &str) -> String {
    let mut ack = of_invite(invite, "ACK");
    for (name, value) in &mut ack.fields {
        if name == "To" {
            *value = to.to_owned();
        }
    }
    ack.write()
}

/// The CANCEL (RFC 3261 §9.1) or ACK of an INVITE: what says which one it is, and nothing else.
pub fn of_invite(invite: &str, method: &str) -> Message {
    let mut message = Message::read(invite.as_bytes()).expect("ours");
    message.start = message.start.replacen("INVITE", method, 1);
    message.body.clear();
    message.fields.retain_mut(|(name, value)| {
        match name.as_str() {
            "CSeq" => *value = value.replacen("INVITE", method, 1),
            "Content-Length" => *value = "0".to_owned(),
            _ => {}
        }
        !matches!(
            name.as_str(),
            "Contact" | "Content-Type" | "Proxy-Authorization" | "User-Agent"
        )
    });
    message
}

/// RFC 3261 §8.2.6.
pub fn response_to(
    request: &Message,
    status: &str,
    tag: &str,
    more: &[(&str, String)],
    body: &str,
) -> String {
    let copied = [
        "Via",
        "Record-Route",
        "From",
        "To",
        "Call-ID",
        "CSeq",
        "X-Serial",
    ];
    let fields = request.fields.iter();
    let fields = fields.filter(|(name, _)| {
        copied
            .iter()
            .any(|copied| name.eq_ignore_ascii_case(copied))
    });
    let mut fields = fields.cloned().collect::<Vec<_>>();
    for (name, value) in &mut fields {
        if name == "To" && !value.contains(";tag=") {
            *value += &format!(";tag={tag}");
        }
    }
    let more = more
        .iter()
        .map(|(name, value)| ((*name).to_owned(), value.clone()));
    fields.extend(more);
    fields.push(("Content-Length".to_owned(), body.len().to_string()));
    Message {
        start: format!("SIP/2.0 {status}"),
        fields,
        body: body.to_owned(),
    }
    .write()
}
