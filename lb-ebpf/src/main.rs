//! The XDP program: decode a frame, look at the gate of its queue, steer it into the queue's AF_XDP socket, count.
//!
//! What is not for a VIP goes to the kernel untouched, whatever it is. What is for a VIP goes to the socket, or to the
//! kernel as long as no worker serves the queue; only a datagram that is for a VIP and contradicts itself is dropped.

#![no_std]
#![no_main]
// Inline assembly for BPF.
#![feature(asm_experimental_arch)]

mod frame;
mod opaque;

use aya_ebpf::{
    bindings::xdp_action::{XDP_DROP, XDP_PASS, XDP_REDIRECT},
    helpers::bpf_ktime_get_coarse_ns,
    macros::{map, xdp},
    maps::{Array, HashMap, PerCpuArray, XskMap},
    programs::XdpContext,
};
use aya_log_ebpf::debug;
use lb_common::{
    decode::{Bytes as _, Decoded, Endpoint, Fault, decode},
    xdp::{
        COUNTERS_LEN, GATES_FLAGS, Gate, MAX_QUEUES, MAX_VIPS, VipKey, XdpOutcome, XdpVerdict,
        counter_index, station,
    },
};

use frame::Frame;

#[unsafe(link_section = "license")]
#[unsafe(no_mangle)]
static LICENSE: [u8; 13] = *b"Dual MIT/GPL\0";

#[map]
static COUNTERS: PerCpuArray<u64> = PerCpuArray::with_max_entries(COUNTERS_LEN, 0);

#[map]
static VIPS: HashMap<VipKey, u32> = HashMap::with_max_entries(MAX_VIPS, 0);

#[map]
static XSKS: XskMap = XskMap::with_max_entries(MAX_QUEUES, 0);

#[map]
static GATES: Array<Gate> = Array::with_max_entries(MAX_QUEUES, GATES_FLAGS);

/// Entry point.
#[xdp]
pub fn siplb_xdp(context: XdpContext) -> u32 {
    let queue = context.rx_queue_index();
    let outcome = decide(&Frame::new(&context), queue);
    if let Some(counter) = COUNTERS.get_ptr_mut(counter_index(queue, outcome)) {
        // SAFETY: the map gave a pointer to this CPU's slot, and nothing else runs this program on this CPU meanwhile:
        // XDP runs in the softirq of the queue with bottom halves off.
        unsafe { *counter += 1 };
    }
    // Costs nothing in normal running: the log level is a constant in frozen memory, so the verifier removes the branch.
    log(&context, queue, outcome);
    match outcome.verdict() {
        XdpVerdict::Redirect => XDP_REDIRECT,
        XdpVerdict::Pass => XDP_PASS,
        XdpVerdict::Drop => XDP_DROP,
    }
}

/// What becomes of a frame. Redirects as a side effect when it is [`XdpOutcome::Steered`].
#[inline(always)]
fn decide(frame: &Frame, queue: u32) -> XdpOutcome {
    let (destination, fault) = match decode(frame) {
        Decoded::NotOurs(reason) => return reason.into(),
        Decoded::Udp(udp) => (
            Endpoint {
                address: udp.destination,
                port: udp.destination_port,
            },
            None,
        ),
        Decoded::Broken(broken) => match broken.destination {
            Some(destination) => (destination, Some(broken.fault)),
            None => return XdpOutcome::Unreadable,
        },
    };
    if VIPS.get_ptr(VipKey::new(destination)).is_none() {
        return XdpOutcome::NotVip;
    }
    let Some(gate) = GATES.get_ptr(queue) else {
        return XdpOutcome::QueueOutOfRange;
    };
    steer(frame, queue, gate, fault)
}

/// The way of a datagram to a VIP.
#[inline(always)]
fn steer(frame: &Frame, queue: u32, gate: *const Gate, fault: Option<Fault>) -> XdpOutcome {
    // SAFETY: the map gave the pointer, and each field is read alone and once: user space stores them one by one, each
    // aligned and whole, while this runs.
    let (open, stale_after_ms, heartbeat_ns, own_station) = unsafe {
        (
            (&raw const (*gate).open).read_volatile(),
            (&raw const (*gate).stale_after_ms).read_volatile(),
            (&raw const (*gate).heartbeat_ns).read_volatile(),
            (&raw const (*gate).station).read_volatile(),
        )
    };
    // The destination is the first field of the Ethernet header, which was decoded already.
    if frame.load::<6>(0).map(station) != Some(own_station) {
        return XdpOutcome::OtherStation;
    }
    if let Some(fault) = fault {
        return fault.into();
    }
    if open == 0 {
        return XdpOutcome::GateClosed;
    }
    // SAFETY: a helper without arguments.
    let now_ns = unsafe { bpf_ktime_get_coarse_ns() };
    // The coarse clock lags by up to a tick, so a heartbeat can be a little in the future.
    let age_ns = now_ns.saturating_sub(heartbeat_ns);
    if age_ns > u64::from(stale_after_ms) * 1_000_000 {
        return XdpOutcome::GateStale;
    }
    match XSKS.redirect(queue, u64::from(XDP_PASS)) {
        Ok(_redirect) => XdpOutcome::Steered,
        Err(_pass) => XdpOutcome::NoSocket,
    }
}

#[inline(always)]
fn log(context: &XdpContext, queue: u32, outcome: XdpOutcome) {
    let len = context.data_end() - context.data();
    debug!(
        context,
        "queue {}, {} bytes: outcome {}", queue, len, outcome as u32
    );
}

#[cfg(not(test))]
#[panic_handler]
fn panic(_info: &core::panic::PanicInfo<'_>) -> ! {
    // The verifier refuses a loop without end, so a program in which a panic can be reached does not load. Telling the
    // compiler that this is unreachable would hide one instead.
    loop {}
}
