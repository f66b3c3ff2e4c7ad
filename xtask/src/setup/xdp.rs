//! The compiler of the XDP program: one that can build `core` for the BPF target from its own sources.

use std::{
    fmt, fs,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context, Result, bail};

use super::{apt::Apt, linker};
use crate::{build, cmd};

/// The oldest Rust that our dependencies take; also in the workspace's `rust-version`.
const OLDEST_RUST: (u32, u32) = (1, 95);

/// Where the compiler comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Route {
    /// rustup's nightly with rust-src.
    Rustup,
    /// Debian's packages, with the stable compiler told to take unstable options.
    Debian,
}

impl Route {
    /// As in the name of its folder under `target/tools`.
    pub fn name(self) -> &'static str {
        match self {
            Route::Rustup => "rustup",
            Route::Debian => "debian",
        }
    }
}

/// A compiler with matching core sources.
#[derive(Clone, Debug)]
pub struct Compiler {
    route: Route,
    /// `1.96.0`
    release: String,
    /// Major version of its LLVM.
    llvm: u32,
}

/// A compiler and the linker that fits.
#[derive(Clone, Debug)]
pub struct XdpCompiler {
    compiler: Compiler,
    linker: PathBuf,
}

impl fmt::Display for XdpCompiler {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let linker = self
            .linker
            .strip_prefix(cmd::root())
            .unwrap_or(&self.linker);
        write!(formatter, "{}, {}", self.compiler, linker.display())
    }
}

impl fmt::Display for Compiler {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let from = match self.route {
            Route::Rustup => "rustup's nightly with rust-src",
            Route::Debian => "Debian's /usr/bin/rustc with its sources",
        };
        write!(
            formatter,
            "{from} (Rust {}, LLVM {})",
            self.release, self.llvm
        )
    }
}

impl XdpCompiler {
    /// `cargo SUBCOMMAND` for the XDP program.
    pub fn cargo(&self, subcommand: &str) -> Command {
        let mut command = if (self.compiler.route, subcommand) == (Route::Debian, "clippy") {
            // Cargo would take rustup's of that name, when there is one, for a toolchain without core sources.
            let mut command = debian_tool("/usr/bin/cargo-clippy");
            command.env("CARGO", "/usr/bin/cargo");
            command
        } else {
            self.plain_cargo()
        };
        command
            .env("RUSTFLAGS", build::xdp_rust_flags())
            .env("CARGO_TARGET_BPFEL_UNKNOWN_NONE_LINKER", &self.linker)
            .args([
                subcommand,
                "--manifest-path",
                "lb-ebpf/Cargo.toml",
                "--locked",
            ])
            .args(["-Z", "build-std=core", "--target", "bpfel-unknown-none"]);
        command
    }

    /// Whether its clippy is there too.
    pub fn has_clippy(&self) -> bool {
        match self.compiler.route {
            Route::Rustup => cmd::ask(self.plain_cargo().args(["clippy", "--version"])).is_some(),
            Route::Debian => Path::new("/usr/bin/cargo-clippy").exists(),
        }
    }

    /// Debian's packages of the formatter and lints that the compilers in use still lack. What rustup installed,
    /// rustup completes by itself.
    pub fn missing_check_packages(&self) -> Vec<String> {
        let user_space_is_debian =
            std::env::var_os("CARGO").is_some_and(|cargo| cargo == "/usr/bin/cargo");
        let lacks = |program: &str| !Path::new("/usr/bin").join(program).exists();
        let clippy =
            (self.compiler.route == Route::Debian || user_space_is_debian) && lacks("cargo-clippy");
        let rustfmt = user_space_is_debian && lacks("cargo-fmt");
        if !clippy && !rustfmt {
            return Vec::new();
        }
        let owner = cmd::ask(cmd::foreign("dpkg-query").args(["--search", "/usr/bin/cargo"]))
            .unwrap_or_default();
        let Some(rust) = DEBIAN_RUST
            .iter()
            .find(|rust| owner.split(':').next() == Some(rust.cargo))
        else {
            return Vec::new();
        };
        let wanted = [(clippy, rust.clippy), (rustfmt, rust.rustfmt)];
        wanted
            .iter()
            .filter(|(wanted, _)| *wanted)
            .map(|(_, package)| (*package).to_owned())
            .collect()
    }

    fn plain_cargo(&self) -> Command {
        match self.compiler.route {
            Route::Rustup => {
                let mut command = cmd::foreign("rustup");
                command.args(["run", "nightly", "cargo"]);
                command
            }
            Route::Debian => debian_tool("/usr/bin/cargo"),
        }
    }
}

/// A program of Debian's compiler, which takes unstable options only when told so.
fn debian_tool(program: &str) -> Command {
    let mut command = cmd::foreign(program);
    command
        .env("RUSTC", "/usr/bin/rustc")
        .env("RUSTC_BOOTSTRAP", "1");
    command
}

/// A compiler and linker that are ready.
pub fn find() -> Option<XdpCompiler> {
    compilers().into_iter().find_map(|compiler| {
        let linker = linker::find(compiler.route, compiler.llvm)?;
        Some(XdpCompiler { compiler, linker })
    })
}

fn compilers() -> Vec<Compiler> {
    [rustup_nightly(), debian()].into_iter().flatten().collect()
}

fn rustup_nightly() -> Option<Compiler> {
    cmd::find_program("rustup")?;
    let ask = |argument: &[&str]| {
        cmd::ask(
            cmd::foreign("rustup")
                .args(["run", "nightly", "rustc"])
                .args(argument),
        )
    };
    let sysroot = PathBuf::from(ask(&["--print", "sysroot"])?.trim());
    core_sources(&sysroot)?;
    parse_version(Route::Rustup, &ask(&["-vV"])?)
}

fn debian() -> Option<Compiler> {
    if !Path::new("/usr/bin/cargo").exists() {
        return None;
    }
    let compiler = parse_version(
        Route::Debian,
        &cmd::ask(cmd::foreign("/usr/bin/rustc").arg("-vV"))?,
    )?;
    let sources = core_sources(Path::new("/usr"))?;
    // The sources are a package of their own, and land in a folder with the version in its name.
    let matching = sources.to_string_lossy().contains(&compiler.release);
    (matching && is_recent(&compiler.release)).then_some(compiler)
}

/// The folder with the standard library's sources, links followed.
fn core_sources(sysroot: &Path) -> Option<PathBuf> {
    let library = sysroot.join("lib/rustlib/src/rust/library");
    library
        .join("Cargo.lock")
        .exists()
        .then(|| fs::canonicalize(library).ok())?
}

/// Reads what `rustc -vV` prints.
fn parse_version(route: Route, text: &str) -> Option<Compiler> {
    let field = |name: &str| text.lines().find_map(|line| line.strip_prefix(name));
    Some(Compiler {
        route,
        release: field("release: ")?.to_owned(),
        llvm: field("LLVM version: ")?.split('.').next()?.parse().ok()?,
    })
}

fn is_recent(version: &str) -> bool {
    let mut numbers = version
        .split('.')
        .map_while(|number| number.parse::<u32>().ok());
    matches!((numbers.next(), numbers.next()), (Some(major), Some(minor)) if (major, minor) >= OLDEST_RUST)
}

/// Debian's packages of one compiler; bookworm has a recent one, under names of its own, for the browsers.
#[derive(Clone, Copy, Debug)]
pub struct DebianRust {
    rustc: &'static str,
    cargo: &'static str,
    sources: &'static str,
    clippy: &'static str,
    rustfmt: &'static str,
}

const DEBIAN_RUST: [DebianRust; 2] = [
    DebianRust {
        rustc: "rustc-web",
        cargo: "cargo-web",
        sources: "rust-web-src",
        clippy: "rust-web-clippy",
        rustfmt: "rustfmt-web",
    },
    DebianRust {
        rustc: "rustc",
        cargo: "cargo",
        sources: "rust-src",
        clippy: "rust-clippy",
        rustfmt: "rustfmt",
    },
];

/// How to get at a compiler and linker.
#[derive(Debug)]
pub enum Plan {
    /// Nothing to do.
    Ready(XdpCompiler),
    /// The compiler is there, the linker is not.
    Linker(Compiler),
    /// Debian has the compiler.
    Debian(DebianRust),
    /// rustup fetches the compiler.
    Rustup,
}

impl fmt::Display for Plan {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Plan::Ready(ready) => ready.fmt(formatter),
            Plan::Linker(found) => {
                write!(
                    formatter,
                    "{} is ready; bpf-linker for LLVM {} is missing",
                    found, found.llvm
                )
            }
            Plan::Debian(rust) => write!(
                formatter,
                "Debian's {}, {} and {}: apt-get has them, and rustup's nightly with rust-src is not ready",
                rust.rustc, rust.cargo, rust.sources
            ),
            Plan::Rustup => write!(
                formatter,
                "rustup's nightly with rust-src: no other compiler with core sources here"
            ),
        }
    }
}

/// Decides how to get at a compiler and linker.
///
/// # Errors
///
/// When there is no way from here; says what to install.
pub fn plan(apt: Option<&mut Apt>) -> Result<Plan> {
    let mut found = compilers();
    let buildable = |compiler: &Compiler| linker::can_build(compiler.llvm, apt.as_deref());
    if let Some(index) = found.iter().position(buildable) {
        return Ok(Plan::Linker(found.swap_remove(index)));
    }
    // Debian's own rustup cannot be installed beside Debian's compilers.
    let debian_rustup = Path::new("/usr/bin/rustup").exists();
    if let Some(apt) = apt.filter(|_| !debian_rustup) {
        if let Some(plan) = plan_debian(apt) {
            return Ok(plan);
        }
        // A new machine may have no package lists yet, or older ones.
        apt.update()?;
        if let Some(plan) = plan_debian(apt) {
            return Ok(plan);
        }
    }
    // Its linker will have to be downloaded.
    if !found.is_empty() {
        return Ok(Plan::Linker(found.swap_remove(0)));
    }
    if cmd::find_program("rustup").is_some() {
        return Ok(Plan::Rustup);
    }
    let (major, minor) = OLDEST_RUST;
    bail!(
        "there is no compiler with core sources. Install rustup (https://rustup.rs), or on Debian enable \
         bookworm-security, which has rustc-web, cargo-web and rust-web-src {major}.{minor} or newer; then run this again"
    )
}

fn plan_debian(apt: &Apt) -> Option<Plan> {
    DEBIAN_RUST.into_iter().find_map(|rust| {
        let names = [rust.rustc, rust.cargo, rust.sources];
        let candidates = apt.candidates(&names);
        let recent = names.iter().all(|name| {
            candidates
                .get(*name)
                .is_some_and(|version| is_recent(version))
        });
        recent.then_some(Plan::Debian(rust))
    })
}

impl Plan {
    /// Debian's packages that it takes.
    pub fn packages(&self) -> Vec<String> {
        match self {
            Plan::Ready(_) | Plan::Linker(_) | Plan::Rustup => Vec::new(),
            Plan::Debian(rust) => [rust.rustc, rust.cargo, rust.sources]
                .map(str::to_owned)
                .into(),
        }
    }

    /// Installs what packages do not bring, and returns the compiler.
    ///
    /// # Errors
    ///
    /// When a command fails, or the compiler is not there afterwards.
    pub fn carry_out(self, apt: Option<&mut Apt>) -> Result<XdpCompiler> {
        let compiler = match self {
            Plan::Ready(ready) => return Ok(ready),
            Plan::Linker(found) => found,
            Plan::Debian(_) => debian()
                .context("Debian's compiler and its sources are installed and do not match")?,
            Plan::Rustup => {
                let mut command = cmd::foreign("rustup");
                command.args(["toolchain", "install", "nightly", "--profile", "minimal"]);
                command.args(["--component", "rust-src", "--component", "clippy"]);
                cmd::run(&mut command)?;
                rustup_nightly()
                    .context("rustup installed the nightly compiler without rust-src")?
            }
        };
        let linker = match linker::find(compiler.route, compiler.llvm) {
            Some(linker) => linker,
            None => linker::install(compiler.route, compiler.llvm, apt)?,
        };
        Ok(XdpCompiler { compiler, linker })
    }
}
