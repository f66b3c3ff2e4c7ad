//! The lab itself: whatever fails in another test, it is not the wires or the scenarios.

use std::time::Duration;

use siplb_lab::{
    Family, Lab, Shape, can_run,
    sipp::{Plan, Scenario, Sipp},
};

/// All but PRACK, whose server wants to see a proxy's Via.
const PAIRS: [(&str, &str); 5] = [
    ("uac_bye", "uas_bye"),
    ("uac_reinvite", "uas_reinvite"),
    ("uac_peer_bye", "uas_peer_bye"),
    ("uac_cancel", "uas_cancel"),
    ("uac_reject", "uas_reject"),
];

#[test]
fn every_scenario_works_without_a_proxy() {
    if !can_run() {
        return;
    }
    let lab = Lab::new(Shape::OneArmed, 1).expect("a lab");
    for family in [Family::V4, Family::V6] {
        for (number, (caller, server)) in PAIRS.into_iter().enumerate() {
            let scenario = |name: &str| match name.ends_with("reject") {
                true => Scenario::new(name).with("STATUS", 486),
                false => Scenario::new(name),
            };
            let server_address = lab.server(family, 0);
            let plan = Plan::server(scenario(server), server_address).logging();
            let name = format!("{server}-{number}-{family:?}");
            let mut server = Sipp::start(&lab, &lab.servers, &name, &plan).expect("a server");
            let local = (lab.client_address(family), 5061).into();
            let plan = Plan::caller(scenario(caller), local, server_address, 10, 50).logging();
            let name = format!("{caller}-{number}-{family:?}");
            let mut caller = Sipp::start(&lab, &lab.client, &name, &plan).expect("a caller");
            let calls = caller.finish(Duration::from_secs(20)).expect("calls");
            let errors = format!("{name}: {}\n{}", caller.errors(), server.errors());
            assert_eq!((calls.successful, calls.failed), (10, 0), "{errors}");
            assert_eq!(calls.retransmissions, 0, "{errors}");
            let served = server.stop().expect("books");
            assert_eq!((served.successful, served.failed), (10, 0), "{errors}");
            let invites = caller.messages().expect("messages");
            let invites = invites
                .iter()
                .filter(|message| message.sent && message.kind() == "INVITE");
            assert!(invites.count() >= 10);
        }
    }
}
