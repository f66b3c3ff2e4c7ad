//! A worker that is full hands whole frames to idle ones, call by call.
//!
//! A NIC spreads datagrams over its queues by addresses and ports, so all that comes through one trunk of a carrier, which has
//! one address and port at either end, meets one queue, one worker and one core. When that worker is full and others are
//! idle, it takes the frames from its RX ring as before, but copies some of them into an inbox of another worker, which
//! does all the rest as if they had come to its own queue.
//!
//! ```text
//!            RX ring --> full worker --> its own TX ring
//!                          |  copy, by Call-ID
//!                          v
//!        inbox: parcels of frames --> idle worker --> its own TX ring
//! ```
//!
//! Calls go by a keyed hash of the Call-ID into 256 buckets, and a bucket is where a call's frames go. Which worker should have
//! a bucket is decided by the `governor`, every few milliseconds, by how busy workers are: while nobody is full nothing is
//! read for this, copied or counted. `buckets` keeps the order within a call when a bucket moves. What has no Call-ID stays.
//!
//! All memory is taken at the start. A frame for which the inbox has no room is lost, as one is that finds an RX ring full.

mod buckets;
mod exchange;
mod governor;
mod parcel;
mod side;
#[cfg(test)]
mod tests;

pub use exchange::Exchange;
pub use parcel::Parcel;
pub use side::{Handover, Side};

/// Parts that calls are divided into: what moves from one worker to another is one of them at the least.
const BUCKETS: usize = 256;
