//! The second scan over a request.

use super::{
    Check, Checks,
    addresses::{Address, Addresses, is_route, is_uri},
    cursor::{is_token, is_u32},
    fields::Kind,
    reason::Reason,
    sdp,
    uri::{self, UriFault},
    values,
};
use crate::sip::{HeaderField, Lines, Message, Method, Span, StartLine, Via};

/// Most header fields named [`super::MARK`] that are taken out of a request from outside.
pub const MAX_MARKS: usize = 4;

/// What [`scan`] found.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Findings {
    /// The first thing that is not as it should be: the Request-URI, then header fields in their order, then what is
    /// missing, then the body.
    pub reason: Option<Reason>,
    /// Lines of header fields named [`super::MARK`] that somebody else put in.
    pub marks: [Option<Span>; MAX_MARKS],
}

/// Looks at a request that [`crate::sip::read`] found no fault in. Of a response nothing is found.
pub fn scan(bytes: &[u8], message: &Message, checks: Checks) -> Findings {
    let StartLine::Request { method, name, uri } = message.start_line else {
        return Findings::default();
    };
    let mut scan = Scan {
        bytes,
        message,
        method,
        method_name: name.of(bytes),
        checks,
        findings: Findings::default(),
        marks: 0,
        seen: 0,
        contacts: 0,
        star: false,
        expires_is_zero: false,
        identities: [Identities::default(); 2],
    };
    scan.request_uri(uri);
    for field in Lines::new(bytes, message.headers).flatten() {
        scan.field(field);
    }
    scan.finish();
    scan.findings
}

struct Scan<'a> {
    bytes: &'a [u8],
    message: &'a Message,
    method: Method,
    method_name: &'a [u8],
    checks: Checks,
    findings: Findings,
    marks: usize,
    /// [`Kind::single_bit`]s of the header fields so far.
    seen: u64,
    contacts: usize,
    /// True for `Contact: *`.
    star: bool,
    expires_is_zero: bool,
    /// Of P-Asserted-Identity and P-Preferred-Identity.
    identities: [Identities; 2],
}

/// The URIs of one kind of identity.
#[derive(Clone, Copy, Default)]
struct Identities {
    sip: usize,
    tel: usize,
}

impl Scan<'_> {
    /// Keeps the first reason of those that are looked for.
    fn note(&mut self, reason: Reason) {
        if reason.check().is_none_or(|check| self.checks.has(check)) {
            self.findings.reason.get_or_insert(reason);
        }
    }

    fn note_unless(&mut self, right: bool, reason: Reason) {
        if !right {
            self.note(reason);
        }
    }

    fn request_uri(&mut self, span: Span) {
        if !self.checks.has(Check::RequestUri) {
            return;
        }
        match uri::check(span.of(self.bytes)) {
            Ok(()) => {}
            Err(UriFault::Syntax) => self.note(Reason::InvalidRequestUri),
            Err(UriFault::User) => self.note(Reason::InvalidRequestUriUser),
            Err(UriFault::Host) => self.note(Reason::InvalidRequestUriHost),
            Err(UriFault::Headers) => self.note(Reason::RequestUriWithHeaders),
        }
    }

    fn field(&mut self, field: HeaderField) {
        let line = field.line.of(self.bytes);
        let name_len = line.iter().position(|byte| !is_token(*byte)).unwrap_or(0);
        let kind = Kind::of(&line[..name_len]);
        match kind {
            Kind::Mark => self.mark(field.line),
            // Nothing more to be found but marks.
            _ if self.findings.reason.is_some() => {}
            Kind::From => self.party(
                Check::From,
                field.value,
                [
                    Reason::InvalidFromUri,
                    Reason::InvalidFromUser,
                    Reason::InvalidFromHost,
                ],
            ),
            Kind::To => self.party(
                Check::To,
                field.value,
                [
                    Reason::InvalidToUri,
                    Reason::InvalidToUser,
                    Reason::InvalidToHost,
                ],
            ),
            Kind::Contact => self.contact(field.value),
            _ => self.other(kind, field),
        }
    }

    fn mark(&mut self, line: Span) {
        match self.findings.marks.get_mut(self.marks) {
            Some(slot) => *slot = Some(line),
            // Whatever else is wrong: this one is refused in either mode.
            None => self.findings.reason = Some(Reason::ForgedMark),
        }
        self.marks += 1;
    }

    /// From and To, whose value the parser could read.
    fn party(&mut self, check: Check, value: Span, [uri, user, host]: [Reason; 3]) {
        let Some(Some(address)) = Addresses::of(self.bytes, value).next() else {
            return self.note(uri);
        };
        if self.checks.has(check) {
            match uri::check(address.uri) {
                Ok(()) => {}
                Err(UriFault::Syntax | UriFault::Headers) => self.note(uri),
                Err(UriFault::User) => self.note(user),
                Err(UriFault::Host) => self.note(host),
            }
        }
        self.form(&address);
    }

    fn form(&mut self, address: &Address<'_>) {
        if self.checks.has(Check::Headers)
            && let Some(reason) = address.form()
        {
            self.note(reason);
        }
    }

    fn contact(&mut self, value: Span) {
        if value.of(self.bytes) == b"*" {
            self.star = true;
            self.contacts += 1;
            return;
        }
        for address in Addresses::of(self.bytes, value) {
            self.contacts += 1;
            let Some(address) = address else {
                return self.note(Reason::InvalidContact);
            };
            if self.checks.has(Check::Contact) {
                self.note_unless(is_uri(&address), Reason::InvalidContactUri);
                self.note_unless(
                    address.has_contact_parameters(),
                    Reason::InvalidContactParameter,
                );
            }
            self.form(&address);
        }
    }

    /// Header fields that only the check `headers` looks at; Expires has a say about `Contact: *` as well.
    fn other(&mut self, kind: Kind, field: HeaderField) {
        let value = field.value.of(self.bytes);
        if kind == Kind::Expires {
            self.expires_is_zero = is_u32(value) && value.iter().all(|digit| *digit == b'0');
        }
        if !self.checks.has(Check::Headers) {
            return;
        }
        let bit = kind.single_bit();
        self.note_unless(self.seen & bit == 0, Reason::DuplicateHeaderField);
        self.seen |= bit;
        if kind == Kind::Path {
            self.note_unless(self.method == Method::Register, Reason::PathOutsideRegister);
        }
        let (right, reason) = match kind {
            Kind::Via => (self.are_vias(field.value), Reason::InvalidVia),
            Kind::AssertedIdentity => (self.identity(0, field.value), Reason::InvalidIdentity),
            Kind::PreferredIdentity => (self.identity(1, field.value), Reason::InvalidIdentity),
            _ => match self
                .addresses(kind, field.value)
                .or_else(|| grammar(kind, value))
            {
                Some(found) => found,
                None => return,
            },
        };
        self.note_unless(right, reason);
    }

    /// All values; the top one was read before, and once more does no harm. Routing takes any version for SIP's.
    fn are_vias(&self, value: Span) -> bool {
        let mut rest = Some(value);
        while let Some(span) = rest {
            let Some(via) = Via::parse(self.bytes, span) else {
                return false;
            };
            if values::via_protocol(via.value.of(self.bytes)).is_none() {
                return false;
            }
            rest = via.next.map(|next| Span::new(next, value.end()));
        }
        true
    }

    /// One SIP or TEL URI or one of each, in one header field or two (RFC 3325 §9).
    fn identity(&mut self, which: usize, value: Span) -> bool {
        let seen = &mut self.identities[which];
        for address in Addresses::of(self.bytes, value) {
            match address {
                Some(address) if !is_uri(&address) => return false,
                Some(address) if uri::is_sip(address.uri) => seen.sip += 1,
                Some(address) if uri::is_tel(address.uri) => seen.tel += 1,
                _ => return false,
            }
        }
        seen.sip <= 1 && seen.tel <= 1
    }

    /// Header fields with URIs: whether the value is right, and the reason if not.
    fn addresses(&self, kind: Kind, value: Span) -> Option<(bool, Reason)> {
        let routes = || Addresses::all(self.bytes, value, is_route);
        let uris = || Addresses::all(self.bytes, value, is_uri);
        let uri = || Addresses::of(self.bytes, value).count() == 1 && uris();
        Some(match kind {
            Kind::Route => (routes(), Reason::InvalidRoute),
            Kind::RecordRoute => (routes(), Reason::InvalidRecordRoute),
            Kind::Path => (routes(), Reason::InvalidPath),
            Kind::ReferTo => (uri(), Reason::InvalidReferTo),
            Kind::ReferredBy => (uri(), Reason::InvalidReferredBy),
            Kind::ReplyTo => (uri(), Reason::InvalidReplyTo),
            Kind::RemotePartyId => (uris(), Reason::InvalidRemotePartyId),
            Kind::Diversion => (uris(), Reason::InvalidDiversion),
            _ => return None,
        })
    }

    /// What can only be said when all header fields were seen.
    fn finish(&mut self) {
        if self.star {
            let right =
                self.method == Method::Register && self.expires_is_zero && self.contacts == 1;
            self.note_unless(right, Reason::InvalidStarContact);
        }
        // A REGISTER without Contact asks for the bindings (RFC 3261 §10.2.3).
        let needs_contact = matches!(
            self.method,
            Method::Invite | Method::Subscribe | Method::Refer
        ) || self.method_name == b"UPDATE";
        if needs_contact && self.contacts == 0 {
            self.note(Reason::MissingContact);
        }
        if self.message.max_forwards.is_none() {
            self.note(Reason::MissingMaxForwards);
        }
        self.body();
    }

    fn body(&mut self) {
        let Some(body) = self.message.body else {
            return;
        };
        let is_cancel = self.method == Method::Cancel;
        if !is_cancel && body.end() != self.bytes.len() {
            self.note(Reason::ContentLengthDiffers);
        }
        let Some(content_type) = self.message.content_type else {
            if !is_cancel && !body.is_empty() {
                self.note(Reason::MissingContentType);
            }
            return;
        };
        if self.checks.has(Check::Sdp)
            && self.findings.reason.is_none()
            && !body.is_empty()
            && values::is_sdp(content_type.value.of(self.bytes))
            && let Err(reason) = sdp::check(body.of(self.bytes))
        {
            self.note(reason);
        }
    }
}

/// Header fields without URIs: whether the value is right, and the reason if not; `None` for one that is not looked at.
fn grammar(kind: Kind, value: &[u8]) -> Option<(bool, Reason)> {
    let (read, reason) = match kind {
        Kind::CallId => (values::call_id(value), Reason::InvalidCallId),
        Kind::ContentType => (values::content_type(value), Reason::InvalidContentType),
        Kind::ContentDisposition => (
            values::content_disposition(value),
            Reason::InvalidContentDisposition,
        ),
        Kind::Expires | Kind::MinExpires => (values::expires(value), Reason::InvalidExpires),
        Kind::SessionExpires | Kind::MinSe => {
            (values::session_timer(value), Reason::InvalidSessionTimer)
        }
        Kind::Date => (values::date(value), Reason::InvalidDate),
        Kind::Timestamp => (values::timestamp(value), Reason::InvalidTimestamp),
        Kind::Supported => (values::tokens(value, true), Reason::InvalidOptionTags),
        Kind::Require | Kind::ProxyRequire | Kind::Unsupported => {
            (values::tokens(value, false), Reason::InvalidOptionTags)
        }
        Kind::Allow => (values::tokens(value, true), Reason::InvalidAllow),
        Kind::Accept => (values::accept(value), Reason::InvalidAccept),
        Kind::AcceptEncoding | Kind::AcceptLanguage => {
            (values::tokens_with_parameters(value), Reason::InvalidAccept)
        }
        Kind::Event => (values::event(value), Reason::InvalidEvent),
        Kind::AllowEvents => (values::tokens_with_parameters(value), Reason::InvalidEvent),
        Kind::Privacy => (values::privacy(value), Reason::InvalidPrivacy),
        Kind::CallInfo => (values::call_info(value), Reason::InvalidCallInfo),
        Kind::Authorization => (values::authorization(value), Reason::InvalidAuthorization),
        Kind::UserAgent | Kind::Priority | Kind::RetryAfter => {
            let read = (!value.is_empty()).then_some(());
            (read, Reason::EmptyHeaderField)
        }
        _ => return None,
    };
    Some((read.is_some(), reason))
}
