//! `cargo xtask check`: what can be said about the sources without running them.

use anyhow::{Result, bail};

use crate::{
    build, cmd,
    setup::{self, Parts, XdpCompiler},
    tidy,
};

const HELP: &str = "\
Checks format, lints (clippy, warnings denied) and documentation of user space and of the XDP program, and house
rules. Changes nothing: `cargo fmt` and `cargo clippy --fix` do.

Usage: cargo xtask check
";

pub fn main(arguments: &[String]) -> Result<()> {
    if cmd::wants_help(arguments, HELP) {
        return Ok(());
    }
    if let Some(argument) = arguments.first() {
        return Err(cmd::unknown_argument(argument, HELP));
    }
    let compiler = setup::ensure(Parts::CHECK)?;
    build::xdp_program(&compiler)?;
    run(&compiler)
}

/// All checks; what is cheap and often wrong comes first.
pub fn run(compiler: &XdpCompiler) -> Result<()> {
    cmd::step("house rules and format");
    tidy::run()?;
    cmd::run(cmd::cargo().args(["fmt", "--all", "--check"]))?;
    cmd::run(cmd::cargo().args(["fmt", "--manifest-path", "lb-ebpf/Cargo.toml", "--check"]))?;

    cmd::step("lints");
    let deny = ["--", "-D", "warnings"];
    cmd::run(
        cmd::cargo()
            .args(["clippy", "--workspace", "--all-targets"])
            .args(deny),
    )?;
    if compiler.has_clippy() {
        let mut clippy = compiler.cargo("clippy");
        cmd::run(
            clippy
                .args(["--release", "--target-dir", "target/xdp/build"])
                .args(deny),
        )?;
    } else if cmd::is_ci() {
        bail!("the compiler of the XDP program has no clippy, and CI must lint everything");
    } else {
        println!("!! NOT CHECKED: lints of lb-ebpf, whose compiler has no clippy");
    }

    cmd::step("documentation");
    let mut documentation = cmd::cargo();
    documentation.env("RUSTDOCFLAGS", "-D warnings");
    cmd::run(documentation.args([
        "doc",
        "--workspace",
        "--no-deps",
        "--document-private-items",
    ]))
}
