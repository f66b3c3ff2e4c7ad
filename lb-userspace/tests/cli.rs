//! The binary as people and scripts meet it: what it prints where, and its exit status.

use std::{
    fs,
    io::{BufRead, BufReader},
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    process::{Command, Output, Stdio},
    sync::Arc,
};

use lb_userspace::{
    balance::BackendIndex,
    config,
    control::{
        announce::AnnounceStatus,
        events::{Event, Events, Kind, Severity},
        server,
        status::{Frames, KeyStatus, SocketStatus, Status, WorkerStatus},
    },
    stats::{Counter, StatsFile, WorkerInfo},
};

const CONFIG: &str = "\
node: { name: edge-1, address: 192.0.2.11, secret_file: DIR/secret }
datapath: { interfaces: [eth0, eth1], cpus: [2, 3] }
listeners:
  - { name: public, address: 203.0.113.10, nat: { detect: [sdp-private, received], fix: [rport, contact] } }
  - { name: inside, address: 10.0.0.1, port: 5080 }
pools:
  - name: switches
    backends:
      - { name: sw1, address: 10.0.0.11:5060, weight: 2 }
      - { name: sw2, address: 10.0.0.12:5060 }
      - { name: old, address: 10.0.0.13:5060, weight: 0 }
  - name: registrars
    backends:
      - { name: reg1, address: 10.0.0.21:5060 }
routes:
  - { method: REGISTER, pool: registrars }
  - { method: INVITE, listener: public, pool: switches, nat: { detect: [contact-private] } }
  - { listener: inside, pool: switches, nat: { detect: [] } }
nat: { private: [192.0.0.0/24] }
control: { socket: DIR/control.sock }
stats: { file: DIR/stats }
";

/// A directory with a configuration, gone at the end of the test.
struct Dir(PathBuf);

impl Dir {
    fn new(name: &str) -> Self {
        let dir = std::env::temp_dir().join(format!("siplb-cli-{name}-{}", std::process::id()));
        fs::create_dir_all(&dir).unwrap();
        let dir = Self(dir);
        dir.write("siplb.yaml", &CONFIG.replace("DIR", &dir.path("")));
        dir.write("secret", "0123456789abcdef");
        fs::set_permissions(dir.path("secret"), fs::Permissions::from_mode(0o600)).unwrap();
        dir
    }

    /// Without a slash at the end.
    fn path(&self, name: &str) -> String {
        let path = self.0.join(name).display().to_string();
        path.trim_end_matches('/').to_owned()
    }

    fn write(&self, name: &str, text: &str) {
        fs::write(self.path(name), text).unwrap();
    }

    fn siplb(&self, arguments: &[&str]) -> Output {
        self.command(arguments).output().unwrap()
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_siplb"));
        command
            .args(arguments)
            .args(["--config", &self.path("siplb.yaml")])
            .env_remove("COLUMNS");
        command
    }
}

impl Drop for Dir {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

#[track_caller]
fn check(output: &Output, status: i32, stdout: &str, stderr: &str) {
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    assert_eq!(
        (text(&output.stdout).as_str(), text(&output.stderr).as_str()),
        (stdout, stderr)
    );
    assert_eq!(output.status.code(), Some(status));
}

#[test]
fn check_says_what_the_configuration_means() {
    let dir = Dir::new("meaning");
    let wanted = "\
DIR/siplb.yaml is valid.

Node edge-1
  own address     192.0.2.11
  secret          DIR/secret
  control socket  DIR/control.sock
  statistics      DIR/stats

Listeners
  public  203.0.113.10:5060
  inside  10.0.0.1:5080

Pool switches
  hash-call-id: the same backend on every node with this table hash
  backend  address         priority  weight  cps   slots         share
  sw1      10.0.0.11:5060         0       2    -  SLOTS0      PERCENT0
  sw2      10.0.0.12:5060         0       1    -  SLOTS1      PERCENT1
  old      10.0.0.13:5060         0       0    -       0  no new calls
  not probed: all backends count as healthy
  phones that register are reached by a Path of ours

Pool registrars
  hash-call-id: the same backend on every node with this table hash
  backend  address         priority  weight  cps   slots    share
  reg1     10.0.0.21:5060         0       1    -  65,536  100.0 %
  not probed: all backends count as healthy
  phones that register are reached by a Path of ours

Routes (requests without a flow token; the first rule that matches)
  1.  REGISTER                                             -> pool registrars
  2.  INVITE (with its CANCEL and ACK) to listener public  -> pool switches
  3.  everything else to listener inside                   -> pool switches
      everything else                                      -> 404 Not Found

Far-end NAT
  listener public  received, sdp-private  -> rport, contact
  route 2          contact-private        -> count only
  route 3          looks for nothing
  also private: 192.0.0.0/24

Outbound (requests of backends without a flow token)
  trusted as well  nobody else
  topology         keep: the outside sees their Via, Record-Route and Contact
  name servers     those of /etc/resolv.conf

Datapath
  mode         auto: AF_XDP on eth0, eth1, or the kernel's sockets where that fails
  XDP program  auto: native where the driver can, else generic
  zero copy    prefer: where the driver can, else copy
  workers      one for each receive queue
  CPUs         in this order: 2, 3
  per worker   8,192 chunks, rings of 2048
  full worker  hands calls over to idle ones
  watchdog     to the kernel after 250 ms without a heartbeat
  pinned in    /sys/fs/bpf/siplb/edge-1

Table hash HASH

Note: pool switches has no \"health\": a backend that dies keeps its share of the calls
";
    // What depends on the hash is not repeated here; that it is right is tested where it is made.
    let json: serde_json::Value =
        serde_json::from_slice(&dir.siplb(&["check", "--json"]).stdout).unwrap();
    let mut wanted = wanted
        .replace("DIR", &dir.path(""))
        .replace("HASH", json["table_hash"].as_str().unwrap());
    for (index, share) in [(0, 2.0 / 3.0), (1, 1.0 / 3.0)] {
        let slots = json["pools"][0]["backends"][index]["slots"]
            .as_u64()
            .unwrap();
        assert!((slots as f64 / 65_536.0 - share).abs() < 0.01);
        let slots_text = format!("{},{:03}", slots / 1000, slots % 1000);
        let percent = format!("{:>8}", format!("{:.1} %", slots as f64 / 655.36));
        wanted = wanted
            .replace(&format!("SLOTS{index}"), &slots_text)
            .replace(&format!("PERCENT{index}"), &percent);
    }
    check(&dir.siplb(&["check"]), 0, &wanted, "");
}

#[test]
fn check_prints_json() {
    let dir = Dir::new("json");
    let output = dir.siplb(&["check", "--json"]);
    assert_eq!(output.status.code(), Some(0));
    let json: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    for (pointer, value) in [
        ("/valid", "true"),
        ("/node", "\"edge-1\""),
        ("/listeners/1/address", "\"10.0.0.1:5080\""),
        ("/listeners/1/validate/mode", "\"off\""),
        ("/listeners/1/validate/checks", "[]"),
        ("/pools/0/strategy", "\"hash-call-id\""),
        ("/pools/0/backends/0/weight", "2"),
        ("/pools/1/backends/0/slots", "65536"),
        ("/pools/1/backends/0/share_percent", "100.0"),
        ("/routes/0/method", "\"REGISTER\""),
        ("/routes/0/listener", "null"),
        ("/routes/1/pool", "\"switches\""),
        ("/listeners/0/nat/detect", "[\"received\",\"sdp-private\"]"),
        ("/listeners/0/nat/fix", "[\"rport\",\"contact\"]"),
        ("/listeners/1/nat/detect", "[]"),
        ("/routes/0/nat", "null"),
        ("/routes/1/nat/detect", "[\"contact-private\"]"),
        ("/nat_private", "[\"192.0.0.0/24\"]"),
        ("/datapath/mode", "\"auto\""),
        ("/datapath/share_load", "\"auto\""),
        ("/datapath/stale_after_ms", "250"),
        ("/pools/0/health", "null"),
        ("/pools/0/exact_across_nodes", "true"),
        ("/pools/0/backends/0/priority", "0"),
        ("/limits/on_breach", "\"503\""),
        ("/limits/cps", "null"),
    ] {
        let found = json
            .pointer(pointer)
            .unwrap_or_else(|| panic!("no {pointer}"));
        assert_eq!(found.to_string(), value, "{pointer}");
    }
}

#[test]
fn check_says_what_is_validated() {
    let dir = Dir::new("validate");
    let config = CONFIG.replace("DIR", &dir.path(""));
    let validate = "port: 5080, validate: { mode: header, checks: [sdp, from] }";
    assert!(config.contains("port: 5080"));
    let config = config.replace("port: 5080", validate);
    let config = config.replace("203.0.113.10", "203.0.113.10, validate: reply");
    dir.write("siplb.yaml", &config);
    let text = String::from_utf8(dir.siplb(&["check"]).stdout).unwrap();
    let wanted = "
Validation (requests from outside that are not well-formed)
  public  reply: 400 with the reason               all checks
  inside  header: X-Validate-Fail with the reason  from, sdp

Pool switches
";
    assert!(text.contains(wanted), "{text}");
    let output = dir.siplb(&["check", "--json"]);
    let json: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    let found = json.pointer("/listeners/1/validate").unwrap().to_string();
    assert_eq!(found, r#"{"checks":["from","sdp"],"mode":"header"}"#);
}

#[test]
fn check_says_what_is_answered_here_and_what_backends_are_told() {
    let dir = Dir::new("told");
    let text = "
node: { name: a }
listeners: [ { name: p, address: 203.0.113.10, ping_replies: all }, { name: q, address: 203.0.113.11, ping_replies: off } ]
pools:
  - { name: x, client_address: proxy-protocol, backends: [ { name: x1, address: 10.0.0.1:5060 } ] }
  - { name: y, client_address: { port: X-Port, ip: X-IP }, backends: [ { name: y1, address: 10.0.0.2:5060 } ] }
  - { name: z, backends: [ { name: z1, address: 10.0.0.3:5060 } ] }
routes: [ { method: INVITE, pool: x }, { method: REGISTER, pool: y }, { pool: z } ]
";
    dir.write("siplb.yaml", text);
    let text = String::from_utf8(dir.siplb(&["check"]).stdout).unwrap();
    for wanted in [
        "\n  p  203.0.113.10:5060, answers every OPTIONS from outside a dialog\n  q  203.0.113.11:5060, answers no OPTIONS\n",
        "\n  told the client's address by the PROXY protocol, version 2, in front of every datagram\n\nPool y\n",
        "\n  told the client's address by X-IP, X-Port in requests from outside\n\nPool z\n",
    ] {
        assert!(text.contains(wanted), "{text}");
    }
    assert_eq!(text.matches("told the").count(), 2, "{text}");
    let output = dir.siplb(&["check", "--json"]);
    let json: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    for (pointer, value) in [
        ("/listeners/0/ping_replies", "\"all\""),
        ("/pools/0/client_address/by", "\"proxy-protocol\""),
        ("/pools/1/client_address/by", "\"header-fields\""),
        ("/pools/1/client_address/ip", "\"X-IP\""),
        ("/pools/1/client_address/transport", "null"),
        ("/pools/2/client_address/by", "\"off\""),
    ] {
        assert_eq!(
            json.pointer(pointer).unwrap().to_string(),
            value,
            "{pointer}"
        );
    }
}

#[test]
fn check_reports_every_mistake_and_exits_with_2() {
    let dir = Dir::new("mistakes");
    let text = fs::read_to_string(dir.path("siplb.yaml")).unwrap();
    let text = text
        .replace("weight: 2", "wieght: 2")
        .replace("10.0.0.12:5060", "10.0.0.300:5060");
    dir.write("siplb.yaml", &text);
    let wanted = "\
DIR/siplb.yaml:9:47: pools[0].backends[0].wieght: this key is not known; did you mean weight?
DIR/siplb.yaml:10:31: pools[0].backends[1].address: \"10.0.0.300:5060\" is not an address; write IP:PORT, such as \
10.0.0.11:5060 or \"[2001:db8::11]:5060\"
";
    let wanted = wanted.replace("DIR", &dir.path(""));
    for arguments in [
        &["check"][..],
        &["check", "--json"],
        &["run"],
        &["stats"],
        &["status"],
    ] {
        check(&dir.siplb(arguments), 2, "", &wanted);
    }
}

#[test]
fn check_notes_what_is_hardly_meant() {
    let dir = Dir::new("notes");
    let text = "
node: { name: a }
listeners: [ { name: p, address: 203.0.113.10 }, { name: q, address: 203.0.113.11 } ]
pools:
  - { name: x, backends: [ { name: x1, address: 10.0.0.1:5060 } ] }
  - { name: y, backends: [ { name: y1, address: 10.0.0.2:5060 } ] }
routes: [ { listener: p, pool: x } ]
";
    dir.write("siplb.yaml", text);
    let output = dir.siplb(&["check"]);
    assert_eq!(output.status.code(), Some(0));
    let text = String::from_utf8(output.stdout).unwrap();
    let notes = text.lines().filter(|line| line.starts_with("Note: "));
    assert_eq!(
        notes.collect::<Vec<_>>(),
        [
            "Note: without node.secret_file `siplb run` refuses to start, and the table hash means nothing",
            "Note: no route leads to pool y",
            "Note: no route serves listener q",
        ]
    );
    let output = dir.siplb(&["run"]);
    assert_eq!(output.status.code(), Some(2));
    let text = String::from_utf8(output.stderr).unwrap();
    assert!(text.contains("node.secret_file: is missing"), "{text}");
}

#[test]
fn the_example_configuration_is_valid() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../scripts/siplb.yaml");
    let text = fs::read_to_string(path).unwrap();
    let config = config::parse(&text, "scripts/siplb.yaml").unwrap();
    assert_eq!(config.routes.len(), 3);

    // What it says about defaults is true: with them written out it means the same.
    let mut written = String::new();
    for line in text.lines() {
        let (indent, rest) = line.split_at(line.len() - line.trim_start().len());
        match rest.strip_prefix("# ") {
            Some(field)
                if field
                    .split(' ')
                    .next()
                    .is_some_and(|word| word.ends_with(':')) =>
            {
                let keep = ![
                    "cpus:",
                    "workers:",
                    "previous_secret_file:",
                    "distribution_secret_file:",
                    "state_file:",
                    "max_expires:",
                    "trusted:",
                    "name_servers:",
                    "(umask",
                ]
                .iter()
                .any(|word| field.starts_with(word));
                if keep && !indent.is_empty() {
                    written += &format!("{indent}{field}\n");
                }
            }
            _ => written += &format!("{line}\n"),
        }
    }
    assert!(written.contains("\n  ring: 2048"), "{written}");
    let written = config::parse(&written, "written out").unwrap();
    assert_eq!(written.datapath, config.datapath);
    assert_eq!(written.listeners, config.listeners);
    assert_eq!(written.pools, config.pools);
    assert_eq!(written.outbound, config.outbound);
    assert_eq!(
        (written.control, written.stats),
        (config.control, config.stats)
    );
}

#[test]
fn wrong_usage_exits_with_2_and_help_with_0() {
    let siplb = |arguments: &[&str]| {
        let output = Command::new(env!("CARGO_BIN_EXE_siplb"))
            .args(arguments)
            .output();
        output.unwrap().status.code()
    };
    assert_eq!(siplb(&[]), Some(2));
    assert_eq!(siplb(&["nonsense"]), Some(2));
    assert_eq!(siplb(&["check", "--nonsense"]), Some(2));
    assert_eq!(siplb(&["stats", "--watch=0"]), Some(2));
    assert_eq!(siplb(&["--help"]), Some(0));
    assert_eq!(siplb(&["stats", "--help"]), Some(0));
    assert_eq!(siplb(&["--version"]), Some(0));
}

fn stats_file(dir: &Dir) -> StatsFile {
    let worker = WorkerInfo {
        cpu: 1,
        queue: 0,
        data_path: "socket".into(),
    };
    StatsFile::create(Path::new(&dir.path("stats")), &[worker], &["sw1".into()]).unwrap()
}

#[test]
fn stats_of_the_living_and_the_dead() {
    let dir = Dir::new("stats");
    let stats = stats_file(&dir);
    let worker = stats.worker(0);
    worker.add(Counter::RxKernel, 1234);
    worker.backend_request(BackendIndex(0), true);
    let pins = dir.path("no-pins");
    let arguments = ["stats", "--pin-path", &pins];

    let rest = "
Workers
  queue  cpu  data path
      0    1  socket

Backends
  backend  requests  INVITEs  share
  sw1             1        0  0.0 %

               cpu 1  total
Workers      queue 0
  rx_kernel    1,234  1,234
";
    let output = dir.siplb(&arguments);
    let text = String::from_utf8(output.stdout).unwrap();
    let (first, others) = text.split_once('\n').unwrap();
    assert!(
        first.starts_with(&format!("pid {}, up ", std::process::id())),
        "{first}"
    );
    assert_eq!(others, rest);

    let json = dir.siplb(&["stats", "--json", "--pin-path", &pins]);
    let json: serde_json::Value = serde_json::from_slice(&json.stdout).unwrap();
    assert_eq!(json["total"]["counters"]["rx_kernel"], 1234);

    // No process has so high a number: /proc/sys/kernel/pid_max is at most 2^22.
    let mut bytes = fs::read(dir.path("stats")).unwrap();
    bytes[24..32].copy_from_slice(&5_000_000u64.to_ne_bytes());
    drop((stats, worker));
    fs::write(dir.path("stats"), &bytes).unwrap();
    let output = dir.siplb(&arguments);
    assert_eq!(output.status.code(), Some(0));
    let text = String::from_utf8(output.stdout).unwrap();
    let (first, others) = text.split_once('\n').unwrap();
    assert!(
        first.starts_with("pid 5000000 is not running; its counters stand still since "),
        "{first}"
    );
    assert_eq!(others, rest);

    bytes.truncate(1000);
    fs::write(dir.path("stats"), &bytes).unwrap();
    let wanted = format!(
        "siplb: {}: not a statistics file: it is not whole\n",
        dir.path("stats")
    );
    check(&dir.siplb(&arguments), 1, "", &wanted);
    fs::remove_file(dir.path("stats")).unwrap();
    let wanted = format!(
        "siplb: {}: no such file; is siplb running, and with this stats.file?\n",
        dir.path("stats")
    );
    check(&dir.siplb(&arguments), 1, "", &wanted);
}

#[test]
fn watching_prints_a_line_of_json_each_time() {
    let dir = Dir::new("watch");
    let stats = stats_file(&dir);
    let worker = stats.worker(0);
    let pins = dir.path("no-pins");
    let mut child = dir
        .command(&["stats", "--json", "--watch", "0.1", "--pin-path", &pins])
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    let mut next =
        || -> serde_json::Value { serde_json::from_str(&lines.next().unwrap().unwrap()).unwrap() };
    assert!(next()["total"]["counters"].get("rx_kernel_per_s").is_none());
    worker.add(Counter::RxKernel, 1_000_000);
    // The add may come before or after the second reading, but one of them sees it.
    let rates = [next(), next()].map(|json| {
        json["total"]["counters"]["rx_kernel_per_s"]
            .as_f64()
            .unwrap()
    });
    assert!(rates.iter().any(|&rate| rate > 0.0), "{rates:?}");
    // When nobody reads any more it ends, and that is no failure.
    drop(lines);
    assert_eq!(child.wait().unwrap().code(), Some(0));
}

#[test]
fn status_asks_the_running_node() {
    let dir = Dir::new("status");
    let wanted = format!(
        "siplb: {}: nobody answers; is siplb running, and with this control.socket?\n",
        dir.path("control.sock")
    );
    check(&dir.siplb(&["status"]), 1, "", &wanted);

    let socket = |interface: &str, gate_open| SocketStatus {
        interface: interface.into(),
        attach: "native".into(),
        copy: "copy".into(),
        gate_open,
    };
    let worker = |queue, free| WorkerStatus {
        cpu: 2,
        queue,
        heartbeat_age_ms: Some(3),
        sockets: vec![socket("eth0", true), socket("eth1", queue == 0)],
        frames: Some(Frames {
            total: 8192,
            free,
            fill: 4096,
            rx: 1,
            tx: 2,
        }),
    };
    let status = Status {
        version: "0.1.0".into(),
        pid: 4711,
        node: "edge-1".into(),
        uptime_s: 125,
        mode: "af-xdp".into(),
        mode_reason: None,
        config_hash: "0123456789abcdef".into(),
        generation: 3,
        table_hash: "0123456789abcdef".into(),
        keys: vec![KeyStatus {
            id: "0a0b0c0d".into(),
            role: "signing".into(),
        }],
        announce: Some(AnnounceStatus {
            announced: true,
            reason: None,
            since_s: 61,
            device: Some("lo".into()),
            vips: vec!["203.0.113.10".into(), "2001:db8::10".into()],
        }),
        workers: vec![worker(0, 4093), worker(1, 4000)],
        ..Status::default()
    };
    let mut answer = serde_json::to_value(&status).unwrap();
    answer["ok"] = true.into();
    let reply = answer.clone();
    let handler = move |request: &lb_userspace::control::Request| match request.command.as_str() {
        "status" => reply.clone().into(),
        _ => server::refusal("no such command").into(),
    };
    let _server = server::serve(Path::new(&dir.path("control.sock")), Arc::new(handler)).unwrap();
    let wanted = "\
edge-1, siplb 0.1.0, pid 4711, up 2 min 5 s
af-xdp
table hash 0123456789abcdef
configuration 0123456789abcdef, generation 3
secret 0a0b0c0d (signing)
announced: 203.0.113.10, 2001:db8::10 on lo, for 1 min 1 s

queue  cpu  interface  XDP     AF_XDP  gate    heartbeat
    0    2  eth0       native  copy    open     3 ms ago
    0    2  eth1       native  copy    open     3 ms ago
    1    2  eth0       native  copy    open     3 ms ago
    1    2  eth1       native  copy    closed   3 ms ago

queue  chunks   free   fill  rx  tx
    0   8,192  4,093  4,096   1   2
    1   8,192  4,000  4,096   1   2
queue 1: 8,099 of 8,192 chunks are accounted for
queue 1: the gate on eth1 is closed; datagrams go through the kernel
";
    check(&dir.siplb(&["status"]), 0, wanted, "");
    let json = dir.siplb(&["status", "--json"]);
    assert_eq!(
        serde_json::from_slice::<serde_json::Value>(&json.stdout).unwrap(),
        answer
    );
}

/// A node is started again while somebody watches: nothing comes twice, and nothing is missed.
#[test]
fn watching_events_goes_on_when_the_node_is_back() {
    let dir = Dir::new("events");
    let serve = |events: &Arc<Events>| {
        let events = Arc::clone(events);
        let handler = move |request: &lb_userspace::control::Request| {
            let number = |name| {
                request
                    .arguments
                    .get(name)
                    .and_then(serde_json::Value::as_u64)
            };
            let count = number("count").unwrap_or(u64::MAX) as usize;
            let events = events.newest(number("after").unwrap_or(0), count);
            serde_json::json!({ "ok": true, "events": events }).into()
        };
        server::serve(Path::new(&dir.path("control.sock")), Arc::new(handler)).unwrap()
    };
    let note = |events: &Events, text: &str| {
        events.note(Kind::BackendHealth, Severity::Warn, "sw1", text);
    };
    let before = Arc::new(Events::default());
    for text in ["one", "two", "three"] {
        note(&before, text);
    }
    let node = serve(&before);
    let text = dir.siplb(&["events", "--count", "1"]);
    let text = String::from_utf8(text.stdout).unwrap();
    assert!(
        text.ends_with("Z  backend_health    sw1: three\n"),
        "{text}"
    );

    let mut child = dir
        .command(&["events", "--watch", "--json", "--count", "2"])
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    let mut next = || {
        let event: Event = serde_json::from_str(&lines.next().unwrap().unwrap()).unwrap();
        event.text
    };
    assert_eq!([next(), next()], ["two", "three"]);
    note(&before, "four");
    assert_eq!(next(), "four");
    drop(node);
    let after = Arc::new(Events::default());
    note(&after, "again");
    let _node = serve(&after);
    assert_eq!(next(), "again");
    child.kill().unwrap();
    child.wait().unwrap();
}

/// Two processes, the list of backends in another order: the same table.
#[test]
fn the_order_of_backends_does_not_change_the_table() {
    let dir = Dir::new("order");
    let hash = |config: &str| {
        fs::write(dir.path("siplb.yaml"), config).unwrap();
        let output = dir.siplb(&["check", "--json"]);
        let json: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
        json["table_hash"].as_str().unwrap().to_owned()
    };
    let config = CONFIG.replace("DIR", &dir.path(""));
    let lines = config.lines().collect::<Vec<_>>();
    let first = lines
        .iter()
        .position(|line| line.contains("name: sw1"))
        .unwrap();
    assert!(lines[first + 1].contains("name: sw2"));
    let mut shuffled = lines.clone();
    shuffled.swap(first, first + 1);
    assert_eq!(hash(&config), hash(&shuffled.join("\n")));
    assert_ne!(
        hash(&config),
        hash(&config.replace("weight: 2", "weight: 3"))
    );
}
