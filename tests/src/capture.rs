//! What is really on the wire: captures, and what tshark says about them.

use std::{
    net::SocketAddr,
    path::{Path, PathBuf},
    process::Command,
    time::Duration,
};

use anyhow::{Context, Result, bail};
use rustix::process::Signal;

use crate::{
    host::{Host, run},
    lab::Lab,
    process::Process,
    wait::until,
};

/// The kernel hands over packets in blocks, a few times a second; those of a block that is not full are lost when
/// dumpcap is told to end before that.
const HAND_OVER: Duration = Duration::from_millis(500);

/// A running capture of one interface.
#[derive(Debug)]
pub struct Capture {
    process: Process,
    file: PathBuf,
}

/// A packet as tshark sees it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Packet {
    /// Source address.
    pub source: String,
    /// Destination address.
    pub destination: String,
    /// Of the IPv4 header; `None` for IPv6.
    pub ip_checksum: Option<Checksum>,
    /// Of UDP; `None` for a fragment that is not the last, since it covers all of them.
    pub udp_checksum: Option<Checksum>,
    /// Length on the wire in bytes.
    pub length: u64,
    /// True when it holds a whole SIP message, whatever its ports; with the last fragment all of them are seen.
    pub is_sip: bool,
    /// True when some layer of it cannot be dissected to its end.
    pub malformed: bool,
}

/// A UDP datagram, put together again if it was fragmented.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Datagram {
    /// Where it came from.
    pub source: SocketAddr,
    /// Where it went.
    pub destination: SocketAddr,
    /// Every byte of it.
    pub payload: Vec<u8>,
}

/// What tshark thinks of a checksum.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Checksum {
    /// It is wrong.
    Bad,
    /// It is right.
    Good,
    /// It was not checked.
    Unverified,
    /// There is none.
    NotPresent,
}

impl Capture {
    /// Starts to capture UDP (fragments included) on an interface; running when this returns.
    ///
    /// # Errors
    ///
    /// When dumpcap does not start.
    pub fn start(lab: &Lab, host: &Host, interface: &str) -> Result<Self> {
        let name = format!("{}-{interface}", host.namespace());
        let file = lab.dir().join(format!("{name}.pcapng"));
        let mut command = Command::new("dumpcap");
        command
            .args([
                "-q",
                "-B",
                "16",
                "-i",
                interface,
                "-f",
                "udp or ip6 proto 44 or ip[6:2] & 0x3fff != 0",
            ])
            .arg("-w")
            .arg(&file);
        let mut process = lab.spawn(host, &name, command)?;
        let started = until("dumpcap to start", Duration::from_secs(10), || {
            // It says where it writes when it has begun to capture.
            if process.output().contains("File: ") {
                return Some(true);
            }
            (!process.is_running()).then_some(false)
        })?;
        if !started {
            bail!("dumpcap has ended: {}", process.output());
        }
        Ok(Self { process, file })
    }

    /// Ends the capture and returns what it has caught.
    ///
    /// # Errors
    ///
    /// When dumpcap does not end, or tshark cannot read the file.
    pub fn stop(mut self) -> Result<Vec<Packet>> {
        self.end()?;
        packets(&self.file)
    }

    /// Ends the capture and returns the datagrams in it, byte by byte.
    ///
    /// # Errors
    ///
    /// As [`Self::stop`].
    pub fn datagrams(mut self) -> Result<Vec<Datagram>> {
        self.end()?;
        let output = fields(
            &self.file,
            &[
                "ip.src",
                "ipv6.src",
                "udp.srcport",
                "ip.dst",
                "ipv6.dst",
                "udp.dstport",
                "udp.payload",
            ],
        )?;
        // A fragment that is not the last has no UDP layer.
        let lines = output.lines().filter(|line| !line.ends_with(";;"));
        lines
            .map(|line| parse_datagram(line).with_context(|| format!("tshark says {line:?}")))
            .collect()
    }

    fn end(&mut self) -> Result<()> {
        std::thread::sleep(HAND_OVER);
        self.process.signal(Signal::INT);
        self.process.wait(Duration::from_secs(10)).map(drop)
    }
}

/// What tshark makes of the packets of a capture file, from whomever it is.
///
/// # Errors
///
/// When tshark cannot read it.
pub fn packets(file: &Path) -> Result<Vec<Packet>> {
    let output = fields(
        file,
        &[
            "ip.src",
            "ip.dst",
            "ipv6.src",
            "ipv6.dst",
            "ip.checksum.status",
            "udp.checksum.status",
            "frame.len",
            "frame.protocols",
            "_ws.malformed",
        ],
    )?;
    output
        .lines()
        .map(|line| parse(line).with_context(|| format!("tshark says {line:?}")))
        .collect()
}

/// The first value of each field in each packet.
fn fields(file: &Path, fields: &[&str]) -> Result<String> {
    let mut command = Command::new("tshark");
    command.args([
        "-n",
        "-o",
        "udp.check_checksum:TRUE",
        "-o",
        "ip.check_checksum:TRUE",
    ]);
    // Replies may go to any port.
    command.args(["-d", "udp.port==1-65535,sip"]);
    command.args(["-T", "fields", "-E", "separator=;", "-E", "occurrence=f"]);
    for field in fields {
        command.args(["-e", field]);
    }
    run(command.arg("-r").arg(file))
}

fn parse_datagram(line: &str) -> Option<Datagram> {
    let fields: Vec<&str> = line.split(';').collect();
    let [
        source,
        source_v6,
        source_port,
        destination,
        destination_v6,
        destination_port,
        payload,
    ] = fields[..]
    else {
        return None;
    };
    let address = |v4: &str, v6: &str, port: &str| {
        let ip = if v4.is_empty() { v6 } else { v4 };
        Some(SocketAddr::new(ip.parse().ok()?, port.parse().ok()?))
    };
    let bytes = payload.as_bytes().chunks(2).map(|digits| {
        let digits = std::str::from_utf8(digits).ok()?;
        u8::from_str_radix(digits, 16).ok()
    });
    Some(Datagram {
        source: address(source, source_v6, source_port)?,
        destination: address(destination, destination_v6, destination_port)?,
        payload: bytes.collect::<Option<_>>()?,
    })
}

fn parse(line: &str) -> Option<Packet> {
    let fields: Vec<&str> = line.split(';').collect();
    let [
        source,
        destination,
        source_v6,
        destination_v6,
        ip,
        udp,
        length,
        protocols,
        malformed,
    ] = fields[..]
    else {
        return None;
    };
    let either = |v4: &str, v6: &str| if v4.is_empty() { v6.into() } else { v4.into() };
    Some(Packet {
        source: either(source, source_v6),
        destination: either(destination, destination_v6),
        ip_checksum: checksum(ip)?,
        udp_checksum: checksum(udp)?,
        length: length.parse().ok()?,
        is_sip: protocols.split(':').any(|protocol| protocol == "sip"),
        malformed: !malformed.is_empty(),
    })
}

fn checksum(field: &str) -> Option<Option<Checksum>> {
    Some(Some(match field {
        "" => return Some(None),
        "0" => Checksum::Bad,
        "1" => Checksum::Good,
        "2" => Checksum::Unverified,
        "3" => Checksum::NotPresent,
        _ => return None,
    }))
}
