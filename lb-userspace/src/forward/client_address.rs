//! What a backend is told of where a datagram came from, as its pool wants it: in header fields of requests, or by the
//! PROXY protocol in front of everything.

use std::net::SocketAddr;

use super::{
    Edits, EditsFull, Table, next_hop::NextHop, proxy_protocol::Header, refusal::Refusal,
    request::Request, text::Text,
};
use crate::{
    config::{ClientAddress, ClientFields, Config},
    sip::{Lines, Span, is_token},
};

/// Most header fields of such a name that are taken out of a request from outside.
pub(super) const MAX_FORGED: usize = 4;

/// How the backends of each pool learn the address of a client.
#[derive(Clone, Debug, Default)]
pub(super) struct ClientAddresses {
    /// By the place of the pool.
    pools: Vec<ClientAddress>,
    /// Backends of pools that are told at all, sorted, with the place of the pool.
    backends: Vec<(SocketAddr, usize)>,
}

impl ClientAddresses {
    pub fn new(config: &Config) -> Self {
        let pools = config.pools.iter().enumerate();
        let told = pools.filter(|(_, pool)| pool.client_address != ClientAddress::Off);
        let mut backends = told
            .flat_map(|(place, pool)| {
                let backends = pool.backends.iter();
                backends.map(move |backend| (backend.address, place))
            })
            .collect::<Vec<_>>();
        backends.sort_unstable();
        let pools = config.pools.iter();
        Self {
            pools: pools.map(|pool| pool.client_address.clone()).collect(),
            backends,
        }
    }

    /// Of the pool at this place.
    pub fn of_pool(&self, place: usize) -> Option<&ClientAddress> {
        self.pools.get(place)
    }

    /// Of the backend at this address and port, which is the same in all pools that it is in; `None` when nobody there is
    /// told.
    #[inline]
    fn at(&self, address: SocketAddr) -> Option<&ClientAddress> {
        if self.backends.is_empty() {
            return None;
        }
        let at = self
            .backends
            .partition_point(|(backend, _)| *backend < address);
        let (backend, place) = self.backends.get(at)?;
        (*backend == address).then(|| self.pools.get(*place))?
    }
}

/// Puts the PROXY protocol's header in front of a datagram to a backend that expects it. Comes before all other edits at the
/// start of the payload.
///
/// Whoever sends it: the backend expects the header on each datagram, also on those of other backends.
pub(super) fn announce(
    table: &Table,
    source: SocketAddr,
    listener: SocketAddr,
    to: SocketAddr,
    edits: &mut Edits,
) -> Result<(), EditsFull> {
    match table.client_addresses.at(to) {
        Some(ClientAddress::ProxyProtocol(version)) => {
            edits.push(0, 0, Header::new(*version, source, listener).as_slice())
        }
        _ => Ok(()),
    }
}

/// Header fields that tell a backend the source of a request.
#[derive(Debug, Default)]
pub(super) struct Told<'a> {
    /// `None` for no header fields.
    fields: Option<&'a ClientFields>,
    /// Lines of header fields of these names that somebody else put in, which are taken out.
    pub forged: [Option<Span>; MAX_FORGED],
}

impl<'a> Request<'a> {
    /// Finds out what the backend at the next hop is told, and what was said in our name.
    ///
    /// Refused is a request with more of that than can be taken out. What the inside sends is its own business: it may
    /// pass on what it was told.
    pub fn tell(&self, next_hop: &NextHop, told: &mut Told<'a>) -> Result<(), Refusal> {
        let Some(ClientAddress::Fields(fields)) = self.table.client_addresses.at(next_hop.to)
        else {
            return Ok(());
        };
        if self.table.is_inside(self.source.ip()) {
            return Ok(());
        }
        told.fields = Some(fields);
        let mut free = told.forged.iter_mut();
        for field in Lines::new(self.bytes, self.message.headers).flatten() {
            let line = field.line.of(self.bytes);
            let name_len = line.iter().position(|byte| !is_token(*byte)).unwrap_or(0);
            if fields.has(&line[..name_len]) {
                *free.next().ok_or(Refusal::FORGED_CLIENT_ADDRESS)? = Some(field.line);
            }
        }
        Ok(())
    }
}

impl Told<'_> {
    /// Adds the header fields to the text of the last edit.
    pub fn put(&self, source: SocketAddr, edits: &mut Edits) -> Result<(), EditsFull> {
        let Some(fields) = self.fields else {
            return Ok(());
        };
        let mut ip = Text::<48>::new();
        ip.put_ip(source.ip());
        let mut port = Text::<8>::new();
        port.put_number(source.port());
        put_field(fields.ip.as_deref(), ip.as_slice(), edits)?;
        put_field(fields.port.as_deref(), port.as_slice(), edits)?;
        put_field(fields.transport.as_deref(), b"udp", edits)
    }
}

/// A header field in an even number of bytes, if it has a name.
fn put_field(name: Option<&str>, value: &[u8], edits: &mut Edits) -> Result<(), EditsFull> {
    let Some(name) = name else {
        return Ok(());
    };
    edits.append(name.as_bytes())?;
    edits.append(match (name.len() + value.len()) % 2 {
        0 => b": ",
        _ => b":  ",
    })?;
    edits.append(value)?;
    edits.append(b"\r\n")
}
