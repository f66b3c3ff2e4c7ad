//! The instructions that SIP parsers written in Rust take, counted by callgrind as in `count`.

use std::hint::black_box;

use peers::Pair;

#[inline(never)]
fn measured_parse(pair: &Pair) {
    black_box((pair.peer.run)(black_box(&pair.input)));
}

fn main() {
    // `cargo bench` adds `--bench`.
    let wanted = std::env::args()
        .skip(1)
        .find(|argument| !argument.starts_with('-'));
    for pair in peers::pairs() {
        let name = format!("peer-{}", pair.name);
        if wanted.as_ref().is_none_or(|wanted| name.contains(wanted)) {
            // The first time sets things up that stay.
            black_box((pair.peer.run)(&pair.input));
            measured_parse(&pair);
            println!("{name} 1 {}", pair.input.bytes.len());
        }
    }
}
