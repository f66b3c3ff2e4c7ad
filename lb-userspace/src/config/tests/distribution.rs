//! What is said about strategies, rules, health and limits.

use super::*;
use crate::balance::Strategy;

/// The good configuration with more in its pool, its backend, its rule, and at its end.
fn with(pool: &str, backend: &str, rule: &str, end: &str) -> String {
    GOOD.replace(
        "  - name: switches\n",
        &format!("  - name: switches\n{pool}"),
    )
    .replace("10.0.0.11:5060 }", &format!("10.0.0.11:5060{backend} }}"))
    .replace("{ pool: switches }", &format!("{{ pool: switches{rule} }}"))
        + end
}

#[test]
fn all_strategies() {
    for strategy in Strategy::ALL {
        let text = with(&format!("    strategy: {}\n", strategy.name()), "", "", "");
        assert_eq!(parse(&text, "f").unwrap().pools[0].strategy, strategy);
    }
    let text = with(
        "    strategy: hash-from-uri\n    user_only: true\n",
        "",
        ", strategy: hash-to-uri, user_only: true",
        "",
    );
    let config = parse(&text, "f").unwrap();
    assert_eq!(
        config.pools[0].strategy,
        Strategy::HashFromUri { user_only: true }
    );
    assert_eq!(
        config.routes[0].strategy,
        Some(Strategy::HashToUri { user_only: true })
    );
    check_text(
        &with("    user_only: true\n", "", "", ""),
        &[
            "f:7:16: pools[0].user_only: is for hash-from-uri, hash-to-uri and hash-request-uri, beside \"strategy\"; remove it",
        ],
    );
}

#[test]
fn health() {
    let none = parse(GOOD, "f").unwrap().pools[0].health;
    assert_eq!(none, None, "nobody is probed who was not asked to be");
    let config = parse(&with("    health: {}\n", "", "", ""), "f").unwrap();
    assert_eq!(config.pools[0].health, Some(HealthConfig::default()));
    let text = "    health: { interval: 5s, timeout: 500ms, fall: 1, rise: 4, slow_start: 0s }\n";
    let config = parse(&with(text, "", "", ""), "f").unwrap();
    assert_eq!(
        config.pools[0].health,
        Some(HealthConfig {
            interval: Duration::from_secs(5),
            timeout: Duration::from_millis(500),
            fall: 1,
            rise: 4,
            slow_start: Duration::ZERO,
        })
    );
    check_text(
        &with(
            "    health: { interval: 500ms, timeout: 3s, fall: 0, rise: many, slow_start: 1h }\n",
            "",
            "",
            "",
        ),
        &[
            "f:7:25: pools[0].health.interval: \"500ms\" is not a duration from 1s to 1m; write a number and a unit, such as 2s",
            "f:7:41: pools[0].health.timeout: 3000 ms is more than the interval of 2000 ms; a probe has to be over before the \
             next one",
            "f:7:51: pools[0].health.fall: 0 is not a whole number from 1 to 100; write one, without quotes",
            "f:7:60: pools[0].health.rise: \"many\" is not a whole number from 1 to 100; write one, without quotes",
            "f:7:78: pools[0].health.slow_start: \"1h\" is not a duration up to 10m; write a number and a unit, such as 10s, or \
             0s for none",
        ],
    );
}

#[test]
fn rules() {
    let text = with(
        "",
        "",
        ", source: [198.51.100.0/24, 192.0.2.7], request_uri_user: '+44', request_uri_domain: a.example, from_domain: \
         '2001:db8::1', to_domain: b.example, user_agent: Yealink, cps: 7",
        "",
    );
    let rule = &parse(&text, "f").unwrap().routes[0];
    let source = rule.source.iter().map(ToString::to_string);
    assert_eq!(
        source.collect::<Vec<_>>(),
        ["198.51.100.0/24", "192.0.2.7/32"]
    );
    assert_eq!(rule.from_domain.as_deref(), Some("[2001:db8::1]"));
    assert_eq!(rule.cps, Some(7));
    assert_eq!(
        rule.conditions(),
        " from 198.51.100.0/24 or 192.0.2.7/32, Request-URI user begins with \"+44\", Request-URI domain is \"a.example\", From \
         domain is \"[2001:db8::1]\", To domain is \"b.example\", User-Agent begins with \"Yealink\""
    );
    check_text(
        &with(
            "",
            "",
            ", source: [198.51.100.1/24], from_domain: 'a:5060', nat: { detect: [received] }, user_agent: x",
            "",
        ),
        &[
            "f:10:32: routes[0].source[0]: \"198.51.100.1/24\" is not a network; write one such as 198.51.100.0/24 or \
             \"2001:db8::/32\", with no bits set beyond the prefix",
            "f:10:63: routes[0].from_domain: \"a:5060\" is not a domain; write a host name or an address, as it stands in a URI \
             without the port",
            "f:10:78: routes[0].nat: needs a rule that looks at nothing but method, listener and source, since it holds for a \
             whole dialog, whose later messages have other URIs; give it to such a rule, or to the listener",
        ],
    );
    // A rule that looks at more does not hide the ones behind it.
    let both = GOOD.replace(
        "  - { pool: switches }",
        "  - { pool: switches, user_agent: x }\n  - { pool: switches, source: [10.0.0.0/8] }\n  - { pool: switches }",
    );
    assert_eq!(parse(&both, "f").unwrap().routes.len(), 3);
}

#[test]
fn limits() {
    assert_eq!(parse(GOOD, "f").unwrap().limits, Limits::default());
    let end = "limits: { cps: 100, on_breach: 480, retry_after: 5s, silence_after: 0, sources: [ { network: 10.0.0.0/8, cps: 3 } ] }\n";
    let config = parse(&with("", ", priority: 5, cps: 9", "", end), "f").unwrap();
    assert_eq!(
        config.limits,
        Limits {
            cps: Some(100),
            on_breach: OnBreach::Status(480),
            retry_after: Some(Duration::from_secs(5)),
            silence_after: 0,
            sources: vec![SourceLimit {
                network: "10.0.0.0/8".parse().unwrap(),
                cps: 3
            }],
        }
    );
    let backend = &config.pools[0].backends[0];
    assert_eq!((backend.priority, backend.cps), (5, Some(9)));
    let silence = parse(&format!("{GOOD}limits: {{ on_breach: silence }}\n"), "f").unwrap();
    assert_eq!(silence.limits.on_breach, OnBreach::Silence);
    check_text(
        &format!(
            "{GOOD}limits: {{ cps: 0, on_breach: 200, retry_after: 2h, sources: [ {{ network: 10.0.0.0/8 }}, {{ network: 10.0.0.0/8, cps: 1 }} ] }}\n"
        ),
        &[
            "f:13:16: limits.cps: 0 is not a whole number from 1 to 1000000; write one, without quotes",
            "f:13:30: limits.on_breach: 200 is not a status or silence; write a number from 400 to 699, or silence",
            "f:13:48: limits.retry_after: \"2h\" is not a duration from 1s to 1h; write a number and a unit, such as 5s",
            "f:13:63: limits.sources[0].cps: is missing; write how many calls in a second the network may open",
            "f:13:99: limits.sources[1].network: \"10.0.0.0/8\" is on line 13 already; remove one of them",
        ],
    );
}
