//! Phones at home that register with the platform through siplb, and are reached through the pinhole in their router:
//! baresip, Kamailio, a real NAT.

use std::{net::SocketAddr, thread, time::Duration};

use siplb_lab::{
    Family, Lab, Shape, Siplb,
    baresip::{Account, Baresip},
    can_run_with,
    capture::{Capture, Datagram},
    kamailio::{self, Binding, Kamailio, PathUse},
    message::{Peer, request, respond},
    siplb::{DataPath, Options},
    sipp::{Plan, Scenario, Sipp},
};

const PROGRAMS: &[&str] = &["kamailio", "kamcmd", "baresip"];
/// The user of a phone that is no more than a socket.
const SIMPLE: &str = "service";
/// What phones ask for, in seconds.
const HOUR: u32 = 3600;
/// After how many silent seconds the router forgets a flow.
const ROUTER_FORGETS: u32 = 4;
const SOON: Duration = Duration::from_secs(3);
const CALL: Duration = Duration::from_secs(20);

/// How the registrar is told where the phone is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Mode {
    Path,
    Contact,
}

#[test]
fn phones_by_path_over_native_af_xdp() {
    life_of_two_phones(Mode::Path, DataPath::Native);
}

#[test]
fn phones_by_path_over_kernel_sockets() {
    life_of_two_phones(Mode::Path, DataPath::Socket);
}

#[test]
fn phones_by_contact_over_native_af_xdp() {
    life_of_two_phones(Mode::Contact, DataPath::Native);
}

#[test]
fn phones_by_contact_over_kernel_sockets() {
    life_of_two_phones(Mode::Contact, DataPath::Socket);
}

fn life_of_two_phones(mode: Mode, data_path: DataPath) {
    if !can_run_with(PROGRAMS) {
        return;
    }
    let mut home = Home::raise(&Plot {
        data_path,
        ..Plot::new(mode)
    });
    let mut alice = home.phone("alice", HOUR, false);
    // Four seconds at a time: it has to come again soon.
    let mut bob = home.phone("bob", 4, false);
    alice.await_registered().expect("a registration");
    for _ in 0..2 {
        bob.await_registered().expect("a registration");
    }
    let bindings = home.registrar.bindings().expect("bindings");
    assert_eq!(bindings.len(), 2, "{bindings:#?}");
    for binding in &bindings {
        home.is_behind_the_vip(binding);
    }

    for caller_ends in [true, false] {
        alice.dial("sip:bob@home.test").expect("a call");
        bob.await_established().expect("a call");
        alice.await_established().expect("a call");
        let (first, second) = if caller_ends {
            (&mut alice, &mut bob)
        } else {
            (&mut bob, &mut alice)
        };
        first.hang_up().expect("an end");
        second.await_closed().expect("an end");
    }
    home.calls_from_the_platform("before", &mut alice);

    alice.unregister().expect("an end");
    bob.unregister().expect("an end");
    home.registrar
        .await_bindings("nobody to be there", <[_]>::is_empty)
        .expect("bindings");
    home.siplb.stop().expect("an ordinary end");
}

#[test]
fn a_phone_by_path_is_told_to_come_again_soon() {
    told_to_come_again_soon(Mode::Path);
}

#[test]
fn a_phone_by_contact_is_told_to_come_again_soon() {
    told_to_come_again_soon(Mode::Contact);
}

/// What siplb grants is for the phone alone: the registrar keeps what it has granted.
fn told_to_come_again_soon(mode: Mode) {
    if !can_run_with(PROGRAMS) {
        return;
    }
    let mut home = Home::raise(&Plot {
        max_expires: Some("4s"),
        ..Plot::new(mode)
    });
    let capture = Capture::start(&home.lab, &home.lab.client, "eth0").expect("a capture");
    let mut alice = home.phone("alice", HOUR, false);
    for _ in 0..3 {
        alice.await_registered().expect("a registration");
    }
    let bindings = home.registrar.bindings().expect("bindings");
    assert_eq!(bindings.len(), 1, "{bindings:#?}");
    assert!(bindings[0].expires > HOUR - 10, "{bindings:#?}");
    let seen = capture.datagrams().expect("datagrams");
    let granted: Vec<String> = responses(&seen, "200", "REGISTER").collect();
    assert!(granted.len() >= 3, "{granted:#?}");
    for response in granted {
        let contact = field(&response, "Contact").expect(&response);
        assert!(contact.contains(";expires=4"), "{response}");
        assert!(!response.contains(&HOUR.to_string()), "{response}");
        // In contact mode it finds its own again, or it would think that it is not registered.
        assert!(contact.contains("@192.168.1.2:5060"), "{response}");
    }
    home.siplb.stop().expect("an ordinary end");
}

#[test]
fn a_time_that_is_too_short_is_refused_by_the_registrar() {
    if !can_run_with(PROGRAMS) {
        return;
    }
    for mode in [Mode::Path, Mode::Contact] {
        let mut home = Home::raise(&Plot {
            registrar: kamailio::Options {
                min_expires: Some(60),
                ..registrar(mode)
            },
            ..Plot::new(mode)
        });
        let capture = Capture::start(&home.lab, &home.lab.client, "eth0").expect("a capture");
        let mut alice = home.phone("alice", 10, false);
        alice.await_registered().expect("a registration");
        let bindings = home.registrar.bindings().expect("bindings");
        assert!(
            bindings.len() == 1 && (50..=60).contains(&bindings[0].expires),
            "{bindings:#?}"
        );
        let seen = capture.datagrams().expect("datagrams");
        let refusals: Vec<String> = responses(&seen, "423", "REGISTER").collect();
        assert_eq!(refusals.len(), 1, "{refusals:#?}");
        assert_eq!(field(&refusals[0], "Min-Expires"), Some("60"));
        home.siplb.stop().expect("an ordinary end");
    }
}

/// It refuses a Path with 420 unless the phone says that it supports it. baresip always does; this one does not.
#[test]
fn a_strict_registrar_is_told_that_path_is_supported() {
    if !can_run_with(PROGRAMS) {
        return;
    }
    for (told, status) in [(true, "SIP/2.0 200 "), (false, "SIP/2.0 420 ")] {
        let mut home = Home::raise(&Plot {
            registration: format!("{{ mode: path, supported_path: {told} }}"),
            registrar: kamailio::Options {
                digest: false,
                ..kamailio::Options::new(PathUse::Strict)
            },
            ..Plot::new(Mode::Path)
        });
        let phone = home.simple_phone();
        let answer = home.register(&phone);
        assert!(answer.starts_with(status), "{answer}");
        // After a 420 there is a binding too: Kamailio looks at Supported when it has stored it.
        if told {
            let bindings = home.registrar.bindings().expect("bindings");
            assert_eq!(bindings.len(), 1, "{bindings:#?}");
            home.is_behind_the_vip(&bindings[0]);
            let mut call = home.platform_calls("strict", SIMPLE, "platform_bye");
            answer_one_call(&phone);
            assert_eq!(call.finish(CALL).expect("a call").successful, 1);
        }
        home.siplb.stop().expect("an ordinary end");
    }
}

#[test]
fn keepalives_keep_the_way_to_phones_by_path() {
    keepalives(Mode::Path);
}

#[test]
fn keepalives_keep_the_way_to_phones_by_contact() {
    keepalives(Mode::Contact);
}

/// Three phones, silent for three times the time that the router takes to forget them but for their keepalives: one
/// sends STUN, one CRLF, one nothing, which cannot be reached any more.
fn keepalives(mode: Mode) {
    if !can_run_with(PROGRAMS) {
        return;
    }
    let mut home = Home::raise(&Plot {
        registrar: kamailio::Options {
            // The phone with CRLF knows no passwords.
            digest: false,
            flow_timer: Some(ROUTER_FORGETS / 2),
            ..registrar(mode)
        },
        ..Plot::new(mode)
    });
    home.lab
        .forget_flows_after(ROUTER_FORGETS)
        .expect("timeouts");
    let vip = home.lab.vip(Family::V4);
    let mut stun = home.phone("alice", HOUR, true);
    let mut nothing = home.phone("bob", HOUR, false);
    let crlf = home.simple_phone();
    stun.await_registered().expect("a registration");
    nothing.await_registered().expect("a registration");
    let answer = home.register(&crlf);
    assert!(answer.starts_with("SIP/2.0 200"), "{answer}");

    let interval = Duration::from_millis(500 * u64::from(ROUTER_FORGETS));
    for _ in 0..6 {
        thread::sleep(interval);
        crlf.send("\r\n\r\n", vip).expect("a datagram");
        let (answer, _) = crlf.expect(SOON).expect("an answer");
        assert_eq!(answer, "\r\n");
    }
    for phone in [&mut stun, &mut nothing] {
        assert!(!phone.has_told("REGISTER_OK").expect("a phone"), "too long");
    }

    home.calls_from_the_platform("stun", &mut stun);
    let mut call = home.platform_calls("crlf", SIMPLE, "platform_bye");
    answer_one_call(&crlf);
    assert_eq!(call.finish(CALL).expect("a call").successful, 1);
    let mut call = home.platform_calls("nothing", "bob", "platform_bye");
    assert_eq!(call.finish(CALL).expect("a call").failed, 1);
    assert!(!nothing.has_told("CALL_INCOMING").expect("a phone"));
    // It is still what the registrar thinks.
    let bindings = home.registrar.bindings().expect("bindings");
    assert_eq!(bindings.len(), 3, "{bindings:#?}");
    home.siplb.stop().expect("an ordinary end");
}

/// INVITE, ACK, BYE.
fn answer_one_call(phone: &Peer) {
    let own = phone.address().expect("an address");
    let (invite, proxy) = phone.expect(SOON).expect("an INVITE");
    assert!(invite.starts_with("INVITE sip:caller@"), "{invite}");
    let contact = format!("Contact: <sip:caller@{own}>\r\nContent-Length");
    let ok = respond(&invite, "200 OK").replace("Content-Length", &contact);
    phone.send(ok, proxy).expect("a datagram");
    let (ack, _) = phone.expect(SOON).expect("an ACK");
    assert!(ack.starts_with("ACK "), "{ack}");
    let (bye, proxy) = phone.expect(SOON).expect("a BYE");
    assert!(bye.starts_with("BYE "), "{bye}");
    let ok = respond(&bye, "200 OK").replace(";tag=server;tag=server", ";tag=server");
    phone.send(ok, proxy).expect("a datagram");
}

#[test]
fn another_node_takes_over_phones_by_path() {
    takeover(Mode::Path);
}

#[test]
fn another_node_takes_over_phones_by_contact() {
    takeover(Mode::Contact);
}

/// The node that the phone has registered through dies during a call. Another one knows the secret and the
/// configuration, and nothing else.
fn takeover(mode: Mode) {
    if !can_run_with(PROGRAMS) {
        return;
    }
    let plot = Plot::new(mode);
    let mut home = Home::raise(&plot);
    let mut alice = home.phone("alice", HOUR, false);
    alice.await_registered().expect("a registration");
    let mut call = home.platform_calls("across", "alice", "platform_peer_bye");
    alice.await_established().expect("a call");

    home.siplb.process().kill();
    let mut options = plot.options();
    options.node = "second".into();
    home.siplb = Siplb::start(&home.lab, &options).expect("another siplb");

    alice.hang_up().expect("an end");
    assert_eq!(call.finish(CALL).expect("a call").successful, 1);
    home.calls_from_the_platform("after", &mut alice);
    assert!(!alice.has_told("REGISTER_OK").expect("a phone"), "too long");
    home.siplb.stop().expect("an ordinary end");
}

/// What differs from test to test.
struct Plot {
    data_path: DataPath,
    mode: Mode,
    /// `registration` of the pool.
    registration: String,
    registrar: kamailio::Options,
    max_expires: Option<&'static str>,
}

impl Plot {
    fn new(mode: Mode) -> Self {
        Self {
            data_path: DataPath::Native,
            mode,
            registration: format!("{mode:?}").to_lowercase(),
            registrar: registrar(mode),
            max_expires: None,
        }
    }

    fn options(&self) -> Options {
        let max_expires = self
            .max_expires
            .map(|time| format!(", max_expires: {time}"));
        Options {
            families: vec![Family::V4],
            weights: vec![1],
            nat: format!(
                "{{ detect: [received], fix: [rport]{} }}",
                max_expires.unwrap_or_default()
            ),
            pool: format!("registration: {}", self.registration),
            rest: "outbound: { trusted: [10.0.0.0/24] }\n".into(),
            ..Options::new(self.data_path)
        }
    }
}

fn registrar(mode: Mode) -> kamailio::Options {
    kamailio::Options::new(match mode {
        Mode::Path => PathUse::Lenient,
        Mode::Contact => PathUse::None,
    })
}

/// Everything but the phones. The lab is last: what runs in it ends first.
struct Home {
    mode: Mode,
    siplb: Siplb,
    registrar: Kamailio,
    lab: Lab,
}

impl Home {
    fn raise(plot: &Plot) -> Self {
        let lab = Lab::new(Shape::Home, 1).expect("a lab");
        let address = lab.server(Family::V4, 0);
        let registrar = Kamailio::start(&lab, &lab.servers, "registrar", address, &plot.registrar);
        Self {
            mode: plot.mode,
            siplb: Siplb::start(&lab, &plot.options()).expect("siplb"),
            registrar: registrar.expect("Kamailio"),
            lab,
        }
    }

    /// Alice is the client, everybody else the neighbour.
    fn phone(&self, user: &str, expires: u32, keepalives: bool) -> Baresip {
        let lab = &self.lab;
        let account = Account {
            expires,
            keepalives,
            ..Account::new(user, lab.vip(Family::V4))
        };
        let (host, address) = match user {
            "alice" => (&lab.client, lab.client_address(Family::V4)),
            _ => (lab.neighbour(), lab.neighbour_address()),
        };
        Baresip::start(lab, host, address, &account).expect("a phone")
    }

    /// A phone that the test plays, beside Alice's.
    fn simple_phone(&self) -> Peer {
        let local = SocketAddr::new(self.lab.client_address(Family::V4), 5070);
        Peer::bind(&self.lab.client, local).expect("a socket")
    }

    /// What the registrar says to a phone that knows no passwords.
    fn register(&self, phone: &Peer) -> String {
        let own = phone.address().expect("an address");
        let vip = self.lab.vip(Family::V4);
        let register = request("REGISTER", own, vip, "simple", "", "");
        phone.send(register, vip).expect("a datagram");
        phone.expect(SOON).expect("an answer").0
    }

    /// The registrar knows the VIP, where the phone is to be found; and only one of its header fields was used for it.
    fn is_behind_the_vip(&self, binding: &Binding) {
        let vip = format!("@{};", self.lab.vip(Family::V4));
        let contact = format!("{};", binding.contact);
        match (self.mode, &binding.path) {
            (Mode::Path, Some(path)) => {
                assert!(path.contains(&vip) && path.contains(";lr"), "{binding:#?}");
                assert!(contact.contains("@192.168.1."), "{binding:#?}");
            }
            (Mode::Contact, None) => assert!(contact.contains(&vip), "{binding:#?}"),
            _ => panic!("{binding:#?}"),
        }
    }

    /// Two calls: in one the platform hangs up, in the other the phone.
    fn calls_from_the_platform(&self, name: &str, alice: &mut Baresip) {
        let mut call = self.platform_calls(&format!("{name}-bye"), "alice", "platform_bye");
        alice.await_established().expect("a call");
        alice.await_closed().expect("an end");
        let books = call.finish(CALL).expect("a call");
        assert_eq!(books.successful, 1, "{books:#?}\n{}", call.errors());

        let name = format!("{name}-peer-bye");
        let mut call = self.platform_calls(&name, "alice", "platform_peer_bye");
        alice.await_established().expect("a call");
        alice.hang_up().expect("an end");
        let books = call.finish(CALL).expect("a call");
        assert_eq!(books.successful, 1, "{books:#?}\n{}", call.errors());
    }

    /// Begins a call to a user, which Kamailio looks up.
    fn platform_calls(&self, name: &str, user: &str, scenario: &str) -> Sipp {
        let scenario = Scenario::new(scenario)
            .with("TARGET", format!("{user}@{}", kamailio::DOMAIN))
            .with("HOST", "platform.test");
        let [registrar, local] = [0, 1].map(|number| self.lab.server(Family::V4, number));
        let plan = Plan::caller(scenario, local, registrar, 1, 1).logging();
        Sipp::start(&self.lab, &self.lab.servers, name, &plan).expect("a caller")
    }
}

/// Responses of that status to that method, among datagrams.
fn responses(
    datagrams: &[Datagram],
    status: &'static str,
    method: &'static str,
) -> impl Iterator<Item = String> {
    let texts = datagrams
        .iter()
        .map(|datagram| String::from_utf8_lossy(&datagram.payload).into_owned());
    texts.filter(move |text| {
        text.starts_with(&format!("SIP/2.0 {status} "))
            && field(text, "CSeq").is_some_and(|value| value.ends_with(method))
    })
}

fn field<'a>(message: &'a str, name: &str) -> Option<&'a str> {
    let mut lines = message.split("\r\n");
    let line = lines.find_map(|line| line.strip_prefix(name)?.strip_prefix(':'))?;
    Some(line.trim())
}
