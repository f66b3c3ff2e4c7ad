//! Messages that others wrote or recorded: what is read in them, and what becomes of them.
//!
//! Our own copies are in `tests/data/corpus`; more may lie outside, see [`folder::outside`].

mod compare;
mod edge;
mod every;
mod exceptions;
mod facts;
mod folder;
mod mend;
mod rfc;
mod rfc4475;
mod rfc5118;
mod rfc_validated;
mod slow;
mod validate;
mod way_back;
