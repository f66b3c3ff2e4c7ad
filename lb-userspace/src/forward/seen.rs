//! What a message is, for those who count: its method and, of a response, its class.

use crate::{
    sip::{Message, Method, StartLine, skip_lws, skip_while},
    token::TransactionId,
};

macro_rules! named {
    ($(#[$doc:meta])* $type:ident { $($(#[$variant_doc:meta])* $variant:ident $name:literal,)+ }) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        #[repr(u8)]
        pub enum $type {
            $($(#[$variant_doc])* $variant,)+
        }

        impl $type {
            /// All of them; the number of one is its place here.
            pub const ALL: [Self; [$($name),+].len()] = [$(Self::$variant),+];

            /// The name in statistics and metrics.
            pub const fn name(self) -> &'static str {
                match self {
                    $(Self::$variant => $name,)+
                }
            }
        }
    };
}

named! {
    /// The methods that are counted by name. What is none of them is never a name in metrics: anybody can make some up.
    CountedMethod {
        /// RFC 3261 §13.
        Invite "INVITE",
        /// RFC 3261 §13.
        Ack "ACK",
        /// RFC 3261 §9.
        Cancel "CANCEL",
        /// RFC 3261 §15.
        Bye "BYE",
        /// RFC 3261 §11.
        Options "OPTIONS",
        /// RFC 3261 §10.
        Register "REGISTER",
        /// RFC 6665.
        Subscribe "SUBSCRIBE",
        /// RFC 3515.
        Refer "REFER",
        /// RFC 6665.
        Notify "NOTIFY",
        /// RFC 3428.
        Message "MESSAGE",
        /// RFC 6086.
        Info "INFO",
        /// RFC 3311.
        Update "UPDATE",
        /// RFC 3262.
        Prack "PRACK",
        /// RFC 3903.
        Publish "PUBLISH",
        /// Any other.
        Other "other",
    }
}

named! {
    /// Request, or the class of a response (RFC 3261 §7.2).
    MessageClass {
        /// A request.
        Request "request",
        /// Provisional.
        Provisional "1xx",
        /// Success.
        Success "2xx",
        /// Redirection.
        Redirection "3xx",
        /// Client error.
        ClientError "4xx",
        /// Server error.
        ServerError "5xx",
        /// Global failure.
        GlobalFailure "6xx",
    }
}

/// What a SIP message is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Seen {
    /// Of a response the one in CSeq.
    pub method: CountedMethod,
    /// Request or response.
    pub class: MessageClass,
    /// The transaction that it belongs to, once that is known: of a request its own, of a response the one that our MAC holds
    /// for.
    pub transaction: Option<TransactionId>,
}

impl Seen {
    /// What a message is that was read from `bytes`.
    pub(super) fn of(message: &Message, bytes: &[u8]) -> Self {
        let (method, class) = match message.start_line {
            StartLine::Request { method, name, .. } => {
                let method = match method {
                    Method::Other => CountedMethod::of_name(name.of(bytes)),
                    known => CountedMethod::of_method(known),
                };
                (method, MessageClass::Request)
            }
            StartLine::Response { status } => (
                method_of_cseq(message, bytes),
                MessageClass::of_status(status),
            ),
        };
        Self {
            method,
            class,
            transaction: None,
        }
    }
}

/// The method that the response is of. The number before it was read with the message.
fn method_of_cseq(message: &Message, bytes: &[u8]) -> CountedMethod {
    let Some(cseq) = message.cseq else {
        return CountedMethod::Other;
    };
    let (start, end) = (cseq.value.start(), cseq.value.end());
    let number = skip_while(bytes, start, end, |byte| byte.is_ascii_digit());
    let method = skip_lws(bytes, number, end);
    CountedMethod::of_name(bytes.get(method..end).unwrap_or_default())
}

impl CountedMethod {
    fn of_method(method: Method) -> Self {
        match method {
            Method::Invite => Self::Invite,
            Method::Ack => Self::Ack,
            Method::Cancel => Self::Cancel,
            Method::Bye => Self::Bye,
            Method::Options => Self::Options,
            Method::Register => Self::Register,
            Method::Subscribe => Self::Subscribe,
            Method::Refer => Self::Refer,
            Method::Other => Self::Other,
        }
    }

    fn of_name(name: &[u8]) -> Self {
        match name {
            b"NOTIFY" => Self::Notify,
            b"MESSAGE" => Self::Message,
            b"INFO" => Self::Info,
            b"UPDATE" => Self::Update,
            b"PRACK" => Self::Prack,
            b"PUBLISH" => Self::Publish,
            name => Self::of_method(Method::from_name(name)),
        }
    }
}

impl MessageClass {
    /// The class of a status code, 100 to 699: what has another one is not read as a response.
    pub const fn of_status(status: u16) -> Self {
        match status / 100 {
            0 | 1 => Self::Provisional,
            2 => Self::Success,
            3 => Self::Redirection,
            4 => Self::ClientError,
            5 => Self::ServerError,
            _ => Self::GlobalFailure,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sip;

    #[track_caller]
    fn check(start_line: &str, cseq: &str, method: &str, class: &str) {
        let text = format!(
            "{start_line}\r\nVia: SIP/2.0/UDP h;branch=z9hG4bKa\r\nFrom: <sip:a@b>;tag=1\r\nTo: <sip:a@b>\r\n\
             Call-ID: 1\r\n{cseq}Content-Length: 0\r\n\r\n"
        );
        let message = sip::read(text.as_bytes()).unwrap();
        let seen = Seen::of(&message, text.as_bytes());
        assert_eq!(
            (seen.method.name(), seen.class.name()),
            (method, class),
            "{text}"
        );
    }

    #[test]
    fn methods_and_classes() {
        for method in CountedMethod::ALL {
            let name = method.name();
            let request = format!("{name} sip:a@b SIP/2.0");
            check(&request, &format!("CSeq: 1 {name}\r\n"), name, "request");
            check(
                "SIP/2.0 200 OK",
                &format!("CSeq: 1 {name}\r\n"),
                name,
                "2xx",
            );
        }
        check(
            "invite sip:a@b SIP/2.0",
            "CSeq: 1 invite\r\n",
            "other",
            "request",
        );
        for (status, class) in [
            (100, "1xx"),
            (302, "3xx"),
            (404, "4xx"),
            (503, "5xx"),
            (699, "6xx"),
        ] {
            let response = format!("SIP/2.0 {status:03} X");
            check(&response, "CSeq: 314159\r\n \t BYE \r\n", "BYE", class);
        }
        check("SIP/2.0 200 OK", "", "other", "2xx");
        check("SIP/2.0 200 OK", "CSeq: INVITE\r\n", "INVITE", "2xx");
    }

    #[test]
    fn numbers_are_places() {
        for (place, method) in CountedMethod::ALL.into_iter().enumerate() {
            assert_eq!(method as usize, place);
        }
        for (place, class) in MessageClass::ALL.into_iter().enumerate() {
            assert_eq!(class as usize, place);
        }
    }
}
