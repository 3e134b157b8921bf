//! VirtualMachine: its spec. Its status is in [`super::machine_status`].

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{NodeAffinity, Toleration, TopologySpreadConstraint};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector;
use kube::CustomResource;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{BlockDeviceRef, Quantity, VirtualMachineStatus};

/// A virtual machine: its resources, devices and rules.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, CustomResource, JsonSchema)]
#[kube(
    group = "virtualization.deckhouse.io",
    version = "v1alpha2",
    kind = "VirtualMachine",
    plural = "virtualmachines",
    singular = "virtualmachine",
    shortname = "vm",
    category = "all",
    category = "virtualization",
    namespaced,
    status = "VirtualMachineStatus",
    derive = "PartialEq",
    printcolumn = r#"{"name":"Phase","type":"string","jsonPath":".status.phase","description":"Phase of the machine."}"#,
    printcolumn = r#"{"name":"Cores","type":"string","priority":1,"jsonPath":".spec.cpu.cores","description":"Number of cores."}"#,
    printcolumn = r#"{"name":"CoreFraction","type":"string","priority":1,"jsonPath":".spec.cpu.coreFraction","description":"Guaranteed share of each core."}"#,
    printcolumn = r#"{"name":"Memory","type":"string","priority":1,"jsonPath":".spec.memory.size","description":"Amount of memory."}"#,
    printcolumn = r#"{"name":"Need restart","type":"string","priority":1,"jsonPath":".status.conditions[?(@.type=='AwaitingRestartToApplyConfiguration')].status","description":"Changes wait for a restart."}"#,
    printcolumn = r#"{"name":"Agent","type":"string","priority":1,"jsonPath":".status.conditions[?(@.type=='AgentReady')].status","description":"The guest agent answers."}"#,
    printcolumn = r#"{"name":"Migratable","type":"string","priority":1,"jsonPath":".status.conditions[?(@.type=='Migratable')].status","description":"The machine can be migrated."}"#,
    printcolumn = r#"{"name":"Node","type":"string","jsonPath":".status.nodeName","description":"Node the machine runs on."}"#,
    printcolumn = r#"{"name":"IPAddress","type":"string","jsonPath":".status.ipAddress","description":"Address of the machine."}"#,
    printcolumn = r#"{"name":"Age","type":"date","jsonPath":".metadata.creationTimestamp","description":"Time since creation."}"#
)]
#[serde(rename_all = "camelCase")]
pub struct VirtualMachineSpec {
    /// Name of the VirtualMachineClass.
    #[schemars(length(min = 1))]
    pub virtual_machine_class_name: String,
    /// When the machine runs.
    #[serde(default)]
    pub run_policy: RunPolicy,
    /// How disruptive changes are applied.
    #[serde(default)]
    pub disruptions: Disruptions,
    /// Virtual CPUs.
    pub cpu: CpuSpec,
    /// Memory.
    pub memory: MemorySpec,
    /// Disks and images in device and boot order; 1 to 16.
    #[schemars(length(min = 1, max = 16))]
    pub block_device_refs: Vec<BlockDeviceRef>,
    /// Firmware.
    #[serde(default)]
    pub bootloader: Bootloader,
    /// Which hardware suits the guest.
    #[serde(default)]
    pub os_type: GuestOsType,
    /// virtio devices (true) or SATA/IDE disks and an emulated network card (false).
    #[serde(default = "yes")]
    pub enable_paravirtualization: bool,
    /// Seconds a guest may take to shut down before its power is cut.
    #[serde(default = "default_grace")]
    pub termination_grace_period_seconds: i64,
    /// First-boot configuration.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub provisioning: Option<Provisioning>,
    /// Name of the VirtualMachineIPAddress to use; absent = one is made.
    #[serde(default, rename = "virtualMachineIPAddressName", skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1))]
    pub virtual_machine_ip_address_name: Option<String>,
    /// Labels a node must have.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub node_selector: Option<BTreeMap<String, String>>,
    /// Placement preferences and requirements.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub affinity: Option<MachineAffinity>,
    /// Spreading over topology domains.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub topology_spread_constraints: Option<Vec<TopologySpreadConstraint>>,
    /// Node taints the machine tolerates.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tolerations: Option<Vec<Toleration>>,
    /// Priority class.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1))]
    pub priority_class_name: Option<String>,
    /// Whether a live migration may slow the guest down to finish.
    #[serde(default)]
    pub live_migration_policy: LiveMigrationPolicy,
    /// Networks; absent = one Main network.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub networks: Option<Vec<NetworkRef>>,
    /// USB devices, at most 8.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 8))]
    pub usb_devices: Option<Vec<UsbDeviceRef>>,
    /// GPUs, at most 16.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 16), extend("x-kubernetes-list-type" = "atomic"))]
    pub gpus: Option<Vec<GpuRef>>,
}

fn yes() -> bool {
    true
}

fn default_grace() -> i64 {
    60
}

/// When a machine runs.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
pub enum RunPolicy {
    /// Always, also after the guest shut itself down.
    AlwaysOn,
    /// Never.
    AlwaysOff,
    /// As commands and operations say.
    Manual,
    /// From creation until stopped by a command, an operation or the guest.
    #[default]
    AlwaysOnUnlessStoppedManually,
}

impl RunPolicy {
    /// As in the API.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::AlwaysOn => "AlwaysOn",
            Self::AlwaysOff => "AlwaysOff",
            Self::Manual => "Manual",
            Self::AlwaysOnUnlessStoppedManually => "AlwaysOnUnlessStoppedManually",
        }
    }
}

/// How disruptive changes are applied.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Disruptions {
    /// Who approves a restart that applies changes.
    #[serde(default)]
    pub restart_approval_mode: RestartApprovalMode,
}

/// Who approves a restart that applies changes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum RestartApprovalMode {
    /// The user restarts.
    #[default]
    Manual,
    /// The machine is restarted at once.
    Automatic,
}

/// Virtual CPUs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct CpuSpec {
    /// Number of cores.
    #[schemars(range(min = 1))]
    pub cores: i32,
    /// Guaranteed share of each core, `1%` to `100%`; filled in from the class when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(regex(pattern = "^(Auto|(100|[1-9][0-9]?)%)$"))]
    pub core_fraction: Option<String>,
}

/// Memory.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct MemorySpec {
    /// Amount, for example `1Gi`.
    pub size: Quantity,
}

/// Firmware.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum Bootloader {
    /// Legacy BIOS.
    #[default]
    #[serde(rename = "BIOS")]
    Bios,
    /// UEFI.
    #[serde(rename = "EFI")]
    Efi,
    /// UEFI with Secure Boot.
    #[serde(rename = "EFIWithSecureBoot")]
    EfiWithSecureBoot,
}

/// Which hardware suits the guest.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum GuestOsType {
    /// Linux and other modern systems.
    #[default]
    Generic,
    /// Windows.
    Windows,
    /// Old systems: i440fx, BIOS, no provisioning.
    Legacy,
}

/// Where first-boot configuration is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum ProvisioningType {
    /// In `userData`.
    UserData,
    /// In a Secret.
    UserDataRef,
    /// Windows answer files in a Secret.
    SysprepRef,
}

/// First-boot configuration.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Provisioning {
    /// Which of the following is used.
    #[serde(rename = "type")]
    pub type_: ProvisioningType,
    /// cloud-init user data, at most 2048 bytes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub user_data: Option<String>,
    /// Secret with cloud-init user data.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub user_data_ref: Option<SecretRef>,
    /// Secret with Windows answer files.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sysprep_ref: Option<SecretRef>,
}

/// Reference to a Secret.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct SecretRef {
    /// Always Secret.
    #[serde(default)]
    pub kind: SecretKind,
    /// Name of the Secret.
    #[schemars(length(min = 1))]
    pub name: String,
}

/// Always Secret.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum SecretKind {
    /// A Secret.
    #[default]
    Secret,
}

/// Placement preferences and requirements.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct MachineAffinity {
    /// Relative to nodes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub node_affinity: Option<NodeAffinity>,
    /// Near other machines.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub virtual_machine_and_pod_affinity: Option<MachineAndPodAffinity>,
    /// Away from other machines.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub virtual_machine_and_pod_anti_affinity: Option<MachineAndPodAffinity>,
}

/// Terms of (anti-)affinity between machines.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct MachineAndPodAffinity {
    /// Preferences.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub preferred_during_scheduling_ignored_during_execution: Option<Vec<WeightedAffinityTerm>>,
    /// Requirements.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub required_during_scheduling_ignored_during_execution: Option<Vec<AffinityTerm>>,
}

/// A preference.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct WeightedAffinityTerm {
    /// 1 to 100.
    #[schemars(range(min = 1, max = 100))]
    pub weight: i32,
    /// What is preferred.
    pub virtual_machine_and_pod_affinity_term: AffinityTerm,
}

/// Which machines, and what "same place" means.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct AffinityTerm {
    /// Labels of the machines.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub label_selector: Option<LabelSelector>,
    /// Label keys whose values of this machine are added to the selector.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub match_label_keys: Option<Vec<String>>,
    /// As `matchLabelKeys`, negated.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mismatch_label_keys: Option<Vec<String>>,
    /// Namespaces by label.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub namespace_selector: Option<LabelSelector>,
    /// Namespaces by name; absent = the machine's own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub namespaces: Option<Vec<String>>,
    /// Node label that tells places apart.
    pub topology_key: String,
}

/// Whether a live migration may slow the guest down to finish.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum LiveMigrationPolicy {
    /// Never.
    AlwaysSafe,
    /// Not unless the operation says force.
    #[default]
    PreferSafe,
    /// Always.
    AlwaysForced,
    /// Unless the operation says no force.
    PreferForced,
}

/// A network of the machine.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct NetworkRef {
    /// Number of the interface; Main is 1.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub id: Option<i64>,
    /// Kind of network.
    #[serde(rename = "type")]
    pub type_: NetworkType,
    /// Name of the network; not for Main.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1))]
    pub name: Option<String>,
    /// MAC address object.
    #[serde(default, rename = "virtualMachineMACAddressName", skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1))]
    pub virtual_machine_mac_address_name: Option<String>,
    /// Address object.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1))]
    pub ip_address_name: Option<String>,
}

/// Kind of network.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum NetworkType {
    /// The machines' shared network.
    Main,
    /// A network of the namespace.
    Network,
    /// A network of the cluster.
    ClusterNetwork,
}

/// A USB device.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct UsbDeviceRef {
    /// Name of the USBDevice.
    #[schemars(length(min = 1))]
    pub name: String,
}

/// A GPU.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct GpuRef {
    /// Class of GPU.
    #[schemars(
        length(min = 1, max = 253),
        regex(pattern = r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*$")
    )]
    pub gpu_class_name: String,
}
