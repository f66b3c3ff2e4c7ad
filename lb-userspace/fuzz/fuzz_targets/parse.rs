//! Two parsers read every datagram the same, and every place that they name is in it.
//!
//! The input is the datagram. When it begins with 0xff, which no message does, what follows makes a message in one of the
//! spellings that the grammar allows, and the rest of it breaks that.

#![no_main]

use lb_fuzz::{
    agree,
    messages::{Tape, message, mutate},
};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|input: &[u8]| {
    match input {
        [0xff, changes, tape @ ..] => {
            let mut tape = Tape::new(tape);
            let mut bytes = message(&mut tape).bytes;
            for _ in 0..changes % 8 {
                mutate(&mut tape, &mut bytes);
            }
            agree::check(&bytes);
        }
        datagram => agree::check(datagram),
    }
});
