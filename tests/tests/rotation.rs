//! The secret is changed twice with calls running: nobody notices.

use std::{
    collections::{BTreeMap, BTreeSet},
    thread,
    time::{Duration, Instant},
};

use siplb_lab::{
    Family, Lab, Shape, Siplb, alone, can_run,
    siplb::{DataPath, Options},
    sipp::{Plan, Scenario, Sipp, Statistics},
};

const SERVERS: usize = 3;
/// For so long calls begin.
const SECONDS: u32 = 20;
/// The caller's scenario and port, which says to the server what becomes of the call, and calls a second.
const CALLERS: [(&str, u16, u32); 3] = [
    ("uac_bye", 5061, 20),
    ("uac_cancel", 5062, 15),
    ("uac_reject", 5063, 15),
];
/// When the configuration is read again, in seconds, and which secrets it has by then: the one that signs and the one that is
/// still, or already, accepted. A call takes three seconds from end to end: none is left when the first secret is dropped.
const STEPS: [(u64, u32, Option<u32>); 5] = [
    (2, 0, Some(1)),
    (5, 1, Some(0)),
    // Nothing but the content of the second file changes here.
    (11, 1, Some(2)),
    (14, 2, Some(1)),
    (19, 2, None),
];

fn options(current: u32, previous: Option<u32>) -> Options {
    let secret = |number| format!("secret of the lab with the number {number}");
    Options {
        families: vec![Family::V4],
        secret: secret(current),
        previous_secret: previous.map(secret),
        ..Options::new(DataPath::Native)
    }
}

/// Calls of all kinds; what callers and servers have in their books afterwards.
fn play(lab: &Lab, run: &str, steps: &[(u64, u32, Option<u32>)]) -> (Statistics, Statistics) {
    let mut siplb = Siplb::start(lab, &options(0, None)).expect("siplb");
    let mut servers: Vec<Sipp> = (0..SERVERS)
        .map(|number| {
            let plan = Plan::server(Scenario::new("uas_slow"), lab.server(Family::V4, number));
            let plan = plan.logging();
            let name = format!("server{number}-{run}");
            Sipp::start(lab, &lab.servers, &name, &plan).expect("a server")
        })
        .collect();
    let mut callers: Vec<Sipp> = CALLERS
        .into_iter()
        .map(|(scenario, port, rate)| {
            let local = (lab.client_address(Family::V4), port).into();
            let mut plan = Plan::caller(
                Scenario::new(scenario).with("STATUS", 486),
                local,
                lab.vip(Family::V4),
                u64::from(SECONDS * rate),
                rate,
            );
            plan.pause_ms = 1000;
            let name = format!("{scenario}-{run}");
            Sipp::start(lab, &lab.client, &name, &plan.on_cpu(1)).expect("a caller")
        })
        .collect();
    let start = Instant::now();
    for (at, current, previous) in steps {
        let due = start + Duration::from_secs(*at);
        thread::sleep(due.saturating_duration_since(Instant::now()));
        siplb
            .rewrite(lab, &options(*current, *previous))
            .expect("a configuration");
        let said = siplb.client().cli(&["reload"]).expect("a reload");
        assert!(said.contains("secrets changed"), "{said}");
        let again = siplb.client().cli(&["reload"]).expect("a reload");
        assert!(
            !again.contains("changed:") && !again.contains("secrets"),
            "{again}"
        );
    }
    let calls = callers.iter_mut().map(|caller| {
        let books = caller.finish(Duration::from_secs(60)).expect("calls");
        assert_eq!(caller.errors(), "", "{books:?}");
        books
    });
    let calls = Statistics::sum(&calls.collect::<Vec<_>>());
    let served = servers.iter_mut().map(|server| {
        let books = server.stop().expect("an end");
        assert_eq!(server.errors(), "", "{books:?}");
        check_branches(server);
        books
    });
    let served = Statistics::sum(&served.collect::<Vec<_>>());
    siplb.stop().expect("an ordinary end");
    println!("{run}: {calls:?}\n{served:?}");
    (calls, served)
}

/// CANCEL, ACK to a refusal and retransmissions have the branch of their INVITE. SIPp itself looks at the Call-ID alone.
fn check_branches(server: &Sipp) {
    let mut branches: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    let messages = server.messages().expect("messages");
    let requests = messages.iter().filter(|message| !message.sent);
    // In calls that are set up only the INVITEs are of one transaction.
    let of_invite = requests.filter(|request| {
        let from = request.field("From").unwrap_or_default();
        request.kind() == "INVITE" || !from.contains(":5061>")
    });
    for request in of_invite {
        let call = request.field("Call-ID").expect("a Call-ID").to_owned();
        let branch = request.field("Via").and_then(|via| via.split(';').nth(1));
        let branch = branch.expect("a branch").to_owned();
        branches.entry(call).or_default().insert(branch);
    }
    assert!(!branches.is_empty());
    let broken = branches.iter().filter(|(_, branches)| branches.len() > 1);
    assert_eq!(broken.count(), 0, "of {} calls", branches.len());
}

#[test]
fn calls_outlive_two_changes_of_the_secret() {
    if !can_run() {
        return;
    }
    let _alone = alone();
    let lab = Lab::new(Shape::TwoArmed, 2).expect("a lab");
    let wanted = u64::from(
        CALLERS
            .into_iter()
            .map(|(_, _, rate)| SECONDS * rate)
            .sum::<u32>(),
    );
    let runs = [("quiet", &[][..]), ("rotation", &STEPS)];
    let [quiet, rotation] = runs.map(|(run, steps)| {
        let (calls, served) = play(&lab, run, steps);
        assert_eq!((calls.successful, calls.failed), (wanted, 0), "{calls:?}");
        // A request that its server does not know opens a call there.
        assert_eq!((served.created, served.failed), (wanted, 0), "{served:?}");
        let strays = [&calls, &served].map(|books| books.out_of_call + books.dead_call);
        assert_eq!(strays, [0, 0], "{calls:?} {served:?}");
        (calls.retransmissions, served.retransmissions)
    });
    // Each INVITE comes twice, whatever happens; a few do three times when the machine is busy.
    assert!(quiet.0 >= wanted, "{quiet:?}");
    let busy = wanted / 50;
    assert!(
        rotation.0 <= quiet.0 + busy && rotation.1 <= quiet.1 + busy,
        "{rotation:?} {quiet:?}"
    );
}
