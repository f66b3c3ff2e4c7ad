//! Edits in any order against the slow and obvious way: a list of bytes, spliced from its end.
//!
//! The input is a number of edits, for each of them six bytes (offset, bytes removed, length of the text, kind), and then
//! the payload, which is where texts are taken from too.

#![no_main]

use std::cell::RefCell;

use lb_fuzz::edge::full_sum;
use lb_userspace::{
    checksum,
    forward::{Edits, EditsFull},
};
use libfuzzer_sys::fuzz_target;

/// So much has to fit; see `forward/edits.rs`.
const EDITS: usize = 32;
const TEXT: usize = 1024;

/// Offset, bytes removed, text.
type Wanted<'a> = (usize, usize, Vec<u8>);

thread_local! {
    static EDITS_OF_THREAD: RefCell<Edits> = const { RefCell::new(Edits::new()) };
}

fuzz_target!(|input: &[u8]| {
    let Some((count, input)) = input.split_first() else {
        return;
    };
    let count = usize::from(count % 40).min(input.len() / 6);
    let (orders, payload) = input.split_at(6 * count);
    EDITS_OF_THREAD.with_borrow_mut(|edits| {
        edits.clear();
        let mut wanted: Vec<Wanted> = Vec::new();
        for order in orders.chunks_exact(6) {
            if push(edits, payload, order, &mut wanted).is_err() {
                let text: usize = wanted.iter().map(|(_, _, text)| text.len()).sum();
                assert!(wanted.len() > EDITS || text > TEXT, "refused {wanted:?}");
                return;
            }
        }
        check(edits, payload, &wanted);
    });
});

/// Does what six bytes say, to the edits and to the list that is compared with them.
fn push(
    edits: &mut Edits,
    payload: &[u8],
    order: &[u8],
    wanted: &mut Vec<Wanted>,
) -> Result<(), EditsFull> {
    let [a, b, removed, len, from, kind] = *<&[u8; 6]>::try_from(order).expect("chunks of six");
    let text_start = usize::from(from).min(payload.len());
    let text_end = (text_start + usize::from(len)).min(payload.len());
    let text = &payload[text_start..text_end];
    match wanted.last_mut() {
        Some((_, _, last)) if kind % 4 == 1 => {
            last.extend_from_slice(text);
            return edits.append(text);
        }
        _ => {}
    }
    let place = usize::from(u16::from_be_bytes([a, b]));
    // Mostly places in the payload, sometimes beyond it.
    let offset = if kind % 16 == 2 {
        place
    } else {
        place % (payload.len() + 1)
    };
    let removed = if kind % 16 == 6 {
        usize::from(removed) * 64
    } else {
        usize::from(removed).min(payload.len().saturating_sub(offset))
    };
    wanted.push((offset, removed, text.to_vec()));
    edits.push(offset, removed, text)
}

fn check(edits: &mut Edits, payload: &[u8], wanted: &[Wanted]) {
    let mut sorted = wanted.to_vec();
    // Stable: of two at one place the first stays first, but for what inserts, which comes before what removes.
    sorted.sort_by_key(|(offset, removed, _)| (*offset, *removed > 0));
    let overlap = sorted
        .windows(2)
        .any(|pair| pair[0].0 + pair[0].1 > pair[1].0);
    assert_eq!(edits.finish().is_err(), overlap, "overlap of {sorted:?}");
    if overlap {
        return;
    }
    assert_eq!(edits.is_empty(), wanted.is_empty());
    assert!(
        edits
            .iter()
            .eq(sorted
                .iter()
                .map(|(offset, removed, text)| (*offset, *removed, &text[..]))),
        "the edits are not {sorted:?}"
    );
    let fits = sorted
        .iter()
        .all(|(offset, removed, _)| offset + removed <= payload.len());
    let mut output = vec![0; payload.len() + 4 * TEXT];
    let length = edits.apply(payload, &mut output);
    // Of edits of another payload nothing is asked but that they do no harm.
    let difference = edits.checksum_difference(payload);
    if !fits {
        assert_eq!(length, None);
        return;
    }

    let mut want = payload.to_vec();
    for (offset, removed, text) in sorted.iter().rev() {
        want.splice(*offset..offset + removed, text.iter().copied());
    }
    assert_eq!(length, Some(want.len()));
    assert!(output[..want.len()] == want, "not what splicing makes");
    assert_eq!(edits.output_len(payload.len()), want.len());
    assert_eq!(edits.is_odd(), (want.len() + payload.len()) % 2 == 1);
    if let Some(short) = want.len().checked_sub(1) {
        assert_eq!(edits.apply(payload, &mut output[..short]), None);
    }
    // In one's complement 0 and 0xffff are the same number.
    let sum = checksum::add(full_sum(payload), difference);
    assert_eq!(
        sum % 0xffff,
        full_sum(&want) % 0xffff,
        "checksum of {sorted:?}"
    );
}
