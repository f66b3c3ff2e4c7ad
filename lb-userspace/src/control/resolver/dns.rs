//! Record sets from name servers.
//!
//! hickory's name server pool does the wire: random ids and ports, retransmissions, TCP when an answer is truncated, the
//! better server first. Its cache is left out, since [`crate::names::Names`] is one, and so is its lookup on top: that
//! takes an alias in front of SRV records for the end of the chain, and knows search domains, which SIP does not.

use std::{
    net::{IpAddr, SocketAddr},
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use hickory_resolver::{
    NameServerPool, PoolContext, TlsConfig,
    config::{ConnectionConfig, NameServerConfig, ResolverOpts},
    net::{
        DnsError, NetError,
        runtime::TokioRuntimeProvider,
        xfer::{DnsHandle, FirstAnswer, RetryDnsHandle},
    },
    proto::{
        op::{DnsRequestOptions, DnsResponse, Query, ResponseCode},
        rr::{Name, RData, Record, RecordType},
    },
    system_conf::read_system_conf,
};
use tokio::{sync::Semaphore, task::JoinSet};

use super::lock;
use crate::names::{Dns, Naptr, Reply, Srv};

/// Queries on the wire at a time: each takes up to three descriptors a name server.
const MAX_QUERIES: usize = 64;
/// How often a query is repeated after the first attempt.
const RETRIES: usize = 1;
/// Aliases on the way from a name to its records that are asked for one by one.
const MAX_ALIASES: usize = 8;

/// Some name servers and what is known of them.
#[derive(Clone)]
pub struct NameServers {
    addresses: Arc<[SocketAddr]>,
    handle: RetryDnsHandle<NameServerPool<TokioRuntimeProvider>>,
    permits: Arc<Semaphore>,
}

impl NameServers {
    pub fn new(addresses: Vec<SocketAddr>, query_timeout: Duration) -> Self {
        let mut options = ResolverOpts::default();
        options.timeout = query_timeout;
        let servers = addresses.iter().map(|address| {
            let connections =
                [ConnectionConfig::udp(), ConnectionConfig::tcp()].map(|mut config| {
                    config.port = address.port();
                    config
                });
            NameServerConfig::new(address.ip(), true, connections.into())
        });
        let context = Arc::new(PoolContext::new(options, TlsConfig {}));
        let pool = NameServerPool::from_config(servers, context, TokioRuntimeProvider::default());
        Self {
            addresses: addresses.into(),
            handle: RetryDnsHandle::new(pool, RETRIES),
            permits: Arc::new(Semaphore::new(MAX_QUERIES)),
        }
    }

    pub fn addresses(&self) -> &[SocketAddr] {
        &self.addresses
    }

    /// For one question.
    pub fn asking(&self) -> Asking {
        Asking {
            servers: self.clone(),
            trouble: Arc::default(),
        }
    }
}

/// The name servers as one question meets them.
#[derive(Clone)]
pub struct Asking {
    servers: NameServers,
    trouble: Arc<Trouble>,
}

/// What went wrong with a question.
#[derive(Default)]
pub struct Trouble {
    /// No name server has answered some query, where SERVFAIL and REFUSED are answers.
    pub silence: AtomicBool,
    /// The last error.
    pub error: Mutex<Option<NetError>>,
}

impl Asking {
    pub fn trouble(&self) -> Arc<Trouble> {
        self.trouble.clone()
    }

    /// The records of a name, or of what it is an alias of.
    async fn records<R>(
        &self,
        name: &str,
        kind: RecordType,
        read: impl Fn(&RData) -> Option<R>,
    ) -> Reply<R> {
        let Ok(mut name) = Name::from_ascii(name) else {
            return Reply::Absent { ttl_s: None };
        };
        // No search domains.
        name.set_fqdn(true);
        let mut ttl_s = u32::MAX;
        for _ in 0..MAX_ALIASES {
            let response = match self.query(&name, kind).await {
                Ok(response) => response,
                Err(error) => return self.without_records(error, ttl_s),
            };
            let (end, aliases_ttl_s) = follow_aliases(&response.answers, &name);
            ttl_s = ttl_s.min(aliases_ttl_s);
            let mut records = Vec::new();
            for record in &response.answers {
                if record.name == end && record.record_type() == kind {
                    ttl_s = ttl_s.min(record.ttl);
                    records.extend(read(&record.data));
                }
            }
            if !records.is_empty() {
                return Reply::Records { records, ttl_s };
            }
            // An alias whose end is not in the answer, and nobody says that it does not exist: ask for the end.
            let negative_ttl_s = response.negative_ttl();
            let goes_on = end != name
                && negative_ttl_s.is_none()
                && response.response_code == ResponseCode::NoError;
            if !goes_on {
                let ttl_s = negative_ttl_s.map(|negative| negative.min(ttl_s));
                return Reply::Absent { ttl_s };
            }
            name = end;
        }
        self.failed("too many aliases".into())
    }

    async fn query(&self, name: &Name, kind: RecordType) -> Result<DnsResponse, NetError> {
        // Never closed.
        let _permit = self.servers.permits.acquire().await;
        let query = Query::query(name.clone(), kind);
        let lookup = self
            .servers
            .handle
            .lookup(query, DnsRequestOptions::default());
        let response = lookup.first_answer().await?;
        match response.response_code {
            ResponseCode::NoError | ResponseCode::NXDomain => Ok(response),
            code => Err(DnsError::ResponseCode(code).into()),
        }
    }

    /// hickory has an error for a plain "no such name" and "no such record" as well.
    fn without_records<R>(&self, error: NetError, aliases_ttl_s: u32) -> Reply<R> {
        match error {
            NetError::Dns(DnsError::NoRecordsFound(none))
                if matches!(
                    none.response_code,
                    ResponseCode::NoError | ResponseCode::NXDomain
                ) =>
            {
                Reply::Absent {
                    ttl_s: none.negative_ttl.map(|ttl_s| ttl_s.min(aliases_ttl_s)),
                }
            }
            error => self.failed(error),
        }
    }

    fn failed<R>(&self, error: NetError) -> Reply<R> {
        if matches!(
            error,
            NetError::Timeout | NetError::Io(_) | NetError::NoConnections | NetError::Busy
        ) {
            self.trouble.silence.store(true, Ordering::Relaxed);
        }
        *lock(&self.trouble.error) = Some(error);
        Reply::Failed
    }

    async fn addresses_of(&self, name: &str, ipv6: bool) -> Reply<IpAddr> {
        let kind = match ipv6 {
            true => RecordType::AAAA,
            false => RecordType::A,
        };
        self.records(name, kind, |data| match data {
            RData::A(address) => Some(IpAddr::V4(address.0)),
            RData::AAAA(address) => Some(IpAddr::V6(address.0)),
            _ => None,
        })
        .await
    }
}

impl Dns for Asking {
    async fn naptr(&self, name: &str) -> Reply<Naptr> {
        self.records(name, RecordType::NAPTR, |data| match data {
            RData::NAPTR(naptr) => Some(Naptr {
                order: naptr.order,
                preference: naptr.preference,
                flags: naptr.flags.to_vec(),
                services: naptr.services.to_vec(),
                replacement: naptr.replacement.to_ascii(),
            }),
            _ => None,
        })
        .await
    }

    async fn srv(&self, name: &str) -> Reply<Srv> {
        self.records(name, RecordType::SRV, |data| match data {
            RData::SRV(srv) => Some(Srv {
                priority: srv.priority,
                weight: srv.weight,
                port: srv.port,
                target: srv.target.to_ascii(),
            }),
            _ => None,
        })
        .await
    }

    async fn addresses(&self, names: &[String], ipv6: bool) -> Vec<Reply<IpAddr>> {
        let mut replies = vec![Reply::Failed; names.len()];
        let mut tasks = JoinSet::new();
        for (index, name) in names.iter().enumerate() {
            let (asking, name) = (self.clone(), name.clone());
            tasks.spawn(async move { (index, asking.addresses_of(&name, ipv6).await) });
        }
        while let Some(done) = tasks.join_next().await {
            // A task that broke leaves its reply a failure.
            if let Ok((index, reply)) = done {
                replies[index] = reply;
            }
        }
        replies
    }
}

/// Where the aliases in an answer lead from a name, and the least time to live of those on the way.
fn follow_aliases(answers: &[Record], name: &Name) -> (Name, u32) {
    let mut end = name.clone();
    let mut ttl_s = u32::MAX;
    // As many steps as there are records: a circle ends somewhere, and without records.
    for _ in answers {
        let next = answers.iter().find_map(|record| match &record.data {
            RData::CNAME(alias) if record.name == end => Some((&alias.0, record.ttl)),
            _ => None,
        });
        let Some((next, alias_ttl_s)) = next else {
            break;
        };
        end = next.clone();
        ttl_s = ttl_s.min(alias_ttl_s);
    }
    (end, ttl_s)
}

/// Those of `/etc/resolv.conf`; at least one.
pub fn system_name_servers() -> Result<Vec<SocketAddr>, NetError> {
    let (config, _) = read_system_conf()?;
    let servers = config.name_servers().iter();
    Ok(servers.map(|server| (server.ip, 53).into()).collect())
}
