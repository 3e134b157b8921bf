//! VirtualMachineBlockDeviceAttachment.

use kube::CustomResource;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{BlockDeviceKind, Condition};

/// A block device added to a running machine.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, CustomResource, JsonSchema)]
#[kube(
    group = "virtualization.deckhouse.io",
    version = "v1alpha2",
    kind = "VirtualMachineBlockDeviceAttachment",
    plural = "virtualmachineblockdeviceattachments",
    singular = "virtualmachineblockdeviceattachment",
    shortname = "vmbda",
    category = "virtualization",
    namespaced,
    status = "VirtualMachineBlockDeviceAttachmentStatus",
    derive = "PartialEq",
    printcolumn = r#"{"name":"Phase","type":"string","jsonPath":".status.phase","description":"Phase of the attachment."}"#,
    printcolumn = r#"{"name":"BlockDevice Kind","type":"string","priority":1,"jsonPath":".spec.blockDeviceRef.kind","description":"Kind of the device."}"#,
    printcolumn = r#"{"name":"BlockDevice Name","type":"string","priority":1,"jsonPath":".spec.blockDeviceRef.name","description":"Name of the device."}"#,
    printcolumn = r#"{"name":"Virtual machine name","type":"string","jsonPath":".spec.virtualMachineName","description":"The machine."}"#,
    printcolumn = r#"{"name":"Age","type":"date","jsonPath":".metadata.creationTimestamp","description":"Time since creation."}"#
)]
#[serde(rename_all = "camelCase")]
pub struct VirtualMachineBlockDeviceAttachmentSpec {
    /// The device.
    pub block_device_ref: AttachedDeviceRef,
    /// The machine.
    #[schemars(length(min = 1))]
    pub virtual_machine_name: String,
}

/// The device to attach.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
pub struct AttachedDeviceRef {
    /// Kind.
    pub kind: BlockDeviceKind,
    /// Name.
    #[schemars(length(min = 1))]
    pub name: String,
}

/// Phase of an attachment.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
pub enum AttachmentPhase {
    /// Waits for the machine or the device.
    Pending,
    /// Asked for, not there yet.
    InProgress,
    /// The machine has it.
    Attached,
    /// It cannot be attached.
    Failed,
    /// Being unplugged.
    Terminating,
}

/// What is observed of an attachment.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct VirtualMachineBlockDeviceAttachmentStatus {
    /// Phase.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub phase: Option<AttachmentPhase>,
    /// The machine.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub virtual_machine_name: Option<String>,
    /// Generation the conditions speak of.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,
    /// Conditions.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub conditions: Option<Vec<Condition>>,
}
