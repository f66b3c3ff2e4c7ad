//! Tests of [`super`] with real sockets on loopback.

use std::{
    net::{Ipv4Addr, Ipv6Addr, UdpSocket},
    sync::{
        atomic::{AtomicU8, Ordering},
        mpsc::{self, Receiver},
    },
    thread,
};

use super::*;
use crate::balance::health::{Failure, HealthState::*};

/// Generous: nothing here takes longer than some probe intervals on an idle machine.
const PATIENCE: Duration = Duration::from_secs(20);

const CONFIG: HealthConfig = HealthConfig {
    interval: Duration::from_millis(40),
    // Long enough for a busy machine: a timeout that is not meant would fail a test.
    timeout: Duration::from_secs(5),
    fall: 3,
    rise: 2,
    slow_start: Duration::ZERO,
};
/// For backends that are meant to be silent.
const IMPATIENT: HealthConfig = HealthConfig {
    timeout: Duration::from_millis(30),
    ..CONFIG
};
/// Not probed a second time within a test.
const ONCE: HealthConfig = HealthConfig {
    interval: Duration::from_secs(3600),
    ..CONFIG
};

/// What a server does with a request: its answers, with `{via}` for the Via lines of the request.
type Behaviour = dyn Fn(&str) -> Vec<String> + Send;

/// A SIP server on loopback that runs until it is dropped.
struct Server {
    address: SocketAddr,
    behaviour: Arc<Mutex<Box<Behaviour>>>,
    /// All requests.
    requests: Receiver<(String, SocketAddr)>,
    thread: Option<JoinHandle<()>>,
}

impl Server {
    fn start(behaviour: impl Fn(&str) -> Vec<String> + Send + 'static) -> Self {
        Self::bind((Ipv4Addr::LOCALHOST, 0).into(), behaviour)
    }

    fn bind(address: SocketAddr, behaviour: impl Fn(&str) -> Vec<String> + Send + 'static) -> Self {
        let socket = UdpSocket::bind(address).unwrap();
        let address = socket.local_addr().unwrap();
        let behaviour: Arc<Mutex<Box<Behaviour>>> = Arc::new(Mutex::new(Box::new(behaviour)));
        let (seen, requests) = mpsc::channel();
        let thread = thread::spawn({
            let behaviour = Arc::clone(&behaviour);
            move || {
                let mut buffer = [0; 4096];
                // An empty datagram ends it.
                while let Ok((len @ 1.., from)) = socket.recv_from(&mut buffer) {
                    let request = String::from_utf8(buffer[..len].to_vec()).unwrap();
                    for answer in behaviour.lock().unwrap()(&request) {
                        socket.send_to(answer.as_bytes(), from).unwrap();
                    }
                    let _ = seen.send((request, from));
                }
            }
        });
        Self {
            address,
            behaviour,
            requests,
            thread: Some(thread),
        }
    }

    fn behave(&self, behaviour: impl Fn(&str) -> Vec<String> + Send + 'static) {
        *self.behaviour.lock().unwrap() = Box::new(behaviour);
    }

    fn next_request(&self) -> (String, SocketAddr) {
        self.requests.recv_timeout(PATIENCE).expect("no probe came")
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let any: IpAddr = match self.address {
            SocketAddr::V4(_) => Ipv4Addr::LOCALHOST.into(),
            SocketAddr::V6(_) => Ipv6Addr::LOCALHOST.into(),
        };
        let socket = UdpSocket::bind((any, 0)).unwrap();
        socket.send_to(&[], self.address).unwrap();
        self.thread.take().unwrap().join().unwrap();
    }
}

/// A response that copies what a server has to copy (RFC 3261 §8.2.6.2).
fn response(request: &str, start: &str, more: &str) -> String {
    let copied: String = request
        .split_inclusive("\r\n")
        .filter(|line| {
            ["Via:", "From:", "To:", "Call-ID:", "CSeq:"]
                .iter()
                .any(|name| line.starts_with(name))
        })
        .collect();
    format!("SIP/2.0 {start}\r\n{copied}{more}Content-Length: 0\r\n\r\n")
}

fn ok(request: &str) -> Vec<String> {
    vec![response(request, "200 OK", "")]
}

fn silence(_: &str) -> Vec<String> {
    Vec::new()
}

fn target(index: u16, address: SocketAddr, health: HealthConfig) -> Target {
    Target {
        index: BackendIndex(index),
        name: format!("sw{index}"),
        address,
        health,
        prefix: b"",
    }
}

/// A port that nobody listens on, at an address that no other test uses: the port stays closed.
fn closed_port() -> SocketAddr {
    static TAKEN: AtomicU8 = AtomicU8::new(0);
    let address = Ipv4Addr::new(127, 0, 1, 1 + TAKEN.fetch_add(1, Ordering::Relaxed));
    let socket = UdpSocket::bind((address, 0)).unwrap();
    socket.local_addr().unwrap()
}

/// A prober and the changes that it reports.
struct Watched {
    prober: Prober,
    changes: Receiver<(BackendIndex, Change)>,
}

fn start(targets: Vec<Target>) -> Watched {
    let (report, changes) = mpsc::channel();
    let report = move |index, change: &Change| {
        let _ = report.send((index, *change));
    };
    let prober = Prober::start(Some(Ipv4Addr::LOCALHOST.into()), targets, report).unwrap();
    Watched { prober, changes }
}

impl Watched {
    /// Awaits the next change, which must be of this backend and to this state.
    fn expect(&self, index: u16, to: HealthState) -> Change {
        let (changed, change) = self
            .changes
            .recv_timeout(PATIENCE)
            .unwrap_or_else(|_| panic!("{to} did not come: {:?}", self.prober.reports()));
        assert_eq!((changed.0, change.to), (index, to), "{change}");
        change
    }

    fn report(&self, index: u16) -> Report {
        let reports = self.prober.reports();
        let report = reports.iter().find(|it| it.index.0 == index);
        report.expect("the backend is a target").clone()
    }
}

#[test]
fn a_backend_that_answers_stays_healthy() {
    let server = Server::start(ok);
    let watched = start(vec![target(0, server.address, CONFIG)]);
    let before = watched.report(0);
    assert_eq!((before.state, before.reason), (Healthy, Reason::Start));
    for _ in 0..4 {
        server.next_request();
    }
    // The fourth probe left, so three were answered.
    let report = watched.report(0);
    assert!(report.probes >= 3, "{report:?}");
    assert_eq!((report.state, report.probes_failed), (Healthy, 0));
    assert_eq!(report.last_status, Some(200));
    let latency = report.latency.unwrap();
    assert!(latency.min <= latency.mean && latency.p99 < PATIENCE);
    assert!(watched.changes.try_recv().is_err(), "nothing changed");
}

#[test]
fn a_probe_names_the_address_that_it_comes_from_and_is_never_the_same() {
    let server = Server::start(ok);
    let _watched = start(vec![target(0, server.address, CONFIG)]);
    let (first, from) = server.next_request();
    let (second, again_from) = server.next_request();
    assert_eq!(from, again_from, "one socket");
    assert!(first.contains(&format!("\r\nVia: SIP/2.0/UDP {from};rport;branch=z9hG4bK")));
    assert!(first.contains(&format!("\r\nContact: <sip:siplb@{from}>\r\n")));
    for name in ["Via:", "From:", "Call-ID:"] {
        let line = |text: &str| {
            text.lines()
                .find(|it| it.starts_with(name))
                .map(String::from)
        };
        assert_ne!(line(&first), line(&second), "{name}");
    }
}

#[test]
fn a_backend_of_another_family_than_the_node_is_probed_from_the_kernels_choice() {
    let server = Server::bind((Ipv6Addr::LOCALHOST, 0).into(), ok);
    let _watched = start(vec![target(0, server.address, CONFIG)]);
    let (request, from) = server.next_request();
    assert_eq!(from.ip(), Ipv6Addr::LOCALHOST);
    assert!(request.starts_with(&format!("OPTIONS sip:{} SIP/2.0\r\n", server.address)));
}

#[test]
fn silence_makes_a_backend_unhealthy_after_fall_probes_and_answers_healthy() {
    let server = Server::start(silence);
    let watched = start(vec![target(0, server.address, IMPATIENT)]);
    let change = watched.expect(0, Unhealthy);
    assert_eq!(change.reason.to_string(), "no answer to 3 probes in a row");
    let report = watched.report(0);
    assert_eq!(report.reason, change.reason);
    assert_eq!(report.last_status, None);
    assert!(report.probes_failed >= 3);

    server.behave(ok);
    // The timeout that suits silence is too short for answers on a busy machine.
    watched
        .prober
        .set_targets(vec![target(0, server.address, CONFIG)]);
    let change = watched.expect(0, Healthy);
    assert_eq!(change.reason.to_string(), "answered 2 probes in a row");
}

#[test]
fn a_closed_port_makes_a_backend_unhealthy_at_once() {
    let watched = start(vec![target(0, closed_port(), ONCE)]);
    let change = watched.expect(0, Unhealthy);
    assert_eq!(change.reason, Reason::PortUnreachable);
    let report = watched.report(0);
    assert_eq!(report.last_result, Some(ProbeResult::Unreachable));
    assert_eq!((report.probes, report.probes_failed), (1, 1));
}

#[test]
fn a_backend_recovers_when_its_port_is_open_again() {
    let address = closed_port();
    let watched = start(vec![target(0, address, CONFIG)]);
    watched.expect(0, Unhealthy);
    let _server = Server::bind(address, ok);
    watched.expect(0, Healthy);
}

#[test]
fn a_503_drains_a_backend_until_it_answers_otherwise() {
    let server = Server::start(|request| {
        vec![response(
            request,
            "503 Service Unavailable",
            "Retry-After: 0 (soon)\r\n",
        )]
    });
    let watched = start(vec![target(0, server.address, CONFIG)]);
    let change = watched.expect(0, Draining);
    assert_eq!(change.reason.to_string(), "answered 503 (Retry-After 0 s)");
    server.behave(|request| vec![response(request, "405 Method Not Allowed", "")]);
    let change = watched.expect(0, Healthy);
    assert_eq!(change.reason.to_string(), "answered 405 after 503");
}

#[test]
fn what_is_no_answer_to_the_probe_is_ignored() {
    let server = Server::start(|request| {
        let other = request.replace("z9hG4bK", "z9hG4bK0");
        vec![
            response(&other, "200 OK", ""),
            response(request, "100 Trying", ""),
            request.to_owned(),
            "\r\n\r\n".to_owned(),
            "\0 no SIP".to_owned(),
        ]
    });
    let watched = start(vec![target(0, server.address, IMPATIENT)]);
    let change = watched.expect(0, Unhealthy);
    let Reason::Failures(failures) = change.reason else {
        panic!("{change}");
    };
    assert_eq!((failures.alike, failures.last), (3, Failure::NoAnswer));
    assert_eq!(watched.report(0).last_status, None);
}

#[test]
fn an_answer_to_an_earlier_probe_is_ignored() {
    let earlier = Mutex::new(String::new());
    let server = Server::start(move |request| {
        let mut earlier = earlier.lock().unwrap();
        let request = std::mem::replace(&mut *earlier, request.to_owned());
        vec![response(&request, "200 OK", "")]
    });
    let watched = start(vec![target(0, server.address, IMPATIENT)]);
    watched.expect(0, Unhealthy);
    assert_eq!(watched.report(0).last_status, None);
}

#[test]
fn the_final_response_after_a_provisional_one_counts() {
    let server = Server::start(|request| {
        vec![
            response(request, "100 Trying", ""),
            response(request, "503 Busy", ""),
            response(request, "200 OK", ""),
        ]
    });
    let watched = start(vec![target(0, server.address, ONCE)]);
    watched.expect(0, Draining);
    assert_eq!(
        watched.report(0).probes,
        1,
        "the third is no answer any more"
    );
}

#[test]
fn a_probe_that_cannot_be_sent_is_a_failure() {
    let (report, changes) = mpsc::channel();
    // TEST-NET-1 is nobody's (RFC 5737).
    let prober = Prober::start(
        Some([192, 0, 2, 1].into()),
        vec![target(0, closed_port(), CONFIG)],
        move |_, change| report.send(*change).unwrap(),
    )
    .unwrap();
    let change = changes.recv_timeout(PATIENCE).unwrap();
    let Reason::Failures(failures) = change.reason else {
        panic!("{change}");
    };
    assert_eq!(failures.alike, 3);
    assert_eq!(failures.last, Failure::NotSent(libc::EADDRNOTAVAIL));
    drop(prober);
}

#[test]
fn new_targets_keep_the_state_of_those_that_stay() {
    let (dead, other_dead) = (closed_port(), closed_port());
    let server = Server::start(ok);
    let watched = start(vec![
        target(0, dead, CONFIG),
        target(1, server.address, ONCE),
    ]);
    watched.expect(0, Unhealthy);
    let probes = watched.report(0).probes;

    let slower = HealthConfig { fall: 9, ..CONFIG };
    watched
        .prober
        .set_targets(vec![target(0, dead, slower), target(2, other_dead, CONFIG)]);
    let indices: Vec<_> = watched
        .prober
        .reports()
        .iter()
        .map(|it| it.index.0)
        .collect();
    assert_eq!(indices, [0, 2]);
    let report = watched.report(0);
    assert_eq!(report.state, Unhealthy);
    assert!(report.probes >= probes);
    watched.expect(2, Unhealthy);

    // Another server behind the index starts anew.
    watched
        .prober
        .set_targets(vec![target(0, server.address, CONFIG)]);
    let change = watched.expect(0, Healthy);
    assert_eq!((change.from, change.reason), (Unhealthy, Reason::Start));
    server.next_request();
}

#[test]
fn a_shorter_interval_counts_from_the_reload_on() {
    let server = Server::start(ok);
    let watched = start(vec![target(0, server.address, ONCE)]);
    server.next_request();
    watched
        .prober
        .set_targets(vec![target(0, server.address, CONFIG)]);
    server.next_request();
}

#[test]
fn a_reload_changes_what_counts() {
    let server = Server::start(silence);
    let patient = HealthConfig {
        fall: u32::MAX,
        ..IMPATIENT
    };
    let watched = start(vec![target(0, server.address, patient)]);
    server.next_request();
    let hasty = HealthConfig {
        fall: 1,
        ..IMPATIENT
    };
    watched
        .prober
        .set_targets(vec![target(0, server.address, hasty)]);
    watched.expect(0, Unhealthy);
}

#[test]
fn a_disabled_backend_is_not_probed() {
    let (server, other) = (Server::start(ok), Server::start(ok));
    let watched = start(vec![
        target(0, server.address, CONFIG),
        target(1, other.address, CONFIG),
    ]);
    server.next_request();
    watched.prober.set_enabled(BackendIndex(0), false);
    let report = watched.report(0);
    assert!(!report.enabled);
    let sent_before = 1 + server.requests.try_iter().count();
    // The other one goes on meanwhile, for more than some intervals of this one.
    for _ in 0..5 {
        other.next_request();
    }
    assert_eq!(watched.report(0).probes, report.probes);
    // One may have been on its way.
    assert!(server.requests.try_iter().count() + sent_before <= report.probes as usize + 1);
    watched
        .prober
        .set_targets(vec![target(0, server.address, CONFIG)]);
    assert!(!watched.report(0).enabled, "a reload does not enable it");
    watched.prober.set_enabled(BackendIndex(0), true);
    server.next_request();
}

#[test]
fn unanswered_traffic_counts_together_with_silence() {
    let server = Server::start(silence);
    let config = HealthConfig {
        timeout: Duration::from_millis(1),
        interval: Duration::from_secs(3600),
        fall: 2,
        ..CONFIG
    };
    let watched = start(vec![target(0, server.address, config)]);
    let index = BackendIndex(0);
    server.next_request();
    // One failure by the probe, the other by traffic; whichever comes first.
    let change = loop {
        watched
            .prober
            .traffic(vec![(index, 5, 0), (BackendIndex(9), 1, 1)]);
        match watched.changes.recv_timeout(Duration::from_millis(2)) {
            Ok((_, change)) => break change,
            Err(mpsc::RecvTimeoutError::Timeout) => {}
            Err(error) => panic!("{error}"),
        }
    };
    assert_eq!(change.to, Unhealthy);
    let Reason::Failures(failures) = change.reason else {
        panic!("{change}");
    };
    assert_eq!((failures.total, failures.alike), (2, 1));
}

#[test]
fn the_slow_start_goes_by_itself() {
    let address = closed_port();
    let slow_start = Duration::from_millis(300);
    let often = HealthConfig {
        slow_start,
        ..CONFIG
    };
    let once = HealthConfig { slow_start, ..ONCE };
    let watched = start(vec![target(0, address, often)]);
    watched.expect(0, Unhealthy);
    let _server = Server::bind(address, ok);
    let mut ramp = watched.expect(0, Healthy).ramp;
    assert_eq!(ramp, 0.1);
    // From now on no probe is an occasion to look.
    watched.prober.set_targets(vec![target(0, address, once)]);
    while ramp < 1.0 {
        let change = watched.expect(0, Healthy);
        assert!(change.is_ramp_step() && change.ramp > ramp, "{change}");
        ramp = change.ramp;
    }
}

#[test]
fn an_answer_that_is_there_counts_even_when_the_prober_is_late() {
    let server = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let environment = Environment {
        node_address: None,
        ids: Ids::new([1; 16]),
        epoll: epoll::create(epoll::CreateFlags::CLOEXEC).unwrap(),
    };
    let now_ns = monotonic_ns();
    let target = target(0, server.local_addr().unwrap(), ONCE);
    let mut backend = Backend::new(target, true, Duration::ZERO, now_ns);
    let mut advance = |now_ns| {
        backend.advance(&environment, &mut 0, now_ns, |_, change| panic!("{change}"));
        backend.report(now_ns).last_result
    };
    assert_eq!(advance(now_ns), None);
    let mut buffer = [0; 4096];
    let (len, from) = server.recv_from(&mut buffer).unwrap();
    let request = std::str::from_utf8(&buffer[..len]).unwrap();
    server
        .send_to(response(request, "200 OK", "").as_bytes(), from)
        .unwrap();
    let late_ns = now_ns + 100 * ONCE.timeout.as_nanos() as u64;
    let result = advance(late_ns);
    assert!(
        matches!(result, Some(ProbeResult::Answered { status: 200, .. })),
        "{result:?}"
    );
}

#[test]
fn the_report_may_look_at_the_reports() {
    let (sender, states) = mpsc::channel();
    let prober: Arc<std::sync::OnceLock<Prober>> = Arc::default();
    let inside = Arc::downgrade(&prober);
    let server = Server::start(silence);
    prober
        .set(
            Prober::start(
                None,
                vec![target(0, server.address, IMPATIENT)],
                move |_, _| {
                    if let Some(prober) = inside.upgrade() {
                        let state = prober.get().map(|it| it.reports()[0].state);
                        // Handed over, since this thread must not drop the last one.
                        let _ = sender.send((state, prober));
                    }
                },
            )
            .unwrap(),
        )
        .unwrap();
    let (state, _handle) = states.recv_timeout(PATIENCE).unwrap();
    assert_eq!(state, Some(Unhealthy));
}

#[test]
fn a_thousand_backends_are_probed_by_one_thread() {
    let server = Server::start(ok);
    let config = HealthConfig {
        interval: Duration::from_secs(1),
        ..CONFIG
    };
    let targets = (0..1_024)
        .map(|index| target(index, server.address, config))
        .collect();
    let watched = start(targets);
    for _ in 0..1_024 {
        server.next_request();
    }
    assert_eq!(watched.prober.reports().len(), 1_024);
}

#[test]
fn dropping_the_prober_ends_its_thread() {
    let server = Server::start(ok);
    let watched = start(vec![target(0, server.address, ONCE)]);
    let Watched { prober, changes } = watched;
    drop(prober);
    // The thread owned the other end.
    assert_eq!(changes.try_recv(), Err(mpsc::TryRecvError::Disconnected));
}

/// What a server behind a PROXY protocol expects in front of each datagram.
#[test]
fn a_probe_begins_with_what_its_pool_puts_in_front() {
    use crate::{config::ProxyVersion, forward::proxy_header_of_our_own};
    for (version, wanted) in [
        (ProxyVersion::V1, &b"PROXY UNKNOWN\r\n"[..]),
        (ProxyVersion::V2, b"\r\n\r\n\0\r\nQUIT\n\x20\0\0\0"),
    ] {
        let server = Server::start(ok);
        let target = Target {
            prefix: proxy_header_of_our_own(version),
            ..target(0, server.address, CONFIG)
        };
        let watched = start(vec![target]);
        for _ in 0..2 {
            let (request, _) = server.next_request();
            let rest = request.as_bytes().strip_prefix(wanted);
            assert!(
                rest.is_some_and(|rest| rest.starts_with(b"OPTIONS sip:")),
                "{request:?}"
            );
        }
        let report = watched.report(0);
        assert_eq!((report.state, report.last_status), (Healthy, Some(200)));
    }
}
