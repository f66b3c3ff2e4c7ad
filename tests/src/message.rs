//! SIP messages for clients and servers that a test plays itself.

use std::{
    io,
    net::{SocketAddr, UdpSocket},
    time::Duration,
};

use anyhow::{Context, Result};

use crate::host::Host;

/// A UDP socket in a host of the lab.
#[derive(Debug)]
pub struct Peer {
    socket: UdpSocket,
}

impl Peer {
    /// Binds a socket in `host`.
    ///
    /// # Errors
    ///
    /// When the address is taken or not the host's.
    pub fn bind(host: &Host, address: SocketAddr) -> Result<Self> {
        let socket = host.enter(|| UdpSocket::bind(address))?;
        let socket = socket.with_context(|| format!("cannot bind {address}"))?;
        Ok(Self { socket })
    }

    /// Its own address.
    ///
    /// # Errors
    ///
    /// When the socket is broken.
    pub fn address(&self) -> Result<SocketAddr> {
        Ok(self.socket.local_addr()?)
    }

    /// The socket itself.
    pub fn socket(&self) -> &UdpSocket {
        &self.socket
    }

    /// Sends a datagram.
    ///
    /// # Errors
    ///
    /// When the kernel refuses.
    pub fn send(&self, datagram: impl AsRef<[u8]>, to: SocketAddr) -> Result<()> {
        self.socket.send_to(datagram.as_ref(), to)?;
        Ok(())
    }

    /// Waits for a datagram; `None` after `timeout`.
    ///
    /// # Errors
    ///
    /// When the socket is broken.
    pub fn receive(&self, timeout: Duration) -> Result<Option<(Vec<u8>, SocketAddr)>> {
        self.socket.set_read_timeout(Some(timeout))?;
        let mut buffer = vec![0; 1 << 16];
        match self.socket.recv_from(&mut buffer) {
            Ok((length, source)) => {
                buffer.truncate(length);
                Ok(Some((buffer, source)))
            }
            Err(error)
                if matches!(
                    error.kind(),
                    io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut
                ) =>
            {
                Ok(None)
            }
            Err(error) => Err(error.into()),
        }
    }

    /// Waits for a datagram that is text.
    ///
    /// # Errors
    ///
    /// After `timeout`.
    pub fn expect(&self, timeout: Duration) -> Result<(String, SocketAddr)> {
        let received = self.receive(timeout)?;
        let (bytes, source) =
            received.with_context(|| format!("no datagram within {timeout:?}"))?;
        Ok((String::from_utf8_lossy(&bytes).into_owned(), source))
    }
}

/// A request from `from` to the VIP, with this Call-ID, more header fields (each ending with CRLF) and body.
pub fn request(
    method: &str,
    from: SocketAddr,
    vip: SocketAddr,
    call_id: &str,
    more: &str,
    body: &str,
) -> String {
    format!(
        "{method} sip:service@{vip} SIP/2.0\r\n\
         Via: SIP/2.0/UDP {from};branch=z9hG4bK-{call_id}\r\n\
         From: <sip:caller@{from}>;tag=caller\r\n\
         To: <sip:service@{vip}>\r\n\
         Call-ID: {call_id}\r\n\
         CSeq: 1 {method}\r\n\
         Contact: <sip:caller@{from}>\r\n\
         Max-Forwards: 70\r\n\
         {more}Content-Length: {}\r\n\
         \r\n\
         {body}",
        body.len()
    )
}

/// An OPTIONS for the VIP itself, which it answers.
pub fn ping(from: SocketAddr, vip: SocketAddr, call_id: &str) -> String {
    request("OPTIONS", from, vip, call_id, "", "").replacen(
        &format!("service@{vip}"),
        &vip.to_string(),
        1,
    )
}

/// The response that a server would give to `request`.
pub fn respond(request: &str, status: &str) -> String {
    let mut response = format!("SIP/2.0 {status}\r\n");
    for line in request.split("\r\n").take_while(|line| !line.is_empty()) {
        let name = line.split(':').next().unwrap_or_default();
        match name {
            "To" => response.push_str(&format!("{line};tag=server\r\n")),
            "Via" | "From" | "Call-ID" | "CSeq" | "Record-Route" => {
                response.push_str(&format!("{line}\r\n"))
            }
            _ => {}
        }
    }
    response + "Content-Length: 0\r\n\r\n"
}
