//! VirtualMachineBlockDeviceAttachment: a block device plugged into a running machine, and again after each of its
//! starts, until the attachment is deleted.

use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use kube::runtime::controller::Action;
use kube::{Resource, ResourceExt};

use super::cache::{Watched, device_key, namespace};
use super::devices::{Device, copied_by, holds, lookup, machine_id, machines_naming, note_spec};
use super::graph::{Key, Kind};
use super::machine::gate::MAX_DEVICES;
use super::machine::power::exists;
use super::machine::translate::{block_device, device_id};
use super::snapshot::of_disk;
use super::{Context, Error};
use crate::host::{MachineState, Observation, Step, VolumeState};
use crate::types::condition::{self, Status};
use crate::types::{
    AttachmentPhase, BlockDeviceKind, GuestOsType, VirtualMachine, VirtualMachineBlockDeviceAttachment,
    VirtualMachineBlockDeviceAttachmentStatus,
};

pub mod plan;

use plan::{DeviceState, Facts, Line, plan};

type Vmbda = VirtualMachineBlockDeviceAttachment;

/// Held until the device is unplugged.
pub const FINALIZER: &str = "virtualization.deckhouse.io/vmbda-cleanup";
/// Pause between attempts to plug a device.
const RETRY: Duration = Duration::from_secs(10);

/// One look at one attachment.
pub async fn reconcile(vmbda: Arc<Vmbda>, ctx: Arc<Context>) -> Result<Action, Error> {
    let ns = namespace(vmbda.as_ref());
    let vm = ctx.machines.get(&ns, &vmbda.spec.virtual_machine_name);
    let observation = vm.as_ref().map(|vm| ctx.host.observe(&machine_id(vm)));
    let r = &vmbda.spec.block_device_ref;
    let device = lookup(&ctx, &ns, r.kind, &r.name);
    let conflict = conflict(&vmbda, vm.as_deref(), observation.as_ref(), &ctx);
    if vmbda.meta().deletion_timestamp.is_some() {
        let ours = conflict.is_none();
        return unplug(&vmbda, vm.as_deref(), observation.as_ref().filter(|_| ours), &ctx).await;
    }
    ctx.set_finalizers(&ctx.attachments, vmbda.as_ref(), &[FINALIZER], &[]).await?;
    let id = device_id(r.kind, &r.name);
    let plugged = observation.as_ref().is_some_and(|o| is_plugged(o, &id));
    let facts = Facts {
        device: format!("{} {}", r.kind.as_str(), r.name),
        state: device_state(&vmbda, vm.as_deref(), device.as_ref(), &ctx),
        machine: vmbda.spec.virtual_machine_name.clone(),
        phase: vm.as_ref().map(|vm| vm.status.as_ref().and_then(|s| s.phase).unwrap_or_default()),
        conflict,
        full: vm.as_ref().is_some_and(|vm| !plugged && is_full(&vmbda, vm, &ctx)),
        plugged,
        error: observation.as_ref().and_then(|o| error_of(o, &id)),
    };
    let decided = plan(&facts);
    let mut next = Action::await_change();
    if let (true, Some(vm), Some(device), Some(observation)) = (decided.plug, &vm, &device, &observation) {
        next = plug(&vmbda, vm, device, observation, &ctx);
    } else {
        ctx.plugging.lock().remove(&vmbda.uid().unwrap_or_default());
    }
    report(&vmbda, decided.phase, decided.conditions, facts.phase.is_some(), &ctx).await?;
    Ok(next)
}

fn is_plugged(observation: &Observation, id: &str) -> bool {
    exists(&observation.state) && observation.devices.iter().any(|d| d.id == id && d.hotplugged)
}

fn error_of(observation: &Observation, id: &str) -> Option<String> {
    observation.device_errors.iter().find(|(device, _)| device == id).map(|(_, words)| words.clone())
}

fn device_state(vmbda: &Vmbda, vm: Option<&VirtualMachine>, device: Option<&Device>, ctx: &Context) -> DeviceState {
    let Some(device) = device else { return DeviceState::Missing };
    let ns = namespace(vmbda);
    let r = &vmbda.spec.block_device_ref;
    if !matches!(device.state, Some(VolumeState::Ready(_))) {
        return DeviceState::NotReady("it is still being made or has failed".into());
    }
    if r.kind != BlockDeviceKind::VirtualDisk {
        return DeviceState::Ready;
    }
    let Some(vd) = ctx.disks.get(&ns, &r.name) else { return DeviceState::Missing };
    if vd.meta().deletion_timestamp.is_some() {
        return DeviceState::NotReady("it is being deleted".into());
    }
    if let Some(image) = copied_by(ctx, &vd) {
        return DeviceState::NotReady(format!("{image} is being made from it"));
    }
    let plugged = vm.is_some_and(|vm| holds(&ctx.host.observe(&machine_id(vm)), r.kind, &r.name, &device.volume));
    if let Some(snapshot) = of_disk(ctx, &vd).filter(|_| !plugged) {
        return DeviceState::NotReady(format!("{snapshot} is being taken of it"));
    }
    let other = machines_naming(ctx, &vd.key())
        .into_iter()
        .filter(|other| vm.is_none_or(|vm| vm.uid() != other.uid()))
        .find(|other| holds(&ctx.host.observe(&machine_id(other)), r.kind, &r.name, &device.volume));
    match other {
        Some(other) => DeviceState::NotReady(format!("VirtualMachine {} has it", other.name_any())),
        None => DeviceState::Ready,
    }
}

/// Of two attachments of one disk the smaller wins: one that is being served over one that is not, then by age and
/// name.
fn rank(v: &Vmbda) -> (bool, Option<Timestamp>, String) {
    let phase = v.status.as_ref().and_then(|s| s.phase);
    let served = matches!(phase, Some(AttachmentPhase::InProgress | AttachmentPhase::Attached));
    (!served, v.creation_timestamp().map(|t| t.0), v.name_any())
}

fn conflict(
    vmbda: &Vmbda,
    vm: Option<&VirtualMachine>,
    observation: Option<&Observation>,
    ctx: &Context,
) -> Option<String> {
    let ns = namespace(vmbda);
    let r = &vmbda.spec.block_device_ref;
    let keys = ctx.wakeup.graph.lock().naming(&device_key(&ns, r.kind, &r.name), Kind::Attachment);
    let earlier = keys.iter().filter_map(|k| ctx.attachments.at(k)).find(|other| {
        let same_machine = other.spec.virtual_machine_name == vmbda.spec.virtual_machine_name;
        other.uid() != vmbda.uid()
            && (r.kind == BlockDeviceKind::VirtualDisk || same_machine)
            && other.status.as_ref().and_then(|s| s.phase) != Some(AttachmentPhase::Failed)
            && rank(other) < rank(vmbda)
    });
    if let Some(other) = earlier {
        return Some(format!(
            "VirtualMachineBlockDeviceAttachment {} already attaches {} {} to VirtualMachine {}. Delete one of the two.",
            other.name_any(),
            r.kind.as_str(),
            r.name,
            other.spec.virtual_machine_name
        ));
    }
    let vm = vm?;
    let applied = observation.filter(|o| exists(&o.state)).and_then(note_spec);
    let listed = |refs: &[crate::types::BlockDeviceRef]| refs.iter().any(|x| x.kind == r.kind && x.name == r.name);
    if listed(&vm.spec.block_device_refs) || applied.as_ref().is_some_and(|s| listed(&s.block_device_refs)) {
        return Some(format!(
            "{} {} is in spec.blockDeviceRefs of VirtualMachine {}. Delete this attachment or drop it there.",
            r.kind.as_str(),
            r.name,
            vm.name_any()
        ));
    }
    let running = applied.as_ref().unwrap_or(&vm.spec);
    if !running.enable_paravirtualization {
        let legacy = if running.os_type == GuestOsType::Legacy { " of type Legacy" } else { "" };
        return Some(format!(
            "VirtualMachine {}{legacy} has enableParavirtualization: false, which rules out hot-plugging. Put the \
             device into spec.blockDeviceRefs.",
            vm.name_any()
        ));
    }
    None
}

/// No place for this attachment, counting the machine's own devices and older attachments.
fn is_full(vmbda: &Vmbda, vm: &VirtualMachine, ctx: &Context) -> bool {
    let keys = ctx.wakeup.graph.lock().naming(&vm.key(), Kind::Attachment);
    let order = |v: &Vmbda| (v.creation_timestamp().map(|t| t.0), v.name_any());
    let older = keys
        .iter()
        .filter_map(|k| ctx.attachments.at(k))
        .filter(|o| o.uid() != vmbda.uid() && o.meta().deletion_timestamp.is_none())
        .filter(|o| o.status.as_ref().and_then(|s| s.phase) != Some(AttachmentPhase::Failed))
        .filter(|o| order(o) < order(vmbda))
        .count();
    vm.spec.block_device_refs.len() + older >= MAX_DEVICES
}

/// Asks the host, at most once in [`RETRY`] for each launch of the machine.
fn plug(vmbda: &Vmbda, vm: &VirtualMachine, device: &Device, observation: &Observation, ctx: &Context) -> Action {
    if !matches!(observation.state, MachineState::Running { .. }) {
        // The shown phase is behind; the host's next event brings us here again.
        return Action::await_change();
    }
    let now = ctx.now();
    let uid = vmbda.uid().unwrap_or_default();
    let mut asked = ctx.plugging.lock();
    if let Some((launch, at)) = asked.get(&uid)
        && *launch == observation.launch
        && let Ok(again) = at.checked_add(RETRY)
        && again > now
    {
        return Action::requeue(again.duration_since(now).unsigned_abs());
    }
    let r = &vmbda.spec.block_device_ref;
    let cdrom = matches!(&device.state, Some(VolumeState::Ready(info)) if info.cdrom);
    let wanted = block_device(r.kind, &r.name, &device.uid, device.volume.clone(), cdrom, None);
    asked.insert(uid, (observation.launch, now));
    drop(asked);
    if let Err(denied) = ctx.host.submit(&machine_id(vm), Step::Attach(wanted)) {
        tracing::debug!(attachment = %vmbda.name_any(), reason = denied.reason, "attach denied");
    }
    Action::requeue(RETRY)
}

async fn unplug(
    vmbda: &Vmbda,
    vm: Option<&VirtualMachine>,
    observation: Option<&Observation>,
    ctx: &Context,
) -> Result<Action, Error> {
    let r = &vmbda.spec.block_device_ref;
    let id = device_id(r.kind, &r.name);
    if let (Some(vm), Some(observation)) = (vm, observation.filter(|o| is_plugged(o, &id))) {
        let uid = vmbda.uid().unwrap_or_default();
        let now = ctx.now();
        let asked = format!("{uid}/out");
        let due = {
            let mut times = ctx.plugging.lock();
            let recent = times.get(&asked).is_some_and(|(launch, at): &(u64, Timestamp)| {
                *launch == observation.launch && at.checked_add(RETRY).is_ok_and(|again| again > now)
            });
            if !recent {
                times.insert(asked, (observation.launch, now));
            }
            !recent
        };
        if due && let Err(denied) = ctx.host.submit(&machine_id(vm), Step::Detach { id: id.clone() }) {
            tracing::debug!(attachment = %vmbda.name_any(), reason = denied.reason, "detach denied");
        }
        let message = match error_of(observation, &id) {
            Some(error) => format!("The guest has not let the device go yet: {error}"),
            None => "The device is being unplugged.".into(),
        };
        let line = ("Terminating", Status::True, "DetachPending", message);
        report(vmbda, AttachmentPhase::Terminating, vec![line], true, ctx).await?;
        return Ok(Action::requeue(RETRY));
    }
    {
        let uid = vmbda.uid().unwrap_or_default();
        let mut times = ctx.plugging.lock();
        times.remove(&uid);
        times.remove(&format!("{uid}/out"));
    }
    // Whoever shows the device must look again although this object will be gone.
    let around: Vec<Key> = ctx.wakeup.graph.lock().around(&vmbda.key()).into_iter().collect();
    ctx.set_finalizers(&ctx.attachments, vmbda, &[], &[FINALIZER]).await?;
    ctx.wakeup.wake(around);
    Ok(Action::await_change())
}

async fn report(
    vmbda: &Vmbda,
    phase: AttachmentPhase,
    lines: Vec<Line>,
    machine_exists: bool,
    ctx: &Context,
) -> Result<(), Error> {
    let latest = ctx.attachments.newest(Arc::new(vmbda.clone()));
    let old = latest.status.clone().unwrap_or_default();
    let (generation, now) = (latest.meta().generation, ctx.now());
    let mut conditions = old.conditions.unwrap_or_default();
    for (type_, status, reason, message) in lines {
        condition::set(&mut conditions, type_, status, reason, message, generation, now);
    }
    let new = VirtualMachineBlockDeviceAttachmentStatus {
        phase: Some(phase),
        virtual_machine_name: machine_exists.then(|| vmbda.spec.virtual_machine_name.clone()),
        observed_generation: generation,
        conditions: Some(conditions),
    };
    ctx.report(&ctx.attachments, latest.as_ref(), latest.status.as_ref(), &new).await
}
