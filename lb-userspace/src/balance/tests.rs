use super::*;

const KEY: [u8; 16] = *b"0123456789abcdef";

fn backend(index: u16, weight: u16) -> Backend {
    let address = SocketAddr::from(([10, 0, 0, index as u8], 5060));
    Backend::new(BackendIndex(index), format!("sw{index}"), address, weight)
}

fn pool(backends: Vec<Backend>) -> Pool {
    Pool::new("switches".into(), Strategy::HashCallId, backends, KEY)
}

fn usable(pool: &Pool) -> Vec<u16> {
    pool.usable().map(|backend| backend.index.0).collect()
}

fn pick<'a>(pool: &'a Pool, key: &Key<'_>) -> Option<&'a Backend> {
    pool.at(pool.slot(key)?)
}

#[test]
fn a_call_id_always_meets_the_same_backend() {
    let there = pool((1..=5).map(|n| backend(n, n)).collect());
    let again = pool((1..=5).rev().map(|n| backend(n, n)).collect());
    for call in 0..1_000 {
        let call_id = format!("{call}@192.0.2.1");
        let key = Key::Text(call_id.as_bytes());
        assert_eq!(
            pick(&there, &key).unwrap().index,
            pick(&again, &key).unwrap().index,
            "{call_id}"
        );
    }
}

#[test]
fn nobody_is_picked_when_no_backend_takes_calls() {
    let disabled = Backend {
        state: State::Disabled,
        ..backend(1, 1)
    };
    let draining = Backend {
        state: State::Draining,
        ..backend(2, 1)
    };
    for backends in [vec![], vec![backend(1, 0)], vec![disabled, draining]] {
        let pool = pool(backends);
        assert!(pick(&pool, &Key::Text(b"x")).is_none());
        assert!(pool.first().is_none());
        assert!(pool.next(0, &mut Turns::default()).is_none());
        assert!(!pool.is_panicking);
    }
}

#[test]
fn the_lowest_priority_that_has_a_usable_backend_takes_all() {
    let with = |states: [State; 5]| {
        let priorities = [10, 20, 10, 20, 30];
        let backends = states.into_iter().zip(priorities).zip(0..);
        let backends = backends.map(|((state, priority), index)| Backend {
            state,
            priority,
            ..backend(index, 1)
        });
        pool(backends.collect())
    };
    use State::{Active as A, Disabled as O, Draining as D, Unhealthy as U};
    assert_eq!(usable(&with([A, A, A, A, A])), [0, 2]);
    assert_eq!(usable(&with([A, A, U, A, A])), [0]);
    assert_eq!(
        usable(&with([D, A, U, A, A])),
        [1, 3],
        "the next takes over"
    );
    assert_eq!(usable(&with([D, A, A, A, A])), [2], "and back");
    assert_eq!(usable(&with([U, O, U, U, A])), [4]);
    let panic = with([O, U, D, U, U]);
    assert_eq!(usable(&panic), [1, 3], "all look dead");
    assert!(panic.is_panicking);
    assert!(!with([U, U, U, U, A]).is_panicking);
}

#[test]
fn turns_are_weighty_and_in_a_row() {
    let pool = pool(vec![
        backend(1, 3),
        backend(2, 0),
        backend(3, 1),
        backend(4, 2),
    ]);
    let mut turns = Turns::default();
    let mut next = |place| pool.next(place, &mut turns).unwrap().index.0;
    let got = (0..14).map(|_| next(0)).collect::<Vec<_>>();
    assert_eq!(got, [1, 1, 1, 3, 4, 4, 1, 1, 1, 3, 4, 4, 1, 1]);
    assert_eq!(next(1), 1, "another pool has turns of its own");
    assert_eq!(next(usize::MAX), 1);
}

#[test]
fn turns_go_on_when_a_backend_is_lost() {
    let all = [backend(1, 2), backend(2, 2), backend(3, 2)];
    let full = pool(all.to_vec());
    let without = pool(vec![all[0].clone(), all[2].clone()]);
    let mut turns = Turns::default();
    let mut next = |pool: &Pool| pool.next(0, &mut turns).unwrap().index.0;
    assert_eq!([next(&full), next(&full), next(&full)], [1, 1, 2]);
    let rest = (0..5).map(|_| next(&without)).collect::<Vec<_>>();
    assert_eq!(rest, [1, 1, 3, 3, 1]);
}

#[test]
fn a_backend_that_starts_slowly_gets_its_part() {
    let slow = Backend {
        ramp: 0.1,
        ..backend(1, 10)
    };
    let pool = pool(vec![slow, backend(2, 10)]);
    let shares = pool.table.as_ref().unwrap().shares(2);
    let part = f64::from(shares[0]) / f64::from(SLOTS as u32);
    assert!((part - 1.0 / 11.0).abs() < 0.01, "{part}");
    let mut turns = Turns::default();
    let got = (0..12).map(|_| pool.next(0, &mut turns).unwrap().index.0);
    assert_eq!(got.filter(|index| *index == 1).count(), 2);
}

#[test]
fn the_next_best_is_shared_by_weight_and_the_same_everywhere() {
    let list = vec![backend(1, 5), backend(2, 1), backend(3, 3)];
    let here = pool(list.clone());
    let there = pool(list.into_iter().rev().collect());
    let fits = |backend: &Backend| backend.index.0 != 1;
    let mut heirs = [0u32; 4];
    for slot in (0..SLOTS).filter(|slot| here.at(*slot).unwrap().index.0 == 1) {
        let heir = here.next_best(slot, fits).unwrap().index;
        assert_eq!(there.next_best(slot, fits).unwrap().index, heir);
        heirs[usize::from(heir.0)] += 1;
    }
    let part = f64::from(heirs[3]) / f64::from(heirs[2] + heirs[3]);
    assert!((part - 0.75).abs() < 0.02, "{part}");
    assert!(here.next_best(0, |_| false).is_none());
    let only = here.next_best(7, |backend| backend.index.0 == 2);
    assert_eq!(only.map(|backend| backend.index.0), Some(2));
}
