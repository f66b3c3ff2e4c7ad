//! `siplb explain` as people and scripts meet it.

mod capture;

use std::{
    fs,
    io::Write,
    os::unix::fs::PermissionsExt,
    path::PathBuf,
    process::{Command, Output, Stdio},
};

use base64::{Engine, engine::general_purpose::STANDARD};
use serde_json::Value;

const CONFIG: &str = "\
node: { name: edge-1, secret_file: DIR/secret }
listeners:
  - name: public
    address: 203.0.113.10
    nat: { detect: [received, contact-private, contact-port], fix: [rport, contact] }
  - { name: public6, address: '2001:db8::10' }
pools:
  - name: switches
    backends:
      - { name: sw1, address: 10.0.0.11:5060, weight: 2 }
      - { name: sw2, address: 10.0.0.12:5060 }
  - { name: six, backends: [ { name: v6a, address: '[2001:db8:2::11]:5060' } ] }
routes:
  - { listener: public6, pool: six }
  - { method: INVITE, pool: switches }
  - { method: REGISTER, pool: switches }
";

const INVITE: &str = "INVITE sip:bob@example.com SIP/2.0\r\n\
    Via: SIP/2.0/UDP 192.168.1.5:5060;branch=z9hG4bK776asdhds;rport\r\n\
    Max-Forwards: 70\r\n\
    To: Bob <sip:bob@example.com>\r\n\
    From: Alice <sip:alice@example.com>;tag=1928301774\r\n\
    Call-ID: a84b4c76e66710@192.168.1.5\r\n\
    CSeq: 314159\r\n  INVITE\r\n\
    Contact: <sip:alice@192.168.1.5>\r\n\
    Proxy-Authorization: Digest username=\"alice\", response=\"0123\"\r\n\
    Content-Type: application/sdp\r\n\
    Content-Length: 4\r\n\
    \r\n\
    v=0\n";
const CLIENT: &str = "198.51.100.7:40000";
const CLIENT6: &str = "[2001:db8:1::7]:40000";

/// A directory with a configuration, gone at the end of the test.
struct Dir(PathBuf);

impl Dir {
    fn new(name: &str) -> Self {
        let dir = std::env::temp_dir().join(format!("siplb-explain-{name}-{}", std::process::id()));
        fs::create_dir_all(&dir).unwrap();
        let dir = Self(dir);
        dir.write("siplb.yaml", CONFIG.replace("DIR", &dir.path("")));
        dir.write("secret", "0123456789abcdef");
        let mode = fs::Permissions::from_mode(0o600);
        fs::set_permissions(dir.path("secret"), mode).unwrap();
        dir
    }

    /// Without a slash at the end.
    fn path(&self, name: &str) -> String {
        let path = self.0.join(name).display().to_string();
        path.trim_end_matches('/').to_owned()
    }

    fn write(&self, name: &str, bytes: impl AsRef<[u8]>) {
        fs::write(self.path(name), bytes).unwrap();
    }

    /// `siplb explain` with the datagram on standard input.
    fn explain(&self, arguments: &[&str], datagram: impl AsRef<[u8]>) -> Output {
        let mut child = Command::new(env!("CARGO_BIN_EXE_siplb"))
            .args(["explain", "--config", &self.path("siplb.yaml")])
            .args(arguments)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        // It may refuse before it has read all.
        let _ = child.stdin.take().unwrap().write_all(datagram.as_ref());
        child.wait_with_output().unwrap()
    }

    #[track_caller]
    fn text(&self, from: &str, datagram: impl AsRef<[u8]>) -> String {
        let output = self.explain(&["--from", from], datagram);
        assert_eq!(output.status.code(), Some(0));
        assert!(output.stderr.is_empty());
        String::from_utf8(output.stdout).unwrap()
    }

    #[track_caller]
    fn json(&self, from: &str, datagram: impl AsRef<[u8]>) -> Value {
        let output = self.explain(&["--json", "--from", from], datagram);
        assert_eq!(output.status.code(), Some(0), "{output:?}");
        serde_json::from_slice(&output.stdout).unwrap()
    }
}

impl Drop for Dir {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// Compares some values of a JSON object, each written as JSON.
#[track_caller]
fn check(json: &Value, wanted: &[(&str, &str)]) {
    for (pointer, value) in wanted {
        let found = json.pointer(pointer);
        let found = found.unwrap_or_else(|| panic!("no {pointer} in {json:#}"));
        assert_eq!(found.to_string(), *value, "{pointer} of {json:#}");
    }
}

/// What would be sent.
fn sent(json: &Value) -> String {
    let bytes = STANDARD.decode(json["datagram"].as_str().unwrap()).unwrap();
    String::from_utf8(bytes).unwrap()
}

/// Value of the first header field of this name.
fn header<'a>(message: &'a str, name: &str) -> &'a str {
    let mut lines = message.lines();
    let line = lines.find_map(|line| line.strip_prefix(&format!("{name}: ")));
    line.unwrap_or_else(|| panic!("no {name} in {message}"))
}

/// The INVITE above as another request, with a To tag and this Route.
fn in_dialog(method: &str, route: &str) -> String {
    INVITE
        .replace("INVITE", method)
        .replace(
            "Bob <sip:bob@example.com>",
            "Bob <sip:bob@example.com>;tag=b",
        )
        .replace("Contact:", &format!("Route: {route}\r\nContact:"))
}

/// What a server answers to a forwarded INVITE.
fn response(forwarded: &str) -> String {
    let vias = forwarded.lines().filter(|line| line.starts_with("Via: "));
    let vias = vias.map(|via| format!("{via}\r\n")).collect::<String>();
    format!(
        "SIP/2.0 200 OK\r\n{vias}From: {}\r\nTo: {};tag=b\r\nCall-ID: {}\r\nCSeq: 314159 INVITE\r\n\r\n",
        header(forwarded, "From"),
        header(forwarded, "To"),
        header(forwarded, "Call-ID")
    )
}

#[test]
fn an_invite_for_people() {
    let dir = Dir::new("invite");
    let wanted = include_str!("invite.txt");
    assert_eq!(dir.text(CLIENT, INVITE), wanted);
}

#[test]
fn a_refusal_for_people() {
    let dir = Dir::new("refusal");
    let bye = in_dialog(
        "BYE",
        "<sip:Ixxx@203.0.113.10;lr>, <sip:next.example.com;lr>",
    );
    let wanted = include_str!("refusal.txt");
    assert_eq!(dir.text(CLIENT, bye), wanted);
}

#[test]
fn bytes_that_a_terminal_would_act_on_for_people() {
    let dir = Dir::new("garbage");
    let wanted = include_str!("garbage.txt");
    assert_eq!(dir.text(CLIENT6, "hello\x1b[31m"), wanted);
}

#[test]
fn an_invite_for_programs() {
    let dir = Dir::new("json");
    let json = dir.json(CLIENT, INVITE);
    check(
        &json,
        &[
            ("/from", "\"198.51.100.7:40000\""),
            ("/to", "\"203.0.113.10:5060\""),
            ("/listener", "\"public\""),
            ("/parse/valid", "true"),
            ("/parse/error", "null"),
            ("/parse/kind", "\"request\""),
            ("/parse/method", "\"INVITE\""),
            ("/parse/status", "null"),
            ("/parse/request_uri", "\"sip:bob@example.com\""),
            ("/parse/call_id", "\"a84b4c76e66710@192.168.1.5\""),
            ("/parse/cseq", "\"314159 INVITE\""),
            ("/parse/from_uri", "\"sip:alice@example.com\""),
            ("/parse/to_uri", "\"sip:bob@example.com\""),
            ("/parse/via_host", "\"192.168.1.5\""),
            ("/parse/via_port", "5060"),
            ("/parse/max_forwards", "70"),
            (
                "/nat/matched",
                "[\"contact-private\",\"received\",\"contact-port\"]",
            ),
            ("/nat/natted", "true"),
            ("/nat/fixed", "[\"contact\"]"),
            ("/nat/fix", "[\"rport\",\"contact\"]"),
            (
                "/nat/not_looked_for",
                "[\"via-private\",\"via-port\",\"contact-address\"]",
            ),
            ("/route/rule", "2"),
            ("/route/pool", "\"switches\""),
            ("/route/strategy", "\"hash-call-id\""),
            ("/route/key", "\"a84b4c76e66710@192.168.1.5\""),
            ("/verdict", "\"forward\""),
            ("/reason", "\"request_to_pool\""),
            ("/notes", "[]"),
        ],
    );
    assert_eq!(json["next_hop"], json["route"]["backend_address"]);
    let sent = sent(&json);
    assert_eq!(header(&sent, "Max-Forwards"), "69");
    assert_eq!(header(&sent, "Contact"), "<sip:alice@198.51.100.7:40000>");
    assert!(sent.ends_with("\r\n\r\nv=0\n"), "{sent}");
    // A retransmission, and the same from a node that was just started: the same to the byte.
    assert_eq!(dir.json(CLIENT, INVITE), json);
    // From a file.
    dir.write("invite.sip", INVITE);
    let file = dir.path("invite.sip");
    let output = dir.explain(&["--json", "--from", CLIENT, &file], "");
    assert_eq!(
        serde_json::from_slice::<Value>(&output.stdout).unwrap(),
        json
    );
}

#[test]
fn a_dialog_follows_its_token_both_ways() {
    let dir = Dir::new("dialog");
    let invite = dir.json(CLIENT, INVITE);
    let backend = invite["next_hop"].as_str().unwrap().to_owned();
    let forwarded = sent(&invite);
    let bye = in_dialog("BYE", header(&forwarded, "Record-Route"));

    let json = dir.json(CLIENT, &bye);
    let quoted = |text: &str| format!("\"{text}\"");
    check(
        &json,
        &[
            ("/verdict", "\"forward\""),
            ("/reason", "\"request_to_backend\""),
            ("/next_hop", &quoted(&backend)),
            ("/route/backend", &invite["route"]["backend"].to_string()),
            ("/route/rule", "null"),
            ("/route/pool", "null"),
            ("/route_headers/0/owner", "\"token\""),
            ("/route_headers/0/client", &quoted(CLIENT)),
            ("/route_headers/0/backend", &quoted(&backend)),
            ("/route_headers/0/taken", "true"),
        ],
    );
    assert!(!sent(&json).contains("Route:"));
    let json = dir.json(&backend, &bye);
    check(
        &json,
        &[
            ("/reason", "\"request_to_client\""),
            ("/next_hop", &quoted(CLIENT)),
            ("/route/backend", "null"),
        ],
    );

    let answer = response(&forwarded);
    let json = dir.json(&backend, &answer);
    check(
        &json,
        &[
            ("/parse/kind", "\"response\""),
            ("/parse/status", "200"),
            ("/parse/method", "null"),
            ("/parse/request_uri", "null"),
            ("/parse/cseq", "\"314159 INVITE\""),
            ("/parse/max_forwards", "null"),
            ("/verdict", "\"forward\""),
            ("/reason", "\"response\""),
            ("/next_hop", &quoted(CLIENT)),
        ],
    );
    let ours = forwarded.lines().find(|line| line.starts_with("Via: "));
    let text = dir.text(&backend, &answer);
    let removed = format!("\n    SIP/2.0 200 OK\n  - {}\n    Via: ", ours.unwrap());
    assert!(text.contains(&removed), "{text}");
    let forged = answer.replace("received=198.51.100.7", "received=198.51.100.8");
    assert_ne!(forged, answer);
    check(
        &dir.json(&backend, &forged),
        &[
            ("/verdict", "\"drop\""),
            ("/reason", "\"response_bad_mac\""),
            ("/next_hop", "null"),
            ("/datagram", "null"),
        ],
    );
    let text = dir.text(&backend, &forged);
    assert!(
        text.contains("MAC       not valid for that address"),
        "{text}"
    );
    assert!(
        text.contains("\n  look at     the next Via was changed"),
        "{text}"
    );
}

#[test]
fn what_is_answered_or_dropped() {
    let dir = Dir::new("others");
    let zero = INVITE.replace("Max-Forwards: 70", "Max-Forwards: 0");
    let options = zero.replace("INVITE", "OPTIONS");
    let ack = INVITE
        .replace("INVITE", "ACK")
        .replace("Via:", "Via")
        .replace("Max-Forwards: 70", "Max-Forwards: 0");
    let token = in_dialog("BYE", "<sip:IsYzZAecQAoAAAwTxOgHKULS0kDu@203.0.113.10;lr>");
    let for_us = INVITE.replace("INVITE sip:bob@example.com", "INVITE sip:bob@203.0.113.10");
    let unroutable = INVITE.replace("INVITE", "MESSAGE");
    let stun = *b"\0\x01\0\0\x21\x12\xa4\x42abcdefghijkl";
    for (from, datagram, verdict, reason, start) in [
        (
            CLIENT,
            zero.as_bytes(),
            "reply",
            "max_forwards_exceeded",
            "SIP/2.0 483 ",
        ),
        (
            CLIENT,
            options.as_bytes(),
            "reply",
            "options_answered",
            "SIP/2.0 200 ",
        ),
        (
            CLIENT,
            token.as_bytes(),
            "reply",
            "bad_flow_token",
            "SIP/2.0 403 ",
        ),
        (
            CLIENT,
            unroutable.as_bytes(),
            "reply",
            "no_route_rule",
            "SIP/2.0 404 ",
        ),
        (
            "10.0.0.12:9",
            for_us.as_bytes(),
            "reply",
            "from_backend_without_token",
            "SIP/2.0 403 ",
        ),
        (CLIENT, b"\r\n\r\n", "reply", "keepalive_crlf", "\r\n"),
        (CLIENT, b"\r\n", "drop", "line_ends", ""),
        (CLIENT, b"", "drop", "empty", ""),
        (CLIENT, b"\0\0\0\0", "drop", "nuls", ""),
        (CLIENT, b"GET / HTTP/1.0\r\n\r\n", "drop", "not_sip", ""),
        (CLIENT, ack.as_bytes(), "drop", "malformed_ack", ""),
        (
            CLIENT,
            &INVITE.as_bytes()[..200],
            "reply",
            "no_empty_line",
            "SIP/2.0 400 ",
        ),
    ] {
        let json = dir.json(from, datagram);
        check(
            &json,
            &[
                ("/verdict", &format!("\"{verdict}\"")),
                ("/reason", &format!("\"{reason}\"")),
            ],
        );
        match start {
            "" => assert!(json["datagram"].is_null() && json["next_hop"].is_null()),
            start => {
                assert!(sent(&json).starts_with(start), "{}", sent(&json));
                assert_eq!(json["next_hop"], from);
            }
        }
        let text = dir.text(from, datagram);
        assert!(
            text.contains(&format!("  counted as  {reason}\n")),
            "{text}"
        );
    }
    // The reply is no text.
    check(
        &dir.json(CLIENT, stun),
        &[("/reason", "\"keepalive_stun\"")],
    );
    assert!(dir.text(CLIENT, stun).contains("Reply\n    0101 "));
    // Our reply and its ACK.
    let refused = sent(&dir.json(CLIENT, &zero));
    let ack = zero.replace("INVITE", "ACK").replace(
        "To: Bob <sip:bob@example.com>",
        &format!("To: {}", header(&refused, "To")),
    );
    check(
        &dir.json(CLIENT, ack),
        &[
            ("/verdict", "\"absorb\""),
            ("/reason", "\"own_reply_acked\""),
        ],
    );
}

#[test]
fn what_a_backend_sends_to_the_outside() {
    let dir = Dir::new("outbound");
    let backend = "10.0.0.12:9";
    // The name servers are not asked: that they would be is all that can be said.
    let json = dir.json(backend, INVITE);
    check(
        &json,
        &[
            ("/verdict", "\"forward\""),
            ("/reason", "\"awaits_name\""),
            ("/awaits_name", "\"example.com\""),
            ("/next_hop", "null"),
            ("/datagram", "null"),
        ],
    );
    let text = dir.text(backend, INVITE);
    assert!(
        text.starts_with("INVITE from 10.0.0.12:9 to 203.0.113.10:5060 (public): forwarded to an address of example.com\n"),
        "{text}"
    );
    let counted = "  counted as  request_outbound when example.com has an address\n";
    assert!(text.contains(counted), "{text}");
    let to_address = INVITE.replace("bob@example.com SIP", "bob@192.0.2.50:5070 SIP");
    let json = dir.json(backend, &to_address);
    check(
        &json,
        &[
            ("/verdict", "\"forward\""),
            ("/reason", "\"request_outbound\""),
            ("/awaits_name", "null"),
            ("/next_hop", "\"192.0.2.50:5070\""),
            ("/route/pool", "null"),
        ],
    );
    assert!(sent(&json).starts_with(
        "INVITE sip:bob@192.0.2.50:5070 SIP/2.0\r\nVia: SIP/2.0/UDP 203.0.113.10:5060;"
    ));
    let text = dir.text(backend, &to_address);
    assert!(text.contains("  counted as  request_outbound\n"), "{text}");
}

#[test]
fn ipv6_and_the_listener() {
    let dir = Dir::new("six");
    let text = INVITE.replace("192.168.1.5:5060;", "[2001:DB8:1::7];");
    let json = dir.json(CLIENT6, &text);
    check(
        &json,
        &[
            ("/parse/via_host", "\"2001:DB8:1::7\""),
            ("/parse/via_port", "null"),
            ("/listener", "\"public6\""),
            ("/route/rule", "1"),
            ("/route/pool", "\"six\""),
            ("/next_hop", "\"[2001:db8:2::11]:5060\""),
        ],
    );
    for (arguments, wanted) in [
        (
            &["--from", CLIENT, "--to", "203.0.113.11:5060"][..],
            "--to 203.0.113.11:5060: no listener has this address and port",
        ),
        (
            &["--from", CLIENT, "--to", "[2001:db8::10]:5060"],
            "--from 198.51.100.7:40000 and --to [2001:db8::10]:5060 are not of one family",
        ),
    ] {
        let output = dir.explain(arguments, INVITE);
        let wanted = format!(
            "siplb: {wanted}; listeners: 203.0.113.10:5060 (public), [2001:db8::10]:5060 (public6)\n"
        );
        assert_eq!(String::from_utf8(output.stderr).unwrap(), wanted);
        assert_eq!(output.status.code(), Some(2));
    }
}

#[test]
fn what_cannot_be_explained() {
    let dir = Dir::new("cannot");
    let long = vec![b'a'; 65_508];
    let output = dir.explain(&["--from", CLIENT], &long);
    assert_eq!(output.status.code(), Some(1));
    let stderr = String::from_utf8(output.stderr).unwrap();
    assert!(
        stderr.starts_with("siplb: standard input: is longer than 65507 bytes"),
        "{stderr}"
    );
    // One byte less is a datagram.
    check(
        &dir.json(CLIENT, &long[1..]),
        &[
            ("/reason", "\"not_sip\""),
            ("/parse/valid", "false"),
            ("/parse/kind", "null"),
        ],
    );
    let output = dir.explain(&["--from", CLIENT, "/no/such/file"], "");
    assert_eq!(output.status.code(), Some(1));
    for arguments in [
        &[][..],
        &["--from", "198.51.100.7"],
        &["--from", "phone:5060"],
    ] {
        assert_eq!(dir.explain(arguments, INVITE).status.code(), Some(2));
    }
    dir.write("siplb.yaml", "node: { name: a }");
    assert_eq!(
        dir.explain(&["--from", CLIENT], INVITE).status.code(),
        Some(2)
    );
}

#[test]
fn without_the_secret_it_says_so_and_goes_on() {
    let dir = Dir::new("secret");
    fs::remove_file(dir.path("secret")).unwrap();
    let output = dir.explain(&["--from", CLIENT], INVITE);
    assert_eq!(output.status.code(), Some(0));
    let wanted = "Note: the secret cannot be read, so this runs with an empty secret";
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(text.starts_with(wanted), "{text}");
    assert!(output.stderr.is_empty());
    // Programs read the one, people the other.
    let output = dir.explain(&["--json", "--from", CLIENT], INVITE);
    let text = String::from_utf8(output.stderr).unwrap();
    assert!(text.starts_with(wanted), "{text}");
    assert!(dir.json(CLIENT, INVITE)["notes"][0].is_string());
    dir.write("secret", "short");
    assert!(dir.json(CLIENT, INVITE)["notes"][0].is_string());
}
