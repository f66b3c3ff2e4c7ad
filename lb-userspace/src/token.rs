//! Fleet keys.

use std::fmt;

use siphasher::sip::SipHasher24;
use zeroize::Zeroize;

/// Keys made from the fleet secret: the current one signs, both verify.
#[derive(Clone)]
pub struct Keys {
    current: [u8; 16],
    previous: Option<[u8; 16]>,
}

impl Keys {
    /// Makes keys from the contents of the secret files.
    pub fn new(secret: &[u8], previous: Option<&[u8]>) -> Self {
        Self {
            current: condense(secret),
            previous: previous.map(condense),
        }
    }

    /// A key for one purpose, made from the current secret.
    pub fn subkey(&self, purpose: &str) -> [u8; 16] {
        let hasher = SipHasher24::new_with_key(&self.current);
        halves(|number| hasher.hash(&[purpose.as_bytes(), &[number]].concat()))
    }
}

fn condense(secret: &[u8]) -> [u8; 16] {
    halves(|number| SipHasher24::new_with_keys(u64::from(number), 0).hash(secret))
}

fn halves(half: impl Fn(u8) -> u64) -> [u8; 16] {
    let mut key = [0; 16];
    key[..8].copy_from_slice(&half(0).to_le_bytes());
    key[8..].copy_from_slice(&half(1).to_le_bytes());
    key
}

impl Drop for Keys {
    fn drop(&mut self) {
        self.current.zeroize();
        self.previous.zeroize();
    }
}

/// Prints nothing secret.
impl fmt::Debug for Keys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Keys")
    }
}
