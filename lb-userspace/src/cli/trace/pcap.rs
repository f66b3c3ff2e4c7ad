//! A capture file of what came and what left.

use std::{
    fs::OpenOptions,
    io::{self, BufWriter, Write},
    net::SocketAddr,
    os::unix::fs::OpenOptionsExt,
    path::Path,
};

use etherparse::{IpNumber, Ipv4Header, Ipv6FlowLabel, Ipv6Header, UdpHeader};

use crate::{cli::Failure, control::trace::Traced};

/// Classic pcap with times in nanoseconds (draft-ietf-opsawg-pcap), in the order of this machine.
const MAGIC: u32 = 0xa1b2_3c4d;
/// Packets begin with an IP header (LINKTYPE_RAW).
const LINK_TYPE: u32 = 101;
/// More than any packet has.
const SNAP_LEN: u32 = 1 << 18;
/// Time to live of the headers that are made up.
const TTL: u8 = 64;

/// Writes each packet whole, and what is there to the file whenever nothing more has come: it can be read while it grows.
pub(super) struct Pcap {
    file: BufWriter<Box<dyn Write>>,
    name: String,
    closed: bool,
}

impl Pcap {
    /// Makes the file, readable for its owner alone; `-` is standard output.
    pub fn create(path: &Path) -> Result<Self, Failure> {
        let name = path.display().to_string();
        let file: Box<dyn Write> = match path.to_str() {
            Some("-") => Box::new(io::stdout()),
            _ => {
                let mut options = OpenOptions::new();
                options.write(true).create(true).truncate(true).mode(0o600);
                let file = options.open(path);
                Box::new(file.map_err(|error| Failure::Failed(format!("{name}: {error}")))?)
            }
        };
        let mut pcap = Self {
            file: BufWriter::new(file),
            name,
            closed: false,
        };
        pcap.write(&file_header())?;
        pcap.flush()?;
        Ok(pcap)
    }

    /// Adds what came and what left.
    pub fn message(&mut self, message: &Traced) -> Result<(), Failure> {
        for packet in packets(message) {
            self.write(&packet)?;
        }
        Ok(())
    }

    /// Makes what was written visible to others.
    pub fn flush(&mut self) -> Result<(), Failure> {
        let result = self.file.flush();
        self.explain(result)
    }

    fn write(&mut self, bytes: &[u8]) -> Result<(), Failure> {
        // A packet that does not fit goes with the next lot, so that what is in the file is whole.
        let room = self.file.capacity() - self.file.buffer().len();
        let result = match bytes.len() > room {
            true => self.file.flush(),
            false => Ok(()),
        };
        let result = result.and_then(|()| self.file.write_all(bytes));
        self.explain(result)
    }

    /// Whether the last writing failed because nobody reads any more.
    pub fn is_closed(&self) -> bool {
        self.closed
    }

    fn explain(&mut self, result: io::Result<()>) -> Result<(), Failure> {
        result.map_err(|error| {
            self.closed = error.kind() == io::ErrorKind::BrokenPipe;
            Failure::Failed(format!("{}: {error}", self.name))
        })
    }
}

fn file_header() -> Vec<u8> {
    let mut header = MAGIC.to_ne_bytes().to_vec();
    header.extend(2u16.to_ne_bytes());
    header.extend(4u16.to_ne_bytes());
    // Nobody uses the zone and the accuracy.
    for word in [0, 0, SNAP_LEN, LINK_TYPE] {
        header.extend(word.to_ne_bytes());
    }
    header
}

/// The datagram as it came, unless it was shown before, and as it left.
fn packets(message: &Traced) -> Vec<Vec<u8>> {
    let has_come = message.way != "waited";
    let came = (message.source.filter(|_| has_come)).zip(message.destination);
    let left = message.sent_from.zip(message.sent_to);
    let came = came.map(|ends| (ends, &message.received, message.received_len));
    let left = left.map(|ends| (ends, &message.sent, message.sent_len));
    let legs = came.into_iter().chain(left);
    legs.filter_map(|((from, to), bytes, len)| packet(message.time_ns, from, to, bytes, len))
        .collect()
}

/// One packet of the file. `bytes` are the first ones of a datagram of `len`.
fn packet(
    time_ns: u64,
    from: SocketAddr,
    to: SocketAddr,
    bytes: &[u8],
    len: usize,
) -> Option<Vec<u8>> {
    let mut headers = Vec::new();
    let ports = (from.port(), to.port());
    // No checksum can be given for bytes that are missing; 0 says that there is none.
    let is_whole = bytes.len() == len;
    let udp = UdpHeader::without_ipv4_checksum(ports.0, ports.1, len).ok()?;
    match (from, to) {
        (SocketAddr::V4(from), SocketAddr::V4(to)) => {
            let (from, to) = (from.ip().octets(), to.ip().octets());
            let mut ip = Ipv4Header::new(udp.length, TTL, IpNumber::UDP, from, to).ok()?;
            ip.header_checksum = ip.calc_header_checksum();
            ip.write(&mut headers).ok()?;
            let udp = match is_whole {
                true => UdpHeader::with_ipv4_checksum(ports.0, ports.1, &ip, bytes).ok()?,
                false => udp,
            };
            udp.write(&mut headers).ok()?;
        }
        (SocketAddr::V6(from), SocketAddr::V6(to)) => {
            let ip = Ipv6Header {
                traffic_class: 0,
                flow_label: Ipv6FlowLabel::ZERO,
                payload_length: udp.length,
                next_header: IpNumber::UDP,
                hop_limit: TTL,
                source: from.ip().octets(),
                destination: to.ip().octets(),
            };
            ip.write(&mut headers).ok()?;
            let udp = match is_whole {
                true => UdpHeader::with_ipv6_checksum(ports.0, ports.1, &ip, bytes).ok()?,
                false => udp,
            };
            udp.write(&mut headers).ok()?;
        }
        _ => return None,
    }
    let (seconds, nanoseconds) = (time_ns / 1_000_000_000, time_ns % 1_000_000_000);
    let kept = headers.len() + bytes.len();
    let mut packet = Vec::with_capacity(16 + kept);
    for word in [
        seconds as u32,
        nanoseconds as u32,
        kept as u32,
        (headers.len() + len) as u32,
    ] {
        packet.extend(word.to_ne_bytes());
    }
    packet.extend(headers);
    packet.extend_from_slice(bytes);
    Some(packet)
}

#[cfg(test)]
mod tests {
    use std::net::IpAddr;

    use etherparse::{SlicedPacket, TransportSlice};
    use pcap_parser::{
        LegacyPcapReader, Linktype, PcapBlockOwned, PcapError, traits::PcapReaderIterator,
    };

    use super::*;

    fn traced(source: &str, destination: &str, sent_to: Option<&str>) -> Traced {
        let address = |text: &str| text.parse::<SocketAddr>().unwrap();
        Traced {
            time_ns: 1_790_000_000_123_456_789,
            way: "af-xdp".to_owned(),
            source: Some(address(source)),
            destination: Some(address(destination)),
            sent_from: sent_to.map(|_| address(destination)),
            sent_to: sent_to.map(address),
            received: b"INVITE sip:a SIP/2.0\r\n\r\n".to_vec(),
            received_len: 24,
            sent: b"INVITE sip:a SIP/2.0\r\nVia: x\r\n\r\n".to_vec(),
            sent_len: 32,
            ..Traced::default()
        }
    }

    /// Time in nanoseconds, ends, payload and length on the wire.
    type Seen = (u64, [(IpAddr, u16); 2], Vec<u8>, u32);

    /// What is in a file. Checksums of whole ones are right.
    fn read(bytes: &[u8]) -> Vec<Seen> {
        let mut reader = LegacyPcapReader::new(1 << 16, bytes).unwrap();
        let mut found = Vec::new();
        loop {
            match reader.next() {
                Ok((offset, PcapBlockOwned::LegacyHeader(header))) => {
                    assert_eq!(header.network, Linktype::RAW);
                    assert!(header.is_nanosecond_precision());
                    reader.consume(offset);
                }
                Ok((offset, PcapBlockOwned::Legacy(packet))) => {
                    let time = u64::from(packet.ts_sec) * 1_000_000_000 + u64::from(packet.ts_usec);
                    found.push((time, packet.data.to_vec(), packet.origlen));
                    reader.consume(offset);
                }
                Ok(_) => panic!("no block of this kind was written"),
                Err(PcapError::Incomplete(_)) => reader.refill().unwrap(),
                Err(PcapError::Eof) => break,
                Err(error) => panic!("{error:?}"),
            }
        }
        let dissected = found.into_iter().map(|(time, data, len)| {
            if (data.len() as u32) < len {
                return (
                    time,
                    [(IpAddr::from([0; 4]), 0); 2],
                    data[28..].to_vec(),
                    len,
                );
            }
            let packet = SlicedPacket::from_ip(&data).unwrap();
            let Some(TransportSlice::Udp(udp)) = &packet.transport else {
                panic!("no UDP")
            };
            let (ips, checksum) = match packet.net.as_ref().unwrap() {
                etherparse::NetSlice::Ipv4(ip) => {
                    let header = ip.header().to_header();
                    assert_eq!(header.header_checksum, header.calc_header_checksum());
                    let ips = [
                        IpAddr::from(header.source),
                        IpAddr::from(header.destination),
                    ];
                    (
                        ips,
                        udp.to_header().calc_checksum_ipv4(&header, udp.payload()),
                    )
                }
                etherparse::NetSlice::Ipv6(ip) => {
                    let header = ip.header().to_header();
                    let ips = [
                        IpAddr::from(header.source),
                        IpAddr::from(header.destination),
                    ];
                    (
                        ips,
                        udp.to_header().calc_checksum_ipv6(&header, udp.payload()),
                    )
                }
                other => panic!("{other:?}"),
            };
            assert_eq!(checksum.unwrap(), udp.checksum());
            let ends = [
                (ips[0], udp.source_port()),
                (ips[1], udp.destination_port()),
            ];
            (time, ends, udp.payload().to_vec(), len)
        });
        dissected.collect()
    }

    fn file(messages: &[Traced]) -> Vec<u8> {
        let packets = messages.iter().flat_map(packets).flatten();
        file_header().into_iter().chain(packets).collect()
    }

    #[test]
    fn both_legs_can_be_read_back() {
        for [client, vip, backend] in [
            ["198.51.100.7:40000", "203.0.113.10:5060", "10.0.0.11:5070"],
            [
                "[2001:db8::7]:40000",
                "[2001:db8::10]:5060",
                "[2001:db8:1::11]:5070",
            ],
        ] {
            let message = traced(client, vip, Some(backend));
            let dropped = traced(client, vip, None);
            let packets = read(&file(&[message.clone(), dropped]));
            let end = |text: &str| {
                let address: SocketAddr = text.parse().unwrap();
                (address.ip(), address.port())
            };
            let came = [end(client), end(vip)];
            let ends: Vec<_> = packets.iter().map(|packet| packet.1).collect();
            assert_eq!(ends, [came, [end(vip), end(backend)], came]);
            assert_eq!(packets[0].0, message.time_ns);
            assert_eq!(packets[0].2, message.received);
            assert_eq!(packets[1].2, message.sent);
        }
    }

    #[test]
    fn a_message_that_was_cut_says_how_long_it_was() {
        let mut message = traced("198.51.100.7:40000", "203.0.113.10:5060", None);
        message.received_len = 5000;
        let packets = read(&file(&[message.clone()]));
        assert_eq!(packets[0].2, message.received);
        assert_eq!(packets[0].3, 20 + 8 + 5000);
    }

    #[test]
    fn what_has_waited_is_not_shown_twice() {
        let mut message = traced(
            "10.0.0.11:5060",
            "203.0.113.10:5060",
            Some("198.51.100.7:5060"),
        );
        message.way = "waited".to_owned();
        let packets = read(&file(&[message.clone()]));
        assert_eq!(packets.len(), 1);
        assert_eq!(packets[0].2, message.sent);
    }
}
