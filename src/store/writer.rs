//! The writer thread: group commit and compaction.

use std::collections::HashMap;
use std::fs::File;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::time::{Duration, Instant};

use rusqlite::Connection;
use tokio::sync::oneshot;

use super::clock::Clock;
use super::error::{StoreError, WriteError};
use super::model::{Action, Change, ChangeKind, Entry, Expect, Key, Revision, Write, Written};
use super::reserve::Reserve;
use super::view::View;
use super::{Shared, db, log};

/// Writes that may wait; more are refused at once.
const QUEUE: usize = 4096;
/// Writes in one transaction.
const GROUP: usize = 128;
/// Rows that one slice of compaction goes through: short enough not to be felt by a writer.
const SLICE: u64 = 250;
/// Pause between slices.
const PAUSE: Duration = Duration::from_millis(20);
/// How often a full disk is looked at.
const LOOK_AGAIN: Duration = Duration::from_secs(1);

type Answer = Result<Written, WriteError>;

pub(super) enum Command {
    Write(Pending),
    /// Takes the write-ahead log into the database.
    Settle(oneshot::Sender<Result<(), StoreError>>),
}

/// A write, and who waits for its answer.
pub(super) struct Pending {
    pub(super) write: Box<Write>,
    pub(super) answer: oneshot::Sender<Answer>,
}

impl Pending {
    fn leads_to_less(&self) -> bool {
        matches!(self.write.action, Action::Retire(_) | Action::Delete(_))
    }
}

/// Starts the thread. It ends when the last sender is dropped.
pub(super) fn start(mut writer: Writer, lock: File) -> Result<SyncSender<Command>, StoreError> {
    let (sender, queue) = sync_channel(QUEUE);
    let path = writer.shared.path.clone();
    std::thread::Builder::new()
        .name("store".to_owned())
        .spawn(move || {
            writer.run(&queue);
            drop((writer, lock));
        })
        .map_err(|e| StoreError::Open { path, cause: e.to_string() })?;
    Ok(sender)
}

/// All that the thread has.
pub(super) struct Writer {
    connection: Connection,
    shared: Arc<Shared>,
    clock: Clock,
    /// Up to where the log has been compacted.
    compacted: Revision,
    reserve: Reserve,
    /// While the disk is full: when to look next whether it still is. Only what leads to less is written meanwhile.
    full: Option<Instant>,
}

impl Writer {
    pub(super) fn new(
        connection: Connection,
        shared: Arc<Shared>,
        clock: Clock,
        compacted: Revision,
        reserve: Reserve,
    ) -> Self {
        Self { connection, shared, clock, compacted, reserve, full: None }
    }

    fn run(&mut self, queue: &Receiver<Command>) {
        let mut next_compaction = Instant::now() + self.shared.options.compact_every;
        loop {
            let next = self.full.map_or(next_compaction, |look| look.min(next_compaction));
            match queue.recv_timeout(next.saturating_duration_since(Instant::now())) {
                Ok(first) => {
                    let (mut group, mut settle) = (Vec::new(), None);
                    for command in std::iter::once(first).chain(queue.try_iter().take(GROUP - 1)) {
                        match command {
                            Command::Write(pending) => group.push(pending),
                            Command::Settle(answer) => settle = Some(answer),
                        }
                    }
                    self.look_for_space();
                    self.commit(group);
                    if let Some(answer) = settle {
                        let settled = db::settle(&self.connection).map_err(|e| db::refused(&self.shared.path, &e));
                        answer.send(settled).ok();
                    }
                }
                Err(RecvTimeoutError::Timeout) => self.look_for_space(),
                Err(RecvTimeoutError::Disconnected) => break,
            }
            if Instant::now() >= next_compaction {
                let more = self.compact().unwrap_or_else(|error| {
                    tracing::warn!(%error, "the state database could not be compacted");
                    false
                });
                let pause = if more { PAUSE } else { self.shared.options.compact_every };
                next_compaction = Instant::now() + pause;
            }
        }
        self.shared.view.write().close();
    }

    /// Ends the state of a full disk once the reserve is whole again.
    fn look_for_space(&mut self) {
        let now = Instant::now();
        if self.full.is_none_or(|look| now < look) {
            return;
        }
        if self.reserve.fill().is_ok() {
            tracing::info!("there is space for the state database again");
            self.full = None;
            *self.shared.trouble.lock() = None;
        } else {
            self.full = Some(now + LOOK_AGAIN);
        }
    }

    fn commit(&mut self, mut group: Vec<Pending>) {
        loop {
            if self.full.is_some() {
                let error = StoreError::Full { path: self.shared.path.clone() };
                for refused in group.extract_if(.., |p| !p.leads_to_less()) {
                    refused.answer.send(Err(WriteError::Store(error.clone()))).ok();
                }
            }
            let mut plan = Plan::new(self.shared.view.read().revision());
            let mut outcomes = Vec::with_capacity(group.len());
            {
                let view = self.shared.view.read();
                outcomes.extend(group.iter().map(|pending| plan.add(&view, &pending.write)));
            }
            let stored = if plan.changes.is_empty() { Ok(()) } else { self.store(&plan.changes) };
            match stored {
                Ok(()) if !plan.changes.is_empty() => {
                    let revision = plan.revision;
                    self.shared.view.write().publish(plan.changes);
                    self.shared.newest.send_replace(revision);
                    if self.full.is_none() {
                        *self.shared.trouble.lock() = None;
                    }
                }
                Ok(()) => {}
                Err(error) => {
                    tracing::error!(%error, "the state database could not be written");
                    *self.shared.trouble.lock() = Some(error.clone());
                    if matches!(error, StoreError::Full { .. }) && self.full.is_none() {
                        // What leads to less may still find its place.
                        self.reserve.release();
                        self.full = Some(Instant::now() + LOOK_AGAIN);
                        continue;
                    }
                    // What was decided about these writes rested on the ones that are lost now.
                    outcomes.fill(Err(WriteError::Store(error)));
                }
            }
            for (pending, outcome) in group.into_iter().zip(outcomes) {
                // The client may have gone; the write stands all the same.
                pending.answer.send(outcome).ok();
            }
            return;
        }
    }

    fn store(&mut self, changes: &[Arc<Change>]) -> Result<(), StoreError> {
        let at = self.clock.at(Instant::now());
        let written = self.connection.transaction().and_then(|tx| {
            changes.iter().try_for_each(|change| log::append(&tx, change, at))?;
            tx.commit()
        });
        written.map_err(|e| db::refused(&self.shared.path, &e))
    }

    /// One slice of compaction; true when there is more to do.
    fn compact(&mut self) -> Result<bool, StoreError> {
        if self.full.is_some() {
            return Ok(false);
        }
        let options = &self.shared.options;
        let newest = self.shared.view.read().revision();
        let before = self.clock.at(Instant::now()) - i64::try_from(options.keep.as_millis()).unwrap_or(i64::MAX);
        let done = self.compacted;
        let floor = log::compaction_floor(&self.connection, done, newest, before, options.keep_changes)?;
        if floor <= done {
            return Ok(false);
        }
        // Readers check against the floor after reading, so it has to be up before rows vanish.
        self.shared.view.write().set_floor(floor);
        self.compacted = log::compact(&mut self.connection, done, floor, SLICE, newest)?;
        Ok(self.compacted < floor)
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
            (Action::Retire(_), None) => return Err(WriteError::Missing),
            (Action::Put(body) | Action::Retire(body), Some(entry)) if body.is(entry) => {
                return Ok(Written { entry: Arc::clone(entry), changed: false });
            }
            (Action::Delete(body), Some(_)) => (ChangeKind::Deleted, body),
            (Action::Put(body) | Action::Retire(body), Some(_)) => (ChangeKind::Modified, body),
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
