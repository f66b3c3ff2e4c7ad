//! `cargo xtask check`: what can be said about the sources without running them.

use anyhow::{Result, bail};

use crate::{
    build, cmd, fuzz,
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

/// All checks, also after one has failed: one run tells everything that is to be mended.
pub fn run(compiler: &XdpCompiler) -> Result<()> {
    let mut failed = Vec::new();
    let mut attempt = |name: &'static str, result: Result<()>| {
        if let Err(error) = result {
            println!("FAILED: {error:#}");
            failed.push(name);
        }
    };
    cmd::step("house rules and format");
    attempt("house rules", tidy::run());
    attempt(
        "format",
        cmd::run(cmd::cargo().args(["fmt", "--all", "--check"])),
    );
    for (name, manifest) in [
        ("format of lb-ebpf", "lb-ebpf/Cargo.toml"),
        ("format of fuzz targets", "lb-userspace/fuzz/Cargo.toml"),
        (
            "format of the peers",
            "lb-userspace/benches/peers/Cargo.toml",
        ),
    ] {
        let program = ["fmt", "--manifest-path", manifest, "--check"];
        attempt(name, cmd::run(cmd::cargo().args(program)));
    }

    cmd::step("lints");
    let deny = ["--", "-D", "warnings"];
    let workspace = ["clippy", "--workspace", "--all-targets"];
    attempt("lints", cmd::run(cmd::cargo().args(workspace).args(deny)));
    attempt("lints of lb-ebpf", lint_xdp_program(compiler, &deny));
    let mut targets = fuzz::cargo("clippy");
    attempt("lints of fuzz targets", cmd::run(targets.args(deny)));

    cmd::step("documentation");
    let mut documentation = cmd::cargo();
    documentation.env("RUSTDOCFLAGS", "-D warnings");
    documentation.args([
        "doc",
        "--workspace",
        "--no-deps",
        "--document-private-items",
    ]);
    attempt("documentation", cmd::run(&mut documentation));

    if !failed.is_empty() {
        bail!("checks failed: {}", failed.join(", "));
    }
    Ok(())
}

fn lint_xdp_program(compiler: &XdpCompiler, deny: &[&str]) -> Result<()> {
    if compiler.has_clippy() {
        let mut clippy = compiler.cargo("clippy");
        return cmd::run(
            clippy
                .args(["--release", "--target-dir", "target/xdp/build"])
                .args(deny),
        );
    }
    if cmd::is_ci() {
        bail!("the compiler of the XDP program has no clippy, and CI must lint everything");
    }
    println!("!! NOT CHECKED: lints of lb-ebpf, whose compiler has no clippy");
    Ok(())
}
