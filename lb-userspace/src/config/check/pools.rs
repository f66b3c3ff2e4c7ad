//! Pools: backends with names and addresses of their own, how one is picked, how they are probed.

use std::net::SocketAddr;

use super::{Checker, NAME, Unique, fields::Wanted, is_unicast, name, routes};
use crate::{
    balance::Strategy,
    config::{BackendConfig, HealthConfig, MAX_BACKENDS, duration, locate::Path, text},
    limit::MAX_CPS,
};

const IP_PORT: Wanted = Wanted::new(
    "an address",
    "IP:PORT, such as 10.0.0.11:5060 or \"[2001:db8::11]:5060\"",
);
const INTERVAL: Wanted = Wanted::new(
    "a duration from 1s to 1m",
    "a number and a unit, such as 2s",
);
const TIMEOUT: Wanted = Wanted::new(
    "a duration from 100ms to 30s",
    "a number and a unit, such as 500ms or 1s",
);
const SLOW_START: Wanted = Wanted::new(
    "a duration up to 10m",
    "a number and a unit, such as 10s, or 0s for none",
);

impl Checker {
    pub(super) fn pools(
        &mut self,
        at: &Path,
        field: text::Field<Vec<text::Field<text::Pool>>>,
    ) -> Option<Vec<routes::Pool>> {
        let example = "at least one, with \"name\" and \"backends\"";
        let entries = self
            .fields
            .required_list(at, field, MAX_BACKENDS, example)?;
        let mut names = Unique::default();
        let mut backend_names = Unique::default();
        let mut pools = Vec::new();
        for (index, entry) in entries.into_iter().enumerate() {
            let at = at.item(index);
            let pool = self.pool(&at, entry, &mut backend_names);
            if let Some(name) = &pool.name {
                names.claim(
                    name,
                    &at.key("name"),
                    &mut self.fields.problems,
                    "choose another name",
                );
            }
            pools.push(pool);
        }
        let backends = pools.iter().map(|pool| pool.backends.len()).sum::<usize>();
        if backends > MAX_BACKENDS {
            let what = format!("{backends} backends in all pools; keep to {MAX_BACKENDS}");
            self.fields.problems.add(at, what);
        }
        Some(pools)
    }

    fn pool(
        &mut self,
        at: &Path,
        field: text::Field<text::Pool>,
        backend_names: &mut Unique,
    ) -> routes::Pool {
        let Some(text) = self.fields.section(at, field) else {
            return routes::Pool::default();
        };
        let name = self.fields.required(&at.key("name"), text.name, NAME, name);
        let strategy = self.strategy(at, text.strategy, text.user_only);
        let health = self.health(&at.key("health"), text.health);
        let registration = self.registration(&at.key("registration"), text.registration);
        let client_address = self.client_address(&at.key("client_address"), text.client_address);
        let at = at.key("backends");
        let example = "at least one, such as \"- { name: sw1, address: 10.0.0.11:5060 }\"";
        let entries = self
            .fields
            .required_list(&at, text.backends, MAX_BACKENDS, example);
        let mut addresses = Unique::default();
        let mut backends = Vec::new();
        for (index, entry) in entries.unwrap_or_default().into_iter().enumerate() {
            let at = at.item(index);
            let backend = self.backend(&at, entry);
            if let Some(backend) = &backend {
                let problems = &mut self.fields.problems;
                backend_names.claim(
                    &backend.name,
                    &at.key("name"),
                    problems,
                    "choose another name",
                );
                addresses.claim(
                    &backend.address.to_string(),
                    &at.key("address"),
                    problems,
                    "remove one of them; \"weight\" gives a backend more",
                );
            }
            backends.push(backend);
        }
        if !backends.is_empty()
            && backends
                .iter()
                .all(|b| b.as_ref().is_some_and(|b| b.weight == 0))
        {
            self.fields.problems.add(
                &at,
                "all weights are 0, so nobody takes calls; give one a weight",
            );
        }
        routes::Pool {
            name,
            strategy: strategy.unwrap_or_default(),
            backends,
            health,
            registration,
            client_address,
        }
    }

    /// `strategy` and `user_only` of the section at `at`; `None` when there is no strategy.
    pub(super) fn strategy(
        &mut self,
        at: &Path,
        strategy: text::Field<String>,
        user_only: text::Field<bool>,
    ) -> Option<Strategy> {
        let is_given = !matches!(strategy, text::Field::Absent);
        let says_user_only = !matches!(user_only, text::Field::Absent);
        let known = Strategy::ALL.map(|strategy| (strategy.name(), strategy));
        let strategy = self.fields.choice(&at.key("strategy"), strategy, &known);
        let at = at.key("user_only");
        let user_only = self.fields.yes_or_no(&at, user_only);
        match strategy.with_user_only(user_only) {
            _ if says_user_only && !strategy.takes_user_only() => {
                let what = "is for hash-from-uri, hash-to-uri and hash-request-uri, beside \"strategy\"; remove it";
                self.fields.problems.add(&at, what);
                None
            }
            strategy => is_given.then_some(strategy),
        }
    }

    fn health(&mut self, at: &Path, field: text::Field<text::Health>) -> Option<HealthConfig> {
        let text = self.fields.section(at, field)?;
        let default = HealthConfig::default();
        let interval = self
            .duration(&at.key("interval"), text.interval, INTERVAL, 1_000..=60_000)
            .unwrap_or(default.interval);
        let is_given = !matches!(text.timeout, text::Field::Absent);
        let timeout = self
            .duration(&at.key("timeout"), text.timeout, TIMEOUT, 100..=30_000)
            .unwrap_or(default.timeout);
        if is_given && timeout > interval {
            let what = format!(
                "{} ms is more than the interval of {} ms; a probe has to be over before the next one",
                timeout.as_millis(),
                interval.as_millis()
            );
            self.fields.problems.add(&at.key("timeout"), what);
        }
        let fields = &mut self.fields;
        let fall = fields.number(&at.key("fall"), text.fall, 1..=100);
        let rise = fields.number(&at.key("rise"), text.rise, 1..=100);
        let slow_start = self.duration(
            &at.key("slow_start"),
            text.slow_start,
            SLOW_START,
            0..=600_000,
        );
        Some(HealthConfig {
            interval,
            timeout,
            fall: fall.unwrap_or(default.fall),
            rise: rise.unwrap_or(default.rise),
            slow_start: slow_start.unwrap_or(default.slow_start),
        })
    }

    /// A duration within a range of milliseconds, if there is one.
    pub(super) fn duration(
        &mut self,
        at: &Path,
        field: text::Field<String>,
        wanted: Wanted,
        range_ms: std::ops::RangeInclusive<u128>,
    ) -> Option<std::time::Duration> {
        self.fields.optional(at, field, wanted, |text| {
            duration::parse(text).filter(|time| range_ms.contains(&time.as_millis()))
        })
    }

    fn backend(&mut self, at: &Path, field: text::Field<text::Backend>) -> Option<BackendConfig> {
        let fields = &mut self.fields;
        let text = fields.section(at, field)?;
        let name = fields.required(&at.key("name"), text.name, NAME, name);
        let address = fields.required(&at.key("address"), text.address, IP_PORT, |text| {
            let address: SocketAddr = text.parse().ok()?;
            // An IPv6 scope would be lost on the way.
            let scoped = matches!(address, SocketAddr::V6(v6) if v6.scope_id() != 0);
            (address.port() != 0 && is_unicast(address.ip()) && !scoped).then_some(address)
        });
        let weight = fields.number(&at.key("weight"), text.weight, 0..=u16::MAX);
        let priority = fields.number(&at.key("priority"), text.priority, 0..=u16::MAX);
        let cps = fields.number(&at.key("cps"), text.cps, 1..=MAX_CPS);
        Some(BackendConfig {
            name: name?,
            address: address?,
            weight: weight.unwrap_or(1),
            priority: priority.unwrap_or(0),
            cps,
        })
    }
}
