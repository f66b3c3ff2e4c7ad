//! Small texts on the stack: addresses and numbers without `fmt`.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

/// Each octet in decimal with a dot, and how many characters that is.
const OCTETS: [[u8; 5]; 256] = {
    let mut octets = [[b'.', 0, 0, 0, 0]; 256];
    let mut octet = 0;
    while octet < 256 {
        let digits = [octet / 100, octet / 10 % 10, octet % 10];
        let mut skip = if octet > 99 {
            0
        } else if octet > 9 {
            1
        } else {
            2
        };
        let mut len = 0;
        while skip < 3 {
            octets[octet][len] = b'0' + digits[skip] as u8;
            len += 1;
            skip += 1;
        }
        octets[octet][len] = b'.';
        octets[octet][4] = len as u8 + 1;
        octet += 1;
    }
    octets
};

/// The two digits of each number below a hundred, the first one lowest.
const PAIRS: [u16; 100] = {
    let mut pairs = [0; 100];
    let mut number = 0;
    while number < 100 {
        pairs[number] = ((number / 10) | ((number % 10) << 8)) as u16;
        number += 1;
    }
    pairs
};

/// Text of at most `N` bytes; what does not fit is cut off, so sizes are chosen for the longest value.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Text<const N: usize> {
    bytes: [u8; N],
    len: usize,
}

impl<const N: usize> Text<N> {
    pub const fn new() -> Self {
        Self {
            bytes: [0; N],
            len: 0,
        }
    }

    pub fn as_slice(&self) -> &[u8] {
        &self.bytes[..self.len]
    }

    /// Copies all of the room, which is faster than the exact number of bytes, and returns how many of them count.
    #[inline(always)]
    pub fn write<const M: usize>(&self, to: &mut [u8; M]) -> usize {
        const { assert!(M >= N) };
        to[..N].copy_from_slice(&self.bytes);
        self.len
    }

    /// `M` bytes from `start`, of which not all need to be text. `start` may be up to `N` less `M`.
    #[inline(always)]
    pub fn wide<const M: usize>(&self, start: usize) -> &[u8; M] {
        const { assert!(M <= N) };
        let rest = self.bytes.get(start.min(N - M)..);
        rest.and_then(|rest| rest.first_chunk()).unwrap_or(&[0; M])
    }

    pub fn len(&self) -> usize {
        self.len
    }

    pub fn put(&mut self, text: &[u8]) {
        let fits = text.len().min(N - self.len);
        debug_assert_eq!(fits, text.len(), "a text is larger than its room");
        self.bytes[self.len..self.len + fits].copy_from_slice(&text[..fits]);
        self.len += fits;
    }

    pub fn put_number(&mut self, number: u16) {
        let rest = number % 10_000;
        let pair = |two: u16| u64::from(PAIRS[usize::from(two % 100)]);
        // Five digits, the first one lowest.
        let digits = u64::from(number / 10_000) | pair(rest / 100) << 8 | pair(rest % 100) << 24;
        let skipped = (digits.trailing_zeros() / 8).min(4);
        let text = ((digits | u64::from_le_bytes(*b"00000\0\0\0")) >> (8 * skipped)).to_le_bytes();
        let len = 5 - skipped as usize;
        match self.room() {
            Some(room) => {
                *room = text;
                self.len += len;
            }
            None => self.put(&text[..len]),
        }
    }

    /// Puts `:` and a number.
    pub fn put_port(&mut self, port: u16) {
        match self.room::<1>() {
            Some(room) => {
                *room = [b':'];
                self.len += 1;
            }
            None => self.put(b":"),
        }
        self.put_number(port);
    }

    /// The next bytes: what is put there and not counted is overwritten by what comes next.
    #[inline(always)]
    fn room<const M: usize>(&mut self) -> Option<&mut [u8; M]> {
        self.bytes.get_mut(self.len..)?.first_chunk_mut()
    }

    /// The address without brackets, as `received` has it.
    pub fn put_ip(&mut self, address: IpAddr) {
        match address {
            IpAddr::V4(address) => self.put_ipv4(address),
            IpAddr::V6(address) => self.put_ipv6(address),
        }
    }

    fn put_ipv4(&mut self, address: Ipv4Addr) {
        // The first byte lowest: up to three digits and a dot for each octet are sixteen. The last dot does not count.
        let (mut text, mut len) = (0u128, 0);
        for octet in address.octets() {
            let [digits @ .., digits_len] = OCTETS[usize::from(octet)];
            text |= u128::from(u32::from_le_bytes(digits)) << (8 * len);
            len += u32::from(digits_len);
        }
        let len = len as usize - 1;
        let text = text.to_le_bytes();
        match self.room() {
            Some(room) => {
                *room = text;
                self.len += len;
            }
            None => self.put(&text[..len]),
        }
    }

    /// Address and port as a URI or sent-by has them.
    pub fn put_host_port(&mut self, address: SocketAddr) {
        if address.is_ipv6() {
            self.put(b"[");
            self.put_ip(address.ip());
            self.put(b"]");
        } else {
            self.put_ip(address.ip());
        }
        self.put_port(address.port());
    }

    /// RFC 5952: lower case, no leading zeros, the first longest run of two or more zero groups as `::`.
    fn put_ipv6(&mut self, address: Ipv6Addr) {
        let groups = address.segments();
        let (mut run_start, mut run_len) = (groups.len(), 1);
        let mut index = 0;
        while index < groups.len() {
            let zeros = groups[index..]
                .iter()
                .take_while(|group| **group == 0)
                .count();
            if zeros > run_len {
                (run_start, run_len) = (index, zeros);
            }
            index += zeros.max(1);
        }
        let mut index = 0;
        while index < groups.len() {
            if index == run_start {
                self.put(b"::");
                index += run_len;
                continue;
            }
            if index > 0 && index != run_start + run_len {
                self.put(b":");
            }
            self.put_group(groups[index]);
            index += 1;
        }
    }

    fn put_group(&mut self, group: u16) {
        const DIGITS: &[u8; 16] = b"0123456789abcdef";
        let skipped = (group.leading_zeros() / 4).min(3);
        for digit in skipped..4 {
            let nibble = group >> (12 - 4 * digit) & 0xf;
            self.put(&[DIGITS[usize::from(nibble)]]);
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn text_of(address: IpAddr) -> String {
        let mut text = Text::<46>::new();
        text.put_ip(address);
        String::from_utf8(text.as_slice().to_vec()).unwrap()
    }

    #[test]
    fn host_and_port() {
        for want in [
            "192.0.2.1:5060",
            "255.255.255.255:65535",
            "[2001:db8::1]:1",
            "[::]:5060",
            "[1::]:80",
        ] {
            let mut text = Text::<54>::new();
            text.put_host_port(want.parse().unwrap());
            assert_eq!(text.as_slice(), want.as_bytes());
        }
    }

    #[test]
    fn numbers() {
        for number in 0..=u16::MAX {
            let mut text = Text::<12>::new();
            text.put_number(number);
            text.put_number(number);
            assert_eq!(text.as_slice(), format!("{number}{number}").as_bytes());
        }
    }

    proptest! {
        #[test]
        fn addresses_read_as_the_standard_library_writes_them(
            groups in proptest::array::uniform8(prop_oneof![Just(0u16), any::<u16>(), 0u16..20]),
            ipv4: [u8; 4],
        ) {
            let ipv6 = Ipv6Addr::from(groups);
            // The standard library writes some addresses with an IPv4 tail; the number counts, not the text.
            prop_assert_eq!(text_of(ipv6.into()).parse::<Ipv6Addr>().unwrap(), ipv6);
            if ipv6.to_ipv4().is_none() {
                prop_assert_eq!(text_of(ipv6.into()), ipv6.to_string());
            }
            let ipv4 = std::net::Ipv4Addr::from(ipv4);
            prop_assert_eq!(text_of(ipv4.into()), ipv4.to_string());
        }
    }
}
