//! The whole decision, datagram in and datagram out.

mod corpus;
mod dialogs;
mod edge;
mod properties;
mod replies;
mod requests;
mod responses;
mod trace;
