//! Everything keyed: Via branch and MAC, flow token, To tag of our own replies.
//!
//! All values are SipHash with keys made from the fleet secret, so every node that has the secret makes and accepts the
//! same. Two secrets can be in use at a time, so that one can be replaced while calls are up: the current one signs,
//! both verify. Where a peer might compare without case (Via parameters and tags are tokens, RFC 3261 §7.3.1) the text
//! is lower-case hexadecimal; a flow token stands in the user part of a URI, whose case counts, and is base64url.

use std::{
    fmt,
    hash::Hasher,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
};

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use siphasher::sip::{SipHasher13, SipHasher24};
use subtle::ConstantTimeEq;
use zeroize::Zeroize;

/// Length of a transaction id, a MAC and a To tag as text.
pub const HEX_LEN: usize = 16;
/// Length of the longest flow token as text.
pub const FLOW_TOKEN_MAX: usize = 60;

/// Keys made from the fleet secret. Printing them prints nothing secret, and the memory is wiped when they are dropped.
#[derive(Clone)]
pub struct Keys {
    current: Key,
    previous: Option<Key>,
}

/// Subkeys of one secret, one for each purpose, so that no value made for one purpose is of use for another.
#[derive(Clone)]
struct Key {
    root: [u8; 16],
    transaction: [u8; 16],
    via: [u8; 16],
    flow: [u8; 16],
    to_tag: [u8; 16],
    /// Four bits that tell the secrets apart in a flow token without saying anything about them.
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

/// The two ends that a dialog or registration is pinned to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FlowToken {
    /// Where the client is reached.
    pub client: SocketAddr,
    /// Where the backend is reached.
    pub backend: SocketAddr,
}

impl Keys {
    /// Makes keys from the contents of the secret files.
    pub fn new(secret: &[u8], previous: Option<&[u8]>) -> Self {
        Self {
            current: Key::new(secret),
            previous: previous.map(Key::new),
        }
    }

    /// A key for a purpose outside this module, made from the current secret.
    pub fn subkey(&self, purpose: &str) -> [u8; 16] {
        derive(&self.current.root, purpose.as_bytes())
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
        let (Some(transaction), Some(mac)) = (parse_hex(transaction), parse_hex(mac)) else {
            return false;
        };
        self.both()
            .any(|key| same(key.via_mac(TransactionId(transaction), target), mac))
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
            .any(|key| same(key.to_tag(key.transaction_id(parts)), tag))
    }

    /// Writes a flow token and returns its length: 28 characters for IPv4, 60 for IPv6.
    pub fn write_flow_token(&self, token: &FlowToken, text: &mut [u8; FLOW_TOKEN_MAX]) -> usize {
        let (mut bytes, mac_at) = encode_flow(token, self.current.id);
        let mac = self.current.flow_mac(&bytes[..mac_at]);
        let len = mac_at + mac.len();
        bytes[mac_at..len].copy_from_slice(&mac);
        base64url(&bytes[..len], text)
    }

    /// Reads a flow token; `None` when it is not one or its MAC is wrong under both keys.
    pub fn read_flow_token(&self, text: &[u8]) -> Option<FlowToken> {
        let mut bytes = [0u8; FLOW_BYTES_MAX];
        if text.len() > FLOW_TOKEN_MAX {
            return None;
        }
        let len = URL_SAFE_NO_PAD.decode_slice(text, &mut bytes).ok()?;
        let (signed, mac) = bytes[..len].split_at(len.checked_sub(FLOW_MAC_LEN)?);
        let head = *signed.first()?;
        let id = head & FLOW_KEY_ID;
        let known = self
            .both()
            .any(|key| key.id == id && bool::from(key.flow_mac(signed).ct_eq(mac)));
        if !known || head & FLOW_VERSION_MASK != FLOW_VERSION {
            return None;
        }
        decode_flow(head & FLOW_IPV6 != 0, &signed[1..])
    }

    fn both(&self) -> impl Iterator<Item = &Key> {
        std::iter::once(&self.current).chain(&self.previous)
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
            to_tag: derive(&root, b"To tag"),
            id: derive(&root, b"key id")[0] & FLOW_KEY_ID,
        }
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

    fn flow_mac(&self, signed: &[u8]) -> [u8; FLOW_MAC_LEN] {
        SipHasher24::new_with_key(&self.flow)
            .hash(signed)
            .to_le_bytes()
    }
}

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

// A flow token is: version, family and key id in one byte; client address and port, backend address and port in network
// order, 12 or 36 bytes; MAC. 21 and 45 bytes are whole groups of three, so base64 needs no padding.
const FLOW_VERSION_MASK: u8 = 0b1110_0000;
const FLOW_VERSION: u8 = 0b0010_0000;
const FLOW_IPV6: u8 = 0b0001_0000;
const FLOW_KEY_ID: u8 = 0b0000_1111;
const FLOW_MAC_LEN: usize = 8;
const FLOW_BYTES_MAX: usize = 1 + 2 * 18 + FLOW_MAC_LEN;

/// The bytes that are signed, and their number.
fn encode_flow(token: &FlowToken, key_id: u8) -> ([u8; FLOW_BYTES_MAX], usize) {
    let mut bytes = [0u8; FLOW_BYTES_MAX];
    let mut len = 1;
    let mut put = |part: &[u8]| {
        bytes[len..len + part.len()].copy_from_slice(part);
        len += part.len();
    };
    let family = match (token.client.ip(), token.backend.ip()) {
        (IpAddr::V4(client), IpAddr::V4(backend)) => {
            put(&client.octets());
            put(&token.client.port().to_be_bytes());
            put(&backend.octets());
            put(&token.backend.port().to_be_bytes());
            0
        }
        (client, backend) => {
            put(&mapped(client).octets());
            put(&token.client.port().to_be_bytes());
            put(&mapped(backend).octets());
            put(&token.backend.port().to_be_bytes());
            FLOW_IPV6
        }
    };
    bytes[0] = FLOW_VERSION | family | key_id;
    (bytes, len)
}

fn decode_flow(ipv6: bool, ends: &[u8]) -> Option<FlowToken> {
    let (client, backend) = if ipv6 {
        let (client, backend) = ends.split_at_checked(18)?;
        (ipv6_end(client)?, ipv6_end(backend)?)
    } else {
        let (client, backend) = ends.split_at_checked(6)?;
        (ipv4_end(client)?, ipv4_end(backend)?)
    };
    Some(FlowToken { client, backend })
}

fn ipv4_end(bytes: &[u8]) -> Option<SocketAddr> {
    let [a, b, c, d, high, low] = *<&[u8; 6]>::try_from(bytes).ok()?;
    let port = u16::from_be_bytes([high, low]);
    Some(SocketAddr::from((Ipv4Addr::new(a, b, c, d), port)))
}

fn ipv6_end(bytes: &[u8]) -> Option<SocketAddr> {
    let (address, port) = bytes.split_first_chunk::<16>()?;
    let port = u16::from_be_bytes(*<&[u8; 2]>::try_from(port).ok()?);
    let address = Ipv6Addr::from(*address).to_canonical();
    Some(SocketAddr::new(address, port))
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

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const PARTS: TransactionParts<'static> = TransactionParts {
        branch: b"z9hG4bKabc",
        sent_by_host: b"192.0.2.1",
        sent_by_port: 5060,
        call_id: b"call@192.0.2.1",
        cseq: 1,
        from_tag: b"tag",
        request_uri: b"sip:bob@example.com",
    };

    fn keys(secret: &str) -> Keys {
        Keys::new(secret.as_bytes(), None)
    }

    fn rotated(current: &str, previous: &str) -> Keys {
        Keys::new(current.as_bytes(), Some(previous.as_bytes()))
    }

    fn address(text: &str) -> SocketAddr {
        text.parse().unwrap()
    }

    #[test]
    fn hexadecimal_digits() {
        for value in [
            0,
            1,
            0x0123_4567_89ab_cdef,
            0xfedc_ba98_7654_3210,
            u64::MAX,
            0x9a9a_9a9a_a9a9_a9a9,
        ] {
            assert_eq!(hex(value), format!("{value:016x}").as_bytes());
            assert_eq!(parse_hex(&hex(value)), Some(value));
            assert_eq!(parse_hex(format!("{value:016X}").as_bytes()), Some(value));
        }
    }

    /// Fixed values: a change here means that nodes of two versions do not understand each other.
    #[test]
    fn values_are_the_same_in_every_version() {
        let keys = keys("a fleet secret of enough bytes");
        let id = keys.transaction_id(&PARTS);
        let mac = keys.via_mac(id, address("192.0.2.1:5060"));
        let mut token = [0; FLOW_TOKEN_MAX];
        let flow = FlowToken {
            client: address("192.0.2.1:5060"),
            backend: address("10.0.0.1:5060"),
        };
        let len = keys.write_flow_token(&flow, &mut token);
        let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
        assert_eq!(
            [
                text(&id.to_text()),
                text(&mac),
                text(&keys.to_tag(id)),
                text(&token[..len])
            ],
            GOLDEN
        );
    }

    /// Computed by a second implementation of SipHash and of the formats.
    const GOLDEN: [&str; 4] = [
        "cbc1ccf63ef0d92c",
        "e9715eb07fbf6f28",
        "0fe3f7021ce446e7",
        "JcAAAgETxAoAAAETxCyM9BiVNs-k",
    ];

    #[test]
    fn every_part_changes_the_transaction_id() {
        let keys = keys("secret");
        let id = keys.transaction_id(&PARTS);
        let others = [
            TransactionParts {
                branch: b"z9hG4bKabd",
                ..PARTS
            },
            TransactionParts {
                sent_by_host: b"192.0.2.2",
                ..PARTS
            },
            TransactionParts {
                sent_by_port: 5061,
                ..PARTS
            },
            TransactionParts {
                call_id: b"call@192.0.2.2",
                ..PARTS
            },
            TransactionParts { cseq: 2, ..PARTS },
            TransactionParts {
                from_tag: b"",
                ..PARTS
            },
            TransactionParts {
                request_uri: b"sip:eve@example.com",
                ..PARTS
            },
            // The same bytes, cut elsewhere.
            TransactionParts {
                call_id: b"call@192.0.2.1t",
                from_tag: b"ag",
                ..PARTS
            },
        ];
        for other in &others {
            assert_ne!(keys.transaction_id(other), id, "{other:?}");
        }
    }

    #[test]
    fn a_branch_without_magic_cookie_does_not_count() {
        let keys = keys("secret");
        let old = TransactionParts {
            branch: b"1",
            ..PARTS
        };
        let ack = TransactionParts {
            branch: b"",
            ..PARTS
        };
        assert_eq!(keys.transaction_id(&old), keys.transaction_id(&ack));
    }

    #[test]
    fn a_via_mac_holds_for_its_transaction_and_target_only() {
        let keys = keys("secret");
        let id = keys.transaction_id(&PARTS);
        let target = address("192.0.2.1:5060");
        let mac = keys.via_mac(id, target);
        let other = keys.transaction_id(&TransactionParts { cseq: 2, ..PARTS });
        let verify = |id: &[u8], mac: &[u8], target| keys.verify_via_mac(id, mac, address(target));
        assert!(verify(&id.to_text(), &mac, "192.0.2.1:5060"));
        assert!(verify(
            &id.to_text().to_ascii_uppercase(),
            &mac.to_ascii_uppercase(),
            "192.0.2.1:5060"
        ));
        assert!(!verify(&other.to_text(), &mac, "192.0.2.1:5060"));
        assert!(!verify(&id.to_text(), &mac, "192.0.2.1:5061"));
        assert!(!verify(&id.to_text(), &mac, "192.0.2.2:5060"));
        assert!(!verify(&id.to_text(), &mac, "[2001:db8::1]:5060"));
        assert!(!verify(&id.to_text(), &mac[..15], "192.0.2.1:5060"));
        assert!(!verify(&id.to_text()[1..], &mac, "192.0.2.1:5060"));
        assert!(!verify(b"", b"", "192.0.2.1:5060"));
    }

    #[test]
    fn both_secrets_verify_and_the_current_one_signs() {
        let (old, both, new) = (keys("old"), rotated("new", "old"), keys("new"));
        let target = address("192.0.2.1:5060");
        let flow = FlowToken {
            client: target,
            backend: address("10.0.0.1:5060"),
        };
        for (signer, verifier, want) in [
            (&old, &both, true),
            (&both, &new, true),
            (&new, &both, true),
            (&both, &old, false),
            (&old, &new, false),
        ] {
            let id = signer.transaction_id(&PARTS);
            let mac = signer.via_mac(id, target);
            assert_eq!(verifier.verify_via_mac(&id.to_text(), &mac, target), want);
            assert_eq!(verifier.is_own_to_tag(&PARTS, &signer.to_tag(id)), want);
            let mut text = [0; FLOW_TOKEN_MAX];
            let len = signer.write_flow_token(&flow, &mut text);
            assert_eq!(verifier.read_flow_token(&text[..len]), want.then_some(flow));
        }
    }

    #[test]
    fn flow_tokens_keep_addresses_of_both_families() {
        let keys = keys("secret");
        for (client, backend, want_len) in [
            ("192.0.2.1:5060", "10.0.0.1:5080", 28),
            ("[2001:db8::1]:40000", "[2001:db8::2]:5060", 60),
            ("192.0.2.1:5060", "[2001:db8::2]:5060", 60),
        ] {
            let flow = FlowToken {
                client: address(client),
                backend: address(backend),
            };
            let mut text = [0; FLOW_TOKEN_MAX];
            let len = keys.write_flow_token(&flow, &mut text);
            assert_eq!(len, want_len);
            assert_eq!(keys.read_flow_token(&text[..len]), Some(flow));
        }
    }

    #[test]
    fn no_changed_flow_token_is_accepted() {
        let keys = keys("secret");
        let flow = FlowToken {
            client: address("192.0.2.1:5060"),
            backend: address("10.0.0.1:5060"),
        };
        let mut text = [0; FLOW_TOKEN_MAX];
        let len = keys.write_flow_token(&flow, &mut text);
        let token = &text[..len];
        for at in 0..len {
            for byte in *b"AQgw_09-=%" {
                let mut changed = token.to_vec();
                changed[at] = byte;
                let want = (changed == token).then_some(flow);
                assert_eq!(keys.read_flow_token(&changed), want, "{at} {byte}");
            }
            assert_eq!(keys.read_flow_token(&token[..at]), None);
        }
        assert_eq!(keys.read_flow_token(&[token, b"AAAA"].concat()), None);
        assert_eq!(
            super::Keys::new(b"other", None).read_flow_token(token),
            None
        );
    }

    #[test]
    fn nothing_secret_is_printed() {
        let secret = "0123456789abcdef";
        let printed = format!("{:?}", rotated(secret, secret));
        assert_eq!(printed, "Keys { previous: true, .. }");
    }

    proptest! {
        #[test]
        fn random_text_is_no_flow_token(text in proptest::collection::vec(any::<u8>(), 0..80)) {
            prop_assert_eq!(keys("secret").read_flow_token(&text), None);
        }

        #[test]
        fn hexadecimal_text_is_read_back(value: u64) {
            prop_assert_eq!(parse_hex(&hex(value)), Some(value));
        }
    }
}
