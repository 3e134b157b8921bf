//! Restore: the machine is stopped, its objects become what they were, and it is as much on as before (upstream.md
//! 14.3). Where it stands is in the conditions of the operation and in the objects; nothing is remembered elsewhere,
//! so that a daemon that comes later goes on.
//!
//! Disks: each is made from its snapshot on trial first. Only when all of that works is the disk in the old place
//! taken away and made anew.

use std::time::Duration;

use kube::{Resource, ResourceExt};
use serde_json::{Value, json};

use super::recreate::act::{Objects, advance, look};
use super::recreate::check::{check, checked, made_by, notes, problems};
use super::recreate::report::{Report, percent};
use super::recreate::trial::{self, Trial};
use super::recreate::wanted::{Owner, restored};
use super::recreate::{Purpose, Seen, Wanted, What, resource};
use super::{belongs_to, conditions, phase};
use crate::controller::address::automatic_name;
use crate::controller::cache::{Watched, namespace};
use crate::controller::devices::machine_id;
use crate::controller::graph::Kind;
use crate::controller::machine::power::{MEMORY_ANNOTATION, Memory, Wanted as Wish, exists};
use crate::controller::snapshot_contents::{self, Contents};
use crate::controller::{Context, Error};
use crate::types::condition::{self, Status};
use crate::types::text::printable;
use crate::types::{
    KeepIpAddress, MachinePhase, OperationMode, OperationPhase, OperationResource, OperationType, Quantity,
    RestoreSpec, SnapshotPhase, VirtualMachine, VirtualMachineOperation, VirtualMachineSnapshot,
};

/// Condition of the operation: the machine is kept off for it.
pub const MAINTENANCE: &str = "MaintenanceMode";
/// Its reason when it is not, or no longer.
pub const DISABLED: &str = "MaintenanceModeDisabled";
/// How long a machine may take to begin to start again before the operation is done without that.
const START_PATIENCE: Duration = Duration::from_secs(30);
/// Percent from which on it is known that the disks can be made: those in their place may go.
const TRIED: u8 = 20;
/// How soon a trial is looked at again that no event may tell of.
const TRIAL_PAUSE: Duration = Duration::from_millis(500);

/// Name of the operation that keeps a machine off.
pub fn maintenance_of(vm: &VirtualMachine, ctx: &Context) -> Option<String> {
    let keys = ctx.wakeup.graph.lock().naming(&vm.key(), Kind::Operation);
    let mut restoring = keys.iter().filter_map(|k| ctx.operations.at(k)).filter(|op| {
        op.spec.type_ == OperationType::Restore
            && phase(op) == Some(OperationPhase::InProgress)
            && op.meta().deletion_timestamp.is_none()
            && belongs_to(op, vm)
            && condition::is_true(&conditions(op), MAINTENANCE)
    });
    restoring.next().map(|op| op.name_any())
}

/// The next step.
pub async fn follow(op: &VirtualMachineOperation, vm: &VirtualMachine, ctx: &Context) -> Result<Report, Error> {
    let Some(spec) = &op.spec.restore else { return Ok(Report::failed("spec.restore is missing.")) };
    let mode = condition::find(&conditions(op), MAINTENANCE).map(|c| c.status == "True");
    if mode == Some(false) {
        return Ok(power(op, vm, ctx));
    }
    let ns = namespace(op);
    let objects = Objects::new(ctx, &ns);
    let under_maintenance = mode == Some(true);
    let report = match load(spec, vm, objects).await? {
        Loaded::Ready(snapshot, contents) => {
            let plan = Plan { op, vm, mode: spec.mode, snapshot: &snapshot, contents: &contents, objects };
            if under_maintenance { plan.carry_out(ctx).await? } else { plan.validate(ctx).await? }
        }
        Loaded::Waiting(message) => {
            Report::going(message.clone()).line("SnapshotReady", Status::False, "SnapshotInProgress", &message)
        }
        Loaded::Never(why) => Report::failed(why.clone()).line("SnapshotReady", Status::False, "SnapshotFailed", &why),
    };
    if report.end.is_none() || !under_maintenance {
        return Ok(report);
    }
    Ok(report.line(MAINTENANCE, Status::False, DISABLED, ""))
}

/// What the operation has besides objects goes. Also when it is deleted in the middle.
pub async fn clean(op: &VirtualMachineOperation, ctx: &Context) -> Result<(), Error> {
    let ns = namespace(op);
    let objects = Objects::new(ctx, &ns);
    let under_maintenance = condition::is_true(&conditions(op), MAINTENANCE);
    if under_maintenance && phase(op) == Some(OperationPhase::InProgress) {
        put_back(op, objects, ctx).await?;
    }
    trial::clear(&op.uid().unwrap_or_default(), ctx).await
}

/// A disk that has been taken away and not made yet is made: nobody else would.
async fn put_back(op: &VirtualMachineOperation, objects: Objects<'_>, ctx: &Context) -> Result<(), Error> {
    let vm = ctx.machines.get(objects.namespace, &op.spec.virtual_machine_name).filter(|vm| belongs_to(op, vm));
    let (Some(vm), Some(spec)) = (vm, &op.spec.restore) else { return Ok(()) };
    let Loaded::Ready(snapshot, contents) = load(spec, &vm, objects).await? else { return Ok(()) };
    let plan = Plan { op, vm: &vm, mode: spec.mode, snapshot: &snapshot, contents: &contents, objects };
    for disk in plan.wanted().into_iter().filter(|w| w.what == What::Disk) {
        match objects.get(disk.what.kind(), &disk.name).await? {
            // One that is on its way out cannot be replaced now; the next look is when it is gone.
            Some(live) if !live["metadata"]["deletionTimestamp"].is_null() => {
                let object = format!("VirtualMachineOperation {}", op.name_any());
                return Err(Error::Cleanup { object, detail: format!("VirtualDisk {} is being deleted", disk.name) });
            }
            Some(_) => {}
            None => {
                objects.create(&disk.body).await?;
            }
        }
    }
    Ok(())
}

/// The snapshot and what it holds.
pub(in crate::controller) enum Loaded {
    Ready(Box<VirtualMachineSnapshot>, Box<Contents>),
    Waiting(String),
    Never(String),
}

async fn load(spec: &RestoreSpec, vm: &VirtualMachine, objects: Objects<'_>) -> Result<Loaded, Error> {
    let name = &spec.virtual_machine_snapshot_name;
    let loaded = load_snapshot(name, objects).await?;
    Ok(match loaded {
        Loaded::Ready(snapshot, _) if snapshot.spec.virtual_machine_name != vm.name_any() => Loaded::Never(format!(
            "VirtualMachineSnapshot {name} is of VirtualMachine {}, not of {}.",
            printable(&snapshot.spec.virtual_machine_name),
            vm.name_any()
        )),
        other => other,
    })
}

/// Reads a VirtualMachineSnapshot and its Secret.
pub(in crate::controller) async fn load_snapshot(name: &str, objects: Objects<'_>) -> Result<Loaded, Error> {
    let shown = printable(name);
    let Some(live) = objects.get("VirtualMachineSnapshot", name).await? else {
        let ns = objects.namespace;
        return Ok(Loaded::Never(format!("VirtualMachineSnapshot {shown} does not exist in namespace {ns}.")));
    };
    let snapshot: VirtualMachineSnapshot = match serde_json::from_value(live) {
        Ok(snapshot) => snapshot,
        Err(e) => return Ok(Loaded::Never(format!("VirtualMachineSnapshot {shown} cannot be read: {e}."))),
    };
    let status = snapshot.status.clone().unwrap_or_default();
    let why = status.conditions.iter().flatten().find(|c| c.type_ == "VirtualMachineSnapshotReady");
    let why = why.map(|c| printable(&c.message).into_owned()).unwrap_or_default();
    if snapshot.meta().deletion_timestamp.is_some() {
        return Ok(Loaded::Never(format!("VirtualMachineSnapshot {shown} is being deleted.")));
    }
    match status.phase {
        Some(SnapshotPhase::Ready) => {}
        Some(SnapshotPhase::Failed) => {
            return Ok(Loaded::Never(format!("VirtualMachineSnapshot {shown} has failed: {why}")));
        }
        _ => return Ok(Loaded::Waiting(format!("Waits for VirtualMachineSnapshot {shown}. {why}").trim_end().into())),
    }
    let secret = status.virtual_machine_snapshot_secret_name.unwrap_or_default();
    let damaged = |why: String| Loaded::Never(format!("VirtualMachineSnapshot {shown}: Secret {secret}: {why}."));
    let Some(live) = objects.get("Secret", &secret).await? else { return Ok(damaged("it does not exist".into())) };
    let read = serde_json::from_value(live).map_err(|e| e.to_string());
    let read = read.and_then(|secret| snapshot_contents::from_secret(&secret).map_err(|e| e.to_string()));
    Ok(match read {
        Ok(contents) if contents.machine.name != snapshot.spec.virtual_machine_name => {
            damaged(format!("it is of VirtualMachine {}", contents.machine.name))
        }
        Ok(contents) => Loaded::Ready(Box::new(snapshot), Box::new(contents)),
        Err(why) => damaged(why),
    })
}

struct Plan<'a> {
    op: &'a VirtualMachineOperation,
    vm: &'a VirtualMachine,
    mode: OperationMode,
    snapshot: &'a VirtualMachineSnapshot,
    contents: &'a Contents,
    objects: Objects<'a>,
}

impl Plan<'_> {
    fn uid(&self) -> String {
        self.op.uid().unwrap_or_default()
    }

    fn wanted(&self) -> Vec<Wanted> {
        let reference = self.vm.controller_owner_ref(&()).map_or(Value::Null, |owner| json!(owner));
        let automatic = automatic_name(self.vm);
        let owner = Owner {
            reference: &reference,
            automatic: &automatic,
            keeps_address: self.snapshot.spec.keep_ip_address == KeepIpAddress::Always,
        };
        restored(self.contents, self.objects.namespace, &self.uid(), &owner)
    }

    async fn looked(&self, ctx: &Context) -> Result<(Vec<Wanted>, Seen), Error> {
        let mut all = self.wanted();
        let address = self.contents.address.as_ref().and_then(|a| a.address.as_deref());
        let seen = look(&all, Some(self.vm), address, true, self.objects, ctx).await?;
        check(&mut all, &seen, self.mode, Purpose::Restore, &self.uid());
        Ok((all, seen))
    }

    /// Before anything is touched.
    async fn validate(&self, ctx: &Context) -> Result<Report, Error> {
        let (all, _) = self.looked(ctx).await?;
        let report = match (problems(&all), self.mode) {
            (Some(problems), _) => Report::failed(format!("Nothing was changed. {problems}")).of(checked(&all)),
            (None, OperationMode::DryRun) => {
                let notes = notes(&all);
                Report::done(format!("Checked only, nothing was changed. {notes}").trim_end()).of(checked(&all))
            }
            (None, OperationMode::Strict | OperationMode::BestEffort) => {
                let listed = all.iter().map(|w| resource(w, "InProgress", "Waits until the machine is off."));
                Report::going("The machine is stopped.").of(listed.collect()).at(10).line(
                    MAINTENANCE,
                    Status::True,
                    "MaintenanceModeEnabled",
                    "The machine is kept off until it is restored.",
                )
            }
        };
        Ok(report.line("SnapshotReady", Status::True, "SnapshotReady", ""))
    }

    /// With the machine off.
    async fn carry_out(&self, ctx: &Context) -> Result<Report, Error> {
        let shown = self.vm.status.as_ref().and_then(|s| s.conditions.clone()).unwrap_or_default();
        let off = !exists(&ctx.host.observe(&machine_id(self.vm)).state);
        if !off || !condition::is_true(&shown, "Maintenance") {
            return Ok(Report::going("The machine is stopped.").at(10));
        }
        let (all, seen) = self.looked(ctx).await?;
        if let Some(problems) = problems(&all) {
            return Ok(Report::failed(problems).of(checked(&all)));
        }
        let uid = self.uid();
        if progress(self.op) < TRIED {
            let disks = all.iter().filter_map(|w| Some((w.snapshot.clone()?, size(&w.body)))).collect::<Vec<_>>();
            return Ok(match trial::run(&uid, self.objects.namespace, &disks, ctx) {
                // On record before the first disk goes.
                Trial::Works => Report::going("The objects are restored.").at(TRIED),
                Trial::Going => {
                    let report = Report::going("The disks are made from their snapshots on trial.").at(15);
                    Report { again: Some(TRIAL_PAUSE), ..report }
                }
                Trial::Fails(why) => {
                    let listed = all.iter().map(|w| resource(w, "Failed", "Not restored: it is as it was."));
                    Report::failed(format!("{why} Nothing was changed.")).of(listed.collect())
                }
            });
        }
        let step = advance(&all, &seen, Purpose::Restore, &uid, self.objects).await?;
        let at = percent(TRIED, &step);
        if let Some(why) = step.failed {
            // Others may have been taken away before this one failed.
            put_back(self.op, self.objects, ctx).await?;
            let lost = self.without_disks(&step.resources, &seen, &uid);
            return Ok(Report::failed(format!("{why} {lost}").trim_end()).of(step.resources));
        }
        if !step.done {
            return Ok(Report::going("The objects are restored.").of(step.resources).at(at));
        }
        trial::clear(&uid, ctx).await?;
        let notes = notes(&all);
        Ok(Report::going(format!("The machine gets its power back. {notes}").trim_end())
            .of(step.resources)
            .at(90)
            .line(MAINTENANCE, Status::False, DISABLED, ""))
    }

    /// What to do about disks whose old content is gone and whose new one is not there.
    fn without_disks(&self, told: &[OperationResource], seen: &Seen, uid: &str) -> String {
        let lost = self.contents.disks.iter().filter(|disk| {
            let name = &disk.object.name;
            let live = seen.live.get(&(What::Disk, name.clone()));
            let failed = told.iter().any(|r| r.kind == What::Disk.kind() && &r.name == name && r.status == "Failed");
            failed && live.is_none_or(|live| made_by(live, uid))
        });
        let words = lost.map(|disk| {
            format!(
                "The disk {0} is to be made again: its content is in VirtualDiskSnapshot {1}. Delete VirtualDisk {0} \
                 and restore once more, or create it with spec.dataSource.objectRef of that snapshot.",
                disk.object.name, disk.snapshot
            )
        });
        words.collect::<Vec<_>>().join(" ")
    }
}

fn progress(op: &VirtualMachineOperation) -> u8 {
    let shown = op.status.as_ref().and_then(|s| s.progress.as_deref()).and_then(|p| p.strip_suffix('%'));
    shown.and_then(|percent| percent.parse().ok()).unwrap_or(0)
}

fn size(body: &Value) -> Option<u64> {
    let size = body.pointer("/spec/persistentVolumeClaim/size")?;
    serde_json::from_value::<Quantity>(size.clone()).ok()?.bytes()
}

/// After maintenance: done when the machine is as much on as before.
fn power(op: &VirtualMachineOperation, vm: &VirtualMachine, ctx: &Context) -> Report {
    let status = vm.status.clone().unwrap_or_default();
    let shown = status.conditions.unwrap_or_default();
    let restored = condition::find(&conditions(op), "Completed").map(|c| c.message.clone()).unwrap_or_default();
    let notes = restored.strip_prefix("The machine gets its power back.").unwrap_or("").trim().to_owned();
    let memory = vm.annotations().get(MEMORY_ANNOTATION).and_then(|text| Memory::parse(text));
    let owed = memory.is_some_and(|m| m.wanted == Wish::On);
    let going = Report::going(restored.clone()).at(95);
    if condition::is_true(&shown, "Maintenance") {
        return going;
    }
    match status.phase {
        Some(MachinePhase::Starting | MachinePhase::Stopping) => going,
        Some(MachinePhase::Pending) if owed => {
            let since = condition::find(&conditions(op), MAINTENANCE).map(|c| c.last_transition_time.0);
            let waited = since.map_or(Duration::ZERO, |t| ctx.now().duration_since(t).unsigned_abs());
            match START_PATIENCE.checked_sub(waited).filter(|rest| !rest.is_zero()) {
                Some(rest) => Report { again: Some(rest), ..going },
                None => {
                    let why = shown.iter().find(|c| c.status == "False" && !c.message.is_empty());
                    let why = why.map_or("", |c| c.message.as_str());
                    Report::done(format!("{notes} It is restored and does not start yet: {why}").trim())
                }
            }
        }
        _ if owed && !exists(&ctx.host.observe(&machine_id(vm)).state) => {
            Report { again: Some(START_PATIENCE), ..going }
        }
        _ => Report::done(notes),
    }
}
