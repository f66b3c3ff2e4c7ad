//! What changed on this node and when: the newest events, in memory, for those who look at the node.
//!
//! [`Events::note`] logs as well, so that what is logged of a change and what `siplb events` shows are the same words.

use std::{
    collections::VecDeque,
    fmt,
    sync::{Mutex, MutexGuard, PoisonError},
    time::{SystemTime, UNIX_EPOCH},
};

use serde::{Deserialize, Serialize};

/// How many events are kept.
pub const KEPT: usize = 1000;
/// Longest subject and text, in bytes: a reload may say a lot. The log has all of it.
const LONGEST: usize = 1000;

/// What kind of change it was. The names are an interface: programs filter by them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    /// The node is ready.
    Start,
    /// The node stops, or leaves first.
    Stop,
    /// Probes or traffic say something else of a backend.
    BackendHealth,
    /// The operator wants something else of a backend.
    BackendOperator,
    /// All backends of a pool look dead, so all are used.
    PoolPanic,
    /// A pool has usable backends again.
    PoolRecovered,
    /// Another configuration is in force.
    Reload,
    /// A configuration was refused, and the one before goes on.
    ReloadRefused,
    /// The network is told that the node serves the VIPs.
    Announced,
    /// The network is told that it does not.
    Withdrawn,
    /// A worker gives no sign of life: its queue goes to the kernel.
    WorkerStalled,
    /// It does again.
    WorkerBack,
    /// A worker has ended by a bug.
    WorkerDied,
    /// A kind that this version does not know: command line and node need not be of one version.
    #[serde(other)]
    Unknown,
}

impl Kind {
    /// The name in output.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Start => "start",
            Self::Stop => "stop",
            Self::BackendHealth => "backend_health",
            Self::BackendOperator => "backend_operator",
            Self::PoolPanic => "pool_panic",
            Self::PoolRecovered => "pool_recovered",
            Self::Reload => "reload",
            Self::ReloadRefused => "reload_refused",
            Self::Announced => "announced",
            Self::Withdrawn => "withdrawn",
            Self::WorkerStalled => "worker_stalled",
            Self::WorkerBack => "worker_back",
            Self::WorkerDied => "worker_died",
            Self::Unknown => "unknown",
        }
    }

    /// What its subject is.
    const fn noun(self) -> &'static str {
        match self {
            Self::Start | Self::Stop | Self::Unknown => "node",
            Self::BackendHealth | Self::BackendOperator => "backend",
            Self::PoolPanic | Self::PoolRecovered => "pool",
            Self::Reload | Self::ReloadRefused => "configuration",
            Self::Announced | Self::Withdrawn => "VIP",
            Self::WorkerStalled | Self::WorkerBack | Self::WorkerDied => "worker",
        }
    }
}

/// How bad an event is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Severity {
    /// As it should be.
    #[default]
    Info,
    /// Somebody may want to know.
    Warn,
    /// Somebody has to look.
    Error,
}

impl Severity {
    const fn level(self) -> log::Level {
        match self {
            Self::Info => log::Level::Info,
            Self::Warn => log::Level::Warn,
            Self::Error => log::Level::Error,
        }
    }
}

/// Something that changed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Event {
    /// Grows from event to event, also over restarts as long as the clock does: microseconds since 1970, or one more than the
    /// event before.
    pub id: u64,
    /// When, in milliseconds since 1970.
    pub time_ms: u64,
    /// What kind of change.
    pub kind: Kind,
    /// How bad it is.
    #[serde(default)]
    pub severity: Severity,
    /// Of whom: the name of a backend or a pool, the number of a worker, the VIPs, the hash of a configuration.
    pub subject: String,
    /// What, and why.
    pub text: String,
}

/// The newest events, [`KEPT`] of them.
#[derive(Debug, Default)]
pub struct Events(Mutex<VecDeque<Event>>);

impl Events {
    /// Notes an event, and logs it.
    pub fn note(
        &self,
        kind: Kind,
        severity: Severity,
        subject: impl fmt::Display,
        text: impl fmt::Display,
    ) {
        log::log!(severity.level(), "{} {subject}: {text}", kind.noun());
        let now = SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .unwrap_or_default();
        let mut events = self.lock();
        let after = events.back().map_or(0, |event| event.id + 1);
        if events.len() == KEPT {
            events.pop_front();
        }
        events.push_back(Event {
            id: after.max(u64::try_from(now.as_micros()).unwrap_or(u64::MAX)),
            time_ms: u64::try_from(now.as_millis()).unwrap_or(u64::MAX),
            kind,
            severity,
            subject: cut(subject.to_string()),
            text: cut(text.to_string()),
        });
    }

    /// The newest `count` of the events behind the one with the number `after`, oldest first.
    pub fn newest(&self, after: u64, count: usize) -> Vec<Event> {
        let events = self.lock();
        let first = events.partition_point(|event| event.id <= after);
        let first = first.max(events.len().saturating_sub(count));
        events.iter().skip(first).cloned().collect()
    }

    fn lock(&self) -> MutexGuard<'_, VecDeque<Event>> {
        // What is in it is whole between any two statements.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Text of at most [`LONGEST`] bytes.
fn cut(mut text: String) -> String {
    const END: &str = " ...";
    if text.len() > LONGEST {
        text.truncate(text.floor_char_boundary(LONGEST - END.len()));
        text.push_str(END);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn noted(count: usize) -> Events {
        let events = Events::default();
        for number in 0..count {
            events.note(
                Kind::BackendHealth,
                Severity::Warn,
                format!("sw{number}"),
                "healthy -> unhealthy",
            );
        }
        events
    }

    fn subjects(events: &[Event]) -> Vec<&str> {
        events.iter().map(|event| event.subject.as_str()).collect()
    }

    #[test]
    fn the_newest_are_kept_and_numbers_grow() {
        let events = noted(KEPT + 5);
        let all = events.newest(0, usize::MAX);
        assert_eq!(all.len(), KEPT);
        assert_eq!(all[0].subject, "sw5");
        assert!(all.is_sorted_by(|a, b| a.id < b.id));
        assert_eq!(subjects(&events.newest(0, 2)), ["sw1003", "sw1004"]);
        let after = all[KEPT - 3].id;
        assert_eq!(subjects(&events.newest(after, 9)), ["sw1003", "sw1004"]);
        assert_eq!(subjects(&events.newest(after, 1)), ["sw1004"]);
        assert!(events.newest(all[KEPT - 1].id, 9).is_empty());
    }

    #[test]
    fn long_text_is_cut_between_characters() {
        let events = Events::default();
        let text = "\u{20ac}".repeat(LONGEST);
        events.note(Kind::Reload, Severity::Info, "x", &text);
        let cut = &events.newest(0, 1)[0].text;
        assert!(
            cut.len() <= LONGEST && cut.ends_with("\u{20ac} ..."),
            "{cut}"
        );
    }

    #[test]
    fn names_are_those_of_the_json_and_unknown_ones_can_be_read() {
        for kind in [
            Kind::Start,
            Kind::Stop,
            Kind::BackendHealth,
            Kind::BackendOperator,
            Kind::PoolPanic,
            Kind::PoolRecovered,
            Kind::Reload,
            Kind::ReloadRefused,
            Kind::Announced,
            Kind::Withdrawn,
            Kind::WorkerStalled,
            Kind::WorkerBack,
            Kind::WorkerDied,
        ] {
            assert_eq!(serde_json::to_value(kind).unwrap(), kind.name());
        }
        let kind: Kind = serde_json::from_str("\"of_tomorrow\"").unwrap();
        assert_eq!(kind, Kind::Unknown);
    }
}
