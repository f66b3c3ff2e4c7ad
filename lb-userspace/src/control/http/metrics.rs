//! `/metrics`: what Prometheus and its like read.
//!
//! Everything comes from what the command line shows as well: the answers of `status`, `backends` and `cps`, the statistics file and
//! the XDP programs' maps. Labels have values of the configuration, the machine and fixed lists alone: nothing that somebody sends
//! becomes one.

mod backends;
mod encoder;
mod state;
mod traffic;

#[cfg(test)]
mod tests;

use hyper::StatusCode;
use serde::de::DeserializeOwned;

use self::encoder::{Encoder, Format};
use super::pages::{Answer, Pages, Question};
use crate::{
    control::{
        Request,
        plane::{BackendsReport, LimitReport},
        status::Status,
    },
    stats::{Snapshot, report, sources::Sample},
};

/// All that metrics are made from.
struct Facts {
    status: Status,
    backends: BackendsReport,
    limits: Vec<LimitReport>,
    sample: Sample,
}

impl Facts {
    fn gather(pages: &Pages) -> Result<Self, String> {
        let mut cps = ask(pages, Request::new("cps").with("count", 1))?;
        Ok(Self {
            status: read(ask(pages, Request::new("status"))?)?,
            backends: read(ask(pages, Request::new("backends"))?)?,
            limits: read(cps["limits"].take())?,
            sample: pages.counters.sample(),
        })
    }

    fn encode(&self, format: Format) -> String {
        let mut out = Encoder::new(format);
        state::write(&mut out, &self.status, &self.limits);
        let workers = self
            .snapshot()
            .map_or(&[][..], |snapshot| &snapshot.workers);
        backends::write(&mut out, &self.backends, &report::backend_sums(workers));
        traffic::write(&mut out, workers, &self.sample.interfaces);
        out.finish()
    }

    fn snapshot(&self) -> Option<&Snapshot> {
        self.sample.workers.as_ref().ok()
    }
}

/// The metrics, in the format that is wanted. A scrape that cannot have all of them fails: half of them would look like silence.
pub(super) fn answer(pages: &Pages, question: &Question) -> Answer {
    let facts = Facts::gather(pages).and_then(|facts| match &facts.sample.workers {
        Ok(_) => Ok(facts),
        Err(error) => Err(error.clone()),
    });
    match facts {
        Ok(facts) => {
            let format = Format::wanted(&question.accept);
            Answer::ok(format.content_type(), facts.encode(format))
        }
        Err(error) => Answer::refusal(StatusCode::SERVICE_UNAVAILABLE, &error),
    }
}

fn ask(pages: &Pages, request: Request) -> Result<serde_json::Value, String> {
    let answer = pages.ask(&request);
    match answer["ok"].as_bool() {
        Some(true) => Ok(answer),
        _ => Err(answer["error"].as_str().unwrap_or("no answer").to_owned()),
    }
}

fn read<T: DeserializeOwned>(answer: serde_json::Value) -> Result<T, String> {
    serde_json::from_value(answer).map_err(|error| error.to_string())
}
