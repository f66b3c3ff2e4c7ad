//! Reads a corpus: a folder with `expected.tsv`, `provenance.tsv` and the messages that they name.

use std::{
    collections::HashMap,
    fs,
    io::Write,
    path::{Path, PathBuf},
    sync::Once,
};

/// One datagram, and what is known about it. Texts are as the message has them, but for white space: see the README
/// of the corpus for the columns.
pub struct Message {
    /// Path below the folder of the corpus.
    pub file: String,
    pub bytes: Vec<u8>,
    /// `None` for a message that somebody put there without a row.
    pub expected: Option<Expected>,
}

/// What a parser should find; `None` for what is absent or not known.
pub struct Expected {
    pub kind: Option<Kind>,
    pub valid: Valid,
    columns: HashMap<String, Vec<u8>>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    Request,
    Response,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Valid {
    Yes,
    No,
    Unspecified,
}

/// The messages that are part of the project.
pub fn own() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../lb-userspace/tests/data/corpus")
}

/// The corpus that is not part of the project, for the licences of its messages: the folder that `SIPLB_CORPUS` names,
/// which then has to be there, or else `../shared/corpus` beside the checkout.
pub fn outside() -> Option<PathBuf> {
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

/// Our messages and those from outside that are not among them; says so when there is no outside.
pub fn all() -> Vec<Message> {
    static SAID: Once = Once::new();
    let mut messages = load(&own());
    match outside() {
        Some(folder) => messages.extend(
            load(&folder)
                .into_iter()
                .filter(|message| !own().join(&message.file).exists()),
        ),
        None => SAID.call_once(|| {
            // Not by a macro, whose text a test that passes would keep to itself.
            let _ = writeln!(
                std::io::stderr(),
                "SKIPPED: all messages but the {} of the project. There is no corpus beside the checkout \
                 (../shared/corpus), and SIPLB_CORPUS names none.",
                messages.len()
            );
        }),
    }
    messages
}

/// All messages of a folder, by name.
pub fn load(folder: &Path) -> Vec<Message> {
    let table = folder.join("expected.tsv");
    let mut rows: HashMap<_, _> = match table.is_file() {
        true => rows(&table).into_iter().map(with_name).collect(),
        false => HashMap::new(),
    };
    let mut files = Vec::new();
    find(folder, folder, &mut files);
    files.sort();
    let messages = files.into_iter().map(|file| Message {
        bytes: fs::read(folder.join(&file)).expect("a message that can be read"),
        expected: rows.remove(&file).map(Expected::from_row),
        file,
    });
    let messages: Vec<_> = messages.collect();
    assert!(!messages.is_empty(), "no messages in {}", folder.display());
    let missing: Vec<_> = rows.keys().collect();
    assert!(missing.is_empty(), "rows without a message: {missing:?}");
    messages
}

/// The rows of a table by the names of its columns.
pub fn rows(table: &Path) -> Vec<HashMap<String, Vec<u8>>> {
    let text =
        fs::read_to_string(table).unwrap_or_else(|error| panic!("{}: {error}", table.display()));
    let mut lines = text.lines();
    let names: Vec<_> = lines.next().expect("a header line").split('\t').collect();
    let rows = lines.map(|line| {
        let values: Vec<_> = line.split('\t').collect();
        assert_eq!(values.len(), names.len(), "{}: {line}", table.display());
        let named = names.iter().zip(values).filter(|(_, value)| *value != "-");
        named
            .map(|(name, value)| ((*name).to_owned(), unescaped(value)))
            .collect()
    });
    rows.collect()
}

fn with_name(row: HashMap<String, Vec<u8>>) -> (String, HashMap<String, Vec<u8>>) {
    (text(&row["file"]), row)
}

pub fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// `\xNN` is an octet, `\\` is a backslash.
fn unescaped(text: &str) -> Vec<u8> {
    let mut bytes = Vec::new();
    let mut rest = text;
    while let Some(at) = rest.find('\\') {
        bytes.extend(rest[..at].bytes());
        rest = &rest[at + 1..];
        let taken = if let Some(digits) = rest.strip_prefix('x').and_then(|rest| rest.get(..2)) {
            bytes.push(u8::from_str_radix(digits, 16).expect("two hexadecimal digits"));
            3
        } else {
            assert!(rest.starts_with('\\'), "an escape in {text}");
            bytes.push(b'\\');
            1
        };
        rest = &rest[taken..];
    }
    bytes.extend(rest.bytes());
    bytes
}

fn find(root: &Path, folder: &Path, files: &mut Vec<String>) {
    for entry in fs::read_dir(folder).expect("a folder that can be read") {
        let path = entry.expect("an entry").path();
        if path.is_dir() {
            find(root, &path, files);
        } else if path
            .extension()
            .is_some_and(|extension| extension == "sip" || extension == "bin")
        {
            let below = path.strip_prefix(root).expect("a path below the folder");
            files.push(below.to_str().expect("a name in UTF-8").to_owned());
        }
    }
}

impl Message {
    /// The first part of the path.
    pub fn category(&self) -> &str {
        self.file.split('/').next().unwrap_or_default()
    }

    pub fn valid(&self) -> Valid {
        self.expected
            .as_ref()
            .map_or(Valid::Unspecified, |expected| expected.valid)
    }

    /// What the rows say, or the start line when there is no row; `None` for what no reader takes for SIP.
    pub fn kind(&self) -> Option<Kind> {
        match &self.expected {
            Some(expected) => expected.kind,
            None if self.bytes.starts_with(b"SIP/2.0 ") => Some(Kind::Response),
            None => Some(Kind::Request),
        }
    }
}

impl Expected {
    fn from_row(columns: HashMap<String, Vec<u8>>) -> Self {
        let word = |name: &str| columns.get(name).map(Vec::as_slice);
        Self {
            kind: match word("kind") {
                Some(b"request") => Some(Kind::Request),
                Some(b"response") => Some(Kind::Response),
                None => None,
                Some(_) => panic!("another kind in {columns:?}"),
            },
            valid: match word("valid") {
                Some(b"yes") => Valid::Yes,
                Some(b"no") => Valid::No,
                Some(b"unspecified") => Valid::Unspecified,
                _ => panic!("another validity in {columns:?}"),
            },
            columns,
        }
    }

    /// A column by its name.
    pub fn get(&self, column: &str) -> Option<&[u8]> {
        self.columns.get(column).map(Vec::as_slice)
    }
}
