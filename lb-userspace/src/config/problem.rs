//! What is wrong with a configuration, and where.

use std::fmt;

use super::locate::{Locator, Path};

/// Everything that is wrong with a configuration, in the order of the file. Never empty.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConfigError {
    problems: Vec<Problem>,
}

impl ConfigError {
    /// The problems in the order of the file.
    pub fn problems(&self) -> &[Problem] {
        &self.problems
    }

    pub(super) fn whole_file(file: &str, what: String) -> Self {
        let problem = Problem {
            file: file.to_owned(),
            line: None,
            path: String::new(),
            what,
        };
        Self {
            problems: vec![problem],
        }
    }
}

/// One line a problem.
impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, problem) in self.problems.iter().enumerate() {
            if index > 0 {
                f.write_str("\n")?;
            }
            problem.fmt(f)?;
        }
        Ok(())
    }
}

impl std::error::Error for ConfigError {}

/// One thing that is wrong.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// As it was given.
    pub file: String,
    /// Line and column, both counted from 1, columns in characters; `None` when the file as a whole is meant.
    pub line: Option<(usize, usize)>,
    /// Which value, such as `pools[0].backends[1].address`; empty when the file as a whole is meant.
    pub path: String,
    /// The value, why it will not do, and what to write instead.
    pub what: String,
}

/// `file:line:column: path: what`
impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:", self.file)?;
        if let Some((line, column)) = self.line {
            write!(f, "{line}:{column}:")?;
        }
        if !self.path.is_empty() {
            write!(f, " {}:", self.path)?;
        }
        write!(f, " {}", self.what)
    }
}

/// Problems as they are found, with what is needed to say where they are.
pub(super) struct Problems {
    file: String,
    locator: Locator,
    found: Vec<Problem>,
}

impl Problems {
    pub(super) fn new(file: &str, locator: Locator) -> Self {
        Self {
            file: file.to_owned(),
            locator,
            found: Vec::new(),
        }
    }

    /// Something is wrong with the value at `path`, or with it missing there.
    pub(super) fn add(&mut self, path: &Path, what: impl Into<String>) {
        let position = self.locator.value(path);
        self.push(path, position, what.into());
    }

    /// Something is wrong with the key that `path` ends in.
    pub(super) fn add_at_key(&mut self, path: &Path, what: impl Into<String>) {
        let position = self.locator.key(path);
        self.push(path, position, what.into());
    }

    /// Something is wrong with the text at a line and column.
    pub(super) fn add_at(&mut self, position: (usize, usize), what: impl Into<String>) {
        self.push(&Path::root(), position, what.into());
    }

    fn push(&mut self, path: &Path, position: (usize, usize), what: String) {
        self.found.push(Problem {
            file: self.file.clone(),
            line: Some(position),
            path: path.to_string(),
            what,
        });
    }

    /// Line of the value at `path`.
    pub(super) fn line(&self, path: &Path) -> usize {
        self.locator.value(path).0
    }

    pub(super) fn count(&self) -> usize {
        self.found.len()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.found.is_empty()
    }

    /// All that was found, in the order of the file. Not to be called when nothing was.
    pub(super) fn into_error(mut self) -> ConfigError {
        debug_assert!(!self.found.is_empty());
        self.found.sort_by_key(|problem| problem.line);
        ConfigError {
            problems: self.found,
        }
    }
}
