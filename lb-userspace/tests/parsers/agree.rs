//! Whether the two parsers read a datagram the same.

use lb_userspace::sip::{
    self, HeaderField, Lines, MAX_CONTACT_FIELDS, MAX_ROUTE_FIELDS, NameAddr, Parameter, Span,
    StartLine, Uri, Via,
};

use super::slow::{self, Facts, Text};

/// Reads a datagram with both parsers.
///
/// # Panics
///
/// When they differ, or when a place that the fast one names is not in the datagram.
pub fn check(datagram: &[u8]) {
    let (message, facts) = match (sip::read(datagram), slow::read(datagram)) {
        (Err(_), None) => return,
        (Ok(message), Some(facts)) => (message, facts),
        (message, facts) => panic!(
            "is it SIP? {:?} {:?}\n{}",
            message.map(|message| message.start_line),
            facts.map(|facts| facts.start_line),
            datagram.escape_ascii()
        ),
    };
    let check = Check { datagram };
    check.faults(message.fault, &facts);
    check.start_line(message.start_line, &facts.start_line);
    check.same("leading", message.leading, facts.leading);
    check.same("headers", message.headers, facts.headers);
    check.via("top Via", message.via, facts.via.as_ref());
    check.fields(
        "Route",
        &message.routes,
        &facts.routes[..facts.routes.len().min(MAX_ROUTE_FIELDS)],
    );
    check.fields(
        "Contact",
        &message.contacts,
        &facts.contacts[..facts.contacts.len().min(MAX_CONTACT_FIELDS)],
    );
    for field in message.routes.iter().chain(&message.contacts).flatten() {
        check.name_addrs(*field);
    }
    check.field("From", message.from, facts.from.as_ref().map(|from| from.0));
    check.field("To", message.to, facts.to.as_ref().map(|to| to.0));
    check.field("Call-ID", message.call_id, facts.call_id);
    check.field("CSeq", message.cseq, facts.cseq);
    check.same("Proxy-Require", message.proxy_require, facts.proxy_require);
    check.field("Content-Type", message.content_type, facts.content_type);
    check.field(
        "Content-Length",
        message.content_length,
        facts.content_length,
    );
    let from = facts.from.as_ref().and_then(|from| from.1.as_ref());
    let to = facts.to.as_ref().and_then(|to| to.1.as_ref());
    check.span("From URI", message.from_uri(), from.map(|value| value.uri));
    check.span("To URI", message.to_uri(), to.map(|value| value.uri));
    // An empty tag is none.
    check.span("From tag", message.from_tag(), from.and_then(tag_of));
    check.span("To tag", message.to_tag(), to.and_then(tag_of));
    for uri in [message.from_uri(), message.to_uri()].into_iter().flatten() {
        check.uri(uri);
    }
    if let StartLine::Request { uri, .. } = message.start_line {
        check.uri(uri);
    }
    if message.fault.is_none() {
        check.sound(&message, &facts);
    }
}

fn tag_of<'a>(value: &slow::NameAddr<'a>) -> Option<Text<'a>> {
    value.tag.filter(|tag| !tag.bytes.is_empty())
}

/// A datagram that is looked at.
struct Check<'a> {
    datagram: &'a [u8],
}

impl Check<'_> {
    #[track_caller]
    fn same<T: PartialEq + std::fmt::Debug>(&self, what: &str, fast: T, slow: T) {
        assert!(
            fast == slow,
            "{what}: {fast:?}, slow {slow:?}\n{}",
            self.datagram.escape_ascii()
        );
    }

    /// Place and bytes.
    #[track_caller]
    fn span(&self, what: &str, fast: Option<Span>, slow: Option<Text<'_>>) {
        let fast = fast.map(|span| self.place(span));
        self.same(what, fast, slow.map(|text| (text.at, text.bytes)));
    }

    #[track_caller]
    fn place(&self, span: Span) -> (usize, &[u8]) {
        assert!(
            span.start() <= span.end() && span.end() <= self.datagram.len(),
            "{span:?} is not in the datagram"
        );
        (span.start(), span.of(self.datagram))
    }

    /// What the fast parser blames is the first thing wrong, or one of several that are wrong at the same place.
    fn faults(&self, fast: Option<sip::Fault>, facts: &Facts<'_>) {
        let agreed = match fast {
            Some(fault) => facts.faults.contains(&fault),
            None => facts.faults.is_empty(),
        };
        assert!(
            agreed,
            "fault: {fast:?}, slow {:?}\n{}",
            facts.faults,
            self.datagram.escape_ascii()
        );
    }

    fn start_line(&self, fast: StartLine, slow: &slow::StartLine<'_>) {
        match (fast, slow) {
            (
                StartLine::Request { name, uri, .. },
                slow::StartLine::Request {
                    method,
                    uri: slow_uri,
                },
            ) => {
                self.span("method", Some(name), Some(*method));
                self.value("Request-URI", Some(Some(uri)), Some(Some(*slow_uri)));
            }
            (StartLine::Response { status }, slow::StartLine::Response { status: slow }) => {
                self.same("status", status, *slow);
            }
            (fast, slow) => panic!("{fast:?}, slow {slow:?}\n{}", self.datagram.escape_ascii()),
        }
    }

    /// What only a message without fault has to say the same of.
    fn sound(&self, message: &sip::Message, facts: &Facts<'_>) {
        self.via("next Via", message.next_via, facts.next_via.as_ref());
        self.span("Via field", Some(message.via_line), facts.via_line);
        self.same("CSeq number", message.cseq_number(), facts.cseq_number);
        let hops = message.max_forwards;
        self.span(
            "Max-Forwards",
            hops.map(|hops| hops.digits),
            facts.max_forwards,
        );
        self.same("hops", hops.map(|hops| hops.value), facts.hops);
        self.span("body", message.body, facts.body);
    }

    fn field(&self, what: &str, fast: Option<HeaderField>, slow: Option<Text<'_>>) {
        if let Some(field) = fast {
            let (line, _) = self.place(field.line);
            let (value, _) = self.place(field.value);
            assert!(
                line <= value && field.value.end() <= field.line.end(),
                "{what}: {field:?}"
            );
        }
        // Where a value of no bytes stands says nothing.
        match slow {
            Some(slow) if slow.bytes.is_empty() => {
                self.same(what, fast.map(|field| field.value.len()), Some(0));
            }
            slow => self.span(what, fast.map(|field| field.value), slow),
        }
    }

    fn fields(&self, what: &str, fast: &[Option<HeaderField>], slow: &[Text<'_>]) {
        for (index, fast) in fast.iter().enumerate() {
            self.field(what, *fast, slow.get(index).copied());
        }
    }

    fn via(&self, what: &str, fast: Option<Via>, slow: Option<&slow::Via<'_>>) {
        let (Some(fast), Some(slow)) = (fast, slow) else {
            return self.same(what, fast.is_some(), slow.is_some());
        };
        self.place(fast.value);
        self.span("sent-by", Some(fast.host), Some(slow.host));
        self.same("port of sent-by", fast.port, slow.port);
        self.same("end of sent-by", fast.sent_by_end, slow.sent_by_end);
        self.value("branch", Some(fast.branch), Some(slow.branch));
        self.value("lbm", Some(fast.mac), Some(slow.mac));
        let value = |parameter: Option<Parameter>| parameter.map(|parameter| parameter.value);
        self.value("received", value(fast.received), slow.received);
        self.value("rport", value(fast.rport), slow.rport);
        self.same("next Via of the list", fast.next, slow.next);
    }

    /// A parameter: not there, there without value, or with one. Where an empty value stands says nothing.
    fn value(&self, what: &str, fast: Option<Option<Span>>, slow: Option<Option<Text<'_>>>) {
        match slow {
            Some(Some(slow)) if slow.bytes.is_empty() => {
                self.same(what, fast.flatten().map(Span::len), Some(0));
            }
            slow => {
                self.same(what, fast.is_some(), slow.is_some());
                self.span(what, fast.flatten(), slow.flatten());
            }
        }
    }

    fn uri(&self, span: Span) {
        let (at, bytes) = self.place(span);
        let slow = slow::uri(Text { at, bytes });
        let fast = Uri::parse(self.datagram, span);
        let (Some(fast), Some(slow)) = (fast, &slow) else {
            return self.same("URI", fast.is_some(), slow.is_some());
        };
        self.same("sips", fast.secure, slow.secure);
        self.value("user", fast.user.map(Some), slow.user.map(Some));
        self.span("host", Some(fast.host), Some(slow.host));
        self.same("port", fast.port, slow.port);
    }

    /// The values of a list, up to the first that cannot be read. Not all of a long list: that takes the square of time.
    fn name_addrs(&self, field: HeaderField) {
        let (at, bytes) = self.place(field.value);
        let mut rest = Some(at);
        for _ in 0..16 {
            let Some(start) = rest else { return };
            // The rest of the list as a field of its own: spans come from reading only. It may be none, when what came
            // before decides whether a quoted string is open here and so whether a control character may be.
            let text = [b"m:", &bytes[start - at..]].concat();
            let Some(Ok(field)) = Lines::new(&text, 0).next() else {
                return;
            };
            let fast = NameAddr::parse(&text, field.value);
            let slow = slow::name_addr(Text {
                at: 2,
                bytes: &text[2..],
            });
            let inner = Check { datagram: &text };
            inner.span(
                "URI",
                fast.map(|fast| fast.uri),
                slow.as_ref().map(|slow| slow.uri),
            );
            inner.value(
                "tag",
                Some(fast.and_then(|fast| fast.tag)),
                Some(slow.as_ref().and_then(|slow| slow.tag)),
            );
            let next = fast.and_then(|fast| fast.next);
            inner.same("next value", next, slow.and_then(|slow| slow.next));
            if let Some(fast) = fast {
                inner.uri(fast.uri);
            }
            rest = next.map(|next| start + next - 2);
        }
    }
}
