//! AF_XDP sockets: one an interface and queue, split into the receiving and the sending half.

use std::{
    io,
    os::fd::{AsFd, AsRawFd, BorrowedFd},
    time::{Duration, Instant},
};

use anyhow::{Context, Result, anyhow};
use xsk_rs::{
    CompQueue, FillQueue, FrameDesc, RxQueue, Socket, TxQueue, Umem as XskUmem,
    config::{BindFlags, Interface, LibxdpFlags, QueueSize, SocketConfig},
};

use super::umem::{TxChunk, TxPool, Umem, os_error};
use crate::{config::ZeroCopy, sys::net};

/// Descriptors handled in one turn: large enough to share the cost of a system call, small enough that the frames of a
/// turn stay in the first-level cache while they are parsed.
pub const BATCH: usize = 64;
/// How long a queue may stay busy after another process let go of it. The kernel frees it in the background, about
/// 20 ms later on an idle machine (`net/xdp/xsk_buff_pool.c`).
const REBIND_PATIENCE: Duration = Duration::from_secs(3);
/// Socket buffer for frames on their way out in copy mode; the default of about 200 kB holds less than a hundred.
const SEND_BUFFER_BYTES: libc::c_int = 16 << 20;

/// How to bind.
#[derive(Clone, Copy, Debug)]
pub struct SocketOptions {
    /// Descriptors in each ring; a power of two.
    pub ring: u32,
    /// Whether to ask for zero-copy mode.
    pub zero_copy: ZeroCopy,
}

/// A socket as it was bound.
pub struct Bound {
    /// The half that receives.
    pub receiver: Receiver,
    /// The half that sends.
    pub sender: Sender,
    /// Zero-copy rather than copy mode, by the kernel's own word.
    pub zero_copy: bool,
}

/// Binds a socket to a queue of an interface and fills its fill ring with chunks of `umem`. Waits a little for a queue
/// that another process has just left.
///
/// # Errors
///
/// With interface, queue, what the kernel said and what to do about it.
pub fn bind(umem: &mut Umem, interface: &str, queue: u32, options: SocketOptions) -> Result<Bound> {
    let subject = || format!("AF_XDP socket on interface `{interface}`, queue {queue}");
    let ring = QueueSize::new(options.ring)
        .map_err(|error| anyhow!("{error}"))
        .with_context(subject)?;
    let flags = match options.zero_copy {
        ZeroCopy::Prefer => BindFlags::XDP_USE_NEED_WAKEUP,
        ZeroCopy::Require => BindFlags::XDP_USE_NEED_WAKEUP | BindFlags::XDP_ZEROCOPY,
        ZeroCopy::Never => BindFlags::XDP_USE_NEED_WAKEUP | BindFlags::XDP_COPY,
    };
    let config = SocketConfig::builder()
        .rx_queue_size(ring)
        .tx_queue_size(ring)
        .bind_flags(flags)
        .libxdp_flags(LibxdpFlags::XSK_LIBXDP_FLAGS_INHIBIT_PROG_LOAD)
        .build();
    let name: Interface = interface
        .parse()
        .map_err(|error| anyhow!("{error}"))
        .with_context(subject)?;
    let chunks = umem.take(options.ring)?;
    let deadline = Instant::now() + REBIND_PATIENCE;
    let (tx, rx, rings) = loop {
        // SAFETY: the rings of the socket are used by the two halves made below only, which keep to the kernel's rules
        // on who owns a chunk.
        match unsafe { Socket::new(config, &umem.umem, &name, queue) } {
            Ok(parts) => break parts,
            Err(error) => {
                let cause = os_error(&error);
                if cause == Some(libc::EBUSY) && Instant::now() < deadline {
                    // Nothing announces that the kernel has let go of the queue.
                    std::thread::park_timeout(Duration::from_millis(5));
                    continue;
                }
                let remedy = match cause {
                    Some(libc::EBUSY) => {
                        "another process has an AF_XDP socket on this queue; stop it"
                    }
                    Some(libc::EPERM) => {
                        "CAP_NET_RAW is needed; run as root or by the systemd unit"
                    }
                    Some(libc::EOPNOTSUPP) => {
                        "the driver has no zero-copy mode; set `datapath.zero_copy: prefer`"
                    }
                    Some(libc::EINVAL) => {
                        "the queue does not exist (`ethtool -l`), or the MTU is too large for a chunk"
                    }
                    Some(libc::ENOBUFS | libc::ENOMEM) => {
                        "not enough memory may be locked; needs CAP_IPC_LOCK or a higher LimitMEMLOCK"
                    }
                    _ => "see `dmesg`",
                };
                return Err(anyhow!(error)).context(remedy).with_context(subject);
            }
        }
    };
    let (fill, completion) = rings
        .context("the kernel gave no fill and completion rings")
        .with_context(subject)?;
    let fd = borrow(&tx);
    let zero_copy = net::xsk_is_zero_copy(fd).with_context(subject)?;
    net::set_send_buffer(fd, SEND_BUFFER_BYTES).with_context(subject)?;
    if let Err(error) = net::xsk_set_tx_budget(fd, options.ring) {
        log::debug!("{}: one kick sends 32 frames at most: {error}", subject());
    }

    let mut receiver = Receiver {
        umem: umem.umem.clone(),
        rx,
        fill,
        batch: [FrameDesc::default(); BATCH],
        batch_len: 0,
        ring: options.ring,
        owned: options.ring,
        zero_copy,
    };
    // SAFETY: the chunks were just taken from this UMEM and are nowhere else.
    let filled = unsafe { receiver.fill.produce(&chunks) };
    anyhow::ensure!(
        filled == chunks.len(),
        "{}: the fill ring took {filled} of {} chunks",
        subject(),
        chunks.len()
    );
    let sender = Sender {
        tx,
        completion,
        pending: Vec::with_capacity(options.ring as usize),
        reclaimed: [FrameDesc::default(); BATCH],
        ring: options.ring,
        in_flight: 0,
    };
    Ok(Bound {
        receiver,
        sender,
        zero_copy,
    })
}

/// The descriptor of a socket's halves.
fn borrow(tx: &TxQueue) -> BorrowedFd<'_> {
    // SAFETY: the queue keeps its socket open for as long as it is borrowed.
    unsafe { BorrowedFd::borrow_raw(tx.fd().as_raw_fd()) }
}

/// The receiving half: fill and RX ring, and the chunks that go round between them.
pub struct Receiver {
    umem: XskUmem,
    rx: RxQueue,
    fill: FillQueue,
    batch: [FrameDesc; BATCH],
    batch_len: usize,
    ring: u32,
    owned: u32,
    zero_copy: bool,
}

impl Receiver {
    /// Takes up to a batch of frames from the RX ring and returns how many. [`Receiver::recycle`] comes before the next.
    #[inline]
    pub fn receive(&mut self) -> usize {
        debug_assert_eq!(self.batch_len, 0, "the last batch was not recycled");
        // SAFETY: the descriptors are overwritten by ones of this UMEM; the kernel has let go of these chunks.
        self.batch_len = unsafe { self.rx.consume(&mut self.batch) };
        self.batch_len
    }

    /// A frame of the batch, from the Ethernet header on.
    #[inline]
    pub fn frame(&self, position: usize) -> &[u8] {
        let descriptor = &self.batch[..self.batch_len][position];
        // SAFETY: the descriptor came from the RX ring of this UMEM and has not been given back: `recycle` takes `&mut
        // self`, and this slice borrows `self`. Nothing writes to chunks of a receiver in user space.
        let frame = unsafe { self.umem.data(descriptor) };
        let (address, len) = (frame.contents().as_ptr(), frame.contents().len());
        // SAFETY: the very slice, with the lifetime of `self`, whose clone of the UMEM keeps the memory mapped.
        unsafe { std::slice::from_raw_parts(address, len) }
    }

    /// Gives the chunks of the batch back to the kernel. Returns whether it had to be woken for that.
    #[inline]
    pub fn recycle(&mut self) -> bool {
        let descriptors = &self.batch[..self.batch_len];
        // SAFETY: these came from the RX ring, nobody borrows their memory (`&mut self`), and they are given once:
        // `batch_len` goes to 0 below. The fill ring has room: it is as long as the number of chunks of this receiver.
        let given = unsafe { self.fill.produce(descriptors) };
        debug_assert_eq!(given, self.batch_len);
        self.batch_len = 0;
        let wake = self.fill.needs_wakeup();
        if wake {
            // Only ever "later": the next turn asks again.
            let _ = net::xsk_kick_rx(self.as_fd());
        }
        wake
    }

    /// Chunks in the fill ring (and, in zero-copy mode, in the driver), and chunks in the RX ring.
    pub fn chunks(&mut self) -> (u32, u32) {
        let waiting = self.rx.nb_avail_exact() + self.batch_len as u32;
        let fill = if self.zero_copy {
            self.owned - waiting
        } else {
            self.ring - self.fill.nb_free_exact()
        };
        (fill, waiting)
    }

    /// The socket's own counters (`XDP_STATISTICS`).
    ///
    /// # Errors
    ///
    /// Those of `getsockopt`.
    pub fn statistics(&self) -> io::Result<xsk_rs::socket::XdpStatistics> {
        self.rx.fd().xdp_statistics()
    }
}

impl AsFd for Receiver {
    fn as_fd(&self) -> BorrowedFd<'_> {
        // SAFETY: the queue keeps its socket open for as long as it is borrowed.
        unsafe { BorrowedFd::borrow_raw(self.rx.fd().as_raw_fd()) }
    }
}

/// What [`Sender::flush`] did.
#[derive(Clone, Copy, Debug, Default)]
pub struct Flushed {
    /// Frames put on the TX ring.
    pub queued: u64,
    /// Frames given up because the TX ring stayed full.
    pub ring_full: u64,
    /// System calls.
    pub kicks: u64,
    /// System calls that the kernel answered with "try again".
    pub again: u64,
}

/// The sending half: TX and completion ring.
pub struct Sender {
    tx: TxQueue,
    completion: CompQueue,
    pending: Vec<FrameDesc>,
    reclaimed: [FrameDesc; BATCH],
    ring: u32,
    in_flight: u32,
}

impl Sender {
    /// Most kicks in a flush. One sends the whole ring since kernel 6.17 and 32 frames before.
    const MAX_KICKS: u64 = 8;

    /// Takes a chunk to be sent by the next [`Sender::flush`]. Hands it back when as many as the ring holds wait already.
    #[inline]
    pub fn enqueue(&mut self, chunk: TxChunk) -> Result<(), TxChunk> {
        if self.pending.len() == self.ring as usize {
            return Err(chunk);
        }
        self.pending.push(chunk.0);
        Ok(())
    }

    /// Puts what waits on the TX ring and makes the kernel send it.
    pub fn flush(&mut self, pool: &mut TxPool) -> Flushed {
        let mut flushed = Flushed::default();
        self.reclaim(pool);
        if self.pending.is_empty() && self.in_flight == 0 {
            return flushed;
        }
        for _ in 0..Self::MAX_KICKS {
            let room = self.tx.nb_free(self.pending.len() as u32) as usize;
            let count = self.pending.len().min(room);
            // SAFETY: these are chunks of this UMEM whose only handles `enqueue` took; nobody else can reach their memory,
            // and they leave `pending` here.
            let queued = unsafe { self.tx.produce(&self.pending[..count]) };
            self.pending.drain(..queued);
            self.in_flight += queued as u32;
            flushed.queued += queued as u64;
            let mut again = false;
            if self.tx.needs_wakeup() && self.tx.nb_free_exact() < self.ring {
                flushed.kicks += 1;
                if net::xsk_kick_tx(borrow(&self.tx)).is_err() {
                    // EAGAIN, EBUSY, ENOBUFS, ENETDOWN: the frames stay on the ring for the next kick.
                    flushed.again += 1;
                    again = true;
                }
            }
            self.reclaim(pool);
            if self.pending.is_empty() && !again {
                break;
            }
        }
        flushed.ring_full = self.pending.len() as u64;
        pool.reclaimed(&self.pending);
        self.pending.clear();
        flushed
    }

    /// Takes back the chunks of frames that have been sent.
    pub fn reclaim(&mut self, pool: &mut TxPool) {
        // As many turns as the ring can be long.
        for _ in 0..=self.ring as usize / BATCH {
            // SAFETY: the descriptors are overwritten by ones of this UMEM that the kernel has let go of.
            let count = unsafe { self.completion.consume(&mut self.reclaimed) };
            pool.reclaimed(&self.reclaimed[..count]);
            self.in_flight -= count as u32;
            if count < BATCH {
                break;
            }
        }
    }

    /// Chunks that wait, or are on the TX or completion ring or between them.
    pub fn chunks(&self) -> u32 {
        self.in_flight + self.pending.len() as u32
    }
}
