//! Datagrams that wait for the name servers. Few: who sends them calls a name that nobody has called lately.

use std::net::SocketAddr;

use crate::forward::{Datagram, ListenerIndex};

/// Most that wait.
const MAX_WAITING: usize = 64;
/// How long they do. A sender repeats what it sent by then, and gets an answer when the name servers have given up.
const PATIENCE_NS: u64 = 5_000_000_000;

/// Datagrams in the order in which they came.
#[derive(Default)]
pub(super) struct Waiting {
    held: Vec<Held>,
}

struct Held {
    payload: Box<[u8]>,
    source: SocketAddr,
    listener: ListenerIndex,
    until_ns: u64,
}

impl Held {
    fn datagram(&self) -> Datagram<'_> {
        Datagram {
            payload: &self.payload,
            source: self.source,
            listener: self.listener,
        }
    }
}

impl Waiting {
    pub fn is_empty(&self) -> bool {
        self.held.is_empty()
    }

    /// Keeps a copy of a datagram; false when it is given up: for it is a retransmission of one that waits, or too many do.
    pub fn keep(&mut self, datagram: &Datagram<'_>, now_ns: u64) -> bool {
        let is_copy = |held: &Held| {
            held.source == datagram.source
                && held.listener == datagram.listener
                && *held.payload == *datagram.payload
        };
        if self.held.len() >= MAX_WAITING || self.held.iter().any(is_copy) {
            return false;
        }
        self.held.push(Held {
            payload: datagram.payload.into(),
            source: datagram.source,
            listener: datagram.listener,
            until_ns: now_ns.saturating_add(PATIENCE_NS),
        });
        true
    }

    /// True when one of them has waited for too long.
    pub fn is_due(&self, now_ns: u64) -> bool {
        // They come in the order of their times.
        self.held
            .first()
            .is_some_and(|first| first.until_ns <= now_ns)
    }

    /// Shows each one to `decide`, which says whether it has to wait on, and returns how many have waited for too long.
    pub fn retry(&mut self, now_ns: u64, mut decide: impl FnMut(&Datagram<'_>) -> bool) -> u64 {
        let mut given_up = 0;
        self.held.retain(|held| {
            let waits = decide(&held.datagram());
            let is_late = held.until_ns <= now_ns;
            given_up += u64::from(waits && is_late);
            waits && !is_late
        });
        given_up
    }

    /// Gives up all of them, and returns how many those are.
    pub fn give_up(&mut self) -> u64 {
        let count = self.held.len() as u64;
        self.held.clear();
        count
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn datagram(payload: &[u8]) -> Datagram<'_> {
        Datagram {
            payload,
            source: "10.0.0.11:5060".parse().unwrap(),
            listener: ListenerIndex(0),
        }
    }

    #[test]
    fn a_copy_does_not_wait_and_neither_does_one_too_many() {
        let mut waiting = Waiting::default();
        assert!(waiting.keep(&datagram(b"a"), 0));
        assert!(!waiting.keep(&datagram(b"a"), 1), "a retransmission");
        let other = Datagram {
            source: "10.0.0.12:5060".parse().unwrap(),
            ..datagram(b"a")
        };
        assert!(waiting.keep(&other, 1));
        let texts = (2..MAX_WAITING).map(|number| number.to_string());
        for text in texts {
            assert!(waiting.keep(&datagram(text.as_bytes()), 2));
        }
        assert!(!waiting.keep(&datagram(b"one too many"), 3));
        assert_eq!(waiting.give_up(), MAX_WAITING as u64);
        assert!(waiting.is_empty());
    }

    #[test]
    fn they_wait_until_it_is_decided_or_too_late() {
        let mut waiting = Waiting::default();
        waiting.keep(&datagram(b"a"), 0);
        waiting.keep(&datagram(b"b"), 1);
        assert!(!waiting.is_due(PATIENCE_NS - 1));
        let mut seen = Vec::new();
        let given_up = waiting.retry(1, |datagram| {
            seen.push(datagram.payload.to_vec());
            datagram.payload == b"a"
        });
        assert_eq!((given_up, seen), (0, vec![b"a".to_vec(), b"b".to_vec()]));
        assert!(waiting.is_due(PATIENCE_NS));
        assert_eq!(waiting.retry(PATIENCE_NS, |_| true), 1);
        assert!(waiting.is_empty());
    }
}
