//! Messages as arrows between client, siplb and backend, one line each.

use std::{
    collections::{HashMap, VecDeque},
    net::SocketAddr,
};

use crate::{
    cli::{
        explain::{diff, printable::printable},
        output::{Terminal, grouped, messages},
    },
    control::trace::Traced,
};

/// Length of an arrow: that of `<--487 SUBSCRIBE--`.
const ARROW: usize = 18;
/// Least width of an address: `203.0.113.10:5060`.
const ADDRESS: usize = 17;
/// Calls whose numbers are remembered; one that goes on after that many others gets another number.
const MAX_CALLS: usize = 10_000;

/// What was shown so far, as far as the next line depends on it.
pub(super) struct Ladder {
    terminal: Terminal,
    full: bool,
    calls: Calls,
    /// The day that was last printed; times are printed without.
    day: String,
    /// Of the columns of clients and of siplb: as much as any address took so far.
    widths: [usize; 2],
}

/// A number for each call.
#[derive(Default)]
struct Calls {
    numbers: HashMap<String, u64>,
    /// The oldest first.
    order: VecDeque<String>,
    last: u64,
}

impl Calls {
    /// The number of a call, and whether it is a new one.
    fn number(&mut self, call: &str) -> (u64, bool) {
        if let Some(number) = self.numbers.get(call) {
            return (*number, false);
        }
        if self.order.len() >= MAX_CALLS
            && let Some(oldest) = self.order.pop_front()
        {
            self.numbers.remove(&oldest);
        }
        self.last += 1;
        self.numbers.insert(call.to_owned(), self.last);
        self.order.push_back(call.to_owned());
        (self.last, true)
    }
}

/// One row: what stands in each column.
#[derive(Default)]
struct Row {
    left: String,
    left_arrow: String,
    right_arrow: String,
    right: String,
    tail: String,
}

impl Ladder {
    pub fn new(terminal: Terminal, full: bool) -> Self {
        Self {
            terminal,
            full,
            calls: Calls::default(),
            day: String::new(),
            widths: [ADDRESS; 2],
        }
    }

    /// The lines of one message.
    pub fn message(&mut self, message: &Traced) -> String {
        let mut text = self.day(message);
        let number = match &message.call {
            Some(call) => {
                let (number, is_new) = self.calls.number(call);
                if is_new {
                    text += &self.call(number, message);
                }
                number.to_string()
            }
            None => "-".to_owned(),
        };
        let time = message.time.get(11..26).unwrap_or_default();
        let middle = message.destination.map(|address| address.to_string());
        let middle = middle.unwrap_or_default();
        let (_, left) = sides(message);
        let left = left.map_or(0, |address| address.to_string().len());
        for (width, len) in self.widths.iter_mut().zip([left, middle.len()]) {
            *width = (*width).max(len);
        }
        let [client, siplb] = self.widths;
        for row in Self::rows(message) {
            let Row {
                left,
                left_arrow,
                right_arrow,
                right,
                tail,
            } = row;
            let line = format!(
                "{number:>4}  {time}  {left:>client$} {left_arrow:ARROW$} {middle:^siplb$} {right_arrow:ARROW$} {right}"
            );
            let line = line.trim_end();
            text += &match tail.as_str() {
                "" => format!("{}\n", self.coloured(message, line)),
                tail => format!(
                    "{}  {}\n",
                    self.coloured(message, line),
                    self.marked(message, tail)
                ),
            };
        }
        if self.full {
            text += &self.whole(message);
        }
        text
    }

    /// Says that messages are missing here.
    pub fn gap(&self, missing: u64) -> String {
        let text = format!(
            "      ... {} left out: more than the trace can take; narrow it, or raise --limit",
            messages(missing)
        );
        format!("{}\n", self.terminal.red(&text))
    }

    fn day(&mut self, message: &Traced) -> String {
        let day = message.time.get(..10).unwrap_or_default();
        if day == self.day {
            return String::new();
        }
        day.clone_into(&mut self.day);
        format!("{day} (UTC)\n")
    }

    /// Whose call it is.
    fn call(&self, number: u64, message: &Traced) -> String {
        let shown = |text: &Option<String>| printable(text.as_deref().unwrap_or("?").as_bytes());
        let call_id = message.inner_call_id.as_ref().or(message.call_id.as_ref());
        let text = format!(
            "{number:>4}  {} to {}, Call-ID {}",
            shown(&message.from_uri),
            shown(&message.to_uri),
            shown(&call_id.cloned())
        );
        format!("{}\n", self.terminal.bold(&text))
    }

    fn rows(message: &Traced) -> Vec<Row> {
        let (is_from_right, _) = sides(message);
        let label = label(message);
        let with_name = |address: Option<SocketAddr>, name: &Option<String>| match (address, name) {
            (Some(address), Some(name)) => format!("{address} {}", printable(name.as_bytes())),
            (Some(address), None) => address.to_string(),
            (None, _) => String::new(),
        };
        let source = with_name(message.source, &message.source_backend);
        let target = with_name(message.sent_to, &message.backend);
        let has_waited = message.way == "waited";
        let came = if has_waited {
            String::new()
        } else {
            arrow(&label, !is_from_right)
        };
        let mut row = Row::default();
        if is_from_right {
            (row.right, row.right_arrow) = (source, came);
        } else {
            (row.left, row.left_arrow) = (source, came);
        }
        match message.verdict.as_str() {
            "forward" => {
                let left = arrow(&label, !is_from_right);
                if is_from_right {
                    (row.left, row.left_arrow) = (target, left);
                } else {
                    (row.right, row.right_arrow) = (target, left);
                }
                if message.sent_from != message.destination {
                    let from = message
                        .sent_from
                        .map_or_else(String::new, |from| from.to_string());
                    row.tail = format!("leaves from {from}");
                }
                if has_waited {
                    row.tail += " after waiting for a name";
                }
                vec![row]
            }
            "reply" if message.sent_to.is_some() => {
                let status = message.sent_status.map_or_else(
                    || "reply".to_owned(),
                    |status| format!("{status} {}", method(message)),
                );
                let back = arrow(status.trim_end(), is_from_right);
                let mut reply = Row {
                    tail: message.outcome.clone(),
                    ..Row::default()
                };
                if is_from_right {
                    (reply.right, reply.right_arrow) = (target, back);
                } else {
                    (reply.left, reply.left_arrow) = (target, back);
                }
                if let Some(reason) = &message.validate {
                    reply.tail += &format!(" ({reason})");
                }
                vec![row, reply]
            }
            _ => {
                row.tail = message.outcome.clone();
                if let Some(reason) = &message.not_sent {
                    row.tail += &format!(", not sent: {reason}");
                }
                vec![row]
            }
        }
    }

    /// What did not go on is red, and so is a refusal.
    fn is_error(message: &Traced) -> bool {
        let statuses = message.status.into_iter().chain(message.sent_status);
        message.verdict == "drop" || statuses.into_iter().any(|status| status >= 400)
    }

    fn coloured(&self, message: &Traced, line: &str) -> String {
        match message.status {
            _ if Self::is_error(message) => self.terminal.red(line),
            Some(200..300) => self.terminal.green(line),
            _ => line.to_owned(),
        }
    }

    fn marked(&self, message: &Traced, tail: &str) -> String {
        match Self::is_error(message) {
            true => self.terminal.red(tail),
            false => tail.to_owned(),
        }
    }

    /// The message itself: what was sent with what changed, or as it came, and a reply of ours behind it.
    fn whole(&self, message: &Traced) -> String {
        let as_it_is = |bytes: &[u8]| {
            let lines = diff::split(bytes).map(|line| format!("    {}\n", diff::shown(line)));
            lines.collect::<String>()
        };
        let mut text = match message.verdict.as_str() {
            "forward" => diff::whole(&message.received, &message.sent, &self.terminal),
            _ => as_it_is(&message.received),
        };
        if message.verdict == "reply" && !message.sent.is_empty() {
            text += "    (the reply)\n";
            text += &as_it_is(&message.sent);
        }
        let most = crate::tap::MESSAGE_MAX;
        if message.received_len.max(message.sent_len) > most {
            text += &format!(
                "    (cut: {} bytes as it came, {} as it left, of which the first {} are shown)\n",
                grouped(message.received_len as u64),
                grouped(message.sent_len as u64),
                grouped(most as u64)
            );
        }
        text + "\n"
    }
}

/// Whether it came from the right, where the backends are, and the address on the left. What is neither from a backend nor to
/// one goes from left to right.
fn sides(message: &Traced) -> (bool, Option<SocketAddr>) {
    let to_backend = message.verdict == "forward" && message.backend.is_some();
    let is_from_right = message.source_backend.is_some() && !to_backend;
    let left = match (is_from_right, message.verdict.as_str()) {
        (false, _) => message.source,
        (true, "forward") => message.sent_to,
        (true, _) => None,
    };
    (is_from_right, left)
}

/// What stands on the arrow.
fn label(message: &Traced) -> String {
    match (&message.method, message.status) {
        (Some(method), _) => printable(method.as_bytes()),
        (None, Some(status)) => format!("{status} {}", method(message)),
        (None, None) => format!("{} bytes", message.received_len),
    }
}

/// The method in CSeq.
fn method(message: &Traced) -> String {
    let cseq = message.cseq.as_deref().unwrap_or_default();
    let method = cseq.split_ascii_whitespace().nth(1).unwrap_or_default();
    printable(method.as_bytes())
}

/// `--INVITE--------->` or `<--INVITE---------`.
fn arrow(label: &str, to_the_right: bool) -> String {
    let most = ARROW - 5;
    let label: String = label.trim_end().chars().take(most).collect();
    let shaft = format!("--{label:-<width$}", width = ARROW - 3);
    match to_the_right {
        true => format!("{shaft}>"),
        false => format!("<{shaft}"),
    }
}

#[cfg(test)]
mod tests;
