//! The way back of a response: what it would look like had its request crossed us.

use std::net::SocketAddr;

use super::{
    edge::{CLIENTS, Edge, Treatment, VIPS, address},
    slow::{self, SlowVia},
};

/// A response as a server behind us would send it.
pub struct WayBack {
    /// With our Via on top.
    pub arriving: Vec<u8>,
    /// What should leave: the same without our Via.
    pub leaving: Vec<u8>,
    /// Where to: the client whose Via it has.
    pub client: SocketAddr,
    /// True when the client's Via stands as its origin had it, without a stamp of ours.
    pub as_it_was: bool,
}

impl WayBack {
    /// Forwards a request that has the response's top Via to learn the Via that we would add, and puts that on top of
    /// the response. `None` when no request can have such a Via.
    ///
    /// The request comes from where the Via says, so that it stays as it is. A Via that has a host name and no
    /// `received` cannot: it gets the stamp that we give it.
    pub fn new(edge: &mut Edge, response: &[u8]) -> Option<Self> {
        let before = slow::read(response);
        let via = before.top_via()?;
        let target = SlowVia::read(via).response_target();
        let client = target.unwrap_or_else(|| address(CLIENTS[0]));
        let request = [
            b"OPTIONS sip:user@192.0.2.1 SIP/2.0\r\nVia: ",
            via,
            b"\r\nMax-Forwards: 70\r\nFrom: <sip:a@192.0.2.1>;tag=a\r\nTo: <sip:b@192.0.2.1>\r\nCall-ID: a\r\n\
              CSeq: 1 OPTIONS\r\n\r\n",
        ];
        let sent = edge.send(client, &request.concat());
        if sent.treatment != Treatment::Forwarded {
            return None;
        }
        let request = slow::read(&sent.bytes);
        let mut vias = request.named("via");
        let our_via = vias.next()?.raw;
        let client_via = vias.next()?.raw;
        let stamped = client_via.strip_prefix(b"Via: ")?.strip_suffix(b"\r\n")?;

        let (head, tail) = response.split_at(before.leading.len() + before.start_line.len());
        let at = tail.windows(via.len()).position(|window| window == via)?;
        let (tail, as_it_was) = match target {
            Some(_) => (tail.to_vec(), true),
            None => (
                [&tail[..at], stamped, &tail[at + via.len()..]].concat(),
                false,
            ),
        };
        Some(Self {
            arriving: [head, our_via, &tail].concat(),
            leaving: [head, &tail].concat(),
            client: match as_it_was {
                true => client,
                // Without `rport` responses go to the port of sent-by.
                false => SlowVia::read(stamped).response_target()?,
            },
            as_it_was,
        })
    }

    /// Sends the response through: says what is wrong when it is forwarded otherwise than it should be.
    pub fn take(&self, edge: &mut Edge) -> (Treatment, Result<(), String>) {
        let server = address(VIPS[usize::from(self.client.is_ipv6())]);
        let server = SocketAddr::new(server.ip(), 5080);
        let sent = edge.send(server, &self.arriving);
        let fault = match sent.treatment {
            Treatment::Forwarded if sent.bytes != self.leaving => {
                Err(format!("left as {:?}", sent.text()))
            }
            Treatment::Forwarded if sent.to != Some(self.client) => {
                Err(format!("left for {:?} instead of {}", sent.to, self.client))
            }
            Treatment::Refused(status) => Err(format!("a response was answered with {status}")),
            Treatment::Kept => Err("a response was taken for a keepalive".into()),
            Treatment::Forwarded | Treatment::Dropped => Ok(()),
        };
        (
            sent.treatment,
            fault.map_err(|fault| format!("{:?}: {fault}", sent.outcome)),
        )
    }
}
