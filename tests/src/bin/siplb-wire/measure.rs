//! How many messages a second come out at the other end, what they cost, and how long they take.

use std::{
    net::UdpSocket,
    path::Path,
    sync::atomic::{AtomicBool, AtomicU64, Ordering},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context, Result};
use lb_common::wire::{ARRIVALS_LEN, STAMP_LEN, Template, stamp};
use lb_userspace::sys::thread::{monotonic_ns, pin_to_cpu};
use siplb_lab::Lab;

use crate::{
    DRIVER_CPU,
    bpf::{Generator, Runner, Sink},
    messages::{Ends, MARK},
};

/// Frames of one call into the kernel, which takes 25 ms before it begins.
const FRAMES_A_RUN: u32 = 1 << 21;
/// How often the sinks are looked at.
const SAMPLE_EVERY: Duration = Duration::from_millis(20);
/// What it takes until all is running evenly.
const SETTLE: Duration = Duration::from_millis(400);
/// Rates that are tried with what does not take a flood, in datagrams a second.
const RATES: [u32; 14] = [
    20_000, 30_000, 40_000, 50_000, 60_000, 70_000, 80_000, 100_000, 120_000, 140_000, 170_000,
    200_000, 250_000, 300_000,
];

/// What a contender did with one kind of messages.
#[derive(Clone, Copy, Debug, Default, PartialEq, serde::Serialize)]
pub struct Rate {
    /// Messages that came out, a second.
    pub per_second: f64,
    /// Messages that went in, a second.
    pub offered: f64,
    /// Processor time of the process in user space and in the kernel for each message that came out, in nanoseconds.
    pub user_ns: f64,
    /// See there.
    pub system_ns: f64,
}

/// How long messages took, from before they are sent until they arrive; in microseconds.
#[derive(Clone, Copy, Debug, PartialEq, serde::Serialize)]
pub struct Latency {
    /// Datagrams a second that came out.
    pub rate: f64,
    /// Datagrams a second that went in.
    pub offered: f64,
    /// Half took no longer.
    pub p50: f64,
    /// 99 of a hundred.
    pub p99: f64,
    /// 999 of a thousand.
    pub p999: f64,
    /// Share that did not arrive.
    pub lost: f64,
}

/// Sinks at both ends.
pub struct Sinks([Sink; 2]);

impl Sinks {
    /// Attaches them where the servers and where the caller is. Nobody there hears of UDP any more.
    ///
    /// # Errors
    ///
    /// See [`Sink::attach`].
    pub fn attach(object: &Path, lab: &Lab) -> Result<Self> {
        Ok(Self([
            Sink::attach(object, &lab.servers, "eth0")?,
            Sink::attach(object, &lab.client, "eth0")?,
        ]))
    }

    fn received(&self) -> Result<u64> {
        Ok(self.0[0].received()? + self.0[1].received()?)
    }
}

/// The processor time that a process has used, user and system, in ticks of a hundredth of a second.
fn processor_time(process: u32) -> Result<[u64; 2]> {
    // Kamailio's work is done by its children.
    let mut times = [0; 2];
    for id in family(process) {
        let Ok(stat) = std::fs::read_to_string(format!("/proc/{id}/stat")) else {
            continue;
        };
        let fields = stat.rsplit_once(')').context("/proc/PID/stat")?.1;
        let mut fields = fields.split_ascii_whitespace().skip(11);
        for time in &mut times {
            let field = fields.next().context("/proc/PID/stat")?;
            *time += field.parse::<u64>()?;
        }
    }
    Ok(times)
}

fn family(process: u32) -> Vec<u32> {
    let children = format!("/proc/{process}/task/{process}/children");
    let children = std::fs::read_to_string(children).unwrap_or_default();
    let children = children.split_ascii_whitespace();
    let mut all = vec![process];
    all.extend(children.filter_map(|id| id.parse::<u32>().ok()));
    all
}

/// Runs `drive` on the driver's processor until told to stop, and meanwhile looks at the sinks.
fn sample(
    lab: &Lab,
    process: u32,
    sinks: &Sinks,
    window: Duration,
    offered: impl Fn() -> Result<u64> + Sync,
    drive: impl Fn(&AtomicBool) -> Result<()> + Sync,
) -> Result<Rate> {
    let stop = AtomicBool::new(false);
    thread::scope(|scope| {
        let driver = scope.spawn(|| -> Result<()> {
            lab.client.enter(|| {
                pin_to_cpu(DRIVER_CPU)?;
                drive(&stop)
            })?
        });
        let watch = || -> Result<Rate> {
            pin_to_cpu(DRIVER_CPU)?;
            thread::sleep(SETTLE);
            let (begin, times, went_in) = (Instant::now(), processor_time(process)?, offered()?);
            let mut last = (Instant::now(), sinks.received()?);
            let first = last.1;
            let mut slopes = Vec::new();
            while begin.elapsed() < window {
                thread::sleep(SAMPLE_EVERY);
                let now = (Instant::now(), sinks.received()?);
                let seconds = (now.0 - last.0).as_secs_f64();
                slopes.push((now.1 - last.1) as f64 / seconds);
                last = now;
            }
            let elapsed = begin.elapsed().as_secs_f64();
            let after = processor_time(process)?;
            let came_out = (last.1 - first).max(1) as f64;
            let ns = |index: usize| (after[index] - times[index]) as f64 * 1e7 / came_out;
            // Between two calls into the kernel no frames are made: those windows are not what is asked for.
            slopes.sort_by(f64::total_cmp);
            Ok(Rate {
                per_second: slopes.get(slopes.len() / 2).copied().unwrap_or(0.0),
                offered: (offered()? - went_in) as f64 / elapsed,
                user_ns: ns(0),
                system_ns: ns(1),
            })
        };
        // A thread of its own, since it stays on one processor.
        let rate = scope.spawn(watch).join().expect("no panic");
        stop.store(true, Ordering::Relaxed);
        driver.join().expect("no panic")?;
        rate
    })
}

/// What [`flood`] sends.
#[derive(Clone, Copy)]
pub struct Flood<'a> {
    /// Frames that take turns.
    pub templates: &'a [Template],
    /// Frames that have to come out before it is measured.
    pub warm_up: u64,
}

/// Makes frames as fast as possible, first so many that are not measured.
///
/// # Errors
///
/// When a program or map fails.
pub fn flood(
    object: &Path,
    lab: &Lab,
    process: u32,
    sinks: &Sinks,
    flood: Flood<'_>,
    window: Duration,
) -> Result<Rate> {
    let Flood { templates, warm_up } = flood;
    let interface = lab.client.ip("-o link show dev eth0")?;
    let index = interface.split(':').next().context("no interface")?;
    let mut generator = Generator::load(object, index.parse()?)?;
    generator.set_templates(templates)?;
    let runner = generator.runner(&templates[0])?;
    let run = |runner: &Runner| runner.run(FRAMES_A_RUN).context("BPF_PROG_TEST_RUN");
    if warm_up > 0 {
        let before = sinks.received()?;
        lab.client.enter(|| -> Result<()> {
            pin_to_cpu(DRIVER_CPU)?;
            while sinks.received()? - before < warm_up {
                run(&runner)?;
            }
            Ok(())
        })??;
    }
    let offered = || generator.made();
    sample(lab, process, sinks, window, offered, |stop| {
        while !stop.load(Ordering::Relaxed) {
            run(&runner)?;
        }
        Ok(())
    })
}

/// A datagram whose stamps can be written.
struct Stamped {
    payload: Vec<u8>,
    places: Vec<usize>,
}

impl Stamped {
    fn new(message: &str) -> Self {
        let places = message.match_indices(MARK).map(|(at, _)| at).collect();
        Self {
            payload: message.as_bytes().to_vec(),
            places,
        }
    }

    fn stamp(&mut self, number: u32) -> &[u8] {
        for at in &self.places {
            self.payload[*at..][..STAMP_LEN].copy_from_slice(&stamp(number));
        }
        &self.payload
    }
}

/// Sends datagrams by a socket, evenly; calls `sent` before each.
fn send_evenly(
    ends: &Ends,
    message: &str,
    per_second: f64,
    stop: &AtomicBool,
    mut sent: impl FnMut(u32),
) -> Result<()> {
    let socket = UdpSocket::bind(ends.caller)?;
    socket.connect(ends.vip)?;
    let mut stamped = Stamped::new(message);
    let begin = Instant::now();
    let mut number = 0u32;
    while !stop.load(Ordering::Relaxed) {
        let due = (begin.elapsed().as_secs_f64() * per_second) as u32;
        while number < due {
            let datagram = stamped.stamp(number);
            sent(number);
            // ICMP errors of what is over its limit.
            let _ = socket.send(datagram);
            number += 1;
        }
    }
    Ok(())
}

/// Tries rates until no more comes out, and says the most that did.
///
/// # Errors
///
/// When a map fails.
pub fn climb(
    lab: &Lab,
    ends: &Ends,
    process: u32,
    sinks: &Sinks,
    message: &str,
    window: Duration,
) -> Result<Rate> {
    let mut best = Rate::default();
    for per_second in RATES.map(f64::from) {
        let begin = Instant::now();
        let offered = || Ok((begin.elapsed().as_secs_f64() * per_second) as u64);
        let rate = sample(lab, process, sinks, window / 4, offered, |stop| {
            send_evenly(ends, message, per_second, stop, |_| ())
        })?;
        if rate.per_second > best.per_second {
            best = rate;
        }
        if rate.per_second < 0.9 * best.per_second {
            break;
        }
    }
    Ok(best)
}

/// How long messages take at a rate.
///
/// # Errors
///
/// When a map fails.
pub fn latency(
    lab: &Lab,
    ends: &Ends,
    process: u32,
    sinks: &mut Sinks,
    message: &str,
    per_second: f64,
    window: Duration,
) -> Result<Latency> {
    sinks.0[0].note_arrivals()?;
    let times: Vec<_> = (0..ARRIVALS_LEN).map(|_| AtomicU64::new(0)).collect();
    let went_in = AtomicU64::new(0);
    let offered = || Ok(went_in.load(Ordering::Relaxed));
    let rate = sample(lab, process, sinks, window, offered, |stop| {
        send_evenly(ends, message, per_second, stop, |number| {
            let slot = &times[(number % ARRIVALS_LEN) as usize];
            slot.store(monotonic_ns(), Ordering::Relaxed);
            went_in.fetch_add(1, Ordering::Relaxed);
        })
    })?;
    // What is under way arrives.
    thread::sleep(Duration::from_millis(50));
    let arrivals = sinks.0[0].arrivals()?;
    let sent = times.iter().map(|time| time.load(Ordering::Relaxed));
    let mut took: Vec<f64> = sent
        .zip(arrivals)
        .filter(|(sent, arrived)| *sent > 0 && arrived > sent)
        .map(|(sent, arrived)| (arrived - sent) as f64 / 1000.0)
        .collect();
    took.sort_by(f64::total_cmp);
    let at = |part: f64| {
        let index = (took.len() as f64 * part) as usize;
        took.get(index.min(took.len().saturating_sub(1)))
            .copied()
            .unwrap_or(f64::NAN)
    };
    Ok(Latency {
        rate: rate.per_second,
        offered: rate.offered,
        p50: at(0.5),
        p99: at(0.99),
        p999: at(0.999),
        lost: 1.0 - took.len() as f64 / f64::from(ARRIVALS_LEN),
    })
}
