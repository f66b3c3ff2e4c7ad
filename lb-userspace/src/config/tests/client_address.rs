//! `pools[].client_address`.

use super::*;

#[track_caller]
fn meaning(told: &str) -> ClientAddress {
    let text = GOOD.replace(
        "name: switches",
        &format!("name: switches\n    client_address: {told}"),
    );
    let config = parse(&text, "f").unwrap_or_else(|error| panic!("{error}"));
    config.pools[0].client_address.clone()
}

fn fields(names: [Option<&str>; 3]) -> ClientAddress {
    let [ip, port, transport] = names.map(|name| name.map(str::to_owned));
    ClientAddress::Fields(ClientFields {
        ip,
        port,
        transport,
    })
}

#[test]
fn a_word_or_a_mapping() {
    let default = parse(GOOD, "f").unwrap().pools[0].client_address.clone();
    assert_eq!(default, ClientAddress::Off);
    let longest = "x".repeat(63);
    for (text, want) in [
        ("off", ClientAddress::Off),
        (
            "proxy-protocol",
            ClientAddress::ProxyProtocol(ProxyVersion::V2),
        ),
        (
            "proxy-protocol-v1",
            ClientAddress::ProxyProtocol(ProxyVersion::V1),
        ),
        (
            "{ ip: X-Orig-IP, port: X-Orig-Port, transport: X-Orig-Proto }",
            fields([Some("X-Orig-IP"), Some("X-Orig-Port"), Some("X-Orig-Proto")]),
        ),
        ("{ port: P-Port.1 }", fields([None, Some("P-Port.1"), None])),
        (
            &format!("{{ transport: {longest} }}"),
            fields([None, None, Some(&longest)]),
        ),
    ] {
        assert_eq!(meaning(text), want, "{text}");
    }
}

/// The one problem with what stands behind `client_address: `, which is at 7:21.
#[track_caller]
fn mistake(told: &str, column: usize, problem: &str) {
    check(
        "name: switches",
        &format!("name: switches\n    client_address: {told}"),
        &[&format!("f:7:{column}: pools[0].client_address{problem}")],
    );
}

#[test]
fn mistakes() {
    const WORDS: &str = "is not known; write off, proxy-protocol or proxy-protocol-v1";
    mistake("on", 21, &format!(": \"on\" {WORDS}"));
    mistake("true", 21, &format!(": true {WORDS}"));
    mistake("[X-Orig-IP]", 21, &format!(": a list {WORDS}"));
    mistake(
        "{}",
        21,
        ": names no header field; write ip, port or transport",
    );
    mistake(
        "{ ipp: X-IP, port: X-P }",
        23,
        ".ipp: this key is not known; did you mean ip?",
    );
    const NAME: &str = "is not a name for a header field; write at most 63 letters, digits and '-', such as X-Orig-IP";
    mistake(
        "{ ip: 'X-Orig IP' }",
        27,
        &format!(".ip: \"X-Orig IP\" {NAME}"),
    );
    mistake(
        "{ ip: 'X-Orig-IP:' }",
        27,
        &format!(".ip: \"X-Orig-IP:\" {NAME}"),
    );
    mistake("{ ip: '' }", 27, &format!(".ip: \"\" {NAME}"));
    let long = "x".repeat(64);
    mistake(
        &format!("{{ ip: {long} }}"),
        27,
        &format!(".ip: \"{long}\" {NAME}"),
    );
    mistake(
        "{ ip: X-Orig, port: X-Port, transport: x-orig }",
        60,
        ".transport: \"x-orig\" is the name for ip as well; choose another one",
    );
}

#[test]
fn names_that_mean_something_are_not_free() {
    for name in [
        "Via",
        "v",
        "ROUTE",
        "Record-Route",
        "Path",
        "Contact",
        "m",
        "From",
        "f",
        "To",
        "t",
        "Call-ID",
        "i",
        "CSeq",
        "Max-Forwards",
        "Content-Length",
        "l",
        "Content-Type",
        "c",
        "content-encoding",
        "e",
        "Proxy-Require",
        "Require",
        "Supported",
        "k",
        "User-Agent",
        "Expires",
        "Authorization",
        "Proxy-Authorization",
        "P-Asserted-Identity",
        "X-Validate-Fail",
        "x",
    ] {
        let problem =
            format!(": \"{name}\" means something else; choose another name, such as X-Orig-IP");
        mistake(
            &format!("{{ port: {name} }}"),
            29,
            &format!(".port{problem}"),
        );
    }
}

#[test]
fn a_backend_in_two_pools_is_told_in_one_way() {
    const MORE: &str = "routes:\n  - { pool: switches }";
    let with = |told: &str| {
        let pool = format!(
            "  - {{ name: rest, client_address: {told}, backends: [ {{ name: r1, address: 10.0.0.11:5060 }} ] }}\n{MORE}"
        );
        GOOD.replace(MORE, &pool)
    };
    assert!(parse(&with("off"), "f").is_ok());
    check_text(
        &with("proxy-protocol"),
        &[
            "f:9:84: pools[1].backends[0].address: \"10.0.0.11:5060\" is in pool \"switches\" as well, whose client_address is \
             another one; make them the same",
        ],
    );
    let elsewhere = with("proxy-protocol")
        .replace("r1, address: 10.0.0.11:5060", "r1, address: 10.0.0.11:5070");
    assert!(parse(&elsewhere, "f").is_ok());
}
