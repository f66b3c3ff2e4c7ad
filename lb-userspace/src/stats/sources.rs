//! Reads what XDP programs and workers have counted, without asking the process.

use std::{
    fs,
    path::{Path, PathBuf},
    time::Instant,
};

use super::{Interface, Snapshot, StatsReader};
use crate::afxdp::program;

/// Everything that was read at one time.
#[derive(Debug)]
pub(crate) struct Sample {
    pub(crate) taken: Instant,
    pub(crate) interfaces: Vec<InterfaceCounts>,
    pub(crate) workers: Result<Snapshot, String>,
}

/// What the XDP program of an interface counted: by counter and CPU.
#[derive(Debug)]
pub(crate) struct InterfaceCounts {
    pub(crate) interface: Interface,
    pub(crate) counters: Result<Vec<Vec<u64>>, String>,
    /// Once more, after the workers' counters were read.
    pub(crate) counters_after: Result<Vec<Vec<u64>>, String>,
}

/// Where counters are.
#[derive(Clone, Debug)]
pub(crate) struct Sources {
    /// The statistics file.
    pub(crate) workers: PathBuf,
    /// `None`: what the workers' counters name, else `fallback`.
    pub(crate) pin_path: Option<PathBuf>,
    /// Where the XDP programs' maps are when the workers' counters do not say.
    pub(crate) fallback: Option<PathBuf>,
}

impl Sources {
    /// Reads the XDP programs' counters before and after those of the workers: what arrived must be in between.
    pub(crate) fn sample(&self) -> Sample {
        let read = |interface: &Interface| {
            program::read_counters(&interface.pin_dir).map_err(|error| format!("{error:#}"))
        };
        let reader = StatsReader::open(&self.workers).map_err(|error| error.to_string());
        let snapshot = || {
            let reader = reader.as_ref().map_err(String::clone)?;
            reader.snapshot().map_err(|error| error.to_string())
        };
        let interfaces = self.interfaces(snapshot().ok().as_ref());
        let before = interfaces.iter().map(read).collect::<Vec<_>>();
        let workers = snapshot();
        let taken = Instant::now();
        let interfaces = interfaces.into_iter().zip(before);
        let interfaces = interfaces.map(|(interface, counters)| InterfaceCounts {
            counters_after: counters.clone().and_then(|_| read(&interface)),
            counters,
            interface,
        });
        Sample {
            taken,
            interfaces: interfaces.collect(),
            workers,
        }
    }

    fn interfaces(&self, snapshot: Option<&Snapshot>) -> Vec<Interface> {
        let named = snapshot.map_or(&[][..], |snapshot| &snapshot.interfaces);
        match (&self.pin_path, &self.fallback) {
            (Some(path), _) => pinned(path, named),
            (None, Some(path)) if named.is_empty() => pinned(path, named),
            _ => named.to_vec(),
        }
    }
}

/// The interfaces with pins below `pin_path`, with what the workers' counters say about them.
fn pinned(pin_path: &Path, named: &[Interface]) -> Vec<Interface> {
    let names = fs::read_dir(pin_path).into_iter().flatten().flatten();
    let names = names.filter_map(|entry| entry.file_name().into_string().ok());
    let interfaces = names.map(|name| {
        let pin_dir = program::pin_dir(pin_path, &name);
        let known = named.iter().find(|interface| interface.pin_dir == pin_dir);
        known.cloned().unwrap_or(Interface {
            name,
            pin_dir,
            steered_at_start: 0,
        })
    });
    let mut interfaces = interfaces
        .filter(|interface| interface.pin_dir.is_dir())
        .collect::<Vec<_>>();
    interfaces.sort_by(|a, b| a.name.cmp(&b.name));
    interfaces
}

/// The only directory in another, which is the only node's on this host.
pub(crate) fn only_directory(parent: &Path) -> Option<PathBuf> {
    let mut directories = fs::read_dir(parent)
        .ok()?
        .flatten()
        .map(|entry| entry.path())
        .filter(|path| path.is_dir());
    let only = directories.next()?;
    directories.next().is_none().then_some(only)
}
