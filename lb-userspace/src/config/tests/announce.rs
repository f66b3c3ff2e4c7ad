//! `announce`.

use super::*;

#[test]
fn announce() {
    let text = |text: &str| format!("{GOOD}announce: {text}\n");
    assert_eq!(parse(GOOD, "f").unwrap().announce, None);
    let default = Announce {
        device: None,
        required: vec![0],
        grace: Duration::from_secs(5),
        hook: None,
    };
    assert_eq!(
        parse(&text("{}"), "f").unwrap().announce,
        Some(default.clone())
    );
    let config = parse(
        &text("{ device: lo, required: [], grace: 0s, hook: /etc/hook }"),
        "f",
    );
    assert_eq!(
        config.unwrap().announce,
        Some(Announce {
            device: Some("lo".into()),
            required: vec![],
            grace: Duration::ZERO,
            hook: Some("/etc/hook".into()),
        })
    );
    // Nobody is sent there, so nobody needs it.
    let two = text("{}").replace(
        "pools:\n",
        "pools:\n  - { name: spare, backends: [ { name: x, address: 10.0.0.99:5060 } ] }\n",
    );
    let required = parse(&two, "f").unwrap().announce.unwrap().required;
    assert_eq!(required, [1]);
    for (given, problem) in [
        (
            "{ required: [switch] }",
            "13:24: announce.required[0]: \"switch\" is not a pool; write switches",
        ),
        (
            "{ device: a/b }",
            "13:21: announce.device: \"a/b\" is not a device; write a name such as lo",
        ),
        (
            "{ grace: 11m }",
            "13:20: announce.grace: \"11m\" is not a duration up to 10m; write a number and a unit, such as 5s, or 0s for none",
        ),
        (
            "{ hook: hook.sh }",
            "13:19: announce.hook: \"hook.sh\" is not an absolute path; write one that begins with /",
        ),
    ] {
        let error = parse(&text(given), "f").unwrap_err().to_string();
        assert_eq!(error, format!("f:{problem}"), "{given}");
    }
}
