//! `cargo xtask demo`: sets up, builds, and hands over to the demo.

use std::{os::unix::process::CommandExt, process::Command};

use anyhow::{Context, Result, bail};

use crate::{
    build, cmd,
    setup::{self, Parts},
};

const HELP: &str = "\
Raises a lab of network namespaces and sends real SIPp calls through siplb for 30 seconds.

Usage: cargo xtask demo [ARGUMENTS OF THE DEMO]

Sets up and builds first. Takes root for the namespaces, through sudo when you are not root.
All arguments go to the demo: `cargo xtask demo -- --help` shows them.
";

pub fn main(arguments: &[String]) -> Result<()> {
    if cmd::wants_help(arguments, HELP) {
        return Ok(());
    }
    let compiler = setup::ensure(Parts::LABS)?;
    build::xdp_program(&compiler)?;
    build::user_space()?;

    let demo = cmd::target().join("release/siplb-demo");
    let mut command = if cmd::is_root() {
        Command::new(&demo)
    } else if cmd::find_program("sudo").is_some() {
        let mut command = Command::new("sudo");
        command.arg(&demo);
        command
    } else {
        bail!(
            "the demo raises network namespaces, which takes root, and there is no sudo: run this as root"
        );
    };
    let own = arguments.iter().skip(usize::from(
        arguments.first().is_some_and(|first| first == "--"),
    ));
    // In our place, so that signals and the exit status are the demo's.
    let error = command.args(own).exec();
    Err(error).with_context(|| format!("starting {}", demo.display()))
}
