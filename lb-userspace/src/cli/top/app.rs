//! What the operator looks at and does: keys in, and out what has to be done for them.
//!
//! No key changes anything at the node by itself: those that want to ask first, and say what follows.

use std::collections::VecDeque;

use crossterm::event::{KeyCode, KeyEvent, KeyEventKind, KeyModifiers};

use super::{
    ask::{Sample, Watched},
    model::{BackendRow, Model, Picture},
    series::Span,
};
use crate::{
    cli::{backends::said, output::grouped},
    control::plane::BackendReport,
};

/// What the keys do, and how the screen is read.
pub(super) const HELP: &str = "\
up down j k       mark a backend, or scroll
PgUp PgDn g G     the same in large steps
Tab               to the next pane
d  u              drain, undrain the marked backend
x  e              disable, enable it
s  S              a longer, a shorter span
l                 another limit
p                 pause, go on
^L                draw all anew
q  ^C             leave
?                 this help

CPS: calls that went on; CPS breach: calls refused.
A column of a graph is its busiest second; the line
is the limit. Where nothing is known it is empty.
A active, D draining, U unhealthy, X disabled.
share: part of new calls by the lookup table.
INVITE/s: initial ones, with retransmissions.
pins: transactions and calls in set-up.
busy: time that the worker's thread ran.
beat: since the worker last said that it runs.
fill rx tx free: where the chunks of the UMEM are.";

/// How long a line for the operator stays, unless a key takes it away, in seconds.
const MESSAGE_S: u64 = 15;
/// Rows that a page goes on.
const PAGE: usize = 10;

/// A part of the screen that has rows.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Pane {
    #[default]
    Backends,
    Drops,
    Queues,
}

impl Pane {
    fn next(self) -> Self {
        match self {
            Self::Backends => Self::Drops,
            Self::Drops => Self::Queues,
            Self::Queues => Self::Backends,
        }
    }

    fn previous(self) -> Self {
        self.next().next()
    }
}

/// What lies over the screen and takes the keys.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Dialog {
    /// What the keys do; how many lines are scrolled out.
    Help(usize),
    /// Which limit to watch; the place of the marked one.
    Limits(usize),
    /// Whether to do it.
    Confirm(Change),
    /// The node's refusal, until it was read.
    Refused(String),
}

/// A change of a backend that the node is to make.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Change {
    /// The command of the control socket.
    pub(super) command: &'static str,
    /// Name of the backend.
    pub(super) backend: String,
}

impl Change {
    /// The question, and what follows.
    pub(super) fn question(&self, picture: &Picture) -> (String, String) {
        let row = picture
            .backends
            .iter()
            .find(|row| row.report.name == self.backend);
        let title = match self.command {
            "drain" => "Drain",
            "undrain" => "Undrain",
            "disable" => "Disable",
            _ => "Enable",
        };
        let address = row.map_or(String::new(), |row| format!(" ({})", row.report.address));
        let title = format!("{title} {}{address}?", self.backend);
        let consequence = row.map_or(String::new(), |row| self.consequence(row, picture));
        (title, consequence)
    }

    fn consequence(&self, row: &BackendRow, picture: &Picture) -> String {
        let report = &row.report;
        let keeps = match report.pins {
            0 => String::new(),
            pins => format!(" ({} pinned)", grouped(pins)),
        };
        let mut text = match self.command {
            "drain" => format!(
                "It gets no new calls. Transactions and calls in set-up{keeps} and dialogs stay with it."
            ),
            "disable" => format!(
                "It gets no new calls and no probes. Dialogs stay with it; transactions and calls in set-up{keeps} are picked anew."
            ),
            _ => {
                let health = match report.health.as_deref() {
                    None | Some("healthy") => "It gets new calls again.".to_owned(),
                    Some(health) => format!("It is {health}: new calls when its health allows."),
                };
                return match &report.operator {
                    Some(operator) => format!("Takes back \"{operator}\". {health}"),
                    None => format!("The operator wants nothing of it: nothing changes. {health}"),
                };
            }
        };
        if report.state != "active" {
            text += &format!(" It is {} now.", report.state);
            return text;
        }
        let others = picture.backends.iter().any(|other| {
            let other = &other.report;
            other.pool == report.pool
                && other.name != report.name
                && other.state == "active"
                && other.weight > 0
        });
        if others {
            text += &format!(
                " Its share of pool {}, {:.1} %, goes to the others.",
                report.pool, report.share_percent
            );
        } else {
            text += &format!(
                " IT IS THE LAST ONE of pool {} that takes calls: new calls are refused with 503",
                report.pool
            );
            let announces = picture.status.as_ref();
            let announces = announces.is_some_and(|status| status.announce.is_some());
            text += match announces {
                true => ", and the node withdraws its VIPs if the pool is required.",
                false => ".",
            };
        }
        text
    }
}

/// What has to be done for a key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Effect {
    /// Leave.
    Quit,
    /// Stop, as ^Z does.
    Suspend,
    /// Draw all of it anew, whatever is on the terminal.
    Redraw,
    /// Have the node do it.
    Do(Change),
    /// Ask for another past from now on.
    Watch(Watched),
}

/// A line for the operator.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Message {
    pub(super) is_bad: bool,
    pub(super) text: String,
    /// When it was said, in seconds since 1970.
    since_s: u64,
}

/// All that is shown, and what of it is looked at.
#[derive(Debug, Default)]
pub(super) struct App {
    pub(super) model: Model,
    /// What is shown instead of the model while it is paused.
    paused: Option<Box<Picture>>,
    pub(super) span: Span,
    /// Name of the limit that is watched.
    limit: String,
    pub(super) pane: Pane,
    pub(super) dialog: Option<Dialog>,
    pub(super) message: Option<Message>,
    /// Name of the backend that is marked.
    marked: Option<String>,
    /// Where it was when it was last there.
    marked_place: usize,
    /// First rows of the other panes.
    pub(super) drops_scroll: usize,
    pub(super) queues_scroll: usize,
    /// What was sent to the node and is not answered yet.
    asked: VecDeque<Change>,
}

impl App {
    pub(super) fn new(limit: &str, span: Span) -> Self {
        Self {
            span,
            limit: limit.to_owned(),
            ..Self::default()
        }
    }

    /// What is to be asked of the past.
    pub(super) fn watched(&self) -> Watched {
        Watched::new(&self.limit, self.span)
    }

    /// What is to be shown.
    pub(super) fn picture(&self) -> &Picture {
        self.paused.as_deref().unwrap_or(&self.model.picture)
    }

    pub(super) fn is_paused(&self) -> bool {
        self.paused.is_some()
    }

    /// The place of the marked backend.
    pub(super) fn marked(&self) -> Option<usize> {
        let backends = &self.picture().backends;
        let named = self
            .marked
            .as_ref()
            .and_then(|name| backends.iter().position(|row| row.report.name == *name));
        let last = backends.len().checked_sub(1)?;
        Some(named.unwrap_or(self.marked_place.min(last)))
    }

    /// Takes what was asked.
    pub(super) fn take(&mut self, sample: Sample) {
        let now_s = sample.time_s;
        self.model.take(sample);
        let message = self.message.take();
        let is_new = |message: &Message| now_s.saturating_sub(message.since_s) < MESSAGE_S;
        self.message = message.filter(is_new);
    }

    /// Takes the node's answer to a change.
    pub(super) fn answered(&mut self, change: &Change, answer: Result<BackendReport, String>) {
        self.asked.retain(|asked| asked != change);
        match answer {
            Ok(report) => self.say(false, said(&report)),
            Err(error) => {
                self.message = None;
                let what = format!("{} {}: {error}", change.command, change.backend);
                self.dialog = Some(Dialog::Refused(what));
            }
        }
    }

    /// Takes a key.
    pub(super) fn key(&mut self, key: KeyEvent) -> Option<Effect> {
        if key.kind == KeyEventKind::Release {
            return None;
        }
        if key.modifiers.contains(KeyModifiers::CONTROL) {
            return match key.code {
                KeyCode::Char('c') => Some(Effect::Quit),
                KeyCode::Char('z') => Some(Effect::Suspend),
                KeyCode::Char('l') => Some(Effect::Redraw),
                _ => None,
            };
        }
        if key.modifiers.contains(KeyModifiers::ALT) {
            // How a terminal sends Esc and another key when they come together.
            let effect = self.key(KeyEvent::from(KeyCode::Esc));
            return effect.or_else(|| self.key(KeyEvent::from(key.code)));
        }
        if self.dialog.is_some() {
            return self.key_of_dialog(key.code);
        }
        if self.asked.is_empty() {
            self.message = None;
        }
        match key.code {
            KeyCode::Char('q') => return Some(Effect::Quit),
            KeyCode::Char('?' | 'h') | KeyCode::F(1) => self.dialog = Some(Dialog::Help(0)),
            KeyCode::Tab => self.pane = self.pane.next(),
            KeyCode::BackTab => self.pane = self.pane.previous(),
            KeyCode::Char('s') => return self.look_back(1),
            KeyCode::Char('S') => return self.look_back(-1),
            KeyCode::Char('l') => self.open_limits(),
            KeyCode::Char('p' | ' ') => self.pause(),
            KeyCode::Char('d') => self.ask("drain"),
            KeyCode::Char('u') => self.ask("undrain"),
            KeyCode::Char('x') => self.ask("disable"),
            KeyCode::Char('e') => self.ask("enable"),
            code => {
                if let Some(step) = step(code) {
                    self.scroll(step);
                }
            }
        }
        None
    }

    fn key_of_dialog(&mut self, code: KeyCode) -> Option<Effect> {
        let is_close = matches!(code, KeyCode::Esc | KeyCode::Char('q'));
        match self.dialog.take()? {
            Dialog::Help(scroll) if !is_close => match step(code) {
                Some(step) => {
                    let last = HELP.lines().count() - 1;
                    self.dialog = Some(Dialog::Help(moved(scroll, step, last)));
                }
                None if matches!(
                    code,
                    KeyCode::Char('?' | 'h') | KeyCode::F(1) | KeyCode::Enter
                ) => {}
                None => self.dialog = Some(Dialog::Help(scroll)),
            },
            Dialog::Limits(place) if !is_close => {
                let last = self.picture().limits.len().saturating_sub(1);
                match (code, step(code)) {
                    (KeyCode::Enter, _) => {
                        let limit = self.picture().limits.get(place.min(last))?;
                        self.limit = limit.name.clone();
                        return Some(Effect::Watch(self.watched()));
                    }
                    (_, Some(step)) => {
                        self.dialog = Some(Dialog::Limits(moved(place, step, last)));
                    }
                    _ => self.dialog = Some(Dialog::Limits(place)),
                }
            }
            Dialog::Confirm(change) if !is_close => match code {
                KeyCode::Char('y' | 'Y') => {
                    let text = format!("{} {}: asking the node", change.command, change.backend);
                    self.say(false, text);
                    self.asked.push_back(change.clone());
                    return Some(Effect::Do(change));
                }
                KeyCode::Char('n' | 'N') => {}
                // Neither yes nor no.
                _ => self.dialog = Some(Dialog::Confirm(change)),
            },
            Dialog::Refused(text) if !is_close && code != KeyCode::Enter => {
                self.dialog = Some(Dialog::Refused(text));
            }
            _ => {}
        }
        None
    }

    fn look_back(&mut self, step: isize) -> Option<Effect> {
        self.span = self.span.next(step);
        Some(Effect::Watch(self.watched()))
    }

    fn open_limits(&mut self) {
        let picture = self.picture();
        let place = picture
            .limits
            .iter()
            .position(|limit| limit.name == picture.limit);
        match (self.is_paused(), picture.limits.is_empty()) {
            (true, _) => self.say_no("paused: p goes on"),
            (_, true) => self.say_no("no limit is known: the node has not answered"),
            _ => self.dialog = Some(Dialog::Limits(place.unwrap_or(0))),
        }
    }

    fn pause(&mut self) {
        self.paused = match self.paused.take() {
            Some(_) => None,
            None => Some(Box::new(self.model.picture.clone())),
        };
    }

    /// Asks whether to change the marked backend.
    fn ask(&mut self, command: &'static str) {
        if self.is_paused() {
            return self.say_no("paused, so this may not be true any more: p goes on");
        }
        if self.picture().silence.is_some() || self.picture().status.is_none() {
            return self.say_no("the node does not answer");
        }
        let marked = self.marked().and_then(|place| {
            let row = self.picture().backends.get(place)?;
            Some((place, row.report.name.clone()))
        });
        let Some((place, backend)) = marked else {
            return self.say_no("there is no backend");
        };
        // So that it is seen which one it is.
        self.pane = Pane::Backends;
        (self.marked, self.marked_place) = (Some(backend.clone()), place);
        self.dialog = Some(Dialog::Confirm(Change { command, backend }));
    }

    fn say_no(&mut self, text: &str) {
        self.say(true, text.to_owned());
    }

    fn say(&mut self, is_bad: bool, text: String) {
        self.message = Some(Message {
            is_bad,
            text,
            since_s: self.model.picture.time_s,
        });
    }

    fn scroll(&mut self, step: isize) {
        let last = |rows: usize| rows.saturating_sub(1);
        match self.pane {
            Pane::Backends => {
                let Some(place) = self.marked() else { return };
                let place = moved(place, step, last(self.picture().backends.len()));
                self.marked_place = place;
                let row = self.picture().backends.get(place);
                self.marked = row.map(|row| row.report.name.clone());
            }
            Pane::Drops => {
                let last = last(self.picture().drops.len());
                self.drops_scroll = moved(self.drops_scroll, step, last);
            }
            Pane::Queues => {
                let last = last(self.picture().queues.len());
                self.queues_scroll = moved(self.queues_scroll, step, last);
            }
        }
    }
}

/// How far a key goes.
fn step(code: KeyCode) -> Option<isize> {
    match code {
        KeyCode::Up | KeyCode::Char('k') => Some(-1),
        KeyCode::Down | KeyCode::Char('j') => Some(1),
        KeyCode::PageUp => Some(-PAGE.cast_signed()),
        KeyCode::PageDown => Some(PAGE.cast_signed()),
        KeyCode::Home | KeyCode::Char('g') => Some(isize::MIN),
        KeyCode::End | KeyCode::Char('G') => Some(isize::MAX),
        _ => None,
    }
}

fn moved(place: usize, step: isize, last: usize) -> usize {
    place.min(last).saturating_add_signed(step).min(last)
}
