//! The directory in a BPF file system that keeps an interface's link and maps.
//!
//! ```text
//! <pin_path>/<interface>/v1/link       attaches the program; lives on when the process dies
//!                           COUNTERS   read by `siplb stats`, also without the daemon
//!                           GATES  VIPS  XSKS
//! ```

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use anyhow::{Context, Result, bail};
use aya::maps::{Array, Map, MapData, MapInfo, MapType, PerCpuArray};
use lb_common::xdp::{
    COUNTERS, COUNTERS_LEN, GATES, GATES_FLAGS, Gate, LAYOUT_VERSION, MAX_QUEUES, MAX_VIPS, VIPS,
    VipKey, XSKS,
};

use rustix::mount::MountFlags;

use super::kernel;

/// Where BPF file systems are mounted by custom, and where one is mounted when it is missing.
const BPFFS: &str = "/sys/fs/bpf";

/// Name of the pinned link.
const LINK: &str = "link";

/// Type, key size, value size, entries and flags that a pinned map must have.
type MapShape = (MapType, u32, u32, u32, u32);

/// The maps that are pinned, with their shapes.
const MAPS: [(&str, MapShape); 4] = [
    (COUNTERS, (MapType::PerCpuArray, 4, 8, COUNTERS_LEN, 0)),
    (
        GATES,
        (
            MapType::Array,
            4,
            size_of::<Gate>() as u32,
            MAX_QUEUES,
            GATES_FLAGS,
        ),
    ),
    (
        VIPS,
        (MapType::Hash, size_of::<VipKey>() as u32, 4, MAX_VIPS, 0),
    ),
    (XSKS, (MapType::XskMap, 4, 4, MAX_QUEUES, 0)),
];

/// Where the XDP program of `interface` keeps its pins below `pin_path`, for this layout of the maps.
///
/// A BPF file system has no dots in names, so `eth0.5` becomes `eth0_5`.
pub fn pin_dir(pin_path: &Path, interface: &str) -> PathBuf {
    pin_path
        .join(interface.replace('.', "_"))
        .join(LAYOUT_VERSION)
}

/// The pinned link in `pin_dir`.
pub(super) fn link(pin_dir: &Path) -> PathBuf {
    pin_dir.join(LINK)
}

/// The names and paths of the pinned maps.
pub(super) fn maps(pin_dir: &Path) -> impl Iterator<Item = (&'static str, PathBuf)> {
    MAPS.iter().map(|(name, _)| (*name, pin_dir.join(name)))
}

/// Makes `pin_dir` a directory on a BPF file system, and removes pinned maps from it that another build left there in
/// another shape.
///
/// # Errors
///
/// When there is no BPF file system and none can be mounted, and when the directory cannot be made.
pub(super) fn prepare(pin_dir: &Path) -> Result<()> {
    ensure_bpffs(pin_dir)?;
    fs::create_dir_all(pin_dir).with_context(|| {
        let hint = match pin_dir.to_string_lossy().contains('.') {
            true => "; a BPF file system has no dots in names: choose another datapath.pin_path",
            false => "; run as root, or with CAP_BPF and a pin path that this user may write",
        };
        format!("making the pin directory {}{hint}", pin_dir.display())
    })?;
    for (name, shape) in MAPS {
        let path = pin_dir.join(name);
        if !path.exists() {
            continue;
        }
        let found = MapInfo::from_pin(&path)
            .and_then(|info| {
                Ok((
                    info.map_type()?,
                    info.key_size(),
                    info.value_size(),
                    info.max_entries(),
                    info.map_flags(),
                ))
            })
            .with_context(|| format!("looking at the pinned map {}", path.display()))?;
        if !same_shape(found, shape) {
            log::warn!(
                "removing the pinned map {}: another build of siplb made it (found {found:?}, need {shape:?})",
                path.display()
            );
            fs::remove_file(&path)
                .with_context(|| format!("removing the pinned map {}", path.display()))?;
        }
    }
    Ok(())
}

fn same_shape(found: MapShape, wanted: MapShape) -> bool {
    let kind = |kind: MapType| std::mem::discriminant(&kind);
    kind(found.0) == kind(wanted.0)
        && (found.1, found.2, found.3, found.4) == (wanted.1, wanted.2, wanted.3, wanted.4)
}

fn ensure_bpffs(pin_dir: &Path) -> Result<()> {
    let existing = pin_dir
        .ancestors()
        .find(|path| path.exists())
        .unwrap_or(Path::new("/"));
    if is_bpffs(existing)? {
        return Ok(());
    }
    if !pin_dir.starts_with(BPFFS) {
        let pin_path = pin_dir.ancestors().nth(2).unwrap_or(pin_dir).display();
        bail!(
            "the pin path {} is not on a BPF file system: run `mkdir -p {pin_path} && mount -t bpf bpf {pin_path}`, or \
             choose one below {BPFFS}",
            pin_dir.display()
        );
    }
    let mount_point = Path::new(BPFFS);
    rustix::mount::mount(
        "bpf",
        mount_point,
        "bpf",
        MountFlags::empty(),
        Some(c"mode=0700"),
    )
    .with_context(|| {
        format!(
            "{BPFFS} is not a BPF file system and mounting one failed: run `mount -t bpf bpf {BPFFS}` as root (in this \
             mount namespace, of a kernel with CONFIG_BPF_SYSCALL)"
        )
    })?;
    log::info!("mounted a BPF file system at {BPFFS}");
    match is_bpffs(mount_point)? {
        true => Ok(()),
        false => bail!("{BPFFS} is still not a BPF file system after mounting one there"),
    }
}

fn is_bpffs(path: &Path) -> Result<bool> {
    /// `BPF_FS_MAGIC` of `linux/magic.h`.
    const BPF_FS_MAGIC: u32 = 0xcafe_4a11;
    let info =
        rustix::fs::statfs(path).with_context(|| format!("looking at {}", path.display()))?;
    // The type of the field differs between architectures; the number fits its low 32 bits in each.
    Ok(info.f_type as u32 == BPF_FS_MAGIC)
}

/// Directories of other layouts beside `pin_dir`.
pub(super) fn other_layouts(pin_dir: &Path) -> Vec<PathBuf> {
    let is_layout = |path: &Path| {
        path.file_name()
            .and_then(|name| name.to_str()?.strip_prefix('v'))
            .is_some_and(|digits| {
                !digits.is_empty() && digits.bytes().all(|it| it.is_ascii_digit())
            })
    };
    let Some(entries) = pin_dir
        .parent()
        .and_then(|parent| fs::read_dir(parent).ok())
    else {
        return Vec::new();
    };
    entries
        .filter_map(|entry| Some(entry.ok()?.path()))
        .filter(|path| path != pin_dir && is_layout(path))
        .collect()
}

/// Detaches the pinned link, if there is one, and removes its pin.
///
/// # Errors
///
/// When the kernel refuses one of both.
pub(super) fn remove_link(pin_dir: &Path) -> Result<()> {
    let link = link(pin_dir);
    if !link.exists() {
        return Ok(());
    }
    match kernel::detach_pinned_link(&link) {
        Ok(()) => {}
        // The interface is gone already.
        Err(error) if error.raw_os_error() == Some(libc::ENOLINK) => {}
        Err(error) => {
            return Err(error).with_context(|| format!("detaching the link {}", link.display()));
        }
    }
    fs::remove_file(&link).with_context(|| format!("removing the pinned link {}", link.display()))
}

/// Removes everything in `pin_dir`, and its parents as far as they are empty and ours.
///
/// # Errors
///
/// When a file cannot be removed.
pub(super) fn remove_all(pin_dir: &Path) -> Result<()> {
    match fs::remove_dir_all(pin_dir) {
        Ok(()) => {}
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        Err(error) => {
            return Err(error)
                .with_context(|| format!("removing the pin directory {}", pin_dir.display()));
        }
    }
    // The directory of the interface goes too, unless another layout still is in there; so does that of the node.
    for parent in pin_dir.ancestors().skip(1).take(2) {
        if parent == Path::new(BPFFS) || fs::remove_dir(parent).is_err() {
            break;
        }
    }
    Ok(())
}

/// The counters of the XDP program pinned in `pin_dir`: for each index
/// ([`lb_common::xdp::counter_index`]) a value for every possible CPU. Works whether the daemon runs or not.
///
/// # Errors
///
/// When nothing is pinned there, or this user may not read it.
pub fn read_counters(pin_dir: &Path) -> Result<Vec<Vec<u64>>> {
    let map = open(pin_dir, COUNTERS)?;
    let counters = PerCpuArray::<_, u64>::try_from(map)?;
    if counters.len() != COUNTERS_LEN {
        bail!(
            "the counters in {} are of another version of siplb ({} of them instead of {COUNTERS_LEN})",
            pin_dir.display(),
            counters.len()
        );
    }
    let values = counters
        .iter()
        .map(|values| Ok(values?.to_vec()))
        .collect::<Result<_, aya::maps::MapError>>()?;
    Ok(values)
}

/// The gates of the XDP program pinned in `pin_dir`, one a queue. Works whether the daemon runs or not.
///
/// # Errors
///
/// When nothing is pinned there, or this user may not read it.
pub fn read_gates(pin_dir: &Path) -> Result<Vec<Gate>> {
    let map = open(pin_dir, GATES)?;
    let gates = Array::<_, Gate>::try_from(map)?;
    let gates = gates.iter().collect::<Result<_, _>>()?;
    Ok(gates)
}

fn open(pin_dir: &Path, name: &str) -> Result<Map> {
    let path = pin_dir.join(name);
    let map = MapData::from_pin(&path).and_then(Map::from_map_data);
    map.with_context(|| match path.try_exists() {
        Ok(false) => format!(
            "no XDP program is pinned at {}: is datapath.pin_path the one of the running siplb?",
            pin_dir.display()
        ),
        Ok(true) | Err(_) => format!(
            "opening the map {}: run as root or with CAP_BPF",
            path.display()
        ),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pins_have_a_directory_of_their_own_per_interface_and_layout() {
        let cases = [
            ("eth0", "/sys/fs/bpf/siplb/a/eth0/v1"),
            ("eth0.5", "/sys/fs/bpf/siplb/a/eth0_5/v1"),
        ];
        for (interface, expected) in cases {
            let dir = pin_dir(Path::new("/sys/fs/bpf/siplb/a"), interface);
            assert_eq!(dir, Path::new(expected));
        }
    }

    #[test]
    fn a_pin_path_outside_a_bpf_file_system_names_the_command() {
        let error = prepare(Path::new("/proc/self/siplb/eth0/v1")).unwrap_err();
        let text = format!("{error:#}");
        assert!(text.contains("mount -t bpf bpf /proc/self/siplb"), "{text}");
    }

    #[test]
    fn reading_counters_of_nothing_says_what_to_look_at() {
        let error = read_counters(Path::new("/proc/self/siplb/eth0/v1")).unwrap_err();
        let text = format!("{error:#}");
        assert!(text.contains("datapath.pin_path"), "{text}");
    }
}
