//! Snapshots of disks: of a disk at rest by `qemu-img`, of the disks of a running machine by its QEMU.
//!
//! ```text
//!   note the volumes, make their files (with the disk's own base), reserve room
//!   QEMU: the files as block nodes, one transaction of backup jobs    <- the moment; whatever the guest overwrites
//!   follow: query-jobs until the jobs are over, dismiss them,            from here on is copied before
//!           remove the nodes, put the files in place
//! ```
//!
//! Jobs and nodes are named after the snapshot, so that a later daemon finds them; one whose job is gone has failed,
//! because its moment is over.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use serde_json::{Value, json};
use tokio::time::Instant;

use super::command_line::{node_name, path_text, qemu_id};
use super::context::blocking;
use super::local::LocalHost;
use super::machine::{Command, Machine};
use super::qmp::{Qmp, QmpError};
use super::spec::{MachineId, SnapshotOf, VolumeId, VolumeKind, VolumeRequest, VolumeSource};
use super::state::Phase;
use super::task::{Task, power_cut};
use super::volume_job::{Failure, NEW, put_in_place};
use super::volumes::{Content, Report, VolumeRecord, Volumes};
use super::{EndReason, VolumeFailure, VolumeInfo, VolumeState, launch::Running};

/// Pause between looks at a job: its events tell that it is over, but not how far it is.
const LOOK_AGAIN: Duration = Duration::from_millis(100);

/// How long a job may take to stop.
const CANCEL_TIMEOUT: Duration = Duration::from_secs(20);

/// Room beside what the disk has: tables of the new file, and what the guest writes until the moment comes.
const SPARE: u64 = 16 << 20;

/// What names of our jobs and their nodes begin with.
const PREFIX: &str = "snap-";

/// A disk to be copied by a machine's QEMU.
#[derive(Debug, Clone)]
pub(super) struct DiskCopy {
    disk: VolumeId,
    /// Name of the job and of the target's node.
    job: String,
    /// The target.
    file: PathBuf,
}

/// Name of the job that makes a snapshot: at most 31 characters with what is appended, whatever the UID.
fn job_name(snapshot: &VolumeId) -> String {
    let id = uuid::Uuid::new_v5(&uuid::Uuid::NAMESPACE_OID, snapshot.uid.as_bytes());
    format!("{PREFIX}{}", &id.simple().to_string()[..20])
}

impl LocalHost {
    /// See [`super::Host::snapshot`].
    pub(super) async fn take_snapshots(&self, wanted: &[SnapshotOf]) -> Result<(), String> {
        let volumes = &self.context.volumes;
        let open = |one: &&SnapshotOf| matches!(volumes.state(&one.snapshot), None | Some(VolumeState::Failed { .. }));
        let wanted: Vec<&SnapshotOf> = wanted.iter().filter(open).collect();
        if wanted.iter().any(|one| one.disk.kind != VolumeKind::Disk || one.snapshot.kind != VolumeKind::Snapshot) {
            return Err("a snapshot is made of a disk".into());
        }
        if wanted.iter().any(|one| volumes.content(&one.disk).is_none()) {
            return Err("the disk is not ready".into());
        }
        let mut running: Option<Arc<Machine>> = None;
        let mut copied = Vec::new();
        let mut at_rest = Vec::new();
        for one in wanted {
            match self.holder(&one.disk) {
                None => at_rest.push(one),
                Some(machine) if running.as_ref().is_some_and(|other| !Arc::ptr_eq(other, &machine)) => {
                    return Err("the disks are of several running machines".into());
                }
                Some(machine) => {
                    running = Some(machine);
                    copied.push(one);
                }
            }
        }
        if let Some(machine) = running {
            self.begin_copies(&machine, &copied).await?;
        }
        for one in at_rest {
            // Nobody writes to it: it is as it was at that moment.
            volumes.create(&one.snapshot, request(VolumeSource::Volume(one.disk.clone())));
        }
        Ok(())
    }

    /// The machine whose QEMU has the disk.
    fn holder(&self, disk: &VolumeId) -> Option<Arc<Machine>> {
        let machines = self.machines.read();
        let has = |machine: &&Arc<Machine>| {
            machine.with(|shared| {
                !matches!(shared.phase, Phase::Absent | Phase::Ended)
                    && shared.observation.devices.iter().any(|device| device.volume == *disk)
            })
        };
        machines.values().find(has).cloned()
    }

    async fn begin_copies(&self, machine: &Arc<Machine>, wanted: &[&SnapshotOf]) -> Result<(), String> {
        let volumes = &self.context.volumes;
        let id = machine.observe().id;
        let mut noted = Vec::new();
        let mut copies = Vec::new();
        let mut begun = Ok(());
        for one in wanted {
            let source = VolumeSource::Running { disk: one.disk.clone(), machine: id.clone() };
            if !volumes.note(&one.snapshot, request(source)) {
                continue;
            }
            noted.push(one.snapshot.clone());
            match volumes.copy_target(&one.snapshot, &one.disk).await {
                Ok(file) => {
                    copies.push(DiskCopy { disk: one.disk.clone(), job: job_name(&one.snapshot), file });
                }
                Err(failure) => {
                    begun = Err(failure);
                    break;
                }
            }
        }
        if begun.is_ok() {
            begun = machine.ask(|done| Command::Copy { copies, done }).await.map_err(Failure::from_words);
        }
        match begun {
            Ok(()) => {
                for snapshot in &noted {
                    self.follow(snapshot, Some(machine.clone()));
                }
                Ok(())
            }
            Err(failure) => {
                for snapshot in &noted {
                    volumes.fail(snapshot, failure.clone()).await;
                }
                Err(failure.detail)
            }
        }
    }

    /// Watches a copy until it is over.
    fn follow(&self, snapshot: &VolumeId, machine: Option<Arc<Machine>>) {
        self.context.volumes.attend(snapshot, |volumes, record, report| async move {
            let job = job_name(&record.id);
            let outcome = until_over(machine.as_deref(), &job, &report).await;
            if let Some(qmp) = machine.and_then(|machine| machine.with(|shared| shared.qmp.clone())) {
                release(&qmp, &job).await;
            }
            outcome?;
            volumes.copied(&record).await
        });
    }

    /// Takes up the copies of an earlier daemon, and removes what is left in QEMU of those that are given up.
    pub(super) fn take_up_copies(&self) {
        let mut known = Vec::new();
        for (snapshot, source) in self.context.volumes.making() {
            if let VolumeSource::Running { machine, .. } = source {
                known.push(job_name(&snapshot));
                self.follow(&snapshot, self.machine(&machine));
            }
        }
        for machine in self.machines.read().values() {
            if let Some(qmp) = machine.with(|shared| shared.qmp.clone()) {
                tokio::spawn(tidy(qmp, known.clone()));
            }
        }
    }

    /// Ends the copying of a snapshot that is being made.
    pub(super) async fn end_copy(&self, snapshot: &VolumeId) {
        let making = || self.context.volumes.making().into_iter().find(|(id, _)| id == snapshot);
        let Some((_, VolumeSource::Running { machine, .. })) = making() else { return };
        if let Some(qmp) = self.machine(&machine).and_then(|machine| machine.with(|shared| shared.qmp.clone())) {
            // It may be over by itself.
            let _ = qmp.execute("job-cancel", json!({ "id": job_name(snapshot) })).await;
        }
        let over = async {
            while making().is_some() {
                tokio::time::sleep(LOOK_AGAIN).await;
            }
        };
        if tokio::time::timeout(CANCEL_TIMEOUT, over).await.is_err() {
            tracing::warn!(snapshot = %snapshot.uid, "the copying of a disk does not end");
        }
    }

    /// Whether the disk is being copied.
    pub(super) fn is_copied(&self, disk: &VolumeId) -> bool {
        let from = |source: &VolumeSource| match source {
            VolumeSource::Running { disk: source, .. } | VolumeSource::Volume(source) => source == disk,
            _ => false,
        };
        self.context.volumes.making().iter().any(|(_, source)| from(source))
    }

    /// Whether disks of the running machine are being copied.
    pub(super) fn copies_of(&self, id: &MachineId) -> bool {
        let of = |source: &VolumeSource| matches!(source, VolumeSource::Running { machine, .. } if machine == id);
        self.context.volumes.making().iter().any(|(_, source)| of(source))
    }
}

fn request(source: VolumeSource) -> VolumeRequest {
    VolumeRequest { source, size: None, checksums: Vec::new() }
}

impl Volumes {
    /// The file that a running disk is copied to.
    async fn copy_target(&self, snapshot: &VolumeId, disk: &VolumeId) -> Result<PathBuf, Failure> {
        let gone = || Failure::new(VolumeFailure::Source, "the disk is not ready");
        let record = self.record(snapshot).ok_or_else(gone)?;
        let content = self.content(disk).ok_or_else(gone)?;
        let file = self.fresh_dir(&record).await?.join(NEW);
        match &content.base {
            Some(base) => {
                self.tool.overlay(&file, &self.backing(snapshot, base)?, content.info.virtual_size).await?;
            }
            None => self.tool.create(&file, content.info.virtual_size).await?,
        }
        // A copy that runs out of room while the guest writes would fail the guest's writes.
        let (from, to) = (self.data(disk), file.clone());
        blocking(move || reserve(&from, &to))
            .await
            .map_err(|error| Failure::io("there is no room for a copy of the disk", &error))?;
        Ok(file)
    }

    /// A finished copy becomes the snapshot.
    async fn copied(&self, record: &VolumeRecord) -> Result<Content, Failure> {
        let VolumeSource::Running { disk, .. } = &record.request.source else {
            return Err(Failure::new(VolumeFailure::Other, "it is no copy of a running disk"));
        };
        let of = self.content(disk).ok_or_else(|| Failure::new(VolumeFailure::Source, "the disk is gone"))?;
        let dir = self.layout.volume(&record.id);
        let file = dir.join(NEW);
        let stored_size = blocking(move || settle(&file))
            .await
            .map_err(|error| Failure::io("cannot write the snapshot to the disk", &error))?;
        put_in_place(self, record.id.kind, &dir).await?;
        let info = VolumeInfo { stored_size, ..of.info };
        Ok(Content { info, raw: false, base: of.base })
    }
}

/// Reserves room for all that `from` has.
fn reserve(from: &Path, to: &Path) -> io::Result<()> {
    let length = std::fs::metadata(from)?.len() + SPARE;
    let file = std::fs::OpenOptions::new().write(true).open(to)?;
    match rustix::fs::fallocate(&file, rustix::fs::FallocateFlags::KEEP_SIZE, 0, length) {
        // Not every file system can; then running out of room is an error of the job.
        Err(rustix::io::Errno::OPNOTSUPP | rustix::io::Errno::NOSYS) => Ok(()),
        reserved => Ok(reserved?),
    }
}

/// Gives back what was reserved and not needed; the rest is on the disk when this returns. Bytes that the file takes.
fn settle(file: &Path) -> io::Result<u64> {
    use std::os::unix::fs::MetadataExt;
    let file = std::fs::OpenOptions::new().write(true).open(file)?;
    file.set_len(file.metadata()?.len())?;
    file.sync_all()?;
    Ok(file.metadata()?.blocks() * 512)
}

impl Task {
    /// Begins to copy disks of the running machine, all at one moment.
    pub(super) async fn copy(&self, running: &Running, copies: &[DiskCopy]) -> Result<(), String> {
        match self.machine.with(|shared| shared.phase) {
            Phase::Migrating => return Err("the machine is being migrated".into()),
            Phase::Stopping => return Err("the machine is stopping".into()),
            _ => {}
        }
        let begun = begin(running, copies, self.context.snapshot_bandwidth.unwrap_or(0)).await;
        if begun.is_err() {
            for copy in copies {
                release(&running.qmp, &copy.job).await;
            }
        }
        begun
    }

    /// The guest has ended. Its QEMU ends as soon as no disk is copied any more; then the answer is how it ended.
    pub(super) async fn look_at_copies(&mut self, running: &mut Running) -> Option<EndReason> {
        let (reason, _) = self.lingering.clone()?;
        if !holds(&running.qmp).await {
            power_cut(running).await;
            return Some(reason);
        }
        let first = !self.machine.is_stopping();
        self.lingering = Some((reason, Instant::now() + LOOK_AGAIN));
        if first {
            self.machine.shared.lock().phase = Phase::Stopping;
            self.show(running);
        }
        None
    }
}

/// `speed` in bytes per second; 0 for as fast as it goes.
async fn begin(running: &Running, copies: &[DiskCopy], speed: u64) -> Result<(), String> {
    let mut actions = Vec::new();
    for DiskCopy { disk, job, file } in copies {
        let known = running.instance.devices.iter().find(|known| known.device.volume == *disk);
        let known = known.ok_or("the machine does not have the disk any more")?;
        let source = qemu_id(&known.device.id);
        let based = known.layers > 1;
        let base = if based { Value::from(node_name(&source, 1)) } else { Value::Null };
        let protocol = json!({"driver": "file", "node-name": format!("{job}.f"), "filename": path_text(file),
            "discard": "unmap"});
        let target = json!({"driver": "qcow2", "node-name": job, "file": format!("{job}.f"), "backing": base,
            "discard": "unmap"});
        for node in [protocol, target] {
            running.qmp.execute("blockdev-add", node).await.map_err(|error| error.to_string())?;
        }
        // What the base has is in the base of the copy, too.
        let sync = if based { "top" } else { "full" };
        actions.push(json!({"type": "blockdev-backup", "data": {"job-id": job, "device": source, "target": job,
            "sync": sync, "speed": speed, "auto-dismiss": false}}));
    }
    // One fails, all fail: half of a moment is none.
    let all = json!({"actions": actions, "properties": {"completion-mode": "grouped"}});
    running.qmp.execute("transaction", all).await.map(drop).map_err(|error| error.to_string())
}

/// Returns when the job is over, with how.
async fn until_over(machine: Option<&Machine>, name: &str, report: &Report) -> Result<(), Failure> {
    let stopped = || Failure::new(VolumeFailure::Other, "the machine stopped before its disk was copied");
    let machine = machine.ok_or_else(stopped)?;
    loop {
        let qmp = machine.with(|shared| shared.qmp.clone()).ok_or_else(stopped)?;
        match qmp.execute("query-jobs", Value::Null).await {
            Ok(jobs) => {
                let job = jobs.as_array().into_iter().flatten().find(|job| job["id"] == name).ok_or_else(|| {
                    Failure::new(VolumeFailure::Other, "vmdeck or QEMU was stopped before the disk was copied")
                })?;
                if job["status"] == "concluded" {
                    return match job["error"].as_str() {
                        None => Ok(()),
                        Some(words) => Err(Failure::from_words(format!("the disk could not be copied: {words}"))),
                    };
                }
                report.working(percent(job), None);
            }
            // The machine's task connects anew, or finds that it is over.
            Err(QmpError::Closed | QmpError::Timeout { .. }) => {}
            Err(error @ QmpError::Refused { .. }) => return Err(Failure::from_words(error.to_string())),
        }
        tokio::time::sleep(LOOK_AGAIN).await;
    }
}

fn percent(job: &Value) -> Option<u8> {
    let (done, total) = (job["current-progress"].as_u64()?, job["total-progress"].as_u64()?);
    let percent = done.saturating_mul(100).checked_div(total)?;
    u8::try_from(percent).ok().map(|percent| percent.min(99))
}

/// Removes a job that is over, and its target.
async fn release(qmp: &Qmp, job: &str) {
    // Whatever of it there is: a job that was refused has none.
    for (command, arguments) in [
        ("job-dismiss", json!({ "id": job })),
        ("blockdev-del", json!({ "node-name": job })),
        ("blockdev-del", json!({ "node-name": format!("{job}.f") })),
    ] {
        if let Err(error) = qmp.execute(command, arguments).await {
            tracing::debug!(%job, %command, %error, "not removed");
        }
    }
}

/// Whether QEMU has a job or a target of ours.
async fn holds(qmp: &Qmp) -> bool {
    let ask = async |command: &str, arguments: Value| qmp.execute(command, arguments).await.unwrap_or_default();
    let jobs = ask("query-jobs", Value::Null).await;
    ours(&jobs, "id").next().is_some()
        || ours(&ask("query-named-block-nodes", json!({ "flat": true })).await, "node-name").next().is_some()
}

/// Whether QEMU copies disks for a snapshot.
pub(super) async fn is_copying(qmp: &Qmp) -> bool {
    let jobs = qmp.execute("query-jobs", Value::Null).await.unwrap_or_default();
    ours(&jobs, "id").any(|job| job["status"] != "concluded")
}

fn ours<'a>(list: &'a Value, key: &'static str) -> impl Iterator<Item = &'a Value> {
    list.as_array()
        .into_iter()
        .flatten()
        .filter(move |item| item[key].as_str().is_some_and(|name| name.starts_with(PREFIX)))
}

/// Ends jobs that nobody wants, and removes targets that no job got.
async fn tidy(qmp: Qmp, known: Vec<String>) {
    let stray = |name: &str| !known.iter().any(|job| name == job || name.strip_suffix(".f") == Some(job));
    let jobs = qmp.execute("query-jobs", Value::Null).await.unwrap_or_default();
    for job in ours(&jobs, "id").filter_map(|job| job["id"].as_str()).filter(|name| stray(name)) {
        tracing::info!(%job, "ends the copying of a disk that nobody waits for");
        let _ = qmp.execute("job-cancel", json!({ "id": job })).await;
        let concluded = async {
            while let Ok(jobs) = qmp.execute("query-jobs", Value::Null).await {
                if !ours(&jobs, "id").any(|other| other["id"] == job && other["status"] != "concluded") {
                    return;
                }
                tokio::time::sleep(LOOK_AGAIN).await;
            }
        };
        // What does not end now is found again by the next daemon.
        let _ = tokio::time::timeout(CANCEL_TIMEOUT, concluded).await;
        release(&qmp, job).await;
    }
    let nodes = qmp.execute("query-named-block-nodes", json!({ "flat": true })).await.unwrap_or_default();
    let mut names: Vec<&str> = ours(&nodes, "node-name").filter_map(|node| node["node-name"].as_str()).collect();
    // A target goes before its file.
    names.sort_by_key(|name| name.ends_with(".f"));
    for node in names.into_iter().filter(|name| stray(name)) {
        let _ = qmp.execute("blockdev-del", json!({ "node-name": node })).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_fit_and_differ() {
        let name = |uid: &str| job_name(&VolumeId { kind: VolumeKind::Snapshot, uid: uid.into() });
        assert_ne!(name("a"), name("b"));
        assert_eq!(name("a"), name("a"));
        assert!(name(&"x".repeat(300)).len() + ".f".len() <= 31);
    }

    #[test]
    fn progress_never_claims_the_end() {
        assert_eq!(percent(&json!({"current-progress": 5, "total-progress": 10})), Some(50));
        assert_eq!(percent(&json!({"current-progress": 10, "total-progress": 10})), Some(99));
        assert_eq!(percent(&json!({"current-progress": 0, "total-progress": 0})), None);
    }
}
