//! Finds the compiled XDP program that the library embeds, and says what to run when it is not there.
//!
//! It is compiled by another compiler for another target, so it cannot be an ordinary dependency: `cargo xtask build`
//! puts it at `target/xdp/siplb.bpf.o`. `SIPLB_XDP_OBJECT` names another file, absolute or relative to the workspace.

use std::{env, path::PathBuf};

const OVERRIDE: &str = "SIPLB_XDP_OBJECT";

/// With it `cargo xtask build` compiles the crate now with counters in it, now with what was counted, out of sight of cargo, which
/// would take the one for the other.
const PROFILE: &str = "SIPLB_PROFILE_FLAG";

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    println!("cargo::rerun-if-env-changed={OVERRIDE}");
    println!("cargo::rerun-if-env-changed={PROFILE}");
    if env::var_os("CARGO_FEATURE_NODE").is_none() {
        // Nothing that would load it is compiled.
        return;
    }

    let workspace =
        PathBuf::from(env::var_os("CARGO_MANIFEST_DIR").expect("set by cargo")).join("..");
    let object = workspace.join(
        env::var_os(OVERRIDE)
            .map_or_else(|| PathBuf::from("target/xdp/siplb.bpf.o"), PathBuf::from),
    );
    println!("cargo::rerun-if-changed={}", object.display());
    match object.canonicalize() {
        Ok(object) => println!("cargo::rustc-env={OVERRIDE}={}", object.display()),
        Err(error) => println!(
            "cargo::error=the XDP program is not compiled yet ({}: {error}): run `cargo xtask build`",
            object.display()
        ),
    }
}
