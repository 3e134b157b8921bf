//! VirtualMachineIPAddress and VirtualMachineIPAddressLease.

use std::net::Ipv4Addr;

use kube::CustomResource;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::Condition;

/// An address reserved in a namespace.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, CustomResource, JsonSchema)]
#[kube(
    group = "virtualization.deckhouse.io",
    version = "v1alpha2",
    kind = "VirtualMachineIPAddress",
    plural = "virtualmachineipaddresses",
    singular = "virtualmachineipaddress",
    shortname = "vmip",
    category = "virtualization",
    namespaced,
    status = "VirtualMachineIPAddressStatus",
    derive = "PartialEq",
    printcolumn = r#"{"name":"Address","type":"string","jsonPath":".status.address","description":"The address."}"#,
    printcolumn = r#"{"name":"Status","type":"string","jsonPath":".status.phase","description":"Phase."}"#,
    printcolumn = r#"{"name":"VM","type":"string","jsonPath":".status.virtualMachineName","description":"Machine that has it."}"#,
    printcolumn = r#"{"name":"Age","type":"date","jsonPath":".metadata.creationTimestamp","description":"Time since creation."}"#
)]
#[serde(rename_all = "camelCase")]
pub struct VirtualMachineIPAddressSpec {
    /// Any address, or a certain one.
    #[serde(rename = "type")]
    pub type_: AddressType,
    /// The certain one.
    #[serde(default, rename = "staticIP", skip_serializing_if = "Option::is_none")]
    pub static_ip: Option<String>,
}

/// Any address, or a certain one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum AddressType {
    /// Any free one.
    Auto,
    /// The one in `staticIP`.
    Static,
}

/// Phase of an address.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
pub enum AddressPhase {
    /// Not allocated.
    Pending,
    /// Allocated.
    Bound,
    /// Used by a machine.
    Attached,
}

/// What is observed of an address.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct VirtualMachineIPAddressStatus {
    /// The address.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub address: Option<String>,
    /// Machine that has it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub virtual_machine_name: Option<String>,
    /// Phase.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub phase: Option<AddressPhase>,
    /// Generation the conditions speak of.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,
    /// Conditions.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub conditions: Option<Vec<Condition>>,
}

/// An allocation from the pool; its name is the address (`ip-10-66-10-14`).
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, CustomResource, JsonSchema)]
#[kube(
    group = "virtualization.deckhouse.io",
    version = "v1alpha2",
    kind = "VirtualMachineIPAddressLease",
    plural = "virtualmachineipaddressleases",
    singular = "virtualmachineipaddresslease",
    shortname = "vmipl",
    shortname = "vmiplease",
    category = "virtualization-cluster",
    status = "VirtualMachineIPAddressLeaseStatus",
    derive = "PartialEq",
    printcolumn = r#"{"name":"VirtualMachineIPAddress","type":"string","jsonPath":".spec.virtualMachineIPAddressRef","description":"Holder."}"#,
    printcolumn = r#"{"name":"Status","type":"string","jsonPath":".status.phase","description":"Phase."}"#,
    printcolumn = r#"{"name":"Age","type":"date","jsonPath":".metadata.creationTimestamp","description":"Time since creation."}"#
)]
#[serde(rename_all = "camelCase", default)]
pub struct VirtualMachineIPAddressLeaseSpec {
    /// Holder. A released lease keeps the namespace and has an empty name.
    #[serde(rename = "virtualMachineIPAddressRef", skip_serializing_if = "Option::is_none")]
    pub virtual_machine_ip_address_ref: Option<LeaseHolder>,
}

/// Holder of a lease.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
pub struct LeaseHolder {
    /// Name of the VirtualMachineIPAddress.
    pub name: String,
    /// Its namespace.
    pub namespace: String,
}

/// Phase of a lease.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
pub enum LeasePhase {
    /// Held.
    Bound,
    /// Kept for its namespace until it expires.
    Released,
}

/// What is observed of a lease.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct VirtualMachineIPAddressLeaseStatus {
    /// Phase.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub phase: Option<LeasePhase>,
    /// Generation the conditions speak of.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,
    /// Conditions.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub conditions: Option<Vec<Condition>>,
}

/// Name of an address's lease: `ip-10-66-10-14`.
pub fn lease_name(address: Ipv4Addr) -> String {
    format!("ip-{}", address.to_string().replace('.', "-"))
}

/// The address that a lease's name says.
pub fn lease_address(name: &str) -> Option<Ipv4Addr> {
    name.strip_prefix("ip-")?.replace('-', ".").parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lease_names_are_addresses() {
        let a = Ipv4Addr::new(10, 66, 10, 14);
        assert_eq!(lease_name(a), "ip-10-66-10-14");
        assert_eq!(lease_address("ip-10-66-10-14"), Some(a));
        assert_eq!(lease_address("ip-10-66-10"), None);
        assert_eq!(lease_address("10-66-10-14"), None);
    }
}
