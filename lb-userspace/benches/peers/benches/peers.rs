//! The time that SIP parsers written in Rust take for the messages of siplb's benches.

use std::{hint::black_box, time::Duration};

use criterion::{Criterion, Throughput, criterion_group, criterion_main};

fn peers(criterion: &mut Criterion) {
    for pair in peers::pairs() {
        let (peer, message) = pair.name.split_once('/').expect("a name in two parts");
        let mut group = criterion.benchmark_group(format!("peer-{peer}"));
        group.throughput(Throughput::ElementsAndBytes {
            elements: 1,
            bytes: pair.input.bytes.len() as u64,
        });
        group.bench_function(message, |bencher| {
            bencher.iter(|| black_box((pair.peer.run)(black_box(&pair.input))));
        });
    }
}

criterion_group! {
    name = benches;
    config = Criterion::default()
        .warm_up_time(Duration::from_millis(500))
        .measurement_time(Duration::from_millis(1500));
    targets = peers
}
criterion_main!(benches);
