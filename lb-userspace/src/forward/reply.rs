//! Replies that we make ourselves (RFC 3261 §8.2.6).

use super::{request::Request, stamp::Stamp, text::Text};
use crate::{
    sip::{HeaderField, Lines, Name, Span},
    token::HEX_LEN,
};

/// A reply is never longer than what it answers by more than this many bytes, so nobody gains much by making us answer
/// a forged source. Counted out: a longer first line (39, or 20 and Retry-After), `rport` and `received` with an IPv6 address (61), a To tag
/// (21), a line end that was missing (2), Content-Length and the empty line (21); or what a STUN response adds (36).
pub const REPLY_GROWTH: usize = 150;

/// Status code and reason phrase.
#[derive(Clone, Copy, Debug)]
pub(super) struct Status {
    code: [u8; 3],
    reason: &'static str,
    /// What Retry-After says; 0 for none.
    retry_after_s: u32,
    /// The reply says which extensions are not supported.
    lists_unsupported: bool,
}

impl Status {
    /// RFC 3261 §21.4.15.
    pub const BAD_EXTENSION: Self = Self {
        lists_unsupported: true,
        ..Self::new(b"420", "Bad Extension")
    };

    pub const fn new(code: &'static [u8; 3], reason: &'static str) -> Self {
        Self {
            code: *code,
            reason,
            retry_after_s: 0,
            lists_unsupported: false,
        }
    }

    /// Of a call above a limit. The reason phrase tells it from what servers answer.
    pub fn of_breach(code: u16, retry_after_s: u32) -> Self {
        let digit = |unit: u16| b'0' + (code / unit % 10) as u8;
        Self {
            code: [digit(100), digit(10), digit(1)],
            retry_after_s,
            ..Self::new(b"503", "Call Rate Exceeded")
        }
    }
}

/// Writes a reply to `request`: what every response copies, a To tag when there is none, and nothing else.
///
/// It goes to the source of the request. Header fields that are missing are left out, so that a faulty request can be
/// refused as far as it can be told apart.
pub(super) fn write(
    request: &Request<'_>,
    status: Status,
    stamp: &Stamp,
    to_tag: &[u8; HEX_LEN],
    reply: &mut Vec<u8>,
) {
    let (bytes, message) = (request.bytes, request.message);
    reply.extend_from_slice(b"SIP/2.0 ");
    reply.extend_from_slice(&status.code);
    reply.push(b' ');
    reply.extend_from_slice(status.reason.as_bytes());
    reply.extend_from_slice(b"\r\n");
    put_vias(request, stamp, reply);
    if let Some(from) = message.from {
        put_line(bytes, from, reply);
    }
    if let Some(to) = message.to {
        put_to(bytes, to, message.to_tag_parameter(), to_tag, reply);
    }
    if let Some(call_id) = message.call_id {
        put_line(bytes, call_id, reply);
    }
    if let Some(cseq) = message.cseq {
        put_line(bytes, cseq, reply);
    }
    if status.lists_unsupported {
        put_unsupported(request, reply);
    }
    if status.retry_after_s > 0 {
        put_retry_after(status.retry_after_s, reply);
    }
    reply.extend_from_slice(b"Content-Length: 0\r\n\r\n");
}

/// All Vias in their order, the top one with `received` and `rport`.
fn put_vias(request: &Request<'_>, stamp: &Stamp, reply: &mut Vec<u8>) {
    let bytes = request.bytes;
    let mut edits = stamp.edits().iter().peekable();
    for field in Lines::new(bytes, request.message.headers).flatten() {
        if field.name != Name::Via {
            continue;
        }
        let mut position = field.line.start();
        while let Some(edit) = edits.next_if(|edit| edit.offset <= field.value.end()) {
            reply.extend_from_slice(&bytes[position..edit.offset]);
            for piece in stamp.text(edit) {
                reply.extend_from_slice(piece);
            }
            position = edit.offset + edit.removed;
        }
        reply.extend_from_slice(&bytes[position..field.value.end()]);
        end_line(bytes, field, reply);
    }
}

/// All that Proxy-Require asks for (RFC 3261 §16.3 step 5): there is no extension that we support. The name is shorter
/// than the one that it stands for, so the reply does not grow with what is listed.
fn put_unsupported(request: &Request<'_>, reply: &mut Vec<u8>) {
    let bytes = request.bytes;
    for field in Lines::new(bytes, request.message.headers).flatten() {
        if field.name == Name::ProxyRequire && !field.value.is_empty() {
            reply.extend_from_slice(b"Unsupported: ");
            reply.extend_from_slice(field.value.of(bytes));
            end_line(bytes, field, reply);
        }
    }
}

/// Two hours at most, so four digits are enough (RFC 3261 §20.33).
fn put_retry_after(seconds: u32, reply: &mut Vec<u8>) {
    let mut text = Text::<8>::new();
    text.put_number(seconds.min(u32::from(u16::MAX)) as u16);
    reply.extend_from_slice(b"Retry-After: ");
    reply.extend_from_slice(text.as_slice());
    reply.extend_from_slice(b"\r\n");
}

/// To with a tag: its own, else ours.
fn put_to(
    bytes: &[u8],
    to: HeaderField,
    tag: Option<Span>,
    our_tag: &[u8; HEX_LEN],
    reply: &mut Vec<u8>,
) {
    match tag {
        Some(tag) if !tag.is_empty() => return put_line(bytes, to, reply),
        Some(tag) => {
            reply.extend_from_slice(&bytes[to.line.start()..tag.start()]);
            reply.extend_from_slice(our_tag);
            reply.extend_from_slice(&bytes[tag.start()..to.value.end()]);
        }
        None => {
            // Some devices leave a semicolon or a comma at the end of a value.
            let is_end = |byte: &u8| !matches!(byte, b';' | b',' | b' ' | b'\t' | b'\r' | b'\n');
            let value = to.value.of(bytes);
            let value_len = value.iter().rposition(is_end).map_or(0, |last| last + 1);
            let value_end = to.value.start() + value_len;
            reply.extend_from_slice(&bytes[to.line.start()..value_end]);
            reply.extend_from_slice(b";tag=");
            reply.extend_from_slice(our_tag);
        }
    }
    end_line(bytes, to, reply);
}

fn put_line(bytes: &[u8], field: HeaderField, reply: &mut Vec<u8>) {
    reply.extend_from_slice(&bytes[field.line.start()..field.value.end()]);
    end_line(bytes, field, reply);
}

/// Ends a line as it ended in the request: with LF where its sender writes LF, which keeps the reply from growing with
/// the number of lines.
fn end_line(bytes: &[u8], field: HeaderField, reply: &mut Vec<u8>) {
    let bare = bytes.get(field.line.end().wrapping_sub(2)) != Some(&b'\r')
        && bytes.get(field.line.end().wrapping_sub(1)) == Some(&b'\n');
    reply.extend_from_slice(if bare { b"\n" } else { b"\r\n" });
}
