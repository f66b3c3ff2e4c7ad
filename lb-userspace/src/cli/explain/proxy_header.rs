//! The binary header of the PROXY protocol for people.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use super::printable::hexadecimal;
use crate::forward::{Edits, PROXY_SIGNATURE};

/// True for text that an edit inserts which is such a header.
pub(super) fn is_one(inserted: &[u8]) -> bool {
    inserted.starts_with(&PROXY_SIGNATURE)
}

/// What it says, and its bytes; nothing when none is put in front.
pub(super) fn lines(edits: &Edits) -> Vec<String> {
    let mut inserted = edits.iter().map(|(_, _, inserted)| inserted);
    inserted
        .find(|inserted| is_one(inserted))
        .map_or_else(Vec::new, lines_of)
}

/// A datagram without the header in front of it, and that; `None` when there is none.
pub(super) fn split(datagram: &[u8]) -> Option<(&[u8], &[u8])> {
    let len = datagram.get(PROXY_SIGNATURE.len() + 2..)?.first_chunk()?;
    let end = PROXY_SIGNATURE.len() + 4 + usize::from(u16::from_be_bytes(*len));
    let (header, rest) = datagram.split_at_checked(end)?;
    is_one(header).then_some((rest, header))
}

/// What such a header says, and its bytes.
pub(super) fn lines_of(header: &[u8]) -> Vec<String> {
    let says = match ends(header) {
        Some([source, destination]) => format!("{source} to {destination}"),
        None => "no addresses".to_owned(),
    };
    let mut lines = vec![format!(
        "PROXY protocol version 2, {} bytes: UDP from {says}",
        header.len()
    )];
    let bytes = hexadecimal(header);
    lines.extend(bytes.into_iter().map(|line| format!("  {line}")));
    lines
}

/// Source and destination.
fn ends(header: &[u8]) -> Option<[SocketAddr; 2]> {
    let (start, addresses) = header.split_at_checked(PROXY_SIGNATURE.len() + 4)?;
    let ip_len = match start[PROXY_SIGNATURE.len() + 1] {
        0x12 => 4,
        0x22 => 16,
        _ => return None,
    };
    let (ips, ports) = addresses.split_at_checked(2 * ip_len)?;
    let end = |place: usize| {
        let ip = &ips[place * ip_len..][..ip_len];
        let ip = match <[u8; 4]>::try_from(ip) {
            Ok(octets) => IpAddr::from(Ipv4Addr::from(octets)),
            Err(_) => IpAddr::from(Ipv6Addr::from(<[u8; 16]>::try_from(ip).ok()?)),
        };
        let port = ports.get(2 * place..2 * place + 2)?;
        Some(SocketAddr::new(
            ip,
            u16::from_be_bytes(port.try_into().ok()?),
        ))
    };
    Some([end(0)?, end(1)?])
}
