//! watch (k8s-api.md 1.6): a stream of events, one JSON object per line.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use axum::body::{Body, Bytes};
use axum::http::{HeaderValue, Response, header};
use serde_json::{Value, json};
use tokio::time::{Instant, Interval, MissedTickBehavior};
use tokio_util::sync::CancellationToken;

use super::media::{Form, Wanted};
use super::object;
use super::present::Presentation;
use super::read;
use super::request::{Collection, Query};
use super::select::Selection;
use super::status::{Cause, Failure};
use crate::store::{Change, ChangeKind, Entry, Revision, Store, StoreError, Watch};

/// Pause between bookmarks.
const BOOKMARKS: Duration = Duration::from_secs(60);
/// A watch without `timeoutSeconds` ends after this and at most as long again.
const SHORTEST: Duration = Duration::from_secs(1800);
/// Events are gathered into pieces of about this size.
const PIECE: usize = 32 << 10;

/// Answers a watch request.
///
/// # Errors
/// 400 or 422 for options that do not go together. A version that is too old is an event, not an error.
pub async fn watch(
    store: &Store,
    collection: &Collection,
    name: Option<&str>,
    query: &Query,
    wanted: Wanted,
    shutdown: CancellationToken,
) -> Result<Response<Body>, Failure> {
    let mut selection = Selection::of(query, collection.resource)?;
    if let Some(name) = name {
        selection = selection.and_name(name);
    }
    let start = Start::of(query)?;
    let presentation = Presentation::of(collection.resource, wanted, query)?;
    let timeout = timeout(query)?;
    let stream = Events::open(store, collection, start, selection, presentation, shutdown).await;
    let stream = stream.with_bookmarks(query.flag("allowWatchBookmarks")?.unwrap_or(false), timeout);
    let pieces = futures::stream::unfold(stream, |mut events| async move {
        events.next().await.map(|piece| (Ok::<_, std::convert::Infallible>(piece), events))
    });
    let mut response = Response::new(Body::from_stream(pieces));
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    Ok(response)
}

/// How long a watch may last.
///
/// # Errors
/// 400 for what is no number.
pub(super) fn timeout(query: &Query) -> Result<Duration, Failure> {
    Ok(match query.number("timeoutSeconds")?.filter(|s| *s > 0) {
        Some(seconds) => Duration::from_secs(seconds.min(86_400)),
        None => SHORTEST + SHORTEST.mul_f64(rand::random::<f64>()),
    })
}

/// Whether a watch begins with the present state, and whether the end of that is to be marked.
///
/// # Errors
/// 400 or 422 for options that do not go together.
pub(super) fn wants_state(query: &Query) -> Result<(bool, bool), Failure> {
    Ok(match Start::of(query)? {
        Start::State { mark_end, .. } => (true, mark_end),
        Start::After(_) => (false, false),
    })
}

/// Where a watch begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Start {
    /// With the present state as ADDED events; `mark_end` tells the client when that is through.
    State { at_least: Revision, mark_end: bool },
    /// With what comes after a revision.
    After(Revision),
}

impl Start {
    fn of(query: &Query) -> Result<Self, Failure> {
        let version = read::version(query)?.unwrap_or(0);
        let matching = query.get("resourceVersionMatch");
        let refuse = |field: &str, detail: &str| {
            Err(Failure::invalid("meta.k8s.io", "ListOptions", "", &[Cause::forbidden(field, detail)]))
        };
        match (query.flag("sendInitialEvents")?, matching) {
            (None, None) if version == 0 => Ok(Self::State { at_least: 0, mark_end: false }),
            (None, None) => Ok(Self::After(version)),
            (None, Some(_)) => refuse(
                "resourceVersionMatch",
                "resourceVersionMatch is forbidden for watch unless sendInitialEvents is provided",
            ),
            (Some(true), Some("NotOlderThan")) => Ok(Self::State { at_least: version, mark_end: true }),
            (Some(false), Some("NotOlderThan")) => Ok(Self::After(version)),
            (Some(_), _) => refuse(
                "resourceVersionMatch",
                "sendInitialEvents requires setting resourceVersionMatch to NotOlderThan",
            ),
        }
    }
}

/// The events of one watcher.
struct Events {
    store: Store,
    selection: Selection,
    presentation: Presentation,
    shutdown: CancellationToken,
    /// Objects still to be told as ADDED.
    initial: VecDeque<Arc<Entry>>,
    mark_end: bool,
    /// `None` once the stream is over.
    watch: Option<Watch>,
    /// Everything up to here is told.
    told: Revision,
    /// Nothing has been told yet (so a Table's columns have not).
    first: bool,
    bookmarks: Option<Interval>,
    deadline: Instant,
    /// The last words.
    failure: Option<Failure>,
}

impl Events {
    async fn open(
        store: &Store,
        collection: &Collection,
        start: Start,
        selection: Selection,
        presentation: Presentation,
        shutdown: CancellationToken,
    ) -> Self {
        let bucket = collection.resource.kind.qualified();
        let namespace = collection.namespace.as_deref();
        let (initial, mark_end, from) = match start {
            Start::State { at_least, mark_end } => {
                store.reached(at_least, Duration::from_secs(3)).await;
                let now = store.list(&bucket, namespace);
                (now.entries.into(), mark_end, now.revision)
            }
            Start::After(revision) => (VecDeque::new(), false, revision),
        };
        // A version from the future belongs to another life of this store: the client has to list again.
        if !store.reached(from, Duration::from_secs(1)).await {
            tracing::debug!(from, "watch from a version that does not exist");
        }
        let (watch, failure) = match store.watch(&bucket, namespace, from) {
            Ok(watch) => (Some(watch), None),
            Err(error @ StoreError::Future { .. }) => (None, Some(Failure::expired(error.to_string(), None))),
            Err(error) => (None, Some(error.into())),
        };
        Self {
            store: store.clone(),
            selection,
            presentation,
            shutdown,
            initial,
            mark_end,
            watch,
            told: from,
            first: true,
            bookmarks: None,
            deadline: Instant::now() + SHORTEST,
            failure,
        }
    }

    fn with_bookmarks(mut self, bookmarks: bool, timeout: Duration) -> Self {
        self.deadline = Instant::now() + timeout;
        if bookmarks {
            let mut interval = tokio::time::interval_at(Instant::now() + BOOKMARKS, BOOKMARKS);
            interval.set_missed_tick_behavior(MissedTickBehavior::Delay);
            self.bookmarks = Some(interval);
        }
        self
    }

    /// The next piece of the answer; `None` at its end.
    async fn next(&mut self) -> Option<Bytes> {
        let mut out = Vec::new();
        while out.len() < PIECE
            && let Some(entry) = self.initial.pop_front()
        {
            if self.selection.matches(&entry) {
                self.tell(&mut out, "ADDED", &entry);
            }
        }
        if self.initial.is_empty() && std::mem::take(&mut self.mark_end) {
            self.bookmark(&mut out, true);
        }
        while out.is_empty() {
            if let Some(failure) = self.failure.take() {
                line(&mut out, "ERROR", &failure.object().to_string().into());
                self.watch = None;
                break;
            }
            let watch = self.watch.as_mut()?;
            let tick = async {
                match &mut self.bookmarks {
                    Some(interval) => interval.tick().await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                biased;
                () = self.shutdown.cancelled() => self.watch = None,
                change = watch.next() => match change {
                    Ok(Some(change)) => self.take_changes(&mut out, change),
                    Ok(None) => self.watch = None,
                    Err(error) => self.failure = Some(error.into()),
                },
                () = tokio::time::sleep_until(self.deadline) => {
                    // A last bookmark, so that the client resumes from as late as possible.
                    if self.bookmarks.is_some() {
                        self.catch_up_and_bookmark(&mut out);
                    }
                    self.watch = None;
                    if out.is_empty() {
                        return None;
                    }
                }
                _ = tick => self.catch_up_and_bookmark(&mut out),
            }
        }
        Some(out.into())
    }

    /// Tells a change and those that are ready behind it.
    fn take_changes(&mut self, out: &mut Vec<u8>, first: Arc<Change>) {
        let mut next = Some(first);
        while let Some(change) = next {
            self.tell_change(out, &change);
            self.told = change.revision();
            next = if out.len() < PIECE { self.watch.as_mut().and_then(Watch::ready) } else { None };
        }
    }

    fn catch_up_and_bookmark(&mut self, out: &mut Vec<u8>) {
        // In this order: what is published up to `now` is in the queue before `now` can be read.
        let now = self.store.revision();
        while let Some(change) = self.watch.as_mut().and_then(Watch::ready) {
            self.tell_change(out, &change);
            self.told = change.revision();
        }
        if self.watch.as_ref().is_some_and(Watch::is_live) {
            self.told = self.told.max(now);
            self.bookmark(out, false);
        }
    }

    fn tell_change(&mut self, out: &mut Vec<u8>, change: &Change) {
        if self.selection.is_all() {
            let word = match change.kind {
                ChangeKind::Added => "ADDED",
                ChangeKind::Modified => "MODIFIED",
                ChangeKind::Deleted => "DELETED",
            };
            if self.presentation.is_stored_form() {
                // The same for all who watch like this: made once.
                let encoded = change.encoded.get_or_init(|| {
                    let mut out = Vec::new();
                    line(&mut out, word, &change.entry.bytes);
                    out.into()
                });
                out.extend_from_slice(encoded);
                self.first = false;
            } else {
                self.tell(out, word, &change.entry);
            }
            return;
        }
        let before = change.previous.as_ref().is_some_and(|p| self.selection.matches(p));
        let after = change.kind != ChangeKind::Deleted && self.selection.matches(&change.entry);
        match (before, after) {
            (false, true) => self.tell(out, "ADDED", &change.entry),
            (true, true) => self.tell(out, "MODIFIED", &change.entry),
            (true, false) if change.kind == ChangeKind::Deleted => self.tell(out, "DELETED", &change.entry),
            (true, false) => {
                // As it was when it was still selected, at the version at which it stopped to be.
                if let Some(previous) = &change.previous {
                    let revision = change.revision();
                    let bytes = object::encode(&object::parse(previous)).render(revision);
                    self.tell(out, "DELETED", &Entry { key: previous.key.clone(), revision, bytes });
                }
            }
            (false, false) => {}
        }
    }

    fn tell(&mut self, out: &mut Vec<u8>, word: &str, entry: &Entry) {
        let first = std::mem::take(&mut self.first);
        line(out, word, &self.presentation.event_object(entry, first));
    }

    fn bookmark(&mut self, out: &mut Vec<u8>, end_of_state: bool) {
        let version = self.told.to_string();
        let metadata = if end_of_state {
            json!({"resourceVersion": version, "creationTimestamp": null,
                "annotations": {"k8s.io/initial-events-end": "true"}})
        } else {
            json!({"resourceVersion": version, "creationTimestamp": null})
        };
        let object = match self.presentation.wanted.form {
            Form::Table => json!({"kind": "Table", "apiVersion": "meta.k8s.io/v1", "metadata": metadata,
                "columnDefinitions": null, "rows": []}),
            Form::Metadata => json!({"kind": "PartialObjectMetadata", "apiVersion": "meta.k8s.io/v1",
                "metadata": metadata}),
            Form::Whole => json!({"kind": self.presentation.resource.kind.kind,
                "apiVersion": self.presentation.resource.api_version(), "metadata": metadata}),
        };
        line(out, "BOOKMARK", &Value::to_string(&object).into());
    }
}

/// Adds one event.
pub(super) fn line(out: &mut Vec<u8>, word: &str, object: &Bytes) {
    out.extend_from_slice(b"{\"type\":\"");
    out.extend_from_slice(word.as_bytes());
    out.extend_from_slice(b"\",\"object\":");
    out.extend_from_slice(object);
    out.extend_from_slice(b"}\n");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn where_a_watch_begins() {
        let state = |at_least, mark_end| Ok(Start::State { at_least, mark_end });
        for (query, want) in [
            ("", state(0, false)),
            ("resourceVersion=0", state(0, false)),
            ("resourceVersion=4", Ok(Start::After(4))),
            ("sendInitialEvents=true&resourceVersionMatch=NotOlderThan", state(0, true)),
            ("sendInitialEvents=true&resourceVersionMatch=NotOlderThan&resourceVersion=4", state(4, true)),
            ("sendInitialEvents=true", Err(422)),
            ("sendInitialEvents=true&resourceVersionMatch=Exact", Err(422)),
            ("resourceVersionMatch=NotOlderThan", Err(422)),
            ("resourceVersion=x", Err(400)),
        ] {
            let uri = format!("/x?{query}").parse().unwrap();
            let got = Start::of(&Query::of(&uri).unwrap()).map_err(|f| f.code().as_u16());
            assert_eq!(got, want, "{query}");
        }
    }
}
