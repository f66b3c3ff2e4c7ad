//! Bytes from the network as text that is safe to print and to paste.

/// Longest piece that is printed of one line, in bytes.
const MAX_LINE: usize = 2000;

/// What can be printed as it is, the rest as `\xNN`, a backslash as `\\`. Long text is cut and says so.
pub(in crate::cli) fn printable(bytes: &[u8]) -> String {
    let (shown, rest) = bytes.split_at(bytes.len().min(MAX_LINE));
    let mut text = String::with_capacity(shown.len());
    for chunk in shown.utf8_chunks() {
        for letter in chunk.valid().chars() {
            put(letter, &mut text);
        }
        escape(chunk.invalid(), &mut text);
    }
    if !rest.is_empty() {
        text += &format!(" ... ({} more bytes)", rest.len());
    }
    text
}

fn put(letter: char, text: &mut String) {
    let plain = match letter {
        '\\' => return text.push_str("\\\\"),
        ' '..='~' => true,
        // The standard library knows what has a picture: control and format characters (which could turn the direction of
        // a line around) have none.
        _ => letter.escape_debug().len() == 1,
    };
    if plain {
        text.push(letter);
    } else {
        escape(letter.encode_utf8(&mut [0; 4]).as_bytes(), text);
    }
}

fn escape(bytes: &[u8], text: &mut String) {
    for byte in bytes {
        text.push_str(&format!("\\x{byte:02x}"));
    }
}

/// A header value on one line: folds and runs of blanks made one space.
pub(super) fn unfolded(value: &[u8]) -> Vec<u8> {
    let words = value
        .split(|byte| matches!(byte, b' ' | b'\t' | b'\r' | b'\n'))
        .filter(|word| !word.is_empty());
    words.collect::<Vec<_>>().join(&b' ')
}

/// Bytes that are no text: 16 a line, in hexadecimal.
pub(in crate::cli) fn hexadecimal(bytes: &[u8]) -> Vec<String> {
    let lines = bytes.chunks(16).map(|line| {
        let pairs = line.chunks(2).map(|pair| {
            let digits = pair.iter().map(|byte| format!("{byte:02x}"));
            digits.collect::<String>()
        });
        pairs.collect::<Vec<_>>().join(" ")
    });
    lines.collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_terminal_would_act_on_is_escaped() {
        for (bytes, wanted) in [
            (&b"INVITE sip:a@b"[..], "INVITE sip:a@b"),
            ("Jos\u{e9} \u{4f60}".as_bytes(), "Jos\u{e9} \u{4f60}"),
            (b"a\x1b[31m\0\t", "a\\x1b[31m\\x00\\x09"),
            (b"a\\x", "a\\\\x"),
            (b"\xff\xc3", "\\xff\\xc3"),
            (
                "\u{202e}abc\u{200b}\u{9b}".as_bytes(),
                "\\xe2\\x80\\xaeabc\\xe2\\x80\\x8b\\xc2\\x9b",
            ),
            (b"\"x\"'", "\"x\"'"),
        ] {
            assert_eq!(printable(bytes), wanted);
        }
        let long = vec![b'a'; MAX_LINE + 7];
        assert!(printable(&long).ends_with("aaa ... (7 more bytes)"));
    }

    #[test]
    fn folds_become_a_space() {
        assert_eq!(unfolded(b"1\r\n  \tINVITE"), b"1 INVITE");
        assert_eq!(unfolded(b""), b"");
    }

    #[test]
    fn bytes_in_hexadecimal() {
        assert_eq!(hexadecimal(&[1, 2, 0xff]), ["0102 ff"]);
        assert_eq!(hexadecimal(&[0; 17]).len(), 2);
    }
}
