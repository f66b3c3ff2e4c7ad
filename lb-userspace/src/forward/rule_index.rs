//! Finds the first route rule that matches without trying each of them.
//!
//! All that rules ask of a message is looked up, each thing once for all rules, and what is found is a row: a bit for each
//! rule, set where the rule does not ask, or asks for what the message has. The first bit that is set in all rows is the
//! rule. A text is read and looked up when the first rule that is left asks for it, so what no rule asks for costs nothing.

mod domains;
mod prefixes;
mod rows;

use std::{collections::BTreeMap, net::IpAddr};

use ipnet::{IpNet, Ipv4Net, Ipv6Net};
use prefix_trie::PrefixMap;

use super::{ListenerIndex, RouteRule, route_rule::TextKind};
use domains::Domains;
use prefixes::Prefixes;
use rows::{Row, Rows, RowsBuilder};

const TEXTS: [TextKind; 5] = TextKind::ALL;

/// Route rules by what they ask for.
#[derive(Debug)]
pub(super) struct RuleIndex {
    rows: Rows,
    /// The first rule asks for nothing, so it is the one.
    first_takes_all: bool,
    /// Which of [`TEXTS`] each rule asks for, a bit for each.
    asked: Vec<u8>,
    without_texts: Row,
    listeners: Listeners,
    methods: Methods,
    sources: Sources,
    texts: [Texts; TEXTS.len()],
}

impl RuleIndex {
    /// An index of rules in this order.
    pub fn new(rules: &[RouteRule]) -> Self {
        let mut rows = RowsBuilder::new(rules.len());
        let without_texts = (0..rules.len()).filter(|rule| rules[*rule].texts.is_none());
        Self {
            first_takes_all: rules.first().is_some_and(takes_all),
            without_texts: rows.of(without_texts),
            asked: rules.iter().map(texts_of).collect(),
            listeners: Listeners::new(rules, &mut rows),
            methods: Methods::new(rules, &mut rows),
            sources: Sources::new(rules, &mut rows),
            texts: TEXTS.map(|kind| Texts::new(kind, rules, &mut rows)),
            rows: rows.finish(),
        }
    }

    /// The place of the first rule for a message with this method that comes from this address to this listener. `text` says
    /// what the message has; it is asked for each kind once at most.
    #[inline]
    pub fn first<'a>(
        &self,
        listener: ListenerIndex,
        method: &[u8],
        source: IpAddr,
        text: impl FnMut(TextKind) -> Option<&'a [u8]>,
    ) -> Option<usize> {
        if self.first_takes_all {
            return Some(0);
        }
        self.search(Row::ALL, listener, method, source, text)
    }

    /// The same among the rules that ask for no text.
    #[inline]
    pub fn first_without_texts(
        &self,
        listener: ListenerIndex,
        method: &[u8],
        source: IpAddr,
    ) -> Option<usize> {
        if self.first_takes_all {
            return Some(0);
        }
        self.search(self.without_texts, listener, method, source, |_| None)
    }

    fn search<'a>(
        &self,
        among: Row,
        listener: ListenerIndex,
        method: &[u8],
        source: IpAddr,
        mut text: impl FnMut(TextKind) -> Option<&'a [u8]>,
    ) -> Option<usize> {
        let always = [
            among,
            self.listeners.find(listener),
            self.methods.find(method),
            self.sources.find(source),
        ];
        let mut found = [Row::ALL; TEXTS.len()];
        let mut known = 0;
        for word in 0..self.rows.words() {
            let mut left = u64::MAX;
            for row in &always {
                left &= self.rows.word(*row, word);
            }
            if known != 0 {
                for row in &found {
                    left &= self.rows.word(*row, word);
                }
            }
            while left != 0 {
                let rule = word * 64 + left.trailing_zeros() as usize;
                let unknown = self.asked[rule] & !known;
                if unknown == 0 {
                    return Some(rule);
                }
                let at = unknown.trailing_zeros() as usize;
                found[at] = self.texts[at].find(text(TEXTS[at]));
                known |= 1 << at;
                left &= self.rows.word(found[at], word);
            }
        }
        None
    }
}

fn texts_of(rule: &RouteRule) -> u8 {
    let wants = |kind| {
        rule.texts
            .as_ref()
            .is_some_and(|texts| texts.wanted(kind).is_some())
    };
    (0..TEXTS.len())
        .filter(|at| wants(TEXTS[*at]))
        .fold(0, |asked, at| asked | 1 << at)
}

fn takes_all(rule: &RouteRule) -> bool {
    rule.texts.is_none()
        && rule.method.is_none()
        && rule.listener.is_none()
        && rule.source.is_empty()
}

/// The row of the rules that do not ask, and what the others ask for, each with those who do.
fn by<K: Ord>(
    rules: &[RouteRule],
    rows: &mut RowsBuilder,
    ask: impl Fn(&RouteRule) -> Vec<K>,
) -> (Row, BTreeMap<K, Vec<usize>>) {
    let mut silent = Vec::new();
    let mut askers = BTreeMap::<K, Vec<usize>>::new();
    for (at, rule) in rules.iter().enumerate() {
        let keys = ask(rule);
        if keys.is_empty() {
            silent.push(at);
        }
        for key in keys {
            askers.entry(key).or_default().push(at);
        }
    }
    (rows.of(silent), askers)
}

#[derive(Debug)]
struct Listeners {
    by_index: Vec<Row>,
    others: Row,
}

impl Listeners {
    fn new(rules: &[RouteRule], rows: &mut RowsBuilder) -> Self {
        let (others, askers) = by(rules, rows, |rule| rule.listener.into_iter().collect());
        let mut by_index = Vec::new();
        for (listener, askers) in askers {
            let at = usize::from(listener.0);
            by_index.resize(at + 1, others);
            by_index[at] = rows.with(others, askers);
        }
        Self { by_index, others }
    }

    #[inline]
    fn find(&self, listener: ListenerIndex) -> Row {
        let row = self.by_index.get(usize::from(listener.0));
        row.copied().unwrap_or(self.others)
    }
}

#[derive(Debug)]
struct Methods {
    /// Sorted.
    names: Vec<(Vec<u8>, Row)>,
    others: Row,
}

impl Methods {
    fn new(rules: &[RouteRule], rows: &mut RowsBuilder) -> Self {
        let (others, askers) = by(rules, rows, |rule| {
            rule.method.clone().into_iter().collect()
        });
        let names = askers
            .into_iter()
            .map(|(name, askers)| (name, rows.with(others, askers)));
        Self {
            names: names.collect(),
            others,
        }
    }

    #[inline]
    fn find(&self, method: &[u8]) -> Row {
        let names = &self.names;
        let at = names.binary_search_by(|(name, _)| name.as_slice().cmp(method));
        at.map_or(self.others, |at| names[at].1)
    }
}

/// The row of a network has the rules of all networks around it too, so the smallest one that a source is in says all.
#[derive(Debug)]
struct Sources {
    /// A rule asks.
    matter: bool,
    v4: PrefixMap<Ipv4Net, Row>,
    v6: PrefixMap<Ipv6Net, Row>,
    others: Row,
}

impl Sources {
    fn new(rules: &[RouteRule], rows: &mut RowsBuilder) -> Self {
        // Sorted by length first: a network comes after those around it.
        let (others, askers) = by(rules, rows, |rule| {
            let networks = rule.source.iter();
            let networks = networks.map(|network| (network.prefix_len(), network.trunc()));
            networks.collect()
        });
        let mut sources = Self {
            matter: !askers.is_empty(),
            v4: PrefixMap::new(),
            v6: PrefixMap::new(),
            others,
        };
        for ((_, network), askers) in askers {
            let row = rows.with(sources.find(network.addr()), askers);
            match network {
                IpNet::V4(network) => sources.v4.insert(network, row),
                IpNet::V6(network) => sources.v6.insert(network, row),
            };
        }
        sources
    }

    #[inline]
    fn find(&self, source: IpAddr) -> Row {
        if !self.matter {
            return self.others;
        }
        let found = match source {
            IpAddr::V4(source) => self.v4.get_lpm(&source.into()).map(|(_, row)| row),
            IpAddr::V6(source) => self.v6.get_lpm(&source.into()).map(|(_, row)| row),
        };
        found.copied().unwrap_or(self.others)
    }
}

#[derive(Debug)]
enum Texts {
    Domains(Domains),
    Prefixes(Prefixes),
}

impl Texts {
    fn new(kind: TextKind, rules: &[RouteRule], rows: &mut RowsBuilder) -> Self {
        let (others, askers) = by(rules, rows, |rule| {
            let wanted = rule.texts.as_ref().and_then(|texts| texts.wanted(kind));
            wanted.map(<[u8]>::to_vec).into_iter().collect()
        });
        match kind {
            TextKind::RequestUriDomain | TextKind::FromDomain | TextKind::ToDomain => {
                Self::Domains(Domains::new(others, askers, rows))
            }
            TextKind::RequestUriUser | TextKind::UserAgent => {
                Self::Prefixes(Prefixes::new(others, askers, rows))
            }
        }
    }

    fn find(&self, text: Option<&[u8]>) -> Row {
        match self {
            Self::Domains(domains) => domains.find(text),
            Self::Prefixes(prefixes) => prefixes.find(text),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::forward::Texts;

    #[test]
    fn texts_are_asked_for_once_and_where_it_matters() {
        let wants = |texts| RouteRule {
            texts: Some(Box::new(texts)),
            ..RouteRule::everything_to(0)
        };
        let user = |user: &str| {
            wants(Texts {
                request_uri_user: Some(user.into()),
                ..Texts::default()
            })
        };
        let domain = |method: &str, domain: &str| RouteRule {
            method: Some(method.into()),
            ..wants(Texts {
                from_domain: Some(domain.into()),
                ..Texts::default()
            })
        };
        let mut rules = (0..130)
            .map(|number| user(&format!("9{number:03}")))
            .collect::<Vec<_>>();
        rules.push(domain("REGISTER", "a"));
        rules.push(domain("INVITE", "b"));
        rules.push(RouteRule::everything_to(0));
        rules.push(wants(Texts {
            user_agent: Some("x".into()),
            ..Texts::default()
        }));
        let index = RuleIndex::new(&rules);
        let first = |method: &[u8], text: &'static [u8]| {
            let mut asked = Vec::new();
            let source = IpAddr::from([192, 0, 2, 1]);
            let found = index.first(ListenerIndex(0), method, source, |kind| {
                asked.push(kind);
                Some(text)
            });
            (found, asked)
        };
        let (user, domain) = (TextKind::RequestUriUser, TextKind::FromDomain);
        assert_eq!(first(b"INVITE", b"90071"), (Some(7), vec![user]));
        assert_eq!(first(b"INVITE", b"91291"), (Some(129), vec![user]));
        assert_eq!(first(b"OPTIONS", b"b"), (Some(132), vec![user]));
        assert_eq!(first(b"INVITE", b"B"), (Some(131), vec![user, domain]));
        assert_eq!(first(b"REGISTER", b"b"), (Some(132), vec![user, domain]));
    }
}
