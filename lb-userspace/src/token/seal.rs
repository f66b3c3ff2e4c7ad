//! Authenticated encryption (AES-GCM-SIV, RFC 8452) for what must not be read by those who carry it for us.

use aes_gcm_siv::{AeadInPlace, Aes128GcmSiv, KeyInit, Nonce, Tag};

use super::Key;

/// Bytes that sealing adds: the tag.
pub const SEAL_LEN: usize = 16;

/// Always the same: what is sealed has to be the same on every node and for every retransmission. AES-GCM-SIV gives away no
/// more by that than which texts are equal (RFC 8452 §4).
const NONCE: [u8; 12] = [0; 12];

/// What is sealed: what was sealed as one is none of the others.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(super) enum Purpose {
    Flow = 1,
    Contact = 2,
    Text = 3,
}

/// A cipher and its key.
#[derive(Clone)]
pub(super) struct Seal(Box<Aes128GcmSiv>);

impl Seal {
    pub fn new(key: &[u8; 16]) -> Self {
        Self(Box::new(Aes128GcmSiv::new(key.into())))
    }
}

impl Key {
    /// Encrypts `hidden` in place and returns the tag that covers `purpose` and `head` as well.
    pub(super) fn seal(&self, purpose: Purpose, head: u8, hidden: &mut [u8]) -> [u8; SEAL_LEN] {
        let cipher = &self.seal.0;
        let nonce = Nonce::from(NONCE);
        match cipher.encrypt_in_place_detached(&nonce, &[purpose as u8, head], hidden) {
            Ok(tag) => tag.into(),
            // Only for 64 GB and more.
            Err(_) => [0; SEAL_LEN],
        }
    }

    /// Decrypts `hidden` in place; false when the tag does not hold for all of it, and then `hidden` is as it was.
    pub(super) fn open(
        &self,
        purpose: Purpose,
        head: u8,
        hidden: &mut [u8],
        tag: &[u8; SEAL_LEN],
    ) -> bool {
        let cipher = &self.seal.0;
        let (nonce, tag) = (Nonce::from(NONCE), Tag::from(*tag));
        cipher
            .decrypt_in_place_detached(&nonce, &[purpose as u8, head], hidden, &tag)
            .is_ok()
    }
}
