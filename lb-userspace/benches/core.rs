//! How long one core takes for a message. `parse` reads it; `forward` does all that a worker does between headers in
//! and headers out; `nat` does so with all indicators of far-end NAT on and the fixes `rport`, `contact` and `sdp`.
//!
//! There the processor meets the same bytes again and again and learns every branch. `calls` does the work of `forward`
//! and `nat` for messages that change all the time: that is what a busy worker pays. `handover` is what a full worker pays
//! for a frame that it hands to another one, and that one for taking it, on one core and so without what cores pay for
//! telling each other, which `two-workers` has, on two. `cargo xtask bench` runs this and prints one table.

mod edge;

use std::{
    hint::black_box,
    slice,
    sync::{
        Barrier,
        atomic::{AtomicBool, AtomicU64, Ordering::Relaxed},
    },
    thread,
    time::{Duration, Instant},
};

use criterion::{
    BenchmarkGroup, Criterion, Throughput, criterion_group, criterion_main, measurement::WallTime,
};
use lb_userspace::{
    afxdp::BATCH,
    sharing::{Exchange, Handover, Side},
    sip,
};

use edge::{CALLS, Case, Edge};

fn per_message(
    group: &mut BenchmarkGroup<'_, WallTime>,
    cases: &[Case],
    mut run: impl FnMut(&Case),
) {
    for case in cases {
        group.throughput(Throughput::ElementsAndBytes {
            elements: 1,
            bytes: case.bytes.len() as u64,
        });
        group.bench_function(case.name, |bencher| bencher.iter(|| run(case)));
    }
}

fn parse(criterion: &mut Criterion) {
    let mut cases = Edge::plain().cases();
    cases.retain(Case::is_sip);
    let mut group = criterion.benchmark_group("parse");
    per_message(&mut group, &cases, |case| {
        black_box(sip::read(black_box(&case.bytes)).is_ok());
    });
}

fn forward(criterion: &mut Criterion) {
    for (name, mut edge) in [("forward", Edge::plain()), ("nat", Edge::mending())] {
        let cases = edge.cases();
        let mut group = criterion.benchmark_group(name);
        per_message(&mut group, &cases, |case| {
            black_box(edge.handle(case));
        });
    }
}

fn frames(criterion: &mut Criterion) {
    let mut edge = Edge::plain();
    let cases = edge.cases();
    let mut group = criterion.benchmark_group("frame");
    per_message(&mut group, &cases, |case| {
        black_box(edge.handle_frame(case));
    });
}

fn rules(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("forward");
    for (mut edge, case) in Edge::ruled() {
        per_message(&mut group, slice::from_ref(&case), |case| {
            black_box(edge.handle(case));
        });
    }
}

fn calls(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("calls");
    for (name, mut edge) in [("forward", Edge::plain()), ("nat", Edge::mending())] {
        let cases = edge.calls(CALLS);
        group.throughput(Throughput::ElementsAndBytes {
            elements: cases.len() as u64,
            bytes: cases.iter().map(|case| case.bytes.len() as u64).sum(),
        });
        group.bench_function(name, |bencher| {
            bencher.iter(|| {
                for case in &cases {
                    black_box(edge.handle(case));
                }
            });
        });
    }
}

/// Bytes of Ethernet, IPv4 and UDP headers. Here they say which of the cases it is.
const HEADERS: usize = 42;
/// Intervals in which a full worker gives all its calls away, and half of them.
const ALL: u64 = 40;
const HALF: u64 = 10;

/// The sides of a worker that has been full for so many intervals and of one that was idle, and the time.
fn sides(intervals: u64) -> (Side, Side, u64) {
    let exchange = Exchange::new(2, Duration::MAX).expect("an exchange");
    let (mut full, mut idle) = (exchange.side(0), exchange.side(1));
    let (mut now_ns, turn_ns) = (1, 100_000);
    for _ in 0..30 * intervals {
        now_ns += turn_ns;
        full.begin(now_ns, turn_ns);
        full.found(BATCH, true);
        idle.begin(now_ns, 0);
    }
    (full, idle, now_ns)
}

fn handover(criterion: &mut Criterion) {
    let cases = Edge::plain().calls(CALLS);
    let frames = cases.iter().enumerate().map(|(number, case)| {
        let mut frame = vec![0; HEADERS];
        frame[..8].copy_from_slice(&(number as u64).to_ne_bytes());
        frame.extend(&case.bytes);
        frame
    });
    let frames: Vec<Vec<u8>> = frames.collect();
    let mut group = criterion.benchmark_group("handover");
    group.throughput(Throughput::ElementsAndBytes {
        elements: frames.len() as u64,
        bytes: frames.iter().map(|frame| frame.len() as u64).sum(),
    });
    group.bench_function("find-call-id", |bencher| {
        bencher.iter(|| {
            for frame in &frames {
                black_box(sip::find_call_id(black_box(&frame[HEADERS..])));
            }
        });
    });
    let (mut full, mut idle, now_ns) = sides(ALL);
    group.bench_function("hand-over", |bencher| {
        bencher.iter(|| {
            for batch in frames.chunks(BATCH) {
                for frame in batch {
                    let handover = full.hand_over(frame, &frame[HEADERS..]);
                    assert_eq!(handover, Handover::Gone);
                }
                full.send_off(false);
                idle.begin(now_ns, 0);
                while let Some(parcel) = idle.take() {
                    idle.handled(black_box(parcel));
                }
                idle.end();
            }
        });
    });
    let mut edge = Edge::plain();
    group.bench_function("one-worker", |bencher| {
        bencher.iter(|| {
            for case in &cases {
                black_box(edge.handle(case));
            }
        });
    });
    group.bench_function("two-workers", |bencher| {
        bencher.iter_custom(|iterations| two_workers(iterations, &frames));
    });
}

/// How long two workers take for these frames, so many times, when all come to the first one and half of the calls go to the
/// second.
fn two_workers(iterations: u64, frames: &[Vec<u8>]) -> Duration {
    let (mut full, mut idle, now_ns) = sides(HALF);
    let (mut edge, mut other) = (Edge::plain(), Edge::plain());
    let (mut cases, mut others) = (edge.calls(CALLS), other.calls(CALLS));
    let handle = |edge: &mut Edge, cases: &mut [Case], frame: &[u8]| {
        let (number, _) = frame.split_first_chunk().expect("a header");
        let case = &mut cases[u64::from_ne_bytes(*number) as usize];
        // The bytes that came.
        case.bytes.copy_from_slice(&frame[HEADERS..]);
        black_box(edge.handle(case));
    };
    let is_ready = Barrier::new(2);
    let (handled, is_over) = (AtomicU64::new(0), AtomicBool::new(false));
    thread::scope(|scope| {
        scope.spawn(|| {
            is_ready.wait();
            while !is_over.load(Relaxed) {
                idle.begin(now_ns, 0);
                let mut count = 0;
                while let Some(parcel) = idle.take() {
                    for frame in parcel.frames() {
                        handle(&mut other, &mut others, frame);
                        count += 1;
                    }
                    idle.handled(parcel);
                }
                idle.end();
                handled.store(handled.load(Relaxed) + count, Relaxed);
            }
        });
        is_ready.wait();
        let begin = Instant::now();
        let mut gone = 0;
        for _ in 0..iterations {
            for batch in frames.chunks(BATCH) {
                for frame in batch {
                    let handover = loop {
                        match full.hand_over(frame, &frame[HEADERS..]) {
                            // Here nothing is lost: it waits.
                            Handover::Lost => std::hint::spin_loop(),
                            other => break other,
                        }
                    };
                    match handover {
                        Handover::Gone => gone += 1,
                        _ => handle(&mut edge, &mut cases, frame),
                    }
                }
                full.send_off(true);
            }
        }
        full.send_off(false);
        while handled.load(Relaxed) < gone {
            std::hint::spin_loop();
        }
        let time = begin.elapsed();
        is_over.store(true, Relaxed);
        time
    })
}

criterion_group! {
    name = benches;
    config = Criterion::default()
        .warm_up_time(Duration::from_secs(1))
        .measurement_time(Duration::from_secs(3));
    targets = parse, forward, frames, rules, calls, handover
}
criterion_main!(benches);
