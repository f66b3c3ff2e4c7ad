mod server;

use self::server::{Behaviour, Server};
use super::*;
use crate::names::{Answer, Lookup};

/// Longer than anything takes; a test that waits that long has failed.
const PATIENCE: Duration = Duration::from_secs(60);
/// Time stands still unless a test moves it, so that nothing is over because a machine is slow.
const NOW_NS: u64 = 1_000_000_000_000;

fn start(server: &Server) -> Resolver {
    start_at(server, || NOW_NS)
}

fn start_at(server: &Server, clock: fn() -> u64) -> Resolver {
    let settings = Settings {
        query_timeout: PATIENCE,
        clock,
    };
    Resolver::start_with(&[server.address()], settings).unwrap()
}

fn question(host: &str) -> Question<'_> {
    Question {
        host: host.as_bytes(),
        port: None,
        transport_given: false,
        ipv6: false,
    }
}

fn at_port(host: &str) -> Question<'_> {
    Question {
        port: Some(5080),
        ..question(host)
    }
}

/// Asks and waits for an answer that is not over.
fn answer(resolver: &Resolver, question: Question<'_>) -> Answer {
    assert!(resolver.asker().ask(&question));
    wait(resolver, question)
}

fn wait(resolver: &Resolver, question: Question<'_>) -> Answer {
    let mut found = None;
    resolver.wait_for(PATIENCE, |names| {
        if let Lookup::Known {
            answer,
            refresh: false,
        } = names.look_up(&question, NOW_NS)
        {
            found = Some(answer.clone());
        }
        found.is_some()
    });
    found.unwrap_or_else(|| panic!("{question:?} has not been answered"))
}

/// The addresses, by priority.
fn addresses(answer: &Answer) -> Vec<String> {
    match answer {
        Answer::Targets(targets) => targets
            .as_slice()
            .iter()
            .map(|target| target.address.to_string())
            .collect(),
        other => panic!("{other:?}"),
    }
}

#[test]
fn naptr_then_srv_then_addresses() {
    let server = Server::start();
    server.zone(&[
        "example.com NAPTR 1 1 s SIP+D2T _sip._tcp.example.com",
        "example.com NAPTR 2 1 s SIP+D2U _sip._udp.provider.example",
        "_sip._udp.provider.example SRV 1 10 5070 a.provider.example",
        "_sip._udp.provider.example SRV 2 10 5071 b.provider.example",
        "a.provider.example A 192.0.2.1",
        "b.provider.example A 192.0.2.2",
    ]);
    let resolver = start(&server);
    assert_eq!(
        addresses(&answer(&resolver, question("Example.com."))),
        ["192.0.2.1:5070", "192.0.2.2:5071"]
    );
    assert_eq!(server.queries(), 4);
    let stats = resolver.stats();
    assert_eq!((stats.asked, stats.answered, stats.names), (1, 1, 1));
}

#[test]
fn srv_records_alone_and_behind_an_alias() {
    let server = Server::start();
    server.zone(&[
        "_sip._udp.example.com SRV 1 10 5070 sip.example.com",
        "sip.example.com A 192.0.2.1",
        "_sip._udp.alias.example CNAME _sip._udp.example.com",
        "other.example CNAME sip.example.com",
    ]);
    let resolver = start(&server);
    for host in ["example.com", "alias.example"] {
        let found = answer(&resolver, question(host));
        assert_eq!(addresses(&found), ["192.0.2.1:5070"], "{host}");
    }
    let found = answer(&resolver, at_port("other.example"));
    assert_eq!(addresses(&found), ["192.0.2.1:5080"]);
}

#[test]
fn an_alias_that_the_name_server_does_not_follow_is_followed() {
    let server = Server::start();
    server.zone(&["a.example CNAME b.example", "c.example A 192.0.2.1"]);
    server.set("b.example", "A", Behaviour::AliasAlone("c.example"));
    server.set(
        "circle.example",
        "A",
        Behaviour::AliasAlone("circle.example"),
    );
    let resolver = start(&server);
    let found = answer(&resolver, at_port("a.example"));
    assert_eq!(addresses(&found), ["192.0.2.1:5080"]);
    let found = answer(&resolver, at_port("circle.example"));
    assert_eq!(found, Answer::NotFound);
}

#[test]
fn addresses_alone_of_the_family_that_is_asked_for() {
    let server = Server::start();
    server.zone(&["example.com A 192.0.2.1", "example.com AAAA 2001:db8::1"]);
    let resolver = start(&server);
    let found = answer(&resolver, question("example.com"));
    assert_eq!(addresses(&found), ["192.0.2.1:5060"]);
    let ipv6 = Question {
        ipv6: true,
        ..question("example.com")
    };
    let found = answer(&resolver, ipv6);
    assert_eq!(addresses(&found), ["[2001:db8::1]:5060"]);
}

#[test]
fn an_answer_that_is_truncated_is_asked_for_by_tcp() {
    let server = Server::start();
    server.zone(&["example.com A 192.0.2.1"]);
    server.truncate_udp();
    let resolver = start(&server);
    let found = answer(&resolver, at_port("example.com"));
    assert_eq!(addresses(&found), ["192.0.2.1:5080"]);
}

#[test]
fn a_name_that_is_not_there_is_remembered() {
    let server = Server::start();
    let resolver = start(&server);
    let none = at_port("none.example");
    assert_eq!(answer(&resolver, none), Answer::NotFound);
    assert_eq!(answer(&resolver, none), Answer::NotFound);
    // The thread takes questions in order: the one after it has been answered, so this one has been looked at.
    assert_eq!(
        answer(&resolver, at_port("other.example")),
        Answer::NotFound
    );
    assert_eq!(server.queries_for("none.example", "A"), 1);
    assert_eq!(resolver.stats().not_found, 2);
}

#[test]
fn a_name_that_cannot_be_is_not_asked_for() {
    let server = Server::start();
    let resolver = start(&server);
    assert!(resolver.asker().ask(&at_port("a..b")));
    assert_eq!(answer(&resolver, at_port("none.example")), Answer::NotFound);
    assert_eq!(server.queries(), 1);
}

#[test]
fn servfail_and_refused_are_failures() {
    let server = Server::start();
    server.set("servfail.example", "A", Behaviour::ServFail);
    server.set("refused.example", "A", Behaviour::Refused);
    let resolver = start(&server);
    for host in ["servfail.example", "refused.example"] {
        assert_eq!(answer(&resolver, at_port(host)), Answer::Failed, "{host}");
    }
    assert_eq!(resolver.stats().failed, 2);
}

#[test]
fn silence_is_a_failure_until_other_name_servers_are_set() {
    let silent = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
    let settings = Settings {
        query_timeout: Duration::from_secs(1),
        clock: || NOW_NS,
    };
    let resolver = Resolver::start_with(&[silent.local_addr().unwrap()], settings).unwrap();
    assert_eq!(answer(&resolver, at_port("a.example")), Answer::Failed);

    let server = Server::start();
    server.zone(&["b.example A 192.0.2.1"]);
    resolver.set_name_servers(&[server.address()]).unwrap();
    let found = answer(&resolver, at_port("b.example"));
    assert_eq!(addresses(&found), ["192.0.2.1:5080"]);
}

#[test]
fn a_stale_answer_serves_until_the_next_one_is_there() {
    static SKEW_NS: AtomicU64 = AtomicU64::new(0);
    fn clock() -> u64 {
        NOW_NS + SKEW_NS.load(Ordering::Relaxed)
    }
    let later = |seconds: u64| SKEW_NS.fetch_add(seconds * 1_000_000_000, Ordering::Relaxed);
    let server = Server::start();
    server.set_ttl(1);
    server.zone(&["example.com A 192.0.2.1"]);
    let resolver = start_at(&server, clock);
    let name = at_port("example.com");
    let known = |names: &Names| match names.look_up(&name, clock()) {
        Lookup::Known { answer, refresh } => Some((addresses(answer)[0].clone(), refresh)),
        Lookup::Unknown => None,
    };
    let first = "192.0.2.1:5080".to_owned();
    let names = resolver.names();
    assert!(resolver.asker().ask(&name));
    assert!(resolver.wait_for(PATIENCE, |names| known(names).is_some()));

    later(1);
    assert_eq!(known(&names.load()), Some((first.clone(), true)));
    server.hold();
    server.zone(&["example.com A 192.0.2.2"]);
    assert!(resolver.asker().ask(&name));
    server.wait_for_query("example.com", "A", 2);
    assert_eq!(known(&names.load()), Some((first.clone(), true)));
    server.release();
    let second = "192.0.2.2:5080".to_owned();
    assert!(resolver.wait_for(PATIENCE, |names| known(names).unwrap().0 == second));

    // And while the name server is broken, the last good answer.
    later(1);
    server.set("example.com", "A", Behaviour::ServFail);
    assert!(resolver.asker().ask(&name));
    assert!(resolver.wait_for(PATIENCE, |_| resolver.stats().failed == 1));
    assert_eq!(known(&names.load()).unwrap().0, second);
    later(601);
    assert_eq!(known(&names.load()), None);
}

#[test]
fn a_question_that_is_being_asked_is_not_asked_again() {
    let server = Server::start();
    server.zone(&["example.com A 192.0.2.1"]);
    server.hold();
    let resolver = start(&server);
    let name = at_port("example.com");
    for _ in 0..1000 {
        // From more workers than one, and never a reason for the queue to fill.
        assert!(resolver.asker().ask(&name));
    }
    server.wait_for_query("example.com", "A", 1);
    // Where another name has taken the mark, the thread sees to it.
    for _ in 0..3 {
        let owned = OwnedQuestion::new(&name).unwrap();
        assert!(resolver.shared.queue.push(owned).is_ok());
        resolver.shared.wake();
    }
    assert!(resolver.asker().ask(&at_port("other.example")));
    server.release();
    assert_eq!(addresses(&wait(&resolver, name)), ["192.0.2.1:5080"]);
    wait(&resolver, at_port("other.example"));
    assert_eq!(server.queries_for("example.com", "A"), 1);
    let stats = resolver.stats();
    assert_eq!((stats.asked, stats.refused_full), (2, 0));
    // Nothing stays marked: it can be asked again when it is over.
    let marks = resolver.shared.marks.slots.iter();
    assert!(
        marks
            .into_iter()
            .all(|mark| mark.load(Ordering::Relaxed) == 0)
    );
}

#[test]
fn a_flood_of_names_stays_bounded() {
    let server = Server::start();
    server.hold();
    let resolver = start(&server);
    let asker = resolver.asker();
    let ask = |number: usize| asker.ask(&at_port(&format!("n{number}.example")));
    let accepted = (0..10_000).filter(|&number| ask(number)).count() as u64;
    // 64 in flight, 256 in the queue.
    assert!((256..=64 + 256).contains(&accepted), "{accepted}");
    assert_eq!(resolver.stats().refused_full, 10_000 - accepted);
    assert!(resolver.stats().asked <= 64);
    server.release();
    assert!(resolver.wait_for(PATIENCE, |_| resolver.stats().not_found == accepted));

    // Others than before, since what is known is not asked for.
    let others = 10_000..10_000 + crate::names::MAX_NAMES + 500;
    for number in others.clone() {
        loop {
            // Read first: all that wait may be answered before the refusal is seen.
            let before = resolver.stats().not_found;
            if ask(number) {
                break;
            }
            assert!(resolver.wait_for(PATIENCE, |_| resolver.stats().not_found > before));
        }
    }
    let all = accepted + others.len() as u64;
    assert!(resolver.wait_for(PATIENCE, |_| resolver.stats().not_found == all));
    let stats = resolver.stats();
    assert_eq!(stats.names, crate::names::MAX_NAMES as u64);
    assert_eq!(stats.asked, all);
}

#[test]
fn a_resolver_ends_with_questions_in_flight() {
    let server = Server::start();
    server.hold();
    let resolver = start(&server);
    let asker = resolver.asker();
    assert!(asker.ask(&at_port("a.example")));
    server.wait_for_query("a.example", "A", 1);
    drop(resolver);
    // Nobody is there any more, and that does no harm.
    assert!(asker.ask(&at_port("b.example")));
    server.release();
}

#[test]
fn too_many_name_servers_are_refused_with_the_numbers() {
    let many = [SocketAddr::from(([192, 0, 2, 1], 53)); 9];
    let error = Resolver::start(&many).unwrap_err().to_string();
    assert_eq!(error, "9 name servers; at most 8 are possible");
}
