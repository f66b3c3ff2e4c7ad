//! A frame that came in.

use std::net::{IpAddr, Ipv6Addr, SocketAddr};

use lb_common::{
    checksum,
    decode::{Decoded, Udp, decode},
};

use super::{Ends, as_sent, header_sum, new_checksum};
use crate::forward::{Datagram, Listener, ListenerIndex};

/// A frame that has a datagram for a listener of ours.
#[derive(Clone, Copy, Debug)]
pub struct Arrival<'a> {
    /// The datagram.
    pub datagram: Datagram<'a>,
    /// Where it was sent to: the address of the listener.
    pub destination: SocketAddr,
    /// The UDP checksum as received; 0 (not computed) with IPv4 only.
    pub udp_checksum: u16,
}

/// Why a frame is of no use.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Useless {
    /// No UDP, or not for a listener.
    NotOurs,
    /// It contradicts itself.
    Broken,
}

impl<'a> Arrival<'a> {
    /// Reads the headers of a frame.
    ///
    /// # Errors
    ///
    /// When the frame has nothing for one of `listeners`.
    #[inline]
    pub fn of_frame(frame: &'a [u8], listeners: &[Listener]) -> Result<Self, Useless> {
        let udp = match decode(frame) {
            Decoded::Udp(udp) => udp,
            Decoded::NotOurs(_) => return Err(Useless::NotOurs),
            Decoded::Broken(_) => return Err(Useless::Broken),
        };
        let destination = address(&udp, udp.destination, udp.destination_port);
        // There are few: a scan is faster than a hash.
        let listener = listeners
            .iter()
            .position(|listener| listener.address == destination);
        let Some(listener) = listener else {
            return Err(Useless::NotOurs);
        };
        Ok(Self {
            datagram: Datagram {
                payload: &frame[udp.payload_offset..][..udp.payload_len],
                source: address(&udp, udp.source, udp.source_port),
                listener: ListenerIndex(listener as u16),
            },
            destination,
            udp_checksum: udp.udp_checksum,
        })
    }

    /// Where it came from and was sent to.
    pub fn ends(&self) -> Ends {
        Ends {
            source: self.datagram.source,
            destination: self.destination,
        }
    }

    /// UDP checksum of the payload when it has been changed and leaves with `leaving_len` bytes (RFC 1624): a checksum that was
    /// wrong stays wrong, and the "none" of IPv4 stays.
    ///
    /// `difference` is the sum of the payload as it leaves less the sum of it as it came ([`crate::forward::Edits`]).
    pub fn updated_checksum(&self, leaving: &Ends, leaving_len: usize, difference: u16) -> u16 {
        if self.udp_checksum == 0 {
            return 0;
        }
        let headers = checksum::sub(
            header_sum(leaving, leaving_len),
            header_sum(&self.ends(), self.datagram.payload.len()),
        );
        as_sent(checksum::update(
            self.udp_checksum,
            checksum::add(headers, difference),
        ))
    }

    /// Whether the UDP checksum is right, or absent as IPv4 allows.
    pub fn checksum_is_right(&self) -> bool {
        self.udp_checksum == 0
            || new_checksum(&self.ends(), self.datagram.payload) == as_sent(self.udp_checksum)
    }
}

fn address(udp: &Udp, octets: [u8; 16], port: u16) -> SocketAddr {
    let ip = if udp.is_ipv6 {
        IpAddr::V6(Ipv6Addr::from(octets))
    } else {
        let [.., a, b, c, d] = octets;
        IpAddr::V4([a, b, c, d].into())
    };
    SocketAddr::new(ip, port)
}
