//! upstream.md 3, 4.1 and 4.3 as tables: which phase, which conditions with which reasons, which fields.

use serde_json::json;

use super::super::gate::tests::{device, gathered};
use super::super::surroundings::Leave;
use super::*;
use crate::host::{AttachedDevice, Migration, MigrationStage, VolumeId, VolumeKind};

fn at(second: i64) -> Timestamp {
    Timestamp::from_second(second).unwrap()
}

fn ended(reason: EndReason) -> MachineState {
    MachineState::Ended { reason, at: at(5) }
}

fn machine(state: MachineState) -> Gathered {
    let mut g = gathered();
    g.observation.state = state;
    g.observation.launch = 1;
    if exists(&g.observation.state) {
        g.applied = Some(g.vm.spec.clone());
        g.observation.devices = vec![AttachedDevice {
            id: "vd-root".into(),
            volume: VolumeId { kind: VolumeKind::Disk, uid: "root".into() },
            hotplugged: false,
        }];
    }
    g
}

fn running_machine() -> Gathered {
    machine(MachineState::Running { since: at(1) })
}

fn migration() -> Migration {
    Migration {
        number: 1,
        since: at(2),
        stage: MigrationStage::Copying,
        processed: 0,
        remaining: 0,
        total: 0,
        rate: 0,
        throttle: 0,
    }
}

struct Given {
    g: Gathered,
    wanted_on: bool,
    waiting: Option<&'static str>,
    pending: Pending,
    leave: Option<Leave>,
    plugged: Vec<Plugged>,
    installed: &'static str,
}

impl Given {
    fn of(g: Gathered) -> Self {
        Self {
            g,
            wanted_on: true,
            waiting: None,
            pending: Pending::default(),
            leave: None,
            plugged: vec![],
            installed: "10.0",
        }
    }

    fn report(&self) -> VirtualMachineStatus {
        let checks = super::super::gate::checks(&self.g);
        report(&Facts {
            g: &self.g,
            checks: &checks,
            wanted_on: self.wanted_on,
            waiting: self.waiting,
            pending: &self.pending,
            plugged: &self.plugged,
            node: "node",
            emulated: false,
            leave: self.leave.as_ref(),
            qemu: Some(self.installed),
            phase_since: Some(at(0)),
            now: at(10),
        })
    }

    fn conditions(&self) -> Vec<(String, String, String)> {
        let all = self.report().conditions.unwrap();
        all.into_iter().map(|c| (c.type_, c.status, c.reason)).collect()
    }
}

/// The condition as `status/reason`; empty when it is not shown.
fn shown(given: &Given, type_: &str) -> String {
    let found = given.conditions().into_iter().find(|(t, _, _)| t == type_);
    found.map_or_else(String::new, |(_, status, reason)| format!("{status}/{reason}"))
}

/// upstream.md 4.1, with the reason of Running (4.3).
#[test]
fn phases_and_why_it_runs_or_not() {
    let crashed = || EndReason::Crashed { detail: "killed".into() };
    let failed = || EndReason::StartFailed { detail: "no memory".into() };
    let paused = || MachineState::Paused { status: "io-error".into() };
    let moving = || {
        let mut g = running_machine();
        g.observation.migration = Some(migration());
        g
    };
    for (name, g, wanted_on, waiting, phase, running) in [
        ("never started", machine(MachineState::Absent), false, None, MachinePhase::Stopped, "False/NotRunning"),
        ("waits", machine(MachineState::Absent), true, Some("0/1 nodes"), MachinePhase::Pending, "False/PodNotStarted"),
        ("about to start", machine(MachineState::Absent), true, None, MachinePhase::Pending, "False/NotRunning"),
        ("starting", machine(MachineState::Starting), true, None, MachinePhase::Starting, "False/PodNotStarted"),
        ("running", running_machine(), true, None, MachinePhase::Running, "True/Running"),
        ("moving", moving(), true, None, MachinePhase::Migrating, "True/Running"),
        ("held", machine(paused()), true, None, MachinePhase::Pause, "False/GuestNotRunning"),
        ("stopping", machine(MachineState::Stopping), false, None, MachinePhase::Stopping, "False/PodTerminating"),
        ("stopped", machine(ended(EndReason::Requested)), false, None, MachinePhase::Stopped, "False/NotRunning"),
        (
            "off by itself",
            machine(ended(EndReason::GuestShutdown)),
            false,
            None,
            MachinePhase::Stopped,
            "False/NotRunning",
        ),
        (
            "stopped and waits",
            machine(ended(EndReason::Requested)),
            true,
            Some("0/1 nodes"),
            MachinePhase::Pending,
            "False/PodNotStarted",
        ),
        ("crashed", machine(ended(crashed())), false, None, MachinePhase::Stopped, "False/InternalVirtualMachineError"),
        (
            "failed to start",
            machine(ended(failed())),
            true,
            Some("The next attempt is at"),
            MachinePhase::Pending,
            "False/InternalVirtualMachineError",
        ),
        (
            "panicked",
            machine(ended(EndReason::GuestPanic)),
            false,
            None,
            MachinePhase::Stopped,
            "False/InternalVirtualMachineError",
        ),
    ] {
        let given = Given { wanted_on, waiting, ..Given::of(g) };
        assert_eq!(given.report().phase, Some(phase), "{name}");
        assert_eq!(shown(&given, "Running"), running, "{name}");
    }
    let mut going = running_machine();
    let mut vm = going.vm.as_ref().clone();
    vm.metadata.deletion_timestamp = Some(Time(at(3)));
    going.vm = std::sync::Arc::new(vm);
    assert_eq!(Given::of(going).report().phase, Some(MachinePhase::Terminating), "deletion wins over everything");
}

/// upstream.md 4.3, column "Shown": what is hidden in Pending, Starting and Stopped.
#[test]
fn conditions_of_a_running_guest_are_hidden_in_quiet_phases() {
    let pending = || Pending { entries: vec![json!({"path": "cpu.cores"})], note: None };
    let with_agent = || {
        let mut g = running_machine();
        g.observation.agent_connected = true;
        g
    };
    for (name, g, agent, applied, awaiting) in [
        (
            "running",
            running_machine(),
            "False/AgentNotReady",
            "False/ConfigurationNotApplied",
            "True/ChangesPendingRestart",
        ),
        ("agent", with_agent(), "True/AgentReady", "False/ConfigurationNotApplied", "True/ChangesPendingRestart"),
        ("starting", machine(MachineState::Starting), "", "", ""),
        ("stopped", machine(MachineState::Absent), "", "", ""),
    ] {
        let given = Given { pending: pending(), wanted_on: false, ..Given::of(g) };
        assert_eq!(shown(&given, "AgentReady"), agent, "{name}");
        assert_eq!(shown(&given, "ConfigurationApplied"), applied, "{name}");
        assert_eq!(shown(&given, "AwaitingRestartToApplyConfiguration"), awaiting, "{name}");
    }
    let quiet = Given::of(running_machine());
    assert_eq!(shown(&quiet, "ConfigurationApplied"), "", "shown only when False");
    assert_eq!(shown(&quiet, "AwaitingRestartToApplyConfiguration"), "", "shown only when True");
    let mut closed = running_machine();
    closed.class = None;
    let given = Given { pending: pending(), ..Given::of(closed) };
    let message = given.report().conditions.unwrap().into_iter().find(|c| c.type_ == "ConfigurationApplied");
    let message = message.unwrap().message;
    assert!(message.starts_with("A restart now would leave the machine down: VirtualMachineClass host"), "{message}");
}

#[test]
fn conditions_that_come_and_go() {
    let old_qemu = || {
        let mut g = running_machine();
        g.observation.qemu_version = Some("9.2".into());
        g
    };
    let stuck = || {
        let mut g = running_machine();
        g.observation.not_migratable = Some("it has a device".into());
        g
    };
    let moving = || {
        let mut g = running_machine();
        g.observation.migration = Some(migration());
        g
    };
    let tainted = || Leave { taint: "k:NoExecute".into(), at: at(60) };
    for (type_, given, expected) in [
        ("FirmwareUpToDate", Given::of(old_qemu()), "False/FirmwareOutOfDate"),
        ("FirmwareUpToDate", Given::of(running_machine()), ""),
        ("Migratable", Given::of(running_machine()), "True/VirtualMachineMigratable"),
        ("Migratable", Given::of(stuck()), "False/VirtualMachineNonMigratable"),
        ("Migratable", Given::of(machine(MachineState::Absent)), "False/VirtualMachineNonMigratable"),
        ("Migrating", Given::of(moving()), "True/InProgress"),
        ("Migrating", Given::of(running_machine()), ""),
        ("EvictionRequired", Given { leave: Some(tainted()), ..Given::of(running_machine()) }, "True/EvictionRequired"),
        ("EvictionRequired", Given::of(running_machine()), ""),
        ("SizingPolicyMatched", Given::of(running_machine()), ""),
        ("ProvisioningReady", Given::of(running_machine()), ""),
    ] {
        assert_eq!(shown(&given, type_), expected, "{type_}");
    }
}

/// upstream.md 3: resources are those of the instance while there is one, and of the spec otherwise.
#[test]
fn resources_of_the_instance_or_of_the_spec() {
    let mut g = running_machine();
    let mut vm = g.vm.as_ref().clone();
    vm.spec.cpu.cores = 4;
    vm.spec.cpu.core_fraction = Some("25%".into());
    g.vm = std::sync::Arc::new(vm);
    let cpu = |g: &Gathered| Given::of(g.clone()).report().resources.unwrap().cpu;
    assert_eq!((cpu(&g).cores, cpu(&g).core_fraction.as_deref()), (1, Some("100%")));
    g.observation.state = MachineState::Absent;
    g.applied = None;
    assert_eq!((cpu(&g).cores, cpu(&g).core_fraction.as_deref()), (4, Some("25%")));
    assert_eq!(cpu(&g).requested_cores, Some(Quantity("1".into())));
    assert_eq!(cpu(&g).topology.map(|t| (t.sockets, t.cores_per_socket)), Some((1, 4)));
}

/// The guide's lsblk: the root disk, the medium with the first configuration behind it, then what is hot-plugged.
#[test]
fn block_devices_with_their_names() {
    let mut g = running_machine();
    let mut vm = g.vm.as_ref().clone();
    vm.spec.provisioning = serde_json::from_value(json!({"type": "UserData", "userData": "x"})).unwrap();
    g.applied = Some(vm.spec.clone());
    g.vm = std::sync::Arc::new(vm);
    let disk = |name: &str| Plugged {
        kind: BlockDeviceKind::VirtualDisk,
        name: name.into(),
        info: device(name).info,
        attachment: Some(format!("attach-{name}")),
    };
    let given = Given { plugged: vec![disk("blank"), disk("more")], ..Given::of(g.clone()) };
    let status = given.report();
    let refs = status.block_device_refs.clone().unwrap();
    let names: Vec<_> = refs.iter().map(|r| (r.name.as_str(), r.target.as_deref().unwrap_or(""))).collect();
    assert_eq!(names, [("root", "sda"), ("blank", "sdc"), ("more", "sdd")]);
    assert_eq!(refs.iter().map(|r| r.hotplugged).collect::<Vec<_>>(), [None, Some(true), Some(true)]);
    assert_eq!(refs[1].virtual_machine_block_device_attachment_name.as_deref(), Some("attach-blank"));
    assert_eq!(refs[0].virtual_machine_block_device_attachment_name, None);
    assert!(refs.iter().all(|r| r.attached));

    // One goes: the other keeps its name, and the next one gets the free one.
    let mut vm = g.vm.as_ref().clone();
    vm.status = Some(status);
    let g = Gathered { vm: std::sync::Arc::new(vm), ..g };
    let given = Given { plugged: vec![disk("more"), disk("third")], ..Given::of(g.clone()) };
    let refs = given.report().block_device_refs.unwrap();
    let names: Vec<_> = refs.iter().map(|r| (r.name.as_str(), r.target.as_deref().unwrap_or(""))).collect();
    assert_eq!(names, [("root", "sda"), ("more", "sdd"), ("third", "sdc")]);

    // Off: the spec's list, nothing attached, no names.
    let mut off = g;
    off.observation.state = MachineState::Absent;
    off.observation.devices.clear();
    off.applied = None;
    let refs = Given { wanted_on: false, ..Given::of(off) }.report().block_device_refs.unwrap();
    assert_eq!(refs.len(), 1);
    assert_eq!((refs[0].attached, refs[0].target.as_deref(), refs[0].size.as_str()), (false, None, "1"));
}

/// upstream.md 3, `stats`.
#[test]
fn transitions_and_durations() {
    let mut g = running_machine();
    g.observation.agent_connected = true;
    let mut vm = g.vm.as_ref().clone();
    let transition = |phase| PhaseTransition { phase, timestamp: Some(Time(at(0))) };
    let before = [MachinePhase::Stopped, MachinePhase::Pending, MachinePhase::Starting];
    vm.status = Some(VirtualMachineStatus {
        phase: Some(MachinePhase::Starting),
        stats: Some(MachineStats {
            phases_transitions: Some([before[0], before[1], before[0], before[1], before[2]].map(transition).to_vec()),
            ..MachineStats::default()
        }),
        ..VirtualMachineStatus::default()
    });
    g.vm = std::sync::Arc::new(vm);
    let stats = Given::of(g).report().stats.unwrap();
    let phases: Vec<_> = stats.phases_transitions.unwrap().iter().map(|t| t.phase).collect();
    assert_eq!(phases.len(), 5, "the last five");
    assert_eq!(phases.last(), Some(&MachinePhase::Running));
    let took = stats.launch_time_duration.unwrap();
    assert_eq!(took.virtual_machine_starting.as_deref(), Some("1s"));
    assert_eq!(took.guest_os_agent_starting.as_deref(), Some("9s"));
    assert_eq!(stats.last_start_time, Some(Time(at(1))));
}
