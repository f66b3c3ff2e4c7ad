//! What `valgrind --tool=callgrind` counts: instructions for a message, the same on every run.
//!
//! `cargo xtask bench --counts` runs this and prints a table; `cargo xtask test` fails when a count is not what
//! `record/instructions.txt` says. By hand:
//!
//!     cargo bench -p lb-userspace --no-default-features --bench count --no-run
//!     valgrind --tool=callgrind --toggle-collect='*measured*' --dump-after='*measured_parse*' \
//!         --dump-after='*measured_forward*' target/release/deps/count-...
//!
//! leaves one file for each line that it prints (name, messages, bytes), in that order; `callgrind_annotate
//! --inclusive=yes` shows where the instructions of one go.

mod edge;

use std::{hint::black_box, slice, thread};

use lb_userspace::sip;

use edge::{CALLS, Case, Edge};

#[inline(never)]
fn measured_parse(case: &Case) {
    black_box(sip::read(black_box(&case.bytes)).is_ok());
}

#[inline(never)]
fn measured_forward_frames(edge: &mut Edge, cases: &[Case]) {
    for case in cases {
        black_box(edge.handle_frame(case));
    }
}

#[inline(never)]
fn measured_forward(edge: &mut Edge, cases: &[Case]) {
    for case in cases {
        black_box(edge.handle(case));
    }
}

fn main() {
    // `cargo bench` adds `--bench`.
    let wanted = std::env::args()
        .skip(1)
        .find(|argument| !argument.starts_with('-'));
    // On a stack that begins at a page, with a heap of its own: where those of the main thread begin and what lies in them
    // depends on environment and arguments, and copies from there take some instructions more or less.
    let counting = thread::spawn(move || count(wanted.as_deref()));
    counting.join().expect("all benches run");
}

fn count(wanted: Option<&str>) {
    let is_wanted = |name: &str| wanted.is_none_or(|wanted| name.contains(wanted));
    for case in Edge::plain().cases().iter().filter(|case| case.is_sip()) {
        let name = format!("parse/{}", case.name);
        if is_wanted(&name) {
            black_box(sip::read(&case.bytes).is_ok());
            measured_parse(case);
            println!("{name} 1 {}", case.bytes.len());
        }
    }
    for (kind, mut edge) in [("forward", Edge::plain()), ("nat", Edge::mending())] {
        let cases = edge.cases();
        let calls = edge.calls(CALLS);
        let each = cases
            .chunks(1)
            .map(|case| (format!("{kind}/{}", case[0].name), case));
        for (name, group) in each.chain([(format!("calls/{kind}"), &calls[..])]) {
            if is_wanted(&name) {
                // `cases` and `calls` have handled each once, so what is set up at the first time (memchr asks the
                // processor what it can do) is not counted.
                measured_forward(&mut edge, group);
                let bytes = group.iter().map(|case| case.bytes.len()).sum::<usize>();
                println!("{name} {} {bytes}", group.len());
            }
        }
    }
    let mut edge = Edge::plain();
    for case in edge.cases() {
        let name = format!("frame/{}", case.name);
        if is_wanted(&name) {
            black_box(edge.handle_frame(&case));
            measured_forward_frames(&mut edge, slice::from_ref(&case));
            println!("{name} 1 {}", case.bytes.len());
        }
    }
    for (mut edge, case) in Edge::ruled() {
        let name = format!("forward/{}", case.name);
        if is_wanted(&name) {
            measured_forward(&mut edge, slice::from_ref(&case));
            println!("{name} 1 {}", case.bytes.len());
        }
    }
}
