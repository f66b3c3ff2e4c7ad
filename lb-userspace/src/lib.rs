//! `siplb`: an anycast load balancer for SIP over UDP.
//!
//! Bytes come in through [`afxdp`] or [`kernel_socket`], a [`worker`] hands each datagram to [`forward`], which decides
//! without I/O, and sends what it says. [`control`] keeps next hops and the control socket beside them, [`config`] says
//! what to do and [`stats`] what was done. A worker that is full hands frames to others by [`sharing`].

#![deny(unsafe_code)]

#[cfg(feature = "node")]
pub mod afxdp;
pub mod balance;
#[cfg(feature = "node")]
pub mod cli;
pub mod config;
#[cfg(feature = "node")]
pub mod control;
pub mod forward;
pub mod frame;
#[cfg(feature = "node")]
pub mod kernel_socket;
pub mod limit;
#[cfg(feature = "node")]
pub mod log_limit;
pub mod names;
pub mod nat;
#[cfg(feature = "node")]
pub mod node;
#[cfg(feature = "node")]
pub mod sharing;
pub mod sip;
#[cfg(feature = "node")]
pub mod stats;
#[cfg(feature = "node")]
pub mod sys;
#[cfg(feature = "node")]
pub mod tap;
pub mod token;
pub mod validate;
#[cfg(feature = "node")]
pub mod worker;

pub use lb_common::checksum;
