//! Every reason that the conditions of disks and images can have on one computer, as one table: debug builds refuse to
//! set another. `tests/it/reconcile/reasons.rs` sees each row set, but for those of snapshots (`snapshots.rs` there) and
//! for `DatasourceReady`/`Unknown`, which admission keeps from happening to new objects.

/// Condition type and reason.
pub type Row = (&'static str, &'static str);

/// Of VirtualDisk.
pub const DISK: &[Row] = &[
    ("DatasourceReady", "DatasourceReady"),
    ("DatasourceReady", "ContainerRegistrySecretNotFound"),
    ("DatasourceReady", "ImageNotReady"),
    ("DatasourceReady", "ImageNotFound"),
    ("DatasourceReady", "ClusterImageNotReady"),
    ("DatasourceReady", "ClusterImageNotFound"),
    ("DatasourceReady", "VirtualDiskSnapshot"),
    ("DatasourceReady", "Unknown"),
    ("StorageClassReady", "StorageClassReady"),
    ("Ready", "Ready"),
    ("Ready", "WaitForUserUpload"),
    ("Ready", "WaitForUserUploadTimeout"),
    ("Ready", "Provisioning"),
    ("Ready", "ProvisioningFailed"),
    ("Ready", "PVCLost"),
    ("Ready", "QuotaExceeded"),
    ("Ready", "ImagePullFailed"),
    ("Ready", "DatasourceIsNotReady"),
    ("Ready", "DatasourceIsNotFound"),
    ("InUse", "AttachedToVirtualMachine"),
    ("InUse", "UsedForImageCreation"),
    ("InUse", "NotInUse"),
    ("Resizing", "InProgress"),
    ("Resizing", "NotAvailable"),
    ("Snapshotting", "Snapshotting"),
    ("Terminating", "CleanupPending"),
];

/// Of VirtualImage, and but for `StorageClassReady` and `PVCLost` of ClusterVirtualImage.
pub const IMAGE: &[Row] = &[
    ("DatasourceReady", "DatasourceReady"),
    ("DatasourceReady", "ContainerRegistrySecretNotFound"),
    ("DatasourceReady", "ImageNotReady"),
    ("DatasourceReady", "ImageNotFound"),
    ("DatasourceReady", "ClusterImageNotReady"),
    ("DatasourceReady", "ClusterImageNotFound"),
    ("DatasourceReady", "VirtualDiskNotReady"),
    ("DatasourceReady", "VirtualDiskNotReadyForUse"),
    ("DatasourceReady", "VirtualDiskAttachedToVirtualMachine"),
    ("DatasourceReady", "VirtualDiskSnapshotNotReady"),
    ("DatasourceReady", "Unknown"),
    ("StorageClassReady", "StorageClassReady"),
    ("StorageClassReady", "DVCRTypeUsed"),
    ("Ready", "Ready"),
    ("Ready", "WaitForUserUpload"),
    ("Ready", "WaitForUserUploadTimeout"),
    ("Ready", "Provisioning"),
    ("Ready", "ProvisioningFailed"),
    ("Ready", "ImageLost"),
    ("Ready", "PVCLost"),
    ("Ready", "QuotaExceeded"),
    ("Ready", "ImagePullFailed"),
    ("Ready", "DatasourceIsNotReady"),
    ("Ready", "DatasourceIsNotFound"),
    ("InUse", "InUse"),
    ("InUse", "NotInUse"),
    ("Terminating", "CleanupPending"),
];

/// Rows that disk and image snapshots lead to.
pub const OF_SNAPSHOTS: &[Row] = &[
    ("DatasourceReady", "VirtualDiskSnapshot"),
    ("DatasourceReady", "VirtualDiskSnapshotNotReady"),
    ("Snapshotting", "Snapshotting"),
];

/// A reason that is about to be set has its row.
pub(super) fn check(table: &[Row], type_: &str, reason: &str) {
    debug_assert!(table.contains(&(type_, reason)), "the condition {type_} has no reason {reason} in the table");
}
