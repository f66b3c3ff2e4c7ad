//! Where in the text a value stands. serde_yaml reads values but forgets their places, so the text is scanned once
//! more for nothing but keys and places.

use std::{collections::BTreeSet, fmt};

use saphyr_parser::{Event, Parser, ScalarStyle, Span};

/// Line and column, both counted from 1.
pub(super) type Position = (usize, usize);

/// Deepest nesting that is followed; the configuration needs five.
const MAX_DEPTH: usize = 32;

/// Which value of the configuration: keys and list positions from the root.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Path(Vec<Step>);

#[derive(Clone, Debug, PartialEq, Eq)]
enum Step {
    Key(String),
    Item(usize),
}

impl Path {
    pub(super) fn root() -> Self {
        Self::default()
    }

    pub(super) fn key(&self, key: &str) -> Self {
        self.with(Step::Key(key.to_owned()))
    }

    pub(super) fn item(&self, index: usize) -> Self {
        self.with(Step::Item(index))
    }

    fn with(&self, step: Step) -> Self {
        let mut steps = self.0.clone();
        steps.push(step);
        Self(steps)
    }
}

/// `pools[0].backends[1].address`
impl fmt::Display for Path {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, step) in self.0.iter().enumerate() {
            match step {
                Step::Key(key) if index == 0 => write!(f, "{key}")?,
                Step::Key(key) => write!(f, ".{key}")?,
                Step::Item(item) => write!(f, "[{item}]")?,
            }
        }
        Ok(())
    }
}

/// Places of all keys and values of a document.
#[derive(Debug)]
pub(super) struct Locator {
    root: Node,
}

#[derive(Debug)]
struct Node {
    position: Position,
    kind: Kind,
}

#[derive(Debug)]
enum Kind {
    /// A scalar, or an alias: what is behind one is reported where the alias stands.
    Leaf,
    List(Vec<Node>),
    Mapping(Vec<Entry>),
}

#[derive(Debug)]
struct Entry {
    key: String,
    position: Position,
    value: Node,
}

/// Why the text has no places: it is no YAML, or YAML that a configuration has no use for.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Refused {
    pub(super) position: Position,
    pub(super) what: String,
}

impl Locator {
    /// Scans the text.
    ///
    /// # Errors
    /// The first thing that is not YAML, or the first duplicate key, tag, second document or key that is no text.
    pub(super) fn new(text: &str) -> Result<Self, Refused> {
        let mut events = Events(Parser::new_from_str(text));
        let mut root = None;
        loop {
            match events.next()? {
                (Event::StreamEnd, _) => break,
                (
                    Event::StreamStart
                    | Event::DocumentStart(_)
                    | Event::DocumentEnd
                    | Event::Nothing,
                    _,
                ) => {}
                (_, span) if root.is_some() => {
                    return Err(refuse(
                        span,
                        "a second document begins here; keep one in a file",
                    ));
                }
                (event, span) => root = Some(node(&mut events, event, span, 0)?),
            }
        }
        Ok(Self {
            root: root.unwrap_or(Node {
                position: (1, 1),
                kind: Kind::Leaf,
            }),
        })
    }

    /// Knows no place but the beginning.
    pub(super) fn nowhere() -> Self {
        Self {
            root: Node {
                position: (1, 1),
                kind: Kind::Leaf,
            },
        }
    }

    /// Place of the value at `path`; of what encloses it where it is missing.
    pub(super) fn value(&self, path: &Path) -> Position {
        self.walk(path).1
    }

    /// Place of the last key of `path`; of what encloses it where it is missing.
    pub(super) fn key(&self, path: &Path) -> Position {
        self.walk(path).0
    }

    /// Places of key and value; as far as there are any.
    fn walk(&self, path: &Path) -> (Position, Position) {
        let mut node = &self.root;
        let mut key = node.position;
        for step in &path.0 {
            match (step, &node.kind) {
                (Step::Key(name), Kind::Mapping(entries)) => {
                    let Some(entry) = entries.iter().find(|entry| entry.key == *name) else {
                        break;
                    };
                    key = entry.position;
                    node = &entry.value;
                }
                (Step::Item(index), Kind::List(items)) => {
                    let Some(item) = items.get(*index) else {
                        break;
                    };
                    key = item.position;
                    node = item;
                }
                _ => break,
            }
        }
        (key, node.position)
    }
}

struct Events<'a>(Parser<'a, saphyr_parser::StrInput<'a>>);

impl<'a> Events<'a> {
    fn next(&mut self) -> Result<(Event<'a>, Span), Refused> {
        match self.0.next_event() {
            Some(Ok(event)) => Ok(event),
            Some(Err(error)) => Err(Refused {
                position: (error.marker().line(), error.marker().col() + 1),
                what: format!("is not YAML: {}", error.info()),
            }),
            None => Ok((Event::StreamEnd, Span::default())),
        }
    }
}

/// Reads the node that `event` begins, to its end.
fn node(
    events: &mut Events<'_>,
    event: Event<'_>,
    span: Span,
    depth: usize,
) -> Result<Node, Refused> {
    if depth > MAX_DEPTH {
        return Err(refuse(span, "nested too deep"));
    }
    let (tag, kind) = match event {
        Event::Scalar(_, _, _, tag) => (tag, Kind::Leaf),
        Event::SequenceStart(_, tag) => {
            let mut items = Vec::new();
            loop {
                match events.next()? {
                    (Event::SequenceEnd, _) => break,
                    (event, span) => items.push(node(events, event, span, depth + 1)?),
                }
            }
            (tag, Kind::List(items))
        }
        Event::MappingStart(_, tag) => (tag, Kind::Mapping(entries(events, depth)?)),
        // An alias; the other events do not begin a node.
        _ => (None, Kind::Leaf),
    };
    match tag {
        Some(tag) => Err(refuse(
            span,
            format!(
                "the tag {}{} has no meaning here; remove it",
                tag.handle, tag.suffix
            ),
        )),
        None => Ok(Node {
            position: position(span),
            kind,
        }),
    }
}

fn entries(events: &mut Events<'_>, depth: usize) -> Result<Vec<Entry>, Refused> {
    let mut entries = Vec::new();
    let mut seen = BTreeSet::new();
    loop {
        let (key, at) = match events.next()? {
            (Event::MappingEnd, _) => return Ok(entries),
            (Event::Scalar(key, style, ..), at) if style != ScalarStyle::Plain || is_text(&key) => {
                (key.into_owned(), at)
            }
            (_, at) => return Err(refuse(at, "a key must be a word")),
        };
        if !seen.insert(key.clone()) {
            return Err(refuse(
                at,
                format!("{key:?} is here twice; remove one of them"),
            ));
        }
        let (event, span) = events.next()?;
        // An empty value has no place of its own on the line: it is behind its key.
        let value = node(events, event, span, depth + 1)?;
        entries.push(Entry {
            key,
            position: position(at),
            value,
        });
    }
}

/// Whether YAML reads an unquoted scalar as text rather than as a number, a truth value or nothing.
fn is_text(scalar: &str) -> bool {
    matches!(
        serde_yaml::from_str(scalar),
        Ok(serde_yaml::Value::String(_))
    )
}

fn refuse(span: Span, what: impl Into<String>) -> Refused {
    Refused {
        position: position(span),
        what: what.into(),
    }
}

fn position(span: Span) -> Position {
    (span.start.line().max(1), span.start.col() + 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = "\
# comment
node: { name: a }
pools:
  - name: switches
    backends:
      - { name: sw1, address: \"10.0.0.1:5060\" }
      - name: sw2
        address: 10.0.0.2:5060
";

    #[test]
    fn keys_and_values_have_a_line_and_a_column() {
        let locator = Locator::new(TEXT).unwrap();
        let backends = Path::root().key("pools").item(0).key("backends");
        let cases = [
            (Path::root().key("node").key("name"), (2, 9), (2, 15)),
            (backends.item(0).key("address"), (6, 22), (6, 31)),
            (backends.item(1).key("address"), (8, 9), (8, 18)),
            (backends.item(1), (7, 9), (7, 9)),
        ];
        for (path, key, value) in cases {
            assert_eq!(
                (locator.key(&path), locator.value(&path)),
                (key, value),
                "{path}"
            );
        }
    }

    #[test]
    fn what_is_missing_is_where_it_should_have_been() {
        let locator = Locator::new(TEXT).unwrap();
        assert_eq!(
            locator.value(&Path::root().key("node").key("secret")),
            (2, 7)
        );
        assert_eq!(
            locator.value(&Path::root().key("listeners").item(3)),
            (2, 1)
        );
    }

    #[test]
    fn text_that_is_no_plain_yaml_is_refused_with_its_place() {
        let cases: [(&str, Position, &str); 8] = [
            (
                "a: 1\nb: 2\na: 3\n",
                (3, 1),
                "\"a\" is here twice; remove one of them",
            ),
            (
                "a: !secret x\n",
                (1, 4),
                "the tag !secret has no meaning here; remove it",
            ),
            (
                "a: 1\n---\nb: 2\n",
                (3, 1),
                "a second document begins here; keep one in a file",
            ),
            ("a: { 5: x }\n", (1, 6), "a key must be a word"),
            ("null: x\n", (1, 1), "a key must be a word"),
            ("[1, 2]: 3\n", (1, 1), "a key must be a word"),
            ("a: [1, 2\n", (2, 1), "is not YAML: "),
            ("a: b: c\n", (1, 5), "is not YAML: "),
        ];
        for (text, position, what) in cases {
            let refused = Locator::new(text).unwrap_err();
            assert!(refused.what.starts_with(what), "{text:?}: {refused:?}");
            assert_eq!(refused.position, position, "{text:?}: {refused:?}");
        }
    }

    #[test]
    fn deep_nesting_is_refused() {
        for depth in [40, 100_000] {
            for open in ["[", "{a: "] {
                Locator::new(&open.repeat(depth)).unwrap_err();
            }
        }
        let nested = format!("{}{}", "[".repeat(40), "]".repeat(40));
        assert_eq!(Locator::new(&nested).unwrap_err().what, "nested too deep");
    }
}
