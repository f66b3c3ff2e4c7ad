//! Copies of messages for a HEP collector such as Homer. A thread of its own sends what workers copy; nothing waits for it.

mod packet;

use std::{
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket},
    sync::{
        Arc, Mutex, PoisonError,
        mpsc::{self, RecvTimeoutError},
    },
    thread::{self, JoinHandle},
    time::Duration,
};

use anyhow::{Context, Result, bail};
use arc_swap::ArcSwap;
use log::Level;

use self::packet::Packet;
use super::trace::unix_ns;
use crate::{
    config::{self, Config},
    forward::{Table, without_proxy_header},
    log_limit::LogLimit,
    sip,
    sys::thread::monotonic_ns,
    tap::{Filter, Purpose, Record, TapReader, Taps, Way},
};

/// How often what was copied is sent.
const EVERY: Duration = Duration::from_millis(10);
/// How long a packet may wait for room in the socket.
const PATIENCE: Duration = Duration::from_millis(100);

/// Sends what `hep` of the configuration says, to whom it says.
pub struct HepSender {
    taps: Arc<Taps>,
    table: Arc<ArcSwap<Table>>,
    running: Mutex<Option<Running>>,
}

struct Running {
    settings: Settings,
    stop: mpsc::Sender<()>,
    thread: JoinHandle<()>,
}

/// What cannot change without another thread.
#[derive(Clone, PartialEq)]
struct Settings {
    hep: config::Hep,
    sample_key: [u8; 16],
}

impl HepSender {
    /// Sends nothing yet.
    pub fn new(taps: Arc<Taps>, table: Arc<ArcSwap<Table>>) -> Self {
        Self {
            taps,
            table,
            running: Mutex::new(None),
        }
    }

    /// Does from now on what this configuration says.
    ///
    /// # Errors
    /// When there is no socket or thread to be had; what was done before goes on then.
    pub fn apply(&self, config: &Config) -> Result<()> {
        let mut running = self.running.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(hep) = &config.hep else {
            if let Some(running) = running.take() {
                running.stop();
                log::info!("HEP: off");
            }
            return Ok(());
        };
        let settings = Settings {
            hep: hep.clone(),
            sample_key: config.keys.sample_key(),
        };
        if running
            .as_ref()
            .is_some_and(|running| running.settings == settings)
        {
            return Ok(());
        }
        // The only thing that fails for reasons of the operator's comes first.
        let socket = open(hep.collector, config.node.address)?;
        if let Some(running) = running.take() {
            running.stop();
        }
        let filter = Filter::sample(hep.sample, settings.sample_key);
        let Ok(reader) = self.taps.open(Purpose::Hep, filter, 0) else {
            bail!("hep: a bug: the one before is still there");
        };
        let (stop, stopped) = mpsc::channel();
        let sender = Sender {
            hep: hep.clone(),
            socket,
            taps: Arc::clone(&self.taps),
            table: Arc::clone(&self.table),
            problems: LogLimit::new(),
        };
        let thread = thread::Builder::new()
            .name("hep".into())
            .spawn(move || sender.run(reader, &stopped))
            .context("hep")?;
        let share = 100.0 * hep.sample;
        log::info!("HEP: {share} % of all calls go to {}", hep.collector);
        *running = Some(Running {
            settings,
            stop,
            thread,
        });
        Ok(())
    }

    /// Sends what is there, and nothing more.
    pub fn stop(&self) {
        let mut running = self.running.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(running) = running.take() {
            running.stop();
        }
    }
}

impl Running {
    fn stop(self) {
        drop(self.stop);
        // A panic in it has been printed already.
        let _ = self.thread.join();
    }
}

/// A socket that sends from the node's own address, where that is of the collector's family.
fn open(collector: SocketAddr, node: Option<IpAddr>) -> Result<UdpSocket> {
    let any = match collector {
        SocketAddr::V4(_) => IpAddr::from(Ipv4Addr::UNSPECIFIED),
        SocketAddr::V6(_) => IpAddr::from(Ipv6Addr::UNSPECIFIED),
    };
    let local = node.filter(|node| node.is_ipv4() == collector.is_ipv4());
    let local = local.unwrap_or(any);
    let socket = UdpSocket::bind((local, 0))
        .with_context(|| format!("hep: no socket on node.address {local}; is it on this host?"))?;
    socket.set_write_timeout(Some(PATIENCE))?;
    Ok(socket)
}

struct Sender {
    hep: config::Hep,
    socket: UdpSocket,
    taps: Arc<Taps>,
    table: Arc<ArcSwap<Table>>,
    problems: LogLimit,
}

impl Sender {
    fn run(&self, mut reader: TapReader, stopped: &mpsc::Receiver<()>) {
        let mut packet = Vec::new();
        loop {
            let ends = stopped.recv_timeout(EVERY) != Err(RecvTimeoutError::Timeout);
            let now = monotonic_ns();
            let since_1970_ns = unix_ns().saturating_sub(now);
            let table = self.table.load();
            let until = if ends { u64::MAX } else { now };
            let Ok(()) = reader.drain(until, |record| {
                self.send(&table, record, since_1970_ns, &mut packet);
                Ok::<_, std::convert::Infallible>(())
            });
            if ends {
                return;
            }
        }
    }

    /// Sends a message as it came, unless it was sent before, and as it left.
    fn send(&self, table: &Table, record: &Record, since_1970_ns: u64, packet: &mut Vec<u8>) {
        let received = record.received();
        let message = sip::read(received).ok();
        let call_id = message.and_then(|message| message.call_id);
        let call_id = call_id.map_or(&[][..], |field| field.value.of(received));
        // That of the inside on both legs, also where the outside has another one.
        let inner = table.inner_call_id(call_id);
        let correlation_id = inner.as_ref().map_or(call_id, |inner| inner.as_slice());
        let mut send = |source, destination, payload| {
            Packet {
                source,
                destination,
                time_ns: record.at_ns.saturating_add(since_1970_ns),
                capture_id: self.hep.id,
                password: self
                    .hep
                    .password
                    .as_ref()
                    .map(|password| password.as_bytes()),
                correlation_id,
                payload,
            }
            .write(packet);
            let sent = self.socket.send_to(packet, self.hep.collector);
            if let Err(error) = &sent {
                let collector = self.hep.collector;
                self.problems.log(
                    Level::Warn,
                    format_args!("HEP: a packet to {collector} was not sent: {error}"),
                );
            }
            if let Some(counts) = self.taps.hep_counts().get(record.worker) {
                counts.add(sent.is_ok());
            }
        };
        if record.way != Way::Waited {
            send(record.source, record.destination, received);
        }
        if let Some(sent) = record.sent {
            send(
                sent.from,
                sent.to,
                without_proxy_header(record.sent_bytes()),
            );
        }
    }
}
