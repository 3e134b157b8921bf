//! Status of a machine, written whole from what was observed. Pure.

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use kube::{Resource, ResourceExt};
use serde_json::Value;

use super::super::address::automatic_name;
use super::super::wording::duration;
use super::block_devices;
use super::changes::Pending;
use super::gate::{Check, quiet};
use super::gather::{AddressFact, Gathered};
use super::placement::room::{format_milli, overhead, requested_milli_cpus};
use super::power::exists;
use super::surroundings::Leave;
use super::translate::{core_fraction, mac, topology};
use crate::host::{EndReason, MachineState, MigrationOutcome, VolumeInfo};
use crate::types::condition::{self, Status};
use crate::types::quantity::format_bytes;
use crate::types::{
    BlockDeviceKind, Condition, CpuStatus, LaunchTimeDuration, MachinePhase, MachineStats, MachineVersions,
    MemoryStatus, MigrationEnd, MigrationState, NetworkStatus, PhaseTransition, Quantity, ResourcesStatus,
    VirtualMachineSpec, VirtualMachineStatus,
};

/// Phase transitions kept.
const TRANSITIONS: usize = 5;

/// What the report is made from.
pub struct Facts<'a> {
    /// The facts.
    pub g: &'a Gathered,
    /// The gate's conditions.
    pub checks: &'a [Check],
    /// An instance is owed or there.
    pub wanted_on: bool,
    /// Why a machine that is wanted on is not being started although the gate is open: placement, back-off.
    pub waiting: Option<&'a str>,
    /// Changes of the spec.
    pub pending: &'a Pending,
    /// Hot-plugged devices: kind, name, facts, attachment.
    pub plugged: &'a [Plugged],
    /// Name of the node.
    pub node: &'a str,
    /// Guests are emulated (which costs memory).
    pub emulated: bool,
    /// The taint for which the instance has to leave the node.
    pub leave: Option<&'a Leave>,
    /// QEMU's version.
    pub qemu: Option<&'a str>,
    /// When the current phase began, as exactly as we know.
    pub phase_since: Option<Timestamp>,
    /// Now.
    pub now: Timestamp,
}

/// A hot-plugged device that the instance has.
#[derive(Debug, Clone)]
pub struct Plugged {
    /// Kind of its object.
    pub kind: BlockDeviceKind,
    /// Name of its object.
    pub name: String,
    /// Its volume.
    pub info: Option<VolumeInfo>,
    /// Name of the attachment.
    pub attachment: Option<String>,
}

/// The phase.
pub fn phase(f: &Facts<'_>) -> MachinePhase {
    if f.g.vm.meta().deletion_timestamp.is_some() {
        return MachinePhase::Terminating;
    }
    match f.g.observation.state {
        MachineState::Starting => MachinePhase::Starting,
        MachineState::Running { .. } if f.g.observation.migration.is_some() => MachinePhase::Migrating,
        MachineState::Running { .. } => MachinePhase::Running,
        MachineState::Paused { .. } => MachinePhase::Pause,
        MachineState::Stopping => MachinePhase::Stopping,
        MachineState::Absent | MachineState::Ended { .. } if f.g.maintenance.is_some() => MachinePhase::Stopped,
        MachineState::Absent | MachineState::Ended { .. } if f.wanted_on => MachinePhase::Pending,
        MachineState::Absent | MachineState::Ended { .. } => MachinePhase::Stopped,
    }
}

/// The whole status.
pub fn report(f: &Facts<'_>) -> VirtualMachineStatus {
    let g = f.g;
    let old = g.vm.status.clone().unwrap_or_default();
    let phase = phase(f);
    let up = exists(&g.observation.state);
    let running_spec = g.applied.as_ref().unwrap_or(&g.vm.spec);
    let (address_name, address) = address(g, &old, up);
    let mut new = VirtualMachineStatus {
        phase: Some(phase),
        node_name: up.then(|| f.node.to_owned()),
        networks: networks(g, address.as_deref()),
        virtual_machine_ip_address_name: address_name,
        ip_address: address,
        block_device_refs: Some(block_devices::list(
            f,
            running_spec,
            old.block_device_refs.as_deref().unwrap_or_default(),
        )),
        guest_os_info: guest_os(g).filter(|_| up),
        resources: Some(resources(running_spec, f.emulated)),
        restart_awaiting_changes: f.pending.waits().then(|| f.pending.entries.clone()),
        stats: Some(stats(f, &old, phase)),
        migration_state: migration_state(f).or_else(|| old.migration_state.clone()),
        versions: instance_qemu(f).filter(|_| up).map(|v| MachineVersions { qemu: Some(v.to_owned()), libvirt: None }),
        observed_generation: g.vm.meta().generation,
        ..VirtualMachineStatus::default()
    };
    new.conditions = Some(conditions(f, old.conditions.unwrap_or_default(), phase));
    new
}

/// Name and address to show. What a running machine has is not replaced, unless its instance is a new one that was
/// started with another: a restart may be too quick for the state between to be seen.
fn address(g: &Gathered, old: &VirtualMachineStatus, up: bool) -> (Option<String>, Option<String>) {
    let has = |spec: &VirtualMachineSpec| spec.virtual_machine_ip_address_name.clone();
    let started_with = g.applied.as_ref().map_or_else(|| has(&g.vm.spec), has);
    let shown = old.virtual_machine_ip_address_name.as_deref();
    let still = match &started_with {
        Some(name) => shown == Some(name.as_str()),
        None => shown == Some(automatic_name(&g.vm).as_str()),
    };
    if up && old.ip_address.is_some() && (still || started_with != has(&g.vm.spec)) {
        return (old.virtual_machine_ip_address_name.clone(), old.ip_address.clone());
    }
    match &g.address {
        AddressFact::None => (None, None),
        AddressFact::Ready { name, address } => (Some(name.clone()), Some(address.to_string())),
        AddressFact::Missing { name, .. } | AddressFact::NotBound { name, .. } | AddressFact::Taken { name, .. } => {
            (Some(name.clone()), None)
        }
    }
}

/// What the guest agent says of the guest's system.
fn guest_os(g: &Gathered) -> Option<Value> {
    let told = &g.observation.guest_os;
    (!told.is_empty())
        .then(|| told.iter().map(|(name, value)| (name.clone(), Value::from(value.as_str()))).collect::<Value>())
}

fn networks(g: &Gathered, address: Option<&str>) -> Option<Vec<NetworkStatus>> {
    if g.address == AddressFact::None {
        return None;
    }
    let mac = mac(&g.vm.uid().unwrap_or_default());
    let text = mac.iter().map(|b| format!("{b:02x}")).collect::<Vec<_>>().join(":");
    Some(vec![NetworkStatus {
        id: Some(1),
        type_: "Main".into(),
        name: None,
        mac_address: Some(text),
        virtual_machine_mac_address_name: None,
        ip_address: address.map(str::to_owned),
    }])
}

fn resources(spec: &VirtualMachineSpec, emulated: bool) -> ResourcesStatus {
    let cores = spec.cpu.cores;
    ResourcesStatus {
        cpu: CpuStatus {
            cores,
            core_fraction: Some(format!("{}%", core_fraction(spec))),
            requested_cores: Some(Quantity(format_milli(requested_milli_cpus(&spec.cpu)))),
            // QEMU's own threads share what the machine is promised.
            runtime_overhead: Some(Quantity("0".into())),
            topology: Some(topology(cores)),
        },
        memory: MemoryStatus {
            size: spec.memory.size.clone(),
            runtime_overhead: Some(Quantity(format_bytes(overhead(spec, emulated)))),
        },
    }
}

fn stats(f: &Facts<'_>, old: &VirtualMachineStatus, phase: MachinePhase) -> MachineStats {
    let mut stats = old.stats.clone().unwrap_or_default();
    let mut transitions = stats.phases_transitions.take().unwrap_or_default();
    let before = transitions.last().map(|t| t.phase);
    if before != Some(phase) {
        transitions.push(PhaseTransition { phase, timestamp: Some(Time(f.now)) });
        let excess = transitions.len().saturating_sub(TRANSITIONS);
        transitions.drain(..excess);
        let mut took = stats.launch_time_duration.take().unwrap_or_default();
        if phase == MachinePhase::Pending {
            took = LaunchTimeDuration::default();
        }
        if let (Some(from), Some(before)) = (f.phase_since, before) {
            match (before, phase, &f.g.observation.state) {
                (MachinePhase::Pending, MachinePhase::Starting, _) => {
                    took.waiting_for_dependencies = Some(duration(from, f.now));
                }
                (MachinePhase::Starting, MachinePhase::Running, MachineState::Running { since }) => {
                    took.virtual_machine_starting = Some(duration(from, (*since).max(from)));
                }
                _ => {}
            }
        }
        stats.launch_time_duration = (took != LaunchTimeDuration::default()).then_some(took);
    }
    if let (MachineState::Running { since }, true, Some(took)) =
        (&f.g.observation.state, f.g.observation.agent_connected, stats.launch_time_duration.as_mut())
    {
        took.guest_os_agent_starting.get_or_insert_with(|| duration(*since, f.now));
    }
    stats.last_start_time = match f.g.observation.state {
        MachineState::Running { since } => Some(Time(since)),
        _ => None,
    };
    stats.phases_transitions = Some(transitions);
    stats
}

fn conditions(f: &Facts<'_>, old: Vec<Condition>, phase: MachinePhase) -> Vec<Condition> {
    let generation = f.g.vm.meta().generation;
    let mut all: Vec<Condition> = Vec::new();
    let mut set = |type_: &str, status: Status, reason: &str, message: String| {
        // Carry the old one over first, so that its transition time stays if the status does.
        all.extend(condition::find(&old, type_).cloned());
        condition::set(&mut all, type_, status, reason, message, generation, f.now);
    };
    if let Some(operation) = &f.g.maintenance {
        // Hides all others: of a machine that is being taken apart they would only alarm.
        let message = format!("VirtualMachineOperation {operation} restores the machine and keeps it off meanwhile.");
        set("Maintenance", Status::True, "RestoreInProgress", message);
        return all;
    }
    for check in f.checks {
        set(check.type_, check.status, check.reason, check.message.clone());
    }
    let (status, reason, message) = running(f);
    set("Running", status, reason, message);
    if !quiet(phase) && phase != MachinePhase::Terminating {
        let connected = f.g.observation.agent_connected;
        let reason = if connected { "AgentReady" } else { "AgentNotReady" };
        let message = if connected { "" } else { "The guest agent does not answer; the guest may not have one." };
        set("AgentReady", connected.into(), reason, message.into());
        if f.pending.waits() {
            set("ConfigurationApplied", Status::False, "ConfigurationNotApplied", not_applied(f));
            let message = match f.pending.entries.len() {
                1 => "1 change takes effect at the next restart.".to_owned(),
                n => format!("{n} changes take effect at the next restart."),
            };
            set("AwaitingRestartToApplyConfiguration", Status::True, "ChangesPendingRestart", message);
        }
    }
    if f.g.observation.frozen.is_some() {
        set("FilesystemFrozen", Status::True, "Frozen", "The guest's file systems are frozen.".to_owned());
    }
    if f.g.observation.migration.is_some() {
        // How far it is stands in the operation: here it would be a write of the machine for every number.
        set("Migrating", Status::True, "InProgress", "It moves into a fresh QEMU on this node.".to_owned());
    }
    if let Some(leave) = f.leave {
        let message = format!(
            "The node has the taint {}, which the machine does not tolerate: it is stopped at {}. Add a toleration, \
             or remove the taint.",
            leave.taint,
            leave.at.strftime("%H:%M:%S UTC")
        );
        set("EvictionRequired", Status::True, "EvictionRequired", message);
    }
    if let (Some(runs), Some(installed)) = (instance_qemu(f), f.qemu)
        && exists(&f.g.observation.state)
        && runs != installed
    {
        let message = format!("The machine runs on QEMU {runs}, {installed} is installed: migrate or restart it.");
        set("FirmwareUpToDate", Status::False, "FirmwareOutOfDate", message);
    }
    let (status, reason, message) = migratable(f);
    set("Migratable", status, reason, message);
    all
}

/// Version of the QEMU that executes the guest. Records of older releases do not tell.
fn instance_qemu<'a>(f: &Facts<'a>) -> Option<&'a str> {
    f.g.observation.qemu_version.as_deref().or(f.qemu)
}

/// The migration under way, or the newest one of this instance.
fn migration_state(f: &Facts<'_>) -> Option<MigrationState> {
    let end = MigrationEnd { node: Some(f.node.to_owned()), pod: None };
    let state = |since, at: Option<Timestamp>, result: &str| MigrationState {
        start_timestamp: Some(Time(since)),
        end_timestamp: at.map(Time),
        source: Some(end.clone()),
        target: Some(end.clone()),
        result: Some(result.to_owned()),
    };
    let observation = &f.g.observation;
    match (&observation.migration, &observation.last_migration) {
        (Some(going), _) => Some(state(going.since, None, "")),
        (None, Some(over)) => {
            let result = match over.outcome {
                MigrationOutcome::Succeeded { .. } => "Succeeded",
                MigrationOutcome::Failed { .. } | MigrationOutcome::Cancelled => "Failed",
            };
            Some(state(over.since, Some(over.at), result))
        }
        (None, None) => None,
    }
}

fn not_applied(f: &Facts<'_>) -> String {
    match super::gate::blocker(f.checks) {
        Some(check) => format!("A restart now would leave the machine down: {}", check.message),
        None => "The running machine has an older configuration: restart it to apply the changes.".into(),
    }
}

fn running(f: &Facts<'_>) -> (Status, &'static str, String) {
    match &f.g.observation.state {
        MachineState::Running { .. } => {
            (Status::True, "Running", f.g.observation.network_problem.clone().unwrap_or_default())
        }
        MachineState::Paused { status } => {
            (Status::False, "GuestNotRunning", format!("The guest is held (QEMU says: {status})."))
        }
        MachineState::Starting => (Status::False, "PodNotStarted", "QEMU is being started.".into()),
        MachineState::Stopping => (Status::False, "PodTerminating", "The guest is being shut down.".into()),
        MachineState::Ended { reason, .. } => {
            let what = ended(reason);
            let text = match (f.wanted_on, f.waiting) {
                (true, Some(waiting)) => format!("{what} {waiting}"),
                _ => what,
            };
            let failed = !matches!(reason, EndReason::GuestShutdown | EndReason::GuestReset | EndReason::Requested);
            let reason = match (failed, f.wanted_on && f.waiting.is_some()) {
                (true, _) => "InternalVirtualMachineError",
                (false, true) => "PodNotStarted",
                (false, false) => "NotRunning",
            };
            (Status::False, reason, text.trim().to_owned())
        }
        MachineState::Absent => match (f.wanted_on, f.waiting) {
            (true, Some(waiting)) => (Status::False, "PodNotStarted", waiting.to_owned()),
            _ => (Status::False, "NotRunning", String::new()),
        },
    }
}

fn ended(reason: &EndReason) -> String {
    match reason {
        EndReason::GuestShutdown => "The guest powered itself off.".into(),
        EndReason::GuestReset => "The guest asked for a reboot.".into(),
        EndReason::GuestPanic => "The guest's kernel panicked.".into(),
        EndReason::Requested => String::new(),
        EndReason::Crashed { detail } => format!("QEMU ended unexpectedly: {detail}"),
        EndReason::StartFailed { detail } => format!("The last start failed: {detail}"),
    }
}

fn migratable(f: &Facts<'_>) -> (Status, &'static str, String) {
    let no = |message: String| (Status::False, "VirtualMachineNonMigratable", message);
    if !exists(&f.g.observation.state) {
        return no("The machine has no instance.".to_owned());
    }
    match &f.g.observation.not_migratable {
        Some(why) => no(format!("The machine cannot be migrated: {why}.")),
        None => (
            Status::True,
            "VirtualMachineMigratable",
            "It can move into a fresh QEMU on this node; another node needs a cluster.".to_owned(),
        ),
    }
}

#[cfg(test)]
mod tests;
