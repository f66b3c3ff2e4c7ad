//! What runs beside the workers: next hops, health, the control socket, HEP, metrics over HTTP.

pub mod announce;
pub mod client;
pub mod commands;
pub mod events;
pub mod hep;
pub mod http;
pub mod next_hops;
pub mod plane;
pub mod probes;
pub mod resolver;
pub mod server;
pub mod status;
pub mod trace;

mod timed;

use serde::{Deserialize, Serialize};

/// A line that the command line sends to the running node: `{"command":"status"}`. The answer is a line as well,
/// `{"ok":true, ...}` or `{"ok":false,"error":"..."}`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Request {
    /// What to do.
    pub command: String,
    /// What else the line has.
    #[serde(flatten)]
    pub arguments: serde_json::Map<String, serde_json::Value>,
}

impl Request {
    /// A request without arguments.
    pub fn new(command: &str) -> Self {
        Self {
            command: command.to_owned(),
            arguments: serde_json::Map::new(),
        }
    }

    /// The same with one more argument.
    pub fn with(mut self, name: &str, value: impl Into<serde_json::Value>) -> Self {
        self.arguments.insert(name.to_owned(), value.into());
        self
    }
}
