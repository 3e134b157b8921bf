//! Who has which disk or image.

use std::collections::BTreeSet;
use std::sync::Arc;

use kube::{Resource, ResourceExt};

use super::Context;
use super::cache::{Watched, namespace};
use super::graph::{Key, Kind};
use super::machine::power::exists;
use crate::host::{MachineId, Observation, VolumeId, VolumeKind, VolumeState};
use crate::types::{BlockDeviceKind, VirtualDisk, VirtualMachine, VirtualMachineSpec};

/// A block device's object and volume as a machine needs them.
#[derive(Debug, Clone)]
pub struct Device {
    /// Its volume.
    pub volume: VolumeId,
    /// UID of the object.
    pub uid: String,
    /// What the host has of it.
    pub state: Option<VolumeState>,
}

/// Looks a block device up; `None` if there is no such object.
pub fn lookup(ctx: &Context, namespace: &str, kind: BlockDeviceKind, name: &str) -> Option<Device> {
    let (uid, volume_kind) = match kind {
        BlockDeviceKind::VirtualDisk => (ctx.disks.get(namespace, name)?.uid()?, VolumeKind::Disk),
        BlockDeviceKind::VirtualImage => (ctx.images.get(namespace, name)?.uid()?, VolumeKind::Image),
        BlockDeviceKind::ClusterVirtualImage => (ctx.cluster_images.get("", name)?.uid()?, VolumeKind::Image),
    };
    let volume = VolumeId { kind: volume_kind, uid: uid.clone() };
    let state = ctx.host.volume(&volume);
    Some(Device { volume, uid, state })
}

/// The spec an instance was started from.
pub fn note_spec(observation: &Observation) -> Option<VirtualMachineSpec> {
    serde_json::from_str(observation.note.as_deref()?).ok()
}

/// The machine's id on the host.
pub fn machine_id(vm: &VirtualMachine) -> MachineId {
    MachineId(vm.uid().unwrap_or_default())
}

/// Whether an instance exists that has, or is about to have, this volume.
pub fn holds(observation: &Observation, kind: BlockDeviceKind, name: &str, volume: &VolumeId) -> bool {
    if !exists(&observation.state) {
        return false;
    }
    let listed = |spec: VirtualMachineSpec| spec.block_device_refs.iter().any(|r| r.kind == kind && r.name == name);
    observation.devices.iter().any(|d| &d.volume == volume) || note_spec(observation).is_some_and(listed)
}

/// Machines that name the object `key`, directly or by an attachment.
pub fn machines_naming(ctx: &Context, key: &Key) -> Vec<Arc<VirtualMachine>> {
    let graph = ctx.wakeup.graph.lock();
    let mut machines: BTreeSet<Key> = graph.naming(key, Kind::Machine).into_iter().collect();
    for attachment in graph.naming(key, Kind::Attachment) {
        machines.extend(graph.around(&attachment).into_iter().filter(|k| k.kind == Kind::Machine));
    }
    drop(graph);
    machines.iter().filter_map(|k| ctx.machines.at(k)).collect()
}

/// Names of the machines whose instance has the disk.
pub fn mounted_by(ctx: &Context, vd: &VirtualDisk) -> Vec<String> {
    let Some(uid) = vd.meta().uid.clone() else { return vec![] };
    let volume = VolumeId { kind: VolumeKind::Disk, uid };
    let (ns, name) = (namespace(vd), vd.name_any());
    machines_naming(ctx, &vd.key())
        .iter()
        .filter(|vm| namespace(vm.as_ref()) == ns)
        .filter(|vm| {
            let observation = ctx.host.observe(&machine_id(vm));
            holds(&observation, BlockDeviceKind::VirtualDisk, &name, &volume)
        })
        .map(|vm| vm.name_any())
        .collect()
}

/// Name of an image that is being made from the disk right now.
pub fn copied_by(ctx: &Context, vd: &VirtualDisk) -> Option<String> {
    let graph = ctx.wakeup.graph.lock();
    let key = vd.key();
    let images: Vec<Key> =
        [Kind::Image, Kind::ClusterImage].iter().flat_map(|kind| graph.naming(&key, *kind)).collect();
    drop(graph);
    images.into_iter().find_map(|k| {
        let (uid, kind) = match k.kind {
            Kind::Image => (ctx.images.at(&k)?.uid()?, "VirtualImage"),
            _ => (ctx.cluster_images.at(&k)?.uid()?, "ClusterVirtualImage"),
        };
        let state = ctx.host.volume(&VolumeId { kind: VolumeKind::Image, uid });
        matches!(state, Some(VolumeState::Working { .. })).then(|| format!("{kind} {}", k.name))
    })
}
