//! What is measured, one after the other in the same lab.

use std::{fs, net::UdpSocket, path::Path, process::Command, time::Duration};

use anyhow::{Context, Result, ensure};
use siplb_lab::{
    Family, Lab, Siplb,
    process::Process,
    siplb::{DataPath, Options},
    until, which,
};

use crate::{DRIVER_CPU, WORKER_CPU, messages::Ends};

const TIMEOUT: Duration = Duration::from_secs(10);
/// All seven indicators that others have, all fixes, limits that count every call, and probes.
const ALL_NAT: &str = "{ detect: [contact-private, received, via-private, sdp-private, via-port, contact-address, \
                       contact-port], fix: [rport, contact, sdp] }";
const LIMITS: &str =
    "limits: { cps: 1000000, sources: [ { network: 198.51.100.0/24, cps: 1000000 } ] }\n";

/// Metrics, and a tenth of the calls for a collector on the same host: what leaves it is counted.
const WATCHED: &str = "metrics: { listen: \"127.0.0.1:9464\" }\nhep: { collector: \"127.0.0.1:9060\", sample: 0.1 }\n";
/// That collector, which reads nothing: the kernel drops what its socket has no room for.
const COLLECTOR: &str = "127.0.0.1:9060";
/// What asks a watched node: for its metrics each second, for what changed, and for a trace of all that the limit lets it copy.
const WATCHERS: [(&str, &[&str]); 3] = [
    ("fleet", &["fleet", "--watch=1", "127.0.0.1:9464"]),
    ("events", &["events", "--watch"]),
    ("trace", &["trace", "--pcap", "/dev/null"]),
];

/// A stateless proxy that does what siplb does with a plain configuration, and nothing else.
const KAMAILIO: &str = r##"#!KAMAILIO
listen=udp:@VIP@
children=1
disable_tcp=yes
auto_aliases=no
log_stderror=yes
loadmodule "sl.so"
loadmodule "rr.so"
loadmodule "maxfwd.so"
loadmodule "pv.so"
loadmodule "siputils.so"
loadmodule "dispatcher.so"
modparam("dispatcher", "list_file", "@LIST@")
request_route {
    if (!mf_process_maxfwd_header("70")) {
        sl_send_reply("483", "Too Many Hops");
        exit;
    }
    force_rport();
    if (has_totag()) {
        loose_route();
        forward();
        exit;
    }
    record_route();
    if (!ds_select_dst("1", "0")) {
        sl_send_reply("503", "Service Unavailable");
        exit;
    }
    forward();
}
"##;

/// One of those that are compared.
#[derive(Clone, Debug)]
pub struct Contender {
    /// The name on the command line and in tables.
    pub name: String,
    /// What it is.
    pub what: What,
    /// Frames that it gets before it is measured.
    pub warm_up: u64,
    /// Bytes of its INVITE.
    pub invite_bytes: usize,
    /// Whether everything that looks at it does so meanwhile.
    pub is_watched: bool,
    /// Receive queues of the lab that it runs in.
    pub queues: u32,
}

/// What a contender is.
#[derive(Clone, Debug)]
pub enum What {
    /// See [`crate::bare`].
    Bare,
    /// siplb with a configuration.
    Siplb(Box<Options>),
    /// Kamailio.
    Kamailio,
}

impl Contender {
    fn new(name: &str, what: What) -> Self {
        Self {
            name: name.to_owned(),
            what,
            warm_up: 0,
            invite_bytes: 765,
            is_watched: false,
            queues: 1,
        }
    }

    fn siplb(name: &str, data_path: DataPath, change: impl FnOnce(&mut Options)) -> Self {
        let mut options = Options {
            families: vec![Family::V4],
            more_data_path: format!(", cpus: [{WORKER_CPU}]"),
            ..Options::new(data_path)
        };
        change(&mut options);
        Self::new(name, What::Siplb(Box::new(options)))
    }

    /// Those that are compared.
    pub fn all() -> Vec<Self> {
        vec![
            Self::siplb("plain", DataPath::Native, |_| ()),
            Self::new("bare", What::Bare),
            Self::siplb("full", DataPath::Native, |options| {
                options.nat = ALL_NAT.into();
                options.pool = "health: {}".into();
                options.rest = LIMITS.into();
            }),
            Self {
                is_watched: true,
                ..Self::siplb("watched", DataPath::Native, |options| {
                    options.rest = WATCHED.into();
                })
            },
            Self::siplb("socket", DataPath::Socket, |_| ()),
            Self::new("kamailio", What::Kamailio),
        ]
    }

    /// How the cost grows: siplb with more of one thing.
    pub fn growth() -> Vec<Self> {
        let pins = |name: &str, pins: u64| {
            let mut contender = Self::siplb(name, DataPath::Native, |options| {
                options.more_data_path += &format!(", pins: {pins}");
            });
            // Until all are taken.
            contender.warm_up = pins * 5 / 4;
            contender
        };
        let rules = |name: &str, count: usize| {
            Self::siplb(name, DataPath::Native, |options| {
                options.rules_before = (0..count)
                    .map(|number| {
                        format!("{{ request_uri_user: \"9{number:05}\", pool: switches-v4 }}")
                    })
                    .collect();
            })
        };
        let backends = |name: &str, count: usize| {
            Self::siplb(name, DataPath::Native, |options| {
                options.idle_backends = count;
            })
        };
        let size = |name: &str, bytes: usize| Self {
            invite_bytes: bytes,
            ..Self::siplb(name, DataPath::Native, |_| ())
        };
        vec![
            pins("pins-1k", 1 << 10),
            pins("pins-1M", 1 << 20),
            pins("pins-10M", 10_000_000),
            backends("backends-100", 97),
            backends("backends-1000", 997),
            rules("rules-10", 10),
            rules("rules-100", 100),
            size("invite-600", 600),
            size("invite-1000", 1000),
            size("invite-1300", 1300),
        ]
    }

    /// One trunk, all of which meets the first of two workers; the second one shares the driver's processor with what makes the
    /// frames. With and without handing over.
    pub fn trunk() -> Vec<Self> {
        ["auto", "off"]
            .map(|share_load| {
                let name = format!("trunk-{share_load}");
                let mut contender = Self::siplb(&name, DataPath::Native, |options| {
                    options.more_data_path =
                        format!(", cpus: [{WORKER_CPU}, {DRIVER_CPU}], share_load: {share_load}");
                });
                contender.queues = 2;
                contender
            })
            .into()
    }

    /// Whether frames can be made for it as fast as possible. What reads from the kernel's sockets would lose its time
    /// to the kernel's dropping; it gets as much as it can take.
    pub fn takes_a_flood(&self) -> bool {
        match &self.what {
            What::Bare => true,
            What::Siplb(options) => options.data_path == DataPath::Native,
            What::Kamailio => false,
        }
    }

    /// Whether its programs are installed.
    pub fn is_there(&self) -> bool {
        !matches!(self.what, What::Kamailio) || which("kamailio").is_some()
    }

    /// Starts it; it is ready when this returns.
    ///
    /// # Errors
    ///
    /// When it does not start.
    pub fn start(&self, lab: &Lab, ends: &Ends) -> Result<Running> {
        match &self.what {
            What::Bare => bare(lab, ends).map(Running::Program),
            What::Siplb(options) => {
                let collector = match self.is_watched {
                    true => Some(lab.edge.enter(|| UdpSocket::bind(COLLECTOR))??),
                    false => None,
                };
                let siplb = Siplb::start(lab, options)?;
                let watchers = if self.is_watched { &WATCHERS[..] } else { &[] };
                let watchers = watchers.iter().map(|(name, arguments)| {
                    let command = match *name {
                        // It knows nodes by their addresses.
                        "fleet" => {
                            let mut command = Command::new(siplb_lab::siplb::binary()?);
                            command.args(*arguments);
                            command
                        }
                        _ => siplb.client().command(arguments)?,
                    };
                    lab.spawn(&lab.edge, name, command)
                });
                let watchers = watchers.collect::<Result<_>>()?;
                Ok(Running::Siplb(Box::new(siplb), watchers, collector))
            }
            What::Kamailio => kamailio(lab).map(Running::Program),
        }
    }
}

/// A contender that runs.
pub enum Running {
    /// siplb, who watches it, and the collector.
    Siplb(Box<Siplb>, Vec<Process>, Option<UdpSocket>),
    /// Another program.
    Program(Process),
}

impl Running {
    /// The process, and for siplb the thread that is measured.
    pub fn process(&mut self) -> &mut Process {
        match self {
            Self::Siplb(siplb, ..) => siplb.process(),
            Self::Program(process) => process,
        }
    }

    /// Ends it.
    ///
    /// # Errors
    ///
    /// When it does not end.
    pub fn stop(&mut self) -> Result<()> {
        if let Self::Siplb(_, watchers, collector) = self {
            for watcher in watchers.iter_mut() {
                ensure!(
                    watcher.is_running(),
                    "{} has ended: {}",
                    watcher.name(),
                    watcher.output()
                );
            }
            watchers.clear();
            drop(collector.take());
        }
        self.process().stop().map(drop)
    }
}

fn bare(lab: &Lab, ends: &Ends) -> Result<Process> {
    let hex = |mac: [u8; 6]| mac.map(|byte| format!("{byte:02x}")).concat();
    let mac = |host, interface| siplb_lab::frame::Wire::open(host, interface)?.mac();
    let mut command = Command::new(std::env::current_exe()?);
    command
        .arg("bare")
        .args(["--vip", &ends.vip.to_string()])
        .args(["--source", &hex(mac(&lab.edge, "inside")?)])
        .args(["--destination", &hex(mac(&lab.servers, "eth0")?)])
        .args(["--cpu", &WORKER_CPU.to_string()])
        .arg("--pins")
        .arg(lab.pin_dir());
    let mut process = lab.spawn(&lab.edge, "bare", command)?;
    ready(&mut process, |output| output.contains("ready"))?;
    Ok(process)
}

fn kamailio(lab: &Lab) -> Result<Process> {
    let put = |name: &str, text: &str| -> Result<std::path::PathBuf> {
        let path = lab.dir().join(name);
        fs::write(&path, text).with_context(|| format!("cannot write {path:?}"))?;
        Ok(path)
    };
    let servers = (0..3).map(|number| format!("1 sip:{}\n", lab.server(Family::V4, number)));
    let list = put("dispatcher.list", &servers.collect::<String>())?;
    let text = KAMAILIO
        .replace("@VIP@", &lab.vip(Family::V4).to_string())
        .replace("@LIST@", utf8(&list)?);
    let configuration = put("kamailio.cfg", &text)?;
    let mut command = Command::new("taskset");
    // Its default allocator is several times slower.
    command
        .args(["-c", &WORKER_CPU.to_string(), "kamailio", "-DD", "-E"])
        .args(["-x", "fm", "-X", "fm", "-m", "256", "-M", "64", "-f"])
        .arg(&configuration)
        .arg("-Y")
        .arg(lab.dir());
    command.arg("-P").arg(lab.dir().join("kamailio.pid"));
    let mut process = lab.spawn(&lab.edge, "kamailio", command)?;
    let vip = lab.vip(Family::V4).to_string();
    let found = until("Kamailio to listen", TIMEOUT, || {
        if !process.is_running() {
            return Some(false);
        }
        let sockets = lab.edge.run("ss", "-Huln").unwrap_or_default();
        sockets.contains(&vip).then_some(true)
    })?;
    ensure!(found, "Kamailio has ended:\n{}", process.output());
    Ok(process)
}

fn ready(process: &mut Process, says: impl Fn(&str) -> bool) -> Result<()> {
    let name = process.name().to_owned();
    let found = until(&format!("{name} to be ready"), TIMEOUT, || {
        if !process.is_running() {
            return Some(false);
        }
        says(&process.output()).then_some(true)
    })?;
    ensure!(found, "{name} has ended:\n{}", process.output());
    Ok(())
}

fn utf8(path: &Path) -> Result<&str> {
    path.to_str().context("a path that is not UTF-8")
}
