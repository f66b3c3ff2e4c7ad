//! Where the host of a SIP URI is: what the DNS says about it (RFC 3263 as far as UDP goes).
//!
//! [`Names`] is a snapshot of answers for the workers, [`find`] the procedure that makes an answer out of record sets,
//! [`Targets`] the order in which a request tries the servers that it got. Nothing here opens a socket, reads a clock
//! or draws a random number; `control::resolver` asks the name servers and publishes snapshots.

mod procedure;
mod snapshot;
mod targets;

use std::borrow::Borrow;

pub use procedure::{Dns, Naptr, Reply, Srv, find};
pub use snapshot::{Lookup, Names};
pub use targets::{Target, Targets};

/// Longest name in bytes, without the dot at its end (RFC 1035 §2.3.4 counts a length octet and the root as well).
pub const MAX_NAME_LEN: usize = 253;
/// Longest label of a name in bytes (RFC 1035 §2.3.4).
const MAX_LABEL_LEN: usize = 63;
/// Names that a snapshot holds.
pub const MAX_NAMES: usize = 4096;

/// Longest time to live of an answer with targets, in seconds.
const MAX_TTL_S: u32 = 24 * 60 * 60;
/// Longest time to live of "there is no such name": somebody may be waiting for the record that was forgotten.
const MAX_NEGATIVE_TTL_S: u32 = 5 * 60;
/// What "there is no such name" lives when the name server does not say (no SOA in its answer, RFC 2308 §5).
const DEFAULT_NEGATIVE_TTL_S: u32 = 30;
/// How long a failure counts: not every call asks a dead name server, and recovery takes no longer than this.
const FAILED_TTL_S: u32 = 2;

/// What a URI asks the DNS for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Question<'a> {
    /// A host name in any case, maybe with a dot at its end. Numeric addresses are no question.
    pub host: &'a [u8],
    /// The URI's port.
    pub port: Option<u16>,
    /// The URI has a `transport` parameter, which is `udp` then.
    pub transport_given: bool,
    /// The request leaves by IPv6, so that only AAAA records help; otherwise only A records do.
    pub ipv6: bool,
}

/// A [`Question`] of its own, in one spelling: lower case, without the dot, and without what makes no difference to
/// the answer. It lives on the stack.
#[derive(Clone, Copy)]
pub struct OwnedQuestion {
    /// Port (0: none), flags, host. Zeros after `len`.
    bytes: [u8; HOST_AT + MAX_NAME_LEN],
    len: u16,
}

const HOST_AT: usize = 3;
const TRANSPORT_GIVEN: u8 = 1;
const IPV6: u8 = 2;

impl OwnedQuestion {
    /// `None` when no name server needs to be asked, since there cannot be an answer: a host that is too long, has an
    /// empty or too long label or characters that no host name has, or port 0.
    pub fn new(question: &Question<'_>) -> Option<Self> {
        let host = question.host.strip_suffix(b".").unwrap_or(question.host);
        if host.len() > MAX_NAME_LEN || !host.split(|&byte| byte == b'.').all(is_label) {
            return None;
        }
        let mut flags = 0;
        if question.ipv6 {
            flags |= IPV6;
        }
        // With a port neither NAPTR nor SRV records are asked for (RFC 3263 §4.2), so the transport is of no interest.
        if question.transport_given && question.port.is_none() {
            flags |= TRANSPORT_GIVEN;
        }
        let port = match question.port {
            Some(0) => return None,
            port => port.unwrap_or(0),
        };
        let len = HOST_AT + host.len();
        let mut bytes = [0; HOST_AT + MAX_NAME_LEN];
        bytes[..2].copy_from_slice(&port.to_be_bytes());
        bytes[2] = flags;
        bytes[HOST_AT..len].copy_from_slice(host);
        bytes[HOST_AT..len].make_ascii_lowercase();
        Some(Self {
            bytes,
            len: len as u16,
        })
    }

    /// The host: lower case, without a dot at its end.
    pub fn host(&self) -> &str {
        // Never otherwise: `new` lets only ASCII pass.
        std::str::from_utf8(&self.as_bytes()[HOST_AT..]).unwrap_or_default()
    }

    /// The URI's port.
    pub fn port(&self) -> Option<u16> {
        match u16::from_be_bytes([self.bytes[0], self.bytes[1]]) {
            0 => None,
            port => Some(port),
        }
    }

    /// The URI has a `transport` parameter and no port.
    pub fn transport_given(&self) -> bool {
        self.bytes[2] & TRANSPORT_GIVEN != 0
    }

    /// AAAA records instead of A records.
    pub fn ipv6(&self) -> bool {
        self.bytes[2] & IPV6 != 0
    }

    /// What makes a question different from others.
    fn as_bytes(&self) -> &[u8] {
        &self.bytes[..usize::from(self.len)]
    }
}

fn is_label(label: &[u8]) -> bool {
    // Underscores are no part of host names (RFC 1123 §2.1), but name servers have them and Windows makes them.
    let is_character = |byte: &u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_');
    (1..=MAX_LABEL_LEN).contains(&label.len()) && label.iter().all(is_character)
}

impl Borrow<[u8]> for OwnedQuestion {
    fn borrow(&self) -> &[u8] {
        self.as_bytes()
    }
}

impl PartialEq for OwnedQuestion {
    fn eq(&self, other: &Self) -> bool {
        self.as_bytes() == other.as_bytes()
    }
}

impl Eq for OwnedQuestion {}

impl std::hash::Hash for OwnedQuestion {
    fn hash<H: std::hash::Hasher>(&self, state: &mut H) {
        self.as_bytes().hash(state);
    }
}

/// The host, and the port if there is one: as a person would write it.
impl std::fmt::Display for OwnedQuestion {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.host())?;
        match self.port() {
            Some(port) => write!(f, ":{port}"),
            None => Ok(()),
        }
    }
}

impl std::fmt::Debug for OwnedQuestion {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("OwnedQuestion")
            .field("host", &self.host())
            .field("port", &self.port())
            .field("transport_given", &self.transport_given())
            .field("ipv6", &self.ipv6())
            .finish()
    }
}

/// What came out of a question.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Answer {
    /// Where to send the request; at least one.
    Targets(Targets),
    /// The DNS says that there is no such name, no record that helps, or no such service.
    NotFound,
    /// No name server answered, or none could.
    Failed,
}

/// An answer and how long it is good.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Found {
    /// The answer.
    pub answer: Answer,
    /// Seconds until it should be asked for again.
    pub ttl_s: u32,
}

impl Found {
    /// `ttl_s` is the least time to live of what the answer rests on; it is held between the bounds for such an answer.
    pub fn new(answer: Answer, ttl_s: u32) -> Self {
        let ttl_s = match answer {
            Answer::Targets(_) => ttl_s.clamp(1, MAX_TTL_S),
            Answer::NotFound => ttl_s.clamp(1, MAX_NEGATIVE_TTL_S),
            Answer::Failed => FAILED_TTL_S,
        };
        Self { answer, ttl_s }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn question(host: &[u8]) -> Question<'_> {
        Question {
            host,
            port: None,
            transport_given: false,
            ipv6: false,
        }
    }

    #[test]
    fn spelling_and_what_makes_no_difference_do_not_make_another_question() {
        let plain = OwnedQuestion::new(&question(b"example.com")).unwrap();
        assert_eq!(plain.host(), "example.com");
        assert_eq!(plain.port(), None);
        assert_eq!(
            OwnedQuestion::new(&question(b"eXample.COM.")).unwrap(),
            plain
        );
        let with_port = |transport_given| {
            OwnedQuestion::new(&Question {
                port: Some(5080),
                transport_given,
                ..question(b"example.com")
            })
            .unwrap()
        };
        assert_eq!(with_port(true), with_port(false));
        assert_eq!(with_port(true).to_string(), "example.com:5080");
    }

    #[test]
    fn host_port_transport_and_family_make_another_question() {
        let plain = question(b"example.com");
        let all = [
            plain,
            question(b"example.org"),
            Question {
                port: Some(5060),
                ..plain
            },
            Question {
                transport_given: true,
                ..plain
            },
            Question {
                ipv6: true,
                ..plain
            },
        ];
        for (a, one) in all.iter().enumerate() {
            let owned = OwnedQuestion::new(one).unwrap();
            assert_eq!(owned.host().as_bytes(), one.host);
            assert_eq!(
                (owned.port(), owned.transport_given(), owned.ipv6()),
                (one.port, one.transport_given, one.ipv6)
            );
            for other in &all[a + 1..] {
                assert_ne!(owned, OwnedQuestion::new(other).unwrap());
            }
        }
    }

    #[test]
    fn what_cannot_be_a_host_name_is_no_question() {
        let label = |len| "a".repeat(len);
        let longest = [label(63), label(63), label(63), label(61)].join(".");
        assert_eq!(longest.len(), MAX_NAME_LEN);
        for (host, is_question) in [
            ("a", true),
            ("a.", true),
            ("_sip-1.x-y.example", true),
            (&longest, true),
            (&format!("{longest}."), true),
            (&format!("{longest}a"), false),
            (&format!("{longest}.a"), false),
            (&label(63), true),
            (&label(64), false),
            ("", false),
            (".", false),
            (".a", false),
            ("a..b", false),
            ("a..", false),
            ("a b", false),
            ("a\\b", false),
            ("a@b", false),
            ("a\0b", false),
            ("[::1]", false),
            ("ä", false),
        ] {
            assert_eq!(
                OwnedQuestion::new(&question(host.as_bytes())).is_some(),
                is_question,
                "{host:?}"
            );
        }
        let port_zero = Question {
            port: Some(0),
            ..question(b"a")
        };
        assert!(OwnedQuestion::new(&port_zero).is_none());
    }

    #[test]
    fn times_to_live_are_held_within_their_bounds() {
        let targets = || Answer::Targets(Targets::new([]));
        for (answer, ttl_s, held) in [
            (targets(), 0, 1),
            (targets(), 60, 60),
            (targets(), u32::MAX, 86_400),
            (Answer::NotFound, 0, 1),
            (Answer::NotFound, u32::MAX, 300),
            (Answer::Failed, 0, 2),
            (Answer::Failed, u32::MAX, 2),
        ] {
            assert_eq!(Found::new(answer.clone(), ttl_s).ttl_s, held, "{answer:?}");
        }
    }
}
