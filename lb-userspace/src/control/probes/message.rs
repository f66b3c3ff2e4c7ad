//! What probes look like: the OPTIONS that is sent and the answer that is taken for it. No I/O.

use std::{hash::Hasher, net::SocketAddr, time::Duration};

use siphasher::sip::SipHasher24;

use crate::{
    balance::BackendIndex,
    sip::{self, Lines, StartLine},
};

/// Makes what tells probes apart, so that nobody can guess it and answer in a backend's place.
pub(super) struct Ids {
    key: [u8; 16],
}

impl Ids {
    pub fn new(key: [u8; 16]) -> Self {
        Self { key }
    }

    /// Those of one probe. `sequence` never repeats.
    pub fn of(&self, index: BackendIndex, sequence: u64) -> ProbeIds {
        let id = |purpose: u8| {
            let mut hasher = SipHasher24::new_with_key(&self.key);
            hasher.write(&index.0.to_le_bytes());
            hasher.write(&sequence.to_le_bytes());
            hasher.write(&[purpose]);
            format!("{:016x}", hasher.finish())
        };
        ProbeIds {
            branch: format!("z9hG4bK{}", id(b'b')),
            from_tag: id(b'f'),
            call_id: id(b'c'),
        }
    }
}

/// What makes a probe a transaction of its own (RFC 3261 §8.1.1.3, §8.1.1.4, §8.1.1.7).
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct ProbeIds {
    /// With the magic cookie.
    pub branch: String,
    pub from_tag: String,
    pub call_id: String,
}

/// An OPTIONS outside a dialog (RFC 3261 §11.1) from `local` to `backend`.
///
/// Max-Forwards is 70: the backend may be a proxy before what it balances, and some servers refuse less than a few.
pub(super) fn options(backend: SocketAddr, local: SocketAddr, ids: &ProbeIds) -> String {
    // A scope is of no use to the other side, and no part of a URI.
    let backend = SocketAddr::new(backend.ip(), backend.port());
    let local = SocketAddr::new(local.ip(), local.port());
    let ProbeIds {
        branch,
        from_tag,
        call_id,
    } = ids;
    let version = env!("CARGO_PKG_VERSION");
    format!(
        "OPTIONS sip:{backend} SIP/2.0\r\n\
         Via: SIP/2.0/UDP {local};rport;branch={branch}\r\n\
         Max-Forwards: 70\r\n\
         From: <sip:siplb@{local}>;tag={from_tag}\r\n\
         To: <sip:{backend}>\r\n\
         Call-ID: {call_id}\r\n\
         CSeq: 1 OPTIONS\r\n\
         Contact: <sip:siplb@{local}>\r\n\
         Accept: application/sdp\r\n\
         User-Agent: siplb/{version}\r\n\
         Content-Length: 0\r\n\
         \r\n"
    )
}

/// A final response to a probe.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Answer {
    pub status: u16,
    pub retry_after: Option<Duration>,
}

/// Reads a datagram; `None` when it is anything but a final response to the probe with this branch.
///
/// A response is told by its top Via's branch alone (RFC 3261 §17.1.3; the method is OPTIONS, as nothing else has this
/// branch). What else is wrong with it is no matter here: a server that answers is alive.
pub(super) fn read_answer(datagram: &[u8], branch: &str) -> Option<Answer> {
    let message = sip::read(datagram).ok()?;
    let StartLine::Response { status } = message.start_line else {
        return None;
    };
    let ours = message.via?.branch?.of(datagram) == branch.as_bytes();
    (ours && status >= 200).then(|| Answer {
        status,
        retry_after: retry_after(datagram, message.headers),
    })
}

/// The number of seconds that Retry-After begins with (RFC 3261 §20.33); a comment or parameters may follow.
fn retry_after(datagram: &[u8], headers: usize) -> Option<Duration> {
    let field = Lines::new(datagram, headers).flatten().find(|field| {
        let line = field.line.of(datagram);
        let name = line.split(|byte| *byte == b':').next().unwrap_or_default();
        name.trim_ascii_end().eq_ignore_ascii_case(b"Retry-After")
    })?;
    let value = field.value.of(datagram);
    let digits = value
        .iter()
        .take_while(|byte| byte.is_ascii_digit())
        .count();
    sip::parse_number(&value[..digits], u32::MAX)
        .filter(|_| digits > 0)
        .map(|seconds| Duration::from_secs(u64::from(seconds)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sip::Method;

    fn ids() -> ProbeIds {
        Ids::new([7; 16]).of(BackendIndex(3), 4)
    }

    fn response(start: &str, branch: &str, more: &str) -> String {
        format!(
            "SIP/2.0 {start}\r\nVia: SIP/2.0/UDP 192.0.2.11:40000;branch={branch};rport=40000\r\n\
             From: <sip:siplb@192.0.2.11>;tag=1\r\nTo: <sip:10.0.0.11>;tag=2\r\nCall-ID: 3\r\n\
             CSeq: 1 OPTIONS\r\n{more}Content-Length: 0\r\n\r\n"
        )
    }

    #[test]
    fn a_probe_is_an_options_as_the_rfc_has_it() {
        for (backend, local, uri, sent_by) in [
            (
                "10.0.0.11:5060",
                "192.0.2.11:40000",
                "sip:10.0.0.11:5060",
                "192.0.2.11:40000",
            ),
            (
                "[2001:db8::1]:5080",
                "[2001:db8::2]:40000",
                "sip:[2001:db8::1]:5080",
                "[2001:db8::2]:40000",
            ),
            (
                "[fe80::1%3]:5060",
                "[fe80::2%3]:40000",
                "sip:[fe80::1]:5060",
                "[fe80::2]:40000",
            ),
        ] {
            let text = options(backend.parse().unwrap(), local.parse().unwrap(), &ids());
            let bytes = text.as_bytes();
            let message = sip::read(bytes).unwrap();
            assert_eq!(message.fault, None, "{text}");
            assert_eq!(message.method(), Some(Method::Options));
            assert!(text.starts_with(&format!("OPTIONS {uri} SIP/2.0\r\n")));
            let via = message.via.unwrap();
            assert_eq!(
                &bytes[via.host.start()..via.sent_by_end],
                sent_by.as_bytes()
            );
            assert_eq!(via.branch.unwrap().of(bytes), ids().branch.as_bytes());
            assert!(via.rport.is_some());
            assert_eq!(message.max_forwards.unwrap().value, 70);
            assert_eq!(
                message.from_tag().unwrap().of(bytes),
                ids().from_tag.as_bytes()
            );
            assert_eq!(message.to_tag(), None);
            assert_eq!(message.to_uri().unwrap().of(bytes), uri.as_bytes());
            assert_eq!(message.body.unwrap().len(), 0);
            let contact = message.contacts[0].unwrap().value.of(bytes);
            assert_eq!(contact, format!("<sip:siplb@{sent_by}>").as_bytes());
            for line in [
                "Accept: application/sdp",
                "User-Agent: siplb/",
                "CSeq: 1 OPTIONS",
            ] {
                assert!(text.contains(&format!("\r\n{line}")), "{line}");
            }
        }
    }

    #[test]
    fn no_two_probes_are_alike() {
        let here = Ids::new([7; 16]);
        let probe = here.of(BackendIndex(3), 4);
        for other in [
            here.of(BackendIndex(4), 4),
            here.of(BackendIndex(3), 5),
            Ids::new([8; 16]).of(BackendIndex(3), 4),
        ] {
            assert_ne!(probe.branch, other.branch);
            assert_ne!(probe.call_id, other.call_id);
            assert_ne!(probe.from_tag, other.from_tag);
        }
        assert_ne!(probe.branch[7..], probe.call_id);
        assert_ne!(
            probe.from_tag, probe.call_id,
            "a tag tells nothing about a branch"
        );
    }

    #[test]
    fn only_a_final_response_with_the_branch_is_an_answer() {
        let branch = ids().branch;
        let answer = |text: &str| read_answer(text.as_bytes(), &branch).map(|answer| answer.status);
        assert_eq!(answer(&response("200 OK", &branch, "")), Some(200));
        assert_eq!(answer(&response("404 Not Found", &branch, "")), Some(404));
        assert_eq!(answer(&response("100 Trying", &branch, "")), None);
        assert_eq!(answer(&response("200 OK", "z9hG4bKother", "")), None);
        let request = options(
            "10.0.0.11:5060".parse().unwrap(),
            "192.0.2.11:5060".parse().unwrap(),
            &ids(),
        );
        assert_eq!(answer(&request), None);
        for text in ["", "\r\n\r\n", "SIP/2.0 200 OK\r\n\r\n", "hello"] {
            assert_eq!(answer(text), None, "{text:?}");
        }
        // Too sloppy to forward, good enough as a sign of life.
        let sloppy = format!("SIP/2.0 200 OK\r\nVia: SIP/2.0/UDP a;branch={branch}\r\n");
        assert_eq!(answer(&sloppy), Some(200));
    }

    #[test]
    fn retry_after_is_read_with_whatever_follows_it() {
        let branch = ids().branch;
        for (more, want) in [
            ("", None),
            ("Retry-After: 30\r\n", Some(30)),
            ("retry-after :  120 (in a meeting)\r\n", Some(120)),
            ("Retry-After: 18000;duration=3600\r\n", Some(18_000)),
            ("Retry-After:\r\n 5\r\n", Some(5)),
            ("Retry-After: soon\r\n", None),
            ("Retry-After:\r\n", None),
            ("Retry-After: 99999999999\r\n", None),
            ("X-Retry-After: 30\r\n", None),
        ] {
            let text = response("503 Service Unavailable", &branch, more);
            let answer = read_answer(text.as_bytes(), &branch).unwrap();
            assert_eq!(answer.status, 503);
            assert_eq!(
                answer.retry_after,
                want.map(Duration::from_secs),
                "{more:?}"
            );
        }
    }
}
