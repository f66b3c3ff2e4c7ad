//! Asks the node: its state, its backends, its calls per second, and what it has counted.

use std::{fs, path::PathBuf, time::SystemTime};

use serde_json::Value;

use super::super::{Failure, backends::read_backend, read_answer};
use crate::{
    control::{
        Request, client,
        plane::{BackendReport, BackendsReport, LimitReport},
        status::Status,
    },
    stats::sources,
};

use super::series::{Series, Span};

/// The limit that counts every call.
pub(super) const NODE_LIMIT: &str = "node";

/// Whoever answers commands.
pub(super) trait Node {
    /// The answer, or why there is none.
    fn call(&self, request: &Request) -> Result<Value, String>;
}

/// The node that listens at a socket.
#[derive(Debug)]
pub(super) struct RunningNode(pub(super) PathBuf);

impl Node for RunningNode {
    fn call(&self, request: &Request) -> Result<Value, String> {
        client::call(&self.0, request).map_err(|error| error.to_string())
    }
}

/// What the screen wants to know of the past.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Watched {
    /// Name of the limit.
    pub(super) limit: String,
    /// Minutes as well as seconds.
    pub(super) minutes: bool,
}

impl Watched {
    pub(super) fn new(limit: &str, span: Span) -> Self {
        Self {
            limit: limit.to_owned(),
            minutes: span.is_by_minutes(),
        }
    }
}

/// Everything that was asked at one time.
#[derive(Debug)]
pub(super) struct Sample {
    /// Seconds since 1970.
    pub(super) time_s: u64,
    /// Why there are none, if there are none.
    pub(super) answers: Result<Answers, String>,
    /// What workers and XDP programs have counted.
    pub(super) counters: sources::Sample,
    /// Nanoseconds that the thread of each worker has run, where the kernel says so.
    pub(super) run_ns: Vec<Option<u64>>,
}

/// What a node that answers says.
#[derive(Debug)]
pub(super) struct Answers {
    pub(super) status: Status,
    pub(super) backends: BackendsReport,
    /// All of them with their newest second; the watched one with all that are new.
    pub(super) limits: Vec<LimitReport>,
    /// The watched one with points of minutes, when there may be new ones.
    pub(super) minutes: Option<LimitReport>,
    /// Accepted and refused in the newest second that is over.
    pub(super) newest: Option<[u32; 2]>,
    /// The limit that has points in `limits`.
    pub(super) watched: String,
}

/// Asks a node again and again, for no more than is new.
pub(super) struct Asker<N> {
    node: N,
    /// Reads the counters.
    counters: Box<dyn Fn() -> sources::Sample + Send>,
    watched: Watched,
    /// Newest points of the watched limit that were told, in seconds since 1970.
    newest_second: Option<u64>,
    newest_minute: Option<u64>,
}

impl<N: Node> Asker<N> {
    pub(super) fn new(
        node: N,
        counters: impl Fn() -> sources::Sample + Send + 'static,
        watched: Watched,
    ) -> Self {
        Self {
            node,
            counters: Box::new(counters),
            watched,
            newest_second: None,
            newest_minute: None,
        }
    }

    /// Asks for the past of this limit from now on.
    pub(super) fn watch(&mut self, watched: Watched) {
        if watched.limit != self.watched.limit {
            (self.newest_second, self.newest_minute) = (None, None);
        }
        self.watched = watched;
    }

    /// Has the node change a backend; returns how it is then.
    pub(super) fn change(&self, command: &str, backend: &str) -> Result<BackendReport, String> {
        let request = Request::new(command).with("backend", backend);
        let answer = self.node.call(&request)?;
        read_backend(answer).map_err(text)
    }

    pub(super) fn sample(&mut self) -> Sample {
        let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
        let time_s = now.map_or(0, |now| now.as_secs());
        let counters = (self.counters)();
        let run_ns = match &counters.workers {
            Ok(snapshot) if snapshot.running => (0..snapshot.workers.len())
                .map(|worker| run_ns(snapshot.pid, worker))
                .collect(),
            _ => Vec::new(),
        };
        let answers = self.answers(time_s);
        Sample {
            time_s,
            answers,
            counters,
            run_ns,
        }
    }

    /// What the node says now, at `time_s`.
    pub(super) fn answers(&mut self, time_s: u64) -> Result<Answers, String> {
        let status = read_answer(self.node.call(&Request::new("status"))?).map_err(text)?;
        let backends = read_answer(self.node.call(&Request::new("backends"))?).map_err(text)?;
        let watched = self.watched.limit.clone();
        let mut limits = self.cps("seconds", None, 1)?;
        let of = |limits: &[LimitReport], name: &str| {
            let limit = limits.iter().find(|limit| limit.name == name);
            limit.cloned()
        };
        let newest = of(&limits, NODE_LIMIT);
        let wanted = missing(self.newest_second, time_s, 1, Series::SECONDS).max(1);
        if let Some(limit) = limits.iter_mut().find(|limit| limit.name == watched)
            && let Some(seconds) = self.cps("seconds", Some(&watched), wanted)?.pop()
        {
            self.newest_second = end_s(&seconds).or(self.newest_second);
            *limit = seconds;
        }
        let wanted = missing(self.newest_minute, time_s, 60, Series::MINUTES);
        let minutes = match self.watched.minutes && wanted > 0 {
            true => self.cps("minutes", Some(&watched), wanted)?.pop(),
            false => None,
        };
        self.newest_minute = minutes.as_ref().and_then(end_s).or(self.newest_minute);
        Ok(Answers {
            status,
            backends,
            limits,
            minutes,
            newest: newest.and_then(|limit| limit.points.last().copied()),
            watched,
        })
    }

    fn cps(&self, span: &str, limit: Option<&str>, count: u64) -> Result<Vec<LimitReport>, String> {
        let mut request = Request::new("cps").with("span", span).with("count", count);
        if let Some(limit) = limit {
            request = request.with("limit", limit);
        }
        let mut answer = self.node.call(&request)?;
        read_answer(answer["limits"].take()).map_err(text)
    }
}

/// How many points to ask for: those that are over and have not been told.
fn missing(newest_s: Option<u64>, time_s: u64, step_s: u64, all: usize) -> u64 {
    let all = all as u64;
    newest_s.map_or(all, |newest_s| {
        (time_s / step_s)
            .saturating_sub(newest_s / step_s + 1)
            .min(all)
    })
}

/// When the newest point begins.
fn end_s(limit: &LimitReport) -> Option<u64> {
    let last = (limit.points.len() as u64).checked_sub(1)?;
    Some(limit.first_s + last * limit.step_s)
}

fn text(failure: Failure) -> String {
    match failure {
        Failure::Usage(text) | Failure::Failed(text) => text,
    }
}

/// Nanoseconds that a worker's thread has been on a CPU (the first number of `schedstat`, proc(5)).
fn run_ns(pid: u32, worker: usize) -> Option<u64> {
    let name = format!("worker-{worker}");
    let tasks = fs::read_dir(format!("/proc/{pid}/task")).ok()?;
    let mut tasks = tasks.flatten().map(|task| task.path());
    let task = tasks.find(|task| {
        fs::read_to_string(task.join("comm")).is_ok_and(|comm| comm.trim_end() == name)
    })?;
    let schedstat = fs::read_to_string(task.join("schedstat")).ok()?;
    schedstat.split_whitespace().next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_more_is_asked_than_is_new() {
        // (newest, now, step) -> count
        for (newest_s, time_s, step_s, count) in [
            (None, 10_000, 1, 3600),
            (Some(9_999), 10_000, 1, 0),
            (Some(9_998), 10_000, 1, 1),
            (Some(10_000), 10_000, 1, 0),
            (Some(10), 10_000, 1, 3600),
            (Some(6_000), 6_119, 60, 0),
            (Some(6_000), 6_120, 60, 1),
            (Some(6_000), 6_300, 60, 4),
        ] {
            assert_eq!(missing(newest_s, time_s, step_s, 3600), count, "{time_s}");
        }
    }
}
