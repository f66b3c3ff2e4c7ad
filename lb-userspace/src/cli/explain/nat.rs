//! The indicators of far-end NAT and the values that they compare.

use super::{
    facts::Explanation,
    printable::{printable, unfolded},
};
use crate::{
    cli::output::{Align, Grid},
    forward::NatTrace,
    nat::Indicator,
    sip::{Message, NameAddr, Sdp, SdpAddress, SdpLine, Span, Uri},
};

/// Most Contacts that are printed.
const MAX_CONTACTS: usize = 8;

/// Which indicators were looked for, which match, and why. Nothing where no policy looks for any.
pub(super) fn section(explanation: &Explanation, payload: &[u8]) -> Grid {
    let mut grid = Grid::new(&[Align::Left, Align::Left]);
    let trace = &explanation.trace;
    let (Some(nat), Some(message)) = (trace.nat, &trace.message) else {
        return grid;
    };
    let values = Values::new(explanation, payload, message);
    let whose = match nat.rule {
        Some(rule) => format!("rule {}", rule + 1),
        None => format!("listener {}", explanation.listener),
    };
    if nat.policy.detect.is_empty() {
        grid.row(["looked for", &format!("nothing: {whose} has no nat.detect")]);
    } else {
        let names = nat.policy.detect.names().collect::<Vec<_>>();
        grid.row([
            "looked for",
            &format!("{} (nat of {whose})", names.join(", ")),
        ]);
    }
    for indicator in nat.policy.detect.iter() {
        let matches = match nat.present.contains(indicator) {
            true => "matches",
            false => "does not match",
        };
        let values = values.of(indicator);
        grid.row([indicator.name(), &format!("{matches}: {values}")]);
    }
    let others = others(nat);
    if !others.is_empty() {
        grid.row(["would match", &others.join(", ")]);
    }
    if explanation.nat.natted {
        let fixed = match explanation.nat.fixed.as_slice() {
            [] => "nothing changed".to_owned(),
            fixed => format!("changed {}", fixed.join(", ")),
        };
        let wanted = nat.policy.fix.names().collect::<Vec<_>>();
        let wanted = match wanted.as_slice() {
            [] => "none".to_owned(),
            wanted => wanted.join(", "),
        };
        grid.row(["fixes", &format!("selected {wanted}; {fixed}")]);
    }
    grid
}

/// Those that would match if they were selected.
pub(super) fn others(nat: NatTrace) -> Vec<&'static str> {
    let others = nat.present.iter();
    others
        .filter(|indicator| !nat.policy.detect.contains(*indicator))
        .map(Indicator::name)
        .collect()
}

/// What the indicators compare.
struct Values<'a> {
    payload: &'a [u8],
    message: &'a Message,
    source: std::net::SocketAddr,
    contacts: Vec<Uri>,
    /// Without those of `o=`.
    connections: Vec<SdpAddress>,
}

impl<'a> Values<'a> {
    fn new(explanation: &Explanation, payload: &'a [u8], message: &'a Message) -> Self {
        let sdp = match (message.content_type, message.body) {
            (Some(kind), Some(body)) => Sdp::read(payload, kind.value, body),
            _ => Sdp::default(),
        };
        let connections = sdp.addresses().iter().copied();
        Self {
            payload,
            message,
            source: explanation.source,
            contacts: contacts(payload, message),
            connections: connections
                .filter(|address| address.line != SdpLine::Origin)
                .collect(),
        }
    }

    fn of(&self, indicator: Indicator) -> String {
        let (ip, port) = (self.source.ip(), self.source.port());
        let is_response = self.message.method().is_none();
        match indicator {
            Indicator::Received | Indicator::ViaPrivate | Indicator::ViaPort if is_response => {
                "not looked for in responses, whose top Via is ours".to_owned()
            }
            Indicator::ContactPrivate => self.contact_hosts(),
            Indicator::Received => format!("{}, source {ip}", self.via_received()),
            Indicator::ViaPrivate => self.via_host(),
            Indicator::SdpPrivate => self.connections(self.first_connections()),
            Indicator::ViaPort => format!("{}, source port {port}", self.via_port()),
            Indicator::ContactAddress => format!("{}, source {ip}", self.contact_hosts()),
            Indicator::ContactPort => format!("{}, source port {port}", self.contact_ports()),
            Indicator::SourcePrivate => format!("source {ip}"),
            Indicator::SdpAddress => {
                let all = self.connections.iter();
                let session = all.filter(|address| address.line == SdpLine::Session);
                format!("{}, source {ip}", self.connections(session.collect()))
            }
            Indicator::Ipv6Local => {
                let via = match is_response {
                    true => String::new(),
                    false => format!(", {}", self.via_host()),
                };
                let connections = self.connections(self.first_connections());
                let contacts = self.contact_hosts();
                format!("source {ip}{via}, {contacts}, {connections}")
            }
        }
    }

    fn at(&self, span: Span) -> String {
        printable(&unfolded(span.of(self.payload)))
    }

    fn via_host(&self) -> String {
        match self.message.via {
            Some(via) => format!("top Via {}", self.at(via.host)),
            None => "no Via".to_owned(),
        }
    }

    fn via_received(&self) -> String {
        match self.message.via {
            Some(via) if via.received.is_some() => {
                let value = via.received.and_then(|received| received.value);
                let value = value.map_or(String::new(), |value| self.at(value));
                format!("top Via has received={value} already")
            }
            Some(via) => match via.maddr {
                Some(maddr) => format!("maddr of the top Via {}", self.at(maddr)),
                None => self.via_host(),
            },
            None => self.via_host(),
        }
    }

    fn via_port(&self) -> String {
        match self.message.via {
            Some(via) if via.port.is_none() => {
                format!("port of the top Via {}, by default", via.effective_port())
            }
            Some(via) => format!("port of the top Via {}", via.effective_port()),
            None => self.via_host(),
        }
    }

    fn contact_hosts(&self) -> String {
        self.joined(|uri| self.at(uri.host), "Contact")
    }

    fn contact_ports(&self) -> String {
        let port = |uri: &Uri| match uri.port {
            Some(port) => port.to_string(),
            None => format!("{} by default", uri.effective_port()),
        };
        self.joined(port, "port of the Contact")
    }

    fn joined(&self, text: impl Fn(&Uri) -> String, name: &str) -> String {
        let texts = self.contacts.iter().map(text).collect::<Vec<_>>();
        match texts.as_slice() {
            [] => "no Contact with an address".to_owned(),
            texts => format!("{name} {}", texts.join(" and ")),
        }
    }

    /// The first `c=` of each session description.
    fn first_connections(&self) -> Vec<&SdpAddress> {
        let mut passed = None;
        let all = self.connections.iter();
        all.filter(|address| passed.replace(address.description) != Some(address.description))
            .collect()
    }

    fn connections(&self, list: Vec<&SdpAddress>) -> String {
        let texts = list.iter().map(|address| self.at(address.text));
        match texts.collect::<Vec<_>>().as_slice() {
            [] => "no c= that counts".to_owned(),
            texts => format!("c= {}", texts.join(" and ")),
        }
    }
}

fn contacts(payload: &[u8], message: &Message) -> Vec<Uri> {
    let mut contacts = Vec::new();
    for field in message.contacts.iter().flatten() {
        let mut rest = Some(field.value);
        while let Some(value) = rest
            .filter(|_| contacts.len() < MAX_CONTACTS)
            .and_then(|span| NameAddr::parse(payload, span))
        {
            contacts.extend(Uri::parse(payload, value.uri));
            rest = value.next.map(|next| Span::new(next, field.value.end()));
        }
    }
    contacts
}
