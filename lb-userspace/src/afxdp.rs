//! AF_XDP: the XDP program, UMEM, rings and sockets.

pub mod program;
