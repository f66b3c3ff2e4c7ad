//! Contact tokens: where somebody is reached and what his Contact said, in a URI parameter of the Contact that we give
//! the other side in its place.

use std::net::SocketAddr;

use siphasher::sip::SipHasher24;
use subtle::ConstantTimeEq;

use super::{
    KEY_ID, Key, Keys, SEAL_LEN, base64url, base64url_len,
    flow::{put_end, read_end},
    read_base64url,
    seal::Purpose,
};

/// Longest rest of a Contact URI that is kept: what follows the user part, host first.
pub const CONTACT_REST_MAX: usize = 200;
/// Length of the longest contact token as text.
pub const CONTACT_TOKEN_MAX: usize = base64url_len(CONTACT_BYTES_MAX);

/// Whose Contact it was, and so who may call it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum ContactOf {
    /// A client's, which the inside calls.
    Client = 0b0010_0000,
    /// A backend's, which the outside calls.
    Backend = 0b0100_0000,
}

/// Where somebody is reached, and what his Contact URI said behind the user part.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct ContactToken {
    /// Whose it is.
    pub of: ContactOf,
    /// Where he is reached.
    pub address: SocketAddr,
    rest: [u8; CONTACT_REST_MAX],
    rest_len: usize,
}

impl ContactToken {
    /// `None` when `rest` is longer than [`CONTACT_REST_MAX`], or has in it what no URI has and would break the request line that it
    /// comes back in: blanks, line ends, NULs.
    pub fn new(of: ContactOf, address: SocketAddr, rest: &[u8]) -> Option<Self> {
        let mut token = Self {
            of,
            address,
            rest: [0; CONTACT_REST_MAX],
            rest_len: rest.len(),
        };
        token.rest.get_mut(..rest.len())?.copy_from_slice(rest);
        rest.iter().all(|byte| *byte > b' ').then_some(token)
    }

    /// What the URI said behind the user part: host, port, parameters, header fields.
    pub fn rest(&self) -> &[u8] {
        &self.rest[..self.rest_len]
    }
}

impl std::fmt::Debug for ContactToken {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ContactToken")
            .field("of", &self.of)
            .field("address", &self.address)
            .field("rest", &String::from_utf8_lossy(self.rest()))
            .finish()
    }
}

// A contact token is: whose it is, family and key id in one byte; address and port in network order, 6 or 18 bytes;
// the rest of the URI and zeros up to a whole group of three; MAC. What stands before the MAC is encrypted when it is
// sealed, but for the first byte.
const CONTACT_SEALED: u8 = 0b1000_0000;
const CONTACT_OF: u8 = 0b0110_0000;
const CONTACT_IPV6: u8 = 0b0001_0000;
const CONTACT_MAC_LEN: usize = 8;
const CONTACT_BYTES_MAX: usize = (1 + 18 + CONTACT_REST_MAX + SEAL_LEN).next_multiple_of(3);

impl Keys {
    /// Writes a contact token and returns its length, a multiple of four. Equal tokens have equal texts, so that a
    /// refreshed registration is the same to the registrar.
    pub fn write_contact_token(
        &self,
        token: &ContactToken,
        text: &mut [u8; CONTACT_TOKEN_MAX],
    ) -> usize {
        let mut bytes = [0; CONTACT_BYTES_MAX];
        let is_ipv4 = token.address.is_ipv4();
        bytes[0] = token.of as u8 | self.current.id | if is_ipv4 { 0 } else { CONTACT_IPV6 };
        let mut len = 1 + put_end(token.address, is_ipv4, &mut bytes[1..]);
        bytes[len..len + token.rest_len].copy_from_slice(token.rest());
        len += token.rest_len;
        let mac_len = match self.sealed {
            true => SEAL_LEN,
            false => CONTACT_MAC_LEN,
        };
        let len = (len + mac_len).next_multiple_of(3);
        let (signed, mac) = bytes[..len].split_at_mut(len - mac_len);
        if self.sealed {
            signed[0] |= CONTACT_SEALED;
            let head = signed[0];
            let tag = self.current.seal(Purpose::Contact, head, &mut signed[1..]);
            mac.copy_from_slice(&tag);
        } else {
            mac.copy_from_slice(&self.current.contact_mac(signed));
        }
        base64url(&bytes[..len], text)
    }

    /// Reads a contact token, sealed or not; `None` when it is not one or its MAC is wrong under both keys.
    pub fn read_contact_token(&self, text: &[u8]) -> Option<ContactToken> {
        let mut bytes = [0; CONTACT_BYTES_MAX];
        let len = read_base64url(text, &mut bytes)?;
        let head = *bytes.first()?;
        let mut keys = self.both().filter(|(_, key)| key.id == head & KEY_ID);
        let bytes = bytes.get_mut(..len)?;
        let signed = if head & CONTACT_SEALED != 0 {
            let (signed, tag) = bytes.split_last_chunk_mut::<SEAL_LEN>()?;
            let hidden = signed.get_mut(1..)?;
            keys.find(|(_, key)| key.open(Purpose::Contact, head, hidden, tag))?;
            signed
        } else {
            let (signed, mac) = bytes.split_last_chunk_mut::<CONTACT_MAC_LEN>()?;
            keys.find(|(_, key)| bool::from(key.contact_mac(signed).ct_eq(&mac[..])))?;
            signed
        };
        let of = [ContactOf::Client, ContactOf::Backend]
            .into_iter()
            .find(|of| *of as u8 == head & CONTACT_OF)?;
        let end_len = match head & CONTACT_IPV6 {
            0 => 6,
            _ => 18,
        };
        let (address, rest) = signed.get(1..)?.split_at_checked(end_len)?;
        let rest_len = rest
            .iter()
            .rposition(|byte| *byte != 0)
            .map_or(0, |last| last + 1);
        ContactToken::new(of, read_end(address)?, &rest[..rest_len])
    }
}

impl Key {
    fn contact_mac(&self, signed: &[u8]) -> [u8; CONTACT_MAC_LEN] {
        SipHasher24::new_with_key(&self.contact)
            .hash(signed)
            .to_le_bytes()
    }
}
