//! What is read in a message is what independent readers found in it.

use lb_userspace::sip::{self, HeaderField, Span, StartLine};

use super::{
    exceptions,
    folder::{self, Expected, Message, Valid},
    slow::on_one_line,
};

#[test]
fn facts_are_those_of_the_independent_readers() {
    let mut findings = Vec::new();
    let mut compared = 0;
    let mut valid = 0;
    for message in folder::all() {
        let Some(expected) = &message.expected else {
            continue;
        };
        if message.valid() != Valid::Yes {
            continue;
        }
        valid += 1;
        let Ok(read) = sip::read(&message.bytes) else {
            findings.push(format!("{}: no SIP", message.file));
            continue;
        };
        if read.fault.is_some() {
            findings.push(format!("{}: {:?}", message.file, read.fault));
        }
        for (column, found) in facts(&message, &read) {
            compared += 1;
            compare(&message, expected, column, found, &mut findings);
        }
    }
    println!("{compared} facts of {valid} valid messages");
    assert!(
        findings.is_empty(),
        "{} findings\n{}",
        findings.len(),
        findings.join("\n")
    );
}

fn compare(
    message: &Message,
    expected: &Expected,
    column: &str,
    found: Option<Vec<u8>>,
    findings: &mut Vec<String>,
) {
    let wanted = expected.get(column);
    let exception = exceptions::fact(&message.file, column);
    let is_as_wanted = found.as_deref() == wanted;
    let show = |bytes: Option<&[u8]>| {
        bytes
            .map(String::from_utf8_lossy)
            .map(|text| text.into_owned())
    };
    if is_as_wanted == exception {
        findings.push(format!(
            "{}: {column} is {:?}, expected {:?}{}",
            message.file,
            show(found.as_deref()),
            show(wanted),
            if exception {
                ", with an exception for nothing"
            } else {
                ""
            }
        ));
    }
}

/// The columns of the table that we read as well.
fn facts(message: &Message, read: &sip::Message) -> Vec<(&'static str, Option<Vec<u8>>)> {
    let bytes = &message.bytes[..];
    let span = |span: Option<Span>| span.map(|span| on_one_line(span.of(bytes)));
    let field = |field: Option<HeaderField>| span(field.map(|field| field.value));
    let (start, request_uri) = match read.start_line {
        StartLine::Request { name, uri, .. } => (name.of(bytes).to_vec(), Some(uri)),
        StartLine::Response { status } => (status.to_string().into_bytes(), None),
    };
    let via = read.via;
    let host = span(via.map(|via| via.host)).map(|host| {
        let inner = host
            .strip_prefix(b"[")
            .and_then(|host| host.strip_suffix(b"]"));
        inner.map_or(host.clone(), <[u8]>::to_vec)
    });
    let port = via
        .and_then(|via| via.port)
        .map(|port| port.to_string().into_bytes());
    let mut facts = vec![
        ("method_or_status", Some(start)),
        ("request_uri", span(request_uri)),
        ("call_id", field(read.call_id)),
        ("cseq", field(read.cseq)),
        ("via_host", host),
        ("via_port", port),
        ("from_uri", span(read.from_uri())),
        ("to_uri", span(read.to_uri())),
    ];
    // A proxy has no use for it in a response.
    if request_uri.is_some() {
        facts.push((
            "max_forwards",
            span(read.max_forwards.map(|hops| hops.digits)),
        ));
    }
    facts
}
