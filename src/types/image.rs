//! VirtualImage and ClusterVirtualImage.

use kube::CustomResource;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{
    Condition, ContainerImageSource, DataSourceType, DownloadSpeed, HttpSource, ImageUploadUrls, SourceKind,
    UploadSource,
};

/// A read-only image of a namespace.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, CustomResource, JsonSchema)]
#[kube(
    group = "virtualization.deckhouse.io",
    version = "v1alpha2",
    kind = "VirtualImage",
    plural = "virtualimages",
    singular = "virtualimage",
    shortname = "vi",
    category = "virtualization",
    namespaced,
    status = "VirtualImageStatus",
    derive = "PartialEq",
    printcolumn = r#"{"name":"Phase","type":"string","jsonPath":".status.phase","description":"Phase of the image."}"#,
    printcolumn = r#"{"name":"CDROM","type":"boolean","jsonPath":".status.cdrom","description":"It is an ISO image."}"#,
    printcolumn = r#"{"name":"Progress","type":"string","jsonPath":".status.progress","description":"How far its making is."}"#,
    printcolumn = r#"{"name":"StoredSize","type":"string","priority":1,"jsonPath":".status.size.stored","description":"Size on disk."}"#,
    printcolumn = r#"{"name":"UnpackedSize","type":"string","priority":1,"jsonPath":".status.size.unpacked","description":"Size in a machine."}"#,
    printcolumn = r#"{"name":"Registry URL","type":"string","priority":1,"jsonPath":".status.target.registryURL","description":"Where it is stored."}"#,
    printcolumn = r#"{"name":"TargetPVC","type":"string","priority":1,"jsonPath":".status.target.persistentVolumeClaimName","description":"Volume claim."}"#,
    printcolumn = r#"{"name":"Age","type":"date","jsonPath":".metadata.creationTimestamp","description":"Time since creation."}"#
)]
#[serde(rename_all = "camelCase")]
pub struct VirtualImageSpec {
    /// Where it is stored.
    #[serde(default)]
    pub storage: ImageStorage,
    /// Storage class.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub persistent_volume_claim: Option<ImageClaim>,
    /// Where the content comes from.
    pub data_source: ImageDataSource,
}

/// A read-only image for all namespaces.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, CustomResource, JsonSchema)]
#[kube(
    group = "virtualization.deckhouse.io",
    version = "v1alpha2",
    kind = "ClusterVirtualImage",
    plural = "clustervirtualimages",
    singular = "clustervirtualimage",
    shortname = "cvi",
    category = "virtualization-cluster",
    status = "VirtualImageStatus",
    derive = "PartialEq",
    printcolumn = r#"{"name":"Phase","type":"string","jsonPath":".status.phase","description":"Phase of the image."}"#,
    printcolumn = r#"{"name":"CDROM","type":"boolean","jsonPath":".status.cdrom","description":"It is an ISO image."}"#,
    printcolumn = r#"{"name":"Progress","type":"string","jsonPath":".status.progress","description":"How far its making is."}"#,
    printcolumn = r#"{"name":"StoredSize","type":"string","priority":1,"jsonPath":".status.size.stored","description":"Size on disk."}"#,
    printcolumn = r#"{"name":"UnpackedSize","type":"string","priority":1,"jsonPath":".status.size.unpacked","description":"Size in a machine."}"#,
    printcolumn = r#"{"name":"Registry URL","type":"string","priority":1,"jsonPath":".status.target.registryURL","description":"Where it is stored."}"#,
    printcolumn = r#"{"name":"Age","type":"date","jsonPath":".metadata.creationTimestamp","description":"Time since creation."}"#
)]
#[serde(rename_all = "camelCase")]
pub struct ClusterVirtualImageSpec {
    /// Where the content comes from.
    pub data_source: ImageDataSource,
}

/// Where an image is stored.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum ImageStorage {
    /// The cluster's registry; standalone: the image pool.
    #[default]
    ContainerRegistry,
    /// Old name of PersistentVolumeClaim.
    Kubernetes,
    /// A volume.
    PersistentVolumeClaim,
}

/// Storage class of an image.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct ImageClaim {
    /// Storage class.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub storage_class_name: Option<String>,
}

/// Where an image's content comes from.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ImageDataSource {
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
    pub object_ref: Option<ImageObjectRef>,
    /// Upload.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub upload: Option<UploadSource>,
}

/// The object an image is made from.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct ImageObjectRef {
    /// Kind.
    pub kind: SourceKind,
    /// Name.
    #[schemars(length(min = 1))]
    pub name: String,
    /// Namespace (cluster-wide images only).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub namespace: Option<String>,
}

/// Phase of an image.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
pub enum ImagePhase {
    /// Waits for what it depends on.
    Pending,
    /// Being made.
    Provisioning,
    /// Waits for the user's upload.
    WaitForUserUpload,
    /// Usable.
    Ready,
    /// Could not be made.
    Failed,
    /// Being deleted.
    Terminating,
    /// Its content is gone.
    ImageLost,
    /// Its volume is gone.
    #[serde(rename = "PVCLost")]
    PvcLost,
}

/// What is observed of an image.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct VirtualImageStatus {
    /// Phase.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub phase: Option<ImagePhase>,
    /// For example `42%`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub progress: Option<String>,
    /// It is an ISO image: attached as a CD-ROM.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cdrom: Option<bool>,
    /// Format of the source.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub format: Option<String>,
    /// Sizes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub size: Option<ImageSize>,
    /// Where it is.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub target: Option<ImageTarget>,
    /// Transfer speed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub download_speed: Option<DownloadSpeed>,
    /// Where to upload to.
    #[serde(rename = "imageUploadURLs", skip_serializing_if = "Option::is_none")]
    pub image_upload_urls: Option<ImageUploadUrls>,
    /// Command that uploads.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub upload_command: Option<String>,
    /// UID of the source object.
    #[serde(rename = "sourceUID", skip_serializing_if = "Option::is_none")]
    pub source_uid: Option<String>,
    /// Storage class in use.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub storage_class_name: Option<String>,
    /// Namespaces that use it (cluster-wide images).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub used_in_namespaces: Option<Vec<String>>,
    /// Generation the conditions speak of.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,
    /// Conditions.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub conditions: Option<Vec<Condition>>,
}

/// Sizes of an image.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct ImageSize {
    /// On disk, for people.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub stored: Option<String>,
    /// On disk, bytes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub stored_bytes: Option<String>,
    /// In a machine, for people.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub unpacked: Option<String>,
    /// In a machine, bytes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub unpacked_bytes: Option<String>,
}

/// Where an image is.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct ImageTarget {
    /// In the cluster's registry.
    #[serde(rename = "registryURL", skip_serializing_if = "Option::is_none")]
    pub registry_url: Option<String>,
    /// Volume claim; standalone: the volume's name in the pool.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub persistent_volume_claim_name: Option<String>,
}
