//! Where the host keeps what it owns, and under whose name QEMU may touch it.
//!
//! ```text
//! state/machines/UID/      record.json  serial.log  console.*  efi-vars.fd       survives everything
//! state/volumes/KIND/UID/  volume.json  data        (incoming, content, data.new while a job runs)
//! runtime/m/UID.LAUNCH/    sockets, seed, qemu.log; made for one launch, removed with it
//! runtime/m/UID.LAUNCH-N/  the same of the target of its Nth migration
//! runtime/m/UID.LAUNCH-net/ sockets of its network, qemu.log
//! ```

use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use super::spec::{MachineId, VolumeId, VolumeKind};
use crate::config::Paths;

/// Identity under which QEMU and `qemu-img` run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Isolation {
    /// The daemon is an ordinary user: QEMU is the same user, without new privileges.
    SameUser,
    /// The daemon is root: QEMU is this user, without capabilities.
    Unprivileged {
        /// User and group.
        id: u32,
        /// Further groups (the one of `/dev/kvm`).
        groups: Vec<u32>,
    },
    /// The daemon is root but the unprivileged user cannot work here: QEMU keeps uid 0 without capabilities.
    RootWithoutCapabilities {
        /// Why, in words for a user.
        reason: String,
        /// Even that cannot enter the directories: it keeps the one capability to ignore file modes.
        override_modes: bool,
    },
}

impl Isolation {
    /// Gives a file or directory that QEMU writes to QEMU's user.
    pub(super) fn give(&self, path: &Path) -> io::Result<()> {
        match self {
            Self::Unprivileged { id, .. } => std::os::unix::fs::chown(path, Some(*id), Some(*id)),
            Self::SameUser | Self::RootWithoutCapabilities { .. } => Ok(()),
        }
    }

    /// Lets QEMU read but not write a file (mode 0640, group is QEMU's), or enter but not list a directory.
    pub(super) fn share(&self, path: &Path) -> io::Result<()> {
        let directory = std::fs::metadata(path)?.is_dir();
        match self {
            Self::Unprivileged { id, .. } => {
                std::os::unix::fs::chown(path, Some(0), Some(*id))?;
                set_mode(path, if directory { 0o710 } else { 0o640 })
            }
            Self::SameUser | Self::RootWithoutCapabilities { .. } => {
                set_mode(path, if directory { 0o700 } else { 0o400 })
            }
        }
    }
}

/// Chooses the isolation: `id` is the unprivileged user to use when the daemon is root, `shared` the existing
/// directories that user must be able to enter, `kvm_group` the group that may open `/dev/kvm` (`None`: anyone
/// may, or KVM is not used), `kvm_closed`: only root may.
pub(super) fn choose_isolation(
    is_root: bool,
    id: u32,
    shared: &[&Path],
    kvm_group: Option<u32>,
    kvm_closed: bool,
) -> Isolation {
    if !is_root {
        return Isolation::SameUser;
    }
    // Our own directories are group-shared by us; what lies above must let the user through.
    let above = || shared.iter().flat_map(|path| path.ancestors().skip(1));
    let may_enter = |path: &Path, user: u32| {
        // What does not exist yet is made to be passed.
        std::fs::metadata(path).map_or(true, |meta| {
            if meta.uid() == user {
                meta.mode() & 0o100 != 0
            } else if meta.gid() == user {
                meta.mode() & 0o010 != 0
            } else {
                meta.mode() & 0o001 != 0
            }
        })
    };
    let override_modes = above().any(|path| !may_enter(path, 0));
    if kvm_closed {
        let reason = "QEMU runs as root without capabilities: only root may open /dev/kvm here".into();
        return Isolation::RootWithoutCapabilities { reason, override_modes };
    }
    if let Some(closed) = above().find(|path| !may_enter(path, id)) {
        let reason = format!(
            "QEMU runs as root without capabilities: its own user (uid {id}) may not enter {}; use a state \
             directory that others may enter",
            closed.display()
        );
        return Isolation::RootWithoutCapabilities { reason, override_modes };
    }
    Isolation::Unprivileged { id, groups: kvm_group.into_iter().collect() }
}

/// The directories of one host.
#[derive(Debug, Clone)]
pub(super) struct Layout {
    machines: PathBuf,
    volumes: PathBuf,
    runs: PathBuf,
    /// See [`Isolation`].
    pub(super) isolation: Isolation,
}

impl Layout {
    /// Makes the directories (state and runtime 0700, or enterable by QEMU's group).
    pub(super) fn create(paths: &Paths, isolation: Isolation) -> io::Result<Self> {
        let layout =
            Self { machines: paths.machines(), volumes: paths.volumes(), runs: paths.runtime.join("m"), isolation };
        for dir in [&paths.state, &paths.runtime] {
            if let Some(parent) = dir.parent() {
                // To be passed, not listed, by QEMU's user.
                std::fs::DirBuilder::new().recursive(true).mode(0o711).create(parent)?;
            }
            make_dir(dir)?;
        }
        let kinds = KINDS.map(|kind| layout.volumes.join(kind_name(kind)));
        for dir in [&layout.machines, &layout.volumes, &layout.runs].into_iter().chain(&kinds) {
            make_dir(dir)?;
        }
        if matches!(layout.isolation, Isolation::Unprivileged { .. }) {
            let own = [&paths.state, &paths.runtime, &layout.machines, &layout.volumes, &layout.runs];
            for dir in own.into_iter().chain(&kinds) {
                layout.isolation.share(dir)?;
            }
        }
        Ok(layout)
    }

    /// Keeps what outlives a launch.
    pub(super) fn machine(&self, id: &MachineId) -> PathBuf {
        self.machines.join(file_name(&id.0))
    }

    /// All machine directories.
    pub(super) fn machine_dirs(&self) -> io::Result<Vec<PathBuf>> {
        list(&self.machines)
    }

    /// Lives as long as one launch.
    pub(super) fn run(&self, id: &MachineId, launch: u64) -> PathBuf {
        self.runs.join(format!("{}.{launch}", file_name(&id.0)))
    }

    /// The launch directory of a migration's target.
    pub(super) fn target(&self, id: &MachineId, launch: u64, migration: u64) -> PathBuf {
        self.runs.join(format!("{}.{launch}-{migration}", file_name(&id.0)))
    }

    /// The directory of a launch's network process.
    pub(super) fn network(&self, id: &MachineId, launch: u64) -> PathBuf {
        self.runs.join(format!("{}.{launch}-net", file_name(&id.0)))
    }

    /// All launch directories.
    pub(super) fn run_dirs(&self) -> io::Result<Vec<PathBuf>> {
        list(&self.runs)
    }

    /// A volume's directory.
    pub(super) fn volume(&self, id: &VolumeId) -> PathBuf {
        self.volumes.join(kind_name(id.kind)).join(file_name(&id.uid))
    }

    /// All volume directories.
    pub(super) fn volume_dirs(&self) -> io::Result<Vec<PathBuf>> {
        let mut dirs = Vec::new();
        for kind in KINDS {
            dirs.extend(list(&self.volumes.join(kind_name(kind)))?);
        }
        Ok(dirs)
    }
}

const KINDS: [VolumeKind; 3] = [VolumeKind::Disk, VolumeKind::Image, VolumeKind::Snapshot];

fn kind_name(kind: VolumeKind) -> &'static str {
    match kind {
        VolumeKind::Disk => "disk",
        VolumeKind::Image => "image",
        VolumeKind::Snapshot => "snapshot",
    }
}

fn list(dir: &Path) -> io::Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(dir)? {
        let entry = entry?;
        if entry.file_type()?.is_dir() {
            found.push(entry.path());
        }
    }
    found.sort();
    Ok(found)
}

/// A uid from an API object as one harmless path component: letters, digits, `-` and `_` stay, every other byte
/// becomes `%XX`.
pub(super) fn file_name(uid: &str) -> String {
    let mut name = String::with_capacity(uid.len());
    for byte in uid.bytes() {
        if byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_' {
            name.push(char::from(byte));
        } else {
            name.push_str(&format!("%{byte:02x}"));
        }
    }
    if name.is_empty() { "%".into() } else { name }
}

/// Makes a directory (and its parents) that only its owner may enter; an existing one is left as it is.
pub(super) fn make_dir(path: &Path) -> io::Result<()> {
    std::fs::DirBuilder::new().recursive(true).mode(0o700).create(path)
}

/// Sets permission bits.
pub(super) fn set_mode(path: &Path, mode: u32) -> io::Result<()> {
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode))
}

/// An empty file for its owner alone.
pub(super) fn private_file(path: &Path) -> io::Result<std::fs::File> {
    std::fs::OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(path)
}

/// Replaces a file so that a reader sees either the old or the new content.
pub(super) fn replace_file(path: &Path, content: &[u8]) -> io::Result<()> {
    let new = path.with_extension("new");
    private_file(&new)?.write_all(content)?;
    std::fs::rename(&new, path)
}

/// As [`replace_file`]; the new content is on the disk when this returns.
pub(super) fn replace_file_durably(path: &Path, content: &[u8]) -> io::Result<()> {
    let new = path.with_extension("new");
    {
        let mut file = private_file(&new)?;
        file.write_all(content)?;
        file.sync_all()?;
    }
    std::fs::rename(&new, path)?;
    match path.parent() {
        Some(dir) => std::fs::File::open(dir)?.sync_all(),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn uids_cannot_leave_their_directory() {
        assert_eq!(file_name("1b2c-AA_9"), "1b2c-AA_9");
        assert_eq!(file_name("../x"), "%2e%2e%2fx");
        assert_eq!(file_name(""), "%");
    }

    #[test]
    fn an_ordinary_user_keeps_its_identity() {
        assert_eq!(choose_isolation(false, 7, &[], None, true), Isolation::SameUser);
    }

    #[test]
    fn a_closed_parent_keeps_root_and_says_why() {
        let dir = tempfile::tempdir().unwrap();
        set_mode(dir.path(), 0o700).unwrap();
        let inner = dir.path().join("state");
        let chosen = choose_isolation(true, 54_321, &[&inner], None, false);
        let Isolation::RootWithoutCapabilities { reason, override_modes } = chosen else {
            panic!("must not be unprivileged");
        };
        assert_eq!(override_modes, !rustix::process::geteuid().is_root(), "the directory is this user's own");
        assert!(reason.contains(&dir.path().display().to_string()), "{reason}");
        set_mode(dir.path(), 0o711).unwrap();
        let open = choose_isolation(true, 54_321, &[&inner], Some(5), false);
        assert_eq!(open, Isolation::Unprivileged { id: 54_321, groups: vec![5] });
    }
}
