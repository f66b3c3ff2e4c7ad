//! Registrations and outbound calls: how a pool's phones stay reachable, and who may call the world.

use std::net::SocketAddr;

use super::{
    Checker,
    fields::{Wanted, one_of},
    is_unicast,
    limits::{NETWORK, network},
};
use crate::{
    config::{
        Outbound, Registration, Topology,
        locate::Path,
        text::{self, Field},
    },
    nat::Policy,
};

/// Most trusted networks.
const MAX_TRUSTED: usize = 256;
/// Most name servers; more than three are rarely asked.
const MAX_NAME_SERVERS: usize = 8;

const NAME_SERVER: Wanted = Wanted::new(
    "a name server",
    "IP or IP:PORT, such as 10.0.0.53 or \"[2001:db8::53]:53\"",
);
const MAX_EXPIRES: Wanted = Wanted::new(
    "a duration from 1s to 24h",
    "a number and a unit, such as 60s",
);

const MODES: [(&str, Registration); 3] = [
    ("path", Registration::PATH),
    ("contact", Registration::Contact),
    ("off", Registration::Off),
];

impl Checker {
    pub(super) fn outbound(&mut self, at: &Path, field: Field<text::Outbound>) -> Outbound {
        let text = self.fields.section(at, field).unwrap_or_default();
        let trusted = self.fields.words(
            &at.key("trusted"),
            text.trusted,
            MAX_TRUSTED,
            NETWORK,
            |text: String| network(&text),
        );
        let topology = self.fields.choice(
            &at.key("topology"),
            text.topology,
            &[("keep", Topology::Keep), ("hide", Topology::Hide)],
        );
        let name_servers = self.fields.words(
            &at.key("name_servers"),
            text.name_servers,
            MAX_NAME_SERVERS,
            NAME_SERVER,
            |text: String| name_server(&text),
        );
        Outbound {
            trusted,
            topology,
            name_servers,
        }
    }

    /// A word, or a mapping with `mode` and `supported_path`.
    pub(super) fn registration(
        &mut self,
        at: &Path,
        field: Field<serde_yaml::Value>,
    ) -> Registration {
        let fields = &mut self.fields;
        let value = match field {
            Field::Absent => return Registration::default(),
            Field::Given(value) | Field::Wrong(value) => value,
        };
        if !value.is_mapping() {
            return fields.choice(at, Field::from(value), &MODES);
        }
        let Some(text) = fields.section::<text::Registration>(at, Field::from(value)) else {
            return Registration::default();
        };
        if let Field::Absent = text.mode {
            let names = MODES.map(|(name, _)| name);
            let what = format!("is missing; write {}", one_of(&names));
            fields.problems.add(&at.key("mode"), what);
        }
        let mode = fields.choice(&at.key("mode"), text.mode, &MODES);
        let supported_at = at.key("supported_path");
        let is_given = !matches!(text.supported_path, Field::Absent);
        let supported_path = fields.yes_or_no(&supported_at, text.supported_path);
        match mode {
            _ if !is_given => mode,
            Registration::Path { .. } => Registration::Path { supported_path },
            Registration::Contact | Registration::Off => {
                let what = "is for \"mode: path\", which has a Path that a registrar must support; remove it";
                fields.problems.add(&supported_at, what);
                mode
            }
        }
    }

    /// `max_expires` of a NAT policy, in seconds.
    pub(super) fn max_expires(&mut self, at: &Path, field: Field<String>) -> Option<u32> {
        let time = self.duration(at, field, MAX_EXPIRES, 1_000..=86_400_000)?;
        if time.subsec_nanos() > 0 {
            let what =
                "is not a whole number of seconds, which is what SIP counts in; leave out the rest";
            self.fields.problems.add(at, what);
        }
        Some(time.as_secs() as u32)
    }

    /// What a clamp needs beside it.
    pub(super) fn max_expires_fits(&mut self, at: &Path, policy: &Policy) {
        if policy.max_expires.is_some() && policy.detect.is_empty() {
            let what = "needs something in detect beside it, which tells that a client is behind a NAT, such as \
                        \"detect: [received]\"";
            self.fields.problems.add(at, what);
        }
    }
}

fn name_server(text: &str) -> Option<SocketAddr> {
    let address = text.parse().map(|ip| SocketAddr::new(ip, 53));
    let address: SocketAddr = address.or_else(|_| text.parse()).ok()?;
    (address.port() != 0 && is_unicast(address.ip())).then_some(address)
}
