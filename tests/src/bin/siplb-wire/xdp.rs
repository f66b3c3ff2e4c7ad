//! What the XDP program of siplb costs, outcome by outcome: nanoseconds a frame under BPF_PROG_RUN.

use std::{
    net::SocketAddr,
    os::fd::{AsFd, AsRawFd, BorrowedFd},
    time::Duration,
};

use anyhow::{Context, Result, ensure};
use aya::{
    Ebpf, EbpfLoader,
    maps::{Array, HashMap, PerCpuArray, XskMap},
    programs::{TestRun, TestRunOptions, Xdp},
};
use lb_common::decode::Endpoint;
use lb_common::xdp::{
    COUNTERS, GATES, Gate, PROGRAM, VIPS, VipKey, XSKS, XdpOutcome, counter_index, station,
};
use lb_userspace::{
    afxdp::{self, SocketOptions, Umem, program::OBJECT},
    config::ZeroCopy,
    sys::thread::{monotonic_ns, pin_to_cpu},
};
use siplb_lab::{Lab, frame};

use crate::{WORKER_CPU, messages::Ends};

/// Runs of a frame; their mean is one measurement.
const REPEAT: u32 = 1_000_000;
const QUEUE: u32 = 0;
const RING: u32 = 512;

/// Nanoseconds a frame for each outcome, the middle of so many measurements.
///
/// # Errors
///
/// When the program does not load, or a frame comes to another outcome.
pub fn measure(lab: &Lab, ends: &Ends, rounds: u32) -> Result<Vec<(&'static str, u32)>> {
    lab.edge.enter(|| {
        pin_to_cpu(WORKER_CPU)?;
        let mut umem = Umem::new(2 * RING, 2048, RING)?;
        let options = SocketOptions {
            ring: RING,
            zero_copy: ZeroCopy::Never,
        };
        let bound = afxdp::bind(&mut umem, "outside", QUEUE, options)?;
        let mut program = Program::load(ends)?;
        program.set_socket(bound.receiver.as_fd())?;
        let to = |destination: SocketAddr| {
            let [near, far] = ends.macs;
            frame::udp(
                (near, ends.caller),
                (far, destination),
                ends.invite().as_bytes(),
            )
        };
        let ours = to(ends.vip);
        let changed = |change: &dyn Fn(&mut Vec<u8>)| {
            let mut frame = ours.clone();
            change(&mut frame);
            frame
        };
        let mut elsewhere = ends.vip;
        elsewhere.set_port(5070);
        let open = program.gate();
        let closed = Gate { open: 0, ..open };
        let stale = Gate {
            heartbeat_ns: 1,
            stale_after_ms: 1,
            ..open
        };
        let cases = [
            (XdpOutcome::Steered, ours.clone(), open),
            (XdpOutcome::GateClosed, ours.clone(), closed),
            (XdpOutcome::GateStale, ours.clone(), stale),
            (XdpOutcome::NotVip, to(elsewhere), open),
            (
                XdpOutcome::OtherStation,
                changed(&|frame| frame[5] ^= 1),
                open,
            ),
            // More fragments; another protocol; ARP.
            (
                XdpOutcome::Fragment,
                changed(&|frame| frame[20] |= 0x20),
                open,
            ),
            (XdpOutcome::NotUdp, changed(&|frame| frame[23] = 6), open),
            (XdpOutcome::EtherType, changed(&|frame| frame[13] = 6), open),
        ];
        cases
            .into_iter()
            .map(|(outcome, frame, gate)| {
                let ns = program.nanoseconds(outcome, &frame, gate, rounds)?;
                Ok((outcome.name(), ns))
            })
            .collect()
    })?
}

struct Program {
    ebpf: Ebpf,
    station: [u8; 6],
}

impl Program {
    fn load(ends: &Ends) -> Result<Self> {
        let mut ebpf = EbpfLoader::new()
            .override_global("AYA_LOG_LEVEL", &0u8, true)
            .load(OBJECT)?;
        let program: &mut Xdp = ebpf.program_mut(PROGRAM).context(PROGRAM)?.try_into()?;
        program.load()?;
        let mut vips: HashMap<_, VipKey, u32> =
            HashMap::try_from(ebpf.map_mut(VIPS).context(VIPS)?)?;
        vips.insert(VipKey::new(endpoint(ends.vip)), 0, 0)?;
        Ok(Self {
            ebpf,
            station: ends.macs[1],
        })
    }

    fn gate(&self) -> Gate {
        Gate {
            open: 1,
            stale_after_ms: Duration::from_secs(600).as_millis() as u32,
            heartbeat_ns: monotonic_ns(),
            station: station(self.station),
            ..Gate::default()
        }
    }

    fn set_socket(&mut self, socket: BorrowedFd<'_>) -> Result<()> {
        let mut sockets = XskMap::try_from(self.ebpf.map_mut(XSKS).context(XSKS)?)?;
        Ok(sockets.set(QUEUE, socket.as_raw_fd(), 0)?)
    }

    fn counted(&self, outcome: XdpOutcome) -> Result<u64> {
        let counters = self.ebpf.map(COUNTERS).context(COUNTERS)?;
        let counters: PerCpuArray<_, u64> = PerCpuArray::try_from(counters)?;
        let cpus = counters.get(&counter_index(QUEUE, outcome), 0)?;
        Ok(cpus.iter().sum())
    }

    fn nanoseconds(
        &mut self,
        outcome: XdpOutcome,
        frame: &[u8],
        gate: Gate,
        rounds: u32,
    ) -> Result<u32> {
        let mut gates: Array<_, Gate> = Array::try_from(self.ebpf.map_mut(GATES).context(GATES)?)?;
        gates.set(QUEUE, gate, 0)?;
        let before = self.counted(outcome)?;
        let program: &Xdp = self.ebpf.program(PROGRAM).context(PROGRAM)?.try_into()?;
        let mut times = Vec::new();
        for _ in 0..rounds {
            let result = program.test_run(TestRunOptions {
                data_in: Some(frame),
                repeat: REPEAT,
                ..TestRunOptions::new()
            })?;
            times.push(result.duration);
        }
        let counted = self.counted(outcome)? - before;
        ensure!(
            counted == u64::from(REPEAT) * u64::from(rounds),
            "{}: {counted} of {rounds} times {REPEAT} frames",
            outcome.name()
        );
        times.sort();
        let middle = times[times.len() / 2];
        Ok(u32::try_from(middle.as_nanos()).unwrap_or(u32::MAX))
    }
}

fn endpoint(address: SocketAddr) -> Endpoint {
    let ip = match address.ip() {
        std::net::IpAddr::V4(ip) => ip.to_ipv6_mapped(),
        std::net::IpAddr::V6(ip) => ip,
    };
    Endpoint {
        address: ip.octets(),
        port: address.port(),
    }
}
