//! `--pcap`.

use std::{
    fs,
    path::{Path, PathBuf},
};

use etherparse::PacketBuilder;
use serde_json::Value;

use super::*;

const VIP: &str = "203.0.113.10:5060";

/// An IPv4 packet as it is on the wire, without a link layer.
fn packet(from: &str, to: &str, payload: impl AsRef<[u8]>) -> Vec<u8> {
    let end = |text: &str| {
        let (ip, port) = text.rsplit_once(':').unwrap();
        let ip: std::net::Ipv4Addr = ip.parse().unwrap();
        (ip.octets(), port.parse::<u16>().unwrap())
    };
    let (from, to) = (end(from), end(to));
    let mut bytes = Vec::new();
    PacketBuilder::ipv4(from.0, to.0, 64)
        .udp(from.1, to.1)
        .write(&mut bytes, payload.as_ref())
        .unwrap();
    bytes
}

/// A pcap file of raw IP packets, one second apart.
fn pcap(packets: &[Vec<u8>]) -> Vec<u8> {
    let mut bytes = Vec::new();
    for field in [0xa1b2_c3d4u32, 0x0004_0002, 0, 0, 65_535, 101] {
        bytes.extend(field.to_le_bytes());
    }
    for (second, packet) in (1_790_000_000u32..).zip(packets) {
        let len = packet.len() as u32;
        for field in [second, 123, len, len] {
            bytes.extend(field.to_le_bytes());
        }
        bytes.extend(packet);
    }
    bytes
}

/// A call as a capture on the edge host has it, and what else comes by.
fn call(dir: &Dir) -> Vec<Vec<u8>> {
    let invite = dir.json(CLIENT, INVITE);
    let backend = invite["next_hop"].as_str().unwrap();
    let forwarded = sent(&invite);
    let answer = response(&forwarded);
    let forged = answer.replace("received=198.51.100.7", "received=198.51.100.8");
    let mut cut = packet(CLIENT, VIP, INVITE);
    cut.truncate(100);
    vec![
        packet(CLIENT, VIP, INVITE),
        packet(VIP, backend, &forwarded),
        packet(backend, VIP, &answer),
        packet(backend, VIP, &forged),
        packet(CLIENT, VIP, "\r\n\r\n"),
        packet(CLIENT, "203.0.113.10:30000", [0x80; 172]),
        packet(
            CLIENT,
            "192.0.2.99:5080",
            INVITE.replace("INVITE", "OPTIONS"),
        ),
        cut,
    ]
}

#[test]
fn a_capture_for_people() {
    let dir = Dir::new("capture");
    dir.write("call.pcap", pcap(&call(&dir)));
    let output = dir.explain(&["--pcap", &dir.path("call.pcap")], "");
    let text = String::from_utf8(output.stdout).unwrap();
    assert_eq!(text, include_str!("capture.txt"));
    assert_eq!(output.status.code(), Some(0));
    assert!(output.stderr.is_empty());
}

#[test]
fn a_capture_for_programs() {
    let dir = Dir::new("lines");
    // From standard input, as `tcpdump -w -` writes it.
    let capture = pcap(&call(&dir));
    let output = dir.explain(&["--json", "--pcap", "-"], &capture);
    assert_eq!(output.status.code(), Some(0));
    let stderr = String::from_utf8(output.stderr).unwrap();
    assert!(
        stderr.starts_with("6 datagrams explained, 8 packets read\n"),
        "{stderr}"
    );
    let text = String::from_utf8(output.stdout).unwrap();
    let lines = text.lines().map(|line| serde_json::from_str(line).unwrap());
    let lines = lines.collect::<Vec<Value>>();
    let reasons = lines.iter().map(|line| line["reason"].as_str().unwrap());
    assert_eq!(
        reasons.collect::<Vec<_>>(),
        [
            "request_to_pool",
            "sent_by_listener",
            "response",
            "response_bad_mac",
            "keepalive_crlf",
            "no_route_rule"
        ]
    );
    check(
        &lines[0],
        &[
            ("/packet", "1"),
            ("/time", "\"2026-09-21T14:13:20.000123Z\""),
            ("/from", "\"198.51.100.7:40000\""),
            ("/destination", "\"203.0.113.10:5060\""),
            ("/verdict", "\"forward\""),
        ],
    );
    // Apart from what the capture adds it is what the datagram alone gives.
    let alone = dir.json(CLIENT, INVITE);
    for (key, value) in alone.as_object().unwrap() {
        assert_eq!(&lines[0][key], value, "{key}");
    }
    check(
        &lines[1],
        &[("/verdict", "null"), ("/listener", "\"public\"")],
    );
    check(
        &lines[5],
        &[
            ("/packet", "7"),
            ("/destination", "\"192.0.2.99:5080\""),
            ("/to", "\"203.0.113.10:5060\""),
        ],
    );
}

#[test]
fn a_capture_that_is_cut_is_explained_as_far_as_it_goes() {
    let dir = Dir::new("cut");
    let capture = pcap(&call(&dir));
    dir.write("cut.pcap", &capture[..capture.len() - 50]);
    let output = dir.explain(&["--pcap", &dir.path("cut.pcap")], "");
    assert_eq!(output.status.code(), Some(1));
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(
        text.contains("\n6 datagrams explained, 7 packets read\n"),
        "{text}"
    );
    let wanted = format!(
        "siplb: {}: byte {}, after packet 7: the capture ends within a packet\n",
        dir.path("cut.pcap"),
        capture.len() - 116
    );
    assert_eq!(String::from_utf8(output.stderr).unwrap(), wanted);

    dir.write("garbage", INVITE);
    let output = dir.explain(&["--pcap", &dir.path("garbage")], "");
    assert_eq!(output.status.code(), Some(1));
    let stderr = String::from_utf8(output.stderr).unwrap();
    assert!(
        stderr.contains("garbage: byte 0: is no capture"),
        "{stderr}"
    );
    for arguments in [
        &["--pcap", "x", "--from", CLIENT][..],
        &["--pcap", "x", "message"],
        &["--pcap", "x", "--to", "192.0.2.1:5060"],
    ] {
        assert_eq!(dir.explain(arguments, "").status.code(), Some(2));
    }
    assert_eq!(
        dir.explain(&["--pcap", "/no/such"], "").status.code(),
        Some(1)
    );
}

/// `SIPLB_CORPUS`, or the folder beside the checkout.
fn corpus() -> Option<PathBuf> {
    let named = std::env::var_os("SIPLB_CORPUS").map(PathBuf::from);
    let beside = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../shared/corpus");
    named.or_else(|| beside.is_dir().then_some(beside))
}

/// Captures of others: each SIP message that tshark finds in them is explained.
#[test]
fn captures_of_the_corpus() {
    let Some(folder) = corpus() else {
        eprintln!("skipped: no corpus; SIPLB_CORPUS may name one");
        return;
    };
    let dir = Dir::new("corpus");
    let table = fs::read_to_string(folder.join("pcap.tsv")).unwrap();
    let mut lines = table.lines();
    let names = lines.next().unwrap().split('\t').collect::<Vec<_>>();
    let column = |name| names.iter().position(|one| *one == name).unwrap();
    let (file, frames) = (column("file"), column("sip_udp_frames"));
    let mut captures = 0;
    for line in lines {
        let row = line.split('\t').collect::<Vec<_>>();
        let path = folder.join(row[file]).display().to_string();
        let output = dir.explain(&["--json", "--pcap", &path], "");
        assert_eq!(output.status.code(), Some(0), "{path}");
        let text = String::from_utf8(output.stdout).unwrap();
        let messages = text.lines().filter(|line| {
            let line: Value = serde_json::from_str(line).unwrap();
            line["parse"]["kind"].is_string()
        });
        assert_eq!(messages.count().to_string(), row[frames], "{path}");
        captures += 1;
    }
    assert!(captures > 0);
}
