//! How backends learn the address of a client.

/// `pools[].client_address`: how the backends of a pool learn where a datagram came from before it came to us.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub enum ClientAddress {
    /// `off`: by `received` and `rport` in the client's Via alone.
    #[default]
    Off,
    /// `proxy-protocol`, `proxy-protocol-v1`: by a header in front of every datagram that goes to one of them.
    ProxyProtocol(ProxyVersion),
    /// A mapping: by header fields of requests from outside.
    Fields(ClientFields),
}

/// Version of the PROXY protocol.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ProxyVersion {
    /// `proxy-protocol-v1`: a line of text.
    V1,
    /// `proxy-protocol`: binary.
    V2,
}

/// Names of the header fields; at least one, all different, none that means something by itself.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct ClientFields {
    /// `ip`: the source address; an IPv6 address without brackets.
    pub ip: Option<String>,
    /// `port`: the source port.
    pub port: Option<String>,
    /// `transport`: `udp`.
    pub transport: Option<String>,
}

impl ClientFields {
    /// Longest name.
    pub const MAX_NAME: usize = 63;

    /// The names that there are.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        let names = [&self.ip, &self.port, &self.transport];
        names.into_iter().flatten().map(String::as_str)
    }

    /// True when this is one of the names, in any case.
    pub fn has(&self, name: &[u8]) -> bool {
        self.names()
            .any(|ours| ours.as_bytes().eq_ignore_ascii_case(name))
    }
}
