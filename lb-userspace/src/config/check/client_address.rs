//! What the backends of a pool are told of a client's address: names that are free to use, and one way for each backend.

use std::{collections::HashMap, net::SocketAddr};

use super::{
    Checker, Wanted,
    fields::{Fields, one_of},
    routes::Pool,
};
use crate::{
    config::{
        ClientAddress, ClientFields, ProxyVersion,
        locate::Path,
        problem::Problems,
        text::{self, Field, Section, shown},
    },
    sip::{self, is_token},
    validate,
};

const WORDS: [(&str, Option<ProxyVersion>); 3] = [
    ("off", None),
    ("proxy-protocol", Some(ProxyVersion::V2)),
    ("proxy-protocol-v1", Some(ProxyVersion::V1)),
];

const NAME: Wanted = Wanted::new(
    "a name for a header field",
    "at most 63 letters, digits and '-', such as X-Orig-IP",
);

impl Checker {
    /// A word, or a mapping with names of header fields.
    pub(super) fn client_address(
        &mut self,
        at: &Path,
        field: Field<serde_yaml::Value>,
    ) -> ClientAddress {
        let fields = &mut self.fields;
        let value = match field {
            Field::Absent => return ClientAddress::Off,
            Field::Given(value) | Field::Wrong(value) => value,
        };
        if !value.is_mapping() {
            let version = fields.choice(at, Field::from(value), &WORDS);
            return version.map_or(ClientAddress::Off, ClientAddress::ProxyProtocol);
        }
        let Some(text) = fields.section::<text::ClientAddress>(at, Field::from(value)) else {
            return ClientAddress::Off;
        };
        if let (Field::Absent, Field::Absent, Field::Absent) =
            (&text.ip, &text.port, &text.transport)
        {
            let keys = one_of(text::ClientAddress::KEYS);
            fields
                .problems
                .add(at, format!("names no header field; write {keys}"));
        }
        let names = ClientFields {
            ip: header_field(fields, &at.key("ip"), text.ip),
            port: header_field(fields, &at.key("port"), text.port),
            transport: header_field(fields, &at.key("transport"), text.transport),
        };
        names_differ(&mut fields.problems, at, &names);
        ClientAddress::Fields(names)
    }

    /// A backend that is in several pools could not tell which of them a response comes for.
    pub(super) fn client_addresses_agree(&mut self, pools: &[Pool]) {
        let mut first: HashMap<SocketAddr, &Pool> = HashMap::new();
        for (place, pool) in pools.iter().enumerate() {
            for (index, backend) in pool.backends.iter().enumerate() {
                let Some(backend) = backend else { continue };
                let other = *first.entry(backend.address).or_insert(pool);
                if other.client_address == pool.client_address {
                    continue;
                }
                let what = format!(
                    "\"{}\" is in pool {:?} as well, whose client_address is another one; make them the same",
                    backend.address,
                    other.name.as_deref().unwrap_or_default()
                );
                let at = Path::root().key("pools").item(place).key("backends");
                self.fields
                    .problems
                    .add(&at.item(index).key("address"), what);
            }
        }
    }
}

/// The name of a header field that nobody reads or writes for another purpose.
fn header_field(fields: &mut Fields, at: &Path, field: Field<String>) -> Option<String> {
    let name = fields.optional(at, field, NAME, |name| {
        let fits = (1..=ClientFields::MAX_NAME).contains(&name.len()) && name.bytes().all(is_token);
        fits.then(|| name.to_owned())
    })?;
    if means_something(name.as_bytes()) {
        let what = format!(
            "{} means something else; choose another name, such as X-Orig-IP",
            shown(&name)
        );
        fields.problems.add(at, what);
    }
    Some(name)
}

/// Names that siplb reads or writes, those that say how to read a body, and compact forms, which are one letter each.
fn means_something(name: &[u8]) -> bool {
    const OF_THE_BODY: [&[u8]; 3] = [b"Content-Encoding", b"Content-Language", b"MIME-Version"];
    name.len() == 1
        || sip::Name::from_text(name) != sip::Name::Other
        || validate::is_known(name)
        || OF_THE_BODY
            .iter()
            .any(|known| known.eq_ignore_ascii_case(name))
}

fn names_differ(problems: &mut Problems, at: &Path, names: &ClientFields) {
    let keys = [
        ("ip", &names.ip),
        ("port", &names.port),
        ("transport", &names.transport),
    ];
    for (place, (key, name)) in keys.iter().enumerate() {
        let Some(name) = name else { continue };
        let before = keys[..place].iter().find(|(_, other)| {
            other
                .as_ref()
                .is_some_and(|other| other.eq_ignore_ascii_case(name))
        });
        if let Some((other, _)) = before {
            let what = format!(
                "{} is the name for {other} as well; choose another one",
                shown(name)
            );
            problems.add(&at.key(key), what);
        }
    }
}
