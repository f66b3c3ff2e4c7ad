//! Packets of a capture file, pcap or pcapng, one after the other.

use std::{
    fs::File,
    io::{self, Cursor, Read},
    path::Path,
};

use jiff::Timestamp;
use pcap_parser::{Block, PcapBlockOwned, PcapError, traits::PcapReaderIterator};

use crate::cli::Failure;

/// Room for one block to begin with, in bytes; more than a packet takes.
const ROOM: usize = 1 << 18;
/// Longest block that is read, in bytes.
const MAX_ROOM: usize = 1 << 24;

/// One packet.
pub(super) struct Packet<'a> {
    /// Counted from 1, as in Wireshark.
    pub number: u64,
    pub time: Option<Timestamp>,
    pub link: u32,
    pub bytes: &'a [u8],
}

/// What pcapng says of an interface.
struct Interface {
    link: u32,
    /// Time units in a second.
    resolution: i128,
    offset_seconds: i128,
}

/// Hands every packet of the file to `handle`.
///
/// # Errors
/// With the file's name and the place in it, when it cannot be read to its end; what came before was handed over.
pub(super) fn each(
    path: &Path,
    handle: impl FnMut(Packet<'_>) -> Result<(), Failure>,
) -> Result<(), Failure> {
    let is_stdin = path == Path::new("-");
    let name = match is_stdin {
        true => "standard input".to_owned(),
        false => path.display().to_string(),
    };
    let source: Box<dyn Read + Send> = match is_stdin {
        true => Box::new(io::stdin()),
        false => match File::open(path) {
            Ok(file) => Box::new(file),
            Err(error) => return Err(Failure::Failed(format!("{name}: {error}"))),
        },
    };
    each_of(&name, source, handle)
}

fn each_of(
    name: &str,
    mut source: impl Read + Send,
    mut handle: impl FnMut(Packet<'_>) -> Result<(), Failure>,
) -> Result<(), Failure> {
    let failed = |what: &str| Failure::Failed(format!("{name}: {what}"));
    // A pipe gives little at a time, and what is in front has to be there at once.
    let mut start = Vec::new();
    let read = source
        .by_ref()
        .take(ROOM as u64 / 2)
        .read_to_end(&mut start);
    read.map_err(|error| failed(&error.to_string()))?;
    let source = Cursor::new(start).chain(source);
    let mut reader = pcap_parser::create_reader(ROOM, source).map_err(|error| match error {
        PcapError::Eof => failed("is empty"),
        _ => failed("byte 0: is no capture; pcap and pcapng are read, not compressed"),
    })?;
    let mut interfaces = Interfaces::default();
    let mut number = 0;
    let mut room = ROOM;
    loop {
        let at = reader.consumed();
        let error = match reader.next() {
            Ok((len, block)) => {
                if let Some(packet) = interfaces.packet(&block, number + 1) {
                    number += 1;
                    handle(packet)?;
                }
                reader.consume(len);
                continue;
            }
            // Without the bytes that the reader lends, so that it can go on.
            Err(error) => error.to_owned_vec(),
        };
        let problem = match error {
            PcapError::Eof => return Ok(()),
            PcapError::Incomplete(_) => match refill(&mut *reader, &mut room) {
                Ok(()) => continue,
                Err(problem) => problem,
            },
            PcapError::BufferTooSmall => match grow(&mut *reader, &mut room) {
                Ok(()) => continue,
                Err(problem) => problem,
            },
            PcapError::UnexpectedEof => "the capture ends within a packet",
            _ => "this is no packet",
        };
        let place = format!("byte {at}, after packet {number}");
        return Err(failed(&format!("{place}: {problem}")));
    }
}

/// Reads on, into more room where the old one is full.
fn refill(reader: &mut dyn PcapReaderIterator, room: &mut usize) -> Result<(), &'static str> {
    let before = reader.data().len();
    if reader.refill().is_err() {
        return Err("cannot be read further");
    }
    if reader.data().len() > before || reader.reader_exhausted() {
        return Ok(());
    }
    grow(reader, room)
}

/// Makes room for a longer block, if one as long makes sense.
fn grow(reader: &mut dyn PcapReaderIterator, room: &mut usize) -> Result<(), &'static str> {
    if *room >= MAX_ROOM {
        return Err("this packet is too long to be one");
    }
    *room *= 2;
    reader.grow(*room);
    Ok(())
}

/// Link type and time units by interface; a pcap file has one.
#[derive(Default)]
struct Interfaces(Vec<Interface>);

impl Interfaces {
    /// Notes what a block says of interfaces, and returns the packet if it is one.
    fn packet<'a>(&mut self, block: &PcapBlockOwned<'a>, number: u64) -> Option<Packet<'a>> {
        let (interface, ticks, bytes) = match block {
            PcapBlockOwned::LegacyHeader(header) => {
                let resolution = match header.is_nanosecond_precision() {
                    true => 1_000_000_000,
                    false => 1_000_000,
                };
                self.0 = vec![Interface {
                    link: link(header.network),
                    resolution,
                    offset_seconds: 0,
                }];
                return None;
            }
            PcapBlockOwned::Legacy(packet) => {
                let resolution = self.0.first()?.resolution;
                let ticks = i128::from(packet.ts_sec) * resolution + i128::from(packet.ts_usec);
                let len = packet.data.len().min(packet.caplen as usize);
                (0, Some(ticks), &packet.data[..len])
            }
            PcapBlockOwned::NG(Block::SectionHeader(_)) => {
                self.0.clear();
                return None;
            }
            PcapBlockOwned::NG(Block::InterfaceDescription(description)) => {
                self.0.push(Interface {
                    link: link(description.linktype),
                    resolution: resolution(description.if_tsresol),
                    offset_seconds: description.if_tsoffset.into(),
                });
                return None;
            }
            PcapBlockOwned::NG(Block::EnhancedPacket(packet)) => {
                let ticks = i128::from(packet.ts_high) << 32 | i128::from(packet.ts_low);
                let len = packet.data.len().min(packet.caplen as usize);
                (packet.if_id as usize, Some(ticks), &packet.data[..len])
            }
            PcapBlockOwned::NG(Block::SimplePacket(packet)) => {
                let len = packet.data.len().min(packet.origlen as usize);
                (0, None, &packet.data[..len])
            }
            PcapBlockOwned::NG(_) => return None,
        };
        let interface = self.0.get(interface);
        let time = ticks.zip(interface).and_then(|(ticks, interface)| {
            let seconds = ticks.div_euclid(interface.resolution) + interface.offset_seconds;
            let rest = ticks.rem_euclid(interface.resolution);
            let rest = (rest as f64 / interface.resolution as f64 * 1e9).round() as i128;
            Timestamp::from_nanosecond(seconds.checked_mul(1_000_000_000)? + rest).ok()
        });
        Some(Packet {
            number,
            time,
            // A number that no link type has, for a packet of an interface that nothing was said of.
            link: interface.map_or(u32::MAX, |interface| interface.link),
            bytes,
        })
    }
}

/// The upper bits say how long a checksum behind each frame is.
fn link(link: pcap_parser::Linktype) -> u32 {
    link.0 as u32 & 0xffff
}

/// Time units in a second: a power of ten, or of two when the upper bit is set.
fn resolution(option: u8) -> i128 {
    match (option & 0x80, u32::from(option & 0x7f)) {
        (0, exponent) => 10i128.pow(exponent.min(18)),
        (_, exponent) => 1 << exponent.min(63),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Big and little endian, micro- and nanoseconds: all that a pcap header says.
    fn pcap(magic: [u8; 4], packets: &[&[u8]]) -> Vec<u8> {
        let big = magic[0] == 0xa1;
        let number = |number: u32| match big {
            true => number.to_be_bytes(),
            false => number.to_le_bytes(),
        };
        let mut bytes = magic.to_vec();
        bytes.extend([[0, 2, 0, 4], [2, 0, 4, 0]][usize::from(!big)]);
        for field in [0, 0, 65_535, 101] {
            bytes.extend(number(field));
        }
        for packet in packets {
            for field in [1_000_000_000, 5, packet.len() as u32, packet.len() as u32] {
                bytes.extend(number(field));
            }
            bytes.extend(*packet);
        }
        bytes
    }

    /// A section, an interface with nanoseconds, an enhanced and a simple packet.
    fn pcapng() -> Vec<u8> {
        let block = |kind: u32, body: &[u8]| {
            let len = (12 + body.len() as u32).to_le_bytes();
            [&kind.to_le_bytes()[..], &len, body, &len].concat()
        };
        let section = [&0x1a2b_3c4du32.to_le_bytes()[..], &[1, 0, 0, 0], &[0xff; 8]].concat();
        let interface = [101, 0, 0, 0, 0, 0, 0, 0, 9, 0, 1, 0, 9, 0, 0, 0, 0, 0, 0, 0];
        let time = 1_000_000_000_000_000_005u64;
        let enhanced = [
            &[0; 4][..],
            &((time >> 32) as u32).to_le_bytes(),
            &(time as u32).to_le_bytes(),
            &[3, 0, 0, 0, 3, 0, 0, 0],
            b"abc\0",
        ]
        .concat();
        [
            block(0x0a0d_0d0a, &section),
            block(1, &interface),
            block(6, &enhanced),
            block(3, b"\x04\0\0\0defg"),
        ]
        .concat()
    }

    /// Number, time, link type and bytes of all packets, and what went wrong.
    type Read = (Vec<(u64, String, u32, Vec<u8>)>, Option<String>);

    fn read(bytes: &[u8]) -> Read {
        let mut packets = Vec::new();
        let result = each_of("x", bytes, |packet| {
            let time = packet.time.map_or("-".to_owned(), |time| time.to_string());
            packets.push((packet.number, time, packet.link, packet.bytes.to_vec()));
            Ok(())
        });
        let problem = result.err().map(|failure| match failure {
            Failure::Failed(what) | Failure::Usage(what) => what,
        });
        (packets, problem)
    }

    #[test]
    fn formats() {
        for (magic, time) in [
            ([0xa1, 0xb2, 0xc3, 0xd4], "2001-09-09T01:46:40.000005Z"),
            ([0xd4, 0xc3, 0xb2, 0xa1], "2001-09-09T01:46:40.000005Z"),
            ([0x4d, 0x3c, 0xb2, 0xa1], "2001-09-09T01:46:40.000000005Z"),
        ] {
            let wanted = |number, bytes: &[u8]| (number, time.to_owned(), 101, bytes.to_vec());
            let wanted = vec![wanted(1, b"a"), wanted(2, b""), wanted(3, b"ccc")];
            assert_eq!(read(&pcap(magic, &[b"a", b"", b"ccc"])), (wanted, None));
        }
        let time = "2001-09-09T01:46:40.000000005Z".to_owned();
        let wanted = vec![
            (1, time, 101, b"abc".to_vec()),
            (2, "-".to_owned(), 101, b"defg".to_vec()),
        ];
        assert_eq!(read(&pcapng()), (wanted, None));
        let long = vec![7; 1_000_000];
        let (packets, problem) = read(&pcap([0xd4, 0xc3, 0xb2, 0xa1], &[b"a", &long, b"b"]));
        let lengths = packets.iter().map(|packet| packet.3.len());
        assert_eq!(lengths.collect::<Vec<_>>(), [1, 1_000_000, 1]);
        assert_eq!(problem, None);
    }

    #[test]
    fn what_is_cut_or_garbage_is_said_with_its_place() {
        assert_eq!(read(b"").1.unwrap(), "x: is empty");
        let garbage = "x: byte 0: is no capture; pcap and pcapng are read, not compressed";
        assert_eq!(read(b"INVITE sip:a@b SIP/2.0\r\n").1.unwrap(), garbage);
        for whole in [pcap([0xd4, 0xc3, 0xb2, 0xa1], &[b"abc", b"defg"]), pcapng()] {
            let (packets, _) = read(&whole);
            for len in 1..whole.len() {
                let (found, problem) = read(&whole[..len]);
                assert_eq!(found[..], packets[..found.len()]);
                // Between two packets a capture may end.
                if let Some(problem) = problem {
                    assert!(problem.starts_with("x: byte "), "{problem}");
                }
            }
            for at in 0..whole.len() {
                for bit in 0..8 {
                    let mut other = whole.clone();
                    other[at] ^= 1 << bit;
                    read(&other);
                }
            }
        }
        let (packets, problem) = read(&pcap([0xd4, 0xc3, 0xb2, 0xa1], &[b"abc", b"defg"])[..50]);
        assert_eq!(packets.len(), 1);
        let wanted = "x: byte 43, after packet 1: the capture ends within a packet";
        assert_eq!(problem.unwrap(), wanted);
    }

    #[test]
    fn units_of_time() {
        for (option, wanted) in [(0, 1), (6, 1_000_000), (9, 1_000_000_000), (0x8a, 1024)] {
            assert_eq!(resolution(option), wanted);
        }
        for option in 0..=255 {
            assert!(resolution(option) > 0);
        }
    }
}
