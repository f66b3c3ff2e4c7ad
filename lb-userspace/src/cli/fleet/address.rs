//! Where a node tells its metrics.

use std::{fmt, str::FromStr};

/// Host and port, and the path.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::cli) struct Address {
    /// `HOST:PORT`, IPv6 in brackets.
    pub host_and_port: String,
    /// Begins with a slash.
    pub path: String,
}

impl FromStr for Address {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let refuse = |what: &str| {
            Err(format!(
                "{text:?} {what}; write HOST:PORT, such as 192.0.2.11:9464, or http://192.0.2.11:9464/metrics"
            ))
        };
        if text.starts_with("https://") {
            return refuse("asks for TLS, which metrics.listen has not");
        }
        let rest = text.strip_prefix("http://").unwrap_or(text);
        let (host_and_port, path) = match rest.find('/') {
            Some(at) => rest.split_at(at),
            None => (rest, "/metrics"),
        };
        let path = if path == "/" { "/metrics" } else { path };
        let is_plain = |text: &str| text.bytes().all(|byte| byte.is_ascii_graphic());
        if !is_plain(rest) || host_and_port.contains(['@', '?', '#']) {
            return refuse("is no address");
        }
        let Some((host, port)) = host_and_port.rsplit_once(':') else {
            return refuse("has no port");
        };
        if !port.parse::<u16>().is_ok_and(|port| port > 0) {
            return refuse("has no port from 1 to 65535");
        }
        let is_bracketed = host.starts_with('[') && host.ends_with(']');
        if host.is_empty() || (host.contains(':') && !is_bracketed) {
            return refuse("has no host; IPv6 addresses stand in brackets");
        }
        Ok(Self {
            host_and_port: host_and_port.to_owned(),
            path: path.to_owned(),
        })
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.path.as_str() {
            "/metrics" => f.write_str(&self.host_and_port),
            path => write!(f, "http://{}{path}", self.host_and_port),
        }
    }
}
