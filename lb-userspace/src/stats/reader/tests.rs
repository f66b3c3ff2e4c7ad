//! What one side writes and the other reads, and files that are none.

use std::{
    fs,
    sync::atomic::{AtomicUsize, Ordering::SeqCst},
    thread,
};

use proptest::prelude::*;

use super::*;
use crate::{
    balance::BackendIndex,
    forward::{CountedMethod, MessageClass, Outcome, Seen},
    stats::{Counter, Direction, Histogram, Side, StatsFile},
    token::TransactionId,
    validate::Reason,
};

struct TempFile(PathBuf);

impl TempFile {
    fn new(name: &str) -> Self {
        let name = format!("siplb-stats-{name}-{}", std::process::id());
        Self(std::env::temp_dir().join(name))
    }
}

impl Drop for TempFile {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.0);
    }
}

fn workers() -> [WorkerInfo; 2] {
    [0, 1].map(|n| WorkerInfo {
        cpu: 3 + n,
        queue: n as u32,
        data_path: "eth0 native copy".into(),
    })
}

fn backends() -> [String; 3] {
    ["sw1", "sw2", "sw3"].map(str::to_owned)
}

#[test]
fn what_workers_count_is_read_under_its_name() {
    let file = TempFile::new("names");
    let interface = InterfaceInfo {
        name: "eth0".into(),
        pin_dir: "/sys/fs/bpf/siplb/edge/eth0/v1".into(),
        steered_at_start: 17,
    };
    let stats = StatsFile::create_with_interfaces(
        &file.0,
        &workers(),
        &backends(),
        std::slice::from_ref(&interface),
    )
    .unwrap();
    let (first, second) = (stats.worker(0), stats.worker(1));
    first.add(Counter::RxAfXdp, 5);
    first.add(Counter::RxAfXdp, 2);
    second.set(Counter::FramesFree, 4096);
    second.set(Counter::FramesFree, 4000);
    second.outcome(Outcome::ALL[1]);
    second.backend_request(BackendIndex(2), true);
    second.backend_request(BackendIndex(2), false);
    second.backend_invite(BackendIndex(2), &seen(7), 0);
    // Not in the file; must not count for anybody else.
    second.backend_invite(BackendIndex(3), &seen(7), 0);

    let snapshot = StatsReader::open(&file.0).unwrap().snapshot().unwrap();
    assert_eq!(snapshot.pid, std::process::id());
    assert!(snapshot.running);
    assert_eq!(snapshot.interfaces, [interface]);
    assert_eq!(snapshot.workers.len(), 2);
    for (index, worker) in snapshot.workers.iter().enumerate() {
        assert_eq!(worker.info, workers()[index]);
        let nonzero = |values: &[Value]| {
            values
                .iter()
                .filter(|value| value.value > 0)
                .map(|value| (value.name.clone(), value.kind.clone(), value.value))
                .collect::<Vec<_>>()
        };
        let counts = worker
            .backends
            .iter()
            .map(|backend| (backend.name.as_str(), backend.requests, backend.invites));
        let counts = counts.collect::<Vec<_>>();
        if index == 0 {
            assert_eq!(
                nonzero(&worker.counters),
                [("rx_af_xdp".to_owned(), "counter".to_owned(), 7)]
            );
            assert_eq!(nonzero(&worker.outcomes), []);
            assert_eq!(counts, [("sw1", 0, 0), ("sw2", 0, 0), ("sw3", 0, 0)]);
        } else {
            assert_eq!(
                nonzero(&worker.counters),
                [("frames_free".to_owned(), "gauge".to_owned(), 4000)]
            );
            assert_eq!(nonzero(&worker.outcomes).len(), 1);
            assert_eq!(nonzero(&worker.outcomes)[0].0, Outcome::ALL[1].name());
            assert_eq!(counts, [("sw1", 0, 0), ("sw2", 0, 0), ("sw3", 2, 1)]);
        }
    }
}

/// An INVITE of a transaction.
fn seen(transaction: u8) -> Seen {
    let id = format!("{transaction:016x}");
    Seen {
        method: CountedMethod::Invite,
        class: MessageClass::Request,
        transaction: TransactionId::from_text(id.as_bytes()),
    }
}

#[test]
fn messages_and_distributions_are_read_as_they_were_counted() {
    let file = TempFile::new("messages");
    let stats = StatsFile::create(&file.0, &workers(), &backends()).unwrap();
    let (first, second) = (stats.worker(0), stats.worker(1));
    let outward = Direction {
        from: Some(Side::Backend),
        to: Some(Side::Client),
    };
    let own = Direction {
        from: None,
        to: Some(Side::Client),
    };
    second.message(own, CountedMethod::Other, MessageClass::GlobalFailure);
    for _ in 0..2 {
        second.message(outward, CountedMethod::Bye, MessageClass::Success);
    }
    for size in [1, 3, 2000] {
        second.observe(Histogram::BatchSize, size);
    }
    // The answer comes to another worker than the INVITE.
    let backend = BackendIndex(2);
    first.backend_invite(backend, &seen(7), 1_000);
    let ringing = Seen {
        class: MessageClass::Provisional,
        ..seen(7)
    };
    for now in [3_001_000, 4_000_000] {
        second.backend_response(backend, &ringing, now);
    }

    let snapshot = StatsReader::open(&file.0).unwrap().snapshot().unwrap();
    let [zeros, worker] = &snapshot.workers[..] else {
        panic!("two workers");
    };
    assert_eq!(zeros.messages, []);
    let message = |from: &str, to: &str, method: &str, class: &str, value| MessageCount {
        from: from.into(),
        to: to.into(),
        method: method.into(),
        class: class.into(),
        value,
    };
    assert_eq!(
        worker.messages,
        [
            message("backend", "client", "BYE", "2xx", 2),
            message("siplb", "client", "other", "6xx", 1)
        ]
    );
    let [duration, size] = &worker.histograms[..] else {
        panic!("two histograms");
    };
    assert_eq!((duration.count(), duration.sum), (0, 0));
    assert_eq!(size.name, "batch_size");
    assert_eq!(size.bounds, [1, 2, 5, 10, 20, 50, 100, 200, 500, 1000]);
    assert_eq!(size.counts, [1, 0, 1, 0, 0, 0, 0, 0, 0, 0, 1]);
    assert_eq!((size.count(), size.sum), (3, 2004));
    let backend = &worker.backends[2];
    assert_eq!(backend.responses, 2);
    let classes = backend.classes.iter();
    let classes = classes.map(|class| (class.name.as_str(), class.value));
    assert_eq!(
        classes.collect::<Vec<_>>(),
        [
            ("1xx", 2),
            ("2xx", 0),
            ("3xx", 0),
            ("4xx", 0),
            ("5xx", 0),
            ("6xx", 0)
        ]
    );
    let first_response = &backend.first_response;
    assert_eq!((first_response.count(), first_response.sum), (1, 3_000_000));
    // Above 2 ms and not above 5 ms.
    assert_eq!(first_response.counts[3], 1);
    let mut both = Distribution::default();
    both.add(size);
    both.add(size);
    assert_eq!((both.count(), both.sum), (6, 4008));
}

#[test]
fn backends_come_and_go_while_others_read() {
    let file = TempFile::new("rename");
    let stats = StatsFile::create(&file.0, &workers(), &backends()).unwrap();
    let worker = stats.worker(1);
    worker.backend_request(BackendIndex(3), true);
    let read = || {
        let snapshot = StatsReader::open(&file.0).unwrap().snapshot().unwrap();
        let backends = snapshot.workers[1].backends.iter();
        let counts = backends.map(|backend| (backend.name.clone(), backend.requests));
        counts
            .filter(|(_, requests)| *requests > 0)
            .collect::<Vec<_>>()
    };
    assert_eq!(read(), []);
    let mut names = backends().to_vec();
    for new in ["sw4", "another"] {
        names.truncate(3);
        names.push(new.to_owned());
        assert_eq!(stats.name_backends(&names), Ok(()));
        assert_eq!(read(), [(new.to_owned(), 1)]);
    }
    // There is room for twice as many and 64 more, with the longest names that there are.
    names.extend((0..66).map(|nth| format!("{nth:063}")));
    assert_eq!(stats.name_backends(&names), Ok(()));
    assert_eq!(read(), [("another".to_owned(), 1)]);
    names.push("one".into());
    assert!(stats.name_backends(&names).is_err());
    assert_eq!(read(), [("another".to_owned(), 1)]);
    worker.backend_request(BackendIndex(70), true);
    assert_eq!(read().len(), 1);
    assert_eq!(stats.backend_traffic(BackendIndex(3)).requests, 1);
}

#[test]
fn the_last_counters_do_not_reach_into_the_next_block() {
    let file = TempFile::new("blocks");
    let stats = StatsFile::create(&file.0, &workers(), &backends()).unwrap();
    let first = stats.worker(0);
    for counter in Counter::ALL {
        first.add(counter, 1);
    }
    for outcome in Outcome::ALL {
        first.outcome(outcome);
    }
    for reason in Reason::ALL {
        first.invalid(reason);
    }
    for backend in 0..3 {
        first.backend_request(BackendIndex(backend), true);
        first.backend_invite(BackendIndex(backend), &seen(7), 0);
    }
    let snapshot = StatsReader::open(&file.0).unwrap().snapshot().unwrap();
    let sum = |worker: &Worker| {
        let values = worker.counters.iter().chain(&worker.outcomes);
        values.map(|value| value.value).collect::<Vec<_>>()
    };
    assert!(sum(&snapshot.workers[0]).iter().all(|&value| value == 1));
    assert!(sum(&snapshot.workers[1]).iter().all(|&value| value == 0));
    assert!(
        snapshot.workers[0]
            .backends
            .iter()
            .all(|backend| (backend.requests, backend.invites) == (1, 1))
    );
}

#[test]
#[should_panic(expected = "worker 1 has its counters already")]
fn a_block_has_one_writer() {
    let file = TempFile::new("writer");
    let stats = StatsFile::create(&file.0, &workers(), &backends()).unwrap();
    let _first = stats.worker(1);
    let _again = stats.worker(1);
}

#[test]
fn two_writers_and_two_readers_lose_nothing() {
    const ROUNDS: u64 = 200_000;
    let file = TempFile::new("threads");
    let stats = StatsFile::create(&file.0, &workers(), &backends()).unwrap();
    let reader = StatsReader::open(&file.0).unwrap();
    let total = |snapshot: &Snapshot| {
        let workers = snapshot.workers.iter();
        workers
            .map(|worker| worker.counter("tx_af_xdp"))
            .sum::<u64>()
    };
    let done = AtomicUsize::new(0);
    thread::scope(|scope| {
        for index in 0..2 {
            let worker = stats.worker(index);
            let done = &done;
            scope.spawn(move || {
                for _ in 0..ROUNDS {
                    worker.add(Counter::TxAfXdp, 1);
                    worker.outcome(Outcome::ALL[0]);
                }
                done.fetch_add(1, SeqCst);
            });
        }
        for _ in 0..2 {
            scope.spawn(|| {
                let mut last = 0;
                while done.load(SeqCst) < 2 {
                    let now = total(&reader.snapshot().unwrap());
                    assert!(now >= last, "counters went back from {last} to {now}");
                    last = now;
                }
            });
        }
    });
    for worker in reader.snapshot().unwrap().workers {
        assert_eq!(worker.counter("tx_af_xdp"), ROUNDS);
        assert_eq!(worker.outcomes[0].value, ROUNDS);
    }
}

#[test]
fn a_reader_follows_a_restart() {
    let file = TempFile::new("restart");
    let old = StatsFile::create(&file.0, &workers(), &backends()).unwrap();
    old.worker(0).add(Counter::RxKernel, 9);
    let reader = StatsReader::open(&file.0).unwrap();
    assert_eq!(
        reader.snapshot().unwrap().workers[0].counter("rx_kernel"),
        9
    );
    let new = StatsFile::create(&file.0, &workers()[..1], &backends()).unwrap();
    old.alive();
    let snapshot = reader.snapshot().unwrap();
    assert_eq!(snapshot.workers.len(), 1);
    assert_eq!(snapshot.workers[0].counter("rx_kernel"), 0);
    new.alive();
    assert!(reader.snapshot().unwrap().alive > snapshot.alive);
}

/// The bytes of a good file, not of this process: pid 0 never runs.
fn good(name: &str) -> Vec<u8> {
    let file = TempFile::new(name);
    let _stats = StatsFile::create(&file.0, &workers(), &backends()).unwrap();
    let mut bytes = fs::read(&file.0).unwrap();
    bytes[8 * layout::WORD_PID..][..8].fill(0);
    bytes
}

#[test]
fn a_file_cut_short_or_made_longer_is_refused() {
    let bytes = good("cut");
    assert!(!parse(&bytes).unwrap().running);
    for len in 0..bytes.len() {
        assert!(
            matches!(parse(&bytes[..len]), Err(Problem::Invalid(_))),
            "accepted {len} of {} bytes",
            bytes.len()
        );
    }
    for more in [1, 8, 128, 4096] {
        let longer = [bytes.clone(), vec![0; more]].concat();
        assert_eq!(parse(&longer).unwrap_err(), {
            if more % 8 == 0 {
                Problem::Invalid("it is not whole")
            } else {
                Problem::Invalid("its length is impossible")
            }
        });
    }
}

#[test]
fn hostile_headers_are_refused() {
    let bytes = good("hostile");
    let cases = [
        (
            layout::WORD_MAGIC,
            Problem::Invalid("it begins with something else"),
        ),
        (layout::WORD_VERSION, Problem::Version(u64::MAX)),
        (layout::WORD_FILE_LEN, Problem::Invalid("it is not whole")),
        (
            layout::WORD_PID,
            Problem::Invalid("its process id is impossible"),
        ),
        (
            layout::WORD_NAMES_OFFSET,
            Problem::Invalid("its names are outside of it"),
        ),
        (
            layout::WORD_NAMES_LEN,
            Problem::Invalid("its names are outside of it"),
        ),
        (
            layout::WORD_BLOCKS_OFFSET,
            Problem::Invalid("its blocks are outside of it"),
        ),
        (
            layout::WORD_BLOCK_LEN,
            Problem::Invalid("its blocks are outside of it"),
        ),
        (
            layout::WORD_BLOCKS,
            Problem::Invalid("its blocks are outside of it"),
        ),
    ];
    // The file is as long as it says, but the blocks end behind it.
    let mut shifted = bytes.clone();
    let offset = 8 * layout::WORD_BLOCKS_OFFSET;
    shifted[offset] = shifted[offset].wrapping_add(128);
    assert!(matches!(parse(&shifted), Err(Problem::Invalid(_))));
    for (word, problem) in cases {
        let mut bytes = bytes.clone();
        bytes[8 * word..][..8].fill(0xff);
        assert_eq!(parse(&bytes).unwrap_err(), problem, "word {word}");
    }
}

proptest! {
    #[test]
    fn no_bytes_panic(bytes in prop::collection::vec(any::<u8>(), 0..512)) {
        let _ = parse(&bytes);
    }

    #[test]
    fn no_damage_panics(damage in prop::collection::vec((0..2048usize, any::<u8>()), 1..8)) {
        let mut bytes = good("damage");
        for (place, byte) in damage {
            let place = place % bytes.len();
            bytes[place] = byte;
        }
        let _ = parse(&bytes);
    }
}

#[test]
fn a_missing_file_says_what_to_look_at() {
    assert_eq!(
        StatsReader::open(Path::new("/nonexistent/stats"))
            .unwrap_err()
            .to_string(),
        "/nonexistent/stats: no such file; is siplb running, and with this stats.file?"
    );
}
