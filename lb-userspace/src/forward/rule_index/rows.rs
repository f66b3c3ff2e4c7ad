//! Sets of rules, a bit for each.

use std::collections::BTreeMap;

/// Rules of a word.
const BITS: usize = u64::BITS as usize;

/// A set of rules: where its first word is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Row(u32);

impl Row {
    /// Every rule.
    pub const ALL: Self = Self(0);
}

/// The sets that there are, one after the other.
#[derive(Debug)]
pub struct Rows {
    /// Of each set.
    words: usize,
    bits: Vec<u64>,
}

impl Rows {
    /// Words of a row.
    #[inline]
    pub fn words(&self) -> usize {
        self.words
    }

    /// Rules from 64 times `word` on, the first one lowest.
    #[inline]
    pub fn word(&self, row: Row, word: usize) -> u64 {
        self.bits[row.0 as usize + word]
    }
}

/// Makes rows; sets that are equal are one.
pub struct RowsBuilder {
    words: usize,
    bits: Vec<u64>,
    known: BTreeMap<Vec<u64>, Row>,
}

impl RowsBuilder {
    /// For this many rules.
    pub fn new(rules: usize) -> Self {
        let mut builder = Self {
            words: rules.div_ceil(BITS),
            bits: Vec::new(),
            known: BTreeMap::new(),
        };
        let all = builder.of(0..rules);
        debug_assert_eq!(all, Row::ALL);
        builder
    }

    /// The set of these rules.
    pub fn of(&mut self, rules: impl IntoIterator<Item = usize>) -> Row {
        self.add(vec![0; self.words], rules)
    }

    /// A set with these rules besides.
    pub fn with(&mut self, row: Row, rules: impl IntoIterator<Item = usize>) -> Row {
        let start = row.0 as usize;
        self.add(self.bits[start..start + self.words].to_vec(), rules)
    }

    fn add(&mut self, mut set: Vec<u64>, rules: impl IntoIterator<Item = usize>) -> Row {
        for rule in rules {
            set[rule / BITS] |= 1 << (rule % BITS);
        }
        if let Some(row) = self.known.get(&set) {
            return *row;
        }
        let row = Row(u32::try_from(self.bits.len()).expect("networks and texts of 4,096 rules"));
        self.bits.extend(&set);
        self.known.insert(set, row);
        row
    }

    pub fn finish(self) -> Rows {
        Rows {
            words: self.words,
            bits: self.bits,
        }
    }
}
