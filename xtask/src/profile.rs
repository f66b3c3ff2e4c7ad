//! The profile that siplb is compiled with: which ways through the code messages take (profile-guided optimisation).
//!
//! The compiler lays out and inlines by it what a message runs through, which takes a fifth of the time off. It is made
//! anew when the sources or the compiler change: `siplb-training` is compiled with counters in every branch and run.
//!
//! Only lb-userspace and the programs are compiled with counters and with the profile, by [`rustc`], which cargo calls in
//! place of the compiler. What they depend on is compiled as ever, once for all. Cargo knows nothing of the flags, so the
//! build script of lb-userspace asks to be told when they change.

use std::{
    env,
    ffi::OsString,
    fs,
    hash::{DefaultHasher, Hash, Hasher},
    os::unix::process::CommandExt,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context, Result};

use crate::cmd;

/// What [`rustc`] adds to the arguments of the compiler. Not set: we are not called as one.
pub const FLAG: &str = "SIPLB_PROFILE_FLAG";

/// What a profile depends on: the code, what it is compiled with, and the messages.
const SOURCES: [&str; 13] = [
    ".cargo/config.toml",
    "Cargo.lock",
    "Cargo.toml",
    "lb-common",
    "lb-userspace/Cargo.toml",
    "lb-userspace/src",
    "lb-userspace/benches/core.rs",
    "lb-userspace/benches/edge.rs",
    "lb-userspace/benches/messages",
    "lb-userspace/tests/data/corpus/real",
    "lb-userspace/tests/data/corpus/fixture",
    "tests/Cargo.toml",
    "tests/src/bin/siplb-training",
];

/// Called by cargo: runs the compiler in our place, with the flag for what becomes a part of siplb.
///
/// # Errors
///
/// When the compiler cannot be started.
pub fn rustc(flag: OsString) -> Result<()> {
    let mut arguments = env::args_os().skip(1);
    let compiler = arguments.next().context("cargo names the compiler first")?;
    let arguments: Vec<OsString> = arguments.collect();
    let mut command = Command::new(&compiler);
    command.args(&arguments);
    if takes_profile(&arguments) {
        command.arg(flag);
    }
    let error = command.exec();
    Err(error).with_context(|| format!("starting {}", compiler.display()))
}

/// What the flags are for: the library, siplb, and the trainings of both, of which the second one is the bench `core`. Build scripts
/// have other names.
const CRATES: [&str; 4] = ["lb_userspace", "siplb", "siplb_training", "core"];

fn takes_profile(arguments: &[OsString]) -> bool {
    let name = arguments
        .windows(2)
        .find_map(|pair| (pair[0] == "--crate-name").then_some(&pair[1]));
    name.is_some_and(|name| CRATES.iter().any(|known| name == known))
}

/// A program that shows which ways messages take.
pub struct Training<'a> {
    /// Of the profile.
    pub name: &'a str,
    /// Compiles it.
    pub compile: &'a dyn Fn() -> Command,
    /// Runs it.
    pub run: &'a dyn Fn() -> Command,
}

/// What crates are compiled with.
#[derive(Clone, Debug)]
pub struct Flag(String);

impl Flag {
    /// Has a command of cargo's compile lb-userspace and the programs with it.
    ///
    /// # Errors
    ///
    /// When our own program has no path.
    pub fn apply(&self, command: &mut Command) -> Result<()> {
        let wrapper = env::current_exe().context("asking where xtask is")?;
        command.env("RUSTC_WORKSPACE_WRAPPER", wrapper);
        command.env(FLAG, &self.0);
        Ok(())
    }
}

/// The flag that compiles with a profile of this training. It is made first when there is none of these sources. `None`, loudly,
/// where the compiler's parts for it are missing.
///
/// # Errors
///
/// When the training cannot be compiled or run.
pub fn ensure(training: &Training<'_>) -> Result<Option<Flag>> {
    let tools = match Tools::find() {
        Ok(tools) => tools,
        Err(missing) => {
            let line = "!".repeat(100);
            println!(
                "{line}\n!! NO PROFILE: {missing}.\n!! siplb does the same without, and takes a quarter more time for a message.\n{line}"
            );
            return Ok(None);
        }
    };
    let folder = cmd::target().join("profile");
    let profile = folder.join(format!("{}.profdata", training.name));
    let (stamp, key) = (profile.with_extension("made-from"), tools.key()?);
    if !profile.exists() || !fs::read_to_string(&stamp).is_ok_and(|made_from| made_from == key) {
        cmd::step("profile: which ways messages take");
        fs::create_dir_all(&folder).with_context(|| format!("creating {}", folder.display()))?;
        train(training, &tools, &profile)?;
        fs::write(&stamp, key).with_context(|| format!("writing {}", stamp.display()))?;
    }
    Ok(Some(Flag(format!("-Cprofile-use={}", profile.display()))))
}

/// Counts, and writes the profile.
fn train(training: &Training<'_>, tools: &Tools, profile: &Path) -> Result<()> {
    // Where counts go is said when it runs.
    let counting = Flag(format!("-Cprofile-generate={}", cmd::target().display()));
    let mut compile = (training.compile)();
    counting.apply(&mut compile)?;
    cmd::run(&mut compile)?;

    let counts = profile.with_extension("profraw");
    let mut run = (training.run)();
    counting.apply(&mut run)?;
    cmd::run(run.env("LLVM_PROFILE_FILE", &counts))?;
    cmd::run(
        cmd::foreign(&tools.profdata)
            .args(["merge", "--output"])
            .arg(profile)
            .arg(&counts),
    )?;
    fs::remove_file(&counts).with_context(|| format!("removing {}", counts.display()))
}

/// What a profile takes besides the compiler.
struct Tools {
    /// Turns counts into a profile.
    profdata: PathBuf,
    /// What `rustc -vV` says.
    compiler: String,
}

impl Tools {
    /// What of it is missing is the error.
    fn find() -> Result<Tools, String> {
        let ask = |argument: &[&str]| {
            let mut command = cmd::foreign(env::var_os("RUSTC").unwrap_or("rustc".into()));
            cmd::ask(command.args(argument)).unwrap_or_default()
        };
        let compiler = ask(&["-vV"]);
        let field = |name: &str| compiler.lines().find_map(|line| line.strip_prefix(name));
        let (Some(host), Some(llvm)) = (field("host: "), field("LLVM version: ")) else {
            return Err("`rustc -vV` does not say its host and its LLVM".to_owned());
        };
        let llvm = llvm.split('.').next().unwrap_or_default();
        let sysroot = PathBuf::from(ask(&["--print", "sysroot"]).trim());
        let libraries = sysroot.join("lib/rustlib").join(host);
        if !has_profiler(&libraries.join("lib")) {
            return Err("this compiler has no library profiler_builtins".to_owned());
        }
        // The compiler's own comes with rustup's component llvm-tools, another one with Debian's LLVM, which bpf-linker takes.
        let candidates = [
            Some(libraries.join("bin/llvm-profdata")),
            cmd::find_program(&format!("llvm-profdata-{llvm}")),
            Some(PathBuf::from(format!(
                "/usr/lib/llvm-{llvm}/bin/llvm-profdata"
            ))),
        ];
        let profdata = candidates.into_iter().flatten().find(|tool| tool.exists());
        let profdata = profdata.ok_or_else(|| {
            format!("there is no llvm-profdata of LLVM {llvm} (Debian: llvm-{llvm}; rustup component add llvm-tools)")
        })?;
        Ok(Tools { profdata, compiler })
    }

    /// Differs when a profile has to be made anew.
    fn key(&self) -> Result<String> {
        let mut hasher = DefaultHasher::new();
        self.compiler.hash(&mut hasher);
        for source in SOURCES {
            hash(&cmd::root().join(source), &mut hasher)?;
        }
        Ok(format!("{:016x}\n", hasher.finish()))
    }
}

fn has_profiler(libraries: &Path) -> bool {
    let names = fs::read_dir(libraries).into_iter().flatten().flatten();
    names
        .map(|entry| entry.file_name())
        .any(|name| name.to_string_lossy().starts_with("libprofiler_builtins"))
}

/// Names and contents of a file, or of all in a folder.
fn hash(path: &Path, hasher: &mut impl Hasher) -> Result<()> {
    let failed = || format!("reading {}", path.display());
    path.hash(hasher);
    if !path.is_dir() {
        fs::read(path).with_context(failed)?.hash(hasher);
        return Ok(());
    }
    let entries = fs::read_dir(path).with_context(failed)?;
    let mut paths = entries
        .map(|entry| Ok(entry?.path()))
        .collect::<Result<Vec<_>>>()
        .with_context(failed)?;
    paths.sort();
    paths.iter().try_for_each(|path| hash(path, hasher))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_becomes_siplb_takes_the_profile_alone() {
        for (line, expected) in [
            ("--crate-name lb_userspace --edition=2024 src/lib.rs", true),
            ("--edition=2024 --crate-name siplb src/main.rs", true),
            ("--crate-name build_script_build build.rs", false),
            ("--crate-name lb_common src/lib.rs", false),
            ("- --crate-name ___ --print=file-names", false),
            ("-vV", false),
        ] {
            let arguments: Vec<OsString> = line.split(' ').map(Into::into).collect();
            assert_eq!(takes_profile(&arguments), expected, "{line}");
        }
    }
}
