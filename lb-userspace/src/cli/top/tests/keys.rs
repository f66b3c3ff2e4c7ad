//! Keys, with a node that notes what it is told.

use crossterm::event::{KeyCode, KeyEvent, KeyModifiers};

use super::{
    super::app::{Dialog, Pane},
    *,
};

fn desk() -> Desk {
    let mut desk = Desk::new(&Fake::new(), Span::Minute);
    desk.pass(2);
    desk
}

fn type_keys(desk: &mut Desk, keys: &str) {
    for key in keys.chars() {
        desk.key(KeyCode::Char(key));
    }
}

/// Commands and backends that the node was told.
fn changes(desk: &Desk) -> Vec<String> {
    desk.node.change(|world| {
        let changes = world.changes.iter();
        let backend = |request: &Request| request.arguments["backend"].as_str().unwrap().to_owned();
        changes
            .map(|request| format!("{} {}", request.command, backend(request)))
            .collect()
    })
}

#[test]
fn nothing_is_changed_without_a_yes() {
    // Every key, then every key in every dialog, but for the one that says yes.
    let codes = || {
        let letters = (' '..='~').map(KeyCode::Char);
        letters.chain([
            KeyCode::Enter,
            KeyCode::Esc,
            KeyCode::Tab,
            KeyCode::BackTab,
            KeyCode::Up,
            KeyCode::Down,
            KeyCode::Delete,
            KeyCode::F(1),
        ])
    };
    for first in codes() {
        for second in codes() {
            let is_yes = matches!(second, KeyCode::Char('y' | 'Y'));
            let is_change = matches!(first, KeyCode::Char('d' | 'u' | 'e' | 'x'));
            let mut app = desk_app();
            for (code, allowed) in [(first, false), (second, is_change && is_yes)] {
                let effect = app.key(code.into());
                let does = matches!(effect, Some(Effect::Do(_)));
                assert_eq!(does, allowed, "{first:?} {second:?}");
            }
        }
    }
}

/// The screen alone; to make it once is enough.
fn desk_app() -> App {
    let mut app = App::new(NODE_LIMIT, Span::Minute);
    let node = Fake::new();
    app.take(node.sample(&mut node.asker(Span::Minute)));
    app
}

#[test]
fn each_change_names_the_backend_and_the_consequence_and_is_done_on_yes() {
    for (key, command, title, consequence) in [
        ('d', "drain", "Drain sw2 (10.0.0.12:5060)?", "no new calls"),
        (
            'u',
            "undrain",
            "Undrain sw2 (10.0.0.12:5060)?",
            "nothing changes",
        ),
        ('x', "disable", "Disable sw2 (10.0.0.12:5060)?", "no probes"),
        (
            'e',
            "enable",
            "Enable sw2 (10.0.0.12:5060)?",
            "nothing changes",
        ),
    ] {
        let mut desk = desk();
        type_keys(&mut desk, "j");
        type_keys(&mut desk, &key.to_string());
        let screen = desk.screen(80, 24);
        assert!(screen.contains(title), "{screen}");
        assert!(screen.contains(consequence), "{screen}");
        assert!(screen.contains("y yes   n no"), "{screen}");
        assert!(changes(&desk).is_empty());
        // Neither yes nor no leaves the question, no closes it.
        type_keys(&mut desk, "ajdn");
        assert_eq!(desk.app.dialog, None);
        assert!(changes(&desk).is_empty());
        type_keys(&mut desk, &format!("{key}y"));
        assert_eq!(changes(&desk), [format!("{command} sw2")]);
        let message = desk.app.message.as_ref().expect("an answer");
        assert!(message.text.starts_with("sw2: "), "{message:?}");
    }
}

/// What the open question says.
fn consequence(desk: &Desk) -> String {
    match &desk.app.dialog {
        Some(Dialog::Confirm(change)) => change.question(desk.app.picture()).1,
        other => panic!("no question: {other:?}"),
    }
}

#[test]
fn what_follows_is_said() {
    let mut desk = desk();
    type_keys(&mut desk, "d");
    assert_eq!(
        consequence(&desk),
        "It gets no new calls. Transactions and calls in set-up (12 pinned) and dialogs stay with it. \
         Its share of pool switches, 50.0 %, goes to the others."
    );
    type_keys(&mut desk, "y");
    assert_eq!(
        desk.app.message.as_ref().unwrap().text,
        "sw1: draining by the operator, 12 transactions and calls in set-up pinned to it"
    );
    assert!(desk.screen(80, 24).contains("D draining"));
    desk.pass(20);
    assert_eq!(desk.app.message, None);
    type_keys(&mut desk, "jdyjd");
    let last = consequence(&desk);
    for words in [
        "IT IS THE LAST ONE of pool switches",
        "new calls are refused with 503",
        "the node withdraws its VIPs",
    ] {
        assert!(last.contains(words), "{last}");
    }
    type_keys(&mut desk, "nku");
    assert_eq!(
        consequence(&desk),
        "Takes back \"draining\". It gets new calls again."
    );
    type_keys(&mut desk, "y");
    assert_eq!(changes(&desk), ["drain sw1", "drain sw2", "undrain sw2"]);
}

#[test]
fn a_refusal_stays_until_it_was_read() {
    let mut desk = desk();
    desk.node
        .change(|world| world.refusal = Some("/var/lib/siplb/state: no space left on device"));
    type_keys(&mut desk, "dy");
    desk.pass(3);
    let screen = desk.screen(80, 24);
    assert!(screen.contains("The node did not do it"), "{screen}");
    assert!(screen.contains("no space left on device"), "{screen}");
    desk.key(KeyCode::Enter);
    assert_eq!(desk.app.dialog, None);
}

#[test]
fn nothing_is_asked_about_a_picture_that_may_be_old() {
    let mut desk = desk();
    type_keys(&mut desk, "p");
    assert!(desk.app.is_paused());
    let before = desk.screen(80, 24);
    desk.pass(5);
    assert_eq!(desk.screen(80, 24), before, "paused");
    type_keys(&mut desk, "dy");
    assert_eq!(desk.app.dialog, None);
    type_keys(&mut desk, "p");
    assert!(!desk.app.is_paused());
    desk.node.change(|world| world.status = None);
    desk.pass(1);
    type_keys(&mut desk, "d");
    assert_eq!(
        desk.app.message.as_ref().unwrap().text,
        "the node does not answer"
    );
    type_keys(&mut desk, "y");
    assert!(changes(&desk).is_empty());
}

#[test]
fn the_mark_stays_with_its_backend() {
    let mut desk = desk();
    assert_eq!(desk.app.marked(), Some(0));
    type_keys(&mut desk, "jjjj");
    assert_eq!(desk.app.marked(), Some(2));
    type_keys(&mut desk, "k");
    // A reload puts another one in front, and then takes the marked one out.
    desk.node.change(|world| {
        let mut other = world.backends[0].clone();
        other.name = "sw0".into();
        world.backends.insert(0, other);
    });
    desk.pass(1);
    assert_eq!(desk.app.marked(), Some(2));
    type_keys(&mut desk, "dy");
    assert_eq!(changes(&desk), ["drain sw2"]);
    desk.node.change(|world| world.backends.truncate(1));
    desk.pass(1);
    assert_eq!(desk.app.marked(), Some(0));
    desk.node.change(|world| world.backends.clear());
    desk.pass(1);
    assert_eq!(desk.app.marked(), None);
    type_keys(&mut desk, "jdy");
    assert_eq!(changes(&desk).len(), 1);
}

#[test]
fn spans_and_limits_are_asked_for() {
    let mut desk = desk();
    let watch = |limit: &str, minutes: bool| {
        Some(Effect::Watch(Watched {
            limit: limit.into(),
            minutes,
        }))
    };
    for (key, span, minutes) in [
        ('s', Span::TenMinutes, false),
        ('s', Span::Hour, false),
        ('s', Span::Day, true),
        ('S', Span::Hour, false),
    ] {
        assert_eq!(desk.key(KeyCode::Char(key)), watch(NODE_LIMIT, minutes));
        assert_eq!(desk.app.span, span);
    }
    type_keys(&mut desk, "l");
    let screen = desk.screen(80, 24);
    assert!(screen.contains("source 198.51.100.0/24"), "{screen}");
    desk.key(KeyCode::Down);
    let effect = desk.key(KeyCode::Enter);
    assert_eq!(effect, watch("source 198.51.100.0/24", false));
    let screen = desk.screen(80, 24);
    let title = "Limit source 198.51.100.0/24: 500 calls/s";
    assert!(screen.contains(title), "{screen}");
    // It is gone after a reload.
    desk.node.change(|world| world.limits.truncate(1));
    desk.pass(1);
    let screen = desk.screen(80, 24);
    assert!(
        screen.contains("is not there: l chooses another"),
        "{screen}"
    );
}

#[test]
fn panes_and_ends() {
    let mut desk = desk();
    let control = |code| KeyEvent::new(KeyCode::Char(code), KeyModifiers::CONTROL);
    for pane in [Pane::Drops, Pane::Queues, Pane::Backends] {
        desk.key(KeyCode::Tab);
        assert_eq!(desk.app.pane, pane);
    }
    desk.key(KeyCode::BackTab);
    assert_eq!(desk.app.pane, Pane::Queues);
    type_keys(&mut desk, "jjjj");
    assert_eq!(desk.app.queues_scroll, 1);
    type_keys(&mut desk, "g");
    assert_eq!(desk.app.queues_scroll, 0);
    assert_eq!(desk.key(control('z')), Some(Effect::Suspend));
    assert_eq!(desk.key(control('l')), Some(Effect::Redraw));
    // ^D is no drain.
    assert_eq!(desk.key(control('d')), None);
    assert_eq!(desk.app.dialog, None);
    // q closes what lies over the screen, ^C leaves at once.
    type_keys(&mut desk, "?");
    assert_eq!(desk.app.dialog, Some(Dialog::Help(0)));
    assert_eq!(desk.key(KeyCode::Char('q')), None);
    assert_eq!(desk.key(KeyCode::Char('q')), Some(Effect::Quit));
    type_keys(&mut desk, "d");
    assert_eq!(desk.key(control('c')), Some(Effect::Quit));
}

#[test]
fn escape_and_a_key_that_come_together_are_two() {
    let mut desk = desk();
    type_keys(&mut desk, "d");
    desk.key(KeyEvent::new(KeyCode::Char('y'), KeyModifiers::ALT));
    assert_eq!(desk.app.dialog, None);
    assert!(changes(&desk).is_empty());
}
