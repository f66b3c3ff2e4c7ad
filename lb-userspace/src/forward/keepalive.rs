//! Datagrams that only keep a NAT pinhole open.

use std::net::SocketAddr;

use super::{Outcome, stun};

/// What a datagram that is no SIP message by its first bytes is; `None` for everything else. When the outcome is a
/// reply, it is in `reply`.
pub(super) fn answer(payload: &[u8], source: SocketAddr, reply: &mut Vec<u8>) -> Option<Outcome> {
    match payload.first() {
        None => Some(Outcome::Empty),
        Some(b'\r' | b'\n') => {
            if payload == b"\r\n\r\n" {
                reply.extend_from_slice(b"\r\n");
                return Some(Outcome::KeepaliveCrlf);
            }
            // Otherwise a message with empty lines in front (RFC 3261 §7.5).
            payload
                .iter()
                .all(|byte| matches!(byte, b'\r' | b'\n'))
                .then_some(Outcome::LineEnds)
        }
        Some(0) if payload.iter().all(|byte| *byte == 0) => Some(Outcome::Nuls),
        Some(0..=3) if stun::is_stun(payload) => Some(stun::answer(payload, source, reply)),
        Some(_) => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keepalives() {
        for (payload, want, want_reply) in [
            (&b""[..], Some(Outcome::Empty), &b""[..]),
            (b"\r\n\r\n", Some(Outcome::KeepaliveCrlf), b"\r\n"),
            (b"\r\n", Some(Outcome::LineEnds), b""),
            (b"\n", Some(Outcome::LineEnds), b""),
            (b"\r\n\r\n\r\n", Some(Outcome::LineEnds), b""),
            (b"\0", Some(Outcome::Nuls), b""),
            (b"\0\0\0\0", Some(Outcome::Nuls), b""),
            (b"\0\0\0\x01", None, b""),
            (b"\x01", None, b""),
            (b"\r\nINVITE", None, b""),
            (b"jaK", None, b""),
        ] {
            let mut reply = Vec::new();
            let got = answer(payload, "192.0.2.1:5060".parse().unwrap(), &mut reply);
            assert_eq!((got, &reply[..]), (want, want_reply), "{payload:?}");
        }
    }
}
