//! The commands of the control socket: what each takes, and what is answered.
//!
//! | command | arguments | answer besides `"ok":true` |
//! |---|---|---|
//! | `status` | | [`Status`] |
//! | `backends` | | [`super::plane::BackendsReport`] |
//! | `drain`, `undrain`, `disable`, `enable` | `backend` | `backend`: [`super::plane::BackendReport`] |
//! | `reload` | | [`super::plane::Reloaded`] |
//! | `leave` | | `grace_s`: how long the node goes on with what still comes; then it ends |
//! | `cps` | `span`: `seconds` or `minutes`; `count`; `merge`; `limit` | `limits`: a list of [`super::plane::LimitReport`] |
//! | `events` | `count`; `after`: number of an event | `events`: the newest of them, oldest first: [`super::events::Event`] |
//! | `trace` | `call_id`, `from`, `to`, `source`, `errors`, `limit` | and then lines: [`super::trace::Line`] |

use serde_json::{Map, Value};

use super::{
    Request, events,
    plane::{PastQuery, Plane, Wish},
    server::refusal,
    status::Status,
};
use crate::limit::Span;

/// All of them.
const COMMANDS: [&str; 11] = [
    "status", "backends", "drain", "undrain", "disable", "enable", "reload", "cps", "events",
    "leave", "trace",
];
/// Those that change nothing: all that can be had over HTTP.
pub const READ_ONLY: [&str; 4] = ["status", "backends", "cps", "events"];
/// Points of the past that are sent when nobody says how many.
const DEFAULT_POINTS: u64 = 60;

/// Carries out a command that is answered by one line, which is any but `trace`. `status` says how the node receives, `leave` has it end.
pub fn carry_out(
    plane: &Plane,
    request: &Request,
    status: impl Fn() -> Status,
    leave: impl Fn(),
) -> Value {
    let answer = match request.command.as_str() {
        "status" => Ok(to_value(status())),
        "backends" => Ok(to_value(plane.backends())),
        "drain" => wish(plane, request, Some(Wish::Draining)),
        "disable" => wish(plane, request, Some(Wish::Disabled)),
        "undrain" | "enable" => wish(plane, request, None),
        "reload" => match plane.reload() {
            Ok(reloaded) => Ok(to_value(reloaded)),
            Err(error) => Err(format!("{error:#}")),
        },
        "cps" => cps(plane, request),
        "events" => events(plane, request),
        "leave" => {
            leave();
            let grace = plane
                .config()
                .announce
                .as_ref()
                .map(|announce| announce.grace);
            Ok(member(
                "grace_s",
                grace.unwrap_or_default().as_secs().into(),
            ))
        }
        other => Err(format!(
            "command `{other}` is not known; there are {}",
            COMMANDS.join(", ")
        )),
    };
    match answer {
        Ok(Value::Object(mut answer)) => {
            answer.entry("ok").or_insert(true.into());
            Value::Object(answer)
        }
        Ok(_) => refusal("a bug: the answer is no object"),
        Err(reason) => refusal(&reason),
    }
}

fn to_value(answer: impl serde::Serialize) -> Value {
    serde_json::to_value(answer).unwrap_or_default()
}

/// An object with one member.
fn member(name: &str, value: Value) -> Value {
    Value::Object(Map::from_iter([(name.to_owned(), value)]))
}

fn wish(plane: &Plane, request: &Request, wish: Option<Wish>) -> Result<Value, String> {
    let name = request.arguments.get("backend").and_then(Value::as_str);
    let name = name.ok_or("the argument `backend` is missing: the name of a backend")?;
    match plane.wish(name, wish) {
        Ok(report) => Ok(member("backend", to_value(report))),
        Err(error) => Err(format!("{error:#}")),
    }
}

fn cps(plane: &Plane, request: &Request) -> Result<Value, String> {
    let span = match request.arguments.get("span").and_then(Value::as_str) {
        None | Some("seconds") => Span::Seconds,
        Some("minutes") => Span::Minutes,
        Some(other) => {
            return Err(format!(
                "span {other:?} is not known; write seconds or minutes"
            ));
        }
    };
    let count = number(request, "count", DEFAULT_POINTS)?;
    let limit = match request.arguments.get("limit") {
        None => None,
        Some(name) => Some(name.as_str().ok_or("limit is not the name of a limit")?),
    };
    let limits = plane.cps(&PastQuery {
        span,
        count: usize::try_from(count).unwrap_or(usize::MAX),
        merge: number(request, "merge", 1)?,
        limit: limit.map(str::to_owned),
    });
    if let (Some(name), true) = (limit, limits.is_empty()) {
        return Err(format!(
            "there is no limit {name:?}; `cps` without `limit` has all of them"
        ));
    }
    Ok(member("limits", to_value(limits)))
}

fn events(plane: &Plane, request: &Request) -> Result<Value, String> {
    let after = number(request, "after", 0)?;
    let count = number(request, "count", events::KEPT as u64)?;
    let count = usize::try_from(count).unwrap_or(usize::MAX);
    Ok(member(
        "events",
        to_value(plane.events().newest(after, count)),
    ))
}

fn number(request: &Request, name: &str, default: u64) -> Result<u64, String> {
    match request.arguments.get(name) {
        None => Ok(default),
        Some(number) => number
            .as_u64()
            .ok_or_else(|| format!("{name} is not a whole number")),
    }
}
