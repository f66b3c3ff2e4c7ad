//! `cargo xtask setup`: finds what is missing and installs it, each command shown before it runs.

mod apt;
mod linker;
mod needs;
mod xdp;

use std::time::Instant;

use anyhow::{Result, bail};

use crate::cmd;
use apt::Apt;
use needs::Need;
pub use xdp::XdpCompiler;

const HELP: &str = "\
Finds what is missing on this machine and installs it; does nothing when all is there.

Usage: cargo xtask setup [--build-only]

  --build-only   only what `cargo xtask build` needs: nothing for checks and labs

Three things are looked for:
  - programs and headers to compile with (clang, libelf, ...), for labs (SIPp, tshark, nftables,
    ...), for benches (valgrind).
    On Debian they come by apt-get (as root, or through sudo); elsewhere you are told their names.
  - a compiler that can build `core` for the BPF target, since no ready-made one exists:
      rustup's nightly with the component rust-src, or
      Debian's rustc-web, cargo-web and rust-web-src (bookworm-security), with no need of rustup.
    What is ready is taken. When nothing is: Debian's where apt-get has it, else rustup's.
  - bpf-linker, of an LLVM not older than that compiler's. One on the PATH is taken when it is, else one is put
    into target/tools; yours is never replaced.
";

/// What a task needs of the machine.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Parts {
    /// Formatter and lints.
    pub check: bool,
    /// What the labs run.
    pub labs: bool,
    /// What counts instructions.
    pub bench: bool,
    /// What libFuzzer is compiled with.
    pub fuzz: bool,
}

impl Parts {
    /// To compile, and no more.
    pub const BUILD: Parts = Parts {
        check: false,
        labs: false,
        bench: false,
        fuzz: false,
    };
    /// To compile and lint, fuzz targets among the rest.
    pub const CHECK: Parts = Parts {
        check: true,
        fuzz: true,
        ..Parts::BUILD
    };
    /// To compile and run labs.
    pub const LABS: Parts = Parts {
        labs: true,
        ..Parts::BUILD
    };
    /// To compile and measure.
    pub const BENCH: Parts = Parts {
        bench: true,
        ..Parts::BUILD
    };
    /// To compile and run fuzz targets.
    pub const FUZZ: Parts = Parts {
        fuzz: true,
        ..Parts::BUILD
    };
    /// All.
    pub const ALL: Parts = Parts {
        check: true,
        labs: true,
        bench: true,
        fuzz: true,
    };
}

pub fn main(arguments: &[String]) -> Result<()> {
    if cmd::wants_help(arguments, HELP) {
        return Ok(());
    }
    let mut parts = Parts::ALL;
    for argument in arguments {
        match argument.as_str() {
            "--build-only" => parts = Parts::BUILD,
            other => return Err(cmd::unknown_argument(other, HELP)),
        }
    }
    let compiler = ensure(parts)?;
    println!("XDP program: {compiler}");
    println!("everything is there");
    Ok(())
}

/// Installs what is missing for `parts`, and returns the compiler of the XDP program.
///
/// # Errors
///
/// When something is missing that cannot be installed from here; what to install by hand has been printed then.
pub fn ensure(parts: Parts) -> Result<XdpCompiler> {
    let missing = needs::missing(parts);
    let ready = xdp::find();
    if missing.is_empty()
        && let Some(compiler) = &ready
        && (!parts.check || compiler.missing_check_packages().is_empty())
    {
        return Ok(compiler.clone());
    }

    cmd::step("setup");
    let started = Instant::now();
    for need in &missing {
        println!("  missing: {need}");
    }
    let compiler = match Apt::detect() {
        Some(mut apt) => with_apt(&mut apt, parts, &missing, ready)?,
        None => without_apt(&missing, ready)?,
    };
    let left = needs::missing(parts);
    if !left.is_empty() {
        let names: Vec<_> = left.iter().map(ToString::to_string).collect();
        bail!("still missing after the installation: {}", names.join(", "));
    }
    println!("  set up in {}", cmd::seconds(started.elapsed()));
    Ok(compiler)
}

fn with_apt(
    apt: &mut Apt,
    parts: Parts,
    missing: &[&Need],
    ready: Option<XdpCompiler>,
) -> Result<XdpCompiler> {
    let plan = match ready {
        Some(compiler) => xdp::Plan::Ready(compiler),
        None => xdp::plan(Some(apt))?,
    };
    println!("  XDP program: {plan}");
    let mut packages: Vec<String> = missing.iter().map(|need| need.debian.to_owned()).collect();
    packages.extend(plan.packages());
    apt.install(&packages)?;
    let compiler = plan.carry_out(Some(apt))?;
    if parts.check {
        apt.install(&compiler.missing_check_packages())?;
    }
    Ok(compiler)
}

fn without_apt(missing: &[&Need], ready: Option<XdpCompiler>) -> Result<XdpCompiler> {
    let plan = match ready {
        Some(compiler) => Ok(xdp::Plan::Ready(compiler)),
        None => xdp::plan(None),
    };
    if missing.is_empty() {
        let plan = plan?;
        println!("  XDP program: {plan}");
        return plan.carry_out(None);
    }
    println!("\nThere is no apt-get here, so install these yourself and run the command again:");
    println!("  {:<20} {:<14} on Fedora", "what", "on Debian");
    for need in missing {
        println!("  {:<20} {:<14} {}", need.what(), need.debian, need.fedora);
    }
    if let Err(error) = plan {
        println!("and for the XDP program: {error}");
    }
    bail!("packages are missing");
}
