//! Tokens of ours in what arrives: whatever one of our keys has signed, wherever it stands.

use lb_userspace::{
    forward::Table,
    token::{ContactToken, FlowToken},
};

/// All that a datagram has.
pub struct Tokens {
    pub flows: Vec<FlowToken>,
    pub contacts: Vec<ContactToken>,
}

impl Tokens {
    pub fn of(table: &Table, bytes: &[u8]) -> Self {
        let words = words(bytes);
        Self {
            flows: words
                .iter()
                .filter_map(|word| table.keys.read_flow_token(word))
                .collect(),
            contacts: words
                .iter()
                .filter_map(|word| table.keys.read_contact_token(word))
                .collect(),
        }
    }
}

/// What is between characters that no token has, as far as it is long enough for one.
fn words(bytes: &[u8]) -> Vec<&[u8]> {
    let is_other = |byte: &u8| !byte.is_ascii_alphanumeric() && !matches!(byte, b'-' | b'_');
    let words = bytes.split(is_other);
    words.filter(|word| word.len() >= SHORTEST).collect()
}

/// A contact token with nothing kept: head, address and port, MAC.
const SHORTEST: usize = 20;
