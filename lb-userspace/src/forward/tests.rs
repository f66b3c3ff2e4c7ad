//! The whole decision, datagram in and datagram out.

mod client_address;
mod dialogs;
mod distribution;
mod edge;
mod nat;
mod own_address;
mod pings;
mod properties;
mod replies;
mod requests;
mod responses;
mod trace;
mod validate;
