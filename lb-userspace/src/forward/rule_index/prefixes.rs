//! What a text begins with, of many beginnings.

use std::collections::BTreeMap;

use super::{Row, RowsBuilder};

/// Beginnings with their rows. The row of one has the rules of all that it begins with itself, so the longest one that a text
/// begins with says all.
#[derive(Debug)]
pub struct Prefixes {
    sorted: Vec<Prefix>,
    others: Row,
}

#[derive(Debug)]
struct Prefix {
    text: Vec<u8>,
    row: Row,
    /// The longest other one that this begins with.
    shorter: Option<usize>,
}

impl Prefixes {
    /// `others` is the row of a text that begins with none of them.
    pub fn new(others: Row, askers: BTreeMap<Vec<u8>, Vec<usize>>, rows: &mut RowsBuilder) -> Self {
        let mut prefixes = Self {
            sorted: Vec::new(),
            others,
        };
        for (text, askers) in askers {
            // What it begins with sorts before it.
            let shorter = prefixes.longest(&text);
            let row = shorter.map_or(others, |at| prefixes.sorted[at].row);
            prefixes.sorted.push(Prefix {
                text,
                row: rows.with(row, askers),
                shorter,
            });
        }
        prefixes
    }

    /// The row of a text; of a message without that text when it is `None`.
    pub fn find(&self, text: Option<&[u8]>) -> Row {
        let longest = text.and_then(|text| self.longest(text));
        longest.map_or(self.others, |at| self.sorted[at].row)
    }

    /// The longest that this text begins with.
    ///
    /// It sorts before the text, or is it, and all in between begin with it: so it is the last one there, or one that this
    /// begins with.
    fn longest(&self, text: &[u8]) -> Option<usize> {
        let after = self.sorted.partition_point(|prefix| *prefix.text <= *text);
        let mut candidate = after.checked_sub(1);
        while let Some(at) = candidate {
            let prefix = &self.sorted[at];
            if text.starts_with(&prefix.text) {
                break;
            }
            candidate = prefix.shorter;
        }
        candidate
    }
}
