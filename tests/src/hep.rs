//! A HEP collector: a socket, and a reader of its own of what comes.

use std::{
    collections::BTreeMap,
    net::{IpAddr, SocketAddr, UdpSocket},
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    thread::JoinHandle,
    time::Duration,
};

use anyhow::{Context, Result, ensure};

use crate::host::Host;

/// A packet of HEP version 3.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HepPacket {
    /// Where the datagram came from.
    pub source: SocketAddr,
    /// Where it went.
    pub destination: SocketAddr,
    /// When, in seconds since 1970.
    pub seconds: u32,
    /// By which the collector tells nodes apart.
    pub capture_id: u32,
    /// The password.
    pub key: Option<Vec<u8>>,
    /// The Call-ID.
    pub correlation_id: String,
    /// The SIP message.
    pub payload: String,
}

/// Takes what comes until it is dropped.
#[derive(Debug)]
pub struct Collector {
    packets: Arc<Mutex<Vec<Vec<u8>>>>,
    ends: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Collector {
    /// Listens in a host, and sends what comes on to somebody else, if there is anybody.
    ///
    /// # Errors
    ///
    /// When the address is not free.
    pub fn start(host: &Host, address: SocketAddr, also: Option<SocketAddr>) -> Result<Self> {
        let socket = host.enter(|| UdpSocket::bind(address))??;
        socket.set_read_timeout(Some(Duration::from_millis(50)))?;
        let packets = Arc::new(Mutex::new(Vec::new()));
        let ends = Arc::new(AtomicBool::new(false));
        let (into, until) = (Arc::clone(&packets), Arc::clone(&ends));
        let thread = std::thread::spawn(move || {
            let mut buffer = vec![0; 1 << 16];
            while !until.load(Relaxed) {
                let Ok(len) = socket.recv(&mut buffer) else {
                    continue;
                };
                if let Some(also) = also {
                    let _ = socket.send_to(&buffer[..len], also);
                }
                let mut packets = into.lock().unwrap_or_else(PoisonError::into_inner);
                packets.push(buffer[..len].to_vec());
            }
        });
        Ok(Self {
            packets,
            ends,
            thread: Some(thread),
        })
    }

    /// How many packets have come.
    pub fn count(&self) -> usize {
        self.lock().len()
    }

    /// What has come so far.
    ///
    /// # Errors
    ///
    /// When one of them is no HEP packet.
    pub fn packets(&self) -> Result<Vec<HepPacket>> {
        self.lock().iter().map(|packet| decode(packet)).collect()
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Vec<Vec<u8>>> {
        self.packets.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Collector {
    fn drop(&mut self) {
        self.ends.store(true, Relaxed);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// Reads a packet by the description of the protocol: `HEP3`, length, and chunks of vendor, type, length and value.
fn decode(packet: &[u8]) -> Result<HepPacket> {
    let word = |at: usize| {
        let bytes = packet.get(at..at + 2).context("cut")?;
        Ok::<_, anyhow::Error>(usize::from(u16::from_be_bytes(bytes.try_into()?)))
    };
    ensure!(packet.starts_with(b"HEP3"), "no HEP version 3");
    ensure!(word(4)? == packet.len(), "wrong length");
    let mut chunks = BTreeMap::new();
    let mut at = 6;
    while at < packet.len() {
        ensure!(word(at)? == 0, "a chunk of some vendor");
        let len = word(at + 4)?;
        let value = packet.get(at + 6..at + len).context("a cut chunk")?;
        chunks.insert(word(at + 2)?, value);
        at += len;
    }
    let chunk = |kind: usize| {
        chunks
            .get(&kind)
            .copied()
            .context(format!("no chunk {kind}"))
    };
    let number = |kind| {
        let digits = chunk(kind)?.iter();
        Ok::<_, anyhow::Error>(digits.fold(0u64, |sum, byte| sum << 8 | u64::from(*byte)))
    };
    ensure!(number(2)? == 17 && number(11)? == 1, "no SIP over UDP");
    let address = |v4, v6, port| {
        let ip: IpAddr = match number(1)? {
            2 => <[u8; 4]>::try_from(chunk(v4)?)?.into(),
            _ => <[u8; 16]>::try_from(chunk(v6)?)?.into(),
        };
        Ok::<_, anyhow::Error>(SocketAddr::new(ip, number(port)? as u16))
    };
    let text = |kind| Ok::<_, anyhow::Error>(String::from_utf8(chunk(kind)?.to_vec())?);
    ensure!(number(10)? < 1_000_000, "more microseconds than there are");
    Ok(HepPacket {
        source: address(3, 5, 7)?,
        destination: address(4, 6, 8)?,
        seconds: number(9)? as u32,
        capture_id: number(12)? as u32,
        key: chunk(14).ok().map(<[u8]>::to_vec),
        correlation_id: text(17)?,
        payload: text(15)?,
    })
}
