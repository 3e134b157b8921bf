//! Evict and Migrate: the machine moves into a fresh QEMU on this node (upstream.md 7.5). Deciding is pure.

use jiff::Timestamp;
use kube::ResourceExt;
use serde_json::json;

use super::plan::{Refusal, reason};
use super::{Context, Error, launch, phase};
use crate::controller::cache::namespace;
use crate::controller::devices::machine_id;
use crate::controller::wording::duration;
use crate::controller::write::finalizers;
use crate::host::{MachineState, Migration, MigrationOutcome, MigrationStage, Observation, Step};
use crate::types::quantity::human_bytes;
use crate::types::{LiveMigrationPolicy, OperationPhase, OperationType, VirtualMachine, VirtualMachineOperation};

/// Held by an operation that may have to cancel its migration when it is deleted.
pub const FINALIZER: &str = "virtualization.deckhouse.io/vmop-cleanup";
/// Annotation of an operation that was executed: number of the instance's newest migration at that time.
const NUMBER: &str = "vmdeck.io/migration";

/// Whether an operation is a migration.
pub fn is_migration(type_: OperationType) -> bool {
    matches!(type_, OperationType::Evict | OperationType::Migrate)
}

/// Whether the guest may be slowed down; the operation's word and the machine's policy have to agree.
///
/// # Errors
/// The operation asks for what the policy rules out.
pub fn throttle(policy: LiveMigrationPolicy, force: Option<bool>) -> Result<bool, Refusal> {
    use LiveMigrationPolicy::{AlwaysForced, AlwaysSafe, PreferForced, PreferSafe};
    match (policy, force) {
        (AlwaysSafe, Some(true)) => Err(("force=true", "AlwaysSafe", "without force")),
        (AlwaysForced, Some(false)) => Err(("force=false", "AlwaysForced", "with force, or leave it out")),
        (AlwaysSafe, _) | (PreferSafe, None | Some(false)) | (PreferForced, Some(false)) => Ok(false),
        (AlwaysForced, _) | (PreferForced, None | Some(true)) | (PreferSafe, Some(true)) => Ok(true),
    }
    .map_err(|(asked, policy, remedy)| Refusal {
        reason: "NotApplicableForLiveMigrationPolicy",
        message: format!("{asked} is not applicable for liveMigrationPolicy {policy}: try {remedy}."),
    })
}

/// What is put on record before the migration is asked for.
pub fn mark(observation: &Observation) -> serde_json::Value {
    json!({ "finalizers": [FINALIZER], "annotations": { NUMBER: newest(observation).to_string() } })
}

/// Number of the newest migration of an instance.
fn newest(observation: &Observation) -> u64 {
    let going = observation.migration.as_ref().map_or(0, |migration| migration.number);
    observation.last_migration.as_ref().map_or(0, |end| end.number).max(going)
}

/// What an executed operation has to do or to say.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Course {
    /// It has not been asked for yet.
    Ask,
    /// Under way.
    Going {
        /// Reason of the condition `Completed`.
        reason: &'static str,
        /// For the user.
        message: String,
        /// Percent.
        progress: u8,
    },
    /// Done; the guest was held for so many milliseconds.
    Done {
        /// Milliseconds.
        downtime_ms: u64,
    },
    /// Failed.
    Failed(Refusal),
}

/// Looks at the machine: `launch` and `number` are what the operation noted when it was executed.
pub fn course(launch: u64, number: u64, observation: &Observation, now: Timestamp) -> Course {
    let failed = |reason, message: &str| Course::Failed(Refusal { reason, message: message.to_owned() });
    if observation.launch != launch {
        return failed("Aborted", "The machine was started anew before it was migrated.");
    }
    if let Some(end) = observation.last_migration.as_ref().filter(|end| end.number > number) {
        return match &end.outcome {
            MigrationOutcome::Succeeded { downtime_ms } => Course::Done { downtime_ms: *downtime_ms },
            MigrationOutcome::Failed { detail } => {
                failed(reason::FAILED, &format!("The migration failed, the machine goes on where it was: {detail}"))
            }
            MigrationOutcome::Cancelled => failed("Aborted", "The migration was cancelled."),
        };
    }
    match (&observation.state, &observation.migration) {
        (MachineState::Running { .. }, Some(migration)) => going(migration, now),
        (MachineState::Running { .. }, None) => Course::Ask,
        _ => failed("Aborted", "The machine stopped before it was migrated."),
    }
}

fn going(migration: &Migration, now: Timestamp) -> Course {
    let elapsed = duration(migration.since, now);
    let Migration { processed, remaining, total, rate, throttle, .. } = migration;
    let (reason, progress) = match migration.stage {
        MigrationStage::Preparing => ("TargetPreparing", 3),
        MigrationStage::Copying => {
            let done = u128::from(total.saturating_sub(*remaining)) * 85 / u128::from((*total).max(1));
            ("Syncing", 5 + u8::try_from(done).unwrap_or(85))
        }
        MigrationStage::SwitchingOver => ("SourceSuspended", 91),
    };
    let mut message = format!(
        "{elapsed} elapsed, {} sent, {} remaining, {}/s.",
        human_bytes(*processed),
        human_bytes(*remaining),
        human_bytes(*rate)
    );
    if *throttle > 0 {
        message.push_str(&format!(" The guest is slowed down by {throttle}%."));
    }
    Course::Going { reason, message, progress }
}

/// Where an executed migration stands; asks the host for it if that has not happened.
pub fn follow(op: &VirtualMachineOperation, vm: &VirtualMachine, ctx: &Context) -> Course {
    let id = machine_id(vm);
    let observation = ctx.host.observe(&id);
    let course = course(launch(op).unwrap_or(0), number(op), &observation, ctx.now());
    if course != Course::Ask {
        return course;
    }
    let refused = |refusal| Course::Failed(refusal);
    let throttle = match throttle(vm.spec.live_migration_policy, op.spec.force) {
        Ok(throttle) => throttle,
        Err(refusal) => return refused(refusal),
    };
    match ctx.host.submit(&id, Step::Migrate { throttle }) {
        Ok(()) => {
            let (event, verb) = match op.spec.type_ {
                OperationType::Evict => ("Evicted", "Evict"),
                _ => ("Migrated", "Migrate"),
            };
            let text = format!("{verb} initiated with VirtualMachineOperation {}", op.name_any());
            ctx.events.normal(vm, event, text);
            Course::Going { reason: "MigrationPending", message: String::new(), progress: 0 }
        }
        Err(denied) => refused(Refusal { reason: reason::FAILED, message: format!("Not possible now: {denied}.") }),
    }
}

fn number(op: &VirtualMachineOperation) -> u64 {
    op.annotations().get(NUMBER).and_then(|text| text.parse().ok()).unwrap_or(0)
}

/// An operation that is being deleted: its migration is cancelled, then it may go. Answers whether it may.
pub async fn release(op: &VirtualMachineOperation, ctx: &Context) -> Result<(), Error> {
    let Some(rest) = finalizers(op.finalizers(), &[], &[FINALIZER]) else { return Ok(()) };
    let vm = ctx.machines.get(&namespace(op), &op.spec.virtual_machine_name);
    if let Some(vm) = vm.filter(|vm| super::belongs_to(op, vm) && phase(op) == Some(OperationPhase::InProgress)) {
        let id = machine_id(&vm);
        let observation = ctx.host.observe(&id);
        if observation.launch == launch(op).unwrap_or(0)
            && observation.migration.as_ref().is_some_and(|migration| migration.number > number(op))
        {
            // Its end wakes this operation again.
            if ctx.host.submit(&id, Step::CancelMigration).is_ok() {
                return Ok(());
            }
        }
    }
    ctx.patch_metadata(&ctx.operations, op, json!({ "finalizers": rest })).await
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::host::MachineId;
    use LiveMigrationPolicy::{AlwaysForced, AlwaysSafe, PreferForced, PreferSafe};

    #[test]
    fn policy_and_force() {
        for (policy, unset, forced, unforced) in [
            (AlwaysSafe, Some(false), None, Some(false)),
            (PreferSafe, Some(false), Some(true), Some(false)),
            (AlwaysForced, Some(true), Some(true), None),
            (PreferForced, Some(true), Some(true), Some(false)),
        ] {
            for (force, want) in [(None, unset), (Some(true), forced), (Some(false), unforced)] {
                let got = throttle(policy, force);
                assert_eq!(got.as_ref().ok(), want.as_ref(), "{policy:?} {force:?}");
                if let Err(refusal) = got {
                    assert_eq!(refusal.reason, "NotApplicableForLiveMigrationPolicy");
                }
            }
        }
    }

    #[test]
    fn the_course_of_a_migration() {
        let at = |seconds| Timestamp::from_second(seconds).unwrap();
        let mut seen = Observation::absent(&MachineId("m".into()));
        (seen.launch, seen.state) = (1, MachineState::Running { since: at(0) });
        assert_eq!(course(1, 0, &seen, at(9)), Course::Ask);
        assert!(matches!(course(2, 0, &seen, at(9)), Course::Failed(r) if r.reason == "Aborted"));

        let mut migration = Migration {
            number: 1,
            since: at(0),
            stage: MigrationStage::Copying,
            processed: 60 << 20,
            remaining: 50 << 20,
            total: 100 << 20,
            rate: 5 << 20,
            throttle: 0,
        };
        seen.migration = Some(migration.clone());
        let Course::Going { reason, message, progress } = course(1, 0, &seen, at(9)) else { panic!("{seen:?}") };
        assert_eq!((reason, progress), ("Syncing", 47));
        assert!(message.starts_with("9s elapsed, "), "{message}");
        migration.stage = MigrationStage::SwitchingOver;
        seen.migration = Some(migration.clone());
        assert!(matches!(course(1, 0, &seen, at(9)), Course::Going { progress: 91, .. }));

        seen.migration = None;
        for (outcome, want) in [
            (MigrationOutcome::Succeeded { downtime_ms: 26 }, None),
            (MigrationOutcome::Cancelled, Some("Aborted")),
            (MigrationOutcome::Failed { detail: "Broken pipe".into() }, Some("OperationFailed")),
        ] {
            seen.last_migration = Some(migration.ended(outcome));
            let got = course(1, 0, &seen, at(9));
            match want {
                None => assert_eq!(got, Course::Done { downtime_ms: 26 }),
                Some(word) => assert!(matches!(&got, Course::Failed(r) if r.reason == word), "{got:?}"),
            }
            assert_eq!(course(1, 1, &seen, at(9)), Course::Ask, "an earlier migration is not ours");
        }
        seen.state = MachineState::Stopping;
        assert!(matches!(course(1, 1, &seen, at(9)), Course::Failed(r) if r.reason == "Aborted"));
    }
}
