//! Every message, from every side: nothing breaks, what is valid goes on as it is, and what is not does not.

use std::{collections::BTreeMap, net::SocketAddr, process::Command};

use lb_userspace::forward::Outcome;

use super::{
    compare,
    edge::{BACKENDS, CLIENTS, Edge, Sent, Treatment, VIPS, address},
    exceptions,
    folder::{self, Kind, Message, Valid},
    mend::Fixes,
    slow,
    way_back::WayBack,
};

/// Everything that is wrong, all at once.
#[derive(Default)]
struct Findings(Vec<String>);

impl Findings {
    fn add(&mut self, message: &Message, what: impl std::fmt::Display) {
        self.0.push(format!("{}: {what}", message.file));
    }
}

impl Drop for Findings {
    fn drop(&mut self) {
        if !std::thread::panicking() {
            assert!(
                self.0.is_empty(),
                "{} findings\n{}",
                self.0.len(),
                self.0.join("\n")
            );
        }
    }
}

#[test]
fn our_copies_are_what_their_origins_have() {
    let own = folder::own();
    let rows = folder::rows(&own.join("provenance.tsv"));
    let messages = folder::load(&own);
    assert_eq!(rows.len(), messages.len());
    let column =
        |row: &std::collections::HashMap<String, Vec<u8>>, name: &str| folder::text(&row[name]);
    let sums = rows
        .iter()
        .map(|row| format!("{}  {}\n", column(row, "sha256"), column(row, "file")));
    let list = std::env::temp_dir().join(format!("corpus-{}.sha256", std::process::id()));
    std::fs::write(&list, sums.collect::<String>()).expect("a file");
    let mut check = Command::new("sha256sum");
    let output = check
        .args(["--check", "--quiet"])
        .arg(&list)
        .current_dir(&own)
        .output();
    let output = output.expect("sha256sum of coreutils");
    std::fs::remove_file(&list).expect("the file");
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stdout)
    );
    assert!(messages.iter().all(|message| message.expected.is_some()));
}

#[test]
fn every_request_goes_on_whole_or_not_at_all() {
    let mut edge = Edge::new("");
    let mut findings = Findings::default();
    let mut counts = Counts::default();
    for message in folder::all() {
        for (family, client) in CLIENTS.into_iter().enumerate() {
            let sent = edge.send(address(client), &message.bytes);
            if sent.treatment == Treatment::Forwarded {
                let ends = (address(client), address(VIPS[family]));
                let whole = compare::request(&message.bytes, &sent.bytes, ends.0, ends.1);
                if let Err(fault) = whole {
                    findings.add(&message, fault);
                }
                assert_eq!(sent.to, Some(address(BACKENDS[family])), "{}", message.file);
            }
            if message.kind() != Some(Kind::Response) {
                let wanted = exceptions::request(&message.file);
                judge(&message, &sent, wanted, &mut findings);
            } else if sent.treatment != Treatment::Dropped {
                findings.add(
                    &message,
                    format_args!("nobody asked for it, and {:?}", sent.treatment),
                );
            }
            if family == 0 {
                counts.add(&message, sent.treatment);
            }
        }
    }
    counts.print("requests, and responses that nobody asked for, from a client");
}

const INDICATORS: &str = "contact-private, received, via-private, sdp-private, via-port, contact-address, contact-port, \
                          source-private, sdp-address, ipv6-local";

/// With every indicator looked for, every client of the corpus is behind a NAT, for none has the addresses of ours.
#[test]
fn what_is_mended_is_mended_and_the_rest_is_whole() {
    for (names, fixes) in [
        (
            "rport, contact, sdp",
            Fixes {
                rport: true,
                contact: true,
                alias: false,
                sdp: true,
            },
        ),
        (
            "contact-alias",
            Fixes {
                rport: false,
                contact: false,
                alias: true,
                sdp: false,
            },
        ),
    ] {
        let mut edge = Edge::new(&format!(
            ", nat: {{ detect: [{INDICATORS}], fix: [{names}] }}"
        ));
        let mut findings = Findings::default();
        let mut changed = 0;
        for message in folder::all() {
            for (family, client) in CLIENTS.into_iter().enumerate() {
                let (client, vip) = (address(client), address(VIPS[family]));
                let sent = edge.send(client, &message.bytes);
                if sent.treatment != Treatment::Forwarded {
                    continue;
                }
                match compare::mended(&message.bytes, &sent.bytes, client, vip, fixes) {
                    Ok(()) => {}
                    Err(_) if exceptions::mended(&message.file) => {}
                    Err(fault) => findings.add(&message, fault),
                }
                changed += usize::from(
                    compare::request(&message.bytes, &sent.bytes, client, vip).is_err(),
                );
            }
        }
        println!("{names}: {changed} requests mended");
    }
}

/// Compares what became of a request with what its validity asks for, or with the exception that is made for it.
fn judge(message: &Message, sent: &Sent, wanted: Option<Treatment>, findings: &mut Findings) {
    let treatment = sent.treatment;
    let usual = match message.valid() {
        Valid::Yes => treatment == Treatment::Forwarded,
        Valid::No => match treatment {
            Treatment::Refused(status) => (400..500).contains(&status) || status == 505,
            Treatment::Dropped => true,
            Treatment::Forwarded | Treatment::Kept => false,
        },
        Valid::Unspecified => wanted.is_none(),
    };
    let what = format!("{:?}, {treatment:?} by {:?}", message.valid(), sent.outcome);
    match wanted {
        None if !usual => findings.add(message, what),
        Some(_) if usual => findings.add(message, format_args!("{what}: an exception for nothing")),
        Some(wanted) if wanted != treatment => {
            findings.add(
                message,
                format_args!("{what}, the exception says {wanted:?}"),
            );
        }
        _ => {}
    }
}

/// What a backend sends is no work for a pool: it leaves whole, for where it says, or not at all.
#[test]
fn what_a_backend_sends_goes_where_it_says_and_never_to_a_pool() {
    let mut edge = Edge::new("");
    let mut findings = Findings::default();
    let mut counts = BTreeMap::<_, usize>::new();
    for message in folder::all() {
        for (family, backend) in BACKENDS.into_iter().enumerate() {
            let (backend, vip) = (address(backend), address(VIPS[family]));
            let sent = edge.send(backend, &message.bytes);
            *counts.entry(sent.outcome.name()).or_default() += 1;
            let next_hop = slow::read(&message.bytes).next_hop();
            match sent.treatment {
                Treatment::Forwarded => {
                    let whole = compare::outbound(&message.bytes, &sent.bytes, backend, vip);
                    if let Err(fault) = whole {
                        findings.add(&message, fault);
                    }
                    if sent.outcome != Outcome::RequestOutbound || sent.to != next_hop {
                        let what = (sent.outcome, sent.to, next_hop);
                        findings.add(&message, format_args!("{what:?}"));
                    }
                }
                // A name is not known, and says so.
                Treatment::Dropped if sent.outcome == Outcome::AwaitsName && next_hop.is_some() => {
                    findings.add(&message, format_args!("waits, and leads to {next_hop:?}"));
                }
                _ => {}
            }
        }
    }
    for outcome in [Outcome::RequestOutbound, Outcome::AwaitsName] {
        assert!(counts.contains_key(outcome.name()), "{counts:?}");
    }
    println!("from a backend: {counts:?}");
}

#[test]
fn every_response_comes_back_whole_or_not_at_all() {
    let mut edge = Edge::new("");
    let mut findings = Findings::default();
    let mut counts = Counts::default();
    let mut as_they_were = 0;
    for message in folder::all() {
        if message.kind() != Some(Kind::Response) {
            continue;
        }
        let wanted = exceptions::response(&message.file);
        let Some(way_back) = WayBack::new(&mut edge, &message.bytes) else {
            if message.valid() == Valid::Yes {
                findings.add(&message, "there is no way back for it");
            }
            continue;
        };
        let (treatment, fault) = way_back.take(&mut edge);
        if let Err(fault) = fault {
            findings.add(&message, fault);
        }
        let usual = match message.valid() {
            Valid::Yes => treatment == Treatment::Forwarded,
            Valid::No => treatment == Treatment::Dropped,
            Valid::Unspecified => wanted.is_none(),
        };
        match wanted {
            None if !usual => findings.add(
                &message,
                format_args!("{:?}, {treatment:?}", message.valid()),
            ),
            Some(wanted) if usual || wanted != treatment => findings.add(
                &message,
                format_args!("{treatment:?}, the exception says {wanted:?}"),
            ),
            _ => {}
        }
        as_they_were += usize::from(treatment == Treatment::Forwarded && way_back.as_it_was);
        counts.add(&message, treatment);
        nobody_else_gets_it(&mut edge, &message, &way_back, &mut findings);
    }
    counts.print("responses with our Via on top, from a server");
    println!("{as_they_were} of them came back with the client's Via as its origin has it");
}

/// With another client below our Via it is nobody's.
fn nobody_else_gets_it(
    edge: &mut Edge,
    message: &Message,
    way_back: &WayBack,
    findings: &mut Findings,
) {
    let victim = b"Via: SIP/2.0/UDP 203.0.113.66:5099;branch=z9hG4bKvictim\r\n";
    let arriving = &way_back.arriving;
    let position = |wanted: &[u8], from: usize| {
        let mut windows = arriving[from..].windows(wanted.len());
        windows
            .position(|window| window == wanted)
            .map(|at| from + at)
    };
    let ours = position(b";lbm=", 0).expect("our Via");
    let line_end = position(b"\r\n", ours).expect("its end") + 2;
    let forged = [&arriving[..line_end], victim, &arriving[line_end..]].concat();
    let server = SocketAddr::new(
        address(VIPS[usize::from(way_back.client.is_ipv6())]).ip(),
        5080,
    );
    let sent = edge.send(server, &forged);
    if sent.treatment != Treatment::Dropped {
        findings.add(
            message,
            format_args!("sent to {:?} by a forged Via", sent.to),
        );
    }
}

/// Messages by category and treatment.
#[derive(Default)]
struct Counts(BTreeMap<String, BTreeMap<Treatment, usize>>);

impl Counts {
    fn add(&mut self, message: &Message, treatment: Treatment) {
        let row = format!("{} {:?}", message.category(), message.valid());
        *self.0.entry(row).or_default().entry(treatment).or_default() += 1;
    }

    /// Shown by `cargo test -p lb-userspace --test corpus -- --nocapture`.
    fn print(&self, what: &str) {
        let mut table = format!("{what}\n");
        for (row, counts) in &self.0 {
            let cells = counts
                .iter()
                .map(|(treatment, count)| format!("{treatment:?} {count}"));
            let sum: usize = counts.values().sum();
            table += &format!(
                "  {row:24} {sum:4}: {}\n",
                cells.collect::<Vec<_>>().join(", ")
            );
        }
        println!("{table}");
    }
}
