//! Which of many domains a host is.

use std::{collections::BTreeMap, net::IpAddr};

use super::{Row, RowsBuilder};
use crate::sip::parse_ip;

/// Domains with their rows. Addresses are compared as numbers, names without case.
#[derive(Debug)]
pub struct Domains {
    /// Sorted by [`hash`].
    names: Vec<(u64, Vec<u8>, Row)>,
    /// Sorted.
    addresses: Vec<(IpAddr, Row)>,
    others: Row,
}

impl Domains {
    /// `others` is the row of a host that is none of them.
    pub fn new(others: Row, askers: BTreeMap<Vec<u8>, Vec<usize>>, rows: &mut RowsBuilder) -> Self {
        let mut by_name = BTreeMap::<Vec<u8>, Vec<usize>>::new();
        let mut by_address = BTreeMap::<IpAddr, Vec<usize>>::new();
        for (domain, askers) in askers {
            let same = match parse_ip(&domain) {
                Some(address) => by_address.entry(address).or_default(),
                None => by_name.entry(domain.to_ascii_lowercase()).or_default(),
            };
            same.extend(askers);
        }
        let names = by_name.into_iter().map(|(name, askers)| {
            let row = rows.with(others, askers);
            (hash(&name), name, row)
        });
        let mut names = names.collect::<Vec<_>>();
        names.sort_by_key(|(hash, _, _)| *hash);
        let addresses = by_address
            .into_iter()
            .map(|(address, askers)| (address, rows.with(others, askers)));
        Self {
            names,
            addresses: addresses.collect(),
            others,
        }
    }

    /// The row of a host; of a message without one when it is `None`.
    pub fn find(&self, host: Option<&[u8]>) -> Row {
        host.and_then(|host| self.row_of(host))
            .unwrap_or(self.others)
    }

    fn row_of(&self, host: &[u8]) -> Option<Row> {
        if !self.addresses.is_empty()
            && let Some(address) = parse_ip(host)
        {
            let addresses = &self.addresses;
            let at = addresses.binary_search_by_key(&address, |(other, _)| *other);
            return Some(addresses[at.ok()?].1);
        }
        let wanted = hash(host);
        let first = self.names.partition_point(|(other, _, _)| *other < wanted);
        let alike = self.names[first..]
            .iter()
            .take_while(|(other, _, _)| *other == wanted);
        let mut same = alike.filter(|(_, name, _)| host.eq_ignore_ascii_case(name));
        same.next().map(|(_, _, row)| *row)
    }
}

/// The same for a name in whatever case. It keeps apart names of a configuration, which nobody outside chooses.
fn hash(name: &[u8]) -> u64 {
    /// Set in small letters, and not in capitals.
    const SMALL: u64 = 0x2020_2020_2020_2020;
    /// Odd, with bits all over: the golden ratio's.
    const SPREAD: u64 = 0x9e37_79b9_7f4a_7c15;
    let mix = |hash: u64, word: u64| {
        let mixed = (hash ^ (word | SMALL)).wrapping_mul(SPREAD);
        mixed ^ mixed >> 32
    };
    let (words, rest) = name.as_chunks();
    let hash = words.iter().fold(name.len() as u64, |hash, word| {
        mix(hash, u64::from_le_bytes(*word))
    });
    rest.iter()
        .fold(hash, |hash, byte| mix(hash, u64::from(*byte)))
}
