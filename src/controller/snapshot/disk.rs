//! VirtualDiskSnapshot: gather, plan, take, report.

use std::sync::Arc;
use std::time::Duration;

use kube::runtime::controller::Action;
use kube::{Resource, ResourceExt};

use super::super::cache::{Watched, namespace};
use super::super::devices::{machine_id, mounted_by};
use super::super::graph::{Key, Kind};
use super::super::{Context, Error};
use super::plan::{self, DiskFacts, Group, Next, Told};
use super::take::{Moment, Subject, Taken, Wanted, take};
use super::{gather, group, volume};
use crate::host::{VolumeId, VolumeKind, VolumeState};
use crate::types::condition::{self, Status};
use crate::types::{SnapshotPhase, VirtualDiskSnapshot, VirtualDiskSnapshotStatus};

const CLEANUP: &str = "virtualization.deckhouse.io/vdsnapshot-cleanup";
const PROTECTION: &str = "virtualization.deckhouse.io/vdsnapshot-protection";
/// The condition that says how it stands.
pub const READY: &str = "VirtualDiskSnapshotReady";
const SOURCE: &str = "VirtualDiskReady";
const SOURCE_NOT_READY: &str = "VirtualDiskNotReadyForSnapshotting";
/// Pause before another look at a machine that was started just now.
const LOOK_AGAIN: Duration = Duration::from_millis(200);

/// One look at one snapshot of a disk.
pub async fn reconcile(vds: Arc<VirtualDiskSnapshot>, ctx: Arc<Context>) -> Result<Action, Error> {
    if let Some(next) = look(vds.clone(), &ctx, false).await? {
        return Ok(next);
    }
    let _its_turn = ctx.taking.lock().await;
    let next = look(ctx.disk_snapshots.newest(vds), &ctx, true).await?;
    Ok(next.unwrap_or_else(Action::await_change))
}

/// Looks and acts; `None` when it is to be taken and it is not its turn.
async fn look(vds: Arc<VirtualDiskSnapshot>, ctx: &Arc<Context>, its_turn: bool) -> Result<Option<Action>, Error> {
    let users = users(&vds, ctx);
    if vds.meta().deletion_timestamp.is_some() {
        return delete(&vds, &users, ctx).await.map(Some);
    }
    let (add, remove): (&[&str], &[&str]) =
        if users.is_empty() { (&[CLEANUP], &[PROTECTION]) } else { (&[CLEANUP, PROTECTION], &[]) };
    ctx.set_finalizers(&ctx.disk_snapshots, vds.as_ref(), add, remove).await?;
    let vds = ctx.disk_snapshots.newest(vds);
    let ns = namespace(vds.as_ref());
    let old = vds.status.clone().unwrap_or_default();
    let parent = group(&vds).and_then(|name| ctx.machine_snapshots.get(&ns, name));
    let parent_status = parent.as_ref().and_then(|p| p.status.clone()).unwrap_or_default();
    let (disk, holder) = gather::disk(ctx, &ns, &vds.spec.virtual_disk_name, &vds.name_any());
    let host = ctx.host.volume(&volume(&vds));
    let group =
        parent.map(|p| Group { name: p.name_any(), failed: parent_status.phase == Some(SnapshotPhase::Failed) });
    let facts = DiskFacts {
        before: old.phase,
        consistent: old.consistent.or(parent_status.consistent),
        required: vds.spec.required_consistency,
        volume: host.as_ref(),
        name: &vds.spec.virtual_disk_name,
        disk: &disk,
        group: group.as_ref(),
    };
    let way = match plan::disk(&facts) {
        Next::Keep => return Ok(Some(Action::await_change())),
        Next::Say(told) => {
            report(&vds, &told, ctx).await?;
            return Ok(Some(Action::await_change()));
        }
        Next::Take(_) if !its_turn => return Ok(None),
        Next::Take(way) => way,
    };
    let Some(wish) = gather::wish(ctx, &ns, &vds) else { return Ok(Some(Action::requeue(LOOK_AGAIN))) };
    let taken = take(
        Wanted {
            subject: Subject::Disk(DiskSubject { vds: &vds }),
            machine: holder.as_deref().map(machine_id),
            way,
            required: facts.required,
            disks: vec![wish],
        },
        ctx,
    )
    .await?;
    let told = match taken {
        Taken::Again => return Ok(Some(Action::requeue(LOOK_AGAIN))),
        Taken::Inconsistent(why) => Told {
            phase: SnapshotPhase::Failed,
            consistent: None,
            reason: "PotentiallyInconsistent",
            message: format!("The snapshot would not be consistent: {why}."),
            source: Some((Status::True, String::new())),
        },
        Taken::Failed(why) => Told {
            phase: SnapshotPhase::Failed,
            consistent: None,
            reason: "VirtualDiskSnapshotFailed",
            message: format!("The snapshot could not be taken: {why}."),
            source: Some((Status::True, String::new())),
        },
        Taken::Begun { consistent } => {
            let volume = ctx.host.volume(&volume(&vds));
            let consistent = consistent.then_some(true);
            let begun =
                DiskFacts { before: Some(SnapshotPhase::InProgress), consistent, volume: volume.as_ref(), ..facts };
            match plan::disk(&begun) {
                Next::Say(told) => told,
                // Gone already: somebody deletes it.
                Next::Keep | Next::Take(_) => return Ok(Some(Action::requeue(LOOK_AGAIN))),
            }
        }
    };
    report(&vds, &told, ctx).await?;
    Ok(Some(Action::await_change()))
}

/// A disk's snapshot at its moment.
pub struct DiskSubject<'a> {
    vds: &'a Arc<VirtualDiskSnapshot>,
}

impl DiskSubject<'_> {
    /// Reports a step.
    pub async fn say(&self, moment: Moment, ctx: &Context) -> Result<(), Error> {
        report(self.vds, &moment_told(moment), ctx).await
    }

    /// No machine has the disk.
    pub fn is_at_rest(&self, ctx: &Context) -> bool {
        let vd = ctx.disks.get(&namespace(self.vds.as_ref()), &self.vds.spec.virtual_disk_name);
        vd.is_none_or(|vd| mounted_by(ctx, &vd).is_empty())
    }
}

/// What is said at a step of the moment.
pub fn moment_told(moment: Moment) -> Told {
    let (consistent, reason, message) = match moment {
        Moment::Freezing => (None, "FileSystemFreezing", "The guest agent is asked to freeze the file systems."),
        Moment::Snapshotting { consistent } => {
            (consistent.then_some(true), "Snapshotting", "The snapshot is being taken.")
        }
        Moment::Unfreezing => {
            (Some(true), "FileSystemUnfreezing", "The guest agent is asked to thaw the file systems.")
        }
    };
    Told {
        phase: SnapshotPhase::InProgress,
        consistent,
        reason,
        message: message.to_owned(),
        source: Some((Status::True, String::new())),
    }
}

async fn report(vds: &Arc<VirtualDiskSnapshot>, told: &Told, ctx: &Context) -> Result<(), Error> {
    let vds = ctx.disk_snapshots.newest(vds.clone());
    let old = vds.status.clone().unwrap_or_default();
    let (generation, now) = (vds.meta().generation, ctx.now());
    let mut conditions = old.conditions.clone().unwrap_or_default();
    if let Some((status, message)) = &told.source {
        let reason = if *status == Status::True { SOURCE } else { SOURCE_NOT_READY };
        condition::set(&mut conditions, SOURCE, *status, reason, message.clone(), generation, now);
    }
    let ready = Status::from(told.phase == SnapshotPhase::Ready);
    condition::set(&mut conditions, READY, ready, told.reason, told.message.clone(), generation, now);
    let new = VirtualDiskSnapshotStatus {
        phase: Some(told.phase),
        consistent: told.consistent,
        volume_snapshot_name: match told.phase {
            SnapshotPhase::Ready => Some(format!("vdsnapshot-{}", vds.uid().unwrap_or_default())),
            SnapshotPhase::Failed => old.volume_snapshot_name.clone(),
            _ => None,
        },
        observed_generation: generation,
        conditions: Some(conditions),
    };
    ctx.report(&ctx.disk_snapshots, vds.as_ref(), vds.status.as_ref(), &new).await?;
    if old.phase != new.phase {
        let disk = Key::new(Kind::Disk, &namespace(vds.as_ref()), &vds.spec.virtual_disk_name);
        gather::wake_machines(ctx, &disk);
    }
    Ok(())
}

/// Disks and images that are being made from the snapshot.
fn users(vds: &VirtualDiskSnapshot, ctx: &Context) -> Vec<String> {
    let graph = ctx.wakeup.graph.lock();
    let key = vds.key();
    let kinds = [Kind::Disk, Kind::Image, Kind::ClusterImage];
    let named: Vec<Key> = kinds.iter().flat_map(|kind| graph.naming(&key, *kind)).collect();
    drop(graph);
    let working = |kind: VolumeKind, uid: Option<String>| {
        let id = VolumeId { kind, uid: uid.unwrap_or_default() };
        matches!(ctx.host.volume(&id), Some(VolumeState::Working { .. }))
    };
    named
        .into_iter()
        .filter_map(|k| {
            let (word, made) = match k.kind {
                Kind::Disk => ("VirtualDisk", working(VolumeKind::Disk, ctx.disks.at(&k)?.uid())),
                Kind::Image => ("VirtualImage", working(VolumeKind::Image, ctx.images.at(&k)?.uid())),
                _ => ("ClusterVirtualImage", working(VolumeKind::Image, ctx.cluster_images.at(&k)?.uid())),
            };
            made.then(|| format!("{word} {}", k.name))
        })
        .collect()
}

async fn delete(vds: &Arc<VirtualDiskSnapshot>, users: &[String], ctx: &Context) -> Result<Action, Error> {
    if users.is_empty() {
        let deleted = ctx.host.delete_volume(&volume(vds)).await;
        deleted.map_err(|detail| Error::cleanup(vds.as_ref(), detail))?;
        // Whoever shows the snapshot must look again although this object will be gone.
        let around: Vec<Key> = ctx.wakeup.graph.lock().around(&vds.key()).into_iter().collect();
        ctx.set_finalizers(&ctx.disk_snapshots, vds.as_ref(), &[], &[CLEANUP, PROTECTION]).await?;
        ctx.wakeup.wake(around);
        let disk = Key::new(Kind::Disk, &namespace(vds.as_ref()), &vds.spec.virtual_disk_name);
        gather::wake_machines(ctx, &disk);
        return Ok(Action::await_change());
    }
    let old = vds.status.clone().unwrap_or_default();
    let mut conditions = old.conditions.clone().unwrap_or_default();
    let message = format!("The snapshot is kept while {} is being made from it.", users.join(", "));
    let generation = vds.meta().generation;
    condition::set(&mut conditions, "Terminating", Status::True, "CleanupPending", message, generation, ctx.now());
    let new =
        VirtualDiskSnapshotStatus { phase: Some(SnapshotPhase::Terminating), conditions: Some(conditions), ..old };
    ctx.report(&ctx.disk_snapshots, vds.as_ref(), vds.status.as_ref(), &new).await?;
    Ok(Action::await_change())
}
