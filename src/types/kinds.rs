//! The table of kinds: what discovery, storage, the client and the viewer need to know of each.

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;

/// API group of the virtualization kinds.
pub const GROUP: &str = "virtualization.deckhouse.io";
/// Version of the virtualization kinds.
pub const VERSION: &str = "v1alpha2";
/// API group of the byte streams and imperative subresources.
pub const SUBRESOURCES_GROUP: &str = "subresources.virtualization.deckhouse.io";

/// Namespaced or not.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Scope {
    /// Lives in a namespace.
    Namespaced,
    /// One per cluster.
    Cluster,
}

/// One printer column.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Column {
    /// Heading as served.
    pub name: String,
    /// OpenAPI type: `string`, `integer`, `boolean`, `date`.
    pub type_: String,
    /// What it shows.
    pub description: String,
    /// 0 = always, 1 = wide only.
    pub priority: i32,
    /// Kubernetes JSONPath without braces, e.g. `.status.phase`. Core kinds whose cells are computed have an
    /// empty path.
    pub json_path: String,
}

/// One kind.
#[derive(Debug, Clone, Copy)]
pub struct KindInfo {
    /// API group; empty for core.
    pub group: &'static str,
    /// Version.
    pub version: &'static str,
    /// Kind.
    pub kind: &'static str,
    /// Plural resource name.
    pub plural: &'static str,
    /// Singular resource name.
    pub singular: &'static str,
    /// Short names.
    pub short_names: &'static [&'static str],
    /// Categories.
    pub categories: &'static [&'static str],
    /// Scope.
    pub scope: Scope,
    /// Has a `status` subresource.
    pub status: bool,
    /// The definition of a custom kind; `None` for built-in kinds.
    pub crd: Option<fn() -> CustomResourceDefinition>,
}

impl KindInfo {
    /// `group/version`, or `version` for core.
    pub fn api_version(&self) -> String {
        if self.group.is_empty() { self.version.to_owned() } else { format!("{}/{}", self.group, self.version) }
    }

    /// `plural.group`, as in error messages and CRD names.
    pub fn qualified(&self) -> String {
        if self.group.is_empty() { self.plural.to_owned() } else { format!("{}.{}", self.plural, self.group) }
    }

    /// Whether objects live in namespaces.
    pub fn namespaced(&self) -> bool {
        self.scope == Scope::Namespaced
    }

    /// Whether `word` (case-insensitive) means this kind: plural, singular, kind, short name, with or without
    /// `.group`.
    pub fn matches(&self, word: &str) -> bool {
        let word = word.to_ascii_lowercase();
        let bare = match word.split_once('.') {
            Some((bare, rest)) => {
                let group = rest.strip_prefix(&format!("{}.", self.version)).unwrap_or(rest);
                if group != self.group {
                    return false;
                }
                bare
            }
            None => word.as_str(),
        };
        bare == self.plural
            || bare == self.singular
            || bare == self.kind.to_ascii_lowercase()
            || self.short_names.contains(&bare)
    }
}

/// The kind that `word` means.
pub fn find(word: &str) -> Option<&'static KindInfo> {
    KINDS.iter().find(|k| k.matches(word))
}

/// The kind of `group` (empty for core) and `plural`.
pub fn by_resource(group: &str, plural: &str) -> Option<&'static KindInfo> {
    KINDS.iter().find(|k| k.group == group && k.plural == plural)
}

/// The kind of `apiVersion` and `kind`.
pub fn by_kind(api_version: &str, kind: &str) -> Option<&'static KindInfo> {
    KINDS.iter().find(|k| k.kind == kind && k.api_version() == api_version)
}

macro_rules! custom {
    ($ty:ident, $plural:literal, $singular:literal, $short:expr, $cat:expr, $scope:ident) => {
        KindInfo {
            group: GROUP,
            version: VERSION,
            kind: stringify!($ty),
            plural: $plural,
            singular: $singular,
            short_names: $short,
            categories: $cat,
            scope: Scope::$scope,
            status: true,
            crd: Some(|| super::definition::finish(<super::$ty as kube::CustomResourceExt>::crd())),
        }
    };
}

macro_rules! builtin {
    ($group:literal, $version:literal, $kind:literal, $plural:literal, $singular:literal, $short:expr, $scope:ident, $status:literal) => {
        KindInfo {
            group: $group,
            version: $version,
            kind: $kind,
            plural: $plural,
            singular: $singular,
            short_names: $short,
            categories: &[],
            scope: Scope::$scope,
            status: $status,
            crd: None,
        }
    };
}

/// All stored kinds, virtualization kinds first (their order decides which kind a short name means).
pub static KINDS: &[KindInfo] = &[
    custom!(VirtualMachine, "virtualmachines", "virtualmachine", &["vm"], &["all", "virtualization"], Namespaced),
    custom!(
        VirtualMachineOperation,
        "virtualmachineoperations",
        "virtualmachineoperation",
        &["vmop"],
        &["virtualization"],
        Namespaced
    ),
    custom!(
        VirtualMachineBlockDeviceAttachment,
        "virtualmachineblockdeviceattachments",
        "virtualmachineblockdeviceattachment",
        &["vmbda"],
        &["virtualization"],
        Namespaced
    ),
    custom!(VirtualDisk, "virtualdisks", "virtualdisk", &["vd"], &["virtualization"], Namespaced),
    custom!(VirtualImage, "virtualimages", "virtualimage", &["vi"], &["virtualization"], Namespaced),
    custom!(
        ClusterVirtualImage,
        "clustervirtualimages",
        "clustervirtualimage",
        &["cvi"],
        &["virtualization-cluster"],
        Cluster
    ),
    custom!(
        VirtualMachineIPAddress,
        "virtualmachineipaddresses",
        "virtualmachineipaddress",
        &["vmip"],
        &["virtualization"],
        Namespaced
    ),
    custom!(
        VirtualMachineIPAddressLease,
        "virtualmachineipaddressleases",
        "virtualmachineipaddresslease",
        &["vmipl", "vmiplease"],
        &["virtualization-cluster"],
        Cluster
    ),
    custom!(
        VirtualMachineClass,
        "virtualmachineclasses",
        "virtualmachineclass",
        &["vmc", "vmclass"],
        &["virtualization-cluster"],
        Cluster
    ),
    custom!(
        VirtualDiskSnapshot,
        "virtualdisksnapshots",
        "virtualdisksnapshot",
        &["vdsnapshot", "vds"],
        &["virtualization"],
        Namespaced
    ),
    custom!(
        VirtualMachineSnapshot,
        "virtualmachinesnapshots",
        "virtualmachinesnapshot",
        &["vmsnapshot", "vms"],
        &["virtualization"],
        Namespaced
    ),
    custom!(
        VirtualMachineSnapshotOperation,
        "virtualmachinesnapshotoperations",
        "virtualmachinesnapshotoperation",
        &["vmsop"],
        &["virtualization"],
        Namespaced
    ),
    custom!(
        VirtualMachineMACAddress,
        "virtualmachinemacaddresses",
        "virtualmachinemacaddress",
        &["vmmac"],
        &["virtualization"],
        Namespaced
    ),
    custom!(
        VirtualMachineMACAddressLease,
        "virtualmachinemacaddressleases",
        "virtualmachinemacaddresslease",
        &["vmmacl", "vmmaclease"],
        &["virtualization-cluster"],
        Cluster
    ),
    builtin!("", "v1", "Namespace", "namespaces", "namespace", &["ns"], Cluster, true),
    builtin!("", "v1", "Node", "nodes", "node", &["no"], Cluster, true),
    builtin!("", "v1", "Secret", "secrets", "secret", &[], Namespaced, false),
    builtin!("", "v1", "ConfigMap", "configmaps", "configmap", &["cm"], Namespaced, false),
    builtin!("", "v1", "Event", "events", "event", &["ev"], Namespaced, false),
    builtin!("coordination.k8s.io", "v1", "Lease", "leases", "lease", &[], Namespaced, false),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_find_their_kind() {
        for (word, plural) in [
            ("vm", "virtualmachines"),
            ("VirtualMachine", "virtualmachines"),
            ("virtualmachines.virtualization.deckhouse.io", "virtualmachines"),
            ("virtualmachines.v1alpha2.virtualization.deckhouse.io", "virtualmachines"),
            ("vmipl", "virtualmachineipaddressleases"),
            ("cm", "configmaps"),
        ] {
            assert_eq!(find(word).map(|k| k.plural), Some(plural), "{word}");
        }
        assert!(find("pods").is_none());
        assert!(find("vm.example.com").is_none());
    }

    #[test]
    fn short_names_are_unique() {
        let mut seen = std::collections::HashSet::new();
        for name in KINDS.iter().flat_map(|k| k.short_names) {
            assert!(seen.insert(name), "{name} means two kinds");
        }
    }
}
