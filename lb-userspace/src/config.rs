//! The configuration file: YAML text in, checked [`Config`] out.
//!
//! Two stages that know nothing of each other: `text` holds what a person may write, field by field, and `check`
//! turns it into what it means. Every problem is reported with its place in the file, and as many at once as can be
//! found.

mod check;
mod client_address;
mod duration;
mod hep;
mod locate;
mod problem;
mod secret;
mod text;

pub(crate) use check::is_unicast;
pub use client_address::{ClientAddress, ClientFields, ProxyVersion};
pub use duration::parse as parse_duration;
pub use hep::{Hep, Password};
pub use problem::{ConfigError, Problem};

use std::{
    net::{IpAddr, SocketAddr},
    path::{Path, PathBuf},
    time::Duration,
};

use ipnet::IpNet;

use crate::{balance::Strategy, nat, token::Keys, validate::Validate};

/// Where the configuration is looked for when the command line does not say.
pub const DEFAULT_PATH: &str = "/etc/siplb/siplb.yaml";
/// SIP's own port (RFC 3261 §19.1.2).
pub const DEFAULT_PORT: u16 = 5060;
/// Longest configuration that is read, in bytes.
pub const MAX_FILE: u64 = 1 << 20;
/// Most backends in all pools together.
pub const MAX_BACKENDS: usize = 1024;
/// Most listeners.
pub const MAX_LISTENERS: usize = 256;
/// Most interfaces: each queue has a socket on every one of them.
pub const MAX_INTERFACES: usize = 16;

/// A configuration that holds together.
#[derive(Clone, Debug)]
pub struct Config {
    /// This node.
    pub node: Node,
    /// Keys made from the secret files; of an empty secret, good for nothing but looking, without
    /// [`Node::secret_file`] and after [`parse`].
    pub keys: Keys,
    /// How datagrams come in and leave.
    pub datapath: Datapath,
    /// At least one.
    pub listeners: Vec<Listener>,
    /// At least one.
    pub pools: Vec<PoolConfig>,
    /// In the order of the file; the first that matches wins.
    pub routes: Vec<RouteConfig>,
    /// What holds for all NAT policies.
    pub nat: Nat,
    /// Calls per second.
    pub limits: Limits,
    /// Calls that backends make.
    pub outbound: Outbound,
    /// How the network learns whether the node serves; `None` when it is not told.
    pub announce: Option<Announce>,
    /// Control socket.
    pub control: Control,
    /// Statistics.
    pub stats: Stats,
    /// Who gets copies of messages; `None` for nobody.
    pub hep: Option<Hep>,
    /// Metrics over HTTP.
    pub metrics: Metrics,
}

/// `node`: who this is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Node {
    /// `name`, required. Letters, digits, `.`, `_` and `-`.
    pub name: String,
    /// `address`: the node's own unicast address, not shared with other nodes. Optional.
    pub address: Option<IpAddr>,
    /// `secret_file`: at least 16 bytes that all nodes of the fleet share, in a file that only its owner can read.
    /// `siplb run` needs it, `siplb check` does not.
    pub secret_file: Option<PathBuf>,
    /// `previous_secret_file`: the secret before this one, still accepted but no longer used to sign. Optional.
    pub previous_secret_file: Option<PathBuf>,
    /// `distribution_secret_file`: a secret that lookup tables are made from, so that they stay as they are when the other one is
    /// changed; default `secret_file`.
    pub distribution_secret_file: Option<PathBuf>,
}

/// `datapath`: how datagrams come in and leave.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Datapath {
    /// `mode`, default `auto`.
    pub mode: Mode,
    /// `interfaces`: devices that AF_XDP takes datagrams from; default none, needed for `mode: af-xdp`.
    pub interfaces: Vec<String>,
    /// `xdp`: how the XDP program is attached; default `auto`.
    pub xdp: WantedAttach,
    /// `zero_copy`, default `prefer`.
    pub zero_copy: ZeroCopy,
    /// `cpus`: the CPU of each worker, in order of the queues; default none: CPU 0, 1, 2 ...
    pub cpus: Vec<usize>,
    /// `workers`: number of workers of `mode: socket`; default one per CPU. AF_XDP has one per receive queue.
    pub workers: Option<usize>,
    /// `chunks`: UMEM chunks of each worker; default 8192. A datagram on its way takes one.
    pub chunks: u32,
    /// `ring`: length of each fill, RX, TX and completion ring, a power of two; default 2048.
    pub ring: u32,
    /// `pins`: transactions and calls in set-up that each worker remembers the backend of, 16 bytes each; default 262,144. Two for
    /// each call of the last minutes.
    pub pins: u32,
    /// `share_load`, default `auto`: whether a worker that is full hands frames to idle ones.
    pub share_load: ShareLoad,
    /// `pin_path`: directory in a BPF file system for the XDP program's link and maps; default
    /// `/sys/fs/bpf/siplb/NODE`, with `_` for each `.` of the name.
    pub pin_path: PathBuf,
    /// `stale_after`: how old a worker's heartbeat may be before its queue's datagrams go to the kernel; default
    /// 250 ms.
    pub stale_after: Duration,
    /// `debug_log`: the XDP program logs what it does with each packet; default false. Slow.
    pub debug_log: bool,
}

impl Datapath {
    /// Default of [`Datapath::chunks`].
    pub const DEFAULT_CHUNKS: u32 = 8192;
    /// Default of [`Datapath::ring`].
    pub const DEFAULT_RING: u32 = 2048;
    /// Default of [`Datapath::pins`].
    pub const DEFAULT_PINS: u32 = 1 << 18;
    /// Default of [`Datapath::stale_after`].
    pub const DEFAULT_STALE_AFTER: Duration = Duration::from_millis(250);
    /// [`Datapath::pin_path`] is a directory in here, named like the node, by default.
    pub const DEFAULT_PIN_PARENT: &str = "/sys/fs/bpf/siplb";
}

/// How datagrams come in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// `auto`: AF_XDP where it works, else the kernel's sockets.
    Auto,
    /// `af-xdp`: AF_XDP, or do not start.
    AfXdp,
    /// `socket`: the kernel's sockets alone.
    Socket,
}

/// `datapath.share_load`: whether a worker that is full hands frames to idle ones, call by call.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ShareLoad {
    /// `auto`: while it is full, and others are idle.
    #[default]
    Auto,
    /// `off`: each worker handles what comes to its own queue.
    Off,
}

impl ShareLoad {
    /// The name in the configuration.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Auto => "auto",
            Self::Off => "off",
        }
    }
}

/// How the XDP program is to be attached.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WantedAttach {
    /// `auto`: native where the driver can, else generic.
    Auto,
    /// `native`: in the driver, or not at all.
    Native,
    /// `generic`: after the kernel made a socket buffer; any driver, slower.
    Generic,
}

/// Whether AF_XDP sockets share memory with the NIC.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ZeroCopy {
    /// `prefer`: where the driver can, else copy.
    Prefer,
    /// `require`: or do not start.
    Require,
    /// `never`: copy.
    Never,
}

/// `listeners[]`: a VIP and port that messages arrive at and leave from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Listener {
    /// `name`, required and unique.
    pub name: String,
    /// `address`, required, and `port`, default 5060.
    pub address: SocketAddr,
    /// `nat`: `detect`, the indicators of far-end NAT that are looked for, and what is done when one matches: `fix`, and
    /// `max_expires`, 1 s to 24 h, how long a registration lasts at the most as far as the client is told; default none.
    pub nat: nat::Policy,
    /// `validate`: what becomes of requests from outside that are not well-formed; default off. Either a mode alone,
    /// with all checks, or `mode` and `checks`.
    pub validate: Option<Validate>,
    /// `ping_replies`, default `for-us`: which OPTIONS are answered here.
    pub ping_replies: PingReplies,
}

/// `listeners[].ping_replies`: which OPTIONS a listener answers with 200 itself. One with Max-Forwards 0 always is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum PingReplies {
    /// `for-us`: whose Request-URI is a listener without a user, whoever asks.
    #[default]
    ForUs,
    /// `all`: these, and every one from outside that belongs to no dialog and that no Route leads elsewhere.
    All,
    /// `off`: none; they go where any request goes.
    Off,
}

impl PingReplies {
    /// All of them, the default first.
    pub const ALL: [Self; 3] = [Self::ForUs, Self::All, Self::Off];

    /// The name in the configuration.
    pub const fn name(self) -> &'static str {
        match self {
            Self::ForUs => "for-us",
            Self::All => "all",
            Self::Off => "off",
        }
    }
}

/// `pools[]`: backends that share calls.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PoolConfig {
    /// `name`, required and unique.
    pub name: String,
    /// `strategy`, default `hash-call-id`, and `user_only`.
    pub strategy: Strategy,
    /// `backends`, at least one with a weight.
    pub backends: Vec<BackendConfig>,
    /// `health`: probes; default none.
    pub health: Option<HealthConfig>,
    /// `registration`, default `path`: how phones that register with this pool stay reachable. Either a mode alone, or `mode`
    /// and `supported_path`.
    pub registration: Registration,
    /// `client_address`, default `off`: how the backends learn where a datagram came from. A backend that is in several
    /// pools has one way.
    pub client_address: ClientAddress,
}

/// `pools[].registration`: how phones that register stay reachable through us.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Registration {
    /// `path`: a Path of ours (RFC 3327) leads to the phone.
    Path {
        /// `supported_path`, default true: what a phone registers says `Supported: path`, without which many registrars
        /// refuse a Path.
        supported_path: bool,
    },
    /// `contact`: the Contact becomes an address of ours, for registrars that know no Path.
    Contact,
    /// `off`: they are reached as their Contact says.
    Off,
}

impl Registration {
    /// [`Registration::Path`] as it is when nothing more is said.
    pub const PATH: Self = Self::Path {
        supported_path: true,
    };

    /// The name of the mode.
    pub fn name(self) -> &'static str {
        match self {
            Self::Path { .. } => "path",
            Self::Contact => "contact",
            Self::Off => "off",
        }
    }
}

impl Default for Registration {
    fn default() -> Self {
        Self::PATH
    }
}

/// `outbound`: calls that backends make, and other requests that they send without a flow token.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Outbound {
    /// `trusted`: networks whose hosts may send requests to the outside as backends do; default none.
    pub trusted: Vec<IpNet>,
    /// `topology`, default `keep`: whether the outside sees the addresses of backends.
    pub topology: Topology,
    /// `name_servers`: who is asked for the names that requests go to; default those of `/etc/resolv.conf`.
    pub name_servers: Vec<SocketAddr>,
}

/// `outbound.topology`: whether the outside sees the addresses of backends.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Topology {
    /// `keep`: header fields of backends stay as they are.
    #[default]
    Keep,
    /// `hide`: their Via, Record-Route and Contact are replaced by what only we can read.
    Hide,
}

/// `pools[].health`: how the backends of a pool are probed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HealthConfig {
    /// `interval`, 1 s to 1 min, default 2 s: time between two probes of a backend, more or less a tenth.
    pub interval: Duration,
    /// `timeout`, 100 ms to 30 s and not above the interval, default 1 s: how long the answer to a probe may take.
    pub timeout: Duration,
    /// `fall`, default 3: probes in a row that fail before a backend is unhealthy.
    pub fall: u32,
    /// `rise`, default 2: probes in a row that succeed before it is healthy again.
    pub rise: u32,
    /// `slow_start`, up to 10 min, default 10 s: time over which a backend that has recovered gets its weight back; 0s for
    /// at once.
    pub slow_start: Duration,
}

impl Default for HealthConfig {
    fn default() -> Self {
        Self {
            interval: Duration::from_secs(2),
            timeout: Duration::from_secs(1),
            fall: 3,
            rise: 2,
            slow_start: Duration::from_secs(10),
        }
    }
}

/// `pools[].backends[]`: a SIP server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BackendConfig {
    /// `name`, required and unique over all pools.
    pub name: String,
    /// `address`, required: `IP:PORT`.
    pub address: SocketAddr,
    /// `weight`, 0 to 65535, default 1: share relative to the others of its priority; 0 takes no new calls.
    pub weight: u16,
    /// `priority`, 0 to 65535, default 0: the lowest one that has a usable backend takes all calls of the pool.
    pub priority: u16,
    /// `cps`, default none: calls that it gets in a second; what is above goes to its next best.
    pub cps: Option<u32>,
}

/// `routes[]`: which pool a request without a flow token goes to. Without `routes`, and with one pool, everything
/// goes there. All that a rule names must match.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RouteConfig {
    /// `method`: only requests with this method; default any. CANCEL and ACK follow the INVITE.
    pub method: Option<String>,
    /// `listener`: only requests that arrive here, an index into [`Config::listeners`]; default any.
    pub listener: Option<usize>,
    /// `source`: only requests from these networks; default any.
    pub source: Vec<IpNet>,
    /// `request_uri_user`: only requests whose Request-URI has a user that begins with this; default any.
    pub request_uri_user: Option<String>,
    /// `request_uri_domain`: only requests whose Request-URI has this host, in any case; default any.
    pub request_uri_domain: Option<String>,
    /// `from_domain`: only requests whose From URI has this host, in any case; default any.
    pub from_domain: Option<String>,
    /// `to_domain`: only requests whose To URI has this host, in any case; default any.
    pub to_domain: Option<String>,
    /// `user_agent`: only requests whose User-Agent begins with this; default any.
    pub user_agent: Option<String>,
    /// `pool`, required: an index into [`Config::pools`].
    pub pool: usize,
    /// `strategy` and `user_only`: take the place of the pool's; default those of the pool.
    pub strategy: Option<Strategy>,
    /// `nat`: takes the place of [`Listener::nat`] for the messages that the rule matches by method, listener and source,
    /// those in a dialog included; default that of the listener. Not for rules that look at more.
    pub nat: Option<nat::Policy>,
    /// `cps`, default none: calls that this rule sends on in a second.
    pub cps: Option<u32>,
}

impl RouteConfig {
    /// The rule that sends everything to a pool.
    pub fn everything_to(pool: usize) -> Self {
        Self {
            method: None,
            listener: None,
            source: Vec::new(),
            request_uri_user: None,
            request_uri_domain: None,
            from_domain: None,
            to_domain: None,
            user_agent: None,
            pool,
            strategy: None,
            nat: None,
            cps: None,
        }
    }

    /// What it looks at besides method and listener, for people: nothing, or text that begins with a blank.
    pub fn conditions(&self) -> String {
        let mut text = String::new();
        if !self.source.is_empty() {
            let networks = self
                .source
                .iter()
                .map(ToString::to_string)
                .collect::<Vec<_>>();
            text += &format!(" from {}", networks.join(" or "));
        }
        for (what, value) in [
            ("Request-URI user begins with", &self.request_uri_user),
            ("Request-URI domain is", &self.request_uri_domain),
            ("From domain is", &self.from_domain),
            ("To domain is", &self.to_domain),
            ("User-Agent begins with", &self.user_agent),
        ] {
            if let Some(value) = value {
                text += &format!(", {what} {value:?}");
            }
        }
        text
    }

    /// True when it looks at more than every message of a dialog has: method, listener and source.
    pub fn looks_at_text(&self) -> bool {
        let texts = [
            &self.request_uri_user,
            &self.request_uri_domain,
            &self.from_domain,
            &self.to_domain,
            &self.user_agent,
        ];
        texts.into_iter().any(Option::is_some)
    }
}

/// `limits`: calls per second.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Limits {
    /// `cps`, default none: calls that the node sends on in a second.
    pub cps: Option<u32>,
    /// `on_breach`, default 503: what becomes of a call above a limit.
    pub on_breach: OnBreach,
    /// `retry_after`, 1 s to 1 h, default none: what Retry-After of such an answer says, with some chance so that not all come
    /// back at once.
    pub retry_after: Option<Duration>,
    /// `silence_after`, default 100: calls of one source address that are refused within ten seconds before it gets no answer any
    /// more, for the rest of them; 0 for never.
    pub silence_after: u32,
    /// `sources`: limits of networks; the longest prefix counts.
    pub sources: Vec<SourceLimit>,
}

impl Limits {
    /// Default of [`Limits::silence_after`].
    pub const DEFAULT_SILENCE_AFTER: u32 = 100;
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            cps: None,
            on_breach: OnBreach::Status(503),
            retry_after: None,
            silence_after: Self::DEFAULT_SILENCE_AFTER,
            sources: Vec::new(),
        }
    }
}

/// `limits.on_breach`: what becomes of a call above a limit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OnBreach {
    /// Answered with this status, 400 to 699.
    Status(u16),
    /// `silence`: dropped.
    Silence,
}

/// `limits.sources[]`: the calls of a network.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SourceLimit {
    /// `network`, required and unique.
    pub network: IpNet,
    /// `cps`, required: calls in a second from all its addresses together.
    pub cps: u32,
}

/// `nat`: what holds for all NAT policies.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Nat {
    /// `private`: networks that count as private besides those of RFC 1918, RFC 6598 and loopback; default none.
    pub private: Vec<IpNet>,
}

/// `announce`: how the network learns that the node serves the VIPs, and that it does not.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Announce {
    /// `device`: where the VIPs are put while the node can serve, such as `lo`; default none: somebody else puts them there.
    pub device: Option<String>,
    /// `required`: pools that must have a backend which takes calls, as indices into [`Config::pools`]; default all that a
    /// route leads to.
    pub required: Vec<usize>,
    /// `grace`, up to 10 min, default 5 s: how long a node that leaves goes on with what still comes.
    pub grace: Duration,
    /// `hook`: a program that is called with `announce` or `withdraw`; default none.
    pub hook: Option<PathBuf>,
}

impl Announce {
    /// Default of [`Announce::grace`].
    pub const DEFAULT_GRACE: Duration = Duration::from_secs(5);
}

/// `control`: how the command line reaches the running node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Control {
    /// `socket`, default `/run/siplb/control.sock`.
    pub socket: PathBuf,
    /// `state_file`, default none: where it is kept across restarts which backends the operator drained or disabled.
    pub state_file: Option<PathBuf>,
}

impl Control {
    /// Default of [`Control::socket`].
    pub const DEFAULT_SOCKET: &str = "/run/siplb/control.sock";
}

/// `stats`: where the workers count.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stats {
    /// `file`, default `/run/siplb/stats`.
    pub file: PathBuf,
}

impl Stats {
    /// Default of [`Stats::file`].
    pub const DEFAULT_FILE: &str = "/run/siplb/stats";
}

/// `metrics`: metrics and JSON over HTTP.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Metrics {
    /// `listen`, default none: the TCP address and port that answers. 0.0.0.0 and :: are all addresses of the host.
    pub listen: Option<SocketAddr>,
}

/// Reads and checks a configuration file and the secret files that it names.
///
/// # Errors
/// Everything that is wrong with it, as far as it can be found at once.
pub fn load(path: &Path) -> Result<Config, ConfigError> {
    let file_name = path.display().to_string();
    let text = read(path).map_err(|what| ConfigError::whole_file(&file_name, what))?;
    let (mut config, mut problems) = check::check(&text, &file_name)?;
    let keys = secret::keys(&config.node, &mut problems);
    if let Some(hep) = &mut config.hep {
        hep.password = secret::password(hep, &mut problems);
    }
    match keys {
        Some(keys) if problems.is_empty() => {
            config.keys = keys;
            Ok(config)
        }
        _ => Err(problems.into_error()),
    }
}

/// Checks a configuration without touching the file system: [`Config::keys`] are of an empty secret.
///
/// # Errors
/// Everything that is wrong with the text, as far as it can be found at once. `file_name` is for the messages.
pub fn parse(text: &str, file_name: &str) -> Result<Config, ConfigError> {
    check::check(text, file_name).map(|(config, _)| config)
}

/// Reads and checks a configuration file, but not the secret files that it names, which not everybody can read:
/// [`Config::keys`] are of an empty secret.
///
/// # Errors
/// Everything that is wrong with it, as far as it can be found at once.
pub fn load_without_secrets(path: &Path) -> Result<Config, ConfigError> {
    let file_name = path.display().to_string();
    let text = read(path).map_err(|what| ConfigError::whole_file(&file_name, what))?;
    parse(&text, &file_name)
}

fn read(path: &Path) -> Result<String, String> {
    use std::io::Read;

    let cannot = |error: std::io::Error| format!("cannot be read: {error}");
    let mut bytes = Vec::new();
    std::fs::File::open(path)
        .map_err(cannot)?
        .take(MAX_FILE + 1)
        .read_to_end(&mut bytes)
        .map_err(cannot)?;
    if bytes.len() as u64 > MAX_FILE {
        return Err(format!(
            "is longer than {MAX_FILE} bytes; name a configuration file"
        ));
    }
    String::from_utf8(bytes).map_err(|error| {
        format!(
            "is not UTF-8 at byte {}; name a configuration file",
            error.utf8_error().valid_up_to()
        )
    })
}

#[cfg(test)]
mod tests;
