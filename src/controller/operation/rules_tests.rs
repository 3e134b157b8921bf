//! upstream.md 7.4 and 7.5 as tables.

use jiff::Timestamp;

use super::migration::{Course, course};
use super::plan::supersedes;
use crate::host::{MachineId, MachineState, Migration, MigrationStage, Observation};
use crate::types::OperationType::{self, Clone, Evict, Migrate, Restart, Restore, Start, Stop};

const ALL: [(OperationType, bool); 9] = [
    (Start, false),
    (Stop, false),
    (Stop, true),
    (Restart, false),
    (Restart, true),
    (Migrate, false),
    (Evict, false),
    (Restore, false),
    (Clone, false),
];

/// 7.4: what may supersede what, all pairs.
#[test]
fn supersession_of_every_pair() {
    let stops = [(Stop, false), (Stop, true)];
    let forced = [(Stop, true), (Restart, true)];
    let ends_a_move = [(Stop, false), (Stop, true), (Restart, false), (Restart, true)];
    for (active, by) in [
        ((Start, false), &stops[..]),
        ((Stop, false), &forced),
        ((Stop, true), &[]),
        ((Restart, false), &forced),
        ((Restart, true), &[]),
        ((Migrate, false), &ends_a_move),
        ((Evict, false), &ends_a_move),
        ((Restore, false), &[]),
        ((Clone, false), &[]),
    ] {
        for new in ALL {
            assert_eq!(supersedes(new, active), by.contains(&new), "{new:?} over {active:?}");
        }
    }
}

/// 7.5: stages of a migration, their reasons and how far they are.
#[test]
fn stages_of_a_migration() {
    let at = Timestamp::UNIX_EPOCH;
    for (stage, total, remaining, reason, percent) in [
        (MigrationStage::Preparing, 0, 0, "TargetPreparing", 3),
        (MigrationStage::Copying, 100, 100, "Syncing", 5),
        (MigrationStage::Copying, 100, 50, "Syncing", 47),
        (MigrationStage::Copying, 100, 0, "Syncing", 90),
        (MigrationStage::SwitchingOver, 100, 0, "SourceSuspended", 91),
    ] {
        let mut seen = Observation::absent(&MachineId("m".into()));
        seen.state = MachineState::Running { since: at };
        seen.migration =
            Some(Migration { number: 1, since: at, stage, processed: 0, remaining, total, rate: 0, throttle: 0 });
        let got = course(0, 0, &seen, at);
        assert!(
            matches!(&got, Course::Going { reason: r, progress, .. } if (*r, *progress) == (reason, percent)),
            "{got:?}, expected {reason} {percent}"
        );
    }
}
