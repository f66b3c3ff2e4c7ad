//! A second reader of SIP messages: slow, plain, and made from nothing that the product has.

use std::net::{IpAddr, SocketAddr};

/// A message cut into pieces; put together again they are the message.
pub struct Slow<'a> {
    /// Line ends before the start line.
    pub leading: &'a [u8],
    /// With its line end.
    pub start_line: &'a [u8],
    pub fields: Vec<Field<'a>>,
    /// From the empty line on, that line included.
    pub rest: &'a [u8],
}

/// A header field.
pub struct Field<'a> {
    /// In small letters, long form.
    pub name: String,
    /// On one line, without blanks at its ends.
    pub value: Vec<u8>,
    /// All of it, with folded lines and line ends.
    pub raw: &'a [u8],
}

/// Sent-by and parameters of a Via value.
pub struct SlowVia {
    pub host: String,
    pub port: Option<String>,
    pub parameters: Vec<(String, Option<String>)>,
}

pub fn read(bytes: &[u8]) -> Slow<'_> {
    let leading = bytes
        .iter()
        .take_while(|byte| **byte == b'\r' || **byte == b'\n')
        .count();
    let (leading, message) = bytes.split_at(leading);
    let mut lines = Vec::new();
    let mut head_len = 0;
    for line in message.split_inclusive(|byte| *byte == b'\n') {
        if line == b"\r\n" || line == b"\n" {
            break;
        }
        lines.push((head_len, line));
        head_len += line.len();
    }
    let mut fields = Vec::new();
    let mut index = 1;
    while index < lines.len() {
        let (start, first) = lines[index];
        let mut end = start + first.len();
        index += 1;
        while index < lines.len() && matches!(lines[index].1[0], b' ' | b'\t') {
            end += lines[index].1.len();
            index += 1;
        }
        fields.push(Field::read(&message[start..end]));
    }
    Slow {
        leading,
        start_line: lines.first().map_or(&[][..], |(_, line)| line),
        fields,
        rest: &message[head_len..],
    }
}

impl<'a> Field<'a> {
    fn read(raw: &'a [u8]) -> Self {
        let colon = raw.iter().position(|byte| *byte == b':');
        let (name, value) = match colon {
            Some(colon) => (&raw[..colon], &raw[colon + 1..]),
            None => (&[][..], raw),
        };
        Self {
            name: long_name(&String::from_utf8_lossy(name)),
            value: on_one_line(value),
            raw,
        }
    }
}

impl<'a> Slow<'a> {
    pub fn named(&self, name: &str) -> impl Iterator<Item = &Field<'a>> {
        self.fields.iter().filter(move |field| field.name == name)
    }

    /// Where the first Route leads, else the Request-URI (RFC 3261 §16.6), when that is written there in numbers.
    pub fn next_hop(&self) -> Option<SocketAddr> {
        let route = self.named("route").next();
        let uri = match route {
            Some(route) => {
                let value = String::from_utf8_lossy(first_of_list(&route.value)).into_owned();
                let open = value.rfind('<')?;
                value[open + 1..].split('>').next()?.to_owned()
            }
            None => {
                let line = String::from_utf8_lossy(self.start_line).into_owned();
                line.split(' ').nth(1)?.to_owned()
            }
        };
        let (scheme, rest) = uri.split_once(':')?;
        if !scheme.eq_ignore_ascii_case("sip") {
            return None;
        }
        let rest = rest.split_once('@').map_or(rest, |(_, rest)| rest);
        let rest = rest.split('?').next()?;
        let mut parts = rest.split(';');
        let host_port = parts.next()?;
        let (host, port) = match host_port.rsplit_once(':') {
            Some((host, port)) if !port.contains(']') => (host, port),
            _ => (host_port, "5060"),
        };
        let maddr = parts.find_map(|part| {
            let (name, value) = part.split_once('=')?;
            name.eq_ignore_ascii_case("maddr").then_some(value)
        });
        let host = maddr.unwrap_or(host).trim_matches(['[', ']']);
        Some(SocketAddr::new(host.parse().ok()?, port.parse().ok()?))
    }

    /// The first Via value, as it stands.
    pub fn top_via(&self) -> Option<&'a [u8]> {
        let raw = self.named("via").next()?.raw;
        let colon = raw.iter().position(|byte| *byte == b':')?;
        Some(first_of_list(&raw[colon + 1..]).trim_ascii())
    }
}

fn long_name(name: &str) -> String {
    let name = name.trim().to_ascii_lowercase();
    let long = match name.as_str() {
        "v" => "via",
        "f" => "from",
        "t" => "to",
        "i" => "call-id",
        "m" => "contact",
        "l" => "content-length",
        "c" => "content-type",
        "s" => "subject",
        "k" => "supported",
        "e" => "content-encoding",
        other => other,
    };
    long.to_owned()
}

/// Runs of blanks and folds become one space, those at the ends nothing.
pub fn on_one_line(value: &[u8]) -> Vec<u8> {
    let mut line = Vec::new();
    for word in value.split(|byte| matches!(byte, b' ' | b'\t' | b'\r' | b'\n')) {
        if !word.is_empty() {
            if !line.is_empty() {
                line.push(b' ');
            }
            line.extend(word);
        }
    }
    line
}

/// Up to the first comma outside quotes and angle brackets.
pub fn first_of_list(value: &[u8]) -> &[u8] {
    let (mut quoted, mut escaped, mut bracket) = (false, false, false);
    for (index, byte) in value.iter().enumerate() {
        if escaped {
            escaped = false;
            continue;
        }
        match byte {
            b'\\' if quoted => escaped = true,
            b'"' => quoted = !quoted,
            b'<' if !quoted => bracket = true,
            b'>' if !quoted => bracket = false,
            b',' if !quoted && !bracket => return &value[..index],
            _ => {}
        }
    }
    value
}

impl SlowVia {
    /// Reads the first value of a Via header field.
    pub fn read(value: &[u8]) -> Self {
        let line = on_one_line(first_of_list(value));
        let line = String::from_utf8_lossy(&line).into_owned();
        let mut parts = split_outside_quotes(&line, ';').into_iter();
        let protocol_and_sent_by = parts.next().unwrap_or_default();
        let sent_by = protocol_and_sent_by
            .replace(" :", ":")
            .replace(": ", ":")
            .split_whitespace()
            .last()
            .unwrap_or_default()
            .to_owned();
        let (host, port) = match sent_by.rsplit_once(':') {
            Some((host, port)) if !port.contains(']') => (host.to_owned(), Some(port.to_owned())),
            _ => (sent_by, None),
        };
        let parameters = parts.map(|part| match part.split_once('=') {
            Some((name, value)) => (small(name), Some(value.trim().to_owned())),
            None => (small(&part), None),
        });
        Self {
            host: host.trim_matches(['[', ']']).to_owned(),
            port,
            parameters: parameters.collect(),
        }
    }

    pub fn parameter(&self, name: &str) -> Option<&str> {
        let found = self.parameters.iter().find(|(other, _)| other == name)?;
        found.1.as_deref()
    }

    /// Where a response goes (RFC 3261 §18.2.2, RFC 3581 §4), when that is written there in numbers.
    pub fn response_target(&self) -> Option<SocketAddr> {
        let host = self.parameter("received").unwrap_or(&self.host);
        let host: IpAddr = host.trim_matches(['[', ']']).parse().ok()?;
        let port = match (self.parameter("rport"), &self.port) {
            (Some(port), _) if !port.is_empty() => port,
            (_, Some(port)) => port,
            (_, None) => "5060",
        };
        Some(SocketAddr::new(host, port.parse().ok()?))
    }
}

fn small(name: &str) -> String {
    name.trim().to_ascii_lowercase()
}

fn split_outside_quotes(text: &str, at: char) -> Vec<String> {
    let mut parts = vec![String::new()];
    let (mut quoted, mut escaped) = (false, false);
    for letter in text.chars() {
        if letter == at && !quoted {
            parts.push(String::new());
            continue;
        }
        match letter {
            _ if escaped => escaped = false,
            '\\' if quoted => escaped = true,
            '"' => quoted = !quoted,
            _ => {}
        }
        parts.last_mut().expect("a part").push(letter);
    }
    parts
}
