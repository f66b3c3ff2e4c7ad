//! Talking rtnetlink: dumps, questions to neighbours, and the stream of changes.

use std::{
    io,
    net::IpAddr,
    os::fd::{AsFd, BorrowedFd},
};

use netlink_packet_core::{
    NLM_F_CREATE, NLM_F_DUMP, NLM_F_DUMP_INTR, NLM_F_REPLACE, NLM_F_REQUEST, NetlinkBuffer,
    NetlinkHeader, NetlinkMessage, NetlinkPayload,
};
use netlink_packet_route::{
    AddressFamily, RouteNetlinkMessage,
    address::{AddressAttribute, AddressHeaderFlags, AddressMessage, CacheInfo},
    link::LinkMessage,
    neighbour::{NeighbourAddress, NeighbourAttribute, NeighbourFlags, NeighbourMessage},
    route::{RouteAttribute, RouteMessage, RouteProtocol, RouteScope, RouteType},
    rule::RuleMessage,
};
use netlink_sys::{Socket, SocketAddr, protocols::NETLINK_ROUTE};

use super::facts::{Link, Neighbour, Route, is_usual_rule};

/// The kernel fills at most 32 kB into one datagram of a dump.
const BUFFER_LEN: usize = 1 << 16;
/// Room for bursts of changes; the kernel caps it at net.core.rmem_max. Too small shows as overruns, which cost a dump.
const EVENT_BUFFER_BYTES: usize = 1 << 20;
/// How often a dump that a change interrupted is started anew before its result is taken as it is: the change that
/// interrupted it is on its way as an event and will cause another dump.
const DUMP_ATTEMPTS: usize = 5;
/// Datagrams of events read in one go, so that a flood of changes cannot keep the thread from publishing.
const EVENT_DATAGRAMS: usize = 256;

/// Most routes and neighbours that are mirrored: a bound on memory (about 100 MB for routes).
pub const MAX_ROUTES: usize = 2_000_000;
/// See [`MAX_ROUTES`]; the kernel's own default limit is 1,024 a family.
pub const MAX_NEIGHBOURS: usize = 65_536;

/// A socket for requests and their answers.
pub struct Requests {
    socket: Socket,
    sequence: u32,
    buffer: Vec<u8>,
}

impl Requests {
    /// Opens a socket in the network namespace of the calling thread.
    pub fn open() -> io::Result<Self> {
        let mut socket = Socket::new(NETLINK_ROUTE)?;
        socket.bind_auto()?;
        socket.connect(&SocketAddr::new(0, 0))?;
        Ok(Self {
            socket,
            sequence: 0,
            buffer: Vec::with_capacity(BUFFER_LEN),
        })
    }

    /// All network devices.
    pub fn links(&mut self) -> io::Result<Vec<Link>> {
        let request = RouteNetlinkMessage::GetLink(LinkMessage::default());
        self.dump(&request, usize::MAX, |message| match message {
            RouteNetlinkMessage::NewLink(link) => Link::parse(&link),
            _ => None,
        })
    }

    /// All routes of tables local, main and default, both families.
    ///
    /// # Errors
    ///
    /// `OutOfMemory` when there are more than [`MAX_ROUTES`].
    pub fn routes(&mut self) -> io::Result<Vec<Route>> {
        let mut routes = Vec::new();
        for family in [AddressFamily::Inet, AddressFamily::Inet6] {
            let mut request = RouteMessage::default();
            request.header.address_family = family;
            let request = RouteNetlinkMessage::GetRoute(request);
            routes.extend(self.dump(&request, MAX_ROUTES, |message| match message {
                RouteNetlinkMessage::NewRoute(route) => Route::parse(&route),
                _ => None,
            })?);
        }
        Ok(routes)
    }

    /// All neighbours whose MAC address can be used.
    ///
    /// # Errors
    ///
    /// `OutOfMemory` when there are more than [`MAX_NEIGHBOURS`].
    pub fn neighbours(&mut self) -> io::Result<Vec<Neighbour>> {
        let request = RouteNetlinkMessage::GetNeighbour(NeighbourMessage::default());
        self.dump(&request, MAX_NEIGHBOURS, |message| match message {
            RouteNetlinkMessage::NewNeighbour(neighbour) => Neighbour::parse(&neighbour),
            _ => None,
        })
    }

    /// How many policy rules there are beyond the three that every host has.
    pub fn unusual_rules(&mut self) -> io::Result<usize> {
        let mut count = 0;
        for family in [AddressFamily::Inet, AddressFamily::Inet6] {
            let mut request = RuleMessage::default();
            request.header.family = family;
            count += self
                .dump(
                    &RouteNetlinkMessage::GetRule(request),
                    usize::MAX,
                    |message| match message {
                        RouteNetlinkMessage::NewRule(rule) if !is_usual_rule(&rule) => Some(()),
                        _ => None,
                    },
                )?
                .len();
        }
        Ok(count)
    }

    /// Makes the kernel find out or confirm a neighbour's MAC address, as if it had sent a packet there.
    ///
    /// # Errors
    ///
    /// `PermissionDenied` without CAP_NET_ADMIN; others when the interface is down or gone.
    pub fn ask(&mut self, link: u32, address: IpAddr) -> io::Result<()> {
        let mut message = NeighbourMessage::default();
        message.header.ifindex = link;
        message.header.flags = NeighbourFlags::Use;
        let (family, address) = match address {
            IpAddr::V4(address) => (AddressFamily::Inet, NeighbourAddress::Inet(address)),
            IpAddr::V6(address) => (AddressFamily::Inet6, NeighbourAddress::Inet6(address)),
        };
        message.header.family = family;
        message
            .attributes
            .push(NeighbourAttribute::Destination(address));
        self.order(
            RouteNetlinkMessage::NewNeighbour(message),
            NLM_F_REQUEST | NLM_F_CREATE,
        )
    }

    /// Puts an address, and nothing but it, on a device, where the kernel takes it off again after so many seconds. One that is
    /// there gets as many from now on.
    ///
    /// # Errors
    ///
    /// `PermissionDenied` without CAP_NET_ADMIN; others when the device is gone.
    pub fn put_address(&mut self, link: u32, address: IpAddr, lifetime_s: u32) -> io::Result<()> {
        let mut message = address_message(link, address);
        let mut lifetime = CacheInfo::default();
        (lifetime.ifa_preferred, lifetime.ifa_valid) = (lifetime_s, lifetime_s);
        let lifetime = AddressAttribute::CacheInfo(lifetime);
        message.attributes.push(lifetime);
        // Nobody else has it here, so there is no need to ask around for it first.
        message.header.flags = AddressHeaderFlags::Nodad;
        self.order(
            RouteNetlinkMessage::NewAddress(message),
            NLM_F_REQUEST | NLM_F_CREATE | NLM_F_REPLACE,
        )
    }

    /// Takes an address off a device; it may be gone already.
    ///
    /// # Errors
    ///
    /// `PermissionDenied` without CAP_NET_ADMIN.
    pub fn remove_address(&mut self, link: u32, address: IpAddr) -> io::Result<()> {
        let message = address_message(link, address);
        let removed = self.order(RouteNetlinkMessage::DelAddress(message), NLM_F_REQUEST);
        match removed {
            Err(error) if error.raw_os_error() == Some(libc::EADDRNOTAVAIL) => Ok(()),
            removed => removed,
        }
    }

    /// Makes the kernel take what is for an address that is on no device.
    ///
    /// # Errors
    ///
    /// `PermissionDenied` without CAP_NET_ADMIN; others when the device is gone.
    pub fn add_local_route(&mut self, link: u32, address: IpAddr) -> io::Result<()> {
        self.order(
            RouteNetlinkMessage::NewRoute(local_route(link, address)),
            NLM_F_REQUEST | NLM_F_CREATE | NLM_F_REPLACE,
        )
    }

    /// Takes back [`Requests::add_local_route`].
    ///
    /// # Errors
    ///
    /// `PermissionDenied` without CAP_NET_ADMIN.
    pub fn remove_local_route(&mut self, link: u32, address: IpAddr) -> io::Result<()> {
        let message = RouteNetlinkMessage::DelRoute(local_route(link, address));
        match self.order(message, NLM_F_REQUEST) {
            Err(error) if error.raw_os_error() == Some(libc::ESRCH) => Ok(()),
            removed => removed,
        }
    }

    /// Has the kernel do something that has no answer but an error.
    fn order(&mut self, message: RouteNetlinkMessage, flags: u16) -> io::Result<()> {
        let sequence = self.send(message, flags)?;
        // No acknowledgement was asked for. The kernel works on a request while it is being sent, so an error is
        // here by now or never comes.
        loop {
            let received = self.receive(libc::MSG_DONTWAIT);
            match received {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(()),
                Err(error) => return Err(error),
                Ok(()) => {}
            }
            for message in messages(&self.buffer) {
                if let Some(error) =
                    error_of(message).filter(|_| sequence_of(message) == Some(sequence))
                {
                    return Err(error);
                }
            }
        }
    }

    fn dump<T>(
        &mut self,
        request: &RouteNetlinkMessage,
        limit: usize,
        mut parse: impl FnMut(RouteNetlinkMessage) -> Option<T>,
    ) -> io::Result<Vec<T>> {
        let mut attempt = 1;
        loop {
            let mut facts = Vec::new();
            let interrupted = self.dump_once(request, |message| {
                facts.extend(parse(message));
                if facts.len() > limit {
                    let text = format!("more than {limit} entries");
                    return Err(io::Error::new(io::ErrorKind::OutOfMemory, text));
                }
                Ok(())
            })?;
            if !interrupted || attempt == DUMP_ATTEMPTS {
                return Ok(facts);
            }
            attempt += 1;
        }
    }

    /// Returns whether something changed in between, so that the result may have holes.
    fn dump_once(
        &mut self,
        request: &RouteNetlinkMessage,
        mut each: impl FnMut(RouteNetlinkMessage) -> io::Result<()>,
    ) -> io::Result<bool> {
        let sequence = self.send(request.clone(), NLM_F_REQUEST | NLM_F_DUMP)?;
        let mut interrupted = false;
        // After an error the rest of the answer is still read, or it would be in the way of the next one.
        let mut outcome = Ok(());
        loop {
            self.receive(0)?;
            for bytes in messages(&self.buffer) {
                if sequence_of(bytes) != Some(sequence) {
                    continue;
                }
                let message = match NetlinkMessage::<RouteNetlinkMessage>::deserialize(bytes) {
                    Ok(message) => message,
                    Err(error) => {
                        log::debug!("a netlink message cannot be read and is left out: {error}");
                        continue;
                    }
                };
                interrupted |= message.header.flags & NLM_F_DUMP_INTR != 0;
                match message.payload {
                    NetlinkPayload::Done(_) => return outcome.map(|()| interrupted),
                    NetlinkPayload::Error(error) => {
                        return match error.code {
                            Some(_) => Err(error.to_io()),
                            None => outcome.map(|()| interrupted),
                        };
                    }
                    NetlinkPayload::InnerMessage(message) if outcome.is_ok() => {
                        outcome = each(message)
                    }
                    _ => {}
                }
            }
        }
    }

    fn send(&mut self, message: RouteNetlinkMessage, flags: u16) -> io::Result<u32> {
        self.sequence = self.sequence.wrapping_add(1);
        let mut header = NetlinkHeader::default();
        header.flags = flags;
        header.sequence_number = self.sequence;
        let mut message = NetlinkMessage::new(header, NetlinkPayload::from(message));
        message.finalize();
        let mut bytes = vec![0; message.buffer_len()];
        message.serialize(&mut bytes);
        self.socket.send(&bytes, 0)?;
        Ok(self.sequence)
    }

    fn receive(&mut self, flags: libc::c_int) -> io::Result<()> {
        receive(&self.socket, &mut self.buffer, flags)
    }
}

/// An address alone, on a device.
fn address_message(link: u32, address: IpAddr) -> AddressMessage {
    let mut message = AddressMessage::default();
    message.header.family = family_of(address);
    message.header.prefix_len = bits_of(address);
    message.header.index = link;
    message.attributes.push(AddressAttribute::Local(address));
    message.attributes.push(AddressAttribute::Address(address));
    message
}

/// A route of the kernel's own table for an address that is ours. Its metric keeps it apart from the one that comes and goes
/// with an address on a device.
fn local_route(link: u32, address: IpAddr) -> RouteMessage {
    const METRIC: u32 = 2048;
    let mut message = RouteMessage::default();
    message.header.address_family = family_of(address);
    message.header.destination_prefix_length = bits_of(address);
    message.header.table = libc::RT_TABLE_LOCAL;
    message.header.protocol = RouteProtocol::Static;
    message.header.scope = RouteScope::Host;
    message.header.kind = RouteType::Local;
    message.attributes = vec![
        RouteAttribute::Destination(address.into()),
        RouteAttribute::Oif(link),
        RouteAttribute::Priority(METRIC),
    ];
    message
}

fn family_of(address: IpAddr) -> AddressFamily {
    match address {
        IpAddr::V4(_) => AddressFamily::Inet,
        IpAddr::V6(_) => AddressFamily::Inet6,
    }
}

fn bits_of(address: IpAddr) -> u8 {
    if address.is_ipv4() { 32 } else { 128 }
}

/// What changed, coarsely: each is answered with a new dump.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Changes {
    /// Links, addresses or routes. The kernel does not announce each route that goes with a link or an address.
    pub routes: bool,
    /// Neighbours.
    pub neighbours: bool,
}

/// A socket that hears of changes.
pub struct Events {
    socket: Socket,
    buffer: Vec<u8>,
}

impl Events {
    /// Opens a socket in the network namespace of the calling thread and subscribes.
    pub fn open() -> io::Result<Self> {
        let mut socket = Socket::new(NETLINK_ROUTE)?;
        socket.bind_auto()?;
        for group in [
            libc::RTNLGRP_LINK,
            libc::RTNLGRP_NEIGH,
            libc::RTNLGRP_IPV4_IFADDR,
            libc::RTNLGRP_IPV4_ROUTE,
            libc::RTNLGRP_IPV6_IFADDR,
            libc::RTNLGRP_IPV6_ROUTE,
            libc::RTNLGRP_NEXTHOP,
        ] {
            socket.add_membership(group)?;
        }
        // Best effort: with less room a burst overruns and costs a dump.
        let _ = socket.set_rx_buf_sz(EVENT_BUFFER_BYTES as libc::c_int);
        Ok(Self {
            socket,
            buffer: Vec::with_capacity(BUFFER_LEN),
        })
    }

    /// Reads what has arrived, without waiting.
    pub fn read(&mut self) -> io::Result<Changes> {
        let mut changes = Changes::default();
        for _ in 0..EVENT_DATAGRAMS {
            match receive(&self.socket, &mut self.buffer, libc::MSG_DONTWAIT) {
                Ok(()) => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                // The kernel had no room for an event: anything may have changed.
                Err(error) if error.raw_os_error() == Some(libc::ENOBUFS) => {
                    changes = Changes {
                        routes: true,
                        neighbours: true,
                    };
                    continue;
                }
                Err(error) => return Err(error),
            }
            for message in messages(&self.buffer) {
                match NetlinkBuffer::new(&message).message_type() {
                    libc::RTM_NEWNEIGH | libc::RTM_DELNEIGH => changes.neighbours = true,
                    // A link that goes down takes its neighbours with it.
                    libc::RTM_NEWLINK | libc::RTM_DELLINK => {
                        changes = Changes {
                            routes: true,
                            neighbours: true,
                        }
                    }
                    _ => changes.routes = true,
                }
            }
        }
        Ok(changes)
    }
}

impl AsFd for Events {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

/// Reads one datagram from the kernel into `buffer`, in place of what was there.
fn receive(socket: &Socket, buffer: &mut Vec<u8>, flags: libc::c_int) -> io::Result<()> {
    loop {
        buffer.clear();
        match socket.recv_from(buffer, flags) {
            // Another process can write to a netlink socket if it is privileged; only the kernel is believed.
            Ok((_, sender)) if sender.port_number() != 0 => {}
            Ok(_) => return Ok(()),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
}

/// The messages in a datagram; stops at the first whose length is wrong.
fn messages(datagram: &[u8]) -> impl Iterator<Item = &[u8]> {
    let mut rest = datagram;
    std::iter::from_fn(move || {
        let length = NetlinkBuffer::new_checked(&rest).ok()?.length() as usize;
        let message = rest.get(..length)?;
        // Lengths are at least that of a header, so this ends.
        rest = rest.get(length.next_multiple_of(4)..).unwrap_or_default();
        Some(message)
    })
}

fn sequence_of(message: &[u8]) -> Option<u32> {
    Some(NetlinkBuffer::new_checked(&message).ok()?.sequence_number())
}

fn error_of(message: &[u8]) -> Option<io::Error> {
    match NetlinkMessage::<RouteNetlinkMessage>::deserialize(message)
        .ok()?
        .payload
    {
        NetlinkPayload::Error(error) if error.code.is_some() => Some(error.to_io()),
        _ => None,
    }
}
