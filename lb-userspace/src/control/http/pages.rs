//! Which paths there are over HTTP, and what they say.
//!
//! The objects below `/api/` are the ones that the command line prints with `--json`, made by the same code. Of the commands
//! of the control socket only those that change nothing can be reached ([`commands::READ_ONLY`]).

use std::sync::Arc;

use hyper::{HeaderMap, StatusCode, Uri, header};
use serde_json::{Value, json};

use super::{live::live, metrics, page};
use crate::{
    control::{
        Request, commands,
        server::{self, Handler, refusal},
    },
    stats::{report::Report, sources::Sources},
};

const TEXT: &str = "text/plain; charset=utf-8";
const JSON: &str = "application/json";
const HTML: &str = "text/html; charset=utf-8";
/// Nothing, for a browser.
const NO_POWERS: &str = "default-src 'none'; frame-ancestors 'none'";

/// Most points of the past of each limit that are told at a time, without the name of one limit and with it.
const MAX_POINTS: [u64; 2] = [1_440, 86_400];

/// What a client asks for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Question {
    /// Path, as it was written.
    pub path: String,
    /// Names and values of the query, decoded.
    pub query: Vec<(String, String)>,
    /// Which types of content it wants: the Accept header fields, joined.
    pub accept: String,
}

impl Question {
    /// The question of a request.
    pub fn new(uri: &Uri, headers: &HeaderMap) -> Self {
        let query = uri.query().unwrap_or_default();
        let accept = headers.get_all(header::ACCEPT).iter();
        let accept = accept.filter_map(|value| value.to_str().ok());
        Self {
            path: uri.path().to_owned(),
            query: form_urlencoded::parse(query.as_bytes())
                .into_owned()
                .collect(),
            accept: accept.collect::<Vec<_>>().join(", "),
        }
    }
}

/// What a client gets.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answer {
    /// Whether it worked.
    pub status: StatusCode,
    /// What the bytes are.
    pub content_type: &'static str,
    /// The content.
    pub bytes: Vec<u8>,
    /// What a browser may do with it.
    pub policy: &'static str,
}

impl Answer {
    /// Content of a type.
    pub fn ok(content_type: &'static str, bytes: impl Into<Vec<u8>>) -> Self {
        Self {
            status: StatusCode::OK,
            content_type,
            bytes: bytes.into(),
            policy: NO_POWERS,
        }
    }

    /// Plain text that says no.
    pub fn refusal(status: StatusCode, reason: &str) -> Self {
        Self {
            status,
            content_type: TEXT,
            bytes: format!("{reason}\n").into_bytes(),
            policy: NO_POWERS,
        }
    }

    fn json(status: StatusCode, value: &impl serde::Serialize) -> Self {
        match serde_json::to_vec(value) {
            Ok(mut bytes) => {
                bytes.push(b'\n');
                Self {
                    status,
                    content_type: JSON,
                    bytes,
                    policy: NO_POWERS,
                }
            }
            Err(error) => Self::refusal(StatusCode::INTERNAL_SERVER_ERROR, &error.to_string()),
        }
    }
}

/// Where the pages take what they say from.
pub struct Pages {
    /// The commands of the control socket.
    pub(crate) commands: Arc<Handler>,
    /// The workers' and XDP programs' counters.
    pub(crate) counters: Sources,
}

/// A path and what is there.
struct Page {
    path: &'static str,
    /// For people.
    what: &'static str,
    answer: fn(&Pages, &Question) -> Answer,
}

/// Arguments of the command `cps`.
const CPS: [&str; 4] = ["span", "count", "merge", "limit"];

/// All of them, in the order in which they are listed.
const PAGES: [Page; 9] = [
    Page {
        path: "/",
        what: "the page, for a browser",
        answer: |_, _| Answer {
            policy: page::POLICY.as_str(),
            ..Answer::ok(HTML, page::HTML)
        },
    },
    Page {
        path: "/metrics",
        what: "for Prometheus: OpenMetrics 1.0 for those who ask for it, else its text format",
        answer: metrics::answer,
    },
    Page {
        path: "/api",
        what: "this list",
        answer: |_, _| Answer::ok(TEXT, list()),
    },
    Page {
        path: "/api/status",
        what: "how the node receives: siplb status --json",
        answer: |pages, question| pages.command(question, "status", &[]),
    },
    Page {
        path: "/api/backends",
        what: "how the backends are: siplb backends --json",
        answer: |pages, question| pages.command(question, "backends", &[]),
    },
    Page {
        path: "/api/cps",
        what: "calls per second: siplb cps --json; ?span=seconds or minutes, &count=POINTS, &merge=N, &limit=NAME",
        answer: |pages, question| pages.command(question, "cps", &CPS),
    },
    Page {
        path: "/api/events",
        what: "what changed and when: siplb events --json; ?count=N, &after=ID",
        answer: |pages, question| pages.command(question, "events", &["count", "after"]),
    },
    Page {
        path: "/api/live",
        what: "all that the page shows; what /api/cps and /api/events take",
        answer: Pages::live,
    },
    Page {
        path: "/api/stats",
        what: "what was counted, by CPU and queue: siplb stats --json",
        answer: |pages, _| pages.stats(),
    },
];

impl Pages {
    /// What is at a path, or which paths there are.
    pub fn answer(&self, question: &Question) -> Answer {
        match PAGES.iter().find(|page| page.path == question.path) {
            Some(page) => (page.answer)(self, question),
            None => Answer::refusal(
                StatusCode::NOT_FOUND,
                &format!("there is nothing here; there are\n\n{}", list().trim_end()),
            ),
        }
    }

    /// The answer of the control plane to a command, whose arguments are in the query. One that is not known is refused.
    fn command(&self, question: &Question, command: &str, arguments: &[&str]) -> Answer {
        let answer = match request_of(question, command, arguments) {
            Ok(request) => self.ask(&request),
            Err(reason) => return refuse(&reason),
        };
        match answer["ok"].as_bool() {
            Some(true) => Answer::json(StatusCode::OK, &answer),
            _ => Answer::json(StatusCode::BAD_REQUEST, &answer),
        }
    }

    /// The answer of the control plane to a command that changes nothing.
    pub(super) fn ask(&self, request: &Request) -> Value {
        let command = &request.command;
        if !commands::READ_ONLY.contains(&command.as_str()) {
            return refusal(&format!("command {command} is not for HTTP"));
        }
        match (self.commands)(request) {
            server::Answer::Line(answer) => answer,
            server::Answer::Stream(..) => refusal(&format!("command {command} has no end")),
        }
    }

    fn live(&self, question: &Question) -> Answer {
        let arguments = [&CPS[..], &["after"]].concat();
        match request_of(question, "cps", &arguments) {
            Ok(request) => {
                let answer = live(self, &request);
                Answer::json(StatusCode::OK, &answer)
            }
            Err(reason) => refuse(&reason),
        }
    }

    fn stats(&self) -> Answer {
        let sample = self.counters.sample();
        let status = match sample.workers {
            Ok(_) => StatusCode::OK,
            Err(_) => StatusCode::SERVICE_UNAVAILABLE,
        };
        Answer::json(status, &Report::new(&sample, None))
    }
}

/// The command that a query stands for.
fn request_of(question: &Question, command: &str, arguments: &[&str]) -> Result<Request, String> {
    let mut request = Request::new(command);
    for (name, value) in &question.query {
        if !arguments.contains(&name.as_str()) {
            return Err(format!("argument {name:?} is not known"));
        }
        // Numbers are numbers on the control socket.
        let value = value.parse::<u64>().map_or(json!(value), Value::from);
        request = request.with(name, value);
    }
    if command == "cps" {
        few_points(&request)?;
    }
    Ok(request)
}

/// A client can have much of the past of one limit, or little of all.
fn few_points(request: &Request) -> Result<(), String> {
    let arguments = &request.arguments;
    let most = MAX_POINTS[usize::from(arguments.contains_key("limit"))];
    match arguments.get("count").and_then(Value::as_u64) {
        Some(count) if count > most => Err(format!(
            "count {count} is above {most}, which is the most here; with the name of a limit it is {}",
            MAX_POINTS[1]
        )),
        _ => Ok(()),
    }
}

fn refuse(reason: &str) -> Answer {
    Answer::json(StatusCode::BAD_REQUEST, &refusal(reason))
}

/// The paths, one a line.
fn list() -> String {
    let lines = PAGES
        .iter()
        .map(|page| format!("{:<14} {}\n", page.path, page.what));
    lines.collect()
}
