//! Which addresses are private.

use std::net::IpAddr;

use ipnet::IpNet;

/// All private networks: those of RFC 1918 and RFC 6598, loopback, and those of the operator.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PrivateNetworks {
    more: Vec<IpNet>,
}

impl PrivateNetworks {
    /// Most networks that an operator can list: each is compared with every address.
    pub const MAX_MORE: usize = 64;

    /// The built-in ones and those of the operator.
    pub fn new(more: Vec<IpNet>) -> Self {
        Self { more }
    }

    /// True for a private address. Built in are IPv4 networks alone.
    pub fn contains(&self, address: IpAddr) -> bool {
        let built_in = match address {
            IpAddr::V4(address) => is_private(u32::from(address)),
            IpAddr::V6(_) => false,
        };
        built_in || self.more.iter().any(|network| network.contains(&address))
    }
}

fn is_private(address: u32) -> bool {
    matches!(address >> 24, 10 | 127)
        || address >> 20 == 0xac1
        || address >> 16 == 0xc0a8
        // 100.64.0.0/10
        || address >> 22 == 0x191
}

/// True for unique local (fc00::/7, RFC 4193) and link-local (fe80::/10, RFC 4291) IPv6 addresses.
pub(super) fn is_ipv6_local(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(_) => false,
        IpAddr::V6(address) => {
            let first = address.segments()[0];
            first >> 9 == 0xfc >> 1 || first >> 6 == 0xfe80 >> 6
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ip(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    /// The first and last address of each network, and those beside them.
    #[test]
    fn built_in_networks() {
        let networks = PrivateNetworks::default();
        for (inside, outside) in [
            (
                ["10.0.0.0", "10.255.255.255"],
                ["9.255.255.255", "11.0.0.0"],
            ),
            (
                ["127.0.0.0", "127.255.255.255"],
                ["126.255.255.255", "128.0.0.0"],
            ),
            (
                ["172.16.0.0", "172.31.255.255"],
                ["172.15.255.255", "172.32.0.0"],
            ),
            (
                ["192.168.0.0", "192.168.255.255"],
                ["192.167.255.255", "192.169.0.0"],
            ),
            (
                ["100.64.0.0", "100.127.255.255"],
                ["100.63.255.255", "100.128.0.0"],
            ),
        ] {
            for address in inside {
                assert!(networks.contains(ip(address)), "{address}");
            }
            for address in outside {
                assert!(!networks.contains(ip(address)), "{address}");
            }
        }
        for address in [
            "0.0.0.0",
            "169.254.1.1",
            "192.0.0.1",
            "192.0.2.1",
            "fc00::1",
            "::1",
        ] {
            assert!(!networks.contains(ip(address)), "{address}");
        }
    }

    #[test]
    fn networks_of_the_operator() {
        let more = ["192.0.0.0/29", "203.0.113.7/32", "fc00::/7"].map(|text| text.parse().unwrap());
        let networks = PrivateNetworks::new(more.to_vec());
        for address in ["192.0.0.7", "203.0.113.7", "fdff::1", "10.1.1.1"] {
            assert!(networks.contains(ip(address)), "{address}");
        }
        for address in ["192.0.0.8", "203.0.113.8", "fe80::1", "2001:db8::1"] {
            assert!(!networks.contains(ip(address)), "{address}");
        }
        let everything = PrivateNetworks::new(vec!["0.0.0.0/0".parse().unwrap()]);
        assert!(everything.contains(ip("8.8.8.8")));
        assert!(!everything.contains(ip("::1")));
    }

    #[test]
    fn local_ipv6_networks() {
        for (address, want) in [
            ("fc00::", true),
            ("fdff:ffff::1", true),
            ("fe80::1", true),
            ("febf::1", true),
            ("fbff::1", false),
            ("fe00::1", false),
            ("fec0::1", false),
            ("ff02::1", false),
            ("::1", false),
            ("2001:db8::1", false),
            ("10.0.0.1", false),
        ] {
            assert_eq!(is_ipv6_local(ip(address)), want, "{address}");
        }
    }
}
