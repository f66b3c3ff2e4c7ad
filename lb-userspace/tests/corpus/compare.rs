//! What a forwarded request may differ in from the one that arrived, looked at with the slow reader.

use std::net::SocketAddr;

use super::{
    mend::{self, Fixes},
    slow::{Field, Slow, SlowVia, first_of_list, read},
};

/// Says what is wrong with `output`, the request that left, as a forwarded form of `input`, which came from `source`
/// to `vip`.
pub fn request(
    input: &[u8],
    output: &[u8],
    source: SocketAddr,
    vip: SocketAddr,
) -> Result<(), String> {
    mended(input, output, source, vip, Fixes::default())
}

/// The same with fixes for a client behind a NAT.
pub fn mended(
    input: &[u8],
    output: &[u8],
    source: SocketAddr,
    vip: SocketAddr,
    fixes: Fixes,
) -> Result<(), String> {
    compare(input, output, source, vip, fixes, true)
}

/// The same for a request that comes from the inside: nobody registers with us there.
pub fn outbound(
    input: &[u8],
    output: &[u8],
    source: SocketAddr,
    vip: SocketAddr,
) -> Result<(), String> {
    compare(input, output, source, vip, Fixes::default(), false)
}

fn compare(
    input: &[u8],
    output: &[u8],
    source: SocketAddr,
    vip: SocketAddr,
    fixes: Fixes,
    from_client: bool,
) -> Result<(), String> {
    let (before, after) = (read(input), read(output));
    same("start line", before.start_line, after.start_line)?;
    same("line ends in front", b"", after.leading)?;
    match fixes.sdp {
        true => mend::body(before.rest, after.rest, source)?,
        false => same("body", before.rest, after.rest)?,
    }
    if input.len() % 2 != output.len() % 2 {
        return Err("an odd number of bytes was added".into());
    }
    let mut left = after.fields.iter().peekable();
    our_via(left.next(), vip)?;
    let our_host = format!("@{vip};");
    let is_ours =
        |field: &&Field<'_>| field.name == "record-route" && text(&field.value).contains(&our_host);
    if let Some(field) = left.next_if(is_ours) {
        our_route(field, "Record-Route", vip, ";lr")?;
    }
    if from_client && before.start_line.starts_with(b"REGISTER ") {
        registration(&before, &mut left, vip)?;
    }
    if before.named("max-forwards").next().is_none() {
        match left.next() {
            // RFC 3261 §16.6 step 3.
            Some(field) if field.name == "max-forwards" && field.value == b"70" => {}
            _ => return Err("no Max-Forwards: 70 was added".into()),
        }
    }
    let growth = after.rest.len() as isize - before.rest.len() as isize;
    header_fields(&before, left, source, fixes, growth)
}

/// A REGISTER of a client has a Path of ours behind our Via, and says that the client supports it (RFC 3327 §5.1).
fn registration<'a>(
    before: &Slow<'_>,
    left: &mut impl Iterator<Item = &'a Field<'a>>,
    vip: SocketAddr,
) -> Result<(), String> {
    let path = left.next().filter(|field| field.name == "path");
    let path = path.ok_or("no Path behind our Via")?;
    let has_reg_id = |field: &Field<'_>| text(&field.value).contains("reg-id=");
    let vias = before
        .named("via")
        .map(|via| split_list(&via.value))
        .sum::<usize>();
    let keeps_flow = vias == 1 && before.named("contact").any(has_reg_id);
    our_route(path, "Path", vip, if keeps_flow { ";lr;ob" } else { ";lr" })?;
    let supports = before.named("supported").any(|field| {
        let value = text(&field.value);
        let mut tags = value.split(',');
        tags.any(|tag| tag.trim().eq_ignore_ascii_case("path"))
    });
    match supports {
        true => Ok(()),
        false => match left.next() {
            Some(field) => same("Supported of ours", b"Supported:  path\r\n", field.raw),
            None => Err("no Supported behind our Path".into()),
        },
    }
}

/// How many values a list has.
fn split_list(mut value: &[u8]) -> usize {
    let mut count = 1;
    while let Some((b',', rest)) = value[first_of_list(value).len()..].split_first() {
        count += 1;
        value = rest;
    }
    count
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

fn header_fields<'a>(
    before: &Slow<'_>,
    mut left: impl Iterator<Item = &'a Field<'a>>,
    source: SocketAddr,
    fixes: Fixes,
    growth: isize,
) -> Result<(), String> {
    let mut vias = 0;
    for was in &before.fields {
        let is = left
            .next()
            .ok_or_else(|| format!("{} is missing", was.name))?;
        if was.name == "via" {
            vias += 1;
        }
        match was.name.as_str() {
            "via" if vias == 1 => top_via(was, is, source, fixes.rport)?,
            "max-forwards" => grown(was, is, -1)?,
            "contact" => mend::contact(was, is, source, fixes)?,
            "content-length" if growth != 0 => grown(was, is, growth)?,
            _ => same(&was.name, was.raw, is.raw)?,
        }
    }
    match left.next() {
        Some(more) => Err(format!("{} is new", String::from_utf8_lossy(more.raw))),
        None => Ok(()),
    }
}

fn our_via(field: Option<&Field<'_>>, vip: SocketAddr) -> Result<(), String> {
    let ours = field
        .filter(|field| field.name == "via")
        .ok_or("no Via on top")?;
    let via = SlowVia::read(&ours.value);
    let is_ours = via.response_target() == Some(vip)
        && ours.value.starts_with(b"SIP/2.0/UDP ")
        && via
            .parameter("branch")
            .is_some_and(|branch| branch.starts_with("z9hG4bK"));
    match is_ours {
        true => Ok(()),
        false => Err(format!(
            "the top Via is not ours: {}",
            String::from_utf8_lossy(ours.raw)
        )),
    }
}

/// `NAME: <sip:TOKEN@VIP;lr>`, and a pad where the number of bytes would be odd.
fn our_route(
    field: &Field<'_>,
    name: &str,
    vip: SocketAddr,
    parameters: &str,
) -> Result<(), String> {
    let raw = text(field.raw);
    let start = format!("{name}: <sip:");
    let is_token = |token: &str| {
        let is_letter = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_');
        token.len() == if vip.is_ipv4() { 28 } else { 60 } && token.bytes().all(is_letter)
    };
    let rest = raw
        .strip_prefix(&start)
        .and_then(|rest| rest.split_once('@'));
    let plain = format!("{vip}{parameters}>\r\n");
    let padded = format!("{vip}{parameters};lb>\r\n");
    let is_ours = rest.is_some_and(|(token, rest)| {
        is_token(token) && (rest == plain || rest == padded) && raw.len().is_multiple_of(2)
    });
    match is_ours {
        true => Ok(()),
        false => Err(format!("the {name} is not ours: {raw}")),
    }
}

/// The client's Via may gain `received`, `rport` with a value, and a pad; nothing else.
fn top_via(
    was: &Field<'_>,
    is: &Field<'_>,
    source: SocketAddr,
    force_rport: bool,
) -> Result<(), String> {
    let (before, after) = (SlowVia::read(&was.value), SlowVia::read(&is.value));
    let has = |wanted: &str| before.parameters.iter().any(|(name, _)| name == wanted);
    let asks = force_rport || has("rport");
    // RFC 3581 §4: with `rport` also when sent-by is right.
    let received = asks || has("received") || before.host.parse() != Ok(source.ip());
    if after.parameter("received").map(str::to_owned) != received.then(|| source.ip().to_string()) {
        return Err(format!("received is {:?}", after.parameter("received")));
    }
    if after.parameter("rport").map(str::to_owned) != asks.then(|| source.port().to_string()) {
        return Err(format!("rport is {:?}", after.parameter("rport")));
    }
    same(
        "Via but for the stamp",
        &unstamped(was.raw),
        &unstamped(is.raw),
    )
}

/// The bytes of a Via without the parameters that may change in its first value.
fn unstamped(raw: &[u8]) -> Vec<u8> {
    let text = String::from_utf8_lossy(raw).into_owned();
    let (mut out, mut quoted, mut first) = (String::new(), false, true);
    for part in text.split_inclusive([';', ',', '"']) {
        // What a delimiter ends is kept or not as a whole; inside quotes nothing is a delimiter.
        let name = part.split(['=', ';', ',', '"', ' ', '\r', '\t']).next();
        let name = name.unwrap_or_default().to_ascii_lowercase();
        let stamp = matches!(name.as_str(), "received" | "rport" | "lb");
        if stamp && !quoted && first && out.ends_with(';') {
            out.pop();
            out.extend(
                part.chars()
                    .skip_while(|letter| !matches!(letter, ';' | ',' | ' ' | '\r' | '\n')),
            );
        } else {
            out.push_str(part);
        }
        match part.chars().last() {
            Some('"') => quoted = !quoted,
            Some(',') if !quoted => first = false,
            _ => {}
        }
    }
    out.into_bytes()
}

/// A number that is larger by `growth`.
fn grown(was: &Field<'_>, is: &Field<'_>, growth: isize) -> Result<(), String> {
    let number = |field: &Field<'_>| String::from_utf8_lossy(&field.value).parse::<isize>().ok();
    match (number(was), number(is)) {
        (Some(was), Some(is)) if is == was + growth => {}
        numbers => return Err(format!("{} went {numbers:?}", was.name)),
    }
    // The name, the blanks and the line end stay as they are, but for a blank as pad.
    let frame = |raw: &[u8]| {
        raw.iter()
            .filter(|byte| !byte.is_ascii_digit() && **byte != b' ')
            .copied()
            .collect::<Vec<_>>()
    };
    same(
        &format!("{} but for the number", was.name),
        &frame(was.raw),
        &frame(is.raw),
    )
}

fn same(what: &str, before: &[u8], after: &[u8]) -> Result<(), String> {
    match before == after {
        true => Ok(()),
        false => Err(format!(
            "{what} changed from {:?} to {:?}",
            String::from_utf8_lossy(before),
            String::from_utf8_lossy(after)
        )),
    }
}
