//! When an operation applies, what it may supersede and when it is done. Pure.

use crate::host::{EndReason, MachineState};
use crate::types::{MachinePhase, OperationType, RunPolicy};

/// Reasons of the condition `Completed`.
pub mod reason {
    /// There is no such machine.
    pub const NO_MACHINE: &str = "VirtualMachineNotFound";
    /// The run policy forbids it.
    pub const POLICY: &str = "NotApplicableForVirtualMachineRunPolicy";
    /// The phase forbids it.
    pub const PHASE: &str = "NotApplicableForVirtualMachinePhase";
    /// An older operation is active.
    pub const BUSY: &str = "NotReadyToBeExecuted";
    /// It was tried and failed.
    pub const FAILED: &str = "OperationFailed";
    /// A machine is being restored.
    pub const RESTORING: &str = "RestoreInProgress";
    /// A machine is being cloned.
    pub const CLONING: &str = "CloneInProgress";
    /// It is done.
    pub const DONE: &str = "OperationCompleted";
    /// A newer operation took its place.
    pub const SUPERSEDED: &str = "Superseded";
}

/// Why an operation ends as Failed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refusal {
    /// Reason of the condition `Completed`.
    pub reason: &'static str,
    /// For the user.
    pub message: String,
}

/// Whether an operation applies. The policy is judged before the phase.
pub fn applicable(type_: OperationType, force: bool, phase: MachinePhase, policy: RunPolicy) -> Result<(), Refusal> {
    if !type_.run_policies().contains(&policy) {
        let message = format!(
            "Operation type {} is not applicable for VirtualMachine with runPolicy {}",
            type_.as_str(),
            policy.as_str()
        );
        return Err(Refusal { reason: reason::POLICY, message });
    }
    if !type_.applies_in(phase, force) {
        let message = format!(
            "Operation type {} is not applicable for VirtualMachine in phase {}",
            type_.as_str(),
            phase.as_str()
        );
        return Err(Refusal { reason: reason::PHASE, message });
    }
    Ok(())
}

/// Whether a new operation may take the place of an active older one.
pub fn supersedes(new: (OperationType, bool), active: (OperationType, bool)) -> bool {
    use OperationType::{Evict, Migrate, Restart, Start, Stop};
    match active {
        (Start, _) => new.0 == Stop,
        (Stop | Restart, false) => matches!(new, (Stop | Restart, true)),
        (Migrate | Evict, _) => matches!(new.0, Stop | Restart),
        _ => false,
    }
}

/// What became of an operation that was executed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Progress {
    /// Still going on.
    Going,
    /// Done.
    Done,
    /// Failed.
    Failed(Refusal),
}

/// Looks at the machine: its instance, its shown phase, and its policy now.
pub fn progress(
    type_: OperationType,
    asked_at_launch: u64,
    state: &MachineState,
    launch: u64,
    shown: MachinePhase,
    policy: RunPolicy,
) -> Progress {
    let newer = launch > asked_at_launch;
    match type_ {
        OperationType::Start | OperationType::Restart => match state {
            MachineState::Running { .. } if newer && shown == MachinePhase::Running => Progress::Done,
            MachineState::Ended { reason: EndReason::StartFailed { detail }, .. } if newer => {
                Progress::Failed(Refusal { reason: reason::FAILED, message: format!("The start failed: {detail}") })
            }
            _ if !type_.run_policies().contains(&policy) => Progress::Failed(Refusal {
                reason: reason::POLICY,
                message: format!("runPolicy became {} before the operation was done", policy.as_str()),
            }),
            _ => Progress::Going,
        },
        OperationType::Stop if policy == RunPolicy::AlwaysOn => Progress::Failed(Refusal {
            reason: reason::POLICY,
            message: "runPolicy became AlwaysOn before the machine was stopped".into(),
        }),
        OperationType::Stop => match state {
            MachineState::Absent | MachineState::Ended { .. } if shown == MachinePhase::Stopped => Progress::Done,
            _ => Progress::Going,
        },
        // `migration`, `restore` and `clone` follow these.
        OperationType::Evict | OperationType::Migrate | OperationType::Restore | OperationType::Clone => {
            Progress::Going
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use MachinePhase::{Degraded, Migrating, Pause, Pending, Running, Starting, Stopped, Stopping, Terminating};
    use OperationType::{Evict, Migrate, Restart, Start, Stop};
    use RunPolicy::{AlwaysOff, AlwaysOn, AlwaysOnUnlessStoppedManually as Unless, Manual};

    const PHASES: [MachinePhase; 9] =
        [Pending, Running, Degraded, Terminating, Stopped, Stopping, Starting, Migrating, Pause];

    #[test]
    fn type_by_policy() {
        for (type_, phase, allowed) in [
            (Start, Stopped, &[Manual, Unless][..]),
            (Stop, Running, &[Manual, Unless]),
            (Restart, Running, &[Manual, Unless, AlwaysOn]),
            (Evict, Running, &[Manual, Unless, AlwaysOn]),
            (Migrate, Running, &[Manual, Unless, AlwaysOn]),
        ] {
            for policy in [AlwaysOn, Unless, Manual, AlwaysOff] {
                let got = applicable(type_, false, phase, policy);
                assert_eq!(got.is_ok(), allowed.contains(&policy), "{type_:?} {policy:?}");
            }
        }
    }

    #[test]
    fn type_by_phase() {
        for (type_, force, allowed) in [
            (Start, false, &[Stopped, Stopping][..]),
            (Stop, false, &[Running, Degraded, Migrating, Starting, Pause, Pending]),
            (Stop, true, &[Running, Degraded, Migrating, Starting, Pause, Pending, Stopping]),
            (Restart, false, &[Running, Degraded, Migrating, Starting, Pause]),
            (Restart, true, &[Running, Degraded, Migrating, Starting, Pause, Stopping]),
            (Evict, false, &[Running]),
        ] {
            for phase in PHASES {
                let got = applicable(type_, force, phase, Manual);
                assert_eq!(got.is_ok(), allowed.contains(&phase), "{type_:?} {force} {phase:?}");
            }
        }
    }

    #[test]
    fn the_policy_is_named_before_the_phase() {
        let refusal = applicable(Start, false, Running, AlwaysOff).unwrap_err();
        assert_eq!(refusal.reason, reason::POLICY);
        assert_eq!(
            refusal.message,
            "Operation type Start is not applicable for VirtualMachine with runPolicy AlwaysOff"
        );
        let refusal = applicable(Start, false, Running, Manual).unwrap_err();
        assert_eq!(refusal.message, "Operation type Start is not applicable for VirtualMachine in phase Running");
    }

    #[test]
    fn supersession() {
        for (new, active, may) in [
            ((Stop, false), (Start, false), true),
            ((Restart, false), (Start, false), false),
            ((Stop, true), (Stop, false), true),
            ((Restart, true), (Stop, false), true),
            ((Stop, false), (Stop, false), false),
            ((Stop, true), (Restart, false), true),
            ((Start, false), (Stop, false), false),
            ((Stop, true), (Stop, true), false),
            ((Stop, false), (Migrate, false), true),
            ((Restart, false), (Evict, false), true),
            ((Start, false), (Evict, false), false),
        ] {
            assert_eq!(supersedes(new, active), may, "{new:?} over {active:?}");
        }
    }

    #[test]
    fn completion() {
        let running = MachineState::Running { since: jiff::Timestamp::UNIX_EPOCH };
        let ended = |reason| MachineState::Ended { reason, at: jiff::Timestamp::UNIX_EPOCH };
        let stopped = ended(EndReason::Requested);
        for (type_, state, launch, shown, done) in [
            (Restart, &running, 1, Running, false),
            (Restart, &running, 2, Running, true),
            (Restart, &running, 2, Starting, false),
            (Start, &running, 2, Running, true),
            (Stop, &running, 1, Running, false),
            (Stop, &stopped, 1, Running, false),
            (Stop, &stopped, 1, Stopped, true),
            (Stop, &MachineState::Absent, 0, Stopped, true),
        ] {
            let got = progress(type_, 1, state, launch, shown, Manual);
            assert_eq!(got == Progress::Done, done, "{type_:?} {state:?} {launch} {shown:?}");
        }
        let failed = ended(EndReason::StartFailed { detail: "no QEMU".into() });
        let got = progress(Start, 1, &failed, 2, Pending, Manual);
        assert!(matches!(&got, Progress::Failed(r) if r.message.contains("no QEMU")), "{got:?}");
        assert_eq!(progress(Start, 1, &failed, 1, Stopped, Manual), Progress::Going, "an older failure is not ours");
    }
}
