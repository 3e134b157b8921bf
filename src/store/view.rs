//! What is kept in memory: the current objects, the newest changes, and who watches.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use tokio::sync::mpsc;

use super::error::StoreError;
use super::model::{Change, ChangeKind, Entry, Key, Revision};

/// Bound of the bytes of the changes kept in memory.
const WINDOW_BYTES: usize = 4 << 20;

/// One watcher.
#[derive(Debug)]
struct Subscriber {
    bucket: Option<Arc<str>>,
    namespace: Option<Arc<str>>,
    queue: mpsc::Sender<Arc<Change>>,
}

/// The in-memory side of the store. Changed by the writer thread only (and `subscribe`).
#[derive(Debug, Default)]
pub(super) struct View {
    revision: Revision,
    floor: Revision,
    objects: BTreeMap<Key, Arc<Entry>>,
    /// Changes after `window_from`, without a gap.
    window: VecDeque<Arc<Change>>,
    window_from: Revision,
    window_bytes: usize,
    window_changes: usize,
    subscribers: Vec<Subscriber>,
}

impl View {
    /// Keeps at most `window_changes` changes in memory.
    pub(super) fn new(
        revision: Revision,
        floor: Revision,
        objects: BTreeMap<Key, Arc<Entry>>,
        window_changes: usize,
    ) -> Self {
        Self { revision, floor, objects, window_from: revision, window_changes, ..Self::default() }
    }

    pub(super) fn revision(&self) -> Revision {
        self.revision
    }

    pub(super) fn floor(&self) -> Revision {
        self.floor
    }

    pub(super) fn set_floor(&mut self, floor: Revision) {
        self.floor = self.floor.max(floor);
    }

    /// Whether the state at `revision` can be told.
    pub(super) fn check(&self, revision: Revision) -> Result<(), StoreError> {
        if revision > self.revision {
            Err(StoreError::Future { requested: revision, current: self.revision })
        } else if revision < self.floor {
            Err(StoreError::Compacted { requested: revision, floor: self.floor })
        } else {
            Ok(())
        }
    }

    pub(super) fn get(&self, key: &Key) -> Option<Arc<Entry>> {
        self.objects.get(key).cloned()
    }

    pub(super) fn list(&self, bucket: &str, namespace: Option<&str>) -> Vec<Arc<Entry>> {
        self.objects
            .range(Key::new(bucket, namespace.unwrap_or(""), "")..)
            .take_while(|(key, _)| &*key.bucket == bucket && namespace.is_none_or(|n| &*key.namespace == n))
            .map(|(_, entry)| Arc::clone(entry))
            .collect()
    }

    pub(super) fn list_all(&self) -> Vec<Arc<Entry>> {
        self.objects.values().cloned().collect()
    }

    /// The list at an older revision by undoing changes; `None` when they are not all in memory.
    pub(super) fn list_at(&self, bucket: &str, namespace: Option<&str>, revision: Revision) -> Option<Vec<Arc<Entry>>> {
        if revision < self.window_from {
            return None;
        }
        let now = self.list(bucket, namespace);
        let later = self.window.iter().rev().take_while(|c| c.revision() > revision);
        let mut undo = later.filter(|c| c.concerns(Some(bucket), namespace)).peekable();
        if undo.peek().is_none() {
            return Some(now);
        }
        let mut objects: BTreeMap<Key, Arc<Entry>> = now.into_iter().map(|e| (e.key.clone(), e)).collect();
        for change in undo {
            match &change.previous {
                Some(previous) => objects.insert(previous.key.clone(), Arc::clone(previous)),
                None => objects.remove(&change.entry.key),
            };
        }
        Some(objects.into_values().collect())
    }

    /// Makes committed changes visible, in order, and hands them to those who watch. A watcher whose queue is full
    /// is dropped: it sees the end of its stream and resumes from what it saw.
    pub(super) fn publish(&mut self, changes: Vec<Arc<Change>>) {
        for change in changes {
            self.revision = change.revision();
            match change.kind {
                ChangeKind::Deleted => self.objects.remove(&change.entry.key),
                ChangeKind::Added | ChangeKind::Modified => {
                    self.objects.insert(change.entry.key.clone(), Arc::clone(&change.entry))
                }
            };
            self.subscribers.retain(|s| {
                !change.concerns(s.bucket.as_deref(), s.namespace.as_deref())
                    || s.queue.try_send(Arc::clone(&change)).is_ok()
            });
            self.window_bytes += change.entry.bytes.len();
            self.window.push_back(change);
        }
        while self.window.len() > self.window_changes || self.window_bytes > WINDOW_BYTES {
            let Some(oldest) = self.window.pop_front() else { break };
            self.window_from = oldest.revision();
            self.window_bytes -= oldest.entry.bytes.len();
        }
    }

    /// Ends all watches.
    pub(super) fn close(&mut self) {
        self.subscribers.clear();
    }

    /// The changes after `from` and a queue of all that follow; `None` when memory does not go back that far.
    #[expect(clippy::type_complexity, reason = "used once, taken apart at once")]
    pub(super) fn subscribe(
        &mut self,
        bucket: Option<&str>,
        namespace: Option<&str>,
        from: Revision,
        queue: usize,
    ) -> Option<(VecDeque<Arc<Change>>, mpsc::Receiver<Arc<Change>>)> {
        if from < self.window_from {
            return None;
        }
        let first = self.window.partition_point(|c| c.revision() <= from);
        let replay = self.window.range(first..).filter(|c| c.concerns(bucket, namespace)).cloned().collect();
        let (sender, receiver) = mpsc::channel(queue);
        // Closed ones are otherwise noticed only when something happens in their bucket.
        self.subscribers.retain(|s| !s.queue.is_closed());
        self.subscribers.push(Subscriber {
            bucket: bucket.map(Into::into),
            namespace: namespace.map(Into::into),
            queue: sender,
        });
        Some((replay, receiver))
    }
}
