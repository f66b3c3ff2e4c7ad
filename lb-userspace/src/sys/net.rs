//! Socket options, polling and device queries that neither `std` nor xsk-rs offers.

use std::{
    ffi::{c_int, c_void},
    io, mem,
    net::SocketAddr,
    os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd},
    time::Duration,
};

/// `XDP_OPTIONS` of `linux/if_xdp.h`: what a bound AF_XDP socket really got.
const XDP_OPTIONS: c_int = 8;
/// Bit of `XDP_OPTIONS`: the socket is bound in zero-copy mode.
const XDP_OPTIONS_ZEROCOPY: u32 = 1;
/// `XDP_MAX_TX_SKB_BUDGET` of `linux/if_xdp.h` (kernel 6.17): descriptors that one call sends in copy mode.
const XDP_MAX_TX_SKB_BUDGET: c_int = 9;

fn check(result: c_int) -> io::Result<c_int> {
    if result < 0 {
        Err(io::Error::last_os_error())
    } else {
        Ok(result)
    }
}

/// Sets an option whose value is a plain integer.
fn set_int(fd: BorrowedFd<'_>, level: c_int, name: c_int, value: c_int) -> io::Result<()> {
    // SAFETY: the pointer and the length describe `value`, which lives across the call; the kernel only reads it.
    check(unsafe {
        libc::setsockopt(
            fd.as_raw_fd(),
            level,
            name,
            (&raw const value).cast::<c_void>(),
            mem::size_of::<c_int>() as libc::socklen_t,
        )
    })
    .map(drop)
}

/// A non-blocking UDP socket on a VIP and port, shared by `SO_REUSEPORT` with the other workers' sockets.
///
/// The address need not be on the host yet (`IP_FREEBIND`). Datagrams larger than the MTU are fragmented by the kernel:
/// path MTU discovery is off, so none of them is refused or carries the don't-fragment flag.
///
/// # Errors
///
/// Those of `socket`, `setsockopt` and `bind`.
pub fn udp_socket(address: SocketAddr, receive_buffer_bytes: usize) -> io::Result<OwnedFd> {
    let family = if address.is_ipv4() {
        libc::AF_INET
    } else {
        libc::AF_INET6
    };
    // SAFETY: `socket` takes plain integers.
    let fd = check(unsafe {
        libc::socket(
            family,
            libc::SOCK_DGRAM | libc::SOCK_NONBLOCK | libc::SOCK_CLOEXEC,
            0,
        )
    })?;
    // SAFETY: `fd` was just made by `socket` and nothing else owns it.
    let socket = unsafe { OwnedFd::from_raw_fd(fd) };
    let fd = std::os::fd::AsFd::as_fd(&socket);
    set_int(fd, libc::SOL_SOCKET, libc::SO_REUSEPORT, 1)?;
    let bytes = receive_buffer_bytes.min(c_int::MAX as usize) as c_int;
    // The first needs CAP_NET_ADMIN and goes beyond net.core.rmem_max; the second is what anyone may have.
    if set_int(fd, libc::SOL_SOCKET, libc::SO_RCVBUFFORCE, bytes).is_err() {
        set_int(fd, libc::SOL_SOCKET, libc::SO_RCVBUF, bytes)?;
    }
    if address.is_ipv4() {
        set_int(fd, libc::IPPROTO_IP, libc::IP_FREEBIND, 1)?;
        set_int(
            fd,
            libc::IPPROTO_IP,
            libc::IP_MTU_DISCOVER,
            libc::IP_PMTUDISC_DONT,
        )?;
    } else {
        set_int(fd, libc::IPPROTO_IPV6, libc::IPV6_V6ONLY, 1)?;
        set_int(fd, libc::IPPROTO_IPV6, libc::IPV6_FREEBIND, 1)?;
        set_int(
            fd,
            libc::IPPROTO_IPV6,
            libc::IPV6_MTU_DISCOVER,
            libc::IP_PMTUDISC_DONT,
        )?;
    }
    let (name, length) = RawAddress::from_std(address);
    // SAFETY: `name` holds `length` initialised bytes of a sockaddr of the socket's family.
    check(unsafe { libc::bind(fd.as_raw_fd(), name.as_ptr(), length) })?;
    Ok(socket)
}

/// A `sockaddr` of either family.
#[derive(Clone, Copy)]
#[repr(C)]
pub union RawAddress {
    v4: libc::sockaddr_in,
    v6: libc::sockaddr_in6,
}

impl RawAddress {
    /// All zero: a place for the kernel to write an address to.
    pub const fn zeroed() -> Self {
        // SAFETY: both variants are plain integers and arrays of them, for which zero bytes are valid values.
        unsafe { mem::zeroed() }
    }

    /// The address and its length in bytes.
    pub fn from_std(address: SocketAddr) -> (Self, libc::socklen_t) {
        let mut raw = Self::zeroed();
        match address {
            SocketAddr::V4(address) => {
                raw.v4 = libc::sockaddr_in {
                    sin_family: libc::AF_INET as libc::sa_family_t,
                    sin_port: address.port().to_be(),
                    sin_addr: libc::in_addr {
                        s_addr: u32::from_ne_bytes(address.ip().octets()),
                    },
                    sin_zero: [0; 8],
                };
                (raw, mem::size_of::<libc::sockaddr_in>() as libc::socklen_t)
            }
            SocketAddr::V6(address) => {
                raw.v6 = libc::sockaddr_in6 {
                    sin6_family: libc::AF_INET6 as libc::sa_family_t,
                    sin6_port: address.port().to_be(),
                    sin6_flowinfo: 0,
                    sin6_addr: libc::in6_addr {
                        s6_addr: address.ip().octets(),
                    },
                    sin6_scope_id: address.scope_id(),
                };
                (raw, mem::size_of::<libc::sockaddr_in6>() as libc::socklen_t)
            }
        }
    }

    /// The address that the kernel wrote, or `None` for a family other than IPv4 and IPv6. The scope of a link-local
    /// address is dropped: a flow is told apart by address and port.
    pub fn to_std(self) -> Option<SocketAddr> {
        // SAFETY: the family is at the same offset in both variants, and zero when nothing was written.
        let family = c_int::from(unsafe { self.v4.sin_family });
        match family {
            libc::AF_INET => {
                // SAFETY: the family says that the IPv4 variant was written; any bytes are valid for it.
                let raw = unsafe { self.v4 };
                let ip = std::net::Ipv4Addr::from(raw.sin_addr.s_addr.to_ne_bytes());
                Some(SocketAddr::from((ip, u16::from_be(raw.sin_port))))
            }
            libc::AF_INET6 => {
                // SAFETY: the family says that the IPv6 variant was written; any bytes are valid for it.
                let raw = unsafe { self.v6 };
                let ip = std::net::Ipv6Addr::from(raw.sin6_addr.s6_addr);
                Some(SocketAddr::from((ip, u16::from_be(raw.sin6_port))))
            }
            _ => None,
        }
    }

    /// For system calls that read an address.
    pub fn as_ptr(&self) -> *const libc::sockaddr {
        (&raw const *self).cast()
    }
}

/// Waits until one of the descriptors is readable, at most `timeout`. `ready[i]` says whether `fds[i]` is.
///
/// Polling an AF_XDP socket also wakes the kernel where its rings ask for that (`net/xdp/xsk.c`, `xsk_poll`).
///
/// # Errors
///
/// Those of `poll`; an interrupted wait is no error and leaves nothing ready.
pub fn wait_readable(fds: &mut PollSet, timeout: Duration) -> io::Result<usize> {
    let milliseconds = timeout.as_millis().min(c_int::MAX as u128) as c_int;
    // SAFETY: the pointer and the count describe the vector, which is borrowed for the call.
    match check(unsafe {
        libc::poll(
            fds.0.as_mut_ptr(),
            fds.0.len() as libc::nfds_t,
            milliseconds,
        )
    }) {
        Ok(ready) => Ok(ready as usize),
        Err(error) if error.kind() == io::ErrorKind::Interrupted => {
            fds.clear_ready();
            Ok(0)
        }
        Err(error) => Err(error),
    }
}

/// Descriptors to wait for.
#[derive(Default)]
pub struct PollSet(Vec<libc::pollfd>);

impl PollSet {
    /// Adds a descriptor to the end; the caller keeps it open for as long as the set is used.
    pub fn push(&mut self, fd: BorrowedFd<'_>) {
        self.0.push(libc::pollfd {
            fd: fd.as_raw_fd(),
            events: libc::POLLIN,
            revents: 0,
        });
    }

    /// Forgets what the last wait found.
    pub fn clear_ready(&mut self) {
        self.0.iter_mut().for_each(|fd| fd.revents = 0);
    }

    /// Whether the last wait found this descriptor readable or in error.
    pub fn is_ready(&self, position: usize) -> bool {
        self.0.get(position).is_some_and(|fd| fd.revents != 0)
    }
}

/// Whether an AF_XDP socket is bound in zero-copy mode: the kernel's own word, whatever was asked for.
///
/// # Errors
///
/// Those of `getsockopt`.
pub fn xsk_is_zero_copy(fd: BorrowedFd<'_>) -> io::Result<bool> {
    let mut flags = 0u32;
    let mut length = mem::size_of::<u32>() as libc::socklen_t;
    // SAFETY: the kernel writes at most `length` bytes to `flags`; `struct xdp_options` is one 32-bit word.
    check(unsafe {
        libc::getsockopt(
            fd.as_raw_fd(),
            libc::SOL_XDP,
            XDP_OPTIONS,
            (&raw mut flags).cast::<c_void>(),
            &raw mut length,
        )
    })?;
    Ok(flags & XDP_OPTIONS_ZEROCOPY != 0)
}

/// Lets one TX kick send up to `descriptors` in copy mode instead of 32.
///
/// # Errors
///
/// `ENOPROTOOPT` or `EINVAL` before kernel 6.17; harmless, a kick then sends fewer.
pub fn xsk_set_tx_budget(fd: BorrowedFd<'_>, descriptors: u32) -> io::Result<()> {
    set_int(
        fd,
        libc::SOL_XDP,
        XDP_MAX_TX_SKB_BUDGET,
        descriptors as c_int,
    )
}

/// Sets the send buffer of a socket, beyond `net.core.wmem_max` where the process may.
///
/// # Errors
///
/// Those of `setsockopt`.
pub fn set_send_buffer(fd: BorrowedFd<'_>, bytes: c_int) -> io::Result<()> {
    set_int(fd, libc::SOL_SOCKET, libc::SO_SNDBUFFORCE, bytes)
        .or_else(|_| set_int(fd, libc::SOL_SOCKET, libc::SO_SNDBUF, bytes))
}

/// Tells the kernel that the TX ring of an AF_XDP socket has descriptors.
///
/// # Errors
///
/// Those of `sendto`. `EAGAIN`, `EBUSY`, `ENOBUFS` and `ENETDOWN` are normal under load and mean "later".
pub fn xsk_kick_tx(fd: BorrowedFd<'_>) -> io::Result<()> {
    // SAFETY: no buffer and no address are passed; the kernel takes its work from the TX ring.
    let sent = unsafe {
        libc::sendto(
            fd.as_raw_fd(),
            std::ptr::null(),
            0,
            libc::MSG_DONTWAIT,
            std::ptr::null(),
            0,
        )
    };
    if sent < 0 {
        Err(io::Error::last_os_error())
    } else {
        Ok(())
    }
}

/// Tells the kernel that the fill ring of an AF_XDP socket has chunks again.
///
/// # Errors
///
/// Those of `recvfrom`; normal under load, as for [`xsk_kick_tx`].
pub fn xsk_kick_rx(fd: BorrowedFd<'_>) -> io::Result<()> {
    // SAFETY: no buffer and no address are passed; the call only wakes the driver.
    let received = unsafe {
        libc::recvfrom(
            fd.as_raw_fd(),
            std::ptr::null_mut(),
            0,
            libc::MSG_DONTWAIT,
            std::ptr::null_mut(),
            std::ptr::null_mut(),
        )
    };
    if received < 0 {
        Err(io::Error::last_os_error())
    } else {
        Ok(())
    }
}

/// Number of receive queues that a device uses now (`ETHTOOL_GCHANNELS`: combined plus RX-only); 1 where the driver
/// does not say.
///
/// # Errors
///
/// The device does not exist, or no socket can be made.
pub fn receive_queues(interface: &str) -> io::Result<u32> {
    /// `struct ethtool_channels` of `linux/ethtool.h`.
    #[repr(C)]
    #[derive(Default)]
    struct Channels {
        cmd: u32,
        max_rx: u32,
        max_tx: u32,
        max_other: u32,
        max_combined: u32,
        rx_count: u32,
        tx_count: u32,
        other_count: u32,
        combined_count: u32,
    }
    const ETHTOOL_GCHANNELS: u32 = 0x3c;
    let mut channels = Channels {
        cmd: ETHTOOL_GCHANNELS,
        ..Channels::default()
    };
    let mut request = interface_request(interface)?;
    request.ifr_ifru.ifru_data = (&raw mut channels).cast();
    match interface_ioctl(libc::SIOCETHTOOL, &mut request) {
        Ok(()) => Ok((channels.combined_count + channels.rx_count).max(1)),
        Err(error) if error.raw_os_error() == Some(libc::EOPNOTSUPP) => Ok(1),
        Err(error) => Err(error),
    }
}

/// MTU of a device in bytes, without the Ethernet header.
///
/// # Errors
///
/// The device does not exist, or no socket can be made.
pub fn interface_mtu(interface: &str) -> io::Result<u32> {
    let mut request = interface_request(interface)?;
    interface_ioctl(libc::SIOCGIFMTU, &mut request)?;
    // SAFETY: SIOCGIFMTU succeeded, so the kernel wrote this member.
    Ok(unsafe { request.ifr_ifru.ifru_mtu }.max(0) as u32)
}

fn interface_request(interface: &str) -> io::Result<libc::ifreq> {
    // SAFETY: `ifreq` is made of integers, arrays and a pointer, for which zero bytes are valid.
    let mut request: libc::ifreq = unsafe { mem::zeroed() };
    // One byte stays zero as the terminator.
    if interface.is_empty() || interface.len() >= request.ifr_name.len() {
        return Err(io::Error::new(
            io::ErrorKind::InvalidInput,
            "interface names have 1 to 15 characters",
        ));
    }
    for (to, from) in request.ifr_name.iter_mut().zip(interface.bytes()) {
        *to = from as libc::c_char;
    }
    Ok(request)
}

fn interface_ioctl(command: libc::c_ulong, request: &mut libc::ifreq) -> io::Result<()> {
    let socket = std::net::UdpSocket::bind(("127.0.0.1", 0))
        .or_else(|_| std::net::UdpSocket::bind(("::1", 0)))
        .or_else(|_| std::net::UdpSocket::bind(("0.0.0.0", 0)))?;
    // SAFETY: `request` is an initialised ifreq with a terminated name; where the command uses `ifru_data`, the caller
    // set it to a live structure of the size that the command writes.
    check(unsafe { libc::ioctl(socket.as_raw_fd(), command as _, &raw mut *request) }).map(drop)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_survive_the_way_through_the_kernels_form() {
        for text in [
            "192.0.2.1:5060",
            "[2001:db8::1]:5061",
            "0.0.0.0:0",
            "255.255.255.255:65535",
        ] {
            let address: SocketAddr = text.parse().unwrap();
            assert_eq!(RawAddress::from_std(address).0.to_std(), Some(address));
        }
        assert_eq!(RawAddress::zeroed().to_std(), None);
    }

    #[test]
    fn loopback_has_an_mtu_and_a_queue() {
        assert!(interface_mtu("lo").unwrap() >= 1280);
        assert!(receive_queues("lo").unwrap() >= 1);
        assert!(interface_mtu("no-such-device").is_err());
        assert!(interface_mtu("a-name-that-is-too-long").is_err());
    }
}
