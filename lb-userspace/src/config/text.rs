//! What a person may write, as typed text: names and types of the fields, nothing of their meaning.
//!
//! Reading never stops at the first mistake: a value of the wrong type is kept as it is in its [`Field`], a key that
//! nobody knows in `unknown`, and `check` reports all of them.

use std::{collections::BTreeMap, fmt};

use serde::{
    Deserialize, Deserializer,
    de::{DeserializeOwned, IgnoredAny},
};
use serde_yaml::Value;

/// A value that may be missing or of the wrong type.
#[derive(Debug, Default)]
pub(super) enum Field<T> {
    #[default]
    Absent,
    Wrong(Value),
    Given(T),
}

impl<T: DeserializeOwned> From<Value> for Field<T> {
    fn from(value: Value) -> Self {
        match serde_yaml::from_value(value.clone()) {
            Ok(given) => Self::Given(given),
            Err(_) => Self::Wrong(value),
        }
    }
}

impl<'de, T: DeserializeOwned> Deserialize<'de> for Field<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Value::deserialize(deserializer).map(Self::from)
    }
}

/// Keys that no field has.
pub(super) type Unknown = BTreeMap<String, IgnoredAny>;

/// A mapping with known keys.
pub(super) trait Section {
    /// The known keys, in the order in which they are documented.
    const KEYS: &'static [&'static str];

    fn unknown(&self) -> &Unknown;
}

/// Fields under their names in the file, with a list of those names: serde knows it but keeps it to itself.
macro_rules! section {
    ($name:ident { $($field:ident: $type:ty),* $(,)? }) => {
        #[derive(Debug, Default, Deserialize)]
        #[serde(default)]
        pub(super) struct $name {
            $(pub(super) $field: Field<$type>,)*
            #[serde(flatten)]
            unknown: Unknown,
        }

        impl Section for $name {
            const KEYS: &'static [&'static str] = &[$(stringify!($field)),*];

            fn unknown(&self) -> &Unknown {
                &self.unknown
            }
        }
    };
}

type List<T> = Vec<Field<T>>;

section!(Text {
    node: Node,
    datapath: Datapath,
    listeners: List<Listener>,
    pools: List<Pool>,
    routes: List<Route>,
    nat: Nat,
    limits: Limits,
    outbound: Outbound,
    announce: Announce,
    control: Control,
    stats: Stats,
    hep: Hep,
    metrics: Metrics,
});

section!(Node {
    name: String,
    address: String,
    secret_file: String,
    previous_secret_file: String,
    distribution_secret_file: String,
});

section!(Datapath {
    mode: String,
    interfaces: List<String>,
    xdp: String,
    zero_copy: String,
    cpus: List<usize>,
    workers: usize,
    chunks: u32,
    ring: u32,
    pins: u32,
    pin_path: String,
    share_load: String,
    stale_after: String,
    debug_log: bool,
});

section!(Listener {
    name: String,
    address: String,
    port: u16,
    nat: NatPolicy,
    validate: Value,
    ping_replies: String,
});

section!(Validate {
    mode: String,
    checks: List<String>,
});

section!(Pool {
    name: String,
    strategy: String,
    user_only: bool,
    backends: List<Backend>,
    health: Health,
    client_address: Value,
    registration: Value,
});

section!(Registration {
    mode: String,
    supported_path: bool,
});

section!(ClientAddress {
    ip: String,
    port: String,
    transport: String,
});

section!(Health {
    interval: String,
    timeout: String,
    fall: u32,
    rise: u32,
    slow_start: String,
});

section!(Backend {
    name: String,
    address: String,
    weight: u16,
    priority: u16,
    cps: u32,
});

section!(Route {
    method: String,
    listener: String,
    source: List<String>,
    request_uri_user: String,
    request_uri_domain: String,
    from_domain: String,
    to_domain: String,
    user_agent: String,
    pool: String,
    strategy: String,
    user_only: bool,
    nat: NatPolicy,
    cps: u32,
});

section!(Limits {
    cps: u32,
    on_breach: Value,
    retry_after: String,
    silence_after: u32,
    sources: List<SourceLimit>,
});

section!(SourceLimit {
    network: String,
    cps: u32,
});

section!(Nat { private: List<String> });

section!(NatPolicy {
    detect: List<String>,
    fix: List<String>,
    max_expires: String,
});

section!(Outbound {
    trusted: List<String>,
    topology: String,
    name_servers: List<String>,
});

section!(Announce {
    device: String,
    required: List<String>,
    grace: String,
    hook: String,
});

section!(Control {
    socket: String,
    state_file: String,
});

section!(Stats { file: String });

section!(Hep {
    collector: String,
    sample: f64,
    id: u32,
    password_file: String,
});

section!(Metrics { listen: String });

/// A value as an error message shows it: on one line, not too long.
pub(super) struct Shown<'a>(pub(super) &'a Value);

impl fmt::Display for Shown<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            Value::Null => f.write_str("nothing"),
            Value::Bool(value) => write!(f, "{value}"),
            Value::Number(value) => write!(f, "{value}"),
            Value::String(text) => f.write_str(&shown(text)),
            Value::Sequence(_) => f.write_str("a list"),
            Value::Mapping(_) => f.write_str("a mapping"),
            Value::Tagged(_) => f.write_str("a tagged value"),
        }
    }
}

/// Text in quotes, escaped, cut after 80 characters.
pub(super) fn shown(text: &str) -> String {
    const LONGEST: usize = 80;
    match text.char_indices().nth(LONGEST) {
        Some((end, _)) => format!("{:?}...", &text[..end]),
        None => format!("{text:?}"),
    }
}
