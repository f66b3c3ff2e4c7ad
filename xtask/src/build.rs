//! `cargo xtask build`: the XDP program by its own compiler, then user space.

use std::{fs, path::PathBuf};

use anyhow::{Context, Result};

use crate::{
    cmd,
    profile::{self, Training},
    setup::{self, Parts, XdpCompiler},
};

const HELP: &str = "\
Compiles the XDP program (target/xdp/siplb.bpf.o), then siplb and the demo in release (target/release).

siplb is compiled twice: with a counter in every branch first, to see which ways messages take (siplb-training), then laid
out by that (profile-guided optimisation), which takes a fifth off the time for a message. The profile is in
target/profile, and made anew when sources or compiler change. Plain `cargo build --release` goes without.

Usage: cargo xtask build [--xdp-only]

  --xdp-only   compile the XDP program alone; then plain `cargo build` and rust-analyzer work

Runs `cargo xtask setup --build-only` first, which does nothing when all is there.
";

pub fn main(arguments: &[String]) -> Result<()> {
    if cmd::wants_help(arguments, HELP) {
        return Ok(());
    }
    let mut xdp_only = false;
    for argument in arguments {
        match argument.as_str() {
            "--xdp-only" => xdp_only = true,
            other => return Err(cmd::unknown_argument(other, HELP)),
        }
    }
    let compiler = setup::ensure(Parts::BUILD)?;
    xdp_program(&compiler)?;
    if !xdp_only {
        user_space()?;
    }
    Ok(())
}

/// Compiles the XDP program and puts the object where user space embeds it from.
pub fn xdp_program(compiler: &XdpCompiler) -> Result<()> {
    cmd::step("XDP program");
    object(compiler, "siplb-xdp", "siplb.bpf.o").map(drop)
}

/// Compiles the programs of the benchmark on the wire; where the object is.
pub fn wire_programs(compiler: &XdpCompiler) -> Result<PathBuf> {
    cmd::step("XDP programs of the benchmark");
    object(compiler, "siplb-wire", "wire.bpf.o")
}

fn object(compiler: &XdpCompiler, program: &str, name: &str) -> Result<PathBuf> {
    let build_folder = PathBuf::from("target/xdp/build");
    let mut command = compiler.cargo("build");
    command
        .args(["--release", "--bin", program, "--target-dir"])
        .arg(&build_folder);
    cmd::run(&mut command)?;

    let built = cmd::root()
        .join(build_folder)
        .join("bpfel-unknown-none/release")
        .join(program);
    let object = cmd::target().join("xdp").join(name);
    let bytes = fs::read(&built).with_context(|| format!("reading {}", built.display()))?;
    // User space is compiled anew when the file changes, so it is left alone when it would not.
    if fs::read(&object).is_ok_and(|old| old == bytes) {
        return Ok(object);
    }
    // Written beside and renamed: a build that reads it meanwhile sees the old or the new one.
    let fresh = object.with_extension("new");
    fs::write(&fresh, &bytes).with_context(|| format!("writing {}", fresh.display()))?;
    fs::rename(&fresh, &object).with_context(|| format!("writing {}", object.display()))?;
    println!("  target/xdp/{name}, {} bytes", bytes.len());
    Ok(object)
}

/// Compiles siplb and what runs in labs in release, with a profile of what messages do.
pub fn user_space() -> Result<()> {
    let cargo_build = || {
        let mut command = cmd::cargo();
        command.args(["build", "--release", "--workspace", "--exclude", "xtask"]);
        command
    };
    let training = Training {
        name: "siplb",
        compile: &|| {
            let mut command = cargo_build();
            command.args(["--bin", "siplb-training"]);
            command
        },
        run: &|| cmd::foreign(cmd::target().join("release/siplb-training")),
    };
    let profile = profile::ensure(&training)?;
    cmd::step("user space");
    let mut command = cargo_build();
    if let Some(profile) = profile {
        profile.apply(&mut command)?;
    }
    cmd::run(&mut command)
}

/// The flags that the XDP program is compiled with, whichever compiler it is.
pub fn xdp_rust_flags() -> String {
    let architecture = match std::env::consts::ARCH {
        "powerpc64" => "powerpc",
        other => other,
    };
    [
        "-C".to_owned(),
        "debuginfo=2".to_owned(),
        // Types for the verifier's log and for bpftool; the loader needs them too.
        "-C".to_owned(),
        "link-arg=--btf".to_owned(),
        format!("--cfg=bpf_target_arch=\"{architecture}\""),
    ]
    .join(" ")
}
