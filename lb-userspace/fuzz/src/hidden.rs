//! What a configuration that hides the inside must not show, and what it must bring back.

use std::net::IpAddr;

use lb_userspace::{
    forward::{Outcome, Table},
    sip::{self, HeaderField, Message, Name, StartLine, Uri, Via},
    token::Hidden,
};

use crate::{
    edge::Sent,
    fields::{Fields, fields, is_named, values},
    tokens::Tokens,
};

/// Between our Via's parameters and the hidden ones.
const VIAS: &[u8] = b";lbvi=";

impl Sent<'_> {
    fn comes_from_inside(&self) -> bool {
        let source = self.datagram.source.ip().to_canonical();
        self.table.is_inside(source)
    }

    /// The Vias that our Via carries in what is sent.
    pub(crate) fn hidden_vias(&self) -> Option<Vec<u8>> {
        hidden_vias(&self.table, &self.bytes)
    }

    /// The Vias that a response has to bring back, as header fields.
    pub fn inner_vias(&self) -> Vec<u8> {
        match self.hidden_vias() {
            Some(vias) => vias,
            None => Fields::of(&self.bytes).vias[1..].concat(),
        }
    }

    /// The topmost of them.
    pub(crate) fn inner_via(&self) -> Option<(Vec<u8>, Via)> {
        let lines = self.inner_vias();
        let field = sip::Lines::new(&lines, 0).flatten().next()?;
        let via = Via::parse(&lines, field.value)?;
        Some((lines, via))
    }

    /// True when this request must show nothing of the inside, or shows that it is such a one.
    pub(crate) fn check_hides(&self, to: IpAddr, tokens: &Tokens) -> bool {
        let source = self.datagram.source;
        let hid = self.hidden_vias().is_some();
        let leaves = self.hides && !self.table.is_inside(to);
        let by_outcome = matches!(
            self.verdict.outcome,
            Outcome::RequestOutbound | Outcome::RequestToClient
        );
        if !leaves || !by_outcome {
            assert!(!hid, "hid what it should not\n{self:?}");
        }
        // A client may live at a backend's address: then it depends on the token.
        let is_end = |end: std::net::SocketAddr| end.ip() == source.ip().to_canonical();
        let is_client = tokens.flows.iter().any(|flow| is_end(flow.client));
        if leaves && by_outcome && self.comes_from_inside() && !is_client {
            assert!(hid, "the inside shows\n{self:?}");
        }
        if hid {
            self.check_hidden_request();
        }
        hid
    }

    fn check_hidden_request(&self) {
        let payload = self.datagram.payload;
        let is = Fields::of(&self.bytes);
        assert_eq!(is.vias.len(), 1, "Vias\n{self:?}");
        // The first one has been stamped; the others are as they were.
        let inner = self.hidden_vias().expect("hidden");
        let was = fields(payload).filter(|field| field.name == Name::Via);
        let was = was.map(|field| {
            let line = &payload[field.line.start()..field.value.end()];
            [line, b"\r\n"].concat()
        });
        let was = was.collect::<Vec<_>>();
        assert!(inner.ends_with(&was[1..].concat()), "{self:?}");
        assert!(is.record_routes.len() <= 1, "Record-Route\n{self:?}");
        self.check_nothing_shows(|field, line| match field.name {
            Name::Route | Name::Cseq | Name::MaxForwards | Name::ProxyRequire => false,
            Name::ContentType | Name::ContentLength | Name::Contact => false,
            // Whose Call-ID it is only the token says.
            Name::CallId => self.verdict.outcome == Outcome::RequestOutbound,
            _ => !is_of_digest(line),
        });
    }

    /// A response from the inside to the outside.
    pub(crate) fn check_hidden_response(&self, before: &Message, to: IpAddr) {
        if !self.hides || !self.comes_from_inside() || self.table.is_inside(to) {
            return;
        }
        self.check_nothing_shows(|field, line| {
            field.name == Name::Other && !is_of_digest(line) && !is_named(line, b"record-route")
        });
        let payload = self.datagram.payload;
        let routes = |bytes: &[u8]| {
            let is_route = |field: &HeaderField| is_named(field.line.of(bytes), b"record-route");
            let values = values(bytes, is_route);
            let texts = values.iter().map(|value| {
                let is_own = value.uri.is_some_and(|uri| self.is_own(&value.bytes, &uri));
                (is_own, value.text().to_vec())
            });
            texts.collect::<Vec<_>>()
        };
        let (was, is) = (routes(payload), routes(&self.bytes));
        let first = was
            .iter()
            .position(|(is_own, _)| *is_own)
            .unwrap_or(was.len());
        assert_eq!(is.len(), was.len() - first, "Record-Route\n{self:?}");
        if let (Some((_, was)), Some((_, is))) = (was.get(first), is.first()) {
            let same = was.iter().zip(is).take_while(|(was, is)| was == is).count();
            let behind = was.len() - same;
            assert!(is.ends_with(&was[was.len() - behind..]), "{self:?}");
            let added = &is[same..is.len() - behind];
            let token = added.strip_prefix(b";lbrr=").map(|token| {
                let read = self.table.keys.read_hidden(Hidden::Routes, token);
                read.unwrap_or_else(|| panic!("not hidden\n{self:?}"))
            });
            assert_eq!(first > 0, token.is_some(), "{self:?}");
        }
        assert!(was.iter().skip(first + 1).eq(is.iter().skip(1)), "{self:?}");
        let register = before
            .cseq
            .is_some_and(|cseq| cseq.value.of(payload).ends_with(b"REGISTER"));
        if !register {
            self.check_contacts_show_nothing();
        }
    }

    fn is_own(&self, bytes: &[u8], uri: &Uri) -> bool {
        let address = ip(uri.host.of(bytes)).map(|ip| (ip, uri.effective_port()));
        let mut listeners = self.table.listeners.iter();
        listeners.any(|ours| Some((ours.address.ip(), ours.address.port())) == address)
    }

    /// No address of the inside stands as text in the header fields that `is_covered`, nor in a Contact.
    fn check_nothing_shows(&self, is_covered: impl Fn(&HeaderField, &[u8]) -> bool) {
        for field in fields(&self.bytes) {
            let line = field.line.of(&self.bytes);
            if field.name == Name::Via || !is_covered(&field, line) {
                continue;
            }
            let shown = inside_in(&self.table, field.value.of(&self.bytes));
            assert_eq!(shown, None, "shows in {}\n{self:?}", line.escape_ascii());
        }
        if matches!(
            self.verdict.outcome,
            Outcome::RequestOutbound | Outcome::RequestToClient
        ) {
            self.check_contacts_show_nothing();
        }
    }

    fn check_contacts_show_nothing(&self) {
        for value in values(&self.bytes, |field| field.name == Name::Contact) {
            let Some(uri) = value.uri else {
                continue;
            };
            let inside = ip(uri.host.of(&value.bytes)).filter(|ip| self.table.is_inside(*ip));
            assert_eq!(inside, None, "a Contact shows\n{self:?}");
        }
    }

    /// A response to what was sent brings back the Vias below ours byte for byte, and its Call-ID where it can.
    pub fn check_brought_back(&self, back: &Sent<'_>) {
        let vias = Fields::of(&back.bytes).vias.concat();
        assert!(vias == self.inner_vias(), "Vias\n{back:?}\nto\n{self:?}");
        let call_id = |bytes| Fields::of(bytes).call_ids.concat();
        let was = call_id(self.datagram.payload);
        // Only what comes from the outside has such a Call-ID by right.
        let is_strange = self.comes_from_inside() && was.starts_with(b"lbc.");
        let is_revealed = call_id(&self.bytes) != was && (!self.hides || self.comes_from_inside());
        if !is_revealed && !is_strange {
            assert_eq!(call_id(&back.bytes), was, "{back:?}\nto\n{self:?}");
        }
    }

    /// Call-ID is what it was, or is hidden or revealed.
    pub(crate) fn same_call_id(&self, was: &Fields<'_>, is: &Fields<'_>) {
        if was.call_ids == is.call_ids {
            return;
        }
        assert_eq!(was.call_ids.len(), is.call_ids.len(), "{self:?}");
        assert!(was.call_ids[1..] == is.call_ids[1..], "{self:?}");
        let read = |text: &[u8]| {
            let hidden = text.strip_prefix(b"lbc.")?;
            let hidden = self.table.keys.read_hidden(Hidden::CallId, hidden)?;
            Some(hidden.as_slice().to_vec())
        };
        let (was, is) = (was.call_ids[0], is.call_ids[0]);
        let hid = read(is).is_some_and(|hidden| hidden == was);
        let revealed = read(was).is_some_and(|hidden| hidden == is);
        let may_hide = self.hides || self.goes_on_hidden();
        assert!(hid && may_hide || revealed, "Call-ID\n{self:?}");
    }

    /// What began while the inside was hidden keeps its Call-ID hidden: our Via says so, or a Route of ours in what the inside
    /// sends.
    fn goes_on_hidden(&self) -> bool {
        let says = |mark: &[u8]| {
            let payload = self.datagram.payload;
            payload.windows(mark.len()).any(|window| window == mark)
        };
        says(b";lbx") || says(b";lby") || (self.comes_from_inside() && says(b"oute"))
    }

    /// Other header fields say the same; where the inside is hidden, but for addresses of it that became ours.
    pub(crate) fn same_lines(&self, was: &[&[u8]], is: &[&[u8]], is_veiled: bool) {
        if was == is {
            return;
        }
        assert!(is_veiled, "other header fields\n{self:?}");
        assert_eq!(was.len(), is.len(), "{self:?}");
        for (was, is) in was.iter().zip(is) {
            let (old, new) = (runs(was), runs(is));
            assert_eq!(old.0, new.0, "{self:?}");
            for (old, new) in old.1.iter().zip(&new.1) {
                let may = old == new || has_inside(&self.table, old);
                assert!(
                    may,
                    "{} became {}\n{self:?}",
                    old.escape_ascii(),
                    new.escape_ascii()
                );
            }
        }
    }

    /// True when a response may have been veiled.
    pub(crate) fn is_veiled(&self, before: &Message) -> bool {
        match before.start_line {
            StartLine::Request { .. } => self.hidden_vias().is_some(),
            StartLine::Response { .. } => self.hides && self.comes_from_inside(),
        }
    }
}

/// The Vias that the top Via of a message carries.
pub fn hidden_vias(table: &Table, bytes: &[u8]) -> Option<Vec<u8>> {
    let message = sip::read(bytes).ok()?;
    let via = message.via?.value.of(bytes);
    let at = via.windows(VIAS.len()).position(|window| window == VIAS)?;
    let token = &via[at + VIAS.len()..];
    let is_end = |byte: &u8| !byte.is_ascii_alphanumeric() && !matches!(byte, b'-' | b'_');
    let len = token.iter().position(is_end).unwrap_or(token.len());
    let hidden = table.keys.read_hidden(Hidden::Vias, &token[..len])?;
    Some(hidden.as_slice().to_vec())
}

fn is_of_digest(line: &[u8]) -> bool {
    let line = line.to_ascii_lowercase();
    [&b"authorization"[..], b"proxy-auth", b"www-auth"]
        .iter()
        .any(|name| line.starts_with(name))
}

fn ip(text: &[u8]) -> Option<IpAddr> {
    let text = std::str::from_utf8(text).ok()?;
    let ip = text.trim_matches(['[', ']']).parse::<IpAddr>().ok()?;
    Some(ip.to_canonical())
}

/// An address of the inside that a reader would see in a text: between blanks, quotes, brackets and the like, maybe with a
/// scheme before it and a port behind it.
fn inside_in(table: &Table, text: &[u8]) -> Option<IpAddr> {
    let is_end = |byte: &u8| {
        !byte.is_ascii_alphanumeric() && !matches!(byte, b'.' | b':' | b'_')
            || byte.is_ascii_control()
    };
    let inside = |text: &[u8]| {
        let text = String::from_utf8_lossy(text).into_owned();
        ip(text.trim_matches('.').as_bytes()).filter(|ip| table.is_inside(*ip))
    };
    text.split(is_end).find_map(|word| {
        let mut pieces = word.split(|byte| *byte == b':');
        // A colon of the sentence may stand before or behind one of IPv6.
        let starts = [Some(word), word.strip_prefix(b":")].into_iter().flatten();
        let mut words = starts.flat_map(|word| [Some(word), word.strip_suffix(b":")]);
        let whole = words.find_map(|word| inside(word?));
        whole.or_else(|| pieces.find_map(inside))
    })
}

/// True when any piece of a run is an address of the inside: the colon of a header field's name may stand before it.
fn has_inside(table: &Table, run: &[u8]) -> bool {
    let longest = 45;
    (0..run.len()).any(|start| {
        let ends = start..=run.len().min(start + longest);
        let mut addresses = ends.filter_map(|end| ip(&run[start..end]));
        addresses.any(|ip| table.is_inside(ip))
    })
}

/// A text with its runs of what addresses consist of left out, and these runs.
fn runs(text: &[u8]) -> (Vec<u8>, Vec<Vec<u8>>) {
    let is_part = |byte: u8| byte.is_ascii_hexdigit() || matches!(byte, b'.' | b':');
    let (mut rest, mut runs) = (Vec::new(), vec![Vec::new()]);
    for byte in text {
        match is_part(*byte) {
            true => runs.last_mut().expect("one").push(*byte),
            false => {
                rest.push(*byte);
                runs.push(Vec::new());
            }
        }
    }
    (rest, runs)
}
