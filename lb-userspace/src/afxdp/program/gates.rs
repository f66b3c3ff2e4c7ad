//! The gates of an interface's queues, in memory shared with the XDP program.

use std::{
    mem::{offset_of, size_of},
    os::fd::{AsRawFd, BorrowedFd},
    sync::{
        Arc,
        atomic::{AtomicU32, AtomicU64, Ordering},
    },
    time::Duration,
};

use anyhow::{Context, Result};
use lb_common::xdp::{Gate, MAX_QUEUES};
use memmap2::{MmapOptions, MmapRaw};

/// [`Gate`] as memory that the XDP program reads meanwhile.
#[repr(C, align(64))]
struct SharedGate {
    open: AtomicU32,
    stale_after_ms: AtomicU32,
    heartbeat_ns: AtomicU64,
    station: AtomicU64,
    reserved: [AtomicU64; 5],
}

const _: () = {
    assert!(size_of::<SharedGate>() == size_of::<Gate>());
    assert!(offset_of!(SharedGate, open) == offset_of!(Gate, open));
    assert!(offset_of!(SharedGate, stale_after_ms) == offset_of!(Gate, stale_after_ms));
    assert!(offset_of!(SharedGate, heartbeat_ns) == offset_of!(Gate, heartbeat_ns));
    assert!(offset_of!(SharedGate, station) == offset_of!(Gate, station));
};

/// Handle on the gates of one interface: each queue's frames are steered to its socket only while its gate is open and
/// its heartbeat fresh, and pass to the kernel otherwise.
///
/// Every call is a few plain stores or loads of shared memory, no system call. A queue beyond
/// [`MAX_QUEUES`] has no gate: it counts as closed and stays so.
#[derive(Clone, Debug)]
pub struct Gates {
    memory: Arc<MmapRaw>,
}

impl Gates {
    /// Bytes of the map. An array map that is shared with user space starts on a page and has its values side by side,
    /// each rounded up to 8 bytes, which 64 is.
    const LEN: usize = size_of::<Gate>() * MAX_QUEUES as usize;

    pub(super) fn map(gates: BorrowedFd<'_>) -> Result<Self> {
        let memory = MmapOptions::new()
            .len(Self::LEN)
            .map_raw(gates.as_raw_fd())
            .context("mapping the GATES map of the XDP program into memory")?;
        Ok(Self {
            memory: Arc::new(memory),
        })
    }

    /// Opens the gate of `queue`; it counts as closed again when the last [`Gates::beat`] is older than `stale_after`
    /// (rounded down to milliseconds, at least one). Beat first.
    pub fn open(&self, queue: u32, stale_after: Duration) {
        let Some(gate) = self.gate(queue) else { return };
        let stale_after_ms = u32::try_from(stale_after.as_millis()).unwrap_or(u32::MAX);
        gate.stale_after_ms
            .store(stale_after_ms.max(1), Ordering::Relaxed);
        gate.open.store(1, Ordering::Release);
    }

    /// Closes the gate of `queue`: from now on its frames pass to the kernel.
    pub fn close(&self, queue: u32) {
        if let Some(gate) = self.gate(queue) {
            gate.open.store(0, Ordering::Release);
        }
    }

    /// Says that the worker of `queue` runs at `now_ns` (`CLOCK_MONOTONIC`, nanoseconds).
    #[inline]
    pub fn beat(&self, queue: u32, now_ns: u64) {
        if let Some(gate) = self.gate(queue) {
            gate.heartbeat_ns.store(now_ns, Ordering::Relaxed);
        }
    }

    /// Whether the gate of `queue` is open, stale or not.
    pub fn is_open(&self, queue: u32) -> bool {
        self.gate(queue)
            .is_some_and(|gate| gate.open.load(Ordering::Acquire) != 0)
    }

    /// The last heartbeat of `queue`, 0 when there was none.
    pub fn heartbeat_ns(&self, queue: u32) -> u64 {
        self.gate(queue)
            .map_or(0, |gate| gate.heartbeat_ns.load(Ordering::Relaxed))
    }

    /// Closes all gates, forgets the heartbeats and says which MAC address frames must be for.
    pub(super) fn reset(&self, station: u64) {
        for queue in 0..MAX_QUEUES {
            self.close(queue);
            self.beat(queue, 0);
            if let Some(gate) = self.gate(queue) {
                gate.station.store(station, Ordering::Relaxed);
            }
        }
    }

    pub(super) fn close_all(&self) {
        for queue in 0..MAX_QUEUES {
            self.close(queue);
        }
    }

    #[inline]
    fn gate(&self, queue: u32) -> Option<&SharedGate> {
        if queue >= MAX_QUEUES {
            return None;
        }
        let gates: *const SharedGate = self.memory.as_ptr().cast();
        // SAFETY: the mapping is `LEN` bytes of `MAX_QUEUES` gates of this layout (asserted above), aligned to a page,
        // writable and alive as long as `self`; the fields are atomics, and the XDP program only reads them.
        Some(unsafe { &*gates.add(queue as usize) })
    }
}
