//! User mode network: every machine has a network of its own in which it has exactly its assigned address. Pure.

use std::net::Ipv4Addr;

use ipnet::Ipv4Net;
use serde_json::{Value, json};

use super::spec::Nic;

/// Addresses of a machine's private network.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct UserNetwork {
    /// The subnet that the guest sees.
    pub(super) net: Ipv4Net,
    /// The gateway: this computer.
    pub(super) gateway: Ipv4Addr,
    /// The name server, answered by QEMU with this computer's resolver.
    pub(super) dns: Ipv4Addr,
    /// The guest.
    pub(super) guest: Ipv4Addr,
}

/// Gateway first, name server last in the subnet, both off the guest's own address. A subnet too small for the
/// three is widened: nothing else lives in this network, so nobody is hidden by that.
pub(super) fn user_network(nic: &Nic) -> UserNetwork {
    let prefix = nic.network.prefix_len().min(29);
    let net = Ipv4Net::new(nic.address, prefix).map_or(nic.network, |net| net.trunc());
    let first = u32::from(net.network()).wrapping_add(1);
    let last = u32::from(net.broadcast()).wrapping_sub(1);
    let guest = u32::from(nic.address);
    let gateway = if first == guest { first + 1 } else { first };
    let dns = if last == guest { last - 1 } else { last };
    UserNetwork { net, gateway: gateway.into(), dns: dns.into(), guest: nic.address }
}

/// Argument of `-netdev`. `hostname` is what the guest is told by DHCP.
pub(super) fn netdev(nic: &Nic, hostname: &str) -> Value {
    let network = user_network(nic);
    json!({
        "type": "user",
        "id": "net0",
        "ipv6": false,
        "net": network.net.to_string(),
        "host": network.gateway.to_string(),
        "dns": network.dns.to_string(),
        "dhcpstart": network.guest.to_string(),
        "hostname": hostname,
    })
}

/// How a QEMU connects again to a network that is a process of its own: the option of `-netdev stream`, if it has one,
/// and its value. `None`: this QEMU has no such network, and it lives in the machine's process.
pub(super) fn reconnect(version: Option<&str>) -> Option<(Option<&'static str>, u32)> {
    let mut numbers = version?.split(|c: char| !c.is_ascii_digit()).map(|part| part.parse::<u32>().unwrap_or(0));
    match (numbers.next()?, numbers.next().unwrap_or(0)) {
        (9, 2..) | (10.., _) => Some((Some("reconnect-ms"), 200)),
        (8 | 9, _) => Some((Some("reconnect"), 1)),
        (7, 2..) => Some((None, 0)),
        _ => None,
    }
}

/// `52:54:00:12:34:56`.
pub(super) fn mac_text(mac: [u8; 6]) -> String {
    mac.map(|byte| format!("{byte:02x}")).join(":")
}

/// A host name that DHCP can carry, from the last part of a machine's name.
pub(super) fn hostname(name: &str) -> String {
    let last = name.rsplit('/').next().unwrap_or_default();
    let safe: String =
        last.chars().map(|c| if c.is_ascii_alphanumeric() { c.to_ascii_lowercase() } else { '-' }).take(63).collect();
    let safe = safe.trim_matches('-');
    if safe.is_empty() { "vm".into() } else { safe.into() }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn nic(address: &str, network: &str) -> Nic {
        Nic { mac: [2, 0, 0, 0, 0, 1], address: address.parse().unwrap(), network: network.parse().unwrap() }
    }

    #[test]
    fn addresses_never_collide() {
        let cases = [
            ("10.66.10.12", "10.66.10.0/24", "10.66.10.0/24", "10.66.10.1", "10.66.10.254"),
            ("10.66.10.1", "10.66.10.0/24", "10.66.10.0/24", "10.66.10.2", "10.66.10.254"),
            ("10.66.10.254", "10.66.10.0/24", "10.66.10.0/24", "10.66.10.1", "10.66.10.253"),
            ("10.1.1.5", "10.1.1.4/30", "10.1.1.0/29", "10.1.1.1", "10.1.1.6"),
            ("10.1.1.1", "10.1.1.1/32", "10.1.1.0/29", "10.1.1.2", "10.1.1.6"),
        ];
        for (address, network, net, gateway, dns) in cases {
            let got = user_network(&nic(address, network));
            assert_eq!(got.net.to_string(), net, "{address}");
            assert_eq!(got.gateway.to_string(), gateway, "{address}");
            assert_eq!(got.dns.to_string(), dns, "{address}");
        }
    }

    #[test]
    fn networks_of_their_own_by_version() {
        for (version, option) in [
            (Some("10.0.2"), Some((Some("reconnect-ms"), 200))),
            (Some("9.2.0-rc1"), Some((Some("reconnect-ms"), 200))),
            (Some("9.1.3"), Some((Some("reconnect"), 1))),
            (Some("8.0"), Some((Some("reconnect"), 1))),
            (Some("7.2.17"), Some((None, 0))),
            (Some("7.1.0"), None),
            (Some("what"), None),
            (None, None),
        ] {
            assert_eq!(reconnect(version), option, "{version:?}");
        }
    }

    #[test]
    fn host_names_are_harmless() {
        assert_eq!(hostname("default/web-1"), "web-1");
        assert_eq!(hostname("x/\u{1b}[2J"), "2j");
        assert_eq!(hostname("x/"), "vm");
    }
}
