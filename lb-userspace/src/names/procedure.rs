//! RFC 3263 §4.1 and §4.2 over record sets, for a client that speaks UDP alone.

use std::{
    future::Future,
    net::{IpAddr, SocketAddr},
};

use super::{
    Answer, DEFAULT_NEGATIVE_TTL_S, FAILED_TTL_S, Found, MAX_NAME_LEN, MAX_NEGATIVE_TTL_S,
    OwnedQuestion, Target, Targets,
};
use crate::config::is_unicast;

/// NAPTR records that are tried.
const MAX_NAPTR: usize = 8;
/// SRV records of a set that are used.
const MAX_SRV: usize = 16;
/// Addresses of a name that are used. [`Targets::WEIGHT_UNIT`] can be divided by every number up to this.
const MAX_ADDRESSES: usize = 8;
/// Where a host is asked for its SIP service over UDP.
const SERVICE: &str = "_sip._udp.";
const DEFAULT_PORT: u16 = 5060;

/// A NAPTR record (RFC 3403 §4.1) without its regular expression, which SIP does not use.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Naptr {
    /// Lower ones first.
    pub order: u16,
    /// Within one order, lower ones first.
    pub preference: u16,
    /// `s`: the replacement has SRV records.
    pub flags: Vec<u8>,
    /// `SIP+D2U`: SIP over UDP.
    pub services: Vec<u8>,
    /// The next name.
    pub replacement: String,
}

/// An SRV record (RFC 2782).
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Srv {
    /// Lower ones first.
    pub priority: u16,
    /// Where the server is; `.` says that there is decidedly no such service.
    pub target: String,
    /// Port there.
    pub port: u16,
    /// Share within one priority.
    pub weight: u16,
}

/// What the DNS says about one name and type.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Reply<R> {
    /// Records; at least one.
    Records {
        /// In any order, and maybe more than are of use.
        records: Vec<R>,
        /// Least time to live of them and of the aliases (CNAME) on the way, in seconds.
        ttl_s: u32,
    },
    /// No such name, or no such record.
    Absent {
        /// How long that is so, in seconds, if the name server says it (RFC 2308 §5).
        ttl_s: Option<u32>,
    },
    /// No name server answered, or none could (SERVFAIL, REFUSED).
    Failed,
}

/// Who asks the name servers. Names are fully qualified whether they end with a dot or not.
pub trait Dns {
    /// The NAPTR records of a name.
    fn naptr(&self, name: &str) -> impl Future<Output = Reply<Naptr>> + Send;

    /// The SRV records of a name.
    fn srv(&self, name: &str) -> impl Future<Output = Reply<Srv>> + Send;

    /// The A records, or AAAA records, of each of the names. They are best asked for at the same time.
    fn addresses(
        &self,
        names: &[String],
        ipv6: bool,
    ) -> impl Future<Output = Vec<Reply<IpAddr>>> + Send;
}

/// Finds the servers for a question.
///
/// What a name server could not tell is not taken for absent: the way on to SRV or address records is open only where
/// the DNS says that there is nothing better, since a node that guesses would send calls elsewhere than the others do.
/// Of several NAPTR records or SRV targets those that can be found are enough.
pub async fn find<D: Dns + Sync>(dns: &D, question: &OwnedQuestion) -> Found {
    let mut search = Search {
        dns,
        ipv6: question.ipv6(),
        ttl_s: u32::MAX,
    };
    let answer = match search.servers(question).await {
        Step::Found(targets) => Answer::Targets(Targets::new(targets)),
        Step::Absent | Step::Unusable => Answer::NotFound,
        Step::Failed => Answer::Failed,
    };
    Found::new(answer, search.ttl_s)
}

/// How one step of the procedure ends.
enum Step {
    Found(Vec<Target>),
    /// No records: the next step may know more.
    Absent,
    /// There are records, and they lead nowhere: no other step is asked.
    Unusable,
    Failed,
}

struct Search<'a, D> {
    dns: &'a D,
    ipv6: bool,
    /// Least time to live of everything that has been asked for.
    ttl_s: u32,
}

impl<D: Dns> Search<'_, D> {
    async fn servers(&mut self, question: &OwnedQuestion) -> Step {
        let host = question.host();
        if let Some(port) = question.port() {
            return self.by_address(host, port).await;
        }
        if !question.transport_given() {
            match self.by_naptr(host).await {
                // Whatever the NAPTR records say, they say nothing of UDP that works (RFC 3263 §4.1).
                Step::Absent | Step::Unusable => {}
                step => return step,
            }
        }
        match self.by_srv(&format!("{SERVICE}{host}")).await {
            Step::Absent => self.by_address(host, DEFAULT_PORT).await,
            step => step,
        }
    }

    async fn by_naptr(&mut self, host: &str) -> Step {
        let reply = self.dns.naptr(host).await;
        let mut records = match self.records(reply) {
            Ok(records) => records,
            Err(step) => return step,
        };
        records.retain(|naptr| {
            naptr.services.eq_ignore_ascii_case(b"SIP+D2U")
                && naptr.flags.eq_ignore_ascii_case(b"s")
                && !is_root(&naptr.replacement)
        });
        records.sort_unstable();
        records.truncate(MAX_NAPTR);
        let mut otherwise = Step::Absent;
        for naptr in records {
            match self.by_srv(&naptr.replacement).await {
                Step::Found(targets) => return Step::Found(targets),
                Step::Failed => otherwise = Step::Failed,
                Step::Absent | Step::Unusable => {}
            }
        }
        otherwise
    }

    async fn by_srv(&mut self, name: &str) -> Step {
        // The prefix may make a name too long for any record to have it.
        if name.trim_end_matches('.').len() > MAX_NAME_LEN {
            return Step::Absent;
        }
        let reply = self.dns.srv(name).await;
        let mut records = match self.records(reply) {
            Ok(records) => records,
            Err(step) => return step,
        };
        records.retain(|srv| srv.port != 0 && !is_root(&srv.target));
        for srv in &mut records {
            srv.target.make_ascii_lowercase();
        }
        records.sort_unstable();
        records.truncate(MAX_SRV);
        let mut names = records
            .iter()
            .map(|srv| srv.target.clone())
            .collect::<Vec<_>>();
        names.sort_unstable();
        names.dedup();
        if names.is_empty() {
            return Step::Unusable;
        }
        let mut otherwise = Step::Unusable;
        let mut targets = Vec::new();
        let replies = self.dns.addresses(&names, self.ipv6).await;
        for (name, reply) in names.iter().zip(replies) {
            let addresses = match self.addresses(reply) {
                Ok(addresses) => addresses,
                Err(Step::Failed) => {
                    otherwise = Step::Failed;
                    continue;
                }
                Err(_) => continue,
            };
            for srv in records.iter().filter(|srv| srv.target == *name) {
                targets.extend(targets_of(srv, &addresses));
            }
        }
        match targets.is_empty() {
            true => otherwise,
            false => Step::Found(targets),
        }
    }

    async fn by_address(&mut self, host: &str, port: u16) -> Step {
        let replies = self.dns.addresses(&[host.to_owned()], self.ipv6).await;
        let Some(reply) = replies.into_iter().next() else {
            return Step::Failed;
        };
        let addresses = match self.addresses(reply) {
            Ok(addresses) => addresses,
            Err(step) => return step,
        };
        let without_record = Srv {
            priority: 0,
            target: host.to_owned(),
            port,
            weight: 0,
        };
        Step::Found(targets_of(&without_record, &addresses).collect())
    }

    /// Addresses that a datagram can be sent to, in an order of their own.
    fn addresses(&mut self, reply: Reply<IpAddr>) -> Result<Vec<IpAddr>, Step> {
        let mut addresses = self.records(reply)?;
        addresses.retain(|address| is_unicast(*address) && address.is_ipv6() == self.ipv6);
        addresses.sort_unstable();
        addresses.dedup();
        addresses.truncate(MAX_ADDRESSES);
        match addresses.is_empty() {
            true => Err(Step::Unusable),
            false => Ok(addresses),
        }
    }

    /// The records, or how the step ends without any. What is absent or unknown bounds the answer's time to live as
    /// records do: with it the answer would be another.
    fn records<R>(&mut self, reply: Reply<R>) -> Result<Vec<R>, Step> {
        let (ttl_s, result) = match reply {
            Reply::Records { records, ttl_s } if !records.is_empty() => (ttl_s, Ok(records)),
            Reply::Records { ttl_s, .. } => (ttl_s, Err(Step::Absent)),
            Reply::Absent { ttl_s } => {
                let ttl_s = ttl_s.unwrap_or(DEFAULT_NEGATIVE_TTL_S);
                (ttl_s.min(MAX_NEGATIVE_TTL_S), Err(Step::Absent))
            }
            Reply::Failed => (FAILED_TTL_S, Err(Step::Failed)),
        };
        self.ttl_s = self.ttl_s.min(ttl_s);
        result
    }
}

/// The targets of one SRV record, whose weight they share.
fn targets_of(srv: &Srv, addresses: &[IpAddr]) -> impl Iterator<Item = Target> {
    let weight = u32::from(srv.weight) * Targets::WEIGHT_UNIT / addresses.len().max(1) as u32;
    addresses.iter().map(move |&address| Target {
        address: SocketAddr::new(address, srv.port),
        priority: srv.priority,
        weight,
    })
}

fn is_root(name: &str) -> bool {
    matches!(name, "" | ".")
}

#[cfg(test)]
mod tests;
