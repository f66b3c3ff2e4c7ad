//! How a pool picks a backend, and what by.

/// The ways to pick a backend.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Strategy {
    /// `hash-call-id`: by the Call-ID.
    #[default]
    HashCallId,
    /// `hash-from-uri`: by the URI in From.
    HashFromUri {
        /// By its user alone.
        user_only: bool,
    },
    /// `hash-to-uri`: by the URI in To.
    HashToUri {
        /// By its user alone.
        user_only: bool,
    },
    /// `hash-request-uri`: by the Request-URI as it was received.
    HashRequestUri {
        /// By its user alone.
        user_only: bool,
    },
    /// `weighted-round-robin`: each backend as often in a row as its weight says, then the next.
    WeightedRoundRobin,
    /// `hash-auth-username`: by the user name of the credentials; by turns where there are none.
    HashAuthUsername,
    /// `random`: by Call-ID and From tag, so that a retransmission meets the same backend.
    Random,
    /// `first`: the first usable one, by priority and then in the order of the list.
    First,
}

impl Strategy {
    /// All of them, without `user_only`; the default first.
    pub const ALL: [Self; 8] = [
        Self::HashCallId,
        Self::HashFromUri { user_only: false },
        Self::HashToUri { user_only: false },
        Self::HashRequestUri { user_only: false },
        Self::WeightedRoundRobin,
        Self::HashAuthUsername,
        Self::Random,
        Self::First,
    ];

    /// The name in the configuration.
    pub const fn name(self) -> &'static str {
        match self {
            Self::HashCallId => "hash-call-id",
            Self::HashFromUri { .. } => "hash-from-uri",
            Self::HashToUri { .. } => "hash-to-uri",
            Self::HashRequestUri { .. } => "hash-request-uri",
            Self::WeightedRoundRobin => "weighted-round-robin",
            Self::HashAuthUsername => "hash-auth-username",
            Self::Random => "random",
            Self::First => "first",
        }
    }

    /// True for those that can go by the user of a URI alone.
    pub const fn takes_user_only(self) -> bool {
        matches!(
            self,
            Self::HashFromUri { .. } | Self::HashToUri { .. } | Self::HashRequestUri { .. }
        )
    }

    /// The same by the user alone, or not; nothing changes where that makes no sense.
    pub const fn with_user_only(self, user_only: bool) -> Self {
        match self {
            Self::HashFromUri { .. } => Self::HashFromUri { user_only },
            Self::HashToUri { .. } => Self::HashToUri { user_only },
            Self::HashRequestUri { .. } => Self::HashRequestUri { user_only },
            other => other,
        }
    }

    /// True when any node picks the same backend for any message that opens a transaction, without having seen the ones
    /// before it. The others need pins, which a node has of its own messages only.
    pub const fn is_exact_across_nodes(self) -> bool {
        !matches!(self, Self::WeightedRoundRobin | Self::HashAuthUsername)
    }
}

/// What a message is hashed by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Key<'a> {
    /// Bytes as they are: a Call-ID, a user name, or no key at all.
    Text(&'a [u8]),
    /// User and host of a URI, and its port where that is not the default of the scheme. Hosts count without case.
    Uri {
        /// User with password; empty when there is none.
        user: &'a [u8],
        /// Host; empty to leave it out.
        host: &'a [u8],
        /// Port, unless it is the default.
        port: Option<u16>,
    },
    /// Call-ID and From tag.
    Call {
        /// Trimmed.
        call_id: &'a [u8],
        /// Empty when there is none.
        from_tag: &'a [u8],
    },
}

/// Bytes of a host that are turned into lower case at a time.
const PIECE: usize = 64;

impl Key<'_> {
    /// Hands its bytes to `write`, in pieces whose borders do not matter. Keys that differ differ in their bytes.
    pub fn write(&self, mut write: impl FnMut(&[u8])) {
        match self {
            Key::Text(text) => write(text),
            Key::Uri { user, host, port } => {
                write(user);
                if host.is_empty() {
                    return;
                }
                write(b"@");
                for piece in host.chunks(PIECE) {
                    let mut lower = [0; PIECE];
                    let lower = &mut lower[..piece.len()];
                    lower.copy_from_slice(piece);
                    lower.make_ascii_lowercase();
                    write(lower);
                }
                if let Some(port) = port {
                    let mut text = crate::forward::Text::<8>::new();
                    text.put_port(*port);
                    write(text.as_slice());
                }
            }
            Key::Call { call_id, from_tag } => {
                // No Call-ID has a line end in it.
                write(call_id);
                write(b"\n");
                write(from_tag);
            }
        }
    }

    /// The key as text, for people.
    pub fn to_vec(&self) -> Vec<u8> {
        let mut text = Vec::new();
        match self {
            Key::Call { call_id, from_tag } => {
                text.extend_from_slice(call_id);
                text.extend_from_slice(b" and ");
                text.extend_from_slice(from_tag);
            }
            key => key.write(|piece| text.extend_from_slice(piece)),
        }
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_unique() {
        let mut names = Strategy::ALL.map(Strategy::name).to_vec();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), Strategy::ALL.len());
    }

    #[test]
    fn the_host_of_a_uri_counts_without_case_and_its_user_with() {
        let uri = |user: &'static str, host: &'static str, port| {
            let key = Key::Uri {
                user: user.as_bytes(),
                host: host.as_bytes(),
                port,
            };
            String::from_utf8(key.to_vec()).unwrap()
        };
        assert_eq!(uri("Bob", "Example.COM", None), "Bob@example.com");
        assert_eq!(uri("", "[2001:DB8::1]", Some(5080)), "@[2001:db8::1]:5080");
        assert_eq!(uri("bob", "", Some(5080)), "bob");
        let long = "A".repeat(200).leak();
        assert_eq!(uri("b", long, None), format!("b@{}", "a".repeat(200)));
    }
}
