//! Who connects, and how much that may cost.

use std::{
    io::{ErrorKind, Read, Write},
    net::TcpStream,
    path::PathBuf,
};

use serde_json::{Value, json};

use super::{
    pages::{Answer, Pages, Question},
    *,
};
use crate::{
    control::{self, server::refusal},
    stats::{StatsFile, WorkerInfo, sources::Sources},
};

/// Nobody waits for these in a test that passes.
const LONG: Limits = Limits {
    clients: 64,
    request: Duration::from_secs(600),
    connection: Duration::from_secs(600),
    last_answer: Duration::from_secs(600),
};

/// What is asked is said back.
fn echo(question: &Question) -> Answer {
    Answer::ok("text/plain", format!("{question:?}"))
}

fn start(answerer: Arc<Answerer>, limits: Limits) -> (Server, SocketAddr) {
    let listener = bind("127.0.0.1:0".parse().unwrap()).unwrap();
    let address = listener.local_addr().unwrap();
    (serve_with(listener, answerer, limits).unwrap(), address)
}

fn connect(address: SocketAddr) -> TcpStream {
    let stream = TcpStream::connect(address).unwrap();
    stream
        .set_read_timeout(Some(Duration::from_secs(60)))
        .unwrap();
    stream
}

/// Sends bytes and returns all that comes until the other side hangs up.
fn exchange(address: SocketAddr, bytes: &[u8]) -> String {
    let mut stream = connect(address);
    stream.write_all(bytes).unwrap();
    to_end(&mut stream)
}

fn to_end(stream: &mut TcpStream) -> String {
    let mut answer = Vec::new();
    let mut chunk = [0; 4096];
    loop {
        match stream.read(&mut chunk) {
            Ok(0) => break,
            Ok(read) => answer.extend_from_slice(&chunk[..read]),
            // It has not read all that was sent.
            Err(error) if error.kind() == ErrorKind::ConnectionReset => break,
            Err(error) => panic!("{error} after {}", answer.escape_ascii()),
        }
    }
    String::from_utf8(answer).unwrap()
}

fn get(address: SocketAddr, path: &str) -> String {
    let request = format!("GET {path} HTTP/1.1\r\nHost: edge\r\nConnection: close\r\n\r\n");
    exchange(address, request.as_bytes())
}

fn status(answer: &str) -> u16 {
    let status = answer.split(' ').nth(1).and_then(|code| code.parse().ok());
    status.unwrap_or_else(|| panic!("no answer: {answer:?}"))
}

/// Header fields and content.
fn parts(answer: &str) -> (Vec<&str>, &str) {
    let (head, content) = answer.split_once("\r\n\r\n").unwrap();
    (head.lines().skip(1).collect(), content)
}

#[test]
fn get_is_answered_and_head_without_the_content() {
    let (_server, address) = start(Arc::new(echo), LONG);
    let request = "GET /a/b?x=1%202&y HTTP/1.1\r\nHost: edge\r\nAccept: text/html\r\nAccept: */*\r\n\
                   Connection: close\r\n\r\n";
    let answer = exchange(address, request.as_bytes());
    let (headers, content) = parts(&answer);
    let asked = Question {
        path: "/a/b".into(),
        query: vec![("x".into(), "1 2".into()), ("y".into(), String::new())],
        accept: "text/html, */*".into(),
    };
    assert_eq!(content, format!("{asked:?}"));
    for header in [
        "content-type: text/plain",
        "cache-control: no-store",
        "x-content-type-options: nosniff",
    ] {
        assert!(headers.contains(&header), "no {header} in {answer}");
    }
    assert!(!answer.to_lowercase().contains("access-control"));

    let answer = exchange(address, request.replace("GET", "HEAD").as_bytes());
    let (headers, nothing) = parts(&answer);
    assert_eq!(nothing, "");
    let length = format!("content-length: {}", content.len());
    assert!(headers.contains(&length.as_str()), "{answer}");
}

#[test]
fn nothing_but_get_and_head_is_answered_and_no_body_is_read() {
    let (_server, address) = start(Arc::new(echo), LONG);
    for method in [
        "POST", "PUT", "DELETE", "PATCH", "OPTIONS", "TRACE", "NONSENSE",
    ] {
        let request = format!("{method} / HTTP/1.1\r\nHost: edge\r\nConnection: close\r\n\r\n");
        let answer = exchange(address, request.as_bytes());
        assert_eq!(status(&answer), 405, "{method}");
        assert!(parts(&answer).0.contains(&"allow: GET, HEAD"), "{answer}");
    }
    // Without `Connection: close`: it hangs up by itself, and does not wait for what was announced.
    for (method, wanted) in [("POST", 405), ("GET", 413)] {
        let request =
            format!("{method} / HTTP/1.1\r\nHost: edge\r\nContent-Length: 1000000\r\n\r\nx");
        assert_eq!(status(&exchange(address, request.as_bytes())), wanted);
    }
}

#[test]
fn a_huge_head_is_refused_unread() {
    let (_server, address) = start(Arc::new(echo), LONG);
    let field = format!("X: {}\r\n", "x".repeat(LONGEST_HEAD));
    let many = "A: b\r\n".repeat(MAX_HEADERS + 1);
    let target = format!("/{}", "x".repeat(LONGEST_HEAD));
    for request in [
        format!("GET / HTTP/1.1\r\n{field}\r\n"),
        format!("GET / HTTP/1.1\r\n{many}\r\n"),
        format!("GET {target} HTTP/1.1\r\n\r\n"),
    ] {
        let code = status(&exchange(address, request.as_bytes()));
        assert!((400..500).contains(&code), "{code}");
    }
    assert_eq!(status(&get(address, "/")), 200);
}

#[test]
fn a_client_that_does_not_finish_or_says_nothing_is_hung_up_on() {
    let limits = Limits {
        request: Duration::from_millis(50),
        ..LONG
    };
    let (_server, address) = start(Arc::new(echo), limits);
    // Byte by byte, each well in time, until nobody reads them any more.
    let mut stream = connect(address);
    let request = b"GET / HTTP/1.1\r\nHost: edge\r\nX: ".iter();
    let slowly = request.chain(std::iter::repeat(&b'x'));
    // For ten seconds at the least, and fewer than are refused for their number.
    let mut slowly = slowly.take(5_000);
    stream
        .set_read_timeout(Some(Duration::from_millis(2)))
        .unwrap();
    let hung_up = slowly.any(|byte| {
        let sent = stream.write_all(&[*byte]);
        let mut answer = [0; 1];
        let read = stream.read(&mut answer);
        sent.is_err() || !read.is_err_and(|error| error.kind() == ErrorKind::WouldBlock)
    });
    assert!(hung_up);

    // Nothing at all, and nothing after an answer.
    assert_eq!(to_end(&mut connect(address)), "");
    let answer = exchange(address, b"GET / HTTP/1.1\r\nHost: edge\r\n\r\n");
    assert_eq!(status(&answer), 200);
}

#[test]
fn a_connection_does_not_last_for_ever() {
    let limits = Limits {
        connection: Duration::from_millis(100),
        ..LONG
    };
    let (_server, address) = start(Arc::new(echo), limits);
    let mut stream = connect(address);
    let request = b"GET / HTTP/1.1\r\nHost: edge\r\n\r\n";
    let mut chunk = [0; 4096];
    // Never silent.
    let hung_up = (0..1_000_000).any(|_| {
        stream.write_all(request).is_err() || matches!(stream.read(&mut chunk), Ok(0) | Err(_))
    });
    assert!(hung_up);
}

#[test]
fn a_client_that_takes_no_answer_is_given_up() {
    let limits = Limits {
        clients: 2,
        connection: Duration::from_millis(50),
        last_answer: Duration::from_millis(50),
        ..LONG
    };
    // More than all buffers on the way have room for.
    let big = |_: &Question| Answer::ok("text/plain", vec![b'x'; 64 << 20]);
    let (_server, address) = start(Arc::new(big), limits);
    let mut streams = Vec::new();
    for _ in 0..limits.clients {
        let mut stream = connect(address);
        stream.write_all(b"GET / HTTP/1.1\r\n\r\n").unwrap();
        streams.push(stream);
    }
    // All places become free again although nobody reads and nobody leaves.
    let served = (0..1_000_000).any(|_| {
        let mut stream = connect(address);
        stream
            .write_all(b"HEAD / HTTP/1.1\r\nConnection: close\r\n\r\n")
            .unwrap();
        status(&to_end(&mut stream)) == 200
    });
    assert!(served);
}

#[test]
fn one_client_too_many_is_told_so() {
    let (_server, address) = start(Arc::new(echo), LONG);
    let mut clients = Vec::new();
    // Each is answered once, so that it is known to have its place.
    for _ in 0..LONG.clients {
        let mut stream = connect(address);
        stream.write_all(b"HEAD / HTTP/1.1\r\n\r\n").unwrap();
        let mut answer = Vec::new();
        while !answer.ends_with(b"\r\n\r\n") {
            let mut byte = [0];
            stream.read_exact(&mut byte).unwrap();
            answer.push(byte[0]);
        }
        clients.push(stream);
    }
    let answer = to_end(&mut connect(address));
    assert_eq!(status(&answer), 503);
    assert_eq!(parts(&answer).1, "too many clients; try again\n");
    clients.pop();
    // The place is free as soon as the server has noticed.
    let served = (0..1_000_000).any(|_| status(&get(address, "/")) == 200);
    assert!(served);
}

#[test]
fn garbage_is_refused() {
    let (_server, address) = start(Arc::new(echo), LONG);
    for garbage in [
        &b"\r\n\r\n\r\n garbage\r\n\r\n"[..],
        b"GET / HTTP/9.9\r\n\r\n",
        b"\xff\xfe\xfd\r\n\r\n",
        b"INVITE sip:bob@example.com SIP/2.0\r\n\r\n",
        b"GET / HTTP/1.1\r\nno colon\r\n\r\n",
    ] {
        let answer = exchange(address, garbage);
        assert!(
            answer.is_empty() || status(&answer) == 400,
            "{}: {answer}",
            garbage.escape_ascii()
        );
    }
    assert_eq!(status(&get(address, "/")), 200);
}

#[test]
fn an_answer_that_panics_ends_its_own_connection_alone() {
    let answerer = |question: &Question| {
        assert_ne!(question.path, "/panic", "as the test wants");
        echo(question)
    };
    let (_server, address) = start(Arc::new(answerer), LONG);
    assert_eq!(get(address, "/panic"), "");
    assert_eq!(status(&get(address, "/")), 200);
}

#[test]
fn a_stopped_server_has_hung_up_and_left_the_address() {
    let (server, address) = start(Arc::new(echo), LONG);
    let mut stream = connect(address);
    stream.write_all(b"HEAD / HTTP/1.1\r\n\r\n").unwrap();
    stream.read_exact(&mut [0; 12]).unwrap();
    drop(server);
    to_end(&mut stream);
    let again = bind(address).unwrap();
    let error = bind(again.local_addr().unwrap()).unwrap_err();
    let text = format!("{error:#}");
    assert!(
        text.starts_with(&format!("metrics.listen {address} cannot be used; ")),
        "{text}"
    );
    assert!(text.contains("Address already in use"), "{text}");
}

/// Statistics of a process that counts; the file goes with it.
struct Counting {
    path: PathBuf,
    _stats: StatsFile,
}

impl Drop for Counting {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.path);
    }
}

/// Commands that say what they were asked, and statistics.
fn pages(name: &str) -> (Pages, Counting) {
    let file = format!("siplb-http-{name}-{}", std::process::id());
    let path = std::env::temp_dir().join(file);
    let worker = WorkerInfo {
        cpu: 0,
        queue: 0,
        data_path: "socket".into(),
    };
    let stats = StatsFile::create(&path, &[worker], &["sw1".to_owned()]).unwrap();
    let commands = |request: &control::Request| match request.arguments.contains_key("limit") {
        true => refusal("there is no such limit").into(),
        false => json!({
            "ok": true,
            "command": request.command,
            "arguments": request.arguments,
            "limits": [],
        })
        .into(),
    };
    let pages = Pages {
        commands: Arc::new(commands),
        counters: Sources {
            workers: path.clone(),
            pin_path: None,
            fallback: None,
        },
    };
    let counting = Counting {
        path,
        _stats: stats,
    };
    (pages, counting)
}

fn ask(pages: &Pages, target: &str) -> (u16, String) {
    let question = Question::new(&target.parse().unwrap(), &hyper::HeaderMap::new());
    let answer = pages.answer(&question);
    let text = String::from_utf8(answer.bytes).unwrap();
    (answer.status.as_u16(), text)
}

#[test]
fn pages_are_listed_and_every_listed_page_is_there() {
    let (pages, _stats) = pages("list");
    let (status, list) = ask(&pages, "/api");
    assert_eq!(status, 200);
    let (status, missing) = ask(&pages, "/nonsense");
    assert_eq!(status, 404);
    assert!(missing.contains(list.trim_end()), "{missing}");
    for line in list.lines() {
        let path = line.split(' ').next().unwrap();
        assert_eq!(ask(&pages, path).0, 200, "{path}");
    }
}

#[test]
fn objects_are_those_of_the_command_line() {
    let (pages, _stats) = pages("objects");
    let answer = |target: &str| {
        let (status, text) = ask(&pages, target);
        (status, serde_json::from_str::<Value>(&text).unwrap())
    };
    assert_eq!(
        answer("/api/cps?span=minutes&count=1440"),
        (
            200,
            json!({
                "ok": true,
                "command": "cps",
                "arguments": { "span": "minutes", "count": 1440 },
                "limits": [],
            })
        )
    );
    for command in ["status", "backends"] {
        let (status, object) = answer(&format!("/api/{command}"));
        assert_eq!((status, &object["command"]), (200, &json!(command)));
    }
    let (status, stats) = answer("/api/stats");
    assert_eq!((status, &stats["process"]["running"]), (200, &json!(true)));
    assert_eq!(stats["backends"][0]["name"], "sw1");

    for (target, reason) in [
        ("/api/cps?limit=x", "there is no such limit"),
        ("/api/cps?nonsense=1", "argument \"nonsense\" is not known"),
        (
            "/api/status?backend=sw1",
            "argument \"backend\" is not known",
        ),
        (
            "/api/cps?count=1441",
            "count 1441 is above 1440, which is the most here; with the name of a limit it is 86400",
        ),
    ] {
        let refused = (400, json!({ "ok": false, "error": reason }));
        assert_eq!(answer(target), refused, "{target}");
    }
}

#[test]
fn commands_that_change_something_or_have_no_end_are_not_carried_out() {
    let (mut pages, _stats) = pages("changing");
    pages.commands = Arc::new(
        |request: &control::Request| match request.command.as_str() {
            "status" => {
                control::server::Answer::Stream(json!({ "ok": true }), Box::new(|_| Ok(())))
            }
            other => panic!("{other} is carried out"),
        },
    );
    for command in ["drain", "disable", "reload", "leave", "trace", "status"] {
        let answer = pages.ask(&control::Request::new(command));
        assert_eq!(answer["ok"], false, "{command}");
    }
}

#[test]
fn one_answer_has_all_that_the_page_shows() {
    let (pages, _stats) = pages("live");
    let (status, text) = ask(&pages, "/api/live?span=minutes&merge=30&count=2&after=7");
    let live: Value = serde_json::from_str(&text).unwrap();
    assert_eq!((status, &live["ok"]), (200, &json!(true)), "{text}");
    assert_eq!(live["status"]["command"], "status");
    assert_eq!(live["status"]["ok"], Value::Null, "it is told once");
    // These say nothing of the kind, but are lists all the same.
    for list in ["limits", "events", "losses"] {
        assert_eq!(live[list], json!([]), "{list}");
    }
    assert_eq!(live["queues"][0]["data_path"], "socket");
    // A limit that has just gone is no reason to show nothing.
    assert_eq!(ask(&pages, "/api/live?limit=gone").0, 200);
    assert_eq!(ask(&pages, "/api/live?backend=sw1").0, 400);
    assert_eq!(ask(&pages, "/api/live?count=1441").0, 400);
}

/// Whatever is not the page may do nothing in a browser, and the page no more than ask here.
#[test]
fn a_browser_is_told_what_an_answer_may_do() {
    let (pages, _stats) = pages("policy");
    let answerer = move |question: &Question| pages.answer(question);
    let (_server, address) = start(Arc::new(answerer), LONG);
    let policy = |path: &str| {
        let answer = get(address, path);
        let (headers, _) = parts(&answer);
        let policy = headers
            .iter()
            .find_map(|header| header.strip_prefix("content-security-policy: "));
        policy.unwrap_or_else(|| panic!("{answer}")).to_owned()
    };
    for path in ["/api/status", "/api", "/nonsense"] {
        assert_eq!(policy(path), "default-src 'none'; frame-ancestors 'none'");
    }
    let page = policy("/");
    assert!(
        page.starts_with("default-src 'none'; connect-src 'self'; "),
        "{page}"
    );
    assert!(get(address, "/").contains("\r\ncontent-type: text/html; charset=utf-8\r\n"));
}

#[test]
fn statistics_that_cannot_be_read_are_no_success() {
    let (mut pages, _stats) = pages("none");
    pages.counters.workers = "/nonexistent/stats".into();
    let (status, text) = ask(&pages, "/api/stats");
    assert_eq!(status, 503);
    assert!(text.contains("no such file"), "{text}");
}
