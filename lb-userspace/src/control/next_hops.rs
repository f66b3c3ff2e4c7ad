//! Next hops on the Ethernet level, mirrored from the kernel's routes and neighbours.
//!
//! A frame that does not pass through the kernel's network stack still has to leave by the interface and with the MAC
//! addresses that the kernel would choose. [`Watcher`] reads links, routes and neighbours over netlink, follows every
//! change, and publishes a [`NextHops`] snapshot; workers look destinations up in the snapshot that they hold. What a
//! snapshot cannot answer is a [`Miss`]: such a datagram goes through the kernel socket, which resolves the neighbour
//! on the way, so that the next one need not.
//!
//! Owned here: which way a destination goes. Left to others: reading IP headers, building frames, the kernel socket.

mod facts;
pub(in crate::control) mod netlink;
mod table;
mod watcher;

pub use table::NextHops;
pub use watcher::Watcher;

/// The way to a destination: everything that an Ethernet header needs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct NextHop {
    /// Index into the interfaces that [`Watcher::start`] was given.
    pub port: u8,
    /// MAC address of the neighbour: the destination itself or the gateway to it.
    pub destination_mac: [u8; 6],
    /// MAC address of our interface, or of the VLAN device on it.
    pub source_mac: [u8; 6],
    /// VLAN id (IEEE 802.1Q, priority 0) when the route leaves by a VLAN device.
    pub vlan: Option<u16>,
    /// Largest IP packet that fits this way, in bytes: the route's MTU or the link's, whichever is smaller.
    pub mtu: u16,
}

/// Why there is no [`NextHop`] for a destination.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Miss {
    /// No route, or one that refuses (blackhole, unreachable, prohibit), or not a unicast address that can be routed.
    NoRoute,
    /// There is a route, but the MAC address of the destination or its gateway is not known (yet).
    NoNeighbour,
    /// The route leaves by an interface that is not ours, or in a way that only the kernel can do (tunnels).
    OtherInterface,
    /// The address is one of this host's own.
    Local,
}
