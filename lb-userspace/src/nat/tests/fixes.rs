//! What each fix changes, in tables.

use std::net::SocketAddr;

use super::*;
use crate::{
    forward::Edits,
    sip,
    token::{FlowToken, Keys},
};

const BACKEND: &str = "10.0.0.11:5060";

fn keys() -> Keys {
    Keys::new(b"secret", None)
}

/// The alias of a source behind [`BACKEND`].
fn alias(source: &str) -> String {
    let flow = FlowToken::new(source.parse().unwrap(), BACKEND.parse().unwrap());
    let mut text = [0; crate::token::FLOW_TOKEN_MAX];
    let length = keys().write_flow_token(&flow, &mut text);
    format!(";lba={}", std::str::from_utf8(&text[..length]).unwrap())
}

/// The message with these fixes, and those that changed something. `rport` is not applied here.
fn fixed(message: &str, source: &str, fix: &[Fix]) -> (String, Fixes) {
    let bytes = message.as_bytes();
    let read = sip::read(bytes).unwrap();
    assert_eq!(read.fault, None, "{message}");
    let facts = Facts {
        bytes,
        message: &read,
        source: source.parse().unwrap(),
        private: &PrivateNetworks::new(vec!["0.0.0.0/0".parse().unwrap(), "::/0".parse().unwrap()]),
    };
    let policy = Policy {
        detect: Indicators::of(&[Indicator::SourcePrivate]),
        fix: Fixes::of(fix),
        ..Policy::default()
    };
    let mut notes = used_notes();
    let mut examined = examine(policy, facts, &mut notes);
    let mut edits = Edits::new();
    examined
        .fix(&keys(), BACKEND.parse().unwrap(), &mut edits)
        .unwrap();
    edits.finish().unwrap();
    let mut output = vec![0; edits.output_len(bytes.len())];
    edits.apply(bytes, &mut output).unwrap();
    let output = String::from_utf8(output).unwrap();
    assert_eq!(
        examined.decision.fixed.is_empty(),
        output == message,
        "{output}"
    );
    (output, examined.decision.fixed)
}

#[test]
fn contacts_become_the_source() {
    for (contact, want) in [
        ("<sip:alice@192.168.1.5>", "<sip:alice@198.51.100.7:40000>"),
        ("<sip:192.168.1.5:5062>", "<sip:198.51.100.7:40000>"),
        (
            "<sips:alice@phone.example.com:5061>",
            "<sips:alice@198.51.100.7:40000>",
        ),
        (
            "<sip:alice@[fe80::1]:5060>",
            "<sip:alice@198.51.100.7:40000>",
        ),
        (
            "\"A\" <sip:alice@192.168.1.5:5060;transport=udp;ob?x=y>;expires=60;q=0.5",
            "\"A\" <sip:alice@198.51.100.7:40000;transport=udp;ob?x=y>;expires=60;q=0.5",
        ),
        (
            "sip:alice@192.168.1.5;expires=60",
            "sip:alice@198.51.100.7:40000;expires=60",
        ),
        ("sip:alice@192.168.1.5:5060", "sip:alice@198.51.100.7:40000"),
        (
            "<sip:a@10.0.0.1>, sip:b@10.0.0.2 , <tel:+44>, <sip:c@h;x>;q=1",
            "<sip:a@198.51.100.7:40000>, sip:b@198.51.100.7:40000 , <tel:+44>, <sip:c@198.51.100.7:40000;x>;q=1",
        ),
        // `maddr` would lead elsewhere.
        (
            "<sip:a@10.0.0.1;maddr=10.0.0.2>",
            "<sip:a@198.51.100.7:40000>",
        ),
        (
            "<sip:a@10.0.0.1:5060;ob;MADDR=10.0.0.2;x=y>",
            "<sip:a@198.51.100.7:40000;ob;x=y>",
        ),
        (
            "<sip:a@198.51.100.7:40000;maddr=10.0.0.2>",
            "<sip:a@198.51.100.7:40000>",
        ),
        (
            "sip:a@10.0.0.1;maddr=10.0.0.2",
            "sip:a@198.51.100.7:40000;maddr=10.0.0.2",
        ),
        // Nothing to do.
        (
            "<sip:alice@198.51.100.7:40000>",
            "<sip:alice@198.51.100.7:40000>",
        ),
        ("*", "*"),
        ("<mailto:a@b>", "<mailto:a@b>"),
        ("", ""),
    ] {
        let (got, _) = fixed(&with_contact(contact), SOURCE, &[Fix::Contact]);
        assert_eq!(got, with_contact(want));
    }
    let (got, _) = fixed(
        &with_contact("<sip:a@10.0.0.1;x>"),
        SOURCE6,
        &[Fix::Contact],
    );
    assert_eq!(got, with_contact("<sip:a@[2001:db8:1::7]:40000;x>"));
    // A default port is as good as one that is written.
    let kept = with_contact("<sip:a@198.51.100.7>");
    assert_eq!(fixed(&kept, "198.51.100.7:5060", &[Fix::Contact]).0, kept);
}

#[test]
fn contacts_in_several_header_fields() {
    let (got, done) = fixed(
        &with_contacts(
            "m: <sip:a@10.0.0.1>\r\nX: y\r\nContact:<sip:b@10.0.0.2>,\r\n\t<sip:c@10.0.0.3>\r\n",
        ),
        SOURCE,
        &[Fix::Contact],
    );
    assert_eq!(
        got,
        with_contacts(
            "m: <sip:a@198.51.100.7:40000>\r\nX: y\r\nContact:<sip:b@198.51.100.7:40000>,\r\n\t<sip:c@198.51.100.7:40000>\r\n"
        )
    );
    assert_eq!(done, Fixes::of(&[Fix::Contact]));
}

#[test]
fn contacts_get_an_alias() {
    for source in [SOURCE, SOURCE6] {
        let alias = alias(source);
        for (contact, want) in [
            ("<sip:a@192.168.1.5>", format!("<sip:a@192.168.1.5{alias}>")),
            (
                "\"A\" <sips:a@h:5061;transport=udp?x=y>;expires=60",
                format!("\"A\" <sips:a@h:5061{alias};transport=udp?x=y>;expires=60"),
            ),
            (
                "sip:a@192.168.1.5:5060;expires=60",
                format!("<sip:a@192.168.1.5:5060{alias}>;expires=60"),
            ),
            ("sip:a@h", format!("<sip:a@h{alias}>")),
            (
                "sip:a@h?x=y , <sip:b@h>",
                format!("<sip:a@h{alias}?x=y> , <sip:b@h{alias}>"),
            ),
            ("<sip:a@h;lba=old>", format!("<sip:a@h{alias};lba=old>")),
            ("*", "*".into()),
        ] {
            let (got, _) = fixed(&with_contact(contact), source, &[Fix::ContactAlias]);
            assert_eq!(got, with_contact(&want));
        }
    }
    let kept = with_contact("<sip:a@198.51.100.7:40000>");
    assert_eq!(
        fixed(&kept, SOURCE, &[Fix::ContactAlias]),
        (kept, Fixes::NONE)
    );
}

#[test]
fn an_alias_is_found_again() {
    let alias = alias(SOURCE);
    for uri in [
        format!("sip:a@192.168.1.5{alias}"),
        format!("sips:a@h:5061;x=y{alias};z?a=b"),
        format!("sip:h{alias};lba=other"),
        format!("sip:h{}", alias.replace(";lba", ";LBA")),
    ] {
        let bytes = uri.as_bytes();
        let whole = sip::Span::new(0, bytes.len());
        let found = Alias::find(bytes, whole).unwrap();
        let token = keys().read_flow_token(found.token.of(bytes)).unwrap();
        assert_eq!(token.client, SOURCE.parse::<SocketAddr>().unwrap());
        assert_eq!(token.backend, BACKEND.parse::<SocketAddr>().unwrap());
        assert_eq!(found.parameter.len(), alias.len());
    }
    for uri in [
        "sip:lba=x@h",
        "sip:a;lba=x@h",
        "tel:+44;lba=x",
        "sip:h?;lba=x",
        "sip:h;xlba=x",
    ] {
        let whole = sip::Span::new(0, uri.len());
        assert_eq!(Alias::find(uri.as_bytes(), whole), None, "{uri}");
    }
}

#[test]
fn sdp_becomes_the_source() {
    for (body, want) in [
        (
            "o=- 1 2 IN IP4 192.168.1.5\r\ns=-\r\nc=IN IP4 192.168.1.6\r\nm=audio 1 RTP/AVP 0\r\nc=IN IP4 10.0.0.1",
            "o=- 1 2 IN IP4 198.51.100.7\r\ns=-\r\nc=IN IP4 198.51.100.7\r\nm=audio 1 RTP/AVP 0\r\nc=IN IP4 198.51.100.7",
        ),
        // The family follows.
        (
            "c=IN IP6 fe80::1\r\nt=0 0",
            "c=IN IP4 198.51.100.7\r\nt=0 0",
        ),
        ("o=- 1 2 IN IP6 h", "o=- 1 2 IN IP4 198.51.100.7"),
        ("c=IN IP6 198.51.100.7", "c=IN IP4 198.51.100.7"),
        ("c=IN IP4 phone.example.com", "c=IN IP4 198.51.100.7"),
        // Held: stays held, but the session keeps its name.
        (
            "o=- 1 2 IN IP4 192.168.1.5\nc=IN IP4 0.0.0.0\nm=audio 1 RTP/AVP 0\nc=IN IP6 ::\nc=IN IP6 a.Invalid",
            "o=- 1 2 IN IP4 198.51.100.7\nc=IN IP4 0.0.0.0\nm=audio 1 RTP/AVP 0\nc=IN IP6 ::\nc=IN IP6 a.Invalid",
        ),
        ("c=IN IP4 xinvalid", "c=IN IP4 198.51.100.7"),
        ("c=IN IP4 224.2.1.1/127", "c=IN IP4 224.2.1.1/127"),
        ("c=IN IP4 198.51.100.7", "c=IN IP4 198.51.100.7"),
        ("a=rtcp:1 IN IP4 10.0.0.1", "a=rtcp:1 IN IP4 10.0.0.1"),
    ] {
        let (got, done) = fixed(&with_sdp(body), SOURCE, &[Fix::Sdp]);
        assert_eq!(got, with_sdp(want));
        assert_eq!(done.contains(Fix::Sdp), body != want);
    }
    let (got, _) = fixed(
        &with_sdp("c=IN IP4 10.0.0.1\r\nc=IN IP6 fe80::1"),
        SOURCE6,
        &[Fix::Sdp],
    );
    assert_eq!(
        got,
        with_sdp("c=IN IP6 2001:db8:1::7\r\nc=IN IP6 2001:db8:1::7")
    );
}

/// The length of the number may change as well, and a number with zeros in front is written without.
#[test]
fn content_length_follows() {
    let body = |address: &str, fill: usize| {
        format!("v=0\r\nc=IN IP4 {address}\r\na={}\r\n", "x".repeat(fill))
    };
    for fill in 60..70 {
        let message =
            |address: &str| request("h", "", "c: application/sdp\r\n", &body(address, fill));
        let (got, _) = fixed(&message("10.0.0.1"), SOURCE, &[Fix::Sdp]);
        assert_eq!(got, message("198.51.100.7"));
        let zeros = message("10.0.0.1").replace("Content-Length: ", "Content-Length: 000");
        assert_eq!(
            fixed(&zeros, SOURCE, &[Fix::Sdp]).0,
            message("198.51.100.7")
        );
        let without = |text: &str| text.replace("Content-Length", "X");
        let (got, _) = fixed(&without(&message("10.0.0.1")), SOURCE, &[Fix::Sdp]);
        assert!(got.contains(&format!("X: {}\r\n", body("10.0.0.1", fill).len())));
        // What is beyond Content-Length is no body.
        let (got, _) = fixed(
            &(message("10.0.0.1") + "c=IN IP4 10.0.0.1\r\n"),
            SOURCE,
            &[Fix::Sdp],
        );
        assert_eq!(got, message("198.51.100.7") + "c=IN IP4 10.0.0.1\r\n");
    }
}

#[test]
fn parts_are_mended_with_their_own_lengths() {
    let message = |address: &str| {
        let sdp = format!("v=0\r\nc=IN IP4 {address}\r\n{}\r\n", "a=".repeat(30));
        let body = format!(
            "--b\r\nContent-Type: application/sdp\r\nContent-Length: {}\r\n\r\n{sdp}\r\n--b\r\nContent-Type: text/plain\r\n\r\n\
             c=IN IP4 10.0.0.1\r\n--b\r\nc: application/sdp\r\n\r\n{sdp}\r\n--b--\r\n",
            sdp.len()
        );
        request(
            "h",
            "",
            "Content-Type: multipart/mixed;boundary=b\r\n",
            &body,
        )
    };
    let (got, _) = fixed(&message("10.9.9.9"), SOURCE, &[Fix::Sdp]);
    assert_eq!(got, message("198.51.100.7"));
    // From two digits to three: the number in the part is part of the body.
    let (got, _) = fixed(&message("10.9.9.9"), SOURCE6, &[Fix::Sdp]);
    assert_eq!(
        got,
        message("2001:db8:1::7").replace("IP4 2001", "IP6 2001")
    );
}

/// What a part says of its own length does not decide whether the message goes on.
#[test]
fn a_wrong_length_of_a_part_is_left_wrong_when_it_comes_out_of_range() {
    for length in ["2", "65535", "65534"] {
        let message = |address: &str| {
            let part =
                format!("c:application/sdp\r\nl:{length}\r\n\r\nv=0\r\nc=IN IP4 {address}\r\n");
            request(
                "h",
                "",
                "c:multipart/mixed;boundary=b\r\n",
                &format!("--b\r\n{part}--b--"),
            )
        };
        let (from, to) = match length {
            "2" => ("a-long-name.example.com", "198.51.100.7"),
            _ => ("10.9.9.9", "198.51.100.7"),
        };
        let (got, done) = fixed(&message(from), SOURCE, &[Fix::Sdp]);
        assert_eq!(got, message(to));
        assert_eq!(done, Fixes::of(&[Fix::Sdp]));
    }
}

#[test]
fn a_session_description_beyond_the_limits_stays_whole() {
    let message = with_sdp(&["c=IN IP4 10.0.0.1"; sip::MAX_SDP_ADDRESSES + 1].join("\r\n"));
    assert_eq!(fixed(&message, SOURCE, &[Fix::Sdp]), (message, Fixes::NONE));
}

/// All that can be changed at once fits.
#[test]
fn the_largest_number_of_edits_fits() {
    let contacts = format!("Contact: {}\r\n", ["sip:a@h?x"; MAX_CONTACTS].join(","));
    let sdp = format!("v=0\r\n{}", "c=IN IP4 h\r\n".repeat(2));
    let part = format!("--b\r\nc:application/sdp\r\nl:{}\r\n\r\n{sdp}", sdp.len());
    let body = part.repeat(sip::MAX_BODY_PARTS) + "--b--";
    let message = request("h", &contacts, "c:multipart/mixed;boundary=b\r\n", &body);
    let source = "[1111:2222:3333:4444:5555:6666:7777:8888]:65535";
    let (_, done) = fixed(&message, source, &[Fix::ContactAlias, Fix::Sdp]);
    assert_eq!(done, Fixes::of(&[Fix::ContactAlias, Fix::Sdp]));
}
