//! Everything keyed: Via branch and MAC, flow and contact tokens, To tag of our own replies.
//!
//! All values are SipHash with keys made from the fleet secret, so every node that has the secret makes and accepts the
//! same. What nobody may read is encrypted as well. Two secrets can be in use at a time, so that one can be replaced while
//! calls are up: the current one signs, both verify. Where a peer might compare without case (Via parameters and tags are
//! tokens, RFC 3261 §7.3.1) the text is lower-case hexadecimal; flow and contact tokens stand in the user part and in a
//! parameter of a URI that comes back as it was written, and are base64url.

mod contact;
mod flow;
mod hidden;
mod rotation;
mod seal;
#[cfg(test)]
mod tests;

pub use contact::{CONTACT_REST_MAX, CONTACT_TOKEN_MAX, ContactOf, ContactToken};
pub use flow::{FLOW_TOKEN_MAX, FlowKind, FlowToken};
pub use hidden::{HIDDEN_MAX, HIDDEN_TEXT_MAX, Hidden, HiddenText};
pub use rotation::Signer;
pub use seal::SEAL_LEN;

use std::{
    fmt,
    hash::Hasher,
    net::{IpAddr, Ipv6Addr, SocketAddr},
};

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use siphasher::sip::{SipHasher13, SipHasher24};
use subtle::ConstantTimeEq;
use zeroize::{Zeroize, Zeroizing};

use self::seal::Seal;

/// Length of a transaction id, a MAC and a To tag as text.
pub const HEX_LEN: usize = 16;

/// Keys made from the fleet secret. Printing them prints nothing secret, and the memory is wiped when they are dropped.
#[derive(Clone)]
pub struct Keys {
    current: Key,
    previous: Option<Key>,
    /// Tokens that are written from now on can be read by us alone.
    sealed: bool,
    /// What lookup tables follow, when that is not the current secret.
    distribution: Option<Zeroizing<[u8; 16]>>,
}

/// Subkeys of one secret, one for each purpose, so that no value made for one purpose is of use for another.
#[derive(Clone)]
struct Key {
    root: [u8; 16],
    transaction: [u8; 16],
    via: [u8; 16],
    flow: [u8; 16],
    contact: [u8; 16],
    to_tag: [u8; 16],
    seal: Seal,
    /// Four bits that tell the secrets apart in a token without saying anything about them.
    id: u8,
}

/// What is the same in a request, its retransmissions, its CANCEL and the ACK to its non-2xx response, and differs
/// between transactions. All as received.
#[derive(Clone, Copy, Debug)]
pub struct TransactionParts<'a> {
    /// Branch of the top Via; left out when it does not begin with the magic cookie, since an RFC 2543 ACK may have
    /// another.
    pub branch: &'a [u8],
    /// Host of the top Via's sent-by.
    pub sent_by_host: &'a [u8],
    /// Port of the top Via's sent-by, or the default.
    pub sent_by_port: u16,
    /// Call-ID, trimmed.
    pub call_id: &'a [u8],
    /// Number of CSeq.
    pub cseq: u32,
    /// From tag; empty when there is none.
    pub from_tag: &'a [u8],
    /// Request-URI.
    pub request_uri: &'a [u8],
}

/// Keyed hash of a transaction, for the branch of our Via.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TransactionId(u64);

impl Keys {
    /// Makes keys from the contents of the secret files.
    pub fn new(secret: &[u8], previous: Option<&[u8]>) -> Self {
        Self {
            current: Key::new(secret),
            previous: previous.map(Key::new),
            sealed: false,
            distribution: None,
        }
    }

    /// The same keys, whose tokens carry no readable address when `sealed` is true. Tokens of either form are read by
    /// both.
    pub fn with_sealed_tokens(self, sealed: bool) -> Self {
        Self { sealed, ..self }
    }

    /// The ids of the secret that signs and of the one that is accepted as well, if there is one.
    pub fn ids(&self) -> (KeyId, Option<KeyId>) {
        (
            self.current.public_id(),
            self.previous.as_ref().map(Key::public_id),
        )
    }

    /// The id of a transaction under the current key (RFC 3261 §16.11).
    pub fn transaction_id(&self, parts: &TransactionParts<'_>) -> TransactionId {
        self.current.transaction_id(parts)
    }

    /// The MAC that ties a transaction to the address that its responses go to.
    pub fn via_mac(&self, transaction: TransactionId, target: SocketAddr) -> [u8; HEX_LEN] {
        hex(self.current.via_mac(transaction, target))
    }

    /// True when `mac` is the MAC of `transaction` (a branch without the magic cookie) and `target`, under either key.
    pub fn verify_via_mac(&self, transaction: &[u8], mac: &[u8], target: SocketAddr) -> bool {
        self.via_signer(transaction, mac, target).is_some()
    }

    /// The key that `mac` is the MAC of `transaction` and `target` under.
    pub fn via_signer(&self, transaction: &[u8], mac: &[u8], target: SocketAddr) -> Option<Signer> {
        let (transaction, mac) = (parse_hex(transaction)?, parse_hex(mac)?);
        self.both()
            .find(|(_, key)| same(key.via_mac(TransactionId(transaction), target), mac))
            .map(|(signer, _)| signer)
    }

    /// The To tag of a reply that we make ourselves.
    pub fn to_tag(&self, transaction: TransactionId) -> [u8; HEX_LEN] {
        hex(self.current.to_tag(transaction))
    }

    /// True when `tag` is the To tag that any node of ours put into its own reply to this transaction.
    pub fn is_own_to_tag(&self, parts: &TransactionParts<'_>, tag: &[u8]) -> bool {
        let Some(tag) = parse_hex(tag) else {
            return false;
        };
        self.both()
            .any(|(_, key)| same(key.to_tag(key.transaction_id(parts)), tag))
    }
}

/// What a secret can be told apart from others by without saying anything about it: 32 bits that are derived from it as its keys are.
/// Equal on nodes that share a secret.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct KeyId([u8; 4]);

impl fmt::Display for KeyId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:08x}", u32::from_be_bytes(self.0))
    }
}

/// Prints nothing secret.
impl fmt::Debug for Keys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Keys")
            .field("previous", &self.previous.is_some())
            .finish_non_exhaustive()
    }
}

impl Key {
    fn new(secret: &[u8]) -> Self {
        let mut start = [0; 16];
        for (to, from) in start.iter_mut().zip(secret) {
            *to = *from;
        }
        let root = derive(&start, secret);
        start.zeroize();
        Self {
            root,
            transaction: derive(&root, b"transaction id"),
            via: derive(&root, b"Via MAC"),
            flow: derive(&root, b"flow token"),
            contact: derive(&root, b"contact token"),
            seal: Seal::new(&derive(&root, b"sealed text")),
            to_tag: derive(&root, b"To tag"),
            id: derive(&root, b"key id")[0] & KEY_ID,
        }
    }

    fn public_id(&self) -> KeyId {
        let [a, b, c, d, ..] = derive(&self.root, b"public key id");
        KeyId([a, b, c, d])
    }

    /// One SipHash-1-3 over all parts: the id must be hard to predict, but what authenticates it is the MAC.
    fn transaction_id(&self, parts: &TransactionParts<'_>) -> TransactionId {
        let branch = if has_magic_cookie(parts.branch) {
            parts.branch
        } else {
            &[]
        };
        let texts = [
            branch,
            parts.sent_by_host,
            parts.call_id,
            parts.from_tag,
            parts.request_uri,
        ];
        // The lengths go first, so that no two different transactions make the same bytes.
        let mut gathered = [0u8; GATHERED];
        gathered[..4].copy_from_slice(&parts.cseq.to_le_bytes());
        gathered[4..6].copy_from_slice(&parts.sent_by_port.to_le_bytes());
        let mut len = 6;
        for text in texts {
            gathered[len..len + 2].copy_from_slice(&(text.len() as u16).to_le_bytes());
            len += 2;
        }
        let head = len;
        let hasher = SipHasher13::new_with_key(&self.transaction);
        for text in texts {
            let Some(place) = gathered.get_mut(len..len + text.len()) else {
                return long_transaction_id(hasher, &gathered[..head], &texts);
            };
            place.copy_from_slice(text);
            len += text.len();
        }
        TransactionId(hasher.hash(&gathered[..len]))
    }

    fn via_mac(&self, transaction: TransactionId, target: SocketAddr) -> u64 {
        let mut bytes = [0u8; 26];
        bytes[..8].copy_from_slice(&transaction.0.to_le_bytes());
        bytes[8..24].copy_from_slice(&mapped(target.ip()).octets());
        bytes[24..].copy_from_slice(&target.port().to_be_bytes());
        SipHasher24::new_with_key(&self.via).hash(&bytes)
    }

    fn to_tag(&self, transaction: TransactionId) -> u64 {
        SipHasher24::new_with_key(&self.to_tag).hash(&transaction.0.to_le_bytes())
    }
}

/// The bits of a token's first byte that say which key signed it.
const KEY_ID: u8 = 0b0000_1111;

/// Room for what a transaction id is usually made from: hashing it in one piece costs half of hashing the pieces.
const GATHERED: usize = 384;

/// The same for parts that are longer together.
#[cold]
fn long_transaction_id(mut hasher: SipHasher13, head: &[u8], texts: &[&[u8]]) -> TransactionId {
    hasher.write(head);
    for text in texts {
        hasher.write(text);
    }
    TransactionId(hasher.finish())
}

impl Drop for Key {
    fn drop(&mut self) {
        self.root.zeroize();
        self.transaction.zeroize();
        self.via.zeroize();
        self.flow.zeroize();
        self.contact.zeroize();
        self.to_tag.zeroize();
    }
}

impl TransactionId {
    /// Reads what [`TransactionId::to_text`] wrote.
    pub fn from_text(text: &[u8]) -> Option<Self> {
        parse_hex(text).map(Self)
    }

    /// The id as a number.
    pub fn number(self) -> u64 {
        self.0
    }

    /// The id as it follows the magic cookie in a branch.
    pub fn to_text(self) -> [u8; HEX_LEN] {
        hex(self.0)
    }
}

/// What a branch of RFC 3261 begins with (§8.1.1.7).
pub const MAGIC_COOKIE: &[u8] = b"z9hG4bK";

/// True for a branch that begins with the magic cookie, in any case: parameters are compared without it.
pub fn has_magic_cookie(branch: &[u8]) -> bool {
    branch
        .get(..MAGIC_COOKIE.len())
        .is_some_and(|start| start.eq_ignore_ascii_case(MAGIC_COOKIE))
}

/// The address in 16 bytes, IPv4 mapped.
fn mapped(address: IpAddr) -> Ipv6Addr {
    match address {
        IpAddr::V4(address) => address.to_ipv6_mapped(),
        IpAddr::V6(address) => address,
    }
}

/// 128 bits under `key`: two SipHash-2-4 of the purpose with a number before it.
fn derive(key: &[u8; 16], purpose: &[u8]) -> [u8; 16] {
    let mut derived = [0; 16];
    for (number, half) in derived.as_chunks_mut::<8>().0.iter_mut().enumerate() {
        let mut hasher = SipHasher24::new_with_key(key);
        hasher.write(&[number as u8]);
        hasher.write(purpose);
        *half = hasher.finish().to_le_bytes();
    }
    derived
}

fn same(a: u64, b: u64) -> bool {
    a.ct_eq(&b).into()
}

/// Sixteen lower-case digits: all of them at once, a nibble in each byte of two words.
fn hex(value: u64) -> [u8; HEX_LEN] {
    const LOW: u64 = 0x0f0f_0f0f_0f0f_0f0f;
    const ONES: u64 = 0x0101_0101_0101_0101;
    let digits = |half: u32| {
        // Spread the eight nibbles over eight bytes.
        let mut nibbles = u64::from(half);
        nibbles = (nibbles | nibbles << 16) & 0x0000_ffff_0000_ffff;
        nibbles = (nibbles | nibbles << 8) & 0x00ff_00ff_00ff_00ff;
        nibbles = (nibbles | nibbles << 4) & LOW;
        // Six more carry into bit 4 from ten on; letters stand 39 behind where the digits would go on.
        let letters = (nibbles + 6 * ONES) >> 4 & ONES;
        (nibbles + u64::from(b'0') * ONES + letters * 39).to_be_bytes()
    };
    let mut text = [0; HEX_LEN];
    text[..8].copy_from_slice(&digits((value >> 32) as u32));
    text[8..].copy_from_slice(&digits(value as u32));
    text
}

/// Reads 16 hexadecimal digits in any case: a peer may have changed it on the way.
fn parse_hex(text: &[u8]) -> Option<u64> {
    /// Value of a digit; a high bit for what is none.
    const VALUES: [u8; 256] = {
        let mut values = [0x80; 256];
        let mut value = 0;
        while value < 16 {
            let digit = b"0123456789abcdef"[value];
            values[digit as usize] = value as u8;
            values[digit.to_ascii_uppercase() as usize] = value as u8;
            value += 1;
        }
        values
    };
    let text: &[u8; HEX_LEN] = text.try_into().ok()?;
    let mut number = 0;
    let mut all = 0;
    for digit in text {
        let value = VALUES[usize::from(*digit)];
        all |= value;
        number = number << 4 | u64::from(value & 0xf);
    }
    (all < 0x80).then_some(number)
}

/// Characters that this many bytes take, a multiple of three.
const fn base64url_len(bytes: usize) -> usize {
    bytes / 3 * 4
}

/// Writes whole groups of three bytes as base64url (RFC 4648 §5) and returns the number of characters. What does not fit
/// is left out.
fn base64url(bytes: &[u8], text: &mut [u8]) -> usize {
    const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
    let groups = bytes.as_chunks::<3>().0.iter();
    let mut len = 0;
    for (group, to) in groups.zip(text.as_chunks_mut::<4>().0) {
        let bits = u32::from_be_bytes([0, group[0], group[1], group[2]]);
        *to = [18, 12, 6, 0].map(|shift| DIGITS[(bits >> shift) as usize % 64]);
        len += 4;
    }
    len
}

/// Reads base64url without padding and returns the number of bytes; `None` for what is none or does not fit.
fn read_base64url(text: &[u8], bytes: &mut [u8]) -> Option<usize> {
    if text.len() > base64url_len(bytes.len()) {
        return None;
    }
    URL_SAFE_NO_PAD.decode_slice(text, bytes).ok()
}
