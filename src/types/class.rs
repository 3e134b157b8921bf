//! VirtualMachineClass.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::Toleration;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector;
use kube::CustomResource;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{Condition, Quantity};

/// Annotation that makes a class the default one.
pub const DEFAULT_CLASS_ANNOTATION: &str = "virtualmachineclass.virtualization.deckhouse.io/is-default-class";

/// CPU model, placement and allowed sizes of a class of machines.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, CustomResource, JsonSchema)]
#[kube(
    group = "virtualization.deckhouse.io",
    version = "v1alpha2",
    kind = "VirtualMachineClass",
    plural = "virtualmachineclasses",
    singular = "virtualmachineclass",
    shortname = "vmc",
    shortname = "vmclass",
    category = "virtualization-cluster",
    status = "VirtualMachineClassStatus",
    derive = "PartialEq",
    printcolumn = r#"{"name":"Phase","type":"string","jsonPath":".status.phase","description":"Phase of the class."}"#,
    printcolumn = r#"{"name":"IsDefault","type":"string","jsonPath":".metadata.annotations.virtualmachineclass\\.virtualization\\.deckhouse\\.io\\/is-default-class","description":"Used when a machine names no class."}"#,
    printcolumn = r#"{"name":"Age","type":"date","jsonPath":".metadata.creationTimestamp","description":"Time since creation."}"#
)]
#[serde(rename_all = "camelCase")]
pub struct VirtualMachineClassSpec {
    /// CPU model; cannot be changed.
    pub cpu: ClassCpu,
    /// Nodes for machines of the class.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub node_selector: Option<LabelSelector>,
    /// Node taints that machines of the class tolerate.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tolerations: Option<Vec<Toleration>>,
    /// Allowed sizes, at most 16.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 16))]
    pub sizing_policies: Option<Vec<SizingPolicy>>,
}

/// CPU model of a class.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct ClassCpu {
    /// How the model is chosen.
    #[serde(rename = "type")]
    pub type_: CpuType,
    /// Named model (Model).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1))]
    pub model: Option<String>,
    /// Features (Features).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1))]
    pub features: Option<Vec<String>>,
    /// Nodes whose common features are taken (Discovery).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub discovery: Option<ClassDiscovery>,
}

/// How a class's CPU model is chosen.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum CpuType {
    /// As near to the host's as can be migrated.
    Host,
    /// The host's.
    HostPassthrough,
    /// Common features of nodes.
    Discovery,
    /// A named model.
    Model,
    /// Named features.
    Features,
}

/// Nodes whose common features are taken.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct ClassDiscovery {
    /// The nodes.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(extend("x-kubernetes-map-type" = "atomic"))]
    pub node_selector: Option<LabelSelector>,
}

/// Allowed sizes for a range of core counts.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct SizingPolicy {
    /// Core counts this policy speaks of.
    pub cores: CoreRange,
    /// Allowed memory.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub memory: Option<MemoryRange>,
    /// Allowed core fractions in percent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub core_fractions: Option<Vec<CoreFractionPercent>>,
    /// Core fraction of machines that give none: percent, or `Auto`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "int_or_string")]
    pub default_core_fraction: Option<serde_json::Value>,
    /// Accepted and unused, as upstream.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub dedicated_cores: Option<Vec<bool>>,
}

fn int_or_string(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
    schemars::json_schema!({"anyOf": [{"type": "integer"}, {"type": "string"}], "x-kubernetes-int-or-string": true, "maxLength": 4})
}

/// A core fraction, 1 to 100.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(transparent)]
pub struct CoreFractionPercent(#[schemars(range(min = 1, max = 100))] pub i32);

/// Core counts.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct CoreRange {
    /// Least.
    #[schemars(range(min = 1))]
    pub min: i32,
    /// Most.
    #[schemars(range(max = 1024))]
    pub max: i32,
    /// Step from the least.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1))]
    pub step: Option<i32>,
}

/// Memory sizes.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct MemoryRange {
    /// Least.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub min: Option<Quantity>,
    /// Most.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max: Option<Quantity>,
    /// Step from the least.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub step: Option<Quantity>,
    /// For each core.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub per_core: Option<PerCoreMemory>,
}

/// Memory for each core.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct PerCoreMemory {
    /// Least.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub min: Option<Quantity>,
    /// Most.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max: Option<Quantity>,
}

/// Phase of a class.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
pub enum ClassPhase {
    /// No node suits.
    Pending,
    /// Usable.
    Ready,
    /// Being deleted.
    Terminating,
}

/// What is observed of a class.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct VirtualMachineClassStatus {
    /// Phase.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub phase: Option<ClassPhase>,
    /// Nodes that suit.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub available_nodes: Option<Vec<String>>,
    /// CPU features (Discovery, Features).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cpu_features: Option<CpuFeatures>,
    /// Most that one machine can have.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_allocatable_resources: Option<BTreeMap<String, Quantity>>,
    /// Generation the conditions speak of.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,
    /// Conditions.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub conditions: Option<Vec<Condition>>,
}

/// CPU features of a class.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct CpuFeatures {
    /// On in its machines.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub enabled: Option<Vec<String>>,
    /// Common to the nodes but off.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub not_enabled_common: Option<Vec<String>>,
}
