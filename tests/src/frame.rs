//! Ethernet frames that no socket would send.

use std::{
    net::{IpAddr, SocketAddr},
    os::fd::{AsRawFd, OwnedFd},
};

use anyhow::{Context, Result};
use nix::{
    ifaddrs::getifaddrs,
    sys::socket::{AddressFamily, LinkAddr, MsgFlags, SockFlag, SockType, sendto, socket},
};

use crate::host::Host;

/// Sends frames as they are out of an interface.
#[derive(Debug)]
pub struct Wire {
    socket: OwnedFd,
    interface: LinkAddr,
}

impl Wire {
    /// Opens an interface of `host`.
    ///
    /// # Errors
    ///
    /// When there is no such interface.
    pub fn open(host: &Host, interface: &str) -> Result<Self> {
        host.enter(|| {
            let mut addresses = getifaddrs()?.filter(|address| address.interface_name == interface);
            let address = addresses.find_map(|address| address.address?.as_link_addr().copied());
            Ok(Self {
                socket: socket(
                    AddressFamily::Packet,
                    SockType::Raw,
                    SockFlag::SOCK_CLOEXEC,
                    None,
                )?,
                interface: address.with_context(|| format!("there is no interface {interface}"))?,
            })
        })?
    }

    /// The interface's own MAC address.
    ///
    /// # Errors
    ///
    /// When it has none.
    pub fn mac(&self) -> Result<[u8; 6]> {
        self.interface.addr().context("no MAC address")
    }

    /// Sends a frame.
    ///
    /// # Errors
    ///
    /// When the kernel refuses: it wants at least the 14 bytes of an Ethernet header.
    pub fn send(&self, frame: &[u8]) -> Result<()> {
        sendto(
            self.socket.as_raw_fd(),
            frame,
            &self.interface,
            MsgFlags::empty(),
        )?;
        Ok(())
    }
}

/// An Ethernet frame with a UDP datagram, all lengths and checksums right.
///
/// # Panics
///
/// When the addresses are of different families, or the payload does not fit a UDP datagram.
pub fn udp(
    source: ([u8; 6], SocketAddr),
    destination: ([u8; 6], SocketAddr),
    payload: &[u8],
) -> Vec<u8> {
    let (source_mac, source) = source;
    let (destination_mac, destination) = destination;
    let udp_length = u16::try_from(8 + payload.len()).expect("a payload that fits");
    let mut udp = Vec::new();
    udp.extend(source.port().to_be_bytes());
    udp.extend(destination.port().to_be_bytes());
    udp.extend(udp_length.to_be_bytes());
    udp.extend([0, 0]);
    udp.extend(payload);
    let addresses = match (source.ip(), destination.ip()) {
        (IpAddr::V4(source), IpAddr::V4(destination)) => {
            [source.octets(), destination.octets()].concat()
        }
        (IpAddr::V6(source), IpAddr::V6(destination)) => {
            [source.octets(), destination.octets()].concat()
        }
        _ => panic!("{source} and {destination} are of different families"),
    };
    let pseudo_header = [addresses.as_slice(), &[0, 17], &udp_length.to_be_bytes()].concat();
    let checksum = match !sum(&[pseudo_header.as_slice(), &udp].concat()) {
        0 => 0xffff,
        checksum => checksum,
    };
    udp[6..8].copy_from_slice(&checksum.to_be_bytes());

    let mut frame = [destination_mac, source_mac].concat();
    if source.is_ipv4() {
        frame.extend([0x08, 0x00]);
        let mut header = vec![0x45, 0];
        header.extend((20 + udp_length).to_be_bytes());
        header.extend([0, 0, 0x40, 0, 64, 17, 0, 0]);
        header.extend(addresses);
        let checksum = !sum(&header);
        header[10..12].copy_from_slice(&checksum.to_be_bytes());
        frame.extend(header);
    } else {
        frame.extend([0x86, 0xdd, 0x60, 0, 0, 0]);
        frame.extend(udp_length.to_be_bytes());
        frame.extend([17, 64]);
        frame.extend(addresses);
    }
    frame.extend(udp);
    frame
}

/// The one's complement sum of RFC 1071, written out plainly.
fn sum(bytes: &[u8]) -> u16 {
    let mut sum: u32 = 0;
    for pair in bytes.chunks(2) {
        sum += u32::from(pair[0]) << 8 | u32::from(*pair.get(1).unwrap_or(&0));
        sum = (sum & 0xffff) + (sum >> 16);
    }
    sum as u16
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_frame_has_the_checksums_of_a_known_packet() {
        // The IPv4 header of RFC 1071's usual example: 45 00 00 73 ... checksum b861.
        let header = [
            0x45, 0x00, 0x00, 0x73, 0x00, 0x00, 0x40, 0x00, 0x40, 0x11, 0x00, 0x00, 0xc0, 0xa8,
            0x00, 0x01, 0xc0, 0xa8, 0x00, 0xc7,
        ];
        assert_eq!(!sum(&header), 0xb861);
        // Summed over with its checksum, a right packet gives all ones.
        let address = |text: &str| -> SocketAddr { text.parse().expect("an address") };
        let ends = [
            ("10.0.0.1:5060", "10.0.0.2:5061"),
            ("[2001:db8::1]:5060", "[2001:db8::2]:5061"),
        ];
        for (source, destination) in ends {
            let frame = udp(
                ([2; 6], address(source)),
                ([4; 6], address(destination)),
                b"odd",
            );
            let (addresses, datagram) = match frame.len() {
                45 => (&frame[26..34], &frame[34..]),
                _ => (&frame[22..54], &frame[54..]),
            };
            let pseudo_header = [addresses, &[0, 17, 0, 11]].concat();
            assert_eq!(
                sum(&[pseudo_header.as_slice(), datagram].concat()),
                0xffff,
                "{source}"
            );
        }
    }
}
