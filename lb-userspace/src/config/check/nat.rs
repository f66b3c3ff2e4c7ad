//! NAT policies: names that exist, fixes that have something to act on and do not contradict each other.

use ipnet::IpNet;

use super::{
    Checker,
    fields::{Wanted, one_of},
};
use crate::{
    config::{Nat, locate::Path, text},
    nat::{Fix, Fixes, Indicator, Indicators, Policy, PrivateNetworks},
};

impl Checker {
    pub(super) fn nat(&mut self, at: &Path, field: text::Field<text::Nat>) -> Nat {
        let text = self.fields.section(at, field).unwrap_or_default();
        let wanted = Wanted::new(
            "a network",
            "one such as 192.0.0.0/24 or \"fd00::/8\", with no bits set beyond the prefix",
        );
        let at = at.key("private");
        let most = PrivateNetworks::MAX_MORE;
        let private = self
            .fields
            .words(&at, text.private, most, wanted, |text: String| {
                let network: IpNet = text.parse().ok()?;
                (network == network.trunc()).then_some(network)
            });
        Nat { private }
    }

    /// `None` when there is no policy.
    pub(super) fn nat_policy(
        &mut self,
        at: &Path,
        field: text::Field<text::NatPolicy>,
    ) -> Option<Policy> {
        let text = self.fields.section(at, field)?;
        let (detect_at, fix_at) = (at.key("detect"), at.key("fix"));
        let nothing_to_detect = match &text.detect {
            text::Field::Absent => true,
            text::Field::Given(list) => list.is_empty(),
            text::Field::Wrong(_) => false,
        };
        let is_empty = matches!(
            (&text.detect, &text.fix, &text.max_expires),
            (
                text::Field::Absent,
                text::Field::Absent,
                text::Field::Absent
            )
        );
        let known = Indicator::ALL.map(|one| (one.name(), one));
        let detect = self.names(&detect_at, text.detect, "an indicator", &known);
        let known = Fix::ALL.map(|one| (one.name(), one));
        let fix = self.names(&fix_at, text.fix, "a fix", &known);
        let expires_at = at.key("max_expires");
        let max_expires = self.max_expires(&expires_at, text.max_expires);
        let policy = Policy {
            detect: Indicators::of(&detect),
            fix: Fixes::of(&fix),
            max_expires,
        };
        if nothing_to_detect {
            self.max_expires_fits(&expires_at, &policy);
        }
        let problems = &mut self.fields.problems;
        if !policy.fix.is_empty() && nothing_to_detect {
            let what = "needs something in detect beside it, which tells that a client is behind a NAT, such as \
                        \"detect: [received]\"";
            problems.add(&fix_at, what);
        }
        if is_empty {
            problems.add(at, "is empty; write detect and, where needed, fix");
        }
        if policy.fix.contains(Fix::Contact) && policy.fix.contains(Fix::ContactAlias) {
            let what = "contact and contact-alias do not go together; contact throws away what contact-alias keeps";
            problems.add(&fix_at, what);
        }
        Some(policy)
    }

    /// The entries of a list of known names.
    fn names<T: Copy + PartialEq>(
        &mut self,
        at: &Path,
        field: text::Field<Vec<text::Field<String>>>,
        noun: &'static str,
        known: &[(&'static str, T)],
    ) -> Vec<T> {
        let wanted = Wanted::new(noun, "its name");
        let list = self.fields.list(at, field, known.len());
        let mut values = Vec::new();
        for (index, entry) in list.unwrap_or_default().into_iter().enumerate() {
            let at = at.item(index);
            let Some(name) = self.fields.given(&at, entry, wanted) else {
                continue;
            };
            let shown = text::shown(&name);
            let what = match known.iter().find(|(known, _)| *known == name) {
                Some((_, value)) if !values.contains(value) => {
                    values.push(*value);
                    continue;
                }
                Some(_) => format!("{shown} is in the list already; remove it"),
                None => format!("{shown} is not {noun}; {}", nearest(&name, known)),
            };
            self.fields.problems.add(&at, what);
        }
        values
    }
}

/// "did you mean NAME?" where one is near, else all of them.
fn nearest<T>(name: &str, known: &[(&'static str, T)]) -> String {
    let names = known.iter().map(|(known, _)| *known).collect::<Vec<_>>();
    // What people write who think of another spelling: `contact_private`, `ContactPrivate`, `private-contact`.
    let folded = |name: &str| {
        let lower = name.to_ascii_lowercase();
        let mut words = lower.split(['-', '_', ' ']).collect::<Vec<_>>();
        words.sort_unstable();
        words.concat()
    };
    let distance = |known: &str| {
        let of_words = strsim::damerau_levenshtein(&folded(known), &folded(name));
        strsim::damerau_levenshtein(known, name).min(of_words)
    };
    let near = names.iter().min_by_key(|known| distance(known));
    match near {
        Some(near) if distance(near) <= 3 => format!("did you mean {near}?"),
        _ => format!("write {}", one_of(&names)),
    }
}
