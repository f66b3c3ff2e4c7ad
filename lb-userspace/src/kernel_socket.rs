//! The kernel's UDP sockets: the slow path beside AF_XDP, and the whole data path of `datapath.mode: socket`.
//!
//! What the XDP program passes on arrives here (fragments that the kernel put together, queues without a running
//! worker), and what AF_XDP cannot send leaves here (larger than the MTU, MAC address not known yet). Each worker has a
//! socket of its own for each listener; the kernel spreads what arrives over them by `SO_REUSEPORT`.

use std::{
    io,
    net::SocketAddr,
    os::fd::{AsFd, BorrowedFd, OwnedFd},
};

use crate::{
    stats::{Counter, WorkerStats},
    sys::{
        mmsg::{ReceiveBatch, SendBatch},
        net,
    },
};

/// Receive buffer: a burst of some thousand INVITEs. The kernel's default holds about a hundred.
const RECEIVE_BUFFER_BYTES: usize = 8 << 20;

/// A worker's socket on one listener.
pub struct KernelSocket {
    fd: OwnedFd,
    outgoing: SendBatch,
}

impl KernelSocket {
    /// Binds to a listener's VIP and port. The VIP need not be on this host yet.
    ///
    /// # Errors
    ///
    /// When the address is taken by a socket without `SO_REUSEPORT` or of another user, or the port needs privileges.
    pub fn bind(listener: SocketAddr) -> io::Result<Self> {
        Ok(Self {
            fd: net::udp_socket(listener, RECEIVE_BUFFER_BYTES)?,
            outgoing: SendBatch::default(),
        })
    }

    /// Receives what is there into `batch` and returns the number of datagrams.
    pub fn receive(&self, batch: &mut ReceiveBatch, stats: &WorkerStats) -> usize {
        match batch.receive(self.fd.as_fd()) {
            Ok(count) => count,
            Err(_) => {
                stats.add(Counter::KernelReceiveError, 1);
                0
            }
        }
    }

    /// Queues a datagram of at most `len` bytes, which `write` puts into the memory it is given and whose final length it
    /// returns. It leaves with the next [`KernelSocket::flush`].
    pub fn send(
        &mut self,
        to: SocketAddr,
        len: usize,
        stats: &WorkerStats,
        write: impl FnOnce(&mut [u8]) -> Option<usize>,
    ) {
        if self.outgoing.room(len).is_none() {
            self.flush(stats);
        }
        match self.outgoing.room(len).and_then(write) {
            Some(len) => {
                self.outgoing.commit(len, to);
                stats.add(Counter::TxKernelBytes, len as u64);
            }
            None => stats.add(Counter::KernelSendError, 1),
        }
    }

    /// Hands everything that was queued to the kernel.
    pub fn flush(&mut self, stats: &WorkerStats) {
        if self.outgoing.is_empty() {
            return;
        }
        let sent = self.outgoing.send(self.fd.as_fd());
        stats.add(Counter::TxKernel, sent.sent);
        stats.add(Counter::KernelWouldBlock, sent.would_block);
        stats.add(Counter::KernelSendError, sent.failed);
    }
}

impl AsFd for KernelSocket {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}
