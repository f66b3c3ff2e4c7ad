//! Who is none of ours, at the cost of a few instructions.

use std::net::IpAddr;

/// A power of two.
const BITS: u32 = 1024;

/// A Bloom filter of addresses. Most addresses that are asked for are those of clients, which are in no list of ours: for these
/// no list has to be searched. With a hundred addresses in it one other in ten is searched for in vain, with ten one in a hundred.
#[derive(Clone, Debug, Default)]
pub(super) struct AddressFilter([u64; (BITS / u64::BITS) as usize]);

impl AddressFilter {
    /// A filter of these addresses.
    pub fn new(addresses: impl IntoIterator<Item = IpAddr>) -> Self {
        let mut filter = Self::default();
        for address in addresses {
            let (word, bit) = place(address);
            filter.0[word] |= 1 << bit;
        }
        filter
    }

    /// False only for an address that is not in it.
    #[inline(always)]
    pub fn may_have(&self, address: IpAddr) -> bool {
        let (word, bit) = place(address);
        self.0[word] >> bit & 1 == 1
    }
}

/// The bit of an address.
#[inline(always)]
fn place(address: IpAddr) -> (usize, u32) {
    let place = (spread(address) >> (u64::BITS - BITS.ilog2())) as u32;
    ((place / u64::BITS) as usize, place % u64::BITS)
}

/// A number of an address whose upper bits are spread evenly, for tables in which it does not matter that anybody can find
/// addresses that share a place.
#[inline(always)]
pub(crate) fn spread(address: IpAddr) -> u64 {
    /// Odd, with bits all over: the golden ratio's.
    const FACTOR: u64 = 0x9e37_79b9_7f4a_7c15;
    let bits = match address {
        IpAddr::V4(address) => u64::from(address.to_bits()),
        IpAddr::V6(address) => {
            let bits = address.to_bits();
            bits as u64 ^ (bits >> 64) as u64
        }
    };
    bits.wrapping_mul(FACTOR)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whoever_is_in_it_may_be_and_most_others_are_not() {
        let address = |nth: u32| match nth % 2 {
            0 => IpAddr::from((0x0a00_0000 + nth).to_be_bytes()),
            _ => IpAddr::from((0x2001_0db8_u128 << 96 | u128::from(nth)).to_be_bytes()),
        };
        let filter = AddressFilter::new((0..50).map(address));
        assert!((0..50).all(|nth| filter.may_have(address(nth))));
        let in_vain = (50..10_050).filter(|nth| filter.may_have(address(*nth)));
        assert!(in_vain.count() < 1_000);
        let nobody = AddressFilter::default();
        assert!(!(0..50).any(|nth| nobody.may_have(address(nth))));
    }
}
