//! This computer's QEMU, disks and images. Knows no Kubernetes.
//!
//! [`Host`] is the seam: the reconcilers see this trait only, tests put a fake behind it. Every method returns
//! at once; work goes on in tasks owned by the host (one per machine, one per volume job) and shows up in the
//! next [`Host::observe`] / [`Host::volume`], announced by a [`HostEvent`].

use std::time::Duration;

use futures::future::BoxFuture;
use tokio::sync::broadcast;

mod adopt;
mod agent;
mod archive;
mod backup;
mod cgroup;
mod command_line;
mod context;
mod cpu;
mod disk_image;
mod fetch;
mod forward;
mod freeze;
mod hotplug;
mod import;
mod launch;
mod layout;
mod local;
mod machine;
mod migrate;
mod network;
mod network_process;
mod probe;
mod process;
mod qmp;
mod qmp_message;
mod receive;
mod record;
mod registry;
mod room;
mod screen;
mod scrollback;
mod seed;
mod serial;
pub mod spec;
mod state;
mod sys;
mod task;
mod task_migration;
mod unpack;
mod upload;
mod volume_job;
mod volumes;

#[cfg(test)]
mod tests_boot;
#[cfg(test)]
mod tests_cpu;
#[cfg(test)]
mod tests_qemu;
#[cfg(test)]
mod tests_snapshot;

pub use cpu::CpuFacts;
pub use forward::{ForwardError, PortStream};
pub use local::{HostError, HostOptions, LocalHost};
pub use spec::*;
pub use upload::UploadFailure;

/// What a machine looks like now.
#[derive(Debug, Clone, PartialEq)]
pub struct Observation {
    /// The machine.
    pub id: MachineId,
    /// Its state.
    pub state: MachineState,
    /// The caller's text given with [`Step::Start`] (the VM spec the instance was started from), kept beside the
    /// process record and given back unchanged, also after adoption. Present while an instance exists or its
    /// end has not been superseded by a new start.
    pub note: Option<String>,
    /// Counts launches of this machine; tells one instance from the next.
    pub launch: u64,
    /// QEMU's process id while there is one.
    pub pid: Option<u32>,
    /// Block devices of the instance, in device order, hot-plugged ones last.
    pub devices: Vec<AttachedDevice>,
    /// The guest agent's port is open.
    pub agent_connected: bool,
    /// The guest's file systems are frozen, since then.
    pub frozen: Option<jiff::Timestamp>,
    /// What the guest agent says of the guest's system, by the names of `status.guestOSInfo`; empty if there is no
    /// agent or it has not answered yet. Harmless to print.
    pub guest_os: std::collections::BTreeMap<String, String>,
    /// Failures of the last [`Step::Attach`] / [`Step::Detach`] of a device: (device id, words for a user). An
    /// entry goes when the device is attached or detached after all, or with the instance.
    pub device_errors: Vec<(String, String)>,
    /// The live migration that is under way.
    pub migration: Option<Migration>,
    /// How the newest finished migration of this instance ended.
    pub last_migration: Option<MigrationEnd>,
    /// Why this instance cannot be migrated, in words for a user.
    pub not_migratable: Option<String>,
    /// Why the guest's network does not work, in words for a user.
    pub network_problem: Option<String>,
    /// Version of the QEMU that executes the guest; a newer one may be installed meanwhile.
    pub qemu_version: Option<String>,
}

impl Observation {
    /// Of a machine without an instance.
    pub fn absent(id: &MachineId) -> Self {
        Self {
            id: id.clone(),
            state: MachineState::Absent,
            note: None,
            launch: 0,
            pid: None,
            devices: Vec::new(),
            agent_connected: false,
            frozen: None,
            guest_os: Default::default(),
            device_errors: Vec::new(),
            migration: None,
            last_migration: None,
            not_migratable: None,
            network_problem: None,
            qemu_version: None,
        }
    }
}

/// A live migration under way: the guest executes here while its memory is copied to a fresh QEMU.
#[derive(Debug, Clone, PartialEq)]
pub struct Migration {
    /// Counts the migrations of the instance, from 1.
    pub number: u64,
    /// When it began.
    pub since: jiff::Timestamp,
    /// How far it is.
    pub stage: MigrationStage,
    /// Bytes that were sent.
    pub processed: u64,
    /// Bytes that are still to be sent, as of now: the guest makes more.
    pub remaining: u64,
    /// Size of the guest's memory in bytes.
    pub total: u64,
    /// Bytes per second.
    pub rate: u64,
    /// By how many percent the guest's processors are held back so that the copy gets ahead.
    pub throttle: u8,
}

impl Migration {
    /// The next migration of an instance, which begins now.
    pub fn next(observation: &Observation) -> Self {
        Self {
            number: observation.last_migration.as_ref().map_or(0, |end| end.number) + 1,
            since: jiff::Timestamp::now(),
            stage: MigrationStage::Preparing,
            processed: 0,
            remaining: 0,
            total: 0,
            rate: 0,
            throttle: 0,
        }
    }

    /// Its end, now.
    pub fn ended(&self, outcome: MigrationOutcome) -> MigrationEnd {
        MigrationEnd { number: self.number, since: self.since, at: jiff::Timestamp::now(), outcome }
    }
}

/// Stages of a migration.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MigrationStage {
    /// The other QEMU is being started.
    Preparing,
    /// Memory is being copied.
    Copying,
    /// The guest is held for the last part.
    SwitchingOver,
}

/// A migration that is over.
#[derive(Debug, Clone, PartialEq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct MigrationEnd {
    /// [`Migration::number`].
    pub number: u64,
    /// When it began.
    pub since: jiff::Timestamp,
    /// When it was over.
    pub at: jiff::Timestamp,
    /// How it ended.
    pub outcome: MigrationOutcome,
}

/// How a migration ended. Unless it succeeded, the guest goes on where it was.
#[derive(Debug, Clone, PartialEq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum MigrationOutcome {
    /// The guest executes in the fresh QEMU.
    Succeeded {
        /// Milliseconds for which the guest was held, as QEMU tells.
        downtime_ms: u64,
    },
    /// It failed.
    Failed {
        /// In words for a user.
        detail: String,
    },
    /// It was cancelled.
    Cancelled,
}

/// A machine's state. Variants carry only what exists in that state.
#[derive(Debug, Clone, PartialEq)]
pub enum MachineState {
    /// No instance and no memory of one.
    Absent,
    /// QEMU is being prepared or started.
    Starting,
    /// The guest executes.
    Running {
        /// When the guest began to execute.
        since: jiff::Timestamp,
    },
    /// The guest is held (for example by an I/O error).
    Paused {
        /// QEMU's `query-status` word.
        status: String,
    },
    /// A stop was asked for and is under way.
    Stopping,
    /// The instance is over; the process is gone.
    Ended {
        /// Why.
        reason: EndReason,
        /// When it was noticed.
        at: jiff::Timestamp,
    },
}

/// Why an instance ended (QMP `SHUTDOWN`/`GUEST_PANICKED` events, or the process itself).
#[derive(Debug, Clone, PartialEq, serde::Serialize, serde::Deserialize)]
pub enum EndReason {
    /// The guest powered itself off.
    GuestShutdown,
    /// The guest asked for a reboot; every reboot is a new instance.
    GuestReset,
    /// The guest's kernel panicked.
    GuestPanic,
    /// It ended while a [`Step::PowerButton`] or [`Step::Kill`] was in effect.
    Requested,
    /// QEMU vanished.
    Crashed {
        /// Exit status or the last lines of its log.
        detail: String,
    },
    /// It never got as far as running.
    StartFailed {
        /// What failed, in words for a user.
        detail: String,
    },
}

/// A block device that the instance has.
#[derive(Debug, Clone, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct AttachedDevice {
    /// [`BlockDevice::id`].
    pub id: String,
    /// The volume behind it.
    pub volume: VolumeId,
    /// Added by [`Step::Attach`].
    pub hotplugged: bool,
}

/// One thing to do to a machine.
#[derive(Debug, Clone)]
pub enum Step {
    /// Start a new instance. Denied while one exists.
    Start {
        /// The complete machine.
        spec: Box<MachineSpec>,
        /// See [`Observation::note`].
        note: String,
    },
    /// ACPI power button, then power cut after `grace`.
    PowerButton {
        /// How long the guest may take.
        grace: Duration,
    },
    /// Power cut.
    Kill,
    /// Hot-plug a block device.
    Attach(BlockDevice),
    /// Unplug a block device by [`BlockDevice::id`].
    Detach {
        /// The device.
        id: String,
    },
    /// Replace the note of the running instance (changes that took effect without a restart).
    Note(String),
    /// Move the running guest into a fresh QEMU process on this computer. [`Observation::migration`] tells how it
    /// goes, [`Observation::last_migration`] how it went.
    Migrate {
        /// The guest may be slowed down if it changes its memory faster than it can be copied.
        throttle: bool,
    },
    /// Stop the migration that is under way; the guest goes on where it is. Fine if there is none.
    CancelMigration,
}

/// A step that the machine's state does not allow.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
#[error("{reason}")]
pub struct Denied {
    /// One sentence for the user.
    pub reason: String,
}

/// Something changed; look again.
#[derive(Debug, Clone, PartialEq)]
pub enum HostEvent {
    /// This machine's [`Observation`] changed.
    Machine(MachineId),
    /// This volume's [`VolumeState`] changed (progress at most twice a second).
    Volume(VolumeId),
}

/// What a volume looks like now.
#[derive(Debug, Clone, PartialEq)]
pub enum VolumeState {
    /// Waits for `PUT` of its content under this token.
    WaitingForUpload {
        /// Random, url-safe; names the upload.
        token: String,
    },
    /// Being made.
    Working {
        /// Percent done, if it can be known.
        progress: Option<u8>,
        /// Speed of the transfer, if there is one.
        bytes_per_second: Option<Speed>,
    },
    /// Usable.
    Ready(VolumeInfo),
    /// Could not be made; nothing is left on disk.
    Failed {
        /// What kind of failure.
        kind: VolumeFailure,
        /// What failed, in words for a user.
        detail: String,
    },
}

/// Speed of a transfer in bytes per second.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Speed {
    /// Now.
    pub current: u64,
    /// Since its beginning.
    pub average: u64,
}

/// Classes of failures a controller tells apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub enum VolumeFailure {
    /// The source could not be read (network, HTTP status, TLS, credentials); later it may be otherwise.
    Source,
    /// The content's checksum differs.
    Checksum,
    /// Not an image, or of a format not supported for this use.
    Format,
    /// The asked size is below the image's virtual size.
    TooSmall,
    /// No room.
    NoSpace,
    /// Anything else.
    Other,
}

/// Facts of a ready volume.
#[derive(Debug, Clone, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct VolumeInfo {
    /// Size the guest sees, in bytes.
    pub virtual_size: u64,
    /// Size on this disk, in bytes.
    pub stored_size: u64,
    /// Format of the source content: `qcow2`, `raw`, `vmdk`, `vdi`, `iso`.
    pub format: String,
    /// Content is an ISO image: attached as a CD-ROM.
    pub cdrom: bool,
}

/// What this computer can do.
#[derive(Debug, Clone, PartialEq)]
pub struct NodeFacts {
    /// Host name.
    pub name: String,
    /// Logical CPUs.
    pub cpus: u32,
    /// Memory in bytes.
    pub memory_bytes: u64,
    /// `kvm` or `tcg`.
    pub accelerator: String,
    /// Why this accelerator.
    pub accelerator_reason: String,
    /// Processors that guests can have.
    pub cpu: std::sync::Arc<CpuFacts>,
    /// QEMU's version, absent when no QEMU was found.
    pub qemu_version: Option<String>,
    /// UEFI firmware was found.
    pub efi: bool,
    /// UEFI firmware with Secure Boot was found.
    pub secure_boot: bool,
    /// Kernel release, OS image name, machine id, boot id, architecture (`amd64`).
    pub kernel_version: String,
    /// `PRETTY_NAME` of os-release.
    pub os_image: String,
    /// `amd64` or `arm64`.
    pub architecture: String,
    /// What stands in the way of running machines (no QEMU, no memory), one sentence each.
    pub problems: Vec<String>,
    /// What works differently from the best possible way (isolation of QEMU, CPU shares not enforceable), one
    /// sentence each.
    pub notes: Vec<String>,
}

/// A connection to a machine's serial port.
pub struct SerialAttachment {
    /// Output from before now: at most the bytes asked for, starting at a line or escape-safe border.
    pub history: bytes::Bytes,
    /// Output from now on. Ends when the machine is forgotten, or when this reader was too slow and has been
    /// dropped; goes on over restarts of the guest.
    pub output: tokio::sync::mpsc::Receiver<bytes::Bytes>,
    /// Input for the guest.
    pub input: tokio::sync::mpsc::Sender<bytes::Bytes>,
}

/// The worker's view of one computer. See the module's documentation.
pub trait Host: Send + Sync + 'static {
    /// Facts of this computer; cheap.
    fn node(&self) -> NodeFacts;

    /// All machines that are not [`MachineState::Absent`].
    fn machines(&self) -> Vec<Observation>;

    /// One machine; `Absent` if unknown.
    fn observe(&self, id: &MachineId) -> Observation;

    /// Queues a step. A later failure shows in the observation.
    fn submit(&self, id: &MachineId, step: Step) -> Result<(), Denied>;

    /// Removes every trace of an ended or absent machine: record, runtime directory, console history.
    fn forget(&self, id: &MachineId) -> BoxFuture<'_, std::io::Result<()>>;

    /// Changes from now on. A receiver that lags must look at everything again.
    fn subscribe(&self) -> broadcast::Receiver<HostEvent>;

    /// One volume; `None` if there is no such volume.
    fn volume(&self, id: &VolumeId) -> Option<VolumeState>;

    /// Starts to make a volume. Does nothing if it exists or is being made, except after a failure: then it is
    /// tried again.
    fn create_volume(&self, id: &VolumeId, request: VolumeRequest);

    /// Grows a volume to `bytes`, online if a machine has it (then the guest is told).
    fn resize_volume(&self, id: &VolumeId, bytes: u64) -> BoxFuture<'_, Result<(), String>>;

    /// Removes a volume and stops a job that makes it. Fine if there is none.
    fn delete_volume(&self, id: &VolumeId) -> BoxFuture<'_, Result<(), String>>;

    /// Takes snapshots of disks, all of one moment: of disks at rest, and of disks that one running machine has, whose
    /// guest goes on. Returns when that moment is over; the copying goes on and shows in the states of the snapshots'
    /// volumes. What is there or being made already is left alone. Failing, it leaves nothing behind: the volumes
    /// are [`VolumeState::Failed`] or absent.
    fn snapshot(&self, wanted: Vec<SnapshotOf>) -> BoxFuture<'_, Result<(), String>>;

    /// Freezes the file systems of a running guest through its agent, for at most `timeout` (then they are thawed by
    /// themselves, also by a later daemon); once more before that: from now on so long. Shows in
    /// [`Observation::frozen`]. Fails if there is no agent or it does not freeze; then nothing stays frozen.
    fn freeze(&self, id: &MachineId, timeout: Duration) -> BoxFuture<'_, Result<(), String>>;

    /// Thaws the file systems of a running guest. Fine if none are frozen. If the agent fails, it is tried again
    /// until it does not.
    fn thaw(&self, id: &MachineId) -> BoxFuture<'_, Result<(), String>>;

    /// All volumes, to find those whose object is gone.
    fn volumes(&self) -> Vec<VolumeId>;

    /// Connects to a machine's serial port; `history` = at most so many bytes from before. Works in every state
    /// in which there is a console log, also when the machine is off.
    fn serial(&self, id: &MachineId, history: usize) -> Option<SerialAttachment>;

    /// Path of the VNC socket of a running machine.
    fn vnc_socket(&self, id: &MachineId) -> Option<std::path::PathBuf>;
}
