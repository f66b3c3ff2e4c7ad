//! Methods.

/// Method of a request. Case-sensitive (RFC 3261 §7.1): `invite` is another method.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Method {
    /// RFC 3261 §13.
    Invite,
    /// RFC 3261 §13.2.2.4 and §17.1.1.3. Never answered.
    Ack,
    /// RFC 3261 §9.
    Cancel,
    /// RFC 3261 §15.
    Bye,
    /// RFC 3261 §11.
    Options,
    /// RFC 3261 §10.
    Register,
    /// RFC 6665.
    Subscribe,
    /// RFC 3515.
    Refer,
    /// Any other; all of them are forwarded alike.
    Other,
}

impl Method {
    /// Reads a method name.
    pub fn from_name(name: &[u8]) -> Self {
        match name {
            b"INVITE" => Self::Invite,
            b"ACK" => Self::Ack,
            b"CANCEL" => Self::Cancel,
            b"BYE" => Self::Bye,
            b"OPTIONS" => Self::Options,
            b"REGISTER" => Self::Register,
            b"SUBSCRIBE" => Self::Subscribe,
            b"REFER" => Self::Refer,
            _ => Self::Other,
        }
    }

    /// True when a request with this method and no To tag can create a dialog (RFC 3261 §12.1, RFC 6665, RFC 3515).
    pub fn creates_dialog(self) -> bool {
        matches!(self, Self::Invite | Self::Subscribe | Self::Refer)
    }
}
