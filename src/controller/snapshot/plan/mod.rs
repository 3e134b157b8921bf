//! What a snapshot does next, from what there is. Pure.

use crate::host::{MachineState, Observation, VolumeState};
use crate::types::SnapshotPhase;
use crate::types::condition::Status;

/// How the guest of a machine can be kept from writing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Guest {
    /// There is none: nobody writes.
    Off,
    /// Its file systems are frozen already, by somebody else.
    Frozen,
    /// It has an agent that freezes.
    Agent,
    /// It runs and has none.
    NoAgent,
    /// It is held, and its agent with it.
    Held,
    /// Something else is done to it; a word for what.
    Busy(&'static str),
}

/// Looks at an instance.
pub fn guest(observation: &Observation) -> Guest {
    match &observation.state {
        MachineState::Absent | MachineState::Ended { .. } => Guest::Off,
        MachineState::Starting => Guest::Busy("being started"),
        MachineState::Stopping => Guest::Busy("being stopped"),
        MachineState::Running { .. } if observation.migration.is_some() => Guest::Busy("being migrated"),
        MachineState::Running { .. } if observation.frozen.is_some() => Guest::Frozen,
        MachineState::Running { .. } if observation.agent_connected => Guest::Agent,
        MachineState::Running { .. } => Guest::NoAgent,
        MachineState::Paused { .. } => Guest::Held,
    }
}

/// How a snapshot is taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Way {
    /// Nobody writes.
    AtRest,
    /// The file systems are frozen already.
    Frozen,
    /// The agent freezes them.
    Freeze,
    /// While the guest writes.
    AsItIs,
}

/// Whether a snapshot can be taken now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// Like this.
    Take(Way),
    /// Not yet; why.
    Wait(String),
    /// It would not be consistent, which it has to be; why.
    Refuse(String),
}

/// The rule of consistency. `machine` names the machine for messages.
pub fn verdict(guest: Guest, required: bool, machine: &str) -> Verdict {
    let refuse = |why: &str| {
        Verdict::Refuse(format!(
            "VirtualMachine {machine} {why}, so its file systems cannot be frozen. Stop it, install a guest agent in it, \
             or set spec.requiredConsistency to false in a new snapshot."
        ))
    };
    match guest {
        Guest::Off => Verdict::Take(Way::AtRest),
        Guest::Frozen => Verdict::Take(Way::Frozen),
        Guest::Agent => Verdict::Take(Way::Freeze),
        Guest::Busy(doing) => Verdict::Wait(format!("VirtualMachine {machine} is {doing}.")),
        Guest::NoAgent if required => refuse("runs and its guest agent does not answer"),
        Guest::Held if required => refuse("is held"),
        Guest::NoAgent | Guest::Held => Verdict::Take(Way::AsItIs),
    }
}

/// What there is to say.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Told {
    /// Phase.
    pub phase: SnapshotPhase,
    /// `status.consistent`.
    pub consistent: Option<bool>,
    /// Reason of the condition that the snapshot is ready.
    pub reason: &'static str,
    /// Its message.
    pub message: String,
    /// The condition that what it is taken of is ready; left as it is if absent.
    pub source: Option<(Status, String)>,
}

impl Told {
    fn new(phase: SnapshotPhase, reason: &'static str, message: impl Into<String>) -> Self {
        Self { phase, consistent: None, reason, message: message.into(), source: None }
    }

    fn of_ready_source(self) -> Self {
        Self { source: Some((Status::True, String::new())), ..self }
    }

    fn of_unready_source(self) -> Self {
        let message = self.message.clone();
        Self { source: Some((Status::False, message)), ..self }
    }

    fn consistent(self, consistent: Option<bool>) -> Self {
        Self { consistent, ..self }
    }
}

/// What to do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Next {
    /// Nothing, and nothing new to say.
    Keep,
    /// Say this.
    Say(Told),
    /// Take it.
    Take(Way),
}

/// A disk that a snapshot is to be taken of.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum DiskFact {
    /// There is no such disk.
    Missing,
    /// It cannot be used: why.
    NotReady(String),
    /// Usable, and this guest has it.
    Ready(Guest, String),
}

/// The machine's snapshot that takes it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Group {
    /// Name.
    pub name: String,
    /// It has failed.
    pub failed: bool,
}

/// What the next step of a disk's snapshot depends on.
#[derive(Debug, Clone)]
pub struct DiskFacts<'a> {
    /// Phase as reported before.
    pub before: Option<SnapshotPhase>,
    /// What is on record about consistency.
    pub consistent: Option<bool>,
    /// `spec.requiredConsistency`.
    pub required: bool,
    /// What the host has.
    pub volume: Option<&'a VolumeState>,
    /// The disk's name.
    pub name: &'a str,
    /// The disk.
    pub disk: &'a DiskFact,
    /// The machine's snapshot that takes it.
    pub group: Option<&'a Group>,
}

const FAILED_DISK: &str = "VirtualDiskSnapshotFailed";
const INCONSISTENT: &str = "PotentiallyInconsistent";

/// The snapshot of a disk: next step.
pub fn disk(f: &DiskFacts<'_>) -> Next {
    use SnapshotPhase::{Failed, InProgress, Pending, Ready};
    const WAITING: &str = "WaitingForTheVirtualDisk";
    let say = |told: Told| Next::Say(told.of_ready_source());
    match (f.before, f.volume) {
        (Some(Failed), _) => Next::Keep,
        (_, Some(VolumeState::Failed { detail, .. })) => {
            Next::Say(Told::new(Failed, FAILED_DISK, format!("The snapshot could not be taken: {detail}.")))
        }
        (_, Some(VolumeState::Ready(_))) if f.required && f.consistent != Some(true) => Next::Say(Told::new(
            Failed,
            INCONSISTENT,
            "Nothing is on record that says that the disk was at rest or frozen: take a new snapshot.",
        )),
        // What it was taken of has a life of its own from now on.
        (before, Some(VolumeState::Ready(_))) => {
            let told = Told::new(Ready, "VirtualDiskSnapshotReady", "").consistent(f.consistent);
            Next::Say(if before == Some(Ready) { told } else { told.of_ready_source() })
        }
        (_, Some(VolumeState::Working { progress, .. })) => {
            let done = progress.map(|percent| format!(" ({percent}%)")).unwrap_or_default();
            say(Told::new(InProgress, "Snapshotting", format!("The disk is being copied{done}."))
                .consistent(f.consistent))
        }
        (Some(Ready), None | Some(VolumeState::WaitingForUpload { .. })) => {
            Next::Say(Told::new(Failed, "Lost", "The snapshot's data is gone from this computer."))
        }
        (_, None | Some(VolumeState::WaitingForUpload { .. })) => match (f.group, f.disk) {
            (Some(group), _) if group.failed => {
                Next::Say(Told::new(Failed, FAILED_DISK, format!("VirtualMachineSnapshot {} has failed.", group.name)))
            }
            (Some(group), DiskFact::Ready(..)) => {
                say(Told::new(Pending, WAITING, format!("It is taken with VirtualMachineSnapshot {}.", group.name)))
            }
            (_, DiskFact::Missing) => Next::Say(
                Told::new(Pending, WAITING, format!("VirtualDisk {} does not exist.", f.name)).of_unready_source(),
            ),
            (_, DiskFact::NotReady(why)) => Next::Say(Told::new(Pending, WAITING, why.clone()).of_unready_source()),
            (None, DiskFact::Ready(guest, machine)) => match verdict(*guest, f.required, machine) {
                Verdict::Take(way) => Next::Take(way),
                Verdict::Wait(why) => Next::Say(Told::new(Pending, WAITING, why).of_unready_source()),
                Verdict::Refuse(why) => say(Told::new(Failed, INCONSISTENT, why)),
            },
        },
    }
}

/// A part of a machine's snapshot.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Part {
    /// Name of the VirtualDiskSnapshot.
    pub name: String,
    /// Its phase; absent if there is no such object.
    pub phase: Option<SnapshotPhase>,
    /// The host has, or is making, its content, or could not.
    pub begun: bool,
    /// Why it is not ready.
    pub message: String,
}

/// The machine.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum MachineFact {
    /// There is no such machine.
    Missing,
    /// Nothing can be taken of it: why.
    NotReady(String),
    /// Its instance, and what is in the way of its disks.
    There(Guest, Option<String>),
}

/// What the next step of a machine's snapshot depends on.
#[derive(Debug, Clone)]
pub struct MachineFacts<'a> {
    /// Phase as reported before.
    pub before: Option<SnapshotPhase>,
    /// What is on record about consistency.
    pub consistent: Option<bool>,
    /// `spec.requiredConsistency`.
    pub required: bool,
    /// The machine's name.
    pub name: &'a str,
    /// The machine.
    pub machine: &'a MachineFact,
    /// Its parts, once they are on record.
    pub parts: &'a [Part],
    /// The Secret on record is there.
    pub secret: bool,
}

/// Reason while a disk is in use otherwise.
pub const BLOCKED: &str = "BlockDevicesNotReady";
const FAILED_MACHINE: &str = "VirtualMachineSnapshotFailed";

/// The snapshot of a machine: next step.
pub fn machine(f: &MachineFacts<'_>) -> Next {
    use SnapshotPhase::{Failed, InProgress, Ready};
    match f.before {
        Some(Failed) => Next::Keep,
        Some(Ready) => {
            let lost = f.parts.iter().find(|part| part.phase != Some(Ready));
            match lost {
                Some(part) => {
                    let message = format!("VirtualDiskSnapshot {} is lost: nothing can be restored.", part.name);
                    Next::Say(Told::new(Failed, "VirtualDiskSnapshotLost", message))
                }
                None if !f.secret => {
                    let message = "The Secret with the machine's objects is gone: nothing can be restored.";
                    Next::Say(Told::new(Failed, FAILED_MACHINE, message))
                }
                None => Next::Keep,
            }
        }
        Some(InProgress) if !f.parts.is_empty() && f.parts.iter().any(|part| part.begun) => going(f),
        _ => before_the_moment(f),
    }
}

/// The moment is over: parts are copied.
fn going(f: &MachineFacts<'_>) -> Next {
    use SnapshotPhase::{Failed, InProgress, Ready};
    let bad = f.parts.iter().find(|part| matches!(part.phase, None | Some(Failed)) || !part.begun);
    if let Some(part) = bad {
        let why = match part.phase {
            None => "it is gone".to_owned(),
            Some(Failed) => part.message.clone(),
            _ => "vmdeck was stopped before it was begun".to_owned(),
        };
        let message = format!("VirtualDiskSnapshot {} could not be taken: {why}", part.name);
        return Next::Say(Told::new(Failed, FAILED_MACHINE, message).of_ready_source());
    }
    let ready = f.parts.iter().filter(|part| part.phase == Some(Ready)).count();
    let told = if ready == f.parts.len() {
        Told::new(Ready, "VirtualMachineSnapshotReady", "")
    } else {
        Told::new(InProgress, "Snapshotting", format!("{ready}/{} disks are copied.", f.parts.len()))
    };
    Next::Say(told.consistent(f.consistent).of_ready_source())
}

fn before_the_moment(f: &MachineFacts<'_>) -> Next {
    use SnapshotPhase::{Failed, Pending};
    const WAITING: &str = "WaitingForTheVirtualMachine";
    match f.machine {
        MachineFact::Missing => {
            let message = format!("VirtualMachine {} does not exist.", f.name);
            Next::Say(Told::new(Pending, WAITING, message).of_unready_source())
        }
        MachineFact::NotReady(why) => Next::Say(Told::new(Pending, WAITING, why.clone()).of_unready_source()),
        MachineFact::There(_, Some(obstacle)) => {
            Next::Say(Told::new(Pending, BLOCKED, obstacle.clone()).of_ready_source())
        }
        MachineFact::There(guest, None) => match verdict(*guest, f.required, f.name) {
            Verdict::Take(way) => Next::Take(way),
            Verdict::Wait(why) => Next::Say(Told::new(Pending, WAITING, why).of_unready_source()),
            Verdict::Refuse(why) => Next::Say(Told::new(Failed, INCONSISTENT, why).of_ready_source()),
        },
    }
}

#[cfg(test)]
mod tests;
