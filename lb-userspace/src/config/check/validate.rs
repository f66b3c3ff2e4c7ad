//! What a listener validates.

use super::{Checker, Wanted, fields::one_of};
use crate::{
    config::{
        locate::Path,
        text::{self, Field},
    },
    validate::{Check, Checks, Mode, Validate},
};

const MODES: [(&str, Option<Mode>); 3] = [
    ("off", None),
    (Mode::Reply.name(), Some(Mode::Reply)),
    (Mode::Header.name(), Some(Mode::Header)),
];

impl Checker {
    /// A word for all checks, or a mapping with `mode` and `checks`.
    pub(super) fn validate(
        &mut self,
        at: &Path,
        field: Field<serde_yaml::Value>,
    ) -> Option<Validate> {
        let fields = &mut self.fields;
        let value = match field {
            Field::Absent => return None,
            Field::Given(value) | Field::Wrong(value) => value,
        };
        if !value.is_mapping() {
            let mode = fields.choice(at, Field::from(value), &MODES)?;
            return Some(Validate {
                mode,
                checks: Checks::ALL,
            });
        }
        let text = fields.section::<text::Validate>(at, Field::from(value))?;
        if let Field::Absent = text.mode {
            let names = MODES.map(|(name, _)| name);
            let what = format!("is missing; write {}", one_of(&names));
            fields.problems.add(&at.key("mode"), what);
        }
        let mode = fields.choice(&at.key("mode"), text.mode, &MODES);
        let checks = self.checks(&at.key("checks"), text.checks);
        Some(Validate {
            mode: mode?,
            checks,
        })
    }

    /// All checks when there is no list.
    fn checks(&mut self, at: &Path, field: Field<Vec<Field<String>>>) -> Checks {
        const WANTED: Wanted = Wanted::new(
            "a check",
            "request-uri, from, to, contact, max-forwards, headers, body or sdp",
        );
        match &field {
            Field::Absent => return Checks::ALL,
            Field::Given(list) if list.is_empty() => {
                let what =
                    "is empty; name a check, leave it out for all of them, or write \"mode: off\"";
                self.fields.problems.add(at, what);
            }
            _ => {}
        }
        let parse = |name: String| Check::ALL.into_iter().find(|check| check.name() == name);
        let checks = self
            .fields
            .words(at, field, Check::ALL.len(), WANTED, parse);
        checks.into_iter().collect()
    }
}
