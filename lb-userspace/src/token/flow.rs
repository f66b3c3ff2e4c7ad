//! Flow tokens: the two ends of a dialog or registration, in the user part of our Record-Route and Path URIs.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use siphasher::sip::SipHasher24;
use subtle::ConstantTimeEq;

use super::{
    KEY_ID, Key, Keys, SEAL_LEN, Signer, base64url, mapped, read_base64url, seal::Purpose,
};

/// Length of the longest flow token as text.
pub const FLOW_TOKEN_MAX: usize = 72;

/// The two ends that a dialog or registration is pinned to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FlowToken {
    /// Where the client is reached, or where the first request of an outbound call went.
    pub client: SocketAddr,
    /// Where the backend is reached.
    pub backend: SocketAddr,
    /// Who began.
    pub kind: FlowKind,
}

/// Who began a dialog or registration, and whom it leads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum FlowKind {
    /// The client registered: what the other side sends goes to it. Whatever dialog comes of it began inside.
    Registration = 0b0000_0000,
    /// The client: what the other side sends goes to it, and whatever it sends goes to the backend.
    FromClient = 0b0010_0000,
    /// The backend called somebody who needs no flow: what it sends follows Route and Request-URI (RFC 3261 §16.6), and
    /// only what comes back is led, to the backend.
    Outbound = 0b0100_0000,
    /// The backend called the client: as when that began.
    ToClient = 0b0110_0000,
}

impl FlowKind {
    fn of(head: u8) -> Option<Self> {
        let kinds = [
            Self::Registration,
            Self::FromClient,
            Self::Outbound,
            Self::ToClient,
        ];
        kinds
            .into_iter()
            .find(|kind| *kind as u8 == head & FLOW_KIND_MASK)
    }
}

impl FlowToken {
    /// Whether a token is a sealed one, whoever made it: its dialog began where the inside was hidden.
    pub fn is_sealed(text: &[u8]) -> bool {
        let mut head = [0u8; 3];
        text.get(..4)
            .and_then(|text| read_base64url(text, &mut head))
            .is_some_and(|_| head[0] & FLOW_SEALED != 0)
    }

    /// A dialog or registration that a client began.
    pub fn new(client: SocketAddr, backend: SocketAddr) -> Self {
        Self {
            client,
            backend,
            kind: FlowKind::FromClient,
        }
    }
}

impl Keys {
    /// Writes a flow token and returns its length: 28 characters for IPv4, 60 for IPv6; 40 and 72 when it is sealed.
    pub fn write_flow_token(&self, token: &FlowToken, text: &mut [u8; FLOW_TOKEN_MAX]) -> usize {
        let mut bytes = [0u8; FLOW_BYTES_MAX];
        let ends_end = encode_flow(token, &mut bytes);
        bytes[0] |= self.current.id;
        let len = if self.sealed {
            bytes[0] |= FLOW_SEALED;
            let head = bytes[0];
            let tag = self
                .current
                .seal(Purpose::Flow, head, &mut bytes[1..ends_end]);
            bytes[ends_end..ends_end + SEAL_LEN].copy_from_slice(&tag);
            // The next whole group of three.
            ends_end + SEAL_LEN + 1
        } else {
            let mac = self.current.flow_mac(&bytes[..ends_end]);
            bytes[ends_end..ends_end + FLOW_MAC_LEN].copy_from_slice(&mac);
            ends_end + FLOW_MAC_LEN
        };
        base64url(&bytes[..len], text)
    }

    /// Reads a flow token, sealed or not; `None` when it is not one or its MAC is wrong under both keys.
    pub fn read_flow_token(&self, text: &[u8]) -> Option<FlowToken> {
        let (token, _) = self.read_signed_flow_token(text)?;
        Some(token)
    }

    /// The same, and which key its MAC is right under.
    pub fn read_signed_flow_token(&self, text: &[u8]) -> Option<(FlowToken, Signer)> {
        let mut bytes = [0u8; FLOW_BYTES_MAX];
        let len = read_base64url(text, &mut bytes)?;
        let head = *bytes.first()?;
        let mut keys = self.both().filter(|(_, key)| key.id == head & KEY_ID);
        let ends_len = match head & FLOW_IPV6 {
            0 => 2 * 6,
            _ => 2 * 18,
        };
        let (signed, mac) = bytes.get_mut(..len)?.split_at_mut_checked(1 + ends_len)?;
        let (signer, _) = if head & FLOW_SEALED != 0 {
            let (tag, [0]) = mac.split_first_chunk::<SEAL_LEN>()? else {
                return None;
            };
            keys.find(|(_, key)| key.open(Purpose::Flow, head, &mut signed[1..], tag))?
        } else {
            let mac: &[u8] = <&[u8; FLOW_MAC_LEN]>::try_from(&*mac).ok()?;
            keys.find(|(_, key)| bool::from(key.flow_mac(signed).ct_eq(mac)))?
        };
        let (client, backend) = decode_ends(&signed[1..])?;
        let token = FlowToken {
            client,
            backend,
            kind: FlowKind::of(head)?,
        };
        Some((token, signer))
    }
}

impl Key {
    fn flow_mac(&self, signed: &[u8]) -> [u8; FLOW_MAC_LEN] {
        SipHasher24::new_with_key(&self.flow)
            .hash(signed)
            .to_le_bytes()
    }
}

// A flow token is: kind, family and key id in one byte; client address and port, backend address and port in network
// order, 12 or 36 bytes; MAC. 21 and 45 bytes are whole groups of three, so base64 needs no padding. A sealed one has the
// addresses encrypted, a longer MAC and a zero behind it, 30 or 54 bytes.
const FLOW_SEALED: u8 = 0b1000_0000;
const FLOW_KIND_MASK: u8 = 0b0110_0000;
const FLOW_IPV6: u8 = 0b0001_0000;
const FLOW_MAC_LEN: usize = 8;
const FLOW_BYTES_MAX: usize = 1 + 2 * 18 + SEAL_LEN + 1;

/// Writes what is signed but for the key id, and returns its length.
fn encode_flow(token: &FlowToken, bytes: &mut [u8; FLOW_BYTES_MAX]) -> usize {
    let is_ipv4 = token.client.is_ipv4() && token.backend.is_ipv4();
    let mut len = 1;
    for end in [token.client, token.backend] {
        len += put_end(end, is_ipv4, &mut bytes[len..]);
    }
    bytes[0] = token.kind as u8 | if is_ipv4 { 0 } else { FLOW_IPV6 };
    len
}

/// Writes address and port in 6 or 18 bytes to the start of `bytes`, and returns how many.
pub(super) fn put_end(end: SocketAddr, in_ipv4: bool, bytes: &mut [u8]) -> usize {
    let port = end.port().to_be_bytes();
    match end.ip() {
        IpAddr::V4(address) if in_ipv4 => {
            bytes[..4].copy_from_slice(&address.octets());
            bytes[4..6].copy_from_slice(&port);
            6
        }
        address => {
            bytes[..16].copy_from_slice(&mapped(address).octets());
            bytes[16..18].copy_from_slice(&port);
            18
        }
    }
}

fn decode_ends(ends: &[u8]) -> Option<(SocketAddr, SocketAddr)> {
    let (client, backend) = ends.split_at(ends.len() / 2);
    Some((read_end(client)?, read_end(backend)?))
}

/// Reads what [`put_end`] wrote.
pub(super) fn read_end(bytes: &[u8]) -> Option<SocketAddr> {
    let (address, port) = bytes.split_last_chunk::<2>()?;
    let address = match address.len() {
        4 => IpAddr::from(Ipv4Addr::from(<[u8; 4]>::try_from(address).ok()?)),
        _ => Ipv6Addr::from(<[u8; 16]>::try_from(address).ok()?).to_canonical(),
    };
    Some(SocketAddr::new(address, u16::from_be_bytes(*port)))
}
