//! Frames to a VIP, sound ones and spoiled ones.

use lb_common::{
    checksum,
    decode::{Endpoint, map_ipv4},
};

/// MAC address of the interface that the program is on.
pub const STATION: [u8; 6] = [2, 0, 0, 0, 0, 2];
const SENDER: [u8; 6] = [2, 0, 0, 0, 0, 1];

pub const V4_VIP: Endpoint = Endpoint {
    address: map_ipv4([203, 0, 113, 10]),
    port: 5060,
};
pub const V6_VIP: Endpoint = Endpoint {
    address: [0x20, 1, 0xd, 0xb8, 0, 0xff, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0x10],
    port: 5060,
};

const V4_SOURCE: [u8; 4] = [198, 51, 100, 7];
const V6_SOURCE: [u8; 16] = [0x20, 1, 0xd, 0xb8, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 7];
const SOURCE_PORT: u16 = 31_000;
const PAYLOAD: &[u8] = b"OPTIONS sip:203.0.113.10 SIP/2.0\r\n\r\n";
const ETHERNET_LEN: usize = 14;
const IPV6_LEN: usize = 40;

/// An Ethernet frame with a UDP datagram. Changes to the IPv4 header keep its checksum right, unless the name says
/// that they spoil it.
#[derive(Clone, Debug)]
pub struct Frame {
    bytes: Vec<u8>,
    l3: usize,
    l4: usize,
}

impl Frame {
    pub fn ipv4() -> Self {
        Self::build_ipv4(&[])
    }

    /// With router alert (RFC 2113) and padding.
    pub fn ipv4_with_options() -> Self {
        Self::build_ipv4(&[148, 4, 0, 0, 1, 1, 1, 0])
    }

    fn build_ipv4(options: &[u8]) -> Self {
        let header_len = 20 + options.len();
        let udp = udp(&V4_SOURCE, &V4_VIP.address[12..], PAYLOAD);
        let mut bytes = ethernet(0x0800);
        bytes.extend([0x40 | (header_len / 4) as u8, 0]);
        bytes.extend(((header_len + udp.len()) as u16).to_be_bytes());
        // Identification, don't fragment, time to live, UDP, checksum.
        bytes.extend([0x12, 0x34, 0x40, 0, 64, 17, 0, 0]);
        bytes.extend(V4_SOURCE);
        bytes.extend(&V4_VIP.address[12..]);
        bytes.extend(options);
        bytes.extend(udp);
        let mut frame = Self {
            bytes,
            l3: ETHERNET_LEN,
            l4: ETHERNET_LEN + header_len,
        };
        frame.repair();
        frame
    }

    pub fn ipv6() -> Self {
        let udp = udp(&V6_SOURCE, &V6_VIP.address, PAYLOAD);
        let mut bytes = ethernet(0x86dd);
        bytes.extend([0x60, 0, 0, 0]);
        bytes.extend((udp.len() as u16).to_be_bytes());
        bytes.extend([17, 64]);
        bytes.extend(V6_SOURCE);
        bytes.extend(V6_VIP.address);
        bytes.extend(udp);
        Self {
            bytes,
            l3: ETHERNET_LEN,
            l4: ETHERNET_LEN + IPV6_LEN,
        }
    }

    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// With a VLAN tag in front of what is there.
    pub fn tagged(mut self) -> Self {
        self.bytes.splice(12..12, [0x81, 0, 0, 100]);
        self.l3 += 4;
        self.l4 += 4;
        self
    }

    /// With `len` bytes behind the end of the IP packet.
    pub fn padded(mut self, len: usize) -> Self {
        self.bytes.extend(std::iter::repeat_n(0, len));
        self
    }

    /// An IPv4 frame with another payload.
    pub fn payload(mut self, payload: &[u8]) -> Self {
        self.bytes.truncate(self.l4);
        self.bytes
            .extend(udp(&V4_SOURCE, &V4_VIP.address[12..], payload));
        let total = (self.bytes.len() - self.l3) as u16;
        self.set_l3(2, &total.to_be_bytes())
    }

    pub fn cut_to(mut self, len: usize) -> Self {
        self.bytes.truncate(len);
        self
    }

    /// With `new` at `offset` of the frame.
    pub fn set(mut self, offset: usize, new: &[u8]) -> Self {
        self.bytes[offset..offset + new.len()].copy_from_slice(new);
        self
    }

    /// With `new` at `offset` of the IP header.
    pub fn set_l3(self, offset: usize, new: &[u8]) -> Self {
        let at = self.l3 + offset;
        let mut frame = self.set(at, new);
        frame.repair();
        frame
    }

    /// With `new` at `offset` of the UDP header.
    pub fn set_l4(self, offset: usize, new: &[u8]) -> Self {
        let at = self.l4 + offset;
        self.set(at, new)
    }

    /// With a bit of the IP header flipped, and the checksum of before.
    pub fn spoil_l3(mut self, offset: usize) -> Self {
        self.bytes[self.l3 + offset] ^= 1;
        self
    }

    fn repair(&mut self) {
        let header = &mut self.bytes[self.l3..self.l4];
        if header.len() < IPV6_LEN {
            header[10..12].fill(0);
            let sum = !checksum::fold(checksum::sum(header));
            header[10..12].copy_from_slice(&sum.to_be_bytes());
        }
    }
}

fn ethernet(ether_type: u16) -> Vec<u8> {
    let [high, low] = ether_type.to_be_bytes();
    [STATION.as_slice(), &SENDER, &[high, low]].concat()
}

fn udp(source: &[u8], destination: &[u8], payload: &[u8]) -> Vec<u8> {
    let len = (8 + payload.len()) as u16;
    let mut bytes = Vec::new();
    for field in [SOURCE_PORT, V4_VIP.port, len, 0] {
        bytes.extend(field.to_be_bytes());
    }
    bytes.extend(payload);
    let pseudo = checksum::pseudo_header(source, destination, 17, len);
    let sum = !checksum::fold(pseudo + checksum::sum(&bytes));
    bytes[6..8].copy_from_slice(&sum.to_be_bytes());
    bytes
}

/// `02:00:00:00:00:01`.
pub fn mac_text(mac: [u8; 6]) -> String {
    mac.map(|byte| format!("{byte:02x}")).join(":")
}

/// The `struct xdp_md` of a frame of `len` bytes that arrived at `queue` of the interface with index `interface`.
pub fn context(len: usize, interface: u32, queue: u32) -> Vec<u8> {
    let [data, meta, egress] = [0; 3];
    [data, len as u32, meta, interface, queue, egress]
        .into_iter()
        .flat_map(u32::to_ne_bytes)
        .collect()
}
