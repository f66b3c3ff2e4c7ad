use super::*;
use crate::checksum;
use etherparse::{NetSlice, PacketBuilder, PacketBuilderStep, SlicedPacket, TransportSlice};
use proptest::prelude::*;

const SOURCE_MAC: [u8; 6] = [2, 0, 0, 0, 0, 1];
const STATION: [u8; 6] = [2, 0, 0, 0, 0, 2];
const V4_SOURCE: [u8; 4] = [198, 51, 100, 7];
const V4_VIP: [u8; 4] = [203, 0, 113, 10];
const V6_SOURCE: [u8; 16] = [0x20, 1, 0xd, 0xb8, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 7];
const V6_VIP: [u8; 16] = [0x20, 1, 0xd, 0xb8, 0, 0xff, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0x10];
const PAYLOAD: &[u8] = b"OPTIONS sip:203.0.113.10 SIP/2.0\r\n\r\n";
/// A VLAN id with priority 5, to see that the whole tag comes through.
const TAG: u16 = 0xa064;

#[derive(Clone, Copy, Debug)]
enum Family {
    V4,
    V4WithOptions,
    V6,
}

fn frame(family: Family, vlan: Option<u16>, payload: &[u8]) -> Vec<u8> {
    let link = PacketBuilder::ethernet2(SOURCE_MAC, STATION);
    let ip: PacketBuilderStep<etherparse::IpHeaders> = match family {
        Family::V4 => link.ipv4(V4_SOURCE, V4_VIP, 64),
        Family::V4WithOptions => {
            let mut header =
                etherparse::Ipv4Header::new(0, 64, etherparse::IpNumber::UDP, V4_SOURCE, V4_VIP)
                    .unwrap();
            // Router alert (RFC 2113) and padding.
            header.options = [148, 4, 0, 0, 1, 1, 1, 0].as_slice().try_into().unwrap();
            link.ip(etherparse::IpHeaders::Ipv4(header, Default::default()))
        }
        Family::V6 => link.ipv6(V6_SOURCE, V6_VIP, 64),
    };
    let step = ip.udp(31_000, 5060);
    let mut bytes = Vec::new();
    step.write(&mut bytes, payload).unwrap();
    if let Some(tag) = vlan {
        let [high, low] = tag.to_be_bytes();
        bytes.splice(12..12, [0x81, 0x00, high, low]);
    }
    bytes
}

fn plain() -> Vec<u8> {
    frame(Family::V4, None, PAYLOAD)
}

fn plain_v6() -> Vec<u8> {
    frame(Family::V6, None, PAYLOAD)
}

/// `bytes` with `new` at `offset`, and the IPv4 header checksum made right again.
fn with(mut bytes: Vec<u8>, offset: usize, new: &[u8]) -> Vec<u8> {
    bytes[offset..offset + new.len()].copy_from_slice(new);
    if bytes[12..14] == [0x08, 0x00] {
        let end = (14 + usize::from(bytes[14] & 0xf) * 4).min(bytes.len());
        bytes[24..26].fill(0);
        let sum = !checksum::fold(checksum::sum(&bytes[14..end]));
        bytes[24..26].copy_from_slice(&sum.to_be_bytes());
    }
    bytes
}

fn cut(mut bytes: Vec<u8>, len: usize) -> Vec<u8> {
    bytes.truncate(len);
    bytes
}

fn all_shapes() -> impl Iterator<Item = (Family, Option<u16>)> {
    [Family::V4, Family::V4WithOptions, Family::V6]
        .into_iter()
        .flat_map(|family| [(family, None), (family, Some(TAG))])
}

#[test]
fn a_datagram_is_found_in_every_shape_of_frame_and_padding_is_not_payload() {
    for (family, vlan) in all_shapes() {
        for payload in [PAYLOAD, b"\r\n\r\n", b"x", b""] {
            for padding in [0, 1, 46] {
                let mut bytes = frame(family, vlan, payload);
                bytes.extend(std::iter::repeat_n(0xee, padding));
                let Decoded::Udp(udp) = decode(bytes.as_slice()) else {
                    panic!("{family:?} {vlan:?}: {:?}", decode(bytes.as_slice()));
                };
                let at = udp.payload_offset;
                assert_eq!(&bytes[at..at + udp.payload_len], payload);
                assert_eq!(udp.vlan, vlan);
                assert_eq!((udp.source_port, udp.destination_port), (31_000, 5060));
                assert_eq!(udp.l3_offset, if vlan.is_some() { 18 } else { 14 });
                assert_eq!(udp.payload_offset, udp.udp_offset + 8);
                let (source, destination, ip_len) = match family {
                    Family::V4 => (map_ipv4(V4_SOURCE), map_ipv4(V4_VIP), 20),
                    Family::V4WithOptions => (map_ipv4(V4_SOURCE), map_ipv4(V4_VIP), 28),
                    Family::V6 => (V6_SOURCE, V6_VIP, 40),
                };
                assert_eq!((udp.source, udp.destination), (source, destination));
                assert_eq!(udp.udp_offset - udp.l3_offset, ip_len);
                assert_eq!(udp.is_ipv6, matches!(family, Family::V6));
            }
        }
    }
}

#[test]
fn traffic_class_and_checksum_come_through() {
    let Decoded::Udp(v4) = decode(with(plain(), 15, &[0xb8]).as_slice()) else {
        panic!("not UDP");
    };
    assert_eq!(v4.traffic_class, 0xb8);
    let Decoded::Udp(v6) = decode(with(plain_v6(), 14, &[0x6b, 0x81, 0x23, 0x45]).as_slice())
    else {
        panic!("not UDP");
    };
    assert_eq!(v6.traffic_class, 0xb8);
    let Decoded::Udp(without) = decode(with(plain(), 40, &[0, 0]).as_slice()) else {
        panic!("not UDP");
    };
    assert_eq!(without.udp_checksum, 0, "IPv4 may leave the checksum out");
}

#[test]
fn a_udp_length_below_the_ip_length_is_the_payload_length() {
    let short = u16::try_from(8 + PAYLOAD.len() - 3).unwrap().to_be_bytes();
    let Decoded::Udp(udp) = decode(with(plain(), 38, &short).as_slice()) else {
        panic!("not UDP");
    };
    assert_eq!(udp.payload_len, PAYLOAD.len() - 3);
}

#[test]
fn what_is_not_ours_is_told_apart() {
    use NotOurs::*;
    let tagged = frame(Family::V4, Some(TAG), PAYLOAD);
    let cases = [
        ("ARP", with(plain(), 12, &[0x08, 0x06]), EtherType),
        ("802.3 length", with(plain(), 12, &[0x00, 0x40]), EtherType),
        (
            "MPLS in a VLAN",
            with(tagged.clone(), 16, &[0x88, 0x47]),
            EtherType,
        ),
        ("two tags", with(tagged.clone(), 16, &[0x81, 0x00]), QinQ),
        (
            "service tag in a tag",
            with(tagged.clone(), 16, &[0x88, 0xa8]),
            QinQ,
        ),
        ("service tag", with(tagged, 12, &[0x88, 0xa8]), QinQ),
        ("TCP", with(plain(), 23, &[6]), Protocol),
        ("ICMP", with(plain(), 23, &[1]), Protocol),
        (
            "broken TCP",
            with(plain(), 16, &[0, 0, 0, 0, 0, 0, 64, 6]),
            Protocol,
        ),
        ("first fragment", with(plain(), 20, &[0x20, 0x00]), Fragment),
        ("later fragment", with(plain(), 20, &[0x00, 0x01]), Fragment),
        ("far fragment", with(plain(), 20, &[0x1f, 0xff]), Fragment),
        ("ICMPv6", with(plain_v6(), 20, &[58]), Protocol),
        ("TCP over IPv6", with(plain_v6(), 20, &[6]), Protocol),
        ("IPv6 fragment", with(plain_v6(), 20, &[44]), Fragment),
        ("hop-by-hop", with(plain_v6(), 20, &[0]), ExtensionHeader),
        ("routing", with(plain_v6(), 20, &[43]), ExtensionHeader),
        ("ESP", with(plain_v6(), 20, &[50]), ExtensionHeader),
        (
            "authentication",
            with(plain_v6(), 20, &[51]),
            ExtensionHeader,
        ),
        (
            "no next header",
            with(plain_v6(), 20, &[59]),
            ExtensionHeader,
        ),
        (
            "destination options",
            with(plain_v6(), 20, &[60]),
            ExtensionHeader,
        ),
        ("mobility", with(plain_v6(), 20, &[135]), ExtensionHeader),
        (
            "from 0.0.0.0",
            with(plain(), 26, &[0, 0, 0, 0]),
            MartianSource,
        ),
        (
            "from 127.0.0.1",
            with(plain(), 26, &[127, 0, 0, 1]),
            MartianSource,
        ),
        (
            "from multicast",
            with(plain(), 26, &[224, 0, 1, 75]),
            MartianSource,
        ),
        (
            "from broadcast",
            with(plain(), 26, &[255; 4]),
            MartianSource,
        ),
        ("from itself", with(plain(), 26, &V4_VIP), MartianSource),
        ("from ::", with(plain_v6(), 22, &[0; 16]), MartianSource),
        (
            "from ::1",
            with(plain_v6(), 22, &1u128.to_be_bytes()),
            MartianSource,
        ),
        (
            "from ff02::1",
            with(plain_v6(), 22, &[0xff, 2]),
            MartianSource,
        ),
        (
            "from mapped",
            with(plain_v6(), 22, &map_ipv4(V4_SOURCE)),
            MartianSource,
        ),
        (
            "to mapped",
            with(plain_v6(), 38, &map_ipv4(V4_VIP)),
            MartianSource,
        ),
        (
            "from itself, IPv6",
            with(plain_v6(), 22, &V6_VIP),
            MartianSource,
        ),
    ];
    for (name, bytes, reason) in cases {
        assert_eq!(decode(bytes.as_slice()), Decoded::NotOurs(reason), "{name}");
    }
}

#[test]
fn what_is_broken_says_why_and_whose_it_is() {
    use Fault::*;
    let v4 = Some(Endpoint {
        address: map_ipv4(V4_VIP),
        port: 5060,
    });
    let v6 = Some(Endpoint {
        address: V6_VIP,
        port: 5060,
    });
    let options = frame(Family::V4WithOptions, None, PAYLOAD);
    let tagged = frame(Family::V4, Some(TAG), PAYLOAD);
    let whole = plain().len();
    let mut flipped = plain();
    flipped[18] ^= 1;
    let mut flipped_option = options.clone();
    flipped_option[36] ^= 1;
    let cases = [
        ("empty", vec![], TruncatedEthernet, None),
        ("13 bytes", cut(plain(), 13), TruncatedEthernet, None),
        ("cut tag", cut(tagged, 17), TruncatedVlan, None),
        ("cut IPv4", cut(plain(), 33), TruncatedIp, None),
        ("cut options", cut(options.clone(), 40), TruncatedIp, None),
        ("cut IPv6", cut(plain_v6(), 53), TruncatedIp, None),
        (
            "IPv6 in IPv4's type",
            with(plain(), 14, &[0x65]),
            IpVersion,
            None,
        ),
        (
            "IPv4 in IPv6's type",
            with(plain_v6(), 14, &[0x45]),
            IpVersion,
            None,
        ),
        ("IHL 4", with(plain(), 14, &[0x44]), IpHeaderLength, None),
        ("IHL 0", with(plain(), 14, &[0x40]), IpHeaderLength, None),
        ("cut ports", cut(plain(), 37), Truncated, None),
        ("cut behind the ports", cut(plain(), 38), Truncated, v4),
        ("one byte short", cut(plain(), whole - 1), Truncated, v4),
        (
            "long total length",
            with(plain(), 16, &[0xff, 0xff]),
            Truncated,
            v4,
        ),
        (
            "long payload length",
            with(plain_v6(), 18, &[0xff, 0xff]),
            Truncated,
            v6,
        ),
        (
            "room for ports only",
            with(plain(), 16, &[0, 27]),
            IpTotalLength,
            v4,
        ),
        (
            "no room for ports",
            with(plain(), 16, &[0, 23]),
            IpTotalLength,
            None,
        ),
        (
            "below the header",
            with(plain(), 16, &[0, 19]),
            IpTotalLength,
            None,
        ),
        (
            "total length 0",
            with(plain(), 16, &[0, 0]),
            IpTotalLength,
            None,
        ),
        (
            "payload length 7",
            with(plain_v6(), 18, &[0, 7]),
            IpTotalLength,
            v6,
        ),
        (
            "payload length 0",
            with(plain_v6(), 18, &[0, 0]),
            IpTotalLength,
            None,
        ),
        ("wrong header checksum", flipped, IpChecksum, v4),
        (
            "wrong checksum over options",
            flipped_option,
            IpChecksum,
            v4,
        ),
        ("UDP length 7", with(plain(), 38, &[0, 7]), UdpLength, v4),
        ("UDP length 0", with(plain(), 38, &[0, 0]), UdpLength, v4),
        (
            "UDP length 0, IPv6",
            with(plain_v6(), 58, &[0, 0]),
            UdpLength,
            v6,
        ),
        (
            "long UDP length",
            with(plain(), 38, &[0, 45]),
            UdpLength,
            v4,
        ),
        (
            "source port 0",
            with(plain(), 34, &[0, 0]),
            SourcePortZero,
            v4,
        ),
        (
            "source port 0, IPv6",
            with(plain_v6(), 54, &[0, 0]),
            SourcePortZero,
            v6,
        ),
        (
            "no checksum, IPv6",
            with(plain_v6(), 60, &[0, 0]),
            UdpChecksumMissing,
            v6,
        ),
    ];
    for (name, bytes, fault, destination) in cases {
        let expected = Decoded::Broken(Broken { fault, destination });
        assert_eq!(decode(bytes.as_slice()), expected, "{name}");
    }
}

#[test]
fn a_frame_cut_anywhere_is_broken_and_never_read_beyond() {
    for (family, vlan) in all_shapes() {
        let whole = frame(family, vlan, PAYLOAD);
        for len in 0..whole.len() {
            let decoded = decode(&whole[..len]);
            let Decoded::Broken(broken) = decoded else {
                panic!("{family:?} {vlan:?} cut to {len}: {decoded:?}");
            };
            let udp_offset = whole.len() - PAYLOAD.len() - 8;
            assert_eq!(
                broken.destination.is_some(),
                len >= udp_offset + 4,
                "{family:?} {vlan:?} cut to {len}: {broken:?}"
            );
        }
    }
}

/// What another decoder makes of a frame: ports and payload when it is a UDP datagram that the XDP program may take.
fn second_opinion(bytes: &[u8]) -> Option<(u16, u16, Vec<u8>)> {
    let packet = SlicedPacket::from_ethernet(bytes).ok()?;
    let single_tag = match packet.link_exts.len() {
        0 => true,
        1 => bytes[12..14] == [0x81, 0x00],
        _ => false,
    };
    let plain_ip = match packet.net.as_ref()? {
        NetSlice::Ipv4(ip) => {
            !ip.is_payload_fragmented()
                && etherparse::checksum::Sum16BitWords::new()
                    .add_slice(ip.header().slice())
                    .ones_complement()
                    == 0
        }
        // etherparse takes a payload length of 0 for "all that is left".
        NetSlice::Ipv6(ip) => ip.extensions().is_empty() && ip.header().payload_length() != 0,
        NetSlice::Arp(_) => false,
    };
    let TransportSlice::Udp(udp) = packet.transport.as_ref()? else {
        return None;
    };
    let checksum_ok = matches!(packet.net, Some(NetSlice::Ipv4(_))) || udp.checksum() != 0;
    // Likewise a UDP length of 0.
    let length_ok = udp.length() >= 8;
    (single_tag && plain_ip && checksum_ok && length_ok && udp.source_port() != 0).then(|| {
        (
            udp.source_port(),
            udp.destination_port(),
            udp.payload().to_vec(),
        )
    })
}

fn check_against_second_opinion(bytes: &[u8]) -> Result<(), TestCaseError> {
    let ours = match decode(bytes) {
        Decoded::Udp(udp) => {
            let at = udp.payload_offset;
            Some((
                udp.source_port,
                udp.destination_port,
                bytes[at..at + udp.payload_len].to_vec(),
            ))
        }
        // The other decoder has no opinion on addresses.
        Decoded::NotOurs(NotOurs::MartianSource) => return Ok(()),
        Decoded::NotOurs(_) | Decoded::Broken(_) => None,
    };
    prop_assert_eq!(
        ours,
        second_opinion(bytes),
        "{:02x?} {:?}",
        bytes,
        decode(bytes)
    );
    Ok(())
}

/// A change of one byte: lengths that are off by little and flags that flip find more than random bytes.
#[derive(Clone, Copy, Debug)]
enum Spoil {
    Add(u8),
    Flip(u32),
    Set(u8),
}

impl Spoil {
    fn apply(self, byte: u8) -> u8 {
        match self {
            Self::Add(value) => byte.wrapping_add(value),
            Self::Flip(bit) => byte ^ (1 << bit),
            Self::Set(value) => value,
        }
    }
}

fn spoil() -> impl Strategy<Value = Spoil> {
    prop_oneof![
        prop_oneof![Just(1), Just(0xff)].prop_map(Spoil::Add),
        (0..8u32).prop_map(Spoil::Flip),
        any::<u8>().prop_map(Spoil::Set),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(4096))]

    #[test]
    fn garbage_never_panics_and_what_is_found_lies_in_the_frame(bytes in proptest::collection::vec(any::<u8>(), 0..128)) {
        if let Decoded::Udp(udp) = decode(bytes.as_slice()) {
            prop_assert!(udp.payload_offset + udp.payload_len <= bytes.len());
        }
    }

    #[test]
    fn a_spoiled_frame_reads_as_another_decoder_reads_it(
        shape in 0..6usize,
        payload in proptest::collection::vec(any::<u8>(), 0..40),
spoils in proptest::collection::vec((any::<prop::sample::Index>(), spoil()), 0..3),
        padding in 0..20usize,
        shorter in 0..4usize,
        repair in any::<bool>(),
    ) {
        let (family, vlan) = all_shapes().nth(shape).unwrap();
        let mut bytes = frame(family, vlan, &payload);
        bytes.extend(std::iter::repeat_n(0, padding));
        let headers = bytes.len().min(74);
        for (at, spoil) in spoils {
            let at = at.index(headers);
            bytes[at] = spoil.apply(bytes[at]);
        }
        if repair && bytes.len() >= 34 {
            bytes = with(bytes, 0, &[]);
        }
        bytes.truncate(bytes.len().saturating_sub(shorter));
        check_against_second_opinion(&bytes)?;
    }
}
