//! VirtualMachineSnapshotOperation CreateVirtualMachine: a new machine from a snapshot, also when the one it was taken
//! of is gone. The making is that of Clone.

use std::sync::Arc;

use kube::runtime::controller::Action;
use kube::{Resource, ResourceExt};

use super::cache::namespace;
use super::operation::clone::Job;
use super::operation::recreate::act::{Objects, undo};
use super::operation::recreate::names::Names;
use super::operation::recreate::report::{Report, give_up};
use super::operation::recreate::resource;
use super::operation::restore::{Loaded, load_snapshot};
use super::{Context, Error};
use crate::types::condition::{self, Status};
use crate::types::{
    OperationMode, OperationResource, SnapshotOperationPhase, VirtualMachineSnapshotOperation,
    VirtualMachineSnapshotOperationStatus,
};

/// Held while there may be something half made.
const FINALIZER: &str = "virtualization.deckhouse.io/vmsop-cleanup";

/// One look at one operation.
pub async fn reconcile(op: Arc<VirtualMachineSnapshotOperation>, ctx: Arc<Context>) -> Result<Action, Error> {
    let phase = op.status.as_ref().and_then(|s| s.phase);
    let over = matches!(phase, Some(SnapshotOperationPhase::Completed | SnapshotOperationPhase::Failed));
    if op.meta().deletion_timestamp.is_some() || over {
        if !over && op.finalizers().iter().any(|f| f == FINALIZER) {
            undo(&listed(&op), &op.uid().unwrap_or_default(), Objects::new(&ctx, &namespace(op.as_ref()))).await?;
        }
        ctx.set_finalizers(&ctx.snapshot_operations, op.as_ref(), &[], &[FINALIZER]).await?;
        return Ok(Action::await_change());
    }
    if phase.is_none() {
        // The spelling is the API's.
        ctx.events.normal(op.as_ref(), "VirtualMachineSnaphotOperationStarted", "The operation was created.");
    }
    ctx.set_finalizers(&ctx.snapshot_operations, op.as_ref(), &[FINALIZER], &[]).await?;
    let op = ctx.snapshot_operations.newest(op);
    let report = step(&op, &ctx).await?;
    if phase.is_none() && report.end.is_none() {
        let text = "The operation is being carried out.";
        ctx.events.normal(op.as_ref(), "VirtualMachineSnapshotOperationInProgress", text);
    }
    tell(&op, report, &ctx).await?;
    Ok(Action::await_change())
}

fn listed(op: &VirtualMachineSnapshotOperation) -> Vec<OperationResource> {
    op.status.as_ref().and_then(|s| s.resources.clone()).unwrap_or_default()
}

async fn step(op: &VirtualMachineSnapshotOperation, ctx: &Context) -> Result<Report, Error> {
    let Some(spec) = &op.spec.create_virtual_machine else {
        return Ok(Report::failed("spec.createVirtualMachine is missing: it says how the new machine is called."));
    };
    let ns = namespace(op);
    let job = Job {
        operation: op.uid().unwrap_or_default(),
        mode: spec.mode,
        names: Names::new(spec.customization.as_ref(), spec.name_replacement.as_deref()),
        objects: Objects::new(ctx, &ns),
    };
    let contents = match load_snapshot(&op.spec.virtual_machine_snapshot_name, job.objects).await? {
        Loaded::Ready(_, contents) => contents,
        Loaded::Waiting(message) => return Ok(Report::going(message)),
        Loaded::Never(why) => return Ok(Report::failed(why)),
    };
    let begun = !listed(op).is_empty();
    if begun {
        let report = job.step(&contents, ctx).await?;
        let all_done = report.resources.iter().flatten().all(|r| r.status == "Completed");
        if report.end.is_none() && report.resources.is_some() && all_done {
            return Ok(Report::done(job.said(&report.message)).of(report.resources.unwrap_or_default()));
        }
        if matches!(report.end, Some(Err(_))) {
            undo(&listed(op), &job.operation, job.objects).await?;
        }
        return Ok(report);
    }
    let (all, _) = match job.plan(&contents, true, ctx).await? {
        Ok(planned) => planned,
        Err(report) => return Ok(report),
    };
    if job.mode == OperationMode::DryRun {
        return Ok(job.only_checked(&all));
    }
    // On record before the first is made.
    Ok(Report::going("The machine is made.").of(all.iter().map(|w| resource(w, "InProgress", "")).collect()))
}

async fn tell(op: &VirtualMachineSnapshotOperation, report: Report, ctx: &Context) -> Result<(), Error> {
    let old = op.status.clone().unwrap_or_default();
    let mut conditions = old.conditions.clone().unwrap_or_default();
    let (phase, status, reason, message) = match &report.end {
        None => (
            SnapshotOperationPhase::InProgress,
            Status::False,
            "CreateVirtualMachineInProgress",
            report.message.clone(),
        ),
        Some(Ok(message)) => (SnapshotOperationPhase::Completed, Status::True, "OperationCompleted", message.clone()),
        Some(Err(why)) => (SnapshotOperationPhase::Failed, Status::False, "OperationFailed", why.clone()),
    };
    let generation = op.meta().generation;
    condition::set(&mut conditions, "Completed", status, reason, &message, generation, ctx.now());
    let mut resources = report.resources.or(old.resources.clone());
    if phase == SnapshotOperationPhase::Failed {
        give_up(resources.iter_mut().flatten());
    }
    let new = VirtualMachineSnapshotOperationStatus {
        phase: Some(phase),
        resources,
        observed_generation: generation,
        conditions: Some(conditions),
    };
    ctx.report(&ctx.snapshot_operations, op, op.status.as_ref(), &new).await?;
    match report.end {
        Some(Ok(_)) => {
            ctx.events.normal(op, "VirtualMachineSnapshotOperationSucceeded", "The operation is done.");
        }
        Some(Err(why)) => ctx.events.warning(op, "VirtualMachineSnapshotOperationFailed", why),
        None => {}
    }
    Ok(())
}
