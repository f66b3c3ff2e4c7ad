//! House rules that no other tool checks.

use std::{fs, path::Path};

use anyhow::{Context, Result, bail};

use crate::cmd;

/// Where `unsafe` may be: the rest of the sources is proven by the compiler.
const UNSAFE: &[&str] = &[
    "lb-common/src/",
    "lb-ebpf/src/",
    "lb-userspace/src/afxdp.rs",
    "lb-userspace/src/afxdp/",
    "lb-userspace/src/sys.rs",
    "lb-userspace/src/sys/",
];

/// Files whose bytes are test data, not text of ours.
const DATA: &[&str] = &["dat", "sip", "bin", "pcap", "png"];

/// Looks at every file that git knows, and at new ones that it does not ignore.
///
/// # Errors
///
/// When a rule is broken; every place has been printed then.
pub fn run() -> Result<()> {
    let list = [
        "ls-files",
        "-z",
        "--cached",
        "--others",
        "--exclude-standard",
    ];
    let files = cmd::ask(cmd::foreign("git").args(list))
        .context("asking git for the files of the project")?;
    let mut faults = 0;
    for path in files.split('\0').filter(|path| !path.is_empty()) {
        if Path::new(path)
            .extension()
            .is_some_and(|extension| DATA.iter().any(|data| extension == *data))
        {
            continue;
        }
        // Deleted and not committed yet, or not text.
        let Ok(text) = fs::read_to_string(cmd::root().join(path)) else {
            continue;
        };
        for fault in faults_of(path, &text) {
            println!("{path}:{fault}");
            faults += 1;
        }
    }
    if faults > 0 {
        bail!("{faults} house rules are broken");
    }
    Ok(())
}

/// `line: what is wrong`, for each place.
fn faults_of(path: &str, text: &str) -> Vec<String> {
    let mut faults = Vec::new();
    let lines = text.lines().count();
    if !text.is_empty() && !text.ends_with('\n') {
        faults.push(format!("{lines}: the last line has no end"));
    }
    if text.ends_with("\n\n") {
        faults.push(format!("{lines}: empty lines at the end"));
    }
    let unsafe_is_allowed = UNSAFE.iter().any(|allowed| path.starts_with(allowed))
        // Tests and labs call the kernel too, outside the product.
        || path.starts_with("tests/");
    for (number, line) in (1..).zip(text.lines()) {
        let mut fault = |what: &str| faults.push(format!("{number}: {what}"));
        if line.trim_end() != line {
            fault("space at the end of the line");
        }
        if HOMES.iter().any(|home| line.contains(home)) {
            fault("a path of one person's machine");
        }
        if !path.ends_with(".rs") {
            continue;
        }
        if !unsafe_is_allowed && has_unsafe(line) {
            fault("unsafe is kept to afxdp/, sys, lb-common and lb-ebpf");
        }
        if line.contains(IGNORE) {
            fault("a test that does not run proves nothing");
        }
    }
    faults
}

/// Written in parts, so that this file passes.
const HOMES: [&str; 3] = [
    concat!("/ho", "me/"),
    concat!("/ro", "ot/"),
    concat!("/Us", "ers/"),
];
const IGNORE: &str = concat!("#[ig", "nore");

fn has_unsafe(line: &str) -> bool {
    let code = line.split("//").next().unwrap_or_default();
    ["{", "fn", "impl", "trait", "extern"]
        .iter()
        .any(|next| code.contains(&format!(concat!("uns", "afe {}"), next)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn faults_are_found_with_their_line() {
        let block = concat!("let a = uns", "afe { b() };\n");
        for (path, text, expected) in [
            ("a.rs", "fn a() {}\n", vec![]),
            ("a.rs", "fn a() {}", vec!["1: the last line has no end"]),
            ("a.md", "a\n\n", vec!["2: empty lines at the end"]),
            ("a.md", "a\nb \n", vec!["2: space at the end of the line"]),
            (
                "a.rs",
                block,
                vec!["1: unsafe is kept to afxdp/, sys, lb-common and lb-ebpf"],
            ),
            ("lb-userspace/src/afxdp/umem.rs", block, vec![]),
            (
                "a.rs",
                "// unsafe { in words }\n#![deny(unsafe_code)]\n",
                vec![],
            ),
            (
                "a.sh",
                concat!("cd /ho", "me/me\n"),
                vec!["1: a path of one person's machine"],
            ),
            (
                "a.rs",
                concat!("#[ig", "nore]\n"),
                vec!["1: a test that does not run proves nothing"],
            ),
        ] {
            assert_eq!(faults_of(path, text), expected, "{path}: {text}");
        }
    }
}
