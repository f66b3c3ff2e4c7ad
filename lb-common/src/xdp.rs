//! The maps of the XDP program and the names of what becomes of a frame.
//!
//! Every interface has a program instance with maps of its own. All of it is pinned under a directory whose last part
//! is [`LAYOUT_VERSION`], so a program never meets maps that were made for another layout.

use crate::decode::{Endpoint, Fault, NotOurs};

/// Name of the directory that holds the pins of this layout. Raise it when a map, [`Gate`], [`VipKey`] or the order of
/// [`XdpOutcome`] changes.
pub const LAYOUT_VERSION: &str = "v1";

/// Name of the XDP program in the object file.
pub const PROGRAM: &str = "siplb_xdp";

/// Receive queues that can be served. A frame of a queue beyond passes to the kernel.
pub const MAX_QUEUES: u32 = 64;

/// Listeners (VIP and port) that an interface can serve.
pub const MAX_VIPS: u32 = 1024;

/// Name of the per-CPU array of `u64` counters, see [`counter_index`].
pub const COUNTERS: &str = "COUNTERS";

/// Entries of [`COUNTERS`].
pub const COUNTERS_LEN: u32 = MAX_QUEUES * XdpOutcome::COUNT;

/// Name of the hash map from [`VipKey`] to the index of the listener.
pub const VIPS: &str = "VIPS";

/// Name of the map from queue to AF_XDP socket.
pub const XSKS: &str = "XSKS";

/// Name of the array of [`Gate`]s, one a queue.
pub const GATES: &str = "GATES";

/// `BPF_F_MMAPABLE` of `linux/bpf.h`: user space maps [`GATES`] into its memory, so a heartbeat costs a store and no
/// system call.
pub const GATES_FLAGS: u32 = 1 << 10;

/// Where outcome `outcome` of queue `queue` is counted. Queues that are not served share the last row.
#[inline(always)]
pub const fn counter_index(queue: u32, outcome: XdpOutcome) -> u32 {
    let row = if queue < MAX_QUEUES {
        queue
    } else {
        MAX_QUEUES - 1
    };
    row * XdpOutcome::COUNT + outcome as u32
}

/// A listener as the XDP program looks it up.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct VipKey {
    /// Address in network order, IPv4 mapped into IPv6.
    pub address: [u8; 16],
    /// UDP port in network order.
    pub port: [u8; 2],
    /// Always 0: the kernel compares every byte of a key.
    pub reserved: [u8; 2],
}

impl VipKey {
    /// The key of an address and a port.
    #[inline(always)]
    pub const fn new(endpoint: Endpoint) -> Self {
        Self {
            address: endpoint.address,
            port: endpoint.port.to_be_bytes(),
            reserved: [0; 2],
        }
    }
}

/// What decides whether a queue's frames are steered to its socket. User space writes it, the XDP program reads it.
///
/// A cache line each, so that the heartbeats of two queues do not contend.
#[repr(C, align(64))]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Gate {
    /// Not 0: steer. 0: everything of this queue passes to the kernel.
    pub open: u32,
    /// Age in milliseconds from which the heartbeat counts as stale and the gate as closed.
    pub stale_after_ms: u32,
    /// `CLOCK_MONOTONIC` in nanoseconds when the worker of this queue last said that it runs.
    pub heartbeat_ns: u64,
    /// MAC address of the interface, in the low 48 bits of a big-endian number ([`station`]). Frames to another one
    /// (flooded by a switch, or seen in promiscuous mode) pass to the kernel, which ignores them: on a segment with
    /// two nodes of one VIP they are the other node's.
    pub station: u64,
    /// Room for later.
    pub reserved: [u64; 5],
}

const _: () = assert!(size_of::<Gate>() == 64);

/// A MAC address as [`Gate::station`] has it.
#[inline(always)]
pub const fn station(mac: [u8; 6]) -> u64 {
    let [a, b, c, d, e, f] = mac;
    u64::from_be_bytes([0, 0, a, b, c, d, e, f])
}

/// What the XDP program does with a frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum XdpVerdict {
    /// To the AF_XDP socket of the queue.
    Redirect,
    /// To the kernel's network stack, untouched.
    Pass,
    /// Nowhere.
    Drop,
}

macro_rules! outcomes {
    ($($(#[$doc:meta])* $variant:ident $name:literal $verdict:ident,)*) => {
        /// What became of a frame: every way out of the XDP program has one name, under which it is counted.
        #[repr(u32)]
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        pub enum XdpOutcome {
            $($(#[$doc])* $variant,)*
        }

        impl XdpOutcome {
            /// All of them, in the order of the counters.
            pub const ALL: [Self; [$($name),*].len()] = [$(Self::$variant),*];

            /// The name in statistics, logs and metrics.
            pub const fn name(self) -> &'static str {
                match self {
                    $(Self::$variant => $name,)*
                }
            }

            /// What happens to the frame.
            #[inline(always)]
            pub const fn verdict(self) -> XdpVerdict {
                match self {
                    $(Self::$variant => XdpVerdict::$verdict,)*
                }
            }
        }
    };
}

outcomes! {
    /// To a VIP, and the socket of the queue got it.
    Steered "steered" Redirect,
    /// To a VIP, but the gate of the queue is closed.
    GateClosed "gate_closed" Pass,
    /// To a VIP, but the worker has not been heard of for too long.
    GateStale "gate_stale" Pass,
    /// To a VIP and the gate is open, but the queue has no socket.
    NoSocket "no_socket" Pass,
    /// To a VIP, on a queue beyond [`MAX_QUEUES`].
    QueueOutOfRange "queue_out_of_range" Pass,
    /// To a VIP, but to the MAC address of another station, or to a group of them.
    OtherStation "other_station" Pass,
    /// UDP to an address and port that is not a VIP.
    NotVip "not_vip" Pass,
    /// Neither UDP nor a fragment nor an extension header: TCP, ICMP, routing protocols.
    NotUdp "not_udp" Pass,
    /// Neither IPv4 nor IPv6.
    EtherType "ethertype" Pass,
    /// More than one VLAN tag.
    QinQ "qinq" Pass,
    /// A fragment.
    Fragment "fragment" Pass,
    /// IPv6 with extension headers.
    ExtensionHeader "extension_header" Pass,
    /// A source address that may not be on a wire.
    MartianSource "martian_source" Pass,
    /// Broken before its ports, so that nobody can tell whose it is.
    Unreadable "unreadable" Pass,
    /// To a VIP, but the frame is shorter than the IP header says.
    Truncated "truncated" Drop,
    /// To a VIP, but the IP length leaves no room for UDP.
    BadIpLength "bad_ip_length" Drop,
    /// To a VIP, but the checksum of the IPv4 header is wrong.
    BadIpChecksum "bad_ip_checksum" Drop,
    /// To a VIP, but the UDP length is below 8 or beyond the IP packet.
    BadUdpLength "bad_udp_length" Drop,
    /// To a VIP, from source port 0.
    SourcePortZero "source_port_zero" Drop,
    /// To a VIP, over IPv6 without a UDP checksum.
    NoUdpChecksum "no_udp_checksum" Drop,
}

impl XdpOutcome {
    /// How many there are.
    pub const COUNT: u32 = Self::ALL.len() as u32;
}

impl From<NotOurs> for XdpOutcome {
    #[inline(always)]
    fn from(reason: NotOurs) -> Self {
        match reason {
            NotOurs::EtherType => Self::EtherType,
            NotOurs::QinQ => Self::QinQ,
            NotOurs::Protocol => Self::NotUdp,
            NotOurs::Fragment => Self::Fragment,
            NotOurs::ExtensionHeader => Self::ExtensionHeader,
            NotOurs::MartianSource => Self::MartianSource,
        }
    }
}

/// The outcome of a broken datagram that was addressed to a VIP.
impl From<Fault> for XdpOutcome {
    #[inline(always)]
    fn from(fault: Fault) -> Self {
        match fault {
            // These leave no way to find the ports, so they are never known to be for a VIP.
            Fault::TruncatedEthernet
            | Fault::TruncatedVlan
            | Fault::TruncatedIp
            | Fault::IpVersion
            | Fault::IpHeaderLength => Self::Unreadable,
            Fault::Truncated => Self::Truncated,
            Fault::IpTotalLength => Self::BadIpLength,
            Fault::IpChecksum => Self::BadIpChecksum,
            Fault::UdpLength => Self::BadUdpLength,
            Fault::SourcePortZero => Self::SourcePortZero,
            Fault::UdpChecksumMissing => Self::NoUdpChecksum,
        }
    }
}

#[cfg(feature = "user")]
#[allow(unsafe_code)]
mod pod {
    use super::{Gate, VipKey};

    // SAFETY: `repr(C)`, made of byte arrays only: no padding, every bit pattern is a value.
    unsafe impl aya::Pod for VipKey {}

    // SAFETY: `repr(C)` integers that fill all 64 bytes (asserted above): no padding, every bit pattern is a value.
    unsafe impl aya::Pod for Gate {}
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashSet;

    #[test]
    fn every_outcome_has_a_name_and_an_index_of_its_own() {
        let names: HashSet<_> = XdpOutcome::ALL.iter().map(|it| it.name()).collect();
        assert_eq!(names.len(), XdpOutcome::ALL.len());
        for (index, outcome) in XdpOutcome::ALL.into_iter().enumerate() {
            assert_eq!(outcome as usize, index);
            let name = outcome.name();
            assert!(
                name.bytes()
                    .all(|byte| byte.is_ascii_lowercase() || byte == b'_'),
                "{name} is not snake_case"
            );
        }
    }

    #[test]
    fn counters_of_queues_do_not_overlap_and_strays_share_the_last_row() {
        let mut seen = HashSet::new();
        for queue in 0..MAX_QUEUES {
            for outcome in XdpOutcome::ALL {
                let index = counter_index(queue, outcome);
                assert!(index < COUNTERS_LEN);
                assert!(seen.insert(index));
            }
        }
        for stray in [MAX_QUEUES, u32::MAX] {
            assert_eq!(
                counter_index(stray, XdpOutcome::NotUdp),
                counter_index(MAX_QUEUES - 1, XdpOutcome::NotUdp)
            );
        }
    }

    #[test]
    fn only_what_is_broken_and_known_to_be_ours_is_dropped() {
        let dropped: Vec<_> = XdpOutcome::ALL
            .into_iter()
            .filter(|it| it.verdict() == XdpVerdict::Drop)
            .map(XdpOutcome::name)
            .collect();
        assert_eq!(
            dropped,
            [
                "truncated",
                "bad_ip_length",
                "bad_ip_checksum",
                "bad_udp_length",
                "source_port_zero",
                "no_udp_checksum"
            ]
        );
    }

    #[test]
    fn a_key_holds_its_port_in_network_order() {
        let key = VipKey::new(Endpoint {
            address: crate::decode::map_ipv4([192, 0, 2, 1]),
            port: 5060,
        });
        assert_eq!(key.port, [0x13, 0xc4]);
        assert_eq!(key.address[10..], [0xff, 0xff, 192, 0, 2, 1]);
        assert_eq!(station([2, 0, 0, 0, 0, 1]), 0x0200_0000_0001);
    }
}
