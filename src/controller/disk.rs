//! VirtualDisk: made once, grown on demand, protected while a machine has it.

use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use kube::runtime::controller::Action;
use kube::{Resource, ResourceExt};

use super::cache::{Watched, namespace};
use super::devices::{copied_by, machines_naming, mounted_by};
use super::making::{Wanted, make};
use super::snapshot::{NO_SNAPSHOT, of_disk};
use super::source::{Availability, Before, Source, Stage, availability, duration, speed, upload};
use super::{Context, Error};
use crate::host::{VolumeId, VolumeInfo, VolumeKind, VolumeState};
use crate::types::condition::{self, Status};
use crate::types::quantity::format_bytes;
use crate::types::{
    AttachedMachine, Condition, CreationDuration, DiskPhase, DiskStats, VirtualDisk, VirtualDiskStatus,
};

const CLEANUP: &str = "virtualization.deckhouse.io/vd-cleanup";
const PROTECTION: &str = "virtualization.deckhouse.io/vd-protection";
/// What `status.storageClassName` says when the user asked for none: there is one place for disks.
const LOCAL: &str = "local";
/// Pause after a failed resize.
const RESIZE_RETRY: Duration = Duration::from_secs(30);

/// Who uses the disk.
#[derive(Debug, Default)]
struct Use {
    /// Machines that name it, with whether their instance has it.
    machines: Vec<AttachedMachine>,
    /// Image that is being made from it.
    copied_by: Option<String>,
    /// Snapshot that is being taken of it.
    snapshot: Option<String>,
}

impl Use {
    fn mounted(&self) -> Vec<&str> {
        self.machines.iter().filter(|m| m.mounted).map(|m| m.name.as_str()).collect()
    }

    fn is_busy(&self) -> bool {
        self.copied_by.is_some() || self.snapshot.is_some() || self.machines.iter().any(|m| m.mounted)
    }
}

/// One look at one disk.
pub async fn reconcile(vd: Arc<VirtualDisk>, ctx: Arc<Context>) -> Result<Action, Error> {
    let id = VolumeId { kind: VolumeKind::Disk, uid: vd.uid().unwrap_or_default() };
    let usage = gather_use(&vd, &ctx);
    if vd.meta().deletion_timestamp.is_some() {
        return delete(&vd, &id, &usage, &ctx).await;
    }
    let (add, remove): (&[&str], &[&str]) =
        if usage.is_busy() { (&[CLEANUP, PROTECTION], &[]) } else { (&[CLEANUP], &[PROTECTION]) };
    ctx.set_finalizers(&ctx.disks, vd.as_ref(), add, remove).await?;

    let old = vd.status.clone().unwrap_or_default();
    let source = vd.spec.data_source.as_ref();
    let ns = namespace(vd.as_ref());
    let source = source.map(|s| Source {
        type_: s.type_,
        http: s.http.as_ref(),
        container_image: s.container_image.as_ref(),
        object: s.object_ref.as_ref().map(|r| (r.kind.into(), ns.as_str(), r.name.as_str())),
        upload: s.upload.as_ref(),
    });
    let available = availability(&ctx, source);
    let size = vd.spec.persistent_volume_claim.as_ref().and_then(|c| c.size.as_ref()).and_then(|q| q.bytes());
    let edited = old.observed_generation.is_some_and(|g| Some(g) != vd.meta().generation);
    let before = match old.phase {
        Some(DiskPhase::Ready | DiskPhase::Resizing | DiskPhase::PvcLost) => Before::Made,
        Some(DiskPhase::Failed) => Before::Failed,
        _ => Before::Open,
    };

    let made = make(
        Wanted {
            object: vd.as_ref(),
            id: &id,
            before,
            edited,
            available: &available,
            size,
            changed: "VirtualDiskSpecHasBeenChanged",
        },
        &ctx,
    )
    .await?;
    let stage = &made.stage;
    announce(&vd, &old, stage, &ctx);
    let facts = Facts { vd: &vd, old: &old, stage, available: &available, usage: &usage, size };
    let grow = match (stage, size) {
        (Stage::Ready(info), Some(size)) if size > info.virtual_size => Some(size),
        _ => None,
    };
    // Its end wakes the disk.
    let blocked = usage.snapshot.as_ref().filter(|_| grow.is_some());
    let growth = match blocked {
        Some(snapshot) => Some(Growth::Failed(format!("{snapshot} is being taken of the disk."))),
        None => grow.map(|_| Growth::Running),
    };
    if let Some(snapshot) = blocked
        && !old.conditions.iter().flatten().any(|c| c.type_ == "Resizing" && c.reason == "NotAvailable")
    {
        let text = format!("The disk grows when {snapshot} is taken.");
        ctx.events.warning(vd.as_ref(), "VirtualDiskResizingNotAvailable", text);
    }
    let new = status(&facts, growth, &ctx);
    ctx.report(&ctx.disks, vd.as_ref(), vd.status.as_ref(), &new).await?;
    if let Some(bytes) = grow.filter(|_| blocked.is_none()) {
        return resize(&vd, &id, bytes, &facts, &ctx).await;
    }
    Ok(made.next_look(&ctx))
}

fn gather_use(vd: &VirtualDisk, ctx: &Context) -> Use {
    let mounted = mounted_by(ctx, vd);
    let machines = machines_naming(ctx, &vd.key())
        .iter()
        .map(|vm| vm.name_any())
        .map(|name| AttachedMachine { mounted: mounted.contains(&name), name })
        .collect();
    Use { machines, copied_by: copied_by(ctx, vd), snapshot: of_disk(ctx, vd) }
}

async fn resize(
    vd: &Arc<VirtualDisk>,
    id: &VolumeId,
    bytes: u64,
    facts: &Facts<'_>,
    ctx: &Arc<Context>,
) -> Result<Action, Error> {
    let to = format_bytes(bytes);
    ctx.events.normal(vd.as_ref(), "VirtualDiskResizingStarted", format!("Growing to {to}."));
    let (growth, action) = match ctx.host.resize_volume(id, bytes).await {
        Ok(()) => {
            ctx.events.normal(vd.as_ref(), "VirtualDiskResizingCompleted", format!("The disk has {to}."));
            (None, Action::await_change())
        }
        Err(detail) => {
            ctx.events.warning(vd.as_ref(), "VirtualDiskResizingFailed", detail.clone());
            (Some(Growth::Failed(detail)), Action::requeue(RESIZE_RETRY))
        }
    };
    let stage = match ctx.host.volume(id) {
        Some(VolumeState::Ready(info)) => Stage::Ready(info),
        _ => facts.stage.clone(),
    };
    let latest = ctx.disks.newest(vd.clone());
    let old = latest.status.clone().unwrap_or_default();
    let new = status(&Facts { old: &old, stage: &stage, ..*facts }, growth, ctx);
    ctx.report(&ctx.disks, latest.as_ref(), latest.status.as_ref(), &new).await?;
    // Machines show the size of their disks.
    ctx.wakeup.wake(machines_naming(ctx, &vd.key()).iter().map(|vm| vm.key()));
    Ok(action)
}

async fn delete(vd: &Arc<VirtualDisk>, id: &VolumeId, usage: &Use, ctx: &Context) -> Result<Action, Error> {
    if !usage.is_busy() {
        ctx.host.delete_volume(id).await.map_err(|detail| Error::cleanup(vd.as_ref(), detail))?;
        ctx.uploads.lock().remove(id);
        ctx.set_finalizers(&ctx.disks, vd.as_ref(), &[], &[CLEANUP, PROTECTION]).await?;
        return Ok(Action::await_change());
    }
    let mut new = vd.status.clone().unwrap_or_default();
    let mut conditions = new.conditions.take().unwrap_or_default();
    let generation = vd.meta().generation;
    set_in_use(&mut conditions, usage, generation, ctx.now());
    let holder = holder(usage);
    let message = format!("The disk is kept while {holder}. Detach it or stop the machine to let it go.");
    condition::set(&mut conditions, "Terminating", Status::True, "CleanupPending", message, generation, ctx.now());
    new.phase = Some(DiskPhase::Terminating);
    new.attached_to_virtual_machines = attached(usage);
    new.conditions = Some(conditions);
    ctx.report(&ctx.disks, vd.as_ref(), vd.status.as_ref(), &new).await?;
    Ok(Action::await_change())
}

fn holder(usage: &Use) -> String {
    match (&usage.copied_by, &usage.snapshot, usage.mounted().as_slice()) {
        (Some(image), _, _) => format!("{image} is being made from it"),
        (None, Some(snapshot), []) => format!("{snapshot} is being taken of it"),
        (None, _, machines) => format!("VirtualMachine {} has it", machines.join(", ")),
    }
}

#[derive(Clone, Copy)]
struct Facts<'a> {
    vd: &'a VirtualDisk,
    old: &'a VirtualDiskStatus,
    stage: &'a Stage,
    available: &'a Availability,
    usage: &'a Use,
    size: Option<u64>,
}

enum Growth {
    Running,
    Failed(String),
}

fn status(f: &Facts<'_>, growth: Option<Growth>, ctx: &Context) -> VirtualDiskStatus {
    let (now, generation) = (ctx.now(), f.vd.meta().generation);
    let claim = f.vd.spec.persistent_volume_claim.as_ref();
    let mut new = VirtualDiskStatus {
        storage_class_name: Some(claim.and_then(|c| c.storage_class_name.clone()).unwrap_or_else(|| LOCAL.into())),
        attached_to_virtual_machines: attached(f.usage),
        observed_generation: generation,
        stats: f.old.stats.clone(),
        source_uid: f.old.source_uid.clone(),
        ..VirtualDiskStatus::default()
    };
    if let Availability::Ready { uid: Some(uid), .. } = f.available {
        new.source_uid.get_or_insert_with(|| uid.clone());
    }
    let mut conditions = f.old.conditions.clone().unwrap_or_default();
    condition::remove(&mut conditions, "Resizing");
    match &f.usage.snapshot {
        Some(snapshot) => {
            let message = format!("{snapshot} is being taken.");
            condition::set(&mut conditions, "Snapshotting", Status::True, "Snapshotting", message, generation, now);
        }
        None => condition::remove(&mut conditions, "Snapshotting"),
    }
    let mut set = |type_: &str, status: Status, reason: &str, message: String| {
        condition::set(&mut conditions, type_, status, reason, message, generation, now);
    };
    match f.available {
        _ if matches!(f.stage, Stage::Ready(_)) => {
            set("DatasourceReady", Status::True, "DatasourceReady", String::new())
        }
        Availability::Ready { .. } => set("DatasourceReady", Status::True, "DatasourceReady", String::new()),
        Availability::Waiting { reason, message } => {
            // Disks have a shorter word than images for this one.
            let reason = if *reason == NO_SNAPSHOT { "VirtualDiskSnapshot" } else { reason };
            set("DatasourceReady", Status::False, reason, message.clone());
        }
        Availability::Impossible { message } => set("DatasourceReady", Status::Unknown, "Unknown", message.clone()),
    }
    set("StorageClassReady", Status::True, "StorageClassReady", String::new());
    let mut not_ready = |reason: &str, message: String| set("Ready", Status::False, reason, message);
    new.phase = Some(match f.stage {
        Stage::Waiting(reason, message) => {
            let reason = if reason.ends_with("NotFound") { "DatasourceIsNotFound" } else { "DatasourceIsNotReady" };
            not_ready(reason, message.clone());
            DiskPhase::Pending
        }
        Stage::Working(progress, bytes) => {
            not_ready("Provisioning", "The disk is being made.".into());
            new.progress = Some(format!("{}%", progress.unwrap_or(0)));
            new.download_speed = bytes.map(speed);
            DiskPhase::Provisioning
        }
        Stage::Upload(token) => {
            let (urls, command) = upload(&ctx.options.upload, token);
            not_ready("WaitForUserUpload", format!("Waits for the content: {command}"));
            new.progress = Some("0%".into());
            new.image_upload_urls = Some(urls);
            new.upload_command = Some(command);
            DiskPhase::WaitForUserUpload
        }
        Stage::Ready(info) => {
            set("Ready", Status::True, "Ready", String::new());
            new.progress = Some("100%".into());
            new.capacity = Some(format_bytes(info.virtual_size));
            if new.stats.is_none() {
                new.stats = f.vd.creation_timestamp().map(|t| stats(t.0, now));
            }
            match growth {
                Some(Growth::Running) => {
                    let message = format!("Growing to {}.", f.size.map(format_bytes).unwrap_or_default());
                    set("Resizing", Status::True, "InProgress", message);
                    DiskPhase::Resizing
                }
                Some(Growth::Failed(detail)) => {
                    set("Resizing", Status::False, "NotAvailable", format!("{detail} It is tried again."));
                    DiskPhase::Ready
                }
                None => DiskPhase::Ready,
            }
        }
        Stage::Failed(reason, message) => {
            not_ready(reason, message.clone());
            DiskPhase::Failed
        }
        Stage::StillFailed => DiskPhase::Failed,
        Stage::Lost => {
            not_ready("PVCLost", "The disk's data is gone from this computer.".into());
            new.capacity = f.old.capacity.clone();
            DiskPhase::PvcLost
        }
    });
    set_in_use(&mut conditions, f.usage, generation, now);
    new.conditions = Some(conditions);
    new
}

fn stats(created: Timestamp, now: Timestamp) -> DiskStats {
    let total = Some(duration(created, now));
    DiskStats { creation_duration: Some(CreationDuration { total_provisioning: total, ..CreationDuration::default() }) }
}

fn attached(usage: &Use) -> Option<Vec<AttachedMachine>> {
    (!usage.machines.is_empty()).then(|| usage.machines.clone())
}

fn set_in_use(conditions: &mut Vec<Condition>, usage: &Use, generation: Option<i64>, now: Timestamp) {
    let (status, reason, message) = if usage.copied_by.is_some() {
        (Status::True, "UsedForImageCreation", format!("In use: {}.", holder(usage)))
    } else if !usage.mounted().is_empty() {
        (Status::True, "AttachedToVirtualMachine", format!("In use: {}.", holder(usage)))
    } else {
        (Status::False, "NotInUse", String::new())
    };
    condition::set(conditions, "InUse", status, reason, message, generation, now);
}

fn announce(vd: &VirtualDisk, old: &VirtualDiskStatus, stage: &Stage, ctx: &Context) {
    match (old.phase, stage) {
        (Some(DiskPhase::Provisioning), Stage::Working(..)) | (Some(DiskPhase::Failed), Stage::Failed(..)) => {}
        (_, Stage::Working(..)) => {
            ctx.events.normal(vd, "DataSourceImportStarted", "The making of the disk has begun.");
        }
        (before, Stage::Ready(VolumeInfo { virtual_size, .. }))
            if !matches!(before, Some(DiskPhase::Ready | DiskPhase::Resizing)) =>
        {
            let size = format_bytes(*virtual_size);
            ctx.events.normal(vd, "DataSourceImportCompleted", format!("The disk is ready; size {size}."));
        }
        (_, Stage::Failed("QuotaExceeded", message)) => {
            ctx.events.warning(vd, "DataSourceQuotaExceed", message.clone());
        }
        (_, Stage::Failed(_, message)) => ctx.events.warning(vd, "DataSourceImportFailed", message.clone()),
        _ => {}
    }
}
