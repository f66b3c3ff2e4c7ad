//! What the XDP program and user space must agree on: the frame decoder, the layout of the maps, the names of the
//! outcomes, and the arithmetic of the Internet checksum.
//!
//! Compiled for the host and for BPF, so: no `std`, no allocation, no panic that the compiler cannot prove away.

#![cfg_attr(not(test), no_std)]
#![deny(unsafe_code)]

pub mod checksum;
pub mod decode;
pub mod prefetch;
pub mod wire;
pub mod xdp;
