//! What handles messages does not log: no line for each message, and nothing of one in any line.

use std::{
    fs,
    path::{Path, PathBuf},
};

/// Sources that see messages, below `src`.
const SEE_MESSAGES: [&str; 14] = [
    "balance",
    "control/hep/packet.rs",
    "forward",
    "frame",
    "kernel_socket.rs",
    "limit",
    "names",
    "nat",
    "sip",
    "stats",
    "tap",
    "token",
    "validate",
    "worker",
];

fn sources(path: &Path, into: &mut Vec<PathBuf>) {
    if path.is_dir() {
        for entry in fs::read_dir(path).unwrap() {
            sources(&entry.unwrap().path(), into);
        }
    } else if path.exists() {
        into.push(path.to_owned());
    }
}

#[test]
fn what_sees_messages_does_not_log() {
    let src = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut files = Vec::new();
    for name in SEE_MESSAGES {
        let before = files.len();
        sources(&src.join(name), &mut files);
        if !name.ends_with(".rs") {
            sources(&src.join(format!("{name}.rs")), &mut files);
        }
        assert!(files.len() > before, "there is no {name} any more");
    }
    for file in files {
        let text = fs::read_to_string(&file).unwrap();
        for (number, line) in (1..).zip(text.lines()) {
            let logs = ["log::", "println!", "LogLimit"].iter().find(|word| {
                let code = line.split("//").next().unwrap_or_default();
                code.contains(**word)
            });
            // Tests may say what they see.
            let is_test = file.components().any(|part| {
                let name = part.as_os_str().to_string_lossy();
                name == "tests" || name == "tests.rs"
            });
            assert!(
                is_test || logs.is_none(),
                "{}:{number}: {line}",
                file.display()
            );
        }
    }
}
