//! A simulation of a fleet: nodes, phones, servers and a carrier, a network that loses and delays, and a clock of its own, all
//! from one number.
//!
//! Nodes decide with the very function that workers call. Around it nothing is real: agents have the transactions and dialogs of
//! RFC 3261 in the simplest form (`agent`), a `script` has them go through whole calls, registrations and subscriptions, datagrams
//! meet whichever node they like, nodes come, go and get another configuration in the meantime (`fleet`, `world`), and a
//! `model` that knows nothing of branches, tokens and hashes says what must be true of every datagram:
//!
//! - another node of the same configuration, without memory, does the same to the byte;
//! - a request reaches who it is for, a response who asked, with its Via on top as it was sent, and nobody else gets anything;
//! - CANCEL, ACK and retransmissions are of the transaction of their request, on any node;
//! - everything ends as it should, unless the network lost a datagram for each time that it was tried;
//! - nothing of a hidden inside is seen outside.
//!
//! What is documented as best effort is held to that: which strategies, and nodes at different places of a change.

mod agent;
mod fleet;
mod message;
mod model;
mod random;
mod scenario;
mod script;
mod world;

use std::{
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{
        Mutex,
        atomic::{AtomicU64, Ordering},
    },
};

use self::{
    fleet::{Base, Built},
    world::World,
};

/// Something wrong, which the simulation has to find.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sabotage {
    /// The branches of node 1 are its own. Other nodes are asked and see it.
    BranchOfNode,
    /// Node 1 has another secret. Other nodes are not asked: what arrives shows it.
    AnotherSecret,
    /// CANCEL goes to another backend than its INVITE.
    CancelElsewhere,
}

impl Sabotage {
    fn is_seen_by_other_nodes(self) -> bool {
        self == Self::BranchOfNode
    }
}

/// What was simulated.
#[derive(Clone, Copy, Debug, Default)]
pub struct Done {
    /// Datagrams that nodes handled.
    pub datagrams: u64,
    /// Of these, how many another node was asked about.
    pub compared: u64,
    /// Calls, registrations and so on.
    pub scenarios: u64,
    /// Of these, how many ended early: the network lost all that was sent, or nodes differed at the wrong moment.
    pub given_up: u64,
}

/// Simulates these seeds on all cores. Seeds with the same pools and strategy follow each other, so that their tables are built once.
///
/// # Errors
///
/// What went wrong with the first seed that failed, with all that is needed to see why.
pub fn run(seeds: &[u64], sabotage: Option<Sabotage>) -> Result<Done, String> {
    let next_base = AtomicU64::new(0);
    let done = Mutex::new(Ok(Done::default()));
    let lock = || done.lock().unwrap_or_else(|error| error.into_inner());
    let work = || loop {
        let base = next_base.fetch_add(1, Ordering::Relaxed);
        if base >= Base::COUNT {
            return;
        }
        let built = Built::default();
        for &seed in seeds.iter().filter(|seed| **seed % Base::COUNT == base) {
            if lock().is_err() {
                return;
            }
            let outcome = run_one(seed, &built, sabotage);
            let mut done = lock();
            match (&mut *done, outcome) {
                (Ok(done), Ok(more)) => {
                    done.datagrams += more.datagrams;
                    done.compared += more.compared;
                    done.scenarios += more.scenarios;
                    done.given_up += more.given_up;
                }
                (Ok(_), Err(report)) => *done = Err(report),
                (Err(_), _) => {}
            }
        }
    };
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    std::thread::scope(|scope| {
        for _ in 0..cores {
            scope.spawn(work);
        }
    });
    done.into_inner().unwrap_or_else(|error| error.into_inner())
}

fn run_one(seed: u64, built: &Built, sabotage: Option<Sabotage>) -> Result<Done, String> {
    let mut world = World::new(seed, built, sabotage);
    match catch_unwind(AssertUnwindSafe(|| world.run())) {
        Ok(Ok(())) => Ok(Done {
            datagrams: world.datagrams,
            compared: world.compared,
            scenarios: world.scenarios.len() as u64,
            given_up: world.given_up,
        }),
        Ok(Err(what)) => Err(world.report(seed, &what)),
        Err(_) => Err(world.report(seed, "panicked, see above")),
    }
}
