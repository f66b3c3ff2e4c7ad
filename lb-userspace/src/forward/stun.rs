//! STUN binding requests on the SIP port (RFC 8489), which phones send to keep a pinhole open and to learn whether
//! their mapping changed (RFC 5626 §3.5.2).

use std::net::{IpAddr, SocketAddr};

use super::Outcome;

const HEADER_LEN: usize = 20;
const MAGIC_COOKIE: [u8; 4] = [0x21, 0x12, 0xa4, 0x42];
const BINDING_REQUEST: u16 = 0x0001;
const BINDING_RESPONSE: u16 = 0x0101;
const BINDING_ERROR: u16 = 0x0111;
const ERROR_CODE: u16 = 0x0009;
const UNKNOWN_ATTRIBUTES: u16 = 0x000a;
const XOR_MAPPED_ADDRESS: u16 = 0x0020;
const FINGERPRINT: u16 = 0x8028;
const FINGERPRINT_XOR: u32 = 0x5354_554e;
/// Longest request that is looked at. A keepalive is 20 to 28 bytes; the fingerprint of more would cost time.
const MAX_LEN: usize = 548;
/// Most unknown attributes that are named in an answer.
const MAX_UNKNOWN: usize = 8;

/// True for what carries the magic cookie where STUN has it (RFC 8489 §5).
pub(super) fn is_stun(payload: &[u8]) -> bool {
    payload.len() >= HEADER_LEN && payload[0] < 4 && payload[4..8] == MAGIC_COOKIE
}

/// Answers a binding request: success, or 420 when it has an attribute that must be understood and is not (§6.3.1).
/// Credentials are not asked for and not checked. The answer has a fingerprint when the request has one.
pub(super) fn answer(payload: &[u8], source: SocketAddr, reply: &mut Vec<u8>) -> Outcome {
    let Some(request) = Request::parse(payload) else {
        return Outcome::StunMalformed;
    };
    if request.message_type != BINDING_REQUEST {
        return Outcome::StunNotRequest;
    }
    let outcome = if request.unknown_len == 0 {
        start(reply, BINDING_RESPONSE, payload);
        put_xor_mapped_address(reply, source, payload);
        Outcome::KeepaliveStun
    } else {
        start(reply, BINDING_ERROR, payload);
        put_error(reply, &request.unknown[..request.unknown_len]);
        Outcome::StunUnknownAttribute
    };
    if request.fingerprint {
        // The length that is summed counts the fingerprint itself (§14.7).
        set_length(reply, 8);
        let fingerprint = fingerprint(reply);
        put_attribute(reply, FINGERPRINT, &fingerprint.to_be_bytes());
    }
    set_length(reply, 0);
    outcome
}

/// What an answer depends on.
struct Request {
    message_type: u16,
    fingerprint: bool,
    unknown: [u16; MAX_UNKNOWN],
    unknown_len: usize,
}

impl Request {
    /// Reads a message and its attributes; `None` when lengths do not agree or a fingerprint is wrong.
    fn parse(payload: &[u8]) -> Option<Self> {
        let length = usize::from(word(payload, 2)?);
        if payload.len() > MAX_LEN || payload.len() != HEADER_LEN + length || length % 4 != 0 {
            return None;
        }
        let mut request = Self {
            message_type: word(payload, 0)?,
            fingerprint: false,
            unknown: [0; MAX_UNKNOWN],
            unknown_len: 0,
        };
        let mut position = HEADER_LEN;
        while position < payload.len() {
            let attribute = word(payload, position)?;
            let length = usize::from(word(payload, position + 2)?);
            let value = payload.get(position + 4..position + 4 + length)?;
            if attribute == FINGERPRINT {
                // The last attribute, and over all before it (§14.7).
                let wanted = fingerprint(&payload[..position]);
                if value != wanted.to_be_bytes() || position + 8 != payload.len() {
                    return None;
                }
                request.fingerprint = true;
            } else if !is_understood(attribute) && request.unknown_len < MAX_UNKNOWN {
                request.unknown[request.unknown_len] = attribute;
                request.unknown_len += 1;
            }
            position += 4 + length.next_multiple_of(4);
        }
        Some(request)
    }
}

/// Attributes from 0x8000 on may be ignored; of those below, the ones of RFC 8489 itself are known.
fn is_understood(attribute: u16) -> bool {
    matches!(
        attribute,
        0x0001 | 0x0006 | 0x0008..=0x000a | 0x0014 | 0x0015 | 0x001c..=0x001e | 0x0020 | 0x8000..
    )
}

fn word(payload: &[u8], offset: usize) -> Option<u16> {
    let bytes = payload.get(offset..)?.first_chunk::<2>()?;
    Some(u16::from_be_bytes(*bytes))
}

/// Header with the request's cookie and transaction id.
fn start(reply: &mut Vec<u8>, message_type: u16, payload: &[u8]) {
    reply.extend_from_slice(&message_type.to_be_bytes());
    reply.extend_from_slice(&[0, 0]);
    reply.extend_from_slice(&payload[4..HEADER_LEN]);
}

/// Sets the length to what is there and `more` bytes.
fn set_length(reply: &mut [u8], more: usize) {
    let length = (reply.len() - HEADER_LEN + more) as u16;
    reply[2..4].copy_from_slice(&length.to_be_bytes());
}

fn put_attribute(reply: &mut Vec<u8>, attribute: u16, value: &[u8]) {
    reply.extend_from_slice(&attribute.to_be_bytes());
    reply.extend_from_slice(&(value.len() as u16).to_be_bytes());
    reply.extend_from_slice(value);
    reply.resize(reply.len().next_multiple_of(4), 0);
}

/// The source of the request, XORed with cookie and transaction id (§14.2).
fn put_xor_mapped_address(reply: &mut Vec<u8>, source: SocketAddr, payload: &[u8]) {
    let mut value = [0u8; 20];
    let len = match source.ip() {
        IpAddr::V4(address) => {
            value[1] = 1;
            value[4..8].copy_from_slice(&address.octets());
            8
        }
        IpAddr::V6(address) => {
            value[1] = 2;
            value[4..20].copy_from_slice(&address.octets());
            20
        }
    };
    value[2..4].copy_from_slice(&source.port().to_be_bytes());
    // The port with the first half of the cookie, the address with cookie and transaction id.
    let mask = &payload[4..HEADER_LEN];
    for (byte, mask) in value[2..4].iter_mut().zip(mask) {
        *byte ^= mask;
    }
    for (byte, mask) in value[4..].iter_mut().zip(mask) {
        *byte ^= mask;
    }
    put_attribute(reply, XOR_MAPPED_ADDRESS, &value[..len]);
}

/// 420 with the attributes that are not understood (§14.8, §14.9).
fn put_error(reply: &mut Vec<u8>, unknown: &[u16]) {
    put_attribute(reply, ERROR_CODE, b"\0\0\x04\x14Unknown Attribute");
    let mut list = [0u8; 2 * MAX_UNKNOWN];
    for (to, attribute) in list.as_chunks_mut::<2>().0.iter_mut().zip(unknown) {
        *to = attribute.to_be_bytes();
    }
    put_attribute(reply, UNKNOWN_ATTRIBUTES, &list[..2 * unknown.len()]);
}

/// CRC-32 of everything before the attribute, XORed (§14.7).
fn fingerprint(bytes: &[u8]) -> u32 {
    let mut crc = u32::MAX;
    for byte in bytes {
        crc = (crc >> 8) ^ CRC_TABLE[usize::from(crc as u8 ^ byte)];
    }
    !crc ^ FINGERPRINT_XOR
}

/// CRC-32 of ITU-T V.42, reflected.
const CRC_TABLE: [u32; 256] = {
    let mut table = [0; 256];
    let mut index = 0;
    while index < 256 {
        let mut crc = index as u32;
        let mut bit = 0;
        while bit < 8 {
            crc = (crc >> 1) ^ ((crc & 1) * 0xedb8_8320);
            bit += 1;
        }
        table[index] = crc;
        index += 1;
    }
    table
};

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const SOURCE: &str = "192.0.2.1:32853";

    /// A message with these attributes.
    fn message(message_type: u16, attributes: &[(u16, &[u8])]) -> Vec<u8> {
        let mut bytes = message_type.to_be_bytes().to_vec();
        bytes.extend([0, 0]);
        bytes.extend(MAGIC_COOKIE);
        bytes.extend([
            0xb7, 0xe7, 0xa7, 0x01, 0xbc, 0x34, 0xd6, 0x86, 0xfa, 0x87, 0xdf, 0xae,
        ]);
        for (attribute, value) in attributes {
            put_attribute(&mut bytes, *attribute, value);
        }
        set_length(&mut bytes, 0);
        bytes
    }

    fn with_fingerprint(mut bytes: Vec<u8>) -> Vec<u8> {
        set_length(&mut bytes, 8);
        let value = fingerprint(&bytes);
        put_attribute(&mut bytes, FINGERPRINT, &value.to_be_bytes());
        bytes
    }

    fn check(payload: &[u8], source: &str, want: Outcome, want_reply: &[u8]) {
        let mut reply = Vec::new();
        assert!(is_stun(payload));
        let got = answer(payload, source.parse().unwrap(), &mut reply);
        assert_eq!((got, &reply[..]), (want, want_reply), "{payload:02x?}");
    }

    #[test]
    fn the_check_value_of_crc_32() {
        assert_eq!(fingerprint(b"123456789") ^ FINGERPRINT_XOR, 0xcbf4_3926);
    }

    #[test]
    fn binding_requests_are_answered_with_their_source() {
        // Values of RFC 5769 §2.2 and §2.3: same transaction id, same addresses.
        let ipv4: &[u8] = &[0x00, 0x01, 0xa1, 0x47, 0xe1, 0x12, 0xa6, 0x43];
        let ipv6: &[u8] = &[
            0x00, 0x02, 0xa1, 0x47, 0x01, 0x13, 0xa9, 0xfa, 0xa5, 0xd3, 0xf1, 0x79, 0xbc, 0x25,
            0xf4, 0xb5, 0xbe, 0xd2, 0xb9, 0xd9,
        ];
        let request = message(BINDING_REQUEST, &[]);
        for (source, value) in [
            (SOURCE, ipv4),
            ("[2001:db8:1234:5678:11:2233:4455:6677]:32853", ipv6),
        ] {
            let response = message(BINDING_RESPONSE, &[(XOR_MAPPED_ADDRESS, value)]);
            check(&request, source, Outcome::KeepaliveStun, &response);
            check(
                &with_fingerprint(request.clone()),
                source,
                Outcome::KeepaliveStun,
                &with_fingerprint(response),
            );
        }
    }

    #[test]
    fn unknown_attributes_are_refused_only_when_they_must_be_understood() {
        let software = message(BINDING_REQUEST, &[(0x8022, b"abc"), (0x0006, b"user")]);
        let mut reply = Vec::new();
        assert_eq!(
            answer(&software, SOURCE.parse().unwrap(), &mut reply),
            Outcome::KeepaliveStun
        );
        let change = message(
            BINDING_REQUEST,
            &[(0x0003, &[0; 4]), (0x8022, b"abc"), (0x0024, b"")],
        );
        let error = message(
            BINDING_ERROR,
            &[
                (ERROR_CODE, b"\0\0\x04\x14Unknown Attribute"),
                (UNKNOWN_ATTRIBUTES, &[0x00, 0x03, 0x00, 0x24]),
            ],
        );
        check(&change, SOURCE, Outcome::StunUnknownAttribute, &error);
    }

    #[test]
    fn what_is_no_good_request_is_not_answered() {
        check(
            &message(BINDING_RESPONSE, &[]),
            SOURCE,
            Outcome::StunNotRequest,
            b"",
        );
        check(&message(0x0011, &[]), SOURCE, Outcome::StunNotRequest, b"");
        let mut wrong = with_fingerprint(message(BINDING_REQUEST, &[]));
        *wrong.last_mut().unwrap() ^= 1;
        check(&wrong, SOURCE, Outcome::StunMalformed, b"");
        let good = message(BINDING_REQUEST, &[(0x8022, b"abcdefgh")]);
        for length in HEADER_LEN..good.len() {
            check(&good[..length], SOURCE, Outcome::StunMalformed, b"");
        }
        let mut overrun = good.clone();
        overrun[HEADER_LEN + 3] = 9;
        check(&overrun, SOURCE, Outcome::StunMalformed, b"");
        check(
            &message(BINDING_REQUEST, &[(0x8022, &[0; 600])]),
            SOURCE,
            Outcome::StunMalformed,
            b"",
        );
    }

    proptest! {
        #[test]
        fn any_attributes_are_survived(tail in proptest::collection::vec(any::<u8>(), 0..100)) {
            let mut bytes = message(BINDING_REQUEST, &[]);
            bytes.extend(tail);
            set_length(&mut bytes, 0);
            let mut reply = Vec::new();
            answer(&bytes, SOURCE.parse().unwrap(), &mut reply);
            prop_assert!(reply.len() <= bytes.len() + super::super::REPLY_GROWTH);
        }
    }
}
