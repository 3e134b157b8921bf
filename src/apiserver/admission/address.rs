//! Rules of VirtualMachineIPAddress and VirtualMachineMACAddress that need the subnets and the other addresses (upstream.md 15.4); the rest is in
//! [`crate::types::rules`].

use std::net::Ipv4Addr;

use serde_json::Value;

use super::across::{Findings, World, text};
use crate::apiserver::object::{self, Object};
use crate::types::field_error::FieldError;
use crate::types::mac_lease_name;

const FIELD: &str = "spec.staticIP";

/// Checks an address to be stored; `old` is what it replaces.
pub(super) fn check(world: &dyn World, old: Option<&Object>, new: &Object, findings: &mut Findings) {
    if world.networks().is_some_and(<[_]>::is_empty) {
        let detail = "no subnets for machine addresses are configured (virtualMachineCIDRs)";
        return findings.refuse(FieldError::forbidden("spec", detail));
    }
    let given = text(new, &["spec", "staticIP"]);
    let pinned = text(new, &["status", "address"]) == given;
    let Some(address) = given.parse::<Ipv4Addr>().ok().filter(|_| !pinned) else { return };
    let value = Value::from(given);
    if world.networks().is_some_and(|networks| !usable(networks, address)) {
        let detail = format!("the requested address {address} is out of the valid range");
        match old {
            None => findings.refuse(FieldError::invalid(FIELD, &value, detail)),
            Some(_) => findings.warnings.push(detail),
        }
        return;
    }
    if let Some(holder) = holder(world, new, address) {
        let detail =
            format!("cannot be used: the address has already been allocated and has not been released{holder}");
        findings.refuse(FieldError::invalid(FIELD, &value, detail));
    }
}

/// Whether an address is in one of the subnets and neither its first nor its last.
fn usable(networks: &[ipnet::Ipv4Net], address: Ipv4Addr) -> bool {
    networks.iter().any(|n| n.contains(&address) && address != n.network() && address != n.broadcast())
}

/// Who holds an address, if it is not this object or free for it: ` by ...`.
fn holder(world: &dyn World, new: &Object, address: Ipv4Addr) -> Option<String> {
    let (name, namespace) = (object::name(new), object::text(new, "namespace"));
    let lease_name = format!("ip-{}", address.to_string().replace('.', "-"));
    let lease = world.list("virtualmachineipaddressleases", None).into_iter().find(|l| object::name(l) == lease_name);
    if let Some(lease) = lease {
        let of = |field: &str| text(&lease, &["spec", "virtualMachineIPAddressRef", field]).to_owned();
        let (holder, home) = (of("name"), of("namespace"));
        // A released one may be taken by its namespace; that it belongs to another shows as a condition later.
        return (!holder.is_empty() && (holder != name || home != namespace)).then(|| format!(" (by {home}/{holder})"));
    }
    let wanted = address.to_string();
    let rival = world.list("virtualmachineipaddresses", None).into_iter().find(|a| {
        let same = object::name(a) == name && object::text(a, "namespace") == namespace;
        !same && (text(a, &["spec", "staticIP"]) == wanted || text(a, &["status", "address"]) == wanted)
    });
    rival.map(|a| format!(" (by {}/{})", object::text(&a, "namespace"), object::name(&a)))
}

/// A MAC address that is asked for must not be in use, or asked for by another.
pub(super) fn mac(world: &dyn World, new: &Object, findings: &mut Findings) {
    let given = text(new, &["spec", "address"]);
    if given.is_empty() {
        return;
    }
    let (name, namespace) = (object::name(new), object::text(new, "namespace"));
    let wanted = mac_lease_name(given);
    let lease = world.list("virtualmachinemacaddressleases", None).into_iter().find(|l| object::name(l) == wanted);
    let by_lease = lease.map(|lease| {
        let of = |field: &str| text(&lease, &["spec", "virtualMachineMACAddressRef", field]).to_owned();
        (of("namespace"), of("name"))
    });
    let by_wish = || {
        let others = world.list("virtualmachinemacaddresses", None).into_iter();
        let mut same = others.filter(|o| {
            [["spec", "address"], ["status", "address"]].iter().any(|path| mac_lease_name(text(o, path)) == wanted)
        });
        same.find(|o| object::name(o) != name || object::text(o, "namespace") != namespace)
            .map(|o| (object::text(&o, "namespace").to_owned(), object::name(&o).to_owned()))
    };
    let holder = by_lease.filter(|(home, holder)| home != namespace || holder != name).or_else(by_wish);
    if let Some((home, holder)) = holder {
        let detail = format!("the address is already used by VirtualMachineMACAddress {home}/{holder}");
        findings.refuse(FieldError::invalid("spec.address", &given.into(), detail));
    }
}
