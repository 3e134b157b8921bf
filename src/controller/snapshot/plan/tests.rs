use super::*;
use crate::host::{EndReason, MachineId, Migration, VolumeFailure, VolumeInfo};

fn info() -> VolumeInfo {
    VolumeInfo { virtual_size: 1, stored_size: 1, format: "qcow2".into(), cdrom: false }
}

/// Phase, consistent and reason of what is said; or the way it is taken.
fn words(next: Next) -> (String, Option<bool>, String) {
    match next {
        Next::Keep => ("keep".into(), None, String::new()),
        Next::Take(way) => (format!("take {way:?}"), None, String::new()),
        Next::Say(told) => (format!("{:?}", told.phase), told.consistent, told.reason.to_owned()),
    }
}

#[test]
fn what_an_instance_says_of_its_guest() {
    let at = jiff::Timestamp::UNIX_EPOCH;
    let absent = Observation::absent(&MachineId("m".into()));
    let running = Observation { state: MachineState::Running { since: at }, ..absent.clone() };
    let agent = Observation { agent_connected: true, ..running.clone() };
    let migrating = Observation { migration: Some(Migration::next(&running)), ..agent.clone() };
    let ended = MachineState::Ended { reason: EndReason::GuestShutdown, at };
    let cases = [
        (absent.clone(), Guest::Off),
        (Observation { state: ended, ..absent.clone() }, Guest::Off),
        (Observation { state: MachineState::Starting, ..absent.clone() }, Guest::Busy("being started")),
        (Observation { state: MachineState::Stopping, ..agent.clone() }, Guest::Busy("being stopped")),
        (Observation { state: MachineState::Paused { status: "x".into() }, ..agent.clone() }, Guest::Held),
        (running, Guest::NoAgent),
        (Observation { frozen: Some(at), ..agent.clone() }, Guest::Frozen),
        (agent, Guest::Agent),
        (migrating, Guest::Busy("being migrated")),
    ];
    for (observation, expected) in cases {
        assert_eq!(guest(&observation), expected, "{observation:?}");
    }
}

#[test]
fn the_rule_of_consistency() {
    let word = |verdict: Verdict| match verdict {
        Verdict::Take(way) => format!("{way:?}"),
        Verdict::Wait(_) => "wait".into(),
        Verdict::Refuse(_) => "refuse".into(),
    };
    // Guest, with consistency required, without.
    let cases = [
        (Guest::Off, "AtRest", "AtRest"),
        (Guest::Frozen, "Frozen", "Frozen"),
        (Guest::Agent, "Freeze", "Freeze"),
        (Guest::NoAgent, "refuse", "AsItIs"),
        (Guest::Held, "refuse", "AsItIs"),
        (Guest::Busy("being migrated"), "wait", "wait"),
    ];
    for (guest, required, not_required) in cases {
        assert_eq!(word(verdict(guest, true, "vm")), required, "{guest:?}");
        assert_eq!(word(verdict(guest, false, "vm")), not_required, "{guest:?}");
    }
    let Verdict::Refuse(text) = verdict(Guest::NoAgent, true, "vm") else { panic!("it is refused") };
    assert!(text.contains("VirtualMachine vm") && text.contains("requiredConsistency"), "{text}");
}

#[test]
fn a_disks_snapshot_phase_by_phase() {
    use SnapshotPhase::{Failed, InProgress, Pending, Ready};
    let failed = VolumeState::Failed { kind: VolumeFailure::NoSpace, detail: "no room".into() };
    let working = VolumeState::Working { progress: Some(5), bytes_per_second: None };
    let made = VolumeState::Ready(info());
    let (open, doomed) = (Group { name: "g".into(), failed: false }, Group { name: "g".into(), failed: true });
    let ready = |guest| DiskFact::Ready(guest, "vm".into());
    let (off, none) = (ready(Guest::Off), ready(Guest::NoAgent));
    let busy = ready(Guest::Busy("being started"));
    let (missing, unready) = (DiskFact::Missing, DiskFact::NotReady("It grows.".into()));
    let yes = Some(true);
    type Row<'a> = (
        Option<SnapshotPhase>,
        Option<bool>,
        bool,
        Option<&'a VolumeState>,
        &'a DiskFact,
        Option<&'a Group>,
        (&'a str, Option<bool>, &'a str),
    );
    let cases: &[Row<'_>] = &[
        // Before the moment.
        (None, None, true, None, &missing, None, ("Pending", None, "WaitingForTheVirtualDisk")),
        (None, None, true, None, &unready, None, ("Pending", None, "WaitingForTheVirtualDisk")),
        (Some(Pending), None, true, None, &busy, None, ("Pending", None, "WaitingForTheVirtualDisk")),
        (Some(Pending), None, true, None, &off, None, ("take AtRest", None, "")),
        (None, None, true, None, &none, None, ("Failed", None, "PotentiallyInconsistent")),
        (None, None, false, None, &none, None, ("take AsItIs", None, "")),
        (None, None, true, None, &off, Some(&open), ("Pending", None, "WaitingForTheVirtualDisk")),
        (Some(Pending), None, true, None, &off, Some(&doomed), ("Failed", None, "VirtualDiskSnapshotFailed")),
        // On record, and vmdeck was stopped before it was begun: the moment is still to come.
        (Some(InProgress), yes, true, None, &off, None, ("take AtRest", None, "")),
        // Under way.
        (Some(InProgress), yes, true, Some(&working), &off, None, ("InProgress", yes, "Snapshotting")),
        (Some(InProgress), None, false, Some(&working), &missing, None, ("InProgress", None, "Snapshotting")),
        (Some(InProgress), yes, true, Some(&failed), &off, None, ("Failed", None, "VirtualDiskSnapshotFailed")),
        // Over.
        (Some(InProgress), yes, true, Some(&made), &off, None, ("Ready", yes, "VirtualDiskSnapshotReady")),
        (Some(InProgress), None, false, Some(&made), &off, None, ("Ready", None, "VirtualDiskSnapshotReady")),
        (Some(InProgress), None, true, Some(&made), &off, None, ("Failed", None, "PotentiallyInconsistent")),
        (Some(Ready), yes, true, Some(&made), &missing, None, ("Ready", yes, "VirtualDiskSnapshotReady")),
        (Some(Ready), yes, true, None, &off, None, ("Failed", None, "Lost")),
        (Some(Failed), None, true, None, &off, None, ("keep", None, "")),
        (Some(Failed), None, true, Some(&made), &off, None, ("keep", None, "")),
    ];
    for (before, consistent, required, volume, fact, group, (phase, told, reason)) in cases {
        let facts = DiskFacts {
            before: *before,
            consistent: *consistent,
            required: *required,
            volume: *volume,
            name: "d",
            disk: fact,
            group: *group,
        };
        assert_eq!(words(disk(&facts)), ((*phase).to_owned(), *told, (*reason).to_owned()), "{facts:?}");
    }
}

#[test]
fn what_a_ready_snapshot_was_taken_of_is_not_looked_at_any_more() {
    let (volume, gone) = (VolumeState::Ready(info()), DiskFact::Missing);
    let facts = DiskFacts {
        before: Some(SnapshotPhase::Ready),
        consistent: Some(true),
        required: true,
        volume: Some(&volume),
        name: "d",
        disk: &gone,
        group: None,
    };
    assert!(matches!(disk(&facts), Next::Say(Told { source: None, .. })));
}

fn part(phase: Option<SnapshotPhase>, begun: bool) -> Part {
    Part { name: "p".into(), phase, begun, message: "no room.".into() }
}

#[test]
fn a_machines_snapshot_phase_by_phase() {
    use SnapshotPhase::{Failed, InProgress, Pending, Ready};
    let there = |guest| MachineFact::There(guest, None);
    let (off, agent, none) = (there(Guest::Off), there(Guest::Agent), there(Guest::NoAgent));
    let blocked = MachineFact::There(Guest::Off, Some("It grows.".into()));
    let (missing, unready) = (MachineFact::Missing, MachineFact::NotReady("Gone soon.".into()));
    let copying = part(Some(InProgress), true);
    let (done, waits) = (part(Some(Ready), true), part(Some(Pending), false));
    let (broken, vanished) = (part(Some(Failed), true), part(None, false));
    let yes = Some(true);
    type Row<'a> = (
        Option<SnapshotPhase>,
        Option<bool>,
        bool,
        &'a MachineFact,
        &'a [Part],
        bool,
        (&'a str, Option<bool>, &'a str),
    );
    let cases: &[Row<'_>] = &[
        // Before the moment.
        (None, None, true, &missing, &[], false, ("Pending", None, "WaitingForTheVirtualMachine")),
        (None, None, true, &unready, &[], false, ("Pending", None, "WaitingForTheVirtualMachine")),
        (None, None, true, &blocked, &[], false, ("Pending", None, "BlockDevicesNotReady")),
        (None, None, true, &off, &[], false, ("take AtRest", None, "")),
        (Some(Pending), None, true, &agent, &[], false, ("take Freeze", None, "")),
        (None, None, true, &none, &[], false, ("Failed", None, "PotentiallyInconsistent")),
        (None, None, false, &none, &[], false, ("take AsItIs", None, "")),
        // On record but not begun.
        (Some(InProgress), yes, true, &off, &[waits.clone(), waits.clone()], true, ("take AtRest", None, "")),
        // Under way.
        (
            Some(InProgress),
            yes,
            true,
            &off,
            &[copying.clone(), done.clone()],
            true,
            ("InProgress", yes, "Snapshotting"),
        ),
        (
            Some(InProgress),
            yes,
            true,
            &missing,
            std::slice::from_ref(&copying),
            true,
            ("InProgress", yes, "Snapshotting"),
        ),
        // Some begun, some not: vmdeck was stopped in between.
        (
            Some(InProgress),
            yes,
            true,
            &off,
            &[done.clone(), waits.clone()],
            true,
            ("Failed", None, "VirtualMachineSnapshotFailed"),
        ),
        (
            Some(InProgress),
            yes,
            true,
            &off,
            &[done.clone(), broken.clone()],
            true,
            ("Failed", None, "VirtualMachineSnapshotFailed"),
        ),
        // Over.
        (
            Some(InProgress),
            yes,
            true,
            &off,
            &[done.clone(), done.clone()],
            true,
            ("Ready", yes, "VirtualMachineSnapshotReady"),
        ),
        (
            Some(InProgress),
            None,
            false,
            &off,
            std::slice::from_ref(&done),
            true,
            ("Ready", None, "VirtualMachineSnapshotReady"),
        ),
        (Some(Ready), yes, true, &missing, std::slice::from_ref(&done), true, ("keep", None, "")),
        (Some(Ready), yes, true, &off, &[], true, ("keep", None, "")),
        (Some(Ready), yes, true, &off, &[done.clone(), broken], true, ("Failed", None, "VirtualDiskSnapshotLost")),
        (Some(Ready), yes, true, &off, &[vanished], true, ("Failed", None, "VirtualDiskSnapshotLost")),
        (
            Some(Ready),
            yes,
            true,
            &off,
            std::slice::from_ref(&done),
            false,
            ("Failed", None, "VirtualMachineSnapshotFailed"),
        ),
        (Some(Failed), None, true, &off, &[], false, ("keep", None, "")),
    ];
    for (before, consistent, required, fact, parts, secret, (phase, told, reason)) in cases {
        let facts = MachineFacts {
            before: *before,
            consistent: *consistent,
            required: *required,
            name: "vm",
            machine: fact,
            parts,
            secret: *secret,
        };
        assert_eq!(words(machine(&facts)), ((*phase).to_owned(), *told, (*reason).to_owned()), "{facts:?}");
    }
}
