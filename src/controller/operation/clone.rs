//! Clone: a snapshot is taken for the purpose, a second machine is made from it under new names, the snapshot goes
//! (upstream.md 14.4). Where it stands is in the conditions of the operation and in the objects.

use kube::{Resource, ResourceExt};
use serde_json::{Value, json};

use super::conditions;
use super::recreate::act::{Objects, Written, advance, look, own_snapshot, undo};
use super::recreate::check::{check, checked, notes, problems};
use super::recreate::names::Names;
use super::recreate::report::{Report, percent};
use super::recreate::wanted::copied;
use super::recreate::{Purpose, Seen, Wanted, resource};
use super::restore::{Loaded, load_snapshot};
use crate::controller::cache::{Watched, namespace};
use crate::controller::graph::Kind;
use crate::controller::snapshot_contents::{self, Contents};
use crate::controller::{Context, Error};
use crate::types::condition::{self, Status};
use crate::types::{OperationMode, OperationPhase, VirtualMachine, VirtualMachineOperation};

/// Condition of the operation.
const SNAPSHOT: &str = "SnapshotReady";
/// In place of a snapshot's name where none is taken: nothing is made from it.
const NO_SNAPSHOT: &str = "not-taken";

/// Name of the snapshot that an operation takes for itself: the same at every call.
pub fn snapshot_name(op: &VirtualMachineOperation) -> String {
    format!("vmop-clone-{}", op.uid().unwrap_or_default())
}

/// The next step.
pub async fn follow(op: &VirtualMachineOperation, vm: &VirtualMachine, ctx: &Context) -> Result<Report, Error> {
    let Some(spec) = &op.spec.clone else { return Ok(Report::failed("spec.clone is missing.")) };
    let names = Names::new(spec.customization.as_ref(), spec.name_replacement.as_deref());
    let ns = namespace(op);
    let job = Job { operation: op.uid().unwrap_or_default(), mode: spec.mode, names, objects: Objects::new(ctx, &ns) };
    let told = conditions(op);
    let snapshot = condition::find(&told, SNAPSHOT).map(|c| c.status == "True");
    let report = match snapshot {
        None => begin(op, vm, &job, ctx).await?,
        Some(false) => taken(op, vm, &job).await?,
        Some(true) if all_done(op) => return tidy(op, &job).await,
        Some(true) => from_snapshot(&snapshot_name(op), &job, ctx).await?,
    };
    if !matches!(report.end, Some(Err(_))) || snapshot.is_none() {
        return Ok(report);
    }
    clean(op, ctx).await?;
    Ok(report.line(SNAPSHOT, Status::False, "SnapshotCleanedUp", ""))
}

/// What was made for a copy that is not completed goes, and the snapshot. Also when the operation is deleted.
pub async fn clean(op: &VirtualMachineOperation, ctx: &Context) -> Result<(), Error> {
    let ns = namespace(op);
    let objects = Objects::new(ctx, &ns);
    if super::phase(op) == Some(OperationPhase::InProgress) && !all_done(op) {
        let listed = op.status.as_ref().and_then(|s| s.resources.clone()).unwrap_or_default();
        undo(&listed, &op.uid().unwrap_or_default(), objects).await?;
    }
    if let Some(live) = objects.get("VirtualMachineSnapshot", &snapshot_name(op)).await? {
        objects.delete("VirtualMachineSnapshot", &live).await?;
    }
    Ok(())
}

fn all_done(op: &VirtualMachineOperation) -> bool {
    let listed = op.status.as_ref().and_then(|s| s.resources.as_ref());
    listed.is_some_and(|all| !all.is_empty() && all.iter().all(|r| r.status == "Completed"))
}

/// Checks against the machine as it is, then asks for the snapshot.
async fn begin(
    op: &VirtualMachineOperation,
    vm: &VirtualMachine,
    job: &Job<'_>,
    ctx: &Context,
) -> Result<Report, Error> {
    let contents = match present(vm, job.objects, ctx).await? {
        Ok(contents) => contents,
        Err(why) => return Ok(Report::failed(why)),
    };
    let (all, _) = match job.plan(&contents, false, ctx).await? {
        Ok(planned) => planned,
        Err(report) => return Ok(report),
    };
    if job.mode == OperationMode::DryRun {
        return Ok(job.only_checked(&all));
    }
    match ask_for_snapshot(op, vm, job).await? {
        Some(refused) => Ok(Report::failed(format!("No snapshot can be taken: {refused}"))),
        None => {
            let listed = all.iter().map(|w| resource(w, "InProgress", "Waits for the snapshot."));
            let text = "A snapshot is taken.";
            let report = Report::going(text).of(listed.collect()).at(5);
            Ok(report.line(SNAPSHOT, Status::False, "SnapshotInProgress", text))
        }
    }
}

async fn ask_for_snapshot(
    op: &VirtualMachineOperation,
    vm: &VirtualMachine,
    job: &Job<'_>,
) -> Result<Option<String>, Error> {
    let name = snapshot_name(op);
    if job.objects.get("VirtualMachineSnapshot", &name).await?.is_some() {
        return Ok(None);
    }
    let owner = op.controller_owner_ref(&()).map_or(Value::Null, |owner| json!(owner));
    let body = own_snapshot(&name, &vm.name_any(), job.objects.namespace, &owner);
    Ok(match job.objects.create(&body).await? {
        Written::Done => None,
        Written::Refused(why) => Some(why),
    })
}

/// Waits for the snapshot.
async fn taken(op: &VirtualMachineOperation, vm: &VirtualMachine, job: &Job<'_>) -> Result<Report, Error> {
    let name = snapshot_name(op);
    if job.objects.get("VirtualMachineSnapshot", &name).await?.is_none()
        && let Some(refused) = ask_for_snapshot(op, vm, job).await?
    {
        return Ok(Report::failed(format!("No snapshot can be taken: {refused}")));
    }
    Ok(match load_snapshot(&name, job.objects).await? {
        Loaded::Ready(..) => {
            Report::going("The copy is made.").at(20).line(SNAPSHOT, Status::True, "SnapshotReady", "")
        }
        Loaded::Waiting(message) => {
            Report::going("A snapshot is taken.").at(10).line(SNAPSHOT, Status::False, "SnapshotInProgress", &message)
        }
        Loaded::Never(why) => Report::failed(why),
    })
}

/// Takes the snapshot away.
async fn tidy(op: &VirtualMachineOperation, job: &Job<'_>) -> Result<Report, Error> {
    let said = condition::find(&conditions(op), "Completed").map(|c| c.message.clone()).unwrap_or_default();
    let Some(live) = job.objects.get("VirtualMachineSnapshot", &snapshot_name(op)).await? else {
        return Ok(Report::done(job.said(&said)).line(SNAPSHOT, Status::False, "SnapshotCleanedUp", ""));
    };
    if live["metadata"]["deletionTimestamp"].is_null() {
        job.objects.delete("VirtualMachineSnapshot", &live).await?;
    }
    Ok(Report::going(said).at(95))
}

/// What the condition says while the snapshot is taken away; notes follow.
const TIDYING: &str = "The copy is there, its snapshot is taken away.";

/// Makes the copy from a snapshot.
pub(in crate::controller) async fn from_snapshot(name: &str, job: &Job<'_>, ctx: &Context) -> Result<Report, Error> {
    match load_snapshot(name, job.objects).await? {
        Loaded::Ready(_, contents) => job.step(&contents, ctx).await,
        Loaded::Waiting(message) => Ok(Report::going(message)),
        Loaded::Never(why) => Ok(Report::failed(why)),
    }
}

/// A copy to be made.
pub(in crate::controller) struct Job<'a> {
    /// UID of the operation.
    pub operation: String,
    /// How strict.
    pub mode: OperationMode,
    /// How the copies are called.
    pub names: Names<'a>,
    /// Where.
    pub objects: Objects<'a>,
}

impl Job<'_> {
    /// What there shall be, and what there is; or what stands in the way.
    pub async fn plan(
        &self,
        contents: &Contents,
        snapshots: bool,
        ctx: &Context,
    ) -> Result<Result<(Vec<Wanted>, Seen), Report>, Error> {
        if let Some(why) = self.names.contradiction() {
            return Ok(Err(Report::failed(why)));
        }
        let mut all = copied(contents, self.objects.namespace, &self.operation, &self.names);
        let seen = look(&all, None, None, snapshots, self.objects, ctx).await?;
        check(&mut all, &seen, self.mode, Purpose::Copy, &self.operation);
        Ok(match problems(&all) {
            Some(problems) => Err(Report::failed(problems).of(checked(&all))),
            None => Ok((all, seen)),
        })
    }

    /// The end of a dry run.
    pub fn only_checked(&self, all: &[Wanted]) -> Report {
        Report::done(format!("Checked only, nothing was made. {}", notes(all)).trim_end()).of(checked(all))
    }

    /// The notes in the message of a copy that is there.
    pub fn said(&self, message: &str) -> String {
        message.strip_prefix(TIDYING).unwrap_or("").trim().to_owned()
    }

    /// Makes what is to be made next.
    pub async fn step(&self, contents: &Contents, ctx: &Context) -> Result<Report, Error> {
        let (all, seen) = match self.plan(contents, true, ctx).await? {
            Ok(planned) => planned,
            Err(report) => return Ok(report),
        };
        let step = advance(&all, &seen, Purpose::Copy, &self.operation, self.objects).await?;
        let at = percent(20, &step);
        Ok(match (step.failed, step.done) {
            (Some(why), _) => Report::failed(why).of(step.resources),
            (None, false) => Report::going("The copy is made.").of(step.resources).at(at),
            (None, true) => {
                let message = format!("{TIDYING} {}", notes(&all));
                Report::going(message.trim_end()).of(step.resources).at(90)
            }
        })
    }
}

/// What a snapshot taken now would hold.
async fn present(vm: &VirtualMachine, objects: Objects<'_>, ctx: &Context) -> Result<Result<Contents, String>, Error> {
    let name = vm.name_any();
    let Some(live) = objects.get("VirtualMachine", &name).await? else {
        return Ok(Err(format!("VirtualMachine {name} does not exist.")));
    };
    let mut attachments = Vec::new();
    let keys = ctx.wakeup.graph.lock().naming(&vm.key(), Kind::Attachment);
    for key in keys {
        attachments.extend(objects.get("VirtualMachineBlockDeviceAttachment", &key.name).await?);
    }
    attachments.retain(|a| a["metadata"]["deletionTimestamp"].is_null() && a["status"]["phase"] != "Failed");
    let listed = live.pointer("/spec/blockDeviceRefs").and_then(Value::as_array);
    let attached = attachments.iter().filter_map(|a| a.pointer("/spec/blockDeviceRef"));
    let named = listed.into_iter().flatten().chain(attached).filter(|r| r["kind"] == "VirtualDisk");
    let mut disks = Vec::new();
    for disk in named.filter_map(|r| r["name"].as_str()) {
        disks.extend(objects.get("VirtualDisk", disk).await?.map(|disk| (disk, NO_SNAPSHOT.to_owned())));
    }
    let provisioning = vm.spec.provisioning.as_ref();
    let reference = provisioning.and_then(|p| p.user_data_ref.as_ref().or(p.sysprep_ref.as_ref()));
    let secret = match reference {
        Some(reference) => objects.get("Secret", &reference.name).await?,
        None => None,
    };
    let secret = secret.map(serde_json::from_value).transpose();
    let secret = secret.map_err(|source| Error::Encode { object: format!("VirtualMachine {name}"), source })?;
    Ok(snapshot_contents::contents(&live, &disks, &attachments, None, secret.as_ref())
        .map_err(|why| format!("VirtualMachine {name} cannot be cloned: {why}.")))
}
