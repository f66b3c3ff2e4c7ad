//! What the fixes for far-end NAT may change in a request, looked at with plain text.

use std::net::SocketAddr;

use super::slow::{Field, first_of_list};

/// The fixes that are on.
#[derive(Clone, Copy, Default)]
pub struct Fixes {
    pub rport: bool,
    pub contact: bool,
    pub alias: bool,
    pub sdp: bool,
}

/// Says what is wrong with a Contact header field: with `contact`, the host and port of every `sip:` and `sips:` URI are
/// the source and `maddr` is gone; with `alias`, such a URI has a mark behind host and port unless it is the source.
pub fn contact(
    was: &Field<'_>,
    is: &Field<'_>,
    source: SocketAddr,
    fixes: Fixes,
) -> Result<(), String> {
    let (mut before, mut after) = (value_of(was.raw), value_of(is.raw));
    let names = [(was.raw, before), (is.raw, after)];
    let [was_name, is_name] = names.map(|(raw, value)| &raw[..raw.len() - value.len()]);
    if was_name != is_name {
        return Err("the name of Contact changed".into());
    }
    loop {
        let (first, second) = (first_of_list(before), first_of_list(after));
        let (first_text, second_text) = (text(first), text(second));
        let wanted = match (Uri::find(&first_text), fixes) {
            (None, _) => first_text.clone(),
            (Some(uri), Fixes { contact: true, .. }) => uri.moved_to(source),
            (Some(uri), Fixes { alias: true, .. }) => uri.marked(source, &second_text),
            _ => first_text.clone(),
        };
        if second_text != wanted {
            return Err(format!(
                "Contact {first_text:?} became {second_text:?}, not {wanted:?}"
            ));
        }
        match (before.get(first.len()), after.get(second.len())) {
            (None, None) => return Ok(()),
            (Some(b','), Some(b',')) => {}
            _ => return Err("Contact has lost or gained a value".into()),
        }
        before = &before[first.len() + 1..];
        after = &after[second.len() + 1..];
    }
}

fn value_of(raw: &[u8]) -> &[u8] {
    let colon = raw.iter().position(|byte| *byte == b':');
    colon.map_or(raw, |colon| &raw[colon + 1..])
}

fn text(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| char::from(*byte)).collect()
}

fn outside_quotes(text: &str, wanted: char) -> Option<usize> {
    let (mut quoted, mut escaped) = (false, false);
    for (at, letter) in text.char_indices() {
        match letter {
            _ if escaped => escaped = false,
            '\\' if quoted => escaped = true,
            '"' => quoted = !quoted,
            _ if letter == wanted && !quoted => return Some(at),
            _ => {}
        }
    }
    None
}

/// A Contact value cut at its URI.
struct Uri<'a> {
    /// Up to the host.
    head: &'a str,
    host_port: &'a str,
    /// What follows host and port.
    tail: &'a str,
    /// Without angle brackets, where the URI ends at the first semicolon.
    bare: bool,
    default_port: u16,
}

impl<'a> Uri<'a> {
    /// `None` for `*` and for other schemes.
    fn find(value: &'a str) -> Option<Self> {
        let open = outside_quotes(value, '<').filter(|_| value.contains('>'));
        let start = match open {
            Some(open) => open + 1,
            None => value.len() - value.trim_start().len(),
        };
        let uri = &value[start..];
        let small = uri.to_ascii_lowercase();
        let scheme = ["sip:", "sips:"]
            .into_iter()
            .find(|scheme| small.starts_with(scheme))?;
        let end = uri.find('>').unwrap_or(uri.len());
        let user_end = uri[..end].find('@').map_or(scheme.len(), |at| at + 1);
        let ends = |letter: char| matches!(letter, ';' | '?' | '>' | ' ' | '\t' | '\r' | '\n');
        let host_end = uri[user_end..]
            .find(ends)
            .map_or(uri.len(), |at| user_end + at);
        Some(Self {
            head: &value[..start + user_end],
            host_port: &uri[user_end..host_end],
            tail: &uri[host_end..],
            bare: open.is_none(),
            default_port: if scheme == "sips:" { 5061 } else { 5060 },
        })
    }

    fn is_at(&self, source: SocketAddr) -> bool {
        let with_port: Option<SocketAddr> = self.host_port.parse().ok();
        let host = self.host_port.trim_matches(['[', ']']).parse();
        let without = host
            .ok()
            .map(|host| SocketAddr::new(host, self.default_port));
        with_port.or(without) == Some(source)
    }

    fn moved_to(&self, source: SocketAddr) -> String {
        let host_port = match self.is_at(source) {
            true => self.host_port.to_owned(),
            false => source.to_string(),
        };
        let uri_end = self.tail.find('>').unwrap_or(0);
        let (parameters, rest) = self.tail.split_at(uri_end);
        let kept = parameters
            .split_inclusive(';')
            .collect::<Vec<_>>()
            .concat()
            .split(';')
            .filter(|parameter| !parameter.to_ascii_lowercase().starts_with("maddr="))
            .collect::<Vec<_>>()
            .join(";");
        format!("{}{host_port}{kept}{rest}", self.head)
    }

    /// With the mark that `after` has in its place.
    fn marked(&self, source: SocketAddr, after: &str) -> String {
        let mark = after.find(";lba=").map(|at| {
            let rest = &after[at + 1..];
            let end = rest.find([';', '>', '?']).unwrap_or(rest.len());
            &after[at..at + 1 + end]
        });
        let mark = mark
            .filter(|mark| mark.len() >= ";lba=".len() + 28)
            .unwrap_or(";lba=missing");
        let (head, host_port, tail) = (self.head, self.host_port, self.tail);
        let blanks = head.len() - head.trim_start().len();
        match (self.is_at(source), self.bare) {
            (true, _) => format!("{head}{host_port}{tail}"),
            (false, false) => format!("{head}{host_port}{mark}{tail}"),
            (false, true) => {
                // Headers are part of the URI.
                let end = tail
                    .find([';', ' ', '\t', '\r', '\n'])
                    .unwrap_or(tail.len());
                let (headers, tail) = tail.split_at(end);
                let (blanks, head) = head.split_at(blanks);
                format!("{blanks}<{head}{host_port}{mark}{headers}>{tail}")
            }
        }
    }
}

/// Says what is wrong with a body: addresses of `o=` and `c=` lines may have become the source.
pub fn body(before: &[u8], after: &[u8], source: SocketAddr) -> Result<(), String> {
    let lines = |bytes: &[u8]| -> Vec<String> {
        bytes
            .split_inclusive(|byte| *byte == b'\n')
            .map(text)
            .collect()
    };
    let (before, after) = (lines(before), lines(after));
    if before.len() != after.len() {
        return Err("the body has lost or gained a line".into());
    }
    for (was, is) in before.iter().zip(&after) {
        let family = if source.is_ipv6() { "IP6" } else { "IP4" };
        let address = source.ip().to_string();
        let mut words: Vec<_> = was.split(' ').map(str::to_owned).collect();
        let place = match was.get(..2) {
            Some("c=") if words.len() == 3 => Some(1),
            // The name of the user may have blanks at its ends.
            Some("o=") if words.len() >= 6 => Some(words.len() - 2),
            _ => None,
        };
        let moved = place.map(|place| {
            let old = words[place + 1].clone();
            let end = old.find(['\r', '\n', '/']).unwrap_or(old.len());
            let new = format!("{address}{}", &old[end..]);
            words[place] = family.to_owned();
            words[place + 1] = new;
            words.join(" ")
        });
        let is_length = was.to_ascii_lowercase().starts_with("content-length");
        if was != is && moved.as_ref() != Some(is) && !is_length {
            return Err(format!("a line of the body went from {was:?} to {is:?}"));
        }
    }
    Ok(())
}
