//! A fleet of nodes, calls through it and a bad network, from a seed: everything arrives where it should.
//!
//! `SIPLB_SEED=n` simulates one seed, `SIPLB_SEEDS=n` that many.

use std::time::Instant;

use siplb_lab::simulation::{Done, Sabotage, run};

/// As many as take about a minute on two cores.
const SEEDS: u64 = 2_000;

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
        let Done {
            datagrams,
            compared,
            scenarios,
        } = done;
        println!(
            "{} seeds: {scenarios} scenarios, {datagrams} datagrams, {compared} compared, {:.1?}",
            seeds.len(),
            started.elapsed()
        );
        assert!(compared * 2 > datagrams, "most are compared");
    }

    /// A simulation that nothing can make fail shows nothing.
    #[test]
    fn what_is_wrong_with_one_node_is_found_within_a_few_seeds() {
        for (sabotage, trace) in [
            (Sabotage::BranchOfNode, "another node does otherwise"),
            (Sabotage::AnotherSecret, "another node does otherwise"),
        ] {
            let seeds = (0..32).collect::<Vec<_>>();
            let report = run(&seeds, Some(sabotage)).expect_err("found");
            assert!(report.contains(trace), "{sabotage:?}: {report}");
        }
    }
}
