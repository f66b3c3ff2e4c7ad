//! Everything that [`super::forward`] knows besides the datagram: built by the control plane, published whole.

use std::{
    hash::Hasher,
    net::{IpAddr, SocketAddr},
    sync::Arc,
};

use ipnet::IpNet;
use siphasher::sip::SipHasher13;

use super::{
    Listener, ListenerIndex, RouteRule, Texts, address_filter::AddressFilter,
    client_address::ClientAddresses, route_rule::TextKind, rule_index::RuleIndex,
};
use crate::{
    balance::{Backend, BackendIndex, Key, LookupTable, Pool, Roster, State, Strategy},
    config::{Config, OnBreach, Registration, Topology},
    limit::CallLimits,
    nat::{Policy, PrivateNetworks},
    sip::{Uri, parse_ip},
    token::{FlowToken, Keys, Signer},
};

/// What becomes of calls above a limit.
#[derive(Clone, Debug)]
pub(super) struct Breach {
    pub on_breach: OnBreach,
    /// Seconds that Retry-After says at least; 0 for none.
    pub retry_after_s: u32,
    pub silence_after: u32,
}

/// Where a backend is, for those who know its index.
#[derive(Clone, Copy, Debug)]
struct Home {
    address: SocketAddr,
    state: State,
    /// Index into [`Table::pools`].
    pool: usize,
}

/// Configuration as the hot path reads it.
#[derive(Debug)]
pub struct Table {
    /// Fleet keys.
    pub keys: Keys,
    /// The same with the previous secret signing, when there is one: for what began under that.
    pub(super) swapped_keys: Option<Keys>,
    /// In the order of the configuration; [`ListenerIndex`] counts here.
    pub listeners: Vec<Listener>,
    /// In the order of the configuration.
    pub pools: Vec<Pool>,
    /// In the order of the configuration. What finds them was made from them, so they are not changed.
    pub routes: Vec<RouteRule>,
    /// Which addresses are private.
    pub private: PrivateNetworks,
    /// How many calls may be opened, and what becomes of more.
    pub calls: Arc<CallLimits>,
    pub(super) breach: Breach,
    /// What backends are told of where a datagram came from.
    pub(super) client_addresses: ClientAddresses,
    /// Finds the first of `routes` that matches.
    rule_index: RuleIndex,
    /// True when a rule has a NAT policy of its own.
    rules_have_nat: bool,
    /// Addresses of all listeners, sorted.
    listener_addresses: Vec<(SocketAddr, ListenerIndex)>,
    listener_filter: AddressFilter,
    /// How phones that register with a pool stay reachable, in the order of `pools`; off where there is none.
    registrations: Vec<Registration>,
    /// Whose hosts send requests to the outside as backends do.
    trusted: Vec<IpNet>,
    /// The outside sees no address of the inside.
    pub(super) hides: bool,
    /// Addresses of all backends, sorted: who is asked "is this a backend?" (any port).
    pub backend_addresses: Vec<IpAddr>,
    /// All backends by address, sorted.
    backend_indices: Vec<(SocketAddr, BackendIndex)>,
    backend_filter: AddressFilter,
    /// Each backend by its [`BackendIndex`]; `None` for those of the past.
    by_index: Vec<Option<Home>>,
}

impl Table {
    /// Builds the table for a configuration with all backends usable.
    ///
    /// Fills a lookup table for each pool: milliseconds for ten backends, a third of a second for a thousand.
    pub fn new(config: &Config) -> Self {
        Self::with_state(
            config,
            &Roster::new(config),
            &Arc::new(CallLimits::new(config)),
        )
    }

    /// Builds the table for a configuration whose backends are in these states, and whose calls are counted there.
    pub fn with_state(config: &Config, roster: &Roster, calls: &Arc<CallLimits>) -> Self {
        let key = config.keys.distribution_key();
        let pools = config.pools.iter().map(|pool| {
            let backends = pool.backends.iter().filter_map(|backend| {
                let (index, entry) = roster.find(backend)?;
                Some(Backend {
                    index,
                    name: backend.name.clone(),
                    address: backend.address,
                    weight: backend.weight,
                    priority: backend.priority,
                    state: entry.state,
                    ramp: entry.ramp,
                    limit: backend.cps.map(|_| Arc::clone(&entry.limit)),
                })
            });
            Pool::new(pool.name.clone(), pool.strategy, backends.collect(), key)
        });
        let pools = pools.collect::<Vec<_>>();
        let listeners = config.listeners.iter().map(|listener| {
            Listener::new(listener.name.clone(), listener.address)
                .with_nat(listener.nat)
                .with_validate(listener.validate)
                .with_ping_replies(listener.ping_replies)
        });
        let bytes = |text: &Option<String>| text.clone().map(String::into_bytes);
        let routes = config.routes.iter().map(|route| RouteRule {
            method: bytes(&route.method),
            listener: route.listener.map(|index| {
                ListenerIndex(u16::try_from(index).expect("`config` stops at 256 listeners"))
            }),
            source: route.source.clone(),
            texts: route.looks_at_text().then(|| {
                Box::new(Texts {
                    request_uri_user: bytes(&route.request_uri_user),
                    request_uri_domain: bytes(&route.request_uri_domain),
                    from_domain: bytes(&route.from_domain),
                    to_domain: bytes(&route.to_domain),
                    user_agent: bytes(&route.user_agent),
                })
            }),
            pool: route.pool,
            strategy: route.strategy,
            nat: route.nat,
            limit: calls.of_rule(route),
        });
        let (listeners, routes) = (listeners.collect(), routes.collect());
        let private = PrivateNetworks::new(config.nat.private.clone());
        let limits = &config.limits;
        let hidden = config.outbound.topology == Topology::Hide;
        let keys = config.keys.clone().with_sealed_tokens(hidden);
        let registrations = config.pools.iter().map(|pool| pool.registration);
        Self {
            registrations: registrations.collect(),
            trusted: config.outbound.trusted.clone(),
            hides: hidden,
            private,
            calls: Arc::clone(calls),
            client_addresses: ClientAddresses::new(config),
            breach: Breach {
                on_breach: limits.on_breach,
                retry_after_s: limits.retry_after.map_or(0, |time| time.as_secs() as u32),
                silence_after: limits.silence_after,
            },
            ..Self::from_parts(keys, listeners, pools, routes)
        }
    }

    /// Builds the table from what was made elsewhere.
    pub fn from_parts(
        keys: Keys,
        listeners: Vec<Listener>,
        pools: Vec<Pool>,
        routes: Vec<RouteRule>,
    ) -> Self {
        let backends = pools.iter().flat_map(|pool| &pool.backends);
        let mut backend_indices = backends
            .map(|backend| (backend.address, backend.index))
            .collect::<Vec<_>>();
        backend_indices.sort();
        let mut backend_addresses = backend_indices
            .iter()
            .map(|(address, _)| address.ip())
            .collect::<Vec<_>>();
        backend_addresses.dedup();
        let mut by_index = Vec::new();
        for (pool, backends) in pools.iter().enumerate() {
            for backend in &backends.backends {
                let place = usize::from(backend.index.0);
                if by_index.len() <= place {
                    by_index.resize(place + 1, None);
                }
                by_index[place] = Some(Home {
                    address: backend.address,
                    state: backend.state,
                    pool,
                });
            }
        }
        let mut listener_addresses = listeners
            .iter()
            .zip(0..)
            .map(|(listener, index)| (listener.address, ListenerIndex(index)))
            .collect::<Vec<_>>();
        listener_addresses.sort();
        let limits = crate::config::Limits::default();
        Self {
            swapped_keys: keys.swapped(),
            calls: Arc::default(),
            client_addresses: ClientAddresses::default(),
            breach: Breach {
                on_breach: limits.on_breach,
                retry_after_s: 0,
                silence_after: limits.silence_after,
            },
            by_index,
            keys,
            listeners,
            pools,
            private: PrivateNetworks::default(),
            rule_index: RuleIndex::new(&routes),
            rules_have_nat: routes.iter().any(|rule| rule.nat.is_some()),
            routes,
            listener_filter: AddressFilter::new(
                listener_addresses.iter().map(|(address, _)| address.ip()),
            ),
            listener_addresses,
            registrations: Vec::new(),
            trusted: Vec::new(),
            hides: false,
            backend_filter: AddressFilter::new(backend_addresses.iter().copied()),
            backend_addresses,
            backend_indices,
        }
    }

    /// A number that is equal on two nodes exactly when they send requests without a flow token to the same backends and
    /// validate and answer alike (but for a chance of 2^-64): it covers the secret, listeners, pools and routes.
    pub fn fingerprint(&self) -> u64 {
        let mut hasher = SipHasher13::new();
        let mut say = |text: String| {
            hasher.write_usize(text.len());
            hasher.write(text.as_bytes());
        };
        let mut listeners = self
            .listeners
            .iter()
            .map(|listener| {
                let answers = (listener.validate, listener.ping_replies);
                (listener.address, format!("{answers:?}"))
            })
            .collect::<Vec<_>>();
        listeners.sort();
        say(format!("{listeners:?}"));
        for route in &self.routes {
            let listener = route
                .listener
                .map(|index| self.listeners[usize::from(index.0)].address);
            let table = self.pools[route.pool].table.as_ref();
            say(format!(
                "{:?} {listener:?} {:?} {:?} {:?} {:?} {:?} {:?}",
                route.method,
                route.source,
                route.texts,
                route.strategy.unwrap_or(self.pools[route.pool].strategy),
                table.map(LookupTable::fingerprint),
                self.client_addresses.of_pool(route.pool),
                self.registrations.get(route.pool)
            ));
        }
        say(format!("{:?} {}", self.trusted, self.hides));
        hasher.finish()
    }

    /// The first rule for requests with this method that come from this address to this listener, and its place. `text` says
    /// what the request has of what rules look at.
    #[inline]
    pub(super) fn rule<'a>(
        &self,
        listener: ListenerIndex,
        method: &[u8],
        source: IpAddr,
        text: impl FnMut(TextKind) -> Option<&'a [u8]>,
    ) -> Option<(usize, &RouteRule)> {
        let method = method_of_rules(method);
        let place = self.rule_index.first(listener, method, source, text)?;
        Some((place, &self.routes[place]))
    }

    /// The slot of a Call-ID, on its way into the cache, when the last rule goes by it: mostly that takes what no other one does.
    /// Slots are those of all pools, whose tables have one key.
    #[inline]
    pub(super) fn slot_ahead(&self, call_id: &[u8]) -> Option<usize> {
        let rule = self.routes.last()?;
        let pool = self.pools.get(rule.pool)?;
        match rule.strategy.unwrap_or(pool.strategy) {
            Strategy::HashCallId => pool.slot(&Key::Text(call_id)),
            _ => None,
        }
    }

    /// The rule that says what to do about a NAT when a client sends a message with this method (of its CSeq, for a response).
    /// Rules that look at texts have no say: what they look at is not the same in all messages of a dialog.
    pub(super) fn nat_rule(
        &self,
        listener: ListenerIndex,
        method: &[u8],
        source: IpAddr,
    ) -> Option<(usize, &RouteRule)> {
        let method = method_of_rules(method);
        let place = self
            .rule_index
            .first_without_texts(listener, method, source)?;
        let rule = &self.routes[place];
        rule.nat.is_some().then_some((place, rule))
    }

    /// What to do about a NAT when a client sends a message with this method (of its CSeq, for a response).
    pub(super) fn nat_policy(
        &self,
        listener: ListenerIndex,
        method: &[u8],
        source: IpAddr,
    ) -> Policy {
        let rule = match self.rules_have_nat {
            true => self
                .nat_rule(listener, method, source)
                .and_then(|(_, rule)| rule.nat),
            false => None,
        };
        let listener = self.listeners.get(usize::from(listener.0));
        rule.or(listener.map(|listener| listener.nat))
            .unwrap_or_default()
    }

    /// All backends of all pools, in the order of the configuration.
    pub fn backends(&self) -> impl Iterator<Item = &Backend> {
        self.pools.iter().flat_map(|pool| &pool.backends)
    }

    /// True when this is the address and port of a listener. Another port of a VIP is none: siplb does not listen there, and
    /// a SIP server on the same host may.
    #[inline]
    pub fn is_listener(&self, address: SocketAddr) -> bool {
        let listeners = &self.listener_addresses;
        self.listener_filter.may_have(address.ip())
            && listeners
                .binary_search_by_key(&address, |(address, _)| *address)
                .is_ok()
    }

    /// The ends of a flow by its token. `None` also when one of them is a listener: nothing that we send may come back to
    /// us, whoever talked a node of ours into making the token.
    pub(super) fn read_flow_token(&self, token: &[u8]) -> Option<FlowToken> {
        let (flow, _) = self.read_signed_flow_token(token)?;
        Some(flow)
    }

    /// The same, and which secret made the token.
    pub(super) fn read_signed_flow_token(&self, token: &[u8]) -> Option<(FlowToken, Signer)> {
        let (flow, signer) = self.keys.read_signed_flow_token(token)?;
        let comes_back = self.is_listener(flow.client) || self.is_listener(flow.backend);
        (!comes_back).then_some((flow, signer))
    }

    /// True when a backend of any pool lives at this address, at whatever port.
    #[inline]
    pub fn is_backend(&self, address: IpAddr) -> bool {
        self.backend_filter.may_have(address)
            && self.backend_addresses.binary_search(&address).is_ok()
    }

    /// True for whoever may send requests to the outside: backends and trusted networks.
    #[inline]
    pub fn is_inside(&self, address: IpAddr) -> bool {
        self.is_backend(address)
            || self
                .trusted
                .iter()
                .any(|network| network.contains(&address))
    }

    /// The backend with this index.
    pub fn backend(&self, index: BackendIndex) -> Option<&Backend> {
        self.backends().find(|backend| backend.index == index)
    }

    /// Where the backend with this index is, if it may get messages of transactions that it has and is in this pool; in any
    /// when that is `None`.
    #[inline]
    pub(super) fn keeps_transactions(
        &self,
        index: BackendIndex,
        pool: Option<usize>,
    ) -> Option<SocketAddr> {
        let home = (*self.by_index.get(usize::from(index.0))?)?;
        let is_there = pool.is_none_or(|pool| home.pool == pool);
        (is_there && home.state.keeps_transactions()).then_some(home.address)
    }

    /// The backend at this address and port; the first of the configuration when it is in several pools.
    pub fn backend_at(&self, address: SocketAddr) -> Option<BackendIndex> {
        let at = self
            .backend_indices
            .partition_point(|(other, _)| *other < address);
        let (found, index) = self.backend_indices.get(at)?;
        (*found == address).then_some(*index)
    }

    /// The listener whose address and port a URI has. A name never is one: names are not ours to know.
    pub(super) fn own_listener(&self, bytes: &[u8], uri: &Uri) -> Option<ListenerIndex> {
        let address = SocketAddr::new(parse_ip(uri.host.of(bytes))?, uri.effective_port());
        let listeners = &self.listener_addresses;
        let at = listeners.partition_point(|(other, _)| *other < address);
        let (found, index) = listeners.get(at)?;
        (*found == address).then_some(*index)
    }

    /// True when a URI's host and port are those of a listener.
    pub(super) fn is_own(&self, bytes: &[u8], uri: &Uri) -> bool {
        self.own_listener(bytes, uri).is_some()
    }

    /// How phones that register with the pool of this backend stay reachable.
    pub(super) fn registration(&self, backend: BackendIndex) -> Registration {
        let home = self.by_index.get(usize::from(backend.0)).copied().flatten();
        let registration = home.and_then(|home| self.registrations.get(home.pool));
        registration.copied().unwrap_or(Registration::Off)
    }
}

/// A CANCEL and the ACK to a non-2xx response must go where their INVITE went (RFC 3261 §9.1, §17.1.1.3), so rules see them
/// as the INVITE that they belong to.
fn method_of_rules(method: &[u8]) -> &[u8] {
    match method {
        b"ACK" | b"CANCEL" => b"INVITE",
        method => method,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_fingerprint_covers_what_decides_and_nothing_else() {
        const TEXT: &str = "
node: { name: a }
listeners: [ { name: p, address: 203.0.113.10 } ]
pools: [ { name: x, backends: [ { name: x1, address: '10.0.0.2:5060' } ] } ]
";
        let fingerprint = |from: &str, to: &str| {
            assert!(TEXT.contains(from));
            let config = crate::config::parse(&TEXT.replace(from, to), "t.yaml").unwrap();
            Table::new(&config).fingerprint()
        };
        let before = fingerprint("", "");
        for (from, to) in [
            ("name: a", "name: b"),
            ("name: p", "name: q"),
            ("name: x,", "name: y,"),
        ] {
            assert_eq!(fingerprint(from, to), before, "{to}");
        }
        for (from, to) in [
            ("113.10", "113.11"),
            ("113.10", "113.10, validate: reply"),
            ("113.10", "113.10, ping_replies: all"),
            ("name: x,", "name: x, client_address: proxy-protocol,"),
            ("name: x1", "name: x2"),
            ("10.0.0.2", "10.0.0.3"),
            (
                "} ] } ]\n",
                "} ] } ]\nroutes: [ { method: INVITE, pool: x } ]\n",
            ),
        ] {
            assert_ne!(fingerprint(from, to), before, "{to}");
        }
    }

    #[test]
    fn the_table_says_what_the_configuration_says() {
        let text = "
node: { name: a }
listeners: [ { name: p4, address: 203.0.113.10 }, { name: p6, address: '2001:db8::10', port: 5080 } ]
pools:
  - { name: x, backends: [ { name: x1, address: '10.0.0.2:5060' }, { name: x2, address: '10.0.0.1:5060', weight: 0 } ] }
  - { name: y, backends: [ { name: y1, address: '[2001:db8::1]:5062' } ] }
  - { name: z, backends: [ { name: z1, address: '10.0.0.1:5070', weight: 9 } ] }
routes: [ { listener: p6, pool: y }, { method: REGISTER, pool: z }, { pool: x } ]
";
        let table = Table::new(&crate::config::parse(text, "t.yaml").unwrap());
        let backends = table
            .backends()
            .map(|b| (b.index.0, b.name.as_str(), b.address.to_string(), b.weight));
        assert_eq!(
            backends.collect::<Vec<_>>(),
            [
                (0, "x1", "10.0.0.2:5060".to_owned(), 1),
                (1, "x2", "10.0.0.1:5060".to_owned(), 0),
                (2, "y1", "[2001:db8::1]:5062".to_owned(), 1),
                (3, "z1", "10.0.0.1:5070".to_owned(), 9),
            ]
        );
        assert_eq!(
            table.backend_addresses,
            ["10.0.0.1", "10.0.0.2", "2001:db8::1"].map(|text| text.parse::<IpAddr>().unwrap())
        );
        assert_eq!(
            table.listeners[1].address.to_string(),
            "[2001:db8::10]:5080"
        );
        let routes = table
            .routes
            .iter()
            .map(|r| (r.method.as_deref(), r.listener, r.pool));
        assert_eq!(
            routes.collect::<Vec<_>>(),
            [
                (None, Some(ListenerIndex(1)), 1),
                (Some(&b"REGISTER"[..]), None, 2),
                (None, None, 0)
            ]
        );
        assert_eq!(
            table.pools[0].usable().map(|b| &b.name).collect::<Vec<_>>(),
            ["x1"],
            "weight 0 takes no calls"
        );
    }
}
