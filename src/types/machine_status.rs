//! What is observed of a VirtualMachine.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::{BlockDeviceKind, Condition, Quantity};

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
    pub recommended_resources: Option<RecommendedResources>,
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
    pub usb_devices: Option<Vec<UsbDeviceStatus>>,
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

/// Recommendation of an autoscaler.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct RecommendedResources {
    /// CPU.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cpu: Option<RecommendedCpu>,
}

/// Recommended share of each core.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct RecommendedCpu {
    /// For example `20%`.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(regex(pattern = "^(100|[1-9][0-9]?)%$"))]
    pub core_fraction: Option<String>,
}

/// A USB device of the instance.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct UsbDeviceStatus {
    /// Name of the USBDevice.
    pub name: String,
    /// The instance has it.
    pub attached: bool,
    /// It can be attached.
    pub ready: bool,
    /// It was added to a running machine.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hotplugged: Option<bool>,
    /// Where it is in the guest.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub address: Option<UsbAddress>,
}

/// Where a USB device is in the guest.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct UsbAddress {
    /// Bus.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub bus: Option<i64>,
    /// Port.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub port: Option<i64>,
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
    #[schemars(extend("enum" = ["", "Succeeded", "Failed"]))]
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
