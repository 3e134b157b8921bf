//! A detached child: spawned, or found again by process id and start time after the daemon was away.

use std::ffi::OsString;
use std::fs::File;
use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};

use rustix::process::{Pid, PidfdFlags, Signal};

use super::layout::Isolation;
use super::sys::{self, ExitWatch};

/// A process that this host started now or in an earlier life.
pub(super) struct Process {
    pid: u32,
    start_time: u64,
    watch: ExitWatch,
    /// Present if it is our own child, which must be reaped.
    child: Option<Child>,
}

/// What to spawn.
pub(super) struct Spawn {
    /// The program.
    pub(super) program: PathBuf,
    /// Its arguments.
    pub(super) arguments: Vec<OsString>,
    /// Working directory.
    pub(super) directory: PathBuf,
    /// Gets what it writes to stdout and stderr.
    pub(super) log: File,
    /// Descriptors that it inherits under the same numbers.
    pub(super) fds: Vec<OwnedFd>,
}

impl Process {
    /// Spawns in its own session without privileges. It outlives this program.
    pub(super) async fn spawn(what: Spawn, isolation: Isolation) -> io::Result<Self> {
        let child = tokio::task::spawn_blocking(move || {
            let mut command = Command::new(&what.program);
            command
                .args(&what.arguments)
                .current_dir(&what.directory)
                .stdin(Stdio::null())
                .stdout(what.log.try_clone()?)
                .stderr(what.log);
            sys::harden(&mut command, &isolation, what.fds.iter().map(AsRawFd::as_raw_fd).collect());
            command.spawn()
        })
        .await
        .map_err(io::Error::other)??;
        let pid = child.id();
        let pidfd = rustix::process::pidfd_open(pid_of(pid)?, PidfdFlags::NONBLOCK)?;
        let start_time = start_time(pid).unwrap_or_default();
        Ok(Self { pid, start_time, watch: ExitWatch::new(pidfd)?, child: Some(child) })
    }

    /// Takes up a process of an earlier daemon; `None` if it is gone (also if its number now names another one).
    pub(super) fn adopt(pid: u32, recorded_start_time: u64) -> io::Result<Option<Self>> {
        let pidfd = match rustix::process::pidfd_open(pid_of(pid)?, PidfdFlags::NONBLOCK) {
            Ok(fd) => fd,
            Err(rustix::io::Errno::SRCH) => return Ok(None),
            Err(error) => return Err(error.into()),
        };
        // Looked at after the descriptor is held: from here on the number cannot be reused unnoticed.
        if start_time(pid) != Some(recorded_start_time) || is_zombie(pid) {
            return Ok(None);
        }
        Ok(Some(Self { pid, start_time: recorded_start_time, watch: ExitWatch::new(pidfd)?, child: None }))
    }

    /// Process id.
    pub(super) fn pid(&self) -> u32 {
        self.pid
    }

    /// Start time in clock ticks since boot, from `/proc/PID/stat`.
    pub(super) fn start_time(&self) -> u64 {
        self.start_time
    }

    /// SIGKILL. Fine if it has ended.
    pub(super) fn kill(&self) {
        if let Err(error) = rustix::process::pidfd_send_signal(self.watch.pidfd(), Signal::KILL)
            && error != rustix::io::Errno::SRCH
        {
            tracing::warn!(pid = self.pid, %error, "cannot kill");
        }
    }

    /// Returns when it has ended, with how, if that can be known. Cancel safe.
    pub(super) async fn ended(&mut self) -> Option<ExitStatus> {
        self.watch.ended().await;
        self.child.as_mut().and_then(|child| child.wait().ok())
    }
}

/// `exited with status 1`, `was killed by signal 9`.
pub(super) fn describe_exit(status: Option<ExitStatus>) -> String {
    match status {
        Some(status) => match (status.code(), status.signal()) {
            (Some(code), _) => format!("QEMU exited with status {code}"),
            (None, Some(signal)) => format!("QEMU was killed by signal {signal}"),
            (None, None) => "QEMU ended".into(),
        },
        None => "QEMU is gone".into(),
    }
}

fn pid_of(pid: u32) -> io::Result<Pid> {
    i32::try_from(pid)
        .ok()
        .and_then(Pid::from_raw)
        .ok_or_else(|| io::Error::new(io::ErrorKind::InvalidInput, format!("{pid} is not a process id")))
}

/// Field 22 of `/proc/PID/stat`.
pub(super) fn start_time(pid: u32) -> Option<u64> {
    stat_fields(pid)?.get(19)?.parse().ok()
}

fn is_zombie(pid: u32) -> bool {
    stat_fields(pid).is_some_and(|fields| fields.first().is_some_and(|state| state == "Z"))
}

/// The fields of `/proc/PID/stat` after the command name (which may hold anything): state is number 0.
fn stat_fields(pid: u32) -> Option<Vec<String>> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let (_, rest) = stat.rsplit_once(") ")?;
    Some(rest.split_ascii_whitespace().map(str::to_owned).collect())
}

/// QEMU processes whose working directory is `directory`.
pub(super) fn qemus_in(directory: &Path) -> Vec<u32> {
    let Ok(directory) = std::fs::canonicalize(directory) else { return Vec::new() };
    let Ok(entries) = std::fs::read_dir("/proc") else { return Vec::new() };
    let is_qemu = |pid: u32| {
        let command = std::fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        let program = command.split(|byte| *byte == 0).next().unwrap_or_default();
        String::from_utf8_lossy(program).rsplit('/').next().is_some_and(|name| name.starts_with("qemu"))
    };
    entries
        .flatten()
        .filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok())
        .filter(|pid| std::fs::read_link(format!("/proc/{pid}/cwd")).is_ok_and(|cwd| cwd == directory))
        .filter(|pid| is_qemu(*pid))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sleeper(seconds: &str) -> Spawn {
        Spawn {
            program: "sleep".into(),
            arguments: vec![seconds.into()],
            directory: "/".into(),
            log: File::create("/dev/null").unwrap(),
            fds: Vec::new(),
        }
    }

    #[tokio::test]
    async fn a_spawned_process_is_watched_killed_and_reaped() {
        let mut process = Process::spawn(sleeper("60"), Isolation::SameUser).await.unwrap();
        let again = Process::adopt(process.pid(), process.start_time()).unwrap();
        assert!(again.is_some());
        assert!(Process::adopt(process.pid(), process.start_time() + 1).unwrap().is_none(), "another start time");
        process.kill();
        let status = process.ended().await;
        assert_eq!(describe_exit(status), "QEMU was killed by signal 9");
        assert!(Process::adopt(process.pid(), process.start_time()).unwrap().is_none());
    }

    #[tokio::test]
    async fn the_child_has_no_privileges() {
        let process = Process::spawn(sleeper("60"), Isolation::SameUser).await.unwrap();
        let status = std::fs::read_to_string(format!("/proc/{}/status", process.pid())).unwrap();
        process.kill();
        assert!(status.contains("NoNewPrivs:\t1"), "{status}");
        assert!(status.contains("CapEff:\t0000000000000000"), "{status}");
    }
}
