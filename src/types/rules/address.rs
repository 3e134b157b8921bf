//! Rules of VirtualMachineIPAddress, VirtualMachineMACAddress and their leases. Whether an address is in the pool and free is not said here: that
//! takes the pool and the leases.

use std::net::IpAddr;

use serde_json::Value;

use super::text;
use crate::types::field_error::FieldError;
use crate::types::mac_lease_address;

const TYPE: &str = "spec.type";
const STATIC: &str = "spec.staticIP";

pub(super) fn validate(old: Option<&Value>, new: &Value) -> Vec<FieldError> {
    let mut errors = Vec::new();
    let (type_, wanted) = (text(new, "/spec/type"), text(new, "/spec/staticIP"));
    match (type_, wanted) {
        ("Static", "") => errors.push(FieldError::required(
            STATIC,
            "the 'Static IP' field should be set for the IP address with the 'Static' type",
        )),
        ("Static", address) if address.parse::<IpAddr>().is_err() => {
            let detail = "not a valid textual representation of an IP address";
            errors.push(FieldError::invalid(STATIC, &Value::from(address), detail));
        }
        ("Auto", address) if !address.is_empty() => {
            errors.push(FieldError::forbidden(STATIC, "it is set although the type is Auto; set the type to Static"));
        }
        _ => {}
    }
    if errors.is_empty()
        && let Some(old) = old.filter(|old| matches!(text(old, "/status/phase"), "Bound" | "Attached"))
    {
        bound(old, type_, wanted, &mut errors);
    }
    errors
}

/// What may still change once an address is allocated: only pinning it.
fn bound(old: &Value, type_: &str, wanted: &str, errors: &mut Vec<FieldError>) {
    let (old_type, old_wanted) = (text(old, "/spec/type"), text(old, "/spec/staticIP"));
    let current = text(old, "/status/address");
    match (old_type, type_) {
        ("Auto", "Static") if wanted != current => {
            let detail = format!("the address in use is {current}: only that one can be made static, not {wanted}");
            errors.push(FieldError::invalid(STATIC, &Value::from(wanted), detail));
        }
        ("Static", "Auto") => {
            errors.push(FieldError::forbidden(TYPE, "cannot be changed while the address is allocated"));
        }
        ("Static", "Static") if wanted != old_wanted => {
            let detail = format!("cannot be changed from {old_wanted} while that address is allocated");
            errors.push(FieldError::forbidden(STATIC, detail));
        }
        _ => {}
    }
}

/// A lease's name is its address: `ip-10-66-10-14`.
pub(super) fn lease(new: &Value) -> Vec<FieldError> {
    let name = text(new, "/metadata/name");
    let address = name.strip_prefix("ip-").map(|rest| rest.replace('-', "."));
    if address.is_some_and(|a| a.parse::<IpAddr>().is_ok()) {
        return Vec::new();
    }
    let detail = "not an address: a lease is called ip- and the address with dashes, such as ip-10-66-10-14";
    vec![FieldError::invalid("metadata.name", &Value::from(name), detail)]
}

pub(super) fn mac(old: Option<&Value>, new: &Value) -> Vec<FieldError> {
    const FIELD: &str = "spec.address";
    let Some(old) = old.filter(|old| matches!(text(old, "/status/phase"), "Bound" | "Attached")) else {
        return Vec::new();
    };
    if text(old, "/spec/address") == text(new, "/spec/address") {
        return Vec::new();
    }
    vec![FieldError::forbidden(FIELD, "cannot be changed while the address is allocated")]
}

/// A lease's name is its address: `mac-02-00-00-00-00-01`.
pub(super) fn mac_lease(new: &Value) -> Vec<FieldError> {
    let name = text(new, "/metadata/name");
    if mac_lease_address(name).is_some() {
        return Vec::new();
    }
    let detail = "not a MAC address: a lease is called mac- and the address with dashes, such as mac-02-00-00-00-00-01";
    vec![FieldError::invalid("metadata.name", &Value::from(name), detail)]
}
