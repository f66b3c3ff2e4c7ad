//! Single fields: missing, of the wrong type, outside their range.

use std::{fmt::Display, ops::RangeInclusive};

use serde_yaml::Value;

use super::{LIST, MAPPING};
use crate::config::{
    locate::Path,
    problem::Problems,
    text::{Field, Section, Shown, shown},
};

/// What a value should have been.
#[derive(Clone, Copy)]
pub(super) struct Wanted {
    /// "a weight": completes "is not".
    noun: &'static str,
    /// "a whole number": completes "write".
    remedy: &'static str,
}

impl Wanted {
    pub(super) const fn new(noun: &'static str, remedy: &'static str) -> Self {
        Self { noun, remedy }
    }
}

pub(super) struct Fields {
    pub(super) problems: Problems,
}

impl Fields {
    pub(super) fn new(problems: Problems) -> Self {
        Self { problems }
    }

    /// "VALUE is not NOUN; write REMEDY"
    pub(super) fn refuse(&mut self, at: &Path, value: impl Display, wanted: Wanted) {
        let what = format!("{value} is not {}; write {}", wanted.noun, wanted.remedy);
        self.problems.add(at, what);
    }

    /// The value, if there is one of the right type.
    pub(super) fn given<T>(&mut self, at: &Path, field: Field<T>, wanted: Wanted) -> Option<T> {
        match field {
            Field::Given(value) => Some(value),
            Field::Absent => None,
            Field::Wrong(value) => {
                self.refuse(at, Shown(&value), wanted);
                None
            }
        }
    }

    /// Text that `parse` understands, if there is any.
    pub(super) fn optional<T>(
        &mut self,
        at: &Path,
        field: Field<String>,
        wanted: Wanted,
        parse: impl Fn(&str) -> Option<T>,
    ) -> Option<T> {
        let text = match field {
            Field::Wrong(value @ (Value::Number(_) | Value::Bool(_)))
                if parse(&Shown(&value).to_string()).is_some() =>
            {
                let what = format!("{} is not text; put it in quotes", Shown(&value));
                self.problems.add(at, what);
                return None;
            }
            field => self.given(at, field, wanted)?,
        };
        let value = parse(&text);
        if value.is_none() {
            self.refuse(at, shown(&text), wanted);
        }
        value
    }

    /// Text that must be there and that `parse` understands.
    pub(super) fn required<T>(
        &mut self,
        at: &Path,
        field: Field<String>,
        wanted: Wanted,
        parse: impl Fn(&str) -> Option<T>,
    ) -> Option<T> {
        if let Field::Absent = field {
            self.problems
                .add(at, format!("is missing; write {}", wanted.remedy));
            return None;
        }
        self.optional(at, field, wanted, parse)
    }

    /// A number in a range, if there is one.
    pub(super) fn number<T: PartialOrd + Display>(
        &mut self,
        at: &Path,
        field: Field<T>,
        range: RangeInclusive<T>,
    ) -> Option<T> {
        let (value, shown) = match field {
            Field::Absent => return None,
            Field::Given(value) if range.contains(&value) => return Some(value),
            Field::Given(value) => (None, value.to_string()),
            Field::Wrong(value) => (None, Shown(&value).to_string()),
        };
        let what = format!(
            "{shown} is not a whole number from {} to {}; write one, without quotes",
            range.start(),
            range.end()
        );
        self.problems.add(at, what);
        value
    }

    /// `true` or `false`; `false` by default.
    pub(super) fn yes_or_no(&mut self, at: &Path, field: Field<bool>) -> bool {
        self.given(
            at,
            field,
            Wanted::new("true or false", "one of these, without quotes"),
        )
        .unwrap_or_default()
    }

    /// One word of several; the first by default.
    pub(super) fn choice<T: Copy>(
        &mut self,
        at: &Path,
        field: Field<String>,
        choices: &[(&str, T)],
    ) -> T {
        let shown = match field {
            Field::Absent => return choices[0].1,
            Field::Given(word) => match choices.iter().find(|(name, _)| *name == word) {
                Some((_, value)) => return *value,
                None => shown(&word),
            },
            Field::Wrong(value) => Shown(&value).to_string(),
        };
        let names = choices.iter().map(|(name, _)| *name).collect::<Vec<_>>();
        self.problems.add(
            at,
            format!("{shown} is not known; write {}", one_of(&names)),
        );
        choices[0].1
    }

    /// A list of values that `parse` understands, each at most once; empty by default.
    pub(super) fn words<T: serde::Serialize + Clone, U: PartialEq>(
        &mut self,
        at: &Path,
        field: Field<Vec<Field<T>>>,
        most: usize,
        wanted: Wanted,
        parse: impl Fn(T) -> Option<U>,
    ) -> Vec<U> {
        let mut values = Vec::new();
        for (index, entry) in self
            .list(at, field, most)
            .unwrap_or_default()
            .into_iter()
            .enumerate()
        {
            let at = at.item(index);
            let Some(entry) = self.given(&at, entry, wanted) else {
                continue;
            };
            let text = serde_yaml::to_value(&entry)
                .map_or(String::new(), |value| Shown(&value).to_string());
            match parse(entry) {
                Some(value) if values.contains(&value) => {
                    self.problems
                        .add(&at, format!("{text} is in the list already; remove it"));
                }
                Some(value) => values.push(value),
                None => self.refuse(&at, text, wanted),
            }
        }
        values
    }

    /// A mapping, if there is one; its unknown keys are reported.
    pub(super) fn section<T: Section>(&mut self, at: &Path, field: Field<T>) -> Option<T> {
        let section = self.given(at, field, MAPPING)?;
        for key in section.unknown().keys() {
            let near = T::KEYS
                .iter()
                .map(|known| (strsim::damerau_levenshtein(known, key), known))
                .min()
                .filter(|(distance, _)| *distance <= 2);
            let remedy = match near {
                Some((_, known)) => format!("did you mean {known}?"),
                None => format!("write {}", one_of(T::KEYS)),
            };
            self.problems
                .add_at_key(&at.key(key), format!("this key is not known; {remedy}"));
        }
        Some(section)
    }

    /// A mapping that must be there.
    pub(super) fn required_section<T: Section>(
        &mut self,
        at: &Path,
        field: Field<T>,
        remedy: &str,
    ) -> Option<T> {
        if let Field::Absent = field {
            self.problems.add(at, format!("is missing; write {remedy}"));
            return None;
        }
        self.section(at, field)
    }

    /// A list, if there is one, of at most so many entries.
    pub(super) fn list<T>(
        &mut self,
        at: &Path,
        field: Field<Vec<T>>,
        most: usize,
    ) -> Option<Vec<T>> {
        let list = self.given(at, field, LIST)?;
        if list.len() > most {
            self.problems
                .add(at, format!("{} entries; keep to {most}", list.len()));
            return None;
        }
        Some(list)
    }

    /// A list that must be there and not be empty.
    pub(super) fn required_list<T>(
        &mut self,
        at: &Path,
        field: Field<Vec<T>>,
        most: usize,
        example: &str,
    ) -> Option<Vec<T>> {
        let what = match &field {
            Field::Absent => "is missing",
            Field::Given(list) if list.is_empty() => "is empty",
            _ => return self.list(at, field, most),
        };
        self.problems.add(at, format!("{what}; write {example}"));
        None
    }
}

/// "a", "a or b", "a, b or c"
pub(super) fn one_of(names: &[&str]) -> String {
    match names {
        [] => String::new(),
        [one] => (*one).to_owned(),
        [most @ .., last] => format!("{} or {last}", most.join(", ")),
    }
}
