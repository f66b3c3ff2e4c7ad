//! `received` and `rport` on the client's Via (RFC 3261 §18.2.1, RFC 3581 §4).

use std::net::SocketAddr;

use super::{Edits, EditsFull, text::Text};
use crate::sip::{Parameter, Via, parse_ip};

/// A generic parameter of odd length, to make the length of an edit even.
pub(super) const PAD: &[u8] = b";lb";

/// Between port and address.
const RECEIVED: &[u8] = b";received=";

/// Room for a prefix.
const PREFIX: usize = 8;
/// Room for a piece, of which the longest is `65535;received=` with an IPv6 address.
const PIECE: usize = 64;
/// No piece starts behind this.
const PIECE_START: usize = 16;

/// What comes before a piece, in eight bytes to be copied in one move.
#[derive(Clone, Copy, Debug)]
struct Prefix {
    bytes: [u8; PREFIX],
    len: usize,
}

impl Prefix {
    const NONE: Self = Self {
        bytes: [0; PREFIX],
        len: 0,
    };
    const EQUALS: Self = Self {
        bytes: *b"=\0\0\0\0\0\0\0",
        len: 1,
    };
    const RPORT: Self = Self {
        bytes: *b";rport=\0",
        len: 7,
    };
}

/// One change to the Via: `removed` bytes at `offset` give way to `prefix` and a piece of [`Stamp::text`].
#[derive(Clone, Copy, Debug)]
pub(super) struct StampEdit {
    /// Where.
    pub offset: usize,
    /// Bytes that give way.
    pub removed: usize,
    prefix: Prefix,
    piece: Piece,
}

impl StampEdit {
    const NONE: Self = Self {
        offset: 0,
        removed: 0,
        prefix: Prefix::NONE,
        piece: Piece { start: 0, end: 0 },
    };

    fn len(&self) -> usize {
        self.prefix.len + (self.piece.end - self.piece.start)
    }
}

/// Part of [`Stamp::text`].
#[derive(Clone, Copy, Debug)]
struct Piece {
    start: usize,
    end: usize,
}

/// What the top Via of a request says about its source after us, and the edits that make it say so.
///
/// It stays where it was made: its text is written a few bytes at a time, and to read it back in one wide move right
/// after that, as for a copy, would wait until all of them have left the processor's store buffer.
#[derive(Debug)]
pub(super) struct Stamp {
    edits: [StampEdit; 2],
    len: usize,
    /// `PORT;received=ADDRESS` of the source: all that is ever put in are pieces of it.
    text: Text<{ PIECE_START + PIECE }>,
    /// Where responses go (RFC 3261 §18.2.2): to the source address; to the source port when `rport` is there, else to the
    /// port of sent-by.
    pub target: SocketAddr,
}

impl Stamp {
    /// No edits, until [`Stamp::set_up`].
    pub fn empty(source: SocketAddr) -> Self {
        Self {
            edits: [StampEdit::NONE; 2],
            len: 0,
            text: Text::new(),
            target: source,
        }
    }

    /// `received` is set when sent-by's host is not the source address (a name never is), when `rport` is there, and when
    /// the sender put one in: what a sender claims is never kept. `force_rport` acts as if `rport` were there.
    pub fn set_up(&mut self, bytes: &[u8], via: &Via, source: SocketAddr, force_rport: bool) {
        self.target = SocketAddr::new(source.ip(), via.effective_port());
        self.text.put_number(source.port());
        let port_end = self.text.len();
        self.text.put(RECEIVED);
        let address_start = self.text.len();
        self.text.put_ip(source.ip());
        let end = self.text.len();
        let piece = |start, end| Piece { start, end };
        let has_rport = via.rport.is_some() || force_rport;
        if has_rport {
            self.target = source;
            let with_received = via.received.is_none();
            let port = piece(0, if with_received { end } else { port_end });
            match via.rport {
                Some(rport) => self.set(rport, port),
                None => self.add(via.sent_by_end, 0, Prefix::RPORT, port),
            }
        }
        if let Some(received) = via.received {
            self.set(received, piece(address_start, end));
        } else if !has_rport && parse_ip(via.host.of(bytes)) != Some(source.ip()) {
            self.add(via.sent_by_end, 0, Prefix::NONE, piece(port_end, end));
        }
    }

    /// The edits, ascending.
    pub fn edits(&self) -> &[StampEdit] {
        &self.edits[..self.len]
    }

    /// What an edit puts in, in pieces.
    pub fn text<'a>(&'a self, edit: &'a StampEdit) -> [&'a [u8]; 2] {
        let prefix = &edit.prefix.bytes[..edit.prefix.len];
        let piece = self.text.as_slice().get(edit.piece.start..edit.piece.end);
        [prefix, piece.unwrap_or_default()]
    }

    /// True when the length of the edits is odd, taken together.
    pub fn is_odd(&self) -> bool {
        let lens = self.edits().iter().map(|edit| edit.len() + edit.removed);
        lens.sum::<usize>() % 2 == 1
    }

    /// True when anything is put in, behind which a parameter of odd length can go.
    pub fn takes_pad(&self) -> bool {
        self.len > 0
    }

    /// Adds the edits to those of the request, and a parameter of odd length behind the last one when `pads`.
    pub fn put(&self, pads: bool, edits: &mut Edits) -> Result<(), EditsFull> {
        for edit in self.edits() {
            edits.push(edit.offset, edit.removed, b"")?;
            edits.write::<{ PREFIX + PIECE }>(|room| {
                room[..PREFIX].copy_from_slice(&edit.prefix.bytes);
                let (start, len) = (edit.piece.start, edit.prefix.len);
                room[len..len + PIECE].copy_from_slice(self.text.wide::<PIECE>(start));
                edit.len()
            })?;
        }
        match pads && self.takes_pad() {
            true => edits.append(PAD),
            false => Ok(()),
        }
    }

    /// Gives a parameter that is there a value.
    fn set(&mut self, parameter: Parameter, piece: Piece) {
        match parameter.value {
            Some(old) => self.add(old.start(), old.len(), Prefix::NONE, piece),
            None => self.add(parameter.name.end(), 0, Prefix::EQUALS, piece),
        }
    }

    fn add(&mut self, offset: usize, removed: usize, prefix: Prefix, piece: Piece) {
        let edit = StampEdit {
            offset,
            removed,
            prefix,
            piece,
        };
        match (self.len, &mut self.edits) {
            (0, [first, _]) => *first = edit,
            (_, [first, second]) if first.offset < offset => *second = edit,
            (_, edits) => {
                edits.swap(0, 1);
                edits[0] = edit;
            }
        }
        self.len = (self.len + 1).min(self.edits.len());
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{forward::Edits, sip::Span};

    fn check(via: &str, source: &str, want: &str, want_target: &str) {
        check_forced(via, source, want, want_target, false);
    }

    fn check_forced(via: &str, source: &str, want: &str, want_target: &str, force_rport: bool) {
        let bytes = via.as_bytes();
        let parsed = Via::parse(bytes, Span::new(0, bytes.len())).unwrap();
        let source = source.parse().unwrap();
        let mut stamp = Stamp::empty(source);
        stamp.set_up(bytes, &parsed, source, force_rport);
        let stamped = |pads: bool| {
            let mut edits = Edits::new();
            stamp.put(pads, &mut edits).unwrap();
            edits.finish().unwrap();
            let mut output = vec![0; edits.output_len(bytes.len())];
            edits.apply(bytes, &mut output).unwrap();
            String::from_utf8(output).unwrap()
        };
        assert_eq!(stamped(false), want, "{via}");
        let target: SocketAddr = want_target.parse().unwrap();
        assert_eq!(stamp.target, target, "{via}");
        // What a response brings back leads to the same place.
        let back = Via::parse(want.as_bytes(), Span::new(0, want.len())).unwrap();
        assert_eq!(
            back.response_target(want.as_bytes()),
            Some(target),
            "{want}"
        );
        let odd = (want.len() + via.len()) % 2 == 1;
        assert_eq!(stamp.is_odd(), odd, "{via}");
        let padded = stamped(true);
        if stamp.takes_pad() {
            assert_eq!(padded.len() - want.len(), PAD.len(), "{via}");
            let back = Via::parse(padded.as_bytes(), Span::new(0, padded.len())).unwrap();
            assert_eq!(
                back.response_target(padded.as_bytes()),
                Some(target),
                "{padded}"
            );
        } else {
            assert_eq!([want, &padded], [via; 2]);
        }
    }

    #[test]
    fn what_is_set_and_where_responses_go() {
        let source = "192.0.2.1:40000";
        for (via, want, target) in [
            (
                "SIP/2.0/UDP 192.0.2.1:5080;branch=b",
                "SIP/2.0/UDP 192.0.2.1:5080;branch=b",
                "192.0.2.1:5080",
            ),
            (
                "SIP/2.0/UDP 10.0.0.1;branch=b",
                "SIP/2.0/UDP 10.0.0.1;received=192.0.2.1;branch=b",
                "192.0.2.1:5060",
            ),
            (
                "SIP/2.0/UDP host:5070 ;branch=b",
                "SIP/2.0/UDP host:5070;received=192.0.2.1 ;branch=b",
                "192.0.2.1:5070",
            ),
            (
                "SIP/2.0/UDP 192.0.2.1:5080;rport;branch=b",
                "SIP/2.0/UDP 192.0.2.1:5080;rport=40000;received=192.0.2.1;branch=b",
                "192.0.2.1:40000",
            ),
            (
                "SIP/2.0/UDP 10.0.0.1;branch=b;RPORT=",
                "SIP/2.0/UDP 10.0.0.1;branch=b;RPORT=40000;received=192.0.2.1",
                "192.0.2.1:40000",
            ),
            (
                "SIP/2.0/UDP 10.0.0.1;rport = 7;branch=b",
                "SIP/2.0/UDP 10.0.0.1;rport = 40000;received=192.0.2.1;branch=b",
                "192.0.2.1:40000",
            ),
            (
                "SIP/2.0/UDP 10.0.0.1;received=203.0.113.66;branch=b;rport=7",
                "SIP/2.0/UDP 10.0.0.1;received=192.0.2.1;branch=b;rport=40000",
                "192.0.2.1:40000",
            ),
            (
                "SIP/2.0/UDP 10.0.0.1;rport;received=203.0.113.66",
                "SIP/2.0/UDP 10.0.0.1;rport=40000;received=192.0.2.1",
                "192.0.2.1:40000",
            ),
            (
                "SIP/2.0/UDP 192.0.2.1:5080;received=203.0.113.66",
                "SIP/2.0/UDP 192.0.2.1:5080;received=192.0.2.1",
                "192.0.2.1:5080",
            ),
            (
                "SIP/2.0/UDP 192.0.2.1;received",
                "SIP/2.0/UDP 192.0.2.1;received=192.0.2.1",
                "192.0.2.1:5060",
            ),
        ] {
            check(via, source, want, target);
        }
    }

    #[test]
    fn ipv6() {
        let source = "[2001:db8::1]:40000";
        check(
            "SIP/2.0/UDP [2001:DB8:0::1]:5080;branch=b",
            source,
            "SIP/2.0/UDP [2001:DB8:0::1]:5080;branch=b",
            "[2001:db8::1]:5080",
        );
        check(
            "SIP/2.0/UDP [fe80::1];rport",
            source,
            "SIP/2.0/UDP [fe80::1];rport=40000;received=2001:db8::1",
            "[2001:db8::1]:40000",
        );
    }

    #[test]
    fn rport_can_be_forced() {
        let source = "192.0.2.1:40000";
        for (via, want) in [
            (
                "SIP/2.0/UDP 192.0.2.1:5080;branch=b",
                "SIP/2.0/UDP 192.0.2.1:5080;rport=40000;received=192.0.2.1;branch=b",
            ),
            (
                "SIP/2.0/UDP h;received=203.0.113.66;branch=b",
                "SIP/2.0/UDP h;rport=40000;received=192.0.2.1;branch=b",
            ),
            (
                "SIP/2.0/UDP h;branch=b;rport",
                "SIP/2.0/UDP h;branch=b;rport=40000;received=192.0.2.1",
            ),
        ] {
            check_forced(via, source, want, source, true);
        }
        let source = "[1111:2222:3333:4444:5555:6666:7777:8888]:65535";
        let want = "SIP/2.0/UDP h;rport=65535;received=1111:2222:3333:4444:5555:6666:7777:8888";
        check_forced("SIP/2.0/UDP h", source, want, source, true);
    }

    #[test]
    fn the_longest_text_fits() {
        let source = "[1111:2222:3333:4444:5555:6666:7777:8888]:65535";
        check(
            "SIP/2.0/UDP h;rport",
            source,
            "SIP/2.0/UDP h;rport=65535;received=1111:2222:3333:4444:5555:6666:7777:8888",
            source,
        );
    }
}
