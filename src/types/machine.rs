//! VirtualMachine.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{NodeAffinity, Toleration, TopologySpreadConstraint};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{LabelSelector, Time};
use kube::CustomResource;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::{BlockDeviceKind, BlockDeviceRef, Condition, Quantity};

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

/// Phase of a machine.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
pub enum MachinePhase {
    /// Waits for what it depends on.
    #[default]
    Pending,
    /// The guest executes.
    Running,
    /// Declared upstream, never set.
    Degraded,
    /// Being deleted.
    Terminating,
    /// No instance and none expected.
    Stopped,
    /// A stop is in flight.
    Stopping,
    /// The instance is being made.
    Starting,
    /// A live migration is in flight.
    Migrating,
    /// The guest is held.
    Pause,
}

impl MachinePhase {
    /// As in the API.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Pending => "Pending",
            Self::Running => "Running",
            Self::Degraded => "Degraded",
            Self::Terminating => "Terminating",
            Self::Stopped => "Stopped",
            Self::Stopping => "Stopping",
            Self::Starting => "Starting",
            Self::Migrating => "Migrating",
            Self::Pause => "Pause",
        }
    }
}

/// What is observed of a machine.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct VirtualMachineStatus {
    /// Phase.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub phase: Option<MachinePhase>,
    /// Node of the instance.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub node_name: Option<String>,
    /// Address object in use.
    #[serde(rename = "virtualMachineIPAddressName", skip_serializing_if = "Option::is_none")]
    pub virtual_machine_ip_address_name: Option<String>,
    /// Address.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ip_address: Option<String>,
    /// Block devices of the instance.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub block_device_refs: Option<Vec<BlockDeviceStatus>>,
    /// What the guest agent says of the guest's system.
    #[serde(rename = "guestOSInfo", skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "any_object")]
    pub guest_os_info: Option<Value>,
    /// Resources of the instance; of the spec when stopped.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub resources: Option<ResourcesStatus>,
    /// Changes that wait for a restart, sorted by path.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "any_objects")]
    pub restart_awaiting_changes: Option<Vec<Value>>,
    /// Recommendation of an autoscaler.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "any_object")]
    pub recommended_resources: Option<Value>,
    /// Phase history and durations.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub stats: Option<MachineStats>,
    /// Last migration.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub migration_state: Option<MigrationState>,
    /// Pods of the machine (cluster).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub virtual_machine_pods: Option<Vec<MachinePod>>,
    /// Software versions of the instance.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub versions: Option<MachineVersions>,
    /// Networks of the instance.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub networks: Option<Vec<NetworkStatus>>,
    /// USB devices of the instance.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "any_objects")]
    pub usb_devices: Option<Vec<Value>>,
    /// Generation the conditions speak of.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,
    /// Conditions.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub conditions: Option<Vec<Condition>>,
}

fn any_object(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
    schemars::json_schema!({"type": "object", "x-kubernetes-preserve-unknown-fields": true})
}

fn any_objects(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
    schemars::json_schema!({
        "type": "array",
        "items": {"type": "object", "x-kubernetes-preserve-unknown-fields": true}
    })
}

/// A block device of the instance.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct BlockDeviceStatus {
    /// Kind of the object.
    pub kind: BlockDeviceKind,
    /// Name of the object.
    pub name: String,
    /// Size as a quantity.
    pub size: String,
    /// The instance has it.
    pub attached: bool,
    /// It was added to a running machine.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hotplugged: Option<bool>,
    /// Device name in the guest; a hint, not a contract.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub target: Option<String>,
    /// The attachment object of a hot-plugged device.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub virtual_machine_block_device_attachment_name: Option<String>,
    /// Position in the boot order.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub boot_order: Option<u32>,
}

/// Resources of the instance.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct ResourcesStatus {
    /// CPU.
    pub cpu: CpuStatus,
    /// Memory.
    pub memory: MemoryStatus,
}

/// CPU of the instance.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct CpuStatus {
    /// Cores.
    pub cores: i32,
    /// Guaranteed share.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub core_fraction: Option<String>,
    /// Guaranteed CPU in all, for example `100m`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub requested_cores: Option<Quantity>,
    /// CPU for the hypervisor itself.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub runtime_overhead: Option<Quantity>,
    /// Sockets and cores.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub topology: Option<CpuTopology>,
}

/// Sockets and cores.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct CpuTopology {
    /// Sockets.
    pub sockets: i32,
    /// Cores of each socket.
    pub cores_per_socket: i32,
}

/// Memory of the instance.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct MemoryStatus {
    /// Size.
    pub size: Quantity,
    /// Memory for the hypervisor itself.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub runtime_overhead: Option<Quantity>,
}

/// Phase history and durations.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct MachineStats {
    /// The last five.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub phases_transitions: Option<Vec<PhaseTransition>>,
    /// How long the last start took.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub launch_time_duration: Option<LaunchTimeDuration>,
    /// When the instance began to run.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last_start_time: Option<Time>,
}

/// One change of phase.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct PhaseTransition {
    /// New phase.
    pub phase: MachinePhase,
    /// When.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub timestamp: Option<Time>,
}

/// How long the last start took, as durations like `1.5s`.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct LaunchTimeDuration {
    /// Pending to Starting.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub waiting_for_dependencies: Option<String>,
    /// Starting to Running.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub virtual_machine_starting: Option<String>,
    /// Running to agent ready.
    #[serde(rename = "guestOSAgentStarting", skip_serializing_if = "Option::is_none")]
    pub guest_os_agent_starting: Option<String>,
}

/// Last migration.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct MigrationState {
    /// Begin.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub start_timestamp: Option<Time>,
    /// End.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub end_timestamp: Option<Time>,
    /// From.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub source: Option<MigrationEnd>,
    /// To.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub target: Option<MigrationEnd>,
    /// `Succeeded`, `Failed` or empty.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub result: Option<String>,
}

/// One end of a migration.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct MigrationEnd {
    /// Node.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub node: Option<String>,
    /// Pod (cluster) or QEMU process (standalone).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pod: Option<String>,
}

/// A pod of the machine.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct MachinePod {
    /// Name.
    pub name: String,
    /// It is the one in use.
    pub active: bool,
}

/// Software versions of the instance.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct MachineVersions {
    /// QEMU.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub qemu: Option<String>,
    /// libvirt (cluster).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub libvirt: Option<String>,
}

/// A network of the instance.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct NetworkStatus {
    /// Number of the interface.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub id: Option<i64>,
    /// Kind of network.
    #[serde(rename = "type")]
    pub type_: String,
    /// Name of the network.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// MAC address.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mac_address: Option<String>,
    /// MAC address object.
    #[serde(default, rename = "virtualMachineMACAddressName", skip_serializing_if = "Option::is_none")]
    pub virtual_machine_mac_address_name: Option<String>,
    /// Address.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ip_address: Option<String>,
}
