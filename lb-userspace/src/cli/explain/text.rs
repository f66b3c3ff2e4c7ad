//! The explanation for people: sections that can be pasted into a ticket.

use super::{
    Edge, diff,
    facts::Explanation,
    hints, nat,
    printable::{hexadecimal, printable, unfolded},
};
use crate::{
    balance::{SLOTS, Strategy},
    cli::output::{Align, Grid, Terminal, grouped},
    forward::{Choice, Outcome, OutcomeClass, ResponseTrace, RouteOwner, Scratch, Trace},
    nat::Alias,
    sip::{HeaderField, Lines, Message, Method, Span, StartLine},
    token::FlowKind,
};

/// All sections.
pub(super) fn text(
    edge: &Edge,
    explanation: &Explanation,
    payload: &[u8],
    scratch: &Scratch,
    terminal: &Terminal,
) -> String {
    let view = View {
        edge,
        explanation,
        trace: &explanation.trace,
        payload,
    };
    let mut text = String::new();
    for note in &edge.notes {
        text += &format!("{}\n\n", terminal.red(&format!("Note: {note}")));
    }
    text += &format!("{}\n", terminal.bold(&view.headline()));
    let sections = [
        ("Read", view.read()),
        ("NAT", nat::section(explanation, payload)),
        ("Routing", view.routing()),
        ("Outcome", view.outcome()),
    ];
    for (heading, lines) in sections {
        let lines = lines.render("  ");
        if !lines.is_empty() {
            text += &format!("\n{}\n{lines}", terminal.bold(heading));
        }
    }
    match explanation.outcome.class() {
        OutcomeClass::Forward => {
            let heading = terminal.bold("Changes");
            text += &format!("\n{heading} (- as it came, + as it is sent)\n");
            text += &diff::render(payload, &scratch.edits, terminal);
        }
        OutcomeClass::Reply => {
            text += &format!("\n{}\n", terminal.bold("Reply"));
            text += &reply(&scratch.reply);
        }
        OutcomeClass::Drop | OutcomeClass::Absorb => {}
    }
    text
}

struct View<'a> {
    edge: &'a Edge,
    explanation: &'a Explanation,
    trace: &'a Trace,
    payload: &'a [u8],
}

/// Name and value, aligned.
fn pairs() -> Grid {
    Grid::new(&[Align::Left, Align::Left])
}

impl View<'_> {
    fn at(&self, span: Span) -> String {
        printable(&unfolded(span.of(self.payload)))
    }

    /// What it is and what becomes of it, in one line.
    fn headline(&self) -> String {
        let explanation = self.explanation;
        let hop = explanation.next_hop.as_deref().unwrap_or_default();
        let end = match explanation.outcome.class() {
            OutcomeClass::Forward => match &explanation.route.backend {
                Some(backend) => format!("forwarded to {backend}, {hop}"),
                None => format!("forwarded to {hop}"),
            },
            OutcomeClass::Reply => format!("answered{}, to {hop}", self.status_of_reply()),
            OutcomeClass::Drop => match &explanation.awaits_name {
                Some(name) => format!("forwarded to an address of {name}"),
                None => "dropped".to_owned(),
            },
            OutcomeClass::Absorb => "absorbed".to_owned(),
        };
        format!(
            "{} from {} to {} ({}): {end}",
            explanation.parse.name(),
            explanation.from,
            explanation.to,
            explanation.listener
        )
    }

    /// ` 403` for a SIP reply.
    fn status_of_reply(&self) -> String {
        let sent = self.explanation.sent.as_deref().unwrap_or_default();
        match sent.strip_prefix(b"SIP/2.0") {
            Some(rest) => printable(&rest[..4]),
            None => String::new(),
        }
    }

    /// What stands in the message.
    fn read(&self) -> Grid {
        let mut grid = pairs();
        let parse = &self.explanation.parse;
        if self.trace.message.is_none() {
            grid.row([
                "length",
                &format!("{} bytes", grouped(self.payload.len() as u64)),
            ]);
            let start = &self.payload[..self.payload.len().min(64)];
            if !start.is_empty() {
                grid.row(["begins with", &printable(start)]);
            }
            return grid;
        }
        let Some(message) = &self.trace.message else {
            return grid;
        };
        let start_line = Span::new(message.leading, message.headers).of(self.payload);
        grid.row(["start line", &printable(start_line.trim_ascii_end())]);
        if let Some(via) = message.via {
            grid.row(["top Via", &self.at(via.value)]);
        }
        if let Some(via) = message.next_via {
            grid.row(["next Via", &self.at(via.value)]);
        }
        for (name, field) in [
            ("From", message.from),
            ("To", message.to),
            ("Call-ID", message.call_id),
            ("CSeq", message.cseq),
        ] {
            let value = field.map_or("(none)".to_owned(), |field| self.at(field.value));
            grid.row([name, &value]);
        }
        match message.max_forwards {
            Some(hops) => grid.row(["Max-Forwards", &hops.value.to_string()]),
            None if parse.kind == Some("request") => grid.row(["Max-Forwards", "(none)"]),
            None => {}
        }
        for contact in message.contacts.iter().flatten() {
            grid.row(["Contact", &self.at(contact.value)]);
        }
        grid.row(["body", &self.body(message)]);
        grid.row([
            "datagram",
            &format!("{} bytes", grouped(self.payload.len() as u64)),
        ]);
        if let Some(error) = parse.error {
            let place = self.faulty_line(message).unwrap_or_default();
            grid.row(["fault", &format!("{error}{place}")]);
        }
        grid
    }

    fn body(&self, message: &Message) -> String {
        let Some(body) = message.body else {
            return "none: there is no empty line".to_owned();
        };
        let kind = message.content_type.map(|field| self.at(field.value));
        let mut text = match (body.len(), kind) {
            (0, _) => "none".to_owned(),
            (len, kind) => format!(
                "{}, {} bytes",
                kind.unwrap_or_else(|| "no Content-Type".to_owned()),
                grouped(len as u64)
            ),
        };
        let after = self.payload.len() - body.end().min(self.payload.len());
        if after > 0 {
            text += &format!(
                " (and {} bytes beyond Content-Length)",
                grouped(after as u64)
            );
        }
        text
    }

    /// ` in line 7: "text"`, when it is a header line that cannot be read at all.
    fn faulty_line(&self, message: &Message) -> Option<String> {
        let mut end = message.headers;
        for line in Lines::new(self.payload, message.headers) {
            match line {
                Ok(HeaderField { line, .. }) => end = line.end(),
                Err(_) => {
                    let line = self.payload[end..].split(|byte| *byte == b'\n').next()?;
                    let number = 1 + memchr::memchr_iter(b'\n', &self.payload[..end]).count();
                    // Whatever it is, what a client knows is not printed.
                    let line = match line
                        .to_ascii_lowercase()
                        .windows(13)
                        .any(|name| name == b"authorization")
                    {
                        true => "(not shown)".to_owned(),
                        false => printable(line.trim_ascii_end()),
                    };
                    return Some(format!(" in line {number}: {line}"));
                }
            }
        }
        None
    }

    /// Where it goes, and why there.
    fn routing(&self) -> Grid {
        let mut grid = pairs();
        match (&self.trace.message, self.trace.response) {
            (None, _) => {}
            (Some(_), Some(response)) => self.response(response, &mut grid),
            (Some(message), None) if message.method().is_some() => self.request(&mut grid),
            _ => {}
        }
        grid
    }

    fn request(&self, grid: &mut Grid) {
        grid.row(["source", &self.side()]);
        for (number, route) in (1..).zip(&self.trace.routes) {
            let meaning = match route.owner {
                RouteOwner::Malformed => "cannot be read".to_owned(),
                RouteOwner::Other => "not ours".to_owned(),
                RouteOwner::OursWithoutToken => "ours, without a flow token".to_owned(),
                RouteOwner::OursBadToken => "ours, and its flow token is not valid".to_owned(),
                RouteOwner::Ours(token) => format!(
                    "ours, flow token valid: {} {}, backend {}",
                    match token.kind {
                        FlowKind::Outbound => "called",
                        _ => "client",
                    },
                    token.client,
                    self.named(token.backend)
                ),
            };
            let taken = match (route.taken, route.owner) {
                (true, _) => "; taken out",
                (false, RouteOwner::Ours(_) | RouteOwner::OursWithoutToken) => "; left in",
                _ => "",
            };
            grid.row([format!("Route {number}"), self.at(route.value)]);
            grid.row([String::new(), format!("{meaning}{taken}")]);
        }
        let by_route = self.trace.routes.iter().any(|route| route.taken);
        if self.trace.from_inside && !by_route && self.trace.choice.is_none() {
            self.alias(grid);
        }
        if self.trace.from_inside {
            self.contact(grid);
        }
        if let Some(way) = self.way() {
            grid.row(["goes", way]);
        }
        if let Some(name) = &self.explanation.awaits_name {
            grid.row([
                "name",
                &format!("{name}, which the node asks its name servers for"),
            ]);
        }
        if let Some(choice) = &self.trace.choice {
            if self.trace.routes.is_empty() {
                grid.row(["flow token", "none: there is no Route"]);
            }
            self.choice(choice, grid);
        }
    }

    /// Which side a request comes from, as far as its source tells.
    fn side(&self) -> String {
        let source = self.explanation.source;
        let backends = self.edge.table.backends();
        let names = backends
            .filter(|backend| backend.address.ip() == source.ip())
            .map(|backend| backend.name.as_str())
            .collect::<Vec<_>>();
        if names.is_empty() && self.trace.from_inside {
            format!("{source}, in a trusted network")
        } else if names.is_empty() {
            format!("{source}, at the address of no backend")
        } else {
            format!("{source}, at the address of backend {}", names.join(", "))
        }
    }

    /// What the fix `contact-alias` put into a Contact, come back as Request-URI.
    fn alias(&self, grid: &mut Grid) {
        let Some(StartLine::Request { uri, .. }) = self
            .trace
            .message
            .as_ref()
            .map(|message| message.start_line)
        else {
            return;
        };
        let Some(alias) = Alias::find(self.payload, uri) else {
            return;
        };
        let token = alias.token.of(self.payload);
        let meaning = match self.edge.table.keys.read_flow_token(token) {
            Some(token) => format!("valid: client {}", token.client),
            None => "not valid".to_owned(),
        };
        grid.row([
            "alias",
            &format!("{} in the Request-URI, {meaning}", self.at(alias.parameter)),
        ]);
    }

    /// What we gave a registrar in place of a phone's Contact, come back as Request-URI.
    fn contact(&self, grid: &mut Grid) {
        let Some((token, found)) = self.trace.contact else {
            return;
        };
        let meaning = match found {
            Some(token) => format!(
                "valid: client {}, whose Contact had {}",
                token.address,
                printable(token.rest())
            ),
            None => "not valid".to_owned(),
        };
        grid.row([
            "contact",
            &format!("lbr={} in the Request-URI", self.at(token)),
        ]);
        grid.row([String::new(), meaning]);
    }

    fn way(&self) -> Option<&'static str> {
        match self.explanation.reason {
            "request_to_backend" => {
                Some("to the backend of the token, because it comes from the client's side")
            }
            "request_to_client" => {
                Some("to the client of the token, because it comes from the backend's side")
            }
            "request_outbound" | "awaits_name" => {
                Some("where the next Route or the Request-URI leads, because it comes from inside")
            }
            _ => None,
        }
    }

    /// `10.0.0.11:5060 (sw1)`.
    fn named(&self, address: std::net::SocketAddr) -> String {
        let backend = self.edge.table.backend_at(address);
        match backend.and_then(|index| self.edge.backend(index)) {
            Some(backend) => format!("{address} ({})", backend.name),
            None => format!("{address} (in no pool)"),
        }
    }

    /// Rule, pool, key, slot and backend.
    fn choice(&self, choice: &Choice, grid: &mut Grid) {
        self.rules(choice, grid);
        let Some(pool) = choice
            .pool
            .and_then(|place| self.edge.config.pools.get(place))
        else {
            return;
        };
        grid.row([
            "pool",
            &format!(
                "{}, strategy {}",
                pool.name,
                choice.strategy.unwrap_or_default().name()
            ),
        ]);
        let route = &self.explanation.route;
        if let Some(key) = &choice.key {
            let what = key_name(choice.strategy.unwrap_or_default());
            grid.row(["key", &format!("{what} {}", printable(key))]);
        }
        match choice.slot {
            Some(slot) => {
                let slot = format!("{} of {}", grouped(slot as u64), grouped(SLOTS as u64));
                grid.row(["slot", &slot]);
            }
            None if choice.backend.is_none() => {
                grid.row(["slot", "none: no backend of the pool takes calls"]);
            }
            None if choice.strategy == Some(Strategy::First) => {
                grid.row(["slot", "none: the first backend that takes calls"]);
            }
            None => grid.row([
                "slot",
                "none: by turns, here those of a worker that has just begun",
            ]),
        }
        if let (Some(name), Some(address)) = (&route.backend, &route.backend_address) {
            grid.row(["backend", &format!("{name}, {address}")]);
        }
    }

    /// The rules up to the one that matches, and why the others do not.
    fn rules(&self, choice: &Choice, grid: &mut Grid) {
        let method = self.trace.message.as_ref().and_then(Message::method);
        let looked_up_as = match method {
            Some(Method::Ack | Method::Cancel) => "INVITE",
            _ => self.explanation.parse.method.as_deref().unwrap_or_default(),
        };
        let rules = &self.edge.config.routes;
        for (place, rule) in rules.iter().enumerate() {
            let listener = rule
                .listener
                .map(|index| &self.edge.config.listeners[index].name);
            let mut what = match (&rule.method, listener) {
                (None, None) => "any request".to_owned(),
                (Some(method), None) => method.clone(),
                (None, Some(listener)) => format!("any request to {listener}"),
                (Some(method), Some(listener)) => format!("{method} to {listener}"),
            };
            what += &rule.conditions();
            let why = if Some(place) == choice.rule {
                "matches".to_owned()
            } else if rule
                .method
                .as_deref()
                .is_some_and(|only| only != looked_up_as)
            {
                format!("no, this is {}", printable(looked_up_as.as_bytes()))
            } else if rule.listener.is_some_and(|index| {
                self.edge.config.listeners[index].name != self.explanation.listener
            }) {
                format!("no, this came to {}", self.explanation.listener)
            } else if rule.source.is_empty() || self.is_from_one_of(&rule.source) {
                "no, the texts differ".to_owned()
            } else {
                format!("no, this came from {}", self.explanation.source.ip())
            };
            grid.row([format!("rule {}", place + 1), format!("{what}: {why}")]);
            if Some(place) == choice.rule {
                break;
            }
        }
        if matches!(method, Some(Method::Ack | Method::Cancel)) {
            grid.row([
                "",
                "(CANCEL and ACK are looked up as the INVITE that they belong to)",
            ]);
        }
        if choice.rule.is_none() {
            grid.row(["rule", "none matches"]);
        }
    }

    fn is_from_one_of(&self, networks: &[ipnet::IpNet]) -> bool {
        let source = self.explanation.source.ip().to_canonical();
        networks.iter().any(|network| network.contains(&source))
    }

    /// Whose response it is.
    fn response(&self, response: ResponseTrace, grid: &mut Grid) {
        let here = &self.explanation.to;
        grid.row([
            "top Via",
            &match response.own_via {
                true => format!("ours: sent-by is {here}"),
                false => format!("not ours: sent-by is not {here}"),
            },
        ]);
        match response.target {
            Some(target) => grid.row(["next Via", &format!("leads to {target}")]),
            None => grid.row([
                "next Via",
                "leads nowhere: there is none, or it names no address",
            ]),
        }
        grid.row([
            "MAC",
            match (response.has_mac, response.mac_holds) {
                (_, true) => "valid for that address",
                (true, false) => "not valid for that address",
                (false, false) => "none",
            },
        ]);
    }

    fn outcome(&self) -> Grid {
        let mut grid = pairs();
        let outcome = self.explanation.outcome;
        if let Some(name) = &self.explanation.awaits_name {
            // What is explained is what becomes of it when the name servers answer, as they mostly do.
            let sent = Outcome::RequestOutbound;
            grid.row([
                "counted as",
                &format!("{} when {name} has an address", sent.name()),
            ]);
            grid.row(["meaning", sent.meaning()]);
            grid.row([
                "or else as",
                "name_not_found, name_not_resolved or awaits_name",
            ]);
            return grid;
        }
        grid.row(["counted as", outcome.name()]);
        grid.row(["meaning", outcome.meaning()]);
        if let Some(invalid) = &self.explanation.validate {
            grid.row(["not well-formed", invalid.reason]);
            let mut name = "because";
            for line in wrapped(invalid.meaning) {
                grid.row([std::mem::take(&mut name), &line]);
            }
        }
        if let Some(hop) = &self.explanation.next_hop {
            grid.row(["sent to", hop]);
        } else {
            grid.row(["sent", "nothing"]);
        }
        if let Some(hint) = hints::hint(outcome) {
            let mut name = "look at";
            for line in wrapped(hint) {
                grid.row([std::mem::take(&mut name), &line]);
            }
        }
        grid
    }
}

/// Longest line of a sentence, in letters: fits on most screens and in a mail, with the column before it.
const SENTENCE: usize = 76;

fn wrapped(sentence: &str) -> Vec<String> {
    let mut lines = vec![String::new()];
    for word in sentence.split(' ') {
        let line = lines.last_mut().expect("there is one from the start");
        if line.is_empty() {
            line.push_str(word);
        } else if line.chars().count() + 1 + word.chars().count() <= SENTENCE {
            line.push(' ');
            line.push_str(word);
        } else {
            lines.push(word.to_owned());
        }
    }
    lines
}

/// A reply of ours: lines, but for STUN.
fn reply(bytes: &[u8]) -> String {
    let lines: Vec<String> = if let Some(message) = bytes.strip_suffix(b"\r\n\r\n") {
        let lines = message.split(|byte| *byte == b'\n');
        lines.map(|line| printable(line.trim_ascii_end())).collect()
    } else if bytes.is_ascii() && bytes.len() < 16 {
        vec![printable(bytes)]
    } else {
        hexadecimal(bytes)
    };
    lines.iter().map(|line| format!("    {line}\n")).collect()
}

impl super::facts::Parse {
    /// `INVITE`, `200 response`, `datagram`.
    pub(super) fn name(&self) -> String {
        match (&self.method, self.status) {
            (Some(method), _) => printable(method.as_bytes()),
            (_, Some(status)) => format!("{status} response"),
            _ => "Datagram".to_owned(),
        }
    }
}

/// What a strategy picks by.
fn key_name(strategy: Strategy) -> &'static str {
    match strategy {
        Strategy::HashFromUri { .. } => "From",
        Strategy::HashToUri { .. } => "To",
        Strategy::HashRequestUri { .. } => "Request-URI",
        Strategy::HashAuthUsername => "user name",
        Strategy::Random => "Call-ID and From tag",
        Strategy::HashCallId | Strategy::WeightedRoundRobin | Strategy::First => "Call-ID",
    }
}
