//! What is on the screen.

use ratatui::{Terminal, backend::TestBackend, buffer::Buffer, style::Color};

use super::{super::view, *};

/// Three in the morning: a limit that refuses, a backend that is dead and one that is drained.
fn night() -> Fake {
    let node = Fake::new();
    node.change(|world| {
        // Waves that are cut at the limit, and a peak of one second.
        world.offered = |second| match second {
            second if second == NOON - 200 => 900,
            second => 60 + (second % 120).abs_diff(60) as u32,
        };
        world.backends[1].state = "unhealthy".into();
        world.backends[1].health = Some("unhealthy".into());
        world.backends[1].reason = Some("no answer to 3 probes in a row".into());
        world.backends[1].since_s = Some(12);
        world.backends[1].share_percent = 0.0;
        world.backends[2].state = "draining".into();
        world.backends[2].operator = Some("draining".into());
        world.backends[2].since_s = Some(90_000);
        world.backends[2].share_percent = 0.0;
        world.outcomes = vec![
            ("cps_breached", "reply", 84_000),
            ("not_sip", "drop", 1_234_567),
            ("response_bad_mac", "drop", 3),
        ];
    });
    node
}

fn night_desk(span: Span) -> Desk {
    let node = night();
    let mut desk = Desk::new(&node, span);
    desk.look();
    node.change(|world| {
        world.outcomes[0].2 += 20;
        world.counters[0].1 += 1_400;
        world.counters[1].1 += 1_380;
    });
    desk.pass(1);
    desk
}

#[test]
fn at_every_size() {
    let desk = night_desk(Span::TenMinutes);
    for (width, height) in [(80, 24), (120, 40), (200, 60), (60, 15)] {
        let screen = desk.screen(width, height);
        assert_eq!(screen.lines().count(), usize::from(height));
        let widest = screen.lines().map(|line| line.chars().count()).max();
        assert!(widest <= Some(width.into()), "{screen}");
        check_screen(&format!("{width}x{height}"), &screen);
    }
    let screen = desk.screen(40, 10);
    assert_eq!(screen.trim(), "too small: 40x10, at least 60x15");
}

#[test]
fn without_a_node() {
    let node = night();
    let mut desk = Desk::new(&node, Span::Minute);
    desk.pass(20);
    node.change(|world| world.status = None);
    desk.pass(10);
    let screen = desk.screen(80, 24);
    assert!(
        screen.contains("node does not answer since 12:00:20, retrying"),
        "{screen}"
    );
    check_screen("silent", &screen);
    // Before the first answer there is nothing to show, and nothing breaks.
    let desk = Desk::new(&node, Span::Minute);
    assert!(desk.screen(80, 24).contains("asking the node"));
}

#[test]
fn with_a_question() {
    let mut desk = night_desk(Span::TenMinutes);
    desk.key(crossterm::event::KeyCode::Char('d'));
    check_screen("question", &desk.screen(80, 24));
}

/// Draws as the loop does.
fn draw(desk: &Desk, look: &Look, width: u16, height: u16) -> Buffer {
    let mut terminal = Terminal::new(TestBackend::new(width, height)).unwrap();
    terminal
        .draw(|frame| view::draw(&desk.app, look, frame.buffer_mut()))
        .unwrap();
    terminal.backend().buffer().clone()
}

#[test]
fn every_size_can_be_drawn() {
    let mut desk = night_desk(Span::Month);
    for dialog in ["", "?", "l", "d"] {
        for key in dialog.chars() {
            desk.key(crossterm::event::KeyCode::Char(key));
        }
        for width in (1..=64).chain([79, 80, 81, 120, 299, 500]) {
            for height in (1..=40).chain([60, 200]) {
                let buffer = draw(&desk, &look(), width, height);
                assert_eq!((buffer.area.width, buffer.area.height), (width, height));
            }
        }
        desk.key(crossterm::event::KeyCode::Esc);
    }
}

#[test]
fn ascii_is_ascii_and_shows_the_same() {
    let desk = night_desk(Span::TenMinutes);
    let ascii = Look {
        ascii: true,
        ..look()
    };
    let screen = super::super::snapshot(&desk.app, &ascii, 80, 24);
    assert!(screen.is_ascii(), "{screen}");
    check_screen("ascii", &screen);
    let all = draw(&desk, &ascii, 200, 60);
    assert!(all.content.iter().all(|cell| cell.symbol().is_ascii()));
}

#[test]
fn nothing_is_told_by_colour_alone() {
    let desk = night_desk(Span::TenMinutes);
    let plain = Look {
        colour: false,
        ..look()
    };
    let with = draw(&desk, &look(), 120, 40);
    let without = draw(&desk, &plain, 120, 40);
    let is_plain = |buffer: &Buffer| {
        let mut cells = buffer.content.iter();
        cells.all(|cell| cell.fg == Color::Reset && cell.bg == Color::Reset)
    };
    assert!(!is_plain(&with));
    assert!(is_plain(&without));
    let text = |buffer: &Buffer| {
        let cells = buffer.content.iter();
        cells
            .map(|cell| cell.symbol().to_owned())
            .collect::<Vec<_>>()
    };
    assert_eq!(text(&with), text(&without));
    let screen = desk.screen(120, 40);
    for words in ["A active", "U unhealthy", "D draining", "! sw2 unhealthy"] {
        assert!(screen.contains(words), "{screen}");
    }
}

/// Dots in each column of a graph's cells, from the left.
fn heights(buffer: &Buffer, x: std::ops::Range<u16>, y: std::ops::Range<u16>) -> Vec<u32> {
    let mut heights = Vec::new();
    for x in x {
        let dots = |mask: u32| {
            let cells = y.clone().map(|y| {
                let symbol = buffer[(x, y)].symbol().chars().next().unwrap_or(' ');
                match symbol as u32 {
                    braille @ 0x2800..=0x28ff => (braille & mask).count_ones(),
                    _ => 0,
                }
            });
            cells.sum::<u32>()
        };
        // Dots 1, 2, 3, 7 are the left column, 4, 5, 6, 8 the right one.
        heights.extend([dots(0x47), dots(0xb8)]);
    }
    heights
}

#[test]
fn bars_are_as_high_as_their_calls() {
    let node = Fake::new();
    node.change(|world| {
        world.limits = vec![(NODE_LIMIT, None)];
        world.offered = |second| match second % 4 {
            0 => 0,
            1 => 1,
            2 => 500,
            _ => 1000,
        };
    });
    let mut desk = Desk::new(&node, Span::Minute);
    desk.look();
    let buffer = draw(&desk, &look(), 80, 24);
    // The left graph: after the numbers, below two lines of its own and three of the head.
    let heights = heights(&buffer, 6..39, 5..11);
    let dots = 6 * 4;
    assert_eq!(heights.len(), 66);
    for (place, height) in heights.iter().rev().enumerate() {
        let second = NOON - 1 - place as u64;
        let expected = match second % 4 {
            0 => 1,
            // One call in a thousand is seen.
            1 => 2,
            2 => 13,
            _ => dots,
        };
        assert_eq!(*height, expected, "{second}");
    }
    assert!(desk.screen(80, 24).contains("1,000┤"));
}

#[test]
fn a_long_list_is_scrolled_to_the_mark() {
    let node = Fake::new();
    node.change(|world| {
        world.backends = (1..=40)
            .map(|number| BackendReport {
                name: format!("switch{number:02}"),
                state: "active".into(),
                ramp: 1.0,
                ..world.backends[0].clone()
            })
            .collect();
    });
    let mut desk = Desk::new(&node, Span::Minute);
    desk.look();
    let screen = desk.screen(80, 24);
    assert!(screen.contains("1-5 of 40"), "{screen}");
    desk.key(crossterm::event::KeyCode::End);
    let screen = desk.screen(80, 24);
    assert!(screen.contains("36-40 of 40"), "{screen}");
    assert!(screen.contains("switch40"), "{screen}");
}

#[test]
fn the_snapshot_has_room_for_everything() {
    let node = night();
    node.change(|world| {
        for number in 4..30 {
            world.backends.push(BackendReport {
                name: format!("sw{number}"),
                state: "unhealthy".into(),
                ..world.backends[1].clone()
            });
        }
    });
    let mut desk = Desk::new(&node, Span::TenMinutes);
    desk.pass(1);
    let whole = Look {
        every_problem: true,
        ..look()
    };
    for width in [60, 80, 200] {
        let height = view::full_height(&desk.app, width);
        let screen = super::super::snapshot(&desk.app, &whole, width, height);
        assert!(screen.contains("! sw29 unhealthy"), "{screen}");
        assert!(!screen.contains(" more)"), "{screen}");
        assert!(!screen.contains(" of 29"), "{screen}");
        if width >= 80 {
            assert!(screen.contains("response_bad_mac"), "{screen}");
        }
    }
}
