//! Route rules: names that must exist, rules that can match, families that fit.

use super::{
    Checker,
    fields::{Wanted, one_of},
    limits::{NETWORK, network},
};
use crate::{
    balance::Strategy,
    config::{
        BackendConfig, ClientAddress, HealthConfig, Listener, PoolConfig, Registration,
        RouteConfig, locate::Path, text,
    },
    limit::MAX_CPS,
};

/// Most networks that a rule names.
const MAX_NETWORKS: usize = 256;
const DOMAIN: Wanted = Wanted::new(
    "a domain",
    "a host name or an address, as it stands in a URI without the port",
);

/// A pool as far as it could be understood.
#[derive(Default)]
pub(super) struct Pool {
    pub(super) name: Option<String>,
    pub(super) strategy: Strategy,
    pub(super) backends: Vec<Option<BackendConfig>>,
    pub(super) health: Option<HealthConfig>,
    pub(super) registration: Registration,
    pub(super) client_address: ClientAddress,
}

impl Pool {
    pub(super) fn complete(self) -> Option<PoolConfig> {
        Some(PoolConfig {
            name: self.name?,
            strategy: self.strategy,
            backends: self.backends.into_iter().collect::<Option<_>>()?,
            health: self.health,
            registration: self.registration,
            client_address: self.client_address,
        })
    }
}

impl Checker {
    pub(super) fn routes(
        &mut self,
        at: &Path,
        field: text::Field<Vec<text::Field<text::Route>>>,
        listeners: &[Option<Listener>],
        pools: &[Pool],
    ) -> Option<Vec<RouteConfig>> {
        let before = self.fields.problems.count();
        let routes = match field {
            text::Field::Absent if pools.len() == 1 => vec![RouteConfig::everything_to(0)],
            text::Field::Absent => {
                let what = format!(
                    "is missing; with {} pools say which requests go where, such as \"- {{ pool: NAME }}\"",
                    pools.len()
                );
                self.fields.problems.add(at, what);
                return None;
            }
            field => {
                let example = "at least one, such as \"- { pool: NAME }\"";
                let entries = self.fields.required_list(at, field, 4096, example)?;
                let routes = entries
                    .into_iter()
                    .enumerate()
                    .map(|(index, entry)| self.route(&at.item(index), entry, listeners, pools))
                    .collect::<Vec<_>>();
                routes.into_iter().collect::<Option<_>>()?
            }
        };
        // What is said about a rule depends on those before it, so only where all of them are understood.
        if self.fields.problems.count() == before {
            self.rules_work(at, &routes, listeners, pools);
        }
        Some(routes)
    }

    fn route(
        &mut self,
        at: &Path,
        field: text::Field<text::Route>,
        listeners: &[Option<Listener>],
        pools: &[Pool],
    ) -> Option<RouteConfig> {
        let text = self.fields.section(at, field)?;
        let method = self.method(&at.key("method"), text.method);
        let nat = self.nat_policy(&at.key("nat"), text.nat);
        let strategy = self.strategy(at, text.strategy, text.user_only);
        let cps = self.fields.number(&at.key("cps"), text.cps, 1..=MAX_CPS);
        let source = self.fields.words(
            &at.key("source"),
            text.source,
            MAX_NETWORKS,
            NETWORK,
            |text: String| network(&text),
        );
        let request_uri_user = self.prefix(&at.key("request_uri_user"), text.request_uri_user);
        let user_agent = self.prefix(&at.key("user_agent"), text.user_agent);
        let mut domain = |key, field| {
            self.fields.optional(&at.key(key), field, DOMAIN, |text| {
                let fits = |byte: u8| byte.is_ascii_alphanumeric() || b".-_:[]".contains(&byte);
                let bare = text.trim_matches(['[', ']']);
                // An address without brackets is one with them in a URI.
                match bare.parse() {
                    Ok(std::net::IpAddr::V6(_)) => Some(format!("[{bare}]")),
                    _ => (!text.is_empty() && text.bytes().all(fits) && !text.contains(':'))
                        .then(|| text.to_owned()),
                }
            })
        };
        let request_uri_domain = domain("request_uri_domain", text.request_uri_domain);
        let from_domain = domain("from_domain", text.from_domain);
        let to_domain = domain("to_domain", text.to_domain);
        let listener_names = listeners
            .iter()
            .map(|l| l.as_ref().map(|l| l.name.as_str()));
        let listener = match text.listener {
            text::Field::Absent => Some(None),
            field => self
                .known(&at.key("listener"), field, "a listener", listener_names)
                .map(Some),
        };
        let pool = match text.pool {
            text::Field::Absent => {
                self.fields
                    .problems
                    .add(&at.key("pool"), "is missing; write the name of a pool");
                None
            }
            field => self.known(
                &at.key("pool"),
                field,
                "a pool",
                pools.iter().map(|pool| pool.name.as_deref()),
            ),
        };
        let rule = RouteConfig {
            method: method?,
            listener: listener?,
            source,
            request_uri_user,
            request_uri_domain,
            from_domain,
            to_domain,
            user_agent,
            pool: pool?,
            strategy,
            nat,
            cps,
        };
        if rule.nat.is_some() && rule.looks_at_text() {
            let what = "needs a rule that looks at nothing but method, listener and source, since it holds for a whole \
                        dialog, whose later messages have other URIs; give it to such a rule, or to the listener";
            self.fields.problems.add(&at.key("nat"), what);
        }
        Some(rule)
    }

    /// What a text has to begin with.
    fn prefix(&mut self, at: &Path, field: text::Field<String>) -> Option<String> {
        let wanted = Wanted::new(
            "what a text begins with",
            "at least one letter, and at most 64",
        );
        self.fields.optional(at, field, wanted, |text| {
            (1..=64).contains(&text.len()).then(|| text.to_owned())
        })
    }

    /// `None` when there is something wrong with it.
    fn method(&mut self, at: &Path, field: text::Field<String>) -> Option<Option<String>> {
        /// RFC 3261, 3262, 3265, 3311, 3428, 3515, 3903, 6086.
        const KNOWN: [&str; 14] = [
            "INVITE",
            "ACK",
            "CANCEL",
            "BYE",
            "OPTIONS",
            "REGISTER",
            "PRACK",
            "SUBSCRIBE",
            "NOTIFY",
            "UPDATE",
            "MESSAGE",
            "REFER",
            "PUBLISH",
            "INFO",
        ];
        if let text::Field::Absent = field {
            return Some(None);
        }
        let wanted = Wanted::new("a method", "one such as INVITE or REGISTER");
        let method = self.fields.optional(at, field, wanted, |text| {
            // RFC 3261 §25.1: token.
            let token = |b: u8| b.is_ascii_alphanumeric() || b"-.!%*_+`'~".contains(&b);
            (!text.is_empty() && text.len() <= 32 && text.bytes().all(token))
                .then(|| text.to_owned())
        })?;
        let upper = method.to_ascii_uppercase();
        let what = if matches!(method.as_str(), "CANCEL" | "ACK") {
            // RFC 3261 §9.1, §16.10, §17.1.1.3: they must meet the server that has the INVITE.
            format!("{method:?} goes where its INVITE goes; write INVITE, or remove the rule")
        } else if method != upper && KNOWN.contains(&upper.as_str()) {
            format!("{method:?} is no method, because their case matters; write {upper}")
        } else {
            return Some(Some(method));
        };
        self.fields.problems.add(at, what);
        None
    }

    /// Position of a name among those of the file.
    fn known<'a>(
        &mut self,
        at: &Path,
        field: text::Field<String>,
        noun: &'static str,
        names: impl Iterator<Item = Option<&'a str>> + Clone,
    ) -> Option<usize> {
        let text = self.fields.given(
            at,
            field,
            Wanted::new(noun, "its name, in quotes if it is a number"),
        )?;
        let position = names.clone().position(|name| name == Some(&text));
        // Where an entry could not be understood, its name may be the one that is meant here.
        if position.is_none() && names.clone().all(|name| name.is_some()) {
            let names = names.flatten().collect::<Vec<_>>();
            let remedy = if names.len() <= 8 {
                format!("write {}", one_of(&names))
            } else {
                "write the name of one".to_owned()
            };
            self.fields.problems.add(
                at,
                format!("{} is not {noun}; {remedy}", text::shown(&text)),
            );
        }
        position
    }

    /// Each rule can match something, and where it matches, the datagram can leave as it came: by IPv4 or IPv6.
    fn rules_work(
        &mut self,
        at: &Path,
        routes: &[RouteConfig],
        listeners: &[Option<Listener>],
        pools: &[Pool],
    ) {
        for (index, rule) in routes.iter().enumerate() {
            let reached = (0..listeners.len())
                .filter(|&listener| matches_listener(rule, listener))
                .filter(|&listener| {
                    !routes[..index].iter().any(|earlier| {
                        matches_listener(earlier, listener)
                            && (earlier.method.is_none() || earlier.method == rule.method)
                            && earlier.source.is_empty()
                            && !earlier.looks_at_text()
                    })
                })
                .collect::<Vec<_>>();
            if reached.is_empty() {
                let what = "never matches, because the rules before it take it all; move it up or remove it";
                self.fields.problems.add(&at.item(index), what);
            }
            let misfit = reached
                .iter()
                .filter_map(|&listener| listeners[listener].as_ref())
                .find_map(|listener| {
                    pools[rule.pool]
                        .backends
                        .iter()
                        .flatten()
                        .find(|backend| backend.address.is_ipv4() != listener.address.is_ipv4())
                        .map(|backend| (listener, backend))
                });
            if let Some((listener, backend)) = misfit {
                let family = |v4| if v4 { "IPv4" } else { "IPv6" };
                let what = format!(
                    "{:?} has backend {:?}, which is {}, and gets requests of listener {:?}, which is {}; use one \
                     pool for each, and \"listener\" in the rules",
                    pools[rule.pool].name.as_deref().unwrap_or_default(),
                    backend.name,
                    family(backend.address.is_ipv4()),
                    listener.name,
                    family(listener.address.is_ipv4()),
                );
                self.fields.problems.add(&at.item(index).key("pool"), what);
            }
        }
    }
}

fn matches_listener(rule: &RouteConfig, listener: usize) -> bool {
    rule.listener.is_none_or(|only| only == listener)
}
