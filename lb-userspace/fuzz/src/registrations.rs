//! What a REGISTER gets on its way, and what comes back.

use std::net::SocketAddr;

use lb_userspace::{
    sip::{Message, Method, Name, StartLine},
    token::{ContactOf, FlowKind},
};

use crate::{
    edge::Sent,
    fields::{Fields, Value, uri_parameter, values},
};

/// What the configurations let phones be told.
const MAX_EXPIRES: u64 = 60;

impl Sent<'_> {
    /// A registration that goes to a backend of a pool.
    fn registers(&self, message: &Message) -> bool {
        use lb_userspace::forward::{Action, Outcome};
        let is_register = matches!(
            message.start_line,
            StartLine::Request {
                method: Method::Register,
                ..
            }
        );
        let has_pool = matches!(
            self.verdict.action,
            Action::Forward {
                backend: Some(_),
                ..
            }
        );
        let from_client = matches!(
            self.verdict.outcome,
            Outcome::RequestToPool | Outcome::RequestToBackend
        );
        is_register && has_pool && from_client
    }

    /// A Path of ours and the word that the client supports it stand on top of others, for a registration and for nothing
    /// else; `client` is where its responses go.
    pub(crate) fn check_path(
        &self,
        before: &Message,
        to: SocketAddr,
        client: SocketAddr,
        hid: bool,
    ) {
        let payload = self.datagram.payload;
        let (was, is) = (Fields::of(payload), Fields::of(&self.bytes));
        if hid {
            return assert!(is.paths.is_empty(), "Path\n{self:?}");
        }
        let wanted = self.registers(before) && !self.replaces_contacts;
        let added = is.paths.len() - was.paths.len().min(is.paths.len());
        assert_eq!(added, usize::from(wanted), "Path\n{self:?}");
        assert!(is.paths[added..] == was.paths, "Path of others\n{self:?}");
        let supports = was.supported.iter().any(|line| {
            let value = line.split(|byte| *byte == b':').skip(1).collect::<Vec<_>>();
            let value = value.join(&b':').to_ascii_lowercase();
            let mut tags = value.split(|byte| *byte == b',');
            tags.any(|tag| tag.trim_ascii() == b"path")
        });
        let says = usize::from(wanted && !supports);
        assert_eq!(is.supported.len(), was.supported.len() + says, "{self:?}");
        assert!(is.supported[says..] == was.supported, "Supported\n{self:?}");
        if says > 0 {
            assert_eq!(is.supported[0], b"Supported:  path\r\n", "{self:?}");
        }
        if wanted {
            let path = is.paths[0].strip_prefix(b"Path: <sip:").expect("ours");
            let token = path.split(|byte| *byte == b'@').next().expect("a first");
            let token = self.table.keys.read_flow_token(token).expect("signed");
            assert_eq!(token.kind, FlowKind::Registration, "{self:?}");
            assert_eq!((token.client, token.backend), (client, to), "{self:?}");
        }
    }

    /// Contacts of ours, which lead to the client; true when they are in place of its own.
    pub(crate) fn check_own_contacts(&self, before: &Message, client: SocketAddr) -> bool {
        if !self.replaces_contacts || !self.registers(before) {
            return false;
        }
        let is_contact = |field: &lb_userspace::sip::HeaderField| field.name == Name::Contact;
        let was = values(self.datagram.payload, is_contact);
        let is = values(&self.bytes, is_contact);
        assert_eq!(was.len(), is.len(), "Contacts\n{self:?}");
        for (was, is) in was.iter().zip(&is) {
            let (old, new) = (was.uri_text(), is.uri_text());
            let Some(uri) = was.uri.filter(|uri| !uri.secure) else {
                assert_eq!(old, new, "{self:?}");
                continue;
            };
            let ours = is.uri.expect("a URI of ours");
            let end = is.name_addr.uri.end();
            let token = uri_parameter(&is.bytes, ours.host_port_end, end, "lbr");
            let token = token.and_then(|token| self.table.keys.read_contact_token(token));
            let token = token.unwrap_or_else(|| panic!("no token\n{self:?}"));
            assert_eq!((token.of, token.address), (ContactOf::Client, client));
            let head = uri.host.start() - was.name_addr.uri.start();
            assert_eq!(token.rest(), &old[head..], "{self:?}");
            assert_eq!(&old[..head], &new[..head], "{self:?}");
            let host_port = &is.bytes[ours.host.start()..ours.host_port_end];
            let listener = self.table.listeners[usize::from(self.datagram.listener.0)].address;
            assert_eq!(host_port, listener.to_string().as_bytes(), "{self:?}");
        }
        true
    }

    /// What is said of time and Contacts in a response to a REGISTER that went through `self` and came back as `back`.
    pub fn check_granted(&self, response: &[u8], back: &Sent<'_>) {
        let message = lb_userspace::sip::read(self.datagram.payload).expect("it was sent on");
        if !self.registers(&message) || !self.replaces_contacts {
            return;
        }
        let natted = Fields::of(response).vias[0]
            .windows(4)
            .any(|window| window == b";lbn");
        let is_contact = |field: &lb_userspace::sip::HeaderField| field.name == Name::Contact;
        let said = |bytes: &[u8], clamps: bool| {
            let values = values(bytes, is_contact);
            let said = values.iter().map(|value| say(value, clamps));
            said.collect::<Vec<_>>()
        };
        let was = said(self.datagram.payload, natted);
        assert_eq!(said(&back.bytes, false), was, "{back:?}\nto\n{self:?}");
    }

    /// Expiry may be lowered in what comes back, and only there.
    pub(crate) fn same_expires(&self, was: &Fields<'_>, is: &Fields<'_>, is_veiled: bool) {
        if was.expires == is.expires {
            return;
        }
        assert_eq!(was.expires.len(), is.expires.len(), "{self:?}");
        // What is no number may have an address in it.
        let is_number = |line: &[u8]| {
            let mut value = line.split(|byte| *byte == b':').skip(1);
            value
                .next()
                .is_some_and(|value| value.trim_ascii().iter().all(u8::is_ascii_digit))
        };
        self.same_lines(&was.expires[1..], &is.expires[1..], is_veiled);
        if was.expires[0] == is.expires[0] {
            return;
        }
        if !is_number(was.expires[0]) {
            return self.same_lines(&was.expires[..1], &is.expires[..1], is_veiled);
        }
        assert!(self.limits_expiry, "Expires\n{self:?}");
        let number = |line: &[u8]| {
            let text = String::from_utf8_lossy(line).into_owned();
            let number = text.split(':').nth(1).map(|value| value.trim().to_owned());
            number.expect("a value")
        };
        assert_eq!(number(is.expires[0]), MAX_EXPIRES.to_string(), "{self:?}");
        let was = number(was.expires[0]);
        let was = was.parse::<u128>().unwrap_or(u128::MAX);
        assert!(was > MAX_EXPIRES.into(), "{self:?}");
    }
}

/// URI and parameters of a Contact, without the brackets that one of ours needs.
fn say(said: &Value, clamps: bool) -> String {
    let (bytes, value) = (&said.bytes, &said.name_addr);
    let text = |start: usize, end: usize| String::from_utf8_lossy(&bytes[start..end]).into_owned();
    let before = text(value.value.start(), value.uri.start());
    let behind = text(value.uri.end(), value.value.end());
    let mut parts = Vec::new();
    let mut quoted = false;
    for part in behind.split_inclusive(['"', ';']) {
        match quoted || parts.is_empty() {
            true if parts.is_empty() => parts.push(part.to_owned()),
            true => *parts.last_mut().expect("one") += part,
            false => parts.push(part.to_owned()),
        }
        quoted ^= part.ends_with('"');
    }
    let mut clamped = false;
    let parts = parts.into_iter().map(|part| {
        let clean = part.trim_end_matches(';');
        let Some((name, digits)) = clean.split_once('=') else {
            return part;
        };
        let digits = digits.trim();
        let is_number = !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit());
        let is_more = digits
            .parse::<u128>()
            .map_or(true, |number| number > MAX_EXPIRES.into());
        let is_expires = name.trim().eq_ignore_ascii_case("expires") && !clamped;
        clamped |= is_expires;
        match clamps && is_expires && is_number && is_more {
            true => part.replacen(digits, &MAX_EXPIRES.to_string(), 1),
            false => part,
        }
    });
    let behind = parts.collect::<String>();
    let uri = text(value.uri.start(), value.uri.end());
    let before = before.trim().trim_end_matches('<').to_owned();
    format!("{before}|{uri}|{}", behind.trim_start_matches('>'))
}
