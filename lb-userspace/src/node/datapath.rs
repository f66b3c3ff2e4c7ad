//! Opens what datagrams come in and leave by: XDP programs, AF_XDP sockets, kernel sockets.

use std::{net::SocketAddr, path::Path, sync::Arc, time::Duration};

use anyhow::{Context, Result, bail};
use arc_swap::ArcSwap;
use lb_common::xdp::{MAX_QUEUES, XdpOutcome};

use crate::{
    afxdp::{
        self, Sender, SocketOptions, TxPool, Umem, chunk_size_for_mtu,
        program::{AttachMode, Gates, Program, pin_dir, read_counters},
    },
    config::{Config, Mode},
    control::next_hops::NextHops,
    kernel_socket::KernelSocket,
    stats::{InterfaceInfo, WorkerInfo},
    sys::{net, thread::allowed_cpus},
    worker::{Port, Transmit},
};

/// What was opened.
pub(super) struct Plan {
    /// What stays with the node.
    pub(super) data_path: DataPath,
    /// What goes to the workers, one each.
    pub(super) parts: Vec<WorkerParts>,
    /// Where the XDP programs count.
    pub(super) interfaces: Vec<InterfaceInfo>,
}

/// What a worker gets.
#[derive(Default)]
pub(super) struct WorkerParts {
    pub(super) ports: Vec<Port>,
    pub(super) transmit: Option<Sending>,
    pub(super) sockets: Vec<KernelSocket>,
}

/// [`Transmit`] before the next hops are known.
pub(super) struct Sending {
    pool: TxPool,
    senders: Vec<Option<Sender>>,
}

impl Sending {
    pub(super) fn with_next_hops(self, next_hops: Arc<ArcSwap<NextHops>>) -> Transmit {
        Transmit {
            pool: self.pool,
            senders: self.senders,
            next_hops,
        }
    }
}

/// The data path as it really is.
pub(super) struct DataPath {
    /// Why AF_XDP is not used, when it is not.
    pub(super) reason_for_socket: Option<String>,
    /// Empty without AF_XDP.
    pub(super) interfaces: Vec<InterfacePath>,
    cpus: Vec<usize>,
    /// Taken when the programs are detached.
    programs: std::sync::Mutex<Vec<Program>>,
}

/// An interface as it is served.
pub(super) struct InterfacePath {
    pub(super) name: String,
    pub(super) mode: AttachMode,
    pub(super) fallback_reason: Option<String>,
    pub(super) gates: Gates,
    pub(super) queues: Vec<QueuePath>,
}

/// A queue as its socket is bound.
#[derive(Clone, Copy)]
pub(super) struct QueuePath {
    zero_copy: bool,
}

impl QueuePath {
    pub(super) fn copy_name(self) -> &'static str {
        if self.zero_copy { "zero-copy" } else { "copy" }
    }
}

impl DataPath {
    /// Worker by worker, in words.
    pub(super) fn worker_infos(&self) -> Vec<WorkerInfo> {
        self.cpus
            .iter()
            .enumerate()
            .map(|(index, &cpu)| {
                let paths = self.interfaces.iter().filter_map(|interface| {
                    let queue = interface.queues.get(index)?;
                    Some(format!(
                        "{} {} {}",
                        interface.name,
                        interface.mode.name(),
                        queue.copy_name()
                    ))
                });
                let words: Vec<_> = paths.collect();
                let data_path = if words.is_empty() {
                    "kernel socket".to_owned()
                } else {
                    words.join(", ")
                };
                WorkerInfo {
                    cpu,
                    queue: index as u32,
                    data_path,
                }
            })
            .collect()
    }

    /// Sends the queue of a worker to the kernel.
    pub(super) fn close_gates(&self, worker: usize) {
        for interface in &self.interfaces {
            interface.gates.close(worker as u32);
        }
    }

    /// Sends the queue of a worker to the worker.
    pub(super) fn open_gates(&self, worker: usize, stale_after: Duration) {
        for interface in self
            .interfaces
            .iter()
            .filter(|interface| worker < interface.queues.len())
        {
            interface.gates.open(worker as u32, stale_after);
        }
    }

    /// Takes the XDP programs off the interfaces. Dropping does the same, so that a node that fails to start leaves none
    /// behind.
    pub(super) fn detach(&self) {
        let programs = std::mem::take(
            &mut *self
                .programs
                .lock()
                .unwrap_or_else(|poisoned| poisoned.into_inner()),
        );
        for program in programs {
            if let Err(error) = program.detach() {
                log::error!("{error:#}");
            }
        }
    }
}

impl Drop for DataPath {
    fn drop(&mut self) {
        self.detach();
    }
}

/// Opens the data path that the configuration asks for.
pub(super) fn open(config: &Config) -> Result<Plan> {
    let reason = match config.datapath.mode {
        Mode::Socket => "datapath.mode: socket".to_owned(),
        Mode::Auto if config.datapath.interfaces.is_empty() => {
            "datapath.interfaces is empty".to_owned()
        }
        mode => match open_af_xdp(config) {
            Ok(plan) => return Ok(plan),
            Err(error) if mode == Mode::AfXdp => {
                return Err(error.context(
                    "datapath.mode: af-xdp; `auto` would fall back to the kernel's sockets",
                ));
            }
            Err(error) => format!("{error:#}"),
        },
    };
    let workers = match config.datapath.workers {
        Some(workers) => workers,
        None => allowed_cpus().context("CPUs of this process")?.len(),
    };
    let parts = (0..workers)
        .map(|_| {
            Ok(WorkerParts {
                sockets: kernel_sockets(config)?,
                ..WorkerParts::default()
            })
        })
        .collect::<Result<_>>()?;
    let data_path = DataPath {
        reason_for_socket: Some(reason),
        interfaces: Vec::new(),
        cpus: cpus(config, workers)?,
        programs: std::sync::Mutex::default(),
    };
    Ok(Plan {
        data_path,
        parts,
        interfaces: Vec::new(),
    })
}

fn kernel_sockets(config: &Config) -> Result<Vec<KernelSocket>> {
    let bind = |address: SocketAddr, name: &str| {
        KernelSocket::bind(address).with_context(|| {
            format!("listener `{name}`: UDP socket on {address}; is another SIP server bound to it (`ss -ulpn`)?")
        })
    };
    config
        .listeners
        .iter()
        .map(|listener| bind(listener.address, &listener.name))
        .collect()
}

/// The CPU of each worker.
fn cpus(config: &Config, workers: usize) -> Result<Vec<usize>> {
    let cpus = match config.datapath.cpus.as_slice() {
        [] => allowed_cpus().context("CPUs of this process")?,
        cpus => cpus.to_vec(),
    };
    anyhow::ensure!(!cpus.is_empty(), "this process may run on no CPU");
    Ok((0..workers)
        .map(|worker| cpus[worker % cpus.len()])
        .collect())
}

fn open_af_xdp(config: &Config) -> Result<Plan> {
    let datapath = &config.datapath;
    let mut mtu = 0;
    let mut queues = Vec::new();
    for interface in &datapath.interfaces {
        let query = || format!("datapath.interfaces: `{interface}`");
        mtu = mtu.max(net::interface_mtu(interface).with_context(query)?);
        let count = net::receive_queues(interface).with_context(query)?;
        if count > MAX_QUEUES {
            bail!(
                "interface `{interface}` has {count} receive queues, siplb serves {MAX_QUEUES}: `ethtool -L {interface} combined {MAX_QUEUES}`"
            );
        }
        queues.push(count);
    }
    let Some(chunk_bytes) = chunk_size_for_mtu(mtu) else {
        bail!("MTU {mtu} is too large for AF_XDP, whose chunks hold packets of 3822 bytes at most");
    };
    let workers = queues.iter().copied().max().unwrap_or(0) as usize;

    // From here on what is open is detached again when something fails.
    let mut opened = Opened::default();
    for interface in &datapath.interfaces {
        let pins = pin_dir(&datapath.pin_path, interface);
        let program = Program::attach(interface, &pins, datapath.xdp, datapath.debug_log)?;
        let steered_at_start = steered(&pins)?;
        opened.interfaces.push(InterfacePath {
            name: interface.clone(),
            mode: program.attach_mode(),
            fallback_reason: program.fallback_reason().map(str::to_owned),
            gates: program.gates(),
            queues: Vec::new(),
        });
        opened.infos.push(InterfaceInfo {
            name: interface.clone(),
            pin_dir: pins,
            steered_at_start,
        });
        opened.programs.push(program);
    }
    let options = SocketOptions {
        ring: datapath.ring,
        zero_copy: datapath.zero_copy,
    };
    let mut parts = Vec::with_capacity(workers);
    for worker in 0..workers as u32 {
        let mut umem = Umem::new(datapath.chunks, chunk_bytes, datapath.ring)?;
        let mut ports = Vec::new();
        let mut senders = Vec::new();
        for (index, interface) in opened.interfaces.iter_mut().enumerate() {
            if worker >= queues[index] {
                senders.push(None);
                continue;
            }
            let bound = afxdp::bind(&mut umem, &interface.name, worker, options)?;
            interface.queues.push(QueuePath {
                zero_copy: bound.zero_copy,
            });
            ports.push(Port {
                receiver: bound.receiver,
                gates: interface.gates.clone(),
                queue: worker,
            });
            senders.push(Some(bound.sender));
        }
        parts.push(WorkerParts {
            ports,
            transmit: Some(Sending {
                pool: umem.into_pool(),
                senders,
            }),
            sockets: kernel_sockets(config)?,
        });
    }
    let vips: Vec<_> = config
        .listeners
        .iter()
        .map(|listener| listener.address)
        .collect();
    for (index, program) in opened.programs.iter_mut().enumerate() {
        for part in &parts {
            // The ports of a worker are in the order of the interfaces, less those without its queue.
            let name = &opened.interfaces[index].name;
            let Some(port) = port_of(part, &queues, index) else {
                continue;
            };
            program
                .set_socket(port.queue, std::os::fd::AsFd::as_fd(&port.receiver))
                .with_context(|| format!("interface `{name}`"))?;
        }
        program.set_vips(&vips)?;
    }
    let data_path = DataPath {
        reason_for_socket: None,
        interfaces: std::mem::take(&mut opened.interfaces),
        cpus: cpus(config, workers)?,
        programs: std::sync::Mutex::new(std::mem::take(&mut opened.programs)),
    };
    Ok(Plan {
        data_path,
        parts,
        interfaces: std::mem::take(&mut opened.infos),
    })
}

/// The port of a worker on an interface, if it has one there.
fn port_of<'a>(part: &'a WorkerParts, queues: &[u32], interface: usize) -> Option<&'a Port> {
    let worker = part.ports.first()?.queue;
    if worker >= queues[interface] {
        return None;
    }
    let before = queues[..interface]
        .iter()
        .filter(|&&count| worker < count)
        .count();
    part.ports.get(before)
}

/// What the XDP program of an interface has steered so far.
fn steered(pins: &Path) -> Result<u64> {
    let counters = read_counters(pins)?;
    let rows = counters.chunks(XdpOutcome::COUNT as usize);
    Ok(rows
        .filter_map(|row| row.get(XdpOutcome::Steered as usize))
        .flatten()
        .sum())
}

/// Programs that are detached again unless they were taken out.
#[derive(Default)]
struct Opened {
    interfaces: Vec<InterfacePath>,
    infos: Vec<InterfaceInfo>,
    programs: Vec<Program>,
}

impl Drop for Opened {
    fn drop(&mut self) {
        for program in self.programs.drain(..) {
            if let Err(error) = program.detach() {
                log::error!("{error:#}");
            }
        }
    }
}
