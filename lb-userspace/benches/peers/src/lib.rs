//! One function for each parser: from a datagram to the facts that a proxy decides by.
//!
//! Each library is used as its documentation and its own proxy or endpoint use it, and asked for the same [`Facts`].
//! Most read header lines first and a header field's value when it is asked for; asking is part of what is measured.
//! What a library wants as input besides bytes (a `str`, `Bytes`) is made before the time starts.

#[path = "../../edge.rs"]
pub mod edge;

mod readers;

use bytes::Bytes;

use edge::{Case, Edge};

/// What routing needs. Tags and branch count by their length: enough to see that they were found, and free.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Facts {
    /// Value of Call-ID.
    pub call_id: String,
    /// Length of the branch of the top Via.
    pub branch: usize,
    /// Length of the From tag.
    pub from_tag: usize,
    /// Length of the To tag, 0 without one.
    pub to_tag: usize,
    /// Number in CSeq.
    pub cseq: u32,
    /// Max-Forwards, where there is one.
    pub max_forwards: Option<u32>,
    /// Whether the first Contact was read as a URI.
    pub contact: bool,
}

/// A datagram in each form that a library wants.
pub struct Input {
    /// As it arrived.
    pub bytes: Bytes,
    /// As text.
    pub text: String,
}

/// Puts the facts together. What a reader found is borrowed, so that only a check copies it.
pub trait Sink {
    /// Takes what was found.
    fn facts(
        &mut self,
        call_id: &str,
        lengths: Lengths,
        cseq: u32,
        max_forwards: Option<u32>,
        contact: bool,
    );
}

/// Lengths of the top Via's branch, the From tag and the To tag.
pub struct Lengths(pub usize, pub usize, pub usize);

impl Sink for Facts {
    fn facts(
        &mut self,
        call_id: &str,
        lengths: Lengths,
        cseq: u32,
        max_forwards: Option<u32>,
        contact: bool,
    ) {
        let Lengths(branch, from_tag, to_tag) = lengths;
        *self = Self {
            call_id: call_id.to_owned(),
            branch,
            from_tag,
            to_tag,
            cseq,
            max_forwards,
            contact,
        };
    }
}

/// Keeps the compiler from leaving out what nobody looks at.
pub struct Timed;

impl Sink for Timed {
    fn facts(
        &mut self,
        call_id: &str,
        lengths: Lengths,
        cseq: u32,
        max_forwards: Option<u32>,
        contact: bool,
    ) {
        std::hint::black_box((
            call_id.len(),
            lengths.0,
            lengths.1,
            lengths.2,
            cseq,
            max_forwards,
            contact,
        ));
    }
}

/// A parser.
#[derive(Clone, Copy)]
pub struct Peer {
    /// Crate and version.
    pub name: &'static str,
    /// `None` when it does not take the message.
    pub check: fn(&Input) -> Option<Facts>,
    /// The same without keeping the facts.
    pub run: fn(&Input) -> bool,
    /// Reads values, and not only header lines.
    pub reads_values: bool,
}

/// A message that a parser reads right.
pub struct Pair {
    /// `PARSER/MESSAGE`.
    pub name: String,
    /// Who reads it.
    pub peer: Peer,
    /// What.
    pub input: Input,
}

/// All parsers with all messages that they read right: to the same facts as siplb's. What they do not is said on
/// standard error and not measured.
pub fn pairs() -> Vec<Pair> {
    let mut pairs = Vec::new();
    let cases = Edge::plain().cases();
    for peer in readers::ALL {
        for case in cases.iter().filter(|case| case.is_sip()) {
            let wanted =
                (readers::ALL[0].check)(&input(case)).expect("siplb reads its own messages");
            let found = (peer.check)(&input(case));
            let right = found.as_ref().is_some_and(|facts| match peer.reads_values {
                true => *facts == wanted,
                false => facts.call_id == wanted.call_id,
            });
            if !right {
                eprintln!(
                    "{} reads {} otherwise: {found:?}, wanted {wanted:?}",
                    peer.name, case.name
                );
                continue;
            }
            pairs.push(Pair {
                name: format!("{}/{}", peer.name, case.name),
                peer,
                input: input(case),
            });
        }
    }
    pairs
}

fn input(case: &Case) -> Input {
    Input {
        bytes: Bytes::copy_from_slice(&case.bytes),
        text: String::from_utf8(case.bytes.clone()).expect("text"),
    }
}
