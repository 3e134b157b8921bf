//! VirtualMachineIPAddress: gets an address from the pool by a lease, and knows which machine has it.

use std::collections::HashSet;
use std::net::Ipv4Addr;
use std::sync::Arc;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::runtime::controller::Action;
use kube::{Resource, ResourceExt};
use serde_json::json;

use super::cache::{Watched, address_of, namespace};
use super::devices::machine_id;
use super::graph::Kind;
use super::machine::power::exists;
use super::write::Created;
use super::{Context, error::Error};
use crate::types::condition::{self, Status};
use crate::types::{
    AddressPhase, LeaseHolder, VirtualMachine, VirtualMachineIPAddress, VirtualMachineIPAddressLease,
    VirtualMachineIPAddressLeaseSpec, VirtualMachineIPAddressStatus, lease_name,
};

pub mod lease;
pub mod plan;

use plan::{Plan, Tenure, Wish, tenure};

/// Keeps an address until no machine has it and its lease is released.
pub const FINALIZER: &str = "virtualization.deckhouse.io/vmip-cleanup";
/// Label of a lease: UID of its holder.
pub const UID_LABEL: &str = "virtualization.deckhouse.io/virtual-machine-ip-address-uid";

/// One look at one address.
pub async fn reconcile(vmip: Arc<VirtualMachineIPAddress>, ctx: Arc<Context>) -> Result<Action, Error> {
    let user = user_of(&vmip, &ctx);
    if vmip.meta().deletion_timestamp.is_some() {
        return release(&vmip, user.as_deref(), &ctx).await;
    }
    let bind = bind(&vmip, &ctx).await?;
    let old = vmip.status.clone().unwrap_or_default();
    let new = status(&vmip, &old, &bind, user.as_deref(), (ctx.options.clock)());
    if let Bind::Bound { address, fresh: true } = &bind {
        let text = format!("{address} was allocated by lease {}.", lease_name(*address));
        ctx.events.normal(vmip.as_ref(), "IPAddressHasBeenAllocated", text);
    }
    announce(&vmip, &old, &new, &ctx);
    let report = ctx.report(&ctx.addresses, vmip.as_ref(), vmip.status.as_ref(), &new);
    // The address is of use as soon as the status says it; the finalizer may follow.
    report.await?;
    let latest = ctx.addresses.newest(vmip);
    ctx.set_finalizers(&ctx.addresses, latest.as_ref(), &[FINALIZER], &[]).await?;
    Ok(Action::await_change())
}

/// Name of the machine that has the address, or will have it at its next start.
fn user_of(vmip: &VirtualMachineIPAddress, ctx: &Context) -> Option<String> {
    let (ns, name) = (namespace(vmip), vmip.name_any());
    let owner = vmip.owner_references().iter().find(|o| o.kind == "VirtualMachine").map(|o| o.uid.clone());
    let mut keys = ctx.wakeup.graph.lock().naming(&vmip.key(), Kind::Machine);
    keys.extend(owner.as_ref().and_then(|uid| ctx.wakeup.graph.lock().of_uid(uid).cloned()));
    let mut users: Vec<Arc<VirtualMachine>> =
        keys.iter().filter(|k| k.namespace == ns).filter_map(|k| ctx.machines.at(k)).collect();
    users.retain(|vm| uses(vm, &name, owner.as_deref()) && !is_leaving(vm, ctx));
    let current = vmip.status.as_ref().and_then(|s| s.virtual_machine_name.as_deref());
    if let Some(vm) = users.iter().find(|vm| Some(vm.name_any().as_str()) == current) {
        return Some(vm.name_any());
    }
    users.sort_by_key(|vm| (vm.creation_timestamp(), vm.name_any()));
    users.first().map(|vm| vm.name_any())
}

/// A machine that is being deleted and whose instance is over has no use for an address any more.
fn is_leaving(vm: &VirtualMachine, ctx: &Context) -> bool {
    vm.meta().deletion_timestamp.is_some() && !exists(&ctx.host.observe(&machine_id(vm)).state)
}

fn uses(vm: &VirtualMachine, vmip: &str, owner_uid: Option<&str>) -> bool {
    let in_use = vm.status.as_ref().and_then(|s| s.virtual_machine_ip_address_name.as_deref());
    let owned = owner_uid.is_some() && vm.uid().as_deref() == owner_uid;
    match vm.spec.virtual_machine_ip_address_name.as_deref() {
        Some(wished) => wished == vmip || in_use == Some(vmip),
        None => owned || in_use == Some(vmip),
    }
}

/// Where the address stands.
enum Bind {
    Bound { address: Ipv4Addr, fresh: bool },
    Refused { reason: &'static str, message: String, address: Option<String> },
}

async fn bind(vmip: &VirtualMachineIPAddress, ctx: &Context) -> Result<Bind, Error> {
    let me = LeaseHolder { name: vmip.name_any(), namespace: namespace(vmip) };
    let leases = ctx.wakeup.graph.lock().naming(&vmip.key(), Kind::Lease);
    let leased = leases.iter().filter_map(|k| ctx.leases.at(k)).find_map(|l| address_of(&l));
    let wish = Wish {
        me: me.clone(),
        type_: vmip.spec.type_,
        static_ip: vmip.spec.static_ip.as_deref(),
        bound: vmip.status.as_ref().and_then(|s| s.address.as_deref()).filter(|a| !a.is_empty()),
        leased,
    };
    // Addresses whose lease exists although our cache does not know it yet.
    let mut busy: HashSet<Ipv4Addr> = HashSet::new();
    loop {
        let lookup = |address: Ipv4Addr| {
            if busy.contains(&address) {
                return Tenure::Held(LeaseHolder::default());
            }
            tenure(ctx.leases.get("", &lease_name(address)).as_deref())
        };
        match plan::plan(&wish, &ctx.options.cidrs, lookup) {
            Plan::Bound(address) => return Ok(Bind::Bound { address, fresh: false }),
            Plan::Allocate(address) => {
                let lease = new_lease(vmip, &me, address);
                match ctx.create_once(&lease).await? {
                    Created::New => return Ok(Bind::Bound { address, fresh: true }),
                    Created::Existed => {
                        let known = lease::holder_now(ctx, address).await?;
                        if known.as_ref() == Some(&me) {
                            return Ok(Bind::Bound { address, fresh: false });
                        }
                        busy.insert(address);
                    }
                }
            }
            Plan::TakeOver(address) => {
                lease::take_over(ctx, address, &me, vmip.uid().unwrap_or_default()).await?;
                return Ok(Bind::Bound { address, fresh: true });
            }
            Plan::Refused { reason, message, address } => return Ok(Bind::Refused { reason, message, address }),
        }
    }
}

fn new_lease(vmip: &VirtualMachineIPAddress, me: &LeaseHolder, address: Ipv4Addr) -> VirtualMachineIPAddressLease {
    VirtualMachineIPAddressLease {
        metadata: ObjectMeta {
            name: Some(lease_name(address)),
            labels: Some([(UID_LABEL.to_owned(), vmip.uid().unwrap_or_default())].into()),
            finalizers: Some(vec![lease::FINALIZER.to_owned()]),
            ..ObjectMeta::default()
        },
        spec: VirtualMachineIPAddressLeaseSpec { virtual_machine_ip_address_ref: Some(me.clone()) },
        status: None,
    }
}

fn status(
    vmip: &VirtualMachineIPAddress,
    old: &VirtualMachineIPAddressStatus,
    bind: &Bind,
    user: Option<&str>,
    now: jiff::Timestamp,
) -> VirtualMachineIPAddressStatus {
    let generation = vmip.meta().generation;
    let mut conditions = old.conditions.clone().unwrap_or_default();
    let mut set = |type_: &str, status: Status, reason: &str, message: &str| {
        condition::set(&mut conditions, type_, status, reason, message, generation, now);
    };
    let (phase, address) = match bind {
        Bind::Bound { address, .. } => {
            set("Bound", Status::True, "Bound", "");
            let phase = if user.is_some() { AddressPhase::Attached } else { AddressPhase::Bound };
            (phase, Some(address.to_string()))
        }
        Bind::Refused { reason, message, address } => {
            set("Bound", Status::False, reason, message);
            (AddressPhase::Pending, address.clone())
        }
    };
    match user {
        Some(_) if phase == AddressPhase::Attached => set("Attached", Status::True, "Attached", ""),
        Some(vm) => set(
            "Attached",
            Status::False,
            "VirtualMachineNotFound",
            &format!("Waits for its address; then {vm} gets it."),
        ),
        None => set("Attached", Status::False, "VirtualMachineNotFound", "No virtual machine uses this address."),
    }
    VirtualMachineIPAddressStatus {
        address,
        virtual_machine_name: user.filter(|_| phase == AddressPhase::Attached).map(str::to_owned),
        phase: Some(phase),
        observed_generation: generation,
        conditions: Some(conditions),
    }
}

fn announce(
    vmip: &VirtualMachineIPAddress,
    old: &VirtualMachineIPAddressStatus,
    new: &VirtualMachineIPAddressStatus,
    ctx: &Context,
) {
    let conditions = |s: &VirtualMachineIPAddressStatus| s.conditions.clone().unwrap_or_default();
    let (was, is) = (conditions(old), conditions(new));
    let address = new.address.as_deref().unwrap_or("");
    if !condition::is_true(&was, "Bound") && condition::is_true(&is, "Bound") {
        ctx.events.normal(vmip, "Bound", format!("Bound to {address} by lease {}.", lease_of(address)));
    }
    if let Some(failure) = condition::find(&is, "Bound").filter(|c| c.status == "False")
        && condition::find(&was, "Bound").is_none_or(|c| c.reason != failure.reason)
    {
        ctx.events.warning(vmip, "Failed", failure.message.clone());
    }
    match (condition::is_true(&was, "Attached"), condition::is_true(&is, "Attached")) {
        (false, true) => {
            let vm = new.virtual_machine_name.as_deref().unwrap_or("");
            ctx.events.normal(vmip, "Attached", format!("VirtualMachine {vm} has {address}."));
        }
        (true, false) => ctx.events.normal(vmip, "NotAttached", "No virtual machine has the address any more."),
        _ => {}
    }
}

fn lease_of(address: &str) -> String {
    address.parse().map(lease_name).unwrap_or_default()
}

async fn release(vmip: &Arc<VirtualMachineIPAddress>, user: Option<&str>, ctx: &Context) -> Result<Action, Error> {
    if let Some(vm) = user {
        tracing::debug!(vmip = %vmip.name_any(), vm, "deletion waits for the machine");
        return Ok(Action::await_change());
    }
    let leases = ctx.wakeup.graph.lock().naming(&vmip.key(), Kind::Lease);
    for key in leases {
        if let Some(held) = ctx.leases.at(&key) {
            lease::release(ctx, &held).await?;
            ctx.events.normal(vmip.as_ref(), "Released", format!("Lease {} is released.", key.name));
        }
    }
    ctx.set_finalizers(&ctx.addresses, vmip.as_ref(), &[], &[FINALIZER]).await?;
    Ok(Action::await_change())
}

/// Deletes the address object that a machine owns. Answers whether it is gone.
pub async fn delete_automatic(vm: &VirtualMachine, ctx: &Context) -> Result<bool, Error> {
    let owned = ctx.addresses.get(&namespace(vm), &automatic_name(vm));
    let owned = owned.filter(|vmip| vmip.owner_references().iter().any(|o| Some(&o.uid) == vm.meta().uid.as_ref()));
    let Some(vmip) = owned else { return Ok(true) };
    if vmip.meta().deletion_timestamp.is_none() {
        ctx.delete_exactly(vmip.as_ref()).await?;
    }
    // It may have been waiting for this very machine.
    ctx.wakeup.wake([vmip.key()]);
    Ok(false)
}

/// Name of the address object that is made for a machine without `virtualMachineIPAddressName`. The same at every
/// call, so that a repeated creation finds the first.
pub fn automatic_name(vm: &VirtualMachine) -> String {
    format!("{}-{}", vm.name_any(), plan::suffix(&vm.uid().unwrap_or_default()))
}

/// The address object of a machine without `virtualMachineIPAddressName`.
pub fn automatic(vm: &VirtualMachine) -> Result<VirtualMachineIPAddress, serde_json::Error> {
    // Through JSON: the object has nothing but what is said here.
    serde_json::from_value(json!({
        "apiVersion": VirtualMachineIPAddress::api_version(&()),
        "kind": VirtualMachineIPAddress::kind(&()),
        "metadata": {
            "name": automatic_name(vm),
            "namespace": namespace(vm),
            "labels": { "virtualization.deckhouse.io/virtual-machine-uid": vm.uid() },
            "finalizers": [FINALIZER],
            "ownerReferences": [vm.controller_owner_ref(&())],
        },
        "spec": { "type": "Auto" },
    }))
}
