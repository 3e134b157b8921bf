//! Disks and images: which there are, in which state, and who is based on whom.

use std::collections::HashMap;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use serde::{Deserialize, Serialize};
use tokio::sync::broadcast;

use super::command_line::Layer;
use super::context::blocking;
use super::disk_image::{Backing, Tool};
use super::layout::{self, Layout};
use super::spec::{VolumeId, VolumeRequest, VolumeSource};
use super::volume_job::{self, Failure};
use super::{HostEvent, Speed, VolumeFailure, VolumeInfo, VolumeState};

const FILE: &str = "volume.json";

/// The content of a ready volume, in its directory.
pub(super) const DATA: &str = "data";

/// `volume.json`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct VolumeRecord {
    /// The volume.
    pub(super) id: VolumeId,
    /// How it is made.
    pub(super) request: VolumeRequest,
    /// Names its upload.
    #[serde(default)]
    pub(super) token: Option<String>,
    /// Where it stands.
    pub(super) stage: VolumeStage,
    /// Deleted, but other volumes are based on it.
    #[serde(default)]
    pub(super) orphaned: bool,
}

/// Where a volume stands.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", tag = "stage")]
pub(super) enum VolumeStage {
    /// A job makes it; after a restart of the daemon it begins anew.
    Making,
    /// Usable.
    Ready(Content),
    /// Could not be made.
    Failed {
        /// Kind.
        kind: VolumeFailure,
        /// Words.
        detail: String,
    },
}

/// What is in a ready volume.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Content {
    /// For the caller.
    pub(super) info: VolumeInfo,
    /// The file is `raw`, not `qcow2`.
    pub(super) raw: bool,
    /// Copy-on-write base.
    pub(super) base: Option<VolumeId>,
}

struct Entry {
    record: VolumeRecord,
    state: VolumeState,
    job: Option<tokio::task::AbortHandle>,
    /// Tells a job that has been replaced from the present one.
    generation: u64,
}

/// All volumes of a host.
pub(super) struct Volumes {
    pub(super) layout: Layout,
    pub(super) tool: Tool,
    events: broadcast::Sender<HostEvent>,
    runtime: tokio::runtime::Handle,
    entries: Mutex<HashMap<VolumeId, Entry>>,
    generations: AtomicU64,
    pub(super) uploads: super::upload::Uploads,
}

impl Volumes {
    /// Reads the records. Jobs are resumed by [`Volumes::resume`]. Reads files: not for an async thread.
    pub(super) fn open(
        layout: Layout,
        tool: Tool,
        events: broadcast::Sender<HostEvent>,
        runtime: tokio::runtime::Handle,
    ) -> io::Result<Arc<Self>> {
        let mut entries = HashMap::new();
        for dir in layout.volume_dirs()? {
            match read(&dir) {
                // Whoever wanted it asks again, with credentials.
                Ok(VolumeRecord { stage: VolumeStage::Making, request, .. })
                    if matches!(request.source, VolumeSource::Registry { .. }) =>
                {
                    std::fs::remove_dir_all(&dir)?;
                }
                Ok(record) if layout.volume(&record.id) == dir => {
                    let state = match &record.stage {
                        VolumeStage::Making => VolumeState::Working { progress: None, bytes_per_second: None },
                        VolumeStage::Ready(content) => VolumeState::Ready(content.info.clone()),
                        VolumeStage::Failed { kind, detail } => {
                            VolumeState::Failed { kind: *kind, detail: detail.clone() }
                        }
                    };
                    entries.insert(record.id.clone(), Entry { record, state, job: None, generation: 0 });
                }
                Ok(record) => {
                    tracing::error!(dir = %dir.display(), id = ?record.id, "the record of another volume lies here");
                }
                // Made, but never written down: nobody knows it.
                Err(error) if error.kind() == io::ErrorKind::NotFound => std::fs::remove_dir_all(&dir)?,
                Err(error) => tracing::error!(dir = %dir.display(), %error, "unreadable volume record; left alone"),
            }
        }
        let uploads = super::upload::Uploads::default();
        Ok(Arc::new(Self {
            layout,
            tool,
            events,
            runtime,
            entries: Mutex::new(entries),
            generations: AtomicU64::new(1),
            uploads,
        }))
    }

    /// Starts the jobs that an earlier daemon did not finish. An upload waits again under the same token. Copies that
    /// a machine's QEMU makes are taken up with the machine.
    pub(super) fn resume(self: &Arc<Self>) {
        let mut unfinished = Vec::new();
        for (id, entry) in self.entries.lock().iter() {
            let running = matches!(entry.record.request.source, VolumeSource::Running { .. });
            if entry.record.stage == VolumeStage::Making && !entry.record.orphaned && !running {
                unfinished.push(id.clone());
            }
        }
        for id in unfinished {
            self.start_job(&id);
        }
    }

    /// See [`super::Host::volume`].
    pub(super) fn state(&self, id: &VolumeId) -> Option<VolumeState> {
        self.entries.lock().get(id).filter(|entry| !entry.record.orphaned).map(|entry| entry.state.clone())
    }

    /// See [`super::Host::volumes`].
    pub(super) fn list(&self) -> Vec<VolumeId> {
        let entries = self.entries.lock();
        let mut ids: Vec<_> =
            entries.iter().filter(|(_, entry)| !entry.record.orphaned).map(|(id, _)| id.clone()).collect();
        ids.sort();
        ids
    }

    /// See [`super::Host::create_volume`].
    pub(super) fn create(self: &Arc<Self>, id: &VolumeId, request: VolumeRequest) {
        if self.note(id, request) {
            self.start_job(id);
        }
    }

    /// Notes a volume to be made; false if it is there or being made.
    pub(super) fn note(&self, id: &VolumeId, request: VolumeRequest) -> bool {
        let mut entries = self.entries.lock();
        if let Some(entry) = entries.get(id)
            && !matches!(entry.record.stage, VolumeStage::Failed { .. })
        {
            return false;
        }
        let token = matches!(request.source, VolumeSource::Upload).then(super::upload::new_token);
        let record = VolumeRecord { id: id.clone(), request, token, stage: VolumeStage::Making, orphaned: false };
        let state = VolumeState::Working { progress: None, bytes_per_second: None };
        entries.insert(id.clone(), Entry { record, state, job: None, generation: self.next_generation() });
        true
    }

    /// Volumes in the making, with their sources.
    pub(super) fn making(&self) -> Vec<(VolumeId, VolumeSource)> {
        let entries = self.entries.lock();
        let making = entries.values().filter(|e| e.record.stage == VolumeStage::Making && !e.record.orphaned);
        making.map(|entry| (entry.record.id.clone(), entry.record.request.source.clone())).collect()
    }

    fn next_generation(&self) -> u64 {
        self.generations.fetch_add(1, Ordering::Relaxed)
    }

    fn start_job(self: &Arc<Self>, id: &VolumeId) {
        self.attend(id, async |volumes, record, report| {
            let dir = volumes.fresh_dir(&record).await?;
            volume_job::make(&volumes, &record, &dir, &report).await
        });
    }

    /// Has a noted volume made by `work`, and writes down how it ended.
    pub(super) fn attend<W, F>(self: &Arc<Self>, id: &VolumeId, work: W)
    where
        W: FnOnce(Arc<Self>, VolumeRecord, Report) -> F,
        F: Future<Output = Result<Content, Failure>> + Send + 'static,
    {
        let mut entries = self.entries.lock();
        let Some(entry) = entries.get_mut(id) else { return };
        entry.generation = self.next_generation();
        let (volumes, record, generation) = (self.clone(), entry.record.clone(), entry.generation);
        let report = Report { volumes: self.clone(), id: id.clone(), generation, last: Mutex::new(None) };
        let work = work(self.clone(), record.clone(), report);
        let job = self.runtime.spawn(async move {
            let made = work.await;
            volumes.finish_job(record, generation, made).await;
        });
        entry.job = Some(job.abort_handle());
    }

    /// Writes down that a noted volume cannot be made.
    pub(super) async fn fail(&self, id: &VolumeId, failure: Failure) {
        let Some((record, generation)) =
            self.entries.lock().get(id).map(|entry| (entry.record.clone(), entry.generation))
        else {
            return;
        };
        self.finish_job(record, generation, Err(failure)).await;
    }

    /// The record of a noted volume.
    pub(super) fn record(&self, id: &VolumeId) -> Option<VolumeRecord> {
        self.entries.lock().get(id).map(|entry| entry.record.clone())
    }

    /// An empty directory with the volume's record.
    pub(super) async fn fresh_dir(&self, record: &VolumeRecord) -> Result<PathBuf, Failure> {
        let dir = self.layout.volume(&record.id);
        let (layout, fresh, written) = (self.layout.clone(), dir.clone(), record.clone());
        blocking(move || {
            // Leftovers of a job that was interrupted.
            remove(&fresh)?;
            layout::make_dir(&fresh)?;
            if matches!(layout.isolation, layout::Isolation::Unprivileged { .. }) {
                layout.isolation.share(&fresh)?;
            }
            write(&fresh, &written)
        })
        .await
        .map_err(|error| Failure::io("cannot make the volume's directory", &error))?;
        Ok(dir)
    }

    /// Writes down how a job ended. After a failure only the record stays.
    async fn finish_job(&self, mut record: VolumeRecord, generation: u64, made: Result<Content, Failure>) {
        let dir = self.layout.volume(&record.id);
        let outcome = made.as_ref().map(drop).map_err(Clone::clone);
        record.stage = match made {
            Ok(content) => VolumeStage::Ready(content),
            Err(failure) => VolumeStage::Failed { kind: failure.kind, detail: failure.detail },
        };
        let written = {
            let record = record.clone();
            blocking(move || {
                if !matches!(record.stage, VolumeStage::Ready(_)) {
                    remove(&dir)?;
                    layout::make_dir(&dir)?;
                }
                write(&dir, &record)
            })
            .await
        };
        if let Err(error) = written {
            let detail = format!("cannot write the volume's record: {error}");
            record.stage = VolumeStage::Failed { kind: VolumeFailure::Other, detail };
        }
        {
            let mut entries = self.entries.lock();
            let Some(entry) = entries.get_mut(&record.id).filter(|entry| entry.generation == generation) else {
                return;
            };
            entry.state = match &record.stage {
                VolumeStage::Ready(content) => VolumeState::Ready(content.info.clone()),
                VolumeStage::Failed { kind, detail } => VolumeState::Failed { kind: *kind, detail: detail.clone() },
                VolumeStage::Making => return,
            };
            entry.record = record.clone();
            entry.job = None;
        }
        self.announce(&record.id);
        if let Some(token) = &record.token {
            self.uploads.finished(token, outcome.as_ref().copied());
        }
        // What it was made from may have been deleted meanwhile.
        let gone = collect(&mut self.entries.lock());
        let dirs: Vec<PathBuf> = gone.iter().map(|id| self.layout.volume(id)).collect();
        if let Err(error) = blocking(move || dirs.iter().try_for_each(|dir| remove(dir))).await {
            tracing::warn!(%error, "cannot remove a deleted volume");
        }
    }

    fn announce(&self, id: &VolumeId) {
        // Fails only when nobody listens.
        let _ = self.events.send(HostEvent::Volume(id.clone()));
    }

    /// The content of a ready volume, also of a deleted one that others are based on.
    pub(super) fn content(&self, id: &VolumeId) -> Option<Content> {
        match &self.entries.lock().get(id)?.record.stage {
            VolumeStage::Ready(content) => Some(content.clone()),
            VolumeStage::Making | VolumeStage::Failed { .. } => None,
        }
    }

    /// Files of a ready volume, the topmost first.
    pub(super) fn layers(&self, id: &VolumeId) -> Result<Vec<Layer>, String> {
        let mut layers = Vec::new();
        let mut next = Some(id.clone());
        while let Some(id) = next {
            let content = self.content(&id).ok_or_else(|| {
                if layers.is_empty() { "the disk or image is not ready" } else { "the image it is based on is gone" }
                    .to_owned()
            })?;
            let format = if content.raw { "raw" } else { "qcow2" };
            layers.push(Layer { path: self.data(&id), format });
            next = content.base;
        }
        Ok(layers)
    }

    /// `base` as what the file of the volume `of` is based on.
    pub(super) fn backing(&self, of: &VolumeId, base: &VolumeId) -> Result<Backing, Failure> {
        let content = self.content(base).ok_or_else(|| {
            Failure::new(VolumeFailure::Source, "the image or snapshot that the disk is based on is gone")
        })?;
        // Relative, so that the state directory may move.
        let relative = volume_job::relative_data(&self.data(of), &self.data(base));
        Ok(Backing { relative, raw: content.raw })
    }

    /// A volume's data file.
    pub(super) fn data(&self, id: &VolumeId) -> PathBuf {
        self.layout.volume(id).join(DATA)
    }

    /// Notes a new size.
    pub(super) async fn resized(&self, id: &VolumeId, bytes: u64) -> io::Result<()> {
        let record = {
            let mut entries = self.entries.lock();
            let Some(entry) = entries.get_mut(id) else { return Ok(()) };
            let VolumeStage::Ready(content) = &mut entry.record.stage else { return Ok(()) };
            content.info.virtual_size = bytes;
            entry.state = VolumeState::Ready(content.info.clone());
            entry.record.clone()
        };
        let dir = self.layout.volume(id);
        blocking(move || write(&dir, &record)).await?;
        self.announce(id);
        Ok(())
    }

    /// See [`super::Host::delete_volume`]. An image that others are based on is hidden, and goes with the last of
    /// them.
    pub(super) async fn delete(&self, id: &VolumeId) -> Result<(), String> {
        let (gone, hidden) = {
            let mut entries = self.entries.lock();
            let Some(entry) = entries.get_mut(id) else { return Ok(()) };
            if let Some(job) = entry.job.take() {
                job.abort();
            }
            // Whatever the job still does is not taken for the volume.
            entry.generation = self.next_generation();
            entry.record.orphaned = true;
            let hidden = entry.record.clone();
            if let Some(token) = &hidden.token {
                self.uploads.forget(token);
            }
            (collect(&mut entries), hidden)
        };
        let dir = self.layout.volume(id);
        let removed: Vec<PathBuf> = gone.iter().map(|id| self.layout.volume(id)).collect();
        blocking(move || {
            if !removed.contains(&dir) {
                write(&dir, &hidden)?;
            }
            removed.iter().try_for_each(|dir| remove(dir))
        })
        .await
        .map_err(|error| format!("cannot remove the volume: {error}"))?;
        self.announce(id);
        Ok(())
    }
}

/// Takes out deleted volumes that nobody is based on (any more).
fn collect(entries: &mut HashMap<VolumeId, Entry>) -> Vec<VolumeId> {
    let mut gone = Vec::new();
    loop {
        let bases: Vec<VolumeId> = entries
            .values()
            .filter_map(|entry| match &entry.record.stage {
                VolumeStage::Ready(content) => content.base.clone(),
                // A job may be about to be based on it.
                VolumeStage::Making if !entry.record.orphaned => match &entry.record.request.source {
                    VolumeSource::Volume(base) | VolumeSource::Running { disk: base, .. } => Some(base.clone()),
                    _ => None,
                },
                VolumeStage::Making | VolumeStage::Failed { .. } => None,
            })
            .collect();
        let unused = entries.iter().find(|(id, entry)| entry.record.orphaned && !bases.contains(id));
        let Some(id) = unused.map(|(id, _)| id.clone()) else { return gone };
        entries.remove(&id);
        gone.push(id);
    }
}

/// A job's way to tell how far it is.
pub(super) struct Report {
    volumes: Arc<Volumes>,
    id: VolumeId,
    generation: u64,
    last: Mutex<Option<Instant>>,
}

/// How long the last writer into a deleted directory may take to let go of it.
const REMOVAL: Duration = Duration::from_secs(1);

/// Progress is told at most this often.
const PROGRESS_EVERY: Duration = Duration::from_millis(500);

impl Report {
    /// Shows a state.
    pub(super) fn show(&self, state: VolumeState) {
        // What follows a change of another kind is news.
        if !matches!(state, VolumeState::Working { .. }) {
            *self.last.lock() = None;
        }
        {
            let mut entries = self.volumes.entries.lock();
            let Some(entry) = entries.get_mut(&self.id).filter(|entry| entry.generation == self.generation) else {
                return;
            };
            if entry.state == state {
                return;
            }
            entry.state = state;
        }
        self.volumes.announce(&self.id);
    }

    /// Shows that another part of the work begins, however soon after the last time.
    pub(super) fn begins(&self, progress: u8) {
        *self.last.lock() = None;
        self.working(Some(progress), None);
    }

    /// Shows progress.
    pub(super) fn working(&self, progress: Option<u8>, bytes_per_second: Option<Speed>) {
        {
            let mut last = self.last.lock();
            if last.is_some_and(|last| last.elapsed() < PROGRESS_EVERY) {
                return;
            }
            *last = Some(Instant::now());
        }
        self.show(VolumeState::Working { progress, bytes_per_second });
    }
}

/// Removes a directory with all in it; fine if there is none. A thread that unpacks into it has been told to stop, but
/// may be making its file in this very moment: then it is tried again for a second. Not for an async thread.
fn remove(dir: &Path) -> io::Result<()> {
    let begun = Instant::now();
    loop {
        match std::fs::remove_dir_all(dir) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
            Err(error) if error.kind() == io::ErrorKind::DirectoryNotEmpty && begun.elapsed() < REMOVAL => {
                std::thread::sleep(REMOVAL / 50);
            }
            done => return done,
        }
    }
}

fn read(dir: &Path) -> io::Result<VolumeRecord> {
    serde_json::from_slice(&std::fs::read(dir.join(FILE))?).map_err(io::Error::other)
}

fn write(dir: &Path, record: &VolumeRecord) -> io::Result<()> {
    let text = serde_json::to_vec_pretty(record).map_err(io::Error::other)?;
    layout::replace_file_durably(&dir.join(FILE), &text)
}
