//! What must hold for a datagram and what became of it.

use std::net::{IpAddr, SocketAddr};

use lb_userspace::{
    forward::{Action, ListenerIndex, Outcome, OutcomeClass, REPLY_GROWTH},
    sip::{self, Message, Method, Name, NameAddr, StartLine, Uri},
    token::{ContactOf, FlowKind, FlowToken, MAGIC_COOKIE},
};

use crate::{
    edge::{NAMES, Sent},
    fields::{Fields, fields, uri_parameter},
    hidden::hidden_vias,
    tokens::Tokens,
};

impl Sent<'_> {
    pub(crate) fn check_class(&self) {
        let class = match self.verdict.action {
            Action::Forward { to, .. } => {
                self.check_forwarded(to);
                OutcomeClass::Forward
            }
            Action::Reply { to } => {
                self.check_reply(to);
                OutcomeClass::Reply
            }
            Action::Drop => OutcomeClass::Drop,
            Action::AwaitName => {
                let source = self.datagram.source.ip().to_canonical();
                assert!(self.table.is_inside(source), "an open relay\n{self:?}");
                OutcomeClass::Drop
            }
            Action::Absorb => OutcomeClass::Absorb,
        };
        if let Action::Forward { to, .. } | Action::Reply { to } = self.verdict.action {
            let mut listeners = self.table.listeners.iter();
            assert!(listeners.all(|ours| ours.address != to), "to us\n{self:?}");
        }
        assert_eq!(self.verdict.outcome.class(), class);
        assert_ne!(self.verdict.outcome, Outcome::NoRoomForEdits, "{self:?}");
    }

    /// Whatever goes to a backend that expects a PROXY protocol header has one, and nothing else has.
    pub(crate) fn check_front(&self, is_announced: bool) {
        let wanted = match self.verdict.action {
            Action::Forward { to, .. } if is_announced => {
                self.table.backends().any(|backend| backend.address == to)
            }
            _ => false,
        };
        assert_eq!(!self.front.is_empty(), wanted, "{self:?}");
        if wanted {
            let source = self.datagram.source;
            let ip = match source.ip().to_canonical() {
                std::net::IpAddr::V4(ip) => ip.octets().to_vec(),
                std::net::IpAddr::V6(ip) => ip.octets().to_vec(),
            };
            assert!(self.front[16..].starts_with(&ip), "{self:?}");
            let port = &self.front[self.front.len() - 4..][..2];
            assert_eq!(port, source.port().to_be_bytes(), "{self:?}");
        }
    }

    /// Exactly what we know stands in header fields that tell the source, or what its backend said.
    fn check_told(&self, was: &Fields<'_>, is: &Fields<'_>, to: SocketAddr) {
        let source = self.datagram.source;
        let source = SocketAddr::new(source.ip().to_canonical(), source.port());
        let is_request = self.verdict.outcome != Outcome::Response;
        let is_told = self.tells
            && is_request
            && !self.table.is_inside(source.ip())
            && self.table.backends().any(|backend| backend.address == to);
        if !is_told {
            return assert!(was.told == is.told, "told\n{self:?}");
        }
        let values = is.told.iter().map(|line| {
            let value = line.split(|byte| *byte == b':').skip(1).collect::<Vec<_>>();
            String::from_utf8_lossy(&value.join(&b':'))
                .trim()
                .to_owned()
        });
        let wanted = [source.ip().to_string(), source.port().to_string()];
        assert!(values.eq(wanted), "told\n{self:?}");
    }

    /// What is sent on says the same as what came, but for what a proxy has to change (RFC 3261 §16.6, §16.7).
    fn check_forwarded(&self, to: SocketAddr) {
        let payload = self.datagram.payload;
        if self.bytes.len() > MAX_DATAGRAM {
            return;
        }
        let before = read(payload);
        let after = read(&self.bytes);
        assert_eq!(before.fault, None, "{self:?}");
        let is_sound = match after.start_line {
            StartLine::Request { .. } => after.fault.is_none(),
            // The third Via is the second one now, and is looked at for the first time.
            StartLine::Response { .. } => matches!(after.fault, None | Some(sip::Fault::Via)),
        };
        assert!(
            is_sound,
            "{:?}
{self:?}",
            after.fault
        );
        self.same(&before, &after);
        self.check_told(&Fields::of(payload), &Fields::of(&self.bytes), to);
        match before.start_line {
            StartLine::Request { .. } => self.check_request(&before, &after, to),
            StartLine::Response { .. } => {
                let top = after.via.expect("no fault");
                let target = match before.next_via {
                    Some(next) => {
                        let same = next.value.of(payload) == top.value.of(&self.bytes);
                        assert!(same, "Via\n{self:?}");
                        next.response_target(payload)
                    }
                    None => {
                        let hidden = hidden_vias(&self.table, payload).expect("no other way");
                        let is = Fields::of(&self.bytes).vias.concat();
                        assert!(is == hidden, "hidden Vias\n{self:?}");
                        top.response_target(&self.bytes)
                    }
                };
                assert_eq!(target, Some(to), "{self:?}");
                self.check_hidden_response(&before, to.ip());
            }
        }
    }

    /// What no hop changes, and what only one that mends NAT changes.
    fn same(&self, before: &Message, after: &Message) {
        let (payload, bytes) = (self.datagram.payload, &self.bytes[..]);
        match (before.start_line, after.start_line) {
            (StartLine::Response { status: was }, StartLine::Response { status: is }) => {
                assert_eq!(was, is);
            }
            (
                StartLine::Request { name, uri, .. },
                StartLine::Request {
                    name: name_after,
                    uri: uri_after,
                    ..
                },
            ) => {
                assert_eq!(name.of(payload), name_after.of(bytes));
                let (was, is) = (uri.of(payload), uri_after.of(bytes));
                // An alias has done its work when the client is found, whatever is mended now.
                let is_for_client = self.verdict.outcome == Outcome::RequestToClient;
                let same = was == is
                    || (is_for_client && is_without_alias(was, is))
                    || self.is_restored(was, is);
                assert!(same, "Request-URI\n{self:?}");
            }
            _ => panic!("a request for a response\n{self:?}"),
        }
        let (was, is) = (Fields::of(payload), Fields::of(bytes));
        let is_veiled = self.is_veiled(before);
        self.same_lines(&was.kept, &is.kept, is_veiled);
        self.same_call_id(&was, &is);
        let is_request = matches!(before.start_line, StartLine::Request { .. });
        match is_request {
            true => assert!(was.expires == is.expires || is_veiled, "Expires\n{self:?}"),
            false => {
                self.same_expires(&was, &is, is_veiled);
                self.same_lines(&was.supported, &is.supported, is_veiled);
                self.same_lines(&was.paths, &is.paths, is_veiled);
            }
        }
        // Those of the inside are hidden, or come back.
        let reveals = [&was, &is].map(|side| side.record_routes.concat());
        let reveals = reveals[0].windows(6).any(|window| window == b";lbrr=");
        if !is_veiled && (!reveals || is_request) {
            assert!(is.record_routes.ends_with(&was.record_routes), "{self:?}");
            assert!(
                is.record_routes.len() <= was.record_routes.len() + 1,
                "{self:?}"
            );
        }
        let may_change = self.mends || self.replaces_contacts || is_veiled || !is_request;
        assert!(
            (may_change && is.contacts.len() == was.contacts.len()) || is.contacts == was.contacts,
            "Contact\n{self:?}"
        );
        if !self.marks {
            assert!(is.marks == was.marks, "X-Validate-Fail\n{self:?}");
        }
        assert!(
            is.marks.len() <= was.marks.len().max(1),
            "X-Validate-Fail\n{self:?}"
        );
        self.same_body(before, after, is_veiled);
    }

    /// Mending changes lines of session descriptions, and how long a body is said to be; so does hiding, but for `c=`.
    fn same_body(&self, before: &Message, after: &Message, is_veiled: bool) {
        let (payload, bytes) = (self.datagram.payload, &self.bytes[..]);
        let (was, is) = (
            before.body.expect("no fault"),
            after.body.expect("no fault"),
        );
        let (was_behind, is_behind) = (&payload[was.end()..], &bytes[is.end()..]);
        assert!(was_behind == is_behind, "what is behind the body\n{self:?}");
        let (was, is) = (was.of(payload), is.of(bytes));
        if was == is {
            return;
        }
        assert!(self.mends || is_veiled, "the body\n{self:?}");
        let lines = |body| <[u8]>::split(body, |byte| *byte == b'\n');
        assert_eq!(lines(was).count(), lines(is).count(), "{self:?}");
        for (was, is) in lines(was).zip(lines(is)) {
            let may_change = (self.mends && was.starts_with(b"c="))
                || was.starts_with(b"o=")
                || was.to_ascii_lowercase().starts_with(b"content-length")
                || was.to_ascii_lowercase().starts_with(b"l")
                // A length that is folded.
                || was.starts_with(b" ")
                || was.starts_with(b"\t");
            assert!(was == is || may_change, "{}\n{self:?}", was.escape_ascii());
        }
    }

    fn check_request(&self, before: &Message, after: &Message, to: SocketAddr) {
        let (payload, bytes) = (self.datagram.payload, &self.bytes[..]);
        // What follows the edits keeps its place in the 16-bit sums.
        let growth = bytes.len() + payload.len();
        assert!(growth.is_multiple_of(2), "parity\n{self:?}");
        let hops = before.max_forwards.map_or(71, |hops| hops.value);
        assert_eq!(
            after.max_forwards.map(|hops| hops.value),
            hops.checked_sub(1),
            "{self:?}"
        );

        let tokens = Tokens::of(&self.table, payload);
        let hid = self.check_hides(to.ip(), &tokens);
        let ours = after.via.expect("no fault");
        let Action::Forward { from, .. } = self.verdict.action else {
            panic!("not sent on\n{self:?}");
        };
        let listener = self.table.listeners[usize::from(from.0)].address;
        assert_eq!(ours.response_target(bytes), Some(listener), "{self:?}");
        let (lines, theirs) = self.inner_via().expect("the sender's");
        let came = before.via.expect("no fault");
        assert_eq!(theirs.host.of(&lines), came.host.of(payload), "{self:?}");
        let target = theirs
            .response_target(&lines)
            .expect("we wrote where that is");
        assert_eq!(
            target.ip(),
            self.datagram.source.ip().to_canonical(),
            "{self:?}"
        );
        let branch = ours.branch.map_or(&[][..], |branch| branch.of(bytes));
        let transaction = branch.strip_prefix(MAGIC_COOKIE).unwrap_or_default();
        let mac = ours.mac.map_or(&[][..], |mac| mac.of(bytes));
        assert!(
            self.table.keys.verify_via_mac(transaction, mac, target),
            "{self:?}"
        );
        self.check_path(before, to, target, hid);
        if !self.check_own_contacts(before, target) && !self.mends && !hid {
            let (was, is) = (Fields::of(payload), Fields::of(bytes));
            assert!(was.contacts == is.contacts, "Contact\n{self:?}");
        }
        self.check_way(&tokens, to, from);
    }

    /// Without a token nobody outside reaches anything but a pool; with one, its two ends.
    fn check_way(&self, tokens: &Tokens, to: SocketAddr, from: ListenerIndex) {
        let source = self.datagram.source;
        let source = SocketAddr::new(source.ip().to_canonical(), source.port());
        let is_inside = self.table.is_inside(source.ip());
        let is_contact = |wanted: ContactOf| {
            let mut contacts = tokens.contacts.iter();
            contacts.any(|contact| contact.of == wanted && contact.address == to)
        };
        let allowed = match self.verdict.outcome {
            Outcome::RequestToPool => self.table.backends().any(|backend| backend.address == to),
            Outcome::RequestToBackend => {
                tokens.flows.iter().any(|flow| flow.backend == to) || is_contact(ContactOf::Backend)
            }
            Outcome::RequestToClient => {
                tokens.flows.iter().any(|flow| flow.client == to)
                    || (is_inside && is_contact(ContactOf::Client))
            }
            Outcome::RequestOutbound => {
                // One that was a backend when its call began may end it.
                let ended =
                    |flow: &FlowToken| flow.kind == FlowKind::Outbound && flow.backend == source;
                (is_inside || tokens.flows.iter().any(ended)) && self.leads_to(to)
            }
            _ => false,
        };
        assert!(allowed, "an open relay to {to}\n{self:?}");
        if matches!(
            self.verdict.outcome,
            Outcome::RequestToPool | Outcome::RequestToBackend
        ) {
            assert_eq!(from, self.datagram.listener, "{self:?}");
        }
        assert!(!to.ip().is_loopback() && !to.ip().is_multicast() || !is_inside);
    }

    /// True when the first Route of what is sent leads there, or where there is none, or it is ours, the Request-URI.
    fn leads_to(&self, to: SocketAddr) -> bool {
        let bytes = &self.bytes[..];
        let route = fields(bytes).find(|field| field.name == Name::Route);
        let route = route.map(|field| NameAddr::parse(bytes, field.value).expect("readable").uri);
        let is_own = |uri: &Uri| {
            let host = String::from_utf8_lossy(uri.host.of(bytes)).into_owned();
            let ip = host.trim_matches(['[', ']']).parse::<IpAddr>().ok();
            let own = ip.map(|ip| SocketAddr::new(ip, uri.effective_port()));
            own.is_some_and(|own| self.table.is_listener(own))
        };
        let route =
            route.filter(|route| !Uri::parse(bytes, *route).is_some_and(|uri| is_own(&uri)));
        let span = match (route, read(bytes).start_line) {
            (Some(route), _) => route,
            (None, StartLine::Request { uri, .. }) => uri,
            _ => return false,
        };
        let Some(uri) = Uri::parse(bytes, span) else {
            return false;
        };
        let maddr = uri_parameter(bytes, uri.host_port_end, span.end(), "maddr");
        let maddr = maddr.filter(|maddr| !maddr.is_empty());
        let host = String::from_utf8_lossy(maddr.unwrap_or(uri.host.of(bytes))).into_owned();
        let port = uri.effective_port();
        match host.trim_matches(['[', ']']).parse::<IpAddr>() {
            Ok(ip) => SocketAddr::new(ip, port) == to,
            Err(_) => NAMES.iter().any(|(name, addresses)| {
                let is_name = host.trim_end_matches('.').eq_ignore_ascii_case(name);
                let mut addresses = addresses.iter();
                let is_there = |address: &&str| address.parse::<IpAddr>() == Ok(to.ip());
                is_name && addresses.any(is_there) && to.port() == port
            }),
        }
    }

    /// True when a Contact of ours in the Request-URI gave way to what its token has.
    fn is_restored(&self, was: &[u8], is: &[u8]) -> bool {
        let tokens = Tokens::of(&self.table, was);
        tokens.contacts.iter().any(|token| {
            let head = is.strip_suffix(token.rest());
            head.is_some_and(|head| was.starts_with(head))
        })
    }

    fn check_reply(&self, to: SocketAddr) {
        let (payload, bytes) = (self.datagram.payload, &self.bytes[..]);
        assert_eq!(to.ip(), self.datagram.source.ip().to_canonical());
        assert!(
            bytes.len() <= payload.len() + REPLY_GROWTH,
            "too long\n{self:?}"
        );
        assert!(!bytes.is_empty());
        let Ok(request) = sip::read(payload) else {
            // CRLF or STUN.
            return assert!(!bytes.starts_with(b"SIP"), "{self:?}");
        };
        let reply = read(bytes);
        let StartLine::Response { status } = reply.start_line else {
            panic!("a request in reply\n{self:?}");
        };
        assert_eq!(
            status == 200,
            self.verdict.outcome == Outcome::OptionsAnswered
        );
        let top = reply.via.expect("it was addressed by that");
        assert_eq!(top.response_target(bytes), Some(to), "{self:?}");
        if request.fault.is_some() {
            return;
        }
        // Further Vias of a request are not read, but copied.
        assert!(
            matches!(reply.fault, None | Some(sip::Fault::Via)),
            "{:?}\n{self:?}",
            reply.fault
        );
        let parts = |message: &Message, bytes: &[u8]| {
            [
                message.call_id.map(|field| field.value),
                message.cseq.map(|field| field.value),
                message.from_tag(),
                message.to_uri(),
            ]
            .map(|span| span.map(|span| span.of(bytes).to_vec()))
        };
        assert!(
            parts(&request, payload) == parts(&reply, bytes),
            "other facts\n{self:?}"
        );
        assert!(reply.to_tag().is_some(), "{self:?}");
    }

    /// What a server would answer to a request that was sent to it: its Vias, From, To, Call-ID and CSeq.
    pub fn response(&self) -> Option<Vec<u8>> {
        let is_request =
            |message: &Message| matches!(message.start_line, StartLine::Request { .. });
        sip::read(&self.bytes).ok().filter(is_request)?;
        let message = sip::read(&self.bytes).ok()?;
        let registers = matches!(
            message.start_line,
            StartLine::Request {
                method: Method::Register,
                ..
            }
        );
        let mut response = match registers {
            true => b"SIP/2.0 200 OK\r\n".to_vec(),
            false => b"SIP/2.0 183 Session Progress\r\n".to_vec(),
        };
        for field in fields(&self.bytes) {
            let is_echoed = matches!(
                field.name,
                Name::Via | Name::From | Name::To | Name::CallId | Name::Cseq
            );
            if is_echoed || registers && field.name == Name::Contact {
                response.extend_from_slice(field.line.of(&self.bytes));
            }
        }
        response.extend_from_slice(b"\r\n");
        Some(response)
    }

    /// When a Contact got an alias, or gave way to one of ours: what a server sends to it in the dialog, and the URI that the client has to find then,
    /// its own.
    pub fn call_back(&self) -> Option<(Vec<u8>, Vec<u8>)> {
        let contact = |bytes: &[u8]| {
            let field = fields(bytes).find(|field| field.name == Name::Contact)?;
            Some(NameAddr::parse(bytes, field.value)?.uri.of(bytes).to_vec())
        };
        let written = contact(self.datagram.payload)?;
        let aliased = contact(&self.bytes)?;
        let has_alias = aliased.len() >= written.len() + b";lba=".len() + SHORTEST_TOKEN;
        let is_uri = |byte: &u8| byte.is_ascii_graphic() && !b"<>\"".contains(byte);
        let is_for_pool = self.verdict.outcome == Outcome::RequestToPool;
        // One that looks like a Contact of ours leads where its own token says.
        let has_token = written
            .to_ascii_lowercase()
            .windows(4)
            .any(|part| part == b";lbr");
        if !is_for_pool || !has_alias || has_token || !aliased.iter().all(is_uri) {
            return None;
        }
        let request = [
            b"BYE ",
            &aliased[..],
            b" SIP/2.0\r\nVia: SIP/2.0/UDP h;branch=z9hG4bKx\r\nFrom: <sip:a@b>;tag=1\r\nTo: <sip:c@d>;tag=2\r\n\
              Call-ID: c\r\nCSeq: 1 BYE\r\n\r\n",
        ];
        Some((request.concat(), written))
    }

    /// The Request-URI of what is sent.
    pub fn request_uri(&self) -> Option<&[u8]> {
        match sip::read(&self.bytes).ok()?.start_line {
            StartLine::Request { uri, .. } => Some(uri.of(&self.bytes)),
            StartLine::Response { .. } => None,
        }
    }

    /// Where a response to what was sent on has to go.
    pub fn client(&self) -> Option<SocketAddr> {
        let (lines, via) = self.inner_via()?;
        via.response_target(&lines)
    }
}

/// What can be sent over IPv4: what has outgrown it gets no further, whatever it says.
const MAX_DATAGRAM: usize = 65_507;
/// A flow token of IPv4 addresses.
const SHORTEST_TOKEN: usize = 28;

/// True when `is` is `was` with one parameter `lba` taken out.
fn is_without_alias(was: &[u8], is: &[u8]) -> bool {
    let same = was.iter().zip(is).take_while(|(was, is)| was == is).count();
    let Some(removed) = was.len().checked_sub(is.len()) else {
        return false;
    };
    // The parameter before may begin with the same letters.
    (0..=same.min(is.len())).any(|at| {
        was[at..].to_ascii_lowercase().starts_with(b";lba") && was[at + removed..] == is[at..]
    })
}

fn read(bytes: &[u8]) -> Message {
    sip::read(bytes).unwrap_or_else(|_| panic!("not SIP: {}", bytes.escape_ascii()))
}
