//! What the kernel says about a network interface: its number, its MAC address and its XDP programs.

use anyhow::{Context, Result, bail};
use netlink_packet_core::{NLM_F_REQUEST, NetlinkHeader, NetlinkMessage, NetlinkPayload};
use netlink_packet_route::{
    RouteNetlinkMessage,
    link::{LinkAttribute, LinkLayerType, LinkMessage, LinkXdp},
};
use netlink_sys::{Socket, SocketAddr, protocols::NETLINK_ROUTE};

/// An interface as it was when [`Interface::query`] asked.
#[derive(Debug)]
pub(super) struct Interface {
    pub(super) index: u32,
    pub(super) mac: [u8; 6],
    /// Ids of the XDP programs that are attached, at most one in each mode.
    pub(super) native: Option<u32>,
    pub(super) generic: Option<u32>,
}

impl Interface {
    /// Asks the kernel about the interface `name`.
    ///
    /// # Errors
    ///
    /// When there is none of that name in this network namespace, or it is not an Ethernet one.
    pub(super) fn query(name: &str) -> Result<Self> {
        let message = request(name).with_context(|| {
            format!("interface `{name}`: `ip link show dev {name}` shows whether it exists")
        })?;
        if message.header.link_layer_type != LinkLayerType::Ether {
            bail!(
                "interface `{name}` has frames of type {:?}; siplb needs an Ethernet interface",
                message.header.link_layer_type
            );
        }
        let mut interface = Self {
            index: message.header.index,
            mac: [0; 6],
            native: None,
            generic: None,
        };
        for attribute in message.attributes {
            match attribute {
                LinkAttribute::Address(address) => {
                    interface.mac = address.as_slice().try_into().with_context(|| {
                        format!(
                            "interface `{name}` has the address {address:?}, not one of 6 bytes"
                        )
                    })?;
                }
                LinkAttribute::Xdp(programs) => {
                    for program in programs {
                        match program {
                            LinkXdp::DrvProgId(id) => interface.native = Some(id),
                            LinkXdp::SkbProgId(id) => interface.generic = Some(id),
                            _ => {}
                        }
                    }
                }
                _ => {}
            }
        }
        Ok(interface)
    }

    /// The XDP programs that are attached, in words.
    pub(super) fn programs(&self) -> String {
        let programs: Vec<_> = [("native", self.native), ("generic", self.generic)]
            .into_iter()
            .filter_map(|(mode, id)| Some(format!("program {} ({mode})", id?)))
            .collect();
        match programs.is_empty() {
            true => "no program".to_owned(),
            false => programs.join(" and "),
        }
    }
}

fn request(name: &str) -> Result<LinkMessage> {
    let mut socket = Socket::new(NETLINK_ROUTE).context("opening a netlink socket")?;
    socket.bind_auto().context("binding a netlink socket")?;
    socket.connect(&SocketAddr::new(0, 0))?;

    let mut header = NetlinkHeader::default();
    header.flags = NLM_F_REQUEST;
    let mut link = LinkMessage::default();
    link.attributes.push(LinkAttribute::IfName(name.to_owned()));
    let mut message = NetlinkMessage::new(
        header,
        NetlinkPayload::from(RouteNetlinkMessage::GetLink(link)),
    );
    message.finalize();
    let mut request = vec![0; message.buffer_len()];
    message.serialize(&mut request);
    socket.send(&request, 0).context("asking by netlink")?;

    let (answer, _) = socket
        .recv_from_full()
        .context("reading the netlink answer")?;
    let answer = NetlinkMessage::<RouteNetlinkMessage>::deserialize(&answer)
        .context("understanding the netlink answer")?;
    match answer.payload {
        NetlinkPayload::InnerMessage(RouteNetlinkMessage::NewLink(link)) => Ok(link),
        NetlinkPayload::Error(error) => Err(error.to_io().into()),
        other => bail!("unexpected netlink answer of type {}", other.message_type()),
    }
}
