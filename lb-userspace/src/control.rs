//! What runs beside the workers: next hops, the control socket.

pub mod next_hops;
