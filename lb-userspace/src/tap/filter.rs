//! What somebody who looks wants to see.

use std::net::SocketAddr;

use ipnet::IpNet;
use memchr::memmem;
use serde::{Deserialize, Serialize};

use crate::{
    forward::{Outcome, OutcomeClass},
    sip::{Message, Span, StartLine, Uri},
};

/// Longest text of a filter, in bytes.
const LONGEST_TEXT: usize = 256;

/// What a person asks for. All that is given must hold of one message; from then on its whole call is wanted.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Criteria {
    /// The Call-ID contains this text, case kept. It is looked for in the Call-ID as it came, and in that of the inside where it was
    /// hidden.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub call_id: Option<String>,
    /// User or user@host of the URI in From.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub from: Option<String>,
    /// User or user@host of the URI in To.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub to: Option<String>,
    /// The message came from this network.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub source: Option<IpNet>,
    /// It was dropped, answered by us with an error, or is a response from 400 to 699.
    pub errors: bool,
}

/// [`Criteria`] made ready for workers, or a share of all calls.
#[derive(Debug)]
pub struct Filter {
    call_id: Option<memmem::Finder<'static>>,
    from: Option<Person>,
    to: Option<Person>,
    source: Option<IpNet>,
    errors: bool,
    sample: Option<Sample>,
}

/// A share of all calls, the same on every node.
#[derive(Debug)]
struct Sample {
    key: [u8; 16],
    /// Calls with a hash up to this one.
    highest: u64,
}

/// A message, as far as filters look at it.
pub(super) struct Seen<'a> {
    pub payload: &'a [u8],
    /// What was read of it.
    pub message: &'a Message,
    pub source: SocketAddr,
    pub outcome: Outcome,
    /// Our own reply; empty when there is none.
    pub reply: &'a [u8],
    /// Its Call-ID as the inside knows it.
    pub call_id: Option<&'a [u8]>,
}

impl Filter {
    /// # Errors
    /// What cannot be looked for, in words.
    pub fn new(criteria: &Criteria) -> Result<Self, String> {
        let text = |name: &str, text: &Option<String>| match text.as_deref() {
            Some("") => Err(format!("{name} is empty; leave it out to see everybody")),
            Some(text) if text.len() > LONGEST_TEXT => Err(format!(
                "{name} is longer than {LONGEST_TEXT} bytes; a part of it is enough"
            )),
            text => Ok(text.map(str::to_owned)),
        };
        let call_id = text("call_id", &criteria.call_id)?;
        let person = |name, given| {
            let given = text(name, given)?;
            given.map(|given| Person::new(name, &given)).transpose()
        };
        Ok(Self {
            call_id: call_id.map(|text| memmem::Finder::new(&text).into_owned()),
            from: person("from", &criteria.from)?,
            to: person("to", &criteria.to)?,
            source: criteria.source,
            errors: criteria.errors,
            sample: None,
        })
    }

    /// The share `sample` of all calls, above 0 and up to 1, by a hash of the Call-ID with this key.
    pub fn sample(sample: f64, key: [u8; 16]) -> Self {
        Self {
            call_id: None,
            from: None,
            to: None,
            source: None,
            errors: false,
            // Casts to integers end at the highest one.
            sample: Some(Sample {
                key,
                highest: (sample * 2f64.powi(64)) as u64,
            }),
        }
    }

    /// Whether a call of which one message is wanted is wanted from then on. A share is one of whole calls already.
    pub(super) fn follows_calls(&self) -> bool {
        self.sample.is_none()
    }

    /// Whether this message alone is wanted.
    pub(super) fn matches(&self, seen: &Seen<'_>) -> bool {
        if let Some(sample) = &self.sample {
            return seen.message.is_read() && sample.has(seen.call_id.unwrap_or_default());
        }
        let bytes = seen.payload;
        let has_uri = |person: &Option<Person>, uri: Option<Span>| match (person, uri) {
            (None, _) => true,
            (Some(person), Some(uri)) => person.is_in(bytes, uri),
            (Some(_), None) => false,
        };
        let has_call_id = self.call_id.as_ref().is_none_or(|wanted| {
            let as_it_came = seen.message.call_id.map(|field| field.value.of(bytes));
            let mut texts = [seen.call_id, as_it_came].into_iter().flatten();
            texts.any(|text| wanted.find(text).is_some())
        });
        self.source
            .is_none_or(|network| network.contains(&seen.source.ip()))
            && (!self.errors || seen.is_error())
            && has_call_id
            && has_uri(&self.from, seen.message.from_uri())
            && has_uri(&self.to, seen.message.to_uri())
    }
}

impl Sample {
    fn has(&self, call_id: &[u8]) -> bool {
        let hasher = siphasher::sip::SipHasher13::new_with_key(&self.key);
        hasher.hash(call_id) <= self.highest
    }
}

impl Seen<'_> {
    fn is_error(&self) -> bool {
        if let StartLine::Response { status } = self.message.start_line
            && status >= 400
        {
            return true;
        }
        match self.outcome.class() {
            // It is not decided yet.
            OutcomeClass::Drop => self.outcome != Outcome::AwaitsName,
            // `SIP/2.0 4..` to `6..`; what is no SIP has no such place.
            OutcomeClass::Reply => {
                self.reply.starts_with(b"SIP/")
                    && self.reply.get(8).is_some_and(|digit| *digit >= b'4')
            }
            OutcomeClass::Forward | OutcomeClass::Absorb => false,
        }
    }
}

/// A user, and a host if that matters.
#[derive(Debug)]
struct Person {
    user: Vec<u8>,
    host: Option<Vec<u8>>,
}

impl Person {
    fn new(name: &str, text: &str) -> Result<Self, String> {
        let bare = ["sip:", "sips:", "tel:"]
            .iter()
            .find_map(|scheme| text.strip_prefix(scheme))
            .unwrap_or(text);
        let (user, host) = match bare.rsplit_once('@') {
            Some((user, host)) => (user, Some(host)),
            None => (bare, None),
        };
        if user.is_empty() || host == Some("") {
            return Err(format!(
                "{name} {text:?} is no user; write one such as alice or alice@example.com"
            ));
        }
        Ok(Self {
            user: user.into(),
            host: host.map(Into::into),
        })
    }

    /// Users count with case (RFC 3261 §19.1.4), hosts without. What stands behind a user's `;` or `:` is of no concern.
    fn is_in(&self, bytes: &[u8], uri: Span) -> bool {
        let until = |text: &[u8], ends: [u8; 2]| {
            let end = text.iter().position(|byte| ends.contains(byte));
            text[..end.unwrap_or(text.len())] == self.user
        };
        match Uri::parse(bytes, uri) {
            Some(found) => {
                let host = found.host.of(bytes);
                found.user.is_some_and(|user| {
                    let user = user.of(bytes);
                    user == self.user || until(user, [b';', b':'])
                }) && self
                    .host
                    .as_ref()
                    .is_none_or(|wanted| wanted.eq_ignore_ascii_case(host))
            }
            // `tel:` has no host (RFC 3966).
            None => {
                let number = uri.of(bytes).split_first_chunk::<4>();
                number.is_some_and(|(scheme, number)| {
                    scheme.eq_ignore_ascii_case(b"tel:") && until(number, [b';', b';'])
                }) && self.host.is_none()
            }
        }
    }
}
