//! VirtualDisk.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use kube::CustomResource;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{
    Condition, ContainerImageSource, DataSourceType, DownloadSpeed, HttpSource, ImageUploadUrls, Quantity, SourceKind,
    UploadSource,
};

/// A writable disk.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, CustomResource, JsonSchema)]
#[kube(
    group = "virtualization.deckhouse.io",
    version = "v1alpha2",
    kind = "VirtualDisk",
    plural = "virtualdisks",
    singular = "virtualdisk",
    shortname = "vd",
    category = "virtualization",
    namespaced,
    status = "VirtualDiskStatus",
    derive = "PartialEq",
    printcolumn = r#"{"name":"Phase","type":"string","jsonPath":".status.phase","description":"Phase of the disk."}"#,
    printcolumn = r#"{"name":"Capacity","type":"string","jsonPath":".status.capacity","description":"Size."}"#,
    printcolumn = r#"{"name":"InUse","type":"string","priority":1,"jsonPath":".status.conditions[?(@.type=='InUse')].status","description":"Something uses it."}"#,
    printcolumn = r#"{"name":"VirtualMachine","type":"string","jsonPath":".status.attachedToVirtualMachines[?(@.mounted==true)].name","description":"Machine that has it."}"#,
    printcolumn = r#"{"name":"Progress","type":"string","priority":1,"jsonPath":".status.progress","description":"How far its making is."}"#,
    printcolumn = r#"{"name":"StorageClass","type":"string","priority":1,"jsonPath":".status.storageClassName","description":"Storage class."}"#,
    printcolumn = r#"{"name":"TargetPVC","type":"string","priority":1,"jsonPath":".status.target.persistentVolumeClaimName","description":"Volume claim."}"#,
    printcolumn = r#"{"name":"Age","type":"date","jsonPath":".metadata.creationTimestamp","description":"Time since creation."}"#
)]
#[serde(rename_all = "camelCase", default)]
pub struct VirtualDiskSpec {
    /// Where the content comes from; absent = blank.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub data_source: Option<DiskDataSource>,
    /// Size and storage.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub persistent_volume_claim: Option<DiskClaim>,
}

/// Where a disk's content comes from.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct DiskDataSource {
    /// Which of the following is used.
    #[serde(rename = "type")]
    pub type_: DataSourceType,
    /// Download.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub http: Option<HttpSource>,
    /// Registry.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub container_image: Option<ContainerImageSource>,
    /// Another object.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub object_ref: Option<DiskObjectRef>,
    /// Upload.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub upload: Option<UploadSource>,
}

/// The object a disk is made from.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct DiskObjectRef {
    /// Kind.
    pub kind: DiskSourceKind,
    /// Name.
    #[schemars(length(min = 1))]
    pub name: String,
}

/// Kinds a disk can be made from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum DiskSourceKind {
    /// A ClusterVirtualImage.
    ClusterVirtualImage,
    /// A VirtualImage.
    VirtualImage,
    /// A VirtualDiskSnapshot.
    VirtualDiskSnapshot,
}

impl From<DiskSourceKind> for SourceKind {
    fn from(kind: DiskSourceKind) -> Self {
        match kind {
            DiskSourceKind::ClusterVirtualImage => Self::ClusterVirtualImage,
            DiskSourceKind::VirtualImage => Self::VirtualImage,
            DiskSourceKind::VirtualDiskSnapshot => Self::VirtualDiskSnapshot,
        }
    }
}

/// Size and storage of a disk.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct DiskClaim {
    /// Size; absent = the source's.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub size: Option<Quantity>,
    /// Storage class.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub storage_class_name: Option<String>,
}

/// Phase of a disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
pub enum DiskPhase {
    /// Waits for what it depends on.
    Pending,
    /// Being made.
    Provisioning,
    /// Waits for the user's upload.
    WaitForUserUpload,
    /// Storage waits for the first machine.
    WaitForFirstConsumer,
    /// Usable.
    Ready,
    /// Growing.
    Resizing,
    /// Could not be made.
    Failed,
    /// Its volume is gone.
    #[serde(rename = "PVCLost")]
    PvcLost,
    /// Being exported.
    Exporting,
    /// Being deleted.
    Terminating,
    /// Moving to other storage.
    Migrating,
}

/// What is observed of a disk.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct VirtualDiskStatus {
    /// Phase.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub phase: Option<DiskPhase>,
    /// Size as a quantity.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub capacity: Option<String>,
    /// For example `42%`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub progress: Option<String>,
    /// Storage class in use.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub storage_class_name: Option<String>,
    /// Where it is.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub target: Option<DiskTarget>,
    /// Transfer speed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub download_speed: Option<DownloadSpeed>,
    /// Where to upload to.
    #[serde(rename = "imageUploadURLs", skip_serializing_if = "Option::is_none")]
    pub image_upload_urls: Option<ImageUploadUrls>,
    /// Command that uploads.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub upload_command: Option<String>,
    /// Machines that name the disk.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub attached_to_virtual_machines: Option<Vec<AttachedMachine>>,
    /// UID of the source object.
    #[serde(rename = "sourceUID", skip_serializing_if = "Option::is_none")]
    pub source_uid: Option<String>,
    /// Durations.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub stats: Option<DiskStats>,
    /// Last move to other storage.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub migration_state: Option<DiskMigration>,
    /// Generation the conditions speak of.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,
    /// Conditions.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub conditions: Option<Vec<Condition>>,
}

/// Last move of a disk to other storage (cluster).
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct DiskMigration {
    /// From.
    #[serde(rename = "sourcePVC", skip_serializing_if = "Option::is_none")]
    pub source_pvc: Option<String>,
    /// To.
    #[serde(rename = "targetPVC", skip_serializing_if = "Option::is_none")]
    pub target_pvc: Option<String>,
    /// `Succeeded` or `Failed`.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(extend("enum" = ["Succeeded", "Failed"]))]
    pub result: Option<String>,
    /// Why.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub message: Option<String>,
    /// Begin.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub start_timestamp: Option<Time>,
    /// End.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub end_timestamp: Option<Time>,
}

/// Where a disk is.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct DiskTarget {
    /// Volume claim; standalone: the volume's name in the pool.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub persistent_volume_claim_name: Option<String>,
}

/// A machine that names the disk.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct AttachedMachine {
    /// Name.
    pub name: String,
    /// Its instance has the disk now.
    #[serde(default)]
    pub mounted: bool,
}

/// Durations.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct DiskStats {
    /// How long its making took.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub creation_duration: Option<CreationDuration>,
}

/// How long a disk's making took, as durations like `1.5s`.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct CreationDuration {
    /// Waiting for the source.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub waiting_for_dependencies: Option<String>,
    /// Import into the cluster's registry.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub dvcr_provisioning: Option<String>,
    /// Waiting for the first machine.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub waiting_for_first_consumer: Option<String>,
    /// All.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub total_provisioning: Option<String>,
}
