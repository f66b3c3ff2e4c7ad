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
    for (address, place) in addresses(bytes, text, |address| table.is_inside(address)) {
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
    Ok(())
}

/// True when an address of the inside stands in a text.
pub(super) fn has_inside(table: &Table, bytes: &[u8], text: Span) -> bool {
    let is_inside = |address| table.is_inside(address);
    addresses(bytes, text, is_inside).next().is_some()
}

/// The wanted addresses in a text, IPv6 without its brackets: whatever reads as one and has no other letter or digit beside it.
fn addresses(
    bytes: &[u8],
    text: Span,
    is_wanted: impl Fn(IpAddr) -> bool,
) -> impl Iterator<Item = (IpAddr, Span)> {
    let mut position = text.start();
    std::iter::from_fn(move || {
        while position < text.end() {
            let run = run(bytes, position, text.end());
            if run.is_empty() {
                // The start of a word: what stands in the middle of one is no address.
                position += 1;
                while position < text.end() && joins(bytes[position - 1]) && joins(bytes[position])
                {
                    position += 1;
                }
                continue;
            }
            let found = address(bytes, run, text.end(), &is_wanted);
            position = found.map_or(run.end(), |(_, place)| place.end());
            if found.is_some() {
                return found;
            }
        }
        None
    })
}

/// What an address may consist of, from `start` on.
fn run(bytes: &[u8], start: usize, end: usize) -> Span {
    let is_part = |byte: &&u8| byte.is_ascii_hexdigit() || is_mark(byte);
    Span::new(
        start,
        start + bytes[start..end].iter().take_while(is_part).count(),
    )
}

fn is_mark(byte: &u8) -> bool {
    matches!(byte, b'.' | b':')
}

fn joins(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || byte == b'_'
}

/// The first wanted address in a run: all of it, or what is left without the dots and colons of the sentence around it, or a piece
/// between colons, as in `sip:10.0.0.1:5060`. A word that begins or ends beyond the run is none.
fn address(
    bytes: &[u8],
    run: Span,
    end: usize,
    is_wanted: impl Fn(IpAddr) -> bool,
) -> Option<(IpAddr, Span)> {
    let is_whole = run.end() == end || !joins(bytes[run.end()]);
    let parse = |start: usize, end: usize| {
        if start >= end || end - start > MAX_ADDRESS {
            return None;
        }
        let span = Span::new(start, end);
        let address = parse_ip(span.of(bytes))?.to_canonical();
        is_wanted(address).then_some((address, span))
    };
    let text = run.of(bytes);
    if is_whole {
        let before = text.iter().take_while(|byte| is_mark(byte)).count();
        let behind = text.iter().rev().take_while(|byte| is_mark(byte)).count();
        let trimmed = parse(run.start() + before, run.end() - behind);
        // `::` at either end belongs to the address.
        let starts = [0, 1].map(|marks| run.start() + marks.min(before));
        let ends = [0, 1].map(|marks| run.end() - marks.min(behind));
        let whole = starts
            .into_iter()
            .flat_map(|start| ends.into_iter().map(move |end| (start, end)))
            .find_map(|(start, end)| parse(start, end));
        if let Some(found) = whole.or(trimmed) {
            return Some(found);
        }
    }
    let mut start = run.start();
    for piece in text.split(|byte| *byte == b':') {
        let piece_end = start + piece.len();
        let is_cut = piece_end == run.end() && !is_whole;
        let before = piece.iter().take_while(|byte| **byte == b'.').count();
        let behind = piece.iter().rev().take_while(|byte| **byte == b'.').count();
        if !is_cut
            && before < piece.len()
            && let Some(found) = parse(start + before, piece_end - behind)
        {
            return Some(found);
        }
        start = piece_end + 1;
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
            ("<sip:10.0.0.11>", "10.0.0.11"),
            ("<sip:10.0.0.11:5060;lr>", "10.0.0.11"),
            (
                "socket=udp:10.0.0.11:5060, via:10.0.0.12:x",
                "10.0.0.11 10.0.0.12",
            ),
            (
                "10.0.0.11:10.0.0.12 ...10.0.0.13...",
                "10.0.0.11 10.0.0.12 10.0.0.13",
            ),
            (
                "ip:2001:db8::11, ::1 is, 2001:: ends: fe80::",
                "2001:db8::11 ::1 2001:: fe80::",
            ),
            ("[::ffff:10.0.0.11]:5060", "::ffff:10.0.0.11"),
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
            let found = addresses(bytes, Span::new(0, bytes.len()), |_| true);
            let found = found.map(|(_, span)| String::from_utf8(span.of(bytes).to_vec()).unwrap());
            assert_eq!(found.collect::<Vec<_>>().join(" "), want, "{text}");
        }
    }

    /// `sip::10.0.0.11` has the IPv6 address `::10.0.0.11` in it, which is nobody's.
    #[test]
    fn an_address_at_the_end_of_another_one_is_found() {
        let inside = IpAddr::from([10, 0, 0, 11]);
        for text in [
            "sip::10.0.0.11",
            "64:ff9b::10.0.0.11",
            "10.0.0.11:10.0.0.12",
        ] {
            let bytes = text.as_bytes();
            let found = addresses(bytes, Span::new(0, bytes.len()), |address| {
                address == inside
            });
            let found = found.map(|(_, span)| span.of(bytes)).collect::<Vec<_>>();
            assert_eq!(found, [b"10.0.0.11"], "{text}");
        }
    }
}
