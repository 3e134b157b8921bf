//! Everything a decision about one machine needs, looked up once, from caches and the host. No waiting.

use std::net::Ipv4Addr;
use std::sync::Arc;

use k8s_openapi::api::core::v1::Secret;
use kube::{Resource, ResourceExt};

use super::super::address::automatic_name;
use super::super::cache::{Watched, device_key, namespace};
use super::super::devices::{copied_by, holds, lookup, machine_id, machines_naming, note_spec};
use super::super::graph::Kind;
use super::super::snapshot::{Snapshotting, of_machine};
use super::super::{Context, operation};
use super::power::{Request, exists};
use super::provision::{self, Provided};
use crate::host::{MachineId, Observation, Seed, VolumeId, VolumeInfo, VolumeState};
use crate::types::rules::sizing;
use crate::types::{
    AddressPhase, AttachmentPhase, BlockDeviceKind, BlockDeviceRef, NetworkType, ProvisioningType, VirtualMachine,
    VirtualMachineBlockDeviceAttachment, VirtualMachineClass, VirtualMachineSpec,
};

/// A block device of the spec.
#[derive(Debug, Clone)]
pub struct DeviceFact {
    /// As in the spec.
    pub reference: BlockDeviceRef,
    /// The object exists.
    pub exists: bool,
    /// The object is being deleted.
    pub deleting: bool,
    /// Phase of the object, for messages.
    pub phase: String,
    /// UID of the object.
    pub uid: String,
    /// Its volume.
    pub volume: Option<VolumeId>,
    /// Facts of the volume if it is usable.
    pub info: Option<VolumeInfo>,
    /// Who keeps it from being used: another machine, or an image that is being made from it.
    pub busy: Option<String>,
    /// An attachment of this machine that holds it, too.
    pub attached_by: Option<String>,
}

impl DeviceFact {
    /// Name of the object.
    pub fn name(&self) -> &str {
        &self.reference.name
    }
}

/// The machine's address.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum AddressFact {
    /// The machine has no Main network.
    None,
    /// No such VirtualMachineIPAddress.
    Missing {
        /// Its name.
        name: String,
        /// We make it ourselves.
        automatic: bool,
    },
    /// It has no lease.
    NotBound {
        /// Its name.
        name: String,
        /// Why.
        message: String,
    },
    /// Another machine has it.
    Taken {
        /// Its name.
        name: String,
        /// The other machine.
        by: String,
    },
    /// Usable.
    Ready {
        /// Its name.
        name: String,
        /// The address.
        address: Ipv4Addr,
    },
}

/// First-boot configuration.
#[derive(Debug, Clone, PartialEq)]
pub enum ProvisionFact {
    /// None asked for.
    None,
    /// To be given to the guest.
    Ready {
        /// What the host makes of it.
        seed: Seed,
        /// What looks wrong but does not stop the machine.
        warning: Option<String>,
    },
    /// Cannot be used.
    NotReady {
        /// Why, and what to do.
        message: String,
    },
}

/// The facts.
#[derive(Debug, Clone)]
pub struct Gathered {
    /// The machine.
    pub vm: Arc<VirtualMachine>,
    /// Its id on the host.
    pub id: MachineId,
    /// What the host has.
    pub observation: Observation,
    /// Spec that the instance was started from.
    pub applied: Option<VirtualMachineSpec>,
    /// Its class.
    pub class: Option<Arc<VirtualMachineClass>>,
    /// Block devices of the spec, in order.
    pub devices: Vec<DeviceFact>,
    /// Attachments that hold or want a place: not those that failed or are being deleted.
    pub attachments: Vec<Arc<VirtualMachineBlockDeviceAttachment>>,
    /// Its address.
    pub address: AddressFact,
    /// Its first-boot configuration.
    pub provisioning: ProvisionFact,
    /// The operation in progress.
    pub request: Option<Request>,
    /// Name of the operation that keeps it off.
    pub maintenance: Option<String>,
    /// Why its size does not fit its class.
    pub sizing_problem: Option<String>,
    /// Snapshots of it that are not over.
    pub snapshotting: Option<Snapshotting>,
}

/// Looks everything up.
pub fn gather(vm: Arc<VirtualMachine>, ctx: &Context) -> Gathered {
    let id = machine_id(&vm);
    let observation = ctx.host.observe(&id);
    let applied = if exists(&observation.state) { note_spec(&observation) } else { None };
    let ns = namespace(vm.as_ref());
    let class = ctx.classes.get("", &vm.spec.virtual_machine_class_name);
    let attachments = attachments(&vm, ctx);
    let devices = vm.spec.block_device_refs.iter().map(|r| device(&vm, &ns, r, &attachments, ctx)).collect();
    Gathered {
        address: address(&vm, &ns, ctx),
        provisioning: provisioning(&vm, &ns, ctx),
        request: operation::request_for(&vm, ctx),
        maintenance: operation::restore::maintenance_of(&vm, ctx),
        sizing_problem: class.as_deref().and_then(|class| sizing_problem(&vm, class)),
        snapshotting: snapshotting(&vm, &attachments, ctx),
        vm,
        id,
        observation,
        applied,
        class,
        devices,
        attachments,
    }
}

fn snapshotting(
    vm: &VirtualMachine,
    attachments: &[Arc<VirtualMachineBlockDeviceAttachment>],
    ctx: &Context,
) -> Option<Snapshotting> {
    let attached = attachments.iter().map(|a| &a.spec.block_device_ref).map(|r| (r.kind, &r.name));
    let refs = vm.spec.block_device_refs.iter().map(|r| (r.kind, &r.name)).chain(attached);
    let disks = refs.filter(|(kind, _)| *kind == BlockDeviceKind::VirtualDisk).map(|(_, name)| name.clone());
    of_machine(ctx, vm, disks)
}

fn sizing_problem(vm: &VirtualMachine, class: &VirtualMachineClass) -> Option<String> {
    class.spec.sizing_policies.as_ref()?;
    // Objects that came from the API encode.
    let (class, vm) = (serde_json::to_value(class).ok()?, serde_json::to_value(vm).ok()?);
    sizing::problem(&class, &vm)
}

fn attachments(vm: &VirtualMachine, ctx: &Context) -> Vec<Arc<VirtualMachineBlockDeviceAttachment>> {
    let keys = ctx.wakeup.graph.lock().naming(&vm.key(), Kind::Attachment);
    let found = keys.iter().filter_map(|k| ctx.attachments.at(k));
    found
        .filter(|a| a.meta().deletion_timestamp.is_none())
        .filter(|a| a.status.as_ref().and_then(|s| s.phase) != Some(AttachmentPhase::Failed))
        .collect()
}

fn device(
    vm: &VirtualMachine,
    ns: &str,
    reference: &BlockDeviceRef,
    attachments: &[Arc<VirtualMachineBlockDeviceAttachment>],
    ctx: &Context,
) -> DeviceFact {
    let (kind, name) = (reference.kind, reference.name.as_str());
    let found = lookup(ctx, ns, kind, name);
    let (deleting, phase) = object_state(ctx, ns, kind, name);
    let volume = found.as_ref().map(|d| d.volume.clone());
    let info = found.as_ref().and_then(|d| match &d.state {
        Some(VolumeState::Ready(info)) => Some(info.clone()),
        _ => None,
    });
    let attached_by = attachments
        .iter()
        .find(|a| a.spec.block_device_ref.kind == kind && a.spec.block_device_ref.name == name)
        .map(|a| a.name_any());
    DeviceFact {
        reference: reference.clone(),
        exists: found.is_some(),
        deleting,
        phase,
        uid: found.map(|d| d.uid).unwrap_or_default(),
        busy: volume.as_ref().and_then(|v| user(vm, ns, kind, name, v, ctx)),
        volume,
        info,
        attached_by,
    }
}

/// Whether the object is being deleted, and its phase.
fn object_state(ctx: &Context, ns: &str, kind: BlockDeviceKind, name: &str) -> (bool, String) {
    fn words<P: std::fmt::Debug>(phase: Option<P>) -> String {
        phase.map_or("Pending".into(), |p| format!("{p:?}"))
    }
    match kind {
        BlockDeviceKind::VirtualDisk => ctx
            .disks
            .get(ns, name)
            .map(|o| (o.meta().deletion_timestamp.is_some(), words(o.status.as_ref().and_then(|s| s.phase)))),
        BlockDeviceKind::VirtualImage => ctx
            .images
            .get(ns, name)
            .map(|o| (o.meta().deletion_timestamp.is_some(), words(o.status.as_ref().and_then(|s| s.phase)))),
        BlockDeviceKind::ClusterVirtualImage => ctx
            .cluster_images
            .get("", name)
            .map(|o| (o.meta().deletion_timestamp.is_some(), words(o.status.as_ref().and_then(|s| s.phase)))),
    }
    .unwrap_or_default()
}

/// Who else uses a disk. Images may be shared.
fn user(
    vm: &VirtualMachine,
    ns: &str,
    kind: BlockDeviceKind,
    name: &str,
    volume: &VolumeId,
    ctx: &Context,
) -> Option<String> {
    if kind != BlockDeviceKind::VirtualDisk {
        return None;
    }
    let other = machines_naming(ctx, &device_key(ns, kind, name))
        .into_iter()
        .filter(|other| other.uid() != vm.uid())
        .find(|other| holds(&ctx.host.observe(&machine_id(other)), kind, name, volume));
    match other {
        Some(other) => Some(format!("VirtualMachine {}", other.name_any())),
        None => ctx.disks.get(ns, name).and_then(|vd| copied_by(ctx, &vd)),
    }
}

/// Name of the address object the machine wants, and whether we make it.
pub fn wanted_address(vm: &VirtualMachine) -> Option<(String, bool)> {
    let main = match &vm.spec.networks {
        None => true,
        Some(networks) => networks.is_empty() || networks.iter().any(|n| n.type_ == NetworkType::Main),
    };
    main.then(|| match &vm.spec.virtual_machine_ip_address_name {
        Some(name) => (name.clone(), false),
        None => (automatic_name(vm), true),
    })
}

fn address(vm: &VirtualMachine, ns: &str, ctx: &Context) -> AddressFact {
    let Some((name, automatic)) = wanted_address(vm) else { return AddressFact::None };
    let Some(vmip) = ctx.addresses.get(ns, &name) else { return AddressFact::Missing { name, automatic } };
    let status = vmip.status.clone().unwrap_or_default();
    if vmip.meta().deletion_timestamp.is_some() {
        return AddressFact::NotBound { name, message: "It is being deleted.".into() };
    }
    let user = status.virtual_machine_name.as_deref().filter(|by| !by.is_empty() && *by != vm.name_any());
    if let Some(by) = user {
        return AddressFact::Taken { by: by.to_owned(), name };
    }
    let bound = matches!(status.phase, Some(AddressPhase::Bound | AddressPhase::Attached));
    match status.address.as_deref().and_then(|a| a.parse().ok()) {
        Some(address) if bound => AddressFact::Ready { name, address },
        _ => {
            let why = status.conditions.iter().flatten().find(|c| c.type_ == "Bound" && c.status != "True");
            AddressFact::NotBound { name, message: why.map(|c| c.message.clone()).unwrap_or_default() }
        }
    }
}

fn provisioning(vm: &VirtualMachine, ns: &str, ctx: &Context) -> ProvisionFact {
    let Some(p) = &vm.spec.provisioning else { return ProvisionFact::None };
    let secret = |reference: &Option<crate::types::SecretRef>| -> (String, Option<Arc<Secret>>) {
        let name = reference.as_ref().map(|r| r.name.clone()).unwrap_or_default();
        let found = ctx.secrets.get(ns, &name);
        (name, found)
    };
    let hostname = vm.name_any();
    let provided = match p.type_ {
        ProvisioningType::UserData => provision::inline(p.user_data.as_deref(), &hostname),
        ProvisioningType::UserDataRef => {
            let (name, found) = secret(&p.user_data_ref);
            provision::user_data(&name, found.as_deref(), &hostname)
        }
        ProvisioningType::SysprepRef => {
            let (name, found) = secret(&p.sysprep_ref);
            provision::sysprep(&name, found.as_deref())
        }
    };
    match provided {
        Ok(Provided { seed, warning }) => ProvisionFact::Ready { seed, warning },
        Err(message) => ProvisionFact::NotReady { message },
    }
}
