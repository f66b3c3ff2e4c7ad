//! The commands of the control socket: what each takes, and what is answered.
//!
//! | command | arguments | answer besides `"ok":true` |
//! |---|---|---|
//! | `status` | | [`Status`] |
//! | `backends` | | [`super::plane::BackendsReport`] |
//! | `drain`, `undrain`, `disable`, `enable` | `backend` | `backend`: [`super::plane::BackendReport`] |
//! | `reload` | | [`super::plane::Reloaded`] |
//! | `leave` | | `grace_s`: how long the node goes on with what still comes; then it ends |
//! | `cps` | `span`: `seconds` or `minutes`; `count`; `limit`: the name of one | `limits`: a list of limits |
//! | `trace` | `call_id`, `from`, `to`, `source`, `errors`, `limit` | and then lines: [`super::trace::Line`] |

use serde_json::{Map, Value};

use super::{
    Request,
    plane::{Plane, Wish},
    server::refusal,
    status::Status,
};
use crate::limit::Span;

/// All of them.
const COMMANDS: [&str; 10] = [
    "status", "backends", "drain", "undrain", "disable", "enable", "reload", "cps", "leave",
    "trace",
];
/// Those that change nothing: all that can be had over HTTP.
pub const READ_ONLY: [&str; 3] = ["status", "backends", "cps"];
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
    let count = match request.arguments.get("count") {
        None => DEFAULT_POINTS,
        Some(count) => count.as_u64().ok_or("count is not a whole number")?,
    };
    let limit = match request.arguments.get("limit") {
        None => None,
        Some(limit) => Some(limit.as_str().ok_or("limit is not the name of a limit")?),
    };
    let count = usize::try_from(count).unwrap_or(usize::MAX);
    let limits = plane.cps(span, count, limit);
    if let Some(limit) = limit
        && limits.is_empty()
    {
        return Err(format!(
            "there is no limit {limit:?}; `siplb cps` lists them"
        ));
    }
    Ok(member("limits", to_value(limits)))
}
