//! The command `trace`: what workers copy, line by line to a client.

use std::{
    io,
    net::SocketAddr,
    sync::Arc,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use base64::{Engine, engine::general_purpose::STANDARD};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::{
    Request,
    plane::Plane,
    server::{Answer, Client, refusal},
};
use crate::{
    forward::{Outcome, OutcomeClass, Table},
    sip::{self, Span, StartLine},
    sys::thread::monotonic_ns,
    tap::{Criteria, Filter, Lost, MAX_TRACES, Purpose, Record, TapReader, Taps},
};

/// How often what was copied is sent on.
const EVERY: Duration = Duration::from_millis(20);
/// Bytes that are gathered before they are sent.
const PIECE: usize = 64 << 10;
/// Messages in a second that are copied at the most, when nobody says how many.
pub const DEFAULT_LIMIT: u32 = 10_000;

/// A line of a trace.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "event", rename_all = "lowercase")]
pub enum Line {
    /// A message.
    Message(Box<Traced>),
    /// Messages that are not shown, since the trace began.
    Lost {
        /// The client was too slow.
        queue_full: u64,
        /// There were more in a second than the trace may have.
        limited: u64,
    },
}

/// A message as it came and as it left. What does not apply is null.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Traced {
    /// When the worker's batch began, in UTC (RFC 3339).
    pub time: String,
    /// The same in nanoseconds since 1970.
    pub time_ns: u64,
    /// Which worker.
    pub worker: usize,
    /// `af-xdp`, `kernel`, or `waited`: it has been shown before and has waited for the name servers.
    pub way: String,
    /// Equal for all messages of a call in this trace, also where its Call-ID is hidden from the outside.
    pub call: Option<String>,
    /// Where it came from.
    pub source: Option<SocketAddr>,
    /// The backend that is.
    pub source_backend: Option<String>,
    /// The address that it came to.
    pub destination: Option<SocketAddr>,
    /// The listener of this address.
    pub listener: String,
    /// `request` or `response`.
    pub kind: Option<String>,
    /// Method of a request.
    pub method: Option<String>,
    /// Status of a response.
    pub status: Option<u16>,
    /// Request-URI of a request.
    pub request_uri: Option<String>,
    /// CSeq.
    pub cseq: Option<String>,
    /// Call-ID as it came.
    pub call_id: Option<String>,
    /// Call-ID as the inside has it, where it was hidden from the outside.
    pub inner_call_id: Option<String>,
    /// URI in From.
    pub from_uri: Option<String>,
    /// URI in To.
    pub to_uri: Option<String>,
    /// What became of it, by the name of its counter.
    pub outcome: String,
    /// `forward`, `reply`, `drop`, `absorb`, or `wait` for the name servers.
    pub verdict: String,
    /// Why the request is not well-formed.
    pub validate: Option<String>,
    /// Indicators of far-end NAT that matched.
    pub nat: Vec<String>,
    /// What was done about it.
    pub nat_fixed: Vec<String>,
    /// The address that what was sent has left from.
    pub sent_from: Option<SocketAddr>,
    /// Where it went.
    pub sent_to: Option<SocketAddr>,
    /// The backend that is.
    pub backend: Option<String>,
    /// Status of a reply of our own.
    pub sent_status: Option<u16>,
    /// A reply that was not sent because the request's checksum was wrong: `bad_udp_checksum`.
    pub not_sent: Option<String>,
    /// Bytes as it came.
    pub received_len: usize,
    /// These bytes in base64, up to 4,096 of them.
    #[serde(with = "in_base64")]
    pub received: Vec<u8>,
    /// Bytes as it left.
    pub sent_len: usize,
    /// These bytes in base64, up to 4,096 of them; empty when nothing was sent.
    #[serde(with = "in_base64")]
    pub sent: Vec<u8>,
}

/// Answers a request for a trace.
pub fn start(plane: &Arc<Plane>, taps: &Arc<Taps>, request: &Request) -> Answer {
    match open(taps, request) {
        Ok(reader) => {
            let plane = Arc::clone(plane);
            let first = json!({ "ok": true, "node": plane.config().node.name });
            Answer::Stream(
                first,
                Box::new(move |client| {
                    // Whose calls they are is nobody's business but the client's.
                    log::info!("a trace begins");
                    let (result, lost) = send(&plane, reader, client);
                    let left_out = lost.queue_full + lost.limited;
                    log::info!("a trace ends; {left_out} messages were left out");
                    result
                }),
            )
        }
        Err(reason) => refusal(&reason).into(),
    }
}

fn open(taps: &Arc<Taps>, request: &Request) -> Result<TapReader, String> {
    let mut arguments = request.arguments.clone();
    let limit = match arguments.remove("limit") {
        None => DEFAULT_LIMIT,
        Some(limit) => limit
            .as_u64()
            .and_then(|limit| u32::try_from(limit).ok())
            .filter(|limit| *limit > 0)
            .ok_or("limit is not a whole number from 1 on")?,
    };
    let criteria: Criteria =
        serde_json::from_value(Value::Object(arguments)).map_err(|error| error.to_string())?;
    let filter = Filter::new(&criteria)?;
    taps.open(Purpose::Trace, filter, limit).map_err(|_| {
        format!(
            "{MAX_TRACES} traces run already, which is as many as there may be; end one of them"
        )
    })
}

/// Sends what is copied until the client goes, and says what was not.
fn send(plane: &Plane, mut reader: TapReader, client: &Client<'_>) -> (io::Result<()>, Lost) {
    let result = send_until_gone(plane, &mut reader, client);
    (result, reader.lost())
}

fn send_until_gone(plane: &Plane, reader: &mut TapReader, client: &Client<'_>) -> io::Result<()> {
    let table = plane.table();
    let mut shown_lost = reader.lost();
    let mut lines = Vec::new();
    let mut backends = plane.backend_names();
    while client.stays(EVERY)? {
        let now = monotonic_ns();
        let table = table.load_full();
        let since_1970_ns = unix_ns().saturating_sub(now);
        reader.drain(now, |record| {
            // An index always means the same backend; new ones come behind the others.
            let indices = [record.source_backend, record.backend];
            if indices
                .iter()
                .flatten()
                .any(|index| usize::from(index.0) >= backends.len())
            {
                backends = plane.backend_names();
            }
            let view = View {
                table: &table,
                backends: &backends,
                since_1970_ns,
            };
            put(&Line::Message(Box::new(view.message(record))), &mut lines)?;
            if lines.len() >= PIECE {
                client.send(&lines)?;
                lines.clear();
            }
            Ok::<_, io::Error>(())
        })?;
        let lost = reader.lost();
        if lost != shown_lost {
            shown_lost = lost;
            let (queue_full, limited) = (lost.queue_full, lost.limited);
            let line = Line::Lost {
                queue_full,
                limited,
            };
            put(&line, &mut lines)?;
        }
        client.send(&lines)?;
        lines.clear();
    }
    Ok(())
}

fn put(line: &Line, lines: &mut Vec<u8>) -> io::Result<()> {
    serde_json::to_writer(&mut *lines, line)?;
    lines.push(b'\n');
    Ok(())
}

/// Nanoseconds since 1970.
pub(super) fn unix_ns() -> u64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH);
    now.map_or(0, |now| now.as_nanos() as u64)
}

/// What is known besides the records.
struct View<'a> {
    table: &'a Table,
    backends: &'a [String],
    /// What lies between the clock of the workers and the one on the wall.
    since_1970_ns: u64,
}

impl View<'_> {
    fn message(&self, record: &Record) -> Traced {
        let time_ns = record.at_ns.saturating_add(self.since_1970_ns);
        let name = |index: Option<crate::balance::BackendIndex>| {
            let name = self.backends.get(usize::from(index?.0))?;
            Some(name.clone())
        };
        let listener = self.table.listeners.get(usize::from(record.listener.0));
        let names = |names: &mut dyn Iterator<Item = &'static str>| {
            names.map(str::to_owned).collect::<Vec<_>>()
        };
        let mut traced = Traced {
            time: timestamp(time_ns),
            time_ns,
            worker: record.worker,
            way: record.way.name().to_owned(),
            call: (record.call != 0).then(|| format!("{:016x}", record.call)),
            source: Some(record.source),
            source_backend: name(record.source_backend),
            destination: Some(record.destination),
            listener: listener.map_or_else(String::new, |listener| listener.name.clone()),
            outcome: record.outcome.name().to_owned(),
            verdict: verdict(record.outcome).to_owned(),
            validate: record.invalid.map(|reason| reason.name().to_owned()),
            nat: names(&mut record.nat.matched.names()),
            nat_fixed: names(&mut record.nat.fixed.names()),
            sent_from: record.sent.map(|sent| sent.from),
            sent_to: record.sent.map(|sent| sent.to),
            backend: name(record.backend),
            sent_status: sent_status(record),
            not_sent: record.is_spoilt.then(|| "bad_udp_checksum".to_owned()),
            received_len: record.received_len,
            received: record.received().to_vec(),
            sent_len: record.sent.map_or(0, |sent| sent.len),
            sent: record.sent_bytes().to_vec(),
            ..Traced::default()
        };
        self.read(record.received(), &mut traced);
        traced
    }

    /// What stands in the message.
    fn read(&self, bytes: &[u8], traced: &mut Traced) {
        let Ok(message) = sip::read(bytes) else {
            return;
        };
        let text = |span: Span| String::from_utf8_lossy(span.of(bytes)).into_owned();
        match message.start_line {
            StartLine::Request { name, uri, .. } => {
                traced.kind = Some("request".to_owned());
                traced.method = Some(text(name));
                traced.request_uri = Some(text(uri));
            }
            StartLine::Response { status } => {
                traced.kind = Some("response".to_owned());
                traced.status = Some(status);
            }
        }
        traced.cseq = message.cseq.map(|field| text(field.value));
        traced.from_uri = message.from_uri().map(text);
        traced.to_uri = message.to_uri().map(text);
        if let Some(field) = message.call_id {
            traced.call_id = Some(text(field.value));
            let inner = self.table.inner_call_id(field.value.of(bytes));
            traced.inner_call_id =
                inner.map(|inner| String::from_utf8_lossy(inner.as_slice()).into_owned());
        }
    }
}

fn verdict(outcome: Outcome) -> &'static str {
    match (outcome, outcome.class()) {
        (Outcome::AwaitsName, _) => "wait",
        (_, OutcomeClass::Forward) => "forward",
        (_, OutcomeClass::Reply) => "reply",
        (_, OutcomeClass::Drop) => "drop",
        (_, OutcomeClass::Absorb) => "absorb",
    }
}

/// The status of a reply of our own.
fn sent_status(record: &Record) -> Option<u16> {
    if record.outcome.class() != OutcomeClass::Reply {
        return None;
    }
    match sip::read(record.sent_bytes()).ok()?.start_line {
        StartLine::Response { status } => Some(status),
        StartLine::Request { .. } => None,
    }
}

/// `2026-09-21T14:13:20.000123456Z`
fn timestamp(ns: u64) -> String {
    let time = jiff::Timestamp::from_nanosecond(i128::from(ns));
    time.map_or_else(|_| String::new(), |time| format!("{time:.9}"))
}

/// Bytes as JSON has them.
mod in_base64 {
    use super::{Deserialize, Engine, STANDARD};
    use serde::{Deserializer, Serializer, de::Error};

    pub fn serialize<S: Serializer>(bytes: &[u8], serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&STANDARD.encode(bytes))
    }

    pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<u8>, D::Error> {
        let text = String::deserialize(deserializer)?;
        STANDARD.decode(text).map_err(D::Error::custom)
    }
}
