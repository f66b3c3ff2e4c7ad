//! Header fields by name.

macro_rules! kinds {
    ($($kind:ident: $($name:literal)|+;)+) => {
        /// The header fields that have a grammar here.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        #[repr(u8)]
        pub(super) enum Kind {
            $($kind,)+
            /// Any other.
            Other,
        }

        impl Kind {
            fn from_lower_case(name: &[u8]) -> Self {
                match name {
                    $($($name)|+ => Self::$kind,)+
                    _ => Self::Other,
                }
            }
        }
    };
}

kinds! {
    Accept: b"accept";
    AcceptEncoding: b"accept-encoding";
    AcceptLanguage: b"accept-language";
    Allow: b"allow";
    AllowEvents: b"allow-events" | b"u";
    AssertedIdentity: b"p-asserted-identity";
    Authorization: b"authorization" | b"proxy-authorization";
    CallId: b"call-id" | b"i";
    CallInfo: b"call-info";
    Contact: b"contact" | b"m";
    ContentDisposition: b"content-disposition";
    ContentType: b"content-type" | b"c";
    Date: b"date";
    Diversion: b"diversion";
    Event: b"event" | b"o";
    Expires: b"expires";
    From: b"from" | b"f";
    Mark: b"x-validate-fail";
    MinExpires: b"min-expires";
    MinSe: b"min-se";
    Path: b"path";
    PreferredIdentity: b"p-preferred-identity";
    Priority: b"priority";
    Privacy: b"privacy";
    ProxyRequire: b"proxy-require";
    RecordRoute: b"record-route";
    ReferTo: b"refer-to" | b"r";
    ReferredBy: b"referred-by" | b"b";
    RemotePartyId: b"remote-party-id";
    ReplyTo: b"reply-to";
    Require: b"require";
    RetryAfter: b"retry-after";
    Route: b"route";
    SessionExpires: b"session-expires" | b"x";
    Supported: b"supported" | b"k";
    Timestamp: b"timestamp";
    To: b"to" | b"t";
    Unsupported: b"unsupported";
    UserAgent: b"user-agent";
    Via: b"via" | b"v";
}

impl Kind {
    /// Reads a name in any case, long or compact.
    pub fn of(name: &[u8]) -> Self {
        // As long as the longest name above.
        let mut lower = [0; 20];
        let Some(lower) = lower.get_mut(..name.len()) else {
            return Self::Other;
        };
        lower.copy_from_slice(name);
        lower.make_ascii_lowercase();
        Self::from_lower_case(lower)
    }

    /// A bit of its own when there may be one such header field at most. Those that are refused always when they are
    /// there twice are left out.
    pub fn single_bit(self) -> u64 {
        match self {
            Self::ContentDisposition
            | Self::ContentType
            | Self::Date
            | Self::Event
            | Self::Expires
            | Self::MinExpires
            | Self::MinSe
            | Self::Priority
            | Self::ReferTo
            | Self::ReferredBy
            | Self::ReplyTo
            | Self::RetryAfter
            | Self::SessionExpires
            | Self::Timestamp
            | Self::UserAgent => 1 << self as u8,
            _ => 0,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names() {
        for (name, want) in [
            ("From", Kind::From),
            ("f", Kind::From),
            ("PROXY-Authorization", Kind::Authorization),
            ("p-preferred-identity", Kind::PreferredIdentity),
            ("P-Preferred-Identity2", Kind::Other),
            ("X-Validate-Fail", Kind::Mark),
            ("x", Kind::SessionExpires),
            ("From2", Kind::Other),
            ("", Kind::Other),
        ] {
            assert_eq!(Kind::of(name.as_bytes()), want, "{name}");
        }
    }
}
