//! VirtualMachineOperation.

use std::collections::BTreeMap;

use kube::CustomResource;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{Condition, MachinePhase, RunPolicy};

/// One action on a virtual machine.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, CustomResource, JsonSchema)]
#[kube(
    group = "virtualization.deckhouse.io",
    version = "v1alpha2",
    kind = "VirtualMachineOperation",
    plural = "virtualmachineoperations",
    singular = "virtualmachineoperation",
    shortname = "vmop",
    category = "virtualization",
    namespaced,
    status = "VirtualMachineOperationStatus",
    derive = "PartialEq",
    printcolumn = r#"{"name":"Phase","type":"string","jsonPath":".status.phase","description":"Phase of the operation."}"#,
    printcolumn = r#"{"name":"Progress","type":"string","jsonPath":".status.progress","description":"How far it is."}"#,
    printcolumn = r#"{"name":"Type","type":"string","jsonPath":".spec.type","description":"What it does."}"#,
    printcolumn = r#"{"name":"VirtualMachine","type":"string","jsonPath":".spec.virtualMachineName","description":"The machine."}"#,
    printcolumn = r#"{"name":"Age","type":"date","jsonPath":".metadata.creationTimestamp","description":"Time since creation."}"#
)]
#[serde(rename_all = "camelCase")]
pub struct VirtualMachineOperationSpec {
    /// What to do.
    #[serde(rename = "type")]
    pub type_: OperationType,
    /// The machine.
    #[schemars(length(min = 1))]
    pub virtual_machine_name: String,
    /// Stop and Restart: cut the power. Migrate and Evict: allow slowing the guest down.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub force: Option<bool>,
    /// Migrate: where to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub migrate: Option<MigrateSpec>,
    /// Restore: from what.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub restore: Option<RestoreSpec>,
    /// Clone: into what.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub clone: Option<CloneSpec>,
}

/// What an operation does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
pub enum OperationType {
    /// Start the machine.
    Start,
    /// Stop the machine.
    Stop,
    /// Stop and start.
    Restart,
    /// Migrate to another node.
    Evict,
    /// Migrate, with a say in where to.
    Migrate,
    /// Restore from a snapshot.
    Restore,
    /// Make a copy.
    Clone,
}

impl OperationType {
    /// As in the API.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Start => "Start",
            Self::Stop => "Stop",
            Self::Restart => "Restart",
            Self::Evict => "Evict",
            Self::Migrate => "Migrate",
            Self::Restore => "Restore",
            Self::Clone => "Clone",
        }
    }

    /// Run policies of a machine that allow it (upstream.md 7.2).
    pub fn run_policies(self) -> &'static [RunPolicy] {
        use RunPolicy::{AlwaysOff, AlwaysOn, AlwaysOnUnlessStoppedManually, Manual};
        match self {
            Self::Start | Self::Stop => &[Manual, AlwaysOnUnlessStoppedManually],
            Self::Restart | Self::Evict | Self::Migrate => &[Manual, AlwaysOnUnlessStoppedManually, AlwaysOn],
            Self::Restore | Self::Clone => &[Manual, AlwaysOnUnlessStoppedManually, AlwaysOn, AlwaysOff],
        }
    }

    /// Whether it applies to a machine in this phase (upstream.md 7.2).
    pub fn applies_in(self, phase: MachinePhase, force: bool) -> bool {
        use MachinePhase::{Degraded, Migrating, Pause, Pending, Running, Starting, Stopped, Stopping};
        match self {
            Self::Start => matches!(phase, Stopped | Stopping),
            Self::Stop | Self::Restart if phase == Stopping => force,
            // Migrating: these two supersede a migration, so they have to apply while there is one.
            Self::Stop => matches!(phase, Running | Degraded | Migrating | Starting | Pause | Pending),
            Self::Restart => matches!(phase, Running | Degraded | Migrating | Starting | Pause),
            Self::Evict | Self::Migrate => phase == Running,
            Self::Restore => matches!(phase, Stopped | Running | Pending),
            Self::Clone => matches!(phase, Stopped | Running),
        }
    }
}

/// Where to migrate.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct MigrateSpec {
    /// Labels of the target node.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub node_selector: Option<BTreeMap<String, String>>,
}

/// How strict Restore and Clone are.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum OperationMode {
    /// Only check.
    DryRun,
    /// Everything must fit.
    Strict,
    /// Skip what is missing.
    BestEffort,
}

/// What to restore from.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct RestoreSpec {
    /// How strict.
    pub mode: OperationMode,
    /// The snapshot.
    #[schemars(length(min = 1))]
    pub virtual_machine_snapshot_name: String,
}

/// What to clone into.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct CloneSpec {
    /// How strict.
    pub mode: OperationMode,
    /// New names by pattern.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub customization: Option<CloneCustomization>,
    /// New names one by one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name_replacement: Option<Vec<NameReplacement>>,
}

/// New names by pattern.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct CloneCustomization {
    /// Put before each name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name_prefix: Option<String>,
    /// Put after each name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name_suffix: Option<String>,
}

/// One new name.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct NameReplacement {
    /// Which object.
    pub from: NamedObject,
    /// Its new name.
    #[schemars(length(min = 1))]
    pub to: String,
}

/// An object by kind and name.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct NamedObject {
    /// Kind; any if absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1))]
    pub kind: Option<String>,
    /// Name.
    #[schemars(length(min = 1))]
    pub name: String,
}

/// Phase of an operation.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
pub enum OperationPhase {
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
    /// Replaced by a newer operation.
    Superseded,
}

impl OperationPhase {
    /// Nothing will change any more.
    pub fn is_final(self) -> bool {
        matches!(self, Self::Completed | Self::Failed | Self::Superseded)
    }
}

/// What is observed of an operation.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct VirtualMachineOperationStatus {
    /// Phase.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub phase: Option<OperationPhase>,
    /// For example `42%`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub progress: Option<String>,
    /// Restore and Clone: what became of each object.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub resources: Option<Vec<OperationResource>>,
    /// Generation the conditions speak of.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,
    /// Conditions.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub conditions: Option<Vec<Condition>>,
}

/// What became of one object.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct OperationResource {
    /// apiVersion.
    pub api_version: String,
    /// Kind.
    pub kind: String,
    /// Name.
    pub name: String,
    /// `InProgress`, `Completed` or `Failed`.
    #[schemars(extend("enum" = ["InProgress", "Completed", "Failed"]))]
    pub status: String,
    /// Why.
    pub message: String,
}
