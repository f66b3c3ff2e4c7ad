//! `cargo xtask bench wire`: builds, and hands over to the benchmark in a lab.

use std::{os::unix::process::CommandExt, process::Command};

use anyhow::{Context, Result, bail};

use super::warn_if_busy;
use crate::{
    build, cmd,
    setup::{self, Parts},
};

/// Sets up, builds, and runs the benchmark in our place.
pub fn main(arguments: &[String]) -> Result<()> {
    let compiler = setup::ensure(Parts::LABS)?;
    build::xdp_program(&compiler)?;
    let object = build::wire_programs(&compiler)?;
    build::user_space()?;
    warn_if_busy()?;

    let program = cmd::target().join("release/siplb-wire");
    let mut command = if cmd::is_root() {
        Command::new(&program)
    } else if cmd::find_program("sudo").is_some() {
        let mut command = Command::new("sudo");
        command.arg(&program);
        command
    } else {
        bail!(
            "the benchmark raises network namespaces, which takes root, and there is no sudo: run this as root"
        );
    };
    command.arg("run").arg("--object").arg(object);
    let error = command.args(arguments).exec();
    Err(error).with_context(|| format!("starting {}", program.display()))
}
