//! The system calls that the standard library lacks, behind safe functions.

#![allow(unsafe_code)]

pub mod memory;
pub mod mmap;
pub mod mmsg;
pub mod net;
pub mod thread;
