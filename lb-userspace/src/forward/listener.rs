//! Listeners, and what they put into messages.

use std::net::SocketAddr;

use super::{stamp::PAD, text::Text};
use crate::{
    config::PingReplies,
    nat::Policy,
    token::{HEX_LEN, MAGIC_COOKIE},
    validate::Validate,
};

/// Index of a listener in [`super::Table::listeners`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ListenerIndex(pub u16);

/// A VIP and port that messages arrive at and leave from.
#[derive(Clone, Debug)]
pub struct Listener {
    /// Name in the configuration.
    pub name: String,
    /// VIP and port.
    pub address: SocketAddr,
    /// What is done about clients behind a NAT; a route rule may say otherwise.
    pub nat: Policy,
    /// What is validated of requests from outside; `None` for nothing.
    pub validate: Option<Validate>,
    /// Which OPTIONS are answered here.
    pub ping_replies: PingReplies,
    /// What our header fields consist of besides tokens and MACs, written once.
    pub(super) template: Template,
}

impl Listener {
    /// A listener and the text that it puts into messages.
    pub fn new(name: String, address: SocketAddr) -> Self {
        Self {
            name,
            address,
            nat: Policy::default(),
            validate: None,
            ping_replies: PingReplies::default(),
            template: Template::new(address),
        }
    }

    /// The same with another NAT policy.
    pub fn with_nat(self, nat: Policy) -> Self {
        Self { nat, ..self }
    }

    /// The same listener with this validation.
    pub fn with_validate(self, validate: Option<Validate>) -> Self {
        Self { validate, ..self }
    }

    /// The same listener that answers these OPTIONS.
    pub fn with_ping_replies(self, ping_replies: PingReplies) -> Self {
        Self {
            ping_replies,
            ..self
        }
    }
}

/// The fixed parts of our header fields. Each field has an even number of bytes, so that what comes after it keeps its
/// place in 16-bit sums, when it is put in and when a response has it taken out.
#[derive(Clone, Debug)]
pub(super) struct Template {
    /// Via up to the transaction id.
    pub via: Text<96>,
    /// After the MAC.
    pub via_end: &'static [u8],
    /// After the flow token of a Record-Route or Path.
    pub record_route_end: Text<72>,
    /// After the flow token of a Path that says that we keep the flow open (RFC 5626 §5.1).
    pub outbound_path_end: Text<72>,
    /// VIP and port as a URI has them.
    pub host_port: Text<56>,
}

/// Between transaction id and MAC.
pub(super) const VIA_MAC: &[u8] = b";lbm=";
/// Before the flow token.
pub(super) const RECORD_ROUTE: &[u8] = b"Record-Route: <sip:";
/// The same for a Path. As odd as the other one, so that what follows can be the same.
pub(super) const PATH: &[u8] = b"Path: <sip:";

impl Template {
    fn new(address: SocketAddr) -> Self {
        let mut via = Text::new();
        via.put(b"Via: SIP/2.0/UDP ");
        via.put_host_port(address);
        via.put(b";branch=");
        via.put(MAGIC_COOKIE);
        let via_len = via.len() + HEX_LEN + VIA_MAC.len() + HEX_LEN;
        let via_end: &[u8] = if via_len.is_multiple_of(2) {
            b"\r\n"
        } else {
            b";lb\r\n"
        };

        // A flow token has an even number of characters, whatever the family and whether it is sealed.
        let after_token = |before: &[u8], parameters: &[u8]| {
            let mut text = Text::new();
            text.put(b"@");
            text.put_host_port(address);
            text.put(parameters);
            if (before.len() + text.len() + b">\r\n".len()) % 2 == 1 {
                text.put(PAD);
            }
            text.put(b">\r\n");
            text
        };
        let mut host_port = Text::new();
        host_port.put_host_port(address);
        Self {
            via,
            via_end,
            record_route_end: after_token(RECORD_ROUTE, b";lr"),
            outbound_path_end: after_token(PATH, b";lr;ob"),
            host_port,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn our_header_fields_are_even() {
        for address in [
            "203.0.113.10:5060",
            "203.0.113.1:5060",
            "1.2.3.4:5",
            "[2001:db8::1]:5060",
            "[2001:db8::10]:506",
            "[1111:2222:3333:4444:5555:6666:7777:8888]:65535",
        ] {
            let template = Listener::new("x".into(), address.parse().unwrap()).template;
            let via = template.via.len() + HEX_LEN + VIA_MAC.len() + HEX_LEN;
            assert_eq!((via + template.via_end.len()) % 2, 0, "{address}");
            for (before, after) in [
                (RECORD_ROUTE, template.record_route_end.len()),
                (PATH, template.record_route_end.len()),
                (PATH, template.outbound_path_end.len()),
            ] {
                assert_eq!((before.len() + 28 + after) % 2, 0, "{address}");
            }
        }
    }
}
