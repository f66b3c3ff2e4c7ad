//! `scripts/grafana`: rules and dashboard ask for what a node has, and Prometheus says so when a backend dies.

use std::{collections::BTreeSet, fs, path::PathBuf, time::Duration};

use serde_json::Value;
use siplb_lab::{
    Family, Lab, Shape, Siplb, alone, can_run_with,
    prometheus::{Prometheus, get, promtool},
    siplb::{DataPath, Options},
    sipp::{Plan, Scenario, Sipp},
    until,
};

const ADDRESS: &str = "127.0.0.1:9464";
const SOON: Duration = Duration::from_secs(90);
/// What a dashboard may ask for and not get from a node that is well: only what has happened is told.
const MAY_BE_EMPTY: [&str; 2] = [
    // Nothing has been dropped or refused.
    "> 0",
    "verdict=\"drop\"",
];

fn directory() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../scripts/grafana")
}

fn read(name: &str) -> String {
    let path = directory().join(name);
    fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

fn dashboard() -> Value {
    serde_json::from_str(&read("dashboard.json")).expect("JSON")
}

/// All expressions of the dashboard.
fn expressions(value: &Value, found: &mut Vec<String>) {
    match value {
        Value::Object(members) => {
            for (name, member) in members {
                match member.as_str() {
                    Some(text) if name == "expr" => found.push(text.to_owned()),
                    _ => expressions(member, found),
                }
            }
        }
        Value::Array(list) => list.iter().for_each(|value| expressions(value, found)),
        _ => {}
    }
}

/// Names of metrics in a text.
fn metrics(text: &str) -> BTreeSet<String> {
    let is_name = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_';
    let words = text.split(|c| !is_name(c));
    let names = words.filter(|word| word.starts_with("siplb_"));
    names.map(str::to_owned).collect()
}

#[test]
fn rules_and_configuration_are_valid_and_every_alert_is_tested() {
    if !can_run_with(&["promtool"]) {
        return;
    }
    for arguments in [
        ["check", "rules", "alerts.yml"],
        ["check", "config", "prometheus.yml"],
        ["test", "rules", "alerts_test.yml"],
    ] {
        promtool(&directory(), &arguments).expect("no mistakes");
    }
    let tests = read("alerts_test.yml");
    let rules = read("alerts.yml");
    let alerts = rules
        .lines()
        .filter_map(|line| line.trim().strip_prefix("- alert: "));
    let mut count = 0;
    for alert in alerts {
        count += 1;
        let fires = format!("alertname: {alert}\n        exp_alerts:\n");
        let is_silent = format!("alertname: {alert}\n        exp_alerts: []\n");
        assert!(tests.contains(&fires), "no test where {alert} fires");
        assert!(
            tests.contains(&is_silent),
            "no test where {alert} does not fire"
        );
    }
    assert!(count >= 8, "{count}");
}

#[test]
fn the_dashboard_loads_as_it_is() {
    let dashboard = dashboard();
    assert_eq!(dashboard["uid"], "siplb");
    assert_eq!(dashboard["id"], Value::Null, "an id is that of one Grafana");
    let variables = dashboard["templating"]["list"].as_array().expect("a list");
    assert_eq!(variables[0]["type"], "datasource");
    let panels = dashboard["panels"].as_array().expect("a list");
    let mut ids = BTreeSet::new();
    for panel in panels {
        assert!(ids.insert(panel["id"].as_u64().expect("an id")), "{panel}");
        if panel["type"] != "row" {
            assert_eq!(panel["datasource"]["uid"], "${datasource}", "{panel}");
            assert!(!panel["targets"].as_array().expect("a list").is_empty());
        }
    }
    // Panels do not lie on each other.
    let place = |panel: &Value, name: &str| panel["gridPos"][name].as_u64().expect("a place");
    for (number, one) in panels.iter().enumerate() {
        for other in &panels[number + 1..] {
            let meets = |at: &str, size: &str| {
                place(one, at) < place(other, at) + place(other, size)
                    && place(other, at) < place(one, at) + place(one, size)
            };
            let (is_beside, is_below) = (meets("x", "w"), meets("y", "h"));
            assert!(
                !(is_beside && is_below),
                "{} {}",
                one["title"],
                other["title"]
            );
        }
    }
}

#[test]
fn prometheus_says_that_a_backend_is_lost() {
    if !can_run_with(&["prometheus", "promtool"]) {
        return;
    }
    let _alone = alone();
    let lab = Lab::new(Shape::TwoArmed, 2).expect("a lab");
    let options = Options {
        families: vec![Family::V4],
        pool: "health: { interval: 1s, timeout: 500ms, fall: 2, rise: 2, slow_start: 1s }".into(),
        rest: format!("announce: {{}}\nlimits: {{ cps: 100 }}\nmetrics: {{ listen: {ADDRESS} }}\n"),
        ..Options::new(DataPath::Native)
    };
    let mut siplb = Siplb::start(&lab, &options).expect("siplb");
    let server = |number: usize, start: u32| {
        let plan = Plan::server(Scenario::new("uas_pool"), lab.server(Family::V4, number));
        let name = format!("server{number}-{start}");
        Sipp::start(&lab, &lab.servers, &name, &plan).expect("a server")
    };
    let mut servers: Vec<Sipp> = (0..3).map(|number| server(number, 0)).collect();
    fs::write(lab.dir().join("alerts.yml"), read("alerts.yml")).expect("a file");
    let configuration = format!(
        "global: {{ scrape_interval: 1s, evaluation_interval: 1s }}\nrule_files: [alerts.yml]\n\
         scrape_configs: [{{ job_name: siplb, static_configs: [{{ targets: ['{ADDRESS}'] }}] }}]\n"
    );
    let prometheus = Prometheus::start(&lab, &lab.edge, &configuration).expect("Prometheus");
    let local = (lab.client_address(Family::V4), 5061).into();
    let plan = Plan::caller(
        Scenario::new("uac_bye"),
        local,
        lab.vip(Family::V4),
        200,
        20,
    );
    let mut caller = Sipp::start(&lab, &lab.client, "caller", &plan).expect("a caller");
    let calls = caller.finish(SOON).expect("calls");
    assert_eq!((calls.successful, calls.failed), (200, 0), "{calls:?}");

    names_exist(&lab);
    let is_counted = || {
        let calls = "siplb_calls_accepted_total{job=\"siplb\", limit=\"node\"} == 200";
        let result = prometheus.query(calls).ok()?;
        (!result.is_empty()).then_some(())
    };
    until("the calls to be scraped", SOON, is_counted).expect("200 calls");
    expressions_have_results(&prometheus);

    let lost = || -> Option<Value> {
        let alerts = prometheus.alerts().expect("alerts");
        let is_lost = |alert: &Value| alert["labels"]["alertname"] == "SiplbBackendLost";
        alerts.into_iter().find(is_lost)
    };
    assert_eq!(lost(), None);
    servers[0].process().kill();
    let fires = || lost().filter(|alert| alert["state"] == "firing");
    let alert = until("the alert to fire", SOON, fires).expect("an alert");
    assert_eq!(alert["labels"]["backend"], "sip1");
    assert_eq!(alert["labels"]["pool"], "switches-v4");
    assert_eq!(
        alert["annotations"]["summary"],
        "Backend sip1 of switches-v4 is unhealthy"
    );
    servers[0] = server(0, 1);
    let is_over = || lost().is_none().then_some(());
    until("the alert to end", SOON, is_over).expect("an end");
    // Nothing else was wrong.
    let others = prometheus.alerts().expect("alerts");
    let others = others.iter().filter(|alert| alert["state"] == "firing");
    assert_eq!(others.collect::<Vec<_>>(), Vec::<&Value>::new());
    drop(servers);
    siplb.stop().expect("an ordinary end");
}

/// Whatever rules and dashboard ask for is in what the node tells.
fn names_exist(lab: &Lab) {
    let told = get(&lab.edge, ADDRESS, "/metrics").expect("metrics");
    let told = metrics(&told);
    let rules = metrics(&read("alerts.yml"));
    let dashboard = metrics(&read("dashboard.json"));
    assert!(rules.len() > 8 && dashboard.len() > 20);
    let missing = rules.union(&dashboard).filter(|name| !told.contains(*name));
    // The only ones that a node does not tell before it has something to tell.
    let missing = missing.filter(|name| *name != "siplb_backend_first_response_seconds_bucket");
    assert_eq!(missing.collect::<Vec<_>>(), Vec::<&String>::new());
}

/// Every expression of the dashboard is one, and has a result where it must, so its labels are right as well.
fn expressions_have_results(prometheus: &Prometheus) {
    let mut found = Vec::new();
    expressions(&dashboard(), &mut found);
    assert!(found.len() > 30);
    for expression in found {
        let asked = expression
            .replace("$__rate_interval", "15s")
            .replace("$__interval", "15s")
            .replace("$instance", ".*")
            .replace("$limit", "node")
            .replace("$job", ".*");
        assert!(!asked.contains('$'), "{expression}");
        let result = prometheus.query(&asked).expect("an expression");
        let may_be_empty = MAY_BE_EMPTY.iter().any(|part| expression.contains(part));
        assert!(may_be_empty || !result.is_empty(), "{expression}");
    }
}
