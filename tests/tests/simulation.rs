//! A fleet of nodes, calls through it and a bad network, from a seed: everything arrives where it should.
//!
//! `SIPLB_SEED=n` simulates one seed, `SIPLB_SEEDS=n` that many.

use std::time::Instant;

use siplb_lab::simulation::{Sabotage, run};

/// As many as take a minute on two cores.
const SEEDS: u64 = 10_000;

fn number(variable: &str) -> Option<u64> {
    let text = std::env::var(variable).ok()?;
    let number = text.parse();
    Some(number.unwrap_or_else(|_| panic!("{variable} is to be a number: {text}")))
}

/// In a module of its own: these need no root, so they run with the unit tests.
mod simulated {
    use super::*;

    #[test]
    fn calls_end_as_they_should_on_a_fleet_that_changes() {
        let started = Instant::now();
        let seeds = match number("SIPLB_SEED") {
            Some(seed) => vec![seed],
            None => (0..number("SIPLB_SEEDS").unwrap_or(SEEDS)).collect(),
        };
        let done = run(&seeds, None).unwrap_or_else(|report| panic!("{report}"));
        println!(
            "{} seeds in {:.1?}: {done:?}",
            seeds.len(),
            started.elapsed()
        );
        // Otherwise little would be shown.
        if seeds.len() >= 100 {
            assert!(done.compared * 10 > done.datagrams * 8, "{done:?}");
            assert!(done.given_up * 100 < done.scenarios, "{done:?}");
        }
    }

    /// A simulation that nothing can make fail shows nothing.
    #[test]
    fn what_is_wrong_with_a_node_is_found_within_a_few_seeds() {
        for (sabotage, traces) in [
            (Sabotage::BranchOfNode, &["another node does otherwise"][..]),
            (
                Sabotage::AnotherSecret,
                &["goes nowhere", "has branch", "is answered"],
            ),
            (Sabotage::CancelElsewhere, &["goes to"]),
        ] {
            let seeds = (0..32).collect::<Vec<_>>();
            let report = run(&seeds, Some(sabotage)).expect_err("found");
            let what = report.lines().next().unwrap_or_default();
            println!("{sabotage:?}: {what}");
            let is_it = traces.iter().any(|trace| what.contains(trace));
            assert!(is_it, "{sabotage:?}: {report}");
        }
    }
}
