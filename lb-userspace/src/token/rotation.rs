//! Two secrets at a time: what one of them made, and what stays the same while they change places.

use zeroize::Zeroizing;

use super::{Key, Keys, TransactionId, TransactionParts};

/// Which of the two secrets made something.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Signer {
    /// The one that signs.
    Current,
    /// The one that only verifies.
    Previous,
}

impl Signer {
    /// The other one.
    pub fn other(self) -> Self {
        match self {
            Self::Current => Self::Previous,
            Self::Previous => Self::Current,
        }
    }
}

impl Keys {
    /// The same keys, whose lookup tables follow this secret instead of the one that signs.
    pub fn with_distribution_secret(self, secret: &[u8]) -> Self {
        let root = Zeroizing::new(Key::new(secret).root);
        Self {
            distribution: Some(root),
            ..self
        }
    }

    /// The key of the lookup tables.
    pub fn distribution_key(&self) -> [u8; 16] {
        let root = self.distribution.as_deref();
        super::derive(root.unwrap_or(&self.current.root), b"balance")
    }

    /// The key by which all nodes take the same sample of calls. It says nothing about slots: a sample has calls of all backends.
    pub fn sample_key(&self) -> [u8; 16] {
        let root = self.distribution.as_deref();
        super::derive(root.unwrap_or(&self.current.root), b"sample")
    }

    /// The same keys with the previous secret signing; `None` when there is none.
    pub fn swapped(&self) -> Option<Self> {
        Some(Self {
            current: self.previous.clone()?,
            previous: Some(self.current.clone()),
            ..self.clone()
        })
    }

    /// True when they come of the same secrets in the same roles.
    pub fn is_same(&self, other: &Self) -> bool {
        let roots = |keys: &Self| {
            let previous = keys.previous.as_ref().map(|key| key.root);
            (keys.current.root, previous, keys.distribution_key())
        };
        roots(self) == roots(other)
    }

    /// The id of a transaction under the previous key, when there is one.
    #[inline]
    pub fn previous_transaction_id(&self, parts: &TransactionParts<'_>) -> Option<TransactionId> {
        let key = self.previous.as_ref()?;
        Some(key.transaction_id(parts))
    }

    pub(super) fn both(&self) -> impl Iterator<Item = (Signer, &Key)> {
        let previous = self.previous.iter().map(|key| (Signer::Previous, key));
        std::iter::once((Signer::Current, &self.current)).chain(previous)
    }
}
