//! bpf-linker: turns the LLVM bitcode of the XDP compiler into a BPF object.

use std::{
    fs,
    path::{Path, PathBuf},
};

use anyhow::{Context, Result, bail};

use super::{apt::Apt, xdp::Route};
use crate::cmd;

/// The version built from source: takes LLVM 21 to 23.
const VERSION: &str = "0.13.0";
const LLVM_OF_VERSION: std::ops::RangeInclusive<u32> = 21..=23;

/// Where upstream publishes ready-made ones, for machines without a fitting LLVM.
const DOWNLOADS: &str = "https://github.com/aya-rs/bpf-linker/releases/latest/download";

/// A bpf-linker that reads the bitcode of a compiler with this LLVM: ours, or one on the `PATH`.
pub fn find(route: Route, llvm: u32) -> Option<PathBuf> {
    let ours = tools(route).join("bin/bpf-linker");
    // An LLVM reads the bitcode of its own version and of older ones.
    [Some(ours), cmd::find_program("bpf-linker")]
        .into_iter()
        .flatten()
        .find(|linker| llvm_of(linker).is_some_and(|version| version >= llvm))
}

/// Whether one can be built here: this LLVM is there, or comes by apt-get.
pub fn can_build(llvm: u32, apt: Option<&Apt>) -> bool {
    llvm_prefix(llvm).is_some() || apt.is_some_and(|apt| apt.has(&packages(llvm)))
}

/// Debian's packages to build one with.
fn packages(llvm: u32) -> Vec<String> {
    vec![
        format!("llvm-{llvm}-dev"),
        format!("libpolly-{llvm}-dev"),
        "libzstd-dev".to_owned(),
        "zlib1g-dev".to_owned(),
    ]
}

/// Puts a fitting one into `target/tools`, and returns it.
///
/// # Errors
///
/// When there is no way to get one here, or it does not work; both say what to do by hand.
pub fn install(route: Route, llvm: u32, apt: Option<&mut Apt>) -> Result<PathBuf> {
    if let Some(apt) = apt {
        let packages = packages(llvm);
        if apt.has(&packages) && !apt.are_installed(&packages) {
            apt.install(&packages)?;
        }
    }
    let tools = tools(route);
    match llvm_prefix(llvm) {
        Some(prefix) => build(&tools, llvm, &prefix)?,
        None => download(&tools, llvm)?,
    }
    find(route, llvm).with_context(|| {
        format!("bpf-linker of LLVM {llvm} or newer is not there after its installation; put one on the PATH and run this again")
    })
}

fn build(tools: &Path, llvm: u32, prefix: &Path) -> Result<()> {
    let mut command = cmd::cargo();
    command
        .env("LLVM_PREFIX", prefix)
        .env(format!("LLVM_SYS_{llvm}1_PREFIX"), prefix)
        // The work is LLVM's; optimising what wraps it, and its debug information, would take a minute more.
        .env("CARGO_PROFILE_RELEASE_OPT_LEVEL", "1")
        .env("CARGO_PROFILE_RELEASE_DEBUG", "false");
    command.args([
        "install",
        "bpf-linker",
        "--locked",
        "--force",
        "--no-default-features",
    ]);
    command
        .args(["--features", &format!("llvm-{llvm}")])
        .arg("--root")
        .arg(tools);
    if LLVM_OF_VERSION.contains(&llvm) {
        command.args(["--version", VERSION]);
    }
    cmd::run(&mut command)
}

fn download(tools: &Path, llvm: u32) -> Result<()> {
    println!("  no LLVM {llvm} to build bpf-linker with: taking the ready-made one");
    let folder = tools.join("bin");
    fs::create_dir_all(&folder).with_context(|| format!("creating {}", folder.display()))?;
    let archive = tools.join("bpf-linker.tar.zst");
    let url = format!(
        "{DOWNLOADS}/bpf-linker-{}-unknown-linux-musl.tar.zst",
        std::env::consts::ARCH
    );
    for program in ["curl", "tar", "zstd"] {
        if cmd::find_program(program).is_none() {
            bail!(
                "{program} is missing: install it, or unpack {url} into {}",
                folder.display()
            );
        }
    }
    cmd::run(
        cmd::foreign("curl")
            .args(["--fail", "--location", "--output"])
            .arg(&archive)
            .arg(&url),
    )?;
    cmd::run(
        cmd::foreign("tar")
            .args(["--zstd", "--extract", "--file"])
            .arg(&archive)
            .arg("--directory")
            .arg(&folder),
    )
}

/// Root of what is installed for a route.
fn tools(route: Route) -> PathBuf {
    cmd::target().join("tools").join(route.name())
}

/// Where this LLVM lies with its headers.
fn llvm_prefix(llvm: u32) -> Option<PathBuf> {
    // The first name is Debian's and apt.llvm.org's.
    [format!("llvm-config-{llvm}"), "llvm-config".to_owned()]
        .iter()
        .find_map(|program| {
            let ask = |question| cmd::ask(cmd::foreign(program).arg(question));
            let headers = PathBuf::from(ask("--includedir")?.trim()).join("llvm-c");
            let fits = ask("--version")?.split('.').next()?.parse() == Ok(llvm);
            let prefix = PathBuf::from(ask("--prefix")?.trim());
            (fits && headers.exists()).then_some(prefix)
        })
}

/// Major version of the LLVM in a bpf-linker, `None` when it does not run.
fn llvm_of(linker: &Path) -> Option<u32> {
    // LLVM answers this itself and ends the program; the files are never opened.
    let mut command = cmd::foreign(linker);
    command.args([
        "--llvm-args=--version",
        "--output",
        "/dev/null",
        "/dev/null",
    ]);
    parse_llvm_version(&cmd::ask(&mut command)?)
}

fn parse_llvm_version(text: &str) -> Option<u32> {
    let (_, version) = text.split_once("LLVM version")?;
    version
        .trim_start_matches([' ', ':'])
        .split('.')
        .next()?
        .parse()
        .ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn llvm_version_is_found_in_what_programs_print() {
        for (text, expected) in [
            ("Debian LLVM version 22.1.8\n  Optimized build.\n", Some(22)),
            (
                "LLVM (http://llvm.org/):\n  LLVM version 23.1.0-rust-1.98.0-nightly\n",
                Some(23),
            ),
            ("bpf-linker 0.9.0\n", None),
            ("LLVM version unknown", None),
        ] {
            assert_eq!(parse_llvm_version(text), expected, "{text}");
        }
    }
}
