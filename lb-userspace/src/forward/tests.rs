//! The whole decision, datagram in and datagram out.

mod client_address;
mod dialogs;
mod distribution;
mod edge;
mod nat;
mod open_relay;
mod outbound;
mod own_address;
mod pings;
mod properties;
mod reading;
mod registrations;
mod replies;
mod requests;
mod responses;
mod rotation;
mod rules;
mod topology;
mod trace;
mod validate;
