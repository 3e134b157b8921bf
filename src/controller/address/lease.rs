//! VirtualMachineIPAddressLease: bound while its holder exists, then kept for the holder's namespace for a while,
//! then free.

use std::net::Ipv4Addr;
use std::sync::Arc;

use jiff::Timestamp;
use kube::api::{Api, Patch, PatchParams};
use kube::runtime::controller::Action;
use kube::{Resource, ResourceExt};
use serde_json::json;

use super::super::graph::{Key, Kind};
use super::super::{Context, error::Error};
use super::UID_LABEL;
use crate::types::condition::{self, Status};
use crate::types::{
    LeaseHolder, LeasePhase, VirtualMachineIPAddressLease, VirtualMachineIPAddressLeaseStatus, lease_name,
};

/// Keeps a lease while it is held.
pub const FINALIZER: &str = "virtualization.deckhouse.io/vmipl-cleanup";

/// What a look at a lease comes to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fate {
    /// Held: stays.
    Bound,
    /// Its holder is gone: give it back.
    Release,
    /// Released: look again then.
    KeptUntil(Timestamp),
    /// The time is over.
    Free,
}

/// Decides. `released_at` is when the lease was found released, if it was.
pub fn fate(
    holder_named: bool,
    holder_exists: bool,
    released_at: Option<Timestamp>,
    retention: std::time::Duration,
    now: Timestamp,
) -> Fate {
    match (holder_named, holder_exists) {
        (true, true) => Fate::Bound,
        (true, false) => Fate::Release,
        (false, _) => {
            let until = released_at.unwrap_or(now).checked_add(retention).unwrap_or(Timestamp::MAX);
            if until <= now { Fate::Free } else { Fate::KeptUntil(until) }
        }
    }
}

/// One look at one lease.
pub async fn reconcile(lease: Arc<VirtualMachineIPAddressLease>, ctx: Arc<Context>) -> Result<Action, Error> {
    let now = (ctx.options.clock)();
    let holder = lease.spec.virtual_machine_ip_address_ref.as_ref().filter(|h| !h.name.is_empty());
    let exists = holder.is_some_and(|h| ctx.addresses.at(&Key::new(Kind::Address, &h.namespace, &h.name)).is_some());
    let old = lease.status.clone().unwrap_or_default();
    let released_at = old
        .conditions
        .iter()
        .flatten()
        .find(|c| c.type_ == "Bound" && c.status == "False")
        .map(|c| c.last_transition_time.0);
    let fate = fate(holder.is_some(), exists, released_at, ctx.options.lease_retention, now);
    if lease.meta().deletion_timestamp.is_some() {
        if fate != Fate::Bound {
            ctx.set_finalizers(&ctx.leases, lease.as_ref(), &[], &[FINALIZER]).await?;
        }
        return Ok(Action::await_change());
    }
    match fate {
        Fate::Release => {
            release(&ctx, &lease).await?;
            Ok(Action::await_change())
        }
        Fate::Free => {
            ctx.delete_exactly(lease.as_ref()).await?;
            Ok(Action::await_change())
        }
        Fate::Bound | Fate::KeptUntil(_) => {
            let new = status(&lease, &old, fate == Fate::Bound, now);
            ctx.report(&ctx.leases, lease.as_ref(), lease.status.as_ref(), &new).await?;
            match fate {
                Fate::KeptUntil(until) => Ok(Action::requeue(until.duration_since(now).unsigned_abs())),
                _ => Ok(Action::await_change()),
            }
        }
    }
}

fn status(
    lease: &VirtualMachineIPAddressLease,
    old: &VirtualMachineIPAddressLeaseStatus,
    bound: bool,
    now: Timestamp,
) -> VirtualMachineIPAddressLeaseStatus {
    let generation = lease.meta().generation;
    let mut conditions = old.conditions.clone().unwrap_or_default();
    let (phase, status, reason, message) = if bound {
        (LeasePhase::Bound, Status::True, "Bound", "")
    } else {
        (LeasePhase::Released, Status::False, "Released", "Kept for its namespace for a while, then free.")
    };
    condition::set(&mut conditions, "Bound", status, reason, message, generation, now);
    VirtualMachineIPAddressLeaseStatus {
        phase: Some(phase),
        observed_generation: generation,
        conditions: Some(conditions),
    }
}

/// Takes the holder's name out; its namespace stays.
pub async fn release(ctx: &Context, lease: &VirtualMachineIPAddressLease) -> Result<(), Error> {
    patch(ctx, lease, json!({"spec": {"virtualMachineIPAddressRef": {"name": ""}}})).await
}

/// Puts a new holder into a released lease.
pub async fn take_over(ctx: &Context, address: Ipv4Addr, holder: &LeaseHolder, uid: String) -> Result<(), Error> {
    let Some(lease) = ctx.leases.get("", &lease_name(address)) else { return Ok(()) };
    let version = lease.resource_version();
    let change = json!({
        "metadata": { "resourceVersion": version, "labels": { UID_LABEL: uid } },
        "spec": { "virtualMachineIPAddressRef": holder },
    });
    patch(ctx, &lease, change).await
}

async fn patch(ctx: &Context, lease: &VirtualMachineIPAddressLease, change: serde_json::Value) -> Result<(), Error> {
    let api: Api<VirtualMachineIPAddressLease> = Api::all(ctx.client.clone());
    let name = lease.name_any();
    match api.patch(&name, &PatchParams::default(), &Patch::Merge(change)).await {
        Ok(written) => {
            ctx.leases.wrote(written);
            Ok(())
        }
        Err(kube::Error::Api(status)) if status.code == 404 => Ok(()),
        Err(e) => Err(Error::write("holder", lease, e)),
    }
}

/// The holder of an address's lease, asked from the server.
pub async fn holder_now(ctx: &Context, address: Ipv4Addr) -> Result<Option<LeaseHolder>, Error> {
    let api: Api<VirtualMachineIPAddressLease> = Api::all(ctx.client.clone());
    let lease = api
        .get_opt(&lease_name(address))
        .await
        .map_err(|e| Error::Read { what: "a VirtualMachineIPAddressLease", source: Box::new(e) })?;
    Ok(lease.and_then(|l| l.spec.virtual_machine_ip_address_ref))
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn life_of_a_lease() {
        let at = |s: i64| Timestamp::from_second(s).unwrap();
        let keep = Duration::from_secs(600);
        assert_eq!(fate(true, true, None, keep, at(0)), Fate::Bound);
        assert_eq!(fate(true, false, None, keep, at(0)), Fate::Release);
        assert_eq!(fate(false, false, None, keep, at(100)), Fate::KeptUntil(at(700)));
        assert_eq!(fate(false, false, Some(at(100)), keep, at(699)), Fate::KeptUntil(at(700)));
        assert_eq!(fate(false, false, Some(at(100)), keep, at(700)), Fate::Free);
        assert_eq!(fate(true, true, Some(at(100)), keep, at(9999)), Fate::Bound, "taken again");
    }
}
