//! What is said about configurations, good and bad.

mod announce;
mod client_address;
mod distribution;
mod hep;
mod nat;
mod outbound;
mod pings;

use proptest::prelude::*;

use super::*;

mod validate;

pub(super) const GOOD: &str = "\
node: { name: edge-1 }
datapath: { interfaces: [eth0] }
listeners:
  - { name: public, address: 203.0.113.10 }
pools:
  - name: switches
    backends:
      - { name: sw1, address: 10.0.0.11:5060 }
routes:
  - { pool: switches }
control: {}
stats: {}
";

#[test]
fn defaults() {
    let config = parse(GOOD, "siplb.yaml").unwrap();
    assert_eq!(
        config.node,
        Node {
            name: "edge-1".into(),
            address: None,
            secret_file: None,
            previous_secret_file: None,
            distribution_secret_file: None,
        }
    );
    assert_eq!(
        config.datapath,
        Datapath {
            mode: Mode::Auto,
            interfaces: vec!["eth0".into()],
            xdp: WantedAttach::Auto,
            zero_copy: ZeroCopy::Prefer,
            cpus: vec![],
            workers: None,
            chunks: 8192,
            ring: 2048,
            pins: 262_144,
            share_load: ShareLoad::Auto,
            pin_path: "/sys/fs/bpf/siplb/edge-1".into(),
            stale_after: Duration::from_millis(250),
            debug_log: false,
        }
    );
    assert_eq!(config.listeners[0].address.to_string(), "203.0.113.10:5060");
    assert_eq!(config.pools[0].strategy.name(), "hash-call-id");
    assert_eq!(config.pools[0].backends[0].weight, 1);
    assert_eq!(
        config.control.socket,
        PathBuf::from("/run/siplb/control.sock")
    );
    assert_eq!(config.stats.file, PathBuf::from("/run/siplb/stats"));
    assert_eq!(config.metrics.listen, None);
}

#[test]
fn without_routes_everything_goes_to_the_only_pool() {
    let text = GOOD.replace("routes:\n  - { pool: switches }\n", "");
    let everything = RouteConfig::everything_to(0);
    assert_eq!(parse(&text, "f").unwrap().routes, [everything]);
}

/// [`GOOD`] with one thing changed, and all that is to be said about it.
#[track_caller]
fn check(from: &str, to: &str, problems: &[&str]) {
    assert_eq!(GOOD.matches(from).count(), 1, "{from:?}");
    check_text(&GOOD.replace(from, to), problems);
}

#[track_caller]
fn check_text(text: &str, problems: &[&str]) {
    match parse(text, "f") {
        Ok(_) => panic!("accepted:\n{text}"),
        Err(error) => assert_eq!(
            error.to_string().lines().collect::<Vec<_>>(),
            problems,
            "\n{error}\nin\n{text}"
        ),
    }
}

#[test]
fn unknown_keys() {
    check(
        "control",
        "contol",
        &["f:11:1: contol: this key is not known; did you mean control?"],
    );
    check(
        "control: {}",
        "control: { file: /x }",
        &["f:11:12: control.file: this key is not known; write socket or state_file"],
    );
    check(
        "interfaces: ",
        "devices: [eth1], interfaces: ",
        &[
            "f:2:13: datapath.devices: this key is not known; write mode, interfaces, xdp, zero_copy, cpus, workers, \
           chunks, ring, pins, pin_path, share_load, stale_after or debug_log",
        ],
    );
    check(
        "address: 10",
        "weigth: 2, address: 10",
        &["f:8:22: pools[0].backends[0].weigth: this key is not known; did you mean weight?"],
    );
    check(
        "name: edge-1",
        "name: a, name: b",
        &["f:1:18: \"name\" is here twice; remove one of them"],
    );
    check(
        "name: edge-1",
        "name: a, 5: b",
        &["f:1:18: a key must be a word"],
    );
}

#[test]
fn wrong_types() {
    check(
        "control: {}",
        "control: 3",
        &["f:11:10: control: 3 is not a mapping; write one \"key: value\" a line"],
    );
    check(
        "edge-1",
        "7",
        &["f:1:15: node.name: 7 is not text; put it in quotes"],
    );
    check(
        "[eth0]",
        "eth0",
        &[
            "f:2:25: datapath.interfaces: \"eth0\" is not a list; write one entry a line, each behind \"- \"",
        ],
    );
    check(
        "[eth0]",
        "[eth0], debug_log: yes",
        &[
            "f:2:44: datapath.debug_log: \"yes\" is not true or false; write one of these, without quotes",
        ],
    );
    check(
        "10.0.0.11:5060",
        "10.0.0.11:5060, weight: '2'",
        &[
            "f:8:55: pools[0].backends[0].weight: \"2\" is not a whole number from 0 to 65535; write one, without \
           quotes",
        ],
    );
    check(
        "- { pool: switches }",
        "",
        &["f:9:7: routes: is empty; write at least one, such as \"- { pool: NAME }\""],
    );
    check_text(
        "- 1\n",
        &["f:1:1: a list is not a mapping; write one \"key: value\" a line"],
    );
}

#[test]
fn missing_things() {
    check_text(
        "",
        &[
            "f:1:1: node: is missing; write at least \"name: NAME\"",
            "f:1:1: listeners: is missing; write at least one, such as \"- { name: public, address: 203.0.113.10 }\"",
            "f:1:1: pools: is missing; write at least one, with \"name\" and \"backends\"",
        ],
    );
    check(
        "{ name: public, address",
        "{ address",
        &[
            "f:4:5: listeners[0].name: is missing; write at most 63 letters, digits, '.', '_' and '-', beginning with \
           a letter or digit",
        ],
    );
    check(
        "\n      - { name: sw1, address: 10.0.0.11:5060 }",
        " []",
        &[
            "f:7:15: pools[0].backends: is empty; write at least one, such as \"- { name: sw1, address: \
           10.0.0.11:5060 }\"",
        ],
    );
    check(
        "{ pool: switches }",
        "{}",
        &["f:10:5: routes[0].pool: is missing; write the name of a pool"],
    );
    check(
        "{ interfaces: [eth0] }",
        "{ mode: af-xdp }",
        &[
            "f:2:11: datapath.interfaces: is missing; with \"mode: af-xdp\" name the devices that SIP arrives on, such \
           as [eth0]",
        ],
    );
}

#[test]
fn addresses() {
    for address in [
        "10.0.0.300:5060",
        "10.0.0.1",
        "10.0.0.1:0",
        "0.0.0.0:5060",
        "sw1.example.com:5060",
        "224.0.0.1:1",
    ] {
        check(
            "10.0.0.11:5060",
            address,
            &[&format!(
                "f:8:31: pools[0].backends[0].address: {address:?} is not an address; write IP:PORT, such as \
                 10.0.0.11:5060 or \"[2001:db8::11]:5060\""
            )],
        );
    }
    for address in [
        "[fe80::1]:5060",
        "[fe80::1%2]:5060",
        "[::ffff:10.0.0.1]:5060",
        "[ff02::1]:5060",
        "[2001:db8::1%3]:5060",
    ] {
        check(
            "10.0.0.11:5060",
            &format!("{address:?}"),
            &[&format!(
                "f:8:31: pools[0].backends[0].address: {address:?} is not an address; write IP:PORT, such as \
                 10.0.0.11:5060 or \"[2001:db8::11]:5060\""
            )],
        );
    }
    for address in ["203.0.113.10:5060", "255.255.255.255", "0.0.0.0", "eth0"] {
        check(
            "203.0.113.10",
            address,
            &[&format!(
                "f:4:30: listeners[0].address: {address:?} is not an IP address; write one such as 203.0.113.10 or \
                 \"2001:db8::10\""
            )],
        );
    }
    for port in ["0", "70000", "sip"] {
        let shown = if port == "sip" { "\"sip\"" } else { port };
        check(
            "203.0.113.10",
            &format!("203.0.113.10, port: {port}"),
            &[&format!(
                "f:4:50: listeners[0].port: {shown} is not a port; write a whole number from 1 to 65535"
            )],
        );
    }
    check(
        "10.0.0.11:5060",
        "[2001:db8::1]:5060",
        &[
            "f:8:44: is not YAML: while parsing a flow mapping, did not find expected ',' or '}'; put an IPv6 address in \
           quotes, such as \"[2001:db8::11]:5060\"",
        ],
    );
}

#[test]
fn numbers_and_words_outside_their_range() {
    let cases = [
        (
            "mode: afxdp",
            28,
            "mode: \"afxdp\" is not known; write auto, af-xdp or socket",
        ),
        (
            "xdp: skb",
            27,
            "xdp: \"skb\" is not known; write auto, native or generic",
        ),
        (
            "zero_copy: true",
            33,
            "zero_copy: true is not known; write prefer, require or never",
        ),
        (
            "workers: 0",
            31,
            "workers: 0 is not a whole number from 1 to 256; write one, without quotes",
        ),
        (
            "ring: 1000",
            28,
            "ring: 1000 is not a power of two; write 1024",
        ),
        (
            "ring: 32",
            28,
            "ring: 32 is not a whole number from 64 to 32768; write one, without quotes",
        ),
        (
            "chunks: 4095",
            30,
            "chunks: 4095 is fewer than 4096, a ring of 2048 for each interface and one more; write at least 4096, \
             or a shorter ring",
        ),
        (
            "pin_path: siplb",
            32,
            "pin_path: \"siplb\" is not an absolute path; write one that begins with /",
        ),
        (
            "stale_after: 250",
            35,
            "stale_after: 250 is not a duration from 100ms to 10s; write a number and a unit, such as 250ms or 2s",
        ),
        (
            "stale_after: 1m",
            35,
            "stale_after: \"1m\" is not a duration from 100ms to 10s; write a number and a unit, such as 250ms or 2s",
        ),
    ];
    for (text, column, what) in cases {
        check(
            "interfaces: [eth0]",
            &format!("         {text}"),
            &[&format!("f:2:{column}: datapath.{what}")],
        );
    }
    check(
        "[eth0]",
        "[eth0, eth0, a/b], cpus: [0, 0, x]",
        &[
            "f:2:32: datapath.interfaces[1]: \"eth0\" is in the list already; remove it",
            "f:2:38: datapath.interfaces[2]: \"a/b\" is not an interface; write a name such as eth0",
            "f:2:54: datapath.cpus[1]: 0 is in the list already; remove it",
            "f:2:57: datapath.cpus[2]: \"x\" is not a CPU; write a whole number from 0 to 1023",
        ],
    );
    check(
        "name: switches\n",
        "name: switches\n    strategy: rendom\n",
        &[
            "f:7:15: pools[0].strategy: \"rendom\" is not known; write hash-call-id, hash-from-uri, hash-to-uri, \
           hash-request-uri, weighted-round-robin, hash-auth-username, random or first",
        ],
    );
}

#[test]
fn things_that_do_not_go_together() {
    check(
        "    backends:\n      - { name: sw1, address: 10.0.0.11:5060 }",
        "    backends:\n      - { name: a, address: 10.0.0.11:5060 }\n      - { name: a, address: 10.0.0.11:5060 }",
        &[
            "f:9:17: pools[0].backends[1].name: \"a\" is on line 8 already; choose another name",
            "f:9:29: pools[0].backends[1].address: \"10.0.0.11:5060\" is on line 8 already; remove one of them; \
             \"weight\" gives a backend more",
        ],
    );
    check(
        "  - { name: public, address: 203.0.113.10 }",
        "  - { name: p, address: 203.0.113.10 }\n  - { name: p, address: 203.0.113.10, port: 5060 }",
        &[
            "f:5:13: listeners[1].name: \"p\" is on line 4 already; choose another name",
            "f:5:25: listeners[1].address: \"203.0.113.10:5060\" is on line 4 already; remove one of them, or choose \
             another port",
        ],
    );
    check(
        "10.0.0.11:5060",
        "10.0.0.11:5060, weight: 0",
        &["f:8:7: pools[0].backends: all weights are 0, so nobody takes calls; give one a weight"],
    );
    check(
        "10.0.0.11:5060",
        "203.0.113.10:5060",
        &[
            "f:8:31: pools[0].backends[0].address: \"203.0.113.10:5060\" is listener \"public\", so calls would go in a \
           circle; write the SIP server's own address",
        ],
    );
    check(
        "name: edge-1",
        "name: edge-1, address: 203.0.113.10",
        &[
            "f:1:32: node.address: \"203.0.113.10\" is the address of listener \"public\", which nodes share; write this \
           node's own address",
        ],
    );
    check(
        "name: edge-1",
        "name: edge-1, previous_secret_file: /a",
        &[
            "f:1:45: node.previous_secret_file: needs secret_file beside it; name the new secret there",
        ],
    );
    check(
        "stats: {}",
        "stats: { file: /run/siplb/control.sock }",
        &[
            "f:12:16: stats.file: \"/run/siplb/control.sock\" is control.socket as well; name another file",
        ],
    );
}

#[test]
fn where_metrics_are_told() {
    // The last one is TCP at the address of a listener, which is UDP.
    for listen in [
        "127.0.0.1:9464",
        "[::1]:9464",
        "0.0.0.0:1",
        "[::]:65535",
        "203.0.113.10:5060",
    ] {
        let text = format!("{GOOD}metrics: {{ listen: \"{listen}\" }}\n");
        let config = parse(&text, "f").unwrap();
        assert_eq!(config.metrics.listen, Some(listen.parse().unwrap()));
    }
    let nothing = format!("{GOOD}metrics:\n  # listen: 127.0.0.1:9464\n");
    assert_eq!(parse(&nothing, "f").unwrap().metrics.listen, None);

    for wrong in [
        "127.0.0.1",
        "9464",
        "localhost:9464",
        "127.0.0.1:0",
        "127.0.0.1:65536",
        "224.0.0.1:9464",
        "255.255.255.255:9464",
        "[ff02::1]:9464",
        "[fe80::1]:9464",
        "[::ffff:127.0.0.1]:9464",
    ] {
        check(
            "stats: {}",
            &format!("metrics: {{ listen: \"{wrong}\" }}"),
            &[&format!(
                "f:12:20: metrics.listen: \"{wrong}\" is not an address and port to listen at; write IP:PORT, such as \
                 127.0.0.1:9464 or \"[::1]:9464\""
            )],
        );
    }
    check(
        "stats: {}",
        "metrics: { listens: x }",
        &["f:12:12: metrics.listens: this key is not known; did you mean listen?"],
    );
}

#[test]
fn route_rules() {
    let rule = "{ pool: switches }";
    check(
        rule,
        "{ pool: swiches }",
        &["f:10:13: routes[0].pool: \"swiches\" is not a pool; write switches"],
    );
    check(
        rule,
        "{ pool: switches, listener: x }",
        &["f:10:33: routes[0].listener: \"x\" is not a listener; write public"],
    );
    check(
        rule,
        "{ method: invite, pool: switches }",
        &[
            "f:10:15: routes[0].method: \"invite\" is no method, because their case matters; write INVITE",
        ],
    );
    check(
        rule,
        "{ method: CANCEL, pool: switches }",
        &[
            "f:10:15: routes[0].method: \"CANCEL\" goes where its INVITE goes; write INVITE, or remove the rule",
        ],
    );
    check(
        rule,
        "{ method: 'IN VITE', pool: switches }",
        &[
            "f:10:15: routes[0].method: \"IN VITE\" is not a method; write one such as INVITE or REGISTER",
        ],
    );
    check(
        rule,
        "{ pool: switches }\n  - { method: INVITE, pool: switches }",
        &[
            "f:11:5: routes[1]: never matches, because the rules before it take it all; move it up or remove it",
        ],
    );
    check(
        rule,
        "{ method: INVITE, pool: switches }\n  - { method: INVITE, listener: public, pool: switches }",
        &[
            "f:11:5: routes[1]: never matches, because the rules before it take it all; move it up or remove it",
        ],
    );
    check(
        "  - { name: public, address: 203.0.113.10 }",
        "  - { name: public, address: 203.0.113.10 }\n  - { name: six, address: '2001:db8::10' }",
        &[
            "f:11:13: routes[0].pool: \"switches\" has backend \"sw1\", which is IPv4, and gets requests of listener \
           \"six\", which is IPv6; use one pool for each, and \"listener\" in the rules",
        ],
    );
    let two_pools = GOOD.replace(
        "routes:\n  - { pool: switches }\n",
        "  - { name: other, backends: [ { name: o1, address: 10.0.0.99:5060 } ] }\n",
    );
    check_text(
        &two_pools,
        &[
            "f:1:1: routes: is missing; with 2 pools say which requests go where, such as \"- { pool: NAME }\"",
        ],
    );
}

#[test]
fn each_family_may_have_its_own_pool() {
    let text = "
node: { name: edge-1 }
listeners: [ { name: four, address: 203.0.113.10 }, { name: six, address: '2001:db8::10' } ]
pools:
  - { name: p4, backends: [ { name: a, address: 10.0.0.1:5060 } ] }
  - { name: p6, backends: [ { name: b, address: '[2001:db8:1::1]:5060' } ] }
routes: [ { listener: six, pool: p6 }, { method: REGISTER, pool: p4 }, { pool: p4 } ]
";
    let routes = parse(text, "f").unwrap().routes;
    assert_eq!((routes[0].listener, routes[0].pool), (Some(1), 1));
    assert_eq!((routes[2].listener, routes[2].pool), (None, 0));
}

#[test]
fn a_mistake_in_one_place_is_not_blamed_on_another() {
    check(
        "address: 203.0.113.10 }",
        "address: 203.0.113 }\n  - { name: other, address: 203.0.113.11 }",
        &[
            "f:4:30: listeners[0].address: \"203.0.113\" is not an IP address; write one such as 203.0.113.10 or \
           \"2001:db8::10\"",
        ],
    );
}

#[test]
fn too_many_backends() {
    let backends = (0..1025)
        .map(|n| {
            format!(
                "      - {{ name: s{n}, address: 10.1.{}.{}:5060 }}\n",
                n / 250,
                n % 250 + 1
            )
        })
        .collect::<String>();
    let text = GOOD.replace(
        "      - { name: sw1, address: 10.0.0.11:5060 }\n",
        &backends,
    );
    check_text(
        &text,
        &["f:8:7: pools[0].backends: 1025 entries; keep to 1024"],
    );
}

#[test]
fn hostile_yaml_is_refused_quickly() {
    let mut bomb = "a: &a [x,x,x,x,x,x,x,x,x,x]\n".to_owned();
    for (name, of) in "bcdefghij".chars().zip("abcdefghi".chars()) {
        bomb += &format!(
            "{name}: &{name} [{}]\n",
            format!("*{of},").repeat(10).trim_end_matches(',')
        );
    }
    check_text(&bomb, &["f:1:1: is not YAML: repetition limit exceeded"]);
    check_text(
        "node: &a [*a]\n",
        &["f:1:7: is not YAML: recursion limit exceeded"],
    );
}

proptest! {
    #[test]
    fn no_text_panics(text in "\\PC{0,200}") {
        let _ = parse(&text, "f");
    }

    /// Whatever is broken in a good file, every problem stands in the file.
    #[test]
    fn damaged_files_are_refused_at_a_place_in_the_file(
        at in 0..GOOD.len(), cut in 0..12usize, insert in "[-\\[\\]{}:,&*!# \n\"'a0]{0,4}",
    ) {
        let end = (at + cut).min(GOOD.len());
        let text = format!("{}{insert}{}", &GOOD[..at], &GOOD[end..]);
        if let Err(error) = parse(&text, "f") {
            prop_assert!(!error.problems().is_empty());
            for problem in error.problems() {
                let (line, column) = problem.line.unwrap();
                let lines = text.split('\n').collect::<Vec<_>>();
                prop_assert!((1..=lines.len() + 1).contains(&line), "{problem}");
                let width = lines.get(line - 1).map_or(0, |line| line.chars().count());
                prop_assert!((1..=width + 2).contains(&column), "{problem} in {text:?}");
            }
        }
    }
}
