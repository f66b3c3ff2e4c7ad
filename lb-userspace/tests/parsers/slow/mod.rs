//! A second parser, for comparison with the one that carries traffic: the grammar of RFC 3261 §25.1 written down without
//! a thought for speed. It cuts a message into lines, a value at its commas, an element at its semicolons, and looks at
//! what is left; where the other one scans forward, this one looks at the same bytes many times. The two share no code.
//!
//! It is as lenient as the other one has to be with what is in the field, and says so at each place.

mod start_line;
mod text;
mod values;

use lb_userspace::sip::{Fault, MAX_FORWARDS_DIGITS, MAX_HEADER_FIELDS};

pub use start_line::StartLine;
pub use text::Text;
pub use values::{NameAddr, Via, name_addr, uri, via};

use text::{first_line, is_blank, is_line_end, is_lws, is_token, without_line_end};
use values::number;

/// What a message says, when it is one.
#[derive(Debug)]
pub struct Facts<'a> {
    pub start_line: StartLine<'a>,
    /// Offset of the start line.
    pub leading: usize,
    /// Offset of the first header field.
    pub headers: usize,
    /// Everything that is wrong with the first thing that is wrong: the start line, a header field, or the message as a
    /// whole. Empty when it can be forwarded.
    pub faults: Vec<Fault>,
    /// Values of the first and the second Via, when they can be read.
    pub via: Option<Via<'a>>,
    pub next_via: Option<Via<'a>>,
    /// The header field that the top Via stands in, with its line end.
    pub via_line: Option<Text<'a>>,
    pub routes: Vec<Text<'a>>,
    pub contacts: Vec<Text<'a>>,
    /// As a whole, and as read.
    pub from: Option<(Text<'a>, Option<NameAddr<'a>>)>,
    pub to: Option<(Text<'a>, Option<NameAddr<'a>>)>,
    pub call_id: Option<Text<'a>>,
    pub cseq: Option<Text<'a>>,
    pub cseq_number: Option<u32>,
    pub max_forwards: Option<Text<'a>>,
    pub hops: Option<u8>,
    /// There is something between the commas of a Proxy-Require.
    pub proxy_require: bool,
    pub content_type: Option<Text<'a>>,
    pub content_length: Option<Text<'a>>,
    /// As far as Content-Length reaches.
    pub body: Option<Text<'a>>,
}

/// Reads a datagram; `None` when it is no SIP message, or a response whose first line cannot be read.
pub fn read(datagram: &[u8]) -> Option<Facts<'_>> {
    if datagram.len() > 65_535 {
        return None;
    }
    let all = Text {
        at: 0,
        bytes: datagram,
    };
    // RFC 3261 §7.5: empty lines in front do not matter.
    let leading = datagram
        .iter()
        .position(|byte| !is_line_end(*byte))
        .unwrap_or(datagram.len());
    let (line, mut rest) = first_line(all.from(leading));
    let (start_line, faults) = start_line::read(line)?;
    let mut facts = Facts {
        start_line,
        leading,
        headers: rest.at,
        faults,
        via: None,
        next_via: None,
        via_line: None,
        routes: Vec::new(),
        contacts: Vec::new(),
        from: None,
        to: None,
        call_id: None,
        cseq: None,
        cseq_number: None,
        max_forwards: None,
        hops: None,
        proxy_require: false,
        content_type: None,
        content_length: None,
        body: None,
    };
    let mut body = None;
    let mut vias = Vec::new();
    for number in 0.. {
        if rest.bytes.is_empty() {
            break;
        }
        let (line, after) = first_line(rest);
        if line.bytes.is_empty() {
            body = Some(after);
            break;
        }
        if number == MAX_HEADER_FIELDS {
            facts.blame(vec![Fault::TooManyHeaderFields]);
            break;
        }
        // RFC 3261 §7.3.1: a line that begins with a blank goes on with the field before it.
        let mut end = after;
        while end.bytes.first().is_some_and(|byte| is_blank(*byte)) {
            end = first_line(end).1;
        }
        let field = rest.until(end.at);
        let faults = facts.header_field(field, &mut vias);
        facts.blame(faults);
        rest = end;
    }
    facts.finish(body, &vias);
    Some(facts)
}

impl<'a> Facts<'a> {
    /// Keeps the first faults.
    fn blame(&mut self, faults: Vec<Fault>) {
        if self.faults.is_empty() {
            self.faults = faults;
        }
    }

    fn is_request(&self) -> bool {
        matches!(self.start_line, StartLine::Request { .. })
    }

    /// Reads one header field with its continuation lines, and says what is wrong with it.
    fn header_field(&mut self, field: Text<'a>, vias: &mut Vec<Text<'a>>) -> Vec<Fault> {
        let content = without_line_end(field);
        let mut faults = control_characters(content);
        if !faults.is_empty() {
            return faults;
        }
        let Some((name, value)) = content.split_once(b':') else {
            faults.push(Fault::HeaderField);
            return faults;
        };
        let name = name.trimmed_end(is_blank);
        if name.bytes.is_empty() || !name.bytes.iter().all(|byte| is_token(*byte)) {
            faults.push(Fault::HeaderField);
            return faults;
        }
        let value = value.trimmed();
        let name = name.bytes.to_ascii_lowercase();
        match name.as_slice() {
            b"via" | b"v" => self.via(field, value, vias, &mut faults),
            b"from" | b"f" => self.address(Fault::From, value, &mut faults),
            b"to" | b"t" => self.address(Fault::To, value, &mut faults),
            b"call-id" | b"i" => {
                if value.bytes.is_empty() {
                    faults.push(Fault::CallId);
                }
                keep_single(&mut self.call_id, value, &mut faults);
            }
            b"cseq" => self.cseq(value, &mut faults),
            b"max-forwards" if self.is_request() => self.max_forwards(value, &mut faults),
            b"content-length" | b"l" => {
                if number(value, u64::from(u32::MAX)).is_none() {
                    faults.push(Fault::ContentLength);
                }
                keep_single(&mut self.content_length, value, &mut faults);
            }
            b"content-type" | b"c" => {
                self.content_type.get_or_insert(value);
            }
            b"proxy-require" if self.is_request() => {
                let mut tags = value.bytes.split(|byte| *byte == b',');
                self.proxy_require |= tags.any(|tag| tag.iter().any(|byte| !is_lws(*byte)));
            }
            b"route" if self.is_request() => self.routes.push(value),
            b"contact" | b"m" => self.contacts.push(value),
            _ => {}
        }
        faults
    }

    /// From or To. Those of a response may say what they like: it is routed by its Vias.
    fn address(&mut self, which: Fault, value: Text<'a>, faults: &mut Vec<Fault>) {
        let is_request = self.is_request();
        let slot = match which {
            Fault::From => &mut self.from,
            _ => &mut self.to,
        };
        if slot.is_some() {
            return faults.push(Fault::RepeatedHeaderField);
        }
        let read = name_addr(value).filter(|value| value.next.is_none());
        if read.is_none() && is_request {
            faults.push(which);
        }
        *slot = Some((value, read));
    }

    fn cseq(&mut self, value: Text<'a>, faults: &mut Vec<Fault>) {
        let read = cseq(value);
        match (read, &self.start_line) {
            (None, _) => faults.push(Fault::Cseq),
            (Some((_, method)), StartLine::Request { method: wanted, .. })
                if method.bytes != wanted.bytes =>
            {
                faults.push(Fault::CseqMethod);
            }
            _ => {}
        }
        if self.cseq.is_none() {
            self.cseq_number = read.map(|(number, _)| number);
        }
        keep_single(&mut self.cseq, value, faults);
    }

    fn max_forwards(&mut self, value: Text<'a>, faults: &mut Vec<Fault>) {
        match number(value, 255).filter(|_| value.bytes.len() <= MAX_FORWARDS_DIGITS) {
            Some(hops) => self.hops = Some(hops as u8),
            None => faults.push(Fault::MaxForwards),
        }
        keep_single(&mut self.max_forwards, value, faults);
    }

    /// The first Via field, and for a response the value that follows its first one.
    fn via(
        &mut self,
        field: Text<'a>,
        value: Text<'a>,
        vias: &mut Vec<Text<'a>>,
        faults: &mut Vec<Fault>,
    ) {
        vias.push(value);
        let is_request = self.is_request();
        if vias.len() == 1 {
            self.via = via(value);
            self.via_line = self.via.is_some().then_some(field);
            let Some(top) = &self.via else {
                faults.push(Fault::Via);
                return;
            };
            if let Some(next) = top.next
                && !is_request
            {
                self.next_via = via(value.from(next - value.at));
                if self.next_via.is_none() {
                    faults.push(Fault::Via);
                }
            }
        } else if vias.len() == 2
            && !is_request
            && self.via.as_ref().is_some_and(|top| top.next.is_none())
        {
            self.next_via = via(value);
            if self.next_via.is_none() {
                faults.push(Fault::Via);
            }
        }
    }

    /// What can only be said of the whole message.
    fn finish(&mut self, body: Option<Text<'a>>, vias: &[Text<'a>]) {
        let mut faults = Vec::new();
        match body {
            None => faults.push(Fault::NoEmptyLine),
            Some(body) => {
                // RFC 3261 §18.3: what comes after Content-Length octets does not belong to the message.
                let length = self
                    .content_length
                    .and_then(|value| number(value, u64::from(u32::MAX)))
                    .map_or(body.bytes.len(), |length| length as usize);
                if length > body.bytes.len() {
                    faults.push(Fault::BodyTooShort);
                }
                let length = length.min(body.bytes.len());
                self.body = Some(body.until(body.at + length));
            }
        }
        for (missing, fault) in [
            (vias.is_empty(), Fault::MissingVia),
            (self.from.is_none(), Fault::MissingFrom),
            (self.to.is_none(), Fault::MissingTo),
            (self.call_id.is_none(), Fault::MissingCallId),
            (self.cseq.is_none(), Fault::MissingCseq),
        ] {
            if missing {
                faults.push(fault);
            }
        }
        self.blame(faults);
    }
}

/// Keeps the first one.
fn keep_single<'a>(slot: &mut Option<Text<'a>>, value: Text<'a>, faults: &mut Vec<Fault>) {
    match slot {
        Some(_) => faults.push(Fault::RepeatedHeaderField),
        None => *slot = Some(value),
    }
}

/// `1*DIGIT LWS Method`.
fn cseq(value: Text<'_>) -> Option<(u32, Text<'_>)> {
    let blank = value.bytes.iter().position(|byte| is_lws(*byte))?;
    // RFC 3261 §8.1.1.5: below 2^31.
    let number = number(value.until(value.at + blank), (1 << 31) - 1)?;
    let method = value.from(blank).trimmed();
    let is_method = !method.bytes.is_empty() && method.bytes.iter().all(|byte| is_token(*byte));
    is_method.then_some((number as u32, method))
}

/// What is wrong with the bytes of a line, whatever it says: control characters, but for tabs, the line ends of folds and
/// what stands behind a backslash in a quoted string.
fn control_characters(line: Text<'_>) -> Vec<Fault> {
    let mut faults = Vec::new();
    let mut quoted = false;
    let mut index = 0;
    while let Some(byte) = line.bytes.get(index) {
        let next = line.bytes.get(index + 1);
        match byte {
            b'\r' if next != Some(&b'\n') => faults.push(Fault::BareCr),
            b'\r' | b'\n' | b'\t' => {}
            0..=31 => faults.push(Fault::ControlCharacter),
            b'"' => quoted = !quoted,
            b'\\' if quoted && !matches!(next, None | Some(b'\r' | b'\n')) => index += 1,
            _ => {}
        }
        index += 1;
    }
    faults
}
