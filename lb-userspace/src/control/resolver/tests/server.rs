//! A name server on loopback, with a zone that tests write.

use std::{
    collections::{HashMap, HashSet},
    io::{Read, Write},
    net::{SocketAddr, TcpListener, UdpSocket},
    sync::{Arc, Condvar, Mutex},
    thread::JoinHandle,
};

use hickory_resolver::proto::{
    op::{Message, ResponseCode},
    rr::{
        Name, RData, Record, RecordType,
        rdata::{A, AAAA, CNAME, NAPTR, SOA, SRV},
    },
};

use super::PATIENCE;

/// What the server says to a query, other than the records of the zone.
#[derive(Clone, Copy)]
pub enum Behaviour {
    ServFail,
    Refused,
    /// The alias, without what it leads to and without a word about that.
    AliasAlone(&'static str),
}

/// Serves until dropped. Aliases are followed as a recursive name server does it.
pub struct Server {
    address: SocketAddr,
    state: Arc<(Mutex<State>, Condvar)>,
    threads: Vec<JoinHandle<()>>,
}

#[derive(Default)]
struct State {
    ttl_s: u32,
    zone: HashMap<Key, Vec<RData>>,
    behaviours: HashMap<Key, Behaviour>,
    /// Ids by query: a retransmission has the same.
    queries: HashMap<Key, HashSet<u16>>,
    holds: bool,
    truncates_udp: bool,
    stops: bool,
}

type Key = (String, RecordType);

fn name(text: &str) -> Name {
    let mut name = Name::from_ascii(text).unwrap();
    name.set_fqdn(true);
    name
}

fn key(host: &str, kind: &str) -> Key {
    (name(host).to_ascii(), kind.parse().unwrap())
}

impl Server {
    pub fn start() -> Self {
        let (tcp, udp) = bind();
        let address = udp.local_addr().unwrap();
        let state = Arc::new((
            Mutex::new(State {
                ttl_s: 3600,
                ..State::default()
            }),
            Condvar::new(),
        ));
        let (one, other) = (state.clone(), state.clone());
        let threads = vec![
            std::thread::spawn(move || serve_udp(&udp, &one)),
            std::thread::spawn(move || serve_tcp(&tcp, &other)),
        ];
        Self {
            address,
            state,
            threads,
        }
    }

    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Replaces the zone; `name TYPE data...`.
    pub fn zone(&self, lines: &[&str]) {
        self.change(|state| {
            state.zone.clear();
            for line in lines {
                let words = line.split(' ').collect::<Vec<_>>();
                let records = state.zone.entry(key(words[0], words[1])).or_default();
                records.push(data(&words[1..]));
            }
        });
    }

    pub fn set(&self, host: &str, kind: &str, behaviour: Behaviour) {
        self.change(|state| state.behaviours.insert(key(host, kind), behaviour));
    }

    pub fn set_ttl(&self, ttl_s: u32) {
        self.change(|state| state.ttl_s = ttl_s);
    }

    pub fn truncate_udp(&self) {
        self.change(|state| state.truncates_udp = true);
    }

    /// Queries are counted and kept until [`Self::release`].
    pub fn hold(&self) {
        self.change(|state| state.holds = true);
    }

    pub fn release(&self) {
        self.change(|state| state.holds = false);
    }

    pub fn queries(&self) -> usize {
        let state = self.state.0.lock().unwrap();
        state.queries.values().map(HashSet::len).sum()
    }

    pub fn queries_for(&self, host: &str, kind: &str) -> usize {
        let state = self.state.0.lock().unwrap();
        state.queries.get(&key(host, kind)).map_or(0, HashSet::len)
    }

    pub fn wait_for_query(&self, host: &str, kind: &str, count: usize) {
        let key = key(host, kind);
        let is_missing =
            |state: &mut State| state.queries.get(&key).map_or(0, HashSet::len) < count;
        let state = self.state.0.lock().unwrap();
        let (_state, result) = self
            .state
            .1
            .wait_timeout_while(state, PATIENCE, is_missing)
            .unwrap();
        assert!(!result.timed_out(), "{host} {kind} has not been asked for");
    }

    fn change<R>(&self, change: impl FnOnce(&mut State) -> R) {
        change(&mut self.state.0.lock().unwrap());
        self.state.1.notify_all();
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.change(|state| state.stops = true);
        // What wakes them: the flag is looked at after each datagram and connection.
        let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
        let _ = socket.send_to(&[], self.address);
        let _ = std::net::TcpStream::connect(self.address);
        for thread in self.threads.drain(..) {
            let _ = thread.join();
        }
    }
}

/// The same port for both.
fn bind() -> (TcpListener, UdpSocket) {
    for _ in 0..100 {
        let udp = UdpSocket::bind("127.0.0.1:0").unwrap();
        if let Ok(tcp) = TcpListener::bind(udp.local_addr().unwrap()) {
            return (tcp, udp);
        }
    }
    panic!("no port is free for UDP and TCP");
}

fn data(words: &[&str]) -> RData {
    let number = |at: usize| words[at].parse::<u16>().unwrap();
    match words[0] {
        "A" => RData::A(A(words[1].parse().unwrap())),
        "AAAA" => RData::AAAA(AAAA(words[1].parse().unwrap())),
        "CNAME" => RData::CNAME(CNAME(name(words[1]))),
        "SRV" => RData::SRV(SRV::new(number(1), number(2), number(3), name(words[4]))),
        "NAPTR" => RData::NAPTR(NAPTR::new(
            number(1),
            number(2),
            words[3].as_bytes().into(),
            words[4].as_bytes().into(),
            Box::default(),
            name(words[5]),
        )),
        other => panic!("{other}"),
    }
}

fn serve_udp(socket: &UdpSocket, state: &(Mutex<State>, Condvar)) {
    let mut buffer = [0; 4096];
    loop {
        let (len, from) = socket.recv_from(&mut buffer).unwrap();
        let Some(mut response) = respond(&buffer[..len], state) else {
            return;
        };
        if state.0.lock().unwrap().truncates_udp {
            response.metadata.truncation = true;
            response.answers.clear();
        }
        let _ = socket.send_to(&response.to_vec().unwrap(), from);
    }
}

fn serve_tcp(listener: &TcpListener, state: &(Mutex<State>, Condvar)) {
    loop {
        let (mut stream, _) = listener.accept().unwrap();
        if state.0.lock().unwrap().stops {
            return;
        }
        // One query a connection is enough.
        let mut len = [0; 2];
        stream.read_exact(&mut len).unwrap();
        let mut query = vec![0; usize::from(u16::from_be_bytes(len))];
        stream.read_exact(&mut query).unwrap();
        let Some(response) = respond(&query, state) else {
            return;
        };
        let response = response.to_vec().unwrap();
        let len = (response.len() as u16).to_be_bytes();
        stream.write_all(&[&len, &response[..]].concat()).unwrap();
    }
}

/// `None` when it is time to end.
fn respond(query: &[u8], (state, changed): &(Mutex<State>, Condvar)) -> Option<Message> {
    let mut state = state.lock().unwrap();
    if state.stops {
        return None;
    }
    let query = Message::from_vec(query).unwrap();
    let asked = query.queries[0].clone();
    let kind = asked.query_type();
    let key = (asked.name().to_ascii().to_ascii_lowercase(), kind);
    state
        .queries
        .entry(key.clone())
        .or_default()
        .insert(query.metadata.id);
    changed.notify_all();
    let state = changed
        .wait_while(state, |state| state.holds && !state.stops)
        .unwrap();
    let mut response = Message::response(query.metadata.id, query.metadata.op_code);
    response.add_query(asked);
    response.metadata.recursion_available = true;
    match state.behaviours.get(&key) {
        Some(Behaviour::ServFail) => response.metadata.response_code = ResponseCode::ServFail,
        Some(Behaviour::Refused) => response.metadata.response_code = ResponseCode::Refused,
        Some(Behaviour::AliasAlone(end)) => {
            let alias = RData::CNAME(CNAME(name(end)));
            response.add_answer(Record::from_rdata(name(&key.0), state.ttl_s, alias));
        }
        None => state.answer(key, &mut response),
    }
    Some(response)
}

impl State {
    fn answer(&self, (mut host, kind): Key, response: &mut Message) {
        loop {
            let records = self.zone.get(&(host.clone(), kind));
            for data in records.into_iter().flatten() {
                let record = Record::from_rdata(name(&host), self.ttl_s, data.clone());
                response.add_answer(record);
            }
            if records.is_some() {
                return;
            }
            let Some(alias) = self.zone.get(&(host.clone(), RecordType::CNAME)) else {
                break;
            };
            let record = Record::from_rdata(name(&host), self.ttl_s, alias[0].clone());
            response.add_answer(record);
            if let RData::CNAME(end) = &alias[0] {
                host = end.0.to_ascii();
                // Another server's, and this one does not know it.
                if self.behaviours.contains_key(&(host.clone(), kind)) {
                    return;
                }
            }
        }
        if !self.zone.keys().any(|(other, _)| *other == host) {
            response.metadata.response_code = ResponseCode::NXDomain;
        }
        let root = || name("example.");
        let soa = SOA::new(root(), root(), 1, 3600, 600, 86_400, 60);
        response.add_authority(Record::from_rdata(root(), 60, RData::SOA(soa)));
    }
}
