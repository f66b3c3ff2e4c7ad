//! AF_XDP: the XDP program, UMEM, rings and sockets.
//!
//! A worker has one UMEM. Each of its sockets (one an interface, on the worker's queue) is split into a
//! [`Receiver`] and a [`Sender`]. Chunks are divided for good: those of the receivers go round between fill and RX ring,
//! the rest wait in the [`TxPool`], so that a burst of arrivals cannot take the chunks that answers need.
//!
//! ```text
//!             fill ring                    RX ring
//!  Receiver ------------> kernel, driver ------------> Receiver::frame, then back by Receiver::recycle
//!
//!             TX ring                      completion ring
//!  TxPool ---> Sender --> kernel, driver ------------> Sender::reclaim ---> TxPool
//! ```

#![allow(unsafe_code)]

pub mod program;
mod socket;
mod umem;

pub use socket::{BATCH, Bound, Flushed, Receiver, Sender, SocketOptions, bind};
pub use umem::{TxChunk, TxPool, Umem, chunk_size_for_mtu};
