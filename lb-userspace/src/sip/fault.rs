//! What can be wrong with a message.

/// The first thing that is wrong with a message. Each makes a request impossible to forward.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Fault {
    /// The request line is not `method SP Request-URI SP SIP-Version` (RFC 3261 §7.1).
    RequestLine,
    /// The Request-URI is empty or has characters that no URI has.
    RequestUri,
    /// Another version than SIP/2.0: the one fault that is answered with 505.
    Version,
    /// A header line without a name or without a colon.
    HeaderField,
    /// A CR that does not belong to a line end. Readers disagree on it, so it could smuggle a header field past us.
    BareCr,
    /// A control character outside a quoted pair (RFC 3261 §25.1). Readers written in C end a value at a NUL. DEL is none
    /// here: nobody takes it for an end, and it lies apart from the others, so to search for it would take a second look.
    ControlCharacter,
    /// The datagram ends before the empty line that ends the header fields.
    NoEmptyLine,
    /// More than [`super::MAX_HEADER_FIELDS`] header fields.
    TooManyHeaderFields,
    /// No Via: not even a refusal can be addressed.
    MissingVia,
    /// No From.
    MissingFrom,
    /// No To.
    MissingTo,
    /// No Call-ID.
    MissingCallId,
    /// No CSeq.
    MissingCseq,
    /// More than one of a header field that must be single.
    RepeatedHeaderField,
    /// The top Via cannot be read, or has one of its parameters twice.
    Via,
    /// From has no URI, an open quote or bracket, or two tags.
    From,
    /// To has no URI, an open quote or bracket, or two tags.
    To,
    /// Call-ID is empty.
    CallId,
    /// CSeq is not a number below 2^31 and a method.
    Cseq,
    /// The method in CSeq is not that of the request line.
    CseqMethod,
    /// Max-Forwards is not a number up to 255.
    MaxForwards,
    /// Route cannot be read.
    Route,
    /// Content-Length is not a number.
    ContentLength,
    /// Content-Length is larger than the rest of the datagram (RFC 3261 §18.3).
    BodyTooShort,
}

impl Fault {
    /// The reason phrase of the refusal (RFC 3261 §21.4.1: it should name the problem).
    pub fn reason(self) -> &'static str {
        match self {
            Self::RequestLine => "Malformed request line",
            Self::RequestUri => "Malformed Request-URI",
            Self::Version => "SIP Version Not Supported",
            Self::HeaderField => "Malformed header field",
            Self::BareCr => "Bare CR in a header field",
            Self::ControlCharacter => "Control character in a header field",
            Self::NoEmptyLine => "No empty line after the header fields",
            Self::TooManyHeaderFields => "Too many header fields",
            Self::MissingVia => "Missing Via header field",
            Self::MissingFrom => "Missing From header field",
            Self::MissingTo => "Missing To header field",
            Self::MissingCallId => "Missing Call-ID header field",
            Self::MissingCseq => "Missing CSeq header field",
            Self::RepeatedHeaderField => "Repeated single header field",
            Self::Via => "Malformed Via header field",
            Self::From => "Malformed From header field",
            Self::To => "Malformed To header field",
            Self::CallId => "Malformed Call-ID header field",
            Self::Cseq => "Malformed CSeq header field",
            Self::CseqMethod => "CSeq method differs from the request",
            Self::MaxForwards => "Malformed Max-Forwards header field",
            Self::Route => "Malformed Route header field",
            Self::ContentLength => "Malformed Content-Length header field",
            Self::BodyTooShort => "Content-Length exceeds the datagram",
        }
    }
}
