//! A fleet: edges that announce one VIP by BGP to a router, which spreads calls over them.
//!
//! ```text
//! client    192.168.1.2 --+
//! neighbour 192.168.1.3 --+ [home router] --- 198.51.100.1 [core] edges --- outside [edge1] inside --- servers
//!                           198.51.100.2                   BIRD         `-- outside [edge2] inside --'
//! callers   198.18.0.2 --------------------- 198.18.0.1                 `-- outside [edge3] inside --'
//!                                                          servers --------------------------------'
//! ```
//!
//! Every edge has a siplb, which puts the VIP on `lo` while it can serve, and a BIRD, which announces it while it is
//! there. What the servers send to the VIP goes by the core as well, so it meets any edge, as what callers send does.
//! The edges are bridged to the core: a wire that is pulled out at the edge is nothing that the core would notice by
//! itself.

use std::{
    collections::BTreeSet,
    net::IpAddr,
    process::Command,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail, ensure};

use crate::{
    bird::{Bird, Configuration},
    exabgp,
    host::Host,
    lab::{Family, Lab, Shape, pick},
    process::Process,
    siplb::{Options, Siplb},
    wait::until,
};

const FAMILIES: [Family; 2] = [Family::V4, Family::V6];
/// How long the router may take to learn of a change: the hold time and then some.
const ROUTE_TIMEOUT: Duration = Duration::from_secs(20);
/// How long an edge that leaves goes on with what still comes.
const GRACE: Duration = Duration::from_secs(2);
/// How much longer than its grace period one may take to end.
const END_TIMEOUT: Duration = Duration::from_secs(10);
/// How often the router is asked though the kernel has told of no change.
const LOOK_ANYWAY: Duration = Duration::from_millis(250);

/// A lab of several edges.
#[derive(Debug)]
pub struct Fleet {
    edges: Vec<Edge>,
    router: Bird,
    router_configuration: Configuration,
    /// `ip monitor`: it writes when the router's routes change.
    changes: Process,
    /// The hosts of all edges but the first, which the lab has.
    more: Vec<Host>,
    options: Options,
    /// Where callers are that no NAT hides.
    pub callers: Host,
    /// The router.
    pub core: Host,
    /// Phones, servers and the first edge.
    pub lab: Lab,
}

/// What runs on an edge.
#[derive(Debug, Default)]
struct Edge {
    siplb: Option<Siplb>,
    bird: Option<Bird>,
    /// In BIRD's place.
    exabgp: Option<Process>,
}

impl Fleet {
    /// Raises a lab in which so many edges serve and announce the VIP.
    ///
    /// The node's name in the options is replaced by `edge1` and so on, and the configuration gets an `announce`.
    ///
    /// # Errors
    ///
    /// When something cannot be made or started, or the router does not learn of the edges.
    pub fn raise(edges: usize, options: &Options) -> Result<Self> {
        let lab = Lab::new(Shape::Fleet, 1)?;
        let host = |name: &str| Host::new(&format!("{}-{name}", lab.name()));
        let (core, callers) = (host("core")?, host("callers")?);
        wire(&lab, &core, &callers).context("cannot wire the fleet")?;
        let router_configuration = Configuration::shipped("bird-router.conf")?;
        let mut watch = Command::new("ip");
        watch.args(["-o", "monitor", "route"]);
        let mut options = options.clone();
        let grace = GRACE.as_secs();
        options.rest += &format!("announce: {{ device: lo, grace: {grace}s }}\n");
        let mut fleet = Self {
            edges: Vec::new(),
            router: Bird::start(&lab, &core, "bird-core", &router_configuration)?,
            router_configuration,
            changes: lab.spawn(&core, "route-changes", watch)?,
            more: Vec::new(),
            options,
            callers,
            core,
            lab,
        };
        for _ in 0..edges {
            fleet.add()?;
        }
        let all: Vec<usize> = (0..edges).collect();
        fleet.await_next_hops(&all)?;
        Ok(fleet)
    }

    /// The address of the callers' host.
    pub fn callers_address(&self, family: Family) -> IpAddr {
        pick(family, [198, 18, 0, 2], 4, 2)
    }

    /// How many edges there are, whatever runs on them.
    pub fn count(&self) -> usize {
        self.edges.len()
    }

    /// The host of an edge; they are counted from 0.
    pub fn host(&self, edge: usize) -> &Host {
        match edge.checked_sub(1) {
            None => &self.lab.edge,
            Some(number) => &self.more[number],
        }
    }

    /// The siplb of an edge, whose counters can be read when it is dead as well.
    ///
    /// # Panics
    ///
    /// When none has been started.
    pub fn siplb(&self, edge: usize) -> &Siplb {
        self.edges[edge].siplb.as_ref().expect("a siplb")
    }

    /// Adds an edge, starts everything on it and announces the VIP; returns its number. That the router has learned of
    /// it is for [`Self::await_next_hops`].
    ///
    /// # Errors
    ///
    /// When something cannot be made or started.
    pub fn add(&mut self) -> Result<usize> {
        let edge = self.edges.len();
        if edge > 0 {
            let name = format!("{}-{}", self.lab.name(), node(edge));
            self.more.push(Host::new(&name)?);
        }
        self.edges.push(Edge::default());
        self.wire_edge(edge)
            .with_context(|| format!("cannot wire {}", node(edge)))?;
        let name = node(edge);
        // The file has the first ones.
        if !self
            .router_configuration
            .has(&format!("protocol bgp {name} "))
        {
            for family in FAMILIES {
                let line = neighbour(edge, family);
                self.router_configuration.line(&line);
            }
            self.router.configure(&self.router_configuration)?;
        }
        self.start(edge)?;
        Ok(edge)
    }

    /// Starts what does not run on an edge, as at boot. The VIP is announced when siplb can serve.
    ///
    /// # Errors
    ///
    /// When something does not start.
    pub fn start(&mut self, edge: usize) -> Result<()> {
        self.plug(edge, true)?;
        self.start_bird(edge)?;
        self.start_siplb(edge)
    }

    /// Starts the siplb of an edge if it does not run.
    ///
    /// # Errors
    ///
    /// When it does not start.
    fn start_siplb(&mut self, edge: usize) -> Result<()> {
        let options = Options {
            node: node(edge),
            ..self.options.clone()
        };
        let pins = self.lab.pin_dir().join(node(edge));
        let host = match edge.checked_sub(1) {
            None => &self.lab.edge,
            Some(number) => &self.more[number],
        };
        match &mut self.edges[edge].siplb {
            Some(siplb) => {
                if !siplb.process().is_running() {
                    siplb.start_again_in(&self.lab, host)?;
                }
            }
            empty => *empty = Some(Siplb::start_in(&self.lab, host, &options, pins)?),
        }
        Ok(())
    }

    /// Starts the BIRD of an edge if it does not run. It announces the VIP when that is there.
    ///
    /// # Errors
    ///
    /// When it does not start.
    fn start_bird(&mut self, edge: usize) -> Result<()> {
        let Edge { bird, exabgp, .. } = &self.edges[edge];
        if bird.is_none() && exabgp.is_none() {
            let configuration = Configuration::shipped("bird-edge.conf")?
                .define("OWN_V4", outside(edge, Family::V4))?
                .define("OWN_V6", outside(edge, Family::V6))?;
            let name = format!("bird-{}", node(edge));
            let bird = Bird::start(&self.lab, self.host(edge), &name, &configuration)?;
            self.edges[edge].bird = Some(bird);
        }
        Ok(())
    }

    /// Puts ExaBGP in the place of the first edge's BIRD; the router has lost that edge in between when this returns.
    ///
    /// # Errors
    ///
    /// When it does not start, or the router does not notice that BIRD is gone.
    pub fn use_exabgp(&mut self) -> Result<()> {
        const FIRST: usize = 0;
        if let Some(mut bird) = self.edges[FIRST].bird.take() {
            bird.process().kill();
        }
        let mut rest = self.next_hops(Family::V4)?;
        rest.remove(&FIRST);
        self.await_next_hops(&Vec::from_iter(rest))?;
        let node = self.siplb(FIRST).client();
        let exabgp = exabgp::start(&self.lab, self.host(FIRST), "exabgp-edge1", &node)?;
        self.edges[FIRST].exabgp = Some(exabgp);
        Ok(())
    }

    /// An edge leaves in the ordinary way, by `siplb leave`: it withdraws the VIP, forwards what still comes for the
    /// grace period, and ends.
    ///
    /// Returns how long the router went on sending.
    ///
    /// # Errors
    ///
    /// When the router does not learn of it, or siplb does not end with status 0 and books that are right.
    pub fn leave(&mut self, edge: usize) -> Result<Duration> {
        let mut rest = self.next_hops(Family::V4)?;
        rest.remove(&edge);
        let begin = Instant::now();
        let name = format!("leave-{}", node(edge));
        let command = self.siplb(edge).client().command(&["leave"])?;
        let mut leaving = self.lab.spawn(self.host(edge), &name, command)?;
        self.await_next_hops(&Vec::from_iter(rest))?;
        let taken = begin.elapsed();
        let status = leaving.wait(GRACE + END_TIMEOUT)?;
        ensure!(status.success(), "{status}: {}", leaving.output());
        let siplb = self.edges[edge].siplb.as_mut().context("no siplb")?;
        siplb.await_end(END_TIMEOUT)?;
        Ok(taken)
    }

    /// Kills siplb and BIRD of an edge (SIGKILL). The kernel lives on and closes the BGP sessions, which the router
    /// sees at once.
    pub fn crash(&mut self, edge: usize) {
        let edge = &mut self.edges[edge];
        // BIRD first: what happens when only siplb dies is another story.
        if let Some(mut bird) = edge.bird.take() {
            bird.process().kill();
        }
        if let Some(siplb) = &mut edge.siplb {
            siplb.process().kill();
        }
    }

    /// Kills the siplb of an edge (SIGKILL) and nothing else. The kernel takes the VIP off within three seconds.
    pub fn kill_siplb(&mut self, edge: usize) {
        if let Some(siplb) = &mut self.edges[edge].siplb {
            siplb.process().kill();
        }
    }

    /// An edge loses its power: nothing comes from it any more, not even the end of its BGP sessions.
    ///
    /// # Errors
    ///
    /// When the wires cannot be pulled.
    pub fn power_off(&mut self, edge: usize) -> Result<()> {
        self.plug(edge, false)?;
        self.crash(edge);
        Ok(())
    }

    /// The edges that the router sends to.
    ///
    /// # Errors
    ///
    /// When it cannot be asked, or has a next hop that is none of the edges.
    pub fn next_hops(&self, family: Family) -> Result<BTreeSet<usize>> {
        let version = match family {
            Family::V4 => "-4",
            Family::V6 => "-6",
        };
        let vip = self.vip(family);
        let routes = self.core.ip(&format!("{version} -j route show {vip}"))?;
        let routes: serde_json::Value = serde_json::from_str(&routes)?;
        let routes = routes.as_array().into_iter().flatten();
        let hops = routes.flat_map(|route| match route["nexthops"].as_array() {
            Some(hops) => hops.iter().map(|hop| &hop["gateway"]).collect(),
            None => vec![&route["gateway"]],
        });
        hops.map(|gateway| {
            let address: Option<IpAddr> = gateway.as_str().and_then(|text| text.parse().ok());
            let edge = (0..self.count()).find(|edge| Some(outside(*edge, family)) == address);
            edge.with_context(|| format!("{gateway} is no edge"))
        })
        .collect()
    }

    /// Waits until the router sends to exactly these edges, for each family that there is a listener of.
    ///
    /// # Errors
    ///
    /// When it does not within seconds; the message has what BIRD says.
    pub fn await_next_hops(&self, edges: &[usize]) -> Result<()> {
        let wanted: BTreeSet<usize> = edges.iter().copied().collect();
        let mut seen = usize::MAX;
        let mut looked = Instant::now();
        let reached = until(&format!("next hops {wanted:?}"), ROUTE_TIMEOUT, || {
            let changes = self.changes.output().len();
            if changes == seen && looked.elapsed() < LOOK_ANYWAY {
                return None;
            }
            (seen, looked) = (changes, Instant::now());
            let families = &self.options.families;
            let all = families
                .iter()
                .all(|family| self.next_hops(*family).is_ok_and(|hops| hops == wanted));
            all.then_some(())
        });
        reached.with_context(|| {
            format!(
                "{:?} {:?}\n{}",
                self.next_hops(Family::V4),
                self.next_hops(Family::V6),
                self.router_says()
            )
        })
    }

    /// What the router's BIRD thinks, for people.
    pub fn router_says(&self) -> String {
        let questions: [&[&str]; 3] = [
            &["show", "protocols"],
            &["show", "bfd", "sessions"],
            &["show", "route"],
        ];
        let answers = questions.map(|words| {
            let answer = self.router.command(words);
            answer.unwrap_or_else(|error| format!("{error:#}"))
        });
        answers.concat()
    }

    /// The routes to the VIP as they came and went on the router, for people.
    pub fn route_changes(&self) -> String {
        self.changes.output()
    }

    /// Stops everything in the ordinary way, after a look at the books of every siplb.
    ///
    /// # Errors
    ///
    /// When the books of one are wrong.
    pub fn stop(&mut self) -> Result<()> {
        for (number, edge) in self.edges.iter_mut().enumerate() {
            if let Some(siplb) = &mut edge.siplb
                && siplb.process().is_running()
            {
                siplb.stop().with_context(|| node(number))?;
            }
        }
        Ok(())
    }

    fn vip(&self, family: Family) -> String {
        let length = match family {
            Family::V4 => 32,
            Family::V6 => 128,
        };
        format!("{}/{length}", self.lab.vip(family).ip())
    }

    fn wire_edge(&self, edge: usize) -> Result<()> {
        let Self { lab, core, .. } = self;
        let (host, name) = (self.host(edge), node(edge));
        for (far, bridge, near) in [(core, "edges", "outside"), (&lab.servers, "eth0", "inside")] {
            lab.cable((far, &name), (host, near))?;
            far.ip(&format!("link set {name} master {bridge}"))?;
        }
        // Others in the fleet send from the VIP too, and what comes for it may come by either interface.
        host.sysctl("ipv4/conf/all/rp_filter", "2")?;
        for family in FAMILIES {
            let (length, inside) = (prefix_length(family), inside(edge, family));
            let outside = outside(edge, family);
            host.addresses("outside", &[format!("{outside}/{length}")])?;
            host.addresses("inside", &[format!("{inside}/{length}")])?;
            host.ip(&format!(
                "route add default via {}",
                pick(family, [192, 0, 2, 1], 2, 1)
            ))?;
        }
        Ok(())
    }

    /// Pulls the wires of an edge out at its far ends, or plugs them in.
    fn plug(&self, edge: usize, plugged: bool) -> Result<()> {
        let state = if plugged { "up" } else { "down" };
        for far in [&self.core, &self.lab.servers] {
            far.ip(&format!("link set {} {state}", node(edge)))?;
        }
        Ok(())
    }
}

/// Everything but the edges.
fn wire(lab: &Lab, core: &Host, callers: &Host) -> Result<()> {
    let home = lab.router.as_ref().context("a home without a router")?;
    lab.cable((home, "edge"), (core, "home"))?;
    lab.wire_home(home)?;
    lab.client
        .addresses("eth0", &[format!("{}/24", lab.client_address(Family::V4))])?;
    lab.client.ip("route add default via 192.168.1.1")?;

    lab.cable((callers, "eth0"), (core, "callers"))?;
    callers.addresses("eth0", &["198.18.0.2/24", "2001:db8:4::2/64"])?;
    add_bridge(&lab.servers, "eth0")?;
    lab.cable((&lab.servers, "core"), (core, "servers"))?;
    lab.servers.ip("link set core master eth0")?;
    lab.servers.addresses("eth0", &lab.server_prefixes())?;
    for (host, gateways) in [
        (callers, ["198.18.0.1", "2001:db8:4::1"]),
        (&lab.servers, ["10.0.0.254", "2001:db8::fe"]),
    ] {
        for gateway in gateways {
            host.ip(&format!("route add default via {gateway}"))?;
        }
    }

    add_bridge(core, "edges")?;
    core.addresses("home", &["198.51.100.1/24"])?;
    core.addresses("callers", &["198.18.0.1/24", "2001:db8:4::1/64"])?;
    core.addresses("servers", &["10.0.0.254/24", "2001:db8::fe/64"])?;
    core.addresses("edges", &["192.0.2.1/24", "2001:db8:2::1/64"])?;
    core.settings(include_str!("../../scripts/router-sysctl.conf"))
}

/// A bridge whose address stays: by default it is the lowest of its ports', and edges are added while others have it in
/// use.
fn add_bridge(host: &Host, name: &str) -> Result<()> {
    host.ip(&format!(
        "link add {name} address 02:00:00:00:00:01 type bridge"
    ))?;
    host.ip(&format!("link set {name} up")).map(drop)
}

impl Host {
    /// Applies a file as sysctl(8) reads them, of which all is below `net`.
    fn settings(&self, file: &str) -> Result<()> {
        let lines = file.lines().filter(|line| !line.starts_with('#'));
        for line in lines.filter(|line| !line.trim().is_empty()) {
            let Some((name, value)) = line.split_once('=') else {
                bail!("{line:?} is no setting");
            };
            let name = name.trim().strip_prefix("net.");
            let name = name.with_context(|| format!("{line:?} is not below net"))?;
            self.sysctl(&name.replace('.', "/"), value.trim())?;
        }
        Ok(())
    }
}

/// The name of a node, and of the ports at the far ends of its wires.
fn node(edge: usize) -> String {
    format!("edge{}", edge + 1)
}

fn prefix_length(family: Family) -> u8 {
    match family {
        Family::V4 => 24,
        Family::V6 => 64,
    }
}

/// The address of an edge towards the router, as `scripts/bird-router.conf` has them for the first ones.
fn outside(edge: usize, family: Family) -> IpAddr {
    let last = 11 + edge as u8;
    pick(family, [192, 0, 2, last], 2, 0x11 + edge as u16)
}

fn inside(edge: usize, family: Family) -> IpAddr {
    let last = 101 + edge as u8;
    pick(family, [10, 0, 0, last], 0, 0x101 + edge as u16)
}

/// The router's line for an edge.
fn neighbour(edge: usize, family: Family) -> String {
    let (name, address) = (node(edge), outside(edge, family));
    let (suffix, template) = match family {
        Family::V4 => ("", "edges_v4"),
        Family::V6 => ("_v6", "edges_v6"),
    };
    format!("protocol bgp {name}{suffix} from {template} {{ neighbor {address} as EDGE_AS; }}")
}
