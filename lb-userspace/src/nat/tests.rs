//! Each indicator and each fix by itself, in tables.

mod fixes;
mod indicators;

use super::*;
use crate::sip;

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

/// As another message leaves them, which has everything and too much of it.
fn used_notes() -> Notes {
    let contacts = ["<sip:a@10.0.0.1;maddr=10.0.0.2>"; MAX_CONTACTS + 1].join(",");
    let contacts = format!("Contact: {contacts}\r\n");
    let body = "v=0\r\n".to_owned() + &"c=IN IP4 10.0.0.1\r\n".repeat(sip::MAX_SDP_ADDRESSES + 1);
    let message = request(
        "10.0.0.1",
        &contacts,
        "Content-Type: application/sdp\r\n",
        &body,
    );
    let facts = Facts {
        bytes: message.as_bytes(),
        message: &sip::read(message.as_bytes()).unwrap(),
        source: SOURCE.parse().unwrap(),
        private: &PrivateNetworks::default(),
    };
    let mut notes = Notes::default();
    let policy = Policy {
        detect: Indicators::ALL,
        fix: Fixes::ALL,
        ..Policy::default()
    };
    examine(policy, facts, &mut notes);
    assert!(notes.contacts.is_beyond_limits && notes.sdp.is_beyond_limits);
    notes
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
