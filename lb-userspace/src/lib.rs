//! `siplb`: an anycast load balancer for SIP over UDP.
//!
//! Bytes come in through [`afxdp`] or [`kernel_socket`], a [`worker`] hands each datagram to [`forward`], which decides
//! without I/O, and sends what it says. [`control`] keeps next hops and the control socket beside them, [`config`] says
//! what to do and [`stats`] what was done.

#![deny(unsafe_code)]

pub mod afxdp;
pub mod balance;
pub mod cli;
pub mod config;
pub mod control;
pub mod forward;
pub mod kernel_socket;
pub mod node;
pub mod sip;
pub mod stats;
pub mod sys;
pub mod token;
pub mod worker;

pub use lb_common::checksum;
