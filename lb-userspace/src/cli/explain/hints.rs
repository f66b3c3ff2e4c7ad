//! What to look at when a datagram does not go on.

use crate::forward::Outcome;

/// Where to look, for an outcome that surprises; `None` where nothing is wrong.
pub(super) fn hint(outcome: Outcome) -> Option<&'static str> {
    Some(match outcome {
        Outcome::MaxForwardsExceeded => {
            "a loop, if the sender did not mean it: look whether our own address is in the Vias below the top one"
        }
        Outcome::ExtensionNotSupported => {
            "the client insists on an extension that proxies have to know; set it up not to, or to do without when told"
        }
        Outcome::BadFlowToken => {
            "the token was made with another secret (do all nodes have the same node.secret_file, and the one before as \
             node.previous_secret_file?), was changed on the way, is forged, or leads to one of our own listeners"
        }
        Outcome::FromBackendWithoutToken => {
            "a backend sends a request whose Request-URI is the VIP itself: it should say who is called, or keep the \
             Record-Route of the INVITE as its Route, or the Path of a registration"
        }
        Outcome::ContactNotReplaced => {
            "the pool has \"registration: contact\": eight Contacts at most, each with up to 200 bytes behind its user part"
        }
        Outcome::TooMuchToHide | Outcome::ResponseTooMuchToHide => {
            "\"outbound.topology: hide\" carries along up to 1,024 bytes of Vias, as many of Record-Routes, and eight Contacts with \
             up to 200 bytes behind the user part"
        }
        Outcome::UriSchemeNotSupported => {
            "a backend calls a URI that UDP cannot reach: sip: URIs go out, sips: wants TLS, tel: wants somebody who knows \
             where numbers are"
        }
        Outcome::NextHopTransport => {
            "the URI has a transport parameter other than udp; siplb speaks UDP alone"
        }
        Outcome::NextHopOtherFamily => {
            "an IPv6 address is reached from an IPv6 listener, an IPv4 address from an IPv4 one"
        }
        Outcome::NextHopNotAllowed => {
            "nothing is sent to loopback, multicast, broadcast, link-local and unspecified addresses, nor to a listener of ours"
        }
        Outcome::NameNotFound => {
            "ask the name servers yourself, in this order: NAPTR, SRV of _sip._udp, A or AAAA (of the listener's IP version)"
        }
        Outcome::NameNotResolved | Outcome::AwaitsName => {
            "the name servers (\"outbound.name_servers\", else /etc/resolv.conf) do not answer in time; the log says which"
        }
        Outcome::NoRouteRule => {
            "routes in the configuration: a rule without method, or one for this method, is missing"
        }
        Outcome::NoUsableBackend => "no backend of the pool has a weight above 0",
        Outcome::CpsBreached | Outcome::CpsBreachedSilently => {
            "more calls a second than \"limits\", a rule's or a backend's \"cps\" allow; `siplb cps` shows which"
        }
        Outcome::ForgedClientAddress => {
            "somebody forges where he comes from, or a device on the way writes header fields of the same names: choose \
             others in \"client_address\" of the pool"
        }
        Outcome::NoEmptyLine => {
            "the datagram was cut, or this file lost the empty line after the header fields: SIP ends them with one"
        }
        Outcome::BodyTooShort => {
            "the datagram was cut on its way, the sender counts wrong, or this file was saved with other line ends"
        }
        Outcome::NotSip => {
            "the first line is neither `METHOD URI SIP/2.0` nor `SIP/2.0 STATUS REASON`: a scanner, another protocol, \
             or this file has more than the UDP payload in it"
        }
        Outcome::Unanswerable | Outcome::MalformedAck => {
            "the top Via is missing or cannot be read, so nobody could be answered, or it is an ACK, which nobody answers"
        }
        Outcome::InvalidAck => {
            "the listener validates: the reason above, or \"validate\" of the listener in the configuration"
        }
        Outcome::AckNotRouted => {
            "an ACK to a 2xx without our flow token in Route: the caller does not keep the Record-Route of the 2xx, or the \
             ACK is for a call that never was"
        }
        Outcome::MalformedResponse => "the server that sent it; a response is never answered",
        Outcome::ResponseNotOurs => {
            "the server answers to another address than its request came from, or the request did not pass this listener \
             (--to)"
        }
        Outcome::ResponseBadMac => {
            "the next Via was changed by the server, the secret differs from that of the node that forwarded the request, \
             or somebody tries to bounce packets off us"
        }
        Outcome::ResponseNoSecondVia => {
            "there is no Via below ours: it answers a request that nobody sent through us"
        }
        Outcome::StunMalformed | Outcome::StunNotRequest => {
            "only STUN binding requests are answered on a SIP port"
        }
        Outcome::ForgedSource => {
            "somebody forges our address, and the network lets it in: filter what comes from outside with a source of your \
             own (BCP 38)"
        }
        Outcome::UnknownListener | Outcome::NoRoomForEdits => {
            "please report this: it should not happen"
        }
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::forward::OutcomeClass;

    #[test]
    fn every_datagram_that_is_dropped_has_a_hint_unless_it_only_keeps_a_pinhole_open() {
        for outcome in Outcome::ALL {
            let pinhole = matches!(outcome, Outcome::Empty | Outcome::Nuls | Outcome::LineEnds);
            if outcome.class() == OutcomeClass::Drop && !pinhole {
                assert!(hint(outcome).is_some(), "{}", outcome.name());
            }
        }
    }
}
