//! What becomes of a response (RFC 3261 §16.7, §18.1.2, §18.2.2).

use std::net::SocketAddr;

use super::{
    Action, Datagram, Edits, EditsFull, Listener, Outcome, Scratch, Table, Verdict,
    client_address::announce,
    registration::{Granted, is_natted},
    topology::{self, HiddenVias},
};
use crate::{
    balance::Lifetime,
    nat::{self, Examined, Facts, Notes},
    sip::{Message, Span, StartLine, Via, parse_ip},
    token::{ContactOf, MAGIC_COOKIE, TransactionId},
};

/// Decides on a response: our Via comes off, and it goes where the next one says, if our MAC says so too. Otherwise
/// anybody could have us send packets to anybody.
pub(super) fn decide(
    table: &Table,
    listener: &Listener,
    datagram: &Datagram<'_>,
    message: &Message,
    scratch: &mut Scratch,
) -> Verdict {
    let edits = &mut scratch.edits;
    let bytes = datagram.payload;
    let (Some(via), None) = (message.via, message.fault) else {
        return Verdict::without_sending(Outcome::MalformedResponse);
    };
    if !is_own(listener, bytes, &via) {
        return Verdict::without_sending(Outcome::ResponseNotOurs);
    }
    let hidden_vias = hidden_vias(table, bytes, message, &via);
    let target = match (message.next_via, &hidden_vias) {
        (Some(next_via), _) => next_via.response_target(bytes),
        (None, Some(hidden)) => Some(hidden.target),
        (None, None) => return Verdict::without_sending(Outcome::ResponseNoSecondVia),
    };
    // No MAC of ours leads to a listener that was one when it was made; one that leads to a new one would come back.
    let elsewhere = target.filter(|target| !table.is_listener(*target));
    let verified = elsewhere.and_then(|target| {
        let transaction = transaction_of(bytes, &via);
        let mac = via.mac.map_or(&[][..], |mac| mac.of(bytes));
        let signer = table.keys.via_signer(transaction, mac, target)?;
        Some((target, signer))
    });
    let Some((to, signer)) = verified else {
        return Verdict::without_sending(Outcome::ResponseBadMac);
    };
    let removed = match via.next {
        Some(next) => Span::new(via.value.start(), next),
        None => message.via_line,
    };
    let from_inside = table.is_inside(datagram.source.ip());
    let mut nat = match from_inside {
        true => None,
        false => examine(table, datagram, message, &mut scratch.nat),
    };
    let announced = announce(table, datagram.source, listener.address, to, edits);
    let mended = match &mut nat {
        Some(nat) => nat.fix(&table.keys, to, edits),
        None => Ok(()),
    };
    let granted = granted(table, datagram, message, to, via.value, from_inside);
    // Behind the MAC stands what the request had hidden: its Call-ID is hidden again also where nothing else is.
    let had_hidden = via.mac.is_some_and(|mac| mac.end() < via.value.end());
    if (table.hides || had_hidden) && from_inside && !table.is_inside(to.ip()) {
        let call_id = topology::hidden_call_id(bytes, via.value, signer);
        let call_id = call_id.map(|signer| table.keys_of(signer));
        let source = datagram.source;
        let hidden = match table.hides {
            true => {
                topology::hide_response(table, listener, bytes, message, source, call_id, edits)
            }
            false => topology::hide_call_id(table, bytes, message, call_id, edits),
        };
        if hidden.is_err() {
            return Verdict::without_sending(Outcome::ResponseTooMuchToHide);
        }
    }
    let revealed = match from_inside {
        true => Ok(()),
        // From one client to another, past the inside: a Call-ID is what the other one showed.
        false if hidden_vias.is_none() && !table.is_inside(to.ip()) => {
            let call_id = topology::hidden_call_id(bytes, via.value, signer);
            let call_id = call_id.map(|signer| table.keys_of(signer));
            topology::hide_call_id(table, bytes, message, call_id, edits)
        }
        false => topology::reveal_response(table, bytes, message, edits),
    };
    let vias = hidden_vias.as_ref().map_or(&[][..], HiddenVias::as_slice);
    let edited = announced
        .and(mended)
        .and(revealed)
        .and_then(|()| granted.map_or(Ok(()), |granted| granted.mend(edits)))
        .and_then(|()| edits.push(removed.start(), removed.len(), vias))
        .and_then(|()| pad(message, edits))
        .and_then(|()| edits.finish());
    if let Some(transaction) = TransactionId::from_text(transaction_of(bytes, &via)) {
        if let Some(seen) = &mut scratch.seen {
            seen.transaction = Some(transaction);
        }
        let (memory, now_ns) = (&mut scratch.memory, scratch.now_ns);
        if message.is_final_response() {
            // It does not ring any more: what is still to come of it comes soon.
            let pins = &mut memory.pins;
            pins.touch(transaction.number(), Lifetime::Transaction, now_ns);
        }
        if !from_inside {
            memory.is_heard(transaction, datagram.source, now_ns);
        }
    }
    if edited.is_err() {
        return Verdict::without_sending(Outcome::NoRoomForEdits);
    }
    Verdict {
        outcome: Outcome::Response,
        action: Action::Forward {
            to,
            from: datagram.listener,
            backend: None,
            initial_invite: false,
            wants_answer: false,
        },
        nat: nat.map(|nat| nat.decision).unwrap_or_default(),
    }
}

/// A blank before the number of CSeq when the length changes by an odd number, so that what follows the edits keeps its
/// place in the 16-bit sums.
fn pad(message: &Message, edits: &mut Edits) -> Result<(), EditsFull> {
    match message.cseq {
        Some(cseq) if edits.is_odd() => edits.push(cseq.value.start(), 0, b" "),
        _ => Ok(()),
    }
}

/// Looks for a NAT between us and the client that sent the response, if a client did and that is wanted.
fn examine<'a>(
    table: &'a Table,
    datagram: &Datagram<'a>,
    message: &'a Message,
    notes: &'a mut Notes,
) -> Option<Examined<'a>> {
    let method = cseq_method(datagram.payload, message)?;
    let policy = table.nat_policy(datagram.listener, method, datagram.source.ip());
    let facts = Facts {
        bytes: datagram.payload,
        message,
        source: datagram.source,
        private: &table.private,
    };
    (!policy.detect.is_empty()).then(|| nat::examine(policy, facts, notes))
}

/// The Vias that ours has in it, when there is none below it.
fn hidden_vias(table: &Table, bytes: &[u8], message: &Message, via: &Via) -> Option<HiddenVias> {
    match message.next_via {
        Some(_) => None,
        None => HiddenVias::read(table, bytes, via.value),
    }
}

/// Where a response goes by its Vias, ours not among them.
pub(super) fn target(
    table: &Table,
    bytes: &[u8],
    message: &Message,
    via: &Via,
) -> Option<SocketAddr> {
    match message.next_via {
        Some(next_via) => next_via.response_target(bytes),
        None => hidden_vias(table, bytes, message, via).map(|vias| vias.target),
    }
}

/// What a registrar granted, when this is its answer to a REGISTER of the client at `to`. `our_via` was on top of it.
fn granted<'a>(
    table: &'a Table,
    datagram: &Datagram<'a>,
    message: &'a Message,
    to: SocketAddr,
    our_via: Span,
    from_inside: bool,
) -> Option<Granted<'a>> {
    let bytes = datagram.payload;
    let cseq = message.cseq?.value.of(bytes);
    if !cseq.ends_with(b"REGISTER") {
        return None;
    }
    let method = cseq_method(bytes, message).filter(|method| *method == b"REGISTER")?;
    let of = match from_inside {
        true => ContactOf::Client,
        false => ContactOf::Backend,
    };
    let has_expiry = of == ContactOf::Client
        && matches!(
            message.start_line,
            StartLine::Response { status: 200..=299 }
        )
        && is_natted(bytes, our_via);
    // The same policy as for the request: it came from there to here.
    let policy = table.nat_policy(datagram.listener, method, to.ip());
    Some(Granted {
        table,
        bytes,
        message,
        client: to,
        of,
        max_expires: policy.max_expires.filter(|_| has_expiry),
    })
}

/// The method in CSeq: that of the request that a response answers.
pub(super) fn cseq_method<'a>(bytes: &'a [u8], message: &Message) -> Option<&'a [u8]> {
    let cseq = message.cseq?.value.of(bytes);
    cseq.rsplit(|byte| byte.is_ascii_whitespace()).next()
}

/// True when sent-by is the listener. Numbers count, not text: a peer may have written the address anew.
pub(super) fn is_own(listener: &Listener, bytes: &[u8], via: &Via) -> bool {
    via.effective_port() == listener.address.port()
        && parse_ip(via.host.of(bytes)) == Some(listener.address.ip())
}

/// The branch without its magic cookie; nothing when it has none.
pub(super) fn transaction_of<'a>(bytes: &'a [u8], via: &Via) -> &'a [u8] {
    let branch = via.branch.map_or(&[][..], |branch| branch.of(bytes));
    match branch.split_at_checked(MAGIC_COOKIE.len()) {
        Some((cookie, transaction)) if cookie.eq_ignore_ascii_case(MAGIC_COOKIE) => transaction,
        _ => &[],
    }
}
