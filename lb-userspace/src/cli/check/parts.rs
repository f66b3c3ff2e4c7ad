//! Sections that stand for themselves: limits, outbound calls, far-end NAT, the data path.

use serde::Serialize;

use super::Meaning;
use crate::{
    cli::output::{Align, Grid, grouped, span},
    config::{
        Config, Hep, Limits, Mode, OnBreach, Outbound, ShareLoad, Topology, WantedAttach, ZeroCopy,
    },
    nat::Policy,
};

#[derive(Debug, Serialize)]
pub(super) struct NatMeaning {
    detect: Vec<&'static str>,
    fix: Vec<&'static str>,
    /// Seconds; `null` for as long as the registrar says.
    max_expires_s: Option<u32>,
}

#[derive(Debug, Serialize)]
pub(super) struct OutboundMeaning {
    trusted: Vec<String>,
    /// `keep` or `hide`.
    topology: &'static str,
    /// None: those of /etc/resolv.conf.
    name_servers: Vec<String>,
}

#[derive(Debug, Serialize)]
pub(super) struct LimitsMeaning {
    cps: Option<u32>,
    /// A status, or `silence`.
    on_breach: String,
    retry_after_s: Option<u64>,
    silence_after: u32,
    sources: Vec<SourceMeaning>,
}

#[derive(Debug, Serialize)]
pub(super) struct SourceMeaning {
    network: String,
    cps: u32,
}

impl LimitsMeaning {
    pub(super) fn new(limits: &Limits) -> Self {
        Self {
            cps: limits.cps,
            on_breach: match limits.on_breach {
                OnBreach::Status(status) => status.to_string(),
                OnBreach::Silence => "silence".to_owned(),
            },
            retry_after_s: limits.retry_after.map(|time| time.as_secs()),
            silence_after: limits.silence_after,
            sources: limits
                .sources
                .iter()
                .map(|source| SourceMeaning {
                    network: source.network.to_string(),
                    cps: source.cps,
                })
                .collect(),
        }
    }

    /// Nothing without limits.
    pub(super) fn text(&self, heading: &str) -> String {
        let mut grid = Grid::new(&[Align::Left, Align::Right]);
        let limits = self.cps.map(|cps| ("node".to_owned(), cps));
        let sources = self
            .sources
            .iter()
            .map(|source| (source.network.clone(), source.cps));
        let limits = limits.into_iter().chain(sources).collect::<Vec<_>>();
        if limits.is_empty() {
            return String::new();
        }
        for (name, cps) in limits {
            grid.row([name, grouped(cps.into())]);
        }
        let answer = match (self.on_breach.as_str(), self.retry_after_s) {
            ("silence", _) => "no answer".to_owned(),
            (status, None) => status.to_owned(),
            (status, Some(seconds)) => {
                format!(
                    "{status} with Retry-After of {seconds} to {} s",
                    2 * seconds
                )
            }
        };
        let silence = match self.silence_after {
            0 => String::new(),
            calls => format!(
                ", and silence after {} of one source in ten seconds",
                grouped(calls.into())
            ),
        };
        heading.to_owned() + &grid.render("  ") + &format!("  above it: {answer}{silence}\n")
    }
}

impl OutboundMeaning {
    pub(super) fn new(outbound: &Outbound) -> Self {
        let servers = outbound.name_servers.iter();
        Self {
            trusted: outbound.trusted.iter().map(ToString::to_string).collect(),
            topology: match outbound.topology {
                Topology::Keep => "keep",
                Topology::Hide => "hide",
            },
            name_servers: servers.map(ToString::to_string).collect(),
        }
    }

    pub(super) fn grid(&self) -> Grid {
        let mut grid = Grid::new(&[Align::Left, Align::Left]);
        let trusted = match self.trusted.as_slice() {
            [] => "nobody else".to_owned(),
            trusted => trusted.join(", "),
        };
        grid.row(["trusted as well", &trusted]);
        let topology = match self.topology {
            "hide" => "hide: the outside sees no address of theirs",
            _ => "keep: the outside sees their Via, Record-Route and Contact",
        };
        grid.row(["topology", topology]);
        let servers = match self.name_servers.as_slice() {
            [] => "those of /etc/resolv.conf".to_owned(),
            servers => servers.join(", "),
        };
        grid.row(["name servers", &servers]);
        grid
    }
}

/// `hep`, if there is any.
#[derive(Debug, Serialize)]
pub(super) struct HepMeaning {
    collector: String,
    sample: f64,
    id: u32,
    has_password: bool,
}

impl HepMeaning {
    pub(super) fn new(hep: &Hep) -> Self {
        Self {
            collector: hep.collector.to_string(),
            sample: hep.sample,
            id: hep.id,
            has_password: hep.password_file.is_some(),
        }
    }

    pub(super) fn text(&self) -> String {
        let share = 100.0 * self.sample;
        format!(
            "{share} % of all calls to {}, as node {}",
            self.collector, self.id
        )
    }
}

impl NatMeaning {
    pub(super) fn new(policy: Policy) -> Self {
        Self {
            detect: policy.detect.names().collect(),
            fix: policy.fix.names().collect(),
            max_expires_s: policy.max_expires,
        }
    }

    fn row(&self, grid: &mut Grid, whose: String) {
        let expires = self
            .max_expires_s
            .map(|seconds| format!("registrations of {seconds} s at most"));
        let fixes = self.fix.iter().map(|fix| (*fix).to_owned());
        let done = fixes.chain(expires).collect::<Vec<_>>();
        let (detect, done) = match (self.detect.as_slice(), done.as_slice()) {
            ([], _) => ("looks for nothing".to_owned(), String::new()),
            (detect, []) => (detect.join(", "), "-> count only".to_owned()),
            (detect, done) => (detect.join(", "), format!("-> {}", done.join(", "))),
        };
        grid.row([whose, detect, done]);
    }
}

/// Nothing where nobody looks for a NAT.
pub(super) fn nat(meaning: &Meaning, heading: &str) -> String {
    let mut grid = Grid::new(&[Align::Left, Align::Left, Align::Left]);
    let mut rows = 0;
    for listener in meaning
        .listeners
        .iter()
        .filter(|listener| !listener.nat.detect.is_empty())
    {
        listener
            .nat
            .row(&mut grid, format!("listener {}", listener.name));
        rows += 1;
    }
    for (index, route) in meaning.routes.iter().enumerate() {
        if let Some(nat) = &route.nat {
            nat.row(&mut grid, format!("route {}", index + 1));
            rows += 1;
        }
    }
    if rows == 0 {
        return String::new();
    }
    let mut text = heading.to_owned() + &grid.render("  ");
    if !meaning.nat_private.is_empty() {
        let networks = meaning.nat_private.join(", ");
        text += &format!("  also private: {networks}\n");
    }
    text
}

pub(super) fn datapath(config: &Config) -> Grid {
    let datapath = &config.datapath;
    let interfaces = datapath.interfaces.join(", ");
    let mut grid = Grid::new(&[Align::Left, Align::Left]);
    let mode = match datapath.mode {
        Mode::Socket => "socket: the kernel's sockets alone".to_owned(),
        Mode::Auto if interfaces.is_empty() => {
            "auto: the kernel's sockets, because no interfaces are named".to_owned()
        }
        Mode::Auto => {
            format!("auto: AF_XDP on {interfaces}, or the kernel's sockets where that fails")
        }
        Mode::AfXdp => format!("af-xdp: AF_XDP on {interfaces}, or no start"),
    };
    let with_af_xdp = datapath.mode != Mode::Socket && !interfaces.is_empty();
    grid.row(["mode", &mode]);
    if with_af_xdp {
        let xdp = match datapath.xdp {
            WantedAttach::Auto => "auto: native where the driver can, else generic",
            WantedAttach::Native => "native, or not at all",
            WantedAttach::Generic => "generic",
        };
        grid.row(["XDP program", xdp]);
        let zero_copy = match datapath.zero_copy {
            ZeroCopy::Prefer => "prefer: where the driver can, else copy",
            ZeroCopy::Require => "require, or not at all",
            ZeroCopy::Never => "never: copy",
        };
        grid.row(["zero copy", zero_copy]);
    }
    let cpus = match datapath.cpus.as_slice() {
        [] => "one each, from CPU 0 on".to_owned(),
        cpus => {
            let cpus = cpus.iter().map(usize::to_string).collect::<Vec<_>>();
            format!("in this order: {}", cpus.join(", "))
        }
    };
    let workers = match datapath.workers {
        _ if with_af_xdp => "one for each receive queue".to_owned(),
        Some(workers) => workers.to_string(),
        None => "one for each CPU".to_owned(),
    };
    grid.row(["workers", &workers]);
    grid.row(["CPUs", &cpus]);
    if with_af_xdp {
        let memory = format!(
            "{} chunks, rings of {}",
            grouped(datapath.chunks.into()),
            datapath.ring
        );
        grid.row(["per worker", &memory]);
        grid.row([
            "full worker",
            match datapath.share_load {
                ShareLoad::Auto => "hands calls over to idle ones",
                ShareLoad::Off => "keeps what comes to its queue",
            },
        ]);
        let stale = match datapath.stale_after {
            time if time.subsec_millis() == 0 => span(time),
            time => format!("{} ms", time.as_millis()),
        };
        grid.row([
            "watchdog",
            &format!("to the kernel after {stale} without a heartbeat"),
        ]);
        grid.row(["pinned in", &datapath.pin_path.display().to_string()]);
    }
    if datapath.debug_log {
        grid.row(["debug log", "on: every packet, slow"]);
    }
    grid
}
