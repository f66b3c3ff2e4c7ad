//! What the RFC test cases share: a message by its name, and what is owed to it.

use super::{
    compare,
    edge::{BACKENDS, CLIENTS, Edge, Sent, Treatment, VIPS, address},
    folder, slow,
    way_back::WayBack,
};

pub fn message(name: &str) -> Vec<u8> {
    let path = folder::own().join(format!("{name}.sip"));
    std::fs::read(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// Sends the message from a client of each family and checks what becomes of it.
#[track_caller]
fn check(name: &str, wanted: Treatment) -> Vec<Sent> {
    let message = message(name);
    let mut edge = Edge::new("");
    let families = CLIENTS.into_iter().enumerate();
    let sent = families.map(|(family, client)| {
        let sent = edge.send(address(client), &message);
        assert_eq!(
            sent.treatment,
            wanted,
            "{name}: {:?} {}",
            sent.outcome,
            sent.text()
        );
        if wanted == Treatment::Forwarded {
            let whole = compare::request(
                &message,
                &sent.bytes,
                address(client),
                address(VIPS[family]),
            );
            assert_eq!(whole, Ok(()), "{name}: {}", sent.text());
            assert_eq!(sent.to, Some(address(BACKENDS[family])), "{name}");
        }
        sent
    });
    sent.collect()
}

/// The request goes on, all bytes intact but for what a proxy has to change.
#[track_caller]
pub fn forwarded(name: &str) -> Vec<Sent> {
    check(name, Treatment::Forwarded)
}

/// The request is answered with a status.
#[track_caller]
pub fn refused(name: &str, status: u16) -> Vec<Sent> {
    check(name, Treatment::Refused(status))
}

/// Nothing is sent to anybody.
#[track_caller]
pub fn dropped(name: &str) {
    check(name, Treatment::Dropped);
}

/// The response comes to us from nowhere: it is dropped. With our Via on top it goes where its own first Via says, and
/// is then what it was.
#[track_caller]
pub fn comes_back(name: &str) -> WayBack {
    dropped(name);
    let mut edge = Edge::new("");
    let way_back = WayBack::new(&mut edge, &message(name)).expect("a way back");
    assert_eq!(
        way_back.take(&mut edge),
        (Treatment::Forwarded, Ok(())),
        "{name}"
    );
    way_back
}

/// The response is dropped also with our Via on top.
#[track_caller]
pub fn never_comes_back(name: &str) {
    dropped(name);
    let mut edge = Edge::new("");
    let way_back = WayBack::new(&mut edge, &message(name)).expect("a way back");
    assert_eq!(
        way_back.take(&mut edge),
        (Treatment::Dropped, Ok(())),
        "{name}"
    );
}

#[test]
fn any_other_byte_that_changes_is_seen() {
    let source = address(CLIENTS[0]);
    let vip = address(VIPS[0]);
    for name in ["rfc4475/wsinv", "rfc4475/longreq", "rfc5118/mult-ip-in-sdp"] {
        let input = message(name);
        let sent = Edge::new("").send(source, &input);
        assert_eq!(compare::request(&input, &sent.bytes, source, vip), Ok(()));
        let left = slow::read(&sent.bytes);
        let start = left.start_line.len();
        let ours = left
            .fields
            .iter()
            .take_while(|field| field.name != "to" && field.name != "from");
        let ours = start..start + ours.map(|field| field.raw.len()).sum::<usize>();
        for at in (0..sent.bytes.len()).filter(|at| !ours.contains(at)) {
            let mut changed = sent.bytes.clone();
            changed[at] ^= 1;
            assert!(
                compare::request(&input, &changed, source, vip).is_err(),
                "{name}: byte {at}"
            );
        }
    }
}

#[test]
fn what_we_add_to_a_register_is_looked_at() {
    let (source, vip) = (address(CLIENTS[0]), address(VIPS[0]));
    let input = message("rfc5118/port-unambiguous");
    let sent = Edge::new("").send(source, &input).text();
    let compare = |text: &str| compare::request(&input, text.as_bytes(), source, vip);
    assert_eq!(compare(&sent), Ok(()));
    let line = |name: &str| {
        let mut lines = sent.split_inclusive("\r\n");
        let line = lines.find(|line| line.starts_with(name));
        line.expect("a line of ours").to_owned()
    };
    let (path, supported) = (line("Path:"), line("Supported:"));
    for changed in [
        sent.replace(&path, ""),
        sent.replace(&supported, ""),
        sent.replace(&path, "").replace(&supported, ""),
        sent.replace(&path, &path.repeat(2)),
        sent.replace(&supported, &supported.repeat(2)),
        sent.replace(&format!("{path}{supported}"), &format!("{supported}{path}")),
        sent.replace(&path, &path.replace("Path", "Route")),
        sent.replace(&path, &path.replace(";lr", "")),
        sent.replace(&path, &path.replace(";lr", ";lr;ob;lb")),
        sent.replace(&path, &path.replace(":5060", ":5070")),
        sent.replace(&path, &path.replace("@", "AAAA@")),
        sent.replace(&supported, "Supported: path  \r\n"),
    ] {
        assert!(compare(&changed).is_err(), "{changed}");
    }
    // A client that says so itself needs no word of ours.
    let mine = "Supported: outbound, path\r\nContact:";
    let input = String::from_utf8(input.clone()).expect("text");
    let input = input.replace("Contact:", mine);
    let sent = Edge::new("").send(source, input.as_bytes()).text();
    let compare = |text: &str| compare::request(input.as_bytes(), text.as_bytes(), source, vip);
    assert_eq!(compare(&sent), Ok(()));
    let twice = sent.replace(&path, &format!("{path}{supported}"));
    assert!(twice != sent && compare(&twice).is_err(), "{twice}");
}
