//! Each indicator and each fix by itself, in tables.

mod fixes;
mod indicators;

use super::*;

const SOURCE: &str = "198.51.100.7:40000";
const SOURCE6: &str = "[2001:db8:1::7]:40000";

/// A request with this Via, these Contact lines and this body of this type.
fn request(via: &str, contacts: &str, content_type: &str, body: &str) -> String {
    format!(
        "INVITE sip:bob@example.com SIP/2.0\r\nVia: SIP/2.0/UDP {via}\r\nFrom: <sip:a@b>;tag=1\r\n\
         To: <sip:bob@example.com>\r\nCall-ID: x\r\nCSeq: 1 INVITE\r\n{contacts}{content_type}Content-Length: {}\r\n\r\n{body}",
        body.len()
    )
}

fn with_via(via: &str) -> String {
    request(via, "", "", "")
}

fn with_contacts(contacts: &str) -> String {
    request("198.51.100.7:40000", contacts, "", "")
}

fn with_contact(contact: &str) -> String {
    with_contacts(&format!("Contact: {contact}\r\n"))
}

fn with_sdp(body: &str) -> String {
    let body = format!("v=0\r\n{body}\r\n");
    request(
        "198.51.100.7:40000",
        "",
        "Content-Type: application/sdp\r\n",
        &body,
    )
}

#[test]
fn names_are_read_back() {
    for indicator in Indicator::ALL {
        assert_eq!(Indicator::from_name(indicator.name()), Some(indicator));
    }
    for fix in Fix::ALL {
        assert_eq!(Fix::from_name(fix.name()), Some(fix));
    }
    assert_eq!(Indicator::from_name("Received"), None);
    let set = Indicators::of(&[Indicator::Ipv6Local, Indicator::Received]);
    assert_eq!(set.names().collect::<Vec<_>>(), ["received", "ipv6-local"]);
    assert_eq!(format!("{set:?}"), r#"{"received", "ipv6-local"}"#);
    assert_eq!(Indicators::ALL.iter().count(), Indicator::ALL.len());
    assert_eq!(Fixes::ALL.iter().count(), Fix::ALL.len());
}
