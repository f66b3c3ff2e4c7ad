//! One name for each thing that can become of a datagram.

use crate::sip::Fault;

/// How an outcome ends for the datagram.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OutcomeClass {
    /// Sent on.
    Forward,
    /// Answered by us.
    Reply,
    /// Not wanted, nothing sent.
    Drop,
    /// For us and dealt with, nothing sent.
    Absorb,
}

/// Makes the enum and its tables from one list, so that no name can be without an entry.
macro_rules! outcomes {
    ($($(#[doc = $doc:literal])+ $variant:ident, $name:literal, $class:ident;)+) => {
        /// What became of a datagram. The same name stands in counters, in explanations and in the documentation.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        #[repr(u16)]
        pub enum Outcome {
            $($(#[doc = $doc])+ $variant,)+
        }

        impl Outcome {
            /// All outcomes; an outcome's number is its place here.
            pub const ALL: [Self; [$(Self::$variant),+].len()] = [$(Self::$variant),+];

            /// Name in counters and output.
            pub const fn name(self) -> &'static str {
                match self {
                    $(Self::$variant => $name,)+
                }
            }

            /// What it means, in a sentence.
            pub fn meaning(self) -> &'static str {
                let text = match self {
                    $(Self::$variant => concat!($($doc),+),)+
                };
                text.trim_start()
            }

            /// How it ends.
            pub const fn class(self) -> OutcomeClass {
                match self {
                    $(Self::$variant => OutcomeClass::$class,)+
                }
            }
        }
    };
}

outcomes! {
    /// A request without flow token went to the backend that its pool chose.
    RequestToPool, "request_to_pool", Forward;
    /// A request went to the backend that its flow token names.
    RequestToBackend, "request_to_backend", Forward;
    /// A request went to the client that its flow token names.
    RequestToClient, "request_to_client", Forward;
    /// A request of a backend or a trusted network went where its Route or Request-URI leads.
    RequestOutbound, "request_outbound", Forward;
    /// A response with our Via went back where its request came from.
    Response, "response", Forward;
    /// CRLFCRLF, answered with CRLF (RFC 5626 §3.5.1).
    KeepaliveCrlf, "keepalive_crlf", Reply;
    /// A STUN binding request, answered (RFC 8489).
    KeepaliveStun, "keepalive_stun", Reply;
    /// A STUN binding request with an attribute that must be understood and is not: 420 (RFC 8489 §6.3.1).
    StunUnknownAttribute, "stun_unknown_attribute", Reply;
    /// An OPTIONS for us, or one that `ping_replies` of its listener has us answer: 200.
    OptionsAnswered, "options_answered", Reply;
    /// Max-Forwards is 0: 483.
    MaxForwardsExceeded, "max_forwards_exceeded", Reply;
    /// Proxy-Require names an extension, and we have none: 420.
    ExtensionNotSupported, "extension_not_supported", Reply;
    /// The top Route is ours and its flow token is not: 403.
    BadFlowToken, "bad_flow_token", Reply;
    /// A backend sent a request for us that no token leads anywhere: 403.
    FromBackendWithoutToken, "from_backend_without_token", Reply;
    /// A Contact of a REGISTER cannot be replaced by one of ours, for it cannot be read or is too long, or there are too many: 400.
    ContactNotReplaced, "contact_not_replaced", Reply;
    /// A request to the outside wants a scheme that UDP cannot serve, such as sips or tel: 416.
    UriSchemeNotSupported, "uri_scheme_not_supported", Reply;
    /// A request to the outside wants another transport than UDP: 502.
    NextHopTransport, "next_hop_transport", Reply;
    /// A request to the outside goes to an address of another IP version than the listener's: 502.
    NextHopOtherFamily, "next_hop_other_family", Reply;
    /// A request to the outside goes to an address that nothing is sent to: of our own, of everybody, of nobody: 403.
    NextHopNotAllowed, "next_hop_not_allowed", Reply;
    /// A request to the outside goes to a name that does not exist, or has no address that helps: 502.
    NameNotFound, "name_not_found", Reply;
    /// A request to the outside goes to a name that no name server has an answer for: 504.
    NameNotResolved, "name_not_resolved", Reply;
    /// A request says more of the inside than can be hidden: 500.
    TooMuchToHide, "too_much_to_hide", Reply;
    /// No route rule matches: 404.
    NoRouteRule, "no_route_rule", Reply;
    /// The pool has no backend that takes calls: 503.
    NoUsableBackend, "no_usable_backend", Reply;
    /// A call above a limit on calls per second: answered as `limits.on_breach` says.
    CpsBreached, "cps_breached", Reply;
    /// Another SIP version: 505.
    VersionNotSupported, "version_not_supported", Reply;
    /// 400: the request line is malformed.
    BadRequestLine, "bad_request_line", Reply;
    /// 400: the Request-URI is malformed.
    BadRequestUri, "bad_request_uri", Reply;
    /// 400: a header line has no name or no colon.
    BadHeaderField, "bad_header_field", Reply;
    /// 400: a CR stands alone in the header fields.
    BareCr, "bare_cr", Reply;
    /// 400: a control character in the header fields.
    ControlCharacter, "control_character", Reply;
    /// 400: the datagram ends before the empty line.
    NoEmptyLine, "no_empty_line", Reply;
    /// 400: more header fields than we pass on.
    TooManyHeaderFields, "too_many_header_fields", Reply;
    /// 400: no From.
    MissingFrom, "missing_from", Reply;
    /// 400: no To.
    MissingTo, "missing_to", Reply;
    /// 400: no Call-ID.
    MissingCallId, "missing_call_id", Reply;
    /// 400: no CSeq.
    MissingCseq, "missing_cseq", Reply;
    /// 400: a header field that must be single is not.
    RepeatedHeaderField, "repeated_header_field", Reply;
    /// 400: From is malformed.
    BadFrom, "bad_from", Reply;
    /// 400: To is malformed.
    BadTo, "bad_to", Reply;
    /// 400: Call-ID is empty.
    BadCallId, "bad_call_id", Reply;
    /// 400: CSeq is malformed.
    BadCseq, "bad_cseq", Reply;
    /// 400: CSeq names another method than the request line.
    CseqMethodMismatch, "cseq_method_mismatch", Reply;
    /// 400: Max-Forwards is malformed.
    BadMaxForwards, "bad_max_forwards", Reply;
    /// 400: Route is malformed.
    BadRoute, "bad_route", Reply;
    /// 400: Content-Length is malformed.
    BadContentLength, "bad_content_length", Reply;
    /// 400: the body is shorter than Content-Length.
    BodyTooShort, "body_too_short", Reply;
    /// 400: not well-formed, and the listener validates; [`crate::validate::Reason`] says why.
    InvalidRequest, "invalid_request", Reply;
    /// 400: more header fields than can be taken out that tell backends a client's address, which is for us to do.
    ForgedClientAddress, "forged_client_address", Reply;
    /// No bytes at all.
    Empty, "empty", Drop;
    /// Nothing but NUL bytes, as some clients send to keep a pinhole open.
    Nuls, "nuls", Drop;
    /// Nothing but line ends, other than CRLFCRLF.
    LineEnds, "line_ends", Drop;
    /// STUN that cannot be read, or whose fingerprint is wrong.
    StunMalformed, "stun_malformed", Drop;
    /// STUN other than a binding request.
    StunNotRequest, "stun_not_request", Drop;
    /// No SIP message by its first line.
    NotSip, "not_sip", Drop;
    /// It claims to come from one of our listeners, or wants its responses sent to one: forged, for we never send there.
    ForgedSource, "forged_source", Drop;
    /// It arrived at a listener that the table does not know (any more).
    UnknownListener, "unknown_listener", Drop;
    /// A request waits for the name servers. Counted when it is given up: a copy of it waits already, too many others do, or no
    /// answer came in time.
    AwaitsName, "awaits_name", Drop;
    /// A faulty request without a Via that can be read: not even a refusal can be addressed.
    Unanswerable, "unanswerable", Drop;
    /// A faulty ACK. An ACK is never answered (RFC 3261 §17.1.1.3).
    MalformedAck, "malformed_ack", Drop;
    /// An ACK that is not well-formed, at a listener that validates and replies.
    InvalidAck, "invalid_ack", Drop;
    /// A call above a limit on calls per second that gets no answer: `limits.on_breach` says so, or its source keeps pushing.
    CpsBreachedSilently, "cps_breached_silently", Drop;
    /// An ACK where any other request would have got an error reply.
    AckNotRouted, "ack_not_routed", Drop;
    /// A faulty response. A response is never answered.
    MalformedResponse, "malformed_response", Drop;
    /// A response whose top Via is not ours.
    ResponseNotOurs, "response_not_ours", Drop;
    /// A response whose top Via carries our address, and a MAC that does not hold for where it would go.
    ResponseBadMac, "response_bad_mac", Drop;
    /// A response to a request of our own: nowhere to send it.
    ResponseNoSecondVia, "response_no_second_via", Drop;
    /// A response says more of the inside than can be hidden.
    ResponseTooMuchToHide, "response_too_much_to_hide", Drop;
    /// The changes did not fit; a bug.
    NoRoomForEdits, "no_room_for_edits", Drop;
    /// An ACK to a reply that a node of ours made itself.
    OwnReplyAcked, "own_reply_acked", Absorb;
}

impl Outcome {
    /// The outcome of a request that is refused for `fault`.
    pub const fn of_fault(fault: Fault) -> Self {
        match fault {
            Fault::RequestLine => Self::BadRequestLine,
            Fault::RequestUri => Self::BadRequestUri,
            Fault::Version => Self::VersionNotSupported,
            Fault::HeaderField => Self::BadHeaderField,
            Fault::BareCr => Self::BareCr,
            Fault::ControlCharacter => Self::ControlCharacter,
            Fault::NoEmptyLine => Self::NoEmptyLine,
            Fault::TooManyHeaderFields => Self::TooManyHeaderFields,
            Fault::MissingVia | Fault::Via => Self::Unanswerable,
            Fault::MissingFrom => Self::MissingFrom,
            Fault::MissingTo => Self::MissingTo,
            Fault::MissingCallId => Self::MissingCallId,
            Fault::MissingCseq => Self::MissingCseq,
            Fault::RepeatedHeaderField => Self::RepeatedHeaderField,
            Fault::From => Self::BadFrom,
            Fault::To => Self::BadTo,
            Fault::CallId => Self::BadCallId,
            Fault::Cseq => Self::BadCseq,
            Fault::CseqMethod => Self::CseqMethodMismatch,
            Fault::MaxForwards => Self::BadMaxForwards,
            Fault::Route => Self::BadRoute,
            Fault::ContentLength => Self::BadContentLength,
            Fault::BodyTooShort => Self::BodyTooShort,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn names_are_unique_and_fit_for_labels() {
        let names: HashSet<_> = Outcome::ALL.iter().map(|outcome| outcome.name()).collect();
        assert_eq!(names.len(), Outcome::ALL.len());
        for (number, outcome) in Outcome::ALL.iter().enumerate() {
            assert_eq!(*outcome as usize, number);
            let name = outcome.name();
            assert!(
                name.bytes()
                    .all(|byte| byte.is_ascii_lowercase() || byte == b'_'),
                "{name}"
            );
        }
    }
}
