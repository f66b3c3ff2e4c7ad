//! `recvmmsg` and `sendmmsg` with the memory that they need, taken once.

use std::{
    io, mem,
    net::SocketAddr,
    os::fd::{AsRawFd, BorrowedFd},
    ptr,
};

use super::net::RawAddress;

/// Datagrams per system call.
pub const BATCH: usize = 64;
/// Room for the largest UDP payload (65,507 bytes over IPv4; 65,527 over IPv6), in whole pages.
const SLOT_BYTES: usize = 65_536;

/// Datagrams that one `recvmmsg` call received.
pub struct ReceiveBatch {
    /// [`BATCH`] slots; pages that no datagram reached are never touched.
    buffer: Box<[u8]>,
    addresses: Box<[RawAddress; BATCH]>,
    lengths: [usize; BATCH],
    count: usize,
}

impl Default for ReceiveBatch {
    fn default() -> Self {
        Self {
            buffer: vec![0; BATCH * SLOT_BYTES].into_boxed_slice(),
            addresses: Box::new([RawAddress::zeroed(); BATCH]),
            lengths: [0; BATCH],
            count: 0,
        }
    }
}

impl ReceiveBatch {
    /// Receives what is there, without waiting, and returns the number of datagrams; 0 when there is none.
    ///
    /// # Errors
    ///
    /// Those of `recvmmsg` but `EAGAIN` and `EINTR`. The batch is empty then.
    pub fn receive(&mut self, socket: BorrowedFd<'_>) -> io::Result<usize> {
        self.count = 0;
        let base = self.buffer.as_mut_ptr();
        let mut vectors: [libc::iovec; BATCH] = std::array::from_fn(|slot| libc::iovec {
            iov_base: base.wrapping_add(slot * SLOT_BYTES).cast(),
            iov_len: SLOT_BYTES,
        });
        let mut headers: [libc::mmsghdr; BATCH] = std::array::from_fn(|slot| {
            // SAFETY: `mmsghdr` is made of integers and pointers, for which zero bytes are valid.
            let mut header: libc::mmsghdr = unsafe { mem::zeroed() };
            header.msg_hdr.msg_name = (&raw mut self.addresses[slot]).cast();
            header.msg_hdr.msg_namelen = mem::size_of::<RawAddress>() as libc::socklen_t;
            header.msg_hdr.msg_iov = &raw mut vectors[slot];
            header.msg_hdr.msg_iovlen = 1;
            header
        });
        // SAFETY: every header points to one vector and one address of its own slot; the vectors cover disjoint slots of
        // `buffer`; all of them outlive the call and nothing else refers to them during it.
        let received = unsafe {
            libc::recvmmsg(
                socket.as_raw_fd(),
                headers.as_mut_ptr(),
                BATCH as libc::c_uint,
                libc::MSG_DONTWAIT,
                ptr::null_mut(),
            )
        };
        if received < 0 {
            let error = io::Error::last_os_error();
            return match error.kind() {
                io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted => Ok(0),
                _ => Err(error),
            };
        }
        self.count = received as usize;
        for (length, header) in self.lengths.iter_mut().zip(&headers[..self.count]) {
            *length = (header.msg_len as usize).min(SLOT_BYTES);
        }
        Ok(self.count)
    }

    /// Payload and source of a datagram of the last batch; `None` beyond its end.
    pub fn datagram(&self, position: usize) -> Option<(&[u8], SocketAddr)> {
        if position >= self.count {
            return None;
        }
        let start = position * SLOT_BYTES;
        let payload = &self.buffer[start..start + self.lengths[position]];
        Some((payload, self.addresses[position].to_std()?))
    }
}

/// Datagrams waiting for one `sendmmsg` call.
pub struct SendBatch {
    buffer: Box<[u8]>,
    used: usize,
    entries: Vec<(usize, usize, SocketAddr)>,
}

/// What became of the datagrams of a [`SendBatch`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Sent {
    /// Taken by the kernel.
    pub sent: u64,
    /// Refused because the socket buffer is full.
    pub would_block: u64,
    /// Refused for another reason (no route, not permitted, too long).
    pub failed: u64,
}

impl Default for SendBatch {
    fn default() -> Self {
        Self {
            buffer: vec![0; BATCH * SLOT_BYTES / 4].into_boxed_slice(),
            used: 0,
            entries: Vec::with_capacity(BATCH),
        }
    }
}

impl SendBatch {
    /// Room to write a datagram of `length` bytes to, or `None` when the batch must be sent first. The datagram counts
    /// once [`SendBatch::commit`] has been called.
    pub fn room(&mut self, length: usize) -> Option<&mut [u8]> {
        if self.entries.len() == BATCH {
            return None;
        }
        self.buffer
            .get_mut(self.used..self.used.checked_add(length)?)
    }

    /// Takes the first `length` bytes of the room given last as a datagram for `to`.
    pub fn commit(&mut self, length: usize, to: SocketAddr) {
        debug_assert!(self.used + length <= self.buffer.len() && self.entries.len() < BATCH);
        self.entries.push((self.used, length, to));
        self.used += length;
    }

    /// Whether nothing waits.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// Hands everything to the kernel. A datagram that it refuses is counted and does not hold up the others.
    pub fn send(&mut self, socket: BorrowedFd<'_>) -> Sent {
        let mut outcome = Sent::default();
        let count = self.entries.len();
        if count == 0 {
            return outcome;
        }
        let mut addresses = [RawAddress::zeroed(); BATCH];
        let base = self.buffer.as_mut_ptr();
        // SAFETY: `iovec` and `mmsghdr` are made of integers and pointers, for which zero bytes are valid.
        let mut vectors: [libc::iovec; BATCH] = unsafe { mem::zeroed() };
        // SAFETY: as above.
        let mut headers: [libc::mmsghdr; BATCH] = unsafe { mem::zeroed() };
        for (slot, &(start, length, to)) in self.entries.iter().enumerate() {
            let (address, address_length) = RawAddress::from_std(to);
            addresses[slot] = address;
            vectors[slot] = libc::iovec {
                iov_base: base.wrapping_add(start).cast(),
                iov_len: length,
            };
            let header = &mut headers[slot].msg_hdr;
            header.msg_name = (&raw mut addresses[slot]).cast();
            header.msg_namelen = address_length;
            header.msg_iov = &raw mut vectors[slot];
            header.msg_iovlen = 1;
        }
        let mut position = 0;
        while position < count {
            // SAFETY: headers `position..count` were filled above; each points to one vector within `buffer` and one
            // address, all of which outlive the call. The kernel only reads them, but for the message lengths.
            let sent = unsafe {
                libc::sendmmsg(
                    socket.as_raw_fd(),
                    headers[position..].as_mut_ptr(),
                    (count - position) as libc::c_uint,
                    libc::MSG_DONTWAIT,
                )
            };
            if sent > 0 {
                outcome.sent += sent as u64;
                position += sent as usize;
                continue;
            }
            // The error belongs to the first datagram that was left: skip it, so that the loop ends.
            match io::Error::last_os_error().kind() {
                io::ErrorKind::WouldBlock => outcome.would_block += 1,
                _ => outcome.failed += 1,
            }
            position += 1;
        }
        self.entries.clear();
        self.used = 0;
        outcome
    }
}

#[cfg(test)]
mod tests {
    use std::{net::UdpSocket, os::fd::AsFd, time::Duration};

    use super::*;
    use crate::sys::net::{PollSet, udp_socket, wait_readable};

    #[test]
    fn datagrams_of_all_sizes_cross_in_order_with_their_source() {
        for local in ["127.0.0.1:0", "[::1]:0"] {
            let receiver = UdpSocket::bind(local).unwrap();
            receiver.set_nonblocking(true).unwrap();
            let sender = udp_socket(local.parse().unwrap(), 1 << 20).unwrap();
            let sender = UdpSocket::from(sender);
            let mut out = SendBatch::default();
            let sizes = [0usize, 1, 4, 1_480, 8_000, 65_000];
            for (index, &size) in sizes.iter().enumerate() {
                out.room(size).unwrap().fill(index as u8);
                out.commit(size, receiver.local_addr().unwrap());
            }
            let sent = out.send(sender.as_fd());
            assert_eq!(
                sent,
                Sent {
                    sent: sizes.len() as u64,
                    ..Sent::default()
                }
            );
            assert!(out.is_empty());

            let mut batch = ReceiveBatch::default();
            let mut seen = Vec::new();
            let mut poll = PollSet::default();
            poll.push(receiver.as_fd());
            while seen.len() < sizes.len() {
                assert_eq!(wait_readable(&mut poll, Duration::from_secs(5)).unwrap(), 1);
                for position in 0..batch.receive(receiver.as_fd()).unwrap() {
                    let (payload, source) = batch.datagram(position).unwrap();
                    assert_eq!(source, sender.local_addr().unwrap());
                    assert!(payload.iter().all(|&byte| usize::from(byte) == seen.len()));
                    seen.push(payload.len());
                }
            }
            assert_eq!(seen, sizes);
            assert_eq!(batch.receive(receiver.as_fd()).unwrap(), 0);
            assert!(batch.datagram(0).is_none());
        }
    }

    #[test]
    fn a_datagram_that_the_kernel_refuses_does_not_hold_up_the_others() {
        let receiver = UdpSocket::bind("127.0.0.1:0").unwrap();
        let sender = UdpSocket::bind("127.0.0.1:0").unwrap();
        let mut out = SendBatch::default();
        let to = receiver.local_addr().unwrap();
        for (length, to) in [
            (4, to),
            (65_530, to),
            (4, "[::1]:9".parse().unwrap()),
            (5, to),
        ] {
            assert!(out.room(length).is_some());
            out.commit(length, to);
        }
        assert_eq!(
            out.send(sender.as_fd()),
            Sent {
                sent: 2,
                would_block: 0,
                failed: 2
            }
        );
    }

    #[test]
    fn a_full_batch_gives_no_room() {
        let mut out = SendBatch::default();
        for _ in 0..BATCH {
            assert!(out.room(10).is_some());
            out.commit(10, "127.0.0.1:9".parse().unwrap());
        }
        assert!(out.room(10).is_none());
        assert!(SendBatch::default().room(usize::MAX).is_none());
    }
}
