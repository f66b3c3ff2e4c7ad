//! The labs themselves: which hosts, which wires, which addresses.

use std::{
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    path::{Path, PathBuf},
    process::Command,
    sync::atomic::{AtomicU32, Ordering},
};

use anyhow::{Context, Result};

use crate::{
    host::{self, Host},
    process::Process,
};

/// How the edge host is wired.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shape {
    /// One interface towards the clients and one towards the servers, everybody a neighbour.
    TwoArmed,
    /// One interface for everything, and a router between it and everybody else.
    OneArmed,
    /// As [`Shape::TwoArmed`], but the client is at home, as is a neighbour: behind a router that masquerades them, IPv4 alone.
    Home,
    /// As [`Shape::Home`] for phones, and more: several edges behind a router that spreads calls over them. Raised by
    /// [`Fleet::raise`](crate::fleet::Fleet::raise), which wires it.
    Fleet,
}

impl Shape {
    fn has_home(self) -> bool {
        matches!(self, Self::Home | Self::Fleet)
    }
}

/// IP version.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Family {
    /// IPv4
    V4,
    /// IPv6
    V6,
}

/// How many addresses the servers' host has.
pub const SERVERS: usize = 4;
/// SIP's port, which listeners and servers use.
pub const PORT: u16 = 5060;
const PREFIX: &str = "siplb-";
/// Marks the directory of a lab that is meant to outlive its maker.
const KEPT: &str = "kept";

/// Several labs of one process.
static RAISED: AtomicU32 = AtomicU32::new(0);

/// Hosts, wires and addresses; everything is gone when it is dropped.
#[derive(Debug)]
pub struct Lab {
    /// How the edge is wired.
    pub shape: Shape,
    /// Receive queues of every interface.
    pub queues: u32,
    /// Where calls come from.
    pub client: Host,
    /// Where siplb runs; in a fleet the first of several.
    pub edge: Host,
    /// Where the SIP servers run, one address each.
    pub servers: Host,
    /// Where a second phone is, in a lab with a home.
    pub neighbour: Option<Host>,
    /// Joins the three in a one-armed lab, and masquerades the clients in one with a home.
    pub router: Option<Host>,
    /// The edge's interfaces.
    pub interfaces: Vec<String>,
    dir: PathBuf,
    name: String,
    kept: bool,
}

impl Lab {
    /// Raises a lab. Removes first what dead labs have left behind.
    ///
    /// # Errors
    ///
    /// When a namespace, an interface or an address cannot be made; what was made is removed again.
    pub fn new(shape: Shape, queues: u32) -> Result<Self> {
        remove_dead_labs();
        let number = RAISED.fetch_add(1, Ordering::Relaxed);
        let mut name = format!("{PREFIX}{}", std::process::id());
        if number > 0 {
            // No dot: a BPF file system has none in its names.
            name = format!("{name}_{number}");
        }
        let dir = directory(&name);
        std::fs::create_dir_all(&dir).with_context(|| format!("cannot make {dir:?}"))?;
        let host = |host: &str| Host::new(&format!("{name}-{host}"));
        let lab = Self {
            shape,
            queues,
            client: host("client")?,
            edge: host("edge")?,
            servers: host("servers")?,
            neighbour: shape.has_home().then(|| host("neighbour")).transpose()?,
            router: (shape != Shape::TwoArmed)
                .then(|| host("router"))
                .transpose()?,
            interfaces: match shape {
                Shape::TwoArmed | Shape::Home | Shape::Fleet => {
                    vec!["outside".into(), "inside".into()]
                }
                Shape::OneArmed => vec!["eth0".into()],
            },
            dir,
            name,
            kept: false,
        };
        if shape != Shape::Fleet {
            lab.wire().context("cannot wire the lab")?;
        }
        Ok(lab)
    }

    /// The start of all its namespaces' names; also a good name for things that belong to it.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Directory for everything that is written; removed with the lab.
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// Directory for the XDP program's pins; removed with the lab.
    pub fn pin_dir(&self) -> PathBuf {
        pins(&self.name)
    }

    /// The address that calls are sent to.
    pub fn vip(&self, family: Family) -> SocketAddr {
        SocketAddr::new(pick(family, [203, 0, 113, 10], 0xff, 0x10), PORT)
    }

    /// The client's address.
    pub fn client_address(&self, family: Family) -> IpAddr {
        match self.shape {
            Shape::Home | Shape::Fleet => pick(family, [192, 168, 1, 2], 3, 2),
            _ => self.visible_address(family),
        }
    }

    /// The address that others see the client at.
    pub fn visible_address(&self, family: Family) -> IpAddr {
        pick(family, [198, 51, 100, 2], 1, 2)
    }

    /// The address of a server, `number` counts from 0.
    ///
    /// # Panics
    ///
    /// When there is no such server.
    pub fn server(&self, family: Family, number: usize) -> SocketAddr {
        assert!(number < SERVERS, "server {number} of {SERVERS}");
        let last = 11 + number as u8;
        SocketAddr::new(pick(family, [10, 0, 0, last], 0, u16::from(last)), PORT)
    }

    /// All addresses of the servers, with the lengths of their prefixes.
    pub(crate) fn server_prefixes(&self) -> Vec<String> {
        let servers = (0..SERVERS).flat_map(|number| {
            let server = |family| self.server(family, number).ip();
            [
                format!("{}/24", server(Family::V4)),
                format!("{}/64", server(Family::V6)),
            ]
        });
        servers.collect()
    }

    /// Starts a program in a host; what it prints goes to a file.
    ///
    /// # Errors
    ///
    /// See [`Process::spawn`].
    pub fn spawn(&self, host: &Host, name: &str, command: Command) -> Result<Process> {
        Process::spawn(host, &self.dir, name, command)
    }

    /// Leaves everything behind when dropped; [`remove_kept_labs`] removes it.
    ///
    /// # Errors
    ///
    /// When the mark that says so cannot be written.
    pub fn keep(&mut self) -> Result<()> {
        std::fs::write(self.dir.join(KEPT), "")?;
        self.kept = true;
        for host in [&mut self.client, &mut self.edge, &mut self.servers] {
            host.keep();
        }
        for host in [&mut self.router, &mut self.neighbour]
            .into_iter()
            .flatten()
        {
            host.keep();
        }
        Ok(())
    }

    fn wire(&self) -> Result<()> {
        let prefixes = Prefixes::new(self);
        let Prefixes {
            client, servers, ..
        } = &prefixes;
        let two_arms = |(outside, name): (&Host, &str)| {
            self.cable((outside, name), (&self.edge, "outside"))?;
            self.cable((&self.servers, "eth0"), (&self.edge, "inside"))?;
            self.edge
                .addresses("outside", &["198.51.100.1/24", "2001:db8:1::1/64"])?;
            self.edge
                .addresses("inside", &["10.0.0.1/24", "2001:db8::1/64"])
        };
        let mut gateways = ["198.51.100.1", "2001:db8:1::1"];
        match (&self.router, self.shape) {
            (None, _) => two_arms((&self.client, "eth0"))?,
            (Some(router), Shape::Home) => {
                two_arms((router, "edge"))?;
                gateways = ["192.168.1.1", "2001:db8:3::1"];
                self.wire_home(router)?;
            }
            (Some(router), _) => {
                self.cable((&self.client, "eth0"), (router, "client"))?;
                self.cable((&self.servers, "eth0"), (router, "servers"))?;
                self.cable((&self.edge, "eth0"), (router, "edge"))?;
                router.sysctl("ipv4/ip_forward", "1")?;
                router.sysctl("ipv6/conf/all/forwarding", "1")?;
                router.addresses("client", &["198.51.100.1/24", "2001:db8:1::1/64"])?;
                router.addresses("servers", &["10.0.0.1/24", "2001:db8::1/64"])?;
                router.addresses("edge", &["192.0.2.1/24", "2001:db8:2::1/64"])?;
                self.edge
                    .addresses("eth0", &["192.0.2.2/24", "2001:db8:2::2/64"])?;
                self.edge.ip("route add default via 192.0.2.1")?;
                self.edge.ip("route add default via 2001:db8:2::1")?;
                router.ip(&format!("route add {} via 192.0.2.2", prefixes.vips[0]))?;
                router.ip(&format!("route add {} via 2001:db8:2::2", prefixes.vips[1]))?;
            }
        }
        self.edge.addresses("lo", &prefixes.vips)?;
        self.client.addresses("eth0", client)?;
        self.servers.addresses("eth0", servers)?;
        for gateway in gateways {
            self.client
                .ip(&format!("route add default via {gateway}"))?;
        }
        self.servers.ip("route add default via 10.0.0.1")?;
        self.servers.ip("route add default via 2001:db8::1")?;
        Ok(())
    }

    /// A veth pair between two hosts.
    pub(crate) fn cable(
        &self,
        (left, left_name): (&Host, &str),
        (right, right_name): (&Host, &str),
    ) -> Result<()> {
        let queues = format!("numtxqueues {0} numrxqueues {0}", self.queues);
        let right_namespace = right.namespace();
        left.ip(&format!(
            "link add {left_name} {queues} type veth peer name {right_name} netns {right_namespace} {queues}"
        ))?;
        for (host, name) in [(left, left_name), (right, right_name)] {
            // Packets that start here would carry unfinished checksums over the wire; and a frame that XDP redirects
            // is received only by an end with GRO or an XDP program.
            host.run("ethtool", &format!("-K {name} tx off gro on"))?;
            self.spread(host, name)?;
            host.ip(&format!("link set {name} up"))?;
        }
        Ok(())
    }

    /// Spreads what an interface sends over its queues by the CPU that sends, also what a router passes on. A NIC would
    /// do it by addresses and ports, which a test cannot choose so that all queues get something.
    fn spread(&self, host: &Host, interface: &str) -> Result<()> {
        if self.queues == 1 {
            return Ok(());
        }
        for queue in 0..self.queues {
            let cpus = (0..possible_cpus().min(32)).filter(|cpu| cpu % self.queues == queue);
            let mask = cpus.fold(0_u32, |mask, cpu| mask | 1 << cpu);
            // The settings are in sysfs, of which each network namespace has its own.
            let file = format!("/sys/class/net/{interface}/queues/tx-{queue}/xps_cpus");
            let mut command = Command::new("ip");
            command.args(["netns", "exec", host.namespace()]);
            command.args(["sh", "-c", &format!("echo {mask:x} > {file}")]);
            host::run(&mut command)?;
        }
        Ok(())
    }
}

/// How many CPUs there are for us.
pub fn cpus() -> usize {
    std::thread::available_parallelism().map_or(1, usize::from)
}

/// How many CPUs the kernel counts with.
fn possible_cpus() -> u32 {
    let ranges = std::fs::read_to_string("/sys/devices/system/cpu/possible").unwrap_or_default();
    let last = ranges.trim().rsplit([',', '-']).next();
    last.and_then(|last| last.parse().ok())
        .map_or(1, |last: u32| last + 1)
}

impl Drop for Lab {
    fn drop(&mut self) {
        if self.kept {
            return;
        }
        // The hosts follow by themselves. With a failed test the directory is what tells why.
        if !std::thread::panicking() {
            let _ = std::fs::remove_dir_all(&self.dir);
        }
        let _ = std::fs::remove_dir_all(self.pin_dir());
    }
}

impl Host {
    pub(crate) fn addresses(&self, interface: &str, addresses: &[impl AsRef<str>]) -> Result<()> {
        for address in addresses {
            let address = address.as_ref();
            // Duplicate address detection would keep an IPv6 address unusable for a second or two.
            let nodad = if address.contains(':') { "nodad" } else { "" };
            self.ip(&format!("address add {address} dev {interface} {nodad}"))?;
        }
        Ok(())
    }
}

/// Addresses with their prefix lengths.
struct Prefixes {
    vips: [String; 2],
    client: Vec<String>,
    servers: Vec<String>,
}

impl Prefixes {
    fn new(lab: &Lab) -> Self {
        let [v4, v6] = [Family::V4, Family::V6];
        Self {
            vips: [
                format!("{}/32", lab.vip(v4).ip()),
                format!("{}/128", lab.vip(v6).ip()),
            ],
            client: vec![
                format!("{}/24", lab.client_address(v4)),
                format!("{}/64", lab.client_address(v6)),
            ],
            servers: lab.server_prefixes(),
        }
    }
}

pub(crate) fn pick(family: Family, v4: [u8; 4], network: u16, host: u16) -> IpAddr {
    match family {
        Family::V4 => IpAddr::V4(Ipv4Addr::from(v4)),
        Family::V6 => IpAddr::V6(Ipv6Addr::new(0x2001, 0xdb8, network, 0, 0, 0, 0, host)),
    }
}

fn directory(name: &str) -> PathBuf {
    std::env::temp_dir().join(name)
}

fn pins(name: &str) -> PathBuf {
    PathBuf::from("/sys/fs/bpf").join(name)
}

/// Removes what labs whose maker is dead have left behind, except those that were meant to stay.
fn remove_dead_labs() {
    remove_labs(|kept| !kept);
}

/// Removes the labs that [`Lab::keep`] left behind; returns how many hosts that were.
pub fn remove_kept_labs() -> usize {
    remove_labs(|kept| kept)
}

fn remove_labs(wanted: impl Fn(bool) -> bool) -> usize {
    let is_kept = |lab: &str| directory(lab).join(KEPT).exists();
    let mut count = 0;
    for namespace in host::namespaces() {
        let Some((lab, _)) = namespace.rsplit_once('-') else {
            continue;
        };
        if !is_dead_lab(lab) || !wanted(is_kept(lab)) {
            continue;
        }
        match host::remove(&namespace) {
            Ok(()) => count += 1,
            // Another process may be removing the same.
            Err(error) => eprintln!("lab: cannot remove what is left of {lab}: {error:#}"),
        }
    }
    for lab in names_in("/sys/fs/bpf").filter(|lab| is_dead_lab(lab) && wanted(is_kept(lab))) {
        let _ = std::fs::remove_dir_all(pins(&lab));
    }
    // Last, because it says what is kept. Directories of failed tests stay: they tell why.
    for lab in names_in(std::env::temp_dir()).filter(|lab| is_dead_lab(lab) && is_kept(lab)) {
        if wanted(true) {
            let _ = std::fs::remove_dir_all(directory(&lab));
        }
    }
    count
}

fn names_in(dir: impl AsRef<Path>) -> impl Iterator<Item = String> {
    let entries = std::fs::read_dir(dir).into_iter().flatten().flatten();
    entries.filter_map(|entry| entry.file_name().into_string().ok())
}

fn is_dead_lab(name: &str) -> bool {
    let rest = name.strip_prefix(PREFIX).unwrap_or_default();
    let maker = rest.split(|letter: char| !letter.is_ascii_digit()).next();
    let maker = maker.and_then(|id| id.parse::<u32>().ok());
    maker.is_some_and(|id| !PathBuf::from(format!("/proc/{id}")).exists())
}
