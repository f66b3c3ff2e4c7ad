//! How long one core takes for a message. `parse` reads it; `forward` does all that a worker does between headers in
//! and headers out; `nat` does so with all indicators of far-end NAT on and the fixes `rport`, `contact` and `sdp`.
//!
//! There the processor meets the same bytes again and again and learns every branch. `calls` does the work of `forward`
//! and `nat` for messages that change all the time: that is what a busy worker pays. `cargo xtask bench` runs this and
//! prints one table.

mod edge;

use std::{hint::black_box, slice, time::Duration};

use criterion::{
    BenchmarkGroup, Criterion, Throughput, criterion_group, criterion_main, measurement::WallTime,
};
use lb_userspace::sip;

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

criterion_group! {
    name = benches;
    config = Criterion::default()
        .warm_up_time(Duration::from_secs(1))
        .measurement_time(Duration::from_secs(3));
    targets = parse, forward, rules, calls
}
criterion_main!(benches);
