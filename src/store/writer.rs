//! The writer thread: group commit and compaction.

use std::collections::HashMap;
use std::fs::File;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use rusqlite::Connection;
use tokio::sync::oneshot;

use super::error::{StoreError, WriteError};
use super::model::{Action, Change, ChangeKind, Entry, Expect, Key, Revision, Write, Written};
use super::view::View;
use super::{Shared, db};

/// Writes that may wait; more are refused at once.
const QUEUE: usize = 4096;
/// Writes in one transaction.
const GROUP: usize = 128;
/// Rows that one slice of compaction goes through: short enough not to be felt by a writer.
const SLICE: u64 = 500;

type Answer = Result<Written, WriteError>;

pub(super) enum Command {
    Write(Box<Write>, oneshot::Sender<Answer>),
}

/// Starts the thread. It ends when the last sender is dropped.
pub(super) fn start(
    connection: Connection,
    lock: File,
    shared: Arc<Shared>,
) -> Result<SyncSender<Command>, StoreError> {
    let (sender, queue) = sync_channel(QUEUE);
    let path = shared.path.clone();
    let mut writer = Writer { connection, shared, clock: 0, compacted: None };
    std::thread::Builder::new()
        .name("store".to_owned())
        .spawn(move || {
            writer.run(&queue);
            drop(lock);
        })
        .map_err(|e| StoreError::Open { path, cause: e.to_string() })?;
    Ok(sender)
}

struct Writer {
    connection: Connection,
    shared: Arc<Shared>,
    /// Milliseconds since the epoch of the last group; never goes back, whatever the system's clock does.
    clock: i64,
    /// Up to where the log has been compacted; unknown until first asked for.
    compacted: Option<Revision>,
}

impl Writer {
    fn run(&mut self, queue: &Receiver<Command>) {
        let mut next_compaction = Instant::now() + self.shared.options.compact_every;
        loop {
            let patience = next_compaction.saturating_duration_since(Instant::now());
            match queue.recv_timeout(patience) {
                Ok(first) => {
                    let mut group = vec![first];
                    group.extend(queue.try_iter().take(GROUP - 1));
                    self.commit(group);
                }
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => break,
            }
            if Instant::now() >= next_compaction {
                let more = self.compact().unwrap_or_else(|error| {
                    tracing::warn!(%error, "the state database could not be compacted");
                    false
                });
                let pause = if more { Duration::from_millis(20) } else { self.shared.options.compact_every };
                next_compaction = Instant::now() + pause;
            }
        }
        self.shared.view.write().close();
    }

    fn commit(&mut self, group: Vec<Command>) {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |d| d.as_millis());
        self.clock = self.clock.max(i64::try_from(now).unwrap_or(i64::MAX));

        let mut plan = Plan::new(self.shared.view.read().revision());
        let mut answers = Vec::with_capacity(group.len());
        {
            let view = self.shared.view.read();
            for Command::Write(write, answer) in group {
                answers.push((answer, plan.add(&view, &write)));
            }
        }
        let stored = if plan.changes.is_empty() { Ok(()) } else { self.store(&plan.changes) };
        match stored {
            Ok(()) if !plan.changes.is_empty() => {
                let revision = plan.revision;
                self.shared.view.write().publish(plan.changes);
                self.shared.newest.send_replace(revision);
            }
            Ok(()) => {}
            Err(error) => {
                tracing::error!(%error, "the state database could not be written");
                // What was decided about these writes rested on the ones that are lost now.
                for (_, answer) in &mut answers {
                    *answer = Err(WriteError::Store(error.clone()));
                }
            }
        }
        for (answer, outcome) in answers {
            // The client may have gone; the write stands all the same.
            answer.send(outcome).ok();
        }
    }

    fn store(&mut self, changes: &[Arc<Change>]) -> Result<(), StoreError> {
        let tx = self.connection.transaction()?;
        for change in changes {
            db::append(&tx, change, self.clock)?;
        }
        Ok(tx.commit()?)
    }

    /// One slice of compaction; true when there is more to do.
    fn compact(&mut self) -> Result<bool, StoreError> {
        let options = &self.shared.options;
        let newest = self.shared.view.read().revision();
        let before = self.clock - i64::try_from(options.keep.as_millis()).unwrap_or(i64::MAX);
        let floor = db::compaction_floor(&self.connection, newest, before, options.keep_changes)?;
        let done = match self.compacted {
            Some(done) => done,
            None => db::compacted_to(&self.connection)?,
        };
        self.compacted = Some(done);
        if floor <= done {
            return Ok(false);
        }
        // Readers check against the floor after reading, so it has to be up before rows vanish.
        self.shared.view.write().set_floor(floor);
        let done = db::compact(&mut self.connection, done, floor, SLICE, newest)?;
        self.compacted = Some(done);
        Ok(done < floor)
    }
}

/// The changes that a group of writes makes, decided against the view and the group's own earlier changes.
struct Plan {
    revision: Revision,
    changes: Vec<Arc<Change>>,
    touched: HashMap<Key, Option<Arc<Entry>>>,
}

impl Plan {
    fn new(revision: Revision) -> Self {
        Self { revision, changes: Vec::new(), touched: HashMap::new() }
    }

    fn look(&self, view: &View, key: &Key) -> Option<Arc<Entry>> {
        self.touched.get(key).cloned().unwrap_or_else(|| view.get(key))
    }

    fn add(&mut self, view: &View, write: &Write) -> Answer {
        let present = self.look(view, &write.key);
        match (write.expect, &present) {
            (Expect::Absent, Some(entry)) => return Err(WriteError::Exists(Arc::clone(entry))),
            (Expect::At(_), None) => return Err(WriteError::Missing),
            (Expect::At(revision), Some(entry)) if entry.revision != revision => {
                return Err(WriteError::Moved(Arc::clone(entry)));
            }
            _ => {}
        }
        for (key, expect) in &write.requires {
            let holds = match (expect, self.look(view, key)) {
                (Expect::Absent, found) => found.is_none(),
                (Expect::At(revision), found) => found.is_some_and(|e| e.revision == *revision),
                (Expect::Any, _) => true,
            };
            if !holds {
                return Err(WriteError::Requirement(key.clone()));
            }
        }
        let (kind, body) = match (&write.action, &present) {
            (Action::Delete(_), None) => return Err(WriteError::Missing),
            (Action::Put(body), Some(entry)) if body.is(entry) => {
                return Ok(Written { entry: Arc::clone(entry), changed: false });
            }
            (Action::Delete(body), Some(_)) => (ChangeKind::Deleted, body),
            (Action::Put(body), Some(_)) => (ChangeKind::Modified, body),
            (Action::Put(body), None) => (ChangeKind::Added, body),
        };
        self.revision += 1;
        let revision = self.revision;
        let entry = Arc::new(Entry { key: write.key.clone(), revision, bytes: body.render(revision) });
        let stays = (kind != ChangeKind::Deleted).then(|| Arc::clone(&entry));
        self.touched.insert(write.key.clone(), stays);
        self.changes.push(Arc::new(Change::new(kind, Arc::clone(&entry), present)));
        Ok(Written { entry, changed: true })
    }
}
