//! Kinds that this release stores and checks but does nothing for. Their status says so: silence would look like work.
//!
//! A snapshot is of a moment. One that is not taken when it is asked for has failed: were it left waiting, a later
//! release would take it of a moment that nobody meant.

use std::sync::Arc;

use kube::Resource;
use kube::runtime::controller::Action;

use super::cache::Watched;
use super::{Context, Error};
use crate::types::condition::{self, Status};
use crate::types::{
    Condition, SnapshotPhase, VirtualDiskSnapshot, VirtualDiskSnapshotStatus, VirtualMachineSnapshot,
    VirtualMachineSnapshotStatus,
};

const NO_SNAPSHOTS: &str = "Snapshots are not made by this release of vmdeck: nothing was saved.";

/// One look at one snapshot of a disk.
pub async fn disk_snapshot(object: Arc<VirtualDiskSnapshot>, ctx: Arc<Context>) -> Result<Action, Error> {
    let old = object.status.clone().unwrap_or_default();
    let conditions =
        told(object.as_ref(), &ctx, old.conditions.clone(), "VirtualDiskSnapshotReady", FAILED_DISK, NO_SNAPSHOTS);
    let new = VirtualDiskSnapshotStatus {
        phase: Some(SnapshotPhase::Failed),
        observed_generation: object.meta().generation,
        conditions: Some(conditions),
        ..old
    };
    let latest = ctx.disk_snapshots.newest(object);
    ctx.report(&ctx.disk_snapshots, latest.as_ref(), latest.status.as_ref(), &new).await?;
    Ok(Action::await_change())
}

/// One look at one snapshot of a machine.
pub async fn machine_snapshot(object: Arc<VirtualMachineSnapshot>, ctx: Arc<Context>) -> Result<Action, Error> {
    let old = object.status.clone().unwrap_or_default();
    let conditions = told(
        object.as_ref(),
        &ctx,
        old.conditions.clone(),
        "VirtualMachineSnapshotReady",
        FAILED_MACHINE,
        NO_SNAPSHOTS,
    );
    let new = VirtualMachineSnapshotStatus {
        phase: Some(SnapshotPhase::Failed),
        observed_generation: object.meta().generation,
        conditions: Some(conditions),
        ..old
    };
    let latest = ctx.machine_snapshots.newest(object);
    ctx.report(&ctx.machine_snapshots, latest.as_ref(), latest.status.as_ref(), &new).await?;
    Ok(Action::await_change())
}

const FAILED_DISK: &str = "VirtualDiskSnapshotFailed";
const FAILED_MACHINE: &str = "VirtualMachineSnapshotFailed";

/// The conditions with the one that says why nothing is done.
fn told<K: Watched>(
    object: &K,
    ctx: &Context,
    conditions: Option<Vec<Condition>>,
    type_: &str,
    reason: &str,
    message: &str,
) -> Vec<Condition> {
    let mut conditions = conditions.unwrap_or_default();
    condition::set(&mut conditions, type_, Status::False, reason, message, object.meta().generation, ctx.now());
    conditions
}
