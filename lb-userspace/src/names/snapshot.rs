//! Answers by question, and how long each may be used.

use std::{collections::HashMap, sync::Arc};

use super::{Answer, FAILED_TTL_S, Found, MAX_NAMES, OwnedQuestion, Question};

/// How long beyond its time to live an answer with targets may be used while it is being asked for again (RFC 8767):
/// calls go on while the name servers do not answer.
const STALE_NS: u64 = 600 * NS_PER_S;
const NS_PER_S: u64 = 1_000_000_000;

/// What [`Names::look_up`] says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Lookup<'a> {
    /// There is an answer.
    Known {
        /// The answer, to be used now.
        answer: &'a Answer,
        /// It is over; ask again.
        refresh: bool,
    },
    /// There is none (any more): ask.
    Unknown,
}

/// Answers, at most [`MAX_NAMES`]. Times are nanoseconds of one monotonic clock, which the caller reads.
#[derive(Clone, Debug, Default)]
pub struct Names {
    /// By [`OwnedQuestion`]. Shared with the snapshots before and after, so that a copy is cheap.
    entries: HashMap<Arc<[u8]>, Entry>,
}

#[derive(Clone, Debug)]
struct Entry {
    answer: Arc<Answer>,
    /// Then it should be asked for again.
    fresh_until_ns: u64,
    /// Then it may not be used any more.
    usable_until_ns: u64,
}

impl Names {
    /// The answer to a question, without waiting and without allocating.
    pub fn look_up(&self, question: &Question<'_>, now_ns: u64) -> Lookup<'_> {
        match OwnedQuestion::new(question) {
            Some(question) => self.look_up_owned(&question, now_ns),
            None => Lookup::Known {
                answer: &Answer::NotFound,
                refresh: false,
            },
        }
    }

    /// The same for a question that has been checked.
    pub fn look_up_owned(&self, question: &OwnedQuestion, now_ns: u64) -> Lookup<'_> {
        match self.entries.get(question.as_bytes()) {
            Some(entry) if now_ns < entry.usable_until_ns => Lookup::Known {
                answer: &entry.answer,
                refresh: now_ns >= entry.fresh_until_ns,
            },
            _ => Lookup::Unknown,
        }
    }

    /// How many answers there are.
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// True when there are none.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// Keeps what was found for a question at `now_ns`.
    ///
    /// A failure does not displace targets that may still be used; they are asked for again when the failure is over.
    /// When there is no room, the answer goes that is of use for the shortest time.
    pub fn put(&mut self, question: &OwnedQuestion, found: Found, now_ns: u64) {
        let fresh_until_ns = now_ns.saturating_add(u64::from(found.ttl_s) * NS_PER_S);
        let known = self.entries.get_mut(question.as_bytes());
        if let Some(entry) = known {
            if found.answer == Answer::Failed && entry.holds_targets(now_ns) {
                let again_ns = now_ns.saturating_add(u64::from(FAILED_TTL_S) * NS_PER_S);
                entry.fresh_until_ns = again_ns.max(entry.fresh_until_ns);
                return;
            }
        } else if self.entries.len() >= MAX_NAMES {
            self.make_room(now_ns);
        }
        let usable_until_ns = match found.answer {
            Answer::Targets(_) => fresh_until_ns.saturating_add(STALE_NS),
            Answer::NotFound | Answer::Failed => fresh_until_ns,
        };
        let entry = Entry {
            answer: Arc::new(found.answer),
            fresh_until_ns,
            usable_until_ns,
        };
        self.entries.insert(question.as_bytes().into(), entry);
    }

    /// Forgets what may not be used any more; true when there was something.
    pub fn sweep(&mut self, now_ns: u64) -> bool {
        let before = self.entries.len();
        self.entries
            .retain(|_, entry| now_ns < entry.usable_until_ns);
        self.entries.len() < before
    }

    fn make_room(&mut self, now_ns: u64) {
        if self.sweep(now_ns) {
            return;
        }
        let first = self
            .entries
            .iter()
            .min_by_key(|(_, entry)| entry.usable_until_ns);
        if let Some(key) = first.map(|(key, _)| key.clone()) {
            self.entries.remove(&key);
        }
    }
}

impl Entry {
    fn holds_targets(&self, now_ns: u64) -> bool {
        now_ns < self.usable_until_ns && matches!(*self.answer, Answer::Targets(_))
    }
}

#[cfg(test)]
mod tests {
    use std::net::SocketAddr;

    use super::*;
    use crate::names::{Target, Targets};

    const START: u64 = 77 * NS_PER_S;

    fn question(host: &str) -> Question<'_> {
        Question {
            host: host.as_bytes(),
            port: None,
            transport_given: false,
            ipv6: false,
        }
    }

    fn targets(number: u8) -> Answer {
        Answer::Targets(Targets::new([Target {
            address: SocketAddr::from(([192, 0, 2, number], 5060)),
            priority: 0,
            weight: 0,
        }]))
    }

    fn put(names: &mut Names, host: &str, answer: Answer, ttl_s: u32, now_s: u64) {
        let question = OwnedQuestion::new(&question(host)).unwrap();
        let now_ns = START + now_s * NS_PER_S;
        names.put(&question, Found::new(answer, ttl_s), now_ns);
    }

    /// The answer and whether to ask again, after so many tenths of a second.
    fn look_up(names: &Names, host: &str, after_tenths: u64) -> Option<(Answer, bool)> {
        match names.look_up(&question(host), START + after_tenths * NS_PER_S / 10) {
            Lookup::Known { answer, refresh } => Some((answer.clone(), refresh)),
            Lookup::Unknown => None,
        }
    }

    #[test]
    fn targets_are_fresh_then_stale_then_gone() {
        let mut names = Names::default();
        assert_eq!(look_up(&names, "a.example", 0), None);
        put(&mut names, "a.example", targets(1), 60, 0);
        for (tenths, expected) in [
            (0, Some((targets(1), false))),
            (599, Some((targets(1), false))),
            (600, Some((targets(1), true))),
            (6599, Some((targets(1), true))),
            (6600, None),
        ] {
            assert_eq!(look_up(&names, "A.example.", tenths), expected, "{tenths}");
        }
        assert_eq!(look_up(&names, "b.example", 0), None);
    }

    #[test]
    fn what_is_not_there_is_never_stale() {
        let mut names = Names::default();
        put(&mut names, "none.example", Answer::NotFound, 60, 0);
        put(&mut names, "failed.example", Answer::Failed, 60, 0);
        for (host, answer, ttl) in [
            ("none.example", Answer::NotFound, 600),
            ("failed.example", Answer::Failed, 20),
        ] {
            assert_eq!(look_up(&names, host, ttl - 1), Some((answer, false)));
            assert_eq!(look_up(&names, host, ttl), None);
        }
    }

    #[test]
    fn a_failure_leaves_targets_until_they_may_not_be_used() {
        let mut names = Names::default();
        put(&mut names, "a.example", targets(1), 60, 0);
        put(&mut names, "a.example", Answer::Failed, 2, 100);
        // Not asked for again at once, but soon.
        assert_eq!(
            look_up(&names, "a.example", 1019),
            Some((targets(1), false))
        );
        assert_eq!(look_up(&names, "a.example", 1020), Some((targets(1), true)));
        // Failures do not prolong their use.
        put(&mut names, "a.example", Answer::Failed, 2, 659);
        assert_eq!(
            look_up(&names, "a.example", 6599),
            Some((targets(1), false))
        );
        assert_eq!(look_up(&names, "a.example", 6600), None);
        put(&mut names, "a.example", Answer::Failed, 2, 660);
        assert_eq!(
            look_up(&names, "a.example", 6600),
            Some((Answer::Failed, false))
        );
    }

    #[test]
    fn a_failure_does_not_shorten_what_is_fresh() {
        let mut names = Names::default();
        put(&mut names, "a.example", targets(1), 60, 0);
        put(&mut names, "a.example", Answer::Failed, 2, 1);
        assert_eq!(look_up(&names, "a.example", 599), Some((targets(1), false)));
    }

    #[test]
    fn targets_that_are_gone_from_the_dns_are_gone_here() {
        let mut names = Names::default();
        put(&mut names, "a.example", targets(1), 60, 0);
        put(&mut names, "a.example", targets(2), 60, 61);
        assert_eq!(look_up(&names, "a.example", 610), Some((targets(2), false)));
        put(&mut names, "a.example", Answer::NotFound, 60, 62);
        assert_eq!(
            look_up(&names, "a.example", 620),
            Some((Answer::NotFound, false))
        );
    }

    #[test]
    fn what_cannot_be_a_name_is_not_found_without_asking() {
        let names = Names::default();
        for host in ["", "a..b", "a b"] {
            assert_eq!(look_up(&names, host, 0), Some((Answer::NotFound, false)));
        }
    }

    #[test]
    fn when_it_is_full_the_one_that_is_over_first_goes() {
        let mut names = Names::default();
        put(&mut names, "good.example", targets(1), 1, 0);
        put(&mut names, "first.example", Answer::NotFound, 100, 0);
        for number in 2..MAX_NAMES {
            put(
                &mut names,
                &format!("n{number}"),
                Answer::NotFound,
                200,
                number as u64 / 100,
            );
        }
        assert_eq!(names.len(), MAX_NAMES);
        put(&mut names, "new.example", Answer::NotFound, 300, 50);
        assert_eq!(names.len(), MAX_NAMES);
        assert_eq!(look_up(&names, "first.example", 500), None);
        assert!(look_up(&names, "new.example", 500).is_some());
        assert!(look_up(&names, "good.example", 500).is_some());
        // An answer that is replaced needs no room.
        put(&mut names, "new.example", Answer::NotFound, 300, 51);
        assert!(look_up(&names, "n2", 510).is_some());
    }

    #[test]
    fn a_sweep_takes_what_is_over() {
        let mut names = Names::default();
        put(&mut names, "a.example", targets(1), 60, 0);
        put(&mut names, "b.example", Answer::NotFound, 60, 0);
        assert!(!names.sweep(START + 59 * NS_PER_S));
        assert_eq!(names.len(), 2);
        assert!(names.sweep(START + 60 * NS_PER_S));
        assert_eq!(names.len(), 1);
        assert!(look_up(&names, "a.example", 600).is_some());
    }
}
