//! One name for each thing that can be wrong with a request that could be forwarded all the same.

use super::Check;

/// Makes the enum and its tables from one list, so that no name can be without an entry.
macro_rules! reasons {
    ($($(#[doc = $doc:literal])+ $variant:ident, $name:literal, $check:expr, $phrase:literal;)+) => {
        /// Why a request is not well-formed. The same name stands in [`super::MARK`], in the counters, in explanations
        /// and in the documentation.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        #[repr(u16)]
        pub enum Reason {
            $($(#[doc = $doc])+ $variant,)+
        }

        impl Reason {
            /// All reasons; a reason's number is its place here.
            pub const ALL: [Self; [$(Self::$variant),+].len()] = [$(Self::$variant),+];

            /// Name in counters and output.
            pub const fn name(self) -> &'static str {
                match self {
                    $(Self::$variant => $name,)+
                }
            }

            /// What it means, in a sentence.
            pub fn meaning(self) -> &'static str {
                let text = match self {
                    $(Self::$variant => concat!($($doc),+),)+
                };
                text.trim_start()
            }

            /// The check that finds it; `None` for what is looked for whenever a listener validates.
            pub const fn check(self) -> Option<Check> {
                match self {
                    $(Self::$variant => $check,)+
                }
            }

            /// Reason phrase of the 400 (RFC 3261 §21.4.1: it should name the problem).
            pub const fn phrase(self) -> &'static str {
                match self {
                    $(Self::$variant => $phrase,)+
                }
            }
        }
    };
}

const REQUEST_URI: Option<Check> = Some(Check::RequestUri);
const FROM: Option<Check> = Some(Check::From);
const TO: Option<Check> = Some(Check::To);
const CONTACT: Option<Check> = Some(Check::Contact);
const MAX_FORWARDS: Option<Check> = Some(Check::MaxForwards);
const HEADERS: Option<Check> = Some(Check::Headers);
const BODY: Option<Check> = Some(Check::Body);
const SDP: Option<Check> = Some(Check::Sdp);

reasons! {
    /// The Request-URI cannot be read.
    InvalidRequestUri, "invalid_request_uri", REQUEST_URI, "Invalid Request-URI";
    /// The user part of the Request-URI is empty or has a character that must be escaped.
    InvalidRequestUriUser, "invalid_request_uri_user", REQUEST_URI, "Invalid user in Request-URI";
    /// The host of the Request-URI is no host name and no address.
    InvalidRequestUriHost, "invalid_request_uri_host", REQUEST_URI, "Invalid host in Request-URI";
    /// The Request-URI has header fields, `?name=value` (RFC 3261 §19.1.1, table 1).
    RequestUriWithHeaders, "request_uri_with_headers", REQUEST_URI, "Header fields in Request-URI";
    /// The URI of From cannot be read.
    InvalidFromUri, "invalid_from_uri", FROM, "Invalid URI in From";
    /// The user part of From is empty or has a character that must be escaped.
    InvalidFromUser, "invalid_from_user", FROM, "Invalid user in From";
    /// The host of From is no host name and no address.
    InvalidFromHost, "invalid_from_host", FROM, "Invalid host in From";
    /// The URI of To cannot be read.
    InvalidToUri, "invalid_to_uri", TO, "Invalid URI in To";
    /// The user part of To is empty or has a character that must be escaped.
    InvalidToUser, "invalid_to_user", TO, "Invalid user in To";
    /// The host of To is no host name and no address.
    InvalidToHost, "invalid_to_host", TO, "Invalid host in To";
    /// INVITE, SUBSCRIBE, REFER or UPDATE without Contact.
    MissingContact, "missing_contact", CONTACT, "Missing Contact header field";
    /// `Contact: *` outside REGISTER, without `Expires: 0`, or beside another Contact (RFC 3261 §10.2.2, §10.3).
    InvalidStarContact, "invalid_star_contact", CONTACT, "Contact * not allowed here";
    /// A Contact cannot be read.
    InvalidContact, "invalid_contact", CONTACT, "Invalid Contact header field";
    /// The URI of a Contact cannot be read, or its host is no host name and no address.
    InvalidContactUri, "invalid_contact_uri", CONTACT, "Invalid URI in Contact";
    /// `expires` of a Contact is not a number below 2^32, or `q` not one from 0 to 1 (RFC 3261 §20.10).
    InvalidContactParameter, "invalid_contact_parameter", CONTACT, "Invalid expires or q in Contact";
    /// No Max-Forwards.
    MissingMaxForwards, "missing_max_forwards", MAX_FORWARDS, "Missing Max-Forwards header field";
    /// A Via below the top one cannot be read, or one is not of SIP/2.0.
    InvalidVia, "invalid_via", HEADERS, "Invalid Via header field";
    /// A Route cannot be read, has no brackets, or has a URI that cannot be read.
    InvalidRoute, "invalid_route", HEADERS, "Invalid Route header field";
    /// A Record-Route cannot be read, has no brackets, or has a URI that cannot be read.
    InvalidRecordRoute, "invalid_record_route", HEADERS, "Invalid Record-Route header field";
    /// A Path cannot be read, has no brackets, or has a URI that cannot be read (RFC 3327).
    InvalidPath, "invalid_path", HEADERS, "Invalid Path header field";
    /// Path in another request than REGISTER.
    PathOutsideRegister, "path_outside_register", HEADERS, "Path is for REGISTER";
    /// A display name in From, To or Contact is neither tokens nor a quoted string.
    InvalidDisplayName, "invalid_display_name", HEADERS, "Invalid display name";
    /// From, To or Contact has blanks inside the brackets, or `?` in a URI without brackets (RFC 3261 §20).
    InvalidAddrSpec, "invalid_addr_spec", HEADERS, "Blanks in or no brackets around URI";
    /// Call-ID has a character that no `word` has.
    InvalidCallId, "invalid_call_id", HEADERS, "Invalid Call-ID header field";
    /// Content-Type is not `type/subtype` with parameters, or has a wildcard.
    InvalidContentType, "invalid_content_type", HEADERS, "Invalid Content-Type header field";
    /// Content-Disposition is not a token with parameters.
    InvalidContentDisposition, "invalid_content_disposition", HEADERS, "Invalid Content-Disposition";
    /// Refer-To cannot be read, or its URI cannot.
    InvalidReferTo, "invalid_refer_to", HEADERS, "Invalid Refer-To header field";
    /// Referred-By cannot be read, or its URI cannot.
    InvalidReferredBy, "invalid_referred_by", HEADERS, "Invalid Referred-By header field";
    /// Reply-To cannot be read, or its URI cannot.
    InvalidReplyTo, "invalid_reply_to", HEADERS, "Invalid Reply-To header field";
    /// Remote-Party-ID cannot be read, or its URI cannot.
    InvalidRemotePartyId, "invalid_remote_party_id", HEADERS, "Invalid Remote-Party-ID header field";
    /// P-Asserted-Identity or P-Preferred-Identity cannot be read, or is not one SIP or TEL URI or one of each (RFC 3325
    /// §9).
    InvalidIdentity, "invalid_identity", HEADERS, "Invalid P-...-Identity header field";
    /// Diversion cannot be read, or a URI of it cannot.
    InvalidDiversion, "invalid_diversion", HEADERS, "Invalid Diversion header field";
    /// Expires or Min-Expires is not a number below 2^32.
    InvalidExpires, "invalid_expires", HEADERS, "Invalid Expires header field";
    /// Session-Expires or Min-SE is not a number below 2^32 with parameters, or `refresher` not uac or uas (RFC 4028).
    InvalidSessionTimer, "invalid_session_timer", HEADERS, "Invalid Session-Expires or Min-SE";
    /// Date is not of the one form that SIP has, in GMT (RFC 3261 §20.17).
    InvalidDate, "invalid_date", HEADERS, "Invalid Date header field";
    /// Timestamp is not a decimal number, or two (RFC 3261 §20.38).
    InvalidTimestamp, "invalid_timestamp", HEADERS, "Invalid Timestamp header field";
    /// Supported, Require, Proxy-Require or Unsupported is not a list of option tags.
    InvalidOptionTags, "invalid_option_tags", HEADERS, "Invalid option tags";
    /// Allow is not a list of methods.
    InvalidAllow, "invalid_allow", HEADERS, "Invalid Allow header field";
    /// Accept, Accept-Encoding or Accept-Language is not a list of what it names.
    InvalidAccept, "invalid_accept", HEADERS, "Invalid Accept header field";
    /// Event is not an event type with parameters, or Allow-Events not a list of them (RFC 6665).
    InvalidEvent, "invalid_event", HEADERS, "Invalid Event header field";
    /// Privacy is not a list of tokens (RFC 3323).
    InvalidPrivacy, "invalid_privacy", HEADERS, "Invalid Privacy header field";
    /// Call-Info is not a list of URIs in brackets with parameters.
    InvalidCallInfo, "invalid_call_info", HEADERS, "Invalid Call-Info header field";
    /// Authorization or Proxy-Authorization has no scheme and parameters, or Digest lacks one that it must have.
    InvalidAuthorization, "invalid_authorization", HEADERS, "Invalid Authorization header field";
    /// User-Agent, Priority or Retry-After is empty.
    EmptyHeaderField, "empty_header_field", HEADERS, "Empty header field";
    /// A header field is there twice of which there is one at most, besides those that are refused always.
    DuplicateHeaderField, "duplicate_header_field", HEADERS, "Duplicate header field";
    /// Octets follow the body that Content-Length announces.
    ContentLengthDiffers, "content_length_differs", BODY, "Content-Length differs from the body";
    /// A body without Content-Type.
    MissingContentType, "missing_content_type", BODY, "Missing Content-Type header field";
    /// A line of the SDP is not a letter, `=` and a value.
    InvalidSdpLine, "invalid_sdp_line", SDP, "Invalid line in SDP";
    /// Not SDP version 0.
    InvalidSdpVersion, "invalid_sdp_version", SDP, "Invalid v= in SDP";
    /// `o=` is not user name, two numbers, network, family and address.
    InvalidSdpOrigin, "invalid_sdp_origin", SDP, "Invalid o= in SDP";
    /// `c=` is not network, family and an address of that family or a host name.
    InvalidSdpConnection, "invalid_sdp_connection", SDP, "Invalid c= in SDP";
    /// `t=` is not two numbers.
    InvalidSdpTime, "invalid_sdp_time", SDP, "Invalid t= in SDP";
    /// `m=` is not media, port, protocol and a format.
    InvalidSdpMedia, "invalid_sdp_media", SDP, "Invalid m= in SDP";
    /// `v=`, `o=`, `s=` or `t=` is missing.
    IncompleteSdp, "incomplete_sdp", SDP, "Missing line in SDP";
    /// `v=`, `o=`, `s=`, `t=` and `m=` are not in this order.
    SdpOutOfOrder, "sdp_out_of_order", SDP, "SDP lines out of order";
    /// A stream has no `c=`, and the session has none for it.
    MissingSdpConnection, "missing_sdp_connection", SDP, "Missing c= in SDP";
    /// More than four header fields named X-Validate-Fail from outside: refused with 400 in either mode.
    ForgedMark, "forged_validate_fail", None, "Forged X-Validate-Fail header field";
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;
    use crate::forward::Outcome;

    #[test]
    fn names_are_unique_and_fit_for_labels() {
        let names = Reason::ALL.map(Reason::name);
        let outcomes = Outcome::ALL.map(Outcome::name);
        assert_eq!(names.iter().collect::<HashSet<_>>().len(), names.len());
        for (place, reason) in Reason::ALL.into_iter().enumerate() {
            assert_eq!(reason as usize, place);
            let name = reason.name();
            assert!(
                !outcomes.contains(&name),
                "{name} is something else as well"
            );
            assert!(
                name.bytes()
                    .all(|byte| byte.is_ascii_lowercase() || byte == b'_'),
                "{name}"
            );
        }
    }

    /// `SIP/2.0 400 ` and the phrase, less the shortest request line that is no fault, `X a:b SIP/2.0`.
    #[test]
    fn no_first_line_grows_by_more_than_is_counted_out() {
        for reason in Reason::ALL {
            let growth = "SIP/2.0 400 ".len() + reason.phrase().len() - "X a:b SIP/2.0".len();
            assert!(growth <= 39, "{reason:?}");
        }
    }
}
