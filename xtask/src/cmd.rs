//! Running other programs: shown before they start, timed, and free of what `cargo run` put into our environment.

use std::{
    env,
    ffi::{OsStr, OsString},
    fmt,
    io::{IsTerminal, Write},
    path::{Path, PathBuf},
    process::{Command, Stdio},
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail};

/// What takes longer than this is worth a line with its time.
const WORTH_TELLING: Duration = Duration::from_secs(2);

/// Wrong arguments: exit status 2, no `error:` before it.
#[derive(Debug)]
pub struct Usage(pub String);

impl fmt::Display for Usage {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.0)
    }
}

impl std::error::Error for Usage {}

/// Whether the arguments ask for help only; prints it then.
pub fn wants_help(arguments: &[String], help: &str) -> bool {
    let wanted = arguments
        .iter()
        .take_while(|argument| *argument != "--")
        .any(|argument| argument == "--help" || argument == "-h");
    if wanted {
        print!("{help}");
    }
    wanted
}

/// The error for an argument that a task does not know.
pub fn unknown_argument(argument: &str, help: &str) -> anyhow::Error {
    Usage(format!("unknown argument {argument:?}\n\n{help}")).into()
}

/// The workspace's folder.
pub fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .parent()
        .expect("xtask lies in the workspace")
}

/// `target/` of the workspace, wherever cargo puts its own files.
pub fn target() -> PathBuf {
    root().join("target")
}

/// The cargo that runs us, for user space; its toolchain is the one that `rust-toolchain.toml` names.
pub fn cargo() -> Command {
    let mut command = Command::new(env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    command.current_dir(root());
    for name in run_variables() {
        command.env_remove(name);
    }
    command
}

/// A program of another toolchain than the one that runs us: nothing of ours may steer it.
pub fn foreign(program: impl AsRef<OsStr>) -> Command {
    let mut command = Command::new(program);
    command.current_dir(root());
    for name in run_variables() {
        command.env_remove(name);
    }
    for (name, _) in env::vars_os() {
        let Some(text) = name.to_str() else { continue };
        let steers = text.starts_with("RUSTC")
            || text.starts_with("RUSTDOC")
            || text.starts_with("CARGO_TARGET")
            || text.starts_with("CARGO_PROFILE")
            || (text.starts_with("CARGO_BUILD_") && text != "CARGO_BUILD_JOBS")
            || matches!(
                text,
                "RUSTUP_TOOLCHAIN" | "RUSTFLAGS" | "CARGO_ENCODED_RUSTFLAGS" | "LD_LIBRARY_PATH"
            );
        if steers {
            command.env_remove(name);
        }
    }
    command
}

/// Variables that `cargo run` sets for xtask; build scripts must not take them for their own.
fn run_variables() -> impl Iterator<Item = OsString> {
    env::vars_os().map(|(name, _)| name).filter(|name| {
        name.to_str().is_some_and(|name| {
            name == "CARGO" || name.starts_with("CARGO_MANIFEST_") || name.starts_with("CARGO_PKG_")
        })
    })
}

/// A heading for a step.
pub fn step(text: &str) {
    if std::io::stdout().is_terminal() {
        println!("\x1b[1m== {text}\x1b[0m");
    } else {
        println!("== {text}");
    }
}

/// Runs a command that must succeed; prints it first, and how long it took when that is worth telling.
///
/// # Errors
///
/// When it cannot be started or does not exit with status 0.
pub fn run(command: &mut Command) -> Result<()> {
    let line = show(command);
    println!("$ {line}");
    // What the child prints must come after what we printed.
    std::io::stdout()
        .flush()
        .context("writing to standard output")?;
    let started = Instant::now();
    let status = command
        .stdin(Stdio::inherit())
        .status()
        .with_context(|| format!("starting `{}`", command.get_program().display()))?;
    let took = started.elapsed();
    if !status.success() {
        bail!("`{line}` failed after {}: {status}", seconds(took));
    }
    if took >= WORTH_TELLING {
        println!("  done in {}", seconds(took));
    }
    Ok(())
}

/// Standard output of a quiet question to a program, `None` when it is not there or says no.
pub fn ask(command: &mut Command) -> Option<String> {
    let output = command
        .stdin(Stdio::null())
        .stderr(Stdio::null())
        .output()
        .ok()?;
    output
        .status
        .success()
        .then(|| String::from_utf8_lossy(&output.stdout).into_owned())
}

/// A duration as people read it: `61 s`.
pub fn seconds(duration: Duration) -> String {
    if duration < Duration::from_secs(10) {
        format!("{:.1} s", duration.as_secs_f64())
    } else {
        format!("{} s", duration.as_secs())
    }
}

/// Where a program lies: `PATH` first, then the folders of the administrator, which a user's `PATH` may lack.
pub fn find_program(name: &str) -> Option<PathBuf> {
    let path = env::var_os("PATH").unwrap_or_default();
    env::split_paths(&path)
        .chain(["/usr/local/sbin", "/usr/sbin", "/sbin"].map(PathBuf::from))
        .map(|folder| folder.join(name))
        .find(|program| is_executable(program))
}

fn is_executable(program: &Path) -> bool {
    use std::os::unix::fs::PermissionsExt;
    program
        .metadata()
        .is_ok_and(|metadata| metadata.is_file() && metadata.permissions().mode() & 0o111 != 0)
}

/// Whether we are root.
pub fn is_root() -> bool {
    std::fs::read_to_string("/proc/self/status").is_ok_and(|status| {
        status
            .lines()
            .find_map(|line| line.strip_prefix("Uid:"))
            .and_then(|ids| ids.split_whitespace().nth(1))
            == Some("0")
    })
}

/// Whether a machine runs this, where what is missing must fail rather than be skipped.
pub fn is_ci() -> bool {
    env::var_os("CI").is_some_and(|value| !value.is_empty() && value != "false" && value != "0")
}

/// A command as one would type it, with the variables that it sets.
fn show(command: &Command) -> String {
    let mut words = Vec::new();
    for (name, value) in command.get_envs() {
        if let Some(value) = value {
            words.push(format!(
                "{}={}",
                name.display(),
                quote(&value.to_string_lossy())
            ));
        }
    }
    words.push(quote(&relative(command.get_program())));
    words.extend(
        command
            .get_args()
            .map(|argument| quote(&argument.to_string_lossy())),
    );
    words.join(" ")
}

/// The cargo that runs us is shown by its name: its path says nothing to a reader.
fn relative(program: &OsStr) -> String {
    if env::var_os("CARGO").is_some_and(|cargo| cargo == program) {
        return "cargo".to_owned();
    }
    program.to_string_lossy().into_owned()
}

fn quote(word: &str) -> String {
    let plain =
        |character: char| character.is_ascii_alphanumeric() || "-_./=:,@%+*".contains(character);
    if !word.is_empty() && word.chars().all(plain) {
        word.to_owned()
    } else {
        format!("'{}'", word.replace('\'', r"'\''"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn commands_are_shown_as_typed() {
        let mut command = Command::new("rustc");
        command
            .env("RUSTC_BOOTSTRAP", "1")
            .args(["--cfg", "a=\"b c\"", ""]);
        assert_eq!(
            show(&command),
            r#"RUSTC_BOOTSTRAP=1 rustc --cfg 'a="b c"' ''"#
        );
    }

    #[test]
    fn a_failing_command_is_an_error_that_names_it() {
        let error = run(Command::new("false").arg("x")).expect_err("false fails");
        assert!(error.to_string().starts_with("`false x` failed"), "{error}");
    }
}
