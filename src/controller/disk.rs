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
use super::source::{Availability, Before, SECRET_NOT_FOUND, Source, Stage, availability, waiting_reason};
use super::wording::{duration, past_speed, speed, upload};
use super::{Context, Error, reasons};
use crate::host::{VolumeId, VolumeInfo, VolumeKind, VolumeState};
use crate::types::condition::{self, Status};
use crate::types::quantity::format_bytes;
use crate::types::{
    AttachedMachine, Condition, CreationDuration, DataSourceType, DiskPhase, DiskStats, DiskTarget, VirtualDisk,
    VirtualDiskStatus,
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
        secrets_of: &ns,
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
            pull: source.is_some_and(|s| s.type_ == DataSourceType::ContainerImage),
            size,
            changed: "VirtualDiskSpecHasBeenChanged",
        },
        &ctx,
    )
    .await?;
    let stage = &made.stage;
    announce(&vd, &old, stage, &ctx);
    let blocked = blocked(&usage);
    let facts = Facts { vd: &vd, old: &old, stage, available: &available, usage: &usage, size };
    let grow = match (stage, size) {
        (Stage::Ready(info), Some(size)) if size > info.virtual_size => Some(size),
        _ => None,
    };
    if let (Some(_), Some(why)) = (grow, &blocked) {
        if !is_blocked(&old) {
            ctx.events.warning(vd.as_ref(), "VirtualDiskResizingNotAvailable", why.clone());
        }
        let new = status(&facts, Some(Growth::Unavailable(why.clone())), &ctx);
        ctx.report(&ctx.disks, vd.as_ref(), vd.status.as_ref(), &new).await?;
        // What is in the way wakes the disk when it ends.
        return Ok(Action::await_change());
    }
    let new = status(&facts, grow.map(|_| Growth::Running), &ctx);
    ctx.report(&ctx.disks, vd.as_ref(), vd.status.as_ref(), &new).await?;
    if let Some(bytes) = grow.filter(|_| blocked.is_none()) {
        return resize(&vd, &id, bytes, &facts, &ctx).await;
    }
    Ok(made.next_look(&ctx))
}

/// Why the disk cannot grow now.
fn blocked(usage: &Use) -> Option<String> {
    let what = match (&usage.snapshot, &usage.copied_by) {
        (Some(snapshot), _) => format!("{snapshot} is being taken of it"),
        (None, Some(image)) => format!("{image} is being made from it"),
        (None, None) => return None,
    };
    Some(format!("The disk cannot grow while {what}; it grows afterwards."))
}

fn is_blocked(status: &VirtualDiskStatus) -> bool {
    let resizing = status.conditions.as_ref().and_then(|all| condition::find(all, "Resizing"));
    resizing.is_some_and(|condition| condition.reason == "NotAvailable")
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
        ctx.events.normal(vd.as_ref(), "Deleted", "The disk and its data are gone.");
        return Ok(Action::await_change());
    }
    let mut new = vd.status.clone().unwrap_or_default();
    let mut conditions = new.conditions.take().unwrap_or_default();
    let generation = vd.meta().generation;
    set_in_use(&mut conditions, usage, generation, ctx.now());
    let holder = holder(usage);
    let message = format!("The disk is kept while {holder}. Detach it or stop the machine to let it go.");
    reasons::check(reasons::DISK, "Terminating", "CleanupPending");
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
    /// Not now.
    Unavailable(String),
    Failed(String),
}

fn status(f: &Facts<'_>, growth: Option<Growth>, ctx: &Context) -> VirtualDiskStatus {
    let (now, generation) = (ctx.now(), f.vd.meta().generation);
    let claim = f.vd.spec.persistent_volume_claim.as_ref();
    let mut new = VirtualDiskStatus {
        storage_class_name: Some(claim.and_then(|c| c.storage_class_name.clone()).unwrap_or_else(|| LOCAL.into())),
        attached_to_virtual_machines: attached(f.usage),
        target: f.vd.uid().map(|uid| DiskTarget { persistent_volume_claim_name: Some(format!("vd-{uid}")) }),
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
        reasons::check(reasons::DISK, type_, reason);
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
            not_ready(waiting_reason(reason), message.clone());
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
            new.download_speed = past_speed(f.old.download_speed.as_ref());
            if new.stats.is_none() {
                new.stats = stats(f, now);
            }
            match growth {
                Some(Growth::Running) => {
                    let message = format!("Growing to {}.", f.size.map(format_bytes).unwrap_or_default());
                    set("Resizing", Status::True, "InProgress", message);
                    DiskPhase::Resizing
                }
                Some(Growth::Unavailable(why)) => {
                    set("Resizing", Status::False, "NotAvailable", why);
                    DiskPhase::Ready
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

/// How long it took from the object's creation until now, and of that until the source was ready.
fn stats(f: &Facts<'_>, now: Timestamp) -> Option<DiskStats> {
    let created = f.vd.creation_timestamp()?.0;
    let conditions = f.old.conditions.as_deref().unwrap_or_default();
    let source = condition::find(conditions, "DatasourceReady").filter(|c| c.status == "True");
    let begun = source.map_or(now, |c| c.last_transition_time.0).clamp(created, now.max(created));
    let fetched = f.vd.spec.data_source.as_ref().is_some_and(|s| s.type_ != DataSourceType::ObjectRef);
    Some(DiskStats {
        creation_duration: Some(CreationDuration {
            waiting_for_dependencies: Some(duration(created, begun)),
            dvcr_provisioning: fetched.then(|| duration(begun, now)),
            waiting_for_first_consumer: None,
            total_provisioning: Some(duration(created, now)),
        }),
    })
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
    reasons::check(reasons::DISK, "InUse", reason);
    condition::set(conditions, "InUse", status, reason, message, generation, now);
}

fn announce(vd: &VirtualDisk, old: &VirtualDiskStatus, stage: &Stage, ctx: &Context) {
    match (old.phase, stage) {
        (_, Stage::Waiting(SECRET_NOT_FOUND, message)) => {
            let known = condition::find(old.conditions.as_deref().unwrap_or_default(), "DatasourceReady")
                .is_some_and(|c| c.reason == SECRET_NOT_FOUND);
            if !known {
                ctx.events.warning(vd, "VirtualDiskContainerRegistrySecretNotFound", message.clone());
            }
        }
        (Some(DiskPhase::Provisioning), Stage::Working(Some(1..), _))
            if matches!(old.progress.as_deref(), None | Some("0%")) =>
        {
            ctx.events.normal(vd, "DataSourceImportInProgress", "The content is on its way.");
        }
        (Some(DiskPhase::Provisioning), Stage::Working(..)) | (Some(DiskPhase::Failed), Stage::Failed(..)) => {}
        (_, Stage::Working(..)) => {
            ctx.events.normal(vd, "DataSourceImportStarted", "The making of the disk has begun.");
        }
        (before, Stage::Ready(VolumeInfo { virtual_size, .. }))
            if !matches!(before, Some(DiskPhase::Ready | DiskPhase::Resizing | DiskPhase::PvcLost)) =>
        {
            let size = format_bytes(*virtual_size);
            ctx.events.normal(vd, "DataSourceImportCompleted", format!("The disk is ready; size {size}."));
        }
        (_, Stage::Failed("QuotaExceeded", message)) => {
            ctx.events.warning(vd, "DataSourceQuotaExceed", message.clone());
        }
        (_, Stage::Failed(_, message)) => {
            // The second half is the writing of the disk.
            let percent = old.progress.as_deref().and_then(|p| p.trim_end_matches('%').parse::<u8>().ok());
            let import = percent.is_none_or(|percent| percent < 50);
            let reason = if import { "DataSourceImportFailed" } else { "DataSourceDiskProvisioningFailed" };
            ctx.events.warning(vd, reason, message.clone());
        }
        _ => {}
    }
}
