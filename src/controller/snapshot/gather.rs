//! What a snapshot is taken of, as it is now.

use std::sync::Arc;

use kube::{Resource, ResourceExt};

use super::super::Context;
use super::super::cache::{Watched, namespace};
use super::super::devices::{copied_by, machine_id, machines_naming, mounted_by};
use super::super::graph::Kind;
use super::super::machine::power::exists;
use super::plan::{DiskFact, Guest, MachineFact, Part, guest};
use super::{taken_of, volume};
use crate::host::{SnapshotOf, VolumeId, VolumeKind, VolumeState};
use crate::types::{
    AttachmentPhase, BlockDeviceKind, DiskPhase, MachinePhase, SnapshotPhase, VirtualDisk, VirtualDiskSnapshot,
    VirtualMachine, VirtualMachineBlockDeviceAttachment, VirtualMachineSnapshot,
};

/// The disk of the snapshot `own`, and the machine that has it.
pub fn disk(ctx: &Context, ns: &str, name: &str, own: &str) -> (DiskFact, Option<Arc<VirtualMachine>>) {
    let Some(vd) = ctx.disks.get(ns, name) else { return (DiskFact::Missing, None) };
    if let Some(why) = obstacle(ctx, &vd, |other| other == own) {
        return (DiskFact::NotReady(why), None);
    }
    let holders = mounted_by(ctx, &vd);
    let holder = holders.first().and_then(|vm| ctx.machines.get(ns, vm));
    match holder {
        None => (DiskFact::Ready(Guest::Off, String::new()), None),
        Some(vm) => {
            let state = guest(&ctx.host.observe(&machine_id(&vm)));
            (DiskFact::Ready(state, vm.name_any()), Some(vm))
        }
    }
}

/// Why no snapshot can be taken of a disk now. `own` tells snapshots that are part of the same.
fn obstacle(ctx: &Context, vd: &VirtualDisk, own: impl Fn(&str) -> bool) -> Option<String> {
    let name = vd.name_any();
    if vd.meta().deletion_timestamp.is_some() {
        return Some(format!("VirtualDisk {name} is being deleted."));
    }
    let id = VolumeId { kind: VolumeKind::Disk, uid: vd.uid().unwrap_or_default() };
    let phase = vd.status.as_ref().and_then(|s| s.phase);
    if phase != Some(DiskPhase::Ready) || !matches!(ctx.host.volume(&id), Some(VolumeState::Ready(_))) {
        let phase = phase.map_or("Pending".into(), |p| format!("{p:?}"));
        return Some(format!("VirtualDisk {name} is not ready (phase {phase})."));
    }
    if let Some(image) = copied_by(ctx, vd) {
        return Some(format!("{image} is being made from VirtualDisk {name}."));
    }
    let other = taken_of(ctx, vd).into_iter().find(|other| !own(other))?;
    Some(format!("VirtualDiskSnapshot {other} of VirtualDisk {name} is being taken."))
}

/// The machine of a snapshot.
pub fn machine(ctx: &Context, vm: Option<&VirtualMachine>, vms: &VirtualMachineSnapshot) -> MachineFact {
    let name = &vms.spec.virtual_machine_name;
    let part = format!("-{}", vms.uid().unwrap_or_default());
    let Some(vm) = vm else { return MachineFact::Missing };
    if vm.meta().deletion_timestamp.is_some() {
        return MachineFact::NotReady(format!("VirtualMachine {name} is being deleted."));
    }
    let observation = ctx.host.observe(&machine_id(vm));
    let phase = vm.status.as_ref().and_then(|s| s.phase);
    if !exists(&observation.state) && phase != Some(MachinePhase::Stopped) {
        let phase = phase.map_or("Pending".into(), |p| format!("{p:?}"));
        return MachineFact::NotReady(format!("VirtualMachine {name} neither runs nor is it stopped (phase {phase})."));
    }
    let ns = namespace(vm);
    let blocked = disks_of(ctx, vm).iter().find_map(|disk| match ctx.disks.get(&ns, disk) {
        None => Some(format!("VirtualDisk {disk} does not exist.")),
        Some(vd) => obstacle(ctx, &vd, |other| other.ends_with(&part)).or_else(|| used_elsewhere(ctx, &vd, vm)),
    });
    MachineFact::There(guest(&observation), blocked)
}

/// Another machine that has the disk now.
fn used_elsewhere(ctx: &Context, vd: &VirtualDisk, vm: &VirtualMachine) -> Option<String> {
    let other = mounted_by(ctx, vd).into_iter().find(|other| *other != vm.name_any())?;
    Some(format!("VirtualDisk {} is in use by VirtualMachine {other}.", vd.name_any()))
}

/// The machine's attachments that hold, or would hold, a device.
pub fn attachments(ctx: &Context, vm: &VirtualMachine) -> Vec<Arc<VirtualMachineBlockDeviceAttachment>> {
    let keys = ctx.wakeup.graph.lock().naming(&vm.key(), Kind::Attachment);
    let found = keys.iter().filter_map(|key| ctx.attachments.at(key));
    found
        .filter(|a| a.meta().deletion_timestamp.is_none())
        .filter(|a| a.status.as_ref().and_then(|s| s.phase) != Some(AttachmentPhase::Failed))
        .collect()
}

/// Names of the machine's disks, in device order, hot-plugged ones last.
pub fn disks_of(ctx: &Context, vm: &VirtualMachine) -> Vec<String> {
    let attached = attachments(ctx, vm);
    let plugged = attached.iter().map(|a| &a.spec.block_device_ref).map(|r| (r.kind, r.name.clone()));
    let fixed = vm.spec.block_device_refs.iter().map(|r| (r.kind, r.name.clone()));
    let mut names: Vec<String> = Vec::new();
    for (kind, name) in fixed.chain(plugged) {
        if kind == BlockDeviceKind::VirtualDisk && !names.contains(&name) {
            names.push(name);
        }
    }
    names
}

/// A part of a machine's snapshot, by name.
pub fn part(ctx: &Context, ns: &str, name: &str) -> Part {
    let found = ctx.disk_snapshots.get(ns, name);
    let status = found.as_ref().and_then(|vds| vds.status.clone());
    let told = status.as_ref().and_then(|s| s.conditions.as_ref()).into_iter().flatten();
    let message = told.filter(|c| c.type_ == super::disk::READY).map(|c| c.message.clone()).next();
    let phase = status.and_then(|s| s.phase).unwrap_or(SnapshotPhase::Pending);
    Part {
        name: name.to_owned(),
        phase: found.as_ref().map(|_| phase),
        begun: phase != SnapshotPhase::Pending
            || found.as_ref().is_some_and(|vds| ctx.host.volume(&volume(vds)).is_some()),
        message: message.unwrap_or_default(),
    }
}

/// What the host is to make for a snapshot of a disk.
pub fn wish(ctx: &Context, ns: &str, vds: &VirtualDiskSnapshot) -> Option<SnapshotOf> {
    let uid = ctx.disks.get(ns, &vds.spec.virtual_disk_name)?.uid()?;
    Some(SnapshotOf { disk: VolumeId { kind: VolumeKind::Disk, uid }, snapshot: volume(vds) })
}

/// Machines that show that a snapshot is being taken.
pub fn wake_machines(ctx: &Context, disk: &super::Key) {
    ctx.wakeup.wake(machines_naming(ctx, disk).iter().map(|vm| vm.key()));
}
