//! What is written down about a machine so that a later daemon can take it up.

use std::io;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::layout;
use super::spec::{BlockDevice, MachineId};
use super::{AttachedDevice, EndReason, MigrationEnd};

/// `record.json` of a machine.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Record {
    /// The machine.
    pub(super) id: MachineId,
    /// Number of the last launch.
    pub(super) launch: u64,
    /// The caller's text of that launch.
    pub(super) note: Option<String>,
    /// Versioned machine type, kept from the first start on, one per family prefix.
    #[serde(default)]
    pub(super) machine_types: Vec<String>,
    /// Where that launch stands.
    pub(super) stage: Stage,
}

/// Where a launch stands.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", tag = "stage")]
pub(super) enum Stage {
    /// Being prepared: no guest instruction has been executed.
    Starting,
    /// QEMU has been told to run the guest.
    Running(Box<Instance>),
    /// Over.
    Ended {
        /// Why.
        reason: EndReason,
        /// When.
        at: jiff::Timestamp,
    },
}

/// A running QEMU.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Instance {
    /// Process id.
    pub(super) pid: u32,
    /// Its start time, so that a reused number is not mistaken.
    pub(super) start_time: u64,
    /// This computer's boot id: process ids mean nothing after a reboot.
    pub(super) boot_id: String,
    /// Sockets.
    pub(super) run_dir: PathBuf,
    /// SMBIOS UUID, asked for at adoption.
    pub(super) uuid: uuid::Uuid,
    /// When the guest began to execute.
    pub(super) since: jiff::Timestamp,
    /// Block devices in device order, hot-plugged ones last.
    pub(super) devices: Vec<InstanceDevice>,
    /// Block devices can be added.
    pub(super) can_hotplug: bool,
    /// The guest's address in its user mode network.
    #[serde(default)]
    pub(super) address: Option<std::net::Ipv4Addr>,
    /// A stop is under way; when the power is cut, if there is a grace period.
    #[serde(default)]
    pub(super) stop: Option<Stop>,
    /// The machine's control group, to be removed.
    #[serde(default)]
    pub(super) cgroups: Vec<PathBuf>,
    /// QEMU's arguments: another QEMU that takes the guest over needs the same. Empty in records of older releases.
    #[serde(default)]
    pub(super) arguments: Vec<String>,
    /// QEMU's version.
    #[serde(default)]
    pub(super) qemu_version: Option<String>,
    /// How the newest migration ended.
    #[serde(default)]
    pub(super) last_migration: Option<MigrationEnd>,
    /// Its network, if that is a process of its own.
    #[serde(default)]
    pub(super) network: Option<NetworkInstance>,
    /// The guest's file systems are, or may be, frozen.
    #[serde(default)]
    pub(super) frozen: Option<Frozen>,
    /// The QEMU that is to take the guest over, while a migration is under way: it may have done so when a later
    /// daemon looks.
    #[serde(default)]
    pub(super) target: Option<Box<Instance>>,
}

/// The process that is a machine's network.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct NetworkInstance {
    /// Process id.
    pub(super) pid: u32,
    /// Its start time, so that a reused number is not mistaken.
    pub(super) start_time: u64,
    /// Sockets.
    pub(super) dir: PathBuf,
    /// `-netdev` of the user network, for the next process if this one ends.
    pub(super) netdev: String,
    /// Name of the process.
    pub(super) name: String,
}

/// A stop under way.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Stop {
    /// When the power is cut.
    pub(super) deadline: jiff::Timestamp,
}

/// File systems that are frozen or about to be.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Frozen {
    /// When the agent said so.
    pub(super) since: Option<jiff::Timestamp>,
    /// When they are thawed at the latest.
    pub(super) until: jiff::Timestamp,
}

/// A block device of a running QEMU.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct InstanceDevice {
    /// The device.
    pub(super) device: BlockDevice,
    /// Came after the start.
    pub(super) hotplugged: bool,
    /// Number of files behind it.
    pub(super) layers: usize,
}

impl InstanceDevice {
    /// For an observation.
    pub(super) fn attached(&self) -> AttachedDevice {
        AttachedDevice { id: self.device.id.clone(), volume: self.device.volume.clone(), hotplugged: self.hotplugged }
    }
}

const FILE: &str = "record.json";

/// Reads the record in a machine's directory; `None` if there is none.
pub(super) fn read(dir: &Path) -> io::Result<Option<Record>> {
    match std::fs::read(dir.join(FILE)) {
        Ok(text) => serde_json::from_slice(&text).map(Some).map_err(io::Error::other),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

/// Writes the record into a machine's directory.
pub(super) fn write(dir: &Path, record: &Record) -> io::Result<()> {
    let text = serde_json::to_vec_pretty(record).map_err(io::Error::other)?;
    layout::replace_file(&dir.join(FILE), &text)
}

/// This boot's id.
pub(super) fn boot_id() -> String {
    std::fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default().trim().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::host::spec::{VolumeId, VolumeKind};

    #[test]
    fn a_record_comes_back_as_it_was_written() {
        let dir = tempfile::tempdir().unwrap();
        assert_eq!(read(dir.path()).unwrap(), None);
        let device = BlockDevice {
            id: "vd-root".into(),
            volume: VolumeId { kind: VolumeKind::Disk, uid: "u".into() },
            serial: "s".into(),
            read_only: false,
            cdrom: false,
            boot_index: Some(1),
        };
        let record = Record {
            id: MachineId("m".into()),
            launch: 3,
            note: Some("{\"a\":1}".into()),
            machine_types: vec!["pc-q35-10.0".into()],
            stage: Stage::Running(Box::new(Instance {
                pid: 7,
                start_time: 8,
                boot_id: boot_id(),
                run_dir: "/r/m.3".into(),
                uuid: uuid::Uuid::from_u128(5),
                since: jiff::Timestamp::UNIX_EPOCH,
                devices: vec![InstanceDevice { device, hotplugged: false, layers: 2 }],
                can_hotplug: true,
                address: Some(std::net::Ipv4Addr::new(10, 0, 0, 2)),
                stop: Some(Stop { deadline: jiff::Timestamp::UNIX_EPOCH }),
                cgroups: vec!["/c".into()],
                arguments: vec!["-S".into()],
                qemu_version: Some("10.0.2".into()),
                last_migration: Some(MigrationEnd {
                    number: 1,
                    since: jiff::Timestamp::UNIX_EPOCH,
                    at: jiff::Timestamp::UNIX_EPOCH,
                    outcome: crate::host::MigrationOutcome::Succeeded { downtime_ms: 26 },
                }),
                network: Some(NetworkInstance {
                    pid: 9,
                    start_time: 10,
                    dir: "/r/m.3-net".into(),
                    netdev: "{}".into(),
                    name: "net-m".into(),
                }),
                frozen: Some(Frozen { since: None, until: jiff::Timestamp::UNIX_EPOCH }),
                target: None,
            })),
        };
        write(dir.path(), &record).unwrap();
        assert_eq!(read(dir.path()).unwrap(), Some(record.clone()));
        let ended = Record {
            stage: Stage::Ended { reason: EndReason::Crashed { detail: "x".into() }, at: jiff::Timestamp::UNIX_EPOCH },
            ..record
        };
        write(dir.path(), &ended).unwrap();
        assert_eq!(read(dir.path()).unwrap(), Some(ended));
    }
}
