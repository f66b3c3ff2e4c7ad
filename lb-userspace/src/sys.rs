//! The system calls that the standard library lacks, behind safe functions.

pub mod mmap;
