//! A machine's states and what is allowed in them. Pure; `machine` has the drawing.

use super::{Denied, EndReason, Step};

/// State without its data.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Phase {
    /// Never started, or forgotten.
    Absent,
    /// Being prepared.
    Starting,
    /// The guest executes.
    Running,
    /// The guest executes and is being moved to another QEMU.
    Migrating,
    /// The guest is held.
    Paused,
    /// An end was asked for.
    Stopping,
    /// Over.
    Ended,
}

/// A step without its data.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum StepKind {
    Start,
    PowerButton,
    Kill,
    Attach,
    Detach,
    Note,
    Migrate,
    CancelMigration,
}

impl StepKind {
    /// The kind of a step.
    pub(super) fn of(step: &Step) -> Self {
        match step {
            Step::Start { .. } => Self::Start,
            Step::PowerButton { .. } => Self::PowerButton,
            Step::Kill => Self::Kill,
            Step::Attach(_) => Self::Attach,
            Step::Detach { .. } => Self::Detach,
            Step::Note(_) => Self::Note,
            Step::Migrate { .. } => Self::Migrate,
            Step::CancelMigration => Self::CancelMigration,
        }
    }
}

/// The phase right after a step has been accepted, or why it is not.
pub(super) fn admit(phase: Phase, step: StepKind) -> Result<Phase, Denied> {
    use {Phase as P, StepKind as S};
    let denied = |reason: &str| Err(Denied { reason: reason.into() });
    match (phase, step) {
        (P::Absent | P::Ended, S::Start) => Ok(P::Starting),
        (P::Starting | P::Running | P::Migrating | P::Paused, S::Start) => denied("the machine is already on"),
        (P::Stopping, S::Start) => denied("the machine is still stopping"),
        // Stopping again is harmless: a kill hastens a power button.
        (P::Starting | P::Running | P::Migrating | P::Paused | P::Stopping, S::PowerButton | S::Kill) => {
            Ok(P::Stopping)
        }
        (P::Absent | P::Ended, S::PowerButton | S::Kill) => denied("the machine is off"),
        (P::Starting | P::Running | P::Paused, S::Attach | S::Detach | S::Note) => Ok(phase),
        (P::Stopping, S::Attach | S::Detach) => denied("the machine is stopping"),
        (P::Migrating, S::Attach | S::Detach) => denied("the machine is being migrated"),
        (P::Stopping | P::Migrating, S::Note) => Ok(phase),
        (P::Running, S::Migrate) => Ok(P::Migrating),
        (P::Migrating, S::Migrate) => denied("the machine is being migrated already"),
        (P::Starting, S::Migrate) => denied("the machine is still being started"),
        (P::Paused, S::Migrate) => denied("the guest is held"),
        (P::Stopping, S::Migrate) => denied("the machine is stopping"),
        (_, S::CancelMigration) => Ok(phase),
        (P::Absent | P::Ended, S::Attach | S::Detach | S::Note | S::Migrate) => denied("the machine is off"),
    }
}

/// What to call an end, given what the guest did and whether a stop was under way. A panic stays a panic; any
/// other end that was asked for counts as fulfilled, whoever was faster.
pub(super) fn end_reason(seen: EndReason, stop_requested: bool) -> EndReason {
    match seen {
        EndReason::GuestShutdown | EndReason::GuestReset | EndReason::Crashed { .. } if stop_requested => {
            EndReason::Requested
        }
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_phase_answers_every_step() {
        use {Phase as P, StepKind as S};
        let steps = [S::Start, S::PowerButton, S::Kill, S::Attach, S::Detach, S::Note, S::Migrate, S::CancelMigration];
        let ending = Some(P::Stopping);
        // Per phase, in the order of `steps`: the phase afterwards, or none when it is denied.
        let table = [
            (P::Absent, [Some(P::Starting), None, None, None, None, None, None, Some(P::Absent)]),
            (P::Starting, same(P::Starting, [None, ending, ending], [true, true, true], None)),
            (P::Running, same(P::Running, [None, ending, ending], [true, true, true], Some(P::Migrating))),
            (P::Migrating, same(P::Migrating, [None, ending, ending], [false, false, true], None)),
            (P::Paused, same(P::Paused, [None, ending, ending], [true, true, true], None)),
            (P::Stopping, same(P::Stopping, [None, ending, ending], [false, false, true], None)),
            (P::Ended, [Some(P::Starting), None, None, None, None, None, None, Some(P::Ended)]),
        ];
        for (phase, expected) in table {
            for (step, after) in steps.iter().zip(expected) {
                assert_eq!(admit(phase, *step).ok(), after, "{phase:?} {step:?}");
            }
        }
    }

    /// A row: the first three, then which of attach, detach and note leave the phase, then migrate; cancelling a
    /// migration is always fine.
    fn same(phase: Phase, first: [Option<Phase>; 3], stays: [bool; 3], migrate: Option<Phase>) -> [Option<Phase>; 8] {
        let [attach, detach, note] = stays.map(|stays| stays.then_some(phase));
        [first[0], first[1], first[2], attach, detach, note, migrate, Some(phase)]
    }

    #[test]
    fn ends_while_stopping_are_requested_ones() {
        assert_eq!(end_reason(EndReason::GuestShutdown, true), EndReason::Requested);
        assert_eq!(end_reason(EndReason::GuestShutdown, false), EndReason::GuestShutdown);
        assert_eq!(end_reason(EndReason::GuestPanic, true), EndReason::GuestPanic);
        let failed = EndReason::StartFailed { detail: "x".into() };
        assert_eq!(end_reason(failed.clone(), true), failed);
    }
}
