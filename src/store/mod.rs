//! The state of the node: an append-only log of changes and the current objects, on SQLite.
//!
//! The store knows keys and bytes, not kinds. One writer thread owns the writing connection and commits what has
//! gathered in its queue as one transaction (`synchronous=FULL`): an acknowledged write is on disk. Reads never
//! touch SQL: the current objects are kept encoded in memory ([`Store::get`], [`Store::list`]), so are the newest
//! changes; SQL serves only what is older ([`Store::list_at`], [`Store::watch`] from far back).
//!
//! ```text
//! write -> queue -> writer thread: check, log row, current row, COMMIT -> view + watchers -> answer
//! ```
//!
//! One revision counter for everything; it never goes back. A value carries its own revision, so a caller gives
//! the bytes before and after it ([`Body`]).

mod backup;
mod clock;
mod copy;
mod db;
mod error;
mod log;
mod model;
mod reserve;
mod schema;
mod view;
mod wal;
mod watch;
mod writer;

#[cfg(test)]
mod tests;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::mpsc::{SyncSender, TrySendError};
use std::time::Duration;

use parking_lot::{Mutex, RwLock};
use tokio::sync::oneshot;

pub use backup::{Backup, Contents, Restored, backup};
pub use error::{StoreError, WriteError};
pub use model::{Action, Body, Change, ChangeKind, Entry, Expect, Key, Revision, Write, Written};
pub use watch::Watch;

/// How much history is kept, and how large the queues are.
#[derive(Debug, Clone)]
pub struct Options {
    /// Changes younger than this are kept.
    pub keep: Duration,
    /// At least this many changes are kept, whatever their age.
    pub keep_changes: u64,
    /// Pause between two compactions.
    pub compact_every: Duration,
    /// Changes that a watcher may lag behind before it is cut off.
    pub watch_queue: usize,
    /// Changes kept in memory (fewer when they are large): enough for a list to be followed by its watch and for
    /// the pages of a list. Older ones are read from disk.
    pub window: usize,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            keep: Duration::from_secs(300),
            keep_changes: 1000,
            compact_every: Duration::from_secs(30),
            watch_queue: 1024,
            window: 4096,
        }
    }
}

/// Objects of one bucket at one revision, in key order.
#[derive(Debug, Clone)]
pub struct Snapshot {
    /// The revision of the whole store that this shows.
    pub revision: Revision,
    /// The objects.
    pub entries: Vec<Arc<Entry>>,
}

/// A handle to the store; clones share it. The writer thread ends when the last handle is gone, after writing
/// what was queued.
#[derive(Clone)]
pub struct Store {
    shared: Arc<Shared>,
    queue: SyncSender<writer::Command>,
}

/// What handles and the writer thread share.
struct Shared {
    path: PathBuf,
    identity: i64,
    options: Options,
    view: RwLock<view::View>,
    /// Read-only connection for what is no longer in memory. Used on blocking threads only.
    reader: Mutex<rusqlite::Connection>,
    /// The newest revision, for those who wait for one.
    newest: tokio::sync::watch::Sender<Revision>,
    /// Why the last write failed, until one succeeds.
    trouble: Mutex<Option<StoreError>>,
}

impl Store {
    /// Opens or creates the store in directory `dir` (made 0700; files 0600). Blocks: the whole state is read and
    /// checked.
    ///
    /// # Errors
    /// [`StoreError::Locked`] when another process has it, [`StoreError::Corrupt`], [`StoreError::Foreign`],
    /// [`StoreError::Newer`], [`StoreError::Full`], or [`StoreError::Open`].
    pub fn open(dir: &Path, options: Options) -> Result<Self, StoreError> {
        let opened = db::open(dir, options.window)?;
        let (newest, _) = tokio::sync::watch::channel(opened.view.revision());
        let shared = Arc::new(Shared {
            path: opened.path,
            identity: opened.identity,
            options,
            view: RwLock::new(opened.view),
            reader: Mutex::new(opened.reader),
            newest,
            trouble: Mutex::new(None),
        });
        let clock = clock::Clock::start(opened.newest_at, clock::wall(), std::time::Instant::now());
        let writer = writer::Writer::new(opened.writer, Arc::clone(&shared), clock, opened.compacted, opened.reserve);
        let queue = writer::start(writer, opened.lock)?;
        Ok(Self { shared, queue })
    }

    /// The newest revision.
    pub fn revision(&self) -> Revision {
        self.shared.view.read().revision()
    }

    /// The revision below which history is gone.
    pub fn floor(&self) -> Revision {
        self.shared.view.read().floor()
    }

    /// One object.
    pub fn get(&self, key: &Key) -> Option<Arc<Entry>> {
        self.shared.view.read().get(key)
    }

    /// The objects of a bucket now, of one namespace or all.
    pub fn list(&self, bucket: &str, namespace: Option<&str>) -> Snapshot {
        let view = self.shared.view.read();
        Snapshot { revision: view.revision(), entries: view.list(bucket, namespace) }
    }

    /// All objects now.
    pub fn list_all(&self) -> Snapshot {
        let view = self.shared.view.read();
        Snapshot { revision: view.revision(), entries: view.list_all() }
    }

    /// The objects of a bucket as they were at `revision`.
    ///
    /// # Errors
    /// [`StoreError::Compacted`] or [`StoreError::Future`].
    pub async fn list_at(
        &self,
        bucket: &str,
        namespace: Option<&str>,
        revision: Revision,
    ) -> Result<Snapshot, StoreError> {
        {
            let view = self.shared.view.read();
            view.check(revision)?;
            if let Some(entries) = view.list_at(bucket, namespace, revision) {
                return Ok(Snapshot { revision, entries });
            }
        }
        let (shared, bucket, namespace) = (Arc::clone(&self.shared), bucket.to_owned(), namespace.map(str::to_owned));
        tokio::task::spawn_blocking(move || {
            let reader = shared.reader.lock();
            let entries = log::list_at(&reader, &bucket, namespace.as_deref(), revision)?;
            // Compaction may have run meanwhile; it moves the floor before it deletes.
            shared.view.read().check(revision)?;
            Ok(Snapshot { revision, entries })
        })
        .await
        .map_err(|e| StoreError::Io(e.to_string()))?
    }

    /// Waits until the store has reached `revision`, at most `patience`. True if it has.
    pub async fn reached(&self, revision: Revision, patience: Duration) -> bool {
        let mut newest = self.shared.newest.subscribe();
        let wait = newest.wait_for(|now| *now >= revision);
        matches!(tokio::time::timeout(patience, wait).await, Ok(Ok(_)))
    }

    /// Writes durably; returns when the change is on disk and visible.
    ///
    /// # Errors
    /// [`WriteError`]: an expectation that did not hold, or the store could not write (nothing was changed then).
    pub async fn write(&self, write: Write) -> Result<Written, WriteError> {
        let (answer, answered) = oneshot::channel();
        self.send(writer::Command::Write(writer::Pending { write: Box::new(write), answer }))?;
        answered.await.map_err(|_| StoreError::Closed)?
    }

    /// Brings all into the one file `store.db`, so that what is left at the end of a process is simple to look at and
    /// to copy. Everything acknowledged is durable without it.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn settle(&self) -> Result<(), StoreError> {
        let (answer, answered) = oneshot::channel();
        self.send(writer::Command::Settle(answer))?;
        answered.await.map_err(|_| StoreError::Closed)?
    }

    fn send(&self, command: writer::Command) -> Result<(), StoreError> {
        self.queue.try_send(command).map_err(|e| match e {
            TrySendError::Full(_) => StoreError::Busy,
            TrySendError::Disconnected(_) => StoreError::Closed,
        })
    }

    /// Names this store among all that have been or will be in its place; a restored one has a new name.
    pub fn identity(&self) -> String {
        format!("{:016x}", self.shared.identity)
    }

    /// Why writes are refused at present, for example because the disk is full.
    pub fn trouble(&self) -> Option<StoreError> {
        self.shared.trouble.lock().clone()
    }

    /// The database file.
    pub fn path(&self) -> &Path {
        &self.shared.path
    }
}
