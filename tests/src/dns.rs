//! dnsmasq as the name server of a carrier.

use std::{
    fmt::Write,
    net::{IpAddr, SocketAddr},
    process::Command,
    time::Duration,
};

use anyhow::{Context, Result, bail};

use crate::{host::Host, lab::Lab, process::Process, wait::until};

/// What a name server knows of one domain: nothing else is answered.
#[derive(Clone, Debug)]
pub struct Zone {
    domain: String,
    records: String,
}

impl Zone {
    /// An empty one.
    pub fn new(domain: &str) -> Self {
        Self {
            domain: domain.into(),
            records: format!("local=/{domain}/\n"),
        }
    }

    /// A NAPTR record of the domain itself: SIP over UDP, whose servers are at the SRV records of `_sip._udp`.
    pub fn sip_over_udp(mut self, order: u16, preference: u16) -> Self {
        let domain = &self.domain;
        // Writing to a string does not fail.
        let _ = writeln!(
            self.records,
            "naptr-record={domain},{order},{preference},s,SIP+D2U,,_sip._udp.{domain}"
        );
        self
    }

    /// An SRV record of `_sip._udp`; `target` is a label in the domain.
    pub fn server(mut self, priority: u16, weight: u16, target: &str, port: u16) -> Self {
        let domain = &self.domain;
        let _ = writeln!(
            self.records,
            "srv-host=_sip._udp.{domain},{target}.{domain},{port},{priority},{weight}"
        );
        self
    }

    /// An A or AAAA record of a label in the domain, or of the domain itself when it is empty.
    pub fn address(mut self, label: &str, address: IpAddr) -> Self {
        let domain = &self.domain;
        let dot = if label.is_empty() { "" } else { "." };
        let _ = writeln!(self.records, "host-record={label}{dot}{domain},{address}");
        self
    }
}

/// A running dnsmasq.
#[derive(Debug)]
pub struct Dns {
    process: Process,
}

impl Dns {
    /// Starts a name server in `host` that knows `zone` and asks nobody; it is ready when this returns.
    ///
    /// # Errors
    ///
    /// When it ends, or does not listen within seconds.
    pub fn start(lab: &Lab, host: &Host, address: SocketAddr, zone: &Zone) -> Result<Self> {
        let file = lab.dir().join(format!("{}.dns", zone.domain));
        let text = format!(
            "no-resolv\nno-hosts\nno-poll\nbind-interfaces\nlisten-address={}\nport={}\nuser=root\nlog-queries\n{}",
            address.ip(),
            address.port(),
            zone.records
        );
        std::fs::write(&file, text).with_context(|| format!("cannot write {file:?}"))?;
        let mut command = Command::new("dnsmasq");
        command.args(["--keep-in-foreground", "--log-facility=-", "--pid-file="]);
        command.arg(format!("--conf-file={}", file.display()));
        let name = format!("dns-{}", zone.domain);
        let mut process = lab.spawn(host, &name, command)?;
        let started = until("dnsmasq to start", Duration::from_secs(10), || {
            if process.output().contains(": started, ") {
                return Some(true);
            }
            (!process.is_running()).then_some(false)
        })?;
        if !started {
            bail!("dnsmasq has ended: {}", process.output());
        }
        Ok(Self { process })
    }

    /// What it was asked for so far, such as `NAPTR carrier.test`.
    pub fn queries(&self) -> Vec<String> {
        let output = self.process.output();
        let lines = output.lines().filter_map(|line| {
            let (_, query) = line.split_once("query[")?;
            let (kind, rest) = query.split_once("] ")?;
            Some(format!("{kind} {}", rest.split(' ').next()?))
        });
        lines.collect()
    }

    /// The program itself.
    pub fn process(&mut self) -> &mut Process {
        &mut self.process
    }
}
