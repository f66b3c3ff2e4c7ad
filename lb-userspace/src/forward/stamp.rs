//! `received` and `rport` on the client's Via (RFC 3261 §18.2.1, RFC 3581 §4).

use std::net::SocketAddr;

use super::text::Text;
use crate::sip::{Parameter, Via, parse_ip};

/// A generic parameter of odd length, to make the length of an edit even.
pub(super) const PAD: &[u8] = b";lb";

/// One change to the Via.
#[derive(Clone, Copy, Debug)]
pub(super) struct StampEdit {
    /// Where.
    pub offset: usize,
    /// Bytes that give way.
    pub removed: usize,
    /// What takes their place: `;rport=65535;received=`, an IPv6 address and a pad at the most.
    pub text: Text<64>,
}

/// What the top Via of a request says about its source after us, and the edits that make it say so.
#[derive(Clone, Copy, Debug)]
pub(super) struct Stamp {
    edits: [Option<StampEdit>; 2],
    /// Where responses go (RFC 3261 §18.2.2): to the source address; to the source port when `rport` is there, else to the
    /// port of sent-by.
    pub target: SocketAddr,
}

impl Stamp {
    /// `received` is set when sent-by's host is not the source address (a name never is), when `rport` is there, and when
    /// the sender put one in: what a sender claims is never kept. `force_rport` acts as if `rport` were there.
    pub fn new(bytes: &[u8], via: &Via, source: SocketAddr, force_rport: bool) -> Self {
        let mut stamp = Self {
            edits: [None; 2],
            target: SocketAddr::new(source.ip(), via.effective_port()),
        };
        let mut received = Text::new();
        received.put_ip(source.ip());
        if via.rport.is_some() || force_rport {
            stamp.target = source;
            let mut port = Text::new();
            if via.rport.is_none() {
                port.put(b";rport=");
            }
            port.put_number(source.port());
            stamp.add(match via.rport {
                Some(rport) => set(rport, port),
                None => StampEdit {
                    offset: via.sent_by_end,
                    removed: 0,
                    text: port,
                },
            });
        }
        match (via.received, stamp.edits[0].as_mut()) {
            (Some(parameter), _) => stamp.add(set(parameter, received)),
            (None, Some(rport)) => {
                rport.text.put(b";received=");
                rport.text.put(received.as_slice());
            }
            (None, None) => {
                if parse_ip(via.host.of(bytes)) != Some(source.ip()) {
                    let mut text = Text::new();
                    text.put(b";received=");
                    text.put(received.as_slice());
                    stamp.add(StampEdit {
                        offset: via.sent_by_end,
                        removed: 0,
                        text,
                    });
                }
            }
        }
        stamp
    }

    /// The edits, ascending.
    pub fn edits(&self) -> impl Iterator<Item = &StampEdit> {
        self.edits.iter().flatten()
    }

    /// True when the length of the edits is odd, taken together.
    pub fn is_odd(&self) -> bool {
        self.edits()
            .fold(0, |sum, edit| sum + edit.text.len() + edit.removed)
            % 2
            == 1
    }

    /// Adds a parameter of odd length behind the last one that is set; false when none is.
    pub fn pad(&mut self) -> bool {
        match self.edits.iter_mut().flatten().last() {
            Some(edit) => {
                edit.text.put(PAD);
                true
            }
            None => false,
        }
    }

    fn add(&mut self, edit: StampEdit) {
        match &mut self.edits {
            [first @ None, _] => *first = Some(edit),
            [Some(first), second] if first.offset < edit.offset => *second = Some(edit),
            [first, second] => {
                *second = *first;
                *first = Some(edit);
            }
        }
    }
}

/// Gives a parameter that is there a value.
fn set(parameter: Parameter, value: Text<64>) -> StampEdit {
    match parameter.value {
        Some(old) => StampEdit {
            offset: old.start(),
            removed: old.len(),
            text: value,
        },
        None => {
            let mut text = Text::new();
            text.put(b"=");
            text.put(value.as_slice());
            StampEdit {
                offset: parameter.name.end(),
                removed: 0,
                text,
            }
        }
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
        let mut stamp = Stamp::new(bytes, &parsed, source.parse().unwrap(), force_rport);
        let stamped = |stamp: &Stamp| {
            let mut edits = Edits::new();
            for edit in stamp.edits() {
                edits
                    .push(edit.offset, edit.removed, edit.text.as_slice())
                    .unwrap();
            }
            edits.finish().unwrap();
            let mut output = vec![0; edits.output_len(bytes.len())];
            edits.apply(bytes, &mut output).unwrap();
            String::from_utf8(output).unwrap()
        };
        assert_eq!(stamped(&stamp), want, "{via}");
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
        if stamp.pad() {
            assert_ne!(stamp.is_odd(), odd, "{via}");
            let padded = stamped(&stamp);
            let back = Via::parse(padded.as_bytes(), Span::new(0, padded.len())).unwrap();
            assert_eq!(
                back.response_target(padded.as_bytes()),
                Some(target),
                "{padded}"
            );
        } else {
            assert_eq!(want, via);
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
