//! Why the health of a backend is what it is, in words for an operator.

use std::{fmt, io, time::Duration};

use super::HealthState;

/// What became of a backend, and why.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Change {
    /// State before.
    pub from: HealthState,
    /// State from now on.
    pub to: HealthState,
    /// Why.
    pub reason: Reason,
    /// Part of its weight that the backend has from now on, 0.1 to 1.0; see [`super::Health::ramp`].
    pub ramp: f64,
}

impl Change {
    /// A step of the slow start: the lookup table has to be built anew, but there is nothing to tell the operator.
    pub fn is_ramp_step(&self) -> bool {
        self.from == self.to
    }
}

/// Why the state changed. Its text is a sentence without a subject, which is the backend.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reason {
    /// Nothing is known yet.
    Start,
    /// As many probes as `fall` says failed in a row.
    Failures(Failures),
    /// The backend's host says that nobody listens there.
    PortUnreachable,
    /// It answered 503: it is alive and wants no new calls.
    Unavailable {
        /// Retry-After of the answer.
        retry_after: Option<Duration>,
    },
    /// It no longer answers 503.
    AvailableAgain {
        /// Status code of the answer.
        status: u16,
    },
    /// As many probes as `rise` says were answered in a row.
    Recovered {
        /// How many.
        answers: u32,
    },
    /// Slow start: it gets more of its weight. Never the reason of a state.
    SlowStart {
        /// Part of the weight.
        percent: u8,
    },
}

/// Failures in a row. Not all need be of the same kind.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Failures {
    /// How many.
    pub total: u32,
    /// The last one.
    pub last: Failure,
    /// How many of the same kind as the last one came directly before it, itself included.
    pub alike: u32,
}

/// One failed probe, or what counts as one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Failure {
    /// No answer in time.
    NoAnswer,
    /// An answer that says that the server does not work.
    Status(u16),
    /// The probe could not be sent, for this error of the system (`errno`).
    NotSent(i32),
    /// No probe, but requests to the backend remained without any message from it.
    Silence {
        /// Requests since its last message.
        unanswered: u64,
        /// Time since the first of them.
        silence: Duration,
    },
}

impl Reason {
    /// Which kind it is: a name for counters.
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Start => "start",
            Self::Failures(failures) => match failures.last {
                Failure::NoAnswer => "no_answer",
                Failure::Status(_) => "status",
                Failure::NotSent(_) => "not_sent",
                Failure::Silence { .. } => "silence",
            },
            Self::PortUnreachable => "port_unreachable",
            Self::Unavailable { .. } => "unavailable",
            Self::AvailableAgain { .. } => "available_again",
            Self::Recovered { .. } => "recovered",
            Self::SlowStart { .. } => "slow_start",
        }
    }
}

impl Failure {
    fn is_like(self, other: Self) -> bool {
        match (self, other) {
            (Self::Silence { .. }, Self::Silence { .. }) => true,
            _ => self == other,
        }
    }
}

impl Failures {
    /// `before` and one more.
    pub(super) fn and(before: Option<Self>, last: Failure) -> Self {
        let Some(before) = before else {
            return Self {
                total: 1,
                last,
                alike: 1,
            };
        };
        let alike = if last.is_like(before.last) {
            before.alike
        } else {
            0
        };
        Self {
            total: before.total.saturating_add(1),
            last,
            alike: alike.saturating_add(1),
        }
    }
}

impl fmt::Display for Change {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} -> {}: {}", self.from, self.to, self.reason)
    }
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Start => write!(f, "taken to be healthy until probes say otherwise"),
            Self::Failures(failures) => write!(f, "{failures}"),
            Self::PortUnreachable => write!(f, "ICMP port unreachable"),
            Self::Unavailable { retry_after: None } => write!(f, "answered 503"),
            Self::Unavailable {
                retry_after: Some(time),
            } => write!(f, "answered 503 (Retry-After {})", Time(*time)),
            Self::AvailableAgain { status } => write!(f, "answered {status} after 503"),
            Self::Recovered { answers } => write!(f, "answered {}", InARow(*answers)),
            Self::SlowStart { percent } => write!(f, "slow start, {percent} % of its weight"),
        }
    }
}

impl fmt::Display for Failures {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let probes = InARow(self.alike);
        match self.last {
            Failure::NoAnswer => write!(f, "no answer to {probes}"),
            Failure::Status(status) => write!(f, "answered {status} to {probes}"),
            Failure::NotSent(errno) => {
                let error = io::Error::from_raw_os_error(errno);
                write!(f, "{probes} could not be sent: {error}")
            }
            Failure::Silence {
                unanswered,
                silence,
            } => write!(
                f,
                "{unanswered} requests unanswered and silent for {}",
                Time(silence)
            ),
        }?;
        match self.total - self.alike {
            0 => Ok(()),
            1 => write!(f, ", after another failure"),
            others => write!(f, ", after {others} other failures"),
        }
    }
}

/// A number of probes.
struct InARow(u32);

impl fmt::Display for InARow {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            1 => write!(f, "1 probe"),
            probes => write!(f, "{probes} probes in a row"),
        }
    }
}

/// A time as people read it: `30 s`, `3.2 s`, `250 ms`.
pub(super) struct Time(pub Duration);

impl fmt::Display for Time {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self(time) = self;
        if time.subsec_nanos() == 0 {
            write!(f, "{} s", time.as_secs())
        } else if time.as_secs() > 0 {
            write!(f, "{:.1} s", time.as_secs_f64())
        } else if time.as_millis() >= 10 {
            write!(f, "{} ms", time.as_millis())
        } else {
            write!(f, "{:.2} ms", time.as_secs_f64() * 1_000.0)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn failures(kinds: &[Failure]) -> Reason {
        let run = kinds
            .iter()
            .fold(None, |run, failure| Some(Failures::and(run, *failure)));
        Reason::Failures(run.unwrap())
    }

    #[test]
    fn reasons_read_as_sentences() {
        let silence = |unanswered, ms| Failure::Silence {
            unanswered,
            silence: Duration::from_millis(ms),
        };
        // The system's own words.
        let errno = 101;
        let not_sent = Failure::NotSent(errno);
        let not_sent_text = format!(
            "3 probes in a row could not be sent: {}",
            io::Error::from_raw_os_error(errno)
        );
        for (reason, text) in [
            (
                Reason::Start,
                "taken to be healthy until probes say otherwise",
            ),
            (failures(&[Failure::NoAnswer]), "no answer to 1 probe"),
            (
                failures(&[Failure::NoAnswer; 3]),
                "no answer to 3 probes in a row",
            ),
            (
                failures(&[Failure::Status(500), Failure::Status(500)]),
                "answered 500 to 2 probes in a row",
            ),
            (
                failures(&[Failure::Status(500), Failure::Status(502)]),
                "answered 502 to 1 probe, after another failure",
            ),
            (failures(&[not_sent; 3]), &not_sent_text),
            (
                failures(&[silence(5, 1_100), silence(12, 3_200)]),
                "12 requests unanswered and silent for 3.2 s",
            ),
            (
                failures(&[Failure::NoAnswer, silence(5, 900), Failure::NoAnswer]),
                "no answer to 1 probe, after 2 other failures",
            ),
            (Reason::PortUnreachable, "ICMP port unreachable"),
            (Reason::Unavailable { retry_after: None }, "answered 503"),
            (
                Reason::Unavailable {
                    retry_after: Some(Duration::from_secs(30)),
                },
                "answered 503 (Retry-After 30 s)",
            ),
            (
                Reason::AvailableAgain { status: 404 },
                "answered 404 after 503",
            ),
            (
                Reason::Recovered { answers: 2 },
                "answered 2 probes in a row",
            ),
            (
                Reason::SlowStart { percent: 40 },
                "slow start, 40 % of its weight",
            ),
        ] {
            assert_eq!(reason.to_string(), text);
        }
    }

    #[test]
    fn times_have_the_digits_that_matter() {
        for (microseconds, text) in [
            (0, "0 s"),
            (420, "0.42 ms"),
            (9_990, "9.99 ms"),
            (250_000, "250 ms"),
            (3_240_000, "3.2 s"),
            (30_000_000, "30 s"),
        ] {
            assert_eq!(
                Time(Duration::from_micros(microseconds)).to_string(),
                text,
                "{microseconds}"
            );
        }
    }
}
