//! The messages that are measured: what a caller and a server really say to each other through what is measured, as
//! frames with places for the number of the call.

use std::{net::SocketAddr, time::Duration};

use anyhow::{Context, Result, ensure};
use lb_common::{
    checksum::sum,
    wire::{MAX_FRAME, MAX_STAMPS, STAMP_LEN, Template},
};
use siplb_lab::{
    Family, Host, Lab,
    frame::{self, Wire},
    message::{Peer, respond},
};

/// Stands where the number of the call goes.
pub const MARK: &str = "5eed0000";
const TIMEOUT: Duration = Duration::from_secs(5);
/// Port of the caller.
const CALLER_PORT: u16 = 5061;

/// What is measured with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// An INVITE with SDP, 765 bytes.
    Invite,
    /// An OPTIONS for a server, 350 bytes.
    Options,
    /// The 200 OK of a server, 600 bytes.
    Ok,
    /// All of a call: INVITE, 200 OK, ACK, BYE, 200 OK.
    Calls,
}

impl Kind {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::Invite, Self::Options, Self::Ok, Self::Calls];

    /// The name on the command line and in tables.
    pub fn name(self) -> &'static str {
        match self {
            Self::Invite => "invite",
            Self::Options => "options",
            Self::Ok => "ok",
            Self::Calls => "calls",
        }
    }
}

/// Both ends of an exchange.
pub struct Ends {
    /// The caller.
    pub caller: SocketAddr,
    /// The server that all goes to.
    pub server: SocketAddr,
    /// What is measured.
    pub vip: SocketAddr,
    /// MAC address of the interface that frames leave by, and of the one that they arrive at.
    pub macs: [[u8; 6]; 2],
    /// Bytes of the INVITE.
    pub invite_bytes: usize,
}

impl Ends {
    /// Those of a two-armed lab.
    ///
    /// # Errors
    ///
    /// When an interface is not there.
    pub fn of(lab: &Lab) -> Result<Self> {
        let mac = |host: &Host, interface| Wire::open(host, interface)?.mac();
        Ok(Self {
            caller: (lab.client_address(Family::V4), CALLER_PORT).into(),
            server: lab.server(Family::V4, 0),
            vip: lab.vip(Family::V4),
            macs: [mac(&lab.client, "eth0")?, mac(&lab.edge, "outside")?],
            invite_bytes: 765,
        })
    }

    fn request(&self, method: &str, headers: &str, body: &str) -> String {
        let Self { caller, vip, .. } = self;
        let kind = if body.is_empty() {
            ""
        } else {
            "Content-Type: application/sdp\r\n"
        };
        // The caller is behind a NAT, as far as it says itself.
        format!(
            "{method} sip:+442071838750@{vip} SIP/2.0\r\n\
             Via: SIP/2.0/UDP 192.168.1.20:{port};rport;branch=z9hG4bK{MARK}\r\n\
             From: \"Alice\" <sip:alice@example.com>;tag={MARK}\r\n\
             To: <sip:+442071838750@example.com>\r\n\
             Call-ID: {MARK}@192.168.1.20\r\n\
             CSeq: 1 {method}\r\n\
             Contact: <sip:alice@192.168.1.20:{port}>\r\n\
             Max-Forwards: 70\r\n\
             {headers}{kind}Content-Length: {length}\r\n\r\n{body}",
            port = caller.port(),
            length = body.len(),
        )
    }

    fn sized(&self, method: &str, body: &str, length: usize) -> String {
        let bare = self.request(method, "", body).len();
        let name = "User-Agent: ";
        let room = length.saturating_sub(bare + name.len() + 2);
        let agent = "wire".chars().cycle().take(room).collect::<String>();
        self.request(method, &format!("{name}{agent}\r\n"), body)
    }

    /// The INVITE. Its last bytes are the number of the call.
    pub fn invite(&self) -> String {
        let body = format!(
            "v=0\r\no=alice 53655765 2353687637 IN IP4 192.168.1.20\r\ns=-\r\nc=IN IP4 192.168.1.20\r\nt=0 0\r\n\
             m=audio 49170 RTP/AVP 8 0 101\r\na=rtpmap:8 PCMA/8000\r\na=rtpmap:0 PCMU/8000\r\n\
             a=rtpmap:101 telephone-event/8000\r\na=fmtp:101 0-15\r\na=ptime:20\r\na=x:{MARK}"
        );
        self.sized("INVITE", &body, self.invite_bytes)
    }

    /// An OPTIONS that the server is asked.
    pub fn options(&self) -> String {
        self.sized("OPTIONS", "", 350)
    }

    fn frame(&self, source: SocketAddr, message: &str) -> Result<Template> {
        let [near, far] = self.macs;
        let frame = frame::udp((near, source), (far, self.vip), message.as_bytes());
        template(&frame)
    }

    /// Has a call through what is measured, and makes the templates of this kind from what was said.
    ///
    /// # Errors
    ///
    /// When a message does not arrive.
    pub fn templates(&self, lab: &Lab, kind: Kind) -> Result<Vec<Template>> {
        let invite = self.invite();
        if kind == Kind::Invite {
            return Ok(vec![self.frame(self.caller, &invite)?]);
        }
        if kind == Kind::Options {
            return Ok(vec![self.frame(self.caller, &self.options())?]);
        }
        let caller = Peer::bind(&lab.client, self.caller)?;
        let server = Peer::bind(&lab.servers, self.server)?;
        let ask = |request: &str, what: &str| -> Result<String> {
            caller.send(request, self.vip)?;
            let received = server.expect(TIMEOUT);
            Ok(received.with_context(|| what.to_owned())?.0)
        };
        let at_server = ask(&invite, "the INVITE at the server")?;
        let contact = format!("Contact: <sip:{}>\r\n", self.server);
        let answer = |request: &str, length: usize| {
            let response = respond(request, "200 OK").replace("CSeq", &format!("{contact}CSeq"));
            let room = length.saturating_sub(response.len() + "Server: \r\n".len());
            let server = "wire".chars().cycle().take(room).collect::<String>();
            response.replace("CSeq", &format!("Server: {server}\r\nCSeq"))
        };
        let ok = answer(&at_server, 600);
        if kind == Kind::Ok {
            return Ok(vec![self.frame(self.server, &ok)?]);
        }
        server.send(&ok, self.vip)?;
        let at_caller = caller
            .expect(TIMEOUT)
            .context("the 200 OK at the caller")?
            .0;
        let mut routes: Vec<&str> = at_caller
            .split("\r\n")
            .filter_map(|line| line.strip_prefix("Record-Route: "))
            .collect();
        routes.reverse();
        let routes: String = routes
            .iter()
            .map(|route| format!("Route: {route}\r\n"))
            .collect();
        let in_dialog = |method: &str, number: u32| {
            let request = self.request(method, &routes, "");
            request
                .replace(
                    &format!("sip:+442071838750@{} SIP", self.vip),
                    &format!("sip:{} SIP", self.server),
                )
                .replace("CSeq: 1", &format!("CSeq: {number}"))
                .replace("example.com>\r\nCall", "example.com>;tag=server\r\nCall")
        };
        let (ack, bye) = (in_dialog("ACK", 1), in_dialog("BYE", 2));
        ask(&ack, "the ACK at the server")?;
        let bye_ok = answer(&ask(&bye, "the BYE at the server")?, 0);
        let said = [
            (self.caller, &invite),
            (self.server, &ok),
            (self.caller, &ack),
            (self.caller, &bye),
            (self.server, &bye_ok),
        ];
        said.map(|(source, message)| self.frame(source, message))
            .into_iter()
            .collect()
    }
}

/// Finds where the number of the call goes in a frame.
fn template(frame: &[u8]) -> Result<Template> {
    const UDP_AT: usize = 14 + 20;
    ensure!(frame.len() <= MAX_FRAME, "a frame of {} bytes", frame.len());
    let mut template = Template {
        len: frame.len() as u32,
        sum: 0,
        checksum_at: UDP_AT as u32 + 6,
        stamps: [0; 2],
        stamp_at: [0; MAX_STAMPS],
        bytes: [0; MAX_FRAME],
    };
    template.bytes[..frame.len()].copy_from_slice(frame);
    let mut blank = frame.to_vec();
    blank[UDP_AT + 6..UDP_AT + 8].fill(0);
    let places: Vec<usize> = frame
        .windows(STAMP_LEN)
        .enumerate()
        .filter(|(_, window)| *window == MARK.as_bytes())
        .map(|(at, _)| at)
        .collect();
    ensure!(
        (1..=MAX_STAMPS).contains(&places.len()),
        "{} places for the number of the call",
        places.len()
    );
    for (slot, at) in places.into_iter().enumerate() {
        template.stamp_at[slot] = at as u32;
        // The datagram begins at an even offset.
        template.stamps[at % 2] += 1;
        blank[at..at + STAMP_LEN].fill(0);
    }
    let udp = &blank[UDP_AT..];
    let mut pseudo = blank[26..34].to_vec();
    pseudo.extend([0, 17]);
    pseudo.extend((udp.len() as u16).to_be_bytes());
    template.sum = u32::from(lb_common::checksum::fold(sum(&pseudo) + sum(udp)));
    Ok(template)
}

#[cfg(test)]
mod tests {
    use super::*;
    use lb_common::wire::{checksum, stamp};

    #[test]
    fn a_stamped_frame_has_a_right_checksum() {
        let ends = Ends {
            caller: "198.51.100.2:5061".parse().unwrap(),
            server: "10.0.0.11:5060".parse().unwrap(),
            vip: "203.0.113.10:5060".parse().unwrap(),
            macs: [[2; 6], [4; 6]],
            invite_bytes: 765,
        };
        let invite = ends.invite();
        assert_eq!(invite.len(), 765);
        let template = ends.frame(ends.caller, &invite).unwrap();
        let stamped = invite.replace(MARK, "0000beef");
        let [near, far] = ends.macs;
        let whole = frame::udp((near, ends.caller), (far, ends.vip), stamped.as_bytes());
        let expected = u16::from_be_bytes([whole[40], whole[41]]);
        let computed = checksum(template.sum, template.stamps, stamp(0xbeef));
        assert_eq!(computed, expected);
    }
}
