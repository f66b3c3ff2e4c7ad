//! Loads the XDP program, attaches it to an interface, keeps its link and maps pinned, and hands out its maps.
//!
//! The pinned link outlives the process: after a crash the program stays attached, its gates go stale, and datagrams
//! pass to the kernel. The next process replaces the program through the same link, in one step and without a gap.

mod debug_log;
mod errors;
#[allow(unsafe_code)]
mod gates;
mod interface;
#[allow(unsafe_code)]
mod kernel;
mod pins;

use std::{
    collections::HashSet,
    fmt,
    net::{IpAddr, SocketAddr},
    os::fd::{AsFd, AsRawFd, BorrowedFd},
    path::{Path, PathBuf},
};

use anyhow::{Context, Result, bail};
use aya::{
    Ebpf, EbpfLoader,
    maps::{HashMap, Map, MapData, XskMap},
    programs::{
        ProgramError, Xdp, XdpMode,
        links::{FdLink, PinnedLink},
        xdp::XdpLink,
    },
};
use lb_common::{
    decode::{Endpoint, map_ipv4},
    xdp::{GATES, MAX_QUEUES, MAX_VIPS, PROGRAM, VIPS, VipKey, XSKS, station},
};

use crate::config::WantedAttach;

use debug_log::DebugLog;
use interface::Interface;

pub use gates::Gates;
pub use pins::{pin_dir, read_counters, read_gates};

/// The compiled XDP program: an ELF object.
pub static OBJECT: &[u8] = aya::include_bytes_aligned!(env!("SIPLB_XDP_OBJECT"));

/// How the XDP program is attached.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AttachMode {
    /// In the driver.
    Native,
    /// Behind the driver, after the kernel made a socket buffer.
    Generic,
}

impl AttachMode {
    /// The name in status and logs.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Native => "native",
            Self::Generic => "generic",
        }
    }
}

/// The XDP program on one interface, with maps of its own.
///
/// Dropping it leaves the program attached and the maps pinned, as a crash would; [`Program::detach`] takes all away.
pub struct Program {
    interface: String,
    pin_dir: PathBuf,
    mode: AttachMode,
    fallback_reason: Option<String>,
    gates: Gates,
    vips: HashMap<MapData, VipKey, u32>,
    sockets: XskMap<MapData>,
    _link: FdLink,
    _debug_log: Option<DebugLog>,
    _ebpf: Ebpf,
}

impl Program {
    /// Attaches the program to `interface` with all gates closed, all queues without a socket, and its link and maps
    /// pinned in `pin_dir` (see [`pin_dir()`]).
    ///
    /// If a link is pinned there and is alive, its program is replaced in one step, and the mode stays. VIPs and
    /// counters stay as they were; the links and maps of other layouts are taken over and removed.
    ///
    /// # Errors
    ///
    /// With the interface, what the kernel refused, and what to do about it.
    pub fn attach(
        interface: &str,
        pin_dir: &Path,
        wanted: WantedAttach,
        debug_log: bool,
    ) -> Result<Self> {
        let device = Interface::query(interface)?;
        pins::prepare(pin_dir)?;
        let result = Self::attach_prepared(interface, &device, pin_dir, wanted, debug_log);
        if result.is_err()
            && !pins::link(pin_dir).exists()
            && let Err(error) = pins::remove_all(pin_dir)
        {
            log::warn!("{error:#}");
        }
        result.with_context(|| format!("XDP program on interface `{interface}`"))
    }

    fn attach_prepared(
        interface: &str,
        device: &Interface,
        pin_dir: &Path,
        wanted: WantedAttach,
        debug_log: bool,
    ) -> Result<Self> {
        let mut ebpf = load(pin_dir, debug_log)?;
        let debug_log = match debug_log {
            true => Some(DebugLog::start(&mut ebpf, interface)?),
            false => None,
        };
        let gates = Gates::map(gates_fd(&take_map(&mut ebpf, GATES)?)?)?;
        let vips = HashMap::try_from(take_map(&mut ebpf, VIPS)?)?;
        let sockets = XskMap::try_from(take_map(&mut ebpf, XSKS)?)?;

        // From here on a process that still serves this interface loses it.
        gates.reset(station(device.mac));
        let xdp = xdp_program(&mut ebpf)?;
        let attached = attach_link(xdp, interface, device, pin_dir, wanted)?;
        let id = xdp.info()?.id();
        let mode = verify(interface, id)?;
        log::info!(
            "XDP program {id} is attached to `{interface}` in {} mode",
            mode.name()
        );

        let mut program = Self {
            interface: interface.to_owned(),
            pin_dir: pin_dir.to_owned(),
            mode,
            fallback_reason: attached.fallback_reason,
            gates,
            vips,
            sockets,
            _link: attached.link,
            _debug_log: debug_log,
            _ebpf: ebpf,
        };
        for queue in 0..MAX_QUEUES {
            program.clear_socket(queue)?;
        }
        for other in pins::other_layouts(pin_dir) {
            log::info!("removing the pins of another version, {}", other.display());
            pins::remove_all(&other)?;
        }
        Ok(program)
    }

    /// How the program is attached, as the kernel says.
    pub fn attach_mode(&self) -> AttachMode {
        self.mode
    }

    /// Why the program is attached in generic mode though native was preferred, if so.
    pub fn fallback_reason(&self) -> Option<&str> {
        self.fallback_reason.as_deref()
    }

    /// Makes `vips` the addresses and ports whose datagrams are steered. Those that stay are steered all the while.
    ///
    /// # Errors
    ///
    /// When there are more than [`MAX_VIPS`], or the kernel refuses.
    pub fn set_vips(&mut self, vips: &[SocketAddr]) -> Result<()> {
        let interface = &self.interface;
        if vips.len() > MAX_VIPS as usize {
            bail!(
                "{} listeners on interface `{interface}`; the XDP program has room for {MAX_VIPS}",
                vips.len()
            );
        }
        let wanted: HashSet<VipKey> = vips.iter().copied().map(vip_key).collect();
        let present = self
            .vips
            .keys()
            .collect::<Result<HashSet<VipKey>, _>>()
            .with_context(|| format!("reading the VIPs of interface `{interface}`"))?;
        // Room first: a changed set may be full.
        for gone in present.difference(&wanted) {
            self.vips
                .remove(gone)
                .with_context(|| format!("removing a VIP of interface `{interface}`"))?;
        }
        for (index, vip) in vips.iter().enumerate() {
            let index = u32::try_from(index).context("number of listeners")?;
            self.vips
                .insert(vip_key(*vip), index, 0)
                .with_context(|| format!("adding the VIP {vip} to interface `{interface}`"))?;
        }
        Ok(())
    }

    /// Makes `socket` (AF_XDP, bound to this interface and `queue`) the one that gets the frames of `queue`, once the
    /// gate is open.
    ///
    /// # Errors
    ///
    /// When `queue` is [`MAX_QUEUES`] or beyond, or the kernel refuses the socket.
    pub fn set_socket(&mut self, queue: u32, socket: BorrowedFd<'_>) -> Result<()> {
        let interface = &self.interface;
        if queue >= MAX_QUEUES {
            bail!(
                "queue {queue} of interface `{interface}`: siplb serves queues 0 to {}; `ethtool -L {interface} \
                 combined {MAX_QUEUES}` sets their number",
                MAX_QUEUES - 1
            );
        }
        self.sockets
            .set(queue, socket.as_raw_fd(), 0)
            .with_context(|| format!("giving queue {queue} of interface `{interface}` its socket"))
    }

    /// Leaves `queue` without a socket: its frames pass to the kernel, whatever its gate.
    ///
    /// # Errors
    ///
    /// When the kernel refuses; an empty slot is no error.
    pub fn clear_socket(&mut self, queue: u32) -> Result<()> {
        match self.sockets.unset(queue) {
            Ok(()) => Ok(()),
            Err(error) if errors::of_map(&error) == Some(libc::ENOENT) => Ok(()),
            Err(error) => Err(error).with_context(|| {
                format!(
                    "taking the socket from queue {queue} of interface `{}`",
                    self.interface
                )
            }),
        }
    }

    /// A handle on the gates of the queues, for workers and the watchdog.
    pub fn gates(&self) -> Gates {
        self.gates.clone()
    }

    /// Closes the gates, detaches the program and removes all pins.
    ///
    /// # Errors
    ///
    /// When the kernel refuses to detach it; the gates are closed all the same.
    pub fn detach(self) -> Result<()> {
        self.gates.close_all();
        pins::remove_link(&self.pin_dir)?;
        pins::remove_all(&self.pin_dir)
    }
}

impl fmt::Debug for Program {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("Program")
            .field("interface", &self.interface)
            .field("pin_dir", &self.pin_dir)
            .field("mode", &self.mode)
            .finish_non_exhaustive()
    }
}

struct Attached {
    link: FdLink,
    fallback_reason: Option<String>,
}

fn load(pin_dir: &Path, debug_log: bool) -> Result<Ebpf> {
    if OBJECT.is_empty() {
        bail!("this siplb was built without an XDP program: run `cargo xtask build`");
    }
    let level = match debug_log {
        true => aya_log::Level::Debug as u8,
        false => 0,
    };
    let mut loader = EbpfLoader::new();
    loader.override_global(aya_log::LEVEL, &level, true);
    for (name, path) in pins::maps(pin_dir) {
        loader.map_pin_path(name, path);
    }
    let mut ebpf = loader
        .load(OBJECT)
        .map_err(|error| errors::with_remedy(errors::of_load(&error), error.into()))
        .context("creating the maps of the XDP program")?;
    xdp_program(&mut ebpf)?
        .load()
        .map_err(|error| errors::with_remedy(errors::of_program(&error), error.into()))
        .context("loading the XDP program")?;
    Ok(ebpf)
}

fn xdp_program(ebpf: &mut Ebpf) -> Result<&mut Xdp> {
    let program = ebpf
        .program_mut(PROGRAM)
        .with_context(|| format!("the XDP object has no program `{PROGRAM}`"))?;
    Ok(program.try_into()?)
}

fn take_map(ebpf: &mut Ebpf, name: &str) -> Result<Map> {
    ebpf.take_map(name)
        .with_context(|| format!("the XDP object has no map `{name}`"))
}

fn gates_fd(map: &Map) -> Result<BorrowedFd<'_>> {
    match map {
        Map::Array(data) => Ok(data.fd().as_fd()),
        _ => bail!("the map `{GATES}` of the XDP object is not an array"),
    }
}

/// Replaces the program of the pinned link, or attaches it anew and pins the link.
fn attach_link(
    xdp: &mut Xdp,
    interface: &str,
    device: &Interface,
    pin_dir: &Path,
    wanted: WantedAttach,
) -> Result<Attached> {
    for dir in std::iter::once(pin_dir.to_owned()).chain(pins::other_layouts(pin_dir)) {
        let Some(mode) = pinned_mode(&dir, device)? else {
            continue;
        };
        let keep = match wanted {
            WantedAttach::Auto => true,
            WantedAttach::Native => mode == AttachMode::Native,
            WantedAttach::Generic => mode == AttachMode::Generic,
        };
        if !keep {
            log::info!(
                "`{interface}` has the XDP program of an earlier run in {} mode: attaching it anew",
                mode.name()
            );
            pins::remove_link(&dir)?;
            continue;
        }
        let link = replace(xdp, &dir)
            .with_context(|| format!("replacing the program of the link {}", dir.display()))?;
        let link = match dir == pin_dir {
            true => link,
            false => pin(link, pin_dir)?,
        };
        let reason = "an earlier run attached it in generic mode, and its link is kept";
        return Ok(Attached {
            link,
            fallback_reason: (mode == AttachMode::Generic && wanted == WantedAttach::Auto)
                .then(|| reason.to_owned()),
        });
    }

    let (link, fallback_reason) = attach_anew(xdp, interface, device, wanted)?;
    Ok(Attached {
        link: pin(link, pin_dir)?,
        fallback_reason,
    })
}

/// The mode of the link pinned in `pin_dir`, or `None` when there is none on this interface; a pin that is left of an
/// interface that is gone is removed.
fn pinned_mode(pin_dir: &Path, device: &Interface) -> Result<Option<AttachMode>> {
    let path = pins::link(pin_dir);
    if !path.exists() {
        return Ok(None);
    }
    let link = PinnedLink::from_pin(&path)
        .with_context(|| format!("opening the pinned link {}", path.display()))?;
    let program = FdLink::from(link).info()?.program_id();
    if device.native == Some(program) {
        Ok(Some(AttachMode::Native))
    } else if device.generic == Some(program) {
        Ok(Some(AttachMode::Generic))
    } else {
        log::info!(
            "removing the pinned link {}: its interface is gone",
            path.display()
        );
        std::fs::remove_file(&path)
            .with_context(|| format!("removing the pinned link {}", path.display()))?;
        Ok(None)
    }
}

fn replace(xdp: &mut Xdp, pin_dir: &Path) -> Result<FdLink> {
    let link = FdLink::from(PinnedLink::from_pin(pins::link(pin_dir))?);
    let id = xdp
        .attach_to_link(XdpLink::try_from(link)?)
        .map_err(|error| errors::with_remedy(errors::of_program(&error), error.into()))?;
    Ok(FdLink::try_from(xdp.take_link(id)?)?)
}

fn pin(link: FdLink, pin_dir: &Path) -> Result<FdLink> {
    let path = pins::link(pin_dir);
    let link = link
        .pin(&path)
        .with_context(|| format!("pinning the link at {}", path.display()))?;
    Ok(link.into())
}

fn attach_anew(
    xdp: &mut Xdp,
    interface: &str,
    device: &Interface,
    wanted: WantedAttach,
) -> Result<(FdLink, Option<String>)> {
    let first = match wanted {
        WantedAttach::Auto | WantedAttach::Native => AttachMode::Native,
        WantedAttach::Generic => AttachMode::Generic,
    };
    let (id, fallback_reason) = match attach_as(xdp, device, first) {
        Ok(id) => (id, None),
        Err(error) => {
            let code = errors::of_program(&error);
            let reason = errors::attach_failed(interface, device, first, error);
            if wanted != WantedAttach::Auto || !errors::may_work_generic(code) {
                return Err(reason);
            }
            log::warn!("falling back to generic XDP on `{interface}`: {reason:#}");
            let id = attach_as(xdp, device, AttachMode::Generic).map_err(|error| {
                errors::attach_failed(interface, device, AttachMode::Generic, error)
            })?;
            (id, Some(format!("{reason:#}")))
        }
    };
    let link = FdLink::try_from(xdp.take_link(id)?).with_context(|| {
        format!(
            "this kernel attaches XDP without a link, which cannot be pinned (Linux 5.11 can): run `ip link set dev \
             {interface} xdp off`"
        )
    })?;
    Ok((link, fallback_reason))
}

fn attach_as(
    xdp: &mut Xdp,
    device: &Interface,
    mode: AttachMode,
) -> Result<aya::programs::xdp::XdpLinkId, ProgramError> {
    let mode = match mode {
        AttachMode::Native => XdpMode::Driver,
        AttachMode::Generic => XdpMode::Skb,
    };
    xdp.attach_to_if_index(device.index, mode)
}

/// Asks the kernel whether the program is on the interface, and how.
fn verify(interface: &str, program: u32) -> Result<AttachMode> {
    let device = Interface::query(interface)?;
    if device.native == Some(program) {
        Ok(AttachMode::Native)
    } else if device.generic == Some(program) {
        Ok(AttachMode::Generic)
    } else {
        bail!(
            "program {program} was attached, but the interface has {} now: another process attaches programs to it \
             too (`bpftool net show dev {interface}`)",
            device.programs()
        )
    }
}

/// The key of a listener's address; an IPv4-mapped one counts as IPv4, as it does on the wire.
fn vip_key(vip: SocketAddr) -> VipKey {
    VipKey::new(Endpoint {
        address: match vip.ip().to_canonical() {
            IpAddr::V4(address) => map_ipv4(address.octets()),
            IpAddr::V6(address) => address.octets(),
        },
        port: vip.port(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_ways_to_write_an_ipv4_listener_are_one_key() {
        let plain: SocketAddr = "192.0.2.1:5060".parse().unwrap();
        let mapped: SocketAddr = "[::ffff:192.0.2.1]:5060".parse().unwrap();
        assert_eq!(vip_key(plain), vip_key(mapped));
        assert_eq!(vip_key(plain).port, 5060u16.to_be_bytes());
    }
}
