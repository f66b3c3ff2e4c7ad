//! Each message follows its dialog or transaction to the backend that has it: checked call by call, in the servers'
//! own logs, with three backends.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use siplb_lab::{
    Family, Lab, Shape, Siplb, can_run,
    siplb::{DataPath, Options},
    sipp::{Message, Plan, Scenario, Sipp},
};

const SERVERS: usize = 3;
const CALLS: u64 = 60;

/// What caller and server play, and all that a server then sees of a call: `<` received, `>` sent.
struct Case {
    caller: &'static str,
    server: &'static str,
    status: u16,
    at_the_server: &'static str,
}

const CASES: [Case; 10] = [
    case(
        "uac_bye",
        "uas_bye",
        0,
        "<INVITE >180 INVITE >200 INVITE <ACK <BYE >200 BYE",
    ),
    case(
        "uac_reinvite",
        "uas_reinvite",
        0,
        "<INVITE >180 INVITE >200 INVITE <ACK <INVITE >200 INVITE <ACK <BYE >200 BYE",
    ),
    case(
        "uac_peer_bye",
        "uas_peer_bye",
        0,
        "<INVITE >180 INVITE >200 INVITE <ACK >INVITE <200 INVITE >ACK >BYE <200 BYE",
    ),
    case(
        "uac_cancel",
        "uas_cancel",
        0,
        "<INVITE >180 INVITE <CANCEL >200 CANCEL >487 INVITE <ACK",
    ),
    case("uac_reject", "uas_reject", 302, "<INVITE >302 INVITE <ACK"),
    case("uac_reject", "uas_reject", 404, "<INVITE >404 INVITE <ACK"),
    case("uac_reject", "uas_reject", 486, "<INVITE >486 INVITE <ACK"),
    case("uac_reject", "uas_reject", 503, "<INVITE >503 INVITE <ACK"),
    case("uac_reject", "uas_reject", 600, "<INVITE >600 INVITE <ACK"),
    case(
        "uac_prack",
        "uas_prack",
        0,
        "<INVITE >183 INVITE <PRACK >200 PRACK >200 INVITE <ACK <BYE >200 BYE",
    ),
];

const fn case(
    caller: &'static str,
    server: &'static str,
    status: u16,
    at_the_server: &'static str,
) -> Case {
    Case {
        caller,
        server,
        status,
        at_the_server,
    }
}

#[test]
fn over_native_af_xdp() {
    check(Shape::TwoArmed, DataPath::Native);
}

#[test]
fn over_native_af_xdp_with_one_interface() {
    check(Shape::OneArmed, DataPath::Native);
}

#[test]
fn over_kernel_sockets() {
    check(Shape::TwoArmed, DataPath::Socket);
}

fn check(shape: Shape, data_path: DataPath) {
    if !can_run() {
        return;
    }
    let lab = Lab::new(shape, 2).expect("a lab");
    let mut siplb = Siplb::start(&lab, &Options::new(data_path)).expect("siplb");
    for family in [Family::V4, Family::V6] {
        for (number, case) in CASES.iter().enumerate() {
            play(&lab, family, number, case);
        }
    }
    let totals = siplb.settled("all datagrams to be decided", |totals| {
        totals.received() == totals.decided()
    });
    let totals = totals.expect("counters that add up");
    assert_eq!(
        totals.classes.keys().collect::<Vec<_>>(),
        ["forward"],
        "{totals:#?}"
    );
    assert_eq!(totals.sent(), totals.received(), "{totals:#?}");
    siplb.stop().expect("an ordinary end");
}

fn play(lab: &Lab, family: Family, number: usize, case: &Case) {
    let scenario = |name| Scenario::new(name).with("STATUS", case.status);
    let name = format!("{number}-{family:?}-{}", case.caller);
    let mut servers: Vec<Sipp> = (0..SERVERS)
        .map(|server| {
            let plan = Plan::server(scenario(case.server), lab.server(family, server))
                .on_cpu(server)
                .logging();
            Sipp::start(lab, &lab.servers, &format!("{name}-server{server}"), &plan)
                .expect("a server")
        })
        .collect();
    let local = (lab.client_address(family), 5061).into();
    let plan = Plan::caller(scenario(case.caller), local, lab.vip(family), CALLS, 100).logging();
    let mut caller =
        Sipp::start(lab, &lab.client, &format!("{name}-caller"), &plan).expect("a caller");
    let calls = caller.finish(Duration::from_secs(30)).expect("calls");
    let errors = || format!("{name}: {:#?}\n{}", calls, caller.errors());
    assert_eq!(
        (calls.successful, calls.failed, calls.retransmissions),
        (CALLS, 0, 0),
        "{}",
        errors()
    );
    assert_eq!((calls.out_of_call, calls.dead_call), (0, 0), "{}", errors());

    let placed = calls_by_id(&caller.messages().expect("messages"));
    assert_eq!(placed.len() as u64, CALLS);
    let mut taken = BTreeSet::new();
    for server in &mut servers {
        let books = server.stop().expect("books");
        let errors = format!("{name}: {books:#?}\n{}", server.errors());
        assert_eq!(
            (books.failed, books.retransmissions, books.out_of_call),
            (0, 0, 0),
            "{errors}"
        );
        let calls = calls_by_id(&server.messages().expect("messages"));
        assert_eq!(calls.len() as u64, books.successful, "{errors}");
        assert!(!calls.is_empty(), "{name}: a server without calls");
        for (call_id, messages) in calls {
            assert_eq!(sequence(&messages), case.at_the_server, "{name}: {call_id}");
            check_headers(lab, family, &messages);
            assert!(
                placed.contains_key(&call_id),
                "{name}: nobody placed {call_id}"
            );
            assert!(
                taken.insert(call_id.clone()),
                "{name}: two servers have {call_id}"
            );
        }
    }
    assert_eq!(taken.len() as u64, CALLS, "{name}");
}

fn calls_by_id(messages: &[Message]) -> BTreeMap<String, Vec<Message>> {
    let mut calls: BTreeMap<String, Vec<Message>> = BTreeMap::new();
    for message in messages {
        let call_id = message.field("Call-ID").expect("a Call-ID");
        calls
            .entry(call_id.into())
            .or_default()
            .push(message.clone());
    }
    calls
}

fn sequence(messages: &[Message]) -> String {
    let steps = messages.iter().map(|message| {
        let direction = if message.sent { '>' } else { '<' };
        format!("{direction}{}", message.kind())
    });
    steps.collect::<Vec<_>>().join(" ")
}

/// What a proxy must have done to the requests that a server gets (RFC 3261 §16.6).
fn check_headers(lab: &Lab, family: Family, messages: &[Message]) {
    let vip = lab.vip(family).to_string();
    let client = lab.client_address(family).to_string();
    let requests = messages
        .iter()
        .filter(|message| !message.sent && !message.text.starts_with("SIP/2.0"));
    for request in requests {
        let text = &request.text;
        let vias: Vec<&str> = request.fields("Via").collect();
        assert_eq!(vias.len(), 2, "{text}");
        assert!(
            vias[0].starts_with(&format!("SIP/2.0/UDP {vip};branch=z9hG4bK")),
            "{text}"
        );
        assert!(vias[1].contains(&client), "{text}");
        assert_eq!(request.field("Max-Forwards"), Some("69"), "{text}");
        assert_eq!(request.field("Route"), None, "{text}");
        let to_tag = request.field("To").is_some_and(|to| to.contains(";tag="));
        if request.kind() == "INVITE" && !to_tag {
            let record_routes: Vec<&str> = request.fields("Record-Route").collect();
            assert_eq!(record_routes.len(), 1, "{text}");
            assert!(
                record_routes[0].contains(&format!("@{vip}")) && record_routes[0].contains(";lr"),
                "{text}"
            );
        }
    }
}
