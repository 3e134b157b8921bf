//! VirtualDiskSnapshot, VirtualMachineSnapshot and VirtualMachineSnapshotOperation.

use kube::CustomResource;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{CloneCustomization, Condition, NameReplacement, OperationMode, OperationResource};

/// The content of a disk at one moment.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, CustomResource, JsonSchema)]
#[kube(
    group = "virtualization.deckhouse.io",
    version = "v1alpha2",
    kind = "VirtualDiskSnapshot",
    plural = "virtualdisksnapshots",
    singular = "virtualdisksnapshot",
    shortname = "vdsnapshot",
    shortname = "vds",
    category = "virtualization",
    namespaced,
    status = "VirtualDiskSnapshotStatus",
    derive = "PartialEq",
    printcolumn = r#"{"name":"Phase","type":"string","jsonPath":".status.phase","description":"Phase of the snapshot."}"#,
    printcolumn = r#"{"name":"Consistent","type":"boolean","jsonPath":".status.consistent","description":"No write of the guest was cut in two."}"#,
    printcolumn = r#"{"name":"Age","type":"date","jsonPath":".metadata.creationTimestamp","description":"Time since creation."}"#
)]
#[serde(rename_all = "camelCase")]
pub struct VirtualDiskSnapshotSpec {
    /// Name of the VirtualDisk.
    #[schemars(length(min = 1))]
    pub virtual_disk_name: String,
    /// Fail rather than take a snapshot of a disk that is being written to.
    #[serde(default = "consistent")]
    pub required_consistency: bool,
}

fn consistent() -> bool {
    true
}

/// Phase of a snapshot, of a disk or a machine.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
pub enum SnapshotPhase {
    /// Waits for what it is taken of.
    Pending,
    /// Being taken.
    InProgress,
    /// Usable.
    Ready,
    /// It could not be taken, or its content is lost.
    Failed,
    /// Being deleted.
    Terminating,
}

/// What is observed of a disk's snapshot.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct VirtualDiskSnapshotStatus {
    /// Phase.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub phase: Option<SnapshotPhase>,
    /// The disk was at rest, or its file systems were frozen. Absent when neither is known.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub consistent: Option<bool>,
    /// The storage's own snapshot.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub volume_snapshot_name: Option<String>,
    /// Generation the conditions speak of.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,
    /// Conditions.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub conditions: Option<Vec<Condition>>,
}

/// A machine with its disks at one moment.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, CustomResource, JsonSchema)]
#[kube(
    group = "virtualization.deckhouse.io",
    version = "v1alpha2",
    kind = "VirtualMachineSnapshot",
    plural = "virtualmachinesnapshots",
    singular = "virtualmachinesnapshot",
    shortname = "vmsnapshot",
    shortname = "vms",
    category = "virtualization",
    namespaced,
    status = "VirtualMachineSnapshotStatus",
    derive = "PartialEq",
    printcolumn = r#"{"name":"Phase","type":"string","jsonPath":".status.phase","description":"Phase of the snapshot."}"#,
    printcolumn = r#"{"name":"Consistent","type":"boolean","jsonPath":".status.consistent","description":"No write of the guest was cut in two."}"#,
    printcolumn = r#"{"name":"Age","type":"date","jsonPath":".metadata.creationTimestamp","description":"Time since creation."}"#
)]
#[serde(rename_all = "camelCase")]
pub struct VirtualMachineSnapshotSpec {
    /// Name of the VirtualMachine.
    #[schemars(length(min = 1))]
    pub virtual_machine_name: String,
    /// Fail rather than take a snapshot of disks that are being written to.
    #[serde(default = "consistent")]
    pub required_consistency: bool,
    /// Whether the machine's address is kept for it.
    #[serde(default, rename = "keepIPAddress")]
    pub keep_ip_address: KeepIpAddress,
}

/// Whether a snapshot keeps the machine's address.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum KeepIpAddress {
    /// An automatic address becomes a static one, so that a restored machine gets it back.
    #[default]
    Always,
    /// A restored machine gets any address, unless the machine's own was static.
    Never,
}

/// What is observed of a machine's snapshot.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct VirtualMachineSnapshotStatus {
    /// Phase.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub phase: Option<SnapshotPhase>,
    /// All disks were at rest, or their file systems were frozen.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub consistent: Option<bool>,
    /// Secret with the machine's spec and what belongs to it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub virtual_machine_snapshot_secret_name: Option<String>,
    /// The snapshots of its disks.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub virtual_disk_snapshot_names: Option<Vec<String>>,
    /// The objects that can be restored from it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub resources: Option<Vec<SnapshotResource>>,
    /// Generation the conditions speak of.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,
    /// Conditions.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub conditions: Option<Vec<Condition>>,
}

/// An object in a machine's snapshot.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct SnapshotResource {
    /// apiVersion.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub api_version: Option<String>,
    /// Kind.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub kind: Option<String>,
    /// Name.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
}

/// One action on a machine's snapshot.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, CustomResource, JsonSchema)]
#[kube(
    group = "virtualization.deckhouse.io",
    version = "v1alpha2",
    kind = "VirtualMachineSnapshotOperation",
    plural = "virtualmachinesnapshotoperations",
    singular = "virtualmachinesnapshotoperation",
    shortname = "vmsop",
    category = "virtualization",
    namespaced,
    status = "VirtualMachineSnapshotOperationStatus",
    derive = "PartialEq",
    printcolumn = r#"{"name":"Phase","type":"string","jsonPath":".status.phase","description":"Phase of the operation."}"#,
    printcolumn = r#"{"name":"Type","type":"string","jsonPath":".spec.type","description":"What it does."}"#,
    printcolumn = r#"{"name":"VirtualMachineSnapshot","type":"string","jsonPath":".spec.virtualMachineSnapshotName","description":"The snapshot."}"#,
    printcolumn = r#"{"name":"Age","type":"date","jsonPath":".metadata.creationTimestamp","description":"Time since creation."}"#
)]
#[serde(rename_all = "camelCase")]
pub struct VirtualMachineSnapshotOperationSpec {
    /// What to do.
    #[serde(rename = "type")]
    pub type_: SnapshotOperationType,
    /// The snapshot.
    #[schemars(length(min = 1))]
    pub virtual_machine_snapshot_name: String,
    /// CreateVirtualMachine: how the new objects are called.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub create_virtual_machine: Option<CreateVirtualMachineSpec>,
}

/// What an operation on a snapshot does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
pub enum SnapshotOperationType {
    /// Make a new machine, with disks of its own.
    CreateVirtualMachine,
}

/// What to make of a snapshot.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct CreateVirtualMachineSpec {
    /// How strict.
    pub mode: OperationMode,
    /// New names by pattern.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub customization: Option<CloneCustomization>,
    /// New names one by one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name_replacement: Option<Vec<NameReplacement>>,
}

/// Phase of an operation on a snapshot.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
pub enum SnapshotOperationPhase {
    /// Not looked at yet.
    Pending,
    /// Under way.
    InProgress,
    /// Done.
    Completed,
    /// Not done.
    Failed,
    /// Being deleted.
    Terminating,
}

/// What is observed of an operation on a snapshot.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct VirtualMachineSnapshotOperationStatus {
    /// Phase.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub phase: Option<SnapshotOperationPhase>,
    /// What became of each object.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub resources: Option<Vec<OperationResource>>,
    /// Generation the conditions speak of.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,
    /// Conditions.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub conditions: Option<Vec<Condition>>,
}
