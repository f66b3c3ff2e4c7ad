//! `siplb check`: what a configuration means.

mod against;
mod client_address;
mod parts;

use std::path::{Path, PathBuf};

use clap::Args;
use serde::Serialize;

use self::{
    against::Against,
    client_address::ClientAddressMeaning,
    parts::{HepMeaning, LimitsMeaning, NatMeaning, OutboundMeaning, datapath, nat},
};
use super::{
    Failure,
    output::{Align, Grid, Output, Terminal, grouped, percent},
    read_answer,
};
use crate::{
    balance::{SLOTS, Strategy},
    config::{self, Config, DEFAULT_PATH, Mode, RouteConfig, WantedAttach, ZeroCopy},
    control::{Request, client},
    forward::Table,
    validate::{self, Check},
};

#[derive(Debug, Args)]
pub(super) struct CheckArgs {
    /// Configuration file
    #[arg(long, short, value_name = "FILE", default_value = DEFAULT_PATH)]
    config: PathBuf,
    /// Also ask the running node, and say which share of new calls would meet another backend
    #[arg(long)]
    against_running: bool,
    /// Control socket of the running node [default: that of the configuration]
    #[arg(long, value_name = "FILE", requires = "against_running")]
    socket: Option<PathBuf>,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

pub(super) fn check(arguments: &CheckArgs, output: &Output) -> Result<(), Failure> {
    let config = config::load(&arguments.config)?;
    let mut meaning = Meaning::new(&config);
    if arguments.against_running {
        let socket = arguments.socket.as_ref().unwrap_or(&config.control.socket);
        let answer = client::call(socket, &Request::new("backends"))
            .map_err(|error| Failure::Failed(error.to_string()))?;
        meaning.against_running = Some(Against::new(&config, &read_answer(answer)?)?);
    }
    if arguments.json {
        output.json(&meaning, false)
    } else {
        output.text(&meaning.text(&arguments.config, &config, &output.terminal()))
    }
}

/// What `--json` prints. Fields are only ever added.
#[derive(Debug, Serialize)]
struct Meaning {
    valid: bool,
    node: String,
    /// Equal on nodes that decide alike.
    table_hash: String,
    listeners: Vec<ListenerMeaning>,
    pools: Vec<PoolMeaning>,
    routes: Vec<RouteMeaning>,
    limits: LimitsMeaning,
    outbound: OutboundMeaning,
    /// Networks that are private besides those that always are.
    nat_private: Vec<String>,
    datapath: DatapathMeaning,
    control_socket: String,
    stats_file: String,
    /// `null` for no collector.
    hep: Option<HepMeaning>,
    /// `null` where nothing is told over HTTP.
    metrics_listen: Option<String>,
    notes: Vec<String>,
    /// `null` where the running node was not asked.
    against_running: Option<Against>,
}

#[derive(Debug, Serialize)]
struct ListenerMeaning {
    name: String,
    address: String,
    nat: NatMeaning,
    validate: ValidateMeaning,
    ping_replies: &'static str,
}

#[derive(Debug, Serialize)]
struct ValidateMeaning {
    mode: &'static str,
    checks: Vec<&'static str>,
}

#[derive(Debug, Serialize)]
struct PoolMeaning {
    name: String,
    strategy: &'static str,
    user_only: bool,
    /// Any node picks the same backend for a message, whatever it has seen before.
    exact_across_nodes: bool,
    /// `path`, `contact` or `off`.
    registration: &'static str,
    health: Option<HealthMeaning>,
    client_address: ClientAddressMeaning,
    backends: Vec<BackendMeaning>,
}

#[derive(Debug, Serialize)]
struct HealthMeaning {
    interval_ms: u64,
    timeout_ms: u64,
    fall: u32,
    rise: u32,
    slow_start_ms: u64,
}

#[derive(Debug, Serialize)]
struct BackendMeaning {
    name: String,
    address: String,
    weight: u16,
    priority: u16,
    cps: Option<u32>,
    slots: u32,
    share_percent: f64,
}

#[derive(Debug, Serialize)]
struct RouteMeaning {
    method: Option<String>,
    listener: Option<String>,
    /// What else it looks at, in words.
    conditions: String,
    pool: String,
    /// `null`: that of the pool.
    strategy: Option<&'static str>,
    cps: Option<u32>,
    /// `null`: that of the listener.
    nat: Option<NatMeaning>,
}

#[derive(Debug, Serialize)]
struct DatapathMeaning {
    mode: &'static str,
    interfaces: Vec<String>,
    xdp: &'static str,
    zero_copy: &'static str,
    cpus: Vec<usize>,
    workers: Option<usize>,
    chunks: u32,
    ring: u32,
    share_load: &'static str,
    pin_path: String,
    stale_after_ms: u64,
    debug_log: bool,
}

impl Meaning {
    fn new(config: &Config) -> Self {
        let table = Table::new(config);
        let listeners = config.listeners.iter().map(|listener| ListenerMeaning {
            name: listener.name.clone(),
            address: listener.address.to_string(),
            nat: NatMeaning::new(listener.nat),
            validate: ValidateMeaning {
                mode: listener
                    .validate
                    .map_or("off", |validate| validate.mode.name()),
                checks: listener
                    .validate
                    .iter()
                    .flat_map(|validate| validate.checks.iter())
                    .map(Check::name)
                    .collect(),
            },
            ping_replies: listener.ping_replies.name(),
        });
        let pools = config.pools.iter().zip(&table.pools).map(|(text, pool)| {
            let shares = pool
                .table
                .as_ref()
                .map(|table| table.shares(pool.backends.len()));
            let shares = shares.unwrap_or_else(|| vec![0; pool.backends.len()]);
            let backends = text.backends.iter().zip(shares);
            let backends = backends.map(|(backend, slots)| BackendMeaning {
                name: backend.name.clone(),
                address: backend.address.to_string(),
                weight: backend.weight,
                priority: backend.priority,
                cps: backend.cps,
                slots,
                share_percent: 100.0 * f64::from(slots) / SLOTS as f64,
            });
            PoolMeaning {
                name: pool.name.clone(),
                strategy: text.strategy.name(),
                user_only: text.strategy != text.strategy.with_user_only(false),
                exact_across_nodes: text.strategy.is_exact_across_nodes(),
                registration: text.registration.name(),
                health: text.health.map(|health| HealthMeaning {
                    interval_ms: health.interval.as_millis() as u64,
                    timeout_ms: health.timeout.as_millis() as u64,
                    fall: health.fall,
                    rise: health.rise,
                    slow_start_ms: health.slow_start.as_millis() as u64,
                }),
                client_address: ClientAddressMeaning::new(&text.client_address),
                backends: backends.collect(),
            }
        });
        let routes = config.routes.iter().map(|route| RouteMeaning {
            method: route.method.clone(),
            listener: route
                .listener
                .map(|index| config.listeners[index].name.clone()),
            conditions: route.conditions(),
            strategy: route.strategy.map(Strategy::name),
            cps: route.cps,
            pool: config.pools[route.pool].name.clone(),
            nat: route.nat.map(NatMeaning::new),
        });
        let nat_private = config.nat.private.iter().map(ToString::to_string);
        let datapath = &config.datapath;
        Self {
            valid: true,
            node: config.node.name.clone(),
            table_hash: format!("{:016x}", table.fingerprint()),
            listeners: listeners.collect(),
            pools: pools.collect(),
            routes: routes.collect(),
            limits: LimitsMeaning::new(&config.limits),
            outbound: OutboundMeaning::new(&config.outbound),
            nat_private: nat_private.collect(),
            datapath: DatapathMeaning {
                mode: match datapath.mode {
                    Mode::Auto => "auto",
                    Mode::AfXdp => "af-xdp",
                    Mode::Socket => "socket",
                },
                interfaces: datapath.interfaces.clone(),
                xdp: match datapath.xdp {
                    WantedAttach::Auto => "auto",
                    WantedAttach::Native => "native",
                    WantedAttach::Generic => "generic",
                },
                zero_copy: match datapath.zero_copy {
                    ZeroCopy::Prefer => "prefer",
                    ZeroCopy::Require => "require",
                    ZeroCopy::Never => "never",
                },
                cpus: datapath.cpus.clone(),
                workers: datapath.workers,
                chunks: datapath.chunks,
                ring: datapath.ring,
                share_load: datapath.share_load.name(),
                pin_path: datapath.pin_path.display().to_string(),
                stale_after_ms: datapath.stale_after.as_millis() as u64,
                debug_log: datapath.debug_log,
            },
            control_socket: config.control.socket.display().to_string(),
            stats_file: config.stats.file.display().to_string(),
            hep: config.hep.as_ref().map(HepMeaning::new),
            metrics_listen: config.metrics.listen.map(|listen| listen.to_string()),
            notes: notes(config),
            against_running: None,
        }
    }

    fn text(&self, path: &Path, config: &Config, terminal: &Terminal) -> String {
        let heading = |text: &str| format!("\n{}\n", terminal.bold(text));
        let mut text = format!("{} is valid.\n", path.display());

        text += &heading(&format!("Node {}", self.node));
        text += &node(config).render("  ");

        text += &heading("Listeners");
        let mut grid = Grid::new(&[Align::Left, Align::Left]);
        for listener in &self.listeners {
            let pings = match listener.ping_replies {
                "all" => ", answers every OPTIONS from outside a dialog",
                "off" => ", answers no OPTIONS",
                _ => "",
            };
            grid.row([&listener.name, &format!("{}{pings}", listener.address)]);
        }
        text += &grid.render("  ");
        text += &validation(config, heading);

        for pool in &self.pools {
            text += &heading(&format!("Pool {}", pool.name));
            text += &format!("  {}{}\n", pool.strategy, promise(pool));
            text += &backends(pool).render("  ");
            text += &match &pool.health {
                Some(health) => format!(
                    "  probed every {} ms within {} ms; {} failures in a row make it unhealthy, {} answers healthy{}\n",
                    health.interval_ms,
                    health.timeout_ms,
                    health.fall,
                    health.rise,
                    match health.slow_start_ms {
                        0 => String::new(),
                        ms => format!(", with its whole weight after {} s", ms.div_ceil(1000)),
                    }
                ),
                None => "  not probed: all backends count as healthy\n".to_owned(),
            };
            text += match pool.registration {
                "path" => "  phones that register are reached by a Path of ours\n",
                "contact" => "  phones that register are reached by a Contact of ours\n",
                _ => "  phones that register are reached as their Contact says\n",
            };
            text += &pool.client_address.line();
        }

        text += &heading("Routes (requests without a flow token; the first rule that matches)");
        text += &routes(config, self).render("  ");

        text += &nat(self, &heading("Far-end NAT"));
        text += &self.limits.text(&heading("Calls per second"));
        text += &heading("Outbound (requests of backends without a flow token)");
        text += &self.outbound.grid().render("  ");

        text += &heading("Datapath");
        text += &datapath(config).render("  ");

        text += &format!("\nTable hash {}\n", terminal.bold(&self.table_hash));
        if let Some(against) = &self.against_running {
            text += &against.text(&heading("Against the running node"));
        }
        for note in &self.notes {
            text += &format!("\nNote: {note}\n");
        }
        text
    }
}

/// What nodes agree on.
fn promise(pool: &PoolMeaning) -> &'static str {
    match (pool.exact_across_nodes, pool.strategy) {
        (true, "first") => ": the same backend on every node that sees the same ones healthy",
        (true, _) => ": the same backend on every node with this table hash",
        (false, "weighted-round-robin") => {
            ": each worker by turns of its own; what belongs together stays together on a node, and on another one \
             it goes by Call-ID"
        }
        (false, _) => {
            ": the same backend on every node for requests with credentials; without them by turns, as \
             weighted-round-robin"
        }
    }
}

fn node(config: &Config) -> Grid {
    let mut grid = Grid::new(&[Align::Left, Align::Left]);
    if let Some(address) = config.node.address {
        grid.row(["own address", &address.to_string()]);
    }
    for (name, file) in [
        ("secret", &config.node.secret_file),
        ("previous secret", &config.node.previous_secret_file),
        ("distribution secret", &config.node.distribution_secret_file),
    ] {
        if let Some(file) = file {
            grid.row([name, &file.display().to_string()]);
        }
    }
    grid.row([
        "control socket",
        &config.control.socket.display().to_string(),
    ]);
    grid.row(["statistics", &config.stats.file.display().to_string()]);
    if let Some(hep) = &config.hep {
        grid.row(["HEP", &HepMeaning::new(hep).text()]);
    }
    if let Some(listen) = config.metrics.listen {
        grid.row(["metrics", &format!("http://{listen}/metrics")]);
    }
    grid
}

/// Nothing when no listener validates.
fn validation(config: &Config, heading: impl Fn(&str) -> String) -> String {
    let mut grid = Grid::new(&[Align::Left, Align::Left, Align::Left]);
    let mut any = false;
    for listener in &config.listeners {
        let Some(validate) = listener.validate else {
            continue;
        };
        any = true;
        let mode = match validate.mode {
            validate::Mode::Reply => "reply: 400 with the reason",
            validate::Mode::Header => "header: X-Validate-Fail with the reason",
        };
        let checks = match validate.checks.iter().map(Check::name).collect::<Vec<_>>() {
            all if all.len() == Check::ALL.len() => "all checks".to_owned(),
            some => some.join(", "),
        };
        grid.row([&listener.name, mode, &checks]);
    }
    match any {
        true => {
            heading("Validation (requests from outside that are not well-formed)")
                + &grid.render("  ")
        }
        false => String::new(),
    }
}

fn backends(pool: &PoolMeaning) -> Grid {
    let mut grid = Grid::new(&[
        Align::Left,
        Align::Left,
        Align::Right,
        Align::Right,
        Align::Right,
        Align::Right,
        Align::Right,
    ]);
    grid.row([
        "backend", "address", "priority", "weight", "cps", "slots", "share",
    ]);
    for backend in &pool.backends {
        grid.row([
            backend.name.clone(),
            backend.address.clone(),
            backend.priority.to_string(),
            backend.weight.to_string(),
            backend
                .cps
                .map_or("-".to_owned(), |cps| grouped(cps.into())),
            grouped(backend.slots.into()),
            match (backend.weight, backend.slots) {
                (0, _) => "no new calls".to_owned(),
                (_, 0) => "in reserve".to_owned(),
                _ => percent(backend.slots.into(), SLOTS as u64),
            },
        ]);
    }
    grid
}

fn routes(config: &Config, meaning: &Meaning) -> Grid {
    let mut grid = Grid::new(&[Align::Right, Align::Left, Align::Left]);
    for (index, route) in meaning.routes.iter().enumerate() {
        let method = match route.method.as_deref() {
            // They are looked up as the INVITE that they belong to.
            Some("INVITE") => "INVITE (with its CANCEL and ACK)".to_owned(),
            Some(method) => method.to_owned(),
            None if !route.conditions.is_empty() => "everything".to_owned(),
            None if index == 0 => "everything".to_owned(),
            None => "everything else".to_owned(),
        };
        let listener = match &route.listener {
            Some(listener) => format!(" to listener {listener}"),
            None => String::new(),
        };
        grid.row([
            format!("{}.", index + 1),
            format!("{method}{listener}{}", route.conditions),
            format!(
                "-> pool {}{}{}",
                route.pool,
                route
                    .strategy
                    .map_or(String::new(), |strategy| format!(", {strategy}")),
                route.cps.map_or(String::new(), |cps| format!(
                    ", at most {} calls a second",
                    grouped(cps.into())
                )),
            ),
        ]);
    }
    if !covers_everything(&config.routes, config.listeners.len()) {
        grid.row(["", "everything else", "-> 404 Not Found"]);
    }
    grid
}

fn covers_everything(routes: &[RouteConfig], listeners: usize) -> bool {
    (0..listeners).all(|listener| {
        routes.iter().any(|route| {
            route.method.is_none()
                && route.conditions().is_empty()
                && route.listener.is_none_or(|only| only == listener)
        })
    })
}

/// What is allowed but hardly meant.
fn notes(config: &Config) -> Vec<String> {
    let mut notes = Vec::new();
    if config.node.secret_file.is_none() {
        notes.push("without node.secret_file `siplb run` refuses to start, and the table hash means nothing".to_owned());
    }
    for (index, pool) in config.pools.iter().enumerate() {
        if !config.routes.iter().any(|route| route.pool == index) {
            notes.push(format!("no route leads to pool {}", pool.name));
        }
    }
    for (index, listener) in config.listeners.iter().enumerate() {
        let served = |route: &RouteConfig| route.listener.is_none_or(|only| only == index);
        if !config.routes.iter().any(served) {
            notes.push(format!("no route serves listener {}", listener.name));
        }
    }
    for pool in &config.pools {
        let has_cap = pool.backends.iter().any(|backend| backend.cps.is_some());
        if pool.health.is_none() && pool.backends.len() > 1 {
            notes.push(format!(
                "pool {} has no \"health\": a backend that dies keeps its share of the calls",
                pool.name
            ));
        }
        if has_cap && pool.backends.len() == 1 {
            notes.push(format!(
                "pool {} has one backend, so calls above its cps are refused",
                pool.name
            ));
        }
    }
    if config.datapath.debug_log {
        notes.push(
            "datapath.debug_log logs every packet; switch it off when you are done".to_owned(),
        );
    }
    notes
}
