//! Typed text to meaning: defaults, ranges, names that must exist, things that must fit together.

mod announce;
mod client_address;
mod fields;
mod hep;
mod limits;
mod nat;
mod outbound;
mod pools;
mod routes;
mod validate;

use std::{
    collections::BTreeMap,
    net::{IpAddr, SocketAddr},
    path::PathBuf,
};

use self::fields::{Fields, Wanted};
use super::{
    Config, ConfigError, Control, DEFAULT_PORT, Datapath, Listener, MAX_INTERFACES, MAX_LISTENERS,
    Metrics, Mode, Node, PingReplies, ShareLoad, Stats, WantedAttach, ZeroCopy,
    locate::{Locator, Path},
    problem::Problems,
    text::{self, shown},
};
use crate::token::Keys;

const NAME: Wanted = Wanted::new(
    "a name",
    "at most 63 letters, digits, '.', '_' and '-', beginning with a letter or digit",
);
const IP: Wanted = Wanted::new(
    "an IP address",
    "one such as 203.0.113.10 or \"2001:db8::10\"",
);
const PORT: Wanted = Wanted::new("a port", "a whole number from 1 to 65535");
const PATH: Wanted = Wanted::new("an absolute path", "one that begins with /");
const LISTEN: Wanted = Wanted::new(
    "an address and port to listen at",
    "IP:PORT, such as 127.0.0.1:9464 or \"[::1]:9464\"",
);
const LIST: Wanted = Wanted::new("a list", "one entry a line, each behind \"- \"");
const MAPPING: Wanted = Wanted::new("a mapping", "one \"key: value\" a line");

/// Checks the text of a configuration. The problems that come back with a configuration are none yet; they are
/// handed on for what is still to be checked.
pub(super) fn check(text: &str, file_name: &str) -> Result<(Config, Problems), ConfigError> {
    let locator = match Locator::new(text) {
        Ok(locator) => locator,
        Err(refused) => return Err(not_yaml(text, file_name, refused.position, &refused.what)),
    };
    let value: serde_yaml::Value = serde_yaml::from_str(text).map_err(|error| {
        let position = error
            .location()
            .map_or((1, 1), |at| (at.line(), at.column()));
        let error = error.to_string();
        let what = error.split(" at line ").next().unwrap_or_default();
        not_yaml(text, file_name, position, &format!("is not YAML: {what}"))
    })?;
    let field = match value {
        serde_yaml::Value::Null => text::Field::Given(text::Text::default()),
        value => text::Field::from(value),
    };

    let mut checker = Checker {
        fields: Fields::new(Problems::new(file_name, locator)),
    };
    let config = checker.config(field);
    match config {
        Some(config) if checker.fields.problems.is_empty() => Ok((config, checker.fields.problems)),
        _ => Err(checker.fields.problems.into_error()),
    }
}

fn not_yaml(text: &str, file_name: &str, position: (usize, usize), what: &str) -> ConfigError {
    let line = text.lines().nth(position.0 - 1).unwrap_or_default();
    // `[` begins a list in YAML.
    let hint = if line.contains("::") && line.contains("]:") {
        "; put an IPv6 address in quotes, such as \"[2001:db8::11]:5060\""
    } else {
        ""
    };
    let mut problems = Problems::new(file_name, Locator::nowhere());
    problems.add_at(position, format!("{what}{hint}"));
    problems.into_error()
}

/// Checks section by section. What cannot be understood is reported and then left out (`None`) or replaced by its
/// default, so that the rest can still be checked; such a configuration is never handed out.
struct Checker {
    fields: Fields,
}

impl Checker {
    fn config(&mut self, field: text::Field<text::Text>) -> Option<Config> {
        let root = Path::root();
        let text = self.fields.section(&root, field)?;

        let node = self.node(&root.key("node"), text.node);
        let node_name = node.as_ref().map_or("", |node| &node.name);
        let datapath = self.datapath(&root.key("datapath"), text.datapath, node_name);
        let listeners = self.listeners(&root.key("listeners"), text.listeners);
        let pools = self.pools(&root.key("pools"), text.pools);
        let control = self.control(&root.key("control"), text.control);
        let nat = self.nat(&root.key("nat"), text.nat);
        let limits = self.limits(&root.key("limits"), text.limits);
        let outbound = self.outbound(&root.key("outbound"), text.outbound);
        let stats = self.stats(&root.key("stats"), text.stats);
        let metrics = self.metrics(&root.key("metrics"), text.metrics);
        let (listeners, pools) = (listeners?, pools?);
        let routes = self.routes(&root.key("routes"), text.routes, &listeners, &pools);
        let of_routes = routes.as_deref().unwrap_or_default();
        let announce = self.announce(&root.key("announce"), text.announce, &pools, of_routes);
        let hep = self.hep(&root.key("hep"), text.hep, &listeners);
        self.addresses_fit(node.as_ref(), &listeners, &pools);
        self.client_addresses_agree(&pools);
        if control.socket == stats.file {
            let what = format!(
                "{:?} is control.socket as well; name another file",
                stats.file
            );
            self.fields
                .problems
                .add(&root.key("stats").key("file"), what);
        }

        Some(Config {
            node: node?,
            keys: Keys::new(&[], None),
            datapath,
            listeners: listeners.into_iter().collect::<Option<_>>()?,
            pools: pools
                .into_iter()
                .map(routes::Pool::complete)
                .collect::<Option<_>>()?,
            routes: routes?,
            nat,
            limits,
            outbound,
            announce,
            control,
            stats,
            hep,
            metrics,
        })
    }

    fn node(&mut self, at: &Path, field: text::Field<text::Node>) -> Option<Node> {
        let fields = &mut self.fields;
        let text = fields.required_section(at, field, "at least \"name: NAME\"")?;
        let name = fields.required(&at.key("name"), text.name, NAME, name);
        let address = fields.optional(&at.key("address"), text.address, IP, unicast);
        let secret_file = fields.optional(&at.key("secret_file"), text.secret_file, PATH, path);
        let previous = at.key("previous_secret_file");
        let previous_secret_file =
            fields.optional(&previous, text.previous_secret_file, PATH, path);
        if let Some(file) = &previous_secret_file {
            let problem = match &secret_file {
                None => Some("needs secret_file beside it; name the new secret there".to_owned()),
                Some(current) if current == file => {
                    Some(format!("{file:?} is secret_file as well; leave it out"))
                }
                Some(_) => None,
            };
            if let Some(what) = problem {
                fields.problems.add(&previous, what);
            }
        }
        let distribution = at.key("distribution_secret_file");
        let distribution_secret_file =
            fields.optional(&distribution, text.distribution_secret_file, PATH, path);
        Some(Node {
            name: name?,
            address,
            secret_file,
            previous_secret_file,
            distribution_secret_file,
        })
    }

    fn datapath(
        &mut self,
        at: &Path,
        field: text::Field<text::Datapath>,
        node_name: &str,
    ) -> Datapath {
        let fields = &mut self.fields;
        let text = fields.section(at, field).unwrap_or_default();
        let mode = fields.choice(
            &at.key("mode"),
            text.mode,
            &[
                ("auto", Mode::Auto),
                ("af-xdp", Mode::AfXdp),
                ("socket", Mode::Socket),
            ],
        );
        let xdp = fields.choice(
            &at.key("xdp"),
            text.xdp,
            &[
                ("auto", WantedAttach::Auto),
                ("native", WantedAttach::Native),
                ("generic", WantedAttach::Generic),
            ],
        );
        let zero_copy = fields.choice(
            &at.key("zero_copy"),
            text.zero_copy,
            &[
                ("prefer", ZeroCopy::Prefer),
                ("require", ZeroCopy::Require),
                ("never", ZeroCopy::Never),
            ],
        );
        let interfaces = fields.words(
            &at.key("interfaces"),
            text.interfaces,
            MAX_INTERFACES,
            Wanted::new("an interface", "a name such as eth0"),
            interface,
        );
        if interfaces.is_empty() && mode == Mode::AfXdp && fields.problems.is_empty() {
            let what = "is missing; with \"mode: af-xdp\" name the devices that SIP arrives on, such as [eth0]";
            fields.problems.add(&at.key("interfaces"), what);
        }
        let cpus = fields.words(
            &at.key("cpus"),
            text.cpus,
            1024,
            Wanted::new("a CPU", "a whole number from 0 to 1023"),
            |cpu| (cpu < 1024).then_some(cpu),
        );
        let workers = fields.number(&at.key("workers"), text.workers, 1..=256);
        let ring = fields
            .number(&at.key("ring"), text.ring, 64..=32_768)
            .unwrap_or(Datapath::DEFAULT_RING);
        if !ring.is_power_of_two() {
            let what = format!(
                "{ring} is not a power of two; write {}",
                ring.next_power_of_two()
            );
            fields.problems.add(&at.key("ring"), what);
        }
        let chunks = fields
            .number(&at.key("chunks"), text.chunks, 64..=1 << 20)
            .unwrap_or(Datapath::DEFAULT_CHUNKS);
        // Full fill rings and one full TX ring at a time, or one of them starves the others.
        let needed = ring * (interfaces.len().max(1) as u32 + 1);
        if chunks < needed {
            let what = format!(
                "{chunks} is fewer than {needed}, a ring of {ring} for each interface and one more; write at least \
                 {needed}, or a shorter ring"
            );
            fields.problems.add(&at.key("chunks"), what);
        }
        let pins = fields.number(&at.key("pins"), text.pins, 64..=1 << 26);
        let share_load = fields.choice(
            &at.key("share_load"),
            text.share_load,
            &[("auto", ShareLoad::Auto), ("off", ShareLoad::Off)],
        );
        let pin_path = fields.optional(&at.key("pin_path"), text.pin_path, PATH, path);
        let stale_after = fields.optional(
            &at.key("stale_after"),
            text.stale_after,
            Wanted::new(
                "a duration from 100ms to 10s",
                "a number and a unit, such as 250ms or 2s",
            ),
            |text| {
                super::duration::parse(text)
                    .filter(|time| (100..=10_000).contains(&time.as_millis()))
            },
        );
        let debug_log = fields.yes_or_no(&at.key("debug_log"), text.debug_log);
        Datapath {
            mode,
            interfaces,
            xdp,
            zero_copy,
            cpus,
            workers,
            chunks,
            ring,
            pins: pins.unwrap_or(Datapath::DEFAULT_PINS),
            share_load,
            pin_path: pin_path.unwrap_or_else(|| default_pin_path(node_name)),
            stale_after: stale_after.unwrap_or(Datapath::DEFAULT_STALE_AFTER),
            debug_log,
        }
    }

    /// An entry that could not be understood stays as `None`, so that positions mean what they mean in the file.
    fn listeners(
        &mut self,
        at: &Path,
        field: text::Field<Vec<text::Field<text::Listener>>>,
    ) -> Option<Vec<Option<Listener>>> {
        let example = "at least one, such as \"- { name: public, address: 203.0.113.10 }\"";
        let entries = self
            .fields
            .required_list(at, field, MAX_LISTENERS, example)?;
        let mut names = Unique::default();
        let mut addresses = Unique::default();
        let mut listeners = Vec::new();
        for (index, entry) in entries.into_iter().enumerate() {
            let at = at.item(index);
            let listener = self.listener(&at, entry);
            if let Some(listener) = &listener {
                let problems = &mut self.fields.problems;
                names.claim(
                    &listener.name,
                    &at.key("name"),
                    problems,
                    "choose another name",
                );
                addresses.claim(
                    &listener.address.to_string(),
                    &at.key("address"),
                    problems,
                    "remove one of them, or choose another port",
                );
            }
            listeners.push(listener);
        }
        Some(listeners)
    }

    fn listener(&mut self, at: &Path, field: text::Field<text::Listener>) -> Option<Listener> {
        let text = self.fields.section(at, field)?;
        let nat = self.nat_policy(&at.key("nat"), text.nat);
        let fields = &mut self.fields;
        let name = fields.required(&at.key("name"), text.name, NAME, name);
        let address = fields.required(&at.key("address"), text.address, IP, unicast);
        let port = fields
            .given(&at.key("port"), text.port, PORT)
            .unwrap_or(DEFAULT_PORT);
        if port == 0 {
            fields.refuse(&at.key("port"), "0", PORT);
        }
        let ping_replies = PingReplies::ALL.map(|replies| (replies.name(), replies));
        let ping_replies = fields.choice(&at.key("ping_replies"), text.ping_replies, &ping_replies);
        let validate = self.validate(&at.key("validate"), text.validate);
        Some(Listener {
            name: name?,
            address: SocketAddr::new(address?, port),
            nat: nat.unwrap_or_default(),
            validate,
            ping_replies,
        })
    }

    fn control(&mut self, at: &Path, field: text::Field<text::Control>) -> Control {
        let text = self.fields.section(at, field).unwrap_or_default();
        let wanted = Wanted::new(
            "an absolute path of at most 107 bytes",
            "a shorter one that begins with /",
        );
        // `sun_path` has room for 107 bytes and a NUL, see unix(7).
        let socket = self
            .fields
            .optional(&at.key("socket"), text.socket, wanted, |text| {
                path(text).filter(|_| text.len() <= 107)
            });
        let state_file = self
            .fields
            .optional(&at.key("state_file"), text.state_file, PATH, path);
        Control {
            state_file,
            socket: socket.unwrap_or_else(|| Control::DEFAULT_SOCKET.into()),
        }
    }

    fn stats(&mut self, at: &Path, field: text::Field<text::Stats>) -> Stats {
        let text = self.fields.section(at, field).unwrap_or_default();
        let file = self.fields.optional(&at.key("file"), text.file, PATH, path);
        Stats {
            file: file.unwrap_or_else(|| Stats::DEFAULT_FILE.into()),
        }
    }

    fn metrics(&mut self, at: &Path, field: text::Field<text::Metrics>) -> Metrics {
        let text = self.fields.section(at, field).unwrap_or_default();
        let listen = self
            .fields
            .optional(&at.key("listen"), text.listen, LISTEN, listen);
        Metrics { listen }
    }

    /// A node that sends to its own listener would talk to itself.
    fn addresses_fit(
        &mut self,
        node: Option<&Node>,
        listeners: &[Option<Listener>],
        pools: &[routes::Pool],
    ) {
        let listeners = listeners.iter().flatten();
        for (pool, entry) in pools.iter().enumerate() {
            for (index, backend) in entry.backends.iter().enumerate() {
                let Some(backend) = backend else { continue };
                if let Some(listener) = listeners.clone().find(|l| l.address == backend.address) {
                    let at = Path::root()
                        .key("pools")
                        .item(pool)
                        .key("backends")
                        .item(index);
                    let what = format!(
                        "\"{}\" is listener {:?}, so calls would go in a circle; write the SIP server's own address",
                        backend.address, listener.name
                    );
                    self.fields.problems.add(&at.key("address"), what);
                }
            }
        }
        if let Some(address) = node.and_then(|node| node.address)
            && let Some(listener) = listeners.clone().find(|l| l.address.ip() == address)
        {
            let what = format!(
                "\"{address}\" is the address of listener {:?}, which nodes share; write this node's own address",
                listener.name
            );
            self.fields
                .problems
                .add(&Path::root().key("node").key("address"), what);
        }
    }
}

/// A BPF file system has no dots in names.
fn default_pin_path(node_name: &str) -> PathBuf {
    PathBuf::from(Datapath::DEFAULT_PIN_PARENT).join(node_name.replace('.', "_"))
}

/// Values that may be there once, with the line of the first.
#[derive(Default)]
struct Unique(BTreeMap<String, usize>);

impl Unique {
    fn claim(&mut self, value: &str, at: &Path, problems: &mut Problems, remedy: &str) {
        let line = problems.line(at);
        match self.0.get(value) {
            Some(first) => problems.add(
                at,
                format!("{} is on line {first} already; {remedy}", shown(value)),
            ),
            None => {
                self.0.insert(value.to_owned(), line);
            }
        }
    }
}

fn name(text: &str) -> Option<String> {
    let fits = text.len() <= 63
        && text.starts_with(|c: char| c.is_ascii_alphanumeric())
        && text
            .bytes()
            .all(|b| b.is_ascii_alphanumeric() || b"._-".contains(&b));
    fits.then(|| text.to_owned())
}

/// What the kernel takes as the name of a device (`dev_valid_name`).
fn interface(text: String) -> Option<String> {
    let fits = (1..=15).contains(&text.len())
        && text != "."
        && text != ".."
        && !text.contains(|c: char| c == '/' || c == ':' || c.is_whitespace() || c.is_control());
    fits.then_some(text)
}

fn path(text: &str) -> Option<PathBuf> {
    (text.starts_with('/') && !text.contains('\0')).then(|| PathBuf::from(text))
}

fn unicast(text: &str) -> Option<IpAddr> {
    text.parse().ok().filter(|&address| is_unicast(address))
}

/// All addresses of the host are one that can be listened at.
fn listen(text: &str) -> Option<SocketAddr> {
    let address: SocketAddr = text.parse().ok()?;
    let can_be = address.ip().is_unspecified() || is_unicast(address.ip());
    (can_be && address.port() != 0).then_some(address)
}

/// Whether a datagram can be sent to and from an address without saying more: no multicast, no wildcard, no IPv4 in
/// IPv6's clothes, no link-local IPv6 address, which means nothing without a device.
pub fn is_unicast(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(v4) => !v4.is_unspecified() && !v4.is_multicast() && !v4.is_broadcast(),
        IpAddr::V6(v6) => {
            !v6.is_unspecified()
                && !v6.is_multicast()
                && !v6.is_unicast_link_local()
                && v6.to_ipv4_mapped().is_none()
        }
    }
}
