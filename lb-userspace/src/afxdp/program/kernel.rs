//! What aya lacks of the bpf system call.

use std::{
    ffi::CString,
    io,
    mem::size_of,
    os::{
        fd::{AsRawFd, FromRawFd, OwnedFd},
        unix::ffi::OsStrExt,
    },
    path::Path,
};

/// Commands of the bpf system call (`enum bpf_cmd` in `linux/bpf.h`).
const BPF_OBJ_GET: libc::c_long = 7;
const BPF_LINK_DETACH: libc::c_long = 34;

/// `union bpf_attr` of `BPF_OBJ_GET`.
#[repr(C)]
#[derive(Default)]
struct ObjectAttributes {
    pathname: u64,
    bpf_fd: u32,
    file_flags: u32,
}

/// `union bpf_attr` of `BPF_LINK_DETACH`.
#[repr(C)]
#[derive(Default)]
struct DetachAttributes {
    link_fd: u32,
}

/// Detaches the link that is pinned at `path` from its interface at once. Removing the pin does it too, but only when
/// the kernel gets round to freeing the link, and until then the interface counts as busy.
///
/// # Errors
///
/// Those of the bpf system call.
pub(super) fn detach_pinned_link(path: &Path) -> io::Result<()> {
    let path = CString::new(path.as_os_str().as_bytes())?;
    let attributes = ObjectAttributes {
        pathname: path.as_ptr() as u64,
        ..Default::default()
    };
    let fd = bpf(BPF_OBJ_GET, &attributes)?;
    let fd = i32::try_from(fd).map_err(io::Error::other)?;
    // SAFETY: the kernel has just made this descriptor for us, and nobody else knows its number.
    let link = unsafe { OwnedFd::from_raw_fd(fd) };
    let attributes = DetachAttributes {
        link_fd: link.as_raw_fd().cast_unsigned(),
    };
    bpf(BPF_LINK_DETACH, &attributes)?;
    Ok(())
}

fn bpf<T>(command: libc::c_long, attributes: &T) -> io::Result<libc::c_long> {
    // SAFETY: `attributes` is a `repr(C)` prefix of the `union bpf_attr` of this command, with its size beside it; both
    // commands only read it, and what it points to outlives the call.
    let result = unsafe {
        libc::syscall(
            libc::SYS_bpf,
            command,
            attributes as *const T,
            size_of::<T>(),
        )
    };
    if result < 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(result)
}
