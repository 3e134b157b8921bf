//! CPU shares: one control group per machine, in whichever hierarchy this computer has.

use std::io;
use std::path::{Path, PathBuf};

/// Where groups can be made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Hierarchy {
    /// Unified: `cpu.weight`, `cpu.max`.
    V2(PathBuf),
    /// The old cpu controller: `cpu.shares`, `cpu.cfs_quota_us`.
    V1(PathBuf),
}

/// Microseconds in which a quota is counted.
const PERIOD: u64 = 100_000;

/// What a machine gets of the processors.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Share {
    /// Virtual CPUs.
    pub(super) cpus: u32,
    /// Guaranteed percent of each.
    pub(super) fraction: u8,
    /// Not more than guaranteed, either.
    pub(super) cap: bool,
}

impl Share {
    /// Relative weight in cgroup v1's measure, 1024 for a whole CPU.
    fn shares(self) -> u64 {
        (u64::from(self.cpus) * u64::from(self.fraction) * 1024 / 100).clamp(2, 262_144)
    }

    /// The same in cgroup v2's measure (the kernel documentation's conversion).
    fn weight(self) -> u64 {
        1 + (self.shares() - 2) * 9999 / 262_142
    }

    /// Microseconds per [`PERIOD`], if capped.
    fn quota(self) -> Option<u64> {
        self.cap.then(|| (u64::from(self.cpus) * u64::from(self.fraction) * PERIOD / 100).max(1000))
    }
}

/// Finds the hierarchy with a cpu controller, and this program's groups' place in it: `name` under the root for
/// root, under the user's delegated subtree for anyone else. `Err` says why there is none.
pub(super) fn discover(name: &str) -> Result<Hierarchy, String> {
    let mounts = std::fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
    let own = std::fs::read_to_string("/proc/self/cgroup").unwrap_or_default();
    let is_root = rustix::process::geteuid().is_root();
    let has_cpu = |root: &Path| {
        std::fs::read_to_string(root.join("cgroup.controllers"))
            .is_ok_and(|controllers| controllers.split_ascii_whitespace().any(|name| name == "cpu"))
    };
    let hierarchy = locate(&mounts, &own, is_root, &has_cpu)
        .ok_or_else(|| "there is no cgroup hierarchy with a cpu controller that this user may use".to_owned())?;
    let hierarchy = match hierarchy {
        Hierarchy::V2(root) => Hierarchy::V2(root.join(name)),
        Hierarchy::V1(root) => Hierarchy::V1(root.join(name)),
    };
    // Try it once: containers often mount the hierarchy read-only.
    match prepare(&hierarchy) {
        Ok(parent) => {
            remove(&parent);
            Ok(hierarchy)
        }
        Err(error) => Err(error.to_string()),
    }
}

fn locate(mounts: &str, own: &str, is_root: bool, has_cpu: &dyn Fn(&Path) -> bool) -> Option<Hierarchy> {
    let mut v1 = None;
    for line in mounts.lines() {
        let (before, after) = line.split_once(" - ")?;
        let point = PathBuf::from(before.split_ascii_whitespace().nth(4)?);
        let mut fields = after.split_ascii_whitespace();
        match fields.next() {
            Some("cgroup2") => {
                let root = if is_root {
                    point
                } else {
                    // What systemd delegates to the user's own manager.
                    let path = own.lines().find_map(|line| line.strip_prefix("0::"))?;
                    let end = path.find("user@")? + path[path.find("user@")?..].find(".service")? + ".service".len();
                    point.join(path[..end].trim_start_matches('/'))
                };
                if has_cpu(&root) {
                    return Some(Hierarchy::V2(root));
                }
            }
            Some("cgroup") if is_root => {
                let options = fields.nth(1).unwrap_or_default();
                if options.split(',').any(|option| option == "cpu") {
                    v1 = Some(Hierarchy::V1(point));
                }
            }
            _ => {}
        }
    }
    v1
}

/// Makes the parent of all machines' groups.
fn prepare(hierarchy: &Hierarchy) -> io::Result<PathBuf> {
    match hierarchy {
        Hierarchy::V1(parent) => {
            std::fs::create_dir_all(parent)?;
            Ok(parent.clone())
        }
        Hierarchy::V2(parent) => {
            std::fs::create_dir_all(parent)?;
            if let Some(root) = parent.parent() {
                std::fs::write(root.join("cgroup.subtree_control"), "+cpu")?;
            }
            std::fs::write(parent.join("cgroup.subtree_control"), "+cpu")?;
            Ok(parent.clone())
        }
    }
}

/// Puts a process into a new group called `name`; returns what is to be removed when it has ended. Touches
/// files of the kernel: a few milliseconds, not for an async thread.
pub(super) fn enter(hierarchy: &Hierarchy, name: &str, share: Share, pid: u32) -> io::Result<PathBuf> {
    let group = prepare(hierarchy)?.join(name);
    std::fs::create_dir_all(&group)?;
    match hierarchy {
        Hierarchy::V2(_) => {
            std::fs::write(group.join("cpu.weight"), share.weight().to_string())?;
            let limit = share.quota().map_or_else(|| "max".to_owned(), |quota| quota.to_string());
            std::fs::write(group.join("cpu.max"), format!("{limit} {PERIOD}"))?;
        }
        Hierarchy::V1(_) => {
            std::fs::write(group.join("cpu.shares"), share.shares().to_string())?;
            if let Some(quota) = share.quota() {
                std::fs::write(group.join("cpu.cfs_period_us"), PERIOD.to_string())?;
                std::fs::write(group.join("cpu.cfs_quota_us"), quota.to_string())?;
            }
        }
    }
    std::fs::write(group.join("cgroup.procs"), pid.to_string())?;
    Ok(group)
}

/// Removes an empty group, and its parent if that was the last one.
pub(super) fn remove(group: &Path) {
    // A parent that still has groups stays; the kernel says so with an error.
    if std::fs::remove_dir(group).is_ok()
        && let Some(parent) = group.parent()
        && parent.file_name().is_some_and(|name| name.to_string_lossy().starts_with("vmdeck-"))
    {
        let _ = std::fs::remove_dir(parent);
    }
}

/// Removes groups whose processes are gone, left by a daemon that was killed at the wrong moment.
pub(super) fn sweep(hierarchy: &Hierarchy) {
    let (Hierarchy::V1(parent) | Hierarchy::V2(parent)) = hierarchy;
    for entry in std::fs::read_dir(parent).into_iter().flatten().flatten() {
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            // The kernel refuses where processes are left.
            remove(&entry.path());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MOUNTS: &str = "30 20 0:26 / /sys/fs/cgroup/cpu rw,relatime shared:9 - cgroup cgroup rw,cpu\n\
                          31 20 0:27 / /sys/fs/cgroup/unified rw,relatime - cgroup2 cgroup2 rw\n";

    #[test]
    fn the_unified_hierarchy_is_taken_only_with_a_cpu_controller() {
        assert_eq!(locate(MOUNTS, "", true, &|_| true), Some(Hierarchy::V2("/sys/fs/cgroup/unified".into())));
        assert_eq!(locate(MOUNTS, "", true, &|_| false), Some(Hierarchy::V1("/sys/fs/cgroup/cpu".into())));
    }

    #[test]
    fn a_user_gets_the_delegated_part() {
        let own = "0::/user.slice/user-7.slice/user@7.service/app.slice/x.scope\n";
        let expected = "/sys/fs/cgroup/unified/user.slice/user-7.slice/user@7.service";
        assert_eq!(locate(MOUNTS, own, false, &|_| true), Some(Hierarchy::V2(expected.into())));
        assert_eq!(locate(MOUNTS, "0::/init.scope\n", false, &|_| true), None);
    }

    #[test]
    fn shares_follow_cores_and_fraction() {
        let share = |cpus, fraction, cap| Share { cpus, fraction, cap };
        assert_eq!(share(1, 100, false).shares(), 1024);
        assert_eq!(share(4, 10, false).shares(), 409);
        assert_eq!(share(1, 100, false).weight(), 39);
        assert_eq!(share(2, 25, true).quota(), Some(50_000));
        assert_eq!(share(2, 25, false).quota(), None);
    }
}
