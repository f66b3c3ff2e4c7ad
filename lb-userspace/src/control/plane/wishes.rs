//! What the operator wants of backends, kept in a file where the configuration names one.

use std::{collections::BTreeMap, fs, io, path::PathBuf};

use anyhow::{Context, Result};
use serde::{Deserialize, Serialize};

use crate::balance::Roster;

/// What the operator wants of a backend.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Wish {
    /// No new calls.
    Draining,
    /// Nothing but what a flow token names, and no probes.
    Disabled,
}

impl Wish {
    /// The name in output.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Draining => "draining",
            Self::Disabled => "disabled",
        }
    }
}

/// The wishes by the names of the backends.
#[derive(Debug, Default)]
pub(super) struct Wishes {
    file: Option<PathBuf>,
    by_name: BTreeMap<String, Wish>,
}

impl Wishes {
    /// Those of the file, if there is one.
    pub fn open(file: Option<PathBuf>) -> Result<Self> {
        let by_name = match &file {
            None => BTreeMap::new(),
            Some(path) => match fs::read(path) {
                Ok(bytes) => serde_json::from_slice(&bytes).with_context(|| {
                    format!(
                        "control.state_file {}: not a list of states; remove it to start with all backends in use",
                        path.display()
                    )
                })?,
                Err(error) if error.kind() == io::ErrorKind::NotFound => BTreeMap::new(),
                Err(error) => {
                    return Err(error)
                        .with_context(|| format!("control.state_file {}", path.display()));
                }
            },
        };
        Ok(Self { file, by_name })
    }

    /// Forgets backends that the configuration does not have.
    pub fn forget_others(&mut self, roster: &Roster) {
        self.by_name
            .retain(|name, _| roster.by_name(name).is_some());
    }

    pub fn get(&self, name: &str) -> Option<Wish> {
        self.by_name.get(name).copied()
    }

    pub fn iter(&self) -> impl Iterator<Item = (&str, Wish)> {
        self.by_name
            .iter()
            .map(|(name, wish)| (name.as_str(), *wish))
    }

    /// Sets or takes back a wish. Nothing changes when the file cannot be written.
    pub fn set(&mut self, name: &str, wish: Option<Wish>) -> Result<()> {
        let mut by_name = self.by_name.clone();
        match wish {
            Some(wish) => by_name.insert(name.to_owned(), wish),
            None => by_name.remove(name),
        };
        if let Some(path) = &self.file {
            // Whole or not at all: a node that starts meanwhile reads the old one or the new one.
            let new = path.with_extension("new");
            let text = serde_json::to_vec_pretty(&by_name)?;
            fs::write(&new, text)
                .and_then(|()| fs::rename(&new, path))
                .with_context(|| {
                    format!("control.state_file {} cannot be written", path.display())
                })?;
        }
        self.by_name = by_name;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn wishes_are_kept_in_the_file() {
        let path = std::env::temp_dir().join(format!("siplb-wishes-{}.json", std::process::id()));
        let mut wishes = Wishes::open(Some(path.clone())).unwrap();
        wishes.set("sw1", Some(Wish::Draining)).unwrap();
        wishes.set("sw2", Some(Wish::Disabled)).unwrap();
        wishes.set("sw1", None).unwrap();
        let again = Wishes::open(Some(path.clone())).unwrap();
        assert_eq!(again.iter().collect::<Vec<_>>(), [("sw2", Wish::Disabled)]);
        fs::write(&path, "nonsense").unwrap();
        let error = Wishes::open(Some(path.clone())).unwrap_err();
        assert!(format!("{error:#}").contains("remove it"), "{error:#}");
        fs::remove_file(&path).unwrap();

        let mut nowhere = Wishes::open(Some("/proc/nowhere/state".into())).unwrap();
        nowhere.set("sw1", Some(Wish::Draining)).unwrap_err();
        assert_eq!(nowhere.get("sw1"), None, "nothing has changed");
    }
}
