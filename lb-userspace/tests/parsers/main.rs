//! Two parsers read the same: the one that carries traffic, and one that is written down from the grammar for the sake
//! of this comparison. Fuzz targets (`fuzz/`) make the same comparison with what they come up with.

mod agree;
mod messages;
mod slow;

use lb_userspace::sip;
use proptest::{collection::vec, prelude::*};

use messages::{Tape, message, mutate};

proptest! {
    #![proptest_config(ProptestConfig::with_cases(20_000))]

    #[test]
    fn every_spelling_of_a_valid_message_is_read(tape in vec(any::<u8>(), 0..300)) {
        let wanted = message(&mut Tape::new(&tape));
        let bytes = &wanted.bytes;
        agree::check(bytes);
        let shown = || String::from_utf8_lossy(bytes).into_owned();
        let read = sip::read(bytes).unwrap_or_else(|_| panic!("not SIP: {}", shown()));
        prop_assert_eq!(read.fault, None, "{}", shown());
        let text = |span: Option<sip::Span>| span.map(|span| String::from_utf8_lossy(span.of(bytes)).into_owned());
        prop_assert_eq!(text(read.via.and_then(|via| via.branch)), Some(wanted.branch.clone()), "{}", shown());
        prop_assert_eq!(text(read.from_tag()), wanted.from_tag.clone(), "{}", shown());
        prop_assert_eq!(text(read.to_tag()), wanted.to_tag.clone(), "{}", shown());
        prop_assert_eq!(text(read.call_id.map(|field| field.value)), Some(wanted.call_id.clone()), "{}", shown());
        prop_assert_eq!(read.cseq_number(), Some(wanted.cseq), "{}", shown());
        prop_assert_eq!(read.body.map(|body| body.of(bytes)), Some(&wanted.body[..]), "{}", shown());
    }

    #[test]
    fn broken_messages_are_read_the_same_by_both_parsers(
        tape in vec(any::<u8>(), 0..300),
        changes in vec(any::<u8>(), 8..60),
    ) {
        let mut bytes = message(&mut Tape::new(&tape)).bytes;
        let mut changes = Tape::new(&changes);
        // One change after the other, so that many messages have only one or two things wrong with them.
        for _ in 0..8 {
            mutate(&mut changes, &mut bytes);
            agree::check(&bytes);
        }
    }

    #[test]
    fn random_header_fields_are_read_the_same_by_both_parsers(
        name in "Via|v|Route|Contact|m|From|t|CSeq|l|Max-Forwards|Proxy-Require|Content-Type",
        value in "[ -~\r\n\t\"<>,;:=\\\\]{0,40}",
    ) {
        for start in ["INVITE sip:a SIP/2.0", "SIP/2.0 200 OK"] {
            agree::check(format!("{start}\r\n{name}: {value}\r\n\r\n").as_bytes());
            agree::check(format!("{start}\r\nVia: SIP/2.0/UDP h{value}\r\n{name}: <sip:a>{value}\r\n\r\n").as_bytes());
        }
    }
}

#[test]
fn every_length_of_a_message_is_read_the_same_by_both_parsers() {
    for seed in 0..40u8 {
        let tape = (0..250u8)
            .map(|index| index.wrapping_mul(seed).wrapping_add(seed))
            .collect::<Vec<_>>();
        let bytes = message(&mut Tape::new(&tape)).bytes;
        for length in 0..=bytes.len() {
            agree::check(&bytes[..length]);
        }
    }
}
