//! Shapes shared by several kinds.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Standard condition (type, status, reason, message, times).
pub use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;

/// Reference to a block device.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct BlockDeviceRef {
    /// What the device is made of.
    pub kind: BlockDeviceKind,
    /// Name of the object.
    #[schemars(length(min = 1))]
    pub name: String,
    /// Position in the firmware's boot order. If any device has one, only devices with one are booted from.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1))]
    pub boot_order: Option<u32>,
}

/// Kinds that can be a block device.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
pub enum BlockDeviceKind {
    /// A VirtualDisk: read and write.
    VirtualDisk,
    /// A VirtualImage: read-only.
    VirtualImage,
    /// A ClusterVirtualImage: read-only.
    ClusterVirtualImage,
}

impl BlockDeviceKind {
    /// The kind's name.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::VirtualDisk => "VirtualDisk",
            Self::VirtualImage => "VirtualImage",
            Self::ClusterVirtualImage => "ClusterVirtualImage",
        }
    }

    /// Prefix of device ids: `vd-`, `vi-`, `cvi-`.
    pub fn prefix(self) -> &'static str {
        match self {
            Self::VirtualDisk => "vd-",
            Self::VirtualImage => "vi-",
            Self::ClusterVirtualImage => "cvi-",
        }
    }
}

/// A Kubernetes quantity as the user wrote it. Numbers are accepted where the schema has int-or-string.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize)]
#[serde(transparent)]
pub struct Quantity(pub String);

impl Quantity {
    /// The value in bytes (or units), rounded up.
    pub fn bytes(&self) -> Option<u64> {
        super::quantity::parse_bytes(&self.0)
    }
}

impl<'de> Deserialize<'de> for Quantity {
    fn deserialize<D: serde::Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        #[derive(Deserialize)]
        #[serde(untagged)]
        enum Raw {
            Text(String),
            Int(i64),
            Float(f64),
        }
        Ok(Self(match Raw::deserialize(d)? {
            Raw::Text(t) => t,
            Raw::Int(n) => n.to_string(),
            Raw::Float(f) => f.to_string(),
        }))
    }
}

impl JsonSchema for Quantity {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "Quantity".into()
    }

    fn inline_schema() -> bool {
        true
    }

    fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
        schemars::json_schema!({
            "x-kubernetes-int-or-string": true,
            "anyOf": [{"type": "integer"}, {"type": "string"}],
            "pattern": super::quantity::PATTERN,
        })
    }
}

/// Where content comes from; exactly one of the four.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum DataSourceType {
    /// Downloaded.
    #[serde(rename = "HTTP")]
    Http,
    /// Pulled from a container registry.
    ContainerImage,
    /// From another object.
    ObjectRef,
    /// Uploaded by the user.
    Upload,
}

/// Download by HTTP(S).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct HttpSource {
    /// Address of the file.
    #[schemars(regex(
        pattern = r"^http[s]?:\/\/(?:[a-zA-Z]|[0-9]|[$-_@.&+]|[!*\(\),]|(?:%[0-9a-fA-F][0-9a-fA-F]))+$"
    ))]
    pub url: String,
    /// CA certificates in PEM, base64-encoded.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(extend("format" = "byte"))]
    pub ca_bundle: Option<String>,
    /// Expected checksums of the file as transferred.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub checksum: Option<Checksum>,
}

/// Expected checksums, hexadecimal; all that are given must match.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Checksum {
    /// MD5.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(equal = 32), regex(pattern = "^[0-9a-fA-F]{32}$"))]
    pub md5: Option<String>,
    /// SHA-1.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(equal = 40), regex(pattern = "^[0-9a-fA-F]{40}$"))]
    pub sha1: Option<String>,
    /// SHA-256.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(equal = 64), regex(pattern = "^[0-9a-fA-F]{64}$"))]
    pub sha256: Option<String>,
    /// SHA-512.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(equal = 128), regex(pattern = "^[0-9a-fA-F]{128}$"))]
    pub sha512: Option<String>,
    /// GOST R 34.11-2012, 256 bits.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(equal = 64), regex(pattern = "^[0-9a-fA-F]{64}$"))]
    pub streebog256: Option<String>,
    /// GOST R 34.11-2012, 512 bits.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(equal = 128), regex(pattern = "^[0-9a-fA-F]{128}$"))]
    pub streebog512: Option<String>,
}

impl Checksum {
    /// Those given, as (algorithm, hexadecimal).
    pub fn given(&self) -> Vec<(&'static str, &str)> {
        [
            ("md5", &self.md5),
            ("sha1", &self.sha1),
            ("sha256", &self.sha256),
            ("sha512", &self.sha512),
            ("streebog256", &self.streebog256),
            ("streebog512", &self.streebog512),
        ]
        .into_iter()
        .filter_map(|(name, value)| value.as_deref().map(|v| (name, v)))
        .collect()
    }
}

/// A registry is a name with a dot or a port, or `localhost`; the path is in lower case.
const IMAGE_REFERENCE: &str = r"^((localhost|[A-Za-z0-9_-]+(\.[A-Za-z0-9_-]+)+)(:[0-9]+)?/|[A-Za-z0-9_]+:[0-9]+/)?[a-z0-9_.-]+(/[a-z0-9_.-]+)*(:[A-Za-z0-9_][A-Za-z0-9_.-]{0,127})?(@[A-Za-z][A-Za-z0-9]*([+._-][A-Za-z][A-Za-z0-9]*)*:[0-9a-fA-F]{32,})?$";

/// Pull from a container registry.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ContainerImageSource {
    /// Image reference: `[registry/]path[:tag][@digest]`.
    #[schemars(length(min = 1), regex(pattern = IMAGE_REFERENCE))]
    pub image: String,
    /// Secret with credentials.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub image_pull_secret: Option<ImagePullSecret>,
    /// CA certificates in PEM, base64-encoded.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(extend("format" = "byte"))]
    pub ca_bundle: Option<String>,
}

/// Secret with registry credentials.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct ImagePullSecret {
    /// Name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// Namespace (cluster-wide images only).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub namespace: Option<String>,
}

/// Upload by the user.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct UploadSource {
    /// Expected checksums of the file as uploaded.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub checksum: Option<Checksum>,
}

/// Kinds an objectRef source may name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum SourceKind {
    /// A ClusterVirtualImage.
    ClusterVirtualImage,
    /// A VirtualImage.
    VirtualImage,
    /// A VirtualDisk (images only).
    VirtualDisk,
    /// A VirtualDiskSnapshot.
    VirtualDiskSnapshot,
}

/// Transfer speed.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct DownloadSpeed {
    /// Average, for people.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub avg: Option<String>,
    /// Average, bytes per second.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub avg_bytes: Option<String>,
    /// Now, for people.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub current: Option<String>,
    /// Now, bytes per second.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub current_bytes: Option<String>,
}

/// Where to upload to.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ImageUploadUrls {
    /// From anywhere.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub external: Option<String>,
    /// From inside (standalone: over the API's unix socket).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub in_cluster: Option<String>,
}
