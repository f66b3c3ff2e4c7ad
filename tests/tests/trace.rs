//! What crosses a node is shown to those who look: by `siplb trace`, in a capture file, and to a HEP collector. No call minds.

use std::{
    collections::BTreeMap,
    fs,
    io::{BufRead, BufReader, Write},
    os::unix::{fs::PermissionsExt, net::UnixStream},
    path::Path,
    process::Command,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use lb_userspace::control::trace::{Line, Traced};
use rustix::process::Signal;
use siplb_lab::{
    Family, Lab, Process, Shape, Siplb, can_run, can_run_with,
    capture::{Checksum, packets},
    hep::Collector,
    siplb::{Client, DataPath, Options},
    sipp::{Message, Plan, Scenario, Sipp},
    until,
};

const SETTLE: Duration = Duration::from_secs(20);
const CALLS: u64 = 5;
const PASSWORD: &str = "of the collector";

/// Starts `siplb trace` with these arguments.
fn trace(lab: &Lab, client: &Client, name: &str, arguments: &[&str]) -> Process {
    let arguments = [&["trace"], arguments].concat();
    let command = client.command(&arguments).expect("siplb");
    lab.spawn(&lab.edge, name, command).expect("a trace")
}

/// Waits until so many traces have begun.
fn await_traces(siplb: &mut Siplb, count: usize) {
    let has_begun = || {
        let begun = siplb.process().output().matches("a trace begins").count();
        (begun >= count).then_some(())
    };
    until("traces to begin", SETTLE, has_begun).expect("traces");
}

/// Ends a trace as Ctrl-C does; what it has printed.
fn end(mut trace: Process) -> String {
    trace.signal(Signal::INT);
    let status = trace.wait(SETTLE).expect("an end");
    assert!(
        status.success(),
        "{}: {status}\n{}",
        trace.name(),
        trace.output()
    );
    trace.output()
}

fn traced(output: &str) -> Vec<Traced> {
    let lines = output
        .lines()
        .map(|line| serde_json::from_str(line).expect(line));
    let messages = lines.map(|line| match line {
        Line::Message(message) => *message,
        Line::Lost { .. } => panic!("messages were lost"),
    });
    messages.collect()
}

fn text(bytes: &[u8]) -> String {
    // SIPp's log ends each message with a line end of its own.
    String::from_utf8_lossy(bytes).trim_end().to_owned()
}

/// Texts with how often each is there.
fn counted(texts: impl IntoIterator<Item = String>) -> BTreeMap<String, usize> {
    let mut counts = BTreeMap::new();
    for text in texts {
        *counts.entry(text).or_default() += 1;
    }
    counts
}

fn of_log(messages: &[Message], sent: bool) -> impl Iterator<Item = String> {
    let messages = messages.iter().filter(move |message| message.sent == sent);
    messages.map(|message| message.text.trim_end().to_owned())
}

#[test]
fn a_natted_call_over_af_xdp_is_shown_as_both_sides_see_it() {
    both_sides(DataPath::Native, "af-xdp");
}

#[test]
fn a_natted_call_over_kernel_sockets_is_shown_as_both_sides_see_it() {
    both_sides(DataPath::Socket, "kernel");
}

fn both_sides(data_path: DataPath, way: &str) {
    if !can_run_with(&["tshark", "sngrep"]) {
        return;
    }
    let lab = Lab::new(Shape::Home, 1).expect("a lab");
    let options = Options {
        families: vec![Family::V4],
        weights: vec![1],
        nat: "{ detect: [received, contact-private, sdp-private], fix: [rport, contact, sdp] }"
            .into(),
        log: "trace".into(),
        ..Options::new(data_path)
    };
    let mut siplb = Siplb::start(&lab, &options).expect("siplb");
    let client = siplb.client();

    // A collector that comes by a reload, and an independent one behind it.
    let server = lab.server(Family::V4, 0);
    let at = |port| (server.ip(), port).into();
    let (sngrep, understood) = sngrep_listens(&lab, at(9061));
    let collector = Collector::start(&lab.servers, at(9060), Some(at(9061)));
    let collector = collector.expect("a collector");
    let password = lab.dir().join("password");
    fs::write(&password, PASSWORD).expect("a file");
    fs::set_permissions(&password, fs::Permissions::from_mode(0o600)).expect("a mode");
    let hep = format!(
        "hep: {{ collector: \"{}\", id: 7, password_file: {password:?} }}\n",
        at(9060)
    );
    let with_hep = Options {
        rest: hep,
        ..options.clone()
    };
    siplb.rewrite(&lab, &with_hep).expect("a configuration");
    let said = client.cli(&["reload"]).expect("a reload");
    assert!(said.contains("hep changed"), "{said}");

    let capture = lab.dir().join("trace.pcap");
    let capture_name = capture.to_str().expect("a path");
    let json = trace(&lab, &client, "json", &["--json", "--from", "caller"]);
    let full = trace(&lab, &client, "full", &["--full"]);
    let pcap = trace(&lab, &client, "pcap", &["--pcap", capture_name]);
    let nobody = trace(&lab, &client, "nobody", &["--from", "nobody"]);
    await_traces(&mut siplb, 4);
    let fifth = client.cli(&["trace"]).expect_err("too many traces");
    assert!(
        fifth.to_string().contains("4 traces run already"),
        "{fifth}"
    );

    let plan = Plan::server(Scenario::new("uas_peer_bye"), server).logging();
    let mut server = Sipp::start(&lab, &lab.servers, "server", &plan).expect("a server");
    let local = (lab.client_address(Family::V4), 5061).into();
    let plan = Plan::caller(
        Scenario::new("uac_peer_bye"),
        local,
        lab.vip(Family::V4),
        CALLS,
        25,
    );
    let mut phone = Sipp::start(&lab, &lab.client, "phone", &plan.logging()).expect("a phone");
    let books = phone.finish(SETTLE).expect("calls");
    assert_eq!((books.successful, books.failed), (CALLS, 0), "{books:?}");
    server.stop().expect("an end");
    let (at_phone, at_server) = (
        phone.messages().expect("a log"),
        server.messages().expect("a log"),
    );
    let count = of_log(&at_phone, true)
        .chain(of_log(&at_server, true))
        .count();

    // JSON: the bytes as phone and server have them.
    let all_there = || (json.output().lines().count() >= count).then_some(());
    until("all messages", SETTLE, all_there)
        .unwrap_or_else(|error| panic!("{error}: {count}\n{}", json.output()));
    let messages = traced(&end(json));
    let came = counted(messages.iter().map(|message| text(&message.received)));
    let left = counted(messages.iter().map(|message| text(&message.sent)));
    let were_sent = of_log(&at_phone, true).chain(of_log(&at_server, true));
    assert_eq!(came, counted(were_sent));
    let have_arrived = of_log(&at_phone, false).chain(of_log(&at_server, false));
    assert_eq!(left, counted(have_arrived));
    let calls = counted(messages.iter().filter_map(|message| message.call.clone()));
    assert_eq!(calls.len() as u64, CALLS);
    let invite = messages
        .iter()
        .find(|message| message.method.as_deref() == Some("INVITE"))
        .expect("an INVITE");
    assert_eq!(invite.outcome, "request_to_pool");
    assert_eq!(invite.backend.as_deref(), Some("sip1"));
    assert_eq!(invite.way, way);
    assert_eq!(
        invite.source.map(|source| source.ip()),
        Some(lab.visible_address(Family::V4))
    );
    assert!(
        invite.nat_fixed.iter().any(|fix| fix == "contact"),
        "{invite:?}"
    );

    // Text: what changed, marked.
    let full = end(full);
    let wanted = [
        "--INVITE---------> 203.0.113.10:5060 --INVITE---------> 10.0.0.11:5060 sip1",
        "<--200 INVITE----- 203.0.113.10:5060 <--200 INVITE----- 10.0.0.11:5060 sip1",
        "<--BYE------------ 203.0.113.10:5060 <--BYE------------ 10.0.0.11:5060 sip1",
        "  - Contact: <sip:caller@192.168.1.2:5061>",
        "  + Contact: <sip:caller@198.51.100.2:",
        "  + Via: SIP/2.0/UDP 203.0.113.10:5060;branch=",
        "  - c=IN IP4 192.168.1.2",
        "  + c=IN IP4 198.51.100.2",
    ];
    for line in wanted {
        assert!(full.contains(line), "no {line:?} in\n{full}");
    }
    assert_eq!(end(nobody), "");

    // A capture that others can read.
    let said = end(pcap);
    assert!(
        said.contains(&format!("{count} messages, 0 left out")),
        "{said}"
    );
    let seen = packets(&capture).expect("a capture");
    assert_eq!(seen.len(), 2 * count);
    for packet in &seen {
        assert!(packet.is_sip && !packet.malformed, "{packet:?}");
        assert_eq!(packet.ip_checksum, Some(Checksum::Good), "{packet:?}");
        assert_eq!(packet.udp_checksum, Some(Checksum::Good), "{packet:?}");
    }
    let copy = lab.dir().join("sngrep.pcap");
    sngrep_reads(&capture, &copy);
    assert_eq!(packets(&copy).expect("a copy").len(), 2 * count);

    // HEP: the same messages.
    let all_there = || (collector.count() >= 2 * count).then_some(());
    until("all HEP packets", SETTLE, all_there).expect("packets");
    let packets_of_hep = collector.packets().expect("HEP");
    let payloads = packets_of_hep
        .iter()
        .map(|packet| text(packet.payload.as_bytes()));
    let both_legs = messages
        .iter()
        .flat_map(|message| [&message.received, &message.sent]);
    assert_eq!(
        counted(payloads),
        counted(both_legs.map(|bytes| text(bytes)))
    );
    let now = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .expect("a time")
        .as_secs();
    for packet in &packets_of_hep {
        assert_eq!(packet.capture_id, 7);
        assert_eq!(packet.key.as_deref(), Some(PASSWORD.as_bytes()));
        assert!(
            packet
                .payload
                .contains(&format!("Call-ID: {}\r\n", packet.correlation_id))
        );
        let vip = lab.vip(Family::V4);
        assert!(
            [packet.source, packet.destination].contains(&vip),
            "{packet:?}"
        );
        assert!(now.abs_diff(packet.seconds.into()) < 120, "{packet:?}");
    }
    end(sngrep);
    let seen = packets(&understood).expect("a capture");
    assert_eq!(seen.len(), 2 * count, "what sngrep has understood of HEP");

    let totals = siplb.settled("HEP to be counted", |totals| {
        totals.counter("hep_sent") == 2 * count as u64
    });
    let totals = totals.expect("counters");
    assert_eq!(totals.counter("hep_copied"), count as u64);
    assert_eq!(totals.counter("trace_copied"), 3 * count as u64);
    // Nothing of a user stands in the log, however much it says.
    let log = siplb.process().output();
    for personal in ["caller", "sip:", PASSWORD] {
        assert!(!log.contains(personal), "{personal}: {log}");
    }
    siplb.stop().expect("an ordinary end");
}

/// A HEP collector that others wrote, and the file that it writes.
fn sngrep_listens(lab: &Lab, address: std::net::SocketAddr) -> (Process, std::path::PathBuf) {
    let file = lab.dir().join("hep.pcap");
    let mut command = Command::new("sngrep");
    command
        .args(["-F", "-N", "-q", "-L", &format!("udp:{address}"), "-O"])
        .arg(&file);
    let process = lab.spawn(&lab.servers, "sngrep", command).expect("sngrep");
    (process, file)
}

fn sngrep_reads(from: &Path, to: &Path) {
    let mut command = Command::new("sngrep");
    command
        .args(["-F", "-N", "-q", "-I"])
        .arg(from)
        .arg("-O")
        .arg(to);
    let output = command.output().expect("sngrep");
    assert!(output.status.success(), "{output:?}");
}

/// A client that does not read, and a collector that gets a share of all calls.
#[test]
fn a_slow_client_costs_copies_and_no_call() {
    if !can_run() {
        return;
    }
    const MANY: u64 = 600;
    let lab = Lab::new(Shape::TwoArmed, 2).expect("a lab");
    let server = lab.server(Family::V4, 0);
    let address = (server.ip(), 9060).into();
    let collector = Collector::start(&lab.servers, address, None).expect("a collector");
    let options = Options {
        families: vec![Family::V4],
        weights: vec![1],
        rest: format!("hep: {{ collector: \"{address}\", sample: 0.3 }}\n"),
        ..Options::new(DataPath::Native)
    };
    let mut siplb = Siplb::start(&lab, &options).expect("siplb");

    let mut slow = UnixStream::connect(siplb.client().control()).expect("a socket");
    slow.write_all(b"{\"command\":\"trace\"}\n")
        .expect("a request");
    await_traces(&mut siplb, 1);

    let plan = Plan::server(Scenario::new("uas_bye"), server);
    let mut server = Sipp::start(&lab, &lab.servers, "server", &plan).expect("a server");
    let local = (lab.client_address(Family::V4), 5061).into();
    let plan = Plan::caller(
        Scenario::new("uac_bye"),
        local,
        lab.vip(Family::V4),
        MANY,
        100,
    );
    let mut phone = Sipp::start(&lab, &lab.client, "phone", &plan.on_cpu(1)).expect("a phone");
    let books = phone.finish(Duration::from_secs(60)).expect("calls");
    assert_eq!((books.successful, books.failed), (MANY, 0), "{books:?}");
    server.stop().expect("an end");

    let totals = siplb.settled("copies to be dropped", |totals| {
        totals.counter("trace_dropped") > 0
            && totals.counter("hep_sent") == 2 * totals.counter("hep_copied")
    });
    let totals = totals.expect("counters");
    assert_eq!(totals.counter("tx_ring_full"), 0, "{totals:#?}");
    assert_eq!(totals.counter("trace_limited"), 0, "{totals:#?}");
    assert_eq!(totals.counter("hep_dropped"), 0, "{totals:#?}");
    // It is told when it reads again.
    let lines = BufReader::new(&slow)
        .lines()
        .map(|line| line.expect("a line"));
    let mut lost = lines.filter_map(|line| match serde_json::from_str(&line) {
        Ok(Line::Lost { queue_full, .. }) => Some(queue_full),
        _ => None,
    });
    assert!(lost.next().is_some_and(|lost| lost > 0));

    // Every message of some of the calls, and none of the others.
    let sent = totals.counter("hep_sent") as usize;
    let all_there = || (collector.count() >= sent).then_some(());
    until("all HEP packets", SETTLE, all_there).expect("packets");
    let calls = counted(
        collector
            .packets()
            .expect("HEP")
            .into_iter()
            .map(|packet| packet.correlation_id),
    );
    let share = calls.len() as f64 / MANY as f64;
    assert!((0.2..0.4).contains(&share), "{share}");
    let per_call = 2 * totals.decided() as usize / MANY as usize;
    assert!(
        calls.values().all(|count| *count == per_call),
        "{per_call}: {calls:#?}"
    );

    // Off by a reload: from then on nobody gets anything.
    let without = Options {
        rest: String::new(),
        ..options
    };
    siplb.rewrite(&lab, &without).expect("a configuration");
    siplb.client().cli(&["reload"]).expect("a reload");
    let before = collector.count();
    let plan = Plan::server(Scenario::new("uas_bye"), lab.server(Family::V4, 0));
    let mut server = Sipp::start(&lab, &lab.servers, "server2", &plan).expect("a server");
    let plan = Plan::caller(Scenario::new("uac_bye"), local, lab.vip(Family::V4), 10, 10);
    let mut phone = Sipp::start(&lab, &lab.client, "phone2", &plan.on_cpu(1)).expect("a phone");
    assert_eq!(phone.finish(SETTLE).expect("calls").successful, 10);
    server.stop().expect("an end");
    assert_eq!(collector.count(), before);
    // With the slow client still there.
    siplb.stop().expect("an ordinary end");
    drop(slow);
}
