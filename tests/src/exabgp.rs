//! ExaBGP on an edge: the file that ships in `scripts/`, which has the addresses of the first one.

use std::{fs, path::Path, process::Command};

use anyhow::{Context, Result, ensure};

use crate::{host::Host, lab::Lab, process::Process, siplb::Client};

/// What the file runs to learn whether to announce.
const SHIPPED: &str = "/usr/bin/siplb exabgp";

/// Starts ExaBGP in `host`, where it asks a node. It has talked to nobody yet when this returns.
///
/// # Errors
///
/// When it cannot be started, or the file has no such process.
pub fn start(lab: &Lab, host: &Host, name: &str, node: &Client) -> Result<Process> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../scripts/exabgp.conf");
    let text = fs::read_to_string(&path).with_context(|| format!("cannot read {path:?}"))?;
    ensure!(text.contains(SHIPPED), "no {SHIPPED:?} in {path:?}");
    let ask = node.command(&["exabgp"])?;
    let words = [ask.get_program()].into_iter().chain(ask.get_args());
    let words: Vec<_> = words.map(|word| word.to_string_lossy()).collect();
    let configuration = lab.dir().join(format!("{name}.conf"));
    fs::write(&configuration, text.replace(SHIPPED, &words.join(" ")))?;
    let mut command = Command::new("exabgp");
    command
        .arg(&configuration)
        .env("exabgp.daemon.user", "root")
        .env("exabgp.api.cli", "false")
        .env("exabgp.log.destination", "stdout");
    lab.spawn(host, name, command)
}
