//! VIPs on a device, for as long as they are put there again and again.

use std::{io, net::IpAddr};

use crate::control::next_hops::netlink::Requests;

/// Seconds after which the kernel takes an address off that is not put there anew.
const LIFETIME_S: u32 = 3;

/// The VIPs of a node on its device.
pub(super) struct Addresses {
    requests: Requests,
    device: String,
    link: u32,
    vips: Vec<IpAddr>,
    /// What goes wrong has been logged.
    complained: bool,
}

impl Addresses {
    /// Finds the device, and makes the kernel take what is for the VIPs, whether or not they are announced.
    ///
    /// # Errors
    ///
    /// When there is no such device.
    pub fn open(device: &str, vips: Vec<IpAddr>) -> io::Result<Self> {
        let mut requests = Requests::open()?;
        let links = requests.links()?;
        let link = links.iter().find(|link| link.name == device);
        let link = link.map(|link| link.index).ok_or_else(|| {
            let text =
                format!("there is no device \"{device}\"; name one of this host, such as lo");
            io::Error::new(io::ErrorKind::NotFound, text)
        })?;
        let mut addresses = Self {
            requests,
            device: device.to_owned(),
            link,
            vips,
            complained: false,
        };
        addresses.each("taking what is for it", |requests, link, vip| {
            requests.add_local_route(link, vip)
        });
        Ok(addresses)
    }

    /// Puts the VIPs there for some seconds.
    pub fn announce(&mut self) {
        self.each("putting it there", |requests, link, vip| {
            requests.put_address(link, vip, LIFETIME_S)
        });
    }

    /// Takes the VIPs off.
    pub fn withdraw(&mut self) {
        self.each("taking it off", |requests, link, vip| {
            requests.remove_address(link, vip)
        });
    }

    /// Takes everything off.
    pub fn close(&mut self) {
        self.withdraw();
        self.each("taking its route off", |requests, link, vip| {
            requests.remove_local_route(link, vip)
        });
    }

    /// What goes wrong is logged once, until it goes well again.
    fn each(
        &mut self,
        what: &str,
        mut act: impl FnMut(&mut Requests, u32, IpAddr) -> io::Result<()>,
    ) {
        let mut failed = false;
        for vip in &self.vips {
            if let Err(error) = act(&mut self.requests, self.link, *vip) {
                if !self.complained {
                    log::error!("VIP {vip} on {}: {what}: {error}", self.device);
                }
                failed = true;
            }
        }
        self.complained = failed;
    }
}
