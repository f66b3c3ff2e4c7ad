//! The memory that a worker shares with the kernel.

use std::num::NonZeroU32;

use anyhow::{Context, Result, anyhow};
use xsk_rs::{
    FrameDesc, Umem as XskUmem,
    config::{FrameSize, QueueSize, UmemConfig},
};

/// Bytes that the kernel keeps free before a received frame (`XDP_PACKET_HEADROOM`); xsk-rs keeps them for frames to be
/// sent as well.
const HEADROOM_BYTES: u32 = 256;
/// Ethernet header with one VLAN tag.
const ETHERNET_BYTES: u32 = 18;

/// Smallest chunk that takes a whole packet of `mtu` bytes, with headroom and Ethernet header, or `None` when no chunk
/// does (chunks are powers of two up to a page of 4096 bytes, `net/xdp/xdp_umem.c`).
pub fn chunk_size_for_mtu(mtu: u32) -> Option<u32> {
    [2048, 4096]
        .into_iter()
        .find(|chunk| mtu <= chunk - HEADROOM_BYTES - ETHERNET_BYTES)
}

/// What the kernel said, from below xsk-rs' own words.
pub(super) fn os_error(error: &(dyn std::error::Error + 'static)) -> Option<i32> {
    error
        .source()?
        .downcast_ref::<std::io::Error>()?
        .raw_os_error()
}

/// Chunks of one worker that belong to nobody yet.
pub struct Umem {
    pub(super) umem: XskUmem,
    unassigned: Vec<FrameDesc>,
    total: u32,
}

impl Umem {
    /// Takes `chunks` chunks of `chunk_bytes` bytes (see [`chunk_size_for_mtu`]) for rings of `ring` descriptors.
    ///
    /// # Errors
    ///
    /// The kernel has no memory, or the process may not lock that much of it.
    pub fn new(chunks: u32, chunk_bytes: u32, ring: u32) -> Result<Self> {
        let ring =
            QueueSize::new(ring).map_err(|error| anyhow!("datapath.ring {ring}: {error}"))?;
        let config = UmemConfig::builder()
            .frame_size(FrameSize::new(chunk_bytes).map_err(|error| anyhow!("{error}"))?)
            .fill_queue_size(ring)
            .comp_queue_size(ring)
            .build()
            .map_err(|error| anyhow!("{error}"))?;
        let count = NonZeroU32::new(chunks).context("datapath.chunks is 0")?;
        let (umem, unassigned) = XskUmem::new(config, count, false).map_err(|error| {
            let remedy = match os_error(&error) {
                Some(libc::EPERM) => {
                    "making AF_XDP sockets needs CAP_NET_RAW; run as root or by the systemd unit"
                        .to_owned()
                }
                Some(libc::ENOBUFS | libc::ENOMEM) => format!(
                    "locking {} bytes of memory needs CAP_IPC_LOCK or a higher LimitMEMLOCK",
                    u64::from(chunks) * u64::from(chunk_bytes)
                ),
                _ => "see `dmesg`".to_owned(),
            };
            anyhow!(error)
                .context(remedy)
                .context(format!("UMEM of {chunks} chunks of {chunk_bytes} bytes"))
        })?;
        Ok(Self {
            umem,
            unassigned,
            total: chunks,
        })
    }

    /// Number of chunks, whoever has them.
    pub fn total(&self) -> u32 {
        self.total
    }

    /// Takes chunks for a receiver.
    pub(super) fn take(&mut self, count: u32) -> Result<Vec<FrameDesc>> {
        let left = self.unassigned.len();
        let rest = left.checked_sub(count as usize).filter(|&rest| rest > 0).with_context(|| {
            format!(
                "datapath.chunks {}: each interface takes {count} (datapath.ring), and some must be left for sending; \
                 have at least twice datapath.ring for each interface",
                self.total
            )
        })?;
        Ok(self.unassigned.split_off(rest))
    }

    /// Turns the chunks that no receiver took into the ones to send from.
    pub fn into_pool(self) -> TxPool {
        TxPool {
            umem: self.umem,
            free: self.unassigned,
            total: self.total,
        }
    }
}

/// A chunk to send from: the only handle to its memory. It comes from [`TxPool::take`] and goes to
/// [`super::Sender::enqueue`] or back by [`TxPool::give_back`], of the same UMEM: a worker has one, and its chunks never
/// leave it.
#[derive(Debug)]
#[must_use = "a chunk that is dropped is lost to the pool"]
pub struct TxChunk(pub(super) FrameDesc);

/// Chunks to send from that nobody uses now.
pub struct TxPool {
    umem: XskUmem,
    free: Vec<FrameDesc>,
    total: u32,
}

impl TxPool {
    /// A chunk, if one is free.
    #[inline]
    pub fn take(&mut self) -> Option<TxChunk> {
        self.free.pop().map(TxChunk)
    }

    /// Takes a chunk back that is not to be sent.
    #[inline]
    pub fn give_back(&mut self, chunk: TxChunk) {
        self.free.push(chunk.0);
    }

    /// Chunks that nobody uses.
    pub fn free(&self) -> usize {
        self.free.len()
    }

    /// Chunks of the whole UMEM.
    pub fn total(&self) -> u32 {
        self.total
    }

    /// The memory of a chunk, from where the Ethernet header goes to the chunk's end.
    #[inline]
    pub fn memory<'a>(&'a mut self, chunk: &'a mut TxChunk) -> &'a mut [u8] {
        // SAFETY: the descriptor is of this UMEM, since a worker has one pool and keeps its chunks; its handle is the only one: `TxChunk` is not `Clone`, comes from the
        // list of free chunks, and `Sender::enqueue` takes it by value. So neither the kernel nor anybody else uses the
        // memory while the slice, which borrows the handle, lives.
        unsafe {
            let (address, capacity) = {
                let mut data = self.umem.data_mut(&mut chunk.0);
                let mut cursor = data.cursor();
                let capacity = cursor.buf_len();
                cursor.set_pos(capacity);
                (data.contents_mut().as_mut_ptr(), capacity)
            };
            std::slice::from_raw_parts_mut(address, capacity)
        }
    }

    /// Says how many bytes of the chunk's memory are the frame.
    #[inline]
    pub fn set_len(&mut self, chunk: &mut TxChunk, len: usize) {
        // SAFETY: as for `memory`; only the length in the descriptor changes.
        unsafe { self.umem.data_mut(&mut chunk.0).cursor().set_pos(len) };
    }

    pub(super) fn reclaimed(&mut self, descriptors: &[FrameDesc]) {
        self.free.extend_from_slice(descriptors);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_chunk_holds_headroom_ethernet_header_and_packet() {
        for (mtu, chunk) in [
            (1280, 2048),
            (1500, 2048),
            (1774, 2048),
            (1775, 4096),
            (3822, 4096),
        ] {
            assert_eq!(chunk_size_for_mtu(mtu), Some(chunk), "MTU {mtu}");
        }
        assert_eq!(chunk_size_for_mtu(3823), None);
        assert_eq!(chunk_size_for_mtu(9000), None);
    }
}
