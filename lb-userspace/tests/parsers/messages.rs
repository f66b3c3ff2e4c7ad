//! Messages in as many spellings as RFC 3261 §25.1 allows, and what befalls them on the way.
//!
//! Every choice is taken from a [`Tape`] of bytes: what makes the bytes, a property test or a fuzzer, makes the message.

/// Choices, in the order in which they are asked for. When it ends, the first and simplest choice is taken.
pub struct Tape<'a> {
    bytes: &'a [u8],
}

/// A valid message, and what has to be found in it.
pub struct Message {
    pub bytes: Vec<u8>,
    pub branch: String,
    pub from_tag: Option<String>,
    pub to_tag: Option<String>,
    pub call_id: String,
    pub cseq: u32,
    /// Body as far as Content-Length reaches.
    pub body: Vec<u8>,
}

impl<'a> Tape<'a> {
    pub fn new(bytes: &'a [u8]) -> Self {
        Self { bytes }
    }

    /// 0 to `count` - 1.
    fn below(&mut self, count: usize) -> usize {
        let Some((byte, rest)) = self.bytes.split_first() else {
            return 0;
        };
        self.bytes = rest;
        usize::from(*byte) % count.max(1)
    }

    fn pick<'t>(&mut self, choices: &[&'t str]) -> &'t str {
        choices[self.below(choices.len())]
    }

    /// True once in `of` times.
    fn sometimes(&mut self, of: usize) -> bool {
        self.below(of) == of - 1
    }

    /// A number up to 65,535.
    fn place(&mut self, count: usize) -> usize {
        (self.below(256) * 256 + self.below(256)) % count.max(1)
    }
}

const METHODS: [&str; 10] = [
    "INVITE",
    "ACK",
    "CANCEL",
    "BYE",
    "OPTIONS",
    "REGISTER",
    "SUBSCRIBE",
    "REFER",
    "MESSAGE",
    "x-1.!%*_+`'~",
];
const URIS: [&str; 14] = [
    "sip:bob@example.com",
    "sip:192.0.2.1",
    "SIPS:bob:pw@example.com:5061",
    "sip:[2001:db8::1]:5080",
    "sip:a;b=c?d/e,f@example.com;lr;transport=udp?Subject=x&To=sip%3Ay",
    "sip:+1-212-555-1212:1234@gateway.example;user=phone",
    "tel:+358-555-1234567;phone-context=+358",
    "urn:service:sos",
    "sip:%61%40@under_score.example.;maddr=239.255.255.1;ttl=15",
    "im:x",
    "sip:@host",
    "sips:host:1",
    "sip:\u{fc}\u{feff}@example.com",
    "http://[::1]:80/?a;b,c",
];
/// Those that may stand without angle brackets: a comma, semicolon or question mark would not be theirs (§20).
const BARE_URIS: [&str; 5] = [
    "sip:bob@example.com",
    "sip:[2001:db8::1]:5080",
    "tel:+358-555-1234567",
    "SIPS:bob:pw@example.com:5061",
    "urn:service:sos",
];
const DISPLAY_NAMES: [&str; 10] = [
    "",
    "Bob ",
    "\"Bob\"",
    "\"B, \\\"b\\\" <sip:evil@x>;tag=no\" ",
    "\"\\\\\"",
    "\"\" ",
    "A. G. Bell \t",
    "\"\u{e9}\u{20ac} \\\u{1}\"",
    "\"\r\n folded\" \r\n\t",
    "!%*_+`'~ ",
];
const HOSTS: [&str; 8] = [
    "192.0.2.1",
    "example.com",
    "[2001:db8::1]",
    "h",
    "a-b.c_d.example.",
    "[::ffff:192.0.2.1]",
    "255.255.255.255",
    "10.0.0.256",
];
const PARAMETERS: [&str; 12] = [
    "x",
    "ttl=16",
    "maddr=224.2.0.1",
    "lr",
    "q=0.7",
    "expires=3600",
    "x=\"quoted; , \\\" = tag=no <\"",
    "x=",
    "+sip.instance=\"<urn:uuid:00000000-0000-1000-8000-000A95A0E128>\"",
    "alias",
    "x=[::1]:5060",
    "keep=1=2",
];

/// Makes a message without fault.
pub fn message(tape: &mut Tape<'_>) -> Message {
    let mut message = Message {
        bytes: tape.pick(&["", "", "\r\n", "\n", "\r\n\r\n\n"]).into(),
        branch: format!(
            "z9hG4bK{}",
            tape.pick(&["a", "776asdhds", "-.!%*_+`'~", "0"])
        ),
        from_tag: None,
        to_tag: None,
        call_id: tape
            .pick(&[
                "a84b4c76e66710@192.0.2.1",
                "x",
                "<(\\\"/[]?{}:)>",
                "a b",
                "f81d4fae-7dec-11d0-a765-00a0c91e6bf6",
            ])
            .to_owned(),
        cseq: [1, 0, 314_159, 2_147_483_647][tape.below(4)],
        body: Vec::new(),
    };
    let method = tape.pick(&METHODS);
    let is_request = !tape.sometimes(3);
    let line_end = tape.pick(&["\r\n", "\r\n", "\n"]);
    let start_line = if is_request {
        format!(
            "{method} {} {}",
            tape.pick(&URIS),
            tape.pick(&["SIP/2.0", "sip/2.0"])
        )
    } else {
        let version = tape.pick(&["SIP/2.0", "Sip/2.0"]);
        format!(
            "{version} {}",
            tape.pick(&[
                "200 OK",
                "100 ",
                "699",
                "487 \u{e9} \t x",
                "183 Session Progress"
            ])
        )
    };
    message.bytes.extend_from_slice(start_line.as_bytes());
    message.bytes.extend_from_slice(line_end.as_bytes());

    let (body, length) = body(tape);
    let fields = fields(tape, &mut message, method, length);
    message.body = body[..length.unwrap_or(body.len())].to_vec();
    for (name, value) in fields {
        let line_end = if tape.sometimes(8) { "\n" } else { line_end };
        let name = spelled(tape, name);
        let colon = tape.pick(&[": ", ":", " : ", "\t:\t", ":\r\n ", ": \n\t", " :   "]);
        let end = tape.pick(&["", "", "", " ", "\t\t", "\r\n "]);
        let line = [&name, colon, &value, end, line_end].concat();
        message.bytes.extend_from_slice(line.as_bytes());
    }
    message.bytes.extend_from_slice(line_end.as_bytes());
    message.bytes.extend_from_slice(&body);
    message
}

/// A body, and Content-Length: absent, right or too small.
fn body(tape: &mut Tape<'_>) -> (Vec<u8>, Option<usize>) {
    let body: &[u8] = match tape.below(4) {
        0 => b"",
        1 => b"v=0\r\no=- 0 0 IN IP4 192.0.2.1\r\ns=-\r\nc=IN IP4 192.0.2.1\r\nt=0 0\r\nm=audio 49170 RTP/AVP 0\r\n",
        2 => b"\0\xff\r\rVia: no\r\n\r\n\x01",
        _ => b"Call-ID: no\n\nx",
    };
    let length = match tape.below(4) {
        0 => None,
        1 => Some(tape.below(body.len() + 1)),
        _ => Some(body.len()),
    };
    (body.to_vec(), length)
}

/// Names, long ones, and values of the header fields, in any order that keeps those of one name apart.
fn fields(
    tape: &mut Tape<'_>,
    message: &mut Message,
    method: &str,
    length: Option<usize>,
) -> Vec<(&'static str, String)> {
    let mut fields = vec![
        ("CSeq", cseq(tape, message, method)),
        ("Call-ID", message.call_id.clone()),
    ];
    for name in ["From", "To"] {
        let tag = tape.pick(&["", "1928301774", "a6c85cf", "-.!%*_+`'~"]);
        let tag = (!tag.is_empty()).then(|| tag.to_owned());
        fields.push((name, name_addr(tape, tag.as_deref())));
        match name {
            "From" => message.from_tag = tag,
            _ => message.to_tag = tag,
        }
    }
    if let Some(length) = length {
        fields.push((
            "Content-Length",
            format!("{}{length}", tape.pick(&["", "0", "000000"])),
        ));
    }
    for (name, values) in [
        ("Max-Forwards", &["70", "0", "255", "0068"][..]),
        (
            "Content-Type",
            &["application/sdp", "multipart/mixed;boundary=\"a b\"", ""][..],
        ),
        ("Subject", &["", "x: y", "\u{1f4de} \"", "a\r\n b"][..]),
        ("Proxy-Require", &["a", "a, b", "", "\r\n , a"][..]),
        ("X-!%*_+`'~", &["", ";,\"<", "\\"][..]),
    ] {
        if !tape.sometimes(3) {
            fields.push((name, tape.pick(values).to_owned()));
        }
    }
    for name in ["Route", "Contact", "Record-Route", "Path"] {
        for _ in 0..tape.below(4) {
            fields.push((name, list_of_name_addrs(tape)));
        }
    }
    let first_via = via(tape, Some(&message.branch));
    let mut vias = vec![first_via];
    for _ in 0..tape.below(3) {
        vias.push(via(tape, None));
    }
    // Any order, but the Vias have theirs.
    for index in 0..fields.len() {
        let other = tape.below(fields.len());
        fields.swap(index, other);
    }
    let mut at = tape.below(fields.len() + 1);
    while !vias.is_empty() {
        let joined = 1 + tape.below(vias.len());
        let value = vias.drain(..joined).collect::<Vec<_>>().join(comma(tape));
        fields.insert(at, ("Via", value));
        at = (at + 1 + tape.below(3)).min(fields.len());
    }
    fields
}

fn spelled(tape: &mut Tape<'_>, name: &str) -> String {
    let compact = match name {
        "Via" => "v",
        "From" => "f",
        "To" => "t",
        "Call-ID" => "i",
        "Contact" => "m",
        "Content-Type" => "c",
        "Content-Length" => "l",
        "Subject" => "s",
        _ => name,
    };
    match tape.below(6) {
        0 | 1 => name.to_owned(),
        2 => compact.to_owned(),
        3 => compact.to_uppercase(),
        4 => name.to_uppercase(),
        _ => name.to_lowercase(),
    }
}

/// White space that may be there.
fn lws(tape: &mut Tape<'_>) -> &'static str {
    tape.pick(&["", "", "", " ", "\t ", "\r\n ", "\n\t", " \r\n  \r\n "])
}

/// White space that must be there.
fn blank(tape: &mut Tape<'_>) -> &'static str {
    tape.pick(&[" ", " ", "  ", "\t", "\r\n ", " \n\t"])
}

fn comma(tape: &mut Tape<'_>) -> &'static str {
    tape.pick(&[",", ", ", " ,", "\t,\r\n ", " \n , "])
}

fn cseq(tape: &mut Tape<'_>, message: &Message, method: &str) -> String {
    let zeros = tape.pick(&["", "0", "00000000"]);
    format!("{zeros}{}{}{method}", message.cseq, blank(tape))
}

fn parameters(tape: &mut Tape<'_>, first: Option<String>) -> String {
    let mut parameters = (0..tape.below(4))
        .map(|_| tape.pick(&PARAMETERS).to_owned())
        .collect::<Vec<_>>();
    if let Some(first) = first {
        parameters.insert(tape.below(parameters.len() + 1), first);
    }
    let mut text = String::new();
    for parameter in parameters {
        text += lws(tape);
        text += ";";
        text += lws(tape);
        text += &match parameter.split_once('=') {
            Some((name, value)) => [name, lws(tape), "=", lws(tape), value].concat(),
            None => parameter,
        };
    }
    text
}

/// A value, with this tag or none.
fn name_addr(tape: &mut Tape<'_>, tag: Option<&str>) -> String {
    let address = if tape.sometimes(4) {
        tape.pick(&BARE_URIS).to_owned()
    } else {
        let (name, uri) = (tape.pick(&DISPLAY_NAMES), tape.pick(&URIS));
        [name, "<", lws(tape), uri, lws(tape), ">"].concat()
    };
    let name = tape.pick(&["tag", "TAG", "Tag"]);
    address + &parameters(tape, tag.map(|tag| format!("{name}={tag}")))
}

fn list_of_name_addrs(tape: &mut Tape<'_>) -> String {
    let values = (0..=tape.below(3))
        .map(|_| name_addr(tape, None))
        .collect::<Vec<_>>();
    let end = tape.pick(&["", "", "", ",", " ;"]);
    values.join(comma(tape)) + end
}

fn via(tape: &mut Tape<'_>, branch: Option<&str>) -> String {
    let protocol = match tape.below(4) {
        0..=2 => format!(
            "SIP/2.0/{}",
            tape.pick(&["UDP", "udp", "TCP", "x-!%*_+`'~"])
        ),
        _ => [
            "sip",
            lws(tape),
            "/",
            lws(tape),
            "2.0",
            lws(tape),
            "/",
            lws(tape),
            "UDP",
        ]
        .concat(),
    };
    let host = tape.pick(&HOSTS);
    let port = match tape.pick(&["", "5060", "1", "65535", "005080"]) {
        "" => String::new(),
        port => [lws(tape), ":", lws(tape), port].concat(),
    };
    let name = tape.pick(&["branch", "BRANCH", "Branch"]);
    let branch = branch.map(|branch| format!("{name}={branch}"));
    let mut parameters = parameters(tape, branch);
    for parameter in ["rport", "received", "lbm"] {
        if tape.sometimes(3) {
            let value = match parameter {
                "rport" => tape.pick(&["", "=", "=5060", " = 0", "=x"]),
                "received" => tape.pick(&["=192.0.2.9", "", "=2001:db8::9", "="]),
                _ => tape.pick(&["=0123456789abcdef", "=", "=\"x\""]),
            };
            parameters = [";", parameter, value, &parameters].concat();
        }
    }
    [&protocol, blank(tape), host, &port, &parameters].concat()
}

/// What breaks messages, to be put anywhere.
const PIECES: [&[u8]; 40] = [
    b"\r\n",
    b"\n",
    b"\r",
    b"\r\n\r\n",
    b"\r\n ",
    b" ",
    b"\t",
    b",",
    b";",
    b":",
    b"\"",
    b"\\",
    b"<",
    b">",
    b"=",
    b"@",
    b"[",
    b"]",
    b"/",
    b"?",
    b"\0",
    b"\x7f",
    b"\xff",
    b"0",
    b"9",
    b"4294967296",
    b"Via: ",
    b"\r\nv:",
    b"\r\nRoute: <sip:a;lr>",
    b"\r\nCSeq: 1 X",
    b"\r\nl: 0",
    b"\r\nTo: a:b",
    b";tag=x",
    b";branch=x",
    b";rport",
    b";received=1",
    b"SIP/2.0",
    b"\x1b",
    b"\r\nContact: *",
    b"INVITE ",
];

/// Changes a message in one place: a flipped byte, a gap, a repetition, a foreign piece, an early end.
pub fn mutate(tape: &mut Tape<'_>, bytes: &mut Vec<u8>) {
    let at = tape.place(bytes.len() + 1);
    let len = tape.below(40).min(bytes.len() - at);
    match tape.below(6) {
        0 => {
            if let Some(byte) = bytes.get_mut(at) {
                *byte = tape.below(256) as u8;
            }
        }
        1 => drop(bytes.splice(at..at, PIECES[tape.below(PIECES.len())].iter().copied())),
        2 => drop(bytes.drain(at..at + len)),
        3 => {
            let copy = bytes[at..at + len].to_vec();
            let to = tape.place(bytes.len() + 1);
            drop(bytes.splice(to..to, copy));
        }
        4 => {
            let piece = PIECES[tape.below(PIECES.len())];
            drop(bytes.splice(at..at + len, piece.iter().copied()));
        }
        _ => bytes.truncate(at),
    }
}
