//! Probes of one backend: its socket, its schedule, the probe that is under way.

use std::{
    io::{self, ErrorKind},
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket},
    os::fd::OwnedFd,
    time::Duration,
};

use rustix::event::epoll;

use super::{
    Report, Target,
    message::{self, Ids, ProbeIds},
};
use crate::{
    balance::{
        BackendIndex,
        health::{Change, Health, HealthState, ProbeResult, Reason},
    },
    sys::thread::monotonic_ns,
};

/// Room for an answer; what is beyond is not read. Its Via is near the top.
const ANSWER_BYTES: usize = 4096;
/// Datagrams read from one backend before the others get their turn; epoll says again that there are more.
const MAX_DATAGRAMS: usize = 16;

/// What all backends' probes share.
pub(super) struct Environment {
    /// Where probes come from, where it is of the backend's family.
    pub node_address: Option<IpAddr>,
    pub ids: Ids,
    /// Sockets are in it with their backend's index.
    pub epoll: OwnedFd,
}

/// A backend and what its probes have said.
pub(super) struct Backend {
    target: Target,
    /// Whether it is probed.
    enabled: bool,
    health: Health,
    /// `None` before the first probe and after one that could not be sent.
    socket: Option<UdpSocket>,
    /// When the next probe leaves, if no other is under way then.
    due_ns: u64,
    under_way: Option<Probe>,
    jitter: Jitter,
}

/// A probe without an answer yet.
struct Probe {
    branch: String,
    sent_ns: u64,
    deadline_ns: u64,
}

impl Backend {
    /// The first probe leaves after `delay`.
    pub fn new(target: Target, enabled: bool, delay: Duration, now_ns: u64) -> Self {
        Self {
            enabled,
            health: Health::new(target.health, now_ns),
            socket: None,
            due_ns: now_ns.saturating_add(nanoseconds(delay)),
            under_way: None,
            jitter: Jitter::new(target.index, now_ns),
            target,
        }
    }

    pub fn enabled(&self) -> bool {
        self.enabled
    }

    pub fn is_at(&self, address: SocketAddr) -> bool {
        self.target.address == address
    }

    /// Takes over what a new configuration says about the same backend.
    pub fn update(&mut self, target: Target, now_ns: u64) {
        self.health.update_config(target.health);
        // The old interval may have been long.
        let latest_ns = now_ns.saturating_add(nanoseconds(target.health.interval));
        self.due_ns = self.due_ns.min(latest_ns);
        self.target = target;
    }

    /// The change when another server takes this one's place, about which nothing is known.
    pub fn replaced(&self) -> Option<Change> {
        let change = Change {
            from: self.health.state(),
            to: HealthState::Healthy,
            reason: Reason::Start,
            ramp: 1.0,
        };
        (change.from != change.to || self.health.ramp() != change.ramp).then_some(change)
    }

    /// Begins to probe at once, or stops.
    pub fn set_enabled(&mut self, enabled: bool, now_ns: u64) {
        if enabled != self.enabled {
            self.enabled = enabled;
            self.under_way = None;
            self.due_ns = now_ns;
        }
    }

    /// See [`Health::traffic`].
    pub fn traffic(&mut self, requests: u64, messages: u64, now_ns: u64) -> Option<Change> {
        if !self.enabled {
            return None;
        }
        self.health.traffic(requests, messages, now_ns)
    }

    /// When [`Backend::advance`] has something to do; `None` when only a datagram can change that.
    pub fn next_ns(&self) -> Option<u64> {
        let probe = match &self.under_way {
            Some(probe) => Some(probe.deadline_ns),
            None => self.enabled.then_some(self.due_ns),
        };
        [probe, self.health.next_step_ns()]
            .into_iter()
            .flatten()
            .min()
    }

    /// Reads what has come from the backend. At most one probe is under way, so there is at most one change.
    pub fn receive(&mut self) -> Option<Change> {
        let mut buffer = [0; ANSWER_BYTES];
        let mut change = None;
        for _ in 0..MAX_DATAGRAMS {
            let Some(socket) = &self.socket else {
                break;
            };
            match socket.recv(&mut buffer) {
                Ok(len) => change = change.or(self.read(&buffer[..len])),
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                Err(error) => change = change.or(self.broken(&error)),
            }
        }
        change
    }

    /// Makes the next step of a slow start, gives up the probe that is too late, sends the one that is due.
    pub fn advance(
        &mut self,
        environment: &Environment,
        sequence: &mut u64,
        now_ns: u64,
        mut report: impl FnMut(BackendIndex, Change),
    ) {
        let index = self.target.index;
        let mut report = |change: Option<Change>| {
            if let Some(change) = change {
                report(index, change);
            }
        };
        report(self.health.tick(now_ns));
        let is_late =
            |probe: &Option<Probe>| probe.as_ref().is_some_and(|p| p.deadline_ns <= now_ns);
        if is_late(&self.under_way) {
            // It may be us who are late: what has come counts.
            report(self.receive());
        }
        if is_late(&self.under_way) {
            report(self.resolve(ProbeResult::TimedOut));
        }
        if self.enabled && self.under_way.is_none() && self.due_ns <= now_ns {
            let pause_ns = self.jitter.within(self.target.health.interval);
            self.due_ns = now_ns.saturating_add(pause_ns);
            *sequence += 1;
            report(self.send(environment, *sequence));
        }
    }

    /// What an operator wants to know.
    pub fn report(&self, now_ns: u64) -> Report {
        let health = &self.health;
        Report {
            index: self.target.index,
            name: self.target.name.clone(),
            address: self.target.address,
            enabled: self.enabled,
            state: health.state(),
            since: Duration::from_nanos(now_ns.saturating_sub(health.since_ns())),
            reason: health.reason(),
            last_result: health.last_result(),
            last_status: health.last_status(),
            latency: health.latency(),
            ramp: health.ramp(),
            probes: health.probes(),
            probes_failed: health.probes_failed(),
        }
    }

    fn send(&mut self, environment: &Environment, sequence: u64) -> Option<Change> {
        let ids = environment.ids.of(self.target.index, sequence);
        // What is left of earlier probes, an ICMP error above all, must not be taken for the answer to this one.
        self.receive();
        match self.transmit(environment, &ids) {
            Ok(()) => {
                let sent_ns = monotonic_ns();
                let timeout_ns = nanoseconds(self.target.health.timeout);
                self.under_way = Some(Probe {
                    branch: ids.branch,
                    sent_ns,
                    deadline_ns: sent_ns.saturating_add(timeout_ns),
                });
                None
            }
            // An ICMP error that came between the two calls above.
            Err(error) if error.kind() == ErrorKind::ConnectionRefused => {
                self.resolve(ProbeResult::Unreachable)
            }
            Err(error) => self.not_sent(&error),
        }
    }

    /// Sends by the socket of the last probe, or by a new one.
    fn transmit(&mut self, environment: &Environment, ids: &ProbeIds) -> io::Result<()> {
        let socket = match self.socket.take() {
            Some(socket) => socket,
            None => open(environment, &self.target)?,
        };
        let socket = self.socket.insert(socket);
        let text = message::options(self.target.address, socket.local_addr()?, ids);
        let probe = [self.target.prefix, text.as_bytes()].concat();
        socket.send(&probe).map(drop)
    }

    fn read(&mut self, datagram: &[u8]) -> Option<Change> {
        // Without a probe, or for an earlier one: that one is counted already.
        let probe = self.under_way.as_ref()?;
        let answer = message::read_answer(datagram, &probe.branch)?;
        let latency = Duration::from_nanos(monotonic_ns().saturating_sub(probe.sent_ns));
        self.resolve(ProbeResult::Answered {
            status: answer.status,
            latency,
            retry_after: answer.retry_after,
        })
    }

    /// Takes an error that the socket had in store.
    fn broken(&mut self, error: &io::Error) -> Option<Change> {
        let refused = error.kind() == ErrorKind::ConnectionRefused;
        match &self.under_way {
            // Of an earlier probe. The socket is as good as it was.
            None if refused => None,
            None => {
                self.socket = None;
                None
            }
            Some(_) if refused => self.resolve(ProbeResult::Unreachable),
            Some(_) => self.not_sent(error),
        }
    }

    /// The next probe gets a new socket: the source address may be gone, or the route to the backend another.
    fn not_sent(&mut self, error: &io::Error) -> Option<Change> {
        log::debug!("backend {}: probe not sent: {error}", self.target.name);
        self.socket = None;
        // Errors of sockets all have a number.
        self.resolve(ProbeResult::NotSent(
            error.raw_os_error().unwrap_or(libc::EIO),
        ))
    }

    fn resolve(&mut self, result: ProbeResult) -> Option<Change> {
        self.under_way = None;
        self.health.probe(result, monotonic_ns())
    }
}

/// A socket that only the backend can send to, and that hears of ICMP errors from it, since it is connected.
fn open(environment: &Environment, target: &Target) -> io::Result<UdpSocket> {
    let backend = target.address;
    let unspecified: IpAddr = match backend {
        SocketAddr::V4(_) => Ipv4Addr::UNSPECIFIED.into(),
        SocketAddr::V6(_) => Ipv6Addr::UNSPECIFIED.into(),
    };
    let source = environment
        .node_address
        .filter(|address| address.is_ipv4() == backend.is_ipv4())
        .unwrap_or(unspecified);
    let socket = UdpSocket::bind((source, 0))?;
    socket.set_nonblocking(true)?;
    socket.connect(backend)?;
    let data = epoll::EventData::new_u64(u64::from(target.index.0));
    // Closing it takes it out again.
    epoll::add(&environment.epoll, &socket, data, epoll::EventFlags::IN)?;
    Ok(socket)
}

/// Spreads probes, so that neither one node's nor many nodes' meet at a backend at the same time for long. Not for
/// secrets.
struct Jitter {
    state: u64,
}

impl Jitter {
    fn new(index: BackendIndex, now_ns: u64) -> Self {
        Self {
            state: now_ns ^ u64::from(index.0) << 48,
        }
    }

    /// SplitMix64 (Steele, Lea, Flood, 2014): a counter with a bijective hash of 64 bits.
    fn next(&mut self) -> u64 {
        self.state = self.state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.state;
        mixed = (mixed ^ mixed >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ mixed >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ mixed >> 31
    }

    /// Nanoseconds between 85 and 95 hundredths of the interval, never more than it: a backend is known to be dead
    /// within `fall` times the interval, and the timeout of the last probe.
    fn within(&mut self, interval: Duration) -> u64 {
        let interval_ns = nanoseconds(interval);
        let twentieth_ns = interval_ns / 20;
        let shortest_ns = interval_ns - 3 * twentieth_ns;
        shortest_ns.saturating_add(self.next() % (2 * twentieth_ns + 1))
    }
}

fn nanoseconds(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn probes_are_a_little_less_than_an_interval_apart() {
        let mut jitter = Jitter::new(BackendIndex(1), 1);
        let times: Vec<_> = (0..10_000)
            .map(|_| jitter.within(Duration::from_secs(10)))
            .collect();
        let seconds = |ns: u64| ns as f64 / 1e9;
        assert!(times.iter().all(|ns| (8.5..=9.5).contains(&seconds(*ns))));
        assert!(seconds(*times.iter().min().unwrap()) < 8.6);
        assert!(seconds(*times.iter().max().unwrap()) > 9.4);
        let mean = seconds(times.iter().sum::<u64>()) / times.len() as f64;
        assert!((8.95..9.05).contains(&mean), "{mean}");
    }

    #[test]
    fn backends_that_start_together_do_not_stay_together() {
        let next = |index| Jitter::new(BackendIndex(index), 1).within(Duration::from_secs(1));
        assert_ne!(next(0), next(1));
    }

    #[test]
    fn the_shortest_interval_has_no_room_for_jitter() {
        let mut jitter = Jitter::new(BackendIndex(0), 0);
        assert_eq!(jitter.within(Duration::ZERO), 0);
        assert_eq!(jitter.within(Duration::from_nanos(5)), 5);
    }
}
