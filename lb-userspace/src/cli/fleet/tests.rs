//! Nodes that are alike, nodes that are not, and what is no node.

use std::{
    io::{Read, Write},
    net::TcpListener,
};

use super::*;

/// Metrics of a node, with some texts replaced.
fn metrics(node: &str, changes: &[(&str, &str)]) -> String {
    let text = r#"# HELP siplb_build_info Version of siplb.
siplb_build_info{version="0.1.0"} 1
siplb_uptime_seconds 125
siplb_announced 1
siplb_config_info{node="NODE",config_hash="c0ffee",table_hash="7ab1e5",mode="af-xdp"} 1
siplb_config_generation 3
siplb_key_info{id="0a0b0c0d",role="signing"} 1
siplb_backend_state{pool="switches",backend="sw1",state="active"} 1
siplb_backend_state{pool="switches",backend="sw1",state="unhealthy"} 0
siplb_backend_state{pool="switches",backend="sw2",state="active"} 1
siplb_calls_per_second{limit="node"} 1234
siplb_calls_per_second{limit="backend sw1"} 7
"#;
    let mut text = text.replace("NODE", node);
    for (from, to) in changes {
        assert!(text.contains(from), "{from}");
        text = text.replace(from, to);
    }
    text
}

fn report(nodes: &[Result<String, String>]) -> FleetReport {
    let addresses = (1..=nodes.len()).map(|node| format!("192.0.2.{node}:9464").parse().unwrap());
    let answers = nodes
        .iter()
        .map(|node| node.clone().and_then(|text| NodeFacts::read(&text)));
    FleetReport::new(&addresses.collect::<Vec<_>>(), answers.collect())
}

/// Three nodes, the third with changes, and what is said of it.
#[track_caller]
fn check(changes: &[(&str, &str)], differs: &[&str], differences: &[&str]) {
    let alike = || Ok(metrics("edge1", &[]));
    let report = report(&[
        alike(),
        Ok(metrics("edge2", &[])),
        Ok(metrics("edge3", changes)),
    ]);
    assert_eq!(report.nodes[2].differs, differs);
    assert!(report.nodes[0].differs.is_empty() && report.nodes[1].differs.is_empty());
    let begins = |(said, wanted): (&String, &&str)| said.starts_with(wanted);
    let said = &report.differences;
    assert!(
        said.len() == differences.len() && said.iter().zip(differences).all(begins),
        "{said:#?}"
    );
    assert_eq!(report.agree, differs.is_empty());
    assert_eq!(verdict(&report).is_ok(), differs.is_empty());
}

#[test]
fn what_differs_is_named_with_its_meaning() {
    check(&[], &[], &[]);
    // What nodes need not have in common.
    check(
        &[
            ("siplb_uptime_seconds 125", "siplb_uptime_seconds 9"),
            ("generation 3", "generation 1"),
            ("1234", "99"),
        ],
        &[],
        &[],
    );
    check(
        &[("0.1.0", "0.2.0")],
        &["version"],
        &["edge3 runs siplb 0.2.0, the others 0.1.0"],
    );
    check(
        &[("announced 1", "announced 0")],
        &["announced"],
        &["edge3 is not announced"],
    );
    check(
        &[("siplb_announced 1\n", "")],
        &["announced"],
        &["edge3 has no `announce`"],
    );
    check(
        &[("c0ffee", "c0ffef")],
        &["config_hash"],
        &["edge3 has another configuration"],
    );
    check(
        &[
            ("sw1\",state=\"active\"} 1", "sw1\",state=\"active\"} 0"),
            ("7ab1e5", "7ab1e6"),
        ],
        &["backends", "table_hash"],
        &[
            "edge3 has 1 of 2 backends active, the others 2 of 2",
            "edge3 has another lookup table, for that reason",
        ],
    );
    check(
        &[("7ab1e5", "7ab1e6")],
        &["table_hash"],
        &["edge3 has another lookup table: new calls meet other backends there; which"],
    );
    check(
        &[("edge3", "edge2")],
        &["node"],
        &["edge2 (192.0.2.3:9464) has the name of another node"],
    );
}

#[test]
fn secrets_that_differ_say_who_refuses_whom() {
    const KEY: &str = "siplb_key_info{id=\"0a0b0c0d\",role=\"signing\"} 1\n";
    let keys = |signing: &str, accepted: Option<&str>| {
        let accepted = accepted.map_or(String::new(), |id| {
            format!("siplb_key_info{{id=\"{id}\",role=\"accepted\"}} 1\n")
        });
        format!("siplb_key_info{{id=\"{signing}\",role=\"signing\"}} 1\n{accepted}")
    };
    for (signing, accepted, meaning) in [
        (
            "ffffffff",
            None,
            "edge3 has another secret: it refuses the tokens of the others",
        ),
        (
            "ffffffff",
            Some("0a0b0c0d"),
            "edge3 signs with a secret that the others do not accept: they refuse its tokens",
        ),
        (
            "0a0b0c0d",
            Some("ffffffff"),
            "edge3 has other secrets beside",
        ),
    ] {
        check(&[(KEY, &keys(signing, accepted))], &["keys"], &[meaning]);
    }
    // The others have the new one beside theirs, the third one does not yet.
    let both = |node: &str| Ok(metrics(node, &[(KEY, &keys("ffffffff", Some("0a0b0c0d")))]));
    let mixed = report(&[both("edge1"), both("edge2"), Ok(metrics("edge3", &[]))]);
    assert_eq!(mixed.nodes[2].differs, ["keys"]);
    assert!(
        mixed.differences[0]
            .starts_with("edge3 does not accept the secret that the others sign with")
    );
}

#[test]
fn of_two_that_differ_the_first_one_counts() {
    let report = report(&[
        Ok(metrics("edge1", &[])),
        Ok(metrics("edge2", &[("c0ffee", "other")])),
    ]);
    assert!(report.nodes[0].differs.is_empty());
    assert_eq!(report.nodes[1].differs, ["config_hash"]);
}

#[test]
fn the_table_marks_what_differs_and_has_a_line_for_who_is_silent() {
    let report = report(&[
        Ok(metrics("edge1", &[])),
        Err("no answer within 2 s".to_owned()),
        Ok(metrics(
            "edge3",
            &[("0a0b0c0d", "ffffffff"), ("7ab1e5", "7ab1e6")],
        )),
        Ok("# nothing".to_owned()),
    ]);
    let terminal = Terminal {
        width: 80,
        height: None,
        colour: false,
    };
    assert_eq!(
        view::text(&report, &terminal),
        "\
node   version         up  announced  generation  configuration  table     secrets     backends    cps
edge1  0.1.0    2 min 5 s  yes                 3  c0ffee         7ab1e5    0a0b0c0d         2/2  1,234
edge3  0.1.0    2 min 5 s  yes                 3  c0ffee         7ab1e6 !  ffffffff !       2/2  1,234
192.0.2.2:9464  ! no answer within 2 s
192.0.2.4:9464  ! answers, but not as siplb does; is this its metrics.listen?

edge3 has another secret: it refuses the tokens of the others, and they refuse its; calls that move between them break
edge3 has another lookup table, for that reason: new calls meet other backends there
"
    );
    match verdict(&report) {
        Err(Failure::Failed(text)) => {
            assert_eq!(text, "of 4 nodes: 2 without an answer, 1 different")
        }
        other => panic!("{other:?}"),
    }
    let json = serde_json::to_value(&report).unwrap();
    assert_eq!(json["agree"], false);
    assert_eq!(json["nodes"][1]["error"], "no answer within 2 s");
    assert_eq!(json["nodes"][2]["signing_key"], "ffffffff");
    assert_eq!(json["nodes"][2]["differs"][0], "keys");
}

#[test]
fn addresses() {
    for (text, shown, path) in [
        ("192.0.2.1:9464", "192.0.2.1:9464", "/metrics"),
        ("http://edge1:9464/metrics", "edge1:9464", "/metrics"),
        ("http://edge1:9464", "edge1:9464", "/metrics"),
        ("http://edge1:9464/", "edge1:9464", "/metrics"),
        ("[2001:db8::1]:9464", "[2001:db8::1]:9464", "/metrics"),
        (
            "edge1:80/siplb/metrics?x=1",
            "http://edge1:80/siplb/metrics?x=1",
            "/siplb/metrics?x=1",
        ),
    ] {
        let address = text.parse::<Address>().unwrap();
        assert_eq!(
            (address.to_string().as_str(), address.path.as_str()),
            (shown, path)
        );
    }
    for wrong in [
        "",
        "edge1",
        ":9464",
        "edge1:0",
        "edge1:x",
        "2001:db8::1:9464",
        "https://edge1:9464",
        "http://me@edge1:9464",
        "ed ge:9464",
        "edge1?x:9464",
    ] {
        let error = wrong.parse::<Address>().unwrap_err();
        assert!(error.contains("write HOST:PORT"), "{error}");
    }
}

#[test]
fn lists_of_addresses() {
    let path = std::env::temp_dir().join(format!("siplb-fleet-list-{}", std::process::id()));
    let arguments = |text: &str| {
        std::fs::write(&path, text).unwrap();
        let arguments = FleetArgs {
            addresses: vec!["edge0:9464".parse().unwrap()],
            file: Some(path.clone()),
            watch: None,
            json: false,
        };
        super::addresses(&arguments)
    };
    let good = arguments("# all\n\n edge1:9464 # London\nhttp://edge2:9464/metrics\n").unwrap();
    let good = good.iter().map(ToString::to_string).collect::<Vec<_>>();
    assert_eq!(good, ["edge0:9464", "edge1:9464", "edge2:9464"]);
    for (text, wanted) in [
        ("edge1:9464\nnonsense\n", ":2: \"nonsense\" has no port"),
        ("edge0:9464\n", "edge0:9464 is named twice"),
    ] {
        match arguments(text) {
            Err(Failure::Usage(error)) => assert!(error.contains(wanted), "{error}"),
            other => panic!("{other:?}"),
        }
    }
    std::fs::remove_file(&path).unwrap();
    assert!(matches!(arguments_of_nobody(), Err(Failure::Usage(_))));
}

fn arguments_of_nobody() -> Result<Vec<Address>, Failure> {
    super::addresses(&FleetArgs {
        addresses: Vec::new(),
        file: None,
        watch: None,
        json: false,
    })
}

/// Listens, answers one client with these bytes, and hangs up; or keeps the line when there are none.
fn serve(answer: Option<Vec<u8>>) -> (Address, std::thread::JoinHandle<()>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap().to_string().parse().unwrap();
    let thread = std::thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        let _ = stream.read(&mut [0; 4096]);
        match answer {
            Some(answer) => drop(stream.write_all(&answer)),
            // Until the other side gives up.
            None => drop(stream.read_to_end(&mut Vec::new())),
        }
    });
    (address, thread)
}

#[test]
fn answers_are_bounded_in_time_and_size() {
    let ok = |content: &str| Some(format!("HTTP/1.1 200 OK\r\n\r\n{content}").into_bytes());
    let endless = ok(&"x".repeat((16 << 20) + 1));
    let huge_head = Some([b"HTTP/1.1 200 OK\r\nx: ".to_vec(), vec![b'x'; 1 << 20]].concat());
    let not_text = Some(b"HTTP/1.1 200 OK\r\n\r\n\xff\xfe".to_vec());
    let cut = Some(b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nx".to_vec());
    let cases = [
        (ok("good"), Ok("good")),
        (None, Err("no answer within 1 s")),
        (endless, Err("the answer is longer than")),
        (huge_head, Err("not an answer")),
        (not_text, Err("the answer is not text")),
        (cut, Err("the answer broke off")),
        (
            Some(b"HTTP/1.1 404 Not Found\r\n\r\n".to_vec()),
            Err("answers 404 Not Found"),
        ),
        (
            Some(b"SIP/2.0 400 Bad Request\r\n\r\n".to_vec()),
            Err("not an answer"),
        ),
    ];
    let (servers, wanted): (Vec<_>, Vec<_>) = cases
        .into_iter()
        .map(|(answer, wanted)| (serve(answer), wanted))
        .unzip();
    let (mut addresses, threads): (Vec<_>, Vec<_>) = servers.into_iter().unzip();
    // Nobody has it any more.
    let nobody = TcpListener::bind("127.0.0.1:0").unwrap().local_addr();
    addresses.push(nobody.unwrap().to_string().parse().unwrap());
    let answers = scrape::all(&addresses, Duration::from_secs(1)).unwrap();
    let wanted = wanted.into_iter().chain([Err("nobody listens there")]);
    for (answer, wanted) in answers.iter().zip(wanted) {
        match (answer, wanted) {
            (Ok(text), Ok(wanted)) => assert_eq!(text, wanted),
            (Err(error), Err(wanted)) => assert!(error.starts_with(wanted), "{error}"),
            other => panic!("{other:?}"),
        }
    }
    for thread in threads {
        thread.join().unwrap();
    }
}
