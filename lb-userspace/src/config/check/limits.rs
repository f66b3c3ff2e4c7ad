//! Calls per second.

use ipnet::IpNet;

use super::{Checker, fields::Wanted};
use crate::{
    config::{Limits, OnBreach, SourceLimit, locate::Path, text},
    limit::MAX_CPS,
};

/// Most networks with a limit of their own.
const MAX_SOURCES: usize = 1024;

pub(super) const NETWORK: Wanted = Wanted::new(
    "a network",
    "one such as 198.51.100.0/24 or \"2001:db8::/32\", with no bits set beyond the prefix",
);

impl Checker {
    pub(super) fn limits(&mut self, at: &Path, field: text::Field<text::Limits>) -> Limits {
        let text = self.fields.section(at, field).unwrap_or_default();
        let cps = self.fields.number(&at.key("cps"), text.cps, 1..=MAX_CPS);
        let on_breach = self.on_breach(&at.key("on_breach"), text.on_breach);
        let wanted = Wanted::new(
            "a duration from 1s to 1h",
            "a number and a unit, such as 5s",
        );
        let retry_at = at.key("retry_after");
        let retry_after = self.duration(&retry_at, text.retry_after, wanted, 1_000..=3_600_000);
        if retry_after.is_some() && on_breach == OnBreach::Silence {
            let what = "needs an answer to stand in; remove it, or write a status as on_breach";
            self.fields.problems.add(&retry_at, what);
        }
        let silence_after =
            self.fields
                .number(&at.key("silence_after"), text.silence_after, 0..=1_000_000);
        let sources = self.sources(&at.key("sources"), text.sources);
        Limits {
            cps,
            on_breach,
            retry_after,
            silence_after: silence_after.unwrap_or(Limits::DEFAULT_SILENCE_AFTER),
            sources,
        }
    }

    fn on_breach(&mut self, at: &Path, field: text::Field<serde_yaml::Value>) -> OnBreach {
        let wanted = Wanted::new(
            "a status or silence",
            "a number from 400 to 699, or silence",
        );
        let value = match field {
            text::Field::Absent => return Limits::default().on_breach,
            text::Field::Given(value) | text::Field::Wrong(value) => value,
        };
        let status = value.as_u64().filter(|status| (400..700).contains(status));
        match (status, value.as_str()) {
            (Some(status), _) => return OnBreach::Status(status as u16),
            (None, Some("silence")) => return OnBreach::Silence,
            _ => self.fields.refuse(at, text::Shown(&value), wanted),
        }
        OnBreach::Silence
    }

    fn sources(
        &mut self,
        at: &Path,
        field: text::Field<Vec<text::Field<text::SourceLimit>>>,
    ) -> Vec<SourceLimit> {
        let entries = self.fields.list(at, field, MAX_SOURCES).unwrap_or_default();
        let mut networks = super::Unique::default();
        let mut sources = Vec::new();
        for (index, entry) in entries.into_iter().enumerate() {
            let at = at.item(index);
            let Some(text) = self.fields.section(&at, entry) else {
                continue;
            };
            let network_at = at.key("network");
            let network = self
                .fields
                .required(&network_at, text.network, NETWORK, network);
            let cps_at = at.key("cps");
            if let text::Field::Absent = text.cps {
                let what = "is missing; write how many calls in a second the network may open";
                self.fields.problems.add(&cps_at, what);
            }
            let cps = self.fields.number(&cps_at, text.cps, 1..=MAX_CPS);
            if let Some(network) = network {
                let problems = &mut self.fields.problems;
                networks.claim(
                    &network.to_string(),
                    &network_at,
                    problems,
                    "remove one of them",
                );
            }
            if let (Some(network), Some(cps)) = (network, cps) {
                sources.push(SourceLimit { network, cps });
            }
        }
        sources
    }
}

/// A network without bits beyond its prefix, or an address alone.
pub(super) fn network(text: &str) -> Option<IpNet> {
    let network: IpNet = match text.parse() {
        Ok(network) => network,
        Err(_) => text.parse::<std::net::IpAddr>().ok()?.into(),
    };
    (network == network.trunc()).then_some(network)
}
