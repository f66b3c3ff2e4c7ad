//! Labs: hosts as network namespaces joined by veth pairs, with real programs in them: SIPp, Kamailio, baresip, dnsmasq, BIRD.
//!
//! ```text
//! two-armed      client ----------- outside [edge] inside ------------- servers
//!                198.51.100.2           VIP on lo                       10.0.0.11 - .14
//!
//! one-armed      client ------- [router] ------- servers
//!                                   |
//!                                  eth0 [edge] VIP on lo
//!
//! home           client ------------- [router] ------------- outside [edge] inside ------ servers
//!                192.168.1.2          masquerades as 198.51.100.2
//!          neighbour ---------- '
//!                192.168.1.3
//!
//! fleet          see `fleet`
//! ```
//!
//! Each host is a namespace `siplb-PID-NAME`, so two labs can exist at a time, and what a killed one left behind is
//! recognised by its dead PID and removed when the next one starts. A lab cleans up when it is dropped, also by a
//! panic. Everything that runs in it writes into files in [`Lab::dir`].
//!
//! Needs root, iproute2, nftables, ethtool, SIPp and tshark: [`can_run`] says whether a test can go on.

#![forbid(unsafe_code)]

pub mod baresip;
pub mod bird;
pub mod browser;
pub mod capture;
pub mod dns;
pub mod exabgp;
pub mod fleet;
pub mod frame;
pub mod hep;
pub mod home;
pub mod host;
pub mod kamailio;
pub mod lab;
pub mod leak;
pub mod message;
pub mod process;
pub mod prometheus;
pub mod simulation;
pub mod siplb;
pub mod sipp;
pub mod terminal;
pub mod wait;

pub use host::Host;
pub use lab::{Family, Lab, Shape};
pub use process::Process;
pub use siplb::Siplb;
pub use terminal::Terminal;
pub use wait::until;

/// Whether labs can be raised here. Says loudly why not, and fails instead where `CI` is set: there privilege is
/// promised.
///
/// # Panics
///
/// When labs cannot be raised and the environment has `CI`.
pub fn can_run() -> bool {
    can_run_with(&[])
}

/// As [`can_run`], for a lab that needs more programs.
///
/// # Panics
///
/// As [`can_run`].
pub fn can_run_with(programs: &[&str]) -> bool {
    let problem = if !rustix::process::geteuid().is_root() {
        Some("not root".to_string())
    } else {
        ["ip", "ethtool", "nft", "sipp", "tshark", "taskset"]
            .iter()
            .chain(programs)
            .find(|tool| which(tool).is_none())
            .map(|tool| format!("{tool} is not installed"))
    };
    let Some(problem) = problem else { return true };
    assert!(
        std::env::var_os("CI").is_none(),
        "labs cannot be raised: {problem}"
    );
    eprintln!("SKIPPED: labs cannot be raised: {problem}");
    false
}

/// Held by a test that measures or counts on CPU time: such tests of one program run one after the other.
pub fn alone() -> std::sync::MutexGuard<'static, ()> {
    static ALONE: std::sync::Mutex<()> = std::sync::Mutex::new(());
    ALONE
        .lock()
        .unwrap_or_else(std::sync::PoisonError::into_inner)
}

/// Where a program is, by the PATH.
pub fn which(program: &str) -> Option<std::path::PathBuf> {
    std::env::split_paths(&std::env::var_os("PATH")?)
        .map(|dir| dir.join(program))
        .find(|path| path.is_file())
}
