//! What fuzzing starts from: messages, brought into the form of each target's input.

use std::{
    env, fs,
    path::{Path, PathBuf},
};

use anyhow::{Context, Result};

use crate::cmd;

/// Longer ones make a fuzzer slow and teach it nothing that shorter ones do not.
const MAX_LEN: u64 = 4096;

/// Writes the seeds of a target to a folder, which holds nothing else afterwards.
///
/// # Errors
///
/// When files cannot be read or written.
pub fn write(target: &str, folder: &Path) -> Result<()> {
    if folder.exists() {
        fs::remove_dir_all(folder).with_context(|| format!("emptying {}", folder.display()))?;
    }
    fs::create_dir_all(folder).with_context(|| format!("creating {}", folder.display()))?;
    let mut inputs = Vec::new();
    for file in messages()? {
        let message = read(&file)?;
        inputs.extend(
            prefixes(target)
                .iter()
                .map(|prefix| [prefix, &message[..]].concat()),
        );
    }
    // By hand, for what needs signatures.
    let own = cmd::root().join("lb-userspace/fuzz/seeds").join(target);
    let mut files = Vec::new();
    if own.exists() {
        find(&own, "bin", &mut files)?;
    }
    for file in &files {
        inputs.push(read(file)?);
    }
    for (number, input) in inputs.iter().enumerate() {
        let path = folder.join(format!("{number:05}"));
        fs::write(&path, input).with_context(|| format!("writing {}", path.display()))?;
    }
    println!("  {target}: {} seeds", inputs.len());
    Ok(())
}

/// What goes before a message to make an input of it; see the targets.
fn prefixes(target: &str) -> &'static [&'static [u8]] {
    match target {
        // Configuration, source, listener: from a client, from a backend, and where NAT is mended or messages validated.
        "forward" => &[b"000", b"110", b"200", b"300", b"400", b"500"],
        // Three edits: in place, an insertion, a removal.
        "edit" => {
            &[b"\x03\x00\x08\x04\x05\x10\x00\x00\x40\x00\x09\x30\x00\x00\x60\x21\x00\x00\x00"]
        }
        _ => &[b""],
    }
}

/// All messages that there are.
fn messages() -> Result<Vec<PathBuf>> {
    let mut files = Vec::new();
    let beside = cmd::root().join("../shared/corpus");
    let named = env::var_os("SIPLB_CORPUS").map_or(beside, PathBuf::from);
    for folder in [cmd::root().join("lb-userspace/tests/data"), named] {
        if folder.is_dir() {
            find(&folder, "sip", &mut files)?;
        }
    }
    files.sort();
    Ok(files)
}

fn find(folder: &Path, extension: &str, found: &mut Vec<PathBuf>) -> Result<()> {
    let reading = || format!("reading {}", folder.display());
    for entry in fs::read_dir(folder).with_context(reading)? {
        let entry = entry.with_context(reading)?;
        let metadata = entry.metadata().with_context(reading)?;
        let path = entry.path();
        if metadata.is_dir() {
            find(&path, extension, found)?;
        } else if path.extension().is_some_and(|found| found == extension)
            && metadata.len() <= MAX_LEN
        {
            found.push(path);
        }
    }
    Ok(())
}

fn read(file: &Path) -> Result<Vec<u8>> {
    fs::read(file).with_context(|| format!("reading {}", file.display()))
}
