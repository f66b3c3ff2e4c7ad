//! All limits of a configuration but those of its backends.

use std::{net::IpAddr, sync::Arc};

use ipnet::{IpNet, Ipv4Net, Ipv6Net};
use prefix_trie::PrefixMap;

use super::Limit;
use crate::config::{Config, RouteConfig};

/// The limits of the node, of networks and of route rules. They outlive a change of the configuration.
#[derive(Debug)]
pub struct CallLimits {
    /// All calls of the node; it counts them also where there is no limit.
    pub node: Arc<Limit>,
    sources: Vec<(IpNet, Arc<Limit>)>,
    rules: Vec<(RouteConfig, Arc<Limit>)>,
    v4: PrefixMap<Ipv4Net, Arc<Limit>>,
    v6: PrefixMap<Ipv6Net, Arc<Limit>>,
}

/// No limits.
impl Default for CallLimits {
    fn default() -> Self {
        Self {
            node: Arc::new(Limit::new(None)),
            sources: Vec::new(),
            rules: Vec::new(),
            v4: PrefixMap::new(),
            v6: PrefixMap::new(),
        }
    }
}

impl CallLimits {
    /// The limits of a configuration, with nothing counted yet.
    pub fn new(config: &Config) -> Self {
        Self::default().updated(config)
    }

    /// The limits of another configuration. Those that were there before keep their counts and what they accepted in the last
    /// second: that of a network by its prefix, that of a rule by all that it says besides the number.
    pub fn updated(&self, config: &Config) -> Self {
        let sources = config.limits.sources.iter().map(|source| {
            let before = self
                .sources
                .iter()
                .find(|(network, _)| *network == source.network);
            (
                source.network,
                kept(before.map(|(_, limit)| limit), Some(source.cps)),
            )
        });
        let sources = sources.collect::<Vec<_>>();
        let with_limit = config.routes.iter().filter(|rule| rule.cps.is_some());
        let rules = with_limit.map(|rule| {
            let before = self.rules.iter().find(|(before, _)| is_same(before, rule));
            (rule.clone(), kept(before.map(|(_, limit)| limit), rule.cps))
        });
        let mut limits = Self {
            node: kept(Some(&self.node), config.limits.cps),
            rules: rules.collect(),
            ..Self::default()
        };
        for (network, limit) in &sources {
            match network {
                IpNet::V4(network) => limits.v4.insert(*network, Arc::clone(limit)),
                IpNet::V6(network) => limits.v6.insert(*network, Arc::clone(limit)),
            };
        }
        Self { sources, ..limits }
    }

    /// The limit of the smallest network that an address is in.
    #[inline]
    pub fn of_source(&self, address: IpAddr) -> Option<&Arc<Limit>> {
        if self.sources.is_empty() {
            return None;
        }
        match address {
            IpAddr::V4(address) => Some(self.v4.get_lpm(&address.into())?.1),
            IpAddr::V6(address) => Some(self.v6.get_lpm(&address.into())?.1),
        }
    }

    /// The limit of a rule, when it has one.
    pub fn of_rule(&self, rule: &RouteConfig) -> Option<Arc<Limit>> {
        let (_, limit) = self.rules.iter().find(|(other, _)| other == rule)?;
        Some(Arc::clone(limit))
    }

    /// The limits of networks, in the order of the configuration.
    pub fn sources(&self) -> impl Iterator<Item = (IpNet, &Arc<Limit>)> {
        self.sources
            .iter()
            .map(|(network, limit)| (*network, limit))
    }
}

/// The limit that was there, with another number where it changes.
fn kept(before: Option<&Arc<Limit>>, cps: Option<u32>) -> Arc<Limit> {
    match before {
        Some(before) if before.cps() == cps => Arc::clone(before),
        Some(before) => Arc::new(before.with_cps(cps)),
        None => Arc::new(Limit::new(cps)),
    }
}

/// The same rule, whatever its limit.
fn is_same(one: &RouteConfig, other: &RouteConfig) -> bool {
    let one = RouteConfig {
        cps: other.cps,
        ..one.clone()
    };
    one == *other
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config;

    fn config(limits: &str, routes: &str) -> Config {
        let text = format!(
            "node: {{ name: a }}
listeners: [ {{ name: p, address: 203.0.113.10 }} ]
pools: [ {{ name: x, backends: [ {{ name: x1, address: '10.0.0.1:5060' }} ] }} ]
limits: {limits}
routes: {routes}"
        );
        config::parse(&text, "t.yaml").unwrap_or_else(|error| panic!("{error}"))
    }

    #[test]
    fn the_smallest_network_counts() {
        let limits = CallLimits::new(&config(
            "{ cps: 9, sources: [ { network: 10.0.0.0/8, cps: 8 }, { network: 10.1.0.0/16, cps: 7 },
               { network: 10.1.2.3, cps: 6 }, { network: '2001:db8::/32', cps: 5 } ] }",
            "[ { pool: x } ]",
        ));
        let cps = |address: &str| {
            let limit = limits.of_source(address.parse().unwrap());
            limit.and_then(|limit| limit.cps())
        };
        assert_eq!(cps("10.9.0.1"), Some(8));
        assert_eq!(cps("10.1.0.1"), Some(7));
        assert_eq!(cps("10.1.2.3"), Some(6));
        assert_eq!(cps("192.0.2.1"), None);
        assert_eq!(cps("2001:db8:7::1"), Some(5));
        assert_eq!(cps("2001:db9::1"), None);
        assert_eq!(limits.node.cps(), Some(9));
    }

    #[test]
    fn counts_outlive_a_change() {
        let before = config(
            "{ cps: 9, sources: [ { network: 10.0.0.0/8, cps: 8 } ] }",
            "[ { method: INVITE, pool: x, cps: 3 }, { pool: x, cps: 4 } ]",
        );
        let limits = CallLimits::new(&before);
        limits.node.count_accepted();
        limits.of_rule(&before.routes[1]).unwrap().count_breached();
        limits
            .of_source([10, 0, 0, 1].into())
            .unwrap()
            .count_accepted();

        let after = config(
            "{ sources: [ { network: 10.0.0.0/8, cps: 1 }, { network: 10.0.0.0/9, cps: 8 } ] }",
            "[ { pool: x, cps: 5 } ]",
        );
        let limits = limits.updated(&after);
        assert_eq!((limits.node.cps(), limits.node.accepted()), (None, 1));
        let rule = limits.of_rule(&after.routes[0]).unwrap();
        assert_eq!((rule.cps(), rule.breached()), (Some(5), 1));
        let source = limits.of_source([10, 200, 0, 1].into()).unwrap();
        assert_eq!((source.cps(), source.accepted()), (Some(1), 1));
        assert_eq!(
            limits.of_source([10, 0, 0, 1].into()).unwrap().accepted(),
            0
        );
    }
}
