//! `siplb explain --pcap`: every SIP datagram of a capture, one line each.

mod file;
mod packet;

use std::{collections::BTreeMap, net::SocketAddr, path::Path};

use jiff::{Timestamp, tz::TimeZone};
use serde::Serialize;

use self::packet::{Fragments, Seen, Udp};
use super::{
    Edge, ExplainArgs,
    facts::{Explanation, Parse},
    printable::printable,
};
use crate::{
    cli::{
        Failure,
        output::{Align, Grid, Output, grouped},
    },
    forward::{ListenerIndex, Outcome, OutcomeClass, Scratch},
    sip,
};

/// Explains the capture, then sums up, also when the capture cannot be read to its end.
pub(super) fn explain(
    edge: &Edge,
    path: &Path,
    arguments: &ExplainArgs,
    output: &Output,
) -> Result<(), Failure> {
    if let Some(to) = arguments.to {
        // Says which there are when there is none.
        edge.listener(to, Some(to))?;
    }
    let mut report = Report {
        edge,
        to: arguments.to,
        json: arguments.json,
        output,
        scratch: Scratch::new(),
        fragments: Fragments::default(),
        day: None,
        width: 0,
        counts: Counts::default(),
    };
    let read = file::each(path, |packet| report.packet(&packet));
    if !output.is_closed() {
        report.sum_up()?;
    }
    read
}

struct Report<'a> {
    edge: &'a Edge,
    to: Option<SocketAddr>,
    json: bool,
    output: &'a Output,
    scratch: Scratch,
    fragments: Fragments,
    /// The day that was last printed; times are printed without.
    day: Option<String>,
    /// Of the columns with addresses: as much as any took so far; 0 before the first.
    width: usize,
    counts: Counts,
}

#[derive(Default)]
struct Counts {
    packets: u64,
    datagrams: u64,
    /// By the number of the outcome.
    outcomes: BTreeMap<u16, u64>,
    own: u64,
    broken: u64,
    unknown_link: u64,
    /// SIP of a family that no listener has.
    no_listener: u64,
}

/// One datagram as `--json` prints it.
#[derive(Serialize)]
struct Line<'a> {
    packet: u64,
    time: Option<String>,
    /// Where the captured datagram goes; `to` is the listener that it is explained for.
    destination: String,
    #[serde(flatten)]
    explanation: &'a Explanation,
}

/// One datagram that a listener of ours sent: nothing is decided about it.
#[derive(Serialize)]
struct OwnLine {
    packet: u64,
    time: Option<String>,
    destination: String,
    from: String,
    listener: String,
    parse: Parse,
    verdict: Option<&'static str>,
    reason: &'static str,
}

/// Least width of a column with addresses.
const WIDTH: usize = "198.51.100.7:40000".len();
/// What stands in the place of an outcome for what we sent ourselves.
const SENT_BY_LISTENER: &str = "sent_by_listener";

impl Report<'_> {
    fn packet(&mut self, packet: &file::Packet<'_>) -> Result<(), Failure> {
        self.counts.packets += 1;
        match self.fragments.read(packet.link, packet.bytes) {
            Seen::Udp(udp) => self.datagram(packet, &udp)?,
            Seen::Broken => self.counts.broken += 1,
            Seen::UnknownLink => self.counts.unknown_link += 1,
            Seen::Fragment | Seen::Other => {}
        }
        Ok(())
    }

    fn datagram(&mut self, packet: &file::Packet<'_>, udp: &Udp<'_>) -> Result<(), Failure> {
        let listeners = &self.edge.config.listeners;
        let is_port = |port| listeners.iter().any(|one| one.address.port() == port);
        if sip::read(&udp.payload).is_err()
            && !is_port(udp.source.port())
            && !is_port(udp.destination.port())
        {
            return Ok(());
        }
        let place = |address| listeners.iter().position(|one| one.address == address);
        let listener = match (place(udp.destination), place(udp.source)) {
            (Some(listener), _) => listener,
            (None, Some(listener)) => return self.own(packet, udp, listener),
            (None, None) => {
                let to = self.to.filter(|to| to.is_ipv4() == udp.source.is_ipv4());
                match self.edge.listener(udp.source, to) {
                    Ok(listener) => usize::from(listener.0),
                    Err(_) => {
                        self.counts.no_listener += 1;
                        return Ok(());
                    }
                }
            }
        };
        let explanation = Explanation::new(
            self.edge,
            &udp.payload,
            udp.source,
            ListenerIndex(listener as u16),
            &mut self.scratch,
        );
        self.counts.datagrams += 1;
        let count = self.counts.outcomes.entry(explanation.outcome as u16);
        *count.or_default() += 1;
        if self.json {
            let line = Line {
                packet: packet.number,
                time: packet.time.map(rfc3339),
                destination: udp.destination.to_string(),
                explanation: &explanation,
            };
            return self.output.json(&line, true);
        }
        let mut end = explanation.reason.to_owned();
        if let Some(backend) = &explanation.route.backend {
            end += &format!(" {backend}");
        }
        if let Some(hop) = &explanation.next_hop {
            end += &format!(" -> {hop}");
        }
        if explanation.nat.natted {
            end += &format!("  NAT: {}", explanation.nat.matched.join(", "));
        }
        if explanation.outcome.class() == OutcomeClass::Drop {
            end = self.output.terminal().red(&end);
        }
        self.line(packet, udp, &explanation.parse, &end)
    }

    fn own(
        &mut self,
        packet: &file::Packet<'_>,
        udp: &Udp<'_>,
        listener: usize,
    ) -> Result<(), Failure> {
        self.counts.datagrams += 1;
        self.counts.own += 1;
        let parse = Parse::new(&udp.payload, sip::read(&udp.payload).ok().as_ref());
        let listener = &self.edge.config.listeners[listener].name;
        if self.json {
            let line = OwnLine {
                packet: packet.number,
                time: packet.time.map(rfc3339),
                destination: udp.destination.to_string(),
                from: udp.source.to_string(),
                listener: listener.clone(),
                parse,
                verdict: None,
                reason: SENT_BY_LISTENER,
            };
            return self.output.json(&line, true);
        }
        self.line(
            packet,
            udp,
            &parse,
            &format!("{SENT_BY_LISTENER} {listener}"),
        )
    }

    /// Prints a datagram, and the day before the first one of it.
    fn line(
        &mut self,
        packet: &file::Packet<'_>,
        udp: &Udp<'_>,
        parse: &Parse,
        end: &str,
    ) -> Result<(), Failure> {
        let (source, destination) = (udp.source.to_string(), udp.destination.to_string());
        let is_first = self.width == 0;
        self.width = WIDTH
            .max(self.width)
            .max(source.len())
            .max(destination.len());
        let width = self.width;
        let mut text = String::new();
        if is_first {
            let heading = format!(
                "packet  {:<15}  {:<width$}  {:<width$}  {:<18}  outcome, backend -> next hop",
                "time", "from", "to", "message"
            );
            text += &format!("{}\n", self.output.terminal().bold(&heading));
        }
        let clock = match packet.time {
            None => "-".to_owned(),
            Some(time) => {
                let time = rfc3339(time);
                let (day, clock) = time.split_once('T').unwrap_or(("", &time));
                if self.day.as_deref() != Some(day) {
                    text += &format!("{day} (UTC)\n");
                    self.day = Some(day.to_owned());
                }
                clock.trim_end_matches('Z').to_owned()
            }
        };
        text += &format!(
            "{:>6}  {clock:<15}  {source:<width$}  {destination:<width$}  {:<18}  {end}\n",
            packet.number,
            match what(parse) {
                text if text.is_empty() => format!("({} bytes)", udp.payload.len()),
                text => text,
            }
        );
        self.output.text(&text)
    }

    /// How many of what; with JSON on standard error, where it is in nobody's way.
    fn sum_up(&self) -> Result<(), Failure> {
        let counts = &self.counts;
        let mut text = format!(
            "\n{} datagrams explained, {} packets read\n",
            grouped(counts.datagrams),
            grouped(counts.packets)
        );
        let mut grid = Grid::new(&[Align::Right, Align::Left, Align::Left]);
        for outcome in Outcome::ALL {
            if let Some(count) = counts.outcomes.get(&(outcome as u16)) {
                grid.row([&grouped(*count), class(outcome.class()), outcome.name()]);
            }
        }
        if counts.own > 0 {
            grid.row([&grouped(counts.own), "", SENT_BY_LISTENER]);
        }
        text += &grid.render("  ");
        let mut grid = Grid::new(&[Align::Right, Align::Left]);
        for (count, what) in [
            (
                self.fragments.lost(),
                "IP fragment of a datagram that is not whole in the capture",
            ),
            (
                counts.broken,
                "UDP, cut or broken; capture whole packets (tcpdump -s 0)",
            ),
            (counts.unknown_link, "of a link type that is not read"),
            (
                counts.no_listener,
                "SIP of an address family that no listener has",
            ),
        ] {
            if count > 0 {
                grid.row([&grouped(count), what]);
            }
        }
        let rest = grid.render("  ");
        if !rest.is_empty() {
            text += &format!("Not explained\n{rest}");
        }
        if self.json {
            eprint!("{}", text.trim_start());
            return Ok(());
        }
        self.output.text(&text)
    }
}

/// `INVITE 1`, `200 INVITE 1`: number and method of CSeq the other way round.
fn what(parse: &Parse) -> String {
    let cseq = parse.cseq.as_deref().unwrap_or_default();
    let (number, method) = cseq.split_once(' ').unwrap_or((cseq, ""));
    let text = match (&parse.method, parse.status) {
        (Some(name), _) => format!("{name} {number}"),
        (_, Some(status)) => format!("{status} {method} {number}"),
        _ => String::new(),
    };
    printable(text.trim_end().as_bytes())
}

fn class(class: OutcomeClass) -> &'static str {
    match class {
        OutcomeClass::Forward => "forward",
        OutcomeClass::Reply => "reply",
        OutcomeClass::Drop => "drop",
        OutcomeClass::Absorb => "absorb",
    }
}

/// `2026-11-24T03:40:26.123456Z`.
fn rfc3339(time: Timestamp) -> String {
    let time = time.to_zoned(TimeZone::UTC);
    time.strftime("%Y-%m-%dT%H:%M:%S%.6fZ").to_string()
}
