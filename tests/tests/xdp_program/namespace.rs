//! Namespaces, and the sockets that the tests need in them.

use std::{
    ffi::CString,
    io,
    mem::{size_of, size_of_val, zeroed},
    os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd},
    path::Path,
    process::Command,
    thread,
    time::Duration,
};

/// Where each test has a BPF file system of its own.
const BPFFS: &str = "/mnt";

/// How long an answer of the kernel may take.
const PATIENCE: Duration = Duration::from_secs(10);

/// Runs `test` in network and mount namespaces of its own and hands it a BPF file system of its own.
///
/// Without the right to do so it says so and returns; where `CI` is set that is a failure.
pub fn isolated(test: impl FnOnce(&Path) + Send) {
    // SAFETY: no arguments, no failure.
    if unsafe { libc::geteuid() } != 0 {
        assert!(
            std::env::var_os("CI").is_none(),
            "the tests of the XDP program need root"
        );
        eprintln!("SKIPPED, not run: the tests of the XDP program need root");
        return;
    }
    // Namespaces belong to a thread. What it starts inherits them, and they go when all of it is gone.
    let result = thread::scope(|scope| {
        scope
            .spawn(|| {
                // SAFETY: no memory is involved; the mount namespace takes the working directory of this thread alone.
                check(unsafe { libc::unshare(libc::CLONE_NEWNET | libc::CLONE_NEWNS) });
                mount_with("none", "/", "", libc::MS_REC | libc::MS_PRIVATE);
                mount("bpf", BPFFS);
                test(Path::new(BPFFS));
            })
            .join()
    });
    if let Err(panic) = result {
        std::panic::resume_unwind(panic);
    }
}

/// Mounts a file system without a device at `at`.
pub fn mount(kind: &str, at: &str) {
    mount_with(kind, at, kind, 0);
}

fn mount_with(source: &str, at: &str, kind: &str, flags: libc::c_ulong) {
    let [source, at, kind] = [source, at, kind].map(|text| CString::new(text).unwrap());
    // SAFETY: every argument is a C string that outlives the call, or null where none is needed.
    check(unsafe {
        libc::mount(
            source.as_ptr(),
            at.as_ptr(),
            kind.as_ptr(),
            flags,
            std::ptr::null(),
        )
    });
}

/// Runs `ip` with `arguments` separated by spaces.
pub fn ip(arguments: &str) {
    ip_output(arguments);
}

/// Runs `ip` and returns what it prints.
pub fn ip_output(arguments: &str) -> String {
    let output = Command::new("ip")
        .args(arguments.split(' '))
        .output()
        .expect("the program `ip` of iproute2");
    assert!(output.status.success(), "ip {arguments}: {output:?}");
    String::from_utf8(output.stdout).unwrap()
}

pub fn interface_index(name: &str) -> u32 {
    let name = CString::new(name).unwrap();
    // SAFETY: a C string that outlives the call.
    let index = unsafe { libc::if_nametoindex(name.as_ptr()) };
    assert_ne!(index, 0, "{}", io::Error::last_os_error());
    index
}

/// `CLOCK_MONOTONIC` in nanoseconds.
pub fn monotonic_ns() -> u64 {
    // SAFETY: a C struct of integers, for which all zeroes is a value.
    let mut now: libc::timespec = unsafe { zeroed() };
    // SAFETY: `now` is ours and outlives the call.
    check(unsafe { libc::clock_gettime(libc::CLOCK_MONOTONIC, &raw mut now) });
    now.tv_sec as u64 * 1_000_000_000 + now.tv_nsec as u64
}

/// A raw socket on one interface.
pub struct PacketSocket {
    fd: OwnedFd,
}

impl PacketSocket {
    pub fn new(interface: &str) -> Self {
        let protocol = (libc::ETH_P_ALL as u16).to_be();
        let fd = socket(libc::AF_PACKET, i32::from(protocol));
        // SAFETY: a C struct of integers, for which all zeroes is a value.
        let mut address: libc::sockaddr_ll = unsafe { zeroed() };
        address.sll_family = libc::AF_PACKET as u16;
        address.sll_protocol = protocol;
        address.sll_ifindex = interface_index(interface) as i32;
        // SAFETY: `address` is of the length that is given and outlives the call.
        check(unsafe {
            libc::bind(
                fd.as_raw_fd(),
                (&raw const address).cast(),
                size_of_val(&address) as libc::socklen_t,
            )
        });
        let timeout = libc::timeval {
            tv_sec: PATIENCE.as_secs() as libc::time_t,
            tv_usec: 0,
        };
        set_option(&fd, libc::SOL_SOCKET, libc::SO_RCVTIMEO, &timeout);
        Self { fd }
    }

    pub fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }

    pub fn send(&self, frame: &[u8]) {
        // SAFETY: the bytes outlive the call.
        let sent =
            unsafe { libc::send(self.fd.as_raw_fd(), frame.as_ptr().cast(), frame.len(), 0) };
        assert_eq!(sent, frame.len() as isize, "{}", io::Error::last_os_error());
    }

    /// Reads frames until `frame` is among them.
    pub fn wait_for(&self, frame: &[u8]) {
        let mut buffer = [0; 2048];
        loop {
            // SAFETY: the buffer is ours and as long as is said.
            let len = unsafe {
                libc::recv(
                    self.fd.as_raw_fd(),
                    buffer.as_mut_ptr().cast(),
                    buffer.len(),
                    0,
                )
            };
            let len = usize::try_from(len)
                .unwrap_or_else(|_| panic!("no such frame: {}", io::Error::last_os_error()));
            if &buffer[..len] == frame {
                return;
            }
        }
    }
}

/// An AF_XDP socket with a UMEM, a fill ring and an RX ring, not bound to any interface: enough for the XSKMAP and for
/// `BPF_PROG_RUN`, which moves no frame.
pub struct AfXdpSocket {
    fd: OwnedFd,
    _umem: Box<Umem>,
}

#[repr(C, align(4096))]
struct Umem([u8; 8192]);

impl AfXdpSocket {
    pub fn new() -> Self {
        let fd = socket(libc::AF_XDP, 0);
        let umem = Box::new(Umem([0; 8192]));
        let registration = libc::xdp_umem_reg_v1 {
            addr: (&raw const *umem) as u64,
            len: size_of::<Umem>() as u64,
            chunk_size: 2048,
            headroom: 0,
        };
        // The kernel pins the memory until the socket is closed, which the order of the fields here ensures.
        set_option(&fd, libc::SOL_XDP, libc::XDP_UMEM_REG, &registration);
        let ring_len: u32 = 4;
        for ring in [
            libc::XDP_UMEM_FILL_RING,
            libc::XDP_UMEM_COMPLETION_RING,
            libc::XDP_RX_RING,
        ] {
            set_option(&fd, libc::SOL_XDP, ring, &ring_len);
        }
        Self { fd, _umem: umem }
    }

    pub fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

fn socket(family: i32, protocol: i32) -> OwnedFd {
    // SAFETY: no memory is involved.
    let fd = unsafe { libc::socket(family, libc::SOCK_RAW | libc::SOCK_CLOEXEC, protocol) };
    check(fd);
    // SAFETY: the kernel has just made this descriptor for us.
    unsafe { OwnedFd::from_raw_fd(fd) }
}

fn set_option<T>(fd: &OwnedFd, level: i32, name: i32, value: &T) {
    // SAFETY: `value` is of the length that is given and outlives the call.
    check(unsafe {
        libc::setsockopt(
            fd.as_raw_fd(),
            level,
            name,
            (value as *const T).cast(),
            size_of::<T>() as libc::socklen_t,
        )
    });
}

#[track_caller]
fn check(result: i32) {
    assert!(result >= 0, "{}", io::Error::last_os_error());
}
