//! The parsers.

use crate::{Facts, Input, Lengths, Peer, Sink, Timed};

/// A reader with and without keeping what it finds.
macro_rules! peer {
    ($name:literal, $read:ident, $values:literal) => {
        Peer {
            name: $name,
            check: |input| {
                let mut facts = Facts::default();
                $read(input, &mut facts)?;
                Some(facts)
            },
            run: |input| $read(input, &mut Timed).is_some(),
            reads_values: $values,
        }
    };
}

/// Ours first: what it finds is what the others must find.
pub const ALL: [Peer; 7] = [
    peer!("siplb", siplb, true),
    peer!("ezk-sip-types", ezk, true),
    peer!("parsip", parsip, false),
    peer!("rsip", rsip, true),
    peer!("rsipstack", rsipstack, true),
    peer!("rvoip-sip-core", rvoip, true),
    peer!("sip-core", sip_core, true),
];

/// One scan that checks each header field which a proxy reads; nothing is copied.
fn siplb(input: &Input, sink: &mut impl Sink) -> Option<()> {
    use lb_userspace::sip::{self, NameAddr, Span};

    let bytes = &input.bytes[..];
    let message = sip::read(bytes).ok()?;
    if message.fault.is_some() {
        return None;
    }
    let len = |span: Option<Span>| span.map_or(0, |span| span.of(bytes).len());
    let lengths = Lengths(
        len(message.via?.branch),
        len(message.from_tag()),
        len(message.to_tag()),
    );
    let contact = message.contacts.iter().flatten().next();
    let contact = contact.and_then(|field| NameAddr::parse(bytes, field.value));
    let call_id = std::str::from_utf8(message.call_id?.value.of(bytes)).ok()?;
    let max_forwards = message.max_forwards.map(|hops| u32::from(hops.value));
    sink.facts(
        call_id,
        lengths,
        message.cseq_number()?,
        max_forwards,
        contact.is_some(),
    );
    Some(())
}

/// Pulls lines, keeps them by name, reads a value when asked; strings are slices of the shared buffer.
fn ezk(input: &Input, sink: &mut impl Sink) -> Option<()> {
    use ezk_sip_types::{
        Headers, Name,
        header::typed::{CSeq, CallID, Contact, FromTo, MaxForwards, Via},
        msg::{Line, MessageLine, PullParser},
        parse::Parse,
    };

    let bytes = &input.bytes;
    let mut lines = PullParser::new(bytes, 0);
    let first = std::str::from_utf8(lines.next()?.ok()?).ok()?;
    std::hint::black_box(MessageLine::parse(bytes)(first).ok()?);
    let mut headers = Headers::with_capacity(16);
    for line in lines {
        let (_, line) = Line::parse(bytes, std::str::from_utf8(line.ok()?).ok()?).ok()?;
        headers.insert(line.name, line.value);
    }
    let via = headers.get_named::<Via>().ok()?;
    let from = headers.get::<FromTo>(Name::FROM).ok()?;
    let to = headers.get::<FromTo>(Name::TO).ok()?;
    let call_id = headers.get_named::<CallID>().ok()?;
    let cseq = headers.get_named::<CSeq>().ok()?;
    let max_forwards = headers.get_named::<MaxForwards>().ok();
    let contact = headers.get_named::<Contact>().is_ok();
    let lengths = Lengths(
        via.params.get_val("branch")?.len(),
        from.tag.as_ref().map_or(0, |tag| tag.len()),
        to.tag.as_ref().map_or(0, |tag| tag.len()),
    );
    let max_forwards = max_forwards.map(|hops| u32::from(hops.0));
    sink.facts(&call_id.0, lengths, cseq.cseq, max_forwards, contact);
    Some(())
}

/// Header lines as borrowed slices into an array of the caller's, and no more: it has no readers of values.
fn parsip(input: &Input, sink: &mut impl Sink) -> Option<()> {
    use parsip::{EMPTY_HEADER, IResult, Request, Response};

    let mut headers = [EMPTY_HEADER; 64];
    let headers = if input.bytes.starts_with(b"SIP/") {
        let mut response = Response::new(&mut headers);
        let IResult::Done(..) = response.parse(&input.bytes) else {
            return None;
        };
        response.headers
    } else {
        let mut request = Request::new(&mut headers);
        let IResult::Done(..) = request.parse(&input.bytes) else {
            return None;
        };
        request.headers
    };
    let call_id = headers
        .iter()
        .find(|header| header.name.eq_ignore_ascii_case("Call-ID"))?;
    let call_id = std::str::from_utf8(call_id.value).ok()?;
    sink.facts(call_id, Lengths(0, 0, 0), 0, None, false);
    Some(())
}

/// Header lines as owned strings; a value is read when asked for.
fn rsip(input: &Input, sink: &mut impl Sink) -> Option<()> {
    use rsip::{
        SipMessage,
        headers::{ToTypedHeader, UntypedHeader},
        message::HeadersExt,
    };

    let message = SipMessage::try_from(&input.bytes[..]).ok()?;
    let via = message.via_header().ok()?.typed().ok()?;
    let from = message.from_header().ok()?.typed().ok()?;
    let to = message.to_header().ok()?.typed().ok()?;
    let cseq = message.cseq_header().ok()?.seq().ok()?;
    let contact = message
        .contact_header()
        .ok()
        .and_then(|contact| contact.typed().ok());
    let max_forwards = message
        .max_forwards_header()
        .ok()
        .and_then(|hops| hops.num().ok());
    let lengths = Lengths(
        via.branch()?.value().len(),
        from.tag().map_or(0, |tag| tag.value().len()),
        to.tag().map_or(0, |tag| tag.value().len()),
    );
    sink.facts(
        message.call_id_header().ok()?.value(),
        lengths,
        cseq,
        max_forwards,
        contact.is_some(),
    );
    Some(())
}

/// As `rsip`, from which it comes, with a line reader of its own.
fn rsipstack(input: &Input, sink: &mut impl Sink) -> Option<()> {
    use rsipstack::sip::{HeadersExt, SipMessage, prelude::ToTypedHeader};

    let message = SipMessage::try_from(&input.bytes[..]).ok()?;
    let via = message.via_header().ok()?.typed().ok()?;
    let from = message.from_header().ok()?.typed().ok()?;
    let to = message.to_header().ok()?.typed().ok()?;
    let cseq = message.cseq_header().ok()?.seq().ok()?;
    let contact = message
        .contact_header()
        .ok()
        .and_then(|contact| contact.typed().ok());
    let max_forwards = message
        .max_forwards_header()
        .ok()
        .and_then(|hops| hops.value().parse().ok());
    let lengths = Lengths(
        via.branch()?.value().len(),
        from.tag().map_or(0, |tag| tag.value().len()),
        to.tag().map_or(0, |tag| tag.value().len()),
    );
    sink.facts(
        message.call_id_header().ok()?.value(),
        lengths,
        cseq,
        max_forwards,
        contact.is_some(),
    );
    Some(())
}

/// Reads every header field and its value at once.
fn rvoip(input: &Input, sink: &mut impl Sink) -> Option<()> {
    use rvoip_sip_core::types::{contact::Contact, cseq::CSeq, max_forwards::MaxForwards};

    let message = rvoip_sip_core::parse_message(&input.bytes).ok()?;
    let via = message.first_via()?;
    let lengths = Lengths(
        via.branch()?.len(),
        message.from()?.tag().map_or(0, str::len),
        message.to()?.tag().map_or(0, str::len),
    );
    let cseq = message.typed_header::<CSeq>()?.sequence();
    let max_forwards = message
        .typed_header::<MaxForwards>()
        .map(|hops| u32::from(hops.0));
    let contact = message
        .typed_header::<Contact>()
        .is_some_and(|contact| contact.address().is_some());
    sink.facts(
        message.call_id()?.as_str(),
        lengths,
        cseq,
        max_forwards,
        contact,
    );
    Some(())
}

/// Header lines as owned strings; helpers look into a value as text. Folded lines are left out.
fn sip_core(input: &Input, sink: &mut impl Sink) -> Option<()> {
    use sip_core::{
        header::{HeaderName, extract_tag, extract_uri},
        message::SipMessage,
    };

    let message = SipMessage::parse(&input.text).ok()?;
    let value = |name: &HeaderName| message.headers().get(name).map(|value| value.as_str());
    let via = value(&HeaderName::Via)?;
    // There is no reader of Via: a user takes the parameter as text.
    let branch = via
        .split(';')
        .find_map(|parameter| parameter.trim().strip_prefix("branch="))?;
    let tag = |name| value(name).and_then(extract_tag).map_or(0, |tag| tag.len());
    let lengths = Lengths(branch.len(), tag(&HeaderName::From), tag(&HeaderName::To));
    let contact = value(&HeaderName::Contact).and_then(extract_uri).is_some();
    let max_forwards = value(&HeaderName::MaxForwards).and_then(|hops| hops.parse().ok());
    let (cseq, _) = message.cseq()?;
    sink.facts(&message.call_id()?, lengths, cseq, max_forwards, contact);
    Some(())
}
