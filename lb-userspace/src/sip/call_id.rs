//! The Call-ID alone, for who has to know which call a message belongs to and leaves it to others to read the message.

use memchr::memchr_iter;

use super::Name;

/// The value of the first Call-ID header field (RFC 3261 §20.8), in whichever form its name is written, without the blanks
/// around it; `None` when the header has none.
///
/// Reads no further than that, and says nothing of whether the message is well-formed: where [`super::read`] finds a Call-ID
/// that is one, this finds the same.
pub fn find_call_id(payload: &[u8]) -> Option<&[u8]> {
    // Line ends before the start line (§7.5).
    let start = payload.iter().position(|byte| !is_line_end(*byte))?;
    let message = &payload[start..];
    for end in memchr_iter(b'\n', message) {
        let line = &message[end + 1..];
        match line.first()? {
            b'C' | b'c' | b'I' | b'i' => {}
            // The header is over.
            b'\r' | b'\n' => return None,
            _ => continue,
        }
        if let Some(value) = value_of(line) {
            return Some(value);
        }
    }
    None
}

/// The value when the header field that `line` begins with is a Call-ID.
fn value_of(line: &[u8]) -> Option<&[u8]> {
    /// No name of a Call-ID is longer, but blanks may follow it.
    const LONGEST: usize = 32;
    let colon = line.iter().take(LONGEST).position(|byte| *byte == b':')?;
    let is_blank = |byte: &u8| matches!(byte, b' ' | b'\t');
    let name = line[..colon].iter().rposition(|byte| !is_blank(byte))?;
    if Name::from_text(&line[..=name]) != Name::CallId {
        return None;
    }
    let mut value = &line[colon + 1..];
    loop {
        let end = memchr::memchr(b'\n', value).unwrap_or(value.len());
        let (content, rest) = value.split_at(end);
        let content = content.trim_ascii();
        match rest {
            // The value is on a line that continues this one (§7.3.1).
            [b'\n', b' ' | b'\t', ..] if content.is_empty() => value = &rest[1..],
            _ if content.is_empty() => return None,
            _ => return Some(content),
        }
    }
}

fn is_line_end(byte: u8) -> bool {
    matches!(byte, b'\r' | b'\n')
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::sip::{Message, read_into};

    #[test]
    fn it_is_found_however_it_is_written() {
        for (header, wanted) in [
            ("Call-ID: a@b", Some("a@b")),
            ("call-id:a@b", Some("a@b")),
            ("CALL-ID : a@b  ", Some("a@b")),
            ("i:a", Some("a")),
            ("I\t:\ta", Some("a")),
            ("Call-ID:\r\n\ta@b", Some("a@b")),
            ("Call-ID:\r\n \r\n  a@b", Some("a@b")),
            (
                "Contact: <sip:i:x@y>\r\nCSeq: 1 INVITE\r\nCall-ID: a",
                Some("a"),
            ),
            ("Via: x\r\n i: folded\r\ni: a", Some("a")),
            ("Call-ID: a\r\nCall-ID: b", Some("a")),
            ("Call-IDs: a", None),
            ("Call-I: a", None),
            ("X-Call-ID: a", None),
            ("Call-ID:", None),
            ("Call-ID", None),
            ("i\r\n: a", None),
            ("Via: x", None),
        ] {
            for before in ["", "\r\n\r\n"] {
                for body in ["", "Call-ID: body@body\r\n"] {
                    let message = format!("{before}BYE sip:x SIP/2.0\r\n{header}\r\n\r\n{body}");
                    let found = find_call_id(message.as_bytes());
                    assert_eq!(found, wanted.map(str::as_bytes), "{message:?}");
                }
            }
        }
        for no_message in [
            "",
            "\r\n\r\n",
            "\0\0",
            "x",
            "i: no start line",
            "x\n",
            "x\ni",
            "x\ni:",
        ] {
            assert_eq!(find_call_id(no_message.as_bytes()), None, "{no_message:?}");
        }
    }

    /// What the reader of whole messages says.
    fn by_reader(payload: &[u8]) -> Option<&[u8]> {
        let mut message = Message::EMPTY;
        read_into(payload, &mut message).ok()?;
        message.call_id.map(|field| field.value.of(payload))
    }

    proptest! {
        #[test]
        fn the_reader_finds_the_same(
            fields in proptest::collection::vec(
                prop_oneof![
                    "(Via|From|To|CSeq|Contact|c|C|I)[ \t]?: ?[a-z;:= ]{0,12}(\r\n[ \t]i: x)?",
                    "(Call-ID|CALL-id|i|I)[ \t]{0,2}:[ \t]{0,2}(\r\n )?[a-z@]{0,6}[ \t]?",
                    "[ -~]{0,12}",
                ],
                0..6,
            ),
            before in "(\r\n){0,2}",
            end in "\r\n|\n",
        ) {
            let mut text = format!("{before}BYE sip:x SIP/2.0{end}");
            for field in &fields {
                text += field;
                text += &end;
            }
            text += &end;
            text += "i: body";
            // Nothing or several lines are no Call-ID.
            let is_call_id = |read: &&[u8]| !read.is_empty() && !read.contains(&b'\n');
            if let Some(read) = by_reader(text.as_bytes()).filter(is_call_id) {
                prop_assert_eq!(find_call_id(text.as_bytes()), Some(read), "{:?}", text);
            }
        }

        #[test]
        fn no_bytes_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _ = find_call_id(&bytes);
        }
    }
}
