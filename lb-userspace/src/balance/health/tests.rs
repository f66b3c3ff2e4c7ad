//! Tests of [`super`].

use proptest::prelude::*;

use super::{HealthState::*, *};

const SECOND: u64 = 1_000_000_000;

const CONFIG: HealthConfig = HealthConfig {
    interval: Duration::from_secs(2),
    timeout: Duration::from_secs(1),
    fall: 3,
    rise: 2,
    slow_start: Duration::from_secs(9),
};
const AT_ONCE: HealthConfig = HealthConfig {
    slow_start: Duration::ZERO,
    ..CONFIG
};

fn answer(status: u16) -> ProbeResult {
    ProbeResult::Answered {
        status,
        latency: Duration::from_millis(1),
        retry_after: None,
    }
}

fn unavailable_for(seconds: u64) -> ProbeResult {
    ProbeResult::Answered {
        status: 503,
        latency: Duration::from_millis(1),
        retry_after: Some(Duration::from_secs(seconds)),
    }
}

/// An event and when it comes, in seconds; what changes by it.
type Case = (u64, Event, Option<(HealthState, &'static str)>);

enum Event {
    Probe(ProbeResult),
    Traffic(u64, u64),
}

fn check(config: HealthConfig, cases: &[Case]) -> Health {
    let mut health = Health::new(config, 0);
    for (second, event, want) in cases {
        let now_ns = second * SECOND;
        let before = health.state();
        let change = match *event {
            Event::Probe(result) => health.probe(result, now_ns),
            Event::Traffic(requests, messages) => health.traffic(requests, messages, now_ns),
        };
        let got = change.map(|change| (change.to, change.reason.to_string()));
        let want = want.map(|(state, reason)| (state, reason.to_owned()));
        assert_eq!(got, want, "at {second} s");
        if let Some(change) = change {
            assert_eq!(change.from, before, "at {second} s");
            assert_eq!(change.to, health.state(), "at {second} s");
            assert_eq!(change.reason, health.reason(), "at {second} s");
            assert_eq!(health.since_ns(), now_ns);
        }
    }
    health
}

/// Probes two seconds apart.
fn check_probes(
    config: HealthConfig,
    cases: &[(ProbeResult, Option<(HealthState, &'static str)>)],
) {
    let cases = cases
        .iter()
        .zip((0..).step_by(2))
        .map(|((result, want), second)| (second, Event::Probe(*result), *want))
        .collect::<Vec<_>>();
    check(config, &cases);
}

#[test]
fn a_backend_is_healthy_until_probes_say_otherwise() {
    let health = Health::new(CONFIG, 7);
    assert_eq!(health.state(), Healthy);
    assert_eq!(health.ramp(), 1.0);
    assert_eq!(health.since_ns(), 7);
    assert_eq!(health.reason(), Reason::Start);
    assert_eq!(health.last_result(), None);
    assert_eq!(health.latency(), None);
}

#[test]
fn fall_failures_in_a_row_make_it_unhealthy_and_rise_answers_healthy() {
    check_probes(
        AT_ONCE,
        &[
            (ProbeResult::TimedOut, None),
            (ProbeResult::TimedOut, None),
            (answer(200), None),
            (ProbeResult::TimedOut, None),
            (ProbeResult::TimedOut, None),
            (
                ProbeResult::TimedOut,
                Some((Unhealthy, "no answer to 3 probes in a row")),
            ),
            (ProbeResult::TimedOut, None),
            (answer(200), None),
            (ProbeResult::TimedOut, None),
            (answer(200), None),
            (answer(200), Some((Healthy, "answered 2 probes in a row"))),
        ],
    );
}

#[test]
fn any_final_answer_proves_life_except_those_of_a_broken_server() {
    for status in [200, 302, 400, 401, 404, 405, 481, 501, 505, 600, 603] {
        check_probes(CONFIG, &[(answer(status), None); 4]);
    }
    for status in [408, 500, 502, 504] {
        let text = format!("answered {status} to 3 probes in a row");
        let mut health = Health::new(CONFIG, 0);
        assert_eq!(health.probe(answer(status), 0), None);
        assert_eq!(health.probe(answer(status), SECOND), None);
        let change = health.probe(answer(status), 2 * SECOND).unwrap();
        assert_eq!((change.to, change.reason.to_string()), (Unhealthy, text));
        assert_eq!(health.probes_failed(), 3);
    }
}

#[test]
fn icmp_port_unreachable_counts_at_once() {
    check_probes(
        AT_ONCE,
        &[
            (answer(200), None),
            (
                ProbeResult::Unreachable,
                Some((Unhealthy, "ICMP port unreachable")),
            ),
            (ProbeResult::Unreachable, None),
            (answer(200), None),
            (ProbeResult::Unreachable, None),
            (answer(200), None),
            (answer(200), Some((Healthy, "answered 2 probes in a row"))),
        ],
    );
}

#[test]
fn probes_that_cannot_be_sent_are_failures() {
    let mut health = Health::new(CONFIG, 0);
    for (second, result) in [(0, ProbeResult::TimedOut), (2, ProbeResult::NotSent(101))] {
        assert_eq!(health.probe(result, second * SECOND), None);
    }
    let change = health.probe(ProbeResult::NotSent(101), 4 * SECOND).unwrap();
    let failures = Failures {
        total: 3,
        last: Failure::NotSent(101),
        alike: 2,
    };
    assert_eq!(change.to, Unhealthy);
    assert_eq!(change.reason, Reason::Failures(failures));
}

#[test]
fn a_503_drains_until_another_answer() {
    check_probes(
        CONFIG,
        &[
            (answer(503), Some((Draining, "answered 503"))),
            (answer(503), None),
            (ProbeResult::TimedOut, None),
            (answer(404), Some((Healthy, "answered 404 after 503"))),
        ],
    );
}

#[test]
fn retry_after_is_the_shortest_time_that_it_drains() {
    check(
        CONFIG,
        &[
            (
                0,
                Event::Probe(unavailable_for(30)),
                Some((Draining, "answered 503 (Retry-After 30 s)")),
            ),
            (29, Event::Probe(answer(200)), None),
            // The newest word counts; one without a time leaves what was said before.
            (29, Event::Probe(unavailable_for(5)), None),
            (30, Event::Probe(answer(503)), None),
            (33, Event::Probe(answer(200)), None),
            (
                34,
                Event::Probe(answer(200)),
                Some((Healthy, "answered 200 after 503")),
            ),
        ],
    );
}

#[test]
fn an_absurd_retry_after_is_cut() {
    let hour = MAX_RETRY_AFTER.as_secs();
    check(
        CONFIG,
        &[
            (
                0,
                Event::Probe(unavailable_for(u64::MAX)),
                Some((
                    Draining,
                    "answered 503 (Retry-After 18446744073709551615 s)",
                )),
            ),
            (hour - 1, Event::Probe(answer(200)), None),
            (
                hour,
                Event::Probe(answer(200)),
                Some((Healthy, "answered 200 after 503")),
            ),
        ],
    );
}

#[test]
fn a_draining_backend_can_die_and_come_back_before_its_time() {
    check(
        AT_ONCE,
        &[
            (
                0,
                Event::Probe(unavailable_for(600)),
                Some((Draining, "answered 503 (Retry-After 600 s)")),
            ),
            (
                2,
                Event::Probe(ProbeResult::Unreachable),
                Some((Unhealthy, "ICMP port unreachable")),
            ),
            (4, Event::Probe(answer(200)), None),
            (
                6,
                Event::Probe(answer(200)),
                Some((Healthy, "answered 2 probes in a row")),
            ),
        ],
    );
}

#[test]
fn what_a_backend_promised_before_it_died_is_forgotten() {
    check(
        AT_ONCE,
        &[
            (
                0,
                Event::Probe(unavailable_for(600)),
                Some((Draining, "answered 503 (Retry-After 600 s)")),
            ),
            (
                2,
                Event::Probe(ProbeResult::Unreachable),
                Some((Unhealthy, "ICMP port unreachable")),
            ),
            (4, Event::Probe(answer(503)), None),
            (
                6,
                Event::Probe(answer(503)),
                Some((Draining, "answered 503")),
            ),
            (
                8,
                Event::Probe(answer(200)),
                Some((Healthy, "answered 200 after 503")),
            ),
        ],
    );
}

#[test]
fn a_backend_that_comes_back_with_503_drains_first() {
    let mut health = check(
        CONFIG,
        &[
            (
                0,
                Event::Probe(ProbeResult::Unreachable),
                Some((Unhealthy, "ICMP port unreachable")),
            ),
            (2, Event::Probe(answer(503)), None),
            (
                4,
                Event::Probe(answer(503)),
                Some((Draining, "answered 503")),
            ),
            (
                6,
                Event::Probe(answer(200)),
                Some((Healthy, "answered 200 after 503")),
            ),
        ],
    );
    assert_eq!(health.ramp(), 0.1, "the slow start is still owed");
    assert!(health.tick(100 * SECOND).is_some());
    health.probe(answer(503), 101 * SECOND);
    health.probe(answer(200), 102 * SECOND);
    assert_eq!(health.ramp(), 1.0, "and is not after it was had");
}

#[test]
fn silence_counts_only_with_unanswered_requests() {
    use Event::{Probe, Traffic};
    const HASTY: HealthConfig = HealthConfig { fall: 1, ..CONFIG };

    // An idle backend.
    check(
        HASTY,
        &[
            (0, Traffic(0, 0), None),
            (100, Traffic(0, 0), None),
            (200, Traffic(0, 0), None),
        ],
    );
    // Too few requests.
    check(HASTY, &[(0, Traffic(4, 0), None), (9, Traffic(0, 0), None)]);
    // It speaks: whatever it says.
    check(
        HASTY,
        &[
            (0, Traffic(50, 0), None),
            (1, Traffic(50, 1), None),
            (2, Traffic(50, 0), None),
            (3, Traffic(50, 1), None),
        ],
    );
    // After long idleness, silence begins with the first request.
    check(
        HASTY,
        &[(0, Traffic(0, 0), None), (100, Traffic(50, 0), None)],
    );
    // An answer to a probe is a message from it.
    let health = check(
        HASTY,
        &[
            (0, Traffic(50, 0), None),
            (1, Probe(answer(200)), None),
            (2, Traffic(0, 0), None),
            (9, Traffic(0, 0), None),
        ],
    );
    assert_eq!(health.failures, None);
}

#[test]
fn unanswered_requests_and_silence_are_one_failure_an_interval() {
    use Event::{Probe, Traffic};
    check(
        CONFIG,
        &[
            (0, Traffic(4, 0), None),
            (1, Traffic(4, 0), None),
            // The first failure, and the next one not before 4 s.
            (2, Traffic(0, 0), None),
            (3, Traffic(1, 0), None),
            (4, Traffic(1, 0), None),
            (5, Traffic(1, 0), None),
            (
                6,
                Traffic(1, 0),
                Some((Unhealthy, "12 requests unanswered and silent for 6 s")),
            ),
        ],
    );
    // Together with probes it is faster than either.
    check(
        CONFIG,
        &[
            (0, Traffic(5, 0), None),
            (1, Probe(ProbeResult::TimedOut), None),
            (2, Traffic(5, 0), None),
            (
                3,
                Probe(ProbeResult::TimedOut),
                Some((Unhealthy, "no answer to 1 probe, after 2 other failures")),
            ),
        ],
    );
}

/// An unhealthy backend that recovers at `SECOND`.
fn recovered(config: HealthConfig) -> (Health, Change) {
    let mut health = Health::new(config, 0);
    health.probe(ProbeResult::Unreachable, 0);
    health.probe(answer(200), 0);
    let change = health.probe(answer(200), SECOND).unwrap();
    (health, change)
}

#[test]
fn the_slow_start_gives_the_weight_back_in_ten_steps() {
    let (mut health, change) = recovered(CONFIG);
    assert_eq!((change.to, change.ramp), (Healthy, 0.1));
    assert!(!change.is_ramp_step());
    for step in 2..=10u8 {
        let due_ns = health.next_step_ns().unwrap();
        assert_eq!(due_ns, u64::from(step) * SECOND);
        assert_eq!(health.tick(due_ns - 1), None);
        let change = health.tick(due_ns).unwrap();
        assert!(change.is_ramp_step());
        assert_eq!(change.ramp, f64::from(step) / 10.0);
        assert_eq!(change.ramp, health.ramp());
        assert_eq!(change.reason, Reason::SlowStart { percent: 10 * step });
        assert_eq!(
            health.reason(),
            Reason::Recovered { answers: 2 },
            "a step is not why it is healthy"
        );
        assert_eq!(health.since_ns(), SECOND);
    }
    assert_eq!(health.ramp(), 1.0);
    assert_eq!(health.next_step_ns(), None);
    assert_eq!(health.tick(1_000 * SECOND), None);
}

#[test]
fn a_late_tick_makes_all_steps_at_once() {
    let (mut health, _) = recovered(CONFIG);
    assert_eq!(health.tick(5 * SECOND).unwrap().ramp, 0.5);
    assert_eq!(health.tick(60 * SECOND).unwrap().ramp, 1.0);
}

#[test]
fn a_slow_start_of_no_time_gives_all_at_once() {
    let (mut health, change) = recovered(AT_ONCE);
    assert_eq!(change.ramp, 1.0);
    assert_eq!(health.next_step_ns(), None);
    health.update_config(CONFIG);
    health.probe(answer(503), 2 * SECOND);
    let change = health.probe(answer(200), 3 * SECOND).unwrap();
    assert_eq!(change.ramp, 1.0, "nothing is owed");
}

#[test]
fn there_is_no_slow_start_after_draining_alone() {
    let mut health = Health::new(CONFIG, 0);
    health.probe(answer(503), 0);
    assert_eq!(health.probe(answer(200), SECOND).unwrap().ramp, 1.0);
}

#[test]
fn a_slow_start_that_is_broken_off_begins_anew() {
    for broken_by in [ProbeResult::Unreachable, answer(503)] {
        let (mut health, _) = recovered(CONFIG);
        health.tick(5 * SECOND);
        let change = health.probe(broken_by, 5 * SECOND).unwrap();
        assert_eq!(change.ramp, 1.0, "what is not healthy has no ramp");
        assert_eq!(health.next_step_ns(), None);
        let back = (6..9).find_map(|second| health.probe(answer(200), second * SECOND));
        assert_eq!(
            back.map(|change| (change.to, change.ramp)),
            Some((Healthy, 0.1))
        );
    }
}

#[test]
fn a_reload_keeps_the_state_and_follows_the_new_numbers() {
    let mut health = Health::new(CONFIG, 0);
    health.probe(ProbeResult::TimedOut, SECOND);
    health.probe(ProbeResult::TimedOut, 2 * SECOND);
    health.update_config(HealthConfig { fall: 5, ..CONFIG });
    assert_eq!(health.probe(ProbeResult::TimedOut, 3 * SECOND), None);
    health.update_config(HealthConfig { fall: 2, ..CONFIG });
    assert_eq!(health.state(), Healthy, "until the next probe fails");
    let change = health.probe(ProbeResult::TimedOut, 4 * SECOND).unwrap();
    assert_eq!(
        (change.to, change.reason.to_string()),
        (Unhealthy, "no answer to 4 probes in a row".to_owned())
    );

    let (mut health, _) = recovered(CONFIG);
    health.tick(5 * SECOND);
    health.update_config(HealthConfig {
        slow_start: Duration::from_secs(600),
        ..CONFIG
    });
    assert_eq!(health.tick(6 * SECOND), None);
    assert_eq!(health.ramp(), 0.5, "a longer slow start takes nothing away");
    health.update_config(AT_ONCE);
    assert_eq!(health.tick(7 * SECOND).unwrap().ramp, 1.0);
}

#[test]
fn probes_and_answers_are_kept_for_the_operator() {
    let mut health = Health::new(CONFIG, 0);
    for (result, second) in [
        (answer(200), 1),
        (answer(503), 2),
        (answer(500), 3),
        (ProbeResult::TimedOut, 4),
    ] {
        health.probe(result, second * SECOND);
    }
    assert_eq!((health.probes(), health.probes_failed()), (4, 2));
    assert_eq!(health.last_result(), Some(ProbeResult::TimedOut));
    assert_eq!(health.last_status(), Some(500));
    assert!(health.latency().unwrap().p99 >= Duration::from_millis(1));
    assert_eq!(ProbeResult::TimedOut.to_string(), "no answer");
    assert_eq!(answer(404).to_string(), "404 after 1.00 ms");
}

/// The state after all of `history`, looking back from each result: slow and plain.
fn expected_state(history: &[ProbeResult], rise: usize, fall: usize) -> HealthState {
    let is_failure = |result: &ProbeResult| {
        !matches!(result, ProbeResult::Answered { status, .. }
            if ![408, 500, 502, 504].contains(status))
    };
    let mut state = Healthy;
    for end in 1..=history.len() {
        let (last, seen) = (history[end - 1], &history[..end]);
        let failures = seen.iter().rev().take_while(|r| is_failure(r)).count();
        let answers = seen.iter().rev().take_while(|r| !is_failure(r)).count();
        let answered = if last == answer(503) {
            Draining
        } else {
            Healthy
        };
        state = match state {
            _ if last == ProbeResult::Unreachable => Unhealthy,
            _ if failures >= fall => Unhealthy,
            Unhealthy if answers >= rise => answered,
            Healthy | Draining if answers > 0 => answered,
            same => same,
        };
    }
    state
}

fn any_result() -> impl Strategy<Value = ProbeResult> {
    prop_oneof![
        6 => prop::sample::select(vec![200u16, 404, 503, 500, 504]).prop_map(answer),
        4 => Just(ProbeResult::TimedOut),
        1 => Just(ProbeResult::Unreachable),
        1 => Just(ProbeResult::NotSent(1)),
    ]
}

proptest! {
    #[test]
    fn states_are_those_of_the_slow_model(
        history in prop::collection::vec(any_result(), 0..60),
        rise in 1u32..5,
        fall in 1u32..5,
        slow_start in 0u64..20,
    ) {
        let slow_start = Duration::from_secs(slow_start);
        let mut health = Health::new(HealthConfig { rise, fall, slow_start, ..CONFIG }, 0);
        for (at, result) in history.iter().enumerate() {
            let before = health.state();
            let change = health.probe(*result, at as u64 * SECOND);
            let want = expected_state(&history[..=at], rise as usize, fall as usize);
            prop_assert_eq!(health.state(), want, "after {:?}", &history[..=at]);
            prop_assert_eq!(change.is_some(), want != before);
            if let Some(change) = change {
                prop_assert_eq!((change.from, change.to), (before, want));
            }
            prop_assert_eq!(health.probes(), at as u64 + 1);
        }
    }

    /// Whatever comes in whatever order: the weight is a step of the ramp, all of it unless healthy, and grows while
    /// the state stays.
    #[test]
    fn the_ramp_is_below_one_only_while_healthy_and_never_falls(
        events in prop::collection::vec(
            (0u64..4, prop_oneof![
                any_result().prop_map(Some),
                Just(None),
            ], 0u64..4, 0u64..2),
            0..80,
        ),
    ) {
        let mut health = Health::new(CONFIG, 0);
        let mut now_ns = 0;
        for (seconds, result, requests, messages) in events {
            now_ns += seconds * SECOND;
            let (state, ramp) = (health.state(), health.ramp());
            let changes = match result {
                Some(result) => [health.probe(result, now_ns), None],
                None => [health.traffic(requests, messages, now_ns), health.tick(now_ns)],
            };
            let changed = changes.iter().flatten().last();
            prop_assert!((1..=10).any(|step| health.ramp() == f64::from(step) / 10.0));
            prop_assert!(health.state() == Healthy || health.ramp() == 1.0);
            prop_assert!(health.state() != state || health.ramp() >= ramp);
            prop_assert_eq!(changed.is_some(), (state, ramp) != (health.state(), health.ramp()));
            prop_assert!(changed.is_none_or(|change| change.ramp == health.ramp()));
            prop_assert_eq!(health.next_step_ns().is_some(), health.ramp() < 1.0);
        }
    }
}
