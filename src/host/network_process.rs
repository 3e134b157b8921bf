//! A machine's user mode network in a process of its own, so that it outlives a live migration: TCP connections live
//! in the process that translates them, not in the QEMU that has the guest.
//!
//! ```text
//!   QEMU of the machine (source)  --connected-->  socket `frames`  <--+  the network's QEMU: no machine,
//!   QEMU of the machine (target)  --in its queue--------------------->+  user network and socket on one hub
//! ```
//!
//! The socket serves one QEMU at a time. A migration's target connects when it starts and waits in the queue; when the
//! source ends, its turn comes, and every connection goes on. Nobody has to act at that moment.

use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde_json::{Value, json};
use tokio::time::Instant;

use super::adopt::kill_all_in;
use super::command_line;
use super::context::{Context, blocking, connect_in, fd_path};
use super::launch::{self, LOG, QMP_SOCKET};
use super::layout::{self, Layout};
use super::network;
use super::process::{Process, Spawn, describe_exit};
use super::qmp::Qmp;
use super::record::NetworkInstance;
use super::spec::MachineSpec;

/// Socket for the frames of the guest's network interface.
const FRAMES_SOCKET: &str = "frames";

/// QEMUs that may wait for their turn: targets of failed migrations stay in the queue until the source ends.
const QUEUE: i32 = 64;

/// How long it may take to greet. It does so within 0.1 s unless the computer is in deep trouble.
const GREETING_TIMEOUT: Duration = Duration::from_secs(30);

/// How long its monitor may take to answer at adoption.
const ANSWER: Duration = Duration::from_secs(2);

/// A process that lived this long is started anew at once.
const LIVED: Duration = Duration::from_secs(10);

/// Longest pause between attempts to start it.
const LONGEST_PAUSE: Duration = Duration::from_secs(30);

/// What the process is made from.
#[derive(Debug, Clone)]
pub(super) struct Plan {
    /// Its directory, beside the machine's launch directory.
    pub(super) dir: PathBuf,
    /// `-netdev` of the user network.
    netdev: String,
    /// Name of the process.
    name: String,
}

impl Plan {
    /// For a launch; `None` if the machine has no interface or this QEMU cannot do it.
    pub(super) fn of(context: &Context, spec: &MachineSpec, dir: PathBuf) -> Option<Self> {
        network::reconnect(context.facts.version.as_deref())?;
        let hostname = network::hostname(&spec.name);
        let netdev = network::netdev(spec.nic.as_ref()?, &hostname).to_string();
        Some(Self { dir, netdev, name: format!("net-{hostname}") })
    }
}

/// `-netdev` of a QEMU whose working directory lies beside the network's.
pub(super) fn frames(dir: &Path, context: &Context) -> Option<Value> {
    let (key, value) = network::reconnect(context.facts.version.as_deref())?;
    let name = dir.file_name()?.to_string_lossy();
    // Short however deep the directories are.
    let address = json!({"type": "unix", "path": format!("../{name}/{FRAMES_SOCKET}")});
    let mut netdev = json!({"type": "stream", "id": "net0", "server": false, "addr": address});
    if let Some(key) = key {
        netdev[key] = value.into();
    }
    Some(netdev)
}

/// A process that was spawned a moment ago. The machine's QEMU can connect to it already.
pub(super) struct Spawned {
    process: Process,
    frames: UnixListener,
    recorded: NetworkInstance,
}

/// A machine's network.
pub(super) struct Network {
    /// What is on record.
    pub(super) recorded: NetworkInstance,
    state: State,
    /// Ends in quick succession.
    failures: u32,
}

enum State {
    Up { process: Process, qmp: Qmp, since: Instant },
    Down { again: Instant, reason: String },
}

/// Makes the directory with its sockets and spawns the process. On failure nothing is left.
pub(super) async fn spawn(context: &Context, plan: &Plan) -> Result<Spawned, String> {
    let begun = begin(context, plan).await;
    if begun.is_err() {
        launch::clean_up(plan.dir.clone(), Vec::new()).await;
    }
    begun.map_err(|error| format!("the machine's network cannot be started: {error}"))
}

async fn begin(context: &Context, plan: &Plan) -> Result<Spawned, String> {
    let program = context.facts.qemu.clone().ok_or("QEMU was not found")?;
    let (layout, dir) = (context.layout.clone(), plan.dir.clone());
    let prepared = blocking(move || prepare(&layout, &dir)).await.map_err(|error| error.to_string())?;
    let (monitor, frames, log) = prepared;
    let passed: OwnedFd = frames.try_clone().map_err(|error| error.to_string())?.into();
    let arguments = command_line::network_arguments(&plan.name, &plan.netdev, monitor.as_raw_fd(), passed.as_raw_fd());
    let fds = vec![monitor, passed];
    let spawn = Spawn { program, arguments, directory: plan.dir.clone(), log, fds };
    let process = Process::spawn(spawn, context.layout.isolation.clone()).await.map_err(|error| error.to_string())?;
    let recorded = NetworkInstance {
        pid: process.pid(),
        start_time: process.start_time(),
        dir: plan.dir.clone(),
        netdev: plan.netdev.clone(),
        name: plan.name.clone(),
    };
    Ok(Spawned { process, frames, recorded })
}

fn prepare(layout: &Layout, dir: &Path) -> io::Result<(OwnedFd, UnixListener, std::fs::File)> {
    match std::fs::remove_dir_all(dir) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    layout::make_dir(dir)?;
    layout.isolation.give(dir)?;
    let directory = std::fs::File::open(dir)?;
    let monitor = UnixListener::bind(fd_path(&directory, QMP_SOCKET))?.into();
    let frames = UnixListener::bind(fd_path(&directory, FRAMES_SOCKET))?;
    // QEMU's own user connects to it.
    layout.isolation.give(&dir.join(FRAMES_SOCKET))?;
    Ok((monitor, frames, launch::append(&dir.join(LOG))?))
}

impl Spawned {
    /// What is to be recorded.
    pub(super) fn recorded(&self) -> &NetworkInstance {
        &self.recorded
    }

    /// Waits until it works. On failure nothing is left of it.
    pub(super) async fn connect(mut self, groups: &[PathBuf]) -> Result<Network, String> {
        join_groups(groups, self.recorded.pid).await;
        let connected = tokio::select! {
            status = self.process.ended() => Err(describe_exit(status)),
            connected = tokio::time::timeout(GREETING_TIMEOUT, monitor(&self.recorded.dir)) => {
                connected.unwrap_or_else(|_| Err("it did not answer in time".to_owned()))
            }
        };
        // QEMU has made the queue as short as it can be by now.
        let longer = rustix::net::listen(&self.frames, QUEUE).map_err(|error| error.to_string());
        match connected.and_then(|qmp| longer.map(|()| qmp)) {
            Ok(qmp) => {
                let state = State::Up { process: self.process, qmp, since: Instant::now() };
                Ok(Network { recorded: self.recorded, state, failures: 0 })
            }
            Err(error) => {
                let words = launch::failure_text(&self.recorded.dir, &error).await;
                self.abandon().await;
                Err(format!("the machine's network does not start: {words}"))
            }
        }
    }

    /// Ends it.
    pub(super) async fn abandon(mut self) {
        self.process.kill();
        self.process.ended().await;
        launch::clean_up(self.recorded.dir, Vec::new()).await;
    }
}

async fn monitor(dir: &Path) -> Result<Qmp, String> {
    let stream = connect_in(dir, QMP_SOCKET).await.map_err(|error| error.to_string())?;
    Ok(Qmp::connect(stream).await.map_err(|error| error.to_string())?.0)
}

async fn join_groups(groups: &[PathBuf], pid: u32) {
    for group in groups {
        let group = group.clone();
        let joined = blocking(move || std::fs::write(group.join("cgroup.procs"), pid.to_string())).await;
        if let Err(error) = joined {
            tracing::warn!(pid, %error, "the CPU share of the machine's network is not enforced");
        }
    }
}

impl Network {
    /// Takes up the process of an earlier daemon. If it is gone, it is started anew as soon as the machine is watched.
    pub(super) async fn adopt(recorded: NetworkInstance) -> Self {
        let found = Process::adopt(recorded.pid, recorded.start_time).ok().flatten();
        let state = match found {
            Some(process) => match tokio::time::timeout(ANSWER, monitor(&recorded.dir)).await {
                Ok(Ok(qmp)) => State::Up { process, qmp, since: Instant::now() },
                Ok(Err(reason)) => State::gone(Some(process), reason),
                Err(_) => State::gone(Some(process), "its monitor did not answer in time".to_owned()),
            },
            None => State::gone(None, "it ended while vmdeck was away".to_owned()),
        };
        Self { recorded, state, failures: 0 }
    }

    /// The monitor that forwards ports into the guest, while there is one.
    pub(super) fn qmp(&self) -> Option<&Qmp> {
        match &self.state {
            State::Up { qmp, .. } => Some(qmp),
            State::Down { .. } => None,
        }
    }

    /// Why it does not work, in words for a user.
    pub(super) fn problem(&self) -> Option<String> {
        match &self.state {
            State::Up { .. } => None,
            State::Down { reason, .. } => {
                Some(format!("the machine's network is down and is being restarted: {reason}"))
            }
        }
    }

    /// Returns when [`Network::mend`] has something to do. Cancel safe.
    pub(super) async fn trouble(network: &mut Option<Self>) {
        match network.as_mut().map(|network| &mut network.state) {
            Some(State::Up { process, .. }) => drop(process.ended().await),
            Some(State::Down { again, .. }) => tokio::time::sleep_until(*again).await,
            None => std::future::pending().await,
        }
    }

    /// Starts it anew, or waits a little if it ended too soon after its last start. Connections into the guest are lost;
    /// the guest's own interface comes back by itself.
    pub(super) async fn mend(self, context: &Context, groups: &[PathBuf]) -> Self {
        let Self { recorded, state, failures } = self;
        let failures = match state {
            State::Up { mut process, since, .. } => {
                let reason = launch::failure_text(&recorded.dir, &describe_exit(process.ended().await)).await;
                tracing::error!(pid = recorded.pid, name = recorded.name, %reason, "a machine's network ended");
                let failures = if since.elapsed() < LIVED { failures + 1 } else { 0 };
                if failures > 0 {
                    let again = Instant::now() + pause(failures);
                    return Self { recorded, state: State::Down { again, reason }, failures };
                }
                failures
            }
            State::Down { .. } => failures,
        };
        let plan = Plan { dir: recorded.dir.clone(), netdev: recorded.netdev.clone(), name: recorded.name.clone() };
        let started = match spawn(context, &plan).await {
            Ok(spawned) => spawned.connect(groups).await,
            Err(error) => Err(error),
        };
        match started {
            Ok(network) => Self { failures, ..network },
            Err(reason) => {
                tracing::error!(name = recorded.name, %reason, "a machine's network cannot be started again");
                let failures = failures + 1;
                Self { recorded, state: State::Down { again: Instant::now() + pause(failures), reason }, failures }
            }
        }
    }

    /// Ends it for good.
    pub(super) async fn stop(self) {
        if let State::Up { mut process, .. } = self.state {
            process.kill();
            process.ended().await;
        }
        launch::clean_up(self.recorded.dir, Vec::new()).await;
    }
}

impl State {
    fn gone(process: Option<Process>, reason: String) -> Self {
        if let Some(process) = process {
            process.kill();
        }
        Self::Down { again: Instant::now(), reason }
    }
}

/// Removes what a launch has left of its network, recorded or not.
pub(super) async fn remove(dir: PathBuf) {
    kill_all_in(&dir).await;
    launch::clean_up(dir, Vec::new()).await;
}

fn pause(failures: u32) -> Duration {
    Duration::from_millis(250).saturating_mul(1 << failures.min(16)).min(LONGEST_PAUSE)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_grow_to_a_limit() {
        assert_eq!(pause(1), Duration::from_millis(500));
        assert_eq!(pause(3), Duration::from_secs(2));
        assert_eq!(pause(30), LONGEST_PAUSE);
    }
}
