//! Addresses of the inside in texts that nobody needs back: they become the VIP.

use std::net::IpAddr;

use crate::{
    forward::{Edits, EditsFull, Table, Text},
    sip::{Span, parse_ip},
};

/// Longest address as text, IPv6 with an IPv4 tail.
const MAX_ADDRESS: usize = 45;

/// Replaces each address of the inside in a text by `by`.
pub(super) fn replace(
    table: &Table,
    bytes: &[u8],
    text: Span,
    by: IpAddr,
    edits: &mut Edits,
) -> Result<(), EditsFull> {
    for (address, place) in addresses(bytes, text) {
        if table.is_inside(address) {
            let mut own = Text::<48>::new();
            match address.is_ipv4() == by.is_ipv4() {
                true => own.put_ip(by),
                // There is no address of ours that could stand here.
                false => own.put(match address.is_ipv4() {
                    true => b"0.0.0.0",
                    false => b"::",
                }),
            }
            edits.push(place.start(), place.len(), own.as_slice())?;
        }
    }
    Ok(())
}

/// True when an address of the inside stands in a text.
pub(super) fn has_inside(table: &Table, bytes: &[u8], text: Span) -> bool {
    addresses(bytes, text).any(|(address, _)| table.is_inside(address))
}

/// The addresses in a text, IPv6 without its brackets: whatever reads as one and has no other letter or digit beside it.
fn addresses(bytes: &[u8], text: Span) -> impl Iterator<Item = (IpAddr, Span)> {
    let mut position = text.start();
    let end = text.end();
    std::iter::from_fn(move || {
        while position < end {
            let start = position;
            let is_part =
                |at: usize| bytes[at].is_ascii_hexdigit() || matches!(bytes[at], b'.' | b':');
            let joins = |at: usize| bytes[at].is_ascii_alphanumeric() || bytes[at] == b'_';
            while position < end && is_part(position) {
                position += 1;
            }
            let after = position;
            // The start of a word is none, and neither is what stands in the middle of one.
            if after == start || after < end && joins(after) {
                position = after + usize::from(after == start);
                while position > 0 && position < end && joins(position - 1) && joins(position) {
                    position += 1;
                }
                continue;
            }
            if let Some(found) = address(bytes, start, after) {
                return Some(found);
            }
        }
        None
    })
}

/// The address that `start..end` is, with a port or a dot or colon of the sentence around it.
fn address(bytes: &[u8], start: usize, end: usize) -> Option<(IpAddr, Span)> {
    let is_mark = |byte: &u8| matches!(byte, b'.' | b':');
    let text = &bytes[start..end];
    let parse = |from: usize, to: usize| {
        let span = Span::new(from, to);
        (to - from <= MAX_ADDRESS)
            .then(|| parse_ip(span.of(bytes)))
            .flatten()
            .map(|address| (address, span))
    };
    if let Some(found) = parse(start, end) {
        return Some(found);
    }
    // `10.0.0.1:5060`.
    if let Some(colon) = text.iter().position(|byte| *byte == b':')
        && let Some(found) = parse(start, start + colon)
    {
        return Some(found);
    }
    let before = text.iter().take_while(|byte| is_mark(byte)).count();
    let behind = text.iter().rev().take_while(|byte| is_mark(byte)).count();
    if before + behind > 0 && before + behind < text.len() {
        return parse(start + before, end - behind);
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_in_texts() {
        for (text, want) in [
            ("<sip:bob@10.0.0.11>;tag=10", "10.0.0.11"),
            ("<sip:bob@10.0.0.11:5060>", "10.0.0.11"),
            ("a84b4c76e66710@10.0.0.11", "10.0.0.11"),
            ("\"10.0.0.11\" 10.0.0.12, x", "10.0.0.11 10.0.0.12"),
            ("Asterisk PBX 18.12.1.5x at 10.0.0.11.", "10.0.0.11"),
            ("1-2345@10.0.0.11", "10.0.0.11"),
            ("x10.0.0.11 10.0.0.11y 10.0.0.11_1", ""),
            ("1.2.3 1.2.3.4.5 10.0.0.256", ""),
            (
                "[2001:db8::11]:5060;received=2001:db8::12",
                "2001:db8::11 2001:db8::12",
            ),
            ("beef cafe: dead.beef", ""),
            ("", ""),
            (".", ""),
        ] {
            let bytes = text.as_bytes();
            let found = addresses(bytes, Span::new(0, bytes.len()));
            let found = found.map(|(_, span)| String::from_utf8(span.of(bytes).to_vec()).unwrap());
            assert_eq!(found.collect::<Vec<_>>().join(" "), want, "{text}");
        }
    }
}
