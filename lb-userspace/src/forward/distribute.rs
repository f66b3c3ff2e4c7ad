//! Which backend a request without flow token goes to: rule, pool, strategy, what is remembered, and the limits on calls.

use std::{cell::LazyCell, net::SocketAddr, sync::Arc};

use super::{
    Memory, RouteRule, memory::source_bytes, next_hop::NextHop, refusal::Refusal, request::Request,
    route_rule::TextKind,
};
use crate::{
    balance::{Backend, BackendIndex, Key, Lifetime, Of, Pinned, Pool, Strategy},
    config::OnBreach,
    limit::Limit,
    sip::{Method, Span, Uri, fields_named, is_token, skip_lws, skip_quoted, skip_while},
    token::TransactionId,
};

/// Most parameters of credentials that are looked at for the user name.
const MAX_PARAMETERS: usize = 32;
/// New transactions of a call that was counted that are not counted again: answers to a challenge, to the one of another proxy, and to
/// that of a nonce that had become stale. Whoever goes on with the same Call-ID opens calls like anybody else.
const MAX_RETRIES: u16 = 3;
/// Turns the key of a call into that of its retries.
const RETRIES: u64 = 0x5265_7472_6965_7321;
/// Pinned for a call that goes on without a backend: to a client.
const NO_BACKEND: BackendIndex = BackendIndex(u16::MAX);

/// Why a call was refused, as a pin has it.
const ANSWERED: u16 = 0;
const SILENT: u16 = 1;

/// What a worker remembers of the transaction and the call that a request belongs to.
pub(super) struct Remembered<'m> {
    memory: &'m mut Memory,
    transaction: u64,
    call: u64,
    lifetime: Lifetime,
    now_ns: u64,
}

impl<'m> Remembered<'m> {
    pub fn new(
        request: &Request<'_>,
        transaction: TransactionId,
        memory: &'m mut Memory,
        now_ns: u64,
    ) -> Self {
        let lifetime = match request.method {
            Method::Invite => Lifetime::Ringing,
            _ => Lifetime::Transaction,
        };
        let call = request.ahead.call.unwrap_or_else(|| {
            memory.hash(&Key::Call {
                call_id: request.call_id(),
                from_tag: request.tag_of_from(),
            })
        });
        Self {
            transaction: transaction.number(),
            call,
            memory,
            lifetime,
            now_ns,
        }
    }

    /// Its call does not ring any more: an ACK says so, to whatever response.
    pub fn is_answered(&mut self) {
        let pins = &mut self.memory.pins;
        pins.touch(self.call, Lifetime::Transaction, self.now_ns);
        pins.touch(self.transaction, Lifetime::Transaction, self.now_ns);
    }

    fn of_transaction(&mut self) -> Option<Pinned> {
        self.memory.pins.get(self.transaction, self.now_ns)
    }

    fn of_call(&mut self) -> Option<Pinned> {
        self.memory.pins.get(self.call, self.now_ns)
    }

    /// True when a new transaction of a call that has been counted is not one too many of them.
    fn takes_retry(&mut self) -> bool {
        let pins = &mut self.memory.pins;
        let key = self.call ^ RETRIES;
        let before = match pins.get(key, self.now_ns) {
            Some(Pinned::Refused(retries)) => retries,
            _ => 0,
        };
        let retries = Pinned::Refused(before.saturating_add(1));
        pins.put(key, Of::Invite, retries, self.lifetime, self.now_ns);
        before < MAX_RETRIES
    }

    fn pin_transaction(&mut self, pinned: Pinned) {
        let of = match self.lifetime {
            Lifetime::Ringing => Of::Invite,
            Lifetime::Transaction => Of::Something,
        };
        let pins = &mut self.memory.pins;
        pins.put(self.transaction, of, pinned, self.lifetime, self.now_ns);
    }

    fn pin_call(&mut self, pinned: Pinned) {
        let pins = &mut self.memory.pins;
        pins.put(self.call, Of::Something, pinned, self.lifetime, self.now_ns);
    }
}

impl<'a> Request<'a> {
    /// True for a request that opens a call. A retransmission of it looks the same.
    pub fn opens_call(&self) -> bool {
        self.method == Method::Invite && self.message.to_tag().is_none()
    }

    /// Lets a call pass that something else than a pool leads, when the limits do.
    pub fn admit(&self, next_hop: NextHop, mut known: Remembered<'_>) -> Result<NextHop, Refusal> {
        if !self.opens_call() {
            return Ok(next_hop);
        }
        match known.of_transaction() {
            Some(Pinned::Refused(how)) => return Err(self.refused_again(how, known.transaction)),
            Some(Pinned::Backend(_)) => return Ok(next_hop),
            Some(Pinned::Tried(_)) | None => {}
        }
        let is_known = matches!(known.of_call(), Some(Pinned::Backend(_)));
        if !(is_known && known.takes_retry()) {
            self.take_place(&[self.of_source().map(|limit| &**limit)], &mut known)?;
        }
        let pinned = Pinned::Backend(next_hop.backend.unwrap_or(NO_BACKEND));
        known.pin_transaction(pinned);
        known.pin_call(pinned);
        Ok(next_hop)
    }

    /// The backend that the pool of the first rule that matches gives the request to.
    pub fn distribute(&self, mut known: Remembered<'_>) -> Result<NextHop, Refusal> {
        let (_, rule) = self.rule().ok_or(Refusal::NO_RULE)?;
        let pool = self.table.pools.get(rule.pool).ok_or(Refusal::NO_BACKEND)?;
        let strategy = rule.strategy.unwrap_or(pool.strategy);
        let follows = matches!(self.method, Method::Ack | Method::Cancel);
        let key = self.key(strategy);
        let by_turns = key.is_none() && strategy != Strategy::First;
        // Mostly it has been looked up ahead: a load from the table of slots waits for memory.
        let slot = match (strategy, self.ahead.slot) {
            (Strategy::HashCallId, Some(slot)) => Some(slot),
            _ => pool.slot(&key.unwrap_or(Key::Text(self.call_id()))),
        };

        // A retransmission, CANCEL or ACK goes where its request went, unless nobody is there any more.
        let before = known.of_transaction();
        match before {
            Some(Pinned::Refused(how)) if !follows => {
                return Err(self.refused_again(how, known.transaction));
            }
            Some(Pinned::Backend(index)) => {
                // What is no part of an INVITE's transaction goes by its own rule, whatever it pretends to be. CANCEL and ACK follow
                // an INVITE also when rules have changed since.
                let home = (!follows).then_some(rule.pool);
                if let Some(address) = self.table.keeps_transactions(index, home)
                    && address.is_ipv4() == self.listener.address.is_ipv4()
                {
                    if self.method == Method::Ack {
                        known.is_answered();
                    }
                    return Ok(self.to_pool(index, address));
                }
            }
            _ => {}
        }
        if self.method == Method::Ack {
            known.is_answered();
        }
        let of_slot = || slot.and_then(|slot| pool.at(slot));
        if follows {
            // Its request came to another node, or too long ago.
            let picked = match strategy {
                Strategy::First => pool.first(),
                _ => of_slot(),
            };
            return picked
                .map(|backend| self.of_backend(backend))
                .ok_or(Refusal::NO_BACKEND);
        }

        // With credentials, after a 401 or 407, the call goes to the server that asked for them, which knows its nonce.
        let keeps_call = self.opens_call() || by_turns;
        let call = keeps_call.then(|| known.of_call()).flatten();
        let again = match call {
            Some(Pinned::Backend(index)) if strategy != Strategy::HashAuthUsername || by_turns => {
                let address = self.table.keeps_transactions(index, Some(rule.pool));
                address.map(|address| (index, address))
            }
            _ => None,
        };
        let is_known = matches!(call, Some(Pinned::Backend(_)));
        let is_new_call =
            self.opens_call() && before.is_none() && !(is_known && known.takes_retry());
        let next_hop = match again {
            Some((index, address)) if !is_new_call => self.to_pool(index, address),
            _ => {
                let picked = match strategy {
                    Strategy::First => pool.first(),
                    _ if by_turns => pool.next(rule.pool, &mut known.memory.turns),
                    _ => of_slot(),
                };
                let picked = picked.ok_or(Refusal::NO_BACKEND)?;
                match is_new_call {
                    true => self.admit_to(pool, rule, picked, slot, &mut known)?,
                    false => self.of_backend(picked),
                }
            }
        };
        if let Some(index) = next_hop.backend
            && (self.opens_call() || !strategy.is_exact_across_nodes())
        {
            known.pin_transaction(Pinned::Backend(index));
            if keeps_call {
                known.pin_call(Pinned::Backend(index));
            }
        }
        Ok(next_hop)
    }

    /// Lets a new call pass to the backend that was picked, or to its next best where that one has its fill.
    fn admit_to(
        &self,
        pool: &Pool,
        rule: &RouteRule,
        picked: &Backend,
        slot: Option<usize>,
        known: &mut Remembered<'_>,
    ) -> Result<NextHop, Refusal> {
        let now_ns = known.now_ns;
        let has_room = |backend: &Backend| {
            let limit = backend.limit.as_deref();
            limit.is_none_or(|limit| limit.has_room(now_ns))
        };
        let fits = if has_room(picked) {
            Some(picked)
        } else {
            if let Some(limit) = &picked.limit {
                limit.count_breached();
            }
            slot.and_then(|slot| pool.next_best(slot, has_room))
        };
        let Some(backend) = fits else {
            self.table.calls.node.count_breached();
            return Err(self.breach(known));
        };
        let limits = [
            self.of_source().map(|limit| &**limit),
            rule.limit.as_deref(),
            backend.limit.as_deref(),
        ];
        self.take_place(&limits, known)?;
        Ok(self.of_backend(backend))
    }

    fn of_backend(&self, backend: &Backend) -> NextHop {
        self.to_pool(backend.index, backend.address)
    }

    fn to_pool(&self, index: BackendIndex, address: SocketAddr) -> NextHop {
        NextHop::to_pool(index, address, self.listener_index)
    }

    fn of_source(&self) -> Option<&Arc<Limit>> {
        self.table.calls.of_source(self.source.ip())
    }

    /// Takes a place in the limit of the node and in all of these, or in none.
    ///
    /// All are asked before any place is taken. Where other workers take the last one in between, the places that were
    /// taken by then stay taken: for a moment fewer calls are accepted than could be, and never more.
    fn take_place(
        &self,
        limits: &[Option<&Limit>],
        known: &mut Remembered<'_>,
    ) -> Result<(), Refusal> {
        let node = &*self.table.calls.node;
        let all = || limits.iter().copied().flatten().chain([node]);
        let full = all()
            .find(|limit| !limit.has_room(known.now_ns))
            .or_else(|| all().find(|limit| !limit.take(known.now_ns)));
        match full {
            None => {
                all().for_each(Limit::count_accepted);
                Ok(())
            }
            Some(full) => {
                full.count_breached();
                if !std::ptr::eq(full, node) {
                    node.count_breached();
                }
                Err(self.breach(known))
            }
        }
    }

    /// Refuses a call that is above a limit.
    fn breach(&self, known: &mut Remembered<'_>) -> Refusal {
        let breach = &self.table.breach;
        let memory = &mut *known.memory;
        let source = memory.hash(&Key::Text(&source_bytes(self.source.ip())));
        let is_pushing = memory.must_be_silent(source, breach.silence_after, known.now_ns);
        let how = match breach.on_breach {
            OnBreach::Status(_) if !is_pushing => ANSWERED,
            _ => SILENT,
        };
        known.pin_transaction(Pinned::Refused(how));
        self.refused_again(how, known.transaction)
    }

    fn refused_again(&self, how: u16, transaction: u64) -> Refusal {
        match self.table.breach.on_breach {
            OnBreach::Status(status) if how == ANSWERED => {
                // Up to twice as long, so that not all come back at once; the same for a retransmission.
                let least = self.table.breach.retry_after_s;
                let more = (transaction % (u64::from(least) + 1)) as u32;
                Refusal::of_breach(status, least + more)
            }
            _ => Refusal::SILENCE,
        }
    }

    /// The first route rule that matches, and its place in [`super::Table::routes`].
    pub fn rule(&self) -> Option<(usize, &'a RouteRule)> {
        let method = self.method_name.of(self.bytes);
        let request_uri = LazyCell::new(|| Uri::parse(self.bytes, self.uri));
        let host = |uri: Option<Span>| Some(Uri::parse(self.bytes, uri?)?.host);
        let text = |kind| {
            let text = match kind {
                TextKind::RequestUriUser => request_uri.and_then(|uri| uri.user),
                TextKind::RequestUriDomain => request_uri.map(|uri| uri.host),
                TextKind::FromDomain => host(self.message.from_uri()),
                TextKind::ToDomain => host(self.message.to_uri()),
                TextKind::UserAgent => self.header(b"User-Agent"),
            };
            text.map(|text| text.of(self.bytes))
        };
        self.table
            .rule(self.listener_index, method, self.source.ip(), text)
    }

    /// What a strategy picks a backend by; `None` where it goes by turns or by the list.
    pub fn key(&self, strategy: Strategy) -> Option<Key<'a>> {
        let uri = |uri: Option<Span>, user_only| {
            Some(uri.map_or(Key::Text(&[]), |uri| self.uri_key(uri, user_only)))
        };
        match strategy {
            Strategy::HashCallId => Some(Key::Text(self.call_id())),
            Strategy::HashFromUri { user_only } => uri(self.message.from_uri(), user_only),
            Strategy::HashToUri { user_only } => uri(self.message.to_uri(), user_only),
            Strategy::HashRequestUri { user_only } => uri(Some(self.uri), user_only),
            Strategy::HashAuthUsername => self.username().map(Key::Text),
            Strategy::Random => Some(Key::Call {
                call_id: self.call_id(),
                from_tag: self.tag_of_from(),
            }),
            Strategy::WeightedRoundRobin | Strategy::First => None,
        }
    }

    fn uri_key(&self, uri: Span, user_only: bool) -> Key<'a> {
        let Some(read) = Uri::parse(self.bytes, uri) else {
            // Of another scheme: a telephone number, a service.
            return Key::Text(uri.of(self.bytes));
        };
        let user = read.user.map_or(&[][..], |user| user.of(self.bytes));
        let default = if read.secure { 5061 } else { 5060 };
        Key::Uri {
            user,
            host: match user_only && !user.is_empty() {
                true => &[],
                false => read.host.of(self.bytes),
            },
            port: read.port.filter(|port| *port != default),
        }
    }

    pub fn call_id(&self) -> &'a [u8] {
        let call_id = self.message.call_id;
        call_id.map_or(&[][..], |field| field.value.of(self.bytes))
    }

    fn tag_of_from(&self) -> &'a [u8] {
        let tag = self.message.from_tag();
        tag.map_or(&[][..], |tag| tag.of(self.bytes))
    }

    /// The user name of Proxy-Authorization, else of Authorization.
    fn username(&self) -> Option<&'a [u8]> {
        let names: [&[u8]; 2] = [b"Proxy-Authorization", b"Authorization"];
        let fields = names.into_iter().filter_map(|name| self.header(name));
        let mut users = fields.filter_map(|field| username_of(self.bytes, field));
        users.next().filter(|user| !user.is_empty())
    }

    /// The value of the first header field of this name that is none of those that are always read.
    fn header(&self, name: &[u8]) -> Option<Span> {
        let names = [name];
        let mut fields = fields_named(self.bytes, self.message.headers, &names);
        fields.next().map(|field| field.value)
    }
}

/// The value of `username` in credentials (RFC 3261 §20.7, RFC 7616 §3.4), without its quotes.
fn username_of(bytes: &[u8], credentials: Span) -> Option<&[u8]> {
    let end = credentials.end();
    let mut position = skip_while(bytes, credentials.start(), end, is_token);
    for _ in 0..MAX_PARAMETERS {
        position = skip_while(bytes, position, end, |byte| {
            matches!(byte, b' ' | b'\t' | b'\r' | b'\n' | b',')
        });
        let name_end = skip_while(bytes, position, end, is_token);
        let name = bytes.get(position..name_end)?;
        position = skip_lws(bytes, name_end, end);
        if name.is_empty() || bytes.get(position..end)?.first() != Some(&b'=') {
            return None;
        }
        let start = skip_lws(bytes, position + 1, end);
        let is_quoted = bytes.get(start..end)?.first() == Some(&b'"');
        position = match is_quoted {
            true => skip_quoted(bytes, start, end)?,
            false => skip_while(bytes, start, end, is_token),
        };
        if name.eq_ignore_ascii_case(b"username") {
            let value = bytes.get(start..position)?;
            return match is_quoted {
                true => value.get(1..value.len().checked_sub(1)?),
                false => Some(value),
            };
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn user_names() {
        for (text, want) in [
            (r#"Digest username="bob", realm="a""#, Some("bob")),
            (
                r#"Digest realm="x, username=\"no\"",USERNAME = "b@c""#,
                Some("b@c"),
            ),
            ("Digest\r\n realm=a,\r\n username=bob", Some("bob")),
            (r#"Digest username="""#, Some("")),
            (r#"Digest username="bob"#, None),
            ("Digest username", None),
            ("Digest", None),
            ("", None),
            ("Digest ,,,=", None),
        ] {
            let bytes = text.as_bytes();
            let user = username_of(bytes, Span::new(0, bytes.len()));
            assert_eq!(user, want.map(str::as_bytes), "{text}");
        }
    }
}
