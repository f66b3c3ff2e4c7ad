//! Health of one backend: a state machine that is told what became of probes and of traffic, and when.
//!
//! ```text
//!               503                  `fall` failures, or ICMP
//!   healthy <----------> draining --------------------------> unhealthy
//!      ^   another answer    ^                                    |
//!      |                     +-------- `rise` answers, last 503 --+
//!      +------- `rise` answers, last another: slow start ---------+
//! ```
//!
//! Owned here: which state a backend is in, how much of its weight it gets, and the words for why. Left to others:
//! sending probes, counting traffic, what a state means for a call. Time is nanoseconds of any clock that never goes
//! back.

mod latency;
mod reason;

pub use latency::Latency;
pub use reason::{Change, Failure, Failures, Reason};

use std::{fmt, io, time::Duration};

use self::{latency::Latencies, reason::Time};
use crate::config::HealthConfig;

/// Requests that a silent backend must have left unanswered before that counts against it. A handful, so that one
/// caller's broken request is not enough.
pub const UNANSWERED_REQUESTS: u64 = 5;
/// Longest Retry-After that is honoured. More is taken to be a mistake, for which nobody should wait.
pub const MAX_RETRY_AFTER: Duration = Duration::from_secs(60 * 60);
/// Steps of the slow start: the first gives a tenth of the weight, the last all of it.
const RAMP_STEPS: u8 = 10;

/// Whether a backend takes calls, as far as its health goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum HealthState {
    /// Takes calls.
    Healthy,
    /// Serves the calls that it has and takes no new ones.
    Draining,
    /// Takes nothing.
    Unhealthy,
}

impl HealthState {
    /// The name in output and labels.
    pub fn name(self) -> &'static str {
        match self {
            Self::Healthy => "healthy",
            Self::Draining => "draining",
            Self::Unhealthy => "unhealthy",
        }
    }
}

impl fmt::Display for HealthState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// What became of a probe.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ProbeResult {
    /// A final response came.
    Answered {
        /// Its status code, 200 to 699.
        status: u16,
        /// Time from the probe to it.
        latency: Duration,
        /// Its Retry-After (RFC 3261 §20.33).
        retry_after: Option<Duration>,
    },
    /// None came in time.
    TimedOut,
    /// ICMP port unreachable came instead.
    Unreachable,
    /// The probe never left, for this error of the system (`errno`).
    NotSent(i32),
}

impl fmt::Display for ProbeResult {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Answered {
                status, latency, ..
            } => write!(f, "{status} after {}", Time(*latency)),
            Self::TimedOut => write!(f, "no answer"),
            Self::Unreachable => write!(f, "ICMP port unreachable"),
            Self::NotSent(errno) => {
                write!(f, "not sent: {}", io::Error::from_raw_os_error(*errno))
            }
        }
    }
}

/// Health of one backend.
#[derive(Clone, Debug)]
pub struct Health {
    config: HealthConfig,
    state: HealthState,
    since_ns: u64,
    reason: Reason,
    /// Since the last answer that is not a failure.
    failures: Option<Failures>,
    /// Answers since the last failure.
    answers: u32,
    /// Until when the last Retry-After keeps it draining.
    drain_until_ns: u64,
    ramp: Ramp,
    traffic: Traffic,
    probes: u64,
    probes_failed: u64,
    last_result: Option<ProbeResult>,
    last_status: Option<u16>,
    latencies: Latencies,
}

/// Slow start.
#[derive(Clone, Copy, Debug)]
struct Ramp {
    /// 1 to [`RAMP_STEPS`]; the last one whenever no slow start is under way.
    step: u8,
    since_ns: u64,
    /// The backend was unhealthy and has not had all of its weight since.
    owed: bool,
}

/// What the traffic says.
#[derive(Clone, Copy, Debug)]
struct Traffic {
    /// Requests since the last message of any kind.
    unanswered: u64,
    /// When the first of them was reported.
    since_ns: u64,
    /// Silence counts once an interval.
    not_before_ns: u64,
}

impl Health {
    /// Starts healthy, so that no call is lost while nothing is known; the first probes decide.
    pub fn new(config: HealthConfig, now_ns: u64) -> Self {
        Self {
            config,
            state: HealthState::Healthy,
            since_ns: now_ns,
            reason: Reason::Start,
            failures: None,
            answers: 0,
            drain_until_ns: 0,
            ramp: Ramp {
                step: RAMP_STEPS,
                since_ns: now_ns,
                owed: false,
            },
            traffic: Traffic {
                unanswered: 0,
                since_ns: now_ns,
                not_before_ns: 0,
            },
            probes: 0,
            probes_failed: 0,
            last_result: None,
            last_status: None,
            latencies: Latencies::new(now_ns),
        }
    }

    /// Follows other numbers from now on. The state stays; runs of failures and answers go on.
    pub fn update_config(&mut self, config: HealthConfig) {
        self.config = config;
    }

    /// Takes the result of a probe.
    ///
    /// Any final response proves life, since a server need not know OPTIONS or the user part, except for 408, 500, 502
    /// and 504, which say that something behind the responder does not work. 503 asks for no new calls.
    pub fn probe(&mut self, result: ProbeResult, now_ns: u64) -> Option<Change> {
        self.probes += 1;
        self.last_result = Some(result);
        self.latencies.forget_old(now_ns);
        let failure = match result {
            ProbeResult::Answered {
                status,
                latency,
                retry_after,
            } => {
                self.last_status = Some(status);
                self.latencies.record(latency, now_ns);
                self.traffic.unanswered = 0;
                match status {
                    408 | 500 | 502 | 504 => Failure::Status(status),
                    _ => return self.answered(status, retry_after, now_ns),
                }
            }
            ProbeResult::TimedOut => Failure::NoAnswer,
            ProbeResult::NotSent(errno) => Failure::NotSent(errno),
            ProbeResult::Unreachable => {
                self.probes_failed += 1;
                return self.unreachable(now_ns);
            }
        };
        self.probes_failed += 1;
        self.failed(failure, now_ns)
    }

    /// Takes what the traffic was since the last call: requests that went to the backend and have to be answered (so no
    /// ACK), and messages of any kind that came from it. To be called at least once per `timeout`, with zeros as well.
    ///
    /// Requests without an answer and silence for longer than `timeout` count together as one failed probe per
    /// `interval`. Either alone does not: a request may be broken, and a backend without calls is silent. What comes
    /// from it never counts in its favour, which is for probes to say.
    pub fn traffic(
        &mut self,
        new_requests: u64,
        messages_from_it: u64,
        now_ns: u64,
    ) -> Option<Change> {
        let traffic = &mut self.traffic;
        if messages_from_it > 0 {
            traffic.unanswered = 0;
            return None;
        }
        if traffic.unanswered == 0 {
            traffic.since_ns = now_ns;
        }
        traffic.unanswered = traffic.unanswered.saturating_add(new_requests);
        let silence = Duration::from_nanos(now_ns.saturating_sub(traffic.since_ns));
        if traffic.unanswered < UNANSWERED_REQUESTS
            || silence <= self.config.timeout
            || now_ns < traffic.not_before_ns
        {
            return None;
        }
        traffic.not_before_ns = now_ns.saturating_add(nanoseconds(self.config.interval));
        let unanswered = traffic.unanswered;
        self.failed(
            Failure::Silence {
                unanswered,
                silence,
            },
            now_ns,
        )
    }

    /// Lets time pass: the next step of a slow start, and old latencies forgotten. [`Health::next_step_ns`] says when
    /// it is due.
    pub fn tick(&mut self, now_ns: u64) -> Option<Change> {
        self.latencies.forget_old(now_ns);
        if self.ramp.step == RAMP_STEPS {
            return None;
        }
        let step = ramp_step(
            now_ns.saturating_sub(self.ramp.since_ns),
            nanoseconds(self.config.slow_start),
        );
        // Not back, when a reload made the slow start longer.
        if step <= self.ramp.step {
            return None;
        }
        self.ramp.step = step;
        self.ramp.owed = step < RAMP_STEPS;
        Some(Change {
            from: self.state,
            to: self.state,
            reason: Reason::SlowStart {
                percent: step * (100 / RAMP_STEPS),
            },
            ramp: self.ramp(),
        })
    }

    /// When [`Health::tick`] has a step to make; `None` when no slow start is under way.
    pub fn next_step_ns(&self) -> Option<u64> {
        if self.ramp.step == RAMP_STEPS {
            return None;
        }
        let slow_start_ns = u128::from(nanoseconds(self.config.slow_start));
        let after_ns =
            (slow_start_ns * u128::from(self.ramp.step)).div_ceil(u128::from(RAMP_STEPS - 1));
        let after_ns = u64::try_from(after_ns).unwrap_or(u64::MAX);
        Some(self.ramp.since_ns.saturating_add(after_ns))
    }

    /// The present state.
    pub fn state(&self) -> HealthState {
        self.state
    }

    /// Part of its weight that the backend gets: 0.1 to 1.0 in steps of a tenth. Below 1.0 only while healthy, in the
    /// `slow_start` after it was unhealthy.
    pub fn ramp(&self) -> f64 {
        f64::from(self.ramp.step) / f64::from(RAMP_STEPS)
    }

    /// Since when it is in the present state.
    pub fn since_ns(&self) -> u64 {
        self.since_ns
    }

    /// Why it is in the present state.
    pub fn reason(&self) -> Reason {
        self.reason
    }

    /// What became of the last probe; `None` before the first.
    pub fn last_result(&self) -> Option<ProbeResult> {
        self.last_result
    }

    /// Status code of the last answer to a probe.
    pub fn last_status(&self) -> Option<u16> {
        self.last_status
    }

    /// Latency of the answers of the last five to ten minutes; `None` when there were none.
    pub fn latency(&self) -> Option<Latency> {
        self.latencies.summary()
    }

    /// Probes so far that have a result, those included that could not be sent.
    pub fn probes(&self) -> u64 {
        self.probes
    }

    /// How many of them failed. An answer with 503 is no failure.
    pub fn probes_failed(&self) -> u64 {
        self.probes_failed
    }

    /// An answer that proves life.
    fn answered(
        &mut self,
        status: u16,
        retry_after: Option<Duration>,
        now_ns: u64,
    ) -> Option<Change> {
        self.failures = None;
        self.answers = self.answers.saturating_add(1);
        let unavailable = status == 503;
        if let (true, Some(retry_after)) = (unavailable, retry_after) {
            let stays = nanoseconds(retry_after.min(MAX_RETRY_AFTER));
            self.drain_until_ns = now_ns.saturating_add(stays);
        }
        match self.state {
            HealthState::Healthy if !unavailable => None,
            HealthState::Draining if unavailable || now_ns < self.drain_until_ns => None,
            HealthState::Unhealthy if self.answers < self.config.rise => None,
            HealthState::Healthy | HealthState::Unhealthy if unavailable => self.enter(
                HealthState::Draining,
                Reason::Unavailable { retry_after },
                now_ns,
            ),
            HealthState::Draining => self.enter(
                HealthState::Healthy,
                Reason::AvailableAgain { status },
                now_ns,
            ),
            HealthState::Healthy | HealthState::Unhealthy => {
                let answers = self.answers;
                self.enter(HealthState::Healthy, Reason::Recovered { answers }, now_ns)
            }
        }
    }

    fn failed(&mut self, failure: Failure, now_ns: u64) -> Option<Change> {
        let failures = Failures::and(self.failures, failure);
        self.failures = Some(failures);
        self.answers = 0;
        if self.state == HealthState::Unhealthy || failures.total < self.config.fall {
            return None;
        }
        self.enter(HealthState::Unhealthy, Reason::Failures(failures), now_ns)
    }

    /// No run of failures is needed: the host itself says so.
    fn unreachable(&mut self, now_ns: u64) -> Option<Change> {
        self.answers = 0;
        if self.state == HealthState::Unhealthy {
            return None;
        }
        self.enter(HealthState::Unhealthy, Reason::PortUnreachable, now_ns)
    }

    fn enter(&mut self, to: HealthState, reason: Reason, now_ns: u64) -> Option<Change> {
        let from = std::mem::replace(&mut self.state, to);
        self.since_ns = now_ns;
        self.reason = reason;
        self.ramp.step = RAMP_STEPS;
        match to {
            HealthState::Healthy if self.ramp.owed && !self.config.slow_start.is_zero() => {
                self.ramp.step = 1;
                self.ramp.since_ns = now_ns;
            }
            HealthState::Healthy => self.ramp.owed = false,
            HealthState::Draining => {}
            HealthState::Unhealthy => {
                self.ramp.owed = true;
                // Whatever it promised before, it is another process that comes back.
                self.drain_until_ns = 0;
            }
        }
        Some(Change {
            from,
            to,
            reason,
            ramp: self.ramp(),
        })
    }
}

/// The step of a slow start after some time: the first at once, the last when `slow_start_ns` is over, the others
/// evenly between.
fn ramp_step(elapsed_ns: u64, slow_start_ns: u64) -> u8 {
    if elapsed_ns >= slow_start_ns {
        return RAMP_STEPS;
    }
    let steps = u128::from(elapsed_ns) * u128::from(RAMP_STEPS - 1) / u128::from(slow_start_ns);
    1 + steps as u8
}

/// Up to 584 years.
fn nanoseconds(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests;
