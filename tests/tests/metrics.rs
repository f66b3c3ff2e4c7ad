//! Metrics of a node that works, read by Prometheus itself, and a fleet of two that agree until one gets another secret.

use std::{
    collections::BTreeMap,
    io::{Read, Write},
    net::TcpStream,
    process::{Command, Output, Stdio},
    time::Duration,
};

use siplb_lab::{
    Family, Host, Lab, Shape, Siplb, can_run_with,
    siplb::{DataPath, Options, binary},
    sipp::{Plan, Scenario, Sipp},
    until,
};

const SERVERS: usize = 3;
const CALLS: u64 = 200;
/// The edge, as the servers reach it.
const EDGE: &str = "10.0.0.1:9464";
const SETTLE: Duration = Duration::from_secs(30);

fn options() -> Options {
    Options {
        families: vec![Family::V4],
        rest: "limits: { cps: 5000 }\nmetrics: { listen: \"0.0.0.0:9464\" }\n".into(),
        ..Options::new(DataPath::Native)
    }
}

/// What is at a path, and its type.
fn get(host: &Host, path: &str, accept: &str) -> (String, String) {
    let request = format!(
        "GET {path} HTTP/1.1\r\nHost: edge\r\nAccept: {accept}\r\nConnection: close\r\n\r\n"
    );
    let answer = host.enter(|| {
        let mut stream = TcpStream::connect(EDGE)?;
        stream.set_read_timeout(Some(SETTLE))?;
        stream.write_all(request.as_bytes())?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer)?;
        Ok::<_, std::io::Error>(answer)
    });
    let answer = answer.expect("a host").expect("an answer");
    let (head, content) = answer.split_once("\r\n\r\n").expect("an answer");
    assert!(head.starts_with("HTTP/1.1 200 OK"), "{head}");
    let mut lines = head.lines();
    let kind = lines.find_map(|line| line.strip_prefix("content-type: "));
    (kind.expect("a type").to_owned(), content.to_owned())
}

/// Series and their values.
fn series(text: &str) -> BTreeMap<String, f64> {
    let samples = text.lines().filter(|line| !line.starts_with('#'));
    let samples = samples.map(|line| {
        let (name, value) = line.rsplit_once(' ').expect("a sample");
        (name.to_owned(), value.parse().expect("a number"))
    });
    samples.collect()
}

/// What promtool has to say.
fn promtool(text: &str) -> Output {
    let mut child = Command::new("promtool")
        .args(["check", "metrics"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("promtool");
    let mut input = child.stdin.take().expect("its input");
    input.write_all(text.as_bytes()).expect("written");
    drop(input);
    child.wait_with_output().expect("an end")
}

/// Calls through siplb, without a retransmission.
fn calls(lab: &Lab) {
    let mut servers: Vec<Sipp> = (0..SERVERS)
        .map(|number| {
            let plan = Plan::server(Scenario::new("uas_bye"), lab.server(Family::V4, number));
            Sipp::start(lab, &lab.servers, &format!("server{number}"), &plan).expect("a server")
        })
        .collect();
    let local = (lab.client_address(Family::V4), 5061).into();
    let vip = lab.vip(Family::V4);
    let plan = Plan::caller(Scenario::new("uac_bye"), local, vip, CALLS, 50);
    let mut caller = Sipp::start(lab, &lab.client, "caller", &plan).expect("a caller");
    let books = caller.finish(Duration::from_secs(60)).expect("calls");
    assert_eq!(
        (books.successful, books.retransmissions),
        (CALLS, 0),
        "{books:?} {}",
        caller.errors()
    );
    for server in &mut servers {
        server.stop().expect("an end");
    }
}

/// The numbers of SIPp are those of the metrics.
fn equal_to_sipp(metrics: &BTreeMap<String, f64>) {
    let value = |name: &str| metrics.get(name).copied().unwrap_or(-1.0);
    for method in ["INVITE", "ACK", "BYE"] {
        let name =
            format!("siplb_requests_total{{from=\"client\",to=\"backend\",method=\"{method}\"}}");
        assert_eq!(value(&name), CALLS as f64, "{name}");
    }
    for (method, class) in [("INVITE", "1xx"), ("INVITE", "2xx"), ("BYE", "2xx")] {
        let name = format!(
            "siplb_responses_total{{from=\"backend\",to=\"client\",method=\"{method}\",class=\"{class}\"}}"
        );
        assert_eq!(value(&name), CALLS as f64, "{name}");
    }
    assert_eq!(
        value("siplb_calls_accepted_total{limit=\"node\"}"),
        CALLS as f64
    );
    assert_eq!(
        value("siplb_limit_calls_per_second{limit=\"node\"}"),
        5000.0
    );
    let sum = |start: &str, label: &str| {
        let series = metrics.iter();
        let series = series.filter(|(name, _)| name.starts_with(start) && name.contains(label));
        series.map(|(_, value)| value).sum::<f64>()
    };
    assert_eq!(sum("siplb_backend_calls_total{", ""), CALLS as f64);
    assert_eq!(
        sum("siplb_backend_responses_total{", "class=\"2xx\""),
        2.0 * CALLS as f64
    );
    assert_eq!(
        sum("siplb_backend_state{", "state=\"active\""),
        SERVERS as f64
    );
    let timed = sum("siplb_backend_first_response_seconds_count{", "");
    assert!((1.0..=CALLS as f64).contains(&timed), "{timed}");
    let batched = sum("siplb_batch_datagrams_sum{", "");
    assert!(batched >= 6.0 * CALLS as f64, "{batched}");
    assert!(sum("siplb_worker_busy_seconds_total{", "") > 0.0);
}

/// So are those of `siplb stats --json`.
fn equal_to_stats(metrics: &BTreeMap<String, f64>, stats: &serde_json::Value) {
    let mut seen = 0;
    let mut equal = |name: String, value: &serde_json::Value| {
        assert_eq!(metrics.get(&name).copied(), value.as_f64(), "{name}");
        seen += 1;
    };
    for (outcome, count) in stats["total"]["outcomes"].as_object().expect("outcomes") {
        let end = format!("outcome=\"{outcome}\"}}");
        let name = metrics
            .keys()
            .find(|name| name.ends_with(&end) && name.starts_with("siplb_outcomes"));
        equal(name.expect("an outcome").clone(), count);
    }
    for backend in stats["backends"].as_array().expect("backends") {
        let labels = format!("{{pool=\"switches-v4\",backend={}}}", backend["name"]);
        equal(
            format!("siplb_backend_requests_total{labels}"),
            &backend["requests"],
        );
        equal(
            format!("siplb_backend_calls_total{labels}"),
            &backend["invites"],
        );
    }
    for message in stats["messages"].as_array().expect("messages") {
        let labels = format!(
            "from={},to={},method={}",
            message["from"], message["to"], message["method"]
        );
        let name = match message["class"].as_str() {
            Some("request") => format!("siplb_requests_total{{{labels}}}"),
            class => format!(
                "siplb_responses_total{{{labels},class=\"{}\"}}",
                class.expect("a class")
            ),
        };
        equal(name, &message["count"]);
    }
    for worker in stats["workers"].as_array().expect("workers") {
        let labels = format!("queue=\"{}\",cpu=\"{}\"", worker["queue"], worker["cpu"]);
        let name = format!("siplb_received_datagrams_total{{{labels},path=\"af_xdp\"}}");
        equal(name, &worker["counters"]["rx_af_xdp"]);
    }
    for interface in stats["interfaces"].as_array().expect("interfaces") {
        let label = format!("interface={}", interface["name"]);
        let steered = metrics.iter().filter(|(name, _)| {
            name.starts_with("siplb_xdp_packets_total{")
                && name.contains(&label)
                && name.contains("outcome=\"steered\"")
        });
        let steered: f64 = steered.map(|(_, value)| value).sum();
        assert_eq!(Some(steered), interface["total"]["steered"].as_f64());
    }
    assert!(seen > 80, "{seen} numbers were compared");
}

/// Prometheus asks for OpenMetrics, and takes a page whole or not at all.
fn prometheus_reads_it(lab: &Lab) {
    let file = lab.dir().join("prometheus.yml");
    let text = format!(
        "global: {{ scrape_interval: 1s }}\nscrape_configs:\n  - job_name: siplb\n    static_configs: [ {{ targets: [\"{EDGE}\"] }} ]\n"
    );
    std::fs::write(&file, text).expect("a configuration");
    let mut command = Command::new("prometheus");
    command
        .arg(format!("--config.file={}", file.display()))
        .arg(format!(
            "--storage.tsdb.path={}",
            lab.dir().join("tsdb").display()
        ))
        .args(["--web.listen-address=127.0.0.1:9090", "--log.level=warn"]);
    let prometheus = lab
        .spawn(&lab.servers, "prometheus", command)
        .expect("prometheus");
    let query = |what: &str| {
        let arguments = format!("query instant http://127.0.0.1:9090 {what}");
        lab.servers.run("promtool", &arguments).ok()
    };
    let scraped = until("Prometheus to have read the metrics", SETTLE, || {
        query("siplb_requests_total").filter(|answer| answer.contains("INVITE"))
    });
    let answer = scraped.unwrap_or_else(|error| panic!("{error}: {}", prometheus.output()));
    let invites = answer.lines().find(|line| line.contains("INVITE"));
    let wanted = format!("=> {CALLS} @");
    assert!(
        invites.is_some_and(|line| line.contains(&wanted)),
        "{answer}"
    );
    let up = query("up").expect("an answer");
    assert!(up.contains("=> 1 @"), "{up}");
}

/// `siplb fleet`, from the servers' host.
fn fleet(lab: &Lab, arguments: &[&str]) -> (i32, String) {
    let mut command = Command::new(binary().expect("siplb"));
    command.arg("fleet").args(arguments);
    let output = lab.servers.enter(|| command.output());
    let output = output.expect("a host").expect("an end");
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    (output.status.code().expect("a status"), text)
}

#[test]
fn metrics_are_those_of_the_command_line_of_sipp_and_of_a_fleet() {
    if !can_run_with(&["promtool", "prometheus"]) {
        return;
    }
    let lab = Lab::new(Shape::TwoArmed, 2).expect("a lab");
    let mut siplb = Siplb::start(&lab, &options()).expect("siplb");
    calls(&lab);
    let received = 6 * CALLS;
    siplb
        .settled("all datagrams to be decided", |totals| {
            totals.received() == totals.decided() && totals.outcome("response") >= received / 2
        })
        .expect("counters that add up");

    let (kind, text) = get(&lab.servers, "/metrics", "text/plain");
    assert_eq!(kind, "text/plain; version=0.0.4; charset=utf-8");
    let said = promtool(&text);
    assert!(
        said.status.success() && said.stdout.is_empty() && said.stderr.is_empty(),
        "{said:?}"
    );
    let metrics = series(&text);
    equal_to_sipp(&metrics);
    let arguments = [
        "stats",
        "--json",
        "--config",
        siplb.configuration().to_str().expect("a path"),
    ];
    let stats = Command::new(binary().expect("siplb"))
        .args(arguments)
        .output();
    let stats = stats.expect("statistics").stdout;
    let stats: serde_json::Value = serde_json::from_slice(&stats).expect("JSON");
    equal_to_stats(&metrics, &stats);
    let (_, by_http) = get(&lab.servers, "/api/stats", "*/*");
    let by_http: serde_json::Value = serde_json::from_str(&by_http).expect("JSON");
    assert_eq!(by_http["total"]["outcomes"], stats["total"]["outcomes"]);
    assert_eq!(by_http["messages"], stats["messages"]);

    let (kind, open) = get(
        &lab.servers,
        "/metrics",
        "application/openmetrics-text; version=1.0.0",
    );
    assert_eq!(
        kind,
        "application/openmetrics-text; version=1.0.0; charset=utf-8"
    );
    assert!(open.ends_with("\n# EOF\n"));
    // promtool knows the older format alone: it reads this one too, but misses the help of counters under their full names.
    let said = String::from_utf8_lossy(&promtool(&open).stderr).into_owned();
    let others = said
        .lines()
        .filter(|line| !line.ends_with("_total no help text"));
    assert_eq!(others.collect::<Vec<_>>(), Vec::<&str>::new());
    prometheus_reads_it(&lab);

    // A second node where the servers were, which nobody sends anything.
    let vip = lab.vip(Family::V4).ip();
    lab.servers
        .ip(&format!("address add {vip}/32 dev lo"))
        .expect("an address");
    let second = Options {
        node: "edge2".into(),
        data_path: DataPath::Socket,
        ..options()
    };
    let pins = lab.pin_dir().join("none");
    let mut other = Siplb::start_in(&lab, &lab.servers, &second, pins).expect("a second siplb");
    let both = [EDGE, "http://127.0.0.1:9464/metrics"];
    let (status, text) = fleet(&lab, &both);
    assert_eq!(status, 0, "{text}");
    assert!(text.contains("all 2 nodes agree"), "{text}");

    let secret = "another secret, also of thirty-two".to_owned();
    other
        .rewrite(&lab, &Options { secret, ..second })
        .expect("a secret");
    other.client().cli(&["reload"]).expect("a reload");
    let (status, text) = fleet(&lab, &both);
    assert_eq!(status, 1, "{text}");
    assert!(
        text.contains("edge2 has another secret: it refuses the tokens of the others"),
        "{text}"
    );
    let (status, text) = fleet(&lab, &[EDGE, "127.0.0.1:9464", "127.0.0.1:9465", "--json"]);
    assert_eq!(status, 1, "{text}");
    let json: serde_json::Value = serde_json::from_str(&text).expect("JSON");
    assert_eq!(json["nodes"][0]["differs"], serde_json::json!([]));
    assert_eq!(
        json["nodes"][1]["differs"],
        serde_json::json!(["keys", "table_hash"])
    );
    assert!(json["nodes"][2]["error"].is_string(), "{json}");
    other.stop().expect("an ordinary end");
    siplb.stop().expect("an ordinary end");
}
