//! What the kernel's refusals mean for an operator.

use anyhow::Error;
use aya::{
    EbpfError,
    maps::MapError,
    pin::PinError,
    programs::{ProgramError, xdp::XdpError},
};

use super::{AttachMode, interface::Interface};

/// The error number inside an error about a program, if there is one.
pub(super) fn of_program(error: &ProgramError) -> Option<i32> {
    match error {
        ProgramError::SyscallError(error) => error.io_error.raw_os_error(),
        // With a log it is the verifier that refused, whatever number it chose.
        ProgramError::LoadError {
            io_error,
            verifier_log,
        } if verifier_log.to_string().trim().is_empty() => io_error.raw_os_error(),
        ProgramError::XdpError(XdpError::NetlinkError(error)) => error.raw_os_error(),
        _ => None,
    }
}

/// The error number inside an error about a map, if there is one.
pub(super) fn of_map(error: &MapError) -> Option<i32> {
    match error {
        MapError::SyscallError(error) => error.io_error.raw_os_error(),
        MapError::CreateError { io_error, .. } => io_error.raw_os_error(),
        MapError::PinError {
            error: PinError::SyscallError(error),
            ..
        } => error.io_error.raw_os_error(),
        MapError::ElementNotFound | MapError::KeyNotFound => Some(libc::ENOENT),
        _ => None,
    }
}

/// The error number inside an error about an object, if there is one.
pub(super) fn of_load(error: &EbpfError) -> Option<i32> {
    match error {
        EbpfError::MapError(error) => of_map(error),
        EbpfError::ProgramError(error) => of_program(error),
        _ => None,
    }
}

/// Adds what to do about `code`, where that does not depend on the interface.
pub(super) fn with_remedy(code: Option<i32>, error: Error) -> Error {
    match code {
        Some(libc::EPERM | libc::EACCES) => error.context(CAPABILITIES),
        Some(libc::EINVAL) => error.context("siplb needs Linux 5.11 or newer, with BPF and AF_XDP"),
        _ => error,
    }
}

const CAPABILITIES: &str = "siplb needs CAP_BPF, CAP_NET_ADMIN, CAP_NET_RAW and CAP_PERFMON: run it as root, or give \
                            its systemd unit AmbientCapabilities=";

/// Whether an interface that refused a native program with `code` may still take a generic one: not when it has
/// another program or siplb lacks the right to attach any.
pub(super) fn may_work_generic(code: Option<i32>) -> bool {
    !matches!(
        code,
        Some(libc::EBUSY | libc::EEXIST | libc::EPERM | libc::EACCES | libc::ENODEV)
    )
}

/// An error of attaching, with what to do about it.
pub(super) fn attach_failed(
    interface: &str,
    device: &Interface,
    mode: AttachMode,
    error: ProgramError,
) -> Error {
    let code = of_program(&error);
    let remedy = match code {
        Some(libc::EBUSY | libc::EEXIST) => format!(
            "`{interface}` has {} attached already: `bpftool net show dev {interface}` shows whose; `ip link set dev \
             {interface} xdp off` removes one without a link, stopping its owner or removing its pin (`bpftool link`) \
             one with a link",
            device.programs()
        ),
        Some(libc::EOPNOTSUPP) => match mode {
            AttachMode::Native => format!(
                "the driver of `{interface}` has no native XDP: set datapath.xdp to auto or generic"
            ),
            AttachMode::Generic => format!("`{interface}` takes no XDP program"),
        },
        Some(libc::EINVAL | libc::ERANGE) => format!(
            "the driver of `{interface}` refuses XDP with its present settings, mostly for a large MTU or LRO: `ip \
             link set dev {interface} mtu 1500`, `ethtool -K {interface} lro off rx-gro-hw off`; `dmesg` may say more"
        ),
        Some(libc::ENOMEM | libc::ENOSPC) => format!(
            "the driver of `{interface}` lacks memory or queues for XDP: fewer queues (`ethtool -L {interface} \
             combined N`) leave room for those of XDP"
        ),
        Some(libc::ENODEV) => format!("`{interface}` went away meanwhile"),
        _ => return with_remedy(code, error.into()).context(doing(mode)),
    };
    Error::from(error).context(remedy).context(doing(mode))
}

fn doing(mode: AttachMode) -> String {
    format!("attaching in {} mode", mode.name())
}
