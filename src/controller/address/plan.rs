//! Which address a VirtualMachineIPAddress gets. Pure.

use std::net::Ipv4Addr;

use ipnet::Ipv4Net;

use crate::types::{AddressType, LeaseHolder, VirtualMachineIPAddressLease};

/// What a lease says about its address.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Tenure {
    /// There is no lease: the address is free.
    Free,
    /// Held by this VirtualMachineIPAddress.
    Held(LeaseHolder),
    /// Released, but kept for this namespace for a while.
    Kept {
        /// The namespace that may take it again.
        namespace: String,
    },
}

/// Reads a lease.
pub fn tenure(lease: Option<&VirtualMachineIPAddressLease>) -> Tenure {
    match lease.and_then(|l| l.spec.virtual_machine_ip_address_ref.as_ref()) {
        None if lease.is_none() => Tenure::Free,
        None => Tenure::Kept { namespace: String::new() },
        Some(holder) if holder.name.is_empty() => Tenure::Kept { namespace: holder.namespace.clone() },
        Some(holder) => Tenure::Held(holder.clone()),
    }
}

/// The VirtualMachineIPAddress in question.
#[derive(Debug, Clone)]
pub struct Wish<'a> {
    /// Its name and namespace.
    pub me: LeaseHolder,
    /// `spec.type`.
    pub type_: AddressType,
    /// `spec.staticIP`.
    pub static_ip: Option<&'a str>,
    /// `status.address`.
    pub bound: Option<&'a str>,
    /// Address of a lease that names this object already.
    pub leased: Option<Ipv4Addr>,
}

/// What to do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Plan {
    /// The lease names us.
    Bound(Ipv4Addr),
    /// Make a lease for this address.
    Allocate(Ipv4Addr),
    /// Put our name into this released lease.
    TakeOver(Ipv4Addr),
    /// It cannot be done now.
    Refused {
        /// Reason of the condition `Bound`.
        reason: &'static str,
        /// For the user.
        message: String,
        /// The address that stays in status, if there is one.
        address: Option<String>,
    },
}

/// Condition reasons of `Bound`.
pub mod reason {
    /// Not in any of the configured subnets.
    pub const OUT_OF_RANGE: &str = "VirtualMachineIPAddressIsOutOfTheValidRange";
    /// Another VirtualMachineIPAddress holds it.
    pub const TAKEN: &str = "VirtualMachineIPAddressLeaseAlreadyExists";
    /// The lease of a bound address is gone.
    pub const LOST: &str = "VirtualMachineIPAddressLeaseLost";
    /// No lease could be made.
    pub const NOT_FOUND: &str = "VirtualMachineIPAddressLeaseNotFound";
    /// The lease is kept for another namespace.
    pub const NOT_READY: &str = "VirtualMachineIPAddressLeaseNotReady";
}

/// Decides. `lease` looks an address up; it is asked for free addresses in order.
pub fn plan(wish: &Wish<'_>, pool: &[Ipv4Net], lease: impl Fn(Ipv4Addr) -> Tenure) -> Plan {
    if let Some(text) = wish.bound {
        let held = text.parse().ok().filter(|a| lease(*a) == Tenure::Held(wish.me.clone()));
        return match held {
            Some(address) => Plan::Bound(address),
            None => refused(
                reason::LOST,
                format!(
                    "The lease of {text} is gone. Delete this VirtualMachineIPAddress and create it again to get an \
                     address."
                ),
                Some(text),
            ),
        };
    }
    if let Some(address) = wish.leased {
        return Plan::Bound(address);
    }
    match (wish.type_, wish.static_ip) {
        (AddressType::Auto, _) => match free(pool, &lease) {
            Some(address) => Plan::Allocate(address),
            None => refused(
                reason::NOT_FOUND,
                format!("No free address in {}. Release addresses or add a subnet.", list(pool)),
                None,
            ),
        },
        (AddressType::Static, None) => refused(reason::OUT_OF_RANGE, "spec.staticIP is missing.".into(), None),
        (AddressType::Static, Some(text)) => fixed(wish, text, pool, lease),
    }
}

fn fixed(wish: &Wish<'_>, text: &str, pool: &[Ipv4Net], lease: impl Fn(Ipv4Addr) -> Tenure) -> Plan {
    let Some(address) = text.parse().ok().filter(|a| usable(pool, *a)) else {
        let message = format!("The requested address {text} is out of the valid range: {}.", list(pool));
        return refused(reason::OUT_OF_RANGE, message, None);
    };
    match lease(address) {
        Tenure::Free => Plan::Allocate(address),
        Tenure::Held(holder) if holder == wish.me => Plan::Bound(address),
        Tenure::Held(holder) => refused(
            reason::TAKEN,
            format!("{address} is leased to VirtualMachineIPAddress {}/{}.", holder.namespace, holder.name),
            None,
        ),
        Tenure::Kept { namespace } if namespace == wish.me.namespace => Plan::TakeOver(address),
        Tenure::Kept { .. } => refused(
            reason::NOT_READY,
            format!("The released lease of {address} belongs to a different namespace; it becomes free after a while."),
            None,
        ),
    }
}

fn refused(reason: &'static str, message: String, address: Option<&str>) -> Plan {
    Plan::Refused { reason, message, address: address.map(str::to_owned) }
}

fn free(pool: &[Ipv4Net], lease: impl Fn(Ipv4Addr) -> Tenure) -> Option<Ipv4Addr> {
    // A /32 is one address, network and broadcast at once; it can be given out, but not asked for.
    let single = |net: &Ipv4Net| (net.prefix_len() == 32).then(|| net.addr());
    pool.iter()
        .flat_map(|net| net.hosts().filter(|a| usable(pool, *a)).chain(single(net)))
        .find(|a| lease(*a) == Tenure::Free)
}

/// Inside a subnet and neither its network nor its broadcast address.
fn usable(pool: &[Ipv4Net], address: Ipv4Addr) -> bool {
    pool.iter().any(|n| n.contains(&address) && address != n.network() && address != n.broadcast())
}

/// The subnet of an address.
pub fn subnet(pool: &[Ipv4Net], address: Ipv4Addr) -> Option<Ipv4Net> {
    pool.iter().copied().find(|n| n.contains(&address))
}

fn list(pool: &[Ipv4Net]) -> String {
    if pool.is_empty() {
        return "the pool (no virtualMachineCIDRs are configured)".into();
    }
    pool.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")
}

/// Five characters that Kubernetes would use for a generated name, always the same for the same text.
pub fn suffix(text: &str) -> String {
    use md5::Digest;
    const ALPHABET: &[u8] = b"bcdfghjklmnpqrstvwxz2456789";
    let digest = md5::Md5::digest(text.as_bytes());
    digest.iter().take(5).map(|b| char::from(ALPHABET[usize::from(*b) % ALPHABET.len()])).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn holder(namespace: &str, name: &str) -> LeaseHolder {
        LeaseHolder { name: name.into(), namespace: namespace.into() }
    }

    fn wish<'a>(type_: AddressType, static_ip: Option<&'a str>, bound: Option<&'a str>) -> Wish<'a> {
        Wish { me: holder("ns", "me"), type_, static_ip, bound, leased: None }
    }

    fn pool(nets: &[&str]) -> Vec<Ipv4Net> {
        nets.iter().map(|n| n.parse().unwrap()).collect()
    }

    fn a(text: &str) -> Ipv4Addr {
        text.parse().unwrap()
    }

    #[test]
    fn automatic_addresses_are_given_in_order_without_network_and_broadcast() {
        let pool = pool(&["10.0.0.0/30", "10.1.0.0/31", "10.2.0.7/32"]);
        let mut taken = Vec::new();
        while let Plan::Allocate(address) = plan(&wish(AddressType::Auto, None, None), &pool, |x| {
            if taken.contains(&x) { Tenure::Held(holder("o", "o")) } else { Tenure::Free }
        }) {
            taken.push(address);
        }
        assert_eq!(taken, [a("10.0.0.1"), a("10.0.0.2"), a("10.2.0.7")]);
    }

    #[test]
    fn a_pool_without_a_free_address_says_so() {
        let pool = pool(&["10.0.0.0/30"]);
        let got = plan(&wish(AddressType::Auto, None, None), &pool, |_| Tenure::Held(holder("o", "o")));
        let Plan::Refused { reason, message, address: None } = got else { panic!("{got:?}") };
        assert_eq!(reason, "VirtualMachineIPAddressLeaseNotFound");
        assert!(message.contains("10.0.0.0/30"), "{message}");
    }

    #[test]
    fn static_addresses() {
        let pool = pool(&["10.0.0.0/24"]);
        let me = Tenure::Held(holder("ns", "me"));
        let kept = |ns: &str| Tenure::Kept { namespace: ns.into() };
        for (text, tenure, expected) in [
            ("10.0.0.7", Tenure::Free, Ok(Plan::Allocate(a("10.0.0.7")))),
            ("10.0.0.7", me, Ok(Plan::Bound(a("10.0.0.7")))),
            ("10.0.0.7", kept("ns"), Ok(Plan::TakeOver(a("10.0.0.7")))),
            ("10.0.0.7", kept("other"), Err("VirtualMachineIPAddressLeaseNotReady")),
            ("10.0.0.7", Tenure::Held(holder("ns", "you")), Err("VirtualMachineIPAddressLeaseAlreadyExists")),
            ("10.0.0.0", Tenure::Free, Err("VirtualMachineIPAddressIsOutOfTheValidRange")),
            ("10.0.0.255", Tenure::Free, Err("VirtualMachineIPAddressIsOutOfTheValidRange")),
            ("192.168.0.1", Tenure::Free, Err("VirtualMachineIPAddressIsOutOfTheValidRange")),
            ("x", Tenure::Free, Err("VirtualMachineIPAddressIsOutOfTheValidRange")),
        ] {
            let got = plan(&wish(AddressType::Static, Some(text), None), &pool, |_| tenure.clone());
            match expected {
                Ok(plan) => assert_eq!(got, plan, "{text} {tenure:?}"),
                Err(reason) => {
                    assert!(matches!(&got, Plan::Refused { reason: r, .. } if *r == reason), "{text} {got:?}");
                }
            }
        }
    }

    #[test]
    fn a_bound_address_whose_lease_is_gone_is_lost_and_not_replaced() {
        let pool = pool(&["10.0.0.0/24"]);
        let w = wish(AddressType::Auto, None, Some("10.0.0.9"));
        for tenure in [Tenure::Free, Tenure::Held(holder("ns", "you")), Tenure::Kept { namespace: "ns".into() }] {
            let got = plan(&w, &pool, |_| tenure.clone());
            assert!(matches!(got, Plan::Refused { reason: reason::LOST, address: Some(_), .. }), "{got:?}");
        }
        assert_eq!(plan(&w, &pool, |_| Tenure::Held(holder("ns", "me"))), Plan::Bound(a("10.0.0.9")));
    }

    #[test]
    fn an_own_lease_is_found_again() {
        let w = Wish { leased: Some(a("10.0.0.4")), ..wish(AddressType::Auto, None, None) };
        assert_eq!(plan(&w, &pool(&["10.0.0.0/24"]), |_| Tenure::Free), Plan::Bound(a("10.0.0.4")));
    }

    #[test]
    fn suffixes_look_generated_and_are_stable() {
        let s = suffix("3f0c");
        assert_eq!(s.len(), 5);
        assert_eq!(s, suffix("3f0c"));
        assert_ne!(s, suffix("3f0d"));
    }
}
