//! The home of a lab: two phones behind a router that masquerades them.
//!
//! ```text
//! client    192.168.1.2 ---+ home [router] edge --- 198.51.100.2
//! neighbour 192.168.1.3 ---+ 192.168.1.1
//! ```

use std::net::IpAddr;

use anyhow::{Context, Result};

use crate::{
    host::Host,
    lab::{Family, Lab},
};

impl Lab {
    /// The address of the second phone's host.
    pub fn neighbour_address(&self) -> IpAddr {
        IpAddr::from([192, 168, 1, 3])
    }

    /// The host of the second phone.
    ///
    /// # Panics
    ///
    /// When the lab has no home.
    pub fn neighbour(&self) -> &Host {
        self.neighbour.as_ref().expect("a lab with a home")
    }

    /// Lets the router forget a flow that has been silent for so many seconds; what then comes from outside is dropped.
    ///
    /// Without it the kernel's own timeouts hold, of half a minute and more.
    ///
    /// # Errors
    ///
    /// When the lab has no home, or the kernel no connection tracking.
    pub fn forget_flows_after(&self, seconds: u32) -> Result<()> {
        let router = self.router.as_ref().context("a lab without a router")?;
        // The second one is for flows that have seen datagrams in both directions for more than two seconds.
        for name in [
            "nf_conntrack_udp_timeout",
            "nf_conntrack_udp_timeout_stream",
        ] {
            router.sysctl(&format!("netfilter/{name}"), &seconds.to_string())?;
        }
        Ok(())
    }

    /// What a router at home does: its phones leave from its address, and from ports of its choice; nothing comes in
    /// but in answer to that.
    pub(crate) fn wire_home(&self, router: &Host) -> Result<()> {
        let neighbour = self.neighbour();
        self.cable((&self.client, "eth0"), (router, "client"))?;
        self.cable((neighbour, "eth0"), (router, "neighbour"))?;
        router.ip("link add home type bridge")?;
        for port in ["client", "neighbour"] {
            router.ip(&format!("link set {port} master home"))?;
        }
        router.ip("link set home up")?;
        router.sysctl("ipv4/ip_forward", "1")?;
        router.addresses("home", &["192.168.1.1/24", "2001:db8:3::1/64"])?;
        neighbour.addresses("eth0", &[format!("{}/24", self.neighbour_address())])?;
        neighbour.ip("route add default via 192.168.1.1")?;
        let visible = self.visible_address(Family::V4);
        router.addresses("edge", &[format!("{visible}/24")])?;
        router.ip("route add default via 198.51.100.1")?;
        for command in [
            "add table ip home",
            "add chain ip home out { type nat hook postrouting priority srcnat ; }",
            "add rule ip home out oifname edge meta l4proto udp masquerade to :40000-49999",
            // What belongs to no flow is for the router itself, which has nothing to say.
            "add chain ip home in { type filter hook input priority filter ; }",
            "add rule ip home in iifname edge meta l4proto udp drop",
        ] {
            router.run("nft", command)?;
        }
        Ok(())
    }
}
