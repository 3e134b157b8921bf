//! From a machine's specification to a guest that executes.

use std::fs::File;
use std::io::{self, Write};
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::fs::OpenOptionsExt;
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde_json::Value;
use tokio::net::UnixStream;
use tokio::sync::mpsc;

use super::cgroup::{self, Share};
use super::command_line::{self, FirmwareFiles, Launch, Layer, SocketFds};
use super::context::{Context, blocking, connect_in, fd_path};
use super::layout::{self, Layout};
use super::machine::Machine;
use super::migrate::Outgoing;
use super::network_process::{self, Network, Plan, Spawned};
use super::probe;
use super::process::{Process, Spawn, describe_exit};
use super::qmp::Qmp;
use super::qmp_message::Event;
use super::record::{self, Instance, InstanceDevice, Record, Stage};
use super::seed;
use super::serial;
use super::spec::{Firmware, MachineSpec};

/// The daemon's monitor.
pub(super) const QMP_SOCKET: &str = "qmp";
/// A second monitor, for people.
const RESCUE_SOCKET: &str = "rescue";
/// The serial port.
pub(super) const SERIAL_SOCKET: &str = "serial";
/// The guest agent.
pub(super) const AGENT_SOCKET: &str = "agent";
/// What QEMU writes to stdout and stderr.
pub(super) const LOG: &str = "qemu.log";

/// How long QEMU may take to greet. It does so within 0.1 s unless the computer is in deep trouble.
pub(super) const GREETING_TIMEOUT: Duration = Duration::from_secs(60);

/// A QEMU under our control.
pub(super) struct Running {
    /// The process.
    pub(super) process: Process,
    /// Its monitor.
    pub(super) qmp: Qmp,
    /// Its events.
    pub(super) events: mpsc::UnboundedReceiver<Event>,
    /// What is on record.
    pub(super) instance: Instance,
    /// Its network, if that is a process of its own.
    pub(super) network: Option<Network>,
    /// The guest has been let go.
    pub(super) continued: bool,
    /// QEMU's word when the guest is held.
    pub(super) paused: Option<String>,
    /// The guest agent's port is open.
    pub(super) agent_connected: bool,
    /// The migration to another QEMU that is under way.
    pub(super) migration: Option<Box<Outgoing>>,
}

/// What the file system work before a launch gives.
struct Prepared {
    sockets: [OwnedFd; 4],
    log: File,
    firmware: Option<FirmwareFiles>,
}

/// Starts QEMU and lets the guest run, unless a stop came in between. On failure nothing of the process is left;
/// the launch directory is the caller's to remove. The error is in words for a user.
pub(super) async fn launch(
    context: &Context,
    machine: &Machine,
    record: &mut Record,
    spec: &MachineSpec,
) -> Result<Running, String> {
    let facts = &context.facts;
    let qemu = facts.qemu.clone().ok_or("QEMU was not found; install the package qemu-system-x86")?;
    let machine_type = pinned_machine_type(record, spec, facts)?;
    let mut disks = Vec::new();
    for device in &spec.devices {
        disks.push(context.volumes.layers(&device.volume).map_err(|error| format!("{}: {error}", device.id))?);
    }
    let machine_dir = context.layout.machine(&record.id);
    let run_dir = context.layout.run(&record.id, record.launch);
    let prepared = prepare(context, spec, &machine_dir, &run_dir).await?;
    {
        let (dir, record) = (machine_dir.clone(), record.clone());
        blocking(move || record::write(&dir, &record)).await.map_err(cannot("write the machine's record"))?;
    }

    let plan = Plan::of(context, spec, context.layout.network(&record.id, record.launch));
    let frames = plan.as_ref().and_then(|plan| network_process::frames(&plan.dir, context));
    let [qmp, rescue, serial, agent] = prepared.sockets.each_ref().map(AsRawFd::as_raw_fd);
    let arguments = command_line::arguments(&Launch {
        spec,
        machine_type: &machine_type,
        accelerator: facts.accelerator,
        shutdown_trace: facts.shutdown_trace,
        sockets: SocketFds { qmp, rescue, serial, agent },
        serial_log: &machine_dir.join(serial::LOG),
        firmware: prepared.firmware,
        frames: frames.as_ref(),
        disks: &disks,
    })
    .map_err(|error| error.to_string())?;
    let recorded = arguments.iter().map(|argument| argument.to_string_lossy().into_owned()).collect();
    let spawn = Spawn {
        program: qemu.clone(),
        arguments,
        directory: run_dir.clone(),
        log: prepared.log,
        fds: prepared.sockets.into(),
    };
    // Before QEMU, which connects to it when it starts; both load side by side.
    let spawned = match &plan {
        Some(plan) => Some(network_process::spawn(context, plan).await?),
        None => None,
    };
    let mut process = match Process::spawn(spawn, context.layout.isolation.clone()).await {
        Ok(process) => process,
        Err(error) => {
            if let Some(spawned) = spawned {
                spawned.abandon().await;
            }
            return Err(format!("cannot run {}: {error}", qemu.display()));
        }
    };
    let devices = spec
        .devices
        .iter()
        .zip(&disks)
        .map(|(device, layers)| InstanceDevice { device: device.clone(), hotplugged: false, layers: layers.len() })
        .collect();
    let mut instance = Instance {
        pid: process.pid(),
        start_time: process.start_time(),
        boot_id: record::boot_id(),
        run_dir,
        uuid: spec.uuid,
        since: jiff::Timestamp::now(),
        devices,
        can_hotplug: command_line::can_hotplug(spec),
        address: spec.nic.as_ref().map(|nic| nic.address),
        stop: None,
        cgroups: Vec::new(),
        arguments: recorded,
        qemu_version: facts.version.clone(),
        last_migration: None,
        network: spawned.as_ref().map(|spawned| spawned.recorded().clone()),
        frozen: None,
        target: None,
    };
    let mut network = None;
    match bring_up(context, machine, record, spec, (&mut process, spawned, &mut network), &mut instance).await {
        Ok((qmp, events, continued)) => Ok(Running {
            process,
            qmp,
            events,
            instance,
            network,
            continued,
            paused: None,
            agent_connected: false,
            migration: None,
        }),
        Err(error) => {
            process.kill();
            process.ended().await;
            if let Some(network) = network {
                network.stop().await;
            }
            clean_up(instance.run_dir, instance.cgroups).await;
            Err(error)
        }
    }
}

type Up = (Qmp, mpsc::UnboundedReceiver<Event>, bool);

/// From the spawned processes to an executing guest.
async fn bring_up(
    context: &Context,
    machine: &Machine,
    record: &mut Record,
    spec: &MachineSpec,
    (process, spawned, network): (&mut Process, Option<Spawned>, &mut Option<Network>),
    instance: &mut Instance,
) -> Result<Up, String> {
    let run_dir = instance.run_dir.clone();
    // Side by side with QEMU's own start, which takes longer.
    let share = async {
        let groups = enter_group(context, record, spec, instance.pid).await;
        let network = match spawned {
            Some(spawned) => Some(spawned.connect(&groups).await).transpose(),
            None => Ok(None),
        };
        (groups, network)
    };
    let connected = async {
        // The sockets were made before QEMU: a connection waits in the queue until QEMU is up.
        let stream = connect_in(&run_dir, QMP_SOCKET).await.map_err(|error| error.to_string())?;
        let serial = connect_in(&run_dir, SERIAL_SOCKET).await.map_err(|error| error.to_string())?;
        let (qmp, events) = Qmp::connect(stream).await.map_err(|error| error.to_string())?;
        Ok::<_, String>((qmp, events, serial))
    };
    let (connected, (groups, connected_network)) = tokio::join!(greeting(process, &run_dir, connected), share);
    instance.cgroups = groups;
    *network = connected_network?;
    let (qmp, events, serial) = connected?;
    machine.console().connect(serial, false);
    record.stage = Stage::Running(Box::new(instance.clone()));
    // A later daemon must find what runs: written before the guest executes its first instruction.
    {
        let (dir, record) = (context.layout.machine(&record.id), record.clone());
        blocking(move || record::write(&dir, &record)).await.map_err(cannot("write the machine's record"))?;
    }
    if machine.is_stopping() {
        return Ok((qmp, events, false));
    }
    qmp.execute("cont", Value::Null).await.map_err(|error| error.to_string())?;
    Ok((qmp, events, true))
}

/// What a fresh QEMU gives: its monitor, its events, its serial port.
type Connected = (Qmp, mpsc::UnboundedReceiver<Event>, UnixStream);

/// Waits for the greeting, or for the process's end and its reason.
async fn greeting(
    process: &mut Process,
    run_dir: &Path,
    connected: impl Future<Output = Result<Connected, String>>,
) -> Result<Connected, String> {
    tokio::select! {
        status = process.ended() => Err(failure_text(run_dir, &describe_exit(status)).await),
        connected = tokio::time::timeout(GREETING_TIMEOUT, connected) => match connected {
            Ok(Ok(connected)) => Ok(connected),
            // Most likely it is about to end; what it says then is the better reason.
            Ok(Err(error)) => match tokio::time::timeout(Duration::from_secs(1), process.ended()).await {
                Ok(status) => Err(failure_text(run_dir, &describe_exit(status)).await),
                Err(_) => Err(error),
            },
            Err(_) => Err(format!("QEMU did not answer within {} s", GREETING_TIMEOUT.as_secs())),
        }
    }
}

/// Gives the process its CPU share; returns the groups to be removed when it has ended.
async fn enter_group(context: &Context, record: &Record, spec: &MachineSpec, pid: u32) -> Vec<PathBuf> {
    let Some(hierarchy) = context.hierarchy.clone() else { return Vec::new() };
    let share = Share {
        cpus: spec.cpu.sockets.saturating_mul(spec.cpu.cores_per_socket),
        fraction: spec.cpu.core_fraction,
        cap: context.cpu_cap,
    };
    let name = layout::file_name(&record.id.0);
    match blocking(move || cgroup::enter(&hierarchy, &name, share, pid)).await {
        Ok(group) => vec![group],
        Err(error) => {
            tracing::warn!(machine = %record.id.0, %error, "the CPU share is not enforced");
            Vec::new()
        }
    }
}

/// The machine type that this machine has had since its first start, so that a QEMU update does not change its
/// hardware; a new one only where the old one is gone.
fn pinned_machine_type(record: &mut Record, spec: &MachineSpec, facts: &probe::Facts) -> Result<String, String> {
    let family = command_line::machine_family(spec.os_type);
    if let Some(pinned) = record.machine_types.iter().find(|name| name.starts_with(family)) {
        if facts.machine_types.contains(pinned) {
            return Ok(pinned.clone());
        }
        tracing::warn!(machine = %record.id.0, %pinned, "this QEMU does not have the machine type any more");
    }
    let newest = probe::newest(&facts.machine_types, family)
        .ok_or_else(|| format!("this QEMU has no machine type {family}*"))?
        .to_owned();
    record.machine_types.retain(|name| !name.starts_with(family));
    record.machine_types.push(newest.clone());
    Ok(newest)
}

/// Directories, sockets, seed, firmware variables, logs.
async fn prepare(
    context: &Context,
    spec: &MachineSpec,
    machine_dir: &Path,
    run_dir: &Path,
) -> Result<Prepared, String> {
    let template = context.facts.firmware(spec.firmware)?.cloned();
    let secure = spec.firmware == Firmware::EfiSecureBoot;
    let spec = spec.clone();
    let layout = context.layout.clone();
    let (machine_dir, run_dir) = (machine_dir.to_owned(), run_dir.to_owned());
    tokio::task::spawn_blocking(move || {
        make_directories(&layout, &machine_dir, &run_dir).map_err(cannot("make the machine's directories"))?;
        if let Some(wanted) = &spec.seed {
            let bytes = seed::build(&spec, wanted).map_err(|error| error.to_string())?;
            write_owned(&layout, &run_dir.join(command_line::SEED_FILE), &bytes).map_err(cannot("write the seed"))?;
        }
        let firmware = match template {
            None => None,
            Some((code, variables)) => {
                let name = if secure { "efi-vars-secure.fd" } else { "efi-vars.fd" };
                let own = machine_dir.join(name);
                if !own.exists() {
                    let new = own.with_extension("new");
                    std::fs::copy(&variables, &new)
                        .and_then(|_| layout::set_mode(&new, 0o600))
                        .and_then(|()| layout.isolation.give(&new))
                        .and_then(|()| std::fs::rename(&new, &own))
                        .map_err(cannot("copy the firmware's variables"))?;
                }
                Some(FirmwareFiles { code, variables: own })
            }
        };
        let sockets = listen(&run_dir).map_err(cannot("make the machine's sockets"))?;
        let log = append(&run_dir.join(LOG)).map_err(cannot("make QEMU's log"))?;
        Ok(Prepared { sockets, log, firmware })
    })
    .await
    .map_err(|error| error.to_string())?
}

pub(super) fn make_directories(layout: &Layout, machine_dir: &Path, run_dir: &Path) -> io::Result<()> {
    layout::make_dir(machine_dir)?;
    if matches!(layout.isolation, layout::Isolation::Unprivileged { .. }) {
        layout.isolation.share(machine_dir)?;
    }
    let log = machine_dir.join(serial::LOG);
    append(&log)?;
    layout.isolation.give(&log)?;
    // Left over from a launch of the same number that did not get as far as a record.
    match std::fs::remove_dir_all(run_dir) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    layout::make_dir(run_dir)?;
    layout.isolation.give(run_dir)
}

pub(super) fn append(path: &Path) -> io::Result<File> {
    std::fs::OpenOptions::new().create(true).append(true).mode(0o600).open(path)
}

fn write_owned(layout: &Layout, path: &Path, bytes: &[u8]) -> io::Result<()> {
    layout::private_file(path)?.write_all(bytes)?;
    layout.isolation.give(path)
}

/// The listening sockets that QEMU inherits. Made here, they can be connected to before QEMU runs: nobody has
/// to wait for a file to appear.
pub(super) fn listen(run_dir: &Path) -> io::Result<[OwnedFd; 4]> {
    let directory = File::open(run_dir)?;
    let socket = |name: &str| -> io::Result<OwnedFd> { Ok(UnixListener::bind(fd_path(&directory, name))?.into()) };
    Ok([socket(QMP_SOCKET)?, socket(RESCUE_SOCKET)?, socket(SERIAL_SOCKET)?, socket(AGENT_SOCKET)?])
}

fn cannot(what: &str) -> impl Fn(io::Error) -> String {
    let what = what.to_owned();
    move |error| format!("cannot {what}: {error}")
}

/// QEMU's log.
pub(super) async fn read_log(run_dir: &Path) -> String {
    let path = run_dir.join(LOG);
    blocking(move || std::fs::read(path))
        .await
        .map(|log| String::from_utf8_lossy(&log).into_owned())
        .unwrap_or_default()
}

/// The reason QEMU gave in its log, or `otherwise`.
pub(super) async fn failure_text(run_dir: &Path, otherwise: &str) -> String {
    last_words(&read_log(run_dir).await).unwrap_or_else(|| otherwise.to_owned())
}

/// The last lines in which QEMU speaks of an error, without its own name and without trace lines.
fn last_words(log: &str) -> Option<String> {
    let lines: Vec<&str> = log
        .lines()
        .map(str::trim)
        .filter(|line| {
            !line.is_empty() && !line.starts_with("qemu_system_shutdown_request") && !line.contains("warning:")
        })
        .map(|line| line.split_once("qemu-system-x86_64: ").map_or(line, |(_, words)| words))
        .collect();
    let last = &lines[lines.len().saturating_sub(3)..];
    if last.is_empty() {
        return None;
    }
    let mut text = last.join("; ");
    if text.contains("Failed to get \"write\" lock") {
        text.push_str(" (the disk is used by another machine or process)");
    } else if text.contains("Could not access KVM kernel module") {
        text.push_str(" (set host.accel to \"tcg\" or \"auto\" to do without KVM)");
    }
    Some(text)
}

/// Removes what a launch leaves: its directory and control groups.
pub(super) async fn clean_up(run_dir: PathBuf, cgroups: Vec<PathBuf>) {
    let done = blocking(move || {
        for group in &cgroups {
            cgroup::remove(group);
        }
        match std::fs::remove_dir_all(&run_dir) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
            _ => Ok(()),
        }
    });
    if let Err(error) = done.await {
        tracing::warn!(%error, "cannot remove a launch directory");
    }
}

/// Layers of a device and how many there are, for a hot-plugged one.
pub(super) fn device_layers(context: &Context, device: &super::BlockDevice) -> Result<Vec<Layer>, String> {
    context.volumes.layers(&device.volume)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn qemus_last_words_are_the_reason() {
        let log = "qemu-system-x86_64: warning: something odd\n\
                   qemu-system-x86_64: -blockdev {}: Failed to get \"write\" lock\nIs another process using the image [/x]?\n";
        let text = last_words(log).unwrap();
        assert!(text.starts_with("-blockdev"), "{text}");
        assert!(text.ends_with("(the disk is used by another machine or process)"), "{text}");
        assert_eq!(last_words("qemu_system_shutdown_request reason=6\n"), None);
    }
}
