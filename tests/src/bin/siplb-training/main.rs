//! Messages by the hundred thousand, for the compiler to see which ways through the code they take.
//!
//! `cargo xtask build` compiles this with counters in every branch, runs it, and compiles siplb with what was counted
//! (profile-guided optimisation). What the messages are is in `lb-userspace/benches/edge.rs`.

// The benches use the rest of it.
#[allow(dead_code)]
#[path = "../../../../lb-userspace/benches/edge.rs"]
mod edge;

use std::{hint::black_box, slice};

use edge::{CALLS, Case, Edge};

/// How often each call is made: enough for what happens now and then to be told from what never does.
const ROUNDS: usize = 500;

fn handle(edge: &mut Edge, cases: &[Case]) {
    for case in cases {
        black_box(edge.handle_frame(case));
    }
}

fn main() {
    for mut edge in [Edge::plain(), Edge::mending()] {
        let cases = edge.cases();
        let calls = edge.calls(CALLS);
        for _ in 0..ROUNDS {
            // Calls are most of what passes; each other kind comes once among them.
            handle(&mut edge, &calls);
            handle(&mut edge, &cases);
        }
    }
    for (mut edge, case) in Edge::ruled() {
        for _ in 0..ROUNDS {
            handle(&mut edge, slice::from_ref(&case));
        }
    }
}
