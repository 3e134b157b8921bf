//! VirtualMachine: gather, decide, act, report.
//!
//! [`gather`] looks everything up; [`gate`] and [`placement`] say whether a start is possible; [`power`] decides
//! the next step; [`translate`] makes what the host starts; [`changes`] and [`status`] make the report;
//! [`cleanup`] is the end of a machine; [`backoff`] spaces out starts that fail.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use kube::runtime::controller::Action;
use kube::{Resource, ResourceExt};
use parking_lot::Mutex;
use serde_json::json;

use super::address::automatic;
use super::cache::Watched;
use super::devices::lookup;
use super::graph::{Key, Kind};
use super::write::finalizers;
use super::{Context, Error};
use crate::host::{MachineState, Step, VolumeKind, VolumeState};
use crate::types::condition;
use crate::types::{
    BlockDeviceKind, MachinePhase, RestartApprovalMode, RunPolicy, VirtualMachine, VirtualMachineStatus,
};

pub mod backoff;
pub mod block_devices;
pub mod changes;
mod cleanup;
pub mod gate;
pub mod gather;
pub mod placement;
pub mod power;
pub mod provision;
pub mod status;
pub mod surroundings;
pub mod translate;

use backoff::Attempts;
use gather::{AddressFact, Gathered, gather};
use power::{Cause, Decision, Deed, Memory, Notice, Situation};
use status::{Facts, Plugged};
use surroundings::{Leave, leave, verdict};

/// Held until the machine is stopped and everything it had on this computer is gone.
pub const FINALIZER: &str = "virtualization.deckhouse.io/vm-cleanup";

/// What is kept of all machines between reconciles, in memory only.
#[derive(Default)]
pub struct Shared {
    attempts: Mutex<HashMap<String, Attempts>>,
    phases: Mutex<HashMap<String, (MachinePhase, Timestamp)>>,
    /// Taint that drives a launch of a machine away, and when it was first seen.
    taints: Mutex<HashMap<String, (String, u64, Timestamp)>>,
    /// Labels of the machines that have an instance, as others were last told.
    labels: Mutex<HashMap<String, std::collections::BTreeMap<String, String>>>,
    /// Held while somebody checks for room and disks and then starts: of two machines that want the same disk
    /// one must see the other.
    starting: Mutex<()>,
}

impl Shared {
    fn forget(&self, uid: &str) {
        self.attempts.lock().remove(uid);
        self.phases.lock().remove(uid);
        self.taints.lock().remove(uid);
        self.labels.lock().remove(uid);
    }

    /// Whether the labels of a machine that others may be placed by have changed.
    fn relabelled(&self, vm: &VirtualMachine) -> bool {
        let (Some(uid), labels) = (vm.uid(), vm.labels().clone()) else { return false };
        let before = self.labels.lock().insert(uid, labels.clone());
        before.is_some_and(|before| before != labels)
    }

    /// When the phase that the status shows began, as far as this process has seen.
    fn phase_since(&self, uid: &str, shown: Option<MachinePhase>) -> Option<Timestamp> {
        let known = self.phases.lock().get(uid).copied();
        known.filter(|(phase, _)| Some(*phase) == shown).map(|(_, since)| since)
    }

    fn note_phase(&self, uid: &str, phase: MachinePhase, now: Timestamp) {
        let mut phases = self.phases.lock();
        match phases.get(uid) {
            Some((known, _)) if *known == phase => {}
            _ => {
                phases.insert(uid.to_owned(), (phase, now));
            }
        }
    }
}

/// What a pass came to.
struct Outcome {
    decision: Decision,
    /// Why a wanted machine is not started although its gate is open.
    waiting: Option<String>,
    /// Look again then.
    until: Option<Timestamp>,
    /// A taint for which the instance has to leave the node.
    leave: Option<Leave>,
    /// Preferences that a start would not meet.
    unmet: Vec<String>,
}

/// One look at one machine.
pub async fn reconcile(vm: Arc<VirtualMachine>, ctx: Arc<Context>) -> Result<Action, Error> {
    if vm.meta().deletion_timestamp.is_some() {
        return cleanup::run(vm, &ctx).await;
    }
    let mut g = gather(vm, &ctx);
    let mut checks = gate::checks(&g);
    let mut outcome = decide(&g, &checks, &ctx);
    if prepare(&g, &outcome.decision, &ctx).await? {
        g = gather(ctx.machines.newest(g.vm), &ctx);
        checks = gate::checks(&g);
        outcome = decide(&g, &checks, &ctx);
    }
    if act(&g, &mut outcome, &ctx) {
        g.observation = ctx.host.observe(&g.id);
        g.applied = super::devices::note_spec(&g.observation);
    }
    let pending = apply_changes(&g, &ctx);
    let status = make_report(&g, &checks, &outcome, &pending, &ctx);
    announce(&g, &status, &ctx);
    ctx.report(&ctx.machines, g.vm.as_ref(), g.vm.status.as_ref(), &status).await?;
    Ok(match outcome.until {
        Some(until) => Action::requeue(until.duration_since(ctx.now()).unsigned_abs().max(Duration::from_millis(1))),
        None => Action::await_change(),
    })
}

fn decide(g: &Gathered, checks: &[gate::Check], ctx: &Context) -> Outcome {
    let gate_open = gate::is_open(checks);
    let waits = changes::pending(g).waits();
    let automatic = g.vm.spec.disruptions.restart_approval_mode == RestartApprovalMode::Automatic;
    let leave = leave(g, ctx);
    let situation = Situation {
        policy: g.vm.spec.run_policy,
        memory: memory(&g.vm, g.observation.launch),
        state: &g.observation.state,
        launch: g.observation.launch,
        request: g.request.as_ref(),
        gate_open,
        maintenance: g.maintenance.as_deref(),
        restart_due: waits && automatic && g.vm.spec.run_policy != RunPolicy::AlwaysOff,
        evicted_by: leave.as_ref().filter(|l| l.at <= ctx.now()).map(|l| l.taint.as_str()),
    };
    let mut decision = power::decide(&situation);
    let mut waiting = None;
    let mut until = leave.as_ref().map(|l| l.at).filter(|at| *at > ctx.now());
    let mut unmet = vec![];
    if decision.deed == Deed::Start {
        let seen = verdict(&g.vm, g.class.as_deref(), ctx);
        (waiting, unmet) = (seen.obstacle, seen.unmet);
        if waiting.is_some() {
            decision.deed = Deed::None;
            decision.notice = None;
        }
    }
    if let (Deed::Start, MachineState::Ended { reason, at }) = (decision.deed, &g.observation.state) {
        let uid = g.id.0.clone();
        let mut attempts = ctx.machine_memory.attempts.lock();
        let generation = g.vm.meta().generation.unwrap_or(0);
        let next = attempts.entry(uid).or_default().next_start(g.observation.launch, reason, *at, generation);
        if let Some(next) = next.filter(|t| *t > ctx.now()) {
            decision.deed = Deed::None;
            decision.notice = None;
            waiting = Some(format!("The next attempt is at {}.", next.strftime("%H:%M:%S UTC")));
            until = Some(next);
        }
    }
    Outcome { decision, waiting, until, leave, unmet }
}

/// The annotation. Where somebody removed it (a replace that does not carry it), the status still tells that the
/// machine was stopped.
fn memory(vm: &VirtualMachine, launch: u64) -> Option<Memory> {
    let recorded = vm.annotations().get(power::MEMORY_ANNOTATION).and_then(|text| Memory::parse(text));
    let stopped = vm.status.as_ref().and_then(|s| s.phase) == Some(MachinePhase::Stopped);
    recorded.or_else(|| stopped.then_some(Memory { wanted: power::Wanted::Off, judged: launch }))
}

/// Writes what must be on record before anything is done: the finalizer, the power memory, the automatic address.
/// Answers whether anything was written.
async fn prepare(g: &Gathered, decision: &Decision, ctx: &Context) -> Result<bool, Error> {
    let vm = g.vm.as_ref();
    let mut metadata = json!({});
    if let Some(next) = finalizers(vm.finalizers(), &[FINALIZER], &[]) {
        metadata["finalizers"] = json!(next);
    }
    let remembered = decision.memory.render();
    if vm.annotations().get(power::MEMORY_ANNOTATION) != Some(&remembered) {
        metadata["annotations"] = json!({ power::MEMORY_ANNOTATION: remembered });
    }
    let wanted = metadata.as_object().is_some_and(|m| !m.is_empty());
    let patch = async {
        if wanted {
            ctx.patch_metadata(&ctx.machines, vm, metadata).await?;
        }
        Ok::<_, Error>(())
    };
    let address = async {
        if let AddressFact::Missing { automatic: true, .. } = &g.address {
            let vmip = automatic(vm).map_err(|e| Error::encode(vm, e))?;
            ctx.create_once(&vmip).await?;
        }
        Ok::<_, Error>(())
    };
    let (patched, made) = tokio::join!(patch, address);
    patched?;
    made?;
    Ok(wanted)
}

/// Does the deed. Answers whether the host was asked for anything.
fn act(g: &Gathered, outcome: &mut Outcome, ctx: &Context) -> bool {
    let vm = g.vm.as_ref();
    let step = match outcome.decision.deed {
        Deed::None => {
            tell(vm, outcome.decision.notice.as_ref(), ctx);
            return false;
        }
        Deed::Start => return start(g, outcome, ctx),
        Deed::PowerButton => {
            let grace = u64::try_from(vm.spec.termination_grace_period_seconds).unwrap_or(0);
            if grace == 0 { Step::Kill } else { Step::PowerButton { grace: Duration::from_secs(grace) } }
        }
        Deed::Kill => Step::Kill,
    };
    match ctx.host.submit(&g.id, step) {
        Ok(()) => tell(vm, outcome.decision.notice.as_ref(), ctx),
        // The instance ended in between: its end is announced and judged by the next look.
        Err(denied) => tracing::debug!(machine = %vm.name_any(), reason = denied.reason, "step denied"),
    }
    true
}

fn start(g: &Gathered, outcome: &mut Outcome, ctx: &Context) -> bool {
    let vm = g.vm.as_ref();
    let _only_one = ctx.machine_memory.starting.lock();
    // What others may have taken since we looked.
    let again = gather(g.vm.clone(), ctx);
    if again.maintenance.is_some() {
        return false;
    }
    if let Some(check) = gate::blocker(&gate::checks(&again)) {
        outcome.waiting = Some(check.message.clone());
        return false;
    }
    outcome.waiting = verdict(&again.vm, again.class.as_deref(), ctx).obstacle;
    if outcome.waiting.is_some() {
        return false;
    }
    let submitted = translate::machine(&again, &ctx.options.cidrs).and_then(|spec| {
        let note = serde_json::to_string(&vm.spec).map_err(|e| e.to_string())?;
        ctx.host.submit(&g.id, Step::Start { spec: Box::new(spec), note }).map_err(|denied| denied.reason)
    });
    match submitted {
        Ok(()) => {
            let launch = ctx.host.observe(&g.id).launch;
            ctx.machine_memory.attempts.lock().entry(g.id.0.clone()).or_default().started(launch, ctx.now());
            tell(vm, outcome.decision.notice.as_ref(), ctx);
            if !outcome.unmet.is_empty() {
                let text = format!("The only node does not meet its preferences: {}.", outcome.unmet.join("; "));
                ctx.events.normal(vm, "PreferencesNotMet", text);
            }
            true
        }
        Err(reason) => {
            tracing::warn!(machine = %vm.name_any(), reason, "start refused");
            outcome.waiting = Some(format!("The host does not start it: {reason}"));
            false
        }
    }
}

/// Advances the note when all changes took effect without a restart.
fn apply_changes(g: &Gathered, ctx: &Context) -> changes::Pending {
    let pending = changes::pending(g);
    if let Some(note) = &pending.note {
        match ctx.host.submit(&g.id, Step::Note(note.clone())) {
            Ok(()) => {
                ctx.events.normal(g.vm.as_ref(), "ChangesApplied", "Changes of the spec took effect without a restart.")
            }
            Err(denied) => tracing::debug!(machine = %g.vm.name_any(), reason = denied.reason, "note denied"),
        }
    }
    pending
}

fn make_report(
    g: &Gathered,
    checks: &[gate::Check],
    outcome: &Outcome,
    pending: &changes::Pending,
    ctx: &Context,
) -> VirtualMachineStatus {
    let key = g.vm.key();
    let shown = g.vm.status.as_ref().and_then(|s| s.phase);
    let facts = ctx.host.node();
    let plugged = plugged(g, ctx);
    let f = Facts {
        g,
        checks,
        wanted_on: outcome.decision.wanted_on(),
        waiting: outcome.waiting.as_deref(),
        pending,
        plugged: &plugged,
        node: &ctx.options.node_name,
        emulated: super::node::is_emulated(&facts),
        leave: outcome.leave.as_ref(),
        qemu: facts.qemu_version.as_deref(),
        phase_since: ctx.machine_memory.phase_since(&g.id.0, shown),
        now: ctx.now(),
    };
    let phase = status::phase(&f);
    let status = status::report(&f);
    ctx.machine_memory.note_phase(&g.id.0, phase, f.now);
    let mut waiting = ctx.waiting.lock();
    if phase == MachinePhase::Pending {
        waiting.insert(key);
    } else {
        waiting.remove(&key);
    }
    if power::exists(&g.observation.state) && ctx.machine_memory.relabelled(&g.vm) {
        // Others may be waiting for a machine with these labels, or for none with those before.
        ctx.wakeup.wake(std::mem::take(&mut *waiting));
    }
    status
}

/// Hot-plugged devices of the instance, with their objects.
fn plugged(g: &Gathered, ctx: &Context) -> Vec<Plugged> {
    let hotplugged = g.observation.devices.iter().filter(|d| d.hotplugged);
    hotplugged
        .filter_map(|d| {
            let key: Key = ctx.wakeup.graph.lock().of_uid(&d.volume.uid).cloned()?;
            let kind = match (d.volume.kind, key.kind) {
                (VolumeKind::Disk, _) => BlockDeviceKind::VirtualDisk,
                (VolumeKind::Image, Kind::ClusterImage) => BlockDeviceKind::ClusterVirtualImage,
                (VolumeKind::Image, _) => BlockDeviceKind::VirtualImage,
                (VolumeKind::Snapshot, _) => return None,
            };
            let info = match lookup(ctx, &key.namespace, kind, &key.name).and_then(|f| f.state) {
                Some(VolumeState::Ready(info)) => Some(info),
                _ => None,
            };
            let attachment = g
                .attachments
                .iter()
                .find(|a| a.spec.block_device_ref.kind == kind && a.spec.block_device_ref.name == key.name)
                .map(|a| a.name_any());
            Some(Plugged { kind, name: key.name, info, attachment })
        })
        .collect()
}

/// Power events.
fn tell(vm: &VirtualMachine, notice: Option<&Notice>, ctx: &Context) {
    let Some(notice) = notice else { return };
    let (reason, verb, cause) = match notice {
        Notice::Started(cause) => ("Started", "Start", cause),
        Notice::Stopped(cause) => ("Stopped", "Stop", cause),
        Notice::Restarted(cause) => ("Restarted", "Restart", cause),
        Notice::Evicted(cause) => ("Evicted", "Stop", cause),
    };
    let text = match cause {
        Cause::Policy(policy) => format!("{verb} initiated by controller for {} policy", policy.as_str()),
        Cause::Operation(name) => format!("{verb} initiated with VirtualMachineOperation {name}"),
        Cause::Guest => format!("{verb} initiated from inside the guest"),
        Cause::Failure => format!("{verb} initiated by controller after observing a failed guest"),
        Cause::Deletion => format!("{verb} initiated by the deletion of the machine"),
        Cause::Changes => format!("{verb} initiated by controller to apply changes"),
        Cause::Taint(taint) => format!("{verb} initiated by controller: the node has the taint {taint}"),
    };
    ctx.events.normal(vm, reason, text);
}

/// Events of configuration.
fn announce(g: &Gathered, new: &VirtualMachineStatus, ctx: &Context) {
    let vm = g.vm.as_ref();
    let conditions = |s: Option<&VirtualMachineStatus>| s.and_then(|s| s.conditions.clone()).unwrap_or_default();
    let (was, is) = (conditions(vm.status.as_ref()), conditions(Some(new)));
    if let Some(now) = condition::find(&is, "ProvisioningReady").filter(|c| !c.message.is_empty())
        && condition::find(&was, "ProvisioningReady").is_none_or(|before| before.message != now.message)
    {
        ctx.events.warning(vm, "ProvisioningInvalid", now.message.clone());
    }
    if let Some(now) = condition::find(&is, "BlockDevicesReady").filter(|_| g.devices.iter().any(|d| d.busy.is_some()))
        && condition::find(&was, "BlockDevicesReady").is_none_or(|before| before.message != now.message)
    {
        ctx.events.warning(vm, "VirtualDiskAlreadyInUse", now.message.clone());
    }
    let before = vm.status.as_ref().and_then(|s| s.restart_awaiting_changes.as_ref());
    match (before, &new.restart_awaiting_changes) {
        (old, Some(entries)) if old != Some(entries) => {
            let paths: Vec<&str> = entries.iter().filter_map(|e| e["path"].as_str()).collect();
            let text = format!("Changes wait for a restart: {}", paths.join(", "));
            ctx.events.normal(vm, "RestartAwaitingChanges", text);
        }
        (Some(_), None) => ctx.events.normal(vm, "ChangesApplied", "No changes wait for a restart any more."),
        _ => {}
    }
}
