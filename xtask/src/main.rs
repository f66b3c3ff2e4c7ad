//! Every task that a person or CI runs: `cargo xtask TASK`. One file per task; this one only dispatches.

mod bench;
mod build;
mod check;
mod cmd;
mod demo;
mod fuzz;
mod profile;
mod setup;
mod test;
mod tidy;

use std::process::ExitCode;

const HELP: &str = "\
Tasks of the siplb workspace.

Usage: cargo xtask TASK [OPTIONS]

  setup    find what is missing to build, test and run the demo, and install it
  build    compile the XDP program, then siplb and the demo (release)
  demo     send real SIPp calls through siplb in a lab of network namespaces
  test     format, lints, unit tests, the XDP program, labs with real SIPp
  fuzz     fuzz targets, side by side (part of test)
  bench    how long a message takes, and how many instructions
  check    format, lints, documentation, house rules (part of test)

`bench`, `build`, `check`, `demo` and `test` run what they need of `setup` and `build` themselves.
`cargo xtask TASK --help` tells more about one task.
";

fn main() -> ExitCode {
    if let Some(flag) = std::env::var_os(profile::FLAG) {
        return match profile::rustc(flag) {
            Ok(()) => ExitCode::SUCCESS,
            Err(error) => {
                eprintln!("error: {error:#}");
                ExitCode::FAILURE
            }
        };
    }
    let mut arguments = std::env::args().skip(1);
    let task = arguments.next();
    let rest: Vec<String> = arguments.collect();
    let result = match task.as_deref() {
        Some("setup") => setup::main(&rest),
        Some("build") => build::main(&rest),
        Some("demo") => demo::main(&rest),
        Some("test") => test::main(&rest),
        Some("bench") => bench::main(&rest),
        Some("check") => check::main(&rest),
        Some("fuzz") => fuzz::main(&rest),
        Some("help" | "--help" | "-h") => {
            print!("{HELP}");
            Ok(())
        }
        None => {
            eprint!("{HELP}");
            return ExitCode::from(2);
        }
        Some(other) => {
            eprint!("there is no task {other:?}\n\n{HELP}");
            return ExitCode::from(2);
        }
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => match error.downcast_ref::<cmd::Usage>() {
            Some(usage) => {
                eprintln!("{usage}");
                ExitCode::from(2)
            }
            None => {
                eprintln!("\nerror: {error:#}");
                ExitCode::FAILURE
            }
        },
    }
}
