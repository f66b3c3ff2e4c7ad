//! Header fields by what may become of them.

use lb_userspace::sip::{self, HeaderField, Name, NameAddr, Uri};

#[derive(Default)]
pub struct Fields<'a> {
    /// These are as they came, in their order.
    pub kept: Vec<&'a [u8]>,
    /// Values of Call-ID.
    pub call_ids: Vec<&'a [u8]>,
    /// Value of each header field.
    pub record_routes: Vec<&'a [u8]>,
    pub paths: Vec<&'a [u8]>,
    pub supported: Vec<&'a [u8]>,
    pub contacts: Vec<&'a [u8]>,
    pub expires: Vec<&'a [u8]>,
    pub vias: Vec<&'a [u8]>,
    /// Those named X-Validate-Fail.
    pub marks: Vec<&'a [u8]>,
    /// Those named as a configuration tells a client's address.
    pub told: Vec<&'a [u8]>,
}

impl<'a> Fields<'a> {
    pub fn of(bytes: &'a [u8]) -> Self {
        let mut sorted = Self::default();
        for field in fields(bytes) {
            let line = field.line.of(bytes);
            match field.name {
                Name::MaxForwards | Name::Route | Name::ContentLength => {}
                Name::Via => sorted.vias.push(line),
                Name::Contact => sorted.contacts.push(line),
                Name::CallId => sorted.call_ids.push(field.value.of(bytes)),
                // A blank before the number keeps a response's length even.
                Name::Cseq => sorted.kept.push(field.value.of(bytes)),
                _ if is_named(line, b"record-route") => {
                    sorted.record_routes.push(field.value.of(bytes));
                }
                _ if is_named(line, b"path") => sorted.paths.push(line),
                _ if is_named(line, b"supported") || is_named(line, b"k") => {
                    sorted.supported.push(line);
                }
                _ if is_named(line, b"expires") => sorted.expires.push(line),
                _ if is_named(line, b"x-validate-fail") => sorted.marks.push(line),
                _ if is_of_client(line) => sorted.told.push(line),
                _ => sorted.kept.push(line),
            }
        }
        sorted
    }
}

pub fn fields(bytes: &[u8]) -> impl Iterator<Item = HeaderField> {
    let headers = sip::read(bytes).map_or(bytes.len(), |message| message.headers);
    sip::Lines::new(bytes, headers).flatten()
}

/// A value of a list of addresses, by itself.
pub struct Value {
    /// A header field that begins with it.
    pub bytes: Vec<u8>,
    pub name_addr: NameAddr,
    pub uri: Option<Uri>,
}

impl Value {
    pub fn text(&self) -> &[u8] {
        self.name_addr.value.of(&self.bytes)
    }

    pub fn uri_text(&self) -> &[u8] {
        self.name_addr.uri.of(&self.bytes)
    }
}

/// The values of all header fields that `is_wanted`, as far as each can be read.
pub fn values(bytes: &[u8], is_wanted: impl Fn(&HeaderField) -> bool) -> Vec<Value> {
    let mut all = Vec::new();
    for field in fields(bytes).filter(is_wanted) {
        let mut rest = Some(field.value.of(bytes).to_vec());
        while let Some(text) = rest.take() {
            let line = [b"m:", &text[..], b"\r\n"].concat();
            let own = sip::Lines::new(&line, 0).flatten().next();
            let value = own.and_then(|own| NameAddr::parse(&line, own.value));
            let Some(name_addr) = value else {
                break;
            };
            rest = name_addr
                .next
                .map(|next| line[next..line.len() - 2].to_vec());
            all.push(Value {
                uri: Uri::parse(&line, name_addr.uri),
                name_addr,
                bytes: line,
            });
        }
    }
    all
}

/// The names that one of the configurations uses.
fn is_of_client(line: &[u8]) -> bool {
    let mut parts = line.split(|byte| matches!(byte, b':' | b' ' | b'\t' | b'\r' | b'\n'));
    let name = parts.next().unwrap_or_default();
    [&b"X-Orig-IP"[..], b"X-Ports"]
        .iter()
        .any(|told| told.eq_ignore_ascii_case(name))
}

pub fn is_named(line: &[u8], name: &[u8]) -> bool {
    let after = line.get(name.len());
    line.len() > name.len()
        && line[..name.len()].eq_ignore_ascii_case(name)
        && matches!(after, Some(b':' | b' ' | b'\t'))
}

/// A parameter of a URI, whose host and port end at `start`; its value.
pub fn uri_parameter<'a>(
    bytes: &'a [u8],
    start: usize,
    end: usize,
    name: &str,
) -> Option<&'a [u8]> {
    let text = bytes[start..end].split(|byte| *byte == b'?').next()?;
    let mut parts = text.split(|byte| *byte == b';').skip(1);
    parts.find_map(|part| {
        let mut halves = part.splitn(2, |byte| *byte == b'=');
        let found = halves.next()?;
        found
            .eq_ignore_ascii_case(name.as_bytes())
            .then(|| halves.next().unwrap_or_default())
    })
}
