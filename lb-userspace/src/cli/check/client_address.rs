//! What `siplb check` says about what backends are told of a client's address.

use serde::Serialize;

use crate::config::{ClientAddress, ProxyVersion};

/// How the backends of a pool learn it.
#[derive(Debug, Serialize)]
pub(super) struct ClientAddressMeaning {
    /// `off`, `proxy-protocol`, `proxy-protocol-v1` or `header-fields`.
    pub by: &'static str,
    /// Names of the header fields.
    pub ip: Option<String>,
    pub port: Option<String>,
    pub transport: Option<String>,
}

impl ClientAddressMeaning {
    pub fn new(told: &ClientAddress) -> Self {
        let (by, fields) = match told {
            ClientAddress::Off => ("off", None),
            ClientAddress::ProxyProtocol(ProxyVersion::V2) => ("proxy-protocol", None),
            ClientAddress::ProxyProtocol(ProxyVersion::V1) => ("proxy-protocol-v1", None),
            ClientAddress::Fields(fields) => ("header-fields", Some(fields.clone())),
        };
        let fields = fields.unwrap_or_default();
        Self {
            by,
            ip: fields.ip,
            port: fields.port,
            transport: fields.transport,
        }
    }

    /// A line for people; nothing where nobody is told.
    pub fn line(&self) -> String {
        let version = match self.by {
            "off" => return String::new(),
            "proxy-protocol" => "2",
            "proxy-protocol-v1" => "1",
            _ => {
                let names = [&self.ip, &self.port, &self.transport];
                let names = names.into_iter().flatten().map(String::as_str);
                let names = names.collect::<Vec<_>>().join(", ");
                return format!(
                    "  told the client's address by {names} in requests from outside\n"
                );
            }
        };
        format!(
            "  told the client's address by the PROXY protocol, version {version}, in front of every datagram\n"
        )
    }
}
