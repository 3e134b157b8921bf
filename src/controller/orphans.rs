//! Machines and volumes of this computer whose object is gone.

use std::time::Duration;

use super::{Context, graph::Kind, machine};
use crate::host::{HostEvent, MachineId, Step};

/// How long an orphaned machine may take to end after its power was cut.
const PATIENCE: Duration = Duration::from_secs(10);

/// Removes what no object stands for. Called once, after all caches are filled.
///
/// An API without any object, now or when its store was opened, is not taken as an order to delete everything: then
/// the store was lost or replaced, and what is on disk is all that is left.
pub async fn clean(ctx: &Context) {
    let objects = [Kind::Machine, Kind::Disk, Kind::Image, Kind::ClusterImage];
    let known = |uid: &str| ctx.wakeup.graph.lock().of_uid(uid).is_some();
    let machines: Vec<MachineId> = ctx.host.machines().into_iter().map(|m| m.id).filter(|id| !known(&id.0)).collect();
    let volumes: Vec<_> = ctx.host.volumes().into_iter().filter(|v| !known(&v.uid)).collect();
    if machines.is_empty() && volumes.is_empty() {
        return;
    }
    if ctx.options.fresh_store || objects.iter().all(|kind| ctx.wakeup.graph.lock().keys(*kind).is_empty()) {
        tracing::warn!(
            machines = machines.len(),
            volumes = volumes.len(),
            "the store knows no machines, disks and images, but this computer has some; nothing is removed"
        );
        return;
    }
    for id in machines {
        tracing::info!(machine = %id.0, "removing a machine whose object is gone");
        if let Err(detail) = end(ctx, &id).await {
            tracing::warn!(machine = %id.0, detail, "cannot remove it");
        }
    }
    for id in volumes {
        tracing::info!(volume = %id.uid, "removing a volume whose object is gone");
        if let Err(detail) = ctx.host.delete_volume(&id).await {
            tracing::warn!(volume = %id.uid, detail, "cannot remove it");
        }
    }
}

async fn end(ctx: &Context, id: &MachineId) -> Result<(), String> {
    let mut changes = ctx.host.subscribe();
    if machine::power::exists(&ctx.host.observe(id).state) {
        ctx.host.submit(id, Step::Kill).map_err(|denied| denied.reason)?;
    }
    let gone = async {
        while machine::power::exists(&ctx.host.observe(id).state) {
            match changes.recv().await {
                Ok(HostEvent::Machine(_) | HostEvent::Volume(_)) => {}
                Err(tokio::sync::broadcast::error::RecvError::Lagged(_)) => {}
                Err(tokio::sync::broadcast::error::RecvError::Closed) => return,
            }
        }
    };
    tokio::time::timeout(PATIENCE, gone).await.map_err(|_| "it does not end".to_owned())?;
    ctx.host.forget(id).await.map_err(|e| e.to_string())
}
