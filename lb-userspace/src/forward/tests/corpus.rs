//! Real and hostile messages, when there are any: `SIPLB_CORPUS` names a folder of `.sip` files, or one lies beside the
//! checkout at `../shared/corpus`.

use std::{
    fs,
    path::{Path, PathBuf},
};

use super::edge::*;
use crate::{forward::Action, sip};

/// The folder, and whether somebody asked for it by name.
fn corpus() -> Option<PathBuf> {
    if let Some(named) = std::env::var_os("SIPLB_CORPUS") {
        let path = PathBuf::from(named);
        assert!(
            path.is_dir(),
            "SIPLB_CORPUS is not a folder: {}",
            path.display()
        );
        return Some(path);
    }
    let beside = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../shared/corpus");
    beside.is_dir().then_some(beside)
}

fn messages(folder: &Path, found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            messages(&path, found);
        } else if path.extension().is_some_and(|extension| extension == "sip") {
            found.push(path);
        }
    }
}

/// [`Edge::send`] checks what holds for every datagram: no panic, bounded replies, checksums that follow from the edits.
#[test]
fn every_message_is_survived_and_no_reply_is_long() {
    let Some(folder) = corpus() else {
        eprintln!("skipped: no corpus; SIPLB_CORPUS may name one");
        return;
    };
    let mut paths = Vec::new();
    messages(&folder, &mut paths);
    assert!(!paths.is_empty(), "no .sip files in {}", folder.display());
    let mut edge = Edge::new();
    let mut forwarded = 0;
    for path in &paths {
        let bytes = fs::read(path).unwrap();
        for source in [CLIENT, CLIENT6, BACKENDS[0]] {
            let sent = edge.send(source, &bytes);
            // A request that went on can be read by who gets it.
            if let Action::Forward { .. } = sent.verdict.action {
                let message = sip::read(&sent.bytes).unwrap();
                assert_eq!(message.fault, None, "{}: {}", path.display(), sent.text());
                forwarded += 1;
            }
        }
    }
    assert!(forwarded > 0);
    eprintln!(
        "{} messages, forwarded {forwarded} times from three sources",
        paths.len()
    );
}
