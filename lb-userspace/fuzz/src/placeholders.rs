//! Text that stands for what a fuzzer cannot come up with, because it is signed.
//!
//! | placeholder | becomes |
//! |---|---|
//! | `@VIP@` | host and port of the listener |
//! | `@T0@` ... `@T3@` | a valid flow token of a dialog that a client began |
//! | `@R0@` ... `@R3@` | the same of a registration, as in our Path |
//! | `@O0@` ... `@O3@` | the same of a call that the backend made to somebody who needs no flow |
//! | `@I0@` ... `@I3@` | the same of a call that the backend made to the client |
//! | `@C0@` ... `@C3@` | a contact token of that client, for `lbr` |
//! | `@B0@` ... `@B3@` | a contact token of that backend, for `lbi` |
//! | `@HV@`, `@HR@`, `@HC@` | hidden Vias (`lbvi`), Record-Routes (`lbrr`), and a Call-ID (behind `lbc.`) |
//! | `@ID@` | a transaction id |
//! | `@MAC@` | in a response, the MAC of that transaction id for where the Via below the top one, or in it, says the response goes |
//! | `@TAG@` | the To tag that we give in our own reply to this request |

use std::net::SocketAddr;

use lb_userspace::{
    forward::{Datagram, Table},
    sip,
    token::{
        CONTACT_TOKEN_MAX, ContactOf, ContactToken, FLOW_TOKEN_MAX, FlowKind, FlowToken, HEX_LEN,
        HIDDEN_MAX, Hidden, HiddenText, TransactionParts,
    },
};

/// Client and backend of the tokens.
const TOKENS: [(&str, &str); 4] = [
    ("198.51.100.7:40000", "10.0.0.11:5060"),
    ("192.168.1.5:5060", "10.0.0.99:5070"),
    ("[2001:db8:1::7]:40000", "[2001:db8:2::11]:5060"),
    ("10.0.0.12:5060", "10.0.0.13:5080"),
];

/// What the parties of the contact tokens wrote behind their user part.
const CONTACT: &[u8] = b"192.168.1.5:5062;transport=udp";
/// Where responses go whose request had the hidden Vias.
pub const HIDDEN_TARGET: &str = "10.0.0.12:5060";
const HIDDEN_VIAS: &[u8] =
    b"Via: SIP/2.0/UDP 10.0.0.12;branch=z9hG4bKp1;rport=5060;received=10.0.0.12\r\n\
    v:SIP/2.0/UDP host.lan;branch=z9hG4bKr1\r\n";
const HIDDEN_ROUTES: &[u8] = b"<sip:10.0.0.12;lr>, <sip:10.0.0.14;lr>";
const HIDDEN_CALL_ID: &[u8] = b"c1@10.0.0.12";

/// The datagram's payload with text for its placeholders.
pub fn expand(table: &Table, datagram: &Datagram<'_>) -> Vec<u8> {
    let mut expanded = Vec::with_capacity(datagram.payload.len() + 256);
    let mut rest = datagram.payload;
    let mut macs = Vec::new();
    let mut tags = Vec::new();
    while let Some((byte, after)) = rest.split_first() {
        let name = after.iter().take(4).position(|byte| *byte == b'@');
        let name = name
            .filter(|_| *byte == b'@')
            .map_or(&[][..], |end| &after[..end]);
        match name {
            b"VIP" => {
                let listener = table.listeners.get(usize::from(datagram.listener.0));
                let text = listener.map_or(String::new(), |listener| listener.address.to_string());
                expanded.extend_from_slice(text.as_bytes());
            }
            [kind @ (b'T' | b'R' | b'O' | b'I'), digit @ b'0'..=b'3'] => {
                let (client, backend) = ends(*digit);
                let kind = match kind {
                    b'T' => FlowKind::FromClient,
                    b'R' => FlowKind::Registration,
                    b'O' => FlowKind::Outbound,
                    _ => FlowKind::ToClient,
                };
                let token = FlowToken {
                    kind,
                    ..FlowToken::new(client, backend)
                };
                let mut text = [0; FLOW_TOKEN_MAX];
                let len = table.keys.write_flow_token(&token, &mut text);
                expanded.extend_from_slice(&text[..len]);
            }
            [of @ (b'C' | b'B'), digit @ b'0'..=b'3'] => {
                let (client, backend) = ends(*digit);
                let (of, address) = match of {
                    b'C' => (ContactOf::Client, client),
                    _ => (ContactOf::Backend, backend),
                };
                let token = ContactToken::new(of, address, CONTACT).expect("short");
                let mut text = [0; CONTACT_TOKEN_MAX];
                let len = table.keys.write_contact_token(&token, &mut text);
                expanded.extend_from_slice(&text[..len]);
            }
            [b'H', kind @ (b'V' | b'R' | b'C')] => {
                let (kind, what) = match kind {
                    b'V' => (Hidden::Vias, HIDDEN_VIAS),
                    b'R' => (Hidden::Routes, HIDDEN_ROUTES),
                    _ => (Hidden::CallId, HIDDEN_CALL_ID),
                };
                let mut hidden = HiddenText::EMPTY;
                hidden.put(what).expect("short");
                let mut text = [0; HIDDEN_MAX];
                let len = table.keys.write_hidden(kind, &hidden, &mut text);
                expanded.extend_from_slice(&text[..len]);
            }
            b"ID" => expanded.extend_from_slice(&table.keys.transaction_id(&SOME).to_text()),
            b"MAC" | b"TAG" => {
                let places = if name == b"MAC" { &mut macs } else { &mut tags };
                places.push(expanded.len());
                expanded.extend_from_slice(&[b'0'; HEX_LEN]);
            }
            _ => {
                expanded.push(*byte);
                rest = after;
                continue;
            }
        }
        rest = &after[name.len() + 1..];
    }
    if !macs.is_empty()
        && let Some(mac) = mac(table, &expanded)
    {
        put(&mut expanded, &macs, &mac);
    }
    if !tags.is_empty()
        && let Some(tag) = tag(table, &expanded)
    {
        put(&mut expanded, &tags, &tag);
    }
    expanded
}

fn ends(digit: u8) -> (SocketAddr, SocketAddr) {
    let (client, backend) = TOKENS[usize::from(digit - b'0')];
    let address = |text: &str| text.parse().expect("an address");
    (address(client), address(backend))
}

/// Any transaction.
const SOME: TransactionParts<'static> = TransactionParts {
    branch: b"z9hG4bKx",
    sent_by_host: b"h",
    sent_by_port: 5060,
    call_id: b"c",
    cseq: 1,
    from_tag: b"f",
    request_uri: b"sip:u",
};

fn put(bytes: &mut [u8], places: &[usize], text: &[u8; HEX_LEN]) {
    for place in places {
        bytes[*place..][..HEX_LEN].copy_from_slice(text);
    }
}

fn mac(table: &Table, bytes: &[u8]) -> Option<[u8; HEX_LEN]> {
    let target = match sip::read(bytes).ok()?.next_via {
        Some(via) => via.response_target(bytes)?,
        None => HIDDEN_TARGET.parse().expect("an address"),
    };
    Some(table.keys.via_mac(table.keys.transaction_id(&SOME), target))
}

fn tag(table: &Table, bytes: &[u8]) -> Option<[u8; HEX_LEN]> {
    let message = sip::read(bytes).ok()?;
    let sip::StartLine::Request { uri, .. } = message.start_line else {
        return None;
    };
    let via = message.via?;
    let transaction = table.keys.transaction_id(&TransactionParts {
        branch: via.branch.map_or(&[][..], |branch| branch.of(bytes)),
        sent_by_host: via.host.of(bytes),
        sent_by_port: via.effective_port(),
        call_id: message.call_id?.value.of(bytes),
        cseq: message.cseq_number()?,
        from_tag: message.from_tag().map_or(&[][..], |tag| tag.of(bytes)),
        request_uri: uri.of(bytes),
    });
    Some(table.keys.to_tag(transaction))
}
