//! `siplb trace` as people and scripts meet it, with a node that says what the test wants.

use std::{
    fs,
    path::PathBuf,
    process::{Command, Output},
    sync::{Arc, Mutex},
    time::Duration,
};

use lb_userspace::control::{
    Request,
    server::{self, Answer, Server},
    trace::{Line, Traced},
};
use serde_json::{Value, json};

const MESSAGE: &str = "REGISTER sip:example.com SIP/2.0\r\n\
    Authorization: Digest username=\"alice\",\r\n response=\"0123456789abcdef\"\r\n\
    Max-Forwards: 70\r\n\r\n";

struct Dir(PathBuf);

impl Dir {
    fn new(name: &str) -> Self {
        let dir = std::env::temp_dir().join(format!("siplb-trace-{name}-{}", std::process::id()));
        fs::create_dir_all(&dir).unwrap();
        Self(dir)
    }

    fn trace(&self, arguments: &[&str]) -> Output {
        let mut command = Command::new(env!("CARGO_BIN_EXE_siplb"));
        command.arg("trace").args(arguments);
        command.arg("--socket").arg(self.0.join("control.sock"));
        command.output().unwrap()
    }

    /// A node that sends these lines and then waits, or ends the trace; and what it was asked.
    fn node(&self, lines: Vec<Line>, stays: bool) -> (Server, Arc<Mutex<Option<Request>>>) {
        let asked = Arc::new(Mutex::new(None));
        let question = Arc::clone(&asked);
        let handler = move |request: &Request| {
            *question.lock().unwrap() = Some(request.clone());
            let lines = lines.clone();
            let body = move |client: &server::Client<'_>| {
                for line in lines {
                    client.send(format!("{}\n", serde_json::to_string(&line)?).as_bytes())?;
                }
                client.send(b"{\"event\":\"of a newer node\"}\n")?;
                while stays && client.stays(Duration::from_millis(10))? {}
                Ok(())
            };
            Answer::Stream(json!({ "ok": true }), Box::new(body))
        };
        let server = server::serve(&self.0.join("control.sock"), Arc::new(handler)).unwrap();
        (server, asked)
    }
}

impl Drop for Dir {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

fn message() -> Line {
    let sent = MESSAGE.replace("70", "69");
    Line::Message(Box::new(Traced {
        time: "2026-09-21T14:13:20.000123456Z".into(),
        time_ns: 1_790_000_000_000_123_456,
        way: "af-xdp".into(),
        call: Some("01".into()),
        source: "198.51.100.7:40000".parse().ok(),
        destination: "203.0.113.10:5060".parse().ok(),
        method: Some("REGISTER".into()),
        verdict: "forward".into(),
        outcome: "request_to_pool".into(),
        sent_from: "203.0.113.10:5060".parse().ok(),
        sent_to: "10.0.0.11:5060".parse().ok(),
        backend: Some("sw1".into()),
        received: MESSAGE.into(),
        received_len: MESSAGE.len(),
        sent_len: sent.len(),
        sent: sent.into(),
        ..Traced::default()
    }))
}

fn stdout(output: &Output) -> String {
    String::from_utf8(output.stdout.clone()).unwrap()
}

#[test]
fn filters_go_to_the_node_and_the_count_ends_it() {
    let dir = Dir::new("count");
    let (_node, asked) = dir.node(vec![message(), message(), message()], true);
    let output = dir.trace(&[
        "--count",
        "2",
        "--call-id",
        "a84b",
        "--from",
        "alice",
        "--to",
        "bob@x",
        "--source",
        "10.0.0.7",
        "--errors",
    ]);
    assert!(output.status.success(), "{output:?}");
    assert_eq!(stdout(&output).matches("REGISTER").count(), 4, "{output:?}");
    let asked = asked.lock().unwrap().take().unwrap();
    assert_eq!(
        Value::from(asked.arguments),
        json!({ "call_id": "a84b", "from": "alice", "to": "bob@x", "source": "10.0.0.7/32", "errors": true, "limit": 10_000 })
    );
}

#[test]
fn what_a_client_proves_itself_with_is_shown_on_demand_alone() {
    let dir = Dir::new("credentials");
    let (_node, _) = dir.node(vec![message()], true);
    let secret = "0123456789abcdef";
    let full = stdout(&dir.trace(&["--count", "1", "--full"]));
    assert!(full.contains("    Authorization: (not shown)\n"), "{full}");
    assert!(
        full.contains("  - Max-Forwards: 70\n  + Max-Forwards: 69\n"),
        "{full}"
    );
    assert!(!full.contains(secret), "{full}");
    let full = stdout(&dir.trace(&["--count", "1", "--full", "--credentials"]));
    assert!(full.contains(secret), "{full}");

    let bytes = |arguments: &[&str]| match serde_json::from_str(&stdout(&dir.trace(arguments))) {
        Ok(Line::Message(message)) => String::from_utf8(message.received).unwrap(),
        other => panic!("{other:?}"),
    };
    let shown = bytes(&["--count", "1", "--json"]);
    assert!(
        shown.contains("Authorization: (not shown)\r\nMax-Forwards: 70\r\n"),
        "{shown}"
    );
    assert_eq!(bytes(&["--count", "1", "--json", "--credentials"]), MESSAGE);

    let file = dir.0.join("trace.pcap");
    let output = dir.trace(&["--count", "1", "--pcap", file.to_str().unwrap()]);
    assert_eq!(
        String::from_utf8_lossy(&output.stderr),
        "1 message, 0 left out\n"
    );
    let capture = fs::read(&file).unwrap();
    let whole = capture
        .windows(MESSAGE.len())
        .any(|window| window == MESSAGE.as_bytes());
    assert!(whole, "{}", capture.escape_ascii());
    use std::os::unix::fs::MetadataExt;
    assert_eq!(fs::metadata(&file).unwrap().mode() & 0o777, 0o600);
    let to_stdout = dir.trace(&["--count", "1", "--pcap", "-"]);
    assert_eq!(to_stdout.stdout, capture);
}

#[test]
fn what_is_missing_is_said() {
    let dir = Dir::new("lost");
    let lost = |queue_full| Line::Lost {
        queue_full,
        limited: 5,
    };
    let lines = vec![lost(2000), message(), lost(2001), message()];
    let (_node, _) = dir.node(lines, true);
    let text = stdout(&dir.trace(&["--count", "2"]));
    assert!(text.contains("... 2,005 messages left out"), "{text}");
    assert!(text.contains("... 1 message left out"), "{text}");
    let json = stdout(&dir.trace(&["--count", "2", "--json"]));
    let first: Value = serde_json::from_str(json.lines().next().unwrap()).unwrap();
    assert_eq!(
        first,
        json!({ "event": "lost", "queue_full": 2000, "limited": 5 })
    );
}

#[test]
fn it_ends_after_its_time_or_with_the_node() {
    let dir = Dir::new("end");
    let nobody = dir.trace(&[]);
    assert_eq!(nobody.status.code(), Some(1));
    assert!(
        String::from_utf8_lossy(&nobody.stderr).contains("nobody answers"),
        "{nobody:?}"
    );
    let (node, _) = dir.node(vec![message()], true);
    let output = dir.trace(&["--duration", "300ms"]);
    assert!(
        output.status.success() && stdout(&output).contains("REGISTER"),
        "{output:?}"
    );
    drop(node);
    let (_node, _) = dir.node(vec![message()], false);
    let output = dir.trace(&[]);
    assert_eq!(output.status.code(), Some(1));
    assert_eq!(
        String::from_utf8_lossy(&output.stderr),
        "siplb: the node has ended the trace\n"
    );
    for wrong in [
        &["--source", "example.com"][..],
        &["--duration", "5"],
        &["--duration", "0s"],
        &["--count", "0"],
        &["--limit", "0"],
        &["--pcap", "x", "--json"],
    ] {
        assert_eq!(dir.trace(wrong).status.code(), Some(2), "{wrong:?}");
    }
}
