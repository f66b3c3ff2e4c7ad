//! `hep`: copies of messages for a collector such as Homer.

use std::{fmt, net::SocketAddr, path::PathBuf};

use zeroize::Zeroizing;

/// `hep`: a collector that gets messages as they come and as they leave, as HEPv3 over UDP.
#[derive(Clone, Debug, PartialEq)]
pub struct Hep {
    /// `collector`, required: `IP:PORT`.
    pub collector: SocketAddr,
    /// `sample`, above 0 and up to 1, default 1: the share of calls that it gets, by a hash of the Call-ID, so that all nodes with
    /// the same secret send the same calls.
    pub sample: f64,
    /// `id`, default 2001: the capture id, by which the collector tells nodes apart.
    pub id: u32,
    /// `password_file`, default none: what the collector wants as the authentication key, in a file that nobody else can read.
    pub password_file: Option<PathBuf>,
    /// What is in it; `None` also when the file was not read.
    pub password: Option<Password>,
}

impl Hep {
    /// Default of [`Hep::id`].
    pub const DEFAULT_ID: u32 = 2001;
}

/// A password. Printing it prints nothing of it, and the memory is wiped when it is dropped.
#[derive(Clone, PartialEq, Eq)]
pub struct Password(pub(super) Zeroizing<Vec<u8>>);

impl Password {
    /// Its bytes.
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }
}

impl fmt::Debug for Password {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Password(..)")
    }
}
