//! A message before and after its edits, line by line.

use std::collections::HashSet;

use super::{printable::printable, proxy_header};
use crate::{cli::output::Terminal, forward::Edits};

/// Lines that are shown unchanged before and after a change.
const CONTEXT: usize = 1;
/// What is shown in place of the value: a digest is a secret's.
pub(in crate::cli) const HIDDEN: [&[u8]; 2] = [b"authorization", b"proxy-authorization"];

/// One line and what becomes of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Line<'a> {
    Same(&'a [u8]),
    Old(&'a [u8]),
    New(&'a [u8]),
}

/// A piece of the message that changes, and what it changes to.
struct Change {
    start: usize,
    end: usize,
    new: Vec<u8>,
}

/// All changes with a little of what is around them, each line behind two blanks and `-`, `+` or a blank.
pub(super) fn render(before: &[u8], edits: &Edits, terminal: &Terminal) -> String {
    let changes = changes(before, edits);
    let lines = lines(before, &changes);
    let is_near = |at: usize| {
        let from = at.saturating_sub(CONTEXT);
        let to = (at + CONTEXT + 1).min(lines.len());
        lines[from..to]
            .iter()
            .any(|line| !matches!(line, Line::Same(_)))
    };
    let hidden = hidden(&lines);
    let mut text = String::new();
    for line in proxy_header::lines(edits) {
        text += &format!("  {}\n", terminal.green(&format!("+ {line}")));
    }
    let mut skipped = 0;
    for (at, line) in lines.iter().enumerate() {
        if !is_near(at) {
            skipped += 1;
            continue;
        }
        text += &gap(skipped);
        skipped = 0;
        let is_hidden = hidden.contains(&at);
        text += &match *line {
            Line::Same(line) if is_hidden => format!("    {}\n", without_value(line)),
            Line::Same(line) => format!("    {}\n", shown(line)),
            Line::Old(line) => format!("  {}\n", terminal.red(&format!("- {}", shown(line)))),
            Line::New(line) => format!("  {}\n", terminal.green(&format!("+ {}", shown(line)))),
        };
    }
    text + &gap(skipped)
}

/// All lines of a message that became another one, of which nothing but the result is known.
pub(in crate::cli) fn whole(before: &[u8], after: &[u8], terminal: &Terminal) -> String {
    let (after, header) = match proxy_header::split(after) {
        Some((after, header)) => (after, proxy_header::lines_of(header)),
        None => (after, Vec::new()),
    };
    let old = split(before).collect::<Vec<_>>();
    let new = split(after).collect::<Vec<_>>();
    let same = |line: &&[u8]| format!("    {}\n", shown(line));
    let removed = |line: &&[u8]| format!("  {}\n", terminal.red(&format!("- {}", shown(line))));
    let added = |line: String| format!("  {}\n", terminal.green(&format!("+ {line}")));
    let mut text: String = header.into_iter().map(added).collect();
    for operation in similar::capture_diff_slices(similar::Algorithm::Myers, &old, &new) {
        let (tag, was, is) = operation.as_tag_tuple();
        if tag == similar::DiffTag::Equal {
            text.extend(old[was].iter().map(same));
            continue;
        }
        text.extend(old[was].iter().map(removed));
        text.extend(new[is].iter().map(|line| added(shown(line))));
    }
    text
}

fn gap(lines: usize) -> String {
    match lines {
        0 => String::new(),
        1 => "    ... 1 line as it came\n".to_owned(),
        _ => format!("    ... {lines} lines as they came\n"),
    }
}

pub(in crate::cli) fn shown(line: &[u8]) -> String {
    match line {
        [] => "(empty line)".to_owned(),
        line => printable(line),
    }
}

/// The lines whose values are not shown, with their continuation lines.
fn hidden(lines: &[Line<'_>]) -> HashSet<usize> {
    let mut hidden = HashSet::new();
    for (at, line) in lines.iter().enumerate() {
        let Line::Same(line) = line else { continue };
        let is_fold = matches!(line.first(), Some(b' ' | b'\t'));
        let name = name(line).to_ascii_lowercase();
        if (is_fold && at > 0 && hidden.contains(&(at - 1))) || HIDDEN.contains(&&name[..]) {
            hidden.insert(at);
        }
    }
    hidden
}

fn without_value(line: &[u8]) -> String {
    match line.contains(&b':') && !line.starts_with(b" ") {
        true => format!("{}: (not shown)", printable(name(line))),
        false => "  (not shown)".to_owned(),
    }
}

/// The name of a header field.
pub(in crate::cli) fn name(line: &[u8]) -> &[u8] {
    let name = line.split(|byte| *byte == b':').next();
    name.unwrap_or_default().trim_ascii()
}

/// Groups the edits by the lines that they touch. Text that is put between two lines touches none.
fn changes(before: &[u8], edits: &Edits) -> Vec<Change> {
    let mut changes: Vec<Change> = Vec::new();
    for (offset, removed, inserted) in edits.iter() {
        if proxy_header::is_one(inserted) {
            // No text, and of no line.
            continue;
        }
        let end = offset + removed;
        let at_line_start = offset == 0 || before.get(offset - 1) == Some(&b'\n');
        let whole_lines = (inserted.is_empty() || inserted.ends_with(b"\n")) && at_line_start && {
            removed == 0 || before.get(end - 1) == Some(&b'\n')
        };
        let (start, end) = if whole_lines {
            (offset, end)
        } else {
            (line_start(before, offset), line_end(before, end))
        };
        match changes.last_mut() {
            // More on a line that changes already.
            Some(last) if start < last.end => {
                let done = last.end;
                last.new.truncate(last.new.len() - (done - offset));
                last.new.extend_from_slice(inserted);
                last.end = done.max(end);
                last.new
                    .extend_from_slice(&before[offset + removed..last.end]);
            }
            _ => changes.push(Change {
                start,
                end,
                new: [
                    &before[start..offset],
                    inserted,
                    &before[offset + removed..end],
                ]
                .concat(),
            }),
        }
    }
    changes
}

fn line_start(bytes: &[u8], at: usize) -> usize {
    memchr::memrchr(b'\n', &bytes[..at]).map_or(0, |end| end + 1)
}

fn line_end(bytes: &[u8], at: usize) -> usize {
    memchr::memchr(b'\n', &bytes[at..]).map_or(bytes.len(), |end| at + end + 1)
}

fn lines<'a>(before: &'a [u8], changes: &'a [Change]) -> Vec<Line<'a>> {
    let mut lines = Vec::new();
    let mut done = 0;
    for change in changes {
        lines.extend(split(&before[done..change.start]).map(Line::Same));
        lines.extend(split(&before[change.start..change.end]).map(Line::Old));
        lines.extend(split(&change.new).map(Line::New));
        done = change.end;
    }
    lines.extend(split(&before[done..]).map(Line::Same));
    lines
}

/// Lines without their ends.
pub(in crate::cli) fn split(bytes: &[u8]) -> impl Iterator<Item = &[u8]> {
    bytes.split_inclusive(|byte| *byte == b'\n').map(|line| {
        let line = line.strip_suffix(b"\n").unwrap_or(line);
        line.strip_suffix(b"\r").unwrap_or(line)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const PLAIN: Terminal = Terminal {
        width: 80,
        height: None,
        colour: false,
    };

    #[track_caller]
    fn check(before: &str, edits: &[(&str, &str, &str)], wanted: &str) {
        let mut list = Edits::new();
        for (place, removed, inserted) in edits {
            let at = before.find(place).unwrap() + place.len();
            assert!(before[at..].starts_with(removed));
            list.push(at, removed.len(), inserted.as_bytes()).unwrap();
        }
        list.finish().unwrap();
        assert_eq!(render(before.as_bytes(), &list, &PLAIN), wanted);
    }

    #[test]
    fn lines_that_change_and_those_around_them() {
        const TEXT: &str = "a\r\nVia: b;rport\r\nc: 1\r\nd\r\ne\r\nf\r\ng: 70\r\nh\r\n\r\nbody\0";
        check(TEXT, &[], "    ... 10 lines as they came\n");
        check(
            TEXT,
            &[
                ("a\r\n", "", "new: 1\r\nnew: 2\r\n"),
                ("rport", "", "=1"),
                ("g: ", "70", "69"),
            ],
            "    a\n  + new: 1\n  + new: 2\n  - Via: b;rport\n  + Via: b;rport=1\n    c: 1\n    ... 2 lines as they came\n    \
             f\n  - g: 70\n  + g: 69\n    h\n    ... 2 lines as they came\n",
        );
        // A line that goes, two edits on one line, one that joins lines, one in a last line without an end.
        check(
            TEXT,
            &[("\r\nd\r\n", "e\r\n", "")],
            "    ... 3 lines as they came\n    d\n  - e\n    f\n    ... 4 lines as they came\n",
        );
        check(
            TEXT,
            &[("Via", "", "!"), ("b;", "rport", "x")],
            "    a\n  - Via: b;rport\n  + Via!: b;x\n    c: 1\n    ... 7 lines as they came\n",
        );
        check(
            TEXT,
            &[("d", "\r\n", " "), ("e", "\r\n", "")],
            "    ... 2 lines as they came\n    c: 1\n  - d\n  - e\n  - f\n  + d ef\n    g: 70\n    ... 3 lines as they came\n",
        );
        check(
            TEXT,
            &[("bo", "dy", "")],
            "    ... 8 lines as they came\n    (empty line)\n  - body\\x00\n  + bo\\x00\n",
        );
    }

    #[test]
    fn a_whole_message_with_its_changes() {
        let before = b"a\r\nVia: b;rport\r\nc: 1\r\n\r\nbody";
        let after = b"a\r\nnew: 1\r\nVia: b;rport=1\r\nc: 1\r\n\r\nbody";
        assert_eq!(
            whole(before, after, &PLAIN),
            "    a\n  - Via: b;rport\n  + new: 1\n  + Via: b;rport=1\n    c: 1\n    (empty line)\n    body\n"
        );
        let header = b"\r\n\r\n\0\r\nQUIT\n\x20\0\0\0";
        let text = whole(b"a\r\n", &[&header[..], b"a\r\n"].concat(), &PLAIN);
        let first = "  + PROXY protocol version 2, 16 bytes: UDP from no addresses\n";
        assert!(text.starts_with(first), "{text}");
        assert!(text.ends_with("\n    a\n"), "{text}");
    }

    #[test]
    fn what_a_client_knows_is_not_shown() {
        let text = "a\r\nProxy-Authorization : Digest x=1,\r\n response=\"x\"\r\nb: 1\r\n";
        check(
            text,
            &[("a", "", "b"), ("b: ", "1", "2")],
            "  - a\n  + ab\n    Proxy-Authorization: (not shown)\n      (not shown)\n  - b: 1\n  + b: 2\n",
        );
    }
}
