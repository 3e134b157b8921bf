//! Watching: replay, then follow.

use std::collections::VecDeque;
use std::sync::Arc;

use tokio::sync::mpsc;

use super::error::StoreError;
use super::model::{Change, Revision};
use super::{Shared, Store, log};

/// Changes read from SQL at a time.
const SLICE: usize = 500;

/// The changes of a bucket after a revision: each once, in order, without end until the watcher is cut off (too
/// slow) or the store is closed.
pub struct Watch {
    shared: Arc<Shared>,
    bucket: Option<String>,
    namespace: Option<String>,
    /// Everything up to here has been put into `replay` or was given out.
    seen: Revision,
    replay: VecDeque<Arc<Change>>,
    /// `None` while catching up from SQL.
    live: Option<mpsc::Receiver<Arc<Change>>>,
}

impl Store {
    /// Watches a bucket, one namespace of it or all, from after `from`.
    ///
    /// # Errors
    /// [`StoreError::Compacted`] or [`StoreError::Future`].
    pub fn watch(&self, bucket: &str, namespace: Option<&str>, from: Revision) -> Result<Watch, StoreError> {
        self.watch_from(Some(bucket), namespace, from)
    }

    /// Watches everything from after `from`.
    ///
    /// # Errors
    /// [`StoreError::Compacted`] or [`StoreError::Future`].
    pub fn watch_all(&self, from: Revision) -> Result<Watch, StoreError> {
        self.watch_from(None, None, from)
    }

    fn watch_from(&self, bucket: Option<&str>, namespace: Option<&str>, from: Revision) -> Result<Watch, StoreError> {
        self.shared.view.read().check(from)?;
        let mut watch = Watch {
            shared: Arc::clone(&self.shared),
            bucket: bucket.map(str::to_owned),
            namespace: namespace.map(str::to_owned),
            seen: from,
            replay: VecDeque::new(),
            live: None,
        };
        watch.follow();
        Ok(watch)
    }
}

impl Watch {
    /// The next change; `None` when the watcher has been cut off or the store is closed.
    ///
    /// # Errors
    /// [`StoreError::Compacted`] when history was dropped faster than this watcher read it, [`StoreError::Io`].
    pub async fn next(&mut self) -> Result<Option<Arc<Change>>, StoreError> {
        loop {
            if let Some(change) = self.replay.pop_front() {
                return Ok(Some(change));
            }
            match &mut self.live {
                Some(live) => return Ok(live.recv().await),
                None => self.catch_up().await?,
            }
        }
    }

    /// The next change if there is one already.
    pub fn ready(&mut self) -> Option<Arc<Change>> {
        self.replay.pop_front().or_else(|| self.live.as_mut()?.try_recv().ok())
    }

    /// Whether everything up to a revision read before this call is given out once [`Watch::ready`] is `None`:
    /// not so while old changes are still being read from disk.
    pub fn is_live(&self) -> bool {
        self.live.is_some()
    }

    /// Joins the live changes if memory reaches back to what was seen.
    fn follow(&mut self) -> bool {
        let queue = self.shared.options.watch_queue;
        let joined =
            self.shared.view.write().subscribe(self.bucket.as_deref(), self.namespace.as_deref(), self.seen, queue);
        match joined {
            Some((replay, live)) => {
                self.replay = replay;
                self.live = Some(live);
                true
            }
            None => false,
        }
    }

    async fn catch_up(&mut self) -> Result<(), StoreError> {
        if self.follow() {
            return Ok(());
        }
        let shared = Arc::clone(&self.shared);
        let (bucket, namespace, from) = (self.bucket.clone(), self.namespace.clone(), self.seen);
        let read = tokio::task::spawn_blocking(move || {
            let reader = shared.reader.lock();
            let read = log::changes_after(&reader, bucket.as_deref(), namespace.as_deref(), from, SLICE)?;
            shared.view.read().check(from)?;
            Ok::<_, StoreError>(read)
        });
        let (changes, seen) = read.await.map_err(|e| StoreError::Io(e.to_string()))??;
        self.replay = changes.into();
        self.seen = seen;
        Ok(())
    }
}
