//! VirtualDiskSnapshot and VirtualMachineSnapshot: the content of disks at one moment (upstream.md 14.1, 14.2).
//!
//! [`plan`] decides; [`disk`] and [`machine`] look up, act and report; [`take`] is the moment itself: file systems
//! frozen, copies begun, file systems thawed.

use kube::ResourceExt;

use super::Context;
use super::cache::{Watched, namespace};
use super::graph::{Key, Kind};
use super::source::Availability;
use crate::host::{VolumeId, VolumeKind, VolumeSource, VolumeState};
use crate::types::{SnapshotPhase, VirtualDisk, VirtualDiskSnapshot, VirtualMachine, VirtualMachineSnapshot};

pub mod disk;
mod gather;
pub mod machine;
mod plan;
mod take;

/// Reason of `DatasourceReady` while a snapshot that is a source cannot be used.
pub const NO_SNAPSHOT: &str = "VirtualDiskSnapshotNotReady";

/// Volume of a disk's snapshot.
fn volume(vds: &VirtualDiskSnapshot) -> VolumeId {
    VolumeId { kind: VolumeKind::Snapshot, uid: vds.uid().unwrap_or_default() }
}

/// A snapshot as the source of a disk or an image.
pub fn as_source(ctx: &Context, namespace: &str, name: &str) -> Availability {
    let waiting = |message: String| Availability::Waiting { reason: NO_SNAPSHOT, message };
    let Some(vds) = ctx.disk_snapshots.get(namespace, name) else {
        return waiting(format!("VirtualDiskSnapshot {name} does not exist."));
    };
    let phase = vds.status.as_ref().and_then(|s| s.phase);
    let made = matches!(ctx.host.volume(&volume(&vds)), Some(VolumeState::Ready(_)));
    if phase == Some(SnapshotPhase::Ready) && made && vds.metadata.deletion_timestamp.is_none() {
        return Availability::Ready { source: VolumeSource::Volume(volume(&vds)), checksums: vec![], uid: vds.uid() };
    }
    let phase = phase.map_or("Pending".into(), |p| format!("{p:?}"));
    waiting(format!("VirtualDiskSnapshot {name} is not ready (phase {phase})."))
}

/// A snapshot that is being taken right now of a disk.
pub fn of_disk(ctx: &Context, vd: &VirtualDisk) -> Option<String> {
    taken_of(ctx, vd).first().map(|name| format!("VirtualDiskSnapshot {name}"))
}

/// Names of the snapshots that are being taken of a disk.
fn taken_of(ctx: &Context, vd: &VirtualDisk) -> Vec<String> {
    let keys = disk_keys(ctx, &vd.key()).into_iter();
    let taken = |key: &Key| ctx.disk_snapshots.at(key).is_some_and(|vds| being_taken(ctx, &vds));
    keys.filter(taken).map(|key| key.name).collect()
}

fn disk_keys(ctx: &Context, disk: &Key) -> Vec<Key> {
    ctx.wakeup.graph.lock().naming(disk, Kind::DiskSnapshot)
}

fn being_taken(ctx: &Context, vds: &VirtualDiskSnapshot) -> bool {
    let phase = vds.status.as_ref().and_then(|s| s.phase);
    match ctx.host.volume(&volume(vds)) {
        Some(VolumeState::Working { .. }) => true,
        Some(_) => false,
        // On record before it is begun.
        None => phase == Some(SnapshotPhase::InProgress),
    }
}

/// What a machine's condition `Snapshotting` says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Snapshotting {
    /// Asked for, and not begun.
    Waiting(String),
    /// Disks are being copied: the instance must stay, or stay away.
    InProgress(String),
}

/// Snapshots of the machine, or of the disks named by `disks`, that are not over.
pub fn of_machine(ctx: &Context, vm: &VirtualMachine, disks: impl IntoIterator<Item = String>) -> Option<Snapshotting> {
    let ns = namespace(vm);
    let mut waiting = None;
    let of_it = ctx.wakeup.graph.lock().naming(&vm.key(), Kind::MachineSnapshot);
    for key in of_it {
        let Some(vms) = ctx.machine_snapshots.at(&key) else { continue };
        let name = format!("VirtualMachineSnapshot {}", key.name);
        match vms.status.as_ref().and_then(|s| s.phase) {
            _ if vms.metadata.deletion_timestamp.is_some() => {}
            Some(SnapshotPhase::InProgress) => return Some(Snapshotting::InProgress(name)),
            None | Some(SnapshotPhase::Pending) => waiting = Some(Snapshotting::Waiting(name)),
            Some(SnapshotPhase::Ready | SnapshotPhase::Failed | SnapshotPhase::Terminating) => {}
        }
    }
    for name in disks {
        for key in disk_keys(ctx, &Key::new(Kind::Disk, &ns, &name)) {
            let taken = ctx.disk_snapshots.at(&key).is_some_and(|vds| being_taken(ctx, &vds));
            if taken {
                return Some(Snapshotting::InProgress(format!("VirtualDiskSnapshot {}", key.name)));
            }
        }
    }
    waiting
}

/// Name of the machine's snapshot that a disk's snapshot is part of.
fn group(vds: &VirtualDiskSnapshot) -> Option<&str> {
    let kind = <VirtualMachineSnapshot as kube::Resource>::kind(&());
    vds.owner_references().iter().find(|owner| owner.kind == kind).map(|owner| owner.name.as_str())
}
