//! VirtualMachineOperation: checked once, executed once, its outcome recorded. The machine's reconciler does the
//! steps; here the request is put on record and its end is noticed.

use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use kube::runtime::controller::Action;
use kube::{Resource, ResourceExt};
use serde_json::json;

use super::cache::{Watched, namespace};
use super::devices::machine_id;
use super::graph::{Key, Kind};
use super::machine::power::{Ask, Request};
use super::machine::surroundings::no_room_to_move;
use super::write::finalizers;
use super::{Context, Error};
use crate::types::condition::{self, Status};
use crate::types::{
    Condition, MachinePhase, OperationPhase, OperationType, VirtualMachine, VirtualMachineOperation,
    VirtualMachineOperationStatus,
};

pub mod clone;
pub mod migration;
pub mod plan;
pub mod recreate;
pub mod restore;
#[cfg(test)]
mod rules_tests;

use migration::{Course, is_migration};
use plan::{Progress, Refusal, applicable, progress, reason, supersedes};
use recreate::report::Report;

/// Label of an operation: UID of its machine.
pub const UID_LABEL: &str = "virtualization.deckhouse.io/virtual-machine-uid";
/// Annotation of an operation that was executed: number of the machine's latest launch at that time.
const LAUNCH: &str = "vmdeck.io/launch";
/// Finished operations are kept that long.
const KEPT_FOR: Duration = Duration::from_secs(24 * 3600);
/// So many finished operations are kept for each machine.
const KEPT: usize = 10;

/// The operation in progress that the machine has to serve.
pub fn request_for(vm: &VirtualMachine, ctx: &Context) -> Option<Request> {
    let keys = ctx.wakeup.graph.lock().naming(&vm.key(), Kind::Operation);
    let active = keys.iter().filter_map(|k| ctx.operations.at(k)).filter(|op| {
        phase(op) == Some(OperationPhase::InProgress)
            && op.meta().deletion_timestamp.is_none()
            && belongs_to(op, vm)
            // Migrations ask the machine for nothing: they must not hide what does.
            && !is_migration(op.spec.type_)
    });
    let newest = active.max_by_key(|op| order(op))?;
    let force = newest.spec.force.unwrap_or(false);
    let ask = match newest.spec.type_ {
        OperationType::Start => Ask::Start,
        OperationType::Stop => Ask::Stop(force),
        OperationType::Restart => Ask::Restart(force),
        OperationType::Evict | OperationType::Migrate | OperationType::Restore | OperationType::Clone => return None,
    };
    Some(Request { operation: newest.name_any(), ask, launch: launch(&newest)? })
}

/// Whether an operation was made for this very machine and not for an earlier one of the same name.
pub fn belongs_to(op: &VirtualMachineOperation, vm: &VirtualMachine) -> bool {
    op.labels().get(UID_LABEL) == vm.meta().uid.as_ref()
}

fn phase(op: &VirtualMachineOperation) -> Option<OperationPhase> {
    op.status.as_ref().and_then(|s| s.phase)
}

fn launch(op: &VirtualMachineOperation) -> Option<u64> {
    op.annotations().get(LAUNCH)?.parse().ok()
}

fn order(op: &VirtualMachineOperation) -> (Option<Timestamp>, String) {
    (op.creation_timestamp().map(|t| t.0), op.name_any())
}

/// One look at one operation.
pub async fn reconcile(op: Arc<VirtualMachineOperation>, ctx: Arc<Context>) -> Result<Action, Error> {
    if op.meta().deletion_timestamp.is_some() {
        release(&op, &ctx).await?;
        return Ok(Action::await_change());
    }
    let ns = namespace(op.as_ref());
    let vm = ctx.machines.get(&ns, &op.spec.virtual_machine_name);
    match phase(&op) {
        Some(p) if p.is_final() => collect(&op, &ctx).await,
        Some(OperationPhase::InProgress) => follow(&op, vm.as_deref(), &ctx).await,
        _ => begin(op, vm, &ctx).await,
    }
}

/// Other operations on the same machine.
fn siblings(op: &VirtualMachineOperation, ctx: &Context) -> Vec<Arc<VirtualMachineOperation>> {
    let machine = Key::new(Kind::Machine, &namespace(op), &op.spec.virtual_machine_name);
    let keys = ctx.wakeup.graph.lock().naming(&machine, Kind::Operation);
    let others = keys.iter().filter_map(|k| ctx.operations.at(k)).filter(|o| o.uid() != op.uid());
    // Not those that make this machine as a copy of another.
    others.filter(|o| o.spec.virtual_machine_name == op.spec.virtual_machine_name).collect()
}

async fn begin(
    op: Arc<VirtualMachineOperation>,
    vm: Option<Arc<VirtualMachine>>,
    ctx: &Context,
) -> Result<Action, Error> {
    if phase(&op).is_none() {
        ctx.events.normal(op.as_ref(), "VirtualMachineOperationStarted", "The operation was created.");
    }
    let Some(vm) = vm else {
        let name = &op.spec.virtual_machine_name;
        let message = format!("VirtualMachine {name} does not exist in namespace {}.", namespace(op.as_ref()));
        return fail(&op, Refusal { reason: reason::NO_MACHINE, message }, ctx).await;
    };
    let mine = (op.spec.type_, op.spec.force.unwrap_or(false));
    let older: Vec<_> = siblings(&op, ctx)
        .into_iter()
        // Times have seconds: one that is being carried out was before one that is not, whatever its name.
        .filter(|o| match phase(o) {
            Some(phase) if phase.is_final() => false,
            Some(OperationPhase::InProgress) => true,
            _ => order(o) < order(&op),
        })
        .filter(|o| o.meta().deletion_timestamp.is_none())
        .collect();
    let unbeatable = older.iter().find(|o| !supersedes(mine, (o.spec.type_, o.spec.force.unwrap_or(false))));
    if let Some(other) = unbeatable {
        let message = format!(
            "VirtualMachineOperation {} ({}) is still active: let it finish or delete it first.",
            other.name_any(),
            other.spec.type_.as_str()
        );
        return fail(&op, Refusal { reason: reason::BUSY, message }, ctx).await;
    }
    let shown = vm.status.as_ref().and_then(|s| s.phase).unwrap_or(MachinePhase::Pending);
    if let Err(refusal) = applicable(mine.0, mine.1, shown, vm.spec.run_policy) {
        return fail(&op, refusal, ctx).await;
    }
    let observation = ctx.host.observe(&machine_id(&vm));
    if is_migration(mine.0) {
        if let Err(refusal) = migration::throttle(vm.spec.live_migration_policy, op.spec.force) {
            return fail(&op, refusal, ctx).await;
        }
        if let Some(why) = &observation.not_migratable {
            let message = format!("The machine is not migratable: {why}.");
            return fail(&op, Refusal { reason: reason::FAILED, message }, ctx).await;
        }
        if let Some(message) = no_room_to_move(&vm, ctx) {
            return fail(&op, Refusal { reason: reason::FAILED, message }, ctx).await;
        }
    }
    for other in older {
        supersede(&other, &op, ctx).await?;
    }
    let mut metadata = match mine.0 {
        type_ if is_migration(type_) => migration::mark(&observation),
        OperationType::Restore | OperationType::Clone => {
            json!({ "finalizers": finalizers(op.finalizers(), &[migration::FINALIZER], &[]) })
        }
        _ => json!({}),
    };
    metadata["labels"][UID_LABEL] = json!(vm.uid());
    metadata["annotations"][LAUNCH] = json!(observation.launch.to_string());
    ctx.patch_metadata(&ctx.operations, op.as_ref(), metadata).await?;
    let op = ctx.operations.newest(op);
    let now = ctx.now();
    let generation = op.meta().generation;
    let mut conditions = op.status.as_ref().and_then(|s| s.conditions.clone()).unwrap_or_default();
    let going = match op.spec.type_ {
        OperationType::Start => "StartInProgress",
        OperationType::Stop => "StopInProgress",
        OperationType::Evict | OperationType::Migrate => "MigrationPending",
        OperationType::Restore => reason::RESTORING,
        OperationType::Clone => reason::CLONING,
        OperationType::Restart => "RestartInProgress",
    };
    condition::set(&mut conditions, "SignalSent", Status::True, "SignalSentSuccess", "", generation, now);
    condition::set(&mut conditions, "Completed", Status::False, going, "", generation, now);
    write(&op, OperationPhase::InProgress, conditions, None, ctx).await?;
    ctx.events.normal(op.as_ref(), "VirtualMachineOperationInProgress", "The operation is being carried out.");
    Ok(Action::await_change())
}

async fn follow(op: &VirtualMachineOperation, vm: Option<&VirtualMachine>, ctx: &Context) -> Result<Action, Error> {
    let Some(vm) = vm.filter(|vm| belongs_to(op, vm)) else {
        let message = "The machine was deleted before the operation was done.".to_owned();
        clean(op, ctx).await?;
        return fail(op, Refusal { reason: reason::NO_MACHINE, message }, ctx).await;
    };
    match op.spec.type_ {
        OperationType::Restore => return tell(op, restore::follow(op, vm, ctx).await?, reason::RESTORING, ctx).await,
        OperationType::Clone => return tell(op, clone::follow(op, vm, ctx).await?, reason::CLONING, ctx).await,
        _ => {}
    }
    if is_migration(op.spec.type_) {
        return match migration::follow(op, vm, ctx) {
            Course::Ask => Ok(Action::await_change()),
            Course::Failed(refusal) => fail(op, refusal, ctx).await,
            Course::Done { downtime_ms } => {
                let message = format!("The guest was held for {downtime_ms} ms.");
                finish(op, &message, ctx).await
            }
            Course::Going { reason, message, progress } => {
                let mut conditions = conditions(op);
                let generation = op.meta().generation;
                condition::set(&mut conditions, "Completed", Status::False, reason, message, generation, ctx.now());
                write(op, OperationPhase::InProgress, conditions, Some(progress), ctx).await?;
                Ok(Action::await_change())
            }
        };
    }
    let observation = ctx.host.observe(&machine_id(vm));
    let shown = vm.status.as_ref().and_then(|s| s.phase).unwrap_or(MachinePhase::Pending);
    let asked = launch(op).unwrap_or(0);
    match progress(op.spec.type_, asked, &observation.state, observation.launch, shown, vm.spec.run_policy) {
        Progress::Going => Ok(Action::await_change()),
        Progress::Failed(refusal) => fail(op, refusal, ctx).await,
        Progress::Done => finish(op, "", ctx).await,
    }
}

/// Puts the account of a Restore or Clone on record.
async fn tell(
    op: &VirtualMachineOperation,
    report: Report,
    going: &'static str,
    ctx: &Context,
) -> Result<Action, Error> {
    let (generation, now) = (op.meta().generation, ctx.now());
    let mut told = conditions(op);
    for (type_, status, reason, message) in report.lines {
        condition::set(&mut told, type_, status, reason, message, generation, now);
    }
    let (phase, status, reason, message) = match &report.end {
        None => (OperationPhase::InProgress, Status::False, going, report.message),
        Some(Ok(message)) => (OperationPhase::Completed, Status::True, reason::DONE, message.clone()),
        Some(Err(why)) => (OperationPhase::Failed, Status::False, reason::FAILED, why.clone()),
    };
    condition::set(&mut told, "Completed", status, reason, &message, generation, now);
    let old = op.status.clone().unwrap_or_default();
    let mut resources = report.resources.or(old.resources.clone());
    if phase == OperationPhase::Failed {
        recreate::report::give_up(resources.iter_mut().flatten());
    }
    let new = VirtualMachineOperationStatus {
        phase: Some(phase),
        observed_generation: generation,
        conditions: Some(told),
        progress: report.progress.map(|percent| format!("{percent}%")).or(old.progress.clone()),
        resources,
    };
    ctx.report(&ctx.operations, op, op.status.as_ref(), &new).await?;
    match report.end {
        Some(Ok(_)) => ctx.events.normal(op, "VirtualMachineOperationSucceeded", "The operation is done."),
        Some(Err(why)) => ctx.events.warning(op, "VirtualMachineOperationFailed", why),
        None => {}
    }
    // What was just put on record wakes the next step.
    Ok(report.again.map_or_else(Action::await_change, Action::requeue))
}

/// An operation that is over or is being deleted: what it holds besides objects goes, then it may go.
async fn release(op: &VirtualMachineOperation, ctx: &Context) -> Result<(), Error> {
    if !op.finalizers().iter().any(|f| f == migration::FINALIZER) {
        return Ok(());
    }
    if is_migration(op.spec.type_) {
        return migration::release(op, ctx).await;
    }
    clean(op, ctx).await?;
    ctx.set_finalizers(&ctx.operations, op, &[], &[migration::FINALIZER]).await
}

/// What a Restore or Clone holds besides its own object goes.
async fn clean(op: &VirtualMachineOperation, ctx: &Context) -> Result<(), Error> {
    match op.spec.type_ {
        OperationType::Restore => restore::clean(op, ctx).await,
        OperationType::Clone => clone::clean(op, ctx).await,
        _ => Ok(()),
    }
}

async fn finish(op: &VirtualMachineOperation, message: &str, ctx: &Context) -> Result<Action, Error> {
    let mut conditions = conditions(op);
    let generation = op.meta().generation;
    condition::set(&mut conditions, "Completed", Status::True, reason::DONE, message, generation, ctx.now());
    let progress = is_migration(op.spec.type_).then_some(100);
    write(op, OperationPhase::Completed, conditions, progress, ctx).await?;
    ctx.events.normal(op, "VirtualMachineOperationSucceeded", "The operation is done.");
    Ok(Action::await_change())
}

fn conditions(op: &VirtualMachineOperation) -> Vec<Condition> {
    op.status.as_ref().and_then(|s| s.conditions.clone()).unwrap_or_default()
}

async fn fail(op: &VirtualMachineOperation, refusal: Refusal, ctx: &Context) -> Result<Action, Error> {
    let mut conditions = conditions(op);
    let (generation, now) = (op.meta().generation, ctx.now());
    if refusal.reason == reason::FAILED && condition::find(&conditions, "SignalSent").is_none() {
        condition::set(&mut conditions, "SignalSent", Status::False, "SignalSentError", "", generation, now);
    }
    condition::set(&mut conditions, "Completed", Status::False, refusal.reason, &refusal.message, generation, now);
    if condition::is_true(&conditions, restore::MAINTENANCE) {
        condition::set(&mut conditions, restore::MAINTENANCE, Status::False, restore::DISABLED, "", generation, now);
    }
    write(op, OperationPhase::Failed, conditions, None, ctx).await?;
    ctx.events.warning(op, "VirtualMachineOperationFailed", refusal.message);
    Ok(Action::await_change())
}

async fn supersede(op: &VirtualMachineOperation, by: &VirtualMachineOperation, ctx: &Context) -> Result<(), Error> {
    let mut conditions = conditions(op);
    let message = format!("Superseded by VirtualMachineOperation {} ({}).", by.name_any(), by.spec.type_.as_str());
    condition::set(
        &mut conditions,
        "Completed",
        Status::True,
        reason::SUPERSEDED,
        message,
        op.meta().generation,
        ctx.now(),
    );
    write(op, OperationPhase::Superseded, conditions, None, ctx).await
}

async fn write(
    op: &VirtualMachineOperation,
    phase: OperationPhase,
    conditions: Vec<Condition>,
    progress: Option<u8>,
    ctx: &Context,
) -> Result<(), Error> {
    let old = op.status.clone().unwrap_or_default();
    let new = VirtualMachineOperationStatus {
        phase: Some(phase),
        observed_generation: op.meta().generation,
        conditions: Some(conditions),
        progress: progress.map(|percent| format!("{percent}%")).or(old.progress),
        ..old
    };
    ctx.report(&ctx.operations, op, op.status.as_ref(), &new).await
}

/// Removes finished operations that are too old or too many.
async fn collect(op: &VirtualMachineOperation, ctx: &Context) -> Result<Action, Error> {
    release(op, ctx).await?;
    let finished = conditions(op).iter().find(|c| c.type_ == "Completed").map(|c| c.last_transition_time.0);
    let deadline = finished
        .or(op.creation_timestamp().map(|t| t.0))
        .and_then(|t| t.checked_add(KEPT_FOR).ok())
        .unwrap_or(Timestamp::MAX);
    let newer = siblings(op, ctx)
        .iter()
        .filter(|o| phase(o).is_some_and(OperationPhase::is_final) && order(o) > order(op))
        .count();
    let now = ctx.now();
    if deadline <= now || newer >= KEPT {
        ctx.delete_exactly(op).await?;
        return Ok(Action::await_change());
    }
    Ok(Action::requeue(deadline.duration_since(now).unsigned_abs()))
}
