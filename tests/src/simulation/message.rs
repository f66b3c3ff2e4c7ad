//! SIP as the agents read and write it: slow, obvious, and without a line of the parser that is tested.

/// A message in parts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Message {
    pub start: String,
    pub fields: Vec<(String, String)>,
    pub body: String,
}

impl Message {
    pub fn read(bytes: &[u8]) -> Option<Self> {
        let text = std::str::from_utf8(bytes).ok()?;
        let (head, body) = text.split_once("\r\n\r\n")?;
        let mut lines = head.split("\r\n");
        let start = lines.next()?.to_owned();
        let fields = lines.map(|line| {
            let (name, value) = line.split_once(':')?;
            Some((name.trim().to_owned(), value.trim().to_owned()))
        });
        let fields = fields.collect::<Option<_>>()?;
        let body = body.to_owned();
        Some(Self {
            start,
            fields,
            body,
        })
    }

    pub fn write(&self) -> String {
        let mut text = format!("{}\r\n", self.start);
        for (name, value) in &self.fields {
            text += &format!("{name}: {value}\r\n");
        }
        text + "\r\n" + &self.body
    }

    /// The first one of this name, or nothing.
    pub fn field(&self, name: &str) -> &str {
        let mut fields = self.fields.iter();
        let found = fields.find(|(found, _)| found.eq_ignore_ascii_case(name));
        found.map_or("", |(_, value)| value)
    }

    pub fn all<'a>(&'a self, name: &str) -> impl Iterator<Item = &'a str> {
        let named = self.fields.iter();
        named
            .filter(move |(found, _)| found.eq_ignore_ascii_case(name))
            .map(|(_, value)| value.as_str())
    }

    /// All values of a list, joined by commas or not.
    pub fn values(&self, name: &str) -> Vec<String> {
        let mut values = Vec::new();
        for field in self.all(name) {
            let (mut depth, mut value) = (0, String::new());
            for character in field.chars() {
                match character {
                    '<' => depth += 1,
                    '>' => depth -= 1,
                    _ => {}
                }
                match character {
                    ',' if depth == 0 => values.push(std::mem::take(&mut value)),
                    other => value.push(other),
                }
            }
            values.push(value);
        }
        values.iter().map(|value| value.trim().to_owned()).collect()
    }

    pub fn status(&self) -> Option<u16> {
        let rest = self.start.strip_prefix("SIP/2.0 ")?;
        rest.split(' ').next()?.parse().ok()
    }

    /// That of CSeq, for a response the one of its request.
    pub fn method(&self) -> &str {
        self.field("CSeq").rsplit(' ').next().unwrap_or_default()
    }

    pub fn uri(&self) -> &str {
        self.start.split(' ').nth(1).unwrap_or_default()
    }

    pub fn branch(&self) -> String {
        self.values("Via")
            .first()
            .map(|via| parameter(via, "branch"))
            .unwrap_or_default()
    }

    /// Which transaction of the model it belongs to.
    pub fn serial(&self) -> Option<usize> {
        self.field("X-Serial").parse().ok()
    }
}

/// A parameter's value, or nothing.
pub fn parameter(value: &str, name: &str) -> String {
    let found = value.split(';').skip(1).find_map(|parameter| {
        let (found, value) = parameter.split_once('=')?;
        (found.trim() == name).then(|| value.trim().to_owned())
    });
    found.unwrap_or_default()
}

/// What stands in angle brackets.
pub fn uri_of(value: &str) -> String {
    value
        .split(['<', '>'])
        .nth(1)
        .unwrap_or_default()
        .to_owned()
}

pub fn tag_of(value: &str) -> String {
    let behind = value.split('>').nth(1).unwrap_or_default();
    parameter(behind, "tag")
}
