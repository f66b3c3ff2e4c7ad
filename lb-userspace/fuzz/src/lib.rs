//! What fuzz targets share: the second parser, which lies beside the property tests that use it too, and an edge to send
//! datagrams through.

#[path = "../../tests/parsers/agree.rs"]
pub mod agree;
mod checks;
pub mod edge;
mod fields;
mod hidden;
#[path = "../../tests/parsers/messages.rs"]
pub mod messages;
pub mod placeholders;
mod registrations;
#[path = "../../tests/parsers/slow/mod.rs"]
pub mod slow;
mod tokens;
