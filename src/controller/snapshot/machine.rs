//! VirtualMachineSnapshot: gather, plan, put on record, take, report.

use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::api::core::v1::Secret;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::api::{Patch, PatchParams, PostParams};
use kube::core::DynamicObject;
use kube::discovery::ApiResource;
use kube::runtime::controller::Action;
use kube::{Api, Resource, ResourceExt};
use serde_json::{Value, json};

use super::super::cache::{Watched, namespace};
use super::super::devices::machine_id;
use super::super::machine::gather::wanted_address;
use super::super::snapshot_contents::{self, Contents};
use super::super::write::Created;
use super::super::{Context, Error};
use super::disk::moment_told;
use super::gather;
use super::plan::{self, Guest, MachineFacts, Next, Told, Way, guest};
use super::take::{Moment, Subject, Taken, Wanted, discard, take};
use crate::host::{SnapshotOf, VolumeId};
use crate::types::condition::{self, Status};
use crate::types::{
    AddressType, KeepIpAddress, ProvisioningType, SnapshotPhase, VirtualDisk, VirtualDiskSnapshot,
    VirtualDiskSnapshotSpec, VirtualMachine, VirtualMachineBlockDeviceAttachment, VirtualMachineIPAddress,
    VirtualMachineSnapshot, VirtualMachineSnapshotStatus,
};

const READY: &str = "VirtualMachineSnapshotReady";
const SOURCE: &str = "VirtualMachineReady";
const SOURCE_NOT_READY: &str = "VirtualMachineNotReadyForSnapshotting";
const FAILED: &str = "VirtualMachineSnapshotFailed";
/// Pause before another look at what was made or started just now.
const LOOK_AGAIN: Duration = Duration::from_millis(200);
/// Pause before another look at disks that are in use.
const BLOCKED_AGAIN: Duration = Duration::from_secs(5);
/// Longest name of an object.
const LONGEST_NAME: usize = 253;

/// One look at one snapshot of a machine.
pub async fn reconcile(vms: Arc<VirtualMachineSnapshot>, ctx: Arc<Context>) -> Result<Action, Error> {
    if let Some(next) = look(vms.clone(), &ctx, false).await? {
        return Ok(next);
    }
    let _its_turn = ctx.taking.lock().await;
    let next = look(ctx.machine_snapshots.newest(vms), &ctx, true).await?;
    Ok(next.unwrap_or_else(Action::await_change))
}

/// Looks and acts; `None` when it is to be taken and it is not its turn.
async fn look(vms: Arc<VirtualMachineSnapshot>, ctx: &Arc<Context>, its_turn: bool) -> Result<Option<Action>, Error> {
    if vms.meta().deletion_timestamp.is_some() {
        return Ok(Some(Action::await_change()));
    }
    let ns = namespace(vms.as_ref());
    let old = vms.status.clone().unwrap_or_default();
    let vm = ctx.machines.get(&ns, &vms.spec.virtual_machine_name);
    let fact = gather::machine(ctx, vm.as_deref(), &vms);
    let names = old.virtual_disk_snapshot_names.clone().unwrap_or_default();
    let parts: Vec<_> = names.iter().map(|name| gather::part(ctx, &ns, name)).collect();
    let secret = old.virtual_machine_snapshot_secret_name.as_deref();
    let facts = MachineFacts {
        before: old.phase,
        consistent: old.consistent,
        required: vms.spec.required_consistency,
        name: &vms.spec.virtual_machine_name,
        machine: &fact,
        parts: &parts,
        secret: secret.is_some_and(|name| ctx.secrets.get(&ns, name).is_some()),
    };
    let (way, vm) = match (plan::machine(&facts), vm) {
        (Next::Keep, _) => return Ok(Some(Action::await_change())),
        (Next::Say(told), vm) => {
            announce(&vms, vm.as_deref(), &told, ctx);
            report(&vms, &told, None, ctx).await?;
            // What is in the way of a disk does not always show in the machine.
            let blocked = told.reason == plan::BLOCKED;
            return Ok(Some(if blocked { Action::requeue(BLOCKED_AGAIN) } else { Action::await_change() }));
        }
        (Next::Take(_), Some(_)) if !its_turn => return Ok(None),
        (Next::Take(way), Some(vm)) => (way, vm),
        // There is no machine to take it of.
        (Next::Take(_), None) => return Ok(Some(Action::await_change())),
    };
    begin(&vms, &vm, way, ctx).await.map(Some)
}

/// Puts on record what is to be taken, and takes it.
async fn begin(
    vms: &Arc<VirtualMachineSnapshot>,
    vm: &Arc<VirtualMachine>,
    way: Way,
    ctx: &Arc<Context>,
) -> Result<Action, Error> {
    if vms.status.as_ref().and_then(|s| s.phase) != Some(SnapshotPhase::InProgress) {
        let text = format!("VirtualMachineSnapshot {} is being taken.", vms.name_any());
        ctx.events.normal(vm.as_ref(), "VirtualMachineSnapshottingStarted", text);
    }
    let prepared = match prepare(vms, vm, ctx).await? {
        Ok(prepared) => prepared,
        Err(why) => return fail(vms, vm, FAILED, why, ctx).await,
    };
    if prepared.disks.is_empty() {
        let told = moment_told(Moment::Snapshotting { consistent: way != Way::AsItIs });
        let told = Told { phase: SnapshotPhase::Ready, reason: READY, message: String::new(), ..told };
        announce(vms, Some(vm), &told, ctx);
        report(vms, &told, Some(&prepared), ctx).await?;
        return Ok(Action::await_change());
    }
    let taken = take(
        Wanted {
            subject: Subject::Machine(MachineSubject { vms, vm, prepared: &prepared }),
            machine: Some(machine_id(vm)),
            way,
            required: vms.spec.required_consistency,
            disks: prepared.disks.clone(),
        },
        ctx,
    )
    .await?;
    // Deleted while it was taken: nobody else knows of what was begun for snapshots that are gone.
    let gone = |volume: &VolumeId| ctx.wakeup.graph.lock().of_uid(&volume.uid).is_none();
    let left: Vec<_> = prepared.disks.iter().map(|disk| disk.snapshot.clone()).filter(gone).collect();
    if ctx.machine_snapshots.get(&namespace(vms.as_ref()), &vms.name_any()).is_none() {
        discard(&left, ctx).await;
        return Ok(Action::await_change());
    }
    match taken {
        Taken::Again => Ok(Action::requeue(LOOK_AGAIN)),
        Taken::Inconsistent(why) => {
            let why = format!("The snapshot would not be consistent: {why}.");
            fail(vms, vm, "PotentiallyInconsistent", why, ctx).await
        }
        Taken::Failed(why) => fail(vms, vm, FAILED, format!("The snapshot could not be taken: {why}."), ctx).await,
        Taken::Begun { consistent } => {
            let told = moment_told(Moment::Snapshotting { consistent });
            let told = Told { message: format!("0/{} disks are copied.", prepared.disks.len()), ..told };
            report(vms, &told, Some(&prepared), ctx).await?;
            // The disks' snapshots may have become ready while this was written.
            Ok(Action::requeue(LOOK_AGAIN))
        }
    }
}

async fn fail(
    vms: &Arc<VirtualMachineSnapshot>,
    vm: &Arc<VirtualMachine>,
    reason: &'static str,
    message: String,
    ctx: &Context,
) -> Result<Action, Error> {
    let source = Some((Status::True, String::new()));
    let told = Told { phase: SnapshotPhase::Failed, consistent: None, reason, message, source };
    announce(vms, Some(vm), &told, ctx);
    report(vms, &told, None, ctx).await?;
    Ok(Action::await_change())
}

/// What is on record before anything is taken.
struct Prepared {
    contents: Contents,
    secret: String,
    names: Vec<String>,
    disks: Vec<SnapshotOf>,
}

/// Makes the Secret and the disks' snapshots. `Err`: why it cannot be done.
async fn prepare(
    vms: &Arc<VirtualMachineSnapshot>,
    vm: &Arc<VirtualMachine>,
    ctx: &Context,
) -> Result<Result<Prepared, String>, Error> {
    let ns = namespace(vms.as_ref());
    let address = match address(vms, vm, &ns, ctx).await? {
        Ok(address) => address,
        Err(why) => return Ok(Err(why)),
    };
    let uid = vms.uid().unwrap_or_default();
    let mut saved = Vec::new();
    for disk in gather::disks_of(ctx, vm) {
        let name = format!("{disk}-{uid}");
        if name.len() > LONGEST_NAME {
            return Ok(Err(format!("The name of VirtualDisk {disk} is too long for a snapshot of it.")));
        }
        match raw::<VirtualDisk>(ctx, &ns, &disk).await? {
            Some(object) => saved.push((object, name)),
            None => return Ok(Err(format!("VirtualDisk {disk} is gone."))),
        }
    }
    let mut attachments = Vec::new();
    for attachment in gather::attachments(ctx, vm) {
        let found = raw::<VirtualMachineBlockDeviceAttachment>(ctx, &ns, &attachment.name_any()).await?;
        attachments.extend(found);
    }
    let Some(machine) = raw::<VirtualMachine>(ctx, &ns, &vm.name_any()).await? else {
        return Ok(Err("The machine is gone.".into()));
    };
    let provisioning = provisioning(vm).and_then(|name| ctx.secrets.get(&ns, &name));
    let made = snapshot_contents::contents(&machine, &saved, &attachments, address.as_ref(), provisioning.as_deref());
    let contents = match made {
        Ok(contents) => contents,
        Err(damage) => return Ok(Err(format!("The machine's objects cannot be saved: {damage}."))),
    };
    let secret = match snapshot_contents::to_secret(&contents, vms) {
        Ok(secret) => secret,
        Err(damage) => return Ok(Err(format!("The machine's objects cannot be saved: {damage}."))),
    };
    if ctx.create_once::<Secret>(&secret).await? == Created::Existed {
        // Of an earlier try, when the machine may have looked otherwise.
        let api = Secret::api(&ctx.client, &ns);
        let patch = Patch::Merge(json!({ "data": secret.data }));
        let patched = api.patch(&secret.name_any(), &PatchParams::default(), &patch).await;
        patched.map_err(|e| Error::write("content", &secret, e))?;
    }
    let mut disks = Vec::new();
    for (_, name) in &saved {
        let disk = name.strip_suffix(&format!("-{uid}")).unwrap_or_default();
        let child = child(vms, name, disk, &ns, ctx).await?;
        match child.as_ref().and_then(|vds| gather::wish(ctx, &ns, vds)) {
            Some(wish) => disks.push(wish),
            None => return Ok(Err(format!("The snapshot of VirtualDisk {disk} is somebody else's, or gone."))),
        }
    }
    let names = saved.into_iter().map(|(_, name)| name).collect();
    Ok(Ok(Prepared { contents, secret: secret.name_any(), names, disks }))
}

/// The snapshot of one disk, made if it is not there; `None` if another object has its name.
async fn child(
    vms: &VirtualMachineSnapshot,
    name: &str,
    disk: &str,
    ns: &str,
    ctx: &Context,
) -> Result<Option<VirtualDiskSnapshot>, Error> {
    let api = VirtualDiskSnapshot::api(&ctx.client, ns);
    let wanted = VirtualDiskSnapshot {
        metadata: ObjectMeta {
            name: Some(name.to_owned()),
            namespace: Some(ns.to_owned()),
            owner_references: vms.controller_owner_ref(&()).map(|owner| vec![owner]),
            ..ObjectMeta::default()
        },
        spec: VirtualDiskSnapshotSpec {
            virtual_disk_name: disk.to_owned(),
            required_consistency: vms.spec.required_consistency,
        },
        status: None,
    };
    match api.create(&PostParams::default(), &wanted).await {
        Ok(made) => Ok(Some(made)),
        Err(kube::Error::Api(status)) if status.code == 409 => {
            let found = api.get_opt(name).await;
            let found = found.map_err(|e| Error::read("the disks' snapshots", e))?;
            let ours = |vds: &VirtualDiskSnapshot| {
                vds.owner_references().iter().any(|o| Some(&o.uid) == vms.meta().uid.as_ref())
            };
            Ok(found.filter(ours))
        }
        Err(e) => Err(Error::write("object", &wanted, e)),
    }
}

/// The machine's address object, made static if it is to be kept. `Err`: why it cannot be.
async fn address(
    vms: &VirtualMachineSnapshot,
    vm: &VirtualMachine,
    ns: &str,
    ctx: &Context,
) -> Result<Result<Option<Value>, String>, Error> {
    let Some((name, _)) = wanted_address(vm) else { return Ok(Ok(None)) };
    let Some(vmip) = ctx.addresses.get(ns, &name) else { return Ok(Ok(None)) };
    let known = vmip.status.as_ref().and_then(|s| s.address.clone()).filter(|address| !address.is_empty());
    if let (KeepIpAddress::Always, AddressType::Auto, Some(address)) =
        (vms.spec.keep_ip_address, vmip.spec.type_, known)
    {
        let api = VirtualMachineIPAddress::api(&ctx.client, ns);
        let patch = Patch::Merge(json!({ "spec": { "type": "Static", "staticIP": address } }));
        match api.patch(&name, &PatchParams::default(), &patch).await {
            Ok(written) => ctx.addresses.wrote(written),
            Err(kube::Error::Api(status)) if status.code == 422 => {
                return Ok(Err(format!("The machine's address cannot be kept: {}", status.message)));
            }
            Err(e) => return Err(Error::write("spec", vmip.as_ref(), e)),
        }
    }
    Ok(Ok(raw::<VirtualMachineIPAddress>(ctx, ns, &name).await?))
}

/// Name of the Secret with the first-boot configuration.
fn provisioning(vm: &VirtualMachine) -> Option<String> {
    let p = vm.spec.provisioning.as_ref()?;
    let reference = match p.type_ {
        ProvisioningType::UserData => None,
        ProvisioningType::UserDataRef => p.user_data_ref.as_ref(),
        ProvisioningType::SysprepRef => p.sysprep_ref.as_ref(),
    };
    reference.map(|r| r.name.clone())
}

/// An object as the API has it, with fields that our types do not know.
async fn raw<K: Resource<DynamicType = ()>>(ctx: &Context, ns: &str, name: &str) -> Result<Option<Value>, Error> {
    let api: Api<DynamicObject> = Api::namespaced_with(ctx.client.clone(), ns, &ApiResource::erase::<K>(&()));
    let found = api.get_opt(name).await.map_err(|e| Error::read("the machine's objects", e))?;
    Ok(found.and_then(|object| serde_json::to_value(object).ok()))
}

/// A machine's snapshot at its moment.
pub struct MachineSubject<'a> {
    vms: &'a Arc<VirtualMachineSnapshot>,
    vm: &'a Arc<VirtualMachine>,
    prepared: &'a Prepared,
}

impl MachineSubject<'_> {
    /// Reports a step.
    pub async fn say(&self, moment: Moment, ctx: &Context) -> Result<(), Error> {
        let (event, text) = match moment {
            Moment::Freezing => (None, ""),
            Moment::Snapshotting { .. } => {
                if guest(&ctx.host.observe(&machine_id(self.vm))) == Guest::Frozen {
                    let text = "The file systems are frozen.";
                    ctx.events.normal(self.vm.as_ref(), "VirtualMachineSnapshottingFrozen", text);
                }
                (Some("VirtualMachineSnapshottingInProgress"), "The snapshot of the machine's disks is being taken.")
            }
            Moment::Unfreezing => (Some("VirtualMachineSnapshottingThawed"), "The file systems are thawed."),
        };
        if let Some(reason) = event {
            ctx.events.normal(self.vm.as_ref(), reason, text);
        }
        report(self.vms, &moment_told(moment), Some(self.prepared), ctx).await
    }

    /// The machine has no instance.
    pub fn is_at_rest(&self, ctx: &Context) -> bool {
        guest(&ctx.host.observe(&machine_id(self.vm))) == Guest::Off
    }
}

/// Events on the machine.
fn announce(vms: &VirtualMachineSnapshot, vm: Option<&VirtualMachine>, told: &Told, ctx: &Context) {
    let Some(vm) = vm else { return };
    let old = vms.status.clone().unwrap_or_default();
    if old.phase == Some(told.phase) {
        return;
    }
    let name = vms.name_any();
    match told.phase {
        SnapshotPhase::Pending => {
            let text = format!("VirtualMachineSnapshot {name} waits. {}", told.message);
            ctx.events.normal(vm, "VirtualMachineSnapshottingPending", text);
        }
        SnapshotPhase::Ready => {
            let text = format!("VirtualMachineSnapshot {name} is ready.");
            ctx.events.normal(vm, "VirtualMachineSnapshottingCompleted", text);
        }
        SnapshotPhase::Failed if old.phase != Some(SnapshotPhase::Ready) => {
            let text = format!("VirtualMachineSnapshot {name} has failed. {}", told.message);
            ctx.events.normal(vm, "VirtualMachineSnapshottingFailed", text);
        }
        SnapshotPhase::InProgress | SnapshotPhase::Failed | SnapshotPhase::Terminating => {}
    }
}

async fn report(
    vms: &Arc<VirtualMachineSnapshot>,
    told: &Told,
    prepared: Option<&Prepared>,
    ctx: &Context,
) -> Result<(), Error> {
    let vms = ctx.machine_snapshots.newest(vms.clone());
    let mut new = vms.status.clone().unwrap_or_default();
    let (generation, now) = (vms.meta().generation, ctx.now());
    let mut conditions = new.conditions.take().unwrap_or_default();
    if let Some((status, message)) = &told.source {
        let reason = if *status == Status::True { SOURCE } else { SOURCE_NOT_READY };
        condition::set(&mut conditions, SOURCE, *status, reason, message.clone(), generation, now);
    }
    let ready = Status::from(told.phase == SnapshotPhase::Ready);
    condition::set(&mut conditions, READY, ready, told.reason, told.message.clone(), generation, now);
    new = VirtualMachineSnapshotStatus {
        phase: Some(told.phase),
        consistent: told.consistent,
        observed_generation: generation,
        conditions: Some(conditions),
        ..new
    };
    if let Some(prepared) = prepared {
        new.virtual_machine_snapshot_secret_name = Some(prepared.secret.clone());
        new.virtual_disk_snapshot_names = Some(prepared.names.clone());
        new.resources = Some(snapshot_contents::resources(&prepared.contents));
    }
    ctx.report(&ctx.machine_snapshots, vms.as_ref(), vms.status.as_ref(), &new).await
}
