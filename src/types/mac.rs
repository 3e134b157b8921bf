//! VirtualMachineMACAddress and VirtualMachineMACAddressLease.

use kube::CustomResource;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{AddressPhase, Condition, LeaseHolder};

/// A MAC address reserved in a namespace, for an interface on an additional network.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, CustomResource, JsonSchema)]
#[kube(
    group = "virtualization.deckhouse.io",
    version = "v1alpha2",
    kind = "VirtualMachineMACAddress",
    plural = "virtualmachinemacaddresses",
    singular = "virtualmachinemacaddress",
    shortname = "vmmac",
    category = "virtualization",
    namespaced,
    status = "VirtualMachineMACAddressStatus",
    derive = "PartialEq",
    printcolumn = r#"{"name":"Address","type":"string","jsonPath":".status.address","description":"The address."}"#,
    printcolumn = r#"{"name":"Status","type":"string","jsonPath":".status.phase","description":"Phase."}"#,
    printcolumn = r#"{"name":"VM","type":"string","jsonPath":".status.virtualMachineName","description":"Machine that has it."}"#,
    printcolumn = r#"{"name":"Age","type":"date","jsonPath":".metadata.creationTimestamp","description":"Time since creation."}"#
)]
#[serde(rename_all = "camelCase", default)]
pub struct VirtualMachineMACAddressSpec {
    /// The address; absent = any.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(regex(pattern = "^([0-9A-Fa-f]{2}[:-]){5}[0-9A-Fa-f]{2}$"))]
    pub address: Option<String>,
}

/// What is observed of a MAC address.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct VirtualMachineMACAddressStatus {
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

/// A MAC address in use; its name is the address (`mac-aa-bb-cc-dd-ee-ff`).
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, CustomResource, JsonSchema)]
#[kube(
    group = "virtualization.deckhouse.io",
    version = "v1alpha2",
    kind = "VirtualMachineMACAddressLease",
    plural = "virtualmachinemacaddressleases",
    singular = "virtualmachinemacaddresslease",
    shortname = "vmmacl",
    shortname = "vmmaclease",
    category = "virtualization-cluster",
    status = "VirtualMachineMACAddressLeaseStatus",
    derive = "PartialEq",
    printcolumn = r#"{"name":"VirtualMachineMACAddress","type":"string","jsonPath":".spec.virtualMachineMACAddressRef","description":"Holder."}"#,
    printcolumn = r#"{"name":"Status","type":"string","jsonPath":".status.phase","description":"Phase."}"#,
    printcolumn = r#"{"name":"Age","type":"date","jsonPath":".metadata.creationTimestamp","description":"Time since creation."}"#
)]
#[serde(rename_all = "camelCase", default)]
pub struct VirtualMachineMACAddressLeaseSpec {
    /// Holder.
    #[serde(rename = "virtualMachineMACAddressRef", skip_serializing_if = "Option::is_none")]
    pub virtual_machine_mac_address_ref: Option<LeaseHolder>,
}

/// Phase of a MAC address's lease: unlike that of an IP address it ends with its holder.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
pub enum MacLeasePhase {
    /// Held.
    Bound,
}

/// What is observed of a MAC address's lease.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct VirtualMachineMACAddressLeaseStatus {
    /// Phase.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub phase: Option<MacLeasePhase>,
    /// Generation the conditions speak of.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,
    /// Conditions.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub conditions: Option<Vec<Condition>>,
}

/// Name of a MAC address's lease: `mac-aa-bb-cc-dd-ee-ff`, in lower case whatever the address is written in.
pub fn mac_lease_name(address: &str) -> String {
    format!("mac-{}", address.to_ascii_lowercase().replace(':', "-"))
}

/// The address that a lease's name says, as `aa:bb:cc:dd:ee:ff`.
pub fn mac_lease_address(name: &str) -> Option<String> {
    let digits: Vec<&str> = name.strip_prefix("mac-")?.split('-').collect();
    let pair = |p: &&str| p.len() == 2 && p.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'));
    (digits.len() == 6 && digits.iter().all(pair)).then(|| digits.join(":"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lease_names_are_addresses() {
        for address in ["02:AB:00:00:00:0f", "02-ab-00-00-00-0f"] {
            assert_eq!(mac_lease_name(address), "mac-02-ab-00-00-00-0f");
        }
        assert_eq!(mac_lease_address("mac-02-ab-00-00-00-0f").as_deref(), Some("02:ab:00:00:00:0f"));
        for name in ["mac-02-ab-00-00-00", "mac-02-ab-00-00-00-0g", "mac-02-AB-00-00-00-0f", "02-ab-00-00-00-0f"] {
            assert_eq!(mac_lease_address(name), None, "{name}");
        }
    }
}
