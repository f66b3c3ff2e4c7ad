//! `pools[].registration`, `nat.max_expires` and `outbound`.

use super::*;

fn registration(text: &str) -> String {
    GOOD.replace(
        "name: switches\n",
        &format!("name: switches\n    registration: {text}\n"),
    )
}

#[test]
fn registrations() {
    assert_eq!(
        parse(GOOD, "f").unwrap().pools[0].registration,
        Registration::PATH
    );
    let without = Registration::Path {
        supported_path: false,
    };
    for (text, want) in [
        ("path", Registration::PATH),
        ("contact", Registration::Contact),
        ("off", Registration::Off),
        ("{ mode: path }", Registration::PATH),
        ("{ mode: path, supported_path: true }", Registration::PATH),
        ("{ mode: path, supported_path: false }", without),
        ("{ mode: contact }", Registration::Contact),
    ] {
        let config = parse(&registration(text), "f").unwrap();
        assert_eq!(config.pools[0].registration, want, "{text}");
    }
    for (text, problem) in [
        (
            "paths",
            "7:19: pools[0].registration: \"paths\" is not known; write path, contact or off",
        ),
        (
            "{ supported_path: true }",
            "7:19: pools[0].registration.mode: is missing; write path, contact or off",
        ),
        (
            "{ mode: contact, supported_path: true }",
            "7:52: pools[0].registration.supported_path: is for \"mode: path\", which has a Path that a registrar must \
             support; remove it",
        ),
        (
            "{ mode: path, suported_path: true }",
            "7:33: pools[0].registration.suported_path: this key is not known; did you mean supported_path?",
        ),
    ] {
        let error = parse(&registration(text), "f").unwrap_err().to_string();
        assert_eq!(error, format!("f:{problem}"), "{text}");
    }
}

#[test]
fn the_longest_expiry() {
    let nat = |text: &str| GOOD.replace("203.0.113.10 }", &format!("203.0.113.10, nat: {text} }}"));
    let config = parse(&nat("{ detect: [received], max_expires: 2m }"), "f").unwrap();
    assert_eq!(config.listeners[0].nat.max_expires, Some(120));
    for (text, problem) in [
        (
            "{ max_expires: 60s }",
            "4:64: listeners[0].nat.max_expires: needs something in detect beside it, which tells that a client is behind a \
             NAT, such as \"detect: [received]\"",
        ),
        (
            "{ detect: [received], max_expires: 60 }",
            "4:84: listeners[0].nat.max_expires: 60 is not a duration from 1s to 24h; write a number and a unit, such as 60s",
        ),
        (
            "{ detect: [received], max_expires: 1500ms }",
            "4:84: listeners[0].nat.max_expires: is not a whole number of seconds, which is what SIP counts in; leave out \
             the rest",
        ),
        (
            "{ detect: [received], max_expires: 25h }",
            "4:84: listeners[0].nat.max_expires: \"25h\" is not a duration from 1s to 24h; write a number and a unit, such \
             as 60s",
        ),
    ] {
        let error = parse(&nat(text), "f").unwrap_err().to_string();
        assert_eq!(error, format!("f:{problem}"), "{text}");
    }
}

#[test]
fn outbound() {
    let text = |text: &str| format!("{GOOD}outbound: {text}\n");
    assert_eq!(parse(GOOD, "f").unwrap().outbound, Outbound::default());
    let config = parse(
        &text(
            "{ trusted: [10.0.0.0/24, 'fd00::/8'], topology: hide, name_servers: [10.0.0.53, '[2001:db8::53]:5353'] }",
        ),
        "f",
    );
    assert_eq!(
        config.unwrap().outbound,
        Outbound {
            trusted: ["10.0.0.0/24", "fd00::/8"]
                .map(|net| net.parse().unwrap())
                .into(),
            topology: Topology::Hide,
            name_servers: ["10.0.0.53:53", "[2001:db8::53]:5353"]
                .map(|address| address.parse().unwrap())
                .into(),
        }
    );
    for (given, problem) in [
        (
            "{ trusted: [10.0.0.1/24] }",
            "13:23: outbound.trusted[0]: \"10.0.0.1/24\" is not a network; write one such as 198.51.100.0/24 or \
             \"2001:db8::/32\", with no bits set beyond the prefix",
        ),
        (
            "{ topology: hidden }",
            "13:23: outbound.topology: \"hidden\" is not known; write keep or hide",
        ),
        (
            "{ name_servers: [dns.example] }",
            "13:28: outbound.name_servers[0]: \"dns.example\" is not a name server; write IP or IP:PORT, such as 10.0.0.53 \
             or \"[2001:db8::53]:53\"",
        ),
        (
            "{ name_servers: [10.0.0.53, '10.0.0.53:53'] }",
            "13:39: outbound.name_servers[1]: \"10.0.0.53:53\" is in the list already; remove it",
        ),
    ] {
        let error = parse(&text(given), "f").unwrap_err().to_string();
        assert_eq!(error, format!("f:{problem}"), "{given}");
    }
}
