//! The XDP programs of `cargo xtask bench wire`: one makes frames that each belong to a call of its own, one counts and
//! drops what comes out. Not part of the product.

#![no_std]
#![no_main]
// Inline assembly for BPF.
#![feature(asm_experimental_arch)]

mod opaque;

use core::{ffi::c_void, num::NonZeroU64};

use aya_ebpf::{
    bindings::xdp_action::{XDP_ABORTED, XDP_DROP, XDP_PASS},
    helpers::{
        bpf_ktime_get_ns, bpf_redirect,
        generated::{bpf_xdp_adjust_tail, bpf_xdp_load_bytes, bpf_xdp_store_bytes},
    },
    macros::{map, xdp},
    maps::{Array, PerCpuArray},
    programs::XdpContext,
};
use lb_common::wire::{
    ARRIVALS_LEN, MAX_FRAME, MAX_STAMPS, MAX_TEMPLATES, STAMP_LEN, Settings, Template, checksum,
    number, stamp,
};

use opaque::opaque;

#[unsafe(link_section = "license")]
#[unsafe(no_mangle)]
static LICENSE: [u8; 13] = *b"Dual MIT/GPL\0";

#[map]
static SETTINGS: Array<Settings> = Array::with_max_entries(1, 0);

#[map]
static TEMPLATES: Array<Template> = Array::with_max_entries(MAX_TEMPLATES, 0);

#[map]
static RECEIVED: PerCpuArray<u64> = PerCpuArray::with_max_entries(2, 0);

#[map]
static ARRIVALS: Array<u64> = Array::with_max_entries(ARRIVALS_LEN, 0);

/// Makes the next frame of what it is called with, and sends it. One CPU at a time runs it.
#[xdp]
pub fn generate(context: XdpContext) -> u32 {
    make(&context).unwrap_or(XDP_ABORTED)
}

#[inline(always)]
fn make(context: &XdpContext) -> Option<u32> {
    let settings = SETTINGS.get_ptr_mut(0)?;
    // SAFETY: the map gave the pointer; user space writes it only while nothing runs.
    let (interface, templates, next) = unsafe {
        let next = (*settings).next;
        (*settings).next = next + 1;
        ((*settings).interface, (*settings).templates, next)
    };
    let templates = NonZeroU64::new(u64::from(templates))?;
    let template = TEMPLATES.get((next % templates) as u32)?;
    // Compared as it is, so that the verifier knows its bounds.
    let len = opaque(template.len as usize);
    if len == 0 {
        return None;
    }
    if len > MAX_FRAME {
        return None;
    }
    let len = len as u32;
    let there = (context.data_end() - context.data()) as i32;
    // The memory of a frame is used again and again: with one template only stamps differ from the last time.
    if templates.get() > 1 {
        let more = len as i32 - there;
        // SAFETY: the context is this program's own.
        if more != 0 && unsafe { bpf_xdp_adjust_tail(context.ctx, more) } != 0 {
            return None;
        }
        store(context, 0, template.bytes.as_ptr(), len)?;
    }
    let digits = stamp((next / templates) as u32);
    for place in 0..MAX_STAMPS {
        let at = template.stamp_at[place];
        if at != 0 {
            store(context, at, digits.as_ptr(), STAMP_LEN as u32)?;
        }
    }
    let checksum = checksum(template.sum, template.stamps, digits).to_be_bytes();
    store(context, template.checksum_at, checksum.as_ptr(), 2)?;
    // SAFETY: a helper without memory of ours.
    Some(unsafe { bpf_redirect(interface, 0) } as u32)
}

#[inline(always)]
fn store(context: &XdpContext, at: u32, bytes: *const u8, len: u32) -> Option<()> {
    // SAFETY: the verifier sees that `bytes` has `len` bytes; the helper looks at the frame's bounds.
    let failed = unsafe { bpf_xdp_store_bytes(context.ctx, at, bytes as *mut c_void, len) };
    (failed == 0).then_some(())
}

/// Counts UDP over IPv4, and drops it; the rest is for the kernel.
#[xdp]
pub fn sink(context: XdpContext) -> u32 {
    count(&context).unwrap_or(XDP_PASS)
}

#[inline(always)]
fn count(context: &XdpContext) -> Option<u32> {
    let (start, end) = (context.data(), context.data_end());
    const IPV4_HEADER_END: usize = 34;
    if start + IPV4_HEADER_END > end {
        return None;
    }
    // SAFETY: the 34 bytes were just compared with the end; byte arrays have no alignment.
    let (kind, protocol) = unsafe {
        (
            *((start + 12) as *const [u8; 2]),
            *((start + 23) as *const u8),
        )
    };
    if kind != [0x08, 0x00] || protocol != 17 {
        return None;
    }
    let len = (end - start) as u64;
    for (counter, more) in [(0, 1), (1, len)] {
        let counter = RECEIVED.get_ptr_mut(counter)?;
        // SAFETY: this CPU's slot, and nothing else runs this program on this CPU meanwhile.
        unsafe { *counter += more };
    }
    let settings = SETTINGS.get(0)?;
    if settings.notes_arrivals != 0 {
        note_arrival(context, len as u32);
    }
    Some(XDP_DROP)
}

/// The stamp is the last that is in the frame.
#[inline(always)]
fn note_arrival(context: &XdpContext, len: u32) -> Option<()> {
    let mut digits = [0u8; STAMP_LEN];
    let at = len.checked_sub(STAMP_LEN as u32)?;
    let into = digits.as_mut_ptr().cast::<c_void>();
    // SAFETY: the helper fills the whole array, or says that it did not.
    if unsafe { bpf_xdp_load_bytes(context.ctx, at, into, STAMP_LEN as u32) } != 0 {
        return None;
    }
    let arrival = ARRIVALS.get_ptr_mut(number(digits) % ARRIVALS_LEN)?;
    // SAFETY: the map gave the pointer; user space reads it when nothing is under way. A helper without arguments.
    unsafe { *arrival = bpf_ktime_get_ns() };
    Some(())
}

#[cfg(not(test))]
#[panic_handler]
fn panic(_info: &core::panic::PanicInfo<'_>) -> ! {
    // As in the program of siplb: one that can be reached does not load.
    loop {}
}
