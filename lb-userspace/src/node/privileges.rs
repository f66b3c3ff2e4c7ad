//! Least privilege once everything is open.

use caps::{CapSet, Capability, CapsHashSet};

/// What a running node still does with privileges: resolve neighbours (`CAP_NET_ADMIN`), and write to the XDP program's
/// maps (`CAP_BPF`).
const KEPT: [Capability; 2] = [Capability::CAP_NET_ADMIN, Capability::CAP_BPF];

/// Gives up every capability of the calling thread that is not needed after the start. Threads made later inherit the
/// rest. What cannot be given up is logged: the node serves all the same.
pub(super) fn drop_unneeded() {
    if let Err(error) = try_drop() {
        log::warn!("privileges are not dropped: {error}");
    }
}

fn try_drop() -> Result<(), caps::errors::CapsError> {
    // The bounding set first: changing it is a privilege itself.
    if caps::has_cap(None, CapSet::Effective, Capability::CAP_SETPCAP)? {
        for capability in caps::read(None, CapSet::Bounding)? {
            if !KEPT.contains(&capability) {
                caps::drop(None, CapSet::Bounding, capability)?;
            }
        }
    }
    caps::clear(None, CapSet::Ambient)?;
    caps::clear(None, CapSet::Inheritable)?;
    let permitted = caps::read(None, CapSet::Permitted)?;
    let kept: CapsHashSet = KEPT
        .into_iter()
        .filter(|kept| permitted.contains(kept))
        .collect();
    caps::set(None, CapSet::Effective, &kept)?;
    caps::set(None, CapSet::Permitted, &kept)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_but_what_is_needed_is_left() {
        // Capabilities belong to the thread: the rest of the tests keep theirs.
        std::thread::spawn(|| {
            let before = caps::read(None, CapSet::Permitted).unwrap();
            try_drop().unwrap();
            let after = caps::read(None, CapSet::Permitted).unwrap();
            assert!(
                after.is_subset(&before) && after.iter().all(|left| KEPT.contains(left)),
                "{after:?}"
            );
            assert_eq!(caps::read(None, CapSet::Effective).unwrap(), after);
        })
        .join()
        .unwrap();
    }
}
