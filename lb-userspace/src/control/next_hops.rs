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

/// Why there is no [`crate::frame::NextHop`] for a destination.
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
