//! The terminal, and the loop that turns keys, samples and signals into what is on it.
//!
//! One thread reads keys, one asks the node and reads counters, one takes signals; this one draws, and waits for nothing but them.

use std::{
    io::{self, Stdout},
    panic,
    sync::{
        atomic::{AtomicBool, Ordering},
        mpsc::{self, Receiver, RecvTimeoutError, Sender},
    },
    thread,
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use crossterm::{
    cursor::Show,
    event::{self, Event as TerminalEvent},
    execute,
    terminal::{EnterAlternateScreen, LeaveAlternateScreen, disable_raw_mode, enable_raw_mode},
};
use ratatui::{Terminal, backend::CrosstermBackend};
use signal_hook::{
    consts::{SIGCONT, SIGHUP, SIGINT, SIGTERM, SIGTSTP},
    iterator::Signals,
    low_level,
};

use super::{
    super::Failure,
    app::{App, Change, Effect},
    ask::{Asker, Node, Sample, Watched},
    view::{self, Look},
};
use crate::control::plane::BackendReport;

/// How long after a second's end its samples are taken: by then the node has noted how many calls it had.
const AFTER_SECOND: Duration = Duration::from_millis(100);

/// What the loop waits for.
enum Event {
    Terminal(TerminalEvent),
    Sample(Box<Sample>),
    Answer(Change, Result<Box<BackendReport>, String>),
    Signal(i32),
    /// A thread has ended: without it the screen would stand still and not say so.
    Ended(&'static str, String),
}

/// What the thread that asks is told.
enum Order {
    Watch(Watched),
    Do(Change),
}

/// Shows the screen until the operator leaves it.
///
/// # Errors
/// When the terminal cannot be used.
pub(super) fn run(
    mut app: App,
    asker: Asker<impl Node + Send + 'static>,
    every: Duration,
    look: &Look,
) -> Result<(), Failure> {
    let (events, inbox) = mpsc::channel();
    let (orders, orders_inbox) = mpsc::channel();
    let signals = Signals::new([SIGTERM, SIGINT, SIGHUP, SIGTSTP, SIGCONT])?;
    // From here on the terminal is put back whatever happens.
    let mut screen = Screen::enter()?;
    spawn("signals", &events, move |events| {
        pass_signals(signals, &events)
    })?;
    spawn("keys", &events, |events| read_keys(&events))?;
    spawn("asking the node", &events, move |events| {
        ask(asker, every, &orders_inbox, &events);
        Ok(())
    })?;
    loop {
        screen.draw(&app, look)?;
        let Ok(event) = inbox.recv() else {
            return Ok(());
        };
        // All that came together is drawn once.
        for event in std::iter::once(event).chain(inbox.try_iter()) {
            let effect = match event {
                Event::Terminal(TerminalEvent::Key(key)) => app.key(key),
                // The size is looked at whenever something is drawn.
                Event::Terminal(_) => None,
                Event::Sample(sample) => {
                    app.take(*sample);
                    None
                }
                Event::Answer(change, answer) => {
                    app.answered(&change, answer.map(|report| *report));
                    None
                }
                Event::Signal(SIGTSTP) => Some(Effect::Suspend),
                Event::Signal(SIGCONT) => Some(Effect::Redraw),
                Event::Signal(_) => return Ok(()),
                Event::Ended(what, why) => {
                    return Err(Failure::Failed(format!("{what} has ended: {why}")));
                }
            };
            match effect {
                None => {}
                Some(Effect::Quit) => return Ok(()),
                Some(Effect::Suspend) => screen.suspend()?,
                Some(Effect::Redraw) => screen.clear()?,
                Some(Effect::Do(change)) => drop(orders.send(Order::Do(change))),
                Some(Effect::Watch(watched)) => drop(orders.send(Order::Watch(watched))),
            }
        }
    }
}

/// Runs something in a thread that says when it ends.
fn spawn(
    what: &'static str,
    events: &Sender<Event>,
    run: impl FnOnce(Sender<Event>) -> io::Result<()> + Send + 'static,
) -> io::Result<()> {
    struct Says(&'static str, Sender<Event>);
    impl Drop for Says {
        fn drop(&mut self) {
            if thread::panicking() {
                let event = Event::Ended(self.0, "a bug, see above".to_owned());
                let _ = self.1.send(event);
            }
        }
    }
    let events = events.clone();
    thread::Builder::new().name(what.into()).spawn(move || {
        let says = Says(what, events.clone());
        if let Err(error) = run(events) {
            let _ = says.1.send(Event::Ended(what, error.to_string()));
        }
    })?;
    Ok(())
}

fn pass_signals(mut signals: Signals, events: &Sender<Event>) -> io::Result<()> {
    for signal in signals.forever() {
        if events.send(Event::Signal(signal)).is_err() {
            break;
        }
    }
    Ok(())
}

fn read_keys(events: &Sender<Event>) -> io::Result<()> {
    loop {
        let event = event::read()?;
        if events.send(Event::Terminal(event)).is_err() {
            return Ok(());
        }
    }
}

/// Asks at its times, and at once when there is an order.
fn ask(
    mut asker: Asker<impl Node>,
    every: Duration,
    orders: &Receiver<Order>,
    events: &Sender<Event>,
) {
    loop {
        let due = Instant::now() + pause(every, SystemTime::now());
        if events
            .send(Event::Sample(Box::new(asker.sample())))
            .is_err()
        {
            return;
        }
        let patience = due.saturating_duration_since(Instant::now());
        match orders.recv_timeout(patience) {
            Ok(Order::Watch(watched)) => asker.watch(watched),
            Ok(Order::Do(change)) => {
                let answer = asker.change(change.command, &change.backend);
                let answer = answer.map(Box::new);
                if events.send(Event::Answer(change, answer)).is_err() {
                    return;
                }
            }
            Err(RecvTimeoutError::Timeout) => {}
            Err(RecvTimeoutError::Disconnected) => return,
        }
    }
}

/// Time to the next sample: of whole seconds it ends just after one.
fn pause(every: Duration, now: SystemTime) -> Duration {
    let now = now.duration_since(UNIX_EPOCH).unwrap_or_default();
    if every.subsec_nanos() != 0 {
        return every;
    }
    let due = Duration::from_secs((now + every).as_secs()) + AFTER_SECOND;
    due.saturating_sub(now)
}

/// The terminal as it is while the screen is shown; as it was before when this is dropped, and before a panic is told.
struct Screen {
    terminal: Terminal<CrosstermBackend<Stdout>>,
}

impl Screen {
    fn enter() -> io::Result<Self> {
        let before = panic::take_hook();
        panic::set_hook(Box::new(move |info| {
            leave();
            before(info);
        }));
        let screen = Self {
            terminal: Terminal::new(CrosstermBackend::new(io::stdout()))?,
        };
        enter()?;
        Ok(screen)
    }

    fn draw(&mut self, app: &App, look: &Look) -> io::Result<()> {
        self.terminal
            .draw(|frame| view::draw(app, look, frame.buffer_mut()))?;
        Ok(())
    }

    /// Forgets what is on the terminal, so that all of it is drawn.
    fn clear(&mut self) -> io::Result<()> {
        // Not `Terminal::clear`, which asks the terminal where its cursor is: the answer would be read as keys.
        let size = self.terminal.size()?;
        self.terminal.resize(size.into())
    }

    /// Stops this process as ^Z does, with the terminal as it was; goes on when it is continued.
    fn suspend(&mut self) -> io::Result<()> {
        leave();
        low_level::emulate_default_handler(SIGTSTP)?;
        enter()?;
        self.clear()
    }
}

impl Drop for Screen {
    fn drop(&mut self) {
        leave();
    }
}

/// Whether the terminal is ours: to give it back twice would put the cursor back to before what was said in between.
static IS_OURS: AtomicBool = AtomicBool::new(false);

fn enter() -> io::Result<()> {
    IS_OURS.store(true, Ordering::Relaxed);
    enable_raw_mode()?;
    execute!(io::stdout(), EnterAlternateScreen)
}

/// Where it does not work the terminal is gone.
fn leave() {
    if !IS_OURS.swap(false, Ordering::Relaxed) {
        return;
    }
    let _ = disable_raw_mode();
    let _ = execute!(io::stdout(), LeaveAlternateScreen, Show);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn samples_are_taken_just_after_a_second() {
        let ms = Duration::from_millis;
        for (every, now, expected) in [
            (1000, 5_100, 1000),
            (1000, 5_099, 1001),
            (1000, 5_950, 150),
            (5000, 5_500, 4600),
            // As asked, where that is no whole second.
            (500, 5_950, 500),
        ] {
            let now = UNIX_EPOCH + ms(now);
            assert_eq!(pause(ms(every), now), ms(expected), "{every} {now:?}");
        }
    }
}
