//! A whole message, read in one scan.

use super::{
    Fault, HeaderField, Lines, Method, Name, NameAddr, Span, StartLine, Via,
    chars::{is_lws, is_token, parse_number, skip_lws, skip_while},
    start_line,
};

/// Most Route header fields that are looked at; [`Message::routes`] holds the first ones.
pub const MAX_ROUTE_FIELDS: usize = 4;

/// Most Contact header fields that are looked at; [`Message::contacts`] holds the first ones.
pub const MAX_CONTACT_FIELDS: usize = 4;

/// Most digits of Max-Forwards: more than leading zeros out of habit need.
pub const MAX_FORWARDS_DIGITS: usize = 8;

/// The datagram is no SIP message, or a response that cannot be read: nothing is owed to its sender.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NotSip;

/// Max-Forwards (RFC 3261 §20.22).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MaxForwards {
    /// The digits.
    pub digits: Span,
    /// Their value.
    pub value: u8,
}

/// URI and tag of From or To.
#[derive(Clone, Copy, Debug)]
struct End {
    uri: Span,
    tag: Option<Span>,
}

/// What routing needs of a message, and where it is. Spans refer to the datagram that was read.
///
/// When [`Message::fault`] is set, whatever could be read is here all the same, for use in a refusal.
#[derive(Clone, Debug)]
pub struct Message {
    /// Request line or status line.
    pub start_line: StartLine,
    /// Bytes of empty lines before the start line (RFC 3261 §7.5).
    pub leading: usize,
    /// Offset of the first header field.
    pub headers: usize,
    /// Number of header fields.
    pub fields: usize,
    /// Top Via.
    pub via: Option<Via>,
    /// Line of the top Via, with the others that may be joined to it.
    pub via_line: Span,
    /// The Via below the top one. In a request it is not read.
    pub next_via: Option<Via>,
    /// The first Route header fields, in order. Empty in a response.
    pub routes: [Option<HeaderField>; MAX_ROUTE_FIELDS],
    /// The first Contact header fields, in order. Their values are not read.
    pub contacts: [Option<HeaderField>; MAX_CONTACT_FIELDS],
    /// From.
    pub from: Option<HeaderField>,
    /// To.
    pub to: Option<HeaderField>,
    /// URI and tag of From; `None` when it cannot be read.
    from_value: Option<End>,
    /// URI and tag of To; `None` when it cannot be read.
    to_value: Option<End>,
    /// Call-ID, its value trimmed.
    pub call_id: Option<HeaderField>,
    /// CSeq.
    pub cseq: Option<HeaderField>,
    /// Number of CSeq; 0 when it cannot be read.
    cseq_number: u32,
    /// Max-Forwards of a request, when there is one.
    pub max_forwards: Option<MaxForwards>,
    /// A request names option tags that proxies have to know (Proxy-Require, RFC 3261 §20.29).
    pub proxy_require: bool,
    /// Content-Type.
    pub content_type: Option<HeaderField>,
    /// Content-Length; its value is digits when there is no fault.
    pub content_length: Option<HeaderField>,
    /// What follows the empty line, as far as Content-Length reaches (RFC 3261 §18.3); `None` when no empty line came.
    pub body: Option<Span>,
    /// The first thing found wrong.
    pub fault: Option<Fault>,
}

/// Reads a datagram in one forward scan.
///
/// # Errors
///
/// [`NotSip`] when there is no start line to tell a SIP message by. Any other fault is in [`Message::fault`].
pub fn read(bytes: &[u8]) -> Result<Message, NotSip> {
    let mut message = Message::EMPTY;
    read_into(bytes, &mut message)?;
    Ok(message)
}

/// Like [`read`], into [`Message::EMPTY`] on the stack of whoever looks at it: a message is large to move.
///
/// # Errors
///
/// As for [`read`]; the message is of no use then.
pub fn read_into(bytes: &[u8], message: &mut Message) -> Result<(), NotSip> {
    if bytes.len() > usize::from(u16::MAX) {
        return Err(NotSip);
    }
    message.leading = skip_while(bytes, 0, bytes.len(), |byte| matches!(byte, b'\r' | b'\n'));
    let mut lines = Lines::of_message(bytes, message.leading);
    let (content, strange) = lines.start_line();
    let (start_line, fault) = start_line::parse(bytes, message.leading, content)?;
    message.start_line = start_line;
    message.fault = fault.or(strange.then_some(Fault::RequestLine));
    message.headers = lines.position();
    let mut reader = Reader {
        bytes,
        is_request: matches!(start_line, StartLine::Request { .. }),
        message,
        max_forwards_seen: false,
        length: None,
        via_fields: 0,
        route_fields: 0,
        contact_fields: 0,
    };
    while let Some(line) = lines.next_line() {
        match line.and_then(|line| {
            let (name, after_colon) = line.name(bytes).ok_or(Fault::HeaderField)?;
            Ok((line, name, after_colon))
        }) {
            Ok((_, Name::Other, _)) => {}
            Ok((line, name, after_colon)) => reader.field(line.field(bytes, name, after_colon)),
            Err(fault) => reader.note(fault),
        }
    }
    reader.message.fields = lines.fields();
    reader.finish(lines.body());
    Ok(())
}

/// The scan in progress.
struct Reader<'a> {
    bytes: &'a [u8],
    is_request: bool,
    message: &'a mut Message,
    max_forwards_seen: bool,
    length: Option<u32>,
    via_fields: usize,
    route_fields: usize,
    contact_fields: usize,
}

impl Reader<'_> {
    /// Keeps the first fault.
    fn note(&mut self, fault: Fault) {
        self.message.fault.get_or_insert(fault);
    }

    #[inline(always)]
    fn field(&mut self, field: HeaderField) {
        match field.name {
            Name::Via => self.via(field),
            Name::ContentLength => self.content_length(field),
            Name::ContentType => {
                self.message.content_type.get_or_insert(field);
            }
            Name::Contact => {
                if let Some(slot) = self.message.contacts.get_mut(self.contact_fields) {
                    *slot = Some(field);
                    self.contact_fields += 1;
                }
            }
            Name::From | Name::To => self.end(field),
            Name::CallId => {
                if field.value.is_empty() {
                    self.note(Fault::CallId);
                }
                self.single(self.message.call_id.is_some());
                self.message.call_id.get_or_insert(field);
            }
            Name::Cseq => self.cseq(field),
            Name::Route if self.is_request => {
                if let Some(slot) = self.message.routes.get_mut(self.route_fields) {
                    *slot = Some(field);
                    self.route_fields += 1;
                }
            }
            Name::MaxForwards if self.is_request => self.max_forwards(field),
            Name::ProxyRequire if self.is_request => {
                self.message.proxy_require |= names_option(field.value.of(self.bytes));
            }
            Name::Other | Name::Route | Name::MaxForwards | Name::ProxyRequire => {}
        }
    }

    /// Notes a header field that must be single and was there before.
    fn single(&mut self, before: bool) {
        if before {
            self.note(Fault::RepeatedHeaderField);
        }
    }

    fn via(&mut self, field: HeaderField) {
        self.via_fields += 1;
        match self.via_fields {
            1 => {
                let Some(via) = Via::parse(self.bytes, field.value) else {
                    return self.note(Fault::Via);
                };
                self.message.via = Some(via);
                self.message.via_line = field.line;
                if let Some(next) = via.next {
                    self.next_via(Span::new(next, field.value.end()));
                }
            }
            2 => self.next_via(field.value),
            _ => {}
        }
    }

    /// Reads the Via below the top one, which only a response needs. An unreadable top Via has no next.
    fn next_via(&mut self, span: Span) {
        if self.is_request || self.message.via.is_none() || self.message.next_via.is_some() {
            return;
        }
        self.message.next_via = Via::parse(self.bytes, span);
        if self.message.next_via.is_none() {
            self.note(Fault::Via);
        }
    }

    /// From or To, an end of the dialog.
    #[inline(always)]
    fn end(&mut self, field: HeaderField) {
        let is_from = field.name == Name::From;
        let Message {
            from,
            from_value,
            to,
            to_value,
            ..
        } = &mut *self.message;
        let (line, end) = match is_from {
            true => (from, from_value),
            false => (to, to_value),
        };
        let is_repeated = line.is_some();
        let is_readable = match NameAddr::read_usual(self.bytes, field.value) {
            Some((uri, tag)) => {
                // Where it belongs at once: to move it there later would wait for the store buffer.
                if !is_repeated {
                    (*line, *end) = (Some(field), Some(End { uri, tag }));
                }
                true
            }
            None => read_unusual_end(self.bytes, field, line, end),
        };
        self.single(is_repeated);
        // A response is routed by its Vias alone: what its From and To look like is no business of ours.
        if !is_readable && self.is_request {
            self.note(if is_from { Fault::From } else { Fault::To });
        }
    }

    /// `number LWS method` (RFC 3261 §8.1.1.5: the number is below 2^31).
    fn cseq(&mut self, field: HeaderField) {
        self.single(self.message.cseq.is_some());
        let (start, end) = (field.value.start(), field.value.end());
        let digits_end = skip_while(self.bytes, start, end, |byte| byte.is_ascii_digit());
        let method_start = skip_lws(self.bytes, digits_end, end);
        let method = &self.bytes[method_start..end];
        let number = parse_number(&self.bytes[start..digits_end], i32::MAX as u32);
        let own_method = match self.message.start_line {
            StartLine::Request { name, .. } => Some(name.of(self.bytes)),
            StartLine::Response { .. } => None,
        };
        if number.is_none() || method_start == digits_end {
            self.note(Fault::Cseq);
        } else if own_method != Some(method) {
            // That of a request is a token if it is the same.
            if method.is_empty() || !method.iter().all(|byte| is_token(*byte)) {
                self.note(Fault::Cseq);
            } else if own_method.is_some() {
                self.note(Fault::CseqMethod);
            }
        }
        if self.message.cseq.is_none() {
            self.message.cseq = Some(field);
            self.message.cseq_number = number.unwrap_or(0);
        }
    }

    fn max_forwards(&mut self, field: HeaderField) {
        self.single(self.max_forwards_seen);
        self.max_forwards_seen = true;
        let digits = field.value;
        match parse_number(digits.of(self.bytes), u32::from(u8::MAX)) {
            Some(value) if digits.len() <= MAX_FORWARDS_DIGITS => {
                let value = value as u8;
                self.message
                    .max_forwards
                    .get_or_insert(MaxForwards { digits, value });
            }
            _ => self.note(Fault::MaxForwards),
        }
    }

    fn content_length(&mut self, field: HeaderField) {
        self.single(self.message.content_length.is_some());
        let length = parse_number(field.value.of(self.bytes), u32::MAX);
        if length.is_none() {
            self.note(Fault::ContentLength);
        }
        if self.message.content_length.is_none() {
            self.message.content_length = Some(field);
            self.length = length;
        }
    }

    /// What can only be said when all header fields were seen. `body` is the offset after the empty line.
    fn finish(mut self, body: Option<usize>) {
        match body {
            None => self.note(Fault::NoEmptyLine),
            Some(body) => {
                let there = self.bytes.len() - body;
                let length = self.length.map_or(there, |length| length as usize);
                if length > there {
                    self.note(Fault::BodyTooShort);
                }
                self.message.body = Some(Span::new(body, body + length.min(there)));
            }
        }
        for (missing, fault) in [
            (self.via_fields == 0, Fault::MissingVia),
            (self.message.from.is_none(), Fault::MissingFrom),
            (self.message.to.is_none(), Fault::MissingTo),
            (self.message.call_id.is_none(), Fault::MissingCallId),
            (self.message.cseq.is_none(), Fault::MissingCseq),
        ] {
            if missing {
                self.note(fault);
            }
        }
    }
}

/// Reads a From or To in whatever spelling. False when it cannot be read.
#[inline(never)]
fn read_unusual_end(
    bytes: &[u8],
    field: HeaderField,
    line: &mut Option<HeaderField>,
    end: &mut Option<End>,
) -> bool {
    let value = NameAddr::parse(bytes, field.value).filter(|value| value.next.is_none());
    let value = value.map(|value| End {
        uri: value.uri,
        tag: value.tag,
    });
    if line.is_none() {
        (*line, *end) = (Some(field), value);
    }
    value.is_some()
}

/// True when there is anything in a list of option tags.
#[cold]
fn names_option(list: &[u8]) -> bool {
    !list.iter().all(|byte| *byte == b',' || is_lws(*byte))
}

impl Message {
    /// Nothing read yet.
    pub const EMPTY: Self = Self {
        start_line: StartLine::Response { status: 0 },
        leading: 0,
        headers: 0,
        fields: 0,
        via: None,
        via_line: Span::EMPTY,
        next_via: None,
        routes: [None; MAX_ROUTE_FIELDS],
        contacts: [None; MAX_CONTACT_FIELDS],
        from: None,
        to: None,
        from_value: None,
        to_value: None,
        call_id: None,
        cseq: None,
        cseq_number: 0,
        max_forwards: None,
        proxy_require: false,
        content_type: None,
        content_length: None,
        body: None,
        fault: None,
    };

    /// True when [`read_into`] has found a SIP message.
    pub fn is_read(&self) -> bool {
        // There is a start line before.
        self.headers > 0
    }

    /// The method of a request.
    pub fn method(&self) -> Option<Method> {
        match self.start_line {
            StartLine::Request { method, .. } => Some(method),
            StartLine::Response { .. } => None,
        }
    }

    /// True for a response that ends its transaction (RFC 3261 §7.2).
    pub fn is_final_response(&self) -> bool {
        matches!(self.start_line, StartLine::Response { status } if status >= 200)
    }

    /// The To tag, when there is one. An empty one is none.
    pub fn to_tag(&self) -> Option<Span> {
        self.to_value?.tag.filter(|tag| !tag.is_empty())
    }

    /// The value of the `tag` parameter of To, which may be empty.
    pub(crate) fn to_tag_parameter(&self) -> Option<Span> {
        self.to_value?.tag
    }

    /// The From tag, when there is one. An empty one is none.
    pub fn from_tag(&self) -> Option<Span> {
        self.from_value?.tag.filter(|tag| !tag.is_empty())
    }

    /// The URI in From, without angle brackets.
    pub fn from_uri(&self) -> Option<Span> {
        Some(self.from_value?.uri)
    }

    /// The URI in To, without angle brackets.
    pub fn to_uri(&self) -> Option<Span> {
        Some(self.to_value?.uri)
    }

    /// The number in CSeq, below 2^31.
    pub fn cseq_number(&self) -> Option<u32> {
        self.cseq.map(|_| self.cseq_number)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const INVITE: &str = "INVITE sip:bob@example.com SIP/2.0\r\n\
        Via: SIP/2.0/UDP 192.0.2.1:5060;branch=z9hG4bKa;rport\r\n\
        Max-Forwards: 70\r\n\
        From: \"Alice\" <sip:alice@example.com>;tag=1\r\n\
        To: <sip:bob@example.com>\r\n\
        Call-ID:  a84b4c76e66710 \r\n\
        CSeq: 314159 INVITE\r\n\
        Contact: <sip:alice@192.0.2.1>\r\n\
        Content-Length: 4\r\n\
        \r\n\
        v=0\n";

    #[test]
    fn a_request_is_read() {
        let bytes = INVITE.as_bytes();
        let message = read(bytes).unwrap();
        assert_eq!(message.fault, None);
        assert_eq!(message.method(), Some(Method::Invite));
        assert_eq!(message.headers, INVITE.find("Via").unwrap());
        assert_eq!(message.fields, 8);
        assert_eq!(message.call_id.unwrap().value.of(bytes), b"a84b4c76e66710");
        assert_eq!(message.cseq_number().unwrap(), 314_159);
        assert_eq!(message.from_tag().unwrap().of(bytes), b"1");
        assert_eq!(message.to_tag(), None);
        assert_eq!(message.max_forwards.unwrap().value, 70);
        assert_eq!(message.via.unwrap().host.of(bytes), b"192.0.2.1");
        assert_eq!(
            message.via_line.of(bytes),
            b"Via: SIP/2.0/UDP 192.0.2.1:5060;branch=z9hG4bKa;rport\r\n"
        );
    }

    #[test]
    fn line_ends_and_empty_lines_in_front_do_not_matter() {
        for text in [INVITE.replace('\r', ""), format!("\r\n\n\r\n{INVITE}")] {
            let message = read(text.as_bytes()).unwrap();
            assert_eq!(message.fault, None, "{text}");
            assert_eq!(&text.as_bytes()[message.leading..][..6], b"INVITE");
        }
    }

    /// Replaces `from` by `to` in the INVITE above and states the fault.
    fn check(from: &str, to: &str, want: Option<Fault>) {
        assert!(INVITE.contains(from), "{from}");
        let text = INVITE.replacen(from, to, 1);
        assert_eq!(read(text.as_bytes()).unwrap().fault, want, "{text}");
    }

    #[test]
    fn faults() {
        check("SIP/2.0\r\n", "SIP/3.0\r\n", Some(Fault::Version));
        check(
            "sip:bob@example.com SIP",
            "<sip:bob@example.com> SIP",
            Some(Fault::RequestUri),
        );
        check("SIP/2.0\r\n", "SIP/2.0 \r\n", Some(Fault::RequestLine));
        check("Via: ", "X: ", Some(Fault::MissingVia));
        check("From: ", "X: ", Some(Fault::MissingFrom));
        check("To: ", "X: ", Some(Fault::MissingTo));
        check("Call-ID: ", "X: ", Some(Fault::MissingCallId));
        check("CSeq: ", "X: ", Some(Fault::MissingCseq));
        check("Max-Forwards: 70\r\n", "", None);
        check("Content-Length: 4\r\n", "", None);
        for name in [
            "From: <sip:x@y>",
            "f: <sip:x@y>",
            "To: <sip:x@y>",
            "i: x",
            "CSeq: 1 INVITE",
            "l: 4",
        ] {
            let twice = format!("Contact: x\r\n{name}\r\n");
            check(
                "Contact: <sip:alice@192.0.2.1>\r\n",
                &twice,
                Some(Fault::RepeatedHeaderField),
            );
        }
        check(
            "Max-Forwards: 70\r\n",
            "Max-Forwards: 70\r\nmax-forwards: 70\r\n",
            Some(Fault::RepeatedHeaderField),
        );
        check(":5060;", ":506o;", Some(Fault::Via));
        check(
            "<sip:alice@example.com>",
            "<sip:alice@example.com",
            Some(Fault::From),
        );
        check("\"Alice\"", "\"Alice", Some(Fault::From));
        check("<sip:bob@example.com>", "<>", Some(Fault::To));
        check(
            "<sip:bob@example.com>",
            "<sip:a@b>, <sip:c@d>",
            Some(Fault::To),
        );
        check(" a84b4c76e66710 ", "", Some(Fault::CallId));
        check("314159 INVITE", "314159", Some(Fault::Cseq));
        check("314159 INVITE", "INVITE", Some(Fault::Cseq));
        check("314159 INVITE", "2147483648 INVITE", Some(Fault::Cseq));
        check("314159 INVITE", "2147483647 INVITE", None);
        check("314159 INVITE", "314159INVITE", Some(Fault::Cseq));
        check("314159 INVITE", "314159 INVITE x", Some(Fault::Cseq));
        check("314159 INVITE", "314159 BYE", Some(Fault::CseqMethod));
        check("314159 INVITE", "314159 invite", Some(Fault::CseqMethod));
        check("314159 INVITE", "0009\r\n  INVITE", None);
        check("70", "255", None);
        check("70", "0068", None);
        check("70", "256", Some(Fault::MaxForwards));
        check("70", "", Some(Fault::MaxForwards));
        check("70", "-1", Some(Fault::MaxForwards));
        check("70", "000000070", Some(Fault::MaxForwards));
        check("Length: 4", "Length: 5", Some(Fault::BodyTooShort));
        check("Length: 4", "Length: 3", None);
        check("Length: 4", "Length: -999", Some(Fault::ContentLength));
        check(
            "Length: 4",
            "Length: 99999999999999999999",
            Some(Fault::ContentLength),
        );
        check("Contact: ", "Contact ", Some(Fault::HeaderField));
        check("Contact: ", "Contact:\r", Some(Fault::BareCr));
        check("Contact: ", "S: \x1f\r\nm: ", Some(Fault::ControlCharacter));
        check("Contact: ", "S: \x7f\r\nm: ", None);
        check("\r\n\r\nv=0\n", "\r\n", Some(Fault::NoEmptyLine));
        check(
            "Contact: ",
            &"a: b\r\n".repeat(256),
            Some(Fault::TooManyHeaderFields),
        );
    }

    #[test]
    fn what_proxies_have_to_know() {
        for (lines, want) in [
            ("", false),
            ("Proxy-Require: a\r\n", true),
            ("PROXY-REQUIRE :a, b\r\n", true),
            ("Proxy-Require:\r\n , a\r\n", true),
            ("Proxy-Require:\r\nProxy-Require: a\r\n", true),
            ("Proxy-Require: ,\r\n ,\r\n", false),
            ("Require: a\r\nProxy-Required: a\r\n", false),
        ] {
            let text = INVITE.replace("Contact:", &format!("{lines}Contact:"));
            let message = read(text.as_bytes()).unwrap();
            assert_eq!(
                (message.proxy_require, message.fault),
                (want, None),
                "{text}"
            );
        }
        let response = INVITE
            .replace("INVITE sip:bob@example.com SIP/2.0", "SIP/2.0 200 OK")
            .replace("Contact:", "Proxy-Require: a\r\nContact:");
        assert!(!read(response.as_bytes()).unwrap().proxy_require);
    }

    #[test]
    fn the_first_fault_counts_and_the_rest_is_still_read() {
        let text = INVITE.replace("SIP/2.0\r\n", "SIP/3.0\r\nbroken\r\n");
        let message = read(text.as_bytes()).unwrap();
        assert_eq!(message.fault, Some(Fault::Version));
        assert!(message.via.is_some() && message.cseq.is_some());
    }

    #[test]
    fn vias_of_a_response() {
        let head = "SIP/2.0 200 OK\r\n";
        for (vias, want, fault) in [
            (
                "Via: SIP/2.0/UDP a\r\nVia: SIP/2.0/UDP b\r\nVia: x\r\n",
                Some("b"),
                None,
            ),
            (
                "Via: SIP/2.0/UDP a, SIP/2.0/UDP b\r\nVia: SIP/2.0/UDP c\r\n",
                Some("b"),
                None,
            ),
            ("v:SIP/2.0/UDP a,\r\n SIP/2.0/UDP b, x\r\n", Some("b"), None),
            ("Via: SIP/2.0/UDP a\r\n", None, None),
            ("Via: SIP/2.0/UDP a\r\nVia: x\r\n", None, Some(Fault::Via)),
            ("Via: x\r\nVia: SIP/2.0/UDP b\r\n", None, Some(Fault::Via)),
            ("", None, Some(Fault::MissingVia)),
        ] {
            let text =
                format!("{head}X: y\r\n{vias}From: broken\r\nTo: x\r\ni: y\r\nCSeq: 1 A\r\n\r\n");
            let message = read(text.as_bytes()).unwrap();
            let host = message.next_via.map(|via| via.host.of(text.as_bytes()));
            assert_eq!(host, want.map(str::as_bytes), "{text}");
            assert_eq!(message.fault, fault, "{text}");
        }
    }

    #[test]
    fn a_response_needs_what_every_message_has() {
        let text =
            "SIP/2.0 200 OK\r\nv: SIP/2.0/UDP a\r\nf: x\r\nt: x\r\ni: x\r\nCSeq: 1 A\r\n\r\n";
        for (from, to, want) in [
            ("", "", None),
            ("f: x\r\n", "", Some(Fault::MissingFrom)),
            ("t: x\r\n", "", Some(Fault::MissingTo)),
            ("i: x\r\n", "", Some(Fault::MissingCallId)),
            ("CSeq: 1 A\r\n", "", Some(Fault::MissingCseq)),
            ("1 A", "2147483648 A", Some(Fault::Cseq)),
            ("1 A", "1 ", Some(Fault::Cseq)),
            ("1 A", "1 B", None),
        ] {
            let text = text.replacen(from, to, 1);
            assert_eq!(read(text.as_bytes()).unwrap().fault, want, "{text}");
        }
    }

    #[test]
    fn the_body_ends_where_content_length_says() {
        for (header, body, want) in [
            ("Content-Length: 3", "abc", Some("abc")),
            ("Content-Length: 2", "abc", Some("ab")),
            ("Content-Length: 0", "abc", Some("")),
            ("X: y", "abc", Some("abc")),
            ("l: 3", "abc", Some("abc")),
        ] {
            let text = INVITE
                .replace("Content-Length: 4", header)
                .replace("v=0\n", body);
            let message = read(text.as_bytes()).unwrap();
            let got = message.body.map(|body| body.of(text.as_bytes()));
            assert_eq!(got, want.map(str::as_bytes), "{text}");
        }
        let (head, _) = INVITE.split_once("\r\n\r\n").unwrap();
        assert_eq!(read(head.as_bytes()).unwrap().body, None);
    }

    #[test]
    fn what_is_not_sip() {
        for text in [
            "",
            "\r\n",
            "hello",
            "GET / HTTP/1.0\r\n\r\n",
            "SIP/2.0 20x OK\r\n\r\n",
            "\0\0\0\0",
        ] {
            assert_eq!(read(text.as_bytes()).err(), Some(NotSip), "{text:?}");
        }
        assert_eq!(read(&vec![b'a'; 70_000]).err(), Some(NotSip));
    }

    #[test]
    fn a_message_that_was_read_says_so() {
        let mut message = Message::EMPTY;
        assert!(!message.is_read());
        assert_eq!(read_into(b"\r\nhello", &mut message), Err(NotSip));
        assert!(!message.is_read());
        let mut message = Message::EMPTY;
        read_into(b"OPTIONS sip:a SIP/2.0", &mut message).unwrap();
        assert!(message.is_read());
    }

    #[test]
    fn every_truncation_is_read_or_refused() {
        for length in 0..INVITE.len() {
            if let Ok(message) = read(&INVITE.as_bytes()[..length]) {
                assert!(message.fault.is_some(), "{length}");
            }
        }
    }
}
