//! VirtualMachineMACAddress and its lease: an address that no other object has, for as long as the object exists.
//! This host has the Main network only, so no machine ever takes one.

use std::collections::HashSet;
use std::sync::Arc;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::runtime::controller::Action;
use kube::{Api, Resource, ResourceExt};

use super::cache::{Watched, namespace};
use super::graph::{Key, Kind};
use super::write::Created;
use super::{Context, Error};
use crate::types::condition::{self, Status};
use crate::types::{
    AddressPhase, LeaseHolder, MacLeasePhase, VirtualMachineMACAddress, VirtualMachineMACAddressLease,
    VirtualMachineMACAddressLeaseSpec, VirtualMachineMACAddressLeaseStatus, VirtualMachineMACAddressStatus,
    mac_lease_address, mac_lease_name,
};

pub mod plan;

use plan::{Plan, Wish, canonical};

/// Keeps an address until its lease is given back.
pub const FINALIZER: &str = "virtualization.deckhouse.io/vmmac-cleanup";
/// Keeps a lease while it is held.
pub const LEASE_FINALIZER: &str = "virtualization.deckhouse.io/vmmacl-cleanup";

/// Where the address stands.
enum Bind {
    Bound(String),
    Refused { reason: &'static str, message: String, address: Option<String> },
}

/// One look at one address.
pub async fn reconcile(vmmac: Arc<VirtualMachineMACAddress>, ctx: Arc<Context>) -> Result<Action, Error> {
    if vmmac.meta().deletion_timestamp.is_some() {
        return release(&vmmac, &ctx).await;
    }
    let bind = bind(&vmmac, &ctx).await?;
    let old = vmmac.status.clone().unwrap_or_default();
    let new = status(&vmmac, &old, &bind, ctx.now());
    announce(&vmmac, &old, &new, &ctx);
    ctx.report(&ctx.mac_addresses, vmmac.as_ref(), vmmac.status.as_ref(), &new).await?;
    let latest = ctx.mac_addresses.newest(vmmac);
    ctx.set_finalizers(&ctx.mac_addresses, latest.as_ref(), &[FINALIZER], &[]).await?;
    Ok(Action::await_change())
}

async fn bind(vmmac: &VirtualMachineMACAddress, ctx: &Context) -> Result<Bind, Error> {
    let me = LeaseHolder { name: vmmac.name_any(), namespace: namespace(vmmac) };
    let leases = ctx.wakeup.graph.lock().naming(&vmmac.key(), Kind::MacLease);
    let uid = vmmac.uid().unwrap_or_default();
    let wish = Wish {
        me: me.clone(),
        uid: &uid,
        asked: vmmac.spec.address.as_deref().map(canonical),
        bound: vmmac.status.as_ref().and_then(|s| s.address.as_deref()).filter(|a| !a.is_empty()),
        leased: leases.first().and_then(|k| mac_lease_address(&k.name)),
    };
    // Addresses whose lease exists although our cache does not know it yet.
    let mut busy: HashSet<String> = HashSet::new();
    loop {
        let holder = |address: &str| {
            if busy.contains(address) {
                return Some(LeaseHolder::default());
            }
            ctx.mac_leases.get("", &mac_lease_name(address)).map(|l| holder_of(&l))
        };
        match plan::plan(&wish, &ctx.options.store, holder) {
            Plan::Bound(address) => return Ok(Bind::Bound(address)),
            Plan::Refused { reason, message, address } => return Ok(Bind::Refused { reason, message, address }),
            Plan::Allocate(address) => {
                let lease = VirtualMachineMACAddressLease {
                    metadata: ObjectMeta {
                        name: Some(mac_lease_name(&address)),
                        finalizers: Some(vec![LEASE_FINALIZER.to_owned()]),
                        ..ObjectMeta::default()
                    },
                    spec: VirtualMachineMACAddressLeaseSpec { virtual_machine_mac_address_ref: Some(me.clone()) },
                    status: None,
                };
                match ctx.create_once(&lease).await? {
                    Created::New => return Ok(Bind::Bound(address)),
                    Created::Existed if holder_now(ctx, &address).await? == Some(me.clone()) => {
                        return Ok(Bind::Bound(address));
                    }
                    Created::Existed => {
                        busy.insert(address);
                    }
                }
            }
        }
    }
}

fn holder_of(lease: &VirtualMachineMACAddressLease) -> LeaseHolder {
    lease.spec.virtual_machine_mac_address_ref.clone().unwrap_or_default()
}

async fn holder_now(ctx: &Context, address: &str) -> Result<Option<LeaseHolder>, Error> {
    let api: Api<VirtualMachineMACAddressLease> = Api::all(ctx.client.clone());
    let lease = api
        .get_opt(&mac_lease_name(address))
        .await
        .map_err(|e| Error::Read { what: "a VirtualMachineMACAddressLease", source: Box::new(e) })?;
    Ok(lease.map(|l| holder_of(&l)))
}

fn status(
    vmmac: &VirtualMachineMACAddress,
    old: &VirtualMachineMACAddressStatus,
    bind: &Bind,
    now: jiff::Timestamp,
) -> VirtualMachineMACAddressStatus {
    let generation = vmmac.meta().generation;
    let mut conditions = old.conditions.clone().unwrap_or_default();
    let mut set = |type_: &str, status: Status, reason: &str, message: &str| {
        condition::set(&mut conditions, type_, status, reason, message, generation, now);
    };
    let (phase, address) = match bind {
        Bind::Bound(address) => {
            set("Bound", Status::True, "Bound", "");
            (AddressPhase::Bound, Some(address.clone()))
        }
        Bind::Refused { reason, message, address } => {
            set("Bound", Status::False, reason, message);
            (AddressPhase::Pending, address.clone())
        }
    };
    let message = "This host has the Main network only, whose interfaces take no address from here.";
    set("Attached", Status::False, "VirtualMachineNotFound", message);
    VirtualMachineMACAddressStatus {
        address,
        virtual_machine_name: None,
        phase: Some(phase),
        observed_generation: generation,
        conditions: Some(conditions),
    }
}

fn announce(
    vmmac: &VirtualMachineMACAddress,
    old: &VirtualMachineMACAddressStatus,
    new: &VirtualMachineMACAddressStatus,
    ctx: &Context,
) {
    let bound = |s: &VirtualMachineMACAddressStatus| {
        condition::find(s.conditions.as_deref().unwrap_or_default(), "Bound").cloned()
    };
    let (was, is) = (bound(old), bound(new));
    let address = new.address.as_deref().unwrap_or("");
    match is {
        Some(is) if was.as_ref().is_some_and(|was| (&was.status, &was.reason) == (&is.status, &is.reason)) => {}
        Some(is) if is.status == "True" => {
            ctx.events.normal(vmmac, "Bound", format!("Bound to {address} by lease {}.", mac_lease_name(address)));
        }
        Some(is) => ctx.events.warning(vmmac, "Failed", is.message),
        None => {}
    }
}

async fn release(vmmac: &Arc<VirtualMachineMACAddress>, ctx: &Context) -> Result<Action, Error> {
    let leases = ctx.wakeup.graph.lock().naming(&vmmac.key(), Kind::MacLease);
    for lease in leases.iter().filter_map(|key| ctx.mac_leases.at(key)) {
        ctx.delete_exactly(lease.as_ref()).await?;
        ctx.events.normal(vmmac.as_ref(), "Released", format!("Lease {} is given back.", lease.name_any()));
    }
    ctx.set_finalizers(&ctx.mac_addresses, vmmac.as_ref(), &[], &[FINALIZER]).await?;
    // They let go as soon as their holder is gone, which wakes them.
    Ok(Action::await_change())
}

/// One look at one lease: it ends with its holder, at once.
pub async fn reconcile_lease(lease: Arc<VirtualMachineMACAddressLease>, ctx: Arc<Context>) -> Result<Action, Error> {
    let holder = holder_of(&lease);
    let held = !holder.name.is_empty()
        && ctx.mac_addresses.at(&Key::new(Kind::MacAddress, &holder.namespace, &holder.name)).is_some();
    let deleting = lease.meta().deletion_timestamp.is_some();
    match (held, deleting) {
        (false, true) => ctx.set_finalizers(&ctx.mac_leases, lease.as_ref(), &[], &[LEASE_FINALIZER]).await?,
        (false, false) => ctx.delete_exactly(lease.as_ref()).await?,
        (true, _) => {
            let old = lease.status.clone().unwrap_or_default();
            let generation = lease.meta().generation;
            let mut conditions = old.conditions.unwrap_or_default();
            condition::set(&mut conditions, "Bound", Status::True, "Bound", "", generation, ctx.now());
            let new = VirtualMachineMACAddressLeaseStatus {
                phase: Some(MacLeasePhase::Bound),
                observed_generation: generation,
                conditions: Some(conditions),
            };
            ctx.report(&ctx.mac_leases, lease.as_ref(), lease.status.as_ref(), &new).await?;
        }
    }
    Ok(Action::await_change())
}
