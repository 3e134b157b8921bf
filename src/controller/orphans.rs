//! Machines and volumes of this computer whose object is gone.

use std::collections::BTreeSet;
use std::path::Path;
use std::time::Duration;

use super::{Context, graph::Kind, machine};
use crate::host::{Host, HostEvent, MachineId, Step};

/// How long an orphaned machine may take to end after its power was cut.
const PATIENCE: Duration = Duration::from_secs(10);

/// What was on this computer without an object when a store was first seen.
#[derive(Debug, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
struct Spared {
    /// The store's name.
    store: String,
    /// UIDs.
    uids: BTreeSet<String>,
}

impl Spared {
    fn read(file: &Path) -> Self {
        std::fs::read(file).ok().and_then(|text| serde_json::from_slice(&text).ok()).unwrap_or_default()
    }

    fn write(&self, file: &Path) -> std::io::Result<()> {
        use std::os::unix::fs::OpenOptionsExt as _;
        let fresh = file.with_extension("new");
        let open = std::fs::File::options().write(true).create(true).truncate(true).mode(0o600).open(&fresh)?;
        serde_json::to_writer(&open, self)?;
        open.sync_all()?;
        std::fs::rename(&fresh, file)
    }
}

/// How many machines and volumes of `host` are left alone, as the file `spared` says.
pub fn spared(file: &Path, host: &dyn Host) -> usize {
    let spared = Spared::read(file).uids;
    let machines = host.machines().into_iter().map(|m| m.id.0);
    let volumes = host.volumes().into_iter().map(|v| v.uid);
    machines.chain(volumes).filter(|uid| spared.contains(uid)).count()
}

/// Removes what no object stands for. Called once, after all caches are filled.
///
/// A store that is seen for the first time (a new one in the place of one that was lost, one that was restored from a
/// backup) does not know everything: what is on this computer without an object then is noted, and never removed. Nor
/// is anything removed for an API without any object.
pub async fn clean(ctx: &Context) {
    let objects = [Kind::Machine, Kind::Disk, Kind::Image, Kind::ClusterImage];
    let known = |uid: &str| ctx.wakeup.graph.lock().of_uid(uid).is_some();
    let machines: Vec<MachineId> = ctx.host.machines().into_iter().map(|m| m.id).filter(|id| !known(&id.0)).collect();
    let volumes: Vec<_> = ctx.host.volumes().into_iter().filter(|v| !known(&v.uid)).collect();
    let mut spared = Spared::read(&ctx.options.spared);
    if spared.store != ctx.options.store {
        let uids = machines.iter().map(|id| id.0.clone()).chain(volumes.iter().map(|v| v.uid.clone())).collect();
        spared = Spared { store: ctx.options.store.clone(), uids };
        if let Err(error) = spared.write(&ctx.options.spared) {
            // Nothing is lost by that: the next start takes stock again.
            tracing::warn!(%error, file = %ctx.options.spared.display(), "cannot note what is left alone");
        }
    }
    let machines: Vec<_> = machines.into_iter().filter(|id| !spared.uids.contains(&id.0)).collect();
    let volumes: Vec<_> = volumes.into_iter().filter(|v| !spared.uids.contains(&v.uid)).collect();
    if !spared.uids.is_empty() {
        tracing::info!(count = spared.uids.len(), "machines and volumes of a store before this one are left alone");
    }
    if machines.is_empty() && volumes.is_empty() {
        return;
    }
    if objects.iter().all(|kind| ctx.wakeup.graph.lock().keys(*kind).is_empty()) {
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
