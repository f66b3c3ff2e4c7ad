//! The page at the metrics address, in a real browser, with calls from SIPp: it shows what happens, and asks nobody else.

use std::time::Duration;

use lb_userspace::control::Request;
use serde_json::{Value, json};
use siplb_lab::{
    Family, Lab, Shape, Siplb, alone,
    browser::Browser,
    can_run_with,
    siplb::{DataPath, Options},
    sipp::{Plan, Scenario, Sipp},
    until,
};

const SERVERS: usize = 3;
const LIMIT: u32 = 100;
const ADDRESS: &str = "http://127.0.0.1:9464/";
const SOON: Duration = Duration::from_secs(60);

fn options() -> Options {
    Options {
        families: vec![Family::V4],
        pool: "health: { interval: 1s, timeout: 500ms, fall: 2, rise: 2, slow_start: 1s }".into(),
        backend: ", cps: 80".into(),
        rest: format!(
            "limits: {{ cps: {LIMIT}, on_breach: 480, silence_after: 0 }}\nmetrics: {{ listen: 127.0.0.1:9464 }}\n"
        ),
        ..Options::new(DataPath::Native)
    }
}

fn server(lab: &Lab, number: usize, start: u32) -> Sipp {
    let plan = Plan::server(Scenario::new("uas_pool"), lab.server(Family::V4, number));
    let name = format!("server{number}-{start}");
    Sipp::start(lab, &lab.servers, &name, &plan).expect("a server")
}

/// 250 calls a second for so many seconds, from four callers.
fn callers(lab: &Lab, name: &str, seconds: u64) -> Vec<Sipp> {
    let rates = [70, 60, 60, 60].into_iter().zip(0..);
    let callers = rates.map(|(rate, number)| {
        let local = (lab.client_address(Family::V4), 5061 + number).into();
        let calls = seconds * u64::from(rate);
        let scenario = Scenario::new("uac_limited");
        let plan = Plan::caller(scenario, local, lab.vip(Family::V4), calls, rate);
        Sipp::start(lab, &lab.client, &format!("{name}{number}"), &plan).expect("a caller")
    });
    callers.collect()
}

/// A number as people write it.
fn number(text: &str) -> f64 {
    let digits = text.chars().filter(|c| c.is_ascii_digit() || *c == '.');
    let digits = digits.collect::<String>();
    digits
        .parse()
        .unwrap_or_else(|_| panic!("no number: {text:?}"))
}

fn is_within_a_percent(shown: f64, real: u64) -> bool {
    (shown - real as f64).abs() <= real as f64 / 100.0
}

/// What the graphs say of a number of seconds, read with the keyboard: accepted and refused.
fn read_graphs(browser: &mut Browser, seconds: usize) -> Vec<(f64, f64)> {
    let focus = "document.getElementById('plots').focus()";
    browser.evaluate(focus).expect("the graphs");
    let mut read = Vec::new();
    for step in 0..seconds {
        browser
            .press(if step == 0 { "End" } else { "ArrowLeft" })
            .expect("a key");
        let told = "document.getElementById('plots').getAttribute('aria-valuetext')";
        let told = browser.evaluate(told).expect("a text");
        let told = told.as_str().expect("a text").to_owned();
        let value = |name: &str| {
            let part = told.split(", ").find_map(|part| part.strip_prefix(name));
            part.map(number)
        };
        if let (Some(accepted), Some(refused)) = (value("accepted "), value("refused ")) {
            read.push((accepted, refused));
        }
    }
    browser.press("Escape").expect("a key");
    read
}

/// The row of a backend says this of its state.
fn backend_is(name: &str, state: &str) -> String {
    format!(
        "[...document.querySelectorAll('#backends tr')].some((row) => row.querySelector('strong')?.textContent === '{name}' \
         && row.querySelector('.state').textContent === '{state}')"
    )
}

/// A row of what changed has this text.
fn event_says(text: &str) -> String {
    format!(
        "[...document.querySelectorAll('#events li')].some((item) => item.textContent.includes('{text}'))"
    )
}

#[test]
fn the_page_shows_what_happens() {
    if !can_run_with(&["chromium"]) {
        return;
    }
    let _alone = alone();
    let lab = Lab::new(Shape::TwoArmed, 2).expect("a lab");
    let mut siplb = Siplb::start(&lab, &options()).expect("siplb");
    let mut servers: Vec<Sipp> = (0..SERVERS).map(|number| server(&lab, number, 0)).collect();
    let mut browser = Browser::start(&lab, &lab.edge).expect("a browser");
    browser.be(1440, 900, "light").expect("a screen");
    browser.open(ADDRESS).expect("the page");
    let all_active = "document.getElementById('now-backends').textContent === '3'";
    browser
        .await_true("three active backends", all_active, SOON)
        .expect("a page that works");
    let status = siplb.status().expect("status");
    assert_eq!(browser.text("node").expect("a name"), status.node);
    assert_eq!(
        browser.text("config-hash").expect("a hash"),
        status.config_hash
    );
    // It changes when backends have started slowly.
    let is_that_of_now = || {
        let hash = siplb.status().ok()?.table_hash;
        (browser.text("table-hash").ok()? == hash).then_some(())
    };
    until("the table hash", SOON, is_that_of_now).expect("the hash of now");
    browser
        .await_true("the start", &event_says("ready"), SOON)
        .expect("an event");

    numbers_are_those_of_sipp(&lab, &mut browser);
    a_backend_dies_and_comes_back(&lab, &siplb, &mut servers, &mut browser);
    text_of_the_node_is_text(&siplb, &mut browser);
    every_span_and_limit_is_there(&mut browser);
    the_crosshair_follows_mouse_and_finger(&mut browser);
    everybody_can_read_it(&mut browser);

    let complaints = browser.complaints().expect("an answer");
    assert!(complaints.is_empty(), "{complaints:#?}");
    let requests = browser.requests().expect("an answer");
    let own = [
        ADDRESS.to_owned(),
        "data:".to_owned(),
        "about:blank".to_owned(),
    ];
    let others = requests
        .iter()
        .filter(|request| !own.iter().any(|own| request.starts_with(own)))
        .collect::<Vec<_>>();
    assert!(others.is_empty(), "{others:?}");

    // Calls of callers that are gone are still in their books.
    drop(servers);
    a_silent_node_is_noticed(&lab, &mut siplb, &mut browser);
    siplb.stop().expect("an ordinary end");
}

/// 250 calls a second, 100 of which are allowed.
fn numbers_are_those_of_sipp(lab: &Lab, browser: &mut Browser) {
    let mut callers = callers(lab, "caller", 12);
    let busy = format!(
        "Math.abs(Number(document.getElementById('now-accepted').textContent) - {LIMIT}) <= 5 \
         && Number(document.getElementById('now-breached').textContent) > 100"
    );
    browser
        .await_true("a busy second", &busy, SOON)
        .expect("numbers");
    let (mut accepted, mut breached) = (0, 0);
    for caller in &mut callers {
        let calls = caller.finish(SOON).expect("calls");
        assert_eq!(calls.failed, 0, "{calls:?}\n{}", caller.errors());
        let refused = caller.responses(480).expect("counts");
        (accepted, breached) = (accepted + calls.created - refused, breached + refused);
    }
    let idle = "document.getElementById('now-accepted').textContent === '0' && \
                document.getElementById('now-breached').textContent === '0'";
    browser.await_true("quiet", idle, SOON).expect("numbers");

    let tile = browser.text("now-limit").expect("a tile");
    let shown = number(tile.split(", ").last().unwrap_or_default());
    assert!(
        is_within_a_percent(shown, accepted),
        "{tile:?} for {accepted}"
    );
    let tile = browser.text("now-breached-total").expect("a tile");
    assert!(
        is_within_a_percent(number(&tile), breached),
        "{tile:?} for {breached}"
    );
    // Every second that the keyboard gets to.
    let read = read_graphs(browser, 120);
    let sum = |of: fn(&(f64, f64)) -> f64| read.iter().map(of).sum::<f64>();
    let (of_graph, refused) = (sum(|second| second.0), sum(|second| second.1));
    assert!(
        is_within_a_percent(of_graph, accepted) && is_within_a_percent(refused, breached),
        "{of_graph} and {refused} for {accepted} and {breached}: {read:?}"
    );
    println!("SIPp: {accepted} accepted, {breached} refused; graphs: {of_graph}, {refused}");
    let dashed = "document.querySelector('#plot-accepted .limit-name').textContent";
    let dashed = browser.evaluate(dashed).expect("a limit");
    assert_eq!(dashed, format!("limit {LIMIT}"));
    let refused = "[...document.querySelectorAll('#losses tr')].some((row) => row.textContent.startsWith('cps_breached'))";
    assert_eq!(browser.evaluate(refused).expect("a table"), true);
}

fn a_backend_dies_and_comes_back(
    lab: &Lab,
    siplb: &Siplb,
    servers: &mut [Sipp],
    browser: &mut Browser,
) {
    // Nobody counts these: some lose their server.
    let _callers = callers(lab, "other", 8);
    servers[0].process().kill();
    browser
        .await_true(
            "sip1 to be unhealthy",
            &backend_is("sip1", "unhealthy"),
            SOON,
        )
        .expect("a state");
    browser
        .await_true("an event", &event_says("healthy -> unhealthy"), SOON)
        .expect("an event");
    let share = "[...document.querySelectorAll('#backends tr')].find((row) => \
                 row.querySelector('strong')?.textContent === 'sip1').querySelector('.share').textContent";
    assert_eq!(browser.evaluate(share).expect("a share"), "0.0 %");
    servers[0] = server(lab, 0, 1);
    browser
        .await_true("sip1 to be active", &backend_is("sip1", "active"), SOON)
        .expect("a state");
    siplb
        .command(&Request::new("drain").with("backend", "sip2"))
        .expect("an answer");
    browser
        .await_true("sip2 to drain", &backend_is("sip2", "draining"), SOON)
        .expect("a state");
    siplb
        .command(&Request::new("undrain").with("backend", "sip2"))
        .expect("an answer");
    browser
        .await_true("a word", &event_says("draining, by the operator"), SOON)
        .expect("an event");
    let marks = "document.querySelectorAll('#plot-accepted .flag').length > 1";
    assert_eq!(browser.evaluate(marks).expect("marks"), true);
}

/// A configuration that is refused is named with the key that is wrong with it: nothing that a browser would take for HTML.
fn text_of_the_node_is_text(siplb: &Siplb, browser: &mut Browser) {
    let before = std::fs::read_to_string(siplb.configuration()).expect("a file");
    let hostile = "'<img src=/elsewhere onerror=alert(1)>': 1\n";
    std::fs::write(siplb.configuration(), format!("{before}{hostile}")).expect("a file");
    let refused = siplb.command(&Request::new("reload"));
    refused.expect_err("a refusal");
    std::fs::write(siplb.configuration(), before).expect("a file");
    browser
        .await_true("the refusal", &event_says("<img src=/elsewhere"), SOON)
        .expect("an event");
    let images = browser.evaluate("document.images.length");
    assert_eq!(images.expect("a number"), 0);
}

fn every_span_and_limit_is_there(browser: &mut Browser) {
    for (range, words) in [
        ("1h", "accepted"),
        ("1d", "most in a second"),
        ("1M", "no values yet"),
    ] {
        let choose = format!("document.querySelector('#range input[value=\"{range}\"]').click()");
        browser.evaluate(&choose).expect("a choice");
        // A node that is minutes old may have nothing by half an hour yet.
        let is_there = format!(
            "state.range.id === '{range}' && (state.shown.groups.length > 0 || '{range}' === '1M') && \
             ('{range}' === '1M' || document.getElementById('readout').textContent.includes('{words}'))"
        );
        browser.await_true(range, &is_there, SOON).expect("a graph");
    }
    let of_backend =
        "[...document.getElementById('limit').options].map((option) => option.value).join()";
    let limits = browser.evaluate(of_backend).expect("limits");
    assert_eq!(limits, "node,backend sip1,backend sip2,backend sip3");
    let choose = "document.querySelector('#range input').click(); \
                  const list = document.getElementById('limit'); list.value = 'backend sip2'; \
                  list.dispatchEvent(new Event('change'))";
    browser.evaluate(choose).expect("a choice");
    let is_there = "state.live.limits[0].name === 'backend sip2' && \
                    document.querySelector('#plot-accepted .limit-name')?.textContent === 'limit 80'";
    browser
        .await_true("the limit of sip2", is_there, SOON)
        .expect("a graph");
    // What a second costs: no more than it has to.
    let size = "performance.getEntriesByType('resource').at(-1).transferSize";
    let size = browser.evaluate(size).expect("a size");
    let size = size.as_f64().expect("a number");
    println!("{size} bytes a second");
    assert!((1.0..6000.0).contains(&size), "{size} bytes");
}

/// The keyboard has read the graphs before.
fn the_crosshair_follows_mouse_and_finger(browser: &mut Browser) {
    let place = "(() => { const box = document.getElementById('plot-breached').getBoundingClientRect(); \
                 return [box.x + box.width / 2, box.y + box.height / 2]; })()";
    let place = browser.evaluate(place).expect("a place");
    let (x, y) = (&place[0], &place[1]);
    let crosses = |browser: &mut Browser| {
        let count = "document.querySelectorAll('#plots .cross').length";
        browser.evaluate(count).expect("a number")
    };
    let mouse = |browser: &mut Browser, x: &Value, y: &Value| {
        let there = json!({ "type": "mouseMoved", "x": x, "y": y });
        browser
            .order("Input.dispatchMouseEvent", there)
            .expect("a mouse");
    };
    mouse(browser, x, y);
    assert_eq!(crosses(browser), 2);
    let told = browser.text("readout").expect("a text");
    assert!(!told.starts_with("Last"), "{told}");
    mouse(browser, &json!(1), &json!(1));
    assert_eq!(crosses(browser), 0);
    for (kind, points) in [
        ("touchStart", json!([{ "x": x, "y": y }])),
        ("touchEnd", json!([])),
    ] {
        let finger = json!({ "type": kind, "touchPoints": points });
        browser
            .order("Input.dispatchTouchEvent", finger)
            .expect("a finger");
    }
    // It stays where the finger was.
    assert_eq!(crosses(browser), 2);
    browser
        .evaluate("document.activeElement.blur(); state.cursor = null; showCursor()")
        .expect("no crosshair");
}

/// Texts whose contrast with their ground is below 4.5 (WCAG 2.2, 1.4.3), controls without a name, and whether a screen can hold it.
const LOOK: &str = r#"(() => {
  const channel = (value) => (value <= 0.04045 ? value / 12.92 : ((value + 0.055) / 1.055) ** 2.4);
  const paint = document.createElement('canvas').getContext('2d', { willReadFrequently: true });
  const rgb = (colour) => {
    paint.clearRect(0, 0, 1, 1);
    paint.fillStyle = colour;
    paint.fillRect(0, 0, 1, 1);
    return [...paint.getImageData(0, 0, 1, 1).data];
  };
  const light = ([r, g, b]) => 0.2126 * channel(r / 255) + 0.7152 * channel(g / 255) + 0.0722 * channel(b / 255);
  const faults = [];
  for (const element of document.querySelectorAll('body *')) {
    const own = [...element.childNodes].some((node) => node.nodeType === 3 && node.textContent.trim());
    if (!own || !element.checkVisibility() || element.closest('noscript, script, .skip')) continue;
    const isSvg = element.ownerSVGElement != null;
    const front = light(rgb(getComputedStyle(element)[isSvg ? 'fill' : 'color']));
    let ground = element;
    while (ground && rgb(getComputedStyle(ground).backgroundColor)[3] === 0) ground = ground.parentElement;
    const back = light(rgb(getComputedStyle(ground ?? document.documentElement).backgroundColor));
    const contrast = (Math.max(front, back) + 0.05) / (Math.min(front, back) + 0.05);
    if (contrast < 4.5) faults.push(`${element.textContent.trim().slice(0, 30)}: contrast ${contrast.toFixed(2)}`);
  }
  const width = document.documentElement.scrollWidth;
  if (width > innerWidth) faults.push(`${width} px wide on a screen of ${innerWidth}`);
  return faults;
})()"#;

fn everybody_can_read_it(browser: &mut Browser) {
    for (width, height) in [(1440, 900), (768, 1024), (375, 812)] {
        for scheme in ["light", "dark"] {
            browser.be(width, height, scheme).expect("a screen");
            let faults = browser.evaluate(LOOK).expect("a look");
            assert_eq!(faults, json!([]), "{width} px, {scheme}");
        }
    }
    browser.be(1440, 900, "light").expect("a screen");
    // The switch goes before what the system wants.
    let ground = "getComputedStyle(document.documentElement).backgroundColor";
    let light = browser.evaluate(ground).expect("a colour");
    for _ in 0..2 {
        let click = "document.getElementById('theme').click()";
        browser.evaluate(click).expect("a click");
    }
    assert_eq!(browser.text("theme").expect("a button"), "Theme: dark");
    assert_ne!(browser.evaluate(ground).expect("a colour"), light);

    let tree = browser
        .order("Accessibility.getFullAXTree", json!({}))
        .expect("a tree");
    let nodes = tree["nodes"].as_array().expect("nodes");
    let of_role =
        |node: &Value, role: &str| node["role"]["value"] == role && node["ignored"] == false;
    for role in [
        "button", "combobox", "radio", "slider", "region", "list", "heading",
    ] {
        let found = nodes.iter().filter(|node| of_role(node, role));
        let names = found.map(|node| node["name"]["value"].as_str().unwrap_or_default());
        let names = names.collect::<Vec<_>>();
        assert!(
            !names.is_empty() && !names.contains(&""),
            "{role}: {names:?}"
        );
    }
}

/// What it had stays, with the time from which it is, and it goes on by itself.
fn a_silent_node_is_noticed(lab: &Lab, siplb: &mut Siplb, browser: &mut Browser) {
    siplb.stop().expect("an ordinary end");
    let silent = "!document.getElementById('stale').hidden && \
                  document.getElementById('stale').textContent.includes('has not answered since')";
    browser
        .await_true("a banner", silent, SOON)
        .expect("a banner");
    let rows = "document.querySelectorAll('#backends tr').length";
    assert_eq!(browser.evaluate(rows).expect("rows"), 5);
    siplb.start_again(lab).expect("siplb");
    let pid = siplb.status().expect("status").pid;
    let back =
        format!("document.getElementById('stale').hidden && state.live.status.pid === {pid}");
    browser.await_true("the node", &back, SOON).expect("a node");
    let twice = "[...document.querySelectorAll('#events li')].filter((item) => item.textContent.includes('ready')).length === 2";
    browser
        .await_true("both starts", twice, SOON)
        .expect("events");
    // What cannot be asked is complained of by the browser alone.
    let complaints = browser.complaints().expect("an answer");
    let others = complaints
        .iter()
        .filter(|told| !told.contains("ERR_CONNECTION_"));
    assert_eq!(others.collect::<Vec<_>>(), Vec::<&String>::new());
}
